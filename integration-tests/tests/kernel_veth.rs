//! The fixture's namespaces joined by veth pairs: kernels at both ends, as root and as anybody.

#![cfg(target_os = "linux")]

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tidewire_integration_tests::bodies::body;
use tidewire_integration_tests::exchange::{digest, receive, send};
use tidewire_integration_tests::kernel::{LinkConfig, Station};
use tidewire_integration_tests::namespace::{
    Flavor, Namespace, Netlink, VethEnd, VethPair, announce, configure, isolated, run_with,
    set_sysctl,
};
use tidewire_integration_tests::requirements::{Need, missing_namespaces, missing_program, skip};
use tidewire_netdev::MacAddress;
use tidewire_netdev::checksum::Sum;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};

const LIMIT: Duration = Duration::from_secs(20);

const NEAR: VethEnd<'_> = VethEnd {
    name: "near",
    hardware_address: MacAddress([2, 0, 0, 0, 0, 1]),
};
const FAR: VethEnd<'_> = VethEnd {
    name: "far",
    hardware_address: MacAddress([2, 0, 0, 0, 0, 2]),
};

/// This namespace, and another at the other end of a veth pair.
async fn neighbour(near: &[&str], far: &[&str], mtu: usize) -> io::Result<Namespace> {
    let parse = |text: &&str| text.parse().expect("an address");
    let (near, far): (Vec<_>, Vec<_>) = (
        near.iter().map(parse).collect(),
        far.iter().map(parse).collect(),
    );
    let other = Namespace::new("far").await?;
    let pair = VethPair {
        near: NEAR,
        far: FAR,
        far_namespace: Some(other.descriptor()),
        mtu,
    };
    let mut netlink = Netlink::open()?;
    netlink.add_veth(&pair).await?;
    other
        .run(async move || configure(FAR.name, &far, None).await)
        .await?;
    configure(NEAR.name, &near, None).await?;
    netlink.wait_for_carrier(NEAR.name).await?;
    Ok(other)
}

#[test]
fn kernels_talk_over_a_veth_pair() {
    const TEST: &str = "kernels_talk_over_a_veth_pair";
    isolated(TEST, &[], || {
        for flavor in [Flavor::CurrentThread, Flavor::Workers(2)] {
            run_with(TEST, &[], flavor, LIMIT, async || {
                let near = ["10.7.0.1/24", "fd07::1/64"];
                let other = neighbour(&near, &["10.7.0.2/24", "fd07::2/64"], 9000).await;
                let other = other.expect("two namespaces");
                for (index, address) in ["10.7.0.2:80", "[fd07::2]:80"].into_iter().enumerate() {
                    let listener = other.run(async move || TcpListener::bind(address).await);
                    let listener = listener.await.expect("bound");
                    let answer = body(index as u64, 1 << 20);
                    let expected = digest(&answer);
                    let serve = other.run(async move || {
                        let (mut stream, _) = listener.accept().await?;
                        send(&mut stream, &answer).await
                    });
                    let ask = async { receive(&mut TcpStream::connect(address).await?).await };
                    let ((), got) = tokio::try_join!(serve, ask).expect("connected");
                    assert_eq!(got, expected);
                }
            });
        }
        announce(&format!("kernel: 2 cases ({TEST})"));
    });
}

/// What one namespace sets or opens, another does not have, and all of it goes with the namespace.
#[test]
fn namespaces_are_apart_and_leave_nothing() {
    const TEST: &str = "namespaces_are_apart_and_leave_nothing";
    isolated(TEST, &[], || {
        run_with(TEST, &[], Flavor::CurrentThread, LIMIT, async || {
            let other = neighbour(&["10.7.0.1/24"], &["10.7.0.2/24"], 1500).await;
            let other = other.expect("two namespaces");
            let forwarding = || std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward");
            set_sysctl("ipv4/ip_forward", "0");
            other.run(async || set_sysctl("ipv4/ip_forward", "1")).await;
            assert_eq!(forwarding().expect("readable").trim(), "0");
            let there = other.run(async move || forwarding()).await;
            assert_eq!(there.expect("readable").trim(), "1");

            // Both bind the same address.
            let here = TcpListener::bind("0.0.0.0:80").await.expect("free");
            let there = other.run(async || TcpListener::bind("0.0.0.0:80").await);
            let there = there.await.expect("free there, too");
            drop((here, there));

            let mut netlink = Netlink::open().expect("a socket");
            drop(other);
            // The kernel takes a namespace apart in its own time.
            while netlink.set_up(NEAR.name, true).await.is_ok() {
                tokio::task::yield_now().await;
            }
        });
        announce(&format!("kernel: 1 cases ({TEST})"));
    });
}

#[test]
#[should_panic(expected = "there and here")]
fn panics_in_another_namespace_are_the_tests_own() {
    const TEST: &str = "panics_in_another_namespace_are_the_tests_own";
    if missing_namespaces().is_some() {
        panic!("there and here: skipped without root");
    }
    run_with(TEST, &[], Flavor::CurrentThread, LIMIT, async || {
        let other = Namespace::new("other").await.expect("a namespace");
        other.run(async || panic!("there and here")).await;
    });
}

