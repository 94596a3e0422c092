//! One association: its states, and the halves and paths that it puts together.
//!
//! | file | owns |
//! |---|---|
//! | `state` | the states, and what each permits |
//! | `input` | a packet in, chunk by chunk |
//! | `handshake` | INIT, cookies, collisions, restart (RFC 9260 5) |
//! | `shutdown` | SHUTDOWN in every order, abort (9) |
//! | `output` | the one way out: every packet is built there |
//! | `timers` | T1, T2, T5, autoclose; T3 and heartbeats are the paths' |
//! | `events` | what the user is told |
//!
//! Handlers of input and timers leave marks in `Pending`; nothing is sent but by `output`.

mod events;
mod handshake;
mod input;
mod output;
mod shutdown;
mod state;
mod timers;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

pub use events::{AssociationChange, Notification};
pub use state::State;

use events::Events;
use timers::Timers;

use crate::error::{SocketError, SocketResult};
use crate::random::Random;
use crate::sctp::Config;
use crate::sctp::cookie::{Side, StateCookie};
use crate::sctp::endpoint::{SharedSecrets, Transmit, new_side};
use crate::sctp::message::SendOptions;
use crate::sctp::path::{PathState, Paths};
use crate::sctp::receive::{Receiver, SctpMessage};
use crate::sctp::send::Sender;
use crate::sctp::serial::Tsn;
use crate::time::Instant;
use crate::transport::Readiness;
use crate::wire::sctp::{Causes, ErrorCause};

/// The two ends of an association: ports, and addresses with the primary one first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Our port.
    pub local_port: u16,
    /// Our addresses; none if that is left to routing.
    pub local_addresses: Vec<IpAddr>,
    /// The peer's port.
    pub peer_port: u16,
    /// The peer's addresses; at least one.
    pub peer_addresses: Vec<IpAddr>,
}

/// What is to be sent besides data.
#[derive(Debug, Default)]
struct Pending {
    /// Packets for themselves: answers to INIT, and to what has a tag of its own.
    replies: VecDeque<Transmit>,
    init: bool,
    cookie_echo: bool,
    cookie_ack: bool,
    shutdown: bool,
    shutdown_ack: bool,
    shutdown_complete: bool,
    abort: Option<Causes>,
    errors: SmallVec<[ErrorCause; 1]>,
    /// What came in HEARTBEATs, and where from.
    heartbeat_acks: VecDeque<(IpAddr, Bytes)>,
}

/// Answers to the peer that wait to be sent; what comes beyond is dropped, as if it were lost.
const MAX_ANSWERS: usize = 16;

/// An association.
#[derive(Debug)]
pub struct Association {
    config: Arc<Config>,
    secrets: SharedSecrets,
    random: Random,
    state: State,
    ends: Ends,
    local: Side,
    /// The peer's tag; 0 until its INIT or INIT ACK has come.
    peer_tag: u32,
    /// What a restart of the peer has to know of this association (5.2.2); zeros until an INIT has asked for it.
    tie_tags: [u32; 2],
    /// What the peer's INIT ACK gave us to echo.
    cookie: Bytes,
    /// The Cookie Preservative to ask for: microseconds the last cookie was late.
    staleness: u32,
    sender: Sender,
    receiver: Receiver,
    inbound_streams: u16,
    paths: Paths,
    timers: Timers,
    pending: Pending,
    events: Events,
    readiness: Readiness,
    /// Why it ended, until it is asked for.
    error: Option<SocketError>,
    /// Where DATA came from last: SACKs go there (6.4).
    heard_from: IpAddr,
    /// A writer has met a full buffer.
    write_blocked: bool,
    dirty: bool,
}

impl Association {
    /// Opens an association: an INIT is to be sent. The first of `ends.peer_addresses` is the primary one. `mtu` is the
    /// path's, in octets.
    pub fn connect(
        now: Instant,
        config: &Arc<Config>,
        secrets: SharedSecrets,
        mut random: Random,
        ends: Ends,
        mtu: usize,
    ) -> Self {
        let local = new_side(&mut random);
        let mut association = Self::new(config, secrets, random, ends, local);
        let addresses = association.ends.peer_addresses.clone();
        for address in addresses {
            // Addresses the user gives count as confirmed (5.4, rule 1).
            association
                .paths
                .add(now, address, None, mtu, PathState::Active);
        }
        association.pending.init = true;
        association.dirty = true;
        association
    }

    /// The association of a good cookie; it is to be given the packet that the cookie came in.
    pub fn accept(
        now: Instant,
        config: &Arc<Config>,
        secrets: SharedSecrets,
        random: Random,
        cookie: &StateCookie,
        local_addresses: Vec<IpAddr>,
        mtu: usize,
    ) -> Self {
        let ends = Ends {
            local_port: cookie.local_port,
            local_addresses,
            peer_port: cookie.peer_port,
            peer_addresses: cookie.peer_addresses.to_vec(),
        };
        let mut association = Self::new(config, secrets, random, ends, cookie.local);
        association.adopt(now, cookie, mtu);
        association.establish(now);
        association
    }

