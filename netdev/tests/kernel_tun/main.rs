//! TUN against the kernel, each test in a network namespace of its own. Needs root; says so when it cannot run.

#![cfg(target_os = "linux")]

#[path = "../support/mod.rs"]
mod support;

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use tidewire_netdev::linux::{Tun, TunConfig};
use tidewire_netdev::{Checksum, OffloadSet, Packet};

use support::exchanges;
use support::link::{Kernel, Link, pairs};
use support::namespace::in_namespace;
use support::packets::{self, Fill, ICMP};

/// What a removed interface's descriptor gives (`include/uapi/asm-generic/errno.h`).
const EBADFD: i32 = 77;

/// The three ways to open: offloads, a header that asks for none, no header at all.
fn modes() -> [TunConfig; 3] {
    let offload = TunConfig::default();
    let no_offload = TunConfig {
        offload: false,
        ..TunConfig::default()
    };
    let plain = TunConfig {
        virtio_header: false,
        ..TunConfig::default()
    };
    [offload, no_offload, plain]
}

async fn link_of(tun: Tun) -> Link {
    let name = tun.name().to_owned();
    Link::new(tun.into_device().expect("registered"), &name).await
}

async fn link(config: TunConfig) -> Link {
    link_of(Tun::open(config).expect("opened")).await
}

#[test]
fn offloads_are_granted_only_when_asked_for() {
    in_namespace(|| async {
        let [offload, no_offload, plain] = modes().map(|config| Tun::open(config).expect("opened"));
        let granted = offload.offloads();
        // Every kernel since 2.6.27 grants these; USO needs 6.2.
        assert!(
            granted.checksum && granted.tso4 && granted.tso6 && granted.tso_ecn,
            "{granted:?}"
        );
        assert_eq!(granted.uso4, granted.uso6, "Linux grants both or none");
        assert_eq!(no_offload.offloads(), OffloadSet::NONE);
        assert_eq!(plain.offloads(), OffloadSet::NONE);
    });
}

#[test]
fn name_mtu_and_queue_are_configured() {
    in_namespace(|| async {
        let config = TunConfig {
            name: Some("tw%d".to_owned()),
            mtu: Some(9_000),
            ..TunConfig::default()
        };
        let tun = Tun::open(config).expect("opened");
        assert_eq!((tun.name(), tun.mtu()), ("tw0", 9_000));
        assert_eq!(Kernel::new().settings("tw0").await, (9_000, 10_000));
        let device = tun.into_device().expect("registered");
        assert_eq!(device.name, "tw0");
        assert_eq!(device.capabilities.mtu, 9_000);
        assert_eq!(device.capabilities.max_super_packet, 65_535);
    });
}

#[test]
fn an_unusable_interface_is_explained() {
    in_namespace(|| async {
        let named = |name: &str| TunConfig {
            name: Some(name.to_owned()),
            ..TunConfig::default()
        };
        let several = |name: &str, queues| TunConfig {
            queues,
            ..named(name)
        };
        let _holder = Tun::open(named("tw0")).expect("opened");
        let oversized = TunConfig {
            mtu: Some(100_000),
            ..named("tw1")
        };
        for (config, kind) in [
            (named("tw0"), io::ErrorKind::ResourceBusy),
            (named("lo"), io::ErrorKind::InvalidInput),
            (several("tw0", 2), io::ErrorKind::InvalidInput),
            (several("tw2", 0), io::ErrorKind::InvalidInput),
            (several("tw2", 257), io::ErrorKind::InvalidInput),
            (named("much-too-long-a-name"), io::ErrorKind::InvalidInput),
            (oversized, io::ErrorKind::InvalidInput),
        ] {
            let error = Tun::open(config.clone()).expect_err("unusable");
            assert_eq!(error.kind(), kind, "{config:?}: {error}");
        }
    });
}

#[test]
fn the_kernel_answers_pings() {
    in_namespace(|| async {
        for config in modes() {
            exchanges::pings(&mut link(config).await).await;
        }
    });
}

#[test]
fn datagrams_pass_both_ways_with_the_checksum_state_agreed_on() {
    in_namespace(|| async {
        for config in modes() {
            let comes = match config.offload && config.virtio_header {
                true => Fill::Partial,
                false => Fill::Complete,
            };
            exchanges::datagrams(&mut link(config).await, comes).await;
        }
    });
}

#[test]
fn the_kernel_cuts_a_udp_super_packet() {
    in_namespace(|| async {
        exchanges::udp_super_packet_out(&mut link(TunConfig::default()).await).await;
    });
}

#[test]
fn a_packet_of_thousands_of_slices_goes_out_whole() {
    in_namespace(|| async {
        for config in modes() {
            exchanges::a_thousand_slices(&mut link(config).await).await;
        }
    });
}

