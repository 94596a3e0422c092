//! What a device cannot do, done in software: completing checksums and cutting super-packets.
//!
//! [`prepare`] is the one place just above the devices: it lets through what the device can do and does the rest.
//! Impaired links, captures and fragmentation use [`complete_checksum`] and [`segment`] directly. Which packets become
//! super-packets, and that a segment fits the MTU, is the stack's matter.
//!
//! A cut rewrites: the IP length, IPv4's identification and header checksum (RFC 791), TCP's sequence number and
//! flags (RFC 9293 3.1, RFC 3168 6.1.2), UDP's length (RFC 768) and the transport checksum. The payload is not
//! copied: every cut holds slices of the same buffers.

use std::collections::VecDeque;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::checksum::{Sum, pseudo_header_v4, pseudo_header_v6, sum_packet};
use crate::crc32c::{SCTP_CHECKSUM, fill_sctp_checksum};
use crate::device::{Capabilities, Medium, OffloadSet};
pub use crate::headers::Malformed;
use crate::headers::{Headers, TCP, UDP_CHECKSUM, Version, word};
use crate::offload::{Checksum, Offload, Segmentation, SegmentationKind};
use crate::packet::{HEADER_ROOM, Packet};

/// What the transport checksums of cut packets are to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutChecksum {
    /// The complete checksum.
    Complete,
    /// The sum of the pseudo-header, for somebody below to complete.
    Partial,
}

/// Appends to `queue` what a device of such capabilities takes in place of `packet`, which is taken from its place: packets
/// are some hundred octets, and each move copies them.
///
/// A super-packet of one segment loses its metadata; one that is larger than the device takes is cut into the largest
/// super-packets that it does take.
///
/// # Errors
/// [`Malformed`]: the packet is dropped, for the caller to count.
#[inline]
pub fn prepare(
    packet: &mut Packet,
    capabilities: &Capabilities,
    queue: &mut VecDeque<Packet>,
) -> Result<(), Malformed> {
    if let Some(segmentation) = packet.offload.segmentation {
        return prepare_super_packet(std::mem::take(packet), segmentation, capabilities, queue);
    }
    if !capabilities.offloads.checksum || is_crc(packet) {
        complete_checksum(packet)?;
    }
    queue.push_back(std::mem::take(packet));
    Ok(())
}

fn prepare_super_packet(
    mut packet: Packet,
    segmentation: Segmentation,
    capabilities: &Capabilities,
    queue: &mut VecDeque<Packet>,
) -> Result<(), Malformed> {
    let offloads = &capabilities.offloads;
    let headers = super_packet_headers(&mut packet, segmentation, capabilities.medium)?;
    let segment_size = usize::from(segmentation.segment_size);
    let mut stride = segment_size;
    if offloads.checksum && can_cut(offloads, segmentation, headers.version) {
        let payload = headers.end - headers.payload;
        let room = capabilities
            .max_super_packet
            .saturating_sub(headers.payload - headers.network);
        if payload > segment_size && payload <= room {
            ensure_partial(&mut packet, &headers);
            packet.truncate(headers.end);
            queue.push_back(packet);
            return Ok(());
        }
        stride = (room / segment_size).max(1) * segment_size;
    }
    let checksums = if offloads.checksum {
        CutChecksum::Partial
    } else {
        CutChecksum::Complete
    };
    cut(packet, headers, stride, checksums, |packet| {
        queue.push_back(packet);
    })
}

/// Cuts a super-packet into wire-sized packets, in order; a packet that is none comes out as it is, but for its
/// checksum if `checksums` asks for complete ones.
///
/// # Errors
/// [`Malformed`]: nothing was given to `out`, the packet is dropped.
pub fn segment(
    mut packet: Packet,
    medium: Medium,
    checksums: CutChecksum,
    mut out: impl FnMut(Packet),
) -> Result<(), Malformed> {
    let Some(segmentation) = packet.offload.segmentation else {
        if checksums == CutChecksum::Complete {
            complete_checksum(&mut packet)?;
        }
        out(packet);
        return Ok(());
    };
    let headers = super_packet_headers(&mut packet, segmentation, medium)?;
    let stride = usize::from(segmentation.segment_size);
    cut(packet, headers, stride, checksums, out)
}

/// Octets of the largest packet that `packet`, which begins with its IP header, is on a wire.
///
/// # Errors
/// [`Malformed`] for a packet that [`prepare`] refuses on a link of either medium: for those who pass on what others
/// have made.
pub fn wire_len(packet: &mut Packet) -> Result<usize, Malformed> {
    if let Some(segmentation) = packet.offload.segmentation {
        let headers = super_packet_headers(packet, segmentation, Medium::Ip)?;
        if headers.payload > FARTHEST_START {
            return Err(Malformed);
        }
        let payload = headers.end - headers.payload;
        return Ok(headers.payload + payload.min(segmentation.segment_size.into()));
    }
    if let Checksum::Partial { start, offset } = packet.offload.checksum {
        let start = usize::from(start);
        let width = if is_crc(packet) { 4 } else { 2 };
        if start > FARTHEST_START || start + usize::from(offset) + width > packet.len() {
            return Err(Malformed);
        }
    }
    Ok(packet.len())
}

