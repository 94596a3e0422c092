//! Routers and targets of redirects: RFC 4861 6.3.4, 6.3.6, 7.2.5, 7.3.3; RFC 4191 3.5.

use super::*;
use crate::neighbor::{LinkTimes, WatchedChange};

fn changes(bench: &mut Bench) -> Vec<WatchedChange> {
    let mut changes = Vec::new();
    while let Some(event) = bench.cache.poll_event() {
        if let NeighborEvent::Watched { key, change } = event {
            assert_eq!(key, key_v6());
            changes.push(change);
        }
    }
    changes
}

fn watched(state: NeighborState) -> Bench {
    let mut bench = Bench::in_state(state);
    let addresses = BTreeSet::from([THEIR_V6.into()]);
    bench.cache.watch(LINK, &addresses);
    bench
}

fn advertise(bench: &mut Bench, router: bool) {
    let advertisement = ReceivedAdvertisement {
        interface: LINK,
        advertisement: NeighborAdvertisement {
            router,
            solicited: true,
            overrides: true,
            target: THEIR_V6,
        },
        target_link_layer: Some(THEIRS),
    };
    bench.cache.handle_advertisement(bench.now, &advertisement);
}

/// RFC 4861 7.3.3: when probes go unanswered the next hop is chosen anew.
#[test]
fn a_watched_neighbour_that_does_not_answer_is_told_of() {
    for state in [NeighborState::Probe, NeighborState::Incomplete] {
        let mut bench = watched(state);
        bench.pass(2 * SECOND);
        assert_eq!(changes(&mut bench), []);
        bench.pass(SECOND);
        assert_eq!(
            changes(&mut bench),
            [WatchedChange::Unreachable],
            "{state:?}"
        );
        // It answers who asks once more.
        bench.pass(2 * SECOND);
        bench.resolve();
        advertise(&mut bench, true);
        assert_eq!(changes(&mut bench), [WatchedChange::Reachable]);
        advertise(&mut bench, true);
        assert_eq!(changes(&mut bench), []);
    }
    // Its entry going for lack of use says nothing.
    let mut bench = watched(NeighborState::Stale);
    bench.pass(100 * SECOND);
    assert_eq!((bench.state(), changes(&mut bench)), (None, vec![]));
    // Nor is anything told of others.
    let mut bench = Bench::in_state(NeighborState::Probe);
    bench.pass(4 * SECOND);
    assert_eq!(changes(&mut bench), []);
}

/// RFC 4861 6.3.6 1): any state but INCOMPLETE is "probably reachable": an advertisement with its address makes one.
#[test]
fn a_watched_router_that_advertises_itself_may_be_reachable() {
    let mut bench = watched(NeighborState::Probe);
    bench.pass(3 * SECOND);
    assert_eq!(changes(&mut bench), [WatchedChange::Unreachable]);
    bench.cache.learn_router(bench.now, key_v6(), None);
    assert_eq!((bench.state(), changes(&mut bench)), (None, vec![]));
    bench.cache.learn_router(bench.now, key_v6(), Some(THEIRS));
    assert_eq!(changes(&mut bench), [WatchedChange::Reachable]);
}

/// RFC 4861 6.3.4: a router's entry is STALE when it is new or its address is another, and otherwise what it was; IsRouter
/// is true either way.
#[test]
fn a_router_advertisement_fills_the_cache() {
    use NeighborState::{Incomplete, Reachable, Stale};
    let mut bench = Bench::new();
    bench.cache.learn_router(bench.now, key_v6(), Some(THEIRS));
    assert_eq!(bench.state(), Some(Stale));
    for (state, station, after) in [
        (Reachable, Some(THEIRS), Reachable),
        (Reachable, Some(OTHER), Stale),
        (Reachable, None, Reachable),
        (Incomplete, Some(THEIRS), Stale),
        (Incomplete, None, Incomplete),
    ] {
        let mut bench = Bench::in_state(state);
        bench.cache.learn_router(bench.now, key_v6(), station);
        let info = bench.info(THEIR_V6.into()).expect("an entry");
        assert_eq!(
            (info.state, info.is_router),
            (after, true),
            "{state:?} {station:?}"
        );
    }
}

/// RFC 4861 7.2.5: "the IsRouter flag changes from TRUE to FALSE".
#[test]
fn a_router_that_becomes_a_host_is_told_of() {
    let mut bench = watched(NeighborState::Reachable);
    bench.cache.learn_router(bench.now, key_v6(), Some(THEIRS));
    advertise(&mut bench, true);
    assert_eq!(changes(&mut bench), []);
    advertise(&mut bench, false);
    assert_eq!(changes(&mut bench), [WatchedChange::NotRouter]);
    advertise(&mut bench, false);
    assert_eq!(changes(&mut bench), []);
}

/// RFC 4191 3.5: a single solicitation, and none if it is known or being asked for.
#[test]
fn a_probe_asks_once() {
    let mut bench = Bench::new();
    bench.cache.watch(LINK, &BTreeSet::from([THEIR_V6.into()]));
    bench.cache.probe(bench.now, key_v6(), OUR_V6.into());
    bench.cache.probe(bench.now, key_v6(), OUR_V6.into());
    assert_eq!(bench.questions(), [(THEIR_V6.into(), None)]);
    bench.pass(10 * SECOND);
    assert_eq!(bench.questions(), []);
    assert_eq!(changes(&mut bench), [WatchedChange::Unreachable]);
    bench.cache.probe(bench.now, key_v6(), OUR_V6.into());
    assert_eq!(bench.questions().len(), 1);
    advertise(&mut bench, true);
    assert_eq!(changes(&mut bench), [WatchedChange::Reachable]);
}

/// RFC 4861 6.3.4: ReachableTime and RetransTimer are the link's.
#[test]
fn times_of_a_link_are_those_that_its_routers_tell() {
    let mut bench = Bench::new();
    let times = LinkTimes {
        reachable_time: Some(10 * SECOND),
        retrans_timer: Some(SECOND / 10),
    };
    bench.cache.set_link_times(LINK, times);
    bench.resolve();
    bench.pass(SECOND * 31 / 100);
    assert_eq!(
        bench.state(),
        Some(NeighborState::Failed),
        "three tenths of a second"
    );
    // RFC 4861 6.3.2: ReachableTime is 0.5 to 1.5 times that.
    let mut bench = Bench::new();
    bench.cache.set_link_times(LINK, times);
    bench.resolve();
    advertise(&mut bench, false);
    bench.pass(SECOND * 49 / 10);
    assert_eq!(bench.state(), Some(NeighborState::Reachable));
    bench.pass(SECOND * 102 / 10);
    assert_eq!(bench.state(), Some(NeighborState::Stale));
    // They are not ARP's, nor other links'.
    bench.resolve_v4(THEIR_V4);
    bench.pass(SECOND);
    let info = bench.info(THEIR_V4.into()).expect("an entry");
    assert_eq!(info.state, NeighborState::Incomplete);
    bench.cache.set_link_times(LINK, LinkTimes::default());
    let mut fresh = Bench::new();
    fresh.cache.set_link_times(InterfaceId(9), times);
    fresh.resolve();
    fresh.pass(2 * SECOND);
    assert_eq!(fresh.state(), Some(NeighborState::Incomplete));
}
