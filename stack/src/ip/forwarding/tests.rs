use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use tidewire_netdev::checksum::sum_packet;
use tidewire_netdev::{Checksum, Segmentation, SegmentationKind};

use super::*;
use crate::ip::output::{OutputHeader, prepend};
use crate::wire::icmpv6::parameter_problem;

const HERE: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);

fn header_v4(options: &[u8]) -> ipv4::Header {
    ipv4::Header {
        source: Ipv4Addr::new(10, 0, 0, 9),
        destination: Ipv4Addr::new(192, 0, 2, 7),
        protocol: protocol::UDP,
        ttl: 64,
        tos: 0xb8,
        total_len: 0,
        identification: 0xbeef,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        options: ipv4::Options::new(options).expect("at most 40 octets"),
    }
}

/// A packet as a device reads it.
fn packet_v4(header: &ipv4::Header, payload: &[u8]) -> Packet {
    let header = ipv4::Header {
        total_len: (header.encoded_len() + payload.len()) as u16,
        ..header.clone()
    };
    let mut octets = vec![0; header.encoded_len()];
    header.emit(&mut octets);
    octets.extend(payload);
    Packet::from_bytes(Bytes::from(octets))
}

fn packet_v6(source: &str, destination: &str, next_header: u8, payload: &[u8]) -> Packet {
    let header = ipv6::Header {
        source: source.parse().expect("an address"),
        destination: destination.parse().expect("an address"),
        traffic_class: 0xb8,
        flow_label: 0x12345,
        payload_len: payload.len() as u16,
        next_header,
        hop_limit: 64,
    };
    let mut octets = vec![0; ipv6::HEADER_LEN];
    header.emit(&mut octets);
    octets.extend(payload);
    Packet::from_bytes(Bytes::from(octets))
}

fn through(mut packet: Packet) -> Packet {
    let transit = parse(&mut packet, SourceRoutes::Refuse).expect("a packet for another host");
    transit.pass(&mut packet, Some(HERE));
    packet
}

fn refusal(mut packet: Packet) -> (DropReason, Option<Problem>) {
    match parse(&mut packet, SourceRoutes::Refuse).expect_err("a packet to refuse") {
        Refusal::Drop(reason) => (reason, None),
        Refusal::Answer(answer) => (answer.reason, Some(answer.problem)),
    }
}

#[test]
fn a_hop_is_taken_and_the_header_checksum_stays_right_for_every_ttl() {
    // RFC 1812 5.3.1, RFC 1624 3: whatever the checksum was, 0 and 0xffff among them.
    for ttl in 2..=255 {
        for identification in [0, 0x1234, 0xfffe, 0xffff] {
            let header = ipv4::Header {
                ttl,
                identification,
                ..header_v4(&[])
            };
            let passed = through(packet_v4(&header, b"payload")).to_bytes();
            let (read, len) = ipv4::Header::parse(&passed).expect("a right checksum");
            let expected = ipv4::Header {
                ttl: ttl - 1,
                total_len: 27,
                ..header
            };
            assert_eq!(read, expected);
            assert_eq!(&passed[len..], b"payload");
        }
    }
}

#[test]
fn nothing_but_the_hop_limit_of_an_ipv6_header_changes() {
    // RFC 8200 3, RFC 6437 2: the flow label goes on as it came.
    let before = packet_v6("fd00::9", "2001:db8::7", protocol::UDP, b"payload").to_bytes();
    let after = through(Packet::from_bytes(before.clone())).to_bytes();
    let changed: Vec<_> = (0..before.len())
        .filter(|&at| before[at] != after[at])
        .collect();
    assert_eq!(changed, [HOP_LIMIT_V6]);
    assert_eq!(after[HOP_LIMIT_V6], 63);
}

#[test]
fn the_payload_of_what_is_passed_on_stays_shared() {
    let payload = Bytes::from(vec![7; 1000]);
    let header = ipv4::Header {
        total_len: 1020,
        ..header_v4(&[])
    };
    let mut octets = vec![0; 20];
    header.emit(&mut octets);
    let mut packet = Packet::from_header(&octets);
    packet.push(payload.clone());
    let passed = through(packet);
    assert_eq!(passed.body()[0].as_ptr(), payload.as_ptr());
}

#[test]
fn a_link_header_still_fits_however_much_of_a_packet_lies_inline() {
    for len in [20, 100, 122, 123, 136] {
        let mut packet = packet_v4(&header_v4(&[]), &[7; 200]);
        let before = packet.to_bytes();
        assert!(packet.pull_inline(len));
        let mut passed = through(packet);
        assert_eq!(passed.to_bytes()[20..], before[20..]);
        passed.prepend(ethernet::HEADER_LEN);
    }
}

