//! Which port a hardware address was last seen on (IEEE 802.1D 7.9, the filtering database).
//!
//! Times are nanoseconds, given with every call. The table is bounded: when it is full of addresses that are not old
//! yet, no new one is learned and packets for it are flooded, so a station that makes up addresses costs others speed,
//! not memory.

use std::collections::BTreeMap;

use crate::mac::MacAddress;

/// Addresses and their ports.
#[derive(Debug)]
pub(super) struct AddressTable {
    entries: BTreeMap<MacAddress, Entry>,
    limit: usize,
    /// Nanoseconds.
    ageing: u64,
    /// No entry is old before this, so that a full table is not searched for old ones with every packet.
    sweep_at: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    port: usize,
    seen: u64,
}

impl AddressTable {
    pub(super) fn new(limit: usize, ageing: u64) -> Self {
        Self {
            entries: BTreeMap::new(),
            limit,
            ageing,
            sweep_at: 0,
        }
    }

    /// Notes where a station is; `false` if there is no room for it.
    pub(super) fn learn(&mut self, now: u64, address: MacAddress, port: usize) -> bool {
        let entry = Entry { port, seen: now };
        if let Some(known) = self.entries.get_mut(&address) {
            *known = entry;
            return true;
        }
        if self.entries.len() >= self.limit {
            self.sweep(now);
        }
        if self.entries.len() >= self.limit {
            return false;
        }
        self.entries.insert(address, entry);
        true
    }

    /// Where a station was seen, unless that is too long ago.
    pub(super) fn port_of(&self, now: u64, address: MacAddress) -> Option<usize> {
        let entry = self.entries.get(&address)?;
        (now < self.expiry(entry)).then_some(entry.port)
    }

    /// Forgets all stations of a port.
    pub(super) fn forget_port(&mut self, port: usize) {
        self.entries.retain(|_, entry| entry.port != port);
    }

    /// All that is not too old, by address.
    pub(super) fn known(&self, now: u64) -> impl Iterator<Item = (MacAddress, usize)> {
        self.entries
            .iter()
            .filter(move |(_, entry)| now < self.expiry(entry))
            .map(|(address, entry)| (*address, entry.port))
    }

    fn expiry(&self, entry: &Entry) -> u64 {
        entry.seen.saturating_add(self.ageing)
    }

    /// Removes what is too old, if anything can be.
    fn sweep(&mut self, now: u64) {
        if now < self.sweep_at {
            return;
        }
        let ageing = self.ageing;
        self.entries
            .retain(|_, entry| now < entry.seen.saturating_add(ageing));
        let oldest = self.entries.values().map(|entry| entry.seen).min();
        self.sweep_at = oldest.unwrap_or(now).saturating_add(ageing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> MacAddress {
        MacAddress([2, 0, 0, 0, 0, n])
    }

    #[test]
    fn a_station_is_where_it_was_seen_last_until_that_is_old() {
        let mut table = AddressTable::new(10, 100);
        assert_eq!(table.port_of(0, address(1)), None);
        assert!(table.learn(0, address(1), 7));
        assert!(table.learn(50, address(1), 8));
        assert_eq!(table.port_of(149, address(1)), Some(8));
        assert_eq!(table.port_of(150, address(1)), None);
    }

    #[test]
    fn a_full_table_learns_again_when_something_in_it_is_old() {
        let mut table = AddressTable::new(2, 100);
        assert!(table.learn(0, address(1), 1));
        assert!(table.learn(60, address(2), 2));
        assert!(!table.learn(99, address(3), 3));
        assert!(table.learn(99, address(2), 4), "known ones may move");
        assert!(table.learn(100, address(3), 3));
        assert!(!table.learn(101, address(4), 4));
        let known: Vec<_> = table.known(101).collect();
        assert_eq!(known, [(address(2), 4), (address(3), 3)]);
    }

    #[test]
    fn a_port_takes_its_stations_with_it() {
        let mut table = AddressTable::new(10, 100);
        for n in 0..6 {
            table.learn(0, address(n), usize::from(n % 2));
        }
        table.forget_port(1);
        assert_eq!(table.known(0).count(), 3);
        assert_eq!(table.port_of(0, address(1)), None);
    }
}
