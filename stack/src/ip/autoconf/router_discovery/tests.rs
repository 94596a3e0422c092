use super::*;
use crate::wire::ndp::RouterPreference;

const LINK: InterfaceId = InterfaceId(2);
const HARDWARE: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const DAY: u32 = 24 * 3600;

fn discovery() -> RouterDiscovery {
    let random = Random::new(Some(1));
    RouterDiscovery::new(Instant::ZERO, Config::default(), HARDWARE, 1500, random)
}

fn silent() -> RouterAdvertisement {
    RouterAdvertisement {
        current_hop_limit: 0,
        managed: false,
        other_configuration: false,
        preference: RouterPreference::Medium,
        router_lifetime: 0,
        reachable_time: 0,
        retrans_timer: 0,
    }
}

/// A prefix information option with both flags.
pub(crate) fn prefix(prefix: Ipv6Addr, valid: u32, preferred: u32) -> Vec<u8> {
    let mut octets = vec![3, 4, 64, 0xc0];
    octets.extend(valid.to_be_bytes());
    octets.extend(preferred.to_be_bytes());
    octets.extend([0; 4]);
    octets.extend(prefix.octets());
    octets
}

fn hear(discovery: &mut RouterDiscovery, now: Instant, said: &RouterAdvertisement, options: &[u8]) {
    let options = Options::parse(options).expect("options");
    discovery.handle_advertisement(now, ROUTER, said, options);
}

fn events(discovery: &mut RouterDiscovery) -> Vec<Event> {
    std::iter::from_fn(|| discovery.poll_event()).collect()
}

/// RFC 4861 6.3.4: 0 is "unspecified" and changes nothing, not even back to a default.
#[test]
fn parameters_that_are_not_told_stay_as_they_are() {
    let mut discovery = discovery();
    let told = RouterAdvertisement {
        current_hop_limit: 30,
        reachable_time: 20_000,
        retrans_timer: 500,
        ..silent()
    };
    let mtu = [5, 1, 0, 0, 0, 0, 5, 0x14];
    hear(&mut discovery, Instant::ZERO, &told, &mtu);
    let expected = LinkParameters {
        hop_limit: Some(30),
        mtu: Some(1300),
        times: LinkTimes {
            reachable_time: Some(Duration::from_secs(20)),
            retrans_timer: Some(Duration::from_millis(500)),
        },
    };
    assert_eq!(discovery.link_parameters(), expected);
    assert_eq!(events(&mut discovery), [Event::Link]);
    hear(&mut discovery, Instant::ZERO, &silent(), &[]);
    assert_eq!(discovery.link_parameters(), expected);
    assert_eq!(events(&mut discovery), []);
}

/// RFC 4861 6.3.4 (MTU), 6.2.1 (AdvReachableTime), and what keeps neighbour discovery going.
#[test]
fn parameters_without_sense_are_not_believed() {
    let millis = Duration::from_millis;
    for (mtu, expected) in [
        (1279, None),
        (1280, Some(1280)),
        (1500, Some(1500)),
        (1501, None),
        (u32::MAX, None),
    ] {
        let mut discovery = discovery();
        let mut option = vec![5, 1, 0, 0];
        option.extend(u32::to_be_bytes(mtu));
        hear(&mut discovery, Instant::ZERO, &silent(), &option);
        assert_eq!(discovery.link_parameters().mtu, expected, "{mtu}");
    }
    for (told, reachable, retrans) in [
        (1, Some(millis(100)), Some(millis(10))),
        (60_000, Some(millis(60_000)), Some(millis(60_000))),
        (60_001, Some(millis(60_001)), None),
        (3_600_000, Some(millis(3_600_000)), None),
        (3_600_001, None, None),
        (u32::MAX, None, None),
    ] {
        let mut discovery = discovery();
        let advertisement = RouterAdvertisement {
            reachable_time: told,
            retrans_timer: told,
            ..silent()
        };
        hear(&mut discovery, Instant::ZERO, &advertisement, &[]);
        let times = discovery.link_parameters().times;
        assert_eq!(
            (times.reachable_time, times.retrans_timer),
            (reachable, retrans),
            "{told}"
        );
    }
    let mut discovery = RouterDiscovery::new(
        Instant::ZERO,
        Config {
            min_hop_limit: 32,
            ..Config::default()
        },
        HARDWARE,
        1500,
        Random::new(Some(1)),
    );
    for (told, expected) in [(31, None), (32, Some(32)), (5, Some(32)), (255, Some(255))] {
        let advertisement = RouterAdvertisement {
            current_hop_limit: told,
            ..silent()
        };
        hear(&mut discovery, Instant::ZERO, &advertisement, &[]);
        assert_eq!(discovery.link_parameters().hop_limit, expected);
    }
}

