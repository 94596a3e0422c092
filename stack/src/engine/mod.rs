//! The whole stack, synchronous: packets and time in, packets, deadlines and wakes out. No runtime is needed.
//!
//! ```text
//!  receive() ─▶ ingress ─▶ demux ─▶ slot ─▶ Connection::handle_segment ─┐
//!                                                                        ├─▶ ready list ─▶ egress ─▶ transmit queue
//!  commands (write, read, close …) ─────────▶ slot ─▶ Connection::… ────┘
//! ```
//!
//! **Locks**, in this order: shard egress → one slot → leaf locks (demux, ports, routes, lists; never held across a call
//! out). Ingress never takes egress. Wakers are collected in a [`WakeList`] and woken when no lock is held.
//!
//! `driver` runs an engine on tokio; simulations, packet scripts and fuzzing call [`Engine::receive`],
//! [`Engine::transmit`], [`Engine::handle_timeout`] and [`Engine::poll_timeout`] from an event heap of their own.

mod addresses;
mod counters;
mod dhcp;
mod echo;
mod egress;
mod flow_label;
mod forwarding;
mod icmp;
pub mod icmp_listener;
mod ingress;
mod link;
mod multicast;
pub mod network;
mod rarp;
pub mod ready_cache;
mod restage;
mod router_discovery;
pub(crate) mod sctp_addresses;
mod sctp_connect;
mod sctp_egress;
mod sctp_ingress;
pub mod sctp_one_to_many;
pub mod sctp_sockets;
pub(crate) mod shard;
pub mod slot;
pub mod socket_groups;
pub mod sockets;
mod source_routes;
mod tcp_egress;
mod tcp_ingress;
mod tcp_sockets;
mod timers;
mod transmit_queue;
mod udp_sockets;
mod zone;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::num::NonZeroU8;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
};
use std::task::Waker;

use slab::Slab;
use tidewire_netdev::flow_hash::flow_hash;
use tidewire_netdev::{Capabilities, MacAddress, Medium};

pub use counters::StackStats;
pub use egress::FlushOutcome;
pub use ready_cache::WakeList;
pub use shard::ShardId;
pub use slot::{
    EchoSlot, ListenerSlot, OneToManySlot, SctpListenerSlot, SctpSlot, Slot, SlotRef, TcpSlot,
    UdpSlot,
};
pub use tcp_sockets::SocketSummary;
pub use transmit_queue::Ports;

use crate::config::Config;
use crate::error::SocketError;
use crate::ip::InterfaceId;
use crate::ip::autoconf::dad::{DadTable, LostAddress};
use crate::ip::autoconf::dhcp as dhcp_client;
use crate::ip::autoconf::router_discovery::RouterDiscovery;
use crate::ip::fragmentation::Identifications;
use crate::ip::icmp::rate_limit::{self, RateLimiter};
use crate::ip::multicast::Memberships;
use crate::ip::path_mtu::PathMtuCache;
use crate::ip::reassembly::{self, Reassembler};
use crate::ip::redirect::Redirects;
use crate::neighbor::{NeighborCache, NeighborEvent};
use crate::random::{HashKey, Random};
use crate::sctp;
use crate::tcp;
use crate::tcp::isn::IsnGenerator;
use crate::time::Instant;
use crate::transport::Readiness;
use crate::transport::demux::{BoundTable, ConnectionTable, KeyedState, Tuple};
use crate::transport::memory::MemoryBudget;
use crate::transport::ports::{PortTable, Sharing};
use counters::Counters;
use icmp_listener::IcmpListener;
use network::Network;
use shard::Shard;
use slot::TimerState;
use sockets::Lease;
use timers::TimerHeap;

