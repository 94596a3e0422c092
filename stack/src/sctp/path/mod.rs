//! The paths of an association: one for each transport address of the peer.
//!
//! A [`Path`] owns what is measured and permitted towards one address: round trip, congestion window, flight, T3-rtx, MTU.
//! [`Paths`] owns the table of them, the choice of path for data and retransmissions (RFC 9260 6.4), the error counters
//! (8.1, 8.2) and the heartbeats (8.3). What is in flight, TSN by TSN, is `send`'s; packets are the association's.
//!
//! ```text
//!                  HEARTBEAT ACK            errors > PotentiallyFailed.Max.Retrans, if there are other paths
//!   Unconfirmed ──────────────────▶ Active ─────────────────────────────▶ PotentiallyFailed
//!   (no data, 5.4)                  ▲ ▲  │ ◀──────────────────────────────   │ (RFC 7829)
//!                     HEARTBEAT ACK,│    │ errors > Path.Max.Retrans         │
//!                 data acknowledged └── Inactive ◀───────────────────────────┘
//! ```

use std::net::IpAddr;
use std::time::Duration;

use crate::sctp::serial::Tsn;
use crate::time::Instant;
use crate::transport::congestion::{
    AckSample, CongestionControl, Controller, Cubic, InitialWindow, SctpReno, Timeout,
};
use crate::transport::rtt::RttEstimator;

mod config;
mod heartbeat;
mod table;
#[cfg(test)]
mod tests;

pub use config::PathConfig;
pub use table::{HeartbeatSwitch, PathChange, PathVerdict, Paths};

use heartbeat::Heartbeat;

/// Names a path of one association; stays valid for the life of its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathId(pub(super) u8);

impl PathId {
    /// Its place in the table.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Whether a path can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathState {
    /// The peer has not shown that the address is its own: nothing but heartbeats may be sent there (RFC 9260 5.4).
    Unconfirmed,
    /// In use, or fit for it.
    Active,
    /// More errors in a row than PotentiallyFailed.Max.Retrans: data goes elsewhere while heartbeats find out, one RTO
    /// after the other, whether it still works (RFC 7829 3.2).
    PotentiallyFailed,
    /// More errors in a row than Path.Max.Retrans (8.2). Heartbeats go on.
    Inactive,
}

/// Counts of a path's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathStats {
    /// Packets sent to the address.
    pub packets_sent: u64,
    /// DATA chunks sent there, those sent again included.
    pub chunks_sent: u64,
    /// How often T3-rtx found data unacknowledged.
    pub timeouts: u64,
    /// HEARTBEATs sent.
    pub heartbeats_sent: u64,
    /// HEARTBEATs that were answered.
    pub heartbeats_answered: u64,
}

/// A packet's place for a DATA chunk, as the rules of transmission see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The packet is empty: sending the chunk means sending a packet for it.
    First,
    /// The packet holds control chunks and goes out anyway; the chunk would be its first DATA.
    WithControl,
    /// The packet holds DATA chunks already.
    AfterData,
}

/// One destination address of the peer, and what is known of the way to it.
#[derive(Debug)]
pub struct Path {
    remote: IpAddr,
    local: Option<IpAddr>,
    state: PathState,
    mtu: usize,
    /// What the user permits at most, whatever the path carries.
    mtu_limit: usize,
    rtt: RttEstimator,
    congestion_control: CongestionControl,
    controller: Box<dyn Controller>,
    /// Octets of DATA chunks, headers and padding included, that are sent here and neither acknowledged nor given up.
    flight: usize,
    /// Octets of them ever sent here; wraps.
    sent: u32,
    /// Errors since the last sign of life (8.2).
    error_count: u32,
    /// Path.Max.Retrans.
    max_retrans: u32,
    /// PotentiallyFailed.Max.Retrans.
    pf_max_retrans: u32,
    /// When T3-rtx fires.
    t3: Option<Instant>,
    /// The TSN whose acknowledgment gives the next round trip (6.3.1 C4: one measurement per round trip).
    measurement: Option<Measurement>,
    heartbeat: Heartbeat,
    /// When DATA was last sent here; for the decay of the window (7.2.1).
    last_data: Option<Instant>,
    /// Sending stopped last for want of congestion window: it is in full use, whatever the flight is in the middle of a
    /// batch of SACKs.
    window_full: bool,
    /// T3-rtx fired and nothing has been acknowledged since: one packet in flight at most (7.2.1, 7.2.3).
    one_packet: Option<OnePacket>,
    /// Packets of new data that may still leave in this burst (6.1 D).
    burst_left: u32,
    max_burst: u32,
    /// The device that the way leads through takes no packets at the moment: no DATA goes here.
    held_back: bool,
    stats: PathStats,
}

