//! AT: association termination (RFC 9260 9, 8.5.1).

use super::*;

const COMPLETE: Notification = Notification::AssociationChange(AssociationChange::ShutdownComplete);

/// `quick`, and Association.Max.Retrans of 3.
fn impatient() -> SocketOptions {
    let mut options = quick();
    options.association.max_retrans = Some(3);
    options
}

/// The last word of an association that was given up, and what the user is told.
fn expect_given_up(tester: &mut Tester) {
    let cause = tester.expect_abort(PEER_TAG, false);
    assert!(matches!(cause, Some(ErrorCause::ProtocolViolation(_))));
    tester.expect_nothing();
    assert_eq!(tester.state(), Some(State::Closed));
    assert_eq!(lost(&tester.events()), Some(Some(SocketError::TimedOut)));
    tester.expect_no_association();
}

#[test]
fn users_abort_is_sent_with_its_reason_and_ends_the_association() {
    // RFC 9260 9.1, 11.1: no DATA travels with it.
    for role in ROLES {
        let mut tester = Tester::established(role);
        tester.write("never sent");
        tester.ours().abort(Bytes::from_static(b"enough"));
        let cause = tester.expect_abort(PEER_TAG, false);
        let reason = ErrorCause::UserInitiatedAbort(Bytes::from_static(b"enough"));
        assert_eq!(cause, Some(reason));
        tester.expect_nothing();
        assert_eq!(lost(&tester.events()), Some(None));
        tester.expect_no_association();
    }
}

#[test]
fn abort_ends_the_association_and_is_not_answered() {
    // RFC 9260 9.1, 8.5.1 B: with our tag, or with the peer's and the T bit.
    for role in ROLES {
        for tag_reflected in [false, true] {
            let mut tester = Tester::established(role);
            let tag = if tag_reflected { PEER_TAG } else { tester.tag };
            let causes = Causes::from_iter([ErrorCause::OutOfResource]);
            let abort = Chunk::Abort {
                tag_reflected,
                causes,
            };
            tester.send_tagged(tag, &[abort]);
            tester.expect_nothing();
            assert_eq!(tester.state(), Some(State::Closed));
            let told = lost(&tester.events());
            assert_eq!(told, Some(Some(SocketError::ConnectionReset)));
            assert_eq!(tester.read(), Err(SocketError::ConnectionReset));
            tester.expect_no_association();
        }
    }
}

#[test]
fn shutdown_waits_until_everything_is_acknowledged() {
    // RFC 9260 9.2.
    for role in ROLES {
        let mut tester = Tester::established(role);
        tester.write("last words");
        tester.expect_data();
        tester.shutdown();
        tester.expect_nothing();
        assert_eq!(tester.state(), Some(State::ShutdownPending));
        tester.acknowledge(1, PEER_RWND);
        tester.expect(&[shutdown(PEER_TSN - 1)]);
        assert_eq!(tester.state(), Some(State::ShutdownSent));
    }
}

#[test]
fn shutdown_pending_sends_again_what_is_lost() {
    // RFC 9260 9.2: what was queued before is delivered, by retransmission if need be.
    let mut tester = Tester::with(Config::default(), quick()).establish(Role::Initiator);
    tester.write("last words");
    let first = tester.expect_data();
    tester.shutdown();
    assert_eq!(tester.fire(), ms(100));
    let again = tester.expect_data();
    assert_eq!(again[0].header.tsn, first[0].header.tsn);
    assert_eq!(tester.state(), Some(State::ShutdownPending));
}

#[test]
fn shutdown_is_sent_again_when_t2_expires_with_what_has_come_since() {
    // RFC 9260 9.2: with the updated Cumulative TSN Ack.
    for role in ROLES {
        let mut tester = Tester::with(Config::default(), quick()).establish(role);
        tester.shutdown();
        tester.expect(&[shutdown(PEER_TSN - 1)]);
        for millis in [100, 200, 400, 800] {
            assert_eq!(tester.fire(), ms(millis), "{role:?}");
            tester.expect(&[shutdown(PEER_TSN - 1)]);
        }
        tester.send(&[nth_data(1, b"late")]);
        let seen = tester.receive();
        assert!(seen.chunks.contains(&shutdown(PEER_TSN)), "{seen:?}");
        tester.fire();
        tester.expect(&[shutdown(PEER_TSN)]);
    }
}

