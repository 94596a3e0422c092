//! Data written and not yet acknowledged, as a list of reference-counted chunks.
//!
//! Owns the octets from SND.UNA to the end of what the application wrote, addressed by sequence number. Packets and
//! retransmissions borrow slices of the chunks, so data is copied once, from the application. What was sent when is
//! the scoreboard's concern. An empty buffer owns no allocation.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use tidewire_netdev::Payload;

use crate::tcp::SeqNum;
use crate::transport::chunk_pool;

/// Data between SND.UNA and the end of what was written.
///
/// ```text
///      start                                             end
///   ─────┼───────────────────────────────────────────────┼────▶ sequence space
///        │  chunk  │  chunk  │   …   │  tail (still growing) │
/// ```
#[derive(Debug)]
pub struct SendBuffer {
    /// Frozen chunks in order; the first may begin before `start`.
    chunks: VecDeque<Chunk>,
    /// The chunk still growing; its filled part is frozen when it is sent.
    tail: BytesMut,
    start: SeqNum,
    end: SeqNum,
}

#[derive(Debug)]
struct Chunk {
    start: SeqNum,
    data: Bytes,
}

impl Chunk {
    fn end(&self) -> SeqNum {
        self.start + self.data.len() as u32
    }
}

impl SendBuffer {
    /// A `Bytes` shorter than this is copied: its handle and the slices of it would cost more than the copy.
    pub const COPY_BELOW: usize = 1024;

    /// An empty buffer whose first octet will have sequence number `start`.
    pub fn new(start: SeqNum) -> Self {
        Self {
            chunks: VecDeque::new(),
            tail: BytesMut::new(),
            start,
            end: start,
        }
    }

    /// Sequence number of the first octet held (SND.UNA, as far as data goes).
    pub const fn start(&self) -> SeqNum {
        self.start
    }

    /// Sequence number behind the last octet written.
    pub const fn end(&self) -> SeqNum {
        self.end
    }

    /// Octets held.
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Nothing is held.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether any allocation is owned, for tests and accounting.
    pub fn owns_memory(&self) -> bool {
        self.chunks.capacity() > 0 || self.tail.capacity() > 0
    }

    /// Appends a copy of `data`. The caller keeps the whole buffer under 2^31 octets.
    pub fn push(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let mut room = self.tail.capacity() - self.tail.len();
            if room == 0 {
                self.freeze_tail();
                self.tail = self.new_chunk(data.len());
                room = self.tail.capacity();
            }
            let (now, later) = data.split_at(room.min(data.len()));
            self.tail.extend_from_slice(now);
            self.end += now.len() as u32;
            data = later;
        }
    }

    /// Appends `data` without copying it; a small one is copied, since a chunk of its own would cost more.
    pub fn push_bytes(&mut self, data: Bytes) {
        if data.len() < Self::COPY_BELOW {
            self.push(&data);
            return;
        }
        self.freeze_tail();
        // What is left of the tail's allocation stays with the frozen part.
        self.tail = BytesMut::new();
        let start = self.end;
        self.end += data.len() as u32;
        self.chunks.push_back(Chunk { start, data });
    }

    /// The octets from `from` up to `to`, which must lie in the buffer, as slices of the chunks.
    pub fn slice(&mut self, from: SeqNum, to: SeqNum) -> Payload {
        let mut payload = Payload::new();
        let from = from.max(self.start);
        let to = to.min(self.end);
        if !from.before(to) {
            return payload;
        }
        if to.after(self.frozen_end()) {
            self.freeze_tail();
        }
        let offset = from - self.start;
        let start = self.start;
        // Chunks lie in order, the first perhaps beginning before `start`: find the one that holds `from`.
        let first = self
            .chunks
            .partition_point(|chunk| chunk.end().saturating_since(start) <= offset);
        let mut at = from;
        for chunk in self.chunks.range(first..) {
            if !at.before(to) {
                break;
            }
            let begin = (at - chunk.start) as usize;
            let until = (to.min(chunk.end()) - chunk.start) as usize;
            payload.push(chunk.data.slice(begin..until));
            at = chunk.end().min(to);
        }
        payload
    }

    /// Drops everything before `una`; an empty buffer gives its memory back.
    pub fn acknowledge(&mut self, una: SeqNum) {
        let una = una.min(self.end);
        if !una.after(self.start) {
            return;
        }
        self.start = una;
        while let Some(chunk) = self.chunks.front() {
            if chunk.end().after(una) {
                break;
            }
            if let Some(chunk) = self.chunks.pop_front() {
                chunk_pool::give(chunk.data);
            }
        }
        if self.is_empty() {
            self.chunks = VecDeque::new();
            chunk_pool::give_mut(std::mem::take(&mut self.tail));
        }
    }

    /// Room for more data, of which `wanted` octets wait.
    fn new_chunk(&self, wanted: usize) -> BytesMut {
        match self.next_chunk_size(wanted) {
            chunk_pool::CHUNK => chunk_pool::take(),
            smaller => BytesMut::with_capacity(smaller),
        }
    }

    /// Drops everything: the connection was aborted.
    pub fn clear(&mut self) {
        *self = Self::new(self.end);
    }

    fn frozen_end(&self) -> SeqNum {
        self.end - self.tail.len() as u32
    }

    /// Moves the filled part of the tail to the chunks; the rest of its allocation goes on growing.
    fn freeze_tail(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        let start = self.frozen_end();
        let data = self.tail.split().freeze();
        self.chunks.push_back(Chunk { start, data });
    }

    /// Small connections get small chunks, bulk gets [`chunk_pool::CHUNK`]: as large as what waits to be copied or is held.
    fn next_chunk_size(&self, wanted: usize) -> usize {
        wanted
            .max(self.len())
            .next_power_of_two()
            .clamp(MIN_CHUNK, chunk_pool::CHUNK)
    }
}

