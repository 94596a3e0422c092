//! DM: duplicated and unexpected messages (RFC 9260 5.2, 8.5.1, 9.2).

use super::*;

/// An association of ours in COOKIE-WAIT, its INIT sent.
fn cookie_wait() -> Tester {
    let mut tester = Tester::with(Config::default(), quick());
    tester.connect();
    tester.receive_init();
    tester
}

/// The same in COOKIE-ECHOED.
fn cookie_echoed() -> Tester {
    let mut tester = cookie_wait();
    tester.send(&[acknowledging(init())]);
    tester.expect(&[Chunk::CookieEcho(COOKIE)]);
    tester
}

/// Nothing has come of a packet: the state is what it was, the timer runs as it did, and the user hears nothing.
fn expect_unmoved(tester: &mut Tester, state: State, remaining: Duration) {
    tester.expect_nothing();
    assert_eq!(tester.state(), Some(state));
    assert_eq!(tester.events(), []);
    assert_eq!(tester.fire(), remaining);
}

#[test]
fn init_while_opening_is_answered_with_what_our_own_init_said() {
    // RFC 9260 5.2.1: our tag and TSN stay, and the state.
    for (mut tester, state) in [
        (cookie_wait(), State::CookieWait),
        (cookie_echoed(), State::CookieEchoed),
    ] {
        let told = (tester.tag, tester.tsn);
        tester.init_ack_for(Init {
            initiate_tag: PEER_TAG + 1,
            ..init()
        });
        assert_eq!((tester.tag, tester.tsn), told);
        expect_unmoved(&mut tester, state, ms(100));
    }
}

#[test]
fn cookie_of_an_init_that_crossed_ours_sets_the_association_up() {
    // RFC 9260 5.2.4 B and D: the peer's tag may have changed.
    for peer_tag in [PEER_TAG, PEER_TAG + 1] {
        let mut tester = cookie_echoed();
        let crossing = Init {
            initiate_tag: peer_tag,
            ..init()
        };
        let cookie = tester.cookie_for(crossing);
        tester.send(&[Chunk::CookieEcho(cookie)]);
        tester.expect_tagged(peer_tag, &[Chunk::CookieAck]);
        assert_eq!(tester.state(), Some(State::Established));
        assert_eq!(tester.events(), [came_up(5, 5)]);
    }
}

#[test]
fn init_of_an_established_peer_changes_nothing() {
    // RFC 9260 5.2.2: it is answered with a new tag; what there is goes on with the old ones.
    for role in ROLES {
        let mut tester = Tester::established(role);
        let old = tester.tag;
        tester.init_ack_for(init());
        assert_ne!(tester.tag, old);
        assert_eq!(tester.state(), Some(State::Established));
        assert_eq!(tester.events(), []);
        assert_eq!(tester.ours().tags(), (old, PEER_TAG));
        tester.send_tagged(old, &[nth_data(1, b"goes on")]);
        assert_eq!(tester.expect_sack().cumulative_tsn_ack, PEER_TSN);
        assert_eq!(tester.read(), Ok(Some(Bytes::from_static(b"goes on"))));
    }
}

#[test]
fn init_in_shutdown_ack_sent_is_answered_with_shutdown_ack() {
    // RFC 9260 9.2.
    for role in ROLES {
        let mut tester = Tester::shutdown_ack_sent(role);
        tester.send_tagged(0, &[Chunk::Init(Box::new(init()))]);
        tester.expect(&[Chunk::ShutdownAck]);
        tester.expect_nothing();
        assert_eq!(tester.state(), Some(State::ShutdownAckSent));
    }
}

#[test]
fn init_ack_outside_of_cookie_wait_is_discarded() {
    // RFC 9260 5.2.3.
    let other = || {
        acknowledging(Init {
            initiate_tag: PEER_TAG + 1,
            ..init()
        })
    };
    let mut tester = cookie_echoed();
    tester.pass(ms(60));
    tester.send(&[other()]);
    expect_unmoved(&mut tester, State::CookieEchoed, ms(40));
    tester.expect(&[Chunk::CookieEcho(COOKIE)]);
    for role in ROLES {
        let mut tester = Tester::established(role);
        tester.send(&[other()]);
        tester.expect_nothing();
        assert_eq!(tester.ours().tags().1, PEER_TAG);
        assert_eq!(tester.events(), []);
    }
}

#[test]
fn cookie_ack_outside_of_cookie_echoed_is_discarded() {
    // RFC 9260 5.2.5.
    let mut tester = cookie_wait();
    tester.pass(ms(60));
    tester.send(&[Chunk::CookieAck]);
    expect_unmoved(&mut tester, State::CookieWait, ms(40));
    for role in ROLES {
        let mut tester = Tester::established(role);
        tester.send(&[Chunk::CookieAck]);
        tester.expect_nothing();
        assert_eq!(tester.state(), Some(State::Established));
        assert_eq!(tester.events(), []);
    }
}

#[test]
fn shutdown_in_shutdown_sent_is_answered_with_shutdown_ack_and_t2_anew() {
    // RFC 9260 9.2: both sides at once; either SHUTDOWN ACK or SHUTDOWN COMPLETE then ends it.
    for role in ROLES {
        for with_ack in [true, false] {
            let mut tester = Tester::with(Config::default(), quick()).establish(role);
            tester.shutdown();
            tester.expect(&[shutdown(PEER_TSN - 1)]);
            tester.pass(ms(60));
            tester.send(&[shutdown(tester.tsn.wrapping_sub(1))]);
            tester.expect(&[Chunk::ShutdownAck]);
            assert_eq!(tester.state(), Some(State::ShutdownAckSent));
            assert_eq!(tester.fire(), ms(100));
            tester.expect(&[Chunk::ShutdownAck]);
            if with_ack {
                tester.send(&[Chunk::ShutdownAck]);
                tester.expect(&[shutdown_complete(false)]);
            } else {
                tester.send(&[shutdown_complete(false)]);
            }
            tester.expect_nothing();
            assert_eq!(tester.state(), Some(State::Closed));
            assert_eq!(tester.ours().take_error(), None);
        }
    }
}

