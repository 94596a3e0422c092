//! RFC 9260 7.2, 7.2.4: what SACKs do to the window, and fast retransmit.

use super::*;

/// `count` full chunks in flight in a window of `count`.
fn out(count: usize) -> Rig {
    let mut rig = Rig::eager();
    rig.open_window(count);
    for _ in 0..count {
        rig.enqueue(FULL);
    }
    assert_eq!(rig.flush().len(), count);
    rig
}

/// The same with data that waits for the window.
fn out_with_more(count: usize) -> Rig {
    let mut rig = out(count);
    for _ in 0..count {
        rig.enqueue(FULL);
    }
    assert_eq!(rig.flush().len(), 0);
    rig
}

#[test]
fn slow_start_grows_while_the_window_is_full() {
    // RFC 9260 7.2.1.
    let mut rig = out_with_more(4);
    rig.sack(2, &[]);
    assert_eq!(rig.cwnd(), 5 * PMDCS, "at most one chunk for each SACK");
    rig.sack(4, &[]);
    assert_eq!(rig.cwnd(), 6 * PMDCS, "the batch began with a full window");
    let mut rig = out(4);
    rig.sack(2, &[]);
    rig.sack(4, &[]);
    assert_eq!(rig.cwnd(), 5 * PMDCS, "nothing more to send: not full");
}

#[test]
fn slow_start_also_counts_what_gap_blocks_acknowledge() {
    // RFC 9260 7.2.1 (which no longer asks for the cumulative TSN to move).
    let mut rig = out(10);
    rig.sack(0, &[(2, 3)]);
    assert_eq!(rig.cwnd(), 11 * PMDCS);
}

#[test]
fn window_that_is_not_full_does_not_grow() {
    // RFC 9260 7.2.1: MUST NOT.
    let mut rig = Rig::eager();
    rig.open_window(10);
    for round in 0..20 {
        rig.enqueue(FULL);
        rig.enqueue(FULL);
        assert_eq!(rig.flush().len(), 2);
        rig.sack(2 * round + 2, &[]);
    }
    assert_eq!(rig.cwnd(), 10 * PMDCS);
}

#[test]
fn window_kept_short_by_the_burst_limit_is_not_full() {
    let mut rig = Rig::with(eager(), PathConfig::default(), 1, WIDE);
    rig.open_window(100);
    for _ in 0..20 {
        rig.enqueue(FULL);
    }
    rig.flush();
    rig.sack(2, &[]);
    assert_eq!(rig.cwnd(), 100 * PMDCS);
}

#[test]
fn window_kept_short_by_the_peer_is_not_full() {
    let mut rig = Rig::with(eager(), unlimited_burst(), 1, 5 * FULL as u32);
    rig.open_window(100);
    for _ in 0..20 {
        rig.enqueue(FULL);
    }
    assert_eq!(rig.flush().len(), 5);
    rig.sack(2, &[]);
    assert_eq!(rig.cwnd(), 100 * PMDCS);
}

#[test]
fn third_miss_indication_retransmits_at_once() {
    // RFC 9260 7.2.4: TSN 1 is lost.
    let mut rig = out(10);
    rig.sack(0, &[(2, 2)]);
    rig.sack(0, &[(2, 3)]);
    assert_eq!(rig.flush().len(), 0);
    rig.sack(0, &[(2, 4)]);
    assert_eq!(rig.flush_tsns(), [[1]]);
    assert_eq!(rig.sender.stats().fast_retransmits, 1);
}

#[test]
fn sack_that_acknowledges_nothing_new_is_no_miss_indication() {
    // RFC 9260 7.2.4, HTNA.
    let mut rig = out(10);
    rig.sack(0, &[(2, 3)]);
    for _ in 0..10 {
        rig.sack(0, &[(2, 3)]);
    }
    rig.sack(0, &[(2, 4)]);
    assert_eq!(rig.flush().len(), 0);
    rig.sack(0, &[(2, 5)]);
    assert_eq!(rig.flush_tsns(), [[1]]);
}

