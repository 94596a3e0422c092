//! The kernel as a router: between two stacks of ours, forwarding, and a path that carries less than both links; between a
//! stack and a kernel, such a path whose routers say nothing.

#![cfg(target_os = "linux")]

use std::net::IpAddr;
use std::time::Duration;

use tidewire::Stack;
use tidewire::config::HostConfig;
use tidewire::net::{IcmpErrors, IcmpReport};
use tidewire_integration_tests::bodies::body;
use tidewire_integration_tests::exchange::exchange;
use tidewire_integration_tests::kernel::{
    DeviceKind, Family, Link, LinkConfig, Role, on_each_family as on_each_link,
};
use tidewire_integration_tests::namespace::{
    Counters, Flavor, announce, configure, run_beside_others, run_program, set_sysctl,
};
use tidewire_integration_tests::requirements::{Need, missing_program, skip};
use tidewire_netdev::linux::{Tap, TapConfig};

const LIMIT: Duration = Duration::from_secs(30);
const MIB: usize = 1 << 20;
/// What the path carries in the tests where it is narrow.
const NARROW: usize = 1300;

/// Two stacks, each behind a link of its own, and the kernel between them.
async fn routed(mtus: [usize; 2]) -> [Link; 2] {
    routed_over(DeviceKind::Tun, mtus).await
}

/// The same, of which the first is behind a device of that kind.
async fn routed_over(device: DeviceKind, mtus: [usize; 2]) -> [Link; 2] {
    set_sysctl("ipv4/ip_forward", "1");
    set_sysctl("ipv6/conf/all/forwarding", "1");
    let [left, right] = mtus.map(|mtu| LinkConfig {
        mtu,
        ..LinkConfig::default()
    });
    let left = LinkConfig { device, ..left };
    [
        Link::start(&LinkConfig { subnet: 7, ..left }).await,
        Link::start(&LinkConfig { subnet: 8, ..right }).await,
    ]
}

/// The kernel sends at most `NARROW` octets to either side, and says so to whoever sends more.
fn narrow(family: Family, links: &[Link; 2]) -> Result<(), String> {
    for (link, subnet) in links.iter().zip([7, 8]) {
        if family == Family::V6 {
            set_sysctl(&format!("ipv6/conf/{}/mtu", link.name), &NARROW.to_string());
            continue;
        }
        let (prefix, mtu) = (format!("10.{subnet}.0.0/24"), NARROW.to_string());
        let route = [
            "route", "replace", &prefix, "dev", &link.name, "mtu", "lock", &mtu,
        ];
        run_program("ip", &route)?;
    }
    Ok(())
}

async fn connected(
    links: &[Link; 2],
    family: Family,
) -> (tidewire::net::TcpStream, tidewire::net::TcpStream) {
    let listener = links[1]
        .stack
        .tcp_listener((family.stack_in(8), 80))
        .await
        .expect("bound");
    let address = listener.local_addr().expect("bound");
    let (near, far) = tokio::join!(links[0].stack.tcp_stream(address), listener.accept());
    (near.expect("connected"), far.expect("accepted").0)
}

fn on_each_family<F>(test: &str, body: F)
where
    F: AsyncFn(Family) + Clone + Send + 'static,
{
    for family in Family::ALL {
        let body = body.clone();
        let case = format!("{test} {family:?}");
        run_beside_others(
            &case,
            &[Need::Tun],
            Flavor::CurrentThread,
            LIMIT,
            async move || {
                body(family).await;
            },
        );
    }
    announce(&format!("kernel: {} cases ({test})", Family::ALL.len()));
}

#[test]
fn stacks_talk_through_the_kernel() {
    on_each_family("stacks_talk_through_the_kernel", async |family| {
        for mtus in [[1500, 1500], [9000, 1500], [1280, 9000]] {
            let links = routed(mtus).await;
            let (mut near, mut far) = connected(&links, family).await;
            let (up, down) = (body(1, 16 * MIB), body(2, 16 * MIB));
            let both = exchange(&mut near, &mut far, &up, &down);
            let both = links[0].within(LIMIT / 4, &format!("{mtus:?}"), both).await;
            both.expect("alive");
            links.iter().for_each(Link::assert_clean);
        }
    });
}

// RFC 1191, RFC 8201: the router's message shrinks the segments, and the transfer goes on.
#[test]
fn narrow_paths_are_found_out() {
    const TEST: &str = "narrow_paths_are_found_out";
    if let Some(reason) = missing_program("ip") {
        return skip(TEST, &reason);
    }
    on_each_family(TEST, async |family| {
        let links = routed([1500, 1500]).await;
        narrow(family, &links).expect("root may");
        let (mut near, mut far) = connected(&links, family).await;
        let (up, down) = (body(3, 4 * MIB), body(4, 4 * MIB));
        let both = exchange(&mut near, &mut far, &up, &down);
        let both = links[0].within(LIMIT / 2, "a narrow path", both).await;
        both.expect("alive");
        let header = if family == Family::V4 { 40 } else { 60 };
        for end in [&near, &far] {
            assert!(end.info().mss <= NARROW - header, "{:?}", end.info());
        }
        // The next connection knows from the beginning: no retransmission.
        drop((near, far));
        let (mut near, mut far) = connected(&links, family).await;
        exchange(&mut near, &mut far, &up, &down)
            .await
            .expect("alive");
        assert_eq!(near.info().retransmits, 0, "{:?}", near.info());
        links.iter().for_each(Link::assert_clean);
    });
}

