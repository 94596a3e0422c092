//! When loss recovery begins and ends.
//!
//! Owns the recovery phase and its recovery point, duplicate ACKs of peers without SACK, RACK's state, the loss probe,
//! and the decision to enter or leave. Which octets are lost is written into the scoreboard, how much may be sent then
//! is the congestion controller's window less [`Recovery::pipe`], and sending is `connection/output`'s.
//!
//! With SACK, RACK decides what is lost (RFC 8985 6): three segments SACKed above mean loss only as long as the path has
//! not been seen to reorder, else time tells.
//! Without SACK, each duplicate ACK stands for one segment that left the network: subtracting it from the pipe sends
//! the same packets as inflating the window (RFC 5681 3.2, RFC 6582) and needs no second bookkeeping. The same
//! subtraction is limited transmit (RFC 3042) before the threshold is met.
//!
//! ```text
//!              RACK finds a loss / 3 duplicate ACKs
//!        Open ─────────────────────────────────────────────▶ Fast(point)
//!         ▲ ▲──────────────── SND.UNA ≥ point ──────────────────┘  │
//!         │                                                        │ timeout
//!         └────── SND.UNA ≥ point ────── Loss(point) ◀─────────────┘
//! ```
//! Either ends at once when it proves spurious ([`Undo`], F-RTO).
//!
//! F-RTO, in the variant for SACK (RFC 5682 3): after a timeout only the first segment goes out again. If the next ACK
//! advances no further, new data follows, and what comes back then tells: an ACK of anything that was sent only
//! once shows that the timeout was spurious, anything else that the loss was real.
//!
//! RFC 8985, RFC 5682, RFC 6937; without SACK RFC 5681, RFC 6582, RFC 3042.

use std::time::Duration;

use crate::tcp::SeqNum;
use crate::tcp::send::Scoreboard;
use crate::tcp::send::delivered::{Delivered, Sent};
use crate::tcp::send::prr::{Prr, PrrAck};
use crate::tcp::send::rack::{Rack, WindowInput};
use crate::tcp::send::tail_loss_probe::{ProbeAck, TailLossProbe};
use crate::tcp::send::undo::{Cause, Undo};
use crate::time::Instant;

/// Where recovery stands. A recovery point is SND.NXT at the time of entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// Fast recovery until `point` is acknowledged.
    Fast {
        point: SeqNum,
    },
    /// Recovery after a timeout, in slow start.
    Loss {
        point: SeqNum,
    },
}

/// How far F-RTO has come (RFC 5682 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ForwardRto {
    /// Not at work, or decided.
    Off,
    /// The first segment was retransmitted.
    Retransmitted,
    /// New data goes out in place of retransmissions, until an ACK answers it.
    NewData,
}

/// An acceptable ACK, after the scoreboard has taken it.
#[derive(Clone, Copy, Debug)]
pub struct AckEvent {
    /// What every detection of losses needs.
    pub context: Context,
    /// What it brought, cumulatively and selectively.
    pub delivered: Delivered,
    /// It carried SACK blocks.
    pub has_sack: bool,
    /// When the segment it answers was sent, if timestamps tell.
    pub echoed: Option<Instant>,
    /// There is new data, and the peer's window has room for some.
    pub can_send_new: bool,
    /// Octets newly acknowledged cumulatively.
    pub bytes_acked: u32,
    /// Duplicate ACKs in the sense of RFC 5681 2 that this segment stands for, 0 if it is none. Counted only
    /// without SACK.
    pub duplicates: u32,
}

/// The circumstances of an event.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Now.
    pub now: Instant,
    /// SND.UNA.
    pub snd_una: SeqNum,
    /// SND.NXT.
    pub snd_nxt: SeqNum,
    /// SACK was negotiated.
    pub sack: bool,
    /// Effective MSS.
    pub mss: u32,
    /// Octets delivered by earlier ACKs that came together with this one: nothing could be sent in their place yet.
    pub unanswered: u32,
    /// A probe of the path's MTU that is under way.
    pub mtu_probe: Option<(SeqNum, SeqNum)>,
    /// SRTT; zero before the first sample.
    pub smoothed_rtt: Duration,
    /// Duplicate ACKs, or segments SACKed above, that mean loss (3).
    pub threshold: u32,
}

