//! In-memory links: devices joined in one process, ideal or impaired.
//!
//! [`pair()`] passes packets by reference, super-packets whole and checksums unfilled, since neither end needs more.
//! [`impaired_pair`] delays, loses, reorders and damages what it carries, as [`ImpairmentConfig`] says; the queue that
//! decides this, [`Impairment`], knows no clock and also serves a simulation's event heap. A [`Switch`] joins more than
//! two devices, as an Ethernet switch does.
//!
//! ```text
//!  Transmitter ──▶ channel (bounded, one lock) ──▶ Receiver            pair
//!  Transmitter ──▶ channel ──▶ Impairment + timer ──▶ Receiver         impaired pair
//!  Transmitter ──▶ Switch ──▶ the port's queue ──▶ Receiver            switch
//! ```
//!
//! A path of 10 ms, driven by hand:
//!
//! ```
//! use std::time::Duration;
//! use tidewire_netdev::Packet;
//! use tidewire_netdev::memory::{Impairment, ImpairmentConfig};
//!
//! let config = ImpairmentConfig::delay(Duration::from_millis(10));
//! let mut path = Impairment::new(config, 42);
//! path.enqueue(500, Packet::from_bytes("hello".into()));
//! assert_eq!(path.poll_timeout(), Some(10_000_500)); // nanoseconds
//! assert!(path.dequeue(10_000_499).is_none());
//! assert_eq!(path.dequeue(10_000_500).unwrap().to_bytes(), "hello");
//! ```

mod alarm;
mod channel;
pub mod impaired;
pub mod impairment;
mod mesh;
pub mod pair;
pub mod switch;

pub use impaired::{ImpairmentMonitor, impaired_pair, impaired_pair_with_monitors};
pub use impairment::{Impairment, ImpairmentConfig, ImpairmentStats, Loss, Reorder};
pub use pair::{PairConfig, pair};
pub use switch::{PortConfig, PortStats, Switch, SwitchConfig, SwitchMonitor};