#[test]
fn shutdown_in_shutdown_ack_sent_is_answered_again() {
    // RFC 9260 9.2: the SHUTDOWN ACK was lost.
    for role in ROLES {
        let mut tester = Tester::shutdown_ack_sent(role);
        tester.send(&[shutdown(tester.tsn.wrapping_sub(1))]);
        tester.expect(&[Chunk::ShutdownAck]);
        assert_eq!(tester.state(), Some(State::ShutdownAckSent));
    }
}

#[test]
fn shutdown_while_opening_is_discarded() {
    // RFC 9260 9.2: T1 goes on.
    for (mut tester, state) in [
        (cookie_wait(), State::CookieWait),
        (cookie_echoed(), State::CookieEchoed),
    ] {
        tester.pass(ms(60));
        tester.send(&[shutdown(0)]);
        expect_unmoved(&mut tester, state, ms(40));
    }
}

#[test]
fn shutdown_without_an_association_is_out_of_the_blue() {
    // RFC 9260 8.4, rule 8.
    let mut tester = Tester::new();
    tester.send_tagged(99, &[shutdown(0)]);
    assert_eq!(tester.expect_abort(99, true), None);
}

#[test]
fn shutdown_ack_while_opening_is_answered_as_out_of_the_blue() {
    // RFC 9260 8.5.1 E, 9.2: SHUTDOWN COMPLETE with the tag that came, whatever it is; T1 goes on.
    for (mut tester, state) in [
        (cookie_wait(), State::CookieWait),
        (cookie_echoed(), State::CookieEchoed),
    ] {
        for tag in [tester.tag, 99] {
            tester.send_tagged(tag, &[Chunk::ShutdownAck]);
            tester.expect_tagged(tag, &[shutdown_complete(true)]);
        }
        expect_unmoved(&mut tester, state, ms(100));
    }
}

#[test]
fn shutdown_ack_in_established_is_discarded() {
    // RFC 9260 9.2: it answers nothing.
    for role in ROLES {
        let mut tester = Tester::established(role);
        tester.send(&[Chunk::ShutdownAck]);
        tester.expect_nothing();
        assert_eq!(tester.state(), Some(State::Established));
        assert_eq!(tester.events(), []);
    }
}

#[test]
fn shutdown_ack_in_shutdown_ack_sent_is_answered_with_shutdown_complete() {
    // RFC 9260 9.2.
    for role in ROLES {
        let mut tester = Tester::shutdown_ack_sent(role);
        tester.send(&[Chunk::ShutdownAck]);
        tester.expect(&[shutdown_complete(false)]);
        assert_eq!(tester.state(), Some(State::Closed));
        tester.expect_no_association();
    }
}

#[test]
fn forged_cookie_in_established_is_discarded() {
    // RFC 9260 5.2.4, 1.
    for role in ROLES {
        let mut tester = Tester::established(role);
        tester.send(&[Chunk::CookieEcho(Bytes::from_static(&[7; 120]))]);
        tester.expect_nothing();
        assert_eq!(tester.state(), Some(State::Established));
        assert_eq!(tester.events(), []);
    }
}

#[test]
fn cookie_that_comes_again_is_acknowledged_again() {
    // RFC 9260 5.2.4 D: also when it has grown old, and with the DATA behind it.
    for seconds in [0, 100] {
        let mut tester = Tester::new();
        let cookie = tester.cookie_for(init());
        tester.send(&[Chunk::CookieEcho(cookie.clone())]);
        tester.expect(&[Chunk::CookieAck]);
        tester.events();
        tester.now += Duration::from_secs(seconds);
        tester.send(&[Chunk::CookieEcho(cookie), nth_data(1, b"x")]);
        let seen = tester.receive();
        assert_eq!(seen.chunks[0], Chunk::CookieAck);
        assert!(matches!(&seen.chunks[1], Chunk::Sack(_)), "{seen:?}");
        assert_eq!(tester.events(), [], "it was up before");
        assert_eq!(tester.read(), Ok(Some(Bytes::from_static(b"x"))));
    }
}

#[test]
fn shutdown_complete_outside_of_shutdown_ack_sent_is_discarded() {
    // RFC 9260 9.2, 8.5.1 C.
    for (mut tester, state) in [
        (cookie_wait(), State::CookieWait),
        (cookie_echoed(), State::CookieEchoed),
    ] {
        tester.pass(ms(60));
        tester.send(&[shutdown_complete(false)]);
        expect_unmoved(&mut tester, state, ms(40));
    }
    for role in ROLES {
        let sent = Tester::shutdown_sent(role);
        for mut tester in [Tester::established(role), sent] {
            let state = tester.state();
            tester.send(&[shutdown_complete(false)]);
            tester.expect_nothing();
            assert_eq!(tester.state(), state);
            assert_eq!(tester.events(), []);
        }
    }
}

#[test]
fn data_in_shutdown_ack_sent_is_discarded() {
    // RFC 9260 6.
    for role in ROLES {
        let mut tester = Tester::shutdown_ack_sent(role);
        tester.send(&[nth_data(1, b"too late")]);
        tester.expect_nothing();
        assert_eq!(tester.state(), Some(State::ShutdownAckSent));
        assert_eq!(tester.read(), Ok(None));
    }
}
