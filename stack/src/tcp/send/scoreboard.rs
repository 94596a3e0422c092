//! What is sent and not acknowledged: when it was sent, what the peer has selectively, what is deemed lost.
//!
//! Owns the byte ranges between SND.UNA and SND.NXT in order, split where a SACK edge or a retransmission says so, with
//! running totals, so that `pipe` (RFC 6675 4) costs nothing. Deciding when to enter recovery is `recovery`'s concern.
//! Segments are counted as ⌈octets / segment size⌉, since a super-packet is one range.
//! RFC 6675 (IsLost, SetPipe, NextSeg), RFC 2018 (renege), RFC 2883 (D-SACK).

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::tcp::SeqNum;
use crate::time::Instant;

/// A run of octets that share their fate.
#[derive(Clone, Copy, Debug)]
struct Range {
    start: SeqNum,
    end: SeqNum,
    /// When it was sent last.
    sent_at: Instant,
    segment_size: u16,
    sacked: bool,
    lost: bool,
    /// A retransmission is under way and not lost itself.
    retransmitted: bool,
    /// It was retransmitted at least once: Karn's rule forbids a sample.
    ever_retransmitted: bool,
}

impl Range {
    fn len(&self) -> u32 {
        self.end - self.start
    }

    fn segments(&self) -> u32 {
        self.len().div_ceil(u32::from(self.segment_size.max(1)))
    }
}

/// What an acknowledgment, cumulative or selective, brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Octets that had not been acknowledged in any way before.
    pub bytes: u32,
    /// When the earliest of them that were never retransmitted were sent: an RTT sample (RFC 6298 3, Karn).
    pub sent_at: Option<Instant>,
    /// Some of them had been retransmitted: only timestamps can tell the round trip.
    pub retransmitted: bool,
    /// The peer reported a duplicate (RFC 2883).
    pub duplicate_sack: bool,
}

impl Delivered {
    fn add(&mut self, range: &Range) {
        self.bytes += range.len();
        if range.ever_retransmitted {
            self.retransmitted = true;
        } else {
            self.sent_at = Some(
                self.sent_at
                    .map_or(range.sent_at, |at| at.min(range.sent_at)),
            );
        }
    }
}

/// The ranges between SND.UNA and SND.NXT.
#[derive(Debug)]
pub struct Scoreboard {
    ranges: VecDeque<Range>,
    una: SeqNum,
    sacked: u32,
    lost: u32,
    retransmitted: u32,
    /// End of the highest range the peer has selectively.
    highest_sacked: SeqNum,
    /// Everything below it that is not SACKed has been marked lost.
    lost_edge: SeqNum,
    /// Nothing below it is lost and waits for retransmission.
    retransmit_hint: SeqNum,
    /// SACK blocks already applied: peers repeat them in every ACK.
    applied: SmallVec<[(SeqNum, SeqNum); 4]>,
}

