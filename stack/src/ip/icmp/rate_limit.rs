//! How many ICMP errors may leave: a token bucket for the stack and one per destination (RFC 1812 4.3.2.8, RFC 4443
//! 2.4 (f)).
//!
//! The numbers are Linux's: 1000 a second with bursts of 50 for the whole stack (`icmp_msgs_per_sec`,
//! `icmp_msgs_burst`), one a second with bursts of 6 per destination (`icmp_ratelimit`).

use std::hash::Hasher;
use std::net::IpAddr;
use std::time::Duration;

use crate::random::{HashKey, Random};
use crate::time::Instant;

/// Limits of a [`RateLimiter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages per second, all destinations together. 0 lets nothing out beyond the first burst.
    pub stack_rate: u32,
    /// Messages at once, all destinations together.
    pub stack_burst: u32,
    /// Time that one message to the same destination takes; zero switches the limit per destination off.
    pub destination_interval: Duration,
    /// Messages at once to the same destination.
    pub destination_burst: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            stack_rate: 1000,
            stack_burst: 50,
            destination_interval: Duration::from_secs(1),
            destination_burst: 6,
        }
    }
}

/// Decides which ICMP errors are sent. Of constant size: destinations share buckets by a keyed hash.
#[derive(Debug)]
pub struct RateLimiter {
    limits: Limits,
    stack: Bucket,
    destinations: Box<[Bucket]>,
    key: HashKey,
    random: Random,
}

impl RateLimiter {
    /// A limiter with full buckets.
    pub fn new(limits: Limits, mut random: Random) -> Self {
        Self {
            limits,
            stack: Bucket::full(limits.stack_burst),
            destinations: vec![Bucket::full(limits.destination_burst); BUCKETS].into(),
            key: HashKey::new(&mut random),
            random,
        }
    }

    /// Whether an error may be sent to `destination` now; if so it is counted.
    pub fn permit(&mut self, now: Instant, destination: IpAddr) -> bool {
        let limits = self.limits;
        let index = self.bucket_of(destination);
        let of_destination = &mut self.destinations[index];
        of_destination.refill(now, limits.destination_interval, limits.destination_burst);
        if of_destination.tokens == 0 && !limits.destination_interval.is_zero() {
            return false;
        }
        let interval = match limits.stack_rate {
            0 => Duration::MAX,
            rate => Duration::from_secs(1) / rate,
        };
        self.stack.refill(now, interval, limits.stack_burst);
        if self.stack.tokens == 0 {
            return false;
        }
        of_destination.take(1);
        // A limit shared by all destinations tells a forger whether his probes were answered, and with that which ports
        // are open (SAD DNS, CVE-2020-25705). Taking one to three tokens hides the count, as Linux does.
        self.stack
            .take(1 + self.random.below(3).min(self.stack.tokens / 8));
        true
    }

    fn bucket_of(&self, destination: IpAddr) -> usize {
        let mut hasher = self.key.hasher();
        match destination {
            IpAddr::V4(v4) => hasher.write(&v4.octets()),
            // Somebody with an IPv6 subnet has all its addresses.
            IpAddr::V6(v6) => hasher.write(&v6.octets()[..8]),
        }
        (hasher.finish() % BUCKETS as u64) as usize
    }
}

/// How many buckets destinations share; 16 octets each.
const BUCKETS: usize = 256;

/// Tokens that come in at a rate, up to a burst.
#[derive(Clone, Copy, Debug)]
pub(in crate::ip) struct Bucket {
    pub(in crate::ip) tokens: u32,
    /// When the last token counted came in.
    refilled: Instant,
}

impl Bucket {
    pub(in crate::ip) const fn full(tokens: u32) -> Self {
        Self {
            tokens,
            refilled: Instant::ZERO,
        }
    }

