//! Duplicate address detection: IPv6 (RFC 4862 5.4, RFC 4429) and IPv4 (RFC 5227).
//!
//! Owned here: when to ask whether somebody has an address already, what counts as an answer, IPv4's announcements and
//! its defence. Left to others: giving an interface the address, and taking it away.
//!
//! ```text
//!  Strict      Tentative ──────────────────▶ Assigned          Off   Assigned at once, nothing is sent
//!  Optimistic  Optimistic ─────────────────▶ Assigned
//!                   └── conflict ▶ Duplicate     └── IPv4: conflict ▶ announced again, at most every 10 s,
//!                                      ▲───────────── or given up, as AddressDefense says
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tidewire_netdev::{MacAddress, Packet};

use crate::ip::autoconf::between;
use crate::link::InterfaceId;
use crate::neighbor::Ownership;
use crate::neighbor::ndp::{self, ReceivedAdvertisement, ReceivedSolicitation};
use crate::random::Random;
use crate::time::Instant;
use crate::wire::arp;

/// How careful an interface is with a new address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum DuplicateDetection {
    /// Not at all: it is used at once, and nobody is told (DupAddrDetectTransmits 0).
    Off,
    /// It is used at once and given up when somebody else has it (RFC 4429).
    Optimistic,
    /// It is not used before it is known to be nobody else's (RFC 4862 5.4, RFC 5227 2.1).
    #[default]
    Strict,
}

/// What becomes of an IPv4 address in use that another host uses, too (RFC 5227 2.4). Addresses that nobody was asked
/// about ([`DuplicateDetection::Off`]) are kept without a word, as on Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum AddressDefense {
    /// It is given up at the first packet of the other: rule (a).
    Never,
    /// It is announced once, and given up when the other is heard again within [`Config::defend_interval`]: rule (b),
    /// for addresses that can be had anew.
    Once,
    /// It is kept and announced, once in each [`Config::defend_interval`]: rule (c). The default: configured
    /// addresses do not go away on Linux either, and anybody on the link can forge the two packets that would do it.
    #[default]
    Always,
}

/// An address that was given up, since another host has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LostAddress {
    /// The interface that had it.
    pub interface: InterfaceId,
    /// The address.
    pub address: IpAddr,
    /// Who has it, if that was said.
    pub owner: Option<MacAddress>,
}

/// Where an address is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressState {
    /// Not to be used yet.
    Tentative,
    /// Used, though it may turn out to be somebody else's.
    Optimistic,
    /// Used.
    Assigned,
    /// Somebody else's.
    Duplicate,
}

impl AddressState {
    /// Whether packets to and from the address are sent and taken, and whether those who ask for it get an answer.
    pub const fn ownership(self) -> Ownership {
        match self {
            Self::Tentative | Self::Duplicate => Ownership::None,
            Self::Optimistic => Ownership::Optimistic,
            Self::Assigned => Ownership::Assigned,
        }
    }
}

