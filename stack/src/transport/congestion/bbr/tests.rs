//! BBR against a path in slices of a millisecond: no packets, only octets that are under way.

use std::collections::VecDeque;

use super::*;

const MSS: u64 = 1000;

/// A path and what is on it.
struct Path {
    bbr: Bbr,
    now: Instant,
    /// Octets per millisecond.
    rate: u64,
    round_trip: u64,
    delivered: u64,
    delivered_at: Instant,
    credit: f64,
    queued: u64,
    /// When the ACK of so many octets arrives, and what was known when they were sent.
    flight: VecDeque<(Instant, u64, Sent)>,
    in_flight: u64,
}

#[derive(Clone, Copy)]
struct Sent {
    at: Instant,
    delivered: u64,
    delivered_at: Instant,
    in_flight: u64,
}

impl Path {
    fn new(rate: u64, round_trip: u64) -> Self {
        Self {
            bbr: Bbr::new(MSS as usize, 10, 7),
            now: Instant::ZERO,
            rate,
            round_trip,
            delivered: 0,
            delivered_at: Instant::ZERO,
            credit: 0.0,
            queued: 0,
            flight: VecDeque::new(),
            in_flight: 0,
        }
    }

    /// A millisecond passes.
    fn step(&mut self) {
        self.now += Duration::from_millis(1);
        let sent_before = self.queued;
        self.queued = sent_before.saturating_sub(self.rate);
        while let Some(&(at, octets, sent)) = self.flight.front()
            && at <= self.now
        {
            self.flight.pop_front();
            self.in_flight -= octets;
            self.delivered += octets;
            self.acknowledge(octets, sent);
            self.delivered_at = self.now;
        }
        self.credit += self.bbr.pacing_rate().unwrap() as f64 / 1000.0;
        let room = (self.bbr.cwnd() as u64).saturating_sub(self.in_flight);
        let octets = (self.credit as u64).min(room) / MSS * MSS;
        self.credit = (self.credit - octets as f64).min(2.0 * MSS as f64);
        if octets == 0 {
            return;
        }
        self.queued += octets;
        self.in_flight += octets;
        let wait = Duration::from_millis(self.queued.div_ceil(self.rate) + self.round_trip);
        let sent = Sent {
            at: self.now,
            delivered: self.delivered,
            delivered_at: if self.delivered == 0 {
                self.now
            } else {
                self.delivered_at
            },
            in_flight: self.in_flight,
        };
        self.flight.push_back((self.now + wait, octets, sent));
    }

    fn acknowledge(&mut self, octets: u64, sent: Sent) {
        let delivered = self.delivered - sent.delivered;
        let rtt = self.now - sent.at;
        self.bbr.on_delivery(&DeliverySample {
            now: self.now,
            delivered: self.delivered,
            newly_acked: octets,
            in_flight: self.in_flight,
            cwnd_limited: true,
            recovering: false,
            rate: Some(RateSample {
                delivery_rate: rate(delivered, rtt.max(self.now - sent.delivered_at)),
                delivered,
                prior_delivered: sent.delivered,
                in_flight_when_sent: sent.in_flight,
                lost: 0,
                app_limited: false,
                rtt: Some(rtt),
            }),
        });
    }

    fn run(&mut self, millis: u64) {
        for _ in 0..millis {
            self.step();
        }
    }

    /// Octets per second and the smallest round trip that BBR believes in.
    fn believed(&self) -> (f64, Duration) {
        (
            self.bbr.bandwidth() as f64,
            self.bbr.model.min_rtt().unwrap(),
        )
    }
}

#[test]
fn path_is_known_after_a_second_whatever_it_is() {
    // draft 3.4: bandwidth and round trip, within some percent.
    for (rate, round_trip) in [(1000, 20), (10_000, 20), (5000, 100)] {
        let mut path = Path::new(rate, round_trip);
        path.run(3000);
        let (bandwidth, min_rtt) = path.believed();
        let share = bandwidth / (rate * 1000) as f64;
        assert!((0.9..1.1).contains(&share), "{rate} {round_trip}: {share}");
        let extra = min_rtt.as_millis() as u64 - round_trip;
        assert!(extra <= 2, "{rate} {round_trip}: {min_rtt:?}");
        assert!(path.bbr.state.is_probe_bw(), "{:?}", path.bbr.state);
        assert!(path.queued < rate * round_trip, "{} queued", path.queued);
    }
}

