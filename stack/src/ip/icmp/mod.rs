//! ICMP for both IP versions: received messages, echo replies, errors to others (RFC 792, RFC 1122 3.2.2, RFC 4443).
//!
//! Owned here: checksums, what a message means, what is answered. Left to others: the header layout (`wire`), which
//! socket an error is for and whether its sequence number could be ours (RFC 5927), neighbour discovery and groups.

pub mod echo;
pub mod errors;
pub mod rate_limit;

use std::net::IpAddr;

use tidewire_netdev::checksum::{Sum, pseudo_header_v6, sum_packet};
use tidewire_netdev::{Checksum, Packet};

use crate::ip::address::{AddressClass, AddressTable};
use crate::ip::input::IpPacket;
use crate::ip::output::OutputHeader;
use crate::stats::DropReason;
use crate::wire::{icmpv4, icmpv6, protocol};

pub use errors::{Problem, ReceivedError, ReceivedRedirect};

/// A received ICMP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// For [`echo::reply`].
    EchoRequest(Echo),
    /// The answer to a request of ours.
    EchoReply(Echo),
    /// An error about a packet of ours, or so it says.
    Error(ReceivedError),
    /// A router knows a better first hop (RFC 792, RFC 1122 3.2.2.2); IPv6's are of neighbour discovery.
    Redirect(ReceivedRedirect),
    /// Any other message of ICMP for IPv4.
    OtherV4(icmpv4::Message),
    /// Any other message of ICMPv6, such as neighbour discovery and multicast listener discovery.
    OtherV6(icmpv6::Message),
}

/// What an echo message says besides its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Tells apart those who ask.
    pub identifier: u16,
    /// Tells apart the requests.
    pub sequence: u16,
}

/// An ICMP message to send: complete but for its IP header, which the caller puts in front once it has a route.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The IP header; its identification is left to the caller.
    pub header: OutputHeader,
    /// The message, its checksum filled in.
    pub packet: Packet,
}

/// Who answers, and under which circumstances.
#[derive(Clone, Copy, Debug)]
pub struct Responder<'a> {
    /// The host's addresses.
    pub addresses: &'a AddressTable,
    /// The source address for answers to packets that were not for one address of the host, as
    /// [`super::source_address::select`] gives it. Without one those get no answer.
    pub fallback_source: Option<IpAddr>,
    /// The packet was for several hosts by its link-layer address (RFC 1122 3.2.2).
    pub is_link_broadcast: bool,
}

impl Responder<'_> {
    /// Whether `source` is one host that can be answered (RFC 1122 3.2.2, RFC 4443 2.4 (e.6)).
    fn can_answer_to(&self, source: IpAddr) -> bool {
        !matches!(
            self.addresses.classify(source),
            AddressClass::Unspecified | AddressClass::Broadcast | AddressClass::Multicast
        )
    }
}

/// Reads the ICMP message that `packet` begins with.
///
/// # Errors
/// [`DropReason::Checksum`], [`DropReason::Malformed`] for a message cut short, [`DropReason::BadIcmp`] for an error
/// that quotes no packet of the same IP version or too little of it, or was for a group, [`DropReason::UnknownProtocol`] for ICMP in the
/// other IP version.
pub fn parse(ip: &IpPacket, packet: &mut Packet) -> Result<Message, DropReason> {
    let is_icmp = match ip.source {
        IpAddr::V4(_) => ip.protocol == protocol::ICMPV4,
        IpAddr::V6(_) => ip.protocol == protocol::ICMPV6,
    };
    if !is_icmp {
        return Err(DropReason::UnknownProtocol);
    }
    if !packet.pull_up(icmpv4::HEADER_LEN) {
        return Err(DropReason::Malformed);
    }
    if packet.offload.checksum == Checksum::Unverified && !has_valid_checksum(ip, packet) {
        return Err(DropReason::Checksum);
    }
    let message = if ip.is_ipv6() {
        parse_v6(packet)
    } else {
        parse_v4(packet)
    }?;
    // Nothing that a group was told of can be about a packet of this host alone.
    if matches!(message, Message::Error(_) | Message::Redirect(_)) && is_group(ip.destination) {
        return Err(DropReason::BadIcmp);
    }
    Ok(message)
}

