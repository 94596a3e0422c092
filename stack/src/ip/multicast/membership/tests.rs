use super::*;

const LINK: InterfaceId = InterfaceId(2);
const SECOND: Duration = Duration::from_secs(1);

fn group(n: u8) -> IpAddr {
    IpAddr::from([239, 0, 0, n])
}

fn source(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, n])
}

fn sources(numbers: &[u8]) -> Vec<IpAddr> {
    numbers.iter().copied().map(source).collect()
}

fn filter(mode: FilterMode, numbers: &[u8]) -> SourceFilter {
    SourceFilter {
        mode,
        sources: sources(numbers).into_iter().collect(),
    }
}

fn query(version: Version, asked: Option<IpAddr>, asked_sources: &[u8]) -> Query {
    Query {
        version,
        group: asked,
        max_response: 10 * SECOND,
        robustness: 2,
        interval: 125 * SECOND,
        sources: sources(asked_sources),
    }
}

struct Host {
    memberships: Memberships,
    now: Instant,
}

impl Host {
    fn new() -> Self {
        Self {
            memberships: Memberships::new(Config::default(), Random::new(Some(7))),
            now: Instant::from_millis(1000),
        }
    }

    fn set(&mut self, group: IpAddr, socket: u64, filter: SourceFilter) {
        let holder = Holder::Socket(socket);
        self.memberships.set(self.now, LINK, group, holder, filter);
    }

    fn join(&mut self, group: IpAddr) {
        self.set(group, 1, SourceFilter::everything());
    }

    fn leave(&mut self, group: IpAddr) {
        self.set(group, 1, SourceFilter::nothing());
    }

    fn hear(&mut self, query: &Query) {
        self.memberships.handle_query(self.now, LINK, false, query);
    }

    /// What is said at once.
    fn said(&mut self) -> Vec<Message> {
        self.memberships.handle_timeout(self.now);
        let said = std::iter::from_fn(|| self.memberships.poll_transmit());
        said.map(|transmit| transmit.message).collect()
    }

    /// What is said within a time, and how long after now.
    fn said_within(&mut self, time: Duration) -> Vec<(Duration, Message)> {
        let (begin, end) = (self.now, self.now + time);
        let mut all = Vec::new();
        for _ in 0..1000 {
            let Some(at) = self.memberships.poll_timeout().filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(at);
            let after = self.now - begin;
            all.extend(self.said().into_iter().map(|message| (after, message)));
        }
        assert!(self.memberships.poll_timeout().is_none_or(|at| at > end));
        self.now = end;
        all
    }

    /// The same without times, for long enough.
    fn settle(&mut self) -> Vec<Message> {
        let said = self.said_within(100 * SECOND);
        said.into_iter().map(|(_, message)| message).collect()
    }
}

fn state(records: &[(RecordKind, IpAddr, &[u8])]) -> Message {
    Message::State {
        is_v6: false,
        records: records
            .iter()
            .map(|(kind, group, numbers)| GroupRecord {
                kind: *kind,
                group: *group,
                sources: sources(numbers),
            })
            .collect(),
    }
}

const fn report(version: Version, group: IpAddr) -> Message {
    Message::Report { version, group }
}

#[test]
fn a_change_is_told_at_once_and_once_more_within_a_second() {
    // RFC 3376 5.1: robustness times in all, at random intervals.
    let mut host = Host::new();
    host.join(group(1));
    let said = host.said_within(100 * SECOND);
    let expected = state(&[(RecordKind::ToExclude, group(1), &[])]);
    let [(first, one), (second, two)] = &said[..] else {
        panic!("{said:?}");
    };
    assert_eq!((one, two), (&expected, &expected));
    assert!(first.is_zero() && *second <= SECOND, "{said:?}");
    host.leave(group(1));
    let expected = state(&[(RecordKind::ToInclude, group(1), &[])]);
    assert_eq!(host.settle(), [expected.clone(), expected]);
    assert!(host.memberships.links[&(LINK, false)].groups.is_empty());
}

