//! The mapped receive ring of a packet socket: `TPACKET_V3` (`Documentation/networking/packet_mmap.rst`).
//!
//! Owns the mapping and the hand-over of its blocks. What is in a block is read by safe code, out of a slice that lives
//! as long as the block is ours.

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::check;

/// The size and timing of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::linux) struct Geometry {
    /// Octets of a block: a power of two and a multiple of the page size.
    pub(in crate::linux) block_size: u32,
    /// Number of blocks.
    pub(in crate::linux) blocks: u32,
    /// After how many milliseconds the kernel hands over a block that is not full.
    pub(in crate::linux) retire_milliseconds: u32,
}

/// Where the owner of a block is written: in its descriptor, behind version and offset of the private area.
const STATUS: usize = 8;

/// The ring of one socket.
#[derive(Debug)]
pub(in crate::linux) struct Ring {
    area: NonNull<u8>,
    block_size: usize,
    blocks: usize,
    /// The block that comes next.
    block: usize,
}

// SAFETY: the mapping is of the process, not of a thread, and only this value has its address.
unsafe impl Send for Ring {}

impl Ring {
    /// Gives a packet socket a ring and maps it.
    ///
    /// # Errors
    /// `EINVAL`: no usable geometry; `ENOMEM`: no memory for it; `EBUSY`: the socket has one.
    pub(in crate::linux) fn new(socket: &File, geometry: Geometry) -> io::Result<Self> {
        /// The kernel wants to know a frame size, which blocks of variable frames do not have.
        const NOMINAL_FRAME: u32 = 2048;
        let version = libc::tpacket_versions::TPACKET_V3 as c_int;
        // SAFETY: PACKET_VERSION reads one `int`.
        check(unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_VERSION,
                (&raw const version).cast(),
                size_of::<c_int>() as libc::socklen_t,
            )
        })?;
        let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
        let frames = geometry.block_size / NOMINAL_FRAME;
        let request = libc::tpacket_req3 {
            tp_block_size: geometry.block_size,
            tp_block_nr: geometry.blocks,
            tp_frame_size: NOMINAL_FRAME,
            tp_frame_nr: frames.checked_mul(geometry.blocks).ok_or_else(invalid)?,
            tp_retire_blk_tov: geometry.retire_milliseconds,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        let (block_size, blocks) = (geometry.block_size as usize, geometry.blocks as usize);
        let len = block_size
            .checked_mul(blocks)
            .filter(|&len| len > 0)
            .ok_or_else(invalid)?;
        // SAFETY: PACKET_RX_RING reads one `tpacket_req3`.
        check(unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_RX_RING,
                (&raw const request).cast(),
                size_of::<libc::tpacket_req3>() as libc::socklen_t,
            )
        })?;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let area = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        if area == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            area: NonNull::new(area.cast()).ok_or_else(invalid)?,
            block_size,
            blocks,
            block: 0,
        })
    }

    /// The next block, once the kernel has handed it over; its descriptor comes first.
    pub(in crate::linux) fn block(&self) -> Option<&[u8]> {
        // Pairs with the kernel's barrier before it sets the status: what it wrote is visible.
        if self.status().load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the block lies within the mapping, which lives as long as `self` and is zeroed by the kernel at
        // first. The kernel writes nothing to a block that it has handed over until `release` gives it back, which
        // needs `self` alone and therefore no slice alive. A ring that is mapped cannot be changed (EBUSY).
        Some(unsafe { std::slice::from_raw_parts(self.start().as_ptr(), self.block_size) })
    }

    /// Gives the next block back to the kernel and goes on to the one after it; nothing if it is the kernel's already.
    pub(in crate::linux) fn release(&mut self) {
        if self.block().is_some() {
            // The kernel's writes come after our reads.
            self.status()
                .store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.block = (self.block + 1) % self.blocks;
        }
    }

    fn start(&self) -> NonNull<u8> {
        // SAFETY: `block` is less than `blocks`, so that the block lies within the mapping.
        unsafe { self.area.add(self.block * self.block_size) }
    }

    fn status(&self) -> &AtomicU32 {
        // SAFETY: the status lies within the block, which the kernel takes only of page size at least, and is aligned:
        // blocks begin at pages. Kernel and process both access it as a whole, while no slice of the block is alive
        // or with loads only.
        unsafe { AtomicU32::from_ptr(self.start().add(STATUS).cast().as_ptr()) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, of this length, and nothing borrows from it any more.
        unsafe { libc::munmap(self.area.as_ptr().cast(), self.block_size * self.blocks) };
    }
}
