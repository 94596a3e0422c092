//! The one way out: every segment of a connection is built here.
//!
//! Owns the order in which things are sent and the headers. What may be sent is decided by the window, the scoreboard,
//! recovery and the congestion controller; handlers of input and timers only leave marks in `Pending`.
//! RFC 9293 3.7.4 (Nagle), 3.8.6 (window), 3.10.2; RFC 5681 4.1 (idle restart); RFC 6675 4 (NextSeg), RFC 8985 7.3 (loss probes).

use std::collections::VecDeque;

use smallvec::SmallVec;
use tidewire_netdev::Payload;

use crate::tcp::connection::Connection;
use crate::tcp::connection::negotiated::TCP_HEADER_LEN;
use crate::tcp::connection::path_mtu::MtuProbe;
use crate::tcp::connection::state::{Lifecycle, SendHalf};
use crate::tcp::connection::timers::{RetransmitCause, Timer};
use crate::tcp::send::window::{Candidate, WindowVerdict};
use crate::tcp::send::window_use::Sending;
use crate::tcp::{SeqNum, Transmit, TransmitLimits};
use crate::time::Instant;
use crate::wire::Ecn;
use crate::wire::tcp::{Flags, Header, Options};

/// What is to be sent besides data, as input and timers have left it.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// A reset that ends the connection.
    pub(super) reset: bool,
    /// A reset that answers a segment with a wrong ACK while opening; its sequence number.
    pub(super) stray_reset: Option<SeqNum>,
    /// A probe of the peer's window.
    pub(super) window_probe: bool,
    /// A loss probe (RFC 8985 7.3).
    pub(super) loss_probe: bool,
    /// New data went out: the timer of the next loss probe is to be set, once for all that goes out now.
    pub(super) sent_new: bool,
    /// What does not fill a segment has waited long enough under `TCP_CORK`.
    pub(super) cork_expired: bool,
    /// A keepalive probe.
    pub(super) keepalive_probe: bool,
    /// ACKs that stand for one received segment each; allocated only while some wait.
    pub(super) acks: VecDeque<AckSnapshot>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        !self.reset
            && self.stray_reset.is_none()
            && !self.window_probe
            && !self.loss_probe
            && !self.keepalive_probe
            && self.acks.is_empty()
    }

    /// There is nothing left to probe for: only resets and ACKs may still go out.
    pub(super) fn forget_probes(&mut self) {
        self.window_probe = false;
        self.loss_probe = false;
        self.sent_new = false;
        self.cork_expired = false;
        self.keepalive_probe = false;
    }
}

/// An ACK as it was due when one segment arrived.
#[derive(Clone, Debug)]
pub(super) struct AckSnapshot {
    pub(super) acknowledgment: SeqNum,
    pub(super) window: u16,
    pub(super) sack: SmallVec<[(u32, u32); 4]>,
}

/// A stretch of sequence space to put on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    pub(super) start: SeqNum,
    /// End, a FIN included.
    pub(super) end: SeqNum,
    /// Data octets per segment.
    pub(super) mss: usize,
    pub(super) retransmission: bool,
}

impl Connection {
    /// Builds the next segment (or super-packet), if there is one to send now. Call until it gives `None`.
    pub fn poll_transmit(&mut self, now: Instant, limits: &TransmitLimits) -> Option<Transmit> {
        let now = self.advance_clock(now);
        self.set_path(limits);
        let transmit = self.next_transmit(now, limits);
        if transmit.is_none() {
            self.dirty = false;
            self.unanswered = 0;
            if std::mem::take(&mut self.pending.sent_new) {
                self.set_timer_after_sending(now);
            }
            if self.paced.is_some() {
                self.note_want_of_data();
            }
            self.note_sending(now);
        }
        transmit
    }

    /// Whether [`Self::poll_transmit`] may have something. Cheap, and never wrongly `false`.
    pub fn wants_transmit(&self) -> bool {
        self.dirty
    }

