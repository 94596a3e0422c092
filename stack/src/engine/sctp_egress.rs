//! SCTP's way out: polls associations and gives their packets IP headers.

use std::sync::Arc;

use tidewire_netdev::Packet;

use crate::engine::egress::SLOT_BUDGET;
use crate::engine::network::Path;
use crate::engine::sctp_sockets::SctpSocket;
use crate::engine::slot::{SctpSlot, SlotRef};
use crate::engine::transmit_queue::Egress;
use crate::engine::{Engine, WakeList};
use crate::error::SocketError;
use crate::ip::output::{self, OutputHeader};
use crate::ip::path_mtu::sets_dont_fragment;
use crate::neighbor::Initiator;
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
        if self.hold_back_ways(egress, slot, socket) {
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

    /// Which ways take packets. One that a lone device holds up waits for it; with several ways DATA of the others goes on,
    /// and every device that is full is watched. Whether nothing can be sent.
    fn hold_back_ways(
        &self,
        egress: &mut Egress,
        slot: &Arc<SctpSlot>,
        socket: &mut SctpSocket,
    ) -> bool {
        if let [way] = &socket.ways[..] {
            return way.path.is_some_and(|path| {
                self.hold_back(egress, path.interface, || SlotRef::from(slot))
            });
        }
        for way in &mut socket.ways {
            let Some(path) = &way.path else { continue };
            let is_full = self.watch(egress, path.interface, &mut way.waits_since, || {
                SlotRef::from(slot)
            });
            socket.association.hold_back(way.remote, is_full);
        }
        false
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
        let way = socket.ways.iter().find(|way| way.remote == destination);
        let known = way.and_then(|way| way.path);
        let path = match known.filter(|path| source.is_none_or(|source| source == path.source)) {
            Some(path) => Ok(path),
            None => self.association_way(now, socket, destination, source),
        };
        let Ok(path) = path else {
            self.counters.dropped(DropReason::NeighborUnreachable);
            return;
        };
        // DATA waits for its device. Of what is not DATA, too much for a device that takes nothing is as good as lost.
        if socket.ways.len() > 1 && self.is_congested(egress, path.interface) {
            self.counters.dropped(DropReason::RateLimited);
            return;
        }
        let header = OutputHeader {
            identification: socket.next_id,
            traffic_class: socket.tos,
            hop_limit: self.hop_limit_of(socket.ttl, &path),
            flow_label: path.flow_label,
            ..OutputHeader::new(path.source, destination, protocol::SCTP)
        };
        socket.next_id = socket.next_id.wrapping_add(1);
        if packet.len() + header.encoded_len() <= path.mtu && sets_dont_fragment(path.mtu) {
            let prepended = output::prepend(packet, &header);
            debug_assert!(
                prepended.is_ok(),
                "a packet within an MTU, of one IP version"
            );
            self.send_sctp(egress, now, socket, &path, packet);
            return;
        }
        // One chunk that no packet of this path holds: a cookie, an INIT with many addresses. Or a path that may carry even
        // less than is believed.
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
        match self.stage_towards(egress, now, path, Initiator::Host, packet) {
            Ok(true) => self.note_unresolved(now),
            Err(SocketError::HostUnreachable) => {
                socket.association.handle_unreachable_neighbor();
            }
            Ok(false) | Err(_) => {}
        }
    }
}
