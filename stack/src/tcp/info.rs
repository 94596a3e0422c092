//! What a connection tells about itself, as Linux's `tcp_info` does.

use std::time::Duration;

/// The RFC 9293 3.3.2 state name, derived from the connection's halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are RFC 9293's own")]
pub enum State {
    Closed,
    Listen,
    SynSent,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
}

/// A snapshot of a connection. Octets and durations unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Info {
    /// The state's RFC name.
    pub state: State,
    /// Smoothed round-trip time (RFC 6298); zero before the first sample.
    pub rtt: Duration,
    /// Round-trip time variation (RFC 6298).
    pub rtt_variation: Duration,
    /// Smallest round-trip time seen.
    pub min_rtt: Duration,
    /// The present retransmission timeout, backoff included.
    pub rto: Duration,
    /// Congestion window in octets.
    pub cwnd: usize,
    /// Slow start threshold in octets; `usize::MAX` when not set yet.
    pub ssthresh: usize,
    /// Octets sent and neither acknowledged, selectively acknowledged nor deemed lost.
    pub bytes_in_flight: usize,
    /// The peer's window in octets, scaled.
    pub send_window: usize,
    /// The window last advertised, in octets.
    pub receive_window: usize,
    /// Octets of data per segment sent (the effective MSS).
    pub mss: usize,
    /// Octets written by the application and not yet acknowledged.
    pub send_buffered: usize,
    /// Octets received in order and not yet read.
    pub receive_buffered: usize,
    /// Octets acknowledged by the peer in the connection's life.
    pub bytes_acked: u64,
    /// Octets of data sent, retransmissions included.
    pub bytes_sent: u64,
    /// Octets of data retransmitted.
    pub bytes_retransmitted: u64,
    /// Octets received in order.
    pub bytes_received: u64,
    /// Wire segments sent, data or not.
    pub segments_sent: u64,
    /// Wire segments received, data or not.
    pub segments_received: u64,
    /// Wire segments retransmitted.
    pub retransmits: u64,
    /// Retransmission timeouts that fired.
    pub timeouts: u64,
    /// Loss recoveries begun (fast retransmit).
    pub recoveries: u64,
    /// Recoveries, also from timeouts, that proved needless and were taken back.
    pub undos: u64,
    /// Loss probes sent (RFC 8985 7).
    pub tail_loss_probes: u64,
    /// Segments that the peer reports to have received more than once (RFC 2883): needless retransmissions, but for
    /// those that the path duplicates.
    pub dsack_dups: u64,
    /// ACKs that showed segments to have overtaken each other on the path.
    pub reord_seen: u64,
    /// SACK was negotiated.
    pub sack: bool,
    /// Timestamps were negotiated.
    pub timestamps: bool,
    /// Window shift the peer applies to ours, and we to the peer's, if scaling was negotiated.
    pub window_scale: Option<(u8, u8)>,
    /// Name of the congestion controller.
    pub congestion_control: &'static str,
}
