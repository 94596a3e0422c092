//! What a connection tells about itself, and where the time goes in which it has something to send.
//!
//! Owns the snapshot behind [`Info`] and the three stopwatches of sending. Counters are counted where things happen.

use std::time::Duration;

use crate::tcp::connection::Connection;
use crate::tcp::connection::state::Lifecycle;
use crate::tcp::info::{CongestionState, Info};
use crate::time::Instant;

/// What sending waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending {
    /// The application: nothing is in flight nor to be sent.
    Idle,
    /// The path: congestion window, pacing of ACKs, Nagle.
    Path,
    /// The peer's window.
    ReceiveWindow,
    /// The application, which waits in turn for room in the send buffer.
    SendBuffer,
}

/// Where the time of sending went. Looked at when the connection has sent all it may, so a state lasts until then.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendingTime {
    state: Sending,
    since: Instant,
    /// Nanoseconds in each state but the first.
    spent: [u64; 3],
}

impl SendingTime {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            state: Sending::Idle,
            since: now,
            spent: [0; 3],
        }
    }

    fn enter(&mut self, now: Instant, state: Sending) {
        if state != self.state {
            *self = self.at(now);
            self.state = state;
        }
    }

    /// The same with all time until `now` booked.
    fn at(mut self, now: Instant) -> Self {
        if self.state != Sending::Idle {
            self.spent[self.state as usize - 1] += (now - self.since).as_nanos() as u64;
        }
        self.since = now;
        self
    }

    fn spent(&self, state: Sending) -> Duration {
        Duration::from_nanos(self.spent[state as usize - 1])
    }

    fn total(&self) -> Duration {
        Duration::from_nanos(self.spent.iter().sum())
    }
}

impl Connection {
    /// All that may be sent now has been: whatever is left waits for something.
    pub(super) fn note_sending(&mut self, now: Instant) {
        if self.options.notsent_lowat.is_some() {
            self.tell_room();
        }
        let state = self.sending();
        self.sending_time.enter(now, state);
    }

    fn sending(&self) -> Sending {
        if !matches!(self.lifecycle, Lifecycle::Synchronized { .. }) {
            return Sending::Idle;
        }
        let unsent = self.unsent();
        if unsent == 0 {
            return match (self.board.is_empty(), self.write_blocked) {
                (true, _) => Sending::Idle,
                (false, true) => Sending::SendBuffer,
                (false, false) => Sending::Path,
            };
        }
        let mss = self.mss as usize;
        if self.window.usable() < unsent.min(mss) && self.congestion_room() >= mss {
            Sending::ReceiveWindow
        } else {
            Sending::Path
        }
    }

    /// A snapshot at the time of the last event.
    pub fn info(&self) -> Info {
        self.info_at(self.clock)
    }

    /// A snapshot for diagnosis.
    pub fn info_at(&self, now: Instant) -> Info {
        let now = self.clock.max(now);
        let since = |then: Instant| now - then;
        let sending_time = self.sending_time.at(now);
        let delivery_rate = self.delivery_rate();
        Info {
            state: self.state(),
            congestion_state: self.congestion_state(),
            rtt: self.rtt.smoothed().unwrap_or_default(),
            rtt_variation: self.rtt.variation(),
            min_rtt: self.rtt.minimum().unwrap_or_default(),
            rto: self.rtt.rto(),
            backoff: self.rtt.backoff(),
            retransmit_attempts: self.timers.attempts,
            probes_unanswered: self.probes_unanswered.max(self.keepalives_unanswered),
            delayed_ack: self.receive.acks.delay(),
            cwnd: self.congestion.cwnd(),
            ssthresh: self.congestion.ssthresh(),
            pacing_rate: self.pacing_rate(),
            delivery_rate: delivery_rate.map(|(rate, _)| rate),
            delivery_rate_app_limited: delivery_rate.is_some_and(|(_, limited)| limited),
            bytes_in_flight: self.recovery.pipe(&self.board, self.mss) as usize,
            unacked: self.board.outstanding() as usize,
            sacked: self.board.sacked() as usize,
            lost: self.board.lost() as usize,
            retransmitted: self.board.retransmitted() as usize,
            reordering_window: self
                .recovery
                .reordering_window(&self.recovery_context(now), &self.board),
            send_window: self.window.snd_wnd as usize,
            receive_window: self.receive.window.len(),
            mss: self.mss as usize,
            receive_mss: self.receive.acks.largest_segment(),
            advertised_mss: usize::from(self.negotiated.our_mss),
            path_mtu: match &self.mtu_search {
                Some(search) => search.low() as usize,
                None => self.path_mtu as usize,
            },
            path_mtu_search: self
                .mtu_search
                .as_ref()
                .map(|search| (search.low() as usize, search.high() as usize)),
            send_buffered: self.buffer.len(),
            not_sent: self.not_sent(),
            send_buffer: self.send_capacity(),
            receive_buffered: self.receive.buffer.len(),
            receive_buffer: self.receive.capacity(),
            receive_rtt: self.receive.space.rtt(),
            receive_space: self.receive.space.space(),
            last_data_sent: since(self.last_sent),
            last_data_received: self.receive.acks.last_arrival().map(since),
            last_ack_received: since(self.last_received),
            bytes_acked: self.stats.bytes_acked,
            bytes_sent: self.stats.bytes_sent,
            bytes_retransmitted: self.stats.bytes_retransmitted,
            bytes_received: self.stats.bytes_received,
            segments_sent: self.stats.segments_sent,
            segments_received: self.stats.segments_received,
            data_segments_sent: self.stats.data_segments_sent,
            data_segments_received: self.stats.data_segments_received,
            out_of_order: self.stats.out_of_order.into(),
            retransmits: self.stats.retransmits,
            timeouts: self.stats.timeouts.into(),
            timeout_recoveries: self.stats.timeout_recoveries.into(),
            recoveries: self.stats.recoveries.into(),
            undos: self.stats.undos.into(),
            tail_loss_probes: self.stats.loss_probes.into(),
            mtu_probes: self.stats.mtu_probes.into(),
            black_holes: self.stats.black_holes.into(),
            dsack_dups: self.stats.duplicates_reported.into(),
            reord_seen: self.stats.reorderings.into(),
            busy_time: sending_time.total(),
            receive_window_limited: sending_time.spent(Sending::ReceiveWindow),
            send_buffer_limited: sending_time.spent(Sending::SendBuffer),
            sack: self.negotiated.sack,
            timestamps: self.negotiated.timestamps.is_some(),
            ecn: self.negotiated.ecn,
            window_scale: self
                .negotiated
                .window_scale
                .map(|scale| (scale.receive, scale.send)),
            congestion_control: self.congestion.name(),
        }
    }

    fn congestion_state(&self) -> CongestionState {
        let duplicates = self.recovery.pipe(&self.board, self.mss) < self.board.pipe();
        if self.recovery.in_fast_recovery() {
            CongestionState::Recovery
        } else if self.recovery.is_active() {
            CongestionState::Loss
        } else if self.board.has_sacked() || duplicates {
            CongestionState::Disorder
        } else {
            CongestionState::Open
        }
    }
}
