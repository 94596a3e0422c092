//! Packets for tests, and a check of wire packets that shares no code with what is tested.

use bytes::Bytes;

use crate::checksum::{pseudo_header_v4, pseudo_header_v6};
use crate::device::Medium;
use crate::offload::{Checksum, Offload, Segmentation, SegmentationKind};
use crate::packet::{HEADER_ROOM, Packet, Payload};

/// What a test packet is made of.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) medium: Medium,
    pub(crate) kind: SegmentationKind,
    /// UDP over IPv6; TCP has its version in `kind`.
    pub(crate) udp_v6: bool,
    /// IPv4 options or IPv6 destination options, in octets: rounded to what the header can have.
    pub(crate) network_options: usize,
    /// TCP options in octets.
    pub(crate) transport_options: usize,
    /// Lengths of the payload's slices.
    pub(crate) slices: Vec<usize>,
    /// 0 for a packet that is no super-packet.
    pub(crate) segment_size: u16,
    pub(crate) identification: u16,
    pub(crate) sequence: u32,
    pub(crate) flags: u8,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            medium: Medium::Ip,
            kind: SegmentationKind::TcpV4,
            udp_v6: false,
            network_options: 0,
            transport_options: 12,
            slices: vec![1000, 2000, 500],
            segment_size: 1448,
            identification: 0xfffe,
            sequence: 0xffff_ff00,
            flags: 0x99, // CWR, ACK, PSH, FIN
        }
    }
}

impl Spec {
    pub(crate) fn is_v6(&self) -> bool {
        match self.kind {
            SegmentationKind::TcpV4 => false,
            SegmentationKind::TcpV6 => true,
            SegmentationKind::Udp => self.udp_v6,
        }
    }

    pub(crate) fn is_tcp(&self) -> bool {
        self.kind != SegmentationKind::Udp
    }

    pub(crate) fn payload(&self) -> Vec<u8> {
        let len = self.slices.iter().sum();
        (0..len).map(|i: usize| (i * 31 + i / 251) as u8).collect()
    }

    /// An SCTP packet with one DATA chunk of the payload, its checksum left to do as a kernel's veth leaves it. Of
    /// `kind` and the rest, what is the network's counts.
    pub(crate) fn build_sctp(&self) -> Packet {
        let payload = self.payload();
        let padding = payload.len().next_multiple_of(4) - payload.len();
        let mut packet = Packet::from_bytes(payload.into());
        let length = packet.len() as u16 + 16;
        let header = packet.prepend(28);
        header[..4].copy_from_slice(&[0x30, 0x39, 0, 80]);
        header[4..8].copy_from_slice(&self.sequence.to_be_bytes());
        header[8..12].fill(0xee); // whatever the kernel leaves there
        header[13] = 3;
        header[14..16].copy_from_slice(&length.to_be_bytes());
        packet.push(Bytes::from(vec![0; padding]));
        packet.offload.checksum = Checksum::Partial {
            start: 0,
            offset: 8,
        };
        self.prepend_network(&mut packet, 132);
        self.prepend_link(&mut packet);
        packet
    }

    /// The packet, headers inline as the stack builds them, with a partial checksum.
    pub(crate) fn build(&self) -> Packet {
        let payload = Bytes::from(self.payload());
        let mut at = 0;
        let slices: Payload = self
            .slices
            .iter()
            .filter(|len| **len > 0)
            .map(|len| {
                at += len;
                payload.slice(at - len..at)
            })
            .collect();
        let mut packet = Packet::from_payload(slices);
        let protocol = if self.is_tcp() { 6 } else { 17 };
        self.prepend_transport(&mut packet);
        let transport_len = packet.len() as u32;
        let field = if self.is_tcp() { 16 } else { 6 };
        packet.offload = Offload {
            checksum: Checksum::Partial {
                start: 0,
                offset: field,
            },
            segmentation: (self.segment_size > 0).then_some(Segmentation {
                kind: self.kind,
                segment_size: self.segment_size,
                ecn: self.is_tcp() && self.flags & 0x80 != 0,
            }),
        };
        let sum = if self.is_v6() {
            let (source, destination) = V6;
            pseudo_header_v6(source.into(), destination.into(), protocol, transport_len)
        } else {
            let (source, destination) = V4;
            pseudo_header_v4(source.into(), destination.into(), protocol, transport_len)
        };
        packet.overwrite(usize::from(field), &sum.fold().to_be_bytes());
        self.prepend_network(&mut packet, protocol);
        self.prepend_link(&mut packet);
        packet
    }

