//! The way out: polls ready slots, builds packets, queues them per interface and hands them to the devices.
//!
//! A connection's packets never overtake each other: they join the interface's queue before the egress lock is
//! released. A full device holds its sockets back; nothing is dropped between our own layers.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, TryLockError, Weak};

use tidewire_netdev::checksum::{pseudo_header_v4, pseudo_header_v6};
use tidewire_netdev::segmentation;
use tidewire_netdev::{Capabilities, Checksum, Packet, Segmentation, SegmentationKind};

use crate::engine::ingress::Delivery;
use crate::engine::network::Path;
use crate::engine::restage;
use crate::engine::shard::{Shard, ShardId};
use crate::engine::slot::{ListenerSlot, SlotRef, TcpSlot, UdpSlot};
use crate::engine::{Engine, WakeList, lock, read};
use crate::error::{SocketError, SocketResult};
use crate::ip::InterfaceId;
use crate::ip::output::{self, OutputHeader};
use crate::stats::DropReason;
use crate::tcp::{Transmit, TransmitLimits};
use crate::time::Instant;
use crate::transport::demux::Tuple;
use crate::wire::protocol;
use crate::wire::tcp::Flags;

/// Packets one flush sends before it lets others run.
const FLUSH_BUDGET: usize = 512;
/// Packets one slot sends before the next has its turn.
const SLOT_BUDGET: usize = 64;
/// The largest payload of one transmit: what an IPv4 or IPv6 super-packet carries besides its headers.
const MAX_SUPER_PAYLOAD: usize = 65_535 - 120;
/// Where the checksum lies in a TCP header.
const CHECKSUM_OFFSET: usize = 16;

/// The transmitters of a stack's interfaces.
pub trait Ports {
    /// Sends packets from the front of `packets` through that queue of the interface's device, removing what was taken.
    ///
    /// [`io::ErrorKind::WouldBlock`] leaves the rest and holds the interface's sockets back until [`Engine::unblock`];
    /// any other error is the device's end.
    fn try_transmit(
        &self,
        interface: InterfaceId,
        queue: usize,
        packets: &mut VecDeque<Packet>,
    ) -> io::Result<()>;
}

/// A packet that belongs to no socket.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) interface: InterfaceId,
    pub(crate) packet: Packet,
}

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

/// The transmit queues of one shard.
#[derive(Debug)]
pub(crate) struct Egress {
    shard: ShardId,
    queues: Vec<TransmitQueue>,
    /// Reused between flushes.
    batch: VecDeque<SlotRef>,
}

#[derive(Debug)]
struct TransmitQueue {
    interface: InterfaceId,
    /// Which of the device's queues.
    index: usize,
    capabilities: Capabilities,
    packets: VecDeque<Packet>,
    blocked: bool,
    failed: bool,
    /// Slots that wait for the device.
    waiting: VecDeque<SlotRef>,
}

impl Egress {
    pub(crate) const fn new(shard: ShardId) -> Self {
        Self {
            shard,
            queues: Vec::new(),
            batch: VecDeque::new(),
        }
    }

    pub(crate) fn add_interface(
        &mut self,
        interface: InterfaceId,
        queues: usize,
        capabilities: Capabilities,
    ) {
        self.queues.push(TransmitQueue {
            interface,
            index: self.shard.index() % queues.max(1),
            capabilities,
            packets: VecDeque::new(),
            blocked: false,
            failed: false,
            waiting: VecDeque::new(),
        });
    }

    fn queue(&mut self, interface: InterfaceId) -> Option<&mut TransmitQueue> {
        self.queues
            .iter_mut()
            .find(|queue| queue.interface == interface)
    }
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

    /// The device of `interface` takes packets again, on all its queues.
    pub fn unblock(&self, interface: InterfaceId) {
        for shard in &self.shards {
            self.unblock_shard(shard, interface);
        }
    }

    /// Queue number `queue` of the device of `interface` takes packets again: gives the shards that go on.
    pub(crate) fn unblock_queue(
        &self,
        interface: InterfaceId,
        queue: usize,
    ) -> impl Iterator<Item = ShardId> {
        self.shard_ids().filter(move |id| {
            let is_blocked = lock(&self.shard(*id).egress)
                .queue(interface)
                .is_some_and(|transmit| transmit.index == queue && transmit.blocked);
            if is_blocked {
                self.unblock_shard(self.shard(*id), interface);
            }
            is_blocked
        })
    }

