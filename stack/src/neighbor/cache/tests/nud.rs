//! Neighbor Unreachability Detection: RFC 4861 7.2.5, 7.3.3 and the tables of appendix C.

use super::*;
use NeighborState::{Delay, Failed, Incomplete, Permanent, Probe, Reachable, Stale};

/// One row: state, address, Solicited, Override, then state and address afterwards.
type Row = (
    NeighborState,
    Option<MacAddress>,
    bool,
    bool,
    NeighborState,
    Option<MacAddress>,
);

#[test]
fn advertisements_change_states_as_appendix_c_says() {
    let (same, other) = (Some(THEIRS), Some(OTHER));
    let mut rows: Vec<Row> = vec![
        // INCOMPLETE: Override does not count; without an address nothing happens.
        (Incomplete, same, false, false, Stale, same),
        (Incomplete, same, false, true, Stale, same),
        (Incomplete, same, true, false, Reachable, same),
        (Incomplete, same, true, true, Reachable, same),
        (Incomplete, None, true, true, Incomplete, None),
        (Incomplete, None, false, false, Incomplete, None),
        // 7.2.5 I: another address without Override.
        (Reachable, other, true, false, Stale, same),
        (Reachable, other, false, false, Stale, same),
        (Stale, other, true, false, Stale, same),
        (Delay, other, true, false, Delay, same),
        (Probe, other, true, false, Probe, same),
        (Probe, other, false, false, Probe, same),
        // Nobody is asking.
        (Failed, same, true, true, Failed, None),
        (Permanent, other, true, true, Permanent, same),
        (Permanent, other, false, true, Permanent, same),
    ];
    for state in [Reachable, Stale, Delay, Probe] {
        rows.extend([
            // !INCOMPLETE, Solicited, same address or none, whatever Override says.
            (state, same, true, false, Reachable, same),
            (state, same, true, true, Reachable, same),
            (state, None, true, false, Reachable, same),
            (state, None, true, true, Reachable, same),
            // Solicited and Override: the address is recorded.
            (state, other, true, true, Reachable, other),
            // Unsolicited: unchanged unless it brings another address.
            (state, same, false, false, state, same),
            (state, same, false, true, state, same),
            (state, None, false, false, state, same),
            (state, None, false, true, state, same),
            (state, other, false, true, Stale, other),
        ]);
    }
    for (state, address, solicited, overrides, expected, known) in rows {
        let mut bench = Bench::in_state(state);
        bench.advertise(address, solicited, overrides);
        assert_eq!(
            (bench.state(), bench.address()),
            (Some(expected), known),
            "{state:?}, NA {address:?}, S {solicited}, O {overrides}"
        );
    }
    // 7.2.5: no entry, nothing to do.
    let mut bench = Bench::new();
    bench.advertise(same, true, true);
    assert_eq!(bench.state(), None);
}

#[test]
fn solicitations_change_states_as_appendix_c_says() {
    let (same, other) = (Some(THEIRS), Some(OTHER));
    // State, source link-layer address, then state and address afterwards.
    let rows = [
        (Incomplete, same, Stale, same),
        (Incomplete, None, Incomplete, None),
        (Failed, same, Stale, same),
        (Failed, None, Failed, None),
        (Reachable, same, Reachable, same),
        (Reachable, other, Stale, other),
        (Stale, same, Stale, same),
        (Stale, other, Stale, other),
        (Delay, same, Delay, same),
        (Delay, other, Stale, other),
        (Probe, same, Probe, same),
        (Probe, other, Stale, other),
        (Reachable, None, Reachable, same),
        (Permanent, other, Permanent, same),
    ];
    for (state, address, expected, known) in rows {
        let mut bench = Bench::in_state(state);
        bench.solicit(address);
        assert_eq!(
            (bench.state(), bench.address()),
            (Some(expected), known),
            "{state:?}, NS from {address:?}"
        );
    }
    let mut bench = Bench::new();
    bench.solicit(None);
    assert_eq!(bench.state(), None);
    bench.solicit(same);
    assert_eq!(bench.state(), Some(Stale));
}

