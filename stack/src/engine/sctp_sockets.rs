//! SCTP sockets: what lies in their slots, and commands on them: bind, connect, listen, accept, close.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use smallvec::SmallVec;

use crate::engine::network::{Path, connectable};
use crate::engine::sctp_addresses::{
    Way, association_key, families_towards, named_addresses, wildcard_families,
};
use crate::engine::slot::{SctpListenerSlot, SctpSlot, Slot, SlotRef, SlotState};
use crate::engine::sockets::{canonical, next_accepted, shown, unspecified};
use crate::engine::tcp_sockets::{MAX_BACKLOG, SocketSummary, canonical_unless_any};
use crate::engine::zone::{with_zone, zone_of};
use crate::engine::{Engine, WakeList, lock, read, write};
use crate::error::{SocketError, SocketResult};
use crate::ip::InterfaceId;
use crate::ip::address::AddressClass;
use crate::sctp;
use crate::sctp::association::{Association, Ends, Parameters, State};
use crate::sctp::cookie::{Secrets, SharedSecrets};
use crate::sctp::endpoint::{Backlog, Endpoint};
use crate::tcp::info::State as TcpState;
use crate::time::Instant;
use crate::transport::Readiness;
use crate::transport::demux::{Bound, BoundKey, Tuple};
use crate::transport::ports::{BindRequest, EphemeralLease, PortLease};
use crate::wire::sctp::AddressTypes;

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
        let primary = self.association.status().primary.address;
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

/// An SCTP listener in its slot.
#[derive(Debug)]
pub struct SctpListenerSocket {
    pub(crate) endpoint: Endpoint,
    /// The families of which it is bound to all addresses; `None` if it is bound to some.
    pub(crate) wildcard: Option<AddressTypes>,
    /// The state of the network whose addresses the endpoint knows.
    pub(crate) addresses_of: Option<u32>,
    /// Where it is bound.
    pub(crate) bound: Vec<SocketAddr>,
    /// Gone once it is closed: lists may hold the slot for longer.
    pub(crate) lease: Option<Arc<Vec<PortLease>>>,
    pub(crate) keys: Vec<BoundKey>,
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

