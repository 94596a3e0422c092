//! The routers of a link and where they lead: the Default Router List (RFC 4861 5.1, 6.3.4 to 6.3.6) and the routes to
//! networks behind them, as a host of type C has them (RFC 4191 3).
//!
//! Owned here: how long each route is valid, how it is preferred, and which of them are for use while some routers do not
//! answer. Left to others: finding out that a router does not answer (`neighbor`), and the look-up itself (`ip::route`).
//!
//! ```text
//!            advertisement                does not answer
//!  (none) ────────────────▶ in use ─────────────────────────▶ suspect: used only where no other router leads
//!    ▲                       │  ▲                                │ asked once a minute, if another is used instead
//!    └─ lifetime, no router ─┘  └───────── answers, advertises ──┘
//! ```

use std::cmp::Reverse;
use std::net::Ipv6Addr;
use std::time::Duration;

use crate::ip::autoconf::prefix_list::network_of;
use crate::ip::autoconf::{end_of_lifetime, if_ever};
use crate::ip::route::Route;
use crate::ip::{Cidr, InterfaceId};
use crate::time::Instant;
use crate::wire::ndp::option::{RouteInformation, RouterPreference};

/// How many routers and routes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Routers; RFC 4861 6.3.4 wants two at least.
    pub routers: usize,
    /// Routes to networks behind them, default routes not counted.
    pub routes: usize,
}

/// A router, as a default router or one that leads somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Router {
    /// Its link-local address.
    pub address: Ipv6Addr,
    /// Since when it has not answered, counted in failures of all routers.
    suspect: Option<u64>,
    /// When it may be asked again whether it answers.
    next_probe: Instant,
}

impl Router {
    /// Whether it is thought to answer (RFC 4191 3.2: of whom nothing is known is).
    pub const fn is_reachable(&self) -> bool {
        self.suspect.is_none()
    }
}

/// A route that a router has advertised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdvertisedRoute {
    /// Where it leads: ::/0 for a default router.
    pub prefix: Cidr,
    /// By whom.
    pub router: Ipv6Addr,
    /// How much it is preferred to other routers' routes to the same prefix.
    pub preference: RouterPreference,
    /// When it ends, unless it is advertised again.
    pub until: Instant,
}

/// The routers of an interface.
#[derive(Clone, Debug)]
pub struct RouterList {
    limits: Limits,
    routers: Vec<Router>,
    routes: Vec<AdvertisedRoute>,
    failures: u64,
}