/// Where a transport header or payload may begin at most, in octets of an IP packet: behind a frame's header it still
/// has to fit the metadata's 16 bits.
const FARTHEST_START: usize = u16::MAX as usize - crate::headers::ETHERNET_HEADER;

/// Whether the checksum to be filled in is SCTP's, which no device behind a virtio header knows.
fn is_crc(packet: &Packet) -> bool {
    matches!(packet.offload.checksum, Checksum::Partial { offset, .. } if offset == SCTP_CHECKSUM)
}

/// Fills in a partial checksum; a packet without one is left alone.
///
/// # Errors
/// [`Malformed`] when the field lies outside the packet, which is left as it was.
pub fn complete_checksum(packet: &mut Packet) -> Result<(), Malformed> {
    let Checksum::Partial { start, offset } = packet.offload.checksum else {
        return Ok(());
    };
    if is_crc(packet) {
        // Linux hands such packets over like the others (`csum_not_inet` stays in the kernel).
        if !fill_sctp_checksum(packet, usize::from(start)) {
            return Err(Malformed);
        }
        packet.offload.checksum = Checksum::Unverified;
        return Ok(());
    }
    // The field holds the pseudo-header's sum, so summing over it includes that.
    let value = sum_packet(packet, usize::from(start)).finish();
    let field = usize::from(start) + usize::from(offset);
    if !packet.overwrite(field, &on_the_wire(value, offset).to_be_bytes()) {
        return Err(Malformed);
    }
    packet.offload.checksum = Checksum::Unverified;
    Ok(())
}

/// UDP sends a checksum of 0 as its equal 0xffff, since 0 means that there is none (RFC 768).
pub(crate) fn on_the_wire(checksum: u16, offset: u16) -> u16 {
    if checksum == 0 && offset == UDP_CHECKSUM {
        0xffff
    } else {
        checksum
    }
}

fn can_cut(offloads: &OffloadSet, segmentation: Segmentation, version: Version) -> bool {
    let kind = match (segmentation.kind, version) {
        (SegmentationKind::TcpV4, _) => offloads.tso4,
        (SegmentationKind::TcpV6, _) => offloads.tso6,
        (SegmentationKind::Udp, Version::V4) => offloads.uso4,
        (SegmentationKind::Udp, Version::V6) => offloads.uso6,
    };
    kind && (!segmentation.ecn || offloads.tso_ecn)
}

/// The headers of a super-packet whose metadata agrees with them.
fn super_packet_headers(
    packet: &mut Packet,
    segmentation: Segmentation,
    medium: Medium,
) -> Result<Headers, Malformed> {
    let headers = Headers::locate(packet, medium)?;
    let partial = matches!(packet.offload.checksum, Checksum::Partial { .. });
    if segmentation.segment_size == 0
        || !headers.is_kind(segmentation.kind)
        || (partial && packet.offload.checksum != headers.partial())
    {
        return Err(Malformed);
    }
    Ok(headers)
}

/// Gives a super-packet a partial checksum: whatever its field held, it was that of no packet on a wire.
fn ensure_partial(packet: &mut Packet, headers: &Headers) {
    if packet.offload.checksum == headers.partial() {
        return;
    }
    let sum = pseudo_header(
        packet.contiguous(),
        headers,
        headers.end - headers.transport,
    );
    let field = headers.transport + usize::from(headers.checksum_offset());
    packet.overwrite(field, &sum.fold().to_be_bytes());
    packet.offload.checksum = headers.partial();
}

/// The pseudo-header's sum, from the addresses in the packet's first octets.
pub(crate) fn pseudo_header(bytes: &[u8], headers: &Headers, length: usize) -> Sum {
    let ip = &bytes[headers.network..];
    let length = length as u32;
    match headers.version {
        Version::V4 => {
            let source = octets::<4>(ip, 12);
            let destination = octets::<4>(ip, 16);
            pseudo_header_v4(source.into(), destination.into(), headers.protocol, length)
        }
        Version::V6 => {
            let source = octets::<16>(ip, 8);
            let destination = octets::<16>(ip, 24);
            pseudo_header_v6(source.into(), destination.into(), headers.protocol, length)
        }
    }
}

/// The `N` octets at `at`, of headers that were located and are therefore whole.
fn octets<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut octets = [0; N];
    octets.copy_from_slice(&bytes[at..at + N]);
    octets
}

