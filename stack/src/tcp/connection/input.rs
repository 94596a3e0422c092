//! Segments in: RFC 9293 3.10.7.4, check by check.
//!
//! Owns the order of the checks and their answers; what data does is in `receiving`, what the handshake does in
//! `handshake`. RFC 5961 (challenge ACKs), RFC 7323 5 (PAWS), RFC 5681 2 (duplicate ACKs), RFC 6298 3 to 5 (samples).

use std::time::Duration;

use crate::error::SocketError;
use crate::stats::DropReason;
use crate::tcp::connection::Connection;
use crate::tcp::connection::state::{Lifecycle, SendHalf};
use crate::tcp::connection::timers::Timer;
use crate::tcp::info::State;
use crate::tcp::receive::{Acceptability, ResetPlacement};
use crate::tcp::send::delivered::{AckTiming, Delivered};
use crate::tcp::send::recovery::{AckEvent, AckOutcome, Context, RecoveryStep};
use crate::tcp::{Segment, SeqNum};
use crate::time::Instant;
use crate::transport::Readiness;
use crate::transport::congestion::AckSample;
use crate::wire::tcp::Flags;

/// What goes on with a segment after a check.
type Verdict = Result<(), DropReason>;

impl Connection {
    /// Takes a received segment.
    ///
    /// # Errors
    /// Why it was dropped. With [`DropReason::Closed`] the engine answers it like a segment nobody owns.
    pub fn handle_segment(&mut self, now: Instant, segment: Segment) -> Result<(), DropReason> {
        let now = self.advance_clock(now);
        self.stats.segments_received += u64::from(segment.segment_count());
        let verdict = match &self.lifecycle {
            Lifecycle::Closed => Err(DropReason::Closed),
            Lifecycle::TimeWait { .. } => self.handle_in_time_wait(&segment),
            Lifecycle::Opening(handshake) if !handshake.syn_received => {
                self.handle_in_syn_sent(now, segment)
            }
            _ => self.handle_synchronized(now, segment),
        };
        self.settle_memory();
        verdict
    }

    fn handle_synchronized(&mut self, now: Instant, segment: Segment) -> Verdict {
        if !self.is_predicted(now, &segment) {
            if self.is_crossed_syn_ack(&segment) {
                return self.handle_ack_of_syn(now, &segment);
            }
            self.check_sequence(now, &segment)?;
            self.check_reset(now, &segment)?;
            if self.lifecycle.is_over() {
                return Ok(());
            }
            self.check_syn(now, &segment)?;
            self.check_ack(now, &segment)?;
        }
        self.last_received = now;
        self.probes_unanswered = 0;
        self.keepalives_unanswered = 0;
        self.take_timestamp(now, &segment);
        self.take_marks(&segment);
        if matches!(self.lifecycle, Lifecycle::Opening(_)) {
            self.handle_ack_of_syn(now, &segment)?;
        }
        self.handle_ack(now, &segment);
        self.check_urgent(&segment);
        let first = segment.sequence();
        let verdict = self.handle_text(now, first, segment);
        self.settle_halves(now);
        verdict
    }

    /// Header prediction: the next segment in order, with nothing unusual about it, needs none of the checks.
    fn is_predicted(&self, now: Instant, segment: &Segment) -> bool {
        let header = &segment.header;
        let plain = header.flags == Flags::ACK || header.flags == Flags::ACK | Flags::PSH;
        let ack = SeqNum(header.acknowledgment);
        plain
            && segment.sequence() == self.receive.rcv_nxt()
            && ack.at_or_after(self.window.snd_una)
            && ack.at_or_before(self.window.snd_nxt)
            && segment.payload_len() <= self.receive.window.len()
            && matches!(self.lifecycle, Lifecycle::Synchronized { .. })
            && match (self.negotiated.timestamps, header.options.timestamps) {
                (None, _) => true,
                (Some(state), Some(option)) => !state.is_old(option.value, now),
                (Some(_), None) => false,
            }
    }

