//! TUN against the kernel, each test in a network namespace of its own. Needs root; says so when it cannot run.

#![cfg(target_os = "linux")]

mod namespace;
mod packets;

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use futures::TryStreamExt;
use netlink_packet_route::link::LinkAttribute;
use tidewire_netdev::linux::{Tun, TunConfig};
use tidewire_netdev::{Checksum, OffloadSet, Packet, Segmentation, SegmentationKind};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};

use namespace::{Link, in_namespace};
use packets::{Fill, ICMP, ICMPV6, Parsed, TCP, UDP};

/// What a removed interface's descriptor gives (`include/uapi/asm-generic/errno.h`).
const EBADFD: i32 = 77;

const ADDRESSES: [&str; 2] = ["10.9.0.1/24", "fd09::1/64"];
/// The kernel's address and ours, in both families.
const PAIRS: [(&str, &str); 2] = [("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2")];

fn pair((kernel, ours): (&str, &str)) -> (IpAddr, IpAddr) {
    (
        kernel.parse().expect("address"),
        ours.parse().expect("address"),
    )
}

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

async fn link(config: TunConfig) -> Link {
    Link::new(Tun::open(config).expect("opened"), &ADDRESSES).await
}

fn payload(len: usize) -> Bytes {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
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
        let (mtu, queue_len) = settings("tw0").await;
        assert_eq!((mtu, queue_len), (9_000, 10_000));
        let device = tun.into_device().expect("registered");
        assert_eq!(device.name, "tw0");
        assert_eq!(device.capabilities.mtu, 9_000);
        assert_eq!(device.capabilities.max_super_packet, 65_535);
    });
}

/// The interface's MTU and queue length, as the kernel's netlink side has them.
async fn settings(name: &str) -> (u32, u32) {
    let (connection, netlink, _) = rtnetlink::new_connection().expect("a netlink socket");
    tokio::spawn(connection);
    let mut links = netlink.link().get().match_name(name).execute();
    let link = links.try_next().await.expect("answered").expect("exists");
    let (mut mtu, mut queue_len) = (0, 0);
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::Mtu(octets) => mtu = octets,
            LinkAttribute::TxQueueLen(packets) => queue_len = packets,
            _ => {}
        }
    }
    (mtu, queue_len)
}

#[test]
fn an_unusable_interface_is_explained() {
    in_namespace(|| async {
        let named = |name: &str| TunConfig {
            name: Some(name.to_owned()),
            ..TunConfig::default()
        };
        let _holder = Tun::open(named("tw0")).expect("opened");
        let oversized = TunConfig {
            mtu: Some(100_000),
            ..named("tw1")
        };
        for (config, kind) in [
            (named("tw0"), io::ErrorKind::ResourceBusy),
            (named("lo"), io::ErrorKind::InvalidInput),
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
            let mut link = link(config).await;
            for (kernel, ours) in PAIRS.map(pair) {
                let request = packets::echo_request(ours, kernel, b"tide");
                link.transmit(request).await.expect("sent");
                let protocol = if kernel.is_ipv4() { ICMP } else { ICMPV6 };
                let reply_type = if kernel.is_ipv4() { 0 } else { 129 };
                let reply = loop {
                    let (_, parsed) = link.receive_protocol(protocol).await;
                    if parsed.transport[0] == reply_type {
                        break parsed;
                    }
                };
                assert_eq!((reply.from, reply.to), (kernel, ours));
                assert_eq!(&reply.transport[8..], b"tide");
                assert!(reply.checksum_is_right());
            }
        }
    });
}

#[test]
fn datagrams_pass_both_ways_with_the_checksum_state_agreed_on() {
    in_namespace(|| async {
        for config in modes() {
            let mut link = link(config).await;
            let offloads = link.capabilities.offloads;
            for (kernel, ours) in PAIRS.map(pair) {
                let socket = UdpSocket::bind((kernel, 0)).await.expect("bound");
                let port = socket.local_addr().expect("bound").port();
                let fill = if offloads.checksum {
                    Fill::Partial
                } else {
                    Fill::Complete
                };
                let datagram = packets::udp((ours, 7), (kernel, port), payload(999), fill);
                link.transmit(datagram).await.expect("sent");
                let mut buffer = [0; 2_000];
                // The kernel drops a datagram whose checksum is wrong, so that arriving is the assertion.
                let (len, from) = socket.recv_from(&mut buffer).await.expect("received");
                assert_eq!((&buffer[..len], from.port()), (&payload(999)[..], 7));

                socket.send_to(&payload(555), from).await.expect("sent");
                let (packet, parsed) = link.receive_protocol(UDP).await;
                assert_eq!((parsed.from, parsed.to), (kernel, ours));
                assert_eq!((parsed.u16_at(0), parsed.u16_at(2)), (port, 7));
                assert_eq!(&parsed.transport[8..], &payload(555)[..]);
                let start = if kernel.is_ipv4() { 20 } else { 40 };
                if offloads.checksum {
                    // NEEDS_CSUM: the field holds the pseudo-header's sum alone.
                    assert_eq!(
                        packet.offload.checksum,
                        Checksum::Partial { start, offset: 6 }
                    );
                    let pseudo = packets::pseudo_header_sum(kernel, ours, UDP, 8 + 555);
                    assert_eq!(u32::from(parsed.u16_at(6)), pseudo);
                } else {
                    assert_eq!(packet.offload.checksum, Checksum::Unverified);
                    assert!(parsed.checksum_is_right());
                }
            }
        }
    });
}

