//! The stack's counters: relaxed atomics inside, plain numbers outside.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::stats::DropReason;
use crate::transport::memory::MemoryStats;

/// Counters of a stack, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackStats {
    /// Packets received, super-packets counting once.
    pub packets_received: u64,
    /// Packets sent, super-packets counting once.
    pub packets_sent: u64,
    /// Octets received, network headers included.
    pub bytes_received: u64,
    /// Octets sent, network headers included.
    pub bytes_sent: u64,
    /// Packets passed on to other hosts, super-packets counting once; each is among the received and the sent ones too.
    pub packets_forwarded: u64,
    /// Memory of TCP's buffers: how much of it is in use, and what was done when it was short.
    pub tcp_memory: MemoryStats,
    /// Dropped on the way in, by reason; see [`Self::dropped`].
    drops: [u64; DropReason::COUNT],
}

impl StackStats {
    /// Packets dropped for that reason.
    pub const fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// Packets dropped in all.
    pub fn dropped_total(&self) -> u64 {
        self.drops.iter().sum()
    }
}

/// Packets that were sent and are to be counted, all at once: an atomic addition costs as much as some lines of a packet's way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    packets: u64,
    bytes: u64,
}

impl Sent {
    /// Adds a packet of that many octets.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }

    /// Whether there is none.
    pub(crate) const fn is_empty(&self) -> bool {
        self.packets == 0
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    packets_received: AtomicU64,
    packets_sent: AtomicU64,
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
    packets_forwarded: AtomicU64,
    drops: [AtomicU64; DropReason::COUNT],
}

impl Counters {
    /// Counts a batch of received packets.
    pub(crate) fn received(&self, packets: u64, bytes: u64) {
        self.packets_received.fetch_add(packets, Ordering::Relaxed);
        self.bytes_received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts what one holder of an egress lock has sent.
    pub(crate) fn sent(&self, sent: Sent) {
        self.packets_sent.fetch_add(sent.packets, Ordering::Relaxed);
        self.bytes_sent.fetch_add(sent.bytes, Ordering::Relaxed);
    }

    /// Counts a packet on its way through.
    pub(crate) fn forwarded(&self) {
        self.packets_forwarded.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a dropped packet.
    pub(crate) fn dropped(&self, reason: DropReason) {
        self.drops[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self, tcp_memory: MemoryStats) -> StackStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StackStats {
            packets_received: load(&self.packets_received),
            packets_sent: load(&self.packets_sent),
            bytes_received: load(&self.bytes_received),
            bytes_sent: load(&self.bytes_sent),
            packets_forwarded: load(&self.packets_forwarded),
            tcp_memory,
            drops: std::array::from_fn(|index| load(&self.drops[index])),
        }
    }
}
