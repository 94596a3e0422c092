//! Walking IPv6 extension headers (RFC 8200 4).
//!
//! Owns the way from the IPv6 header to the transport (or to a fragment) and what an end node must refuse on it: where
//! a hop-by-hop header may stand, unknown options and their action bits, routing headers with segments left. Leaves to
//! `ip` the reassembly of fragments and the sending of parameter problems.
//!
//! ```text
//!  IPv6 ─▶ hop-by-hop ─▶ destination options ─▶ routing ─▶ fragment ─▶ destination options ─▶ TCP
//!          └────────── in any order and number (RFC 8200 4.1), the first one apart ──────┘
//! ```
//!
//! The work is bounded whatever arrives: by the octets, by [`MAX_HEADERS`] and [`MAX_OPTIONS`].

use crate::wire::icmpv6::parameter_problem;
use crate::wire::ipv6::fragment::Fragment;
use crate::wire::{ParseError, ipv6, protocol};

/// Most extension headers of a packet; more are discarded, as RFC 8504 5.3 permits. RFC 8200 4.1 lists six of use.
pub const MAX_HEADERS: usize = 16;
/// Most options of a header, padding not counted; more are discarded (RFC 8504 5.3), as Linux does.
pub const MAX_OPTIONS: usize = 8;
/// Most octets of padding in a row; more are discarded (RFC 8504 5.3): alignment never needs them.
pub const MAX_PADDING: usize = 7;

/// Where a walk begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The Next Header value that says what comes first.
    pub next_header: u8,
    /// Where that value stands, in octets from the packet's first.
    pub pointer: usize,
    /// Where the walk begins, in octets from the packet's first.
    pub offset: usize,
}

impl Start {
    /// Behind the fixed header.
    pub const fn behind(header: &ipv6::Header) -> Self {
        Self {
            next_header: header.next_header,
            pointer: 6,
            offset: ipv6::HEADER_LEN,
        }
    }
}

/// What a walk found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The first Next Header value that is no extension header: the transport, [`protocol::NO_NEXT_HEADER`], or
    /// something unknown. With a fragment, what its fragmentable part begins with.
    pub protocol: u8,
    /// Where that value stands, in octets from the packet's first: what a parameter problem about it points at.
    pub pointer: usize,
    /// Octets of extension headers, counted from the start of the walk, a fragment header included.
    pub len: usize,
    /// Set for a fragment, behind whose header the walk ends. An atomic one is walked through (RFC 6946 4).
    pub fragment: Option<Fragment>,
}

/// Why a packet goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainError {
    /// To be discarded silently: cut short, beyond the limits, or by the wish of an option (action bits 01).
    Discard(ParseError),
    /// To be discarded and answered with an ICMPv6 parameter problem.
    ParameterProblem {
        /// The code ([`parameter_problem`]).
        code: u8,
        /// The octet at fault, counted from the packet's first.
        pointer: usize,
        /// To be answered even when the packet was for a multicast address (action bits 10; RFC 4443 2.4 (e.3)).
        to_multicast: bool,
    },
}

/// Walks the extension headers in `octets`, which begin at `start`.
///
/// # Errors
/// See [`ChainError`].
pub fn walk(start: Start, octets: &[u8]) -> Result<Chain, ChainError> {
    let mut chain = Chain {
        protocol: start.next_header,
        pointer: start.pointer,
        len: 0,
        fragment: None,
    };
    for _ in 0..=MAX_HEADERS {
        let position = start.offset + chain.len;
        let rest = octets.get(chain.len..).unwrap_or_default();
        let header_len = match chain.protocol {
            protocol::HOP_BY_HOP if position != ipv6::HEADER_LEN => {
                // RFC 8200 4: a Next Header of 0 anywhere but in the IPv6 header is as good as unknown.
                return Err(ChainError::ParameterProblem {
                    code: parameter_problem::UNRECOGNIZED_NEXT_HEADER,
                    pointer: chain.pointer,
                    to_multicast: false,
                });
            }
            protocol::HOP_BY_HOP | protocol::DESTINATION_OPTIONS => {
                let header = whole_header(rest)?;
                check_options(header, position)?;
                header.len()
            }
            protocol::ROUTING => {
                let header = whole_header(rest)?;
                check_routing(header, position)?;
                header.len()
            }
            protocol::FRAGMENT => {
                let (fragment, len) = Fragment::parse(rest).map_err(ChainError::Discard)?;
                chain.fragment = (!fragment.is_atomic()).then_some(fragment);
                len
            }
            _ => return Ok(chain),
        };
        chain.protocol = rest[0];
        chain.pointer = position;
        chain.len += header_len;
        if chain.fragment.is_some() {
            return Ok(chain);
        }
    }
    Err(ChainError::Discard(ParseError::Malformed))
}

