//! A stack of ours and this machine's kernel at the two ends of a device.
//!
//! Owns the device, the addresses, routers between, both ends' sockets as tests want them, and what must be true at the
//! end of every test: the kernel has counted no bad packet, and neither have we. Call it inside a namespace
//! ([`crate::namespace`]).
//!
//! ```text
//!  tokio::net 10.7.0.1, fd07::1 ── kernel ── device ── [impairment] ── tidewire::net 10.7.0.2, fd07::2
//! ```
//!
//! With [`LinkConfig::hops`], routers lie between the kernel's sockets and the device.

mod bridge;
mod device;
mod family;
mod impairment;
mod meter;
mod network;
pub mod scenarios;
mod sockets;
mod station;
pub mod wireshark;

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::slice;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tidewire::Stack;
use tidewire::ip::Cidr;
use tidewire_netdev::Device;
use tidewire_netdev::linux::InterfaceCounters;
use tidewire_netdev::memory::ImpairmentConfig;

use crate::namespace::{Counters, Flavor, announce, configure, run_with, socket_list};

use device::instrumented;
use network::Routers;

pub(crate) use device::FileCapture;

pub use bridge::{Bridge, Port};
pub use device::{DeviceKind, Recording};
pub use family::{Family, Role};
pub use meter::Meter;
pub use sockets::{kernel_connect, kernel_listen, kernel_socket};
pub use station::Station;

/// How the interface between stack and kernel is.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// What lies between the two. Default: a TUN.
    pub device: DeviceKind,
    /// The interface's MTU. Below 1280 the kernel has no IPv6 on it. Default: 1500.
    pub mtu: usize,
    /// The second octet of the addresses; links of one namespace must differ. Default: 7.
    pub subnet: u8,
    /// Super-packets and partial checksums. Default: `true`.
    pub offload: bool,
    /// A virtio-net header before each packet. Without it there are no offloads, as on a plain TUN. Default: `true`.
    pub virtio_header: bool,
    /// Queues of the device, with a driver each. Default: 1.
    pub queues: usize,
    /// Packet sockets receive through a ring shared with the kernel. Default: `false`.
    pub ring: bool,
    /// A path between the interface and the stack, the same in both directions. Default: none.
    pub impairment: Option<ImpairmentConfig>,
    /// The stack's TCP.
    pub tcp: tidewire::tcp::Config,
    /// Records what passes the interface. Default: nothing.
    pub capture: Option<Recording>,
    /// The MTUs of the links between the device and the kernel's sockets, with a router before each. Default: none, the
    /// kernel's sockets are where the device is.
    pub hops: Vec<usize>,
    /// The routers tell nobody that a packet is too large, as behind many firewalls; needs `nft`. Default: `false`.
    pub silent_routers: bool,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            device: DeviceKind::Tun,
            mtu: 1500,
            subnet: 7,
            offload: true,
            virtio_header: true,
            queues: 1,
            ring: false,
            impairment: None,
            tcp: tidewire::tcp::Config::default(),
            capture: None,
            hops: Vec::new(),
            silent_routers: false,
        }
    }
}

impl LinkConfig {
    /// Whether all links are large enough for the version.
    fn carries(&self, family: Family) -> bool {
        let mut links = self.hops.iter().copied().chain([self.mtu]);
        links.all(|mtu| mtu >= family.smallest_mtu())
    }
}

