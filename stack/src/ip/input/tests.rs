//! Received headers as tables: what is changed in a good packet, what comes of it.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

const V4: &str = "10.0.0.2";

/// An IPv4 packet of protocol 17 with `options` and 16 octets of payload, checksum right.
fn v4_with(options: &[u8], change: impl Fn(&mut ipv4::Header)) -> Vec<u8> {
    let options = ipv4::Options::new(options).unwrap();
    let mut header = ipv4::Header {
        source: Ipv4Addr::new(10, 0, 0, 1),
        destination: V4.parse().unwrap(),
        protocol: 17,
        ttl: 60,
        tos: 3,
        total_len: 0,
        identification: 0x1234,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        options,
    };
    let header_len = header.encoded_len();
    header.total_len = header_len as u16 + 16;
    change(&mut header);
    let mut octets = vec![0; header_len];
    header.emit(&mut octets);
    octets.extend(0..16);
    octets
}

fn v4(change: impl Fn(&mut ipv4::Header)) -> Vec<u8> {
    v4_with(&[], change)
}

/// An IPv6 packet with `extensions`, the first of kind `next_header`, before 16 octets of payload.
fn v6_with(next_header: u8, extensions: &[u8], change: impl Fn(&mut ipv6::Header)) -> Vec<u8> {
    let mut header = ipv6::Header {
        source: "2001:db8::1".parse().unwrap(),
        destination: "2001:db8::2".parse().unwrap(),
        traffic_class: 1,
        flow_label: 0x12345,
        payload_len: extensions.len() as u16 + 16,
        next_header,
        hop_limit: 61,
    };
    change(&mut header);
    let mut octets = vec![0; ipv6::HEADER_LEN];
    header.emit(&mut octets);
    octets.extend(extensions);
    octets.extend(0..16);
    octets
}

fn v6(change: impl Fn(&mut ipv6::Header)) -> Vec<u8> {
    v6_with(17, &[], change)
}

fn packet(octets: &[u8]) -> Packet {
    Packet::from_bytes(Bytes::copy_from_slice(octets))
}

fn refusal(octets: &[u8], arrival: Arrival) -> Option<Refusal> {
    parse(&mut packet(octets), arrival).err()
}

fn reason(octets: &[u8]) -> Option<DropReason> {
    refusal(octets, Arrival::Wire).map(|refusal| refusal.reason())
}

fn problem(octets: &[u8]) -> Option<Problem> {
    match refusal(octets, Arrival::Wire) {
        Some(Refusal::Answer(answer)) => Some(answer.problem),
        _ => None,
    }
}

#[test]
fn plain_headers_are_stripped_and_kept_for_quoting() {
    let cases = [
        (v4(|_| ()), 20, 60, Ecn::Ce),
        (v4_with(&[1, 1, 1, 0], |_| ()), 24, 60, Ecn::Ce),
        (v6(|_| ()), 40, 61, Ecn::Ect1),
    ];
    for (octets, header_len, hop_limit, ecn) in cases {
        let mut packet = packet(&octets);
        let ip = parse(&mut packet, Arrival::Wire).unwrap();
        assert_eq!(ip.header(), &octets[..header_len]);
        assert_eq!(&packet.to_bytes()[..], &octets[header_len..]);
        assert_eq!((ip.protocol, ip.hop_limit, ip.ecn()), (17, hop_limit, ecn));
        assert_eq!((ip.fragment, ip.was_fragmented), (None, false));
    }
}

#[test]
fn a_plain_header_costs_no_allocation() {
    for octets in [v4(|_| ()), v6(|_| ())] {
        let ip = parse(&mut packet(&octets), Arrival::Wire).unwrap();
        assert!(!ip.header.spilled());
    }
}

#[test]
fn link_padding_is_trimmed_and_short_packets_are_refused() {
    for octets in [v4(|_| ()), v6(|_| ())] {
        let mut padded = octets.clone();
        padded.extend([0; 10]);
        let mut padded = packet(&padded);
        parse(&mut padded, Arrival::Wire).unwrap();
        assert_eq!(padded.len(), 16);
        for len in 0..octets.len() {
            assert_eq!(
                reason(&octets[..len]),
                Some(DropReason::Malformed),
                "{len} octets"
            );
        }
    }
}

