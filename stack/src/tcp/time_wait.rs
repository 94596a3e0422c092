//! The compact rest of closed connections (RFC 9293 3.6.1).
//!
//! Owns the entries, their common lifetime and the answers they still give: the peer's FIN is acknowledged again, a
//! reset does not end the state (RFC 1337), a new SYN may (RFC 9293 3.6.1 MAY-2, RFC 6191). Leaves to the engine the
//! ports that entries hold, and what a new SYN leads to.
//!
//! All entries live equally long, so they form one queue with one deadline: that of its head. An entry whose time is
//! restarted moves to the end.

use std::collections::HashMap;
use std::time::Duration;

use slab::Slab;

use crate::stats::DropReason;
use crate::tcp::connection::TimestampState;
use crate::tcp::{Config, Segment, SeqNum, Transmit, Tuple};
use crate::time::Instant;
use crate::wire::Ecn;
use crate::wire::tcp::{Flags, Header};

/// What is left of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeWaitEntry {
    /// Both ends.
    pub tuple: Tuple,
    /// SND.NXT: behind our FIN.
    pub snd_nxt: SeqNum,
    /// RCV.NXT: behind the peer's FIN.
    pub rcv_nxt: SeqNum,
    /// RCV.WND as last advertised, in octets.
    pub rcv_wnd: usize,
    /// Shift for that window.
    pub window_shift: u8,
    /// The timestamps' state, if they were negotiated.
    pub timestamps: Option<TimestampState>,
}

/// What to do about a segment.
#[derive(Debug)]
pub enum TimeWaitVerdict {
    /// The tuple is not in the table.
    Unknown,
    /// It was dropped for this reason.
    Drop(DropReason),
    /// To be sent.
    Ack(Box<Transmit>),
    /// A SYN that begins a new connection. It is for the listener, if there is one; the entry stays until
    /// [`TimeWaitTable::remove`], to be called once the listener has taken the SYN.
    Reopen {
        /// The initial send sequence number to use: above all that the old connection sent (RFC 9293 3.4.2, RFC 6191).
        iss: SeqNum,
    },
}

/// The TIME-WAIT entries of a stack.
#[derive(Debug)]
pub struct TimeWaitTable {
    nodes: Slab<Node>,
    /// Never iterated, so its random order cannot show.
    index: HashMap<Tuple, usize>,
    /// The node whose time ends first.
    head: Option<usize>,
    tail: Option<usize>,
    duration: Duration,
    limit: usize,
}

/// An entry's place in the queue.
#[derive(Debug)]
struct Node {
    entry: TimeWaitEntry,
    deadline: Instant,
    /// When something other than a FIN was last answered.
    last_reply: Option<Instant>,
    previous: Option<usize>,
    next: Option<usize>,
}

impl TimeWaitTable {
    /// An empty table.
    pub fn new(config: &Config) -> Self {
        Self {
            nodes: Slab::new(),
            index: HashMap::new(),
            head: None,
            tail: None,
            duration: config.time_wait,
            limit: config.max_time_wait,
        }
    }

    /// Adds an entry. At the limit the oldest goes, as on Linux; the tuple that is gone is returned (the new one, when
    /// the limit is 0).
    pub fn insert(&mut self, now: Instant, entry: TimeWaitEntry) -> Option<Tuple> {
        let tuple = entry.tuple;
        if self.limit == 0 {
            return Some(tuple);
        }
        self.remove(&tuple);
        let evicted = if self.index.len() >= self.limit {
            self.pop_front()
        } else {
            None
        };
        let slot = self.nodes.insert(Node {
            entry,
            deadline: now + self.duration,
            last_reply: None,
            previous: None,
            next: None,
        });
        self.link_last(slot);
        self.index.insert(tuple, slot);
        evicted
    }

    /// Takes a segment that belongs to no connection.
    pub fn handle_segment(
        &mut self,
        now: Instant,
        tuple: &Tuple,
        segment: &Segment,
    ) -> TimeWaitVerdict {
        let Some(&slot) = self.index.get(tuple) else {
            return TimeWaitVerdict::Unknown;
        };
        let Some(node) = self.nodes.get_mut(slot) else {
            return TimeWaitVerdict::Unknown;
        };
        let verdict = node.handle_segment(now, segment);
        if let Step::AcknowledgeFin = verdict {
            self.unlink(slot);
            self.nodes[slot].deadline = now + self.duration;
            self.link_last(slot);
        }
        let node = &mut self.nodes[slot];
        match verdict {
            Step::Drop(reason) => TimeWaitVerdict::Drop(reason),
            Step::AcknowledgeFin => TimeWaitVerdict::Ack(Box::new(node.acknowledgment(now))),
            Step::Acknowledge if node.may_reply(now) => {
                TimeWaitVerdict::Ack(Box::new(node.acknowledgment(now)))
            }
            Step::Acknowledge => TimeWaitVerdict::Drop(DropReason::RateLimited),
            Step::Reopen => TimeWaitVerdict::Reopen {
                iss: node.entry.snd_nxt + ISS_DISTANCE,
            },
        }
    }

    /// Takes an entry out: a new connection of its tuple has begun.
    pub fn remove(&mut self, tuple: &Tuple) -> Option<TimeWaitEntry> {
        let slot = self.index.remove(tuple)?;
        self.unlink(slot);
        Some(self.nodes.remove(slot).entry)
    }

    /// Whether the tuple is in the table.
    pub fn contains(&self, tuple: &Tuple) -> bool {
        self.index.contains_key(tuple)
    }

