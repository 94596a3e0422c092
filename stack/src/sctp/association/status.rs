//! What an association tells about itself (RFC 9260 11.1.8, RFC 6458 8.2.1 `SCTP_STATUS`, 8.2.2 `SCTP_GET_PEER_ADDR_INFO`).

use std::net::IpAddr;
use std::time::Duration;

use crate::sctp::association::{Association, State};
use crate::sctp::path::{Path, PathId, PathState, PathStats};
use crate::sctp::send::SendStats;
use crate::wire::sctp::DATA_HEADER_LEN;

/// A snapshot of an association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The state (`sstat_state`).
    pub state: State,
    /// Our Verification Tag.
    pub local_tag: u32,
    /// The peer's Verification Tag; 0 while it is not known.
    pub peer_tag: u32,
    /// Octets that the peer can still take (`sstat_rwnd`).
    pub peer_rwnd: usize,
    /// TSNs sent and not cumulatively acknowledged (`sstat_unackdata`).
    pub unacked: usize,
    /// Octets received that have not been read, or cannot yet (what `sstat_penddata` counts in chunks).
    pub pending: usize,
    /// Streams the peer may send on (`sstat_instrms`).
    pub inbound_streams: u16,
    /// Streams we may send on (`sstat_outstrms`).
    pub outbound_streams: u16,
    /// Octets of a message from which on it is cut (`sstat_fragmentation_point`).
    pub fragmentation_point: usize,
    /// The primary path (`sstat_primary`).
    pub primary: PathStatus,
    /// How many paths there are.
    pub paths: usize,
    /// Octets that the send buffer is charged with.
    pub send_buffered: usize,
    /// Messages of which something was not sent yet.
    pub unsent: usize,
    /// The window we offer, in octets.
    pub receive_window: usize,
    /// Errors in a row of the association (RFC 9260 8.1).
    pub error_count: u32,
}

/// A snapshot of a path (`struct sctp_paddrinfo`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathStatus {
    /// The peer's address.
    pub address: IpAddr,
    /// Whether it can be used.
    pub state: PathState,
    /// Congestion window in octets.
    pub cwnd: usize,
    /// Slow start threshold in octets; `usize::MAX` when not set yet.
    pub ssthresh: usize,
    /// Octets in flight.
    pub flight: usize,
    /// Smoothed round-trip time; zero before the first measurement.
    pub srtt: Duration,
    /// Its variation.
    pub rtt_variation: Duration,
    /// The present retransmission timeout, backoff included.
    pub rto: Duration,
    /// The largest IP packet, in octets.
    pub mtu: usize,
    /// Errors in a row (RFC 9260 8.2).
    pub error_count: u32,
    /// Counts of the path's life.
    pub stats: PathStats,
}

impl PathStatus {
    fn of(path: &Path) -> Self {
        Self {
            address: path.remote(),
            state: path.state(),
            cwnd: path.controller().cwnd(),
            ssthresh: path.controller().ssthresh(),
            flight: path.flight(),
            srtt: path.rtt().smoothed().unwrap_or_default(),
            rtt_variation: path.rtt().variation(),
            rto: path.rto(),
            mtu: path.mtu(),
            error_count: path.error_count(),
            stats: path.stats(),
        }
    }
}

/// Counts of an association's life, restarts included (`SCTP_GET_ASSOC_STATS` of Linux, and more).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets received with a good tag.
    pub packets_received: u64,
    /// Control chunks sent, SACKs included.
    pub control_chunks_sent: u64,
    /// Control chunks received, SACKs included.
    pub control_chunks_received: u64,
    /// SACKs sent.
    pub sacks_sent: u64,
    /// SACKs received in a state in which they count.
    pub sacks_received: u64,
    /// Messages queued.
    pub messages_sent: u64,
    /// Messages read to their end.
    pub messages_received: u64,
    /// DATA chunks received.
    pub chunks_received: u64,
    /// Octets of user data received, each once.
    pub octets_received: u64,
    /// DATA chunks received again.
    pub duplicates_received: u64,
    /// DATA chunks dropped for want of room.
    pub chunks_dropped: u64,
    /// Restarts of the peer.
    pub restarts: u64,
    /// Notifications that nobody read in time.
    pub notifications_dropped: u64,
    /// What the send half counts.
    pub send: SendStats,
}

impl Stats {
    /// Adds the counts of a send half that a restart replaces.
    pub(super) fn absorb(&mut self, send: &SendStats) {
        self.send = sum(&self.send, send);
    }
}

fn sum(a: &SendStats, b: &SendStats) -> SendStats {
    SendStats {
        chunks_sent: a.chunks_sent + b.chunks_sent,
        chunks_retransmitted: a.chunks_retransmitted + b.chunks_retransmitted,
        fast_retransmits: a.fast_retransmits + b.fast_retransmits,
        timeouts: a.timeouts + b.timeouts,
        window_probes: a.window_probes + b.window_probes,
        reneged: a.reneged + b.reneged,
    }
}

impl Association {
    /// A snapshot for diagnosis.
    pub fn status(&self) -> Status {
        let primary = self.paths.get(self.paths.primary());
        let chunk = self.paths.smallest_pmdcs() - DATA_HEADER_LEN;
        let fragmentation_point = match self.config.send.maxseg {
            0 => chunk,
            maxseg => chunk.min(maxseg),
        };
        Status {
            state: self.state,
            local_tag: self.local.tag,
            peer_tag: self.peer_tag,
            peer_rwnd: self.sender.peer_rwnd(),
            unacked: self.sender.outstanding(),
            pending: self.receiver.charged() + self.retained_charge(),
            inbound_streams: self.inbound_streams,
            outbound_streams: self.sender.outbound_streams(),
            fragmentation_point,
            primary: PathStatus::of(primary),
            paths: self.paths.len(),
            send_buffered: self.sender.buffered(),
            unsent: self.sender.unsent(),
            receive_window: self.receiver.window(),
            error_count: self.paths.association_errors(),
        }
    }

    /// A snapshot of each path.
    pub fn path_statuses(&self) -> impl Iterator<Item = (PathId, PathStatus)> + '_ {
        self.paths
            .iter()
            .map(|(id, path)| (id, PathStatus::of(path)))
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        Stats {
            notifications_dropped: self.events.dropped(),
            send: sum(&self.stats.send, &self.sender.stats()),
            ..self.stats
        }
    }
}
