//! One TCP connection: opening, synchronized, until TIME-WAIT or the end.
//!
//! Owns the parts and joins them; each part owns its own state and returns small values.
//!
//! | file | concern |
//! |---|---|
//! | `state` | send half × receive half, the RFC's state names |
//! | `negotiated` | what the two SYNs settled |
//! | `handshake` | SYN-SENT, simultaneous open |
//! | `input` | RFC 9293 3.10.7.4, the order of checks; ACK processing |
//! | `receiving` | text, FIN, and the ACKs they call for |
//! | `output` | `poll_transmit`, the one way out |
//! | `pacing` | departures, the delivery rate, which controller |
//! | `timers`, `keepalive` | deadlines, retransmission, probes, giving up |
//! | `close` | shutdown, close, abort, linger, orphans, the way to TIME-WAIT |
//! | `icmp` | RFC 5927 |
//! | `path_mtu` | the segment size: ICMP, probes, black holes |
//! | `ecn` | marks, their echo, one reduction a window |
//! | `urgent` | the urgent pointer |
//! | `io` | write, read, errors |
//! | `buffer_size` | how large both buffers may be: growth with the path, the stack's memory |
//! | `options` | what the socket sets for itself |
//! | `info` | what it tells about itself, and where its sending time goes |
//!
//! ```text
//!   handle_segment ─┐                         ┌─▶ poll_transmit  (segments)
//!   handle_icmp ────┤                         ├─▶ poll_timeout   (one deadline)
//!   handle_timeout ─┼──▶    Connection    ────┼─▶ take_readiness (edges)
//!   write, read ────┤                         └─▶ phase          (TIME-WAIT, closed)
//!   close, abort ───┘
//! ```

mod buffer_size;
mod close;
mod ecn;
mod handshake;
mod icmp;
mod info;
mod input;
mod io;
mod keepalive;
pub mod negotiated;
mod options;
mod output;
mod pacing;
mod path_mtu;
mod receiving;
pub mod reset;
mod state;
mod timers;
mod urgent;

use std::sync::Arc;

pub(in crate::tcp) use negotiated::is_ecn_request;
pub use negotiated::{Negotiated, Offer, TimestampState, WindowScale};
pub use reset::reset_reply;
pub use state::{ReceiveHalf, SendHalf};

use crate::error::SocketError;
use crate::tcp::config::{CongestionControl, SocketOptions};
use crate::tcp::listener::AcceptedRequest;
use crate::tcp::send::{MtuSearch, Recovery, Scoreboard, SendBuffer, SendWindow, WindowUse};
use crate::tcp::time_wait::TimeWaitEntry;
use crate::tcp::{Config, SeqNum, Tuple};
use crate::time::Instant;
use crate::transport::Readiness;
use crate::transport::congestion::{Bbr, Controller, Cubic, NewReno};
use crate::transport::memory::MemoryAccount;
use crate::transport::rtt::{LowerBound, RtoBounds, RttEstimator};

use ecn::EcnState;
use handshake::Handshake;
use info::SendingTime;
use input::ChallengeLimit;
use output::Pending;
use pacing::Paced;
use receiving::ReceiveSide;
use state::Lifecycle;
use timers::Timers;
use urgent::Urgent;

/// What an active open needs to know (RFC 9293 3.10.1).
#[derive(Clone, Debug)]
pub struct OpenParameters {
    /// The stack's TCP configuration.
    pub config: Arc<Config>,
    /// What the socket set for itself.
    pub options: Arc<SocketOptions>,
    /// Both ends.
    pub tuple: Tuple,
    /// Initial send sequence number (RFC 6528).
    pub iss: SeqNum,
    /// Added to the timestamp clock (RFC 7323 7.1).
    pub timestamp_offset: u32,
    /// The MTU of the interface or path at opening, IP header included; the MSS announced follows from it.
    pub path_mtu: usize,
}

/// What the engine has to do with a connection.
#[derive(Debug)]
pub enum Phase {
    /// It takes segments and timeouts.
    Open,
    /// It is over for the peer's sake only: the TIME-WAIT table takes the tuple over. Said once.
    TimeWait(Box<TimeWaitEntry>),
    /// The tuple is free. Data not read yet stays readable.
    Closed,
}

