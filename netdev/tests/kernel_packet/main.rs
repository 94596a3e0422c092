//! AF_PACKET against the kernel, each test in a network namespace of its own. Needs root; says so when it cannot run.
//!
//! The device is on one end of a veth, `near`; the kernel has its addresses on the other, `far`.

#![cfg(target_os = "linux")]

mod fanout;
mod measure;
mod pressure;
#[path = "../support/mod.rs"]
mod support;

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tidewire_netdev::crc32c::{Crc32c, sctp_is_intact};
use tidewire_netdev::linux::{PacketConfig, PacketSocket, Tap, TapConfig};
use tidewire_netdev::segmentation::complete_checksum;
use tidewire_netdev::{Checksum, Device, MacAddress, Medium, OffloadSet, Packet};

use support::exchanges::{self, payload};
use support::link::{Kernel, Link, OUR_MAC, pairs, receive};
use support::namespace::in_namespace;
use support::packets::{self, Fill, ICMP};

/// The four ways to open.
fn modes() -> [PacketConfig; 4] {
    [(true, false), (false, false), (true, true), (false, true)].map(|(offload, ring)| {
        PacketConfig {
            offload,
            ring,
            ..PacketConfig::new("near")
        }
    })
}

fn open(config: PacketConfig) -> Device {
    let socket = PacketSocket::open(config).expect("opened");
    socket.into_device().expect("registered")
}

/// A new veth, with the device on it.
async fn link(config: PacketConfig) -> Link {
    Kernel::new().add_veth("near", "far").await;
    Link::new(open(config), "far").await
}

async fn remove(link: Link) {
    link.kernel.remove("near").await;
}

/// Everything that has come.
fn drain(device: &mut Device) -> Vec<Packet> {
    let mut batch = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    while let Poll::Ready(result) = device.receiver.poll_receive(&mut cx, &mut batch, 64) {
        result.expect("no end");
    }
    batch
}

#[test]
fn a_packet_socket_is_what_its_interface_is() {
    in_namespace(|| async {
        let kernel = Kernel::new();
        kernel.add_veth("near", "far").await;
        let own = kernel.hardware_address("near").await;
        for (config, mtu, address) in [
            (PacketConfig::new("near"), 1_500, own),
            (
                PacketConfig {
                    offload: false,
                    mtu: Some(1_280),
                    hardware_address: Some(OUR_MAC),
                    queues: 2,
                    ..PacketConfig::new("near")
                },
                1_280,
                OUR_MAC,
            ),
        ] {
            let socket = PacketSocket::open(config.clone()).expect("opened");
            assert_eq!((socket.name(), socket.mtu()), ("near", mtu));
            assert_eq!(socket.hardware_address(), address);
            let device = socket.into_device().expect("registered");
            assert_eq!(device.queue_count(), config.queues);
            assert_eq!(device.hardware_address, Some(address));
            let capabilities = &device.capabilities;
            assert_eq!(capabilities.medium, Medium::Ethernet);
            assert_eq!(capabilities.max_super_packet, 65_535);
            if config.offload {
                let granted = capabilities.offloads;
                assert!(granted.checksum && granted.tso4 && granted.tso6 && granted.tso_ecn);
            } else {
                assert_eq!(capabilities.offloads, OffloadSet::NONE);
            }
        }
        let config = PacketConfig {
            mtu: Some(1_501),
            ..PacketConfig::new("near")
        };
        let error = PacketSocket::open(config).expect_err("larger than the link's");
        assert!(error.to_string().contains("mtu 1501"), "{error}");
    });
}

#[test]
fn the_kernel_answers_pings() {
    in_namespace(|| async {
        for config in modes() {
            let mut link = link(config).await;
            exchanges::pings(&mut link).await;
            remove(link).await;
        }
    });
}

#[test]
fn datagrams_pass_both_ways_and_come_with_partial_checksums() {
    in_namespace(|| async {
        for config in modes() {
            let mut link = link(config).await;
            exchanges::datagrams(&mut link, Fill::Partial).await;
            remove(link).await;
        }
    });
}

