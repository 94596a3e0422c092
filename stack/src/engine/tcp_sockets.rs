//! Commands on TCP sockets: bind, connect, listen, accept, close; and what follows from each change of a connection.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::engine::network::{Path, connectable};
use crate::engine::slot::{ListenerSlot, Slot, SlotRef, SlotState, TcpSlot};
use crate::engine::sockets::{
    Lease, ListenerSocket, TcpOptions, TcpSocket, canonical, next_accepted,
};
use crate::engine::source_routes::ReturnRoutes;
use crate::engine::zone::{with_zone, zone_of};
use crate::engine::{Engine, WakeList, lock, read, write};
use crate::error::{SocketError, SocketResult};
use crate::ip::InterfaceId;
use crate::ip::address::AddressClass;
use crate::tcp::connection::{OpenParameters, Phase};
use crate::tcp::info::State;
use crate::tcp::time_wait::TimeWaitEntry;
use crate::tcp::{Connection, Listener};
use crate::time::Instant;
use crate::transport::Readiness;
use crate::transport::demux::{Bound, Tuple};
use crate::transport::ports::{BindRequest, PortLease};
use crate::wire::ipv4::SourceRoute;
use crate::wire::protocol;

/// Most connections that wait to be accepted, less one: Linux's `somaxconn`.
pub(crate) const MAX_BACKLOG: u32 = 4096;

/// One line of what `ss` would show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketSummary {
    /// `tcp`, `udp`, `sctp` or `icmp`.
    pub protocol: &'static str,
    /// TCP's state; `None` for others. An SCTP listener is in [`State::Listen`], too.
    pub state: Option<State>,
    /// SCTP's state; `None` for others and for listeners.
    pub association_state: Option<crate::sctp::association::State>,
    /// The local address.
    pub local: SocketAddr,
    /// The peer, if there is one.
    pub remote: Option<SocketAddr>,
    /// Octets (TCP, SCTP), datagrams' octets (UDP) or connections (listeners) that wait to be read.
    pub receive_queue: usize,
    /// Octets not yet acknowledged (TCP, SCTP) or sent (UDP); the backlog of a listener.
    pub send_queue: usize,
}

impl Engine {
    pub(crate) fn check_alive(&self) -> SocketResult<()> {
        if self.has_ended() {
            Err(SocketError::NetworkDown)
        } else {
            Ok(())
        }
    }

    /// Takes a TCP port.
    ///
    /// # Errors
    /// `AddressNotAvailable` for an address that is not this host's, `AddressInUse`, `NoDevice`.
    pub fn tcp_bind(&self, request: &BindRequest) -> SocketResult<PortLease> {
        self.check_alive()?;
        let device = self.device(request.device.as_deref())?;
        self.device_towards(request.address, device)?;
        let address = request.address.ip().to_canonical();
        if address.is_multicast() || !self.network.can_bind(address) {
            return Err(SocketError::AddressNotAvailable);
        }
        self.tcp_ports.bind(request)
    }

    pub(crate) fn device(&self, name: Option<&str>) -> SocketResult<Option<InterfaceId>> {
        name.map(|name| self.network.interface_named(name))
            .transpose()
    }

