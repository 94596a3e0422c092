use std::collections::BTreeSet;

use super::*;

const HARDWARE: MacAddress = MacAddress([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
const HOUR: u32 = 3600;
const DAY: u32 = 24 * HOUR;

fn seconds(seconds: u32) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds.into())
}

fn prefix(prefix: &str, valid_lifetime: u32, preferred_lifetime: u32) -> PrefixInformation {
    PrefixInformation {
        prefix_len: 64,
        on_link: false,
        autonomous: true,
        valid_lifetime,
        preferred_lifetime,
        prefix: prefix.parse().unwrap(),
    }
}

fn slaac(config: Config) -> Slaac {
    Slaac::new(config, HARDWARE, Random::new(Some(1)))
}

fn hardware() -> Config {
    Config {
        identifiers: IdentifierKind::Hardware,
        ..Config::default()
    }
}

fn temporary() -> Config {
    Config {
        temporary: Some(temporary_address::Config::default()),
        ..Config::default()
    }
}

fn events(slaac: &mut Slaac) -> Vec<Event> {
    std::iter::from_fn(|| slaac.poll_event()).collect()
}

fn added(slaac: &mut Slaac, permanence: Permanence) -> Vec<Ipv6Addr> {
    let all = events(slaac).into_iter();
    all.filter_map(|event| match event {
        Event::Added {
            address,
            permanence: of,
        } if of == permanence => Some(address),
        _ => None,
    })
    .collect()
}

fn only(slaac: &Slaac) -> AutoconfiguredAddress {
    let all: Vec<_> = slaac.addresses().collect();
    let [only] = all[..] else {
        panic!("one address: {all:?}");
    };
    only
}

/// Runs timers up to `until`.
fn pass(slaac: &mut Slaac, until: Instant) -> Vec<(Instant, Event)> {
    let mut told = Vec::new();
    while let Some(at) = slaac.poll_timeout().filter(|at| *at <= until) {
        slaac.handle_timeout(at);
        told.extend(events(slaac).into_iter().map(|event| (at, event)));
        assert!(
            slaac.poll_timeout().is_none_or(|next| next > at),
            "no progress"
        );
    }
    told
}

/// RFC 4862 5.5.3 a to d: which prefixes make an address.
#[test]
fn a_prefix_makes_an_address_if_it_may() {
    let good = prefix("2001:db8:0:1:9::", 100, 50);
    let cases = [
        (good, true, "bits behind the prefix mean nothing"),
        (
            PrefixInformation {
                autonomous: false,
                ..good
            },
            false,
            "a",
        ),
        (prefix("fe80::", 100, 50), false, "b"),
        (prefix("2001:db8:0:1::", 100, 101), false, "c"),
        (prefix("2001:db8:0:1::", 0, 0), false, "d: valid lifetime 0"),
        (
            PrefixInformation {
                prefix_len: 63,
                ..good
            },
            false,
            "d: no identifier of 65 bits",
        ),
        (prefix("ff02::", 100, 50), false, "a group"),
        (prefix("::", 100, 50), false, "the loopback's"),
        (prefix("2001:db8:0:1::", 100, 100), true, ""),
        (prefix("fd00::", u32::MAX, u32::MAX), true, "for ever"),
    ];
    for (information, makes_one, rule) in cases {
        let mut slaac = slaac(hardware());
        slaac.handle_prefix(seconds(5), &information);
        let made = added(&mut slaac, Permanence::Lasting);
        assert_eq!(made.len(), usize::from(makes_one), "{rule}");
        if let Some(address) = made.first() {
            let network = information.prefix.to_bits() >> 64 << 64;
            assert_eq!(address.to_bits(), network | 0x3656_78ff_fe9a_bcde);
        }
    }
}

