//! Errors built and understood, as tables of the rules.

use proptest::prelude::*;

use super::*;
use crate::ip::InterfaceId;
use crate::ip::address::{AddressTable, InterfaceAddress};
use crate::ip::icmp::{self, Message};
use crate::ip::input::{self, Arrival, Refusal};
use crate::ip::output;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn addresses() -> AddressTable {
    let mut table = AddressTable::new();
    for cidr in ["10.0.0.2/24", "2001:db8::2/64"] {
        table.insert(InterfaceAddress::new(InterfaceId(2), cidr.parse().unwrap()));
    }
    table
}

/// A packet with `payload`, as it comes from the wire.
fn received(source: &str, destination: &str, protocol: u8, payload: &[u8]) -> (IpPacket, Packet) {
    let mut packet = Packet::from_bytes(Bytes::copy_from_slice(payload));
    let header = OutputHeader {
        traffic_class: 0xbb,
        ..OutputHeader::new(ip(source), ip(destination), protocol)
    };
    output::prepend(&mut packet, &header).unwrap();
    let parsed = input::parse(&mut packet, Arrival::Loopback).unwrap();
    (parsed, packet)
}

fn build_for(
    problem: Problem,
    packet: &(IpPacket, Packet),
    is_link_broadcast: bool,
) -> Option<Outgoing> {
    let addresses = addresses();
    let fallback = if packet.0.is_ipv6() {
        "2001:db8::2"
    } else {
        "10.0.0.2"
    };
    let responder = Responder {
        addresses: &addresses,
        fallback_source: Some(ip(fallback)),
        is_link_broadcast,
    };
    build(problem, &packet.0, &packet.1, &responder)
}

/// What the other side makes of an error.
fn understood(mut outgoing: Outgoing) -> (IpPacket, Bytes, Result<ReceivedError, DropReason>) {
    output::prepend(&mut outgoing.packet, &outgoing.header).unwrap();
    let mut packet = Packet::from_bytes(outgoing.packet.to_bytes());
    let ip = input::parse(&mut packet, Arrival::Wire).unwrap();
    let octets = packet.to_bytes();
    let error = icmp::parse(&ip, &mut packet).map(|message| match message {
        Message::Error(error) => error,
        other => panic!("{other:?}"),
    });
    (ip, octets, error)
}

const UDP: [u8; 12] = [0x12, 0x34, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4];

/// A problem; type, code and second word for IPv4, and what a transport is told of it; the same for IPv6.
type Meaning = (Problem, [u8; 6], IcmpError, [u8; 6], IcmpError);

fn meanings() -> [Meaning; 9] {
    use IcmpError::{PacketTooBig, Refused, Unreachable};
    let refused = Refused(SocketError::ConnectionRefused);
    let host = Unreachable(SocketError::HostUnreachable);
    let net = Unreachable(SocketError::NetworkUnreachable);
    let protocol = Refused(SocketError::Protocol);
    let parameter = Problem::ParameterProblem {
        code: 0,
        pointer: 9,
        to_multicast: false,
    };
    [
        (
            Problem::PortUnreachable,
            [3, 3, 0, 0, 0, 0],
            refused,
            [1, 4, 0, 0, 0, 0],
            refused,
        ),
        (
            Problem::ProtocolUnreachable,
            [3, 2, 0, 0, 0, 0],
            Refused(SocketError::ProtocolUnreachable),
            // RFC 8200 4: parameter problem, code 1, at the Next Header field.
            [4, 1, 0, 0, 0, 6],
            protocol,
        ),
        (
            Problem::HostUnreachable,
            [3, 1, 0, 0, 0, 0],
            host,
            [1, 3, 0, 0, 0, 0],
            host,
        ),
        (
            Problem::NetworkUnreachable,
            [3, 0, 0, 0, 0, 0],
            net,
            [1, 0, 0, 0, 0, 0],
            net,
        ),
        (
            Problem::Prohibited,
            [3, 13, 0, 0, 0, 0],
            Refused(SocketError::HostUnreachable),
            [1, 1, 0, 0, 0, 0],
            Refused(SocketError::PermissionDenied),
        ),
        (
            Problem::PacketTooBig { mtu: 1300 },
            [3, 4, 0, 0, 0x05, 0x14],
            PacketTooBig { mtu: 1300 },
            [2, 0, 0, 0, 0x05, 0x14],
            PacketTooBig { mtu: 1300 },
        ),
        (
            Problem::HopLimitExceeded,
            [11, 0, 0, 0, 0, 0],
            host,
            [3, 0, 0, 0, 0, 0],
            host,
        ),
        (
            Problem::ReassemblyTimeExceeded,
            [11, 1, 0, 0, 0, 0],
            host,
            [3, 1, 0, 0, 0, 0],
            host,
        ),
        (
            parameter,
            [12, 0, 9, 0, 0, 0],
            protocol,
            [4, 0, 0, 0, 0, 9],
            protocol,
        ),
    ]
}

