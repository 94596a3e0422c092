use super::*;
use crate::neighbor::arp as build;
use crate::wire::ndp::{NeighborAdvertisement, solicited_node};
use DuplicateDetection::{Off, Optimistic, Strict};

const LINK: InterfaceId = InterfaceId(2);
const OURS: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const THEIRS: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
const V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const SECOND: Duration = Duration::from_secs(1);

struct Bench {
    table: DadTable,
    now: Instant,
    /// What was sent, and when.
    sent: Vec<(Instant, DadProbeKind)>,
}

impl Bench {
    fn new(seed: u64) -> Self {
        Self {
            table: DadTable::new(Config::default(), Random::new(Some(seed))),
            now: Instant::from_millis(7000),
            sent: Vec::new(),
        }
    }

    fn add(&mut self, address: impl Into<IpAddr>, mode: DuplicateDetection) -> AddressState {
        self.table
            .add(self.now, LINK, address.into(), mode)
            .expect("room")
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.table.poll_timeout().filter(|at| *at <= until) {
            self.now = at;
            self.table.handle_timeout(at);
            self.collect();
        }
        self.now = until;
    }

    fn collect(&mut self) {
        while let Some(probe) = self.table.poll_transmit() {
            assert_eq!(probe.interface, LINK);
            self.sent.push((self.now, probe.kind));
        }
    }

    /// Runs until an event comes.
    fn run(&mut self) -> Option<DadEvent> {
        loop {
            if let Some(event) = self.table.poll_event() {
                return Some(event);
            }
            let at = self.table.poll_timeout()?;
            self.pass(at - self.now);
        }
    }

    fn arp(&mut self, message: &arp::Message) {
        self.table.handle_arp(self.now, LINK, OURS, message);
        self.collect();
    }

    fn state(&self, address: impl Into<IpAddr>) -> AddressState {
        self.table.state(LINK, address.into()).expect("known")
    }
}

fn assigned(address: impl Into<IpAddr>) -> DadEvent {
    DadEvent::Assigned {
        interface: LINK,
        address: address.into(),
    }
}

fn duplicate(address: impl Into<IpAddr>, owner: Option<MacAddress>) -> DadEvent {
    DadEvent::Duplicate {
        interface: LINK,
        address: address.into(),
        owner,
    }
}

fn solicitation(source: Ipv6Addr) -> ReceivedSolicitation {
    ReceivedSolicitation {
        interface: LINK,
        source,
        destination: solicited_node(V6),
        target: V6,
        source_link_layer: None,
    }
}

fn advertisement() -> ReceivedAdvertisement {
    ReceivedAdvertisement {
        interface: LINK,
        advertisement: NeighborAdvertisement {
            router: false,
            solicited: false,
            overrides: true,
            target: V6,
        },
        target_link_layer: Some(THEIRS),
    }
}

#[test]
fn modes_begin_in_their_states() {
    let cases = [
        (Off, AddressState::Assigned, Ownership::Assigned),
        (Optimistic, AddressState::Optimistic, Ownership::Optimistic),
        (Strict, AddressState::Tentative, Ownership::None),
    ];
    for (mode, state, ownership) in cases {
        for address in [IpAddr::from(V4), IpAddr::from(V6)] {
            let mut bench = Bench::new(1);
            assert_eq!(bench.add(address, mode), state);
            assert_eq!(bench.state(address), state);
            assert_eq!(state.ownership(), ownership);
            let event = bench.run();
            assert_eq!(event.is_some(), mode != Off);
            assert_eq!(bench.state(address), AddressState::Assigned);
            assert_eq!(bench.sent.is_empty(), mode == Off);
        }
    }
}

