//! RFC 6724 section 10's examples, as tables.

use super::*;
use crate::ip::autoconf::prefix_origins::PrefixOrigin;
use crate::time::Instant;

const OUT: InterfaceId = InterfaceId(2);
const OTHER: InterfaceId = InterfaceId(3);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Candidates such as `fe80::2 deprecated`, `2001:db8::5 temporary` or `fe80::3 other`; prefixes of 64 or 24 bits.
fn table(candidates: &[&str]) -> AddressTable {
    let mut table = AddressTable::new();
    for candidate in candidates {
        let (address, mark) = candidate.split_once(' ').unwrap_or((candidate, ""));
        let cidr = match ip(address) {
            address if address.is_ipv4() => format!("{address}/24"),
            address => format!("{address}/64"),
        };
        let interface = if mark == "other" { OTHER } else { OUT };
        table.insert(InterfaceAddress {
            deprecated: mark == "deprecated",
            temporary: mark == "temporary",
            state: match mark {
                "tentative" => AddressState::Tentative,
                "optimistic" => AddressState::Optimistic,
                _ => AddressState::Assigned,
            },
            ..InterfaceAddress::new(interface, cidr.parse().unwrap())
        });
    }
    table
}

fn selected(destination: IpAddr, next_hop: IpAddr, table: &AddressTable) -> Option<Source> {
    let target = Target {
        destination,
        interface: OUT,
        next_hop,
    };
    select(&target, table, &PolicyTable::default())
}

#[test]
fn selects_the_source_address_of_each_rule() {
    // RFC 6724 10.1: destination, candidates, result.
    let table_of_cases: &[(&str, &[&str], Option<&str>)] = &[
        // Rule 2: prefer appropriate scope.
        (
            "2001:db8:1::1",
            &["2001:db8:3::1", "fe80::1"],
            Some("2001:db8:3::1"),
        ),
        (
            "2001:db8:1::1",
            &["fe80::1", "2001:db8:3::1"],
            Some("2001:db8:3::1"),
        ),
        (
            "ff05::1",
            &["2001:db8:3::1", "fe80::1"],
            Some("2001:db8:3::1"),
        ),
        ("ff02::1", &["2001:db8:3::1", "fe80::1"], Some("fe80::1")),
        (
            "fe80::1",
            &["fe80::2 deprecated", "2001:db8:1::1"],
            Some("fe80::2"),
        ),
        // Rule 1: prefer same address.
        (
            "2001:db8:1::1",
            &["2001:db8:1::1 deprecated", "2001:db8:2::1"],
            Some("2001:db8:1::1"),
        ),
        // Rule 3: avoid deprecated addresses.
        (
            "2001:db8:1::1",
            &["2001:db8:1::2 deprecated", "2001:db8:3::2"],
            Some("2001:db8:3::2"),
        ),
        // Rule 5: prefer the outgoing interface.
        (
            "2001:db8:1::1",
            &["2001:db8:1::2 other", "2001:db8:3::2"],
            Some("2001:db8:3::2"),
        ),
        // The weak host model: a global address of another interface rather than a link-local one.
        (
            "2001:db8:1::1",
            &["fe80::2", "2001:db8:3::2 other"],
            Some("2001:db8:3::2"),
        ),
        // Section 4: for link-local and multicast destinations only the outgoing link's addresses.
        ("fe80::1", &["fe80::2 other"], None),
        (
            "ff05::1",
            &["2001:db8::2 other", "fe80::2"],
            Some("fe80::2"),
        ),
        // A link-local address of another link never leaves here.
        ("2001:db8:1::1", &["fe80::2 other"], None),
        // Rule 6: prefer matching label.
        (
            "2002:c633:6401::1",
            &[
                "2001:db8:1::2",
                "2002:c633:6401::d5e3:7953:13eb:22e8 temporary",
            ],
            Some("2002:c633:6401::d5e3:7953:13eb:22e8"),
        ),
        // Section 10.6: a matching label before a longer prefix.
        (
            "2001:db8:2::2",
            &["fd11:1111:1111:1::1", "2001:db8:1::1"],
            Some("2001:db8:1::1"),
        ),
        // Rule 7: prefer temporary addresses.
        (
            "2001:db8:1::d5e3:0:0:1",
            &["2001:db8:1::2", "2001:db8:1::d5e3:7953:13eb:22e8 temporary"],
            Some("2001:db8:1::d5e3:7953:13eb:22e8"),
        ),
        // Rule 8: longest matching prefix; a tie goes to the first.
        (
            "2001:db8:1::1",
            &["2001:db8:3::2", "2001:db8:1::2"],
            Some("2001:db8:1::2"),
        ),
        (
            "2001:db8:1::1",
            &["2001:db8:1::3", "2001:db8:1::2"],
            Some("2001:db8:1::3"),
        ),
        // Own and loopback destinations.
        ("::1", &["2001:db8:1::3"], Some("::1")),
        ("127.9.9.9", &["10.0.0.2"], Some("127.0.0.1")),
        (
            "10.0.0.2",
            &["10.0.0.1", "10.0.0.2 other"],
            Some("10.0.0.2"),
        ),
        // No address of that version.
        ("2001:db8:1::1", &["10.0.0.2"], None),
        ("8.8.8.8", &["2001:db8:1::3"], None),
    ];
    for (destination, candidates, expected) in table_of_cases {
        let destination = ip(destination);
        let chosen = selected(destination, destination, &table(candidates)).map(|s| s.address);
        assert_eq!(
            chosen,
            expected.map(ip),
            "{destination} from {candidates:?}"
        );
    }
}

