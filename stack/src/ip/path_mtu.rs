//! What ICMP said about the MTU of paths (RFC 1191, RFC 8201).
//!
//! Owned here: one value per destination, its limits and its age. Left to others: whether the message was about a
//! packet of ours (RFC 5927), and what a transport does with a smaller MTU.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::time::Instant;

/// The smallest MTU that every IPv6 link has, in octets (RFC 8200 5).
pub const MIN_MTU_V6: usize = 1280;

/// The smallest path MTU for IPv4 that is believed, in octets: Linux's `min_pmtu`, 512 octets of payload and a
/// header with some options. A forged report can slow a connection down no further (RFC 5927 7.1).
pub const MIN_PATH_MTU_V4: usize = 552;

/// How long a path MTU below that of the interface is believed by default (RFC 1191 6.3, RFC 8201 5.3: 10 minutes).
pub const LIFETIME: Duration = Duration::from_secs(600);

/// The least of that (RFC 8201 4: MUST NOT probe a larger MTU less than 5 minutes after a message).
const LEAST_LIFETIME: Duration = Duration::from_secs(300);

/// How many destinations are remembered by default; of more the one that would be forgotten first makes room.
pub const DEFAULT_CAPACITY: usize = 4096;

/// Path MTUs by destination.
#[derive(Clone, Debug)]
pub struct PathMtuCache {
    entries: BTreeMap<IpAddr, Entry>,
    /// The same entries by the time of their end.
    by_expiry: BTreeSet<(Instant, IpAddr)>,
    capacity: usize,
    lifetime: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    mtu: usize,
    expires: Instant,
}

impl PathMtuCache {
    /// An empty cache for at most `capacity` destinations (at least one), whose entries end after `lifetime`. No attempt to
    /// send more may come within 5 minutes of a message (RFC 8201 4), so it is not less.
    pub fn new(capacity: usize, lifetime: Duration) -> Self {
        Self {
            entries: BTreeMap::new(),
            by_expiry: BTreeSet::new(),
            capacity: capacity.max(1),
            lifetime: lifetime.max(LEAST_LIFETIME),
        }
    }

    /// Notes that packets to `destination` may have at most `mtu` octets, IP header included, as
    /// [`too_big_mtu`] took it from a message. Gives the path's MTU if that has become smaller.
    ///
    /// A message can only lower the value (RFC 8201 4); it rises when the entry ends. One that says the same again makes it
    /// last (as Linux).
    pub fn update(&mut self, now: Instant, destination: IpAddr, mtu: usize) -> Option<usize> {
        let known = self.lookup(now, destination);
        if known.is_some_and(|known| known < mtu) {
            return None;
        }
        self.forget(destination);
        if self.entries.len() >= self.capacity
            && let Some(&(_, oldest)) = self.by_expiry.first()
        {
            self.forget(oldest);
        }
        let expires = now + self.lifetime;
        self.entries.insert(destination, Entry { mtu, expires });
        self.by_expiry.insert((expires, destination));
        (known != Some(mtu)).then_some(mtu)
    }

    /// The path's MTU in octets, if it is known to be smaller than the interface's.
    pub fn lookup(&self, now: Instant, destination: IpAddr) -> Option<usize> {
        if self.entries.is_empty() {
            return None;
        }
        let entry = self.entries.get(&destination)?;
        (entry.expires > now).then_some(entry.mtu)
    }

    /// Forgets one destination, for instance when a larger packet got through (RFC 4821, RFC 8899).
    pub fn forget(&mut self, destination: IpAddr) {
        if let Some(entry) = self.entries.remove(&destination) {
            self.by_expiry.remove(&(entry.expires, destination));
        }
    }