#[test]
fn ipv6_asks_once_after_a_random_time_and_waits_a_second() {
    let mut longest = Duration::ZERO;
    for seed in 0..100 {
        let mut bench = Bench::new(seed);
        let start = bench.now;
        bench.add(V6, Strict);
        assert_eq!(bench.run(), Some(assigned(V6)));
        let [(at, kind)] = bench.sent[..] else {
            panic!("DupAddrDetectTransmits is 1: {:?}", bench.sent);
        };
        assert_eq!(kind, DadProbeKind::NeighborSolicitation(V6));
        // RFC 4862 5.4.2: 0 to MAX_RTR_SOLICITATION_DELAY; 5.4: RetransTimer after the last.
        assert!(at - start <= SECOND);
        assert_eq!(bench.now - at, SECOND);
        longest = longest.max(at - start);
        assert_eq!(bench.table.poll_timeout(), None);
    }
    assert!(longest > SECOND * 9 / 10, "{longest:?}");
}

/// RFC 4429 3.2: neighbours are not asked for in an optimistic address's name, so that it had better be settled soon.
#[test]
fn ipv6_asks_at_once_for_an_optimistic_address() {
    let mut bench = Bench::new(1);
    let start = bench.now;
    bench.add(V6, Optimistic);
    assert_eq!(bench.run(), Some(assigned(V6)));
    let solicitation = DadProbeKind::NeighborSolicitation(V6);
    assert_eq!(bench.sent, [(start, solicitation)]);
    assert_eq!(bench.now - start, SECOND);
}

#[test]
fn ipv4_probes_and_announces_as_rfc_5227_says() {
    for seed in 0..100 {
        let mut bench = Bench::new(seed);
        let start = bench.now;
        bench.add(V4, Strict);
        assert_eq!(bench.run(), Some(assigned(V4)));
        let known_at = bench.now;
        bench.pass(100 * SECOND);
        let kinds: Vec<_> = bench.sent.iter().map(|(_, kind)| *kind).collect();
        let (probe, announcement) = (
            DadProbeKind::ArpProbe(V4),
            DadProbeKind::ArpAnnouncement(V4),
        );
        assert_eq!(kinds, [probe, probe, probe, announcement, announcement]);
        let at: Vec<_> = bench.sent.iter().map(|(at, _)| *at).collect();
        // 1.1: PROBE_WAIT, PROBE_MIN to PROBE_MAX, ANNOUNCE_WAIT, ANNOUNCE_INTERVAL.
        assert!(at[0] - start <= SECOND);
        for gap in [at[1] - at[0], at[2] - at[1]] {
            assert!((SECOND..=2 * SECOND).contains(&gap), "{gap:?}");
        }
        assert_eq!(at[3] - at[2], 2 * SECOND);
        assert_eq!(at[4] - at[3], 2 * SECOND);
        // 2.3: it is used from the first announcement on.
        assert_eq!(at[3], known_at);
    }
}

#[test]
fn ipv6_conflicts_are_seen() {
    for mode in [Strict, Optimistic] {
        // RFC 4862 5.4.4: an advertisement.
        let mut bench = Bench::new(1);
        bench.add(V6, mode);
        bench.table.handle_advertisement(&advertisement());
        assert_eq!(bench.run(), Some(duplicate(V6, Some(THEIRS))));
        assert_eq!(bench.state(V6), AddressState::Duplicate);
        bench.pass(100 * SECOND);
        assert_eq!((bench.run(), bench.sent.len()), (None, 0));

        // 5.4.3: another host looks for duplicates, before or after we began to.
        for wait in [Duration::ZERO, SECOND / 2] {
            let mut bench = Bench::new(1);
            bench.add(V6, mode);
            bench.pass(wait);
            bench
                .table
                .handle_solicitation(&solicitation(Ipv6Addr::UNSPECIFIED));
            assert_eq!(bench.run(), Some(duplicate(V6, None)));
        }

        // 5.4.3: a host that resolves the address is ignored.
        let mut bench = Bench::new(1);
        bench.add(V6, mode);
        bench
            .table
            .handle_solicitation(&solicitation("fe80::9".parse().expect("an address")));
        assert_eq!(bench.run(), Some(assigned(V6)));
        // Afterwards nothing takes it away.
        bench.table.handle_advertisement(&advertisement());
        bench
            .table
            .handle_solicitation(&solicitation(Ipv6Addr::UNSPECIFIED));
        assert_eq!(bench.run(), None);
        assert_eq!(bench.state(V6), AddressState::Assigned);
    }
}

