//! Neighbor Discovery packets and the cache: RFC 4861 7.1, 7.2.3, 7.2.4.

use tidewire_netdev::checksum::{pseudo_header_v6, sum_packet};

use super::*;
use crate::neighbor::ndp::{self as build, Arrival, Received};
use crate::wire::ndp::option::{LINK_LAYER_LEN, LinkLayerKind};
use crate::wire::ndp::{
    ALL_NODES, ALL_ROUTERS, Message, NdpOption, NeighborSolicitation, Redirect,
    RouterAdvertisement, RouterPreference, solicited_node,
};
use crate::wire::{ipv6, protocol};

fn arrival() -> Arrival {
    Arrival {
        interface: LINK,
        link_source: Some(THEIRS),
        source: THEIR_V6,
        destination: OUR_V6,
        hop_limit: 255,
        was_fragmented: false,
    }
}

fn message(message: Message, option: Option<(LinkLayerKind, MacAddress)>) -> Vec<u8> {
    let mut octets = vec![0; message.encoded_len()];
    message.emit(&mut octets);
    if let Some((kind, address)) = option {
        let mut option = [0; LINK_LAYER_LEN];
        NdpOption::emit_link_layer(kind, address, &mut option);
        octets.extend(option);
    }
    octets
}

fn solicitation(source: Option<MacAddress>) -> Vec<u8> {
    let wire = Message::NeighborSolicitation(NeighborSolicitation { target: OUR_V6 });
    message(wire, source.map(|address| (LinkLayerKind::Source, address)))
}

fn advertisement(solicited: bool, target: Option<MacAddress>) -> Vec<u8> {
    let wire = Message::NeighborAdvertisement(NeighborAdvertisement {
        router: false,
        solicited,
        overrides: true,
        target: THEIR_V6,
    });
    message(wire, target.map(|address| (LinkLayerKind::Target, address)))
}

fn receive(arrival: &Arrival, octets: &[u8]) -> Result<(), DropReason> {
    build::receive(arrival, OURS, octets).map(|_| ())
}

