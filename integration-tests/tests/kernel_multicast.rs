//! The kernel's bridge between its sockets and a stack of ours: it asks for groups and notes who listens to which
//! (`mcast_snooping`, `mcast_querier`), so its `bridge mdb` says whether it has understood us.
//!
//! ```text
//!  kernel's sockets 10.7.0.1, 10.7.0.3 ── br0 (snooping, querier) ── tap0 ── tidewire::net 10.7.0.2
//! ```

#![cfg(target_os = "linux")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::SockRef;
use tidewire::Stack;
use tidewire::net::UdpSocket;
use tidewire_integration_tests::namespace::{Flavor, run_program, run_with, set_sysctl};
use tidewire_integration_tests::requirements::Need;
use tidewire_netdev::linux::{Tap, TapConfig};
use tokio::time::{sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
/// What takes longer does not happen any more. The bridge waits twice a tenth of a second before it believes a leave.
const PATIENCE: Duration = Duration::from_secs(10);
const NEEDS: [Need; 3] = [Need::Tun, Need::Program("ip"), Need::Program("bridge")];
const PORT: u16 = 4007;
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0xab, 0xcd);
/// The kernel's addresses.
const NEAR_V4: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
const OTHER_V4: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 3);
const NEAR_V6: Ipv6Addr = Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, 1);
const OTHER_V6: Ipv6Addr = Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, 3);

/// The versions that the bridge's querier speaks.
#[derive(Clone, Copy, Debug)]
struct Versions {
    igmp: u8,
    mld: u8,
}

const VERSIONS: [Versions; 2] = [Versions { igmp: 2, mld: 1 }, Versions { igmp: 3, mld: 2 }];

fn ip(arguments: &str) -> String {
    let arguments: Vec<_> = arguments.split_whitespace().collect();
    run_program("ip", &arguments).unwrap_or_else(|error| panic!("ip {arguments:?}: {error}"))
}

/// A stack at a port of the kernel's bridge.
fn bridged(versions: Versions) -> Stack {
    let tap = Tap::open(TapConfig {
        name: Some("tap0".to_owned()),
        ..TapConfig::default()
    });
    let device = tap.expect("root may").into_device().expect("a runtime");
    let stack = Stack::builder()
        .device(device)
        .address("10.7.0.2/24")
        .address("fd07::2/64")
        .build()
        .expect("a stack");
    let Versions { igmp, mld } = versions;
    // Queries twice a second, answers within a tenth; in hundredths of a second.
    ip(&format!(
        "link add br0 type bridge mcast_snooping 1 mcast_querier 1 mcast_stats_enabled 1 mcast_igmp_version {igmp} \
         mcast_mld_version {mld} mcast_startup_query_interval 50 mcast_startup_query_count 200 \
         mcast_query_response_interval 10 mcast_last_member_interval 10"
    ));
    // The port is none of the kernel's own.
    set_sysctl("ipv6/conf/tap0/disable_ipv6", "1");
    ip("link set tap0 master br0");
    ip("link set tap0 up");
    ip("link set br0 up");
    for address in ["10.7.0.1/24", "10.7.0.3/24"] {
        ip(&format!("address add {address} dev br0"));
    }
    for address in ["fd07::1/64", "fd07::3/64"] {
        ip(&format!("address add {address} dev br0 nodad"));
    }
    stack
}

/// Whether the bridge knows a listener to the group behind our port.
fn is_listed(group: IpAddr) -> bool {
    let listed = run_program("bridge", &["mdb", "show", "dev", "br0"]).expect("a bridge");
    let wanted = ["port", "tap0", "grp", &group.to_string()].map(str::to_owned);
    listed.lines().any(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        words.windows(4).any(|four| four == wanted)
    })
}