/// RFC 4862 5.5.4: preferred, deprecated, invalid; preferred again when the prefix is advertised again.
#[test]
fn an_address_lives_as_long_as_its_prefix_says() {
    let mut slaac = slaac(Config::default());
    slaac.handle_prefix(seconds(10), &prefix("2001:db8::", 100, 50));
    let address = only(&slaac).address;
    let told = pass(&mut slaac, seconds(59));
    assert_eq!(told, []);
    let first = Event::Added {
        address,
        permanence: Permanence::Lasting,
    };
    assert_eq!(events(&mut slaac), [first]);
    assert_eq!(
        pass(&mut slaac, seconds(80)),
        [(seconds(60), Event::Deprecated(address))]
    );
    slaac.handle_prefix(seconds(81), &prefix("2001:db8::", 100, 20));
    assert_eq!(events(&mut slaac), [Event::Preferred(address)]);
    assert_eq!(
        pass(&mut slaac, seconds(500)),
        [
            (seconds(101), Event::Deprecated(address)),
            (seconds(181), Event::Removed(address)),
        ]
    );
    assert_eq!(slaac.addresses().count(), 0);
    assert_eq!(slaac.poll_timeout(), None);
    // The same one comes back (RFC 7217).
    slaac.handle_prefix(seconds(600), &prefix("2001:db8::", u32::MAX, u32::MAX));
    assert_eq!(only(&slaac).address, address);
    assert_eq!(slaac.poll_timeout(), None, "for ever");
}

/// RFC 4862 5.5.3 e, 1 to 3: the two-hour rule.
#[test]
fn one_advertisement_ends_no_address_within_two_hours() {
    // Left when the advertisement comes, what it says, what is left then.
    for (left, received, expected) in [
        (DAY, 3 * HOUR, 3 * HOUR),
        (DAY, 2 * HOUR + 1, 2 * HOUR + 1),
        (DAY, 2 * HOUR, 2 * HOUR),
        (DAY, 60, 2 * HOUR),
        (DAY, 0, 2 * HOUR),
        (2 * HOUR, 60, 2 * HOUR),
        (2 * HOUR - 1, 60, 2 * HOUR - 1),
        (HOUR, 0, HOUR),
        (HOUR, HOUR + 1, HOUR + 1),
        (HOUR, HOUR, HOUR),
        (60, 61, 61),
        (60, 59, 60),
    ] {
        let mut slaac = slaac(Config::default());
        slaac.handle_prefix(seconds(0), &prefix("2001:db8::", left, 0));
        slaac.handle_prefix(seconds(0), &prefix("2001:db8::", received, 0));
        let valid_until = only(&slaac).valid_until;
        assert_eq!(valid_until, seconds(expected), "{left} {received}");
    }
    let mut slaac = slaac(Config::default());
    slaac.handle_prefix(seconds(0), &prefix("2001:db8::", u32::MAX, 0));
    slaac.handle_prefix(seconds(0), &prefix("2001:db8::", 1, 0));
    assert_eq!(only(&slaac).valid_until, seconds(2 * HOUR));
}

/// RFC 4862 5.5.3 e: "the preferred lifetime of the corresponding address is always reset".
#[test]
fn a_preferred_lifetime_of_zero_deprecates_at_once() {
    let mut slaac = slaac(Config::default());
    slaac.handle_prefix(seconds(0), &prefix("2001:db8::", DAY, DAY));
    let address = only(&slaac).address;
    events(&mut slaac);
    slaac.handle_prefix(seconds(1), &prefix("2001:db8::", DAY, 0));
    assert_eq!(events(&mut slaac), [Event::Deprecated(address)]);
    // An address that is new begins so, too.
    slaac.handle_prefix(seconds(1), &prefix("2001:db8:1::", DAY, 0));
    let [Event::Added { address, .. }, Event::Deprecated(same)] = events(&mut slaac)[..] else {
        panic!("added and deprecated");
    };
    assert_eq!(address, same);
}