impl Scoreboard {
    /// Nothing in flight, the next octet being `start`.
    pub fn new(start: SeqNum) -> Self {
        Self {
            ranges: VecDeque::new(),
            una: start,
            sacked: 0,
            lost: 0,
            retransmitted: 0,
            highest_sacked: start,
            lost_edge: start,
            retransmit_hint: start,
            applied: SmallVec::new(),
        }
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether any allocation is owned, for tests and accounting.
    pub fn owns_memory(&self) -> bool {
        self.ranges.capacity() > 0
    }

    /// Octets the network is believed to hold (RFC 6675 4, SetPipe).
    pub fn pipe(&self) -> u32 {
        (self.outstanding() + self.retransmitted).saturating_sub(self.sacked + self.lost)
    }

    /// Octets sent and not cumulatively acknowledged (FlightSize of RFC 5681).
    pub fn outstanding(&self) -> u32 {
        self.ranges.back().map_or(0, |last| last.end - self.una)
    }

    /// Octets the peer has selectively.
    pub const fn sacked(&self) -> u32 {
        self.sacked
    }

    /// Octets deemed lost, whether or not a retransmission is under way.
    pub const fn lost(&self) -> u32 {
        self.lost
    }

    /// The peer has something selectively beyond the cumulative acknowledgment.
    pub const fn has_sacked(&self) -> bool {
        self.sacked > 0
    }

    /// New octets up to `end` went out at `now`, in segments of `segment_size`.
    pub fn on_sent(&mut self, end: SeqNum, now: Instant, segment_size: u16) {
        let start = self.ranges.back().map_or(self.una, |last| last.end);
        if !start.before(end) {
            return;
        }
        let segment_size = segment_size.max(1);
        let crowded = self.ranges.len() >= MAX_RANGES;
        if let Some(last) = self.ranges.back_mut() {
            let untouched = !last.sacked && !last.lost && !last.ever_retransmitted;
            let whole = last.len() % u32::from(segment_size) == 0;
            let alike = last.sent_at == now && last.segment_size == segment_size && whole;
            if untouched && (alike || crowded) {
                last.end = end;
                return;
            }
        }
        self.ranges.push_back(Range {
            start,
            end,
            sent_at: now,
            segment_size,
            sacked: false,
            lost: false,
            retransmitted: false,
            ever_retransmitted: false,
        });
    }

    /// Everything before `una` is acknowledged.
    pub fn acknowledge(&mut self, una: SeqNum) -> Delivered {
        let mut delivered = Delivered::default();
        while let Some(front) = self.ranges.front_mut() {
            if !front.start.before(una) {
                break;
            }
            let mut acked = *front;
            acked.end = acked.end.min(una);
            if front.end.after(una) {
                front.start = una;
            } else {
                self.ranges.pop_front();
            }
            self.forget(&acked);
            if acked.sacked {
                self.sacked -= acked.len();
            } else {
                delivered.add(&acked);
            }
        }
        if una.after(self.una) {
            self.una = una;
            self.highest_sacked = self.highest_sacked.max(una);
            self.lost_edge = self.lost_edge.max(una);
            self.retransmit_hint = self.retransmit_hint.max(una);
        }
        if self.ranges.is_empty() {
            *self = Self::new(self.una);
        }
        delivered
    }

    /// Applies the SACK blocks of a segment whose cumulative acknowledgment was applied before.
    pub fn apply_sack(&mut self, blocks: &[(u32, u32)], acknowledgment: SeqNum) -> Delivered {
        let mut delivered = Delivered::default();
        let Some(end) = self.ranges.back().map(|last| last.end) else {
            delivered.duplicate_sack = first_is_duplicate(blocks, acknowledgment);
            return delivered;
        };
        delivered.duplicate_sack = first_is_duplicate(blocks, acknowledgment);
        let before = std::mem::take(&mut self.applied);
        for &(left, right) in blocks.iter().take(MAX_BLOCKS) {
            let (left, right) = (SeqNum(left), SeqNum(right));
            // Nothing outside what is in flight, and never the first octet: that one would be acknowledged.
            if !left.before(right) || right.after(end) || left.at_or_before(self.una) {
                continue;
            }
            self.apply_new_parts(left, right, &before, &mut delivered);
            self.applied.push((left, right));
        }
        self.applied
            .sort_unstable_by_key(|block| block.0 - self.una);
        delivered
    }

    /// Marks lost what RFC 6675's IsLost calls so: `threshold` segments above it were SACKed. Returns octets newly lost.
    pub fn detect_losses(&mut self, threshold: u32) -> u32 {
        if self.sacked == 0 {
            return 0;
        }
        let mut above = 0;
        let mut index = self.index_at(self.highest_sacked);
        let edge = loop {
            let Some(range) = index.checked_sub(1).and_then(|i| self.ranges.get(i)) else {
                return 0;
            };
            if !range.start.at_or_after(self.lost_edge) {
                return 0;
            }
            if range.sacked {
                above += range.segments();
                if above >= threshold {
                    break range.start;
                }
            }
            index -= 1;
        };
        let from = self.index_at(self.lost_edge);
        self.lost_edge = edge;
        let mut newly = 0;
        for range in self.ranges.range_mut(from..) {
            if !range.start.before(edge) {
                break;
            }
            if !range.sacked && !range.lost {
                range.lost = true;
                newly += range.len();
            }
        }
        self.lost += newly;
        newly
    }

    /// Marks the first `len` octets in flight lost (fast retransmit and partial ACKs without SACK, and the first
    /// segment when recovery begins). What was retransmitted already stays as it is.
    pub fn mark_head_lost(&mut self, len: u32) -> u32 {
        let Some(front) = self.ranges.front() else {
            return 0;
        };
        if front.sacked || front.lost {
            return 0;
        }
        let end = clip(front.start, front.end, len);
        self.split_at(end);
        let Some(front) = self.ranges.front_mut() else {
            return 0;
        };
        let newly = front.len();
        front.lost = true;
        self.lost += newly;
        self.retransmit_hint = self.una;
        newly
    }

    /// A retransmission timeout: everything not SACKed is lost, retransmissions included (RFC 6675 5.1). If the very
    /// first octet had been SACKed, the peer has reneged and no SACK counts any more (RFC 2018 8).
    pub fn mark_all_lost(&mut self) {
        let reneged = self.ranges.front().is_some_and(|front| front.sacked);
        self.lost = 0;
        self.retransmitted = 0;
        for range in &mut self.ranges {
            if reneged {
                range.sacked = false;
            }
            range.retransmitted = false;
            range.lost = !range.sacked;
            if range.lost {
                self.lost += range.end - range.start;
            }
        }
        if reneged {
            self.sacked = 0;
            self.highest_sacked = self.una;
            self.applied.clear();
        }
        self.lost_edge = self.ranges.back().map_or(self.una, |last| last.end);
        self.retransmit_hint = self.una;
    }

    /// The next octets to retransmit, at most `limit` of them: NextSeg rule 1 of RFC 6675 4.
    pub fn next_lost(&mut self, limit: u32) -> Option<(SeqNum, SeqNum)> {
        if self.lost == self.retransmitted {
            return None; // each lost octet is on its way again
        }
        let from = self.index_at(self.retransmit_hint);
        let found = self
            .ranges
            .range(from..)
            .find(|range| range.lost && !range.retransmitted)
            .map(|range| (range.start, range.end));
        let Some((start, end)) = found else {
            self.retransmit_hint = self.ranges.back().map_or(self.una, |last| last.end);
            return None;
        };
        self.retransmit_hint = start;
        // Neighbours that share the fate go along.
        let mut until = end;
        let next = self.index_at(end);
        for range in self.ranges.range(next..) {
            if until - start >= limit || !range.lost || range.retransmitted {
                break;
            }
            until = range.end;
        }
        Some((start, clip(start, until, limit)))
    }

    /// The first octets that are neither SACKed, lost nor retransmitted, at most `limit`, and below what the peer has
    /// SACKed: NextSeg rule 3 of RFC 6675 4.
    pub fn next_unsacked(&self, limit: u32) -> Option<(SeqNum, SeqNum)> {
        let from = self.index_at(self.lost_edge);
        self.ranges
            .range(from..)
            .take_while(|range| range.start.before(self.highest_sacked))
            .find(|range| !range.sacked && !range.retransmitted && !range.ever_retransmitted)
            .map(|range| (range.start, clip(range.start, range.end, limit)))
    }

    /// `start..end` was retransmitted at `now` in segments of `segment_size`.
    pub fn on_retransmitted(
        &mut self,
        start: SeqNum,
        end: SeqNum,
        now: Instant,
        segment_size: u16,
    ) {
        self.split_at(start);
        self.split_at(end);
        let from = self.index_at(start);
        for range in self.ranges.range_mut(from..) {
            if !range.start.before(end) {
                break;
            }
            if !range.sacked && !range.retransmitted && range.lost {
                range.retransmitted = true;
                self.retransmitted += range.end - range.start;
            }
            range.ever_retransmitted = true;
            range.sent_at = now;
            range.segment_size = segment_size.max(1);
        }
        if self.retransmit_hint.at_or_after(start) {
            self.retransmit_hint = self.retransmit_hint.max(end);
        }
    }

    /// Forgets everything: the connection is over.
    pub fn clear(&mut self) {
        *self = Self::new(self.una);
    }

    /// Takes a range out of the lost and retransmitted totals.
    fn forget(&mut self, range: &Range) {
        if range.lost {
            self.lost -= range.len();
        }
        if range.retransmitted {
            self.retransmitted -= range.len();
        }
    }

    /// Applies the parts of a block that no block of the ACK before covered.
    fn apply_new_parts(
        &mut self,
        left: SeqNum,
        right: SeqNum,
        before: &[(SeqNum, SeqNum)],
        delivered: &mut Delivered,
    ) {
        let mut at = left;
        for &(known_left, known_right) in before {
            if known_right.at_or_before(at) {
                continue;
            }
            if known_left.at_or_after(right) {
                break;
            }
            if known_left.after(at) {
                self.sack_range(at, known_left, delivered);
            }
            at = known_right;
        }
        if at.before(right) {
            self.sack_range(at, right, delivered);
        }
    }

    fn sack_range(&mut self, left: SeqNum, right: SeqNum, delivered: &mut Delivered) {
        // A peer that reports single octets would have us keep a range for each. SACK is advice: past the limit it is
        // not taken, and what it told comes with the cumulative acknowledgment.
        if self.ranges.len() >= MAX_RANGES {
            return;
        }
        self.split_at(left);
        self.split_at(right);
        let from = self.index_at(left);
        let mut newly_sacked = 0;
        let mut newly_not_lost = 0;
        let mut newly_not_retransmitted = 0;
        for range in self.ranges.range_mut(from..) {
            if !range.start.before(right) {
                break;
            }
            if range.sacked {
                continue;
            }
            delivered.add(range);
            newly_sacked += range.len();
            if range.lost {
                newly_not_lost += range.len();
            }
            if range.retransmitted {
                newly_not_retransmitted += range.len();
            }
            range.sacked = true;
            range.lost = false;
            range.retransmitted = false;
        }
        self.sacked += newly_sacked;
        self.lost -= newly_not_lost;
        self.retransmitted -= newly_not_retransmitted;
        if newly_sacked > 0 {
            self.highest_sacked = self.highest_sacked.max(right);
        }
    }

    /// Makes `at` an edge between ranges, if it lies inside one.
    fn split_at(&mut self, at: SeqNum) {
        let index = self.index_at(at);
        let Some(range) = self.ranges.get_mut(index) else {
            return;
        };
        if !range.start.before(at) {
            return;
        }
        let mut second = *range;
        second.start = at;
        range.end = at;
        self.ranges.insert(index + 1, second);
    }

    /// Index of the range that holds `at` or else begins behind it.
    fn index_at(&self, at: SeqNum) -> usize {
        let offset = at.saturating_since(self.una);
        let una = self.una;
        self.ranges
            .partition_point(|range| range.end - una <= offset)
    }
}

/// The end of the first `limit` octets of `start..end`.
fn clip(start: SeqNum, end: SeqNum, limit: u32) -> SeqNum {
    start + (end - start).min(limit)
}

/// The first block reports a duplicate (RFC 2883 4): it lies below the acknowledgment, or inside the second block.
fn first_is_duplicate(blocks: &[(u32, u32)], acknowledgment: SeqNum) -> bool {
    let Some(&(left, right)) = blocks.first() else {
        return false;
    };
    let (left, right) = (SeqNum(left), SeqNum(right));
    if left.before(acknowledgment) {
        return right.at_or_before(acknowledgment);
    }
    blocks.get(1).is_some_and(|&(outer_left, outer_right)| {
        SeqNum(outer_left).at_or_before(left) && right.at_or_before(SeqNum(outer_right))
    })
}

/// Ranges kept at most, about 800 KiB: beyond, new data joins the last range and loses its own send time.
const MAX_RANGES: usize = 32_768;
/// Blocks looked at per segment: the option space holds no more.
const MAX_BLOCKS: usize = 4;

#[cfg(test)]
mod tests;
