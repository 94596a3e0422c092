//! A running stack, as its sockets hold it.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use bytes::Bytes;
use futures::task::AtomicWaker;
use tidewire_netdev::Packet;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::driver::Clock;
use crate::driver::task::{Port, transmit};
use crate::engine::network::Network;
use crate::engine::sctp_one_to_many::{AssociationId, OneToManyLimits};
use crate::engine::sctp_sockets::SctpOptions;
use crate::engine::shard::ShardId;
use crate::engine::sockets::{EchoReply, TcpOptions};
use crate::engine::{
    EchoSlot, Engine, FlushOutcome, ListenerSlot, OneToManySlot, Ports, SctpListenerSlot, SctpSlot,
    SlotRef, SocketSummary, StackStats, TcpSlot, UdpSlot, WakeList,
};
use crate::error::{SocketError, SocketResult};
use crate::ip::InterfaceId;
use crate::sctp::SendOptions;
use crate::time::Instant;
use crate::transport::ports::{BindRequest, PortLease};

/// A running stack, as its sockets hold it: when the last of them is gone and closed connections have delivered their
/// data, the driver ends.
#[derive(Debug)]
pub struct Shared {
    core: Arc<Core>,
}

impl std::ops::Deref for Shared {
    type Target = Core;
    fn deref(&self) -> &Core {
        &self.core
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.core.abandoned.store(true, Ordering::SeqCst);
        self.core.wake_drivers();
    }
}

impl Shared {
    pub(crate) const fn new(core: Arc<Core>) -> Self {
        Self { core }
    }
}

/// An engine with its clock, its devices and its driver's state.
#[derive(Debug)]
pub struct Core {
    engine: Engine,
    clock: Clock,
    ports: Vec<Port>,
    /// One for each shard.
    drivers: Box<[DriverState]>,
    /// The drivers are to end.
    stop: AtomicBool,
    /// Woken when the driver has ended, for [`Core::shutdown`].
    ended: Notify,
    /// No socket and no handle holds the stack any more.
    abandoned: AtomicBool,
}

#[derive(Debug)]
struct DriverState {
    waker: AtomicWaker,
    /// The driver has looked at everything and returned; writers flush by themselves.
    parked: AtomicBool,
}

impl DriverState {
    const fn new() -> Self {
        Self {
            waker: AtomicWaker::new(),
            parked: AtomicBool::new(true),
        }
    }
}

impl Ports for Core {
    fn try_transmit(
        &self,
        interface: InterfaceId,
        queue: usize,
        packets: &mut VecDeque<Packet>,
    ) -> io::Result<()> {
        transmit(&self.ports, interface, queue, packets)
    }
}

impl Core {
    pub(crate) fn new(engine: Engine, clock: Clock, ports: Vec<Port>) -> Self {
        Self {
            drivers: engine.shard_ids().map(|_| DriverState::new()).collect(),
            engine,
            clock,
            ports,
            stop: AtomicBool::new(false),
            ended: Notify::new(),
            abandoned: AtomicBool::new(false),
        }
    }

    /// The engine.
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Interfaces, addresses and routes.
    pub const fn network(&self) -> &Network {
        &self.engine.network
    }

    pub(crate) const fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// Now, by the stack's clock.
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// The runtime that the stack's timers run on.
    pub const fn handle(&self) -> &Handle {
        self.clock.handle()
    }

    /// Whether the driver runs.
    pub fn is_alive(&self) -> bool {
        !self.engine.has_ended()
    }

    /// Counters of the whole stack.
    pub fn stats(&self) -> StackStats {
        self.engine.stats()
    }

    /// Every socket, as `ss` would list them.
    pub fn sockets(&self) -> Vec<SocketSummary> {
        self.engine.sockets()
    }

    fn wake_drivers(&self) {
        for driver in &self.drivers {
            driver.waker.wake();
        }
    }

    // The driver's side of parking.

