//! What was sent and is not cumulatively acknowledged: one entry for each TSN, in a ring.
//!
//! Owns the chunks, what became of each, and the counts of what is in flight; the octets in flight on each path are kept in
//! the path. It decides nothing: `Sender` says what is lost and where it goes again.
//!
//! ```text
//!              sent                     gap block
//!   (queue) ─────────▶ InFlight ────────────────────────▶ Acked
//!                      ▲      │  ◀───────────────────────   │
//!          sent again  │      ▼ misses, T3-rtx    reneged   │ cumulative TSN
//!             Missing, TimedOut, Refused ──────────────────┴──────────────▶ (gone)
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::sctp::message::SendOptions;
use crate::sctp::path::{PathId, Paths};
use crate::sctp::send::gaps::{GapRanges, Range};
use crate::sctp::serial::Tsn;
use crate::time::Instant;
use crate::wire::sctp::{DATA_HEADER_LEN, DataFlags, GapBlock};

/// A DATA chunk that was sent.
#[derive(Debug)]
pub(super) struct Chunk {
    /// From the chunk's first octet to the last of its message: what the user gets back if the association fails.
    pub(super) rest: Bytes,
    pub(super) ppid: u32,
    pub(super) context: u32,
    /// Octets of user data in the chunk.
    pub(super) len: u16,
    pub(super) stream: u16,
    pub(super) ssn: u16,
    pub(super) flags: DataFlags,
    /// Where it was sent last.
    pub(super) path: PathId,
    pub(super) state: ChunkState,
    /// It was sent more than once.
    pub(super) retransmitted: bool,
    /// It was sent on more than one path: whichever acknowledges it, nobody knows by which one it came (RFC 7829 3.2, 9).
    pub(super) moved: bool,
    /// It was marked by miss indications once; it never is again (7.2.4, 5).
    pub(super) fast_retransmitted: bool,
}

/// What became of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkState {
    /// Under way, as far as is known.
    InFlight,
    /// The peer has it, and may still drop it (7.1).
    Acked,
    /// Three miss indications: to be sent again on its own path (6.4).
    Missing,
    /// T3-rtx fired: to be sent again on another path if there is one (6.4).
    TimedOut,
    /// The peer had no room for it and has now: to be sent again on its own path.
    Refused,
}

impl Chunk {
    /// The chunk's size with header and padding: what the congestion window counts (7.2).
    pub(super) fn size(&self) -> usize {
        chunk_size(usize::from(self.len))
    }

    /// Whether it is the last of its message.
    pub(super) fn is_end(&self) -> bool {
        self.flags.contains(DataFlags::END)
    }

    /// How its message was to be sent.
    pub(super) fn options(&self) -> SendOptions {
        SendOptions {
            stream: self.stream,
            ppid: self.ppid,
            unordered: self.flags.contains(DataFlags::UNORDERED),
            context: self.context,
            immediate_ack: self.flags.contains(DataFlags::IMMEDIATE),
        }
    }

    /// Whether it waits to be sent again.
    pub(super) fn is_lost(&self) -> bool {
        !matches!(self.state, ChunkState::InFlight | ChunkState::Acked)
    }
}

/// The size of a DATA chunk with `len` octets of user data, padding included.
pub(super) fn chunk_size(len: usize) -> usize {
    (DATA_HEADER_LEN + len).next_multiple_of(4)
}

/// The ring.
#[derive(Debug)]
pub(super) struct Outstanding {
    chunks: VecDeque<Chunk>,
    /// TSN of the first chunk: one after the Cumulative TSN Ack Point.
    first: Tsn,
    gaps: GapRanges,
    chunks_in_flight: usize,
    /// Octets of user data in flight: what the peer's window counts (6.2.1).
    octets_in_flight: usize,
    /// For each path, no outstanding chunk sent there last has a lower TSN.
    earliest: SmallVec<[Tsn; 2]>,
    /// How many chunks and ranges were looked at: what the cost of a SACK is made of.
    #[cfg(test)]
    visits: std::cell::Cell<usize>,
}

