//! ICMP of an engine on Ethernet links, rule by rule: what it says, to whom it says nothing, and whom it believes
//! (RFC 792, RFC 1122 3.2.2, RFC 4443).

use std::net::{IpAddr, Ipv4Addr};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tidewire_netdev::Checksum;

use super::ethernet::{FIRST, Host, SECOND, THEIRS, datagram, frame, ip};
use super::*;
use crate::ip::autoconf::dad::DuplicateDetection;
use crate::ip::output::{self, OutputHeader};
use crate::link::ethernet::{self, LinkProtocol};
use crate::stats::DropReason;
use crate::wire::ethernet::HEADER_LEN;
use crate::wire::{ipv4, ipv6, protocol};

/// This host and its neighbour, for each IP version.
const PAIRS: [(&str, &str); 2] = [("10.0.0.1", "10.0.0.9"), ("fd00::1", "fd00::9")];

/// An ICMP message that was sent: source and destination, type and code, the second word, the rest.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) addresses: (IpAddr, IpAddr),
    pub(super) what: (u8, u8),
    pub(super) word: u32,
    pub(super) rest: Vec<u8>,
}

pub(super) fn said(frame: &Packet) -> Said {
    let octets = &frame.to_bytes()[HEADER_LEN..];
    let (addresses, protocol, len): ((IpAddr, IpAddr), _, _) = if octets[0] >> 4 == 4 {
        let (header, len) = ipv4::Header::parse(octets).expect("an IPv4 header");
        let addresses = (header.source.into(), header.destination.into());
        (addresses, header.protocol, len)
    } else {
        let (header, len) = ipv6::Header::parse(octets).expect("an IPv6 header");
        let addresses = (header.source.into(), header.destination.into());
        (addresses, header.next_header, len)
    };
    assert!(matches!(protocol, protocol::ICMPV4 | protocol::ICMPV6));
    let message = &octets[len..];
    Said {
        addresses,
        what: (message[0], message[1]),
        word: u32::from_be_bytes(message[4..8].try_into().expect("4 octets")),
        rest: message[8..].to_vec(),
    }
}

/// A host whose neighbours of [`PAIRS`] are known.
fn host_with(change: impl FnOnce(&mut Config)) -> Host {
    let mut config = Config {
        seed: Some(1),
        ..Config::default()
    };
    config.host.duplicate_detection_v6 = DuplicateDetection::Off;
    change(&mut config);
    let mut host = Host::with(config);
    for (_, theirs) in PAIRS {
        let set = host
            .engine
            .set_neighbor(host.now, FIRST, ip(theirs), THEIRS);
        set.expect("an Ethernet interface");
    }
    host.sent_all(FIRST);
    host
}

fn host() -> Host {
    host_with(|_| ())
}

impl Host {
    /// What the host says about a packet from its neighbour.
    fn says(&mut self, frame: Packet) -> Vec<Said> {
        self.receive(FIRST, frame);
        self.sent(FIRST).iter().map(said).collect()
    }

    /// What it says to a packet from `theirs` to `ours`.
    fn says_to(&mut self, ours: &str, theirs: &str, protocol: u8, payload: &[u8]) -> Vec<Said> {
        let hardware = (THEIRS, self.ours(FIRST));
        let addresses = (ip(theirs), ip(ours));
        self.says(frame(hardware, addresses, protocol, payload))
    }
}

/// A frame to this host with a whole IP packet.
fn whole(host: &Host, packet: &[u8]) -> Packet {
    let mut frame = Packet::new();
    frame.push(Bytes::copy_from_slice(packet));
    let protocol = match packet[0] >> 4 {
        4 => LinkProtocol::Ipv4,
        _ => LinkProtocol::Ipv6,
    };
    ethernet::prepend(&mut frame, THEIRS, host.ours(FIRST), protocol);
    frame.offload.checksum = Checksum::Verified;
    frame
}

