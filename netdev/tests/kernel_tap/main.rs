//! TAP against the kernel, each test in a network namespace of its own. Needs root; says so when it cannot run.

#![cfg(target_os = "linux")]

#[path = "../support/mod.rs"]
mod support;

use std::io;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tidewire_netdev::linux::{PacketConfig, PacketSocket, Tap, TapConfig, Tun, TunConfig};
use tidewire_netdev::{Checksum, MacAddress, Medium, OffloadSet, Packet, Transmitter};

use support::exchanges;
use support::link::{Kernel, Link, OUR_MAC, pairs};
use support::namespace::in_namespace;
use support::packets::{self, Fill, UDP};

/// The three ways to open: offloads, a header that asks for none, no header at all.
fn modes() -> [TapConfig; 3] {
    let offload = TapConfig::default();
    let no_offload = TapConfig {
        offload: false,
        ..TapConfig::default()
    };
    let plain = TapConfig {
        virtio_header: false,
        ..TapConfig::default()
    };
    [offload, no_offload, plain]
}

async fn link(config: TapConfig) -> Link {
    let tap = Tap::open(config).expect("opened");
    let name = tap.name().to_owned();
    Link::new(tap.into_device().expect("registered"), &name).await
}

#[test]
fn a_tap_is_an_ethernet_device_with_the_offloads_of_a_tun() {
    in_namespace(|| async {
        let [offload, no_offload, plain] = modes().map(|config| Tap::open(config).expect("opened"));
        let tun = Tun::open(TunConfig::default()).expect("opened");
        assert_eq!(offload.offloads(), tun.offloads());
        assert!(offload.offloads().checksum && offload.offloads().tso6);
        assert_eq!(no_offload.offloads(), OffloadSet::NONE);
        assert_eq!(plain.offloads(), OffloadSet::NONE);
        let device = offload.into_device().expect("registered");
        assert_eq!(device.capabilities.medium, Medium::Ethernet);
        assert_eq!(device.capabilities.mtu, 1_500);
    });
}

#[test]
fn name_mtu_queue_and_hardware_address_are_configured() {
    in_namespace(|| async {
        let config = TapConfig {
            name: Some("twt%d".to_owned()),
            mtu: Some(9_000),
            hardware_address: Some(OUR_MAC),
            queues: 3,
            ..TapConfig::default()
        };
        let tap = Tap::open(config).expect("opened");
        assert_eq!((tap.name(), tap.mtu()), ("twt0", 9_000));
        let kernel = Kernel::new();
        assert_eq!(kernel.settings("twt0").await, (9_000, 10_000));
        assert_ne!(kernel.hardware_address("twt0").await, OUR_MAC);
        let device = tap.into_device().expect("registered");
        assert_eq!(device.hardware_address, Some(OUR_MAC));
        assert_eq!(device.queue_count(), 3);

        let anonymous = Tap::open(TapConfig::default()).expect("opened");
        let device = anonymous.into_device().expect("registered");
        assert_eq!(device.hardware_address, None, "the stack makes one up");
    });
}

#[test]
fn an_unusable_interface_is_explained() {
    in_namespace(|| async {
        let named = |name: &str| TapConfig {
            name: Some(name.to_owned()),
            ..TapConfig::default()
        };
        let config = TunConfig {
            name: Some("tw0".to_owned()),
            ..TunConfig::default()
        };
        let _tun = Tun::open(config).expect("opened");
        let _tap = Tap::open(named("twt0")).expect("opened");
        for (config, kind, advice) in [
            (named("tw0"), io::ErrorKind::InvalidInput, "is no TAP"),
            (named("twt0"), io::ErrorKind::ResourceBusy, "end that one"),
            (
                TapConfig {
                    mtu: Some(65_522),
                    ..named("twt1")
                },
                io::ErrorKind::InvalidInput,
                "68 to 65,521",
            ),
        ] {
            let error = Tap::open(config).expect_err(advice);
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(advice), "{error}");
        }
    });
}

/// An ARP request or reply for IPv4 over Ethernet (RFC 826).
fn arp(operation: u8, from: (MacAddress, [u8; 4]), to: (MacAddress, [u8; 4])) -> Packet {
    let mut frame = Vec::new();
    let broadcast = if operation == 1 {
        MacAddress::BROADCAST
    } else {
        to.0
    };
    frame.extend(broadcast.0);
    frame.extend(from.0.0);
    frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(from.0.0);
    frame.extend(from.1);
    frame.extend(to.0.0);
    frame.extend(to.1);
    Packet::from_bytes(Bytes::from(frame))
}

