//! Fragments as (offset, length, more) in the order of arrival, and what comes of them.

use proptest::prelude::*;

use super::*;
use crate::ip::fragmentation::fragment;
use crate::ip::input::{Arrival, parse, resume};
use crate::ip::output::OutputHeader;
use crate::wire::protocol;

const START: Instant = Instant::from_millis(1000);

fn limits() -> Limits {
    Limits::default()
}

fn header(is_ipv6: bool) -> OutputHeader {
    let (source, destination) = match is_ipv6 {
        false => ("10.0.0.1", "10.0.0.2"),
        true => ("2001:db8::1", "2001:db8::2"),
    };
    OutputHeader {
        dont_fragment: false,
        ..OutputHeader::new(
            source.parse().unwrap(),
            destination.parse().unwrap(),
            protocol::UDP,
        )
    }
}

/// The octet at `position` of every datagram here.
fn octet(position: usize) -> u8 {
    (position * 31 + position / 251) as u8
}

fn datagram(len: usize) -> Bytes {
    (0..len).map(octet).collect()
}

/// A fragment by itself, as [`parse`] gives it.
fn piece(
    is_ipv6: bool,
    identification: u32,
    offset: usize,
    len: usize,
    more: bool,
) -> (IpPacket, Packet) {
    let whole = datagram(offset + len);
    let header = header(is_ipv6);
    let mut packet = Packet::from_bytes(whole.slice(offset..));
    let place = ipv6::fragment::Fragment {
        next_header: header.protocol,
        offset: offset as u16,
        more,
        identification,
    };
    crate::ip::fragmentation::prepend_place(&mut packet, &header, &place).unwrap();
    let ip = parse(&mut packet, Arrival::Wire).unwrap();
    (ip, packet)
}

fn feed(
    reassembler: &mut Reassembler,
    now: Instant,
    piece: (IpPacket, Packet),
) -> Result<Option<Bytes>, DropReason> {
    let whole = reassembler.handle_fragment(now, piece.0, piece.1)?;
    Ok(whole.map(|(_, packet)| packet.to_bytes()))
}

/// Feeds fragments of one packet; gives the result of the last.
fn feed_all(
    is_ipv6: bool,
    pieces: &[(usize, usize, bool)],
) -> (Reassembler, Result<Option<Bytes>, DropReason>) {
    let mut reassembler = Reassembler::new(limits());
    let mut last = Ok(None);
    for &(offset, len, more) in pieces {
        last = feed(
            &mut reassembler,
            START,
            piece(is_ipv6, 7, offset, len, more),
        );
    }
    (reassembler, last)
}

#[test]
fn decides_about_each_order_of_fragments() {
    const DROP: Result<Option<usize>, DropReason> = Err(DropReason::Fragment);
    type Case = (
        &'static [(usize, usize, bool)],
        Result<Option<usize>, DropReason>,
        &'static str,
    );
    let cases: &[Case] = &[
        (&[(0, 24, true)], Ok(None), "waits"),
        (&[(0, 24, true), (24, 3, false)], Ok(Some(27)), "in order"),
        (&[(24, 3, false), (0, 24, true)], Ok(Some(27)), "last first"),
        (
            &[(0, 24, true), (32, 3, false), (24, 8, true)],
            Ok(Some(35)),
            "a gap closed",
        ),
        (&[(0, 24, true), (24, 8, true)], Ok(None), "no last one"),
        (&[(8, 24, true), (32, 8, false)], Ok(None), "no first one"),
        // RFC 8200 4.5: exact duplicates may be dropped alone.
        (&[(0, 24, true), (0, 24, true)], Ok(None), "duplicate"),
        (
            &[(0, 24, true), (0, 24, true), (24, 3, false)],
            Ok(Some(27)),
            "duplicate, then the rest",
        ),
        (
            &[(24, 3, false), (24, 3, false), (0, 24, true)],
            Ok(Some(27)),
            "duplicate of the last",
        ),
        // RFC 5722 4: an overlap kills the packet, fragments to come included.
        (
            &[(0, 24, true), (16, 16, true)],
            DROP,
            "overlaps the one before",
        ),
        (
            &[(16, 16, true), (0, 24, true)],
            DROP,
            "overlaps the one behind",
        ),
        (&[(0, 24, true), (8, 8, true)], DROP, "inside of another"),
        (&[(8, 8, true), (0, 24, true)], DROP, "around another"),
        (&[(0, 24, true), (0, 32, true)], DROP, "the same start"),
        (&[(0, 24, true), (8, 16, true)], DROP, "the same end"),
        (
            &[(0, 24, true), (16, 16, true), (24, 3, false)],
            DROP,
            "dead already",
        ),
        // Ends that contradict each other.
        (&[(24, 8, false), (32, 8, true)], DROP, "beyond the last"),
        (&[(24, 8, false), (40, 8, false)], DROP, "another last"),
        (&[(24, 8, true), (8, 8, false)], DROP, "last before others"),
        (&[(24, 8, false), (24, 8, true)], DROP, "last and not last"),
        (&[(24, 8, true), (24, 8, false)], DROP, "not last and last"),
        (&[(24, 0, true)], DROP, "empty"),
        (&[(24, 0, false)], DROP, "empty and last"),
    ];
    for (pieces, expected, what) in cases {
        for is_ipv6 in [false, true] {
            let (reassembler, result) = feed_all(is_ipv6, pieces);
            let expected = expected.map(|len| len.map(datagram));
            assert_eq!(result, expected, "{what}");
            if expected.is_ok_and(|whole| whole.is_some()) {
                assert!(
                    reassembler.is_empty() && reassembler.by_deadline.is_empty(),
                    "{what}"
                );
                assert_eq!(reassembler.memory(), 0);
            }
        }
    }
}