fn header_v4(options: &[u8], payload_len: usize) -> ipv4::Header {
    let options = ipv4::Options::new(options).expect("at most 40 octets");
    let mut header = ipv4::Header {
        source: Ipv4Addr::new(10, 0, 0, 9),
        destination: Ipv4Addr::new(10, 0, 0, 1),
        protocol: protocol::UDP,
        ttl: 64,
        tos: 0,
        total_len: 0,
        identification: 7,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        options,
    };
    header.total_len = (header.encoded_len() + payload_len) as u16;
    header
}

fn packet_v4(header: &ipv4::Header, payload: &[u8]) -> Vec<u8> {
    let mut octets = vec![0; header.encoded_len()];
    header.emit(&mut octets);
    octets.extend(payload);
    octets
}

/// An IPv6 packet from the neighbour whose payload begins with a header of kind `next_header`.
fn packet_v6(next_header: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let header = ipv6::Header {
        source: "fd00::9".parse().expect("an address"),
        destination: "fd00::1".parse().expect("an address"),
        traffic_class: 0,
        flow_label: 0,
        payload_len: payload.len() as u16,
        next_header,
        hop_limit,
    };
    let mut octets = vec![0; ipv6::HEADER_LEN];
    header.emit(&mut octets);
    octets.extend(payload);
    octets
}

#[test]
fn a_datagram_for_no_socket_is_port_unreachable() {
    // RFC 1122 4.1.3.1, 3.2.2.1; RFC 4443 3.1. From the address it was for, to its sender, with the packet itself
    // (RFC 1122 3.2.2, RFC 4443 2.2 (a), 2.4 (c)).
    for ((ours, theirs), what) in PAIRS.into_iter().zip([(3, 3), (1, 4)]) {
        let mut host = host();
        let payload = datagram(9999);
        let said = host.says_to(ours, theirs, protocol::UDP, &payload);
        let [said] = &said[..] else {
            panic!("one message: {said:?}");
        };
        assert_eq!(said.addresses, (ip(ours), ip(theirs)));
        assert_eq!((said.what, said.word), (what, 0));
        assert!(said.rest.ends_with(&payload), "the packet is quoted");
    }
}

#[test]
fn a_protocol_that_nobody_speaks_is_told() {
    // RFC 1122 3.2.2.1: protocol unreachable; RFC 8200 4, RFC 4443 3.4: parameter problem 1 at the Next Header field.
    let cases = [((3, 2), 0), ((4, 1), 6)];
    for ((ours, theirs), expected) in PAIRS.into_iter().zip(cases) {
        let said = host().says_to(ours, theirs, 253, &[1; 20]);
        let found: Vec<_> = said.iter().map(|said| (said.what, said.word)).collect();
        assert_eq!(found, [expected]);
    }
    // Behind an extension header it is that header's field.
    let mut host = host();
    let options = [253, 0, 1, 4, 0, 0, 0, 0, 9, 9];
    let packet = packet_v6(protocol::DESTINATION_OPTIONS, 64, &options);
    let said = host.says(whole(&host, &packet));
    assert_eq!((said[0].what, said[0].word), ((4, 1), 40));
}

