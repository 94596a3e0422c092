//! Addresses and routes by router advertisements of radvd, over a TAP whose kernel side is the router. What the kernel says of
//! the stack (its neighbours, its connections) is what counts.

#![cfg(target_os = "linux")]

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tidewire::Stack;
use tidewire::ip::address::InterfaceAddress;
use tidewire::ip::autoconf::router_discovery::{Advertised, Config};
use tidewire::ip::autoconf::temporary_address;
use tidewire::wire::ndp::RouterPreference;
use tidewire_integration_tests::namespace::{
    Flavor, Netlink, configure, isolated, run_program, run_with, set_sysctl,
};
use tidewire_integration_tests::requirements::Need;
use tidewire_integration_tests::servers::Radvd;
use tidewire_netdev::linux::{Tap, TapConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const NEEDS: &[Need] = &[Need::Tun, Need::Program("radvd"), Need::Program("ip")];
const LIMIT: Duration = Duration::from_secs(60);
/// From nothing to an address that may be used.
const SOON: Duration = Duration::from_secs(3);
/// The kernel's address on the link, by configuration.
const ON_LINK: &str = "2001:db8:9::1";
/// The kernel's address behind itself: only the default route leads there.
const FAR: &str = "2001:db8:99::1";

fn start_radvd(interface: &str) -> Radvd {
    Radvd::start(&format!(
        "interface {interface} {{
            AdvSendAdvert on;
            MinRtrAdvInterval 3;
            MaxRtrAdvInterval 4;
            AdvLinkMTU 1400;
            AdvCurHopLimit 61;
            AdvOtherConfigFlag on;
            AdvDefaultPreference high;
            prefix 2001:db8:9::/64 {{
                AdvOnLink on;
                AdvAutonomous on;
                AdvValidLifetime 86400;
                AdvPreferredLifetime 14400;
                DeprecatePrefix on;
            }};
            route 2001:db8:77::/48 {{ AdvRoutePreference low; }};
            RDNSS 2001:db8:9::53 {{ }};
            DNSSL lab.example {{ }};
        }};\n"
    ))
}

/// A TAP whose kernel side is a router; the router's link-local address, and the TAP's name.
async fn network() -> (Tap, Ipv6Addr, String) {
    set_sysctl("ipv6/conf/all/forwarding", "1");
    let tap = Tap::open(TapConfig::default()).expect("a TAP");
    let address = format!("{ON_LINK}/64").parse().expect("an address");
    configure(tap.name(), &[address], None).await.expect("up");
    let far = format!("{FAR}/128").parse().expect("an address");
    configure("lo", &[far], None).await.expect("up");
    let mut netlink = Netlink::open().expect("netlink");
    netlink
        .wait_for_link_local(tap.name())
        .await
        .expect("an address");
    let name = tap.name().to_owned();
    let shown = run_program(
        "ip",
        &["-6", "-o", "address", "show", "dev", &name, "scope", "link"],
    );
    let shown = shown.expect("addresses");
    let router = shown
        .split_whitespace()
        .find_map(|word| word.strip_suffix("/64"));
    let router = router
        .expect("a link-local address")
        .parse()
        .expect("an address");
    (tap, router, name)
}

fn advertised(stack: &Stack) -> Advertised {
    let [(_, advertised)] = &stack.advertised()[..] else {
        panic!("one interface: {:?}", stack.advertised());
    };
    advertised.clone()
}

/// The addresses that were made.
fn made(stack: &Stack) -> Vec<InterfaceAddress> {
    let is_of_prefix = |known: &InterfaceAddress| match known.address() {
        IpAddr::V6(address) => address.segments()[..4] == [0x2001, 0xdb8, 9, 0],
        IpAddr::V4(_) => false,
    };
    stack.addresses().into_iter().filter(is_of_prefix).collect()
}

async fn settled(stack: &Stack) {
    let settled = tokio::time::timeout(SOON, stack.addresses_settled());
    settled.await.expect("within 3 s").expect("an address");
}

/// The kernel connects to an address of the stack's, and both are heard.
async fn kernel_reaches(stack: &Stack, address: IpAddr) {
    let listener = stack.tcp_listener((address, 80)).await.expect("bound");
    let (kernel, ours) = tokio::join!(
        tokio::net::TcpStream::connect((address, 80)),
        listener.accept()
    );
    let (mut kernel, (mut ours, _)) = (kernel.expect("there"), ours.expect("accepted"));
    let mut octets = [0; 5];
    kernel.write_all(b"there").await.expect("written");
    ours.read_exact(&mut octets).await.expect("read");
    assert_eq!(&octets, b"there");
    ours.write_all(b"again").await.expect("written");
    kernel.read_exact(&mut octets).await.expect("read");
    assert_eq!(&octets, b"again");
}

