//! One association: its states, and the halves and paths that it puts together.
//!
//! | file | owns |
//! |---|---|
//! | `state` | the states, and what each permits |
//! | `capabilities` | what INIT and INIT ACK offer, and what of the peer's is taken (RFC 9260 3.3.2, 5.1) |
//! | `handshake` | INIT, INIT ACK, COOKIE ECHO, COOKIE ACK, stale cookies (5.1, 5.2.6) |
//! | `collision` | INIT and COOKIE ECHO while there is an association: collisions, restarts (5.2) |
//! | `input` | a packet in: Verification Tags, chunk by chunk (3.2, 6.10, 8.5) |
//! | `reports` | ERROR and ABORT both ways, unknown and unreadable chunks (3.2, 3.3.7, 3.3.10) |
//! | `shutdown` | SHUTDOWN in every order, abort, letting go (9) |
//! | `timers` | T1, T2, T5, autoclose, and whatever the paths time (4, 8, 9.2) |
//! | `output` | the one way out: every packet is built there (6.1, 6.10) |
//! | `icmp` | what routers and hosts say (10) |
//! | `events` | what the user is told |
//! | `io` | messages in and out |
//! | `options`, `status` | RFC 6458's socket options |
//!
//! ```text
//!   handle_packet ──┐                         ┌─▶ poll_transmit  (packets)
//!   handle_icmp ────┤                         ├─▶ poll_timeout   (one deadline)
//!   handle_timeout ─┼──▶    Association   ────┼─▶ take_readiness (edges)
//!   send, recv ─────┤                         ├─▶ poll_event     (notifications)
//!   shutdown, abort ┘                         └─▶ state
//! ```
//!
//! Handlers of input and timers leave marks in `Pending`; nothing is sent but by `output`.

pub(in crate::sctp) mod capabilities;
mod collision;
mod events;
mod handshake;
mod icmp;
mod input;
mod io;
mod options;
mod output;
mod reports;
mod shutdown;
mod state;
mod status;
mod timers;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

pub(crate) use capabilities::is_in_scope;
pub use events::{AssociationChange, Notification};
pub use icmp::QuotedPacket;
pub use state::State;
pub use status::{PathStatus, Stats, Status};

use capabilities::new_side;
use events::Events;
use handshake::Handshake;
use output::Pending;
use timers::Timers;

use crate::error::SocketError;
use crate::random::Random;
use crate::sctp::config::{Config, SocketOptions};
use crate::sctp::cookie::{SharedSecrets, Side, StateCookie};
use crate::sctp::path::{HeartbeatSwitch, PathState, Paths};
use crate::sctp::receive::{Receiver, SctpMessage};
use crate::sctp::send::Sender;
use crate::sctp::serial::Tsn;
use crate::time::Instant;
use crate::transport::Readiness;

/// The two ends of an association.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Our port.
    pub local_port: u16,
    /// Our addresses, those that the peer may be told; none if that is left to routing.
    pub local_addresses: Vec<IpAddr>,
    /// The peer's port.
    pub peer_port: u16,
    /// The peer's addresses, the primary one first; at least one.
    pub peer_addresses: Vec<IpAddr>,
}

/// What an association is made with, whoever begins.
#[derive(Debug)]
pub struct Parameters {
    /// The stack's configuration.
    pub config: Arc<Config>,
    /// What the socket set for itself.
    pub options: SocketOptions,
    /// What signs cookies: the port's, if anything listens there.
    pub secrets: SharedSecrets,
    /// Tags, TSNs, jitter.
    pub random: Random,
    /// The largest IP packet of the way to the peer, in octets; see [`Association::handle_path_mtu`].
    pub path_mtu: usize,
}

