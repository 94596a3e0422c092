//! When a SACK is due (RFC 9260 6.2, 6.7, RFC 7053).

use std::collections::VecDeque;
use std::time::Duration;

use smallvec::SmallVec;

use crate::time::Instant;
use crate::wire::sctp::Sack;

/// Duplicates that one SACK reports.
const MAX_DUPLICATES: usize = 32;
/// SACKs that wait behind each other, when packets come faster than answers can be sent. A batch of a driver's has no more
/// packets than twice as many.
const MAX_OVERDUE: usize = 32;

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
    /// What the SACK that is due would have said when it became so.
    told: Option<Sack>,
    /// SACKs that were due before that one. A sender counts SACKs: its window opens and its losses show by each (7.2), so
    /// many packets at once are answered as if they had come one by one.
    overdue: VecDeque<Sack>,
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
            told: None,
            overdue: VecDeque::new(),
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

    /// The present packet ends. Whether a SACK has become due with it: [`Self::on_due`] then says what it would tell.
    pub(super) fn end_of_packet(&mut self, now: Instant, urgent: bool) -> bool {
        let arrival = std::mem::take(&mut self.arrival);
        if !arrival.data {
            return false;
        }
        self.packets += 1;
        if urgent || arrival.urgent || self.packets >= self.frequency {
            self.packets = 0;
            self.deadline = None;
            return true;
        }
        if !self.due {
            self.deadline.get_or_insert(now + self.delay);
        }
        false
    }

    /// A SACK that says this is due.
    pub(super) fn on_due(&mut self, sack: Sack) {
        if let Some(earlier) = self.told.replace(sack) {
            if self.overdue.len() == MAX_OVERDUE {
                self.overdue.pop_front();
            }
            self.overdue.push_back(earlier);
        }
        self.due = true;
    }

    /// The SACK to send first, if later ones wait behind it.
    pub(super) fn take_overdue(&mut self) -> Option<Sack> {
        self.overdue.pop_front()
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
        self.told = None;
        self.overdue.clear();
        self.deadline = None;
        std::mem::take(&mut self.duplicates)
    }
}
