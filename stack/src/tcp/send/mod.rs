//! The send half: what is queued, what is out, what is lost, and how much more the peer and the path permit.
//!
//! ```text
//!   write() ─▶ SendBuffer ──▶ SendWindow (peer's window, Nagle) ──▶ packets
//!                   ▲            ▲
//!   ACK, SACK ─▶ Scoreboard ─▶ Recovery (RACK, TLP, PRR, timeouts) ─▶ congestion Controller
//! ```
//!
//! Each part owns its own state and returns small values; `connection` puts them together.

pub mod buffer;
pub mod delivered;
pub mod delivery_rate;
pub mod mtu_search;
pub mod pacing;
pub mod prr;
pub mod rack;
pub mod recovery;
pub mod scoreboard;
pub mod tail_loss_probe;
pub mod undo;
pub mod window;
pub mod window_use;

pub use buffer::SendBuffer;
pub use mtu_search::MtuSearch;
pub use recovery::{Recovery, RecoveryStep};
pub use scoreboard::Scoreboard;
pub use window::SendWindow;
pub use window_use::WindowUse;