fn is_group(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast(),
    }
}

fn parse_v4(packet: &mut Packet) -> Result<Message, DropReason> {
    use icmpv4::Message as Wire;
    let (message, _) = Wire::parse(packet.contiguous()).map_err(|_| DropReason::Malformed)?;
    match message {
        Wire::EchoRequest {
            identifier,
            sequence,
        } => Ok(Message::EchoRequest(Echo {
            identifier,
            sequence,
        })),
        Wire::EchoReply {
            identifier,
            sequence,
        } => Ok(Message::EchoReply(Echo {
            identifier,
            sequence,
        })),
        Wire::DestinationUnreachable { .. }
        | Wire::TimeExceeded { .. }
        | Wire::ParameterProblem { .. } => {
            errors::parse_received_v4(&message, packet).map(Message::Error)
        }
        Wire::Other {
            kind: icmpv4::kind::REDIRECT,
            code: 0..=icmpv4::REDIRECT_MAX_CODE,
            rest,
        } => errors::parse_redirect(rest.into(), packet).map(Message::Redirect),
        Wire::Other { .. } => Ok(Message::OtherV4(message)),
    }
}

fn parse_v6(packet: &mut Packet) -> Result<Message, DropReason> {
    use icmpv6::Message as Wire;
    let (message, _) = Wire::parse(packet.contiguous()).map_err(|_| DropReason::Malformed)?;
    match message {
        Wire::EchoRequest {
            identifier,
            sequence,
        } => Ok(Message::EchoRequest(Echo {
            identifier,
            sequence,
        })),
        Wire::EchoReply {
            identifier,
            sequence,
        } => Ok(Message::EchoReply(Echo {
            identifier,
            sequence,
        })),
        Wire::DestinationUnreachable { .. }
        | Wire::PacketTooBig { .. }
        | Wire::TimeExceeded { .. }
        | Wire::ParameterProblem { .. } => {
            errors::parse_received_v6(&message, packet).map(Message::Error)
        }
        // An unknown error message is for the transport that it quotes (RFC 4443 2.4 (a)); none here could use it.
        Wire::Other { .. } => Ok(Message::OtherV6(message)),
    }
}

/// ICMP for IPv4 covers the message alone, ICMPv6 a pseudo-header too (RFC 792, RFC 4443 2.3).
fn has_valid_checksum(ip: &IpPacket, packet: &Packet) -> bool {
    checksum(ip.source, ip.destination, packet) == 0
}

/// The checksum of the message in `packet`, whose field is 0 or, to verify, filled in.
fn checksum(source: IpAddr, destination: IpAddr, packet: &Packet) -> u16 {
    let mut sum = sum_packet(packet, 0);
    if let (IpAddr::V6(source), IpAddr::V6(destination)) = (source, destination) {
        let length = packet.len() as u32;
        let pseudo: Sum = pseudo_header_v6(source, destination, protocol::ICMPV6, length);
        let mut total = Sum::new();
        total.add_u16(pseudo.fold());
        total.add_u16(sum.fold());
        sum = total;
    }
    sum.finish()
}

/// Fills in the checksum of the message that `packet` begins with, whose field is 0 and lies in its head.
fn fill_checksum(source: IpAddr, destination: IpAddr, packet: &mut Packet) {
    let checksum = checksum(source, destination, packet);
    let field = icmpv4::CHECKSUM_OFFSET..icmpv4::CHECKSUM_OFFSET + 2;
    packet.head_mut()[field].copy_from_slice(&checksum.to_be_bytes());
    packet.offload = Default::default();
}
