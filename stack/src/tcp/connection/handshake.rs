//! Opening: SYN-SENT, and SYN-RECEIVED of a simultaneous open.
//!
//! Owns what only an opening connection needs, and drops it when the connection is synchronized. The passive side's
//! SYN-RECEIVED is a compact request in the listener, not a connection. A self-connect is a simultaneous open with
//! oneself. RFC 9293 3.5, 3.10.7.3; RFC 5961 3; RFC 6298 5.7.

use crate::error::SocketError;
use crate::stats::DropReason;
use crate::tcp::config::EcnMode;
use crate::tcp::connection::Connection;
use crate::tcp::connection::negotiated::{Negotiated, Offer, is_ecn_request};
use crate::tcp::connection::state::{Lifecycle, ReceiveHalf, SendHalf};
use crate::tcp::connection::timers::Timer;
use crate::tcp::listener::AcceptedRequest;
use crate::tcp::{Segment, SeqNum, Transmit};
use crate::time::Instant;
use crate::transport::Readiness;
use crate::wire::tcp::Flags;

/// What an opening connection knows.
#[derive(Debug)]
pub(super) struct Handshake {
    /// Initial send sequence number.
    pub(super) iss: SeqNum,
    /// What our SYN offers.
    pub(super) offer: Offer,
    /// Added to the timestamp clock.
    pub(super) timestamp_offset: u32,
    /// The peer's SYN has come, without an ACK of ours: SYN-RECEIVED.
    pub(super) syn_received: bool,
    /// The SYN (or SYN-ACK) is to be sent.
    pub(super) transmit_pending: bool,
    /// When the SYN went out, while a round trip can be measured by it (Karn).
    pub(super) sent_at: Option<Instant>,
    /// Retransmissions so far.
    pub(super) retransmissions: u32,
    /// Our SYN asks for explicit congestion notification, and none has been sent that did not.
    pub(super) ecn_requested: bool,
    /// The owner has let go: close as soon as the connection stands (RFC 9293 3.10.4).
    pub(super) close_when_established: bool,
}

impl Handshake {
    pub(super) fn new(iss: SeqNum, offer: Offer, timestamp_offset: u32, ecn: EcnMode) -> Self {
        Self {
            iss,
            offer,
            timestamp_offset,
            syn_received: false,
            transmit_pending: true,
            sent_at: None,
            retransmissions: 0,
            ecn_requested: ecn == EcnMode::Request,
            close_when_established: false,
        }
    }
}

impl Connection {
    /// The SYN, or the SYN-ACK of a simultaneous open, if it is due.
    pub(super) fn transmit_handshake(&mut self, now: Instant) -> Option<Transmit> {
        let Lifecycle::Opening(handshake) = &mut self.lifecycle else {
            return None;
        };
        if !handshake.transmit_pending {
            return None;
        }
        handshake.transmit_pending = false;
        // Karn: only a SYN sent once measures the round trip.
        handshake.sent_at = (handshake.retransmissions == 0).then_some(now);
        let first = handshake.retransmissions == 0;
        let (iss, syn_received) = (handshake.iss, handshake.syn_received);
        let ecn_requested = handshake.ecn_requested;
        let syn_options = handshake.offer.syn_options(now, handshake.timestamp_offset);
        let mut header = self.header(now, iss, Flags::SYN);
        // The window of a segment with SYN is never scaled (RFC 7323 2.2).
        header.window = self.syn_window();
        if syn_received {
            header.flags |= Flags::ACK;
            header.acknowledgment = self.receive.rcv_nxt().0;
            header.options = self.negotiated.syn_ack_options(now);
            if self.negotiated.ecn {
                header.flags |= Flags::ECE;
            }
            self.on_ack_sent();
        } else {
            header.flags = Flags::SYN;
            if ecn_requested {
                header.flags |= Flags::ECE | Flags::CWR;
            }
            header.acknowledgment = 0;
            header.options = syn_options;
        }
        self.window.snd_nxt = iss + 1;
        self.timers.stalled_since.get_or_insert(now);
        if !self.timers.is_set(Timer::Retransmit) {
            self.timers.set(Timer::Retransmit, now + self.rtt.rto());
        }
        self.stats.segments_sent += 1;
        if !first {
            self.stats.retransmits += 1;
        }
        Some(Self::bare(header))
    }

    /// The SYN went unanswered.
    pub(super) fn handshake_timeout(&mut self, now: Instant) {
        let limit = self.config.syn_retries;
        let expired = self.user_timeout_expired(now);
        let Lifecycle::Opening(handshake) = &mut self.lifecycle else {
            return;
        };
        if expired || handshake.retransmissions >= limit {
            self.give_up();
            return;
        }
        handshake.retransmissions += 1;
        handshake.transmit_pending = true;
        // RFC 3168 6.1.1.1: middleboxes drop what asks for ECN, so the next one does not, and then there is none (6.1.1).
        handshake.ecn_requested = false;
        self.negotiated.ecn = false;
        handshake.sent_at = None;
        self.stats.timeouts += 1;
        self.rtt.back_off();
        let timeout = self.timeout_within_user_limit(now, self.rtt.rto());
        self.timers.attempts += 1;
        self.timers.set(Timer::Retransmit, now + timeout);
        self.dirty = true;
    }

