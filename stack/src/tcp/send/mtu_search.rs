//! Path MTU discovery that asks nobody but the peer: segments larger than the rest, and whether they arrive (RFC 4821).
//!
//! Owns what is known of the path (`low` passes, above `high` nothing does), the probe under way, and when the next is in
//! order. Whether there is data and window for a probe, sending it, and telling its loss from that of anything else are
//! `connection`'s and `recovery`'s.
//!
//! All sizes are those of IP packets in octets, headers included.
//!
//! ```text
//!   floor ≤ low ─── next probe half way ─── high ≤ limit (interface, ICMP, the peer's MSS)
//!            │                               │
//!            └▶ raised by a probe that        └▶ lowered below a probe that alone was lost;
//!               was acknowledged                  back to the limit after an interval
//! ```
//! `low` is at once the size in use (eff_pmtu): what has not been shown to pass is not used for anything but a probe.

use std::time::Duration;

use crate::tcp::SeqNum;
use crate::time::Instant;

/// What a search depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchBounds {
    /// Where a search begins after a black hole (the initial search_low of RFC 4821 7.2).
    pub base: u32,
    /// Never less, however many black holes there are (RFC 4821 7.7).
    pub floor: u32,
    /// What the interface, ICMP and the peer's MSS permit (the initial search_high).
    pub limit: u32,
}

impl SearchBounds {
    fn floor(&self) -> u32 {
        self.floor.min(self.limit)
    }

    fn base(&self) -> u32 {
        self.base.max(self.floor).min(self.limit)
    }
}

/// A probe that is neither acknowledged nor lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Probe {
    start: SeqNum,
    end: SeqNum,
    size: u32,
}

/// The search of one connection.
#[derive(Clone, Copy, Debug)]
pub struct MtuSearch {
    low: u32,
    high: u32,
    bounds: SearchBounds,
    probe: Option<Probe>,
    /// What was used before the latest black holes, until a probe has gone out since.
    before: Option<u32>,
    /// No probe before.
    not_before: Instant,
    /// Between the end of a search and the next (RFC 4821 7.3).
    interval: Duration,
}

impl MtuSearch {
    /// A search upwards from the base, of a path of which nothing is known.
    pub fn from_base(bounds: SearchBounds, interval: Duration) -> Self {
        let mut search = Self::from_limit(bounds, interval);
        search.low = bounds.base();
        search
    }

    /// A path that is believed to carry the limit.
    pub fn from_limit(bounds: SearchBounds, interval: Duration) -> Self {
        Self {
            low: bounds.limit,
            high: bounds.limit,
            bounds,
            probe: None,
            before: None,
            not_before: Instant::ZERO,
            interval,
        }
    }

    /// The largest packet that is known to pass, which is what may be sent (eff_pmtu, search_low).
    pub const fn low(&self) -> u32 {
        self.low
    }

    /// The largest packet that may pass (search_high).
    pub const fn high(&self) -> u32 {
        self.high
    }

    /// Everything that the limit permits is known to pass.
    pub const fn is_complete(&self) -> bool {
        self.low == self.bounds.limit
    }

    /// The sequence numbers of the probe under way.
    pub fn probe(&self) -> Option<(SeqNum, SeqNum)> {
        self.probe.map(|probe| (probe.start, probe.end))
    }

    /// The size of the next probe, if one is in order now. A search that has ended begins again after the interval
    /// (RFC 4821 7.3): the path may be another by then.
    pub fn due(&mut self, now: Instant) -> Option<u32> {
        if self.probe.is_some() || now < self.not_before {
            return None;
        }
        if self.next_size().is_none() {
            self.high = self.bounds.limit;
        }
        self.next_size()
    }

