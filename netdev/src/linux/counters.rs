//! What became of packets that did not get through, counted.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::sys::packet_socket;

/// What became of packets that did not get through at once, over all queues of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceStatistics {
    /// Packets from the kernel whose offload metadata made no sense, or that were longer than any packet may be.
    pub receive_malformed: u64,
    /// Packets that the kernel dropped because we did not read fast enough. Packet sockets only: a TUN or TAP counts
    /// them as dropped on transmission by the interface.
    pub receive_dropped: u64,
    /// Packets the kernel refused for their own sake (`EINVAL`, `EMSGSIZE`) or for a quarter of a second without end
    /// (`ENOBUFS`); they are lost.
    pub transmit_refused: u64,
    /// How often the descriptor's buffer was full (`EAGAIN`); nothing is lost.
    pub transmit_full: u64,
    /// How often a queue below was full, or memory short (`ENOBUFS`, `ENOMEM`); nothing is lost.
    pub transmit_busy: u64,
    /// How often the interface was found down with something to send (`EIO`, `ENETDOWN`); what becomes of that is
    /// for the stack to say.
    pub transmit_down: u64,
}

/// The counters of an interface, shared with its halves.
#[derive(Clone, Debug, Default)]
pub struct InterfaceCounters(Arc<Counts>);

/// The counters of a TUN.
pub type TunCounters = InterfaceCounters;

/// The counts of a TUN.
pub type TunStatistics = InterfaceStatistics;

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) receive_malformed: AtomicU64,
    receive_dropped: AtomicU64,
    pub(super) transmit_refused: AtomicU64,
    pub(super) transmit_full: AtomicU64,
    pub(super) transmit_busy: AtomicU64,
    pub(super) transmit_down: AtomicU64,
    /// Asked for what they dropped, while they are open: counters keep no socket alive.
    packet_sockets: Vec<Weak<File>>,
}

impl InterfaceCounters {
    /// The counters of packet sockets.
    pub(super) fn of_packet_sockets(sockets: &[Arc<File>]) -> Self {
        Self(Arc::new(Counts {
            packet_sockets: sockets.iter().map(Arc::downgrade).collect(),
            ..Counts::default()
        }))
    }

    /// The counts now.
    pub fn snapshot(&self) -> InterfaceStatistics {
        let counts = &*self.0;
        for socket in &counts.packet_sockets {
            let drops = socket
                .upgrade()
                .and_then(|socket| packet_socket::take_drops(&socket).ok());
            counts
                .receive_dropped
                .fetch_add(u64::from(drops.unwrap_or(0)), Ordering::Relaxed);
        }
        InterfaceStatistics {
            receive_malformed: counts.receive_malformed.load(Ordering::Relaxed),
            receive_dropped: counts.receive_dropped.load(Ordering::Relaxed),
            transmit_refused: counts.transmit_refused.load(Ordering::Relaxed),
            transmit_full: counts.transmit_full.load(Ordering::Relaxed),
            transmit_busy: counts.transmit_busy.load(Ordering::Relaxed),
            transmit_down: counts.transmit_down.load(Ordering::Relaxed),
        }
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.0
    }
}

/// Adds one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