#[test]
fn a_peer_without_offloads_sends_complete_checksums() {
    in_namespace(|| async {
        for config in modes() {
            let kernel = Kernel::new();
            kernel.add_veth("near", "far").await;
            let mut near = open(config);
            let far = open(PacketConfig {
                offload: false,
                ..PacketConfig::new("far")
            });
            let mac = near.hardware_address.expect("the interface's");
            for (from, to) in pairs() {
                let mut packet = packets::udp((from, 1), (to, 2), payload(1_400), Fill::Complete);
                packets::frame(&mut packet, mac, OUR_MAC);
                let expected = packet.to_bytes();
                far.transmitter
                    .try_transmit(&mut VecDeque::from([packet]))
                    .expect("sent");
                loop {
                    let came = receive(&mut *near.receiver, 1).await.expect("received");
                    if came[0].to_bytes() == expected {
                        assert_eq!(came[0].offload, Default::default());
                        break;
                    }
                }
            }
            kernel.remove("near").await;
        }
    });
}

#[test]
fn an_open_sctp_checksum_is_as_good_as_a_right_one_and_completed_with_a_crc() {
    // What Linux's SCTP sends through a veth: the far end stands in for it, since few kernels have it.
    in_namespace(|| async {
        for config in modes() {
            let kernel = Kernel::new();
            kernel.add_veth("near", "far").await;
            let mut near = open(config);
            let far = open(PacketConfig::new("far"));
            let mac = near.hardware_address.expect("the interface's");
            for (from, to) in pairs() {
                let mut packet = packets::sctp((from, 1), (to, 2), payload(1_400));
                packets::frame(&mut packet, mac, OUR_MAC);
                let (sent, offload) = (packet.to_bytes(), packet.offload);
                far.transmitter
                    .try_transmit(&mut VecDeque::from([packet]))
                    .expect("sent");
                let mut came = loop {
                    let came = receive(&mut *near.receiver, 1).await.expect("received");
                    if came[0].to_bytes() == sent {
                        break came[0].clone();
                    }
                };
                assert_eq!(came.offload, offload);
                let transport = if from.is_ipv4() { 34 } else { 54 };
                assert!(sctp_is_intact(&came, transport));
                complete_checksum(&mut came).expect("a whole header");
                assert_eq!(came.offload.checksum, Checksum::Unverified);
                assert!(sctp_is_intact(&came, transport));
                let mut expected = sent.to_vec();
                expected[transport + 8..transport + 12].fill(0);
                let mut crc = Crc32c::new();
                crc.add_bytes(&expected[transport..]);
                expected[transport + 8..transport + 12]
                    .copy_from_slice(&crc.finish().to_le_bytes());
                assert_eq!(came.to_bytes(), expected);
            }
            kernel.remove("near").await;
        }
    });
}

#[test]
fn super_packets_go_out() {
    in_namespace(|| async {
        for config in modes().into_iter().filter(|config| config.offload) {
            let mut link = link(config).await;
            exchanges::udp_super_packet_out(&mut link).await;
            exchanges::tcp_super_packet_out(&mut link).await;
            exchanges::a_thousand_slices(&mut link).await;
            remove(link).await;
        }
    });
}

#[test]
fn super_packets_come_in_whether_we_offload_or_not() {
    in_namespace(|| async {
        for config in modes() {
            let mut link = link(config).await;
            exchanges::tcp_super_packets_in(&mut link).await;
            remove(link).await;
        }
    });
}

