//! Links with addresses of their own: frames in, the way to a neighbour out, and what becomes of those who wait for one.
//!
//! Owns which packets go through the neighbour cache and who hears of its outcome. The cache itself, the frames and
//! duplicate detection are sans-IO below (`neighbor`, `link`, `ip::autoconf`).

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidewire_netdev::{MacAddress, Packet};

use crate::engine::ingress::Inbound;
use crate::engine::network::{Asker, Cast, Path};
use crate::engine::shard::ShardId;
use crate::engine::slot::{SlotRef, TcpSlot};
use crate::engine::sockets::TcpSocket;
use crate::engine::transmit_queue::{Egress, Reply, ReplyWay};
use crate::engine::{Engine, WakeList, lock};
use crate::error::{SocketError, SocketResult};
use crate::ip::InterfaceId;
use crate::ip::input::IpPacket;
use crate::link::ethernet::{self, LinkProtocol};
use crate::neighbor::arp::{self, ArpVerdict};
use crate::neighbor::ndp::{self, Received};
use crate::neighbor::{
    Initiator, NeighborEvent, NeighborInfo, NeighborKey, NeighborStats, Resolution, Solicitation,
    UpperLayerAdvice,
};
use crate::stats::DropReason;
use crate::time::Instant;
use crate::wire::arp::{Message as ArpMessage, PACKET_LEN};
use crate::wire::ethernet::HEADER_LEN;

/// Where a packet goes on its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The link has no addresses: as it is.
    Plain,
    /// To a station or a group, in a frame.
    Station(MacAddress),
    /// To nobody: the neighbour did not answer.
    Unreachable,
}

impl Engine {
    /// A frame that came in through an interface whose own address is `ours`.
    pub(crate) fn receive_frame(
        &self,
        inbound: &mut Inbound<'_>,
        ours: MacAddress,
        packet: &mut Packet,
    ) -> Result<(), DropReason> {
        packet.pull_up(HEADER_LEN);
        let frame = ethernet::receive(ours, packet.contiguous())?;
        packet.advance(HEADER_LEN);
        inbound.frame = Some(frame);
        match frame.protocol {
            LinkProtocol::Ipv4 | LinkProtocol::Ipv6 => {
                // The header's version must be the frame's: who filters by the one is not to be passed by the other.
                let version = packet.octet(0).map(|first| first >> 4);
                let expected = if frame.protocol == LinkProtocol::Ipv4 {
                    4
                } else {
                    6
                };
                if version != Some(expected) {
                    return Err(DropReason::Malformed);
                }
                self.receive_ip(inbound, packet)
            }
            protocol @ (LinkProtocol::Arp | LinkProtocol::Rarp) => {
                let len = packet.len();
                packet.pull_up(len.min(PACKET_LEN));
                let (message, _) =
                    ArpMessage::parse(packet.contiguous()).map_err(|_| DropReason::Malformed)?;
                if protocol == LinkProtocol::Arp {
                    self.receive_arp(inbound, ours, &message)
                } else {
                    self.receive_rarp(inbound, ours, &message)
                }
            }
        }
    }

    fn receive_arp(
        &self,
        inbound: &mut Inbound<'_>,
        ours: MacAddress,
        message: &ArpMessage,
    ) -> Result<(), DropReason> {
        let (now, interface) = (inbound.now, inbound.interface);
        let destination = inbound.frame.ok_or(DropReason::Malformed)?.destination;
        lock(&self.duplicates).handle_arp(now, interface, ours, message);
        let ownership =
            |address: std::net::Ipv4Addr| self.network.ownership(interface, address.into());
        let verdict =
            lock(&self.neighbors).handle_arp(now, interface, ours, destination, message, ownership);
        let result = match verdict {
            Ok(ArpVerdict::Reply(reply)) => {
                let frame = arp::frame(&reply, ours, reply.target_hardware);
                self.reply_frame(interface, frame)
            }
            // Whoever has an address of ours was shown to duplicate detection above.
            Ok(ArpVerdict::Nothing | ArpVerdict::Conflict(_)) => Ok(()),
            Err(reason) => Err(reason),
        };
        self.settle_links(now, inbound.wakes);
        result
    }

