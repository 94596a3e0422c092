//! RFC 9260 6.1 A: the peer's window is closed.

use super::*;

/// Everything sent is acknowledged, the window is closed, and two messages wait.
fn closed() -> Rig {
    let mut rig = Rig::eager();
    rig.enqueue(FULL);
    rig.flush();
    rig.a_rwnd = 0;
    rig.sack(1, &[]);
    rig.enqueue(FULL);
    rig.enqueue(FULL);
    rig
}

#[test]
fn first_probe_comes_after_one_rto_and_further_ones_at_doubling_intervals() {
    let mut rig = closed();
    let path = rig.id(0);
    assert_eq!(rig.flush().len(), 0);
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(rig.fire_t3(path).as_secs(), seconds);
        assert_eq!(rig.flush_tsns(), [[2]], "one chunk");
        assert_eq!(rig.flush().len(), 0);
        rig.sack(1, &[]);
    }
}

#[test]
fn answered_probes_are_no_errors_and_leave_the_window_alone() {
    let mut rig = closed();
    rig.flush();
    let cwnd = rig.cwnd();
    for _ in 0..30 {
        rig.fire_t3(rig.id(0));
        rig.flush();
        rig.sack(1, &[]);
    }
    assert_eq!(rig.path().error_count(), 0);
    assert_eq!(rig.paths.association_errors(), 0);
    assert_eq!(rig.cwnd(), cwnd);
    assert_eq!(rig.path().rto(), Duration::from_secs(1));
    assert_eq!(rig.sender.stats().timeouts, 0);
}

#[test]
fn unanswered_probes_are_errors() {
    let mut rig = closed();
    rig.flush();
    let path = rig.id(0);
    rig.fire_t3(path);
    rig.flush();
    for error in 1..=11 {
        rig.now = rig.path().t3().unwrap();
        let verdict = rig.sender.handle_t3(rig.now, path, &mut rig.paths);
        assert_eq!(verdict.association_failed, error == 11, "{error}");
        rig.flush();
    }
}

#[test]
fn opened_window_gets_the_refused_probe_at_once() {
    let mut rig = closed();
    rig.flush();
    for _ in 0..5 {
        rig.fire_t3(rig.id(0));
        rig.flush();
        rig.sack(1, &[]);
    }
    rig.a_rwnd = 10 * FULL as u32;
    rig.sack(1, &[]);
    assert_eq!(rig.flush_tsns(), [[2], [3]], "not after half a minute");
    let deadline = rig.path().t3().unwrap();
    assert_eq!(deadline - rig.now, Duration::from_secs(1));
}

#[test]
fn accepted_probe_opens_the_way() {
    let mut rig = closed();
    rig.flush();
    rig.fire_t3(rig.id(0));
    assert_eq!(rig.flush_tsns(), [[2]]);
    rig.a_rwnd = WIDE;
    rig.sack(2, &[]);
    assert_eq!(rig.flush_tsns(), [[3]]);
}

#[test]
fn accepted_probe_into_a_window_that_stays_closed_is_followed_by_the_next() {
    let mut rig = closed();
    rig.flush();
    rig.fire_t3(rig.id(0));
    rig.flush();
    rig.sack(2, &[]);
    assert_eq!(rig.flush().len(), 0);
    assert_eq!(rig.fire_t3(rig.id(0)).as_secs(), 2, "6.1 A: exponentially");
    assert_eq!(rig.flush_tsns(), [[3]]);
}

#[test]
fn window_too_small_for_the_next_chunk_is_probed_as_well() {
    // "i.e., rwnd is smaller than the size of the next DATA chunk"
    let mut rig = Rig::with(eager(), unlimited_burst(), 1, 2000);
    rig.enqueue(FULL);
    rig.enqueue(FULL);
    rig.flush();
    rig.a_rwnd = 2000 - FULL as u32;
    rig.sack(1, &[]);
    assert_eq!(rig.flush().len(), 0);
    rig.fire_t3(rig.id(0));
    assert_eq!(rig.flush_tsns(), [[2]]);
}

#[test]
fn nothing_is_probed_while_something_is_in_flight() {
    // "SHOULD only be sent when ... no DATA chunks are in flight".
    let mut rig = Rig::with(eager(), unlimited_burst(), 1, 2000);
    rig.enqueue(FULL);
    rig.enqueue(FULL);
    assert_eq!(rig.flush().len(), 1);
    rig.fire_t3(rig.id(0));
    assert_eq!(rig.flush_tsns(), [[1]]);
    assert_eq!(rig.path().error_count(), 1, "an error like any other");
}

#[test]
fn probe_waits_for_the_congestion_window_too() {
    // "MUST only be sent when the cwnd allows": with nothing in flight it does.
    let mut rig = closed();
    rig.open_window(1);
    rig.flush();
    rig.fire_t3(rig.id(0));
    assert_eq!(rig.flush_tsns(), [[2]]);
}

#[test]
fn closed_window_without_data_starts_no_timer() {
    let mut rig = Rig::eager();
    rig.enqueue(FULL);
    rig.flush();
    rig.a_rwnd = 0;
    rig.sack(1, &[]);
    assert_eq!(rig.flush().len(), 0);
    assert_eq!(rig.paths.next_deadline(), None);
}

#[test]
fn data_that_the_peer_dropped_as_its_window_closed_is_probed_without_errors() {
    // The peer took two of five and closed: its answers to the rest are answers to probes.
    let mut rig = Rig::eager();
    rig.open_window(10);
    for _ in 0..5 {
        rig.enqueue(FULL);
    }
    rig.flush();
    rig.a_rwnd = 0;
    rig.sack(2, &[]);
    for _ in 0..30 {
        rig.fire_t3(rig.id(0));
        assert_eq!(rig.flush_tsns(), [[3]]);
        rig.sack(2, &[]);
    }
    assert_eq!(rig.paths.association_errors(), 1, "the first was a timeout");
    rig.a_rwnd = WIDE;
    rig.sack(2, &[]);
    let mut tsns = rig.flush_tsns().concat();
    rig.sack(3, &[]);
    tsns.extend(rig.flush_tsns().concat());
    assert_eq!(tsns, [3, 4, 5]);
}
