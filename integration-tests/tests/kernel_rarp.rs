//! Addresses by RARP from rarpd, over a TAP.

#![cfg(target_os = "linux")]

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tidewire::Stack;
use tidewire::ip::autoconf::rarp;
use tidewire_integration_tests::namespace::{Flavor, announce, configure, isolated, run_with};
use tidewire_integration_tests::requirements::Need;
use tidewire_integration_tests::servers::Rarpd;
use tidewire_netdev::MacAddress;
use tidewire_netdev::linux::{Tap, TapConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const NEEDS: &[Need] = &[
    Need::Tun,
    Need::Program("rarpd"),
    Need::Program("unshare"),
    Need::Program("mount"),
];
const LIMIT: Duration = Duration::from_secs(30);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 50);
const KNOWN: MacAddress = MacAddress([2, 0, 0, 0, 9, 50]);

/// A TAP whose kernel side is the server's, and the server.
async fn network() -> (Tap, Rarpd) {
    let tap = Tap::open(TapConfig::default()).expect("a TAP");
    let address = "10.9.0.1/24".parse().expect("an address");
    configure(tap.name(), &[address], None).await.expect("up");
    let server = Rarpd::start(tap.name(), &[(KNOWN, ADDRESS)]).await;
    (tap, server)
}

/// A stack of that hardware address on the TAP, which asks soon again.
fn stack(tap: Tap, hardware: MacAddress, attempts: u32) -> Stack {
    let config = rarp::Config {
        prefix: Some(24),
        retransmission: Duration::from_millis(100),
        attempts: Some(attempts),
        ..rarp::Config::default()
    };
    let builder = Stack::builder()
        .device(tap.into_device().expect("a device"))
        .hardware_address(hardware)
        .address_by_rarp_with(config)
        .gateway(SERVER);
    builder.build().expect("a stack")
}

// RFC 903.
#[test]
fn stack_that_rarpd_knows_gets_its_address_and_uses_it() {
    let test = "stack_that_rarpd_knows_gets_its_address_and_uses_it";
    isolated(test, NEEDS, || {
        run_with(test, NEEDS, Flavor::CurrentThread, LIMIT, async || {
            let (tap, server) = network().await;
            let stack = stack(tap, KNOWN, 8);
            let settled = stack.addresses_settled().await;
            assert!(settled.is_ok(), "{settled:?}\n{}", server.log());
            let [(_, told)] = stack.rarp_answers()[..] else {
                panic!("one answer: {:?}", stack.rarp_answers());
            };
            assert_eq!(told.ip(), IpAddr::V4(ADDRESS));
            assert_eq!(told.address.prefix_len(), 24);
            assert_eq!(told.server, SERVER);
            assert!(
                server.log().contains("RARP response to"),
                "{}",
                server.log()
            );

            // The kernel reaches it, and it reaches what is behind the router that was configured.
            let listener = stack.tcp_listener((ADDRESS, 80)).await.expect("bound");
            let (kernel, ours) = tokio::join!(
                tokio::net::TcpStream::connect((ADDRESS, 80)),
                listener.accept()
            );
            let (mut kernel, (mut ours, _)) = (kernel.expect("there"), ours.expect("accepted"));
            kernel.write_all(b"reverse").await.expect("written");
            let mut octets = [0; 7];
            ours.read_exact(&mut octets).await.expect("read");
            assert_eq!(&octets, b"reverse");
            let beyond = stack.udp_socket((ADDRESS, 0)).await.expect("bound");
            let sent = beyond.send_to(b"?", "192.0.2.1:9").await;
            assert_eq!(sent.expect("there is a route"), 1);
        });
    });
    announce("kernel: 1 cases (stack_that_rarpd_knows_gets_its_address_and_uses_it)");
}

// RFC 903 3: there is no "not found", so the client tells by the clock.
#[test]
fn stack_that_rarpd_does_not_know_is_told_that_nobody_answered() {
    let test = "stack_that_rarpd_does_not_know_is_told_that_nobody_answered";
    isolated(test, NEEDS, || {
        run_with(test, NEEDS, Flavor::CurrentThread, LIMIT, async || {
            let (tap, _server) = network().await;
            let name = tap.name().to_owned();
            let stack = stack(tap, MacAddress([2, 0, 0, 0, 9, 51]), 3);
            let settled = stack.addresses_settled().await;
            let error = settled.expect_err("nobody knows it");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(error.to_string().contains(&name), "{error}");
            assert!(stack.rarp_answers().is_empty());
        });
    });
    announce("kernel: 1 cases (stack_that_rarpd_does_not_know_is_told_that_nobody_answered)");
}
