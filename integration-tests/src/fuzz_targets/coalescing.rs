//! Software coalescing against software segmentation.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidewire_netdev::checksum::{Sum, pseudo_header_v4, pseudo_header_v6};
use tidewire_netdev::coalescing::{Coalescer, CoalescingConfig};
use tidewire_netdev::segmentation::{CutChecksum, segment};
use tidewire_netdev::{Medium, Packet};

use super::Input;

/// A batch of packets of four flows, some of them changed anywhere: cutting what was joined gives each flow's packets
/// back in order, octet for octet but for identifications that have no meaning.
pub(super) fn coalescing(data: &[u8]) {
    let mut input = Input(data);
    let bits = input.u8();
    let config = CoalescingConfig {
        medium: Medium::Ip,
        udp: bits & 1 != 0,
        max_super_packet: if bits & 2 != 0 {
            usize::from(input.u16())
        } else {
            65_535
        },
        max_segments: if bits & 4 != 0 {
            usize::from(input.u8())
        } else {
            64
        },
    };
    let mut flows = [Flow {
        sequence: input.u32(),
        identification: input.u16(),
    }; 4];
    let mut batch = vec![];
    while !input.is_empty() && batch.len() < MOST_PACKETS {
        let packet = next_packet(&mut input, &mut flows);
        batch.push(packet);
    }
    let before: Vec<Bytes> = batch.iter().map(Packet::to_bytes).collect();

    let limit = config.max_super_packet;
    Coalescer::new(config).coalesce(&mut batch);
    let mut after = vec![];
    for packet in batch {
        assert!(packet.offload.segmentation.is_none() || packet.len() <= limit);
        segment(packet, Medium::Ip, CutChecksum::Complete, |cut| {
            after.push(cut.to_bytes());
        })
        .expect("our own super-packet can be cut");
    }
    assert_eq!(by_flow(&after), by_flow(&before));
}

/// More teach the fuzzer nothing.
const MOST_PACKETS: usize = 100;

/// What the sender of a flow counts.
#[derive(Clone, Copy)]
struct Flow {
    sequence: u32,
    identification: u16,
}

fn next_packet(input: &mut Input<'_>, flows: &mut [Flow; 4]) -> Packet {
    let control = input.u8();
    let number = usize::from(control & 3);
    let len = match control >> 2 & 3 {
        0 | 1 => 100,
        2 => 0,
        _ => usize::from(input.u8()),
    };
    let mut octets = flows[number].next(number, len);
    for _ in 0..(control >> 4 & 3).saturating_sub(1) {
        let at = usize::from(input.u8()) % octets.len();
        octets[at] ^= input.u8();
    }
    // Checksums mended behind the change let it get further; one in four stays wrong.
    if control >> 6 != 3 {
        mend(&mut octets);
    }
    let at = match input.u8() {
        at @ 0..=60 => usize::from(at).min(octets.len()),
        _ => octets.len(),
    };
    let octets = Bytes::from(octets);
    let mut packet = Packet::from_bytes(octets.slice(..at));
    packet.push(octets.slice(at..));
    packet
}

impl Flow {
    /// The flow's next packet, without checksums. Flows 0 and 2 are IPv4, 0 and 1 TCP.
    fn next(&mut self, number: usize, len: usize) -> Vec<u8> {
        let is_tcp = number < 2;
        let transport_len = if is_tcp { 32 } else { 8 } + len;
        let protocol = if is_tcp { 6 } else { 17 };
        let mut octets = vec![];
        if number.is_multiple_of(2) {
            octets.extend([0x45, 2]);
            octets.extend((20 + transport_len as u16).to_be_bytes());
            octets.extend(self.identification.to_be_bytes());
            octets.extend([0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        } else {
            octets.extend([0x60, 0x20, 0, 7]);
            octets.extend((transport_len as u16).to_be_bytes());
            octets.extend([protocol, 64]);
            octets.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            octets.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        }
        octets.extend([0x30, 0x39, 0, 80]);
        if is_tcp {
            octets.extend(self.sequence.to_be_bytes());
            octets.extend([1, 2, 3, 4, 0x80, 0x10, 0xfa, 0xf0, 0, 0, 0, 0]);
            octets.extend([1, 1, 8, 10, 0, 0, 0, 5, 0, 0, 0, 6]);
        } else {
            octets.extend((transport_len as u16).to_be_bytes());
            octets.extend([0, 0]);
        }
        octets.extend((0..len).map(|n| (n as u8).wrapping_mul(31) ^ self.sequence as u8));
        self.sequence = self.sequence.wrapping_add(len as u32);
        self.identification = self.identification.wrapping_add(1);
        octets
    }
}

/// Fills in the checksums, where the octets are such that they have a place.
fn mend(octets: &mut [u8]) {
    let (transport, protocol, mut sum) = match octets {
        [0x40..=0x4f, ..] if octets.len() >= 20 => {
            let header = usize::from(octets[0] & 15) * 4;
            if header < 20 || header > octets.len() {
                return;
            }
            octets[10..12].fill(0);
            let mut sum = Sum::new();
            sum.add_bytes(&octets[..header]);
            octets[10..12].copy_from_slice(&sum.finish().to_be_bytes());
            let source: [u8; 4] = octets[12..16].try_into().expect("four octets");
            let destination: [u8; 4] = octets[16..20].try_into().expect("four octets");
            let len = (octets.len() - header) as u32;
            let sum = pseudo_header_v4(source.into(), destination.into(), octets[9], len);
            (header, octets[9], sum)
        }
        [0x60..=0x6f, ..] if octets.len() >= 40 => {
            let source: [u8; 16] = octets[8..24].try_into().expect("16 octets");
            let destination: [u8; 16] = octets[24..40].try_into().expect("16 octets");
            let len = (octets.len() - 40) as u32;
            let sum = pseudo_header_v6(source.into(), destination.into(), octets[6], len);
            (40, octets[6], sum)
        }
        _ => return,
    };
    let field = match protocol {
        6 => transport + 16,
        17 => transport + 6,
        _ => return,
    };
    if field + 2 > octets.len() {
        return;
    }
    octets[field..field + 2].fill(0);
    sum.add_bytes(&octets[transport..]);
    let value = match sum.finish() {
        0 if protocol == 17 => 0xffff,
        value => value,
    };
    octets[field..field + 2].copy_from_slice(&value.to_be_bytes());
}

/// The packets of each flow in their order; IPv4 identifications are left out, and checksums with them, where DF makes
/// them meaningless (RFC 6864 4.1).
fn by_flow(packets: &[Bytes]) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut flows: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    for octets in packets {
        let mut octets = octets.to_vec();
        let mut flow = vec![];
        match octets.first().map_or(0, |first| first >> 4) {
            4 if octets.len() >= 20 => {
                let header = usize::from(octets[0] & 15) * 4;
                flow.push(octets[9]);
                flow.extend(&octets[12..20]);
                flow.extend(octets.get(header..header + 4).unwrap_or_default());
                if octets[6] & 0x40 != 0 {
                    octets[4..6].fill(0);
                    octets[10..12].fill(0);
                }
            }
            6 if octets.len() >= 40 => {
                flow.push(octets[6]);
                flow.extend(&octets[8..40]);
                flow.extend(octets.get(40..44).unwrap_or_default());
            }
            _ => {}
        }
        flows.entry(flow).or_default().push(octets);
    }
    flows
}