/// A whole stack without a runtime. All methods take `&self`: it is shared between tasks and threads.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    tcp_config: Arc<tcp::Config>,
    sctp_config: Arc<sctp::Config>,
    /// Interfaces, addresses and routes.
    pub network: Network,
    tcp_ports: PortTable,
    udp_ports: PortTable,
    connections: RwLock<ConnectionTable<Arc<TcpSlot>>>,
    listeners: RwLock<BoundTable<Weak<ListenerSlot>>>,
    datagrams: RwLock<BoundTable<Weak<UdpSlot>>>,
    sctp_ports: PortTable,
    /// By local port, peer's port and each of the peer's addresses: see [`sctp_addresses::association_key`].
    associations: RwLock<ConnectionTable<Arc<SctpSlot>>>,
    sctp_listeners: RwLock<BoundTable<Weak<SctpListenerSlot>>>,
    /// One-to-many SCTP sockets, listening or not.
    one_to_many: Mutex<Slab<Weak<OneToManySlot>>>,
    /// Whom packets go to on links with addresses of their own, and the slots that wait for them.
    neighbors: Mutex<NeighborCache<SlotRef>>,
    /// Met on the way out, for the timers to see to.
    neighbor_events: Mutex<VecDeque<NeighborEvent<SlotRef>>>,
    /// Until when sockets' datagrams wait for neighbours at most, in nanoseconds.
    unresolved_until: AtomicU64,
    /// Own addresses that others may have.
    duplicates: Mutex<DadTable>,
    /// Multicast groups of all interfaces.
    memberships: Mutex<Memberships>,
    /// Interfaces whose link has come up: what was told of groups is to be told again.
    came_up: Mutex<BTreeSet<InterfaceId>>,
    /// Interfaces that get an address from a server.
    dhcp: Mutex<BTreeMap<InterfaceId, dhcp_client::Client>>,
    /// The same by RARP, and interfaces where others get theirs.
    rarp: Mutex<rarp::Rarp>,
    /// Interfaces that get addresses and routes from routers.
    router_discovery: Mutex<BTreeMap<InterfaceId, RouterDiscovery>>,
    /// Destinations for which routers have named other first hops.
    redirects: Mutex<Redirects>,
    /// Addresses that turned out to be others', for whoever asks.
    lost_addresses: Mutex<VecDeque<LostAddress>>,
    /// Woken when an address is settled or lost.
    address_waiters: Mutex<Vec<Waker>>,
    /// Who hears of all ICMP errors about packets of this host.
    icmp_listeners: Mutex<Vec<Weak<IcmpListener>>>,
    /// By version (IPv6 is `true`) and identifier.
    echoes: Mutex<BTreeMap<(bool, u16), Arc<EchoSlot>>>,
    time_wait: Mutex<TimeWait>,
    reassembly: Mutex<Reassembler>,
    icmp_limit: Mutex<RateLimiter>,
    identifications: Mutex<Identifications>,
    random: Mutex<Random>,
    isn: IsnGenerator,
    flow_key: HashKey,
    shards: Box<[Shard]>,
    /// The timer of the stack itself, in its first shard.
    housekeeping: Arc<TimerState>,
    counters: Counters,
    memory: Arc<MemoryBudget>,
    orphans: AtomicUsize,
    /// The stack has ended; new sockets fail with this.
    ended: AtomicBool,
    heap: Mutex<TimerHeap>,
}

/// What an interface is over.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The interface's name.
    pub name: String,
    /// How many queues the device has. Shards beyond their number share them: the shard of number `s` sends through
    /// queue `s` modulo their number.
    pub queues: usize,
    /// Its own address on an Ethernet link; one is made up for `None`.
    pub hardware_address: Option<MacAddress>,
    /// What the device can do.
    pub capabilities: Capabilities,
}

/// The TIME-WAIT table and the ports its entries still hold.
#[derive(Debug)]
struct TimeWait {
    table: tcp::TimeWaitTable,
    leases: HashMap<Tuple, Lease, KeyedState>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// A stack of the loopback alone, with one shard; interfaces are added with [`Self::add_interface`].
    pub fn new(config: Config) -> Self {
        Self::with_shards(config, 1)
    }

