//! Neighbor Discovery packets: what is built, and which received ones are valid (RFC 4861 6.1, 7.1, 7.2, 8.1).
//!
//! A received message goes through [`receive`] first, which gives only valid ones; then to `ip::autoconf`, which looks
//! for duplicates of tentative addresses and learns from routers; then to the cache.

use std::net::Ipv6Addr;

use tidewire_netdev::checksum::{pseudo_header_v6, sum_packet};
use tidewire_netdev::{MacAddress, Packet};

use crate::link::InterfaceId;
use crate::link::ethernet::{self, LinkProtocol};
use crate::neighbor::Ownership;
use crate::stats::DropReason;
use crate::wire::ndp::option::{LINK_LAYER_LEN, LinkLayerKind};
use crate::wire::ndp::{
    self, ALL_NODES, ALL_ROUTERS, HOP_LIMIT, Message, NdpOption, NeighborAdvertisement,
    NeighborSolicitation, Options, Redirect, RouterAdvertisement,
};
use crate::wire::{icmpv6, ipv6, protocol};

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The interface it came through.
    pub interface: InterfaceId,
    /// The frame's sender; `None` on links without link-layer addresses.
    pub link_source: Option<MacAddress>,
    /// Its IP source address.
    pub source: Ipv6Addr,
    /// Its IP destination address.
    pub destination: Ipv6Addr,
    /// Its hop limit.
    pub hop_limit: u8,
    /// It came with a fragment header (RFC 6980 5).
    pub was_fragmented: bool,
}

/// A valid message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// Somebody asks for an address.
    Solicitation(ReceivedSolicitation),
    /// Somebody says where an address is.
    Advertisement(ReceivedAdvertisement),
    /// A router tells what the link is like.
    RouterAdvertisement(ReceivedRouterAdvertisement<'a>),
    /// A router knows a better first hop.
    Redirect(ReceivedRedirect),
    /// A host looks for routers: none of a host's business (RFC 4861 6.2.6).
    RouterSolicitation,
}

/// A valid solicitation (RFC 4861 7.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedSolicitation {
    /// The interface it came through.
    pub interface: InterfaceId,
    /// Who asks; unspecified while a host looks for duplicates of the target (RFC 4862 5.4.2).
    pub source: Ipv6Addr,
    /// Its IP destination address: the target, or the target's solicited-node group.
    pub destination: Ipv6Addr,
    /// Whom it asks for.
    pub target: Ipv6Addr,
    /// Where who asks is on the link.
    pub source_link_layer: Option<MacAddress>,
}

/// A valid advertisement (RFC 4861 7.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedAdvertisement {
    /// The interface it came through.
    pub interface: InterfaceId,
    /// Whom it is about, and how sure it is.
    pub advertisement: NeighborAdvertisement,
    /// Where the target is on the link.
    pub target_link_layer: Option<MacAddress>,
}

/// A valid router advertisement (RFC 4861 6.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedRouterAdvertisement<'a> {
    /// The interface it came through.
    pub interface: InterfaceId,
    /// Who sent it: a link-local address.
    pub router: Ipv6Addr,
    /// Its fixed part.
    pub advertisement: RouterAdvertisement,
    /// Its options.
    pub options: Options<'a>,
    /// Where the router is on the link.
    pub source_link_layer: Option<MacAddress>,
}

/// A valid redirect (RFC 4861 8.1), but for whether its sender is the present first hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedRedirect {
    /// The interface it came through.
    pub interface: InterfaceId,
    /// Who sent it: a link-local address.
    pub router: Ipv6Addr,
    /// Which way is better for whom. The target is link-local, or the destination itself.
    pub redirect: Redirect,
    /// Where the target is on the link.
    pub target_link_layer: Option<MacAddress>,
}

/// An advertisement to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Where to send it.
    pub interface: InterfaceId,
    /// Who gets it: who asked, or all nodes of the link.
    pub destination: Ipv6Addr,
    /// Its IP destination's place on the link. `None`: unknown yet, it goes the way of any other packet (RFC 4861
    /// 7.2.4).
    pub link_destination: Option<MacAddress>,
    /// What it says. Its target is its source address too.
    pub advertisement: NeighborAdvertisement,
}