    /// Opens a connection; its SYN goes out with the next flush. The slot turns writable when it is established or has
    /// failed.
    ///
    /// # Errors
    /// `NetworkUnreachable`, `AddressNotAvailable` (the four-tuple, or every port, is taken), `AddressFamily`.
    pub fn tcp_connect(
        &self,
        now: Instant,
        lease: Option<PortLease>,
        remote: SocketAddr,
        options: &TcpOptions,
    ) -> SocketResult<Arc<TcpSlot>> {
        self.check_alive()?;
        let mapped = remote.is_ipv6() && remote.ip().to_canonical().is_ipv4();
        let remote = canonical(connectable(remote));
        let bound = lease.as_ref().map(|lease| canonical(lease.local()));
        let device = self.device(options.device.as_deref())?;
        let device = device.or(bound.and_then(zone_of));
        let device = self.device_towards(remote, device)?;
        // RFC 1122 4.2.3.10, RFC 9293 MUST-46; the errno is Linux's.
        let is_for_all = |address| {
            let class = self.network.classify(address);
            matches!(class, AddressClass::Broadcast | AddressClass::Multicast)
        };
        let route = options.route.as_deref();
        let towards = route.map_or(remote.ip(), |route| route.first_hop().into());
        if is_for_all(remote.ip()) || is_for_all(towards) {
            return Err(SocketError::NetworkUnreachable);
        }
        let bound_ip = bound
            .map(|bound| bound.ip())
            .filter(|ip| !ip.is_unspecified());
        if bound_ip.is_some_and(|ip| ip.is_ipv4() != remote.is_ipv4()) {
            return Err(SocketError::AddressFamily);
        }
        let path = self.network.path(now, towards, bound_ip, device)?;
        if route.is_some_and(SourceRoute::is_strict) && path.next_hop != towards {
            return Err(SocketError::HostUnreachable);
        }
        let zone = device.unwrap_or(path.interface);
        let (local, lease) = match (lease, bound) {
            (Some(lease), Some(bound)) => (
                with_zone(path.source, bound.port(), zone),
                Lease::Bound(Arc::new(lease)),
            ),
            _ => {
                let local = |port| with_zone(path.source, port, zone);
                let taken = |address: SocketAddr| {
                    self.is_taken(&Tuple {
                        local: local(address.port()),
                        remote,
                    })
                };
                let lease = self.tcp_ports.connect(path.source, remote, taken)?;
                (local(lease.local().port()), Lease::Ephemeral(lease))
            }
        };
        let tuple = Tuple { local, remote };
        if self.is_taken(&tuple) {
            return Err(SocketError::AddressNotAvailable);
        }
        let connection = Connection::open(
            now,
            OpenParameters {
                config: Arc::clone(&self.tcp_config),
                options: Arc::clone(&options.socket),
                tuple,
                iss: self.isn.iss(now, &tuple),
                timestamp_offset: self.isn.timestamp_offset(&tuple),
                path_mtu: path.mtu,
            },
        );
        let mut socket = self.tcp_socket(connection, options, mapped, lease, path, device);
        socket.route.clone_from(&options.route);
        let slot = Arc::new(
            Slot::new(socket, Readiness::NONE)
                .with_local(path.interface == InterfaceId::LOOPBACK)
                .with_home(self.home_of(&tuple)),
        );
        write(&self.connections)
            .insert_if_vacant(tuple, Arc::clone(&slot))
            .map_err(|_| SocketError::AddressNotAvailable)?;
        self.mark_ready(SlotRef::Tcp(Arc::clone(&slot)));
        Ok(slot)
    }

    fn is_taken(&self, tuple: &Tuple) -> bool {
        read(&self.connections).find(tuple).is_some() || lock(&self.time_wait).table.contains(tuple)
    }

    pub(crate) fn tcp_socket(
        &self,
        mut connection: Connection,
        options: &TcpOptions,
        mapped: bool,
        lease: Lease,
        path: Path,
        device: Option<InterfaceId>,
    ) -> TcpSocket {
        let Tuple { local, remote } = connection.tuple();
        connection.charge_to(Arc::clone(&self.memory));
        // Only what comes back from now on shows that the neighbour gets what is sent.
        let confirmed = connection.progress();
        let next_id =
            self.flow_key
                .hash_pair(connection.tuple().remote, connection.tuple().local) as u16;
        TcpSocket {
            connection,
            ttl: options.ttl.unwrap_or_else(|| self.hop_limit(&path)),
            tos: options.tos & !3,
            mapped,
            lease: Some(lease),
            path: Some(self.label_flow(path, protocol::TCP, &Tuple { local, remote })),
            device,
            route: None,
            unreachable: false,
            confirmed,
            next_id,
            orphan: false,
            detached: false,
            span: tracing::debug_span!("tcp", %local, %remote),
        }
    }

    /// Listens on a bound port. `backlog` + 1 connections wait at most, as on Linux, which limits `backlog` to 4096, too.
    ///
    /// # Errors
    /// `AddressInUse` when another socket listens there already.
    pub fn tcp_listen(
        &self,
        lease: PortLease,
        backlog: u32,
        only_v6: bool,
        options: &TcpOptions,
    ) -> SocketResult<Arc<ListenerSlot>> {
        self.check_alive()?;
        let device = self.device(options.device.as_deref())?;
        let device = self.device_towards(lease.local(), device)?;
        let backlog = backlog.min(MAX_BACKLOG);
        lease.set_listening(true)?;
        let bound = Bound {
            local: canonical_unless_any(lease.local()),
            remote: None,
            dual_stack: lease.local().is_ipv6() && !only_v6,
        };
        // Inserted under the table's lock, so that no SYN finds the port without its listener.
        let mut listeners = write(&self.listeners);
        let slot = Arc::new_cyclic(|slot| {
            let slot: &std::sync::Weak<ListenerSlot> = slot;
            let key = listeners.insert(bound, slot.clone());
            let socket = ListenerSocket {
                listener: Listener::new(Arc::clone(&self.tcp_config), &options.socket, backlog),
                bound: lease.local(),
                lease: Some(Arc::new(lease)),
                key,
                queue: VecDeque::new(),
                backlog: backlog as usize,
                options: options.clone(),
                device,
                ttl: options.ttl.unwrap_or(self.config.host.ttl),
                next_id: 0,
                return_routes: ReturnRoutes::default(),
                error: None,
                closed: false,
            };
            Slot::new(socket, Readiness::NONE)
        });
        Ok(slot)
    }

