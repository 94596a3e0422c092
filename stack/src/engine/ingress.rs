//! The way in: IP, reassembly, transport checksum, then the transport that the packet is for.

use std::net::IpAddr;
use std::sync::{PoisonError, TryLockError};

use tidewire_netdev::checksum::{pseudo_header_v4, pseudo_header_v6, sum_packet};
use tidewire_netdev::{Checksum, Packet};

use crate::engine::icmp::is_neighbor_discovery;
use crate::engine::network::Origin;
use crate::engine::sctp_ingress::AssociationCache;
use crate::engine::shard::{Shard, ShardId};
use crate::engine::tcp_ingress::{FlowCache, SegmentOrigin};
use crate::engine::{Engine, WakeList, lock};
use crate::ip::InterfaceId;
use crate::ip::address::AddressClass;
use crate::ip::icmp::errors::Problem;
use crate::ip::input::{self, Arrival, IpPacket, Refusal, ReturnRoute};
use crate::link::ethernet::Frame;
use crate::stats::DropReason;
use crate::time::Instant;
use crate::wire::ipv4::SourceRoute;
use crate::wire::protocol;

/// How delivering packets to own addresses ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// None is left.
    Done,
    /// Another thread is at it, and looks for more before it stops. To wait for it would be to spin.
    Elsewhere,
    /// Others have sent so much meanwhile that somebody is to deliver the rest.
    Unfinished,
}

/// Packets to own addresses that one call delivers: as a rule more than one flush sends, so that a call delivers what it sends.
const LOOPBACK_BUDGET: usize = 4096;
/// Packets to own addresses that wait for delivery before datagram sockets are held back.
const LOOPBACK_BACKLOG: usize = 1024;

/// What the packets of one batch have in common.
pub(crate) struct Inbound<'a> {
    pub(crate) now: Instant,
    /// Where they came in.
    pub(crate) interface: InterfaceId,
    /// The frame that the packet at hand came in, on links that have such.
    pub(crate) frame: Option<Frame>,
    pub(crate) cache: FlowCache,
    pub(crate) associations: AssociationCache,
    admitted: Option<Admitted>,
    pub(crate) wakes: &'a mut WakeList,
}

impl<'a> Inbound<'a> {
    pub(crate) fn new(now: Instant, interface: InterfaceId, wakes: &'a mut WakeList) -> Self {
        Self {
            now,
            interface,
            frame: None,
            cache: FlowCache::default(),
            associations: AssociationCache::default(),
            admitted: None,
            wakes,
        }
    }
}

/// The addresses of the last packet of a batch that was for this host itself: what is behind it comes, as a rule, from the
/// same host to the same address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Admitted {
    source: IpAddr,
    destination: IpAddr,
    /// The state of the network that they were looked at in.
    generation: u32,
}

impl Inbound<'_> {
    /// How the packet at hand came.
    pub(crate) fn origin(&self) -> Origin {
        Origin {
            interface: self.interface,
            is_link_broadcast: self.frame.is_some_and(|frame| frame.is_link_broadcast()),
        }
    }
}

impl Engine {
    /// Takes received packets. Answers are sent by the next flush; nobody is woken before the caller says so.
    pub fn receive(
        &self,
        now: Instant,
        interface: InterfaceId,
        batch: &mut Vec<Packet>,
        wakes: &mut WakeList,
    ) {
        let bytes: usize = batch.iter().map(Packet::len).sum();
        self.counters.received(batch.len() as u64, bytes as u64);
        let mut inbound = Inbound::new(now, interface, wakes);
        let ours = self.network.hardware_address(interface);
        // Looked at where they are: packets are some hundred octets, and each move copies them.
        for packet in batch.iter_mut() {
            let result = match ours {
                None => self.receive_ip(&mut inbound, packet),
                Some(ours) => self.receive_frame(&mut inbound, ours, packet),
            };
            self.count_drop(interface, result);
        }
        batch.clear();
        self.settle_run(&mut inbound);
    }

    fn count_drop(&self, interface: InterfaceId, result: Result<(), DropReason>) {
        if let Err(reason) = result {
            tracing::trace!(interface = interface.0, ?reason, "dropped");
            self.counters.dropped(reason);
        }
    }

