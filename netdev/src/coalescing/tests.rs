use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::task::Waker;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::checksum::{pseudo_header_v4, pseudo_header_v6};
use crate::device::OffloadSet;
use crate::memory::{PairConfig, pair};
use crate::segmentation::{CutChecksum, complete_checksum, segment};
use crate::test_packets::{Spec, check_wire};

/// Wire packets of a burst that a sender would cut from one super-packet.
fn burst(spec: &Spec) -> Vec<Packet> {
    let mut out = Vec::new();
    segment(spec.build(), spec.medium, CutChecksum::Complete, |packet| {
        out.push(packet);
    })
    .expect("well-formed");
    out
}

fn spec(kind: SegmentationKind, slices: &[usize]) -> Spec {
    Spec {
        kind,
        slices: slices.to_vec(),
        segment_size: 1448,
        flags: ACK,
        ..Spec::default()
    }
}

fn config(medium: Medium, udp: bool) -> CoalescingConfig {
    CoalescingConfig {
        medium,
        udp,
        ..CoalescingConfig::default()
    }
}

fn coalesced(mut batch: Vec<Packet>, config: &CoalescingConfig) -> Vec<Packet> {
    let mut coalescer = Coalescer::new(config.clone());
    coalescer.coalesce(&mut batch);
    assert!(coalescer.open.is_empty());
    let in_super_packets = batch
        .iter()
        .filter(|packet| packet.offload.segmentation.is_some())
        .count();
    assert_eq!(coalescer.stats().super_packets, in_super_packets as u64);
    batch
}

fn octets(packets: &[Packet]) -> Vec<Bytes> {
    packets.iter().map(Packet::to_bytes).collect()
}

/// Cuts everything again.
fn cut(packets: Vec<Packet>, medium: Medium) -> Vec<Bytes> {
    let mut out = Vec::new();
    for packet in packets {
        segment(packet, medium, CutChecksum::Complete, |packet| {
            out.push(packet.to_bytes());
        })
        .expect("a super-packet of ours can be cut");
    }
    out
}

/// As a device reads it.
fn flat(packet: &Packet) -> Packet {
    Packet::from_bytes(packet.to_bytes())
}

/// Makes lengths and checksums right again after a change; `payload` is where the payload begins.
fn mend(frame: &mut [u8], medium: Medium) {
    let network = if medium == Medium::Ethernet { 14 } else { 0 };
    let len = frame.len();
    let ip = &mut frame[network..];
    let (transport, protocol, mut sum) = if ip[0] >> 4 == 4 {
        let header = usize::from(ip[0] & 15) * 4;
        set_word(ip, 10, 0);
        let mut sum = Sum::new();
        sum.add_bytes(&ip[..header]);
        set_word(ip, 10, usize::from(sum.finish()));
        let address = |at: usize| -> [u8; 4] { ip[at..at + 4].try_into().expect("four octets") };
        let length = (len - network - header) as u32;
        let sum = pseudo_header_v4(address(12).into(), address(16).into(), ip[9], length);
        (header, ip[9], sum)
    } else {
        let address = |at: usize| -> [u8; 16] { ip[at..at + 16].try_into().expect("16 octets") };
        let length = (len - network - 40) as u32;
        let sum = pseudo_header_v6(address(8).into(), address(24).into(), ip[6], length);
        (40, ip[6], sum)
    };
    let offset = if protocol == TCP { 16 } else { 6 };
    let transport = &mut ip[transport..];
    set_word(transport, offset, 0);
    sum.add_bytes(transport);
    let value = on_the_wire(sum.finish(), offset as u16);
    set_word(transport, offset, usize::from(value));
}

