//! IMH: invalid message handling (RFC 9260 3.2, 5.1, 5.1.5, 6.10, 8.5).
//!
//! A bad checksum is the engine's matter: `packets_with_a_bad_checksum_are_dropped` in `integration-tests`.

use super::*;
use crate::wire::sctp::kind;

/// A chunk that says it is `len` octets long, and has four behind its header.
fn chunk(kind: u8, len: u16) -> Vec<u8> {
    let [high, low] = len.to_be_bytes();
    vec![kind, 0, high, low, 1, 2, 3, 4]
}

#[test]
fn init_of_an_impossible_length_is_discarded() {
    // RFC 9260 6.10: shorter than an INIT is, or longer than its packet. The next INIT is as good as ever.
    for len in [0, 3, 8, 96, u16::MAX] {
        let mut tester = Tester::new();
        tester.send_octets(0, &chunk(kind::INIT, len));
        tester.expect_nothing();
        assert!(tester.association.is_none());
        tester.set_up(Role::Responder, init());
    }
}

#[test]
fn init_ack_of_an_impossible_length_is_discarded() {
    // RFC 9260 6.10: COOKIE-WAIT and T1 stay as they are.
    for len in [0, 3, 8, 96, u16::MAX] {
        let mut tester = Tester::with(Config::default(), quick());
        tester.connect();
        let first = tester.receive_init();
        tester.pass(ms(60));
        tester.send_octets(tester.tag, &chunk(kind::INIT_ACK, len));
        tester.expect_nothing();
        assert_eq!(tester.state(), Some(State::CookieWait));
        assert_eq!(tester.fire(), ms(40));
        assert_eq!(tester.receive_init(), first);
        tester.send(&[acknowledging(init())]);
        tester.expect(&[Chunk::CookieEcho(COOKIE)]);
    }
}

#[test]
fn parameters_of_impossible_lengths_are_told_with_the_tag_of_the_init() {
    // RFC 9260 3.2.1, 3.3.10.13, 5.1.
    let parameter = [0xc0, 0xcc, 0, 3];
    let mut tester = Tester::new();
    tester.send_octets(0, &init_octets(kind::INIT, &init(), &parameter));
    let cause = tester.expect_abort(PEER_TAG, false);
    assert!(matches!(cause, Some(ErrorCause::ProtocolViolation(_))));
    assert!(tester.association.is_none());
}

#[test]
fn cookie_echo_with_a_wrong_tag_is_discarded() {
    // RFC 9260 5.1.5, rule 3.
    let mut tester = Tester::new();
    let cookie = tester.cookie_for(init());
    for tag in [tester.tag ^ 1, PEER_TAG, 0] {
        tester.send_tagged(tag, &[Chunk::CookieEcho(cookie.clone())]);
        tester.expect_nothing();
        assert!(tester.association.is_none());
    }
    tester.send(&[Chunk::CookieEcho(cookie)]);
    tester.expect(&[Chunk::CookieAck]);
}

#[test]
fn cookie_that_is_not_ours_is_discarded() {
    // RFC 9260 5.1.5, rule 2: another one, and ours with any octet changed, shortened or lengthened.
    let mut tester = Tester::new();
    let cookie = tester.cookie_for(init());
    let mut forged = vec![COOKIE, cookie.slice(1..), Bytes::new()];
    for at in 0..cookie.len() {
        let mut octets = cookie.to_vec();
        octets[at] ^= 1;
        forged.push(octets.into());
    }
    forged.push([&cookie[..], &[0]].concat().into());
    for forged in forged {
        tester.send(&[Chunk::CookieEcho(forged)]);
        tester.expect_nothing();
        assert!(tester.association.is_none());
    }
    tester.send(&[Chunk::CookieEcho(cookie)]);
    tester.expect(&[Chunk::CookieAck]);
}

#[test]
fn cookie_that_is_too_old_is_told_by_how_much() {
    // RFC 9260 5.1.5, rule 4; 3.3.10.3: microseconds. DATA behind it is not taken.
    let mut tester = Tester::new();
    let cookie = tester.cookie_for(init());
    tester.now += Duration::from_secs(62);
    tester.send(&[Chunk::CookieEcho(cookie), nth_data(1, b"x")]);
    let staleness = 2_000_000;
    tester.expect(&[error(ErrorCause::StaleCookie { staleness })]);
    assert!(tester.association.is_none());
}

