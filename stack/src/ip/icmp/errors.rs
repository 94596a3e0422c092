//! ICMP errors: telling others what was wrong with their packets, and understanding what they say of ours (RFC 792,
//! RFC 1122 3.2.2, RFC 1812 4.3.2, RFC 4443 2.4, 3).
//!
//! Owned here: when an error may be sent, what it quotes, what a received one means. Left to others: how many leave
//! ([`super::rate_limit`]), and whether a received one is about a connection that exists (RFC 5927).

use std::net::{IpAddr, Ipv4Addr};

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use tidewire_netdev::Packet;

use crate::error::SocketError;
use crate::ip::address::AddressClass;
use crate::ip::icmp::{Outgoing, Responder, fill_checksum};
use crate::ip::input::IpPacket;
use crate::ip::output::OutputHeader;
use crate::ip::path_mtu::too_big_mtu;
use crate::stats::DropReason;
use crate::transport::IcmpError;
use crate::wire::{icmpv4, icmpv6, ipv4, ipv6, protocol};

/// What is wrong with a packet, in words of neither IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// No socket has the port.
    PortUnreachable,
    /// Nobody speaks the transport protocol. In ICMPv6 a parameter problem about the Next Header field.
    ProtocolUnreachable,
    /// A host or its link-layer address cannot be reached.
    HostUnreachable,
    /// No route.
    NetworkUnreachable,
    /// Policy forbids it.
    Prohibited,
    /// It would have to leave the link that its source address means something on. IPv6's alone.
    BeyondScope,
    /// Nothing: it went on, but another first hop on its sender's link is nearer (RFC 792, RFC 1812 5.2.7.2). IPv4's alone;
    /// IPv6's redirects are of neighbour discovery.
    Redirect {
        /// The nearer one.
        gateway: Ipv4Addr,
    },
    /// Too long for the next link.
    PacketTooBig {
        /// The link's MTU in octets.
        mtu: u32,
    },
    /// The hop limit ran out.
    HopLimitExceeded,
    /// Not all fragments came in time.
    ReassemblyTimeExceeded,
    /// A field has a wrong value.
    ParameterProblem {
        /// The code; those of ICMPv6 are in [`icmpv6::parameter_problem`].
        code: u8,
        /// The octet at fault, counted from the IP header's first.
        pointer: u32,
        /// To be told even if the packet was for a group (RFC 4443 2.4 (e.3)).
        to_multicast: bool,
    },
}

impl Problem {
    fn message_v4(self) -> Option<icmpv4::Message> {
        use icmpv4::{Message, time_exceeded, unreachable};
        let (code, next_hop_mtu) = match self {
            Self::HopLimitExceeded => {
                return Some(Message::TimeExceeded {
                    code: time_exceeded::TTL,
                });
            }
            Self::ReassemblyTimeExceeded => {
                return Some(Message::TimeExceeded {
                    code: time_exceeded::REASSEMBLY,
                });
            }
            Self::ParameterProblem { code, pointer, .. } => {
                return Some(Message::ParameterProblem {
                    code,
                    pointer: pointer as u8,
                });
            }
            Self::Redirect { gateway } => {
                return Some(Message::Other {
                    kind: icmpv4::kind::REDIRECT,
                    code: icmpv4::REDIRECT_HOST,
                    rest: gateway.octets(),
                });
            }
            Self::BeyondScope => return None,
            Self::PortUnreachable => (unreachable::PORT, 0),
            Self::ProtocolUnreachable => (unreachable::PROTOCOL, 0),
            Self::HostUnreachable => (unreachable::HOST, 0),
            Self::NetworkUnreachable => (unreachable::NETWORK, 0),
            Self::Prohibited => (unreachable::ADMINISTRATIVELY_PROHIBITED, 0),
            Self::PacketTooBig { mtu } => (
                unreachable::FRAGMENTATION_NEEDED,
                u16::try_from(mtu).unwrap_or(u16::MAX),
            ),
        };
        Some(Message::DestinationUnreachable { code, next_hop_mtu })
    }

