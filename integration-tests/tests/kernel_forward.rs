//! A stack of ours as the only way between two kernels: TUNs, TAPs and packet sockets, both IP versions.
//!
//! ```text
//!  kernel 10.7.0.1, fd07::1 ── device ── 10.7.0.2 [tidewire] 10.8.0.2 ── device ── kernel 10.8.0.1, fd08::1
//! ```
//!
//! Each kernel is in a namespace of its own. Their packets come with partial checksums and as super-packets, and have to
//! leave as something that the other one takes.

#![cfg(target_os = "linux")]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use tidewire::Stack;
use tidewire::config::HostConfig;
use tidewire::ip::autoconf::dad::DuplicateDetection;
use tidewire::stats::DropReason;
use tidewire_integration_tests::bodies::body;
use tidewire_integration_tests::exchange::exchange;
use tidewire_integration_tests::kernel::{DeviceKind, Family};
use tidewire_integration_tests::namespace::{
    Counters, Flavor, Namespace, Netlink, VethEnd, VethPair, announce, configure, delete_link,
    run_program, run_with, set_sysctl,
};
use tidewire_integration_tests::requirements::{Need, find_program};
use tidewire_netdev::linux::{PacketConfig, PacketSocket, Tap, TapConfig, Tun, TunConfig};
use tidewire_netdev::{Device, MacAddress};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

const LIMIT: Duration = Duration::from_secs(30);
const MIB: usize = 1 << 20;
const NARROW: usize = 1300;
/// The second octets of the two subnets.
const SUBNETS: [u8; 2] = [7, 8];
const KINDS: [DeviceKind; 3] = [DeviceKind::Tun, DeviceKind::Tap, DeviceKind::Packet];
const NEEDS: &[Need] = &[Need::Tun, Need::Program("ip"), Need::Program("ping")];

/// Two kernels and the stack between them.
struct Routed {
    stack: Stack,
    kernels: [Namespace; 2],
    before: [Counters; 2],
}

/// A kernel at the end of a device, and the device.
async fn kernel(kind: DeviceKind, subnet: u8, mtu: usize) -> io::Result<(Namespace, Device)> {
    let namespace = Namespace::new(&format!("kernel {subnet}")).await?;
    let addresses = Family::ALL.map(|family| {
        let address = family.kernel_in(subnet);
        tidewire::ip::Cidr::new(address, family.prefix()).expect("a valid prefix")
    });
    let name = format!("link{subnet}");
    let ours = MacAddress([2, 0, 0, 0, subnet, 2]);
    let device = match kind {
        DeviceKind::Tun => {
            let config = TunConfig {
                name: Some(name.clone()),
                mtu: Some(mtu),
                ..TunConfig::default()
            };
            let tun = namespace.run(async || Tun::open(config)).await?;
            tun.into_device()?
        }
        DeviceKind::Tap => {
            let config = TapConfig {
                name: Some(name.clone()),
                mtu: Some(mtu),
                hardware_address: Some(ours),
                ..TapConfig::default()
            };
            let tap = namespace.run(async || Tap::open(config)).await?;
            tap.into_device()?
        }
        DeviceKind::Packet => {
            // The kernel here keeps out of what its end of the pair carries.
            set_sysctl("ipv6/conf/default/disable_ipv6", "1");
            let here = format!("router{subnet}");
            let pair = VethPair {
                near: VethEnd {
                    name: &here,
                    hardware_address: ours,
                },
                far: VethEnd {
                    name: &name,
                    hardware_address: MacAddress([2, 0, 0, 0, subnet, 1]),
                },
                far_namespace: Some(namespace.descriptor()),
                mtu,
            };
            let mut netlink = Netlink::open()?;
            netlink.add_veth(&pair).await?;
            netlink.set_up(&here, true).await?;
            PacketSocket::open(PacketConfig::new(&here))?.into_device()?
        }
    };
    let up = namespace.run(async move || {
        configure(&name, &addresses, None).await?;
        let mut netlink = Netlink::open()?;
        netlink.wait_for_link_local(&name).await?;
        for family in Family::ALL {
            let everything = if family == Family::V4 {
                "0.0.0.0/0"
            } else {
                "::/0"
            };
            let everything = everything.parse().expect("a network");
            netlink
                .add_route(everything, family.stack_in(subnet))
                .await?;
        }
        io::Result::Ok(())
    });
    up.await?;
    Ok((namespace, device))
}

/// The stack sends no more than `narrow` octets over the right link, if that is given; its kernel would take more.
async fn routed(kind: DeviceKind, mtus: [usize; 2], narrow: Option<usize>) -> Routed {
    // While a router checks its own addresses it asks for nobody (RFC 4429 3.2), and a SYN waits until its copy has come.
    let host = HostConfig {
        duplicate_detection_v6: DuplicateDetection::Off,
        ..HostConfig::default()
    };
    let mut builder = Stack::builder().host(host).forwarding();
    let mut kernels = Vec::new();
    for (subnet, mtu) in SUBNETS.into_iter().zip(mtus) {
        let (namespace, device) = kernel(kind, subnet, mtu).await.expect("root may");
        kernels.push(namespace);
        builder = builder.device(device);
        for family in Family::ALL {
            let ours = tidewire::ip::Cidr::new(family.stack_in(subnet), family.prefix());
            builder = builder.address(ours.expect("a valid prefix"));
        }
    }
    if let Some(mtu) = narrow {
        builder = builder.mtu(mtu);
    }
    let stack = builder.build().expect("a stack");
    let [left, right] = <[Namespace; 2]>::try_from(kernels).expect("two");
    let before = [
        left.run(async || Counters::read()).await,
        right.run(async || Counters::read()).await,
    ];
    Routed {
        stack,
        kernels: [left, right],
        before,
    }
}

