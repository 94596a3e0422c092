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
