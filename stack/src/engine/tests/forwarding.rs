//! A router, packet by packet (RFC 1812 5, RFC 8200 4, RFC 4443 3, RFC 4861 6.2).

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::Bytes;
use tidewire_netdev::segmentation::{CutChecksum, segment};
use tidewire_netdev::{Checksum, OffloadSet, Segmentation, SegmentationKind};

use super::ethernet::{FIRST, Host, SECOND, THEIRS, datagram, frame, ip};
use super::icmp::{Said, said};
use super::*;
use crate::ip::autoconf::dad::{AddressState, DuplicateDetection};
use crate::ip::autoconf::router_discovery;
use crate::ip::input::{self, Arrival};
use crate::ip::output::{self, OutputHeader};
use crate::ip::route::Route;
use crate::link::ethernet::{self, LinkProtocol};
use crate::neighbor::ndp as build;
use crate::stats::DropReason;
use crate::wire::ethernet::{HEADER_LEN, Header as EthernetHeader};
use crate::wire::ndp::{Message, NeighborAdvertisement, Options};
use crate::wire::{ipv4, ipv6, protocol, tcp, udp};

/// The neighbour on the second link.
const BEYOND: MacAddress = MacAddress([2, 0, 0, 0, 0, 8]);
/// A link without neighbours' addresses, of less MTU, whose device does nothing for us.
const NARROW: InterfaceId = InterfaceId(4);
const NARROW_MTU: usize = 1300;

/// From the neighbour on the first link to that on the second, for each IP version.
const PAIRS: [(&str, &str); 2] = [("10.0.0.9", "10.1.0.9"), ("fd00::9", "fd01::9")];
/// The same to a host behind the narrow link.
const NARROW_PAIRS: [(&str, &str); 2] = [("10.0.0.9", "10.2.0.9"), ("fd00::9", "fd02::9")];
/// This host, as it speaks to the neighbour on the first link.
const OURS: [&str; 2] = ["10.0.0.1", "fd00::1"];

/// A router between three links.
fn router_with(change: impl FnOnce(&mut Config)) -> Host {
    let mut config = Config {
        seed: Some(1),
        ..Config::default()
    };
    config.host.duplicate_detection_v6 = DuplicateDetection::Off;
    config.host.forwarding = true;
    change(&mut config);
    let mut host = Host::with(config);
    let narrow = Capabilities {
        medium: Medium::Ip,
        mtu: NARROW_MTU,
        offloads: OffloadSet::NONE,
        max_super_packet: 65_535,
    };
    let narrow = host.engine.add_interface("narrow".to_owned(), narrow);
    assert_eq!(narrow, NARROW);
    for (interface, addresses) in [
        (SECOND, ["10.1.0.1/24", "fd01::1/64"]),
        (NARROW, ["10.2.0.1/24", "fd02::1/64"]),
    ] {
        for address in addresses {
            host.address(interface, address);
        }
    }
    for (near, far) in PAIRS {
        for (interface, address, station) in [(FIRST, near, THEIRS), (SECOND, far, BEYOND)] {
            let set = host
                .engine
                .set_neighbor(host.now, interface, ip(address), station);
            set.expect("an Ethernet interface");
        }
    }
    for interface in [FIRST, SECOND, NARROW] {
        host.sent_all(interface);
    }
    host
}

fn router() -> Host {
    router_with(|_| ())
}

/// A packet in a frame from the neighbour on the first link.
fn framed(host: &Host, mut packet: Packet) -> Packet {
    let version = LinkProtocol::of(match packet.octet(0).map(|first| first >> 4) {
        Some(4) => Ipv4Addr::UNSPECIFIED.into(),
        _ => std::net::Ipv6Addr::UNSPECIFIED.into(),
    });
    ethernet::prepend(&mut packet, THEIRS, host.ours(FIRST), version);
    packet
}

/// A packet with that header, which nobody has said anything of.
fn packet(header: &OutputHeader, payload: &[u8]) -> Packet {
    let mut packet = Packet::from_bytes(Bytes::copy_from_slice(payload));
    output::prepend(&mut packet, header).expect("addresses of one version");
    packet
}

fn from_to((source, destination): (&str, &str)) -> OutputHeader {
    OutputHeader::new(ip(source), ip(destination), protocol::UDP)
}

impl Host {
    fn route(&mut self, header: &OutputHeader, payload: &[u8]) {
        let frame = framed(self, packet(header, payload));
        self.receive(FIRST, frame);
    }

