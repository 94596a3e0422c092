//! When routers are asked for advertisements (RFC 4861 6.3.7), with the pauses of RFC 7559.

use std::time::Duration;

use crate::ip::autoconf::between;
use crate::random::Random;
use crate::time::Instant;

/// Times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Least time before the first question. 250 ms: a link that has just come up does not carry at once, as at a bridge's
    /// port, and a question that is lost costs [`Self::initial_interval`].
    pub min_delay: Duration,
    /// Most time before the first question, chosen at random (RFC 4861 10 MAX_RTR_SOLICITATION_DELAY: 1 s).
    pub max_delay: Duration,
    /// Time between the first two (RFC 7559 2 IRT: 4 s). Each one is twice the last, a tenth more or less.
    pub initial_interval: Duration,
    /// Most time between two (RFC 7559 2 MRT: 3600 s).
    pub max_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            min_delay: Duration::from_millis(250),
            max_delay: Duration::from_secs(1),
            initial_interval: Duration::from_secs(4),
            max_interval: Duration::from_secs(3600),
        }
    }
}

/// Asks until there is a default router.
#[derive(Debug)]
pub struct RouterSolicitation {
    config: Config,
    random: Random,
    /// When the next question is due; `None`: no more.
    next: Option<Instant>,
    /// The time between the last two.
    interval: Duration,
    /// At least one question was put since the beginning.
    has_asked: bool,
    /// A default router has answered.
    has_found: bool,
}

impl RouterSolicitation {
    /// Begins, after a random delay.
    pub fn new(now: Instant, config: Config, random: Random) -> Self {
        let mut solicitation = Self {
            config,
            random,
            next: None,
            interval: Duration::ZERO,
            has_asked: false,
            has_found: false,
        };
        solicitation.restart(now);
        solicitation
    }

    /// Begins anew: the link may be another (RFC 4861 6.3.7).
    pub fn restart(&mut self, now: Instant) {
        let (least, most) = (self.config.min_delay, self.config.max_delay);
        let delay = between(&mut self.random, least.min(most), most);
        self.next = Some(now + delay);
        self.interval = Duration::ZERO;
        self.has_asked = false;
        self.has_found = false;
    }

    /// A router that serves as a default router has advertised itself: no more questions (RFC 7559 2.1). One is put in any
    /// case (RFC 4861 6.3.7: the answer may tell more).
    pub const fn handle_default_router(&mut self) {
        self.has_found = true;
        if self.has_asked {
            self.next = None;
        }
    }

    /// Whether a question is to be put now.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        if self.next.is_none_or(|next| now < next) {
            return false;
        }
        self.has_asked = true;
        self.interval = self.following_interval();
        self.next = (!self.has_found).then(|| now + self.interval);
        true
    }

    /// When [`Self::handle_timeout`] is due.
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// RFC 3315 14, which RFC 7559 2 takes over: RT = 2 RTprev + RAND RTprev, RAND between -0.1 and 0.1; MRT + RAND MRT
    /// at most.
    fn following_interval(&mut self) -> Duration {
        let tenth_around = |random: &mut Random, base: Duration, scale: u32| {
            let least = base * scale - base / 10;
            between(random, least, least + base / 5)
        };
        if self.interval.is_zero() {
            return tenth_around(&mut self.random, self.config.initial_interval, 1);
        }
        let next = tenth_around(&mut self.random, self.interval, 2);
        if next > self.config.max_interval {
            return tenth_around(&mut self.random, self.config.max_interval, 1);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(seed: u64) -> (Instant, RouterSolicitation) {
        let now = Instant::from_millis(5000);
        let random = Random::new(Some(seed));
        (now, RouterSolicitation::new(now, Config::default(), random))
    }

    fn next(solicitation: &mut RouterSolicitation) -> Instant {
        let at = solicitation.poll_timeout().expect("asks on");
        assert!(!solicitation.handle_timeout(at - Duration::from_nanos(1)));
        assert!(solicitation.handle_timeout(at));
        at
    }

    /// RFC 4861 6.3.7: within MAX_RTR_SOLICITATION_DELAY, not all hosts at once.
    #[test]
    fn the_first_question_comes_after_a_random_delay() {
        let delays: Vec<_> = (0..50)
            .map(|seed| {
                let (now, mut solicitation) = begin(seed);
                next(&mut solicitation) - now
            })
            .collect();
        let range = Duration::from_millis(250)..Duration::from_secs(1);
        assert!(delays.iter().all(|delay| range.contains(delay)));
        let earliest = delays.iter().min().expect("fifty");
        let latest = delays.iter().max().expect("fifty");
        assert!(*latest - *earliest > Duration::from_millis(600));
    }

    /// RFC 7559 2: 4 s, then twice the last, an hour at most, each a tenth more or less, without end.
    #[test]
    fn questions_become_rarer_and_never_end() {
        for seed in 0..20 {
            let (_, mut solicitation) = begin(seed);
            let mut last = next(&mut solicitation);
            let mut interval = Duration::ZERO;
            for question in 0..20 {
                let at = next(&mut solicitation);
                let passed = at - last;
                let (least, most) = match question {
                    0 => (3.6, 4.4),
                    _ if interval.as_secs_f64() < 1700.0 => {
                        (1.9 * interval.as_secs_f64(), 2.1 * interval.as_secs_f64())
                    }
                    _ => (3230.0, 3960.0),
                };
                let seconds = passed.as_secs_f64();
                assert!(
                    (least - 0.001..=most + 0.001).contains(&seconds),
                    "{question}: {seconds}"
                );
                (last, interval) = (at, passed);
            }
        }
    }

    /// RFC 7559 2.1, RFC 4861 6.3.7.
    #[test]
    fn a_default_router_ends_the_questions() {
        let (_, mut solicitation) = begin(1);
        next(&mut solicitation);
        solicitation.handle_default_router();
        assert_eq!(solicitation.poll_timeout(), None);
        assert!(!solicitation.handle_timeout(Instant::FAR_FUTURE));
    }

    /// RFC 4861 6.3.7: "SHOULD send at least one solicitation in the case where an advertisement is received prior to having
    /// sent a solicitation".
    #[test]
    fn one_question_is_put_though_a_router_was_heard_before() {
        let (_, mut solicitation) = begin(1);
        solicitation.handle_default_router();
        next(&mut solicitation);
        assert_eq!(solicitation.poll_timeout(), None);
    }

    #[test]
    fn a_link_that_comes_up_is_asked_anew() {
        let (_, mut solicitation) = begin(1);
        next(&mut solicitation);
        solicitation.handle_default_router();
        let now = Instant::from_millis(100_000);
        solicitation.restart(now);
        let at = next(&mut solicitation);
        assert!(at - now < Duration::from_secs(1));
        let second = next(&mut solicitation) - at;
        assert!(second < Duration::from_millis(4401), "{second:?}");
    }
}
