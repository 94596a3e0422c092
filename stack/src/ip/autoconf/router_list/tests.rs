use super::*;
use crate::ip::route::RouteTable;

const LINK: InterfaceId = InterfaceId(2);
const LIMITS: Limits = Limits {
    routers: 4,
    routes: 6,
};

fn router(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, number)
}

fn seconds(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds)
}

fn route(prefix: &str, preference: RouterPreference, lifetime: u32) -> RouteInformation {
    let prefix: Cidr = prefix.parse().unwrap();
    let std::net::IpAddr::V6(address) = prefix.address() else {
        panic!("a prefix of IPv6");
    };
    RouteInformation {
        prefix_len: prefix.prefix_len(),
        preference,
        lifetime,
        prefix: address,
    }
}

/// Who gets packets for a destination.
fn hop(list: &RouterList, destination: &str) -> Option<Ipv6Addr> {
    let mut table = RouteTable::new();
    for (prefix, route) in list.routes(LINK) {
        table.insert(prefix, route);
    }
    let found = table.lookup(destination.parse().unwrap())?;
    assert_eq!(found.interface, LINK);
    match found.gateway {
        Some(std::net::IpAddr::V6(address)) => Some(address),
        other => panic!("{other:?}"),
    }
}

fn with_defaults(defaults: &[(u16, RouterPreference)]) -> RouterList {
    let mut list = RouterList::new(LIMITS);
    for (number, preference) in defaults {
        list.handle_default(Instant::ZERO, router(*number), 1800, *preference);
    }
    list
}

/// RFC 4861 6.3.4, 6.3.5: a lifetime begins with each advertisement, and one of 0 ends at once.
#[test]
fn a_default_router_lasts_as_long_as_it_says() {
    let mut list = RouterList::new(LIMITS);
    assert!(!list.handle_default(seconds(0), router(1), 0, RouterPreference::Medium));
    assert_eq!(hop(&list, "2001:db8::1"), None);
    assert!(list.handle_default(seconds(0), router(1), 100, RouterPreference::Medium));
    assert!(!list.handle_default(seconds(50), router(1), 100, RouterPreference::Medium));
    assert_eq!(list.poll_timeout(), Some(seconds(150)));
    assert!(!list.handle_timeout(seconds(149)));
    assert_eq!(hop(&list, "2001:db8::1"), Some(router(1)));
    assert!(list.handle_timeout(seconds(150)));
    assert_eq!(hop(&list, "2001:db8::1"), None);
    assert!(list.routers().is_empty());

    list.handle_default(seconds(200), router(1), 100, RouterPreference::Medium);
    assert!(list.handle_default(seconds(201), router(1), 0, RouterPreference::Medium));
    assert_eq!(hop(&list, "2001:db8::1"), None);
    assert_eq!(list.poll_timeout(), None);
}

/// RFC 4191 3.2: among routers that answer the preferred; the first heard among equals stays in use.
#[test]
fn the_preferred_default_router_is_used() {
    use RouterPreference::{High, Low, Medium};
    let mut list = with_defaults(&[(1, Low), (2, Medium), (3, Medium)]);
    assert_eq!(hop(&list, "2001:db8::1"), Some(router(2)));
    assert!(list.handle_default(Instant::ZERO, router(1), 1800, High));
    assert_eq!(hop(&list, "2001:db8::1"), Some(router(1)));
    let order: Vec<_> = list
        .default_routers()
        .iter()
        .map(|route| route.router)
        .collect();
    assert_eq!(order, [router(1), router(2), router(3)]);
}

/// RFC 4861 6.3.6 1): reachable routers come first, whatever their preference (RFC 4191 3.2).
#[test]
fn a_router_that_does_not_answer_gives_way() {
    use RouterPreference::{High, Low};
    let mut list = with_defaults(&[(1, High), (2, Low)]);
    assert!(list.handle_unreachable(seconds(1), router(1)));
    assert_eq!(hop(&list, "2001:db8::1"), Some(router(2)));
    assert!(list.handle_reachable(router(1)));
    assert!(!list.handle_reachable(router(1)));
    assert_eq!(hop(&list, "2001:db8::1"), Some(router(1)));
    assert!(!list.handle_unreachable(seconds(1), router(9)), "nobody");
}

/// RFC 4861 6.3.6 2): "selected in a round-robin fashion".
#[test]
fn routers_none_of_which_answers_take_turns() {
    use RouterPreference::Medium;
    let mut list = with_defaults(&[(1, Medium), (2, Medium), (3, Medium)]);
    let mut used = Vec::new();
    for second in 0..6 {
        let now = hop(&list, "2001:db8::1").expect("one of them all the same");
        used.push(now);
        list.handle_unreachable(seconds(second), now);
    }
    let turns = [1, 2, 3, 1, 2, 3].map(router);
    assert_eq!(used, turns);
}