/// RFC 4861 6.3.7, RFC 7559 2.1: an advertisement without a default router ends no questions, but the looking.
#[test]
fn routers_are_asked_until_one_is_a_default_router() {
    let mut discovery = discovery();
    assert!(discovery.is_looking());
    let ask = |discovery: &mut RouterDiscovery| {
        let at = discovery.poll_timeout().expect("a question is due");
        discovery.handle_timeout(at);
        assert!(discovery.poll_solicitation());
        assert!(!discovery.poll_solicitation(), "once");
        at
    };
    let at = ask(&mut discovery);
    hear(&mut discovery, at, &silent(), &[]);
    assert!(!discovery.is_looking());
    let at = ask(&mut discovery);
    let default = RouterAdvertisement {
        router_lifetime: 1800,
        ..silent()
    };
    hear(&mut discovery, at, &default, &[]);
    assert_eq!(
        discovery.poll_timeout(),
        Some(at + Duration::from_secs(1800))
    );
    // A link that comes up may be another.
    discovery.handle_link_up(at + Duration::from_secs(10));
    ask(&mut discovery);
}

/// RFC 4861 4.2: M and O are told; RFC 8106: and DNS.
#[test]
fn what_is_not_used_here_is_told() {
    let mut discovery = discovery();
    let advertisement = RouterAdvertisement {
        managed: true,
        other_configuration: true,
        router_lifetime: 1800,
        ..silent()
    };
    let mut options = vec![25, 3, 0, 0, 0, 0, 0, 60];
    options.extend(ROUTER.octets());
    options.extend([31, 2, 0, 0, 0, 0, 0, 30]);
    options.extend(b"\x03lab\x00\x00\x00\x00");
    hear(&mut discovery, Instant::ZERO, &advertisement, &options);
    let told = discovery.advertised();
    assert!(told.is_managed && told.has_other_configuration);
    assert_eq!(told.dns_servers, [ROUTER]);
    assert_eq!(told.search_domains, ["lab"]);
    assert_eq!(told.default_routers[0].router, ROUTER);
    discovery.handle_timeout(Instant::from_millis(30_000));
    let told = discovery.advertised();
    assert_eq!((told.dns_servers.len(), told.search_domains.len()), (1, 0));
    hear(&mut discovery, Instant::from_millis(31_000), &silent(), &[]);
    let told = discovery.advertised();
    assert!(!told.is_managed && !told.has_other_configuration);
    assert!(told.default_routers.is_empty());
}

/// RFC 4861 6.3.4: one prefix is both on the link and an address, each by its flag; RFC 5942 3: neither follows from the other.
#[test]
fn a_prefix_serves_by_its_flags() {
    let net = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0);
    for (flags, routes, addresses) in [(0x00, 0, 0), (0x80, 1, 0), (0x40, 0, 1), (0xc0, 1, 1)] {
        let mut discovery = discovery();
        let mut option = prefix(net, DAY, DAY);
        option[3] = flags;
        hear(&mut discovery, Instant::ZERO, &silent(), &option);
        assert_eq!(discovery.routes(LINK).len(), routes, "{flags:x}");
        assert_eq!(
            discovery.advertised().addresses.len(),
            addresses,
            "{flags:x}"
        );
    }
}

