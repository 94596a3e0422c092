//! RTT and RTO estimation (RFC 6298; RFC 9260 6.3.1), shared by TCP and SCTP.
//!
//! Owns the smoothed round-trip time, its variation and the backoff of the retransmission timeout. Leaves to its
//! owner which samples are valid (Karn's algorithm, RFC 6298 3; timestamps, RFC 7323 4) and the timer itself.

use std::time::Duration;

/// The RTO's bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtoBounds {
    /// RTO before the first sample (RFC 6298 2.1, RFC 9260 6.3.1 C1).
    pub initial: Duration,
    /// Lower bound, and of what.
    pub min: LowerBound,
    /// Largest RTO, backoff included (RFC 6298 2.5, RFC 9260 6.3.1 C7).
    pub max: Duration,
}

/// What the RTO's lower bound is a bound of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LowerBound {
    /// Of the variation term: `RTO = SRTT + max(bound, 4 * RTTVAR)`, as Linux's TCP. It stands for the peer's delayed
    /// ACK, which comes on top of whatever the path takes; a bound of the sum would vanish on a path whose round trip is
    /// longer than the bound, and a steady path with a delaying receiver would then time out for nothing.
    Variation(Duration),
    /// Of the whole: `RTO = max(bound, SRTT + 4 * RTTVAR)`, SCTP's RTO.Min (RFC 9260 6.3.1 C6; RFC 6298 2.4).
    Whole(Duration),
}

/// The estimator: `RTO = SRTT + 4 * RTTVAR` within its [`RtoBounds`], doubled for each timeout since the last sample.
/// The clock's granularity is a nanosecond, so RFC 6298's G never matters.
#[derive(Clone, Debug)]
pub struct RttEstimator {
    bounds: RtoBounds,
    /// SRTT; `None` before the first sample.
    smoothed: Option<Duration>,
    /// RTTVAR.
    variation: Duration,
    minimum: Option<Duration>,
    /// How often the RTO has been doubled.
    backoff: u32,
    /// The RTO without backoff, within its upper bound: several timers ask for it with every packet.
    base: Duration,
}

impl RttEstimator {
    /// An estimator without samples.
    pub fn new(bounds: RtoBounds) -> Self {
        Self {
            bounds,
            smoothed: None,
            variation: Duration::ZERO,
            minimum: None,
            backoff: 0,
            base: bounds.initial.min(bounds.max),
        }
    }

    /// Takes a measured round trip (RFC 6298 2.2, 2.3; RFC 9260 6.3.1 C2, C3) and ends the backoff (5.7). Never one of a retransmitted
    /// segment, unless timestamps tell the copies apart (3).
    pub fn sample(&mut self, round_trip: Duration) {
        // A peer may echo any timestamp; one beyond the largest RTO cannot change the RTO any further.
        let round_trip = round_trip.min(self.bounds.max);
        self.backoff = 0;
        self.minimum = Some(self.minimum.map_or(round_trip, |min| min.min(round_trip)));
        let Some(smoothed) = self.smoothed else {
            self.smoothed = Some(round_trip);
            self.variation = round_trip / 2;
            self.update_base();
            return;
        };
        // RTTVAR first, with the old SRTT; beta is 1/4 and alpha 1/8.
        let deviation = smoothed.abs_diff(round_trip);
        self.variation = self.variation - self.variation / 4 + deviation / 4;
        self.smoothed = Some(smoothed - smoothed / 8 + round_trip / 8);
        self.update_base();
    }

    /// The present retransmission timeout, backoff included.
    #[inline]
    pub fn rto(&self) -> Duration {
        if self.backoff == 0 {
            return self.base;
        }
        self.rto_doubled(0)
    }

    /// The present retransmission timeout, doubled another `times` within its upper bound: for timers with a backoff of
    /// their own.
    pub fn rto_doubled(&self, times: u32) -> Duration {
        // 2^31 times the smallest base is years already: saturating there only spares the overflow.
        let doublings = self.backoff.saturating_add(times).min(31);
        self.base
            .saturating_mul(1 << doublings)
            .min(self.bounds.max)
    }