    pub(crate) fn unpark(&self, shard: ShardId, waker: &Waker) {
        let driver = &self.drivers[shard.index()];
        driver.waker.register(waker);
        driver.parked.store(false, Ordering::SeqCst);
    }

    /// The driver has nothing to do until `deadline`. `false` when something came up since it looked.
    pub(crate) fn park(&self, id: ShardId, deadline: Option<Instant>) -> bool {
        let (driver, shard) = (&self.drivers[id.index()], self.engine.shard(id));
        shard.set_armed(deadline);
        driver.parked.store(true, Ordering::SeqCst);
        // Whoever put something on a list before that store has seen a driver awake and left it to us.
        if shard.has_ready()
            || !shard.updates.is_empty()
            || shard.has_new_block()
            || self.should_end()
        {
            driver.parked.store(false, Ordering::SeqCst);
            return false;
        }
        true
    }

    fn is_parked(&self, shard: ShardId) -> bool {
        self.drivers[shard.index()].parked.load(Ordering::SeqCst)
    }

    /// The drivers were stopped, one of them has ended, or nobody holds the stack and nothing is left to deliver.
    pub(crate) fn should_end(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
            || self.engine.has_ended()
            || (self.abandoned.load(Ordering::SeqCst)
                && self.engine.orphan_count() == 0
                && !self.engine.has_ready()
                && !self.engine.has_staged(self.clock.now()))
    }

    /// A driver ends, and the others with it: every socket fails, everybody who waits is woken.
    pub(crate) fn finish(&self, error: SocketError) {
        let mut wakes = WakeList::new();
        // The runtime may be going down: its clock is no more needed than time is.
        self.engine.end(Instant::ZERO, error, &mut wakes);
        wakes.wake_all();
        self.ended.notify_waiters();
        self.wake_drivers();
    }

    fn flush(&self, now: Instant, wakes: &mut WakeList) {
        let outcome = self.engine.flush(now, self, wakes);
        for id in self.engine.shard_ids() {
            let shard = self.engine.shard(id);
            let unfinished = match outcome {
                FlushOutcome::Unfinished => self.drivers.len() == 1 || shard.has_ready(),
                // Whoever was busy sees to its own shard, and not to what became ready in another meanwhile.
                FlushOutcome::Busy => self.is_left(id),
                FlushOutcome::Done => false,
            };
            if unfinished || shard.take_rearm() || shard.has_new_block() {
                self.drivers[id.index()].waker.wake();
            }
        }
    }

    /// A driver's flush: its own shard, and what it has brought about in others whose drivers sleep.
    pub(crate) fn flush_as(&self, id: ShardId, wakes: &mut WakeList) -> FlushOutcome {
        let now = self.clock.now_inside();
        let outcome = self.engine.flush_shard(id, now, self, wakes);
        if self.drivers.len() > 1 {
            for other in self.engine.shard_ids().filter(|other| *other != id) {
                self.flush_for(other, now, wakes);
            }
            // A later one may have made an earlier one ready.
            for other in self.engine.shard_ids().filter(|other| *other != id) {
                if self.is_left(other) {
                    self.drivers[other.index()].waker.wake();
                }
            }
        }
        outcome
    }

    /// Whether a shard has something to send, and its driver sleeps.
    fn is_left(&self, id: ShardId) -> bool {
        self.drivers.len() > 1 && self.engine.shard(id).has_ready() && self.is_parked(id)
    }

    fn flush_for(&self, id: ShardId, now: Instant, wakes: &mut WakeList) {
        let shard = self.engine.shard(id);
        let mut is_needed = false;
        if shard.has_ready() && self.is_parked(id) {
            let outcome = self.engine.flush_shard(id, now, self, wakes);
            is_needed = outcome == FlushOutcome::Unfinished;
        }
        if is_needed || shard.take_rearm() || shard.has_new_block() {
            self.drivers[id.index()].waker.wake();
        }
    }