/// RFC 6724 5, rule 5.5: who advertises a prefix is kept, whatever its flags, while that router says it is valid.
#[test]
fn who_advertises_a_prefix_is_kept() {
    let other = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
    let net = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0);
    let mut discovery = discovery();
    hear(
        &mut discovery,
        Instant::ZERO,
        &silent(),
        &prefix(net, 100, 100),
    );
    events(&mut discovery);
    let mut again = prefix(net, 50, 50);
    again[3] = 0;
    let said = Options::parse(&again).expect("options");
    discovery.handle_advertisement(Instant::ZERO, other, &silent(), said);
    assert_eq!(events(&mut discovery), [Event::Routes]);
    let routers = |discovery: &RouterDiscovery| {
        let origins = discovery.prefix_origins().iter();
        let routers: Vec<_> = origins.map(|origin| origin.router).collect();
        routers
    };
    assert_eq!(routers(&discovery), [ROUTER, other]);
    discovery.handle_timeout(Instant::from_millis(50_000));
    assert_eq!(routers(&discovery), [ROUTER]);
    assert!(events(&mut discovery).contains(&Event::Routes));
    hear(
        &mut discovery,
        Instant::from_millis(60_000),
        &silent(),
        &prefix(net, 0, 0),
    );
    assert!(routers(&discovery).is_empty());
}

/// A thousand prefixes, routers, routes and servers leave no more than the limits say.
#[test]
fn a_flood_leaves_tables_under_their_limits() {
    let mut discovery = discovery();
    let advertisement = RouterAdvertisement {
        router_lifetime: 1800,
        ..silent()
    };
    let config = Config::default();
    for number in 0..1000u16 {
        let net = Ipv6Addr::new(0x2001, 0xdb8, number, 0, 0, 0, 0, 0);
        let mut options = prefix(net, DAY, DAY);
        options.extend([24, 2, 48, 0, 0, 0, 1, 0, 0x20, 1, 0xd, 0xb9]);
        options.extend(number.to_be_bytes());
        options.extend([0, 0]);
        options.extend([25, 3, 0, 0, 0, 0, 0, 60]);
        options.extend(net.octets().map(|octet| octet | 1));
        let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, number);
        let options = Options::parse(&options).expect("options");
        discovery.handle_advertisement(Instant::ZERO, router, &advertisement, options);
    }
    let told = discovery.advertised();
    assert_eq!(told.default_routers.len(), config.max_routers);
    assert!(told.routes.len() <= config.max_routes);
    assert_eq!(told.prefixes.len(), config.max_prefixes);
    assert_eq!(discovery.prefix_origins().len(), config.max_prefixes);
    assert_eq!(told.addresses.len(), config.addresses.max_addresses);
    assert_eq!(told.dns_servers.len(), config.max_dns_entries);
    assert!(events(&mut discovery).len() <= 3000);
    // And all of it goes away again.
    let mut now = Instant::ZERO;
    while let Some(at) = discovery
        .poll_timeout()
        .filter(|at| *at <= now + Duration::from_secs(u64::from(DAY) * 2))
    {
        assert!(at >= now);
        now = at;
        discovery.handle_timeout(now);
        discovery.poll_solicitation();
        if discovery.advertised().addresses.is_empty() {
            break;
        }
    }
    let told = discovery.advertised();
    assert!(told.prefixes.is_empty() && told.routes.is_empty() && told.dns_servers.is_empty());
    assert!(discovery.prefix_origins().is_empty());
}

#[test]
fn a_flood_of_advertisements_is_not_listened_to_but_known_routers_are() {
    // RFC 4861 6.2.6: a router multicasts one in three seconds at most.
    let mut discovery = discovery();
    let default = RouterAdvertisement {
        router_lifetime: 1800,
        ..silent()
    };
    hear(&mut discovery, Instant::ZERO, &default, &[]);
    let stranger = |number: u128| Ipv6Addr::from_bits((0xfe80 << 112) | (7 << 32) | number);
    let mut taken = |now, count| {
        let permitted = (0..count).filter(|number| discovery.permit(now, stranger(*number)));
        let permitted = permitted.count();
        (permitted, discovery.permit(now, ROUTER))
    };
    let start = Instant::from_millis(10_000);
    assert_eq!(taken(start, 5000), (1000, true));
    assert_eq!(taken(start + Duration::from_millis(10), 5000), (10, true));
    assert_eq!(taken(start + Duration::from_secs(1), 980), (980, true));
}