/// Times and limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// IPv6: solicitations for one address (RFC 4862 5.1 DupAddrDetectTransmits: 1). 0 turns detection off.
    pub dup_addr_detect_transmits: u32,
    /// IPv6: time after each of them (RFC 4861 10 RETRANS_TIMER: 1 s).
    pub retrans_timer: Duration,
    /// IPv6: most time before the first, chosen at random (RFC 4861 10 MAX_RTR_SOLICITATION_DELAY: 1 s). RFC 4862
    /// 5.4.2 has it where many hosts may begin at once; here, as on Linux, it always is, but for optimistic addresses,
    /// which are asked for at once.
    pub max_rtr_solicitation_delay: Duration,
    /// IPv4: most time before the first probe, chosen at random (RFC 5227 1.1 PROBE_WAIT: 1 s).
    pub probe_wait: Duration,
    /// IPv4: probes for one address (RFC 5227 1.1 PROBE_NUM: 3). 0 turns detection off.
    pub probe_num: u32,
    /// IPv4: least time between them (RFC 5227 1.1 PROBE_MIN: 1 s).
    pub probe_min: Duration,
    /// IPv4: most time between them (RFC 5227 1.1 PROBE_MAX: 2 s).
    pub probe_max: Duration,
    /// IPv4: time after the last (RFC 5227 1.1 ANNOUNCE_WAIT: 2 s).
    pub announce_wait: Duration,
    /// IPv4: announcements of one address (RFC 5227 1.1 ANNOUNCE_NUM: 2).
    pub announce_num: u32,
    /// IPv4: time between them (RFC 5227 1.1 ANNOUNCE_INTERVAL: 2 s).
    pub announce_interval: Duration,
    /// IPv4: whether an address in use is defended against others that use it (RFC 5227 2.4).
    pub defense: AddressDefense,
    /// IPv4: least time between two defences of an address (RFC 5227 1.1 DEFEND_INTERVAL: 10 s).
    pub defend_interval: Duration,
    /// IPv4: conflicts on an interface after which new addresses are tried no faster than every
    /// [`Self::rate_limit_interval`] (RFC 5227 1.1 MAX_CONFLICTS: 10).
    pub max_conflicts: u32,
    /// IPv4: see [`Self::max_conflicts`] (RFC 5227 1.1 RATE_LIMIT_INTERVAL: 60 s).
    pub rate_limit_interval: Duration,
    /// Most addresses of all interfaces: 1024.
    pub max_addresses: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dup_addr_detect_transmits: 1,
            retrans_timer: Duration::from_secs(1),
            max_rtr_solicitation_delay: Duration::from_secs(1),
            probe_wait: Duration::from_secs(1),
            probe_num: 3,
            probe_min: Duration::from_secs(1),
            probe_max: Duration::from_secs(2),
            announce_wait: Duration::from_secs(2),
            announce_num: 2,
            announce_interval: Duration::from_secs(2),
            defense: AddressDefense::default(),
            defend_interval: Duration::from_secs(10),
            max_conflicts: 10,
            rate_limit_interval: Duration::from_secs(60),
            max_addresses: 1024,
        }
    }
}

/// A packet to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DadProbe {
    /// Where to send it.
    pub interface: InterfaceId,
    /// What it asks or says.
    pub kind: DadProbeKind,
}

/// What a packet asks or says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DadProbeKind {
    /// Does anybody have this address? (RFC 5227 2.1.1)
    ArpProbe(Ipv4Addr),
    /// This host has this address (RFC 5227 2.3, 2.4).
    ArpAnnouncement(Ipv4Addr),
    /// Does anybody have this address? (RFC 4862 5.4.2)
    NeighborSolicitation(Ipv6Addr),
}

impl DadProbe {
    /// The frame, Ethernet header included; `ours` is the interface's link-layer address.
    pub fn to_packet(&self, ours: MacAddress) -> Packet {
        use crate::neighbor::arp as build;
        let message = match self.kind {
            DadProbeKind::ArpProbe(address) => build::probe(ours, address),
            DadProbeKind::ArpAnnouncement(address) => build::announcement(ours, address),
            DadProbeKind::NeighborSolicitation(target) => {
                return ndp::duplicate_detection(ours, target);
            }
        };
        build::frame(&message, ours, MacAddress::BROADCAST)
    }
}

/// What became of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DadEvent {
    /// It is this host's: to be used from now on, if it was not already.
    Assigned {
        /// The interface.
        interface: InterfaceId,
        /// The address.
        address: IpAddr,
    },
    /// It is somebody else's: not to be used, and to be given up if it was.
    Duplicate {
        /// The interface.
        interface: InterfaceId,
        /// The address.
        address: IpAddr,
        /// Who has it, if that was said.
        owner: Option<MacAddress>,
    },
    /// It is this host's, somebody else uses it too, and it was defended (RFC 5227 2.4 (b), (c)); at most one every
    /// [`Config::defend_interval`].
    Conflict {
        /// The interface.
        interface: InterfaceId,
        /// The address.
        address: IpAddr,
        /// Who uses it.
        owner: MacAddress,
    },
}

/// The table is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyAddresses;

/// The addresses of all interfaces that are checked or defended.
#[derive(Debug)]
pub struct DadTable {
    config: Config,
    random: Random,
    entries: BTreeMap<Key, Entry>,
    timers: BTreeSet<(Instant, Key)>,
    /// What is to be sent, one packet of an address.
    due: BTreeMap<Key, DadProbeKind>,
    events: VecDeque<DadEvent>,
    /// Of IPv4.
    conflicts: BTreeMap<InterfaceId, Conflicts>,
    /// IPv6: RetransTimer where routers have said what it is (RFC 4861 6.3.4, RFC 4862 5.1).
    retrans_timers: BTreeMap<InterfaceId, Duration>,
}

type Key = (InterfaceId, IpAddr);