    /// First check: PAWS and the window (RFC 9293 3.10.7.4; RFC 7323 5.3).
    fn check_sequence(&mut self, now: Instant, segment: &Segment) -> Verdict {
        let reset = segment.header.flags.contains(Flags::RST);
        if let Some(state) = self.negotiated.timestamps
            && !reset
        {
            match segment.header.options.timestamps {
                Some(option) if state.is_old(option.value, now) => {
                    self.answer_unacceptable(now, segment);
                    return Err(DropReason::OutOfWindow);
                }
                Some(_) => {}
                // RFC 7323 3.2: once negotiated, every segment but a RST carries them.
                None => return Err(DropReason::Unacceptable),
            }
        }
        let verdict = self
            .receive
            .window
            .acceptability(segment.sequence(), segment.sequence_len());
        match verdict {
            // A closed window still takes ACK, RST and URG of the segment at RCV.NXT (MUST-66); its data is cut off.
            Acceptability::Acceptable | Acceptability::ControlOnly => Ok(()),
            Acceptability::Unacceptable => {
                if !reset {
                    self.answer_unacceptable(now, segment);
                }
                Err(DropReason::OutOfWindow)
            }
        }
    }

    /// An unacceptable segment is answered with an ACK. One without data could be an answer to ours: those are limited,
    /// or two confused ends would acknowledge each other forever. So are SYNs (RFC 5961 4.2, 7).
    fn answer_unacceptable(&mut self, now: Instant, segment: &Segment) {
        let is_syn = segment.header.flags.contains(Flags::SYN);
        if segment.sequence_len() == 0 || is_syn {
            self.challenge(now);
            return;
        }
        let first = segment.sequence();
        let end = first + segment.payload_len() as u32;
        if segment.payload_len() > 0 && end.at_or_before(self.receive.rcv_nxt()) {
            self.receive.note_duplicate(first, end);
            // A retransmission of what was acknowledged last: our ACK was lost. The next one must echo *its* timestamp,
            // or the peer takes its own timeout for a round trip. Linux counts such a segment as acceptable.
            if end == self.receive.rcv_nxt() {
                self.take_timestamp(now, segment);
            }
        }
        self.ack_irregular(segment.segment_count());
    }

    /// Second check: RST (RFC 9293 3.10.7.4, RFC 5961 3.2).
    fn check_reset(&mut self, now: Instant, segment: &Segment) -> Verdict {
        if !segment.header.flags.contains(Flags::RST) {
            return Ok(());
        }
        match self.receive.window.place_reset(segment.sequence()) {
            ResetPlacement::Exact => {
                let error = match self.state() {
                    State::SynReceived => Some(SocketError::ConnectionRefused),
                    // Linux: the peer had closed already, so what is left is that nothing can be written.
                    State::CloseWait => Some(SocketError::BrokenPipe),
                    State::Closing | State::LastAck => None,
                    _ => Some(SocketError::ConnectionReset),
                };
                self.end(error);
                Ok(())
            }
            ResetPlacement::InWindow => {
                self.challenge(now);
                Err(DropReason::OutOfWindow)
            }
            ResetPlacement::Outside => Err(DropReason::OutOfWindow),
        }
    }

    /// Fourth check: a SYN on a synchronized connection gets a challenge ACK, whatever its number (RFC 5961 4.2).
    fn check_syn(&mut self, now: Instant, segment: &Segment) -> Verdict {
        if !segment.header.flags.contains(Flags::SYN) {
            return Ok(());
        }
        self.challenge(now);
        Err(DropReason::Unacceptable)
    }

    /// Fifth check: the ACK field is there and possible (RFC 9293 3.10.7.4, RFC 5961 5.2).
    fn check_ack(&mut self, now: Instant, segment: &Segment) -> Verdict {
        let Some(ack) = segment.acknowledgment() else {
            return Err(DropReason::Unacceptable);
        };
        if matches!(self.lifecycle, Lifecycle::Opening(_)) {
            return Ok(()); // `handle_ack_of_syn` has rules of its own
        }
        let oldest = self.window.snd_una - self.window.max_window;
        if ack.after(self.window.snd_nxt) || ack.before(oldest) {
            self.challenge(now);
            return Err(DropReason::BadAck);
        }
        Ok(())
    }

    /// The SYN-ACK of a simultaneous open carries a SYN that has been taken already; only its ACK counts (RFC 9293
    /// 3.5, figure 8). A self-connect depends on it.
    fn is_crossed_syn_ack(&self, segment: &Segment) -> bool {
        matches!(self.lifecycle, Lifecycle::Opening(_))
            && segment.header.flags.contains(Flags::SYN | Flags::ACK)
            && !segment.header.flags.contains(Flags::RST)
            && segment.sequence() + 1 == self.receive.rcv_nxt()
            && segment.payload_len() == 0
    }

