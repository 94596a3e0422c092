//! TCP's way out: polls connections and listeners, and builds their packets.

use std::net::IpAddr;
use std::sync::Arc;

use tidewire_netdev::checksum::{pseudo_header_v4, pseudo_header_v6};
use tidewire_netdev::{Checksum, Packet, Segmentation, SegmentationKind};

use crate::engine::egress::SLOT_BUDGET;
use crate::engine::network::{Cast, Path};
use crate::engine::slot::{ListenerSlot, SlotRef, TcpSlot};
use crate::engine::source_routes::towards;
use crate::engine::transmit_queue::Egress;
use crate::engine::zone::zone_of_flow;
use crate::engine::{Engine, WakeList, lock};
use crate::ip::InterfaceId;
use crate::ip::output::{self, OutputHeader};
use crate::ip::path_mtu::sets_dont_fragment;
use crate::neighbor::Initiator;
use crate::stats::DropReason;
use crate::tcp::{Transmit, TransmitLimits};
use crate::time::Instant;
use crate::transport::demux::Tuple;
use crate::wire::ipv4::SourceRoute;
use crate::wire::tcp::Flags;
use crate::wire::{ipv4, ipv6, protocol};

/// The largest payload of one transmit: what an IPv4 or IPv6 super-packet carries besides its headers.
const MAX_SUPER_PAYLOAD: usize = 65_535 - 120;
/// Where the checksum lies in a TCP header.
const CHECKSUM_OFFSET: usize = 16;

impl Engine {
    pub(crate) fn poll_tcp(
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
                towards(socket.route.as_deref(), &tuple),
                Some(tuple.local.ip()),
                socket.device,
            ) {
                Ok(path) => self.label_flow(path, protocol::TCP, &tuple),
                // The route went away. The timers go on, and give up if it does not come back.
                Err(_) => socket.path.unwrap_or(Path::nowhere(tuple)),
            },
        };
        socket.path = Some(path);
        if self.hold_back(egress, path.interface, || SlotRef::Tcp(Arc::clone(slot))) {
            socket.connection.handle_held_back(now);
            self.settle_tcp(now, slot, &mut state, wakes);
            return;
        }
        let way = self.connection_way(egress, now, &path, slot, socket);
        let Some(way) = way else {
            self.settle_tcp(now, slot, &mut state, wakes);
            return;
        };
        let limits = limits(&path, tuple, socket.route.as_deref());
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
            let dont_fragment = sets_dont_fragment(path.mtu);
            let header = OutputHeader {
                identification: if dont_fragment {
                    socket.next_id
                } else {
                    self.identification(&tuple, count)
                },
                dont_fragment,
                traffic_class: socket.tos,
                hop_limit: socket.ttl,
                flow_label: path.flow_label,
                ..OutputHeader::new(tuple.local.ip(), tuple.remote.ip(), protocol::TCP)
            };
            socket.next_id = socket.next_id.wrapping_add(count as u16);
            let mut packet = tcp_packet(tuple, transmit, &header, socket.route.as_deref());
            self.stage(egress, path.interface, way, &mut packet);
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

    /// Identifications for packets that routers may cut: no other of these two hosts may have them (RFC 6864 4.3).
    fn identification(&self, tuple: &Tuple, count: usize) -> u16 {
        let (local, remote) = (tuple.local.ip(), tuple.remote.ip());
        lock(&self.identifications).reserve(local, remote, protocol::TCP, count as u32) as u16
    }

    pub(crate) fn poll_listener(
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
            let route = socket.return_routes.of(&tuple);
            let path = self.network.path(
                now,
                towards(route, &tuple),
                Some(tuple.local.ip()),
                socket.device.or(zone_of_flow(&tuple)),
            );
            let Ok(path) = path else { continue };
            let path = self.label_flow(path, protocol::TCP, &tuple);
            if self.is_congested(egress, path.interface) {
                // The timer sends it again.
                self.counters.dropped(DropReason::RateLimited);
                continue;
            }
            let header = OutputHeader {
                identification: socket.next_id,
                hop_limit: self.hop_limit_of(socket.ttl, &path),
                traffic_class: socket.options.tos & !3,
                flow_label: path.flow_label,
                ..OutputHeader::new(tuple.local.ip(), tuple.remote.ip(), protocol::TCP)
            };
            socket.next_id = socket.next_id.wrapping_add(1);
            // Nobody to tell of an error: the timer sends it again.
            let mut packet = tcp_packet(tuple, transmit, &header, route);
            let _ = self.stage_towards(egress, now, &path, Initiator::Stranger, &mut packet);
            slot_budget -= 1;
            *budget -= 1;
        }
        self.settle_listener(slot, &state.socket);
        if slot_budget == 0 {
            drop(state);
            self.mark_ready(SlotRef::Listener(Arc::clone(slot)));
        }
    }

    /// Sends a segment that belongs to no connection: a RST to nobody, an ACK from TIME-WAIT.
    pub(crate) fn reply_tcp(
        &self,
        now: Instant,
        tuple: Tuple,
        route: Option<&SourceRoute>,
        transmit: Transmit,
    ) {
        let local = tuple.local.ip();
        let device = zone_of_flow(&tuple);
        let towards = towards(route, &tuple);
        let Ok(path) = self.network.path(now, towards, Some(local), device) else {
            return;
        };
        let path = self.label_flow(path, protocol::TCP, &tuple);
        let header = OutputHeader {
            hop_limit: self.hop_limit(&path),
            flow_label: path.flow_label,
            ..OutputHeader::new(tuple.local.ip(), tuple.remote.ip(), protocol::TCP)
        };
        // Too many at once: the peer asks again.
        let packet = tcp_packet(tuple, transmit, &header, route);
        let _ = self.reply(self.home_of(&tuple), &path, Initiator::Stranger, packet);
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
            cast: Cast::Unicast,
            hop_limit: None,
            flow_label: 0,
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
fn limits(path: &Path, tuple: Tuple, route: Option<&SourceRoute>) -> TransmitLimits {
    TransmitLimits {
        path_mtu: path.mtu,
        ip_header_len: match route {
            Some(route) => ipv4::HEADER_LEN + route.options_len(),
            None if tuple.remote.is_ipv4() => ipv4::HEADER_LEN,
            None => ipv6::HEADER_LEN,
        },
        // Whoever cuts below takes the header's destination for the one that checksums count.
        max_super_payload: if route.is_some() {
            0
        } else {
            MAX_SUPER_PAYLOAD
        },
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
fn tcp_packet(
    tuple: Tuple,
    transmit: Transmit,
    header: &OutputHeader,
    route: Option<&SourceRoute>,
) -> Packet {
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
    let header = header.with_ecn(ecn);
    let prepended = match route {
        None => output::prepend(&mut packet, &header),
        Some(route) => output::prepend_routed(&mut packet, &header, route),
    };
    debug_assert!(
        prepended.is_ok(),
        "a transmit is at most {MAX_SUPER_PAYLOAD} octets, of one IP version"
    );
    packet
}