    fn next_transmit(&mut self, now: Instant, limits: &TransmitLimits) -> Option<Transmit> {
        if let Some(sequence) = self.pending.stray_reset.take() {
            return Some(self.stray_reset(sequence));
        }
        if self.pending.reset {
            self.pending.reset = false;
            return Some(self.build_reset(now));
        }
        if let Some(transmit) = self.transmit_handshake(now) {
            return Some(transmit);
        }
        if let Some(snapshot) = self.next_ack_snapshot() {
            return Some(self.build_ack_snapshot(now, snapshot));
        }
        if matches!(self.lifecycle, Lifecycle::Synchronized { .. }) {
            if std::mem::take(&mut self.pending.loss_probe)
                && let Some(transmit) = self.transmit_loss_probe(now)
            {
                return Some(transmit);
            }
            if let Some(transmit) = self.transmit_lost(now, limits) {
                return Some(transmit);
            }
            let probe = match &self.mtu_search {
                Some(_) => self.transmit_mtu_probe(now),
                None => MtuProbe::None,
            };
            match probe {
                MtuProbe::Send(transmit) => return Some(transmit),
                MtuProbe::Wait => {}
                MtuProbe::None => {
                    if let Some(transmit) = self.transmit_new(now, limits) {
                        return Some(transmit);
                    }
                }
            }
            if let Some(transmit) = self.transmit_probe(now) {
                return Some(transmit);
            }
        }
        if self.ack_due(now) {
            return Some(self.build_ack(now));
        }
        None
    }

    /// Octets of sequence space waiting to be sent for the first time, a queued FIN included.
    pub(super) fn unsent(&self) -> usize {
        let fin = self.lifecycle.send_half() == Some(SendHalf::FinQueued);
        self.buffer.end().saturating_since(self.window.snd_nxt) as usize + usize::from(fin)
    }

    /// Octets that may join what is in the network.
    pub(super) fn congestion_room(&self) -> usize {
        let pipe = self.recovery.pipe(&self.board, self.mss) as usize;
        self.congestion.cwnd().saturating_sub(pipe)
    }

    /// Retransmits what is deemed lost (RFC 6675 4, NextSeg rule 1; RFC 6582).
    fn transmit_lost(&mut self, now: Instant, limits: &TransmitLimits) -> Option<Transmit> {
        if self.board.waiting() == 0
            || self.recovery.holds_back_retransmissions()
            || self.is_held_back_by_pacing(now)
        {
            return None;
        }
        let mss = self.segment_room();
        let mut room = self.congestion_room() / mss * mss;
        if self.recovery.first_retransmission_pending() {
            room = room.max(mss);
        }
        let limit = room.min(self.burst(limits, mss));
        if limit == 0 {
            return None;
        }
        let (start, mut end) = self.board.next_lost(limit as u32)?;
        // Never beyond the window, unless it is the oldest octet (RFC 9293 3.8.6, SHLD-16, MAY-7).
        if start != self.window.snd_una {
            end = end.min(self.window.right_edge());
            if !start.before(end) {
                return None;
            }
        } else {
            end = end.min(self.window.right_edge().max(start + mss as u32));
        }
        let stretch = Stretch {
            start,
            end,
            mss,
            retransmission: true,
        };
        Some(self.send_stretch(now, stretch))
    }

    /// Sends new data and the FIN as far as the peer's window, congestion, Nagle and silly-window avoidance permit.
    fn transmit_new(&mut self, now: Instant, limits: &TransmitLimits) -> Option<Transmit> {
        let available = self.unsent();
        if available == 0 {
            return None;
        }
        if self.board.is_empty() {
            self.restart_after_idle(now);
        }
        let mss = self.segment_room();
        let fin_queued = self.lifecycle.send_half() == Some(SendHalf::FinQueued);
        let available = self.uncorked(now, available, mss);
        if available == 0 {
            return None;
        }
        let verdict = self.window.verdict(Candidate {
            available,
            mss,
            closing: fin_queued,
            nodelay: self.options.nodelay,
        });
        let permitted = match verdict {
            WindowVerdict::Send(len) => len,
            WindowVerdict::Wait => return None,
            WindowVerdict::WindowClosed => {
                self.arm_persist_timer(now);
                return None;
            }
        };
        // A FIN takes no payload: it may ride on a full segment and asks the congestion window for nothing.
        let data = available - usize::from(fin_queued);
        let with_fin = permitted > data;
        if self.is_held_back_by_pacing(now) {
            return None;
        }
        let room = self.congestion_room();
        let mut len = permitted.min(data);
        // As Linux: the window is in full use also when what there is fills it exactly.
        let limited = len > 0 && len >= room;
        if len > room {
            len = room / mss * mss;
            if len == 0 {
                self.note_window_use(now, limited);
                return None;
            }
        }
        len = len.min(self.burst(limits, mss));
        let fin = u32::from(with_fin && len == data);
        self.timers.clear(Timer::Persist);
        // A probe that fell due while the device held everything back: data asks as well.
        self.pending.window_probe = false;
        let stretch = Stretch {
            start: self.window.snd_nxt,
            end: self.window.snd_nxt + len as u32 + fin,
            mss,
            retransmission: false,
        };
        let transmit = self.send_stretch(now, stretch);
        self.note_window_use(now, limited);
        Some(transmit)
    }