/// RFC 7217 6: another identifier after a random delay, IDGEN_RETRIES times, and no other algorithm then.
#[test]
fn an_address_of_another_host_is_replaced_three_times() {
    let mut slaac = slaac(Config::default());
    slaac.handle_prefix(seconds(0), &prefix("2001:db8::", DAY, DAY));
    let mut tried = BTreeSet::new();
    let mut now = seconds(1);
    for attempt in 0..4 {
        let address = only(&slaac).address;
        assert!(tried.insert(address));
        events(&mut slaac);
        assert!(slaac.handle_duplicate(now, address));
        if attempt == 3 {
            break;
        }
        assert_eq!(events(&mut slaac), [Event::Removed(address)]);
        assert!(slaac.is_looking());
        let at = slaac.poll_timeout().expect("another one");
        assert!(at - now <= Duration::from_secs(1), "IDGEN_DELAY");
        slaac.handle_timeout(at);
        assert!(!slaac.is_looking());
        now = at + Duration::from_secs(1);
    }
    // It stays, unused, and the prefix makes no other.
    assert_eq!(events(&mut slaac), []);
    slaac.handle_prefix(now, &prefix("2001:db8::", DAY, DAY));
    assert_eq!(events(&mut slaac), []);
    assert!(!slaac.is_looking());
    assert!(!slaac.handle_duplicate(now, "2001:db8::77".parse().unwrap()));
}

/// RFC 4862 5.4.5: an address from the hardware address has no second choice.
#[test]
fn a_hardware_identifier_is_tried_once() {
    let mut slaac = slaac(hardware());
    slaac.handle_prefix(seconds(0), &prefix("2001:db8::", DAY, DAY));
    events(&mut slaac);
    let address = only(&slaac).address;
    assert!(slaac.handle_duplicate(seconds(1), address));
    assert_eq!(events(&mut slaac), []);
    assert!(!slaac.is_looking());
}

/// RFC 4862 5.5.3 d: an address that is configured is left alone.
#[test]
fn a_configured_address_is_not_touched() {
    let mut slaac = slaac(hardware());
    slaac.handle_prefix(seconds(0), &prefix("2001:db8::", 100, 50));
    let address = only(&slaac).address;
    events(&mut slaac);
    slaac.leave(address);
    assert_eq!(pass(&mut slaac, seconds(500)), []);
}

#[test]
fn a_flood_of_prefixes_makes_so_many_addresses_and_no_more() {
    for config in [Config::default(), temporary()] {
        let most = config.max_addresses;
        let mut slaac = slaac(config);
        for number in 0..1000u16 {
            let text = format!("2001:db8:{number:x}::");
            slaac.handle_prefix(seconds(number.into()), &prefix(&text, DAY, DAY));
        }
        assert_eq!(slaac.addresses().count(), most);
        assert_eq!(events(&mut slaac).len(), most);
    }
}

/// RFC 8981 3.4: beside each lasting address; step 4: shorter lived than the prefix.
#[test]
fn temporary_addresses_are_made_only_when_wanted() {
    let long = prefix("2001:db8::", 30 * DAY, 7 * DAY);
    let mut without = slaac(Config::default());
    without.handle_prefix(seconds(0), &long);
    assert!(added(&mut without, Permanence::Temporary).is_empty());

    let mut slaac = slaac(temporary());
    slaac.handle_prefix(seconds(0), &long);
    let [lasting, temporary] = slaac.addresses().collect::<Vec<_>>()[..] else {
        panic!("two addresses");
    };
    assert_eq!(temporary.permanence, Permanence::Temporary);
    assert_ne!(lasting.address, temporary.address);
    assert_eq!(lasting.preferred_until, seconds(7 * DAY));
    assert_eq!(temporary.valid_until, seconds(2 * DAY));
    assert!(temporary.preferred_until <= seconds(DAY));
    assert!(temporary.preferred_until >= seconds(DAY * 6 / 10));
    // Steps 1 and 2: advertisements do not prolong it beyond that.
    slaac.handle_prefix(seconds(1000), &long);
    assert_eq!(slaac.addresses().count(), 2);
    assert_eq!(slaac.addresses().nth(1), Some(temporary));
    // But they shorten it.
    slaac.handle_prefix(seconds(1001), &prefix("2001:db8::", 30 * DAY, 100));
    let shorter = slaac.addresses().nth(1).map(|known| known.preferred_until);
    assert_eq!(shorter, Some(seconds(1101)));
}

