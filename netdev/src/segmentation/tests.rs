use proptest::prelude::*;

use super::*;
use crate::test_packets::{Spec, Wire, check_wire};

fn specs() -> impl Strategy<Value = Spec> {
    let kinds = prop_oneof![
        Just((SegmentationKind::TcpV4, false)),
        Just((SegmentationKind::TcpV6, true)),
        Just((SegmentationKind::Udp, false)),
        Just((SegmentationKind::Udp, true)),
    ];
    (
        any::<bool>(),
        kinds,
        0usize..=40,
        0usize..=40,
        proptest::collection::vec(0usize..9000, 0..6),
        1u16..3000,
        any::<(u16, u32, u8)>(),
    )
        .prop_map(
            |(ethernet, (kind, udp_v6), network, transport, slices, size, fields)| Spec {
                medium: if ethernet {
                    Medium::Ethernet
                } else {
                    Medium::Ip
                },
                kind,
                udp_v6,
                // Long extension headers exceed the header room once the packet is flat.
                network_options: network * 8,
                transport_options: transport,
                slices,
                segment_size: size,
                identification: fields.0,
                sequence: fields.1,
                flags: fields.2,
            },
        )
}

fn cuts(packet: Packet, medium: Medium) -> Vec<Packet> {
    let mut out = Vec::new();
    segment(packet, medium, CutChecksum::Complete, |packet| {
        out.push(packet);
    })
    .expect("well-formed");
    out
}

fn wires(packets: &[Packet], medium: Medium) -> Vec<Wire> {
    packets
        .iter()
        .map(|packet| {
            assert_eq!(packet.offload, Default::default());
            check_wire(medium, &packet.to_bytes()).expect("a correct wire packet")
        })
        .collect()
}

/// Checks everything that a cut has to keep and to change: RFC 791 3.2 (identification), RFC 9293 3.4 and 3.6 (sequence
/// numbers, FIN), 3.9.1.2 (PSH), RFC 3168 6.1.2 (CWR).
fn assert_cut(spec: &Spec, wires: &[Wire]) {
    let size = usize::from(spec.segment_size);
    let payload = spec.payload();
    assert_eq!(wires.len(), payload.len().div_ceil(size).max(1));
    let joined: Vec<u8> = wires.iter().flat_map(|wire| wire.payload.clone()).collect();
    assert_eq!(joined, payload);
    for (i, wire) in wires.iter().enumerate() {
        let (is_first, is_last) = (i == 0, i + 1 == wires.len());
        assert!(wire.payload.len() == size || is_last);
        if !spec.is_v6() {
            assert_eq!(
                wire.identification,
                spec.identification.wrapping_add(i as u16)
            );
        }
        if spec.is_tcp() {
            assert_eq!(wire.sequence, spec.sequence.wrapping_add((i * size) as u32));
            let mut flags = spec.flags;
            if !is_first {
                flags &= !0x80;
            }
            if !is_last {
                flags &= !0x09;
            }
            assert_eq!(wire.flags, flags);
        }
    }
}

proptest! {
    #[test]
    fn the_length_on_a_wire_is_that_of_the_longest_cut(spec in specs()) {
        let spec = Spec { medium: Medium::Ip, ..spec };
        let mut packet = spec.build();
        let longest = cuts(packet.clone(), Medium::Ip).iter().map(Packet::len).max();
        prop_assert_eq!(wire_len(&mut packet).ok(), longest);
    }
}

