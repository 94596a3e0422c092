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
            let polled = socket.association.poll_packet(now, &mut bench);
            let Some(departure) = &polled else { break };
            match self.stage_sctp(egress, now, socket, departure, &mut packet) {
                Ok(true) => self.note_unresolved(now),
                Err(SocketError::HostUnreachable) => {
                    socket.association.handle_unreachable_neighbor();
                }
                Ok(false) | Err(_) => {}
            }
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

    /// Gives a packet its IP header and queues it: it is taken from its place. The result is of
    /// [`Self::stage_towards`]; what cannot be sent for another reason is dropped, and counted.
    #[inline]
    fn stage_sctp(
        &self,
        egress: &mut Egress,
        now: Instant,
        socket: &mut SctpSocket,
        departure: &Departure,
        packet: &mut Packet,
    ) -> SocketResult<bool> {
        let (source, destination) = match *departure {
            Departure::Path(id) => {
                let path = socket.association.paths().get(id);
                (path.local(), path.remote())
            }
            Departure::Answer {
                source,
                destination,
            } => (source, destination),
        };
        let sender = PacketSender::of(socket);
        socket.next_id = socket.next_id.wrapping_add(1);
        let known = socket.ways.iter().find(|way| way.remote == destination);
        let known = known.and_then(|way| way.path.as_ref());
        if let Some(path) = known.filter(|path| source.is_none_or(|source| source == path.source)) {
            return self.stage_from(egress, now, &sender, &destination, path, packet);
        }
        let Ok(path) = self.association_way(now, socket, destination, source) else {
            self.counters.dropped(DropReason::NeighborUnreachable);
            return Ok(false);
        };
        self.stage_from(egress, now, &sender, &destination, &path, packet)
    }

    #[inline]
    fn stage_from(
        &self,
        egress: &mut Egress,
        now: Instant,
        sender: &PacketSender,
        destination: &IpAddr,
        path: &Path,
        packet: &mut Packet,
    ) -> SocketResult<bool> {
        // DATA waits for its device. Of what is not DATA, too much for a device that takes nothing is as good as lost.
        if sender.has_other_ways && self.is_congested(egress, path.interface) {
            self.counters.dropped(DropReason::RateLimited);
            return Ok(false);
        }
        let header = OutputHeader {
            identification: sender.identification,
            traffic_class: sender.tos,
            hop_limit: self.hop_limit_of(sender.ttl, path),
            flow_label: path.flow_label,
            ..OutputHeader::new(path.source, *destination, protocol::SCTP)
        };
        if packet.len() + header.encoded_len() <= path.mtu && sets_dont_fragment(path.mtu) {
            let prepended = output::prepend(packet, &header);
            debug_assert!(
                prepended.is_ok(),
                "a packet within an MTU, of one IP version"
            );
            return self.stage_towards(egress, now, path, Initiator::Host, packet);
        }
        // One chunk that no packet of this path holds: a cookie, an INIT with many addresses. Or a path that may carry even
        // less than is believed.
        match self.with_header(path.mtu, std::mem::take(packet), header) {
            Ok(fragments) => {
                let mut result = Ok(false);
                for mut fragment in fragments {
                    let staged =
                        self.stage_towards(egress, now, path, Initiator::Host, &mut fragment);
                    match staged {
                        // That some wait for a neighbour is as true when others found no room.
                        Ok(true) => self.note_unresolved(now),
                        // Whose neighbour does not answer is told of nothing else.
                        Err(_) if result != Err(SocketError::HostUnreachable) => result = staged,
                        Ok(false) | Err(_) => {}
                    }
                }
                result
            }
            Err(error) => {
                tracing::debug!(%error, %destination, "packet cannot be sent");
                self.counters.dropped(DropReason::Fragment);
                Ok(false)
            }
        }
    }
}

/// What of an association's socket is in its packets' IP headers.
struct PacketSender {
    identification: u16,
    tos: u8,
    ttl: u8,
    has_other_ways: bool,
}

impl PacketSender {
    fn of(socket: &SctpSocket) -> Self {
        Self {
            identification: socket.next_id,
            tos: socket.tos,
            ttl: socket.ttl,
            has_other_ways: socket.ways.len() > 1,
        }
    }
}