/// Why a path may have one packet in flight only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnePacket {
    /// Data timed out: until some is acknowledged.
    Timeout,
    /// The peer has no room: until it has, or data is acknowledged.
    ClosedWindow,
}

/// A round trip being measured.
#[derive(Clone, Copy, Debug)]
struct Measurement {
    tsn: Tsn,
    sent_at: Instant,
}

impl Path {
    fn new(
        config: &PathConfig,
        remote: IpAddr,
        local: Option<IpAddr>,
        mtu: usize,
        state: PathState,
    ) -> Self {
        let mtu = mtu.max(MIN_MTU);
        Self {
            remote,
            local,
            state,
            mtu,
            mtu_limit: usize::MAX,
            rtt: RttEstimator::new(config.rto_bounds()),
            congestion_control: config.congestion_control,
            controller: controller(config.congestion_control, remote, pmdcs(remote, mtu)),
            flight: 0,
            sent: 0,
            error_count: 0,
            max_retrans: config.path_max_retrans,
            pf_max_retrans: config.pf_max_retrans,
            t3: None,
            measurement: None,
            heartbeat: Heartbeat::new(config.heartbeat_interval),
            last_data: None,
            window_full: false,
            one_packet: None,
            burst_left: config.max_burst,
            max_burst: config.max_burst,
            held_back: false,
            stats: PathStats::default(),
        }
    }

    /// The peer's address.
    pub fn remote(&self) -> IpAddr {
        self.remote
    }

    /// The source address for packets on this path; `None` leaves it to routing.
    pub fn local(&self) -> Option<IpAddr> {
        self.local
    }

    /// Changes the source address. That changes the route, so congestion control starts anew (7.2.5.2).
    pub fn set_local(&mut self, local: Option<IpAddr>) {
        if self.local.is_some() && self.local != local {
            self.reset_congestion();
        }
        self.local = local;
    }

    /// Whether the path can be used.
    pub fn state(&self) -> PathState {
        self.state
    }

    /// Whether the address is known to be the peer's (5.4).
    pub fn is_confirmed(&self) -> bool {
        self.state != PathState::Unconfirmed
    }

    /// The largest IP packet the path carries, in octets.
    pub fn mtu(&self) -> usize {
        self.mtu
    }

    /// What a packet has for chunks: the MTU without IP and SCTP headers, cut to whole words.
    pub fn pmdcs(&self) -> usize {
        pmdcs(self.remote, self.mtu)
    }

    /// The round trip's estimates.
    pub fn rtt(&self) -> &RttEstimator {
        &self.rtt
    }

    /// The retransmission timeout, backoff included.
    pub fn rto(&self) -> Duration {
        self.rtt.rto()
    }

    /// The congestion window, threshold and their rules.
    pub fn controller(&self) -> &dyn Controller {
        self.controller.as_ref()
    }

    /// Octets of DATA chunks in flight, headers and padding included (7.2).
    pub fn flight(&self) -> usize {
        self.flight
    }

    /// Errors in a row (8.2).
    pub fn error_count(&self) -> u32 {
        self.error_count
    }

