//! RFC 9260 6.3.1, 6.3.2, 6.3.3: round trips and T3-rtx.

use super::*;
use crate::sctp::path::PathVerdict;

const MS: Duration = Duration::from_millis(1);

#[test]
fn timer_runs_from_the_first_chunk_and_is_not_restarted_by_the_next() {
    // RFC 9260 6.1, 6.3.2 R1.
    let mut rig = Rig::eager();
    assert_eq!(rig.path().t3(), None);
    rig.enqueue(100);
    rig.flush();
    let deadline = rig.now + Duration::from_secs(1);
    assert_eq!(rig.path().t3(), Some(deadline));
    rig.wait(300);
    rig.enqueue(100);
    rig.flush();
    assert_eq!(rig.path().t3(), Some(deadline));
    assert_eq!(rig.paths.next_deadline(), Some(deadline));
}

#[test]
fn timer_stops_when_everything_is_acknowledged() {
    // RFC 9260 6.3.2 R2.
    let mut rig = Rig::eager();
    rig.enqueue(100);
    rig.flush();
    rig.sack(1, &[]);
    assert_eq!(rig.path().t3(), None);
}

#[test]
fn timer_starts_anew_when_the_earliest_tsn_is_acknowledged() {
    // RFC 9260 6.3.2 R3: not for gap blocks behind it, nor for SACKs without news.
    let mut rig = Rig::eager();
    for _ in 0..3 {
        rig.enqueue(FULL);
    }
    rig.flush();
    let first = rig.path().t3();
    rig.wait(100);
    rig.sack(0, &[(2, 2)]);
    rig.sack(0, &[(2, 2)]);
    assert_eq!(rig.path().t3(), first);
    rig.wait(100);
    rig.sack(2, &[]);
    assert_eq!(rig.path().t3(), Some(rig.now + rig.path().rto()));
    assert_ne!(rig.path().t3(), first);
}

#[test]
fn timer_starts_anew_when_the_earliest_chunk_is_sent_again() {
    // RFC 9260 6.1, 7.2.4 4: and not for a later one.
    let mut rig = Rig::eager();
    rig.open_window(20);
    for _ in 0..10 {
        rig.enqueue(FULL);
    }
    rig.flush();
    rig.wait(400);
    rig.sack(0, &[(2, 2), (4, 4)]);
    rig.sack(0, &[(2, 2), (4, 5)]);
    rig.sack(0, &[(2, 2), (4, 6)]); // 1 and 3 are lost
    let packet = rig.packet().unwrap();
    assert_eq!(packet.tsns(), [1]);
    let restarted = rig.now + rig.path().rto();
    assert_eq!(rig.path().t3(), Some(restarted));
    rig.wait(10);
    rig.sack(0, &[(2, 2), (4, 9)]);
    assert_eq!(rig.packet().unwrap().tsns(), [3]);
    assert_eq!(rig.path().t3(), Some(restarted));
}

#[test]
fn timeout_doubles_the_rto_and_retransmits_the_earliest_in_one_packet() {
    // RFC 9260 6.3.3 E1 to E4.
    let mut rig = Rig::eager();
    rig.open_window(10);
    for _ in 0..10 {
        rig.enqueue(700);
    }
    rig.flush();
    let path = rig.id(0);
    for (timeout, seconds) in [1u32, 2, 4, 8, 16, 32, 60, 60].into_iter().enumerate() {
        let waited = rig.fire_t3(path);
        assert_eq!(waited.as_secs(), u64::from(seconds), "{timeout}");
        assert_eq!(rig.flush_tsns(), [[1, 2]]);
        assert_eq!(rig.path().error_count(), (timeout as u32 + 1).min(6));
        assert_eq!(
            rig.paths.association_errors(),
            timeout as u32 + 1,
            "8.1: each retransmission counts"
        );
    }
    assert_eq!(rig.path().state(), PathState::Inactive, "8.2");
}

#[test]
fn peer_that_acknowledges_nothing_is_given_up_after_association_max_retrans() {
    // RFC 9260 8.1.
    let mut rig = Rig::eager();
    rig.enqueue(100);
    rig.flush();
    let path = rig.id(0);
    for error in 1..=11 {
        rig.now = rig.path().t3().unwrap();
        let verdict = rig.sender.handle_t3(rig.now, path, &mut rig.paths);
        assert_eq!(verdict.association_failed, error == 11, "{error}");
        assert_eq!(verdict.path_failed, error == 6, "{error}");
        rig.flush();
    }
}

