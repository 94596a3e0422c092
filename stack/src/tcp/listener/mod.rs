//! A passive socket: LISTEN, and the passive side's SYN-RECEIVED (RFC 9293 3.10.7.2, 3.10.7.4).
//!
//! ```text
//!   SYN ──▶ Listener ──▶ SynQueue: compact requests ──▶ poll_transmit: SYN-ACK
//!   ACK ──▶ the request ──▶ AcceptedRequest ──▶ (engine) Connection::from_request ──▶ accept queue
//! ```
//!
//! Owns the requests and what to answer until a connection stands. A request is small, so a flood of SYNs costs little
//! (RFC 4987 3.4). Leaves to the engine: sequence numbers, the accept queue itself, making and registering the
//! connection, which then gets the segment that completed the handshake with all its data. When a listener is dropped
//! its requests are forgotten, as on Linux: the peer learns of it when it sends its ACK.

mod syn_queue;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::stats::DropReason;
use crate::tcp::config::SocketOptions;
use crate::tcp::connection::{Negotiated, Offer, is_ecn_request};
use crate::tcp::receive::Acceptability;
use crate::tcp::receive::window::{ReceiveWindow, ResetPlacement, syn_window};
use crate::tcp::{Config, Segment, SeqNum, Transmit, Tuple};
use crate::time::Instant;
use crate::wire::Ecn;
use crate::wire::tcp::{Flags, Header};

use syn_queue::{Request, SynQueue};

/// How full the accept queue is, which the engine keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptQueue {
    /// Connections that wait to be accepted.
    pub len: usize,
    /// As many may wait: the backlog and one more, as on Linux.
    pub limit: usize,
}

impl AcceptQueue {
    /// Whether no further connection may wait.
    pub fn is_full(&self) -> bool {
        self.len >= self.limit
    }
}

/// What a listener needs to know when a segment arrives.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings {
    /// The accept queue's state.
    pub accept_queue: AcceptQueue,
    /// MTU of the path to the peer, IP header included; the MSS announced follows from it.
    pub path_mtu: usize,
    /// The initial send sequence number a new request gets: RFC 6528's, or what
    /// [`TimeWaitVerdict::Reopen`](crate::tcp::time_wait::TimeWaitVerdict::Reopen) says.
    pub iss: SeqNum,
    /// The timestamp offset a new request gets.
    pub timestamp_offset: u32,
}

/// What to do about a segment.
#[derive(Debug)]
pub enum ListenerVerdict {
    /// Nothing (more): it has been dealt with.
    Nothing,
    /// It was dropped for this reason.
    Drop(DropReason),
    /// To be sent: a reset for an ACK that belongs to no request (RFC 9293 3.10.7.2 second).
    Reset(Box<Transmit>),
    /// To be sent: an ACK that tells the peer what is expected (RFC 9293 3.10.7.4 first; RFC 5961).
    Ack(Box<Transmit>),
    /// The handshake is complete. The segment is the connection's first: it may carry data, or a FIN.
    Accept(Box<AcceptedRequest>),
}

impl ListenerVerdict {
    /// The listener knows no request that the segment is for, or takes none.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Drop(_) | Self::Reset(_) | Self::Ack(_))
    }
}

/// A completed handshake: what a connection needs to start in ESTABLISHED.
#[derive(Clone, Debug)]
pub struct AcceptedRequest {
    /// The stack's TCP configuration.
    pub config: Arc<Config>,
    /// Both ends.
    pub tuple: Tuple,
    /// What the SYNs settled.
    pub negotiated: Negotiated,
    /// Our initial sequence number; our SYN is acknowledged.
    pub iss: SeqNum,
    /// The peer's initial sequence number.
    pub irs: SeqNum,
    /// The window of the peer's SYN, which is never scaled.
    pub window: u16,
    /// The round trip of the handshake; `None` when the SYN-ACK was sent more than once and timestamps cannot tell.
    pub round_trip: Option<Duration>,
    /// The SYN-ACK timed out: data begins with a cautious RTO and window (RFC 6298 5.7, RFC 5681 3.1).
    pub retransmitted: bool,
}