#[test]
fn what_is_wrong_with_an_option_or_an_extension_header_is_told() {
    let mut host = host();
    // RFC 1122 3.2.2.5: an option that runs beyond the header; the pointer names the octet.
    let header = header_v4(&[1, 1, 7, 40], 8);
    let said = host.says(whole(&host, &packet_v4(&header, &[0; 8])));
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0].what, (12, 0));
    assert!((22..=23).contains(&(said[0].word >> 24)), "{said:?}");
    // 3.2.1.8: unknown options are passed over in silence, the datagram is not.
    let header = header_v4(&[0x5e, 4, 0, 0], 8);
    let said = host.says(whole(&host, &packet_v4(&header, &datagram(9999))));
    assert_eq!(
        said[0].what,
        (3, 3),
        "port unreachable, no parameter problem"
    );

    // RFC 8200 4.2: the highest bits of an unknown option say what is to be done.
    for (option, told) in [(0x1e, None), (0x5e, None), (0x9e, Some(2)), (0xde, Some(2))] {
        let options = [protocol::UDP, 0, option, 4, 0, 0, 0, 0];
        let payload = [&options[..], &datagram(9999)].concat();
        let packet = packet_v6(protocol::DESTINATION_OPTIONS, 64, &payload);
        let said = host.says(whole(&host, &packet));
        match told {
            Some(code) => {
                assert_eq!((said[0].what, said[0].word), ((4, code), 42), "{option:#x}");
            }
            // 00: passed over; 01: discarded.
            None if option < 0x40 => assert_eq!(said[0].what, (1, 4), "{option:#x}"),
            None => assert_eq!(said, [], "{option:#x}"),
        }
        host.now += Duration::from_secs(1);
    }
    // RFC 8200 4.4, RFC 5095 3: a routing header of an unknown type, or of type 0, with segments left.
    for kind in [0, 77] {
        let routing = [protocol::UDP, 0, kind, 1, 0, 0, 0, 0];
        let payload = [&routing[..], &datagram(9999)].concat();
        let packet = packet_v6(protocol::ROUTING, 64, &payload);
        let said = host.says(whole(&host, &packet));
        assert_eq!((said[0].what, said[0].word), ((4, 0), 42), "type {kind}");
        host.now += Duration::from_secs(1);
    }
}

#[test]
fn fragments_that_stay_alone_are_told_of_if_the_first_is_there() {
    // RFC 792, RFC 1122 3.3.2, RFC 8200 4.5.
    for (offset, is_told) in [(0, true), (8, false)] {
        let mut host = host();
        let header = ipv4::Header {
            more_fragments: true,
            fragment_offset: offset,
            ..header_v4(&[], 8)
        };
        host.receive(FIRST, whole(&host, &packet_v4(&header, &datagram(9999))));
        let fragment = [protocol::UDP, 0, 0, offset as u8 | 1, 0, 0, 0, 7];
        let payload = [&fragment[..], &datagram(9999)].concat();
        let packet = packet_v6(protocol::FRAGMENT, 64, &payload);
        host.receive(FIRST, whole(&host, &packet));
        assert_eq!(host.sent(FIRST).len(), 0);
        let sent = host.advance(Duration::from_secs(120));
        let what: Vec<_> = sent.iter().map(|frame| said(frame).what).collect();
        let expected: &[_] = if is_told { &[(11, 1), (3, 1)] } else { &[] };
        assert_eq!(what, expected, "offset {offset}");
    }
}

#[test]
fn a_packet_that_is_whole_waits_for_no_fragment_of_the_same_identification() {
    // RFC 6946 4, RFC 6864 4.1: an atomic fragment, an atomic datagram.
    let mut host = host();
    let first = ipv4::Header {
        more_fragments: true,
        ..header_v4(&[], 8)
    };
    let heard = host.says(whole(&host, &packet_v4(&first, &datagram(9999))));
    assert_eq!(heard, []);
    let atomic = packet_v4(&header_v4(&[], 8), &datagram(9999));
    let heard = host.says(whole(&host, &atomic));
    assert_eq!(heard[0].what, (3, 3));
    for (more, told) in [(1, false), (0, true)] {
        let fragment = [protocol::UDP, 0, 0, more, 0, 0, 0, 7];
        let payload = [&fragment[..], &datagram(9999)].concat();
        let heard = host.says(whole(&host, &packet_v6(protocol::FRAGMENT, 64, &payload)));
        assert_eq!(heard.len(), usize::from(told), "more fragments: {more}");
        assert!(heard.iter().all(|said| said.what == (1, 4)));
    }
    // What waits still waits, and its sender hears of it in the end.
    let sent = host.advance(Duration::from_secs(120));
    let what: Vec<_> = sent.iter().map(|frame| said(frame).what).collect();
    assert_eq!(what, [(11, 1), (3, 1)]);
}