#[test]
fn use_and_advice_change_states() {
    use UpperLayerAdvice::{ForwardProgress, None as Nothing};
    let known = Resolution::Reachable(THEIRS);
    // 7.3.3: a packet turns STALE into DELAY; advice turns all but INCOMPLETE into REACHABLE.
    let rows = [
        (Incomplete, Nothing, Incomplete, Resolution::Pending),
        (Incomplete, ForwardProgress, Incomplete, Resolution::Pending),
        (Reachable, Nothing, Reachable, known),
        (Reachable, ForwardProgress, Reachable, known),
        (Stale, Nothing, Delay, known),
        (Stale, ForwardProgress, Reachable, known),
        (Delay, Nothing, Delay, known),
        (Delay, ForwardProgress, Reachable, known),
        (Probe, Nothing, Probe, known),
        (Probe, ForwardProgress, Reachable, known),
        (Permanent, Nothing, Permanent, known),
        (Permanent, ForwardProgress, Permanent, known),
        // The first to try learns it at once, and the neighbour is asked again.
        (Failed, Nothing, Incomplete, Resolution::Failed),
        (Failed, ForwardProgress, Incomplete, Resolution::Failed),
    ];
    for (state, advice, expected, resolution) in rows {
        let mut bench = Bench::in_state(state);
        assert_eq!(bench.resolve_with(advice), resolution, "{state:?}");
        assert_eq!(bench.state(), Some(expected), "{state:?}, {advice:?}");
        let asked = bench.questions();
        assert_eq!(!asked.is_empty(), state == Failed, "{state:?}");
    }
}

#[test]
fn an_unknown_neighbour_is_asked_for_three_times_a_second_apart() {
    let mut bench = Bench::new();
    let question = (IpAddr::from(THEIR_V6), None);
    assert_eq!(bench.resolve(), Resolution::Pending);
    bench.cache.wait(key_v6(), 7).expect("pending");
    bench.cache.enqueue(key_v6(), packet(40)).expect("room");
    for _ in 0..3 {
        assert_eq!(bench.questions(), [question]);
        bench.pass(SECOND - Duration::from_nanos(1));
        assert_eq!(bench.resolve(), Resolution::Pending);
        assert!(bench.questions().is_empty() && bench.events().is_empty());
        bench.pass(Duration::from_nanos(1));
    }
    // 7.2.2: MAX_MULTICAST_SOLICIT without an answer.
    assert_eq!(bench.state(), Some(Failed));
    assert_eq!(bench.events(), [(None, vec![40], vec![7])]);
    assert!(bench.events().is_empty());
    // It is remembered for a second, then forgotten.
    bench.pass(SECOND);
    assert_eq!(bench.state(), None);
    assert_eq!(bench.resolve(), Resolution::Pending);
    assert_eq!(bench.questions(), [question]);
    let stats = bench.cache.stats();
    assert_eq!(stats.multicast_solicitations, 4);
    assert_eq!(stats.resolutions_failed, 1);
}

#[test]
fn a_failure_is_not_remembered_where_that_is_not_wanted() {
    let mut bench = Bench::with(Config {
        failed_time: Duration::ZERO,
        ..Config::default()
    });
    bench.resolve();
    bench.cache.wait(key_v6(), 7).expect("pending");
    bench.pass(3 * SECOND);
    assert_eq!(bench.state(), None);
    assert_eq!(bench.events(), [(None, vec![], vec![7])]);
    assert_eq!(bench.resolve(), Resolution::Pending);
}

#[test]
fn those_who_wait_learn_the_address_once() {
    let mut bench = Bench::new();
    bench.resolve();
    for waiter in [1, 2] {
        bench.cache.wait(key_v6(), waiter).expect("pending");
    }
    for len in [50, 60] {
        bench.cache.enqueue(key_v6(), packet(len)).expect("room");
    }
    bench.advertise(Some(THEIRS), true, false);
    assert_eq!(bench.events(), [(Some(THEIRS), vec![50, 60], vec![1, 2])]);
    assert_eq!(bench.resolve(), Resolution::Reachable(THEIRS));
    assert_eq!(bench.cache.wait(key_v6(), 3), Err(3));
    assert!(bench.cache.enqueue(key_v6(), packet(1)).is_err());
    // What was asked meanwhile is not sent any more.
    assert!(bench.questions().is_empty());
}

