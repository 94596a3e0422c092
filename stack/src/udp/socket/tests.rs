use proptest::prelude::*;
use smallvec::smallvec;
use tidewire_netdev::Payload;

use super::*;
use crate::wire::Ecn;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn peer() -> SocketAddr {
    address("10.0.0.2:53")
}

fn from(source: SocketAddr, payload: &'static [u8]) -> Datagram {
    Datagram {
        source,
        destination: address("10.0.0.1:4000"),
        payload: smallvec![Bytes::from_static(payload)],
        segment_size: 0,
        ecn: Ecn::NotEct,
    }
}

fn coalesced(payload: Payload, segment_size: usize) -> Datagram {
    Datagram {
        payload,
        segment_size,
        ..from(peer(), b"")
    }
}

fn connected() -> Socket {
    let mut socket = Socket::new(Config::default());
    socket.connect(peer()).unwrap();
    socket.take_readiness();
    socket
}

/// What the next read gives: the octets, or the error.
fn read(socket: &mut Socket) -> SocketResult<Vec<u8>> {
    let mut buffer = [0; 2048];
    let received = socket.recv(&mut buffer)?;
    Ok(buffer[..received.len].to_vec())
}

#[test]
fn a_short_buffer_truncates_and_the_rest_is_lost() {
    // TOKIO-NET: recv truncates silently; empty datagrams are Ok(0).
    for (buffer_len, len, truncated) in [(0, 0, true), (2, 2, true), (5, 5, false), (9, 5, false)] {
        let mut socket = Socket::new(Config::default());
        socket.handle_datagram(from(peer(), b"first")).unwrap();
        socket.handle_datagram(from(peer(), b"")).unwrap();
        let mut buffer = vec![0; buffer_len];
        let received = socket.recv(&mut buffer).unwrap();
        assert_eq!((received.len, received.truncated), (len, truncated));
        assert_eq!(
            (received.source, received.destination.port()),
            (peer(), 4000)
        );
        assert_eq!(buffer[..len], b"first"[..len]);
        assert_eq!(read(&mut socket), Ok(vec![]), "the empty one is a datagram");
        assert_eq!(read(&mut socket), Err(SocketError::WouldBlock));
    }
}

#[test]
fn peeking_leaves_the_datagram() {
    let mut socket = Socket::new(Config::default());
    assert_eq!(socket.peek_sender(), Err(SocketError::WouldBlock));
    socket.handle_datagram(from(peer(), b"first")).unwrap();
    let mut buffer = [0; 3];
    for _ in 0..2 {
        let received = socket.peek(&mut buffer).unwrap();
        assert_eq!(
            (received.len, received.truncated, &buffer),
            (3, true, b"fir")
        );
        assert_eq!(socket.peek_sender(), Ok(peer()));
    }
    let (bytes, received) = socket.recv_bytes().unwrap();
    assert_eq!(
        (&bytes[..], received.len, received.truncated),
        (&b"first"[..], 5, false)
    );
    assert_eq!(socket.recv_bytes().err(), Some(SocketError::WouldBlock));
}

#[test]
fn a_connected_socket_hears_its_peer_only() {
    let stranger = address("10.0.0.3:53");
    let other_port = address("10.0.0.2:54");
    let cases = [
        (None, stranger, Ok(())),
        (Some(peer()), peer(), Ok(())),
        (Some(peer()), stranger, Err(DropReason::NoSocket)),
        (Some(peer()), other_port, Err(DropReason::NoSocket)),
        // Observed on Linux 6.18: connecting to port 0 fixes the address alone.
        (Some(address("10.0.0.2:0")), other_port, Ok(())),
        (
            Some(address("10.0.0.2:0")),
            stranger,
            Err(DropReason::NoSocket),
        ),
    ];
    for (remote, source, expected) in cases {
        let mut socket = Socket::new(Config::default());
        if let Some(remote) = remote {
            socket.connect(remote).unwrap();
        }
        let result = socket.handle_datagram(from(source, b"x"));
        assert_eq!(result, expected, "{remote:?} {source}");
        assert_eq!(socket.receive_queue_len(), usize::from(expected.is_ok()));
    }
}

