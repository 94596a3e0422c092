//! From addresses and ports to sockets: connections by four-tuple, listeners and datagram sockets by local port.
//!
//! Every look-up is a hash and a short list, never a scan over sockets. Addresses here are what packets carry: an
//! IPv4 peer of a dual-stack socket appears as IPv4.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use siphasher::sip::SipHasher13;

use crate::random::HashKey;

/// The two ends of a connection, seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Our address and port.
    pub local: SocketAddr,
    /// The peer's address and port.
    pub remote: SocketAddr,
}

impl Hash for Tuple {
    /// Each packet's look-up does this: whole words, half the instructions of what would be derived. Zones are left to
    /// the comparison.
    fn hash<H: Hasher>(&self, state: &mut H) {
        for address in [self.local.ip(), self.remote.ip()] {
            match address {
                IpAddr::V4(v4) => state.write_u32(v4.to_bits()),
                IpAddr::V6(v6) => state.write(&v6.octets()),
            }
        }
        state.write_u32(u32::from(self.local.port()) << 16 | u32::from(self.remote.port()));
    }
}

/// A keyed hasher, so that nobody outside can aim at one bucket, and the same seed gives the same table.
#[derive(Clone, Debug)]
pub struct KeyedState(HashKey);

impl KeyedState {
    /// Hashes with `key`.
    pub const fn new(key: HashKey) -> Self {
        Self(key)
    }
}

impl BuildHasher for KeyedState {
    type Hasher = SipHasher13;
    fn build_hasher(&self) -> SipHasher13 {
        self.0.hasher()
    }
}

/// Room that a table keeps, in connections, however few it holds: about 100 KiB.
const KEPT_CAPACITY: usize = 1024;

/// Connections by four-tuple.
#[derive(Debug)]
pub struct ConnectionTable<T>(HashMap<Tuple, T, KeyedState>);

impl<T> ConnectionTable<T> {
    /// An empty table.
    pub fn new(key: HashKey) -> Self {
        Self(HashMap::with_hasher(KeyedState::new(key)))
    }

    /// The connection of this tuple.
    pub fn find(&self, tuple: &Tuple) -> Option<&T> {
        self.0.get(tuple)
    }

    /// Inserts unless the tuple is taken; gives the value back if so.
    pub fn insert_if_vacant(&mut self, tuple: Tuple, value: T) -> Result<(), T> {
        match self.0.entry(tuple) {
            Entry::Occupied(_) => Err(value),
            Entry::Vacant(place) => {
                place.insert(value);
                Ok(())
            }
        }
    }

    /// Removes and gives the connection of this tuple.
    pub fn remove(&mut self, tuple: &Tuple) -> Option<T> {
        let removed = self.0.remove(tuple);
        // A table that once was large does not stay so. The share below which it shrinks leaves each octet moved paid
        // for by a removal.
        if self.0.capacity() > 4 * KEPT_CAPACITY && self.0.len() < self.0.capacity() / 8 {
            self.0.shrink_to(KEPT_CAPACITY.max(2 * self.0.len()));
        }
        removed
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in the order of their tuples, so that what follows is the same in every run.
    pub fn sorted(&self) -> Vec<&T> {
        let mut all: Vec<_> = self.0.iter().collect();
        all.sort_by_key(|(tuple, _)| (tuple.local, tuple.remote));
        all.into_iter().map(|(_, value)| value).collect()
    }
}

/// What a bound socket takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Local address and port; unspecified takes every address of its family.
    pub local: SocketAddr,
    /// A connected datagram socket's only peer.
    pub remote: Option<SocketAddr>,
    /// An IPv6 wildcard that takes IPv4 as well.
    pub dual_stack: bool,
}

impl Bound {
    /// How well a packet fits: `None` not at all, else higher is more specific (Linux's `compute_score`).
    fn score(&self, local: SocketAddr, remote: SocketAddr) -> Option<u32> {
        let wildcard = self.local.ip().is_unspecified();
        let family = self.local.is_ipv4() == local.is_ipv4();
        let address = match (wildcard, family) {
            (true, true) => 1,
            (true, false) if self.dual_stack && local.is_ipv4() => 0,
            (false, true) if is_same_address(self.local, local) => 4,
            _ => return None,
        };
        match self.remote {
            None => Some(address),
            Some(peer) if is_same_address(peer, remote) && peer.port() == remote.port() => {
                Some(address + 8)
            }
            Some(_) => None,
        }
    }
}

/// Whether both are one address: with a zone on both sides, of one link (RFC 4007).
fn is_same_address(a: SocketAddr, b: SocketAddr) -> bool {
    let zone = |address| match address {
        SocketAddr::V6(v6) => v6.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    let (zone_a, zone_b) = (zone(a), zone(b));
    a.ip() == b.ip() && (zone_a == zone_b || zone_a == 0 || zone_b == 0)
}

/// Listeners or datagram sockets by local port.
#[derive(Debug)]
pub struct BoundTable<T> {
    ports: HashMap<u16, Vec<(u64, Bound, T)>, KeyedState>,
    next_id: u64,
}

/// A socket's place in a [`BoundTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundKey {
    port: u16,
    id: u64,
}

impl BoundKey {
    /// A number that no other socket of the table has ever had.
    pub const fn number(self) -> u64 {
        self.id
    }
}

impl<T> BoundTable<T> {
    /// An empty table.
    pub fn new(key: HashKey) -> Self {
        Self {
            ports: HashMap::with_hasher(KeyedState::new(key)),
            next_id: 0,
        }
    }