    fn message_v6(self, ip: &IpPacket) -> Option<icmpv6::Message> {
        use icmpv6::{Message, parameter_problem, time_exceeded, unreachable};
        let code = match self {
            Self::HopLimitExceeded => {
                return Some(Message::TimeExceeded {
                    code: time_exceeded::HOP_LIMIT,
                });
            }
            Self::ReassemblyTimeExceeded => {
                return Some(Message::TimeExceeded {
                    code: time_exceeded::REASSEMBLY,
                });
            }
            Self::ParameterProblem { code, pointer, .. } => {
                return Some(Message::ParameterProblem { code, pointer });
            }
            Self::ProtocolUnreachable => {
                return Some(Message::ParameterProblem {
                    code: parameter_problem::UNRECOGNIZED_NEXT_HEADER,
                    pointer: ip.protocol_pointer as u32,
                });
            }
            Self::PacketTooBig { mtu } => return Some(Message::PacketTooBig { mtu }),
            Self::Redirect { .. } => return None,
            Self::PortUnreachable => unreachable::PORT,
            Self::HostUnreachable => unreachable::ADDRESS,
            Self::NetworkUnreachable => unreachable::NO_ROUTE,
            Self::Prohibited => unreachable::ADMINISTRATIVELY_PROHIBITED,
            Self::BeyondScope => unreachable::BEYOND_SCOPE,
        };
        Some(Message::DestinationUnreachable { code })
    }

    /// RFC 4443 2.4 (e.3): these two are sent even when the packet was for a group.
    const fn is_for_multicast(self) -> bool {
        match self {
            Self::PacketTooBig { .. } => true,
            Self::ParameterProblem { to_multicast, .. } => to_multicast,
            _ => false,
        }
    }
}

/// The ICMP error that tells the sender of a packet about `problem`: `packet` begins behind [`IpPacket::header`]. It
/// quotes as much as fits into 576 octets (RFC 1812 4.3.2.3) or 1280 (RFC 4443 2.4 (c)), copied.
///
/// `None` where none may be sent: about an ICMP error, a packet for several hosts, a later fragment of IPv4, or from a
/// source that is not one host (RFC 1122 3.2.2, RFC 4443 2.4 (e)).
pub fn build(
    problem: Problem,
    ip: &IpPacket,
    packet: &Packet,
    responder: &Responder<'_>,
) -> Option<Outgoing> {
    let may_answer = if ip.is_ipv6() {
        may_answer_v6(problem, ip, packet, responder)
    } else {
        may_answer_v4(ip, packet, responder)
    };
    if !may_answer {
        return None;
    }
    // RFC 1122 3.2.1.3, RFC 4443 2.2 (a): from the address that the packet was for.
    let source = match responder.addresses.is_own(ip.destination) {
        true => ip.destination,
        false => responder.fallback_source?,
    };
    let mut message = Packet::from_bytes(quote(ip, packet));
    let area = message.prepend(icmpv4::HEADER_LEN);
    let (protocol, traffic_class) = match source {
        IpAddr::V4(_) => {
            problem.message_v4()?.emit(area);
            // RFC 1812 4.3.2.5: precedence 6 with the packet's TOS, as Linux.
            (protocol::ICMPV4, ip.traffic_class & 0x1c | 0xc0)
        }
        IpAddr::V6(_) => {
            problem.message_v6(ip)?.emit(area);
            (protocol::ICMPV6, 0)
        }
    };
    fill_checksum(source, ip.source, &mut message);
    let header = OutputHeader {
        traffic_class,
        dont_fragment: false,
        ..OutputHeader::new(source, ip.source, protocol)
    };
    Some(Outgoing {
        header,
        packet: message,
    })
}

/// RFC 1122 3.2.2.
fn may_answer_v4(ip: &IpPacket, packet: &Packet, responder: &Responder<'_>) -> bool {
    let destination = responder.addresses.classify(ip.destination);
    let is_for_several = matches!(
        destination,
        AddressClass::Broadcast | AddressClass::Multicast
    );
    let is_later_fragment = ip.fragment.is_some_and(|fragment| fragment.offset != 0);
    // Class E addresses are no host's (RFC 1122 3.2.2).
    let is_reserved = matches!(ip.source, IpAddr::V4(v4) if v4.octets()[0] >= 240);
    let is_error = || {
        ip.protocol == protocol::ICMPV4
            && first_octets(packet).is_none_or(|octets| {
                icmpv4::Message::parse(&octets).is_ok_and(|(message, _)| message.is_error())
            })
    };
    !is_for_several
        && !responder.is_link_broadcast
        && !is_later_fragment
        && !is_reserved
        && responder.can_answer_to(ip.source)
        && !is_error()
}