    /// The packets of a full queue were taken: their shards go on. Whether there are any.
    pub(crate) fn unblock(&self, id: ShardId, interface: InterfaceId, queue: usize) -> bool {
        let mut any = false;
        for unblocked in self.engine.unblock_queue(interface, queue) {
            any = true;
            if unblocked != id {
                self.drivers[unblocked.index()].waker.wake();
            }
        }
        any
    }

    /// After a command on a socket, its lock released: sends what it caused, delivers packets to own addresses within
    /// this call, and wakes whom that concerns. While the driver is awake, what goes to a device is left to it.
    pub fn kick(&self, slot: SlotRef) {
        let (local, home) = (slot.is_local(), slot.home());
        self.engine.mark_ready(slot);
        if !local && !self.is_parked(home) {
            return;
        }
        let mut wakes = WakeList::new();
        self.flush(self.clock.now(), &mut wakes);
        wakes.wake_all();
    }

    /// [`Self::kick`] for what can wait until the driver runs.
    pub fn kick_driver(&self, slot: SlotRef) {
        let home = slot.home();
        self.engine.mark_ready(slot);
        if self.is_parked(home) {
            self.drivers[home.index()].waker.wake();
        }
    }

    /// A driver's last flush, unless its thread is ending and has no clock any more.
    pub(crate) fn flush_last(&self) {
        let context = tokio::runtime::Handle::try_current();
        if !context.is_err_and(|error| error.is_thread_local_destroyed()) {
            self.run(|_, _| ());
        }
    }

    /// The handle of `slot` was dropped: as [`Self::kick`].
    fn close(&self, slot: SlotRef, command: impl FnOnce(Instant, &mut WakeList)) {
        let mut wakes = WakeList::new();
        let now = self.clock.now();
        command(now, &mut wakes);
        if slot.is_local() || self.is_parked(slot.home()) {
            self.flush(now, &mut wakes);
        }
        wakes.wake_all();
    }

    fn run<R>(&self, command: impl FnOnce(Instant, &mut WakeList) -> R) -> R {
        let mut wakes = WakeList::new();
        let now = self.clock.now();
        let result = command(now, &mut wakes);
        self.flush(now, &mut wakes);
        wakes.wake_all();
        result
    }

    /// As [`Engine::release_leases`].
    pub fn release_leases(&self) {
        self.run(|now, wakes| self.engine.release_leases(now, wakes));
    }

    // TCP.

    /// Takes a TCP port.
    ///
    /// # Errors
    /// As [`Engine::tcp_bind`].
    pub fn tcp_bind(&self, request: &BindRequest) -> SocketResult<PortLease> {
        self.engine.tcp_bind(request)
    }

    /// Opens a connection; the SYN has been sent when this returns.
    ///
    /// # Errors
    /// As [`Engine::tcp_connect`].
    pub fn tcp_connect(
        &self,
        lease: Option<PortLease>,
        remote: SocketAddr,
        options: &TcpOptions,
    ) -> SocketResult<Arc<TcpSlot>> {
        self.run(|now, _| self.engine.tcp_connect(now, lease, remote, options))
    }

    /// Listens on a bound port.
    ///
    /// # Errors
    /// As [`Engine::tcp_listen`].
    pub fn tcp_listen(
        &self,
        lease: PortLease,
        backlog: u32,
        only_v6: bool,
        options: &TcpOptions,
    ) -> SocketResult<Arc<ListenerSlot>> {
        self.engine.tcp_listen(lease, backlog, only_v6, options)
    }

    /// Takes the oldest connection off a listener's queue.
    ///
    /// # Errors
    /// As [`Engine::tcp_accept`].
    pub fn tcp_accept(
        &self,
        listener: &Arc<ListenerSlot>,
    ) -> SocketResult<(Arc<TcpSlot>, SocketAddr)> {
        self.engine.tcp_accept(listener)
    }

    /// The handle of a connection was dropped.
    pub fn close_tcp(&self, slot: &Arc<TcpSlot>) {
        self.close(SlotRef::Tcp(Arc::clone(slot)), |now, wakes| {
            self.engine.close_tcp(now, slot, wakes);
        });
    }

