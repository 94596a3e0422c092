//! The neighbour cache against a clock and a link that the tests play.

mod arp;
mod invariants;
mod limits;
mod ndp;
mod nud;
mod watch;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tidewire_netdev::{MacAddress, Packet};

use super::*;
use crate::wire::ndp::NeighborAdvertisement;

const LINK: InterfaceId = InterfaceId(2);
const OURS: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const THEIRS: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
const OTHER: MacAddress = MacAddress([2, 0, 0, 0, 0, 3]);
const OUR_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const THEIR_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const OUR_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const THEIR_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

const SECOND: Duration = Duration::from_secs(1);

/// A cache and the time.
struct Bench {
    cache: NeighborCache<u32>,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        Self {
            cache: NeighborCache::new(config, Random::new(Some(1))),
            now: Instant::from_millis(1000),
        }
    }

    /// A cache whose neighbour [`THEIR_V6`] at [`THEIRS`] is in that state; events and questions are taken.
    fn in_state(state: NeighborState) -> Self {
        let mut bench = Self::new();
        match state {
            NeighborState::Incomplete => {
                bench.resolve();
            }
            NeighborState::Reachable => {
                bench.resolve();
                bench.advertise(Some(THEIRS), true, true);
            }
            NeighborState::Stale => bench.solicit(Some(THEIRS)),
            NeighborState::Delay => {
                bench.solicit(Some(THEIRS));
                bench.resolve();
            }
            NeighborState::Probe => {
                bench.solicit(Some(THEIRS));
                bench.resolve();
                bench.pass(5 * SECOND);
            }
            NeighborState::Permanent => bench
                .cache
                .insert_static(bench.now, key_v6(), THEIRS)
                .expect("room"),
            NeighborState::Failed => {
                bench.resolve();
                bench.pass(3 * SECOND);
            }
        }
        assert_eq!(bench.state(), Some(state));
        bench.questions();
        bench.events();
        bench
    }

    /// Time goes by, and what is due happens when it is due.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.cache.poll_timeout().filter(|at| *at <= until) {
            assert!(at >= self.now, "a timer of the past was left behind");
            self.now = at;
            self.cache.handle_timeout(at);
            assert!(self.cache.poll_timeout().is_none_or(|next| next > at));
        }
        self.now = until;
    }

    fn resolve(&mut self) -> Resolution {
        self.resolve_with(UpperLayerAdvice::None)
    }

    fn resolve_with(&mut self, advice: UpperLayerAdvice) -> Resolution {
        self.cache
            .resolve(self.now, key_v6(), OUR_V6.into(), advice)
    }

    fn resolve_v4(&mut self, address: Ipv4Addr) -> Resolution {
        let key = key_of(address.into());
        self.cache
            .resolve(self.now, key, OUR_V4.into(), UpperLayerAdvice::None)
    }

    fn advertise(&mut self, address: Option<MacAddress>, solicited: bool, overrides: bool) {
        let advertisement = ReceivedAdvertisement {
            interface: LINK,
            advertisement: NeighborAdvertisement {
                router: false,
                solicited,
                overrides,
                target: THEIR_V6,
            },
            target_link_layer: address,
        };
        self.cache.handle_advertisement(self.now, &advertisement);
    }

    /// The neighbour asks for us.
    fn solicit(&mut self, address: Option<MacAddress>) {
        let solicitation = ReceivedSolicitation {
            interface: LINK,
            source: THEIR_V6,
            destination: OUR_V6,
            target: OUR_V6,
            source_link_layer: address,
        };
        self.cache
            .handle_solicitation(self.now, &solicitation, Ownership::Assigned)
            .expect("an answer");
    }

    fn state(&self) -> Option<NeighborState> {
        self.info(THEIR_V6.into()).map(|info| info.state)
    }

    fn address(&self) -> Option<MacAddress> {
        self.info(THEIR_V6.into())?.address
    }

    fn info(&self, address: IpAddr) -> Option<NeighborInfo> {
        let entries = self.cache.entries();
        entries.into_iter().find(|info| info.key == key_of(address))
    }

    /// The questions to send: whom they ask for, and whom they go to.
    fn questions(&mut self) -> Vec<(IpAddr, Option<MacAddress>)> {
        std::iter::from_fn(|| self.cache.poll_transmit())
            .map(|question| (question.target, question.link_destination))
            .collect()
    }

    /// What became of those who wait: the address, the lengths of the packets, the waiters.
    fn events(&mut self) -> Vec<(Option<MacAddress>, Vec<usize>, Vec<u32>)> {
        let lens = |packets: Vec<Packet>| packets.iter().map(Packet::len).collect();
        std::iter::from_fn(|| self.cache.poll_event())
            .map(|event| match event {
                NeighborEvent::Resolved {
                    address,
                    packets,
                    waiters,
                    ..
                } => (Some(address), lens(packets), waiters),
                NeighborEvent::Failed {
                    packets, waiters, ..
                } => (None, lens(packets), waiters),
                NeighborEvent::Watched { .. } => panic!("nobody is watched"),
            })
            .collect()
    }
}

fn key_of(address: IpAddr) -> NeighborKey {
    NeighborKey {
        interface: LINK,
        address,
    }
}

fn key_v6() -> NeighborKey {
    key_of(THEIR_V6.into())
}

fn packet(len: usize) -> Packet {
    Packet::from_bytes(vec![7; len].into())
}
