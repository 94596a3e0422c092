//! FH: fault handling (RFC 9260 8).

use super::*;

/// DATA that nobody acknowledges, sent and ten times sent again.
fn expect_ten_retransmissions(tester: &mut Tester, n: u32) {
    for _ in 0..=10 {
        let data = tester.expect_data();
        assert_eq!(data.len(), 1);
        assert_eq!(data[0].header.tsn, tester.nth_tsn(n));
        tester.expect_nothing();
        assert_eq!(tester.state(), Some(State::Established));
        tester.fire();
    }
}

/// The peer has been given up, with a message not delivered.
fn expect_given_up(tester: &mut Tester, message: &str) {
    let cause = tester.expect_abort(PEER_TAG, false);
    assert!(matches!(cause, Some(ErrorCause::ProtocolViolation(_))));
    tester.expect_nothing();
    assert_eq!(tester.state(), Some(State::Closed));
    let events = tester.events();
    let failed = |event: &Notification| matches!(event, Notification::SendFailed(failed) if failed.data == message);
    assert!(events.iter().any(failed), "{events:?}");
    assert_eq!(lost(&events), Some(Some(SocketError::TimedOut)));
    assert_eq!(tester.read(), Err(SocketError::TimedOut));
    tester.expect_no_association();
}

#[test]
fn peer_that_acknowledges_nothing_is_given_up_after_association_max_retrans() {
    // RFC 9260 8.1; the ABORT is Linux's.
    for role in ROLES {
        let mut tester = Tester::with(Config::default(), quick()).establish(role);
        tester.write("lost");
        expect_ten_retransmissions(&mut tester, 1);
        expect_given_up(&mut tester, "lost");
    }
}

#[test]
fn acknowledgment_starts_the_count_of_retransmissions_anew() {
    // RFC 9260 8.1.
    for role in ROLES {
        let mut tester = Tester::with(Config::default(), quick()).establish(role);
        tester.write("late");
        for _ in 0..9 {
            tester.expect_data();
            tester.fire();
        }
        tester.expect_data();
        tester.acknowledge(1, PEER_RWND);
        tester.expect_nothing();
        tester.write("lost");
        expect_ten_retransmissions(&mut tester, 2);
        expect_given_up(&mut tester, "lost");
    }
}

#[test]
fn unanswered_heartbeats_count_and_answered_ones_clear_the_count() {
    // RFC 9260 8.1, 8.3.
    for role in ROLES {
        let mut options = quick();
        options.association.max_retrans = Some(3);
        let mut tester = Tester::with(Config::default(), options).establish(role);
        let next = |tester: &mut Tester| loop {
            match tester.try_receive() {
                Some(seen) => break seen.chunks,
                None => tester.fire(),
            };
        };
        for round in 0..7 {
            let chunks = next(&mut tester);
            let [Chunk::Heartbeat(info)] = &chunks[..] else {
                panic!("{chunks:?} in round {round}");
            };
            if round == 2 {
                tester.send(&[Chunk::HeartbeatAck(info.clone())]);
            }
        }
        let chunks = next(&mut tester);
        assert!(matches!(chunks[..], [Chunk::Abort { .. }]), "{chunks:?}");
        assert_eq!(lost(&tester.events()), Some(Some(SocketError::TimedOut)));
    }
}

#[test]
fn heartbeat_is_answered_with_what_it_carries() {
    // RFC 9260 8.3, 3.3.6: from COOKIE-ECHOED on, and to where it came from.
    let info = Bytes::from_static(b"0123456789");
    let beat = Chunk::Heartbeat(info.clone());
    let answer = Chunk::HeartbeatAck(info);
    let mut echoed = Tester::new();
    echoed.connect();
    echoed.receive_init();
    echoed.send(&[acknowledging(init())]);
    echoed.expect(&[Chunk::CookieEcho(COOKIE)]);
    let mut testers = vec![echoed];
    for role in ROLES {
        testers.push(Tester::established(role));
        testers.push(Tester::shutdown_sent(role));
        testers.push(Tester::shutdown_ack_sent(role));
    }
    for mut tester in testers {
        let state = tester.state();
        tester.send(std::slice::from_ref(&beat));
        tester.expect(std::slice::from_ref(&answer));
        tester.expect_nothing();
        assert_eq!(tester.state(), state);
    }
}

#[test]
fn packets_out_of_the_blue_are_answered_by_what_is_in_them() {
    // RFC 9260 8.4: with a port that listens; rule 1 is `packets_to_or_from_groups_are_never_answered`.
    let abort_reflecting = Chunk::Abort {
        tag_reflected: true,
        causes: Causes::default(),
    };
    let stale = error(ErrorCause::StaleCookie { staleness: 1 });
    for (chunk, answer) in [
        (nth_data(1, b"x"), Some(abort_reflecting.clone())),
        (Chunk::Sack(Sack::default()), Some(abort_reflecting.clone())),
        (heartbeat(), Some(abort_reflecting)),
        (abort(None), None),
        (Chunk::ShutdownAck, Some(shutdown_complete(true))),
        (shutdown_complete(false), None),
        (Chunk::CookieAck, None),
        (stale, None),
    ] {
        let mut tester = Tester::new();
        tester.send_tagged(4711, std::slice::from_ref(&chunk));
        match answer {
            Some(answer) => tester.expect_tagged(4711, &[answer]),
            None => tester.expect_nothing(),
        }
        assert!(tester.association.is_none(), "{chunk:?}");
        tester.set_up(Role::Responder, init());
    }
}
