//! What an ACK says has arrived: which octets, sent when, in which order.
//!
//! Owns the rules by which a delivery is attributed to one of several copies, and what RACK learns from it (RFC 8985 6.2,
//! steps 2 and 3; RFC 6298 3). The scoreboard feeds it range by range.

use std::time::Duration;

use crate::tcp::SeqNum;
use crate::time::Instant;

/// A transmission: when it left, and the sequence number behind it, which orders what left at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// When.
    pub at: Instant,
    /// The sequence number behind its last octet.
    pub end: SeqNum,
}

impl Sent {
    /// RACK_sent_after of RFC 8985 6.2.
    #[inline]
    pub fn is_after(self, other: Self) -> bool {
        self.at > other.at || (self.at == other.at && self.end.after(other.end))
    }
}

/// What the ACK says about the copies of a segment (RFC 8985 6.2, step 2): which delivery it can mean.
#[derive(Clone, Copy, Debug)]
pub struct AckTiming {
    /// When the ACK came.
    pub now: Instant,
    /// RACK.min_RTT: nothing sent more recently than this can have been acknowledged.
    pub min_rtt: Duration,
    /// When the segment that the ACK answers was sent, to the millisecond, if timestamps tell.
    pub echoed: Option<Instant>,
}

impl AckTiming {
    /// The same for what SACK blocks report: they come with the timestamp of the last segment in order (RFC 7323 4.3), which
    /// says nothing of the segments they are about.
    pub(super) fn of_blocks(&self) -> Self {
        Self {
            echoed: None,
            ..*self
        }
    }

    /// The latest transmission of something retransmitted is not what was acknowledged. Timestamps decide, unless the round
    /// trip is shorter than they can tell.
    fn is_ambiguous(&self, sent_at: Instant) -> bool {
        match self.echoed {
            Some(echoed) if echoed.as_millis() < sent_at.as_millis() => true,
            Some(_) if self.min_rtt >= TIMESTAMP_RESOLUTION * 2 => false,
            _ => self.now - sent_at < self.min_rtt,
        }
    }
}

/// Of our timestamp clock.
const TIMESTAMP_RESOLUTION: Duration = Duration::from_millis(1);

/// A part of what was in flight and has arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transmission {
    pub(super) octets: u32,
    /// When it was sent last.
    pub(super) sent: Sent,
    /// It was sent more than once: Karn's rule forbids a sample.
    pub(super) retransmitted: bool,
}

/// What an acknowledgment, cumulative or selective, brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Octets that had not been acknowledged in any way before.
    pub bytes: u32,
    /// When the earliest of them that were never retransmitted were sent: an RTT sample (RFC 6298 3, Karn).
    pub sent_at: Option<Instant>,
    /// Some of them had been retransmitted: only timestamps can tell the round trip.
    pub retransmitted: bool,
    /// What was sent last of them, so far as copies can be told apart (RFC 8985 6.2, step 2).
    pub newest: Option<Sent>,
    /// The end of the lowest of them that was never retransmitted: it was the original that arrived.
    pub lowest_original: Option<SeqNum>,
    /// An original arrived after something sent behind it (RFC 8985 6.2, step 3).
    pub reordered: bool,
    /// The peer reported that it has received these octets before (RFC 2883).
    pub duplicate: Option<(SeqNum, SeqNum)>,
}

impl Delivered {
    /// Counts a part; `fack` is the highest octet acknowledged in any way before this ACK.
    pub(super) fn add(&mut self, part: &Transmission, timing: &AckTiming, fack: SeqNum) {
        let sent = part.sent;
        self.bytes += part.octets;
        if part.retransmitted {
            self.retransmitted = true;
            if timing.is_ambiguous(sent.at) {
                return;
            }
        } else {
            self.sent_at = Some(self.sent_at.map_or(sent.at, |at| at.min(sent.at)));
            let lowest = self
                .lowest_original
                .map_or(sent.end, |end| end.min(sent.end));
            self.lowest_original = Some(lowest);
            self.reordered |= sent.end.before(fack);
        }
        if self.newest.is_none_or(|newest| sent.is_after(newest)) {
            self.newest = Some(sent);
        }
    }

    /// The round trip of what was sent last of them, if copies cannot be confused: how long the path takes now, though what
    /// arrived before it waited for something late.
    pub fn latest_round_trip(&self, now: Instant) -> Option<Duration> {
        let newest = self.newest.filter(|_| !self.retransmitted)?;
        Some(now - newest.at)
    }

    /// Joins what the cumulative acknowledgment brought with what the SACK blocks of the same segment brought.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let newest = match (self.newest, other.newest) {
            (Some(a), Some(b)) if a.is_after(b) => Some(a),
            (a, b) => b.or(a),
        };
        let lowest_original = match (self.lowest_original, other.lowest_original) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self {
            bytes: self.bytes + other.bytes,
            sent_at: crate::time::earlier(self.sent_at, other.sent_at),
            retransmitted: self.retransmitted || other.retransmitted,
            newest,
            lowest_original,
            reordered: self.reordered || other.reordered,
            duplicate: self.duplicate.or(other.duplicate),
        }
    }
}