/// An association. See the module's documentation for its parts.
#[derive(Debug)]
pub struct Association {
    /// With the options applied.
    config: Arc<Config>,
    options: SocketOptions,
    secrets: SharedSecrets,
    random: Random,
    state: State,
    ends: Ends,
    local: Side,
    /// The peer's tag; 0 until its INIT ACK or cookie has come.
    peer_tag: u32,
    /// By which a cookie shows that it was made while this association was there (5.2.2); zeros until one is made.
    tie_tags: [u32; 2],
    /// There while the association is opening.
    handshake: Option<Box<Handshake>>,
    sender: Sender,
    receiver: Receiver,
    inbound_streams: u16,
    paths: Paths,
    /// The peer's addresses are others than at the last [`Association::take_addresses_changed`].
    addresses_changed: bool,
    timers: Timers,
    pending: Pending,
    events: Events,
    readiness: Readiness,
    /// Why it ended, until it is asked for.
    error: Option<SocketError>,
    /// What ICMP said, told instead of ETIMEDOUT.
    soft_error: Option<SocketError>,
    /// Where DATA came from last (6.4).
    heard_from: IpAddr,
    /// Where SACKs go: there, unless that way back seems to be broken.
    sack_to: IpAddr,
    /// DATA has come: the first is acknowledged without delay (5.1).
    has_data: bool,
    /// When data last moved, for autoclose.
    last_use: Instant,
    /// Messages that were there to be read when the peer restarted.
    retained: VecDeque<SctpMessage>,
    /// A writer has met a full buffer.
    write_blocked: bool,
    /// There may be something to send.
    dirty: bool,
    /// Nobody holds the association any more.
    orphan: bool,
    stats: Stats,
}

impl Association {
    /// Opens an association: an INIT is to be sent. The first of `ends.peer_addresses` is the primary one.
    pub fn connect(now: Instant, mut parameters: Parameters, ends: Ends) -> Self {
        let local = new_side(&mut parameters.random);
        let path_mtu = parameters.path_mtu;
        let mut association = Self::new(now, parameters, ends, local);
        let addresses = std::mem::take(&mut association.ends.peer_addresses);
        for address in addresses {
            // Those that the user gives count as confirmed (5.4, rule 1).
            association.add_path(now, address, None, path_mtu, PathState::Active);
        }
        association.begin_handshake(now);
        association
    }

    /// The association of a good cookie, in ESTABLISHED. It is to be given the packet that the cookie came in next: COOKIE
    /// ACK and whatever travels with the cookie are its matter.
    pub fn accept(
        now: Instant,
        parameters: Parameters,
        cookie: &StateCookie,
        local_addresses: Vec<IpAddr>,
    ) -> Self {
        let ends = Ends {
            local_port: cookie.local_port,
            local_addresses,
            peer_port: cookie.peer_port,
            peer_addresses: Vec::new(),
        };
        let path_mtu = parameters.path_mtu;
        let mut association = Self::new(now, parameters, ends, cookie.local);
        association.adopt(now, cookie, path_mtu);
        association.establish(now);
        association
    }

    fn new(now: Instant, parameters: Parameters, ends: Ends, local: Side) -> Self {
        let Parameters {
            config,
            options,
            secrets,
            mut random,
            path_mtu: _,
        } = parameters;
        let config = options.apply(&config);
        let unspecified = IpAddr::from([0; 4]);
        Self {
            sender: Sender::new(
                &config.send,
                Tsn(local.initial_tsn),
                config.outbound_streams,
                0,
            ),
            receiver: Receiver::new(&config.receive, 0, 0),
            inbound_streams: config.max_inbound_streams,
            paths: Paths::new(config.path.clone(), random.fork()),
            addresses_changed: false,
            timers: Timers::default(),
            pending: Pending::default(),
            events: Events::new(config.max_notifications, options.events),
            readiness: Readiness::NONE,
            error: None,
            soft_error: None,
            heard_from: ends.peer_addresses.first().copied().unwrap_or(unspecified),
            sack_to: ends.peer_addresses.first().copied().unwrap_or(unspecified),
            has_data: false,
            last_use: now,
            retained: VecDeque::new(),
            write_blocked: false,
            dirty: false,
            orphan: false,
            stats: Stats::default(),
            state: State::Closed,
            peer_tag: 0,
            tie_tags: [0; 2],
            handshake: None,
            local,
            ends,
            random,
            secrets,
            options,
            config,
        }
    }

