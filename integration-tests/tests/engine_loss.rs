//! Loss detection and recovery of TCP between two whole engines on an event heap: what a bad path costs, over many seeds.

use std::time::Duration;

use tidewire::config::Config;
use tidewire_integration_tests::transfer::{Outcome, transfer};
use tidewire_integration_tests::world::LinkConfig;
use tidewire_netdev::memory::impairment::{ImpairmentConfig, Loss, Reorder};

/// Seeds of each case; `TIDEWIRE_SEEDS` asks for more.
const SEEDS: u64 = 20;
/// Octets of each transfer.
const OCTETS: usize = 2_000_000;
/// Round trips of the paths, in milliseconds.
const ROUND_TRIPS: [u64; 2] = [20, 66];

fn seeds() -> u64 {
    let seeds = std::env::var("TIDEWIRE_SEEDS").ok();
    seeds.map_or(SEEDS, |seeds| seeds.parse().expect("a number of seeds"))
}

/// A path of 50 Mbit/s with a queue that no transfer here fills.
fn path(round_trip: u64) -> ImpairmentConfig {
    ImpairmentConfig::delay(Duration::from_millis(round_trip) / 2).with_rate(50_000_000, 8 << 20)
}

/// Each packet is held back with this probability, by as much as other packets need to overtake it.
fn reordering(probability: f64, round_trip: u64) -> Reorder {
    Reorder {
        probability,
        extra_delay: Duration::from_millis(round_trip) / 8,
    }
}

/// Runs a case with every seed.
fn outcomes(impairment: &ImpairmentConfig, octets: usize) -> Vec<Outcome> {
    outcomes_with(&Config::default(), impairment, octets)
}

fn outcomes_with(config: &Config, impairment: &ImpairmentConfig, octets: usize) -> Vec<Outcome> {
    (1..=seeds())
        .map(|seed| {
            let link = LinkConfig {
                impairment: impairment.clone(),
                seed,
                ..LinkConfig::default()
            };
            transfer(&link, config.clone(), octets, Duration::from_secs(300))
        })
        .collect()
}

fn sum(outcomes: &[Outcome], of: impl Fn(&Outcome) -> u64) -> u64 {
    outcomes.iter().map(of).sum()
}

#[test]
fn random_loss_and_reordering_cost_no_timeout() {
    // RFC 8985 3: RTOs are for paths that deliver nothing any more.
    for round_trip in ROUND_TRIPS {
        for (loss, reorder) in [(0.001, 0.0), (0.01, 0.0), (0.0, 0.1), (0.01, 0.1)] {
            let impairment = ImpairmentConfig {
                loss: Loss::Uniform(loss),
                reorder: reordering(reorder, round_trip),
                ..path(round_trip)
            };
            let outcomes = outcomes(&impairment, OCTETS);
            let timeouts = sum(&outcomes, |outcome| outcome.timeouts);
            let recoveries = sum(&outcomes, |outcome| outcome.sender.recoveries);
            println!(
                "{round_trip} ms, loss {loss}, reordering {reorder}: {timeouts} timeouts, {recoveries} recoveries"
            );
            // The last segment, its probe and the ACK of one may all be lost: once in thousands of runs.
            assert!(
                timeouts <= outcomes.len() as u64 / 100,
                "{round_trip} ms, loss {loss}, reordering {reorder}: {timeouts} timeouts"
            );
        }
    }
}

#[test]
fn reordering_alone_causes_almost_no_retransmissions() {
    // RFC 8985 3.3: nothing was lost, so every retransmission is needless. Without timestamps only DSACKs tell of the first.
    for (round_trip, timestamps) in ROUND_TRIPS
        .into_iter()
        .flat_map(|t| [(t, true), (t, false)])
    {
        let mut config = Config::default();
        config.tcp.timestamps = timestamps;
        for probability in [0.01, 0.1] {
            let impairment = ImpairmentConfig {
                reorder: reordering(probability, round_trip),
                ..path(round_trip)
            };
            let outcomes = outcomes_with(&config, &impairment, OCTETS);
            let needless = sum(&outcomes, |outcome| outcome.sender.retransmits);
            let all = sum(&outcomes, |outcome| outcome.sender.segments_sent);
            let case = format!("{round_trip} ms, {probability} reordered, timestamps {timestamps}");
            println!("{case}: {needless} of {all}");
            assert!(needless * 100 < all, "{case}: {needless} of {all} segments");
            let undone = sum(&outcomes, |outcome| outcome.sender.undos);
            let recoveries = sum(&outcomes, |outcome| outcome.sender.recoveries);
            if timestamps {
                assert_eq!(undone, recoveries, "{case}");
            } else {
                // The first DSACK, a round trip later, ends it.
                assert!(
                    recoveries <= 2 * outcomes.len() as u64,
                    "{case}: {recoveries}"
                );
            }
        }
    }
}

#[test]
fn tail_loss_is_recovered_without_a_timeout() {
    // RFC 8985 7: short transfers, where most losses hit what nothing follows.
    for round_trip in ROUND_TRIPS {
        let impairment = path(round_trip).with_loss(0.02);
        let mut outcomes = Vec::new();
        for segments in [1, 3, 10, 30] {
            outcomes.extend(self::outcomes(&impairment, segments * 1448));
        }
        let retransmits = sum(&outcomes, |outcome| outcome.sender.retransmits);
        let probes = sum(&outcomes, |outcome| outcome.sender.tail_loss_probes);
        let timeouts = sum(&outcomes, |outcome| outcome.timeouts);
        println!(
            "{round_trip} ms: {retransmits} retransmissions, {probes} probes, {timeouts} timeouts"
        );
        assert!(retransmits > 0 && probes > 0);
        assert!(timeouts <= outcomes.len() as u64 / 100, "{timeouts}");
    }
}
