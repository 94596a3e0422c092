//! Floods: nothing grows, and what is in use stays.

use super::*;
use crate::neighbor::arp as build;

fn small(max_entries: usize) -> Bench {
    Bench::with(Config {
        max_entries,
        ..Config::default()
    })
}

/// The `n`th other host.
fn host(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a01_0000 + n)
}

fn ask(
    bench: &mut Bench,
    sender: Ipv4Addr,
    hardware: MacAddress,
) -> Result<ArpVerdict, DropReason> {
    let message = build::request(hardware, sender, OUR_V4);
    bench.cache.handle_arp(
        bench.now,
        LINK,
        OURS,
        LinkDestination::Broadcast,
        &message,
        |address| {
            if address == OUR_V4 {
                Ownership::Assigned
            } else {
                Ownership::None
            }
        },
    )
}

fn answer(bench: &mut Bench, sender: Ipv4Addr) {
    let message = build::reply(THEIRS, &build::request(OURS, OUR_V4, sender));
    bench
        .cache
        .handle_arp(
            bench.now,
            LINK,
            OURS,
            LinkDestination::Unicast,
            &message,
            |address| {
                if address == OUR_V4 {
                    Ownership::Assigned
                } else {
                    Ownership::None
                }
            },
        )
        .expect("an answer");
}

#[test]
fn a_million_strangers_leave_the_cache_at_its_limit_and_what_is_used_alone() {
    let mut bench = Bench::new();
    bench.resolve_v4(THEIR_V4);
    answer(&mut bench, THEIR_V4);
    bench.resolve_v4(host(0));
    bench
        .cache
        .wait(key_of(host(0).into()), 1)
        .expect("pending");
    let mut random = Random::new(Some(5));
    for _ in 0..1_000_000u32 {
        let sender = Ipv4Addr::from_bits(0x0b00_0000 | random.next_u32() & 0x00ff_ffff);
        let [a, b, c, d] = random.next_u32().to_be_bytes();
        let verdict = ask(&mut bench, sender, MacAddress([2, a, b, c, d, 9]));
        assert!(matches!(verdict, Ok(ArpVerdict::Reply(_))));
        bench.now += Duration::from_micros(1);
    }
    assert_eq!(bench.cache.entries().len(), 1024);
    assert_eq!(bench.resolve_v4(THEIR_V4), Resolution::Reachable(THEIRS));
    assert_eq!(bench.resolve_v4(host(0)), Resolution::Pending);
    assert!(bench.events().is_empty());
    assert!(bench.cache.stats().evicted > 900_000);
    bench.pass(60 * SECOND);
    assert!(bench.cache.entries().len() <= 2);
}

#[test]
fn a_flood_of_announcements_and_unasked_answers_makes_no_entry() {
    // Linux's arp_accept 0: they only change what is known.
    let mut bench = Bench::new();
    bench.resolve_v4(THEIR_V4);
    answer(&mut bench, THEIR_V4);
    for n in 0..100_000 {
        let announcement = build::announcement(OTHER, host(n));
        let destination = LinkDestination::Broadcast;
        let heard =
            bench
                .cache
                .handle_arp(bench.now, LINK, OURS, destination, &announcement, |_| {
                    Ownership::None
                });
        assert_eq!(heard, Ok(ArpVerdict::Nothing));
        answer(&mut bench, host(n));
    }
    assert_eq!(bench.cache.entries().len(), 1);
    assert_eq!(bench.cache.stats().evicted, 0);
    assert_eq!(bench.resolve_v4(THEIR_V4), Resolution::Reachable(THEIRS));
}

