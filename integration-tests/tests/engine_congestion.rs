//! Congestion control between whole engines on an event heap: what the window does to a path, in virtual time.

use std::time::Duration;

use tidewire::config::Config;
use tidewire::tcp::config::CongestionControl;
use tidewire_integration_tests::flows::{fairness, goodputs};
use tidewire_integration_tests::transfer::{transfer, transfer_with};
use tidewire_integration_tests::world::LinkConfig;
use tidewire_netdev::memory::impairment::{ImpairmentConfig, Loss};

const MBIT: u64 = 1_000_000;

/// A path of `rate` bits per second and `round_trip` milliseconds with a queue of so many of its bandwidth-delay products.
fn path(rate: u64, round_trip: u64, queue: f64, seed: u64) -> LinkConfig {
    let product = (rate / 8 * round_trip / 1000) as f64;
    let delay = Duration::from_millis(round_trip) / 2;
    LinkConfig {
        impairment: ImpairmentConfig::delay(delay).with_rate(rate, (product * queue) as usize),
        seed,
        ..LinkConfig::default()
    }
}

/// Segments retransmitted by a bulk transfer of two seconds at the path's rate: slow start and what follows it.
fn retransmitted(link: &LinkConfig, rate: u64, control: CongestionControl) -> u64 {
    let mut config = Config::default();
    config.tcp.congestion_control = control;
    let octets = (rate / 8 * 2) as usize;
    let outcome = transfer(link, config, octets, Duration::from_secs(60));
    outcome.sender.retransmits
}

#[test]
fn hystart_leaves_slow_start_before_the_queue_overflows() {
    // RFC 9406 4.2: the smallest round trip of a round shows the queue that the round before has left, so the window is 2 to
    // 4 products by then; five rounds by a quarter are a factor of three at most. A queue of 16 products holds all that.
    // Doubling until a loss overflows any queue.
    for (rate, round_trip) in [(20, 20), (20, 50), (30, 20), (50, 20)] {
        let link = path(rate * MBIT, round_trip, 16.0, 1);
        let hystart = retransmitted(&link, rate * MBIT, CongestionControl::Cubic);
        let doubling = retransmitted(&link, rate * MBIT, CongestionControl::NewReno);
        println!("{rate} Mbit/s, {round_trip} ms: {hystart} and {doubling}");
        assert_eq!(hystart, 0, "{rate} Mbit/s, {round_trip} ms");
        assert!(doubling > 100, "{rate} Mbit/s, {round_trip} ms: {doubling}");
    }
}

#[test]
fn hystart_overshoots_a_shorter_queue_by_a_fraction() {
    // RFC 9406 1: with a queue of 4 products the later of the five rounds may still overflow it.
    let (mut hystart, mut doubling) = (0, 0);
    for rate in [20, 30, 50] {
        for round_trip in [20, 66, 100] {
            let link = path(rate * MBIT, round_trip, 4.0, 1);
            let with = retransmitted(&link, rate * MBIT, CongestionControl::Cubic);
            let without = retransmitted(&link, rate * MBIT, CongestionControl::NewReno);
            println!("{rate} Mbit/s, {round_trip} ms: {with} and {without}");
            assert!(
                with * 2 < without,
                "{rate} Mbit/s, {round_trip} ms: {with} and {without}"
            );
            hystart += with;
            doubling += without;
        }
    }
    assert!(hystart * 3 < doubling, "{hystart} and {doubling}");
}

#[test]
fn pacing_keeps_to_the_users_maximum() {
    // As Linux's SO_MAX_PACING_RATE, which does not count headers.
    for rate in [4 * MBIT, 40 * MBIT] {
        let link = path(100 * MBIT, 20, 1.0, 1);
        let octets = (rate / 8 * 4) as usize;
        let limit = Duration::from_secs(60);
        let outcome = transfer_with(&link, Config::default(), octets, limit, |connection| {
            connection.set_max_pacing_rate(Some(rate / 8));
        });
        let share = outcome.goodput() / rate as f64;
        assert!((0.95..=1.0).contains(&share), "{rate}: {share}");
        assert_eq!(outcome.sender.retransmits, 0);
    }
}

/// A stack whose connections use `control`, with buffers for the longest path here.
fn stack(control: CongestionControl) -> Config {
    let mut config = Config::default();
    config.tcp.congestion_control = control;
    config.tcp.send_buffer = 32 << 20;
    config.tcp.receive_buffer = 32 << 20;
    config
}

#[test]
fn bbr_keeps_the_rate_at_one_percent_of_random_loss() {
    // draft-cardwell-ccwg-bbr 3.1: full throughput at average loss rates of up to 1 %.
    for seed in 1..=5 {
        let mut link = path(100 * MBIT, 20, 1.0, seed);
        link.impairment.loss = Loss::Uniform(0.01);
        let octets = 100_000_000;
        let limit = Duration::from_secs(120);
        let outcome = transfer(&link, stack(CongestionControl::Bbr), octets, limit);
        let share = outcome.goodput() / 100e6;
        println!("seed {seed}: {share:.3}");
        assert!(share >= 0.9, "seed {seed}: {share}");
        assert_eq!(outcome.timeouts, 0, "seed {seed}");
    }
}

#[test]
fn cubic_fills_a_long_fast_path() {
    // RFC 9438 1: what Reno needs hours for. Buffers of 32 MiB hold the path and its queue.
    let link = path(1000 * MBIT, 100, 1.0, 1);
    let (warm_up, measured) = (Duration::from_secs(3), Duration::from_secs(2));
    let config = stack(CongestionControl::Cubic);
    let goodput = goodputs(&link, config, 1, warm_up, measured)[0];
    println!("{:.1} Mbit/s", goodput / 1e6);
    assert!(goodput > 900e6, "{goodput}");
}

#[test]
fn two_flows_share_a_bottleneck() {
    // RFC 9438 5.2 for CUBIC, draft-cardwell-ccwg-bbr 3.1 for BBR.
    for (control, least) in [
        (CongestionControl::Cubic, 0.9),
        (CongestionControl::NewReno, 0.9),
        (CongestionControl::Bbr, 0.9),
    ] {
        let link = path(10 * MBIT, 20, 2.0, 7);
        let (warm_up, measured) = (Duration::from_secs(20), Duration::from_secs(60));
        let shares = goodputs(&link, stack(control), 2, warm_up, measured);
        let (index, sum) = (fairness(&shares), shares.iter().sum::<f64>());
        println!("{control:?}: {shares:?}, Jain's index {index:.3}");
        assert!(index > least, "{control:?}: {shares:?}");
        assert!(sum > 8.5e6, "{control:?}: {shares:?}");
    }
}

#[test]
fn bbr_fills_a_path_and_keeps_its_queue_short() {
    // draft-cardwell-ccwg-bbr 3.1: full throughput, and a queue far below what the path could hold.
    for (rate, round_trip) in [(20, 20), (100, 66)] {
        let link = path(rate * MBIT, round_trip, 8.0, 3);
        let octets = (rate * MBIT / 8 * 8) as usize;
        let limit = Duration::from_secs(60);
        let outcome = transfer(&link, stack(CongestionControl::Bbr), octets, limit);
        let share = outcome.goodput() / (rate * MBIT) as f64;
        let rtt = outcome.sender.rtt.as_millis() as u64;
        println!("{rate} Mbit/s, {round_trip} ms: {share:.3}, {rtt} ms");
        assert!(share > 0.85, "{rate} Mbit/s, {round_trip} ms: {share}");
        assert!(rtt < round_trip * 2, "{rtt} of {round_trip} ms");
        assert_eq!(outcome.timeouts, 0);
    }
}
