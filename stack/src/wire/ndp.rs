//! Neighbor Discovery messages, ICMPv6 types 133 to 137 (RFC 4861 4), from the ICMPv6 header on.
//!
//! Owns the octets of the messages and, in [`option`] and [`dns`], those of their options, and the checks of RFC 4861 6.1, 7.1 and
//! 8.1 that need no more than them. Leaves the checksum, the hop limit and the IP addresses to `neighbor`.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+-------------------------------+
//! |     Type      |   Code (0)    |           Checksum            |
//! +---------------+---------------+-------------------------------+
//! |  flags and reserved; in a router advertisement also           |
//! |  hop limit, flags, router lifetime                            |
//! +---------------------------------------------------------------+
//! |  target (16), in a redirect also destination (16);            |
//! |  in a router advertisement reachable time, retrans timer      |
//! +---------------------------------------------------------------+
//! |  options                                                      |
//! +---------------------------------------------------------------+
//! ```

pub mod dns;
pub mod option;

use std::net::Ipv6Addr;

use crate::wire::ParseError;

pub use option::{NdpOption, Options, RouterPreference};

/// Octets of a router solicitation without options.
pub const ROUTER_SOLICITATION_LEN: usize = 8;
/// Octets of a router advertisement without options.
pub const ROUTER_ADVERTISEMENT_LEN: usize = 16;
/// Octets of a neighbor solicitation or advertisement without options.
pub const NEIGHBOR_LEN: usize = 24;
/// Octets of a redirect without options.
pub const REDIRECT_LEN: usize = 40;
/// The hop limit that every such message has: no router has passed it on (RFC 4861 11.2).
pub const HOP_LIMIT: u8 = 255;

/// ICMPv6 types of Neighbor Discovery.
pub mod kind {
    /// Router solicitation.
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// Router advertisement.
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    /// Neighbor solicitation.
    pub const NEIGHBOR_SOLICITATION: u8 = 135;
    /// Neighbor advertisement.
    pub const NEIGHBOR_ADVERTISEMENT: u8 = 136;
    /// Redirect.
    pub const REDIRECT: u8 = 137;
}

/// The all-nodes group of a link (RFC 4291 2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The all-routers group of a link (RFC 4291 2.7.1).
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// The solicited-node group of an address: ff02::1:ff00:0/104 and its lower 24 bits (RFC 4291 2.7.1).
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let low = address.to_bits() & 0x00ff_ffff;
    Ipv6Addr::from_bits(SOLICITED_NODE | low)
}

/// Whether the address is some address's solicited-node group.
pub const fn is_solicited_node(address: Ipv6Addr) -> bool {
    address.to_bits() & !0x00ff_ffff == SOLICITED_NODE
}

/// Neighbor Solicitation (RFC 4861 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NeighborSolicitation {
    /// Whose link-layer address is asked for; never a group.
    pub target: Ipv6Addr,
}

/// Neighbor Advertisement (RFC 4861 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NeighborAdvertisement {
    /// The sender is a router.
    pub router: bool,
    /// The answer to a solicitation.
    pub solicited: bool,
    /// Replaces what is cached.
    pub overrides: bool,
    /// Whose link-layer address this is about; never a group.
    pub target: Ipv6Addr,
}

/// Router Advertisement (RFC 4861 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouterAdvertisement {
    /// The hop limit to send with; 0 says nothing.
    pub current_hop_limit: u8,
    /// Addresses come by DHCPv6.
    pub managed: bool,
    /// Other configuration comes by DHCPv6.
    pub other_configuration: bool,
    /// How much the sender is preferred to other default routers (RFC 4191 2.2); the reserved value counts as medium.
    pub preference: RouterPreference,
    /// Seconds that the sender serves as a default router; 0: it does not.
    pub router_lifetime: u16,
    /// Milliseconds a neighbour counts as reachable; 0 says nothing.
    pub reachable_time: u32,
    /// Milliseconds between solicitations; 0 says nothing.
    pub retrans_timer: u32,
}

/// Redirect (RFC 4861 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Redirect {
    /// The better first hop, or the destination itself where that is a neighbour.
    pub target: Ipv6Addr,
    /// Whose packets should go there; never a group.
    pub destination: Ipv6Addr,
}

/// A message without its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// Type 133 (RFC 4861 4.1).
    RouterSolicitation,
    /// Type 134.
    RouterAdvertisement(RouterAdvertisement),
    /// Type 135.
    NeighborSolicitation(NeighborSolicitation),
    /// Type 136.
    NeighborAdvertisement(NeighborAdvertisement),
    /// Type 137.
    Redirect(Redirect),
}

