//! E: errors (RFC 9260 3.3.10, 5.2.6, 6.5, 3.2.1).

use super::*;
use crate::wire::sctp::kind;

#[test]
fn stale_cookie_error_begins_anew_with_an_init_that_asks_for_a_longer_life() {
    // RFC 9260 5.2.6, 3: the same tag and TSN, and the round trip and a second more of life.
    let mut tester = Tester::new();
    tester.connect();
    let first = tester.receive_init();
    tester.pass(ms(500));
    tester.send(&[acknowledging(init())]);
    tester.expect(&[Chunk::CookieEcho(COOKIE)]);
    tester.pass(ms(500));
    let staleness = 1_000_000;
    tester.send(&[error(ErrorCause::StaleCookie { staleness })]);
    let again = tester.receive_init();
    assert_eq!(tester.state(), Some(State::CookieWait));
    let mut expected = first;
    expected.parameters.cookie_preservative = Some(1500);
    assert_eq!(again, expected);
    tester.send(&[acknowledging(init())]);
    tester.expect(&[Chunk::CookieEcho(COOKIE)]);
    tester.send(&[Chunk::CookieAck]);
    assert_eq!(tester.events(), [came_up(5, 5)]);
}

#[test]
fn stale_cookie_error_outside_of_cookie_echoed_is_discarded() {
    // RFC 9260 5.2.6.
    let stale = [error(ErrorCause::StaleCookie { staleness: 1 })];
    let mut tester = Tester::new();
    tester.connect();
    tester.receive_init();
    tester.send(&stale);
    tester.expect_nothing();
    assert_eq!(tester.state(), Some(State::CookieWait));
    for role in ROLES {
        let established = Tester::established(role);
        let (sent, ack_sent) = (Tester::shutdown_sent(role), Tester::shutdown_ack_sent(role));
        for mut tester in [established, sent, ack_sent] {
            let state = tester.state();
            tester.events();
            tester.send(&stale);
            tester.expect_nothing();
            assert_eq!(tester.state(), state);
            assert_eq!(tester.events(), []);
        }
    }
}

#[test]
fn data_on_a_stream_that_does_not_exist_is_acknowledged_and_reported() {
    // RFC 9260 6.5, 3.3.10.1: it is not delivered, and what follows is.
    for role in ROLES {
        let mut tester = Tester::established(role);
        let data = Data {
            header: DataHeader {
                tsn: PEER_TSN,
                stream: 5,
                ssn: 0,
                ppid: 0,
                flags: whole(),
            },
            payload: Bytes::from_static(b"nowhere"),
        };
        tester.send(&[Chunk::Data(data)]);
        let seen = tester.receive();
        let reported = error(ErrorCause::InvalidStreamIdentifier { stream: 5 });
        assert!(seen.chunks.contains(&reported), "{seen:?}");
        let acknowledged = |chunk: &Chunk| matches!(chunk, Chunk::Sack(sack) if sack.cumulative_tsn_ack == PEER_TSN);
        assert!(seen.chunks.iter().any(acknowledged), "{seen:?}");
        assert_eq!(tester.read(), Err(SocketError::WouldBlock));
        tester.send(&[fragment(2, 0, whole(), b"here")]);
        assert_eq!(tester.read(), Ok(Some(Bytes::from_static(b"here"))));
        assert_eq!(tester.state(), Some(State::Established));
    }
}

#[test]
fn init_ack_without_a_cookie_ends_the_attempt() {
    // RFC 9260 5.1, 3.3.10.2: with the tag that the INIT ACK gives.
    let mut tester = Tester::new();
    tester.connect();
    tester.receive_init();
    let octets = init_octets(kind::INIT_ACK, &init(), &[]);
    tester.send_octets(tester.tag, &octets);
    let parameters = [7].into_iter().collect();
    let missing = ErrorCause::MissingMandatoryParameter { parameters };
    assert_eq!(tester.expect_abort(PEER_TAG, false), Some(missing));
    assert_eq!(tester.state(), Some(State::Closed));
    let told = lost(&tester.events());
    assert_eq!(told, Some(Some(SocketError::ConnectionRefused)));
}

#[test]
fn unknown_parameters_of_an_init_ack_are_reported_behind_the_cookie_echo() {
    // RFC 9260 3.2.1, 3.3.10.8; those whose types say so, and the cookie is found whatever stands before it.
    for (high, reported) in [(0x00, false), (0x40, true), (0x80, false), (0xc0, true)] {
        let mut tester = Tester::new();
        tester.connect();
        tester.receive_init();
        let unknown = [high, 0xcc, 0, 5, 1];
        let cookie = [0, 7, 0, 8, 1, 2, 3, 4];
        let parameters = [&unknown[..], &[0, 0, 0], &cookie].concat();
        let octets = init_octets(kind::INIT_ACK, &init(), &parameters);
        tester.send_octets(tester.tag, &octets);
        let mut expected = vec![Chunk::CookieEcho(Bytes::copy_from_slice(&cookie[4..]))];
        if reported {
            let quoted = Bytes::copy_from_slice(&unknown);
            expected.push(error(ErrorCause::UnrecognizedParameters(quoted)));
        }
        tester.expect(&expected);
        tester.expect_nothing();
        tester.send(&[Chunk::CookieAck]);
        assert_eq!(tester.state(), Some(State::Established));
    }
}

#[test]
fn error_behind_a_cookie_echo_does_not_hinder_the_association() {
    // RFC 9260 3.2.1, 5.1 D: the user is told of it.
    let mut tester = Tester::new();
    let cookie = tester.cookie_for(init());
    let quoted = Bytes::from_static(&[0xc0, 0, 0, 4]);
    let cause = ErrorCause::UnrecognizedParameters(quoted);
    tester.send(&[Chunk::CookieEcho(cookie), error(cause.clone())]);
    tester.expect(&[Chunk::CookieAck]);
    tester.expect_nothing();
    let told = [came_up(5, 5), Notification::RemoteError(cause)];
    assert_eq!(tester.events(), told);
    assert_eq!(tester.state(), Some(State::Established));
}