#[test]
fn connecting_keeps_what_waits_already() {
    // Observed on Linux 6.18.
    let mut socket = Socket::new(Config::default());
    socket
        .handle_datagram(from(address("10.0.0.3:9"), b"before"))
        .unwrap();
    socket.connect(peer()).unwrap();
    assert_eq!(read(&mut socket), Ok(b"before".to_vec()));
    socket.disconnect();
    assert_eq!(socket.remote(), None);
    assert_eq!(
        socket.handle_datagram(from(address("10.0.0.3:9"), b"after")),
        Ok(())
    );
}

#[test]
fn icmp_errors_reach_connected_sockets_when_they_are_hard() {
    let too_big = IcmpError::PacketTooBig { mtu: 1400 };
    let refused = IcmpError::Refused(SocketError::ConnectionRefused);
    let forbidden = IcmpError::Refused(SocketError::PermissionDenied);
    let unreachable = IcmpError::Unreachable(SocketError::HostUnreachable);
    let stranger = address("10.0.0.3:53");
    let cases = [
        (
            Some(peer()),
            refused,
            peer(),
            Some(SocketError::ConnectionRefused),
        ),
        (
            Some(peer()),
            forbidden,
            peer(),
            Some(SocketError::PermissionDenied),
        ),
        (
            Some(peer()),
            too_big,
            peer(),
            Some(SocketError::MessageTooLong),
        ),
        (Some(peer()), unreachable, peer(), None),
        (Some(peer()), refused, stranger, None),
        (None, refused, peer(), None),
    ];
    for (remote, icmp, destination, error) in cases {
        let mut socket = Socket::new(Config::default());
        if let Some(remote) = remote {
            socket.connect(remote).unwrap();
        }
        socket.take_readiness();
        let result = socket.handle_icmp(icmp, destination);
        assert_eq!(result.is_ok(), error.is_some(), "{icmp:?}");
        assert_eq!(
            socket.take_readiness().contains(Readiness::ERROR),
            error.is_some()
        );
        assert_eq!(socket.take_error(), error, "{icmp:?}");
        assert_eq!(socket.take_error(), None);
    }
}

#[test]
fn an_error_is_reported_once_by_whatever_comes_first() {
    // TOKIO-NET: send Ok, next operation ConnectionRefused once. Observed on Linux 6.18: also before waiting data.
    type Operation = fn(&mut Socket) -> SocketResult<()>;
    let operations: [(&str, Operation); 6] = [
        ("recv", |socket| socket.recv(&mut [0; 9]).map(drop)),
        ("recv_bytes", |socket| socket.recv_bytes().map(drop)),
        ("peek", |socket| socket.peek(&mut [0; 9]).map(drop)),
        ("peek_sender", |socket| socket.peek_sender().map(drop)),
        ("send", |socket| socket.send(Bytes::from_static(b"x"), None)),
        ("take_error", |socket| {
            socket.take_error().map_or(Ok(()), Err)
        }),
    ];
    for (name, operation) in operations {
        let mut socket = connected();
        socket.send(Bytes::from_static(b"request"), None).unwrap();
        socket.handle_datagram(from(peer(), b"waits")).unwrap();
        socket
            .handle_icmp(IcmpError::Refused(SocketError::ConnectionRefused), peer())
            .unwrap();
        assert_eq!(
            operation(&mut socket),
            Err(SocketError::ConnectionRefused),
            "{name}"
        );
        assert_eq!(operation(&mut socket), Ok(()), "{name} again");
    }
}

#[test]
fn errors_of_arguments_come_before_the_pending_one() {
    // Observed on Linux 6.18: EMSGSIZE and EINVAL leave the pending error where it is; connecting again does too.
    let long = Bytes::from(vec![0; 65_508]);
    let short = Bytes::from_static(b"x");
    let broadcast = address("255.255.255.255:9");
    let cases = [
        (long.clone(), None, SocketError::MessageTooLong),
        (long, Some(peer()), SocketError::MessageTooLong),
        (
            short.clone(),
            Some(address("10.0.0.2:0")),
            SocketError::InvalidInput,
        ),
        (short, Some(broadcast), SocketError::PermissionDenied),
    ];
    let mut socket = connected();
    socket
        .handle_icmp(IcmpError::Refused(SocketError::ConnectionRefused), peer())
        .unwrap();
    for (payload, destination, error) in cases {
        assert_eq!(socket.send(payload, destination), Err(error));
    }
    socket.connect(peer()).unwrap();
    assert_eq!(read(&mut socket), Err(SocketError::ConnectionRefused));
}