impl Message {
    /// Reads a message, which is all of `octets`, and its options.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] for fewer octets than the type has or an option that is cut short,
    /// [`ParseError::Malformed`] for another type, a code other than 0, a group as the target (in a redirect, as the
    /// destination), and an option of length 0 (RFC 4861 6.1.1, 6.1.2, 7.1.1, 7.1.2, 8.1).
    pub fn parse(octets: &[u8]) -> Result<(Self, Options<'_>), ParseError> {
        let &[kind, code, _, _, a, b, c, d] = octets
            .first_chunk::<ROUTER_SOLICITATION_LEN>()
            .ok_or(ParseError::Truncated)?;
        if code != 0 {
            return Err(ParseError::Malformed);
        }
        let (message, len) = match kind {
            kind::ROUTER_SOLICITATION => (Self::RouterSolicitation, ROUTER_SOLICITATION_LEN),
            kind::ROUTER_ADVERTISEMENT => {
                let timer = |at| be_u32(octets, at);
                let advertisement = RouterAdvertisement {
                    current_hop_limit: a,
                    managed: b & MANAGED != 0,
                    other_configuration: b & OTHER_CONFIGURATION != 0,
                    preference: RouterPreference::from_octet(b).unwrap_or_default(),
                    router_lifetime: u16::from_be_bytes([c, d]),
                    reachable_time: timer(8)?,
                    retrans_timer: timer(12)?,
                };
                (
                    Self::RouterAdvertisement(advertisement),
                    ROUTER_ADVERTISEMENT_LEN,
                )
            }
            kind::NEIGHBOR_SOLICITATION => {
                let target = unicast(octets, 8)?;
                (
                    Self::NeighborSolicitation(NeighborSolicitation { target }),
                    NEIGHBOR_LEN,
                )
            }
            kind::NEIGHBOR_ADVERTISEMENT => {
                let advertisement = NeighborAdvertisement {
                    router: a & ROUTER != 0,
                    solicited: a & SOLICITED != 0,
                    overrides: a & OVERRIDE != 0,
                    target: unicast(octets, 8)?,
                };
                (Self::NeighborAdvertisement(advertisement), NEIGHBOR_LEN)
            }
            kind::REDIRECT => {
                let redirect = Redirect {
                    target: unicast(octets, 8)?,
                    destination: unicast(octets, 24)?,
                };
                (Self::Redirect(redirect), REDIRECT_LEN)
            }
            _ => return Err(ParseError::Malformed),
        };
        let options = Options::parse(octets.get(len..).ok_or(ParseError::Truncated)?)?;
        Ok((message, options))
    }

    /// Octets that [`Self::emit`] writes.
    pub const fn encoded_len(&self) -> usize {
        match self {
            Self::RouterSolicitation => ROUTER_SOLICITATION_LEN,
            Self::RouterAdvertisement(_) => ROUTER_ADVERTISEMENT_LEN,
            Self::NeighborSolicitation(_) | Self::NeighborAdvertisement(_) => NEIGHBOR_LEN,
            Self::Redirect(_) => REDIRECT_LEN,
        }
    }

    /// Writes the message without options into the front of `buffer`, the checksum as 0.
    ///
    /// # Panics
    /// When `buffer` is shorter than [`Self::encoded_len`].
    pub fn emit(&self, buffer: &mut [u8]) {
        let buffer = &mut buffer[..self.encoded_len()];
        buffer.fill(0);
        match self {
            Self::RouterSolicitation => buffer[0] = kind::ROUTER_SOLICITATION,
            Self::RouterAdvertisement(advertisement) => {
                buffer[0] = kind::ROUTER_ADVERTISEMENT;
                buffer[4] = advertisement.current_hop_limit;
                buffer[5] = flag(advertisement.managed, MANAGED)
                    | flag(advertisement.other_configuration, OTHER_CONFIGURATION)
                    | advertisement.preference.octet();
                buffer[6..8].copy_from_slice(&advertisement.router_lifetime.to_be_bytes());
                buffer[8..12].copy_from_slice(&advertisement.reachable_time.to_be_bytes());
                buffer[12..].copy_from_slice(&advertisement.retrans_timer.to_be_bytes());
            }
            Self::NeighborSolicitation(solicitation) => {
                buffer[0] = kind::NEIGHBOR_SOLICITATION;
                buffer[8..].copy_from_slice(&solicitation.target.octets());
            }
            Self::NeighborAdvertisement(advertisement) => {
                buffer[0] = kind::NEIGHBOR_ADVERTISEMENT;
                buffer[4] = flag(advertisement.router, ROUTER)
                    | flag(advertisement.solicited, SOLICITED)
                    | flag(advertisement.overrides, OVERRIDE);
                buffer[8..].copy_from_slice(&advertisement.target.octets());
            }
            Self::Redirect(redirect) => {
                buffer[0] = kind::REDIRECT;
                buffer[8..24].copy_from_slice(&redirect.target.octets());
                buffer[24..].copy_from_slice(&redirect.destination.octets());
            }
        }
    }
}

const SOLICITED_NODE: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
const MANAGED: u8 = 0x80;
const OTHER_CONFIGURATION: u8 = 0x40;

const fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

fn be_u32(octets: &[u8], at: usize) -> Result<u32, ParseError> {
    let field = octets.get(at..).and_then(<[u8]>::first_chunk);
    field
        .map(|field| u32::from_be_bytes(*field))
        .ok_or(ParseError::Truncated)
}

fn unicast(octets: &[u8], at: usize) -> Result<Ipv6Addr, ParseError> {
    let field: &[u8; 16] = octets
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .ok_or(ParseError::Truncated)?;
    let address = Ipv6Addr::from(*field);
    if address.is_multicast() {
        return Err(ParseError::Malformed);
    }
    Ok(address)
}

#[cfg(test)]
mod tests;
