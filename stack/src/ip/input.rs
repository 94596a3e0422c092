//! Received packets: from the IP header to the transport header (RFC 791, RFC 8200, RFC 1122 3.2.1).
//!
//! Owned here: header checks, link padding, addresses that nobody may use, IPv4 options, IPv6 extension headers. Left
//! to others: whether the destination is this host ([`super::address`]), joining fragments ([`super::reassembly`]), and
//! sending the ICMP error that a [`Refusal`] asks for.
//!
//! ```text
//!  before  │ IP header │ extension headers or options │ transport header │ data │ link padding │
//!  after     ╰──── IpPacket::header, a copy ───────╯  │ transport header │ data │
//! ```
//!
//! The copy of the header is what makes an ICMP error quote exactly what arrived (RFC 1122 3.2.2); up to 40 octets of
//! it lie inline, so a plain packet costs no allocation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smallvec::SmallVec;
use tidewire_netdev::Packet;

use crate::ip::icmp::errors::Problem;
use crate::stats::DropReason;
use crate::wire::icmpv6::parameter_problem;
use crate::wire::ipv4::{ReceivedRoute, SourceRoute};
use crate::wire::ipv6::extension::{self, ChainError};
use crate::wire::ipv6::fragment;
use crate::wire::{Ecn, ParseError, ipv4, ipv6, protocol};

/// Which way a packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// From a device: loopback addresses have no business there (RFC 1122 3.2.1.3 (g), RFC 4291 2.5.3).
    Wire,
    /// From this host itself.
    Loopback,
}

/// What the network layer knows of a received packet, once its headers are stripped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpPacket {
    /// Who sent it.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// What the packet begins with now ([`crate::wire::protocol`]).
    pub protocol: u8,
    /// Hops left: TTL, or hop limit.
    pub hop_limit: u8,
    /// DSCP and ECN: TOS, or traffic class.
    pub traffic_class: u8,
    /// Set on a fragment, which is for [`super::reassembly::Reassembler`] and not for a transport.
    pub fragment: Option<FragmentInfo>,
    /// It came with an IPv6 fragment header, even one around the whole packet, or was reassembled: neighbour discovery
    /// must not listen to it (RFC 6980 5).
    pub was_fragmented: bool,
    /// It came by a source route, which it has followed to its end; what is answered may go back the way that this says.
    pub return_route: Option<Box<ReturnRoute>>,
    /// The octets before what the packet begins with now, as they arrived.
    pub(super) header: SmallVec<[u8; ipv6::HEADER_LEN]>,
    /// Where in `header` the number `protocol` stands, for a parameter problem.
    pub(super) protocol_pointer: usize,
}

/// The way back of a packet that its sender has routed: the routers that it came by, or the straight way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnRoute(pub Option<SourceRoute>);

/// A fragment's place in its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentInfo {
    /// Joins the fragments of a packet: 16 bits in IPv4, 32 in IPv6.
    pub identification: u32,
    /// Octets of the whole before this one, a multiple of 8.
    pub offset: u16,
    /// It is not the last one.
    pub more: bool,
}

impl IpPacket {
    /// The packet with that header, which was read from `octets`.
    #[inline]
    pub(super) fn of_v4(header: &ipv4::Header, octets: &[u8]) -> Self {
        Self {
            source: header.source.into(),
            destination: header.destination.into(),
            protocol: header.protocol,
            hop_limit: header.ttl,
            traffic_class: header.tos,
            fragment: header.is_fragment().then_some(FragmentInfo {
                identification: header.identification.into(),
                offset: header.fragment_offset,
                more: header.more_fragments,
            }),
            was_fragmented: false,
            return_route: None,
            header: copy_of::<{ ipv4::HEADER_LEN }>(octets),
            protocol_pointer: PROTOCOL_POINTER_V4,
        }
    }

    /// The same of IPv6, before its extension headers are looked at.
    #[inline]
    pub(super) fn of_v6(header: &ipv6::Header, octets: &[u8]) -> Self {
        Self {
            source: header.source.into(),
            destination: header.destination.into(),
            protocol: header.next_header,
            hop_limit: header.hop_limit,
            traffic_class: header.traffic_class,
            fragment: None,
            was_fragmented: false,
            return_route: None,
            header: copy_of::<{ ipv6::HEADER_LEN }>(octets),
            protocol_pointer: PROTOCOL_POINTER_V6,
        }
    }

    /// The ECN field.
    pub const fn ecn(&self) -> Ecn {
        Ecn::from_tos(self.traffic_class)
    }

    /// Whether it is of IPv6.
    pub const fn is_ipv6(&self) -> bool {
        self.source.is_ipv6()
    }