#[test]
fn metadata_that_nobody_could_follow_has_no_length() {
    let partial = |start, offset| {
        let mut packet = Packet::from_bytes(Bytes::from(vec![0x45; 70_000]));
        packet.offload.checksum = Checksum::Partial { start, offset };
        wire_len(&mut packet).ok()
    };
    assert_eq!(partial(20, 16), Some(70_000));
    // Behind a frame's header its place would be beyond 16 bits.
    assert_eq!(partial(65_521, 6), Some(70_000));
    assert_eq!(partial(65_522, 6), None);
    // The field is two octets, or SCTP's four.
    let short = |len, offset| {
        let mut packet = Packet::from_bytes(Bytes::from(vec![0; len]));
        packet.offload.checksum = Checksum::Partial { start: 20, offset };
        wire_len(&mut packet).ok()
    };
    assert_eq!((short(28, 6), short(27, 6)), (Some(28), None));
    assert_eq!((short(32, 8), short(31, 8)), (Some(32), None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn cuts_carry_the_payload_and_correct_checksums(spec in specs()) {
        let packet = spec.build();
        let mut flat = Packet::from_bytes(packet.to_bytes());
        flat.offload = packet.offload;
        assert_cut(&spec, &wires(&cuts(packet, spec.medium), spec.medium));
        // As a device reads it: everything in one slice, no inline headers.
        assert_cut(&spec, &wires(&cuts(flat, spec.medium), spec.medium));
    }

    /// A received super-packet may be declared verified (GRO); its checksum field then holds nothing useful.
    #[test]
    fn cuts_of_a_verified_super_packet_get_checksums_of_their_own(spec in specs(), garbage: u16) {
        let mut packet = spec.build();
        if let Checksum::Partial { start, offset } = packet.offload.checksum {
            packet.overwrite(usize::from(start + offset), &garbage.to_be_bytes());
        }
        packet.offload.checksum = Checksum::Verified;
        assert_cut(&spec, &wires(&cuts(packet, spec.medium), spec.medium));
    }

    /// Cutting into what a small device takes and cutting that again is the same as cutting at once.
    #[test]
    fn cutting_twice_is_cutting_once(spec in specs(), max in 600usize..20_000) {
        let capabilities = Capabilities {
            medium: spec.medium,
            mtu: 1500,
            offloads: OffloadSet::ALL,
            max_super_packet: max,
        };
        let mut queue = VecDeque::new();
        prepare(&mut spec.build(), &capabilities, &mut queue).expect("well-formed");
        let mut twice = Vec::new();
        for packet in queue {
            prop_assert!(packet.offload.segmentation.is_none() || packet.len() <= max + 14);
            twice.extend(cuts(packet, spec.medium));
        }
        let wires = wires(&twice, spec.medium);
        assert_cut(&spec, &wires);
    }

    #[test]
    fn partial_checksums_of_cuts_complete_to_the_same_packets(spec in specs()) {
        let mut partial = Vec::new();
        segment(spec.build(), spec.medium, CutChecksum::Partial, |mut packet| {
            assert!(matches!(packet.offload.checksum, Checksum::Partial { .. }));
            complete_checksum(&mut packet).expect("well-formed");
            partial.push(packet);
        })
        .expect("well-formed");
        assert_cut(&spec, &wires(&partial, spec.medium));
    }

    /// Network input: any octets with any metadata are cut or refused, never a panic.
    #[test]
    fn arbitrary_octets_and_metadata_do_not_panic(
        mut octets in proptest::collection::vec(any::<u8>(), 0..300),
        version in prop_oneof![Just(0x45u8), Just(0x4f), Just(0x60), any::<u8>()],
        kind in prop_oneof![
            Just(SegmentationKind::TcpV4), Just(SegmentationKind::TcpV6), Just(SegmentationKind::Udp)
        ],
        (start, offset, segment_size) in any::<(u16, u16, u16)>(),
        near in any::<bool>(),
        cut in any::<prop::sample::Index>(),
        medium in prop_oneof![Just(Medium::Ip), Just(Medium::Ethernet)],
    ) {
        if let Some(first) = octets.get_mut(if medium == Medium::Ip { 0 } else { 14 }) {
            *first = version;
        }
        let bytes = Bytes::from(octets);
        let cut = cut.index(bytes.len() + 1);
        let mut packet = Packet::from_bytes(bytes.slice(..cut));
        packet.push(bytes.slice(cut..));
        let (start, offset) = if near { (start % 80, offset % 20) } else { (start, offset) };
        packet.offload = Offload {
            checksum: Checksum::Partial { start, offset },
            segmentation: Some(Segmentation { kind, segment_size, ecn: false }),
        };
        let mut octets_out = 0;
        let count = |packet: Packet| octets_out += packet.len();
        let _ = segment(packet.clone(), medium, CutChecksum::Complete, count);
        prop_assert!(octets_out <= 300 * 300);
        packet.offload.checksum = Checksum::Unverified;
        let _ = segment(packet.clone(), medium, CutChecksum::Partial, |_| ());
        packet.offload.segmentation = None;
        packet.offload.checksum = Checksum::Partial { start, offset };
        let len = packet.len();
        let completed = complete_checksum(&mut packet);
        // A CRC32c has four octets, at the end of SCTP's common header.
        let field = if offset == SCTP_CHECKSUM { 4 } else { 2 };
        let is_inside = usize::from(start) + usize::from(offset) + field <= len;
        prop_assert_eq!(completed.is_ok(), is_inside);
        prop_assert_eq!(packet.len(), len);
    }
}

#[test]
fn checksum_is_completed_where_its_field_is_whole() {
    for (offset, field) in [(6, 2), (16, 2), (SCTP_CHECKSUM, 4)] {
        for len in 0..40 {
            let mut packet = Packet::from_bytes(vec![0; len].into());
            packet.offload.checksum = Checksum::Partial { start: 10, offset };
            let is_inside = 10 + usize::from(offset) + field <= len;
            assert_eq!(
                complete_checksum(&mut packet).is_ok(),
                is_inside,
                "{offset} {len}"
            );
        }
    }
}

#[test]
fn cut_payload_is_not_copied() {
    let payload = Bytes::from(vec![5; 4000]);
    let spec = Spec {
        slices: vec![],
        segment_size: 1000,
        ..Spec::default()
    };
    let mut packet = spec.build();
    packet.push(payload.clone());
    let total = packet.len() as u16;
    packet.head_mut()[2..4].copy_from_slice(&total.to_be_bytes());
    for (i, cut) in cuts(packet, Medium::Ip).iter().enumerate() {
        assert_eq!(cut.body().len(), 1);
        assert_eq!(cut.body()[0].as_ptr(), payload[i * 1000..].as_ptr());
    }
}

#[test]
fn a_udp_checksum_of_zero_is_sent_as_all_ones() {
    // RFC 768: "If the computed checksum is zero, it is transmitted as all ones".
    let spec = Spec {
        kind: SegmentationKind::Udp,
        slices: vec![2],
        segment_size: 0,
        ..Spec::default()
    };
    let mut packet = spec.build();
    complete_checksum(&mut packet).expect("well-formed");
    let checksum = packet.to_bytes().slice(26..28);
    // Putting the checksum into the payload makes the sum all ones and its complement 0.
    let mut packet = spec.build();
    let payload = u16::from_be_bytes([packet.octet(28).unwrap(), packet.octet(29).unwrap()]);
    let wanted = u32::from(payload) + u32::from(u16::from_be_bytes([checksum[0], checksum[1]]));
    let wanted = (wanted & 0xffff) + (wanted >> 16);
    packet.overwrite(28, &(wanted as u16).to_be_bytes());
    complete_checksum(&mut packet).expect("well-formed");
    assert_eq!(&packet.to_bytes()[26..28], &[0xff, 0xff]);
    assert!(check_wire(Medium::Ip, &packet.to_bytes()).is_ok());
}

fn prepared(spec: &Spec, offloads: OffloadSet) -> Vec<Packet> {
    let capabilities = Capabilities {
        medium: spec.medium,
        mtu: 1500,
        offloads,
        max_super_packet: 65_535,
    };
    let mut queue = VecDeque::new();
    prepare(&mut spec.build(), &capabilities, &mut queue).expect("well-formed");
    queue.into()
}

#[test]
fn prepare_leaves_to_the_device_what_it_can_do() {
    let tcp = Spec {
        flags: 0x10,
        ..Spec::default()
    };
    let tcp_cwr = Spec::default();
    let tcp6 = Spec {
        kind: SegmentationKind::TcpV6,
        flags: 0x10,
        ..Spec::default()
    };
    let udp = Spec {
        kind: SegmentationKind::Udp,
        ..Spec::default()
    };
    let udp6 = Spec {
        udp_v6: true,
        ..udp.clone()
    };
    let only = |change: fn(&mut OffloadSet)| {
        let mut set = OffloadSet::NONE;
        set.checksum = true;
        change(&mut set);
        set
    };
    let without_checksum = OffloadSet {
        checksum: false,
        ..OffloadSet::ALL
    };
    // Spec, what the device can do, packets that come out of 3500 octets, whether their checksums stay partial.
    let table = [
        (&tcp, OffloadSet::ALL, 1, true),
        (&tcp, only(|set| set.tso4 = true), 1, true),
        (&tcp, only(|set| set.tso6 = true), 3, true),
        (&tcp, OffloadSet::NONE, 3, false),
        (&tcp, without_checksum, 3, false),
        (&tcp_cwr, OffloadSet::ALL, 1, true),
        (&tcp_cwr, only(|set| set.tso4 = true), 3, true),
        (&tcp6, only(|set| set.tso6 = true), 1, true),
        (&tcp6, only(|set| set.tso4 = true), 3, true),
        (&udp, only(|set| set.uso4 = true), 1, true),
        (&udp, only(|set| set.uso6 = true), 3, true),
        (&udp6, only(|set| set.uso6 = true), 1, true),
        (&udp6, only(|set| set.uso4 = true), 3, true),
    ];
    for (i, (spec, offloads, count, is_partial)) in table.into_iter().enumerate() {
        let packets = prepared(spec, offloads);
        assert_eq!(packets.len(), count, "row {i}");
        for packet in &packets {
            let partial = matches!(packet.offload.checksum, Checksum::Partial { .. });
            assert_eq!(partial, is_partial, "row {i}");
            assert_eq!(packet.offload.segmentation.is_some(), count == 1, "row {i}");
        }
    }
}

#[test]
fn a_super_packet_of_one_segment_loses_its_metadata() {
    for (slices, stays) in [
        (vec![1448], false),
        (vec![0], false),
        (vec![1000, 449], true),
    ] {
        let spec = Spec {
            slices,
            ..Spec::default()
        };
        let packets = prepared(&spec, OffloadSet::ALL);
        assert_eq!(packets.len(), 1);
        assert_eq!(packets[0].offload.segmentation.is_some(), stays);
        assert_eq!(packets[0].to_bytes(), spec.build().to_bytes());
    }
}

#[test]
fn a_plain_packet_is_completed_only_for_a_device_without_checksums() {
    let spec = Spec {
        segment_size: 0,
        ..Spec::default()
    };
    let kept = prepared(&spec, OffloadSet::ALL);
    assert!(matches!(kept[0].offload.checksum, Checksum::Partial { .. }));
    let completed = prepared(&spec, OffloadSet::NONE);
    assert_eq!(wires(&completed, Medium::Ip)[0].payload, spec.payload());
}

#[test]
fn an_open_sctp_checksum_becomes_a_crc_whatever_the_device_can() {
    // A device behind a virtio header that says "sum from here" would make an Internet checksum of it.
    for (medium, kind, len) in [
        (Medium::Ip, SegmentationKind::TcpV4, 1400),
        (Medium::Ip, SegmentationKind::TcpV6, 1),
        (Medium::Ethernet, SegmentationKind::TcpV4, 3),
        (Medium::Ethernet, SegmentationKind::TcpV6, 65_000),
    ] {
        let spec = Spec {
            medium,
            kind,
            slices: vec![len],
            ..Spec::default()
        };
        let mut out = vec![];
        for offloads in [OffloadSet::ALL, OffloadSet::NONE] {
            let capabilities = Capabilities {
                medium,
                mtu: 1500,
                offloads,
                max_super_packet: 65_535,
            };
            let mut queue = VecDeque::new();
            prepare(&mut spec.build_sctp(), &capabilities, &mut queue).expect("well-formed");
            out.extend(queue);
        }
        out.extend(cuts(spec.build_sctp(), medium));
        let mut completed = spec.build_sctp();
        complete_checksum(&mut completed).expect("well-formed");
        out.push(completed);
        assert_eq!(out.len(), 4);
        for wire in wires(&out, medium) {
            assert_eq!(wire.payload, spec.payload(), "{spec:?}");
        }
    }
}

#[test]
fn an_open_sctp_checksum_without_a_whole_header_is_refused() {
    for len in 20..32 {
        let spec = Spec {
            segment_size: 0,
            ..Spec::default()
        };
        let mut packet = spec.build_sctp();
        packet.truncate(len);
        let before = packet.to_bytes();
        assert_eq!(complete_checksum(&mut packet), Err(Malformed));
        assert_eq!(packet.to_bytes(), before);
    }
}

#[test]
fn link_padding_is_not_cut_as_payload() {
    let spec = Spec {
        medium: Medium::Ethernet,
        ..Spec::default()
    };
    let mut packet = spec.build();
    packet.push(Bytes::from_static(&[0xee; 7]));
    assert_cut(&spec, &wires(&cuts(packet, spec.medium), spec.medium));
}

#[test]
fn a_transport_header_beyond_16_bits_is_refused() {
    // 65,520 octets of IPv6 destination options before the TCP header: offsets no longer fit the metadata.
    let mut octets = vec![0; 14 + 40];
    octets[12..14].copy_from_slice(&[0x86, 0xdd]);
    octets[14] = 0x60;
    octets[14 + 6] = 60;
    for i in 0..32 {
        let (next, len) = if i < 31 { (60, 2048) } else { (6, 2008) };
        let mut extension = vec![0; len];
        extension[0] = next;
        extension[1] = (len / 8 - 1) as u8;
        octets.extend_from_slice(&extension);
    }
    let mut tcp = [0; 24];
    tcp[12] = 0x50;
    octets.extend_from_slice(&tcp);
    let length = (octets.len() - 54) as u16;
    octets[18..20].copy_from_slice(&length.to_be_bytes());
    let mut packet = Packet::from_bytes(octets.into());
    packet.offload.segmentation = Some(Segmentation {
        kind: SegmentationKind::TcpV6,
        segment_size: 1,
        ecn: false,
    });
    let result = segment(packet, Medium::Ethernet, CutChecksum::Complete, |_| ());
    assert_eq!(result, Err(Malformed));
}

#[test]
fn malformed_super_packets_are_refused() {
    type Change = fn(&mut Packet);
    let changes: [(&str, Change); 9] = [
        ("segment size 0", |packet| {
            packet.offload.segmentation.as_mut().unwrap().segment_size = 0;
        }),
        ("another kind", |packet| {
            packet.offload.segmentation.as_mut().unwrap().kind = SegmentationKind::TcpV6;
        }),
        ("checksum elsewhere", |packet| {
            packet.offload.checksum = Checksum::Partial {
                start: 24,
                offset: 16,
            };
        }),
        ("shorter than its length", |packet| packet.truncate(3000)),
        ("no room for headers", |packet| packet.truncate(30)),
        ("a fragment", |packet| packet.head_mut()[6] = 0x20),
        ("another protocol", |packet| packet.head_mut()[9] = 132),
        ("data offset 4", |packet| packet.head_mut()[32] = 0x40),
        ("header length 4", |packet| packet.head_mut()[0] = 0x44),
    ];
    for (what, change) in changes {
        let mut packet = Spec::default().build();
        change(&mut packet);
        let mut count = 0;
        let result = segment(packet, Medium::Ip, CutChecksum::Complete, |_| count += 1);
        assert_eq!((result, count), (Err(Malformed), 0), "{what}");
    }
}
