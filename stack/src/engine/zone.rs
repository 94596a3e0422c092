//! IPv6 zones (RFC 4007): a link-local address means something on one link only, so it goes with an interface's number.
//!
//! In the stack a socket address has a scope identifier if and only if its address is link-local; so the same peer
//! address on two links is two peers, and every comparison of socket addresses just works.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use crate::engine::Engine;
use crate::error::{SocketError, SocketResult};
use crate::ip::InterfaceId;
use crate::transport::demux::Tuple;

/// Whether the address is one of many links' (RFC 4291 2.5.6, RFC 4007 5): fe80::/10.
pub(crate) const fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
        IpAddr::V4(_) => false,
    }
}

/// Whether the address is a group of one link: multicast of interface-local or link-local scope (RFC 4291 2.7).
const fn is_link_group(address: IpAddr) -> bool {
    match address {
        IpAddr::V6(v6) => {
            let octets = v6.octets();
            octets[0] == 0xff && matches!(octets[1] & 0x0f, 1 | 2)
        }
        IpAddr::V4(_) => false,
    }
}

/// An address of that interface, with the interface's number if it needs one.
pub(crate) const fn with_zone(address: IpAddr, port: u16, zone: InterfaceId) -> SocketAddr {
    match address {
        IpAddr::V6(v6) if is_link_local(address) => {
            SocketAddr::V6(SocketAddrV6::new(v6, port, 0, zone.0))
        }
        _ => SocketAddr::new(address, port),
    }
}

/// The interface that a link-local address or group names.
pub(crate) const fn zone_of(address: SocketAddr) -> Option<InterfaceId> {
    match address {
        SocketAddr::V6(v6)
            if v6.scope_id() != 0
                && (is_link_local(address.ip()) || is_link_group(address.ip())) =>
        {
            Some(InterfaceId(v6.scope_id()))
        }
        _ => None,
    }
}

/// The only interface that packets of a flow may leave through: neither to nor from a link-local address do they go
/// over another link (RFC 4007 9).
pub(crate) fn zone_of_flow(flow: &Tuple) -> Option<InterfaceId> {
    zone_of(flow.remote).or(zone_of(flow.local))
}

impl Engine {
    /// The only interface that leads to `remote`: the socket's, or that of the address's zone.
    ///
    /// # Errors
    /// `InvalidInput` for a link-local address without a zone, or with another than the socket's (Linux); `NoDevice`
    /// for a zone that is no interface.
    pub(crate) fn device_towards(
        &self,
        remote: SocketAddr,
        device: Option<InterfaceId>,
    ) -> SocketResult<Option<InterfaceId>> {
        match (zone_of(remote), device) {
            (None, None) if is_link_local(remote.ip()) => Err(SocketError::InvalidInput),
            (None, device) => Ok(device),
            (Some(zone), Some(device)) if zone != device => Err(SocketError::InvalidInput),
            (Some(zone), _) if self.network.has_interface(zone) => Ok(Some(zone)),
            (Some(_), _) => Err(SocketError::NoDevice),
        }
    }

    /// The address of a received packet, with its zone: the interface it came through, or, if it never left the host,
    /// the one whose address it is.
    pub(crate) fn arrived(&self, address: IpAddr, port: u16, interface: InterfaceId) -> SocketAddr {
        if interface == InterfaceId::LOOPBACK && is_link_local(address) {
            let home = self.network.interface_of(address);
            return with_zone(address, port, home.unwrap_or(interface));
        }
        with_zone(address, port, interface)
    }
}

/// The zone of the answer to a packet from `source`.
pub(crate) fn answer_device(source: IpAddr, interface: InterfaceId) -> Option<InterfaceId> {
    (is_link_local(source) && interface != InterfaceId::LOOPBACK).then_some(interface)
}