    /// The IP header with its options or extension headers, as it arrived.
    pub fn header(&self) -> &[u8] {
        &self.header
    }
}

/// Why a packet goes no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Silently, but counted.
    Drop(DropReason),
    /// Its sender is to be told, if the rules permit: [`super::icmp::errors::build`] with the packet as it was left.
    Answer(Box<Answer>),
}

/// A packet that asks for an ICMP error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The packet; what is left of it begins behind [`IpPacket::header`].
    pub ip: IpPacket,
    /// What is wrong with it.
    pub problem: Problem,
    /// How it is counted.
    pub reason: DropReason,
}

impl Refusal {
    /// How the packet is counted.
    pub const fn reason(&self) -> DropReason {
        match self {
            Self::Drop(reason) => *reason,
            Self::Answer(answer) => answer.reason,
        }
    }
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Self {
        Self::Drop(reason)
    }
}

/// Reads the headers of a packet that begins with an IP header and takes them off, with any padding behind the packet.
///
/// A fragment comes out with [`IpPacket::fragment`] set and is for the reassembler.
///
/// # Errors
/// A [`Refusal`]. With [`Refusal::Answer`], `packet` is left as its answer needs it; else its state is of no use.
pub fn parse(packet: &mut Packet, arrival: Arrival) -> Result<IpPacket, Refusal> {
    match packet.contiguous().first().map(|octet| octet >> 4) {
        Some(4) => parse_v4(packet, arrival),
        Some(6) => parse_v6(packet, arrival),
        _ => Err(DropReason::Malformed.into()),
    }
}

/// A copy of a header that is as a rule `N` octets long: a length that the compiler knows saves a call.
#[inline]
fn copy_of<const N: usize>(octets: &[u8]) -> SmallVec<[u8; ipv6::HEADER_LEN]> {
    match <&[u8; N]>::try_from(octets) {
        Ok(usual) => {
            let mut room = [0; ipv6::HEADER_LEN];
            room[..N].copy_from_slice(usual);
            SmallVec::from_buf_and_len(room, N)
        }
        Err(_) => SmallVec::from_slice(octets),
    }
}

/// Goes on with a packet that was reassembled: an IPv6 one may still have extension headers, in what were its
/// fragments (RFC 8200 4.5).
///
/// # Errors
/// As [`parse`], except that `ip` is given up only to an answer.
pub fn resume(ip: IpPacket, packet: &mut Packet) -> Result<IpPacket, Refusal> {
    if !ip.is_ipv6() {
        return Ok(ip);
    }
    let start = extension::Start {
        next_header: ip.protocol,
        pointer: ip.protocol_pointer,
        offset: ip.header.len(),
    };
    let ip = walk(ip, packet, start)?;
    if ip.fragment.is_some() {
        // A fragment inside of a fragment: no sender makes that (RFC 8200 4.5 cuts a packet once).
        return Err(DropReason::Fragment.into());
    }
    Ok(ip)
}

fn parse_v4(packet: &mut Packet, arrival: Arrival) -> Result<IpPacket, Refusal> {
    let first = packet.contiguous().first().copied().unwrap_or(0);
    if !packet.pull_up(usize::from(first & 0x0f) * 4) {
        return Err(DropReason::Malformed.into());
    }
    let octets = packet.contiguous();
    let (header, header_len) = ipv4::Header::parse(octets).map_err(unreadable)?;
    let total_len = usize::from(header.total_len);
    if let Some(plain) = octets.first_chunk::<{ ipv4::HEADER_LEN }>()
        && header.options.is_empty()
        && !header.is_fragment()
    {
        let plain = *plain;
        trim(packet, total_len)?;
        screen_v4(header.source, header.destination, arrival)?;
        packet.advance(header_len);
        return Ok(IpPacket::of_v4(&header, &plain));
    }
    let ip = IpPacket::of_v4(&header, &octets[..header_len]);
    trim(packet, total_len)?;
    screen_v4(header.source, header.destination, arrival)?;
    packet.advance(header_len);
    finish_v4(ip, &header, packet)
}

/// What has options, or is a fragment.
#[inline(never)]
fn finish_v4(
    mut ip: IpPacket,
    header: &ipv4::Header,
    packet: &Packet,
) -> Result<IpPacket, Refusal> {
    if !header.options.is_empty() {
        ip.return_route = check_options(&ip, &header.options)?;
    }
    if let Some(fragment) = ip.fragment {
        let end = usize::from(fragment.offset) + packet.len();
        // RFC 791 3.2 cuts at 8 octets, and no packet is longer than 65,535.
        let whole = ip.header.len() + end;
        if (fragment.more && !packet.len().is_multiple_of(8)) || whole > MAX_PACKET_LEN {
            return Err(DropReason::Fragment.into());
        }
    }
    Ok(ip)
}