/// What a SACK acknowledged.
#[derive(Debug, Default)]
pub(super) struct Acked {
    /// For each path.
    pub(super) paths: SmallVec<[PathAcked; 2]>,
    /// HTNA: the highest TSN that was not acknowledged before (7.2.4).
    pub(super) highest: Option<Tsn>,
    /// Octets of user data that were not acknowledged before.
    pub(super) octets: usize,
    /// Octets of user data, and whole messages, that need not be kept any more.
    pub(super) released_octets: usize,
    pub(super) released_messages: usize,
}

/// What a SACK acknowledged of one path.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PathAcked {
    /// Octets of chunks.
    pub(super) size: usize,
    /// Octets of chunks in flight before.
    pub(super) flight_before: usize,
    /// The earliest outstanding TSN of the path was among them (6.3.2 R3).
    pub(super) earliest: bool,
    /// One of them was sent on this path and no other.
    pub(super) unambiguous: bool,
    /// The round trip that was measured.
    pub(super) round_trip: Option<Duration>,
}

impl Acked {
    /// Starts anew for another SACK.
    pub(super) fn reset(&mut self, paths: &Paths) {
        let by_path = paths.iter().map(|(_, path)| PathAcked {
            flight_before: path.flight(),
            ..PathAcked::default()
        });
        self.paths.clear();
        self.paths.extend(by_path);
        self.highest = None;
        self.octets = 0;
        self.released_octets = 0;
        self.released_messages = 0;
    }
}

impl Outstanding {
    pub(super) fn new(initial: Tsn) -> Self {
        Self {
            chunks: VecDeque::new(),
            first: initial,
            gaps: GapRanges::new(initial),
            chunks_in_flight: 0,
            octets_in_flight: 0,
            earliest: SmallVec::new(),
            #[cfg(test)]
            visits: std::cell::Cell::default(),
        }
    }

    fn note_visits(&self, _count: usize) {
        #[cfg(test)]
        self.visits.set(self.visits.get() + _count);
    }