#[test]
fn a_burst_becomes_the_super_packet_it_was_cut_from() {
    for medium in [Medium::Ip, Medium::Ethernet] {
        for (kind, udp_v6) in [
            (SegmentationKind::TcpV4, false),
            (SegmentationKind::TcpV6, false),
            (SegmentationKind::Udp, false),
            (SegmentationKind::Udp, true),
        ] {
            let spec = Spec {
                medium,
                udp_v6,
                flags: CWR | ACK | PSH,
                // Odd, so that sums of payloads begin in the middle of a word.
                segment_size: 1447,
                ..spec(kind, &[20_000, 41])
            };
            let wire = burst(&spec);
            assert_eq!(wire.len(), 14);
            let before = octets(&wire);
            for batch in [wire.iter().map(flat).collect(), wire.clone()] {
                let joined = coalesced(batch, &config(medium, true));
                assert_eq!(joined.len(), 1);
                assert_eq!(joined[0].offload.checksum, Checksum::Verified);
                assert_eq!(
                    joined[0].offload.segmentation,
                    spec.build().offload.segmentation
                );
                let whole = check_wire(medium, &joined[0].to_bytes());
                let whole = whole.expect("its own checksums are right, too");
                assert_eq!(whole.payload, spec.payload());
                assert_eq!(cut(joined, medium), before);
            }
        }
    }
}

#[test]
fn payload_is_not_copied() {
    let wire: Vec<Packet> = burst(&spec(SegmentationKind::TcpV4, &[5000]))
        .iter()
        .map(flat)
        .collect();
    let pointers: Vec<_> = wire
        .iter()
        .map(|packet| packet.contiguous()[52..].as_ptr())
        .collect();
    let joined = coalesced(wire, &CoalescingConfig::default());
    let slices = joined[0].body().iter().map(|slice| slice.as_ptr());
    assert_eq!(slices.collect::<Vec<_>>(), pointers);
}

#[test]
fn super_packets_end_at_their_limits() {
    let config = CoalescingConfig::default();
    // 46 segments, of which 45 fit 65,535 octets with their 52 octets of headers.
    let long = [
        burst(&spec(SegmentationKind::TcpV4, &[45 * 1448 - 1448])),
        burst(&Spec {
            sequence: 0xffff_ff00_u32.wrapping_add(44 * 1448),
            identification: 0xfffe_u16.wrapping_add(44),
            ..spec(SegmentationKind::TcpV4, &[2 * 1448])
        }),
    ]
    .concat();
    let joined = coalesced(long, &config);
    let lens: Vec<_> = joined.iter().map(Packet::len).collect();
    assert_eq!(lens, [45 * 1448 + 52, 1448 + 52]);

    let tiny = burst(&Spec {
        segment_size: 1,
        ..spec(SegmentationKind::TcpV6, &[130])
    });
    let joined = coalesced(tiny, &config);
    let lens: Vec<_> = joined.iter().map(|packet| packet.len() - 72).collect();
    assert_eq!(lens, [64, 64, 2]);

    let small = CoalescingConfig {
        max_super_packet: 5000,
        ..config
    };
    let joined = coalesced(burst(&spec(SegmentationKind::TcpV4, &[14_480])), &small);
    assert!(joined.iter().all(|packet| packet.len() <= 5000));
    assert_eq!(joined.len(), 4);
}

#[test]
fn flows_are_joined_side_by_side_up_to_a_bound() {
    for (flows, expected) in [(1, 1), (8, 8), (9, 9 * 6)] {
        let mut batch = Vec::new();
        for index in 0..6 {
            for flow in 0..flows {
                let mut octets = burst(&spec(SegmentationKind::TcpV4, &[6 * 1448]))[index]
                    .to_bytes()
                    .to_vec();
                set_word(&mut octets, 20, 1000 + flow);
                mend(&mut octets, Medium::Ip);
                batch.push(Packet::from_bytes(octets.into()));
            }
        }
        let joined = coalesced(batch, &CoalescingConfig::default());
        assert_eq!(joined.len(), expected, "{flows} flows");
    }
}