#[test]
fn addresses_that_belong_to_one_link_or_to_nobody_are_not_passed_on() {
    // RFC 1812 5.3.7, RFC 3927 2.7.
    for (source, destination, reason) in [
        ("0.0.0.0", "192.0.2.7", DropReason::BadSource),
        ("0.1.2.3", "192.0.2.7", DropReason::BadSource),
        ("127.0.0.1", "192.0.2.7", DropReason::BadSource),
        ("224.0.0.1", "192.0.2.7", DropReason::BadSource),
        ("255.255.255.255", "192.0.2.7", DropReason::BadSource),
        ("240.0.0.1", "192.0.2.7", DropReason::BadSource),
        ("169.254.1.1", "192.0.2.7", DropReason::BadSource),
        ("10.0.0.9", "0.0.0.0", DropReason::NotForUs),
        ("10.0.0.9", "127.0.0.1", DropReason::NotForUs),
        ("10.0.0.9", "169.254.1.1", DropReason::NotForUs),
        ("10.0.0.9", "240.0.0.1", DropReason::NotForUs),
    ] {
        let header = ipv4::Header {
            source: source.parse().expect("an address"),
            destination: destination.parse().expect("an address"),
            ..header_v4(&[])
        };
        let refused = refusal(packet_v4(&header, b"payload"));
        assert_eq!(refused, (reason, None), "{source} to {destination}");
    }
    // RFC 4291 2.5.2, 2.5.3, 2.5.6, RFC 4443 3.1: code 2 is for link-local sources alone.
    for (source, destination, reason, problem) in [
        ("::", "2001:db8::7", DropReason::BadSource, None),
        ("::1", "2001:db8::7", DropReason::BadSource, None),
        ("ff02::1", "2001:db8::7", DropReason::BadSource, None),
        ("fd00::9", "::1", DropReason::NotForUs, None),
        ("fd00::9", "::", DropReason::NotForUs, None),
        ("fd00::9", "fe80::7", DropReason::NotForUs, None),
        ("fe80::9", "fe80::7", DropReason::NotForUs, None),
        (
            "fe80::9",
            "2001:db8::7",
            DropReason::BadSource,
            Some(Problem::BeyondScope),
        ),
    ] {
        let refused = refusal(packet_v6(source, destination, protocol::UDP, b"payload"));
        assert_eq!(refused, (reason, problem), "{source} to {destination}");
    }
}

#[test]
fn the_address_of_the_way_out_is_recorded_where_there_is_room() {
    // RFC 1812 5.3.13.5, RFC 791 3.1: the pointer counts from 1 and says where the next address goes.
    let record = |pointer: u8| {
        let mut option = vec![option_kind::NOP, option_kind::RECORD_ROUTE, 11, pointer];
        option.extend([0; 8]);
        option
    };
    for (pointer, recorded) in [(4, Some(4..8)), (8, Some(8..12)), (12, None)] {
        let option = record(pointer);
        let passed = through(packet_v4(&header_v4(&option), b"payload")).to_bytes();
        let (header, _) = ipv4::Header::parse(&passed).expect("a right checksum");
        let mut expected = option;
        if let Some(place) = recorded {
            expected[place].copy_from_slice(&HERE.octets());
            expected[3] += 4;
        }
        assert_eq!(header.options.octets(), expected, "{pointer}");
    }
    // Room for half an address, or before the first: the datagram is in error.
    for pointer in [0, 3, 9, 11] {
        let problem = Problem::ParameterProblem {
            code: 0,
            pointer: 23,
            to_multicast: false,
        };
        let refused = refusal(packet_v4(&header_v4(&record(pointer)), b"payload"));
        assert_eq!(refused, (DropReason::Malformed, Some(problem)), "{pointer}");
    }
}