    /// Takes the oldest connection off a listener's queue, with the peer's address.
    ///
    /// # Errors
    /// `WouldBlock`, which has cleared the cached readiness; the stack's end.
    pub fn tcp_accept(
        &self,
        listener: &Arc<ListenerSlot>,
    ) -> SocketResult<(Arc<TcpSlot>, SocketAddr)> {
        let child = {
            let state = &mut *listener.lock();
            let socket = &mut state.socket;
            next_accepted(&mut socket.queue, socket.error, &mut state.ready)?
        };
        let remote = child.lock().socket.remote();
        Ok((child, remote))
    }

    /// Closes a listener: its requests are forgotten, connections nobody accepted are reset.
    pub fn close_listener(&self, now: Instant, slot: &Arc<ListenerSlot>, wakes: &mut WakeList) {
        let (key, lease, queue, idle) = {
            let mut state = slot.lock();
            let idle = state.ready.take_wakers();
            let socket = &mut state.socket;
            if std::mem::replace(&mut socket.closed, true) {
                return;
            }
            let queue = std::mem::take(&mut socket.queue);
            (socket.key, socket.lease.take(), queue, idle)
        };
        drop(idle);
        write(&self.listeners).remove(key);
        if let Some(lease) = lease {
            let unlisten = lease.set_listening(false);
            debug_assert!(unlisten.is_ok(), "ceasing to listen clashes with nobody");
        }
        self.finish_timer(slot, || SlotRef::Listener(Arc::clone(slot)));
        for child in queue {
            let mut state = child.lock();
            state.socket.connection.abort();
            self.orphan(&mut state.socket);
            self.settle_tcp(now, &child, &mut state, wakes);
        }
    }

    /// The handle of a connection was dropped: it finishes in the background, or is reset.
    pub fn close_tcp(&self, now: Instant, slot: &Arc<TcpSlot>, wakes: &mut WakeList) {
        let mut state = slot.lock();
        state.socket.connection.close(now);
        self.orphan(&mut state.socket);
        if self.orphans.load(Ordering::Relaxed) > self.tcp_config.max_orphans {
            state.socket.connection.abort();
        }
        self.settle_tcp(now, slot, &mut state, wakes);
        let idle = state.ready.take_wakers();
        drop(state);
        drop(idle);
    }

