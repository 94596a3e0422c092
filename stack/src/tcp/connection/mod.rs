//! One TCP connection.

pub mod negotiated;

pub use negotiated::{Negotiated, Offer, TimestampState, WindowScale};

use std::sync::Arc;

use crate::tcp::config::SocketOptions;
use crate::tcp::{Config, SeqNum, Tuple};

/// What an active open needs to know (RFC 9293 3.10.1).
#[derive(Clone, Debug)]
pub struct OpenParameters {
    /// The stack's TCP configuration.
    pub config: Arc<Config>,
    /// What the socket set for itself.
    pub options: SocketOptions,
    /// Both ends.
    pub tuple: Tuple,
    /// Initial send sequence number (RFC 6528).
    pub iss: SeqNum,
    /// Added to the timestamp clock (RFC 7323 7.1).
    pub timestamp_offset: u32,
    /// The MTU of the interface or path at opening, IP header included; the MSS announced follows from it.
    pub path_mtu: usize,
}

/// One connection.
#[derive(Debug)]
pub struct Connection;
