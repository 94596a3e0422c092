//! AS: association set-up (RFC 9260 5.1, 5.2.2, 3.2.1, 3.3.2, 3.3.3).

use super::*;
use crate::wire::sctp::{AddressTypes, kind};

/// A parameter of four octets that nobody knows.
fn unknown(kind: u16, value: u8) -> [u8; 8] {
    let [high, low] = kind.to_be_bytes();
    [high, low, 0, 8, value, value, value, value]
}

#[test]
fn initiator_sends_init_echoes_the_cookie_and_is_up_with_the_cookie_ack() {
    // RFC 9260 5.1 A, C, E.
    let mut tester = Tester::new();
    tester.connect();
    let init = tester.receive_init();
    assert_eq!(tester.state(), Some(State::CookieWait));
    assert_ne!(init.initiate_tag, 0);
    assert!(init.a_rwnd >= 1500);
    assert_eq!((init.outbound_streams, init.inbound_streams), (10, 2048));
    tester.send(&[acknowledging(super::init())]);
    tester.expect(&[Chunk::CookieEcho(COOKIE)]);
    assert_eq!(tester.state(), Some(State::CookieEchoed));
    assert_eq!(tester.events(), [], "not before the COOKIE ACK");
    tester.send(&[Chunk::CookieAck]);
    tester.expect_nothing();
    assert_eq!(tester.state(), Some(State::Established));
    assert_eq!(tester.events(), [came_up(5, 5)]);
}

#[test]
fn responder_keeps_nothing_until_the_cookie_comes_back() {
    // RFC 9260 5.1 B, D.
    let mut tester = Tester::new();
    let ack = tester.init_ack_for(init());
    assert!(ack.initiate_tag != 0 && ack.a_rwnd >= 1500);
    assert!(tester.association.is_none(), "all of it is in the cookie");
    tester.expect_nothing();
    let cookie = ack.parameters.state_cookie.expect("a cookie");
    tester.send(&[Chunk::CookieEcho(cookie)]);
    tester.expect(&[Chunk::CookieAck]);
    assert_eq!(tester.state(), Some(State::Established));
    assert_eq!(tester.events(), [came_up(5, 5)]);
}

#[test]
fn init_is_sent_again_unchanged_when_t1_expires() {
    // RFC 9260 5.1 A, 4 note 2, 5.1.6, 6.3.3 E2.
    let mut tester = Tester::with(Config::default(), quick());
    tester.connect();
    let first = tester.receive_init();
    for millis in [100, 200, 400, 800, 800] {
        assert_eq!(tester.fire(), ms(millis));
        assert_eq!(tester.receive_init(), first);
        tester.expect_nothing();
        assert_eq!(tester.state(), Some(State::CookieWait));
    }
    tester.send(&[acknowledging(init())]);
    tester.expect(&[Chunk::CookieEcho(COOKIE)]);
}

#[test]
fn cookie_echo_is_sent_again_when_t1_expires() {
    // RFC 9260 5.1 C, 4 note 3.
    let mut tester = Tester::with(Config::default(), quick());
    tester.connect();
    tester.receive_init();
    tester.send(&[acknowledging(init())]);
    tester.expect(&[Chunk::CookieEcho(COOKIE)]);
    for millis in [100, 200, 400, 800] {
        assert_eq!(tester.fire(), ms(millis));
        tester.expect(&[Chunk::CookieEcho(COOKIE)]);
        assert_eq!(tester.state(), Some(State::CookieEchoed));
    }
    tester.send(&[Chunk::CookieAck]);
    assert_eq!(tester.state(), Some(State::Established));
}