    /// The same with several shards, one for each driver: at least 1, at most 65,536.
    pub fn with_shards(config: Config, shards: usize) -> Self {
        let mut random = Random::new(config.seed);
        let mut key = || HashKey::new(&mut random);
        let (connections, listeners, datagrams) = (key(), key(), key());
        let (flow_key, leases) = (key(), key());
        let isn = IsnGenerator::new(key());
        let tcp_config = Arc::new(config.tcp.clone());
        let (associations, sctp_listeners) = (key(), key());
        Self {
            network: Network::new(
                PathMtuCache::new(config.host.path_mtu_entries, config.host.path_mtu_lifetime),
                config.host.host_model,
            ),
            tcp_ports: PortTable::new(Sharing::Stream, &mut random),
            udp_ports: PortTable::new(Sharing::Datagram, &mut random),
            connections: RwLock::new(ConnectionTable::new(connections)),
            listeners: RwLock::new(BoundTable::new(listeners)),
            datagrams: RwLock::new(BoundTable::new(datagrams)),
            neighbors: Mutex::new(NeighborCache::new(config.neighbor.clone(), random.fork())),
            neighbor_events: Mutex::default(),
            unresolved_until: AtomicU64::new(0),
            duplicates: Mutex::new(DadTable::new(
                config.host.duplicate_detection.clone(),
                random.fork(),
            )),
            came_up: Mutex::default(),
            dhcp: Mutex::default(),
            router_discovery: Mutex::default(),
            redirects: Mutex::new(Redirects::new(config.host.redirects.clone())),
            rarp: Mutex::default(),
            lost_addresses: Mutex::default(),
            address_waiters: Mutex::default(),
            icmp_listeners: Mutex::default(),
            echoes: Mutex::default(),
            time_wait: Mutex::new(TimeWait {
                table: tcp::TimeWaitTable::new(&tcp_config),
                leases: HashMap::with_hasher(KeyedState::new(leases)),
            }),
            reassembly: Mutex::new(Reassembler::new(reassembly::Limits {
                memory: config.host.reassembly_memory,
                ..reassembly::Limits::default()
            })),
            icmp_limit: Mutex::new(RateLimiter::new(
                rate_limit::Limits::default(),
                random.fork(),
            )),
            identifications: Mutex::new(Identifications::new(&mut random)),
            sctp_ports: PortTable::new(Sharing::Stream, &mut random),
            memberships: Mutex::new(Memberships::new(
                config.host.multicast.clone(),
                random.fork(),
            )),
            associations: RwLock::new(ConnectionTable::new(associations)),
            sctp_listeners: RwLock::new(BoundTable::new(sctp_listeners)),
            one_to_many: Mutex::default(),
            sctp_config: Arc::new(config.sctp.clone()),
            isn,
            flow_key,
            random: Mutex::new(random),
            shards: (0..shards.max(1))
                .map_while(ShardId::new)
                .map(Shard::new)
                .collect(),
            housekeeping: Arc::default(),
            counters: Counters::default(),
            memory: Arc::new(MemoryBudget::new(config.host.tcp_memory)),
            orphans: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            heap: Mutex::default(),
            tcp_config,
            config,
        }
    }

    /// Adds an interface over a device of one queue with these capabilities.
    pub fn add_interface(&self, name: String, capabilities: Capabilities) -> InterfaceId {
        let attachment = Attachment {
            name,
            queues: 1,
            hardware_address: None,
            capabilities,
        };
        self.attach(Instant::ZERO, attachment)
    }

    /// Adds an interface over a device. One of Ethernet gets a link-local IPv6 address (RFC 4862 5.3), unless the
    /// configuration says otherwise.
    pub fn attach(&self, now: Instant, attachment: Attachment) -> InterfaceId {
        let Attachment {
            name,
            queues,
            hardware_address,
            capabilities,
        } = attachment;
        let hardware_address = match capabilities.medium {
            Medium::Ip => None,
            Medium::Ethernet => Some(hardware_address.unwrap_or_else(|| {
                let mut random = lock(&self.random);
                let [a, b, c, d] = random.next_u32().to_be_bytes();
                let [e, f, ..] = random.next_u32().to_be_bytes();
                MacAddress::locally_administered([a, b, c, d, e, f])
            })),
        };
        let id = self
            .network
            .add_interface(name, capabilities.clone(), hardware_address);
        for shard in &self.shards {
            let mut egress = lock(&shard.egress);
            egress.add_interface(id, queues, hardware_address, capabilities.clone());
        }
        let link_local = hardware_address
            .filter(|_| self.config.host.link_local_addresses)
            .and_then(addresses::link_local);
        if let Some(cidr) = link_local {
            self.add_address(now, id, cidr);
        }
        if self.config.host.forwarding && hardware_address.is_some() {
            self.join_all_routers(now, id);
        }
        id
    }

    /// The configuration the stack was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Counters of the whole stack.
    pub fn stats(&self) -> StackStats {
        self.counters.snapshot(self.memory.stats())
    }