    /// The handle of a listener was dropped.
    pub fn close_listener(&self, slot: &Arc<ListenerSlot>) {
        self.run(|now, wakes| self.engine.close_listener(now, slot, wakes));
    }

    // UDP.

    /// Binds a UDP socket.
    ///
    /// # Errors
    /// As [`Engine::udp_bind`].
    pub fn udp_bind(&self, request: &BindRequest) -> SocketResult<Arc<UdpSlot>> {
        self.engine.udp_bind(request)
    }

    /// Fixes a UDP socket's peer.
    ///
    /// # Errors
    /// As [`Engine::udp_connect`].
    pub fn udp_connect(&self, slot: &Arc<UdpSlot>, remote: SocketAddr) -> SocketResult<()> {
        self.engine.udp_connect(self.clock.now(), slot, remote)
    }

    /// Sends a datagram; to own addresses it has been delivered when this returns.
    ///
    /// # Errors
    /// As [`Engine::udp_send`].
    pub fn udp_send(
        &self,
        slot: &Arc<UdpSlot>,
        payload: &[u8],
        destination: Option<SocketAddr>,
    ) -> SocketResult<usize> {
        self.run(|now, _| self.engine.udp_send(now, slot, payload, destination))
    }

    /// The handle of a UDP socket was dropped.
    pub fn close_udp(&self, slot: &Arc<UdpSlot>) {
        let now = self.clock.now();
        if self.engine.close_udp(now, slot) {
            // Routers are told at once that groups are left: the driver may not run again.
            self.run(|_, _| ());
        }
    }

    /// Joins, leaves or filters a group; what the link is told has been sent when this returns.
    ///
    /// # Errors
    /// As the command's.
    pub fn multicast(
        &self,
        command: impl FnOnce(&Engine, Instant) -> SocketResult<()>,
    ) -> SocketResult<()> {
        self.run(|now, _| command(&self.engine, now))
    }

    // SCTP.

    /// Takes an SCTP port on each of `addresses`.
    ///
    /// # Errors
    /// As [`Engine::sctp_bind`].
    pub fn sctp_bind(
        &self,
        addresses: &[SocketAddr],
        request: &BindRequest,
    ) -> SocketResult<Vec<PortLease>> {
        self.engine.sctp_bind(addresses, request)
    }

    /// Opens an association; the INIT has been sent when this returns.
    ///
    /// # Errors
    /// As [`Engine::sctp_connect`].
    pub fn sctp_connect(
        &self,
        leases: Option<Vec<PortLease>>,
        peers: &[SocketAddr],
        options: &SctpOptions,
    ) -> SocketResult<Arc<SctpSlot>> {
        self.run(|now, _| self.engine.sctp_connect(now, leases, peers, options))
    }

    /// Listens on bound ports.
    ///
    /// # Errors
    /// As [`Engine::sctp_listen`].
    pub fn sctp_listen(
        &self,
        leases: Vec<PortLease>,
        backlog: u32,
        only_v6: bool,
        options: &SctpOptions,
    ) -> SocketResult<Arc<SctpListenerSlot>> {
        let now = self.clock.now();
        self.engine
            .sctp_listen(now, leases, backlog, only_v6, options)
    }

    /// Takes the oldest association off a listener's queue.
    ///
    /// # Errors
    /// As [`Engine::sctp_accept`].
    pub fn sctp_accept(
        &self,
        listener: &Arc<SctpListenerSlot>,
    ) -> SocketResult<(Arc<SctpSlot>, SocketAddr)> {
        self.engine.sctp_accept(listener)
    }

    /// The handle of an association was dropped.
    pub fn close_sctp(&self, slot: &Arc<SctpSlot>) {
        self.close(SlotRef::Sctp(Arc::clone(slot)), |now, wakes| {
            self.engine.close_sctp(now, slot, wakes);
        });
    }

    /// The handle of an SCTP listener was dropped.
    pub fn close_sctp_listener(&self, slot: &Arc<SctpListenerSlot>) {
        self.run(|now, wakes| self.engine.close_sctp_listener(now, slot, wakes));
    }

