//! SCTP sockets: what lies in their slots, and commands on them: bind, connect, listen, accept, close.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use smallvec::SmallVec;

use crate::engine::sctp_addresses::{Way, named_addresses};
use crate::engine::sctp_one_to_many::Member;
use crate::engine::slot::{OneToManySlot, SctpListenerSlot, SctpSlot, Slot, SlotRef, SlotState};
use crate::engine::sockets::{next_accepted, shown, unspecified};
use crate::engine::tcp_sockets::{MAX_BACKLOG, SocketSummary, canonical_unless_any};
use crate::engine::zone::with_zone;
use crate::engine::{Engine, WakeList, lock, read, write};
use crate::error::{SocketError, SocketResult};
use crate::ip::InterfaceId;
use crate::sctp;
use crate::sctp::association::{Association, Parameters, State};
use crate::sctp::cookie::SharedSecrets;
use crate::sctp::endpoint::{Backlog, Endpoint};
use crate::tcp::info::State as TcpState;
use crate::time::Instant;
use crate::transport::Readiness;
use crate::transport::demux::{Bound, BoundKey, Tuple};
use crate::transport::ports::{BindRequest, EphemeralLease, PortLease};

/// What an SCTP socket can be told before it is connected or listens.
#[derive(Clone, Debug, Default)]
pub struct SctpOptions {
    /// The associations' own options.
    pub socket: sctp::SocketOptions,
    /// TTL or hop limit instead of the stack's.
    pub ttl: Option<u8>,
    /// TOS octet or traffic class: DSCP in the upper six bits.
    pub tos: u8,
    /// The only interface to use, by name.
    pub device: Option<String>,
    /// `SO_LINGER`: how long an association that nobody holds any more may go on delivering; zero aborts it. `None`: as long
    /// as [`sctp::Config::shutdown_guard`] permits.
    pub linger: Option<Duration>,
}