#[test]
fn ipv4_conflicts_are_seen() {
    let reply = arp::Message {
        operation: arp::Operation::Reply,
        ..build::request(THEIRS, V4, Ipv4Addr::UNSPECIFIED)
    };
    for mode in [Strict, Optimistic] {
        // RFC 5227 2.1.1: any packet from the address, and a probe for it, until ANNOUNCE_WAIT is over.
        for message in [
            reply,
            build::announcement(THEIRS, V4),
            build::request(THEIRS, V4, Ipv4Addr::new(10, 0, 0, 9)),
            build::probe(THEIRS, V4),
        ] {
            for wait in [0, 2, 4] {
                let mut bench = Bench::new(3);
                bench.add(V4, mode);
                bench.pass(wait * SECOND);
                bench.arp(&message);
                assert_eq!(bench.run(), Some(duplicate(V4, Some(THEIRS))));
                let sent = bench.sent.len();
                bench.pass(100 * SECOND);
                assert_eq!(bench.sent.len(), sent);
            }
        }
        // What the link gives back of ours, requests for the address, and other addresses are no conflicts.
        for message in [
            build::probe(OURS, V4),
            build::announcement(OURS, V4),
            build::request(THEIRS, Ipv4Addr::new(10, 0, 0, 9), V4),
            build::probe(THEIRS, Ipv4Addr::new(10, 0, 0, 9)),
            arp::Message {
                operation: arp::Operation::Reply,
                ..build::probe(THEIRS, V4)
            },
            arp::Message {
                sender_hardware: MacAddress::BROADCAST,
                ..build::announcement(THEIRS, V4)
            },
        ] {
            let mut bench = Bench::new(3);
            bench.add(V4, mode);
            bench.arp(&message);
            assert_eq!(bench.run(), Some(assigned(V4)), "{message:?}");
        }
    }
}

#[test]
fn an_assigned_ipv4_address_is_defended_every_ten_seconds_at_most() {
    let mut bench = Bench::new(1);
    bench.add(V4, Strict);
    bench.run();
    bench.pass(100 * SECOND);
    bench.sent.clear();
    let mut events = 0;
    for _ in 0..1000 {
        bench.arp(&build::announcement(THEIRS, V4));
        while let Some(event) = bench.table.poll_event() {
            let expected = DadEvent::Conflict {
                interface: LINK,
                address: V4.into(),
                owner: THEIRS,
            };
            assert_eq!(event, expected);
            events += 1;
        }
        bench.pass(SECOND / 10);
    }
    // RFC 5227 2.4 (c): 100 s, DEFEND_INTERVAL 10 s.
    assert_eq!((bench.sent.len(), events), (10, 10));
    assert_eq!(bench.state(V4), AddressState::Assigned);

    let mut bench = Bench::new(1);
    bench.add(V4, Off);
    bench.arp(&build::announcement(THEIRS, V4));
    assert_eq!((bench.run(), bench.sent.len()), (None, 0));
}

/// An assigned address, long announced, whose defence is as given.
fn settled(defense: AddressDefense) -> Bench {
    let mut bench = Bench::new(1);
    bench.table.config.defense = defense;
    bench.add(V4, Strict);
    bench.run();
    bench.pass(100 * SECOND);
    bench.sent.clear();
    bench
}

fn conflict() -> DadEvent {
    DadEvent::Conflict {
        interface: LINK,
        address: V4.into(),
        owner: THEIRS,
    }
}

#[test]
fn an_address_that_is_not_defended_goes_with_the_first_conflict() {
    // RFC 5227 2.4 (a).
    let mut bench = settled(AddressDefense::Never);
    bench.arp(&build::announcement(THEIRS, V4));
    assert_eq!(bench.table.poll_event(), Some(duplicate(V4, Some(THEIRS))));
    assert_eq!(bench.state(V4), AddressState::Duplicate);
    bench.pass(100 * SECOND);
    assert_eq!(bench.sent, []);
}

