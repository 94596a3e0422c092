//! Addresses and routes by routers' advertisements: packets in and out, and what an interface gets of them.
//!
//! The machines themselves are `ip/autoconf/router_discovery`'s and `ip/redirect`'s; whether routers answer is found out by
//! the neighbour cache, which watches those that are in use.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use crate::engine::addresses::link_local;
use crate::engine::{Engine, WakeList, lock};
use crate::error::{SocketError, SocketResult};
use crate::ip::address::InterfaceAddress;
use crate::ip::autoconf::router_discovery::{Advertised, Config, Event, RouterDiscovery};
use crate::ip::autoconf::slaac::{self, Permanence};
use crate::ip::multicast::SourceFilter;
use crate::ip::redirect::RedirectRoute;
use crate::ip::{Cidr, InterfaceId};
use crate::neighbor::ndp::{self, ReceivedRedirect, ReceivedRouterAdvertisement};
use crate::neighbor::{NeighborKey, WatchedChange};
use crate::stats::DropReason;
use crate::time::{Instant, earlier};

impl Engine {
    /// Has an interface's IPv6 addresses and routes come from routers, from now on. Its link-local address becomes an opaque
    /// one, if identifiers are to be so.
    ///
    /// # Errors
    /// [`SocketError::NoDevice`] for an interface that is not Ethernet, [`SocketError::InvalidInput`] on a router
    /// ([`HostConfig::forwarding`](crate::config::HostConfig::forwarding)).
    pub fn configure_by_slaac(
        &self,
        now: Instant,
        interface: InterfaceId,
        config: Config,
    ) -> SocketResult<()> {
        if self.config.host.forwarding {
            return Err(SocketError::InvalidInput);
        }
        let hardware = self.network.hardware_address(interface);
        let hardware = hardware.ok_or(SocketError::NoDevice)?;
        let max_mtu = self.network.device_mtu(interface);
        let max_mtu = max_mtu.ok_or(SocketError::NoDevice)?;
        let random = lock(&self.random).fork();
        let mut discovery = RouterDiscovery::new(now, config, hardware, max_mtu, random);
        let mut wakes = WakeList::new();
        if self.config.host.link_local_addresses
            && discovery.add_link_local(now)
            && let Some(of_hardware) = link_local(hardware)
        {
            self.remove_address(now, interface, of_hardware, &mut wakes);
        }
        lock(&self.router_discovery).insert(interface, discovery);
        self.settle_router_discovery(now, &mut wakes);
        wakes.wake_all();
        Ok(())
    }

    /// What routers have told of each interface that listens to them.
    pub fn advertised(&self) -> Vec<(InterfaceId, Advertised)> {
        let discoveries = lock(&self.router_discovery);
        let all = discoveries.iter();
        all.map(|(interface, discovery)| (*interface, discovery.advertised()))
            .collect()
    }

    /// Whether any interface has heard of no router yet, or has an address to replace.
    pub(super) fn is_looking_for_routers(&self) -> bool {
        lock(&self.router_discovery)
            .values()
            .any(RouterDiscovery::is_looking)
    }

    /// A valid router advertisement.
    pub(super) fn receive_router_advertisement(
        &self,
        now: Instant,
        received: &ReceivedRouterAdvertisement<'_>,
        wakes: &mut WakeList,
    ) -> Result<(), DropReason> {
        let interface = received.interface;
        {
            let mut discoveries = lock(&self.router_discovery);
            // Addresses and routes are configured there: routers are not listened to.
            let discovery = discoveries.get_mut(&interface);
            let discovery = discovery.ok_or(DropReason::UnknownProtocol)?;
            if !discovery.permit(now, received.router) {
                return Err(DropReason::RateLimited);
            }
            discovery.handle_advertisement(
                now,
                received.router,
                &received.advertisement,
                received.options,
            );
        }
        let key = NeighborKey {
            interface,
            address: received.router.into(),
        };
        lock(&self.neighbors).learn_router(now, key, received.source_link_layer);
        self.settle_router_discovery(now, wakes);
        // Who waits for an address learns that there may be none to come.
        self.wake_address_waiters(wakes);
        Ok(())
    }

    /// A redirect, which is valid if it comes from the present first hop of its destination (RFC 4861 8.1, 8.3).
    pub(super) fn receive_redirect(
        &self,
        now: Instant,
        received: &ReceivedRedirect,
    ) -> Result<(), DropReason> {
        let interface = received.interface;
        let (destination, target) = (received.redirect.destination, received.redirect.target);
        // RFC 4861 8.2: a router changes no route for it.
        if self.config.host.forwarding || !lock(&self.redirects).is_on() {
            return Err(DropReason::UnknownProtocol);
        }
        let first_hop = self.network.gateway_towards(interface, destination.into());
        let is_of_first_hop = first_hop == Some(IpAddr::V6(received.router));
        if !is_of_first_hop || self.network.is_own(target.into()) {
            return Err(DropReason::BadNeighbor);
        }
        let (ended, begun) = lock(&self.redirects).insert(now, interface, destination, target);
        self.network.change_redirects(&ended, begun);
        let key = NeighborKey {
            interface,
            address: target.into(),
        };
        {
            let mut neighbors = lock(&self.neighbors);
            if target != destination {
                neighbors.learn_router(now, key, received.target_link_layer);
            } else if let Some(station) = received.target_link_layer {
                neighbors.learn_neighbor(now, key, station);
            }
        }
        self.watch_next_hops(interface);
        let deadline = lock(&self.redirects).poll_timeout();
        self.note_housekeeping(deadline);
        Ok(())
    }

