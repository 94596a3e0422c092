//! How addresses and routes come to an interface.
//!
//! ```text
//!  dad                  duplicate address detection, whoever gave the address
//!  dhcp                 IPv4: from a server
//!  router_discovery     IPv6: from routers' advertisements, one machine for an interface, made of
//!    router_solicitation    when routers are asked
//!    router_list            default routers and routes to networks behind routers
//!    prefix_list            what is on the link
//!    prefix_origins         which router advertises which prefix
//!    slaac                  addresses made from prefixes: interface_identifier, temporary_address
//!    expiring_list          DNS servers and search domains
//! ```

pub mod dad;
pub mod dhcp;
pub mod expiring_list;
pub mod interface_identifier;
pub mod prefix_list;
pub mod prefix_origins;
pub mod rarp;
pub mod router_discovery;
pub mod router_list;
pub mod router_solicitation;
pub mod slaac;
pub mod temporary_address;

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::random::Random;
use crate::time::Instant;

/// When a lifetime of so many seconds ends; all ones: never (RFC 4861 4.6.2).
fn end_of_lifetime(now: Instant, seconds: u32) -> Instant {
    if seconds == u32::MAX {
        return Instant::FAR_FUTURE;
    }
    now + Duration::from_secs(seconds.into())
}

/// A time of which [`Instant::FAR_FUTURE`] means that it never comes.
fn if_ever(at: Instant) -> Option<Instant> {
    (at < Instant::FAR_FUTURE).then_some(at)
}

/// A time chosen uniformly.
fn between(random: &mut Random, least: Duration, most: Duration) -> Duration {
    let span = most.saturating_sub(least).as_nanos();
    let chosen = (u128::from(random.next_u64()) * span) >> 64;
    least + Duration::from_nanos(u64::try_from(chosen).unwrap_or(u64::MAX))
}

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