/// RFC 4443 2.4 (e).
fn may_answer_v6(
    problem: Problem,
    ip: &IpPacket,
    packet: &Packet,
    responder: &Responder<'_>,
) -> bool {
    let is_for_several = ip.destination.is_multicast() || responder.is_link_broadcast;
    // Behind the header of a later fragment is no ICMP header.
    let is_later_fragment = ip.fragment.is_some_and(|fragment| fragment.offset != 0);
    let is_error = || {
        !is_later_fragment
            && upper_layer(ip.protocol, packet.contiguous()).is_some_and(|(protocol, octets)| {
                // (e.1) errors, (e.2) redirects; a message cut off before its type is taken for one.
                protocol == protocol::ICMPV6
                    && octets
                        .first()
                        .is_none_or(|&kind| kind < 128 || kind == icmpv6::kind::REDIRECT)
            })
    };
    (!is_for_several || problem.is_for_multicast())
        && responder.can_answer_to(ip.source)
        && !is_error()
}

/// The transport behind extension headers that nobody has checked, with what is left of the packet from there on;
/// `None` if it is not within `octets`, or behind the header of a later fragment.
fn upper_layer(next_header: u8, octets: &[u8]) -> Option<(u8, &[u8])> {
    let mut next_header = next_header;
    let mut rest = octets;
    loop {
        let len = match next_header {
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS => {
                (usize::from(*rest.get(1)?) + 1) * 8
            }
            protocol::FRAGMENT => {
                let (fragment, len) = ipv6::fragment::Fragment::parse(rest).ok()?;
                if fragment.offset != 0 {
                    return None;
                }
                len
            }
            _ => return Some((next_header, rest)),
        };
        next_header = *rest.first()?;
        rest = rest.get(len..)?;
    }
}

fn first_octets(packet: &Packet) -> Option<[u8; icmpv4::HEADER_LEN]> {
    let mut octets = [0; icmpv4::HEADER_LEN];
    let available = packet.slices().flatten().copied();
    let count = octets
        .iter_mut()
        .zip(available)
        .map(|(to, from)| *to = from)
        .count();
    (count == octets.len()).then_some(octets)
}

/// The packet from its IP header on, as far as it fits.
fn quote(ip: &IpPacket, packet: &Packet) -> Bytes {
    let limit = if ip.is_ipv6() {
        MAX_ERROR_V6 - ipv6::HEADER_LEN - icmpv6::HEADER_LEN
    } else {
        MAX_ERROR_V4 - ipv4::HEADER_LEN - icmpv4::HEADER_LEN
    };
    let mut quote = BytesMut::with_capacity(limit.min(ip.header.len() + packet.len()));
    for slice in std::iter::once(ip.header()).chain(packet.slices()) {
        let room = limit - quote.len();
        quote.extend_from_slice(&slice[..slice.len().min(room)]);
    }
    quote.freeze()
}

/// The longest ICMP error with its IP header (RFC 1812 4.3.2.3: as much as possible up to 576).
const MAX_ERROR_V4: usize = 576;
/// The longest ICMPv6 error with its IP header (RFC 4443 2.4 (c): up to the minimum IPv6 MTU).
const MAX_ERROR_V6: usize = 1280;

/// What somebody says of a packet of ours, which it quotes.
///
/// Anybody can say anything: what is quoted must be checked against what was sent (RFC 5927).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedError {
    /// What it means for a transport.
    pub error: IcmpError,
    /// Source of the quoted packet: this host, if it is true.
    pub source: IpAddr,
    /// Destination of the quoted packet; the final one, if it went by a source route.
    pub destination: IpAddr,
    /// Transport protocol of the quoted packet.
    pub protocol: u8,
    /// The beginning of its transport header: 8 to [`MAX_QUOTED_TRANSPORT`] octets.
    pub transport: SmallVec<[u8; MAX_QUOTED_TRANSPORT]>,
}

/// How much of the quoted transport header is kept, in octets: what SCTP's rules need, which look at an INIT's tag
/// (RFC 9260 10).
pub const MAX_QUOTED_TRANSPORT: usize = 32;

impl ReceivedError {
    /// Ports of the quoted packet, its source's (ours) first; for TCP, UDP and SCTP.
    pub fn ports(&self) -> (u16, u16) {
        let port = |at: usize| {
            let octets = [self.transport.get(at), self.transport.get(at + 1)];
            u16::from_be_bytes(octets.map(|octet| octet.copied().unwrap_or(0)))
        };
        (port(0), port(2))
    }

    /// Octets 4 to 7 of the quoted transport header: TCP's sequence number, SCTP's verification tag, ICMP's echo
    /// identifier and sequence number.
    pub fn second_word(&self) -> u32 {
        let octet = |at: usize| self.transport.get(at).copied().unwrap_or(0);
        u32::from_be_bytes([octet(4), octet(5), octet(6), octet(7)])
    }
}