    /// Derives the RTO from the latest sample; before the first one it is as it was set.
    fn update_base(&mut self) {
        let Some(smoothed) = self.smoothed else {
            return;
        };
        let base = match self.bounds.min {
            LowerBound::Variation(min) => smoothed + (self.variation * 4).max(min).max(GRANULARITY),
            LowerBound::Whole(min) => (smoothed + (self.variation * 4).max(GRANULARITY)).max(min),
        };
        self.base = base.min(self.bounds.max);
    }

    /// Changes the bounds from now on, RTO.Initial included while there is no sample.
    pub fn set_bounds(&mut self, bounds: RtoBounds) {
        self.bounds = bounds;
        self.base = bounds.initial.min(bounds.max);
        self.update_base();
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
        if self.smoothed.is_none() {
            self.base = self.base.max(FALLBACK).min(self.bounds.max);
        }
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
            min: LowerBound::Variation(ms(200)),
            max: ms(120_000),
        })
    }

    /// SCTP's, with the defaults of RFC 9260 16.
    fn sctp_estimator() -> RttEstimator {
        RttEstimator::new(RtoBounds {
            initial: ms(1000),
            min: LowerBound::Whole(ms(1000)),
            max: ms(60_000),
        })
    }

    #[test]
    fn first_sample_sets_smoothed_and_half_of_it_as_variation() {
        // RFC 6298 2.1, 2.2. RFC 9293 MUST-18.
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
        // RFC 6298 2.3: RTTVAR = 3/4 * 100 + 1/4 * |200 - 280|, SRTT = 7/8 * 200 + 1/8 * 280. RFC 9293 MUST-18.
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
    fn lower_bound_of_the_whole_rounds_the_sum_up() {
        // RFC 9260 6.3.1 C2, C3, C6: round trips of a steady path, and the RTO they end in.
        for (round_trip, rto) in [
            (0, 1000),
            (1, 1000),
            (300, 1000),
            (1000, 1000),
            (2000, 2000),
        ] {
            let mut rtt = sctp_estimator();
            for _ in 0..200 {
                rtt.sample(ms(round_trip));
            }
            let above = rtt.rto().saturating_sub(ms(rto));
            assert!(
                rtt.rto() >= ms(rto) && above <= ms(1),
                "{round_trip}: {above:?}"
            );
        }
        let mut rtt = sctp_estimator();
        rtt.sample(ms(400));
        assert_eq!(rtt.rto(), ms(1200), "above the bound: SRTT + 4 * RTTVAR");
        rtt.sample(ms(400));
        assert_eq!(rtt.rto(), ms(1000));
    }

    #[test]
    fn variation_is_never_zero() {
        // RFC 9260 6.3.1 G1; RFC 6298 2.3.
        let mut rtt = RttEstimator::new(RtoBounds {
            initial: ms(1000),
            min: LowerBound::Whole(Duration::ZERO),
            max: ms(60_000),
        });
        rtt.sample(Duration::ZERO);
        assert_eq!(rtt.rto(), GRANULARITY);
    }

    #[test]
    fn bounds_may_change_under_way() {
        let mut rtt = sctp_estimator();
        let bounds = RtoBounds {
            initial: ms(500),
            min: LowerBound::Whole(ms(100)),
            max: ms(800),
        };
        rtt.set_bounds(bounds);
        assert_eq!((rtt.rto(), rtt.rto_doubled(1)), (ms(500), ms(800)));
        rtt.sample(ms(10));
        assert_eq!(rtt.rto(), ms(100));
        assert_eq!(rtt.rto_doubled(2), ms(400));
        rtt.back_off();
        assert_eq!((rtt.rto(), rtt.rto_doubled(u32::MAX)), (ms(200), ms(800)));
    }

    #[test]
    fn timeout_doubles_up_to_the_upper_bound_and_a_sample_ends_it() {
        // RFC 6298 2.5, 5.5, 5.7. RFC 9293 MUST-19.
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