    /// A neighbour discovery message, its checksum verified, which `packet` begins with.
    pub(crate) fn receive_neighbor_discovery(
        &self,
        inbound: &mut Inbound<'_>,
        ip: &IpPacket,
        packet: &mut Packet,
    ) -> Result<(), DropReason> {
        let (now, interface) = (inbound.now, inbound.interface);
        let Some(ours) = self.network.hardware_address(interface) else {
            return Err(DropReason::UnknownProtocol);
        };
        let (IpAddr::V6(source), IpAddr::V6(destination)) = (ip.source, ip.destination) else {
            return Err(DropReason::UnknownProtocol);
        };
        let arrival = ndp::Arrival {
            interface,
            link_source: inbound.frame.map(|frame| frame.source),
            source,
            destination,
            hop_limit: ip.hop_limit,
            was_fragmented: ip.was_fragmented,
        };
        let len = packet.len();
        packet.pull_up(len);
        let result = match ndp::receive(&arrival, ours, packet.contiguous())? {
            Received::Solicitation(solicitation) => {
                lock(&self.duplicates).handle_solicitation(&solicitation);
                let target = IpAddr::V6(solicitation.target);
                let ownership = self.network.ownership_on(interface, target);
                let answer =
                    lock(&self.neighbors).handle_solicitation(now, &solicitation, ownership);
                answer.and_then(|mut answer| {
                    // RFC 4861 7.2.4: hosts that have this one as their router look for it.
                    answer.advertisement.router = self.config.host.forwarding;
                    self.advertise(now, ours, &answer)
                })
            }
            Received::Advertisement(advertisement) => {
                lock(&self.duplicates).handle_advertisement(&advertisement);
                lock(&self.neighbors).handle_advertisement(now, &advertisement);
                Ok(())
            }
            Received::RouterAdvertisement(received) => {
                self.receive_router_advertisement(now, &received, inbound.wakes)
            }
            Received::Redirect(received) => self.receive_redirect(now, &received),
            Received::RouterSolicitation => Err(DropReason::UnknownProtocol),
        };
        self.settle_links(now, inbound.wakes);
        result
    }

    fn advertise(
        &self,
        now: Instant,
        ours: MacAddress,
        answer: &ndp::Advertisement,
    ) -> Result<(), DropReason> {
        let mut packet = answer.to_packet(ours);
        if let Some(station) = answer.link_destination {
            ethernet::prepend(&mut packet, ours, station, LinkProtocol::Ipv6);
            return self.reply_frame(answer.interface, packet);
        }
        let source = IpAddr::V6(answer.advertisement.target);
        let path = self
            .network
            .path(
                now,
                answer.destination.into(),
                Some(source),
                Some(answer.interface),
            )
            .map_err(|_| DropReason::BadSource)?;
        self.reply(ShardId::FIRST, &path, Initiator::Stranger, packet)
            .map_err(|_| DropReason::RateLimited)
    }

    pub(super) fn reply_frame(
        &self,
        interface: InterfaceId,
        packet: Packet,
    ) -> Result<(), DropReason> {
        let reply = Reply {
            interface,
            packet,
            way: ReplyWay::Frame,
        };
        self.queue_reply(ShardId::FIRST, reply)
            .map_err(|_| DropReason::RateLimited)
    }

    /// The way of a connection's packets; `None` while its neighbour is asked for: the slot then waits, with all it has
    /// to send. Nobody is asked for when that is nothing.
    pub(crate) fn connection_way(
        &self,
        egress: &mut Egress,
        now: Instant,
        path: &Path,
        slot: &Arc<TcpSlot>,
        socket: &mut TcpSocket,
    ) -> Option<Way> {
        if egress.hardware_address(path.interface).is_none() {
            return Some(Way::Plain);
        }
        let unreachable = std::mem::take(&mut socket.unreachable);
        if !socket.connection.wants_transmit() {
            return None;
        }
        if unreachable {
            // The neighbour did not answer: what goes now goes nowhere, so that its timers run and try again later.
            return Some(Way::Unreachable);
        }
        let progress = socket.connection.progress();
        let advice = if std::mem::replace(&mut socket.confirmed, progress) == progress {
            UpperLayerAdvice::None
        } else {
            UpperLayerAdvice::ForwardProgress
        };
        let key = neighbor_key(path);
        let mut cache = lock(&self.neighbors);
        let way = match cache.resolve(now, key, path.source, advice) {
            Resolution::Reachable(station) => Some(Way::Station(station)),
            Resolution::Failed => {
                // Who wants to connect is told at once; who is connected goes on trying.
                socket.connection.handle_unreachable_neighbor();
                Some(Way::Unreachable)
            }
            Resolution::Pending => {
                let waiter = SlotRef::Tcp(Arc::clone(slot));
                if waiter.claim_ready() && cache.wait(key, waiter).is_err() {
                    // Too many wait: as if it were lost.
                    slot.release_ready();
                    Some(Way::Unreachable)
                } else {
                    None
                }
            }
        };
        drop(cache);
        self.pump_links(now);
        way
    }

