//! Offload metadata and software segmentation.

use std::collections::VecDeque;

use bytes::Bytes;
use tidewire::wire::{ipv4, ipv6, tcp, udp};
use tidewire_netdev::checksum::{pseudo_header_v4, pseudo_header_v6, sum_packet};
use tidewire_netdev::crc32c::{SCTP_CHECKSUM, sctp_is_intact};
use tidewire_netdev::segmentation::{CutChecksum, prepare, segment};
use tidewire_netdev::virtio_header::{VIRTIO_HEADER_LEN, decode, encode};
use tidewire_netdev::{
    Capabilities, Checksum, Medium, OffloadSet, Packet, Segmentation, SegmentationKind,
};

use super::Input;

/// A virtio header and the packet behind it: what is believed of it can be said again and acted upon.
pub(super) fn virtio_header(data: &[u8]) {
    let Some((header, rest)) = data.split_first_chunk::<VIRTIO_HEADER_LEN>() else {
        return;
    };
    for medium in [Medium::Ip, Medium::Ethernet] {
        let Ok(offload) = decode(header, rest, medium) else {
            continue;
        };
        let mut packet = Packet::from_bytes(Bytes::copy_from_slice(rest));
        packet.offload = offload;
        assert_eq!(decode(&encode(&packet), rest, medium), Ok(offload));
        if let Some(segmentation) = offload.segmentation {
            assert!(segmentation.segment_size > 0);
        }
        let mut octets = 0;
        let result = segment(packet, medium, CutChecksum::Complete, |cut| {
            assert_eq!(cut.offload.segmentation, None);
            assert!(!matches!(cut.offload.checksum, Checksum::Partial { .. }));
            if let Checksum::Partial {
                start,
                offset: SCTP_CHECKSUM,
            } = offload.checksum
            {
                assert!(sctp_is_intact(&cut, usize::from(start)));
            }
            octets += cut.len();
        });
        if result.is_ok() && offload.segmentation.is_none() {
            assert_eq!(octets, rest.len());
        }
    }
}

/// A well-formed super-packet of chosen headers, payload and slices, on its way to a device of chosen abilities.
pub(super) fn segmentation(data: &[u8]) {
    let mut input = Input(data);
    let super_packet = SuperPacket::from_input(&mut input);
    let capabilities = capabilities(&mut input);
    let mut packet = super_packet.build(&mut input);

    let mut queue = VecDeque::new();
    prepare(&mut packet, &capabilities, &mut queue).expect("a well-formed packet is never refused");
    let mut cuts = vec![];
    for packet in queue {
        if packet.offload.segmentation.is_some() {
            assert!(packet.len() <= capabilities.max_super_packet);
            assert!(matches!(packet.offload.checksum, Checksum::Partial { .. }));
        }
        if !capabilities.offloads.checksum {
            assert!(!matches!(packet.offload.checksum, Checksum::Partial { .. }));
        }
        segment(packet, Medium::Ip, CutChecksum::Complete, |cut| {
            cuts.push(cut);
        })
        .expect("our own cut can be cut");
    }
    super_packet.check(&cuts);
}

/// What the super-packet is made of.
struct SuperPacket {
    is_v6: bool,
    is_tcp: bool,
    flags: u8,
    identification: u16,
    sequence: u32,
    /// Octets of TCP options, a multiple of 4.
    options: usize,
    segment_size: u16,
    payload: Vec<u8>,
    is_partial: bool,
}

const FIN_PSH: u8 = 0x09;
const CWR: u8 = 0x80;

impl SuperPacket {
    fn from_input(input: &mut Input<'_>) -> Self {
        let bits = input.u8();
        let flags = input.u8();
        let identification = input.u16();
        let sequence = input.u32();
        let options = usize::from(input.u8() % 11) * 4;
        let segment_size = input.u16().max(1);
        // At most 200 cuts: more teach the fuzzer nothing.
        let limit = (usize::from(segment_size) * 200).min(65_535 - 100);
        let len = usize::from(input.u16()).min(limit);
        let seed = input.u8();
        let payload = (0..len)
            .map(|n| (n as u8).wrapping_mul(31).wrapping_add((n >> 8) as u8) ^ seed)
            .collect();
        Self {
            is_v6: bits & 1 != 0,
            is_tcp: bits & 2 != 0,
            flags,
            identification,
            sequence,
            options: if bits & 2 != 0 { options } else { 0 },
            segment_size,
            payload,
            is_partial: bits & 4 != 0,
        }
    }

    fn transport_header_len(&self) -> usize {
        if self.is_tcp {
            tcp::HEADER_LEN + self.options
        } else {
            udp::HEADER_LEN
        }
    }

    fn protocol(&self) -> u8 {
        if self.is_tcp { 6 } else { 17 }
    }