#[test]
fn the_kernel_cuts_a_udp_super_packet() {
    in_namespace(|| async {
        let link = link(TunConfig::default()).await;
        let offloads = link.capabilities.offloads;
        for (kernel, ours) in PAIRS.map(pair) {
            if !offloads.uso4 {
                return;
            }
            let socket = UdpSocket::bind((kernel, 7)).await.expect("bound");
            let whole = payload(64_000);
            let packet = packets::udp((ours, 9), (kernel, 7), whole.clone(), Fill::Partial);
            // More slices than fit inline, fewer than `writev` takes.
            let mut packet = sliced(&packet, 977);
            packet.offload.segmentation = Some(Segmentation {
                kind: SegmentationKind::Udp,
                segment_size: 1_400,
                ecn: false,
            });
            link.transmit(packet).await.expect("sent");
            let mut received = Vec::new();
            let mut buffer = [0; 2_000];
            while received.len() < whole.len() {
                let len = socket.recv(&mut buffer).await.expect("received");
                assert!(len == 1_400 || received.len() + len == whole.len(), "{len}");
                received.extend_from_slice(&buffer[..len]);
            }
            assert!(received == whole, "every datagram in order");
        }
    });
}

/// The same packet with its payload in slices of `len` octets.
fn sliced(packet: &Packet, len: usize) -> Packet {
    let mut result = Packet::new();
    for slice in packet.body() {
        for start in (0..slice.len()).step_by(len) {
            result.push(slice.slice(start..slice.len().min(start + len)));
        }
    }
    result
        .prepend(packet.head().len())
        .copy_from_slice(packet.head());
    result.offload = packet.offload;
    result
}

#[test]
fn a_packet_of_thousands_of_slices_goes_out_whole() {
    in_namespace(|| async {
        for config in modes() {
            let link = link(config).await;
            let (kernel, ours) = pair(PAIRS[0]);
            let socket = UdpSocket::bind((kernel, 7)).await.expect("bound");
            let whole = payload(1_400);
            let complete = packets::udp((ours, 9), (kernel, 7), whole.clone(), Fill::Complete);
            let packet = sliced(&complete, 1);
            link.transmit(packet).await.expect("sent");
            let mut buffer = [0; 2_000];
            let len = socket.recv(&mut buffer).await.expect("received");
            assert!(buffer[..len] == whole);
        }
    });
}

/// A TCP receiver just good enough to make the kernel's window grow: acknowledges everything in order.
#[test]
fn the_kernel_sends_tcp_super_packets_over_60_kib() {
    in_namespace(|| async {
        for (kernel, ours) in PAIRS.map(pair) {
            let mut link = link(TunConfig::default()).await;
            let sender = tokio::spawn(async move {
                let mut stream = TcpStream::connect((ours, 5001)).await.expect("connected");
                // Ends with an error when the test has seen enough and the device goes away.
                while stream.write_all(&[7; 262_144]).await.is_ok() {}
            });
            let kind = match kernel {
                IpAddr::V4(_) => SegmentationKind::TcpV4,
                IpAddr::V6(_) => SegmentationKind::TcpV6,
            };
            let mut next = 0;
            loop {
                let (packet, segment) = link.receive_protocol(TCP).await;
                let header_len = usize::from(segment.transport[12] >> 4) * 4;
                let len = segment.transport.len() - header_len;
                assert!(matches!(
                    packet.offload.checksum,
                    Checksum::Partial { offset: 16, .. }
                ));
                assert_eq!(packet.offload.segmentation.is_some(), len > 1_400, "{len}");
                if let Some(segmentation) = packet.offload.segmentation {
                    assert_eq!(segmentation.kind, kind);
                    assert_eq!(segmentation.segment_size, 1_400);
                }
                if packet.len() > 60 * 1024 {
                    break;
                }
                let syn = segment.transport[13] & 2 != 0;
                if syn {
                    next = segment.u32_at(4).wrapping_add(1);
                } else if segment.u32_at(4) == next {
                    next = next.wrapping_add(len as u32);
                }
                let reply = acknowledge(&segment, next, syn);
                link.transmit(reply).await.expect("sent");
            }
            sender.abort();
        }
    });
}