    /// Path.Max.Retrans of this path.
    pub fn max_retrans(&self) -> u32 {
        self.max_retrans
    }

    /// Sets Path.Max.Retrans of this path.
    pub fn set_max_retrans(&mut self, max_retrans: u32) {
        self.max_retrans = max_retrans;
    }

    /// PotentiallyFailed.Max.Retrans of this path.
    pub fn pf_max_retrans(&self) -> u32 {
        self.pf_max_retrans
    }

    /// Sets PotentiallyFailed.Max.Retrans of this path.
    pub fn set_pf_max_retrans(&mut self, pf_max_retrans: u32) {
        self.pf_max_retrans = pf_max_retrans;
    }

    /// The counters.
    pub fn stats(&self) -> PathStats {
        self.stats
    }

    /// A packet leaves for the address.
    pub(in crate::sctp) fn on_packet_sent(&mut self) {
        self.stats.packets_sent += 1;
    }

    /// The device that the way leads through takes packets or not: while it does not, DATA waits.
    pub(in crate::sctp) fn set_held_back(&mut self, held_back: bool) {
        self.held_back = held_back;
    }

    /// Changes the bounds of the RTO.
    pub fn set_rto_bounds(&mut self, config: &PathConfig) {
        self.rtt.set_bounds(config.rto_bounds());
    }

    /// When T3-rtx fires, if it runs.
    pub fn t3(&self) -> Option<Instant> {
        self.t3
    }

    /// Sets Max.Burst for this path (6.1 D); 0 lifts the limit.
    pub fn set_max_burst(&mut self, max_burst: u32) {
        self.max_burst = max_burst;
        self.burst_left = max_burst;
    }

    /// Takes a round trip that was measured without doubt, by the handshake for instance (6.3.1).
    pub fn sample_rtt(&mut self, round_trip: Duration) {
        self.rtt.sample(round_trip);
    }

    /// Doubles the RTO: a timer of this path that is not T3-rtx has fired (T1-init, T2-shutdown; 6.3.3 E2).
    pub fn back_off(&mut self) {
        self.rtt.back_off();
    }

    /// Starts congestion control anew: the route or the DSCP changed (7.2.5).
    pub fn reset_congestion(&mut self) {
        self.controller = controller(self.congestion_control, self.remote, self.pmdcs());
    }

    /// Whether that is another MTU than before.
    fn set_mtu(&mut self, mtu: usize) -> bool {
        let mtu = mtu.min(self.mtu_limit).max(MIN_MTU);
        if std::mem::replace(&mut self.mtu, mtu) == mtu {
            return false;
        }
        if self.last_data.is_none() {
            // The initial window follows the MTU as long as it is initial (7.2.1).
            self.reset_congestion();
        } else {
            self.controller.set_mss(self.pmdcs());
        }
        true
    }
}

/// What `send` does with a path.
impl Path {
    /// Whether the congestion window lets a chunk of `size` octets out (6.1 B): a packet may begin while the flight is
    /// below cwnd, and so exceed it once; after a timeout there is one packet at a time (7.2.3).
    pub(super) fn window_admits(&self, position: Position, size: usize) -> bool {
        match position {
            Position::First | Position::WithControl => {
                !self.held_back
                    && self.flight < self.controller.cwnd()
                    && !(self.one_packet.is_some() && self.flight > 0)
            }
            Position::AfterData => self.flight + size < self.controller.cwnd() + self.pmdcs(),
        }
    }

    /// Whether Max.Burst lets another packet of new data out (6.1 D). With nothing in flight a burst begins: what was sent
    /// in the last one may have moved to another path, whose burst its acknowledgment has prolonged.
    pub(super) fn burst_admits(&self, position: Position) -> bool {
        position == Position::AfterData
            || self.max_burst == 0
            || self.burst_left > 0
            || self.flight == 0
    }

