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

use bytes::{Buf, Bytes, BytesMut};
use tidewire_netdev::Payload;

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
    /// with its own length, since the receive pool gives no slice that is under a quarter of its allocation.
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
        while filled < buffer.len() {
            let front = self.front();
            let n = front.len().min(buffer.len() - filled);
            if n == 0 {
                break;
            }
            buffer[filled..filled + n].copy_from_slice(&front[..n]);
            self.consume(n);
            filled += n;
        }
        filled
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
                    self.chunks.pop_front();
                }
            }
            None => self.tail.advance(n),
        }
        self.len -= n;
        self.release_if_empty();
    }

    fn release_if_empty(&mut self) {
        if self.len == 0 {
            *self = Self::default();
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
        self.tail = BytesMut::with_capacity(capacity);
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
const MAX_TAIL: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn octets(start: usize, len: usize) -> Bytes {
        (start..start + len).map(|i| (i % 251) as u8).collect()
    }

    #[test]
    fn large_slices_are_kept_by_reference_and_small_ones_copied() {
        for (len, kept) in [(COPY_BELOW - 1, false), (COPY_BELOW, true)] {
            let slice = octets(0, len);
            let mut buffer = ReceiveBuffer::new();
            buffer.push_slice(slice.clone());
            let read = buffer.read_chunk(usize::MAX).unwrap();
            assert_eq!(read.as_ptr() == slice.as_ptr(), kept, "{len}");
        }
    }

    #[test]
    fn emptied_buffer_owns_nothing() {
        let mut buffer = ReceiveBuffer::new();
        for len in [10, 5000, 10, 20_000] {
            buffer.push_slice(octets(0, len));
        }
        assert!(buffer.charged() >= buffer.len());
        buffer.advance(usize::MAX);
        assert_eq!((buffer.len(), buffer.charged()), (0, 0));
        assert_eq!((buffer.chunks.capacity(), buffer.tail.capacity()), (0, 0));
    }

    #[test]
    fn many_small_slices_become_few_chunks() {
        let mut buffer = ReceiveBuffer::new();
        for i in 0..100_000 {
            buffer.push_slice(octets(i, 1));
        }
        assert!(buffer.chunks.len() < 16, "{}", buffer.chunks.len());
        assert!(buffer.charged() < 300_000, "{}", buffer.charged());
        let mut buffer = ReceiveBuffer::new();
        for i in (0..100_000).rev() {
            buffer.push_front(octets(i, 1));
        }
        assert!(buffer.chunks.len() < 64, "{}", buffer.chunks.len());
        assert!(buffer.charged() < 200_000, "{}", buffer.charged());
        let mut all = vec![0; 100_000];
        assert_eq!(buffer.read(&mut all), 100_000);
        assert_eq!(all, octets(0, 100_000));
    }

    #[test]
    fn vectored_read_fills_one_buffer_after_the_other() {
        let mut buffer = ReceiveBuffer::new();
        buffer.push_slice(octets(0, 10));
        let (mut a, mut b, mut c) = ([0; 4], [0; 0], [0; 20]);
        let n = buffer.read_vectored(&mut [
            IoSliceMut::new(&mut a),
            IoSliceMut::new(&mut b),
            IoSliceMut::new(&mut c),
        ]);
        assert_eq!(n, 10);
        assert_eq!(
            (&a[..], &c[..6]),
            (&[0, 1, 2, 3][..], &[4, 5, 6, 7, 8, 9][..])
        );
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize),
        PushFront(usize),
        Append(Vec<usize>),
        Prepend(Vec<usize>),
        Read(usize),
        ReadChunk(usize),
        Peek(usize),
        Advance(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let len = || prop_oneof![0..40usize, 1000..2000usize, 4090..4100usize, 0..70_000usize];
        prop_oneof![
            4 => len().prop_map(Step::Push),
            1 => len().prop_map(Step::PushFront),
            1 => prop::collection::vec(len(), 0..4).prop_map(Step::Append),
            1 => prop::collection::vec(len(), 0..4).prop_map(Step::Prepend),
            2 => len().prop_map(Step::Read),
            1 => len().prop_map(Step::ReadChunk),
            1 => len().prop_map(Step::Peek),
            1 => len().prop_map(Step::Advance),
        ]
    }

    fn other(lens: &[usize], model: &mut Vec<u8>, seed: &mut usize) -> ReceiveBuffer {
        let mut other = ReceiveBuffer::new();
        for len in lens {
            *seed += 7;
            other.push_slice(octets(*seed, *len));
            model.extend_from_slice(&octets(*seed, *len));
        }
        other
    }

    proptest! {
        #[test]
        fn behaves_like_a_byte_queue(steps in prop::collection::vec(step(), 1..60)) {
            let mut buffer = ReceiveBuffer::new();
            let mut model: Vec<u8> = Vec::new();
            let mut seed = 0;
            for step in steps {
                seed += 13;
                match step {
                    Step::Push(len) => {
                        buffer.push_slice(octets(seed, len));
                        model.extend_from_slice(&octets(seed, len));
                    }
                    Step::PushFront(len) => {
                        buffer.push_front(octets(seed, len));
                        model.splice(0..0, octets(seed, len));
                    }
                    Step::Append(lens) => buffer.append(other(&lens, &mut model, &mut seed)),
                    Step::Prepend(lens) => {
                        let mut front = Vec::new();
                        buffer.prepend(other(&lens, &mut front, &mut seed));
                        model.splice(0..0, front);
                    }
                    Step::Read(len) => {
                        let mut out = vec![0; len];
                        let n = buffer.read(&mut out);
                        prop_assert_eq!(n, len.min(model.len()));
                        prop_assert_eq!(&out[..n], &model.drain(..n).collect::<Vec<_>>()[..]);
                    }
                    Step::ReadChunk(max) => {
                        let chunk = buffer.read_chunk(max).unwrap_or_default();
                        prop_assert!(chunk.len() <= max);
                        prop_assert_eq!(chunk.is_empty(), max == 0 || model.is_empty());
                        prop_assert_eq!(&chunk[..], &model.drain(..chunk.len()).collect::<Vec<_>>()[..]);
                    }
                    Step::Peek(len) => {
                        let mut out = vec![0; len];
                        let n = buffer.peek(&mut out);
                        prop_assert_eq!(n, len.min(model.len()));
                        prop_assert_eq!(&out[..n], &model[..n]);
                    }
                    Step::Advance(n) => {
                        buffer.advance(n);
                        model.drain(..n.min(model.len()));
                    }
                }
                prop_assert_eq!(buffer.len(), model.len());
                prop_assert_eq!(buffer.is_empty(), buffer.charged() == 0);
                let sum: usize = buffer.chunks.iter().map(|c| c.charge).sum::<usize>() + buffer.tail_charge;
                prop_assert_eq!(buffer.charged(), sum);
            }
        }
    }
}
