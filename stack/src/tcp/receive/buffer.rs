//! In-order data until the application reads it.
//!
//! ```text
//!   front                                             back
//!   ┌────────┐ ┌──────────────────────┐ ┌────────┐ ┌──────────┬───────┐
//!   │ chunk  │ │ chunk (by reference) │ │ chunk  │ │ tail     │ room  │
//!   └────────┘ └──────────────────────┘ └────────┘ └──────────┴───────┘
//! ```
//!
//! Large slices are kept by reference; small ones are copied into the tail, so that a few octets never hold a whole
//! device buffer and reading costs as much as the chunks it touches. An empty buffer owns no allocation. Limits are
//! the window's business (`window.rs`).

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use tidewire_netdev::Payload;

use crate::transport::chunk_pool;

/// A queue of octets, at the ends of which data is added.
#[derive(Debug, Default)]
pub struct ReceiveBuffer {
    chunks: VecDeque<Chunk>,
    /// The chunk that is still being filled; its data comes after all of `chunks`.
    tail: BytesMut,
    /// Allocated size of `tail`.
    tail_charge: usize,
    /// Size of the previous tail: the next one is twice as large while data keeps coming.
    last_capacity: usize,
    len: usize,
    charged: usize,
}

/// Data that is complete.
#[derive(Debug)]
struct Chunk {
    data: Bytes,
    /// Octets of memory it stands for until it has been read to its end.
    charge: usize,
}

