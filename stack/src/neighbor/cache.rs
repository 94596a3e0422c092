//! The neighbour cache: its face. What one entry does is in `entry`, where entries are kept in `table`.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use tidewire_netdev::{MacAddress, Packet};

use crate::link::InterfaceId;
use crate::link::ethernet::LinkDestination;
use crate::neighbor::arp::{self as build, ArpVerdict};
use crate::neighbor::entry::{Context, Entry, Rank, Removal, Statement, Step};
use crate::neighbor::link_times::{Configs, LinkTimes};
use crate::neighbor::ndp::{self, Advertisement, ReceivedAdvertisement, ReceivedSolicitation};
use crate::neighbor::pending::{Pending, QueueLimits};
use crate::neighbor::table::Table;
use crate::neighbor::watch::Watch;
use crate::neighbor::{
    Config, Initiator, NeighborEvent, NeighborInfo, NeighborKey, NeighborState, NeighborStats,
    Ownership, Resolution, Solicitation, UpperLayerAdvice,
};
use crate::random::Random;
use crate::stats::DropReason;
use crate::time::Instant;
use crate::wire::arp::{self, Operation};

/// The neighbours of all interfaces; `W` is whatever waits for one.
///
/// After every `&mut` call [`Self::poll_transmit`] and [`Self::poll_event`] may have something, and
/// [`Self::poll_timeout`] may have changed.
#[derive(Debug)]
pub struct NeighborCache<W> {
    config: Configs,
    random: Random,
    table: Table<W>,
    watch: Watch,
    events: VecDeque<NeighborEvent<W>>,
    /// Octets of all waiting packets.
    queued: usize,
    stats: NeighborStats,
}

impl<W> NeighborCache<W> {
    /// An empty cache.
    pub fn new(config: Config, random: Random) -> Self {
        Self {
            config: Configs::new(config),
            random,
            table: Table::new(),
            watch: Watch::default(),
            events: VecDeque::new(),
            queued: 0,
            stats: NeighborStats::default(),
        }
    }

    /// [`Self::resolve_for`] this host.
    #[inline]
    pub fn resolve(
        &mut self,
        now: Instant,
        key: NeighborKey,
        source: IpAddr,
        advice: UpperLayerAdvice,
    ) -> Resolution {
        self.resolve_for(Initiator::Host, now, key, source, advice)
    }

    /// Where to send packets for a neighbour; asks for it if it is unknown and the cache has room for one that `initiator`
    /// wants, and notes that it is used.
    ///
    /// `source` is our address, of the same IP version, to ask with; as a rule the packet's (RFC 4861 7.2.2).
    /// O(log n); cheap enough for every packet or super-packet.
    pub fn resolve_for(
        &mut self,
        initiator: Initiator,
        now: Instant,
        key: NeighborKey,
        source: IpAddr,
        advice: UpperLayerAdvice,
    ) -> Resolution {
        let is_same_version = key.address.is_ipv4() == source.is_ipv4();
        if !is_same_version || !is_host(key.address) {
            return Resolution::Failed;
        }
        let mut context = Context {
            now,
            config: self.config.of(key),
            random: &mut self.random,
        };
        let used = self.table.with(key, self.config.of(key), |entry| {
            entry.use_now(&mut context, source, advice)
        });
        if let Some(used) = used {
            if used.solicit {
                self.table.ask(key);
            }
            return used.resolution;
        }
        let mut entry = Entry::incomplete(&context, source);
        if self.watch.contains(key) {
            entry.set_router();
        }
        let less_important = match initiator {
            Initiator::Host => Rank::Awaited,
            Initiator::Stranger => Rank::Stale,
        };
        if !self.make_room(less_important) {
            return Resolution::Failed;
        }
        self.table.insert(key, entry, self.config.of(key));
        self.table.ask(key);
        Resolution::Pending
    }