/// Who holds an association's local port.
#[derive(Debug)]
pub(crate) enum SctpLease {
    /// An explicit bind, shared between a listener and what it accepted.
    Bound(#[allow(dead_code, reason = "held for its Drop")] Arc<Vec<PortLease>>),
    /// A port chosen at connect.
    Ephemeral(#[allow(dead_code, reason = "held for its Drop")] EphemeralLease),
}

/// An association in its slot.
#[derive(Debug)]
pub struct SctpSocket {
    /// The protocol's state.
    pub association: Association,
    /// TTL or hop limit of its packets.
    pub ttl: u8,
    /// TOS octet or traffic class of its packets, without the ECN bits.
    pub tos: u8,
    /// See [`SctpOptions::linger`].
    pub linger: Option<Duration>,
    /// The socket was made for IPv6 and its peer speaks IPv4: addresses are shown as `::ffff:a.b.c.d`.
    pub(crate) mapped: bool,
    pub(crate) lease: Option<SctpLease>,
    /// The one-to-many socket that it belongs to, if it does not have a handle of its own.
    pub(crate) member: Option<Box<Member>>,
    /// The ways to the peer's addresses.
    pub(crate) ways: SmallVec<[Way; 1]>,
    /// The state of the network that they were looked up in; `None` if some are still to be looked up.
    pub(crate) ways_of: Option<u32>,
    pub(crate) device: Option<InterfaceId>,
    /// The link that link-local addresses of the peer are on.
    pub(crate) zone: InterfaceId,
    /// Where the demux finds it.
    pub(crate) keys: SmallVec<[Tuple; 1]>,
    /// IPv4 identification of the next packet (RFC 6864: any value will do, DF is set).
    pub(crate) next_id: u16,
    /// Nobody holds the handle any more.
    pub(crate) orphan: bool,
    /// Left the demux for good.
    pub(crate) detached: bool,
    /// What the association logs stands in this span, with its addresses.
    pub(crate) span: tracing::Span,
}

impl SctpSocket {
    /// The local address of the primary path as the socket's owner sees it.
    pub fn local(&self) -> SocketAddr {
        let primary = self.association.status().primary.address;
        let way = self.ways.iter().find(|way| way.remote == primary);
        let source = match way.and_then(|way| way.path) {
            Some(path) => path.source,
            None => unspecified(primary.is_ipv6()),
        };
        let port = self.association.ends().local_port;
        shown(with_zone(source, port, self.zone), self.mapped)
    }

    /// All of our addresses that the association uses.
    pub fn locals(&self) -> Vec<SocketAddr> {
        let ends = self.association.ends();
        if ends.local_addresses.is_empty() {
            return vec![self.local()];
        }
        let addresses = ends.local_addresses.iter();
        addresses
            .map(|address| shown(with_zone(*address, ends.local_port, self.zone), self.mapped))
            .collect()
    }

    /// The peer's primary address as the socket's owner sees it.
    pub fn remote(&self) -> SocketAddr {
        let paths = self.association.paths();
        let primary = paths.get(paths.primary()).remote();
        let port = self.association.ends().peer_port;
        shown(with_zone(primary, port, self.zone), self.mapped)
    }

    /// All addresses of the peer.
    pub fn remotes(&self) -> Vec<SocketAddr> {
        let ends = self.association.ends();
        let addresses = ends.peer_addresses.iter();
        addresses
            .map(|address| shown(with_zone(*address, ends.peer_port, self.zone), self.mapped))
            .collect()
    }
}

/// An SCTP listener in its slot, or the port of a one-to-many socket.
#[derive(Debug)]
pub struct SctpListenerSocket {
    pub(crate) endpoint: Endpoint,
    /// The state of the network whose addresses the endpoint knows.
    pub(crate) addresses_of: Option<u32>,
    /// Where it is bound.
    pub(crate) bound: Vec<SocketAddr>,
    /// Gone once it is closed: lists may hold the slot for longer.
    pub(crate) lease: Option<Arc<Vec<PortLease>>>,
    /// Where INITs find it; none while it does not listen.
    pub(crate) keys: Vec<BoundKey>,
    /// `IPV6_V6ONLY`.
    pub(crate) only_v6: bool,
    /// The one-to-many socket that associations are set up for, instead of the queue.
    pub(crate) group: Option<Weak<OneToManySlot>>,
    pub(crate) queue: VecDeque<Arc<SctpSlot>>,
    pub(crate) backlog: usize,
    /// What the associations it accepts begin with.
    pub options: SctpOptions,
    pub(crate) device: Option<InterfaceId>,
    pub(crate) error: Option<SocketError>,
    pub(crate) closed: bool,
}

impl SctpListenerSocket {
    /// The bound addresses, as they were given.
    pub fn locals(&self) -> &[SocketAddr] {
        &self.bound
    }

    /// Associations that wait to be accepted.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Other options for associations to come.
    pub fn set_options(&mut self, config: &Arc<sctp::Config>, options: sctp::SocketOptions) {
        self.endpoint.set_options(config, &options);
        self.options.socket = options;
    }

    /// Counts of the port's life.
    pub fn stats(&self) -> sctp::endpoint::EndpointStats {
        self.endpoint.stats()
    }

    /// Whether it takes associations.
    pub fn is_listening(&self) -> bool {
        !self.keys.is_empty()
    }

    pub(crate) fn port(&self) -> u16 {
        self.bound.first().map_or(0, SocketAddr::port)
    }

    /// Whether a socket that is bound so may have a peer of that address.
    pub(crate) fn speaks_to(&self, peer: IpAddr) -> bool {
        let mut bound = self.bound.iter();
        match peer.to_canonical() {
            IpAddr::V4(_) => bound.any(|address| address.is_ipv4() || !self.only_v6),
            IpAddr::V6(_) => bound.any(SocketAddr::is_ipv6),
        }
    }

    pub(crate) fn backlog_state(&self) -> Backlog {
        let has_room = match &self.group {
            None => self.queue.len() <= self.backlog,
            Some(group) => group
                .upgrade()
                .is_some_and(|group| group.lock().socket.has_room()),
        };
        if has_room {
            Backlog::HasRoom
        } else {
            Backlog::Full
        }
    }
}

impl Engine {
    /// SCTP's configuration.
    pub const fn sctp_config(&self) -> &Arc<sctp::Config> {
        &self.sctp_config
    }

    /// Takes an SCTP port on every one of `addresses`, which have it in common; port 0 asks for a free one.
    ///
    /// # Errors
    /// `AddressNotAvailable` for an address that is not this host's, `AddressInUse`, `NoDevice`, `InvalidInput` for none, or
    /// for ports that differ.
    pub fn sctp_bind(
        &self,
        addresses: &[SocketAddr],
        request: &BindRequest,
    ) -> SocketResult<Vec<PortLease>> {
        self.check_alive()?;
        let device = self.device(request.device.as_deref())?;
        let mut port = addresses.first().ok_or(SocketError::InvalidInput)?.port();
        let mut leases: Vec<PortLease> = Vec::new();
        for address in addresses {
            self.device_towards(*address, device)?;
            let ip = address.ip().to_canonical();
            if ip.is_multicast() || !self.network.can_bind(ip) {
                return Err(SocketError::AddressNotAvailable);
            }
            let own_port = address.port();
            if own_port != addresses[0].port() && own_port != 0 {
                return Err(SocketError::InvalidInput);
            }
            let lease = self.sctp_ports.bind(&BindRequest {
                address: SocketAddr::new(address.ip(), port),
                ..request.clone()
            })?;
            port = lease.local().port();
            leases.push(lease);
        }
        Ok(leases)
    }

    pub(crate) fn sctp_parameters(
        &self,
        options: &SctpOptions,
        secrets: SharedSecrets,
        path_mtu: usize,
    ) -> Parameters {
        Parameters {
            config: Arc::clone(&self.sctp_config),
            options: options.socket.clone(),
            secrets,
            random: lock(&self.random).fork(),
            path_mtu,
        }
    }

    pub(crate) fn sctp_socket(
        &self,
        association: Association,
        options: &SctpOptions,
        lease: SctpLease,
        device: Option<InterfaceId>,
        zone: InterfaceId,
    ) -> SctpSocket {
        let ends = association.ends();
        let span = tracing::debug_span!(
            "sctp",
            local_port = ends.local_port,
            peer = ?ends.peer_addresses.first(),
            peer_port = ends.peer_port
        );
        SctpSocket {
            ttl: options.ttl.unwrap_or(self.config.host.ttl),
            tos: options.tos & !3,
            linger: options.linger,
            mapped: false,
            lease: Some(lease),
            member: None,
            ways: SmallVec::new(),
            ways_of: None,
            device,
            zone,
            keys: SmallVec::new(),
            next_id: association.tags().0 as u16,
            orphan: false,
            detached: false,
            span,
            association,
        }
    }

    /// Listens on bound ports. `backlog` + 1 associations wait at most; peers are refused beyond.
    ///
    /// # Errors
    /// `AddressInUse` when another socket listens there already, `InvalidInput` for options out of range or no lease.
    pub fn sctp_listen(
        &self,
        now: Instant,
        leases: Vec<PortLease>,
        backlog: u32,
        only_v6: bool,
        options: &SctpOptions,
    ) -> SocketResult<Arc<SctpListenerSlot>> {
        let slot = self.sctp_endpoint(now, leases, backlog, only_v6, options)?;
        self.set_sctp_listening(&slot, true)?;
        Ok(slot)
    }

    /// A port that does not listen yet.
    pub(crate) fn sctp_endpoint(
        &self,
        now: Instant,
        leases: Vec<PortLease>,
        backlog: u32,
        only_v6: bool,
        options: &SctpOptions,
    ) -> SocketResult<Arc<SctpListenerSlot>> {
        self.check_alive()?;
        options.socket.check(&self.sctp_config)?;
        let first = leases.first().ok_or(SocketError::InvalidInput)?.local();
        let device = self.device(options.device.as_deref())?;
        let device = self.device_towards(first, device)?;
        let bound: Vec<SocketAddr> = leases.iter().map(PortLease::local).collect();
        let random = lock(&self.random).fork();
        let endpoint = Endpoint::new(
            now,
            &self.sctp_config,
            &options.socket,
            random,
            named_addresses(&bound),
        );
        let socket = SctpListenerSocket {
            endpoint,
            addresses_of: None,
            bound,
            lease: Some(Arc::new(leases)),
            keys: Vec::new(),
            only_v6,
            group: None,
            queue: VecDeque::new(),
            backlog: backlog.min(MAX_BACKLOG) as usize,
            options: options.clone(),
            device,
            error: None,
            closed: false,
        };
        Ok(Arc::new(Slot::new(socket, Readiness::NONE)))
    }

    /// Takes INITs from now on, or no longer. What it has promised in cookies stays.
    ///
    /// # Errors
    /// `AddressInUse` when another socket listens there already.
    pub fn set_sctp_listening(
        &self,
        slot: &Arc<SctpListenerSlot>,
        listening: bool,
    ) -> SocketResult<()> {
        let socket = &mut slot.lock().socket;
        let leases = socket.lease.clone().ok_or(SocketError::InvalidInput)?;
        if listening == socket.is_listening() {
            return Ok(());
        }
        let set = |leases: &[PortLease], listening| {
            let mut leases = leases.iter();
            leases.try_for_each(|lease| lease.set_listening(listening))
        };
        if let Err(error) = set(&leases, listening) {
            let unset = set(&leases, false);
            debug_assert!(unset.is_ok(), "ceasing to listen clashes with nobody");
            return Err(error);
        }
        let mut listeners = write(&self.sctp_listeners);
        if !listening {
            for key in socket.keys.drain(..) {
                listeners.remove(key);
            }
            return Ok(());
        }
        socket.keys.extend(socket.bound.iter().map(|local| {
            let bound = Bound {
                local: canonical_unless_any(*local),
                remote: None,
                dual_stack: local.is_ipv6() && !socket.only_v6,
            };
            listeners.insert(bound, Arc::downgrade(slot))
        }));
        Ok(())
    }

    /// Takes the oldest association off a listener's queue, with the peer's primary address.
    ///
    /// # Errors
    /// `WouldBlock`, which has cleared the cached readiness; the stack's end.
    pub fn sctp_accept(
        &self,
        listener: &Arc<SctpListenerSlot>,
    ) -> SocketResult<(Arc<SctpSlot>, SocketAddr)> {
        let child = {
            let state = &mut *listener.lock();
            let socket = &mut state.socket;
            next_accepted(&mut socket.queue, socket.error, &mut state.ready)?
        };
        let remote = child.lock().socket.remote();
        Ok((child, remote))
    }

    /// Closes a listener: associations that nobody accepted are aborted.
    pub fn close_sctp_listener(
        &self,
        now: Instant,
        slot: &Arc<SctpListenerSlot>,
        wakes: &mut WakeList,
    ) {
        let (keys, lease, queue, idle) = {
            let mut state = slot.lock();
            let idle = state.ready.take_wakers();
            let socket = &mut state.socket;
            if std::mem::replace(&mut socket.closed, true) {
                return;
            }
            let queue = std::mem::take(&mut socket.queue);
            (
                std::mem::take(&mut socket.keys),
                socket.lease.take(),
                queue,
                idle,
            )
        };
        drop(idle);
        for key in keys {
            write(&self.sctp_listeners).remove(key);
        }
        for lease in lease.iter().flat_map(|leases| leases.iter()) {
            let unlisten = lease.set_listening(false);
            debug_assert!(unlisten.is_ok(), "ceasing to listen clashes with nobody");
        }
        for child in queue {
            self.let_go(now, &child, Some(Duration::ZERO), wakes);
        }
    }

    /// The handle of an association was dropped: it finishes in the background, or is aborted.
    pub fn close_sctp(&self, now: Instant, slot: &Arc<SctpSlot>, wakes: &mut WakeList) {
        let linger = slot.lock().socket.linger;
        let too_many = self.orphans.load(Ordering::Relaxed) >= self.tcp_config.max_orphans;
        let linger = if too_many {
            Some(Duration::ZERO)
        } else {
            linger
        };
        self.let_go(now, slot, linger, wakes);
    }

    fn let_go(
        &self,
        now: Instant,
        slot: &Arc<SctpSlot>,
        linger: Option<Duration>,
        wakes: &mut WakeList,
    ) {
        let mut state = slot.lock();
        state.socket.association.close(now, linger);
        if !state.socket.detached && !std::mem::replace(&mut state.socket.orphan, true) {
            self.orphans.fetch_add(1, Ordering::Relaxed);
        }
        self.settle_sctp(slot, &mut state, wakes);
        let idle = state.ready.take_wakers();
        drop(state);
        drop(idle);
    }

    /// A timer of an association may be due.
    pub(crate) fn fire_sctp(&self, now: Instant, slot: &Arc<SctpSlot>, wakes: &mut WakeList) {
        let mut state = slot.lock();
        let span = state.socket.span.clone();
        let _entered = span.enter();
        let association = &mut state.socket.association;
        if association.poll_timeout().is_some_and(|at| at <= now) {
            association.handle_timeout(now);
        }
        self.settle_sctp(slot, &mut state, wakes);
    }

    /// After any change of an association: tells its readiness, puts it on the ready list, arms its timer, keeps the demux
    /// up to date, and lets it go when it has ended.
    pub(crate) fn settle_sctp(
        &self,
        slot: &Arc<SctpSlot>,
        state: &mut SlotState<SctpSocket>,
        wakes: &mut WakeList,
    ) {
        let edges = state.socket.association.take_readiness();
        state.ready.set(edges, wakes);
        if state.socket.detached {
            state.socket.update_member(wakes);
            return;
        }
        let is_read_closed = state.ready.bits().intersects(Readiness::READ_CLOSED);
        if is_read_closed && !state.socket.association.state().peer_is_done() {
            // A restart has come in the middle of a shutdown, and maybe ours since.
            state.ready.reopen_reading();
        }
        if state.socket.association.take_addresses_changed() {
            self.register_peer(slot, &mut state.socket);
        }
        if state.socket.association.wants_transmit() {
            self.mark_ready(SlotRef::from(slot));
        }
        if state.socket.association.is_finished() {
            let lease = self.detach_sctp(slot, &mut state.socket);
            drop(lease);
            state.socket.update_member(wakes);
            return;
        }
        state.socket.update_member(wakes);
        let deadline = state.socket.association.poll_timeout();
        self.note_deadline(slot, deadline, || SlotRef::from(slot));
    }

    fn detach_sctp(&self, slot: &Arc<SctpSlot>, socket: &mut SctpSocket) -> Option<SctpLease> {
        socket.detached = true;
        if socket.orphan {
            self.orphans.fetch_sub(1, Ordering::Relaxed);
        }
        self.forget_keys(slot, socket.keys.iter());
        self.finish_timer(slot, || SlotRef::from(slot));
        socket.lease.take()
    }

    /// Every association once, in the order of their addresses.
    pub(crate) fn all_associations(&self) -> Vec<Arc<SctpSlot>> {
        let associations = read(&self.associations);
        // One stands there once for each address of its peer.
        let mut seen = BTreeSet::new();
        let all = associations.sorted().into_iter();
        all.filter(|slot| seen.insert(Arc::as_ptr(slot).addr()))
            .cloned()
            .collect()
    }

    fn all_sctp_listeners(&self) -> Vec<Arc<SctpListenerSlot>> {
        let listeners = read(&self.sctp_listeners);
        let mut all: Vec<Arc<SctpListenerSlot>> = Vec::new();
        for slot in listeners.sorted().into_iter().filter_map(Weak::upgrade) {
            // One that is bound to several addresses comes several times in a row.
            if !all.last().is_some_and(|known| Arc::ptr_eq(known, &slot)) {
                all.push(slot);
            }
        }
        all
    }

    /// The stack ends.
    pub(crate) fn end_sctp(&self, error: SocketError, wakes: &mut WakeList) {
        for slot in self.all_associations() {
            let mut state = slot.lock();
            state.socket.association.fail(error);
            self.settle_sctp(&slot, &mut state, wakes);
        }
        for slot in self.all_sctp_listeners() {
            let mut state = slot.lock();
            state.socket.error = Some(error);
            state.ready.set(
                Readiness::READABLE | Readiness::READ_CLOSED | Readiness::ERROR,
                wakes,
            );
        }
        self.end_one_to_many(error, wakes);
    }

    /// A device has ended: associations that have no other way, or only such as have ended before, fail.
    pub(crate) fn end_sctp_over(&self, error: SocketError, wakes: &mut WakeList) {
        for slot in self.all_associations() {
            let mut state = slot.lock();
            let over = |way: &Way| way.path.map(|path| path.interface);
            let mut interfaces = state.socket.ways.iter().filter_map(over).peekable();
            if interfaces.peek().is_some() && interfaces.all(|over| self.network.has_ended(over)) {
                state.socket.association.fail(error);
                self.settle_sctp(&slot, &mut state, wakes);
            }
        }
    }

    /// Whether an association that nobody holds still has something to deliver.
    pub(crate) fn has_undelivered_sctp(&self) -> bool {
        let all = self.all_associations();
        all.iter().any(|slot| {
            let socket = &slot.lock().socket;
            // As with TCP: the last word of one that has ended is not waited for.
            socket.orphan && socket.association.state() != State::Closed
        })
    }

    pub(crate) fn list_sctp_sockets(&self, all: &mut Vec<SocketSummary>) {
        for slot in self.all_sctp_listeners() {
            let state = slot.lock();
            for local in &state.socket.bound {
                all.push(SocketSummary {
                    protocol: "sctp",
                    state: Some(TcpState::Listen),
                    association_state: None,
                    local: *local,
                    remote: None,
                    receive_queue: state.socket.queue.len(),
                    send_queue: state.socket.backlog,
                });
            }
        }
        for slot in self.all_associations() {
            let socket = &slot.lock().socket;
            let status = socket.association.status();
            all.push(SocketSummary {
                protocol: "sctp",
                state: None,
                association_state: Some(status.state),
                local: socket.local(),
                remote: Some(socket.remote()),
                receive_queue: status.pending,
                send_queue: status.send_buffered,
            });
        }
    }
}
