//! Multicast groups in the engine: sockets join and leave, routers ask, the link is told.
//!
//! The machine and its packets are sans-IO below ([`crate::ip::multicast`]), a socket's own groups in
//! [`super::socket_groups`]. Here are the choice of the interface, frames, and which packet is for whom.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use tidewire_netdev::Packet;

use crate::engine::ingress::Inbound;
use crate::engine::shard::ShardId;
use crate::engine::slot::UdpSlot;
use crate::engine::socket_groups::{GroupInterface, Joined, SocketGroups, SourceChange};
use crate::engine::transmit_queue::{Reply, ReplyWay};
use crate::engine::{Engine, lock};
use crate::error::{SocketError, SocketResult};
use crate::ip::InterfaceId;
use crate::ip::input::IpPacket;
use crate::ip::multicast::membership::Holder;
use crate::ip::multicast::{Received, SourceFilter, Transmit, igmp, mld};
use crate::link::ethernet::{self, LinkProtocol};
use crate::stats::DropReason;
use crate::time::Instant;
use crate::wire::mld::is_listener_discovery;
use crate::wire::ndp::{ALL_ROUTERS, solicited_node};

impl Engine {
    /// Joins a multicast group on an interface: its datagrams reach the socket, and routers on the link are told.
    ///
    /// # Errors
    /// `InvalidInput` for an address that is no group, `NoDevice` for no such interface or none that leads to the
    /// group, `AddressInUse` when joined already, `NoBuffers` when the socket has too many groups.
    pub fn multicast_join(
        &self,
        now: Instant,
        slot: &Arc<UdpSlot>,
        group: IpAddr,
        named: GroupInterface,
    ) -> SocketResult<()> {
        let interface = self.group_interface(group, named)?;
        let config = &self.config.host.multicast;
        self.change_groups(now, slot, |groups| {
            groups.join(group, interface, named, config).cloned()
        })
    }

    /// Leaves a multicast group.
    ///
    /// # Errors
    /// `AddressNotAvailable` when it was not joined there; `NoDevice` when no interface is named and none leads to the
    /// IPv4 group.
    pub fn multicast_leave(
        &self,
        now: Instant,
        slot: &Arc<UdpSlot>,
        group: IpAddr,
        named: GroupInterface,
    ) -> SocketResult<()> {
        let found = match (named, self.group_interface(group, named)) {
            // Linux: the first that fits.
            (GroupInterface::Any, _) if group.is_ipv6() => None,
            (GroupInterface::Any, found) => Some(found?),
            (_, found) => found.ok(),
        };
        self.change_groups(now, slot, |groups| groups.leave(group, found, named))
    }

    /// Changes which sources of a group are heard.
    ///
    /// # Errors
    /// `InvalidInput` for an address that is no group or, but for [`SourceChange::Join`], not joined, or that has
    /// sources of the other kind; `NoDevice` for no such interface; `AddressNotAvailable` when nothing would change;
    /// `NoBuffers` for too many groups or sources.
    pub fn multicast_source(
        &self,
        now: Instant,
        slot: &Arc<UdpSlot>,
        change: SourceChange,
        (source, group): (IpAddr, IpAddr),
        named: GroupInterface,
    ) -> SocketResult<()> {
        let interface = self.group_interface(group, named)?;
        let config = &self.config.host.multicast;
        self.change_groups(now, slot, |groups| {
            groups.change_source(change, source, group, (interface, named), config)
        })
    }

    /// Changes what a socket listens to; `change` gives the group as it is afterwards.
    fn change_groups(
        &self,
        now: Instant,
        slot: &Arc<UdpSlot>,
        change: impl FnOnce(&mut SocketGroups) -> SocketResult<Joined>,
    ) -> SocketResult<()> {
        {
            let mut state = slot.lock();
            let changed = change(&mut state.socket.groups)?;
            self.set_membership(now, Holder::Socket(state.socket.key.number()), changed);
        }
        self.settle_groups(now);
        Ok(())
    }