/// What an ACK did to recovery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AckOutcome {
    /// What became of the phase.
    pub step: RecoveryStep,
    /// By then what may still arrive late is lost: the reordering timer (RFC 8985 6.2, step 5).
    pub wait_until: Option<Instant>,
    /// A loss probe has repaired a loss on its own: congestion control must react (RFC 8985 7.4.2).
    pub probe_repaired: bool,
    /// The path was seen to reorder for the first time.
    pub reordering_found: bool,
    /// The latest reduction of the window was needless: the controller takes it back.
    pub undone: bool,
    /// Octets newly deemed lost.
    pub newly_lost: u32,
    /// A probe of the path's MTU was lost and nothing else: it goes out again, and is no sign of congestion (RFC 4821
    /// 7.6.2). Not among those newly lost.
    pub mtu_probe_lost: bool,
    /// What was sent last of them, with SACK.
    pub newest_lost: Option<Sent>,
    /// DeliveredData of PRR: without SACK, a duplicate stands for a segment.
    pub delivered: u32,
}

/// What became of the phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecoveryStep {
    /// No recovery, or one that goes on.
    #[default]
    Nothing,
    /// Fast recovery has begun: the controller reduces its window, the first lost segment goes out at once.
    Entered,
    /// Recovery is complete.
    Exited,
}

/// The recovery state of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Recovery {
    phase: Phase,
    /// Duplicate ACKs counted, without SACK.
    duplicate_acks: u32,
    /// RFC 6582's `recover`: duplicate ACKs for nothing above it begin no recovery.
    recover: Option<SeqNum>,
    /// The first retransmission of a recovery goes out whatever the pipe holds (RFC 6675 5, step 4.3).
    first_pending: bool,
    /// SND.UNA when the retransmission timer fired last, to tell a repeated timeout.
    timed_out_at: Option<SeqNum>,
    /// When something is lost.
    pub rack: Rack,
    /// The loss probe under way.
    pub probe: TailLossProbe,
    /// The window of fast recovery.
    prr: Prr,
    undo: Undo,
    forward_rto: ForwardRto,
    /// What is lost was a probe of the path's MTU, which calls for no recovery.
    excused: bool,
}

impl Recovery {
    /// No loss seen.
    pub const fn new() -> Self {
        Self {
            phase: Phase::Open,
            duplicate_acks: 0,
            recover: None,
            first_pending: false,
            timed_out_at: None,
            rack: Rack::new(),
            probe: TailLossProbe::new(),
            prr: Prr::begin(0, 0),
            undo: Undo::new(),
            forward_rto: ForwardRto::Off,
            excused: false,
        }
    }

    /// Fast recovery is under way: the congestion window follows it instead of growing.
    pub const fn in_fast_recovery(&self) -> bool {
        matches!(self.phase, Phase::Fast { .. })
    }

    /// Some recovery is under way.
    pub const fn is_active(&self) -> bool {
        !matches!(self.phase, Phase::Open)
    }

    /// Octets believed to be in the network.
    pub fn pipe(&self, board: &Scoreboard, mss: u32) -> u32 {
        board
            .pipe()
            .saturating_sub(self.duplicate_acks.saturating_mul(mss))
    }

    /// Whether the next retransmission may ignore the congestion window.
    pub const fn first_retransmission_pending(&self) -> bool {
        self.first_pending
    }

    /// A retransmission of `octets` went out.
    pub fn on_retransmitted(&mut self, now: Instant, octets: u32) {
        self.first_pending = false;
        self.undo.on_retransmitted(now, octets);
    }

    /// New data has to show first whether anything is lost at all (RFC 5682 3, step 2).
    pub const fn holds_back_retransmissions(&self) -> bool {
        matches!(self.forward_rto, ForwardRto::NewData)
    }

    /// Whether [`AckEvent::can_send_new`] matters.
    pub const fn may_prefer_new_data(&self) -> bool {
        matches!(self.forward_rto, ForwardRto::Retransmitted)
    }

