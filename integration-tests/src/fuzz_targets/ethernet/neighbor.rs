//! What the neighbours say: answers to the engine's questions, and whatever a fuzzer has them claim.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tidewire::link::ethernet::{self, LinkProtocol};
use tidewire::neighbor::{arp, ndp};
use tidewire::wire::arp::{Message as ArpMessage, Operation};
use tidewire::wire::ethernet::{HEADER_LEN, Header as EthernetHeader, ethertype};
use tidewire::wire::ndp::{ALL_NODES, Message, NeighborAdvertisement};
use tidewire::wire::protocol;
use tidewire::wire::tcp::{Flags, Header};
use tidewire_netdev::{MacAddress, Packet};

use super::{Harness, Input, LOCAL_V4, LOCAL_V6, OURS, PEERS, peer_hardware, peer_v4, peer_v6};

const IPV6_HEADER: usize = 40;

/// An address that matters: ours, a peer's, nobody's, or none that a host may have.
fn pick_v4(input: &mut Input<'_>) -> Ipv4Addr {
    match input.u8() % 16 {
        0..=3 => LOCAL_V4,
        index @ 4..=11 => peer_v4(usize::from(index) - 4),
        12 => Ipv4Addr::UNSPECIFIED,
        13 => Ipv4Addr::BROADCAST,
        14 => Ipv4Addr::new(224, 0, 0, 1),
        _ => Ipv4Addr::from(u32::from(LOCAL_V4) + 20 + u32::from(input.u8() % 200)),
    }
}

fn pick_v6(input: &mut Input<'_>) -> Ipv6Addr {
    match input.u8() % 16 {
        0..=3 => LOCAL_V6,
        index @ 4..=11 => peer_v6(usize::from(index) - 4),
        12 => Ipv6Addr::UNSPECIFIED,
        13 => ALL_NODES,
        // The engine's own link-local address.
        14 => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 1),
        _ => Ipv6Addr::from(u128::from(LOCAL_V6) + 20 + u128::from(input.u8())),
    }
}

fn pick_hardware(input: &mut Input<'_>) -> MacAddress {
    match input.u8() % 8 {
        0 => OURS,
        1 => MacAddress::BROADCAST,
        2 => MacAddress([0; 6]),
        index => peer_hardware(usize::from(index) % PEERS),
    }
}

impl Harness {
    pub(super) fn arp(&mut self, input: &mut Input<'_>) {
        let message = ArpMessage {
            operation: [Operation::Request, Operation::Reply][usize::from(input.u8() & 1)],
            sender_hardware: pick_hardware(input),
            sender_protocol: pick_v4(input),
            target_hardware: pick_hardware(input),
            target_protocol: pick_v4(input),
        };
        let to = [OURS, MacAddress::BROADCAST][usize::from(input.u8() & 1)];
        let from = pick_hardware(input);
        self.receive(arp::frame(&message, from, to));
    }

    pub(super) fn neighbor_discovery(&mut self, input: &mut Input<'_>) {
        let (choice, hardware) = (input.u8(), pick_hardware(input));
        let (source, target) = (pick_v6(input), pick_v6(input));
        let to = (choice & 1 != 0).then_some(OURS);
        let frame = match choice >> 1 & 3 {
            0 => ndp::duplicate_detection(hardware, target),
            1 => ndp::solicitation(hardware, source, target, to),
            2 => ndp::router_solicitation(hardware, source),
            _ => advertisement(
                hardware,
                if choice & 8 == 0 { LOCAL_V6 } else { ALL_NODES },
                NeighborAdvertisement {
                    router: choice & 16 != 0,
                    solicited: choice & 32 != 0,
                    overrides: choice & 64 != 0,
                    target,
                },
            ),
        };
        self.receive(frame);
    }