    /// All chunks with their TSNs.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (Tsn, &Chunk)> {
        (0u32..)
            .zip(&self.chunks)
            .map(|(index, chunk)| (self.first + index, chunk))
    }

    /// The visits since the last call.
    #[cfg(test)]
    pub(super) fn take_visits(&self) -> usize {
        self.visits.take()
    }

    /// How many TSNs are not cumulatively acknowledged.
    pub(super) fn len(&self) -> usize {
        self.chunks.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// One after the Cumulative TSN Ack Point.
    pub(super) fn first_tsn(&self) -> Tsn {
        self.first
    }

    /// The TSN the next chunk gets.
    pub(super) fn next_tsn(&self) -> Tsn {
        self.first + self.chunks.len() as u32
    }

    pub(super) fn chunks_in_flight(&self) -> usize {
        self.chunks_in_flight
    }

    pub(super) fn octets_in_flight(&self) -> usize {
        self.octets_in_flight
    }

    /// The chunk with this TSN, if it is still kept.
    pub(super) fn get(&self, tsn: Tsn) -> Option<&Chunk> {
        self.chunks.get(tsn.distance(self.first) as usize)
    }

    /// The highest TSN that a gap block covers, and one more; the first TSN if none does.
    pub(super) fn gap_end(&self) -> Tsn {
        self.first + self.gaps.end()
    }

    /// A new chunk was sent.
    pub(super) fn push(&mut self, now: Instant, chunk: Chunk, paths: &mut Paths) -> Tsn {
        let tsn = self.next_tsn();
        let size = chunk.size();
        self.chunks_in_flight += 1;
        self.octets_in_flight += usize::from(chunk.len);
        let path = paths.get_mut(chunk.path);
        path.on_new_data(now, tsn);
        path.on_sent(now, size);
        self.chunks.push_back(chunk);
        tsn
    }

    /// A lost chunk was sent again, on `path`.
    pub(super) fn resend(
        &mut self,
        now: Instant,
        tsn: Tsn,
        to: PathId,
        paths: &mut Paths,
    ) -> Option<&Chunk> {
        for id in paths.ids() {
            paths.get_mut(id).on_retransmission(tsn);
        }
        self.lower_earliest(to, tsn);
        let chunk = self.chunks.get_mut(tsn.distance(self.first) as usize)?;
        debug_assert!(chunk.is_lost(), "only what is lost is sent again");
        chunk.state = ChunkState::InFlight;
        chunk.moved |= chunk.path != to;
        chunk.path = to;
        chunk.retransmitted = true;
        self.chunks_in_flight += 1;
        self.octets_in_flight += usize::from(chunk.len);
        paths.get_mut(to).on_sent(now, chunk.size());
        Some(chunk)
    }

    /// A chunk in flight is lost, in the way that `state` says.
    pub(super) fn lose(&mut self, tsn: Tsn, state: ChunkState, paths: &mut Paths) {
        let index = tsn.distance(self.first) as usize;
        let in_flight = |chunk: &&mut Chunk| chunk.state == ChunkState::InFlight;
        let Some(chunk) = self.chunks.get_mut(index).filter(in_flight) else {
            return;
        };
        chunk.state = state;
        chunk.fast_retransmitted |= state == ChunkState::Missing;
        let facts = chunk.facts();
        self.leave_flight(facts, paths);
    }

    /// The TSNs in flight on `path`, ascending. Walks the whole ring: for timeouts.
    pub(super) fn in_flight_on(&self, path: PathId) -> impl Iterator<Item = Tsn> {
        self.note_visits(self.chunks.len());
        let wanted = move |chunk: &Chunk| chunk.path == path && chunk.state == ChunkState::InFlight;
        (0u32..)
            .zip(&self.chunks)
            .filter(move |(_, chunk)| wanted(chunk))
            .map(|(index, _)| self.first + index)
    }

    /// The earliest outstanding TSN sent to `path` last (6.3.2 R3).
    pub(super) fn earliest_on(&mut self, path: PathId) -> Option<Tsn> {
        self.lower_earliest(path, self.next_tsn()); // makes the entry
        let hint = self.earliest[path.index()].distance(self.first) as usize;
        // A hint that has been overtaken, however long ago.
        let from = if hint > self.chunks.len() { 0 } else { hint };
        let found = self
            .chunks
            .range(from..)
            .position(|chunk| chunk.path == path && chunk.state != ChunkState::Acked);
        let index = found.map_or(self.chunks.len(), |step| from + step);
        self.note_visits(index + 1 - from);
        let earliest = self.first + index as u32;
        self.earliest[path.index()] = earliest;
        found.map(|_| earliest)
    }

    /// Takes everything up to `tsn` as received: the Cumulative TSN Ack Point moves there (6.2.1). `tsn` must have been
    /// sent.
    pub(super) fn acknowledge_up_to(
        &mut self,
        now: Instant,
        tsn: Tsn,
        paths: &mut Paths,
        acked: &mut Acked,
    ) {
        let count = tsn.next().distance(self.first);
        self.note_visits(count as usize);
        for _ in 0..count {
            let Some(chunk) = self.chunks.pop_front() else {
                break;
            };
            let tsn = self.first;
            self.first = tsn.next();
            if chunk.state != ChunkState::Acked {
                if let Some(of_path) = acked.paths.get_mut(chunk.path.index()) {
                    // Nothing lower is outstanding anywhere.
                    of_path.earliest = true;
                }
                self.note_acked(now, tsn, chunk.facts(), paths, acked);
            }
            acked.released_octets += usize::from(chunk.len);
            acked.released_messages += usize::from(chunk.is_end());
        }
        self.gaps.advance(self.first);
    }

    /// Takes a SACK's gap blocks (6.2.1), none of which may go beyond what was sent. What the peer took back is in flight
    /// again, see [`Self::reneged`].
    pub(super) fn acknowledge_gaps(
        &mut self,
        now: Instant,
        blocks: &[GapBlock],
        paths: &mut Paths,
        acked: &mut Acked,
    ) {
        if blocks.is_empty() && self.gaps.is_empty() {
            self.gaps.stay_empty();
            return;
        }
        self.note_visits(blocks.len());
        let looked_at = self.gaps.update(blocks);
        self.note_visits(looked_at);
        // Taken out while the chunks change; moving it costs nothing.
        let gaps = std::mem::replace(&mut self.gaps, GapRanges::new(self.first));
        for range in gaps.newly_acked() {
            self.acknowledge_range(now, *range, paths, acked);
        }
        for range in gaps.reneged() {
            let chunks = range.start as usize..range.end as usize;
            self.note_visits(chunks.len());
            for chunk in self.chunks.range_mut(chunks) {
                chunk.state = ChunkState::InFlight;
                self.chunks_in_flight += 1;
                self.octets_in_flight += usize::from(chunk.len);
                paths.get_mut(chunk.path).on_reneged(chunk.size());
            }
            for path in paths.ids() {
                self.lower_earliest(path, self.first + range.start);
            }
        }
        self.gaps = gaps;
    }

    /// The TSNs that the last SACK took back.
    pub(super) fn reneged(&self) -> impl Iterator<Item = (Tsn, PathId)> {
        self.gaps.reneged().iter().flat_map(|range| {
            let chunks = self.chunks.range(range.start as usize..range.end as usize);
            (range.start..)
                .zip(chunks)
                .map(|(index, chunk)| (self.first + index, chunk.path))
        })
    }

    /// Takes out the first chunk: the association has failed.
    pub(super) fn pop(&mut self, paths: &mut Paths) -> Option<Chunk> {
        let chunk = self.chunks.pop_front()?;
        self.first = self.first.next();
        self.gaps.advance(self.first);
        if chunk.state == ChunkState::InFlight {
            self.leave_flight(chunk.facts(), paths);
        }
        Some(chunk)
    }

    fn acknowledge_range(
        &mut self,
        now: Instant,
        range: Range,
        paths: &mut Paths,
        acked: &mut Acked,
    ) {
        self.note_visits((range.end - range.start) as usize);
        for index in range.start..range.end {
            let tsn = self.first + index;
            let Some(chunk) = self.chunks.get(index as usize) else {
                debug_assert!(false, "blocks were checked against what was sent");
                return;
            };
            let facts = chunk.facts();
            // With one path there is an earlier one always: the one after the cumulative TSN.
            if paths.len() > 1
                && self.earliest_on(facts.path) == Some(tsn)
                && let Some(of_path) = acked.paths.get_mut(facts.path.index())
            {
                of_path.earliest = true;
            }
            self.chunks[index as usize].state = ChunkState::Acked;
            self.note_acked(now, tsn, facts, paths, acked);
        }
    }

    /// A chunk was acknowledged for the first time, or again after the peer had dropped it.
    fn note_acked(
        &mut self,
        now: Instant,
        tsn: Tsn,
        facts: Facts,
        paths: &mut Paths,
        acked: &mut Acked,
    ) {
        if facts.state == ChunkState::InFlight {
            self.leave_flight(facts, paths);
        }
        if acked.highest.is_none_or(|highest| highest.is_before(tsn)) {
            acked.highest = Some(tsn);
        }
        acked.octets += facts.len;
        let path = paths.get_mut(facts.path);
        if let Some(of_path) = acked.paths.get_mut(facts.path.index()) {
            of_path.size += facts.size;
            of_path.unambiguous |= !facts.moved;
            if path.measured_tsn() == Some(tsn) {
                of_path.round_trip = path.complete_measurement(now);
            }
        }
    }

    fn leave_flight(&mut self, facts: Facts, paths: &mut Paths) {
        self.chunks_in_flight -= 1;
        self.octets_in_flight -= facts.len;
        paths.get_mut(facts.path).on_left_flight(facts.size);
    }

    /// A chunk at `tsn` is outstanding on `path` now.
    fn lower_earliest(&mut self, path: PathId, tsn: Tsn) {
        if path.index() >= self.earliest.len() {
            self.earliest.resize(path.index() + 1, self.first);
        }
        let hint = &mut self.earliest[path.index()];
        if tsn.is_before(*hint) {
            *hint = tsn;
        }
    }
}

/// What the counts need to know of a chunk.
#[derive(Clone, Copy)]
struct Facts {
    len: usize,
    size: usize,
    path: PathId,
    state: ChunkState,
    moved: bool,
}

impl Chunk {
    fn facts(&self) -> Facts {
        Facts {
            len: usize::from(self.len),
            size: self.size(),
            path: self.path,
            state: self.state,
            moved: self.moved,
        }
    }
}