// RFC 4821 7.7: the routers' messages are filtered, so what is too large is lost and nobody hears why. The kernel finds out
// in the same way, once it is allowed to.
#[test]
fn black_holes_are_left_behind() {
    const TEST: &str = "black_holes_are_left_behind";
    if let Some(reason) = missing_program("nft") {
        return skip(TEST, &reason);
    }
    let config = LinkConfig {
        hops: vec![NARROW, 1500],
        silent_routers: true,
        ..LinkConfig::default()
    };
    on_each_link(TEST, LIMIT * 2, &config, async |link, family| {
        set_sysctl("ipv4/tcp_mtu_probing", "1");
        for role in [Role::StackListens, Role::KernelListens] {
            let (mut ours, mut kernel) = link.connected(role, family).await;
            let (up, down) = (body(6, MIB), body(7, MIB));
            let both = exchange(&mut ours, &mut kernel, &up, &down);
            let both = link.within(LIMIT * 2 / 3, "a black hole", both).await;
            both.expect("alive");
            let info = ours.info();
            let header = if family == Family::V4 { 52 } else { 72 };
            assert!(info.mss <= NARROW - header, "{info:?}");
            assert_eq!(info.black_holes, 1, "{info:?}");
            assert!(info.timeouts <= 6, "{info:?}");
            println!(
                "{role:?} {family:?}: {:?} busy, {} timeouts, {} octets a segment",
                info.busy_time, info.timeouts, info.mss
            );
        }
    });
}

// The same for datagrams: the first is lost, those that follow go out in fragments.
#[test]
fn datagrams_are_cut_for_a_narrow_path() {
    const TEST: &str = "datagrams_are_cut_for_a_narrow_path";
    if let Some(reason) = missing_program("ip") {
        return skip(TEST, &reason);
    }
    on_each_family(TEST, async |family| {
        let links = routed([1500, 1500]).await;
        narrow(family, &links).expect("root may");
        let near = links[0]
            .stack
            .udp_socket((family.stack_in(7), 0))
            .await
            .expect("bound");
        let far = links[1]
            .stack
            .udp_socket((family.stack_in(8), 0))
            .await
            .expect("bound");
        let payload = body(5, 1400);
        let mut buffer = [0; 2000];
        for attempt in 0.. {
            assert!(attempt < 5, "nothing arrives");
            near.send_to(&payload, far.local_addr().expect("bound"))
                .await
                .expect("sent");
            let received = tokio::time::timeout(LIMIT / 60, far.recv(&mut buffer)).await;
            if let Ok(received) = received {
                assert!(buffer[..received.expect("received")] == payload);
                break;
            }
        }
    });
}

// RFC 1122 3.2.1.7, RFC 792: a TTL that runs out on the way is told to who sent the packet.
#[test]
fn traces_of_the_path_name_the_router() {
    on_each_family("traces_of_the_path_name_the_router", async |family| {
        let links = routed([1500, 1500]).await;
        let ping = links[0]
            .stack
            .icmp_socket(family.stack_in(7))
            .await
            .expect("an own address");
        let mut buffer = [0; 64];
        ping.send_to(b"far", 1, family.stack_in(8))
            .await
            .expect("sent");
        let reply = ping.recv_from(&mut buffer).await.expect("a reply");
        assert_eq!((reply.source, reply.ttl), (family.stack_in(8), 63));
        ping.set_ttl(1).expect("a plain option");
        ping.send_to(b"near", 2, family.stack_in(8))
            .await
            .expect("sent");
        let answer = ping.recv_from(&mut buffer);
        let answer = links[0].within(LIMIT / 6, "time exceeded", answer).await;
        answer.expect_err("the router tells that the TTL ran out");
    });
}

/// What is said of the last probe, and by whom.
async fn said(link: &Link, errors: &IcmpErrors) -> IcmpReport {
    let report = link.within(LIMIT / 6, "a report", errors.recv()).await;
    report.expect("the stack lives")
}

// RFC 792, RFC 4443 3.3, RFC 1122 4.1.3.3: what a router says of a packet of any protocol is told with its name.
#[test]
fn probes_of_each_protocol_name_the_router_and_the_host_behind() {
    const TEST: &str = "probes_of_each_protocol_name_the_router_and_the_host_behind";
    for device in [DeviceKind::Tun, DeviceKind::Tap, DeviceKind::Packet] {
        let name = format!("{TEST} {device:?}");
        if let Some(reason) = device.needs().iter().find_map(|need| need.missing()) {
            skip(&name, &reason);
            continue;
        }
        on_each_family(&name, async move |family| {
            probe_each_way(&routed_over(device, [1500, 1500]).await, family).await;
        });
    }
}

