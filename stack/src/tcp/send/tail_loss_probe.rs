//! TLP: a probe that makes the loss of the last segments show before the retransmission timer does (RFC 8985 7).
//!
//! Owns the probe under way and what its ACK means, and how long to wait for an ACK before probing. Sending is
//! `connection/output`'s, the timer `connection/timers`'s.

use std::time::Duration;

use crate::tcp::SeqNum;

/// An ACK as the probe sees it.
#[derive(Clone, Copy, Debug)]
pub struct ProbeAck {
    /// SEG.ACK.
    pub acknowledgment: SeqNum,
    /// The end of what a DSACK reported.
    pub duplicate_end: Option<SeqNum>,
    /// A duplicate ACK without any SACK option.
    pub plain_duplicate: bool,
}

/// The probe of a connection, if one is under way.
#[derive(Clone, Copy, Debug)]
pub struct TailLossProbe {
    /// TLP.end_seq: SND.NXT when the probe went out.
    end: Option<SeqNum>,
    /// TLP.is_retrans.
    retransmission: bool,
    /// A round trip was measured since the last probe.
    measured: bool,
}

impl TailLossProbe {
    /// None under way. The first may go without a measured round trip, as with Linux: its timeout is a second then.
    pub const fn new() -> Self {
        Self {
            end: None,
            retransmission: false,
            measured: true,
        }
    }

    /// A probe is not answered yet.
    pub const fn is_under_way(&self) -> bool {
        self.end.is_some()
    }

    /// A retransmitted probe ends there.
    pub fn ends_at(&self, end: SeqNum) -> bool {
        self.retransmission && self.end == Some(end)
    }

    /// A probe may be sent (RFC 8985 7.3, both conditions).
    pub const fn is_permitted(&self) -> bool {
        self.end.is_none() && self.measured
    }

    /// A probe went out, of new data or a `retransmission`.
    pub const fn on_sent(&mut self, snd_nxt: SeqNum, retransmission: bool) {
        self.end = Some(snd_nxt);
        self.retransmission = retransmission;
        self.measured = false;
    }

    /// A round trip was measured.
    pub const fn on_round_trip(&mut self) {
        self.measured = true;
    }

    /// Recovery begins: the probe means nothing any more (RFC 8985 7.1).
    pub const fn reset(&mut self) {
        self.end = None;
        self.retransmission = false;
    }

    /// TLP_process_ack (RFC 8985 7.4.2): whether the probe has repaired a loss, to which congestion control must react.
    pub fn on_ack(&mut self, ack: ProbeAck) -> bool {
        let Some(end) = self.end.filter(|end| ack.acknowledgment.at_or_after(*end)) else {
            return false;
        };
        let repaired =
            self.retransmission && ack.duplicate_end != Some(end) && ack.acknowledgment.after(end);
        if repaired || !self.retransmission || ack.duplicate_end == Some(end) || ack.plain_duplicate
        {
            self.end = None;
        }
        repaired
    }
}

impl Default for TailLossProbe {
    fn default() -> Self {
        Self::new()
    }
}

/// TLP_calc_PTO (RFC 8985 7.2) but for its bound, the retransmission timer. `alone`: one segment is in flight, whose ACK
/// the peer may delay by `max_ack_delay`.
pub fn probe_timeout(smoothed: Option<Duration>, alone: bool, max_ack_delay: Duration) -> Duration {
    match smoothed {
        None => WITHOUT_SAMPLE,
        Some(smoothed) if alone => smoothed * 2 + max_ack_delay,
        Some(smoothed) => smoothed * 2 + ALLOWANCE,
    }
}

/// PTO before the first sample (RFC 8985 7.2).
const WITHOUT_SAMPLE: Duration = Duration::from_secs(1);
/// Added to 2 SRTT, as Linux: on short paths hosts' own delays are larger than the round trip.
const ALLOWANCE: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(acknowledgment: u32) -> ProbeAck {
        ProbeAck {
            acknowledgment: SeqNum(acknowledgment),
            duplicate_end: None,
            plain_duplicate: false,
        }
    }

    #[test]
    fn probe_timeout_is_two_round_trips_and_the_peers_delay_for_a_lone_segment() {
        // RFC 8985 7.2.
        let ms = Duration::from_millis;
        for (smoothed, alone, timeout) in [
            (None, false, ms(1000)),
            (None, true, ms(1000)),
            (Some(ms(50)), false, ms(102)),
            (Some(ms(50)), true, ms(300)),
        ] {
            assert_eq!(probe_timeout(smoothed, alone, ms(200)), timeout);
        }
    }

    #[test]
    fn one_probe_at_a_time_and_none_without_a_new_round_trip() {
        // RFC 8985 7.3.
        let mut probe = TailLossProbe::new();
        assert!(probe.is_permitted());
        probe.on_sent(SeqNum(1000), false);
        assert!(!probe.is_permitted());
        probe.on_ack(ack(1000));
        assert!(!probe.is_under_way() && !probe.is_permitted());
        probe.on_round_trip();
        assert!(probe.is_permitted());
    }

    #[test]
    fn answers_tell_whether_a_retransmitted_probe_repaired_a_loss() {
        // RFC 8985 7.4.2: (ACK, loss repaired, episode over).
        let duplicate = |number| ProbeAck {
            duplicate_end: Some(SeqNum(1000)),
            ..ack(number)
        };
        let plain = ProbeAck {
            plain_duplicate: true,
            ..ack(1000)
        };
        let other = ProbeAck {
            duplicate_end: Some(SeqNum(500)),
            ..ack(1000)
        };
        for (answer, repaired, over) in [
            (ack(900), false, false),
            (ack(1000), false, false),
            (duplicate(1000), false, true),
            (duplicate(2000), false, true),
            (plain, false, true),
            (other, false, false),
            (ack(1001), true, true),
        ] {
            let mut probe = TailLossProbe::new();
            probe.on_sent(SeqNum(1000), true);
            assert_eq!(probe.on_ack(answer), repaired, "{answer:?}");
            assert_eq!(!probe.is_under_way(), over, "{answer:?}");
        }
        let mut probe = TailLossProbe::new();
        probe.on_sent(SeqNum(1000), false);
        assert!(!probe.on_ack(ack(2000)), "new data was no loss");
    }
}
