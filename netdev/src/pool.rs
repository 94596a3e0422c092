//! Receive buffers: one large area to read into, given away only when what was read is worth it.
//!
//! A device with offloads may hand over 64 KiB at any read, and usually hands over far less. What a packet holds on to
//! is charged by the capacity of its buffer, so a short packet must not keep a large buffer alive (copy-break):
//!
//! | octets read | what [`ReceivePool::take`] does |
//! |---|---|
//! | up to 2 KiB | copies into a shared block of 16 KiB: one allocation for many packets |
//! | up to a quarter of the buffer | copies into an allocation of its own, of exactly that size |
//! | more | gives the buffer away and takes a new one, if possible one that has come back |
//!
//! Reading is the device's matter, and what it keeps is bounded: eight buffers that may come back, one that is read into,
//! one block.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Reads of up to this many octets share blocks: an Ethernet frame, with room to spare.
const SHARED_MAX: usize = 2048;

/// A block of copied packets, in octets. Small, since one packet kept by a slow reader keeps the whole block.
const BLOCK: usize = 16 * 1024;

/// Given-away buffers that are remembered until they come back. A reader that keeps up has one or two in flight; the
/// number bounds what an idle device holds on to.
const REMEMBERED: usize = 8;

/// The receive buffers of one device queue.
#[derive(Debug)]
pub struct ReceivePool {
    size: usize,
    /// The buffer to read into; empty after it was given away, until it is asked for again.
    current: BytesMut,
    /// Buffers given away, oldest first, each in full length.
    given: VecDeque<Bytes>,
    block: BytesMut,
}

impl ReceivePool {
    /// A pool of buffers of `buffer_size` octets: the largest packet and the headers that the device puts before it.
    pub fn new(buffer_size: usize) -> Self {
        Self {
            size: buffer_size,
            current: BytesMut::new(),
            given: VecDeque::with_capacity(REMEMBERED),
            block: BytesMut::new(),
        }
    }

    /// The area to read into, `buffer_size` octets. It is initialized, with octets of older packets.
    pub fn buffer(&mut self) -> &mut [u8] {
        if self.current.is_empty() {
            self.current = self
                .take_back()
                .unwrap_or_else(|| BytesMut::zeroed(self.size));
        }
        &mut self.current
    }

    /// The first `len` octets of the area, as a packet. At most `buffer_size`.
    pub fn take(&mut self, len: usize) -> Bytes {
        self.take_range(0, len)
    }

    /// The octets of the area from `start` (behind a header that the device put first) to `end`.
    ///
    /// Both are cut to what the area holds.
    pub fn take_range(&mut self, start: usize, end: usize) -> Bytes {
        let end = end.min(self.current.len());
        let start = start.min(end);
        let read = &self.current[start..end];
        if read.len() <= SHARED_MAX {
            return copy_into(&mut self.block, read);
        }
        if read.len() < self.size / 4 {
            return Bytes::copy_from_slice(read);
        }
        let whole = std::mem::take(&mut self.current).freeze();
        if self.given.len() == REMEMBERED {
            self.given.pop_front();
        }
        self.given.push_back(whole.clone());
        whole.slice(start..end)
    }

    /// A packet that lies elsewhere, copied as if it had been read into the area; cut to what that holds.
    pub fn copy(&mut self, octets: &[u8]) -> Bytes {
        if octets.len() <= SHARED_MAX {
            return copy_into(&mut self.block, octets);
        }
        let len = octets.len().min(self.size);
        if len < self.size / 4 {
            return Bytes::copy_from_slice(octets);
        }
        self.buffer()[..len].copy_from_slice(&octets[..len]);
        self.take(len)
    }

    /// A buffer whose packet is gone everywhere else.
    fn take_back(&mut self) -> Option<BytesMut> {
        // Readers finish in about the order of arrival, but one that keeps a packet must not block the others.
        let index = self.given.iter().position(Bytes::is_unique)?;
        self.given.remove(index)?.try_into_mut().ok()
    }
}

