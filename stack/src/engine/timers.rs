//! Who runs the timers: updates for a driver's wheel, or a heap of the engine's own when there is no runtime.
//!
//! A slot keeps one deadline. It is only ever moved earlier; when an early one fires, the slot is asked again. So
//! pushing a retransmission timer back with each ACK costs nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, PoisonError};

use crate::engine::slot::SlotRef;
use crate::time::Instant;

/// Slots whose deadline moved earlier, or that are gone; whoever runs the timers takes them.
#[derive(Debug, Default)]
pub(crate) struct TimerUpdates(Mutex<Vec<SlotRef>>);

impl TimerUpdates {
    pub(crate) fn push(&self, slot: SlotRef) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(slot);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    /// Moves the updates to the end of `into`. An empty one takes the list's place, so that two allocations alternate
    /// and a large one ends with whoever trims it.
    pub(crate) fn take(&self, into: &mut Vec<SlotRef>) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if into.is_empty() {
            std::mem::swap(into, &mut list);
        } else {
            into.append(&mut list);
        }
    }
}

/// The timers of an engine that runs without a runtime: a heap in which outdated entries are skipped when they surface.
#[derive(Debug, Default)]
pub(crate) struct TimerHeap {
    heap: BinaryHeap<Reverse<Entry>>,
    /// Orders entries of the same time by their arming.
    next: u64,
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    order: u64,
    slot: SlotRef,
}

impl TimerHeap {
    /// Arms what the updates ask for.
    pub(crate) fn apply(&mut self, updates: &mut Vec<SlotRef>) {
        for slot in updates.drain(..) {
            if let Some(at) = slot.timer().take_update() {
                self.heap.push(Reverse(Entry {
                    at,
                    order: self.next,
                    slot,
                }));
                self.next += 1;
            }
        }
    }

    /// The earliest deadline.
    pub(crate) fn next_deadline(&mut self) -> Option<Instant> {
        while let Some(Reverse(entry)) = self.heap.peek() {
            if entry.slot.timer().registered() == Some(entry.at) {
                return Some(entry.at);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes a slot whose deadline has come.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<SlotRef> {
        if self.next_deadline()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry.slot)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}