    /// The neighbour cache has found out something about a router, or the target of a redirect.
    pub(super) fn handle_watched(
        &self,
        now: Instant,
        key: NeighborKey,
        change: WatchedChange,
        wakes: &mut WakeList,
    ) {
        let IpAddr::V6(address) = key.address else {
            return;
        };
        tracing::debug!(interface = key.interface.0, %address, ?change, "next hop");
        if let Some(discovery) = lock(&self.router_discovery).get_mut(&key.interface) {
            match change {
                WatchedChange::Unreachable => discovery.handle_unreachable(now, address),
                WatchedChange::Reachable => discovery.handle_reachable(address),
                WatchedChange::NotRouter => discovery.remove_router(address),
            }
        }
        if change != WatchedChange::Reachable {
            let ended = lock(&self.redirects).remove_target(key.interface, address);
            // One to the destination itself is as good as ever when that is no router.
            self.end_redirects(&ended);
        }
        self.settle_router_discovery(now, wakes);
    }

    /// Links have come up: their routers are asked anew (RFC 4861 6.3.7).
    pub(super) fn ask_routers_anew(&self, now: Instant, came_up: &BTreeSet<InterfaceId>) {
        let mut discoveries = lock(&self.router_discovery);
        for interface in came_up {
            if let Some(discovery) = discoveries.get_mut(interface) {
                discovery.handle_link_up(now);
            }
        }
    }

    /// Runs what is due.
    pub(super) fn run_router_discovery(&self, now: Instant, wakes: &mut WakeList) {
        for discovery in lock(&self.router_discovery).values_mut() {
            discovery.handle_timeout(now);
        }
        let ended = lock(&self.redirects).handle_timeout(now);
        self.end_redirects(&ended);
        self.settle_router_discovery(now, wakes);
    }

    /// An address turned out to be another host's: another one takes its place if it was made from a prefix.
    pub(super) fn replace_duplicate(
        &self,
        now: Instant,
        interface: InterfaceId,
        address: IpAddr,
        wakes: &mut WakeList,
    ) {
        let IpAddr::V6(address) = address else {
            return;
        };
        if let Some(discovery) = lock(&self.router_discovery).get_mut(&interface) {
            discovery.handle_duplicate(now, address);
        }
        self.settle_router_discovery(now, wakes);
    }

    /// Sends what is to be asked, and does what has been learnt.
    fn settle_router_discovery(&self, now: Instant, wakes: &mut WakeList) {
        let (mut events, mut asking) = (Vec::new(), Vec::new());
        {
            let mut discoveries = lock(&self.router_discovery);
            for (interface, discovery) in discoveries.iter_mut() {
                if discovery.poll_solicitation() {
                    asking.push(*interface);
                }
                let happened = std::iter::from_fn(|| discovery.poll_event());
                events.extend(happened.map(|event| (*interface, event)));
            }
        }
        for interface in asking {
            self.solicit_routers(interface);
        }
        let changed = !events.is_empty();
        for (interface, event) in events {
            match event {
                Event::Address(event) => self.change_address(now, interface, event, wakes),
                Event::Routes => self.change_routes(interface),
                Event::Link => self.change_link(interface),
                Event::Probe(router) => self.probe_router(now, interface, router),
            }
        }
        if changed {
            self.settle_groups(now);
            self.wake_address_waiters(wakes);
        }
        let deadline = {
            let discoveries = lock(&self.router_discovery);
            let deadlines = discoveries.values().map(RouterDiscovery::poll_timeout);
            deadlines.fold(None, earlier)
        };
        let redirects = lock(&self.redirects).poll_timeout();
        self.note_housekeeping(earlier(deadline, redirects));
    }

    fn change_address(
        &self,
        now: Instant,
        interface: InterfaceId,
        event: slaac::Event,
        wakes: &mut WakeList,
    ) {
        match event {
            slaac::Event::Added {
                address,
                permanence,
            } => self.add_autoconfigured(now, interface, address, permanence),
            slaac::Event::Removed(address) => {
                tracing::info!(interface = interface.0, %address, "address is over");
                self.remove_autoconfigured(now, interface, address.into(), wakes);
            }
            slaac::Event::Deprecated(address) => {
                self.network.set_deprecated(interface, address.into(), true);
            }
            slaac::Event::Preferred(address) => {
                self.network
                    .set_deprecated(interface, address.into(), false);
            }
        }
    }