#[test]
fn the_kernel_answers_arp_and_asks() {
    in_namespace(|| async {
        for config in modes() {
            let tap = Tap::open(config).expect("opened");
            let name = tap.name().to_owned();
            let mut link = Link::new(tap.into_device().expect("registered"), &name).await;
            let kernels = link.kernel.hardware_address(&name).await;
            // A station that the kernel has not been told of.
            let (mac, ours) = (MacAddress([2, 0, 0, 0, 0, 9]), [10, 9, 0, 9]);
            let nobody = MacAddress([0; 6]);
            let request = arp(1, (mac, ours), (nobody, [10, 9, 0, 1]));
            let mut queue = [request].into_iter().collect();
            link.transmitter.try_transmit(&mut queue).expect("sent");
            let reply = arp(2, (kernels, [10, 9, 0, 1]), (mac, ours)).to_bytes();
            loop {
                let packet = link.receive(1).await.expect("received").pop();
                if packet.expect("one").to_bytes() == reply {
                    break;
                }
            }
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
fn super_packets_pass_both_ways() {
    in_namespace(|| async {
        exchanges::udp_super_packet_out(&mut link(TapConfig::default()).await).await;
        exchanges::tcp_super_packet_out(&mut link(TapConfig::default()).await).await;
        exchanges::tcp_super_packets_in(&mut link(TapConfig::default()).await).await;
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
fn the_largest_packet_comes_whole() {
    in_namespace(|| async {
        let config = TapConfig {
            mtu: Some(65_521),
            ..TapConfig::default()
        };
        let mut link = link(config).await;
        let (kernel, ours) = pairs()[0];
        let socket = tokio::net::UdpSocket::bind((kernel, 0))
            .await
            .expect("bound");
        let payload = exchanges::payload(65_521 - 28);
        socket.send_to(&payload, (ours, 9)).await.expect("sent");
        let (packet, parsed) = link.receive_protocol(UDP).await;
        assert_eq!(packet.len(), 65_521);
        assert!(parsed.transport[8..] == payload);
    });
}

/// A frame with the tag of a VLAN (IEEE 802.1Q).
fn tagged(frame: Packet, tci: u16) -> Packet {
    let mut octets = frame.to_bytes().to_vec();
    let [high, low] = tci.to_be_bytes();
    octets.splice(12..12, [0x81, 0x00, high, low]);
    let mut packet = Packet::from_bytes(octets.into());
    packet.offload = frame.offload;
    if let Checksum::Partial { start, .. } = &mut packet.offload.checksum {
        *start += 4;
    }
    packet
}

async fn send(transmitter: &dyn Transmitter, packet: Packet) {
    let mut queue = [packet].into_iter().collect();
    transmitter.try_transmit(&mut queue).expect("taken");
}

/// The interface's other side is a packet socket, which sees and sends what passes between kernel and TAP.
#[test]
fn frames_of_a_vlan_come_as_they_are_and_pass_no_packet_socket() {
    in_namespace(|| async {
        for config in modes() {
            let mut link = link(config).await;
            let kernels = link.kernel.hardware_address(&link.name).await;
            let socket = PacketSocket::open(PacketConfig::new(&link.name)).expect("opened");
            let mut socket = socket.into_device().expect("registered");
            let (kernel, ours) = pairs()[0];
            let datagram =
                |port, fill| packets::udp((kernel, port), (ours, 9), exchanges::payload(99), fill);
            for tci in [0x0405, 0x4005, 0x6005, 0xf000] {
                let mut frame = datagram(tci, Fill::Complete);
                packets::frame(&mut frame, OUR_MAC, kernels);
                let complete = tagged(frame, tci);
                send(&*socket.transmitter, complete.clone()).await;
                // One with a checksum to do, which says nothing of the place where it lies.
                let mut frame = datagram(tci, Fill::Partial);
                packets::frame(&mut frame, OUR_MAC, kernels);
                send(&*socket.transmitter, tagged(frame, tci)).await;
                while link.receive(1).await.expect("received")[0].to_bytes() != complete.to_bytes()
                {
                }

                let request = packets::echo_request(ours, kernel, &tci.to_be_bytes());
                let request = link.framed(request);
                send(&*link.transmitter, tagged(request.clone(), tci)).await;
                if tci != 0xf000 {
                    send(&*link.transmitter, request.clone()).await;
                }
                // The tagged one comes only if its tag is a priority's.
                let came = loop {
                    let mut batch = support::link::receive(&mut *socket.receiver, 1)
                        .await
                        .expect("received");
                    let octets = batch.pop().expect("one").to_bytes();
                    if octets[14] >> 4 == 4 {
                        break octets;
                    }
                };
                assert_eq!(came, request.to_bytes());
            }
            let mut cx = Context::from_waker(Waker::noop());
            let mut batch = Vec::new();
            while let Poll::Ready(Ok(_)) = socket.receiver.poll_receive(&mut cx, &mut batch, 9) {}
            assert!(
                batch.iter().all(|packet| packet.to_bytes()[14] >> 4 != 4),
                "{batch:?}"
            );
        }
    });
}

#[test]
fn the_kernel_answers_each_flow_on_its_queue() {
    in_namespace(|| async {
        for config in modes() {
            let config = TapConfig {
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
        exchanges::limited_batches(&mut link(TapConfig::default()).await).await;
    });
}

#[test]
fn an_idle_interface_wakes_nobody() {
    in_namespace(|| async {
        let tap = Tap::open(TapConfig::default()).expect("opened");
        let mut device = tap.into_device().expect("registered");
        exchanges::no_wakes(&mut *device.receiver).await;
    });
}

#[test]
fn packets_for_an_interface_that_is_down_wait_until_it_is_up() {
    in_namespace(|| async {
        let tap = Tap::open(TapConfig::default()).expect("opened");
        let (counters, name) = (tap.counters(), tap.name().to_owned());
        let mut link = Link::new(tap.into_device().expect("registered"), &name).await;
        exchanges::down_and_up(&mut link).await;
        assert!((1..30).contains(&counters.snapshot().transmit_down));
    });
}

#[test]
fn removing_the_interface_ends_every_queue() {
    in_namespace(|| async {
        let config = TapConfig {
            queues: 2,
            ..TapConfig::default()
        };
        let mut link = link(config).await;
        let name = link.name.clone();
        let remover = tokio::spawn(async move { Kernel::new().remove(&name).await });
        while link.receive(8).await.is_ok() {}
        let second = &mut link.more_queues[0];
        while support::link::receive(&mut *second.receiver, 8)
            .await
            .is_ok()
        {}
        remover.await.expect("removed");
        assert!(link.receive(8).await.is_err(), "and stays so");
    });
}
