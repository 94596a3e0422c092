//! Which TSNs have arrived (RFC 9260 6.2, 6.7).
//!
//! Owns the cumulative TSN and what has arrived beyond it, as ranges. Inside the receiving half a TSN has 64 bits: those
//! of the wire and, above them, how often they have wrapped. Comparing is then plain, and a wrap is nobody's matter.
//!
//! ```text
//!            cumulative
//!  ───────────────┤       ├───────┤     ├──┤
//!     arrived        gap    range   gap  range
//! ```

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::wire::sctp::GapBlock;

/// Ranges beyond the cumulative TSN that are remembered. A SACK of 1500 octets reports some 360; a chunk that would begin
/// a range beyond the limit is not accepted.
const MAX_RANGES: usize = 1024;
/// How far a TSN may be ahead of the cumulative one: the reach of a gap block's offsets (3.3.4).
const REACH: u32 = u16::MAX as u32;

/// A TSN that counts its wraps.
pub(super) type LongTsn = u64;

/// Where a TSN lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It has arrived before.
    Old,
    /// It has not.
    New(LongTsn),
    /// It is so far ahead that no SACK could report it.
    Beyond,
}

/// What has arrived: from `start` to `end`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    start: LongTsn,
    end: LongTsn,
}

/// The TSNs that have arrived.
#[derive(Debug)]
pub(super) struct TsnTracker {
    cumulative: LongTsn,
    /// In order, with a gap before each.
    ranges: VecDeque<Range>,
}

impl TsnTracker {
    /// Nothing has arrived yet.
    pub(super) fn new(initial_tsn: u32) -> Self {
        Self {
            // One wrap up, so that the TSN before the initial one is no negative number.
            cumulative: (1 << 32) + LongTsn::from(initial_tsn) - 1,
            ranges: VecDeque::new(),
        }
    }

    /// The last TSN before the first gap.
    pub(super) const fn cumulative(&self) -> LongTsn {
        self.cumulative
    }

    /// The largest TSN that has arrived.
    pub(super) fn highest(&self) -> LongTsn {
        self.ranges
            .back()
            .map_or(self.cumulative, |range| range.end)
    }

    /// Whether something is missing.
    pub(super) fn has_gaps(&self) -> bool {
        !self.ranges.is_empty()
    }

    /// Where a TSN of the wire lies.
    pub(super) fn place(&self, tsn: u32) -> Place {
        let ahead = tsn.wrapping_sub(self.cumulative as u32);
        match ahead {
            0 | 0x8000_0000.. => Place::Old,
            1..=REACH => {
                let tsn = self.cumulative + LongTsn::from(ahead);
                let (index, held) = self.find(tsn);
                if held {
                    Place::Old
                } else if self.ranges.len() >= MAX_RANGES && !self.adjoins(index, tsn) {
                    Place::Beyond
                } else {
                    Place::New(tsn)
                }
            }
            _ => Place::Beyond,
        }
    }

    /// The first range that ends at `tsn` or behind it, and whether it holds `tsn`.
    fn find(&self, tsn: LongTsn) -> (usize, bool) {
        // Nearly always the TSN comes behind everything.
        if self.ranges.back().is_none_or(|range| range.end < tsn) {
            return (self.ranges.len(), false);
        }
        let index = self.ranges.partition_point(|range| range.end < tsn);
        let held = self
            .ranges
            .get(index)
            .is_some_and(|range| range.start <= tsn);
        (index, held)
    }

    /// Whether `tsn`, which belongs before range `index`, needs no range of its own.
    fn adjoins(&self, index: usize, tsn: LongTsn) -> bool {
        tsn == self.cumulative + 1
            || index
                .checked_sub(1)
                .is_some_and(|before| self.ranges[before].end + 1 == tsn)
            || self
                .ranges
                .get(index)
                .is_some_and(|behind| behind.start == tsn + 1)
    }

    /// Notes that `tsn` has arrived, which [`Self::place`] has called new.
    pub(super) fn insert(&mut self, tsn: LongTsn) {
        if tsn == self.cumulative + 1 {
            self.cumulative = tsn;
            if let Some(first) = self.ranges.pop_front_if(|first| first.start == tsn + 1) {
                self.cumulative = first.end;
            }
            return;
        }
        let (index, held) = self.find(tsn);
        debug_assert!(!held && tsn > self.cumulative, "not a new TSN");
        let joins_before = index > 0 && self.ranges[index - 1].end + 1 == tsn;
        let joins_behind = self
            .ranges
            .get(index)
            .is_some_and(|range| range.start == tsn + 1);
        match (joins_before, joins_behind) {
            (true, true) => {
                self.ranges[index - 1].end = self.ranges[index].end;
                self.ranges.remove(index);
            }
            (true, false) => self.ranges[index - 1].end = tsn,
            (false, true) => self.ranges[index].start = tsn,
            (false, false) => self.ranges.insert(
                index,
                Range {
                    start: tsn,
                    end: tsn,
                },
            ),
        }
    }

    /// Forgets the TSNs from `start` to `end`, which arrived beyond a gap and were dropped again.
    pub(super) fn remove(&mut self, start: LongTsn, end: LongTsn) {
        let (index, _) = self.find(start);
        let Some(range) = self.ranges.get(index).copied() else {
            return;
        };
        let behind = (range.end > end).then_some(Range {
            start: end + 1,
            end: range.end,
        });
        if range.start < start {
            self.ranges[index].end = start - 1;
            if let Some(behind) = behind {
                self.ranges.insert(index + 1, behind);
            }
        } else if let Some(behind) = behind {
            self.ranges[index] = behind;
        } else {
            self.ranges.remove(index);
        }
    }

    /// The first `max` ranges as gap blocks, lowest first: those are what the sender waits for.
    pub(super) fn gap_blocks(&self, max: usize) -> SmallVec<[GapBlock; 4]> {
        let offset = |tsn: LongTsn| (tsn - self.cumulative).min(u64::from(u16::MAX)) as u16;
        let ranges = self.ranges.iter().take(max);
        ranges
            .map(|range| GapBlock {
                start: offset(range.start),
                end: offset(range.end),
            })
            .collect()
    }
}