#[test]
fn init_and_cookie_echo_are_given_up_after_max_init_retransmits() {
    // RFC 9260 4 notes 2 and 3: the attempt ends, the user is told, and the peer hears nothing of it.
    for echoed in [false, true] {
        let mut options = quick();
        options.init.max_attempts = Some(3);
        let mut tester = Tester::with(Config::default(), options);
        tester.connect();
        tester.receive_init();
        if echoed {
            tester.send(&[acknowledging(init())]);
            tester.expect(&[Chunk::CookieEcho(COOKIE)]);
        }
        for _ in 0..3 {
            tester.fire();
            let again = tester.receive();
            let is_echo = matches!(again.chunks[..], [Chunk::CookieEcho(_)]);
            assert_eq!(is_echo, echoed);
        }
        tester.fire();
        tester.expect_nothing();
        assert_eq!(tester.state(), Some(State::Closed));
        assert_eq!(lost(&tester.events()), Some(Some(SocketError::TimedOut)));
        assert_eq!(tester.read(), Err(SocketError::TimedOut));
    }
}

#[test]
fn init_beyond_what_can_be_served_is_aborted() {
    // RFC 9260 5.1, 3.3.10.4, 8.4 rule 3: with the tag that the INIT asks for.
    let mut tester = Tester::new();
    tester.backlog = Backlog::Full;
    tester.send_tagged(0, &[Chunk::Init(Box::new(init()))]);
    let cause = tester.expect_abort(PEER_TAG, false);
    assert_eq!(cause, Some(ErrorCause::OutOfResource));
    assert!(tester.association.is_none());
}

#[test]
fn each_association_has_a_tag_and_a_tsn_of_its_own() {
    // RFC 9260 5.3.1: also one with the same peer, after the last one has ended.
    for role in ROLES {
        let mut tester = Tester::new();
        let mut tags = Vec::new();
        let mut tsns = Vec::new();
        for _ in 0..50 {
            tester.set_up(role, init());
            tags.push(tester.tag);
            tsns.push(tester.tsn);
            tester.send(&[abort(None)]);
            assert_eq!(tester.state(), Some(State::Closed));
        }
        for numbers in [&mut tags, &mut tsns] {
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), 50, "{role:?}");
        }
        assert!(!tags.contains(&0));
        // Nor do they grow by steps that could be guessed.
        let mut steps: Vec<_> = tags.windows(2).map(|pair| pair[1] - pair[0]).collect();
        steps.sort_unstable();
        steps.dedup();
        assert_eq!(steps.len(), 49);
    }
}

#[test]
fn cookie_preservative_of_an_init_lengthens_the_cookies_life() {
    // RFC 9260 5.2.6, 3.3.2.1.3: 60 s and what is asked for, 30 s of it at most.
    for (asked, age, good) in [
        (None, 59, true),
        (None, 61, false),
        (Some(12_345), 72, true),
        (Some(12_345), 73, false),
        (Some(u32::MAX), 89, true),
        (Some(u32::MAX), 91, false),
    ] {
        let mut tester = Tester::new();
        let mut init = init();
        init.parameters.cookie_preservative = asked;
        let cookie = tester.cookie_for(init);
        tester.now += Duration::from_secs(age);
        tester.send(&[Chunk::CookieEcho(cookie)]);
        let is_up = tester.receive().chunks == [Chunk::CookieAck];
        assert_eq!(is_up, good, "{asked:?} {age}");
    }
}

#[test]
fn cookie_preservative_of_an_init_ack_means_nothing() {
    // RFC 9260 3.3.3: an INIT ACK has none; one that comes is passed over.
    let mut tester = Tester::new();
    let mut ack = init();
    ack.parameters.cookie_preservative = Some(12_345);
    tester.set_up(Role::Initiator, ack);
}

#[test]
fn streams_are_the_smaller_number_of_what_both_sides_say() {
    // RFC 9260 5.1.1: (the tester's outbound, inbound), (ours outbound, inbound), in force.
    let options = SocketOptions {
        init: InitMessage {
            outbound_streams: Some(4),
            max_inbound_streams: Some(6),
            ..InitMessage::default()
        },
        ..SocketOptions::default()
    };
    for (theirs, in_force) in [
        ((9, 9), (4, 6)),
        ((1, 2), (2, 1)),
        ((6, 4), (4, 6)),
        ((u16::MAX, 1), (1, 6)),
    ] {
        for role in ROLES {
            let mut tester = Tester::with(Config::default(), options.clone());
            let theirs = Init {
                outbound_streams: theirs.0,
                inbound_streams: theirs.1,
                ..init()
            };
            tester.set_up(role, theirs);
            assert_eq!(tester.ours().streams(), in_force, "{role:?}");
            assert_eq!(tester.events(), [came_up(in_force.0, in_force.1)]);
            let message = || Bytes::from_static(b"x");
            let last = tester.ours().send(message(), &on(in_force.0 - 1));
            assert_eq!(last, Ok(()));
            let beyond = tester.ours().send(message(), &on(in_force.0));
            assert_eq!(beyond, Err(SocketError::InvalidInput));
        }
    }
}

