//! The neighbour cache and duplicate address detection, fed with arbitrary frames at arbitrary times.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bytes::Bytes;
use tidewire::ip::InterfaceId;
use tidewire::ip::autoconf::dad::{self, AddressState, DadTable, DuplicateDetection};
use tidewire::ip::input::{self, Arrival};
use tidewire::link::ethernet::{self, Frame, LinkProtocol};
use tidewire::neighbor::ndp::{self, Received};
use tidewire::neighbor::{
    Config, NeighborCache, NeighborEvent, NeighborKey, NeighborState, Ownership, UpperLayerAdvice,
};
use tidewire::random::Random;
use tidewire::time::Instant;
use tidewire::wire::{arp, protocol};
use tidewire_netdev::{MacAddress, Packet};

use super::Input;

const LINK: InterfaceId = InterfaceId(2);
const OURS: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const OUR_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const OUR_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const MAX_ENTRIES: usize = 8;

struct World {
    now: Instant,
    cache: NeighborCache<u32>,
    dad: DadTable,
    /// Who waits.
    waiting: BTreeSet<u32>,
    next_waiter: u32,
    /// Packets that were taken and have not come back.
    queued: u64,
}

/// Commands, each an octet and what it needs.
pub(super) fn neighbor(data: &[u8]) {
    let config = Config {
        max_entries: MAX_ENTRIES,
        max_queue_packets: 3,
        max_waiters: 3,
        ..Config::default()
    };
    let mut random = Random::new(Some(7));
    let mut world = World {
        now: Instant::from_millis(1000),
        dad: DadTable::new(dad::Config::default(), random.fork()),
        cache: NeighborCache::new(config, random),
        waiting: BTreeSet::new(),
        next_waiter: 0,
        queued: 0,
    };
    let of_interest = BTreeSet::from([watched().address]);
    world.cache.watch(LINK, &of_interest);
    let mut input = Input(data);
    while !input.is_empty() {
        world.step(&mut input);
        world.check();
    }
    // Left alone, it comes to rest, and everybody who waited has learnt.
    world.pass(Duration::from_secs(1000));
    assert_eq!(world.cache.poll_timeout(), None);
    assert_eq!(world.dad.poll_timeout(), None);
    assert!(world.waiting.is_empty());
    assert_eq!(world.queued, world.cache.stats().packets_dropped);
    let states: Vec<_> = world.cache.entries().iter().map(|row| row.state).collect();
    assert!(
        states
            .iter()
            .all(|state| *state == NeighborState::Permanent)
    );
}

impl World {
    fn step(&mut self, input: &mut Input<'_>) {
        let command = input.u8();
        let key = key(input.u8());
        match command % 10 {
            0 | 1 => {
                let len = usize::from(input.u8());
                self.receive(input.take(len));
            }
            2 => {
                let advice = if command & 0x80 != 0 {
                    UpperLayerAdvice::ForwardProgress
                } else {
                    UpperLayerAdvice::None
                };
                let source = if key.address.is_ipv4() {
                    OUR_V4.into()
                } else {
                    OUR_V6.into()
                };
                self.cache.resolve(self.now, key, source, advice);
            }
            3 => {
                self.next_waiter += 1;
                if self.cache.wait(key, self.next_waiter).is_ok() {
                    self.waiting.insert(self.next_waiter);
                }
            }
            4 => {
                let packet = Packet::from_bytes(vec![0x45; usize::from(input.u16())].into());
                if self.cache.enqueue(key, packet).is_ok() {
                    self.queued += 1;
                }
            }
            5 => self.pass(Duration::from_millis(input.u16().into())),
            6 => self.now += Duration::from_millis(u64::from(input.u16()) * 10),
            7 => {
                let station = MacAddress([2, 0, 0, 0, 0, input.u8()]);
                let _ = self.cache.insert_static(self.now, key, station);
            }
            8 => {
                self.cache.remove(key);
            }
            _ => {
                let mode = match input.u8() % 3 {
                    0 => DuplicateDetection::Off,
                    1 => DuplicateDetection::Optimistic,
                    _ => DuplicateDetection::Strict,
                };
                let address = if command & 0x80 != 0 {
                    IpAddr::from(OUR_V4)
                } else {
                    IpAddr::from(OUR_V6)
                };
                let added = self.dad.add(self.now, LINK, address, mode);
                assert!(added.is_ok());
            }
        }
    }

    fn ownership(&self, address: IpAddr) -> Ownership {
        self.dad
            .state(LINK, address)
            .map_or(Ownership::None, AddressState::ownership)
    }

