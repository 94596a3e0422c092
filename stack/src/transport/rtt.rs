//! RTT and RTO estimation (RFC 6298), shared by TCP and SCTP.
//!
//! Owns the smoothed round-trip time, its variation and the backoff of the retransmission timeout. Leaves to its
//! owner which samples are valid (Karn's algorithm, RFC 6298 3; timestamps, RFC 7323 4) and the timer itself.

use std::time::Duration;

/// The RTO's bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtoBounds {
    /// RTO before the first sample (RFC 6298 2.1).
    pub initial: Duration,
    /// Smallest variation term, see [`RttEstimator`].
    pub min: Duration,
    /// Largest RTO, backoff included (RFC 6298 2.5).
    pub max: Duration,
}

/// The estimator.
///
/// `RTO = SRTT + max(min, 4 * RTTVAR)`, as Linux: the lower bound is one of the *variation term*, not of the sum.
/// It stands for the peer's delayed ACK, which comes on top of whatever the path takes; a bound of the sum would
/// vanish on a path whose round trip is longer than the bound, and a steady path with a delaying receiver would
/// then time out for nothing. The clock's granularity is a nanosecond, so RFC 6298's G never matters.
#[derive(Clone, Debug)]
pub struct RttEstimator {
    bounds: RtoBounds,
    /// SRTT; `None` before the first sample.
    smoothed: Option<Duration>,
    /// RTTVAR.
    variation: Duration,
    minimum: Option<Duration>,
    /// RTO before the first sample.
    initial: Duration,
    /// How often the RTO has been doubled.
    backoff: u32,
}

impl RttEstimator {
    /// An estimator without samples.
    pub fn new(bounds: RtoBounds) -> Self {
        Self {
            bounds,
            smoothed: None,
            variation: Duration::ZERO,
            minimum: None,
            initial: bounds.initial,
            backoff: 0,
        }
    }

    /// Takes a measured round trip (RFC 6298 2.2, 2.3) and ends the backoff (5.7). Never one of a retransmitted
    /// segment, unless timestamps tell the copies apart (3).
    pub fn sample(&mut self, round_trip: Duration) {
        // A peer may echo any timestamp; one beyond the largest RTO cannot change the RTO any further.
        let round_trip = round_trip.min(self.bounds.max);
        self.backoff = 0;
        self.minimum = Some(self.minimum.map_or(round_trip, |min| min.min(round_trip)));
        let Some(smoothed) = self.smoothed else {
            self.smoothed = Some(round_trip);
            self.variation = round_trip / 2;
            return;
        };
        // RTTVAR first, with the old SRTT; beta is 1/4 and alpha 1/8.
        let deviation = smoothed.abs_diff(round_trip);
        self.variation = self.variation - self.variation / 4 + deviation / 4;
        self.smoothed = Some(smoothed - smoothed / 8 + round_trip / 8);
    }

    /// The present retransmission timeout, backoff included.
    pub fn rto(&self) -> Duration {
        let base = match self.smoothed {
            None => self.initial,
            Some(smoothed) => smoothed + (self.variation * 4).max(self.bounds.min).max(GRANULARITY),
        };
        // 2^31 times the smallest base is years already: saturating there only spares the overflow.
        base.saturating_mul(1 << self.backoff.min(31))
            .min(self.bounds.max)
    }

    /// Doubles the RTO: the timer has fired (RFC 6298 5.5).
    pub fn back_off(&mut self) {
        // Beyond the largest RTO there is nothing to double; stopping there lets a later change of SRTT show.
        if self.rto() < self.bounds.max {
            self.backoff += 1;
        }
    }

    /// How often the RTO has been doubled since the last sample.
    pub fn backoff(&self) -> u32 {
        self.backoff
    }

    /// The SYN timed out: data begins with an RTO of 3 s unless a sample comes first (RFC 6298 5.7). Ends the backoff.
    pub fn fall_back(&mut self) {
        self.initial = self.initial.max(FALLBACK).min(self.bounds.max);
        self.backoff = 0;
    }

    /// SRTT; `None` before the first sample.
    pub fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// RTTVAR; zero before the first sample.
    pub fn variation(&self) -> Duration {
        self.variation
    }

    /// The smallest sample of the connection's life.
    pub fn minimum(&self) -> Option<Duration> {
        self.minimum
    }
}

/// G of RFC 6298 2: the clock counts nanoseconds.
const GRANULARITY: Duration = Duration::from_nanos(1);

/// RTO for data after a SYN was retransmitted (RFC 6298 5.7).
const FALLBACK: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn estimator() -> RttEstimator {
        RttEstimator::new(RtoBounds {
            initial: ms(1000),
            min: ms(200),
            max: ms(120_000),
        })
    }

    #[test]
    fn first_sample_sets_smoothed_and_half_of_it_as_variation() {
        // RFC 6298 2.1, 2.2.
        let mut rtt = estimator();
        assert_eq!(
            (rtt.rto(), rtt.smoothed(), rtt.minimum()),
            (ms(1000), None, None)
        );
        rtt.sample(ms(200));
        assert_eq!(rtt.smoothed(), Some(ms(200)));
        assert_eq!(rtt.variation(), ms(100));
        assert_eq!(rtt.rto(), ms(600), "SRTT + 4 * RTTVAR");
    }

    #[test]
    fn later_samples_are_weighted_an_eighth_and_a_quarter() {
        // RFC 6298 2.3: RTTVAR = 3/4 * 100 + 1/4 * |200 - 280|, SRTT = 7/8 * 200 + 1/8 * 280.
        let mut rtt = estimator();
        rtt.sample(ms(200));
        rtt.sample(ms(280));
        assert_eq!(rtt.variation(), ms(95));
        assert_eq!(rtt.smoothed(), Some(ms(210)));
        rtt.sample(ms(120));
        assert_eq!(rtt.minimum(), Some(ms(120)));
    }

    #[test]
    fn steady_path_keeps_the_lower_bound_above_its_round_trip() {
        // The bound stands for the peer's delayed ACK, whatever the path's length.
        for round_trip in [0, 1, 50, 300, 2000] {
            let mut rtt = estimator();
            for _ in 0..200 {
                rtt.sample(ms(round_trip));
            }
            let above = rtt.rto() - ms(round_trip);
            assert!(above >= ms(199) && above <= ms(201), "{above:?}");
        }
    }

    #[test]
    fn timeout_doubles_up_to_the_upper_bound_and_a_sample_ends_it() {
        // RFC 6298 2.5, 5.5, 5.7.
        let mut rtt = estimator();
        for expected in [1, 2, 4, 8, 16, 32, 64, 120, 120, 120] {
            assert_eq!(rtt.rto(), Duration::from_secs(expected));
            rtt.back_off();
        }
        for _ in 0..1000 {
            rtt.back_off();
        }
        assert_eq!(rtt.rto(), ms(120_000));
        rtt.sample(ms(100));
        assert_eq!((rtt.backoff(), rtt.rto()), (0, ms(300)));
    }

    #[test]
    fn data_after_a_lost_syn_starts_with_three_seconds() {
        // RFC 6298 5.7.
        let mut rtt = estimator();
        rtt.back_off();
        rtt.fall_back();
        assert_eq!(rtt.rto(), ms(3000));
        rtt.sample(ms(100));
        assert_eq!(rtt.rto(), ms(300));
    }

    #[test]
    fn absurd_samples_do_not_overflow() {
        let mut rtt = estimator();
        for sample in [Duration::MAX, Duration::ZERO, Duration::from_secs(1 << 40)] {
            rtt.sample(sample);
            assert!(rtt.rto() <= ms(120_000));
        }
    }
}