#[test]
fn nobody_is_told_who_must_not_be() {
    // RFC 1122 3.2.2, RFC 4443 2.4 (e): what a datagram for no socket would be answered with. Sources and destinations.
    let cases = [
        ("10.0.0.9", "10.0.0.255", "a subnet's broadcast"),
        ("10.0.0.9", "255.255.255.255", "broadcast"),
        ("10.0.0.9", "224.0.0.1", "multicast"),
        ("0.0.0.0", "10.0.0.1", "from nobody"),
        ("127.0.0.1", "10.0.0.1", "from a loopback"),
        ("224.0.0.1", "10.0.0.1", "from a group"),
        ("255.255.255.255", "10.0.0.1", "from all"),
        ("10.0.0.255", "10.0.0.1", "from a subnet's all"),
        ("240.0.0.1", "10.0.0.1", "from class E"),
        ("10.0.0.9", "10.0.0.77", "for another host"),
        ("fd00::9", "ff02::1", "multicast"),
        ("::", "fd00::1", "from nobody"),
        ("::1", "fd00::1", "from the loopback"),
        ("ff02::1", "fd00::1", "from a group"),
        ("fd00::9", "fd00::77", "for another host"),
    ];
    for (source, destination, what) in cases {
        let mut host = host();
        let said = host.says_to(destination, source, protocol::UDP, &datagram(9999));
        assert_eq!(said, [], "{what}: {source} > {destination}");
    }
    // In a frame for all (RFC 1122 3.3.6).
    for (ours, theirs) in PAIRS {
        let mut host = host();
        let hardware = (THEIRS, MacAddress::BROADCAST);
        let addresses = (ip(theirs), ip(ours));
        let said = host.says(frame(hardware, addresses, protocol::UDP, &datagram(9999)));
        assert_eq!(said, []);
    }
    // About errors, whatever they say; (e.2) redirects too.
    let mut host = host();
    for kind in [3, 4, 5, 11, 12] {
        let said = host.says_to("10.0.0.1", "10.0.0.9", protocol::ICMPV4, &[kind; 40]);
        assert_eq!(said, [], "type {kind}");
    }
    for kind in [1, 2, 3, 4, 100, 127, 137] {
        let said = host.says_to("fd00::1", "fd00::9", protocol::ICMPV6, &[kind; 60]);
        assert_eq!(said, [], "type {kind}");
    }
}