impl Advertisement {
    /// The packet from its IPv6 header on, with the target's link-layer address, which is `ours`. An Ethernet header
    /// ([`ethernet::prepend`]) is still to come.
    pub fn to_packet(&self, ours: MacAddress) -> Packet {
        let advertisement = self.advertisement;
        let addresses = (advertisement.target, self.destination);
        let message = Message::NeighborAdvertisement(advertisement);
        packet(addresses, &message, Some((LinkLayerKind::Target, ours)))
    }
}

/// Checks a message, which is all of `octets` from its ICMPv6 header on and whose checksum is right; `ours` is the
/// interface's link-layer address.
///
/// # Errors
/// [`DropReason::Malformed`] when the octets are no such message, [`DropReason::BadNeighbor`] when a rule of RFC 4861
/// 7.1, 6.1.2 or 8.1 or RFC 6980 5 is broken, [`DropReason::BadSource`] when it is our own that
/// the link gave back.
pub fn receive<'a>(
    arrival: &Arrival,
    ours: MacAddress,
    octets: &'a [u8],
) -> Result<Received<'a>, DropReason> {
    if arrival.hop_limit != HOP_LIMIT || arrival.was_fragmented {
        return Err(DropReason::BadNeighbor);
    }
    // RFC 4862 5.4.3: what a link gives back of ours says nothing of others.
    if arrival.link_source == Some(ours) {
        return Err(DropReason::BadSource);
    }
    let (message, options) = Message::parse(octets).map_err(|_| DropReason::Malformed)?;
    match message {
        Message::NeighborSolicitation(NeighborSolicitation { target }) => {
            let source_link_layer = options.source_link_layer();
            let is_duplicate_detection = arrival.source.is_unspecified();
            if is_duplicate_detection
                && (source_link_layer.is_some() || !ndp::is_solicited_node(arrival.destination))
            {
                return Err(DropReason::BadNeighbor);
            }
            has_station(source_link_layer, ours)?;
            Ok(Received::Solicitation(ReceivedSolicitation {
                interface: arrival.interface,
                source: arrival.source,
                destination: arrival.destination,
                target,
                source_link_layer,
            }))
        }
        Message::NeighborAdvertisement(advertisement) => {
            if advertisement.solicited && arrival.destination.is_multicast() {
                return Err(DropReason::BadNeighbor);
            }
            let target_link_layer = options.target_link_layer();
            has_station(target_link_layer, ours)?;
            Ok(Received::Advertisement(ReceivedAdvertisement {
                interface: arrival.interface,
                advertisement,
                target_link_layer,
            }))
        }
        Message::RouterAdvertisement(advertisement) => {
            let source_link_layer = options.source_link_layer();
            has_station(source_link_layer, ours)?;
            Ok(Received::RouterAdvertisement(ReceivedRouterAdvertisement {
                interface: arrival.interface,
                router: router(arrival)?,
                advertisement,
                options,
                source_link_layer,
            }))
        }
        Message::Redirect(redirect) => {
            let target_link_layer = options.target_link_layer();
            has_station(target_link_layer, ours)?;
            let is_neighbor = redirect.target == redirect.destination;
            if !is_neighbor && !redirect.target.is_unicast_link_local() {
                return Err(DropReason::BadNeighbor);
            }
            Ok(Received::Redirect(ReceivedRedirect {
                interface: arrival.interface,
                router: router(arrival)?,
                redirect,
                target_link_layer,
            }))
        }
        Message::RouterSolicitation => Ok(Received::RouterSolicitation),
    }
}

/// Who sent what only routers send: they do so from link-local addresses (RFC 4861 6.1.2, 8.1).
fn router(arrival: &Arrival) -> Result<Ipv6Addr, DropReason> {
    let source = arrival.source;
    if source.is_unicast_link_local() {
        Ok(source)
    } else {
        Err(DropReason::BadNeighbor)
    }
}

