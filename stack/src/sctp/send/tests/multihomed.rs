//! RFC 9260 6.4: several paths.

use super::*;

/// As RFC 9260 alone has it: no path is potentially failed.
fn two_paths() -> Rig {
    let config = PathConfig {
        pf_max_retrans: u32::MAX,
        ..unlimited_burst()
    };
    Rig::with(eager(), config, 2, WIDE)
}

/// With RFC 7829's potentially failed paths.
fn two_pf_paths() -> Rig {
    Rig::with(eager(), unlimited_burst(), 2, WIDE)
}

fn paths_of(packets: &[Packet]) -> Vec<usize> {
    packets.iter().map(|packet| packet.path.index()).collect()
}

#[test]
fn timed_out_chunks_go_to_another_path() {
    // RFC 9260 6.4, 6.3.3 E4: with that path's timer, and both flights adjusted.
    let mut rig = two_paths();
    let (a, b) = (rig.id(0), rig.id(1));
    for _ in 0..3 {
        rig.enqueue(FULL);
    }
    assert_eq!(paths_of(&rig.flush()), [0, 0, 0]);
    rig.fire_t3(a);
    assert_eq!(rig.paths.get(a).flight(), 0);
    assert_eq!(rig.paths.get(a).t3(), None);
    let packets = rig.flush();
    assert_eq!(paths_of(&packets), [1, 1, 1]);
    assert_eq!(rig.paths.get(b).flight(), 3 * PMDCS);
    let deadline = rig.now + rig.paths.get(b).rto();
    assert_eq!(rig.paths.get(b).t3(), Some(deadline));
    assert_eq!(rig.paths.get(b).rto(), Duration::from_secs(1));
    // New data still takes the primary path.
    rig.enqueue(FULL);
    assert_eq!(paths_of(&rig.flush()), [0]);
}

#[test]
fn first_retransmission_goes_elsewhere_within_one_rto() {
    let mut rig = two_paths();
    rig.enqueue(FULL);
    rig.flush();
    let waited = rig.fire_t3(rig.id(0));
    assert_eq!(waited, Duration::from_secs(1));
    assert_eq!(paths_of(&rig.flush()), [1]);
}

#[test]
fn fast_retransmission_takes_the_path_it_was_sent_on() {
    // RFC 9260 6.4.
    let mut rig = two_paths();
    rig.open_window(10);
    for _ in 0..5 {
        rig.enqueue(FULL);
    }
    rig.flush();
    for end in [2, 3, 4] {
        rig.sack(0, &[(2, end)]);
    }
    let packets = rig.flush();
    assert_eq!((paths_of(&packets), packets[0].tsns()), (vec![0], vec![1]));
}

#[test]
fn data_moves_when_the_primary_path_fails_and_returns_with_it() {
    // RFC 9260 6.4.1, 8.2, with default parameters: 63 seconds.
    let mut rig = two_paths();
    let (a, b) = (rig.id(0), rig.id(1));
    let start = rig.now;
    let mut tsn = 0;
    while rig.paths.get(a).state() == PathState::Active {
        rig.enqueue(FULL);
        assert_eq!(paths_of(&rig.flush()), [0]);
        rig.fire_t3(a);
        assert_eq!(paths_of(&rig.flush()), [1]);
        tsn += 1;
        rig.sack(tsn, &[]);
        assert_eq!(rig.paths.association_errors(), 0);
    }
    assert_eq!((rig.now - start).as_secs(), 1 + 2 + 4 + 8 + 16 + 32);
    rig.enqueue(FULL);
    assert_eq!(paths_of(&rig.flush()), [1]);
    rig.sack(tsn + 1, &[]);
    assert_eq!(rig.paths.get(b).error_count(), 0);
    rig.paths.confirm(a); // a heartbeat was answered
    rig.enqueue(FULL);
    assert_eq!(paths_of(&rig.flush()), [0]);
}

#[test]
fn data_leaves_a_potentially_failed_path_and_returns_with_an_unambiguous_answer() {
    // RFC 7829 3.2, 3 i and ii, 9, 10.
    let mut rig = two_pf_paths();
    let (a, b) = (rig.id(0), rig.id(1));
    for _ in 0..2 {
        rig.enqueue(FULL);
    }
    assert_eq!(paths_of(&rig.flush()), [0, 0]);
    rig.fire_t3(a);
    assert_eq!(rig.paths.get(a).state(), PathState::PotentiallyFailed);
    rig.enqueue(FULL);
    assert_eq!(paths_of(&rig.flush()), [1, 1, 1], "new data, too");
    // It fails there as well, and TSN 1 goes back to where it came from: nobody knows what an answer is for.
    rig.fire_t3(b);
    assert_eq!(rig.paths.get(b).state(), PathState::PotentiallyFailed);
    assert_eq!(paths_of(&rig.flush()), [0], "one packet after a timeout");
    rig.sack(1, &[]);
    assert_eq!(rig.paths.get(a).state(), PathState::PotentiallyFailed);
    assert_eq!(rig.paths.association_errors(), 0, "but somebody is there");
    rig.flush();
    rig.sack(3, &[]);
    // New data goes to one of the two, and its answer can be for nothing else.
    rig.enqueue(FULL);
    let path = rig.flush()[0].path;
    rig.sack(4, &[]);
    assert_eq!(rig.paths.get(path).state(), PathState::Active);
    assert_eq!(rig.paths.get(path).error_count(), 0);
}

