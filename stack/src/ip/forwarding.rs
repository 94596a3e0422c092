//! Packets on their way through this host, which is a router to them (RFC 1812 5.2, 5.3, RFC 8200 4, RFC 4443 3).
//!
//! Owned here: which packets no router may pass on, whatever its routes; what passing on changes in a header; cutting
//! IPv4 packets for the next link. Left to others: whose a packet is and where it goes next (`engine`), the ICMP error
//! that a [`Refusal`] asks for, the transport behind the header, which is none of a router's business.
//!
//! ```text
//!  parse ─▶ Transit ─▶ (route, hops left, next link's MTU) ─▶ pass: TTL − 1, recorded route ─▶ (cut)
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tidewire_netdev::checksum::{Sum, update};
use tidewire_netdev::offload::Offload;
use tidewire_netdev::packet::HEADER_ROOM;
use tidewire_netdev::{Packet, segmentation};

use crate::ip::fragmentation::Fragments;
use crate::ip::icmp::Problem;
use crate::ip::input::{
    Arrival, IpPacket, MAX_PACKET_LEN, Refusal, answer, refuse_chain, screen_v4, screen_v6, trim,
    unreadable,
};
use crate::ip::output;
use crate::stats::DropReason;
use crate::wire::ipv4::{IpOption, option_kind};
use crate::wire::ipv6::extension;
use crate::wire::{ethernet, ipv4, ipv6, protocol};

/// What a router needs to know of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transit {
    /// Who sent it.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// Hops left when it came.
    pub hop_limit: u8,
    /// Routers must not cut it: DF, and all of IPv6 (RFC 8200 4.5).
    pub dont_fragment: bool,
    /// Its sender routes it itself, past this router (RFC 791 3.1).
    pub has_source_route: bool,
    /// Octets of the header, IPv4's options included.
    header_len: usize,
    /// Where its record route option begins, if that has room for another address.
    record_at: Option<usize>,
}

impl Transit {
    /// Whether [`Self::pass`] writes an address into the packet.
    pub const fn records_route(&self) -> bool {
        self.record_at.is_some()
    }

