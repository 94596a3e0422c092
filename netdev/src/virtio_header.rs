//! The virtio-net header in front of packets of TUN, TAP and AF_PACKET, to and from offload metadata
//! (virtio 1.2, 5.1.6; `include/uapi/linux/virtio_net.h`).
//!
//! ```text
//!   0       1          2         4          6            8             10
//!  ┌───────┬──────────┬─────────┬──────────┬────────────┬─────────────┐
//!  │ flags │ gso_type │ hdr_len │ gso_size │ csum_start │ csum_offset │   fields in the host's byte order
//!  └───────┴──────────┴─────────┴──────────┴────────────┴─────────────┘
//! ```
//!
//! Reading and writing the header is the device's matter. What the kernel says is believed only as far as it fits the
//! packet's own octets: the stack above may rewrite what the metadata points at.

use std::fmt;

use crate::crc32c::SCTP_CHECKSUM;
use crate::device::Medium;
use crate::headers::{Headers, is_sctp_at};
use crate::offload::{Checksum, Offload, Segmentation, SegmentationKind};
use crate::packet::Packet;

/// Length of the header in octets, as `TUNSETVNETHDRSZ` has it by default: without the buffer count.
pub const VIRTIO_HEADER_LEN: usize = 10;

const FLAG_NEEDS_CSUM: u8 = 1;
const FLAG_DATA_VALID: u8 = 2;

const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// Why a header was refused. Its packet is to be dropped and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VirtioHeaderError {
    /// `csum_start` or `csum_offset` point outside the packet's transport part, or to a place that its protocol does
    /// not have a checksum at.
    ChecksumRange,
    /// A `gso_type` that was never asked for.
    UnknownSegmentation,
    /// A super-packet with a `gso_size` of 0.
    NoSegmentSize,
    /// A super-packet that does not say its checksum's state.
    NoChecksum,
    /// `gso_type` names another protocol than the packet's headers.
    HeaderMismatch,
}

impl fmt::Display for VirtioHeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ChecksumRange => "checksum position outside the packet's transport part",
            Self::UnknownSegmentation => "unknown segmentation type",
            Self::NoSegmentSize => "super-packet without a segment size",
            Self::NoChecksum => "super-packet without a checksum state",
            Self::HeaderMismatch => "segmentation type contradicts the packet's headers",
        })
    }
}

impl std::error::Error for VirtioHeaderError {}

/// The header to write in front of `packet`.
///
/// A super-packet needs a partial checksum, or the kernel refuses it; [`crate::segmentation::prepare`] sees to that. It
/// also sees to SCTP's partial checksums, which the kernel would take for Internet checksums.
pub fn encode(packet: &Packet) -> [u8; VIRTIO_HEADER_LEN] {
    let (flags, csum_start, csum_offset) = match packet.offload.checksum {
        Checksum::Unverified => (0, 0, 0),
        Checksum::Verified => (FLAG_DATA_VALID, 0, 0),
        Checksum::Partial { start, offset } => (FLAG_NEEDS_CSUM, start, offset),
    };
    let (gso_type, gso_size, hdr_len) = match packet.offload.segmentation {
        None => (GSO_NONE, 0, 0),
        Some(segmentation) => {
            let kind = match segmentation.kind {
                SegmentationKind::TcpV4 => GSO_TCPV4,
                SegmentationKind::TcpV6 => GSO_TCPV6,
                SegmentationKind::Udp => GSO_UDP_L4,
            };
            let ecn = if segmentation.ecn { GSO_ECN } else { 0 };
            let hdr_len = headers_len(packet, segmentation.kind, csum_start);
            (kind | ecn, segmentation.segment_size, hdr_len)
        }
    };
    let mut header = [0; VIRTIO_HEADER_LEN];
    header[0] = flags;
    header[1] = gso_type;
    header[2..4].copy_from_slice(&hdr_len.to_ne_bytes());
    header[4..6].copy_from_slice(&gso_size.to_ne_bytes());
    header[6..8].copy_from_slice(&csum_start.to_ne_bytes());
    header[8..10].copy_from_slice(&csum_offset.to_ne_bytes());
    header
}