    /// The hop limit of packets for which nobody asked for another: the routers' on that path, or the configured one.
    fn hop_limit(&self, path: &network::Path) -> u8 {
        path.hop_limit.map_or(self.config.host.ttl, NonZeroU8::get)
    }

    /// The same for a socket: one that has asked for none has the configured one.
    fn hop_limit_of(&self, socket: u8, path: &network::Path) -> u8 {
        if socket == self.config.host.ttl {
            return self.hop_limit(path);
        }
        socket
    }

    /// How many shards, and so drivers, it has.
    pub const fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// All shards.
    pub(crate) fn shard_ids(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.shards.len()).map_while(ShardId::new)
    }

    pub(crate) fn shard(&self, id: ShardId) -> &Shard {
        &self.shards[id.index()]
    }

    /// The home of a flow's slot: that of both directions, so that a stack that talks to itself needs one shard.
    pub(crate) fn home_of(&self, tuple: &Tuple) -> ShardId {
        let count = self.shards.len();
        if count == 1 {
            return ShardId::FIRST;
        }
        let (local, remote) = (tuple.local, tuple.remote);
        let hash = flow_hash(local.ip(), local.port(), remote.ip(), remote.port());
        ShardId::of_hash(hash, count)
    }

    /// Puts a slot on its shard's ready list: egress will poll it.
    pub fn mark_ready(&self, slot: SlotRef) {
        if slot.claim_ready() {
            lock(&self.shard(slot.home()).ready).push_back(slot);
        }
    }

    /// Whether egress of any shard has something to look at.
    pub fn has_ready(&self) -> bool {
        self.shards.iter().any(Shard::has_ready)
    }

    /// A slot's deadline: queues an update if it moved earlier.
    fn note_deadline<T>(
        &self,
        slot: &Slot<T>,
        deadline: Option<Instant>,
        reference: impl FnOnce() -> SlotRef,
    ) {
        self.shard(slot.home())
            .note_deadline(&slot.timer, deadline, reference);
    }

    fn note_housekeeping(&self, deadline: Option<Instant>) {
        let timer = &self.housekeeping;
        self.shard(ShardId::FIRST)
            .note_deadline(timer, deadline, || SlotRef::Housekeeping(Arc::clone(timer)));
    }

    /// A slot has left for good: its timer entry goes.
    fn finish_timer<T>(&self, slot: &Slot<T>, reference: impl FnOnce() -> SlotRef) {
        self.shard(slot.home()).finish_timer(&slot.timer, reference);
    }

    /// A slot's timer has fired: it handles what is due and asks for its next deadline.
    pub(crate) fn fire(&self, now: Instant, slot: &SlotRef, wakes: &mut WakeList) {
        slot.timer().fired();
        match slot {
            SlotRef::Tcp(slot) => {
                let mut state = slot.lock();
                let span = state.socket.span.clone();
                let _entered = span.enter();
                if state
                    .socket
                    .connection
                    .poll_timeout()
                    .is_some_and(|at| at <= now)
                {
                    state.socket.connection.handle_timeout(now);
                }
                self.settle_tcp(now, slot, &mut state, wakes);
            }
            SlotRef::Listener(slot) => {
                let mut state = slot.lock();
                if state
                    .socket
                    .listener
                    .poll_timeout()
                    .is_some_and(|at| at <= now)
                {
                    state.socket.listener.handle_timeout(now);
                }
                self.settle_listener(slot, &state.socket);
            }
            SlotRef::Sctp(slot) => self.fire_sctp(now, slot, wakes),
            SlotRef::Udp(_) | SlotRef::SctpListener(_) | SlotRef::Echo(_) => {}
            SlotRef::Housekeeping(_) => self.housekeep(now, wakes),
        }
    }

    fn housekeep(&self, now: Instant, wakes: &mut WakeList) {
        let mut expired = Vec::new();
        let time_wait = {
            let mut time_wait = lock(&self.time_wait);
            while let Some(tuple) = time_wait.table.expire(now) {
                expired.extend(time_wait.leases.remove(&tuple));
            }
            if time_wait.table.is_empty() {
                // As the table itself: one that once was large does not stay so.
                time_wait.leases.shrink_to_fit();
            }
            time_wait.table.poll_timeout()
        };
        drop(expired);
        let (reassembly, timed_out) = {
            let mut reassembly = lock(&self.reassembly);
            let timed_out = reassembly.handle_timeout(now);
            (reassembly.poll_timeout(), timed_out)
        };
        self.report_expired(now, timed_out);
        self.network.expire(now);
        lock(&self.neighbors).handle_timeout(now);
        lock(&self.duplicates).handle_timeout(now);
        // An address's group is joined before the address is asked for in it (RFC 4862 5.4.2).
        self.settle_groups(now);
        self.settle_links(now, wakes);
        self.run_dhcp(now, wakes);
        self.run_router_discovery(now, wakes);
        self.run_rarp(now, wakes);
        for deadline in [time_wait, reassembly, self.network.poll_timeout()] {
            self.note_housekeeping(deadline);
        }
    }

    /// Runs every timer that is due, for engines without a runtime.
    pub fn handle_timeout(&self, now: Instant, wakes: &mut WakeList) {
        let mut updates = Vec::new();
        loop {
            self.take_all_timer_updates(&mut updates);
            let due = {
                let mut heap = lock(&self.heap);
                heap.apply(&mut updates);
                heap.pop_due(now)
            };
            match due {
                Some(slot) => self.fire(now, &slot, wakes),
                None => return,
            }
        }
    }

    /// When [`Self::handle_timeout`] is due, for engines without a runtime.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let mut updates = Vec::new();
        self.take_all_timer_updates(&mut updates);
        let mut heap = lock(&self.heap);
        heap.apply(&mut updates);
        heap.next_deadline()
    }

    fn take_all_timer_updates(&self, updates: &mut Vec<SlotRef>) {
        for shard in &self.shards {
            shard.updates.take(updates);
        }
    }

    /// Ends the stack: every socket fails with `error`, everybody who waits is woken, new sockets are refused.
    pub fn end(&self, now: Instant, error: SocketError, wakes: &mut WakeList) {
        self.ended.store(true, Ordering::SeqCst);
        let connections: Vec<_> = read(&self.connections)
            .sorted()
            .into_iter()
            .cloned()
            .collect();
        for slot in connections {
            let mut state = slot.lock();
            state.socket.connection.fail(error);
            self.settle_tcp(now, &slot, &mut state, wakes);
        }
        let listeners: Vec<_> = read(&self.listeners)
            .sorted()
            .into_iter()
            .filter_map(Weak::upgrade)
            .collect();
        for slot in listeners {
            let mut state = slot.lock();
            state.socket.error = Some(error);
            state.ready.set(
                Readiness::READABLE | Readiness::READ_CLOSED | Readiness::ERROR,
                wakes,
            );
        }
        let datagrams: Vec<_> = read(&self.datagrams)
            .sorted()
            .into_iter()
            .filter_map(Weak::upgrade)
            .collect();
        for slot in datagrams {
            let mut state = slot.lock();
            state.socket.socket.fail(error);
            let edges = state.socket.socket.take_readiness();
            state.ready.set(
                edges | Readiness::READABLE | Readiness::WRITABLE | Readiness::ERROR,
                wakes,
            );
        }
        self.end_sctp(error, wakes);
        let echoes: Vec<_> = lock(&self.echoes).values().cloned().collect();
        for slot in echoes {
            let mut state = slot.lock();
            let edges = state.socket.handle_error(error);
            state.ready.set(edges, wakes);
        }
        self.wake_address_waiters(wakes);
        self.end_listeners(wakes);
    }

    /// A device has ended: connections over it fail with `error`.
    pub fn end_interface(
        &self,
        now: Instant,
        interface: InterfaceId,
        error: SocketError,
        wakes: &mut WakeList,
    ) {
        let connections: Vec<_> = read(&self.connections)
            .sorted()
            .into_iter()
            .cloned()
            .collect();
        for slot in connections {
            let mut state = slot.lock();
            if state
                .socket
                .path
                .is_some_and(|path| path.interface == interface)
            {
                state.socket.connection.fail(error);
                self.settle_tcp(now, &slot, &mut state, wakes);
            }
        }
        self.network.end_interface(interface);
        lock(&self.memberships).remove_interface(interface);
        // Nobody is asked there any more, nor waited for.
        lock(&self.router_discovery).remove(&interface);
        self.end_sctp_over(error, wakes);
    }

    /// Whether the stack has ended.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests;