/// Cuts the payload every `stride` octets, a multiple of the segment size, and gives each piece headers of its own.
fn cut(
    mut packet: Packet,
    headers: Headers,
    stride: usize,
    checksums: CutChecksum,
    mut out: impl FnMut(Packet),
) -> Result<(), Malformed> {
    let segmentation = packet.offload.segmentation.ok_or(Malformed)?;
    ensure_partial(&mut packet, &headers);
    packet.truncate(headers.end);
    let mut template = Template::new(&packet, headers, segmentation);
    packet.offload = Default::default();
    packet.advance(headers.payload);
    let mut left = packet.len();
    let mut slices = packet.into_payload().into_iter();
    let mut slice = Bytes::new();
    let mut offset = 0;
    loop {
        let len = left.min(stride);
        let offload = template.rewrite(offset, len, left == len);
        let mut piece = Packet::from_header(&template.octets);
        piece.offload = offload;
        let mut missing = len;
        while missing > 0 {
            if slice.is_empty() {
                slice = slices.next().ok_or(Malformed)?;
            }
            let part = slice.split_to(missing.min(slice.len()));
            missing -= part.len();
            piece.push(part);
        }
        if checksums == CutChecksum::Complete {
            complete_checksum(&mut piece)?;
        }
        out(piece);
        offset += len;
        left -= len;
        if left == 0 {
            return Ok(());
        }
    }
}

/// The headers of a super-packet, rewritten for one cut after the other.
struct Template {
    octets: SmallVec<[u8; HEADER_ROOM]>,
    headers: Headers,
    segmentation: Segmentation,
    /// The pseudo-header's sum without a length.
    pseudo: Sum,
    /// The IPv4 header's sum without length, identification and checksum.
    ipv4: Sum,
    identification: u16,
    sequence: u32,
    flags: u8,
}

/// Offset of the flags in a TCP header.
const TCP_FLAGS: usize = 13;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

impl Template {
    fn new(packet: &Packet, headers: Headers, segmentation: Segmentation) -> Self {
        let mut octets: SmallVec<[u8; HEADER_ROOM]> = SmallVec::new();
        for slice in packet.slices() {
            let missing = headers.payload - octets.len();
            octets.extend_from_slice(&slice[..missing.min(slice.len())]);
        }
        let transport = headers.transport;
        let field = transport + usize::from(headers.checksum_offset());
        let mut pseudo = Sum::new();
        pseudo.add_u16(word(&octets, field).unwrap_or(0));
        pseudo.add_u16(!((headers.end - transport) as u16));
        let mut ipv4 = Sum::new();
        let mut identification = 0;
        if headers.version == Version::V4 {
            let ip = &octets[headers.network..transport];
            identification = word(ip, 4).unwrap_or(0);
            ipv4.add_bytes(&ip[..2]);
            ipv4.add_bytes(&ip[6..10]);
            ipv4.add_bytes(&ip[12..]);
        }
        let (sequence, flags) = if headers.protocol == TCP {
            let tcp = &octets[transport..];
            (u32::from_be_bytes(self::octets(tcp, 4)), tcp[TCP_FLAGS])
        } else {
            (0, 0)
        };
        Self {
            octets,
            headers,
            segmentation,
            pseudo,
            ipv4,
            identification,
            sequence,
            flags,
        }
    }

    /// Makes these the headers of the cut whose `len` octets of payload begin `offset` octets into the super-packet's.
    fn rewrite(&mut self, offset: usize, len: usize, is_last: bool) -> Offload {
        let Headers {
            network,
            transport,
            payload,
            ..
        } = self.headers;
        let transport_len = (payload - transport + len) as u16;
        match self.headers.version {
            Version::V4 => {
                let total = (payload - network + len) as u16;
                // A super-packet of several segments takes as many identifications, whoever cuts it at last.
                let segments = offset / usize::from(self.segmentation.segment_size);
                let identification = self.identification.wrapping_add(segments as u16);
                let mut sum = self.ipv4;
                sum.add_u16(total);
                sum.add_u16(identification);
                self.set_word(network + 2, total);
                self.set_word(network + 4, identification);
                self.set_word(network + 10, sum.finish());
            }
            Version::V6 => {
                let payload_length = (payload - network - 40 + len) as u16;
                self.set_word(network + 4, payload_length);
            }
        }
        let mut ecn = false;
        if self.headers.protocol == TCP {
            let sequence = self.sequence.wrapping_add(offset as u32);
            self.octets[transport + 4..transport + 8].copy_from_slice(&sequence.to_be_bytes());
            let mut flags = self.flags;
            if !is_last {
                flags &= !(FIN | PSH);
            }
            if offset > 0 {
                // CWR answers one ECE: on a second segment it would answer one that never came (RFC 3168 6.1.2).
                flags &= !CWR;
            }
            ecn = flags & CWR != 0;
            self.octets[transport + TCP_FLAGS] = flags;
        } else {
            self.set_word(transport + 4, transport_len);
        }
        let mut pseudo = self.pseudo;
        pseudo.add_u16(transport_len);
        let field = transport + usize::from(self.headers.checksum_offset());
        self.set_word(field, pseudo.fold());

        let is_super = len > usize::from(self.segmentation.segment_size);
        Offload {
            checksum: self.headers.partial(),
            segmentation: is_super.then_some(Segmentation {
                ecn,
                ..self.segmentation
            }),
        }
    }

    fn set_word(&mut self, at: usize, word: u16) {
        self.octets[at..at + 2].copy_from_slice(&word.to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