#[test]
fn destinations_are_checked_as_linux_checks_them() {
    let v4 = |len: usize| Bytes::from(vec![0; len]);
    let v6 = address("[2001:db8::1]:9");
    let broadcast = address("255.255.255.255:9");
    let cases = [
        (
            "unconnected",
            None,
            false,
            v4(1),
            Err(SocketError::DestinationRequired),
        ),
        ("largest v4", Some(peer()), false, v4(65_507), Ok(())),
        (
            "too long for v4",
            Some(peer()),
            false,
            v4(65_508),
            Err(SocketError::MessageTooLong),
        ),
        ("largest v6", Some(v6), false, v4(65_527), Ok(())),
        (
            "too long for v6",
            Some(v6),
            false,
            v4(65_528),
            Err(SocketError::MessageTooLong),
        ),
        (
            "broadcast",
            Some(broadcast),
            false,
            v4(1),
            Err(SocketError::PermissionDenied),
        ),
        ("broadcast permitted", Some(broadcast), true, v4(1), Ok(())),
    ];
    for (what, destination, may_broadcast, payload, expected) in cases {
        let mut socket = Socket::new(Config::default());
        socket.options.broadcast = may_broadcast;
        assert_eq!(socket.send(payload, destination), expected, "{what}");
        assert_eq!(
            socket.next_destination(),
            destination.filter(|_| expected.is_ok())
        );
    }
    let mut socket = Socket::new(Config::default());
    assert_eq!(
        socket.connect(broadcast),
        Err(SocketError::PermissionDenied)
    );
    assert_eq!(socket.remote(), None);
}

#[test]
fn datagrams_go_out_in_order_with_their_destinations() {
    let mut socket = connected();
    let other = address("10.0.0.9:9");
    socket.send(Bytes::from_static(b"one"), None).unwrap();
    socket.send(Bytes::from_static(b""), Some(other)).unwrap();
    let sent: Vec<_> = std::iter::from_fn(|| socket.poll_transmit())
        .map(|transmit| {
            (
                transmit.destination,
                transmit.payload.len(),
                transmit.segment_size,
            )
        })
        .collect();
    assert_eq!(sent, [(peer(), 3, None), (other, 0, None)]);
    assert!(!socket.has_transmit());
    assert_eq!(socket.send_queue_memory(), 0);
    assert_eq!(
        (socket.statistics().sent, socket.statistics().sent_octets),
        (2, 3)
    );
}

#[test]
fn segmented_sends_are_one_transmit() {
    let payload = Bytes::from(vec![0; 3000]);
    let cases = [
        (0, Err(SocketError::InvalidInput), None, 0),
        (23, Err(SocketError::InvalidInput), None, 0), // 131 datagrams
        (24, Ok(()), Some(24), 125),
        (1472, Ok(()), Some(1472), 3),
        (3000, Ok(()), None, 1),
    ];
    for (segment_size, expected, cut, count) in cases {
        let mut socket = connected();
        assert_eq!(
            socket.send_segmented(payload.clone(), segment_size, None),
            expected
        );
        let transmit = socket.poll_transmit();
        assert_eq!(transmit.and_then(|transmit| transmit.segment_size), cut);
        assert_eq!(socket.statistics().sent, count);
    }
}

#[test]
fn a_full_send_queue_blocks_until_half_of_it_is_free() {
    let mut socket = connected();
    socket.set_send_buffer(8 * OVERHEAD);
    let mut sent = 0;
    while socket.send(Bytes::new(), None).is_ok() {
        sent += 1;
    }
    assert_eq!(sent, 8);
    assert_eq!(
        socket.send(Bytes::new(), None),
        Err(SocketError::WouldBlock)
    );
    assert_eq!(socket.take_readiness(), Readiness::NONE);
    let writable_after: Vec<_> =
        std::iter::from_fn(|| socket.poll_transmit().map(|_| socket.take_readiness()))
            .enumerate()
            .filter(|(_, readiness)| readiness.contains(Readiness::WRITABLE))
            .map(|(index, _)| index + 1)
            .collect();
    assert_eq!(
        writable_after,
        [5],
        "told once, when less than half is held"
    );
}