#[test]
fn packets_of_no_flow_stand_in_nobodys_way_but_unclear_ones_do() {
    let wire = burst(&spec(SegmentationKind::TcpV4, &[2896]));
    let foreign = |octets: &[u8]| Packet::from_bytes(Bytes::copy_from_slice(octets));
    let mut icmp = wire[0].to_bytes().to_vec();
    icmp[9] = 1;
    let mut fragment = wire[0].to_bytes().to_vec();
    fragment[6] = 0x20;
    for (between, expected) in [
        (foreign(&icmp), 2),
        (flat(&burst(&spec(SegmentationKind::Udp, &[10]))[0]), 2),
        (foreign(&fragment), 3),
        (foreign(&[]), 3),
        (foreign(&[0x45]), 3),
        (Packet::from_header(&icmp[..9]), 3),
    ] {
        let batch = vec![wire[0].clone(), between, wire[1].clone()];
        let joined = coalesced(batch, &CoalescingConfig::default());
        assert_eq!(joined.len(), expected);
    }
    let mut arp = vec![0; 42];
    arp[12..14].copy_from_slice(&[8, 6]);
    let wire = burst(&Spec {
        medium: Medium::Ethernet,
        ..spec(SegmentationKind::TcpV4, &[2896])
    });
    let batch = vec![wire[0].clone(), foreign(&arp), wire[1].clone()];
    assert_eq!(coalesced(batch, &config(Medium::Ethernet, false)).len(), 2);
}

#[test]
fn verified_and_partial_checksums_are_not_summed_again() {
    let spec = spec(SegmentationKind::TcpV4, &[4000]);
    let before = octets(&burst(&spec));
    let mut verified = burst(&spec);
    for packet in &mut verified {
        packet.offload.checksum = Checksum::Verified;
    }
    let joined = coalesced(verified, &CoalescingConfig::default());
    check_wire(Medium::Ip, &joined[0].to_bytes()).expect("the sum follows from the fields");
    assert_eq!(cut(joined, Medium::Ip), before);

    let mut partial = Vec::new();
    segment(spec.build(), Medium::Ip, CutChecksum::Partial, |packet| {
        partial.push(packet);
    })
    .expect("well-formed");
    let mut mixed = partial.clone();
    complete_checksum(&mut mixed[1]).expect("well-formed");
    assert_eq!(coalesced(mixed, &CoalescingConfig::default()).len(), 3);
    let joined = coalesced(partial, &CoalescingConfig::default());
    assert_eq!(joined.len(), 1);
    let mut whole = joined[0].clone();
    assert!(matches!(whole.offload.checksum, Checksum::Partial { .. }));
    complete_checksum(&mut whole).expect("a partial checksum");
    check_wire(Medium::Ip, &whole.to_bytes()).expect("complete");
    assert_eq!(cut(joined, Medium::Ip), before);
}

#[test]
fn packets_without_a_neighbour_stay_as_they_were() {
    let wire = burst(&spec(SegmentationKind::TcpV4, &[2896]));
    let mut wrong = wire[1].to_bytes().to_vec();
    wrong[1000] ^= 1;
    let batch = vec![
        flat(&wire[0]),
        Packet::from_bytes(wrong.into()),
        flat(&wire[0]),
    ];
    let before = octets(&batch);
    let mut coalescer = Coalescer::new(CoalescingConfig::default());
    let mut after = batch;
    coalescer.coalesce(&mut after);
    assert_eq!(octets(&after), before);
    for packet in &after {
        assert_eq!(packet.offload, Default::default());
    }
    assert_eq!(coalescer.stats().wrong_checksums, 1);
    assert_eq!(coalescer.stats().super_packets, 0);
}

/// What is done to a burst of two frames that would be joined otherwise.
type Change = fn(&mut [Vec<u8>; 2]);

/// Offset of the TCP or UDP header behind IPv4.
const T: usize = 20;

