//! Where a packet's headers lie: as much of IPv4, IPv6, TCP and UDP as cutting a super-packet takes.
//!
//! Parsing for the protocols' own sake is the stack's matter. This module only finds offsets and lengths, in packets
//! that are to be rewritten in place (RFC 791, RFC 8200 4, RFC 9293 3.1, RFC 768), and refuses what cannot be cut.

use std::fmt;

use crate::device::Medium;
use crate::offload::{Checksum, SegmentationKind};
use crate::packet::Packet;

/// Length of an Ethernet header without tags, in octets.
pub(crate) const ETHERNET_HEADER: usize = 14;
/// Offset of the checksum field in a TCP header.
pub(crate) const TCP_CHECKSUM: u16 = 16;
/// Offset of the checksum field in a UDP header.
pub(crate) const UDP_CHECKSUM: u16 = 6;
/// Protocol number of TCP.
pub(crate) const TCP: u8 = 6;
/// Protocol number of UDP.
pub(crate) const UDP: u8 = 17;

/// Protocol number of SCTP, whose packets are neither cut nor summed by these headers but may have an open checksum.
const SCTP: u8 = 132;

const UDP_HEADER: usize = 8;
const IPV6_HEADER: usize = 40;

/// A packet whose headers contradict its length or its offload metadata, or are of no kind that can be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("packet headers do not fit the packet or its offload metadata")
    }
}

impl std::error::Error for Malformed {}

/// The version of the network header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V4,
    V6,
}

/// Offsets from the packet's first octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Headers {
    /// The IP header.
    pub(crate) network: usize,
    pub(crate) version: Version,
    /// The TCP or UDP header.
    pub(crate) transport: usize,
    /// [`TCP`] or [`UDP`].
    pub(crate) protocol: u8,
    /// The first octet behind the transport header.
    pub(crate) payload: usize,
    /// The end of the network packet by its own length field; what lies behind is link padding.
    pub(crate) end: usize,
}

impl Headers {
    /// Finds the headers of a whole TCP or UDP packet, which this brings into one piece if they are not.
    pub(crate) fn locate(packet: &mut Packet, medium: Medium) -> Result<Self, Malformed> {
        let len = packet.len();
        match Self::parse(packet.contiguous(), len, medium) {
            Err(_) if packet.contiguous().len() < len => {
                // Rare: the stack keeps its headers inline and devices read packets in one piece. The usual
                // exception is cheap to mend, since all common headers fit the header room.
                packet.pull_inline(len.min(crate::packet::HEADER_ROOM));
                Self::parse(packet.contiguous(), len, medium).or_else(|_| {
                    packet.flatten();
                    Self::parse(packet.contiguous(), len, medium)
                })
            }
            result => result,
        }
    }

    /// Finds the headers in `bytes`, the first octets of a packet of `len` octets.
    pub(crate) fn parse(bytes: &[u8], len: usize, medium: Medium) -> Result<Self, Malformed> {
        let network = match medium {
            Medium::Ip => 0,
            Medium::Ethernet => ETHERNET_HEADER,
        };
        let ip = bytes.get(network..).ok_or(Malformed)?;
        let (version, protocol, header, total) = match ip.first().ok_or(Malformed)? >> 4 {
            4 => ipv4(ip)?,
            6 => ipv6(ip)?,
            _ => return Err(Malformed),
        };
        if medium == Medium::Ethernet && ethertype(bytes) != Some(version.ethertype()) {
            return Err(Malformed);
        }
        let transport = network + header;
        let payload = match protocol {
            TCP => {
                let data_offset = usize::from(bytes.get(transport + 12).ok_or(Malformed)? >> 4) * 4;
                if data_offset < 20 {
                    return Err(Malformed);
                }
                transport + data_offset
            }
            UDP => transport + UDP_HEADER,
            _ => return Err(Malformed),
        };
        let end = network + total;
        // Offload metadata has 16 bits for the transport header's place; a chain of extension headers may be longer.
        let is_out_of_reach = payload > usize::from(u16::MAX);
        if payload > end || end > len || payload > bytes.len() || is_out_of_reach {
            return Err(Malformed);
        }
        Ok(Self {
            network,
            version,
            transport,
            protocol,
            payload,
            end,
        })
    }

