//! How addresses come to an interface.

pub mod dad;
pub mod dhcp;
pub mod rarp;

use std::net::Ipv4Addr;

/// Whether an address that a server names can be a host's.
fn is_host(address: Ipv4Addr) -> bool {
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_broadcast())
}

/// The prefix of an address without a mask (RFC 950 2.1).
const fn class_prefix(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..128 => 8,
        128..192 => 16,
        _ => 24,
    }
}
