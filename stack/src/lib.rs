//! TCP, UDP and SCTP in user space for tokio.
//!
//! The folders below import downwards only: `wire` at the bottom knows nothing but octets, `net` at the top
//! is shaped like `tokio::net`. Everything below `driver` is sans-IO: time and packets are arguments.

pub mod config;
pub mod driver;
pub mod engine;
pub mod error;
pub mod ip;
pub mod link;
pub mod neighbor;
pub mod net;
pub mod random;
pub mod sctp;
pub mod stats;
pub mod tcp;
pub mod time;
pub mod transport;
pub mod udp;
pub mod wire;

pub use net::stack::Stack;

/// The README's examples, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
