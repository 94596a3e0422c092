//! When a SACK is due (RFC 9260 6.2, 6.7, RFC 7053).

use std::time::Duration;

use smallvec::SmallVec;

use crate::time::Instant;

/// Duplicates that one SACK reports.
const MAX_DUPLICATES: usize = 32;

/// How much a packet asks for an acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Arrival {
    /// It had DATA, whatever became of it.
    pub(super) data: bool,
    /// It must be acknowledged without delay.
    pub(super) urgent: bool,
}

/// Decides when to acknowledge.
#[derive(Debug)]
pub(super) struct Acknowledgment {
    delay: Duration,
    frequency: u32,
    /// Packets with DATA that are not acknowledged.
    packets: u32,
    due: bool,
    deadline: Option<Instant>,
    /// What the present packet asks for.
    arrival: Arrival,
    duplicates: SmallVec<[u32; 4]>,
}

impl Acknowledgment {
    pub(super) fn new(delay: Duration, frequency: u32) -> Self {
        Self {
            delay,
            frequency: frequency.max(1),
            packets: 0,
            due: false,
            deadline: None,
            arrival: Arrival::default(),
            duplicates: SmallVec::new(),
        }
    }

    /// Changes how long, and how many packets, an acknowledgement may wait. One that waits already keeps its time.
    pub(super) fn set_policy(&mut self, delay: Duration, frequency: u32) {
        self.delay = delay;
        self.frequency = frequency.max(1);
    }

    /// The present packet has DATA.
    pub(super) fn on_data(&mut self, urgent: bool) {
        self.arrival.data = true;
        self.arrival.urgent |= urgent;
    }

    /// The present packet has a TSN again.
    pub(super) fn on_duplicate(&mut self, tsn: u32) {
        // A packet with nothing but duplicates must be acknowledged at once, one with others may be (6.2).
        self.on_data(true);
        if self.duplicates.len() < MAX_DUPLICATES {
            self.duplicates.push(tsn);
        }
    }

    /// The present packet ends.
    pub(super) fn end_of_packet(&mut self, now: Instant, urgent: bool) {
        let arrival = std::mem::take(&mut self.arrival);
        if !arrival.data {
            return;
        }
        self.packets += 1;
        if urgent || arrival.urgent || self.packets >= self.frequency {
            self.due = true;
            self.deadline = None;
        } else if !self.due {
            self.deadline.get_or_insert(now + self.delay);
        }
    }

    /// The window has opened enough to tell the peer.
    pub(super) fn on_window_update(&mut self) {
        self.due = true;
    }

    /// Whether one is due that does not wait for its deadline.
    pub(super) const fn is_owed(&self) -> bool {
        self.due
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due || self.deadline.is_some_and(|deadline| deadline <= now)
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether something has arrived that no SACK has told of.
    pub(super) const fn is_waiting(&self) -> bool {
        self.due || self.packets > 0
    }

    /// A SACK is sent: what it reports of duplicates.
    pub(super) fn on_sack(&mut self) -> SmallVec<[u32; 4]> {
        self.packets = 0;
        self.due = false;
        self.deadline = None;
        std::mem::take(&mut self.duplicates)
    }
}
