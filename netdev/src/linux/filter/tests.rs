//! The programs on a small machine of our own; what the kernel makes of them is tested against the kernel.

use proptest::prelude::*;

use super::*;
use crate::device::Medium;
use crate::flow_hash::packet_flow_hash;

/// What the kernel knows of a packet besides its octets.
#[derive(Clone, Copy, Default)]
struct Fields {
    protocol: u32,
    kind: u32,
    tag: Option<u32>,
}

/// Runs a program over a packet; a load beyond its end gives 0.
fn run(program: &[Instruction], packet: &[u8], fields: Fields) -> u32 {
    let (mut a, mut x, mut memory, mut at) = (0u32, 0u32, [0u32; 16], 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        let code = u32::from(code);
        at += 1;
        let operand = if code & libc::BPF_X != 0 { x } else { k };
        match code & 7 {
            libc::BPF_LD if code & 0xe0 == libc::BPF_MEM => a = memory[k as usize],
            libc::BPF_LD if code & 0xe0 == libc::BPF_IMM => a = k,
            libc::BPF_LD if code & 0xe0 == libc::BPF_LEN => a = packet.len() as u32,
            libc::BPF_LD => {
                let base = if code & 0xe0 == libc::BPF_IND { x } else { 0 };
                match load(packet, code & 0x18, base.wrapping_add(k), fields) {
                    Some(value) => a = value,
                    None => return 0,
                }
            }
            libc::BPF_LDX if code & 0xe0 == libc::BPF_MSH => match packet.get(k as usize) {
                Some(octet) => x = u32::from(octet & 15) * 4,
                None => return 0,
            },
            libc::BPF_LDX => x = memory[k as usize],
            libc::BPF_ST => memory[k as usize] = a,
            libc::BPF_STX => memory[k as usize] = x,
            libc::BPF_ALU => match code & 0xf0 {
                libc::BPF_ADD => a = a.wrapping_add(operand),
                libc::BPF_MUL => a = a.wrapping_mul(operand),
                libc::BPF_AND => a &= operand,
                libc::BPF_RSH => a >>= operand,
                libc::BPF_XOR => a ^= operand,
                other => panic!("operation {other:#x}"),
            },
            libc::BPF_JMP => {
                let holds = match code & 0xf0 {
                    libc::BPF_JEQ => a == operand,
                    libc::BPF_JGE => a >= operand,
                    libc::BPF_JSET => a & operand != 0,
                    other => panic!("jump {other:#x}"),
                };
                at += usize::from(if holds { jt } else { jf });
            }
            libc::BPF_RET => return if code & 0x18 == libc::BPF_A { a } else { k },
            _ => x = a,
        }
    }
}

fn load(packet: &[u8], size: u32, at: u32, fields: Fields) -> Option<u32> {
    let field = (at as i32).wrapping_sub(libc::SKF_AD_OFF);
    match field {
        libc::SKF_AD_PROTOCOL => return Some(fields.protocol),
        libc::SKF_AD_PKTTYPE => return Some(fields.kind),
        libc::SKF_AD_VLAN_TAG_PRESENT => return Some(u32::from(fields.tag.is_some())),
        libc::SKF_AD_VLAN_TAG => return Some(fields.tag.unwrap_or(0)),
        _ => {}
    }
    let len = match size {
        libc::BPF_B => 1,
        libc::BPF_H => 2,
        _ => 4,
    };
    let octets = packet.get(at as usize..)?.get(..len)?;
    Some(
        octets
            .iter()
            .fold(0, |sum, &octet| sum << 8 | u32::from(octet)),
    )
}

fn hash_of_frame(frame: &[u8]) -> u32 {
    let fields = Fields {
        protocol: u32::from(u16::from_be_bytes([frame[12], frame[13]])),
        ..Fields::default()
    };
    run(&flow_hash(), &frame[14..], fields)
}

proptest! {
    #[test]
    fn the_fanout_program_computes_the_flow_hash(
        ethertype in prop_oneof![Just(0x0800u16), Just(0x86dd), Just(0x0806), any::<u16>()],
        first in prop_oneof![0x40u8..0x50, Just(0x60u8), any::<u8>()],
        fragment in prop_oneof![Just(0u16), Just(0x4000), Just(0x2000), Just(1), any::<u16>()],
        protocol in prop_oneof![Just(6u8), Just(17), Just(132), Just(1), any::<u8>()],
        rest in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut frame = vec![2; 12];
        frame.extend(ethertype.to_be_bytes());
        let mut packet = rest;
        for (at, octet) in [(0, first), (6, fragment.to_be_bytes()[0]), (7, fragment.to_be_bytes()[1])] {
            if let Some(to) = packet.get_mut(at) {
                *to = octet;
            }
        }
        let at = if first >> 4 == 6 { 6 } else { 9 };
        if let Some(to) = packet.get_mut(at) {
            *to = protocol;
        }
        frame.extend(packet);
        prop_assert_eq!(hash_of_frame(&frame), packet_flow_hash(&frame, Medium::Ethernet));
    }
}

#[test]
fn a_station_gets_its_own_frames_and_those_of_groups() {
    let program = station(Some(MacAddress([2, 0, 0, 0xaa, 0xbb, 1])));
    let all = station(None);
    let incoming = Fields::default();
    let tagged = |tci| Fields {
        tag: Some(tci),
        ..incoming
    };
    let outgoing = Fields {
        kind: u32::from(libc::PACKET_OUTGOING),
        ..incoming
    };
    let own = [2, 0, 0, 0xaa, 0xbb, 1];
    let table = [
        ("its own", own, incoming, true),
        ("everybody's", [0xff; 6], incoming, true),
        ("a group's", [0x33, 0x33, 0xff, 0, 0, 1], incoming, true),
        (
            "another's, last octets",
            [2, 0, 0, 0xaa, 0xbb, 2],
            incoming,
            false,
        ),
        (
            "another's, first octets",
            [6, 0, 0, 0xaa, 0xbb, 1],
            incoming,
            false,
        ),
        ("what we sent ourselves", own, outgoing, false),
        ("a VLAN's", own, tagged(0x0001), false),
        ("only a priority", own, tagged(0xe000), true),
    ];
    for (what, destination, fields, comes) in table {
        let mut frame = destination.to_vec();
        frame.extend([0; 54]);
        let expected = if comes { u32::MAX } else { 0 };
        assert_eq!(run(&program, &frame, fields), expected, "{what}");
        let comes_to_all = comes || what.starts_with("another's");
        let expected = if comes_to_all { u32::MAX } else { 0 };
        assert_eq!(run(&all, &frame, fields), expected, "{what}, for all");
    }
    assert_eq!(run(&nothing(), &[0xff; 60], incoming), 0);
}
