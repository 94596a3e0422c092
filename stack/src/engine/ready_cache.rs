//! The readiness cache of one socket, and who waits for it.
//!
//! It lies beside the protocol state under the slot's lock and is fed by edges: a bit stays set until an operation
//! has met `WouldBlock`, as tokio's own sockets behave on `epoll`. Wakers are moved out under the lock into a
//! [`WakeList`] and woken after it is released. This is the only place under `driver` that knows [`Waker`].

use std::task::Waker;

use slab::Slab;
use smallvec::SmallVec;

use crate::transport::Readiness;

/// Wakers moved out of slots; woken by [`Self::wake_all`] when no lock is held.
#[derive(Debug, Default)]
#[must_use = "wakers must be woken after the locks are released"]
pub struct WakeList(SmallVec<[Waker; 8]>);

impl WakeList {
    /// An empty list; allocates nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a waker.
    pub fn push(&mut self, waker: Waker) {
        self.0.push(waker);
    }

    /// Whether nobody is to be woken.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Wakes everybody and empties the list. The caller holds no lock.
    pub fn wake_all(&mut self) {
        for waker in self.0.drain(..) {
            waker.wake();
        }
    }
}

/// One direction of a socket, for the wakers that `poll_*` methods keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Reading, peeking, accepting.
    Read,
    /// Writing, connecting.
    Write,
}

impl Direction {
    /// The bits that make this direction ready.
    pub const fn mask(self) -> Readiness {
        match self {
            Self::Read => READ_MASK,
            Self::Write => WRITE_MASK,
        }
    }
}

const READ_MASK: Readiness = Readiness::READABLE.union(Readiness::READ_CLOSED);
const WRITE_MASK: Readiness = Readiness::WRITABLE.union(Readiness::WRITE_CLOSED);

#[derive(Debug)]
struct Waiter {
    interest: Readiness,
    waker: Option<Waker>,
}

/// A waiter's place in the cache, kept by its future and given back when that is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaiterKey(usize);

/// The cached readiness bits of one socket and everybody who waits for a change.
#[derive(Debug, Default)]
pub struct ReadyCache {
    bits: Readiness,
    /// Bits that have turned from clear to set and that nobody has looked at since.
    fresh: Readiness,
    /// Counts the times a bit was set, so that a clear can tell whether something came in between.
    tick: u32,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Boxed, since most sockets never have an asynchronous waiter.
    waiters: Option<Box<Slab<Waiter>>>,
}

impl ReadyCache {
    /// A cache that begins with `bits` set.
    pub fn new(bits: Readiness) -> Self {
        Self {
            bits,
            ..Self::default()
        }
    }

    /// The bits now.
    pub fn bits(&self) -> Readiness {
        self.bits
    }

    /// The number of the latest edge; give it to [`Self::clear_if_unchanged`].
    pub fn tick(&self) -> u32 {
        self.tick
    }

    /// An edge: sets the bits and moves out the wakers of everybody whom they concern.
    pub fn set(&mut self, bits: Readiness, wakes: &mut WakeList) {
        if bits.is_empty() {
            return;
        }
        self.fresh |= bits.without(self.bits);
        self.bits |= bits;
        self.tick = self.tick.wrapping_add(1);
        if bits.intersects(READ_MASK) {
            wakes.0.extend(self.reader.take());
        }
        if bits.intersects(WRITE_MASK) {
            wakes.0.extend(self.writer.take());
        }
        if let Some(waiters) = &mut self.waiters {
            for (_, waiter) in waiters.iter_mut() {
                if bits.intersects(waiter.interest) {
                    wakes.0.extend(waiter.waker.take());
                }
            }
        }
    }

    /// Clears bits after an operation met `WouldBlock`. The closed bits stay for good.
    pub fn clear(&mut self, bits: Readiness) {
        self.bits = self
            .bits
            .without(bits.without(Readiness::READ_CLOSED | Readiness::WRITE_CLOSED));
    }