#[test]
fn shutdown_is_given_up_after_association_max_retrans() {
    // RFC 9260 9.2, 8.1; the ABORT is Linux's.
    for role in ROLES {
        let mut tester = Tester::with(Config::default(), impatient()).establish(role);
        tester.shutdown();
        tester.expect(&[shutdown(PEER_TSN - 1)]);
        for _ in 0..3 {
            tester.fire();
            tester.expect(&[shutdown(PEER_TSN - 1)]);
        }
        tester.fire();
        expect_given_up(&mut tester);
    }
}

#[test]
fn shutdown_ack_is_answered_with_shutdown_complete() {
    // RFC 9260 9.2, 8.5.1 C: with the peer's tag and without the T bit, since there was an association.
    for role in ROLES {
        let mut tester = Tester::shutdown_sent(role);
        tester.send(&[Chunk::ShutdownAck]);
        tester.expect(&[shutdown_complete(false)]);
        tester.expect_nothing();
        assert_eq!(tester.events(), [COMPLETE]);
        assert_eq!(tester.read(), Ok(None), "the end, not an error");
        assert_eq!(tester.ours().poll_timeout(), None);
        tester.expect_no_association();
    }
}

#[test]
fn nothing_can_be_sent_once_either_side_shuts_down() {
    // RFC 9260 9.2: SHUTDOWN-PENDING, SHUTDOWN-SENT, SHUTDOWN-RECEIVED and SHUTDOWN-ACK-SENT.
    for role in ROLES {
        let mut pending = Tester::established(role);
        pending.write("x");
        pending.expect_data();
        pending.shutdown();
        assert_eq!(pending.state(), Some(State::ShutdownPending));
        let mut received = Tester::established(role);
        received.write("x");
        received.expect_data();
        received.send(&[shutdown(received.tsn.wrapping_sub(1))]);
        assert_eq!(received.state(), Some(State::ShutdownReceived));
        let sent = Tester::shutdown_sent(role);
        let ack_sent = Tester::shutdown_ack_sent(role);
        for mut tester in [pending, received, sent, ack_sent] {
            let state = tester.state();
            assert_eq!(tester.refused_write(), SocketError::BrokenPipe);
            tester.expect_nothing();
            assert_eq!(tester.state(), state);
        }
    }
}

#[test]
fn data_in_shutdown_sent_is_delivered_and_answered_with_shutdown_and_t2_anew() {
    // RFC 9260 9.2: at once, and with a SACK, which tells of gaps and of the window.
    for role in ROLES {
        let mut tester = Tester::with(Config::default(), quick()).establish(role);
        tester.shutdown();
        tester.expect(&[shutdown(PEER_TSN - 1)]);
        tester.pass(ms(60));
        tester.send(&[nth_data(1, b"still here")]);
        let seen = tester.receive();
        let [first, Chunk::Sack(sack)] = &seen.chunks[..] else {
            panic!("{seen:?}");
        };
        assert_eq!(*first, shutdown(PEER_TSN));
        assert_eq!(sack.cumulative_tsn_ack, PEER_TSN);
        assert_eq!(tester.read(), Ok(Some(Bytes::from_static(b"still here"))));
        assert_eq!(tester.fire(), ms(100), "anew from the DATA on");
        tester.expect(&[shutdown(PEER_TSN)]);
        // A gap: SHUTDOWN alone could not tell of it.
        tester.send(&[nth_data(3, b"beyond")]);
        let seen = tester.receive();
        let [first, Chunk::Sack(sack)] = &seen.chunks[..] else {
            panic!("{seen:?}");
        };
        assert_eq!(*first, shutdown(PEER_TSN));
        assert_eq!(sack.gap_blocks.len(), 1);
    }
}

#[test]
fn data_in_shutdown_received_is_ignored() {
    // RFC 9260 6, 9.2: whoever has sent SHUTDOWN sends no DATA.
    for role in ROLES {
        let mut tester = Tester::established(role);
        tester.write("x");
        tester.expect_data();
        tester.send(&[shutdown(tester.tsn.wrapping_sub(1))]);
        tester.send(&[nth_data(1, b"too late")]);
        tester.expect_nothing();
        assert_eq!(tester.state(), Some(State::ShutdownReceived));
        assert_eq!(tester.read(), Ok(None));
        tester.acknowledge(1, PEER_RWND);
        tester.expect(&[Chunk::ShutdownAck]);
    }
}