    /// What is said to the neighbour on the first link.
    fn told(&mut self) -> Vec<Said> {
        self.sent(FIRST).iter().map(said).collect()
    }

    fn forwarded(&self) -> u64 {
        self.engine.stats().packets_forwarded
    }
}

/// The IP packet in a frame.
fn inner(frame: &Packet) -> (EthernetHeader, Packet) {
    let (header, _) = EthernetHeader::parse(&frame.to_bytes()).expect("a frame");
    let mut packet = frame.clone();
    packet.advance(HEADER_LEN);
    (header, packet)
}

#[test]
fn a_packet_for_another_host_leaves_by_its_route_with_one_hop_less() {
    // RFC 1812 5.2.1, 5.3.1, RFC 8200 3.
    for pair in PAIRS {
        let mut host = router();
        host.route(&from_to(pair), &datagram(7));
        assert_eq!(host.told(), []);
        let sent = host.sent(SECOND);
        let [frame] = &sent[..] else {
            panic!("{sent:?}")
        };
        let (link, mut packet) = inner(frame);
        assert_eq!((link.source, link.destination), (host.ours(SECOND), BEYOND));
        let ip_header = input::parse(&mut packet, Arrival::Wire).expect("a right header");
        assert_eq!(
            (ip_header.source, ip_header.destination),
            (ip(pair.0), ip(pair.1))
        );
        assert_eq!(ip_header.hop_limit, 63);
        assert_eq!(&packet.to_bytes()[..], datagram(7));
        assert_eq!(
            (host.forwarded(), host.engine.stats().dropped_total()),
            (1, 0)
        );
    }
}

#[test]
fn a_host_that_is_no_router_passes_nothing_on() {
    // RFC 1122 3.3.1.1: embedded gateway code is off unless it is asked for.
    for pair in PAIRS {
        let mut host = router_with(|config| config.host.forwarding = false);
        host.route(&from_to(pair), &datagram(7));
        assert_eq!((host.told(), host.sent(SECOND).len()), (vec![], 0));
        assert_eq!(host.dropped(DropReason::NotForUs), 1);
        assert_eq!(host.forwarded(), 0);
    }
}

#[test]
fn what_several_hosts_got_is_passed_on_by_none() {
    // RFC 1812 5.3.4: not from a frame to all or to a group; 5.3.5.2: not to all of a network.
    for pair in PAIRS {
        for station in [MacAddress::BROADCAST, MacAddress([0x33, 0x33, 0, 0, 0, 1])] {
            let mut host = router();
            let mut packet = packet(&from_to(pair), &datagram(7));
            ethernet::prepend(&mut packet, THEIRS, station, LinkProtocol::of(ip(pair.0)));
            host.receive(FIRST, packet);
            assert_eq!((host.told(), host.sent(SECOND).len()), (vec![], 0));
        }
    }
    let mut host = router();
    for all in ["10.1.0.255", "255.255.255.255", "224.0.0.251", "239.1.2.3"] {
        host.route(&from_to(("10.0.0.9", all)), &datagram(7));
        assert_eq!((host.told(), host.sent(SECOND).len()), (vec![], 0), "{all}");
    }
    host.route(&from_to(("fd00::9", "ff0e::7")), &datagram(7));
    assert_eq!((host.told(), host.sent(SECOND).len()), (vec![], 0));
    assert_eq!(host.forwarded(), 0);
}

#[test]
fn neither_own_addresses_nor_impossible_sources_are_passed_on() {
    // RFC 1812 5.3.7, 5.3.8 as far as it is a MUST: own and broadcast addresses are nobody else's.
    let mut host = router();
    for source in ["10.0.0.1", "10.1.0.1", "10.0.0.255", "10.1.0.255"] {
        host.route(&from_to((source, "10.1.0.9")), &datagram(7));
    }
    host.route(&from_to(("fd01::1", "fd01::9")), &datagram(7));
    assert_eq!((host.told(), host.sent(SECOND).len()), (vec![], 0));
    assert_eq!(host.dropped(DropReason::BadSource), 5);
    // An address that is still to be checked is nobody else's either.
    let tentative = "10.1.0.2/24".parse().expect("an address");
    host.engine
        .network
        .add_address(SECOND, tentative, AddressState::Tentative);
    host.route(&from_to(("10.0.0.9", "10.1.0.2")), &datagram(7));
    assert_eq!((host.told(), host.sent(SECOND).len()), (vec![], 0));
    assert_eq!(host.dropped(DropReason::NotForUs), 1);
}

