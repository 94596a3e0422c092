//! Source routes: the routers that a sender has its packets pass (RFC 791 3.1, RFC 1122 3.2.1.8).
//!
//! Owns the two options' octets, and what a route is on its way there and back. Whether one is taken is for `ip` and the
//! stack's configuration.
//!
//! ```text
//! +--------+--------+--------+---------//--------+
//! |  kind  | length | pointer|     addresses     |     kind 131: loose, 137: strict
//! +--------+--------+--------+---------//--------+
//! ```
//!
//! A packet is addressed to the router that comes next; the pointer says which of the addresses is the one after it. Each
//! router puts its own address where the one was that it takes: behind the last, the addresses are the way back.

use std::net::Ipv4Addr;

use smallvec::SmallVec;

use super::{IpOption, Options, option_kind};
use crate::error::{SocketError, SocketResult};

/// The routers that packets to an IPv4 destination pass, in order (RFC 791 3.1).
///
/// ```
/// use std::net::Ipv4Addr;
/// use tidewire::wire::ipv4::SourceRoute;
///
/// let hops = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 1, 1)];
/// let route = SourceRoute::loose(&hops)?;
/// assert_eq!(route.hops(), hops);
/// # Ok::<(), tidewire::error::SocketError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SourceRoute {
    is_strict: bool,
    hops: SmallVec<[Ipv4Addr; Self::MAX_HOPS]>,
}

impl SourceRoute {
    /// Most routers that a header has room for.
    pub const MAX_HOPS: usize = 9;

    /// A loose route: between those named, packets go as they would anyway.
    ///
    /// # Errors
    /// `InvalidInput` without a hop, for more than [`Self::MAX_HOPS`], and for addresses that no router can have.
    pub fn loose(hops: &[Ipv4Addr]) -> SocketResult<Self> {
        Self::new(false, hops)
    }

    /// A strict route: each hop is on a network of the one before.
    ///
    /// # Errors
    /// As [`Self::loose`].
    pub fn strict(hops: &[Ipv4Addr]) -> SocketResult<Self> {
        Self::new(true, hops)
    }

    fn new(is_strict: bool, hops: &[Ipv4Addr]) -> SocketResult<Self> {
        if hops.is_empty() || hops.len() > Self::MAX_HOPS || !hops.iter().all(is_host) {
            return Err(SocketError::InvalidInput);
        }
        let hops = SmallVec::from_slice(hops);
        Ok(Self { is_strict, hops })
    }

    /// The routers, in order.
    pub fn hops(&self) -> &[Ipv4Addr] {
        &self.hops
    }

    /// Whether packets pass no other routers.
    pub const fn is_strict(&self) -> bool {
        self.is_strict
    }

    /// Where packets are sent first, which stands in the header as their destination.
    pub fn first_hop(&self) -> Ipv4Addr {
        self.hops[0]
    }

    /// Octets of [`Self::options`].
    pub fn options_len(&self) -> usize {
        (ADDRESSES_AT + self.hops.len() * 4).next_multiple_of(4)
    }

    /// The options of a packet that goes this way to `destination`.
    pub fn options(&self, destination: Ipv4Addr) -> Options {
        let kind = if self.is_strict {
            option_kind::STRICT_SOURCE_ROUTE
        } else {
            option_kind::LOOSE_SOURCE_ROUTE
        };
        let len = ADDRESSES_AT + self.hops.len() * 4;
        let mut octets = SmallVec::from_slice(&[kind, len as u8, FIRST_POINTER]);
        for hop in self.hops[1..].iter().chain([&destination]) {
            octets.extend_from_slice(&hop.octets());
        }
        octets.resize(len.next_multiple_of(4), option_kind::END);
        Options(octets)
    }
}

/// A source route option as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceivedRoute {
    /// Other routers are still to be passed.
    Unfinished,
    /// It has been followed to its end; back goes this one, or the straight way if nobody was named.
    Completed(Option<SourceRoute>),
}

impl ReceivedRoute {
    /// The route among the options of a received packet. `None` if there is none; [`Self::Unfinished`] for one that makes no
    /// sense, or of several.
    pub fn of(options: &Options) -> Option<Self> {
        let mut routes = options.iter().flatten().filter(IpOption::is_source_route);
        let first = routes.next()?;
        Some(match routes.next() {
            // RFC 1122 3.2.1.8 (c): one at most.
            Some(_) => Self::Unfinished,
            None => Self::read(&first),
        })
    }

    fn read(option: &IpOption<'_>) -> Self {
        let Some((&pointer, addresses)) = option.value.split_first() else {
            return Self::Unfinished;
        };
        let is_at_end = usize::from(pointer) > ADDRESSES_AT + addresses.len();
        if !is_at_end || !addresses.len().is_multiple_of(4) {
            return Self::Unfinished;
        }
        let (addresses, _) = addresses.as_chunks::<4>();
        let hops = addresses.iter().rev().map(|&octets| octets.into());
        let hops: SmallVec<[Ipv4Addr; SourceRoute::MAX_HOPS]> = hops.collect();
        if hops.is_empty() {
            return Self::Completed(None);
        }
        let is_strict = option.kind == option_kind::STRICT_SOURCE_ROUTE;
        SourceRoute::new(is_strict, &hops)
            .map_or(Self::Unfinished, |back| Self::Completed(Some(back)))
    }
}

