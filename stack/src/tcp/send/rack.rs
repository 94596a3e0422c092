//! RACK: what was sent before something that has arrived is lost once it is late (RFC 8985 6).
//!
//! Owns the most recent delivery, its round trip, the smallest round trip of late and the reordering window. The times
//! of single segments are in the scoreboard, the timer in `connection/timers`, what a loss leads to in `recovery`.

use std::time::Duration;

use crate::tcp::SeqNum;
use crate::tcp::send::delivered::{Delivered, Sent};
use crate::time::Instant;

/// What the reordering window depends on besides RACK's own state.
#[derive(Clone, Copy, Debug)]
pub struct WindowInput {
    /// Fast recovery or recovery from a timeout is under way.
    pub recovering: bool,
    /// RACK.segs_sacked.
    pub sacked_segments: u32,
    /// DupThresh.
    pub threshold: u32,
    /// SRTT.
    pub smoothed_rtt: Duration,
}

/// RACK's state of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Rack {
    /// RACK.xmit_ts and RACK.end_seq; `None` before the first delivery.
    newest: Option<Sent>,
    /// RACK.rtt.
    rtt: Duration,
    min_rtt: RecentMinimum,
    /// RACK.dsack_round: the round in which the window grew last ends here.
    dsack_round: Option<SeqNum>,
    /// RACK.reo_wnd_mult.
    multiplier: u16,
    /// RACK.reo_wnd_persist: recoveries until the window falls back.
    persist: u8,
    reordering_seen: bool,
}

impl Rack {
    /// Nothing delivered yet.
    pub const fn new() -> Self {
        Self {
            newest: None,
            rtt: Duration::ZERO,
            min_rtt: RecentMinimum::new(),
            dsack_round: None,
            multiplier: 1,
            persist: 0,
            reordering_seen: false,
        }
    }

    /// Takes what an ACK delivered (steps 2 and 3) and says whether it showed reordering for the first time.
    pub fn on_delivered(&mut self, now: Instant, delivered: &Delivered) -> bool {
        if let Some(newest) = delivered.newest {
            self.rtt = now - newest.at;
            if self.newest.is_none_or(|known| newest.is_after(known)) {
                self.newest = Some(newest);
            }
        }
        let first = delivered.reordered && !self.reordering_seen;
        self.reordering_seen |= delivered.reordered;
        first
    }

    /// An original arrived after its retransmission had been sent: so it had been overtaken.
    pub const fn on_reordering_found(&mut self) {
        self.reordering_seen = true;
    }

    /// Takes a measured round trip (step 1).
    pub fn on_round_trip(&mut self, now: Instant, round_trip: Duration) {
        self.min_rtt.sample(now, round_trip);
    }

    /// RACK.reordering_seen.
    pub const fn has_seen_reordering(&self) -> bool {
        self.reordering_seen
    }

    /// The smallest round trip of the last minutes (RACK.min_RTT); zero before the first.
    pub fn min_rtt(&self) -> Duration {
        self.min_rtt.get()
    }

    /// An ACK up to `snd_una` came, with or without a DSACK: once a round, the latter widens the window (step 4).
    pub fn on_duplicates(&mut self, snd_una: SeqNum, snd_nxt: SeqNum, reported: bool) {
        if self.dsack_round.is_some_and(|end| snd_una.at_or_after(end)) {
            self.dsack_round = None;
        }
        if reported && self.dsack_round.is_none() {
            self.dsack_round = Some(snd_nxt);
            self.multiplier = self.multiplier.saturating_add(1);
            self.persist = PERSISTENCE;
        }
    }

    /// A recovery is complete: after enough of them without a DSACK, the window falls back (step 4).
    pub fn on_recovered(&mut self) {
        self.persist = self.persist.saturating_sub(1);
        if self.persist == 0 {
            self.multiplier = 1;
        }
    }

    /// The latest delivery and how long after their sending earlier segments are lost: RACK.rtt + RACK.reo_wnd.
    pub fn rule(&self, input: WindowInput) -> Option<(Sent, Duration)> {
        Some((self.newest?, self.rtt + self.window(input)))
    }

    /// RACK.rtt + RACK.reo_wnd: what was sent longer ago was lost if the timer has fired (6.3).
    pub fn allowance(&self, input: WindowInput) -> Duration {
        self.rtt + self.window(input)
    }

    /// RACK.reo_wnd (step 4).
    pub fn window(&self, input: WindowInput) -> Duration {
        if !self.reordering_seen && (input.recovering || input.sacked_segments >= input.threshold) {
            return Duration::ZERO;
        }
        (self.min_rtt() / 4)
            .saturating_mul(u32::from(self.multiplier))
            .min(input.smoothed_rtt)
    }
}

impl Default for Rack {
    fn default() -> Self {
        Self::new()
    }
}

/// The smallest sample of the last five to ten minutes, in nanoseconds: two periods are kept, the present and the one
/// before. Linux looks back over five (`tcp_min_rtt_wlen`).
#[derive(Clone, Copy, Debug)]
struct RecentMinimum {
    since: Instant,
    present: u64,
    before: u64,
}