    pub(crate) fn backlog_state(&self) -> Backlog {
        if self.queue.len() > self.backlog {
            Backlog::Full
        } else {
            Backlog::HasRoom
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

    /// Opens an association; its INIT goes out with the next flush. The slot turns writable when it is established or has
    /// failed. All of `peers` have one port and are one peer's; the first of them that there is a way to is its primary
    /// address, and others without one are left out.
    ///
    /// # Errors
    /// `InvalidInput` for no peer, port 0, ports that differ, or options out of range; `AddressNotAvailable` (there is an
    /// association with that peer from this port); `NetworkUnreachable`, `AddressFamily` if there is no way to any.
    pub fn sctp_connect(
        &self,
        now: Instant,
        leases: Option<Vec<PortLease>>,
        peers: &[SocketAddr],
        options: &SctpOptions,
    ) -> SocketResult<Arc<SctpSlot>> {
        self.check_alive()?;
        options.socket.check(&self.sctp_config)?;
        let first = *peers.first().ok_or(SocketError::InvalidInput)?;
        if first.port() == 0 || peers.iter().any(|peer| peer.port() != first.port()) {
            return Err(SocketError::InvalidInput);
        }
        let mapped = first.is_ipv6() && first.ip().to_canonical().is_ipv4();
        let bound: Vec<SocketAddr> = leases.iter().flatten().map(PortLease::local).collect();
        let families = match bound[..] {
            [] => Some(families_towards(peers)),
            _ => wildcard_families(&bound, false),
        };
        let device = self.device(options.device.as_deref())?;
        let device = device.or(bound.first().copied().and_then(zone_of));
        let named = named_addresses(&bound);
        let (peers, device, path) = self.reachable_peers(now, peers, &named, device)?;
        let primary = peers[0];
        let zone = device.unwrap_or(path.interface);
        let (port, lease) = match leases {
            Some(leases) if !leases.is_empty() => {
                let port = bound[0].port();
                (port, SctpLease::Bound(Arc::new(leases)))
            }
            _ => {
                let taken = |local: SocketAddr| {
                    let mut keys = peers
                        .iter()
                        .map(|peer| association_key(local.port(), *peer));
                    keys.any(|key| self.is_associated(&key))
                };
                let lease = self.sctp_ports.connect(path.source, primary, taken)?;
                (lease.local().port(), SctpLease::Ephemeral(lease))
            }
        };
        let keys: SmallVec<[Tuple; 1]> = peers
            .iter()
            .map(|peer| association_key(port, *peer))
            .collect();
        if keys.iter().any(|key| self.is_associated(key)) {
            return Err(SocketError::AddressNotAvailable);
        }
        let locals = match families {
            Some(families) => {
                let own = self.own_addresses(families, device, Some(zone));
                Self::association_addresses(&own, primary.ip(), path.source)
            }
            None => named,
        };
        let ends = Ends {
            local_port: port,
            local_addresses: locals,
            peer_port: primary.port(),
            peer_addresses: peers.iter().map(SocketAddr::ip).collect(),
        };
        let secrets = self.secrets_of(now, SocketAddr::new(path.source, port), primary);
        let parameters = self.sctp_parameters(options, secrets, path.mtu);
        let association = Association::connect(now, parameters, ends);
        let mut socket = self.sctp_socket(association, options, lease, device, zone);
        socket.mapped = mapped;
        socket.ways.push(Way::new(primary.ip(), Some(path)));
        let home = self.home_of(&keys[0]);
        let slot = Arc::new(
            Slot::new(socket, Readiness::NONE)
                .with_local(path.interface == InterfaceId::LOOPBACK)
                .with_home(home),
        );
        // The peer's other addresses follow when the slot settles.
        write(&self.associations)
            .insert_if_vacant(keys[0], Arc::clone(&slot))
            .map_err(|_| SocketError::AddressNotAvailable)?;
        let mut wakes = WakeList::new();
        let mut state = slot.lock();
        state.socket.keys.push(keys[0]);
        self.settle_sctp(&slot, &mut state, &mut wakes);
        debug_assert!(wakes.is_empty(), "nobody waits for a new slot");
        drop(state);
        Ok(slot)
    }

    /// Those of `peers` that there is a way to from one of `named`, with the device that leads to the first and the way.
    fn reachable_peers(
        &self,
        now: Instant,
        peers: &[SocketAddr],
        named: &[IpAddr],
        device: Option<InterfaceId>,
    ) -> SocketResult<(Vec<SocketAddr>, Option<InterfaceId>, Path)> {
        let mut reachable: Vec<SocketAddr> = Vec::new();
        let mut first = None;
        let mut failure = None;
        for peer in peers {
            let peer = canonical(connectable(*peer));
            let class = self.network.classify(peer.ip());
            if matches!(class, AddressClass::Broadcast | AddressClass::Multicast) {
                return Err(SocketError::NetworkUnreachable);
            }
            let device = self.device_towards(peer, device)?;
            match self.sctp_way(now, peer.ip(), None, named, device) {
                Ok(path) if !reachable.contains(&peer) => {
                    reachable.push(peer);
                    first.get_or_insert((device, path));
                }
                Ok(_) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match first {
            Some((device, path)) => Ok((reachable, device, path)),
            None => Err(failure.unwrap_or(SocketError::NetworkUnreachable)),
        }
    }

    /// What signs an association's cookies: what its port's listener uses, so that either takes the other's.
    fn secrets_of(&self, now: Instant, local: SocketAddr, peer: SocketAddr) -> SharedSecrets {
        let listener = read(&self.sctp_listeners)
            .find(local, peer, 0)
            .and_then(Weak::upgrade);
        match listener {
            Some(listener) => listener.lock().socket.endpoint.secrets(),
            None => {
                let random = lock(&self.random).fork();
                let secrets = Secrets::new(now, self.sctp_config.cookie_key_life, random);
                SharedSecrets::new(secrets)
            }
        }
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
        self.check_alive()?;
        options.socket.check(&self.sctp_config)?;
        let first = leases.first().ok_or(SocketError::InvalidInput)?.local();
        let device = self.device(options.device.as_deref())?;
        let device = self.device_towards(first, device)?;
        for lease in &leases {
            lease.set_listening(true)?;
        }
        let bound: Vec<SocketAddr> = leases.iter().map(PortLease::local).collect();
        let wildcard = wildcard_families(&bound, only_v6);
        let random = lock(&self.random).fork();
        let endpoint = Endpoint::new(
            now,
            &self.sctp_config,
            &options.socket,
            random,
            named_addresses(&bound),
        );
        // Inserted under the table's lock, so that no INIT finds the port without its listener.
        let mut listeners = write(&self.sctp_listeners);
        let slot = Arc::new_cyclic(|slot: &Weak<SctpListenerSlot>| {
            let insert = |local: &SocketAddr| {
                let bound = Bound {
                    local: canonical_unless_any(*local),
                    remote: None,
                    dual_stack: local.is_ipv6() && !only_v6,
                };
                listeners.insert(bound, slot.clone())
            };
            let keys = bound.iter().map(insert).collect();
            let socket = SctpListenerSocket {
                endpoint,
                wildcard,
                addresses_of: None,
                bound,
                lease: Some(Arc::new(leases)),
                keys,
                queue: VecDeque::new(),
                backlog: backlog.min(MAX_BACKLOG) as usize,
                options: options.clone(),
                device,
                error: None,
                closed: false,
            };
            Slot::new(socket, Readiness::NONE)
        });
        Ok(slot)
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
            return;
        }
        let is_read_closed = state.ready.bits().intersects(Readiness::READ_CLOSED);
        if is_read_closed && state.socket.association.state() == State::Established {
            // A restart has come in the middle of a shutdown.
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
            return;
        }
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
        all.iter().any(|slot| slot.lock().socket.orphan)
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
