//! What the peer has beyond the cumulative TSN: ranges, and how one SACK's differ from the last one's.
//!
//! Each SACK repeats all Gap Ack Blocks (RFC 9260 3.3.4). Comparing ranges with ranges costs as much as there are blocks;
//! TSNs are touched only where something changed: newly acknowledged, or taken back by the peer (6.2.1 D iii).

use crate::sctp::serial::Tsn;
use crate::wire::sctp::GapBlock;

/// Consecutive TSNs: `start` to before `end`, counted from the first TSN that is not cumulatively acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: u32,
    pub(super) end: u32,
}

/// The TSNs that the peer has acknowledged in gap blocks and not cumulatively.
#[derive(Debug)]
pub(super) struct GapRanges {
    /// Ascending, none touches the next; counted from `origin`.
    ranges: Vec<Range>,
    origin: Tsn,
    /// The last SACK's changes, and space to compute the next one's: no SACK allocates.
    newly_acked: Vec<Range>,
    reneged: Vec<Range>,
    reported: Vec<Range>,
}

impl GapRanges {
    pub(super) fn new(origin: Tsn) -> Self {
        Self {
            ranges: Vec::new(),
            origin,
            newly_acked: Vec::new(),
            reneged: Vec::new(),
            reported: Vec::new(),
        }
    }

    /// The end of the highest range, counted like [`Range`].
    pub(super) fn end(&self) -> u32 {
        self.ranges.last().map_or(0, |range| range.end)
    }

    /// What the last [`Self::update`] acknowledged for the first time.
    pub(super) fn newly_acked(&self) -> &[Range] {
        &self.newly_acked
    }

    /// What the last [`Self::update`] took back.
    pub(super) fn reneged(&self) -> &[Range] {
        &self.reneged
    }

    /// Whether nothing beyond the Cumulative TSN Ack Point is acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// What [`Self::update`] does with no blocks, where there were none.
    pub(super) fn stay_empty(&mut self) {
        self.newly_acked.clear();
        self.reneged.clear();
    }

    /// Everything before `first` is acknowledged cumulatively.
    pub(super) fn advance(&mut self, first: Tsn) {
        let by = first.distance(self.origin);
        self.origin = first;
        if by == 0 || self.ranges.is_empty() {
            return;
        }
        self.ranges.retain_mut(|range| {
            range.start = range.start.saturating_sub(by);
            range.end = range.end.saturating_sub(by);
            range.end > range.start
        });
    }

    /// Takes a SACK's blocks, whose cumulative TSN is the one just advanced to. Blocks may overlap and come in any order
    /// (3.3.4 says only that they SHOULD be isolated); empty ones say nothing. Gives how many ranges were looked at.
    pub(super) fn update(&mut self, blocks: &[GapBlock]) -> usize {
        self.read(blocks);
        if blocks.len() >= MAYBE_CUT_OFF {
            let end = self.reported.last().map_or(0, |range| range.end);
            let beyond = self.ranges.iter().filter(|range| range.end > end);
            let kept = beyond.map(|range| Range {
                start: range.start.max(end),
                end: range.end,
            });
            // What touches the last reported range is one with it.
            for range in kept {
                push_merged(&mut self.reported, range);
            }
        }
        self.newly_acked.clear();
        self.reneged.clear();
        subtract(&self.reported, &self.ranges, &mut self.newly_acked);
        subtract(&self.ranges, &self.reported, &mut self.reneged);
        std::mem::swap(&mut self.ranges, &mut self.reported);
        self.ranges.len() + self.reported.len()
    }

    /// The blocks as ascending ranges.
    fn read(&mut self, blocks: &[GapBlock]) {
        self.reported.clear();
        let mut ascending = true;
        for block in blocks.iter().filter(|block| block.start <= block.end) {
            let range = Range {
                // Offsets count from the cumulative TSN, which is one before the first TSN here. Offset 0 is that TSN
                // itself: nothing new.
                start: u32::from(block.start).saturating_sub(1),
                end: u32::from(block.end),
            };
            if range.end == 0 {
                continue;
            }
            let last_start = self.reported.last().map_or(0, |last| last.start);
            ascending &= range.start >= last_start;
            if ascending {
                push_merged(&mut self.reported, range);
            } else {
                self.reported.push(range);
            }
        }
        if !ascending {
            self.reported.sort_unstable_by_key(|range| range.start);
            self.reported.dedup_by(|next, last| {
                let touches = next.start <= last.end;
                if touches {
                    last.end = last.end.max(next.end);
                }
                touches
            });
        }
    }
}

/// Appends a range that does not begin before the last one, or extends that.
fn push_merged(ranges: &mut Vec<Range>, range: Range) {
    match ranges.last_mut() {
        Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
        _ => ranges.push(range),
    }
}

/// Appends to `out` what is in `from` and not in `what`; both ascending.
fn subtract(from: &[Range], what: &[Range], out: &mut Vec<Range>) {
    let mut what = what.iter().peekable();
    for range in from {
        let mut start = range.start;
        while let Some(taken) = what.next_if(|taken| taken.end <= range.end) {
            if taken.start > start {
                out.push(Range {
                    start,
                    end: taken.start,
                });
            }
            start = start.max(taken.end);
        }
        // The next one ends beyond this range, and may begin in it.
        let end = what
            .peek()
            .map_or(range.end, |taken| taken.start.min(range.end));
        if end > start {
            out.push(Range { start, end });
        }
    }
}