#[test]
fn a_copy_with_other_octets_is_no_duplicate() {
    let mut reassembler = Reassembler::new(limits());
    feed(&mut reassembler, START, piece(false, 7, 0, 24, true)).unwrap();
    let (ip, _) = piece(false, 7, 0, 24, true);
    let forged = Packet::from_bytes(Bytes::from_static(&[0; 24]));
    assert_eq!(
        feed(&mut reassembler, START, (ip, forged)),
        Err(DropReason::Fragment)
    );
    assert_eq!(reassembler.memory(), 0);
}

#[test]
fn packets_are_told_apart_by_their_key() {
    // RFC 791 3.2: addresses, protocol, identification; RFC 8200 4.5: without the protocol.
    for is_ipv6 in [false, true] {
        let mut reassembler = Reassembler::new(limits());
        feed(&mut reassembler, START, piece(is_ipv6, 7, 0, 24, true)).unwrap();
        let mut change = |change: &dyn Fn(&mut IpPacket)| {
            let (mut ip, packet) = piece(is_ipv6, 7, 24, 8, false);
            change(&mut ip);
            feed(&mut reassembler, START, (ip, packet)).unwrap()
        };
        assert_eq!(
            change(&|ip| ip.destination = "10.9.9.9".parse().unwrap()),
            None
        );
        assert_eq!(
            change(&|ip| ip.fragment.as_mut().unwrap().identification = 8),
            None
        );
        let other_protocol = change(&|ip| ip.protocol = 6);
        assert_eq!(other_protocol.is_some(), is_ipv6);
    }
}

#[test]
fn the_whole_packets_header_is_mended() {
    for is_ipv6 in [false, true] {
        let mut reassembler = Reassembler::new(limits());
        let (ip, packet) = piece(is_ipv6, 7, 0, 24, true);
        reassembler.handle_fragment(START, ip, packet).unwrap();
        let (ip, packet) = piece(is_ipv6, 7, 24, 6, false);
        let (ip, mut packet) = reassembler
            .handle_fragment(START, ip, packet)
            .unwrap()
            .unwrap();
        let ip = resume(ip, &mut packet).unwrap();
        assert_eq!(
            (ip.fragment, ip.was_fragmented, ip.protocol),
            (None, true, 17)
        );
        // The header with the payload behind it is a good packet.
        let mut whole = Packet::from_bytes([ip.header(), &packet.to_bytes()].concat().into());
        let parsed = parse(&mut whole, Arrival::Wire).unwrap();
        assert_eq!((parsed.fragment, parsed.protocol), (None, 17));
        assert_eq!(whole.to_bytes(), datagram(30));
    }
}

