//! When loss recovery begins and ends.
//!
//! Owns the recovery phase and its recovery point, duplicate ACKs of peers without SACK, and the decision to enter or
//! leave. Which octets are lost is written into the scoreboard, how much may be sent then is the congestion
//! controller's window less [`Recovery::pipe`], and sending is `connection/output`'s.
//!
//! Without SACK, each duplicate ACK stands for one segment that left the network: subtracting it from the pipe sends
//! the same packets as inflating the window (RFC 5681 3.2, RFC 6582) and needs no second bookkeeping. The same
//! subtraction is limited transmit (RFC 3042) before the threshold is met.
//!
//! ```text
//!              3 segments SACKed above / 3 duplicate ACKs
//!        Open ─────────────────────────────────────────────▶ Fast(point)
//!         ▲ ▲──────────────── SND.UNA ≥ point ──────────────────┘  │
//!         │                                                        │ timeout
//!         └────── SND.UNA ≥ point ────── Loss(point) ◀─────────────┘
//! ```
//! RFC 5681, RFC 6582, RFC 6675, RFC 3042.

use crate::tcp::SeqNum;
use crate::tcp::send::Scoreboard;

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

/// An acceptable ACK, after the scoreboard has taken it.
#[derive(Clone, Copy, Debug)]
pub struct AckEvent {
    /// SND.UNA, the acknowledgment applied.
    pub snd_una: SeqNum,
    /// SND.NXT.
    pub snd_nxt: SeqNum,
    /// Octets newly acknowledged cumulatively.
    pub bytes_acked: u32,
    /// Duplicate ACKs in the sense of RFC 5681 2 that this segment stands for, 0 if it is none. Counted only
    /// without SACK.
    pub duplicates: u32,
    /// SACK was negotiated.
    pub sack: bool,
    /// Effective MSS.
    pub mss: u32,
    /// Duplicate ACKs, or segments SACKed above, that mean loss (3).
    pub threshold: u32,
}

/// What an ACK did to recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveryStep {
    /// No recovery, or one that goes on.
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
    /// An ACK has come since the last retransmission by NextSeg's rule 3.
    unsacked_due: bool,
    /// SND.UNA when the retransmission timer fired last, to tell a repeated timeout.
    timed_out_at: Option<SeqNum>,
}

