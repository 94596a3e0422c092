//! Times that differ from link to link: what routers advertise (RFC 4861 6.3.2, 6.3.4).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::link::InterfaceId;
use crate::neighbor::{Config, NeighborKey};

/// What routers say of a link's times. `None`: nothing, and what was configured holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkTimes {
    /// BaseReachableTime.
    pub reachable_time: Option<Duration>,
    /// RetransTimer.
    pub retrans_timer: Option<Duration>,
}

/// The configuration of each link's cache entries.
#[derive(Debug)]
pub(super) struct Configs {
    common: Config,
    /// Of IPv6 neighbours, where routers have said something: these are Neighbor Discovery's variables, not ARP's.
    links: BTreeMap<InterfaceId, Config>,
}

impl Configs {
    pub(super) const fn new(common: Config) -> Self {
        Self {
            common,
            links: BTreeMap::new(),
        }
    }

    /// What holds for all.
    pub(super) const fn common(&self) -> &Config {
        &self.common
    }

    /// What holds for one neighbour.
    pub(super) fn of(&self, key: NeighborKey) -> &Config {
        if key.address.is_ipv4() || self.links.is_empty() {
            return &self.common;
        }
        self.links.get(&key.interface).unwrap_or(&self.common)
    }

    pub(super) fn set(&mut self, interface: InterfaceId, times: LinkTimes) {
        if times == LinkTimes::default() {
            self.links.remove(&interface);
            return;
        }
        let mut config = self.common.clone();
        config.reachable_time = times.reachable_time.unwrap_or(config.reachable_time);
        config.retrans_timer = times.retrans_timer.unwrap_or(config.retrans_timer);
        self.links.insert(interface, config);
    }
}
