//! Whatever happens in whatever order: limits hold, everybody who waits learns once, and time goes on.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::neighbor::arp as build;
use crate::wire::arp::{Message, Operation};

#[derive(Clone, Debug)]
enum Input {
    Resolve(u8, bool),
    Wait(u8),
    Enqueue(u8, u16),
    Arp(u8, u8, u8, bool, bool),
    Solicitation(u8, Option<u8>),
    Advertisement(u8, Option<u8>, bool, bool),
    Static(u8, u8),
    Remove(u8),
    Flush,
    Time(u32),
    Timeout,
    Transmit,
    Events,
}

fn input() -> impl Strategy<Value = Input> {
    let host = 0..12u8;
    let mac = 0..4u8;
    prop_oneof![
        8 => (host.clone(), any::<bool>()).prop_map(|(host, advice)| Input::Resolve(host, advice)),
        6 => host.clone().prop_map(Input::Wait),
        4 => (host.clone(), 1..3000u16).prop_map(|(host, len)| Input::Enqueue(host, len)),
        4 => (host.clone(), host.clone(), mac.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(sender, target, mac, reply, unicast)| Input::Arp(sender, target, mac, reply, unicast)),
        3 => (host.clone(), proptest::option::of(mac.clone()))
            .prop_map(|(host, mac)| Input::Solicitation(host, mac)),
        3 => (host.clone(), proptest::option::of(mac.clone()), any::<bool>(), any::<bool>())
            .prop_map(|(host, mac, s, o)| Input::Advertisement(host, mac, s, o)),
        1 => (host.clone(), mac).prop_map(|(host, mac)| Input::Static(host, mac)),
        1 => host.prop_map(Input::Remove),
        1 => Just(Input::Flush),
        6 => (0..3_000_000_000u32).prop_map(Input::Time),
        4 => Just(Input::Timeout),
        2 => Just(Input::Transmit),
        2 => Just(Input::Events),
    ]
}

/// Even hosts have IPv4 addresses, odd ones IPv6 ones; host 0 and 1 are us.
fn address(host: u8) -> IpAddr {
    if host.is_multiple_of(2) {
        Ipv4Addr::new(10, 0, 0, host + 1).into()
    } else {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, u16::from(host)).into()
    }
}

fn v6(host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, u16::from(host))
}

fn mac(n: u8) -> MacAddress {
    MacAddress([2, 0, 0, 0, 1, n])
}

struct World {
    bench: Bench,
    /// Waiters that the cache has.
    waiting: BTreeSet<u32>,
    next_waiter: u32,
    /// Packets that were taken, and that came back.
    enqueued: u64,
    returned: u64,
}

impl World {
    fn new() -> Self {
        let config = Config {
            max_entries: 5,
            max_queue_packets: 3,
            max_queue_bytes: 8_000,
            max_total_queue_bytes: 12_000,
            max_waiters: 3,
            ..Config::default()
        };
        Self {
            bench: Bench::with(config),
            waiting: BTreeSet::new(),
            next_waiter: 0,
            enqueued: 0,
            returned: 0,
        }
    }

    fn apply(&mut self, input: &Input) {
        let now = self.bench.now;
        let cache = &mut self.bench.cache;
        match *input {
            Input::Resolve(host, advice) => {
                let advice = if advice {
                    UpperLayerAdvice::ForwardProgress
                } else {
                    UpperLayerAdvice::None
                };
                let source = address(host % 2);
                cache.resolve(now, key_of(address(host)), source, advice);
            }
            Input::Wait(host) => {
                self.next_waiter += 1;
                let waiter = self.next_waiter;
                match cache.wait(key_of(address(host)), waiter) {
                    Ok(()) => assert!(self.waiting.insert(waiter)),
                    Err(back) => assert_eq!(back, waiter),
                }
            }
            Input::Enqueue(host, len) => {
                let packet = packet(len.into());
                if cache.enqueue(key_of(address(host)), packet).is_ok() {
                    self.enqueued += 1;
                }
            }
            Input::Arp(sender, target, hardware, reply, unicast) => {
                self.apply_arp((sender & !1, target & !1), hardware, reply, unicast);
            }
            Input::Solicitation(host, link) => {
                let solicitation = ReceivedSolicitation {
                    interface: LINK,
                    source: v6(host | 1),
                    destination: v6(1),
                    target: v6(1),
                    source_link_layer: link.map(mac),
                };
                let _ = cache.handle_solicitation(now, &solicitation, Ownership::Assigned);
            }
            Input::Advertisement(host, link, solicited, overrides) => {
                let advertisement = ReceivedAdvertisement {
                    interface: LINK,
                    advertisement: NeighborAdvertisement {
                        router: false,
                        solicited,
                        overrides,
                        target: v6(host | 1),
                    },
                    target_link_layer: link.map(mac),
                };
                cache.handle_advertisement(now, &advertisement);
            }
            Input::Static(host, hardware) => {
                let _ = cache.insert_static(now, key_of(address(host)), mac(hardware));
            }
            Input::Remove(host) => {
                cache.remove(key_of(address(host)));
            }
            Input::Flush => cache.flush_interface(LINK),
            Input::Time(nanos) => self.bench.now += Duration::from_nanos(nanos.into()),
            Input::Timeout => {
                cache.handle_timeout(now);
                assert!(cache.poll_timeout().is_none_or(|at| at > now));
            }
            Input::Transmit => {
                for (target, link) in self.bench.questions() {
                    let state = self.bench.info(target).map(|info| info.state);
                    let expected = if link.is_some() {
                        NeighborState::Probe
                    } else {
                        NeighborState::Incomplete
                    };
                    assert_eq!(state, Some(expected));
                }
            }
            Input::Events => self.take_events(),
        }
    }

