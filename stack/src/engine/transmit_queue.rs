//! The queues in front of the devices: what waits for a full one, and who waits with it.
//!
//! A connection's packets never overtake each other: they join the interface's queue before the egress lock is
//! released. A full device holds its sockets back; nothing is dropped between our own layers.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use tidewire_netdev::segmentation;
use tidewire_netdev::{Capabilities, MacAddress, Packet};

use crate::engine::counters::Sent;
use crate::engine::link::Way;
use crate::engine::network::Path;
use crate::engine::shard::{Shard, ShardId};
use crate::engine::slot::SlotRef;
use crate::engine::{Engine, WakeList, lock};
use crate::error::{SocketError, SocketResult};
use crate::ip::InterfaceId;
use crate::link::ethernet::{self, LinkProtocol};
use crate::neighbor::Initiator;
use crate::stats::DropReason;
use crate::time::Instant;

/// The transmitters of a stack's interfaces.
pub trait Ports {
    /// Sends packets from the front of `packets` through that queue of the interface's device, removing what was taken.
    ///
    /// [`io::ErrorKind::WouldBlock`] leaves the rest and holds the interface's sockets back until [`Engine::unblock`];
    /// with [`io::ErrorKind::NetworkDown`] what is sent until then is lost; any other error is the device's end.
    fn try_transmit(
        &self,
        interface: InterfaceId,
        queue: usize,
        packets: &mut VecDeque<Packet>,
    ) -> io::Result<()>;
}

/// A packet that belongs to no socket: an answer, or one on its way through.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) interface: InterfaceId,
    pub(crate) packet: Packet,
    pub(crate) way: ReplyWay,
}

/// What is still missing of a reply.
#[derive(Debug)]
pub(crate) enum ReplyWay {
    /// Nothing: it is a complete frame.
    Frame,
    /// The frame, which is for this station.
    Station(MacAddress),
    /// The neighbour's address, on links that have such, and who asks for it if it is unknown.
    Path(Path, Initiator),
    /// The same for another host's packet.
    Onward(Path),
}

/// The transmit queues of one shard.
#[derive(Debug)]
pub(crate) struct Egress {
    pub(crate) shard: ShardId,
    pub(crate) queues: Vec<TransmitQueue>,
    /// Reused between flushes.
    pub(crate) batch: VecDeque<SlotRef>,
    /// Memory that SCTP's headers are written to.
    pub(crate) arena: BytesMut,
    /// Not counted yet: [`Engine::count_sent`].
    sent: Sent,
}

#[derive(Debug)]
pub(crate) struct TransmitQueue {
    interface: InterfaceId,
    /// Which of the device's queues.
    index: usize,
    /// The interface's own address, if its link has addresses.
    hardware_address: Option<MacAddress>,
    pub(crate) capabilities: Capabilities,
    pub(crate) packets: VecDeque<Packet>,
    blocked: bool,
    /// The link is down: packets are dropped, and counted, until the device says otherwise.
    down: bool,
    failed: bool,
    /// Slots that wait for the device.
    waiting: VecDeque<SlotRef>,
    /// Slots that have other ways meanwhile, and look once more when the device takes packets again.
    watching: Vec<SlotRef>,
    /// How often the device began to take packets again.
    unblocked: u64,
}

impl TransmitQueue {
    /// Whether the driver waits for the device to take packets.
    const fn is_waiting(&self) -> bool {
        self.blocked || self.down
    }
}

impl Egress {
    pub(crate) fn new(shard: ShardId) -> Self {
        Self {
            shard,
            queues: Vec::new(),
            batch: VecDeque::new(),
            arena: BytesMut::new(),
            sent: Sent::default(),
        }
    }

    pub(crate) fn add_interface(
        &mut self,
        interface: InterfaceId,
        queues: usize,
        hardware_address: Option<MacAddress>,
        capabilities: Capabilities,
    ) {
        self.queues.push(TransmitQueue {
            interface,
            index: self.shard.index() % queues.max(1),
            hardware_address,
            capabilities,
            packets: VecDeque::new(),
            blocked: false,
            down: false,
            failed: false,
            waiting: VecDeque::new(),
            watching: Vec::new(),
            unblocked: 0,
        });
    }

