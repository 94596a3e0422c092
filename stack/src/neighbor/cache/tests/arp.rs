//! ARP packets and the cache: RFC 826, RFC 5227, and whom Linux believes.

use super::*;
use crate::neighbor::arp as build;
use crate::wire::arp::{Message, Operation};
use NeighborState::{Reachable, Stale};

fn ownership(address: Ipv4Addr) -> Ownership {
    if address == OUR_V4 {
        Ownership::Assigned
    } else {
        Ownership::None
    }
}

fn receive(
    bench: &mut Bench,
    destination: LinkDestination,
    message: &Message,
) -> Result<ArpVerdict, DropReason> {
    bench
        .cache
        .handle_arp(bench.now, LINK, OURS, destination, message, ownership)
}

fn answer(from: MacAddress) -> Message {
    build::reply(from, &build::request(OURS, OUR_V4, THEIR_V4))
}

fn state(bench: &Bench) -> Option<(NeighborState, Option<MacAddress>)> {
    bench
        .info(THEIR_V4.into())
        .map(|info| (info.state, info.address))
}

#[test]
fn a_request_for_us_is_answered_and_its_sender_known() {
    let mut bench = Bench::new();
    let request = build::request(THEIRS, THEIR_V4, OUR_V4);
    let verdict = receive(&mut bench, LinkDestination::Broadcast, &request);
    let expected = Message {
        operation: Operation::Reply,
        sender_hardware: OURS,
        sender_protocol: OUR_V4,
        target_hardware: THEIRS,
        target_protocol: THEIR_V4,
    };
    assert_eq!(verdict, Ok(ArpVerdict::Reply(expected)));
    assert_eq!(state(&bench), Some((Stale, Some(THEIRS))));
    // RFC 826: the merge flag; a known sender's address is replaced, even at once.
    let moved = build::request(OTHER, THEIR_V4, OUR_V4);
    assert!(receive(&mut bench, LinkDestination::Broadcast, &moved).is_ok());
    assert_eq!(state(&bench), Some((Stale, Some(OTHER))));
}

#[test]
fn only_who_is_known_or_asks_for_us_is_believed() {
    // Linux, arp_accept 0: no entry is made for these.
    let elsewhere = Ipv4Addr::new(10, 0, 0, 99);
    for message in [
        build::request(THEIRS, THEIR_V4, elsewhere),
        build::announcement(THEIRS, THEIR_V4),
        answer(THEIRS),
        Message {
            operation: Operation::Reply,
            ..build::announcement(THEIRS, THEIR_V4)
        },
    ] {
        for destination in [LinkDestination::Unicast, LinkDestination::Broadcast] {
            let mut bench = Bench::new();
            let verdict = receive(&mut bench, destination, &message);
            assert_eq!(verdict, Ok(ArpVerdict::Nothing), "{message:?}");
            assert_eq!(bench.cache.entries(), [], "{message:?}");
        }
    }
}

#[test]
fn an_answer_resolves_who_is_asked_for() {
    // Sender known to be asked for; a broadcast answer confirms nothing.
    for (destination, expected) in [
        (LinkDestination::Unicast, Reachable),
        (LinkDestination::Broadcast, Stale),
    ] {
        let mut bench = Bench::new();
        assert_eq!(bench.resolve_v4(THEIR_V4), Resolution::Pending);
        bench
            .cache
            .wait(key_of(THEIR_V4.into()), 5)
            .expect("pending");
        let verdict = receive(&mut bench, destination, &answer(THEIRS));
        assert_eq!(verdict, Ok(ArpVerdict::Nothing));
        assert_eq!(state(&bench), Some((expected, Some(THEIRS))));
        assert_eq!(bench.events(), [(Some(THEIRS), vec![], vec![5])]);
    }
    // So does any other packet of the neighbour, as RFC 826 has it, but without confirming it.
    let elsewhere = Ipv4Addr::new(10, 0, 0, 99);
    for message in [
        build::request(THEIRS, THEIR_V4, elsewhere),
        build::announcement(THEIRS, THEIR_V4),
        build::request(THEIRS, THEIR_V4, OUR_V4),
    ] {
        let mut bench = Bench::new();
        bench.resolve_v4(THEIR_V4);
        assert!(receive(&mut bench, LinkDestination::Broadcast, &message).is_ok());
        assert_eq!(state(&bench), Some((Stale, Some(THEIRS))), "{message:?}");
    }
}