#[derive(Debug)]
struct Entry {
    mode: DuplicateDetection,
    phase: Phase,
    /// When it was last defended.
    defended: Option<Instant>,
    /// It was found to be ours once, and is used since.
    in_use: bool,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Whether somebody has it is being asked; so often, and the next time or the end is then.
    Probing { sent: u32, next: Instant },
    /// It is ours; this was said so often, and is the next time.
    Announcing { sent: u32, next: Instant },
    /// It is ours.
    Settled,
    /// It is somebody else's.
    Duplicate,
}

/// Conflicts of an interface (RFC 5227 2.1.1).
#[derive(Clone, Copy, Debug, Default)]
struct Conflicts {
    count: u32,
    /// The earliest time for the next new address, once there were too many.
    next_attempt: Instant,
}

impl DadTable {
    /// An empty table.
    pub fn new(config: Config, random: Random) -> Self {
        Self {
            config,
            random,
            entries: BTreeMap::new(),
            timers: BTreeSet::new(),
            due: BTreeMap::new(),
            events: VecDeque::new(),
            conflicts: BTreeMap::new(),
            retrans_timers: BTreeMap::new(),
        }
    }

    /// Begins with an address, anew if it is known already; gives the state it begins in. For
    /// [`AddressState::Assigned`] no [`DadEvent::Assigned`] follows.
    ///
    /// # Errors
    /// [`TooManyAddresses`].
    pub fn add(
        &mut self,
        now: Instant,
        interface: InterfaceId,
        address: IpAddr,
        mode: DuplicateDetection,
    ) -> Result<AddressState, TooManyAddresses> {
        let key = (interface, address);
        self.remove(interface, address);
        if self.entries.len() >= self.config.max_addresses {
            return Err(TooManyAddresses);
        }
        let phase = match address {
            _ if mode == DuplicateDetection::Off => Phase::Settled,
            IpAddr::V4(_) if self.config.probe_num == 0 => Phase::Announcing { sent: 0, next: now },
            IpAddr::V6(_) if self.config.dup_addr_detect_transmits == 0 => Phase::Settled,
            _ => Phase::Probing {
                sent: 0,
                next: self.first_probe(now, key, mode),
            },
        };
        let entry = Entry {
            mode,
            phase,
            defended: None,
            in_use: false,
        };
        let state = entry.state();
        self.entries.insert(key, entry);
        self.set_phase(key, phase);
        Ok(state)
    }

    /// What routers say of the time after a solicitation on an interface; `None`: nothing.
    pub fn set_retrans_timer(&mut self, interface: InterfaceId, timer: Option<Duration>) {
        match timer {
            Some(timer) => self.retrans_timers.insert(interface, timer),
            None => self.retrans_timers.remove(&interface),
        };
    }

    fn retrans_timer(&self, interface: InterfaceId) -> Duration {
        let advertised = self.retrans_timers.get(&interface);
        advertised.copied().unwrap_or(self.config.retrans_timer)
    }

    /// Forgets an address; whether it was known.
    pub fn remove(&mut self, interface: InterfaceId, address: IpAddr) -> bool {
        let key = (interface, address);
        let Some(entry) = self.entries.remove(&key) else {
            return false;
        };
        if let Some(at) = entry.phase.deadline() {
            self.timers.remove(&(at, key));
        }
        self.due.remove(&key);
        true
    }

    /// Forgets all addresses of an interface, and its conflicts.
    pub fn flush_interface(&mut self, interface: InterfaceId) {
        let keys: Vec<Key> = self.entries.keys().copied().collect();
        for (of, address) in keys {
            if of == interface {
                self.remove(of, address);
            }
        }
        self.conflicts.remove(&interface);
    }

    /// The link of an interface has come up, and may be another link now: IPv4 addresses are asked for anew (RFC 5227
    /// 2.1), and used meanwhile, so that connections outlive a cable that was pulled for a moment.
    pub fn handle_link_up(&mut self, now: Instant, interface: InterfaceId) {
        let is_concerned = |(key, entry): &(&Key, &Entry)| {
            key.0 == interface
                && key.1.is_ipv4()
                && entry.mode != DuplicateDetection::Off
                && matches!(entry.phase, Phase::Announcing { .. } | Phase::Settled)
        };
        let concerned = self.entries.iter().filter(is_concerned);
        let concerned: Vec<_> = concerned.map(|(key, entry)| (*key, entry.mode)).collect();
        for (key, mode) in concerned {
            let next = self.first_probe(now, key, mode);
            self.due.remove(&key);
            self.set_phase(key, Phase::Probing { sent: 0, next });
        }
    }

