//! A: acknowledgement (RFC 9260 6.2, 6.7, 5.1).

use super::*;

#[test]
fn data_is_acknowledged_at_once_at_first_then_every_second_packet_or_after_200_ms() {
    // RFC 9260 5.1, 6.2, 16.
    for role in ROLES {
        let mut tester = Tester::established(role);
        tester.send(&[nth_data(1, b"x")]);
        assert_eq!(tester.expect_sack().cumulative_tsn_ack, PEER_TSN);
        tester.send(&[nth_data(2, b"x")]);
        tester.expect_nothing();
        tester.send(&[nth_data(3, b"x")]);
        assert_eq!(tester.expect_sack().cumulative_tsn_ack, PEER_TSN + 2);
        tester.send(&[nth_data(4, b"x")]);
        tester.expect_nothing();
        tester.pass(ms(199));
        tester.expect_nothing();
        tester.pass(ms(1));
        assert_eq!(tester.expect_sack().cumulative_tsn_ack, PEER_TSN + 3);
        tester.expect_nothing();
    }
}

#[test]
fn one_sack_acknowledges_all_data_of_a_packet() {
    // RFC 9260 6.2: and what it says of the window is what is left.
    for role in ROLES {
        let mut tester = Tester::established(role);
        let [one, two, three] = [1, 2, 3].map(|n| nth_data(n, b"some octets"));
        tester.send(&[one, two, three]);
        let sack = tester.expect_sack();
        assert_eq!(sack.cumulative_tsn_ack, PEER_TSN + 2);
        assert!(sack.gap_blocks.is_empty() && sack.duplicates.is_empty());
        assert!(sack.a_rwnd < tester.config.initial_rwnd());
        tester.expect_nothing();
        for _ in 0..3 {
            let read = tester.read();
            assert_eq!(read, Ok(Some(Bytes::from_static(b"some octets"))));
        }
    }
}

#[test]
fn gap_is_told_at_once_and_so_is_its_end() {
    // RFC 9260 6.7, 3.3.4: blocks count from the cumulative TSN on.
    for role in ROLES {
        let mut tester = Tester::established(role);
        tester.send(&[nth_data(1, b"1")]);
        tester.expect_sack();
        tester.send(&[nth_data(3, b"3")]);
        let sack = tester.expect_sack();
        assert_eq!(sack.cumulative_tsn_ack, PEER_TSN);
        let blocks: Vec<_> = sack.gap_blocks.iter().map(|b| (b.start, b.end)).collect();
        assert_eq!(blocks, [(2, 2)]);
        assert_eq!(tester.read(), Ok(Some(Bytes::from_static(b"1"))));
        assert_eq!(tester.read(), Err(SocketError::WouldBlock), "in order");
        tester.send(&[nth_data(2, b"2")]);
        let sack = tester.expect_sack();
        assert_eq!(sack.cumulative_tsn_ack, PEER_TSN + 2);
        assert!(sack.gap_blocks.is_empty());
        assert_eq!(tester.read(), Ok(Some(Bytes::from_static(b"2"))));
        assert_eq!(tester.read(), Ok(Some(Bytes::from_static(b"3"))));
    }
}

#[test]
fn heartbeat_goes_out_while_sacks_wait() {
    // RFC 9260 8.3: it counts as sent, and as an error if it stays unanswered.
    for (role, packets) in [(Role::Initiator, 4), (Role::Responder, 9)] {
        let mut tester = Tester::established(role);
        tester.now = tester.ours().poll_timeout().expect("a heartbeat");
        for n in 1..=packets {
            tester.send(&[nth_data(n, b"x")]);
        }
        let seen: Vec<Seen> = std::iter::from_fn(|| tester.try_receive()).collect();
        let chunks: Vec<&Chunk> = seen.iter().flat_map(|packet| &packet.chunks).collect();
        let count = |is: fn(&Chunk) -> bool| chunks.iter().filter(|chunk| is(chunk)).count();
        assert_eq!(count(|chunk| matches!(chunk, Chunk::Heartbeat(_))), 1);
        assert!(count(|chunk| matches!(chunk, Chunk::Sack(_))) >= 2);
        let sent = tester.ours().paths().iter();
        let sent: u64 = sent.map(|(_, path)| path.stats().heartbeats_sent).sum();
        assert_eq!(sent, 1, "{role:?}");
    }
}

#[test]
fn heartbeat_goes_out_before_a_sack_that_fills_the_packet() {
    for role in ROLES {
        let mut tester = Tester::established(role);
        tester.send(&[nth_data(1, b"x")]);
        tester.expect_sack();
        tester.expect_nothing();
        tester.now = tester.ours().poll_timeout().expect("a heartbeat");
        for n in (3..1200).step_by(2) {
            tester.send(&[nth_data(n, b"x")]);
        }
        let seen: Vec<Seen> = std::iter::from_fn(|| tester.try_receive()).collect();
        let heartbeats = seen
            .iter()
            .flat_map(|packet| &packet.chunks)
            .filter(|chunk| matches!(chunk, Chunk::Heartbeat(_)));
        assert_eq!(heartbeats.count(), 1);
    }
}