    /// When the next entry ends, for [`Self::handle_timeout`]. Only to free memory: [`Self::lookup`] looks at the time
    /// itself.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let (expires, _) = *self.by_expiry.first()?;
        (expires < Instant::FAR_FUTURE).then_some(expires)
    }

    /// Forgets what is too old.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(expires, destination)) = self.by_expiry.first() {
            if expires > now {
                break;
            }
            self.forget(destination);
        }
    }

    /// How many destinations are remembered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Default for PathMtuCache {
    fn default() -> Self {
        Self::new(DEFAULT_CAPACITY, LIFETIME)
    }
}

/// Whether an IPv4 packet for a path with this MTU in octets is sent with DF set. At the floor the path may carry less
/// than is believed, so routers must be free to cut (Linux locks such a path's MTU and clears DF).
pub const fn sets_dont_fragment(path_mtu: usize) -> bool {
    path_mtu > MIN_PATH_MTU_V4
}

/// The path MTU that a Packet Too Big (ICMPv6) or Fragmentation Needed (ICMP) message means. `reported` is its MTU
/// field, `packet_len` the length of our packet that it quotes; all in octets. `None`: the message is to be ignored.
///
/// - IPv6: a value under 1280 is discarded (RFC 8201 4), as is one that our packet did not exceed.
/// - IPv4: routers that predate RFC 1191 report 0; then it is the next plateau below the packet (RFC 1191 5, 7). A
///   value below [`MIN_PATH_MTU_V4`] counts as that.
pub fn too_big_mtu(is_ipv6: bool, reported: u32, packet_len: usize) -> Option<usize> {
    let reported = usize::try_from(reported).unwrap_or(usize::MAX);
    if is_ipv6 {
        return (reported >= MIN_MTU_V6 && reported < packet_len.max(MIN_MTU_V6 + 1))
            .then_some(reported);
    }
    let mtu = match reported {
        0 => plateau_below(packet_len),
        // A value that the packet did not exceed is no reason to refuse it. RFC 1191 5 knows one cause, a router that
        // got the quoted length wrong (4.2BSD); the plateau covers that as well.
        reported if reported >= packet_len => plateau_below(packet_len),
        reported => reported,
    };
    Some(mtu.max(MIN_PATH_MTU_V4))
}

/// The plateau below `len` (RFC 1191 7, table 7-1).
fn plateau_below(len: usize) -> usize {
    let below = PLATEAUS.iter().find(|&&plateau| plateau < len);
    below.copied().unwrap_or(68)
}