    /// Where an address is on its way; `None` if it is not known here.
    pub fn state(&self, interface: InterfaceId, address: IpAddr) -> Option<AddressState> {
        self.entries.get(&(interface, address)).map(Entry::state)
    }

    /// A received ARP packet, to be shown before the neighbour cache gets it; `ours` is the interface's link-layer
    /// address.
    pub fn handle_arp(
        &mut self,
        now: Instant,
        interface: InterfaceId,
        ours: MacAddress,
        message: &arp::Message,
    ) {
        let owner = message.sender_hardware;
        // RFC 5227 2.1.1: what a link gives back of ours is no conflict.
        if owner == ours || !owner.is_unicast() {
            return;
        }
        let sender = message.sender_protocol;
        if sender.is_unspecified() {
            // Another host probes for the address that we probe for (2.1.1).
            let key = (interface, message.target_protocol.into());
            if message.operation == arp::Operation::Request && self.is_probing(key) {
                self.give_up(key, Some(owner));
            }
            return;
        }
        let key = (interface, sender.into());
        if self.is_probing(key) {
            self.give_up(key, Some(owner));
        } else {
            self.defend(now, key, sender, owner);
        }
    }

    /// A valid neighbor solicitation, to be shown before the neighbour cache gets it.
    ///
    /// Another host that looks for duplicates of a tentative address means to have it; one that asks for the address
    /// from its own is none of our business yet (RFC 4862 5.4.3).
    pub fn handle_solicitation(&mut self, solicitation: &ReceivedSolicitation) {
        let key = (solicitation.interface, solicitation.target.into());
        if solicitation.source.is_unspecified() && self.is_probing(key) {
            self.give_up(key, None);
        }
    }

    /// A valid neighbor advertisement, to be shown before the neighbour cache gets it.
    ///
    /// Whoever advertises a tentative address has it (RFC 4862 5.4.4). One about an address that is ours is left alone,
    /// as on Linux: the RFC does not say what to do, and to give it up would let anybody take it.
    pub fn handle_advertisement(&mut self, advertisement: &ReceivedAdvertisement) {
        let target = advertisement.advertisement.target;
        let key = (advertisement.interface, target.into());
        if self.is_probing(key) {
            self.give_up(key, advertisement.target_link_layer);
        }
    }

    /// Runs what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, key)) = self.timers.first()
            && at <= now
        {
            self.timers.remove(&(at, key));
            let Some(entry) = self.entries.get(&key) else {
                continue;
            };
            let phase = match entry.phase {
                Phase::Probing { sent, .. } => self.probe(now, key, sent),
                Phase::Announcing { sent, .. } => self.announce(now, key, sent),
                phase @ (Phase::Settled | Phase::Duplicate) => phase,
            };
            self.set_phase(key, phase);
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self) -> Option<DadProbe> {
        let ((interface, _), kind) = self.due.pop_first()?;
        Some(DadProbe { interface, kind })
    }

    /// What became of addresses.
    pub fn poll_event(&mut self) -> Option<DadEvent> {
        self.events.pop_front()
    }

    /// When the first question is sent: after a random time, and not too soon after too many conflicts.
    fn first_probe(
        &mut self,
        now: Instant,
        (interface, address): Key,
        mode: DuplicateDetection,
    ) -> Instant {
        let (begin, longest) = match address {
            IpAddr::V4(_) => (self.begin_v4(now, interface), self.config.probe_wait),
            // Nobody may be asked for in its name before detection is through (RFC 4429 3.2): that is not put off.
            IpAddr::V6(_) if mode == DuplicateDetection::Optimistic => (now, Duration::ZERO),
            IpAddr::V6(_) => (now, self.config.max_rtr_solicitation_delay),
        };
        begin + between(&mut self.random, Duration::ZERO, longest)
    }

    /// RFC 5227 2.1.1: after MAX_CONFLICTS one new address per RATE_LIMIT_INTERVAL.
    fn begin_v4(&mut self, now: Instant, interface: InterfaceId) -> Instant {
        match self.conflicts.get_mut(&interface) {
            Some(conflicts) if conflicts.count >= self.config.max_conflicts => {
                let begin = now.max(conflicts.next_attempt);
                conflicts.next_attempt = begin + self.config.rate_limit_interval;
                begin
            }
            _ => now,
        }
    }

