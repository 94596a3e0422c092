//! Out-of-order data until the hole before it is filled.
//!
//! Owns the ranges held, which never overlap nor touch, and a FIN that came too early. Where segments overlap, what is
//! held already stays (the first copy wins, so nobody can replace octets that were reported by SACK). Leaves the
//! window to `window.rs` (nothing beyond the right edge comes here) and the choice of SACK blocks to `sack_blocks.rs`.
//!
//! Each insertion costs a look-up, plus the merging of the ranges it joins: the smaller into the larger, so no pattern
//! of segments makes the total worse than n log n.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidewire_netdev::Payload;

use crate::tcp::SeqNum;
use crate::tcp::receive::ReceiveBuffer;

/// What became of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Inserted {
    /// Octets that were not held before.
    pub new_bytes: usize,
    /// The first contiguous part that was held before, for a D-SACK (RFC 2883 4).
    pub duplicate: Option<(SeqNum, SeqNum)>,
    /// The range that the segment is part of now, for the first SACK block (RFC 2018 4); `None` when nothing of it was
    /// kept: it had no data, or there were too many ranges.
    pub range: Option<(SeqNum, SeqNum)>,
}

/// Data that is in order now.
#[derive(Debug)]
pub struct Ready {
    /// The data, beginning at RCV.NXT; may be empty when only the FIN was waiting.
    pub data: ReceiveBuffer,
    /// The FIN comes right after it.
    pub fin: bool,
}

/// The out-of-order queue.
#[derive(Debug)]
pub struct Reassembly {
    /// Ranges by the position of their first octet. Positions are sequence numbers that do not wrap.
    ranges: BTreeMap<u64, ReceiveBuffer>,
    /// A sequence number and its position. It moves along, since only numbers less than 2^31 away can be placed.
    anchor: (SeqNum, u64),
    /// Where the stream ends, once a FIN has said so.
    fin: Option<u64>,
    len: usize,
    charged: usize,
    max_ranges: usize,
}

impl Reassembly {
    /// An empty queue that keeps at most `max_ranges` ranges.
    pub fn new(max_ranges: usize) -> Self {
        Self {
            ranges: BTreeMap::new(),
            anchor: (SeqNum(0), FIRST_POSITION),
            fin: None,
            len: 0,
            charged: 0,
            max_ranges,
        }
    }

