//! SCTP (RFC 9260): associations, without sockets, clocks or tasks.
//!
//! ```text
//!              ┌──▶ Association: Sender, Receiver, Paths ──▶ poll_transmit, poll_event, poll_timeout
//!   a packet ──┼──▶ Endpoint: INIT, COOKIE ECHO ──▶ an association, or a Reply
//!              └──▶ out_of_the_blue ──▶ a Reply, or silence
//! ```
//!
//! [`Association`] puts the halves together, [`send::Sender`] and [`receive::Receiver`], over the [`path::Paths`] to the
//! peer's addresses. [`Endpoint`] answers for a port: it sets associations up without keeping state before the peer has
//! shown its address, with a [`cookie`].

pub mod association;
pub mod config;
pub mod cookie;
pub mod endpoint;
pub mod message;
pub mod out_of_the_blue;
pub mod packet;
pub mod path;
pub mod receive;
pub mod send;
pub mod serial;
pub mod socket_option;

pub use association::Association;
pub use config::{Config, SocketOptions};
pub use endpoint::Endpoint;
pub use message::SendOptions;
pub use out_of_the_blue::out_of_the_blue;
pub use packet::{Departure, PacketInfo, Reply, Transmit, Workbench};
pub use receive::SctpMessage;
pub use socket_option::SocketOption;
