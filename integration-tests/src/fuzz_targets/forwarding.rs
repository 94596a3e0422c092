//! A router between three links: packets for anybody, with any options, headers and offload metadata, routers'
//! advertisements, and time.
//!
//! Whatever comes, what goes on is whole, fits its link and has fewer hops left than before; nothing is learnt from
//! advertisements, and nothing stays behind.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bytes::Bytes;
use tidewire::config::Config;
use tidewire::engine::{Attachment, Engine, WakeList};
use tidewire::ip::InterfaceId;
use tidewire::ip::autoconf::dad::DuplicateDetection;
use tidewire::ip::output::{self, OutputHeader};
use tidewire::ip::route::Route;
use tidewire::link::ethernet::{self, LinkProtocol};
use tidewire::time::Instant;
use tidewire::wire::{ipv4, ipv6, protocol};
use tidewire_netdev::segmentation::{CutChecksum, segment};
use tidewire_netdev::{
    Capabilities, Checksum, MacAddress, Medium, OffloadSet, Packet, Segmentation, SegmentationKind,
};

use super::Input;

const THEIRS: MacAddress = MacAddress([2, 0, 0, 0, 1, 9]);
const MAX_NEIGHBORS: usize = 8;
const MAX_REPLIES: usize = 16;
/// What one packet may become on the narrowest link: fragments of its segments.
const MAX_PACKETS_PER_STEP: usize = 70_000;

/// The links: what the device does, what it carries.
const LINKS: [(Medium, OffloadSet, usize); 3] = [
    (Medium::Ethernet, OffloadSet::ALL, 1500),
    (Medium::Ethernet, OffloadSet::NONE, 1300),
    (Medium::Ip, OffloadSet::NONE, 600),
];

struct Harness {
    engine: Engine,
    interfaces: Vec<InterfaceId>,
    now: Instant,
    wakes: WakeList,
    addresses: usize,
}

pub(super) fn forwarding(data: &[u8]) {
    let mut input = Input(data);
    let mut harness = Harness::new(input.u8(), input.u8());
    let mut steps = 0;
    while !input.is_empty() && steps < 200 {
        let hops = harness.step(&mut input);
        harness.settle(hops);
        steps += 1;
    }
    harness.drain();
}

fn station(link: usize) -> MacAddress {
    MacAddress([2, 0, 0, 0, 0, link as u8 + 1])
}

/// Who may be meant: this host, its neighbours, hosts behind them, nobody, and those that no packet may name.
fn address_v4(choice: u8) -> Ipv4Addr {
    let link = choice >> 4 & 3;
    match choice & 15 {
        0..=2 => Ipv4Addr::new(10, 0, link, 9),
        3..=5 => Ipv4Addr::new(198, 51, 100, link),
        6 => Ipv4Addr::new(10, 0, link, 1),
        7 => Ipv4Addr::new(10, 0, link, 77),
        8 => Ipv4Addr::new(10, 0, link, 255),
        9 => Ipv4Addr::BROADCAST,
        10 => Ipv4Addr::new(224, 0, 0, link),
        11 => Ipv4Addr::LOCALHOST,
        12 => Ipv4Addr::UNSPECIFIED,
        13 => Ipv4Addr::new(169, 254, 0, link),
        14 => Ipv4Addr::new(240, 0, 0, link),
        _ => Ipv4Addr::new(203, 0, 113, choice),
    }
}

fn address_v6(choice: u8) -> Ipv6Addr {
    let link = u16::from(choice >> 4 & 3);
    match choice & 15 {
        0..=2 => Ipv6Addr::new(0xfd00, 0, 0, link, 0, 0, 0, 9),
        3..=5 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, link),
        6 => Ipv6Addr::new(0xfd00, 0, 0, link, 0, 0, 0, 1),
        7 => Ipv6Addr::new(0xfd00, 0, 0, link, 0, 0, 0, 0x77),
        8 => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1 + link),
        9 => Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, link),
        10 => Ipv6Addr::LOCALHOST,
        11 => Ipv6Addr::UNSPECIFIED,
        12 | 13 => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9 + link),
        14 => Ipv4Addr::new(10, 0, 0, 9).to_ipv6_mapped(),
        _ => Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, link),
    }
}

