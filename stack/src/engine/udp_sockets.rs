//! UDP sockets: commands, datagrams in, datagrams out.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use tidewire_netdev::{Checksum, Packet, Segmentation, SegmentationKind};

use crate::engine::ingress::{Inbound, verify};
use crate::engine::link::Way;
use crate::engine::network::{Path, connectable};
use crate::engine::slot::{Slot, SlotRef, SlotState, UdpSlot};
use crate::engine::socket_groups::SocketGroups;
use crate::engine::sockets::{UdpSocket, canonical, unspecified};
use crate::engine::tcp_egress::pseudo_checksum;
use crate::engine::tcp_sockets::{SocketSummary, canonical_unless_any};
use crate::engine::transmit_queue::Egress;
use crate::engine::zone::{with_zone, zone_of};
use crate::engine::{Engine, WakeList, lock, read, write};
use crate::error::{SocketError, SocketResult};
use crate::ip::address::AddressClass;
use crate::ip::fragmentation::Fragments;
use crate::ip::icmp::errors::Problem;
use crate::ip::input::IpPacket;
use crate::ip::multicast::Holder;
use crate::ip::output::OutputHeader;
use crate::ip::path_mtu::sets_dont_fragment;
use crate::ip::{InterfaceId, fragmentation, output};
use crate::neighbor::Initiator;
use crate::stats::DropReason;
use crate::time::Instant;
use crate::transport::Readiness;
use crate::transport::demux::Bound;
use crate::transport::ports::BindRequest;
use crate::udp;
use crate::wire::{protocol, udp as wire_udp};

impl Engine {
    /// Binds a UDP socket.
    ///
    /// # Errors
    /// `AddressNotAvailable` for an address that is not this host's, `AddressInUse`, `NoDevice`.
    pub fn udp_bind(&self, request: &BindRequest) -> SocketResult<Arc<UdpSlot>> {
        self.check_alive()?;
        let device = self.device(request.device.as_deref())?;
        let device = self.device_towards(request.address, device)?;
        let address = request.address.ip().to_canonical();
        if !self.network.can_bind(address) {
            return Err(SocketError::AddressNotAvailable);
        }
        let lease = self.udp_ports.bind(request)?;
        let local = canonical_unless_any(lease.local());
        let dual_stack = request.address.is_ipv6() && !request.only_v6;
        let mut datagrams = write(&self.datagrams);
        let slot = Arc::new_cyclic(|slot: &std::sync::Weak<UdpSlot>| {
            let key = datagrams.insert(
                Bound {
                    local,
                    remote: None,
                    dual_stack,
                },
                slot.clone(),
            );
            let socket = UdpSocket {
                socket: udp::Socket::new(self.config.udp),
                requested: lease.local(),
                bound: local,
                remote: None,
                dual_stack,
                lease: Some(lease),
                key,
                device,
                path: None,
                groups: SocketGroups::default(),
                group_interfaces: [None; 2],
                next_id: 0,
                closed: false,
            };
            Slot::new(socket, Readiness::WRITABLE)
        });
        Ok(slot)
    }

    /// Fixes a socket's peer: only its datagrams arrive, and its errors are told. Fixes the local address as well.
    ///
    /// # Errors
    /// `NetworkUnreachable`, `AddressFamily`, `PermissionDenied` for a broadcast address without the option.
    pub fn udp_connect(
        &self,
        now: Instant,
        slot: &Arc<UdpSlot>,
        remote: SocketAddr,
    ) -> SocketResult<()> {
        self.check_alive()?;
        let remote = connectable(remote);
        let mut state = slot.lock();
        let socket = &mut state.socket;
        self.check_family(socket, remote)?;
        let remote = canonical(remote);
        self.check_broadcast(socket, remote.ip())?;
        // A wildcard takes an address; one that was chosen by an earlier connect is chosen anew.
        let bound = canonical_unless_any(socket.requested);
        let source = self.source(bound.ip());
        let device = self.device_towards(remote, socket.device_for(remote.ip()))?;
        let path = self.network.path(now, remote.ip(), source, device)?;
        socket.bound = if bound.ip().is_unspecified() {
            // To an own address the path is the loopback's, but the address is its interface's.
            with_zone(path.source, bound.port(), device.unwrap_or(path.interface))
        } else {
            bound
        };
        socket.remote = Some(remote);
        let path = self.label(path, protocol::UDP, socket.bound.port(), remote);
        socket.path = Some((remote, path));
        socket.socket.connect(remote)?;
        let bound = Bound {
            local: socket.bound,
            remote: Some(remote),
            dual_stack: socket.dual_stack,
        };
        write(&self.datagrams).update(socket.key, bound);
        Ok(())
    }

