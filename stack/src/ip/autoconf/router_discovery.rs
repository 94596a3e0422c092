//! What an interface learns from routers' advertisements (RFC 4861 6.3): the machine of one interface.
//!
//! Owned here: asking, taking advertisements apart, and the link's parameters; the rest is divided among the machines below.
//! Left to others: which packets are valid advertisements (`neighbor::ndp`), the neighbour cache, the interface's addresses
//! and routes.
//!
//! ```text
//!  advertisement ─┬─ fixed part ──▶ RouterList: default route         ─┐
//!                 │              └▶ link parameters                    │
//!                 ├─ routes ──────▶ RouterList                         ├─▶ poll_event
//!                 ├─ prefixes ────▶ PrefixList: what is on the link    │
//!                 │              ├▶ Slaac: addresses                   │
//!                 │              └▶ PrefixOrigins: whose prefix        ─┘
//!                 └─ DNS ─────────▶ ExpiringList
//! ```

use std::collections::VecDeque;
use std::net::Ipv6Addr;
use std::time::Duration;

use tidewire_netdev::MacAddress;

use crate::ip::autoconf::expiring_list::ExpiringList;
use crate::ip::autoconf::prefix_list::{OnLinkPrefix, PrefixList};
use crate::ip::autoconf::prefix_origins::{PrefixOrigin, PrefixOrigins};
use crate::ip::autoconf::router_list::{AdvertisedRoute, Limits, RouterList};
use crate::ip::autoconf::router_solicitation::{self, RouterSolicitation};
use crate::ip::autoconf::slaac::{self, AutoconfiguredAddress, Slaac};
use crate::ip::icmp::rate_limit::Bucket;
use crate::ip::route::Route;
use crate::ip::{Cidr, InterfaceId};
use crate::neighbor::LinkTimes;
use crate::random::Random;
use crate::time::{Instant, earlier};
use crate::wire::ndp::{NdpOption, Options, RouterAdvertisement};

/// Times, limits, and how addresses are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// When routers are asked.
    pub solicitation: router_solicitation::Config,
    /// Addresses.
    pub addresses: slaac::Config,
    /// Most routers. 16; RFC 4861 6.3.4 wants two at least.
    pub max_routers: usize,
    /// Most routes to networks behind routers (RFC 4191), default routes not counted. 64.
    pub max_routes: usize,
    /// Most on-link prefixes, and most pairs of a prefix and a router that advertises it. 64.
    pub max_prefixes: usize,
    /// Most DNS servers, and most search domains. 8; RFC 8106 5.3.1 recommends three at least.
    pub max_dns_entries: usize,
    /// Most advertisements in a second of routers that are known, and of all others. 1000.
    pub max_advertisements: u32,
    /// Least hop limit that is believed: with a small one nothing gets far. 1, as Linux (`accept_ra_min_hop_limit`).
    pub min_hop_limit: u8,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            solicitation: router_solicitation::Config::default(),
            addresses: slaac::Config::default(),
            max_routers: 16,
            max_routes: 64,
            max_prefixes: 64,
            max_dns_entries: 8,
            max_advertisements: 1000,
            min_hop_limit: 1,
        }
    }
}

/// What routers have said of the link last. `None`: nothing (RFC 4861 6.3.4: "unspecified" changes nothing).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkParameters {
    /// CurHopLimit: the hop limit of packets for which nobody asked for another.
    pub hop_limit: Option<u8>,
    /// LinkMTU in octets, IP header included.
    pub mtu: Option<usize>,
    /// Times of the neighbour cache.
    pub times: LinkTimes,
}