fn parse_v6(packet: &mut Packet, arrival: Arrival) -> Result<IpPacket, Refusal> {
    if !packet.pull_up(ipv6::HEADER_LEN) {
        return Err(DropReason::Malformed.into());
    }
    let octets = packet.contiguous();
    let (header, header_len) = ipv6::Header::parse(octets).map_err(unreadable)?;
    let ip = IpPacket::of_v6(&header, &octets[..header_len]);
    // A jumbogram (RFC 2675) has a length of 0 here, so nothing is left of it and its option is cut short.
    trim(packet, header_len + usize::from(header.payload_len))?;
    screen_v6(header.source, header.destination, arrival)?;
    packet.advance(header_len);
    walk(ip, packet, extension::Start::behind(&header))
}

/// Takes extension headers off `packet`, which begins at `start`.
fn walk(
    mut ip: IpPacket,
    packet: &mut Packet,
    start: extension::Start,
) -> Result<IpPacket, Refusal> {
    match start.next_header {
        protocol::HOP_BY_HOP
        | protocol::DESTINATION_OPTIONS
        | protocol::ROUTING
        | protocol::FRAGMENT => {}
        protocol::NO_NEXT_HEADER => return Err(DropReason::UnknownProtocol.into()),
        _ => return Ok(ip),
    }
    packet.pull_up(packet.len());
    let octets = packet.contiguous();
    let chain = match extension::walk(start, octets) {
        Ok(chain) => chain,
        Err(error) => {
            let tell = |problem| answer(ip, problem, DropReason::Malformed);
            return Err(refuse_chain(error, tell));
        }
    };
    let has_fragment_header = chain.fragment.is_some() || {
        let headers = &octets[..chain.len];
        skip_headers(start.next_header, headers).any(|(kind, _)| kind == protocol::FRAGMENT)
    };
    ip.was_fragmented |= has_fragment_header;
    ip.header.extend_from_slice(&octets[..chain.len]);
    ip.protocol = chain.protocol;
    ip.protocol_pointer = chain.pointer;
    packet.advance(chain.len);
    match chain.fragment {
        Some(fragment) => accept_fragment_v6(ip, packet, &fragment),
        None if chain.protocol == protocol::NO_NEXT_HEADER => {
            Err(DropReason::UnknownProtocol.into())
        }
        None => Ok(ip),
    }
}

/// What a fragment must fulfil by itself (RFC 8200 4.5, RFC 7112 5).
fn accept_fragment_v6(
    mut ip: IpPacket,
    packet: &Packet,
    fragment: &fragment::Fragment,
) -> Result<IpPacket, Refusal> {
    let fragment_header = ip.header.len() - fragment::HEADER_LEN;
    let per_fragment_len = fragment_header - ipv6::HEADER_LEN;
    let end = usize::from(fragment.offset) + packet.len();
    ip.fragment = Some(FragmentInfo {
        identification: fragment.identification,
        offset: fragment.offset,
        more: fragment.more,
    });
    let is_complete = || extension::holds_header_chain(fragment.next_header, packet.contiguous());
    let (code, pointer) = if fragment.more && !packet.len().is_multiple_of(8) {
        (parameter_problem::ERRONEOUS_FIELD, PAYLOAD_LEN_POINTER_V6)
    } else if per_fragment_len + end > MAX_PACKET_LEN {
        (parameter_problem::ERRONEOUS_FIELD, fragment_header + 2)
    } else if fragment.offset == 0 && !is_complete() {
        (parameter_problem::INCOMPLETE_HEADER_CHAIN, 0)
    } else {
        return Ok(ip);
    };
    let problem = Problem::ParameterProblem {
        code,
        pointer: pointer as u32,
        to_multicast: false,
    };
    Err(answer(ip, problem, DropReason::Fragment))
}

/// The extension headers in `octets`, of which the first is of kind `next_header`: each with its kind and where the
/// octet stands that names what follows it. For headers that [`extension::walk`] has accepted.
pub(super) fn skip_headers(next_header: u8, octets: &[u8]) -> impl Iterator<Item = (u8, usize)> {
    let mut kind = next_header;
    let mut position = 0;
    std::iter::from_fn(move || {
        let header = octets.get(position..).filter(|rest| rest.len() >= 8)?;
        let item = (kind, position);
        kind = header[0];
        let units = if item.0 == protocol::FRAGMENT {
            0
        } else {
            header[1]
        };
        position += (usize::from(units) + 1) * 8;
        Some(item)
    })
}