#[test]
fn the_first_of_two_answers_holds_for_a_second() {
    let mut bench = Bench::new();
    bench.resolve_v4(THEIR_V4);
    assert!(receive(&mut bench, LinkDestination::Unicast, &answer(THEIRS)).is_ok());
    // Linux's locktime. As with Override clear, the first is to be verified (RFC 4861 7.2.5 I).
    assert!(receive(&mut bench, LinkDestination::Unicast, &answer(OTHER)).is_ok());
    assert_eq!(state(&bench), Some((Stale, Some(THEIRS))));
    bench.pass(SECOND);
    assert!(receive(&mut bench, LinkDestination::Unicast, &answer(OTHER)).is_ok());
    assert_eq!(state(&bench), Some((Reachable, Some(OTHER))));
    // An announcement replaces it at any time, and does not confirm it.
    let announcement = build::announcement(THEIRS, THEIR_V4);
    assert!(receive(&mut bench, LinkDestination::Broadcast, &announcement).is_ok());
    assert_eq!(state(&bench), Some((Stale, Some(THEIRS))));
}

#[test]
fn a_probe_is_answered_and_teaches_nothing() {
    // RFC 5227 2.5: probes are answered too.
    let mut bench = Bench::new();
    let probe = build::probe(THEIRS, OUR_V4);
    let verdict = receive(&mut bench, LinkDestination::Broadcast, &probe);
    let expected = Message {
        target_protocol: Ipv4Addr::UNSPECIFIED,
        ..build::reply(OURS, &build::request(THEIRS, THEIR_V4, OUR_V4))
    };
    assert_eq!(verdict, Ok(ArpVerdict::Reply(expected)));
    let other = build::probe(THEIRS, THEIR_V4);
    let verdict = receive(&mut bench, LinkDestination::Broadcast, &other);
    assert_eq!(verdict, Ok(ArpVerdict::Nothing));
    assert_eq!(bench.cache.entries(), []);
}

#[test]
fn a_sender_with_our_address_is_a_conflict() {
    // RFC 5227 2.4: any packet, request or reply, with our sender address and another hardware address.
    for message in [
        build::announcement(THEIRS, OUR_V4),
        build::request(THEIRS, OUR_V4, THEIR_V4),
        Message {
            operation: Operation::Reply,
            ..build::request(THEIRS, OUR_V4, THEIR_V4)
        },
    ] {
        let mut bench = Bench::new();
        let verdict = receive(&mut bench, LinkDestination::Broadcast, &message);
        assert_eq!(verdict, Ok(ArpVerdict::Conflict(OUR_V4)), "{message:?}");
        assert_eq!(bench.cache.entries(), []);
    }
}