    fn prepend_link(&self, packet: &mut Packet) {
        if self.medium == Medium::Ethernet {
            let mut frame = [0; 14];
            frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
            let ethertype: [u8; 2] = if self.is_v6() { [0x86, 0xdd] } else { [8, 0] };
            frame[12..].copy_from_slice(&ethertype);
            put_front(packet, &frame);
        }
    }

    fn prepend_transport(&self, packet: &mut Packet) {
        let length = packet.len() as u16 + 8;
        if self.is_tcp() {
            let options = self.transport_options.min(40) / 4 * 4;
            let tcp = packet.prepend(20 + options);
            tcp[..4].copy_from_slice(&[0x30, 0x39, 0, 80]);
            tcp[4..8].copy_from_slice(&self.sequence.to_be_bytes());
            tcp[8..12].copy_from_slice(&[1, 2, 3, 4]);
            tcp[12] = ((20 + options) / 4) as u8 * 16;
            tcp[13] = self.flags;
            tcp[14..16].copy_from_slice(&[0xfa, 0xf0]);
            tcp[20..].fill(1); // NOP
        } else {
            let udp = packet.prepend(8);
            udp[..4].copy_from_slice(&[0x30, 0x39, 0, 53]);
            udp[4..6].copy_from_slice(&length.to_be_bytes());
        }
    }

    fn prepend_network(&self, packet: &mut Packet, protocol: u8) {
        let mut length = packet.len() as u16;
        if self.is_v6() {
            let mut next = protocol;
            let options = self.network_options / 8 * 8;
            if options > 0 {
                let mut extension = vec![0; options];
                extension[0] = protocol;
                extension[1] = (options / 8 - 1) as u8;
                put_front(packet, &extension);
                next = 60;
                length += options as u16;
            }
            let mut ip = [0; 40];
            ip[..4].copy_from_slice(&[0x60, 0x12, 0x34, 0x56]);
            ip[4..6].copy_from_slice(&length.to_be_bytes());
            ip[6..8].copy_from_slice(&[next, 64]);
            ip[8..24].copy_from_slice(&V6.0);
            ip[24..].copy_from_slice(&V6.1);
            put_front(packet, &ip);
        } else {
            let options = self.network_options.min(40) / 4 * 4;
            length += 20 + options as u16;
            let mut ip = vec![0; 20 + options];
            ip[0] = 0x40 | (5 + options / 4) as u8;
            ip[2..4].copy_from_slice(&length.to_be_bytes());
            ip[4..6].copy_from_slice(&self.identification.to_be_bytes());
            ip[6..10].copy_from_slice(&[0x40, 0, 64, protocol]);
            ip[12..16].copy_from_slice(&V4.0);
            ip[16..20].copy_from_slice(&V4.1);
            ip[20..].fill(1); // NOP
            let checksum = !naive(&ip);
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
            put_front(packet, &ip);
        }
    }
}

/// Prepends headers, flattening the packet when they exceed the header room.
fn put_front(packet: &mut Packet, header: &[u8]) {
    if header.len() + packet.head().len() <= HEADER_ROOM {
        packet.prepend(header.len()).copy_from_slice(header);
        return;
    }
    let mut offload = packet.offload;
    if let Checksum::Partial { start, .. } = &mut offload.checksum {
        *start += header.len() as u16;
    }
    let mut flat = header.to_vec();
    flat.extend_from_slice(&packet.to_bytes());
    *packet = Packet::from_bytes(flat.into());
    packet.offload = offload;
}