#[test]
fn a_super_packet_between_two_packet_sockets_keeps_its_metadata() {
    in_namespace(|| async {
        for config in modes() {
            let kernel = Kernel::new();
            kernel.add_veth("near", "far").await;
            let mut near = open(config);
            let far = open(PacketConfig::new("far"));
            let mac = near.hardware_address.expect("the interface's");
            for (from, to) in pairs() {
                let mut packet = packets::udp((from, 1), (to, 2), payload(65_000), Fill::Partial);
                packet.offload.segmentation = Some(tidewire_netdev::Segmentation {
                    kind: tidewire_netdev::SegmentationKind::Udp,
                    segment_size: 1_300,
                    ecn: false,
                });
                packets::frame(&mut packet, mac, OUR_MAC);
                let mut queue = VecDeque::from([packet.clone()]);
                far.transmitter.try_transmit(&mut queue).expect("sent");
                loop {
                    let came = receive(&mut *near.receiver, 1).await.expect("received");
                    if came[0].len() > 1_500 {
                        assert_eq!(came[0].offload, packet.offload);
                        assert!(came[0].to_bytes() == packet.to_bytes());
                        break;
                    }
                }
            }
            kernel.remove("near").await;
        }
    });
}

#[test]
fn only_what_a_station_receives_comes() {
    in_namespace(|| async {
        for ring in [false, true] {
            for foreign in [None, Some(OUR_MAC)] {
                let kernel = Kernel::new();
                kernel.add_veth("near", "far").await;
                let mut near = open(PacketConfig {
                    ring,
                    hardware_address: foreign,
                    ..PacketConfig::new("near")
                });
                let far = open(PacketConfig::new("far"));
                let mac = near.hardware_address.expect("the interface's");
                let (from, to) = pairs()[0];
                let marked = |mark: u8, destination| {
                    let mut packet =
                        packets::udp((from, 1), (to, 2), Bytes::from(vec![mark]), Fill::Complete);
                    packets::frame(&mut packet, destination, OUR_MAC);
                    packet
                };
                let group = MacAddress([0x33, 0x33, 0xff, 1, 2, 3]);
                let other = MacAddress([2, 0, 0, 0, 0, 0x99]);
                let mut outgoing = VecDeque::from([marked(1, mac), marked(2, group)]);
                near.transmitter.try_transmit(&mut outgoing).expect("sent");
                let mut incoming = VecDeque::from([
                    marked(3, other),
                    marked(4, MacAddress::BROADCAST),
                    marked(5, group),
                    marked(6, mac),
                ]);
                far.transmitter.try_transmit(&mut incoming).expect("sent");
                let mut marks = Vec::new();
                while marks.last() != Some(&6) {
                    for packet in receive(&mut *near.receiver, 8).await.expect("received") {
                        let octets = packet.to_bytes();
                        if octets.len() == 14 + 20 + 8 + 1 {
                            marks.push(octets[42]);
                        }
                    }
                }
                assert_eq!(marks, [4, 5, 6], "ring: {ring}, {foreign:?}");
                kernel.remove("near").await;
            }
        }
    });
}

#[test]
fn a_receive_that_stopped_at_its_limit_goes_on_without_waiting() {
    in_namespace(|| async {
        let mut link = link(PacketConfig::new("near")).await;
        exchanges::limited_batches(&mut link).await;
    });
}

#[test]
fn a_ring_is_read_in_batches_and_across_its_blocks() {
    in_namespace(|| async {
        let kernel = Kernel::new();
        kernel.add_veth("near", "far").await;
        let mut near = open(PacketConfig {
            ring: true,
            receive_buffer: 4 << 20,
            ..PacketConfig::new("near")
        });
        let far = open(PacketConfig::new("far"));
        let mac = near.hardware_address.expect("the interface's");
        let (from, to) = pairs()[0];
        // Three times around the ring: each round ends a block at least, by the timer.
        let mut expected = 0u32;
        for _round in 0..12 {
            let mut queue: VecDeque<_> = (0..300u32)
                .map(|i| {
                    let mut octets = payload(1_400).to_vec();
                    octets[..4].copy_from_slice(&(expected + i).to_be_bytes());
                    let packet = packets::udp((from, 1), (to, 2), octets.into(), Fill::Complete);
                    let mut frame = packet;
                    packets::frame(&mut frame, mac, OUR_MAC);
                    frame
                })
                .collect();
            far.transmitter.try_transmit(&mut queue).expect("sent");
            let end = expected + 300;
            while expected < end {
                for packet in receive(&mut *near.receiver, 7).await.expect("received") {
                    let octets = packet.to_bytes();
                    if octets.len() == 14 + 28 + 1_400 {
                        assert_eq!(octets[42..46], expected.to_be_bytes());
                        assert!(octets[46..] == payload(1_400)[4..]);
                        expected += 1;
                    }
                }
            }
        }
    });
}

