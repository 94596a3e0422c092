//! Which router has advertised which prefix, for the choice of source addresses (RFC 6724 5, rule 5.5).
//!
//! Owned here: pairs of a prefix and a router, each for as long as that router says that the prefix is valid, whether or not
//! the router is still used. Left to others: what a prefix is good for (`prefix_list`, `slaac`), and the choice itself
//! (`ip::source_address`).

use std::net::Ipv6Addr;

use crate::ip::Cidr;
use crate::ip::autoconf::prefix_list::network_of;
use crate::ip::autoconf::{end_of_lifetime, if_ever};
use crate::time::Instant;
use crate::wire::ndp::option::PrefixInformation;

/// A prefix that a router has advertised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixOrigin {
    /// The prefix.
    pub prefix: Cidr,
    /// By whom: its link-local address.
    pub router: Ipv6Addr,
    /// When it ends, unless that router names it again.
    pub until: Instant,
}

/// The prefixes of an interface's routers.
#[derive(Clone, Debug)]
pub struct PrefixOrigins {
    most: usize,
    origins: Vec<PrefixOrigin>,
}

impl PrefixOrigins {
    /// None yet, and at most that many pairs.
    pub const fn new(most: usize) -> Self {
        Self {
            most,
            origins: Vec::new(),
        }
    }

    /// A prefix information option, whatever its flags: a prefix that is neither on the link nor for addresses is still one
    /// that the router takes packets from (RFC 8028 3.1). Whether the pairs are others now. What finds no room is ignored:
    /// the choice is made without it.
    pub fn handle_prefix(
        &mut self,
        now: Instant,
        router: Ipv6Addr,
        information: &PrefixInformation,
    ) -> bool {
        let Some(prefix) = network_of(information.prefix, information.prefix_len) else {
            return false;
        };
        let until = end_of_lifetime(now, information.valid_lifetime);
        let mut known = self.origins.iter();
        let known = known.position(|known| known.prefix == prefix && known.router == router);
        match known {
            Some(at) if information.valid_lifetime == 0 => {
                self.origins.remove(at);
                true
            }
            Some(at) => {
                self.origins[at].until = until;
                false
            }
            None if information.valid_lifetime == 0 || self.origins.len() >= self.most => false,
            None => {
                self.origins.push(PrefixOrigin {
                    prefix,
                    router,
                    until,
                });
                true
            }
        }
    }

    /// Forgets what has ended; whether the pairs are others now.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let before = self.origins.len();
        self.origins.retain(|known| now < known.until);
        self.origins.len() != before
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let ends = self.origins.iter().map(|known| known.until);
        ends.min().and_then(if_ever)
    }

    /// The pairs, in the order they were heard first.
    pub fn origins(&self) -> &[PrefixOrigin] {
        &self.origins
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const FIRST: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    const SECOND: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

    fn information(prefix: &str, valid_lifetime: u32) -> PrefixInformation {
        PrefixInformation {
            prefix_len: 64,
            on_link: false,
            autonomous: false,
            valid_lifetime,
            preferred_lifetime: 0,
            prefix: prefix.parse().unwrap(),
        }
    }

    fn routers(origins: &PrefixOrigins) -> Vec<Ipv6Addr> {
        let origins = origins.origins().iter();
        origins.map(|known| known.router).collect()
    }

    /// RFC 6724 5, rule 5.5: what each router says of a prefix counts for that router alone.
    #[test]
    fn each_router_ends_its_own_prefix_only() {
        let now = Instant::ZERO;
        let mut origins = PrefixOrigins::new(8);
        assert!(!origins.handle_prefix(now, FIRST, &information("2001:db8::", 0)));
        assert!(!origins.handle_prefix(now, FIRST, &information("fe80::", 100)));
        assert!(origins.handle_prefix(now, FIRST, &information("2001:db8::", 100)));
        assert!(origins.handle_prefix(now, SECOND, &information("2001:db8::7", 50)));
        assert!(!origins.handle_prefix(now, SECOND, &information("2001:db8::", 60)));
        assert_eq!(routers(&origins), [FIRST, SECOND]);
        assert_eq!(origins.poll_timeout(), Some(now + Duration::from_secs(60)));
        assert!(!origins.handle_timeout(now + Duration::from_secs(59)));
        assert!(origins.handle_timeout(now + Duration::from_secs(60)));
        assert_eq!(routers(&origins), [FIRST]);
        assert!(!origins.handle_prefix(now, SECOND, &information("2001:db8::", 0)));
        assert!(origins.handle_prefix(now, FIRST, &information("2001:db8::", 0)));
        assert_eq!(origins.poll_timeout(), None);
    }

    #[test]
    fn the_pairs_are_bounded() {
        let mut origins = PrefixOrigins::new(8);
        for number in 0..1000u16 {
            let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, number);
            origins.handle_prefix(Instant::ZERO, router, &information("2001:db8::", u32::MAX));
        }
        assert_eq!(origins.origins().len(), 8);
        assert_eq!(origins.poll_timeout(), None, "for ever");
    }
}