impl Harness {
    fn new(seed: u8, choice: u8) -> Self {
        let mut config = Config {
            seed: Some(u64::from(seed)),
            ..Config::default()
        };
        config.host.forwarding = true;
        config.host.accept_source_routes = choice & 1 != 0;
        config.host.reply_queue = MAX_REPLIES << (choice >> 1 & 3);
        config.host.duplicate_detection_v6 = DuplicateDetection::Off;
        config.neighbor.max_entries = MAX_NEIGHBORS;
        config.neighbor.max_total_queue_bytes = 64 << 10;
        let engine = Engine::new(config);
        let mut interfaces = Vec::new();
        for (link, (medium, offloads, mtu)) in LINKS.into_iter().enumerate() {
            let interface = engine.attach(
                Instant::ZERO,
                Attachment {
                    name: format!("fuzz{link}"),
                    queues: 1,
                    hardware_address: Some(station(link)),
                    capabilities: Capabilities {
                        medium,
                        mtu,
                        offloads,
                        max_super_packet: 65_535,
                    },
                },
            );
            for cidr in [
                format!("10.0.{link}.1/24"),
                format!("fd00:0:0:{link}::1/64"),
            ] {
                let cidr = cidr.parse().expect("an address with its prefix");
                engine.add_address(Instant::ZERO, interface, cidr);
            }
            if medium == Medium::Ethernet {
                let neighbors: [IpAddr; 2] = [
                    address_v4((link as u8) << 4).into(),
                    address_v6((link as u8) << 4).into(),
                ];
                for neighbor in neighbors {
                    let set = engine.set_neighbor(Instant::ZERO, interface, neighbor, THEIRS);
                    set.expect("an Ethernet interface");
                }
            }
            interfaces.push(interface);
        }
        // Behind each neighbour, but for the last, is a host of its own.
        for (link, interface) in interfaces.iter().enumerate() {
            let choice = (link as u8) << 4;
            let routes: [(IpAddr, u8, IpAddr); 2] = [
                (address_v4(choice | 3).into(), 32, address_v4(choice).into()),
                (
                    address_v6(choice | 3).into(),
                    128,
                    address_v6(choice).into(),
                ),
            ];
            for (host, prefix, gateway) in routes {
                let host = tidewire::ip::Cidr::new(host, prefix).expect("a host");
                engine
                    .network
                    .add_route(host, Route::via(*interface, gateway));
            }
        }
        let mut harness = Self {
            engine,
            interfaces,
            now: Instant::ZERO,
            wakes: WakeList::new(),
            addresses: 0,
        };
        harness.settle(0);
        harness.addresses = harness.own_addresses();
        harness
    }

    fn own_addresses(&self) -> usize {
        let named = |choice| self.engine.network.is_own(address_v6(choice).into());
        let interfaces = self.engine.network.interfaces();
        assert!(
            interfaces
                .iter()
                .all(|interface| interface.advertised_mtu.is_none())
        );
        (0..=255).filter(|choice| named(*choice)).count()
    }

    /// Gives the hops that the packet at hand had.
    fn step(&mut self, input: &mut Input<'_>) -> u8 {
        match input.u8() % 8 {
            0..=2 => self.packet_v4(input),
            3 | 4 => self.packet_v6(input),
            5 => {
                let link = usize::from(input.u8()) % LINKS.len();
                let len = usize::from(input.u8());
                let packet = Packet::from_bytes(Bytes::copy_from_slice(input.take(len)));
                self.receive(link, packet, station(link));
                u8::MAX
            }
            6 => self.advertisement(input),
            _ => {
                self.advance(Duration::from_millis(u64::from(input.u8()) * 100));
                u8::MAX
            }
        }
    }