    /// Delivers packets to own addresses until there are none. Whoever delivers at the moment delivers all, in order,
    /// but not for ever.
    pub(crate) fn deliver_loopback(
        &self,
        shard: &Shard,
        now: Instant,
        wakes: &mut WakeList,
    ) -> Delivery {
        let mut inbound = Inbound::new(now, InterfaceId::LOOPBACK, wakes);
        let mut budget = LOOPBACK_BUDGET;
        while !lock(&shard.loopback).is_empty() {
            let guard = match shard.delivering.try_lock() {
                Ok(guard) => guard,
                Err(TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
                // The other one looks again after letting go.
                Err(TryLockError::WouldBlock) => return Delivery::Elsewhere,
            };
            loop {
                if budget == 0 {
                    self.settle_run(&mut inbound);
                    return Delivery::Unfinished;
                }
                budget -= 1;
                let Some(mut packet) = lock(&shard.loopback).pop_front() else {
                    break;
                };
                self.counters.received(1, packet.len() as u64);
                let result = self.receive_ip(&mut inbound, &mut packet);
                self.count_drop(InterfaceId::LOOPBACK, result);
            }
            self.settle_run(&mut inbound);
            drop(guard);
        }
        Delivery::Done
    }

    /// Whether so many packets to own addresses wait that senders are to pause.
    pub(crate) fn is_loopback_behind(&self, shard: ShardId) -> bool {
        lock(&self.shard(shard).loopback).len() >= LOOPBACK_BACKLOG
    }

    /// A packet that begins with an IP header. Whoever keeps it takes it from its place; what is left there is of no use.
    pub(crate) fn receive_ip(
        &self,
        inbound: &mut Inbound<'_>,
        packet: &mut Packet,
    ) -> Result<(), DropReason> {
        if self.is_in_transit(inbound, packet) {
            return self.forward(inbound, std::mem::take(packet));
        }
        let (now, interface) = (inbound.now, inbound.interface);
        let arrival = if interface == InterfaceId::LOOPBACK {
            Arrival::Loopback
        } else {
            Arrival::Wire
        };
        let parsed = input::parse(packet, arrival);
        // Looked at where it is: to move it costs as much as to make it.
        let ip = match parsed {
            Ok(ref ip) => ip,
            Err(refusal) => return Err(self.refuse_packet(inbound, refusal, packet)),
        };
        let back = ip.return_route.as_deref();
        if back.is_some_and(|back| !self.takes_source_route(ip, back)) {
            return Err(DropReason::BadSource);
        }
        let class = self.admit(inbound, ip, packet)?;
        // RFC 1122 3.3.6: who sends a packet for one host to all of them is mistaken, or up to something.
        if class == AddressClass::Own && inbound.origin().is_link_broadcast {
            return Err(DropReason::LinkBroadcast);
        }
        if ip.fragment.is_none() {
            return self.receive_transport(inbound, ip, class, packet);
        }
        let joined = {
            let mut reassembly = lock(&self.reassembly);
            let fragment = std::mem::take(packet);
            let joined = reassembly.handle_fragment(now, ip.clone(), fragment);
            self.note_housekeeping(reassembly.poll_timeout());
            joined?
        };
        let Some((ip, mut packet)) = joined else {
            return Ok(());
        };
        let ip = input::resume(ip, &mut packet)
            .map_err(|refusal| self.refuse_packet(inbound, refusal, &packet))?;
        self.receive_transport(inbound, &ip, class, &mut packet)
    }

    /// Source routes are for TCP alone, and only if the stack was told to. What is answered to may not go to this host, or to
    /// all of a network.
    fn takes_source_route(&self, ip: &IpPacket, back: &ReturnRoute) -> bool {
        let is_router = |route: &SourceRoute| {
            let first = route.first_hop().into();
            self.network.classify(first) == AddressClass::Remote
        };
        self.config.host.accept_source_routes
            && ip.protocol == protocol::TCP
            && back.0.as_ref().is_none_or(is_router)
    }

    /// Whether the packet is for this host and may come from where it says (RFC 1122 3.2.1.3).
    fn admit(
        &self,
        inbound: &mut Inbound<'_>,
        header: &IpPacket,
        packet: &Packet,
    ) -> Result<AddressClass, DropReason> {
        let interface = inbound.interface;
        let generation = self.network.generation();
        let is_known = |known: &Admitted| {
            known.generation == generation
                && known.source == header.source
                && known.destination == header.destination
        };
        if inbound.admitted.as_ref().is_some_and(is_known) {
            return Ok(AddressClass::Own);
        }
        let class = self.network.classify_on(interface, header.destination);
        let from_wire = interface != InterfaceId::LOOPBACK;
        match class {
            AddressClass::Loopback if from_wire => return Err(DropReason::NotForUs),
            AddressClass::Unspecified | AddressClass::Remote => return Err(DropReason::NotForUs),
            _ => {}
        }
        if from_wire && !self.network.is_plausible_source(interface, header.source) {
            // RFC 4862 5.4.4: another host that has an address of ours says so from that very address, to all.
            let is_claim = class == AddressClass::Multicast
                && header.protocol == protocol::ICMPV6
                && is_neighbor_discovery(packet);
            if !is_claim {
                return Err(DropReason::BadSource);
            }
        }
        if class == AddressClass::Own {
            inbound.admitted = Some(Admitted {
                source: header.source,
                destination: header.destination,
                generation,
            });
        }
        Ok(class)
    }

    fn refuse_packet(
        &self,
        inbound: &Inbound<'_>,
        refusal: Refusal,
        packet: &Packet,
    ) -> DropReason {
        let reason = refusal.reason();
        if let Refusal::Answer(answer) = refusal {
            // Not to a packet that was none of ours.
            let class = self
                .network
                .classify_on(inbound.interface, answer.ip.destination);
            if !matches!(class, AddressClass::Remote | AddressClass::Unspecified) {
                self.report(inbound, answer.problem, &answer.ip, packet);
            }
        }
        reason
    }

    fn receive_transport(
        &self,
        inbound: &mut Inbound<'_>,
        ip: &IpPacket,
        class: AddressClass,
        packet: &mut Packet,
    ) -> Result<(), DropReason> {
        let broadcast = matches!(class, AddressClass::Broadcast | AddressClass::Multicast);
        match ip.protocol {
            // RFC 9293 MUST-57: a segment to a broadcast or multicast address is dropped.
            // And RFC 9260 8.4, rule 1.
            protocol::TCP | protocol::SCTP if broadcast => Err(DropReason::Unacceptable),
            protocol::TCP => {
                verify(ip, packet)?;
                let origin = SegmentOrigin {
                    source: ip.source,
                    destination: ip.destination,
                    ecn: ip.ecn(),
                    return_route: ip.return_route.as_deref(),
                };
                self.receive_tcp(inbound, origin, std::mem::take(packet))
            }
            protocol::UDP => self.receive_udp(inbound, ip, class, std::mem::take(packet)),
            protocol::SCTP => self.receive_sctp(inbound, ip, packet),
            protocol::IGMP => self.receive_igmp(inbound, ip, std::mem::take(packet)),
            protocol::ICMPV4 | protocol::ICMPV6 => {
                self.receive_icmp(inbound, ip, std::mem::take(packet))
            }
            _ => {
                self.report(inbound, Problem::ProtocolUnreachable, ip, packet);
                Err(DropReason::UnknownProtocol)
            }
        }
    }
}

/// Verifies a TCP checksum, or that of UDP with a field that is not zero, unless somebody below has.
pub(crate) fn verify(header: &IpPacket, packet: &Packet) -> Result<(), DropReason> {
    match packet.offload.checksum {
        // Partial: from this machine, never on a wire.
        Checksum::Partial { .. } | Checksum::Verified => Ok(()),
        Checksum::Unverified => {
            let len = packet.len() as u32;
            let mut sum = match (header.source, header.destination) {
                (IpAddr::V4(source), IpAddr::V4(destination)) => {
                    pseudo_header_v4(source, destination, header.protocol, len)
                }
                (IpAddr::V6(source), IpAddr::V6(destination)) => {
                    pseudo_header_v6(source, destination, header.protocol, len)
                }
                _ => return Err(DropReason::Malformed),
            };
            sum.add_u16(sum_packet(packet, 0).fold());
            if sum.finish() == 0 {
                Ok(())
            } else {
                Err(DropReason::Checksum)
            }
        }
    }
}