#[test]
fn abort_with_a_wrong_tag_is_discarded() {
    // RFC 9260 8.5.1 B: ours goes without the T bit, the peer's with it.
    for role in ROLES {
        let mut tester = Tester::established(role);
        let reflecting = |tag_reflected| Chunk::Abort {
            tag_reflected,
            causes: Causes::default(),
        };
        for (tag, tag_reflected) in [
            (tester.tag ^ 1, false),
            (tester.tag, true),
            (PEER_TAG, false),
            (PEER_TAG ^ 1, true),
            (0, false),
            (0, true),
        ] {
            tester.send_tagged(tag, &[reflecting(tag_reflected)]);
            tester.expect_nothing();
            assert_eq!(tester.state(), Some(State::Established), "{role:?}");
            assert_eq!(tester.events(), []);
        }
    }
}

#[test]
fn chunk_that_is_not_all_there_is_dropped_and_those_before_it_count() {
    // RFC 9260 6.10.
    for role in ROLES {
        for (kind, len) in [(kind::DATA, 40), (kind::ABORT, 9), (0xff, 3), (0xff, 0)] {
            let mut tester = Tester::established(role);
            let mut octets = vec![kind::HEARTBEAT, 0, 0, 9, 0, 1, 0, 5, b'h', 0, 0, 0];
            octets.extend(chunk(kind, len));
            tester.send_octets(tester.tag, &octets);
            tester.expect(&[Chunk::HeartbeatAck(Bytes::from_static(b"h"))]);
            tester.expect_nothing();
            assert_eq!(tester.state(), Some(State::Established));
        }
    }
}

#[test]
fn cut_packet_changes_nothing_where_there_is_no_association() {
    // RFC 9260 6.10, 5.1: what comes after an INIT ACK and before the cookie is still out of the blue.
    let mut tester = Tester::new();
    tester.init_ack_for(init());
    tester.send_octets(0, &[kind::INIT, 0, 0, 96]);
    tester.expect_nothing();
    tester.send(&[Chunk::ShutdownAck]);
    tester.expect_tagged(tester.tag, &[shutdown_complete(true)]);
}

#[test]
fn shutdown_ack_with_a_wrong_tag_is_discarded() {
    // RFC 9260 8.5: T2 goes on, and the SHUTDOWN is sent again.
    for role in ROLES {
        let mut tester = Tester::with(Config::default(), quick()).establish(role);
        tester.shutdown();
        tester.expect(&[shutdown(PEER_TSN - 1)]);
        tester.pass(ms(60));
        for tag in [tester.tag ^ 1, PEER_TAG, 0] {
            tester.send_tagged(tag, &[Chunk::ShutdownAck]);
            tester.expect_nothing();
            assert_eq!(tester.state(), Some(State::ShutdownSent));
        }
        assert_eq!(tester.fire(), ms(40));
        tester.expect(&[shutdown(PEER_TSN - 1)]);
    }
}

#[test]
fn shutdown_complete_with_a_wrong_tag_is_discarded() {
    // RFC 9260 8.5.1 C: T2 goes on, and the SHUTDOWN ACK is sent again.
    for role in ROLES {
        let mut tester = Tester::with(Config::default(), quick()).establish(role);
        tester.send(&[shutdown(tester.tsn.wrapping_sub(1))]);
        tester.expect(&[Chunk::ShutdownAck]);
        tester.pass(ms(60));
        for (tag, tag_reflected) in [
            (tester.tag ^ 1, false),
            (tester.tag, true),
            (PEER_TAG, false),
            (0, false),
        ] {
            tester.send_tagged(tag, &[shutdown_complete(tag_reflected)]);
            tester.expect_nothing();
            assert_eq!(tester.state(), Some(State::ShutdownAckSent));
        }
        assert_eq!(tester.fire(), ms(40));
        tester.expect(&[Chunk::ShutdownAck]);
    }
}

#[test]
fn init_with_a_tag_is_discarded() {
    // RFC 9260 12.3, 8.5.1 A: wherever there is an association, and where there is none.
    let mut tester = Tester::new();
    let init = [Chunk::Init(Box::new(init()))];
    tester.send_tagged(7, &init);
    tester.expect_nothing();
    assert!(tester.association.is_none());
    for role in ROLES {
        let mut tester = Tester::established(role);
        tester.send(&init);
        tester.expect_nothing();
        assert_eq!(tester.state(), Some(State::Established));
    }
}
