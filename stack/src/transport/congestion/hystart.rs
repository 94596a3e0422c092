//! HyStart++ (RFC 9406): slow start ends when round trips lengthen, before the path's queue overflows.
//!
//! ```text
//!             RTT has grown                      five rounds
//!   slow start ───────────▶ conservative slow start ───────▶ congestion avoidance
//!        ▲                            │
//!        └── it fell again: jitter ───┘
//! ```
//!
//! Owns the rounds, told by what was sent when they began, and the smallest round trip of each. The controller owns the
//! window, asks how much of an acknowledgment may make it grow, and ends slow start when told to.
//!
//! RFC 9406 (its text was not at hand: followed from general knowledge of it). Its limit L of the growth per ACK is
//! not taken over, as in Linux: an ACK may cover 64 KiB only because the peer's device coalesces, and with eight
//! segments for each such ACK the window would take four round trips to double.

use std::time::Duration;

use crate::transport::congestion::AckSample;

/// What the controller shall do with an acknowledgment in slow start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// Grow by all that was acknowledged.
    Full,
    /// Grow by a quarter of it: conservative slow start.
    Conservative,
    /// Congestion avoidance begins: `ssthresh` becomes `cwnd`.
    Over,
}

/// The state of a connection's first slow start.
#[derive(Clone, Copy, Debug, Default)]
pub struct HyStart {
    /// windowEnd: the round is over when this is acknowledged; `None` before the first ACK.
    round_end: Option<u32>,
    /// lastRoundMinRTT.
    last_round: Option<Duration>,
    /// currentRoundMinRTT.
    this_round: Option<Duration>,
    /// rttSampleCount.
    samples: u32,
    /// Conservative slow start, if it has begun.
    conservative: Option<Conservative>,
}

#[derive(Clone, Copy, Debug)]
struct Conservative {
    /// cssBaselineMinRtt.
    baseline: Duration,
    /// Rounds completed, the one in which it began included.
    rounds: u32,
}

impl HyStart {
    /// Before the first ACK.
    pub const fn new() -> Self {
        Self {
            round_end: None,
            last_round: None,
            this_round: None,
            samples: 0,
            conservative: None,
        }
    }

    /// Takes an ACK of slow start (RFC 9406 4.2).
    pub fn on_ack(&mut self, sample: &AckSample) -> Growth {
        let end = *self.round_end.get_or_insert(sample.sent);
        if let Some(rtt) = sample.rtt {
            self.this_round = Some(self.this_round.map_or(rtt, |least| least.min(rtt)));
            self.samples = self.samples.saturating_add(1);
            self.judge();
        }
        let growth = match self.conservative {
            None => Growth::Full,
            Some(_) => Growth::Conservative,
        };
        // The marks wrap, as sequence numbers do.
        let round_over = (sample.acknowledged.wrapping_sub(end) as i32) >= 0;
        if !round_over {
            return growth;
        }
        self.round_end = Some(sample.sent);
        self.last_round = self.this_round.take().or(self.last_round);
        self.samples = 0;
        if let Some(conservative) = &mut self.conservative {
            conservative.rounds += 1;
            if conservative.rounds >= CSS_ROUNDS {
                return Growth::Over;
            }
        }
        growth
    }

    /// Compares the round's smallest round trip with what is known, once enough samples were taken.
    fn judge(&mut self) {
        let Some(this_round) = self.this_round.filter(|_| self.samples >= N_RTT_SAMPLE) else {
            return;
        };
        if let Some(conservative) = self.conservative {
            if this_round < conservative.baseline {
                self.conservative = None;
            }
        } else if let Some(last_round) = self.last_round {
            let threshold = (last_round / MIN_RTT_DIVISOR).clamp(MIN_RTT_THRESH, MAX_RTT_THRESH);
            if this_round >= last_round + threshold {
                self.conservative = Some(Conservative {
                    baseline: this_round,
                    rounds: 0,
                });
            }
        }
    }
}

// The constants that RFC 9406 4.3 recommends.

/// Least growth of the round trip that counts: below are timers and schedulers.
const MIN_RTT_THRESH: Duration = Duration::from_millis(4);
/// So much always counts, however long the path.
const MAX_RTT_THRESH: Duration = Duration::from_millis(16);
/// The growth that counts, as a part of the round trip.
const MIN_RTT_DIVISOR: u32 = 8;
/// Samples of a round before its smallest means anything.
const N_RTT_SAMPLE: u32 = 8;
/// Rounds of conservative slow start.
const CSS_ROUNDS: u32 = 5;
/// Conservative slow start grows by this part of what was acknowledged.
pub(super) const CSS_GROWTH_DIVISOR: usize = 4;

#[cfg(test)]
mod tests;