#[test]
fn an_address_that_is_defended_once_goes_with_the_second_conflict_within_ten_seconds() {
    // RFC 5227 2.4 (b): one announcement; whatever packet of the other comes second.
    for second in [
        build::announcement(THEIRS, V4),
        build::request(THEIRS, V4, Ipv4Addr::new(10, 0, 0, 9)),
        arp::Message {
            operation: arp::Operation::Reply,
            ..build::request(THEIRS, V4, Ipv4Addr::UNSPECIFIED)
        },
    ] {
        let mut bench = settled(AddressDefense::Once);
        for _ in 0..3 {
            bench.sent.clear();
            bench.arp(&build::announcement(THEIRS, V4));
            assert_eq!(bench.table.poll_event(), Some(conflict()));
            let defence = (bench.now, DadProbeKind::ArpAnnouncement(V4));
            assert_eq!(bench.sent, [defence]);
            // DEFEND_INTERVAL: conflicts further apart are each the first.
            bench.pass(10 * SECOND);
        }
        assert_eq!(bench.state(V4), AddressState::Assigned);
        bench.arp(&build::announcement(THEIRS, V4));
        assert_eq!(bench.table.poll_event(), Some(conflict()));
        bench.sent.clear();
        bench.pass(10 * SECOND - Duration::from_nanos(1));
        bench.arp(&second);
        assert_eq!(bench.table.poll_event(), Some(duplicate(V4, Some(THEIRS))));
        assert_eq!(bench.state(V4), AddressState::Duplicate);
        bench.arp(&second);
        bench.pass(100 * SECOND);
        assert_eq!((bench.run(), bench.sent.len()), (None, 0));
    }
}

#[test]
fn only_another_hosts_use_of_the_very_address_is_a_conflict() {
    for defense in [AddressDefense::Never, AddressDefense::Once] {
        let mut bench = settled(defense);
        // RFC 5227 2.4: the sender address counts; a probe (2.1.1) and a question for it are answered instead, and what
        // the link gives back is ours.
        for message in [
            build::probe(THEIRS, V4),
            build::request(THEIRS, Ipv4Addr::new(10, 0, 0, 9), V4),
            build::announcement(OURS, V4),
            build::announcement(THEIRS, Ipv4Addr::new(10, 0, 0, 9)),
        ] {
            bench.arp(&message);
        }
        assert_eq!(bench.run(), None, "{defense:?}");
        assert_eq!(bench.state(V4), AddressState::Assigned);
        // Elsewhere the address may be another's.
        let message = build::announcement(THEIRS, V4);
        let table = &mut bench.table;
        table.handle_arp(bench.now, InterfaceId(9), OURS, &message);
        assert_eq!(bench.run(), None, "{defense:?}");
    }
}

#[test]
fn an_address_is_asked_for_anew_when_its_link_has_come_up() {
    // RFC 5227 2.1: "when a change in link state signals that an Ethernet cable has been connected".
    for mode in [Strict, Optimistic] {
        let mut bench = Bench::new(1);
        bench.add(V4, mode);
        bench.add(V6, mode);
        bench.pass(100 * SECOND);
        while bench.table.poll_event().is_some() {}
        bench.sent.clear();
        bench.table.handle_link_up(bench.now, InterfaceId(9));
        assert_eq!(bench.table.poll_timeout(), None);
        bench.table.handle_link_up(bench.now, LINK);
        // It is used meanwhile.
        assert_eq!(bench.state(V4), AddressState::Optimistic);
        let now = bench.now;
        assert_eq!(bench.run(), Some(assigned(V4)));
        assert!(bench.now - now >= 4 * SECOND, "three probes, ANNOUNCE_WAIT");
        bench.pass(100 * SECOND);
        let kinds: Vec<_> = bench.sent.iter().map(|(_, kind)| *kind).collect();
        let (probe, said) = (
            DadProbeKind::ArpProbe(V4),
            DadProbeKind::ArpAnnouncement(V4),
        );
        assert_eq!(kinds, [probe, probe, probe, said, said]);
        // Whoever has it there keeps it.
        bench.table.handle_link_up(bench.now, LINK);
        bench.pass(SECOND);
        bench.arp(&build::announcement(THEIRS, V4));
        assert_eq!(bench.run(), Some(duplicate(V4, Some(THEIRS))));
        assert_eq!(bench.state(V4), AddressState::Duplicate);
    }
    let mut bench = Bench::new(1);
    bench.add(V4, Off);
    bench.table.handle_link_up(bench.now, LINK);
    assert_eq!(bench.table.poll_timeout(), None);
}