    /// Half way, until less than [`THRESHOLD`] is left. If then nothing speaks against the limit, it is tried, so that a
    /// path of the usual size is used in full.
    fn next_size(&self) -> Option<u32> {
        match self.high - self.low {
            0 => None,
            left if left >= THRESHOLD => Some(self.low + left / 2),
            _ => (self.high == self.bounds.limit).then_some(self.high),
        }
    }

    /// The probe that [`Self::due`] asked for went out as `start..end`.
    pub fn on_sent(&mut self, start: SeqNum, end: SeqNum, size: u32) {
        self.probe = Some(Probe { start, end, size });
        self.before = None;
    }

    /// Everything before `una` is acknowledged; whether that was a probe, and the path carries more than was known (RFC
    /// 4821 7.6.1).
    pub fn on_acknowledged(&mut self, now: Instant, una: SeqNum) -> bool {
        let Some(probe) = self.probe.take_if(|probe| una.at_or_after(probe.end)) else {
            return false;
        };
        let size = probe.size.min(self.bounds.limit);
        let raised = size > self.low;
        self.low = self.low.max(size);
        self.high = self.high.max(self.low);
        self.pause(now, Duration::ZERO);
        raised
    }

    /// The probe alone was lost: the path carries less (RFC 4821 7.6.2). No other for as long as congestion would leave
    /// between two losses, `wait`, since this one goes unpunished.
    pub fn on_lost(&mut self, now: Instant, wait: Duration) {
        if let Some(probe) = self.probe.take() {
            self.high = (probe.size - 1).clamp(self.low, self.high);
            self.pause(now, wait);
        }
    }

    /// `start..end` goes out again. If the probe is part of it, others were lost as well, and nothing can be said (RFC 4821
    /// 7.6.4).
    pub fn on_retransmitted(&mut self, start: SeqNum, end: SeqNum) {
        self.probe
            .take_if(|probe| start.before(probe.end) && probe.start.before(end));
    }

    /// A retransmission timeout. One that a probe may have caused costs more than a lost probe should, hence five times the
    /// wait (RFC 4821 7.6.3).
    pub fn on_timeout(&mut self, now: Instant, wait: Duration) {
        if self.probe.take().is_some() {
            self.pause(now, wait.saturating_mul(5));
        }
    }

    /// No probe before `wait` is over, or the interval if the search is at its end.
    fn pause(&mut self, now: Instant, wait: Duration) {
        let wait = if self.next_size().is_none() {
            self.interval
        } else {
            wait.min(self.interval)
        };
        self.not_before = now + wait;
    }

    /// What will be used if nothing that large arrives any more: the base, or half of that which is used now.
    pub fn reduced(&self) -> u32 {
        let (base, floor) = (self.bounds.base(), self.bounds.floor());
        if self.low > base {
            base
        } else {
            (self.low / 2).max(floor).min(self.low)
        }
    }

    /// Nothing arrives any more: a black hole (RFC 4821 7.7). Goes on with [`Self::reduced`].
    pub fn on_black_hole(&mut self, now: Instant) {
        self.before.get_or_insert(self.low);
        self.low = self.reduced();
        self.probe = None;
        self.not_before = now;
    }

    /// The timeouts were spurious: what was sent before them has arrived, so there was no black hole. Whether that changes
    /// anything.
    pub fn undo_black_hole(&mut self) -> bool {
        let Some(before) = self.before.take() else {
            return false;
        };
        self.low = before.clamp(self.low, self.high);
        true
    }

    /// The interface, ICMP or the peer permit another size from now on. A larger one is searched for at once only if the
    /// present limit has not proved too large already; otherwise at the next interval.
    pub fn set_limit(&mut self, limit: u32) {
        if self.high == self.bounds.limit {
            self.high = limit;
        }
        self.bounds.limit = limit;
        self.high = self.high.min(limit);
        self.low = self.low.min(limit);
    }
}

/// What is left between the bounds when a search is at its end (Linux: `tcp_probe_threshold`).
const THRESHOLD: u32 = 8;

#[cfg(test)]
mod tests;