    /// An ACK in SYN-RECEIVED (RFC 9293 3.10.7.4, fifth).
    fn handle_ack_of_syn(&mut self, now: Instant, segment: &Segment) -> Verdict {
        let Some(ack) = segment.acknowledgment() else {
            return Err(DropReason::Unacceptable);
        };
        if ack != self.window.snd_nxt || ack == self.window.snd_una {
            self.pending.stray_reset = Some(ack);
            self.dirty = true;
            return Err(DropReason::BadAck);
        }
        self.window.snd_una = ack;
        self.last_received = now;
        self.sample_handshake(now);
        self.become_established(now);
        if segment.header.flags.contains(Flags::SYN) {
            self.ack_now();
        }
        Ok(())
    }

    /// TS.Recent follows segments that begin at or before what was acknowledged last (RFC 7323 4.3).
    fn take_timestamp(&mut self, now: Instant, segment: &Segment) {
        if let (Some(state), Some(option)) = (
            &mut self.negotiated.timestamps,
            segment.header.options.timestamps,
        ) && segment.sequence().at_or_before(self.last_ack_sent)
        {
            state.update(option.value, now);
        }
    }

    /// The acknowledgment and the window of an acceptable segment.
    fn handle_ack(&mut self, now: Instant, segment: &Segment) {
        let ack = SeqNum(segment.header.acknowledgment);
        let has_sack = self.negotiated.sack && !segment.header.options.sack.is_empty();
        // An ACK that was overtaken: what it acknowledges is old news, but nobody else may report what its SACK blocks do
        // (as Linux takes it).
        let late = ack.before(self.window.snd_una);
        if late && !has_sack {
            return;
        }
        let in_flight = self.recovery.pipe(&self.board, self.mss) as usize;
        let bytes_acked = ack.saturating_since(self.window.snd_una);
        let window_before = self.window.snd_wnd;
        let changed = !late
            && self
                .window
                .update(segment.sequence(), ack, segment.header.window);
        if bytes_acked == 0
            && !changed
            && !has_sack
            && self.board.is_empty()
            && !self.recovery.probe.is_under_way()
        {
            return; // the common pure ACK that says nothing new
        }
        let timing = self.ack_timing(now, segment);
        let echo = self.is_congestion_echo(segment);
        // RFC 5681 2: outstanding data, no data of its own, the same number and the same window.
        let duplicate = bytes_acked == 0
            && !late
            && !changed
            && segment.sequence_len() == 0
            && (!self.board.is_empty() || self.recovery.probe.is_under_way());
        let acked = self.advance_una(ack, bytes_acked, &timing);
        let sacked = if has_sack {
            let blocks = &segment.header.options.sack;
            self.board.apply_sack(blocks, ack, &timing)
        } else {
            Delivered::default()
        };
        // Its delay is the ACK's own.
        let rtt = if late {
            None
        } else {
            self.sample(now, segment, bytes_acked, acked, sacked)
        };
        let mut delivered = if has_sack { acked.and(sacked) } else { acked };
        delivered.duplicate = self.count_duplicate(delivered.duplicate);
        let can_send_new =
            self.recovery.may_prefer_new_data() && self.unsent() > 0 && self.window.usable() > 0;
        let was_recovering = self.recovery.in_fast_recovery();
        let outcome = self.recovery.on_ack(
            &AckEvent {
                context: self.recovery_context(now),
                delivered,
                has_sack,
                echoed: timing.echoed,
                can_send_new,
                bytes_acked,
                duplicates: u32::from(duplicate),
            },
            &mut self.board,
        );
        self.stats.reorderings =
            (self.stats.reorderings).saturating_add(delivered.reordered.into());
        if outcome.undone {
            self.congestion.undo();
            self.stats.undos += 1;
            self.undo_black_hole();
            tracing::debug!(cwnd = self.congestion.cwnd(), "the recovery was spurious");
        } else if was_recovering && outcome.step != RecoveryStep::Nothing {
            self.congestion.on_recovered();
        }
        self.note_recovery(now, outcome, bytes_acked > 0);
        if self.mtu_search.is_some() {
            self.check_mtu_probe(now);
        }
        if self.paced.is_some() {
            self.note_delivery(now, &delivered);
        }
        if echo {
            // The window does not grow by such an ACK, either (RFC 3168 6.1.2).
            self.reduce_for_echo(now);
        } else if self.grows_after(outcome.step)
            && !outcome.probe_repaired
            && !self.recovery.in_fast_recovery()
            && (acked.bytes > 0
                || (delivered.bytes > 0 && self.recovery.rack.has_seen_reordering()))
        {
            let rtt = delivered.latest_round_trip(now).or(rtt);
            self.grow_window(now, delivered.bytes, in_flight, rtt);
        }
        self.unanswered = self.unanswered.saturating_add(delivered.bytes);
        let advanced = bytes_acked > 0 || (!late && self.has_passed_head(sacked));
        self.set_timer_after_ack(now, &outcome, advanced);
        if window_before == 0 && self.window.snd_wnd > 0 {
            self.window_opened(now);
        }
        self.dirty |= bytes_acked > 0 || changed || duplicate || sacked.bytes > 0;
    }