    /// Takes an ACK that the scoreboard has taken already.
    pub fn on_ack(&mut self, event: &AckEvent, board: &mut Scoreboard) -> AckOutcome {
        let context = event.context;
        if event.bytes_acked > 0 {
            self.timed_out_at = None;
        }
        let mut outcome = AckOutcome {
            reordering_found: self.rack.on_delivered(context.now, &event.delivered),
            ..AckOutcome::default()
        };
        let duplicate = event.delivered.duplicate;
        // That a probe was needless says nothing of reordering (as Linux).
        let reported = duplicate.is_some_and(|(_, end)| !self.probe.ends_at(end));
        self.rack
            .on_duplicates(context.snd_una, context.snd_nxt, reported);
        if self.probe.is_under_way() {
            outcome.probe_repaired = self.probe.on_ack(ProbeAck {
                acknowledgment: context.snd_una,
                duplicate_end: duplicate.map(|(_, end)| end),
                plain_duplicate: event.duplicates > 0 && !event.has_sack,
            });
            if outcome.probe_repaired {
                self.undo = Undo::new();
            }
        }
        let duplicates_before = self.duplicate_acks;
        let original_arrived = self.undo_if_spurious(event, board, &mut outcome);
        self.advance(event, board, &mut outcome);
        if original_arrived {
            // What RACK knows is of the time when the original was late: it judges from the next ACK on.
        } else if context.sack {
            self.detect_losses(&context, board, &mut outcome);
        } else if event.duplicates > 0 {
            // More duplicates than segments in flight are somebody's invention.
            let most = board.outstanding().div_ceil(context.mss.max(1));
            self.duplicate_acks = (self.duplicate_acks + event.duplicates).min(most);
        }
        outcome.delivered = if context.sack {
            event.delivered.bytes
        } else {
            let counted = duplicates_before.saturating_mul(context.mss);
            let counts = self.duplicate_acks.saturating_mul(context.mss);
            (event.bytes_acked.saturating_add(counts)).saturating_sub(counted)
        };
        self.enter_if_due(&context, board, &mut outcome);
        outcome
    }

    /// Ends a recovery that this ACK shows to have been needless, and says whether that is because an original arrived.
    fn undo_if_spurious(
        &mut self,
        event: &AckEvent,
        board: &mut Scoreboard,
        outcome: &mut AckOutcome,
    ) -> bool {
        if let Some((left, right)) = event.delivered.duplicate {
            self.undo.on_duplicate(left, right);
        }
        let answers_original = event.bytes_acked > 0
            && self.is_active()
            && if event.delivered.retransmitted {
                self.undo.is_answer_to_original(event.echoed)
            } else {
                // What was lost has arrived before it could be sent again.
                self.in_fast_recovery() && self.undo.nothing_was_retransmitted()
            };
        let original_arrived = answers_original || self.forward_rto_step(event);
        // Duplicates are proof also when the recovery is over.
        if !original_arrived && !self.undo.all_were_duplicates() {
            return false;
        }
        // Whichever the proof is, what was taken as lost had been overtaken. RFC 8985 6.2 step 3 finds that only by what was
        // never sent again; without timestamps, a path that reorders by less than a round trip would look as one that
        // loses for ever.
        let by_duplicates = !original_arrived && self.undo.cause() == Some(Cause::Overtaken);
        if by_duplicates || (answers_original && self.in_fast_recovery()) {
            self.rack.on_reordering_found();
        }
        if self.is_active() {
            self.phase = Phase::Open;
            self.duplicate_acks = 0;
            self.first_pending = false;
            board.unmark_lost();
            outcome.step = RecoveryStep::Exited;
        }
        self.forward_rto = ForwardRto::Off;
        self.undo.end();
        outcome.undone = true;
        original_arrived
    }

    /// One step of F-RTO; whether the timeout was spurious.
    fn forward_rto_step(&mut self, event: &AckEvent) -> bool {
        let Phase::Loss { point } = self.phase else {
            return false;
        };
        if self.forward_rto == ForwardRto::Off {
            return false;
        }
        let original = event.delivered.lowest_original;
        if original.is_some_and(|end| end.at_or_before(point)) {
            return true; // step 3.b
        }
        let advanced = event.bytes_acked > 0;
        if self.forward_rto == ForwardRto::NewData {
            if event.duplicates > 0 || event.delivered.bytes > 0 {
                self.forward_rto = ForwardRto::Off; // step 3.a: the loss was real
            }
        } else if advanced && event.context.snd_una.before(point) && event.can_send_new {
            self.phase = Phase::Loss {
                point: event.context.snd_nxt,
            };
            self.forward_rto = ForwardRto::NewData; // step 2.b
        } else if advanced {
            self.forward_rto = ForwardRto::Off;
        }
        false
    }