    fn orphan(&self, socket: &mut TcpSocket) {
        if !socket.detached && !std::mem::replace(&mut socket.orphan, true) {
            self.orphans.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// After any change of a connection: tells its readiness, puts it on the ready list, arms its timer, and lets it go
    /// when it has ended.
    pub(crate) fn settle_tcp(
        &self,
        now: Instant,
        slot: &Arc<TcpSlot>,
        state: &mut SlotState<TcpSocket>,
        wakes: &mut WakeList,
    ) {
        let edges = state.socket.connection.take_readiness();
        state.ready.set(edges, wakes);
        if state.socket.detached {
            return;
        }
        if state.socket.connection.wants_transmit() {
            self.mark_ready(SlotRef::Tcp(Arc::clone(slot)));
        }
        match state.socket.connection.phase() {
            Phase::Open => {
                let deadline = state.socket.connection.poll_timeout();
                self.note_deadline(slot, deadline, || SlotRef::Tcp(Arc::clone(slot)));
            }
            Phase::TimeWait(entry) => self.enter_time_wait(now, slot, state, *entry),
            Phase::Closed => {
                let lease = self.detach(slot, state);
                drop(lease);
            }
        }
    }

    fn enter_time_wait(
        &self,
        now: Instant,
        slot: &Arc<TcpSlot>,
        state: &mut SlotState<TcpSocket>,
        entry: TimeWaitEntry,
    ) {
        let tuple = entry.tuple;
        // Into one table before out of the other, so that no segment finds neither.
        let (deadline, evicted) = {
            let mut time_wait = lock(&self.time_wait);
            let evicted = time_wait.table.insert(now, entry);
            let evicted = evicted.and_then(|tuple| time_wait.leases.remove(&tuple));
            (time_wait.table.poll_timeout(), evicted)
        };
        drop(evicted);
        self.note_housekeeping(deadline);
        if let Some(lease) = self.detach(slot, state) {
            // The entry may be gone already: evicted by another, or the table has no room at all.
            let mut time_wait = lock(&self.time_wait);
            let unused = if time_wait.table.contains(&tuple) {
                time_wait.leases.insert(tuple, lease)
            } else {
                Some(lease)
            };
            drop(time_wait);
            drop(unused);
        }
    }

    fn detach(&self, slot: &Arc<TcpSlot>, state: &mut SlotState<TcpSocket>) -> Option<Lease> {
        state.socket.detached = true;
        if state.socket.orphan {
            self.orphans.fetch_sub(1, Ordering::Relaxed);
        }
        write(&self.connections).remove(&state.socket.connection.tuple());
        self.finish_timer(slot, || SlotRef::Tcp(Arc::clone(slot)));
        state.socket.lease.take()
    }

    /// After any change of a listener's SYN queue.
    pub(crate) fn settle_listener(&self, slot: &Arc<ListenerSlot>, socket: &ListenerSocket) {
        if socket.closed {
            return;
        }
        if socket.listener.wants_transmit() {
            self.mark_ready(SlotRef::Listener(Arc::clone(slot)));
        }
        self.note_deadline(slot, socket.listener.poll_timeout(), || {
            SlotRef::Listener(Arc::clone(slot))
        });
    }

    /// Connections that still have something to deliver although nobody holds them.
    pub fn orphan_count(&self) -> usize {
        self.orphans.load(Ordering::Relaxed)
    }

    /// Whether a connection that nobody holds still has data or its FIN to deliver. Unlike an orphan, one in FIN-WAIT-2
    /// does not count: it waits for nothing but the peer's close, which may never come. Nor does one that has ended, and
    /// has a reset or an ACK to send: no timer gives that up, should the device take no more.
    pub fn has_undelivered(&self) -> bool {
        if self.orphan_count() == 0 {
            return false;
        }
        let connections: Vec<_> = read(&self.connections)
            .sorted()
            .into_iter()
            .cloned()
            .collect();
        let tcp = connections.iter().any(|slot| {
            let socket = &slot.lock().socket;
            let state = socket.connection.state();
            let is_done = matches!(state, State::FinWait2 | State::TimeWait | State::Closed);
            socket.orphan && !is_done
        });
        tcp || self.has_undelivered_sctp()
    }

    /// Every socket, as `ss` would list them.
    pub fn sockets(&self) -> Vec<SocketSummary> {
        let mut all = Vec::new();
        let listeners: Vec<_> = read(&self.listeners)
            .sorted()
            .into_iter()
            .filter_map(std::sync::Weak::upgrade)
            .collect();
        for slot in listeners {
            let state = slot.lock();
            all.push(SocketSummary {
                protocol: "tcp",
                state: Some(State::Listen),
                association_state: None,
                local: state.socket.local(),
                remote: None,
                receive_queue: state.socket.queue.len(),
                send_queue: state.socket.backlog,
            });
        }
        let connections: Vec<_> = read(&self.connections)
            .sorted()
            .into_iter()
            .cloned()
            .collect();
        for slot in connections {
            let state = slot.lock();
            let info = state.socket.connection.info();
            all.push(SocketSummary {
                protocol: "tcp",
                state: Some(info.state),
                association_state: None,
                local: state.socket.local(),
                remote: Some(state.socket.remote()),
                receive_queue: info.receive_buffered,
                send_queue: info.send_buffered,
            });
        }
        let time_wait: Vec<_> = lock(&self.time_wait).table.tuples().collect();
        all.extend(time_wait.into_iter().map(|tuple| SocketSummary {
            protocol: "tcp",
            state: Some(State::TimeWait),
            association_state: None,
            local: tuple.local,
            remote: Some(tuple.remote),
            receive_queue: 0,
            send_queue: 0,
        }));
        self.list_datagram_sockets(&mut all);
        self.list_sctp_sockets(&mut all);
        all
    }

    /// An accepted connection's addresses are mapped when its listener is an IPv6 one.
    pub(crate) fn is_mapped(listener: &ListenerSocket, tuple: &Tuple) -> bool {
        listener.bound.is_ipv6() && tuple.remote.is_ipv4()
    }
}

/// A bound address as packets carry it; `[::]` stays, since it may take both families.
pub(crate) fn canonical_unless_any(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address
    } else {
        canonical(address)
    }
}
