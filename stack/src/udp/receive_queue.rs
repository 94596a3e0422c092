//! The receive queue of a socket: datagrams in order of arrival, charged by memory, coalesced ones cut when read.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use tidewire_netdev::Payload;

use crate::udp::{Datagram, Received};

/// What a datagram costs beside its payload, in octets. Linux charges a small datagram 832 in all (observed: 256 of
/// them fill 212,992), so that a flood of empty ones is bounded too.
pub(super) const OVERHEAD: usize = 832;

/// Entries whose buffers may be larger than their payload. Short packets share a device's buffers (up to eight times
/// as large as the longest of them), so beyond this many, in a socket whose reader is behind, they are copied.
const UNCOPIED: usize = 16;

/// Longest payload that may share a buffer with strangers, in octets.
const SHARED_MAX: usize = 2048;

/// Entries a queue keeps room for when it runs empty; room for more is given back.
const KEPT_ROOM: usize = 64;

/// The queue. Not bounded by itself: [`Self::charged`] is compared with the socket's limit before [`Self::push`].
#[derive(Debug, Default)]
pub(super) struct ReceiveQueue {
    entries: VecDeque<Datagram>,
    charged: usize,
}

impl ReceiveQueue {
    /// Octets of memory that the queue holds.
    pub(super) const fn charged(&self) -> usize {
        self.charged
    }

    /// Datagrams that wait, each of a coalesced entry counted.
    pub(super) fn datagrams(&self) -> usize {
        self.entries.iter().map(datagram_count).sum()
    }

    /// Appends a datagram or several coalesced ones.
    pub(super) fn push(&mut self, mut datagram: Datagram) {
        let len = payload_len(&datagram.payload);
        if self.entries.len() >= UNCOPIED && len <= SHARED_MAX {
            let mut copy = Vec::with_capacity(len);
            for slice in &datagram.payload {
                copy.extend_from_slice(slice);
            }
            datagram.payload.clear();
            datagram.payload.push(Bytes::from(copy));
        }
        self.charged += OVERHEAD + len;
        self.entries.push_back(datagram);
    }

    /// The next datagram's source and the like, as if read into a buffer of `room` octets; nothing is copied.
    pub(super) fn describe(&self, room: usize) -> Option<Received> {
        let entry = self.entries.front()?;
        let len = next_len(entry);
        Some(Received {
            len: len.min(room),
            source: entry.source,
            destination: entry.destination,
            truncated: len > room,
            ecn: entry.ecn,
        })
    }

    /// Copies the front of the next datagram into `buffer` and leaves it where it is.
    pub(super) fn peek(&self, buffer: &mut [u8]) -> Option<Received> {
        let received = self.describe(buffer.len())?;
        let mut rest = &mut buffer[..received.len];
        for slice in self
            .entries
            .front()
            .into_iter()
            .flat_map(|entry| &entry.payload)
        {
            let n = slice.len().min(rest.len());
            let (front, behind) = rest.split_at_mut(n);
            front.copy_from_slice(&slice[..n]);
            rest = behind;
        }
        Some(received)
    }

    /// Takes the next datagram as octets in one piece: a slice of its buffer where it lies in one, else a copy.
    pub(super) fn pop_bytes(&mut self) -> Option<Bytes> {
        let entry = self.entries.front()?;
        let len = next_len(entry);
        let bytes = match entry.payload.iter().find(|slice| !slice.is_empty()) {
            None => Bytes::new(),
            Some(first) if first.len() >= len => first.slice(..len),
            Some(_) => {
                let mut copy = vec![0; len];
                self.peek(&mut copy);
                Bytes::from(copy)
            }
        };
        self.pop();
        Some(bytes)
    }

    /// Drops the next datagram.
    pub(super) fn pop(&mut self) {
        let Some(entry) = self.entries.front_mut() else {
            return;
        };
        let len = next_len(entry);
        self.charged -= len;
        drop_front(&mut entry.payload, len);
        if payload_len(&entry.payload) == 0 {
            self.charged -= OVERHEAD;
            self.entries.pop_front();
            if self.entries.is_empty() && self.entries.capacity() > KEPT_ROOM {
                self.entries = VecDeque::new();
            }
        }
    }
}

/// Octets of the first datagram of an entry.
fn next_len(entry: &Datagram) -> usize {
    let len = payload_len(&entry.payload);
    if entry.segment_size == 0 {
        len
    } else {
        len.min(entry.segment_size)
    }
}

/// Datagrams of an entry.
pub(super) fn datagram_count(entry: &Datagram) -> usize {
    payload_len(&entry.payload)
        .div_ceil(next_len(entry).max(1))
        .max(1)
}

pub(super) fn payload_len(payload: &Payload) -> usize {
    payload.iter().map(Bytes::len).sum()
}

fn drop_front(payload: &mut Payload, len: usize) {
    let mut rest = len;
    while rest > 0 {
        let Some(first) = payload.first_mut() else {
            return;
        };
        let n = rest.min(first.len());
        first.advance(n);
        rest -= n;
        if first.is_empty() {
            payload.remove(0);
        }
    }
}