/// What an interface has by its routers' advertisements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// Default routers, the one in use first, each with its preference and its end.
    pub default_routers: Vec<AdvertisedRoute>,
    /// Routes to networks behind routers (RFC 4191 2.3).
    pub routes: Vec<AdvertisedRoute>,
    /// What is on the link.
    pub prefixes: Vec<OnLinkPrefix>,
    /// Addresses that were made from prefixes; whether they are usable is told by `Stack::addresses`.
    pub addresses: Vec<AutoconfiguredAddress>,
    /// DNS servers, the one to be asked first first; a link-local one is on this interface's link (RFC 8106 5.1).
    pub dns_servers: Vec<Ipv6Addr>,
    /// Domains in which unqualified names are looked up (RFC 8106 5.2).
    pub search_domains: Vec<String>,
    /// Of the link.
    pub parameters: LinkParameters,
    /// The last router heard says that addresses come by DHCPv6 (M), which there is not here.
    pub is_managed: bool,
    /// The last router heard says that other things come by DHCPv6 (O).
    pub has_other_configuration: bool,
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An address.
    Address(slaac::Event),
    /// [`RouterDiscovery::routes`], [`RouterDiscovery::routers`] and [`RouterDiscovery::prefix_origins`].
    Routes,
    /// [`RouterDiscovery::link_parameters`].
    Link,
    /// A router is to be asked whether it answers again, if packets are on their way that it would get (RFC 4191 3.5).
    Probe(Ipv6Addr),
}

/// Router discovery on one interface.
///
/// After every `&mut` call [`Self::poll_event`] may have something, and [`Self::poll_timeout`] may have changed.
#[derive(Debug)]
pub struct RouterDiscovery {
    config: Config,
    /// Octets that the link carries at most.
    max_mtu: usize,
    solicitation: RouterSolicitation,
    routers: RouterList,
    prefixes: PrefixList,
    origins: PrefixOrigins,
    addresses: Slaac,
    dns_servers: ExpiringList<Ipv6Addr>,
    search_domains: ExpiringList<String>,
    parameters: LinkParameters,
    /// The M and O flags of the last advertisement.
    flags: Option<(bool, bool)>,
    is_asking: bool,
    /// Of routers that are not in the list, and of those that are.
    allowances: [Bucket; 2],
    events: VecDeque<Event>,
}

impl RouterDiscovery {
    /// Begins on an interface with that hardware address, whose link carries `max_mtu` octets.
    pub fn new(
        now: Instant,
        config: Config,
        hardware: MacAddress,
        max_mtu: usize,
        mut random: Random,
    ) -> Self {
        let limits = Limits {
            routers: config.max_routers,
            routes: config.max_routes,
        };
        let addresses = Slaac::new(config.addresses.clone(), hardware, random.fork());
        Self {
            max_mtu,
            solicitation: RouterSolicitation::new(now, config.solicitation.clone(), random),
            routers: RouterList::new(limits),
            prefixes: PrefixList::new(config.max_prefixes),
            origins: PrefixOrigins::new(config.max_prefixes),
            addresses,
            dns_servers: ExpiringList::new(config.max_dns_entries),
            search_domains: ExpiringList::new(config.max_dns_entries),
            parameters: LinkParameters::default(),
            flags: None,
            is_asking: false,
            allowances: [Bucket::full(config.max_advertisements); 2],
            events: VecDeque::new(),
            config,
        }
    }

    /// Makes the interface's link-local address, too, if identifiers are opaque; whether it does.
    pub fn add_link_local(&mut self, now: Instant) -> bool {
        let is_made = self.addresses.add_link_local(now);
        self.note_addresses();
        is_made
    }

    /// Whether one more advertisement of that router is to be taken. A link has a few in a second (RFC 4861 6.2.4, 6.2.6), and
    /// each has lists that take their time: more than [`Config::max_advertisements`] are a flood. One with made-up senders
    /// takes nothing from routers that are known.
    pub fn permit(&mut self, now: Instant, router: Ipv6Addr) -> bool {
        let mut routers = self.routers.routers().iter();
        let is_known = routers.any(|known| known.address == router);
        let most = self.config.max_advertisements;
        let interval = Duration::from_secs(1).checked_div(most);
        let allowance = &mut self.allowances[usize::from(is_known)];
        allowance.refill(now, interval.unwrap_or(Duration::MAX), most);
        let permitted = allowance.tokens > 0;
        allowance.take(1);
        permitted
    }