    /// Notes how much of the congestion window is in use, and has the controller give up what has not been for an RTO
    /// (RFC 7661, RFC 2861 3.2). As Linux not when the writer waits for room in the send buffer: that is what limits then.
    #[inline]
    pub(super) fn note_window_use(&mut self, now: Instant, limited: bool) {
        self.window_use.on_sending(Sending {
            now,
            snd_una: self.window.snd_una,
            snd_nxt: self.window.snd_nxt,
            outstanding: self.board.outstanding(),
            limited,
        });
        let blocked = self.write_blocked || self.recovery.is_active();
        if self.config.idle_restart
            && let Some(used) = self.window_use.take_unused(now, self.rtt.rto())
            && !blocked
        {
            self.congestion.on_application_limited(used as usize);
        }
    }

    /// A probe whose ACK tells what became of the last flight: new data if there is some, else the last segment once
    /// more. It asks neither Nagle nor the congestion window (RFC 8985 7.3).
    fn transmit_loss_probe(&mut self, now: Instant) -> Option<Transmit> {
        if !self.recovery.probe.is_permitted() || !self.recovery.may_probe(&self.board) {
            return None;
        }
        let mss = self.segment_room();
        let fin_queued = usize::from(self.lifecycle.send_half() == Some(SendHalf::FinQueued));
        let unsent = self.unsent();
        let usable = self.window.usable();
        let new = (unsent - fin_queued).min(mss);
        let stretch = if unsent > 0 && usable >= new.max(1) {
            // A FIN rides on the last of the data.
            let fin = if new == unsent - fin_queued {
                fin_queued
            } else {
                0
            };
            Stretch {
                start: self.window.snd_nxt,
                end: self.window.snd_nxt + (new + fin.min(usable - new)) as u32,
                mss,
                retransmission: false,
            }
        } else {
            let (start, end) = self.board.last_segment(mss as u32, self.buffer.end())?;
            // The peer would refuse what lies beyond a window that it has shrunk.
            if end.after(self.window.right_edge()) && start != self.window.snd_una {
                return None;
            }
            Stretch {
                start,
                end,
                mss,
                retransmission: true,
            }
        };
        let transmit = self.send_stretch(now, stretch);
        self.recovery
            .probe
            .on_sent(self.window.snd_nxt, stretch.retransmission);
        self.stats.loss_probes += 1;
        self.pending.sent_new = false;
        self.restart_retransmission_timer(now);
        Some(transmit)
    }

    /// A probe of the window, or of the peer's existence.
    fn transmit_probe(&mut self, now: Instant) -> Option<Transmit> {
        if std::mem::take(&mut self.pending.window_probe) && self.unsent() > 0 {
            if let Some(transmit) = self.transmit_into_small_window(now) {
                return Some(transmit);
            }
            return Some(self.build_probe(now));
        }
        if std::mem::take(&mut self.pending.keepalive_probe) {
            return Some(self.build_probe(now));
        }
        None
    }

    /// The override of silly-window avoidance (RFC 9293 3.8.6.2.1): what the small window takes goes out, after the
    /// persist timer has waited for it to grow.
    fn transmit_into_small_window(&mut self, now: Instant) -> Option<Transmit> {
        let mss = self.segment_room();
        let len = self.window.usable().min(self.unsent()).min(mss);
        if len == 0 || !self.board.is_empty() {
            return None;
        }
        self.timers.clear(Timer::Persist);
        let stretch = Stretch {
            start: self.window.snd_nxt,
            end: self.window.snd_nxt + len as u32,
            mss,
            retransmission: false,
        };
        // A probe: its loss would go unnoticed (RFC 3168 6.1.6).
        Some(Transmit {
            ecn: Ecn::NotEct,
            ..self.send_stretch(now, stretch)
        })
    }