#[test]
fn init_without_streams_is_aborted() {
    // RFC 9260 3.3.2: an invalid mandatory parameter, told with the tag that the INIT asks for.
    for (outbound_streams, inbound_streams) in [(0, 1), (1, 0), (0, 0)] {
        let mut tester = Tester::new();
        let none = Init {
            outbound_streams,
            inbound_streams,
            ..init()
        };
        tester.send_tagged(0, &[Chunk::Init(Box::new(none))]);
        let cause = tester.expect_abort(PEER_TAG, false);
        assert_eq!(cause, Some(ErrorCause::InvalidMandatoryParameter));
        assert!(tester.association.is_none());
    }
}

#[test]
fn init_ack_without_streams_ends_the_attempt_with_an_abort() {
    // RFC 9260 3.3.3.
    for (outbound_streams, inbound_streams) in [(0, 1), (1, 0), (0, 0)] {
        let mut tester = Tester::new();
        tester.connect();
        tester.receive_init();
        let none = Init {
            outbound_streams,
            inbound_streams,
            ..init()
        };
        tester.send(&[acknowledging(none)]);
        let cause = tester.expect_abort(PEER_TAG, false);
        assert_eq!(cause, Some(ErrorCause::InvalidMandatoryParameter));
        assert_eq!(tester.state(), Some(State::Closed));
        let told = lost(&tester.events());
        assert_eq!(told, Some(Some(SocketError::ConnectionRefused)));
    }
}

#[test]
fn unknown_parameters_of_an_init_are_reported_as_their_types_say() {
    // RFC 9260 3.2.1: between two that are passed over and reported stands one of each sort; what of them is reported.
    let (before, after) = (unknown(0xc0cc, 1), unknown(0xc0cc, 3));
    for (kind, middle_reported, after_reported) in [
        (0x00cc, false, false),
        (0x40cc, true, false),
        (0x80cc, false, true),
        (0xc0cc, true, true),
    ] {
        let mut tester = Tester::new();
        let middle = unknown(kind, 2);
        let octets = init_octets(kind::INIT, &init(), &[before, middle, after].concat());
        tester.send_octets(0, &octets);
        let seen = tester.receive();
        assert_eq!(seen.tag, PEER_TAG);
        let [Chunk::InitAck(ack)] = &seen.chunks[..] else {
            panic!("{seen:?}");
        };
        let mut expected = vec![Bytes::copy_from_slice(&before)];
        expected.extend(middle_reported.then(|| Bytes::copy_from_slice(&middle)));
        expected.extend(after_reported.then(|| Bytes::copy_from_slice(&after)));
        assert_eq!(ack.parameters.reported[..], expected, "{kind:#x}");
        tester.tag = ack.initiate_tag;
        let cookie = ack.parameters.state_cookie.clone().expect("a cookie");
        tester.send(&[Chunk::CookieEcho(cookie)]);
        tester.expect(&[Chunk::CookieAck]);
    }
}