async fn probe_each_way(links: &[Link; 2], family: Family) {
    let (near, far) = (&links[0], family.stack_in(8));
    let errors = near.stack.icmp_errors().expect("the stack lives");
    let router = family.kernel_in(7);

    let udp = near.stack.udp_socket((family.stack_in(7), 0)).await;
    let udp = udp.expect("bound");
    let port = udp.local_addr().expect("bound").port();
    let set_hops = |hops| match family {
        Family::V4 => udp.set_ttl(hops),
        Family::V6 => udp.set_unicast_hops_v6(hops),
    };
    set_hops(1).expect("a plain option");
    udp.send_to(b"near", (far, 33434)).await.expect("sent");
    let report = said(near, &errors).await;
    assert!(report.is_time_exceeded(), "{report:?}");
    assert_eq!(report.reporter, router);
    assert_eq!(report.about.destination, far);
    assert_eq!(report.about.ports(), (port, 33434));
    set_hops(2).expect("a plain option");
    udp.send_to(b"far", (far, 33435)).await.expect("sent");
    let report = said(near, &errors).await;
    assert!(report.is_port_unreachable(), "{report:?}");
    assert_eq!(report.reporter, far);
    assert_eq!((report.hop_limit, report.about.ports().1), (63, 33435));

    let ping = near.stack.icmp_socket(family.stack_in(7)).await;
    let ping = ping.expect("an own address");
    ping.set_ttl(1).expect("a plain option");
    ping.send_to(b"near", 5, far).await.expect("sent");
    let report = said(near, &errors).await;
    assert!(report.is_time_exceeded(), "{report:?}");
    let word = u32::from(ping.identifier()) << 16 | 5;
    assert_eq!(
        (report.reporter, report.about.second_word()),
        (router, word)
    );

    let tcp = match family {
        Family::V4 => near.stack.tcp_socket_v4(),
        Family::V6 => near.stack.tcp_socket_v6(),
    };
    let tcp = tcp.expect("a socket");
    tcp.set_ttl(1).expect("a plain option");
    tcp.bind((family.stack_in(7), 0).into()).expect("free");
    let port = tcp.local_addr().expect("bound").port();
    let connect = tcp.connect((far, 80).into());
    tokio::select! {
        report = said(near, &errors) => {
            assert!(report.is_time_exceeded(), "{report:?}");
            assert_eq!((report.reporter, report.about.ports()), (router, (port, 80)));
        }
        // RFC 9293 MUST-56: the attempt goes on.
        result = connect => panic!("{result:?}"),
    }
    assert_eq!(errors.lost(), 0);
}

// RFC 1122 3.2.2.2: the kernel knows that another router on the same link is nearer, and says so.
#[test]
fn redirects_of_the_kernel_are_followed_if_that_is_wanted() {
    const TEST: &str = "redirects_of_the_kernel_are_followed_if_that_is_wanted";
    const NEEDS: &[Need] = &[Need::Tun, Need::Program("ip")];
    for accept_redirects in [true, false] {
        let case = format!("{TEST} {accept_redirects}");
        run_beside_others(
            &case,
            NEEDS,
            Flavor::CurrentThread,
            LIMIT,
            async move || {
                set_sysctl("ipv4/ip_forward", "1");
                let tap = Tap::open(TapConfig::default()).expect("a TAP");
                let kernel = "10.7.0.1/24".parse().expect("an address");
                configure(tap.name(), &[kernel], None).await.expect("up");
                set_sysctl(&format!("ipv4/conf/{}/send_redirects", tap.name()), "1");
                let route = ["route", "add", "192.0.2.0/24", "via", "10.7.0.3"];
                run_program("ip", &route).expect("root may");
                let host = HostConfig {
                    accept_redirects,
                    ..HostConfig::default()
                };
                let builder = Stack::builder()
                    .host(host)
                    .device(tap.into_device().expect("a device"))
                    .address("10.7.0.2/24")
                    .gateway("10.7.0.1");
                let stack = builder.build().expect("a stack");
                let socket = stack.udp_socket("10.7.0.2:0").await.expect("bound");
                let nearer = IpAddr::from([10, 7, 0, 3]);
                let has_nearer = || {
                    let known = stack.neighbors();
                    known.iter().any(|known| known.key.address == nearer)
                };
                let before = Counters::read();
                let is_told = || Counters::read().since(&before, "IcmpOutRedirects") > 0;
                let send = async || {
                    let sent = socket.send_to(b"?", "192.0.2.7:9").await;
                    assert_eq!(sent.expect("there is a route"), 1);
                    tokio::time::sleep(LIMIT / 600).await;
                };
                while !is_told() || (accept_redirects && !has_nearer()) {
                    send().await;
                }
                // Time for what is not to happen.
                for _ in 0..5 {
                    send().await;
                }
                assert_eq!(has_nearer(), accept_redirects);
            },
        );
    }
    announce(&format!("kernel: 2 cases ({TEST})"));
}
