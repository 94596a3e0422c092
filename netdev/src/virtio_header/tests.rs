use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::segmentation::{CutChecksum, segment};
use crate::test_packets::Spec;

fn header(flags: u8, gso_type: u8, fields: [u16; 4]) -> [u8; VIRTIO_HEADER_LEN] {
    let mut header = [flags, gso_type, 0, 0, 0, 0, 0, 0, 0, 0];
    for (i, field) in fields.into_iter().enumerate() {
        header[2 + i * 2..4 + i * 2].copy_from_slice(&field.to_ne_bytes());
    }
    header
}

#[test]
fn encodes_every_kind() {
    let v4 = Spec::default();
    let cases = [
        // TCP with CWR over IPv4: 20 + 32 octets of headers.
        (v4.clone(), header(1, 0x81, [52, 1448, 20, 16])),
        (
            Spec {
                kind: SegmentationKind::TcpV6,
                flags: 0x10,
                medium: Medium::Ethernet,
                ..v4.clone()
            },
            header(1, 4, [86, 1448, 54, 16]),
        ),
        (
            Spec {
                kind: SegmentationKind::Udp,
                udp_v6: true,
                ..v4.clone()
            },
            header(1, 5, [48, 1448, 40, 6]),
        ),
        (
            Spec {
                segment_size: 0,
                ..v4.clone()
            },
            header(1, 0, [0, 0, 20, 16]),
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(encode(&spec.build()), expected, "{spec:?}");
    }
    let mut complete = v4.build();
    complete.offload = Offload::default();
    assert_eq!(encode(&complete), [0; VIRTIO_HEADER_LEN]);
    complete.offload.checksum = Checksum::Verified;
    assert_eq!(encode(&complete)[0], FLAG_DATA_VALID);
}

#[test]
fn decode_reads_back_what_encode_wrote() {
    for medium in [Medium::Ip, Medium::Ethernet] {
        for kind in [
            SegmentationKind::TcpV4,
            SegmentationKind::TcpV6,
            SegmentationKind::Udp,
        ] {
            for udp_v6 in [false, true] {
                for segment_size in [0, 1, 1448] {
                    let spec = Spec {
                        medium,
                        kind,
                        udp_v6,
                        segment_size,
                        network_options: 16,
                        ..Spec::default()
                    };
                    let packet = spec.build();
                    let decoded = decode(&encode(&packet), &packet.to_bytes(), medium);
                    assert_eq!(decoded, Ok(packet.offload), "{spec:?}");
                }
            }
        }
    }
}

#[test]
fn refuses_headers_that_do_not_fit_the_packet() {
    use VirtioHeaderError::*;
    let packet = Spec::default().build().to_bytes();
    let len = packet.len() as u16;
    let cases = [
        (header(1, 0, [0, 0, 20, 16]), None),
        (header(1, 0, [0, 0, len - 18, 16]), None),
        (header(1, 0, [0, 0, len - 17, 16]), Some(ChecksumRange)),
        (header(1, 0, [0, 0, 19, 16]), Some(ChecksumRange)),
        (header(1, 0, [0, 0, 0, 16]), Some(ChecksumRange)),
        (header(1, 0, [0, 0, 20, 0xffff]), Some(ChecksumRange)),
        (header(1, 0, [0, 0, 0xffff, 0xffff]), Some(ChecksumRange)),
        (header(1, 1, [0xffff, 1448, 20, 16]), None),
        (header(1, 1, [0, 1448, 24, 16]), Some(ChecksumRange)),
        (header(1, 1, [0, 1448, 20, 6]), Some(ChecksumRange)),
        (header(1, 1, [0, 0, 20, 16]), Some(NoSegmentSize)),
        (header(2, 1, [0, 1448, 0, 0]), None),
        (header(0, 1, [0, 1448, 0, 0]), Some(NoChecksum)),
        (header(1, 4, [0, 1448, 20, 16]), Some(HeaderMismatch)),
        (header(1, 5, [0, 1448, 20, 16]), Some(HeaderMismatch)),
        (header(1, 3, [0, 1448, 20, 16]), Some(UnknownSegmentation)),
        (
            header(1, 0x80, [0, 1448, 20, 16]),
            Some(UnknownSegmentation),
        ),
        (header(0, 0, [1, 2, 3, 4]), None),
    ];
    for (header, error) in cases {
        let decoded = decode(&header, &packet, Medium::Ip);
        assert_eq!(decoded.err(), error, "{header:?}");
    }
    let arp = [0; 42];
    let decoded = decode(&header(1, 0, [0, 0, 34, 6]), &arp, Medium::Ethernet);
    assert_eq!(decoded, Err(ChecksumRange));
}

#[test]
fn a_crc_is_left_to_do_in_sctp_packets_alone() {
    for medium in [Medium::Ip, Medium::Ethernet] {
        for kind in [SegmentationKind::TcpV4, SegmentationKind::TcpV6] {
            for network_options in [0, 16] {
                let spec = Spec {
                    medium,
                    kind,
                    network_options,
                    segment_size: 0,
                    ..Spec::default()
                };
                for (packet, offset, decodes) in [
                    (spec.build_sctp(), 8, true),
                    // An Internet checksum of an SCTP packet, and a CRC of a TCP segment, would be those of no packet.
                    (spec.build_sctp(), 16, false),
                    (spec.build_sctp(), 6, false),
                    (spec.build(), 8, false),
                    (spec.build(), 16, true),
                ] {
                    let Checksum::Partial { start, .. } = packet.offload.checksum else {
                        panic!("built with a partial checksum");
                    };
                    let octets = packet.to_bytes();
                    let expected = if decodes {
                        Ok(packet.offload)
                    } else {
                        Err(VirtioHeaderError::ChecksumRange)
                    };
                    let decoded = decode(&header(1, 0, [0, 0, start, offset]), &octets, medium);
                    assert_eq!(decoded, expected, "{spec:?} {offset}");
                    let beside = header(1, 0, [0, 0, start + 4, 8]);
                    assert!(decode(&beside, &octets, medium).is_err(), "{spec:?}");
                }
            }
        }
    }
}

proptest! {
    /// What decode lets through can be cut or is refused there: no panic, and the network header is out of reach.
    #[test]
    fn arbitrary_headers_and_packets_do_not_panic(
        mut header: [u8; VIRTIO_HEADER_LEN],
        octets in proptest::collection::vec(any::<u8>(), 0..200),
        valid in any::<bool>(),
        low in any::<bool>(),
        ethernet in any::<bool>(),
    ) {
        let medium = if ethernet { Medium::Ethernet } else { Medium::Ip };
        let spec = Spec { medium, ..Spec::default() };
        let bytes = if valid { spec.build().to_bytes() } else { Bytes::from(octets) };
        if low {
            header[1] &= 0x85;
            for at in [6, 8] {
                let small = u16::from_ne_bytes([header[at], header[at + 1]]) % 64;
                header[at..at + 2].copy_from_slice(&small.to_ne_bytes());
            }
        }
        if let Ok(offload) = decode(&header, &bytes, medium) {
            let network = if ethernet { 14 } else { 0 };
            if let Checksum::Partial { start, .. } = offload.checksum {
                prop_assert!(usize::from(start) >= network + 20);
            }
            let mut packet = Packet::from_bytes(bytes);
            packet.offload = offload;
            let encoded = encode(&packet);
            prop_assert_eq!(encoded[4..6] == header[4..6], offload.segmentation.is_some() || header[4..6] == [0, 0]);
            let _ = segment(packet, medium, CutChecksum::Complete, |_| ());
        }
    }
}