    /// Takes over what a cookie says, with nothing sent and nothing received.
    fn adopt(&mut self, now: Instant, cookie: &StateCookie, path_mtu: usize) {
        let config = Arc::clone(&self.config);
        self.local = cookie.local;
        self.peer_tag = cookie.peer.tag;
        self.tie_tags = [0; 2];
        self.sender = Sender::new(
            &config.send,
            Tsn(cookie.local.initial_tsn),
            cookie.outbound_streams,
            cookie.peer_rwnd,
        );
        self.receiver = Receiver::new(
            &config.receive,
            cookie.peer.initial_tsn,
            cookie.inbound_streams,
        );
        self.inbound_streams = cookie.inbound_streams;
        self.has_data = false;
        self.paths = Paths::new(config.path.clone(), self.random.fork());
        self.ends.peer_addresses.clear();
        for (i, address) in cookie.peer_addresses.iter().enumerate() {
            if i == 0 {
                // The cookie came back from where it was sent to: that address is the peer's (5.4, rule 2). We answer from
                // the address that it knows us by.
                self.heard_from = *address;
                self.sack_to = *address;
                let local = Some(cookie.local_address);
                self.add_path(now, *address, local, path_mtu, PathState::Active);
            } else {
                self.add_path(now, *address, None, path_mtu, PathState::Unconfirmed);
            }
        }
    }

    /// Adds a path with what the user has set for paths, unless there is one to that address or there are too many.
    fn add_path(
        &mut self,
        now: Instant,
        remote: IpAddr,
        local: Option<IpAddr>,
        path_mtu: usize,
        state: PathState,
    ) {
        let known = self.paths.len();
        let Some(id) = self.paths.add(now, remote, local, path_mtu, state) else {
            return;
        };
        if self.paths.len() == known {
            return;
        }
        self.ends.peer_addresses.push(remote);
        self.addresses_changed = true;
        let parameters = self.options.peer_address;
        if parameters.heartbeat == Some(HeartbeatSwitch::Off) {
            self.paths.set_heartbeat(now, id, HeartbeatSwitch::Off);
        }
        if let Some(limit) = parameters.path_mtu {
            self.paths.limit_mtu(id, limit);
        }
    }

    /// The state.
    pub const fn state(&self) -> State {
        self.state
    }

    /// The association is over, and its last packet is sent: its ports and addresses are free. What has not been read, and
    /// notifications, can still be had.
    pub fn is_finished(&self) -> bool {
        self.state == State::Closed && self.pending.is_empty()
    }

    /// Our Verification Tag and the peer's, 0 while it is not known.
    pub const fn tags(&self) -> (u32, u32) {
        (self.local.tag, self.peer_tag)
    }

    /// Ports and addresses. The peer's addresses change while the association opens, and when the peer restarts: a packet
    /// from any of them belongs to it.
    pub const fn ends(&self) -> &Ends {
        &self.ends
    }

    /// Whether the peer's addresses have changed since the last call.
    pub fn take_addresses_changed(&mut self) -> bool {
        std::mem::take(&mut self.addresses_changed)
    }

    /// The device that leads to `remote` takes packets or not: while it does not, no DATA is sent there.
    pub fn hold_back(&mut self, remote: IpAddr, held_back: bool) {
        if let Some(id) = self.paths.find(remote) {
            self.paths.get_mut(id).set_held_back(held_back);
        }
    }

    /// The paths.
    pub const fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Streams negotiated: outbound, inbound.
    pub fn streams(&self) -> (u16, u16) {
        (self.sender.outbound_streams(), self.inbound_streams)
    }

    /// Nobody holds the association any more.
    pub const fn is_orphan(&self) -> bool {
        self.orphan
    }

    /// What has become possible since the last call: [`Readiness::READABLE`] for messages and the end,
    /// [`Readiness::PRIORITY`] for notifications.
    pub fn take_readiness(&mut self) -> Readiness {
        std::mem::replace(&mut self.readiness, Readiness::NONE)
    }

    /// The way to `remote` carries IP packets of at most `mtu` octets, as far as is known now (7.3).
    pub fn handle_path_mtu(&mut self, remote: IpAddr, mtu: usize) {
        let Some(id) = self.paths.find(remote) else {
            return;
        };
        if self.paths.set_mtu(id, mtu) {
            self.dirty = true;
        }
    }
}