    /// Makes a one-to-many SCTP socket of bound ports.
    ///
    /// # Errors
    /// As [`Engine::sctp_one_to_many`].
    pub fn sctp_one_to_many(
        &self,
        leases: Vec<PortLease>,
        only_v6: bool,
        options: &SctpOptions,
        limits: OneToManyLimits,
    ) -> SocketResult<Arc<OneToManySlot>> {
        let now = self.clock.now();
        self.engine
            .sctp_one_to_many(now, leases, only_v6, options, limits)
    }

    /// Opens an association of a one-to-many socket; the INIT has been sent when this returns.
    ///
    /// # Errors
    /// As [`Engine::sctp_open_member`].
    pub fn sctp_open_member(
        &self,
        group: &Arc<OneToManySlot>,
        peers: &[SocketAddr],
        first: Option<(Bytes, &SendOptions)>,
    ) -> SocketResult<(AssociationId, Arc<SctpSlot>)> {
        self.run(|now, _| self.engine.sctp_open_member(now, group, peers, first))
    }

    /// Makes an association of a one-to-many socket one of its own.
    ///
    /// # Errors
    /// As [`Engine::sctp_peel_off`].
    pub fn sctp_peel_off(
        &self,
        group: &OneToManySlot,
        id: AssociationId,
    ) -> SocketResult<Arc<SctpSlot>> {
        self.run(|_, wakes| self.engine.sctp_peel_off(group, id, wakes))
    }

    /// The handle of a one-to-many socket was dropped.
    pub fn close_one_to_many(&self, group: &Arc<OneToManySlot>) {
        self.run(|now, wakes| self.engine.close_one_to_many(now, group, wakes));
    }

    // ICMP echo.

    /// Opens an ICMP echo socket for one IP version.
    ///
    /// # Errors
    /// As [`Engine::echo_open`].
    pub fn echo_open(&self, local: IpAddr) -> SocketResult<Arc<EchoSlot>> {
        self.engine.echo_open(local)
    }

    /// Sends an echo request.
    ///
    /// # Errors
    /// As [`Engine::echo_send`].
    pub fn echo_send(
        &self,
        slot: &Arc<EchoSlot>,
        destination: IpAddr,
        sequence: u16,
        payload: &[u8],
    ) -> SocketResult<()> {
        self.run(|now, _| {
            self.engine
                .echo_send(now, slot, destination, sequence, payload)
        })
    }

    /// Takes the oldest reply.
    ///
    /// # Errors
    /// `WouldBlock`, which has cleared the cached readiness, or an ICMP error about a request.
    pub fn echo_receive(&self, slot: &Arc<EchoSlot>) -> SocketResult<EchoReply> {
        self.engine.echo_receive(slot)
    }

    /// The handle of an echo socket was dropped.
    pub fn close_echo(&self, slot: &Arc<EchoSlot>) {
        self.engine.close_echo(slot);
    }

    /// Waits until every closed connection has delivered its data or was given up, then stops the driver.
    pub async fn shutdown(&self) {
        // Looks at a full device that are left for what belongs to nobody any more: datagrams, last ACKs.
        let mut looks = 100;
        while self.is_alive() {
            let undelivered = self.engine.has_undelivered();
            let unsent = self.engine.has_ready() || self.engine.has_staged(self.clock.now());
            if !undelivered && (!unsent || looks == 0) {
                break;
            }
            looks -= u32::from(!undelivered);
            // Orphans end by segments and timers that the driver handles; look again when time has passed.
            let _ =
                tokio::time::timeout(std::time::Duration::from_millis(10), self.ended.notified())
                    .await;
        }
        self.stop();
        while self.is_alive() {
            let _ =
                tokio::time::timeout(std::time::Duration::from_millis(10), self.ended.notified())
                    .await;
        }
    }

    /// Stops the driver: every socket fails.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.wake_drivers();
    }
}
