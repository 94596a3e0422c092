//! SACK (RFC 9260 3.3.4).
//!
//! ```text
//! +---------------------------------------------------------------+
//! |                      Cumulative TSN Ack                       |
//! |          Advertised Receiver Window Credit (a_rwnd)           |
//! +-------------------------------+-------------------------------+
//! |  Number of Gap Ack Blocks     |  Number of Duplicate TSNs     |
//! +-------------------------------+-------------------------------+
//! |  Gap Ack Block Start          |  Gap Ack Block End            |  for each block
//! +-------------------------------+-------------------------------+
//! |                         Duplicate TSN                         |  for each duplicate
//! ```

use bytes::{BufMut, BytesMut};
use smallvec::SmallVec;

use super::{CHUNK_HEADER_LEN, ChunkError};

/// Octets of a SACK without blocks and duplicates, header included.
const FIXED_LEN: usize = CHUNK_HEADER_LEN + 12;
/// Octets of a block or a duplicate.
const ENTRY_LEN: usize = 4;

/// TSNs that have arrived beyond a gap, as offsets from the cumulative TSN: `start` to `end`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GapBlock {
    /// Offset of the first TSN.
    pub start: u16,
    /// Offset of the last TSN.
    pub end: u16,
}

/// A selective acknowledgement. What the peer reports is not checked here.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Sack {
    /// Everything up to this TSN has arrived.
    pub cumulative_tsn_ack: u32,
    /// Octets of receive buffer that are free.
    pub a_rwnd: u32,
    /// What has arrived beyond it.
    pub gap_blocks: SmallVec<[GapBlock; 4]>,
    /// What has arrived more than once, each time it did.
    pub duplicates: SmallVec<[u32; 4]>,
}

impl Sack {
    /// Octets it takes.
    pub fn emitted_len(&self) -> usize {
        FIXED_LEN + ENTRY_LEN * (self.gap_blocks.len() + self.duplicates.len())
    }

    /// How many blocks and duplicates together fit in `room` octets, beyond the fixed part.
    pub const fn entries_in(room: usize) -> usize {
        room.saturating_sub(FIXED_LEN) / ENTRY_LEN
    }

    pub(super) fn parse(value: &[u8]) -> Result<Self, ChunkError> {
        let (fixed, entries) = value.split_first_chunk::<12>().ok_or(ChunkError::Length)?;
        let word = |at: usize| {
            u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]])
        };
        let blocks = usize::from((word(8) >> 16) as u16);
        let duplicates = usize::from(word(8) as u16);
        let (entries, rest) = entries.as_chunks::<ENTRY_LEN>();
        // More than what is announced would be another layout than ours.
        if entries.len() != blocks + duplicates || !rest.is_empty() {
            return Err(ChunkError::Length);
        }
        if entries.is_empty() {
            return Ok(Self {
                cumulative_tsn_ack: word(0),
                a_rwnd: word(4),
                gap_blocks: SmallVec::new(),
                duplicates: SmallVec::new(),
            });
        }
        let (blocks, duplicates) = entries.split_at(blocks);
        Ok(Self {
            cumulative_tsn_ack: word(0),
            a_rwnd: word(4),
            gap_blocks: blocks
                .iter()
                .map(|&[a, b, c, d]| GapBlock {
                    start: u16::from_be_bytes([a, b]),
                    end: u16::from_be_bytes([c, d]),
                })
                .collect(),
            duplicates: duplicates
                .iter()
                .map(|&octets| u32::from_be_bytes(octets))
                .collect(),
        })
    }

    /// Appends the chunk's value.
    pub(super) fn emit(&self, buffer: &mut BytesMut) {
        buffer.put_u32(self.cumulative_tsn_ack);
        buffer.put_u32(self.a_rwnd);
        buffer.put_u16(self.gap_blocks.len() as u16);
        buffer.put_u16(self.duplicates.len() as u16);
        for block in &self.gap_blocks {
            buffer.put_u16(block.start);
            buffer.put_u16(block.end);
        }
        for tsn in &self.duplicates {
            buffer.put_u32(*tsn);
        }
    }
}