    /// Adds a socket.
    pub fn insert(&mut self, bound: Bound, value: T) -> BoundKey {
        let key = BoundKey {
            port: bound.local.port(),
            id: self.next_id,
        };
        self.next_id += 1;
        self.ports
            .entry(key.port)
            .or_default()
            .push((key.id, bound, value));
        key
    }

    /// Changes what a socket takes (`connect` on UDP); its port stays.
    pub fn update(&mut self, key: BoundKey, bound: Bound) {
        if let Some(entry) = self
            .ports
            .get_mut(&key.port)
            .and_then(|list| list.iter_mut().find(|(id, ..)| *id == key.id))
        {
            entry.1 = bound;
        }
    }

    /// Removes a socket.
    pub fn remove(&mut self, key: BoundKey) -> Option<T> {
        let list = self.ports.get_mut(&key.port)?;
        let index = list.iter().position(|(id, ..)| *id == key.id)?;
        let (_, _, value) = list.remove(index);
        if list.is_empty() {
            self.ports.remove(&key.port);
        }
        Some(value)
    }

    /// The socket that fits a packet best. Among equals (`SO_REUSEPORT`) `spread`, a hash of the flow, decides.
    pub fn find(&self, local: SocketAddr, remote: SocketAddr, spread: u64) -> Option<&T> {
        let list = self.ports.get(&local.port())?;
        let best = list
            .iter()
            .filter_map(|(_, bound, _)| bound.score(local, remote))
            .max()?;
        let equals = |entry: &&(u64, Bound, T)| entry.1.score(local, remote) == Some(best);
        let count = list.iter().filter(equals).count() as u64;
        let chosen = if count == 1 { 0 } else { spread % count };
        list.iter()
            .filter(equals)
            .nth(chosen as usize)
            .map(|(_, _, value)| value)
    }

    /// Every socket that a multicast or broadcast packet is for, in the order of their binds.
    pub fn find_all(&self, local: SocketAddr, remote: SocketAddr) -> impl Iterator<Item = &T> {
        let list = self
            .ports
            .get(&local.port())
            .map(Vec::as_slice)
            .unwrap_or_default();
        list.iter()
            .filter(move |(_, bound, _)| bound.score(local, remote).is_some())
            .map(|(_, _, value)| value)
    }

    /// All of them, in the order of their binds.
    pub fn sorted(&self) -> Vec<&T> {
        let mut all: Vec<_> = self.ports.values().flatten().collect();
        all.sort_by_key(|(id, ..)| *id);
        all.into_iter().map(|(_, _, value)| value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn a_table_that_once_was_large_gives_its_memory_back() {
        let mut table = ConnectionTable::new(HashKey::new(&mut Random::new(Some(1))));
        let tuple = |port| Tuple {
            local: ([127, 0, 0, 1], port).into(),
            remote: ([127, 0, 0, 2], 80).into(),
        };
        for port in 0..20_000 {
            table.insert_if_vacant(tuple(port), port).unwrap();
        }
        assert!(table.0.capacity() >= 20_000);
        for port in (0..20_000).rev() {
            assert_eq!(table.remove(&tuple(port)), Some(port));
            let room = table.0.capacity();
            assert!(
                room <= 4 * KEPT_CAPACITY || table.len() >= room / 8,
                "{room}"
            );
            assert!(port == 0 || table.find(&tuple(port - 1)).is_some());
        }
        assert!(table.is_empty() && table.0.capacity() <= 4 * KEPT_CAPACITY);
    }

    #[test]
    fn the_most_specific_socket_wins() {
        let mut table = BoundTable::new(HashKey::new(&mut Random::new(Some(1))));
        let bound = |local: &str, remote: Option<&str>, dual_stack| Bound {
            local: local.parse().unwrap(),
            remote: remote.map(|remote| remote.parse().unwrap()),
            dual_stack,
        };
        table.insert(bound("[::]:7", None, true), "dual");
        table.insert(bound("0.0.0.0:7", None, false), "any");
        table.insert(bound("10.0.0.1:7", None, false), "address");
        table.insert(bound("10.0.0.1:7", Some("10.0.0.9:99"), false), "connected");
        table.insert(bound("[fe80::1%2]:9", None, false), "first link");
        let peer = bound("[::]:10", Some("[fe80::9%2]:99"), false);
        table.insert(peer, "peer of the first link");
        let cases = [
            ("10.0.0.1:7", "10.0.0.9:99", Some("connected")),
            ("10.0.0.1:7", "10.0.0.9:98", Some("address")),
            ("10.0.0.2:7", "10.0.0.9:99", Some("any")),
            ("[fd00::1]:7", "[fd00::2]:1", Some("dual")),
            ("10.0.0.1:8", "10.0.0.9:99", None),
            // A link-local address is another one on another link.
            ("[fe80::1%2]:9", "[fe80::9%2]:1", Some("first link")),
            ("[fe80::1%3]:9", "[fe80::9%3]:1", None),
            (
                "[fe80::1%2]:10",
                "[fe80::9%2]:99",
                Some("peer of the first link"),
            ),
            ("[fe80::1%2]:10", "[fe80::9%3]:99", None),
        ];
        for (local, remote, expected) in cases {
            let found = table
                .find(local.parse().unwrap(), remote.parse().unwrap(), 0)
                .copied();
            assert_eq!(found, expected, "{local} from {remote}");
        }
    }
}
