//! Packets built and taken apart by hand, so that the tests trust nothing of the crate but the device.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use tidewire_netdev::{Checksum, MacAddress, Medium, Packet};

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

/// The folded Internet checksum of some octets, not inverted (RFC 1071).
pub(crate) fn sum(octets: &[u8], initial: u32) -> u32 {
    let mut sum = initial;
    for pair in octets.chunks(2) {
        sum += u32::from(u16::from_be_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or(0),
        ]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

/// The sum over the pseudo-header (RFC 9293 3.1, RFC 8200 8.1).
pub(crate) fn pseudo_header_sum(from: IpAddr, to: IpAddr, protocol: u8, len: usize) -> u32 {
    let mut octets = Vec::new();
    for address in [from, to] {
        match address {
            IpAddr::V4(address) => octets.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => octets.extend_from_slice(&address.octets()),
        }
    }
    let initial = u32::from(protocol) + (len as u32 & 0xffff) + (len as u32 >> 16);
    sum(&octets, initial)
}

/// A network packet around a transport header and its payload.
pub(crate) fn ip(
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    transport: &[u8],
    payload: Bytes,
) -> Packet {
    let len = transport.len() + payload.len();
    let mut packet = Packet::new();
    packet.push(payload);
    packet.prepend(transport.len()).copy_from_slice(transport);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let header = packet.prepend(20);
            header[0] = 0x45;
            header[2..4].copy_from_slice(&((20 + len) as u16).to_be_bytes());
            header[8] = 64;
            header[9] = protocol;
            header[12..16].copy_from_slice(&from.octets());
            header[16..20].copy_from_slice(&to.octets());
            let checksum = !(sum(header, 0) as u16);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = packet.prepend(40);
            header[0] = 0x60;
            header[4..6].copy_from_slice(&(len as u16).to_be_bytes());
            header[6] = protocol;
            header[7] = 64;
            header[8..24].copy_from_slice(&from.octets());
            header[24..40].copy_from_slice(&to.octets());
        }
        _ => panic!("addresses of two families"),
    }
    packet
}

/// How a packet's transport checksum is left.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    /// To the device.
    Partial,
    /// Complete.
    Complete,
}

/// A transport packet whose checksum field lies `field` octets into its header.
pub(crate) fn transport(
    (from, to): (IpAddr, IpAddr),
    protocol: u8,
    mut header: Vec<u8>,
    field: usize,
    payload: Bytes,
    fill: Fill,
) -> Packet {
    let pseudo = pseudo_header_sum(from, to, protocol, header.len() + payload.len());
    let checksum = match fill {
        Fill::Partial => pseudo as u16,
        Fill::Complete => !(sum(&payload, sum(&header, pseudo)) as u16),
    };
    header[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
    let mut packet = ip(from, to, protocol, &header, payload);
    if fill == Fill::Partial {
        packet.offload.checksum = Checksum::Partial {
            start: if from.is_ipv4() { 20 } else { 40 },
            offset: field as u16,
        };
    }
    packet
}

/// A UDP datagram (RFC 768).
pub(crate) fn udp(from: (IpAddr, u16), to: (IpAddr, u16), payload: Bytes, fill: Fill) -> Packet {
    let mut header = vec![0; 8];
    header[..2].copy_from_slice(&from.1.to_be_bytes());
    header[2..4].copy_from_slice(&to.1.to_be_bytes());
    header[4..6].copy_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
    transport((from.0, to.0), UDP, header, 6, payload, fill)
}

/// An SCTP packet with one DATA chunk, whole words of payload, its checksum left to do (RFC 9260 3.1, 3.3.1).
pub(crate) fn sctp(from: (IpAddr, u16), to: (IpAddr, u16), payload: Bytes) -> Packet {
    assert!(payload.len().is_multiple_of(4), "no padding");
    let mut header = vec![0; 28];
    header[..2].copy_from_slice(&from.1.to_be_bytes());
    header[2..4].copy_from_slice(&to.1.to_be_bytes());
    header[13] = 3;
    header[14..16].copy_from_slice(&((16 + payload.len()) as u16).to_be_bytes());
    transport((from.0, to.0), 132, header, 8, payload, Fill::Partial)
}

/// An echo request (RFC 792, RFC 4443 4.1).
pub(crate) fn echo_request(from: IpAddr, to: IpAddr, payload: &[u8]) -> Packet {
    let mut message = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1];
    message.extend_from_slice(payload);
    let initial = if from.is_ipv4() {
        0
    } else {
        message[0] = 128;
        pseudo_header_sum(from, to, ICMPV6, message.len())
    };
    let checksum = !(sum(&message, initial) as u16);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let protocol = if from.is_ipv4() { ICMP } else { ICMPV6 };
    ip(from, to, protocol, &message, Bytes::new())
}

/// A received packet, taken apart.
pub(crate) struct Parsed {
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) protocol: u8,
    /// Transport header and payload.
    pub(crate) transport: Bytes,
}

impl Parsed {
    pub(crate) fn new(packet: &Packet) -> Self {
        let octets = packet.to_bytes();
        if octets[0] >> 4 == 4 {
            let address = |at: usize| {
                let quad: [u8; 4] = octets[at..at + 4].try_into().expect("four octets");
                IpAddr::V4(Ipv4Addr::from(quad))
            };
            let total = usize::from(u16::from_be_bytes([octets[2], octets[3]]));
            assert_eq!(total, octets.len(), "the length field covers the packet");
            Self {
                from: address(12),
                to: address(16),
                protocol: octets[9],
                transport: octets.slice(usize::from(octets[0] & 0x0f) * 4..),
            }
        } else {
            let address = |at: usize| {
                let octets: [u8; 16] = octets[at..at + 16].try_into().expect("16 octets");
                IpAddr::V6(Ipv6Addr::from(octets))
            };
            Self {
                from: address(8),
                to: address(24),
                protocol: octets[6],
                transport: octets.slice(40..),
            }
        }
    }

    /// Whether the transport checksum, summed with the pseudo-header, comes out right.
    pub(crate) fn checksum_is_right(&self) -> bool {
        let initial = if self.protocol == ICMP {
            0
        } else {
            pseudo_header_sum(self.from, self.to, self.protocol, self.transport.len())
        };
        sum(&self.transport, initial) == 0xffff
    }

    pub(crate) fn u16_at(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.transport[at], self.transport[at + 1]])
    }

    pub(crate) fn u32_at(&self, at: usize) -> u32 {
        let octets = self.transport[at..at + 4].try_into().expect("four octets");
        u32::from_be_bytes(octets)
    }
}

/// Puts an Ethernet header before a network packet.
pub(crate) fn frame(packet: &mut Packet, destination: MacAddress, source: MacAddress) {
    let version = packet.contiguous().first().map_or(0, |octet| octet >> 4);
    let header = packet.prepend(14);
    header[..6].copy_from_slice(&destination.0);
    header[6..12].copy_from_slice(&source.0);
    let ethertype: u16 = if version == 6 { 0x86dd } else { 0x0800 };
    header[12..].copy_from_slice(&ethertype.to_be_bytes());
}

/// The network packet of what a device gave; `None` if it is none.
pub(crate) fn unframed(mut packet: Packet, medium: Medium) -> Option<Packet> {
    if medium == Medium::Ethernet {
        let octets = packet.to_bytes();
        if !matches!(octets[12..14], [0x08, 0x00] | [0x86, 0xdd]) {
            return None;
        }
        packet.advance(14);
    }
    Some(packet)
}
