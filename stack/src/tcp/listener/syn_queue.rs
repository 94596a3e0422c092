//! Requests between SYN and ACK.
//!
//! Owns their storage, their deadlines and the order of sending. All maps are ordered by address, so that a seed gives
//! the same packets each time, and no peer can choose keys that collide.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use crate::tcp::connection::Negotiated;
use crate::tcp::{SeqNum, Tuple};
use crate::time::Instant;

/// A half-open connection.
#[derive(Debug)]
pub(super) struct Request {
    /// What the SYNs settle.
    pub(super) negotiated: Negotiated,
    /// Our initial sequence number.
    pub(super) iss: SeqNum,
    /// The peer's initial sequence number.
    pub(super) irs: SeqNum,
    /// The window of the peer's SYN.
    pub(super) window: u16,
    /// SYN-ACKs sent.
    pub(super) transmissions: u32,
    /// Times the timer has fired.
    pub(super) timeouts: u32,
    /// When the SYN-ACK was sent, while there was only one.
    pub(super) sent_at: Option<Instant>,
    /// When something unexpected was last answered.
    pub(super) last_reply: Option<Instant>,
}

type Key = (SocketAddr, SocketAddr);

#[derive(Debug)]
struct Entry {
    request: Request,
    deadline: Instant,
    /// Its SYN-ACK is in `outbox`.
    in_outbox: bool,
}

/// The SYN queue.
#[derive(Debug)]
pub(super) struct SynQueue {
    /// Boxed: the map moves its entries about.
    entries: BTreeMap<Key, Box<Entry>>,
    deadlines: BTreeSet<(Instant, Key)>,
    /// Requests whose SYN-ACK is due, each once.
    outbox: VecDeque<Key>,
    limit: usize,
}

impl SynQueue {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            outbox: VecDeque::new(),
            limit,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= self.limit
    }

    pub(super) fn contains(&self, tuple: &Tuple) -> bool {
        self.entries.contains_key(&key(tuple))
    }

    pub(super) fn get_mut(&mut self, tuple: &Tuple) -> Option<&mut Request> {
        Some(&mut self.entries.get_mut(&key(tuple))?.request)
    }

    /// Adds a request whose timer fires at `deadline`.
    pub(super) fn insert(&mut self, tuple: Tuple, request: Request, deadline: Instant) {
        self.remove(&tuple);
        let entry = Entry {
            request,
            deadline,
            in_outbox: false,
        };
        self.entries.insert(key(&tuple), Box::new(entry));
        self.deadlines.insert((deadline, key(&tuple)));
    }

    pub(super) fn remove(&mut self, tuple: &Tuple) {
        let key = key(tuple);
        if let Some(entry) = self.entries.remove(&key) {
            self.deadlines.remove(&(entry.deadline, key));
            if entry.in_outbox {
                self.outbox.retain(|queued| *queued != key);
            }
        }
    }

    /// Moves a request's deadline.
    pub(super) fn schedule(&mut self, tuple: &Tuple, deadline: Instant) {
        let key = key(tuple);
        if let Some(entry) = self.entries.get_mut(&key) {
            self.deadlines.remove(&(entry.deadline, key));
            entry.deadline = deadline;
            self.deadlines.insert((deadline, key));
        }
    }

    /// The request's SYN-ACK is due.
    pub(super) fn send(&mut self, tuple: &Tuple) {
        let key = key(tuple);
        if let Some(entry) = self.entries.get_mut(&key)
            && !entry.in_outbox
        {
            entry.in_outbox = true;
            self.outbox.push_back(key);
        }
    }

    pub(super) fn wants_transmit(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Takes the next request whose SYN-ACK is due.
    pub(super) fn next_to_send(&mut self) -> Option<(Tuple, &mut Request)> {
        let key = self.outbox.pop_front()?;
        let entry = self.entries.get_mut(&key)?;
        entry.in_outbox = false;
        Some((tuple(key), &mut entry.request))
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// The request whose deadline came first, if it has come; to be rescheduled or removed.
    pub(super) fn next_expired(&mut self, now: Instant) -> Option<(Tuple, &mut Request)> {
        let (deadline, key) = *self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        let entry = self.entries.get_mut(&key)?;
        Some((tuple(key), &mut entry.request))
    }
}

const fn key(tuple: &Tuple) -> Key {
    (tuple.remote, tuple.local)
}

const fn tuple((remote, local): Key) -> Tuple {
    Tuple { local, remote }
}