#[test]
fn the_kernel_sends_tcp_super_packets_over_60_kib() {
    in_namespace(|| async {
        exchanges::tcp_super_packets_in(&mut link(TunConfig::default()).await).await;
    });
}

#[test]
fn the_kernel_takes_a_tcp_super_packet() {
    in_namespace(|| async {
        exchanges::tcp_super_packet_out(&mut link(TunConfig::default()).await).await;
    });
}

#[test]
fn packets_are_cut_to_the_mtu_without_offloads() {
    in_namespace(|| async {
        for config in &modes()[1..] {
            exchanges::fragments_in(&mut link(config.clone()).await).await;
        }
    });
}

#[test]
fn the_kernel_answers_each_flow_on_its_queue() {
    in_namespace(|| async {
        for config in modes() {
            let config = TunConfig {
                queues: 2,
                ..config
            };
            let mut link = link(config).await;
            exchanges::flows_come_back_on_their_queue(&mut link).await;
        }
    });
}

#[test]
fn a_receive_that_stopped_at_its_limit_goes_on_without_waiting() {
    in_namespace(|| async {
        exchanges::limited_batches(&mut link(TunConfig::default()).await).await;
    });
}

#[test]
fn an_idle_interface_wakes_nobody() {
    in_namespace(|| async {
        let tun = Tun::open(TunConfig::default()).expect("opened");
        // Not up: not even the kernel's own packets come.
        let mut device = tun.into_device().expect("registered");
        exchanges::no_wakes(&mut *device.receiver).await;
    });
}

#[test]
fn packets_for_an_interface_that_is_down_wait_until_it_is_up() {
    in_namespace(|| async {
        for config in modes() {
            let tun = Tun::open(config).expect("opened");
            let counters = tun.counters();
            let mut link = link_of(tun).await;
            exchanges::down_and_up(&mut link).await;
            let counts = counters.snapshot();
            assert!((1..30).contains(&counts.transmit_down), "{counts:?}");
            assert_eq!(counts.transmit_refused, 0);
        }
    });
}

#[test]
fn a_packet_the_kernel_refuses_does_not_hold_up_the_others() {
    in_namespace(|| async {
        let tun = Tun::open(TunConfig::default()).expect("opened");
        let counters = tun.counters();
        let mut link = link_of(tun).await;
        let (kernel, ours) = pairs()[0];
        let neither_4_nor_6 = Packet::from_bytes(Bytes::from_static(&[0xf0; 40]));
        let mut beyond_its_end = packets::echo_request(ours, kernel, b"");
        beyond_its_end.offload.checksum = Checksum::Partial {
            start: 5_000,
            offset: 16,
        };
        let good = packets::echo_request(ours, kernel, b"good");
        let mut queue = VecDeque::from([neither_4_nor_6, beyond_its_end, good]);
        link.transmitter
            .try_transmit(&mut queue)
            .expect("all taken");
        assert!(queue.is_empty());
        assert_eq!(counters.snapshot().transmit_refused, 2);
        let (_, reply) = link.receive_protocol(ICMP).await;
        assert_eq!(&reply.transport[8..], b"good");
    });
}

#[test]
fn a_thread_without_a_runtime_can_send() {
    in_namespace(|| async {
        let mut link = link(TunConfig::default()).await;
        let (kernel, ours) = pairs()[0];
        let mut queue = VecDeque::from([packets::echo_request(ours, kernel, b"thread")]);
        std::thread::scope(|scope| {
            let sent = scope
                .spawn(|| link.transmitter.try_transmit(&mut queue))
                .join();
            sent.expect("no panic").expect("sent");
        });
        let (_, reply) = link.receive_protocol(ICMP).await;
        assert_eq!(&reply.transport[8..], b"thread");
    });
}

#[test]
fn removing_the_interface_ends_both_halves() {
    in_namespace(|| async {
        let mut link = link(TunConfig::default()).await;
        let (kernel, ours) = pairs()[0];
        let name = link.name.clone();
        let remover = tokio::spawn(async move { Kernel::new().remove(&name).await });
        // Waiting, as a driver does, not polling again and again.
        while link.receive(8).await.is_ok() {}
        remover.await.expect("removed");
        let error = link
            .transmit(packets::echo_request(ours, kernel, b""))
            .await;
        assert_eq!(error.expect_err("gone").raw_os_error(), Some(EBADFD));
        assert!(link.receive(8).await.is_err(), "and stays so");
    });
}

#[test]
fn outside_a_runtime_a_device_is_an_error() {
    in_namespace(|| async {
        let outside = std::thread::spawn(|| {
            let tun = Tun::open(TunConfig::default()).expect("opened");
            tun.into_device()
                .map(drop)
                .expect_err("no runtime")
                .to_string()
        });
        let text = outside.join().expect("no panic");
        assert!(text.contains("no reactor running"), "{text}");
    });
}