#[test]
fn source_routes_are_passed_on_only_if_that_is_wanted_and_others_options_always() {
    // RFC 1812 5.3.13.1, 5.3.13.4.
    let unknown = [0x9e, 4, 1, 2];
    let alert = [option_kind::ROUTER_ALERT, 4, 0, 0];
    let timestamp = [option_kind::TIMESTAMP, 8, 5, 0, 0, 0, 0, 0];
    for options in [&unknown[..], &alert, &timestamp] {
        let passed = through(packet_v4(&header_v4(options), b"payload")).to_bytes();
        let (header, _) = ipv4::Header::parse(&passed).expect("a right checksum");
        assert_eq!(header.options.octets(), options);
    }
    let loose = [option_kind::LOOSE_SOURCE_ROUTE, 7, 4, 10, 0, 0, 1];
    let strict = [option_kind::STRICT_SOURCE_ROUTE, 7, 4, 10, 0, 0, 1];
    for route in [loose, strict] {
        let refused = refusal(packet_v4(&header_v4(&route), b"payload"));
        assert_eq!(refused, (DropReason::BadSource, None));
    }
    let mut packet = packet_v4(&header_v4(&loose), b"payload");
    assert!(parse(&mut packet, SourceRoutes::Pass).is_ok());
    let mut packet = packet_v4(&header_v4(&strict), b"payload");
    let refused = parse(&mut packet, SourceRoutes::Pass).expect_err("not the next router");
    assert_eq!(refused.reason(), DropReason::Malformed);
    // RFC 1812 4.3.3.5: an option that is longer than the header is told of.
    let refused = refusal(packet_v4(&header_v4(&[0x9e, 9, 0, 0]), b"payload"));
    let problem = Problem::ParameterProblem {
        code: 0,
        pointer: 20,
        to_multicast: false,
    };
    assert_eq!(refused, (DropReason::Malformed, Some(problem)));
}

#[test]
fn of_extension_headers_a_router_looks_at_hop_by_hop_options_alone() {
    // RFC 8200 4, 4.2.
    let extension = |option: [u8; 6]| {
        let mut octets = vec![protocol::UDP, 0];
        octets.extend(option);
        octets.extend(b"payload");
        octets
    };
    let unknown = |action: u8| extension([action | 0x1e, 4, 0, 0, 0, 0]);
    let packet =
        |next_header, payload: &[u8]| packet_v6("fd00::9", "2001:db8::7", next_header, payload);
    through(packet(protocol::HOP_BY_HOP, &unknown(0x00)));
    let refused = refusal(packet(protocol::HOP_BY_HOP, &unknown(0x40)));
    assert_eq!(refused, (DropReason::Malformed, None));
    let refused = refusal(packet(protocol::HOP_BY_HOP, &unknown(0xc0)));
    let problem = Problem::ParameterProblem {
        code: parameter_problem::UNRECOGNIZED_OPTION,
        pointer: 42,
        to_multicast: false,
    };
    assert_eq!(refused, (DropReason::Malformed, Some(problem)));
    // The rest is the destination's affair: options, routing headers, what nobody knows.
    for next_header in [
        protocol::DESTINATION_OPTIONS,
        protocol::ROUTING,
        protocol::FRAGMENT,
        protocol::NO_NEXT_HEADER,
        253,
    ] {
        through(packet(next_header, &unknown(0xc0)));
    }
}

/// What fragments are of, put together again by their offsets.
fn join(fragments: &[Packet]) -> (Vec<u8>, Vec<ipv4::Header>) {
    let mut whole = Vec::new();
    let mut headers = Vec::new();
    for fragment in fragments {
        let octets = fragment.to_bytes();
        let (header, len) = ipv4::Header::parse(&octets).expect("a right checksum");
        assert_eq!(octets.len(), usize::from(header.total_len));
        let first = headers
            .first()
            .map_or(header.fragment_offset, |first: &ipv4::Header| {
                first.fragment_offset
            });
        assert_eq!(whole.len(), usize::from(header.fragment_offset - first));
        whole.extend_from_slice(&octets[len..]);
        headers.push(header);
    }
    (whole, headers)
}

#[test]
fn options_are_copied_into_later_fragments_as_their_flag_says() {
    // RFC 791 3.2.
    let options = [7, 7, 8, 0, 0, 0, 0, 0x94, 4, 0, 0];
    let fragments = cut(packet_v4(&header_v4(&options), &[7; 100]), 72).expect("room for data");
    let (whole, headers) = join(&fragments);
    assert_eq!(whole, [7; 100]);
    assert_eq!(&headers[0].options.octets()[..11], options);
    for later in &headers[1..] {
        assert_eq!(later.options.octets(), [0x94, 4, 0, 0]);
    }
}