    /// The packet, its payload in slices where the rest of the input says.
    fn build(&self, input: &mut Input<'_>) -> Packet {
        let mut packet = Packet::new();
        let mut rest = Bytes::from(self.payload.clone());
        while !rest.is_empty() {
            let len = match usize::from(input.u16()) {
                0 => rest.len(),
                len => len.min(rest.len()),
            };
            packet.push(rest.split_to(len));
        }
        let transport_len = self.transport_header_len() + self.payload.len();
        let header = packet.prepend(self.transport_header_len());
        if self.is_tcp {
            tcp::Header {
                sequence: self.sequence,
                flags: tcp::Flags(self.flags),
                ..tcp::Header::default()
            }
            .emit(header);
            header[12] = ((tcp::HEADER_LEN + self.options) as u8 / 4) << 4;
            header[tcp::HEADER_LEN..].fill(1);
        } else {
            udp::Header {
                length: transport_len as u16,
                ..udp::Header::default()
            }
            .emit(header);
        }
        if self.is_partial {
            let sum = self.pseudo_header(transport_len).fold();
            let field = if self.is_tcp {
                tcp::CHECKSUM_OFFSET
            } else {
                udp::CHECKSUM_OFFSET
            };
            header[field..field + 2].copy_from_slice(&sum.to_be_bytes());
            packet.offload.checksum = Checksum::Partial {
                start: 0,
                offset: field as u16,
            };
        }
        packet.offload.segmentation = Some(Segmentation {
            kind: match (self.is_tcp, self.is_v6) {
                (true, false) => SegmentationKind::TcpV4,
                (true, true) => SegmentationKind::TcpV6,
                (false, _) => SegmentationKind::Udp,
            },
            segment_size: self.segment_size,
            ecn: self.is_tcp && self.flags & CWR != 0,
        });
        self.prepend_ip(&mut packet);
        packet
    }

    fn prepend_ip(&self, packet: &mut Packet) {
        let len = packet.len();
        if self.is_v6 {
            let header = ipv6::Header {
                source: SOURCE_V6.into(),
                destination: DESTINATION_V6.into(),
                traffic_class: 2,
                flow_label: 7,
                payload_len: len as u16,
                next_header: self.protocol(),
                hop_limit: 64,
            };
            header.emit(packet.prepend(ipv6::HEADER_LEN));
        } else {
            let header = ipv4::Header {
                source: SOURCE_V4.into(),
                destination: DESTINATION_V4.into(),
                protocol: self.protocol(),
                ttl: 64,
                tos: 2,
                total_len: (len + ipv4::HEADER_LEN) as u16,
                identification: self.identification,
                dont_fragment: true,
                more_fragments: false,
                fragment_offset: 0,
                options: ipv4::Options::default(),
            };
            header.emit(packet.prepend(ipv4::HEADER_LEN));
        }
    }

    fn pseudo_header(&self, transport_len: usize) -> tidewire_netdev::checksum::Sum {
        let len = transport_len as u32;
        if self.is_v6 {
            pseudo_header_v6(
                SOURCE_V6.into(),
                DESTINATION_V6.into(),
                self.protocol(),
                len,
            )
        } else {
            pseudo_header_v4(
                SOURCE_V4.into(),
                DESTINATION_V4.into(),
                self.protocol(),
                len,
            )
        }
    }

    /// The cuts are what the sender would have sent one by one.
    fn check(&self, cuts: &[Packet]) {
        let segment_size = usize::from(self.segment_size);
        assert_eq!(cuts.len(), self.payload.len().div_ceil(segment_size).max(1));
        for (index, cut) in cuts.iter().enumerate() {
            let is_last = index + 1 == cuts.len();
            let begin = index * segment_size;
            let end = (begin + segment_size).min(self.payload.len());
            let octets = cut.to_bytes();
            let ip_len = self.check_ip(&octets, index);
            assert_eq!(
                octets[ip_len + self.transport_header_len()..],
                self.payload[begin..end]
            );
            if cuts.len() > 1 || self.is_partial {
                let mut sum = self.pseudo_header(octets.len() - ip_len);
                sum.add_u16(sum_packet(cut, ip_len).fold());
                assert_eq!(sum.finish(), 0, "the transport checksum is right");
            }
            if self.is_tcp {
                let (header, _) = tcp::Header::parse(&octets[ip_len..]).expect("a good TCP header");
                assert_eq!(header.sequence, self.sequence.wrapping_add(begin as u32));
                assert_eq!(
                    header.flags.0 & FIN_PSH,
                    if is_last { self.flags & FIN_PSH } else { 0 }
                );
                assert_eq!(
                    header.flags.0 & CWR,
                    if index == 0 { self.flags & CWR } else { 0 }
                );
                assert_eq!(
                    header.flags.0 & !(FIN_PSH | CWR),
                    self.flags & !(FIN_PSH | CWR)
                );
            } else {
                let (header, _) = udp::Header::parse(&octets[ip_len..]).expect("a good UDP header");
                assert_eq!(usize::from(header.length), udp::HEADER_LEN + end - begin);
            }
        }
    }

    fn check_ip(&self, octets: &[u8], index: usize) -> usize {
        if self.is_v6 {
            let (header, len) = ipv6::Header::parse(octets).expect("a good IPv6 header");
            assert_eq!(usize::from(header.payload_len), octets.len() - len);
            len
        } else {
            let (header, len) = ipv4::Header::parse(octets).expect("a good IPv4 header");
            assert_eq!(usize::from(header.total_len), octets.len());
            assert_eq!(
                header.identification,
                self.identification.wrapping_add(index as u16)
            );
            len
        }
    }
}

fn capabilities(input: &mut Input<'_>) -> Capabilities {
    let bits = input.u8();
    Capabilities {
        medium: Medium::Ip,
        mtu: 1500,
        offloads: OffloadSet {
            checksum: bits & 1 != 0,
            tso4: bits & 2 != 0,
            tso6: bits & 4 != 0,
            tso_ecn: bits & 8 != 0,
            uso4: bits & 16 != 0,
            uso6: bits & 32 != 0,
        },
        max_super_packet: usize::from(input.u16()),
    }
}

const SOURCE_V4: [u8; 4] = [10, 0, 0, 1];
const DESTINATION_V4: [u8; 4] = [10, 0, 0, 2];
const SOURCE_V6: [u16; 8] = [0xfd00, 0, 0, 0, 0, 0, 0, 1];
const DESTINATION_V6: [u16; 8] = [0xfd00, 0, 0, 0, 0, 0, 0, 2];