    fn add_autoconfigured(
        &self,
        now: Instant,
        interface: InterfaceId,
        address: Ipv6Addr,
        permanence: Permanence,
    ) {
        let Some(cidr) = Cidr::new(address.into(), 64) else {
            return;
        };
        if self.network.has_address(interface, address.into()) {
            if let Some(discovery) = lock(&self.router_discovery).get_mut(&interface) {
                discovery.leave_address(address);
            }
            return;
        }
        tracing::info!(interface = interface.0, %address, ?permanence, "autoconfigured");
        let mode = self.config.host.duplicate_detection_v6;
        let state = self.begin_detection(now, interface, address.into(), mode);
        if address.is_unicast_link_local() {
            // Its network is on the link, whatever routers say (RFC 4861 5.1).
            self.network.add_address(interface, cidr, state);
        } else {
            self.network.add_autoconfigured(InterfaceAddress {
                state,
                temporary: permanence == Permanence::Temporary,
                ..InterfaceAddress::new(interface, cidr)
            });
        }
        self.set_solicited_node(now, interface, address.into(), SourceFilter::everything());
        self.note_housekeeping(Some(now));
    }

    fn change_routes(&self, interface: InterfaceId) {
        let told = {
            let discoveries = lock(&self.router_discovery);
            let discovery = discoveries.get(&interface);
            discovery.map(|discovery| {
                let origins = discovery.prefix_origins().to_vec();
                (discovery.routes(interface), origins)
            })
        };
        let (routes, origins) = told.unwrap_or_default();
        self.network.replace_advertised(interface, routes, &origins);
        self.watch_next_hops(interface);
    }

    fn change_link(&self, interface: InterfaceId) {
        let parameters = {
            let discoveries = lock(&self.router_discovery);
            let discovery = discoveries.get(&interface);
            discovery.map(RouterDiscovery::link_parameters)
        };
        let parameters = parameters.unwrap_or_default();
        self.network.set_link_parameters(interface, &parameters);
        lock(&self.neighbors).set_link_times(interface, parameters.times);
        lock(&self.duplicates).set_retrans_timer(interface, parameters.times.retrans_timer);
    }

    /// RFC 4191 3.5: "MUST NOT probe a router's reachability in the absence of useful traffic": what goes to the router's
    /// neighbours of the interface is taken for such.
    fn probe_router(&self, now: Instant, interface: InterfaceId, router: Ipv6Addr) {
        let source = self.network.assigned_link_local(interface);
        let Some(source) = source else { return };
        let routers: BTreeSet<IpAddr> = {
            let discoveries = lock(&self.router_discovery);
            let of_interface = discoveries.get(&interface).into_iter();
            let routers = of_interface.flat_map(RouterDiscovery::routers);
            routers.map(IpAddr::V6).collect()
        };
        let is_used = self.neighbors().iter().any(|info| {
            info.key.interface == interface
                && routers.contains(&info.key.address)
                && now < info.last_used + PROBE_IDLE
        });
        if is_used {
            let key = NeighborKey {
                interface,
                address: router.into(),
            };
            lock(&self.neighbors).probe(now, key, source.into());
            self.pump_links(now);
        }
    }

    fn end_redirects(&self, ended: &[RedirectRoute]) {
        self.network.change_redirects(ended, None);
        let interfaces: BTreeSet<_> = ended.iter().map(|end| end.route.interface).collect();
        for interface in interfaces {
            self.watch_next_hops(interface);
        }
    }

    /// Routers and targets of redirects are watched for whether they answer.
    fn watch_next_hops(&self, interface: InterfaceId) {
        let mut watched: BTreeSet<IpAddr> = BTreeSet::new();
        if let Some(discovery) = lock(&self.router_discovery).get(&interface) {
            watched.extend(discovery.routers().map(IpAddr::V6));
        }
        let redirects = lock(&self.redirects);
        watched.extend(redirects.targets(interface).map(IpAddr::V6));
        drop(redirects);
        lock(&self.neighbors).watch(interface, &watched);
    }

    /// RFC 4861 6.3.7; from no address while there is none that is known to be ours (RFC 4429 3.2).
    fn solicit_routers(&self, interface: InterfaceId) {
        let Some(ours) = self.network.hardware_address(interface) else {
            return;
        };
        let source = self.network.assigned_link_local(interface);
        let source = source.unwrap_or(Ipv6Addr::UNSPECIFIED);
        // Too many at once: it is asked again.
        let _ = self.reply_frame(interface, ndp::router_solicitation(ours, source));
    }
}

/// How long ago packets to a router are useful traffic of now.
const PROBE_IDLE: std::time::Duration = std::time::Duration::from_secs(60);
