//! A fresh network namespace with a TUN in it, for each test.

use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;
use std::{collections::VecDeque, thread};

use futures::TryStreamExt;
use netlink_packet_route::address::AddressHeaderFlags;
use rtnetlink::{Handle, LinkUnspec};
use tidewire_netdev::linux::{Tun, TunConfig, unshare_network};
use tidewire_netdev::{Capabilities, Device, Packet, Receiver, Transmitter};

use crate::packets::Parsed;

/// Every test must be done by then; they take milliseconds.
const DEADLINE: Duration = Duration::from_secs(20);

/// Real-time tests run one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs `test` on a thread and runtime of its own in a new network namespace, or says why it cannot.
pub(crate) fn in_namespace<F>(test: impl FnOnce() -> F + Send)
where
    F: Future<Output = ()>,
{
    let _one = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let run = || {
        if let Err(reason) = enter_namespace() {
            assert!(
                std::env::var_os("TIDEWIRE_REQUIRE_ALL").is_none_or(|value| value != "1"),
                "cannot run, and TIDEWIRE_REQUIRE_ALL=1: {reason}"
            );
            // Not `eprintln!`, which a passing test keeps to itself.
            let _ = writeln!(io::stderr(), "skipped: {reason}");
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            tokio::time::timeout(DEADLINE, test())
                .await
                .expect("done before the deadline");
        });
    };
    thread::scope(|scope| {
        if let Err(panic) = scope.spawn(run).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn enter_namespace() -> Result<(), String> {
    unshare_network().map_err(|error| format!("no network namespace without root: {error}"))?;
    match Tun::open(TunConfig::default()) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether the kernel takes packets to this address of its own: it inserts an IPv6 address's host route later, in
/// a work queue.
fn is_delivered(address: IpAddr) -> bool {
    let IpAddr::V6(address) = address else {
        return true;
    };
    let routes = std::fs::read_to_string("/proc/thread-self/net/ipv6_route").expect("readable");
    routes.contains(&format!("{:032x} 80 ", address.to_bits()))
}

/// A TUN that is up, with kernel addresses on it.
pub(crate) struct Link {
    pub(crate) receiver: Box<dyn Receiver>,
    pub(crate) transmitter: Box<dyn Transmitter>,
    pub(crate) capabilities: Capabilities,
    pub(crate) netlink: Handle,
    pub(crate) index: u32,
}

impl Link {
    pub(crate) async fn new(tun: Tun, addresses: &[&str]) -> Self {
        let (connection, netlink, _) = rtnetlink::new_connection().expect("a netlink socket");
        tokio::spawn(connection);
        let name = tun.name().to_owned();
        let mut links = netlink.link().get().match_name(name).execute();
        let link = links.try_next().await.expect("answered").expect("exists");
        let index = link.header.index;
        let Device {
            receiver,
            transmitter,
            capabilities,
            ..
        } = tun.into_device().expect("registered");
        let link = Self {
            receiver,
            transmitter,
            capabilities,
            netlink,
            index,
        };
        link.set_up(true).await;
        for address in addresses {
            let (address, prefix) = address.split_once('/').expect("a CIDR");
            let address: IpAddr = address.parse().expect("an address");
            let prefix = prefix.parse().expect("a prefix length");
            let mut request = link.netlink.address().add(index, address, prefix);
            // Duplicate detection would leave an IPv6 address unusable for a moment.
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
            request.execute().await.expect("address added");
            while !is_delivered(address) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        link
    }

    pub(crate) async fn set_up(&self, up: bool) {
        let message = LinkUnspec::new_with_index(self.index);
        let message = if up { message.up() } else { message.down() };
        let request = self.netlink.link().set(message.build());
        request.execute().await.expect("link set");
    }

    pub(crate) async fn transmit(&self, packet: Packet) -> io::Result<()> {
        let mut queue = VecDeque::from([packet]);
        loop {
            match self.transmitter.try_transmit(&mut queue) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll_fn(|cx| self.transmitter.poll_transmit_ready(cx)).await?;
                }
                result => {
                    assert!(result.is_err() || queue.is_empty());
                    return result;
                }
            }
        }
    }

    pub(crate) async fn receive(&mut self, limit: usize) -> io::Result<Vec<Packet>> {
        let mut batch = Vec::new();
        let count = poll_fn(|cx| self.receiver.poll_receive(cx, &mut batch, limit)).await?;
        assert_eq!(count, batch.len());
        Ok(batch)
    }

    /// The next packet of a protocol; the kernel's own noise (router solicitations, MLD) is passed over.
    pub(crate) async fn receive_protocol(&mut self, protocol: u8) -> (Packet, Parsed) {
        loop {
            let mut batch = self.receive(1).await.expect("the device lives");
            let packet = batch.pop().expect("one packet");
            let parsed = Parsed::new(&packet);
            if parsed.protocol == protocol {
                return (packet, parsed);
            }
        }
    }
}