    /// Sending has come to its end for now, for want of window or of data: what comes next is a new burst.
    pub(super) fn end_burst(&mut self, window_full: bool) {
        self.window_full = window_full;
        self.burst_left = self.max_burst;
    }

    /// Sending stopped for another reason than the congestion window, in the middle of a burst.
    pub(super) fn note_unfilled(&mut self) {
        self.window_full = false;
    }

    /// A SACK of new data, or a timeout: time to transmit has come once more (6.1 D). Several SACKs may be handled before
    /// anything is sent, and each gives its share, as if sending had followed each of them.
    pub(super) fn extend_burst(&mut self) {
        self.burst_left = self.burst_left.saturating_add(self.max_burst);
    }

    /// DATA is about to be sent here for the first time: a window not used for some RTOs has decayed (7.2.1).
    pub(super) fn begin_packet(&mut self, now: Instant) {
        if self.flight == 0
            && let Some(last) = self.last_data
        {
            let idle = now.saturating_since(last);
            self.controller.on_idle(now, idle, Some(self.rtt.rto()));
        }
        if self.flight == 0 && self.burst_left == 0 {
            self.burst_left = self.max_burst;
        }
        self.burst_left = self.burst_left.saturating_sub(1);
    }

    /// A chunk of `size` octets was sent here.
    pub(super) fn on_sent(&mut self, now: Instant, size: usize) {
        self.flight += size;
        self.sent = self.sent.wrapping_add(size as u32);
        self.last_data = Some(now);
        self.stats.chunks_sent += 1;
    }

    /// A chunk of `size` octets is no longer in flight here.
    pub(super) fn on_left_flight(&mut self, size: usize) {
        debug_assert!(self.flight >= size, "more left the flight than was in it");
        self.flight = self.flight.saturating_sub(size);
    }

    /// A chunk of `size` octets is in flight after all: the peer dropped it again (6.2.1 D iii).
    pub(super) fn on_reneged(&mut self, size: usize) {
        self.flight += size;
    }

    /// New DATA with `tsn` leaves: it measures the round trip, if nothing does so yet. Also a sign of use (8.3).
    pub(super) fn on_new_data(&mut self, now: Instant, tsn: Tsn) {
        self.measurement
            .get_or_insert(Measurement { tsn, sent_at: now });
        self.heartbeat.on_used(now);
    }

    /// `tsn` is retransmitted: no TSN at or after it can measure a round trip any more (6.3.1 C5).
    pub(super) fn on_retransmission(&mut self, tsn: Tsn) {
        if self.measurement.is_some_and(|m| !m.tsn.is_before(tsn)) {
            self.measurement = None;
        }
    }

    /// The TSN being measured.
    pub(super) fn measured_tsn(&self) -> Option<Tsn> {
        self.measurement.map(|m| m.tsn)
    }

    /// The TSN being measured was acknowledged.
    pub(super) fn complete_measurement(&mut self, now: Instant) -> Option<Duration> {
        let measurement = self.measurement.take()?;
        let round_trip = now.saturating_since(measurement.sent_at);
        self.rtt.sample(round_trip);
        Some(round_trip)
    }

    /// `bytes_acked` octets sent here were newly acknowledged, with `flight_before` in flight before the SACK.
    pub(super) fn on_acked(
        &mut self,
        now: Instant,
        bytes_acked: usize,
        flight_before: usize,
        round_trip: Option<Duration>,
        may_grow: bool,
    ) {
        self.one_packet = None;
        self.extend_burst();
        if may_grow {
            let fully_used = self.window_full || flight_before >= self.controller.cwnd();
            self.controller.on_ack(&AckSample {
                now,
                bytes_acked,
                in_flight: flight_before,
                // What has left the flight was acknowledged, or will be sent again.
                acknowledged: self.sent.wrapping_sub(self.flight as u32),
                sent: self.sent,
                rtt: round_trip,
                smoothed_rtt: self.rtt.smoothed().unwrap_or(self.rtt.rto()),
                application_limited: !fully_used,
            });
        }
    }