    /// Lets somebody wait for a neighbour that [`Self::resolve`] has just said to be pending: exactly one event will
    /// have the waiter.
    ///
    /// # Errors
    /// The waiter, when the neighbour is not pending or too many wait.
    pub fn wait(&mut self, key: NeighborKey, waiter: W) -> Result<(), W> {
        let Some(pending) = self.table.pending_mut(key) else {
            return Err(waiter);
        };
        let pushed = pending.push_waiter(waiter, self.config.common().max_waiters);
        if pushed.is_err() {
            self.stats.waiters_refused += 1;
        }
        // It matters more now.
        self.table.with(key, self.config.of(key), |_| ());
        pushed
    }

    /// Lets a packet (from its IP header on) wait for a neighbour that [`Self::resolve`] has just said to be pending.
    /// Where too much waits, the neighbour's oldest packets go and are counted.
    ///
    /// # Errors
    /// The packet, when the neighbour is not pending or there is no room for it.
    pub fn enqueue(&mut self, key: NeighborKey, packet: Packet) -> Result<(), Box<Packet>> {
        let Some(pending) = self.table.pending_mut(key) else {
            return Err(Box::new(packet));
        };
        let before = pending.octets();
        let room = self
            .config
            .common()
            .max_total_queue_bytes
            .saturating_sub(self.queued - before);
        let limits = QueueLimits {
            packets: self.config.common().max_queue_packets,
            octets: self.config.common().max_queue_bytes.min(room),
        };
        let pushed = pending.push_packet(packet, limits);
        self.queued = self.queued - before + pending.octets();
        self.stats.packets_dropped += pushed?;
        Ok(())
    }

    /// Whether packets wait for any neighbour.
    pub const fn has_packets(&self) -> bool {
        self.queued > 0
    }

    /// A received ARP packet; `ours` is the interface's link-layer address, `destination` whom its frame was sent to,
    /// and `ownership` tells which addresses are answered for on the interface.
    ///
    /// # Errors
    /// [`DropReason::BadNeighbor`] for a sender without a station's address or with a group's,
    /// [`DropReason::BadSource`] for a packet of ours that the link gave back.
    pub fn handle_arp(
        &mut self,
        now: Instant,
        interface: InterfaceId,
        ours: MacAddress,
        destination: LinkDestination,
        message: &arp::Message,
        ownership: impl Fn(Ipv4Addr) -> Ownership,
    ) -> Result<ArpVerdict, DropReason> {
        match message.operation {
            Operation::Request | Operation::Reply => {}
            Operation::ReverseRequest | Operation::ReverseReply => {
                return Err(DropReason::UnknownLinkProtocol);
            }
        }
        if message.sender_hardware == ours {
            return Err(DropReason::BadSource);
        }
        if !message.sender_hardware.is_unicast() {
            return Err(DropReason::BadNeighbor);
        }
        let (sender, target) = (message.sender_protocol, message.target_protocol);
        let is_request = message.operation == Operation::Request;
        let is_for_us = ownership(target) != Ownership::None;
        let verdict = if is_request && is_for_us {
            ArpVerdict::Reply(build::reply(ours, message))
        } else {
            ArpVerdict::Nothing
        };
        if sender.is_unspecified() {
            // A probe (RFC 5227 2.1.1): it is answered, and says nothing of its sender.
            return Ok(verdict);
        }
        if !is_host(sender.into()) {
            return Err(DropReason::BadNeighbor);
        }
        if ownership(sender) != Ownership::None {
            return Ok(ArpVerdict::Conflict(sender));
        }
        let key = NeighborKey {
            interface,
            address: sender.into(),
        };
        if is_request && is_for_us {
            self.learn(now, key, message.sender_hardware);
            return Ok(verdict);
        }
        let is_announcement = sender == target;
        let is_answer = !is_request && is_for_us && destination == LinkDestination::Unicast;
        self.state(now, key, |is_locked| Statement {
            address: Some(message.sender_hardware),
            solicited: is_answer,
            overrides: is_announcement || !is_locked,
            router: None,
        });
        Ok(verdict)
    }

