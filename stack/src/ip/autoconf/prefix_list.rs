//! The Prefix List: which addresses are on the link, as far as routers say (RFC 4861 5.1, 6.3.4, 6.3.5).

use std::net::{IpAddr, Ipv6Addr};

use crate::ip::Cidr;
use crate::ip::autoconf::{end_of_lifetime, if_ever};
use crate::time::Instant;
use crate::wire::ndp::option::PrefixInformation;

/// A prefix that is on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnLinkPrefix {
    /// The prefix.
    pub prefix: Cidr,
    /// When it ends, unless a router names it again.
    pub until: Instant,
}

/// The on-link prefixes of an interface.
#[derive(Clone, Debug)]
pub struct PrefixList {
    most: usize,
    prefixes: Vec<OnLinkPrefix>,
}

impl PrefixList {
    /// An empty list of at most that many.
    pub const fn new(most: usize) -> Self {
        Self {
            most,
            prefixes: Vec::new(),
        }
    }

    /// A prefix information option; whether the prefixes are others now. A prefix that finds no room is ignored: packets to it
    /// go to a router, which redirects them.
    pub fn handle_prefix(&mut self, now: Instant, information: &PrefixInformation) -> bool {
        if !information.on_link {
            // It says nothing of what is on the link, not even that it is not.
            return false;
        }
        let Some(prefix) = network_of(information.prefix, information.prefix_len) else {
            return false;
        };
        let until = end_of_lifetime(now, information.valid_lifetime);
        let known = self
            .prefixes
            .iter()
            .position(|known| known.prefix == prefix);
        match known {
            Some(at) if information.valid_lifetime == 0 => {
                self.prefixes.remove(at);
                true
            }
            Some(at) => {
                self.prefixes[at].until = until;
                false
            }
            None if information.valid_lifetime == 0 || self.prefixes.len() >= self.most => false,
            None => {
                self.prefixes.push(OnLinkPrefix { prefix, until });
                true
            }
        }
    }

    /// Forgets what has ended; whether the prefixes are others now.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let before = self.prefixes.len();
        self.prefixes.retain(|known| now < known.until);
        self.prefixes.len() != before
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let ends = self.prefixes.iter().map(|known| known.until);
        ends.min().and_then(if_ever)
    }

    /// The prefixes, in the order they were named first.
    pub fn prefixes(&self) -> &[OnLinkPrefix] {
        &self.prefixes
    }
}

/// A prefix without what is behind its length; `None` for those that no router has a say about: link-local ones (RFC 4861
/// 6.3.4), groups, and the loopback address.
pub(super) fn network_of(prefix: Ipv6Addr, prefix_len: u8) -> Option<Cidr> {
    let cidr = Cidr::new(prefix.into(), prefix_len)?.network();
    let IpAddr::V6(network) = cidr.address() else {
        return None;
    };
    let is_reserved = network.is_unicast_link_local() && prefix_len >= 10
        || network.is_multicast() && prefix_len >= 8
        || network.is_loopback();
    (!is_reserved).then_some(cidr)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn information(prefix: &str, prefix_len: u8, valid_lifetime: u32) -> PrefixInformation {
        PrefixInformation {
            prefix_len,
            on_link: true,
            autonomous: false,
            valid_lifetime,
            preferred_lifetime: 0,
            prefix: prefix.parse().unwrap(),
        }
    }

    fn listed(list: &PrefixList) -> Vec<String> {
        let prefixes = list.prefixes().iter();
        prefixes.map(|known| known.prefix.to_string()).collect()
    }

    /// RFC 4861 6.3.4: the four rules for prefixes with the L flag.
    #[test]
    fn prefixes_come_stay_and_go_with_their_lifetimes() {
        let now = Instant::from_millis(1000);
        let mut list = PrefixList::new(8);
        assert!(!list.handle_prefix(now, &information("2001:db8::", 64, 0)));
        assert!(list.handle_prefix(now, &information("2001:db8::7", 64, 100)));
        assert!(list.handle_prefix(now, &information("2001:db8::", 32, u32::MAX)));
        assert!(!list.handle_prefix(now, &information("fe80::", 64, 100)));
        assert!(!list.handle_prefix(now, &information("ff02::", 16, 100)));
        assert_eq!(listed(&list), ["2001:db8::/64", "2001:db8::/32"]);
        // No two-hour rule here: the last word counts.
        assert!(!list.handle_prefix(now, &information("2001:db8::", 64, 10)));
        assert_eq!(list.poll_timeout(), Some(now + Duration::from_secs(10)));
        assert!(!list.handle_timeout(now + Duration::from_millis(9_999)));
        assert!(list.handle_timeout(now + Duration::from_secs(10)));
        assert_eq!(listed(&list), ["2001:db8::/32"]);
        assert_eq!(list.poll_timeout(), None, "for ever");
        assert!(list.handle_prefix(now, &information("2001:db8::", 32, 0)));
        assert_eq!(listed(&list), [""; 0]);
    }

    /// RFC 4861 6.3.4: "the on-link flag set to zero conveys no information".
    #[test]
    fn a_prefix_without_the_flag_changes_nothing() {
        let now = Instant::ZERO;
        let mut list = PrefixList::new(8);
        list.handle_prefix(now, &information("2001:db8::", 64, 100));
        let silent = PrefixInformation {
            on_link: false,
            ..information("2001:db8::", 64, 0)
        };
        assert!(!list.handle_prefix(now, &silent));
        assert_eq!(listed(&list), ["2001:db8::/64"]);
    }

    #[test]
    fn the_list_is_bounded() {
        let now = Instant::ZERO;
        let mut list = PrefixList::new(8);
        for number in 0..1000u16 {
            let prefix = format!("2001:db8:{number:x}::");
            list.handle_prefix(now, &information(&prefix, 64, 100));
        }
        assert_eq!(list.prefixes().len(), 8);
        assert_eq!(
            listed(&list)[0],
            "2001:db8::/64",
            "those that were first stay"
        );
    }
}
