//! Goodput curves on demand: any part of the grid, with each controller, between two engines on an event heap in virtual
//! time. The same code gives the same table on every machine.
//!
//! ```text
//! cargo run --release -p tidewire-integration-tests --example goodput -- [PART…] [--controller NAME] [--svg DIR] [--bless]
//! cargo run --release -p tidewire-integration-tests --example goodput -- --flows [--bless]
//! ```
//! A cell runs if its name has every PART, or begins with it: `100M 66ms loss0`, `100M/66ms/loss1`, `10G`. Without any,
//! all do, which takes half an hour of one processor. `--flows`: two to eight flows share a bottleneck.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser;
use tidewire::tcp::config::CongestionControl;
use tidewire_integration_tests::curves::{
    COLUMNS, CONTROLLERS, Cell, Flows, Outcome, Plotted, Snapshot, alias, grid, key, line, plot,
    run, shares_line, trace,
};

/// Goodput over paths of every kind, in virtual time.
#[derive(Parser)]
struct Arguments {
    /// Parts of the names of the cells to run, as `100M`, `66ms`, `loss1`, `lossburst`, `reorder10`, `queue0.1`
    parts: Vec<String>,
    /// Controllers to run (cubic, reno, bbr); all without
    #[arg(long, value_parser = ["cubic", "reno", "bbr"])]
    controller: Vec<String>,
    /// Seed of paths and stacks
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Prints the congestion windows, too, in equal intervals
    #[arg(long)]
    trace: bool,
    /// Lets two to eight flows share a bottleneck, of one controller and of two
    #[arg(long, conflicts_with_all = ["parts", "controller", "svg", "trace"])]
    flows: bool,
    /// Plots goodput against the round trip, and the congestion window over time, into this folder
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Writes the outcomes to integration-tests/curves
    #[arg(long)]
    bless: bool,
    /// Cells that run at a time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

/// A cell with a controller, and what came of it.
type Job = (&'static str, CongestionControl, Cell);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.bless && arguments.seed != 1 {
        eprintln!("what is kept is of seed 1");
        return ExitCode::from(2);
    }
    let done = if arguments.flows {
        share(&arguments)
    } else {
        curves(&arguments)
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the cells that are asked for.
fn curves(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let mut jobs: Vec<Job> = Vec::new();
    for (name, control) in CONTROLLERS {
        if arguments.controller.is_empty() || arguments.controller.iter().any(|own| own == name) {
            let cells = grid().into_iter();
            let cells = cells.filter(|cell| cell.matches(&arguments.parts));
            jobs.extend(cells.map(|cell| (name, control, cell)));
        }
    }
    if jobs.is_empty() {
        return Err(format!("no cell has all of {:?}", arguments.parts).into());
    }
    println!("{COLUMNS}");
    let outcomes = run_all(&jobs, arguments);
    if let Some(folder) = &arguments.svg {
        std::fs::create_dir_all(folder)?;
        let runs = jobs.iter().zip(&outcomes);
        let runs = runs.map(|((controller, _, cell), outcome)| Plotted {
            controller,
            cell: *cell,
            outcome,
        });
        plot(&runs.collect::<Vec<_>>(), folder)?;
    }
    if arguments.bless {
        bless(&jobs, &outcomes)?;
    }
    Ok(())
}

/// Lets flows share a bottleneck.
fn share(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let mut snapshot = Snapshot::open("shares.txt", SHARES)?;
    println!("{SHARES}");
    for flows in Flows::all() {
        let line = shares_line(&flows.shares(arguments.seed));
        println!("{:43} {line}", flows.name());
        snapshot.set(&flows.name(), line);
    }
    if arguments.bless {
        snapshot.write()?;
    }
    Ok(())
}

/// Runs the jobs, several at a time, and prints each line once those before it are printed.
fn run_all(jobs: &[Job], arguments: &Arguments) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let (outcomes, printed) = (Mutex::new(vec![None; jobs.len()]), Mutex::new(0));
    let work = || {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some((_, control, cell)) = jobs.get(place) else {
                break;
            };
            let outcome = run(cell, *control, arguments.seed);
            let mut outcomes = outcomes.lock().expect("no panic");
            outcomes[place] = Some(outcome);
            let mut printed = printed.lock().expect("no panic");
            while let Some(Some(outcome)) = outcomes.get(*printed) {
                let (name, _, cell) = &jobs[*printed];
                println!("{:43} {}", key(name, cell), line(outcome));
                if arguments.trace {
                    println!("  cwnd{}", trace(outcome));
                    if !outcome.avoidable_at.is_empty() {
                        println!("  avoidable timeouts at {:?}", outcome.avoidable_at);
                    }
                }
                *printed += 1;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(work);
        }
    });
    let outcomes = outcomes.into_inner().expect("no panic");
    outcomes
        .into_iter()
        .map(|outcome| outcome.expect("each has run"))
        .collect()
}

/// Puts outcomes into the files of the tree: the lines of each controller, and the windows of the cells at 10 Gbit/s.
fn bless(jobs: &[Job], outcomes: &[Outcome]) -> std::io::Result<()> {
    let mut traces = Snapshot::open("windows.txt", WINDOWS)?;
    for (controller, _) in CONTROLLERS {
        let comment = format!("{GRID}\n{COLUMNS}");
        let mut snapshot = Snapshot::open(&format!("{controller}.txt"), &comment)?;
        for ((name, _, cell), outcome) in jobs.iter().zip(outcomes) {
            if *name != controller {
                continue;
            }
            snapshot.set(&key(name, cell), line(outcome));
            if alias(cell).is_some() {
                traces.set(&key(name, cell), trace(outcome));
            }
        }
        snapshot.write()?;
    }
    traces.write()
}

const GRID: &str = "\
# The whole grid, from `cargo run --release -p tidewire-integration-tests --example goodput -- --bless`; no test compares it.";

const SHARES: &str = "\
# Flows through a link of 20 Mbit/s with 50 ms and a queue of one product, which start two seconds apart: Jain's index, the sum
# and each one's share in percent of the link over forty seconds, twenty after the last start. From `--example goodput -- --flows --bless`.";

const WINDOWS: &str = "\
# Congestion windows in segments at eighty points of time, from `--example goodput -- 10G --bless`; no test compares them.";