    /// Sends a datagram; it goes out with the next flush.
    ///
    /// # Errors
    /// `DestinationRequired`, `WouldBlock`, `MessageTooLong`, `InvalidInput` for port 0, `NetworkUnreachable`,
    /// `AddressFamily`, `PermissionDenied` for a broadcast address without the option, or the pending error of a
    /// connected socket.
    pub fn udp_send(
        &self,
        now: Instant,
        slot: &Arc<UdpSlot>,
        payload: &[u8],
        destination: Option<SocketAddr>,
    ) -> SocketResult<usize> {
        let mut state = slot.lock();
        let result = self.queue_datagram(now, &mut state.socket, payload, destination);
        if result == Err(SocketError::WouldBlock) {
            state.ready.clear(Readiness::WRITABLE);
        }
        drop(state);
        if result.is_ok() {
            self.mark_ready(SlotRef::Udp(Arc::clone(slot)));
        }
        result
    }

    fn queue_datagram(
        &self,
        now: Instant,
        socket: &mut UdpSocket,
        payload: &[u8],
        destination: Option<SocketAddr>,
    ) -> SocketResult<usize> {
        self.check_alive()?;
        if let Some(error) = socket.socket.take_error() {
            return Err(error);
        }
        let destination = match destination {
            Some(destination) if destination.port() == 0 => return Err(SocketError::InvalidInput),
            Some(destination) => {
                let destination = connectable(destination);
                self.check_family(socket, destination)?;
                canonical(destination)
            }
            None => socket.remote.ok_or(SocketError::DestinationRequired)?,
        };
        let limit = if destination.is_ipv4() {
            wire_udp::MAX_PAYLOAD_V4
        } else {
            wire_udp::MAX_PAYLOAD_V6
        };
        if payload.len() > limit {
            return Err(SocketError::MessageTooLong);
        }
        self.check_broadcast(socket, destination.ip())?;
        self.udp_path(now, socket, destination)?;
        socket
            .socket
            .send(Bytes::copy_from_slice(payload), Some(destination))?;
        Ok(payload.len())
    }

    /// An IPv4 socket speaks no IPv6; an IPv6 socket speaks IPv4 by mapped addresses, unless told otherwise.
    fn check_family(&self, socket: &UdpSocket, remote: SocketAddr) -> SocketResult<()> {
        let is_v6 = socket.requested.is_ipv6();
        let mapped = remote.is_ipv6() && remote.ip().to_canonical().is_ipv4();
        match (is_v6, remote.is_ipv6()) {
            (false, true) => Err(SocketError::AddressFamily),
            (true, true) if mapped && !socket.dual_stack => Err(SocketError::NetworkUnreachable),
            // Linux takes a plain IPv4 address on a dual-stack socket as a mapped one.
            (true, false) if !socket.dual_stack => Err(SocketError::AddressFamily),
            _ => Ok(()),
        }
    }

    fn check_broadcast(&self, socket: &UdpSocket, destination: IpAddr) -> SocketResult<()> {
        let broadcast = self.network.classify(destination) == AddressClass::Broadcast;
        if broadcast && !socket.socket.options.broadcast {
            Err(SocketError::PermissionDenied)
        } else {
            Ok(())
        }
    }