    /// The reordering timer has fired: what has not arrived by now is lost (RFC 8985 6.2, step 5).
    pub fn on_reordering_timeout(
        &mut self,
        context: &Context,
        board: &mut Scoreboard,
    ) -> AckOutcome {
        let mut outcome = AckOutcome::default();
        self.detect_losses(context, board, &mut outcome);
        self.enter_if_due(context, board, &mut outcome);
        outcome
    }

    /// The congestion window that PRR gives in fast recovery, after an event that `outcome` is of; `ssthresh` is the
    /// controller's. `None` leaves it as it is.
    pub fn window(
        &mut self,
        outcome: &AckOutcome,
        advanced: bool,
        pipe: u32,
        ssthresh: u32,
        mss: u32,
    ) -> Option<u32> {
        self.prr.on_ack(PrrAck {
            delivered: outcome.delivered,
            pipe,
            safe: advanced && outcome.newly_lost == 0,
            ssthresh,
            mss,
        })
    }

    /// `octets` went out, new or again.
    pub const fn on_sent(&mut self, octets: u32) {
        self.prr.on_sent(octets);
    }

    fn detect_losses(&self, context: &Context, board: &mut Scoreboard, outcome: &mut AckOutcome) {
        if let Some((newest, allowance)) = self.rack.rule(self.window_input(context, board)) {
            let detected = board.detect_losses(context.now, newest, allowance);
            outcome.wait_until = detected.wait_until;
            outcome.newly_lost += detected.lost;
            outcome.newest_lost = detected.newest_lost.or(outcome.newest_lost);
        }
    }

    fn enter_if_due(
        &mut self,
        context: &Context,
        board: &mut Scoreboard,
        outcome: &mut AckOutcome,
    ) {
        self.excused &= board.lost() > 0 && outcome.newly_lost == 0;
        if !self.is_recovery_due(context, board) {
            return;
        }
        if let Some(probe) = context.mtu_probe
            && self.excuse_mtu_probe(context, probe, board)
        {
            outcome.mtu_probe_lost = true;
            outcome.newly_lost = 0;
            outcome.newest_lost = None;
            return;
        }
        self.phase = Phase::Fast {
            point: context.snd_nxt,
        };
        self.recover = Some(context.snd_nxt);
        self.first_pending = true;
        self.probe.reset();
        self.undo
            .begin(Cause::Overtaken, context.snd_una, board.retransmitted());
        let left = board.outstanding() - board.sacked() + outcome.delivered;
        let flight = left.saturating_add(context.unanswered);
        self.prr = Prr::begin(flight, context.unanswered);
        outcome.step = RecoveryStep::Entered;
        if context.sack {
            // Within recovery the reordering window may be smaller (RFC 8985 6.2, step 4).
            self.detect_losses(context, board, outcome);
        } else {
            outcome.newly_lost += board.mark_head_lost(context.mss);
        }
    }

    /// Whether only the probe is lost, as far as can be told: then it goes out again, and there is no recovery (RFC 4821
    /// 7.6.2). What is found lost later calls for one.
    fn excuse_mtu_probe(
        &mut self,
        context: &Context,
        (start, end): (SeqNum, SeqNum),
        board: &mut Scoreboard,
    ) -> bool {
        if context.snd_una != start || (context.sack && board.lost() != end - start) {
            return false;
        }
        if !context.sack {
            board.mark_head_lost(end - start);
        }
        self.excused = true;
        self.first_pending = true;
        true
    }

    /// By how much a segment may be overtaken before it counts as lost (RACK.reo_wnd, RFC 8985 6.2).
    pub fn reordering_window(&self, context: &Context, board: &Scoreboard) -> Duration {
        self.rack.window(self.window_input(context, board))
    }

