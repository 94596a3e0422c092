//! Packets to send: the IP header in front of a transport's (RFC 791, RFC 8200, RFC 6864).
//!
//! Owned here: the header. Left to others: the route and the source address before it, checksums of the transport,
//! fragments ([`super::fragmentation`]), the link's header.

use std::net::{IpAddr, Ipv4Addr};

use tidewire_netdev::Packet;

use crate::error::{SocketError, SocketResult};
use crate::wire::ipv4::SourceRoute;
use crate::wire::{Ecn, ipv4, ipv6};

/// The hop limit of packets whose socket names none (RFC 1700; Linux's default too).
pub const DEFAULT_HOP_LIMIT: u8 = 64;

/// An IP header of either version, lengths apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputHeader {
    /// An own address.
    pub source: IpAddr,
    /// Where the packet goes, of the same IP version.
    pub destination: IpAddr,
    /// What the packet begins with ([`crate::wire::protocol`]).
    pub protocol: u8,
    /// TTL, or hop limit.
    pub hop_limit: u8,
    /// DSCP and ECN: TOS, or traffic class.
    pub traffic_class: u8,
    /// IPv6 only: 20 bits that tell flows apart (RFC 6437).
    pub flow_label: u32,
    /// IPv4 only: routers must not cut the packet.
    pub dont_fragment: bool,
    /// IPv4 only. With `dont_fragment` any value will do (RFC 6864 4.1), otherwise one from
    /// [`super::fragmentation::Identifications`]. A super-packet takes as many values as it has segments.
    pub identification: u16,
}

impl OutputHeader {
    /// A header with the defaults: hop limit 64, best effort, not to be fragmented on the way.
    pub const fn new(source: IpAddr, destination: IpAddr, protocol: u8) -> Self {
        Self {
            source,
            destination,
            protocol,
            hop_limit: DEFAULT_HOP_LIMIT,
            traffic_class: 0,
            flow_label: 0,
            dont_fragment: true,
            identification: 0,
        }
    }

    /// The same with another ECN field.
    pub const fn with_ecn(self, ecn: Ecn) -> Self {
        Self {
            traffic_class: self.traffic_class & !3 | ecn as u8,
            ..self
        }
    }

    /// Octets that [`prepend`] puts in front.
    pub const fn encoded_len(&self) -> usize {
        match self.destination {
            IpAddr::V4(_) => ipv4::HEADER_LEN,
            IpAddr::V6(_) => ipv6::HEADER_LEN,
        }
    }
}

/// Puts an IP header in front of `packet`, which begins with a transport header; its checksum state is kept.
///
/// # Errors
/// [`SocketError::MessageTooLong`] if the length field cannot say how long the packet is,
/// [`SocketError::AddressFamily`] if the addresses are of different IP versions. The packet is left as it was.
#[inline]
pub fn prepend(packet: &mut Packet, header: &OutputHeader) -> SocketResult<()> {
    match (&header.source, &header.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            prepend_v4(packet, v4(header, *source, *destination))?;
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let payload_len = packet.len();
            let wire = ipv6::Header {
                source: *source,
                destination: *destination,
                traffic_class: header.traffic_class,
                flow_label: header.flow_label,
                payload_len: u16::try_from(payload_len).map_err(|_| SocketError::MessageTooLong)?,
                next_header: header.protocol,
                hop_limit: header.hop_limit,
            };
            wire.emit(packet.prepend(ipv6::HEADER_LEN));
        }
        _ => return Err(SocketError::AddressFamily),
    }
    Ok(())
}

/// [`prepend`] for a packet that goes by a source route; the header's destination is where the route leads.
///
/// # Errors
/// As [`prepend`]; [`SocketError::AddressFamily`] for IPv6, whose routes are gone (RFC 5095).
pub fn prepend_routed(
    packet: &mut Packet,
    header: &OutputHeader,
    route: &SourceRoute,
) -> SocketResult<()> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (header.source, header.destination) else {
        return Err(SocketError::AddressFamily);
    };
    let wire = ipv4::Header {
        options: route.options(destination),
        ..v4(header, source, route.first_hop())
    };
    prepend_v4(packet, wire)
}

/// The IPv4 header of a whole packet without options, but for its length.
#[inline]
pub(super) fn v4(header: &OutputHeader, source: Ipv4Addr, destination: Ipv4Addr) -> ipv4::Header {
    ipv4::Header {
        source,
        destination,
        protocol: header.protocol,
        ttl: header.hop_limit,
        tos: header.traffic_class,
        total_len: 0,
        identification: header.identification,
        dont_fragment: header.dont_fragment,
        more_fragments: false,
        fragment_offset: 0,
        options: ipv4::Options::default(),
    }
}

/// Puts an IPv4 header in front of `packet`, with the length that it has then.
#[inline]
pub(super) fn prepend_v4(packet: &mut Packet, mut wire: ipv4::Header) -> SocketResult<()> {
    let header_len = wire.encoded_len();
    let total_len = packet.len() + header_len;
    wire.total_len = u16::try_from(total_len).map_err(|_| SocketError::MessageTooLong)?;
    wire.emit(packet.prepend(header_len));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::input::{self, Arrival};
    use crate::wire::protocol;
    use bytes::Bytes;
    use tidewire_netdev::Checksum;

    fn header(source: &str, destination: &str) -> OutputHeader {
        OutputHeader {
            hop_limit: 17,
            traffic_class: 0xb8,
            flow_label: 0x12345,
            identification: 0xbeef,
            ..OutputHeader::new(
                source.parse().unwrap(),
                destination.parse().unwrap(),
                protocol::UDP,
            )
        }
        .with_ecn(Ecn::Ect0)
    }

    fn payload(len: usize) -> Packet {
        Packet::from_bytes(Bytes::from(vec![7; len]))
    }

    #[test]
    fn what_is_sent_is_what_is_received() {
        for (source, destination) in [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2")] {
            let header = header(source, destination);
            let mut packet = payload(100);
            packet.offload.checksum = Checksum::Partial {
                start: 0,
                offset: 6,
            };
            prepend(&mut packet, &header).unwrap();
            let header_len = header.encoded_len();
            let partial = Checksum::Partial {
                start: header_len as u16,
                offset: 6,
            };
            assert_eq!(packet.offload.checksum, partial);
            assert_eq!(packet.len(), header_len + 100);
            let ip = input::parse(&mut packet, Arrival::Wire).unwrap();
            assert_eq!(
                (ip.source, ip.destination),
                (header.source, header.destination)
            );
            assert_eq!(
                (ip.protocol, ip.hop_limit, ip.traffic_class),
                (17, 17, 0xba)
            );
            assert_eq!(ip.fragment, None);
            assert_eq!(&packet.to_bytes()[..], [7; 100]);
        }
    }

    #[test]
    fn length_fields_are_16_bits() {
        for (source, destination, max) in [
            ("10.0.0.1", "10.0.0.2", 65_515),
            ("2001:db8::1", "2001:db8::2", 65_535),
        ] {
            let header = header(source, destination);
            assert_eq!(prepend(&mut payload(max), &header), Ok(()));
            let mut packet = payload(max + 1);
            assert_eq!(
                prepend(&mut packet, &header),
                Err(SocketError::MessageTooLong)
            );
            assert_eq!(packet.len(), max + 1);
        }
    }

    #[test]
    fn addresses_must_be_of_one_version() {
        let header = header("10.0.0.1", "2001:db8::2");
        assert_eq!(
            prepend(&mut payload(1), &header),
            Err(SocketError::AddressFamily)
        );
    }
}
