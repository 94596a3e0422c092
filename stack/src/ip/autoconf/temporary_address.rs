//! Temporary addresses: how long each lives, and when the next one is made (RFC 8981 3.4 to 3.8).

use std::time::Duration;

use crate::ip::autoconf::between;
use crate::random::Random;
use crate::time::Instant;

/// Times and limits. Defaults are those of RFC 8981 3.8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Most time an address is valid (TEMP_VALID_LIFETIME: 2 days).
    pub valid_lifetime: Duration,
    /// Most time an address is preferred (TEMP_PREFERRED_LIFETIME: 1 day), less a random time; at most
    /// [`Self::valid_lifetime`].
    pub preferred_lifetime: Duration,
    /// How long before an address is deprecated the next one is made (REGEN_ADVANCE: 2 s and what duplicate detection of
    /// [`Self::idgen_retries`] addresses takes, 5 s).
    pub regen_advance: Duration,
    /// Addresses that are tried anew when somebody else has the first (TEMP_IDGEN_RETRIES: 3).
    pub idgen_retries: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            valid_lifetime: Duration::from_secs(2 * 24 * 3600),
            preferred_lifetime: Duration::from_secs(24 * 3600),
            regen_advance: Duration::from_secs(5),
            idgen_retries: 3,
        }
    }
}

/// How long one address may last, whatever routers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// CREATION_TIME + TEMP_VALID_LIFETIME.
    pub(super) valid: Instant,
    /// CREATION_TIME + TEMP_PREFERRED_LIFETIME - DESYNC_FACTOR.
    pub(super) preferred: Instant,
}

impl Config {
    /// Those of an address that is made now.
    pub(super) fn bounds(&self, now: Instant, random: &mut Random) -> Bounds {
        // MAX_DESYNC_FACTOR, and smaller than what is left of the preferred lifetime (RFC 8981 3.8).
        let preferred_lifetime = self.preferred_lifetime.min(self.valid_lifetime);
        let most = preferred_lifetime.saturating_sub(self.regen_advance);
        let most = most.min(preferred_lifetime * 2 / 5);
        let desync = between(random, Duration::ZERO, most);
        Bounds {
            valid: now + self.valid_lifetime,
            preferred: now + (preferred_lifetime - desync),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8981 3.8: DESYNC_FACTOR is at most 0.4 of TEMP_PREFERRED_LIFETIME, and other for each address.
    #[test]
    fn preferred_lifetimes_differ() {
        let config = Config::default();
        let now = Instant::from_millis(7);
        let mut random = Random::new(Some(1));
        let day = 24 * 3600;
        let lifetimes: Vec<u64> = (0..100)
            .map(|_| {
                let bounds = config.bounds(now, &mut random);
                assert_eq!(bounds.valid - now, Duration::from_secs(2 * day));
                (bounds.preferred - now).as_secs()
            })
            .collect();
        let (least, most) = (lifetimes.iter().min(), lifetimes.iter().max());
        let (least, most) = (*least.expect("some"), *most.expect("some"));
        assert!(least >= day * 6 / 10 && most <= day, "{least} {most}");
        assert!(most - least > day * 3 / 10, "{least} {most}");
    }

    /// RFC 8981 3.8: "It MUST be smaller than (TEMP_PREFERRED_LIFETIME - REGEN_ADVANCE)".
    #[test]
    fn short_lifetimes_leave_time_for_the_next_address() {
        let config = Config {
            preferred_lifetime: Duration::from_secs(8),
            ..Config::default()
        };
        let mut random = Random::new(Some(1));
        for _ in 0..100 {
            let bounds = config.bounds(Instant::ZERO, &mut random);
            assert!(bounds.preferred - Instant::ZERO > config.regen_advance);
        }
    }
}