impl IpOption<'_> {
    /// Whether the sender routes the packet itself.
    pub const fn is_source_route(&self) -> bool {
        matches!(
            self.kind,
            option_kind::LOOSE_SOURCE_ROUTE | option_kind::STRICT_SOURCE_ROUTE
        )
    }
}

/// The final destination of a packet whose options are `octets`, as far as a source route says it: in a packet of ours that
/// is quoted, the header's destination is the router it had come to.
pub(crate) fn final_destination(octets: &[u8]) -> Option<Ipv4Addr> {
    let options = Options::new(octets).ok()?;
    let route = options.iter().flatten().find(IpOption::is_source_route)?;
    let (&pointer, addresses) = route.value.split_first()?;
    let is_at_end = usize::from(pointer) > ADDRESSES_AT + addresses.len();
    let last: &[u8; 4] = addresses.last_chunk().filter(|_| !is_at_end)?;
    Some((*last).into())
}

/// Whether a host or router may have that address.
fn is_host(address: &Ipv4Addr) -> bool {
    !address.is_unspecified()
        && !address.is_broadcast()
        && !address.is_multicast()
        && !address.is_loopback()
}

/// Octets of the option before its addresses.
const ADDRESSES_AT: usize = 3;
/// What the pointer is at first: it counts octets from 1.
const FIRST_POINTER: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const HOPS: [Ipv4Addr; 3] = [
        Ipv4Addr::new(10, 0, 0, 1),
        Ipv4Addr::new(10, 0, 1, 1),
        Ipv4Addr::new(10, 0, 2, 1),
    ];
    const DESTINATION: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

    /// What a router does with a packet's destination and options (RFC 791 3.1).
    fn pass(own: Ipv4Addr, destination: &mut Ipv4Addr, options: &mut Options) {
        let at = usize::from(options.0[2]) - 1;
        let next: [u8; 4] = options.0[at..at + 4].try_into().unwrap();
        options.0[at..at + 4].copy_from_slice(&own.octets());
        options.0[2] += 4;
        *destination = next.into();
    }

    #[test]
    fn route_is_followed_and_comes_back_reversed() {
        // RFC 1122 3.2.1.8 (c): the return route of a completed one has its hops in reverse.
        for make in [SourceRoute::loose, SourceRoute::strict] {
            let route = make(&HOPS).unwrap();
            let mut options = route.options(DESTINATION);
            assert_eq!(options.octets().len(), route.options_len());
            let mut destination = route.first_hop();
            for hop in HOPS {
                assert_eq!(destination, hop);
                assert_eq!(ReceivedRoute::of(&options), Some(ReceivedRoute::Unfinished));
                assert_eq!(final_destination(options.octets()), Some(DESTINATION));
                pass(hop, &mut destination, &mut options);
            }
            assert_eq!(destination, DESTINATION);
            assert_eq!(final_destination(options.octets()), None);
            let back: Vec<_> = HOPS.into_iter().rev().collect();
            let back = make(&back).unwrap();
            let received = ReceivedRoute::of(&options);
            assert_eq!(received, Some(ReceivedRoute::Completed(Some(back))));
        }
    }

    #[test]
    fn nine_hops_fill_a_header() {
        let hops = [HOPS[0]; SourceRoute::MAX_HOPS + 1];
        let most = SourceRoute::loose(&hops[1..]).unwrap();
        assert_eq!(most.options(DESTINATION).octets().len(), 40);
        assert_eq!(SourceRoute::loose(&hops), Err(SocketError::InvalidInput));
        assert_eq!(SourceRoute::loose(&[]), Err(SocketError::InvalidInput));
        let nobody = [Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1)];
        for hop in nobody {
            assert_eq!(SourceRoute::strict(&[hop]), Err(SocketError::InvalidInput));
        }
    }

    #[test]
    fn nonsense_is_not_followed() {
        let of = |octets: &[u8]| ReceivedRoute::of(&Options::new(octets).unwrap());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[94, 4, 0, 0]), None);
        // No pointer; a pointer within; half an address; an address of nobody's; two routes.
        for octets in [
            &[131, 2, 0, 0][..],
            &[131, 7, 4, 10, 0, 0, 1],
            &[131, 5, 8, 10, 0],
            &[137, 7, 8, 224, 0, 0, 1],
            &[131, 7, 8, 10, 0, 0, 1, 137, 7, 8, 10, 0, 0, 2],
        ] {
            assert_eq!(of(octets), Some(ReceivedRoute::Unfinished), "{octets:?}");
        }
        assert_eq!(of(&[131, 3, 4]), Some(ReceivedRoute::Completed(None)));
    }
}