#[test]
fn only_tsns_below_the_highest_newly_acknowledged_are_missed() {
    // RFC 9260 7.2.4, HTNA: 1 and 6 are lost; SACKs for 2 to 5 say nothing about 6.
    let mut rig = out(10);
    rig.sack(0, &[(7, 7)]); // one indication for 1 to 6
    rig.sack(0, &[(2, 2), (7, 7)]); // 1
    rig.sack(0, &[(2, 3), (7, 7)]); // 1: lost
    assert_eq!(rig.flush_tsns(), [[1]]);
    rig.sack(0, &[(2, 5), (7, 7)]);
    rig.sack(0, &[(2, 5), (7, 8)]); // two for 6
    assert!(!rig.flush_tsns().concat().contains(&6));
    rig.sack(0, &[(2, 5), (7, 9)]); // three
    assert!(rig.flush_tsns().concat().contains(&6));
}

#[test]
fn loss_halves_the_window_after_the_sack_let_it_grow() {
    // RFC 9260 7.2.3, 7.2.4 2 and its note: growth first.
    let mut rig = out_with_more(20);
    rig.sack(0, &[(2, 2)]);
    rig.sack(0, &[(2, 3)]);
    assert_eq!(rig.cwnd(), 22 * PMDCS);
    rig.sack(0, &[(2, 4)]);
    assert_eq!(rig.cwnd(), 23 * PMDCS / 2);
    assert_eq!(rig.path().controller().ssthresh(), 23 * PMDCS / 2);
}

#[test]
fn fast_retransmission_ignores_the_window_for_one_packet() {
    // RFC 9260 7.2.4 3: the earliest K chunks that fit; the rest as cwnd allows.
    let mut rig = Rig::eager();
    rig.open_window(20);
    for _ in 0..60 {
        rig.enqueue(400); // three to a packet
    }
    assert_eq!(rig.flush().len(), 20);
    // 1 to 9 are lost; 20 is 17 chunks over the halved window.
    rig.sack(0, &[(10, 10)]);
    rig.sack(0, &[(10, 11)]);
    rig.sack(0, &[(10, 12)]);
    assert!(rig.flight() > rig.cwnd());
    assert_eq!(rig.flush_tsns(), [[1, 2, 3]]);
    // As cwnd allows: with 40 more acknowledged the others go.
    rig.sack(0, &[(10, 50)]);
    assert_eq!(rig.flush_tsns(), [[4, 5, 6], [7, 8, 9]]);
}

#[test]
fn recovery_reduces_the_window_once_and_ends_at_its_exit_point() {
    // RFC 9260 7.2.4 2, 6: 1 and 5 are lost, found one after the other; 10 is the exit point.
    let mut rig = out(10);
    for end in [2, 3, 4] {
        rig.sack(0, &[(2, end)]);
    }
    let reduced = rig.cwnd();
    rig.flush();
    for end in [6, 7, 8] {
        rig.sack(0, &[(2, 4), (6, end)]);
    }
    assert_eq!(rig.cwnd(), reduced, "once");
    assert_eq!(rig.sender.stats().fast_retransmits, 2);
    rig.enqueue(FULL);
    rig.enqueue(FULL);
    rig.flush();
    rig.sack(9, &[]);
    assert_eq!(rig.cwnd(), reduced, "7.2.1: no growth in Fast Recovery");
    rig.open_window(2);
    for _ in 0..10 {
        rig.enqueue(FULL);
    }
    rig.flush();
    rig.sack(10, &[]);
    rig.flush();
    rig.sack(11, &[]);
    assert!(rig.cwnd() > 2 * PMDCS, "left, and growing");
}

#[test]
fn in_recovery_an_advance_counts_against_all_that_is_reported_missing() {
    // RFC 9260 7.2.4: also TSNs above the highest newly acknowledged one. 1 and 6 are lost.
    let mut rig = out(10);
    rig.sack(0, &[(2, 2), (7, 7)]); // one for 1 and 6
    rig.sack(0, &[(2, 3), (7, 7)]);
    rig.sack(0, &[(2, 4), (7, 7)]); // three for 1
    rig.flush();
    rig.sack(1, &[(1, 3), (6, 6)]); // advances: two for 6
    assert_eq!(rig.sender.stats().fast_retransmits, 1);
    rig.sack(5, &[(2, 2)]); // advances, newly acknowledges 5 only: three for 6
    assert_eq!(rig.sender.stats().fast_retransmits, 2);
    assert_eq!(rig.flush_tsns(), [[6]]);
}