impl RouterList {
    /// An empty list.
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            routers: Vec::new(),
            routes: Vec::new(),
            failures: 0,
        }
    }

    /// The fixed part of an advertisement: whether and how the sender is a default router (RFC 4861 6.3.4). Whether the routes
    /// are others now.
    pub fn handle_default(
        &mut self,
        now: Instant,
        router: Ipv6Addr,
        lifetime: u16,
        preference: RouterPreference,
    ) -> bool {
        self.update(
            AdvertisedRoute {
                prefix: Cidr::ANY_V6,
                router,
                preference,
                until: now + Duration::from_secs(lifetime.into()),
            },
            now,
        )
    }

    /// A network behind the sender; one of ::/0 has the last word on whether it is a default router (RFC 4191 3.1). Whether
    /// the routes are others now.
    pub fn handle_route(
        &mut self,
        now: Instant,
        router: Ipv6Addr,
        information: &RouteInformation,
    ) -> bool {
        let Some(prefix) = network_of(information.prefix, information.prefix_len) else {
            return false;
        };
        self.update(
            AdvertisedRoute {
                prefix,
                router,
                preference: information.preference,
                until: end_of_lifetime(now, information.lifetime),
            },
            now,
        )
    }

    /// A router does not answer. It comes after all others that do, and after those that have not answered for longer, so
    /// that all are tried in turn (RFC 4861 6.3.6 2). Whether the routes are others now.
    pub fn handle_unreachable(&mut self, now: Instant, address: Ipv6Addr) -> bool {
        self.failures += 1;
        let failures = self.failures;
        let Some(router) = self.find(address) else {
            return false;
        };
        router.suspect = Some(failures);
        router.next_probe = now + PROBE_INTERVAL;
        true
    }

    /// A router answers. Whether the routes are others now.
    pub fn handle_reachable(&mut self, address: Ipv6Addr) -> bool {
        let router = self.find(address);
        router.is_some_and(|router| router.suspect.take().is_some())
    }

    /// It has said that it is no router any more (RFC 4861 7.2.5). Whether the routes are others now.
    pub fn remove(&mut self, address: Ipv6Addr) -> bool {
        self.routes.retain(|route| route.router != address);
        self.forget_idle()
    }

    /// Forgets what has ended; whether the routes are others now.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let before = self.routes.len();
        self.routes.retain(|route| now < route.until);
        self.forget_idle();
        self.routes.len() != before
    }

    /// Routers to be asked now whether they answer again: those that others are used for instead, each at most once a minute
    /// (RFC 4191 3.5).
    pub fn due_probes(&mut self, now: Instant) -> Vec<Ipv6Addr> {
        let mut due = Vec::new();
        let replaced: Vec<_> = self.replaced().collect();
        for router in &mut self.routers {
            if router.suspect.is_some() && router.next_probe <= now {
                router.next_probe = now + PROBE_INTERVAL;
                if replaced.contains(&router.address) {
                    due.push(router.address);
                }
            }
        }
        due
    }

    /// When [`Self::handle_timeout`] or [`Self::due_probes`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let ends = self.routes.iter().map(|route| route.until);
        let suspects = self.routers.iter().filter(|router| !router.is_reachable());
        let probes = suspects.map(|router| router.next_probe);
        ends.chain(probes).min().and_then(if_ever)
    }

    /// The routers, in the order they were heard first.
    pub fn routers(&self) -> &[Router] {
        &self.routers
    }

    /// All routes that are valid.
    pub fn advertised(&self) -> &[AdvertisedRoute] {
        &self.routes
    }

    /// The routes for use, with metrics for [`crate::ip::route::RouteTable`]: of those to one prefix, that of a router which
    /// answers, then the preferred (RFC 4191 3.2). A router that does not answer gives way to any other that leads to
    /// the same destinations, by a shorter prefix, too.
    pub fn routes(&self, interface: InterfaceId) -> Vec<(Cidr, Route)> {
        let used = self.routes.iter().filter(|route| !self.is_replaced(route));
        let with_metric = used.map(|route| {
            let metric = match self.suspicion(route.router) {
                None => METRIC + (RouterPreference::High as u32 - route.preference as u32),
                Some(_) => METRIC + PREFERENCES + self.turn(route.router),
            };
            let route_to = Route {
                metric,
                ..Route::via(interface, route.router.into())
            };
            (route.prefix, route_to)
        });
        with_metric.collect()
    }

    fn update(&mut self, route: AdvertisedRoute, now: Instant) -> bool {
        let known =
            |known: &AdvertisedRoute| known.prefix == route.prefix && known.router == route.router;
        let at = self.routes.iter().position(known);
        if route.until <= now {
            if let Some(at) = at {
                self.routes.remove(at);
                self.forget_idle();
            }
            return at.is_some();
        }
        if let Some(at) = at {
            let old = std::mem::replace(&mut self.routes[at], route);
            return old.preference != route.preference;
        }
        if !self.has_room(&route) {
            return false;
        }
        if self.find(route.router).is_none() {
            self.routers.push(Router {
                address: route.router,
                suspect: None,
                next_probe: Instant::ZERO,
            });
        }
        self.routes.push(route);
        true
    }

    /// Whether there is room for a route more. For a new router one that does not answer goes: else dead ones, or those that
    /// never were, could keep all others out.
    fn has_room(&mut self, route: &AdvertisedRoute) -> bool {
        let is_default = |route: &AdvertisedRoute| route.prefix == Cidr::ANY_V6;
        let specific = self
            .routes
            .iter()
            .filter(|route| !is_default(route))
            .count();
        if !is_default(route) && specific >= self.limits.routes {
            return false;
        }
        if self.find(route.router).is_some() || self.routers.len() < self.limits.routers {
            return true;
        }
        let suspects = self.routers.iter().filter(|router| !router.is_reachable());
        let longest = suspects.min_by_key(|router| router.suspect);
        let Some(address) = longest.map(|router| router.address) else {
            return false;
        };
        self.remove(address);
        true
    }

    /// Forgets routers that lead nowhere; whether there were any.
    fn forget_idle(&mut self) -> bool {
        let before = self.routers.len();
        let routes = &self.routes;
        self.routers
            .retain(|router| routes.iter().any(|route| route.router == router.address));
        self.routers.len() != before
    }

    fn find(&mut self, address: Ipv6Addr) -> Option<&mut Router> {
        self.routers
            .iter_mut()
            .find(|router| router.address == address)
    }

    fn suspicion(&self, address: Ipv6Addr) -> Option<u64> {
        let router = self.routers.iter().find(|router| router.address == address);
        router.and_then(|router| router.suspect)
    }

    /// How many routers that do not answer come before this one.
    fn turn(&self, address: Ipv6Addr) -> u32 {
        let own = self.suspicion(address);
        let earlier = |router: &&Router| router.suspect.is_some() && router.suspect < own;
        self.routers.iter().filter(earlier).count() as u32
    }

    /// Whether another router that answers leads wherever this route does.
    fn is_replaced(&self, route: &AdvertisedRoute) -> bool {
        self.suspicion(route.router).is_some()
            && self.routes.iter().any(|other| {
                self.suspicion(other.router).is_none()
                    && other.prefix.prefix_len() <= route.prefix.prefix_len()
                    && other.prefix.contains(route.prefix.address())
            })
    }

    /// Routers in whose place others are used.
    fn replaced(&self) -> impl Iterator<Item = Ipv6Addr> + '_ {
        let replaced = self.routes.iter().filter(|route| self.is_replaced(route));
        replaced.map(|route| route.router)
    }

    /// The default routers, the one in use first.
    pub fn default_routers(&self) -> Vec<&AdvertisedRoute> {
        let defaults = self.routes.iter();
        let mut defaults: Vec<_> = defaults
            .filter(|route| route.prefix == Cidr::ANY_V6)
            .collect();
        defaults.sort_by_key(|route| {
            let suspicion = self.suspicion(route.router);
            let preference = suspicion.is_none().then_some(Reverse(route.preference));
            (suspicion, preference)
        });
        defaults
    }
}

/// The metric of the most preferred route: 1024, as Linux gives it to such; what is configured comes first.
pub const METRIC: u32 = 1024;
/// How many preferences there are.
const PREFERENCES: u32 = 3;
/// RFC 4191 3.5: no more than one question a minute.
const PROBE_INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