/// RFC 8981 3.5, 3.6: the next one is there REGEN_ADVANCE before the last is deprecated; at most three at a time (3.8).
#[test]
fn temporary_addresses_follow_one_another() {
    let mut slaac = slaac(temporary());
    let mut seen = BTreeSet::new();
    let mut told = Vec::new();
    for hour in 0..24 * 10 {
        let now = seconds(hour * HOUR);
        told.extend(pass(&mut slaac, now));
        slaac.handle_prefix(now, &prefix("2001:db8::", 30 * DAY, 7 * DAY));
        let temporary: Vec<_> = slaac
            .addresses()
            .filter(|known| known.permanence == Permanence::Temporary)
            .collect();
        let preferred = temporary.iter().filter(|known| known.preferred_until > now);
        assert_eq!(preferred.count(), 1, "hour {hour}");
        assert!(temporary.len() <= 4, "hour {hour}: {temporary:?}");
        seen.extend(temporary.iter().map(|known| known.address));
    }
    assert!(
        (10..=18).contains(&seen.len()),
        "{} in ten days",
        seen.len()
    );
    let deprecated = told.iter().filter_map(|(at, event)| match event {
        Event::Deprecated(_) => Some(*at),
        _ => None,
    });
    for at in deprecated {
        let next = at - Duration::from_secs(5);
        let is_next =
            |(at, event): &(Instant, Event)| *at == next && matches!(event, Event::Added { .. });
        assert!(told.iter().any(is_next), "{at:?}: one 5 s before");
    }
}

/// RFC 8981 3.4 step 5: none whose preferred lifetime is not longer than REGEN_ADVANCE; 3.5: nor in response to a preferred
/// lifetime of 0.
#[test]
fn no_temporary_address_is_made_that_would_be_deprecated_at_once() {
    for preferred in [0, 1, 5] {
        let mut slaac = slaac(temporary());
        slaac.handle_prefix(seconds(0), &prefix("2001:db8::", DAY, preferred));
        assert!(added(&mut slaac, Permanence::Temporary).is_empty());
        // When the prefix is preferred again there is one.
        slaac.handle_prefix(seconds(60), &prefix("2001:db8::", DAY, DAY));
        assert_eq!(added(&mut slaac, Permanence::Temporary).len(), 1);
    }
    let mut slaac = slaac(temporary());
    slaac.handle_prefix(seconds(0), &prefix("2001:db8::", DAY, DAY));
    events(&mut slaac);
    slaac.handle_prefix(seconds(1), &prefix("2001:db8::", DAY, 0));
    let told = events(&mut slaac);
    assert!(
        matches!(told[..], [Event::Deprecated(_), Event::Deprecated(_)]),
        "{told:?}"
    );
}

/// RFC 8981 3.4 step 7: another one at once, TEMP_IDGEN_RETRIES times; none then.
#[test]
fn a_temporary_address_of_another_host_is_replaced_three_times() {
    let mut slaac = slaac(temporary());
    slaac.handle_prefix(seconds(0), &prefix("2001:db8::", DAY, DAY));
    let mut current = added(&mut slaac, Permanence::Temporary);
    let mut tried = BTreeSet::new();
    while let [address] = current[..] {
        assert!(tried.insert(address));
        assert!(slaac.handle_duplicate(seconds(1), address));
        current = added(&mut slaac, Permanence::Temporary);
    }
    assert_eq!(tried.len(), 4);
    for hour in 1..20 {
        pass(&mut slaac, seconds(hour * HOUR));
        slaac.handle_prefix(seconds(hour * HOUR), &prefix("2001:db8::", DAY, DAY));
    }
    assert!(added(&mut slaac, Permanence::Temporary).is_empty());
}