    /// Where a socket's datagrams to IPv4 groups leave: the interface of that address, or for `0.0.0.0` any
    /// (`IP_MULTICAST_IF`).
    ///
    /// # Errors
    /// `AddressNotAvailable` when no interface has it; `InvalidInput` when the socket is tied to another one.
    pub fn set_group_interface_v4(
        &self,
        slot: &Arc<UdpSlot>,
        address: Ipv4Addr,
    ) -> SocketResult<()> {
        let interface = if address.is_unspecified() {
            None
        } else {
            let interface = self.network.interface_of(address.into());
            Some(interface.ok_or(SocketError::AddressNotAvailable)?)
        };
        set_group_interface(slot, 0, interface)
    }

    /// Where a socket's datagrams to IPv6 groups leave: the interface of that number, or for 0 any
    /// (`IPV6_MULTICAST_IF`).
    ///
    /// # Errors
    /// `NoDevice` without such an interface; `InvalidInput` when the socket is tied to another one.
    pub fn set_group_interface_v6(&self, slot: &Arc<UdpSlot>, number: u32) -> SocketResult<()> {
        let interface = Some(InterfaceId(number)).filter(|_| number != 0);
        if interface.is_some_and(|interface| !self.network.has_interface(interface)) {
            return Err(SocketError::NoDevice);
        }
        set_group_interface(slot, 1, interface)
    }

    /// The groups that are listened to on an interface, and from whom.
    pub fn multicast_groups(&self, interface: InterfaceId) -> Vec<(IpAddr, SourceFilter)> {
        let memberships = lock(&self.memberships);
        let groups = memberships.groups(interface);
        groups
            .map(|(group, filter)| (group, filter.clone()))
            .collect()
    }

    fn group_interface(&self, group: IpAddr, named: GroupInterface) -> SocketResult<InterfaceId> {
        if !group.is_multicast() {
            return Err(SocketError::InvalidInput);
        }
        let interface = match named {
            GroupInterface::Any => self.network.interface_towards(group),
            GroupInterface::Address(address) => self.network.interface_of(address.into()),
            GroupInterface::Number(number) => {
                Some(number).filter(|number| self.network.has_interface(*number))
            }
        };
        interface.ok_or(SocketError::NoDevice)
    }

    pub(super) fn set_membership(&self, now: Instant, holder: Holder, joined: Joined) {
        let (interface, group, filter) = (joined.interface, joined.group, joined.filter);
        lock(&self.memberships).set(now, interface, group, holder, filter);
    }

    /// An IPv6 address comes or goes, and with it the group that others ask for it in (RFC 4862 5.4.2).
    pub(super) fn set_solicited_node(
        &self,
        now: Instant,
        interface: InterfaceId,
        address: IpAddr,
        filter: SourceFilter,
    ) {
        if let IpAddr::V6(v6) = address
            && self.network.hardware_address(interface).is_some()
        {
            let group = IpAddr::V6(solicited_node(v6));
            let holder = Holder::Address(address);
            lock(&self.memberships).set(now, interface, group, holder, filter);
        }
    }

    /// A router is in its links' group of all routers (RFC 4291 2.8).
    pub(super) fn join_all_routers(&self, now: Instant, interface: InterfaceId) {
        let group = IpAddr::V6(ALL_ROUTERS);
        let everything = SourceFilter::everything();
        let holder = Holder::Address(group);
        lock(&self.memberships).set(now, interface, group, holder, everything);
        self.note_housekeeping(Some(now));
    }

    /// Sends what is due to be told of groups. The caller holds no slot.
    pub(super) fn settle_groups(&self, now: Instant) {
        let came_up = std::mem::take(&mut *lock(&self.came_up));
        self.ask_routers_anew(now, &came_up);
        for interface in &came_up {
            let mut duplicates = lock(&self.duplicates);
            duplicates.handle_link_up(now, *interface);
            self.note_housekeeping(duplicates.poll_timeout());
        }
        let (due, deadline) = {
            let mut memberships = lock(&self.memberships);
            for interface in came_up {
                memberships.announce(now, interface, false);
                memberships.announce(now, interface, true);
            }
            memberships.handle_timeout(now);
            let due: Vec<_> = std::iter::from_fn(|| memberships.poll_transmit()).collect();
            (due, memberships.poll_timeout())
        };
        for transmit in due {
            self.tell_groups(&transmit);
        }
        self.note_housekeeping(deadline);
    }