    /// Looks at a frame of the engine's; whether somebody answered it.
    pub(super) fn learn(&mut self, octets: &[u8]) -> bool {
        let (header, _) = EthernetHeader::parse(octets).expect("the engine sends whole frames");
        assert_eq!(header.source, OURS, "who else?");
        assert_ne!(header.destination, OURS, "own packets stay inside");
        let inside = &octets[HEADER_LEN..];
        match header.ethertype {
            ethertype::ARP => self.learn_arp(inside),
            ethertype::IPV4 => {
                assert_eq!(inside[0] >> 4, 4, "a frame says what is in it");
                let source = Ipv4Addr::from(<[u8; 4]>::try_from(&inside[12..16]).expect("four"));
                assert_eq!(source, LOCAL_V4, "no other is ours");
                let remote = Ipv4Addr::from(<[u8; 4]>::try_from(&inside[16..20]).expect("four"));
                self.learn_transport(remote.into(), inside[9], &inside[20..])
            }
            ethertype::IPV6 => {
                assert_eq!(inside[0] >> 4, 6, "a frame says what is in it");
                let remote = <[u8; 16]>::try_from(&inside[24..40]).expect("sixteen");
                let remote = Ipv6Addr::from(remote);
                self.learn_transport(remote.into(), inside[6], &inside[IPV6_HEADER..])
            }
            other => panic!("a frame of type {other:#x}"),
        }
    }

    fn learn_arp(&mut self, octets: &[u8]) -> bool {
        let (message, _) = ArpMessage::parse(octets).expect("the engine's ARP is right");
        assert_eq!(message.sender_hardware, OURS);
        let sender = message.sender_protocol;
        assert!(
            sender.is_unspecified() || sender == LOCAL_V4,
            "{sender} asks"
        );
        if message.operation != Operation::Request {
            return false;
        }
        let index = (0..PEERS).find(|index| peer_v4(*index) == message.target_protocol);
        let Some(index) = index.filter(|index| self.peers[*index].answers) else {
            return false;
        };
        let hardware = peer_hardware(index);
        self.receive(arp::frame(&arp::reply(hardware, &message), hardware, OURS));
        true
    }

    fn learn_transport(&mut self, remote: IpAddr, protocol: u8, octets: &[u8]) -> bool {
        match protocol {
            protocol::TCP => {
                self.learn_tcp(remote, octets);
                false
            }
            protocol::ICMPV6 => self.answer_solicitation(octets),
            _ => false,
        }
    }

    fn answer_solicitation(&mut self, octets: &[u8]) -> bool {
        let Ok((Message::NeighborSolicitation(solicitation), _)) = Message::parse(octets) else {
            return false;
        };
        let index = (0..PEERS).find(|index| peer_v6(*index) == solicitation.target);
        let Some(index) = index.filter(|index| self.peers[*index].answers) else {
            return false;
        };
        let answer = NeighborAdvertisement {
            router: false,
            solicited: true,
            overrides: true,
            target: solicitation.target,
        };
        self.receive(advertisement(peer_hardware(index), LOCAL_V6, answer));
        true
    }

    fn learn_tcp(&mut self, remote: IpAddr, octets: &[u8]) {
        let (header, header_len) = Header::parse(octets).expect("the engine sends valid headers");
        let is_remote = |index: &usize| super::peer_address(*index, remote.is_ipv6()) == remote;
        let Some(index) = (0..PEERS).find(is_remote) else {
            return;
        };
        if header.destination_port != 4000 + index as u16 {
            return;
        }
        let control = u32::from(header.flags.contains(Flags::SYN))
            + u32::from(header.flags.contains(Flags::FIN));
        let len = (octets.len() - header_len) as u32;
        let flow = &mut self.peers[index].flows[usize::from(remote.is_ipv6())];
        flow.seen = header.sequence.wrapping_add(len + control);
    }
}

fn advertisement(
    from: MacAddress,
    destination: Ipv6Addr,
    advertisement: NeighborAdvertisement,
) -> Packet {
    let link_destination = if destination == ALL_NODES {
        MacAddress::multicast_v6(ALL_NODES)
    } else {
        OURS
    };
    let message = ndp::Advertisement {
        interface: tidewire::ip::InterfaceId(2),
        destination,
        link_destination: Some(link_destination),
        advertisement,
    };
    let mut packet = message.to_packet(from);
    ethernet::prepend(&mut packet, from, link_destination, LinkProtocol::Ipv6);
    packet
}