/// Counters of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ListenerStats {
    /// Requests made from SYNs.
    pub requests: u64,
    /// Handshakes completed.
    pub accepted: u64,
    /// SYNs dropped since the SYN queue or the accept queue was full.
    pub syns_dropped: u64,
    /// Final ACKs ignored since the accept queue was full.
    pub accept_overflows: u64,
    /// SYN-ACKs sent again.
    pub retransmits: u64,
    /// Requests given up without an answer.
    pub expired: u64,
}

/// A passive socket.
#[derive(Debug)]
pub struct Listener {
    config: Arc<Config>,
    /// Octets of receive buffer of its connections.
    receive_buffer: usize,
    /// What the SYN-ACKs announce at most.
    max_mss: Option<u16>,
    requests: SynQueue,
    stats: ListenerStats,
}

impl Listener {
    /// A listener whose connections inherit `options`. `backlog` limits the SYN queue, too, as on Linux.
    pub fn new(config: Arc<Config>, options: &SocketOptions, backlog: u32) -> Self {
        let limit = (backlog as usize)
            .max(MIN_SYN_BACKLOG)
            .min(config.max_syn_backlog);
        Self {
            receive_buffer: options.receive_buffer.unwrap_or(config.receive_buffer),
            max_mss: options.capped_mss(&config),
            config,
            requests: SynQueue::new(limit),
            stats: ListenerStats::default(),
        }
    }

    /// The options that connections inherit from now on have changed.
    pub fn set_options(&mut self, options: &SocketOptions) {
        self.receive_buffer = options.receive_buffer.unwrap_or(self.config.receive_buffer);
        self.max_mss = options.capped_mss(&self.config);
    }

    /// Takes a segment to the listener's address and port that belongs to no connection.
    pub fn handle_segment(
        &mut self,
        now: Instant,
        tuple: Tuple,
        segment: &Segment,
        surroundings: &Surroundings,
    ) -> ListenerVerdict {
        if self.requests.contains(&tuple) {
            self.handle_in_syn_received(now, tuple, segment, surroundings)
        } else {
            self.handle_in_listen(now, tuple, segment, surroundings)
        }
    }