    fn tell_groups(&self, transmit: &Transmit) {
        let interface = transmit.interface;
        let mtu = |towards: IpAddr| self.network.mtu(interface, towards);
        let (Some(mtu_v4), Some(mtu_v6)) = (
            mtu(Ipv4Addr::UNSPECIFIED.into()),
            mtu(Ipv6Addr::UNSPECIFIED.into()),
        ) else {
            return;
        };
        let v4 = self.network.first_address_v4(interface);
        let v4 = v4.unwrap_or(Ipv4Addr::UNSPECIFIED);
        for (group, packet) in igmp::packets(&transmit.message, v4, mtu_v4) {
            self.send_to_group(interface, group.into(), packet, LinkProtocol::Ipv4);
        }
        let v6 = self.network.assigned_link_local(interface);
        let v6 = v6.unwrap_or(Ipv6Addr::UNSPECIFIED);
        for (group, packet) in mld::packets(&transmit.message, v6, mtu_v6) {
            self.send_to_group(interface, group.into(), packet, LinkProtocol::Ipv6);
        }
    }

    fn send_to_group(
        &self,
        interface: InterfaceId,
        group: IpAddr,
        mut packet: Packet,
        protocol: LinkProtocol,
    ) {
        if let Some(ours) = self.network.hardware_address(interface) {
            let Some(station) = ethernet::group_address(group) else {
                return;
            };
            ethernet::prepend(&mut packet, ours, station, protocol);
        }
        let reply = Reply {
            interface,
            packet,
            way: ReplyWay::Frame,
        };
        // Full of replies already: counted as such; a report is repeated.
        let _ = self.queue_reply(ShardId::FIRST, reply);
    }

    /// A packet that starts at an IGMP header.
    pub(super) fn receive_igmp(
        &self,
        inbound: &Inbound<'_>,
        ip: &IpPacket,
        mut packet: Packet,
    ) -> Result<(), DropReason> {
        if ip.is_ipv6() {
            return Err(DropReason::UnknownProtocol);
        }
        packet.pull_up(packet.len());
        let received = igmp::receive(packet.contiguous(), &self.config.host.multicast)?;
        self.handle_group_message(inbound, false, received);
        Ok(())
    }

    /// An ICMPv6 packet that [`starts_listener_discovery`], its checksum verified.
    pub(super) fn receive_listener_discovery(
        &self,
        inbound: &Inbound<'_>,
        ip: &IpPacket,
        packet: &mut Packet,
    ) -> Result<(), DropReason> {
        packet.pull_up(packet.len());
        let received = mld::receive(ip, packet.contiguous(), &self.config.host.multicast)?;
        self.handle_group_message(inbound, true, received);
        Ok(())
    }

    fn handle_group_message(&self, inbound: &Inbound<'_>, is_v6: bool, received: Received) {
        let (now, interface) = (inbound.now, inbound.interface);
        let mut memberships = lock(&self.memberships);
        match received {
            Received::Query(query) => memberships.handle_query(now, interface, is_v6, &query),
            Received::Report(group) => memberships.handle_report(now, interface, group),
            Received::Nothing => {}
        }
        let deadline = memberships.poll_timeout();
        drop(memberships);
        self.note_housekeeping(deadline);
    }

    /// The interface that a packet to several hosts counts as received on: an own one that came back was sent on that of
    /// its source.
    pub(super) fn heard_on(&self, interface: InterfaceId, source: IpAddr) -> InterfaceId {
        if interface != InterfaceId::LOOPBACK {
            return interface;
        }
        self.network.interface_of(source).unwrap_or(interface)
    }
}

fn set_group_interface(
    slot: &Arc<UdpSlot>,
    family: usize,
    interface: Option<InterfaceId>,
) -> SocketResult<()> {
    let mut state = slot.lock();
    let socket = &mut state.socket;
    let is_other = |device| interface.is_some_and(|interface| interface != device);
    if socket.device.is_some_and(is_other) {
        return Err(SocketError::InvalidInput);
    }
    socket.group_interfaces[family] = interface;
    // A way that was found before may be another's.
    socket.path = None;
    Ok(())
}

/// Whether an ICMPv6 message that `packet` begins with is one of Multicast Listener Discovery.
pub(super) fn starts_listener_discovery(packet: &Packet) -> bool {
    let kind = packet.contiguous().first();
    kind.is_some_and(|kind| is_listener_discovery(*kind))
}
