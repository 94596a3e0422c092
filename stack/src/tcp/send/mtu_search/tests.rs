use rand::rngs::ChaCha12Rng;
use rand::{RngExt, SeedableRng};

use super::*;

const NOW: Instant = Instant::from_millis(1000);
const INTERVAL: Duration = Duration::from_secs(600);
const BOUNDS: SearchBounds = SearchBounds {
    base: 1076,
    floor: 100,
    limit: 1500,
};

fn search() -> MtuSearch {
    MtuSearch::from_base(BOUNDS, INTERVAL)
}

/// Lets the next probe go; its size.
fn send(search: &mut MtuSearch, now: Instant, at: u32) -> Option<u32> {
    let size = search.due(now)?;
    search.on_sent(SeqNum(at), SeqNum(at) + size, size);
    Some(size)
}

/// Searches a path that carries `mtu`; the sizes probed.
fn converge(search: &mut MtuSearch, mtu: u32) -> Vec<u32> {
    let mut sizes = Vec::new();
    while let Some(size) = send(search, NOW, 0) {
        sizes.push(size);
        if size <= mtu {
            assert!(search.on_acknowledged(NOW, SeqNum(0) + size));
        } else {
            search.on_lost(NOW, Duration::ZERO);
        }
        assert!(sizes.len() < 32, "no end: {sizes:?}");
    }
    sizes
}

#[test]
fn search_halves_the_range_until_less_than_the_threshold_is_left() {
    // RFC 4821 7.3; Linux: tcp_mtu_probe, tcp_probe_threshold.
    let mut search = search();
    let sizes = converge(&mut search, 1300);
    assert_eq!(sizes[..3], [1288, 1394, 1340]);
    assert!((1293..=1300).contains(&search.low()), "{search:?}");
    assert!(search.high() - search.low() < THRESHOLD);
    assert!(sizes.len() <= 7, "{sizes:?}");
}

#[test]
fn path_without_a_narrow_link_is_used_in_full() {
    let mut search = search();
    let sizes = converge(&mut search, 1500);
    assert_eq!(sizes.last(), Some(&1500), "{sizes:?}");
    assert!(search.is_complete());
}

#[test]
fn every_path_is_found_to_within_the_threshold() {
    for limit in [576, 1280, 1500, 9000, 65_535] {
        for mtu in (1076..=limit).step_by(37) {
            let bounds = SearchBounds { limit, ..BOUNDS };
            let mut search = MtuSearch::from_base(bounds, INTERVAL);
            converge(&mut search, mtu);
            let low = search.low();
            assert!(
                low <= mtu && mtu - low < THRESHOLD,
                "{low} of {mtu}, {limit}"
            );
        }
    }
}

#[test]
fn lost_probe_is_followed_by_none_for_as_long_as_congestion_would_leave_between_losses() {
    // RFC 4821 7.6.2: MUST NOT probe again until then.
    let mut search = search();
    let wait = Duration::from_secs(2);
    assert_eq!(send(&mut search, NOW, 0), Some(1288));
    search.on_lost(NOW, wait);
    assert_eq!((search.low(), search.high()), (1076, 1287));
    assert_eq!(search.due(NOW + wait - Duration::from_nanos(1)), None);
    assert_eq!(search.due(NOW + wait), Some(1181));
}

#[test]
fn probe_lost_with_others_says_nothing() {
    // RFC 4821 7.6.4: the bounds stay, and the same size is probed again.
    let mut search = search();
    assert_eq!(send(&mut search, NOW, 5000), Some(1288));
    search.on_retransmitted(SeqNum(4000), SeqNum(5000));
    search.on_retransmitted(SeqNum(6288), SeqNum(7000));
    assert!(search.probe().is_some(), "not of the probe");
    search.on_retransmitted(SeqNum(4000), SeqNum(5001));
    assert_eq!(search.probe(), None);
    assert!(!search.on_acknowledged(NOW, SeqNum(9000)));
    assert_eq!((search.low(), search.high()), (1076, 1500));
    assert_eq!(search.due(NOW), Some(1288));
}

#[test]
fn probe_in_flight_at_a_timeout_costs_five_times_the_wait() {
    // RFC 4821 7.6.3.
    let mut search = search();
    let wait = Duration::from_secs(2);
    search.on_timeout(NOW, wait);
    assert_eq!(search.due(NOW), Some(1288), "no probe was under way");
    send(&mut search, NOW, 0);
    search.on_timeout(NOW, wait);
    assert_eq!((search.low(), search.high()), (1076, 1500));
    assert_eq!(search.due(NOW + wait * 5 - Duration::from_nanos(1)), None);
    assert_eq!(search.due(NOW + wait * 5), Some(1288));
}

#[test]
fn only_one_probe_is_under_way() {
    // RFC 4821 7.4.
    let mut search = search();
    send(&mut search, NOW, 0);
    assert_eq!(search.due(NOW + INTERVAL * 2), None);
}

