//! The way out: polls ready slots, builds packets, queues them per interface and hands them to the devices.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, TryLockError, Weak};

use tidewire_netdev::Packet;

use crate::engine::ingress::Delivery;
use crate::engine::restage;
use crate::engine::shard::{Shard, ShardId};
use crate::engine::slot::{SlotRef, UdpSlot};
use crate::engine::transmit_queue::{Egress, Ports};
use crate::engine::{Engine, WakeList, lock, read};
use crate::ip::InterfaceId;
use crate::time::Instant;

/// Packets one flush sends before it lets others run.
const FLUSH_BUDGET: usize = 512;
/// Packets one slot sends before the next has its turn.
pub(crate) const SLOT_BUDGET: usize = 64;

/// How a flush ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FlushOutcome {
    /// Nothing is left to do.
    Done,
    /// Another thread is flushing or delivering, and will look again.
    Busy,
    /// The budget is used up: somebody should flush again soon.
    Unfinished,
}

impl Engine {
    /// Flushes every shard that has something to send; for callers that are no shard's driver.
    pub fn flush(&self, now: Instant, ports: &dyn Ports, wakes: &mut WakeList) -> FlushOutcome {
        if self.shards.len() == 1 {
            return self.flush_shard(ShardId::FIRST, now, ports, wakes);
        }
        let mut outcome = FlushOutcome::Done;
        // What one shard delivers to own addresses may concern another: twice round settles an exchange.
        for id in self.shard_ids().chain(self.shard_ids()) {
            if self.shard(id).has_ready() {
                outcome = outcome.max(self.flush_shard(id, now, ports, wakes));
            }
        }
        match outcome {
            FlushOutcome::Done if self.has_ready() => FlushOutcome::Unfinished,
            outcome => outcome,
        }
    }

    /// Sends what a shard's ready slots have to send and delivers its packets to own addresses, until nothing is left or
    /// the budget is used up. The caller holds no lock and wakes `wakes` afterwards.
    pub fn flush_shard(
        &self,
        id: ShardId,
        now: Instant,
        ports: &dyn Ports,
        wakes: &mut WakeList,
    ) -> FlushOutcome {
        let shard = self.shard(id);
        let mut budget = FLUSH_BUDGET;
        loop {
            let egress = self.try_egress(shard).or_else(|| {
                shard.again.store(true, Ordering::SeqCst);
                // The holder may have looked before that store: try once more.
                self.try_egress(shard)
            });
            let Some(mut egress) = egress else {
                return FlushOutcome::Busy;
            };
            shard.again.store(false, Ordering::SeqCst);
            self.run_egress(&mut egress, now, ports, &mut budget, wakes);
            drop(egress);
            let delivery = self.deliver_loopback(shard, now, wakes);
            if budget == 0 || delivery == Delivery::Unfinished {
                return FlushOutcome::Unfinished;
            }
            if shard.again.swap(false, Ordering::SeqCst) {
                continue;
            }
            if delivery == Delivery::Elsewhere && !shard.has_polls() {
                return FlushOutcome::Busy;
            }
            if !shard.has_ready() {
                return FlushOutcome::Done;
            }
        }
    }

