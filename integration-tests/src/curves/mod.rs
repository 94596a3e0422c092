//! Goodput curves: what paths of every kind do to a bulk transfer, with each controller, in virtual time. The same cells and
//! seeds give the same numbers on every machine.
//!
//! `cell` says what is varied, `run` runs one cell, `episodes` tells the timeouts that had to be from those that had not,
//! `shares` lets several flows meet, `snapshot` keeps what came of it in `integration-tests/curves`, `plot` draws it.

mod cell;
mod episodes;
mod plot;
mod run;
mod shares;
mod snapshot;

pub use cell::{CONTROLLERS, Cell, LEAST_QUEUE, Losses, TEN_GIGABIT, alias, grid, subset};
pub use episodes::Episodes;
pub use plot::{Plotted, plot};
pub use run::{Outcome, PATIENCE, SAMPLES, run};
pub use shares::{BOTTLENECK, CONVERGENCE, Flows, MEASURED, STAGGER, shares_line};
pub use snapshot::{COLUMNS, Snapshot, key, line, trace};