#[test]
fn restarted_peer_with_the_same_addresses_is_taken_in() {
    // RFC 9260 5.2.2, 5.2.4 A.
    for role in ROLES {
        let mut tester = Tester::established(role);
        let old = tester.tag;
        tester.write("before");
        tester.expect_data();
        let again = Init {
            initiate_tag: PEER_TAG + 1,
            initial_tsn: PEER_TSN + 500,
            ..init()
        };
        let cookie = tester.cookie_for(again);
        assert_ne!(tester.tag, old);
        assert_eq!(tester.events(), [], "an INIT changes nothing");
        tester.send(&[Chunk::CookieEcho(cookie)]);
        tester.expect_tagged(PEER_TAG + 1, &[Chunk::CookieAck]);
        tester.expect_nothing();
        let events = tester.events();
        assert!(matches!(events[0], Notification::SendFailed(_)));
        let restart = AssociationChange::Restart {
            outbound_streams: 5,
            inbound_streams: 5,
        };
        assert_eq!(events[1..], [Notification::AssociationChange(restart)]);
        tester.send_tagged(old, &[heartbeat()]);
        tester.expect_nothing();
        tester.write("after");
        let tsn = tester.tsn;
        let seen = tester.receive();
        assert_eq!(seen.tag, PEER_TAG + 1);
        assert!(matches!(&seen.chunks[..], [Chunk::Data(data)] if data.header.tsn == tsn));
    }
}

#[test]
fn restarted_peer_with_a_new_address_is_refused() {
    // RFC 9260 5.2.2, 3.3.10.11: the ABORT has the new tag, and what there is goes on.
    for role in ROLES {
        let mut tester = Tester::established(role);
        let mut again = Init {
            initiate_tag: PEER_TAG + 1,
            ..init()
        };
        again.parameters.addresses.push(OTHER);
        tester.send_tagged(0, &[Chunk::Init(Box::new(again))]);
        let cause = tester.expect_abort(PEER_TAG + 1, false);
        let added = ErrorCause::restart_with_new_addresses(&[OTHER]);
        assert_eq!(cause, Some(added));
        assert_eq!(tester.state(), Some(State::Established));
        tester.send(&[heartbeat()]);
        tester.expect(&[Chunk::HeartbeatAck(Bytes::from_static(b"are you there"))]);
    }
}

#[test]
fn peer_that_lists_no_addresses_has_the_one_it_sends_from() {
    // RFC 9260 5.1.2 A.
    for role in ROLES {
        let mut tester = Tester::established(role);
        assert_eq!(tester.ours().ends().peer_addresses, [BOB], "{role:?}");
        tester.write("x");
        assert_eq!(tester.receive().destination, BOB);
    }
}

#[test]
fn addresses_that_the_peer_lists_are_probed_and_then_used() {
    // RFC 9260 5.1.2 C, 5.4: none gets DATA before it has answered; 6.4.1: what times out goes there then.
    for role in ROLES {
        let mut tester = Tester::with(Config::default(), quick());
        let mut listed = init();
        listed.parameters.addresses.extend([BOB, OTHER]);
        let own = listed.clone();
        match role {
            Role::Initiator => {
                tester.connect();
                tester.receive_init();
                tester.send(&[acknowledging(listed)]);
                tester.expect(&[Chunk::CookieEcho(COOKIE)]);
                tester.send(&[Chunk::CookieAck]);
            }
            Role::Responder => {
                let cookie = tester.cookie_for(own);
                tester.send(&[Chunk::CookieEcho(cookie)]);
                tester.expect(&[Chunk::CookieAck]);
            }
        }
        assert_eq!(tester.ours().ends().peer_addresses, [BOB, OTHER]);
        let probe = loop {
            match tester.try_receive() {
                Some(probe) => break probe,
                None => tester.fire(),
            };
        };
        assert_eq!((probe.destination, probe.tag), (OTHER, PEER_TAG));
        let [Chunk::Heartbeat(info)] = &probe.chunks[..] else {
            panic!("{probe:?}");
        };
        let answer = Chunk::HeartbeatAck(info.clone());
        tester.send_from(OTHER, tester.tag, &[answer]);
        tester.write("x");
        assert_eq!(tester.receive().destination, BOB);
        tester.fire();
        let again = tester.receive();
        assert_eq!(again.destination, OTHER, "{role:?}");
        assert!(matches!(again.chunks[..], [Chunk::Data(_)]));
    }
}