    fn unblock_shard(&self, shard: &Shard, interface: InterfaceId) {
        let waiting = {
            let mut egress = lock(&shard.egress);
            let Some(queue) = egress.queue(interface) else {
                return;
            };
            queue.blocked = false;
            std::mem::take(&mut queue.waiting)
        };
        lock(&shard.ready).extend(waiting);
    }

    /// Whether packets wait for the device of `interface`.
    pub fn is_blocked(&self, interface: InterfaceId) -> bool {
        let blocked = |queue: &TransmitQueue| queue.interface == interface && queue.blocked;
        self.any_queue(blocked)
    }

    /// Whether packets wait for queue number `index` of the device of `interface`.
    pub(crate) fn is_queue_blocked(&self, interface: InterfaceId, index: usize) -> bool {
        self.any_queue(|queue| {
            queue.interface == interface && queue.index == index && queue.blocked
        })
    }

    /// Whether anything waits for a device that is full.
    pub(crate) fn has_staged(&self) -> bool {
        self.any_queue(|queue| !queue.packets.is_empty() || !queue.waiting.is_empty())
    }

    fn any_queue(&self, is_meant: impl Fn(&TransmitQueue) -> bool) -> bool {
        self.shards
            .iter()
            .any(|shard| lock(&shard.egress).queues.iter().any(&is_meant))
    }