#[test]
fn startup_doubles_each_round_and_ends_when_the_rate_does_not_grow() {
    // draft 4.3.1.
    let mut path = Path::new(10_000, 50);
    assert_eq!(path.bbr.state, State::Startup);
    path.run(120);
    let early = path.bbr.cwnd();
    path.run(50);
    assert!(path.bbr.cwnd() as f64 > early as f64 * 1.5);
    assert_eq!(path.bbr.state, State::Startup);
    path.run(1000);
    assert!(path.bbr.full_pipe.reached);
    assert!(path.bbr.cwnd() < 3 * 500_000, "{}", path.bbr.cwnd());
}

#[test]
fn more_bandwidth_is_found_by_the_next_probes() {
    // draft 4.3.3: within some cycles of 2 to 3 s.
    let mut path = Path::new(1000, 20);
    path.run(3000);
    path.rate = 2000;
    path.run(15_000);
    assert!(path.believed().0 > 1.8e6, "{:?}", path.believed());
}

#[test]
fn less_bandwidth_is_noticed_when_two_cycles_have_passed() {
    // draft 4.5.5: the filter holds two cycles.
    let mut path = Path::new(2000, 20);
    path.run(3000);
    path.rate = 1000;
    path.run(15_000);
    let bandwidth = path.believed().0;
    assert!(bandwidth < 1.15e6, "{bandwidth}");
}

#[test]
fn round_trip_is_probed_for_with_half_the_flight() {
    // draft 4.3.4: each 5 s, for 200 ms, with half a bandwidth-delay product.
    let mut path = Path::new(2000, 50);
    path.run(4000);
    let mut millis = 0;
    for _ in 0..8000 {
        path.step();
        if path.bbr.state == State::ProbeRtt {
            millis += 1;
            assert!(millis < 500, "it ends");
        } else if millis > 0 {
            break;
        }
    }
    assert!(millis >= 200, "{millis} ms");
    assert!(path.bbr.cwnd() > 100_000, "the window comes back");
}

#[test]
fn losses_beyond_chance_bound_what_is_in_flight() {
    // draft 4.5.10: once a probe, to no less than 0.7 of what is wanted.
    let mut path = Path::new(2000, 50);
    path.run(3000);
    for _ in 0..20_000 {
        path.step();
        if path.bbr.state == State::ProbeBwUp {
            break;
        }
    }
    assert_eq!(path.bbr.state, State::ProbeBwUp);
    let loss = |lost| LossSample {
        octets: MSS,
        in_flight_when_sent: 120_000,
        lost,
        app_limited: false,
    };
    path.bbr.on_loss(&loss(5 * MSS));
    assert_eq!(path.bbr.state, State::ProbeBwUp, "4 % of 120 may be chance");
    path.bbr.on_loss(&loss(12 * MSS));
    assert_eq!(path.bbr.state, State::ProbeBwDown);
    let hi = path.bbr.bounds.inflight_hi;
    assert!((70_000..=120_000).contains(&hi), "{hi}");
    path.bbr.on_loss(&loss(60 * MSS));
    assert_eq!(path.bbr.bounds.inflight_hi, hi, "once a probe");
}

#[test]
fn timeouts_leave_one_segment_and_the_window_comes_back() {
    // draft 4.6.4.4.
    let mut path = Path::new(2000, 50);
    path.run(3000);
    let cwnd = path.bbr.cwnd();
    path.bbr
        .on_retransmission_timeout(path.now, cwnd, Timeout::First);
    assert_eq!(path.bbr.cwnd(), MSS as usize);
    path.bbr.undo();
    assert_eq!(path.bbr.cwnd(), cwnd);
    path.bbr.set_cwnd(3 * cwnd);
    assert_eq!(path.bbr.cwnd(), cwnd, "PRR does not apply");
}

#[test]
fn invented_numbers_do_no_harm() {
    // Peers may acknowledge in any way.
    let mut bbr = Bbr::new(1, 0, 0);
    for n in [0, 1, u64::from(u32::MAX), 1 << 62] {
        for millis in [0, 1, 10_000, 100_000_000] {
            bbr.on_delivery(&DeliverySample {
                now: Instant::from_millis(millis),
                delivered: n,
                newly_acked: n,
                in_flight: n,
                cwnd_limited: true,
                recovering: false,
                rate: Some(RateSample {
                    delivery_rate: n,
                    delivered: n,
                    prior_delivered: n,
                    in_flight_when_sent: n,
                    lost: n,
                    app_limited: false,
                    rtt: Some(Duration::from_nanos(n)),
                }),
            });
            bbr.on_loss(&LossSample {
                octets: n,
                in_flight_when_sent: n,
                lost: n,
                app_limited: false,
            });
            assert!(bbr.cwnd() >= 4 && bbr.cwnd() <= MAX_CWND);
            assert!(bbr.pacing_rate() > Some(0));
        }
    }
}