/// What a router says of packets of ours to one destination, of which it quotes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedRedirect {
    /// The first hop that packets to the destination are to take.
    pub gateway: Ipv4Addr,
    /// Source of the quoted packet: this host, if it is true.
    pub source: IpAddr,
    /// Destination of the quoted packet.
    pub destination: IpAddr,
}

/// What an ICMP error means: `packet` begins with it, and `message` is its front.
///
/// # Errors
/// [`DropReason::BadIcmp`] if it quotes no packet, too little of one, a later fragment, or is of a kind to ignore.
pub(super) fn parse_received_v4(
    message: &icmpv4::Message,
    packet: &mut Packet,
) -> Result<ReceivedError, DropReason> {
    packet.pull_up(packet.len());
    let quoted = Quoted::parse_v4(original(packet, 5, 4)).ok_or(DropReason::BadIcmp)?;
    let error = match *message {
        icmpv4::Message::DestinationUnreachable { code, next_hop_mtu } => {
            unreachable_v4(code, next_hop_mtu, quoted.packet_len)
        }
        icmpv4::Message::TimeExceeded { .. } => {
            Some(IcmpError::Unreachable(SocketError::HostUnreachable))
        }
        icmpv4::Message::ParameterProblem { .. } => Some(IcmpError::Refused(SocketError::Protocol)),
        _ => None,
    };
    quoted.received(error)
}

/// The same for ICMPv6.
pub(super) fn parse_received_v6(
    message: &icmpv6::Message,
    packet: &mut Packet,
) -> Result<ReceivedError, DropReason> {
    packet.pull_up(packet.len());
    let body = match *message {
        icmpv6::Message::DestinationUnreachable { .. } | icmpv6::Message::TimeExceeded { .. } => {
            original(packet, 4, 8)
        }
        // Octet 4 is the MTU's or the pointer's.
        _ => packet.contiguous().get(icmpv6::HEADER_LEN..).unwrap_or(&[]),
    };
    let quoted = Quoted::parse_v6(body).ok_or(DropReason::BadIcmp)?;
    let error = match *message {
        icmpv6::Message::DestinationUnreachable { code } => Some(unreachable_v6(code)),
        icmpv6::Message::PacketTooBig { mtu } => too_big(true, mtu, quoted.packet_len),
        icmpv6::Message::TimeExceeded { .. } => {
            Some(IcmpError::Unreachable(SocketError::HostUnreachable))
        }
        icmpv6::Message::ParameterProblem { .. } => Some(IcmpError::Refused(SocketError::Protocol)),
        _ => None,
    };
    quoted.received(error)
}

/// The redirect that `packet` begins with.
///
/// # Errors
/// [`DropReason::BadIcmp`] if it quotes no packet.
pub(super) fn parse_redirect(
    gateway: Ipv4Addr,
    packet: &mut Packet,
) -> Result<ReceivedRedirect, DropReason> {
    packet.pull_up(packet.len());
    let body = packet.contiguous().get(icmpv4::HEADER_LEN..).unwrap_or(&[]);
    let quoted = Quoted::parse_v4(body).ok_or(DropReason::BadIcmp)?;
    Ok(ReceivedRedirect {
        gateway,
        source: quoted.source,
        destination: quoted.destination,
    })
}

/// The quoted packet, without the extension structure behind it: the octet at `length_at` counts it in units of so many
/// octets (RFC 4884 4). Shorter than 128 octets (3) it is no such length, but what old routers left there.
fn original(packet: &Packet, length_at: usize, unit: usize) -> &[u8] {
    let octets = packet.contiguous();
    let body = octets.get(icmpv4::HEADER_LEN..).unwrap_or(&[]);
    let length = octets
        .get(length_at)
        .map_or(0, |units| usize::from(*units) * unit);
    match body.get(..length) {
        Some(original) if length >= MIN_EXTENDED_ORIGINAL => original,
        _ => body,
    }
}

/// Octets that are quoted, at least, where extensions follow (RFC 4884 3).
const MIN_EXTENDED_ORIGINAL: usize = 128;