    /// Whether `kind` is a cut that such a packet can have.
    pub(crate) fn is_kind(&self, kind: SegmentationKind) -> bool {
        match kind {
            SegmentationKind::TcpV4 => self.protocol == TCP && self.version == Version::V4,
            SegmentationKind::TcpV6 => self.protocol == TCP && self.version == Version::V6,
            SegmentationKind::Udp => self.protocol == UDP,
        }
    }

    /// The partial checksum that such a packet has.
    pub(crate) fn partial(&self) -> Checksum {
        Checksum::Partial {
            start: self.transport as u16,
            offset: self.checksum_offset(),
        }
    }

    /// Offset of the checksum field in the transport header.
    pub(crate) fn checksum_offset(&self) -> u16 {
        if self.protocol == TCP {
            TCP_CHECKSUM
        } else {
            UDP_CHECKSUM
        }
    }
}

impl Version {
    fn ethertype(self) -> u16 {
        match self {
            Self::V4 => 0x0800,
            Self::V6 => 0x86dd,
        }
    }
}

fn ethertype(frame: &[u8]) -> Option<u16> {
    word(frame, 12)
}

/// Whether the packet that begins with `bytes` is one of SCTP whose header lies at `transport`.
pub(crate) fn is_sctp_at(bytes: &[u8], medium: Medium, transport: usize) -> bool {
    let network = match medium {
        Medium::Ip => 0,
        Medium::Ethernet => ETHERNET_HEADER,
    };
    let ip = bytes.get(network..).unwrap_or_default();
    let located = match ip.first().map(|octet| octet >> 4) {
        Some(4) => ipv4(ip),
        Some(6) => ipv6(ip),
        _ => Err(Malformed),
    };
    located.is_ok_and(|(_, protocol, header, _)| protocol == SCTP && network + header == transport)
}

/// The 16-bit field at `at`.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let octets = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([octets[0], octets[1]]))
}

/// Version, protocol, header length and total length.
type Network = (Version, u8, usize, usize);

fn ipv4(ip: &[u8]) -> Result<Network, Malformed> {
    let header = usize::from(ip[0] & 0x0f) * 4;
    let total = usize::from(word(ip, 2).ok_or(Malformed)?);
    let fragment = word(ip, 6).ok_or(Malformed)? & 0x3fff;
    // A fragment has no whole transport packet (RFC 791 3.2): neither to cut nor to sum.
    if header < 20 || ip.len() < header || total < header || fragment != 0 {
        return Err(Malformed);
    }
    Ok((Version::V4, ip[9], header, total))
}

/// Walks the extension headers that may stand before TCP and UDP (RFC 8200 4.1). A fragment header ends the walk.
fn ipv6(ip: &[u8]) -> Result<Network, Malformed> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const AUTHENTICATION: u8 = 51;
    const DESTINATION_OPTIONS: u8 = 60;
    let total = IPV6_HEADER + usize::from(word(ip, 4).ok_or(Malformed)?);
    let mut next = *ip.get(6).ok_or(Malformed)?;
    let mut header = IPV6_HEADER;
    loop {
        let units = match next {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => 8,
            AUTHENTICATION => 4,
            _ => break,
        };
        let extension = ip.get(header..header + 2).ok_or(Malformed)?;
        // Length in units beyond the first eight octets: of eight octets, but AH counts in fours (RFC 4302 2.2).
        header += 8 + usize::from(extension[1]) * units;
        next = extension[0];
    }
    Ok((Version::V6, next, header, total))
}