    /// Copies of the packets that wait for the device of `interface`, for tests and inspection.
    pub fn staged(&self, interface: InterfaceId) -> Vec<Packet> {
        let mut staged = Vec::new();
        for shard in &self.shards {
            if let Some(queue) = lock(&shard.egress).queue(interface) {
                staged.extend(queue.packets.iter().cloned());
            }
        }
        staged
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
                restage::shrink(&mut queue.packets, &queue.capabilities, destination, mtu);
            }
        }
        // What a device has left comes first: were slots polled before it, a device that takes a little at a time would
        // leave more behind each time.
        self.transmit_queues(egress, ports);
        self.stage_replies(egress);
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

    fn transmit_queues(&self, egress: &mut Egress, ports: &dyn Ports) {
        for queue in &mut egress.queues {
            // A full device is the driver's to wait for: only `unblock` lets the slots go that wait for it.
            if queue.packets.is_empty() || queue.failed || queue.blocked {
                continue;
            }
            match ports.try_transmit(queue.interface, queue.index, &mut queue.packets) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    queue.blocked = true;
                    // The driver of the shard of the queue's number waits for it, for all who share it.
                    let waiter = &self.shards[queue.index];
                    waiter.new_block.store(true, Ordering::SeqCst);
                }
                Err(error) => {
                    // The receiving half meets the same end and closes the interface's sockets.
                    tracing::debug!(interface = queue.interface.0, %error, "device failed on transmit");
                    queue.failed = true;
                    queue.packets.clear();
                }
            }
        }
    }

    fn stage_replies(&self, egress: &mut Egress) {
        let replies = std::mem::take(&mut *lock(&self.shard(egress.shard).replies));
        for Reply { interface, packet } in replies {
            if self.is_congested(egress, interface) {
                self.counters.dropped(DropReason::RateLimited);
            } else {
                self.stage(egress, interface, packet);
            }
        }
    }

    /// Whether the device is full and so much waits for it already that packets which no connection holds back (RST,
    /// ICMP, SYN-ACK) are dropped: their number is up to the peers.
    fn is_congested(&self, egress: &mut Egress, interface: InterfaceId) -> bool {
        let limit = self.config.host.reply_queue;
        egress
            .queue(interface)
            .is_some_and(|queue| queue.blocked && queue.packets.len() >= limit)
    }

    /// Queues a packet: to own addresses on the loopback, else on its interface's transmit queue.
    pub(crate) fn stage(&self, egress: &mut Egress, interface: InterfaceId, packet: Packet) {
        self.counters.sent(packet.len());
        if interface == InterfaceId::LOOPBACK {
            lock(&self.shard(egress.shard).loopback).push_back(packet);
            return;
        }
        let Some(queue) = egress.queue(interface) else {
            return;
        };
        if queue.failed {
            return;
        }
        if segmentation::prepare(packet, &queue.capabilities, &mut queue.packets).is_err() {
            debug_assert!(
                false,
                "the stack's own packets have headers that can be cut"
            );
        }
    }

    /// Whether the interface takes no more at the moment; the slot then waits for it.
    fn hold_back(
        &self,
        egress: &mut Egress,
        interface: InterfaceId,
        slot: impl FnOnce() -> SlotRef,
    ) -> bool {
        let Some(queue) = egress.queue(interface) else {
            return false;
        };
        if !queue.blocked {
            return false;
        }
        let slot = slot();
        if slot.claim_ready() {
            queue.waiting.push_back(slot);
        }
        true
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
            SlotRef::Echo(_) | SlotRef::Housekeeping(_) => {}
        }
    }

    fn poll_tcp(
        &self,
        egress: &mut Egress,
        now: Instant,
        slot: &Arc<TcpSlot>,
        budget: &mut usize,
        wakes: &mut WakeList,
    ) {
        let mut state = slot.lock();
        slot.release_ready();
        let span = state.socket.span.clone();
        let _entered = span.enter();
        let socket = &mut state.socket;
        let tuple = socket.connection.tuple();
        let path = match socket.path.filter(|path| self.network.is_current(path)) {
            Some(path) => path,
            None => match self.network.path(
                now,
                tuple.remote.ip(),
                Some(tuple.local.ip()),
                socket.device,
            ) {
                Ok(path) => path,
                // The route went away. The timers go on, and give up if it does not come back.
                Err(_) => socket.path.unwrap_or(Path::nowhere(tuple)),
            },
        };
        socket.path = Some(path);
        if self.hold_back(egress, path.interface, || SlotRef::Tcp(Arc::clone(slot))) {
            return;
        }
        let limits = limits(&path, tuple);
        let mut slot_budget = SLOT_BUDGET.min(*budget);
        while let Some(transmit) = socket.connection.poll_transmit(now, &limits) {
            tracing::trace!(
                flags = ?transmit.header.flags,
                sequence = transmit.header.sequence,
                acknowledgment = transmit.header.acknowledgment,
                window = transmit.header.window,
                segment_size = transmit.segment_size,
                "sent"
            );
            let count = transmit_count(&transmit);
            let header = OutputHeader {
                identification: socket.next_id,
                traffic_class: socket.tos,
                hop_limit: socket.ttl,
                ..OutputHeader::new(tuple.local.ip(), tuple.remote.ip(), protocol::TCP)
            };
            socket.next_id = socket.next_id.wrapping_add(count as u16);
            self.stage(egress, path.interface, tcp_packet(tuple, transmit, &header));
            slot_budget -= 1;
            *budget -= 1;
            if slot_budget == 0 {
                break;
            }
        }
        self.settle_tcp(now, slot, &mut state, wakes);
        if slot_budget == 0 {
            drop(state);
            self.mark_ready(SlotRef::Tcp(Arc::clone(slot)));
        }
    }

    fn poll_listener(
        &self,
        egress: &mut Egress,
        now: Instant,
        slot: &Arc<ListenerSlot>,
        budget: &mut usize,
    ) {
        let mut state = slot.lock();
        slot.release_ready();
        let socket = &mut state.socket;
        let mut slot_budget = SLOT_BUDGET.min(*budget);
        while slot_budget > 0 {
            let Some((tuple, transmit)) = socket.listener.poll_transmit(now) else {
                break;
            };
            let path = self.network.path(
                now,
                tuple.remote.ip(),
                Some(tuple.local.ip()),
                socket.device,
            );
            let Ok(path) = path else { continue };
            if self.is_congested(egress, path.interface) {
                // The timer sends it again.
                self.counters.dropped(DropReason::RateLimited);
                continue;
            }
            let header = OutputHeader {
                identification: socket.next_id,
                hop_limit: socket.ttl,
                traffic_class: socket.options.tos & !3,
                ..OutputHeader::new(tuple.local.ip(), tuple.remote.ip(), protocol::TCP)
            };
            socket.next_id = socket.next_id.wrapping_add(1);
            self.stage(egress, path.interface, tcp_packet(tuple, transmit, &header));
            slot_budget -= 1;
            *budget -= 1;
        }
        self.settle_listener(slot, &state.socket);
        if slot_budget == 0 {
            drop(state);
            self.mark_ready(SlotRef::Listener(Arc::clone(slot)));
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
            let path = match self.udp_path(now, socket, destination.ip()) {
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
            self.stage_udp(egress, socket, &path, transmit);
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

    /// Queues a complete packet that belongs to no socket (RST, ICMP).
    ///
    /// # Errors
    /// `NoBuffers` when too many wait already; it is counted.
    pub(crate) fn reply(
        &self,
        shard: ShardId,
        interface: InterfaceId,
        packet: Packet,
    ) -> SocketResult<()> {
        let mut replies = lock(&self.shard(shard).replies);
        if replies.len() < self.config.host.reply_queue {
            replies.push_back(Reply { interface, packet });
            return Ok(());
        }
        drop(replies);
        self.counters.dropped(DropReason::RateLimited);
        Err(SocketError::NoBuffers)
    }

    /// Sends a segment that belongs to no connection: a RST to nobody, an ACK from TIME-WAIT.
    pub(crate) fn reply_tcp(&self, now: Instant, tuple: Tuple, transmit: Transmit) {
        let Ok(path) = self
            .network
            .path(now, tuple.remote.ip(), Some(tuple.local.ip()), None)
        else {
            return;
        };
        let header = OutputHeader {
            hop_limit: self.config.host.ttl,
            ..OutputHeader::new(tuple.local.ip(), tuple.remote.ip(), protocol::TCP)
        };
        // Too many at once: the peer asks again.
        let packet = tcp_packet(tuple, transmit, &header);
        let _ = self.reply(self.home_of(&tuple), path.interface, packet);
    }
}

impl Path {
    /// A path for a connection whose route is gone before it was ever used: packets fall off the loopback.
    fn nowhere(tuple: Tuple) -> Self {
        Self {
            interface: InterfaceId(0),
            next_hop: tuple.remote.ip(),
            source: tuple.local.ip(),
            mtu: 1280,
            generation: 0,
        }
    }
}

/// How many wire packets a transmit becomes: a super-packet takes one IPv4 identification each.
fn transmit_count(transmit: &Transmit) -> usize {
    match transmit.segment_size {
        Some(size) => transmit
            .payload
            .iter()
            .map(bytes::Bytes::len)
            .sum::<usize>()
            .div_ceil(usize::from(size.max(1))),
        None => 1,
    }
}

/// What a path lets a connection send at once. Where the device cannot cut, software does it just above the device,
/// which still saves a pass through the connection per segment.
fn limits(path: &Path, tuple: Tuple) -> TransmitLimits {
    TransmitLimits {
        path_mtu: path.mtu,
        ip_header_len: if tuple.remote.is_ipv4() { 20 } else { 40 },
        max_super_payload: MAX_SUPER_PAYLOAD,
    }
}

/// The folded sum of a pseudo-header, as a partial checksum field holds it.
pub(crate) fn pseudo_checksum(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    length: usize,
) -> u16 {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            pseudo_header_v4(source, destination, protocol, length as u32).fold()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            pseudo_header_v6(source, destination, protocol, length as u32).fold()
        }
        _ => 0,
    }
}