/// The device with a stack at one end and a kernel at the other.
pub struct Link {
    /// The stack.
    pub stack: Stack,
    /// The name of the kernel's interface.
    pub name: String,
    counters: InterfaceCounters,
    meter: Arc<Meter>,
    before: Counters,
    capture: Option<FileCapture>,
    /// The second octets of the stack's and the kernel's addresses.
    subnets: [u8; 2],
    /// The namespaces between, which go when nobody sends through them any more.
    _between: (Option<Station>, Routers),
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Link {
    /// Makes the interface, gives both ends their addresses and starts the stack on the current runtime.
    ///
    /// # Panics
    /// When the machine refuses.
    pub async fn start(config: &LinkConfig) -> Self {
        let mut links = Self::start_together(slice::from_ref(config)).await;
        links.remove(0)
    }

    /// Several at once, all of one stack, whose TCP is as the first says.
    ///
    /// # Panics
    /// When the machine refuses.
    pub async fn start_together(configs: &[LinkConfig]) -> Vec<Self> {
        let before = Counters::read();
        let mut parts = Vec::new();
        let mut devices = Vec::new();
        for config in configs {
            let routers = Routers::start(config).await.expect("routers");
            let opened = device::open(config, &routers).await.expect("a device");
            devices.push(opened.device);
            parts.push((config, routers, opened.kernel_side));
        }
        let stack = start_stack(devices, configs);
        let link = |(config, routers, kernel_side): (&LinkConfig, _, device::KernelSide)| Self {
            stack: stack.clone(),
            before: before.clone(),
            name: kernel_side.name,
            counters: kernel_side.counters,
            meter: kernel_side.meter,
            capture: kernel_side.capture,
            subnets: [config.subnet, network::kernel_subnet(config)],
            _between: (kernel_side.station, routers),
        };
        parts.into_iter().map(link).collect()
    }

    /// The stack's address.
    pub fn stack_address(&self, family: Family) -> IpAddr {
        family.stack_in(self.subnets[0])
    }

    /// The address of the kernel's sockets.
    pub fn kernel_address(&self, family: Family) -> IpAddr {
        family.kernel_in(self.subnets[1])
    }

    /// A connected pair: our end, the kernel's end. The listener is gone.
    ///
    /// # Panics
    /// When the connection fails.
    pub async fn connected(
        &self,
        role: Role,
        family: Family,
    ) -> (tidewire::net::TcpStream, tokio::net::TcpStream) {
        match role {
            Role::StackListens => {
                let listener = self
                    .stack
                    .tcp_listener((self.stack_address(family), 0))
                    .await
                    .expect("bound");
                let address = listener.local_addr().expect("bound");
                let (kernel, ours) = tokio::join!(kernel_connect(address), listener.accept());
                (ours.expect("accepted").0, kernel.expect("connected"))
            }
            Role::KernelListens => {
                let listener = kernel_listen(SocketAddr::new(self.kernel_address(family), 0));
                let address = listener.local_addr().expect("bound");
                let (ours, kernel) =
                    tokio::join!(self.stack.tcp_stream(address), listener.accept());
                (ours.expect("connected"), kernel.expect("accepted").0)
            }
        }
    }

    /// Gives the kernel its IPv6 address back, which it loses when the interface goes down.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub async fn restore_address(&self, family: Family) {
        if family == Family::V6 {
            let cidr =
                Cidr::new(self.kernel_address(family), family.prefix()).expect("a valid prefix");
            configure(&self.name, &[cidr], None)
                .await
                .expect("configured");
        }
    }

    /// Awaits `future` for at most `limit`.
    ///
    /// # Panics
    /// When it takes longer; the message has both ends' view of their sockets.
    pub async fn within<T>(
        &self,
        limit: Duration,
        what: &str,
        future: impl Future<Output = T>,
    ) -> T {
        // Still there when the report is made, and with it the sockets it holds.
        let mut future = pin!(future);
        match tokio::time::timeout(limit, future.as_mut()).await {
            Ok(value) => value,
            Err(_) => panic!("{what} took longer than {limit:?}\n{}", self.report()),
        }
    }

    /// Both ends' view, for messages.
    pub fn report(&self) -> String {
        format!(
            "ours: {:#?}\n{:#?}\ndevice: {:?}\nthe kernel's: {}\n{}",
            self.stack.sockets(),
            self.stack.stats(),
            self.counters.snapshot(),
            Counters::read().changes(&self.before),
            socket_list()
        )
    }

    /// How much a counter of the kernel's has grown since the start.
    pub fn counted(&self, name: &str) -> u64 {
        Counters::read().since(&self.before, name)
    }

