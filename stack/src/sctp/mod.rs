//! SCTP (RFC 9260): one association, without sockets, clocks or tasks.
//!
//! [`association::Association`] puts the halves together: [`send::Sender`] and [`receive::Receiver`], over the
//! [`path::Paths`] to the peer's addresses. [`endpoint::Endpoint`] answers for a port: it sets associations up without
//! keeping state before the peer has shown its address, with a [`cookie`]. No socket uses them yet.

pub mod association;
pub mod config;
pub mod cookie;
pub mod endpoint;
pub mod message;
pub mod path;
pub mod receive;
pub mod send;
pub mod serial;

pub use association::Association;
pub use config::Config;
pub use endpoint::Endpoint;
pub use message::SendOptions;
pub use receive::SctpMessage;