#[test]
fn headers_in_pieces_are_pulled_together() {
    for octets in [
        v4_with(&[1; 40], |_| ()),
        v6_with(60, &[17, 0, 1, 4, 0, 0, 0, 0], |_| ()),
    ] {
        for cut in 1..octets.len() {
            let mut pieces = Packet::new();
            pieces.push(Bytes::copy_from_slice(&octets[..cut]));
            pieces.push(Bytes::copy_from_slice(&octets[cut..]));
            let ip = parse(&mut pieces, Arrival::Wire).unwrap();
            assert_eq!(ip.header().len() + 16, octets.len(), "cut at {cut}");
            assert_eq!(&pieces.to_bytes()[..], &octets[octets.len() - 16..]);
        }
    }
}

#[test]
fn wrong_headers_are_dropped() {
    let with = |at: usize, value: u8| {
        let mut octets = v4(|_| ());
        octets[at] = value;
        octets
    };
    let cases = [
        (vec![], DropReason::Malformed, "nothing"),
        (vec![0x50; 60], DropReason::Malformed, "version 5"),
        (with(0, 0x44), DropReason::Malformed, "header length 16"),
        (
            with(0, 0x4f),
            DropReason::Malformed,
            "header longer than the packet",
        ),
        // RFC 1122 3.2.1.2
        (with(10, 0), DropReason::Checksum, "header checksum"),
        (with(8, 1), DropReason::Checksum, "changed TTL"),
        (
            v4(|h| h.total_len = 19),
            DropReason::Malformed,
            "total length below the header's",
        ),
        (
            v4(|h| h.total_len = 37),
            DropReason::Malformed,
            "longer than what arrived",
        ),
        (
            v6(|h| h.payload_len = 17),
            DropReason::Malformed,
            "longer than what arrived",
        ),
        // RFC 2675: a jumbogram has payload length 0 and a hop-by-hop option.
        (
            v6_with(0, &[17, 0, 0xc2, 4, 0, 1, 0, 0], |h| h.payload_len = 0),
            DropReason::Malformed,
            "jumbogram",
        ),
        // RFC 8200 4.7
        (
            v6(|h| h.next_header = 59),
            DropReason::UnknownProtocol,
            "no next header",
        ),
    ];
    for (octets, expected, what) in cases {
        assert_eq!(reason(&octets), Some(expected), "{what}");
    }
}

#[test]
fn addresses_that_nobody_may_use_are_refused() {
    // source, destination, on a wire, on the loopback path
    use DropReason::{BadSource, NotForUs};
    let cases: [(&str, &str, Option<DropReason>, Option<DropReason>); 19] = [
        // RFC 1122 3.2.1.3
        ("224.0.0.1", V4, Some(BadSource), Some(BadSource)),
        ("255.255.255.255", V4, Some(BadSource), Some(BadSource)),
        ("127.0.0.1", V4, Some(BadSource), None),
        ("0.0.0.0", V4, Some(BadSource), Some(BadSource)),
        ("0.1.2.3", V4, Some(BadSource), Some(BadSource)),
        ("10.0.0.1", "127.0.0.1", Some(NotForUs), None),
        ("10.0.0.1", "0.0.0.0", Some(NotForUs), Some(NotForUs)),
        ("10.0.0.1", "224.0.0.1", None, None),
        ("10.0.0.1", "255.255.255.255", None, None),
        // RFC 2131 4.1: a DHCP client has no address yet.
        ("0.0.0.0", "255.255.255.255", None, None),
        // RFC 4291 2.5.3, 2.7
        ("::1", "2001:db8::2", Some(BadSource), None),
        ("ff02::1", "2001:db8::2", Some(BadSource), Some(BadSource)),
        ("::ffff:1.2.3.4", "2001:db8::2", Some(BadSource), None),
        ("2001:db8::1", "::1", Some(NotForUs), None),
        ("2001:db8::1", "::", Some(NotForUs), Some(NotForUs)),
        ("2001:db8::1", "ff01::1", Some(NotForUs), None),
        ("2001:db8::1", "ff00::1", Some(NotForUs), None),
        ("2001:db8::1", "ff02::1", None, None),
        // RFC 4862 5.4.2: duplicate address detection has no source.
        ("::", "ff02::1:ff00:1", None, None),
    ];
    for (source, destination, on_wire, on_loopback) in cases {
        let octets = match source.parse().unwrap() {
            IpAddr::V4(source) => v4(|h| {
                h.source = source;
                h.destination = destination.parse().unwrap();
            }),
            IpAddr::V6(source) => v6(|h| {
                h.source = source;
                h.destination = destination.parse().unwrap();
            }),
        };
        for (arrival, expected) in [(Arrival::Wire, on_wire), (Arrival::Loopback, on_loopback)] {
            let got = refusal(&octets, arrival).map(|refusal| refusal.reason());
            assert_eq!(got, expected, "{source} to {destination}, {arrival:?}");
        }
    }
}