/// Changes after which lengths and checksums are made right again.
const NEVER_JOINED_V4: &[(&str, Change)] = &[
    ("another source address is another flow", |f| f[1][15] ^= 1),
    ("another destination address is another flow", |f| {
        f[1][19] ^= 1;
    }),
    ("another source port is another flow", |f| f[1][T + 1] ^= 1),
    ("another destination port is another flow", |f| {
        f[1][T + 3] ^= 1;
    }),
    ("RFC 791: TTL belongs to the packet", |f| f[1][8] -= 1),
    ("RFC 2474 3: DSCP belongs to the packet", |f| {
        f[1][1] = 0x28;
    }),
    ("RFC 3168 5.3: CE does not spread", |f| {
        f[0][1] = 2;
        f[1][1] = 3;
    }),
    ("RFC 3168 5.3: CE does not vanish", |f| {
        f[0][1] = 3;
        f[1][1] = 2;
    }),
    ("RFC 791: DF belongs to the packet", |f| f[1][6] = 0),
    ("RFC 791 3.2: identifications go on", |f| {
        set_word(&mut f[1], 4, 77);
    }),
    ("RFC 6864 4.1: equal identifications need DF", |f| {
        f[0][6] = 0;
        f[1][6] = 0;
        f[1].copy_within(4..6, 4);
        let id = [f[0][4], f[0][5]];
        f[1][4..6].copy_from_slice(&id);
    }),
    ("RFC 791 3.1: options speak to every packet", |f| {
        for frame in f {
            frame.splice(20..20, [1, 1, 1, 0]);
            frame[0] = 0x46;
            let len = frame.len();
            set_word(frame, 2, len);
        }
    }),
    ("RFC 9293 3.4: a gap in sequence", |f| f[1][T + 7] ^= 8),
    ("RFC 9293 3.4: the same segment again", |f| {
        f[1] = f[0].clone();
    }),
    ("RFC 9293 3.4: out of order", |f| f.swap(0, 1)),
    ("RFC 9293 3.1: another acknowledgment", |f| {
        f[1][T + 11] ^= 1;
    }),
    ("RFC 9293 3.1: another window", |f| f[1][T + 15] ^= 1),
    ("RFC 9293 3.1: another urgent pointer", |f| {
        f[1][T + 19] ^= 1;
    }),
    ("RFC 9293 3.1: a reserved bit", |f| f[1][T + 12] |= 2),
    ("RFC 7323 3: other timestamps", |f| f[1][T + 31] ^= 1),
    ("RFC 9293 3.9.1.2: PSH ends a super-packet", |f| {
        f[0][T + 13] |= PSH;
    }),
    ("SYN is never joined", |f| f[1][T + 13] |= 0x02),
    ("FIN is never joined", |f| f[1][T + 13] |= 0x01),
    ("RST is never joined", |f| f[1][T + 13] |= 0x04),
    ("URG is never joined", |f| f[1][T + 13] |= 0x20),
    ("nor after URG", |f| {
        f[0][T + 13] |= 0x20;
        f[1][T + 13] |= 0x20;
    }),
    ("RFC 3168 6.1.3: ECE is never joined", |f| {
        f[1][T + 13] |= 0x40;
    }),
    ("RFC 3168 6.1.2: CWR only comes first", |f| {
        f[1][T + 13] |= CWR;
    }),
    ("a segment without ACK is never joined", |f| {
        f[1][T + 13] &= !ACK;
    }),
    ("a longer segment than the first", |f| {
        f[0].truncate(1000);
        set_word(&mut f[0], 2, 1000);
        let sequence = double_word(&f[0], T + 4).wrapping_add(1000 - 52);
        f[1][T + 4..T + 8].copy_from_slice(&sequence.to_be_bytes());
    }),
    ("a pure ACK", |f| {
        f[1].truncate(52);
        set_word(&mut f[1], 2, 52);
    }),
    ("after a pure ACK", |f| {
        f[0].truncate(52);
        set_word(&mut f[0], 2, 52);
        let sequence = double_word(&f[0], T + 4);
        f[1][T + 4..T + 8].copy_from_slice(&sequence.to_be_bytes());
    }),
];

/// Changes that are left as they are.
const NEVER_JOINED_DAMAGED: &[(&str, Change)] = &[
    ("RFC 9293 MUST-3: a wrong checksum in the second", |f| {
        f[1][700] ^= 0x10;
    }),
    ("RFC 9293 MUST-3: a wrong checksum in the first", |f| {
        f[0][700] ^= 0x10;
    }),
    ("RFC 791: a wrong header checksum in the second", |f| {
        f[1][10] ^= 1;
    }),
    ("RFC 791: a wrong header checksum in the first", |f| {
        f[0][10] ^= 1;
    }),
    ("padding behind the first", |f| f[0].push(0)),
    ("padding behind the second", |f| f[1].push(0)),
    ("RFC 791: a fragment", |f| f[1][6] |= 0x20),
    ("RFC 9293 3.1: a data offset below 5", |f| {
        f[1][T + 12] = 0x40;
    }),
    ("a length beyond the packet", |f| {
        f[1].truncate(1400);
    }),
];

