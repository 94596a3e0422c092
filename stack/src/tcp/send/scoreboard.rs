//! What is sent and not acknowledged: when it was sent, what the peer has selectively, what is deemed lost.
//!
//! Owns the byte ranges between SND.UNA and SND.NXT in order, split where a SACK edge or a retransmission says so, with
//! running totals, so that `pipe` (RFC 6675 4) costs nothing; and the retransmissions under way in the order of their
//! sending. Deciding when to enter recovery is `recovery`'s concern, by what time something is lost is `rack`'s.
//! Segments are counted as ⌈octets / segment size⌉, since a super-packet is one range.
//!
//! What was sent once was sent in the order of its sequence numbers, and what was sent again is in a queue of its own:
//! so the candidates for RACK's rule are always at the front of one or the other, and no ACK walks over the window.
//! RFC 8985 6 (per-segment state), RFC 6675 (SetPipe, NextSeg), RFC 2018 (renege), RFC 2883 (D-SACK).

use std::collections::VecDeque;
use std::time::Duration;

use smallvec::SmallVec;

use crate::tcp::SeqNum;
use crate::tcp::send::delivered::{AckTiming, Delivered, Sent, Transmission};
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

    fn sent(&self) -> Sent {
        Sent {
            at: self.sent_at,
            end: self.end,
        }
    }

    fn transmission(&self) -> Transmission {
        Transmission {
            octets: self.len(),
            sent: self.sent(),
            retransmitted: self.ever_retransmitted,
        }
    }

    fn segments(&self) -> u32 {
        self.len().div_ceil(u32::from(self.segment_size.max(1)))
    }
}

/// What RACK's rule found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detected {
    /// Octets newly deemed lost, lost retransmissions included.
    pub lost: u32,
    /// Something sent before RACK's segment may still arrive: by then it is lost.
    pub wait_until: Option<Instant>,
    /// What was sent last of what is newly lost.
    pub newest_lost: Option<Sent>,
}

/// A retransmission under way.
#[derive(Clone, Copy, Debug)]
struct Retransmission {
    start: SeqNum,
    end: SeqNum,
    sent_at: Instant,
}

/// The ranges between SND.UNA and SND.NXT.
#[derive(Clone, Debug)]
pub struct Scoreboard {
    ranges: VecDeque<Range>,
    una: SeqNum,
    sacked: u32,
    lost: u32,
    retransmitted: u32,
    /// End of the highest range the peer has selectively.
    highest_sacked: SeqNum,
    /// Every original below it was SACKed, marked lost or sent again.
    lost_edge: SeqNum,
    /// Octets lost and not sent again yet.
    waiting: u32,
    /// Segments in what the peer has selectively.
    sacked_segments: u32,
    /// Retransmissions in the order of their sending, some of them answered already; allocated only while there are any.
    retransmissions: VecDeque<Retransmission>,
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
            waiting: 0,
            sacked_segments: 0,
            retransmissions: VecDeque::new(),
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

    /// Octets retransmitted and neither acknowledged nor lost again.
    pub const fn retransmitted(&self) -> u32 {
        self.retransmitted
    }

    /// The peer has something selectively beyond the cumulative acknowledgment.
    pub const fn has_sacked(&self) -> bool {
        self.sacked > 0
    }

    /// Segments the peer has selectively (RACK.segs_sacked).
    pub const fn sacked_segments(&self) -> u32 {
        self.sacked_segments
    }

    /// Octets lost and not sent again yet.
    pub const fn waiting(&self) -> u32 {
        self.waiting
    }

    /// The peer has SACKed the first octet in flight and yet does not acknowledge it: it has reneged (RFC 2018 8).
    pub fn has_reneged(&self) -> bool {
        self.ranges.front().is_some_and(|front| front.sacked)
    }

    /// When the oldest octet in flight was sent last.
    pub fn head_sent_at(&self) -> Option<Instant> {
        self.ranges.front().map(|front| front.sent_at)
    }

    /// Whether at most `count` segments are in flight. Looks at no more than that.
    pub fn is_flight_within(&self, count: u32) -> bool {
        let mut segments = 0;
        self.ranges.iter().all(|range| {
            segments += range.segments();
            segments <= count
        })
    }