#[test]
fn ipv4_options_are_skipped_but_for_source_routes_and_nonsense() {
    let cases: [(&[u8], Option<DropReason>, Option<u32>); 7] = [
        // RFC 1122 3.2.1.8: unknown options are ignored. A route that leads on is for routers.
        (&[0x99, 4, 1, 2], None, None),
        (&[148, 4, 0, 0], None, None),
        (
            &[131, 7, 4, 10, 0, 0, 1, 0],
            Some(DropReason::BadSource),
            None,
        ),
        (
            &[1, 137, 7, 4, 10, 0, 0, 1],
            Some(DropReason::BadSource),
            None,
        ),
        (&[131, 7, 8, 10, 0, 0, 1, 0], None, None),
        // RFC 1122 3.2.2.5: the pointer is at the option.
        (&[1, 1, 7, 1], Some(DropReason::Malformed), Some(22)),
        (&[1, 7, 9, 4], Some(DropReason::Malformed), Some(21)),
    ];
    for (options, expected, pointer) in cases {
        let octets = v4_with(options, |_| ());
        assert_eq!(reason(&octets), expected, "{options:?}");
        let told = problem(&octets).map(|problem| match problem {
            Problem::ParameterProblem { pointer, .. } => pointer,
            other => panic!("{other:?}"),
        });
        assert_eq!(told, pointer, "{options:?}");
    }
}

#[test]
fn source_route_that_has_been_followed_says_the_way_back() {
    // RFC 1122 3.2.1.8 (c): the routers in reverse.
    let octets = v4_with(&[131, 11, 12, 10, 0, 0, 1, 10, 0, 1, 1, 0], |_| ());
    let ip = parse(&mut packet(&octets), Arrival::Wire).unwrap();
    let back = SourceRoute::loose(&[[10, 0, 1, 1].into(), [10, 0, 0, 1].into()]).unwrap();
    assert_eq!(ip.return_route, Some(Box::new(ReturnRoute(Some(back)))));
    let plain = parse(&mut packet(&v4_with(&[], |_| ())), Arrival::Wire).unwrap();
    assert_eq!(plain.return_route, None);
}

#[test]
fn a_refused_packet_is_left_behind_the_header_that_its_answer_has() {
    let octets = v4_with(&[1, 1, 7, 1], |_| ());
    let mut left = packet(&octets);
    let Err(Refusal::Answer(answer)) = parse(&mut left, Arrival::Wire) else {
        panic!("no answer");
    };
    assert_eq!([answer.ip.header(), &left.to_bytes()].concat(), octets);

    let octets = v6_with(60, &[17, 0, 0x9e, 4, 0, 0, 0, 0], |_| ());
    let mut left = packet(&octets);
    let Err(Refusal::Answer(answer)) = parse(&mut left, Arrival::Wire) else {
        panic!("no answer");
    };
    assert_eq!([answer.ip.header(), &left.to_bytes()].concat(), octets);
}

#[test]
fn ipv6_extension_headers_are_stripped() {
    let options = |next| [next, 0, 1, 4, 0, 0, 0, 0];
    let extensions = [options(43), [17, 0, 0, 0, 0, 0, 0, 0]].concat();
    let octets = v6_with(60, &extensions, |_| ());
    let mut packet = packet(&octets);
    let ip = parse(&mut packet, Arrival::Wire).unwrap();
    assert_eq!((ip.protocol, ip.protocol_pointer), (17, 48));
    assert_eq!(ip.header(), &octets[..56]);
    assert_eq!(packet.len(), 16);
}

fn fragment_header(next_header: u8, offset: u16, more: bool) -> [u8; 8] {
    let mut octets = [0; 8];
    fragment::Fragment {
        next_header,
        offset,
        more,
        identification: 7,
    }
    .emit(&mut octets);
    octets
}

#[test]
fn an_atomic_fragment_is_a_whole_packet() {
    // RFC 6946 4
    let octets = v6_with(44, &fragment_header(17, 0, false), |_| ());
    let ip = parse(&mut packet(&octets), Arrival::Wire).unwrap();
    assert_eq!(
        (ip.protocol, ip.fragment, ip.was_fragmented),
        (17, None, true)
    );
}