    /// Chunks sent here were found missing, once per Fast Recovery (7.2.3, 7.2.4).
    pub(super) fn on_loss(&mut self, now: Instant, flight_before: usize) {
        let flight_size = self.flight_size(flight_before);
        self.controller.on_congestion_event(now, flight_size);
    }

    /// What a reduction starts from: gap blocks have emptied the flight in part by the time a loss is seen, so a window in
    /// full use stands for it (RFC 9438 4.6).
    fn flight_size(&self, flight: usize) -> usize {
        if self.window_full {
            flight.max(self.controller.cwnd())
        } else {
            flight
        }
    }

    /// T3-rtx has fired for data in flight (6.3.3 E1, E2).
    pub(super) fn on_t3(&mut self, now: Instant) {
        let timeout = match self.one_packet {
            Some(OnePacket::Timeout) => Timeout::Repeated,
            _ => Timeout::First,
        };
        let flight_size = self.flight_size(self.flight);
        self.controller
            .on_retransmission_timeout(now, flight_size, timeout);
        self.rtt.back_off();
        self.stats.timeouts += 1;
        self.measurement = None;
        self.one_packet = Some(OnePacket::Timeout);
        self.window_full = false;
        self.extend_burst();
    }

    /// T3-rtx has fired for a probe of the peer's closed window, which says nothing about the path (6.1 A).
    pub(super) fn on_probe_timeout(&mut self) {
        self.measurement = None;
        self.one_packet.get_or_insert(OnePacket::ClosedWindow);
        self.extend_burst();
    }

    /// The peer's window has opened.
    pub(super) fn on_window_opened(&mut self) {
        self.one_packet
            .take_if(|why| *why == OnePacket::ClosedWindow);
    }

    /// Starts T3-rtx anew with the present RTO.
    pub(super) fn restart_t3(&mut self, now: Instant) {
        self.t3 = Some(now + self.rtt.rto());
    }

    /// Starts T3-rtx unless it runs, with the present RTO doubled `doublings` more times.
    pub(super) fn start_t3(&mut self, now: Instant, doublings: u32) {
        if self.t3.is_none() {
            self.t3 = Some(now + self.rtt.rto_doubled(doublings));
        }
    }

    /// Stops T3-rtx.
    pub(super) fn stop_t3(&mut self) {
        self.t3 = None;
    }
}

#[cfg(test)]
impl Path {
    pub(super) fn controller_mut(&mut self) -> &mut dyn Controller {
        self.controller.as_mut()
    }
}

/// The largest DATA chunk, header and padding included, in a packet of `mtu` octets to `remote` (PMDCS, RFC 9260 1.3).
fn pmdcs(remote: IpAddr, mtu: usize) -> usize {
    let ip_header = if remote.is_ipv4() { 20 } else { 40 };
    // A chunk's length has 16 bits.
    ((mtu - ip_header - SCTP_HEADER) & !3).min(MAX_CHUNK)
}

/// The common header (RFC 9260 3.1).
const SCTP_HEADER: usize = 12;

/// The largest chunk with its padding.
const MAX_CHUNK: usize = 65_532;

/// The smallest MTU that is believed, whatever ICMP says: against floods of tiny packets, as Linux.
const MIN_MTU: usize = 512;

fn controller(kind: CongestionControl, remote: IpAddr, pmdcs: usize) -> Box<dyn Controller> {
    let initial_window = if remote.is_ipv4() {
        InitialWindow::SCTP_V4
    } else {
        InitialWindow::SCTP_V6
    };
    match kind {
        CongestionControl::NewReno => Box::new(SctpReno::new(pmdcs, initial_window)),
        CongestionControl::Cubic | CongestionControl::Bbr => {
            Box::new(Cubic::with_initial_window(pmdcs, initial_window))
        }
    }
}