/// One connection. See the module's documentation for its parts.
#[derive(Debug)]
pub struct Connection {
    tuple: Tuple,
    config: Arc<Config>,
    /// Shared among those that have set the same: a connection that sets something gets its own.
    options: Arc<SocketOptions>,
    lifecycle: Lifecycle,
    negotiated: Negotiated,
    /// IP header included; what the way out said last.
    path_mtu: u32,
    ip_header_len: u16,
    /// Effective send MSS: data octets per segment (RFC 9293 3.7.1).
    mss: u32,
    /// The search for what the path carries; few connections have one.
    mtu_search: Option<Box<MtuSearch>>,

    buffer: SendBuffer,
    window: SendWindow,
    board: Scoreboard,
    recovery: Recovery,
    rtt: RttEstimator,
    congestion: Box<dyn Controller>,
    /// Pacing and the delivery rate, where there is a use for them.
    paced: Option<Box<Paced>>,
    /// How much of the congestion window is in use.
    window_use: WindowUse,
    ecn: EcnState,

    receive: ReceiveSide,
    /// Last.ACK.sent (RFC 7323 4.3).
    last_ack_sent: SeqNum,

    timers: Timers,
    pending: Pending,
    challenges: ChallengeLimit,
    urgent: Option<Box<Urgent>>,
    /// The latest time anything happened at.
    clock: Instant,
    last_sent: Instant,
    last_received: Instant,
    probes_unanswered: u32,
    keepalives_unanswered: u32,

    readiness: Readiness,
    error: Option<SocketError>,
    /// What ICMP said, told instead of ETIMEDOUT.
    soft_error: Option<SocketError>,
    /// There may be something to send.
    dirty: bool,
    /// Octets delivered since there was last a chance to send.
    unanswered: u32,
    /// The peer opened it.
    passive: bool,
    /// A write did not fit: the writer waits for room.
    write_blocked: bool,
    /// The application gives what is large by reference, as far as its last such write goes.
    gives_references: bool,
    read_shutdown: bool,
    /// Nobody holds the connection any more.
    orphan: bool,
    stats: Counters,
    sending_time: SendingTime,
    memory: MemoryAccount,
}

/// Counters behind [`crate::tcp::Info`].
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    bytes_acked: u64,
    bytes_sent: u64,
    bytes_retransmitted: u64,
    bytes_received: u64,
    segments_sent: u64,
    segments_received: u64,
    retransmits: u64,
    /// As far as 32 bits tell.
    duplicates_reported: u32,
    // Events of whole round trips: 32 bits last for longer than connections do.
    timeouts: u32,
    recoveries: u32,
    undos: u32,
    loss_probes: u32,
    reorderings: u32,
    out_of_order: u32,
    timeout_recoveries: u32,
    mtu_probes: u32,
    black_holes: u32,
    data_segments_sent: u64,
    data_segments_received: u64,
}

impl Connection {
    /// An active open: SYN-SENT. The SYN goes out with the first [`Self::poll_transmit`].
    pub fn open(now: Instant, parameters: OpenParameters) -> Self {
        let OpenParameters {
            config,
            options,
            tuple,
            iss,
            timestamp_offset,
            path_mtu,
        } = parameters;
        let remote = tuple.remote.ip();
        let offer = Offer::capped(&config, options.capped_mss(&config), remote, path_mtu);
        let ecn = config.ecn;
        let negotiated = Negotiated::pending(&config, &offer, remote);
        let mut connection = Self::blank(now, config, options, tuple, negotiated, iss);
        connection.path_mtu = path_mtu as u32;
        connection.lifecycle =
            Lifecycle::Opening(Box::new(Handshake::new(iss, offer, timestamp_offset, ecn)));
        connection.dirty = true;
        connection
    }

    /// A passive open whose handshake the listener has carried: ESTABLISHED. The engine passes the segment that
    /// completed it to [`Self::handle_segment`] next, for its data and window.
    pub fn from_request(
        now: Instant,
        request: AcceptedRequest,
        options: Arc<SocketOptions>,
    ) -> Self {
        let config = Arc::clone(&request.config);
        let mut connection = Self::blank(
            now,
            config,
            options,
            request.tuple,
            request.negotiated,
            request.iss,
        );
        connection.lifecycle = Lifecycle::Synchronized {
            send: SendHalf::Open,
            receive: ReceiveHalf::Open,
        };
        connection.passive = true;
        connection.take_request(now, &request);
        connection
    }