#[test]
fn reachable_lasts_half_to_one_and_a_half_times_its_base() {
    // RFC 4861 6.3.2: a uniformly distributed value between MIN_ and MAX_RANDOM_FACTOR times the base.
    let mut shortest = Duration::MAX;
    let mut longest = Duration::ZERO;
    let mut bench = Bench::in_state(Reachable);
    for _ in 0..200 {
        bench.advertise(Some(THEIRS), true, true);
        let since = bench.now;
        while bench.state() == Some(Reachable) {
            bench.pass(Duration::from_millis(100));
        }
        let time = bench.now - since;
        shortest = shortest.min(time);
        longest = longest.max(time);
        bench.cache.remove(key_v6());
        bench.resolve();
    }
    assert!(
        shortest >= 15 * SECOND && shortest < 17 * SECOND,
        "{shortest:?}"
    );
    assert!(
        longest <= 45 * SECOND + SECOND / 10 && longest > 43 * SECOND,
        "{longest:?}"
    );
}

#[test]
fn advice_keeps_a_neighbour_reachable_without_a_packet() {
    let mut bench = Bench::in_state(Reachable);
    for _ in 0..600 {
        bench.pass(SECOND);
        bench.resolve_with(UpperLayerAdvice::ForwardProgress);
        assert_eq!(bench.state(), Some(Reachable));
    }
    assert!(bench.questions().is_empty());
    // Without it: STALE, at the latest after 45 s, then DELAY on use, then PROBE.
    bench.pass(46 * SECOND);
    assert_eq!(bench.state(), Some(Stale));
    bench.resolve();
    bench.pass(5 * SECOND - Duration::from_nanos(1));
    assert_eq!(bench.state(), Some(Delay));
    assert!(bench.questions().is_empty());
    bench.pass(Duration::from_nanos(1));
    assert_eq!(bench.state(), Some(Probe));
    assert_eq!(bench.questions(), [(THEIR_V6.into(), Some(THEIRS))]);
}

#[test]
fn a_neighbour_that_answers_no_more_is_asked_three_times_and_forgotten() {
    let mut bench = Bench::in_state(Delay);
    bench.pass(5 * SECOND);
    for _ in 0..3 {
        assert_eq!(bench.questions(), [(THEIR_V6.into(), Some(THEIRS))]);
        // 7.3.3: it is used while it is asked.
        assert_eq!(bench.resolve(), Resolution::Reachable(THEIRS));
        bench.pass(SECOND);
    }
    assert_eq!(bench.state(), None);
    assert_eq!(bench.cache.stats().probes_failed, 1);
    // Address resolution begins anew: it may have another link-layer address now.
    assert_eq!(bench.resolve(), Resolution::Pending);
    assert_eq!(bench.questions(), [(THEIR_V6.into(), None)]);
}

#[test]
fn a_stale_neighbour_that_nobody_uses_is_forgotten() {
    let mut bench = Bench::in_state(Stale);
    bench.pass(60 * SECOND - Duration::from_nanos(1));
    assert_eq!(bench.state(), Some(Stale));
    bench.pass(Duration::from_nanos(1));
    assert_eq!(bench.state(), None);
    assert_eq!(bench.cache.poll_timeout(), None);
}

#[test]
fn a_late_timer_makes_no_difference_to_use() {
    let mut bench = Bench::in_state(Reachable);
    bench.now += 100 * SECOND;
    assert_eq!(bench.resolve(), Resolution::Reachable(THEIRS));
    assert_eq!(bench.state(), Some(Delay));
    bench.cache.handle_timeout(bench.now);
    assert_eq!(bench.state(), Some(Delay));
    let mut bench = Bench::in_state(Failed);
    bench.now += 10 * SECOND;
    assert_eq!(bench.resolve(), Resolution::Pending);
    // All that is due happens at once, and questions stay a second apart.
    bench.questions();
    bench.now += 100 * SECOND;
    bench.cache.handle_timeout(bench.now);
    assert_eq!(bench.questions().len(), 1);
    assert_eq!(bench.cache.poll_timeout(), Some(bench.now + SECOND));
}

