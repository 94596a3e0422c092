//! Where packets go next: routes by longest prefix (RFC 1122 3.3.1, RFC 8504 5.4).
//!
//! Own addresses are not routes: whoever sends asks [`super::address::AddressTable`] first.

use std::net::IpAddr;

use prefix_trie::PrefixMap;
use smallvec::SmallVec;

use crate::ip::{Cidr, InterfaceId};

/// Who a route comes from: each may change its own only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RouteOrigin {
    /// Configuration, an address that was configured, DHCP.
    #[default]
    Configured,
    /// A router's advertisement (RFC 4861 6.3.4, RFC 4191).
    Advertisement,
    /// A redirect (RFC 4861 8).
    Redirect,
}

/// The way towards a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where packets leave.
    pub interface: InterfaceId,
    /// The router that takes them on; without one the destination itself is on the link.
    pub gateway: Option<IpAddr>,
    /// A limit on packet size in octets, IP header included, besides that of the interface.
    pub mtu: Option<usize>,
    /// The lowest one among routes to the same prefix is used.
    pub metric: u32,
    /// The source address for packets that have none yet, before the choice of RFC 6724.
    pub preferred_source: Option<IpAddr>,
    /// Who it comes from.
    pub origin: RouteOrigin,
}

impl Route {
    /// The destination is on the interface's link.
    pub const fn on_link(interface: InterfaceId) -> Self {
        Self {
            interface,
            gateway: None,
            mtu: None,
            metric: 0,
            preferred_source: None,
            origin: RouteOrigin::Configured,
        }
    }

    /// By way of a router.
    pub const fn via(interface: InterfaceId, gateway: IpAddr) -> Self {
        Self {
            gateway: Some(gateway),
            ..Self::on_link(interface)
        }
    }

    /// Whether the two differ in nothing but what is changed by replacing one with the other.
    fn is_same_way(&self, other: &Self) -> bool {
        (self.interface, self.gateway, self.origin)
            == (other.interface, other.gateway, other.origin)
    }

    /// Whose link-layer address is needed: the gateway's, or the destination's own.
    pub fn next_hop(&self, destination: IpAddr) -> IpAddr {
        self.gateway.unwrap_or(destination)
    }
}

/// Routes to one prefix, by metric; almost always a single one.
type Routes = SmallVec<[Route; 1]>;

/// All routes of a stack, for both IP versions.
#[derive(Clone, Default)]
pub struct RouteTable {
    v4: PrefixMap<(u32, u8), Routes>,
    v6: PrefixMap<(u128, u8), Routes>,
}

impl RouteTable {
    /// A table without routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route to the prefix of `destination` (host bits are ignored), or replaces the one with the same interface
    /// and gateway of the same origin.
    pub fn insert(&mut self, destination: Cidr, route: Route) {
        let routes = match destination.address() {
            IpAddr::V4(address) => {
                let key = (address.to_bits(), destination.prefix_len());
                self.v4.entry(key).or_default()
            }
            IpAddr::V6(address) => {
                let key = (address.to_bits(), destination.prefix_len());
                self.v6.entry(key).or_default()
            }
        };
        routes.retain(|r| !r.is_same_way(&route));
        // Behind its equals: the first one inserted stays the one in use.
        let position = routes.partition_point(|r| r.metric <= route.metric);
        routes.insert(position, route);
    }

    /// Adds the on-link route that an interface's address brings along. A full-length prefix brings none.
    pub fn insert_connected(&mut self, interface: InterfaceId, address: Cidr) {
        if !address.is_host() {
            self.insert(address.network(), Route::on_link(interface));
        }
    }

    /// Takes one configured route away; `None` if there was none with that interface and gateway.
    pub fn remove(
        &mut self,
        destination: Cidr,
        interface: InterfaceId,
        gateway: Option<IpAddr>,
    ) -> Option<Route> {
        let route = Route {
            gateway,
            ..Route::on_link(interface)
        };
        self.remove_route(destination, &route)
    }

    /// Takes the route with the interface, gateway and origin of `route` away; `None` if there was none.
    pub fn remove_route(&mut self, destination: Cidr, route: &Route) -> Option<Route> {
        let take = |routes: &mut Routes| {
            let position = routes.iter().position(|r| r.is_same_way(route))?;
            Some(routes.remove(position))
        };
        let prefix_len = destination.prefix_len();
        match destination.address() {
            IpAddr::V4(address) => {
                let key = (address.to_bits(), prefix_len);
                let routes = self.v4.get_mut(&key)?;
                let removed = take(routes);
                if routes.is_empty() {
                    self.v4.remove(&key);
                }
                removed
            }
            IpAddr::V6(address) => {
                let key = (address.to_bits(), prefix_len);
                let routes = self.v6.get_mut(&key)?;
                let removed = take(routes);
                if routes.is_empty() {
                    self.v6.remove(&key);
                }
                removed
            }
        }
    }

