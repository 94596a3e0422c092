use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::*;
use crate::random::Random;

const fn v4(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

/// A table with an active path to each address, the first one primary.
fn table(config: PathConfig, addresses: &[IpAddr]) -> Paths {
    let mut paths = Paths::new(config, Random::new(Some(1)));
    for address in addresses {
        paths.add(at(0), *address, None, 1500, PathState::Active);
    }
    paths
}

/// As RFC 9260 alone has it: no path is potentially failed.
fn without_pf() -> PathConfig {
    PathConfig {
        pf_max_retrans: u32::MAX,
        ..PathConfig::default()
    }
}

fn single() -> Paths {
    table(PathConfig::default(), &[v4(1)])
}

const A: PathId = PathId(0);
const B: PathId = PathId(1);
const C: PathId = PathId(2);

#[test]
fn largest_chunk_leaves_room_for_the_headers_in_whole_words() {
    // PMDCS, RFC 9260 1.3: MTU without IP (20 or 40) and SCTP (12) headers; chunks end on words (3.2).
    let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let cases = [
        (v4(1), 1500, 1468),
        (v6, 1500, 1448),
        (v4(1), 1501, 1468),
        (v4(1), 1503, 1468),
        (v4(1), 65_535, 65_500),
        (v4(1), 1 << 20, 65_532),
        (v4(1), 68, 480),
    ];
    for (address, mtu, pmdcs) in cases {
        let mut paths = table(PathConfig::default(), &[address]);
        paths.set_mtu(A, mtu);
        assert_eq!(paths.get(A).pmdcs(), pmdcs, "{mtu}");
    }
}

#[test]
fn messages_are_cut_for_the_smallest_path() {
    // AMDCS, RFC 9260 7.3.
    let mut paths = table(PathConfig::default(), &[v4(1), v4(2)]);
    assert_eq!(paths.smallest_pmdcs(), 1468);
    paths.set_mtu(B, 1400);
    assert_eq!(paths.smallest_pmdcs(), 1368);
    paths.set_mtu(B, 9000);
    assert_eq!(paths.smallest_pmdcs(), 1468);
}

#[test]
fn table_is_bounded_and_knows_each_address_once() {
    let config = PathConfig {
        max_paths: 2,
        ..PathConfig::default()
    };
    let mut paths = table(config, &[v4(1), v4(2)]);
    assert_eq!(paths.len(), 2);
    assert_eq!(paths.add(at(0), v4(3), None, 1500, PathState::Active), None);
    let again = paths.add(at(0), v4(2), None, 1500, PathState::Unconfirmed);
    assert_eq!(again, Some(B));
    assert_eq!(paths.get(B).state(), PathState::Active);
    assert_eq!(paths.find(v4(2)), Some(B));
}

#[test]
fn initial_window_is_that_of_the_address_family() {
    // RFC 9260 7.2.1.
    let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
    for kind in [CongestionControl::NewReno, CongestionControl::Cubic] {
        let config = PathConfig {
            congestion_control: kind,
            ..PathConfig::default()
        };
        let paths = table(config, &[v4(1), v6]);
        assert_eq!(paths.get(A).controller().cwnd(), 4404, "{kind:?}");
        assert_eq!(paths.get(B).controller().cwnd(), 4344, "{kind:?}");
    }
}

#[test]
fn initial_window_follows_the_mtu_until_data_is_sent() {
    let mut paths = single();
    paths.set_mtu(A, 9000);
    assert_eq!(paths.get(A).controller().cwnd(), 2 * 8968);
    paths.get_mut(A).on_sent(at(0), 100);
    paths.set_mtu(A, 1500);
    assert_eq!(paths.get(A).controller().cwnd(), 2 * 8968);
}

#[test]
fn path_is_inactive_when_its_errors_exceed_path_max_retrans() {
    // RFC 9260 8.2: "exceeds", so with 5 the sixth.
    let mut paths = table(without_pf(), &[v4(1), v4(2)]);
    for errors in 1..=5 {
        assert_eq!(paths.on_timeout_error(at(0), A), PathVerdict::default());
        assert_eq!(paths.get(A).error_count(), errors);
        assert_eq!(paths.get(A).state(), PathState::Active);
    }
    let verdict = paths.on_timeout_error(at(0), A);
    assert!(verdict.path_failed && !verdict.association_failed);
    assert_eq!(paths.get(A).state(), PathState::Inactive);
    assert_eq!(paths.take_change(), Some((A, PathChange::Unreachable)));
    assert!(!paths.on_timeout_error(at(0), A).path_failed, "told once");
    assert_eq!(paths.get(A).error_count(), 6, "counting has ended");
}

#[test]
fn association_fails_when_all_errors_exceed_association_max_retrans() {
    // RFC 9260 8.1: errors on any path count; with 10 the eleventh is too many.
    let mut paths = table(PathConfig::default(), &[v4(1), v4(2)]);
    for error in 0..10 {
        let path = if error % 2 == 0 { A } else { B };
        assert!(
            !paths.on_timeout_error(at(0), path).association_failed,
            "{error}"
        );
    }
    assert!(paths.on_timeout_error(at(0), A).association_failed);
}

#[test]
fn acknowledged_data_clears_both_counters_and_revives_the_path() {
    // RFC 9260 8.1, 8.2.
    let mut paths = table(without_pf(), &[v4(1), v4(2)]);
    for _ in 0..6 {
        let _ = paths.on_timeout_error(at(0), A);
    }
    paths.clear_association_errors();
    paths.confirm(A);
    assert_eq!(paths.get(A).error_count(), 0);
    assert_eq!(paths.association_errors(), 0);
    assert_eq!(paths.get(A).state(), PathState::Active);
    assert_eq!(paths.take_change(), Some((A, PathChange::Unreachable)));
    assert_eq!(paths.take_change(), Some((A, PathChange::Available)));
    assert_eq!(paths.take_change(), None);
}

/// Makes a path inactive.
fn fail(paths: &mut Paths, id: PathId) {
    while paths.get(id).state() != PathState::Inactive {
        let _ = paths.on_timeout_error(at(0), id);
    }
}

#[test]
fn data_takes_the_primary_path_while_it_is_active() {
    // RFC 9260 6.4, 8.2: one alternate is chosen and kept; without any, the primary path is tried all the same.
    let mut paths = table(PathConfig::default(), &[v4(1), v4(2), v4(3)]);
    assert_eq!(paths.data_path(), Some(A));
    fail(&mut paths, A);
    assert_eq!(paths.data_path(), Some(B));
    fail(&mut paths, B);
    assert_eq!(paths.data_path(), Some(C));
    fail(&mut paths, C);
    assert_eq!(paths.data_path(), Some(A));
    paths.confirm(B);
    assert_eq!(paths.data_path(), Some(B));
    paths.confirm(A);
    assert_eq!(paths.data_path(), Some(A), "back to the primary path");
    assert!(paths.set_primary(C));
    paths.confirm(C);
    assert_eq!(paths.data_path(), Some(C));
}

#[test]
fn unconfirmed_address_gets_no_data() {
    // RFC 9260 5.4.
    let mut paths = Paths::new(PathConfig::default(), Random::new(Some(1)));
    assert_eq!(paths.data_path(), None, "no path at all");
    paths.add(at(0), v4(1), None, 1500, PathState::Unconfirmed);
    assert_eq!(paths.data_path(), None);
    paths.add(at(0), v4(2), None, 1500, PathState::Active);
    assert_eq!(paths.data_path(), Some(B));
    assert!(!paths.set_primary(A));
    assert_eq!(paths.alternate_to(B), B);
    fail(&mut paths, B);
    assert_eq!(paths.alternate_to(B), B);
    paths.confirm(A);
    assert_eq!(paths.alternate_to(B), A);
    assert_eq!(
        paths.take_change(),
        Some((B, PathChange::PotentiallyFailed))
    );
    assert_eq!(paths.take_change(), Some((B, PathChange::Unreachable)));
    assert_eq!(paths.take_change(), Some((A, PathChange::Confirmed)));
}

#[test]
fn timed_out_data_goes_to_another_active_path_if_there_is_one() {
    // RFC 9260 6.4, 6.4.1.
    let mut paths = table(PathConfig::default(), &[v4(1), v4(2), v4(3)]);
    assert_eq!(paths.alternate_to(A), B);
    assert_eq!(paths.alternate_to(C), A);
    fail(&mut paths, B);
    assert_eq!(paths.alternate_to(A), C);
    fail(&mut paths, C);
    assert_eq!(paths.alternate_to(A), A, "the only one that works");
    fail(&mut paths, A);
    assert_eq!(paths.alternate_to(A), B, "none works: all are tried");
    assert_eq!(single().alternate_to(A), A);
}

#[test]
fn heartbeats_are_an_interval_and_an_rto_apart_with_jitter() {
    // RFC 9260 8.3: RTO + HB.interval, plus or minus half the RTO.
    let mut paths = single();
    assert_eq!(
        paths.next_deadline(),
        None,
        "not before the association stands"
    );
    let mut periods = Vec::new();
    let mut now = at(0);
    paths.start_heartbeats(now);
    for _ in 0..50 {
        let due = paths.next_deadline().unwrap();
        assert_eq!(paths.heartbeat_due(due - Duration::from_nanos(1)), None);
        let (id, info) = paths.heartbeat_due(due).unwrap();
        assert_eq!(id, A);
        assert_eq!(paths.heartbeat_due(due), None, "one");
        periods.push(due - now);
        now = due;
        assert_eq!(paths.handle_heartbeat_ack(now, &info), Some(A));
    }
    let (least, most) = (periods.iter().min().unwrap(), periods.iter().max().unwrap());
    assert!(*least >= Duration::from_millis(30_500), "{least:?}");
    assert!(*most <= Duration::from_millis(31_500), "{most:?}");
    assert!(*most - *least > Duration::from_millis(500), "jitter");
}

#[test]
fn path_in_use_needs_no_heartbeat() {
    // RFC 9260 8.3: idle is a path without new data within the heartbeat period.
    let mut paths = single();
    paths.start_heartbeats(at(0));
    for second in 1..100 {
        let now = at(second * 1000);
        paths.get_mut(A).on_new_data(now, Tsn(second as u32));
        assert_eq!(paths.heartbeat_due(now), None);
        assert!(paths.next_deadline().unwrap() > now + secs(30));
    }
    let due = paths.next_deadline().unwrap();
    assert!(due <= at(99_000) + Duration::from_millis(31_500));
    assert!(paths.heartbeat_due(due).is_some());
}

#[test]
fn unanswered_heartbeat_is_an_error_and_backs_the_rto_off() {
    // RFC 9260 8.2, 8.3.
    let mut paths = single();
    paths.start_heartbeats(at(0));
    for error in 1..=8u32 {
        let due = paths.next_deadline().unwrap();
        let (_, info) = paths.heartbeat_due(due).unwrap();
        let rto = paths.get(A).rto();
        assert_eq!(paths.next_deadline(), Some(due + rto));
        let early = due + rto - Duration::from_nanos(1);
        assert_eq!(paths.expire_heartbeats(early), PathVerdict::default());
        let verdict = paths.expire_heartbeats(due + rto);
        assert_eq!(verdict.path_failed, error == 6, "{error}");
        assert_eq!(paths.get(A).error_count(), error.min(6));
        assert_eq!(paths.association_errors(), error);
        assert_eq!(paths.get(A).rto(), (rto * 2).min(secs(60)));
        if error == 8 {
            // Late, but the latest: still a sign of life.
            let late = due + rto + secs(1);
            assert_eq!(paths.handle_heartbeat_ack(late, &info), Some(A));
        }
    }
    assert_eq!(paths.get(A).state(), PathState::Active);
    assert_eq!(paths.association_errors(), 0);
    assert_eq!(paths.take_change(), Some((A, PathChange::Unreachable)));
    assert_eq!(paths.take_change(), Some((A, PathChange::Available)));
}

#[test]
fn idle_association_fails_by_unanswered_heartbeats() {
    // RFC 9260 8.1: they count on the path that carries data.
    let mut paths = single();
    paths.start_heartbeats(at(0));
    for error in 1..=11 {
        let due = paths.next_deadline().unwrap();
        paths.heartbeat_due(due).unwrap();
        let expiry = paths.next_deadline().unwrap();
        let verdict = paths.expire_heartbeats(expiry);
        assert_eq!(verdict.association_failed, error == 11, "{error}");
    }
}

#[test]
fn unanswered_heartbeat_elsewhere_says_nothing_about_the_association() {
    // RFC 9260 8.1.
    let mut paths = table(PathConfig::default(), &[v4(1), v4(2)]);
    paths.start_heartbeats(at(0));
    let mut errors = 0;
    while errors < 30 {
        let deadline = paths.next_deadline().unwrap();
        assert!(!paths.expire_heartbeats(deadline).association_failed);
        if let Some((id, info)) = paths.heartbeat_due(deadline) {
            if id == A {
                paths.handle_heartbeat_ack(deadline, &info);
            } else {
                errors += 1;
            }
        }
    }
    assert_eq!(paths.get(B).state(), PathState::Inactive);
    assert_eq!(paths.get(A).state(), PathState::Active);
}

#[test]
fn answered_heartbeat_measures_the_round_trip() {
    // RFC 9260 8.3.
    let mut paths = single();
    paths.start_heartbeats(at(0));
    let due = paths.next_deadline().unwrap();
    let (_, info) = paths.heartbeat_due(due).unwrap();
    paths.handle_heartbeat_ack(due + Duration::from_millis(70), &info);
    assert_eq!(
        paths.get(A).rtt().smoothed(),
        Some(Duration::from_millis(70))
    );
}

#[test]
fn only_the_nonce_that_was_sent_is_an_answer() {
    // RFC 9260 5.4: the nonce is verified for the address it was sent to; anything else is ignored.
    let mut paths = table(PathConfig::default(), &[v4(1), v4(2)]);
    paths.request_heartbeat(at(5), A);
    let (id, info) = paths.heartbeat_due(at(5)).unwrap();
    assert_eq!(id, A);
    for octet in 0..8 {
        let mut forged = info.to_vec();
        forged[octet] ^= 1;
        assert_eq!(paths.handle_heartbeat_ack(at(6), &forged), None, "{octet}");
    }
    let mut other_address = info.to_vec();
    other_address[31] = 2;
    assert_eq!(paths.handle_heartbeat_ack(at(6), &other_address), None);
    for len in 0..info.len() {
        assert_eq!(paths.handle_heartbeat_ack(at(6), &info[..len]), None);
    }
    assert_eq!(paths.get(A).rtt().smoothed(), None);
    assert_eq!(paths.handle_heartbeat_ack(at(6), &info), Some(A));
    assert_eq!(paths.handle_heartbeat_ack(at(6), &info), None, "once");
}

#[test]
fn heartbeat_info_names_time_and_destination() {
    // RFC 9260 8.3, 3.3.5: SHOULD include both; 5.4: a nonce of 64 bits.
    let mut nonces = std::collections::HashSet::new();
    for address in [v4(1), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let mut paths = table(PathConfig::default(), &[address]);
        paths.request_heartbeat(at(77), A);
        let (_, info) = paths.heartbeat_due(at(77)).unwrap();
        assert_eq!(info[8..16], at(77).as_nanos().to_be_bytes());
        let (nonce, remote) = heartbeat::parse_info(&info).unwrap();
        assert_eq!(remote, address);
        nonces.insert(nonce);
        paths.request_heartbeat(at(2000), A);
        assert_eq!(paths.expire_heartbeats(at(2000)), PathVerdict::default());
        let (_, info) = paths.heartbeat_due(at(2000)).unwrap();
        nonces.insert(heartbeat::parse_info(&info).unwrap().0);
    }
    assert_eq!(nonces.len(), 2, "each is new; the same seed gives the same");
}

#[test]
fn unconfirmed_addresses_are_probed_once_per_rto_until_they_answer() {
    // RFC 9260 5.4, HB.Max.Burst 1.
    let mut paths = Paths::new(PathConfig::default(), Random::new(Some(1)));
    paths.add(at(0), v4(1), None, 1500, PathState::Active);
    for last in 2..4 {
        paths.add(at(0), v4(last), None, 1500, PathState::Unconfirmed);
    }
    paths.start_heartbeats(at(0));
    let (first, first_info) = paths.heartbeat_due(at(0)).unwrap();
    assert_eq!(paths.heartbeat_due(at(999)), None, "one per RTO");
    assert_eq!(paths.next_deadline(), Some(at(1000)));
    let verdict = paths.expire_heartbeats(at(1000));
    assert_eq!(verdict, PathVerdict::default());
    assert_eq!(paths.association_errors(), 0, "not the association's error");
    assert_eq!(paths.get(first).error_count(), 1);
    let (second, info) = paths.heartbeat_due(at(1000)).unwrap();
    assert_eq!((first, second), (B, C), "the one that waited longest");
    assert_eq!(paths.handle_heartbeat_ack(at(1001), &info), Some(C));
    assert_eq!(paths.get(C).state(), PathState::Active);
    assert_eq!(paths.handle_heartbeat_ack(at(1002), &first_info), Some(B));
    assert_eq!(paths.take_change(), Some((C, PathChange::Confirmed)));
    assert_eq!(paths.take_change(), Some((B, PathChange::Confirmed)));
}

#[test]
fn burst_limit_of_heartbeats_is_configurable() {
    let config = PathConfig {
        heartbeat_max_burst: 2,
        ..PathConfig::default()
    };
    let mut paths = Paths::new(config, Random::new(Some(1)));
    for last in 1..5 {
        paths.add(at(0), v4(last), None, 1500, PathState::Unconfirmed);
    }
    paths.start_heartbeats(at(0));
    assert!(paths.heartbeat_due(at(0)).is_some());
    assert!(paths.heartbeat_due(at(1)).is_some());
    assert!(paths.heartbeat_due(at(2)).is_none());
    assert!(paths.heartbeat_due(at(1000)).is_some());
}

#[test]
fn unconfirmed_address_that_looks_dead_is_probed_rarely() {
    // RFC 9260 5.4: the rate is lowered to that of heartbeats.
    let mut paths = Paths::new(PathConfig::default(), Random::new(Some(1)));
    paths.add(at(0), v4(1), None, 1500, PathState::Unconfirmed);
    paths.start_heartbeats(at(0));
    let mut sent = Vec::new();
    while sent.len() < 9 {
        let deadline = paths.next_deadline().unwrap();
        let _ = paths.expire_heartbeats(deadline);
        if paths.heartbeat_due(deadline).is_some() {
            sent.push(deadline);
        }
    }
    let gaps: Vec<u64> = sent.windows(2).map(|w| (w[1] - w[0]).as_secs()).collect();
    assert_eq!(gaps[..5], [1, 2, 4, 8, 16], "RTO by RTO");
    assert!(gaps[6..].iter().all(|gap| *gap >= 60), "{gaps:?}");
    assert_eq!(paths.get(A).state(), PathState::Unconfirmed);
}

#[test]
fn heartbeats_can_be_turned_off_and_asked_for() {
    // RFC 9260 8.3 A to D.
    let mut paths = single();
    paths.start_heartbeats(at(0));
    paths.set_heartbeat(at(0), A, HeartbeatSwitch::Off);
    assert_eq!(paths.next_deadline(), None);
    paths.request_heartbeat(at(10), A);
    let (_, info) = paths.heartbeat_due(at(10)).unwrap();
    paths.handle_heartbeat_ack(at(11), &info);
    assert_eq!(paths.next_deadline(), None, "still off");
    paths.set_heartbeat(at(20), A, HeartbeatSwitch::On);
    paths.set_heartbeat_interval(at(20), A, secs(5));
    let due = paths.next_deadline().unwrap();
    assert!(due >= at(5520) && due <= at(6520), "{due:?}");
    paths.stop_heartbeats();
    assert_eq!(paths.next_deadline(), None, "8.3: with SHUTDOWN");
    assert_eq!(paths.heartbeat_due(due), None);
}

#[test]
fn heartbeat_answer_does_not_hide_that_data_is_not_acknowledged() {
    // RFC 9260 8.1: MAY choose not to clear the counter if there is outstanding data.
    let mut paths = single();
    let _ = paths.on_timeout_error(at(0), A);
    paths.get_mut(A).on_sent(at(1), 100);
    paths.request_heartbeat(at(1), A);
    let (_, info) = paths.heartbeat_due(at(1)).unwrap();
    paths.handle_heartbeat_ack(at(2), &info);
    assert_eq!(paths.association_errors(), 1);
    assert_eq!(paths.get(A).error_count(), 0, "the path itself works");
}

#[test]
fn heartbeats_cannot_be_made_a_flood() {
    let config = PathConfig {
        heartbeat_interval: Duration::ZERO,
        rto_min: Duration::ZERO,
        rto_initial: Duration::ZERO,
        ..PathConfig::default()
    };
    let mut paths = table(config, &[v4(1)]);
    let mut now = at(0);
    paths.start_heartbeats(now);
    for _ in 0..100 {
        now = paths.next_deadline().unwrap();
        let _ = paths.expire_heartbeats(now);
        if let Some((_, info)) = paths.heartbeat_due(now) {
            paths.handle_heartbeat_ack(now, &info);
        }
    }
    assert!(now >= at(900), "{now:?}");
}

#[test]
fn one_round_trip_is_measured_at_a_time() {
    // RFC 9260 6.3.1 C4.
    let mut paths = single();
    let path = paths.get_mut(A);
    path.on_new_data(at(0), Tsn(1));
    path.on_new_data(at(10), Tsn(2));
    assert_eq!(path.measured_tsn(), Some(Tsn(1)));
    let round_trip = path.complete_measurement(at(50));
    assert_eq!(round_trip, Some(Duration::from_millis(50)));
    assert_eq!(path.rtt().smoothed(), round_trip);
    path.on_new_data(at(60), Tsn(3));
    assert_eq!(path.measured_tsn(), Some(Tsn(3)));
}

#[test]
fn retransmission_at_or_below_the_measured_tsn_spoils_the_measurement() {
    // RFC 9260 6.3.1 C5.
    for (retransmitted, kept) in [(4, false), (5, false), (6, true)] {
        let mut paths = single();
        let path = paths.get_mut(A);
        path.on_new_data(at(0), Tsn(5));
        path.on_retransmission(Tsn(retransmitted));
        assert_eq!(path.measured_tsn().is_some(), kept, "{retransmitted}");
    }
}

#[test]
fn changed_options_reach_the_paths_there_are() {
    let mut paths = single();
    let config = PathConfig {
        rto_initial: secs(3),
        path_max_retrans: 1,
        association_max_retrans: 2,
        heartbeat_interval: secs(7),
        ..PathConfig::default()
    };
    paths.set_config(config);
    assert_eq!(paths.get(A).rto(), secs(3));
    assert_eq!(paths.get(A).max_retrans(), 1);
    assert_eq!(paths.heartbeat_interval(A), secs(7));
    let _ = paths.on_timeout_error(at(0), A);
    assert!(paths.on_timeout_error(at(0), A).path_failed);
    assert!(paths.on_timeout_error(at(0), A).association_failed);
}

#[test]
fn change_of_route_starts_congestion_control_anew() {
    // RFC 9260 7.2.5.2.
    let mut paths = single();
    let path = paths.get_mut(A);
    path.set_local(Some(v4(9)));
    path.on_t3(at(0));
    assert_eq!(path.controller().cwnd(), 1468);
    path.set_local(Some(v4(9)));
    assert_eq!(path.controller().cwnd(), 1468, "nothing changed");
    path.set_local(Some(v4(8)));
    assert_eq!(path.controller().cwnd(), 4404);
}

#[test]
fn untold_changes_are_bounded() {
    let mut paths = single();
    for _ in 0..10_000 {
        fail(&mut paths, A);
        paths.confirm(A);
    }
    let mut count = 0;
    let mut last = None;
    while let Some(change) = paths.take_change() {
        count += 1;
        last = Some(change);
    }
    assert!(count <= 256, "{count}");
    assert_eq!(last, Some((A, PathChange::Available)));
}

#[test]
fn path_is_potentially_failed_before_it_is_inactive() {
    // RFC 7829 3.2, 1, 2, 5, 6, 8 with the default of 0: one error, then a heartbeat after the other, an RTO apart.
    let mut paths = table(PathConfig::default(), &[v4(1), v4(2)]);
    paths.start_heartbeats(at(0));
    assert!(!paths.on_timeout_error(at(1000), A).path_failed);
    paths.get_mut(A).back_off();
    assert_eq!(paths.get(A).state(), PathState::PotentiallyFailed);
    assert_eq!(paths.data_path(), Some(B), "3 i");
    let mut now = at(1000);
    let mut sent = Vec::new();
    while paths.get(A).state() == PathState::PotentiallyFailed {
        if let Some((id, info)) = paths.heartbeat_due(now) {
            if id == B {
                paths.handle_heartbeat_ack(now, &info);
            } else {
                sent.push((now - at(0)).as_secs());
            }
        }
        now = paths.next_deadline().unwrap();
        assert!(!paths.expire_heartbeats(now).association_failed, "8.1");
    }
    assert_eq!(sent, [1, 3, 7, 15, 31]);
    assert_eq!(now - at(0), secs(63), "RFC 9260's time all the same");
    let changes: Vec<_> = std::iter::from_fn(|| paths.take_change()).collect();
    assert_eq!(
        changes,
        [
            (A, PathChange::PotentiallyFailed),
            (A, PathChange::Unreachable)
        ]
    );
}

#[test]
fn potentially_failed_path_recovers_with_a_heartbeat_that_is_answered() {
    // RFC 7829 3.2, 7.
    let mut paths = table(PathConfig::default(), &[v4(1), v4(2)]);
    paths.start_heartbeats(at(0));
    let _ = paths.on_timeout_error(at(1000), A);
    let (id, info) = paths.heartbeat_due(at(1000)).unwrap();
    assert_eq!(id, A);
    paths.handle_heartbeat_ack(at(1010), &info);
    assert_eq!(paths.get(A).state(), PathState::Active);
    assert_eq!(paths.get(A).error_count(), 0);
    assert_eq!(paths.data_path(), Some(A));
    assert_eq!(
        paths.take_change(),
        Some((A, PathChange::PotentiallyFailed))
    );
    assert_eq!(paths.take_change(), Some((A, PathChange::Recovered)));
}

#[test]
fn heartbeats_that_are_off_stay_off_on_a_potentially_failed_path() {
    // RFC 7829 3.2, 5.
    let mut paths = table(PathConfig::default(), &[v4(1), v4(2)]);
    paths.start_heartbeats(at(0));
    paths.set_heartbeat(at(0), A, HeartbeatSwitch::Off);
    let _ = paths.on_timeout_error(at(1000), A);
    assert_eq!(paths.get(A).state(), PathState::PotentiallyFailed);
    assert_eq!(paths.heartbeat_due(at(5000)), None);
}

#[test]
fn without_an_active_path_the_one_with_the_fewest_errors_is_taken() {
    // RFC 7829 3.2, 4: choosing changes nothing.
    let mut paths = table(PathConfig::default(), &[v4(1), v4(2), v4(3)]);
    for (id, errors) in [(A, 3), (B, 1), (C, 2)] {
        for _ in 0..errors {
            let _ = paths.on_timeout_error(at(0), id);
        }
    }
    assert_eq!(paths.data_path(), Some(B));
    assert_eq!(paths.alternate_to(B), B, "fewer than any other");
    assert_eq!(paths.alternate_to(A), B);
    let _ = paths.on_timeout_error(at(0), B);
    assert_eq!(paths.alternate_to(B), C, "another one of the same count");
    assert_eq!(paths.get(B).error_count(), 2);
    assert_eq!(paths.get(B).state(), PathState::PotentiallyFailed);
}

#[test]
fn threshold_decides_when_a_path_is_potentially_failed_and_a_lone_one_never_is() {
    // RFC 7829 3.2, 1: with Path.Max.Retrans or more it is inactive first.
    let errors_until_pf = |pf_max_retrans, addresses: &[IpAddr]| {
        let config = PathConfig {
            pf_max_retrans,
            ..PathConfig::default()
        };
        let mut paths = table(config, addresses);
        (1..=6).find(|_| {
            let _ = paths.on_timeout_error(at(0), A);
            paths.get(A).state() == PathState::PotentiallyFailed
        })
    };
    let two = [v4(1), v4(2)];
    assert_eq!(errors_until_pf(0, &two), Some(1));
    assert_eq!(errors_until_pf(3, &two), Some(4));
    assert_eq!(errors_until_pf(5, &two), None);
    assert_eq!(errors_until_pf(u32::MAX, &two), None);
    assert_eq!(errors_until_pf(0, &two[..1]), None);
}

#[test]
fn probes_of_listed_addresses_hold_no_other_heartbeat_back_and_never_amplify() {
    // RFC 9260 5.4: 60 addresses that somebody listed are probed one per RTO, whatever else is due.
    let mut paths = Paths::new(PathConfig::default(), Random::new(Some(1)));
    paths.add(at(0), v4(1), None, 1500, PathState::Active);
    for last in 2..62 {
        paths.add(at(0), v4(last), None, 1500, PathState::Unconfirmed);
    }
    paths.start_heartbeats(at(0));
    let mut probes = 0;
    let mut now = at(0);
    while now < at(100_000) {
        let _ = paths.expire_heartbeats(now);
        while let Some((id, info)) = paths.heartbeat_due(now) {
            if id == A {
                paths.handle_heartbeat_ack(now, &info);
            } else {
                probes += 1;
            }
        }
        let elapsed = (now - at(0)).as_secs() + 1;
        assert!(probes <= elapsed, "{probes} probes after {elapsed} RTOs");
        now = paths.next_deadline().unwrap();
    }
    assert!(probes > 90, "{probes}");
    paths.request_heartbeat(now, A);
    assert!(
        std::iter::from_fn(|| paths.heartbeat_due(now)).any(|(id, _)| id == A),
        "at once"
    );
}

#[test]
fn idle_path_begins_a_burst_whatever_became_of_the_last_one() {
    // RFC 9260 6.1 D: what was sent here was acknowledged elsewhere, after it had moved there.
    let config = PathConfig {
        max_burst: 1,
        ..PathConfig::default()
    };
    let mut paths = table(config, &[v4(1), v4(2)]);
    let path = paths.get_mut(A);
    path.begin_packet(at(0));
    path.on_sent(at(0), 100);
    assert!(!path.burst_admits(Position::First));
    path.on_left_flight(100);
    assert!(path.burst_admits(Position::First));
    path.begin_packet(at(0));
    path.on_sent(at(0), 100);
    assert!(!path.burst_admits(Position::First), "one packet, no more");
}