impl Recovery {
    /// No loss seen.
    pub const fn new() -> Self {
        Self {
            phase: Phase::Open,
            duplicate_acks: 0,
            recover: None,
            first_pending: false,
            unsacked_due: false,
            timed_out_at: None,
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

    /// A retransmission went out.
    pub const fn on_retransmitted(&mut self) {
        self.first_pending = false;
    }

    /// Whether what is neither SACKed nor lost may be retransmitted now (RFC 6675 4, NextSeg rule 3).
    pub const fn may_retransmit_unsacked(&self) -> bool {
        self.in_fast_recovery() && self.unsacked_due
    }

    /// Something went out by that rule.
    pub const fn on_unsacked_retransmitted(&mut self) {
        self.unsacked_due = false;
    }

    /// Takes an ACK that the scoreboard has taken already.
    pub fn on_ack(&mut self, event: AckEvent, board: &mut Scoreboard) -> RecoveryStep {
        self.unsacked_due = true;
        if event.bytes_acked > 0 {
            self.timed_out_at = None;
        }
        let exited = self.advance(event, board);
        if event.duplicates > 0 && !event.sack {
            // More duplicates than segments in flight are somebody's invention.
            let most = board.outstanding().div_ceil(event.mss.max(1));
            self.duplicate_acks = (self.duplicate_acks + event.duplicates).min(most);
        }
        let newly_lost = if event.sack {
            board.detect_losses(event.threshold)
        } else {
            0
        };
        if self.phase != Phase::Open {
            return exited;
        }
        let due = if event.sack {
            newly_lost > 0
        } else {
            // RFC 6582 3.2 step 2: the ACK must cover more than `recover`, or duplicates of an earlier recovery's
            // needless retransmissions would begin another.
            self.duplicate_acks >= event.threshold
                && self
                    .recover
                    .is_none_or(|recover| event.snd_una.after(recover))
        };
        if !due || board.is_empty() {
            return exited;
        }
        self.phase = Phase::Fast {
            point: event.snd_nxt,
        };
        self.recover = Some(event.snd_nxt);
        self.first_pending = true;
        board.mark_head_lost(event.mss);
        RecoveryStep::Entered
    }

    /// The retransmission timer fired: all that is not SACKed is lost. Says whether the same data timed out before.
    pub fn on_timeout(&mut self, snd_una: SeqNum, snd_nxt: SeqNum, board: &mut Scoreboard) -> bool {
        let repeated = self.timed_out_at == Some(snd_una);
        self.timed_out_at = Some(snd_una);
        self.phase = Phase::Loss { point: snd_nxt };
        self.recover = Some(snd_nxt);
        self.duplicate_acks = 0;
        self.first_pending = true;
        board.mark_all_lost();
        repeated
    }

    /// The path carries less than was sent: all that is not SACKed goes out again, in segments that fit. Not a sign of
    /// congestion, and not a timeout.
    pub fn on_path_shrunk(&mut self, snd_nxt: SeqNum, board: &mut Scoreboard) {
        self.phase = Phase::Loss { point: snd_nxt };
        self.recover = Some(snd_nxt);
        self.duplicate_acks = 0;
        self.first_pending = true;
        board.mark_all_lost();
    }

    /// Applies what the cumulative acknowledgment means for the phase.
    fn advance(&mut self, event: AckEvent, board: &mut Scoreboard) -> RecoveryStep {
        if event.bytes_acked == 0 {
            return RecoveryStep::Nothing;
        }
        match self.phase {
            Phase::Open => {
                self.duplicate_acks = 0;
                RecoveryStep::Nothing
            }
            Phase::Fast { point } | Phase::Loss { point }
                if event.snd_una.at_or_after(point) || board.is_empty() =>
            {
                self.phase = Phase::Open;
                self.duplicate_acks = 0;
                self.first_pending = false;
                RecoveryStep::Exited
            }
            Phase::Fast { .. } => {
                if !event.sack {
                    // RFC 6582 3.2 step 3, partial acknowledgment: the segment behind it is lost too. One of the
                    // segments acknowledged was the retransmission, the others had been counted by duplicates.
                    let segments = event.bytes_acked.div_ceil(event.mss.max(1));
                    self.duplicate_acks = self.duplicate_acks.saturating_sub(segments - 1);
                    board.mark_head_lost(event.mss);
                    self.first_pending = true;
                }
                RecoveryStep::Nothing
            }
            Phase::Loss { .. } => RecoveryStep::Nothing,
        }
    }
}

impl Default for Recovery {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;

    const MSS: u32 = 1000;

    struct Sender {
        board: Scoreboard,
        recovery: Recovery,
        una: SeqNum,
        nxt: SeqNum,
        sack: bool,
    }

    impl Sender {
        fn new(segments: u32, sack: bool) -> Self {
            let mut sender = Self {
                board: Scoreboard::new(SeqNum(0)),
                recovery: Recovery::new(),
                una: SeqNum(0),
                nxt: SeqNum(0),
                sack,
            };
            sender.send(segments);
            sender
        }

        fn send(&mut self, segments: u32) {
            for _ in 0..segments {
                self.nxt += MSS;
                self.board.on_sent(self.nxt, Instant::ZERO, MSS as u16);
            }
        }

        fn ack(&mut self, ack: u32, duplicates: u32, blocks: &[(u32, u32)]) -> RecoveryStep {
            let bytes_acked = SeqNum(ack).saturating_since(self.una);
            self.una = self.una.max(SeqNum(ack));
            self.board.acknowledge(self.una);
            self.board.apply_sack(blocks, self.una);
            self.recovery.on_ack(
                AckEvent {
                    snd_una: self.una,
                    snd_nxt: self.nxt,
                    bytes_acked,
                    duplicates,
                    sack: self.sack,
                    mss: MSS,
                    threshold: 3,
                },
                &mut self.board,
            )
        }

        fn retransmit(&mut self) -> Option<u32> {
            let (start, end) = self.board.next_lost(MSS)?;
            self.board
                .on_retransmitted(start, end, Instant::ZERO, MSS as u16);
            self.recovery.on_retransmitted();
            Some(start.0)
        }

        fn pipe(&self) -> u32 {
            self.recovery.pipe(&self.board, MSS)
        }
    }

    #[test]
    fn third_duplicate_ack_begins_fast_retransmit() {
        // RFC 5681 3.2 step 2.
        let mut sender = Sender::new(10, false);
        assert_eq!(sender.ack(0, 1, &[]), RecoveryStep::Nothing);
        assert_eq!(sender.pipe(), 9000, "RFC 3042: one more segment may go");
        assert_eq!(sender.ack(0, 1, &[]), RecoveryStep::Nothing);
        assert_eq!(sender.retransmit(), None);
        assert_eq!(sender.ack(0, 1, &[]), RecoveryStep::Entered);
        assert!(sender.recovery.first_retransmission_pending());
        assert_eq!(sender.retransmit(), Some(0));
        assert_eq!(sender.pipe(), 7000);
    }

    #[test]
    fn partial_ack_retransmits_the_next_segment() {
        // RFC 6582 3.2 step 3.
        let mut sender = Sender::new(10, false);
        sender.ack(0, 3, &[]);
        assert_eq!(sender.retransmit(), Some(0));
        assert_eq!(sender.ack(4000, 0, &[]), RecoveryStep::Nothing);
        assert_eq!(sender.retransmit(), Some(4000));
        assert_eq!(sender.ack(10_000, 0, &[]), RecoveryStep::Exited);
        assert!(!sender.recovery.is_active());
    }

    #[test]
    fn duplicates_of_an_old_recovery_begin_no_new_one() {
        // RFC 6582 3.2 step 2 and section 4.1.
        let mut sender = Sender::new(10, false);
        sender
            .recovery
            .on_timeout(sender.una, sender.nxt, &mut sender.board);
        assert_eq!(sender.ack(10_000, 0, &[]), RecoveryStep::Exited);
        sender.send(5);
        assert_eq!(sender.ack(10_000, 3, &[]), RecoveryStep::Nothing);
        assert_eq!(sender.ack(11_000, 0, &[]), RecoveryStep::Nothing);
        assert_eq!(sender.ack(11_000, 3, &[]), RecoveryStep::Entered);
    }

    #[test]
    fn sacked_segments_begin_recovery_and_partial_acks_keep_it() {
        // RFC 6675 5.
        let mut sender = Sender::new(10, true);
        assert_eq!(sender.ack(0, 1, &[(1000, 2000)]), RecoveryStep::Nothing);
        assert_eq!(sender.ack(0, 1, &[(1000, 3000)]), RecoveryStep::Nothing);
        assert_eq!(sender.ack(0, 1, &[(1000, 4000)]), RecoveryStep::Entered);
        assert_eq!(sender.retransmit(), Some(0));
        assert_eq!(sender.pipe(), 7000);
        assert_eq!(sender.ack(4000, 0, &[(5000, 6000)]), RecoveryStep::Nothing);
        assert!(sender.recovery.in_fast_recovery());
        assert_eq!(sender.ack(10_000, 0, &[]), RecoveryStep::Exited);
    }

    #[test]
    fn no_fast_recovery_within_recovery_from_a_timeout() {
        // RFC 6675 5.1: not until HighACK has passed the recovery point.
        let mut sender = Sender::new(10, true);
        assert!(
            !sender
                .recovery
                .on_timeout(sender.una, sender.nxt, &mut sender.board)
        );
        assert_eq!(sender.ack(0, 1, &[(4000, 8000)]), RecoveryStep::Nothing);
        assert!(!sender.recovery.in_fast_recovery());
        assert!(
            sender
                .recovery
                .on_timeout(sender.una, sender.nxt, &mut sender.board),
            "the same data again"
        );
        assert_eq!(sender.ack(9000, 0, &[]), RecoveryStep::Nothing);
        assert!(
            !sender
                .recovery
                .on_timeout(sender.una, sender.nxt, &mut sender.board),
            "later data"
        );
    }

    #[test]
    fn invented_duplicates_do_not_empty_the_pipe_below_the_flight() {
        let mut sender = Sender::new(4, false);
        sender.ack(0, 1_000_000, &[]);
        assert!(sender.recovery.duplicate_acks <= 4);
    }
}
