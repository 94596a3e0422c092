//! RFC 9260 6.2.1, 3.3.4: what SACKs say, also hostile ones.

use super::*;

/// Ten full chunks in flight.
fn ten_out() -> Rig {
    let mut rig = Rig::eager();
    rig.open_window(20);
    for _ in 0..10 {
        rig.enqueue(FULL);
    }
    assert_eq!(rig.flush().len(), 10);
    rig
}

#[test]
fn sack_before_the_cumulative_point_is_dropped() {
    // RFC 9260 6.2.1 D i: also its window and its gap blocks.
    let mut rig = ten_out();
    rig.sack(5, &[]);
    let rwnd = rig.sender.peer_rwnd();
    rig.a_rwnd = 1;
    let outcome = rig.sack(4, &[(3, 4)]);
    assert!(outcome.stale);
    assert_eq!(rig.sender.peer_rwnd(), rwnd);
    assert_eq!(rig.flight(), 5 * PMDCS);
    let outcome = rig.sack(5, &[]);
    assert!(!outcome.stale, "the same point once more is not older");
    assert_eq!(rig.sender.peer_rwnd(), 0);
}

#[test]
fn window_is_what_the_peer_announces_without_what_is_still_out() {
    // RFC 9260 6.2.1 D ii: user data, after the cumulative TSN and the gap blocks.
    let mut rig = ten_out();
    rig.a_rwnd = 20_000;
    rig.sack(2, &[(2, 3), (5, 5)]);
    assert_eq!(rig.sender.peer_rwnd(), 20_000 - 5 * FULL);
}

#[test]
fn window_counts_user_data_and_the_flight_counts_whole_chunks() {
    // RFC 9260 6.2.1 B, 7.2.
    let mut rig = Rig::with(eager(), unlimited_burst(), 1, 1000);
    rig.enqueue(101);
    rig.flush();
    assert_eq!(rig.sender.peer_rwnd(), 899);
    assert_eq!(rig.flight(), 120, "header and padding");
}

#[test]
fn outcome_tells_what_was_new() {
    let mut rig = ten_out();
    let outcome = rig.sack(0, &[(3, 4)]);
    assert_eq!((outcome.newly_acked, outcome.advanced), (2 * FULL, false));
    assert!(!outcome.room_gained);
    let outcome = rig.sack(0, &[(3, 4)]);
    assert_eq!(outcome.newly_acked, 0, "the same again");
    let outcome = rig.sack(4, &[]);
    assert_eq!(outcome.newly_acked, 2 * FULL, "two of the four were known");
    assert!(outcome.advanced && outcome.room_gained && !outcome.all_acked);
    let outcome = rig.sack(10, &[]);
    assert!(outcome.all_acked);
    assert!(rig.sender.is_empty());
    assert_eq!(rig.sender.cumulative_tsn(), Tsn(10));
}

#[test]
fn acknowledging_what_was_never_sent_aborts_the_association() {
    let cases: [(u32, &[(u16, u16)]); 6] = [
        (11, &[]),
        (0x7fff_ffff, &[]),
        (0, &[(2, 11)]),
        (0, &[(11, 11)]),
        (5, &[(2, 2), (6, 6)]),
        (3, &[(60_000, 65_535), (2, 2)]),
    ];
    for (cumulative, blocks) in cases {
        let mut rig = ten_out();
        let before = (rig.flight(), rig.sender.peer_rwnd(), rig.sender.buffered());
        rig.a_rwnd = 7;
        let result = rig.try_sack(cumulative, blocks);
        assert!(
            matches!(result, Err(ErrorCause::ProtocolViolation(_))),
            "{cumulative} {blocks:?}"
        );
        let after = (rig.flight(), rig.sender.peer_rwnd(), rig.sender.buffered());
        assert_eq!(before, after, "nothing else came of it");
    }
}

#[test]
fn gap_blocks_may_overlap_and_come_in_any_order() {
    // RFC 9260 3.3.4: blocks SHOULD be isolated. What contradicts itself says nothing.
    let cases: [(&[(u16, u16)], usize); 6] = [
        (&[(7, 9), (2, 3)], 5),
        (&[(2, 6), (3, 4), (5, 8)], 7),
        (&[(3, 3), (3, 3), (3, 3)], 1),
        (&[(5, 2)], 0),
        (&[(0, 0)], 0),
        (&[(1, 2)], 2),
    ];
    for (blocks, acked) in cases {
        let mut rig = ten_out();
        let outcome = rig.sack(0, blocks);
        assert_eq!(outcome.newly_acked, acked * FULL, "{blocks:?}");
        assert_eq!(rig.flight(), (10 - acked) * PMDCS);
        assert_eq!(rig.sender.outstanding(), 10);
        rig.sack(10, &[]);
        assert!(rig.sender.is_empty());
    }
}