    fn new(
        config: &Arc<Config>,
        secrets: SharedSecrets,
        mut random: Random,
        ends: Ends,
        local: Side,
    ) -> Self {
        let heard_from = ends.peer_addresses.first().copied();
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
            timers: Timers::default(),
            pending: Pending::default(),
            events: Events::new(config.max_notifications),
            readiness: Readiness::NONE,
            error: None,
            heard_from: heard_from.unwrap_or(IpAddr::from([0; 4])),
            write_blocked: false,
            dirty: false,
            state: State::CookieWait,
            peer_tag: 0,
            tie_tags: [0; 2],
            cookie: Bytes::new(),
            staleness: 0,
            local,
            ends,
            random,
            secrets,
            config: Arc::clone(config),
        }
    }

    /// Takes over what a cookie says of the peer, with nothing sent and nothing received.
    fn adopt(&mut self, now: Instant, cookie: &StateCookie, mtu: usize) {
        let config = Arc::clone(&self.config);
        self.local = cookie.local;
        self.peer_tag = cookie.peer.tag;
        self.heard_from = cookie
            .peer_addresses
            .first()
            .copied()
            .unwrap_or(self.heard_from);
        self.ends.peer_addresses = cookie.peer_addresses.to_vec();
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
        self.paths = Paths::new(config.path.clone(), self.random.fork());
        for (i, address) in cookie.peer_addresses.iter().enumerate() {
            // The cookie came back from where it was sent to: that address is the peer's (5.4, rule 2).
            let state = if i == 0 {
                PathState::Active
            } else {
                PathState::Unconfirmed
            };
            self.paths.add(now, *address, None, mtu, state);
        }
    }

    /// The state.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Our Verification Tag and the peer's, 0 while it is not known.
    pub const fn tags(&self) -> (u32, u32) {
        (self.local.tag, self.peer_tag)
    }

    /// Ports and addresses.
    pub const fn ends(&self) -> &Ends {
        &self.ends
    }

    /// The paths.
    pub const fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Streams negotiated: outbound, inbound.
    pub fn streams(&self) -> (u16, u16) {
        (self.sender.outbound_streams(), self.inbound_streams)
    }

    /// Queues a message.
    ///
    /// # Errors
    /// `WouldBlock` while the send buffer is full, `MessageTooLong`, `InvalidInput` for a stream that does not exist or an
    /// empty message, `BrokenPipe` once the association shuts down or has ended.
    pub fn send(
        &mut self,
        now: Instant,
        message: Bytes,
        options: &SendOptions,
    ) -> SocketResult<()> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if !self.state.may_queue() {
            return Err(SocketError::BrokenPipe);
        }
        let result = self.sender.enqueue(message, options, &self.paths);
        match result {
            Ok(()) => {
                self.note_use(now);
                self.dirty = true;
                Ok(())
            }
            Err(error) => {
                let error = SocketError::from(error);
                self.write_blocked |= error == SocketError::WouldBlock;
                Err(error)
            }
        }
    }

    /// Reads a message, at most `max_len` octets of it; `None` once the peer has sent everything it had.
    ///
    /// # Errors
    /// `WouldBlock` while there is none, and why the association ended, once.
    pub fn recv(&mut self, now: Instant, max_len: usize) -> SocketResult<Option<SctpMessage>> {
        if let Some(message) = self.receiver.recv(max_len) {
            self.dirty |= self.receiver.sack_due(now);
            return Ok(Some(message));
        }
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if self.state.peer_is_done() {
            return Ok(None);
        }
        Err(SocketError::WouldBlock)
    }

    /// What the user has not been told.
    pub fn poll_event(&mut self) -> Option<Notification> {
        while let Some((id, change)) = self.paths.take_change() {
            let address = self.paths.get(id).remote();
            self.events
                .push(Notification::PeerAddressChange { address, change });
        }
        self.events.pop()
    }

    /// What has become possible since the last call.
    pub fn take_readiness(&mut self) -> Readiness {
        std::mem::replace(&mut self.readiness, Readiness::NONE)
    }

    /// Whether [`Self::poll_transmit`] may have something. Never wrongly `false`.
    pub const fn wants_transmit(&self) -> bool {
        self.dirty
    }

    /// The pending error, taken.
    pub fn take_error(&mut self) -> Option<SocketError> {
        self.error.take()
    }

    /// The next packet to send. Call until there is none. `arena` is memory for packets, kept by the caller.
    pub fn poll_transmit(&mut self, now: Instant, arena: &mut BytesMut) -> Option<Transmit> {
        let transmit = self.next_packet(now, arena);
        if transmit.is_none() {
            self.dirty = false;
        }
        transmit
    }

    /// A path carries packets of at most `mtu` octets now (7.3).
    pub fn handle_path_mtu(&mut self, remote: IpAddr, mtu: usize) {
        if let Some(id) = self.paths.find(remote) {
            self.paths.set_mtu(id, mtu);
        }
    }
}