/// A TCP packet: headers inline, payload borrowed, checksum left partial.
fn tcp_packet(tuple: Tuple, transmit: Transmit, header: &OutputHeader) -> Packet {
    let Transmit {
        header: tcp_header,
        payload,
        segment_size,
        ecn,
    } = transmit;
    let mut packet = Packet::from_payload(payload);
    let payload_len = packet.len();
    let header_len = tcp_header.encoded_len();
    let area = packet.prepend(header_len);
    tcp_header.emit(area);
    let pseudo = pseudo_checksum(
        tuple.local.ip(),
        tuple.remote.ip(),
        protocol::TCP,
        header_len + payload_len,
    );
    area[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].copy_from_slice(&pseudo.to_be_bytes());
    packet.offload.checksum = Checksum::Partial {
        start: 0,
        offset: CHECKSUM_OFFSET as u16,
    };
    if let Some(segment_size) = segment_size.filter(|size| usize::from(*size) < payload_len) {
        let kind = if tuple.remote.is_ipv4() {
            SegmentationKind::TcpV4
        } else {
            SegmentationKind::TcpV6
        };
        packet.offload.segmentation = Some(Segmentation {
            kind,
            segment_size,
            ecn: tcp_header.flags.contains(Flags::CWR),
        });
    }
    let prepended = output::prepend(&mut packet, &header.with_ecn(ecn));
    debug_assert!(
        prepended.is_ok(),
        "a transmit is at most {MAX_SUPER_PAYLOAD} octets, of one IP version"
    );
    packet
}