/// Prefixes such as `2001:db8:1::/64 fe80::1`, with who advertises each on the outgoing link.
fn advertised(prefixes: &[&str]) -> Vec<PrefixOrigin> {
    let origins = prefixes.iter().map(|prefix| {
        let (prefix, router) = prefix.split_once(' ').unwrap();
        PrefixOrigin {
            prefix: prefix.parse().unwrap(),
            router: router.parse().unwrap(),
            until: Instant::FAR_FUTURE,
        }
    });
    origins.collect()
}

/// Prefixes and routers, next hop, destination, candidates, result.
type Case = (
    &'static [&'static str],
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static str,
);

const BOTH: &[&str] = &["2001:db8:1::/64 fe80::1", "2001:db8:2::/64 fe80::2"];

fn assert_chosen(cases: &[Case]) {
    for (prefixes, next_hop, destination, candidates, expected) in cases {
        let mut table = table(candidates);
        table.replace_origins(OUT, &advertised(prefixes));
        let chosen = selected(ip(destination), ip(next_hop), &table);
        assert_eq!(
            chosen.map(|s| s.address),
            Some(ip(expected)),
            "{destination} by {next_hop} from {candidates:?}, {prefixes:?}"
        );
    }
}

/// RFC 6724 5, rule 5.5: "prefer addresses in a prefix advertised by the next-hop", after rule 5 and before rule 6.
#[test]
fn rule_5_5_prefers_a_prefix_that_the_next_hop_advertises() {
    assert_chosen(&[
        // Section 7's example: the same destination by either router. Rule 8 would have the first both times.
        (
            BOTH,
            "fe80::1",
            "2001:db8:1:9::1",
            &["2001:db8:1::a", "2001:db8:2::a"],
            "2001:db8:1::a",
        ),
        (
            BOTH,
            "fe80::2",
            "2001:db8:1:9::1",
            &["2001:db8:1::a", "2001:db8:2::a"],
            "2001:db8:2::a",
        ),
        // Before rules 6 and 7.
        (
            &["2002:1::/64 fe80::1", "2001:db8:2::/64 fe80::2"],
            "fe80::2",
            "2002:9::1",
            &["2002:1::a", "2001:db8:2::a"],
            "2001:db8:2::a",
        ),
        (
            BOTH,
            "fe80::2",
            "2001:db9::1",
            &["2001:db8:1::a temporary", "2001:db8:2::a"],
            "2001:db8:2::a",
        ),
        // After rules 2 and 3: a wide enough scope and a preferred address come first.
        (
            BOTH,
            "fe80::2",
            "2001:db9::1",
            &["2001:db8:1::a", "2001:db8:2::a deprecated"],
            "2001:db8:1::a",
        ),
        // After rule 5: what is on another link was not advertised by this next hop, whatever its name.
        (
            BOTH,
            "fe80::2",
            "2001:db9::1",
            &["2001:db8:2::a other", "2001:db8:1::a"],
            "2001:db8:1::a",
        ),
    ]);
}