    fn apply_arp(&mut self, hosts: (u8, u8), hardware: u8, reply: bool, unicast: bool) {
        let (IpAddr::V4(sender), IpAddr::V4(target)) = (address(hosts.0), address(hosts.1)) else {
            return;
        };
        let message = Message {
            operation: if reply {
                Operation::Reply
            } else {
                Operation::Request
            },
            ..build::request(mac(hardware), sender, target)
        };
        let destination = if unicast {
            LinkDestination::Unicast
        } else {
            LinkDestination::Broadcast
        };
        let ownership = |asked: Ipv4Addr| {
            if IpAddr::from(asked) == address(0) {
                Ownership::Assigned
            } else {
                Ownership::None
            }
        };
        let now = self.bench.now;
        let _ = self
            .bench
            .cache
            .handle_arp(now, LINK, OURS, destination, &message, ownership);
    }

    fn take_events(&mut self) {
        for (_, packets, waiters) in self.bench.events() {
            assert!(!packets.is_empty() || !waiters.is_empty());
            self.returned += packets.len() as u64;
            for waiter in waiters {
                assert!(self.waiting.remove(&waiter), "{waiter} learns twice");
            }
        }
    }

    fn check(&self) {
        let cache = &self.bench.cache;
        let entries = cache.entries();
        assert!(entries.len() <= 5);
        assert!(cache.queued <= 12_000);
        // Whatever is not settled has a timer.
        let settles = entries
            .iter()
            .all(|info| info.state == NeighborState::Permanent);
        assert!(settles || cache.poll_timeout().is_some());
    }
}

proptest! {
    #[test]
    fn inputs_in_any_order_keep_the_promises(inputs in proptest::collection::vec(input(), 0..200)) {
        let mut world = World::new();
        for input in &inputs {
            world.apply(input);
            world.check();
        }
        // Left alone, the cache comes to rest.
        world.bench.cache.handle_timeout(world.bench.now);
        world.bench.pass(200 * SECOND);
        world.take_events();
        prop_assert!(world.waiting.is_empty(), "{:?} learn nothing", world.waiting);
        prop_assert_eq!(world.bench.cache.poll_timeout(), None);
        prop_assert_eq!(world.bench.cache.queued, 0);
        let dropped = world.bench.cache.stats().packets_dropped;
        prop_assert_eq!(world.enqueued, world.returned + dropped);
        let entries = world.bench.cache.entries();
        prop_assert!(entries.iter().all(|info| info.state == NeighborState::Permanent));
    }
}

#[test]
fn the_same_seed_gives_the_same_questions() {
    let run = || {
        let mut bench = Bench::new();
        let mut asked = Vec::new();
        for n in 0..50u16 {
            let address = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, n).into();
            let key = key_of(address);
            bench
                .cache
                .resolve(bench.now, key, OUR_V6.into(), UpperLayerAdvice::None);
            let advertisement = ReceivedAdvertisement {
                interface: LINK,
                advertisement: NeighborAdvertisement {
                    router: false,
                    solicited: true,
                    overrides: true,
                    target: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, n),
                },
                target_link_layer: Some(THEIRS),
            };
            if n % 3 != 0 {
                bench.cache.handle_advertisement(bench.now, &advertisement);
            }
        }
        for _ in 0..600 {
            bench.pass(SECOND / 10);
            for n in 0..50u16 {
                let key = key_of(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, n).into());
                bench
                    .cache
                    .resolve(bench.now, key, OUR_V6.into(), UpperLayerAdvice::None);
            }
            asked.push((bench.now, bench.questions()));
        }
        asked
    };
    assert_eq!(run(), run());
}