    /// An octet before SND.UNA that the peer must answer with an ACK, as Linux probes windows and peers: its sequence
    /// number lies outside the window (RFC 9293 3.8.4, 3.8.6.1, 3.10.7.4).
    fn build_probe(&mut self, now: Instant) -> Transmit {
        let header = self.header(now, self.window.snd_una - 1, Flags::ACK);
        self.on_ack_sent();
        self.stats.segments_sent += 1;
        Self::bare(header)
    }

    /// Puts a stretch of sequence space on the wire and on the books.
    pub(super) fn send_stretch(&mut self, now: Instant, stretch: Stretch) -> Transmit {
        let Stretch {
            start, end, mss, ..
        } = stretch;
        let data_end = end.min(self.buffer.end());
        let payload = if start.before(data_end) {
            self.buffer.slice(start, data_end)
        } else {
            Payload::new()
        };
        let len = data_end.saturating_since(start) as usize;
        let mut flags = Flags::ACK;
        // Only new data: a retransmission could be marked when nobody watches (RFC 3168 6.1.4, 6.1.5).
        let capable = self.negotiated.ecn && len > 0 && !stretch.retransmission;
        if capable {
            flags |= self.ecn.take_cwr();
        }
        if end.after(self.buffer.end()) {
            flags |= Flags::FIN;
        }
        if len > 0 && data_end == self.buffer.end() {
            flags |= Flags::PSH; // RFC 9293 3.9.1 (MUST-61): the last of what was written
        }
        let mut header = self.header(now, start, flags);
        header.options.sack = self.sack_blocks();
        self.mark_urgent(&mut header);
        let segments = len.div_ceil(mss).max(1);
        self.on_ack_sent();
        self.stats.segments_sent += segments as u64;
        self.stats.data_segments_sent += len.div_ceil(mss) as u64;
        self.stats.bytes_sent += len as u64;
        if stretch.retransmission {
            self.board.on_retransmitted(start, end, now, mss as u16);
            self.recovery.on_retransmitted(now, end - start);
            if let Some(search) = &mut self.mtu_search {
                search.on_retransmitted(start, end);
            }
            self.stats.retransmits += segments as u64;
            self.stats.bytes_retransmitted += len as u64;
        } else {
            self.board.on_sent(end, now, mss as u16);
            self.window.on_sent(end, len, mss);
            if flags.contains(Flags::FIN) {
                self.lifecycle.set_send_half(SendHalf::FinSent);
            }
        }
        if self.recovery.in_fast_recovery() {
            self.recovery.on_sent(len as u32);
        }
        self.note_departure(now, end, end - start, stretch.retransmission);
        self.last_sent = now;
        self.receive.acks.on_data_sent(now);
        // A retransmission of the oldest octet has a round trip of its own to come back in: the timer of the original
        // would time it out half way (as Linux; RFC 6298 5 leaves it).
        let oldest_again = stretch.retransmission
            && start == self.window.snd_una
            && !self.timers.waits_for(RetransmitCause::Reordering);
        let is_set = self.timers.is_set(Timer::Retransmit);
        if stretch.retransmission {
            if oldest_again || !is_set {
                self.restart_retransmission_timer(now);
            }
        } else if is_set {
            self.pending.sent_new = true;
        } else {
            self.set_timer_after_sending(now);
        }
        Transmit {
            header,
            payload,
            segment_size: (len > mss).then_some(mss as u16),
            ecn: if capable { Ecn::Ect0 } else { Ecn::NotEct },
        }
    }

    /// After silence the window is no longer what the path has shown to carry (RFC 5681 4.1).
    fn restart_after_idle(&mut self, now: Instant) {
        let idle = now - self.last_sent;
        let rto = self.rtt.rto();
        if idle > rto {
            let restart = self.config.idle_restart.then_some(rto);
            self.congestion.on_idle(now, idle, restart);
            self.window_use.restart(now);
            self.last_sent = now;
        }
    }

    /// Data octets of a segment sent now: SACK blocks to be reported take their room (RFC 9293 3.7.1, SHLD-5 area).
    fn segment_room(&self) -> usize {
        let sack = self.sack_option_len();
        (self.mss as usize).saturating_sub(sack).max(MIN_SEGMENT)
    }

    /// Largest payload of one transmit, a multiple of `mss`.
    fn burst(&self, limits: &TransmitLimits, mss: usize) -> usize {
        if self.is_sending_urgent() {
            return mss;
        }
        let most = largest_payload(limits.ip_header_len);
        let burst = (limits.max_super_payload.min(most) / mss).max(1) * mss;
        match &self.paced {
            Some(paced) => burst.min(paced.pacer.quantum(mss)),
            None => burst,
        }
    }