/// SYN-ACK with an MSS of 1,400 and a window scale of 10, or a plain ACK.
fn acknowledge(segment: &Parsed, next: u32, syn: bool) -> Packet {
    let mut header = vec![0; 20];
    header[..2].copy_from_slice(&segment.u16_at(2).to_be_bytes());
    header[2..4].copy_from_slice(&segment.u16_at(0).to_be_bytes());
    header[4..8].copy_from_slice(&(1_000 + u32::from(!syn)).to_be_bytes());
    header[8..12].copy_from_slice(&next.to_be_bytes());
    header[13] = if syn { 0x12 } else { 0x10 };
    header[14..16].copy_from_slice(&u16::MAX.to_be_bytes());
    if syn {
        header.extend_from_slice(&[2, 4, 0x05, 0x78, 1, 3, 3, 10]);
    }
    header[12] = ((header.len() / 4) << 4) as u8;
    packets::transport(
        (segment.to, segment.from),
        TCP,
        header,
        16,
        Bytes::new(),
        Fill::Partial,
    )
}

#[test]
fn packets_are_cut_to_the_mtu_without_offloads() {
    in_namespace(|| async {
        for config in &modes()[1..] {
            let mut link = link(config.clone()).await;
            let (kernel, ours) = pair(PAIRS[0]);
            let socket = UdpSocket::bind((kernel, 0)).await.expect("bound");
            socket
                .send_to(&payload(4_000), (ours, 9))
                .await
                .expect("sent");
            let mut total = 0;
            while total < 4_008 {
                let mut batch = link.receive(1).await.expect("received");
                let packet = batch.pop().expect("one");
                // The kernel's router solicitations are IPv6.
                if packet.contiguous()[0] >> 4 == 4 {
                    assert!(packet.len() <= 1_500);
                    assert!(packet.offload.segmentation.is_none());
                    total += packet.len() - 20;
                }
            }
            assert_eq!(total, 4_008);
        }
    });
}

#[test]
fn a_receive_that_stopped_at_its_limit_goes_on_without_waiting() {
    in_namespace(|| async {
        let mut link = link(TunConfig::default()).await;
        let (kernel, ours) = pair(PAIRS[0]);
        let socket = UdpSocket::bind((kernel, 0)).await.expect("bound");
        for i in 0..10 {
            socket.send_to(&[i], (ours, 9)).await.expect("sent");
        }
        let mut seen = Vec::new();
        let mut batch = link.receive(3).await.expect("received");
        while seen.len() < 10 {
            assert!(batch.len() <= 3);
            for packet in batch.drain(..) {
                let parsed = Parsed::new(&packet);
                if parsed.protocol == UDP {
                    seen.push(parsed.transport[8]);
                }
            }
            if seen.len() < 10 {
                // All packets are in the kernel's queue already: no new edge will come for them.
                let mut cx = Context::from_waker(Waker::noop());
                let polled = link.receiver.poll_receive(&mut cx, &mut batch, 3);
                assert!(
                    matches!(polled, Poll::Ready(Ok(_))),
                    "after {} packets",
                    seen.len()
                );
            }
        }
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
    });
}

struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn an_idle_interface_wakes_nobody() {
    in_namespace(|| async {
        let tun = Tun::open(TunConfig::default()).expect("opened");
        // Not up: not even the kernel's own packets come.
        let mut device = tun.into_device().expect("registered");
        let wakes = Arc::new(Wakes(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&wakes));
        let mut cx = Context::from_waker(&waker);
        let mut batch = Vec::new();
        for _ in 0..20 {
            assert!(
                device
                    .receiver
                    .poll_receive(&mut cx, &mut batch, 8)
                    .is_pending()
            );
            // Lets the runtime look at its file descriptors.
            tokio::task::yield_now().await;
        }
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn packets_sent_while_the_interface_is_down_are_dropped_and_counted() {
    in_namespace(|| async {
        let tun = Tun::open(TunConfig::default()).expect("opened");
        let counters = tun.counters();
        let mut link = Link::new(tun, &ADDRESSES).await;
        let (kernel, ours) = pair(PAIRS[0]);
        link.set_up(false).await;
        for _ in 0..3 {
            let request = packets::echo_request(ours, kernel, b"lost");
            link.transmit(request).await.expect("dropped, no error");
        }
        assert_eq!(counters.snapshot().transmit_down, 3);
        link.set_up(true).await;
        link.transmit(packets::echo_request(ours, kernel, b"back"))
            .await
            .expect("sent");
        let (_, reply) = link.receive_protocol(ICMP).await;
        assert_eq!(&reply.transport[8..], b"back");
    });
}

#[test]
fn a_packet_the_kernel_refuses_does_not_hold_up_the_others() {
    in_namespace(|| async {
        let tun = Tun::open(TunConfig::default()).expect("opened");
        let counters = tun.counters();
        let mut link = Link::new(tun, &ADDRESSES).await;
        let (kernel, ours) = pair(PAIRS[0]);
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
        let (kernel, ours) = pair(PAIRS[0]);
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
        let (kernel, ours) = pair(PAIRS[0]);
        let netlink = link.netlink.clone();
        let index = link.index;
        let remover = tokio::spawn(async move {
            netlink.link().del(index).execute().await.expect("removed");
        });
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