#[test]
fn chunk_is_fast_retransmitted_once() {
    // RFC 9260 7.2.4 5.
    let mut rig = out(30);
    for end in [2, 3, 4] {
        rig.sack(0, &[(2, end)]);
    }
    assert_eq!(rig.flush_tsns(), [[1]]);
    for end in 5..30 {
        rig.sack(0, &[(2, end)]);
    }
    assert_eq!(rig.flush().len(), 0);
    rig.fire_t3(rig.id(0));
    assert_eq!(rig.flush_tsns(), [[1]], "T3-rtx is for that");
}

#[test]
fn chunk_lost_again_after_a_timeout_is_found_by_what_was_sent_later() {
    // Not ineligible: T3-rtx retransmitted it. SACKs for what was out before say nothing about the second copy.
    let mut rig = out(10);
    rig.fire_t3(rig.id(0));
    assert_eq!(rig.flush_tsns(), [[1]]);
    for end in 2..=9 {
        rig.sack(0, &[(2, end)]); // the old packets were only late
    }
    assert_eq!(rig.sender.stats().fast_retransmits, 0);
    rig.open_window(20);
    rig.flush();
    for _ in 0..3 {
        rig.enqueue(FULL);
    }
    rig.flush();
    rig.sack(0, &[(2, 11)]);
    rig.sack(0, &[(2, 12)]);
    assert_eq!(rig.sender.stats().fast_retransmits, 0);
    rig.sack(0, &[(2, 13)]);
    assert_eq!(rig.flush_tsns(), [[1]]);
}

#[test]
fn timeout_leaves_one_packet_until_something_is_acknowledged() {
    // RFC 9260 6.3.3 E1, 7.2.3.
    let mut rig = Rig::eager();
    rig.open_window(20);
    for _ in 0..20 {
        rig.enqueue(400);
    }
    rig.flush();
    rig.fire_t3(rig.id(0));
    assert_eq!(rig.cwnd(), PMDCS);
    assert_eq!(rig.path().controller().ssthresh(), 10 * PMDCS);
    assert_eq!(rig.flight(), 0);
    assert_eq!(rig.flush_tsns(), [[1, 2, 3]]);
    assert!(
        rig.flight() < rig.cwnd(),
        "room by cwnd, but one packet it is"
    );
    rig.sack(0, &[]);
    assert_eq!(rig.flush().len(), 0);
    rig.sack(1, &[]);
    assert!(!rig.flush().is_empty());
}

#[test]
fn timeout_ends_fast_recovery() {
    let mut rig = out(10);
    for end in [2, 3, 4] {
        rig.sack(0, &[(2, end)]);
    }
    rig.flush();
    rig.fire_t3(rig.id(0));
    rig.flush();
    rig.sack(4, &[]);
    assert_eq!(
        rig.cwnd(),
        2 * PMDCS,
        "slow start, below the old exit point"
    );
}

#[test]
fn window_decays_while_nothing_is_sent() {
    // RFC 9260 7.2.1: halved once per RTO, four chunks at least; ssthresh remembers it.
    let mut rig = out(32);
    rig.sack(32, &[]);
    let cwnd = rig.cwnd();
    let rto = rig.path().rto();
    rig.now += 2 * rto;
    rig.enqueue(FULL);
    rig.flush();
    assert_eq!(rig.cwnd(), cwnd / 4);
    assert_eq!(rig.path().controller().ssthresh(), cwnd);
}

#[test]
fn cubic_serves_as_well() {
    // RFC 9438: 0.7 of the window after a loss, and growth by time.
    let config = PathConfig {
        congestion_control: crate::transport::congestion::CongestionControl::Cubic,
        ..unlimited_burst()
    };
    let mut rig = Rig::with(eager(), config, 1, WIDE);
    assert_eq!(rig.cwnd(), 4404);
    rig.open_window(100);
    for _ in 0..300 {
        rig.enqueue(FULL);
    }
    rig.flush();
    rig.wait(50);
    rig.sack(0, &[(2, 2)]);
    rig.sack(0, &[(2, 3)]);
    let before = rig.cwnd();
    rig.sack(0, &[(2, 4)]);
    let reduced = rig.cwnd();
    assert!((0.69..0.71).contains(&(reduced as f64 / before as f64)));
    rig.flush();
    rig.sack(100, &[]);
    assert!(rig.flush().len() >= 69);
    rig.wait(50);
    for cumulative in (102..=170).step_by(2) {
        rig.sack(cumulative, &[]);
    }
    assert!(rig.cwnd() > reduced);
}
