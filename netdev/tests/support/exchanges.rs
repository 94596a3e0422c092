//! What every device has to do with a kernel at the other end.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use tidewire_netdev::{Checksum, Packet, Receiver, Segmentation, SegmentationKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::link::{Link, pairs, receive};
use super::packets::{self, Fill, ICMP, ICMPV6, Parsed, TCP, UDP};

pub(crate) fn payload(len: usize) -> Bytes {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

/// Echo requests in both families, answered.
pub(crate) async fn pings(link: &mut Link) {
    for (kernel, ours) in pairs() {
        ping(link, (kernel, ours), b"tide").await;
    }
}

/// An echo request, answered.
pub(crate) async fn ping(link: &mut Link, (kernel, ours): (IpAddr, IpAddr), text: &[u8]) {
    let request = packets::echo_request(ours, kernel, text);
    link.transmit(request).await.expect("sent");
    let (protocol, reply_type) = match kernel {
        IpAddr::V4(_) => (ICMP, 0),
        IpAddr::V6(_) => (ICMPV6, 129),
    };
    let reply = loop {
        let (_, parsed) = link.receive_protocol(protocol).await;
        if parsed.transport[0] == reply_type {
            break parsed;
        }
    };
    assert_eq!((reply.from, reply.to), (kernel, ours));
    assert_eq!(&reply.transport[8..], text);
    assert!(reply.checksum_is_right());
}

/// Datagrams both ways. Ours leave the checksum to the device if that completes it; the kernel's come as `comes` says.
pub(crate) async fn datagrams(link: &mut Link, comes: Fill) {
    let offloads = link.capabilities.offloads;
    for (kernel, ours) in pairs() {
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
        if comes == Fill::Partial {
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

/// A super-packet of ours comes to a kernel's socket in datagrams.
pub(crate) async fn udp_super_packet_out(link: &mut Link) {
    if !link.capabilities.offloads.uso4 {
        return;
    }
    for (kernel, ours) in pairs() {
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

/// More slices than `writev` takes.
pub(crate) async fn a_thousand_slices(link: &mut Link) {
    let (kernel, ours) = pairs()[0];
    let socket = UdpSocket::bind((kernel, 7)).await.expect("bound");
    let whole = payload(1_400);
    let complete = packets::udp((ours, 9), (kernel, 7), whole.clone(), Fill::Complete);
    let packet = sliced(&complete, 1);
    link.transmit(packet).await.expect("sent");
    let mut buffer = [0; 2_000];
    let len = socket.recv(&mut buffer).await.expect("received");
    assert!(buffer[..len] == whole);
}

/// The kernel connects to us and sends: a receiver just good enough to make its window grow. Ends with a super-packet of
/// more than 60 KiB.
pub(crate) async fn tcp_super_packets_in(link: &mut Link) {
    for (kernel, ours) in pairs() {
        let sender = tokio::spawn(async move {
            let mut stream = TcpStream::connect((ours, 5001)).await.expect("connected");
            // Ends with an error when the test has seen enough and the device goes away.
            while stream.write_all(&[7; 262_144]).await.is_ok() {}
        });
        let mut next = 0;
        loop {
            let (packet, segment) = link.receive_protocol(TCP).await;
            if segment.to != ours {
                // The other family's connection is still ending.
                continue;
            }
            let header_len = usize::from(segment.transport[12] >> 4) * 4;
            let len = segment.transport.len() - header_len;
            assert!(matches!(
                packet.offload.checksum,
                Checksum::Partial { offset: 16, .. }
            ));
            assert_eq!(packet.offload.segmentation.is_some(), len > 1_400, "{len}");
            if let Some(segmentation) = packet.offload.segmentation {
                assert_eq!(segmentation.kind, tcp_kind(kernel));
                assert_eq!(segmentation.segment_size, 1_400);
            }
            if packet.len() > 60 * 1024 {
                break;
            }
            let is_syn = segment.transport[13] & 2 != 0;
            if is_syn {
                next = segment.u32_at(4).wrapping_add(1);
            } else if segment.u32_at(4) == next {
                next = next.wrapping_add(len as u32);
            }
            let reply = acknowledge(&segment, next, is_syn, Bytes::new());
            link.transmit(reply).await.expect("sent");
        }
        sender.abort();
    }
}

fn tcp_kind(address: IpAddr) -> SegmentationKind {
    match address {
        IpAddr::V4(_) => SegmentationKind::TcpV4,
        IpAddr::V6(_) => SegmentationKind::TcpV6,
    }
}

/// The kernel connects to us, and we send one super-packet that fills its window.
pub(crate) async fn tcp_super_packet_out(link: &mut Link) {
    for (kernel, ours) in pairs() {
        let whole = payload(60_000);
        let expected = whole.clone();
        let reader = tokio::spawn(async move {
            let mut stream = TcpStream::connect((ours, 5002)).await.expect("connected");
            let mut received = vec![0; expected.len()];
            stream.read_exact(&mut received).await.expect("received");
            assert!(received == expected, "as it was sent");
        });
        let syn = loop {
            let (_, segment) = link.receive_protocol(TCP).await;
            // The other family's connection is still ending.
            if segment.to == ours && segment.transport[13] & 0x12 == 2 {
                break segment;
            }
        };
        let next = syn.u32_at(4).wrapping_add(1);
        let reply = acknowledge(&syn, next, true, Bytes::new());
        link.transmit(reply).await.expect("sent");
        let mut data = acknowledge(&syn, next, false, whole);
        data.offload.segmentation = Some(Segmentation {
            kind: tcp_kind(kernel),
            segment_size: 1_400,
            ecn: false,
        });
        link.transmit(data).await.expect("sent");
        reader.await.expect("all of it");
    }
}

/// SYN-ACK with an MSS of 1,400 and a window scale of 10, or an ACK with payload.
fn acknowledge(segment: &Parsed, next: u32, is_syn: bool, payload: Bytes) -> Packet {
    let mut header = vec![0; 20];
    header[..2].copy_from_slice(&segment.u16_at(2).to_be_bytes());
    header[2..4].copy_from_slice(&segment.u16_at(0).to_be_bytes());
    header[4..8].copy_from_slice(&(1_000 + u32::from(!is_syn)).to_be_bytes());
    header[8..12].copy_from_slice(&next.to_be_bytes());
    header[13] = if is_syn { 0x12 } else { 0x10 };
    header[14..16].copy_from_slice(&u16::MAX.to_be_bytes());
    if is_syn {
        header.extend_from_slice(&[2, 4, 0x05, 0x78, 1, 3, 3, 10]);
    }
    header[12] = ((header.len() / 4) << 4) as u8;
    packets::transport(
        (segment.to, segment.from),
        TCP,
        header,
        16,
        payload,
        Fill::Partial,
    )
}

/// What a kernel that was asked for no offloads sends is wire-sized.
pub(crate) async fn fragments_in(link: &mut Link) {
    let (kernel, ours) = pairs()[0];
    let socket = UdpSocket::bind((kernel, 0)).await.expect("bound");
    socket
        .send_to(&payload(4_000), (ours, 9))
        .await
        .expect("sent");
    let mut total = 0;
    while total < 4_008 {
        let packet = link.receive(1).await.expect("received").pop();
        let packet = link.unframed(packet.expect("one"));
        // The kernel's router solicitations are IPv6.
        let Some(packet) = packet.filter(|packet| packet.contiguous()[0] >> 4 == 4) else {
            continue;
        };
        assert!(packet.len() <= 1_500);
        assert!(packet.offload.segmentation.is_none());
        total += packet.len() - 20;
    }
    assert_eq!(total, 4_008);
}

/// A receive that stopped at its limit goes on without waiting.
pub(crate) async fn limited_batches(link: &mut Link) {
    let (kernel, ours) = pairs()[0];
    let socket = UdpSocket::bind((kernel, 0)).await.expect("bound");
    for i in 0..10 {
        socket.send_to(&[i], (ours, 9)).await.expect("sent");
    }
    let mut seen = Vec::new();
    let mut batch = link.receive(3).await.expect("received");
    while seen.len() < 10 {
        assert!(batch.len() <= 3);
        for packet in batch.drain(..) {
            let Some(packet) = link.unframed(packet) else {
                continue;
            };
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
}

struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The kernel answers a flow on the queue on which it came.
pub(crate) async fn flows_come_back_on_their_queue(link: &mut Link) {
    let medium = link.capabilities.medium;
    for (kernel, ours) in pairs() {
        let socket = UdpSocket::bind((kernel, 0)).await.expect("bound");
        let to = (kernel, socket.local_addr().expect("bound").port());
        for port in 4_000..4_032 {
            let queue = usize::from(port % 2);
            let packet = packets::udp((ours, port), to, payload(9), Fill::Complete);
            let mut packets = std::collections::VecDeque::from([link.framed(packet)]);
            let more = &mut link.more_queues[0];
            let transmitter = [&link.transmitter, &more.transmitter][queue];
            transmitter.try_transmit(&mut packets).expect("sent");
            let (_, from) = socket.recv_from(&mut [0; 99]).await.expect("received");
            socket.send_to(b"back", from).await.expect("sent");
            let receiver = [&mut link.receiver, &mut more.receiver]
                .into_iter()
                .nth(queue);
            let receiver = receiver.expect("two queues");
            loop {
                let packet = receive(&mut **receiver, 1).await.expect("received").pop();
                let Some(packet) = packets::unframed(packet.expect("one"), medium) else {
                    continue;
                };
                let parsed = Parsed::new(&packet);
                if parsed.protocol == UDP {
                    assert_eq!(parsed.u16_at(2), port);
                    break;
                }
            }
        }
    }
}

/// A receiver that nothing comes to wakes nobody.
pub(crate) async fn no_wakes(receiver: &mut dyn Receiver) {
    let wakes = Arc::new(Wakes(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&wakes));
    let mut cx = Context::from_waker(&waker);
    let mut batch = Vec::new();
    for _ in 0..20 {
        assert!(receiver.poll_receive(&mut cx, &mut batch, 8).is_pending());
        // Lets the runtime look at its file descriptors.
        tokio::task::yield_now().await;
    }
    assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
}

/// A device whose interface is down says so, leaves the packets and does not spin; afterwards everything goes out.
pub(crate) async fn down_and_up(link: &mut Link) {
    let (kernel, ours) = pairs()[0];
    link.set_up(false).await;
    let requests = (0..3u8).map(|i| packets::echo_request(ours, kernel, &[i]));
    let mut queue: std::collections::VecDeque<_> =
        requests.map(|request| link.framed(request)).collect();
    let mut tries = 0;
    let started = std::time::Instant::now();
    while started.elapsed() < std::time::Duration::from_millis(350) {
        let error = link.transmitter.try_transmit(&mut queue);
        assert_eq!(
            error.expect_err("down").kind(),
            std::io::ErrorKind::NetworkDown
        );
        tries += 1;
        assert_eq!(queue.len(), 3, "nothing is lost");
        // As a driver: nothing comes meanwhile, and that is no end.
        let mut batch = Vec::new();
        tokio::select! {
            ready = std::future::poll_fn(|cx| link.transmitter.poll_transmit_ready(cx)) => ready.expect("no end"),
            end = std::future::poll_fn(|cx| link.receiver.poll_receive(cx, &mut batch, 8)) => {
                end.expect("no end");
            }
        }
    }
    assert!(tries < 30, "{tries} tries in a third of a second");
    link.set_up(true).await;
    while let Err(error) = link.transmitter.try_transmit(&mut queue) {
        assert_eq!(error.kind(), std::io::ErrorKind::NetworkDown);
        std::future::poll_fn(|cx| link.transmitter.poll_transmit_ready(cx))
            .await
            .expect("no end");
    }
    for i in 0..3 {
        let (_, reply) = link.receive_protocol(ICMP).await;
        assert_eq!(reply.transport[8..], [i]);
    }
}
