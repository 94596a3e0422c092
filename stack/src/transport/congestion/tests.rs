use super::*;

const MSS: usize = 1000;
const RTT: Duration = Duration::from_millis(100);

fn ack(now: Instant, bytes: usize, in_flight: usize) -> AckSample {
    AckSample {
        now,
        bytes_acked: bytes,
        in_flight,
        acknowledged: 0,
        sent: 1,
        rtt: Some(RTT),
        smoothed_rtt: RTT,
        application_limited: false,
    }
}

/// Acknowledges one window per round trip, in ACKs of `per_ack` octets, and gives the window after each round.
fn rounds(
    controller: &mut dyn Controller,
    start: Instant,
    count: usize,
    per_ack: usize,
) -> Vec<usize> {
    let mut now = start;
    (0..count)
        .map(|_| {
            now += RTT;
            let flight = controller.cwnd() / MSS * MSS;
            let mut left = flight;
            while left > 0 {
                let bytes = left.min(per_ack);
                controller.on_ack(&ack(now, bytes, left));
                left -= bytes;
            }
            controller.cwnd()
        })
        .collect()
}

fn both() -> [Box<dyn Controller>; 2] {
    [
        Box::new(NewReno::new(MSS, 10)),
        Box::new(Cubic::new(MSS, 10)),
    ]
}

#[test]
fn initial_window_is_ten_segments_but_not_of_jumbo_size() {
    // RFC 6928 2: min(10 * MSS, max(2 * MSS, 14600)).
    for (segments, mss, window) in [
        (10, 1460, 14_600),
        (10, 536, 5360),
        (10, 8948, 17_896),
        (10, 1448, 14_480),
        (10, 2000, 14_600),
        (2, 1460, 2920),
        (100, 1460, 146_000),
        (0, 1460, 1460),
    ] {
        assert_eq!(initial_window(segments, mss), window, "{segments} of {mss}");
    }
}

#[test]
fn slow_start_doubles_per_round_trip_however_the_acks_come() {
    // RFC 5681 3.1, RFC 3465: per octet, not per ACK. RFC 9293 MUST-19.
    for per_ack in [MSS, 2 * MSS, 65_536, usize::MAX] {
        for mut controller in both() {
            assert!(controller.in_slow_start());
            let windows = rounds(controller.as_mut(), Instant::ZERO, 4, per_ack);
            assert_eq!(windows, [20_000, 40_000, 80_000, 160_000]);
        }
    }
}

#[test]
fn slow_start_stops_at_the_threshold() {
    for mut controller in both() {
        controller.on_retransmission_timeout(Instant::ZERO, 10_000, Timeout::First);
        let ssthresh = controller.ssthresh();
        controller.on_ack(&ack(Instant::ZERO, ssthresh - 1000, 1000));
        assert_eq!(controller.cwnd(), ssthresh);
        assert!(!controller.in_slow_start());
    }
}

#[test]
fn new_reno_grows_one_segment_per_round_trip() {
    // RFC 5681 3.1 (3), whether each segment, every second or a whole window is acknowledged at once. RFC 9293 MUST-19.
    for per_ack in [MSS, 2 * MSS, 16 * MSS, usize::MAX] {
        let mut reno = NewReno::new(MSS, 40);
        reno.on_congestion_event(Instant::ZERO, 40_000);
        assert_eq!((reno.cwnd(), reno.ssthresh()), (20_000, 20_000));
        let windows = rounds(&mut reno, Instant::ZERO, 5, per_ack);
        assert_eq!(windows, [21_000, 22_000, 23_000, 24_000, 25_000]);
    }
}

#[test]
fn new_reno_grows_once_the_whole_segments_of_its_window_are_acknowledged() {
    // RFC 5681 3.1 (3): half of 13 segments is six that can be sent; they are a round trip.
    for per_ack in [MSS, 3 * MSS] {
        let mut reno = NewReno::new(MSS, 13);
        reno.on_congestion_event(Instant::ZERO, 13_000);
        assert_eq!(reno.cwnd(), 6500);
        for _ in 0..6 * MSS / per_ack {
            assert_eq!(reno.cwnd(), 6500);
            reno.on_ack(&ack(Instant::ZERO, per_ack, 6500));
        }
        assert_eq!(reno.cwnd(), 7500);
    }
}

