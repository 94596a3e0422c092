//! Large allocations for copied data, kept for the next copy.
//!
//! A sender that drains its buffer, or a reader that keeps up with its peer, gives a chunk back a moment before it
//! needs one. The allocator may return such memory to the system in between and fault it in anew, page by page: half
//! the time of a bulk transfer. The pool belongs to the process, not to a connection: an idle connection keeps nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};

/// Octets of every chunk in the pool: a super-packet spans two at most.
pub(crate) const CHUNK: usize = 64 << 10;

/// Chunks the pool keeps at most: 8 MiB.
const KEPT: usize = 128;

static POOL: Pool = Pool::new();

/// An empty chunk with room for [`CHUNK`] octets.
pub(crate) fn take() -> BytesMut {
    POOL.take()
}

/// Keeps the allocation of `data` if it is a chunk and nobody else holds on to it; drops it otherwise.
pub(crate) fn give(data: Bytes) {
    if let Ok(memory) = data.try_into_mut() {
        POOL.give(memory);
    }
}

/// Like [`give`], for a chunk that is still being filled.
pub(crate) fn give_mut(memory: BytesMut) {
    POOL.give(memory);
}

struct Pool(Mutex<Vec<BytesMut>>);

impl Pool {
    const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    fn chunks(&self) -> MutexGuard<'_, Vec<BytesMut>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> BytesMut {
        let kept = self.chunks().pop();
        kept.unwrap_or_else(|| BytesMut::with_capacity(CHUNK))
    }

    fn give(&self, mut memory: BytesMut) {
        memory.clear();
        // Moves the view to the start of the allocation, if that is large enough and nobody shares it.
        if memory.try_reclaim(CHUNK) && memory.capacity() == CHUNK {
            let mut chunks = self.chunks();
            if chunks.len() < KEPT {
                chunks.push(memory);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_comes_back_whole_only_when_nobody_shares_it() {
        let pool = Pool::new();
        let mut chunk = pool.take();
        assert_eq!((chunk.len(), chunk.capacity()), (0, CHUNK));
        let address = chunk.as_ptr();
        chunk.extend_from_slice(&[7; 1000]);
        let kept = chunk.split().freeze().slice(10..20);
        chunk.extend_from_slice(&[8; 100]);
        pool.give(chunk);
        assert!(pool.chunks().is_empty(), "a shared chunk is not used again");
        assert_eq!(kept[..], [7; 10]);
        // The last holder gives all of it, from its start.
        pool.give(kept.try_into_mut().expect("the only holder"));
        let again = pool.take();
        assert_eq!(
            (again.len(), again.capacity(), again.as_ptr()),
            (0, CHUNK, address)
        );
    }

    #[test]
    fn the_pool_is_bounded_and_takes_no_other_sizes() {
        let pool = Pool::new();
        for other in [CHUNK - 1, CHUNK + 1, 2 * CHUNK, 0] {
            pool.give(BytesMut::with_capacity(other));
        }
        assert!(pool.chunks().is_empty());
        for _ in 0..2 * KEPT {
            pool.give(BytesMut::with_capacity(CHUNK));
        }
        assert_eq!(pool.chunks().len(), KEPT);
    }
}