/// A SACK with so many blocks may leave out the highest ones. A receiver reports as many as fit (RFC 9260 6.2), and Linux
/// no more than these; what lies beyond the last one is then not taken for reneged. It will be, if it was, once the
/// holes below are filled and the blocks become fewer.
const MAYBE_CUT_OFF: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blocks(list: &[(u16, u16)]) -> Vec<GapBlock> {
        list.iter()
            .map(|(start, end)| GapBlock {
                start: *start,
                end: *end,
            })
            .collect()
    }

    fn pairs(ranges: &[Range]) -> Vec<(u32, u32)> {
        ranges
            .iter()
            .map(|range| (range.start, range.end))
            .collect()
    }

    #[test]
    fn blocks_become_ranges_whatever_their_order() {
        // RFC 9260 3.3.4. Offset 1 is the TSN after the cumulative one, which is index 0 here.
        type Case<'a> = (&'a [(u16, u16)], &'a [(u32, u32)]);
        let cases: [Case<'_>; 8] = [
            (&[], &[]),
            (&[(2, 3), (5, 5)], &[(1, 3), (4, 5)]),
            (&[(5, 5), (2, 3)], &[(1, 3), (4, 5)]),
            (&[(2, 5), (3, 4), (4, 8)], &[(1, 8)]),
            (&[(2, 3), (4, 5)], &[(1, 5)]),
            (&[(9, 2), (4, 4)], &[(3, 4)]),
            (&[(0, 0), (0, 2)], &[(0, 2)]),
            (&[(8, 9), (2, 2), (3, 20)], &[(1, 20)]),
        ];
        for (reported, ranges) in cases {
            let mut gaps = GapRanges::new(Tsn(100));
            gaps.update(&blocks(reported));
            assert_eq!(pairs(&gaps.ranges), ranges, "{reported:?}");
            assert_eq!(pairs(gaps.newly_acked()), ranges);
        }
    }

    #[test]
    fn only_changes_are_told() {
        let mut gaps = GapRanges::new(Tsn(u32::MAX));
        gaps.update(&blocks(&[(2, 3), (7, 9)]));
        gaps.update(&blocks(&[(2, 3), (6, 10)]));
        assert_eq!(pairs(gaps.newly_acked()), [(5, 6), (9, 10)]);
        assert_eq!(pairs(gaps.reneged()), []);
        gaps.update(&blocks(&[(3, 3), (8, 12)]));
        assert_eq!(pairs(gaps.newly_acked()), [(10, 12)]);
        assert_eq!(pairs(gaps.reneged()), [(1, 2), (5, 7)]);
    }

    #[test]
    fn cumulative_acknowledgment_swallows_ranges() {
        let mut gaps = GapRanges::new(Tsn(u32::MAX));
        gaps.update(&blocks(&[(2, 3), (7, 9)]));
        gaps.advance(Tsn(6)); // seven further
        assert_eq!(pairs(&gaps.ranges), [(0, 2)]);
        gaps.advance(Tsn(8));
        assert_eq!(gaps.ranges, []);
    }

    #[test]
    fn list_that_may_be_cut_off_takes_nothing_back_beyond_its_end() {
        let many: Vec<(u16, u16)> = (0..20).map(|i| (2 + 4 * i, 3 + 4 * i)).collect();
        let mut gaps = GapRanges::new(Tsn(0));
        gaps.update(&blocks(&many));
        // A packet arrived in the first hole but one; the peer still names sixteen blocks.
        let mut next = many;
        next.insert(1, (5, 5));
        gaps.update(&blocks(&next[..16]));
        assert_eq!(pairs(gaps.newly_acked()), [(4, 5)]);
        assert_eq!(pairs(gaps.reneged()), []);
        assert_eq!(gaps.end(), 79);
        // Fewer than sixteen are the whole list.
        gaps.update(&blocks(&next[..15]));
        assert_eq!(gaps.reneged().len(), 6);
    }

    proptest! {
        #[test]
        fn differences_are_those_of_the_sets(
            sacks in prop::collection::vec(prop::collection::vec((0u16..60, 0u16..60), 0..12), 1..6),
        ) {
            let mut gaps = GapRanges::new(Tsn(7));
            let mut known = std::collections::BTreeSet::new();
            for sack in sacks {
                let told: std::collections::BTreeSet<u32> = sack
                    .iter()
                    .flat_map(|(start, end)| (*start).max(1)..=*end)
                    .map(|offset| u32::from(offset) - 1)
                    .collect();
                gaps.update(&blocks(&sack));
                let set = |ranges: &[Range]| -> Vec<u32> {
                    ranges.iter().flat_map(|range| range.start..range.end).collect()
                };
                prop_assert_eq!(set(&gaps.ranges), told.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(
                    set(gaps.newly_acked()),
                    told.difference(&known).copied().collect::<Vec<_>>()
                );
                prop_assert_eq!(
                    set(gaps.reneged()),
                    known.difference(&told).copied().collect::<Vec<_>>()
                );
                known = told;
            }
        }
    }
}