    /// The largest packets that passed the interface, in octets.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Asserts that no packet was bad: the kernel found none of ours malformed or with a wrong checksum, its driver of
    /// the device refused none, and gave us none that made no sense.
    ///
    /// # Panics
    /// When one was.
    pub fn assert_clean(&self) {
        /// Counters that stay zero between two correct hosts on an ideal wire. Not there: those that count things
        /// rightly discarded, like `IcmpOutErrors`.
        const BAD: [&str; 13] = [
            "TcpInErrs",
            "TcpInCsumErrors",
            "UdpInErrors",
            "UdpInCsumErrors",
            "Udp6InErrors",
            "Udp6InCsumErrors",
            "IpInHdrErrors",
            "IpReasmFails",
            "IcmpInErrors",
            "IcmpInCsumErrors",
            "Ip6InHdrErrors",
            "Ip6ReasmFails",
            "Icmp6InErrors",
        ];
        let after = Counters::read();
        let since = |name| after.since(&self.before, name);
        // A SYN-ACK sent again, since its ACK was lost, meets an established connection. The kernel counts it as an
        // error, too.
        let challenged = since("TcpExtTCPSYNChallenge");
        let bad: Vec<_> = BAD
            .iter()
            .map(|&name| match name {
                "TcpInErrs" => (name, since(name).saturating_sub(challenged)),
                _ => (name, since(name)),
            })
            .filter(|(_, count)| *count > 0)
            .collect();
        assert!(
            bad.is_empty(),
            "the kernel counted {bad:?}\n{}",
            self.report()
        );
        let device = self.counters.snapshot();
        assert_eq!(device.receive_malformed, 0, "{device:?}");
        assert_eq!(device.transmit_refused, 0, "{device:?}");
    }

    /// Writes out what was recorded so far; how many packets that is.
    ///
    /// # Panics
    /// When the link does not record, or the file cannot be written.
    pub fn flush_capture(&self) -> u64 {
        written(self.capture.as_ref().expect("a link that records"))
    }
}

/// Runs `body` on a new link for each IP version, in namespaces of their own, and asserts that no packet was bad.
///
/// # Panics
/// As [`run_with`] and [`Link::assert_clean`] do.
pub fn on_each_family<F>(test: &str, limit: Duration, config: &LinkConfig, body: F)
where
    F: AsyncFn(&Link, Family) + Clone + Send + 'static,
{
    for family in Family::ALL {
        let (config, body) = (config.clone(), body.clone());
        let case = format!("{test} {family:?}");
        run_with(
            &case.clone(),
            config.device.needs(),
            Flavor::CurrentThread,
            limit,
            async move || {
                let link = Link::start(&config).await;
                link.within(limit.mul_f64(0.9), &case, body(&link, family))
                    .await;
                link.assert_clean();
            },
        );
    }
    announce(&format!("kernel: {} cases ({test})", Family::ALL.len()));
}

/// Starts a stack on devices that somebody else has opened, recording and impaired as `configs` say.
pub(crate) fn attach(devices: Vec<Device>, configs: &[LinkConfig]) -> (Stack, Vec<FileCapture>) {
    let pairs = devices.into_iter().zip(configs);
    let (devices, captures) = pairs
        .map(|(device, config)| instrumented(device, config).expect("a file to record in"))
        .map(|(device, capture)| (device, capture.expect("a config that records")))
        .unzip();
    (start_stack(devices, configs), captures)
}

/// Writes out what was recorded so far; how many packets that is.
pub(crate) fn written(capture: &FileCapture) -> u64 {
    let mut capture = capture.lock().unwrap_or_else(PoisonError::into_inner);
    capture.flush().expect("written");
    capture.stats().packets
}

fn start_stack(devices: Vec<Device>, configs: &[LinkConfig]) -> Stack {
    let mut builder = Stack::builder().tcp(configs[0].tcp.clone());
    for (device, config) in devices.into_iter().zip(configs) {
        builder = builder.device(device);
        for cidr in network::addresses(config, config.subnet, Family::stack_in) {
            builder = builder.address(cidr);
        }
        for gateway in network::addresses(config, config.subnet, Family::kernel_in) {
            builder = builder.gateway(gateway.address());
        }
    }
    builder.build().expect("a stack")
}