const V4: ([u8; 4], [u8; 4]) = ([10, 0, 0, 1], [10, 0, 0, 2]);
const V6: ([u8; 16], [u8; 16]) = (
    [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
);

/// One wire packet, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wire {
    pub(crate) identification: u16,
    pub(crate) sequence: u32,
    pub(crate) flags: u8,
    pub(crate) payload: Vec<u8>,
}

/// Takes apart a wire packet; its lengths must agree and its checksums be correct and complete.
pub(crate) fn check_wire(medium: Medium, frame: &[u8]) -> Result<Wire, &'static str> {
    let ip = match medium {
        Medium::Ip => frame,
        Medium::Ethernet => frame.get(14..).ok_or("short frame")?,
    };
    let be16 = |at: usize| u16::from_be_bytes([ip[at], ip[at + 1]]);
    let (protocol, mut transport, addresses, identification);
    if ip[0] >> 4 == 4 {
        transport = usize::from(ip[0] & 15) * 4;
        if naive(&ip[..transport]) != 0xffff {
            return Err("IPv4 header checksum");
        }
        if usize::from(be16(2)) != ip.len() {
            return Err("IPv4 total length");
        }
        (protocol, addresses, identification) = (ip[9], &ip[12..20], be16(4));
    } else {
        if usize::from(be16(4)) + 40 != ip.len() {
            return Err("IPv6 payload length");
        }
        transport = 40;
        let mut next = ip[6];
        if next == 60 {
            next = ip[40];
            transport += 8 + usize::from(ip[41]) * 8;
        }
        (protocol, addresses, identification) = (next, &ip[8..40], 0);
    }
    let segment = &ip[transport..];
    if protocol == 132 {
        let mut summed = segment.to_vec();
        let found = u32::from_le_bytes([summed[8], summed[9], summed[10], summed[11]]);
        summed[8..12].fill(0);
        if found != naive_crc32c(&summed) {
            return Err("CRC32c");
        }
        let length = usize::from(u16::from_be_bytes([segment[14], segment[15]]));
        return Ok(Wire {
            identification,
            sequence: u32::from_be_bytes([segment[4], segment[5], segment[6], segment[7]]),
            flags: segment[13],
            payload: segment[28..12 + length].to_vec(),
        });
    }
    let mut summed = addresses.to_vec();
    summed.extend_from_slice(&[0, protocol]);
    summed.extend_from_slice(&(segment.len() as u32).to_be_bytes());
    summed.extend_from_slice(segment);
    if naive(&summed) != 0xffff {
        return Err("transport checksum");
    }
    let be16 = |at: usize| u16::from_be_bytes([segment[at], segment[at + 1]]);
    if protocol == 6 {
        let header = usize::from(segment[12] >> 4) * 4;
        return Ok(Wire {
            identification,
            sequence: u32::from_be_bytes([segment[4], segment[5], segment[6], segment[7]]),
            flags: segment[13],
            payload: segment[header..].to_vec(),
        });
    }
    if usize::from(be16(4)) != segment.len() {
        return Err("UDP length");
    }
    if be16(6) == 0 {
        return Err("UDP checksum absent");
    }
    Ok(Wire {
        identification,
        sequence: 0,
        flags: 0,
        payload: segment[8..].to_vec(),
    })
}

fn naive(bytes: &[u8]) -> u16 {
    let mut total = 0u32;
    for pair in bytes.chunks(2) {
        total += u32::from(pair[0]) * 256 + u32::from(*pair.get(1).unwrap_or(&0));
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

/// RFC 9260, appendix A, one bit at a time: the octets' lowest bits come first, so the polynomial 0x1edc6f41 is turned
/// around.
fn naive_crc32c(bytes: &[u8]) -> u32 {
    let mut register = u32::MAX;
    for byte in bytes {
        register ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = register & 1;
            register >>= 1;
            if carry == 1 {
                register ^= 0x82f6_3b78;
            }
        }
    }
    !register
}