#[test]
fn what_a_gap_block_covers_is_kept_until_the_cumulative_tsn_passes_it() {
    // RFC 9260 7.1.
    let mut rig = ten_out();
    rig.sack(0, &[(2, 10)]);
    assert_eq!(rig.sender.outstanding(), 10);
    assert!(rig.sender.has_outstanding());
    rig.sack(10, &[]);
    assert!(!rig.sender.has_outstanding());
}

#[test]
fn reneged_tsns_are_outstanding_again_and_timed() {
    // RFC 9260 6.2.1 D iii, 6.3.2 R4.
    let mut rig = Rig::eager();
    rig.open_window(20);
    for _ in 0..4 {
        rig.enqueue(FULL);
    }
    rig.flush();
    rig.sack(0, &[(1, 4)]); // contradictory, and leaves nothing in flight: T3-rtx stops
    assert_eq!(rig.path().t3(), None);
    rig.wait(10);
    rig.sack(0, &[(2, 3)]);
    assert_eq!(rig.flight(), 2 * PMDCS);
    assert_eq!(rig.path().t3(), Some(rig.now + rig.path().rto()));
    assert_eq!(rig.sender.stats().reneged, 2);
    rig.fire_t3(rig.id(0));
    assert_eq!(rig.flush_tsns(), [[1]]);
    rig.sack(3, &[]);
    assert_eq!(rig.flush_tsns(), [[4]]);
}

#[test]
fn reneging_is_one_miss_indication() {
    // RFC 9260 6.2.1 D iii: two more make the chunk lost.
    let mut rig = ten_out();
    for _ in 0..5 {
        rig.enqueue(FULL);
    }
    rig.flush();
    rig.sack(1, &[(2, 4)]); // 3, 4, 5
    rig.sack(1, &[(2, 3), (6, 6)]); // 5 was dropped: one
    rig.sack(1, &[(2, 3), (6, 7)]); // two
    assert!(rig.flush().iter().all(|packet| !packet.tsns().contains(&5)));
    rig.sack(1, &[(2, 3), (6, 8)]); // three
    let sent: Vec<u32> = rig.flush_tsns().concat();
    assert_eq!(sent, [5, 6], "6 was passed by three times, too");
}

#[test]
fn everything_can_be_reneged() {
    let mut rig = ten_out();
    rig.sack(0, &[(2, 10)]);
    rig.sack(0, &[]);
    assert_eq!(rig.flight(), 10 * PMDCS);
    rig.fire_t3(rig.id(0));
    rig.flush();
    rig.sack(0, &[(2, 10)]);
    rig.sack(10, &[]);
    assert!(rig.sender.is_empty());
}

#[test]
fn shutdown_acknowledges_without_taking_gaps_back() {
    // RFC 9260 9.2: a SHUTDOWN has a Cumulative TSN Ack and no gap blocks.
    let mut rig = ten_out();
    rig.sack(0, &[(5, 6)]);
    rig.sack(0, &[(5, 5)]);
    let outcome = rig
        .sender
        .handle_cumulative_ack(rig.now, Tsn(2), &mut rig.paths)
        .unwrap();
    rig.sender.check_counts(&rig.paths);
    assert!(outcome.advanced);
    assert_eq!(rig.flight(), 7 * PMDCS, "5 is still acknowledged");
    assert_eq!(rig.sender.stats().reneged, 1, "6, by the SACK alone");
    let result = rig
        .sender
        .handle_cumulative_ack(rig.now, Tsn(11), &mut rig.paths);
    assert!(matches!(result, Err(ErrorCause::ProtocolViolation(_))));
}

#[test]
fn tsns_wrap() {
    // RFC 9260 1.6.
    let mut rig = Rig::eager();
    rig.sender = Sender::new(&eager(), Tsn(u32::MAX - 2), 10, WIDE);
    rig.open_window(20);
    for _ in 0..8 {
        rig.enqueue(FULL);
    }
    let sent: Vec<u32> = rig.flush_tsns().concat();
    let max = u32::MAX;
    assert_eq!(sent, [max - 2, max - 1, max, 0, 1, 2, 3, 4]);
    for end in [3, 4, 5] {
        rig.sack(max - 2, &[(3, end)]); // 0, then 1, then 2: max - 1 and max are missing
    }
    assert_eq!(rig.flush_tsns(), [[max - 1], [max]]);
    assert!(rig.sack(max - 3, &[]).stale);
    rig.sack(4, &[]);
    assert!(rig.sender.is_empty());
}