#[test]
fn hops_that_are_used_up_are_told_of() {
    // RFC 1812 5.3.1, RFC 4443 3.3.
    for ((pair, ours), what) in PAIRS.into_iter().zip(OURS).zip([(11, 0), (3, 0)]) {
        for hop_limit in [1, 0] {
            let mut host = router();
            let header = OutputHeader {
                hop_limit,
                ..from_to(pair)
            };
            host.route(&header, &datagram(7));
            let [told] = &host.told()[..] else {
                panic!("one error")
            };
            assert_eq!((told.what, told.addresses), (what, (ip(ours), ip(pair.0))));
            // RFC 1812 4.3.2.3, RFC 4443 2.4 (c): it quotes the packet as it came.
            assert_eq!(told.rest, packet(&header, &datagram(7)).to_bytes());
            assert_eq!(host.sent(SECOND).len(), 0);
            assert_eq!(
                (host.dropped(DropReason::HopLimit), host.forwarded()),
                (1, 0)
            );
        }
    }
}

#[test]
fn errors_about_others_packets_follow_the_rules_of_all_errors() {
    // RFC 1812 4.3.2.7, RFC 4443 2.4 (e.1): not about an error; 4.3.2.8, (f): not too many.
    let last_hop = |pair, protocol| OutputHeader {
        hop_limit: 1,
        protocol,
        ..from_to(pair)
    };
    let [v4, v6] = PAIRS;
    for (header, error) in [
        (last_hop(v4, protocol::ICMPV4), [3, 1, 0, 0, 0, 0, 0, 0]),
        (last_hop(v6, protocol::ICMPV6), [1, 3, 0, 0, 0, 0, 0, 0]),
    ] {
        let mut host = router();
        host.route(&header, &error);
        assert_eq!(host.told(), []);
        assert_eq!(host.dropped(DropReason::HopLimit), 1);
    }
    for pair in PAIRS {
        let mut host = router();
        for _ in 0..100 {
            host.route(&last_hop(pair, protocol::UDP), &datagram(7));
        }
        assert_eq!(host.told().len(), 6);
        assert_eq!(host.dropped(DropReason::RateLimited), 94);
    }
}

#[test]
fn who_sends_where_no_route_leads_is_told() {
    // RFC 1812 5.2.7.1, RFC 4443 3.1: code 0.
    let far = [("10.0.0.9", "198.51.100.7"), ("fd00::9", "2001:db8::7")];
    for ((pair, ours), what) in far.into_iter().zip(OURS).zip([(3, 0), (1, 0)]) {
        // Also where a hop is left, and none: the way ends here.
        for hop_limit in [64, 1] {
            let mut host = router();
            let header = OutputHeader {
                hop_limit,
                ..from_to(pair)
            };
            host.route(&header, &datagram(7));
            let [told] = &host.told()[..] else {
                panic!("one error")
            };
            assert_eq!((told.what, told.addresses), (what, (ip(ours), ip(pair.0))));
            assert_eq!(host.dropped(DropReason::NoRoute), 1);
        }
    }
}

#[test]
fn a_packet_waits_for_its_neighbour_and_its_sender_hears_when_there_is_none() {
    // RFC 1812 5.2.7.1 (host unreachable), RFC 4861 7.2.2 and RFC 4443 3.1 (address unreachable).
    let nobody = [("10.0.0.9", "10.1.0.77"), ("fd00::9", "fd01::77")];
    for ((pair, ours), what) in nobody.into_iter().zip(OURS).zip([(3, 1), (1, 3)]) {
        let mut host = router();
        for _ in 0..200 {
            host.route(&from_to(pair), &datagram(7));
            assert_eq!(host.told(), []);
        }
        assert_eq!(host.sent(SECOND).len(), 1, "a question");
        let told: Vec<_> = host
            .advance(Duration::from_millis(3500))
            .iter()
            .map(said)
            .collect();
        // Of those that found room, as many as the rate limit has.
        assert_eq!(told.len(), 6);
        for told in &told {
            assert_eq!((told.what, told.addresses), (what, (ip(ours), ip(pair.0))));
        }
        let waited = host.engine.config().neighbor.max_queue_packets as u64;
        assert_eq!(host.dropped(DropReason::NeighborUnreachable), waited);
        assert_eq!(host.engine.neighbor_stats().packets_dropped, 200 - waited);
    }
}