    /// Takes all routes of an interface away.
    pub fn remove_interface(&mut self, interface: InterfaceId) {
        self.remove_where(|route| route.interface == interface);
    }

    /// Puts these routes in the place of all that routers have advertised on an interface.
    pub fn replace_advertised(&mut self, interface: InterfaceId, routes: Vec<(Cidr, Route)>) {
        self.remove_where(|route| {
            route.interface == interface && route.origin == RouteOrigin::Advertisement
        });
        for (destination, route) in routes {
            let route = Route {
                origin: RouteOrigin::Advertisement,
                ..route
            };
            self.insert(destination, route);
        }
    }

    fn remove_where(&mut self, goes: impl Fn(&Route) -> bool) {
        // `PrefixMap::retain` sees shared references only: first thin the lists out, then drop the empty ones.
        for routes in self.v4.values_mut().chain(self.v6.values_mut()) {
            routes.retain(|route| !goes(route));
        }
        self.v4.retain(|_, routes| !routes.is_empty());
        self.v6.retain(|_, routes| !routes.is_empty());
    }

    /// The route for `destination`: the longest prefix, of those the lowest metric, of those the oldest.
    pub fn lookup(&self, destination: IpAddr) -> Option<Route> {
        let routes = match destination {
            IpAddr::V4(address) => self.v4.get_lpm(&(address.to_bits(), 32))?.1,
            IpAddr::V6(address) => self.v6.get_lpm(&(address.to_bits(), 128))?.1,
        };
        routes.first().copied()
    }

    /// The same among the routes of one interface: for sockets bound to it and for zoned addresses (RFC 4007 9).
    pub fn lookup_on(&self, interface: InterfaceId, destination: IpAddr) -> Option<Route> {
        let of_interface =
            |routes: &Routes| routes.iter().find(|r| r.interface == interface).copied();
        // `cover` goes from the shortest prefix to the longest.
        match destination {
            IpAddr::V4(address) => {
                let covering = self.v4.cover_values(&(address.to_bits(), 32));
                covering.filter_map(of_interface).last()
            }
            IpAddr::V6(address) => {
                let covering = self.v6.cover_values(&(address.to_bits(), 128));
                covering.filter_map(of_interface).last()
            }
        }
    }

    /// All routes: IPv4 first, in the order of their prefixes.
    pub fn iter(&self) -> impl Iterator<Item = (Cidr, Route)> {
        let v4 = self.v4.iter().flat_map(|((bits, prefix_len), routes)| {
            let destination = Cidr::new(std::net::Ipv4Addr::from_bits(bits).into(), prefix_len);
            let pair = move |route: &Route| destination.map(|d| (d, *route));
            routes.iter().filter_map(pair)
        });
        let v6 = self.v6.iter().flat_map(|((bits, prefix_len), routes)| {
            let destination = Cidr::new(std::net::Ipv6Addr::from_bits(bits).into(), prefix_len);
            let pair = move |route: &Route| destination.map(|d| (d, *route));
            routes.iter().filter_map(pair)
        });
        v4.chain(v6)
    }
}

