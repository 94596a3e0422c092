//! Duplicate address detection: IPv6 (RFC 4862 5.4, RFC 4429) and IPv4 (RFC 5227).
//!
//! Owned here: when to ask whether somebody has an address already, what counts as an answer, IPv4's announcements and
//! its defence. Left to others: giving an interface the address, and taking it away.
//!
//! ```text
//!  Strict      Tentative ──────────────────▶ Assigned          Off   Assigned at once, nothing is sent
//!  Optimistic  Optimistic ─────────────────▶ Assigned
//!                   └── conflict ▶ Duplicate     └── IPv4: conflict ▶ announced again, at most every 10 s
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tidewire_netdev::{MacAddress, Packet};

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
    /// 5.4.2 has it where many hosts may begin at once; here, as on Linux, it always is.
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
    /// It is this host's, and somebody else uses it too (RFC 5227 2.4 (c)); at most one every
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
}

#[expect(unused_variables, reason = "the bodies follow")]
#[expect(clippy::todo, reason = "the bodies follow")]
impl DadTable {
    /// An empty table.
    pub fn new(config: Config, random: Random) -> Self {
        Self { config, random }
    }

    /// Begins with an address, anew if it is known already; gives the state it begins in. For
    /// [`AddressState::Assigned`] no event follows.
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
        todo!()
    }

    /// Forgets an address; whether it was known.
    pub fn remove(&mut self, interface: InterfaceId, address: IpAddr) -> bool {
        todo!()
    }

    /// Forgets all addresses of an interface.
    pub fn flush_interface(&mut self, interface: InterfaceId) {
        todo!()
    }

    /// Where an address is on its way; `None` if it is not known here.
    pub fn state(&self, interface: InterfaceId, address: IpAddr) -> Option<AddressState> {
        todo!()
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
        todo!()
    }

    /// A valid neighbor solicitation, to be shown before the neighbour cache gets it.
    pub fn handle_solicitation(&mut self, solicitation: &ReceivedSolicitation) {
        todo!()
    }

    /// A valid neighbor advertisement, to be shown before the neighbour cache gets it.
    pub fn handle_advertisement(&mut self, advertisement: &ReceivedAdvertisement) {
        todo!()
    }

    /// Runs what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        todo!()
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self) -> Option<DadProbe> {
        todo!()
    }

    /// What became of addresses.
    pub fn poll_event(&mut self) -> Option<DadEvent> {
        todo!()
    }
}
