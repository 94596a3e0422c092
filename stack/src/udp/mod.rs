//! UDP (RFC 768, RFC 8085), sans-IO: datagrams in, datagrams and readiness out.
//!
//! ```text
//!   engine::ingress ── Datagram ──▶ Socket ── recv() ──▶ the application
//!   engine::egress  ◀─ Transmit ─── Socket ◀─ send() ─── the application
//! ```
//!
//! This folder owns the two queues of a socket, its options and its pending error, and behaves as Linux does down to
//! the order in which errors are reported. It knows nothing of IP, routes, ports in use, checksums, locks or tasks.
//! Addresses are in canonical form here: an IPv4 peer of a dual-stack socket is an IPv4 address.

pub mod config;
mod receive_queue;
pub mod socket;

use std::net::SocketAddr;

use bytes::Bytes;
use tidewire_netdev::Payload;

pub use config::{Config, SocketOptions};
pub use socket::{Socket, Statistics};

use crate::wire::Ecn;

/// A received datagram, or several of one sender that a device coalesced.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// Who sent it.
    pub source: SocketAddr,
    /// Where it was sent to: one of our addresses, a broadcast or a multicast address.
    pub destination: SocketAddr,
    /// The payload, as slices of receive buffers; may be empty, which is a datagram too.
    pub payload: Payload,
    /// Payload octets of each datagram that was coalesced, the last of which may be shorter; 0, or the whole length,
    /// for a plain one.
    pub segment_size: usize,
    /// The IP header's ECN field.
    pub ecn: Ecn,
}

/// What [`Socket::recv`] and its like say of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Octets that were copied.
    pub len: usize,
    /// Who sent it.
    pub source: SocketAddr,
    /// Where it was sent to.
    pub destination: SocketAddr,
    /// The buffer was too short, and the rest is lost (`MSG_TRUNC`).
    pub truncated: bool,
    /// The IP header's ECN field.
    pub ecn: Ecn,
}

/// A datagram to send, or several of the same length to one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub destination: SocketAddr,
    /// The payload.
    pub payload: Bytes,
    /// Set when the payload is to be cut into datagrams of so many octets.
    pub segment_size: Option<u16>,
}