    /// Queues a packet that no connection holds back: while its neighbour is asked for, on the account of `initiator`, it waits
    /// in the cache. Whether it waits there.
    ///
    /// # Errors
    /// `HostUnreachable` when the neighbour did not answer of late, `NoBuffers` when too much waits for it. The packet is
    /// gone, and counted.
    #[inline]
    pub(crate) fn stage_towards(
        &self,
        egress: &mut Egress,
        now: Instant,
        path: &Path,
        initiator: Initiator,
        packet: &mut Packet,
    ) -> SocketResult<bool> {
        if egress.hardware_address(path.interface).is_none() {
            self.stage(egress, path.interface, Way::Plain, packet);
            return Ok(false);
        }
        self.stage_frame(egress, now, path, initiator, packet)
    }

    fn stage_frame(
        &self,
        egress: &mut Egress,
        now: Instant,
        path: &Path,
        initiator: Initiator,
        packet: &mut Packet,
    ) -> SocketResult<bool> {
        let way = match path.cast {
            Cast::Unicast => {
                let key = neighbor_key(path);
                let mut cache = lock(&self.neighbors);
                let advice = UpperLayerAdvice::None;
                let resolution = cache.resolve_for(initiator, now, key, path.source, advice);
                let (way, result) = match resolution {
                    Resolution::Reachable(station) => (Some(Way::Station(station)), Ok(false)),
                    Resolution::Failed => (None, Err(SocketError::HostUnreachable)),
                    Resolution::Pending => {
                        let queued = cache.enqueue(key, std::mem::take(packet));
                        let waits = queued.map(|()| true);
                        (None, waits.map_err(|_| SocketError::NoBuffers))
                    }
                };
                drop(cache);
                self.pump_links(now);
                let Some(way) = way else {
                    if result.is_err() {
                        self.counters.dropped(DropReason::NeighborUnreachable);
                    }
                    return result;
                };
                self.stage(egress, path.interface, way, packet);
                return Ok(false);
            }
            Cast::Broadcast => Way::Station(MacAddress::BROADCAST),
            Cast::Multicast => {
                ethernet::group_address(path.next_hop).map_or(Way::Unreachable, Way::Station)
            }
        };
        self.stage(egress, path.interface, way, packet);
        Ok(false)
    }

    /// A socket's datagram waits for its neighbour. Strangers' packets wait too, for answers to them, but not for those
    /// is a stack kept that nobody holds any more.
    pub(crate) fn note_unresolved(&self, now: Instant) {
        let config = &self.config.neighbor;
        let until = now + config.retrans_timer * config.max_multicast_solicit;
        self.unresolved_until
            .fetch_max(until.as_nanos(), Ordering::Relaxed);
    }

    /// Whether a socket's datagram may still wait for its neighbour.
    pub(crate) fn has_unresolved(&self, now: Instant) -> bool {
        now.as_nanos() < self.unresolved_until.load(Ordering::Relaxed)
            && lock(&self.neighbors).has_packets()
    }

    /// After a look at the neighbour cache from the way out, where no other slot may be touched: sends its questions, and
    /// leaves everything else to the timers.
    pub(super) fn pump_links(&self, now: Instant) {
        let (deadline, has_event) = {
            let mut cache = lock(&self.neighbors);
            let questions: Vec<_> = std::iter::from_fn(|| cache.poll_transmit()).collect();
            let event = cache.poll_event();
            let deadline = cache.poll_timeout();
            drop(cache);
            for question in questions {
                self.solicit(&question);
            }
            let has_event = event.is_some();
            lock(&self.neighbor_events).extend(event);
            (deadline, has_event)
        };
        self.note_housekeeping(if has_event { Some(now) } else { deadline });
    }

