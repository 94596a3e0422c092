//! Goodput curves: a part of the grid as it was, exactly, and what is promised of it. The rest: `--example goodput`.
//!
//! `TIDEWIRE_BLESS=1` writes what comes out now to `integration-tests/curves/subset.txt`. What is promised and does not hold
//! is listed in [`EXCEPTIONS`], so that neither a new failure nor a mended one goes by unseen.

use std::sync::Mutex;

use tidewire_integration_tests::curves::{
    COLUMNS, CONTROLLERS, Cell, Flows, Outcome, Snapshot, key, line, run, shares_line, subset,
};
use tidewire_integration_tests::flows::fairness;

/// What is promised and not kept at present, by controller and cell.
const EXCEPTIONS: &[&str] = &[];

/// What a cell breaks of what is promised.
fn broken(name: &str, cell: &Cell, outcome: &Outcome) -> Vec<String> {
    let mut broken = Vec::new();
    let is_clean = cell.losses.is_none() && cell.reordering == 0;
    // What headers leave of the link is 96.5 %.
    if is_clean && cell.queue >= 10 && outcome.steady < 90.0 {
        broken.push(format!("goodput {:.1} %", outcome.steady));
    }
    // RFC 8985 3: losses are found by what arrives after them, and those of the last segments by a probe. The timer is left
    // for bursts that take most of a window, and for flights of which nothing arrives.
    if outcome.episodes.avoidable > 0 {
        broken.push(format!("{} timeouts", outcome.episodes.avoidable));
    }
    // RFC 8985 6.2: the reordering window follows the path.
    if cell.losses.is_none() && cell.reordering > 0 && outcome.spurious_percent() >= 1.0 {
        broken.push(format!("spurious {:.1} %", outcome.spurious_percent()));
    }
    let name = key(name, cell);
    let name = name.trim();
    broken
        .into_iter()
        .map(|what| format!("{name}: {what}"))
        .collect()
}

/// Runs the cells of the subset that `is_chosen` takes with a controller.
fn check(controller: &str, is_chosen: impl Fn(&Cell) -> bool) {
    let named = CONTROLLERS.iter().find(|(name, _)| *name == controller);
    let (name, control) = named.expect("a controller");
    let cells: Vec<Cell> = subset().into_iter().filter(is_chosen).collect();
    let outcomes: Vec<Outcome> = cells.iter().map(|cell| run(cell, *control, 1)).collect();
    let runs = || cells.iter().zip(&outcomes);
    let lines = runs().map(|(cell, outcome)| (key(name, cell), line(outcome)));
    compare(
        "subset.txt",
        &format!("{SUBSET}\n{COLUMNS}"),
        &lines.collect::<Vec<_>>(),
    );
    let broken: Vec<String> = runs()
        .flat_map(|(cell, outcome)| broken(name, cell, outcome))
        .collect();
    let known = EXCEPTIONS.iter().filter(|exception| {
        let of = |cell: &Cell| exception.starts_with(&format!("{}: ", key(name, cell).trim()));
        cells.iter().any(of)
    });
    let known: Vec<&str> = known.copied().collect();
    assert_eq!(
        broken, known,
        "what is promised and not kept, and EXCEPTIONS"
    );
}

/// Compares lines with those that a file has for their keys, or puts them there.
fn compare(file: &str, comment: &str, lines: &[(String, String)]) {
    static FILE: Mutex<()> = Mutex::new(());
    let _turn = FILE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut snapshot = Snapshot::open(file, comment).expect("readable");
    if std::env::var_os("TIDEWIRE_BLESS").is_some() {
        for (key, line) in lines {
            snapshot.set(key, line.clone());
        }
        if file == "subset.txt" {
            let names = CONTROLLERS.map(|(name, _)| name).into_iter();
            let keys =
                names.flat_map(|name| subset().into_iter().map(move |cell| key(name, &cell)));
            snapshot.retain(&keys.collect::<Vec<_>>());
        }
        snapshot.write().expect("writable");
        return;
    }
    let differences: Vec<String> = lines
        .iter()
        .filter_map(|(key, line)| snapshot.difference(key, line))
        .collect();
    assert!(
        differences.is_empty(),
        "{} of {} lines of integration-tests/curves/{file} differ; if they should, run this with TIDEWIRE_BLESS=1:\n{}",
        differences.len(),
        lines.len(),
        differences.join("\n")
    );
}

fn is_slow(cell: &Cell) -> bool {
    cell.rate <= 10
}

#[test]
fn cubic_at_ten_megabits() {
    check("cubic", is_slow);
}

#[test]
fn cubic_at_a_hundred_and_more() {
    check("cubic", |cell| !is_slow(cell));
}

#[test]
fn reno_at_ten_megabits() {
    check("reno", is_slow);
}

#[test]
fn reno_at_a_hundred_and_more() {
    check("reno", |cell| !is_slow(cell));
}

#[test]
fn bbr_at_ten_megabits() {
    check("bbr", is_slow);
}

#[test]
fn bbr_at_a_hundred_and_more() {
    check("bbr", |cell| !is_slow(cell));
}

/// Flows of one controller share alike (RFC 9438 5.2, RFC 5681, draft-cardwell-ccwg-bbr 3.1): Jain's index of at least 0.9.
fn check_shares(controller: &str) {
    let mut lines = Vec::new();
    for flows in Flows::all() {
        if !flows.is_uniform() || flows.0[0] != controller {
            continue;
        }
        let shares = flows.shares(1);
        println!("{}: {}", flows.name(), shares_line(&shares));
        assert!(fairness(&shares) >= 0.9, "{}: {shares:?}", flows.name());
        assert!(
            shares.iter().sum::<f64>() >= 85.0,
            "{}: {shares:?}",
            flows.name()
        );
        lines.push((flows.name(), shares_line(&shares)));
    }
    assert_eq!(lines.len(), 7, "two to eight flows");
}

#[test]
fn cubic_flows_share_alike() {
    check_shares("cubic");
}

#[test]
fn reno_flows_share_alike() {
    check_shares("reno");
}

#[test]
fn bbr_flows_share_alike() {
    check_shares("bbr");
}

const SUBSET: &str = "\
# A part of the grid, compared by `cargo test -p tidewire-integration-tests --test curves`, rewritten with TIDEWIRE_BLESS=1.";
