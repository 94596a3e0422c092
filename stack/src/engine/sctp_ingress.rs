//! SCTP packets from the network: to their association, their port's endpoint, or nobody.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};

use bytes::BytesMut;
use tidewire_netdev::{Checksum, Packet, crc32c};

use crate::engine::ingress::Inbound;
use crate::engine::sctp_addresses::{Way, association_key};
use crate::engine::sctp_one_to_many::Member;
use crate::engine::sctp_sockets::SctpLease;
use crate::engine::slot::{SctpListenerSlot, SctpSlot};
use crate::engine::zone::{answer_device, with_zone, zone_of};
use crate::engine::{Engine, WakeList, read, write};
use crate::ip::InterfaceId;
use crate::ip::icmp::ReceivedError;
use crate::ip::input::IpPacket;
use crate::ip::output::OutputHeader;
use crate::neighbor::Initiator;
use crate::sctp::association::{Association, QuotedPacket};
use crate::sctp::cookie::StateCookie;
use crate::sctp::endpoint::{Arrived, listed_addresses};
use crate::sctp::{PacketInfo, Reply, out_of_the_blue};
use crate::stats::DropReason;
use crate::time::Instant;
use crate::transport::Readiness;
use crate::transport::demux::Tuple;
use crate::wire::protocol;

/// The association that the last packet of a batch was for. Packets of one come in runs, and what follows from them
/// (readiness, timers, the ready list) is looked at once, behind the last: [`Engine::settle_run`].
#[derive(Debug, Default)]
pub(crate) struct AssociationCache(Option<Run>);

/// Packets in a row for one association.
#[derive(Debug)]
struct Run {
    source: IpAddr,
    /// Source and destination port.
    ports: [u16; 2],
    slot: Arc<SctpSlot>,
}

impl AssociationCache {
    /// The association of the run that such a packet belongs to.
    #[inline]
    fn get(&self, source: &IpAddr, ports: [u16; 2]) -> Option<&Arc<SctpSlot>> {
        let run = self.0.as_ref()?;
        (run.ports == ports && run.source == *source).then_some(&run.slot)
    }
}

/// Octets of SCTP's common header.
const COMMON_HEADER_LEN: usize = 12;

/// Source and destination port; the packet is long enough.
fn ports(packet: &Packet) -> [u16; 2] {
    if let Some([a, b, c, d]) = packet.contiguous().first_chunk() {
        return [[*a, *b], [*c, *d]].map(u16::from_be_bytes);
    }
    let octet = |at: usize| packet.octet(at).unwrap_or_default();
    [0, 2].map(|at| u16::from_be_bytes([octet(at), octet(at + 1)]))
}

impl Engine {
    /// A packet that starts at the SCTP header, its CRC32c not verified yet.
    pub(crate) fn receive_sctp(
        &self,
        inbound: &mut Inbound<'_>,
        ip: &IpPacket,
        packet: &Packet,
    ) -> Result<(), DropReason> {
        if packet.len() < COMMON_HEADER_LEN {
            return Err(DropReason::Malformed);
        }
        // RFC 9260 6.8. What this machine has sent itself and never left it may lack one.
        let is_good = match packet.offload.checksum {
            Checksum::Partial { .. } | Checksum::Verified => true,
            Checksum::Unverified => crc32c::sctp_is_intact(packet, 0),
        };
        if !is_good {
            return Err(DropReason::Checksum);
        }
        let ports = ports(packet);
        // RFC 9260 3.1: there is no port 0.
        if ports.contains(&0) {
            return Err(DropReason::Malformed);
        }
        let info = PacketInfo {
            source: ip.source,
            destination: ip.destination,
        };
        if inbound.associations.get(&ip.source, ports).is_none() {
            self.settle_run(inbound);
            let remote = self.arrived(ip.source, ports[0], inbound.interface);
            let found = self.find_association(association_key(ports[1], remote), packet);
            inbound.associations.0 = found.map(|slot| Run {
                source: ip.source,
                ports,
                slot,
            });
        }
        let Some(slot) = inbound.associations.get(&ip.source, ports) else {
            return self.receive_unassociated(inbound, ports, &info, packet);
        };
        let mut state = slot.lock();
        if state.socket.detached {
            drop(state);
            inbound.associations.0 = None;
            return self.receive_unassociated(inbound, ports, &info, packet);
        }
        let span = state.socket.span.clone();
        let entered = span.enter();
        let association = &mut state.socket.association;
        let result = association.handle_packet(inbound.now, &info, packet);
        let is_finished = association.is_finished();
        drop(entered);
        drop(state);
        if is_finished {
            // What comes next with these ports is for somebody else.
            self.settle_run(inbound);
        }
        result
    }

