//! In-memory links: two devices joined in one process, ideal or impaired.
//!
//! [`pair()`] passes packets by reference, super-packets whole and checksums unfilled, since neither end needs more.
//! [`impaired_pair`] delays, loses, reorders and damages what it carries, as [`ImpairmentConfig`] says; the queue that
//! decides this, [`Impairment`], knows no clock and also serves a simulation's event heap.
//!
//! ```text
//!  Transmitter ──▶ channel (bounded, one lock) ──▶ Receiver            pair
//!  Transmitter ──▶ channel ──▶ Impairment + timer ──▶ Receiver         impaired pair
//! ```

mod channel;
pub mod impaired;
pub mod impairment;
pub mod pair;

pub use impaired::{ImpairmentMonitor, impaired_pair, impaired_pair_with_monitors};
pub use impairment::{Impairment, ImpairmentConfig, ImpairmentStats, Loss, Reorder};
pub use pair::{PairConfig, pair};