impl Routed {
    /// Pings from the left kernel; what it printed.
    async fn ping(&self, arguments: &[&str]) -> String {
        let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
        self.kernels[0]
            .run(async move || {
                let program = find_program("ping").expect("asked for");
                let output = Command::new(program).arg("-n").args(arguments).output();
                let output = output.expect("it runs");
                let text = [output.stdout, output.stderr].concat();
                String::from_utf8_lossy(&text).into_owned()
            })
            .await
    }

    /// A connection from the left kernel to the right one.
    async fn connected(&self, family: Family) -> (TcpStream, TcpStream) {
        let address = SocketAddr::new(family.kernel_in(8), 80);
        let listen = async move || TcpListener::bind(address).await?.into_std();
        let listener = self.kernels[1].run(listen).await.expect("free");
        let listener = TcpListener::from_std(listener).expect("a runtime");
        let connect = async move || TcpStream::connect(address).await?.into_std();
        let (near, far) = tokio::join!(self.kernels[0].run(connect), listener.accept());
        let near = TcpStream::from_std(near.expect("connected"));
        (near.expect("a runtime"), far.expect("accepted").0)
    }

    /// No kernel has met a packet that it could not read.
    async fn assert_clean(&self) {
        for (kernel, before) in self.kernels.iter().zip(&self.before) {
            let after = kernel.run(async || Counters::read()).await;
            // A copy of a SYN that comes late counts as an error, too, and is none.
            let errors = after.since(before, "TcpInErrs");
            let copies = after.since(before, "TcpExtTCPSYNChallenge");
            assert_eq!(errors, copies, "TcpInErrs: {}", after.changes(before));
            for name in [
                "TcpInCsumErrors",
                "UdpInCsumErrors",
                "Udp6InCsumErrors",
                "IpInHdrErrors",
                "Ip6InHdrErrors",
                "IcmpInCsumErrors",
                "Icmp6InCsumErrors",
            ] {
                assert_eq!(
                    after.since(before, name),
                    0,
                    "{name}: {}",
                    after.changes(before)
                );
            }
        }
    }
}

/// Runs `body` for every kind of device and both IP versions.
fn on_each<F>(test: &str, kinds: &'static [DeviceKind], body: F)
where
    F: AsyncFn(DeviceKind, Family) + Clone + Send + 'static,
{
    for &kind in kinds {
        for family in Family::ALL {
            let body = body.clone();
            let case = format!("{test} {kind:?} {family:?}");
            run_with(
                &case,
                NEEDS,
                Flavor::CurrentThread,
                LIMIT,
                async move || {
                    body(kind, family).await;
                },
            );
        }
    }
    let count = kinds.len() * Family::ALL.len();
    announce(&format!("kernel: {count} cases ({test})"));
}

/// Whether there is no such link any more.
fn is_missing(error: io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO))
        || error.kind() == io::ErrorKind::NotFound
}

fn text(address: IpAddr) -> String {
    address.to_string()
}

// RFC 1812 5.2.1, 5.3.1, RFC 8200 3, RFC 4443 3.3: there and back with a hop less, and the router's name where none is left.
#[test]
fn kernels_ping_each_other_through_a_stack_and_trace_it() {
    on_each(
        "kernels_ping_each_other_through_a_stack_and_trace_it",
        &KINDS,
        async |kind, family| {
            let routed = routed(kind, [1500, 1500], None).await;
            let far = text(family.kernel_in(8));
            let said = routed
                .ping(&["-c", "3", "-i", "0.1", "-W", "3", &far])
                .await;
            assert!(said.contains(" 0% packet loss"), "{said}");
            assert_eq!(said.matches("ttl=63").count(), 3, "{said}");
            let said = routed.ping(&["-c", "1", "-t", "1", "-W", "3", &far]).await;
            let router = format!("From {}", family.stack_in(7));
            assert!(said.contains(&router), "{said}");
            let exceeded = match family {
                Family::V4 => "Time to live exceeded",
                Family::V6 => "Time exceeded: Hop limit",
            };
            assert!(said.contains(exceeded), "{said}");
            let stats = routed.stack.stats();
            assert_eq!(stats.dropped(DropReason::HopLimit), 1, "{stats:?}");
            assert!(stats.packets_forwarded >= 6, "{stats:?}");
            routed.assert_clean().await;
        },
    );
}