#[test]
fn after_ten_conflicts_new_addresses_are_tried_once_a_minute() {
    let mut bench = Bench::new(1);
    for n in 0..10u8 {
        let address = Ipv4Addr::new(10, 0, 1, n);
        bench.add(address, Strict);
        bench.arp(&build::announcement(THEIRS, address));
    }
    // RFC 5227 2.1.1: RATE_LIMIT_INTERVAL.
    let start = bench.now;
    let first = |bench: &mut Bench, n| {
        bench.sent.clear();
        bench.add(Ipv4Addr::new(10, 0, 2, n), Strict);
    };
    for n in 0..3 {
        first(&mut bench, n);
    }
    bench.pass(300 * SECOND);
    for n in 0..3u8 {
        let probe = DadProbeKind::ArpProbe(Ipv4Addr::new(10, 0, 2, n));
        let (at, _) = bench
            .sent
            .iter()
            .find(|(_, kind)| *kind == probe)
            .expect("a probe");
        let begin = start + u32::from(n) * 60 * SECOND;
        assert!(*at >= begin && *at <= begin + SECOND, "{n}: {at:?}");
    }
    // IPv6 and other interfaces are not concerned.
    bench.table.flush_interface(LINK);
    let now = bench.now;
    first(&mut bench, 9);
    bench.pass(SECOND);
    assert!(bench.sent[0].0 - now <= SECOND);
}

#[test]
fn addresses_come_and_go_within_limits() {
    let mut bench = Bench::new(1);
    bench.table.config.max_addresses = 2;
    bench.add(V4, Strict);
    bench.add(V6, Strict);
    let other = Ipv4Addr::new(10, 0, 0, 7).into();
    let refused = bench.table.add(bench.now, LINK, other, Strict);
    assert_eq!(refused, Err(TooManyAddresses));
    // Anew takes no room.
    bench.pass(SECOND);
    bench.add(V4, Strict);
    assert!(bench.table.remove(LINK, V4.into()));
    assert!(!bench.table.remove(LINK, V4.into()));
    assert_eq!(bench.table.state(LINK, V4.into()), None);
    bench.table.flush_interface(InterfaceId(9));
    bench.table.flush_interface(LINK);
    assert_eq!(bench.table.poll_timeout(), None);
    assert_eq!(bench.table.poll_transmit(), None);
    assert_eq!(bench.table.poll_event(), None);
}

#[test]
fn detection_can_be_turned_off_by_number() {
    let mut bench = Bench::new(1);
    bench.table.config.dup_addr_detect_transmits = 0;
    bench.table.config.probe_num = 0;
    assert_eq!(bench.add(V6, Strict), AddressState::Assigned);
    assert_eq!(bench.add(V4, Strict), AddressState::Assigned);
    bench.pass(10 * SECOND);
    // RFC 5227 2.3: announced all the same.
    let announcement = DadProbeKind::ArpAnnouncement(V4);
    let kinds: Vec<_> = bench.sent.iter().map(|(_, kind)| *kind).collect();
    assert_eq!(kinds, [announcement, announcement]);
    assert_eq!(bench.run(), None);
}

#[test]
fn probes_are_frames() {
    let probe = |kind| {
        let probe = DadProbe {
            interface: LINK,
            kind,
        };
        probe.to_packet(OURS).to_bytes()
    };
    let arp = probe(DadProbeKind::ArpProbe(V4));
    assert_eq!(arp[..6], [0xff; 6]);
    assert_eq!(
        arp[22..],
        [2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1]
    );
    let announcement = probe(DadProbeKind::ArpAnnouncement(V4));
    assert_eq!(announcement[28..32], V4.octets());
    assert_eq!(announcement[38..], V4.octets());
    let solicitation = probe(DadProbeKind::NeighborSolicitation(V6));
    assert_eq!(solicitation[..6], [0x33, 0x33, 0xff, 0, 0, 1]);
    assert_eq!(solicitation[22..38], [0; 16]);
}