#[test]
fn reductions_follow_the_flight_size() {
    // RFC 5681 3.1 equation 4 and RFC 9438 4.6: half, or 0.7, of what was out, at least two segments.
    let cases = [
        (100_000, 50_000, 70_000),
        (50_000, 25_000, 35_000),
        (1_000_000, 50_000, 70_000),
        (1000, 2000, 2000),
        (0, 2000, 2000),
    ];
    for (flight, reno, cubic) in cases {
        for (mut controller, expected) in both().into_iter().zip([reno, cubic]) {
            controller.set_cwnd(100_000);
            controller.on_congestion_event(Instant::ZERO, flight);
            assert_eq!(controller.cwnd(), expected, "{}", controller.name());
            assert_eq!(controller.ssthresh(), expected, "{}", controller.name());
        }
    }
}

#[test]
fn timeout_leaves_one_segment_and_its_repetition_keeps_the_threshold() {
    // RFC 5681 3.1: ssthresh MUST NOT fall again for a segment retransmitted before.
    for (mut controller, expected) in both().into_iter().zip([50_000, 70_000]) {
        controller.set_cwnd(100_000);
        controller.on_retransmission_timeout(Instant::ZERO, 100_000, Timeout::First);
        assert_eq!((controller.cwnd(), controller.ssthresh()), (MSS, expected));
        controller.on_retransmission_timeout(Instant::ZERO, 1000, Timeout::Repeated);
        assert_eq!((controller.cwnd(), controller.ssthresh()), (MSS, expected));
        assert!(controller.in_slow_start());
    }
}

#[test]
fn unused_window_does_not_grow() {
    // RFC 5681, RFC 9438 5.8, RFC 7661.
    for mut controller in both() {
        let limited = |in_flight| AckSample {
            application_limited: true,
            ..ack(Instant::from_millis(1), 1000, in_flight)
        };
        controller.on_ack(&limited(5000));
        assert_eq!(controller.cwnd(), 10_000, "half in use at most");
        controller.on_ack(&limited(5001));
        assert_eq!(controller.cwnd(), 11_000, "slow start, more than half");
        controller.on_congestion_event(Instant::from_millis(2), 11_000);
        let cwnd = controller.cwnd();
        for _ in 0..100 {
            controller.on_ack(&limited(cwnd - 1));
        }
        assert_eq!(controller.cwnd(), cwnd, "congestion avoidance");
    }
}

#[test]
fn idle_restart_halves_the_window_per_timeout() {
    // RFC 5681 4.1, RFC 2861 3.
    let rto = Duration::from_millis(300);
    let cases = [
        (299, Some(rto), 160_000),
        (300, Some(rto), 80_000),
        (900, Some(rto), 20_000),
        (1_000_000, Some(rto), 10_000),
        (1_000_000, None, 160_000),
        (1_000_000, Some(Duration::ZERO), 10_000),
    ];
    for (idle, restart, window) in cases {
        for mut controller in both() {
            controller.set_cwnd(160_000);
            controller.on_idle(Instant::ZERO, Duration::from_millis(idle), restart);
            assert_eq!(controller.cwnd(), window, "{idle} ms");
            assert_eq!(controller.ssthresh(), usize::MAX);
        }
    }
    for mut controller in both() {
        controller.set_cwnd(4000);
        controller.on_idle(Instant::ZERO, Duration::from_secs(9), Some(rto));
        assert_eq!(controller.cwnd(), 4000, "never raised");
    }
}

/// CUBIC right after a loss at a window of `window` octets.
fn cubic_after_loss(window: usize) -> Cubic {
    let mut cubic = Cubic::new(MSS, 10);
    cubic.set_cwnd(window);
    cubic.on_congestion_event(Instant::ZERO, window);
    cubic
}