#[test]
fn senders_that_cannot_be_are_dropped() {
    let request = build::request(THEIRS, THEIR_V4, OUR_V4);
    let with_hardware = |sender_hardware| Message {
        sender_hardware,
        ..request
    };
    let with_address = |sender_protocol| Message {
        sender_protocol,
        ..request
    };
    let cases = [
        // What the link gives back of ours (RFC 5227 2.1.1).
        (with_hardware(OURS), DropReason::BadSource),
        (with_hardware(MacAddress([0; 6])), DropReason::BadNeighbor),
        (
            with_hardware(MacAddress::BROADCAST),
            DropReason::BadNeighbor,
        ),
        (
            with_hardware(MacAddress([1, 0, 0x5e, 0, 0, 1])),
            DropReason::BadNeighbor,
        ),
        (
            with_address(Ipv4Addr::new(224, 0, 0, 1)),
            DropReason::BadNeighbor,
        ),
        (with_address(Ipv4Addr::BROADCAST), DropReason::BadNeighbor),
        (with_address(Ipv4Addr::LOCALHOST), DropReason::BadNeighbor),
        (
            Message {
                operation: Operation::ReverseRequest,
                ..request
            },
            DropReason::UnknownLinkProtocol,
        ),
        (
            Message {
                operation: Operation::ReverseReply,
                ..request
            },
            DropReason::UnknownLinkProtocol,
        ),
    ];
    for (message, reason) in cases {
        let mut bench = Bench::new();
        let verdict = receive(&mut bench, LinkDestination::Broadcast, &message);
        assert_eq!(verdict, Err(reason), "{message:?}");
        assert_eq!(bench.cache.entries(), []);
    }
}

#[test]
fn questions_are_frames() {
    let mut bench = Bench::new();
    bench.resolve_v4(THEIR_V4);
    let question = bench.cache.poll_transmit().expect("a question");
    let frame = question.to_packet(OURS);
    let mut expected = vec![0xff; 6];
    expected.extend([2, 0, 0, 0, 0, 1, 0x08, 0x06]);
    expected.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    expected.extend([2, 0, 0, 0, 0, 1, 10, 0, 0, 1]);
    expected.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
    assert_eq!(frame.to_bytes(), expected);
    // A neighbour that is known is asked alone (RFC 1122 2.3.2.1 (2)).
    assert!(receive(&mut bench, LinkDestination::Unicast, &answer(THEIRS)).is_ok());
    bench.pass(46 * SECOND);
    bench.resolve_v4(THEIR_V4);
    bench.pass(5 * SECOND);
    let question = bench.cache.poll_transmit().expect("a question");
    let frame = question.to_packet(OURS).to_bytes();
    assert_eq!(frame[..6], THEIRS.0);
    assert_eq!(frame[14..], expected[14..]);
    assert_eq!(
        state(&bench).map(|state| state.0),
        Some(NeighborState::Probe)
    );
}

#[test]
fn a_neighbour_that_is_silent_is_asked_alone_and_then_all_are() {
    // RFC 1122 2.3.2.1 (2): unicast polls; RFC 4861 7.3.3 has the times.
    let mut bench = Bench::new();
    bench.resolve_v4(THEIR_V4);
    assert!(receive(&mut bench, LinkDestination::Unicast, &answer(THEIRS)).is_ok());
    bench.questions();
    bench.pass(46 * SECOND);
    assert_eq!(
        bench.resolve_v4(THEIR_V4),
        Resolution::Reachable(THEIRS),
        "stale, and used all the same"
    );
    bench.pass(5 * SECOND);
    for _ in 0..3 {
        assert_eq!(bench.questions(), [(THEIR_V4.into(), Some(THEIRS))]);
        bench.pass(SECOND);
    }
    assert_eq!(state(&bench), None);
    assert_eq!(bench.cache.stats().probes_failed, 1);
    assert_eq!(bench.resolve_v4(THEIR_V4), Resolution::Pending);
    assert_eq!(bench.questions(), [(THEIR_V4.into(), None)]);
    // A poll that is answered keeps it.
    assert!(receive(&mut bench, LinkDestination::Unicast, &answer(OTHER)).is_ok());
    bench.pass(46 * SECOND);
    bench.resolve_v4(THEIR_V4);
    bench.pass(6 * SECOND);
    assert_eq!(
        state(&bench).map(|(state, _)| state),
        Some(NeighborState::Probe)
    );
    assert!(receive(&mut bench, LinkDestination::Unicast, &answer(OTHER)).is_ok());
    assert_eq!(state(&bench), Some((Reachable, Some(OTHER))));
}