#[test]
fn while_a_failure_is_remembered_the_next_sender_hears_at_once() {
    for (pair, what) in [
        (("10.0.0.9", "10.1.0.77"), (3, 1)),
        (("fd00::9", "fd01::77"), (1, 3)),
    ] {
        let mut host = router();
        host.route(&from_to(pair), &datagram(7));
        host.sent(SECOND);
        assert_eq!(host.advance(Duration::from_millis(3500)).len(), 1);
        host.route(&from_to(pair), &datagram(7));
        let told = host.told();
        assert_eq!((told.len(), told[0].what), (1, what));
        // RFC 1812 4.3.2.3: what it quotes has been passed on as far as the neighbour.
        assert_eq!(told[0].rest[if pair.0.contains(':') { 7 } else { 8 }], 63);
    }
}

#[test]
fn a_packet_that_has_waited_leaves_when_its_neighbour_answers() {
    let mut host = router();
    host.route(&from_to(("10.0.0.9", "10.1.0.77")), &datagram(7));
    host.sent(SECOND);
    let station = MacAddress([2, 0, 0, 0, 0, 77]);
    let answer = crate::wire::arp::Message {
        operation: crate::wire::arp::Operation::Reply,
        sender_hardware: station,
        sender_protocol: Ipv4Addr::new(10, 1, 0, 77),
        target_hardware: host.ours(SECOND),
        target_protocol: Ipv4Addr::new(10, 1, 0, 1),
    };
    let ours = host.ours(SECOND);
    host.receive(SECOND, crate::neighbor::arp::frame(&answer, station, ours));
    let sent = host.sent(SECOND);
    let [frame] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(inner(frame).0.destination, station);
}

#[test]
fn what_is_too_long_for_the_next_link_and_not_to_be_cut_is_told_of_with_its_mtu() {
    // RFC 1191 4, RFC 8201 3, RFC 4443 3.2.
    let payload = vec![7; 1400];
    for ((pair, ours), what) in NARROW_PAIRS.into_iter().zip(OURS).zip([(3, 4), (2, 0)]) {
        let mut host = router();
        host.route(&from_to(pair), &payload);
        let [told] = &host.told()[..] else {
            panic!("one error")
        };
        assert_eq!((told.what, told.addresses), (what, (ip(ours), ip(pair.0))));
        assert_eq!(told.word, NARROW_MTU as u32);
        assert_eq!(host.sent(NARROW).len(), 0);
        assert_eq!((host.dropped(DropReason::TooBig), host.forwarded()), (1, 0));
        // What fits to the octet goes.
        let header = from_to(pair);
        host.route(&header, &vec![7; NARROW_MTU - header.encoded_len()]);
        assert_eq!((host.sent(NARROW).len(), host.forwarded()), (1, 1));
        assert_eq!(host.told(), []);
    }
}

#[test]
fn an_mtu_below_that_of_every_ipv6_link_is_never_told() {
    // RFC 8200 5: 1280 is carried by whatever is below.
    let mut host = router();
    let route = Route {
        mtu: Some(1000),
        ..Route::via(SECOND, ip("fd01::9"))
    };
    let network = "2001:db8::/64".parse().expect("a network");
    host.engine.network.add_route(network, route);
    let header = from_to(("fd00::9", "2001:db8::7"));
    host.route(&header, &[7; 1240]);
    assert_eq!((host.sent(SECOND).len(), host.told()), (1, vec![]));
    host.route(&header, &[7; 1241]);
    assert_eq!(host.told()[0].word, 1280);
}

#[test]
fn an_ipv4_packet_that_may_be_cut_is_cut_for_the_next_link() {
    // RFC 1812 5.2.6, 4.2.2.7.
    let mut host = router();
    let payload: Vec<u8> = (0..=255).cycle().take(1400).collect();
    let header = OutputHeader {
        dont_fragment: false,
        identification: 77,
        ..from_to(NARROW_PAIRS[0])
    };
    host.route(&header, &payload);
    let sent = host.sent(NARROW);
    let mut joined = Vec::new();
    for fragment in &sent {
        assert!(fragment.len() <= NARROW_MTU);
        let octets = fragment.to_bytes();
        let (header, len) = ipv4::Header::parse(&octets).expect("a right header");
        assert_eq!((header.ttl, header.identification), (63, 77));
        assert_eq!(usize::from(header.fragment_offset), joined.len());
        joined.extend_from_slice(&octets[len..]);
        assert_eq!(header.more_fragments, joined.len() < payload.len());
    }
    assert_eq!((sent.len(), joined), (2, payload));
    assert_eq!((host.forwarded(), host.told()), (1, vec![]));
}

