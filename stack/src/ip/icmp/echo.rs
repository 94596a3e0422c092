//! Answers to ping (RFC 792, RFC 1122 3.2.2.6, RFC 4443 4.2).

use std::net::IpAddr;

use bytes::Bytes;
use tidewire_netdev::Packet;

use crate::ip::address::AddressClass;
use crate::ip::icmp::{Echo, Outgoing, Responder, fill_checksum};
use crate::ip::input::IpPacket;
use crate::ip::output::OutputHeader;
use crate::wire::{icmpv4, icmpv6, protocol};

/// An echo request with `payload`; the caller chooses the hop limit. It may be longer than the MTU.
pub fn request(source: IpAddr, destination: IpAddr, echo: Echo, payload: Bytes) -> Outgoing {
    let Echo {
        identifier,
        sequence,
    } = echo;
    let mut packet = Packet::new();
    packet.push(payload);
    let area = packet.prepend(icmpv4::HEADER_LEN);
    let protocol = match destination {
        IpAddr::V4(_) => {
            icmpv4::Message::EchoRequest {
                identifier,
                sequence,
            }
            .emit(area);
            protocol::ICMPV4
        }
        IpAddr::V6(_) => {
            icmpv6::Message::EchoRequest {
                identifier,
                sequence,
            }
            .emit(area);
            protocol::ICMPV6
        }
    };
    fill_checksum(source, destination, &mut packet);
    let header = OutputHeader {
        dont_fragment: false,
        ..OutputHeader::new(source, destination, protocol)
    };
    Outgoing { header, packet }
}

/// The reply to the echo request that `packet` begins with: the same data, shared with the request, from the address
/// that was asked. It may be longer than the MTU, as the request may have been.
///
/// `None` for requests that are not answered: to IPv4 broadcast and multicast addresses (RFC 1122 3.2.2.6 permits
/// that, and Linux does it: such a request can be answered by thousands, all to a forged source).
pub fn reply(
    ip: &IpPacket,
    packet: &Packet,
    echo: Echo,
    responder: &Responder<'_>,
) -> Option<Outgoing> {
    let Echo {
        identifier,
        sequence,
    } = echo;
    if !responder.can_answer_to(ip.source) {
        return None;
    }
    let source = match responder.addresses.classify(ip.destination) {
        AddressClass::Own | AddressClass::Loopback => ip.destination,
        // RFC 4443 4.2: a request to a group should be answered, from a unicast address.
        AddressClass::Multicast if ip.is_ipv6() => responder.fallback_source?,
        _ => return None,
    };
    let mut reply = packet.clone();
    reply.offload = Default::default();
    reply.advance(icmpv4::HEADER_LEN);
    let area = reply.prepend(icmpv4::HEADER_LEN);
    let protocol = match ip.source {
        IpAddr::V4(_) => {
            let message = icmpv4::Message::EchoReply {
                identifier,
                sequence,
            };
            message.emit(area);
            protocol::ICMPV4
        }
        IpAddr::V6(_) => {
            let message = icmpv6::Message::EchoReply {
                identifier,
                sequence,
            };
            message.emit(area);
            protocol::ICMPV6
        }
    };
    fill_checksum(source, ip.source, &mut reply);
    let header = OutputHeader {
        // RFC 1122 3.2.2.6 mirrors the request; a congestion mark is not the reply's.
        traffic_class: ip.traffic_class & !3,
        dont_fragment: false,
        ..OutputHeader::new(source, ip.source, protocol)
    };
    Some(Outgoing {
        header,
        packet: reply,
    })
}

#[cfg(test)]
mod tests;
