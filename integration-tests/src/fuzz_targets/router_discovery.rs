//! Router discovery between routers that say anything at any time.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tidewire::ip::InterfaceId;
use tidewire::ip::autoconf::router_discovery::{Config, Event, RouterDiscovery};
use tidewire::ip::autoconf::{slaac, temporary_address};
use tidewire::ip::redirect::{self, Redirects};
use tidewire::ip::route::RouteTable;
use tidewire::random::Random;
use tidewire::time::Instant;
use tidewire::wire::ndp::{Message, Options};
use tidewire_netdev::MacAddress;

use super::Input;

const LINK: InterfaceId = InterfaceId(2);
const OURS: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const MAX_MTU: usize = 1500;
const MAX_REDIRECTS: usize = 4;
/// What nobody needs more of.
const MOST_STEPS: usize = 300;

struct World {
    now: Instant,
    discovery: RouterDiscovery,
    redirects: Redirects,
    /// The interface's addresses, as the events tell; whether each is deprecated.
    addresses: BTreeMap<Ipv6Addr, bool>,
    routes: RouteTable,
}

/// Advertisements, silence, duplicates and redirects: addresses are added before they are anything else and once, tables stay
/// within their limits, nothing is due in the past, and in the end all of it goes away.
pub(super) fn discovery(data: &[u8]) {
    let mut input = Input(data);
    let config = config(input.u8());
    let now = Instant::from_millis(1000);
    let random = Random::new(Some(1));
    let mut world = World {
        now,
        discovery: RouterDiscovery::new(now, config.clone(), OURS, MAX_MTU, random),
        redirects: Redirects::new(redirect::Config {
            max_entries: MAX_REDIRECTS,
            ..redirect::Config::default()
        }),
        addresses: BTreeMap::new(),
        routes: RouteTable::new(),
    };
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
        world.check(&config);
    }
}

fn config(bits: u8) -> Config {
    let temporary = temporary_address::Config {
        valid_lifetime: Duration::from_secs(100),
        preferred_lifetime: Duration::from_secs(50),
        ..temporary_address::Config::default()
    };
    Config {
        addresses: slaac::Config {
            temporary: (bits & 1 != 0).then_some(temporary),
            max_addresses: 5,
            ..slaac::Config::default()
        },
        max_routers: 3,
        max_routes: 4,
        max_prefixes: 4,
        max_dns_entries: 3,
        ..Config::default()
    }
}

impl World {
    fn step(&mut self, input: &mut Input<'_>) {
        let command = input.u8();
        match command % 8 {
            0..=2 => {
                let router = router(input.u8());
                let len = usize::from(input.u16() % 512);
                let octets = input.take(len);
                if let Ok((Message::RouterAdvertisement(advertisement), options)) =
                    Message::parse(octets)
                {
                    self.hear(router, &advertisement, options);
                }
            }
            3 => self.now += Duration::from_secs(input.u16().into()),
            4 => self.pass(Duration::from_secs(input.u8().into())),
            5 => {
                let count = self.addresses.len().max(1);
                let chosen = usize::from(input.u8()) % count;
                if let Some(address) = self.addresses.keys().nth(chosen).copied() {
                    assert!(self.discovery.handle_duplicate(self.now, address));
                }
            }
            6 => {
                let router = router(input.u8());
                match command >> 3 & 3 {
                    0 => self.discovery.handle_reachable(router),
                    1 => self.discovery.remove_router(router),
                    2 => self.discovery.handle_link_up(self.now),
                    _ => self.discovery.handle_unreachable(self.now, router),
                }
            }
            _ => {
                let destination = router(input.u8());
                let target = router(input.u8());
                let (ended, begun) = self.redirects.insert(self.now, LINK, destination, target);
                for end in ended {
                    let removed = self.routes.remove_route(end.destination, &end.route);
                    assert!(removed.is_some());
                }
                if let Some(begun) = begun {
                    self.routes.insert(begun.destination, begun.route);
                }
            }
        }
    }

    fn hear(
        &mut self,
        router: Ipv6Addr,
        advertisement: &tidewire::wire::ndp::RouterAdvertisement,
        options: Options<'_>,
    ) {
        self.discovery
            .handle_advertisement(self.now, router, advertisement, options);
    }

    /// Time goes by, and what is due happens when it is due.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.discovery.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.discovery.handle_timeout(self.now);
            let next = self.discovery.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now), "due in the past");
            self.take_events();
        }
        for end in self.redirects.handle_timeout(self.now) {
            let removed = self.routes.remove_route(end.destination, &end.route);
            assert!(removed.is_some());
        }
        self.now = until;
    }

    fn take_events(&mut self) {
        self.discovery.poll_solicitation();
        while let Some(event) = self.discovery.poll_event() {
            match event {
                Event::Address(slaac::Event::Added { address, .. }) => {
                    assert!(!address.is_unicast_link_local() && !address.is_multicast());
                    assert!(self.addresses.insert(address, false).is_none(), "twice");
                }
                Event::Address(slaac::Event::Removed(address)) => {
                    assert!(self.addresses.remove(&address).is_some());
                }
                Event::Address(slaac::Event::Deprecated(address)) => {
                    assert_eq!(self.addresses.insert(address, true), Some(false));
                }
                Event::Address(slaac::Event::Preferred(address)) => {
                    assert_eq!(self.addresses.insert(address, false), Some(true));
                }
                Event::Routes => {
                    let routes = self.discovery.routes(LINK);
                    self.routes.replace_advertised(LINK, routes);
                }
                Event::Link => {
                    let mtu = self.discovery.link_parameters().mtu;
                    assert!(mtu.is_none_or(|mtu| (1280..=MAX_MTU).contains(&mtu)));
                }
                Event::Probe(router) => {
                    assert!(self.discovery.routers().any(|known| known == router));
                }
            }
        }
    }

    fn check(&mut self, config: &Config) {
        self.take_events();
        let told = self.discovery.advertised();
        assert!(told.default_routers.len() <= config.max_routers);
        assert!(self.discovery.routers().count() <= config.max_routers);
        assert!(told.routes.len() <= config.max_routes);
        assert!(told.prefixes.len() <= config.max_prefixes);
        assert!(self.discovery.prefix_origins().len() <= config.max_prefixes);
        assert!(told.dns_servers.len() <= config.max_dns_entries);
        assert!(told.search_domains.len() <= config.max_dns_entries);
        assert!(self.addresses.len() <= config.addresses.max_addresses);
        let known: Vec<_> = told.addresses.iter().map(|known| known.address).collect();
        assert!(
            self.addresses
                .keys()
                .eq(known.iter().collect::<std::collections::BTreeSet<_>>())
        );
        let installed = self.routes.iter();
        let advertised = installed
            .filter(|(_, route)| route.origin == tidewire::ip::route::RouteOrigin::Advertisement);
        assert_eq!(advertised.count(), self.discovery.routes(LINK).len());
        // Wherever a router leads, one is used.
        let everywhere = self
            .routes
            .lookup(IpAddr::V6(Ipv6Addr::from_bits(1 << 125)));
        assert!(everywhere.is_some() || told.default_routers.is_empty());
    }
}

fn router(octet: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, u16::from(octet % 6))
}
