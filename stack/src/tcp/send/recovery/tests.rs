use super::*;
use crate::tcp::send::delivered::AckTiming;

const MSS: u32 = 1000;

/// A sender whose segments leave a millisecond apart, and ACKs come when the test says.
struct Sender {
    board: Scoreboard,
    recovery: Recovery,
    una: SeqNum,
    nxt: SeqNum,
    sack: bool,
    now: Instant,
    smoothed_rtt: Duration,
}

impl Sender {
    fn new(segments: u32, sack: bool) -> Self {
        let mut sender = Self {
            board: Scoreboard::new(SeqNum(0)),
            recovery: Recovery::new(),
            una: SeqNum(0),
            nxt: SeqNum(0),
            sack,
            now: Instant::from_millis(1000),
            smoothed_rtt: Duration::from_millis(100),
        };
        sender
            .recovery
            .rack
            .on_round_trip(Instant::ZERO, sender.smoothed_rtt);
        sender.send(segments);
        sender
    }

    fn wait(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    fn send(&mut self, segments: u32) {
        for _ in 0..segments {
            self.nxt += MSS;
            self.board.on_sent(self.nxt, self.now, MSS as u16);
            self.wait(1);
        }
    }

    fn context(&self) -> Context {
        Context {
            unanswered: 0,
            mtu_probe: None,
            now: self.now,
            snd_una: self.una,
            snd_nxt: self.nxt,
            sack: self.sack,
            mss: MSS,
            smoothed_rtt: self.smoothed_rtt,
            threshold: 3,
        }
    }

    fn acked(&mut self, ack: u32, duplicates: u32, blocks: &[(u32, u32)]) -> AckOutcome {
        let timing = AckTiming {
            now: self.now,
            min_rtt: self.recovery.rack.min_rtt(),
            echoed: None,
        };
        let bytes_acked = SeqNum(ack).saturating_since(self.una);
        self.una = self.una.max(SeqNum(ack));
        let delivered = self.board.acknowledge(self.una, &timing);
        let delivered = delivered.and(self.board.apply_sack(blocks, self.una, &timing));
        let event = AckEvent {
            context: self.context(),
            delivered,
            has_sack: !blocks.is_empty(),
            echoed: None,
            can_send_new: false,
            bytes_acked,
            duplicates,
        };
        self.recovery.on_ack(&event, &mut self.board)
    }

    fn ack(&mut self, ack: u32, duplicates: u32, blocks: &[(u32, u32)]) -> RecoveryStep {
        self.acked(ack, duplicates, blocks).step
    }

    fn timeout(&mut self) -> bool {
        let context = self.context();
        self.recovery.on_timeout(&context, &mut self.board)
    }

    fn reordering_timeout(&mut self) -> AckOutcome {
        let context = self.context();
        self.recovery
            .on_reordering_timeout(&context, &mut self.board)
    }

    fn retransmit(&mut self) -> Option<u32> {
        let (start, end) = self.board.next_lost(MSS)?;
        self.board
            .on_retransmitted(start, end, self.now, MSS as u16);
        self.recovery.on_retransmitted(self.now, MSS);
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
    sender.timeout();
    assert_eq!(sender.ack(10_000, 0, &[]), RecoveryStep::Exited);
    sender.send(5);
    assert_eq!(sender.ack(10_000, 3, &[]), RecoveryStep::Nothing);
    assert_eq!(sender.ack(11_000, 0, &[]), RecoveryStep::Nothing);
    assert_eq!(sender.ack(11_000, 3, &[]), RecoveryStep::Entered);
}

#[test]
fn three_segments_sacked_begin_recovery_and_partial_acks_keep_it() {
    // RFC 8985 6.2, step 4: as long as no reordering was seen, DupThresh makes the window zero.
    let mut sender = Sender::new(10, true);
    sender.wait(90);
    assert_eq!(sender.ack(0, 1, &[(1000, 2000)]), RecoveryStep::Nothing);
    assert_eq!(sender.ack(0, 1, &[(1000, 3000)]), RecoveryStep::Nothing);
    assert_eq!(sender.ack(0, 1, &[(1000, 4000)]), RecoveryStep::Entered);
    assert_eq!(sender.retransmit(), Some(0));
    assert_eq!(sender.pipe(), 7000);
    assert_eq!(sender.ack(4000, 0, &[(5000, 6000)]), RecoveryStep::Nothing);
    assert!(sender.recovery.in_fast_recovery());
    assert_eq!(
        sender.retransmit(),
        Some(4000),
        "no window within recovery: one SACKed above is enough"
    );
    assert_eq!(sender.ack(10_000, 0, &[]), RecoveryStep::Exited);
}

#[test]
fn one_segment_sacked_is_enough_once_the_reordering_window_has_passed() {
    // RFC 8985 6.2, step 5: the reordering timer.
    let mut sender = Sender::new(2, true);
    sender.wait(98); // the ACK of the second, sent at 1 ms, comes at 100 ms
    let outcome = sender.acked(0, 1, &[(1000, 2000)]);
    assert_eq!(outcome.step, RecoveryStep::Nothing);
    // RACK.xmit_ts + RACK.rtt + min_RTT / 4.
    assert_eq!(outcome.wait_until, Some(Instant::from_millis(1125)));
    sender.wait(24);
    assert_eq!(sender.reordering_timeout().step, RecoveryStep::Entered);
    assert_eq!(sender.retransmit(), Some(0));
}

#[test]
fn after_reordering_three_segments_sacked_are_not_enough() {
    // RFC 8985 6.2, step 4.
    let mut sender = Sender::new(20, true);
    sender.wait(80);
    sender.ack(0, 1, &[(1000, 3000)]);
    let outcome = sender.acked(3000, 0, &[]);
    assert!(outcome.reordering_found, "the first came behind the second");
    let outcome = sender.acked(3000, 1, &[(4000, 10_000)]);
    assert_eq!(outcome.step, RecoveryStep::Nothing);
    assert!(outcome.wait_until.is_some());
    assert_eq!(sender.retransmit(), None);
    sender.wait(25);
    assert_eq!(sender.reordering_timeout().step, RecoveryStep::Entered);
    assert_eq!(sender.retransmit(), Some(3000));
}

#[test]
fn lost_retransmission_is_sent_again_without_a_timeout() {
    // RFC 8985 3.1 and 6.2, step 5: whatever is sent later and delivered tells.
    let mut sender = Sender::new(10, true);
    sender.wait(90);
    sender.ack(0, 1, &[(1000, 10_000)]);
    assert_eq!(sender.retransmit(), Some(0));
    sender.wait(1);
    sender.send(1);
    sender.wait(100);
    assert_eq!(sender.retransmit(), None);
    sender.ack(0, 1, &[(1000, 11_000)]);
    assert_eq!(sender.retransmit(), Some(0));
    sender.wait(100);
    assert_eq!(sender.ack(11_000, 0, &[]), RecoveryStep::Exited);
}

#[test]
fn early_answer_is_not_taken_for_the_retransmissions() {
    // RFC 8985 6.2, step 2, second condition: it arrived sooner than any round trip.
    let mut sender = Sender::new(10, true);
    sender.wait(90);
    sender.ack(0, 1, &[(1000, 5000)]);
    assert_eq!(sender.retransmit(), Some(0));
    sender.wait(10);
    sender.ack(5000, 0, &[]);
    assert_eq!(
        sender.retransmit(),
        None,
        "a retransmission's time would make all that was sent before it lost"
    );
}

#[test]
fn timeout_leaves_out_what_was_sent_just_now() {
    // RFC 8985 6.3.
    let mut sender = Sender::new(2, true);
    sender.wait(98);
    sender.ack(1000, 0, &[]);
    sender.wait(200);
    sender.send(2);
    sender.wait(50);
    sender.timeout();
    assert_eq!(sender.board.lost(), 1000);
    assert_eq!(sender.retransmit(), Some(1000));
    assert_eq!(sender.retransmit(), None);
    sender.wait(100);
    sender.ack(2000, 0, &[]);
    assert_eq!(
        sender.retransmit(),
        Some(2000),
        "the retransmission was delivered, what had been sent before it was not"
    );
}

#[test]
fn no_fast_recovery_within_recovery_from_a_timeout() {
    // RFC 6675 5.1: not until HighACK has passed the recovery point.
    let mut sender = Sender::new(10, true);
    sender.wait(300);
    assert!(!sender.timeout());
    assert_eq!(sender.retransmit(), Some(0));
    sender.wait(100);
    // Nothing new to send, so F-RTO cannot tell whether the timeout was spurious.
    assert_eq!(sender.ack(1000, 0, &[]), RecoveryStep::Nothing);
    assert_eq!(sender.ack(1000, 1, &[(4000, 8000)]), RecoveryStep::Nothing);
    assert!(!sender.recovery.in_fast_recovery() && sender.recovery.is_active());
    assert!(!sender.timeout(), "later data");
    assert!(sender.timeout(), "the same data again");
    assert_eq!(sender.ack(10_000, 0, &[]), RecoveryStep::Exited);
}

#[test]
fn probe_waits_for_nothing_else_to_be_under_way() {
    // RFC 8985 7.2: not in recovery, and not once segments were SACKed.
    let mut sender = Sender::new(10, true);
    assert!(sender.recovery.may_probe(&sender.board));
    sender.wait(90);
    sender.ack(0, 1, &[(1000, 2000)]);
    assert!(!sender.recovery.may_probe(&sender.board));
    sender.ack(2000, 0, &[]);
    assert!(sender.recovery.may_probe(&sender.board));
    sender.timeout();
    assert!(!sender.recovery.may_probe(&sender.board));
}

#[test]
fn invented_duplicates_do_not_empty_the_pipe_below_the_flight() {
    let mut sender = Sender::new(4, false);
    sender.ack(0, 1_000_000, &[]);
    assert!(sender.recovery.duplicate_acks <= 4);
}
