//! The neighbour cache: its face. What one entry does is in `entry`, where entries are kept in `table`.

use std::net::Ipv4Addr;

use tidewire_netdev::{MacAddress, Packet};

use crate::link::InterfaceId;
use crate::link::ethernet::LinkDestination;
use crate::neighbor::arp::ArpVerdict;
use crate::neighbor::ndp::{Advertisement, ReceivedAdvertisement, ReceivedSolicitation};
use crate::neighbor::{
    Config, NeighborEvent, NeighborInfo, NeighborKey, NeighborStats, Ownership, Resolution,
    Solicitation, UpperLayerAdvice,
};
use crate::random::Random;
use crate::stats::DropReason;
use crate::time::Instant;
use crate::wire::arp;

/// The neighbours of all interfaces; `W` is whatever waits for one.
///
/// After every `&mut` call [`Self::poll_transmit`] and [`Self::poll_event`] may have something, and
/// [`Self::poll_timeout`] may have changed.
#[derive(Debug)]
pub struct NeighborCache<W> {
    config: Config,
    random: Random,
    stats: NeighborStats,
    waiters: Vec<W>,
}

#[expect(unused_variables, reason = "the bodies follow")]
#[expect(clippy::todo, reason = "the bodies follow")]
impl<W> NeighborCache<W> {
    /// An empty cache.
    pub fn new(config: Config, random: Random) -> Self {
        Self {
            config,
            random,
            stats: NeighborStats::default(),
            waiters: Vec::new(),
        }
    }

    /// Where to send packets for a neighbour; asks for it if it is unknown, and notes that it is used.
    ///
    /// `source` is our address, of the same IP version, to ask with; as a rule the packet's (RFC 4861 7.2.2).
    /// O(log n); cheap enough for every packet or super-packet.
    pub fn resolve(
        &mut self,
        now: Instant,
        key: NeighborKey,
        source: std::net::IpAddr,
        advice: UpperLayerAdvice,
    ) -> Resolution {
        todo!()
    }

    /// Lets somebody wait for a neighbour that [`Self::resolve`] has just said to be pending: exactly one event will
    /// have the waiter.
    ///
    /// # Errors
    /// The waiter, when the neighbour is not pending or too many wait.
    pub fn wait(&mut self, key: NeighborKey, waiter: W) -> Result<(), W> {
        todo!()
    }

    /// Lets a packet (from its IP header on) wait for a neighbour that [`Self::resolve`] has just said to be pending.
    /// Where too much waits, the neighbour's oldest packets go and are counted.
    ///
    /// # Errors
    /// The packet, when the neighbour is not pending or there is no room for it.
    pub fn enqueue(&mut self, key: NeighborKey, packet: Packet) -> Result<(), Box<Packet>> {
        todo!()
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
        todo!()
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
        todo!()
    }

    /// A valid neighbor advertisement. One for an unknown neighbour changes nothing (RFC 4861 7.2.5).
    pub fn handle_advertisement(&mut self, now: Instant, advertisement: &ReceivedAdvertisement) {
        todo!()
    }

    /// Runs what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        todo!()
    }

    /// When [`Self::handle_timeout`] is due: never later than something happens, at times earlier.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    /// The next question to send.
    pub fn poll_transmit(&mut self) -> Option<Solicitation> {
        todo!()
    }

    /// What became of those who wait.
    pub fn poll_event(&mut self) -> Option<NeighborEvent<W>> {
        todo!()
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
        todo!()
    }

    /// Forgets a neighbour, static or not; who waits for it has failed. Whether it was known.
    pub fn remove(&mut self, key: NeighborKey) -> bool {
        todo!()
    }

    /// Forgets all neighbours of an interface, static or not.
    pub fn flush_interface(&mut self, interface: InterfaceId) {
        todo!()
    }

    /// All neighbours, in the order of their keys.
    pub fn entries(&self) -> Vec<NeighborInfo> {
        todo!()
    }

    /// The counters.
    pub fn stats(&self) -> NeighborStats {
        self.stats
    }
}
