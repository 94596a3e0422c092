//! Which SACK blocks an ACK carries (RFC 2018 4, RFC 2883).
//!
//! Owns the order of reporting; the ranges themselves are `reassembly.rs`'s. Sequence numbers come in as half-open
//! ranges `(left edge, right edge)`.

use smallvec::SmallVec;

use crate::tcp::SeqNum;

/// A range of sequence numbers, right edge excluded.
pub type Block = (SeqNum, SeqNum);

/// The blocks to report, most recent first.
#[derive(Clone, Debug, Default)]
pub struct SackBlocks {
    recent: SmallVec<[Block; MAX_BLOCKS]>,
    /// Data that arrived twice, not yet reported (RFC 2883 4).
    duplicate: Option<Block>,
}

impl SackBlocks {
    /// Nothing to report.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether an ACK has no SACK option to carry.
    pub fn is_empty(&self) -> bool {
        self.recent.is_empty() && self.duplicate.is_none()
    }

    /// `range` is what the latest segment has become part of: the first block MUST hold it (RFC 2018 4).
    pub fn record(&mut self, range: Block) {
        // Whatever touches the range has been merged into it.
        self.recent
            .retain(|(left, right)| right.before(range.0) || left.after(range.1));
        self.recent.truncate(MAX_BLOCKS - 1);
        self.recent.insert(0, range);
    }

    /// `range` arrived although it had been received before: the next ACK says so (RFC 2883).
    pub fn record_duplicate(&mut self, range: Block) {
        self.duplicate = Some(range);
    }

    /// All before `rcv_nxt` is cumulatively acknowledged now.
    pub fn advance(&mut self, rcv_nxt: SeqNum) {
        self.recent.retain(|(_, right)| right.after(rcv_nxt));
    }

    /// The blocks for an ACK with room for `limit` of them. A duplicate comes first, and is reported once.
    pub fn blocks(&mut self, limit: usize) -> SmallVec<[Block; MAX_BLOCKS]> {
        let mut blocks = SmallVec::new();
        if limit > 0 {
            blocks.extend(self.duplicate.take());
        }
        let room = limit.min(MAX_BLOCKS).saturating_sub(blocks.len());
        blocks.extend(self.recent.iter().take(room).copied());
        blocks
    }
}

/// As many blocks as an option has room for (RFC 2018 3).
const MAX_BLOCKS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn block(left: u32, right: u32) -> Block {
        (SeqNum(left), SeqNum(right))
    }

    fn reported(blocks: &mut SackBlocks, limit: usize) -> Vec<(u32, u32)> {
        blocks
            .blocks(limit)
            .iter()
            .map(|(left, right)| (left.0, right.0))
            .collect()
    }

    #[test]
    fn most_recent_block_comes_first_and_merged_ones_vanish() {
        // RFC 2018 4: the example of section 4 in small, with wrap-around.
        let mut blocks = SackBlocks::new();
        blocks.record(block(10, 20));
        blocks.record(block(30, 40));
        blocks.record(block(u32::MAX - 5, 5));
        assert_eq!(
            reported(&mut blocks, 4),
            [(u32::MAX - 5, 5), (30, 40), (10, 20)]
        );
        blocks.record(block(10, 40));
        assert_eq!(reported(&mut blocks, 4), [(10, 40), (u32::MAX - 5, 5)]);
        assert_eq!(reported(&mut blocks, 1), [(10, 40)]);
        assert_eq!(reported(&mut blocks, 0), []);
    }

    #[test]
    fn at_most_four_blocks_are_remembered() {
        let mut blocks = SackBlocks::new();
        for i in 0..10 {
            blocks.record(block(i * 10, i * 10 + 5));
        }
        assert_eq!(
            reported(&mut blocks, 9),
            [(90, 95), (80, 85), (70, 75), (60, 65)]
        );
    }

    #[test]
    fn acknowledged_blocks_vanish() {
        let mut blocks = SackBlocks::new();
        blocks.record(block(10, 20));
        blocks.record(block(30, 40));
        blocks.advance(SeqNum(20));
        assert_eq!(reported(&mut blocks, 4), [(30, 40)]);
        blocks.advance(SeqNum(40));
        assert!(blocks.is_empty());
    }

    #[test]
    fn duplicate_is_reported_once_and_first() {
        // RFC 2883 4: the first block, before the block that holds it, and in one ACK only.
        let mut blocks = SackBlocks::new();
        blocks.record(block(10, 20));
        blocks.record_duplicate(block(12, 14));
        assert!(!blocks.is_empty());
        assert_eq!(reported(&mut blocks, 0), [], "no room: later");
        assert_eq!(reported(&mut blocks, 3), [(12, 14), (10, 20)]);
        assert_eq!(reported(&mut blocks, 3), [(10, 20)]);
    }
}