#[test]
fn fragments_go_on_as_fragments() {
    // RFC 1812 5.2.6, RFC 8200 4.5: only their destination joins them.
    let mut host = router();
    let payload = vec![7; 3000];
    for (pair, identification) in PAIRS.into_iter().zip([77, 78]) {
        let mut datagram = Packet::from_bytes(Bytes::from(payload.clone()));
        datagram.offload.checksum = Checksum::Verified;
        let header = OutputHeader {
            dont_fragment: false,
            ..from_to(pair)
        };
        let fragments = crate::ip::fragmentation::fragment(datagram, &header, 1500, identification)
            .expect("room for data");
        let count = fragments.len();
        // The last alone is of use to nobody here, and goes on all the same.
        for fragment in fragments.into_iter().rev() {
            let frame = framed(&host, fragment);
            host.receive(FIRST, frame);
            assert_eq!(host.sent(SECOND).len(), 1);
        }
        assert!(count > 2);
    }
    assert_eq!(host.engine.stats().dropped_total(), 0);
}

/// A TCP super-packet of `count` segments of 1000 octets, as the kernel of this machine hands it over.
fn super_packet(pair: (&str, &str), count: usize) -> (Packet, Vec<u8>) {
    let payload: Vec<u8> = (0..=250).cycle().take(count * 1000 - 10).collect();
    let header = tcp::Header {
        source_port: 4000,
        destination_port: 80,
        sequence: 1_000_000,
        acknowledgment: 7,
        flags: tcp::Flags::ACK | tcp::Flags::PSH,
        window: 1000,
        ..tcp::Header::default()
    };
    let mut packet = Packet::from_bytes(Bytes::from(payload.clone()));
    let len = header.encoded_len();
    let area = packet.prepend(len);
    header.emit(area);
    let (source, destination) = (ip(pair.0), ip(pair.1));
    let pseudo = crate::engine::tcp_egress::pseudo_checksum(
        source,
        destination,
        protocol::TCP,
        len + payload.len(),
    );
    packet.head_mut()[16..18].copy_from_slice(&pseudo.to_be_bytes());
    packet.offload.checksum = Checksum::Partial {
        start: 0,
        offset: 16,
    };
    packet.offload.segmentation = Some(Segmentation {
        kind: match source {
            IpAddr::V4(_) => SegmentationKind::TcpV4,
            IpAddr::V6(_) => SegmentationKind::TcpV6,
        },
        segment_size: 1000,
        ecn: false,
    });
    let header = OutputHeader {
        protocol: protocol::TCP,
        ..from_to(pair)
    };
    output::prepend(&mut packet, &header).expect("a super-packet");
    (packet, payload)
}

#[test]
fn a_super_packet_leaves_whole_where_the_device_cuts_and_in_segments_where_it_does_not() {
    for (pairs, interface) in [(PAIRS, SECOND), (NARROW_PAIRS, NARROW)] {
        for pair in pairs {
            let mut host = router();
            let (packet, payload) = super_packet(pair, 5);
            let frame = framed(&host, packet);
            host.receive(FIRST, frame);
            let sent = host.sent(interface);
            let medium = match interface {
                SECOND => Medium::Ethernet,
                _ => Medium::Ip,
            };
            assert_eq!(sent.len(), if interface == SECOND { 1 } else { 5 });
            let mut joined = Vec::new();
            for packet in sent {
                segment(packet, medium, CutChecksum::Complete, |mut wire| {
                    if medium == Medium::Ethernet {
                        wire.advance(HEADER_LEN);
                    }
                    wire.offload = tidewire_netdev::offload::Offload::default();
                    let ip_header = input::parse(&mut wire, Arrival::Wire).expect("a right header");
                    assert_eq!(ip_header.hop_limit, 63);
                    crate::engine::ingress::verify(&ip_header, &wire).expect("a right checksum");
                    let octets = wire.to_bytes();
                    let (header, len) = tcp::Header::parse(&octets).expect("a TCP header");
                    assert_eq!(header.sequence as usize, 1_000_000 + joined.len());
                    joined.extend_from_slice(&octets[len..]);
                })
                .expect("a super-packet that can be cut");
            }
            assert_eq!(joined, payload);
            assert_eq!((host.forwarded(), host.told()), (1, vec![]));
        }
    }
}