// RFC 1812 5.2.7.1, RFC 4443 3.1.
#[test]
fn kernels_are_told_where_a_stack_knows_no_way() {
    on_each(
        "kernels_are_told_where_a_stack_knows_no_way",
        &[DeviceKind::Tap, DeviceKind::Packet],
        async |kind, family| {
            let routed = routed(kind, [1500, 1500], None).await;
            let (nowhere, nobody, no_route, unreachable) = match family {
                Family::V4 => (
                    "198.51.100.7",
                    "10.8.0.77",
                    "Destination Net Unreachable",
                    "Destination Host Unreachable",
                ),
                Family::V6 => (
                    "2001:db8::7",
                    "fd08::77",
                    "Destination unreachable: No route",
                    "Destination unreachable: Address unreachable",
                ),
            };
            let router = format!("From {}", family.stack_in(7));
            for (target, expected) in [(nowhere, no_route), (nobody, unreachable)] {
                let said = routed.ping(&["-c", "1", "-W", "8", target]).await;
                assert!(said.contains(&router) && said.contains(expected), "{said}");
            }
            routed.assert_clean().await;
        },
    );
}

#[test]
fn kernels_exchange_bodies_through_a_stack() {
    on_each(
        "kernels_exchange_bodies_through_a_stack",
        &KINDS,
        async |kind, family| {
            for mtus in [[1500, 1500], [9000, 1500]] {
                let routed = routed(kind, mtus, None).await;
                let (mut near, mut far) = routed.connected(family).await;
                let (up, down) = (body(1, 16 * MIB), body(2, 16 * MIB));
                exchange(&mut near, &mut far, &up, &down)
                    .await
                    .expect("alive");
                let stats = routed.stack.stats();
                assert_eq!(stats.dropped(DropReason::Malformed), 0, "{stats:?}");
                assert_eq!(stats.dropped(DropReason::Checksum), 0, "{stats:?}");
                assert!(stats.packets_forwarded > 500, "{stats:?}");
                routed.assert_clean().await;
                drop((near, far, routed));
                // The kernel takes namespaces apart in its own time, and with them the ends of pairs that are here.
                if kind == DeviceKind::Packet {
                    for subnet in SUBNETS {
                        let gone = delete_link(&format!("router{subnet}")).await;
                        assert!(gone.is_ok() || gone.is_err_and(is_missing));
                    }
                }
            }
        },
    );
}

// RFC 1191 4, RFC 8201 3, 4, RFC 1812 5.2.6: what is too long is told of, and cut where it may be.
#[test]
fn kernels_find_out_that_the_link_behind_a_stack_is_narrow() {
    on_each(
        "kernels_find_out_that_the_link_behind_a_stack_is_narrow",
        &KINDS,
        async |kind, family| {
            let routed = routed(kind, [1500, 1500], Some(NARROW)).await;
            let far = family.kernel_in(8);
            // Before the kernel knows: IPv4 without DF goes through in fragments.
            if family == Family::V4 {
                let arguments = [
                    "-c", "2", "-i", "0.1", "-W", "3", "-M", "dont", "-s", "1400",
                ];
                let far = text(far);
                let said = routed
                    .ping(&[&arguments[..], &[far.as_str()]].concat())
                    .await;
                assert!(said.contains(" 0% packet loss"), "{said}");
                assert_eq!(routed.stack.stats().dropped(DropReason::TooBig), 0);
            }
            let (mut near, mut far_end) = routed.connected(family).await;
            let (up, down) = (body(3, 4 * MIB), body(4, 4 * MIB));
            let both = exchange(&mut near, &mut far_end, &up, &down);
            both.await.expect("alive");
            assert!(routed.stack.stats().dropped(DropReason::TooBig) > 0);
            let know = routed.kernels[0].run(async move || {
                run_program("ip", &["route", "get", &text(far)]).expect("a route")
            });
            let known = know.await;
            assert!(known.contains(&format!("mtu {NARROW}")), "{known}");
            routed.assert_clean().await;
        },
    );
}

#[test]
fn datagrams_of_kernels_in_one_piece_and_in_fragments_go_through_a_stack() {
    on_each(
        "datagrams_of_kernels_in_one_piece_and_in_fragments_go_through_a_stack",
        &KINDS,
        async |kind, family| {
            let routed = routed(kind, [1500, 1500], None).await;
            let bind = |place: usize| {
                let address = SocketAddr::new(family.kernel_in(SUBNETS[place]), 4000);
                let bind = async move || UdpSocket::bind(address).await?.into_std();
                let socket = routed.kernels[place].run(bind);
                async move { UdpSocket::from_std(socket.await.expect("free")).expect("a runtime") }
            };
            let (near, far) = (bind(0).await, bind(1).await);
            let to = far.local_addr().expect("bound");
            let mut buffer = vec![0; 65_536];
            for len in [0, 1, 1400, 8000, 60_000] {
                let payload = body(len as u64, len);
                near.send_to(&payload, to).await.expect("sent");
                let (count, from) = far.recv_from(&mut buffer).await.expect("received");
                assert!(buffer[..count] == payload);
                far.send_to(&payload, from).await.expect("sent");
                let count = near.recv(&mut buffer).await.expect("received");
                assert!(buffer[..count] == payload);
            }
            routed.assert_clean().await;
        },
    );
}
