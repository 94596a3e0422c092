//! The fixture itself: a namespace is empty, and its counters and settings are its own.

#![cfg(target_os = "linux")]

use std::time::Duration;

use tidewire_integration_tests::namespace::{self, Counters, Flavor, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_namespace_has_counters_of_its_own() {
    for flavor in [Flavor::CurrentThread, Flavor::Workers(2)] {
        run(
            "a_namespace_has_counters_of_its_own",
            flavor,
            LIMIT,
            async || {
                let before = Counters::read();
                assert_eq!(before.value("TcpActiveOpens"), 0, "nobody was here before");
                let listener = TcpListener::bind("127.0.0.1:80").await.expect("free");
                let address = listener.local_addr().expect("bound");
                let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
                let (mut client, mut server) =
                    (client.expect("connected"), server.expect("accepted").0);
                client.write_all(b"abc").await.expect("written");
                drop(client);
                let mut text = String::new();
                server.read_to_string(&mut text).await.expect("read");
                assert_eq!(text, "abc");
                let after = Counters::read();
                assert_eq!(after.since(&before, "TcpActiveOpens"), 1);
                assert_eq!(after.since(&before, "TcpInErrs"), 0);
                assert!(after.changes(&before).contains("TcpActiveOpens +1"));
            },
        );
    }
}

#[test]
fn settings_of_a_namespace_are_its_own() {
    for forward in ["0", "1"] {
        run(
            "settings_of_a_namespace_are_its_own",
            Flavor::CurrentThread,
            LIMIT,
            async move || {
                let path = "/proc/sys/net/ipv4/ip_forward";
                namespace::set_sysctl("ipv4/ip_forward", forward);
                let value = std::fs::read_to_string(path).expect("readable");
                assert_eq!(value.trim(), forward);
            },
        );
    }
}

#[test]
#[should_panic(expected = "took longer than")]
fn a_body_that_takes_too_long_fails() {
    if tidewire_integration_tests::requirements::missing_root().is_some() {
        panic!("took longer than anybody waited: skipped without root");
    }
    let limit = Duration::from_millis(50);
    run(
        "a_body_that_takes_too_long_fails",
        Flavor::CurrentThread,
        limit,
        std::future::pending,
    );
}
