use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::wire::sctp::GapBlock;

/// The peer's initial TSN: the first wrap comes soon.
const INITIAL: u32 = u32::MAX - 3;
const B: DataFlags = DataFlags::BEGINNING;
const E: DataFlags = DataFlags::END;
const U: DataFlags = DataFlags::UNORDERED;

fn whole() -> DataFlags {
    B | E
}

fn receiver() -> Receiver {
    Receiver::new(&ReceiveConfig::default(), INITIAL, 10)
}

fn small(buffer: usize) -> Receiver {
    let config = ReceiveConfig {
        buffer,
        partial_delivery_point: buffer / 2,
        ..ReceiveConfig::default()
    };
    Receiver::new(&config, INITIAL, 10)
}

/// The DATA chunk `offset` behind the initial TSN.
fn data(offset: u32, stream: u16, ssn: u16, flags: DataFlags, payload: &[u8]) -> Data {
    Data {
        header: DataHeader {
            tsn: INITIAL.wrapping_add(offset),
            stream,
            ssn,
            ppid: 7,
            flags,
        },
        payload: Bytes::copy_from_slice(payload),
    }
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn read(receiver: &mut Receiver) -> Vec<(u16, u16, Vec<u8>)> {
    std::iter::from_fn(|| receiver.recv(usize::MAX))
        .map(|message| (message.stream, message.ssn, message.data.to_vec()))
        .collect()
}

/// A packet with these chunks; whether a SACK is due at once.
fn packet(receiver: &mut Receiver, chunks: Vec<Data>) -> bool {
    for chunk in chunks {
        receiver.handle_data(chunk);
    }
    receiver.end_of_packet(at(0), false);
    receiver.sack_due(at(0))
}

#[test]
fn messages_are_delivered_with_what_the_peer_said_of_them() {
    let mut receiver = receiver();
    assert_eq!(
        receiver.handle_data(data(0, 3, 0, whole(), b"one")),
        DataOutcome::Accepted
    );
    let message = receiver.recv(usize::MAX).expect("a message");
    assert_eq!(
        message,
        SctpMessage {
            stream: 3,
            ssn: 0,
            ppid: 7,
            unordered: false,
            tsn: INITIAL,
            data: Bytes::from_static(b"one"),
            end_of_record: true,
        }
    );
    receiver.handle_data(data(1, 3, 99, whole() | U, b"two"));
    assert!(receiver.recv(usize::MAX).expect("a message").unordered);
    assert_eq!((receiver.charged(), receiver.recv(usize::MAX)), (0, None));
}

#[test]
fn order_is_kept_within_a_stream_and_not_between_streams() {
    // RFC 9260 6.6: a loss on one stream delays no other; unordered messages wait for nothing.
    let mut receiver = receiver();
    for (offset, stream, ssn, flags) in [
        (1, 0, 1, whole()),
        (2, 1, 0, whole()),
        (3, 0, 9, whole() | U),
        (4, 0, 2, whole()),
        (5, 1, 1, whole()),
    ] {
        receiver.handle_data(data(offset, stream, ssn, flags, &[offset as u8]));
    }
    let early = read(&mut receiver);
    assert_eq!(early, [(1, 0, vec![2]), (0, 9, vec![3]), (1, 1, vec![5])]);
    receiver.handle_data(data(0, 0, 0, whole(), &[0]));
    let late = read(&mut receiver);
    assert_eq!(late, [(0, 0, vec![0]), (0, 1, vec![1]), (0, 2, vec![4])]);
}

#[test]
fn stream_sequence_numbers_wrap() {
    // RFC 9260 1.6: serial arithmetic with 16 bits.
    let mut receiver = receiver();
    for i in 0..70_000u32 {
        let outcome = receiver.handle_data(data(i, 0, i as u16, whole(), b"x"));
        assert_eq!(outcome, DataOutcome::Accepted, "{i}");
        assert_eq!(receiver.recv(1).expect("in order").ssn, i as u16);
    }
    // The numbers around the wrap in the wrong order.
    for (offset, ssn) in [(70_001, 4465), (70_000, 4464)] {
        receiver.handle_data(data(offset, 0, ssn, whole(), b"x"));
    }
    let got: Vec<u16> = read(&mut receiver)
        .into_iter()
        .map(|message| message.1)
        .collect();
    assert_eq!(got, [4464, 4465]);
}

#[test]
fn fragments_make_a_message_in_whatever_order_they_come() {
    // RFC 9260 6.9.
    for order in [
        [0, 1, 2, 3],
        [3, 2, 1, 0],
        [1, 3, 0, 2],
        [2, 0, 3, 1],
        [0, 3, 1, 2],
    ] {
        let mut receiver = receiver();
        for (i, part) in order.into_iter().enumerate() {
            assert!(!receiver.is_readable(), "{order:?} after {i}");
            let flags = [B, DataFlags::NONE, DataFlags::NONE, E][part as usize];
            receiver.handle_data(data(part, 2, 0, flags, &[part as u8; 3]));
        }
        let expected = vec![0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3];
        assert_eq!(read(&mut receiver), [(2, 0, expected)], "{order:?}");
        assert_eq!(receiver.charged(), 0);
    }
}

#[test]
fn data_of_an_unknown_stream_is_acknowledged_and_reported() {
    // RFC 9260 6.5.
    let mut receiver = receiver();
    let outcome = receiver.handle_data(data(0, 10, 0, whole(), b"x"));
    let cause = ErrorCause::InvalidStreamIdentifier { stream: 10 };
    assert_eq!(outcome, DataOutcome::Refused(cause));
    assert_eq!(receiver.cumulative_tsn(), INITIAL);
    assert!(!receiver.is_readable());
}

#[test]
fn every_second_packet_is_acknowledged_and_one_alone_after_the_delay() {
    // RFC 9260 6.2: packets, not chunks.
    let mut receiver = receiver();
    assert!(!packet(
        &mut receiver,
        vec![data(0, 0, 0, whole(), b"a"), data(1, 0, 1, whole(), b"b")]
    ));
    assert_eq!(receiver.sack_deadline(), Some(at(200)));
    assert!(!receiver.sack_due(at(199)) && receiver.sack_due(at(200)));
    assert!(packet(&mut receiver, vec![data(2, 0, 2, whole(), b"c")]));
    let sack = receiver.take_sack(1000);
    assert_eq!(sack.cumulative_tsn_ack, INITIAL.wrapping_add(2));
    assert!(!receiver.sack_due(at(10_000)) && !receiver.has_unacknowledged());
    assert_eq!(receiver.sack_deadline(), None);
    // A packet without DATA asks for nothing.
    receiver.end_of_packet(at(0), true);
    assert!(!receiver.has_unacknowledged());
}

#[test]
fn some_packets_are_acknowledged_at_once() {
    // RFC 9260 6.2 (duplicates, I bit), 6.7 (gaps), 9.2 (while shutting down).
    let urgent = |chunks: Vec<Data>| packet(&mut receiver(), chunks);
    assert!(!urgent(vec![data(0, 0, 0, whole(), b"a")]));
    assert!(urgent(vec![data(1, 0, 1, whole(), b"a")]), "a gap");
    assert!(urgent(vec![data(
        0,
        0,
        0,
        whole() | DataFlags::IMMEDIATE,
        b"a"
    )]));
    let twice = || data(0, 0, 0, whole(), b"a");
    assert!(urgent(vec![twice(), twice()]), "a duplicate");
    let mut filled = receiver();
    packet(&mut filled, vec![data(1, 0, 1, whole(), b"a")]);
    filled.take_sack(1000);
    assert!(
        packet(&mut filled, vec![data(0, 0, 0, whole(), b"a")]),
        "a gap closes"
    );
    let mut ending = receiver();
    ending.handle_data(data(0, 0, 0, whole(), b"a"));
    ending.end_of_packet(at(0), true);
    assert!(ending.sack_due(at(0)));
}

#[test]
fn sack_reports_gaps_and_duplicates_as_far_as_they_fit() {
    // RFC 9260 3.3.4, the example of 6.7 among it; offsets across the wrap of the TSN.
    let mut receiver = receiver();
    for offset in [0, 2, 3, 5, 5, 7, 0] {
        receiver.handle_data(data(offset, 0, offset as u16, whole(), b"x"));
    }
    receiver.end_of_packet(at(0), false);
    let block = |start, end| GapBlock { start, end };
    let sack = receiver.take_sack(16 + 4 * 4);
    assert_eq!(sack.cumulative_tsn_ack, INITIAL);
    assert_eq!(sack.gap_blocks[..], [block(2, 3), block(5, 5), block(7, 7)]);
    assert_eq!(sack.duplicates[..], [INITIAL.wrapping_add(5)]);
    // Reported once; what does not fit is left out from the end.
    let sack = receiver.take_sack(16 + 8);
    assert_eq!(sack.gap_blocks[..], [block(2, 3), block(5, 5)]);
    assert!(sack.duplicates.is_empty());
}

#[test]
fn peers_that_break_the_rules_of_fragments_are_found_out() {
    // RFC 9260 6.9; what usrsctp and dcSCTP abort with a protocol violation.
    let none = DataFlags::NONE;
    for chunks in [
        vec![(0, 0, 0, none)],                     // continues nothing
        vec![(0, 0, 0, whole()), (1, 0, 1, E)],    // continues what has ended
        vec![(0, 0, 0, B), (1, 0, 0, B)],          // begins within
        vec![(0, 0, 0, B), (1, 1, 0, E)],          // another stream
        vec![(0, 0, 0, B), (1, 0, 1, E)],          // another message
        vec![(0, 0, 0, B), (1, 0, 0, E | U)],      // ordered and not
        vec![(1, 0, 0, none), (0, 0, 0, whole())], // ends before what goes on
        vec![(2, 0, 0, B), (1, 0, 0, none)],
        vec![(0, 0, 0, whole()), (1, 0, 0, whole())], // a number twice
        vec![(1, 0, 5, whole()), (2, 0, 5, whole())],
        vec![(0, 0, 40_000, whole())], // a number of the past
    ] {
        let mut receiver = receiver();
        let outcomes = chunks.iter().map(|&(offset, stream, ssn, flags)| {
            receiver.handle_data(data(offset, stream, ssn, flags, b"xx"))
        });
        let last = outcomes.last();
        assert!(
            matches!(
                last,
                Some(DataOutcome::Violation(ErrorCause::ProtocolViolation(_)))
            ),
            "{chunks:?}: {last:?}"
        );
    }
}

#[test]
fn closed_window_takes_nothing_new_and_says_so_at_once() {
    // RFC 9260 6.2: dropped DATA must not be acknowledged.
    let mut receiver = small(10_000);
    let mut offset = 0;
    while receiver.window() > 0 {
        receiver.handle_data(data(offset, 0, offset as u16, whole(), &[0; 1000]));
        offset += 1;
    }
    receiver.end_of_packet(at(0), false);
    let sack = receiver.take_sack(1000);
    assert_eq!(sack.a_rwnd, 0);
    let mut dropped = false;
    for more in 0..20 {
        let late = data(
            offset + more,
            0,
            (offset + more) as u16,
            whole(),
            &[0; 1000],
        );
        dropped |= receiver.handle_data(late) == DataOutcome::Dropped;
    }
    assert!(dropped && receiver.charged() <= 10_000 + 1064);
    receiver.end_of_packet(at(0), false);
    assert!(receiver.sack_due(at(0)));
    // Reading opens it; the peer hears of it once that is worth a packet.
    receiver.take_sack(1000);
    let mut updates = 0;
    while receiver.recv(usize::MAX).is_some() {
        if receiver.sack_due(at(0)) {
            updates += 1;
            assert!(receiver.take_sack(1000).a_rwnd > 0);
        }
    }
    assert!((1..=5).contains(&updates), "{updates}");
}

#[test]
fn filling_a_gap_drops_what_lies_furthest_beyond_it() {
    // RFC 9260 6.2: the dropped TSNs are not reported any more.
    let mut receiver = small(10_000);
    for offset in 1..20 {
        let flags = if offset == 1 { B } else { DataFlags::NONE };
        receiver.handle_data(data(offset, 0, 1, flags, &[0; 1000]));
    }
    let before = receiver.take_sack(1000);
    assert_eq!((before.a_rwnd, before.gap_blocks.len()), (0, 1));
    assert_eq!(
        receiver.handle_data(data(0, 1, 0, whole(), b"x")),
        DataOutcome::Accepted
    );
    let after = receiver.take_sack(1000);
    assert!(after.gap_blocks.is_empty() && after.a_rwnd > 0);
    assert_eq!(read(&mut receiver), [(1, 0, b"x".to_vec())]);
    assert_eq!(receiver.charged(), 0);
}

#[test]
fn messages_larger_than_the_window_come_in_parts() {
    // RFC 6458 8.1.21: the parts in order, nothing between them, the end marked.
    let mut receiver = small(20_000);
    let (mut offset, total) = (0u32, 200);
    let mut got = Vec::new();
    let mut parts = Vec::new();
    while offset < total {
        let flags = match offset {
            0 => B,
            _ if offset == total - 1 => E,
            _ => DataFlags::NONE,
        };
        match receiver.handle_data(data(offset, 4, 0, flags, &[offset as u8; 1000])) {
            DataOutcome::Accepted => offset += 1,
            outcome => assert_eq!(outcome, DataOutcome::Dropped),
        }
        if receiver.window() == 0 || offset == total {
            while let Some(part) = receiver.recv(usize::MAX) {
                assert_eq!((part.stream, part.ssn), (4, 0));
                parts.push(part.end_of_record);
                got.extend(part.data);
            }
        }
    }
    let expected: Vec<u8> = (0..total).flat_map(|i| [i as u8; 1000]).collect();
    assert!(got == expected && receiver.charged() == 0);
    assert!(parts.len() > 2 && parts.pop() == Some(true) && !parts.contains(&true));
    assert_eq!(receiver.partially_delivered(), None);
    // The stream goes on with the next message.
    receiver.handle_data(data(total, 4, 1, whole(), b"next"));
    assert_eq!(read(&mut receiver), [(4, 1, b"next".to_vec())]);
}

#[test]
fn other_messages_wait_until_all_parts_are_delivered() {
    let mut receiver = small(8000);
    for offset in 0..5 {
        let flags = if offset == 0 { B } else { DataFlags::NONE };
        receiver.handle_data(data(offset, 0, 0, flags, &[1; 1000]));
    }
    let part = receiver.recv(usize::MAX).expect("the first part");
    assert!(!part.end_of_record);
    assert_eq!(receiver.partially_delivered(), Some(0));
    receiver.handle_data(data(6, 1, 0, whole(), b"other"));
    receiver.handle_data(data(7, 0, 1, whole(), b"later"));
    while let Some(part) = receiver.recv(usize::MAX) {
        assert_eq!(part.stream, 0, "nothing comes between");
    }
    receiver.handle_data(data(5, 0, 0, E, &[2; 10]));
    let rest = read(&mut receiver);
    assert_eq!(rest.len(), 3);
    assert_eq!(rest[0].2, [2; 10]);
    let mut others = [rest[1].2.clone(), rest[2].2.clone()];
    others.sort();
    assert_eq!(others, [b"later".to_vec(), b"other".to_vec()]);
    assert_eq!(receiver.charged(), 0);
}

#[test]
fn a_stream_read_alone_waits_for_no_parts_and_no_messages_of_others() {
    // RFC 9260 6.6: order is a matter of each stream.
    let mut receiver = small(8000);
    receiver.handle_data(data(0, 2, 0, whole(), b"two"));
    receiver.handle_data(data(1, 1, 0, whole(), b"one"));
    let on = |receiver: &mut Receiver, stream, max_len| {
        let message = receiver.recv_on(stream, max_len);
        message.map(|message| (message.data.to_vec(), message.end_of_record))
    };
    assert_eq!(on(&mut receiver, 3, 100), None);
    assert_eq!(on(&mut receiver, 1, 2), Some((b"on".to_vec(), false)));
    assert_eq!(on(&mut receiver, 1, 2), Some((b"e".to_vec(), true)));
    assert_eq!(read(&mut receiver), [(2, 0, b"two".to_vec())]);
    for offset in 2..7 {
        let flags = if offset == 2 { B } else { DataFlags::NONE };
        receiver.handle_data(data(offset, 0, 0, flags, &[1; 1000]));
    }
    while receiver.recv(usize::MAX).is_some() {}
    assert_eq!(receiver.partially_delivered(), Some(0));
    receiver.handle_data(data(8, 1, 1, whole(), b"other"));
    receiver.handle_data(data(9, 0, 1, whole(), b"later"));
    assert!(!receiver.is_readable() && receiver.has_messages());
    assert_eq!(on(&mut receiver, 1, 100), Some((b"other".to_vec(), true)));
    assert_eq!(on(&mut receiver, 0, 100), None, "its parts come first");
    receiver.handle_data(data(7, 0, 0, E, &[2; 10]));
    let rest: Vec<Vec<u8>> = read(&mut receiver)
        .into_iter()
        .map(|(.., data)| data)
        .collect();
    assert_eq!(rest, [vec![2; 10], b"later".to_vec()]);
    assert!(!receiver.has_messages() && receiver.charged() == 0);
}

#[test]
fn short_reads_leave_the_rest_of_a_message() {
    let mut receiver = receiver();
    receiver.handle_data(data(0, 0, 0, whole(), b"abcdefgh"));
    let first = receiver.recv(3).expect("a part");
    assert_eq!((&first.data[..], first.end_of_record), (&b"abc"[..], false));
    let rest = receiver.recv(5).expect("the rest");
    assert_eq!((&rest.data[..], rest.end_of_record), (&b"defgh"[..], true));
    assert_eq!(receiver.charged(), 0);
}

#[test]
fn small_data_that_waits_keeps_no_packets_alive() {
    // A little data in each packet, of which the rest is of no use.
    for (flags, len, held) in [
        (whole(), 1, HELD_AS_SMALL_SLICES),
        (whole() | U, 1, HELD_AS_SMALL_SLICES),
        (B, 1, HELD_AS_SMALL_SLICES),
        (whole(), 600, HELD_AS_SLICES),
    ] {
        let mut receiver = receiver();
        let packets: Vec<Bytes> = (0..1000).map(|_| Bytes::from(vec![1; 1400])).collect();
        for (offset, packet) in (0..).zip(&packets) {
            // Stream sequence number 0 never comes; nor does a fragment behind the first of each message.
            let mut data = data(2 * offset, 0, 1 + offset as u16, flags, &[]);
            data.payload = packet.slice(100..100 + len);
            assert_eq!(receiver.handle_data(data), DataOutcome::Accepted);
        }
        let alive = packets.iter().filter(|packet| !packet.is_unique()).count();
        assert!(receiver.charged() >= 1000 * len);
        let most = held.div_ceil(len + OVERHEAD);
        assert!(alive <= most, "{flags:?}, {len}: {alive}");
    }
}

#[test]
fn memory_stays_bounded_whatever_a_peer_leaves_open() {
    // Slivers on every second TSN, on all streams, none of which can be delivered.
    let mut receiver = small(100_000);
    let mut dropped = 0;
    for offset in (1..60_000).step_by(2) {
        let chunk = data(
            offset,
            (offset % 10) as u16,
            1 + (offset / 10) as u16 % 9,
            B,
            b"x",
        );
        match receiver.handle_data(chunk) {
            DataOutcome::Accepted | DataOutcome::Violation(_) => {}
            DataOutcome::Dropped => dropped += 1,
            other => panic!("{other:?}"),
        }
        assert!(receiver.charged() <= 2 * 100_000);
    }
    assert!(dropped > 20_000, "{dropped}");
    assert!(receiver.take_sack(10_000).gap_blocks.len() <= 1024);
}

/// Stream, whether it is unordered, octets.
type Whole = (u16, bool, Vec<u8>);

/// Messages cut into chunks, as a sender would number them.
fn sent(messages: &[(u16, bool, usize)]) -> (Vec<Data>, Vec<Whole>) {
    let mut chunks = Vec::new();
    let mut whole = Vec::new();
    let mut next = BTreeMap::<u16, u16>::new();
    for (i, &(stream, unordered, parts)) in messages.iter().enumerate() {
        let counter = next.entry(stream).or_default();
        let ssn = *counter;
        if !unordered {
            *counter += 1;
        }
        let mut octets = Vec::new();
        for part in 0..parts {
            let payload = vec![(i * 31 + part) as u8; 1 + (i + part) % 5];
            octets.extend(&payload);
            let mut flags = if unordered { U } else { DataFlags::NONE };
            if part == 0 {
                flags = flags | B;
            }
            if part == parts - 1 {
                flags = flags | E;
            }
            let offset = chunks.len() as u32;
            chunks.push(data(offset, stream, ssn, flags, &payload));
        }
        whole.push((stream, unordered, octets));
    }
    (chunks, whole)
}

proptest! {
    /// Whatever the order of arrival, with duplicates: each message exactly once, in order within its stream, and SACKs
    /// say what a plain set of TSNs says.
    #[test]
    fn messages_arrive_once_and_in_order_and_sacks_are_true(
        messages in proptest::collection::vec((0u16..4, any::<bool>(), 1usize..6), 1..30),
        shuffle in proptest::collection::vec((any::<u16>(), 1usize..3), 200),
        reads in proptest::collection::vec(any::<bool>(), 200),
    ) {
        let (chunks, whole) = sent(&messages);
        let mut order: Vec<usize> = (0..chunks.len()).collect();
        order.sort_by_key(|i| shuffle[i % shuffle.len()].0);
        let mut receiver = receiver();
        let mut seen = BTreeSet::new();
        let mut got = Vec::new();
        for (step, &i) in order.iter().enumerate() {
            for copy in 0..shuffle[step % shuffle.len()].1 {
                let outcome = receiver.handle_data(chunks[i].clone());
                let expected = if copy == 0 { DataOutcome::Accepted } else { DataOutcome::Duplicate };
                prop_assert_eq!(outcome, expected);
            }
            receiver.end_of_packet(at(0), false);
            seen.insert(i as u32);
            let arrived = (0..).take_while(|offset| seen.contains(offset)).count() as u32;
            let mut ranges: Vec<(u32, u32)> = Vec::new();
            for &offset in seen.range(arrived..) {
                match ranges.last_mut() {
                    Some((_, end)) if *end + 1 == offset => *end = offset,
                    _ => ranges.push((offset, offset)),
                }
            }
            let sack = receiver.take_sack(10_000);
            prop_assert_eq!(sack.cumulative_tsn_ack, INITIAL.wrapping_add(arrived).wrapping_sub(1));
            let blocks: Vec<(u32, u32)> = sack.gap_blocks.iter().map(|block| {
                let offset = |relative: u16| arrived + u32::from(relative) - 1;
                (offset(block.start), offset(block.end))
            }).collect();
            prop_assert_eq!(blocks, ranges);
            if reads[step % reads.len()] {
                got.extend(std::iter::from_fn(|| receiver.recv(usize::MAX)));
            }
        }
        got.extend(std::iter::from_fn(|| receiver.recv(usize::MAX)));
        prop_assert_eq!(receiver.charged(), 0);
        prop_assert!(!receiver.has_fragments() && !receiver.has_gaps());
        prop_assert!(got.iter().all(|message| message.end_of_record));
        for stream in 0..4 {
            let of = |unordered: bool| whole.iter()
                .filter(move |message| message.0 == stream && message.1 == unordered)
                .map(|message| message.2.clone());
            let read = |unordered: bool| got.iter()
                .filter(move |message| message.stream == stream && message.unordered == unordered)
                .map(|message| message.data.to_vec());
            prop_assert!(of(false).eq(read(false)), "ordered messages of stream {}", stream);
            let (mut expected, mut found): (Vec<_>, Vec<_>) = (of(true).collect(), read(true).collect());
            expected.sort();
            found.sort();
            prop_assert_eq!(expected, found);
        }
    }

    /// A sender that sends again what is not acknowledged gets everything through a buffer of any size, with an
    /// application that reads now and then.
    #[test]
    fn everything_gets_through_a_small_buffer(
        messages in proptest::collection::vec((0u16..4, any::<bool>(), 1usize..40), 1..12),
        buffer in 300usize..4000,
        choices in proptest::collection::vec(any::<u16>(), 300),
    ) {
        let (chunks, whole) = sent(&messages);
        let mut receiver = small(buffer);
        let mut got = Vec::new();
        let mut step = 0;
        let mut choose = |below: usize| {
            step += 1;
            usize::from(choices[step % choices.len()].wrapping_add(step as u16)) % below
        };
        for _ in 0..20_000 {
            let acked = receiver.cumulative_tsn().wrapping_sub(INITIAL).wrapping_add(1) as usize;
            if acked == chunks.len() {
                break;
            }
            let window = (chunks.len() - acked).min(8);
            let outcome = receiver.handle_data(chunks[acked + choose(window)].clone());
            prop_assert!(!matches!(outcome, DataOutcome::Violation(_)), "{:?}", outcome);
            prop_assert!(receiver.charged() <= 2 * buffer + 100);
            if choose(3) == 0 {
                got.extend(receiver.recv(usize::MAX));
            }
        }
        got.extend(std::iter::from_fn(|| receiver.recv(usize::MAX)));
        prop_assert_eq!(receiver.cumulative_tsn(), INITIAL.wrapping_add(chunks.len() as u32).wrapping_sub(1));
        prop_assert_eq!(receiver.charged(), 0);
        // Parts follow one another until the record ends.
        let mut messages = Vec::new();
        let mut open: Option<SctpMessage> = None;
        for part in got {
            let mut data = Vec::new();
            if let Some(before) = open.take() {
                prop_assert_eq!((before.stream, before.unordered), (part.stream, part.unordered));
                data = before.data.to_vec();
            }
            data.extend(&part.data);
            let message = SctpMessage { data: data.into(), ..part };
            if message.end_of_record {
                messages.push((message.stream, message.unordered, message.data.to_vec()));
            } else {
                open = Some(message);
            }
        }
        prop_assert!(open.is_none());
        let (mut expected, mut found) = (whole, messages);
        expected.sort();
        found.sort();
        prop_assert_eq!(expected, found);
    }
}

#[test]
fn packets_that_come_at_once_are_acknowledged_as_if_one_by_one() {
    // RFC 9260 6.2: a SACK for every second packet; 6.7: for every packet while something is missing.
    let mut receiver = receiver();
    let mut arrive = |offset: u32| {
        packet(
            &mut receiver,
            vec![data(offset, 0, offset as u16, whole(), b"x")],
        );
    };
    (0..6).for_each(&mut arrive);
    [7, 8, 9].into_iter().for_each(&mut arrive);
    let overdue = std::iter::from_fn(|| receiver.take_overdue_sack());
    let overdue: Vec<_> = overdue
        .map(|sack| {
            let cumulative = sack.cumulative_tsn_ack.wrapping_sub(INITIAL);
            (cumulative, sack.gap_blocks.first().map(|block| block.end))
        })
        .collect();
    assert_eq!(
        overdue,
        [(1, None), (3, None), (5, None), (5, Some(2)), (5, Some(3))]
    );
    let last = receiver.take_sack(1000);
    assert_eq!(last.gap_blocks[..], [GapBlock { start: 2, end: 4 }]);
    assert!(!receiver.sack_due(at(0)));
    // However many there are, the latest are told.
    for offset in 10..200 {
        packet(
            &mut receiver,
            vec![data(offset, 0, offset as u16, whole(), b"x")],
        );
    }
    assert_eq!(
        std::iter::from_fn(|| receiver.take_overdue_sack()).count(),
        32
    );
    assert_eq!(receiver.take_sack(1000).gap_blocks[0].end, 194);
}

#[test]
fn read_that_uncovers_part_of_another_message_says_so() {
    // Who waits for the other stream is woken by no DATA.
    let mut receiver = small(8000);
    receiver.handle_data(data(0, 1, 0, whole(), b"first"));
    for offset in 1..6 {
        let flags = if offset == 1 { B } else { DataFlags::NONE };
        receiver.handle_data(data(offset, 2, 0, flags, &[1; 1000]));
    }
    assert!(receiver.recv_on(2, 100).is_none() && !receiver.take_uncovered());
    assert!(receiver.recv_on(1, 100).is_some());
    assert!(receiver.take_uncovered() && !receiver.take_uncovered());
    assert!(receiver.recv_on(2, 100).is_some());
}
