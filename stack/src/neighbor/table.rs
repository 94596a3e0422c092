//! Where entries are kept: by key, by deadline, by how much they matter, and which are to be asked.
//!
//! Every change goes through [`Table::with`], which keeps the orders right. Two of them are lax, so that using an entry
//! changes nothing else: a timer is moved to an earlier time only (a later deadline is found when the early one fires),
//! and the time of the last use is exact to [`USE_GRANULARITY`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::link::InterfaceId;
use crate::neighbor::entry::{Entry, Rank};
use crate::neighbor::pending::Pending;
use crate::neighbor::{Config, NeighborKey};
use crate::time::Instant;

/// Entries and their orders.
#[derive(Debug)]
pub(super) struct Table<W> {
    slots: BTreeMap<NeighborKey, Slot<W>>,
    timers: BTreeSet<(Instant, NeighborKey)>,
    /// What may go, the first first.
    order: BTreeSet<(Rank, Instant, NeighborKey)>,
    /// Neighbours to be asked.
    asked: BTreeSet<NeighborKey>,
}

#[derive(Debug)]
struct Slot<W> {
    entry: Entry<W>,
    /// Its place in `timers`.
    armed: Option<Instant>,
    /// Its place in `order`.
    place: Option<(Rank, Instant)>,
}

impl<W> Table<W> {
    pub(super) const fn new() -> Self {
        Self {
            slots: BTreeMap::new(),
            timers: BTreeSet::new(),
            order: BTreeSet::new(),
            asked: BTreeSet::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn get(&self, key: NeighborKey) -> Option<&Entry<W>> {
        self.slots.get(&key).map(|slot| &slot.entry)
    }

    /// Who and what waits for a neighbour. With a waiter more it matters more: [`Self::with`] must follow.
    pub(super) fn pending_mut(&mut self, key: NeighborKey) -> Option<&mut Pending<W>> {
        self.slots.get_mut(&key)?.entry.pending_mut()
    }

    /// Changes an entry.
    pub(super) fn with<R>(
        &mut self,
        key: NeighborKey,
        config: &Config,
        change: impl FnOnce(&mut Entry<W>) -> R,
    ) -> Option<R> {
        let slot = self.slots.get_mut(&key)?;
        let result = change(&mut slot.entry);
        if let Some(deadline) = slot.entry.deadline(config)
            && slot.armed.is_none_or(|armed| deadline < armed)
        {
            if let Some(armed) = slot.armed.replace(deadline) {
                self.timers.remove(&(armed, key));
            }
            self.timers.insert((deadline, key));
        }
        let (rank, used) = (slot.entry.rank(), slot.entry.last_used());
        let keeps_place = match (slot.place, rank) {
            (Some((at, since)), Some(rank)) => at == rank && used < since + USE_GRANULARITY,
            (None, None) => true,
            _ => false,
        };
        if !keeps_place {
            let place = rank.map(|rank| (rank, used));
            if let Some((rank, used)) = std::mem::replace(&mut slot.place, place) {
                self.order.remove(&(rank, used, key));
            }
            self.order
                .extend(place.map(|(rank, used)| (rank, used, key)));
        }
        Some(result)
    }

    /// A new entry, whose key must be vacant.
    pub(super) fn insert(&mut self, key: NeighborKey, entry: Entry<W>, config: &Config) {
        let slot = Slot {
            entry,
            armed: None,
            place: None,
        };
        let before = self.slots.insert(key, slot);
        debug_assert!(before.is_none(), "an entry is changed, not replaced");
        self.with(key, config, |_| ());
    }

    pub(super) fn remove(&mut self, key: NeighborKey) -> Option<Entry<W>> {
        let slot = self.slots.remove(&key)?;
        if let Some(armed) = slot.armed {
            self.timers.remove(&(armed, key));
        }
        if let Some((rank, used)) = slot.place {
            self.order.remove(&(rank, used, key));
        }
        self.asked.remove(&key);
        Some(slot.entry)
    }

    /// What goes first when there is no room, of what matters no more than `rank`.
    pub(super) fn first_to_go(&self, rank: Rank) -> Option<NeighborKey> {
        let &(first, _, key) = self.order.first()?;
        (first <= rank).then_some(key)
    }

    /// An entry whose timer fires. It must go through [`Self::with`] or [`Self::remove`] next, which arms it anew.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<NeighborKey> {
        let &(at, key) = self.timers.first().filter(|(at, _)| *at <= now)?;
        self.timers.remove(&(at, key));
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.armed = None;
        }
        Some(key)
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The neighbour is to be asked.
    pub(super) fn ask(&mut self, key: NeighborKey) {
        self.asked.insert(key);
    }

    /// A neighbour to be asked.
    pub(super) fn pop_asked(&mut self) -> Option<NeighborKey> {
        self.asked.pop_first()
    }

    pub(super) fn keys_of(&self, interface: InterfaceId) -> Vec<NeighborKey> {
        self.slots
            .keys()
            .copied()
            .filter(|key| key.interface == interface)
            .collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (NeighborKey, &Entry<W>)> {
        self.slots.iter().map(|(key, slot)| (*key, &slot.entry))
    }
}

/// How exact the time of the last use is when something has to go.
const USE_GRANULARITY: Duration = Duration::from_secs(1);