    /// The way to a destination, remembered for the next datagram.
    pub(crate) fn udp_path(
        &self,
        now: Instant,
        socket: &mut UdpSocket,
        destination: SocketAddr,
    ) -> SocketResult<Path> {
        let port = socket.bound.port();
        if let Some((known, path)) = &mut socket.path
            && known.ip() == destination.ip()
            && zone_of(*known) == zone_of(destination)
            && self.network.is_current(path)
        {
            if known.port() != destination.port() {
                *known = destination;
                *path = self.label(*path, protocol::UDP, port, destination);
            }
            return Ok(*path);
        }
        let source = self.source(socket.bound.ip());
        if source.is_some_and(|source| source.is_ipv4() != destination.is_ipv4()) {
            return Err(SocketError::NetworkUnreachable);
        }
        let device = self.device_towards(destination, socket.device_for(destination.ip()))?;
        let path = self.network.path(now, destination.ip(), source, device)?;
        let path = self.label(path, protocol::UDP, port, destination);
        socket.path = Some((destination, path));
        Ok(path)
    }

    /// The source that an address bound to demands: none, if it is a wildcard, a group or a broadcast address, which
    /// no packet comes from (RFC 1122 3.2.1.3).
    fn source(&self, bound: IpAddr) -> Option<IpAddr> {
        match self.network.classify(bound) {
            AddressClass::Unspecified | AddressClass::Multicast | AddressClass::Broadcast => None,
            AddressClass::Own | AddressClass::Loopback | AddressClass::Remote => Some(bound),
        }
    }

