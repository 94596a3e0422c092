//! A slot: one socket's protocol state behind its own lock, with its readiness, its place on a ready list and its timer.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::engine::ready_cache::ReadyCache;
use crate::engine::sctp_one_to_many::OneToMany;
use crate::engine::sctp_sockets::{SctpListenerSocket, SctpSocket};
use crate::engine::shard::ShardId;
use crate::engine::sockets::{EchoSocket, ListenerSocket, TcpSocket, UdpSocket};
use crate::time::Instant;
use crate::transport::Readiness;

/// A TCP connection's slot.
pub type TcpSlot = Slot<TcpSocket>;
/// A listener's slot.
pub type ListenerSlot = Slot<ListenerSocket>;
/// A UDP socket's slot.
pub type UdpSlot = Slot<UdpSocket>;
/// An SCTP association's slot.
pub type SctpSlot = Slot<SctpSocket>;
/// An SCTP listener's slot.
pub type SctpListenerSlot = Slot<SctpListenerSocket>;
/// What a one-to-many SCTP socket knows of its associations: its lock is a leaf, not a slot's.
pub type OneToManySlot = Slot<OneToMany>;
/// An ICMP echo socket's slot.
pub type EchoSlot = Slot<EchoSocket>;

/// What the slot's lock protects.
#[derive(Debug)]
pub struct SlotState<T> {
    /// The protocol's state.
    pub socket: T,
    /// The cached readiness and the waiters.
    pub ready: ReadyCache,
}

/// One socket. Shared by its handle, the demux and, for a moment, lists.
#[derive(Debug)]
pub struct Slot<T> {
    state: Mutex<SlotState<T>>,
    /// On its shard's ready list, or about to be polled from it.
    queued: AtomicBool,
    /// Its packets go to own addresses, so that sending delivers them.
    local: bool,
    /// The shard whose ready list and timers it is on, for life.
    home: ShardId,
    /// Its timer.
    pub(crate) timer: TimerState,
}

impl<T> Slot<T> {
    /// A slot for `socket` that begins with `ready` set.
    pub fn new(socket: T, ready: Readiness) -> Self {
        Self {
            state: Mutex::new(SlotState {
                socket,
                ready: ReadyCache::new(ready),
            }),
            queued: AtomicBool::new(false),
            local: false,
            home: ShardId::FIRST,
            timer: TimerState::default(),
        }
    }

    /// The same slot, its peer on this host if `local`.
    #[must_use]
    pub(crate) fn with_local(mut self, local: bool) -> Self {
        self.local = local;
        self
    }

    /// The same slot, at home in that shard.
    #[must_use]
    pub(crate) fn with_home(mut self, home: ShardId) -> Self {
        self.home = home;
        self
    }

    /// The shard whose ready list and timers it is on.
    pub const fn home(&self) -> ShardId {
        self.home
    }

    /// Locks the state. Order of locks: shard egress, then one slot, then leaf locks.
    ///
    /// A panic of another holder has left the state as it was between two assignments; the protocol code never
    /// panics on input, so this is a bug elsewhere, and the socket goes on.
    pub fn lock(&self) -> MutexGuard<'_, SlotState<T>> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Claims the place on the ready list; `false` when it is there already.
    pub(crate) fn claim_ready(&self) -> bool {
        !self.queued.swap(true, Ordering::AcqRel)
    }

    /// Whether it has its place on the ready list. Whoever holds the lock can rely on it: the place is given up under the
    /// lock, and what the holder has changed is seen when the slot's turn comes.
    pub(crate) fn is_queued(&self) -> bool {
        self.queued.load(Ordering::Relaxed)
    }

    /// Gives the place up, before the slot is polled: under its lock, or to claim it again at once.
    pub(crate) fn release_ready(&self) {
        self.queued.store(false, Ordering::Release);
    }
}

/// A slot of any kind.
#[derive(Clone, Debug)]
pub enum SlotRef {
    /// A TCP connection.
    Tcp(Arc<TcpSlot>),
    /// A listener.
    Listener(Arc<ListenerSlot>),
    /// A UDP socket.
    Udp(Arc<UdpSlot>),
    /// An SCTP association.
    Sctp(Arc<SctpSlot>),
    /// An SCTP listener.
    SctpListener(Arc<SctpListenerSlot>),
    /// An ICMP echo socket.
    Echo(Arc<EchoSlot>),
    /// The stack itself: TIME-WAIT, reassembly, caches.
    Housekeeping(Arc<TimerState>),
}

impl SlotRef {
    pub(crate) fn timer(&self) -> &TimerState {
        match self {
            Self::Tcp(slot) => &slot.timer,
            Self::Listener(slot) => &slot.timer,
            Self::Udp(slot) => &slot.timer,
            Self::Sctp(slot) => &slot.timer,
            Self::SctpListener(slot) => &slot.timer,
            Self::Echo(slot) => &slot.timer,
            Self::Housekeeping(timer) => timer,
        }
    }

    /// The shard whose ready list and timers it is on.
    pub fn home(&self) -> ShardId {
        match self {
            Self::Tcp(slot) => slot.home,
            Self::Listener(slot) => slot.home,
            Self::Udp(slot) => slot.home,
            Self::Sctp(slot) => slot.home,
            Self::SctpListener(slot) => slot.home,
            Self::Echo(slot) => slot.home,
            Self::Housekeeping(_) => ShardId::FIRST,
        }
    }