#[test]
fn a_hundred_thousand_unknown_destinations_are_bounded() {
    let mut bench = Bench::new();
    bench.resolve_v4(THEIR_V4);
    answer(&mut bench, THEIR_V4);
    bench.questions();
    for n in 0..100_000 {
        assert_eq!(bench.resolve_v4(host(n)), Resolution::Pending);
        bench
            .cache
            .enqueue(key_of(host(n).into()), packet(1500))
            .expect("room for the newest");
        bench.now += Duration::from_micros(1);
    }
    assert_eq!(bench.cache.entries().len(), 1024);
    assert!(bench.cache.queued <= bench.cache.config.common().max_total_queue_bytes);
    assert!(bench.questions().len() <= 1024);
    // Nobody waited for those that went.
    assert!(bench.events().is_empty());
    assert_eq!(bench.resolve_v4(THEIR_V4), Resolution::Reachable(THEIRS));
    bench.pass(10 * SECOND);
    assert_eq!(bench.events().len(), 1023);
    assert_eq!(bench.cache.queued, 0);
    assert_eq!(bench.cache.stats().packets_dropped, 100_000 - 1023);
}

#[test]
fn answers_to_made_up_senders_ask_for_no_more_of_them_than_the_cache_holds() {
    // As Linux, where no entry younger than 5 s goes (neigh_forced_gc).
    let mut bench = Bench::new();
    let answer_to = |bench: &mut Bench, n| {
        let (now, key) = (bench.now, key_of(host(n).into()));
        let (initiator, advice) = (Initiator::Stranger, UpperLayerAdvice::None);
        let cache = &mut bench.cache;
        cache.resolve_for(initiator, now, key, OUR_V4.into(), advice)
    };
    let mut pending = 0;
    let mut questions = 0;
    for n in 0..100_000 {
        pending += u32::from(answer_to(&mut bench, n) == Resolution::Pending);
        bench.pass(Duration::from_micros(10));
        questions += bench.questions().len();
    }
    assert_eq!(pending, 1024);
    assert!(questions <= 2 * 1024, "{questions} questions in a second");
    assert_eq!(bench.cache.stats().evicted, 0);
    // What the host itself wants is asked for nevertheless, and it goes for no stranger.
    assert_eq!(bench.resolve_v4(THEIR_V4), Resolution::Pending);
    assert_eq!(answer_to(&mut bench, 100_000), Resolution::Failed);
    answer(&mut bench, THEIR_V4);
    assert_eq!(bench.resolve_v4(THEIR_V4), Resolution::Reachable(THEIRS));
    // Those who did not answer make room for others.
    bench.pass(3 * SECOND);
    assert_eq!(answer_to(&mut bench, 100_001), Resolution::Pending);
    assert_eq!(bench.resolve_v4(THEIR_V4), Resolution::Reachable(THEIRS));
}

#[test]
fn what_matters_least_goes_first() {
    let key = |n| key_of(host(n).into());
    let mut bench = small(6);
    // In the order they must stay: static, awaited, used, asked for, stale, failed.
    bench.resolve_v4(host(5));
    bench.pass(3 * SECOND);
    ask(&mut bench, host(4), THEIRS).expect("a reply");
    bench.resolve_v4(host(3));
    bench.resolve_v4(host(2));
    answer(&mut bench, host(2));
    bench.resolve_v4(host(1));
    bench.cache.wait(key(1), 1).expect("pending");
    let now = bench.now;
    bench.cache.insert_static(now, key(0), OTHER).expect("room");
    for (n, gone) in [(10, 5), (11, 4), (12, 3)] {
        bench.now += SECOND / 100;
        assert_eq!(bench.resolve_v4(host(n)), Resolution::Pending);
        // That somebody waits keeps the new ones.
        bench.cache.wait(key(n), n).expect("pending");
        let known: Vec<_> = bench.cache.entries().iter().map(|info| info.key).collect();
        assert!(
            !known.contains(&key(gone)),
            "{gone} goes for {n}: {known:?}"
        );
        assert_eq!(known.len(), 6);
    }
    // Among the used and the awaited the longest unused goes; who waits is told.
    bench.now += SECOND;
    bench.resolve_v4(host(13));
    bench.cache.wait(key(13), 13).expect("pending");
    assert!(bench.info(host(2).into()).is_none());
    assert!(bench.events().is_empty());
    bench.now += SECOND;
    bench.resolve_v4(host(14));
    assert!(bench.info(host(1).into()).is_none());
    assert_eq!(bench.events(), [(None, vec![], vec![1])]);
    assert!(bench.info(host(0).into()).is_some());
}