    /// Builds and queues what a socket sends.
    pub(crate) fn stage_udp(
        &self,
        egress: &mut Egress,
        now: Instant,
        socket: &mut UdpSocket,
        path: &Path,
        transmit: udp::Transmit,
    ) {
        let udp::Transmit {
            destination,
            payload,
            segment_size,
        } = transmit;
        let header = self.udp_ip_header(socket, path, destination);
        let hop_limit = header.hop_limit;
        socket.next_id = socket.next_id.wrapping_add(1);
        let options = &socket.socket.options;
        let (is_v6, multicast) = (destination.is_ipv6(), destination.ip().is_multicast());
        let mut packet = Packet::new();
        packet.push(payload);
        let length = packet.len() + wire_udp::HEADER_LEN;
        let mut udp_header = wire_udp::Header {
            source_port: socket.bound.port(),
            destination_port: destination.port(),
            length: length as u16,
            checksum: 0,
        };
        udp_header.checksum = pseudo_checksum(path.source, destination.ip(), protocol::UDP, length);
        udp_header.emit(packet.prepend(wire_udp::HEADER_LEN));
        packet.offload.checksum = Checksum::Partial {
            start: 0,
            offset: wire_udp::CHECKSUM_OFFSET as u16,
        };
        let looped = match (multicast, is_v6) {
            (true, false) => options.multicast_loop_v4,
            (true, true) => options.multicast_loop_v6,
            (false, _) => self.network.classify(destination.ip()) == AddressClass::Broadcast,
        };
        let segmentation =
            segment_size.filter(|size| usize::from(*size) < length - wire_udp::HEADER_LEN);
        packet.offload.segmentation = segmentation.map(|segment_size| Segmentation {
            kind: SegmentationKind::Udp,
            segment_size,
            ecn: false,
        });
        let packets = match segmentation {
            // Cut below into datagrams of that size, which must fit: like Linux, they are not fragmented.
            Some(size)
                if usize::from(size) + wire_udp::HEADER_LEN + header.encoded_len() <= path.mtu =>
            {
                let header = OutputHeader {
                    dont_fragment: true,
                    ..header
                };
                output::prepend(&mut packet, &header).map(|()| Fragments::from_iter([packet]))
            }
            Some(_) => Err(SocketError::MessageTooLong),
            None => self.with_header(path.mtu, packet, header),
        };
        match packets {
            Ok(packets) => {
                for mut packet in packets {
                    if looped && path.interface != InterfaceId::LOOPBACK {
                        let mut copy = packet.clone();
                        self.stage(egress, InterfaceId::LOOPBACK, Way::Plain, &mut copy);
                    }
                    // A TTL of 0 keeps a datagram on this host.
                    if hop_limit > 0 || path.interface == InterfaceId::LOOPBACK {
                        match self.stage_towards(egress, now, path, Initiator::Host, &mut packet) {
                            Ok(true) => self.note_unresolved(now),
                            Err(SocketError::HostUnreachable) => {
                                socket.socket.handle_unreachable(destination);
                            }
                            Ok(false) | Err(_) => {}
                        }
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%error, %destination, "datagram cannot be sent");
                self.counters.dropped(DropReason::Fragment);
            }
        }
    }

    /// The IP header of what a socket sends, as its options have it.
    fn udp_ip_header(
        &self,
        socket: &UdpSocket,
        path: &Path,
        destination: SocketAddr,
    ) -> OutputHeader {
        let options = &socket.socket.options;
        let is_v6 = destination.is_ipv6();
        let hop_limit = match (destination.ip().is_multicast(), is_v6) {
            (true, false) => options.multicast_ttl_v4(),
            (true, true) => options.multicast_hops_v6(),
            (false, false) => options.ttl().unwrap_or(self.config.host.ttl),
            // `IP_TTL` concerns IPv4 alone, on Linux too.
            (false, true) => options
                .unicast_hops_v6()
                .unwrap_or_else(|| self.hop_limit(path)),
        };
        OutputHeader {
            hop_limit,
            traffic_class: if is_v6 {
                options.traffic_class()
            } else {
                options.tos()
            },
            identification: socket.next_id,
            dont_fragment: false,
            flow_label: path.flow_label,
            ..OutputHeader::new(path.source, destination.ip(), protocol::UDP)
        }
    }

    /// A datagram with its IP header, in fragments when it is larger than `mtu` (RFC 791 3.2, RFC 8200 4.5).
    pub(crate) fn with_header(
        &self,
        mtu: usize,
        packet: Packet,
        header: OutputHeader,
    ) -> SocketResult<Fragments> {
        if packet.len() + header.encoded_len() <= mtu && sets_dont_fragment(mtu) {
            // RFC 6864 4.1: an atomic datagram may carry any identification; DF says that it is one.
            let header = OutputHeader {
                dont_fragment: true,
                ..header
            };
            return fragmentation::fragment(packet, &header, mtu, 0);
        }
        let identification = lock(&self.identifications).reserve(
            header.source,
            header.destination,
            header.protocol,
            1,
        );
        fragmentation::fragment(
            packet,
            &OutputHeader {
                dont_fragment: false,
                identification: identification as u16,
                ..header
            },
            mtu,
            identification,
        )
    }

    /// A packet that starts at the UDP header, its checksum not verified yet.
    pub(crate) fn receive_udp(
        &self,
        inbound: &mut Inbound<'_>,
        header: &IpPacket,
        class: AddressClass,
        mut packet: Packet,
    ) -> Result<(), DropReason> {
        if !packet.pull_up(wire_udp::HEADER_LEN) {
            return Err(DropReason::Malformed);
        }
        let (udp_header, header_len) =
            wire_udp::Header::parse(packet.contiguous()).map_err(|_| DropReason::Malformed)?;
        let stride = packet
            .offload
            .segmentation
            .map(|segmentation| usize::from(segmentation.segment_size));
        if stride.is_none() {
            let payload = udp_header
                .payload_len(packet.len())
                .map_err(|_| DropReason::Malformed)?;
            packet.truncate(header_len + payload);
        }
        // RFC 768: zero is no checksum; RFC 8200 8.1 forbids that for IPv6.
        match (
            udp_header.checksum,
            header.is_ipv6(),
            packet.offload.checksum,
        ) {
            (0, false, _) => {}
            (0, true, Checksum::Unverified) => return Err(DropReason::Checksum),
            _ => verify(header, &packet)?,
        }
        let ports = (udp_header.source_port, udp_header.destination_port);
        if self.takes_dhcp(inbound.interface, ports) {
            packet.advance(header_len);
            let payload = packet.to_bytes();
            return self.receive_dhcp(inbound.now, inbound.interface, &payload, inbound.wakes);
        }
        let at = |ip, port| self.arrived(ip, port, inbound.interface);
        let source = at(header.source, udp_header.source_port);
        let destination = at(header.destination, udp_header.destination_port);
        let original = packet.clone();
        packet.advance(header_len);
        let segment_size = stride.unwrap_or(packet.len());
        let datagram = udp::Datagram {
            source,
            destination,
            payload: packet.into_payload(),
            segment_size,
            ecn: header.ecn(),
        };
        if matches!(class, AddressClass::Broadcast | AddressClass::Multicast) {
            return self.deliver_to_all(&datagram, class, inbound);
        }
        let spread = self.flow_key.hash_pair(destination, source);
        let slot = read(&self.datagrams)
            .find(destination, source, spread)
            .and_then(std::sync::Weak::upgrade);
        let Some(slot) = slot else {
            // RFC 1122 4.1.3.1: a datagram to a port nobody holds is answered with port unreachable.
            self.report(inbound, Problem::PortUnreachable, header, &original);
            return Err(DropReason::NoSocket);
        };
        hand_over(&mut slot.lock(), datagram, inbound.wakes)
    }

    /// Linux's rules: the interface must listen to the group, from that source; then whoever has joined it hears what its
    /// filter lets through, and whoever has not, everything, unless it has said otherwise.
    fn deliver_to_all(
        &self,
        datagram: &udp::Datagram,
        class: AddressClass,
        inbound: &mut Inbound<'_>,
    ) -> Result<(), DropReason> {
        let (group, source) = (datagram.destination.ip(), datagram.source.ip());
        let interface = self.heard_on(inbound.interface, source);
        let is_group = class == AddressClass::Multicast;
        if is_group && !lock(&self.memberships).accepts(interface, group, source) {
            return Err(DropReason::NotForUs);
        }
        let slots: Vec<_> = read(&self.datagrams)
            .find_all(datagram.destination, datagram.source)
            .filter_map(std::sync::Weak::upgrade)
            .collect();
        let mut result = Err(DropReason::NoSocket);
        for slot in slots {
            let mut state = slot.lock();
            let socket = &state.socket;
            let options = &socket.socket.options;
            let from_others = if group.is_ipv4() {
                options.multicast_all_v4
            } else {
                options.multicast_all_v6
            };
            let is_there = socket.device.is_none_or(|device| device == interface);
            let groups = &socket.groups;
            if is_there && (!is_group || groups.hears(group, interface, source, from_others)) {
                result = hand_over(&mut state, datagram.clone(), inbound.wakes);
            }
        }
        result
    }

    /// Closes a UDP socket. What it has sent goes out; what it has received is gone. Whether the link is to be told that
    /// it has left groups.
    pub fn close_udp(&self, now: Instant, slot: &Arc<UdpSlot>) -> bool {
        let (key, lease, idle, groups) = {
            let mut state = slot.lock();
            state.socket.closed = true;
            let lease = state.socket.lease.take();
            let groups = state.socket.groups.take();
            (state.socket.key, lease, state.ready.take_wakers(), groups)
        };
        write(&self.datagrams).remove(key);
        drop((lease, idle));
        let has_left = groups.len() > 0;
        for left in groups {
            self.set_membership(now, Holder::Socket(key.number()), left);
        }
        if has_left {
            self.settle_groups(now);
        }
        has_left
    }

    pub(crate) fn list_datagram_sockets(&self, all: &mut Vec<SocketSummary>) {
        let slots: Vec<_> = read(&self.datagrams)
            .sorted()
            .into_iter()
            .filter_map(std::sync::Weak::upgrade)
            .collect();
        for slot in slots {
            let state = slot.lock();
            all.push(SocketSummary {
                protocol: "udp",
                state: None,
                association_state: None,
                local: state.socket.local(),
                remote: state.socket.peer(),
                receive_queue: state.socket.socket.receive_queue_memory(),
                send_queue: state.socket.socket.send_queue_memory(),
            });
        }
        let echoes: Vec<_> = lock(&self.echoes).values().cloned().collect();
        for slot in echoes {
            let state = slot.lock();
            let socket = &state.socket;
            all.push(SocketSummary {
                protocol: "icmp",
                state: None,
                association_state: None,
                local: SocketAddr::new(
                    socket.local.unwrap_or(unspecified(socket.is_v6)),
                    socket.identifier,
                ),
                remote: None,
                receive_queue: socket.received.len(),
                send_queue: 0,
            });
        }
    }
}

fn hand_over(
    state: &mut SlotState<UdpSocket>,
    datagram: udp::Datagram,
    wakes: &mut WakeList,
) -> Result<(), DropReason> {
    let result = state.socket.socket.handle_datagram(datagram);
    let edges = state.socket.socket.take_readiness();
    state.ready.set(edges, wakes);
    result
}
