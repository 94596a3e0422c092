//! Neighbours on whom more depends than packets that wait for them: routers, and the targets of redirects.
//!
//! RFC 4861 6.3.6 prefers routers that may be reachable, and 7.3.3 has the next hop chosen anew when one is not. So the
//! cache tells of each of these, once, when it stops answering and when it answers again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use crate::link::InterfaceId;
use crate::neighbor::NeighborKey;

/// What became of a watched neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchedChange {
    /// It does not answer (RFC 4861 7.3.3).
    Unreachable,
    /// It answers again.
    Reachable,
    /// It says that it is no router, or no more (RFC 4861 7.2.5).
    NotRouter,
}

/// The watched neighbours, and what is to be told of them.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Whether each may be reachable.
    neighbors: BTreeMap<NeighborKey, bool>,
    changes: VecDeque<(NeighborKey, WatchedChange)>,
}

impl Watch {
    /// Watches these neighbours of an interface from now on, and no others of it.
    pub(super) fn set(&mut self, interface: InterfaceId, addresses: &BTreeSet<IpAddr>) {
        self.neighbors
            .retain(|key, _| key.interface != interface || addresses.contains(&key.address));
        for &address in addresses {
            let key = NeighborKey { interface, address };
            self.neighbors.entry(key).or_insert(true);
        }
    }

    pub(super) fn contains(&self, key: NeighborKey) -> bool {
        self.neighbors.contains_key(&key)
    }

    /// It did not answer.
    pub(super) fn lost(&mut self, key: NeighborKey) {
        if let Some(is_reachable) = self.neighbors.get_mut(&key) {
            // Told each time: who did not answer again is to come last among those who did not.
            *is_reachable = false;
            self.tell(key, WatchedChange::Unreachable);
        }
    }

    /// Its address on the link is known.
    pub(super) fn found(&mut self, key: NeighborKey) {
        if let Some(is_reachable) = self.neighbors.get_mut(&key)
            && !std::mem::replace(is_reachable, true)
        {
            self.tell(key, WatchedChange::Reachable);
        }
    }

    /// It has ceased to be a router.
    pub(super) fn not_router(&mut self, key: NeighborKey) {
        if self.contains(key) {
            self.tell(key, WatchedChange::NotRouter);
        }
    }

    pub(super) fn poll(&mut self) -> Option<(NeighborKey, WatchedChange)> {
        self.changes.pop_front()
    }

    /// The last of a neighbour's changes is what counts.
    fn tell(&mut self, key: NeighborKey, change: WatchedChange) {
        let is_other = |(of, told): &(NeighborKey, WatchedChange)| {
            *of != key || *told == WatchedChange::NotRouter
        };
        self.changes.retain(is_other);
        if !self.changes.contains(&(key, change)) {
            self.changes.push_back((key, change));
        }
    }
}
