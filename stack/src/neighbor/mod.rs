//! Neighbours on a link: which link-layer address an IP address has, and whether it can still be reached.
//!
//! Owned here: one cache and one state machine, Neighbor Unreachability Detection (RFC 4861 7.3), for ARP (RFC 826) and
//! Neighbor Discovery (RFC 4861 7.2), and the packets of both. Left to others: which addresses are this host's own and
//! whether others have them too (`ip::autoconf`), groups ([`crate::link::ethernet::group_address`]), routers.
//!
//! ```text
//!             resolve                  answer                 use                5 s, nothing confirmed
//!   (none) ───────────▶ INCOMPLETE ───────────▶ REACHABLE    STALE ───▶ DELAY ─────────────▶ PROBE
//!      │                    │ 3 asked, none       │ ▲ 15–45 s ▲          │                    │ │
//!      │                    ▼ answered            └─┼──────────┘          └─ confirmed ─▶ REACHABLE
//!      │                 FAILED, 1 s                └── confirmed, any state with an address    │
//!      └─ somebody asks for this host: STALE                        3 asked, none answered: gone ◀
//! ```
//!
//! Sans-IO: questions to send come from [`NeighborCache::poll_transmit`], what became of those who wait from
//! [`NeighborCache::poll_event`]. Deterministic: all tables are ordered, the seed gives the rest.

pub mod arp;
mod cache;
mod config;
mod entry;
mod link_times;
pub mod ndp;
mod pending;
mod stats;
mod table;
mod watch;

use std::net::IpAddr;

use tidewire_netdev::{MacAddress, Packet};

use crate::link::InterfaceId;
use crate::time::Instant;

pub use cache::NeighborCache;
pub use config::Config;
pub use link_times::LinkTimes;
pub use stats::NeighborStats;
pub use watch::WatchedChange;

/// A neighbour: an address on an interface's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NeighborKey {
    /// The interface the link is at.
    pub interface: InterfaceId,
    /// The neighbour's address, one host's.
    pub address: IpAddr,
}

/// What somebody who sends to a neighbour knows of the way to it (RFC 4861 7.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpperLayerAdvice {
    /// Nothing.
    None,
    /// The neighbour got what was sent of late: new data was acknowledged, or came as an answer.
    ForwardProgress,
}

/// On whose account a neighbour is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initiator {
    /// This host's: a socket sends.
    Host,
    /// A stranger's, whose packet is answered (an echo request, a SYN, a segment to nobody). Senders can be made up at any
    /// rate. So that they neither push each other out of the cache, at the price of a question to all each, nor what
    /// the host asks for, no entry that is being asked for makes room for theirs. (Linux: none younger than 5 s.)
    Stranger,
}

/// What is known of a neighbour that somebody wants to send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Send to this address.
    Reachable(MacAddress),
    /// It is being asked for: [`NeighborCache::wait`] or [`NeighborCache::enqueue`].
    Pending,
    /// It is unreachable: nobody answered a moment ago (EHOSTUNREACH). It is being asked for again; or the address
    /// cannot be a neighbour's, or the cache is full of what must stay.
    Failed,
}

/// A question to put on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// Where to send it.
    pub interface: InterfaceId,
    /// Whom it asks for.
    pub target: IpAddr,
    /// Who asks: our address, of the same IP version.
    pub source: IpAddr,
    /// The neighbour to ask, when it is only to confirm that it is there; `None`: all (broadcast, or the solicited-node
    /// group).
    pub link_destination: Option<MacAddress>,
}

impl Solicitation {
    /// The frame: an ARP request or a neighbor solicitation, Ethernet header included. `ours` is the interface's
    /// link-layer address.
    ///
    /// # Panics
    /// When source and target are of different IP versions, which the cache never makes.
    pub fn to_packet(&self, ours: MacAddress) -> Packet {
        match (self.source, self.target) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                let destination = self.link_destination.unwrap_or(MacAddress::BROADCAST);
                arp::frame(&arp::request(ours, source, target), ours, destination)
            }
            (IpAddr::V6(from), IpAddr::V6(target)) => {
                ndp::solicitation(ours, from, target, self.link_destination)
            }
            _ => unreachable!("NeighborCache::resolve refuses a source of the other IP version"),
        }
    }
}

/// What an address is to this host, for those who ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Not its own, or not yet: a tentative address is not answered for (RFC 4862 5.4.3).
    None,
    /// Its own.
    Assigned,
    /// Its own, though others may have it too: answers must not replace what is cached (RFC 4429 3.3), and no question
    /// is asked in its name (3.2).
    Optimistic,
}

/// What became of those who wait for a neighbour, and of neighbours that are watched. Each waiter and each packet is in one event.
#[derive(Debug)]
pub enum NeighborEvent<W> {
    /// The neighbour answered.
    Resolved {
        /// Which neighbour.
        key: NeighborKey,
        /// Its address on the link.
        address: MacAddress,
        /// To be sent now, oldest first.
        packets: Vec<Packet>,
        /// Who waited.
        waiters: Vec<W>,
    },
    /// The neighbour did not answer (EHOSTUNREACH), or its entry had to go.
    Failed {
        /// Which neighbour.
        key: NeighborKey,
        /// Lost, oldest first; their senders are told if they are others (RFC 4861 7.2.2).
        packets: Vec<Packet>,
        /// Who waited.
        waiters: Vec<W>,
    },
    /// Something happened to a neighbour that is watched ([`NeighborCache::watch`]).
    Watched {
        /// Which neighbour.
        key: NeighborKey,
        /// What.
        change: WatchedChange,
    },
}

/// The states of RFC 4861 7.3.2 and two more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NeighborState {
    /// It is being asked for; nothing is known.
    Incomplete,
    /// It was confirmed of late.
    Reachable,
    /// Nothing was confirmed of late; nobody sends to it.
    Stale,
    /// Somebody sends to it; a confirmation may yet come from above.
    Delay,
    /// It is being asked whether it is still there.
    Probe,
    /// It was configured.
    Permanent,
    /// Nobody answered a moment ago.
    Failed,
}

/// One row of the cache, as `ip neighbor` would show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighborInfo {
    /// The neighbour.
    pub key: NeighborKey,
    /// Its address on the link, if known.
    pub address: Option<MacAddress>,
    /// How sure that is.
    pub state: NeighborState,
    /// It said that it is a router (RFC 4861 7.2.5).
    pub is_router: bool,
    /// When somebody last sent to it.
    pub last_used: Instant,
}