impl ReceiveBuffer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Octets held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Octets of memory held. Copied data counts with the capacity of its allocation; a slice kept by reference counts
    /// with its own length, since the receive pool gives no slice that is under a quarter of its allocation, and
    /// [`Self::push_part`] takes none.
    pub fn charged(&self) -> usize {
        self.charged
    }

    /// Appends `payload`.
    pub fn push(&mut self, payload: Payload) {
        for slice in payload {
            self.push_slice(slice);
        }
    }

    /// Appends one slice.
    pub fn push_slice(&mut self, slice: Bytes) {
        if slice.len() < COPY_BELOW {
            self.copy(&slice);
            return;
        }
        self.seal_tail();
        self.last_capacity = 0;
        let charge = slice.len();
        self.push_chunk(slice, charge);
    }

    /// Appends a part of `slice`: what trimming leaves of a large one does not hold on to all of it.
    pub fn push_part(&mut self, slice: &Bytes, part: Range<usize>) {
        if part.len() < slice.len() / 4 {
            self.copy(&slice[part]);
        } else {
            self.push_slice(slice.slice(part));
        }
    }

    /// Puts `slice` before everything else.
    pub(super) fn push_front(&mut self, mut slice: Bytes) {
        if slice.is_empty() {
            return;
        }
        self.len += slice.len();
        if self.chunks.is_empty() {
            self.seal_tail();
        }
        let mut owned = false;
        while slice.len() < COPY_BELOW {
            // Chunks that grow forwards merge with neighbours up to their own size only, like digits that carry:
            // each octet is copied a logarithmic number of times, whatever the peer cuts its data into.
            let Some(front) = self
                .chunks
                .pop_front_if(|front| front.data.len() <= slice.len())
            else {
                break;
            };
            let mut merged = BytesMut::with_capacity(slice.len() + front.data.len());
            merged.extend_from_slice(&slice);
            merged.extend_from_slice(&front.data);
            self.charged -= front.charge;
            slice = merged.freeze();
            owned = true;
        }
        if slice.len() < COPY_BELOW && !owned {
            slice = Bytes::copy_from_slice(&slice);
        }
        let charge = slice.len();
        self.charged += charge;
        self.chunks.push_front(Chunk {
            data: slice,
            charge,
        });
    }

    /// Appends all of `other`. Costs its chunks, and a copy of the small ones.
    pub fn append(&mut self, mut other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        other.seal_tail();
        for Chunk { data, charge } in other.chunks {
            if data.len() < COPY_BELOW {
                self.copy(&data);
            } else {
                self.seal_tail();
                self.push_chunk(data, charge);
            }
        }
    }

    /// Puts all of `other` before everything else.
    pub(super) fn prepend(&mut self, mut other: Self) {
        other.seal_tail();
        for chunk in other.chunks.into_iter().rev() {
            self.push_front(chunk.data);
        }
    }

    /// Moves data from the front into `buffer`; returns how much.
    pub fn read(&mut self, buffer: &mut [u8]) -> usize {
        let mut filled = 0;
        self.read_with(buffer.len(), |slice| {
            buffer[filled..filled + slice.len()].copy_from_slice(slice);
            filled += slice.len();
        })
    }

    /// Gives data from the front to `sink`, slice by slice and at most `max` octets; returns how much.
    pub fn read_with(&mut self, max: usize, mut sink: impl FnMut(&[u8])) -> usize {
        let mut given = 0;
        while given < max {
            let front = self.front();
            let n = front.len().min(max - given);
            if n == 0 {
                break;
            }
            sink(&front[..n]);
            self.consume(n);
            given += n;
        }
        given
    }

    /// Moves data from the front into `buffers`, each filled before the next; returns how much.
    pub fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> usize {
        let mut filled = 0;
        for buffer in buffers {
            let n = self.read(buffer);
            filled += n;
            if n < buffer.len() {
                break;
            }
        }
        filled
    }

    /// Takes the front chunk, at most `max` octets of it, without copying; `None` when empty (or `max` is 0).
    pub fn read_chunk(&mut self, max: usize) -> Option<Bytes> {
        if max == 0 || self.is_empty() {
            return None;
        }
        let taken = match self.chunks.front_mut() {
            Some(front) => {
                let n = front.data.len().min(max);
                let taken = front.data.split_to(n);
                if front.data.is_empty() {
                    self.charged -= front.charge;
                    self.chunks.pop_front();
                }
                taken
            }
            None => {
                let n = self.tail.len().min(max);
                self.tail.split_to(n).freeze()
            }
        };
        self.len -= taken.len();
        self.release_if_empty();
        Some(taken)
    }

    /// Copies data from the front into `buffer` and leaves it there; returns how much.
    pub fn peek(&self, buffer: &mut [u8]) -> usize {
        let mut filled = 0;
        let slices = self.chunks.iter().map(|chunk| &chunk.data[..]);
        for slice in slices.chain([&self.tail[..]]) {
            let n = slice.len().min(buffer.len() - filled);
            if n == 0 && filled == buffer.len() {
                break;
            }
            buffer[filled..filled + n].copy_from_slice(&slice[..n]);
            filled += n;
        }
        filled
    }

    /// Drops `n` octets from the front (all of them if there are fewer).
    pub fn advance(&mut self, n: usize) {
        let mut left = n.min(self.len);
        while left > 0 {
            let step = self.front().len().min(left);
            self.consume(step);
            left -= step;
        }
    }

    /// The front chunk; empty only when the buffer is.
    fn front(&self) -> &[u8] {
        self.chunks.front().map_or(&self.tail, |chunk| &chunk.data)
    }

    /// Drops `n` octets of the front chunk, which has as many.
    fn consume(&mut self, n: usize) {
        match self.chunks.front_mut() {
            Some(front) => {
                front.data.advance(n);
                if front.data.is_empty() {
                    self.charged -= front.charge;
                    if let Some(read) = self.chunks.pop_front() {
                        chunk_pool::give(read.data);
                    }
                }
            }
            None => self.tail.advance(n),
        }
        self.len -= n;
        self.release_if_empty();
    }

    fn release_if_empty(&mut self) {
        if self.len == 0 {
            chunk_pool::give_mut(std::mem::take(self).tail);
        }
    }

    fn push_chunk(&mut self, data: Bytes, charge: usize) {
        self.len += data.len();
        self.charged += charge;
        self.chunks.push_back(Chunk { data, charge });
    }

    /// Appends a copy.
    fn copy(&mut self, mut data: &[u8]) {
        self.len += data.len();
        while !data.is_empty() {
            let mut room = self.tail.capacity() - self.tail.len();
            if room == 0 {
                self.seal_tail();
                self.open_tail(data.len());
                room = self.tail.capacity();
            }
            let (now, later) = data.split_at(room.min(data.len()));
            self.tail.extend_from_slice(now);
            data = later;
        }
    }

    fn open_tail(&mut self, wanted: usize) {
        let capacity = wanted
            .next_power_of_two()
            .max(self.last_capacity * 2)
            .clamp(MIN_TAIL, MAX_TAIL);
        self.tail = match capacity {
            chunk_pool::CHUNK => chunk_pool::take(),
            smaller => BytesMut::with_capacity(smaller),
        };
        self.tail_charge = capacity;
        self.last_capacity = capacity;
        self.charged += capacity;
    }

    /// Makes the tail a chunk like the others.
    fn seal_tail(&mut self) {
        let charge = std::mem::take(&mut self.tail_charge);
        let tail = std::mem::take(&mut self.tail);
        if tail.is_empty() {
            self.charged -= charge;
        } else {
            let data = tail.freeze();
            self.chunks.push_back(Chunk { data, charge });
        }
    }
}

/// Slices shorter than this are copied. The copy of one costs about as much as the reference count and the chunk
/// entry it spares, and the reader gets large pieces.
const COPY_BELOW: usize = 4096;
/// Smallest allocation for copied data, in octets.
const MIN_TAIL: usize = 256;
/// Largest allocation for copied data, in octets.
const MAX_TAIL: usize = chunk_pool::CHUNK;

#[cfg(test)]
mod tests;
