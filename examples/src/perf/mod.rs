//! What the `perf` program measures with: a server of five small services, a client for each, and both ends in memory.
//!
//! ```text
//!   client ── up ────▶ 5001  reads and discards until the end        (kernel or stack, over a device)
//!          ◀─ down ─── 5002  writes until closed
//!          ◀─ ping ──▶ 5003  sends back what it gets
//!          ◀─ crr ───▶ 5004  answers one octet, then waits for the close
//!                      5005  holds
//!   memory: up, both ends on one thread, over the in-memory pair
//! ```
//!
//! [`Network`] is what the same code runs over: our stack ([`OwnStack`]), our stack without copies ([`ZeroCopyStack`]),
//! our SCTP ([`SctpStack`]) or the kernel's ([`Kernel`]). Over each, the ordinary path is tokio's `AsyncRead` and `AsyncWrite` with the
//! application's own buffers, see [`traffic`]; an idle connection owns none of them.

pub mod client;
pub mod flags;
pub mod memory;
pub mod network;
pub mod report;
pub mod sctp;
pub mod service;
pub mod traffic;

pub use flags::Flags;
pub use network::{Kernel, Network, OwnStack, ZeroCopyStack};
pub use sctp::SctpStack;

/// Reads and discards until the end of the stream.
pub const DISCARD_PORT: u16 = 5001;
/// Writes until closed.
pub const SOURCE_PORT: u16 = 5002;
/// Sends back what it gets.
pub const ECHO_PORT: u16 = 5003;
/// Answers one octet, then waits for the close.
pub const RESPOND_PORT: u16 = 5004;
/// Holds the connection until the peer ends it.
pub const HOLD_PORT: u16 = 5005;

#[cfg(test)]
mod tests;