#[test]
fn extension_headers_around_fragments_are_kept_and_joined() {
    // RFC 8200 4.5: per-fragment headers are those of the first fragment, others lie in the fragments.
    let fragment_packet = |offset: u16, more, body: &[u8]| {
        let hop_by_hop = [protocol::FRAGMENT, 0, 1, 4, 0, 0, 0, 0];
        let mut place = [0; 8];
        ipv6::fragment::Fragment {
            next_header: protocol::DESTINATION_OPTIONS,
            offset,
            more,
            identification: 7,
        }
        .emit(&mut place);
        let mut packet = Packet::from_bytes([&hop_by_hop[..], &place, body].concat().into());
        let header = OutputHeader {
            protocol: protocol::HOP_BY_HOP,
            ..header(true)
        };
        crate::ip::output::prepend(&mut packet, &header).unwrap();
        let ip = parse(&mut packet, Arrival::Wire).unwrap();
        (ip, packet)
    };
    let mut reassembler = Reassembler::new(limits());
    let options = [protocol::UDP, 0, 1, 4, 0, 0, 0, 0];
    let (ip, packet) = fragment_packet(0, true, &[&options[..], &[1; 8]].concat());
    assert!(
        reassembler
            .handle_fragment(START, ip, packet)
            .unwrap()
            .is_none()
    );
    let (ip, packet) = fragment_packet(16, false, &[2; 5]);
    let (ip, mut packet) = reassembler
        .handle_fragment(START, ip, packet)
        .unwrap()
        .unwrap();
    let ip = resume(ip, &mut packet).unwrap();
    assert_eq!(ip.protocol, protocol::UDP);
    assert_eq!(
        &packet.to_bytes()[..],
        [1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2]
    );
    assert_eq!(ip.header()[6], protocol::HOP_BY_HOP);
    assert_eq!(ip.header()[40], protocol::DESTINATION_OPTIONS);
    assert_eq!(ip.header().len(), 56);
}

#[test]
fn congestion_marks_survive_or_stop_the_packet() {
    // RFC 3168 5.3: the codepoints of both fragments, of the whole.
    let cases = [
        (Ecn::Ect0, Ecn::Ect0, Some(Ecn::Ect0)),
        (Ecn::Ect0, Ecn::Ce, Some(Ecn::Ce)),
        (Ecn::Ce, Ecn::Ect1, Some(Ecn::Ce)),
        (Ecn::NotEct, Ecn::NotEct, Some(Ecn::NotEct)),
        (Ecn::Ce, Ecn::NotEct, None),
        (Ecn::NotEct, Ecn::Ce, None),
    ];
    for (first, second, expected) in cases {
        for is_ipv6 in [false, true] {
            let mut reassembler = Reassembler::new(limits());
            let (mut ip, packet) = piece(is_ipv6, 7, 0, 24, true);
            ip.traffic_class = first as u8;
            reassembler.handle_fragment(START, ip, packet).unwrap();
            let (mut ip, packet) = piece(is_ipv6, 7, 24, 8, false);
            ip.traffic_class = second as u8;
            let whole = reassembler.handle_fragment(START, ip, packet);
            let ecn = whole.ok().flatten().map(|(ip, _)| ip.ecn());
            assert_eq!(ecn, expected, "{first:?} and {second:?}");
            assert!(reassembler.is_empty());
        }
    }
}

#[test]
fn a_packet_waits_its_time_and_its_sender_is_told() {
    // RFC 8200 4.5 and RFC 1122 3.3.2: told only if the first fragment is there.
    for (is_ipv6, timeout) in [(false, 30), (true, 60)] {
        let mut reassembler = Reassembler::new(limits());
        feed(&mut reassembler, START, piece(is_ipv6, 1, 0, 24, true)).unwrap();
        feed(&mut reassembler, START, piece(is_ipv6, 2, 24, 24, true)).unwrap();
        let later = START + Duration::from_secs(10);
        feed(&mut reassembler, later, piece(is_ipv6, 1, 48, 24, true)).unwrap();
        let end = START + Duration::from_secs(timeout);
        assert_eq!(reassembler.poll_timeout(), Some(end));
        assert_eq!(
            reassembler
                .handle_timeout(end - Duration::from_nanos(1))
                .len(),
            0
        );
        let expired = reassembler.handle_timeout(end);
        assert_eq!(expired.len(), 1);
        assert_eq!(expired[0].packet.to_bytes(), datagram(24));
        assert_eq!(expired[0].ip.fragment.map(|f| f.identification), Some(1));
        assert!(reassembler.is_empty());
        assert_eq!(
            (reassembler.poll_timeout(), reassembler.memory()),
            (None, 0)
        );
    }
}