    fn window_input(&self, context: &Context, board: &Scoreboard) -> WindowInput {
        WindowInput {
            recovering: self.is_active(),
            sacked_segments: board.sacked_segments(),
            threshold: context.threshold,
            smoothed_rtt: context.smoothed_rtt,
        }
    }

    /// Whether fast recovery has to begin.
    fn is_recovery_due(&self, context: &Context, board: &Scoreboard) -> bool {
        if self.is_active() || board.is_empty() || self.excused {
            return false;
        }
        if context.sack {
            return board.lost() > 0;
        }
        // RFC 6582 3.2 step 2: the ACK must cover more than `recover`, or duplicates of an earlier recovery's
        // needless retransmissions would begin another.
        self.duplicate_acks >= context.threshold
            && self
                .recover
                .is_none_or(|recover| context.snd_una.after(recover))
    }

    /// The retransmission timer fired: what is not SACKed and was not sent just now is lost (RFC 8985 6.3). Says whether
    /// the same data timed out before.
    pub fn on_timeout(&mut self, context: &Context, board: &mut Scoreboard) -> bool {
        let repeated = self.timed_out_at == Some(context.snd_una);
        if !repeated {
            self.undo
                .begin(Cause::Timeout, context.snd_una, board.retransmitted());
        }
        self.begin_loss(context.snd_nxt);
        self.timed_out_at = Some(context.snd_una);
        if context.sack && !board.has_reneged() {
            self.forward_rto = ForwardRto::Retransmitted;
        }
        if context.sack {
            let allowance = self.rack.allowance(self.window_input(context, board));
            board.mark_lost_on_timeout(|sent_at| sent_at + allowance <= context.now);
        } else {
            board.mark_all_lost();
        }
        repeated
    }

    /// The path carries no more than segments of `mss` octets: what was larger and is not SACKed goes out again, in segments
    /// that fit. Not a sign of congestion, and not a timeout. Whether there was anything.
    pub fn on_path_shrunk(&mut self, snd_nxt: SeqNum, mss: u32, board: &mut Scoreboard) -> bool {
        let any = board.mark_oversized_lost(mss);
        if any {
            self.begin_loss(snd_nxt);
            self.undo = Undo::new();
        }
        any
    }

    fn begin_loss(&mut self, snd_nxt: SeqNum) {
        self.phase = Phase::Loss { point: snd_nxt };
        self.recover = Some(snd_nxt);
        self.duplicate_acks = 0;
        self.first_pending = true;
        self.forward_rto = ForwardRto::Off;
        self.excused = false;
        self.probe.reset();
    }

    /// A probe may be scheduled: nothing else is about to find out what is lost (RFC 8985 7.2).
    pub fn may_probe(&self, board: &Scoreboard) -> bool {
        !self.is_active() && !board.has_sacked() && !board.is_empty()
    }

    /// Applies what the cumulative acknowledgment means for the phase.
    fn advance(&mut self, event: &AckEvent, board: &mut Scoreboard, outcome: &mut AckOutcome) {
        let context = event.context;
        if event.bytes_acked == 0 {
            return;
        }
        match self.phase {
            Phase::Open => self.duplicate_acks = 0,
            Phase::Fast { point } | Phase::Loss { point }
                if context.snd_una.at_or_after(point) || board.is_empty() =>
            {
                self.phase = Phase::Open;
                self.duplicate_acks = 0;
                self.first_pending = false;
                self.forward_rto = ForwardRto::Off;
                self.rack.on_recovered();
                outcome.step = RecoveryStep::Exited;
            }
            Phase::Fast { .. } => {
                if !context.sack {
                    // RFC 6582 3.2 step 3, partial acknowledgment: the segment behind it is lost too. One of the
                    // segments acknowledged was the retransmission, the others had been counted by duplicates.
                    let segments = event.bytes_acked.div_ceil(context.mss.max(1));
                    self.duplicate_acks = self.duplicate_acks.saturating_sub(segments - 1);
                    outcome.newly_lost += board.mark_head_lost(context.mss);
                    self.first_pending = true;
                }
            }
            Phase::Loss { .. } => {}
        }
    }
}

impl Default for Recovery {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