    /// Whether the window grows by an ACK that did this. By one that ends a recovery, too, as Linux: what it is the first to
    /// acknowledge is the first round trip's of the new window. Without SACK, that is not told apart from what
    /// duplicates have let leave before.
    fn grows_after(&self, step: RecoveryStep) -> bool {
        match step {
            RecoveryStep::Nothing => true,
            RecoveryStep::Exited => self.negotiated.sack,
            RecoveryStep::Entered => false,
        }
    }

    /// Tells the congestion controller that `octets` have arrived, of `in_flight` before.
    fn grow_window(&mut self, now: Instant, octets: u32, in_flight: usize, rtt: Option<Duration>) {
        self.congestion.on_ack(&AckSample {
            now,
            bytes_acked: octets as usize,
            in_flight: in_flight.max(self.window_use.peak() as usize),
            acknowledged: self.window.snd_una.0,
            sent: self.window.snd_nxt.0,
            rtt,
            smoothed_rtt: self.rtt.smoothed().unwrap_or_default(),
            application_limited: !self.window_use.is_limited(),
        });
    }

    /// FlightSize (RFC 5681 3.1) as it would be had ACKs that came together come one by one: the first of them make room, but
    /// nothing can be sent before the last, which may tell of a loss. The controllers bound it by the window.
    pub(super) fn flight_before_acks(&self) -> usize {
        self.board.outstanding() as usize + self.unanswered as usize
    }

    /// What left before the head did has arrived: the path works, and the head has its own time from now on (as Linux). Of
    /// what left later that is not said, or SACKs could put the head's timeout off for ever.
    fn has_passed_head(&self, sacked: Delivered) -> bool {
        sacked
            .sent_at
            .is_some_and(|sent_at| self.board.head_sent_at().is_some_and(|head| sent_at < head))
    }

    /// Counts what a DSACK reports, and gives it if it can be of a retransmission: more reports than those were are of
    /// duplicates that the path has made, and longer ones than any window are nobody's (as Linux).
    fn count_duplicate(&mut self, duplicate: Option<(SeqNum, SeqNum)>) -> Option<(SeqNum, SeqNum)> {
        let (left, right) =
            duplicate.filter(|(left, right)| *right - *left <= self.window.max_window)?;
        let reported = &mut self.stats.duplicates_reported;
        *reported = reported.saturating_add((right - left).div_ceil(self.mss));
        (u64::from(*reported) <= self.stats.retransmits).then_some((left, right))
    }

    /// What tells the copies of a segment apart.
    fn ack_timing(&self, now: Instant, segment: &Segment) -> AckTiming {
        // Outside of a recovery nothing in flight has copies, but for a loss probe.
        let copies = self.recovery.is_active() || self.recovery.probe.is_under_way();
        let timestamps = self.negotiated.timestamps.filter(|_| copies);
        let echoed = timestamps.and_then(|state| {
            let option = segment.header.options.timestamps?;
            let round_trip = state.round_trip(option.echo, now)?;
            let millis = now.as_millis().checked_sub(round_trip.as_millis() as u64)?;
            Some(Instant::from_millis(millis))
        });
        AckTiming {
            now,
            min_rtt: self.recovery.rack.min_rtt(),
            echoed,
        }
    }

    /// The circumstances of an event as recovery sees them.
    pub(super) fn recovery_context(&self, now: Instant) -> Context {
        Context {
            now,
            snd_una: self.window.snd_una,
            snd_nxt: self.window.snd_nxt,
            sack: self.negotiated.sack,
            mss: self.mss,
            unanswered: self.unanswered,
            mtu_probe: self.mtu_search.as_ref().and_then(|search| search.probe()),
            smoothed_rtt: self.rtt.smoothed().unwrap_or_default(),
            threshold: self.config.duplicate_ack_threshold,
        }
    }