const PLATEAUS: [usize; 11] = [
    65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const NOW: Instant = Instant::from_millis(1000);

    #[test]
    fn reported_mtus_are_bounded_and_plateaus_fill_in() {
        let v4 = |reported, len| too_big_mtu(false, reported, len);
        let v6 = |reported, len| too_big_mtu(true, reported, len);
        let table = [
            (v4(1400, 1500), Some(1400), "as reported"),
            (v4(0, 1500), Some(1492), "RFC 1191 5: no value reported"),
            (v4(0, 1492), Some(1006), "RFC 1191 5: strictly below"),
            (v4(0, 65535), Some(32000), "RFC 1191 7, table 7-1"),
            (v4(0, 600), Some(552), "the floor"),
            (v4(68, 1500), Some(552), "RFC 5927 7.1: the floor"),
            (v4(1500, 1500), Some(1492), "not below the packet"),
            (v4(70000, 1500), Some(1492), "not below the packet"),
            (v6(1280, 1500), Some(1280), "the least IPv6 has"),
            (v6(1279, 1500), None, "RFC 8201 4: discard"),
            (v6(0, 1500), None, "RFC 8201 4: discard"),
            (v6(1500, 1500), None, "the packet was not larger"),
            (v6(u32::MAX, 1500), None, "the packet was not larger"),
        ];
        for (got, expected, why) in table {
            assert_eq!(got, expected, "{why}");
        }
    }

    #[test]
    fn at_the_floor_routers_may_fragment() {
        assert!(sets_dont_fragment(1500));
        assert!(sets_dont_fragment(553));
        assert_eq!(
            too_big_mtu(false, 296, 1500).map(sets_dont_fragment),
            Some(false)
        );
    }

    #[test]
    fn a_report_lowers_the_mtu_and_never_raises_it() {
        // RFC 8201 4
        let mut cache = PathMtuCache::default();
        let destination = ip("2001:db8::1");
        assert_eq!(cache.lookup(NOW, destination), None);
        assert_eq!(cache.update(NOW, destination, 1400), Some(1400));
        assert_eq!(cache.update(NOW, destination, 1450), None);
        assert_eq!(cache.update(NOW, destination, 1400), None);
        assert_eq!(cache.lookup(NOW, destination), Some(1400));
        assert_eq!(cache.update(NOW, destination, 1300), Some(1300));
        assert_eq!(cache.lookup(NOW, ip("2001:db8::2")), None);
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn an_entry_ends_after_ten_minutes() {
        // RFC 8201 5.3
        let mut cache = PathMtuCache::default();
        cache.update(NOW, ip("192.0.2.1"), 1400);
        let end = NOW + LIFETIME;
        assert_eq!(cache.poll_timeout(), Some(end));
        let just_before = end - Duration::from_nanos(1);
        assert_eq!(cache.lookup(just_before, ip("192.0.2.1")), Some(1400));
        assert_eq!(cache.lookup(end, ip("192.0.2.1")), None);
        cache.handle_timeout(just_before);
        assert_eq!(cache.len(), 1);
        cache.handle_timeout(end);
        assert!(cache.is_empty());
        assert_eq!(cache.poll_timeout(), None);
    }

    #[test]
    fn a_report_of_the_same_mtu_makes_it_last() {
        // RFC 8201 5.3: the time counts from the last message.
        let mut cache = PathMtuCache::default();
        let destination = ip("192.0.2.1");
        cache.update(NOW, destination, 1400);
        let later = NOW + LIFETIME / 2;
        assert_eq!(cache.update(later, destination, 1400), None);
        assert_eq!(cache.update(later, destination, 1450), None);
        assert_eq!(cache.lookup(NOW + LIFETIME, destination), Some(1400));
        assert_eq!(cache.poll_timeout(), Some(later + LIFETIME));
        assert_eq!(cache.lookup(later + LIFETIME, destination), None);
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn the_lifetime_can_be_changed_but_not_below_five_minutes() {
        // RFC 1191 6.3 wants it to be, "infinity" included; RFC 8201 4: must not be less than 5 minutes.
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let destination = ip("192.0.2.1");
        for (lifetime, ends_after) in [(60, Some(60)), (1, Some(5)), (u64::MAX / 60, None)] {
            let mut cache = PathMtuCache::new(1, minutes(lifetime));
            cache.update(NOW, destination, 1400);
            let last = NOW + minutes(ends_after.unwrap_or(1 << 20)) - Duration::from_nanos(1);
            assert_eq!(cache.lookup(last, destination), Some(1400));
            if let Some(end) = ends_after {
                assert_eq!(cache.lookup(NOW + minutes(end), destination), None);
            }
        }
    }

    #[test]
    fn at_the_limit_the_oldest_makes_room() {
        let mut cache = PathMtuCache::new(2, LIFETIME);
        cache.update(NOW, ip("10.0.0.1"), 1400);
        cache.update(NOW + Duration::from_secs(1), ip("10.0.0.2"), 1400);
        cache.update(NOW + Duration::from_secs(2), ip("10.0.0.1"), 1300);
        cache.update(NOW + Duration::from_secs(3), ip("10.0.0.3"), 1400);
        let later = NOW + Duration::from_secs(4);
        assert_eq!(cache.lookup(later, ip("10.0.0.1")), Some(1300));
        assert_eq!(cache.lookup(later, ip("10.0.0.2")), None);
        assert_eq!(cache.lookup(later, ip("10.0.0.3")), Some(1400));
        assert_eq!(cache.by_expiry.len(), 2);
    }
}
