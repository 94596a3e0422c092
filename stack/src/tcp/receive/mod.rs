//! The receive side of a connection, one struct per concern.
//!
//! ```text
//!   segment ─▶ ReceiveWindow ── in order ─────▶ ReceiveBuffer ─▶ read
//!              (acceptable?    └ out of order ▶ Reassembly ───┘
//!               what of it?)                       │
//!                                    SackBlocks ◀──┘     AckSchedule: when to acknowledge
//!                                                        ReceiveSpace: how large the window has to be
//! ```
//!
//! None of these knows the others or their owner: the connection carries values between them.

pub mod ack;
pub mod buffer;
pub mod reassembly;
pub mod sack_blocks;
pub mod space;
pub mod window;

pub use ack::{AckSchedule, AckUrgency, Arrival};
pub use buffer::ReceiveBuffer;
pub use reassembly::{Inserted, Ready, Reassembly};
pub use sack_blocks::SackBlocks;
pub use space::ReceiveSpace;
pub use window::{Acceptability, ReceiveWindow, ResetPlacement, Trimmed};