    fn packet_v4(&mut self, input: &mut Input<'_>) -> u8 {
        let (choice, hops) = (input.u8(), input.u8());
        let (source, destination) = (address_v4(input.u8()), address_v4(input.u8()));
        let protocol = input.u8();
        let place = input.u16();
        let options = usize::from(input.u8()) % 41;
        let options = ipv4::Options::new(input.take(options)).expect("at most 40 octets");
        let mut packet = payload(input, protocol);
        let mut header = ipv4::Header {
            source,
            destination,
            protocol,
            ttl: hops,
            tos: choice,
            total_len: 0,
            identification: place,
            dont_fragment: choice & 4 != 0,
            more_fragments: choice & 24 == 8,
            fragment_offset: if choice & 24 == 24 { place & 0xfff8 } else { 0 },
            options,
        };
        let len = header.encoded_len();
        header.total_len = (packet.len() + len).min(65_535) as u16;
        header.emit(packet.prepend(len));
        if choice & 32 != 0 {
            packet.flatten();
        }
        self.send(choice, packet);
        hops
    }

    fn packet_v6(&mut self, input: &mut Input<'_>) -> u8 {
        let (choice, hops) = (input.u8(), input.u8());
        let (source, destination) = (address_v6(input.u8()), address_v6(input.u8()));
        let next_header = input.u8();
        let mut packet = payload(input, next_header);
        let header = ipv6::Header {
            source,
            destination,
            traffic_class: choice,
            flow_label: u32::from(choice) << 8,
            payload_len: packet.len().min(65_535) as u16,
            next_header,
            hop_limit: hops,
        };
        header.emit(packet.prepend(ipv6::HEADER_LEN));
        if choice & 32 != 0 {
            packet.flatten();
        }
        self.send(choice, packet);
        hops
    }

    fn send(&mut self, choice: u8, packet: Packet) {
        let link = usize::from(choice & 3) % LINKS.len();
        let to = if choice & 192 == 192 {
            MacAddress::BROADCAST
        } else {
            station(link)
        };
        self.receive(link, packet, to);
    }

    fn receive(&mut self, link: usize, mut packet: Packet, to: MacAddress) {
        if LINKS[link].0 == Medium::Ethernet {
            let is_v4 = packet.octet(0).is_some_and(|first| first >> 4 == 4);
            let protocol = if is_v4 {
                LinkProtocol::Ipv4
            } else {
                LinkProtocol::Ipv6
            };
            ethernet::prepend(&mut packet, THEIRS, to, protocol);
        }
        let interface = self.interfaces[link];
        self.engine
            .receive(self.now, interface, &mut vec![packet], &mut self.wakes);
    }

    /// What only a host would listen to.
    fn advertisement(&mut self, input: &mut Input<'_>) -> u8 {
        let (choice, len) = (input.u8(), usize::from(input.u8()));
        let mut octets = input.take(len).to_vec();
        if let Some(first) = octets.first_mut() {
            // A solicitation, an advertisement, a neighbour's, or a redirect.
            *first = 133 + choice % 5;
        }
        let mut packet = Packet::from_bytes(Bytes::from(octets));
        packet.offload.checksum = Checksum::Verified;
        let destination = address_v6(if choice & 32 != 0 { 8 } else { 6 });
        let source = address_v6(choice >> 6 << 4 | 12);
        let header = OutputHeader {
            hop_limit: 255,
            ..OutputHeader::new(source.into(), destination.into(), protocol::ICMPV6)
        };
        output::prepend(&mut packet, &header).expect("a short packet");
        self.send(choice >> 3 & 3, packet);
        u8::MAX
    }

    fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        let mut events = 0;
        while let Some(at) = self.engine.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.engine.handle_timeout(self.now, &mut self.wakes);
            self.settle(u8::MAX);
            events += 1;
            assert!(events < 20_000, "timers go on for ever");
        }
        self.now = end;
    }

    /// Looks at all that is sent because of a packet with that many hops left.
    fn settle(&mut self, hops: u8) {
        let mut count = 0;
        for (link, (medium, _, mtu)) in LINKS.into_iter().enumerate() {
            let mut batch = Vec::new();
            self.engine
                .transmit(self.now, self.interfaces[link], &mut batch, &mut self.wakes);
            for mut packet in batch {
                if medium == Medium::Ethernet {
                    let frame = packet.to_bytes();
                    assert!(frame[6..12] == station(link).0, "in our name");
                    // ARP is none of IP.
                    if frame[12..14] == [8, 6] {
                        continue;
                    }
                    packet.advance(14);
                }
                let cut = segment(packet, Medium::Ip, CutChecksum::Complete, |wire| {
                    count += 1;
                    check(&wire, mtu, hops);
                });
                cut.expect("headers that agree with the metadata");
            }
        }
        assert!(count <= MAX_PACKETS_PER_STEP, "{count} packets");
        let neighbors = self.engine.neighbors().len();
        assert!(neighbors <= MAX_NEIGHBORS, "{neighbors} neighbours");
        self.wakes.wake_all();
    }

    fn drain(&mut self) {
        let mut events = 0;
        while let Some(at) = self.engine.poll_timeout() {
            self.now = self.now.max(at);
            self.engine.handle_timeout(self.now, &mut self.wakes);
            self.settle(u8::MAX);
            events += 1;
            assert!(events < 20_000, "timers go on for ever");
        }
        assert_eq!(self.own_addresses(), self.addresses);
        assert!(self.engine.sockets().is_empty());
        assert!(!self.engine.has_ready());
    }
}

/// A payload of octets of the input and as many more as it says, and what its sender says of its checksum and segments.
fn payload(input: &mut Input<'_>, transport: u8) -> Packet {
    let (metadata, more) = (input.u8(), input.u16());
    let len = usize::from(input.u8());
    let mut packet = Packet::from_bytes(Bytes::copy_from_slice(input.take(len)));
    packet.push(Bytes::from(vec![metadata; usize::from(more) % 20_000]));
    let (start, offset) = match metadata & 3 {
        0 => (0, 16),
        1 => (0, 6),
        2 => (0, 8),
        _ => (u16::from(input.u8()), u16::from(input.u8())),
    };
    packet.offload.checksum = match metadata >> 2 & 3 {
        0 => Checksum::Unverified,
        1 => Checksum::Verified,
        _ => Checksum::Partial { start, offset },
    };
    let kind = match (transport, metadata & 64 != 0) {
        (protocol::TCP, false) => SegmentationKind::TcpV4,
        (protocol::TCP, true) => SegmentationKind::TcpV6,
        _ => SegmentationKind::Udp,
    };
    packet.offload.segmentation = (metadata & 48 == 48).then(|| Segmentation {
        kind,
        segment_size: input.u16() % 2000,
        ecn: metadata & 128 != 0,
    });
    packet
}

/// A packet on the wire: whole, no longer than the link takes it, with a hop taken, if it is not the router's own.
fn check(packet: &Packet, mtu: usize, hops: u8) {
    let octets = packet.to_bytes();
    let (source, left, mtu) = if octets[0] >> 4 == 4 {
        let (header, _) = ipv4::Header::parse(&octets).expect("a right header");
        assert_eq!(usize::from(header.total_len), octets.len());
        (IpAddr::from(header.source), header.ttl, mtu)
    } else {
        let (header, len) = ipv6::Header::parse(&octets).expect("a right header");
        assert_eq!(usize::from(header.payload_len) + len, octets.len());
        (header.source.into(), header.hop_limit, mtu.max(1280))
    };
    assert!(octets.len() <= mtu, "{} octets", octets.len());
    let is_own = match source {
        IpAddr::V4(v4) => v4.octets()[0] == 10 && v4.octets()[3] == 1,
        IpAddr::V6(v6) => {
            v6.segments()[7] == 1 || v6.is_unicast_link_local() || v6.is_unspecified()
        }
    };
    assert!(is_own || (left > 0 && left < hops), "{left} of {hops} hops");
}