    /// The last segment in flight, at most `limit` octets, if the peer does not have it. Data ends at `data_end`; a FIN
    /// behind it goes with the last of it.
    pub fn last_segment(&self, limit: u32, data_end: SeqNum) -> Option<(SeqNum, SeqNum)> {
        let last = self.ranges.back().filter(|last| !last.sacked)?;
        let size = limit.clamp(1, u32::from(last.segment_size.max(1)));
        let data = last.end.min(data_end).saturating_since(last.start);
        let start = last.start + data.saturating_sub(1) / size * size;
        Some((start, last.end))
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
    pub fn acknowledge(&mut self, una: SeqNum, timing: &AckTiming) -> Delivered {
        let mut delivered = Delivered::default();
        let fack = self.highest_sacked;
        while let Some(front) = self.ranges.front_mut() {
            if !front.start.before(una) {
                break;
            }
            let mut acked = *front;
            acked.end = acked.end.min(una);
            let whole = *front;
            let rest = front.end.after(una).then(|| {
                front.start = una;
                *front
            });
            if rest.is_none() {
                self.ranges.pop_front();
            }
            self.forget(&acked);
            if acked.sacked {
                self.sacked -= acked.len();
                self.sacked_segments -= whole.segments();
                self.sacked_segments += rest.map_or(0, |rest| rest.segments());
            } else {
                delivered.add(&acked.transmission(), timing, fack);
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
    pub fn apply_sack(
        &mut self,
        blocks: &[(u32, u32)],
        acknowledgment: SeqNum,
        timing: &AckTiming,
    ) -> Delivered {
        let mut delivered = Delivered {
            duplicate: first_duplicate(blocks, acknowledgment),
            ..Delivered::default()
        };
        let Some(end) = self.ranges.back().map(|last| last.end) else {
            return delivered;
        };
        let fack = self.highest_sacked;
        let timing = &timing.of_blocks();
        let before = std::mem::take(&mut self.applied);
        for &(left, right) in blocks.iter().take(MAX_BLOCKS) {
            let (left, right) = (SeqNum(left), SeqNum(right));
            // Nothing outside what is in flight, and never the first octet: that one would be acknowledged.
            if !left.before(right) || right.after(end) || left.at_or_before(self.una) {
                continue;
            }
            self.apply_new_parts(left, right, &before, |board, left, right| {
                board.sack_range(left, right, timing, fack, &mut delivered);
            });
            self.applied.push((left, right));
        }
        self.applied
            .sort_unstable_by_key(|block| block.0 - self.una);
        delivered
    }

    /// Marks lost what was sent before `newest`, which has been delivered, and more than `allowance` ago (RFC 8985 6.2,
    /// step 5; `allowance` is RACK.rtt + RACK.reo_wnd).
    pub fn detect_losses(&mut self, now: Instant, newest: Sent, allowance: Duration) -> Detected {
        let mut detected = Detected::default();
        let Some(front) = self.ranges.front() else {
            return detected;
        };
        let nothing_special = self.sacked == 0 && self.retransmissions.is_empty();
        if nothing_special && !newest.is_after(front.sent()) {
            return detected; // all in order
        }
        let patience = Patience {
            now,
            newest,
            allowance,
        };
        self.detect_lost_originals(patience, &mut detected);
        self.detect_lost_retransmissions(patience, &mut detected);
        detected
    }

    /// Originals left in the order of their sequence numbers: the first that is not lost ends the search.
    fn detect_lost_originals(&mut self, patience: Patience, detected: &mut Detected) {
        let from = self.index_at(self.lost_edge);
        let mut edge = self.lost_edge;
        for range in self.ranges.range_mut(from..) {
            let settled = range.sacked || range.lost || range.ever_retransmitted;
            if !settled {
                if !patience.newest.is_after(range.sent()) {
                    break;
                }
                if !patience.is_over(range.sent_at) {
                    detected.wait_until = Some(patience.end());
                    break;
                }
                range.lost = true;
                detected.lost += range.len();
                detected.newest_lost = Some(range.sent());
                self.lost += range.end - range.start;
                self.waiting += range.end - range.start;
                self.retransmit_hint = self.retransmit_hint.min(range.start);
            }
            edge = range.end;
        }
        self.lost_edge = edge;
    }

    /// Retransmissions are queued in the order of their sending: likewise.
    fn detect_lost_retransmissions(&mut self, patience: Patience, detected: &mut Detected) {
        while let Some(&sent) = self.retransmissions.front() {
            let whole = Sent {
                at: sent.sent_at,
                end: sent.end,
            };
            let answered = sent.end.at_or_before(self.una);
            if !answered && !patience.newest.is_after(whole) {
                break;
            }
            if !answered && !patience.is_over(sent.sent_at) {
                if self.is_under_way(sent) {
                    detected.wait_until = Some(patience.end());
                    break;
                }
            } else if !answered {
                let lost = self.lose_retransmission(sent);
                detected.lost += lost;
                if lost > 0 {
                    detected.newest_lost = Some(whole);
                }
            }
            self.retransmissions.pop_front();
        }
        if self.retransmissions.is_empty() {
            self.retransmissions = VecDeque::new();
        }
    }

    /// Whether any octet of a retransmission is neither acknowledged nor sent yet again.
    fn is_under_way(&self, sent: Retransmission) -> bool {
        let from = self.index_at(sent.start.max(self.una));
        self.ranges
            .range(from..)
            .take_while(|range| range.start.before(sent.end))
            .any(|range| range.retransmitted && range.sent_at == sent.sent_at)
    }

    /// Marks what is left of a retransmission lost; how much that is.
    fn lose_retransmission(&mut self, sent: Retransmission) -> u32 {
        let from = self.index_at(sent.start.max(self.una));
        let mut lost = 0;
        for range in self.ranges.range_mut(from..) {
            if !range.start.before(sent.end) {
                break;
            }
            if !range.retransmitted || range.sent_at != sent.sent_at {
                continue;
            }
            let len = range.end - range.start;
            range.retransmitted = false;
            self.retransmitted -= len;
            if !range.lost {
                range.lost = true; // a loss probe: its original was not
                self.lost += len;
            }
            self.waiting += len;
            self.retransmit_hint = self.retransmit_hint.min(range.start);
            lost += len;
        }
        lost
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
        if !front.retransmitted {
            self.waiting += newly;
        }
        self.retransmit_hint = self.una;
        newly
    }

    /// A retransmission timeout: the first octet and whatever `is_lost` says of the time it was sent at, if it is not
    /// SACKed, is lost, retransmissions included (RFC 8985 6.3). If the very first octet had been SACKed, the peer has
    /// reneged, no SACK counts any more, and everything is lost (RFC 2018 8).
    pub fn mark_lost_on_timeout(&mut self, is_lost: impl Fn(Instant) -> bool) {
        let reneged = self.has_reneged();
        if reneged {
            self.sacked = 0;
            self.sacked_segments = 0;
            self.highest_sacked = self.una;
            self.applied.clear();
        }
        self.lost = 0;
        self.waiting = 0;
        self.retransmitted = 0;
        let una = self.una;
        let mut edge = None;
        for range in &mut self.ranges {
            range.sacked &= !reneged;
            let late = reneged || range.start == una || is_lost(range.sent_at);
            if !range.sacked && (late || range.lost && !range.retransmitted) {
                range.lost = true;
                range.retransmitted = false;
                self.waiting += range.end - range.start;
            } else if !range.sacked && !range.ever_retransmitted {
                edge = edge.or(Some(range.start));
            }
            if range.lost {
                self.lost += range.end - range.start;
            }
            if range.retransmitted {
                self.retransmitted += range.end - range.start;
            }
        }
        let end = self.ranges.back().map_or(una, |last| last.end);
        self.lost_edge = edge.unwrap_or(end);
        self.retransmit_hint = una;
    }

    /// Everything not SACKed is lost, see [`Self::mark_lost_on_timeout`].
    pub fn mark_all_lost(&mut self) {
        self.mark_lost_on_timeout(|_| true);
        self.retransmissions = VecDeque::new();
    }

    /// What is not SACKed and went out in segments of more than `mss` octets is lost, retransmissions included; whether there
    /// was any.
    pub fn mark_oversized_lost(&mut self, mss: u32) -> bool {
        let mut any = false;
        for range in &mut self.ranges {
            let len = range.end - range.start;
            if range.sacked || len.min(u32::from(range.segment_size)) <= mss {
                continue;
            }
            any = true;
            if !range.lost || range.retransmitted {
                self.waiting += len;
            }
            if range.retransmitted {
                range.retransmitted = false;
                self.retransmitted -= len;
            }
            if !range.lost {
                range.lost = true;
                self.lost += len;
            }
        }
        if any {
            self.retransmit_hint = self.una;
        }
        any
    }

    /// Nothing is lost after all: what was deemed so is on its way, but for lost retransmissions.
    pub fn unmark_lost(&mut self) {
        self.lost = 0;
        self.waiting = 0;
        for range in &mut self.ranges {
            range.lost &= range.ever_retransmitted && !range.retransmitted;
            if range.lost {
                self.lost += range.end - range.start;
                self.waiting += range.end - range.start;
            }
        }
        self.lost_edge = self.una;
    }

    /// The next octets to retransmit, at most `limit` of them: NextSeg rule 1 of RFC 6675 4.
    pub fn next_lost(&mut self, limit: u32) -> Option<(SeqNum, SeqNum)> {
        if self.waiting == 0 {
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
            if range.sacked {
                continue;
            }
            if !range.retransmitted {
                range.retransmitted = true;
                self.retransmitted += range.end - range.start;
                if range.lost {
                    self.waiting -= range.end - range.start;
                }
            }
            range.ever_retransmitted = true;
            range.sent_at = now;
            range.segment_size = segment_size.max(1);
        }
        if self.retransmit_hint.at_or_after(start) {
            self.retransmit_hint = self.retransmit_hint.max(end);
        }
        self.retransmissions.push_back(Retransmission {
            start,
            end,
            sent_at: now,
        });
    }

    /// Forgets everything: the connection is over.
    pub fn clear(&mut self) {
        *self = Self::new(self.una);
    }

    /// Takes a range out of the lost and retransmitted totals.
    fn forget(&mut self, range: &Range) {
        if range.lost {
            self.lost -= range.len();
            if !range.retransmitted {
                self.waiting -= range.len();
            }
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
        mut apply: impl FnMut(&mut Self, SeqNum, SeqNum),
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
                apply(self, at, known_left);
            }
            at = known_right;
        }
        if at.before(right) {
            apply(self, at, right);
        }
    }

    fn sack_range(
        &mut self,
        left: SeqNum,
        right: SeqNum,
        timing: &AckTiming,
        fack: SeqNum,
        delivered: &mut Delivered,
    ) {
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
            delivered.add(&range.transmission(), timing, fack);
            newly_sacked += range.len();
            self.sacked_segments += range.segments();
            if range.lost {
                newly_not_lost += range.len();
                if !range.retransmitted {
                    self.waiting -= range.end - range.start;
                }
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
        let whole = *range;
        let mut second = whole;
        second.start = at;
        range.end = at;
        if whole.sacked {
            self.sacked_segments += range.segments() + second.segments();
            self.sacked_segments -= whole.segments();
        }
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

/// The first block, if it reports a duplicate (RFC 2883 4): it lies below the acknowledgment, or inside the second block.
fn first_duplicate(blocks: &[(u32, u32)], acknowledgment: SeqNum) -> Option<(SeqNum, SeqNum)> {
    let &(left, right) = blocks.first()?;
    let (left, right) = (SeqNum(left), SeqNum(right));
    let duplicate = if left.before(acknowledgment) {
        right.at_or_before(acknowledgment)
    } else {
        blocks.get(1).is_some_and(|&(outer_left, outer_right)| {
            SeqNum(outer_left).at_or_before(left) && right.at_or_before(SeqNum(outer_right))
        })
    };
    (duplicate && left.before(right)).then_some((left, right))
}

/// How long RACK waits for what was sent before something delivered.
#[derive(Clone, Copy)]
struct Patience {
    now: Instant,
    newest: Sent,
    allowance: Duration,
}

impl Patience {
    fn is_over(self, sent_at: Instant) -> bool {
        sent_at + self.allowance <= self.now
    }

    /// When all that was sent before RACK's segment is lost, if it does not arrive.
    fn end(self) -> Instant {
        self.newest.at + self.allowance
    }
}

/// Ranges kept at most, about 800 KiB: beyond, new data joins the last range and loses its own send time.
const MAX_RANGES: usize = 32_768;
/// Blocks looked at per segment: the option space holds no more.
const MAX_BLOCKS: usize = 4;

#[cfg(test)]
mod tests;