    /// Whether neither data nor a FIN waits.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.fin.is_none()
    }

    /// Octets held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Octets of memory held, counted by allocation.
    pub fn charged(&self) -> usize {
        self.charged
    }

    /// The ranges held, in order, right edges excluded.
    pub fn ranges(&self) -> impl Iterator<Item = (SeqNum, SeqNum)> {
        self.ranges.iter().map(|(start, data)| {
            (
                self.sequence(*start),
                self.sequence(start + data.len() as u64),
            )
        })
    }

    /// The sequence numbers that a waiting FIN takes, with the data held right before it: what a SACK block says of it.
    pub fn fin_block(&self) -> Option<(SeqNum, SeqNum)> {
        let fin = self.fin?;
        let before = self.ranges.last_key_value();
        let joined = before.filter(|(start, data)| *start + data.len() as u64 == fin);
        let left = joined.map_or(fin, |(start, _)| *start);
        Some((self.sequence(left), self.sequence(fin + 1)))
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::new(self.max_ranges);
    }

    /// Takes the data of a segment that lies beyond RCV.NXT and inside the window; with `fin`, the stream ends behind
    /// it. Data that would make one range too many is dropped and comes again: what is held may have been reported
    /// by SACK, so it stays.
    pub fn insert(&mut self, sequence: SeqNum, payload: &Payload, fin: bool) -> Inserted {
        if self.is_empty() {
            self.anchor = (sequence, FIRST_POSITION);
        }
        let start = self.position(sequence);
        self.anchor = (sequence, start);
        let mut end = start + payload.iter().map(Bytes::len).sum::<usize>() as u64;
        if fin && self.fin.is_none() && self.highest().is_none_or(|highest| highest <= end) {
            self.fin = Some(end);
        }
        if let Some(fin) = self.fin {
            // Nothing comes after the end of the stream; a peer that says so is not believed.
            end = end.min(fin);
        }
        if start >= end {
            return Inserted::default();
        }

        let before = self.ranges.range(..=start).next_back();
        let before = before
            .filter(|(first, data)| *first + data.len() as u64 >= start)
            .map(|(first, _)| *first);
        let joins_next = self.ranges.range(start + 1..=end).next().is_some();
        match before {
            Some(first) if !joins_next => self.extend(first, start, end, payload),
            None if !joins_next && self.ranges.len() >= self.max_ranges => Inserted::default(),
            before => self.join(before, start, end, payload),
        }
    }

    /// Drops ranges from the end, and a FIN, until at most half of the octets are left; how many went. The sender keeps
    /// them all (RFC 2018 8 permits a receiver to renege), and the first ones will be of use soonest.
    pub fn prune(&mut self) -> usize {
        let before = self.len;
        while self.len > before / 2
            && let Some((last, _)) = self.ranges.last_key_value()
        {
            let last = *last;
            self.remove(last);
        }
        self.fin = None;
        before - self.len
    }

    /// Takes what has become in order at `rcv_nxt`, and forgets what lies before.
    pub fn take_ready(&mut self, rcv_nxt: SeqNum) -> Option<Ready> {
        if self.is_empty() {
            return None;
        }
        let mut position = self.position(rcv_nxt);
        let mut ready = ReceiveBuffer::new();
        while let Some(entry) = self.ranges.first_entry()
            && *entry.key() <= position
        {
            let (start, mut data) = entry.remove_entry();
            self.len -= data.len();
            self.charged -= data.charged();
            data.advance((position - start) as usize);
            position += data.len() as u64;
            if !data.is_empty() {
                ready = data;
            }
        }
        // A FIN that lies before data the connection has taken is not believed.
        let fin = self.fin.take_if(|fin| *fin <= position) == Some(position);
        (fin || !ready.is_empty()).then_some(Ready { data: ready, fin })
    }

    /// Appends to the range at `first` what lies in `start..end` beyond it. No other range is touched.
    fn extend(&mut self, first: u64, start: u64, end: u64, payload: &Payload) -> Inserted {
        let Some(data) = self.ranges.get_mut(&first) else {
            return Inserted::default();
        };
        let held_to = first + data.len() as u64;
        let charged = data.charged();
        let from = held_to.min(end);
        push_part(data, payload, start, from, end);
        self.charged = self.charged - charged + data.charged();
        let new_bytes = (end - from) as usize;
        self.len += new_bytes;
        Inserted {
            new_bytes,
            duplicate: (from > start).then(|| (self.sequence(start), self.sequence(from))),
            range: Some((self.sequence(first), self.sequence(held_to.max(end)))),
        }
    }

    /// Makes one range of `start..end`, the range at `before` if there is one, and all those that follow and touch.
    fn join(&mut self, before: Option<u64>, start: u64, end: u64, payload: &Payload) -> Inserted {
        let mut duplicate: Option<(u64, u64)> = None;
        let mut new_bytes = 0;
        let (first, mut joined) = before
            .and_then(|first| self.remove(first).map(|data| (first, data)))
            .unwrap_or((start, ReceiveBuffer::new()));
        let mut held_to = first + joined.len() as u64;
        if held_to > start {
            duplicate = Some((start, held_to.min(end)));
        }
        while let Some(next) = self
            .ranges
            .range(first + 1..=end)
            .next()
            .map(|(key, _)| *key)
            && let Some(data) = self.remove(next)
        {
            push_part(&mut joined, payload, start, held_to, next);
            new_bytes += next.saturating_sub(held_to) as usize;
            let next_end = next + data.len() as u64;
            if next < end {
                duplicate = duplicate.or(Some((next, next_end.min(end))));
            }
            joined = concatenate(joined, data);
            held_to = next_end;
        }
        push_part(&mut joined, payload, start, held_to, end);
        new_bytes += end.saturating_sub(held_to) as usize;
        held_to = held_to.max(end);
        self.len += joined.len();
        self.charged += joined.charged();
        self.ranges.insert(first, joined);
        Inserted {
            new_bytes,
            duplicate: duplicate.map(|(left, right)| (self.sequence(left), self.sequence(right))),
            range: Some((self.sequence(first), self.sequence(held_to))),
        }
    }

    fn remove(&mut self, first: u64) -> Option<ReceiveBuffer> {
        let data = self.ranges.remove(&first)?;
        self.len -= data.len();
        self.charged -= data.charged();
        Some(data)
    }

    /// The end of the last range.
    fn highest(&self) -> Option<u64> {
        let (start, data) = self.ranges.last_key_value()?;
        Some(start + data.len() as u64)
    }

    fn position(&self, sequence: SeqNum) -> u64 {
        let (origin, position) = self.anchor;
        position.wrapping_add_signed(i64::from((sequence - origin) as i32))
    }

    fn sequence(&self, position: u64) -> SeqNum {
        let (origin, anchor) = self.anchor;
        origin + position.wrapping_sub(anchor) as u32
    }
}

/// Both in order; the octets of the smaller one move.
fn concatenate(mut front: ReceiveBuffer, mut back: ReceiveBuffer) -> ReceiveBuffer {
    if front.len() < back.len() {
        back.prepend(front);
        back
    } else {
        front.append(back);
        front
    }
}

/// Appends to `buffer` the positions `from..to` of a payload that starts at `start`.
fn push_part(buffer: &mut ReceiveBuffer, payload: &Payload, start: u64, from: u64, to: u64) {
    let mut slice_start = start;
    for slice in payload {
        let slice_end = slice_start + slice.len() as u64;
        let (left, right) = (from.max(slice_start), to.min(slice_end));
        if left < right {
            let (left, right) = (
                (left - slice_start) as usize,
                (right - slice_start) as usize,
            );
            buffer.push_part(slice, left..right);
        }
        slice_start = slice_end;
    }
}

/// Far enough from 0 that nothing before it can underflow.
const FIRST_POSITION: u64 = 1 << 40;

#[cfg(test)]
mod tests;
