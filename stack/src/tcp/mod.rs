//! TCP per RFC 9293, sans-IO: segments and time in, segments, deadlines and readiness out.
//!
//! ```text
//!   engine::ingress ── Segment ──▶ Connection / Listener / TimeWaitTable
//!   engine::egress  ◀─ Transmit ── poll_transmit()
//! ```
//!
//! This folder knows nothing of IP, devices, locks or tasks. [`Connection`] is one synchronized or opening connection,
//! [`Listener`] a passive socket with its SYN queue, [`TimeWaitTable`] the compact rest of closed connections.

pub mod config;
pub mod connection;
pub mod info;
pub mod isn;
pub mod listener;
pub mod receive;
pub mod segment;
pub mod send;
pub mod seq;
pub mod time_wait;

pub use config::Config;
pub use connection::{Connection, OpenParameters, Phase, reset_reply};
pub use info::Info;
pub use listener::Listener;
pub use segment::{Segment, Transmit, TransmitLimits, Tuple};
pub use seq::SeqNum;
pub use time_wait::TimeWaitTable;
