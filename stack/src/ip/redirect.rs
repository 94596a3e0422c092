//! Destinations for which a router has named a better first hop (RFC 4861 8.3).
//!
//! Owned here: which there are, how many, and for how long. Left to others: which redirects are valid, and the routes that
//! they become.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Duration;

use crate::ip::route::{Route, RouteOrigin};
use crate::ip::{Cidr, InterfaceId};
use crate::time::Instant;

/// Whether routers are believed, and how much is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whether redirects are followed, as RFC 4861 8.3 has it (SHOULD). Default true, as Linux for hosts
    /// (`accept_redirects`).
    pub accept: bool,
    /// Most destinations; the oldest go. 256.
    pub max_entries: usize,
    /// How long one is remembered; then packets go to the first router again, which says so once more. 10 minutes, as
    /// path MTUs.
    pub lifetime: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            accept: true,
            max_entries: 256,
            lifetime: Duration::from_secs(600),
        }
    }
}

/// The redirected destinations of all interfaces.
#[derive(Debug)]
pub struct Redirects {
    config: Config,
    entries: BTreeMap<(InterfaceId, Ipv6Addr), Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    target: Ipv6Addr,
    until: Instant,
}

/// A route that begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedirectRoute {
    /// The destination.
    pub destination: Cidr,
    /// The way to it.
    pub route: Route,
}

impl Redirects {
    /// None.
    pub const fn new(config: Config) -> Self {
        Self {
            config,
            entries: BTreeMap::new(),
        }
    }

    /// Whether redirects are followed.
    pub const fn is_on(&self) -> bool {
        self.config.accept && self.config.max_entries > 0
    }

    /// A valid redirect: packets for `destination` go to `target` from now on. Gives the routes that end and the one that
    /// begins, if that is another than before.
    pub fn insert(
        &mut self,
        now: Instant,
        interface: InterfaceId,
        destination: Ipv6Addr,
        target: Ipv6Addr,
    ) -> (Vec<RedirectRoute>, Option<RedirectRoute>) {
        let key = (interface, destination);
        let until = now + self.config.lifetime;
        let mut ended = Vec::new();
        if let Some(known) = self.entries.get_mut(&key) {
            known.until = until;
            if known.target == target {
                return (ended, None);
            }
            ended.push(route(key, known.target));
            known.target = target;
            return (ended, Some(route(key, target)));
        }
        if self.entries.len() >= self.config.max_entries {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.until);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                ended.extend(
                    self.entries
                        .remove(&oldest)
                        .map(|entry| route(oldest, entry.target)),
                );
            }
        }
        self.entries.insert(key, Entry { target, until });
        (ended, Some(route(key, target)))
    }

    /// A target does not answer, or is no router any more: the first hop is chosen anew. Gives the routes that end.
    pub fn remove_target(
        &mut self,
        interface: InterfaceId,
        target: Ipv6Addr,
    ) -> Vec<RedirectRoute> {
        self.remove_where(|(of, _), entry| of == interface && entry.target == target)
    }

    /// Forgets what is too old. Gives the routes that end.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<RedirectRoute> {
        self.remove_where(|_, entry| entry.until <= now)
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.entries.values().map(|entry| entry.until).min()
    }

    /// Whom packets of an interface are redirected to.
    pub fn targets(&self, interface: InterfaceId) -> impl Iterator<Item = Ipv6Addr> + '_ {
        let of_interface = self
            .entries
            .iter()
            .filter(move |((of, _), _)| *of == interface);
        of_interface.map(|(_, entry)| entry.target)
    }

    fn remove_where(
        &mut self,
        ends: impl Fn((InterfaceId, Ipv6Addr), &Entry) -> bool,
    ) -> Vec<RedirectRoute> {
        let mut ended = Vec::new();
        self.entries.retain(|key, entry| {
            let ends = ends(*key, entry);
            if ends {
                ended.push(route(*key, entry.target));
            }
            !ends
        });
        ended
    }
}

fn route((interface, destination): (InterfaceId, Ipv6Addr), target: Ipv6Addr) -> RedirectRoute {
    let way = if target == destination {
        // The destination is a neighbour (RFC 4861 8.3: "MUST treat the Target as on-link").
        Route::on_link(interface)
    } else {
        Route::via(interface, target.into())
    };
    RedirectRoute {
        destination: Cidr::host(destination.into()),
        route: Route {
            origin: RouteOrigin::Redirect,
            ..way
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: InterfaceId = InterfaceId(2);

    fn address(number: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number)
    }

    fn second(second: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(second)
    }

    /// RFC 4861 8.3.
    #[test]
    fn a_redirect_replaces_the_last_for_its_destination() {
        let mut redirects = Redirects::new(Config::default());
        let (router, other) = (address(1), address(2));
        let (ended, begun) = redirects.insert(second(0), LINK, address(9), router);
        assert_eq!(
            (ended, begun),
            (vec![], Some(route((LINK, address(9)), router)))
        );
        let again = redirects.insert(second(5), LINK, address(9), router);
        assert_eq!(again, (vec![], None));
        let (ended, begun) = redirects.insert(second(6), LINK, address(9), other);
        assert_eq!(ended, [route((LINK, address(9)), router)]);
        let begun = begun.expect("another way").route;
        assert_eq!(begun.gateway, Some(other.into()));
        let (_, neighbor) = redirects.insert(second(7), LINK, address(8), address(8));
        assert_eq!(neighbor.expect("a way").route.gateway, None);
    }

    #[test]
    fn redirects_end_with_time_with_their_target_and_when_there_are_too_many() {
        let mut redirects = Redirects::new(Config::default());
        redirects.insert(second(0), LINK, address(9), address(1));
        redirects.insert(second(1), LINK, address(8), address(2));
        assert_eq!(redirects.remove_target(InterfaceId(3), address(2)), []);
        assert_eq!(redirects.remove_target(LINK, address(2)).len(), 1);
        assert_eq!(redirects.poll_timeout(), Some(second(600)));
        assert_eq!(redirects.handle_timeout(second(599)), []);
        assert_eq!(redirects.handle_timeout(second(600)).len(), 1);
        assert_eq!(redirects.poll_timeout(), None);
        let mut routes = 0;
        for number in 0..2000 {
            let (ended, begun) =
                redirects.insert(second(number), LINK, address(number as u16), address(5000));
            routes += begun.iter().len();
            routes -= ended.len();
        }
        assert_eq!(routes, Config::default().max_entries);
        assert_eq!(redirects.targets(LINK).count(), routes);
    }
}