#[test]
fn messages_that_nobody_needs_are_dropped_in_silence() {
    // Source quench (RFC 6633 3); router discovery (RFC 1256), timestamps (RFC 1122
    // 3.2.2.8: MAY), information (RFC 1122 3.2.2.7: SHOULD NOT), address masks (3.2.2.9), experiments and unknown types
    // (3.2.2: MUST be silently discarded).
    let mut host = host();
    for kind in [4, 9, 10, 13, 14, 15, 16, 17, 18, 30, 42, 253, 255] {
        let message = [kind, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        let said = host.says_to("10.0.0.1", "10.0.0.9", protocol::ICMPV4, &message);
        assert_eq!(said, [], "type {kind}");
    }
    // RFC 4443 2.4 (a): unknown errors are for a transport that none here could use; (b): other unknown messages.
    for kind in [0, 5, 100, 127, 139, 140, 150, 200, 255] {
        let message = [kind, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        let said = host.says_to("fd00::1", "fd00::9", protocol::ICMPV6, &message);
        assert_eq!(said, [], "type {kind}");
    }
    assert_eq!(host.dropped(DropReason::UnknownProtocol), 13 + 9);
}

#[test]
fn a_packet_whose_hops_are_used_up_is_taken_where_it_arrives() {
    // RFC 1122 3.2.1.7: a host MUST NOT discard a datagram for a TTL below 2; RFC 8200 3 lets a node that does not
    // forward take a hop limit of 0.
    for hops in [0, 1] {
        let mut host = host();
        let header = ipv4::Header {
            ttl: hops,
            ..header_v4(&[], 8)
        };
        let said = host.says(whole(&host, &packet_v4(&header, &datagram(9999))));
        assert_eq!(said[0].what, (3, 3), "TTL {hops}");
        let packet = packet_v6(protocol::UDP, hops, &datagram(9999));
        let said = host.says(whole(&host, &packet));
        assert_eq!(said[0].what, (1, 4), "hop limit {hops}");
    }
}

#[test]
fn an_echo_request_comes_back_as_it_was() {
    // RFC 1122 3.2.2.6, RFC 4443 4.2: identifier, sequence and data are the request's, the source is whom it asked.
    for ((ours, theirs), (asked, answered)) in PAIRS.into_iter().zip([(8, 0), (128, 129)]) {
        let mut host = host();
        let protocol = if asked == 8 {
            protocol::ICMPV4
        } else {
            protocol::ICMPV6
        };
        let request = [&[asked, 0, 0, 0, 0x12, 0x34, 0, 9][..], b"some data"].concat();
        let said = host.says_to(ours, theirs, protocol, &request);
        let expected = Said {
            addresses: (ip(ours), ip(theirs)),
            what: (answered, 0),
            word: 0x1234_0009,
            rest: b"some data".to_vec(),
        };
        assert_eq!(said, [expected]);
    }
    // 3.2.2.6: requests to all may be ignored, and are: thousands would answer a forged source.
    for all in ["10.0.0.255", "255.255.255.255", "224.0.0.1"] {
        let request = [8, 0, 0, 0, 0, 1, 0, 1];
        let said = host().says_to(all, "10.0.0.9", protocol::ICMPV4, &request);
        assert_eq!(said, [], "{all}");
    }
}

#[test]
fn errors_are_limited_for_each_destination_and_for_all() {
    // RFC 1812 4.3.2.8, RFC 4443 2.4 (f): a token bucket of 6, and one a second.
    for (ours, theirs) in PAIRS {
        let mut host = host();
        let ask = |host: &mut Host| {
            host.says_to(ours, theirs, protocol::UDP, &datagram(9999))
                .len()
        };
        let told: usize = (0..100).map(|_| ask(&mut host)).sum();
        assert_eq!(told, 6);
        assert_eq!(host.dropped(DropReason::RateLimited), 94);
        host.now += Duration::from_secs(2);
        let told: usize = (0..100).map(|_| ask(&mut host)).sum();
        assert_eq!(told, 2);
    }
    // All destinations together: 50 at once, whoever they are.
    let mut host = host();
    let told: usize = (1..=250u8)
        .map(|n| {
            let theirs = format!("10.0.0.{n}");
            let neighbor = host
                .engine
                .set_neighbor(host.now, FIRST, ip(&theirs), THEIRS);
            neighbor.expect("room");
            host.says_to("10.0.0.1", &theirs, protocol::UDP, &datagram(9999))
                .len()
        })
        .sum();
    assert!((10..=50).contains(&told), "{told}");
}

/// An ICMP error of a router's about a packet of this host's.
fn error_about(
    host: &Host,
    (kind, code): (u8, u8),
    (source, destination): (&str, &str),
    protocol: u8,
    transport: &[u8],
) -> Packet {
    let mut quoted = Packet::new();
    quoted.push(Bytes::copy_from_slice(transport));
    let header = OutputHeader::new(ip(source), ip(destination), protocol);
    output::prepend(&mut quoted, &header).expect("one version");
    let message = [&[kind, code, 0, 0, 0, 0, 0, 0][..], &quoted.to_bytes()].concat();
    let (ours, router, protocol) = match ip(source) {
        IpAddr::V4(_) => ("10.0.0.1", "10.0.0.9", protocol::ICMPV4),
        IpAddr::V6(_) => ("fd00::1", "fd00::9", protocol::ICMPV6),
    };
    let hardware = (THEIRS, host.ours(FIRST));
    frame(hardware, (ip(router), ip(ours)), protocol, &message)
}

#[test]
fn a_listener_hears_of_errors_about_packets_of_every_protocol() {
    // RFC 1122 4.1.3.3: UDP passes all errors on; here all of all protocols, with who said so.
    let mut host = host();
    let listener = host.engine.listen_for_icmp_errors().expect("alive");
    let waker = Waker::noop();
    assert!(listener.poll_report(waker).is_pending());
    for (pair, is_ipv6) in [
        (("10.0.0.1", "192.0.2.7"), false),
        (("fd00::1", "fd01::7"), true),
    ] {
        let (exceeded, unreachable) = match is_ipv6 {
            false => ((11, 0), (3, 3)),
            true => ((3, 0), (1, 4)),
        };
        let echo = if is_ipv6 {
            protocol::ICMPV6
        } else {
            protocol::ICMPV4
        };
        for protocol in [protocol::TCP, protocol::UDP, protocol::SCTP, echo] {
            let transport = [0x12, 0x34, 0, 53, 0, 0, 0, 5, 0, 0, 0, 0];
            for what in [exceeded, unreachable] {
                let error = error_about(&host, what, pair, protocol, &transport);
                host.receive(FIRST, error);
                let Poll::Ready(Ok(report)) = listener.poll_report(waker) else {
                    panic!("{what:?} about {protocol} is not told");
                };
                assert_eq!((report.kind, report.code), what);
                assert_eq!(report.is_time_exceeded(), what == exceeded);
                assert_eq!(report.is_port_unreachable(), what == unreachable);
                assert_eq!(report.about.destination, ip(pair.1));
                assert_eq!(report.about.protocol, protocol);
                assert_eq!(report.about.ports(), (0x1234, 53));
            }
        }
        // Not about packets of others, which nobody here can have sent.
        let other = match is_ipv6 {
            false => ("10.0.0.77", "192.0.2.7"),
            true => ("fd00::77", "fd01::7"),
        };
        let error = error_about(&host, exceeded, other, protocol::UDP, &[0; 8]);
        host.receive(FIRST, error);
        assert!(listener.poll_report(waker).is_pending());
    }
}

#[test]
fn what_nobody_takes_from_a_listener_is_bounded_and_the_end_is_told() {
    let mut host = host();
    let listener = host.engine.listen_for_icmp_errors().expect("alive");
    let pair = ("10.0.0.1", "192.0.2.7");
    for _ in 0..3000 {
        let error = error_about(&host, (11, 0), pair, protocol::UDP, &[0; 8]);
        host.receive(FIRST, error);
    }
    let waker = Waker::noop();
    let waiting = std::iter::from_fn(|| match listener.poll_report(waker) {
        Poll::Ready(report) => report.ok(),
        Poll::Pending => None,
    });
    assert_eq!(waiting.count(), 1024);
    assert_eq!(listener.lost(), 3000 - 1024);
    // One that was dropped is no trouble.
    drop(host.engine.listen_for_icmp_errors().expect("alive"));
    let error = error_about(&host, (11, 0), pair, protocol::UDP, &[0; 8]);
    host.receive(FIRST, error);
    assert!(listener.poll_report(waker).is_ready());
    host.engine
        .end(host.now, SocketError::NetworkDown, &mut host.wakes);
    let end = Poll::Ready(Err(SocketError::NetworkDown));
    assert_eq!(listener.poll_report(waker), end);
    assert!(host.engine.listen_for_icmp_errors().is_err());
}

/// A redirect of packets to 192.0.2.7.
fn redirect(host: &Host, router: &str, source: &str, gateway: &str) -> Packet {
    let mut quoted = Packet::new();
    quoted.push(Bytes::copy_from_slice(&[0x12, 0x34, 0, 53, 0, 8, 0, 0]));
    let header = OutputHeader::new(ip(source), ip("192.0.2.7"), protocol::UDP);
    output::prepend(&mut quoted, &header).expect("one version");
    let IpAddr::V4(gateway) = ip(gateway) else {
        panic!("{gateway} is of IPv6");
    };
    let mut message = vec![5, 1, 0, 0];
    message.extend(gateway.octets());
    message.extend(&quoted.to_bytes()[..]);
    let hardware = (THEIRS, host.ours(FIRST));
    let addresses = (ip(router), ip("10.0.0.1"));
    frame(hardware, addresses, protocol::ICMPV4, &message)
}

/// A host with the router 10.0.0.9, that believes it or not.
fn routed(accept_redirects: bool) -> Host {
    let host = host_with(|config| config.host.accept_redirects = accept_redirects);
    host.address(SECOND, "10.1.0.1/24");
    let gateway = Some(ip("10.0.0.9"));
    host.engine.network.replace_default_route(FIRST, gateway);
    host
}

fn next_hop(host: &Host, destination: &str) -> IpAddr {
    let path = host
        .engine
        .network
        .path(host.now, ip(destination), None, None);
    path.expect("a default route").next_hop
}

#[test]
fn a_redirect_is_followed_if_the_first_hop_says_so_and_the_new_one_is_on_its_link() {
    // RFC 1122 3.2.2.2: for this destination alone.
    let mut host = routed(true);
    host.receive(FIRST, redirect(&host, "10.0.0.9", "10.0.0.1", "10.0.0.8"));
    assert_eq!(next_hop(&host, "192.0.2.7"), ip("10.0.0.8"));
    assert_eq!(next_hop(&host, "192.0.2.8"), ip("10.0.0.9"));
    // The router that was redirected to is the first hop now.
    host.receive(FIRST, redirect(&host, "10.0.0.9", "10.0.0.1", "10.0.0.6"));
    assert_eq!(next_hop(&host, "192.0.2.7"), ip("10.0.0.8"));
    host.receive(FIRST, redirect(&host, "10.0.0.8", "10.0.0.1", "10.0.0.7"));
    assert_eq!(next_hop(&host, "192.0.2.7"), ip("10.0.0.7"));
    // It does not hold for ever.
    host.advance(Duration::from_secs(301));
    assert_eq!(next_hop(&host, "192.0.2.7"), ip("10.0.0.9"));

    // 3.2.2.2: silently discarded.
    for (router, source, gateway, what) in [
        ("10.0.0.5", "10.0.0.1", "10.0.0.8", "not the first hop"),
        ("10.0.0.9", "10.0.0.1", "10.1.0.8", "not on its link"),
        ("10.0.0.9", "10.0.0.1", "198.51.100.1", "on no link"),
        ("10.0.0.9", "10.0.0.1", "10.0.0.1", "this host"),
        ("10.0.0.9", "10.0.0.1", "10.0.0.9", "the router itself"),
        ("10.0.0.9", "10.0.0.1", "10.0.0.255", "all hosts"),
        ("10.0.0.9", "10.0.0.1", "224.0.0.1", "a group"),
        ("10.0.0.9", "10.0.0.1", "0.0.0.0", "nobody"),
        ("10.0.0.9", "10.0.0.77", "10.0.0.8", "of another's packet"),
    ] {
        let mut host = routed(true);
        let said = host.says(redirect(&host, router, source, gateway));
        assert_eq!(said, [], "{what}");
        assert_eq!(next_hop(&host, "192.0.2.7"), ip("10.0.0.9"), "{what}");
    }
    // Through another link.
    let mut host = routed(true);
    let frame = redirect(&host, "10.0.0.9", "10.0.0.1", "10.0.0.8").to_bytes();
    let octets = [&host.ours(SECOND).0[..], &frame[6..]].concat();
    let mut elsewhere = Packet::from_bytes(octets.into());
    elsewhere.offload.checksum = Checksum::Verified;
    host.receive(SECOND, elsewhere);
    assert_eq!(next_hop(&host, "192.0.2.7"), ip("10.0.0.9"));
}

#[test]
fn redirects_are_not_followed_unless_that_is_wanted() {
    let mut host = routed(false);
    host.receive(FIRST, redirect(&host, "10.0.0.9", "10.0.0.1", "10.0.0.8"));
    assert_eq!(next_hop(&host, "192.0.2.7"), ip("10.0.0.9"));
    assert_eq!(host.dropped(DropReason::UnknownProtocol), 1);
}

#[test]
fn a_router_that_takes_no_packets_is_no_longer_redirected_to() {
    // RFC 1122 3.3.1.4: dead gateways are to be found out.
    let mut host = routed(true);
    host.receive(FIRST, redirect(&host, "10.0.0.9", "10.0.0.1", "10.0.0.8"));
    let slot = host.connect("192.0.2.7:80");
    host.sent(FIRST);
    host.advance(Duration::from_secs(10));
    assert_eq!(next_hop(&host, "192.0.2.7"), ip("10.0.0.9"));
    drop(slot);
}
