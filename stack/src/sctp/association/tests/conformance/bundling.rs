//! BDC: bundling of DATA with control chunks (RFC 9260 6.10, 5.1, 12.3).

use super::*;

#[test]
fn init_with_other_chunks_is_discarded_with_them() {
    // RFC 9260 12.3: wherever the INIT stands.
    let init = || Chunk::Init(Box::new(init()));
    for chunks in [
        [init(), nth_data(1, b"x")],
        [nth_data(1, b"x"), init()],
        [init(), heartbeat()],
    ] {
        let mut tester = Tester::new();
        tester.send_tagged(0, &chunks);
        tester.expect_nothing();
        assert!(tester.association.is_none());
        for role in ROLES {
            let mut tester = Tester::established(role);
            tester.send_tagged(0, &chunks);
            tester.expect_nothing();
            assert_eq!(tester.state(), Some(State::Established));
            assert_eq!(tester.read(), Err(SocketError::WouldBlock));
        }
    }
}

#[test]
fn init_ack_with_other_chunks_ends_the_attempt() {
    // RFC 9260 6.10 forbids it, and leaves the answer open: as Linux, an ABORT.
    let mut tester = Tester::new();
    tester.connect();
    tester.receive_init();
    tester.send(&[acknowledging(init()), nth_data(1, b"x")]);
    let cause = tester.expect_abort(PEER_TAG, false);
    assert!(matches!(cause, Some(ErrorCause::ProtocolViolation(_))));
    tester.expect_nothing();
    assert_eq!(tester.state(), Some(State::Closed));
    assert_eq!(tester.read(), Err(SocketError::ConnectionRefused));
}

#[test]
fn init_ack_with_other_chunks_is_discarded_where_none_is_waited_for() {
    // RFC 9260 5.2.3, 6.10.
    for role in ROLES {
        let mut tester = Tester::established(role);
        tester.send(&[acknowledging(init()), nth_data(1, b"x")]);
        tester.expect_nothing();
        assert_eq!(tester.state(), Some(State::Established));
    }
}

#[test]
fn shutdown_complete_with_other_chunks_aborts() {
    // RFC 9260 6.10 forbids it, and leaves the answer open: as Linux, an ABORT.
    for role in ROLES {
        let mut tester = Tester::shutdown_ack_sent(role);
        tester.send(&[shutdown_complete(false), nth_data(1, b"x")]);
        let cause = tester.expect_abort(PEER_TAG, false);
        assert!(matches!(cause, Some(ErrorCause::ProtocolViolation(_))));
        tester.expect_nothing();
        assert_eq!(tester.state(), Some(State::Closed));
    }
}

#[test]
fn data_behind_a_cookie_echo_is_taken() {
    // RFC 9260 5.1 D, 5.1.5 rule 7: acknowledged at once, COOKIE ACK first.
    let mut tester = Tester::new();
    let cookie = tester.cookie_for(init());
    tester.send(&[Chunk::CookieEcho(cookie), nth_data(1, b"early")]);
    let seen = tester.receive();
    let [Chunk::CookieAck, Chunk::Sack(sack)] = &seen.chunks[..] else {
        panic!("{seen:?}");
    };
    assert_eq!(sack.cumulative_tsn_ack, PEER_TSN);
    tester.expect_nothing();
    assert_eq!(tester.state(), Some(State::Established));
    assert_eq!(tester.read(), Ok(Some(Bytes::from_static(b"early"))));
}

#[test]
fn data_behind_a_cookie_ack_is_taken() {
    // RFC 9260 5.1 E.
    let mut tester = Tester::new();
    tester.connect();
    tester.receive_init();
    tester.send(&[acknowledging(init())]);
    tester.expect(&[Chunk::CookieEcho(COOKIE)]);
    tester.send(&[Chunk::CookieAck, nth_data(1, b"early")]);
    assert_eq!(tester.expect_sack().cumulative_tsn_ack, PEER_TSN);
    assert_eq!(tester.state(), Some(State::Established));
    assert_eq!(tester.read(), Ok(Some(Bytes::from_static(b"early"))));
}

#[test]
fn sack_and_shutdown_in_one_packet_both_count() {
    // RFC 9260 3.3.8, 9.2: in either order; the TSN of the SHUTDOWN is that of the SACK.
    for role in ROLES {
        for first in [0, 1] {
            let mut tester = Tester::established(role);
            tester.write("x");
            tester.expect_data();
            let mut chunks = [tester.sack(1, PEER_RWND), shutdown(tester.nth_tsn(1))];
            chunks.rotate_left(first);
            tester.send(&chunks);
            tester.expect(&[Chunk::ShutdownAck]);
            tester.expect_nothing();
            assert_eq!(tester.state(), Some(State::ShutdownAckSent));
        }
    }
}

#[test]
fn sack_and_data_in_one_packet_both_count() {
    // RFC 9260 6.10.
    for role in ROLES {
        let mut tester = Tester::established(role);
        tester.write("x");
        tester.expect_data();
        tester.send(&[tester.sack(1, PEER_RWND), nth_data(1, b"answer")]);
        assert_eq!(tester.expect_sack().cumulative_tsn_ack, PEER_TSN);
        assert_eq!(tester.read(), Ok(Some(Bytes::from_static(b"answer"))));
        assert_eq!(tester.ours().status().unacked, 0);
    }
}

#[test]
fn sack_of_ours_travels_before_data_of_ours() {
    // RFC 9260 6.10, 6.1: control chunks come first, and DATA by TSN.
    for role in ROLES {
        let mut tester = Tester::established(role);
        tester.send(&[nth_data(1, b"first")]);
        tester.expect_sack();
        tester.send(&[nth_data(2, b"question")]);
        tester.expect_nothing();
        tester.write("one");
        let tsn = tester.nth_tsn(1);
        let seen = tester.receive();
        let [Chunk::Sack(sack), Chunk::Data(data)] = &seen.chunks[..] else {
            panic!("{seen:?}");
        };
        assert_eq!(sack.cumulative_tsn_ack, PEER_TSN + 1);
        assert_eq!(data.header.tsn, tsn);
    }
}

#[test]
fn data_behind_a_shutdown_ack_is_ignored() {
    // RFC 9260 9.2, 6.10: the association is over with the SHUTDOWN ACK.
    for role in ROLES {
        let mut tester = Tester::shutdown_sent(role);
        tester.send(&[Chunk::ShutdownAck, nth_data(1, b"x")]);
        tester.expect(&[shutdown_complete(false)]);
        tester.expect_nothing();
        assert_eq!(tester.read(), Ok(None));
    }
}