/// What the kernel says of `packet`, which begins with a header of `medium`.
///
/// `hdr_len` is ignored: the kernel puts anything there, up to the whole packet.
pub fn decode(
    header: &[u8; VIRTIO_HEADER_LEN],
    packet: &[u8],
    medium: Medium,
) -> Result<Offload, VirtioHeaderError> {
    let field = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
    let [flags, gso_type, ..] = *header;
    let checksum = if flags & FLAG_NEEDS_CSUM != 0 {
        let (start, offset) = (field(6), field(8));
        let end = usize::from(start) + usize::from(offset) + 2;
        // The kernel hands SCTP's open checksums over like others (`csum_not_inet` is its own affair). Whoever completes
        // one tells it by its place, so that place and protocol have to agree.
        let is_crc = offset == SCTP_CHECKSUM;
        if end > packet.len()
            || start < network_end(packet, medium)
            || is_crc != is_sctp_at(packet, medium, usize::from(start))
        {
            return Err(VirtioHeaderError::ChecksumRange);
        }
        Checksum::Partial { start, offset }
    } else if flags & FLAG_DATA_VALID != 0 {
        Checksum::Verified
    } else {
        Checksum::Unverified
    };
    if gso_type == GSO_NONE {
        return Ok(Offload {
            checksum,
            segmentation: None,
        });
    }
    let kind = match gso_type & !GSO_ECN {
        GSO_TCPV4 => SegmentationKind::TcpV4,
        GSO_TCPV6 => SegmentationKind::TcpV6,
        GSO_UDP_L4 => SegmentationKind::Udp,
        _ => return Err(VirtioHeaderError::UnknownSegmentation),
    };
    let segment_size = field(4);
    if segment_size == 0 {
        return Err(VirtioHeaderError::NoSegmentSize);
    }
    if checksum == Checksum::Unverified {
        // Its checksum field would be that of no packet: the stack could only drop it.
        return Err(VirtioHeaderError::NoChecksum);
    }
    let headers = Headers::parse(packet, packet.len(), medium)
        .ok()
        .filter(|headers| headers.is_kind(kind))
        .ok_or(VirtioHeaderError::HeaderMismatch)?;
    if matches!(checksum, Checksum::Partial { .. }) && checksum != headers.partial() {
        return Err(VirtioHeaderError::ChecksumRange);
    }
    Ok(Offload {
        checksum,
        segmentation: Some(Segmentation {
            kind,
            segment_size,
            ecn: gso_type & GSO_ECN != 0,
        }),
    })
}

/// Length of all headers, for the kernel to copy into its linear area.
fn headers_len(packet: &Packet, kind: SegmentationKind, transport: u16) -> u16 {
    let transport_header = match kind {
        SegmentationKind::Udp => 8,
        SegmentationKind::TcpV4 | SegmentationKind::TcpV6 => packet
            .octet(usize::from(transport) + 12)
            .map_or(20, |octet| u16::from(octet >> 4) * 4),
    };
    transport.saturating_add(transport_header)
}

/// Where the fixed network header ends at the earliest; a partial checksum before that would rewrite addresses.
fn network_end(packet: &[u8], medium: Medium) -> u16 {
    let network = match medium {
        Medium::Ip => 0,
        Medium::Ethernet => crate::headers::ETHERNET_HEADER,
    };
    match packet.get(network) {
        Some(first) if first >> 4 == 4 => network as u16 + u16::from(first & 0x0f).max(5) * 4,
        Some(first) if first >> 4 == 6 => network as u16 + 40,
        // Nothing but IP has a checksum of this kind.
        _ => u16::MAX,
    }
}

#[cfg(test)]
mod tests;