#[test]
fn a_full_receive_queue_drops_and_counts() {
    // Observed on Linux 6.18 with the default buffer: 256 small datagrams wait.
    for (len, expected) in [(0, 256), (1, 256), (60_000, 4)] {
        let mut socket = Socket::new(Config::default());
        let payload = Bytes::from(vec![7; len]);
        let results: Vec<_> = (0..300)
            .map(|_| socket.handle_datagram(coalesced(smallvec![payload.clone()], 0)))
            .collect();
        let taken = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(taken, expected, "{len} octets");
        assert_eq!(results.last(), Some(&Err(DropReason::QueueFull)));
        let statistics = socket.statistics();
        assert_eq!(
            (statistics.received, statistics.dropped),
            (taken as u64, 300 - taken as u64)
        );
        assert!(socket.receive_queue_memory() <= Config::default().receive_buffer + OVERHEAD + len);

        // Room again as soon as one is read.
        while socket.receive_queue_memory() >= socket.receive_buffer() {
            read(&mut socket).unwrap();
        }
        assert_eq!(socket.handle_datagram(from(peer(), b"x")), Ok(()));
    }
}

#[test]
fn one_datagram_fits_whatever_the_buffer() {
    let mut socket = Socket::new(Config::default());
    socket.set_receive_buffer(0);
    assert_eq!(socket.receive_buffer(), 2304);
    let large = || coalesced(smallvec![Bytes::from(vec![1; 65_507])], 0);
    assert_eq!(socket.handle_datagram(large()), Ok(()));
    assert_eq!(socket.handle_datagram(large()), Err(DropReason::QueueFull));
}

#[test]
fn a_coalesced_datagram_is_cut_by_its_stride() {
    let mut socket = Socket::new(Config::default());
    // Three datagrams of 4, 4 and 3 octets over slices that end elsewhere.
    let payload: Payload = smallvec![
        Bytes::from_static(b"aaaab"),
        Bytes::new(),
        Bytes::from_static(b"bb"),
        Bytes::from_static(b"bccc"),
    ];
    socket
        .handle_datagram(coalesced(payload.clone(), 4))
        .unwrap();
    assert_eq!(
        (socket.receive_queue_len(), socket.statistics().received),
        (3, 3)
    );
    assert_eq!(read(&mut socket), Ok(b"aaaa".to_vec()));
    let received = socket.recv(&mut [0; 1]).unwrap();
    assert_eq!(
        (received.len, received.truncated),
        (1, true),
        "the cut of a truncated read stays"
    );
    assert_eq!(
        socket.recv_bytes().map(|(bytes, _)| bytes),
        Ok(Bytes::from_static(b"ccc"))
    );
    assert_eq!(read(&mut socket), Err(SocketError::WouldBlock));
    assert_eq!(socket.receive_queue_memory(), 0);

    socket.handle_datagram(coalesced(payload, 4)).unwrap();
    let cuts: Vec<_> = std::iter::from_fn(|| socket.recv_bytes().ok())
        .map(|(bytes, _)| bytes)
        .collect();
    assert_eq!(cuts, ["aaaa", "bbbb", "ccc"]);
}

#[test]
fn a_slow_reader_does_not_keep_shared_buffers() {
    // DESIGN section 8: small payload is copied when it piles up, so that it does not hold a device's whole block.
    let mut socket = Socket::new(Config::default());
    let block = Bytes::from(vec![7; 16_384]);
    for index in 0..100 {
        let payload = block.slice(index * 10..index * 10 + 10);
        socket
            .handle_datagram(coalesced(smallvec![payload], 0))
            .unwrap();
    }
    let shared = std::iter::from_fn(|| socket.recv_bytes().ok())
        .filter(|(bytes, _)| block.as_ptr_range().contains(&bytes.as_ptr()))
        .count();
    assert_eq!(shared, 16);
}