#[test]
fn the_size_of_segments_and_not_of_super_packets_counts_against_the_mtu() {
    for (pair, what) in NARROW_PAIRS.into_iter().zip([(3, 4), (2, 0)]) {
        let mut host = router();
        let (mut packet, _) = super_packet(pair, 5);
        if let Some(segmentation) = &mut packet.offload.segmentation {
            segmentation.segment_size = 1400;
        }
        let frame = framed(&host, packet);
        host.receive(FIRST, frame);
        let told = host.told();
        assert_eq!((told.len(), told[0].what), (1, what));
        assert_eq!(host.sent(NARROW).len(), 0);
    }
}

#[test]
fn a_super_packet_whose_checksum_is_wrong_gets_no_right_ones_by_being_cut() {
    let mut host = router();
    let (mut packet, _) = super_packet(NARROW_PAIRS[0], 5);
    packet.offload.checksum = Checksum::Unverified;
    let frame = framed(&host, packet);
    host.receive(FIRST, frame);
    assert_eq!((host.sent(NARROW).len(), host.told()), (0, vec![]));
    assert_eq!(host.dropped(DropReason::Checksum), 1);
}

#[test]
fn an_open_checksum_is_filled_in_where_the_device_does_not() {
    let mut host = router();
    for pair in NARROW_PAIRS {
        let (mut packet, _) = super_packet(pair, 1);
        packet.offload.segmentation = None;
        let frame = framed(&host, packet);
        host.receive(FIRST, frame);
        let sent = host.sent(NARROW);
        let mut packet = sent[0].clone();
        assert_eq!(packet.offload.checksum, Checksum::Unverified);
        let ip_header = input::parse(&mut packet, Arrival::Wire).expect("a right header");
        crate::engine::ingress::verify(&ip_header, &packet).expect("a right checksum");
    }
}

#[test]
fn metadata_that_contradicts_its_packet_goes_no_further() {
    let mut host = router();
    for (checksum, segment_size) in [
        (
            Checksum::Partial {
                start: 34,
                offset: 60_000,
            },
            None,
        ),
        (
            Checksum::Partial {
                start: 65_530,
                offset: 16,
            },
            None,
        ),
        (Checksum::Verified, Some(0)),
        (
            Checksum::Partial {
                start: 14,
                offset: 16,
            },
            Some(1000),
        ),
    ] {
        let (mut packet, _) = super_packet(PAIRS[0], 3);
        packet.offload.checksum = checksum;
        packet.offload.segmentation = packet.offload.segmentation.and_then(|segmentation| {
            Some(Segmentation {
                segment_size: segment_size?,
                ..segmentation
            })
        });
        let offload = packet.offload;
        let mut frame = framed(&host, packet);
        frame.offload = offload;
        host.receive(FIRST, frame);
    }
    assert_eq!(host.sent(SECOND).len(), 0);
    assert_eq!(host.dropped(DropReason::Malformed), 4);
}

#[test]
fn nothing_goes_back_over_a_point_to_point_link_to_its_own_network() {
    // RFC 4443 3.1: code 3, and MUST NOT be forwarded back; the same of IPv4.
    for (pair, what) in [
        (("10.2.0.9", "10.2.0.77"), (3, 1)),
        (("fd02::9", "fd02::77"), (1, 3)),
    ] {
        let mut host = router();
        host.receive(NARROW, packet(&from_to(pair), &datagram(7)));
        let sent = host.sent(NARROW);
        let [answer] = &sent[..] else {
            panic!("{sent:?}")
        };
        let mut framed = answer.clone();
        framed.prepend(HEADER_LEN);
        assert_eq!(said(&framed).what, what);
        assert_eq!(
            (host.dropped(DropReason::NoRoute), host.forwarded()),
            (1, 0)
        );
    }
    // On a link of stations it may be that the other is only behind us for the sender.
    let mut host = router();
    let neighbor = host
        .engine
        .set_neighbor(host.now, FIRST, ip("10.0.0.77"), BEYOND);
    neighbor.expect("an Ethernet interface");
    host.route(&from_to(("10.0.0.9", "10.0.0.77")), &datagram(7));
    let sent = host.sent(FIRST);
    let passed_on = sent
        .iter()
        .filter(|frame| inner(frame).0.destination == BEYOND);
    assert_eq!(passed_on.count(), 1);
}

