//! The symmetric flow hash: which of several queues a packet belongs to, the same for both directions of a flow.
//!
//! ```text
//!  addresses: source ^ destination, folded to 32 bits ┐
//!  ports:     source ^ destination (TCP, UDP, SCTP)   ┴ ^ ─▶ * 0x9e3779b1 ─▶ upper 16 bits
//! ```
//!
//! It is this simple because the kernel must be able to compute it as well, in a classic BPF program of a packet
//! socket's fanout. Fragments have no ports, IPv6 packets with extension headers neither: such packets still have one
//! queue per pair of hosts. The hash is not keyed: like a network card's, it spreads load and defends nothing.

use std::net::IpAddr;

use crate::device::Medium;

/// Multiplies the folded addresses and ports: 2^32 divided by the golden ratio, which spreads consecutive ports.
pub const MULTIPLIER: u32 = 0x9e37_79b1;

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// The hash of a flow, 0 to 65,535; the order of the two ends does not matter. Ports are 0 where there are none.
///
/// ```
/// use tidewire_netdev::flow_hash::flow_hash;
///
/// let (a, b) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
/// assert_eq!(flow_hash(a, 80, b, 40_000), flow_hash(b, 40_000, a, 80));
/// ```
pub fn flow_hash(a: IpAddr, a_port: u16, b: IpAddr, b_port: u16) -> u32 {
    mix(fold(a) ^ fold(b), u32::from(a_port ^ b_port))
}

/// The hash of a packet that begins with a header of `medium`; 0 for anything but IP.
pub fn packet_flow_hash(packet: &[u8], medium: Medium) -> u32 {
    ip_of(packet, medium).and_then(ip_flow_hash).unwrap_or(0)
}

fn mix(addresses: u32, ports: u32) -> u32 {
    (addresses ^ ports).wrapping_mul(MULTIPLIER) >> 16
}

fn fold(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(v4) => v4.to_bits(),
        IpAddr::V6(v6) => fold_words(&v6.octets()),
    }
}

/// The exclusive or of the 32-bit words.
fn fold_words(octets: &[u8]) -> u32 {
    octets.chunks_exact(4).fold(0, |sum, word| {
        sum ^ u32::from_be_bytes([word[0], word[1], word[2], word[3]])
    })
}

fn ip_of(packet: &[u8], medium: Medium) -> Option<&[u8]> {
    match medium {
        Medium::Ip => Some(packet),
        Medium::Ethernet => match packet.get(12..14)? {
            [0x08, 0x00] | [0x86, 0xdd] => packet.get(14..),
            _ => None,
        },
    }
}

fn ip_flow_hash(ip: &[u8]) -> Option<u32> {
    let (addresses, protocol, transport) = match ip.first()? >> 4 {
        4 => {
            let header_len = usize::from(ip[0] & 0x0f) * 4;
            // More fragments, or a fragment offset.
            let is_fragment = u16::from_be_bytes([*ip.get(6)?, *ip.get(7)?]) & 0x3fff != 0;
            let protocol = if is_fragment { 0 } else { *ip.get(9)? };
            (fold_words(ip.get(12..20)?), protocol, header_len)
        }
        6 => (fold_words(ip.get(8..40)?), *ip.get(6)?, 40),
        _ => return None,
    };
    let ports = match (protocol, ip.get(transport..transport + 4)) {
        (TCP | UDP | SCTP, Some(&[a, b, c, d])) => {
            u16::from_be_bytes([a, b]) ^ u16::from_be_bytes([c, d])
        }
        _ => 0,
    };
    Some(mix(addresses, u32::from(ports)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(
        source: [u8; 4],
        destination: [u8; 4],
        protocol: u8,
        ports: [u16; 2],
        fragment: u16,
    ) -> Vec<u8> {
        let mut packet = vec![0x46, 0, 0, 28, 0, 1];
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, protocol, 0, 0]);
        packet.extend(source);
        packet.extend(destination);
        packet.extend([1, 1, 1, 1]);
        packet.extend(ports[0].to_be_bytes());
        packet.extend(ports[1].to_be_bytes());
        packet
    }

    #[test]
    fn a_packet_hashes_as_its_flow_in_both_directions() {
        let (a, b) = ([10, 0, 0, 1], [192, 168, 7, 9]);
        for protocol in [TCP, UDP, SCTP] {
            let there = v4(a, b, protocol, [80, 40_000], 0);
            let back = v4(b, a, protocol, [40_000, 80], 0x4000);
            let flow = flow_hash(IpAddr::from(a), 80, IpAddr::from(b), 40_000);
            assert_eq!(packet_flow_hash(&there, Medium::Ip), flow);
            assert_eq!(packet_flow_hash(&back, Medium::Ip), flow);
            let mut frame = vec![0; 12];
            frame.extend([8, 0]);
            frame.extend(&there);
            assert_eq!(packet_flow_hash(&frame, Medium::Ethernet), flow);
        }
    }

    #[test]
    fn ipv6_hashes_all_words_of_both_addresses() {
        let (a, b): (IpAddr, IpAddr) = (
            "fd00:1:2:3:4:5:6:7".parse().unwrap(),
            "fe80::9".parse().unwrap(),
        );
        let (IpAddr::V6(source), IpAddr::V6(destination)) = (a, b) else {
            unreachable!("both are IPv6")
        };
        let mut packet = vec![0x60, 0, 0, 0, 0, 4, UDP, 64];
        packet.extend(source.octets());
        packet.extend(destination.octets());
        packet.extend([0, 53, 0x9c, 0x40]);
        assert_eq!(
            packet_flow_hash(&packet, Medium::Ip),
            flow_hash(b, 40_000, a, 53)
        );
    }

    #[test]
    fn fragments_and_what_is_no_ip_have_a_hash_without_ports() {
        let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let hosts = flow_hash(IpAddr::from(a), 0, IpAddr::from(b), 0);
        for fragment in [0x2000, 0x0001, 0x2001] {
            assert_eq!(
                packet_flow_hash(&v4(a, b, TCP, [1, 2], fragment), Medium::Ip),
                hosts
            );
        }
        assert_eq!(packet_flow_hash(&v4(a, b, 1, [1, 2], 0), Medium::Ip), hosts);
        for junk in [&[][..], &[0x45], &[0x60; 39], &[0xff; 60]] {
            assert_eq!(packet_flow_hash(junk, Medium::Ip), 0);
            assert_eq!(packet_flow_hash(junk, Medium::Ethernet), 0);
        }
    }

    #[test]
    fn consecutive_ports_spread_over_few_queues() {
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        for queues in [2, 3, 4, 8] {
            let mut counts = vec![0; queues];
            for port in 40_000..40_000 + 64 * queues as u16 {
                counts[flow_hash(a, port, b, 80) as usize % queues] += 1;
            }
            assert!(
                counts.iter().all(|count| (40..90).contains(count)),
                "{counts:?}"
            );
        }
    }
}