    fn next_ack_snapshot(&mut self) -> Option<AckSnapshot> {
        let snapshot = self.pending.acks.pop_front()?;
        if self.pending.acks.is_empty() {
            self.pending.acks = VecDeque::new();
        }
        Some(snapshot)
    }

    fn build_ack_snapshot(&mut self, now: Instant, snapshot: AckSnapshot) -> Transmit {
        // It says what was promised when it was due, not what reading has made room for since: that may be owed another
        // ACK, so nothing is noted as sent here.
        let sequence = self.window.snd_nxt;
        let flags = Flags::ACK | self.ecn.flags();
        let mut header = self.header_with_window(now, sequence, flags, snapshot.window);
        header.acknowledgment = snapshot.acknowledgment.0;
        header.options.sack = snapshot.sack;
        self.stats.segments_sent += 1;
        Self::bare(header)
    }

    /// A pure ACK of the present state.
    fn build_ack(&mut self, now: Instant) -> Transmit {
        let mut header = self.header(now, self.ack_sequence(), Flags::ACK);
        header.options.sack = self.sack_blocks();
        self.on_ack_sent();
        self.stats.segments_sent += 1;
        Self::bare(header)
    }

    /// The sequence number of a segment without data: SND.NXT, or the end of a window that was shrunk below it, since
    /// the peer would refuse anything beyond (as Linux).
    fn ack_sequence(&self) -> SeqNum {
        let edge = self.window.right_edge();
        if self.window.snd_nxt.after(edge) && edge.at_or_after(self.window.snd_una) {
            edge
        } else {
            self.window.snd_nxt
        }
    }

    /// The reset that ends the connection (RFC 9293 3.10.5).
    pub(super) fn build_reset(&mut self, now: Instant) -> Transmit {
        let sequence = self.ack_sequence();
        let header = self.header_with_window(now, sequence, Flags::RST | Flags::ACK, 0);
        self.stats.segments_sent += 1;
        Self::bare(header)
    }

    /// `<SEQ=SEG.ACK><CTL=RST>`: for an ACK of something never sent, while opening (RFC 9293 3.10.7.3).
    fn stray_reset(&mut self, sequence: SeqNum) -> Transmit {
        self.stats.segments_sent += 1;
        Self::bare(Header {
            source_port: self.tuple.local.port(),
            destination_port: self.tuple.remote.port(),
            sequence: sequence.0,
            flags: Flags::RST,
            ..Header::default()
        })
    }

    /// A header with everything that every segment carries.
    pub(super) fn header(&mut self, now: Instant, sequence: SeqNum, flags: Flags) -> Header {
        let window = self.advertise();
        self.header_with_window(now, sequence, flags | self.ecn.flags(), window)
    }

    /// The same with a window field that promises nothing new.
    fn header_with_window(
        &self,
        now: Instant,
        sequence: SeqNum,
        flags: Flags,
        window: u16,
    ) -> Header {
        Header {
            source_port: self.tuple.local.port(),
            destination_port: self.tuple.remote.port(),
            sequence: sequence.0,
            acknowledgment: self.receive.rcv_nxt().0,
            flags,
            window,
            urgent: 0,
            options: Options {
                timestamps: self.negotiated.timestamps.map(|state| state.option(now)),
                ..Options::default()
            },
        }
    }

    pub(super) fn bare(header: Header) -> Transmit {
        Transmit {
            header,
            payload: Payload::new(),
            segment_size: None,
            ecn: Ecn::NotEct,
        }
    }

    pub(super) fn nothing_pending(&self) -> bool {
        self.pending.is_empty()
    }
}

/// Data octets that a super-packet has room for behind `ip_header_len` octets and the longest TCP header.
pub(super) fn largest_payload(ip_header_len: usize) -> usize {
    MAX_TOTAL - ip_header_len - TCP_HEADER_LEN - MAX_OPTIONS
}

/// Largest IP packet in octets.
const MAX_TOTAL: usize = 65_535;
/// Largest TCP options in octets.
const MAX_OPTIONS: usize = 40;
/// No segment carries less, whatever a path claims: 576-octet packets with all headers and options leave more.
pub(super) const MIN_SEGMENT: usize = 8;
