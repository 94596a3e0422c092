//! When the next segment may leave: a rate, and pieces that are small enough for it.
//!
//! Owns the time of the next departure. The rate is the congestion controller's or the user's, the timer is merged into
//! the connection's deadline, and what is sent is `connection/output`'s concern.
//!
//! A piece is what goes out at once: a super-packet of about a millisecond's worth of the rate, two segments at least (as
//! Linux's `tcp_tso_autosize`), so that a path sees short bursts and a fast sender few of them.

use std::time::Duration;

use crate::time::Instant;

/// The pacing of a connection that has one.
#[derive(Clone, Copy, Debug)]
pub struct Pacer {
    /// Octets per second, from the congestion controller and the user; `None` does not hold anything back.
    rate: Option<u64>,
    /// Nothing leaves before.
    next: Instant,
    /// Something wants to leave at `next`.
    waiting: bool,
    /// Something had to wait: how late it leaves then is made up for.
    behind: bool,
}

impl Pacer {
    /// Without a rate yet.
    pub const fn new() -> Self {
        Self {
            rate: None,
            next: Instant::ZERO,
            waiting: false,
            behind: false,
        }
    }

    /// Octets per second.
    pub const fn rate(&self) -> Option<u64> {
        self.rate
    }

    /// Sets [`Self::rate`] for what leaves from now on.
    pub fn set_rate(&mut self, rate: Option<u64>) {
        self.rate = rate;
        if rate.is_none() {
            *self = Self::new();
        }
    }

    /// The largest piece in octets, a multiple of `mss`.
    pub fn quantum(&self, mss: usize) -> usize {
        let Some(rate) = self.rate else {
            return usize::MAX / mss * mss;
        };
        let octets = usize::try_from(rate / PIECES_PER_SECOND).unwrap_or(usize::MAX);
        (octets / mss).max(MIN_SEGMENTS) * mss
    }

    /// Whether what wants to leave at `now` has to wait; if so [`Self::deadline`] tells until when.
    pub fn holds_back(&mut self, now: Instant) -> bool {
        self.waiting = self.next > now;
        self.behind |= self.waiting;
        self.waiting
    }

    /// When what had to wait may leave.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.then_some(self.next)
    }

    /// Whether [`Self::deadline`] has passed; told once.
    pub fn take_expired(&mut self, now: Instant) -> bool {
        let expired = self.waiting && self.next <= now;
        self.waiting &= !expired;
        expired
    }

    /// `octets` of data have left.
    pub fn on_sent(&mut self, now: Instant, octets: usize) {
        let Some(rate) = self.rate else {
            return;
        };
        // Timers are late: what waited for one makes up for that, what came on its own does not, or it would burst.
        let earliest = if self.behind { now - MAX_LATENESS } else { now };
        let nanos = (octets as u64).saturating_mul(1_000_000_000) / rate.max(1);
        let pause = Duration::from_nanos(nanos).min(LONGEST_PAUSE);
        self.next = self.next.max(earliest) + pause;
        self.waiting = false;
        self.behind &= self.next <= now;
    }
}

impl Default for Pacer {
    fn default() -> Self {
        Self::new()
    }
}

/// Linux's `sk_pacing_shift`: pieces of 1 / 1024 of a second.
const PIECES_PER_SECOND: u64 = 1024;
/// Linux's `tcp_min_tso_segs`: a receiver acknowledges two at once.
const MIN_SEGMENTS: usize = 2;
/// How late a timer may be without costing throughput: timers of a runtime have milliseconds.
const MAX_LATENESS: Duration = Duration::from_millis(2);
/// However low the rate was estimated, it is tried again by then.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: usize = 1000;

    fn pacer(rate: u64) -> Pacer {
        let mut pacer = Pacer::new();
        pacer.set_rate(Some(rate));
        pacer
    }

    fn micros(micros: u64) -> Instant {
        Instant::from_nanos(micros * 1000)
    }

    #[test]
    fn pieces_are_a_millisecond_of_the_rate_but_two_segments_at_least() {
        for (rate, quantum) in [
            (1_000, 2000),
            (1_024_000, 2000),
            (10_240_000, 10_000),
            (10_250_000, 10_000),
            (102_400_000, 100_000),
        ] {
            assert_eq!(pacer(rate).quantum(MSS), quantum, "{rate}");
        }
        assert!(Pacer::new().quantum(MSS) > 1 << 30);
    }

    #[test]
    fn what_leaves_early_has_to_wait_and_what_leaves_in_time_not() {
        let mut pacer = pacer(1_000_000);
        assert!(!pacer.holds_back(micros(0)));
        pacer.on_sent(micros(0), 2000);
        assert_eq!(pacer.deadline(), None, "nothing else wants to leave");
        assert!(pacer.holds_back(micros(1999)));
        assert_eq!(pacer.deadline(), Some(micros(2000)));
        assert!(!pacer.take_expired(micros(1999)));
        assert!(pacer.take_expired(micros(2000)));
        assert!(!pacer.take_expired(micros(2000)), "told once");
        assert!(!pacer.holds_back(micros(2000)));
    }

    #[test]
    fn late_timers_are_made_up_for_within_bounds_and_silence_is_not() {
        for (waited, late, next) in [
            (true, 2500, 4000),
            (true, 3999, 4000),
            (true, 9000, 9000),
            (false, 9000, 11_000),
        ] {
            let mut pacer = pacer(1_000_000);
            pacer.on_sent(micros(0), 2000);
            if waited {
                assert!(pacer.holds_back(micros(1)));
            }
            assert!(!pacer.holds_back(micros(late)));
            pacer.on_sent(micros(late), 2000);
            assert_eq!(pacer.next, micros(next), "{waited} {late}");
        }
    }

    #[test]
    fn hopeless_rates_pause_for_a_second() {
        let mut pacer = pacer(0);
        pacer.on_sent(micros(0), 65_536);
        assert!(pacer.holds_back(micros(999_999)));
        assert!(!pacer.holds_back(micros(1_000_000)));
    }
}