#[test]
fn readiness_has_an_edge_for_each_cause() {
    let mut socket = Socket::new(Config::default());
    assert_eq!(
        socket.take_readiness(),
        Readiness::WRITABLE,
        "writable from the start"
    );
    assert_eq!(socket.take_readiness(), Readiness::NONE);
    for _ in 0..2 {
        socket.handle_datagram(from(peer(), b"x")).unwrap();
        assert_eq!(socket.take_readiness(), Readiness::READABLE);
    }
    socket.connect(peer()).unwrap();
    socket
        .handle_icmp(IcmpError::Refused(SocketError::ConnectionRefused), peer())
        .unwrap();
    // Observed: EPOLLOUT | EPOLLERR, which tokio shows as WRITABLE | WRITE_CLOSED | ERROR.
    let error = Readiness::ERROR | Readiness::WRITABLE | Readiness::WRITE_CLOSED;
    assert_eq!(socket.take_readiness(), error);
}

#[test]
fn nothing_hangs_after_the_stack_has_ended() {
    let mut socket = connected();
    socket.handle_datagram(from(peer(), b"last")).unwrap();
    socket.send(Bytes::from_static(b"x"), None).unwrap();
    socket.fail(SocketError::NetworkDown);
    assert!(
        socket
            .take_readiness()
            .contains(Readiness::READABLE | Readiness::WRITABLE | Readiness::ERROR)
    );
    assert!(!socket.has_transmit());
    assert_eq!(read(&mut socket), Err(SocketError::NetworkDown));
    assert_eq!(read(&mut socket), Ok(b"last".to_vec()));
    for _ in 0..2 {
        assert_eq!(read(&mut socket), Err(SocketError::NetworkDown));
        assert_eq!(
            socket.send(Bytes::new(), None),
            Err(SocketError::NetworkDown)
        );
    }
    assert_eq!(
        socket.handle_datagram(from(peer(), b"x")),
        Err(DropReason::Closed)
    );
}

#[test]
fn a_datagram_without_a_way_becomes_the_pending_error() {
    let mut socket = connected();
    socket.send(Bytes::from_static(b"one"), None).unwrap();
    socket.send(Bytes::from_static(b"two"), None).unwrap();
    socket.handle_transmit_error(SocketError::NetworkUnreachable);
    assert_eq!(
        socket.poll_transmit().map(|transmit| transmit.payload),
        Some(Bytes::from_static(b"two"))
    );
    assert_eq!(socket.send_queue_memory(), 0);
    assert_eq!(socket.take_error(), Some(SocketError::NetworkUnreachable));
    socket.handle_transmit_error(SocketError::NetworkUnreachable);
    assert_eq!(socket.take_error(), None, "nothing was there to fail");
}

proptest! {
    #[test]
    fn cuts_join_to_the_payload(slices in proptest::collection::vec(0_usize..50, 0..6), segment_size in 0_usize..40, bytes_mode in any::<bool>()) {
        let whole: Vec<u8> = (0..slices.iter().sum::<usize>()).map(|n| n as u8).collect();
        let mut rest = Bytes::from(whole.clone());
        let payload: Payload = slices.iter().map(|len| rest.split_to(*len)).collect();
        let mut socket = Socket::new(Config::default());
        socket.handle_datagram(coalesced(payload, segment_size)).unwrap();
        let count = socket.receive_queue_len();
        let mut cuts = vec![];
        loop {
            let cut = if bytes_mode { socket.recv_bytes().map(|(bytes, _)| bytes.to_vec()) } else { read(&mut socket) };
            let Ok(cut) = cut else { break };
            cuts.push(cut);
        }
        prop_assert_eq!(cuts.len(), count);
        let stride = if segment_size == 0 { whole.len() } else { segment_size };
        prop_assert!(cuts.iter().rev().skip(1).all(|cut| cut.len() == stride));
        prop_assert_eq!(cuts.concat(), whole);
        prop_assert_eq!(socket.receive_queue_memory(), 0);
    }
}