    /// A run of packets for one association ends here, if there was one.
    pub(crate) fn settle_run(&self, inbound: &mut Inbound<'_>) {
        let Some(Run { slot, .. }) = inbound.associations.0.take() else {
            return;
        };
        let mut state = slot.lock();
        let span = state.socket.span.clone();
        let _entered = span.enter();
        self.settle_sctp(&slot, &mut state, inbound.wakes);
    }

    /// By the address that the packet comes from, or, if it sets an association up, by any that it lists (RFC 9260 5.1.2 D).
    fn find_association(&self, key: Tuple, packet: &Packet) -> Option<Arc<SctpSlot>> {
        let associations = read(&self.associations);
        if let Some(slot) = associations.find(&key) {
            return Some(Arc::clone(slot));
        }
        if associations.is_empty() {
            return None;
        }
        let listed = listed_addresses(packet);
        listed.iter().find_map(|address| {
            let peer = SocketAddr::new(*address, key.remote.port());
            let key = association_key(key.local.port(), peer);
            associations.find(&key).cloned()
        })
    }

    fn receive_unassociated(
        &self,
        inbound: &mut Inbound<'_>,
        [source_port, destination_port]: [u16; 2],
        info: &PacketInfo,
        packet: &Packet,
    ) -> Result<(), DropReason> {
        let local = self.arrived(info.destination, destination_port, inbound.interface);
        let remote = self.arrived(info.source, source_port, inbound.interface);
        let spread = self.flow_key.hash_pair(local, remote);
        let listener = read(&self.sctp_listeners)
            .find(local, remote, spread)
            .and_then(Weak::upgrade);
        if let Some(listener) = listener {
            let mut state = listener.lock();
            if !state.socket.closed {
                let backlog = state.socket.backlog_state();
                self.refresh_endpoint(&mut state.socket);
                let endpoint = &mut state.socket.endpoint;
                let arrived = endpoint.handle_packet(inbound.now, info, packet, backlog);
                drop(state);
                return match arrived {
                    Arrived::Accept(cookie) => {
                        self.accept_sctp(inbound, &listener, remote, info, &cookie, packet)
                    }
                    Arrived::Reply(reply) => {
                        self.reply_sctp(inbound.now, inbound.interface, *reply);
                        Ok(())
                    }
                    Arrived::Drop(reason) => Err(reason),
                };
            }
        }
        if let Some(reply) = out_of_the_blue(info, packet) {
            self.reply_sctp(inbound.now, inbound.interface, reply);
        }
        Err(DropReason::NoSocket)
    }