#[test]
fn an_idle_interface_wakes_nobody() {
    in_namespace(|| async {
        for config in modes() {
            let kernel = Kernel::new();
            kernel.add_veth("near", "far").await;
            // The kernel's own packets (router solicitations) shall not come.
            std::fs::write("/proc/sys/net/ipv6/conf/far/disable_ipv6", "1").expect("written");
            let mut device = open(config);
            tokio::time::sleep(Duration::from_millis(5)).await;
            drain(&mut device);
            exchanges::no_wakes(&mut *device.receiver).await;
            kernel.remove("near").await;
        }
    });
}

#[test]
fn packets_for_an_interface_that_is_down_wait_until_it_is_up() {
    in_namespace(|| async {
        for config in modes() {
            Kernel::new().add_veth("near", "far").await;
            let socket = PacketSocket::open(config).expect("opened");
            let counters = socket.counters();
            let mut link = Link::new(socket.into_device().expect("registered"), "far").await;
            // Twice: errors that tokio remembers must not make it spin.
            exchanges::down_and_up(&mut link).await;
            exchanges::down_and_up(&mut link).await;
            let counts = counters.snapshot();
            assert!((2..60).contains(&counts.transmit_down), "{counts:?}");
            assert_eq!(counts.transmit_refused, 0);
            exchanges::ping(&mut link, pairs()[0], b"and so on").await;
            remove(link).await;
        }
    });
}

#[test]
fn an_interface_may_be_down_when_it_is_opened() {
    in_namespace(|| async {
        for config in modes() {
            let kernel = Kernel::new();
            kernel.add_veth("near", "far").await;
            kernel.set_up("near", false).await;
            let device = open(PacketConfig {
                queues: 2,
                ..config
            });
            // Link::new brings it up.
            let mut link = Link::new(device, "far").await;
            let (kernels, ours) = pairs()[0];
            let request = packets::echo_request(ours, kernels, b"up");
            link.transmit(request).await.expect("sent");
            let mut second = link.more_queues.pop().expect("two queues");
            let reply = async |receiver: &mut dyn tidewire_netdev::Receiver| loop {
                let packet = receive(receiver, 1).await.expect("received").pop();
                let packet = packets::unframed(packet.expect("one"), Medium::Ethernet);
                let Some(packet) = packet else { continue };
                if packets::Parsed::new(&packet).protocol == ICMP {
                    break;
                }
            };
            tokio::select! {
                () = reply(&mut *link.receiver) => {}
                () = reply(&mut *second.receiver) => {}
            }
            remove(link).await;
        }
    });
}

#[test]
fn removing_the_interface_ends_every_half() {
    in_namespace(|| async {
        for config in modes() {
            for is_down in [false, true] {
                for removed in ["near", "far"] {
                    let config = PacketConfig {
                        queues: 2,
                        ..config.clone()
                    };
                    let mut link = link(config).await;
                    if is_down {
                        link.set_up(false).await;
                    }
                    let remover = tokio::spawn(async move {
                        // By then both wait.
                        tokio::time::sleep(Duration::from_millis(150)).await;
                        Kernel::new().remove(removed).await;
                    });
                    let mut second = link.more_queues.pop().expect("two queues");
                    let ends =
                        tokio::join!(async { while link.receive(8).await.is_ok() {} }, async {
                            while receive(&mut *second.receiver, 8).await.is_ok() {}
                        },);
                    assert_eq!(ends, ((), ()));
                    remover.await.expect("removed");
                    let (kernel, ours) = pairs()[0];
                    let request = packets::echo_request(ours, kernel, b"");
                    let error = link.transmit(request).await.expect_err("gone");
                    // ENXIO: the socket is bound to nothing.
                    assert_eq!(error.raw_os_error(), Some(6), "{error}");
                    assert!(link.receive(8).await.is_err(), "and stays so");
                }
            }
        }
    });
}