    fn solicit(&self, question: &Solicitation) {
        let Some(ours) = self.network.hardware_address(question.interface) else {
            return;
        };
        let source = match self.network.asker(question.interface, question.source) {
            Asker::Address(source) => source,
            Asker::Later => return lock(&self.neighbors).postpone(question),
            Asker::Nobody => return,
        };
        let question = Solicitation {
            source,
            ..*question
        };
        let frame = question.to_packet(ours);
        // Too many at once: it is asked again.
        let _ = self.reply_frame(question.interface, frame);
    }

    /// After any change of neighbours or tentative addresses: sends what they have to send, and tells those who wait. The
    /// caller holds no slot.
    pub(crate) fn settle_links(&self, now: Instant, wakes: &mut WakeList) {
        loop {
            let questions: Vec<_> = {
                let mut cache = lock(&self.neighbors);
                std::iter::from_fn(|| cache.poll_transmit()).collect()
            };
            for question in questions {
                self.solicit(&question);
            }
            let event = match lock(&self.neighbor_events).pop_front() {
                Some(event) => Some(event),
                None => lock(&self.neighbors).poll_event(),
            };
            match event {
                Some(event) => self.handle_neighbor_event(now, event, wakes),
                None => break,
            }
        }
        self.settle_duplicates(now, wakes);
        let neighbors = lock(&self.neighbors).poll_timeout();
        self.note_housekeeping(neighbors);
    }

    fn handle_neighbor_event(
        &self,
        now: Instant,
        event: NeighborEvent<SlotRef>,
        wakes: &mut WakeList,
    ) {
        match event {
            NeighborEvent::Resolved {
                key,
                address,
                packets,
                waiters,
            } => {
                for packet in packets {
                    let reply = Reply {
                        interface: key.interface,
                        packet,
                        way: ReplyWay::Station(address),
                    };
                    // Full of replies already: counted as such.
                    let _ = self.queue_reply(ShardId::FIRST, reply);
                }
                for slot in waiters {
                    // It has kept its claim on the list while it waited.
                    lock(&self.shard(slot.home()).ready).push_back(slot);
                }
            }
            NeighborEvent::Failed {
                key,
                packets,
                waiters,
            } => {
                tracing::debug!(interface = key.interface.0, address = %key.address, "neighbour unreachable");
                self.network.forget_gateway(key.interface, key.address);
                for packet in packets {
                    self.counters.dropped(DropReason::NeighborUnreachable);
                    self.report_undelivered(now, key.interface, packet, wakes);
                }
                for slot in waiters {
                    self.fail_waiter(now, slot, wakes);
                }
            }
            NeighborEvent::Watched { key, change } => {
                self.handle_watched(now, key, change, wakes);
            }
        }
    }

    fn fail_waiter(&self, now: Instant, slot: SlotRef, wakes: &mut WakeList) {
        slot.release_ready();
        if let SlotRef::Tcp(slot) = &slot {
            let mut state = slot.lock();
            state.socket.unreachable = true;
            state.socket.connection.handle_unreachable_neighbor();
            self.settle_tcp(now, slot, &mut state, wakes);
        }
        self.mark_ready(slot);
    }

    /// The neighbours of all interfaces, in the order of interfaces and addresses.
    pub fn neighbors(&self) -> Vec<NeighborInfo> {
        lock(&self.neighbors).entries()
    }

    /// Counters of the neighbour cache.
    pub fn neighbor_stats(&self) -> NeighborStats {
        lock(&self.neighbors).stats()
    }

    /// Sets a neighbour for good, whatever the link says.
    ///
    /// # Errors
    /// `NoDevice` without such an interface of Ethernet, `NoBuffers` when there are too many.
    pub fn set_neighbor(
        &self,
        now: Instant,
        interface: InterfaceId,
        address: IpAddr,
        station: MacAddress,
    ) -> SocketResult<()> {
        if self.network.hardware_address(interface).is_none() {
            return Err(SocketError::NoDevice);
        }
        let key = NeighborKey { interface, address };
        lock(&self.neighbors)
            .insert_static(now, key, station)
            .map_err(|_| SocketError::NoBuffers)?;
        self.note_housekeeping(Some(now));
        Ok(())
    }
}

fn neighbor_key(path: &Path) -> NeighborKey {
    NeighborKey {
        interface: path.interface,
        address: path.next_hop,
    }
}