    fn receive(&mut self, octets: &[u8]) {
        let Ok(frame) = ethernet::receive(OURS, octets) else {
            return;
        };
        let mut packet = Packet::from_bytes(Bytes::copy_from_slice(octets));
        packet.advance(tidewire::wire::ethernet::HEADER_LEN);
        match frame.protocol {
            LinkProtocol::Arp => self.receive_arp(&frame, packet.contiguous()),
            LinkProtocol::Ipv6 => self.receive_ndp(&frame, packet),
            LinkProtocol::Ipv4 | LinkProtocol::Rarp => {}
        }
    }

    fn receive_arp(&mut self, frame: &Frame, octets: &[u8]) {
        let Ok((message, _)) = arp::Message::parse(octets) else {
            return;
        };
        self.dad.handle_arp(self.now, LINK, OURS, &message);
        let dad = &self.dad;
        let ownership = |address: Ipv4Addr| {
            dad.state(LINK, address.into())
                .map_or(Ownership::None, AddressState::ownership)
        };
        let _ = self
            .cache
            .handle_arp(self.now, LINK, OURS, frame.destination, &message, ownership);
    }

    fn receive_ndp(&mut self, frame: &Frame, mut packet: Packet) {
        let Ok(ip) = input::parse(&mut packet, Arrival::Wire) else {
            return;
        };
        let (IpAddr::V6(source), IpAddr::V6(destination)) = (ip.source, ip.destination) else {
            return;
        };
        if ip.protocol != protocol::ICMPV6 || ip.fragment.is_some() {
            return;
        }
        let arrival = ndp::Arrival {
            interface: LINK,
            link_source: Some(frame.source),
            source,
            destination,
            hop_limit: ip.hop_limit,
            was_fragmented: ip.was_fragmented,
        };
        // The checksum is taken as verified: a fuzzer would hardly find one.
        match ndp::receive(&arrival, OURS, &packet.to_bytes()) {
            Ok(Received::Solicitation(solicitation)) => {
                self.dad.handle_solicitation(&solicitation);
                let ownership = self.ownership(solicitation.target.into());
                if let Ok(answer) =
                    self.cache
                        .handle_solicitation(self.now, &solicitation, ownership)
                {
                    answer.to_packet(OURS);
                }
            }
            Ok(Received::Advertisement(advertisement)) => {
                self.dad.handle_advertisement(&advertisement);
                self.cache.handle_advertisement(self.now, &advertisement);
            }
            Ok(Received::RouterAdvertisement(received)) => {
                let key = NeighborKey {
                    interface: LINK,
                    address: received.router.into(),
                };
                self.cache
                    .learn_router(self.now, key, received.source_link_layer);
            }
            Ok(Received::Redirect(_) | Received::RouterSolicitation) | Err(_) => {}
        }
    }

    /// Time goes by, and what is due happens when it is due.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let next = [self.cache.poll_timeout(), self.dad.poll_timeout()];
            let Some(at) = next.into_iter().flatten().min().filter(|at| *at <= until) else {
                break;
            };
            self.now = self.now.max(at);
            self.cache.handle_timeout(self.now);
            self.dad.handle_timeout(self.now);
            let next = [self.cache.poll_timeout(), self.dad.poll_timeout()];
            assert!(next.into_iter().flatten().all(|next| next > self.now));
            self.check();
        }
        self.now = until;
    }

    /// Takes what is to be taken, and looks at the limits.
    fn check(&mut self) {
        assert!(self.cache.entries().len() <= MAX_ENTRIES);
        while let Some(question) = self.cache.poll_transmit() {
            question.to_packet(OURS);
        }
        while let Some(event) = self.cache.poll_event() {
            let (packets, waiters) = match event {
                NeighborEvent::Resolved {
                    packets,
                    waiters,
                    address,
                    ..
                } => {
                    assert!(address.is_unicast());
                    (packets, waiters)
                }
                NeighborEvent::Failed {
                    packets, waiters, ..
                } => (packets, waiters),
                NeighborEvent::Watched { key, .. } => {
                    assert_eq!(key, watched());
                    continue;
                }
            };
            self.queued -= packets.len() as u64;
            for waiter in waiters {
                assert!(self.waiting.remove(&waiter));
            }
        }
        while let Some(probe) = self.dad.poll_transmit() {
            probe.to_packet(OURS);
        }
        while self.dad.poll_event().is_some() {}
    }
}

/// A neighbour on whom more depends.
fn watched() -> NeighborKey {
    key(0x11)
}

/// Few enough neighbours that they meet.
fn key(octet: u8) -> NeighborKey {
    let address = if octet & 1 == 0 {
        Ipv4Addr::new(10, 0, 0, octet >> 4).into()
    } else {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, u16::from(octet >> 4)).into()
    };
    NeighborKey {
        interface: LINK,
        address,
    }
}