/// What the bridge has counted at our port: `protocol` is IGMP or MLD, `what` queries or reports.
fn counted(protocol: &str, what: &str, direction: &str, version: u8) -> u64 {
    let counters = ip("link xstats type bridge_slave dev tap0");
    let heading = format!("{protocol} {what}:");
    let (wanted, version) = (format!("{direction}:"), format!("v{version}"));
    let mut lines = counters.lines().map(str::trim);
    lines
        .find(|line| *line == heading)
        .expect("the bridge counts");
    let line = lines.find(|line| line.starts_with(&wanted)).expect("both");
    let mut words = line.split_whitespace();
    words.find(|word| *word == version).expect("the version");
    let number = words.next().expect("a number");
    number.parse().expect("a number")
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    if timeout(PATIENCE, wait).await.is_err() {
        let listed = run_program("bridge", &["mdb", "show", "dev", "br0"]);
        let counters = ip("link xstats type bridge_slave dev tap0");
        panic!("not in time: {what}\n{listed:?}\n{counters}");
    }
}

/// A kernel's socket that sends to groups through the bridge.
fn sender(source: IpAddr) -> std::net::UdpSocket {
    let socket = std::net::UdpSocket::bind((source, 0)).expect("bound");
    if source.is_ipv6() {
        let shown = ip("-o link show dev br0");
        let index = shown.split(':').next().expect("a number");
        let index = index.trim().parse().expect("a number");
        let socket = SockRef::from(&socket);
        socket.set_multicast_if_v6(index).expect("an interface");
    }
    socket
}

/// What arrives first, while `senders` send their place in the list again and again.
async fn first_heard(
    socket: &UdpSocket,
    senders: &[&std::net::UdpSocket],
    to: SocketAddr,
) -> (u8, SocketAddr) {
    let mut buffer = [0; 16];
    let hear = async {
        loop {
            for (number, sender) in senders.iter().enumerate() {
                sender.send_to(&[number as u8], to).expect("sent");
            }
            let received = timeout(Duration::from_millis(50), socket.recv_from(&mut buffer));
            if let Ok(received) = received.await {
                let (len, from) = received.expect("received");
                assert_eq!(len, 1);
                return (buffer[0], from);
            }
        }
    };
    timeout(PATIENCE, hear).await.expect("something arrives")
}

fn on_each_version<F>(test: &str, body: F)
where
    F: AsyncFn(Versions, Stack) + Clone + Send + 'static,
{
    for versions in VERSIONS {
        let body = body.clone();
        let case = format!("{test} {versions:?}");
        run_with(
            &case,
            &NEEDS,
            Flavor::CurrentThread,
            LIMIT,
            async move || {
                let stack = bridged(versions);
                until("a query", || {
                    counted("IGMP", "queries", "TX", versions.igmp) > 0
                        && counted("MLD", "queries", "TX", versions.mld) > 0
                })
                .await;
                body(versions, stack).await;
            },
        );
    }
}

#[test]
fn the_bridge_knows_our_groups_while_we_listen() {
    on_each_version(
        "the_bridge_knows_our_groups_while_we_listen",
        async |versions, stack| {
            let v4 = stack.udp_socket(("0.0.0.0", PORT)).await.expect("bound");
            let v6 = stack.udp_socket(("::", PORT + 1)).await.expect("bound");
            let (group_v4, group_v6) = (IpAddr::V4(GROUP_V4), IpAddr::V6(GROUP_V6));
            assert!(!is_listed(group_v4) && !is_listed(group_v6));
            v4.join_multicast_v4(GROUP_V4, [10, 7, 0, 2].into())
                .expect("joined");
            v6.join_multicast_v6(&GROUP_V6, 2).expect("joined");
            until("both groups", || is_listed(group_v4) && is_listed(group_v6)).await;
            // In the version that the bridge asks in, be it only in answer to the next query.
            until("reports in the querier's version", || {
                counted("IGMP", "reports", "RX", versions.igmp) > 0
                    && counted("MLD", "reports", "RX", versions.mld) > 0
            })
            .await;

            let kernel = sender(NEAR_V4.into());
            let (_, from) = first_heard(&v4, &[&kernel], (GROUP_V4, PORT).into()).await;
            assert_eq!(from.ip(), IpAddr::V4(NEAR_V4));
            let kernel = sender(NEAR_V6.into());
            let (_, from) = first_heard(&v6, &[&kernel], (GROUP_V6, PORT + 1).into()).await;
            assert_eq!(from.ip(), IpAddr::V6(NEAR_V6));

            // Twice as long as a group stays whose members do not answer the leave: queries keep it.
            sleep(Duration::from_millis(500)).await;
            assert!(is_listed(group_v4) && is_listed(group_v6));
            v4.leave_multicast_v4(GROUP_V4, [10, 7, 0, 2].into())
                .expect("left");
            drop(v6);
            until("no group", || !is_listed(group_v4) && !is_listed(group_v6)).await;
        },
    );
}

