//! The network layer: input with ICMP and its answers, fragmentation and reassembly.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use tidewire::ip::address::{AddressTable, InterfaceAddress};
use tidewire::ip::fragmentation::fragment;
use tidewire::ip::icmp::{self, Outgoing, Responder};
use tidewire::ip::input::{self, Arrival, IpPacket, Refusal};
use tidewire::ip::output::{self, OutputHeader};
use tidewire::ip::reassembly::{Limits, Reassembler};
use tidewire::ip::{Cidr, InterfaceId};
use tidewire::time::Instant;
use tidewire::wire::ipv6::fragment::Fragment;
use tidewire::wire::{ipv4, protocol};
use tidewire_netdev::checksum::Sum;
use tidewire_netdev::{Checksum, Packet};

use super::Input;

/// A packet as it comes from a device: what is left after the headers is a part of it, and an answer is one that can
/// be sent and that nobody would answer again.
pub(super) fn input(data: &[u8]) {
    let mut input = Input(data);
    let bits = input.u8();
    let cut = usize::from(input.u8());
    let mut octets = input.rest().to_vec();
    if bits & 1 != 0 {
        complete_ipv4_checksum(&mut octets);
    }
    let mut packet = Packet::new();
    let mut rest = Bytes::from(octets.clone());
    if bits & 2 != 0 {
        // In two slices, of which the first may end within a header.
        packet.push(rest.split_to(cut.min(rest.len())));
    }
    packet.push(rest);
    packet.offload.checksum = Checksum::Verified;
    let arrival = if bits & 4 != 0 {
        Arrival::Loopback
    } else {
        Arrival::Wire
    };

    let addresses = addresses();
    let responder = Responder {
        addresses: &addresses,
        fallback_source: None,
        is_link_broadcast: bits & 8 != 0,
    };
    match input::parse(&mut packet, arrival) {
        Ok(ip) => {
            assert_eq!(ip.header(), &octets[..ip.header().len()]);
            let left = packet.to_bytes();
            assert_eq!(left, octets[ip.header().len()..][..left.len()]);
            if ip.fragment.is_none() {
                receive_icmp(&ip, &mut packet, &responder);
            }
        }
        Err(Refusal::Answer(answer)) => {
            if let Some(outgoing) =
                icmp::errors::build(answer.problem, &answer.ip, &packet, &responder)
            {
                check_error(outgoing, &addresses);
            }
        }
        Err(Refusal::Drop(_)) => {}
    }
}

fn receive_icmp(ip: &IpPacket, packet: &mut Packet, responder: &Responder<'_>) {
    let problem = icmp::Problem::PortUnreachable;
    if let Some(outgoing) = icmp::errors::build(problem, ip, packet, responder) {
        check_error(outgoing, responder.addresses);
    }
    let request = packet.to_bytes();
    match icmp::parse(ip, packet) {
        Ok(icmp::Message::EchoRequest(echo)) => {
            if let Some(outgoing) = icmp::echo::reply(ip, packet, echo, responder) {
                assert_eq!(
                    outgoing.packet.to_bytes()[4..],
                    request[4..],
                    "identifier, sequence and data"
                );
                read_back(outgoing);
            }
        }
        Ok(icmp::Message::Error(error)) => {
            assert_eq!(error.source.is_ipv4(), error.destination.is_ipv4());
            assert!((8..=icmp::errors::MAX_QUOTED_TRANSPORT).contains(&error.transport.len()));
        }
        _ => {}
    }
}

/// An ICMP error of ours is well-formed, short, and about a packet that the receiver can find in it.
fn check_error(outgoing: Outgoing, addresses: &AddressTable) {
    let len = outgoing.packet.len() + outgoing.header.encoded_len();
    let limit = if outgoing.header.source.is_ipv4() {
        576
    } else {
        1280
    };
    assert!(len <= limit, "{len} octets");
    let (ip, packet) = read_back(outgoing);
    let responder = Responder {
        addresses,
        fallback_source: None,
        is_link_broadcast: false,
    };
    let answer = icmp::errors::build(icmp::Problem::PortUnreachable, &ip, &packet, &responder);
    assert!(answer.is_none(), "an error is never answered with another");
}

/// What the receiver of our message sees; it must be a good packet with a good checksum.
fn read_back(outgoing: Outgoing) -> (IpPacket, Packet) {
    let Outgoing { header, mut packet } = outgoing;
    output::prepend(&mut packet, &header).expect("a message that fits an IP packet");
    let mut packet = Packet::from_bytes(packet.to_bytes());
    let ip = input::parse(&mut packet, Arrival::Loopback).expect("our own packet");
    let mut message = packet.clone();
    match icmp::parse(&ip, &mut message) {
        // What it quotes may be too little to be of use.
        Ok(_) | Err(tidewire::stats::DropReason::BadIcmp) => {}
        Err(reason) => panic!("our own message is refused: {reason:?}"),
    }
    (ip, packet)
}

fn complete_ipv4_checksum(octets: &mut [u8]) {
    let len = usize::from(octets.first().copied().unwrap_or(0) & 0x0f) * 4;
    if len >= ipv4::HEADER_LEN && octets.len() >= len {
        octets[10..12].fill(0);
        let mut sum = Sum::new();
        sum.add_bytes(&octets[..len]);
        octets[10..12].copy_from_slice(&sum.finish().to_be_bytes());
    }
}