    /// A good cookie has come back.
    fn accept_sctp(
        &self,
        inbound: &mut Inbound<'_>,
        listener: &Arc<SctpListenerSlot>,
        remote: SocketAddr,
        info: &PacketInfo,
        cookie: &StateCookie,
        packet: &Packet,
    ) -> Result<(), DropReason> {
        let now = inbound.now;
        let mut state = listener.lock();
        let socket = &mut state.socket;
        // A listener that is not closed has its lease.
        let lease = socket.lease.clone().ok_or(DropReason::Closed)?;
        let device = socket.device.or(zone_of(remote));
        let peer = cookie.peer_addresses.first().copied();
        let peer = peer.unwrap_or(remote.ip());
        let own = socket.endpoint.addresses();
        let locals = Self::association_addresses(own, peer, cookie.local_address);
        let way = self.sctp_way(now, peer, Some(cookie.local_address), &locals, device);
        let path = way.map_err(|_| DropReason::BadSource)?;
        let parameters = self.sctp_parameters(&socket.options, socket.endpoint.secrets(), path.mtu);
        let association = Association::accept(now, parameters, cookie, locals);
        let zone = device.unwrap_or(path.interface);
        let lease = SctpLease::Bound(lease);
        let mut child = self.sctp_socket(association, &socket.options, lease, device, zone);
        child.mapped = socket.bound.iter().all(SocketAddr::is_ipv6) && remote.is_ipv4();
        child.ways.push(Way::new(peer, Some(path)));
        let key = association_key(cookie.local_port, with_zone(peer, cookie.peer_port, zone));
        child.keys.push(key);
        let group = socket.group.as_ref().and_then(Weak::upgrade);
        if let Some(group) = &group {
            child.member = Some(Member::reserve(group).map_err(|_| DropReason::Closed)?);
        }
        let id = child.member_id();
        // As TCP's accepted sockets: readable and writable, and they find out.
        let child = self.slot_of(child, &key, Readiness::READABLE | Readiness::WRITABLE);
        if let (Some(group), Some(id)) = (&group, id) {
            Member::place(group, id, &child);
        }
        let inserted = write(&self.associations).insert_if_vacant(key, Arc::clone(&child));
        if inserted.is_ok() && id.is_none() {
            state.socket.queue.push_back(Arc::clone(&child));
            state.ready.set(Readiness::READABLE, inbound.wakes);
        }
        drop(state);
        // The loser of a race hands its packet to the winner.
        let slot = match inserted {
            Ok(()) => child,
            Err(_) => {
                let member = child.lock().socket.member.take();
                drop(member);
                read(&self.associations)
                    .find(&key)
                    .cloned()
                    .ok_or(DropReason::Closed)?
            }
        };
        let mut state = slot.lock();
        let span = state.socket.span.clone();
        let _entered = span.enter();
        let result = state.socket.association.handle_packet(now, info, packet);
        self.settle_sctp(&slot, &mut state, inbound.wakes);
        result
    }

    /// Sends an answer that belongs to no association.
    fn reply_sctp(&self, now: Instant, interface: InterfaceId, reply: Reply) {
        let transmit = reply.into_transmit(&mut BytesMut::new());
        let device = answer_device(transmit.destination, interface);
        let path = self
            .network
            .path(now, transmit.destination, transmit.source, device);
        let Ok(path) = path else { return };
        // The association that may come of it has the same label.
        let ports = transmit.packet.contiguous().first_chunk::<4>();
        let [a, b, c, d] = ports.copied().unwrap_or_default();
        let (local, peer) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let peer = SocketAddr::new(transmit.destination, peer);
        let path = self.label(path, protocol::SCTP, local, peer);
        let header = OutputHeader {
            hop_limit: self.hop_limit(&path),
            flow_label: path.flow_label,
            ..OutputHeader::new(path.source, transmit.destination, protocol::SCTP)
        };
        // Too many at once: the peer asks again.
        let _ = self.reply_datagram(&path, Initiator::Stranger, transmit.packet, header);
    }

    /// An ICMP error about a packet of an association.
    pub(crate) fn receive_sctp_error(
        &self,
        local_port: u16,
        remote: SocketAddr,
        error: &ReceivedError,
        wakes: &mut WakeList,
    ) -> Result<(), DropReason> {
        let quoted = QuotedPacket::parse(&error.transport).ok_or(DropReason::BadIcmp)?;
        let slot = read(&self.associations)
            .find(&association_key(local_port, remote))
            .cloned()
            .ok_or(DropReason::BadIcmp)?;
        let mut state = slot.lock();
        let span = state.socket.span.clone();
        let _entered = span.enter();
        let association = &mut state.socket.association;
        let heard = association.handle_icmp(remote.ip(), error.error, &quoted);
        self.settle_sctp(&slot, &mut state, wakes);
        heard
    }

    /// A packet of an association was dropped since its neighbour does not answer.
    pub(crate) fn report_undelivered_sctp(&self, local_port: u16, remote: SocketAddr) {
        let key = association_key(local_port, remote);
        let slot = read(&self.associations).find(&key).cloned();
        if let Some(slot) = slot {
            let association = &mut slot.lock().socket.association;
            association.handle_unreachable_neighbor();
        }
    }
}
