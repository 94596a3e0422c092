//! Taking back a reduction of the window that turns out to have been needless.
//!
//! Owns the evidence about the retransmissions of the latest recovery: when the first left, and how much of them the
//! peer has not reported as duplicates yet. Two things prove a recovery spurious: an ACK that echoes a timestamp from before the
//! first retransmission, so that the original was what arrived (Eifel detection, RFC 3522 3), and DSACKs for everything
//! retransmitted (RFC 2883 5, RFC 3708). A third, F-RTO, is a matter of the order of ACKs and in `recovery`. The response
//! (RFC 4015 3) is the controller's `undo`; it restores the window at once, as Linux, where RFC 4015 would limit it
//! to the flight and an initial window: what is in flight counts again, so there is no burst to be limited.

use crate::tcp::SeqNum;
use crate::time::Instant;

/// What is known about the retransmissions since the window was reduced.
#[derive(Clone, Copy, Debug, Default)]
pub struct Undo {
    /// The reduction; `None` when there is nothing to take back.
    reduction: Option<Reduction>,
    /// Octets retransmitted since and not reported as duplicates; `None` before there are any.
    unreported: Option<u32>,
    /// When the first retransmission left, in milliseconds as timestamps have them; `None` before.
    first_at: Option<u64>,
}

/// A reduction of the window.
#[derive(Clone, Copy, Debug)]
struct Reduction {
    /// SND.UNA then.
    at: SeqNum,
    cause: Cause,
}

/// Why a window was reduced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Later segments arrived first: fast recovery.
    Overtaken,
    /// The retransmission timer fired.
    Timeout,
}

impl Undo {
    /// Nothing to take back.
    pub const fn new() -> Self {
        Self {
            reduction: None,
            unreported: None,
            first_at: None,
        }
    }

    /// The window is reduced for this cause at `snd_una`, with so many octets of retransmissions under way: a loss probe, or what the
    /// recovery before has sent again beyond its end. Their answers echo times from before those of this recovery, and yet
    /// prove nothing, so the time of the first of them counts; if it is not known, times prove nothing.
    pub fn begin(&mut self, cause: Cause, snd_una: SeqNum, under_way: u32) {
        *self = Self {
            reduction: Some(Reduction { at: snd_una, cause }),
            unreported: (under_way > 0).then_some(under_way),
            first_at: (under_way > 0).then(|| self.first_at.unwrap_or(0)),
        };
    }

    /// The reduction was taken back: there is nothing more to undo. What was retransmitted may still be answered, so its time
    /// stays known.
    pub const fn end(&mut self) {
        self.reduction = None;
        self.unreported = None;
    }

    /// `octets` were retransmitted.
    pub fn on_retransmitted(&mut self, now: Instant, octets: u32) {
        if self.reduction.is_some() {
            let unreported = self.unreported.unwrap_or(0);
            self.unreported = Some(unreported.saturating_add(octets));
            self.first_at.get_or_insert(now.as_millis());
        }
    }

    /// The peer has received `left..right` twice.
    pub fn on_duplicate(&mut self, left: SeqNum, right: SeqNum) {
        if let (Some(reduction), Some(unreported)) = (self.reduction, &mut self.unreported)
            && right.after(reduction.at)
        {
            *unreported = unreported.saturating_sub(right - left);
        }
    }

    /// Every retransmission was a duplicate.
    pub fn all_were_duplicates(&self) -> bool {
        self.reduction.is_some() && self.unreported == Some(0)
    }

    /// Why the window was reduced; `None` when there is nothing to take back.
    pub fn cause(&self) -> Option<Cause> {
        self.reduction.map(|reduction| reduction.cause)
    }

    /// Since the reduction nothing has gone out again, and nothing was on its way: what arrives is the original (as Linux's
    /// `tcp_packet_delayed`).
    pub const fn nothing_was_retransmitted(&self) -> bool {
        self.reduction.is_some() && self.unreported.is_none() && self.first_at.is_none()
    }

    /// An ACK of something retransmitted that echoes a segment sent at `echoed` answers the original.
    pub fn is_answer_to_original(&self, echoed: Option<Instant>) -> bool {
        self.reduction.is_some()
            && self
                .first_at
                .zip(echoed)
                .is_some_and(|(first, echoed)| echoed.as_millis() < first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_for_all_retransmissions_prove_a_recovery_spurious() {
        // RFC 2883 5; a report from before the reduction counts for nothing.
        let mut undo = Undo::new();
        undo.begin(Cause::Overtaken, SeqNum(1000), 0);
        assert!(!undo.all_were_duplicates(), "nothing was retransmitted yet");
        undo.on_retransmitted(Instant::ZERO, 2000);
        undo.on_duplicate(SeqNum(0), SeqNum(1000));
        undo.on_duplicate(SeqNum(1000), SeqNum(2000));
        assert!(!undo.all_were_duplicates());
        undo.on_duplicate(SeqNum(2000), SeqNum(3000));
        assert!(undo.all_were_duplicates());
        undo.on_retransmitted(Instant::ZERO, 1000);
        assert!(!undo.all_were_duplicates());
        undo = Undo::new();
        undo.on_retransmitted(Instant::ZERO, 1000);
        undo.on_duplicate(SeqNum(1000), SeqNum(2000));
        assert!(!undo.all_were_duplicates(), "nothing was reduced");
    }

    #[test]
    fn retransmissions_of_the_recovery_before_do_not_look_like_originals() {
        // RFC 3522 3.2: the first retransmission that may be answered counts, not the first of this recovery.
        let at = Instant::from_millis;
        let mut undo = Undo::new();
        undo.begin(Cause::Overtaken, SeqNum(0), 0);
        undo.on_retransmitted(at(100), 1000);
        undo.begin(Cause::Overtaken, SeqNum(5000), 1000);
        undo.on_retransmitted(at(200), 1000);
        assert!(!undo.is_answer_to_original(Some(at(150))));
        assert!(!undo.is_answer_to_original(Some(at(100))));
        assert!(undo.is_answer_to_original(Some(at(99))));
        let mut unknown = Undo::new();
        unknown.begin(Cause::Overtaken, SeqNum(0), 1000);
        unknown.on_retransmitted(at(200), 1000);
        assert!(!unknown.is_answer_to_original(Some(at(1))));
    }

    #[test]
    fn probe_under_way_counts_as_retransmission() {
        // Its report alone must prove nothing about those that follow, and it is waited for.
        let mut undo = Undo::new();
        undo.begin(Cause::Overtaken, SeqNum(0), 1000);
        undo.on_retransmitted(Instant::ZERO, 1000);
        undo.on_duplicate(SeqNum(5000), SeqNum(6000));
        assert!(!undo.all_were_duplicates());
        undo.on_duplicate(SeqNum(0), SeqNum(1000));
        assert!(undo.all_were_duplicates());
    }

    #[test]
    fn echo_from_before_the_first_retransmission_is_of_the_original() {
        // RFC 3522 3.2, step 5: SEG.TSecr < RetransmitTS.
        let at = Instant::from_millis;
        let mut undo = Undo::new();
        undo.begin(Cause::Overtaken, SeqNum(0), 0);
        assert!(!undo.is_answer_to_original(Some(at(0))));
        undo.on_retransmitted(at(100), 1000);
        undo.on_retransmitted(at(200), 1000);
        for (echoed, original) in [
            (Some(at(99)), true),
            (Some(at(100)), false),
            (Some(at(150)), false),
            (None, false),
        ] {
            assert_eq!(undo.is_answer_to_original(echoed), original, "{echoed:?}");
        }
    }
}