    /// RFC 9293 3.10.7.3: a segment in SYN-SENT.
    pub(super) fn handle_in_syn_sent(
        &mut self,
        now: Instant,
        segment: Segment,
    ) -> Result<(), DropReason> {
        let flags = segment.header.flags;
        let acknowledged = match segment.acknowledgment() {
            // First: an ACK of something not sent is answered with a reset.
            Some(ack) if ack != self.window.snd_nxt || ack == self.window.snd_una => {
                if !flags.contains(Flags::RST) {
                    self.pending.stray_reset = Some(ack);
                    self.dirty = true;
                }
                return Err(DropReason::BadAck);
            }
            ack => ack,
        };
        // Second: RST counts only with an acceptable ACK (MUST-62 area of 3.10.7.3; RFC 5961 3.2).
        if flags.contains(Flags::RST) {
            if acknowledged.is_none() {
                return Err(DropReason::Unacceptable);
            }
            self.end(Some(SocketError::ConnectionRefused));
            return Ok(());
        }
        // Fourth: a SYN.
        if !flags.contains(Flags::SYN) {
            return Err(DropReason::Unacceptable);
        }
        self.take_peer_syn(now, &segment);
        if acknowledged.is_some() {
            self.window.snd_una = self.window.snd_nxt;
            self.sample_handshake(now);
            self.become_established(now);
            self.ack_now();
            // Data and FIN that came with the SYN (3.10.7.3, fifth).
            let first = segment.sequence() + 1;
            let verdict = self.handle_text(now, first, segment);
            self.settle_halves(now);
            verdict
        } else if let Lifecycle::Opening(handshake) = &mut self.lifecycle {
            // Simultaneous open (RFC 9293 3.5, figure 8): SYN-RECEIVED, and our SYN goes out again with an ACK.
            handshake.syn_received = true;
            handshake.transmit_pending = true;
            self.dirty = true;
            // Data on such a SYN is not taken: it comes again when the connection stands.
            Ok(())
        } else {
            Ok(())
        }
    }

    /// Takes IRS, the options and the window of the peer's SYN.
    fn take_peer_syn(&mut self, now: Instant, segment: &Segment) {
        let Lifecycle::Opening(handshake) = &self.lifecycle else {
            return;
        };
        let negotiated = Negotiated::new(
            &self.config,
            &handshake.offer,
            self.tuple.remote.ip(),
            &segment.header.options,
            now,
            handshake.timestamp_offset,
        );
        let flags = segment.header.flags;
        let granted = if flags.contains(Flags::ACK) {
            flags.contains(Flags::ECE) && !flags.contains(Flags::CWR)
        } else {
            is_ecn_request(&self.config, segment)
        };
        let ecn = granted && handshake.ecn_requested;
        self.negotiated = Negotiated { ecn, ..negotiated };
        let irs = segment.sequence();
        self.receive.synchronize(
            irs,
            negotiated.receive_shift(),
            usize::from(negotiated.our_mss),
        );
        let ack = segment.acknowledgment().unwrap_or(self.window.snd_una);
        self.window
            .initialize(irs, ack, segment.header.window, negotiated.send_shift());
        self.last_ack_sent = irs + 1;
        self.begin_mtu_search();
        self.update_mss();
        self.congestion = self.new_controller();
        self.settle_pacing();
    }

    /// The round trip of the handshake (RFC 6298 2.2), and what a lost SYN means for the RTO (5.7).
    pub(super) fn sample_handshake(&mut self, now: Instant) {
        let Lifecycle::Opening(handshake) = &self.lifecycle else {
            return;
        };
        match handshake.sent_at {
            Some(sent_at) => self.rtt.sample(now - sent_at),
            None => self.rtt.fall_back(),
        }
    }

    /// Our SYN is acknowledged and the peer's has come.
    pub(super) fn become_established(&mut self, now: Instant) {
        let close = match &self.lifecycle {
            Lifecycle::Opening(handshake) => handshake.close_when_established,
            _ => return,
        };
        self.lifecycle = Lifecycle::Synchronized {
            send: if close {
                SendHalf::FinQueued
            } else {
                SendHalf::Open
            },
            receive: ReceiveHalf::Open,
        };
        self.timers.clear_all();
        self.last_sent = now;
        self.start_keepalive(now);
        self.readiness |= Readiness::WRITABLE;
        self.dirty = true;
        tracing::debug!(tuple = ?self.tuple, "established");
    }

    /// A connection whose handshake the listener has carried.
    pub(super) fn take_request(&mut self, now: Instant, request: &AcceptedRequest) {
        self.window.initialize(
            request.irs,
            request.iss,
            request.window,
            request.negotiated.send_shift(),
        );
        self.window.snd_una = request.iss + 1;
        self.window.snd_nxt = request.iss + 1;
        self.receive.synchronize(
            request.irs,
            request.negotiated.receive_shift(),
            usize::from(request.negotiated.our_mss),
        );
        self.last_ack_sent = request.irs + 1;
        match request.round_trip {
            Some(round_trip) => self.rtt.sample(round_trip),
            None if request.retransmitted => self.rtt.fall_back(),
            None => {}
        }
        self.begin_mtu_search();
        self.update_mss();
        self.congestion = self.new_controller();
        self.settle_pacing();
        self.last_sent = now;
        self.last_received = now;
        self.start_keepalive(now);
        self.readiness |= Readiness::WRITABLE;
    }
}