#[test]
fn cubic_follows_its_curve() {
    // RFC 9438 4.2, equations 1 and 2. At 1000 segments and 100 ms the Reno-friendly region is far below.
    // RFC 9293 MAY-18.
    for per_ack in [MSS, 45 * MSS, usize::MAX] {
        let mut cubic = cubic_after_loss(1_000_000);
        let windows = rounds(&mut cubic, Instant::ZERO, 200, per_ack);
        let k = (1000.0 * 0.3 / 0.4f64).cbrt();
        for (round, window) in windows.iter().enumerate() {
            // The epoch begins with the first ACK; a round's ACKs aim at the window one RTT later.
            let t = (round + 1) as f64 * 0.1;
            let expected = (0.4 * (t - k).powi(3) + 1000.0) * 1000.0;
            let error = (*window as f64 - expected).abs() / expected;
            assert!(
                error < 0.04,
                "round {round}, {per_ack}: {window} for {expected}"
            );
        }
        let plateau = (k * 10.0) as usize;
        assert!(windows[plateau - 2] < 1_010_000);
        assert!(windows[199] > 1_400_000, "convex at the end");
        assert!(windows.is_sorted());
    }
}

#[test]
fn cubic_grows_alike_for_single_and_for_coalesced_acks() {
    let window_after = |per_ack| {
        let mut cubic = cubic_after_loss(300_000);
        *rounds(&mut cubic, Instant::ZERO, 100, per_ack)
            .last()
            .unwrap() as f64
    };
    let single = window_after(MSS);
    for per_ack in [2 * MSS, 64 * MSS, usize::MAX] {
        let ratio = window_after(per_ack) / single;
        assert!((0.98..1.02).contains(&ratio), "{per_ack}: {ratio}");
    }
}

#[test]
fn small_windows_are_friendly_to_reno() {
    // RFC 9438 4.3: 20 segments at 100 ms. alpha is 0.529 a round trip until the old window, then 1.
    let mut cubic = cubic_after_loss(20_000);
    let windows = rounds(&mut cubic, Instant::ZERO, 20, MSS);
    let first_rounds = (windows[9] - 14_000) as f64 / 10_000.0;
    assert!((0.49..0.7).contains(&first_rounds), "{windows:?}");
    let mut cubic = cubic_after_loss(20_000);
    let windows = rounds(&mut cubic, Instant::ZERO, 40, MSS);
    assert!(windows[39] >= 14_000 + 11 * 529 + 26 * 900, "{windows:?}");
}

#[test]
fn fast_convergence_lowers_the_plateau_of_a_shrinking_flow() {
    // RFC 9438 4.7: a second loss below W_max leaves (1 + 0.7) / 2 of the window as plateau.
    let mut cubic = cubic_after_loss(1_000_000);
    cubic.on_congestion_event(Instant::from_millis(100), 700_000);
    assert_eq!(cubic.cwnd(), 490_000);
    let windows = rounds(&mut cubic, Instant::from_millis(100), 80, MSS);
    let k = ((595.0 - 490.0) / 0.4f64).cbrt();
    let at_plateau = windows[(k * 10.0) as usize - 1];
    assert!((590_000..600_000).contains(&at_plateau), "{at_plateau}");
}

#[test]
fn stage_after_a_timeout_starts_at_its_own_plateau() {
    // RFC 9438 4.8: K is 0, so growth is convex at once instead of racing to the old W_max.
    let mut cubic = cubic_after_loss(1_000_000);
    cubic.on_retransmission_timeout(Instant::ZERO, 700_000, Timeout::First);
    assert_eq!((cubic.cwnd(), cubic.ssthresh()), (1000, 490_000));
    cubic.on_ack(&ack(Instant::from_millis(500), 489_000, 489_000));
    assert_eq!(cubic.cwnd(), 490_000);
    let windows = rounds(&mut cubic, Instant::from_millis(500), 20, MSS);
    assert!(windows[9] < 500_000, "{windows:?}");
}

#[test]
fn idle_and_application_limited_time_do_not_count() {
    // RFC 9438 4.2: t MUST NOT include them, or the window would leap.
    for limited in [false, true] {
        let mut busy = cubic_after_loss(1_000_000);
        let mut paused = busy.clone();
        rounds(&mut busy, Instant::ZERO, 20, MSS);
        rounds(&mut paused, Instant::ZERO, 20, MSS);
        assert_eq!(busy.cwnd(), paused.cwnd());
        let pause = Duration::from_secs(60);
        let resumed = Instant::from_millis(2000) + pause;
        if limited {
            let sample = AckSample {
                application_limited: true,
                ..ack(resumed, 1000, 1000)
            };
            paused.on_ack(&sample);
        } else {
            paused.on_idle(resumed, pause, None);
        }
        let expected = rounds(&mut busy, Instant::from_millis(2000), 20, MSS);
        assert_eq!(rounds(&mut paused, resumed, 20, MSS), expected);
    }
}