#[test]
fn a_killed_packet_is_forgotten_after_its_time() {
    let (mut reassembler, _) = feed_all(true, &[(0, 24, true), (8, 24, true)]);
    assert_eq!((reassembler.len(), reassembler.memory()), (1, 0));
    assert!(
        reassembler
            .handle_timeout(START + Duration::from_secs(60))
            .is_empty()
    );
    let whole = [piece(true, 7, 0, 24, true), piece(true, 7, 24, 8, false)];
    let results = whole.map(|piece| feed(&mut reassembler, START + Duration::from_secs(61), piece));
    assert_eq!(results, [Ok(None), Ok(Some(datagram(32)))]);
}

#[test]
fn at_the_limit_of_packets_the_oldest_makes_room() {
    let mut reassembler = Reassembler::new(Limits {
        packets: 3,
        ..limits()
    });
    for identification in 0..5 {
        let now = START + Duration::from_secs(identification.into());
        feed(
            &mut reassembler,
            now,
            piece(true, identification, 0, 24, true),
        )
        .unwrap();
    }
    assert_eq!((reassembler.len(), reassembler.by_deadline.len()), (3, 3));
    let later = START + Duration::from_secs(9);
    let mut finish = |identification| {
        feed(
            &mut reassembler,
            later,
            piece(true, identification, 24, 8, false),
        )
    };
    assert_eq!(finish(2), Ok(Some(datagram(32))));
    assert_eq!(finish(0), Ok(None));
}

#[test]
fn at_the_limit_of_memory_the_oldest_makes_room() {
    let mut reassembler = Reassembler::new(Limits {
        memory: 3 * (1024 + PIECE_OVERHEAD),
        ..limits()
    });
    for identification in 0..5 {
        let now = START + Duration::from_secs(identification.into());
        feed(
            &mut reassembler,
            now,
            piece(true, identification, 0, 1024, true),
        )
        .unwrap();
        assert!(reassembler.memory() <= reassembler.limits.memory);
    }
    assert_eq!(reassembler.len(), 3);

    // One that is too large alone.
    let mut tiny = Reassembler::new(Limits {
        memory: 100,
        ..limits()
    });
    let refused = feed(&mut tiny, START, piece(true, 1, 0, 1024, true));
    assert_eq!(refused, Err(DropReason::Fragment));
    assert_eq!((tiny.len(), tiny.memory()), (0, 0));
}

#[test]
fn too_many_fragments_kill_the_packet() {
    let mut reassembler = Reassembler::new(Limits {
        fragments: 4,
        ..limits()
    });
    let mut give = |n: usize| feed(&mut reassembler, START, piece(false, 7, n * 16, 8, true));
    for n in 0..4 {
        assert_eq!(give(n), Ok(None));
    }
    assert_eq!(give(4), Err(DropReason::Fragment));
    assert_eq!(reassembler.memory(), 0);
}

#[test]
fn the_whole_is_at_most_65_535_octets() {
    // A later fragment may come with a shorter header than the first one: 60 octets of header leave 65,475.
    let mut reassembler = Reassembler::new(Limits {
        fragments: 16,
        ..limits()
    });
    let (mut first, packet) = piece(false, 7, 0, 65_472, true);
    let (mut header, _) = ipv4::Header::parse(&first.header).unwrap();
    header.options = ipv4::Options::new(&[1; 40]).unwrap();
    header.total_len = 60;
    first.header.resize(60, 0);
    header.emit(&mut first.header);
    reassembler.handle_fragment(START, first, packet).unwrap();
    let last = feed(&mut reassembler, START, piece(false, 7, 65_472, 8, false));
    assert_eq!(last, Err(DropReason::Fragment));
    assert!(reassembler.is_empty());
}

#[test]
fn small_fragments_let_go_of_large_buffers() {
    let buffer = datagram(60_000);
    let small = Packet::from_bytes(buffer.slice(..1480));
    let (copy, charge) = own(small);
    assert_eq!((copy.len(), charge), (1480, 1480));
    assert_ne!(copy.as_ptr(), buffer.as_ptr());
    let large = Packet::from_bytes(buffer.slice(..COPY_BELOW));
    let (kept, charge) = own(large);
    assert_eq!(charge, BUFFER);
    assert_eq!(kept.as_ptr(), buffer.as_ptr());
}