/// Fragments of a few packets in any order, doubled, overlapping or missing: what comes out is what went in, and memory
/// stays within its limits.
pub(super) fn reassembly(data: &[u8]) {
    let mut input = Input(data);
    let limits = Limits {
        memory: 20_000,
        packets: 3,
        fragments: 16,
        ..Limits::default()
    };
    let mut reassembler = Reassembler::new(limits);
    let mut now = Instant::ZERO;
    own_fragments(&mut input);
    while !input.is_empty() {
        let bits = input.u8();
        if bits & 0x80 != 0 {
            now += Duration::from_secs(u64::from(bits & 0x7f));
            for expired in reassembler.handle_timeout(now) {
                assert!(
                    expired
                        .ip
                        .fragment
                        .is_none_or(|fragment| fragment.offset == 0)
                );
            }
            assert!(
                reassembler
                    .poll_timeout()
                    .is_none_or(|deadline| deadline > now)
            );
        } else {
            let is_v6 = bits & 1 != 0;
            let identification = u32::from(bits >> 1 & 3);
            let offset = u16::from(input.u8()) * 8;
            let len = usize::from(input.u8()) * if bits & 8 != 0 { 64 } else { 8 }
                + usize::from(bits >> 4 & 7);
            let packet = craft_fragment(is_v6, identification, offset, len, bits & 0x40 != 0);
            if let Some((ip, whole)) = receive_fragment(&mut reassembler, now, packet) {
                assert_eq!(ip.is_ipv6(), is_v6);
                let octets = whole.to_bytes();
                assert!(octets.len() <= 65_535);
                for (position, octet) in octets.iter().enumerate() {
                    assert_eq!(
                        *octet,
                        content(identification, position),
                        "octet {position}"
                    );
                }
            }
        }
        assert!(reassembler.memory() <= limits.memory);
        assert!(reassembler.len() <= limits.packets);
    }
    reassembler.handle_timeout(now + Duration::from_secs(61));
    assert!(reassembler.is_empty());
    assert_eq!(
        (reassembler.memory(), reassembler.poll_timeout()),
        (0, None)
    );
}

/// A datagram that we cut ourselves comes together again, whatever the order.
fn own_fragments(input: &mut Input<'_>) {
    let is_v6 = input.u8() & 1 != 0;
    let len = usize::from(input.u16() % 9000);
    let mtu = 100 + usize::from(input.u16() % 2000);
    let header = OutputHeader {
        dont_fragment: false,
        ..OutputHeader::new(source(is_v6), destination(is_v6), 99)
    };
    let payload = Bytes::from(
        (0..len)
            .map(|position| content(0, position))
            .collect::<Vec<_>>(),
    );
    let packet = Packet::from_bytes(payload.clone());
    let mut fragments = fragment(packet, &header, mtu, 7)
        .expect("it may be cut and fits")
        .into_vec();
    assert!(fragments.iter().all(|fragment| fragment.len() <= mtu));
    let mut reassembler = Reassembler::new(Limits::default());
    let mut whole = None;
    while !fragments.is_empty() {
        let index = usize::from(input.u8()) % fragments.len();
        let packet = fragments.swap_remove(index);
        assert!(whole.is_none(), "complete before the last fragment came");
        whole = receive_fragment(&mut reassembler, Instant::ZERO, packet);
    }
    let (ip, packet) = whole.expect("all fragments came");
    assert_eq!((ip.source, ip.protocol), (header.source, 99));
    assert_eq!(packet.to_bytes(), payload);
    assert_eq!(reassembler.memory(), 0);
}

fn receive_fragment(
    reassembler: &mut Reassembler,
    now: Instant,
    packet: Packet,
) -> Option<(IpPacket, Packet)> {
    let mut packet = Packet::from_bytes(packet.to_bytes());
    let ip = input::parse(&mut packet, Arrival::Wire).ok()?;
    let (ip, mut packet) = reassembler.handle_fragment(now, ip, packet).ok()??;
    let ip = input::resume(ip, &mut packet).ok()?;
    assert_eq!(ip.fragment, None);
    Some((ip, packet))
}

/// A fragment whose octets depend on nothing but the packet and their place in it.
fn craft_fragment(is_v6: bool, identification: u32, offset: u16, len: usize, more: bool) -> Packet {
    let begin = usize::from(offset);
    let octets: Vec<_> = (begin..begin + len)
        .map(|position| content(identification, position))
        .collect();
    let mut packet = Packet::from_bytes(Bytes::from(octets));
    if is_v6 {
        let header = Fragment {
            next_header: 99,
            offset,
            more,
            identification,
        };
        header.emit(packet.prepend(header.encoded_len()));
        let header = OutputHeader::new(source(true), destination(true), protocol::FRAGMENT);
        output::prepend(&mut packet, &header).expect("it fits");
    } else {
        let header = ipv4::Header {
            source: [10, 0, 0, 1].into(),
            destination: [10, 0, 0, 2].into(),
            protocol: 99,
            ttl: 64,
            tos: 0,
            total_len: (ipv4::HEADER_LEN + len) as u16,
            identification: identification as u16,
            dont_fragment: false,
            more_fragments: more,
            fragment_offset: offset,
            options: ipv4::Options::default(),
        };
        header.emit(packet.prepend(ipv4::HEADER_LEN));
    }
    packet
}

fn content(identification: u32, position: usize) -> u8 {
    (position as u8).wrapping_mul(7) ^ (position >> 8) as u8 ^ identification as u8
}

fn source(is_v6: bool) -> IpAddr {
    parse(if is_v6 { "fd00::1" } else { "10.0.0.1" })
}

fn destination(is_v6: bool) -> IpAddr {
    parse(if is_v6 { "fd00::2" } else { "10.0.0.2" })
}

fn parse(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn addresses() -> AddressTable {
    let mut addresses = AddressTable::new();
    for text in ["10.0.0.2/24", "fd00::2/64"] {
        let cidr = Cidr::try_from(text).expect("an address with a prefix length");
        addresses.insert(InterfaceAddress::new(InterfaceId(0), cidr));
    }
    addresses
}