    /// A valid neighbor solicitation; `target` is what its target is to this host on that interface. Gives the answer.
    ///
    /// # Errors
    /// [`DropReason::NotForUs`] when the target is not answered for.
    pub fn handle_solicitation(
        &mut self,
        now: Instant,
        solicitation: &ReceivedSolicitation,
        target: Ownership,
    ) -> Result<Advertisement, DropReason> {
        if target == Ownership::None {
            return Err(DropReason::NotForUs);
        }
        let mut link_destination = solicitation.source_link_layer;
        if !solicitation.source.is_unspecified() {
            let key = NeighborKey {
                interface: solicitation.interface,
                address: solicitation.source.into(),
            };
            if !is_host(key.address) {
                return Err(DropReason::BadNeighbor);
            }
            if let Some(address) = solicitation.source_link_layer {
                self.learn(now, key, address);
            }
            link_destination = self
                .table
                .get(key)
                .and_then(Entry::address)
                .or(link_destination);
        }
        Ok(ndp::answer(solicitation, target, link_destination))
    }

    /// A valid neighbor advertisement. One for an unknown neighbour changes nothing (RFC 4861 7.2.5).
    pub fn handle_advertisement(&mut self, now: Instant, advertisement: &ReceivedAdvertisement) {
        let flags = advertisement.advertisement;
        let key = NeighborKey {
            interface: advertisement.interface,
            address: flags.target.into(),
        };
        self.state(now, key, |_| Statement {
            address: advertisement.target_link_layer,
            solicited: flags.solicited,
            overrides: flags.overrides,
            router: Some(flags.router),
        });
    }