impl std::fmt::Debug for RouteTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETH: InterfaceId = InterfaceId(2);
    const TUN: InterfaceId = InterfaceId(3);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn table() -> RouteTable {
        let mut table = RouteTable::new();
        table.insert(Cidr::ANY_V4, Route::via(ETH, ip("10.0.0.1")));
        table.insert(Cidr::ANY_V6, Route::via(ETH, ip("fe80::1")));
        table.insert_connected(ETH, cidr("10.0.0.2/24"));
        table.insert_connected(ETH, cidr("2001:db8::2/64"));
        table.insert_connected(ETH, cidr("192.0.2.1/32"));
        table.insert(cidr("10.0.0.128/25"), Route::on_link(TUN));
        table.insert(cidr("10.0.0.200/32"), Route::via(ETH, ip("10.0.0.9")));
        table.insert(cidr("fe80::/64"), Route::on_link(ETH));
        table.insert(cidr("fe80::/64"), Route::on_link(TUN));
        table
    }

    #[test]
    fn the_longest_prefix_wins() {
        let expected = [
            ("10.0.0.7", Some(Route::on_link(ETH))),
            ("10.0.0.129", Some(Route::on_link(TUN))),
            ("10.0.0.200", Some(Route::via(ETH, ip("10.0.0.9")))),
            ("8.8.8.8", Some(Route::via(ETH, ip("10.0.0.1")))),
            // A /32 address brings no connected route.
            ("192.0.2.1", Some(Route::via(ETH, ip("10.0.0.1")))),
            ("2001:db8::5", Some(Route::on_link(ETH))),
            ("2001:db8:0:1::", Some(Route::via(ETH, ip("fe80::1")))),
            ("fe80::7", Some(Route::on_link(ETH))),
        ];
        for (destination, route) in expected {
            assert_eq!(table().lookup(ip(destination)), route, "{destination}");
        }
        assert_eq!(RouteTable::new().lookup(ip("8.8.8.8")), None);
    }

    #[test]
    fn look_up_on_an_interface_skips_the_routes_of_others() {
        let table = table();
        let on = |interface, text| table.lookup_on(interface, ip(text));
        assert_eq!(on(TUN, "fe80::7"), Some(Route::on_link(TUN)));
        assert_eq!(on(ETH, "10.0.0.129"), Some(Route::on_link(ETH)));
        assert_eq!(on(TUN, "8.8.8.8"), None);
        assert_eq!(
            on(ETH, "10.0.0.200").and_then(|r| r.gateway),
            Some(ip("10.0.0.9"))
        );
    }

    #[test]
    fn the_lowest_metric_wins_and_then_the_oldest() {
        let mut table = RouteTable::new();
        let with_metric = |gateway, metric| Route {
            metric,
            ..Route::via(ETH, ip(gateway))
        };
        for (gateway, metric) in [("10.0.0.3", 5), ("10.0.0.4", 2), ("10.0.0.5", 2)] {
            table.insert(Cidr::ANY_V4, with_metric(gateway, metric));
        }
        let gateway = |table: &RouteTable| table.lookup(ip("1.1.1.1")).and_then(|r| r.gateway);
        assert_eq!(gateway(&table), Some(ip("10.0.0.4")));
        // The same route with another metric replaces the old one.
        table.insert(Cidr::ANY_V4, with_metric("10.0.0.4", 9));
        assert_eq!(gateway(&table), Some(ip("10.0.0.5")));
        assert!(
            table
                .remove(Cidr::ANY_V4, ETH, Some(ip("10.0.0.5")))
                .is_some()
        );
        assert_eq!(gateway(&table), Some(ip("10.0.0.3")));
        assert!(table.remove(Cidr::ANY_V4, ETH, None).is_none());
    }

    #[test]
    fn routes_of_one_origin_leave_those_of_others_alone() {
        let mut table = table();
        let advertised = vec![
            (Cidr::ANY_V6, Route::via(ETH, ip("fe80::1"))),
            (Cidr::ANY_V6, Route::via(ETH, ip("fe80::2"))),
            (cidr("2001:db8::/64"), Route::on_link(ETH)),
        ];
        let before: Vec<_> = table.iter().collect();
        table.replace_advertised(ETH, advertised);
        assert_eq!(table.iter().count(), before.len() + 3);
        table.replace_advertised(TUN, vec![]);
        assert_eq!(table.iter().count(), before.len() + 3);
        assert!(
            table
                .remove(Cidr::ANY_V6, ETH, Some(ip("fe80::1")))
                .is_some()
        );
        // The same by advertisement is still there.
        let route = table.lookup(ip("2001:db9::")).expect("a default route");
        assert_eq!(route.origin, RouteOrigin::Advertisement);
        assert_eq!(route.gateway, Some(ip("fe80::1")));
        table.insert(Cidr::ANY_V6, Route::via(ETH, ip("fe80::1")));
        table.replace_advertised(ETH, vec![]);
        assert_eq!(table.iter().collect::<Vec<_>>(), before);
    }

    #[test]
    fn removing_an_interface_removes_its_routes_only() {
        let mut table = table();
        table.remove_interface(ETH);
        let left: Vec<_> = table.iter().collect();
        let expected = [
            (cidr("10.0.0.128/25"), Route::on_link(TUN)),
            (cidr("fe80::/64"), Route::on_link(TUN)),
        ];
        assert_eq!(left, expected);
        assert_eq!(table.lookup(ip("10.0.0.7")), None);
    }

    #[test]
    fn the_last_route_removed_uncovers_the_shorter_prefix() {
        let mut table = table();
        assert!(table.remove(cidr("10.0.0.128/25"), TUN, None).is_some());
        assert_eq!(table.lookup(ip("10.0.0.129")), Some(Route::on_link(ETH)));
    }
}