    /// Asks once more, or is done with it.
    fn probe(&mut self, now: Instant, key: Key, sent: u32) -> Phase {
        let (interface, address) = key;
        let (total, kind) = match address {
            IpAddr::V4(v4) => (self.config.probe_num, DadProbeKind::ArpProbe(v4)),
            IpAddr::V6(v6) => (
                self.config.dup_addr_detect_transmits,
                DadProbeKind::NeighborSolicitation(v6),
            ),
        };
        if sent < total {
            self.due.insert(key, kind);
            let wait = match address {
                IpAddr::V6(_) => self.retrans_timer(interface),
                IpAddr::V4(_) if sent + 1 == total => self.config.announce_wait,
                IpAddr::V4(_) => between(
                    &mut self.random,
                    self.config.probe_min,
                    self.config.probe_max,
                ),
            };
            return Phase::Probing {
                sent: sent + 1,
                next: now + wait,
            };
        }
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.in_use = true;
        }
        self.events
            .push_back(DadEvent::Assigned { interface, address });
        match address {
            IpAddr::V4(_) => self.announce(now, key, 0),
            IpAddr::V6(_) => Phase::Settled,
        }
    }

    /// Says once more whose the address is (RFC 5227 2.3).
    fn announce(&mut self, now: Instant, key: Key, sent: u32) -> Phase {
        let IpAddr::V4(address) = key.1 else {
            return Phase::Settled;
        };
        if sent >= self.config.announce_num {
            return Phase::Settled;
        }
        self.due.insert(key, DadProbeKind::ArpAnnouncement(address));
        if sent + 1 == self.config.announce_num {
            return Phase::Settled;
        }
        Phase::Announcing {
            sent: sent + 1,
            next: now + self.config.announce_interval,
        }
    }

    fn is_probing(&self, key: Key) -> bool {
        let entry = self.entries.get(&key);
        entry.is_some_and(|entry| matches!(entry.phase, Phase::Probing { .. }))
    }

    /// Somebody else has it.
    fn give_up(&mut self, key: Key, owner: Option<MacAddress>) {
        let (interface, address) = key;
        self.set_phase(key, Phase::Duplicate);
        self.due.remove(&key);
        if address.is_ipv4() {
            self.count_conflict(interface);
        }
        self.events.push_back(DadEvent::Duplicate {
            interface,
            address,
            owner,
        });
    }

    /// Somebody else uses an address of ours (RFC 5227 2.4).
    fn defend(&mut self, now: Instant, key: Key, address: Ipv4Addr, owner: MacAddress) {
        let Config {
            defense,
            defend_interval,
            ..
        } = self.config;
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        if entry.mode == DuplicateDetection::Off || matches!(entry.phase, Phase::Duplicate) {
            return;
        }
        let is_recent = entry.defended.is_some_and(|at| now < at + defend_interval);
        match (defense, is_recent) {
            (AddressDefense::Never, _) | (AddressDefense::Once, true) => {
                return self.give_up(key, Some(owner));
            }
            (AddressDefense::Always, true) => return,
            (AddressDefense::Once | AddressDefense::Always, false) => {}
        }
        entry.defended = Some(now);
        self.due.insert(key, DadProbeKind::ArpAnnouncement(address));
        self.count_conflict(key.0);
        self.events.push_back(DadEvent::Conflict {
            interface: key.0,
            address: key.1,
            owner,
        });
    }

    fn count_conflict(&mut self, interface: InterfaceId) {
        let conflicts = self.conflicts.entry(interface).or_default();
        conflicts.count = conflicts.count.saturating_add(1);
    }

    /// Moves an address on, and its timer with it.
    fn set_phase(&mut self, key: Key, phase: Phase) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        if let Some(at) = entry.phase.deadline() {
            self.timers.remove(&(at, key));
        }
        entry.phase = phase;
        if let Some(at) = phase.deadline() {
            self.timers.insert((at, key));
        }
    }
}

impl Entry {
    const fn state(&self) -> AddressState {
        match (self.phase, self.mode) {
            (Phase::Duplicate, _) => AddressState::Duplicate,
            (Phase::Probing { .. }, DuplicateDetection::Optimistic) => AddressState::Optimistic,
            (Phase::Probing { .. }, _) if self.in_use => AddressState::Optimistic,
            (Phase::Probing { .. }, _) => AddressState::Tentative,
            (Phase::Announcing { .. } | Phase::Settled, _) => AddressState::Assigned,
        }
    }
}

impl Phase {
    const fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Probing { next, .. } | Self::Announcing { next, .. } => Some(*next),
            Self::Settled | Self::Duplicate => None,
        }
    }
}

#[cfg(test)]
mod tests;
