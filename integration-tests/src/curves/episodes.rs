//! Loss as the path knows it, told apart by how much of a window it took, and the timeouts that it cost.

use std::time::Duration;

use tidewire::tcp::Info;
use tidewire::tcp::info::CongestionState;
use tidewire::time::Instant;

/// Windows that are too small for their losses to be told from what follows: with two segments or less in flight, loss of
/// both, or of one and the probe for it, leaves nothing that could be acknowledged (RFC 8985 7.3: the probe's loss is the
/// timer's business).
const SMALL: u64 = 2;

/// What became of a sender's losses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Episodes {
    /// Round trips in which packets were lost.
    pub lossy_rounds: u64,
    /// Timeouts after more than half of what was in flight was lost within a round trip.
    pub after_bursts: u64,
    /// Timeouts with so little in flight that nothing else could have noticed ([`SMALL`]).
    pub of_small_windows: u64,
    /// Timeouts without either: what fast recovery and probes should have spared.
    pub avoidable: u64,
}

/// Watches a sender and the losses on its way.
pub(super) struct Watch {
    episodes: Episodes,
    drops: u64,
    timeouts: u64,
    /// The present round trip of losses: until when, what was in flight in the beginning, what was lost since.
    round: Option<(Instant, u64, u64)>,
    /// Since the sender last thought that nothing was amiss, a burst took more than half of the flight.
    is_burst: bool,
    /// The least that was in flight, in segments, since the sender last thought that nothing was amiss.
    least_flight: u64,
    base_round_trip: Duration,
}

impl Watch {
    /// A sender that has met `drops` packets lost and `timeouts` so far, on a path of this round trip.
    pub(super) fn new(base_round_trip: Duration, drops: u64, timeouts: u64) -> Self {
        Self {
            episodes: Episodes::default(),
            drops,
            timeouts,
            round: None,
            is_burst: false,
            least_flight: u64::MAX,
            base_round_trip,
        }
    }

    /// What came of it so far.
    pub(super) fn episodes(&self) -> Episodes {
        self.episodes
    }

    /// A step of the simulation later: the sender's view, and how many of its packets the path has lost so far.
    pub(super) fn observe(&mut self, now: Instant, sender: &Info, drops: u64) {
        let flight = (sender.bytes_in_flight / sender.mss.max(1)) as u64;
        if sender.timeouts > self.timeouts {
            let fired = sender.timeouts - self.timeouts;
            self.timeouts = sender.timeouts;
            if self.is_burst {
                self.episodes.after_bursts += fired;
            } else if self.least_flight <= SMALL {
                self.episodes.of_small_windows += fired;
            } else {
                self.episodes.avoidable += fired;
            }
        } else if drops == self.drops && sender.congestion_state == CongestionState::Open {
            // All that was lost before is mended.
            let is_over = self.round.is_none_or(|(until, ..)| now > until);
            if is_over {
                self.is_burst = false;
                self.least_flight = u64::MAX;
            }
        }
        self.lose(now, sender, flight, drops - self.drops);
        self.drops = drops;
    }

    fn lose(&mut self, now: Instant, sender: &Info, flight: u64, lost: u64) {
        if lost == 0 {
            return;
        }
        self.least_flight = self.least_flight.min(flight);
        let until = now + sender.rtt.max(self.base_round_trip);
        let round = match &mut self.round {
            Some(round) if now <= round.0 => round,
            round => {
                self.episodes.lossy_rounds += 1;
                round.insert((until, flight, 0))
            }
        };
        round.2 += lost;
        self.is_burst |= round.2 * 2 > round.1;
    }
}