/// What a router looks at (RFC 8200 4): the hop-by-hop options header that `octets` begin with, behind the IPv6 header.
///
/// # Errors
/// See [`ChainError`].
pub fn check_hop_by_hop(octets: &[u8]) -> Result<(), ChainError> {
    check_options(whole_header(octets)?, ipv6::HEADER_LEN)
}

/// Whether a first fragment holds all headers up to the transport's, as it must: `octets` are its fragmentable part,
/// which begins with `next_header`. If it does not, it deserves a parameter problem of code
/// [`parameter_problem::INCOMPLETE_HEADER_CHAIN`] (RFC 8200 4.5): filters look into the first fragment only.
pub fn holds_header_chain(next_header: u8, octets: &[u8]) -> bool {
    let mut next_header = next_header;
    let mut rest = octets;
    for _ in 0..=MAX_HEADERS {
        let len = match next_header {
            protocol::HOP_BY_HOP
            | protocol::DESTINATION_OPTIONS
            | protocol::ROUTING
            | protocol::FRAGMENT => match whole_header(rest) {
                Ok(header) => header.len(),
                Err(_) => return false,
            },
            protocol::NO_NEXT_HEADER => return true,
            protocol::TCP => return rest.len() >= 20,
            protocol::UDP | protocol::ICMPV6 => return rest.len() >= 8,
            protocol::SCTP => return rest.len() >= 12,
            _ => return !rest.is_empty(),
        };
        next_header = rest[0];
        rest = &rest[len..];
    }
    false
}

/// The extension header at the front of `octets`, by its length field: 8-octet units, the first not counted. (The
/// same octet of a fragment header is reserved and sent as 0, which gives the right 8.)
fn whole_header(octets: &[u8]) -> Result<&[u8], ChainError> {
    let truncated = ChainError::Discard(ParseError::Truncated);
    let units = octets.get(1).ok_or(truncated)?;
    octets.get(..(usize::from(*units) + 1) * 8).ok_or(truncated)
}

/// Looks through the options of a hop-by-hop or destination options header at `position` (RFC 8200 4.2).
///
/// No option means anything to a host here yet; all that are known besides padding may be skipped, and their action
/// bits say so.
fn check_options(header: &[u8], position: usize) -> Result<(), ChainError> {
    let malformed = ChainError::Discard(ParseError::Malformed);
    let mut at = 2;
    let mut options = 0;
    let mut padding = 0;
    while let Some(&kind) = header.get(at) {
        let len = if kind == PAD_1 {
            1
        } else {
            let value_len = header.get(at + 1).ok_or(malformed)?;
            2 + usize::from(*value_len)
        };
        if at + len > header.len() {
            return Err(malformed);
        }
        if matches!(kind, PAD_1 | PAD_N) {
            padding += len;
        } else {
            padding = 0;
            options += 1;
            check_action(kind, position + at)?;
        }
        if padding > MAX_PADDING || options > MAX_OPTIONS {
            return Err(malformed);
        }
        at += len;
    }
    Ok(())
}

/// What an option that is not known asks for with the two high bits of its kind (RFC 8200 4.2).
fn check_action(kind: u8, pointer: usize) -> Result<(), ChainError> {
    match kind >> 6 {
        0b00 => Ok(()),
        0b01 => Err(ChainError::Discard(ParseError::Malformed)),
        action => Err(ChainError::ParameterProblem {
            code: parameter_problem::UNRECOGNIZED_OPTION,
            pointer,
            to_multicast: action == 0b10,
        }),
    }
}

/// A routing header, of which no type is known: ignored when no segments are left, else refused with a pointer to the
/// type (RFC 8200 4.4). Type 0 is no exception (RFC 5095 3).
fn check_routing(header: &[u8], position: usize) -> Result<(), ChainError> {
    let segments_left = header[3];
    if segments_left == 0 {
        return Ok(());
    }
    Err(ChainError::ParameterProblem {
        code: parameter_problem::ERRONEOUS_FIELD,
        pointer: position + 2,
        to_multicast: false,
    })
}

const PAD_1: u8 = 0;
const PAD_N: u8 = 1;

#[cfg(test)]
mod tests;