#[test]
fn the_least_recently_used_of_equals_goes() {
    let mut bench = small(3);
    for n in 0..3 {
        bench.resolve_v4(host(n));
        answer(&mut bench, host(n));
        bench.now += 2 * SECOND;
    }
    bench.resolve_v4(host(0));
    bench.now += SECOND;
    bench.resolve_v4(host(9));
    assert!(bench.info(host(0).into()).is_some());
    assert!(bench.info(host(1).into()).is_none());
    assert!(bench.info(host(2).into()).is_some());
}

#[test]
fn a_cache_of_static_neighbours_refuses() {
    let mut bench = small(2);
    let now = bench.now;
    for n in 0..2 {
        let key = key_of(host(n).into());
        bench.cache.insert_static(now, key, THEIRS).expect("room");
        // Setting it again takes no room.
        bench.cache.insert_static(now, key, OTHER).expect("room");
    }
    assert_eq!(bench.resolve_v4(host(2)), Resolution::Failed);
    let refused = bench.cache.insert_static(now, key_v6(), THEIRS);
    assert_eq!(refused, Err(DropReason::QueueFull));
    // Strangers still get their answer.
    assert!(matches!(
        ask(&mut bench, host(3), THEIRS),
        Ok(ArpVerdict::Reply(_))
    ));
    assert_eq!(bench.cache.entries().len(), 2);
    assert_eq!(bench.cache.stats().refused, 3);
    assert_eq!(bench.resolve_v4(host(1)), Resolution::Reachable(OTHER));
}

#[test]
fn packets_wait_within_limits() {
    let mut bench = Bench::new();
    bench.resolve();
    for _ in 0..150 {
        bench.cache.enqueue(key_v6(), packet(100)).expect("room");
    }
    assert_eq!(bench.cache.stats().packets_dropped, 49);
    bench.advertise(Some(THEIRS), true, true);
    let events = bench.events();
    assert_eq!(events[0].1.len(), 101);

    // Octets, of one neighbour and of all.
    let mut bench = Bench::with(Config {
        max_queue_bytes: 10_000,
        max_total_queue_bytes: 15_000,
        ..Config::default()
    });
    bench.resolve();
    assert!(bench.cache.enqueue(key_v6(), packet(10_000)).is_err());
    for _ in 0..4 {
        bench.cache.enqueue(key_v6(), packet(4000)).expect("room");
    }
    assert_eq!(bench.cache.stats().packets_dropped, 2);
    bench.resolve_v4(host(1));
    let other = key_of(host(1).into());
    assert!(bench.cache.enqueue(other, packet(9000)).is_err());
    bench.cache.enqueue(other, packet(4000)).expect("room");
    assert!(bench.cache.queued <= 15_000);
    // Where nothing is left, a neighbour's own oldest make room.
    bench.cache.enqueue(other, packet(4000)).expect("room");
    assert_eq!(bench.cache.stats().packets_dropped, 3);
    bench.cache.remove(key_v6());
    bench.cache.remove(other);
    assert_eq!(bench.cache.queued, 0);
}

#[test]
fn waiters_wait_within_limits() {
    let mut bench = Bench::with(Config {
        max_waiters: 2,
        ..Config::default()
    });
    assert_eq!(bench.cache.wait(key_v6(), 1), Err(1));
    bench.resolve();
    assert_eq!(bench.cache.wait(key_v6(), 1), Ok(()));
    assert_eq!(bench.cache.wait(key_v6(), 2), Ok(()));
    assert_eq!(bench.cache.wait(key_v6(), 3), Err(3));
    assert_eq!(bench.cache.stats().waiters_refused, 1);
}
