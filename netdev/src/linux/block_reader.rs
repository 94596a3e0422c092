//! Reads the frames of a packet socket's mapped ring, block after block (`Documentation/networking/packet_mmap.rst`).
//!
//! ```text
//!  block:  descriptor ─ first ─▶ frame ─ next ─▶ frame ─ next ─▶ frame
//!  frame:  header │ … │ virtio-net header │ Ethernet frame │ …
//!                                         ▲ mac
//! ```
//!
//! The numbers in a block are the kernel's; they are believed as far as they lie within the block.

use super::sys::ring::Ring;
use crate::virtio_header::VIRTIO_HEADER_LEN;

/// Where a block's descriptor has the number of frames and the offset of the first (`struct tpacket_hdr_v1`).
const FRAMES: usize = 12;
const FIRST_FRAME: usize = 16;

/// Where a frame's header has the offset of the next, the captured and the whole length and the frame's own offset
/// (`struct tpacket3_hdr`).
const NEXT_FRAME: usize = 0;
const CAPTURED_LEN: usize = 12;
const WHOLE_LEN: usize = 16;
const MAC: usize = 24;

/// The reader of one ring.
#[derive(Debug)]
pub(super) struct BlockReader {
    ring: Ring,
    /// Where reading goes on in the ring's next block.
    cursor: Cursor,
    /// Whether that block was begun.
    is_begun: bool,
}

/// A place in a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cursor {
    /// Frames not read yet.
    frames: u32,
    /// Where the first of them is.
    offset: usize,
}

impl BlockReader {
    pub(super) fn new(ring: Ring) -> Self {
        Self {
            ring,
            cursor: Cursor::default(),
            is_begun: false,
        }
    }

    /// The next frame behind its virtio-net header, `Some(None)` for one that was cut off or lies outside its block;
    /// `None` when the kernel has handed over no more.
    pub(super) fn next_frame(&mut self) -> Option<Option<&[u8]>> {
        while self.cursor.frames == 0 {
            if self.is_begun {
                self.ring.release();
                self.is_begun = false;
            }
            self.cursor = Cursor::first(self.ring.block()?);
            self.is_begun = true;
        }
        let block = self.ring.block()?;
        let offset = self.cursor.offset;
        self.cursor.go_on(block);
        Some(frame(block, offset))
    }
}

impl Cursor {
    fn first(block: &[u8]) -> Self {
        Self {
            frames: number(block, FRAMES).unwrap_or(0),
            offset: number(block, FIRST_FRAME).unwrap_or(0) as usize,
        }
    }

    fn go_on(&mut self, block: &[u8]) {
        match number(block, self.offset + NEXT_FRAME) {
            Some(step) => {
                self.frames = self.frames.saturating_sub(1);
                self.offset = self.offset.saturating_add(step as usize);
            }
            // Outside the block: nothing that follows can be inside.
            None => self.frames = 0,
        }
    }
}

/// The frame whose header lies at `offset`, from its virtio-net header on; `None` if it is not whole.
fn frame(block: &[u8], offset: usize) -> Option<&[u8]> {
    let header = block.get(offset..)?;
    let captured = number(header, CAPTURED_LEN)?;
    if captured != number(header, WHOLE_LEN)? {
        return None;
    }
    let mac = header.get(MAC..MAC + 2)?;
    let mac = usize::from(u16::from_ne_bytes([mac[0], mac[1]]));
    header.get(mac.checked_sub(VIRTIO_HEADER_LEN)?..mac.checked_add(captured as usize)?)
}

/// The 32-bit number at `at`, in the host's byte order.
fn number(octets: &[u8], at: usize) -> Option<u32> {
    let octets = octets.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block of two frames: one whole, one cut off.
    fn block() -> Vec<u8> {
        let mut block = vec![0; 400];
        let mut set = |at: usize, value: u32| {
            block[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        };
        set(FRAMES, 2);
        set(FIRST_FRAME, 48);
        for (at, next, captured, whole) in [(48, 160, 20, 20), (208, 0, 20, 60)] {
            set(at + NEXT_FRAME, next);
            set(at + CAPTURED_LEN, captured);
            set(at + WHOLE_LEN, whole);
        }
        for at in [48, 208] {
            block[at + MAC..at + MAC + 2].copy_from_slice(&90u16.to_ne_bytes());
        }
        block[48 + 80..48 + 90].fill(1);
        block[48 + 90..48 + 110].fill(2);
        block
    }

    fn frames(block: &[u8]) -> Vec<Option<&[u8]>> {
        let mut cursor = Cursor::first(block);
        let mut frames = Vec::new();
        while cursor.frames > 0 {
            frames.push(frame(block, cursor.offset));
            cursor.go_on(block);
        }
        frames
    }

    #[test]
    fn frames_come_with_their_virtio_header_and_cut_ones_are_refused() {
        let block = block();
        let frames = frames(&block);
        let whole = [[1; 10].as_slice(), &[2; 20]].concat();
        assert_eq!(frames, [Some(whole.as_slice()), None]);
    }

    #[test]
    fn numbers_that_lead_outside_the_block_lead_nowhere() {
        for at in [FIRST_FRAME, 48 + NEXT_FRAME, 48 + CAPTURED_LEN, 48 + MAC] {
            for value in [u32::MAX, 400, 399, 0] {
                let mut block = block();
                block[at..at + 4].copy_from_slice(&value.to_ne_bytes());
                assert!(frames(&block).len() <= 2, "{at} {value}");
            }
        }
        for len in 0..400 {
            assert!(frames(&block()[..len]).len() <= 2);
        }
        assert_eq!(Cursor::first(&[]), Cursor::default());
    }
}