    /// Applies what an ACK or the reordering timer did to recovery; `advanced` tells that SND.UNA did.
    pub(super) fn note_recovery(&mut self, now: Instant, outcome: AckOutcome, advanced: bool) {
        if outcome.mtu_probe_lost {
            self.mtu_probe_lost(now);
        }
        if outcome.newly_lost > 0 {
            self.note_losses(&outcome);
        }
        if outcome.step == RecoveryStep::Entered {
            let flight = self.flight_before_acks();
            self.congestion.on_congestion_event(now, flight);
            self.note_reduction();
            self.stats.recoveries += 1;
            tracing::debug!(una = ?self.window.snd_una, ssthresh = self.congestion.ssthresh(), "fast recovery");
        } else if outcome.probe_repaired && !self.recovery.is_active() {
            let flight = self.flight_before_acks();
            self.congestion.on_congestion_event(now, flight);
            self.note_reduction();
            tracing::debug!(cwnd = self.congestion.cwnd(), "a probe has repaired a loss");
        }
        if self.recovery.in_fast_recovery() {
            let pipe = self.recovery.pipe(&self.board, self.mss);
            let ssthresh = u32::try_from(self.congestion.ssthresh()).unwrap_or(u32::MAX);
            let window = self
                .recovery
                .window(&outcome, advanced, pipe, ssthresh, self.mss);
            if let Some(window) = window {
                self.congestion.set_cwnd(window as usize);
            }
        }
    }

    /// Applies a cumulative acknowledgment.
    fn advance_una(&mut self, ack: SeqNum, bytes_acked: u32, timing: &AckTiming) -> Delivered {
        if bytes_acked == 0 {
            return Delivered::default();
        }
        self.window.snd_una = ack;
        let delivered = self.board.acknowledge(ack, timing);
        let data_end = self.buffer.end();
        let fin_acked = ack.after(data_end);
        let before = self.buffer.len();
        self.buffer.acknowledge(ack);
        self.stats.bytes_acked += (before - self.buffer.len()) as u64;
        if fin_acked && self.lifecycle.send_half() == Some(SendHalf::FinSent) {
            self.lifecycle.set_send_half(SendHalf::FinAcked);
        }
        self.timers.progress();
        self.soft_error = None;
        self.tell_room();
        delivered
    }

    /// Measures the round trip (RFC 6298 3 with Karn's rule; RFC 7323 4.1 for what was retransmitted).
    fn sample(
        &mut self,
        now: Instant,
        segment: &Segment,
        bytes_acked: u32,
        acked: Delivered,
        sacked: Delivered,
    ) -> Option<Duration> {
        let by_timestamp = || {
            let state = self.negotiated.timestamps?;
            let option = segment.header.options.timestamps?;
            (bytes_acked > 0 && acked.retransmitted)
                .then(|| state.round_trip(option.echo, now))
                .flatten()
        };
        let round_trip = acked
            .sent_at
            .filter(|_| !acked.retransmitted)
            .or(sacked.sent_at)
            .map(|sent_at| now - sent_at)
            .or_else(by_timestamp)?;
        self.rtt.sample(round_trip);
        self.recovery.rack.on_round_trip(now, round_trip);
        self.recovery.probe.on_round_trip();
        Some(round_trip)
    }

    /// The peer's window has opened after having been closed.
    fn window_opened(&mut self, now: Instant) {
        self.timers.clear(Timer::Persist);
        self.timers.progress();
        self.restart_retransmission_timer(now);
        self.dirty = true;
    }

    /// Tells a writer that has seen [`SocketError::WouldBlock`] once there is room worth it.
    pub(super) fn tell_room(&mut self) {
        if self.write_blocked && self.is_writable() {
            self.write_blocked = false;
            self.readiness |= Readiness::WRITABLE;
        }
    }

    /// A challenge ACK, as far as the limit permits (RFC 5961 7).
    pub(super) fn challenge(&mut self, now: Instant) {
        if self.challenges.permit(now, self.config.challenge_ack_limit) {
            self.ack_irregular(1);
        }
    }

    /// Between the last ACK and the hand-over to the TIME-WAIT table: the peer's FIN again means that our ACK is lost.
    fn handle_in_time_wait(&mut self, segment: &Segment) -> Verdict {
        if !segment.header.flags.contains(Flags::RST) && segment.sequence_len() > 0 {
            self.ack_irregular(1);
        }
        Ok(())
    }
}

/// A budget of challenge ACKs per second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ChallengeLimit {
    since: Instant,
    count: u32,
}

impl ChallengeLimit {
    fn permit(&mut self, now: Instant, limit: u32) -> bool {
        if self.count == 0 || now - self.since >= Duration::from_secs(1) {
            self.since = now;
            self.count = 0;
        }
        self.count += 1;
        self.count <= limit
    }
}