const NEVER_JOINED_V6: &[(&str, Change)] = &[
    ("RFC 6437 2: another flow label", |f| f[1][3] ^= 1),
    ("RFC 8200 3: another hop limit", |f| f[1][7] -= 1),
    ("RFC 3168 5.3: CE does not spread", |f| f[1][1] |= 0x30),
    ("RFC 2474 3: another traffic class", |f| f[1][0] |= 1),
    ("another source address", |f| f[1][9] ^= 1),
    ("another destination address", |f| f[1][39] ^= 1),
];

const NEVER_JOINED_UDP: &[(&str, Change)] = &[
    ("RFC 768: no checksum in the second", |f| {
        set_word(&mut f[1], T + 6, 0);
    }),
    ("RFC 768: no checksum in the first", |f| {
        set_word(&mut f[0], T + 6, 0);
    }),
    ("RFC 768: a length of its own", |f| {
        f[1][T + 5] -= 1;
    }),
];

fn assert_not_joined(kind: SegmentationKind, table: &[(&str, Change)], mends: bool) {
    for medium in [Medium::Ip, Medium::Ethernet] {
        for (rule, change) in table {
            let wire = burst(&spec(kind, &[2896]));
            let mut frames = [wire[0].to_bytes().to_vec(), wire[1].to_bytes().to_vec()];
            change(&mut frames);
            let mut batch = Vec::new();
            for mut frame in frames {
                if mends {
                    mend(&mut frame, Medium::Ip);
                }
                if medium == Medium::Ethernet {
                    let mut header = vec![2; 12];
                    header.extend(if frame[0] >> 4 == 4 {
                        [8, 0]
                    } else {
                        [0x86, 0xdd]
                    });
                    frame.splice(0..0, header);
                }
                batch.push(Packet::from_bytes(frame.into()));
            }
            let before = octets(&batch);
            let after = coalesced(batch, &config(medium, true));
            assert_eq!(octets(&after), before, "{rule}");
            for packet in after {
                assert_eq!(packet.offload, Default::default(), "{rule}");
            }
        }
    }
}

#[test]
fn what_differs_in_more_than_payload_is_never_joined() {
    let unchanged: &[(&str, Change)] = &[("nothing", |_| {})];
    let joins = std::panic::catch_unwind(|| {
        assert_not_joined(SegmentationKind::TcpV4, unchanged, true);
    });
    assert!(joins.is_err(), "the tables begin with what is joined");
    assert_not_joined(SegmentationKind::TcpV4, NEVER_JOINED_V4, true);
    assert_not_joined(SegmentationKind::TcpV4, NEVER_JOINED_DAMAGED, false);
    assert_not_joined(SegmentationKind::TcpV6, NEVER_JOINED_V6, true);
    assert_not_joined(SegmentationKind::Udp, NEVER_JOINED_UDP, false);
}

#[test]
fn what_is_joined_already_or_lies_behind_another_link_header_is_left_alone() {
    let wire = burst(&Spec {
        medium: Medium::Ethernet,
        ..spec(SegmentationKind::TcpV4, &[2896])
    });
    let mut other = wire[1].clone();
    other.overwrite(5, &[9]);
    let ethernet = config(Medium::Ethernet, false);
    assert_eq!(coalesced(vec![wire[0].clone(), other], &ethernet).len(), 2);

    let first = spec(SegmentationKind::TcpV4, &[2896]);
    let second = Spec {
        sequence: first.sequence.wrapping_add(2896),
        identification: first.identification.wrapping_add(2),
        ..first.clone()
    };
    let mut batch = vec![first.build(), second.build()];
    Coalescer::new(CoalescingConfig::default()).coalesce(&mut batch);
    assert_eq!(batch.len(), 2);
}