    /// Makes `packet`, which [`parse`] has accepted with more than one hop left, what is sent on: one hop less (RFC 1812 5.3.1,
    /// RFC 8200 3), and in a record route option `recorded` (RFC 1812 5.3.13.5). The payload stays shared.
    pub fn pass(&self, packet: &mut Packet, recorded: Option<Ipv4Addr>) {
        leave_room(packet);
        if !packet.pull_inline(self.header_len) {
            return;
        }
        let header = &mut packet.head_mut()[..self.header_len];
        if self.destination.is_ipv6() {
            header[HOP_LIMIT_V6] = self.hop_limit.saturating_sub(1);
            return;
        }
        let word = |header: &[u8], at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let before = word(header, TTL_V4);
        header[TTL_V4] = self.hop_limit.saturating_sub(1);
        let mut checksum = update(
            word(header, ipv4::CHECKSUM_OFFSET),
            before,
            word(header, TTL_V4),
        );
        if let (Some(option), Some(address)) = (self.record_at, recorded) {
            let pointer = usize::from(header[option + 2]);
            let place = option + pointer - 1;
            header[place..place + 4].copy_from_slice(&address.octets());
            header[option + 2] += 4;
            header[ipv4::CHECKSUM_OFFSET..ipv4::CHECKSUM_OFFSET + 2].fill(0);
            let mut sum = Sum::new();
            sum.add_bytes(header);
            checksum = sum.finish();
        }
        header[ipv4::CHECKSUM_OFFSET..ipv4::CHECKSUM_OFFSET + 2]
            .copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Whether packets by source routes are passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceRoutes {
    /// They are.
    Pass,
    /// They are dropped (RFC 7126 4.3).
    Refuse,
}

/// Where a packet, which begins with its IP header, is for; `None` for one that has no such header. The header is in one
/// piece afterwards.
pub fn destination(packet: &mut Packet) -> Option<IpAddr> {
    let version = packet.octet(0)? >> 4;
    let (header_len, at) = match version {
        4 => (ipv4::HEADER_LEN, 16),
        6 => (ipv6::HEADER_LEN, 24),
        _ => return None,
    };
    if !packet.pull_up(header_len) {
        return None;
    }
    let rest = packet.contiguous().get(at..)?;
    if version == 4 {
        return rest.first_chunk::<4>().map(|octets| (*octets).into());
    }
    rest.first_chunk::<16>().map(|octets| (*octets).into())
}

/// Reads the header of a packet that is for another host, and cuts link padding off. Nothing is taken off its front.
///
/// # Errors
/// A [`Refusal`]. With [`Refusal::Answer`], the header is taken off `packet`, as its answer needs it.
pub fn parse(packet: &mut Packet, source_routes: SourceRoutes) -> Result<Transit, Refusal> {
    match packet.octet(0).map(|octet| octet >> 4) {
        Some(4) => parse_v4(packet, source_routes),
        Some(6) => parse_v6(packet),
        _ => Err(DropReason::Malformed.into()),
    }
}

fn parse_v4(packet: &mut Packet, source_routes: SourceRoutes) -> Result<Transit, Refusal> {
    let first = packet.octet(0).unwrap_or(0);
    if !packet.pull_up(usize::from(first & 0x0f) * 4) {
        return Err(DropReason::Malformed.into());
    }
    let (header, header_len) = ipv4::Header::parse(packet.contiguous()).map_err(unreadable)?;
    trim(packet, header.total_len.into())?;
    screen_v4(header.source, header.destination, Arrival::Wire)?;
    // RFC 3927 2.7 for the one, RFC 1812 5.3.7 for the other.
    let is_confined = |address: Ipv4Addr| address.is_link_local() || address.octets()[0] >= CLASS_E;
    if is_confined(header.source) {
        return Err(DropReason::BadSource.into());
    }
    if is_confined(header.destination) {
        return Err(DropReason::NotForUs.into());
    }
    let mut transit = Transit {
        source: header.source.into(),
        destination: header.destination.into(),
        hop_limit: header.ttl,
        dont_fragment: header.dont_fragment,
        has_source_route: false,
        header_len,
        record_at: None,
    };
    if !header.options.is_empty() {
        match look_through(&header.options, source_routes) {
            Ok(found) => {
                transit.has_source_route = found.has_source_route;
                transit.record_at = found.record_at;
            }
            Err(OptionFault::Refused) => return Err(DropReason::BadSource.into()),
            Err(OptionFault::At(pointer)) => {
                let problem = Problem::ParameterProblem {
                    code: 0,
                    pointer: pointer.into(),
                    to_multicast: false,
                };
                return Err(refuse(packet, problem, DropReason::Malformed));
            }
        }
    }
    Ok(transit)
}

/// Why a packet is not passed on for its options' sake.
enum OptionFault {
    /// Not wanted.
    Refused,
    /// Wrong at this octet of the header (RFC 1812 4.3.3.5).
    At(u8),
}

/// What is of interest among a packet's options.
#[derive(Default)]
struct FoundOptions {
    has_source_route: bool,
    record_at: Option<usize>,
}

/// Looks through the options of a packet for another host, to see where a record route option with room is. Others pass
/// unchanged (RFC 1812 5.3.13.1).
fn look_through(
    options: &ipv4::Options,
    source_routes: SourceRoutes,
) -> Result<FoundOptions, OptionFault> {
    let mut found = FoundOptions::default();
    for option in options.iter() {
        let option = option.map_err(|malformed| OptionFault::At(malformed.pointer))?;
        if option.is_source_route() {
            if source_routes == SourceRoutes::Refuse {
                return Err(OptionFault::Refused);
            }
            // RFC 791 3.1: a strict route names every router, and this one is not the next.
            if option.kind == option_kind::STRICT_SOURCE_ROUTE {
                return Err(OptionFault::At(DESTINATION_POINTER_V4));
            }
            found.has_source_route = true;
        }
        if option.kind == option_kind::RECORD_ROUTE && has_room(&option)? {
            let at = usize::from(option.pointer);
            found.record_at.get_or_insert(at);
        }
    }
    Ok(found)
}

/// Whether a record route option takes another address; a full one does not, and the packet goes on all the same (RFC 791
/// 3.1). One with room for half an address is wrong.
fn has_room(option: &IpOption<'_>) -> Result<bool, OptionFault> {
    let len = option.value.len() + 2;
    let wrong = OptionFault::At(option.pointer + 2);
    match option.value.first() {
        Some(&pointer) if usize::from(pointer) > len => Ok(false),
        Some(&pointer) if pointer >= 4 && usize::from(pointer) + 3 <= len => Ok(true),
        _ => Err(wrong),
    }
}

fn parse_v6(packet: &mut Packet) -> Result<Transit, Refusal> {
    if !packet.pull_up(ipv6::HEADER_LEN) {
        return Err(DropReason::Malformed.into());
    }
    let (header, header_len) = ipv6::Header::parse(packet.contiguous()).map_err(unreadable)?;
    // A jumbogram (RFC 2675) has a length of 0 here, so that its option is cut off.
    trim(packet, header_len + usize::from(header.payload_len))?;
    screen_v6(header.source, header.destination, Arrival::Wire)?;
    if header.source.is_unspecified() {
        // RFC 4291 2.5.2
        return Err(DropReason::BadSource.into());
    }
    let is_confined = |address: Ipv6Addr| address.is_unicast_link_local();
    if is_confined(header.destination) {
        // RFC 4291 2.5.6
        return Err(DropReason::NotForUs.into());
    }
    if is_confined(header.source) {
        return Err(refuse(packet, Problem::BeyondScope, DropReason::BadSource));
    }
    if header.next_header == protocol::HOP_BY_HOP {
        packet.pull_up(packet.len());
        let options = packet.contiguous().get(header_len..).unwrap_or_default();
        if let Err(error) = extension::check_hop_by_hop(options) {
            let tell = |problem| refuse(packet, problem, DropReason::Malformed);
            return Err(refuse_chain(error, tell));
        }
    }
    Ok(Transit {
        source: header.source.into(),
        destination: header.destination.into(),
        hop_limit: header.hop_limit,
        dont_fragment: true,
        has_source_route: false,
        header_len,
        record_at: None,
    })
}

fn refuse(packet: &mut Packet, problem: Problem, reason: DropReason) -> Refusal {
    match take_header(packet) {
        Some(ip) => answer(ip, problem, reason),
        None => reason.into(),
    }
}

/// Takes the IP header off a packet that is told of by ICMP; `None` for one that has none.
pub fn take_header(packet: &mut Packet) -> Option<IpPacket> {
    let first = packet.octet(0)?;
    let (ip, header_len) = if first >> 4 == 4 {
        packet.pull_up(usize::from(first & 0x0f) * 4);
        let octets = packet.contiguous();
        let (header, len) = ipv4::Header::parse(octets).ok()?;
        (IpPacket::of_v4(&header, &octets[..len]), len)
    } else {
        packet.pull_up(ipv6::HEADER_LEN);
        let octets = packet.contiguous();
        let (header, len) = ipv6::Header::parse(octets).ok()?;
        (IpPacket::of_v6(&header, &octets[..len]), len)
    };
    packet.advance(header_len);
    Some(ip)
}

/// Cuts an IPv4 packet, which may be a fragment itself, into fragments of at most `mtu` octets (RFC 791 3.2, RFC 1812
/// 4.2.2.7). Options without the copied flag stay with the first. The payload is shared, not copied; a partial checksum is
/// completed first.
///
/// # Errors
/// [`DropReason::Malformed`] for another packet, [`DropReason::Fragment`] when an MTU has no room for data, or when the
/// packet is a fragment that reaches beyond the longest packet.
pub fn cut(mut packet: Packet, mtu: usize) -> Result<Fragments, DropReason> {
    segmentation::complete_checksum(&mut packet).map_err(|_| DropReason::Malformed)?;
    packet.offload = Offload::default();
    leave_room(&mut packet);
    let (whole, header_len) =
        ipv4::Header::parse(packet.contiguous()).map_err(|_| DropReason::Malformed)?;
    packet.advance(header_len);
    let mut offset = usize::from(whole.fragment_offset);
    if offset + packet.len() + header_len > MAX_PACKET_LEN {
        return Err(DropReason::Fragment);
    }
    let mut options = whole.options.clone();
    let mut fragments = Fragments::new();
    while !packet.is_empty() {
        let room = mtu.saturating_sub(ipv4::HEADER_LEN + options.octets().len());
        let len = if packet.len() <= room {
            packet.len()
        } else {
            // All fragments but the last are of whole units of 8 octets.
            room / 8 * 8
        };
        if len == 0 {
            return Err(DropReason::Fragment);
        }
        let mut piece = packet.clone();
        piece.truncate(len);
        packet.advance(len);
        let header = ipv4::Header {
            // At most 65,535, as the packet's end is.
            fragment_offset: offset as u16,
            more_fragments: whole.more_fragments || !packet.is_empty(),
            options,
            ..whole.clone()
        };
        output::prepend_v4(&mut piece, header).map_err(|_| DropReason::Fragment)?;
        fragments.push(piece);
        offset += len;
        options = whole.options.copied();
    }
    Ok(fragments)
}

/// The link's header still has to go in front, wherever the packet's octets lay when it came.
fn leave_room(packet: &mut Packet) {
    if packet.head().len() > HEADER_ROOM - ethernet::HEADER_LEN {
        packet.flatten();
    }
}

/// Where the TTL stands in an IPv4 header, with the protocol behind it in the same word of the checksum.
const TTL_V4: usize = 8;
/// Where the destination stands in an IPv4 header.
const DESTINATION_POINTER_V4: u8 = 16;
/// Where the hop limit stands in an IPv6 header.
const HOP_LIMIT_V6: usize = 7;
/// The first octet of the first address of class E.
const CLASS_E: u8 = 240;

#[cfg(test)]
mod tests;
