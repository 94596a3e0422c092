//! Everything about TCP that tests, scripts or users vary.

use std::time::Duration;

pub use crate::transport::congestion::CongestionControl;

/// When explicit congestion notification is used (RFC 3168 6.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum EcnMode {
    /// Never.
    Off,
    /// When this side connects it asks for it, and grants it to peers that ask.
    Request,
    /// Peers that ask get it.
    #[default]
    Accept,
}

/// When the path's MTU is searched for with segments larger than the rest (RFC 4821), besides what ICMP says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum MtuProbing {
    /// Never.
    Off,
    /// Once nothing arrives any more: segments become small, and probes find out how large they may be. Until then this
    /// costs nothing.
    #[default]
    AfterBlackHole,
    /// From the beginning: segments are small at first, and probes find out how large they may be.
    Always,
}

/// TCP's configuration. Each field says its meaning, unit, origin and default.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Congestion controller. Default CUBIC, as Linux.
    pub congestion_control: CongestionControl,
    /// Initial congestion window in segments (RFC 6928). Default 10.
    pub initial_window: u32,
    /// Fall back to the initial window after an idle RTO (RFC 5681 4.1), and give up by half what of the window an application
    /// has not used for an RTO (RFC 2861 3.2). Default true, as Linux (`tcp_slow_start_after_idle`).
    pub idle_restart: bool,
    /// RTO before the first sample (RFC 6298 2.1). Default 1 s.
    pub initial_rto: Duration,
    /// Lower bound of the RTO's variation term (`RTO = SRTT + max(min_rto, 4 RTTVAR)`). RFC 6298 2.4 says 1 s for the
    /// whole; Linux uses 200 ms, since delayed ACKs are 40 to 200 ms and a lower bound would time them out. It is also
    /// what a loss probe of a lone segment allows for the peer's delayed ACK. Default 200 ms.
    pub min_rto: Duration,
    /// Upper bound of the RTO (RFC 6298 2.5 permits 60 s or more). Default 120 s, as Linux.
    pub max_rto: Duration,
    /// Retransmissions of data before giving up with ETIMEDOUT (RFC 9293 3.8.3, R2). Default 15, as Linux (about 15 minutes).
    pub retries: u32,
    /// Retransmissions of a SYN before giving up. RFC 9293 3.8.3 wants at least 3 minutes (MUST-23); Linux's 6 give up after
    /// 127 s. Default 7 (247 s).
    pub syn_retries: u32,
    /// Retransmissions of a SYN-ACK before the request is forgotten. Default 5, as Linux.
    pub syn_ack_retries: u32,
    /// Retransmissions for a connection nobody holds any more. Default 8, as Linux.
    pub orphan_retries: u32,
    /// Longest delay of an ACK (RFC 9293 3.8.6.3, MUST be under 500 ms). Default 40 ms, as Linux.
    pub delayed_ack: Duration,
    /// Segments acknowledged at once at the start of a connection, before ACKs are delayed (Linux's quickack). Default 16.
    pub quick_acks: u32,
    /// How long TIME-WAIT lasts. RFC 9293 says 2 MSL, 4 minutes; Linux 60 s. Default 60 s.
    pub time_wait: Duration,
    /// How long FIN-WAIT-2 lasts once nobody holds the socket. Default 60 s, as Linux's `tcp_fin_timeout`.
    pub fin_wait_2: Duration,
    /// Offer window scaling (RFC 7323 2). Default true.
    pub window_scaling: bool,
    /// Offer timestamps (RFC 7323 3). Default true.
    pub timestamps: bool,
    /// Offer SACK (RFC 2018). Default true.
    pub sack: bool,
    /// Explicit congestion notification (RFC 3168), with RFC 8511's reduction. Default [`EcnMode::Accept`], as Linux
    /// (`net.ipv4.tcp_ecn`, where these modes are 0, 1 and 2).
    pub ecn: EcnMode,
    /// Receive buffer a new connection starts with, in octets. It grows as the application reads what comes in a round
    /// trip (Linux's `tcp_moderate_rcvbuf`), unless the socket has set a size. With segments of 16 KiB and more, as on the loopback, room for 40 of them if it is
    /// not set to less than two. Default 128 KiB, as Linux's `tcp_rmem`.
    pub receive_buffer: usize,
    /// Largest receive buffer of one socket, in octets: where growth ends, and what a socket may set; also decides the
    /// window shift. Default 32 MiB.
    pub max_receive_buffer: usize,
    /// As much on the shortest paths, where growth ends earlier: see [`Self::short_send_buffer`]. Default 6 MiB, as
    /// Linux's largest (`tcp_rmem`).
    pub short_receive_buffer: usize,
    /// Octets a socket may hold unacknowledged before writes wait, while its congestion window is less than half of it:
    /// later twice that window (Linux's `tcp_sndbuf_expand`), unless the socket has set a size. Default 128 KiB.
    pub send_buffer: usize,
    /// Largest send buffer of one socket, in octets: where growth ends, and what a socket may set. Default 32 MiB.
    pub max_send_buffer: usize,
    /// As much on the shortest paths. Between the two, growth ends at what a path of 4 GB/s holds in the connection's
    /// smallest round trip: a sender that is faster than a peer on its own host or network would fill any buffer, and
    /// all that it fills has left the processor's cache when it is needed again. Data that is not copied
    /// ([`TcpStream::write_bytes`](crate::net::TcpStream::write_bytes)) takes no room there: it may be four times as much.
    /// Default 512 KiB; what is not a whole super-packet is left off.
    pub short_send_buffer: usize,
    /// MSS assumed when the peer's SYN names none (RFC 9293 3.7.1, MUST-15): 536 for IPv4, 1220 for IPv6.
    pub default_mss_v4: u16,
    /// See [`Self::default_mss_v4`].
    pub default_mss_v6: u16,
    /// Smallest MSS used, whatever the peer or ICMP says, against floods of tiny packets. Default 48, as Linux.
    pub min_mss: u16,
    /// Caps the MSS announced and used; `None` leaves it to the path. Default `None`.
    pub max_mss: Option<u16>,
    /// Idle time before the first keepalive probe when keepalive is on (RFC 9293 3.8.4, MUST be at least 2 h by default). Default 7200 s.
    pub keepalive_idle: Duration,
    /// Time between keepalive probes. Default 75 s, as Linux.
    pub keepalive_interval: Duration,
    /// Unanswered keepalive probes before the connection is given up. Default 9, as Linux.
    pub keepalive_probes: u32,
    /// Challenge ACKs per second and connection (RFC 5961 7). Default 10.
    pub challenge_ack_limit: u32,
    /// Listeners drop a SYN with a FIN, which only scanners send, as Linux does. RFC 9293 3.10.7.2 lets it open a
    /// connection; the FIN, like data on a SYN, is then not acknowledged and comes again. Default true.
    pub drop_syn_fin: bool,
    /// Duplicate ACKs that begin recovery (RFC 5681 3.2); with SACK, segments SACKed, until the path is seen to reorder
    /// (RFC 8985 6.2). Default 3.
    pub duplicate_ack_threshold: u32,
    /// Probe for the loss of the last segments after two round trips of silence, on connections with SACK, instead of
    /// waiting for the retransmission timeout (RFC 8985 7). Default true, as Linux (`tcp_early_retrans`).
    pub tail_loss_probe: bool,
    /// When probes search for the path's MTU (RFC 4821). Default [`MtuProbing::AfterBlackHole`]; Linux (`net.ipv4.tcp_mtu_probing`,
    /// where these modes are 0, 1 and 2) has 0. Stacks in user space are often behind tunnels, the usual place for a router
    /// whose ICMP is not heard, and a connection that meets none is not changed by the default.
    pub mtu_probing: MtuProbing,
    /// Data octets per segment (timestamps not counted) that are used after a black hole and where a search begins
    /// (RFC 4821 7.2). With IPv6 at least what makes a packet of 1280. Default 1024, as Linux (`tcp_base_mss`).
    pub mtu_probe_base: u16,
    /// The same at the least, after several black holes in a row (RFC 4821 7.7). Default 48, as Linux (`tcp_mtu_probe_floor`).
    pub mtu_probe_floor: u16,
    /// Time between the end of a search and the next (RFC 4821 7.3: MUST NOT be less than 5 minutes). Default 10 minutes,
    /// as Linux (`tcp_probe_interval`).
    pub mtu_probe_interval: Duration,
    /// Ranges of out-of-order data kept at most; more are dropped and come again. Default 16,384, half of what a path of
    /// 100 Mbit/s and 300 ms carries: as many holes as its queue can make by dropping every other segment.
    pub max_reassembly_ranges: usize,
    /// Connections that nobody holds and that still have data or a FIN to deliver, per stack. Default 8192, as Linux at 1 GiB.
    pub max_orphans: usize,
    /// Entries of the TIME-WAIT table, per stack; at the limit the oldest goes. Default 32,768.
    pub max_time_wait: usize,
    /// Requests of a listener between SYN and ACK, at most. Default 1024; the backlog may make it smaller.
    pub max_syn_backlog: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            congestion_control: CongestionControl::Cubic,
            initial_window: 10,
            idle_restart: true,
            initial_rto: Duration::from_secs(1),
            min_rto: Duration::from_millis(200),
            max_rto: Duration::from_secs(120),
            retries: 15,
            syn_retries: 7,
            syn_ack_retries: 5,
            orphan_retries: 8,
            delayed_ack: Duration::from_millis(40),
            quick_acks: 16,
            time_wait: Duration::from_secs(60),
            fin_wait_2: Duration::from_secs(60),
            window_scaling: true,
            timestamps: true,
            sack: true,
            ecn: EcnMode::Accept,
            receive_buffer: 128 << 10,
            max_receive_buffer: 32 << 20,
            short_receive_buffer: 6 << 20,
            send_buffer: 128 << 10,
            max_send_buffer: 32 << 20,
            short_send_buffer: 512 << 10,
            default_mss_v4: 536,
            default_mss_v6: 1220,
            min_mss: 48,
            max_mss: None,
            keepalive_idle: Duration::from_secs(7200),
            keepalive_interval: Duration::from_secs(75),
            keepalive_probes: 9,
            challenge_ack_limit: 10,
            duplicate_ack_threshold: 3,
            tail_loss_probe: true,
            drop_syn_fin: true,
            mtu_probing: MtuProbing::AfterBlackHole,
            mtu_probe_base: 1024,
            mtu_probe_floor: 48,
            mtu_probe_interval: Duration::from_secs(600),
            max_reassembly_ranges: 16_384,
            max_orphans: 8192,
            max_time_wait: 32_768,
            max_syn_backlog: 1024,
        }
    }
}