#[test]
fn windows_are_bounded_whatever_is_reported() {
    for mut controller in both() {
        for _ in 0..100 {
            controller.on_ack(&ack(Instant::ZERO, usize::MAX, usize::MAX));
        }
        assert!(controller.cwnd() <= MAX_CWND + MSS);
        controller.on_congestion_event(Instant::ZERO, usize::MAX);
        controller.on_ack(&ack(Instant::FAR_FUTURE, usize::MAX, usize::MAX));
        assert!(controller.cwnd() <= MAX_CWND + MSS);
        controller.set_cwnd(0);
        assert_eq!(controller.cwnd(), MSS);
        controller.set_mss(9000);
        assert_eq!(controller.cwnd(), 9000);
    }
}

#[test]
fn needless_reduction_is_taken_back_once() {
    // RFC 4015 3.4, RFC 9438 4.9: as if nothing had happened; the second time there is nothing to take back.
    for timeout in [false, true] {
        for (mut controller, mut other) in both().into_iter().zip(both()) {
            for controller in [&mut controller, &mut other] {
                controller.on_congestion_event(Instant::ZERO, 10_000);
                rounds(controller.as_mut(), Instant::ZERO, 30, MSS);
            }
            let now = Instant::ZERO + 30 * RTT;
            let (cwnd, ssthresh) = (controller.cwnd(), controller.ssthresh());
            if timeout {
                controller.on_retransmission_timeout(now, cwnd, Timeout::First);
                controller.on_retransmission_timeout(now, cwnd, Timeout::Repeated);
            } else {
                controller.on_congestion_event(now, cwnd);
            }
            assert!(controller.cwnd() < cwnd);
            controller.undo();
            assert_eq!(controller.cwnd(), cwnd);
            assert!(controller.ssthresh() >= ssthresh, "as Linux: never lowered");
            assert_eq!(
                rounds(controller.as_mut(), now, 20, MSS),
                rounds(other.as_mut(), now, 20, MSS),
                "the curve goes on"
            );
            controller.on_idle(now, Duration::from_secs(9), Some(RTT));
            let cwnd = controller.cwnd();
            controller.undo();
            assert_eq!(controller.cwnd(), cwnd);
        }
    }
}

#[test]
fn window_that_is_not_used_for_a_timeout_is_given_up_by_half() {
    // RFC 2861 3.2 and Linux: the initial window stays, three quarters are remembered as threshold.
    for (window, used, left) in [
        (100_000, 40_000, 70_000),
        (100_000, 1000, 55_000),
        (100_000, 100_000, 100_000),
        (8000, 1000, 8000),
    ] {
        for mut controller in both() {
            controller.set_cwnd(window);
            controller.on_congestion_event(Instant::ZERO, usize::MAX);
            controller.set_cwnd(window);
            let ssthresh = controller.ssthresh();
            controller.on_application_limited(used);
            assert_eq!(controller.cwnd(), left, "{used} of {window}");
            let remembered = if left < window { window / 4 * 3 } else { 0 };
            assert_eq!(controller.ssthresh(), ssthresh.max(remembered));
        }
    }
}

#[test]
fn marks_cost_less_than_losses_and_are_not_taken_back() {
    // RFC 8511 3: 0.8 with NewReno, 0.85 with CUBIC, at least two segments.
    for (mut controller, left) in both().into_iter().zip([80_000, 85_000]) {
        controller.set_cwnd(100_000);
        controller.on_ecn(Instant::ZERO, 100_000);
        assert_eq!((controller.cwnd(), controller.ssthresh()), (left, left));
        controller.undo();
        assert_eq!(controller.cwnd(), left);
        controller.on_ecn(Instant::ZERO, 0);
        assert_eq!(controller.cwnd(), 2 * MSS);
    }
}