#[test]
fn the_last_used_source_asks() {
    let mut bench = Bench::in_state(Stale);
    let other: IpAddr = "fe80::99".parse().expect("an address");
    bench.resolve();
    bench
        .cache
        .resolve(bench.now, key_v6(), other, UpperLayerAdvice::None);
    bench.pass(5 * SECOND);
    let question = bench.cache.poll_transmit().expect("a probe");
    assert_eq!((question.source, question.interface), (other, LINK));
}

#[test]
fn the_router_flag_is_kept() {
    let mut bench = Bench::in_state(Reachable);
    let says = |router, address, overrides| ReceivedAdvertisement {
        interface: LINK,
        advertisement: NeighborAdvertisement {
            router,
            solicited: false,
            overrides,
            target: THEIR_V6,
        },
        target_link_layer: Some(address),
    };
    let is_router = |bench: &Bench| {
        bench
            .info(THEIR_V6.into())
            .is_some_and(|info| info.is_router)
    };
    let now = bench.now;
    bench
        .cache
        .handle_advertisement(now, &says(true, THEIRS, false));
    assert!(is_router(&bench));
    // 7.2.5 I: an advertisement that is not believed changes nothing else.
    bench
        .cache
        .handle_advertisement(now, &says(false, OTHER, false));
    assert!(is_router(&bench));
    // 7.2.3: a solicitation does not say.
    bench.solicit(Some(THEIRS));
    assert!(is_router(&bench));
    bench
        .cache
        .handle_advertisement(now, &says(false, THEIRS, false));
    assert!(!is_router(&bench));
}

#[test]
fn static_neighbours_stay_until_removed() {
    let mut bench = Bench::new();
    bench.resolve();
    bench.cache.wait(key_v6(), 7).expect("pending");
    let now = bench.now;
    bench
        .cache
        .insert_static(now, key_v6(), THEIRS)
        .expect("room");
    assert_eq!(bench.events(), [(Some(THEIRS), vec![], vec![7])]);
    bench.pass(100_000 * SECOND);
    assert_eq!(bench.resolve(), Resolution::Reachable(THEIRS));
    assert!(bench.questions().is_empty());
    assert!(bench.cache.remove(key_v6()));
    assert!(!bench.cache.remove(key_v6()));
    assert_eq!(bench.resolve(), Resolution::Pending);
    bench.cache.wait(key_v6(), 8).expect("pending");
    bench.cache.flush_interface(InterfaceId(3));
    assert!(bench.events().is_empty());
    bench.cache.flush_interface(LINK);
    assert_eq!(bench.events(), [(None, vec![], vec![8])]);
    assert!(bench.cache.entries().is_empty() && bench.questions().is_empty());
    assert_eq!(bench.cache.poll_timeout(), None);
}

#[test]
fn what_is_no_host_is_never_a_neighbour() {
    let mut bench = Bench::new();
    for address in [
        "224.0.0.1",
        "255.255.255.255",
        "0.0.0.0",
        "127.0.0.1",
        "ff02::1",
        "::",
        "::1",
    ] {
        let address: IpAddr = address.parse().expect("an address");
        let source = if address.is_ipv4() {
            OUR_V4.into()
        } else {
            OUR_V6.into()
        };
        let resolution =
            bench
                .cache
                .resolve(bench.now, key_of(address), source, UpperLayerAdvice::None);
        assert_eq!(resolution, Resolution::Failed, "{address}");
    }
    // Nor is one asked for with an address of the other IP version.
    let resolution =
        bench
            .cache
            .resolve(bench.now, key_v6(), OUR_V4.into(), UpperLayerAdvice::None);
    assert_eq!(resolution, Resolution::Failed);
    assert!(bench.cache.entries().is_empty());
}
