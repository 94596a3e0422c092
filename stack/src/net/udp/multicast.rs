//! Multicast groups of a UDP socket: tokio's calls, and source-specific ones (RFC 3678) under `socket2`'s names.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::UdpSocket;
use crate::engine::socket_groups::{GroupInterface, SourceChange};
use crate::error::SocketResult;
use crate::ip::InterfaceId;

impl UdpSocket {
    /// Joins a multicast group over IPv4 on the interface that has this address; `0.0.0.0` leaves the choice to the
    /// stack: the interface that its routes lead to, or the first that has an address. Routers and switches on the link
    /// are told (IGMP).
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) for an address that is no group, ENODEV for an interface that the stack has not, or when
    /// none leads to the group, `AddrInUse` when joined already, ENOBUFS for more groups than
    /// [`max_memberships_v4`](crate::ip::multicast::Config::max_memberships_v4).
    pub fn join_multicast_v4(&self, multiaddr: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.join(multiaddr.into(), by_address(interface))
    }

    /// Joins a multicast group over IPv6 on the interface of this number; 0 leaves the choice to the stack. Routers and
    /// switches on the link are told (MLD).
    ///
    /// # Errors
    /// ENOPROTOOPT for an IPv4 socket, else as [`join_multicast_v4`](Self::join_multicast_v4).
    pub fn join_multicast_v6(&self, multiaddr: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.can_set_v6()?;
        self.join((*multiaddr).into(), by_number(interface))
    }

    /// Leaves a multicast group over IPv4 on the interface that has this address; `0.0.0.0` is the interface that it would
    /// be joined on.
    ///
    /// # Errors
    /// `AddrNotAvailable` when it was not joined there; ENODEV when no interface is named and none leads to the group.
    pub fn leave_multicast_v4(&self, multiaddr: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.leave(multiaddr.into(), by_address(interface))
    }

    /// Leaves a multicast group over IPv6; with 0 on the first interface that it was joined on.
    ///
    /// # Errors
    /// ENOPROTOOPT for an IPv4 socket; `AddrNotAvailable` when it was not joined on the interface.
    pub fn leave_multicast_v6(&self, multiaddr: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.can_set_v6()?;
        self.leave((*multiaddr).into(), by_number(interface))
    }

    /// Joins a group for what `source` sends, beside other sources that were joined like this
    /// (`IP_ADD_SOURCE_MEMBERSHIP`).
    ///
    /// # Errors
    /// As [`join_multicast_v4`](Self::join_multicast_v4); `AddrNotAvailable` when joined for the source already, EINVAL
    /// when sources of the group are blocked, ENOBUFS for more sources than
    /// [`max_sources_v4`](crate::ip::multicast::Config::max_sources_v4).
    pub fn join_ssm_v4(
        &self,
        source: &Ipv4Addr,
        group: &Ipv4Addr,
        interface: &Ipv4Addr,
    ) -> io::Result<()> {
        self.source_v4(SourceChange::Join, source, group, interface)
    }

    /// Leaves a group for a source (`IP_DROP_SOURCE_MEMBERSHIP`); with the last one the group itself.
    ///
    /// # Errors
    /// `AddrNotAvailable` when not joined for the source, EINVAL when not joined, ENODEV as with joining.
    pub fn leave_ssm_v4(
        &self,
        source: &Ipv4Addr,
        group: &Ipv4Addr,
        interface: &Ipv4Addr,
    ) -> io::Result<()> {
        self.source_v4(SourceChange::Leave, source, group, interface)
    }

    /// Hears a source of a joined group no more (`IP_BLOCK_SOURCE`).
    ///
    /// # Errors
    /// EINVAL when the group is not joined, or joined for sources; `AddrNotAvailable` when blocked already; ENOBUFS as
    /// [`join_ssm_v4`](Self::join_ssm_v4); ENODEV as with joining.
    pub fn block_source_v4(
        &self,
        source: &Ipv4Addr,
        group: &Ipv4Addr,
        interface: &Ipv4Addr,
    ) -> io::Result<()> {
        self.source_v4(SourceChange::Block, source, group, interface)
    }

    /// Hears a blocked source of a group again (`IP_UNBLOCK_SOURCE`).
    ///
    /// # Errors
    /// As [`block_source_v4`](Self::block_source_v4); `AddrNotAvailable` when not blocked.
    pub fn unblock_source_v4(
        &self,
        source: &Ipv4Addr,
        group: &Ipv4Addr,
        interface: &Ipv4Addr,
    ) -> io::Result<()> {
        self.source_v4(SourceChange::Unblock, source, group, interface)
    }

    /// [`join_ssm_v4`](Self::join_ssm_v4) over IPv6 (`MCAST_JOIN_SOURCE_GROUP`).
    ///
    /// # Errors
    /// ENOPROTOOPT for an IPv4 socket, else as there.
    pub fn join_ssm_v6(
        &self,
        source: &Ipv6Addr,
        group: &Ipv6Addr,
        interface: u32,
    ) -> io::Result<()> {
        self.source_v6(SourceChange::Join, source, group, interface)
    }

    /// [`leave_ssm_v4`](Self::leave_ssm_v4) over IPv6 (`MCAST_LEAVE_SOURCE_GROUP`).
    ///
    /// # Errors
    /// ENOPROTOOPT for an IPv4 socket, else as there.
    pub fn leave_ssm_v6(
        &self,
        source: &Ipv6Addr,
        group: &Ipv6Addr,
        interface: u32,
    ) -> io::Result<()> {
        self.source_v6(SourceChange::Leave, source, group, interface)
    }

    /// [`block_source_v4`](Self::block_source_v4) over IPv6 (`MCAST_BLOCK_SOURCE`).
    ///
    /// # Errors
    /// ENOPROTOOPT for an IPv4 socket, else as there.
    pub fn block_source_v6(
        &self,
        source: &Ipv6Addr,
        group: &Ipv6Addr,
        interface: u32,
    ) -> io::Result<()> {
        self.source_v6(SourceChange::Block, source, group, interface)
    }

    /// [`unblock_source_v4`](Self::unblock_source_v4) over IPv6 (`MCAST_UNBLOCK_SOURCE`).
    ///
    /// # Errors
    /// ENOPROTOOPT for an IPv4 socket, else as there.
    pub fn unblock_source_v6(
        &self,
        source: &Ipv6Addr,
        group: &Ipv6Addr,
        interface: u32,
    ) -> io::Result<()> {
        self.source_v6(SourceChange::Unblock, source, group, interface)
    }

    /// Sends datagrams to IPv4 groups through the interface of this address (`IP_MULTICAST_IF`); `0.0.0.0` leaves the
    /// choice to routes and to the address that the socket is bound to.
    ///
    /// # Errors
    /// `AddrNotAvailable` for an address that is not the stack's, EINVAL when the socket is tied to another interface.
    pub fn set_multicast_if_v4(&self, interface: &Ipv4Addr) -> io::Result<()> {
        let engine = self.io.shared().engine();
        Ok(engine.set_group_interface_v4(self.io.slot(), *interface)?)
    }

    /// Sends datagrams to IPv6 groups through the interface of this number (`IPV6_MULTICAST_IF`); 0 leaves the choice to
    /// the stack.
    ///
    /// # Errors
    /// ENOPROTOOPT for an IPv4 socket, ENODEV for an interface that the stack has not, EINVAL when the socket is tied to
    /// another one.
    pub fn set_multicast_if_v6(&self, interface: u32) -> io::Result<()> {
        self.can_set_v6()?;
        let engine = self.io.shared().engine();
        Ok(engine.set_group_interface_v6(self.io.slot(), interface)?)
    }

    /// The hop limit of multicast datagrams over IPv6 (`IPV6_MULTICAST_HOPS`).
    ///
    /// # Errors
    /// EOPNOTSUPP for an IPv4 socket.
    pub fn multicast_hops_v6(&self) -> io::Result<u32> {
        self.can_read_v6()?;
        self.option(|options| options.multicast_hops_v6().into())
    }

    /// Sets the hop limit of multicast datagrams over IPv6. 1 by default: they stay on the link.
    ///
    /// # Errors
    /// ENOPROTOOPT for an IPv4 socket; `InvalidInput` (EINVAL) above 255.
    pub fn set_multicast_hops_v6(&self, hops: u32) -> io::Result<()> {
        self.can_set_v6()?;
        self.set_option(|options| options.set_multicast_hops_v6(hops))
    }

    /// Whether datagrams of IPv4 groups arrive that only other sockets of the stack have joined (`IP_MULTICAST_ALL`).
    ///
    /// # Errors
    /// None at present.
    pub fn multicast_all_v4(&self) -> io::Result<bool> {
        self.option(|options| options.multicast_all_v4)
    }

    /// Says whether datagrams of IPv4 groups arrive that only other sockets of the stack have joined. On by default, as
    /// on Linux.
    ///
    /// # Errors
    /// None at present.
    pub fn set_multicast_all_v4(&self, on: bool) -> io::Result<()> {
        self.set_option(|options| {
            options.multicast_all_v4 = on;
            Ok(())
        })
    }

    /// [`multicast_all_v4`](Self::multicast_all_v4) for IPv6 groups (`IPV6_MULTICAST_ALL`).
    ///
    /// # Errors
    /// EOPNOTSUPP for an IPv4 socket.
    pub fn multicast_all_v6(&self) -> io::Result<bool> {
        self.can_read_v6()?;
        self.option(|options| options.multicast_all_v6)
    }

    /// [`set_multicast_all_v4`](Self::set_multicast_all_v4) for IPv6 groups. On by default.
    ///
    /// # Errors
    /// ENOPROTOOPT for an IPv4 socket.
    pub fn set_multicast_all_v6(&self, on: bool) -> io::Result<()> {
        self.can_set_v6()?;
        self.set_option(|options| {
            options.multicast_all_v6 = on;
            Ok(())
        })
    }

    fn join(&self, group: IpAddr, named: GroupInterface) -> io::Result<()> {
        let shared = self.io.shared();
        Ok(shared
            .multicast(|engine, now| engine.multicast_join(now, self.io.slot(), group, named))?)
    }

    fn leave(&self, group: IpAddr, named: GroupInterface) -> io::Result<()> {
        let shared = self.io.shared();
        Ok(shared
            .multicast(|engine, now| engine.multicast_leave(now, self.io.slot(), group, named))?)
    }

    fn source_v4(
        &self,
        change: SourceChange,
        source: &Ipv4Addr,
        group: &Ipv4Addr,
        interface: &Ipv4Addr,
    ) -> io::Result<()> {
        let both = ((*source).into(), (*group).into());
        Ok(self.source(change, both, by_address(*interface))?)
    }

    fn source_v6(
        &self,
        change: SourceChange,
        source: &Ipv6Addr,
        group: &Ipv6Addr,
        interface: u32,
    ) -> io::Result<()> {
        self.can_set_v6()?;
        let both = ((*source).into(), (*group).into());
        Ok(self.source(change, both, by_number(interface))?)
    }

    fn source(
        &self,
        change: SourceChange,
        source_and_group: (IpAddr, IpAddr),
        named: GroupInterface,
    ) -> SocketResult<()> {
        self.io.shared().multicast(|engine, now| {
            engine.multicast_source(now, self.io.slot(), change, source_and_group, named)
        })
    }
}

const fn by_address(interface: Ipv4Addr) -> GroupInterface {
    if interface.is_unspecified() {
        GroupInterface::Any
    } else {
        GroupInterface::Address(interface)
    }
}

const fn by_number(interface: u32) -> GroupInterface {
    if interface == 0 {
        GroupInterface::Any
    } else {
        GroupInterface::Number(InterfaceId(interface))
    }
}