#[test]
fn a_host_on_the_link_is_told_of_the_nearer_router_and_its_packet_goes_on() {
    // RFC 1812 5.2.7.2: code 1, for this host alone; from an address of the sender's network.
    let nearer = ip("10.0.0.77");
    let router = || {
        let host = router_with(|config| config.host.accept_source_routes = true);
        let set = host.engine.set_neighbor(host.now, FIRST, nearer, BEYOND);
        set.expect("an Ethernet interface");
        let network = "198.51.100.0/24".parse().expect("a network");
        let route = Route::via(FIRST, nearer);
        host.engine.network.add_route(network, route);
        host
    };
    let mut host = router();
    let header = from_to(("10.0.0.9", "198.51.100.7"));
    host.route(&header, &datagram(7));
    let sent = host.sent(FIRST);
    let (passed_on, told): (Vec<_>, Vec<_>) = sent
        .into_iter()
        .partition(|frame| inner(frame).0.destination == BEYOND);
    assert_eq!((passed_on.len(), told.len(), host.forwarded()), (1, 1, 1));
    let told = said(&told[0]);
    assert_eq!((told.what, told.addresses.0), ((5, 1), ip(OURS[0])));
    assert_eq!(IpAddr::V4(told.word.into()), nearer);
    assert_eq!(told.rest, packet(&header, &datagram(7)).to_bytes());
    // Not to who is of another network, nor to who routes the packet itself, nor about what came from the router itself.
    let mut host = router();
    host.route(&from_to(("203.0.113.9", "198.51.100.7")), &datagram(7));
    host.route(&from_to(("10.0.0.77", "198.51.100.7")), &datagram(7));
    let sent = host.sent(FIRST);
    assert!(
        sent.iter()
            .all(|frame| inner(frame).0.destination == BEYOND)
    );
    assert_eq!(sent.len(), 2);
    let options = ipv4::Options::new(&[131, 7, 4, 10, 9, 9, 9]).expect("a loose source route");
    let header = ipv4::Header {
        source: Ipv4Addr::new(10, 0, 0, 9),
        destination: Ipv4Addr::new(198, 51, 100, 7),
        protocol: protocol::UDP,
        ttl: 64,
        tos: 0,
        total_len: 28,
        identification: 0,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        options,
    };
    let mut octets = vec![0; header.encoded_len()];
    header.emit(&mut octets);
    let frame = framed(&host, Packet::from_bytes(octets.into()));
    host.receive(FIRST, frame);
    let sent = host.sent(FIRST);
    assert_eq!(sent.len(), 1);
    assert_eq!(inner(&sent[0]).0.destination, BEYOND);
}

#[test]
fn a_link_local_source_is_told_that_it_reaches_no_further() {
    // RFC 4443 3.1: code 2.
    let mut host = router();
    let source = ip("fe80::9");
    let set = host.engine.set_neighbor(host.now, FIRST, source, THEIRS);
    set.expect("an Ethernet interface");
    host.route(&from_to(("fe80::9", "fd01::9")), &datagram(7));
    let told = host.told();
    assert_eq!((told.len(), told[0].what), (1, (1, 2)));
    let ours = IpAddr::V6(host.link_local(FIRST));
    assert_eq!(told[0].addresses, (ours, source));
    assert_eq!(host.sent(SECOND).len(), 0);
}

#[test]
fn more_than_waits_for_the_way_out_is_dropped_and_counted() {
    let mut host = router_with(|config| config.host.reply_queue = 10);
    for _ in 0..100 {
        host.route(&from_to(PAIRS[0]), &datagram(7));
    }
    assert_eq!(host.dropped(DropReason::QueueFull), 90);
    assert_eq!((host.sent(SECOND).len(), host.forwarded()), (10, 10));
}