    /// The address of an interface on its link; `None` when the link has no addresses.
    pub(crate) fn hardware_address(&mut self, interface: InterfaceId) -> Option<MacAddress> {
        self.queue(interface)?.hardware_address
    }

    pub(crate) fn queue(&mut self, interface: InterfaceId) -> Option<&mut TransmitQueue> {
        self.queues
            .iter_mut()
            .find(|queue| queue.interface == interface)
    }
}

impl Engine {
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
                .is_some_and(|transmit| transmit.index == queue && transmit.is_waiting());
            if is_blocked {
                self.unblock_shard(self.shard(*id), interface);
            }
            is_blocked
        })
    }

    fn unblock_shard(&self, shard: &Shard, interface: InterfaceId) {
        let (waiting, watching) = {
            let mut egress = lock(&shard.egress);
            let Some(queue) = egress.queue(interface) else {
                return;
            };
            queue.blocked = false;
            if std::mem::take(&mut queue.down) {
                self.network.set_link_up(interface, true);
                lock(&self.came_up).insert(interface);
                self.note_housekeeping(Some(Instant::ZERO));
            }
            queue.unblocked += 1;
            (
                std::mem::take(&mut queue.waiting),
                std::mem::take(&mut queue.watching),
            )
        };
        lock(&shard.ready).extend(waiting);
        for slot in watching {
            self.mark_ready(slot);
        }
    }

    /// Whether packets wait for the device of `interface`.
    pub fn is_blocked(&self, interface: InterfaceId) -> bool {
        let blocked = |queue: &TransmitQueue| queue.interface == interface && queue.blocked;
        self.any_queue(blocked)
    }

    /// Whether packets wait for queue number `index` of the device of `interface`.
    pub(crate) fn is_queue_blocked(&self, interface: InterfaceId, index: usize) -> bool {
        self.any_queue(|queue| {
            queue.interface == interface && queue.index == index && queue.is_waiting()
        })
    }

    /// Whether anything waits for a device that is full, or a datagram for its neighbour's answer.
    pub(crate) fn has_staged(&self, now: Instant) -> bool {
        self.has_unresolved(now)
            || self.any_queue(|queue| !queue.packets.is_empty() || !queue.waiting.is_empty())
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

    pub(crate) fn transmit_queues(&self, egress: &mut Egress, ports: &dyn Ports) {
        self.count_sent(egress);
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
                Err(error) if error.kind() == io::ErrorKind::NetworkDown => {
                    for _ in queue.packets.drain(..) {
                        self.counters.dropped(DropReason::LinkDown);
                    }
                    queue.down = true;
                    self.network.set_link_up(queue.interface, false);
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

    pub(crate) fn stage_replies(&self, egress: &mut Egress, now: Instant, wakes: &mut WakeList) {
        let replies = std::mem::take(&mut *lock(&self.shard(egress.shard).replies));
        for Reply {
            interface,
            mut packet,
            way,
        } in replies
        {
            if self.is_congested(egress, interface) {
                self.counters.dropped(match way {
                    ReplyWay::Onward(_) => DropReason::QueueFull,
                    ReplyWay::Frame | ReplyWay::Station(_) | ReplyWay::Path(..) => {
                        DropReason::RateLimited
                    }
                });
                continue;
            }
            match way {
                ReplyWay::Frame => self.stage(egress, interface, Way::Plain, &mut packet),
                ReplyWay::Station(station) => {
                    self.stage(egress, interface, Way::Station(station), &mut packet);
                }
                // An error is counted; only an echo request has somebody to tell of it.
                // Refused, the packet is still there.
                ReplyWay::Path(path, initiator) => {
                    let result = self.stage_towards(egress, now, &path, initiator, &mut packet);
                    if result == Err(SocketError::HostUnreachable) {
                        self.report_undelivered(now, interface, packet, wakes);
                    }
                }
                ReplyWay::Onward(path) => {
                    let initiator = Initiator::Stranger;
                    let result = self.stage_towards(egress, now, &path, initiator, &mut packet);
                    if result == Err(SocketError::HostUnreachable) {
                        self.report_unforwarded(now, interface, &packet);
                    }
                }
            }
        }
    }

    /// Counts what was staged since the last time.
    fn count_sent(&self, egress: &mut Egress) {
        if !egress.sent.is_empty() {
            self.counters.sent(std::mem::take(&mut egress.sent));
        }
    }

    /// Whether the device is full and so much waits for it already that packets which no connection holds back (RST,
    /// ICMP, SYN-ACK) are dropped: their number is up to the peers.
    pub(crate) fn is_congested(&self, egress: &mut Egress, interface: InterfaceId) -> bool {
        let limit = self.config.host.reply_queue;
        egress
            .queue(interface)
            .is_some_and(|queue| queue.blocked && queue.packets.len() >= limit)
    }

    /// Queues a packet: to own addresses on the loopback, else on its interface's transmit queue, in a frame if its way
    /// leads to a station. It is taken from its place: packets are some hundred octets, and each move copies them.
    pub(crate) fn stage(
        &self,
        egress: &mut Egress,
        interface: InterfaceId,
        way: Way,
        packet: &mut Packet,
    ) {
        if way == Way::Unreachable {
            self.counters.dropped(DropReason::NeighborUnreachable);
            return;
        }
        egress.sent.add(packet.len());
        if interface == InterfaceId::LOOPBACK {
            lock(&self.shard(egress.shard).loopback).push_back(std::mem::take(packet));
            return;
        }
        let Some(queue) = egress.queue(interface) else {
            return;
        };
        if queue.failed {
            return;
        }
        if queue.down {
            self.counters.dropped(DropReason::LinkDown);
            return;
        }
        if let (Way::Station(station), Some(ours)) = (way, queue.hardware_address) {
            let is_ipv4 = packet
                .contiguous()
                .first()
                .is_some_and(|first| first >> 4 == 4);
            let protocol = if is_ipv4 {
                LinkProtocol::Ipv4
            } else {
                LinkProtocol::Ipv6
            };
            ethernet::prepend(packet, ours, station, protocol);
        }
        if segmentation::prepare(packet, &queue.capabilities, &mut queue.packets).is_err() {
            debug_assert!(
                false,
                "the stack's own packets have headers that can be cut"
            );
        }
    }

    /// Whether the interface takes no more at the moment; the slot then waits for it.
    pub(crate) fn hold_back(
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

    /// Whether the interface takes no more at the moment; the slot then is polled once more when it does, and whenever else
    /// there is a reason. `since` is the slot's, for each of its ways: it stands on the list once.
    pub(crate) fn watch(
        &self,
        egress: &mut Egress,
        interface: InterfaceId,
        since: &mut Option<u64>,
        slot: impl FnOnce() -> SlotRef,
    ) -> bool {
        let Some(queue) = egress.queue(interface).filter(|queue| queue.blocked) else {
            return false;
        };
        if since.replace(queue.unblocked) != Some(queue.unblocked) {
            queue.watching.push(slot());
        }
        true
    }

    /// Queues a complete packet that belongs to no socket (RST, ICMP).
    ///
    /// # Errors
    /// `NoBuffers` when too many wait already; it is counted.
    pub(crate) fn reply(
        &self,
        shard: ShardId,
        path: &Path,
        initiator: Initiator,
        packet: Packet,
    ) -> SocketResult<()> {
        let reply = Reply {
            interface: path.interface,
            packet,
            way: ReplyWay::Path(*path, initiator),
        };
        self.queue_reply(shard, reply)
    }

    pub(crate) fn queue_reply(&self, shard: ShardId, reply: Reply) -> SocketResult<()> {
        let queued = self.try_queue_reply(shard, reply);
        if queued.is_err() {
            self.counters.dropped(DropReason::RateLimited);
        }
        queued
    }

    /// The same, for callers that count.
    pub(crate) fn try_queue_reply(&self, shard: ShardId, reply: Reply) -> SocketResult<()> {
        let mut replies = lock(&self.shard(shard).replies);
        if replies.len() >= self.config.host.reply_queue {
            return Err(SocketError::NoBuffers);
        }
        replies.push_back(reply);
        Ok(())
    }
}