    /// Entries held.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The tuples held, those whose time ends first before the others.
    pub fn tuples(&self) -> impl Iterator<Item = Tuple> {
        let next = |slot: &usize| self.nodes.get(*slot)?.next;
        std::iter::successors(self.head, next)
            .filter_map(|slot| Some(self.nodes.get(slot)?.entry.tuple))
    }

    /// When [`Self::expire`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        Some(self.nodes.get(self.head?)?.deadline)
    }

    /// Takes out the next entry whose time has come; to be called until `None`.
    pub fn expire(&mut self, now: Instant) -> Option<Tuple> {
        if self.poll_timeout()? > now {
            return None;
        }
        let tuple = self.pop_front();
        if self.is_empty() {
            // A table that once was large does not stay so.
            self.nodes.shrink_to_fit();
            self.index.shrink_to_fit();
        }
        tuple
    }

    fn pop_front(&mut self) -> Option<Tuple> {
        let tuple = self.nodes.get(self.head?)?.entry.tuple;
        self.remove(&tuple);
        Some(tuple)
    }

    fn link_last(&mut self, slot: usize) {
        let previous = self.tail.replace(slot);
        let node = &mut self.nodes[slot];
        node.previous = previous;
        node.next = None;
        match previous {
            Some(previous) => self.nodes[previous].next = Some(slot),
            None => self.head = Some(slot),
        }
    }

    fn unlink(&mut self, slot: usize) {
        let Node { previous, next, .. } = self.nodes[slot];
        match previous {
            Some(previous) => self.nodes[previous].next = next,
            None => self.head = next,
        }
        match next {
            Some(next) => self.nodes[next].previous = previous,
            None => self.tail = previous,
        }
    }
}

/// What a segment means to an entry.
enum Step {
    Drop(DropReason),
    AcknowledgeFin,
    Acknowledge,
    Reopen,
}

impl Node {
    /// RFC 9293 3.10.7.4 for TIME-WAIT.
    fn handle_segment(&mut self, now: Instant, segment: &Segment) -> Step {
        let flags = segment.header.flags;
        // RFC 1337 3, F1: an old duplicate could otherwise end the state by way of a reset (TIME-WAIT assassination).
        if flags.contains(Flags::RST) {
            return Step::Drop(DropReason::Unacceptable);
        }
        let TimeWaitEntry { rcv_nxt, .. } = self.entry;
        let sequence = segment.sequence();
        let option = segment.header.options.timestamps;
        let timestamps = self.entry.timestamps.zip(option);
        let is_old = timestamps.is_some_and(|(state, option)| state.is_old(option.value, now));
        if flags.contains(Flags::SYN) {
            // RFC 6191 2: a newer timestamp shows a new connection, else a sequence number beyond all that was used.
            let is_newer =
                timestamps.is_some_and(|(state, option)| state.recent != option.value && !is_old);
            let is_beyond = sequence.at_or_after(rcv_nxt) && !is_old;
            let is_plain = !flags.intersects(Flags::ACK | Flags::FIN);
            return if is_plain && (is_newer || is_beyond) {
                Step::Reopen
            } else {
                Step::Acknowledge
            };
        }
        if !flags.contains(Flags::ACK) {
            return Step::Drop(DropReason::Unacceptable);
        }
        if is_old {
            return Step::Acknowledge;
        }
        let len = segment.sequence_len();
        if len == 0 && sequence == rcv_nxt {
            // The peer has seen our last ACK, or this is a late one of its own. An answer would be answered.
            self.update_timestamp(now, segment);
            return Step::Drop(DropReason::Closed);
        }
        if flags.contains(Flags::FIN) && sequence + len == rcv_nxt {
            // Eighth: our ACK of the FIN was lost. Acknowledge again and restart the 2 MSL.
            self.update_timestamp(now, segment);
            return Step::AcknowledgeFin;
        }
        Step::Acknowledge
    }

    fn update_timestamp(&mut self, now: Instant, segment: &Segment) {
        if let (Some(state), Some(option)) = (
            &mut self.entry.timestamps,
            segment.header.options.timestamps,
        ) {
            state.update(option.value, now);
        }
    }

    fn may_reply(&mut self, now: Instant) -> bool {
        let may = self
            .last_reply
            .is_none_or(|last| now.saturating_since(last) >= REPLY_INTERVAL);
        if may {
            self.last_reply = Some(now);
        }
        may
    }

    fn acknowledgment(&self, now: Instant) -> Transmit {
        let entry = &self.entry;
        let window = entry.rcv_wnd >> entry.window_shift.min(14);
        let mut header = Header {
            source_port: entry.tuple.local.port(),
            destination_port: entry.tuple.remote.port(),
            sequence: entry.snd_nxt.0,
            acknowledgment: entry.rcv_nxt.0,
            flags: Flags::ACK,
            window: window.min(usize::from(u16::MAX)) as u16,
            ..Header::default()
        };
        header.options.timestamps = entry.timestamps.map(|state| state.option(now));
        Transmit {
            header,
            payload: tidewire_netdev::Payload::new(),
            segment_size: None,
            ecn: Ecn::NotEct,
        }
    }
}

/// How far above SND.NXT a connection that reopens the tuple starts: beyond any window without scaling, as in Linux.
const ISS_DISTANCE: u32 = 65_537;

/// At most one answer in this time to anything but a retransmitted FIN: Linux's `tcp_invalid_ratelimit`. It ends loops
/// of two sides that answer each other.
const REPLY_INTERVAL: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