/// Two kernels and a router between them, whose far link carries less than the near one.
#[test]
fn routes_lead_through_a_third_namespace() {
    const TEST: &str = "routes_lead_through_a_third_namespace";
    isolated(TEST, &[], || {
        run_with(TEST, &[], Flavor::CurrentThread, LIMIT, async || {
            let router = neighbour(&["10.7.0.1/24"], &["10.7.0.2/24"], 1500).await;
            let router = router.expect("two namespaces");
            let beyond = router.run(async || {
                set_sysctl("ipv4/ip_forward", "1");
                neighbour(&["10.8.0.1/24"], &["10.8.0.2/24"], 1300).await
            });
            let beyond = beyond.await.expect("a third namespace");
            let mut netlink = Netlink::open().expect("a socket");
            let far = "10.8.0.0/24".parse().expect("a prefix");
            let gateway = "10.7.0.2".parse().expect("an address");
            netlink.add_route(far, gateway).await.expect("a route");
            let listener = beyond.run(async || {
                let everything = "0.0.0.0/0".parse().expect("a prefix");
                let gateway = "10.8.0.1".parse().expect("an address");
                Netlink::open()?.add_route(everything, gateway).await?;
                TcpListener::bind("10.8.0.2:80").await
            });
            let listener = listener.await.expect("bound");
            let answer = body(3, 1 << 20);
            let expected = digest(&answer);
            let serve = beyond.run(async move || {
                let (mut stream, _) = listener.accept().await?;
                send(&mut stream, &answer).await?;
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await.map(drop)
            });
            let ask = async {
                let mut stream = TcpStream::connect("10.8.0.2:80").await?;
                receive(&mut stream).await
            };
            let ((), got) = tokio::try_join!(serve, ask).expect("connected");
            assert_eq!(got, expected);
        });
        announce(&format!("kernel: 1 cases ({TEST})"));
    });
}

/// What an AF_PACKET device will find: the kernel's packets with or without their checksums, and nobody who answers.
#[test]
fn stations_share_a_link_with_the_kernel() {
    const TEST: &str = "stations_share_a_link_with_the_kernel";
    isolated(TEST, &[Need::Program("ethtool")], || {
        for offload in [true, false] {
            run_with(TEST, &[], Flavor::CurrentThread, LIMIT, async move || {
                let config = LinkConfig {
                    offload,
                    ..LinkConfig::default()
                };
                let station = Station::start(&config).await.expect("a station");
                let open = station.namespace.run(async || {
                    let everything = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
                    Socket::new(Domain::from(libc::AF_PACKET), Type::RAW, Some(everything))
                });
                let socket = open.await.expect("root may");
                socket.set_read_timeout(Some(LIMIT)).expect("a timeout");
                let sender = UdpSocket::bind("10.7.0.1:0").await.expect("the kernel's");
                sender.set_broadcast(true).expect("a plain option");
                let sent = sender.send_to(&[7; 999], "10.7.0.255:9").await;
                sent.expect("sent");
                let mut frame = vec![0; 2000];
                let udp = loop {
                    let len = (&socket).read(&mut frame).expect("a frame");
                    let from = &frame[6..12];
                    assert_eq!(from, [2, 0, 0, 0, 0, 1], "the kernel's, nobody else's");
                    // Ethernet, IPv4 without options.
                    if len == 14 + 20 + 8 + 999 && frame[23] == 17 {
                        break &frame[34..len];
                    }
                };
                let mut sum = Sum::default();
                sum.add_bytes(&[10, 7, 0, 1, 10, 7, 0, 255, 0, 17]);
                sum.add_bytes(&udp[4..6]);
                sum.add_bytes(udp);
                assert_eq!(sum.finish() == 0, !offload, "complete without offload");
            });
        }
        announce(&format!("kernel: 2 cases ({TEST})"));
    });
}

#[test]
#[ignore = "fails on purpose, for the test below"]
fn fails() {
    isolated("fails", &[], || panic!("on purpose"));
}

#[test]
#[ignore = "fails on purpose, for the test below"]
fn does_not_know_its_name() {
    isolated("some_other_test", &[], || ());
}

/// Runs this program for one test as a user without rights; what it printed.
fn as_nobody(program: &std::path::Path, test: &str) -> Result<String, String> {
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(program)
        .args(["--exact", test, "--include-ignored", "--nocapture"])
        .env("TIDEWIRE_REQUIRE_ALL", "1")
        .current_dir("/")
        .output();
    let output = output.map_err(|error| error.to_string())?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    if output.status.success() {
        Ok(text)
    } else {
        Err(text)
    }
}

#[test]
fn tests_run_without_root_and_fail_without_root() {
    const TEST: &str = "tests_run_without_root_and_fail_without_root";
    // Without root, every other test here shows it.
    let missing = missing_namespaces();
    if let Some(reason) = missing.or_else(|| missing_program("setpriv")) {
        println!("{TEST}: {reason}");
        return;
    }
    // The build's folders need not be readable for everybody.
    let folder = tempfile::tempdir().expect("a folder");
    let everybody = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.path(), everybody).expect("our own");
    let program = folder.path().join("program");
    let this = std::env::current_exe().expect("a program knows its file");
    fs::copy(this, &program).expect("copied");
    match as_nobody(&program, "kernels_talk_over_a_veth_pair") {
        Ok(text) => assert!(text.contains("kernel: 2 cases"), "{text}"),
        // Some machines let nobody have user namespaces.
        Err(text) if text.contains("or user namespaces:") => return skip(TEST, &text),
        Err(text) => panic!("{text}"),
    }
    let failed = as_nobody(&program, "fails").expect_err("a failure is passed on");
    assert!(failed.contains("on purpose"), "{failed}");
    assert!(
        failed.contains("fails failed in a user namespace"),
        "{failed}"
    );
    let failed = as_nobody(&program, "does_not_know_its_name");
    let failed = failed.expect_err("no such test");
    assert!(failed.contains("is not the name of the test"), "{failed}");
}