impl RecentMinimum {
    const fn new() -> Self {
        Self {
            since: Instant::ZERO,
            present: u64::MAX,
            before: u64::MAX,
        }
    }

    fn sample(&mut self, now: Instant, sample: Duration) {
        if self.since + PERIOD <= now {
            self.before = self.present;
            self.present = u64::MAX;
            self.since = now;
        }
        self.present = self.present.min(sample.as_nanos() as u64);
    }

    fn get(&self) -> Duration {
        match self.present.min(self.before) {
            u64::MAX => Duration::ZERO,
            nanos => Duration::from_nanos(nanos),
        }
    }
}

/// Recoveries without a DSACK after which the window falls back (RFC 8985 6.2, step 4).
const PERSISTENCE: u8 = 16;
/// Half of what [`RecentMinimum`] looks back.
const PERIOD: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn quiet() -> WindowInput {
        WindowInput {
            recovering: false,
            sacked_segments: 0,
            threshold: 3,
            smoothed_rtt: ms(100),
        }
    }

    fn delivered(at: u64, end: u32, reordered: bool) -> Delivered {
        Delivered {
            newest: Some(Sent {
                at: Instant::from_millis(at),
                end: SeqNum(end),
            }),
            reordered,
            ..Delivered::default()
        }
    }

    fn measured(round_trip: u64) -> Rack {
        let mut rack = Rack::new();
        rack.on_round_trip(Instant::ZERO, ms(round_trip));
        rack
    }

    #[test]
    fn latest_transmission_delivered_is_remembered_and_ties_go_by_sequence() {
        // RFC 8985 6.2, step 2.
        let mut rack = measured(10);
        let newest = |rack: &Rack| rack.rule(quiet()).unwrap().0;
        rack.on_delivered(Instant::from_millis(30), &delivered(20, 1000, false));
        rack.on_delivered(Instant::from_millis(31), &delivered(20, 900, false));
        assert_eq!(newest(&rack).end, SeqNum(1000));
        rack.on_delivered(Instant::from_millis(32), &delivered(20, 1100, false));
        assert_eq!(newest(&rack).end, SeqNum(1100));
        rack.on_delivered(Instant::from_millis(50), &delivered(19, 5000, false));
        assert_eq!(newest(&rack).at, Instant::from_millis(20));
        assert_eq!(rack.rtt, ms(31), "of the most recently delivered");
    }

    #[test]
    fn window_follows_what_was_seen() {
        // RFC 8985 6.2, step 4, RACK_update_reo_wnd.
        let recovering = WindowInput {
            recovering: true,
            ..quiet()
        };
        let sacked = |segments| WindowInput {
            sacked_segments: segments,
            ..quiet()
        };
        let mut rack = measured(40);
        assert_eq!(rack.window(quiet()), ms(10), "min_RTT / 4");
        assert_eq!(rack.window(sacked(2)), ms(10));
        assert_eq!(rack.window(sacked(3)), ms(0), "DupThresh");
        assert_eq!(rack.window(recovering), ms(0));
        assert!(rack.on_delivered(Instant::ZERO, &delivered(0, 1, true)));
        assert!(!rack.on_delivered(Instant::ZERO, &delivered(0, 1, true)));
        assert_eq!(rack.window(sacked(3)), ms(10), "reordering was seen");
        assert_eq!(rack.window(recovering), ms(10));
    }

    #[test]
    fn duplicates_widen_the_window_once_a_round_and_recoveries_narrow_it() {
        // RFC 8985 6.2, step 4.
        let mut rack = measured(40);
        rack.on_duplicates(SeqNum(0), SeqNum(100), true);
        rack.on_duplicates(SeqNum(50), SeqNum(200), true);
        assert_eq!(rack.window(quiet()), ms(20), "one round");
        rack.on_duplicates(SeqNum(100), SeqNum(300), true);
        assert_eq!(rack.window(quiet()), ms(30));
        for _ in 0..15 {
            rack.on_recovered();
        }
        assert_eq!(rack.window(quiet()), ms(30));
        rack.on_recovered();
        assert_eq!(rack.window(quiet()), ms(10));
        for round in 3..100 {
            rack.on_duplicates(SeqNum(round * 100), SeqNum((round + 1) * 100), true);
        }
        assert_eq!(rack.window(quiet()), ms(100), "SRTT at most");
    }

    #[test]
    fn smallest_round_trip_is_forgotten_after_a_while() {
        // RFC 8985 6.2, step 1: a windowed minimum adapts to a longer path.
        let mut rack = measured(10);
        let minute = |n: u64| Instant::from_millis(n * 60_000);
        rack.on_round_trip(minute(4), ms(50));
        assert_eq!(rack.min_rtt(), ms(10));
        rack.on_round_trip(minute(6), ms(50));
        assert_eq!(rack.min_rtt(), ms(10));
        rack.on_round_trip(minute(12), ms(50));
        assert_eq!(rack.min_rtt(), ms(50));
    }
}