#[test]
fn data_waits_for_the_device_of_its_path_and_control_of_others_does_not() {
    let mut rig = two_pf_paths();
    let a = rig.id(0);
    rig.paths.get_mut(a).set_held_back(true);
    rig.enqueue(FULL);
    assert!(rig.flush().is_empty());
    rig.paths.get_mut(a).set_held_back(false);
    assert_eq!(paths_of(&rig.flush()), [0]);
}

#[test]
fn each_path_has_its_own_window_and_the_peer_has_one() {
    // RFC 9260 7.2: "a set of the control variables for EACH destination"; rwnd for the association.
    let mut rig = two_paths();
    let b = rig.id(1);
    for _ in 0..10 {
        rig.enqueue(FULL);
    }
    assert_eq!(rig.flush().len(), 3);
    rig.paths.set_primary(b);
    let packets = rig.flush();
    assert_eq!(paths_of(&packets), [1, 1, 1]);
    let out = 6 * FULL;
    assert_eq!(rig.sender.peer_rwnd(), WIDE as usize - out);
    let before: Vec<usize> = rig
        .paths
        .iter()
        .map(|(_, path)| path.controller().cwnd())
        .collect();
    rig.sack(0, &[(4, 4)]);
    let after: Vec<usize> = rig
        .paths
        .iter()
        .map(|(_, path)| path.controller().cwnd())
        .collect();
    assert_eq!(before[0], after[0]);
    assert_eq!(before[1] + PMDCS, after[1], "7.2.1: where it was sent");
}

#[test]
fn timer_of_a_path_follows_the_earliest_tsn_sent_there() {
    // RFC 9260 6.3.2 R3: TSN 4 is the earliest on the second path, though 1 to 3 are out on the first.
    let mut rig = two_paths();
    let (a, b) = (rig.id(0), rig.id(1));
    for _ in 0..6 {
        rig.enqueue(FULL);
    }
    rig.flush();
    rig.paths.set_primary(b);
    rig.flush();
    rig.wait(500);
    rig.sack(0, &[(5, 5)]);
    let start = rig.now - Duration::from_millis(500);
    assert_eq!(rig.paths.get(b).t3(), Some(start + Duration::from_secs(1)));
    rig.sack(0, &[(4, 5)]);
    assert_eq!(
        rig.paths.get(b).t3(),
        Some(rig.now + rig.paths.get(b).rto()),
        "earliest of its path, in a gap block"
    );
    rig.sack(0, &[(4, 6)]);
    assert_eq!(rig.paths.get(b).t3(), None, "R2");
    assert!(rig.paths.get(a).t3().is_some());
}

#[test]
fn chunk_that_moved_is_credited_to_the_path_it_was_sent_on_last() {
    // RFC 9260 8.2.
    let mut rig = two_paths();
    let (a, b) = (rig.id(0), rig.id(1));
    rig.enqueue(FULL);
    rig.flush();
    rig.fire_t3(a);
    rig.flush();
    rig.sack(1, &[]);
    assert_eq!(rig.paths.get(a).error_count(), 1, "nothing heard of it");
    assert_eq!(rig.paths.get(b).error_count(), 0);
    assert_eq!(rig.paths.association_errors(), 0);
}

#[test]
fn loss_reduces_only_the_windows_of_the_paths_it_was_sent_on() {
    // RFC 9260 7.2.4 2.
    let mut rig = two_paths();
    let b = rig.id(1);
    rig.open_window(3);
    for _ in 0..8 {
        rig.enqueue(FULL);
    }
    rig.flush();
    rig.paths.set_primary(b);
    rig.paths.get_mut(b).set_cwnd(20 * PMDCS);
    rig.flush();
    rig.sack(3, &[]);
    let a_window = rig.cwnd();
    for end in [2, 3, 4] {
        rig.sack(3, &[(2, end)]);
    }
    assert!(rig.paths.get(b).controller().cwnd() < 20 * PMDCS);
    assert_eq!(rig.cwnd(), a_window);
}

#[test]
fn timer_starts_anew_when_a_lower_tsn_moves_to_the_path() {
    // RFC 9260 6.1: it is the earliest outstanding chunk sent to that address, and is being retransmitted.
    let mut rig = two_paths();
    let (a, b) = (rig.id(0), rig.id(1));
    rig.enqueue(FULL);
    rig.flush();
    rig.paths.set_primary(b);
    rig.wait(600);
    rig.enqueue(FULL);
    rig.enqueue(FULL);
    rig.enqueue(FULL);
    rig.flush();
    rig.sack(0, &[(2, 2)]); // 3 is the earliest on the second path
    rig.fire_t3(a);
    let packets = rig.flush();
    assert_eq!((paths_of(&packets), packets[0].tsns()), (vec![1], vec![1]));
    let restarted = rig.now + rig.paths.get(b).rto();
    assert_eq!(rig.paths.get(b).t3(), Some(restarted));
    rig.wait(100);
    rig.sack(0, &[(2, 3)]);
    assert_eq!(rig.paths.get(b).t3(), Some(restarted), "1 is the earliest");
    rig.sack(1, &[(1, 2)]);
    let again = rig.now + rig.paths.get(b).rto();
    assert_eq!(rig.paths.get(b).t3(), Some(again));
}
