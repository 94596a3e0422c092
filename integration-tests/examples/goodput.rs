//! What bad paths do to TCP, with each controller: goodput, timeouts and retransmissions between two engines on an event heap, in virtual time.
//! The same seed gives the same table on every machine.
//!
//! ```text
//! cargo run --release -p tidewire-integration-tests --example goodput [MBIT_PER_SECOND [OCTETS [SEED]]]
//! ```
//! Needless retransmissions are those that the receiver reports by DSACK.

use std::process::ExitCode;
use std::time::Duration;

use tidewire::config::Config;
use tidewire::tcp::config::CongestionControl;
use tidewire_integration_tests::transfer::{Outcome, transfer};
use tidewire_integration_tests::world::LinkConfig;
use tidewire_netdev::memory::impairment::{ImpairmentConfig, Loss, Reorder};

/// Milliseconds.
const ROUND_TRIPS: [u64; 4] = [1, 20, 66, 100];
const LOSSES: [f64; 4] = [0.0, 0.001, 0.01, 0.05];
const REORDERINGS: [f64; 3] = [0.0, 0.01, 0.1];
const CONTROLLERS: [CongestionControl; 3] = [
    CongestionControl::Cubic,
    CongestionControl::NewReno,
    CongestionControl::Bbr,
];

/// One transfer of the table.
struct Cell {
    control: CongestionControl,
    mbits: u64,
    octets: u64,
    seed: u64,
    round_trip: u64,
    loss: f64,
    reordering: f64,
}

fn main() -> ExitCode {
    let mut numbers = [100, 20_000_000, 1];
    let arguments = std::env::args().skip(1);
    for (number, argument) in numbers.iter_mut().zip(arguments) {
        let Ok(parsed) = argument.parse::<u64>() else {
            eprintln!("{argument} is no number: goodput [MBIT_PER_SECOND [OCTETS [SEED]]]");
            return ExitCode::from(2);
        };
        *number = parsed.max(1);
    }
    let [mbits, octets, seed] = numbers;
    println!(
        "{:>6} {:>6} {:>9} {:>6} {:>9} {:>8} {:>10} {:>6} {:>8} {:>6} {:>6}",
        "RTT ms",
        "loss %",
        "reorder %",
        "",
        "Mbit/s",
        "timeouts",
        "recoveries",
        "probes",
        "retrans",
        "needl.",
        "undone"
    );
    for round_trip in ROUND_TRIPS {
        for loss in LOSSES {
            for probability in REORDERINGS {
                for control in CONTROLLERS {
                    let outcome = cell(&Cell {
                        control,
                        mbits,
                        octets,
                        seed,
                        round_trip,
                        loss,
                        reordering: probability,
                    });
                    print!(
                        "{round_trip:>6} {:>6} {:>9}",
                        loss * 100.0,
                        probability * 100.0
                    );
                    print_outcome(&outcome);
                }
            }
        }
    }
    ExitCode::SUCCESS
}

/// Runs one transfer.
fn cell(cell: &Cell) -> Outcome {
    let delay = Duration::from_millis(cell.round_trip);
    let rate = cell.mbits * 1_000_000;
    // A queue of one bandwidth-delay product, and of some packets on short paths.
    let queue = (rate / 8 * cell.round_trip / 1000).max(100_000) as usize;
    let impairment = ImpairmentConfig {
        loss: Loss::Uniform(cell.loss),
        reorder: Reorder {
            probability: cell.reordering,
            extra_delay: delay / 8,
        },
        ..ImpairmentConfig::delay(delay / 2).with_rate(rate, queue)
    };
    let link = LinkConfig {
        impairment,
        seed: cell.seed,
        ..LinkConfig::default()
    };
    let mut config = Config::default();
    config.tcp.congestion_control = cell.control;
    let limit = Duration::from_secs(36_000);
    transfer(&link, config, cell.octets as usize, limit)
}

/// The controller's name goes first in the rest of the line.
fn print_outcome(outcome: &Outcome) {
    let sender = outcome.sender;
    println!(
        " {:>6} {:>9.2} {:>8} {:>10} {:>6} {:>8} {:>6} {:>6}",
        sender.congestion_control,
        outcome.goodput() / 1e6,
        outcome.timeouts,
        sender.recoveries,
        sender.tail_loss_probes,
        sender.retransmits,
        outcome.spurious(),
        sender.undos,
    );
}