#[test]
fn solicitations_are_validated() {
    let good = solicitation(Some(THEIRS));
    let bare = solicitation(None);
    let group = solicited_node(OUR_V6);
    let duplicate_detection = Arrival {
        source: Ipv6Addr::UNSPECIFIED,
        destination: group,
        ..arrival()
    };
    let to_group = Arrival {
        destination: group,
        ..arrival()
    };
    for (arrival, octets) in [
        (arrival(), &good),
        (arrival(), &bare),
        (to_group, &good),
        (duplicate_detection, &bare),
    ] {
        assert_eq!(receive(&arrival, octets), Ok(()), "{arrival:?}");
    }

    // RFC 4861 7.1.1, in its order; the checksum has been verified before.
    let hop_limit = Arrival {
        hop_limit: 254,
        ..arrival()
    };
    assert_eq!(receive(&hop_limit, &good), Err(DropReason::BadNeighbor));
    let mut code = good.clone();
    code[1] = 1;
    assert_eq!(receive(&arrival(), &code), Err(DropReason::Malformed));
    assert_eq!(receive(&arrival(), &bare[..23]), Err(DropReason::Malformed));
    let target = message(
        Message::NeighborSolicitation(NeighborSolicitation { target: ALL_NODES }),
        None,
    );
    assert_eq!(receive(&arrival(), &target), Err(DropReason::Malformed));
    let mut zero_length = good.clone();
    zero_length[25] = 0;
    assert_eq!(
        receive(&arrival(), &zero_length),
        Err(DropReason::Malformed)
    );
    for destination in [OUR_V6, ALL_NODES] {
        let arrival = Arrival {
            destination,
            ..duplicate_detection
        };
        assert_eq!(receive(&arrival, &bare), Err(DropReason::BadNeighbor));
    }
    assert_eq!(
        receive(&duplicate_detection, &good),
        Err(DropReason::BadNeighbor)
    );

    // RFC 6980 5: not from fragments.
    let fragmented = Arrival {
        was_fragmented: true,
        ..arrival()
    };
    assert_eq!(receive(&fragmented, &good), Err(DropReason::BadNeighbor));
    // RFC 4862 5.4.3: our own, given back by the link.
    let own = Arrival {
        link_source: Some(OURS),
        ..duplicate_detection
    };
    assert_eq!(receive(&own, &bare), Err(DropReason::BadSource));
    for station in [MacAddress::BROADCAST, MacAddress([0; 6]), OURS] {
        let octets = solicitation(Some(station));
        assert_eq!(receive(&arrival(), &octets), Err(DropReason::BadNeighbor));
    }
    // Options that do not belong here are ignored.
    let mut other = bare;
    other.extend([2, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(receive(&duplicate_detection, &other), Ok(()));
}

#[test]
fn advertisements_are_validated() {
    let good = advertisement(true, Some(THEIRS));
    let unsolicited = advertisement(false, Some(THEIRS));
    let to_all = Arrival {
        destination: ALL_NODES,
        ..arrival()
    };
    for (arrival, octets) in [
        (arrival(), &good),
        (arrival(), &unsolicited),
        (to_all, &unsolicited),
        (arrival(), &advertisement(true, None)),
    ] {
        assert_eq!(receive(&arrival, octets), Ok(()), "{arrival:?}");
    }
    // RFC 4861 7.1.2, in its order.
    let hop_limit = Arrival {
        hop_limit: 64,
        ..arrival()
    };
    assert_eq!(receive(&hop_limit, &good), Err(DropReason::BadNeighbor));
    let mut code = good.clone();
    code[1] = 9;
    assert_eq!(receive(&arrival(), &code), Err(DropReason::Malformed));
    assert_eq!(receive(&arrival(), &good[..20]), Err(DropReason::Malformed));
    let mut target = good.clone();
    target[8] = 0xff;
    assert_eq!(receive(&arrival(), &target), Err(DropReason::Malformed));
    assert_eq!(receive(&to_all, &good), Err(DropReason::BadNeighbor));
    let mut zero_length = good;
    zero_length[25] = 0;
    assert_eq!(
        receive(&arrival(), &zero_length),
        Err(DropReason::Malformed)
    );
    let station = advertisement(true, Some(MacAddress::BROADCAST));
    assert_eq!(receive(&arrival(), &station), Err(DropReason::BadNeighbor));
}

#[test]
fn router_solicitations_are_none_of_a_hosts_business() {
    // RFC 4861 6.2.6
    let octets = message(Message::RouterSolicitation, None);
    let received = build::receive(&arrival(), OURS, &octets);
    assert_eq!(received, Ok(Received::RouterSolicitation));
}

fn router_advertisement(source: Option<MacAddress>) -> Vec<u8> {
    let wire = Message::RouterAdvertisement(RouterAdvertisement {
        current_hop_limit: 64,
        managed: false,
        other_configuration: false,
        preference: RouterPreference::Medium,
        router_lifetime: 1800,
        reachable_time: 0,
        retrans_timer: 0,
    });
    message(wire, source.map(|address| (LinkLayerKind::Source, address)))
}

/// Whatever a router sends: wrong in what all of Neighbor Discovery shares, and in where routers send from.
fn assert_router_rules(good: &[u8]) {
    let changed = |change: fn(&mut Arrival)| {
        let mut arrival = arrival();
        change(&mut arrival);
        arrival
    };
    assert_eq!(receive(&arrival(), good), Ok(()));
    let to_all = changed(|arrival| arrival.destination = ALL_NODES);
    assert_eq!(receive(&to_all, good), Ok(()));
    for broken in [
        changed(|arrival| arrival.hop_limit = 254),
        changed(|arrival| arrival.source = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        changed(|arrival| arrival.source = Ipv6Addr::UNSPECIFIED),
        // RFC 6980 5
        changed(|arrival| arrival.was_fragmented = true),
    ] {
        assert_eq!(
            receive(&broken, good),
            Err(DropReason::BadNeighbor),
            "{broken:?}"
        );
    }
    let own = changed(|arrival| arrival.link_source = Some(OURS));
    assert_eq!(receive(&own, good), Err(DropReason::BadSource));
    let mut code = good.to_vec();
    code[1] = 1;
    assert_eq!(receive(&arrival(), &code), Err(DropReason::Malformed));
    let mut zero_length = good.to_vec();
    zero_length.extend([200, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(
        receive(&arrival(), &zero_length),
        Err(DropReason::Malformed)
    );
    // Options that are unknown, or do not belong here, are ignored.
    let mut other = good.to_vec();
    other.extend([200, 1, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(receive(&arrival(), &other), Ok(()));
}

/// RFC 4861 6.1.2.
#[test]
fn router_advertisements_are_validated() {
    let good = router_advertisement(Some(THEIRS));
    assert_router_rules(&good);
    assert_eq!(receive(&arrival(), &good[..15]), Err(DropReason::Malformed));
    assert_eq!(receive(&arrival(), &router_advertisement(None)), Ok(()));
    for station in [MacAddress::BROADCAST, MacAddress([0; 6]), OURS] {
        let octets = router_advertisement(Some(station));
        assert_eq!(receive(&arrival(), &octets), Err(DropReason::BadNeighbor));
    }
}

/// RFC 4861 8.1, but for whether the sender is the first hop, which the engine knows.
#[test]
fn redirects_are_validated() {
    let destination = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
    let redirect = |target, destination| {
        let wire = Message::Redirect(Redirect {
            target,
            destination,
        });
        message(wire, Some((LinkLayerKind::Target, OTHER)))
    };
    let good = redirect(THEIR_V6, destination);
    assert_router_rules(&good);
    assert_eq!(receive(&arrival(), &good[..39]), Err(DropReason::Malformed));
    // To a router, hence link-local, or to the destination itself.
    let neighbor = redirect(destination, destination);
    assert_eq!(receive(&arrival(), &neighbor), Ok(()));
    let elsewhere = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 8);
    let far = redirect(elsewhere, destination);
    assert_eq!(receive(&arrival(), &far), Err(DropReason::BadNeighbor));
    let group = redirect(THEIR_V6, ALL_NODES);
    assert_eq!(receive(&arrival(), &group), Err(DropReason::Malformed));
}

fn received(source: Ipv6Addr, source_link_layer: Option<MacAddress>) -> ReceivedSolicitation {
    ReceivedSolicitation {
        interface: LINK,
        source,
        destination: solicited_node(OUR_V6),
        target: OUR_V6,
        source_link_layer,
    }
}

#[test]
fn a_solicitation_is_answered_as_section_7_2_4_says() {
    // Source, its link-layer address, our hold on the target, then destination, its place, Solicited, Override.
    let all_nodes = Some(MacAddress::multicast_v6(ALL_NODES));
    let nobody = Ipv6Addr::UNSPECIFIED;
    use Ownership::{Assigned, Optimistic};
    let rows = [
        (
            THEIR_V6,
            Some(THEIRS),
            Assigned,
            THEIR_V6,
            Some(THEIRS),
            true,
            true,
        ),
        (THEIR_V6, None, Assigned, THEIR_V6, None, true, true),
        (nobody, None, Assigned, ALL_NODES, all_nodes, false, true),
        // RFC 4429 3.3: never Override for an optimistic address.
        (
            THEIR_V6,
            Some(THEIRS),
            Optimistic,
            THEIR_V6,
            Some(THEIRS),
            true,
            false,
        ),
        (nobody, None, Optimistic, ALL_NODES, all_nodes, false, false),
    ];
    for (source, link, target, destination, place, solicited, overrides) in rows {
        let mut bench = Bench::new();
        let solicitation = received(source, link);
        let answer = bench
            .cache
            .handle_solicitation(bench.now, &solicitation, target);
        let expected = Advertisement {
            interface: LINK,
            destination,
            link_destination: place,
            advertisement: NeighborAdvertisement {
                router: false,
                solicited,
                overrides,
                target: OUR_V6,
            },
        };
        assert_eq!(answer, Ok(expected));
        let known = bench.cache.entries().len();
        assert_eq!(known, usize::from(link.is_some()), "{source}");
    }
    let mut bench = Bench::new();
    let answer = bench.cache.handle_solicitation(
        bench.now,
        &received(THEIR_V6, Some(THEIRS)),
        Ownership::None,
    );
    assert_eq!(answer, Err(DropReason::NotForUs));
    assert_eq!(bench.cache.entries(), []);
    // Without a link-layer address the answer goes where the asker is known to be.
    let mut bench = Bench::in_state(NeighborState::Reachable);
    let answer =
        bench
            .cache
            .handle_solicitation(bench.now, &received(THEIR_V6, None), Ownership::Assigned);
    assert_eq!(
        answer.map(|answer| answer.link_destination),
        Ok(Some(THEIRS))
    );
    for source in [ALL_NODES, Ipv6Addr::LOCALHOST] {
        let answer = bench.cache.handle_solicitation(
            bench.now,
            &received(source, Some(THEIRS)),
            Ownership::Assigned,
        );
        assert_eq!(answer, Err(DropReason::BadNeighbor));
    }
}

/// Takes a packet apart, from its IPv6 header on: the header and the message with a verified checksum.
fn open(octets: &[u8]) -> (ipv6::Header, Vec<u8>) {
    let (header, len) = ipv6::Header::parse(octets).expect("an IPv6 header");
    let body = octets[len..].to_vec();
    assert_eq!(usize::from(header.payload_len), body.len());
    assert_eq!((header.hop_limit, header.next_header), (255, 58));
    let packet = Packet::from_bytes(body.clone().into());
    let mut sum = pseudo_header_v6(
        header.source,
        header.destination,
        protocol::ICMPV6,
        body.len() as u32,
    );
    sum.add_u16(sum_packet(&packet, 0).fold());
    assert_eq!(sum.finish(), 0);
    (header, body)
}

fn open_frame(frame: &Packet) -> (MacAddress, ipv6::Header, Vec<u8>) {
    let octets = frame.to_bytes();
    assert_eq!(octets[6..14], [2, 0, 0, 0, 0, 1, 0x86, 0xdd]);
    let (header, body) = open(&octets[14..]);
    let to = octets[..6].try_into().expect("six octets");
    (MacAddress(to), header, body)
}

#[test]
fn questions_are_frames() {
    let mut bench = Bench::new();
    bench.resolve();
    let question = bench.cache.poll_transmit().expect("a question");
    let (to, header, body) = open_frame(&question.to_packet(OURS));
    let group = solicited_node(THEIR_V6);
    assert_eq!(to, MacAddress::multicast_v6(group));
    assert_eq!((header.source, header.destination), (OUR_V6, group));
    let (wire, options) = Message::parse(&body).expect("a message");
    let expected = Message::NeighborSolicitation(NeighborSolicitation { target: THEIR_V6 });
    assert_eq!(wire, expected);
    assert_eq!(options.source_link_layer(), Some(OURS));

    // 7.3.3: a known neighbour is asked alone.
    let mut bench = Bench::in_state(NeighborState::Delay);
    bench.pass(5 * SECOND);
    let question = bench.cache.poll_transmit().expect("a question");
    let (to, header, _) = open_frame(&question.to_packet(OURS));
    assert_eq!((to, header.destination), (THEIRS, THEIR_V6));
}

#[test]
fn other_packets_are_frames() {
    let (to, header, body) = open_frame(&build::duplicate_detection(OURS, THEIR_V6));
    let group = solicited_node(THEIR_V6);
    assert_eq!(to, MacAddress::multicast_v6(group));
    assert_eq!(
        (header.source, header.destination),
        (Ipv6Addr::UNSPECIFIED, group)
    );
    assert_eq!(body.len(), 24, "no link-layer address (RFC 4862 5.4.2)");
    for (source, len) in [(OUR_V6, 16), (Ipv6Addr::UNSPECIFIED, 8)] {
        let (to, header, body) = open_frame(&build::router_solicitation(OURS, source));
        assert_eq!(to, MacAddress::multicast_v6(ALL_ROUTERS));
        assert_eq!((header.source, header.destination), (source, ALL_ROUTERS));
        assert_eq!(body.len(), len);
    }
    let mut bench = Bench::new();
    let solicitation = received(THEIR_V6, Some(THEIRS));
    let answer = bench
        .cache
        .handle_solicitation(bench.now, &solicitation, Ownership::Assigned)
        .expect("an answer");
    let (header, body) = open(&answer.to_packet(OURS).to_bytes());
    assert_eq!((header.source, header.destination), (OUR_V6, THEIR_V6));
    let (wire, options) = Message::parse(&body).expect("a message");
    assert_eq!(wire, Message::NeighborAdvertisement(answer.advertisement));
    assert_eq!(options.target_link_layer(), Some(OURS));
}

/// RFC 4429 3.2: without an address to ask with, a host waits; what it could not ask does not count.
#[test]
fn a_postponed_question_does_not_count_and_is_asked_as_soon_as_it_can_be() {
    for state in [NeighborState::Incomplete, NeighborState::Probe] {
        let mut bench = match state {
            NeighborState::Incomplete => Bench::new(),
            _ => Bench::in_state(NeighborState::Delay),
        };
        bench.resolve();
        if state == NeighborState::Probe {
            bench.pass(5 * SECOND);
        }
        let asked = bench.cache.stats();
        for _ in 0..10 {
            let question = bench.cache.poll_transmit().expect("a question");
            bench.cache.postpone(&question);
            bench.pass(SECOND);
        }
        let question = bench.cache.poll_transmit().expect("one that is left");
        bench.cache.postpone(&question);
        assert_eq!(bench.cache.stats(), asked);
        assert_eq!(bench.state(), Some(state), "as patient as ever");

        bench.pass(SECOND / 2);
        bench.cache.resume(bench.now, InterfaceId(9));
        assert_eq!(bench.cache.poll_transmit(), None, "another interface");
        bench.cache.resume(bench.now, LINK);
        assert_eq!(bench.cache.poll_transmit(), Some(question));
        // The first of three (RFC 4861 10).
        for _ in 0..2 {
            bench.cache.resume(bench.now, LINK);
            assert_eq!(bench.cache.poll_transmit(), None);
            bench.pass(SECOND);
            assert_eq!(bench.cache.poll_transmit(), Some(question));
        }
        bench.pass(SECOND);
        assert_eq!(bench.cache.poll_transmit(), None);
        assert_ne!(bench.state(), Some(state), "given up");
    }
}
