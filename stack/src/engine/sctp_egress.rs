//! SCTP's way out: polls associations and gives their packets IP headers.

use std::net::IpAddr;
use std::sync::Arc;

use tidewire_netdev::Packet;

use crate::engine::egress::SLOT_BUDGET;
use crate::engine::network::Path;
use crate::engine::sctp_sockets::SctpSocket;
use crate::engine::slot::{SctpSlot, SlotRef};
use crate::engine::transmit_queue::Egress;
use crate::engine::{Engine, WakeList};
use crate::error::{SocketError, SocketResult};
use crate::ip::output::{self, OutputHeader};
use crate::sctp::{Departure, Workbench};
use crate::stats::DropReason;
use crate::time::Instant;
use crate::wire::protocol;

impl Engine {
    pub(crate) fn poll_sctp(
        &self,
        egress: &mut Egress,
        now: Instant,
        slot: &Arc<SctpSlot>,
        budget: &mut usize,
        wakes: &mut WakeList,
    ) {
        let mut state = slot.lock();
        slot.release_ready();
        let span = state.socket.span.clone();
        let _entered = span.enter();
        let socket = &mut state.socket;
        self.refresh_ways(now, socket);
        let blocked =
            |way: &(IpAddr, Path)| self.hold_back(egress, way.1.interface, || SlotRef::from(slot));
        // One that is full holds all of them back: paths over several devices are rare, and their packets keep their order.
        if socket.ways.iter().any(blocked) {
            self.settle_sctp(slot, &mut state, wakes);
            return;
        }
        let mut slot_budget = SLOT_BUDGET.min(*budget);
        let mut arena = std::mem::take(&mut egress.arena);
        let mut packet = Packet::new();
        while slot_budget > 0 {
            let mut bench = Workbench {
                arena: &mut arena,
                packet: &mut packet,
            };
            let Some(departure) = socket.association.poll_packet(now, &mut bench) else {
                break;
            };
            self.stage_sctp(egress, now, socket, departure, &mut packet);
            slot_budget -= 1;
            *budget -= 1;
        }
        egress.arena = arena;
        self.settle_sctp(slot, &mut state, wakes);
        if slot_budget == 0 {
            drop(state);
            self.mark_ready(SlotRef::from(slot));
        }
    }

    /// Looks the ways up anew when routes, addresses or path MTUs have changed, and tells the association what they carry.
    fn refresh_ways(&self, now: Instant, socket: &mut SctpSocket) {
        let peers = &socket.association.ends().peer_addresses;
        let is_current = |way: &(IpAddr, Path)| self.network.is_current(&way.1);
        if socket.ways.len() == peers.len() && socket.ways.iter().all(is_current) {
            return;
        }
        let targets: Vec<(IpAddr, Option<IpAddr>)> = socket
            .association
            .paths()
            .iter()
            .map(|(_, path)| (path.remote(), path.local()))
            .collect();
        let before = std::mem::take(&mut socket.ways);
        for (remote, local) in targets {
            match self.association_way(now, socket, remote, local) {
                Ok(path) => {
                    socket.association.handle_path_mtu(remote, path.mtu);
                    socket.ways.push((remote, path));
                }
                // The route went away. The timers go on, and give up if it does not come back.
                Err(_) => {
                    let known = before.iter().find(|(address, _)| *address == remote);
                    socket.ways.extend(known.copied());
                }
            }
        }
    }

    fn association_way(
        &self,
        now: Instant,
        socket: &SctpSocket,
        remote: IpAddr,
        source: Option<IpAddr>,
    ) -> SocketResult<Path> {
        let locals = &socket.association.ends().local_addresses;
        let is_link_local = crate::engine::zone::is_link_local(remote);
        let device = socket.device.or(is_link_local.then_some(socket.zone));
        self.sctp_way(now, remote, source, locals, device)
    }

    /// Gives a packet its IP header and queues it: it is taken from its place.
    #[inline]
    fn stage_sctp(
        &self,
        egress: &mut Egress,
        now: Instant,
        socket: &mut SctpSocket,
        departure: Departure,
        packet: &mut Packet,
    ) {
        let Departure {
            source,
            destination,
        } = departure;
        let known = socket.ways.iter().find(|(remote, path)| {
            *remote == destination && source.is_none_or(|source| source == path.source)
        });
        let path = match known {
            Some((_, path)) => Ok(*path),
            None => self.association_way(now, socket, destination, source),
        };
        let Ok(path) = path else {
            self.counters.dropped(DropReason::NeighborUnreachable);
            return;
        };
        let header = OutputHeader {
            identification: socket.next_id,
            traffic_class: socket.tos,
            hop_limit: socket.ttl,
            ..OutputHeader::new(path.source, destination, protocol::SCTP)
        };
        socket.next_id = socket.next_id.wrapping_add(1);
        if packet.len() + header.encoded_len() <= path.mtu {
            let prepended = output::prepend(packet, &header);
            debug_assert!(
                prepended.is_ok(),
                "a packet within an MTU, of one IP version"
            );
            self.send_sctp(egress, now, socket, &path, packet);
            return;
        }
        // One chunk that no packet of this path holds: a cookie, an INIT with many addresses.
        match self.with_header(path.mtu, std::mem::take(packet), header) {
            Ok(fragments) => {
                for mut fragment in fragments {
                    self.send_sctp(egress, now, socket, &path, &mut fragment);
                }
            }
            Err(error) => {
                tracing::debug!(%error, %destination, "packet cannot be sent");
                self.counters.dropped(DropReason::Fragment);
            }
        }
    }

    #[inline]
    fn send_sctp(
        &self,
        egress: &mut Egress,
        now: Instant,
        socket: &mut SctpSocket,
        path: &Path,
        packet: &mut Packet,
    ) {
        match self.stage_towards(egress, now, path, packet) {
            Ok(true) => self.note_unresolved(now),
            Err(SocketError::HostUnreachable) => {
                socket.association.handle_unreachable_neighbor();
            }
            Ok(false) | Err(_) => {}
        }
    }
}