#[test]
fn identifications_that_do_not_change_are_joined_under_df_and_come_back_counting() {
    let mut batch = burst(&spec(SegmentationKind::TcpV4, &[4344]));
    for packet in &mut batch {
        let mut octets = packet.to_bytes().to_vec();
        set_word(&mut octets, 4, 7);
        mend(&mut octets, Medium::Ip);
        *packet = Packet::from_bytes(octets.into());
    }
    let joined = coalesced(batch, &CoalescingConfig::default());
    assert_eq!(joined.len(), 1);
    let ids: Vec<_> = cut(joined, Medium::Ip)
        .iter()
        .map(|octets| {
            check_wire(Medium::Ip, octets)
                .expect("correct")
                .identification
        })
        .collect();
    assert_eq!(ids, [7, 8, 9]);
}

#[test]
fn a_wrapped_device_receives_super_packets() {
    let (a, b) = pair(PairConfig {
        offloads: OffloadSet::NONE,
        ..PairConfig::default()
    });
    let mut b = wrap(b);
    let mut queue = VecDeque::from(burst(&spec(SegmentationKind::TcpV4, &[14_480])));
    a.transmitter.try_transmit(&mut queue).expect("room");
    drop(a);
    let mut cx = Context::from_waker(Waker::noop());
    let mut batch = vec![Packet::new()];
    for expected in [1, 0] {
        let count = b.receiver.poll_receive(&mut cx, &mut batch, 64);
        assert!(matches!(count, Poll::Ready(Ok(count)) if count == expected));
    }
    assert_eq!(batch.len(), 2);
    assert_eq!(batch[1].len(), 14_480 + 52);
}

/// One packet of a random mixture.
#[derive(Clone, Debug)]
struct Step {
    flow: usize,
    len: usize,
    flags: u8,
    /// Added to the sequence number and to the identification it would have.
    skips: (u32, u16),
    tos: u8,
    window: u8,
    is_damaged: bool,
    /// How it lies in memory and what is known of its checksum.
    shape: u8,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = prop_oneof![
        6 => Just(1448usize),
        2 => Just(999),
        1 => Just(0),
        1 => 1usize..1500,
    ];
    let flags = prop_oneof![8 => Just(ACK), 2 => Just(ACK | PSH), 1 => any::<u8>()];
    let skips = prop_oneof![9 => Just((0, 0)), 1 => (0u32..3, 0u16..3)];
    let rare = |value: u8| prop_oneof![12 => Just(0u8), 1 => Just(value)];
    let step = (
        0usize..6,
        len,
        flags,
        skips,
        rare(3),
        rare(1),
        prop::bool::weighted(0.04),
        any::<u8>(),
    );
    let step = step.prop_map(
        |(flow, len, flags, skips, tos, window, is_damaged, shape)| Step {
            flow,
            len,
            flags,
            skips,
            tos,
            window,
            is_damaged,
            shape,
        },
    );
    proptest::collection::vec(step, 0..60)
}

/// What the sender of a flow counts.
#[derive(Clone, Copy, Default)]
struct Counters {
    sequence: u32,
    identification: u16,
}

impl Step {
    fn is_udp(&self) -> bool {
        self.flow >= 4
    }

    fn build(&self, medium: Medium, counters: &mut Counters) -> Packet {
        counters.sequence = counters.sequence.wrapping_add(self.skips.0);
        counters.identification = counters.identification.wrapping_add(self.skips.1);
        let spec = Spec {
            medium,
            kind: match (self.is_udp(), self.flow % 2) {
                (true, _) => SegmentationKind::Udp,
                (false, 0) => SegmentationKind::TcpV4,
                (false, _) => SegmentationKind::TcpV6,
            },
            udp_v6: self.flow % 2 == 1,
            network_options: 0,
            transport_options: 12,
            slices: vec![self.len],
            segment_size: 0,
            identification: counters.identification,
            sequence: counters.sequence,
            flags: self.flags,
        };
        counters.sequence = counters.sequence.wrapping_add(self.len as u32);
        counters.identification = counters.identification.wrapping_add(1);
        let mut octets = spec.build().to_bytes().to_vec();
        let network = if medium == Medium::Ethernet { 14 } else { 0 };
        let transport = if spec.is_v6() {
            octets[network + 1] |= self.tos << 4;
            network + 40
        } else {
            octets[network + 1] = self.tos;
            network + 20
        };
        set_word(&mut octets, transport, 4000 + self.flow);
        if !self.is_udp() {
            octets[transport + 15] ^= self.window;
        }
        mend(&mut octets, medium);
        if self.is_damaged
            && let Some(last) = octets.last_mut()
        {
            *last ^= 0x20;
        }
        self.lay(Bytes::from(octets))
    }