#[test]
fn each_problem_has_its_message_and_its_meaning() {
    let mut long = UDP.to_vec();
    long.resize(1400, 0);
    for (problem, v4, error_v4, v6, error_v6) in meanings() {
        let ends = [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2")];
        let expected = [(v4, error_v4), (v6, error_v6)];
        for ((source, destination), (octets, error)) in ends.into_iter().zip(expected) {
            let packet = received(source, destination, protocol::UDP, &long);
            let (from, message, understood) =
                understood(build_for(problem, &packet, false).unwrap());
            assert_eq!(
                (from.source, from.destination),
                (ip(destination), ip(source))
            );
            assert_eq!(
                [&message[..2], &message[4..8]].concat(),
                octets,
                "{problem:?}"
            );
            let understood = understood.unwrap();
            assert_eq!(understood.error, error, "{problem:?}");
            assert_eq!(
                (understood.source, understood.destination),
                (ip(source), ip(destination))
            );
            assert_eq!(
                (understood.protocol, understood.ports()),
                (protocol::UDP, (0x1234, 53))
            );
            assert_eq!(understood.second_word(), 0x000c_0000);
        }
    }
}

#[test]
fn an_error_quotes_as_much_as_fits_and_exactly() {
    // RFC 1812 4.3.2.3: 576 octets; RFC 4443 2.4 (c): 1280.
    for (source, destination, header_len, limit) in [
        ("10.0.0.1", "10.0.0.2", 20, 576),
        ("2001:db8::1", "2001:db8::2", 40, 1280),
    ] {
        for len in [0usize, 1, 8, 500, 520, 521, 1192, 1193, 9000] {
            let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let packet = received(source, destination, protocol::UDP, &payload);
            let outgoing = build_for(Problem::PortUnreachable, &packet, false).unwrap();
            let quoted = &outgoing.packet.to_bytes()[8..];
            let whole = [packet.0.header(), &payload].concat();
            let expected = whole.len().min(limit - header_len - 8);
            assert_eq!(quoted, &whole[..expected], "{len}");
        }
    }
}

#[test]
fn precedence_and_fragmentation_are_as_routers_expect() {
    // RFC 1812 4.3.2.5
    let packet = received("10.0.0.1", "10.0.0.2", protocol::UDP, &UDP);
    let header = build_for(Problem::PortUnreachable, &packet, false)
        .unwrap()
        .header;
    assert_eq!((header.traffic_class, header.dont_fragment), (0xd8, false));
}

/// Source, destination, protocol, payload, problem, whether an error may be sent.
type Rule = (&'static str, &'static str, u8, &'static [u8], Problem, bool);

const PORT: Problem = Problem::PortUnreachable;

const fn option(to_multicast: bool) -> Problem {
    Problem::ParameterProblem {
        code: 2,
        pointer: 48,
        to_multicast,
    }
}

fn check_rules(rules: &[Rule]) {
    for &(source, destination, protocol, payload, problem, expected) in rules {
        let packet = received(source, destination, protocol, payload);
        let sent = build_for(problem, &packet, false).is_some();
        let what = format!("{source} to {destination}, {protocol} {payload:?}, {problem:?}");
        assert_eq!(sent, expected, "{what}");
        let as_broadcast = build_for(problem, &packet, true).is_some();
        assert_eq!(
            as_broadcast,
            expected && problem.is_for_multicast(),
            "{what}"
        );
    }
}

#[test]
fn icmp_errors_are_not_sent_where_the_rules_forbid() {
    // RFC 1122 3.2.2
    check_rules(&[
        ("10.0.0.1", "10.0.0.2", 17, &UDP, PORT, true),
        ("10.0.0.1", "10.0.0.255", 17, &UDP, PORT, false),
        ("10.0.0.1", "255.255.255.255", 17, &UDP, PORT, false),
        ("10.0.0.1", "224.0.0.9", 17, &UDP, PORT, false),
        ("10.0.0.1", "224.0.0.9", 17, &UDP, option(true), false),
        ("10.0.0.255", "10.0.0.2", 17, &UDP, PORT, false),
        ("240.0.0.1", "10.0.0.2", 17, &UDP, PORT, false),
        ("127.0.0.1", "127.0.0.1", 17, &UDP, PORT, true),
        // About ICMP: errors no, requests yes, and no if it cannot be told.
        (
            "10.0.0.1",
            "10.0.0.2",
            1,
            &[3, 3, 0, 0, 0, 0, 0, 0],
            PORT,
            false,
        ),
        (
            "10.0.0.1",
            "10.0.0.2",
            1,
            &[4, 0, 0, 0, 0, 0, 0, 0],
            PORT,
            false,
        ),
        (
            "10.0.0.1",
            "10.0.0.2",
            1,
            &[5, 0, 0, 0, 0, 0, 0, 0],
            PORT,
            false,
        ),
        (
            "10.0.0.1",
            "10.0.0.2",
            1,
            &[11, 0, 0, 0, 0, 0, 0, 0],
            PORT,
            false,
        ),
        (
            "10.0.0.1",
            "10.0.0.2",
            1,
            &[12, 0, 0, 0, 0, 0, 0, 0],
            PORT,
            false,
        ),
        (
            "10.0.0.1",
            "10.0.0.2",
            1,
            &[8, 0, 0, 0, 0, 0, 0, 0],
            PORT,
            true,
        ),
        ("10.0.0.1", "10.0.0.2", 1, &[], PORT, false),
    ]);
}

#[test]
fn icmpv6_errors_are_not_sent_where_the_rules_forbid() {
    // RFC 4443 2.4 (e)
    let too_big = Problem::PacketTooBig { mtu: 1280 };
    check_rules(&[
        ("2001:db8::1", "2001:db8::2", 17, &UDP, PORT, true),
        ("::", "2001:db8::2", 17, &UDP, PORT, false),
        ("2001:db8::1", "ff02::1", 17, &UDP, PORT, false),
        // (e.3): these two are told to groups as well.
        ("2001:db8::1", "ff02::1", 17, &UDP, too_big, true),
        ("2001:db8::1", "ff02::1", 17, &UDP, option(true), true),
        ("2001:db8::1", "ff02::1", 17, &UDP, option(false), false),
        // (e.1), (e.2): errors, known or not, and redirects; not about requests.
        (
            "2001:db8::1",
            "2001:db8::2",
            58,
            &[1, 4, 0, 0, 0, 0, 0, 0],
            PORT,
            false,
        ),
        (
            "2001:db8::1",
            "2001:db8::2",
            58,
            &[127, 0, 0, 0, 0, 0, 0, 0],
            PORT,
            false,
        ),
        (
            "2001:db8::1",
            "2001:db8::2",
            58,
            &[137, 0, 0, 0, 0, 0, 0, 0],
            PORT,
            false,
        ),
        (
            "2001:db8::1",
            "2001:db8::2",
            58,
            &[128, 0, 0, 0, 0, 0, 0, 0],
            PORT,
            true,
        ),
        ("2001:db8::1", "2001:db8::2", 58, &[], PORT, false),
    ]);
}

#[test]
fn later_fragments_of_ipv4_are_not_answered() {
    // RFC 1122 3.2.2: a non-initial fragment.
    let mut packet = received("10.0.0.1", "10.0.0.2", protocol::UDP, &UDP);
    for (offset, expected) in [(0, true), (8, false)] {
        packet.0.fragment = Some(input::FragmentInfo {
            identification: 1,
            offset,
            more: true,
        });
        let sent = build_for(Problem::ReassemblyTimeExceeded, &packet, false).is_some();
        assert_eq!(sent, expected);
    }
}

#[test]
fn without_an_own_address_there_is_no_answer() {
    let packet = received("10.0.0.1", "10.0.0.77", protocol::UDP, &UDP);
    let addresses = addresses();
    let mut responder = Responder {
        addresses: &addresses,
        fallback_source: None,
        is_link_broadcast: false,
    };
    assert!(build(Problem::PortUnreachable, &packet.0, &packet.1, &responder).is_none());
    responder.fallback_source = Some(ip("10.0.0.2"));
    let sent = build(Problem::PortUnreachable, &packet.0, &packet.1, &responder).unwrap();
    assert_eq!(sent.header.source, ip("10.0.0.2"));
}

#[test]
fn an_extension_header_before_an_error_message_hides_it_not() {
    // RFC 4443 2.4 (e.1): the option would ask for an answer, but what follows is an ICMPv6 error.
    for (kind, expected) in [(1, false), (128, true)] {
        let octets = [
            &[58, 0, 0x9e, 4, 0, 0, 0, 0][..],
            &[kind, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        let mut packet = Packet::from_bytes(octets.into());
        let header = OutputHeader::new(ip("2001:db8::1"), ip("2001:db8::2"), 60);
        output::prepend(&mut packet, &header).unwrap();
        let Err(Refusal::Answer(answer)) = input::parse(&mut packet, Arrival::Wire) else {
            panic!("the option asks for an answer");
        };
        let sent = build_for(answer.problem, &(answer.ip, packet), false);
        assert_eq!(sent.is_some(), expected, "type {kind}");
    }
}

fn meaning(is_ipv6: bool, octets: [u8; 8], body: &[u8]) -> Result<ReceivedError, DropReason> {
    let mut packet = Packet::from_bytes([&octets[..], body].concat().into());
    if is_ipv6 {
        let (message, _) = icmpv6::Message::parse(&octets).unwrap();
        parse_received_v6(&message, &mut packet)
    } else {
        let (message, _) = icmpv4::Message::parse(&octets).unwrap();
        parse_received_v4(&message, &mut packet)
    }
}

/// A whole packet of ours, to be quoted.
fn ours(is_ipv6: bool, len: usize) -> Vec<u8> {
    let (source, destination) = match is_ipv6 {
        false => ("10.0.0.2", "192.0.2.1"),
        true => ("2001:db8::2", "2001:db8:1::1"),
    };
    let mut packet = Packet::from_bytes(vec![0xab; len].into());
    let header = OutputHeader::new(ip(source), ip(destination), protocol::TCP);
    output::prepend(&mut packet, &header).unwrap();
    packet.to_bytes().to_vec()
}

#[test]
fn codes_mean_what_linux_makes_of_them() {
    use IcmpError::{PacketTooBig, Refused, Unreachable};
    use SocketError as E;
    // RFC 792, RFC 1122 3.2.2.1; icmp_err_convert
    let v4 = [
        (0, Some(Unreachable(E::NetworkUnreachable))),
        (1, Some(Unreachable(E::HostUnreachable))),
        (2, Some(Refused(E::ProtocolUnreachable))),
        (3, Some(Refused(E::ConnectionRefused))),
        // RFC 1191 5: no MTU given, our packet had 1020 octets.
        (4, Some(PacketTooBig { mtu: 1006 })),
        (5, Some(Unreachable(E::NotSupported))),
        (6, Some(Refused(E::NetworkUnreachable))),
        (7, Some(Refused(E::HostUnreachable))),
        (8, Some(Refused(E::HostUnreachable))),
        (9, Some(Refused(E::NetworkUnreachable))),
        (10, Some(Refused(E::HostUnreachable))),
        (11, Some(Unreachable(E::NetworkUnreachable))),
        (12, Some(Unreachable(E::HostUnreachable))),
        (13, Some(Refused(E::HostUnreachable))),
        (14, Some(Refused(E::HostUnreachable))),
        (15, Some(Refused(E::HostUnreachable))),
        (16, None),
    ];
    for (code, expected) in v4 {
        let got = meaning(false, [3, code, 0, 0, 0, 0, 0, 0], &ours(false, 1000));
        assert_eq!(
            got.map(|e| e.error),
            expected.ok_or(DropReason::BadIcmp),
            "code {code}"
        );
    }
    // RFC 4443 3.1; icmpv6_err_convert
    let v6 = [
        (0, Unreachable(E::NetworkUnreachable)),
        (1, Refused(E::PermissionDenied)),
        (2, Unreachable(E::HostUnreachable)),
        (3, Unreachable(E::HostUnreachable)),
        (4, Refused(E::ConnectionRefused)),
        (5, Refused(E::PermissionDenied)),
        (6, Refused(E::PermissionDenied)),
        (7, Refused(E::Protocol)),
    ];
    for (code, expected) in v6 {
        let got = meaning(true, [1, code, 0, 0, 0, 0, 0, 0], &ours(true, 1000));
        assert_eq!(got.map(|e| e.error), Ok(expected), "code {code}");
    }
}

#[test]
fn quotes_that_tell_nothing_are_ignored() {
    let unreachable = [[3, 3, 0, 0, 0, 0, 0, 0], [1, 4, 0, 0, 0, 0, 0, 0]];
    for is_ipv6 in [false, true] {
        let message = unreachable[usize::from(is_ipv6)];
        let whole = ours(is_ipv6, 8);
        assert!(meaning(is_ipv6, message, &whole).is_ok());
        for len in 0..whole.len() {
            let cut = meaning(is_ipv6, message, &whole[..len]);
            assert_eq!(cut, Err(DropReason::BadIcmp), "{len} octets");
        }
        // A packet of the other IP version.
        assert_eq!(
            meaning(is_ipv6, message, &ours(!is_ipv6, 8)),
            Err(DropReason::BadIcmp)
        );
    }
    let mut later = ours(false, 8);
    later[7] = 1;
    assert_eq!(
        meaning(false, unreachable[0], &later),
        Err(DropReason::BadIcmp)
    );
    // RFC 8201 4: a Packet Too Big below 1280 is discarded.
    let too_big = [2, 0, 0, 0, 0, 0, 0x04, 0xff];
    assert_eq!(
        meaning(true, too_big, &ours(true, 1400)),
        Err(DropReason::BadIcmp)
    );
}

#[test]
fn an_error_for_a_group_is_no_error() {
    for is_ipv6 in [false, true] {
        let (source, group, protocol) = match is_ipv6 {
            false => ("10.0.0.1", "224.0.0.1", protocol::ICMPV4),
            true => ("2001:db8::1", "ff02::1", protocol::ICMPV6),
        };
        let mut message = Packet::from_bytes(ours(is_ipv6, 8).into());
        let octets = if is_ipv6 {
            [1, 4, 0, 0, 0, 0, 0, 0]
        } else {
            [3, 3, 0, 0, 0, 0, 0, 0]
        };
        message.prepend(8).copy_from_slice(&octets);
        fill_checksum(ip(source), ip(group), &mut message);
        output::prepend(
            &mut message,
            &OutputHeader::new(ip(source), ip(group), protocol),
        )
        .unwrap();
        let parsed = input::parse(&mut message, Arrival::Wire).unwrap();
        assert_eq!(icmp::parse(&parsed, &mut message), Err(DropReason::BadIcmp));
    }
}

#[test]
fn the_transport_is_found_behind_quoted_extension_headers() {
    let mut fragment = [0; 8];
    ipv6::fragment::Fragment {
        next_header: protocol::UDP,
        offset: 0,
        more: true,
        identification: 7,
    }
    .emit(&mut fragment);
    let mut packet = Packet::from_bytes([&fragment[..], &UDP].concat().into());
    let header = OutputHeader::new(ip("2001:db8::2"), ip("2001:db8::1"), protocol::FRAGMENT);
    output::prepend(&mut packet, &header).unwrap();
    let error = meaning(true, [1, 4, 0, 0, 0, 0, 0, 0], &packet.to_bytes()).unwrap();
    assert_eq!(
        (error.protocol, error.ports()),
        (protocol::UDP, (0x1234, 53))
    );
}

#[test]
fn what_follows_a_quoted_packet_is_not_taken_for_it() {
    // RFC 4884 4, 5: the length of the original packet, in words of 32 or 64 bits; an extension structure behind it.
    let extension = [0x20, 0, 0, 0, 0, 8, 1, 1, 0xde, 0xad, 0xbe, 0xef];
    for (is_ipv6, message) in [
        (false, [11, 0, 0, 0, 0, 32, 0, 0]),
        (false, [3, 3, 0, 0, 0, 32, 0, 0]),
        (false, [12, 0, 0, 0, 20, 32, 0, 0]),
        (true, [3, 0, 0, 0, 16, 0, 0, 0]),
        (true, [1, 4, 0, 0, 16, 0, 0, 0]),
    ] {
        // 128 octets in all, of which the transport has the last 10.
        let headers = if is_ipv6 {
            let mut options = [0; 78];
            options[..2].copy_from_slice(&[protocol::UDP, 9]);
            // PadN, and what is left behind it.
            options[2..4].copy_from_slice(&[1, 74]);
            let mut packet = Packet::from_bytes([&options[..], &[0; 2]].concat().into());
            let to = ip("2001:db8:1::1");
            let header = OutputHeader::new(ip("2001:db8::2"), to, protocol::DESTINATION_OPTIONS);
            output::prepend(&mut packet, &header).unwrap();
            packet.to_bytes().to_vec()
        } else {
            ours(false, 0)
        };
        let mut body = headers;
        body.resize(128, 7);
        body.extend(extension);
        let kept = meaning(is_ipv6, message, &body).unwrap().transport;
        let expected = if is_ipv6 { 8 } else { MAX_QUOTED_TRANSPORT };
        assert_eq!(kept.len(), expected, "{message:?}");
        assert!(kept.iter().all(|octet| *octet == 7), "{message:?}");
        // An octet that old routers leave there is no length (RFC 4884 5.5).
        let mut old = message;
        old[if is_ipv6 { 4 } else { 5 }] = 3;
        assert!(meaning(is_ipv6, old, &body).is_ok());
        // Nor is one that is longer than what is there.
        old[if is_ipv6 { 4 } else { 5 }] = 255;
        assert!(meaning(is_ipv6, old, &body).is_ok());
    }
}

#[test]
fn a_changed_header_in_a_quote_is_no_reason_to_ignore_it() {
    // RFC 792 quotes the header as the router had it: TTL lower, checksum perhaps not.
    let mut quoted = ours(false, 20);
    quoted[8] = 1;
    assert!(meaning(false, [11, 0, 0, 0, 0, 0, 0, 0], &quoted).is_ok());
}

proptest! {
    #[test]
    fn arbitrary_quotes_never_panic(
        is_ipv6: bool,
        octets in any::<[u8; 8]>(),
        mut body in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        if let Some(first) = body.first_mut() {
            *first = if is_ipv6 { 0x60 } else { 0x45 };
        }
        if let Some(next) = body.get_mut(6) {
            *next = [0, 43, 44, 60, 6][usize::from(*next) % 5];
        }
        if let Ok(error) = meaning(is_ipv6, octets, &body) {
            prop_assert!((8..=MAX_QUOTED_TRANSPORT).contains(&error.transport.len()));
        }
    }
}