#[test]
fn a_fragment_is_cut_into_fragments_of_the_same_packet() {
    // RFC 791 3.2: more-fragments stays set in the last one.
    let header = ipv4::Header {
        fragment_offset: 1480,
        more_fragments: true,
        ..header_v4(&[])
    };
    let payload: Vec<u8> = (0..=255).cycle().take(1480).collect();
    let fragments = cut(packet_v4(&header, &payload), 600).expect("room for data");
    let (whole, headers) = join(&fragments);
    assert_eq!(whole, payload);
    assert_eq!(headers[0].fragment_offset, 1480);
    assert!(headers.iter().all(|header| header.more_fragments));
    assert!(headers.iter().all(|header| header.identification == 0xbeef));
    // One that reaches beyond the longest packet comes from nobody who means well.
    let beyond = ipv4::Header {
        fragment_offset: 65_528,
        ..header
    };
    let refused = cut(packet_v4(&beyond, &[7; 1480]), 600);
    assert_eq!(refused.err(), Some(DropReason::Fragment));
}

#[test]
fn an_open_checksum_is_filled_in_before_a_packet_is_cut() {
    let mut packet = Packet::from_bytes(Bytes::from(vec![0; 1000]));
    packet.overwrite(6, &[0x12, 0x34]);
    packet.offload.checksum = Checksum::Partial {
        start: 0,
        offset: 6,
    };
    let parse = |text: &str| text.parse().expect("an address");
    let header = OutputHeader {
        dont_fragment: false,
        ..OutputHeader::new(parse("10.0.0.9"), parse("192.0.2.7"), protocol::UDP)
    };
    prepend(&mut packet, &header).expect("a short packet");
    let fragments = cut(packet, 500).expect("room for data");
    let (whole, _) = join(&fragments);
    let whole = Packet::from_bytes(Bytes::from(whole));
    // The field held a pseudo-header's sum: over all, that is what is left.
    assert_eq!(sum_packet(&whole, 0).finish(), 0x1234);
}

proptest! {
    #[test]
    fn fragments_fit_their_link_and_make_the_packet_again(
        payload in vec(any::<u8>(), 1..4000),
        words in 0usize..=10,
        mtu in 68usize..1600,
    ) {
        let options = vec![option_kind::NOP; words * 4];
        let fragments = cut(packet_v4(&header_v4(&options), &payload), mtu).expect("room");
        let (whole, headers) = join(&fragments);
        prop_assert_eq!(whole, payload);
        prop_assert!(fragments.iter().all(|fragment| fragment.len() <= mtu));
        let last = headers.len() - 1;
        for (at, header) in headers.iter().enumerate() {
            prop_assert_eq!(header.more_fragments, at != last);
        }
    }

    #[test]
    fn any_octets_are_passed_on_cut_or_refused(
        mut octets in vec(any::<u8>(), 0..200),
        is_v6 in any::<bool>(),
        repair in any::<bool>(),
        split in 0usize..200,
        partial in any::<Option<(u16, u16)>>(),
        segment_size in any::<Option<u16>>(),
        mtu in 20usize..300,
    ) {
        if let Some(first) = octets.first_mut() {
            *first = if is_v6 { 0x60 } else { 0x40 | *first & 0x0f };
        }
        if repair && octets.len() >= 20 && !is_v6 {
            octets[0] = 0x45;
            let len = octets.len() as u16;
            octets[2..4].copy_from_slice(&len.to_be_bytes());
            octets[10..12].fill(0);
            let mut sum = Sum::new();
            sum.add_bytes(&octets[..20]);
            octets[10..12].copy_from_slice(&sum.finish().to_be_bytes());
        }
        let mut packet = Packet::from_bytes(Bytes::from(octets));
        packet.pull_inline(split);
        if let Some((start, offset)) = partial {
            packet.offload.checksum = Checksum::Partial { start, offset };
        }
        packet.offload.segmentation = segment_size.map(|segment_size| Segmentation {
            kind: SegmentationKind::Udp,
            segment_size,
            ecn: false,
        });
        destination(&mut packet);
        let Ok(transit) = parse(&mut packet, SourceRoutes::Pass) else {
            return Ok(());
        };
        if segmentation::wire_len(&mut packet).is_err() {
            return Ok(());
        }
        transit.pass(&mut packet, Some(HERE));
        prop_assert!(packet.head().len() + ethernet::HEADER_LEN <= HEADER_ROOM);
        let mut whole = packet.clone();
        whole.prepend(ethernet::HEADER_LEN);
        if packet.offload.segmentation.is_none() && transit.destination.is_ipv4() {
            for mut fragment in cut(packet, mtu).into_iter().flatten() {
                prop_assert!(fragment.len() <= mtu);
                fragment.prepend(ethernet::HEADER_LEN);
            }
        }
    }
}
