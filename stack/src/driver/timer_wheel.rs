//! One entry per socket on tokio's timer wheel.
//!
//! An entry is only moved earlier; a deadline that has moved later is found out when the early one fires.

use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use slab::Slab;
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;

use crate::driver::Clock;
use crate::engine::SlotRef;
use crate::time::Instant;

/// Room for timers that an empty wheel keeps: the timers of a few busy connections come and go all the time.
const KEPT_CAPACITY: usize = 1024;

#[derive(Debug)]
struct Entry {
    slot: SlotRef,
    key: Key,
    at: Instant,
}

/// The timers of all sockets of a stack.
#[derive(Debug, Default)]
pub(crate) struct TimerWheel {
    queue: DelayQueue<usize>,
    entries: Slab<Entry>,
}

impl TimerWheel {
    /// Arms, moves or removes a slot's entry as its update says.
    pub(crate) fn update(&mut self, slot: SlotRef, clock: &Clock) {
        let wanted = slot.timer().take_update().map(|at| within_range(at, clock));
        let token = slot.timer().token.load(Ordering::Acquire);
        let finished = slot.timer().is_finished();
        match (token.checked_sub(1), wanted) {
            (Some(index), _) if finished => self.remove(index as usize),
            (_, None) => {}
            (Some(index), Some(at)) => {
                if let Some(entry) = self
                    .entries
                    .get_mut(index as usize)
                    .filter(|entry| at < entry.at)
                {
                    entry.at = at;
                    self.queue.reset_at(&entry.key, clock.to_tokio(at));
                }
            }
            (None, Some(at)) => {
                let place = self.entries.vacant_entry();
                let index = place.key();
                let key = self.queue.insert_at(index, clock.to_tokio(at));
                slot.timer()
                    .token
                    .store(index as u32 + 1, Ordering::Release);
                place.insert(Entry { slot, key, at });
            }
        }
    }

    /// The next slot whose timer has fired; its entry is gone.
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<SlotRef> {
        loop {
            match self.queue.poll_expired(cx) {
                Poll::Ready(Some(expired)) => {
                    let index = expired.into_inner();
                    if let Some(entry) = self.entries.try_remove(index) {
                        entry.slot.timer().token.store(0, Ordering::Release);
                        return Poll::Ready(entry.slot);
                    }
                }
                Poll::Ready(None) => {
                    self.shrink();
                    return Poll::Pending;
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// The moment the next timer fires at.
    pub(crate) fn next_deadline(&self, clock: &Clock) -> Option<Instant> {
        self.queue
            .peek()
            .map(|key| clock.instant(self.queue.deadline(&key)))
    }

    fn remove(&mut self, index: usize) {
        if let Some(entry) = self.entries.try_remove(index) {
            self.queue.try_remove(&entry.key);
            entry.slot.timer().token.store(0, Ordering::Release);
        }
    }

    /// A wheel that once was large does not stay so when no timer is left.
    fn shrink(&mut self) {
        if self.entries.is_empty() && self.entries.capacity() > KEPT_CAPACITY {
            self.entries.shrink_to_fit();
            self.queue.shrink_to_fit();
        }
    }

    /// How many sockets have a timer.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// A deadline that tokio's wheel takes; it panics on those more than two years ahead (a linger time, say). The entry
/// then fires early, and the slot asks again.
fn within_range(at: Instant, clock: &Clock) -> Instant {
    if at <= Instant::ZERO + RANGE {
        return at;
    }
    at.min(clock.now() + RANGE)
}

/// One year.
const RANGE: Duration = Duration::from_secs(365 * 86_400);