/// RFC 4191 3.6: the example of the algorithm's working.
#[test]
fn the_longest_prefix_of_a_router_that_answers_wins() {
    use RouterPreference::{High, Low, Medium};
    let [w, x, y, z] = [1, 2, 3, 4].map(router);
    let mut list = RouterList::new(LIMITS);
    list.handle_default(Instant::ZERO, w, 1800, Medium);
    for (router, prefix, preference) in [
        (x, "2002::/16", Medium),
        (y, "2001:db8::/32", High),
        (z, "2001:db8::/32", Low),
    ] {
        let information = route(prefix, preference, 600);
        assert!(list.handle_route(Instant::ZERO, router, &information));
    }
    assert_eq!(hop(&list, "2001:db8::1"), Some(y));
    list.handle_unreachable(seconds(1), y);
    assert_eq!(hop(&list, "2001:db8::1"), Some(z));
    list.handle_unreachable(seconds(2), z);
    assert_eq!(hop(&list, "2001:db8::1"), Some(w));
    list.handle_unreachable(seconds(3), w);
    assert_eq!(hop(&list, "2001:db8::1"), Some(y), "none answers");
    assert_eq!(hop(&list, "2002::1"), Some(x), "as ever");
}

/// RFC 4191 3.5: asked are those that others are used for, once a minute; 3.6: Y and Z, but not W, which is in use.
#[test]
fn replaced_routers_are_asked_once_a_minute() {
    use RouterPreference::{High, Medium};
    let mut list = with_defaults(&[(1, Medium)]);
    list.handle_route(seconds(0), router(2), &route("2001:db8::/32", High, 900));
    list.handle_unreachable(seconds(10), router(2));
    assert!(list.due_probes(seconds(69)).is_empty());
    assert_eq!(list.poll_timeout(), Some(seconds(70)));
    assert_eq!(list.due_probes(seconds(70)), [router(2)]);
    assert!(list.due_probes(seconds(129)).is_empty());
    assert_eq!(list.due_probes(seconds(130)), [router(2)]);
    // With none that answers, the packets themselves ask.
    list.handle_unreachable(seconds(131), router(1));
    assert!(list.due_probes(seconds(200)).is_empty());
}

/// RFC 4191 3.1: a route of ::/0 overrides the fixed part; the example there.
#[test]
fn a_route_to_everything_is_a_default_route() {
    use RouterPreference::{Low, Medium};
    let mut list = RouterList::new(LIMITS);
    list.handle_default(seconds(0), router(1), 100, Medium);
    assert!(list.handle_route(seconds(0), router(1), &route("::/0", Low, 200)));
    let [default] = list.advertised() else {
        panic!("one route");
    };
    assert_eq!((default.preference, default.until), (Low, seconds(200)));
    assert!(list.handle_route(seconds(0), router(1), &route("::/0", Low, 0)));
    assert!(list.routers().is_empty());
}

/// RFC 4191 2.3, 3.1: a router that is no default router may lead somewhere all the same.
#[test]
fn a_route_lasts_as_long_as_it_says() {
    use RouterPreference::Medium;
    let mut list = RouterList::new(LIMITS);
    list.handle_default(seconds(0), router(1), 0, Medium);
    assert!(list.handle_route(seconds(0), router(1), &route("2001:db8::/32", Medium, 50)));
    assert!(list.handle_route(
        seconds(0),
        router(1),
        &route("2001:db9::/32", Medium, u32::MAX)
    ));
    assert_eq!(hop(&list, "2001:db8::1"), Some(router(1)));
    assert_eq!(hop(&list, "2002::1"), None);
    assert!(list.handle_timeout(seconds(50)));
    assert_eq!(hop(&list, "2001:db8::1"), None);
    assert_eq!(list.poll_timeout(), None, "the other is for ever");
    // Where no router has a say.
    for prefix in ["fe80::/64", "ff00::/8", "ff02::/16", "::1/128"] {
        assert!(!list.handle_route(seconds(60), router(1), &route(prefix, Medium, 50)));
    }
    assert!(list.remove(router(1)));
    assert!(list.advertised().is_empty());
}

/// RFC 4861 6.3.4: "MAY choose not to store all"; what a flood leaves is bounded, and those that were there stay.
#[test]
fn the_list_is_bounded() {
    use RouterPreference::{High, Medium};
    let mut list = with_defaults(&[(1, Medium)]);
    for number in 2..2000 {
        list.handle_default(seconds(1), router(number), 1800, High);
    }
    assert_eq!(list.routers().len(), LIMITS.routers);
    assert_eq!(list.routers()[0].address, router(1));
    for number in 0..2000 {
        let prefix = format!("2001:db8:{number:x}::/48");
        list.handle_route(seconds(1), router(1), &route(&prefix, Medium, 60));
    }
    assert_eq!(list.advertised().len(), LIMITS.routers + LIMITS.routes);
    // Room is made of those that do not answer.
    list.handle_unreachable(seconds(2), router(3));
    assert!(list.handle_default(seconds(3), router(77), 1800, Medium));
    let addresses: Vec<_> = list.routers().iter().map(|router| router.address).collect();
    assert_eq!(addresses, [1, 2, 4, 77].map(router));
}