    /// The next SYN-ACK to send.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<(Tuple, Transmit)> {
        let (tuple, request) = self.requests.next_to_send()?;
        // Karn: only a SYN-ACK sent once measures the round trip.
        request.sent_at = (request.transmissions == 0).then_some(now);
        request.transmissions = request.transmissions.saturating_add(1);
        let mut flags = Flags::SYN | Flags::ACK;
        if request.negotiated.ecn {
            flags |= Flags::ECE;
        }
        let mut header = request.header(tuple, now, request.iss, flags);
        header.window = syn_window(self.receive_buffer);
        header.options = request.negotiated.syn_ack_options(now);
        self.stats.retransmits += u64::from(request.transmissions > 1);
        Some((tuple, bare(header)))
    }

    /// Whether [`Self::poll_transmit`] may have something.
    pub fn wants_transmit(&self) -> bool {
        self.requests.wants_transmit()
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.requests.next_deadline()
    }

    /// Sends SYN-ACKs again that were not answered, and forgets requests that were not answered at all.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((tuple, request)) = self.requests.next_expired(now) {
            if request.timeouts >= self.config.syn_ack_retries {
                self.requests.remove(&tuple);
                self.stats.expired += 1;
                continue;
            }
            request.timeouts += 1;
            let deadline = now + syn_ack_timeout(&self.config, request.timeouts);
            self.requests.schedule(&tuple, deadline);
            self.requests.send(&tuple);
        }
    }

    /// Handshakes under way.
    pub fn request_count(&self) -> usize {
        self.requests.len()
    }

    /// The counters.
    pub fn stats(&self) -> ListenerStats {
        self.stats
    }

    /// RFC 9293 3.10.7.2: the segment belongs to no request.
    fn handle_in_listen(
        &mut self,
        now: Instant,
        tuple: Tuple,
        segment: &Segment,
        surroundings: &Surroundings,
    ) -> ListenerVerdict {
        let flags = segment.header.flags;
        // First, RST: there is nothing it could reset.
        if flags.contains(Flags::RST) {
            return ListenerVerdict::Drop(DropReason::Unacceptable);
        }
        // Second, ACK: nothing has been sent that could be acknowledged.
        if let Some(ack) = segment.acknowledgment() {
            return ListenerVerdict::Reset(Box::new(reset(tuple, ack)));
        }
        // Third, SYN.
        let opens =
            flags.contains(Flags::SYN) && !(self.config.drop_syn_fin && flags.contains(Flags::FIN));
        if !opens {
            return ListenerVerdict::Drop(DropReason::Unacceptable);
        }
        if surroundings.accept_queue.is_full() || self.requests.is_full() {
            // The peer's SYN comes again. The oldest request does not make way: a flood would push out every honest one.
            self.stats.syns_dropped += 1;
            return ListenerVerdict::Drop(DropReason::Backlog);
        }
        let remote = tuple.remote.ip();
        let offer = Offer::capped(&self.config, self.max_mss, remote, surroundings.path_mtu);
        let negotiated = Negotiated::new(
            &self.config,
            &offer,
            tuple.remote.ip(),
            &segment.header.options,
            now,
            surroundings.timestamp_offset,
        );
        let ecn = is_ecn_request(&self.config, segment);
        let request = Request {
            negotiated: Negotiated { ecn, ..negotiated },
            iss: surroundings.iss,
            irs: segment.sequence(),
            window: segment.header.window,
            transmissions: 0,
            timeouts: 0,
            sent_at: None,
            last_reply: None,
        };
        // Data on the SYN is not kept: nobody is obliged to, and the peer sends it again (RFC 9293 3.10.7.2 third
        // would queue it, a flood of SYNs would make that expensive).
        let deadline = now + syn_ack_timeout(&self.config, 0);
        self.requests.insert(tuple, request, deadline);
        self.requests.send(&tuple);
        self.stats.requests += 1;
        ListenerVerdict::Nothing
    }

    /// RFC 9293 3.10.7.4 for SYN-RECEIVED: the segment belongs to a request.
    fn handle_in_syn_received(
        &mut self,
        now: Instant,
        tuple: Tuple,
        segment: &Segment,
        surroundings: &Surroundings,
    ) -> ListenerVerdict {
        let window_size = self.receive_buffer;
        let Some(request) = self.requests.get_mut(&tuple) else {
            return ListenerVerdict::Nothing;
        };
        let flags = segment.header.flags;
        let control = Flags::SYN | Flags::ACK | Flags::RST | Flags::FIN;
        if flags.0 & control.0 == Flags::SYN.0 && segment.sequence() == request.irs {
            // A peer that asks no more for ECN gets none (RFC 3168 6.1.1.1), nor one that had been refused it.
            request.negotiated.ecn &= is_ecn_request(&self.config, segment);
            return self.answer_again(now, tuple);
        }
        // An ACK of something else than our SYN comes from an older connection: reset that (3.10.7.4 fifth). Before
        // the other checks, as in Linux, so that only who saw the SYN-ACK can change anything.
        let acknowledgment = segment.acknowledgment();
        if let Some(ack) = acknowledgment.filter(|ack| *ack != request.iss + 1) {
            return if flags.contains(Flags::RST) {
                ListenerVerdict::Drop(DropReason::BadAck)
            } else {
                ListenerVerdict::Reset(Box::new(reset(tuple, ack)))
            };
        }
        let window = ReceiveWindow::new(request.irs, 0, window_size, 1);
        let sequence = segment.sequence();
        if flags.contains(Flags::RST) {
            return match window.place_reset(sequence) {
                ResetPlacement::Exact => {
                    self.requests.remove(&tuple);
                    ListenerVerdict::Nothing
                }
                ResetPlacement::InWindow => request.acknowledge(now, tuple, window_size),
                ResetPlacement::Outside => ListenerVerdict::Drop(DropReason::OutOfWindow),
            };
        }
        let timestamps = request
            .negotiated
            .timestamps
            .zip(segment.header.options.timestamps);
        let is_old = timestamps.is_some_and(|(state, option)| state.is_old(option.value, now));
        let acceptability = window.acceptability(sequence, segment.sequence_len());
        // A SYN in the window gets a challenge as in the synchronized states (RFC 5961 4.2): a peer that has restarted
        // answers it with a reset that fits, a forger cannot.
        if is_old || acceptability == Acceptability::Unacceptable || flags.contains(Flags::SYN) {
            return request.acknowledge(now, tuple, window_size);
        }
        if acknowledgment.is_none() {
            return ListenerVerdict::Drop(DropReason::Unacceptable);
        }
        if surroundings.accept_queue.is_full() {
            // As Linux: the peer thinks it is connected; our SYN-ACK comes again, and its ACK then.
            self.stats.accept_overflows += 1;
            return ListenerVerdict::Drop(DropReason::Backlog);
        }
        let echoed = timestamps.and_then(|(state, option)| state.round_trip(option.echo, now));
        let accepted = AcceptedRequest {
            config: Arc::clone(&self.config),
            tuple,
            negotiated: request.negotiated,
            iss: request.iss,
            irs: request.irs,
            window: request.window,
            round_trip: request.sent_at.map(|sent_at| now - sent_at).or(echoed),
            retransmitted: request.timeouts > 0,
        };
        self.requests.remove(&tuple);
        self.stats.accepted += 1;
        ListenerVerdict::Accept(Box::new(accepted))
    }

    /// The peer's SYN came again: our SYN-ACK was lost or is under way. It goes out again, and the timer with it.
    fn answer_again(&mut self, now: Instant, tuple: Tuple) -> ListenerVerdict {
        let Some(request) = self.requests.get_mut(&tuple) else {
            return ListenerVerdict::Nothing;
        };
        if !request.may_reply(now) {
            return ListenerVerdict::Drop(DropReason::RateLimited);
        }
        let deadline = now + syn_ack_timeout(&self.config, request.timeouts);
        self.requests.schedule(&tuple, deadline);
        self.requests.send(&tuple);
        ListenerVerdict::Nothing
    }
}