/// RFC 6724 5, rule 5.5 says nothing of prefixes that the next hop and others advertise, nor of those that nobody does.
#[test]
fn rule_5_5_leaves_the_rest_to_the_rules_behind_it() {
    assert_chosen(&[
        // Whoever else advertises it, too: rule 8.
        (
            &[
                "2001:db8:1::/64 fe80::1",
                "2001:db8:2::/64 fe80::1",
                "2001:db8:2::/64 fe80::2",
            ],
            "fe80::1",
            "2001:db8:2:9::1",
            &["2001:db8:1::a", "2001:db8:2::a"],
            "2001:db8:2::a",
        ),
        // Nobody has advertised the prefix of a configured address: it is no worse than another by this rule, with which
        // rules 6 to 8 go on.
        (
            BOTH,
            "fe80::2",
            "2001:db8:3:9::1",
            &["2001:db8:2::a", "2001:db8:3::a"],
            "2001:db8:3::a",
        ),
        (
            BOTH,
            "fe80::3",
            "2001:db8:1:9::1",
            &["2001:db8:3::a", "2001:db8:1::a"],
            "2001:db8:1::a",
        ),
        // Three, of which rule 8 would have each before the next, and this rule the last before the first: that is out.
        (
            &["2001:db8:10::/64 fe80::1", "2001:db8:2::/64 fe80::2"],
            "fe80::2",
            "2001:db8:11::1",
            &["2001:db8:10::a", "2001:db8:14::a", "2001:db8:2::a"],
            "2001:db8:14::a",
        ),
        // The destination is on the link: there is no router whose prefixes could be preferred.
        (
            BOTH,
            "2001:db8:1::9",
            "2001:db8:1::9",
            &["2001:db8:2::a", "2001:db8:1::a"],
            "2001:db8:1::a",
        ),
    ]);
}

/// RFC 6724 5, rule 5.5, as long as it is known who advertises what.
#[test]
fn rule_5_5_ends_with_what_is_advertised() {
    let mut table = table(&["2001:db8:1::a", "2001:db8:2::a"]);
    let chosen = |table: &AddressTable| {
        let chosen = selected(ip("2001:db8:1:9::1"), ip("fe80::2"), table);
        chosen.expect("an address").address
    };
    assert_eq!(chosen(&table), ip("2001:db8:1::a"));
    table.replace_origins(OUT, &advertised(&["2001:db8:2::/64 fe80::2"]));
    assert_eq!(
        chosen(&table),
        ip("2001:db8:1::a"),
        "nobody advertises the other, so rule 8 decides"
    );
    let both = ["2001:db8:1::/64 fe80::1", "2001:db8:2::/64 fe80::2"];
    table.replace_origins(OUT, &advertised(&both));
    assert_eq!(chosen(&table), ip("2001:db8:2::a"));
    table.replace_origins(OTHER, &[]);
    assert_eq!(chosen(&table), ip("2001:db8:2::a"));
    table.replace_origins(OUT, &[]);
    assert_eq!(chosen(&table), ip("2001:db8:1::a"));
}

#[test]
fn an_ipv4_source_is_in_the_next_hops_subnet_or_the_first() {
    // RFC 1122 3.3.4.3: next hop, candidates, result.
    let cases: [(&str, &[&str], &str); 4] = [
        ("10.0.1.1", &["10.0.0.2", "10.0.1.2"], "10.0.1.2"),
        ("192.0.2.1", &["10.0.0.2", "10.0.1.2"], "10.0.0.2"),
        ("10.0.1.1", &["10.0.1.2 other", "10.0.0.2"], "10.0.0.2"),
        ("10.0.1.1", &["10.0.1.2 other"], "10.0.1.2"),
    ];
    for (next_hop, candidates, expected) in cases {
        let chosen = selected(ip("8.8.8.8"), ip(next_hop), &table(candidates));
        assert_eq!(
            chosen.map(|s| s.address),
            Some(ip(expected)),
            "{next_hop} {candidates:?}"
        );
    }
}