#[test]
fn a_router_takes_neither_advertisements_nor_redirects_and_says_that_it_is_one() {
    // RFC 4862 1 (autoconfiguration is for hosts), RFC 4861 8.2, 7.2.4; Linux: accept_ra 1 means "unless forwarding".
    let mut host = router();
    let config = router_discovery::Config::default();
    let begun = host.engine.configure_by_slaac(host.now, FIRST, config);
    assert_eq!(begun, Err(SocketError::InvalidInput));
    let before = host.engine.network.addresses().len();
    let advertisement = [
        134, 0, 0, 0, 64, 0, 0x07, 8, 0, 0, 0, 0, 0, 0, 0, 0, // a default router
        3, 4, 64, 0xc0, 0, 0, 14, 16, 0, 0, 14, 16, 0, 0, 0,
        0, // a prefix to make addresses of
        0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let header = |source: &str, destination: &str| OutputHeader {
        hop_limit: 255,
        protocol: protocol::ICMPV6,
        ..from_to((source, destination))
    };
    let mut heard = packet(&header("fe80::9", "ff02::1"), &advertisement);
    heard.offload.checksum = Checksum::Verified;
    let all = MacAddress([0x33, 0x33, 0, 0, 0, 1]);
    ethernet::prepend(&mut heard, THEIRS, all, LinkProtocol::Ipv6);
    host.receive(FIRST, heard);
    assert_eq!(host.engine.network.addresses().len(), before);
    let path = host
        .engine
        .network
        .path(host.now, ip("2001:db8:9::7"), None, None);
    assert_eq!(path, Err(SocketError::NetworkUnreachable));
    assert_eq!(host.dropped(DropReason::UnknownProtocol), 1);

    // From the first hop itself, about a packet that went there.
    let route = Route::via(FIRST, ip("fe80::9"));
    let network = "2001:db8::/64".parse().expect("a network");
    host.engine.network.add_route(network, route);
    let mut redirect = vec![137, 0, 0, 0, 0, 0, 0, 0];
    for address in ["fe80::8", "2001:db8::7"] {
        let address: std::net::Ipv6Addr = address.parse().expect("an address");
        redirect.extend(address.octets());
    }
    let mut heard = packet(&header("fe80::9", "fd00::1"), &redirect);
    heard.offload.checksum = Checksum::Verified;
    let heard = framed(&host, heard);
    host.receive(FIRST, heard);
    let path = host
        .engine
        .network
        .path(host.now, ip("2001:db8::7"), None, None);
    assert_eq!(path.map(|path| path.next_hop), Ok(ip("fe80::9")));

    for (is_router, mut host) in [
        (true, router()),
        (false, router_with(|config| config.host.forwarding = false)),
    ] {
        let target = "fd00::1".parse().expect("an address");
        let source = "fd00::9".parse().expect("an address");
        let mut question = build::solicitation(THEIRS, source, target, Some(host.ours(FIRST)));
        question.offload.checksum = Checksum::Verified;
        host.receive(FIRST, question);
        let answers = host.sent(FIRST);
        let octets = answers[0].to_bytes();
        let (message, _): (_, Options<'_>) =
            Message::parse(&octets[HEADER_LEN + ipv6::HEADER_LEN..]).expect("a message");
        let Message::NeighborAdvertisement(NeighborAdvertisement { router, .. }) = message else {
            panic!("{message:?}")
        };
        assert_eq!(router, is_router);
    }
}

#[test]
fn what_is_for_the_router_itself_is_taken_on_whichever_interface() {
    // RFC 1812 5.2.3: local delivery comes before forwarding.
    let mut host = router();
    for (source, destination) in [("10.0.0.9", "10.1.0.1"), ("fd00::9", "fd01::1")] {
        host.route(&from_to((source, destination)), &{
            let mut octets = datagram(7);
            octets.resize(udp::HEADER_LEN, 0);
            octets
        });
    }
    // Nobody has the port, or the checksum is wrong: either way it was this host that looked.
    assert_eq!(host.forwarded(), 0);
    assert_eq!(host.sent(SECOND).len(), 0);
    let stats = host.engine.stats();
    assert_eq!(
        stats.dropped(DropReason::NoSocket) + stats.dropped(DropReason::Checksum),
        2
    );
    // As is what comes from its own neighbours to its own addresses in frames for it.
    let hardware = (THEIRS, host.ours(FIRST));
    let addresses = (ip("10.0.0.9"), ip("10.0.0.1"));
    host.receive(
        FIRST,
        frame(hardware, addresses, protocol::UDP, &datagram(7)),
    );
    assert_eq!(host.told()[0].what, (3, 3));
}
