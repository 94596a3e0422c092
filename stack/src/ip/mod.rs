//! The network layer: addresses, routes, IPv4 and IPv6 in and out, fragments, path MTUs and ICMP.
//!
//! Owned here: everything between a link that delivers whole packets and a transport that wants segments. Left to
//! others: header layouts (`wire`), neighbours and link framing, which socket gets a packet (`transport`), and
//! when anything is sent (`engine`). Sans-IO: time is an argument and every result is a value.
//!
//! ```text
//!  in:   input::parse ─▶ (reassembly) ─▶ input::resume ─▶ transport
//!  out:  transport ─▶ route ─▶ source_address ─▶ (fragmentation) ─▶ output::prepend
//!  through: forwarding::parse ─▶ route ─▶ Transit::pass ─▶ (forwarding::cut)
//!  ICMP: icmp::errors, icmp::echo, held back by icmp::rate_limit; path_mtu remembers what it learnt
//! ```
//!
//! RFC 791, 792, 1122 (3.2, 3.3), 8200, 8504, 4443.

pub mod address;
pub mod autoconf;
pub mod cidr;
pub mod forwarding;
pub mod fragmentation;
pub mod icmp;
pub mod input;
pub mod multicast;
pub mod output;
pub mod path_mtu;
pub mod reassembly;
pub mod redirect;
pub mod redirects;
pub mod route;
pub mod source_address;

pub use crate::link::InterfaceId;
pub use cidr::Cidr;