    /// A valid advertisement of the router at that link-local address.
    pub fn handle_advertisement(
        &mut self,
        now: Instant,
        router: Ipv6Addr,
        advertisement: &RouterAdvertisement,
        options: Options<'_>,
    ) {
        let before = self.parameters;
        self.flags = Some((advertisement.managed, advertisement.other_configuration));
        self.handle_parameters(advertisement);
        let lifetime = advertisement.router_lifetime;
        let mut changed =
            self.routers
                .handle_default(now, router, lifetime, advertisement.preference);
        if lifetime != 0 {
            self.solicitation.handle_default_router();
        }
        for option in options {
            match option {
                NdpOption::PrefixInformation(information) => {
                    changed |= self.prefixes.handle_prefix(now, &information);
                    changed |= self.origins.handle_prefix(now, router, &information);
                    self.addresses.handle_prefix(now, &information);
                }
                NdpOption::RouteInformation(information) => {
                    changed |= self.routers.handle_route(now, router, &information);
                }
                NdpOption::Mtu(mtu) => self.handle_mtu(mtu),
                NdpOption::DnsServers(servers) => {
                    let (addresses, lifetime) = (servers.addresses(), servers.lifetime);
                    self.dns_servers.handle_option(now, addresses, lifetime);
                }
                NdpOption::DnsSearchList(list) => {
                    let (names, lifetime) = (list.names(), list.lifetime);
                    self.search_domains.handle_option(now, names, lifetime);
                }
                // The first is the neighbour cache's; the others have no meaning in an advertisement.
                NdpOption::SourceLinkLayerAddress(_)
                | NdpOption::TargetLinkLayerAddress(_)
                | NdpOption::RedirectedHeader(_) => {}
            }
        }
        if self.parameters != before {
            self.events.push_back(Event::Link);
        }
        self.note_routes(changed);
        self.note_addresses();
    }

    /// A router does not answer (RFC 4861 7.3.3).
    pub fn handle_unreachable(&mut self, now: Instant, router: Ipv6Addr) {
        let changed = self.routers.handle_unreachable(now, router);
        self.note_routes(changed);
    }

    /// A router answers again.
    pub fn handle_reachable(&mut self, router: Ipv6Addr) {
        let changed = self.routers.handle_reachable(router);
        self.note_routes(changed);
    }

    /// A router has said that it is none any more (RFC 4861 7.2.5).
    pub fn remove_router(&mut self, router: Ipv6Addr) {
        let changed = self.routers.remove(router);
        self.note_routes(changed);
    }

    /// An address made here turned out to be another host's; whether it was made here.
    pub fn handle_duplicate(&mut self, now: Instant, address: Ipv6Addr) -> bool {
        let was_ours = self.addresses.handle_duplicate(now, address);
        self.note_addresses();
        was_ours
    }

    /// The interface had the address already when it was added.
    pub fn leave_address(&mut self, address: Ipv6Addr) {
        self.addresses.leave(address);
    }

    /// The link has come up, and may be another: routers are asked anew (RFC 4861 6.3.7).
    pub fn handle_link_up(&mut self, now: Instant) {
        self.solicitation.restart(now);
    }