    /// Adds a token per `interval` gone by, to at most `burst`.
    pub(in crate::ip) fn refill(&mut self, now: Instant, interval: Duration, burst: u32) {
        let elapsed = now.saturating_since(self.refilled);
        let Some(earned) = elapsed.as_nanos().checked_div(interval.as_nanos()) else {
            return;
        };
        if earned >= u128::from(burst - self.tokens.min(burst)) {
            self.tokens = burst;
            self.refilled = now;
            return;
        }
        // Fewer than `burst`, so it fits; what is left of an interval is kept.
        let earned = earned as u32;
        self.tokens += earned;
        self.refilled += interval * earned;
    }

    pub(in crate::ip) fn take(&mut self, tokens: u32) {
        self.tokens = self.tokens.saturating_sub(tokens);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(limits: Limits) -> RateLimiter {
        RateLimiter::new(limits, Random::new(Some(7)))
    }

    fn permitted(limiter: &mut RateLimiter, now: Instant, destination: &str, tries: u32) -> u32 {
        let destination = destination.parse().unwrap();
        (0..tries)
            .map(|_| u32::from(limiter.permit(now, destination)))
            .sum()
    }

    #[test]
    fn one_destination_gets_a_burst_and_then_one_a_second() {
        let mut limiter = limiter(Limits::default());
        let start = Instant::from_millis(5_000_000);
        assert_eq!(permitted(&mut limiter, start, "192.0.2.1", 100), 6);
        let halfway = start + Duration::from_millis(500);
        assert_eq!(permitted(&mut limiter, halfway, "192.0.2.1", 100), 0);
        let next = start + Duration::from_secs(1);
        assert_eq!(permitted(&mut limiter, next, "192.0.2.1", 100), 1);
        let later = start + Duration::from_millis(3500);
        assert_eq!(permitted(&mut limiter, later, "192.0.2.1", 100), 2);
        assert_eq!(permitted(&mut limiter, later, "192.0.2.2", 100), 6);
        // The half second left over counts.
        let last = start + Duration::from_secs(4);
        assert_eq!(permitted(&mut limiter, last, "192.0.2.1", 100), 1);
    }

    #[test]
    fn a_subnet_of_ipv6_shares_a_bucket() {
        let mut limiter = limiter(Limits::default());
        let now = Instant::ZERO;
        assert_eq!(permitted(&mut limiter, now, "2001:db8::1", 3), 3);
        assert_eq!(permitted(&mut limiter, now, "2001:db8::2", 9), 3);
    }

    #[test]
    fn all_destinations_together_are_limited() {
        let mut limiter = limiter(Limits::default());
        let mut now = Instant::from_millis(10_000);
        let burst = |limiter: &mut RateLimiter, now| {
            (0..=255u8)
                .map(|host| permitted(limiter, now, &format!("192.0.{host}.1"), 1))
                .sum::<u32>()
        };
        // Each takes one to three tokens of 50, and the last ones one.
        let at_once = burst(&mut limiter, now);
        assert!((50 / 3..=50).contains(&at_once), "{at_once}");
        // 10 ms bring 10 tokens.
        now += Duration::from_millis(10);
        let refilled = burst(&mut limiter, now);
        assert!((3..=10).contains(&refilled), "{refilled}");
        assert_eq!(burst(&mut limiter, now), 0);
    }

    #[test]
    fn no_rate_and_no_interval_are_possible() {
        let now = Instant::from_millis(1);
        let mut closed = limiter(Limits {
            stack_rate: 0,
            stack_burst: 0,
            ..Limits::default()
        });
        assert_eq!(
            permitted(&mut closed, Instant::FAR_FUTURE, "192.0.2.1", 5),
            0
        );
        let mut open = limiter(Limits {
            stack_rate: 1_000_000_000,
            stack_burst: 1_000_000,
            destination_interval: Duration::ZERO,
            destination_burst: 0,
        });
        assert_eq!(permitted(&mut open, now, "192.0.2.1", 1000), 1000);
    }
}