/// Smallest chunk in octets: a request or a reply of a chatty protocol fits.
const MIN_CHUNK: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(payload: &Payload) -> Vec<u8> {
        payload.iter().flat_map(|slice| slice.to_vec()).collect()
    }

    fn pattern(len: usize, from: usize) -> Vec<u8> {
        (from..from + len).map(|i| (i % 251) as u8).collect()
    }

    #[test]
    fn any_range_comes_back_as_written() {
        // Across chunk borders, zero-copy chunks and the wrap of sequence numbers.
        let start = SeqNum(u32::MAX - 70_000);
        let mut buffer = SendBuffer::new(start);
        let mut written = 0;
        for (i, len) in [1, 700, 3000, 65_536, 5, 100_000, 2048]
            .into_iter()
            .enumerate()
        {
            let data = pattern(len, written);
            if i % 2 == 0 {
                buffer.push(&data);
            } else {
                buffer.push_bytes(Bytes::from(data));
            }
            written += len;
            // Sending freezes the tail in between.
            let last = buffer.end() - 1;
            assert_eq!(flat(&buffer.slice(last, buffer.end())).len(), 1);
        }
        assert_eq!(buffer.len(), written);
        for from in (0..written).step_by(7919) {
            for len in [1, 1448, 65_160] {
                let len = len.min(written - from);
                let slice = buffer.slice(start + from as u32, start + (from + len) as u32);
                assert_eq!(flat(&slice), pattern(len, from), "{from}+{len}");
            }
        }
    }

    #[test]
    fn acknowledged_data_is_dropped_and_the_rest_stays() {
        let mut buffer = SendBuffer::new(SeqNum(100));
        buffer.push(&pattern(200_000, 0));
        for una in [1usize, 65_000, 65_536, 140_000, 199_999] {
            buffer.acknowledge(SeqNum(100 + una as u32));
            assert_eq!(buffer.len(), 200_000 - una);
            let rest = buffer.slice(buffer.start(), buffer.end());
            assert_eq!(flat(&rest), pattern(200_000 - una, una));
        }
        buffer.acknowledge(SeqNum(100)); // an old one changes nothing
        assert_eq!(buffer.len(), 1);
    }

    #[test]
    fn empty_buffer_owns_no_memory() {
        let mut buffer = SendBuffer::new(SeqNum(0));
        assert!(!buffer.owns_memory());
        buffer.push(b"request");
        assert!(buffer.owns_memory());
        assert_eq!(flat(&buffer.slice(SeqNum(0), SeqNum(7))), b"request");
        buffer.acknowledge(SeqNum(7));
        assert!(!buffer.owns_memory());
    }

    #[test]
    fn a_chunk_that_a_packet_borrows_is_not_used_again() {
        const CHUNK: usize = chunk_pool::CHUNK;
        let mut buffer = SendBuffer::new(SeqNum(0));
        buffer.push(&pattern(3 * CHUNK, 0));
        let borrowed = buffer.slice(SeqNum(10), SeqNum(20));
        for _ in 0..300 {
            buffer.acknowledge(buffer.start() + CHUNK as u32);
            buffer.push(&[0xff; CHUNK]);
        }
        assert_eq!(flat(&borrowed), pattern(10, 10));
        assert_eq!(buffer.len(), 3 * CHUNK);
        buffer.acknowledge(buffer.end());
        assert!(!buffer.owns_memory());
    }

    #[test]
    fn small_writes_share_a_chunk_and_large_ones_get_large_chunks() {
        let mut buffer = SendBuffer::new(SeqNum(0));
        for _ in 0..100 {
            buffer.push(b"five!");
        }
        assert_eq!(buffer.slice(SeqNum(0), SeqNum(500)).len(), 1);
        let mut buffer = SendBuffer::new(SeqNum(0));
        buffer.push(&pattern(256 << 10, 0));
        assert_eq!(buffer.slice(buffer.start(), buffer.end()).len(), 4);
    }

    #[test]
    fn slices_outside_the_buffer_are_clipped() {
        let mut buffer = SendBuffer::new(SeqNum(10));
        buffer.push(b"abc");
        assert_eq!(flat(&buffer.slice(SeqNum(0), SeqNum(100))), b"abc");
        assert!(buffer.slice(SeqNum(13), SeqNum(20)).is_empty());
    }
}
