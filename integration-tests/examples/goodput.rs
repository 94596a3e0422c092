//! Goodput curves on demand: any part of the grid, with each controller, between two engines on an event heap in virtual
//! time. The same code gives the same table on every machine.
//!
//! ```text
//! cargo run --release -p tidewire-integration-tests --example goodput -- [PART…] [--controller NAME] [--bless]
//! ```
//! A cell runs if its name has every PART, or begins with it: `100M 66ms loss0`, `100M/66ms/loss1`, `10G`. Without any,
//! all do, which takes an hour of one processor.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser;
use tidewire::tcp::config::CongestionControl;
use tidewire_integration_tests::curves::{
    COLUMNS, CONTROLLERS, Cell, Outcome, Snapshot, alias, grid, key, line, run, trace,
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
    let mut jobs: Vec<Job> = Vec::new();
    for (name, control) in CONTROLLERS {
        if arguments.controller.is_empty() || arguments.controller.iter().any(|own| own == name) {
            let cells = grid().into_iter();
            let cells = cells.filter(|cell| cell.matches(&arguments.parts));
            jobs.extend(cells.map(|cell| (name, control, cell)));
        }
    }
    if jobs.is_empty() {
        eprintln!("no cell has all of {:?}", arguments.parts);
        return ExitCode::from(2);
    }
    println!("{COLUMNS}");
    let outcomes = run_all(&jobs, &arguments);
    if arguments.bless {
        if arguments.seed != 1 {
            eprintln!("what is kept is of seed 1");
            return ExitCode::from(2);
        }
        if let Err(error) = bless(&jobs, &outcomes) {
            eprintln!("cannot write: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
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

const WINDOWS: &str = "\
# Congestion windows in segments at eighty points of time, from `--example goodput -- 10G --bless`; no test compares them.";