    /// Runs what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(key) = self.table.pop_due(now) {
            let context = Context {
                now,
                config: self.config.of(key),
                random: &mut self.random,
            };
            let step = self.table.with(key, self.config.of(key), |entry| {
                entry.handle_timeout(&context)
            });
            match step {
                None | Some(Step::Nothing) => {}
                Some(Step::Solicit) => self.table.ask(key),
                Some(Step::Failed(pending)) => {
                    self.stats.resolutions_failed += 1;
                    self.watch.lost(key);
                    if self.config.common().failed_time.is_zero() {
                        self.table.remove(key);
                    }
                    self.fail(key, pending);
                }
                Some(Step::Remove(removal)) => {
                    if removal == Removal::ProbeFailed {
                        self.stats.probes_failed += 1;
                        self.watch.lost(key);
                    }
                    self.table.remove(key);
                }
            }
        }
    }

    /// When [`Self::handle_timeout`] is due: never later than something happens, at times earlier.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.table.next_timer()
    }

    /// The next question to send.
    pub fn poll_transmit(&mut self) -> Option<Solicitation> {
        while let Some(key) = self.table.pop_asked() {
            let Some(entry) = self.table.get(key) else {
                continue;
            };
            let link_destination = match entry.state() {
                NeighborState::Incomplete => None,
                NeighborState::Probe => entry.address(),
                // It has answered meanwhile.
                _ => continue,
            };
            let Some(source) = entry.source() else {
                continue;
            };
            if link_destination.is_some() {
                self.stats.unicast_solicitations += 1;
            } else {
                self.stats.multicast_solicitations += 1;
            }
            return Some(Solicitation {
                interface: key.interface,
                target: key.address,
                source,
                link_destination,
            });
        }
        None
    }

    /// A question that [`Self::poll_transmit`] gave cannot be put, since the interface has no address yet to put it with
    /// (RFC 4429 3.2): it does not count, and is asked for again after the interval of questions, or when
    /// [`Self::resume`] says so.
    pub fn postpone(&mut self, question: &Solicitation) {
        let key = NeighborKey {
            interface: question.interface,
            address: question.target,
        };
        self.table.with(key, self.config.of(key), Entry::postpone);
        let count = match question.link_destination {
            Some(_) => &mut self.stats.unicast_solicitations,
            None => &mut self.stats.multicast_solicitations,
        };
        *count = count.saturating_sub(1);
    }

    /// The interface has an address to put questions with: those who have only waited for that are asked for now.
    pub fn resume(&mut self, now: Instant, interface: InterfaceId) {
        for key in self.table.keys_of(interface) {
            let config = self.config.of(key);
            let due = self
                .table
                .with(key, config, |entry| entry.resume(now, config));
            if due == Some(true) {
                self.table.ask(key);
            }
        }
    }

    /// What became of those who wait, and of who is watched.
    pub fn poll_event(&mut self) -> Option<NeighborEvent<W>> {
        self.events.pop_front().or_else(|| {
            let (key, change) = self.watch.poll()?;
            Some(NeighborEvent::Watched { key, change })
        })
    }

    /// Watches these neighbours of an interface from now on, and no others of it: that they do not answer, or answer
    /// again, is told by [`NeighborEvent::Watched`].
    pub fn watch(&mut self, interface: InterfaceId, addresses: &BTreeSet<IpAddr>) {
        self.watch.set(interface, addresses);
    }

    /// What routers say of the times of a link's IPv6 neighbours, for what is asked from now on (RFC 4861 6.3.4).
    pub fn set_link_times(&mut self, interface: InterfaceId, times: LinkTimes) {
        self.config.set(interface, times);
    }

    /// A router made itself known; `station` is where it says that it is on the link (RFC 4861 6.3.4, 8.3).
    pub fn learn_router(&mut self, now: Instant, key: NeighborKey, station: Option<MacAddress>) {
        if let Some(station) = station {
            self.learn(now, key, station);
        }
        self.table.with(key, self.config.of(key), Entry::set_router);
    }

    /// A router told where another host is on the link (RFC 4861 8.3).
    pub fn learn_neighbor(&mut self, now: Instant, key: NeighborKey, station: MacAddress) {
        self.learn(now, key, station);
    }

    /// Asks once whether a neighbour answers again whom nobody sends to meanwhile (RFC 4191 3.5); nothing if it is being
    /// asked for, or known.
    pub fn probe(&mut self, now: Instant, key: NeighborKey, source: IpAddr) {
        if self.table.get(key).is_some() || !self.make_room(Rank::Stale) {
            return;
        }
        let context = Context {
            now,
            config: self.config.of(key),
            random: &mut self.random,
        };
        let mut entry = Entry::probing(&context, source);
        entry.set_router();
        self.table.insert(key, entry, self.config.of(key));
        self.table.ask(key);
    }

    /// Sets a neighbour for good, whatever the link says.
    ///
    /// # Errors
    /// [`DropReason::QueueFull`] when the cache is full of such.
    pub fn insert_static(
        &mut self,
        now: Instant,
        key: NeighborKey,
        address: MacAddress,
    ) -> Result<(), DropReason> {
        let known = self.table.with(key, self.config.of(key), |entry| {
            entry.configure(now, address)
        });
        match known {
            Some(pending) => self.resolved(key, pending),
            None if self.make_room(Rank::Awaited) => {
                let entry = Entry::permanent(now, address);
                self.table.insert(key, entry, self.config.of(key));
            }
            None => return Err(DropReason::QueueFull),
        }
        Ok(())
    }

    /// Forgets a neighbour, static or not; who waits for it has failed. Whether it was known.
    pub fn remove(&mut self, key: NeighborKey) -> bool {
        let Some(entry) = self.table.remove(key) else {
            return false;
        };
        if let Some(pending) = entry.into_pending() {
            self.fail(key, pending);
        }
        true
    }

    /// Forgets all neighbours of an interface, static or not.
    pub fn flush_interface(&mut self, interface: InterfaceId) {
        for key in self.table.keys_of(interface) {
            self.remove(key);
        }
    }

    /// All neighbours, in the order of their keys.
    pub fn entries(&self) -> Vec<NeighborInfo> {
        let rows = self.table.iter().map(|(key, entry)| NeighborInfo {
            key,
            address: entry.address(),
            state: entry.state(),
            is_router: entry.is_router(),
            last_used: entry.last_used(),
        });
        rows.collect()
    }

    /// The counters.
    pub fn stats(&self) -> NeighborStats {
        self.stats
    }

    /// A neighbour made itself known by asking for us: it is known from now on, if there is room among what matters
    /// little. A flood of such strangers never drives out what is in use.
    fn learn(&mut self, now: Instant, key: NeighborKey, address: MacAddress) {
        let known = self.table.with(key, self.config.of(key), |entry| {
            entry.handle_question(now, address)
        });
        self.watch.found(key);
        match known {
            Some(pending) => self.resolved(key, pending),
            None if self.make_room(Rank::Stale) => {
                let entry = Entry::stale(now, address);
                self.table.insert(key, entry, self.config.of(key));
            }
            None => {}
        }
    }

    /// Something was said of a neighbour, which counts only if it is known. The statement may depend on whether its
    /// address was learnt just now.
    fn state(&mut self, now: Instant, key: NeighborKey, statement: impl FnOnce(bool) -> Statement) {
        let mut context = Context {
            now,
            config: self.config.of(key),
            random: &mut self.random,
        };
        let outcome = self.table.with(key, self.config.of(key), |entry| {
            let statement = statement(entry.is_locked(&context));
            let was_router = entry.is_router();
            let pending = entry.handle_statement(&mut context, statement);
            let has_ceased = was_router && !entry.is_router();
            (pending, has_ceased, entry.address().is_some())
        });
        let Some((pending, has_ceased, is_known)) = outcome else {
            return;
        };
        if has_ceased {
            self.watch.not_router(key);
        }
        if is_known {
            self.watch.found(key);
        }
        self.resolved(key, pending);
    }

    /// Whether there is room for one more entry; what matters least, and no more than `rank`, goes for it.
    fn make_room(&mut self, rank: Rank) -> bool {
        if self.table.len() < self.config.common().max_entries.max(1) {
            return true;
        }
        let Some(key) = self.table.first_to_go(rank) else {
            self.stats.refused += 1;
            return false;
        };
        self.stats.evicted += 1;
        let pending = self.table.remove(key).and_then(Entry::into_pending);
        if let Some(pending) = pending {
            self.stats.packets_dropped += pending.packets() as u64;
            self.queued -= pending.octets();
            let (_, waiters) = pending.into_parts();
            if !waiters.is_empty() {
                self.events.push_back(NeighborEvent::Failed {
                    key,
                    packets: Vec::new(),
                    waiters,
                });
            }
        }
        true
    }

    /// A neighbour's address became known to those who waited for it.
    fn resolved(&mut self, key: NeighborKey, pending: Option<Pending<W>>) {
        let address = self.table.get(key).and_then(Entry::address);
        let (Some(pending), Some(address)) = (pending, address) else {
            return;
        };
        self.queued -= pending.octets();
        let (packets, waiters) = pending.into_parts();
        if !packets.is_empty() || !waiters.is_empty() {
            self.events.push_back(NeighborEvent::Resolved {
                key,
                address,
                packets,
                waiters,
            });
        }
    }

    /// A neighbour is out of reach for those who waited for it.
    fn fail(&mut self, key: NeighborKey, pending: Pending<W>) {
        self.queued -= pending.octets();
        let (packets, waiters) = pending.into_parts();
        if !packets.is_empty() || !waiters.is_empty() {
            self.events.push_back(NeighborEvent::Failed {
                key,
                packets,
                waiters,
            });
        }
    }
}

/// Whether the address can be a neighbour's: one host's, on a wire.
fn is_host(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_multicast() || address.is_unspecified() || address.is_loopback() || is_broadcast)
}

#[cfg(test)]
mod tests;
