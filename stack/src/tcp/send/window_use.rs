//! How much of the congestion window is in use: one that was not has not been tested, and neither grows nor stays.
//!
//! Owns the highest flight of a round and of an RTO. What the window becomes is the congestion controller's concern.
//! RFC 7661's purpose by Linux's means (`tcp_cwnd_validate`): a round in which sending stopped for want of window has
//! used it, whatever the flight is in the middle of a batch of ACKs; and after an RTO of less, half of what was not used
//! is given up (RFC 2861 3.2), instead of measuring a rate.

use std::time::Duration;

use crate::tcp::SeqNum;
use crate::time::Instant;

/// The use of the congestion window.
#[derive(Clone, Copy, Debug)]
pub struct WindowUse {
    /// Sending stopped for want of window in this round.
    limited: bool,
    /// Octets outstanding at most in this round.
    peak: u32,
    /// SND.NXT when `limited` and `peak` were taken last; the round is over when that is acknowledged.
    round_end: SeqNum,
    /// Octets outstanding at most since `since`.
    used: u32,
    /// When the window was in full use last, or looked at.
    since: Instant,
}

/// New data was sent, or would have been, had there been window.
#[derive(Clone, Copy, Debug)]
pub struct Sending {
    /// Now.
    pub now: Instant,
    /// SND.UNA.
    pub snd_una: SeqNum,
    /// SND.NXT.
    pub snd_nxt: SeqNum,
    /// Octets outstanding.
    pub outstanding: u32,
    /// There was more to send than the window permits.
    pub limited: bool,
}

impl WindowUse {
    /// A connection of which nothing is known yet.
    pub const fn new(now: Instant, start: SeqNum) -> Self {
        Self {
            limited: false,
            peak: 0,
            round_end: start,
            used: 0,
            since: now,
        }
    }

    /// Sending stopped in this round for want of window.
    pub const fn is_limited(&self) -> bool {
        self.limited
    }

    /// Octets outstanding at most in this round.
    pub const fn peak(&self) -> u32 {
        self.peak
    }

    /// Takes a chance to send.
    #[inline]
    pub fn on_sending(&mut self, sending: Sending) {
        let Sending { outstanding, .. } = sending;
        if sending.limited
            || sending.snd_una.at_or_after(self.round_end)
            || (!self.limited && outstanding > self.peak)
        {
            self.limited = sending.limited;
            self.peak = outstanding;
            self.round_end = sending.snd_nxt;
        }
        if self.limited {
            self.used = 0;
            self.since = sending.now;
        } else {
            self.used = self.used.max(outstanding);
        }
    }

    /// Octets that were outstanding at most for the last `rto` or longer, if the window was not full all the while: the
    /// rest of it has not been tested. Begins anew then.
    #[inline]
    pub fn take_unused(&mut self, now: Instant, rto: Duration) -> Option<u32> {
        if self.limited || now - self.since < rto {
            return None;
        }
        self.since = now;
        Some(std::mem::take(&mut self.used))
    }

    /// The window has been set anew, for another reason.
    pub const fn restart(&mut self, now: Instant) {
        self.used = 0;
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sending(millis: u64, acked: u32, sent: u32, limited: bool) -> Sending {
        Sending {
            now: Instant::from_millis(millis),
            snd_una: SeqNum(acked),
            snd_nxt: SeqNum(sent),
            outstanding: sent - acked,
            limited,
        }
    }

    #[test]
    fn window_that_was_full_in_a_round_counts_as_used_until_the_round_is_over() {
        // Linux tcp_cwnd_validate: else an ACK in the middle of a burst would find it unused.
        let mut window = WindowUse::new(Instant::ZERO, SeqNum(0));
        window.on_sending(sending(0, 0, 1000, true));
        window.on_sending(sending(10, 500, 1200, false));
        assert!(window.is_limited());
        window.on_sending(sending(100, 1000, 1300, false));
        assert!(!window.is_limited());
        assert_eq!(window.peak(), 300);
        window.on_sending(sending(110, 1100, 1350, false));
        assert_eq!(window.peak(), 300, "the most of the round");
        window.on_sending(sending(120, 1100, 1500, false));
        assert_eq!(window.peak(), 400);
    }

    #[test]
    fn unused_window_shows_after_a_timeout_of_less() {
        // RFC 2861 3.2.
        let rto = Duration::from_millis(300);
        let mut window = WindowUse::new(Instant::ZERO, SeqNum(0));
        window.on_sending(sending(100, 0, 700, false));
        window.on_sending(sending(200, 700, 1000, false));
        assert_eq!(window.take_unused(Instant::from_millis(299), rto), None);
        let at = Instant::from_millis(300);
        assert_eq!(window.take_unused(at, rto), Some(700));
        assert_eq!(window.take_unused(at, rto), None, "begins anew");
        window.on_sending(sending(500, 1000, 5000, true));
        let at = Instant::from_millis(900);
        assert_eq!(window.take_unused(at, rto), None, "full");
    }
}