/// Who has `target`? A question of `source`, which is at `ours`: to the neighbour at `link_destination`, or to the
/// target's solicited-node group. Ethernet header included. Not to be asked from an optimistic address (RFC 4429 3.2).
pub fn solicitation(
    ours: MacAddress,
    source: Ipv6Addr,
    target: Ipv6Addr,
    link_destination: Option<MacAddress>,
) -> Packet {
    let group = ndp::solicited_node(target);
    let (destination, link) = match link_destination {
        Some(neighbor) => (target, neighbor),
        None => (group, MacAddress::multicast_v6(group)),
    };
    let message = Message::NeighborSolicitation(NeighborSolicitation { target });
    let option = Some((LinkLayerKind::Source, ours));
    let mut packet = packet((source, destination), &message, option);
    ethernet::prepend(&mut packet, ours, link, LinkProtocol::Ipv6);
    packet
}

/// Does anybody have `target` already? From the unspecified address, without a link-layer address (RFC 4862 5.4.2).
/// Ethernet header included.
pub fn duplicate_detection(ours: MacAddress, target: Ipv6Addr) -> Packet {
    let group = ndp::solicited_node(target);
    let message = Message::NeighborSolicitation(NeighborSolicitation { target });
    let mut packet = packet((Ipv6Addr::UNSPECIFIED, group), &message, None);
    let link = MacAddress::multicast_v6(group);
    ethernet::prepend(&mut packet, ours, link, LinkProtocol::Ipv6);
    packet
}

/// Is there a router? From `source`, or from the unspecified address and then without a link-layer address (RFC 4861
/// 4.1). Ethernet header included.
pub fn router_solicitation(ours: MacAddress, source: Ipv6Addr) -> Packet {
    let option = (!source.is_unspecified()).then_some((LinkLayerKind::Source, ours));
    let mut packet = packet((source, ALL_ROUTERS), &Message::RouterSolicitation, option);
    let link = MacAddress::multicast_v6(ALL_ROUTERS);
    ethernet::prepend(&mut packet, ours, link, LinkProtocol::Ipv6);
    packet
}

/// The answer to a valid solicitation for an address of ours (RFC 4861 7.2.4); `link_destination` as far as known.
pub(super) fn answer(
    solicitation: &ReceivedSolicitation,
    target: Ownership,
    link_destination: Option<MacAddress>,
) -> Advertisement {
    let is_duplicate_detection = solicitation.source.is_unspecified();
    let (destination, link_destination) = if is_duplicate_detection {
        (ALL_NODES, Some(MacAddress::multicast_v6(ALL_NODES)))
    } else {
        (solicitation.source, link_destination)
    };
    Advertisement {
        interface: solicitation.interface,
        destination,
        link_destination,
        advertisement: NeighborAdvertisement {
            router: false,
            solicited: !is_duplicate_detection,
            // RFC 4429 3.3: an optimistic address does not override who may have had it before.
            overrides: target == Ownership::Assigned,
            target: solicitation.target,
        },
    }
}

/// A link-layer address that is a group's or nobody's would turn traffic into a flood; our own is nobody else's.
fn has_station(link_layer: Option<MacAddress>, ours: MacAddress) -> Result<(), DropReason> {
    match link_layer {
        Some(address) if !address.is_unicast() || address == ours => Err(DropReason::BadNeighbor),
        _ => Ok(()),
    }
}

/// A message with at most one option, behind its IPv6 header, complete with its checksum.
fn packet(
    (source, destination): (Ipv6Addr, Ipv6Addr),
    message: &Message,
    option: Option<(LinkLayerKind, MacAddress)>,
) -> Packet {
    let mut packet = Packet::new();
    if let Some((kind, address)) = option {
        NdpOption::emit_link_layer(kind, address, packet.prepend(LINK_LAYER_LEN));
    }
    message.emit(packet.prepend(message.encoded_len()));
    let len = packet.len();
    let mut sum = pseudo_header_v6(source, destination, protocol::ICMPV6, len as u32);
    sum.add_u16(sum_packet(&packet, 0).fold());
    let field = icmpv6::CHECKSUM_OFFSET..icmpv6::CHECKSUM_OFFSET + 2;
    packet.head_mut()[field].copy_from_slice(&sum.finish().to_be_bytes());
    let header = ipv6::Header {
        source,
        destination,
        traffic_class: 0,
        flow_label: 0,
        payload_len: len as u16,
        next_header: protocol::ICMPV6,
        hop_limit: HOP_LIMIT,
    };
    header.emit(packet.prepend(ipv6::HEADER_LEN));
    packet
}