#[test]
fn finished_search_begins_again_after_the_interval() {
    // RFC 4821 7.3: 10 minutes.
    let mut search = search();
    converge(&mut search, 1300);
    let low = search.low();
    assert_eq!(search.due(NOW + INTERVAL - Duration::from_nanos(1)), None);
    assert_eq!(search.due(NOW + INTERVAL), Some(low + (1500 - low) / 2));
    assert_eq!(search.high(), 1500);
}

#[test]
fn black_hole_falls_to_the_base_and_then_by_half_to_the_floor() {
    // RFC 4821 7.7.
    let mut search = MtuSearch::from_limit(BOUNDS, INTERVAL);
    assert!(search.is_complete());
    let mut sizes = Vec::new();
    for _ in 0..6 {
        search.on_black_hole(NOW);
        sizes.push(search.low());
    }
    assert_eq!(sizes, [1076, 538, 269, 134, 100, 100]);
    assert_eq!(search.high(), 1500);
    assert_eq!(search.due(NOW), Some(800), "and upwards again");
}

#[test]
fn black_hole_that_was_none_is_taken_back_until_the_next_probe() {
    let mut search = MtuSearch::from_limit(BOUNDS, INTERVAL);
    assert!(!search.undo_black_hole());
    search.on_black_hole(NOW);
    search.on_black_hole(NOW);
    assert!(search.undo_black_hole());
    assert!(search.is_complete());
    search.on_black_hole(NOW);
    send(&mut search, NOW, 0);
    assert!(!search.undo_black_hole());
    assert_eq!(search.low(), 1076);
}

#[test]
fn limit_below_base_and_floor_wins() {
    let mut search = search();
    search.set_limit(90);
    assert_eq!((search.low(), search.high()), (90, 90));
    search.on_black_hole(NOW);
    assert_eq!(search.low(), 90);
    assert_eq!(search.due(NOW), None);
    // RFC 8201 4, RFC 1191 6.3: a path that grows is tried again.
    search.set_limit(1500);
    assert_eq!(search.due(NOW), Some(795));
}

#[test]
fn limit_that_grows_does_not_revive_what_has_failed() {
    let mut search = search();
    converge(&mut search, 1300);
    let found = (search.low(), search.high());
    search.set_limit(9000);
    assert_eq!((search.low(), search.high()), found);
    search.set_limit(1290);
    assert_eq!((search.low(), search.high()), (1290, 1290));
}

#[test]
fn any_order_of_events_keeps_the_bounds_in_order_and_ends() {
    for seed in 0..300 {
        let mut random = ChaCha12Rng::seed_from_u64(seed);
        let mut any = |n: u32| random.random_range(0..n);
        let bounds = SearchBounds {
            base: any(3000),
            floor: any(2000),
            limit: 1 + any(65_535),
        };
        let mut search = if any(2) == 0 {
            MtuSearch::from_base(bounds, INTERVAL)
        } else {
            MtuSearch::from_limit(bounds, INTERVAL)
        };
        let mut limit = bounds.limit;
        let (mut now, mut next) = (NOW, SeqNum(any(u32::MAX)));
        for _ in 0..400 {
            now += Duration::from_millis(u64::from(any(2000)));
            let wait = Duration::from_millis(u64::from(any(1000)));
            match any(9) {
                0..=2 => {
                    if let Some(size) = search.due(now) {
                        assert!(size > search.low() && size <= search.high());
                        search.on_sent(next, next + size, size);
                        next += size;
                    }
                }
                3 | 4 => {
                    search.on_acknowledged(now, next - any(3));
                }
                5 => search.on_lost(now, wait),
                6 => search.on_retransmitted(next - any(70_000), next - any(70_000)),
                7 if any(4) == 0 => search.on_black_hole(now),
                7 if any(4) == 0 => {
                    search.undo_black_hole();
                }
                7 => search.on_timeout(now, wait),
                _ if any(4) == 0 => {
                    limit = 1 + any(65_535);
                    search.set_limit(limit);
                }
                _ => {}
            }
            assert!(search.low() <= search.high(), "seed {seed}: {search:?}");
            assert!(search.high() <= limit, "seed {seed}: {search:?}");
            assert!(search.low() > 0, "seed {seed}: {search:?}");
        }
        // Whatever happened, losses alone bring any search to its end, and acknowledgments another.
        for lost in [true, false] {
            now += INTERVAL * 2;
            search.on_lost(now, Duration::ZERO);
            now += INTERVAL * 2;
            let mut probes = 0;
            while let Some(size) = search.due(now) {
                search.on_sent(next, next + size, size);
                next += size;
                if lost {
                    search.on_lost(now, Duration::ZERO);
                } else {
                    search.on_acknowledged(now, next);
                }
                probes += 1;
                assert!(probes <= 20, "seed {seed}: {search:?}");
            }
        }
    }
}