    /// Takes "write closed" back. A datagram socket shows it with an error (as `epoll` does), and sends on afterwards;
    /// a sender that meets a full queue must then be able to wait.
    pub fn reopen_writing(&mut self) {
        self.bits = self.bits.without(Readiness::WRITE_CLOSED);
    }

    /// Takes "read closed" back: the peer of an SCTP association has started anew.
    pub fn reopen_reading(&mut self) {
        self.bits = self.bits.without(Readiness::READ_CLOSED);
    }

    /// Clears bits unless an edge has come since `tick` was read (operations that run outside the lock).
    pub fn clear_if_unchanged(&mut self, bits: Readiness, tick: u32) {
        if self.tick == tick {
            self.clear(bits);
        }
    }

    /// Keeps the last `poll_*` waker of a direction, replacing the one before. Gives back the replaced waker, to be
    /// dropped outside the lock.
    #[must_use = "drop the replaced waker after the lock is released"]
    pub fn set_waker(&mut self, direction: Direction, waker: Waker) -> Option<Waker> {
        self.waker_of(direction).replace(waker)
    }

    /// Whether the direction's kept waker wakes the same task as `waker`, so that it need not be cloned again.
    pub fn has_waker(&mut self, direction: Direction, waker: &Waker) -> bool {
        let kept = self.waker_of(direction);
        kept.as_ref().is_some_and(|kept| kept.will_wake(waker))
    }

    fn waker_of(&mut self, direction: Direction) -> &mut Option<Waker> {
        match direction {
            Direction::Read => &mut self.reader,
            Direction::Write => &mut self.writer,
        }
    }

    /// Registers an asynchronous waiter, or renews its waker. Each waiter is woken by each edge that concerns it.
    /// Gives back the replaced waker, to be dropped outside the lock.
    #[must_use = "drop the replaced waker after the lock is released"]
    pub fn wait(
        &mut self,
        key: &mut Option<WaiterKey>,
        interest: Readiness,
        waker: Waker,
    ) -> Option<Waker> {
        let waiters = self.waiters.get_or_insert_default();
        match key {
            Some(WaiterKey(index)) => waiters
                .get_mut(*index)
                .and_then(|waiter| waiter.waker.replace(waker)),
            None => {
                *key = Some(WaiterKey(waiters.insert(Waiter {
                    interest,
                    waker: Some(waker),
                })));
                None
            }
        }
    }

    /// Whether a bit of `mask` has turned from clear to set since the last look at it. This is that look.
    pub fn take_fresh(&mut self, mask: Readiness) -> bool {
        let fresh = self.fresh.intersects(mask);
        self.fresh = self.fresh.without(mask);
        fresh
    }

    /// Whether an edge has woken the waiter since it last waited, even if another has used the edge up by now.
    pub fn is_woken(&self, key: WaiterKey) -> bool {
        let waiter = self.waiters.as_ref().and_then(|waiters| waiters.get(key.0));
        waiter.is_some_and(|waiter| waiter.waker.is_none())
    }

    /// The wakers that `poll_*` methods have left, when nobody holds the socket any more; to be dropped outside the
    /// lock. A connection that closes in the background would otherwise keep their tasks, and drop them under a lock.
    #[must_use = "drop the wakers after the lock is released"]
    pub fn take_wakers(&mut self) -> (Option<Waker>, Option<Waker>) {
        (self.reader.take(), self.writer.take())
    }

    /// Removes a waiter whose future is done or dropped. Gives back its waker, to be dropped outside the lock.
    #[must_use = "drop the waker after the lock is released"]
    pub fn forget(&mut self, key: WaiterKey) -> Option<Waker> {
        let waiters = self.waiters.as_mut()?;
        let waker = waiters.try_remove(key.0).and_then(|waiter| waiter.waker);
        if waiters.is_empty() {
            self.waiters = None;
        }
        waker
    }
}