    fn blank(
        now: Instant,
        config: Arc<Config>,
        options: Arc<SocketOptions>,
        tuple: Tuple,
        negotiated: Negotiated,
        iss: SeqNum,
    ) -> Self {
        let rtt = RttEstimator::new(RtoBounds {
            initial: config.initial_rto,
            min: LowerBound::Variation(config.min_rto),
            max: config.max_rto,
        });
        let capacity = buffer_size::initial_receive_buffer(&config, &options, negotiated.our_mss);
        let ip_header_len = tuple.ip_header_len();
        let path_mtu = usize::from(negotiated.our_mss) + negotiated::TCP_HEADER_LEN + ip_header_len;
        let mss = negotiated.effective_mss(path_mtu, ip_header_len, 0) as u32;
        Self {
            tuple,
            lifecycle: Lifecycle::Closed,
            negotiated,
            path_mtu: path_mtu as u32,
            ip_header_len: ip_header_len as u16,
            mss,
            mtu_search: None,
            buffer: SendBuffer::new(iss + 1),
            window: SendWindow::new(iss),
            board: Scoreboard::new(iss + 1),
            recovery: Recovery::new(),
            rtt,
            congestion: controller(&config, &options, mss as usize, iss),
            paced: None,
            window_use: WindowUse::new(now, iss + 1),
            ecn: EcnState::new(iss),
            receive: ReceiveSide::new(&config, capacity),
            last_ack_sent: SeqNum(0),
            timers: Timers::new(),
            pending: Pending::default(),
            challenges: ChallengeLimit::default(),
            urgent: None,
            clock: now,
            last_sent: now,
            last_received: now,
            probes_unanswered: 0,
            keepalives_unanswered: 0,
            readiness: Readiness::NONE,
            error: None,
            soft_error: None,
            dirty: false,
            unanswered: 0,
            passive: false,
            write_blocked: false,
            gives_references: false,
            read_shutdown: false,
            orphan: false,
            stats: Counters::default(),
            sending_time: SendingTime::new(now),
            memory: MemoryAccount::default(),
            options,
            config,
        }
    }

    /// Whether the peer opened the connection.
    pub const fn is_passive(&self) -> bool {
        self.passive
    }

    /// Both ends.
    pub fn tuple(&self) -> Tuple {
        self.tuple
    }

    /// Now, but never before what has happened. Threads take turns with a connection, and one that read its clock before
    /// another may come after it. A timestamp that goes back is a segment that PAWS drops (RFC 7323 5.3), and a
    /// later segment with an earlier time looks lost to RACK.
    fn advance_clock(&mut self, now: Instant) -> Instant {
        self.clock = self.clock.max(now);
        self.clock
    }

    /// How far the connection has come.
    pub fn progress(&self) -> Progress {
        Progress {
            acknowledged: self.window.snd_una.0,
            received: self.receive.window.rcv_nxt().0,
        }
    }

    /// The edges since the last call.
    pub fn take_readiness(&mut self) -> Readiness {
        std::mem::take(&mut self.readiness)
    }

    /// Whether the connection holds any buffer: an idle one does not.
    pub fn owns_buffers(&self) -> bool {
        self.buffer.owns_memory()
            || self.board.owns_memory()
            || self.receive.buffer.charged() > 0
            || !self.receive.is_in_order()
            || self.pending.acks.capacity() > 0
    }

    /// The controller for the segment size now known.
    fn new_controller(&self) -> Box<dyn Controller> {
        controller(
            &self.config,
            &self.options,
            self.mss as usize,
            self.window.snd_una,
        )
    }
}

/// How far a connection has come: when it changes, the peer has got what was sent of late (RFC 4861 7.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    acknowledged: u32,
    received: u32,
}

/// The controller that is configured. Initial sequence numbers differ from flow to flow: they decide when BBR probes.
fn controller(
    config: &Config,
    options: &SocketOptions,
    mss: usize,
    seed: SeqNum,
) -> Box<dyn Controller> {
    let segments = config.initial_window;
    match options
        .congestion_control
        .unwrap_or(config.congestion_control)
    {
        CongestionControl::Bbr => Box::new(Bbr::new(mss, segments, u64::from(seed.0))),
        CongestionControl::Cubic => Box::new(Cubic::new(mss, config.initial_window)),
        CongestionControl::NewReno => Box::new(NewReno::new(mss, config.initial_window)),
    }
}

#[cfg(test)]
mod tests;
