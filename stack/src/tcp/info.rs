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

/// What the sender makes of the path at present (`tcpi_ca_state`). Linux's fifth state, CWR, is not among them: the
/// window is reduced within [`Self::Recovery`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CongestionState {
    /// Nothing is amiss.
    Open,
    /// Duplicate ACKs or SACKs have come: something is late or lost, and it is not known yet which.
    Disorder,
    /// Fast recovery (RFC 8985, RFC 6582).
    Recovery,
    /// What was in flight is taken as lost: the retransmission timer has fired (RFC 6298 5.4), or the path's MTU shrank.
    Loss,
}

/// A snapshot of a connection. Octets and durations unless said otherwise; the names in parentheses are the fields of
/// Linux's `tcp_info`, some of which count segments where these count octets.
///
/// Not here: `tcpi_last_ack_sent` (Linux leaves it at 0, too), and what belongs to Fast Open and accurate ECN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Info {
    /// The state's RFC name (`tcpi_state`).
    pub state: State,
    /// What the sender makes of the path (`tcpi_ca_state`).
    pub congestion_state: CongestionState,
    /// Smoothed round-trip time (RFC 6298; `tcpi_rtt`); zero before the first sample.
    pub rtt: Duration,
    /// Round-trip time variation (RFC 6298; `tcpi_rttvar`).
    pub rtt_variation: Duration,
    /// Smallest round-trip time seen (`tcpi_min_rtt`).
    pub min_rtt: Duration,
    /// The present retransmission timeout, backoff included (`tcpi_rto`).
    pub rto: Duration,
    /// How often the timeout has been doubled since the last round-trip sample (RFC 6298 5.5; `tcpi_backoff`).
    pub backoff: u32,
    /// Timeouts in a row, of data, SYNs or window probes, since something new was acknowledged (`tcpi_retransmits`).
    pub retransmit_attempts: u32,
    /// Window and keepalive probes since the peer was last heard (`tcpi_probes`).
    pub probes_unanswered: u32,
    /// Longest delay of an ACK of ours (`tcpi_ato`).
    pub delayed_ack: Duration,
    /// Congestion window in octets (`tcpi_snd_cwnd` times `tcpi_snd_mss`).
    pub cwnd: usize,
    /// Slow start threshold in octets; `usize::MAX` when not set yet (`tcpi_snd_ssthresh`).
    pub ssthresh: usize,
    /// Octets per second at which data leaves (`tcpi_pacing_rate`); `None` when it leaves as ACKs let it, which is so unless
    /// the congestion controller paces or a maximum was set.
    pub pacing_rate: Option<u64>,
    /// Octets per second that the path has lately delivered (`tcpi_delivery_rate`). Measured on connections that pace;
    /// `None` on others.
    pub delivery_rate: Option<u64>,
    /// That rate is the application's: there was nothing more to send (`tcpi_delivery_rate_app_limited`).
    pub delivery_rate_app_limited: bool,
    /// Octets sent and neither acknowledged, selectively acknowledged nor deemed lost.
    pub bytes_in_flight: usize,
    /// Octets sent and not acknowledged cumulatively, a FIN counting as one (`tcpi_unacked`).
    pub unacked: usize,
    /// Of those, octets that the peer has acknowledged selectively (RFC 2018; `tcpi_sacked`).
    pub sacked: usize,
    /// Of those, octets deemed lost (`tcpi_lost`).
    pub lost: usize,
    /// Of those, octets whose retransmission is under way (`tcpi_retrans`).
    pub retransmitted: usize,
    /// By how much a segment may be overtaken before it counts as lost (RFC 8985 6.2; in place of `tcpi_reordering`).
    /// Zero while the path has not been seen to reorder and enough segments are SACKed.
    pub reordering_window: Duration,
    /// The peer's window in octets, scaled (`tcpi_snd_wnd`).
    pub send_window: usize,
    /// The window last advertised, in octets (`tcpi_rcv_wnd`).
    pub receive_window: usize,
    /// Octets of data per segment sent (the effective MSS of RFC 9293 3.7.1; `tcpi_snd_mss`).
    pub mss: usize,
    /// Octets of data of the largest segment received, 536 before there was a larger one (`tcpi_rcv_mss`).
    pub receive_mss: usize,
    /// The MSS that our SYN announced (`tcpi_advmss`).
    pub advertised_mss: usize,
    /// MTU of the path as known, IP header included (`tcpi_pmtu`): what the interface and ICMP say, or what probes have
    /// shown to pass (RFC 4821).
    pub path_mtu: usize,
    /// While it is searched for by probes: the largest packet known to pass, and the largest that may (RFC 4821 7.1).
    pub path_mtu_search: Option<(usize, usize)>,
    /// Octets written by the application and not yet acknowledged.
    pub send_buffered: usize,
    /// Of those, octets not sent yet (`tcpi_notsent_bytes`).
    pub not_sent: usize,
    /// Octets that may be written and not yet acknowledged, at present.
    pub send_buffer: usize,
    /// Octets received in order and not yet read.
    pub receive_buffered: usize,
    /// Octets that may be received and not yet read, at present: what the window is taken from (`tcpi_rcv_ssthresh`).
    pub receive_buffer: usize,
    /// The round trip as the receiver sees it, by echoed timestamps or by how long a window takes; zero before it is known
    /// (`tcpi_rcv_rtt`).
    pub receive_rtt: Duration,
    /// Octets that the application has read in its busiest round trip (`tcpi_rcv_space`).
    pub receive_space: usize,
    /// Time since data was last sent (`tcpi_last_data_sent`), or since the opening.
    pub last_data_sent: Duration,
    /// Time since data last came in order (`tcpi_last_data_recv`); `None` before it did.
    pub last_data_received: Option<Duration>,
    /// Time since the peer was last heard (`tcpi_last_ack_recv`).
    pub last_ack_received: Duration,
    /// Octets acknowledged by the peer in the connection's life (`tcpi_bytes_acked`).
    pub bytes_acked: u64,
    /// Octets of data sent, retransmissions included (`tcpi_bytes_sent`).
    pub bytes_sent: u64,
    /// Octets of data retransmitted (`tcpi_bytes_retrans`).
    pub bytes_retransmitted: u64,
    /// Octets received in order (`tcpi_bytes_received`).
    pub bytes_received: u64,
    /// Wire segments sent, data or not (`tcpi_segs_out`).
    pub segments_sent: u64,
    /// Wire segments received, data or not (`tcpi_segs_in`).
    pub segments_received: u64,
    /// Wire segments sent with data (`tcpi_data_segs_out`).
    pub data_segments_sent: u64,
    /// Wire segments received with data (`tcpi_data_segs_in`).
    pub data_segments_received: u64,
    /// Wire segments received with data behind a hole (`tcpi_rcv_ooopack`).
    pub out_of_order: u64,
    /// Wire segments retransmitted (`tcpi_total_retrans`).
    pub retransmits: u64,
    /// Retransmission timeouts that fired (`tcpi_total_rto`).
    pub timeouts: u64,
    /// Series of such timeouts of data: each ends with something new acknowledged (`tcpi_total_rto_recoveries`).
    pub timeout_recoveries: u64,
    /// Loss recoveries begun (fast retransmit).
    pub recoveries: u64,
    /// Recoveries, also from timeouts, that proved needless and were taken back.
    pub undos: u64,
    /// Loss probes sent (RFC 8985 7).
    pub tail_loss_probes: u64,
    /// Probes of the path's MTU sent (RFC 4821).
    pub mtu_probes: u64,
    /// How often the segment size was reduced because nothing arrived any more (RFC 4821 7.7).
    pub black_holes: u64,
    /// Segments that the peer reports to have received more than once (RFC 2883; `tcpi_dsack_dups`): needless
    /// retransmissions, but for those that the path duplicates.
    pub dsack_dups: u64,
    /// ACKs that showed segments to have overtaken each other on the path (`tcpi_reord_seen`).
    pub reord_seen: u64,
    /// Time in which there was something to send or in flight (`tcpi_busy_time`).
    pub busy_time: Duration,
    /// Of that, time in which the peer's window was what held data back (`tcpi_rwnd_limited`).
    pub receive_window_limited: Duration,
    /// Of that, time in which all was sent and the writer waited for room in the send buffer (`tcpi_sndbuf_limited`).
    pub send_buffer_limited: Duration,
    /// SACK was negotiated (`TCPI_OPT_SACK`).
    pub sack: bool,
    /// Timestamps were negotiated (`TCPI_OPT_TIMESTAMPS`).
    pub timestamps: bool,
    /// Explicit congestion notification was negotiated (RFC 3168; `TCPI_OPT_ECN`).
    pub ecn: bool,
    /// Window shift the peer applies to ours, and we to the peer's, if scaling was negotiated (`tcpi_rcv_wscale`,
    /// `tcpi_snd_wscale`).
    pub window_scale: Option<(u8, u8)>,
    /// Name of the congestion controller (`TCP_CONGESTION`).
    pub congestion_control: &'static str,
}