#[test]
fn a_packet_the_kernel_refuses_does_not_hold_up_the_others() {
    in_namespace(|| async {
        Kernel::new().add_veth("near", "far").await;
        let socket = PacketSocket::open(PacketConfig::new("near")).expect("opened");
        let counters = socket.counters();
        let mut link = Link::new(socket.into_device().expect("registered"), "far").await;
        let (kernel, ours) = pairs()[0];
        let too_short = Packet::from_bytes(Bytes::from_static(&[0xff; 9]));
        let too_long = packets::udp((ours, 1), (kernel, 2), payload(1_473), Fill::Complete);
        let mut beyond_its_end = packets::echo_request(ours, kernel, b"");
        beyond_its_end.offload.checksum = tidewire_netdev::Checksum::Partial {
            start: 5_000,
            offset: 16,
        };
        let good = packets::echo_request(ours, kernel, b"good");
        let mut queue = VecDeque::from([
            too_short,
            link.framed(too_long),
            link.framed(beyond_its_end),
            link.framed(good),
        ]);
        link.transmitter
            .try_transmit(&mut queue)
            .expect("all taken");
        assert!(queue.is_empty());
        assert_eq!(counters.snapshot().transmit_refused, 3);
        let (_, reply) = link.receive_protocol(ICMP).await;
        assert_eq!(&reply.transport[8..], b"good");
    });
}

#[test]
fn a_thread_without_a_runtime_can_send() {
    in_namespace(|| async {
        let mut link = link(PacketConfig::new("near")).await;
        let (kernel, ours) = pairs()[0];
        let request = link.framed(packets::echo_request(ours, kernel, b"thread"));
        let mut queue = VecDeque::from([request]);
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
fn devices_that_end_leave_no_descriptor_and_no_mapping() {
    in_namespace(|| async {
        let descriptors = || {
            let mut names = Vec::new();
            for entry in std::fs::read_dir("/proc/self/fd").expect("readable") {
                let path = entry.expect("an entry").path();
                names.extend(std::fs::read_link(path).ok());
            }
            names
        };
        let rings = || {
            let maps = std::fs::read_to_string("/proc/self/maps").expect("readable");
            maps.matches("socket:").count()
        };
        let kernel = Kernel::new();
        kernel.add_veth("near", "far").await;
        let before = (descriptors().len(), rings());
        for config in modes() {
            let config = PacketConfig {
                queues: 4,
                ..config
            };
            let device = open(config.clone());
            assert_eq!(descriptors().len(), before.0 + 4);
            assert_eq!(rings(), if config.ring { 4 } else { 0 });
            drop(device);
            // One that never met a runtime, and one of several queues that could not be opened.
            drop(PacketSocket::open(config).expect("opened"));
            let tap = TapConfig {
                queues: 4,
                ..TapConfig::default()
            };
            drop(Tap::open(tap).expect("opened").into_device());
        }
        assert_eq!((descriptors().len(), rings()), before);
    });
}

#[test]
fn outside_a_runtime_a_device_is_an_error() {
    in_namespace(|| async {
        Kernel::new().add_veth("near", "far").await;
        // A thread started here is in the namespace, too.
        let outside = std::thread::spawn(|| {
            let socket = PacketSocket::open(PacketConfig::new("near")).expect("opened");
            let error: io::Error = socket.into_device().map(drop).expect_err("no runtime");
            error.to_string()
        });
        let text = outside.join().expect("no panic");
        assert!(text.contains("no reactor running"), "{text}");
    });
}