    /// Whether what it sends is delivered to this host.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Tcp(slot) => slot.local,
            Self::Sctp(slot) => slot.local,
            _ => false,
        }
    }

    pub(crate) fn claim_ready(&self) -> bool {
        match self {
            Self::Tcp(slot) => slot.claim_ready(),
            Self::Listener(slot) => slot.claim_ready(),
            Self::Udp(slot) => slot.claim_ready(),
            Self::Sctp(slot) => slot.claim_ready(),
            Self::SctpListener(slot) => slot.claim_ready(),
            Self::Echo(slot) => slot.claim_ready(),
            Self::Housekeeping(_) => false,
        }
    }

    pub(crate) fn release_ready(&self) {
        match self {
            Self::Tcp(slot) => slot.release_ready(),
            Self::Listener(slot) => slot.release_ready(),
            Self::Udp(slot) => slot.release_ready(),
            Self::Sctp(slot) => slot.release_ready(),
            Self::SctpListener(slot) => slot.release_ready(),
            Self::Echo(slot) => slot.release_ready(),
            Self::Housekeeping(_) => {}
        }
    }
}

macro_rules! slot_ref_from {
    ($($slot:ty => $variant:ident),*) => {$(
        impl From<&Arc<$slot>> for SlotRef {
            fn from(slot: &Arc<$slot>) -> Self {
                Self::$variant(Arc::clone(slot))
            }
        }
    )*};
}
slot_ref_from!(
    TcpSlot => Tcp,
    ListenerSlot => Listener,
    UdpSlot => Udp,
    SctpSlot => Sctp,
    SctpListenerSlot => SctpListener,
    EchoSlot => Echo
);

/// The timer of one slot, as seen from both sides: the engine lowers `registered`, whoever runs the timers keeps one
/// entry and moves it only earlier.
#[derive(Debug)]
pub struct TimerState {
    /// The deadline asked for or armed, in nanoseconds; `u64::MAX` when none is.
    registered: AtomicU64,
    /// On the list of timer updates.
    queued: AtomicBool,
    /// The driver's entry for it, plus one; 0 when it has none. Only the driver uses it.
    pub(crate) token: AtomicU32,
    /// The slot is gone: the driver removes its entry.
    finished: AtomicBool,
}

impl Default for TimerState {
    fn default() -> Self {
        Self {
            registered: AtomicU64::new(u64::MAX),
            queued: AtomicBool::new(false),
            token: AtomicU32::new(0),
            finished: AtomicBool::new(false),
        }
    }
}

impl TimerState {
    /// Asks for `deadline`. `true` when that is earlier than anything asked before: an update must then be on the list.
    pub(crate) fn lower(&self, deadline: Instant) -> bool {
        let deadline = deadline.as_nanos();
        if self.registered.load(Ordering::Relaxed) <= deadline {
            return false;
        }
        self.registered.fetch_min(deadline, Ordering::SeqCst) > deadline
    }

    /// Claims the place on the list of updates; `false` when it is there already.
    ///
    /// Sequentially consistent, as [`Self::take_update`]: whoever finds the place taken knows that the deadline it has
    /// stored before will be seen by whoever takes the update off.
    pub(crate) fn claim_update(&self) -> bool {
        !self.queued.swap(true, Ordering::SeqCst)
    }

    /// No timer is wanted any more. `true` when an update must be queued so that the entry goes.
    pub(crate) fn finish(&self) -> bool {
        self.finished.store(true, Ordering::SeqCst);
        let had = self.registered.swap(u64::MAX, Ordering::SeqCst) != u64::MAX
            || self.token.load(Ordering::Acquire) != 0;
        had && self.claim_update()
    }

    /// Takes an update off the list: the deadline to arm, or `None` when the entry is to be removed.
    pub(crate) fn take_update(&self) -> Option<Instant> {
        self.queued.swap(false, Ordering::SeqCst);
        match self.registered.load(Ordering::SeqCst) {
            u64::MAX => None,
            nanos => Some(Instant::from_nanos(nanos)),
        }
    }

    /// The entry has fired: nothing is armed.
    pub(crate) fn fired(&self) {
        self.registered.store(u64::MAX, Ordering::Release);
    }

    /// The deadline asked for or armed.
    pub(crate) fn registered(&self) -> Option<Instant> {
        match self.registered.load(Ordering::SeqCst) {
            u64::MAX => None,
            nanos => Some(Instant::from_nanos(nanos)),
        }
    }

    /// Whether the slot is gone.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_and_what_lists_hold_of_them_stay_small() {
        let parts = [
            ("TcpSlot", size_of::<TcpSlot>(), 1744),
            ("ListenerSlot", size_of::<ListenerSlot>(), 640),
            ("UdpSlot", size_of::<UdpSlot>(), 768),
            ("SctpSlot", size_of::<SctpSlot>(), 3200),
            ("SctpListenerSlot", size_of::<SctpListenerSlot>(), 1024),
            ("EchoSlot", size_of::<EchoSlot>(), 256),
            ("ReadyCache", size_of::<ReadyCache>(), 64),
            ("TimerState", size_of::<TimerState>(), 16),
            ("SlotRef", size_of::<SlotRef>(), 16),
        ];
        for (part, size, limit) in parts {
            println!("{part:16} {size:5} octets, {limit} at most");
        }
        for (part, size, limit) in parts {
            assert!(size <= limit, "{part}: {size} octets");
        }
    }
}
