//! Rounds, round trips and what they mean (RFC 9406 4.2), and what CUBIC makes of it.

use super::*;
use crate::time::Instant;
use crate::transport::congestion::{Controller, Cubic, Timeout};

const MSS: usize = 1000;

/// A sender whose marks wrap soon.
struct Sender {
    cubic: Cubic,
    now: Instant,
    acknowledged: u32,
}

impl Sender {
    fn new() -> Self {
        Self {
            cubic: Cubic::new(MSS, 10),
            now: Instant::ZERO,
            acknowledged: u32::MAX - 12_345,
        }
    }

    /// A round in which the window is sent and acknowledged, an ACK a segment, each of which measures `rtt`
    /// milliseconds. The factor by which the window has grown.
    fn round(&mut self, rtt: u64) -> f64 {
        let before = self.cubic.cwnd();
        let segments = before / MSS;
        let mut sent = self.acknowledged.wrapping_add((segments * MSS) as u32);
        for left in (1..=segments).rev() {
            self.now += Duration::from_micros(1);
            self.acknowledged = self.acknowledged.wrapping_add(MSS as u32);
            self.cubic.on_ack(&AckSample {
                now: self.now,
                bytes_acked: MSS,
                in_flight: left * MSS,
                acknowledged: self.acknowledged,
                sent,
                rtt: Some(Duration::from_millis(rtt)),
                smoothed_rtt: Duration::from_millis(rtt),
                application_limited: false,
            });
            sent = sent.wrapping_add(MSS as u32);
        }
        // What was sent meanwhile belongs to the next round.
        self.acknowledged = sent.wrapping_sub((segments * MSS) as u32);
        self.cubic.cwnd() as f64 / before as f64
    }
}

#[test]
fn slow_start_doubles_while_round_trips_stay() {
    let mut sender = Sender::new();
    for rtt in [100, 103, 100, 111, 100, 102] {
        // An eighth, but 4 to 16 ms: 12.5 ms here.
        let growth = sender.round(rtt);
        assert!((1.95..=2.0).contains(&growth), "{rtt} ms: {growth}");
    }
    assert!(sender.cubic.in_slow_start());
}

#[test]
fn lengthened_round_trips_slow_the_growth_down_and_then_end_it() {
    // RFC 9406 4.2: a quarter of the growth for five rounds, the one in which it begins included, then ssthresh = cwnd.
    for (before, grown) in [(8, 12), (100, 113), (400, 416)] {
        let mut sender = Sender::new();
        sender.round(before);
        sender.round(before);
        sender.round(before);
        // Seven samples are none; from the eighth on the growth is conservative.
        sender.round(grown);
        assert!(sender.cubic.in_slow_start());
        for round in 2..=5 {
            assert!(sender.cubic.in_slow_start(), "round {round}");
            let growth = sender.round(grown);
            assert!((1.2..1.3).contains(&growth), "{growth} in round {round}");
        }
        sender.round(grown);
        assert!(!sender.cubic.in_slow_start(), "{before} and {grown} ms");
        assert!(sender.cubic.ssthresh() < usize::MAX);
    }
}

#[test]
fn growth_below_the_threshold_is_none() {
    for (before, grown) in [(8, 11), (100, 112), (400, 415)] {
        let mut sender = Sender::new();
        for rtt in [before, before, before, grown, grown, grown] {
            let growth = sender.round(rtt);
            assert!(growth > 1.9, "{before} and {rtt} ms: {growth}");
        }
    }
}

#[test]
fn jitter_that_passes_resumes_slow_start() {
    // RFC 9406 4.2: a round trip below that at which conservative slow start began.
    let mut sender = Sender::new();
    for rtt in [100, 100, 120, 120] {
        sender.round(rtt);
    }
    assert!(sender.round(120) < 1.3);
    sender.round(119);
    assert!(sender.round(119) > 1.95);
    assert!(sender.cubic.in_slow_start());
    assert_eq!(sender.cubic.ssthresh(), usize::MAX);
}

#[test]
fn few_samples_of_a_round_mean_nothing() {
    // RFC 9406 4.3: eight, while a window of ten segments acknowledged by twos gives five.
    let mut hystart = HyStart::new();
    let mut mark = 0u32;
    for rtt in [100, 500, 900, 1300, 1700] {
        for _ in 0..7 {
            mark += 1;
            let growth = hystart.on_ack(&AckSample {
                now: Instant::ZERO,
                bytes_acked: 1,
                in_flight: 7,
                acknowledged: mark,
                sent: mark + 6,
                rtt: Some(Duration::from_millis(rtt)),
                smoothed_rtt: Duration::ZERO,
                application_limited: false,
            });
            assert_eq!(growth, Growth::Full, "{rtt} ms");
        }
    }
}

#[test]
fn only_the_first_slow_start_is_watched() {
    // RFC 9406 4.3: later ones end at the threshold that a loss has found.
    let mut sender = Sender::new();
    sender.round(100);
    sender.round(100);
    let now = sender.now;
    sender
        .cubic
        .on_retransmission_timeout(now, 1_000_000, Timeout::First);
    sender.cubic.set_cwnd(20 * MSS);
    for rtt in [200, 400] {
        let ssthresh = sender.cubic.ssthresh();
        sender.round(rtt);
        assert_eq!(sender.cubic.ssthresh(), ssthresh);
    }
}
