//! First hops that routers have redirected packets to (RFC 792, RFC 1122 3.2.2.2).
//!
//! Owned here: how many are remembered, for how long, and when one is forgotten. Left to others: whether a redirect is
//! to be believed, and routes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::link::InterfaceId;
use crate::time::Instant;

/// Another first hop towards one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The interface whose router said so.
    pub interface: InterfaceId,
    /// Who takes packets to the destination: a router on that interface's link, or the destination itself.
    pub gateway: IpAddr,
}

/// What routers have said, by destination: network redirects count for the host alone (RFC 1122 3.2.2.2).
#[derive(Debug, Default)]
pub struct RedirectTable {
    entries: BTreeMap<IpAddr, Entry>,
    ends: BTreeSet<(Instant, IpAddr)>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    redirect: Redirect,
    until: Instant,
}

impl RedirectTable {
    /// Remembers a redirect; what ends first goes, where there are too many.
    pub fn insert(&mut self, now: Instant, destination: IpAddr, redirect: Redirect) {
        self.remove(destination);
        if self.entries.len() >= MAX_REDIRECTS
            && let Some(&(_, first)) = self.ends.first()
        {
            self.remove(first);
        }
        let until = now + LIFETIME;
        self.entries.insert(destination, Entry { redirect, until });
        self.ends.insert((until, destination));
    }

    /// The redirect of packets to a destination, which would leave through that interface.
    pub fn lookup(&self, now: Instant, interface: InterfaceId, to: IpAddr) -> Option<Redirect> {
        let entry = self.entries.get(&to)?;
        let holds = now < entry.until && entry.redirect.interface == interface;
        holds.then_some(entry.redirect)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A first hop takes no more packets: what was redirected to it is not any more (RFC 1122 3.3.1.4). Whether that
    /// changes anything.
    pub fn forget_gateway(&mut self, gone: Redirect) -> bool {
        let via_it = self.entries.iter().filter(|(_, e)| e.redirect == gone);
        let destinations: Vec<_> = via_it.map(|(destination, _)| *destination).collect();
        for destination in &destinations {
            self.remove(*destination);
        }
        !destinations.is_empty()
    }

    /// Forgets what is too old; whether there was any.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let before = self.entries.len();
        while let Some(&(until, destination)) = self.ends.first()
            && until <= now
        {
            self.remove(destination);
        }
        self.entries.len() < before
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.ends.first().map(|(until, _)| *until)
    }

    fn remove(&mut self, destination: IpAddr) {
        if let Some(entry) = self.entries.remove(&destination) {
            self.ends.remove(&(entry.until, destination));
        }
    }
}

/// Destinations whose redirects are remembered.
const MAX_REDIRECTS: usize = 256;
/// How long one is remembered: Linux's 300 s. RFC 1122 names no time, but wants routes that are of no use to end.
const LIFETIME: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: InterfaceId = InterfaceId(2);

    fn host(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0xc000_0200 + n).into()
    }

    fn via(n: u32) -> Redirect {
        Redirect {
            interface: LINK,
            gateway: host(n),
        }
    }

    #[test]
    fn a_redirect_holds_for_its_destination_and_interface_and_time() {
        let mut table = RedirectTable::default();
        let now = Instant::from_millis(1000);
        assert!(table.is_empty());
        table.insert(now, host(1), via(9));
        assert_eq!(table.lookup(now, LINK, host(1)), Some(via(9)));
        assert_eq!(table.lookup(now, LINK, host(2)), None);
        assert_eq!(table.lookup(now, InterfaceId(3), host(1)), None);
        // The last one counts.
        table.insert(now, host(1), via(8));
        assert_eq!(table.lookup(now, LINK, host(1)), Some(via(8)));
        let end = now + LIFETIME;
        assert_eq!(table.poll_timeout(), Some(end));
        assert_eq!(table.lookup(end, LINK, host(1)), None);
        assert!(table.handle_timeout(end) && !table.handle_timeout(end));
        assert!(table.is_empty());
    }

    #[test]
    fn redirects_are_bounded_and_go_with_their_gateway() {
        let mut table = RedirectTable::default();
        for n in 0..100_000 {
            let now = Instant::from_millis(n.into());
            table.insert(now, host(n), via(n % 2));
            assert!(table.entries.len() <= MAX_REDIRECTS);
            assert_eq!(table.entries.len(), table.ends.len());
        }
        let now = Instant::from_millis(100_000);
        assert_eq!(table.lookup(now, LINK, host(99_999)), Some(via(1)));
        // RFC 1122 3.3.1.4: a dead gateway.
        assert!(table.forget_gateway(via(1)) && !table.forget_gateway(via(1)));
        assert_eq!(table.entries.len(), MAX_REDIRECTS / 2);
        assert_eq!(table.ends.len(), MAX_REDIRECTS / 2);
        assert_eq!(table.lookup(now, LINK, host(99_999)), None);
        assert_eq!(table.lookup(now, LINK, host(99_998)), Some(via(0)));
    }
}
