//! ARP packets: what is built, and what received ones do to the cache (RFC 826, RFC 5227).
//!
//! Whom to believe is Linux's rule (`arp_accept` 0): a packet changes what is known of a neighbour only if the
//! neighbour is known already, or asks for one of our addresses.

use std::net::Ipv4Addr;

use tidewire_netdev::{MacAddress, Packet};

use crate::link::ethernet::{self, LinkProtocol};
use crate::wire::arp::{Message, Operation};

/// What is to be done about a received ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArpVerdict {
    /// Nothing more.
    Nothing,
    /// It asked for an address of ours: this goes to its sender, in a frame to [`Message::target_hardware`].
    Reply(Message),
    /// Its sender has an address of ours (RFC 5227 2.4); nothing was learnt from it. For `ip::autoconf`.
    Conflict(Ipv4Addr),
}

/// Who has `target`? A question of `source`, which is at `ours` (RFC 826).
pub const fn request(ours: MacAddress, source: Ipv4Addr, target: Ipv4Addr) -> Message {
    Message {
        operation: Operation::Request,
        sender_hardware: ours,
        sender_protocol: source,
        target_hardware: NOBODY,
        target_protocol: target,
    }
}

/// The answer to `request`, whose target is ours (RFC 826: swap the sender and the target).
pub const fn reply(ours: MacAddress, request: &Message) -> Message {
    Message {
        operation: Operation::Reply,
        sender_hardware: ours,
        sender_protocol: request.target_protocol,
        target_hardware: request.sender_hardware,
        target_protocol: request.sender_protocol,
    }
}

/// Does anybody have `address` already? (RFC 5227 2.1.1)
pub const fn probe(ours: MacAddress, address: Ipv4Addr) -> Message {
    request(ours, Ipv4Addr::UNSPECIFIED, address)
}

/// This host has `address`: a request for itself (RFC 5227 2.3).
pub const fn announcement(ours: MacAddress, address: Ipv4Addr) -> Message {
    request(ours, address, address)
}

/// A frame with an ARP packet, or one of RARP if its operation is.
pub fn frame(message: &Message, source: MacAddress, destination: MacAddress) -> Packet {
    let mut packet = Packet::new();
    message.emit(packet.prepend(message.encoded_len()));
    let protocol = if message.operation.is_reverse() {
        LinkProtocol::Rarp
    } else {
        LinkProtocol::Arp
    };
    ethernet::prepend(&mut packet, source, destination, protocol);
    packet
}

/// The target's hardware address where none is known: RFC 5227 2.1.1 would have zeroes.
const NOBODY: MacAddress = MacAddress([0; 6]);