impl Request {
    /// An ACK that says what is expected, unless there was one just now.
    fn acknowledge(
        &mut self,
        now: Instant,
        tuple: Tuple,
        receive_buffer: usize,
    ) -> ListenerVerdict {
        if !self.may_reply(now) {
            return ListenerVerdict::Drop(DropReason::RateLimited);
        }
        let mut header = self.header(tuple, now, self.iss + 1, Flags::ACK);
        header.window = syn_window(receive_buffer) >> self.negotiated.receive_shift();
        ListenerVerdict::Ack(Box::new(bare(header)))
    }

    /// Whether an answer to something unexpected may be sent now; notes that it is.
    fn may_reply(&mut self, now: Instant) -> bool {
        let may = self
            .last_reply
            .is_none_or(|last| now.saturating_since(last) >= REPLY_INTERVAL);
        if may {
            self.last_reply = Some(now);
        }
        may
    }

    /// A header without window that acknowledges the peer's SYN.
    fn header(&self, tuple: Tuple, now: Instant, sequence: SeqNum, flags: Flags) -> Header {
        let mut header = Header {
            source_port: tuple.local.port(),
            destination_port: tuple.remote.port(),
            sequence: sequence.0,
            acknowledgment: (self.irs + 1).0,
            flags,
            ..Header::default()
        };
        header.options.timestamps = self.negotiated.timestamps.map(|state| state.option(now));
        header
    }
}

/// How long to wait for the answer to a SYN-ACK that has timed out so often (RFC 6298 2.1, 5.5).
fn syn_ack_timeout(config: &Config, timeouts: u32) -> Duration {
    config
        .initial_rto
        .saturating_mul(1 << timeouts.min(16))
        .min(config.max_rto)
}

/// RFC 9293 3.10.7.2: `<SEQ=SEG.ACK><CTL=RST>`.
fn reset(tuple: Tuple, acknowledgment: SeqNum) -> Transmit {
    bare(Header {
        source_port: tuple.local.port(),
        destination_port: tuple.remote.port(),
        sequence: acknowledgment.0,
        flags: Flags::RST,
        ..Header::default()
    })
}

fn bare(header: Header) -> Transmit {
    Transmit {
        header,
        payload: tidewire_netdev::Payload::new(),
        segment_size: None,
        ecn: Ecn::NotEct,
    }
}

/// Requests a listener may have in any case: with a backlog of 1, several peers may still be shaking hands while the
/// accept queue has room. Linux's floor.
const MIN_SYN_BACKLOG: usize = 8;

/// At most one answer to unexpected segments of a request in this time: Linux's `tcp_invalid_ratelimit`. It ends loops
/// of two sides that answer each other.
const REPLY_INTERVAL: Duration = Duration::from_millis(500);