/// Copies a short packet into the shared block.
fn copy_into(block: &mut BytesMut, packet: &[u8]) -> Bytes {
    if block.capacity() < packet.len() && !block.try_reclaim(packet.len()) {
        // Not `reserve`: that would move to a block only as large as the packet.
        *block = BytesMut::with_capacity(BLOCK);
    }
    block.extend_from_slice(packet);
    block.split().freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 64 * 1024 + 128;

    fn read(pool: &mut ReceivePool, len: usize, octet: u8) -> Bytes {
        assert_eq!(pool.buffer().len(), SIZE);
        pool.buffer()[..len].fill(octet);
        pool.take(len)
    }

    #[test]
    fn packets_keep_their_octets_while_the_buffer_is_used_again() {
        let mut pool = ReceivePool::new(SIZE);
        let lens = [
            0, 1, 60, 1500, 2048, 2049, 9000, 16_416, 16_417, 65_535, SIZE,
        ];
        let packets: Vec<Bytes> = (0..100u8)
            .map(|i| read(&mut pool, lens[usize::from(i) % lens.len()], i))
            .collect();
        for (i, packet) in packets.iter().enumerate() {
            assert_eq!(packet.len(), lens[i % lens.len()]);
            assert!(packet.iter().all(|octet| usize::from(*octet) == i));
        }
    }

    #[test]
    fn packets_from_elsewhere_are_copied_whole_up_to_the_buffers_size() {
        let mut pool = ReceivePool::new(SIZE);
        for len in [0, 60, 2048, 2049, 16_416, 65_535, SIZE, SIZE + 1] {
            let octets: Vec<u8> = (0..len).map(|i| i as u8).collect();
            assert_eq!(&pool.copy(&octets)[..], &octets[..len.min(SIZE)], "{len}");
        }
    }

    #[test]
    fn short_packets_leave_the_buffer_and_long_ones_take_it() {
        let mut pool = ReceivePool::new(SIZE);
        let area = pool.buffer().as_ptr();
        let short = read(&mut pool, 1500, 1);
        let middle = read(&mut pool, 10_000, 2);
        assert_eq!(pool.buffer().as_ptr(), area);
        let long = read(&mut pool, 65_535, 3);
        assert_eq!(long.as_ptr(), area);
        assert_ne!(pool.buffer().as_ptr(), area);
        assert_eq!((short.len(), middle.len()), (1500, 10_000));
    }

    #[test]
    fn a_buffer_that_has_come_back_is_used_again() {
        let mut pool = ReceivePool::new(SIZE);
        let first = read(&mut pool, 65_535, 1);
        let second = read(&mut pool, 65_535, 2);
        let area = first.as_ptr();
        drop(first);
        assert_eq!(pool.buffer().as_ptr(), area);
        assert_eq!(pool.buffer().len(), SIZE);
        assert!(second.iter().all(|octet| *octet == 2));
    }

    #[test]
    fn small_packets_share_blocks_of_bounded_size() {
        let mut pool = ReceivePool::new(SIZE);
        let packets: Vec<Bytes> = (0..100).map(|i| read(&mut pool, 100, i)).collect();
        let contiguous = packets
            .windows(2)
            .filter(|pair| pair[0].as_ptr().wrapping_add(100) == pair[1].as_ptr())
            .count();
        assert_eq!(contiguous, 99, "100 packets of 100 octets fit one block");
    }

    #[test]
    fn what_the_pool_remembers_is_bounded() {
        let mut pool = ReceivePool::new(SIZE);
        let kept: Vec<Bytes> = (0..50).map(|i| read(&mut pool, 65_535, i)).collect();
        assert_eq!(pool.given.len(), REMEMBERED);
        drop(kept);
        let reused = (0..50).map(|i| read(&mut pool, 65_535, i)).count();
        assert_eq!((reused, pool.given.len() <= REMEMBERED), (50, true));
    }

    #[test]
    fn ranges_behind_a_device_header_are_cut_to_the_area() {
        let mut pool = ReceivePool::new(SIZE);
        pool.buffer()[..12].copy_from_slice(b"header:hello");
        assert_eq!(&pool.take_range(7, 12)[..], b"hello");
        assert!(pool.take_range(9, 3).is_empty());
        assert_eq!(pool.take(usize::MAX).len(), SIZE);
    }
}