#[test]
fn the_bridge_knows_the_groups_of_our_addresses() {
    // RFC 4862 5.4.2: without them a switch would keep solicitations from us.
    on_each_version(
        "the_bridge_knows_the_groups_of_our_addresses",
        async |_, _stack| {
            let solicited = "ff02::1:ff00:2".parse().expect("an address");
            until("the group of fd07::2", || is_listed(solicited)).await;
        },
    );
}

#[test]
fn sources_are_heard_as_the_socket_wants() {
    on_each_version("sources_are_heard_as_the_socket_wants", async |_, stack| {
        let socket = stack.udp_socket(("0.0.0.0", PORT)).await.expect("bound");
        let any = Ipv4Addr::UNSPECIFIED;
        let [near, other] = [NEAR_V4, OTHER_V4].map(|address| sender(address.into()));
        let to = (GROUP_V4, PORT).into();
        socket
            .join_ssm_v4(&OTHER_V4, &GROUP_V4, &any)
            .expect("joined");
        until("the group", || is_listed(GROUP_V4.into())).await;
        for _ in 0..3 {
            let (number, from) = first_heard(&socket, &[&near, &other], to).await;
            assert_eq!((number, from.ip()), (1, IpAddr::V4(OTHER_V4)));
        }
        socket
            .leave_ssm_v4(&OTHER_V4, &GROUP_V4, &any)
            .expect("left");
        until("no group", || !is_listed(GROUP_V4.into())).await;

        let socket = stack.udp_socket(("::", PORT + 1)).await.expect("bound");
        let [near, other] = [NEAR_V6, OTHER_V6].map(|address| sender(address.into()));
        let to = (GROUP_V6, PORT + 1).into();
        socket.join_multicast_v6(&GROUP_V6, 2).expect("joined");
        socket
            .block_source_v6(&NEAR_V6, &GROUP_V6, 2)
            .expect("blocked");
        until("the group", || is_listed(GROUP_V6.into())).await;
        for _ in 0..3 {
            let (number, from) = first_heard(&socket, &[&near, &other], to).await;
            assert_eq!((number, from.ip()), (1, IpAddr::V6(OTHER_V6)));
        }
    });
}

#[test]
fn the_kernel_hears_what_we_send_to_a_group() {
    run_with(
        "the_kernel_hears_what_we_send_to_a_group",
        &NEEDS,
        Flavor::CurrentThread,
        LIMIT,
        async || {
            let stack = bridged(VERSIONS[1]);
            let kernel = tokio::net::UdpSocket::bind(("0.0.0.0", PORT))
                .await
                .expect("bound");
            kernel.join_multicast_v4(GROUP_V4, NEAR_V4).expect("joined");
            let joined = ip("maddress show dev br0");
            assert!(joined.contains(&format!("inet  {GROUP_V4}")), "{joined}");
            let ours = stack.udp_socket(("10.7.0.2", 0)).await.expect("bound");
            let mut buffer = [0; 16];
            let hear = async {
                loop {
                    ours.send_to(b"all", (GROUP_V4, PORT)).await.expect("sent");
                    let received =
                        timeout(Duration::from_millis(50), kernel.recv_from(&mut buffer));
                    if let Ok(received) = received.await {
                        return received.expect("received");
                    }
                }
            };
            let (len, from) = timeout(PATIENCE, hear).await.expect("it arrives");
            assert_eq!((len, from), (3, ours.local_addr().expect("bound")));
        },
    );
}