fn sorted(destinations: &[&str], candidates: &[&str], policy: &PolicyTable) -> Vec<String> {
    let table = table(candidates);
    let mut destinations: Vec<IpAddr> = destinations.iter().map(|d| ip(d)).collect();
    sort_destinations(&mut destinations, policy, |d| selected(d, d, &table));
    destinations.iter().map(ToString::to_string).collect()
}

#[test]
fn orders_destinations_by_each_rule() {
    // RFC 6724 10.2: candidates, destinations in their expected order. The reverse order must lead there too.
    let cases: &[(&[&str], &[&str])] = &[
        // Rule 2: prefer matching scope.
        (
            &["2001:db8:1::2", "fe80::1", "169.254.13.78"],
            &["2001:db8:1::1", "198.51.100.121"],
        ),
        (
            &["fe80::1", "198.51.100.117"],
            &["198.51.100.121", "2001:db8:1::1"],
        ),
        // Rule 6: prefer higher precedence.
        (
            &["2001:db8:1::2", "fe80::1", "10.1.2.4"],
            &["2001:db8:1::1", "10.1.2.3"],
        ),
        // Rule 8: prefer smaller scope.
        (&["2001:db8:1::2", "fe80::2"], &["fe80::1", "2001:db8:1::1"]),
        // Rule 3: avoid deprecated addresses.
        (
            &["2001:db8:1::2", "fe80::2 deprecated"],
            &["2001:db8:1::1", "fe80::1"],
        ),
        // Rule 9: longest matching prefix.
        (
            &["2001:db8:1::2", "2001:db8:3f44::2", "fe80::2"],
            &["2001:db8:1::1", "2001:db8:3ffe::1"],
        ),
        // Rule 5: prefer matching label.
        (
            &["2002:c633:6401::2", "fe80::2"],
            &["2002:c633:6401::1", "2001:db8:1::1"],
        ),
        // Rule 6 again, both labels matching.
        (
            &["2002:c633:6401::2", "2001:db8:1::2", "fe80::2"],
            &["2001:db8:1::1", "2002:c633:6401::1"],
        ),
        // Rule 1: avoid unusable destinations.
        (&["10.1.2.4"], &["10.1.2.3", "2001:db8:1::1"]),
        // Section 10.7: a 6to4 source does not go with a native destination.
        (
            &["2002:c633:6401::2", "10.1.2.3"],
            &["203.0.113.1", "2001:db8:1::1"],
        ),
        (
            &["10.0.0.2", "2001:db8::2"],
            &["::1", "2001:db8::1", "10.0.0.1"],
        ),
    ];
    let policy = PolicyTable::default();
    for (candidates, expected) in cases {
        let mut reversed = expected.to_vec();
        reversed.reverse();
        assert_eq!(
            sorted(expected, candidates, &policy),
            *expected,
            "{candidates:?}"
        );
        assert_eq!(
            sorted(&reversed, candidates, &policy),
            *expected,
            "{candidates:?}"
        );
    }
}

#[test]
fn equal_destinations_keep_their_order() {
    // Rule 10.
    let order = ["198.51.100.9", "198.51.100.3", "198.51.100.5"];
    let policy = PolicyTable::default();
    assert_eq!(sorted(&order, &["10.0.0.2"], &policy), order);
}

#[test]
fn a_configured_policy_can_prefer_ipv4() {
    // Section 10.3: ::ffff:0:0/96 gets precedence 100.
    let rows = DEFAULT_ROWS.map(|row| match row.prefix_len {
        96 if row.label == 4 => PolicyRow {
            precedence: 100,
            ..row
        },
        _ => row,
    });
    let policy = PolicyTable::new(rows);
    let candidates = ["2001:db8::2", "fe80::1", "10.1.2.4"];
    assert_eq!(
        sorted(&["2001:db8::1", "10.1.2.3"], &candidates, &policy),
        ["10.1.2.3", "2001:db8::1"]
    );
}
