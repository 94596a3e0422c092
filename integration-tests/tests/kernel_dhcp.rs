//! Addresses by DHCP from dnsmasq, over a TAP: what the server says of it (its lease file, its log) is what counts.

#![cfg(target_os = "linux")]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tidewire::Stack;
use tidewire::ip::autoconf::dhcp;
use tidewire_integration_tests::namespace::{Flavor, configure, isolated, run_with};
use tidewire_integration_tests::requirements::Need;
use tidewire_integration_tests::servers::Dnsmasq;
use tidewire_netdev::linux::{Tap, TapConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const NEEDS: &[Need] = &[Need::Tun, Need::Program("dnsmasq")];
const LIMIT: Duration = Duration::from_secs(60);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);

/// A server of the addresses 10.9.0.50 to 10.9.0.60.
async fn start_server(interface: &str) -> Dnsmasq {
    // The shortest lease that dnsmasq gives is two minutes; T1 and T2 are the server's to choose.
    let arguments = [
        "--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,120",
        "--dhcp-option-force=58,3",
        "--dhcp-option-force=59,60",
    ];
    Dnsmasq::start(interface, &arguments).await
}

/// A TAP whose kernel side is the server's, and the server.
async fn network() -> (Tap, Dnsmasq) {
    let tap = Tap::open(TapConfig::default()).expect("a TAP");
    let address = "10.9.0.1/24".parse().expect("an address");
    configure(tap.name(), &[address], None).await.expect("up");
    let server = start_server(tap.name()).await;
    (tap, server)
}

fn leased(stack: &Stack) -> Ipv4Addr {
    let [(_, lease)] = &stack.leases()[..] else {
        panic!("one lease: {:?}", stack.leases());
    };
    assert_eq!(lease.server, SERVER);
    assert_eq!(&lease.routers[..], [SERVER]);
    match lease.address.address() {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => panic!("{address} is no address of DHCPv4"),
    }
}

#[test]
fn stack_with_nothing_but_a_tap_gets_its_address_keeps_it_and_gives_it_back() {
    let test = "dhcp";
    isolated(test, NEEDS, || {
        run_with(test, NEEDS, Flavor::CurrentThread, LIMIT, async || {
            let (tap, server) = network().await;
            let config = dhcp::Config {
                host_name: Some("tidewire".to_owned()),
                min_renewal: Duration::from_secs(1),
                ..dhcp::Config::default()
            };
            let stack = Stack::builder()
                .device(tap.into_device().expect("a device"))
                .address_by_dhcp_with(config)
                .build()
                .expect("a stack");
            // RFC 2131 3.1. The first exchange needs no pause at either end.
            let settled = tokio::time::timeout(Duration::from_secs(3), stack.addresses_settled());
            settled.await.expect("within 3 s").expect("an address");
            let address = leased(&stack);
            assert!((50..=60).contains(&address.octets()[3]), "{address}");
            let entry = format!(" {address} tidewire 01:");
            assert!(server.leases().contains(&entry), "{}", server.leases());

            // The kernel reaches it.
            let listener = stack.tcp_listener((address, 80)).await.expect("bound");
            let (kernel, ours) = tokio::join!(
                tokio::net::TcpStream::connect((address, 80)),
                listener.accept()
            );
            let (mut kernel, (mut ours, _)) = (kernel.expect("there"), ours.expect("accepted"));
            kernel.write_all(b"leased").await.expect("written");
            let mut octets = [0; 6];
            ours.read_exact(&mut octets).await.expect("read");
            assert_eq!(&octets, b"leased");

            // T1 is three seconds: unicast, without another DISCOVER (4.4.5).
            server.wait_for("DHCPACK", 2).await;
            assert_eq!(server.logged("DHCPDISCOVER"), 1, "{}", server.log());
            assert_eq!(leased(&stack), address);

            stack.release_leases();
            server.wait_for("DHCPRELEASE", 1).await;
            assert!(stack.leases().is_empty());
            let has_it = |known: &tidewire::ip::address::InterfaceAddress| {
                known.address() == IpAddr::V4(address)
            };
            assert!(!stack.addresses().iter().any(has_it));
            while server.leases().contains(&entry) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let gone = stack
                .tcp_stream((SERVER, 80))
                .await
                .expect_err("no address");
            assert_eq!(gone.kind(), std::io::ErrorKind::NetworkUnreachable);
        });
    });
}