#[test]
fn a_change_of_filter_says_what_has_changed() {
    // RFC 3376 5.1: the table of old states, new states and records.
    use FilterMode::{Exclude, Include};
    use RecordKind::{AllowNew, BlockOld, ToExclude, ToInclude};
    type Filter<'a> = (FilterMode, &'a [u8]);
    type Records<'a> = &'a [(RecordKind, IpAddr, &'a [u8])];
    let g = group(1);
    let cases: [(Filter<'_>, Filter<'_>, Records<'_>); 6] = [
        (
            (Include, &[1, 2]),
            (Include, &[2, 3]),
            &[(AllowNew, g, &[3]), (BlockOld, g, &[1])],
        ),
        (
            (Exclude, &[1, 2]),
            (Exclude, &[2, 3]),
            &[(AllowNew, g, &[1]), (BlockOld, g, &[3])],
        ),
        ((Include, &[1]), (Exclude, &[2]), &[(ToExclude, g, &[2])]),
        ((Exclude, &[1]), (Include, &[2]), &[(ToInclude, g, &[2])]),
        ((Include, &[]), (Include, &[1]), &[(AllowNew, g, &[1])]),
        ((Include, &[1]), (Include, &[]), &[(BlockOld, g, &[1])]),
    ];
    for (before, after, expected) in cases {
        let mut host = Host::new();
        host.set(g, 1, filter(before.0, before.1));
        host.settle();
        host.set(g, 1, filter(after.0, after.1));
        let expected = state(expected);
        assert_eq!(host.settle(), [expected.clone(), expected], "{before:?}");
    }
}

#[test]
fn changes_that_follow_each_other_are_told_together() {
    // RFC 3376 5.1: the second change is told at once, with what is left of the first.
    use FilterMode::Include;
    let mut host = Host::new();
    host.set(group(1), 1, filter(Include, &[1]));
    assert_eq!(
        host.said(),
        [state(&[(RecordKind::AllowNew, group(1), &[1])])]
    );
    host.set(group(1), 1, filter(Include, &[1, 2]));
    assert_eq!(
        host.said(),
        [state(&[(RecordKind::AllowNew, group(1), &[1, 2])])]
    );
    assert_eq!(
        host.settle(),
        [state(&[(RecordKind::AllowNew, group(1), &[2])])]
    );
    // A source that goes before it was told twice is told to be gone, twice.
    host.set(group(1), 1, filter(Include, &[1, 2, 3]));
    host.said();
    host.set(group(1), 1, filter(Include, &[1, 2]));
    let expected = state(&[(RecordKind::BlockOld, group(1), &[3])]);
    assert_eq!(host.settle(), [expected.clone(), expected]);
}

#[test]
fn who_joins_what_others_have_joined_changes_nothing() {
    let mut host = Host::new();
    host.join(group(1));
    host.settle();
    host.set(group(1), 2, SourceFilter::everything());
    host.set(group(1), 3, filter(FilterMode::Include, &[9]));
    host.leave(group(1));
    assert_eq!(host.settle(), []);
    // With the last that hears everybody, one source is left.
    host.set(group(1), 2, SourceFilter::nothing());
    let expected = state(&[(RecordKind::ToInclude, group(1), &[9])]);
    assert_eq!(host.settle(), [expected.clone(), expected]);
}

#[test]
fn groups_of_all_hosts_and_of_the_interface_are_never_told() {
    // RFC 3376 6, RFC 3810 6.
    let mut host = Host::new();
    let never = ["224.0.0.1", "ff02::1", "ff01::5", "ff00::5"];
    for address in never {
        host.join(address.parse().unwrap());
    }
    host.memberships.set(
        host.now,
        InterfaceId::LOOPBACK,
        group(1),
        Holder::Socket(1),
        SourceFilter::everything(),
    );
    assert_eq!(host.settle(), []);
    for is_v6 in [false, true] {
        for version in [Version::Older, Version::Current] {
            let all = query(version, None, &[]);
            host.memberships.handle_query(host.now, LINK, is_v6, &all);
            assert_eq!(host.settle(), []);
        }
    }
}

#[test]
fn a_general_query_is_answered_once_for_all_groups() {
    // RFC 3376 5.2, rules 1 and 2.
    let mut host = Host::new();
    host.join(group(1));
    host.set(group(2), 1, filter(FilterMode::Include, &[5]));
    host.settle();
    for _ in 0..5 {
        host.hear(&query(Version::Current, None, &[]));
        host.hear(&query(Version::Current, None, &[]));
        let said = host.said_within(10 * SECOND);
        let [(_, message)] = &said[..] else {
            panic!("{said:?}");
        };
        let expected = state(&[
            (RecordKind::IsExclude, group(1), &[]),
            (RecordKind::IsInclude, group(2), &[5]),
        ]);
        assert_eq!(*message, expected);
    }
}

#[test]
fn queries_for_sources_are_answered_with_those_that_are_heard() {
    // RFC 3376 5.2: INCLUDE (A) answers A*B, EXCLUDE (A) answers B-A; nothing, if that is nothing.
    use FilterMode::{Exclude, Include};
    type Answer<'a> = Option<(RecordKind, &'a [u8])>;
    let cases: [(FilterMode, &[u8], &[u8], Answer<'_>); 6] = [
        (
            Include,
            &[1, 2],
            &[2, 3],
            Some((RecordKind::IsInclude, &[2])),
        ),
        (
            Exclude,
            &[1, 2],
            &[2, 3],
            Some((RecordKind::IsInclude, &[3])),
        ),
        (Include, &[1], &[2], None),
        (Exclude, &[1], &[1], None),
        (
            Include,
            &[1, 2],
            &[],
            Some((RecordKind::IsInclude, &[1, 2])),
        ),
        (Exclude, &[1], &[], Some((RecordKind::IsExclude, &[1]))),
    ];
    for (mode, heard, asked, expected) in cases {
        let mut host = Host::new();
        host.set(group(1), 1, filter(mode, heard));
        host.settle();
        host.hear(&query(Version::Current, Some(group(1)), asked));
        let expected: Vec<_> = expected
            .map(|(kind, numbers)| state(&[(kind, group(1), numbers)]))
            .into_iter()
            .collect();
        assert_eq!(host.settle(), expected, "{mode:?} {heard:?} {asked:?}");
    }
}

#[test]
fn queries_for_sources_add_up_and_too_many_ask_for_the_group() {
    // RFC 3376 5.2, rules 3 to 5.
    let mut host = Host::new();
    host.join(group(1));
    host.settle();
    let ask = |host: &mut Host, numbers: &[u8]| {
        host.hear(&query(Version::Current, Some(group(1)), numbers));
    };
    ask(&mut host, &[1]);
    ask(&mut host, &[2]);
    let together = state(&[(RecordKind::IsInclude, group(1), &[1, 2])]);
    assert_eq!(host.settle(), [together]);
    let whole = state(&[(RecordKind::IsExclude, group(1), &[])]);
    ask(&mut host, &[1]);
    ask(&mut host, &[]);
    ask(&mut host, &[2]);
    assert_eq!(host.settle(), std::slice::from_ref(&whole));
    for number in 0..=64 {
        ask(&mut host, &[number]);
    }
    assert_eq!(host.settle(), std::slice::from_ref(&whole));
    // Groups that are not listened to are not answered for, and leave nothing behind.
    for number in 2..=255 {
        host.hear(&query(Version::Current, Some(group(number)), &[1]));
    }
    assert_eq!(host.settle(), []);
    assert_eq!(host.memberships.links[&(LINK, false)].groups.len(), 1);
}

#[test]
fn older_queriers_are_spoken_to_in_their_version_until_they_are_forgotten() {
    // RFC 3376 7.2.1, 8.12: robustness × query interval + the time for answers: 260 s.
    for version in [Version::Igmpv1, Version::Older] {
        let mut host = Host::new();
        host.hear(&query(version, None, &[]));
        host.join(group(1));
        let said = host.said_within(10 * SECOND);
        let [(first, one), (_, two)] = &said[..] else {
            panic!("{said:?}");
        };
        let expected = report(version, group(1));
        assert!(first.is_zero());
        assert_eq!((one, two), (&expected, &expected));
        host.now += 249 * SECOND;
        host.join(group(2));
        assert_eq!(host.said(), [report(version, group(2))]);
        host.now += 2 * SECOND;
        host.join(group(3));
        assert_eq!(
            host.settle(),
            vec![state(&[(RecordKind::ToExclude, group(3), &[])]); 2]
        );
    }
}

#[test]
fn a_change_of_version_drops_what_is_pending() {
    // RFC 3376 7.2.1.
    let mut host = Host::new();
    host.join(group(1));
    host.said();
    host.hear(&query(Version::Current, None, &[]));
    host.hear(&query(Version::Older, Some(group(9)), &[]));
    assert_eq!(host.settle(), []);
}

#[test]
fn an_older_query_is_answered_for_each_group_unless_another_host_does() {
    // RFC 2236 3, RFC 2710 4.
    let mut host = Host::new();
    for number in 1..=3 {
        host.join(group(number));
    }
    host.settle();
    host.hear(&query(Version::Older, None, &[]));
    host.memberships.handle_report(host.now, LINK, group(2));
    let said = host.said_within(10 * SECOND);
    let mut groups: Vec<_> = said.iter().map(|(_, message)| message.clone()).collect();
    groups.sort_by_key(|message| format!("{message:?}"));
    assert_eq!(groups, [1, 3].map(|n| report(Version::Older, group(n))));
    assert_eq!(host.settle(), []);
    host.hear(&query(Version::Older, Some(group(2)), &[]));
    assert_eq!(host.settle(), [report(Version::Older, group(2))]);
    // Who has reported last says that it leaves.
    let leave = |n| Message::Leave { group: group(n) };
    host.hear(&query(Version::Older, Some(group(3)), &[]));
    host.memberships.handle_report(host.now, LINK, group(3));
    for number in 1..=3 {
        host.leave(group(number));
    }
    assert_eq!(host.settle(), [leave(1), leave(2)]);
}

#[test]
fn what_was_told_in_the_current_version_is_taken_back_in_an_older_one() {
    // RFC 2236 3: who may have been the only one says that it leaves.
    let mut host = Host::new();
    host.join(group(1));
    host.settle();
    host.hear(&query(Version::Older, None, &[]));
    host.leave(group(1));
    assert_eq!(host.settle(), [Message::Leave { group: group(1) }]);
}

#[test]
fn nobody_leaves_in_version_1() {
    // RFC 1112 has no message for it.
    let mut host = Host::new();
    host.hear(&query(Version::Igmpv1, None, &[]));
    host.join(group(1));
    host.settle();
    host.leave(group(1));
    assert_eq!(host.settle(), []);
}

#[test]
fn a_running_timer_is_shortened_but_never_lengthened() {
    // RFC 2236 3, RFC 2710 4.
    let mut host = Host::new();
    host.join(group(1));
    host.settle();
    host.hear(&query(Version::Older, None, &[]));
    let at = host.memberships.poll_timeout().unwrap();
    let slow = Query {
        max_response: 25 * SECOND,
        ..query(Version::Older, None, &[])
    };
    host.hear(&slow);
    assert_eq!(host.memberships.poll_timeout(), Some(at));
    let fast = Query {
        max_response: Duration::from_millis(1),
        ..query(Version::Older, None, &[])
    };
    host.hear(&fast);
    let said = host.said_within(Duration::from_millis(1));
    assert_eq!(said.len(), 1, "{said:?}");
}

#[test]
fn the_queriers_robustness_counts() {
    // RFC 3376 4.1.6, 8.1.
    let mut host = Host::new();
    let robust = Query {
        robustness: 4,
        ..query(Version::Current, None, &[])
    };
    host.hear(&robust);
    host.settle();
    host.join(group(1));
    assert_eq!(host.settle().len(), 4);
    host.hear(&Query {
        robustness: 0,
        ..robust
    });
    host.settle();
    host.leave(group(1));
    assert_eq!(host.settle().len(), 2);
}

#[test]
fn what_was_told_is_told_again_when_a_link_comes_up() {
    let mut host = Host::new();
    host.join(group(1));
    host.set(group(2), 1, filter(FilterMode::Include, &[3]));
    host.settle();
    host.memberships.announce(host.now, LINK, false);
    let expected = state(&[
        (RecordKind::ToExclude, group(1), &[]),
        (RecordKind::AllowNew, group(2), &[3]),
    ]);
    assert_eq!(host.said(), [expected]);
    host.memberships.remove_interface(LINK);
    assert_eq!(host.settle(), []);
}

#[test]
fn an_interface_hears_whom_its_listeners_hear() {
    let mut host = Host::new();
    host.set(group(1), 1, filter(FilterMode::Include, &[3]));
    let cases = [
        (LINK, group(1), 3, true),
        (LINK, group(1), 4, false),
        (LINK, group(2), 3, false),
        (InterfaceId(3), group(1), 3, false),
        // RFC 1112 4: always.
        (InterfaceId(3), IpAddr::from([224, 0, 0, 1]), 3, true),
    ];
    for (interface, group, from, expected) in cases {
        let accepts = host.memberships.accepts(interface, group, source(from));
        assert_eq!(accepts, expected, "{interface:?} {group} {from}");
    }
    let groups: Vec<_> = host.memberships.groups(LINK).collect();
    assert_eq!(groups, [(group(1), &filter(FilterMode::Include, &[3]))]);
}

/// What a router knows of the only host on its link (RFC 3376 6.4).
#[derive(Default)]
struct Router(BTreeMap<IpAddr, SourceFilter>);

impl Router {
    fn hear(&mut self, record: &GroupRecord) {
        let known = self.0.entry(record.group);
        let known = known.or_insert_with(SourceFilter::nothing);
        let named: BTreeSet<IpAddr> = record.sources.iter().copied().collect();
        let include = known.mode == FilterMode::Include;
        match record.kind {
            RecordKind::ToInclude => {
                *known = SourceFilter {
                    mode: FilterMode::Include,
                    sources: named,
                }
            }
            RecordKind::ToExclude => {
                *known = SourceFilter {
                    mode: FilterMode::Exclude,
                    sources: named,
                }
            }
            RecordKind::AllowNew if include => known.sources.extend(named),
            RecordKind::BlockOld if !include => known.sources.extend(named),
            RecordKind::AllowNew | RecordKind::BlockOld => {
                known.sources.retain(|source| !named.contains(source));
            }
            // Answers say nothing new.
            RecordKind::IsInclude | RecordKind::IsExclude => {
                assert!(named.iter().all(|source| {
                    known.permits(*source) == (record.kind == RecordKind::IsInclude)
                }));
            }
        }
        if known.is_nothing() {
            self.0.remove(&record.group);
        }
    }
}

#[test]
fn a_router_always_knows_what_is_heard_whatever_changes() {
    for seed in 0..200 {
        let mut random = Random::new(Some(seed));
        let mut host = Host::new();
        let mut router = Router::default();
        for _ in 0..200 {
            let asked = group(random.below(3) as u8);
            let numbers: Vec<u8> = (0..4).filter(|_| random.below(3) == 0).collect();
            match random.below(8) {
                0 => host.hear(&query(Version::Current, None, &[])),
                1 => host.hear(&query(Version::Current, Some(asked), &numbers)),
                2 => host.memberships.announce(host.now, LINK, false),
                3 => host.memberships.handle_report(host.now, LINK, asked),
                _ => {
                    let mode = if random.below(2) == 0 {
                        FilterMode::Include
                    } else {
                        FilterMode::Exclude
                    };
                    host.set(asked, random.below(3).into(), filter(mode, &numbers));
                }
            }
            let time = Duration::from_millis(random.below(700).into());
            for message in host
                .said()
                .into_iter()
                .chain(host.said_within(time).into_iter().map(|(_, said)| said))
            {
                let Message::State { records, .. } = message else {
                    panic!("seed {seed}: {message:?}");
                };
                records.iter().for_each(|record| router.hear(record));
            }
            let groups = host.memberships.groups(LINK);
            let heard: BTreeMap<_, _> = groups
                .map(|(address, filter)| (address, filter.clone()))
                .collect();
            assert_eq!(router.0, heard, "seed {seed}");
        }
        host.settle();
        assert_eq!(host.memberships.poll_timeout(), None, "seed {seed}");
    }
}

#[test]
fn messages_of_all_versions_in_any_order_end() {
    for seed in 0..100 {
        let mut random = Random::new(Some(seed));
        let mut host = Host::new();
        for _ in 0..200 {
            let asked = group(random.below(3) as u8);
            let version = match random.below(3) {
                0 => Version::Igmpv1,
                1 => Version::Older,
                _ => Version::Current,
            };
            match random.below(5) {
                0 => host.hear(&Query {
                    max_response: Duration::from_secs(random.below(9000).into()),
                    robustness: random.below(8) as u8,
                    ..query(version, (random.below(2) == 0).then_some(asked), &[1])
                }),
                1 => host.memberships.handle_report(host.now, LINK, asked),
                2 => host.leave(asked),
                3 => host.join(asked),
                _ => host.now += Duration::from_secs(random.below(400).into()),
            }
            // At most a report for each group, or two of all, and the groups that were just left.
            assert!(host.said().len() <= 4, "seed {seed}");
        }
        for number in 0..3 {
            host.leave(group(number));
        }
        host.said_within(Duration::from_secs(100_000));
        assert_eq!(host.memberships.poll_timeout(), None, "seed {seed}");
        assert!(host.memberships.links[&(LINK, false)].groups.is_empty());
    }
}