/// Cuts link padding off; a packet shorter than its header says was cut short on the way.
pub(super) fn trim(packet: &mut Packet, len: usize) -> Result<(), DropReason> {
    match packet.len() {
        have if have < len => return Err(DropReason::Malformed),
        have if have > len => packet.truncate(len),
        _ => {}
    }
    Ok(())
}

/// RFC 1122 3.2.1.3, RFC 1812 5.3.7: addresses that no packet may carry there.
pub(super) fn screen_v4(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    arrival: Arrival,
) -> Result<(), DropReason> {
    let has_group = destination.is_broadcast() || destination.is_multicast();
    let is_this_network = |address: Ipv4Addr| address.octets()[0] == 0;
    // A host that has no address yet asks for one by broadcast (RFC 2131 4.1), and reports groups (RFC 3376 4.2.13).
    let is_nameless = source.is_unspecified() && has_group;
    if source.is_multicast()
        || source.is_broadcast()
        || (is_this_network(source) && !is_nameless)
        || (source.is_loopback() && arrival == Arrival::Wire)
    {
        return Err(DropReason::BadSource);
    }
    if is_this_network(destination) || (destination.is_loopback() && arrival == Arrival::Wire) {
        return Err(DropReason::NotForUs);
    }
    Ok(())
}

/// RFC 4291 2.5.2, 2.5.3, 2.7: addresses that no packet may carry there.
pub(super) fn screen_v6(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    arrival: Arrival,
) -> Result<(), DropReason> {
    // An IPv4-mapped source on the wire would pass for an IPv4 peer behind any filter of those (RFC 4942 2.2); Linux
    // drops it too.
    if source.is_multicast()
        || (arrival == Arrival::Wire && (source.is_loopback() || is_v4_mapped(source)))
    {
        return Err(DropReason::BadSource);
    }
    // Scopes 0 and 1 never leave an interface.
    let stays_inside = destination.is_loopback()
        || is_v4_mapped(destination)
        || (destination.is_multicast() && destination.octets()[1] & 0x0f <= 1);
    if destination.is_unspecified() || (arrival == Arrival::Wire && stays_inside) {
        return Err(DropReason::NotForUs);
    }
    Ok(())
}

fn is_v4_mapped(address: Ipv6Addr) -> bool {
    address.to_ipv4_mapped().is_some()
}

/// IPv4 options are skipped (RFC 1122 3.2.1.8), but for source routes, whose way back is given, or which are refused if they
/// lead on to others, and nonsense, which is told to the sender (3.2.2.5).
fn check_options(
    ip: &IpPacket,
    options: &ipv4::Options,
) -> Result<Option<Box<ReturnRoute>>, Refusal> {
    if let Some(malformed) = options.iter().find_map(Result::err) {
        let problem = Problem::ParameterProblem {
            code: 0,
            pointer: malformed.pointer.into(),
            to_multicast: false,
        };
        return Err(answer(ip.clone(), problem, DropReason::Malformed));
    }
    match ReceivedRoute::of(options) {
        None => Ok(None),
        Some(ReceivedRoute::Completed(back)) => Ok(Some(Box::new(ReturnRoute(back)))),
        Some(ReceivedRoute::Unfinished) => Err(DropReason::BadSource.into()),
    }
}

pub(super) fn answer(ip: IpPacket, problem: Problem, reason: DropReason) -> Refusal {
    Refusal::Answer(Box::new(Answer {
        ip,
        problem,
        reason,
    }))
}

/// What becomes of a packet whose extension headers are wrong; `tell` makes the answer to its sender.
pub(super) fn refuse_chain(error: ChainError, tell: impl FnOnce(Problem) -> Refusal) -> Refusal {
    match error {
        ChainError::Discard(error) => unreadable(error).into(),
        ChainError::ParameterProblem {
            code,
            pointer,
            to_multicast,
        } => tell(Problem::ParameterProblem {
            code,
            pointer: pointer as u32,
            to_multicast,
        }),
    }
}

pub(super) fn unreadable(error: ParseError) -> DropReason {
    match error {
        ParseError::Checksum => DropReason::Checksum,
        ParseError::Truncated | ParseError::Malformed => DropReason::Malformed,
    }
}

/// The most that the length fields can say, in octets.
pub(super) const MAX_PACKET_LEN: usize = 65_535;
/// Where the IPv4 header names the protocol.
const PROTOCOL_POINTER_V4: usize = 9;
/// Where the IPv6 header has its payload length and its next header.
const PAYLOAD_LEN_POINTER_V6: usize = 4;
pub(super) const PROTOCOL_POINTER_V6: usize = 6;

#[cfg(test)]
mod tests;