    /// Runs what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.is_asking |= self.solicitation.handle_timeout(now);
        let mut changed = self.routers.handle_timeout(now);
        changed |= self.prefixes.handle_timeout(now);
        changed |= self.origins.handle_timeout(now);
        let probes = self.routers.due_probes(now);
        self.events.extend(probes.into_iter().map(Event::Probe));
        self.dns_servers.handle_timeout(now);
        self.search_domains.handle_timeout(now);
        self.addresses.handle_timeout(now);
        self.note_routes(changed);
        self.note_addresses();
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [
            self.solicitation.poll_timeout(),
            self.routers.poll_timeout(),
            self.prefixes.poll_timeout(),
            self.origins.poll_timeout(),
            self.addresses.poll_timeout(),
            self.dns_servers.poll_timeout(),
            self.search_domains.poll_timeout(),
        ]
        .into_iter()
        .fold(None, earlier)
    }

    /// Whether a router solicitation is to be sent now.
    pub const fn poll_solicitation(&mut self) -> bool {
        std::mem::replace(&mut self.is_asking, false)
    }

    /// What has changed.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether there may be an address yet: no router has been heard so far, or an address that was another host's is to be
    /// replaced.
    pub fn is_looking(&self) -> bool {
        self.flags.is_none() || self.addresses.is_looking()
    }

    /// What the link is like.
    pub const fn link_parameters(&self) -> LinkParameters {
        self.parameters
    }

    /// All routes: what is on the link, and by which router everything else goes.
    pub fn routes(&self, interface: InterfaceId) -> Vec<(Cidr, Route)> {
        let on_link = self.prefixes.prefixes().iter().map(|known| {
            let route = Route {
                metric: ON_LINK_METRIC,
                ..Route::on_link(interface)
            };
            (known.prefix, route)
        });
        on_link.chain(self.routers.routes(interface)).collect()
    }

    /// The routers, whose reachability is to be watched.
    pub fn routers(&self) -> impl Iterator<Item = Ipv6Addr> + '_ {
        self.routers.routers().iter().map(|router| router.address)
    }

    /// Which router advertises which prefix (RFC 6724 5, rule 5.5).
    pub fn prefix_origins(&self) -> &[PrefixOrigin] {
        self.origins.origins()
    }

    /// All that is known.
    pub fn advertised(&self) -> Advertised {
        let routes = self.routers.advertised().iter();
        let specific = routes.filter(|route| route.prefix != Cidr::ANY_V6);
        let (is_managed, has_other_configuration) = self.flags.unwrap_or_default();
        Advertised {
            default_routers: self
                .routers
                .default_routers()
                .into_iter()
                .copied()
                .collect(),
            routes: specific.copied().collect(),
            prefixes: self.prefixes.prefixes().to_vec(),
            addresses: self.addresses.addresses().collect(),
            dns_servers: self.dns_servers.iter().copied().collect(),
            search_domains: self.search_domains.iter().cloned().collect(),
            parameters: self.parameters,
            is_managed,
            has_other_configuration,
        }
    }

    /// RFC 4861 6.3.4: what is not zero is believed, within what makes sense.
    fn handle_parameters(&mut self, advertisement: &RouterAdvertisement) {
        let hop_limit = advertisement.current_hop_limit;
        if hop_limit != 0 && hop_limit >= self.config.min_hop_limit {
            self.parameters.hop_limit = Some(hop_limit);
        }
        let times = &mut self.parameters.times;
        let within = |millis: u32, least: Duration, most: Duration| {
            let time = Duration::from_millis(millis.into());
            (millis != 0 && time <= most).then(|| time.max(least))
        };
        if let Some(time) = within(
            advertisement.reachable_time,
            MIN_REACHABLE_TIME,
            MAX_REACHABLE_TIME,
        ) {
            times.reachable_time = Some(time);
        }
        if let Some(time) = within(
            advertisement.retrans_timer,
            MIN_RETRANS_TIMER,
            MAX_RETRANS_TIMER,
        ) {
            times.retrans_timer = Some(time);
        }
    }

    /// RFC 4861 6.3.4: no less than IPv6 needs, and no more than the link carries.
    fn handle_mtu(&mut self, mtu: u32) {
        let mtu = usize::try_from(mtu).unwrap_or(usize::MAX);
        if (MIN_MTU..=self.max_mtu).contains(&mtu) {
            self.parameters.mtu = Some(mtu);
        }
    }

    fn note_routes(&mut self, changed: bool) {
        if changed {
            self.events.push_back(Event::Routes);
        }
    }

    fn note_addresses(&mut self) {
        let happened = std::iter::from_fn(|| self.addresses.poll_event());
        self.events.extend(happened.map(Event::Address));
    }
}

/// Octets that every link of IPv6 carries (RFC 8200 5).
const MIN_MTU: usize = 1280;
/// The metric of on-link prefixes, as Linux's.
const ON_LINK_METRIC: u32 = 256;
/// As Linux: a shorter one would have neighbours asked all the time.
const MIN_REACHABLE_TIME: Duration = Duration::from_millis(100);
/// What routers may advertise at most (RFC 4861 6.2.1 AdvReachableTime).
const MAX_REACHABLE_TIME: Duration = Duration::from_secs(3600);
/// As Linux.
const MIN_RETRANS_TIMER: Duration = Duration::from_millis(10);
/// No RFC has a limit; an interval of hours would keep neighbours from being found at all.
const MAX_RETRANS_TIMER: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