/// RFC 1122 3.2.2.1 and 4.2.3.9, with the errors that Linux gives (its `icmp_err_convert`); EHOSTDOWN and ENONET, which
/// no other path produces, are EHOSTUNREACH here.
fn unreachable_v4(code: u8, next_hop_mtu: u16, packet_len: usize) -> Option<IcmpError> {
    use IcmpError::{Refused, Unreachable};
    use icmpv4::unreachable as codes;
    Some(match code {
        codes::NETWORK | codes::NETWORK_TOS => Unreachable(SocketError::NetworkUnreachable),
        codes::HOST | codes::HOST_TOS => Unreachable(SocketError::HostUnreachable),
        codes::PROTOCOL => Refused(SocketError::ProtocolUnreachable),
        codes::PORT => Refused(SocketError::ConnectionRefused),
        codes::FRAGMENTATION_NEEDED => return too_big(false, next_hop_mtu.into(), packet_len),
        codes::SOURCE_ROUTE_FAILED => Unreachable(SocketError::NotSupported),
        codes::NETWORK_UNKNOWN | codes::NETWORK_PROHIBITED => {
            Refused(SocketError::NetworkUnreachable)
        }
        codes::HOST_UNKNOWN
        | codes::SOURCE_ISOLATED
        | codes::HOST_PROHIBITED
        | codes::ADMINISTRATIVELY_PROHIBITED
        | codes::HOST_PRECEDENCE_VIOLATION
        | codes::PRECEDENCE_CUTOFF => Refused(SocketError::HostUnreachable),
        _ => return None,
    })
}

/// RFC 4443 3.1, with the errors that Linux gives (its `icmpv6_err_convert`).
fn unreachable_v6(code: u8) -> IcmpError {
    use IcmpError::{Refused, Unreachable};
    use icmpv6::unreachable as codes;
    match code {
        codes::NO_ROUTE => Unreachable(SocketError::NetworkUnreachable),
        codes::BEYOND_SCOPE | codes::ADDRESS => Unreachable(SocketError::HostUnreachable),
        codes::PORT => Refused(SocketError::ConnectionRefused),
        codes::ADMINISTRATIVELY_PROHIBITED | codes::SOURCE_POLICY | codes::REJECT_ROUTE => {
            Refused(SocketError::PermissionDenied)
        }
        _ => Refused(SocketError::Protocol),
    }
}

fn too_big(is_ipv6: bool, reported: u32, packet_len: usize) -> Option<IcmpError> {
    too_big_mtu(is_ipv6, reported, packet_len).map(|mtu| IcmpError::PacketTooBig { mtu })
}

/// The front of a packet in the body of an ICMP error.
struct Quoted<'a> {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    /// Its length as its header says, in octets.
    packet_len: usize,
    transport: &'a [u8],
}

impl<'a> Quoted<'a> {
    /// Not [`ipv4::Header::parse`]: routers have been seen to quote what they changed, with the old checksum.
    fn parse_v4(octets: &'a [u8]) -> Option<Self> {
        let header: &[u8; ipv4::HEADER_LEN] = octets.first_chunk()?;
        let header_len = usize::from(header[0] & 0x0f) * 4;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let address = |at: usize| {
            Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]).into()
        };
        // Behind the header of a later fragment is no transport header.
        let is_later_fragment = word(6) & 0x1fff != 0;
        if header[0] >> 4 != 4 || header_len < ipv4::HEADER_LEN || is_later_fragment {
            return None;
        }
        let options = octets.get(ipv4::HEADER_LEN..header_len)?;
        let destination = ipv4::final_destination(options).map_or_else(|| address(16), IpAddr::V4);
        Some(Self {
            source: address(12),
            destination,
            protocol: header[9],
            packet_len: word(2).into(),
            transport: octets.get(header_len..)?,
        })
    }

    fn parse_v6(octets: &'a [u8]) -> Option<Self> {
        let (header, header_len) = ipv6::Header::parse(octets).ok()?;
        let (protocol, transport) = upper_layer(header.next_header, &octets[header_len..])?;
        Some(Self {
            source: header.source.into(),
            destination: header.destination.into(),
            protocol,
            packet_len: header_len + usize::from(header.payload_len),
            transport,
        })
    }

    /// RFC 792 and RFC 4443 quote at least 8 octets behind the IP header; with fewer nothing can be told.
    fn received(self, error: Option<IcmpError>) -> Result<ReceivedError, DropReason> {
        let error = error.ok_or(DropReason::BadIcmp)?;
        if self.transport.len() < MIN_QUOTED_TRANSPORT {
            return Err(DropReason::BadIcmp);
        }
        let kept = self.transport.len().min(MAX_QUOTED_TRANSPORT);
        Ok(ReceivedError {
            error,
            source: self.source,
            destination: self.destination,
            protocol: self.protocol,
            transport: SmallVec::from_slice(&self.transport[..kept]),
        })
    }
}

const MIN_QUOTED_TRANSPORT: usize = 8;

#[cfg(test)]
mod tests;