#[test]
fn fragments_are_marked_with_their_place() {
    let expected = FragmentInfo {
        identification: 7,
        offset: 1480,
        more: true,
    };
    let v6 = v6_with(44, &fragment_header(17, 1480, true), |_| ());
    let v4 = v4(|h| {
        h.identification = 7;
        h.fragment_offset = 1480;
        h.more_fragments = true;
    });
    for octets in [v4, v6] {
        let ip = parse(&mut packet(&octets), Arrival::Wire).unwrap();
        assert_eq!((ip.protocol, ip.fragment), (17, Some(expected)));
    }
}

#[test]
fn fragments_that_cannot_be_right_are_refused() {
    let told = |code, pointer| {
        Some(Problem::ParameterProblem {
            code,
            pointer,
            to_multicast: false,
        })
    };
    let v6 = |offset, more, len: u16| {
        let mut octets = v6_with(44, &fragment_header(6, offset, more), |h| {
            h.payload_len = 8 + len;
        });
        octets.resize(48 + usize::from(len), 0);
        octets
    };
    // RFC 8200 4.5
    assert_eq!(
        problem(&v6(8, true, 15)),
        told(0, 4),
        "not in units of 8 octets"
    );
    assert_eq!(
        problem(&v6(65_528, false, 8)),
        told(0, 42),
        "beyond 65,535 octets"
    );
    assert_eq!(problem(&v6(65_528, false, 7)), None);
    assert_eq!(problem(&v6(0, true, 16)), told(3, 0), "headers incomplete");
    assert_eq!(problem(&v6(0, true, 24)), None);
    assert_eq!(problem(&v6(8, false, 15)), None);

    // RFC 791 has no answer for those.
    let v4 = |offset, more, len: u16| {
        let mut octets = v4(|h| {
            h.fragment_offset = offset;
            h.more_fragments = more;
            h.total_len = 20 + len;
        });
        octets.resize(20 + usize::from(len), 0);
        refusal(&octets, Arrival::Wire)
    };
    assert_eq!(v4(8, true, 15), Some(Refusal::Drop(DropReason::Fragment)));
    assert_eq!(
        v4(65_512, false, 4),
        Some(Refusal::Drop(DropReason::Fragment))
    );
    assert_eq!(v4(65_512, false, 3), None);
}

#[test]
fn a_reassembled_packet_goes_on_behind_its_own_extension_headers() {
    let octets = v6_with(44, &fragment_header(60, 0, false), |_| ());
    let ip = parse(&mut packet(&octets[..48]), Arrival::Wire);
    assert_eq!(
        ip.err().map(|refusal| refusal.reason()),
        Some(DropReason::Malformed)
    );

    let mut whole = packet(&v6(|_| ()));
    let mut ip = parse(&mut whole, Arrival::Wire).unwrap();
    ip.protocol = 60;
    let mut rest = packet(&[[17, 0, 1, 4, 0, 0, 0, 0], [9; 8]].concat());
    let resumed = resume(ip.clone(), &mut rest).unwrap();
    assert_eq!((resumed.protocol, resumed.protocol_pointer), (17, 40));
    assert_eq!(resumed.header().len(), 48);
    assert_eq!(rest.len(), 8);

    // A fragment inside of a fragment.
    ip.protocol = 44;
    let mut nested = packet(&[&fragment_header(17, 8, true)[..], &[0; 8]].concat());
    let refused = resume(ip, &mut nested).unwrap_err();
    assert_eq!(refused, Refusal::Drop(DropReason::Fragment));
}

proptest! {
    #[test]
    fn arbitrary_octets_never_panic(
        mut octets in proptest::collection::vec(any::<u8>(), 0..120),
        shape in 0..4,
        cut in any::<prop::sample::Index>(),
    ) {
        // Mostly something that looks like a header.
        match (shape, &mut octets[..]) {
            (0, [first, ..]) => *first = 0x45,
            (1, [first, _, len @ .., ]) if len.len() > 40 => {
                *first = 0x60;
                len[2..4].copy_from_slice(&[0, 20]);
                len[4] %= 64;
            }
            _ => {}
        }
        let cut = cut.index(octets.len() + 1);
        let mut packet = Packet::new();
        packet.push(Bytes::copy_from_slice(&octets[..cut]));
        packet.push(Bytes::copy_from_slice(&octets[cut..]));
        if let Ok(ip) = parse(&mut packet, Arrival::Wire) {
            prop_assert!(ip.header().len() + packet.len() <= octets.len());
            let _ = resume(ip, &mut packet);
        }
    }
}