#[test]
fn acknowledged_data_clears_the_error_counters() {
    // RFC 9260 8.1, 8.2: by gap blocks too.
    for blocks in [&[][..], &[(2, 2)]] {
        let mut rig = Rig::eager();
        for _ in 0..3 {
            rig.enqueue(FULL);
        }
        rig.flush();
        rig.fire_t3(rig.id(0));
        rig.flush();
        assert_eq!(rig.path().error_count(), 1);
        rig.sack(u32::from(blocks.is_empty()), blocks);
        assert_eq!(rig.path().error_count(), 0);
        assert_eq!(rig.paths.association_errors(), 0);
    }
}

#[test]
fn round_trip_is_measured_once_per_round_trip() {
    // RFC 9260 6.3.1 C2, C4.
    let mut rig = Rig::eager();
    rig.open_window(10);
    rig.enqueue(FULL);
    rig.flush();
    rig.wait(30);
    rig.enqueue(FULL);
    rig.flush();
    rig.wait(20);
    rig.sack(2, &[]);
    assert_eq!(rig.path().rtt().smoothed(), Some(50 * MS));
    assert_eq!(rig.path().rtt().variation(), 25 * MS);
    assert_eq!(rig.path().rto(), Duration::from_secs(1), "C6: RTO.Min");
}

#[test]
fn round_trip_may_be_measured_by_a_gap_block() {
    let mut rig = Rig::eager();
    for _ in 0..2 {
        rig.enqueue(FULL);
    }
    rig.flush();
    rig.wait(40);
    rig.sack(1, &[]);
    rig.enqueue(FULL);
    rig.flush();
    rig.wait(40);
    rig.sack(1, &[(2, 2)]); // TSN 3 measures
    assert_eq!(rig.path().rtt().smoothed(), Some(40 * MS));
    assert_eq!(rig.path().rtt().variation(), 15 * MS, "two samples");
}

#[test]
fn retransmitted_chunk_measures_nothing() {
    // RFC 9260 6.3.1 C5 (Karn): and the RTO stays doubled until something new is measured.
    let mut rig = Rig::eager();
    rig.enqueue(FULL);
    rig.flush();
    rig.fire_t3(rig.id(0));
    rig.flush();
    rig.wait(10);
    rig.sack(1, &[]);
    assert_eq!(rig.path().rtt().smoothed(), None);
    assert_eq!(rig.path().rto(), Duration::from_secs(2));
    rig.enqueue(FULL);
    rig.flush();
    rig.wait(10);
    rig.sack(2, &[]);
    assert_eq!(rig.path().rto(), Duration::from_secs(1), "6.3.3: collapsed");
}

#[test]
fn chunk_sent_before_a_lower_one_was_sent_again_measures_nothing() {
    // RFC 9260 6.3.1 C5, second rule: the delay may be that of the retransmission.
    let mut rig = Rig::eager();
    rig.open_window(20);
    rig.enqueue(FULL);
    rig.flush();
    rig.wait(10);
    rig.sack(1, &[]);
    for _ in 0..5 {
        rig.enqueue(FULL);
    }
    rig.flush(); // TSN 2 measures
    rig.wait(10);
    rig.sack(2, &[]);
    rig.enqueue(FULL);
    rig.flush(); // TSN 7 measures
    for end in [2, 3, 4] {
        rig.sack(2, &[(2, end)]); // 3 is lost
    }
    assert_eq!(rig.flush_tsns(), [[3]]);
    rig.wait(500);
    rig.sack(7, &[]);
    assert_eq!(rig.path().rtt().smoothed(), Some(10 * MS));
}

#[test]
fn timer_that_fires_with_nothing_in_flight_is_no_error() {
    let mut rig = Rig::eager();
    let path = rig.id(0);
    let verdict = rig.sender.handle_t3(rig.now, path, &mut rig.paths);
    assert_eq!(verdict, PathVerdict::default());
    assert_eq!(rig.path().error_count(), 0);
    assert_eq!(rig.path().rto(), Duration::from_secs(1));
    assert_eq!(rig.cwnd(), 4404);
}