#[test]
fn host_names_are_aborted_with_the_parameter_quoted() {
    // RFC 9260 5.1.2 B, 3.3.2 note 3, 3.3.3 note 3.
    let name = [0, 11, 0, 8, b'a', b'.', b'b', 0];
    let cause = Some(ErrorCause::UnresolvableAddress(Bytes::copy_from_slice(
        &name,
    )));
    let mut tester = Tester::new();
    tester.send_octets(0, &init_octets(kind::INIT, &init(), &name));
    assert_eq!(tester.expect_abort(PEER_TAG, false), cause);
    assert!(tester.association.is_none());

    tester.connect();
    tester.receive_init();
    let parameters = [&[0, 7, 0, 8, 1, 2, 3, 4][..], &name].concat();
    let ack = init_octets(kind::INIT_ACK, &init(), &parameters);
    tester.send_octets(tester.tag, &ack);
    assert_eq!(tester.expect_abort(PEER_TAG, false), cause);
    assert_eq!(tester.state(), Some(State::Closed));
}

#[test]
fn init_that_supports_other_address_types_is_answered_where_it_came_from() {
    // RFC 9260 5.1.2: the type of the packet's own address is supported, whatever the parameter says.
    for (ipv4, ipv6) in [(true, true), (true, false), (false, true)] {
        let mut tester = Tester::new();
        let mut init = init();
        init.parameters = InitParameters {
            supported_address_types: Some(AddressTypes { ipv4, ipv6 }),
            ..InitParameters::default()
        };
        tester.set_up(Role::Responder, init);
    }
}

#[test]
fn init_without_a_tag_is_discarded() {
    // RFC 9260 3.3.2: silently, also where there is an association.
    let untagged = || {
        Chunk::Init(Box::new(Init {
            initiate_tag: 0,
            ..init()
        }))
    };
    let mut tester = Tester::new();
    tester.send_tagged(0, &[untagged()]);
    tester.expect_nothing();
    assert!(tester.association.is_none());
    for role in ROLES {
        let mut tester = Tester::established(role);
        tester.send_tagged(0, &[untagged()]);
        tester.expect_nothing();
        assert_eq!(tester.state(), Some(State::Established));
    }
}

#[test]
fn init_ack_without_a_tag_ends_the_attempt() {
    // RFC 9260 3.3.3: an ABORT with the T bit, since only the tag that came can go back.
    let mut tester = Tester::new();
    tester.connect();
    tester.receive_init();
    let untagged = Init {
        initiate_tag: 0,
        ..init()
    };
    tester.send(&[acknowledging(untagged)]);
    let cause = tester.expect_abort(tester.tag, true);
    assert_eq!(cause, Some(ErrorCause::InvalidMandatoryParameter));
    assert_eq!(tester.state(), Some(State::Closed));
    let told = lost(&tester.events());
    assert_eq!(told, Some(Some(SocketError::ConnectionRefused)));
}

#[test]
fn small_windows_are_refused_and_change_no_state() {
    // RFC 9260 3.3.2, 3.3.3: under 1500 octets.
    let small = || Init {
        a_rwnd: 1499,
        ..init()
    };
    let cause = Some(ErrorCause::InvalidMandatoryParameter);
    let mut tester = Tester::new();
    tester.send_tagged(0, &[Chunk::Init(Box::new(small()))]);
    assert_eq!(tester.expect_abort(PEER_TAG, false), cause);
    tester.connect();
    tester.receive_init();
    tester.send(&[acknowledging(small())]);
    assert_eq!(tester.expect_abort(PEER_TAG, false), cause);
    assert_eq!(tester.state(), Some(State::CookieWait));
    tester.send(&[acknowledging(Init {
        a_rwnd: 1500,
        ..init()
    })]);
    tester.expect(&[Chunk::CookieEcho(COOKIE)]);
}

#[test]
fn init_goes_to_the_next_address_of_the_peer_when_t1_expires() {
    // RFC 9260 5.1, 6.4.1.
    let mut tester = Tester::with(Config::default(), quick());
    tester.connect_to(&[BOB, OTHER]);
    assert_eq!(tester.receive().destination, BOB);
    let mut others = Vec::new();
    for _ in 0..3 {
        tester.fire();
        let again = tester.receive();
        assert!(matches!(again.chunks[..], [Chunk::Init(_)]));
        others.push(again.destination);
    }
    assert_eq!(others, [OTHER, BOB, OTHER]);
}