proptest! {
    #[test]
    fn any_order_with_duplicates_gives_the_packet(
        is_ipv6: bool,
        len in 1usize..20_000,
        mtu in 600usize..3000,
        order in proptest::collection::vec(any::<u32>(), 100),
        copies in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let header = header(is_ipv6);
        // The UDP header inside: length fields do not matter here.
        let packet = Packet::from_bytes(datagram(len + 8));
        let mut fragments = fragment(packet, &header, mtu, 99).unwrap().into_vec();
        let count = fragments.len();
        let copied: Vec<Packet> = copies.iter().map(|i| fragments[i.index(count)].clone()).collect();
        fragments.extend(copied);
        let mut keyed: Vec<_> = fragments.into_iter().zip(order.iter().cycle()).collect();
        keyed.sort_by_key(|(_, key)| **key);
        let mut reassembler = Reassembler::new(limits());
        let mut whole = Vec::new();
        for (mut packet, _) in keyed {
            prop_assert!(packet.len() <= mtu);
            let ip = parse(&mut packet, Arrival::Wire).unwrap();
            whole.extend(feed(&mut reassembler, START, (ip, packet)).unwrap());
        }
        // Duplicates behind the last may join into the packet once more, in time.
        prop_assert!(!whole.is_empty());
        prop_assert!(whole.iter().all(|whole| *whole == datagram(len + 8)));
        reassembler.handle_timeout(START + Duration::from_secs(60));
        prop_assert_eq!((reassembler.memory(), reassembler.len()), (0, 0));
    }

    #[test]
    fn an_overlap_never_yields_a_packet(
        is_ipv6: bool,
        count in 2usize..8,
        at in any::<prop::sample::Index>(),
        units in 1usize..12,
        position in any::<prop::sample::Index>(),
        order in Just((0..8usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        // Fragments of 32 octets, and one more that begins and ends inside of them.
        let total = count * 32;
        let start = at.index(count) * 32 + 8;
        let end = (start + units * 8).min(total - 8);
        let end = if end.is_multiple_of(32) { end - 8 } else { end };
        prop_assume!(end > start);
        let mut pieces: Vec<_> = order
            .iter()
            .filter(|&&i| i < count)
            .map(|&i| (i * 32, 32, i + 1 < count))
            .collect();
        pieces.insert(position.index(count), (start, end - start, true));
        let mut reassembler = Reassembler::new(limits());
        for (offset, len, more) in pieces {
            let result = feed(&mut reassembler, START, piece(is_ipv6, 7, offset, len, more));
            prop_assert!(!matches!(result, Ok(Some(_))));
        }
        prop_assert_eq!((reassembler.memory(), reassembler.len()), (0, 1));
    }

    #[test]
    fn whatever_comes_the_books_are_kept(
        fragments in proptest::collection::vec(
            (any::<bool>(), 0u32..6, 0usize..40, 0usize..30, any::<bool>(), 0u64..20),
            1..200,
        ),
    ) {
        let mut reassembler = Reassembler::new(Limits {
            memory: 4096,
            packets: 5,
            fragments: 6,
            ..limits()
        });
        let mut now = START;
        for (is_ipv6, identification, unit, units, more, seconds) in fragments {
            now += Duration::from_secs(seconds);
            // Not the first of IPv6: that one must hold a UDP header.
            let (offset, len) = (unit * 8, if more { units * 8 } else { units });
            if !(is_ipv6 && offset == 0 && len < 8) {
                let _ = feed(&mut reassembler, now, piece(is_ipv6, identification, offset, len, more));
            }
            reassembler.handle_timeout(now);
            let charged = |waiting: &Waiting| waiting.pieces.as_ref().map_or(0, |pieces| pieces.charged);
            prop_assert_eq!(reassembler.memory(), reassembler.packets.values().map(charged).sum::<usize>());
            prop_assert!(reassembler.memory() <= 4096 && reassembler.len() <= 5);
            prop_assert_eq!(reassembler.by_deadline.len(), reassembler.len());
            prop_assert!(reassembler.poll_timeout().is_none_or(|deadline| deadline > now));
        }
    }
}