    /// The egress lock, unless somebody holds it.
    fn try_egress<'a>(&self, shard: &'a Shard) -> Option<MutexGuard<'a, Egress>> {
        match shard.egress.try_lock() {
            Ok(egress) => Some(egress),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Poisoned(poisoned)) => {
                shard.egress.clear_poison();
                self.poll_all_anew();
                Some(poisoned.into_inner())
            }
        }
    }

    /// A holder of the egress lock has panicked and taken the slots along that it was to poll: none may wait for a place
    /// on the ready list that it believes to have.
    #[cold]
    fn poll_all_anew(&self) {
        let mut slots: Vec<SlotRef> = Vec::new();
        let connections = read(&self.connections);
        slots.extend(connections.sorted().into_iter().map(SlotRef::from));
        drop(connections);
        let listeners = read(&self.listeners);
        let listening = listeners.sorted().into_iter().filter_map(Weak::upgrade);
        slots.extend(listening.map(SlotRef::Listener));
        drop(listeners);
        let datagrams = read(&self.datagrams);
        let sockets = datagrams.sorted().into_iter().filter_map(Weak::upgrade);
        slots.extend(sockets.map(SlotRef::Udp));
        drop(datagrams);
        slots.extend(self.all_associations().into_iter().map(SlotRef::Sctp));
        for slot in slots {
            slot.release_ready();
            self.mark_ready(slot);
        }
    }

    /// Takes the packets that wait for `interface`, for engines without a runtime.
    pub fn transmit(
        &self,
        now: Instant,
        interface: InterfaceId,
        batch: &mut Vec<Packet>,
        wakes: &mut WakeList,
    ) {
        struct Collect;
        impl Ports for Collect {
            fn try_transmit(
                &self,
                _: InterfaceId,
                _: usize,
                _: &mut VecDeque<Packet>,
            ) -> io::Result<()> {
                Ok(())
            }
        }
        while self.flush(now, &Collect, wakes) == FlushOutcome::Unfinished {}
        for shard in &self.shards {
            let mut egress = lock(&shard.egress);
            if let Some(queue) = egress.queue(interface) {
                batch.extend(queue.packets.drain(..));
            }
        }
    }

    fn run_egress(
        &self,
        egress: &mut Egress,
        now: Instant,
        ports: &dyn Ports,
        budget: &mut usize,
        wakes: &mut WakeList,
    ) {
        let shard = self.shard(egress.shard);
        for (destination, mtu) in std::mem::take(&mut *lock(&shard.shrunk)) {
            for queue in &mut egress.queues {
                let smaller = (destination, mtu);
                restage::shrink(&mut queue.packets, &queue.capabilities, smaller, |source| {
                    self.network.is_own(source)
                });
            }
        }
        // What a device has left comes first: were slots polled before it, a device that takes a little at a time would
        // leave more behind each time.
        self.transmit_queues(egress, ports);
        self.stage_replies(egress, now, wakes);
        let mut batch = std::mem::take(&mut egress.batch);
        std::mem::swap(&mut batch, &mut *lock(&shard.ready));
        while *budget > 0 {
            let Some(slot) = batch.pop_front() else { break };
            let before = *budget;
            self.poll_slot(egress, now, &slot, budget, wakes);
            if *budget < before {
                self.transmit_queues(egress, ports);
            }
        }
        self.transmit_queues(egress, ports);
        if !batch.is_empty() {
            // Out of budget: the rest keeps its place before what came meanwhile.
            let mut ready = lock(&shard.ready);
            batch.append(&mut ready);
            std::mem::swap(&mut batch, &mut ready);
        }
        egress.batch = batch;
    }

    fn poll_slot(
        &self,
        egress: &mut Egress,
        now: Instant,
        slot: &SlotRef,
        budget: &mut usize,
        wakes: &mut WakeList,
    ) {
        match slot {
            SlotRef::Tcp(slot) => self.poll_tcp(egress, now, slot, budget, wakes),
            SlotRef::Listener(slot) => self.poll_listener(egress, now, slot, budget),
            SlotRef::Udp(slot) => self.poll_udp(egress, now, slot, budget, wakes),
            SlotRef::Sctp(slot) => self.poll_sctp(egress, now, slot, budget, wakes),
            SlotRef::SctpListener(_) | SlotRef::Echo(_) | SlotRef::Housekeeping(_) => {}
        }
    }

    fn poll_udp(
        &self,
        egress: &mut Egress,
        now: Instant,
        slot: &Arc<UdpSlot>,
        budget: &mut usize,
        wakes: &mut WakeList,
    ) {
        let mut state = slot.lock();
        slot.release_ready();
        let mut slot_budget = SLOT_BUDGET.min(*budget);
        while slot_budget > 0 {
            let socket = &mut state.socket;
            let Some(destination) = socket.socket.next_destination() else {
                break;
            };
            let path = match self.udp_path(now, socket, destination) {
                Ok(path) => path,
                Err(error) => {
                    socket.socket.handle_transmit_error(error);
                    continue;
                }
            };
            if self.hold_back(egress, path.interface, || SlotRef::Udp(Arc::clone(slot))) {
                break;
            }
            if path.interface == InterfaceId::LOOPBACK && self.is_loopback_behind(egress.shard) {
                // Another thread delivers, and slower than this one sends.
                *budget = 0;
                slot_budget = 0;
                break;
            }
            let Some(transmit) = socket.socket.poll_transmit() else {
                break;
            };
            self.stage_udp(egress, now, socket, &path, transmit);
            slot_budget -= 1;
            *budget -= 1;
        }
        let edges = state.socket.socket.take_readiness();
        state.ready.set(edges, wakes);
        if slot_budget == 0 {
            drop(state);
            self.mark_ready(SlotRef::Udp(Arc::clone(slot)));
        }
    }
}
