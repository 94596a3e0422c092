//! A shard: what one driver works through. Its ready list, its transmit queues, its timers.
//!
//! A stack has as many shards as its widest device has queues, one as a rule. A slot has one home shard for life,
//! chosen by the hash of its flow, whichever driver receives its packets: so a connection's packets leave through one
//! queue, in order, and its timer is armed in one wheel.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tidewire_netdev::Packet;

use crate::engine::lock;
use crate::engine::slot::{SlotRef, TimerState};
use crate::engine::timers::TimerUpdates;
use crate::engine::transmit_queue::{Egress, Reply};
use crate::time::Instant;

/// Which shard of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(u16);

impl ShardId {
    /// The shard that every stack has; it also keeps the stack's own house.
    pub const FIRST: Self = Self(0);

    /// The shard of that number; `None` beyond what a stack can have.
    pub fn new(index: usize) -> Option<Self> {
        u16::try_from(index).ok().map(Self)
    }

    /// The shard of a flow, of `count` shards.
    pub(crate) const fn of_hash(hash: u32, count: usize) -> Self {
        // A remainder of less than `count`, which was made from such numbers.
        Self((hash as usize % count) as u16)
    }

    /// Its number, counted from 0.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What one driver works through.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) egress: Mutex<Egress>,
    /// Somebody met a locked `egress`: its holder looks at the ready list once more.
    pub(crate) again: AtomicBool,
    pub(crate) ready: Mutex<VecDeque<SlotRef>>,
    /// Complete packets that belong to no socket: RST, ICMP, ARP. Bounded.
    pub(crate) replies: Mutex<VecDeque<Reply>>,
    /// Packets to own addresses.
    pub(crate) loopback: Mutex<VecDeque<Packet>>,
    /// Held by whoever delivers loopback packets, so that they stay in order.
    pub(crate) delivering: Mutex<()>,
    pub(crate) updates: TimerUpdates,
    /// The earliest deadline the driver sleeps until, in nanoseconds.
    armed: AtomicU64,
    /// A deadline before `armed` came up: the driver must be woken.
    rearm: AtomicBool,
    /// Path MTUs that shrank since the last flush: what is staged for them is cut anew.
    pub(crate) shrunk: Mutex<Vec<(IpAddr, usize)>>,
    /// A queue that this shard's driver waits for became full since it looked.
    pub(crate) new_block: AtomicBool,
}

impl Shard {
    pub(crate) fn new(id: ShardId) -> Self {
        Self {
            egress: Mutex::new(Egress::new(id)),
            again: AtomicBool::new(false),
            ready: Mutex::default(),
            replies: Mutex::default(),
            loopback: Mutex::default(),
            delivering: Mutex::new(()),
            updates: TimerUpdates::default(),
            armed: AtomicU64::new(u64::MAX),
            rearm: AtomicBool::new(false),
            shrunk: Mutex::default(),
            new_block: AtomicBool::new(false),
        }
    }

    /// Whether a slot is to be polled or a reply to be sent.
    pub(crate) fn has_polls(&self) -> bool {
        !lock(&self.ready).is_empty() || !lock(&self.replies).is_empty()
    }

    /// Whether egress has something to look at.
    pub(crate) fn has_ready(&self) -> bool {
        self.has_polls() || !lock(&self.loopback).is_empty()
    }

    /// A slot's deadline: queues an update if it moved earlier.
    pub(crate) fn note_deadline(
        &self,
        timer: &TimerState,
        deadline: Option<Instant>,
        slot: impl FnOnce() -> SlotRef,
    ) {
        let Some(deadline) = deadline else { return };
        if !timer.lower(deadline) {
            return;
        }
        let mut earliest = deadline;
        if timer.claim_update() {
            self.updates.push(slot());
            // Whoever has found the place taken meanwhile may have looked at `armed` before the driver set it.
            earliest = timer.registered().map_or(deadline, |at| at.min(deadline));
        }
        // Even if an update waits already: it may be for a later deadline, for which nobody was woken.
        if earliest.as_nanos() < self.armed.load(Ordering::SeqCst) {
            self.rearm.store(true, Ordering::SeqCst);
        }
    }

    /// A slot has left for good: its timer entry goes.
    pub(crate) fn finish_timer(&self, timer: &TimerState, slot: impl FnOnce() -> SlotRef) {
        if timer.finish() {
            self.updates.push(slot());
        }
    }

    /// The driver sleeps until `deadline` at the latest.
    pub(crate) fn set_armed(&self, deadline: Option<Instant>) {
        let nanos = deadline.map_or(u64::MAX, Instant::as_nanos);
        self.armed.store(nanos, Ordering::SeqCst);
    }

    /// Whether a deadline earlier than the driver's sleep has come up since the last call.
    pub(crate) fn take_rearm(&self) -> bool {
        self.rearm.swap(false, Ordering::SeqCst)
    }

    /// A queue that this shard's driver waits for has become full since the last call.
    pub(crate) fn take_new_block(&self) -> bool {
        self.new_block.swap(false, Ordering::SeqCst)
    }

    pub(crate) fn has_new_block(&self) -> bool {
        self.new_block.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_deadline_before_the_drivers_sleep_ends_wakes_it_although_a_later_one_waits_already() {
        let shard = Shard::new(ShardId::FIRST);
        let timer = Arc::new(TimerState::default());
        let note = |seconds| {
            let deadline = Instant::ZERO + Duration::from_secs(seconds);
            shard.note_deadline(&timer, Some(deadline), || {
                SlotRef::Housekeeping(Arc::clone(&timer))
            });
        };
        shard.set_armed(Some(Instant::ZERO + Duration::from_secs(10)));
        // Later than the driver looks anyway: it finds the update then.
        note(20);
        assert!(!shard.take_rearm());
        note(5);
        assert!(shard.take_rearm());
        // One place on the list is enough for both.
        let mut updates = Vec::new();
        shard.updates.take(&mut updates);
        assert_eq!(updates.len(), 1);
        assert_eq!(
            timer.take_update(),
            Some(Instant::ZERO + Duration::from_secs(5))
        );
    }
}