#[test]
fn stack_with_nothing_but_a_tap_gets_what_the_router_advertises() {
    let test = "slaac";
    isolated(test, NEEDS, || {
        run_with(test, NEEDS, Flavor::CurrentThread, LIMIT, async || {
            let (tap, router, name) = network().await;
            let mut radvd = start_radvd(&name);
            let stack = Stack::builder()
                .device(tap.into_device().expect("a device"))
                .address_by_slaac()
                .build()
                .expect("a stack");
            settled(&stack).await;
            let [address] = made(&stack)[..] else {
                panic!("one address: {:?}", made(&stack));
            };
            let address = address.address();
            let told = advertised(&stack);
            assert_eq!(told.default_routers.len(), 1);
            assert_eq!(told.default_routers[0].router, router);
            assert_eq!(told.default_routers[0].preference, RouterPreference::High);
            assert_eq!(told.routes.len(), 1);
            assert_eq!(told.routes[0].prefix.to_string(), "2001:db8:77::/48");
            assert_eq!(told.parameters.mtu, Some(1400));
            assert_eq!(told.parameters.hop_limit, Some(61));
            assert!(told.has_other_configuration && !told.is_managed);
            assert_eq!(
                told.dns_servers,
                ["2001:db8:9::53".parse::<Ipv6Addr>().unwrap()]
            );
            assert_eq!(told.search_domains, ["lab.example"]);

            // The kernel reaches it, and has it among its neighbours.
            kernel_reaches(&stack, address).await;
            let neighbors = run_program("ip", &["-6", "neigh", "show", "dev", &name]);
            let neighbors = neighbors.expect("neighbours");
            assert!(
                neighbors.contains(&format!("{address} lladdr")),
                "{neighbors}"
            );

            // By the default route, with the link's MTU and hop limit.
            let far: SocketAddr = format!("[{FAR}]:8080").parse().expect("an address");
            let listener = tokio::net::TcpListener::bind(far).await.expect("bound");
            let (ours, kernel) = tokio::join!(stack.tcp_stream(far), listener.accept());
            let (ours, (_kernel, peer)) = (ours.expect("a way"), kernel.expect("accepted"));
            assert_eq!(peer.ip(), address);
            assert_eq!(ours.info().path_mtu, 1400);
            assert_eq!(ours.ttl().expect("a hop limit"), 61);

            // RFC 4861 6.2.5, 6.3.5: its last word takes the default route away; the prefix is deprecated (radvd's
            // DeprecatePrefix), and the address still good for what is there (RFC 4862 5.5.4).
            radvd.stop();
            while !advertised(&stack).default_routers.is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let refused = stack.tcp_stream(far).await.expect_err("no default route");
            assert_eq!(refused.kind(), std::io::ErrorKind::NetworkUnreachable);
            let [still] = made(&stack)[..] else {
                panic!("one address: {:?}", made(&stack));
            };
            assert!(still.deprecated && still.is_usable(), "{still:?}");
            kernel_reaches(&stack, address).await;
        });
    });
}

#[test]
fn temporary_addresses_are_what_the_kernel_sees() {
    let test = "slaac_temporary";
    isolated(test, NEEDS, || {
        run_with(test, NEEDS, Flavor::CurrentThread, LIMIT, async || {
            let (tap, _, name) = network().await;
            let _radvd = start_radvd(&name);
            let mut config = Config::default();
            config.addresses.temporary = Some(temporary_address::Config::default());
            let stack = Stack::builder()
                .device(tap.into_device().expect("a device"))
                .address_by_slaac_with(config)
                .build()
                .expect("a stack");
            settled(&stack).await;
            let all = made(&stack);
            assert_eq!(all.len(), 2, "{all:?}");
            let temporary = all.iter().find(|known| known.temporary);
            let temporary = temporary.expect("a temporary address").address();
            let lasting = all.iter().find(|known| !known.temporary);
            let lasting = lasting.expect("a lasting address").address();
            kernel_reaches(&stack, lasting).await;
            // Optimistic addresses count as deprecated in the choice (RFC 4429 3.1): detection takes a second.
            while made(&stack)
                .iter()
                .any(|known| known.state != tidewire::ip::autoconf::dad::AddressState::Assigned)
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let far: SocketAddr = format!("[{FAR}]:8080").parse().expect("an address");
            let listener = tokio::net::TcpListener::bind(far).await.expect("bound");
            let (ours, kernel) = tokio::join!(stack.tcp_stream(far), listener.accept());
            let (_ours, (_kernel, peer)) = (ours.expect("a way"), kernel.expect("accepted"));
            assert_eq!(peer.ip(), temporary);
        });
    });
}
