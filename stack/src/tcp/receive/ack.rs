//! When to acknowledge (RFC 9293 3.8.6.3, RFC 5681 4.2), with Linux's refinements.
//!
//! Owns the decision and its timer's deadline. What is acknowledged (RCV.NXT, SACK blocks, the window) is its owner's
//! business, as is sending.
//!
//! | what arrives | urgency |
//! |---|---|
//! | out of order, duplicate, filling a hole | `Now`: each its own ACK, so that the sender counts them (RFC 5681 4.2) |
//! | more than one full segment unacknowledged (SHLD-19: at least every second) | `EndOfBatch` |
//! | a connection's first segments, and the first after a pause | `EndOfBatch`: the sender is in slow start |
//! | a FIN | `EndOfBatch` |
//! | a small segment in an interactive exchange, or less than a full segment | `Delayed` |

use std::time::Duration;

use crate::tcp::Config;
use crate::time::Instant;

/// When an ACK must go out at the latest. Later variants are more urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AckUrgency {
    /// Nothing to acknowledge.
    None,
    /// At this time, unless a segment carries it earlier.
    Delayed(Instant),
    /// When all segments that came together have been processed.
    EndOfBatch,
    /// The segment just processed gets an ACK of its own.
    Now,
}

/// New data that came in order.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Octets of data.
    pub len: usize,
    /// Octets of data of each wire segment it was coalesced from.
    pub segment_size: usize,
    /// The present retransmission timeout: after a longer pause the peer is in slow start again.
    pub rto: Duration,
}

/// The delayed-ACK machine of one connection.
#[derive(Clone, Debug)]
pub struct AckSchedule {
    urgency: AckUrgency,
    /// Octets that came in order since the last ACK.
    unacknowledged: u32,
    /// The largest segment seen: what counts as full-sized.
    largest_segment: u32,
    /// ACKs still to be sent at once.
    quick_acks: u32,
    quick_acks_limit: u32,
    /// The application answers what it reads: its answer will carry the ACK.
    interactive: bool,
    last_arrival: Option<Instant>,
    delay: Duration,
}

impl AckSchedule {
    /// The schedule of a new connection.
    pub fn new(config: &Config) -> Self {
        Self {
            urgency: AckUrgency::None,
            unacknowledged: 0,
            largest_segment: INITIAL_SEGMENT,
            quick_acks: config.quick_acks,
            quick_acks_limit: config.quick_acks,
            interactive: false,
            last_arrival: None,
            delay: config.delayed_ack.min(MAX_DELAY),
        }
    }

    /// How urgent an ACK is.
    pub fn urgency(&self) -> AckUrgency {
        self.urgency
    }

    /// How long an ACK may be delayed.
    pub const fn delay(&self) -> Duration {
        self.delay
    }

    /// Octets of the largest segment received, or what is taken for it before one has been.
    pub const fn largest_segment(&self) -> usize {
        self.largest_segment as usize
    }

    /// When data last came in order.
    pub const fn last_arrival(&self) -> Option<Instant> {
        self.last_arrival
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        match self.urgency {
            AckUrgency::Delayed(deadline) => Some(deadline),
            AckUrgency::None | AckUrgency::EndOfBatch | AckUrgency::Now => None,
        }
    }

    /// New data came in order and filled no hole.
    pub fn on_data(&mut self, now: Instant, arrival: Arrival) -> AckUrgency {
        let len = u32::try_from(arrival.len).unwrap_or(u32::MAX);
        self.unacknowledged = self.unacknowledged.saturating_add(len);
        let segment = u32::try_from(arrival.segment_size).map_or(len, |size| size.min(len));
        self.largest_segment = self.largest_segment.max(segment);
        let pause = self.last_arrival.map(|last| now.saturating_since(last));
        if pause.is_some_and(|pause| pause > arrival.rto) {
            self.quick_acks = self.quick_acks_limit;
            self.interactive = false;
        }
        self.last_arrival = Some(now);
        let quick = self.quick_acks > 0 && !self.interactive;
        if quick || self.unacknowledged > self.largest_segment {
            self.raise(AckUrgency::EndOfBatch);
        } else if self.urgency == AckUrgency::None {
            self.urgency = AckUrgency::Delayed(now + self.delay);
        }
        self.urgency
    }

    /// Out-of-order or duplicate data, data that filled a hole, or an unacceptable segment: an ACK for it alone.
    /// RFC 5681 4.2 and RFC 9293 3.8.6.3 want it without delay.
    pub fn on_irregular(&mut self) -> AckUrgency {
        self.urgency = AckUrgency::Now;
        self.urgency
    }

    /// Something that has to be acknowledged but need not be alone: a FIN, a window that reopened.
    pub fn on_event(&mut self) -> AckUrgency {
        self.raise(AckUrgency::EndOfBatch);
        self.urgency
    }

    /// A segment that carries an acknowledgment of all so far has been sent. `Delayed` deadlines end with it.
    pub fn on_ack_sent(&mut self) {
        self.urgency = AckUrgency::None;
        self.unacknowledged = 0;
        self.quick_acks = self.quick_acks.saturating_sub(1);
    }

    /// New data has been sent at `now`. Soon after data came in, that is an answer: the exchange is interactive, and
    /// the next ACK can wait for the next answer (Linux's ping-pong mode).
    pub fn on_data_sent(&mut self, now: Instant) {
        if self
            .last_arrival
            .is_some_and(|last| now.saturating_since(last) < self.delay)
        {
            self.interactive = true;
        }
    }

    /// The application has read all there was. If the peer's last segment was a small one, the peer has likely said
    /// all it has to say and waits: outside an interactive exchange, it gets its ACK now instead of after the delay.
    pub fn on_drained(&mut self) -> AckUrgency {
        let small = self.unacknowledged > 0 && self.unacknowledged < self.largest_segment;
        if small && !self.interactive && self.deadline().is_some() {
            self.raise(AckUrgency::EndOfBatch);
        }
        self.urgency
    }

    /// `now` may be the deadline: no answer carried the ACK, so the exchange is not interactive after all.
    pub fn handle_timeout(&mut self, now: Instant) -> AckUrgency {
        if self.deadline().is_some_and(|deadline| now >= deadline) {
            self.interactive = false;
            self.raise(AckUrgency::EndOfBatch);
        }
        self.urgency
    }

    /// `TCP_QUICKACK`: turned on, ACKs are not delayed for a while and a delayed one goes out; turned off, the exchange
    /// is taken as interactive.
    pub fn set_quickack(&mut self, quickack: bool) -> AckUrgency {
        self.interactive = !quickack;
        if quickack {
            self.quick_acks = self.quick_acks.max(self.quick_acks_limit);
            if self.deadline().is_some() {
                self.raise(AckUrgency::EndOfBatch);
            }
        }
        self.urgency
    }

    /// Whether ACKs are not delayed at present by the application's choice (`TCP_QUICKACK`): Linux reports the mode.
    pub fn quickack(&self) -> bool {
        !self.interactive
    }

    fn raise(&mut self, urgency: AckUrgency) {
        self.urgency = self.urgency.max(urgency);
    }
}

/// What counts as a full-sized segment before one has been seen (the default MSS, RFC 9293 3.7.1).
const INITIAL_SEGMENT: u32 = 536;
/// RFC 9293 3.8.6.3, MUST-40: under half a second, whatever the configuration says.
const MAX_DELAY: Duration = Duration::from_millis(499);

#[cfg(test)]
mod tests;