    fn lay(&self, octets: Bytes) -> Packet {
        let mut packet = Packet::from_bytes(octets.clone());
        match self.shape % 5 {
            0 => {
                packet.pull_inline(66.min(octets.len()));
            }
            1 => {
                // Payload inline, too.
                packet.pull_inline(120.min(octets.len()));
            }
            2 if octets.len() > 200 => {
                packet = Packet::from_bytes(octets.slice(..200));
                packet.push(octets.slice(200..));
            }
            3 if !self.is_damaged => packet.offload.checksum = Checksum::Verified,
            // Headers in pieces.
            4 if self.shape > 200 => {
                packet = Packet::from_bytes(octets.slice(..25));
                packet.push(octets.slice(25..));
            }
            _ => {}
        }
        packet
    }
}

fn by_flow(packets: &[Bytes], medium: Medium) -> BTreeMap<Vec<u8>, Vec<Bytes>> {
    let mut flows: BTreeMap<Vec<u8>, Vec<Bytes>> = BTreeMap::new();
    for octets in packets {
        let ip = &octets[if medium == Medium::Ethernet { 14 } else { 0 }..];
        let transport = if ip[0] >> 4 == 4 { 20 } else { 40 };
        let flow = ip[transport..transport + 2].to_vec();
        flows.entry(flow).or_default().push(octets.clone());
    }
    flows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// The main property: cutting what was joined gives the packets back, octet for octet and in each flow's order.
    #[test]
    fn cutting_gives_back_what_was_joined(
        steps in steps(),
        ethernet: bool,
        udp: bool,
        max_super_packet in prop_oneof![Just(65_535usize), 1500usize..20_000],
        max_segments in prop_oneof![Just(64usize), 0usize..5],
        start: u16,
    ) {
        let medium = if ethernet { Medium::Ethernet } else { Medium::Ip };
        let mut counters = [Counters { sequence: u32::MAX - 5000, identification: start }; 6];
        let batch: Vec<Packet> = steps
            .iter()
            .map(|step| step.build(medium, &mut counters[step.flow]))
            .collect();
        let before = octets(&batch);
        let config = CoalescingConfig { medium, udp, max_super_packet, max_segments };
        let joined = coalesced(batch, &config);
        for packet in &joined {
            if packet.offload.segmentation.is_some() {
                check_wire(medium, &packet.to_bytes()).expect("checksums of the whole are right");
                let link_header = if ethernet { 14 } else { 0 };
                prop_assert!(packet.len() <= max_super_packet + link_header);
            }
        }
        prop_assert_eq!(by_flow(&cut(joined, medium), medium), by_flow(&before, medium));
    }

    /// Network input: nothing panics, and nothing gets lost or longer.
    #[test]
    fn arbitrary_octets_pass(
        packets in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..80), 0usize..80), 0..20),
        version in prop_oneof![Just(0x45u8), Just(0x60), Just(0x46)],
        protocol in prop_oneof![Just(TCP), Just(UDP), any::<u8>()],
        ethernet: bool,
    ) {
        let medium = if ethernet { Medium::Ethernet } else { Medium::Ip };
        let network = if ethernet { 14 } else { 0 };
        let batch: Vec<Packet> = packets
            .into_iter()
            .map(|(mut octets, at)| {
                if octets.len() > network + 9 {
                    octets[network] = version;
                    octets[network + 9] = protocol;
                    octets[network + 6] = protocol;
                }
                let octets = Bytes::from(octets);
                let at = at.min(octets.len());
                let mut packet = Packet::from_bytes(octets.slice(..at));
                packet.push(octets.slice(at..));
                packet
            })
            .collect();
        let before = octets(&batch);
        let after = coalesced(batch, &config(medium, true));
        prop_assert_eq!(octets(&after), before);
    }
}