/// What one socket may set for itself; the rest comes from [`Config`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct SocketOptions {
    /// Send small segments at once (RFC 9293 3.7.4: Nagle off). Default false.
    pub nodelay: bool,
    /// Probe an idle peer (RFC 9293 3.8.4, MUST be off by default). Default false.
    pub keepalive: bool,
    /// Own keepalive idle time instead of [`Config::keepalive_idle`] (`TCP_KEEPIDLE`).
    pub keepalive_idle: Option<Duration>,
    /// Own time between probes instead of [`Config::keepalive_interval`] (`TCP_KEEPINTVL`).
    pub keepalive_interval: Option<Duration>,
    /// Own number of probes instead of [`Config::keepalive_probes`] (`TCP_KEEPCNT`).
    pub keepalive_probes: Option<u32>,
    /// What `SO_LINGER` says: `None` finishes in the background, zero resets at close. Default `None`.
    pub linger: Option<Duration>,
    /// How long data may stay unacknowledged, or a peer unheard by probes, before the connection fails with ETIMEDOUT
    /// (`TCP_USER_TIMEOUT`, RFC 5482); `None` leaves it to the retries. Default `None`.
    pub user_timeout: Option<Duration>,
    /// Send buffer in octets instead of [`Config::send_buffer`].
    pub send_buffer: Option<usize>,
    /// Receive buffer in octets instead of [`Config::receive_buffer`].
    pub receive_buffer: Option<usize>,
    /// Own congestion controller instead of [`Config::congestion_control`] (`TCP_CONGESTION`).
    pub congestion_control: Option<CongestionControl>,
    /// Caps the MSS announced and used, besides [`Config::max_mss`] (`TCP_MAXSEG`). Of no effect once the SYN is out.
    pub max_mss: Option<u16>,
    /// Hold back what does not fill a segment, for 200 ms at most (`TCP_CORK`). Default false.
    pub cork: bool,
    /// Octets that may wait unsent in the send buffer: with more, writes wait (`TCP_NOTSENT_LOWAT`). `None`, the
    /// default, leaves it to the send buffer's size.
    pub notsent_lowat: Option<usize>,
    /// Own time in FIN-WAIT-2 instead of [`Config::fin_wait_2`], zero for none at all (`TCP_LINGER2`).
    pub fin_wait_2: Option<Duration>,
}

impl SocketOptions {
    /// What socket and stack permit as MSS.
    pub(crate) fn capped_mss(&self, config: &Config) -> Option<u16> {
        match (self.max_mss, config.max_mss) {
            (Some(own), Some(all)) => Some(own.min(all)),
            (own, all) => own.or(all),
        }
    }
}