#[test]
fn shutdown_ack_waits_until_everything_is_acknowledged() {
    // RFC 9260 9.2: lost DATA is sent again meanwhile; the user is told that the peer is done.
    for role in ROLES {
        let mut tester = Tester::with(Config::default(), quick()).establish(role);
        tester.write("not lost");
        let first = tester.expect_data();
        tester.send(&[shutdown(tester.tsn.wrapping_sub(1))]);
        tester.expect_nothing();
        assert_eq!(tester.state(), Some(State::ShutdownReceived));
        assert_eq!(tester.events(), [Notification::ShutdownEvent]);
        tester.fire();
        assert_eq!(tester.expect_data()[0].payload, first[0].payload);
        tester.acknowledge(1, PEER_RWND);
        tester.expect(&[Chunk::ShutdownAck]);
        tester.send(&[shutdown_complete(false)]);
        assert_eq!(tester.events(), [COMPLETE]);
    }
}

#[test]
fn shutdown_ack_is_sent_again_when_t2_expires() {
    // RFC 9260 9.2.
    for role in ROLES {
        let mut tester = Tester::with(Config::default(), quick()).establish(role);
        tester.send(&[shutdown(tester.tsn.wrapping_sub(1))]);
        tester.expect(&[Chunk::ShutdownAck]);
        for millis in [100, 200, 400, 800] {
            assert_eq!(tester.fire(), ms(millis), "{role:?}");
            tester.expect(&[Chunk::ShutdownAck]);
        }
        tester.send(&[shutdown_complete(false)]);
        assert_eq!(tester.state(), Some(State::Closed));
    }
}

#[test]
fn shutdown_ack_is_given_up_after_association_max_retrans() {
    // RFC 9260 9.2, 8.1; the ABORT is Linux's.
    for role in ROLES {
        let mut tester = Tester::with(Config::default(), impatient()).establish(role);
        tester.send(&[shutdown(tester.tsn.wrapping_sub(1))]);
        tester.expect(&[Chunk::ShutdownAck]);
        for _ in 0..3 {
            tester.fire();
            tester.expect(&[Chunk::ShutdownAck]);
        }
        tester.fire();
        expect_given_up(&mut tester);
    }
}

#[test]
fn shutdown_complete_ends_the_association() {
    // RFC 9260 9.2, 8.5.1 C: with our tag, or with the peer's and the T bit.
    for role in ROLES {
        for tag_reflected in [false, true] {
            let mut tester = Tester::shutdown_ack_sent(role);
            let tag = if tag_reflected { PEER_TAG } else { tester.tag };
            tester.send_tagged(tag, &[shutdown_complete(tag_reflected)]);
            tester.expect_nothing();
            let events = tester.events();
            assert_eq!(events, [Notification::ShutdownEvent, COMPLETE]);
            assert_eq!(tester.read(), Ok(None));
            tester.expect_no_association();
        }
    }
}

#[test]
fn shutdown_acknowledges_data_as_a_sack_does() {
    // RFC 9260 9.2, 3.3.8.
    for role in ROLES {
        let mut tester = Tester::established(role);
        tester.write("x");
        tester.expect_data();
        tester.send(&[shutdown(tester.nth_tsn(1))]);
        tester.expect(&[Chunk::ShutdownAck]);
        assert_eq!(tester.state(), Some(State::ShutdownAckSent));
    }
}

#[test]
fn what_icmp_has_said_is_no_reason_of_an_orderly_end() {
    // RFC 9260 10 (ICMP9): told only if the peer is given up.
    let mut tester = Tester::established(Role::Initiator);
    tester.ours().handle_unreachable_neighbor();
    tester.write("delivered all the same");
    tester.expect_data();
    tester.acknowledge(1, PEER_RWND);
    assert_eq!(tester.ours().take_error(), None);
    tester.ours().handle_unreachable_neighbor();
    tester.send(&[shutdown(tester.tsn)]);
    tester.expect(&[Chunk::ShutdownAck]);
    tester.send(&[shutdown_complete(false)]);
    assert_eq!(tester.state(), Some(State::Closed));
    assert_eq!(tester.ours().take_error(), None);
}
