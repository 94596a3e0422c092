//! Loss as the path knows it, told apart by how much of a window it took, and the timeouts that it cost.

use std::time::Duration;

use tidewire::tcp::Info;
use tidewire::tcp::info::CongestionState;
use tidewire::time::Instant;

/// What became of a sender's losses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Episodes {
    /// Round trips in which packets were lost.
    pub lossy_rounds: u64,
    /// Timeouts after more than half of what was in flight was lost within a round trip.
    pub after_bursts: u64,
    /// Other timeouts that nothing could have spared: all that the window let be in flight was lost, so no acknowledgment
    /// could tell of it, and it was in recovery or the last loss probe was not answered yet, when there may be no other
    /// (RFC 8985 7.3).
    pub in_silence: u64,
    /// All others: acknowledgments came that fast recovery and probes could have gone by.
    pub avoidable: u64,
}

/// What the path has done so far, and what is on it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Path {
    /// The sender's packets that were lost.
    pub drops: u64,
    /// Packets under way, in both directions.
    pub under_way: u64,
}

/// Watches a sender and the losses on its way.
pub(super) struct Watch {
    episodes: Episodes,
    base_round_trip: Duration,
    /// The last look at both.
    sender: Info,
    path: Path,
    /// The acknowledgment that answers the last probe, in octets from the beginning: before it there is no second one. That of
    /// a retransmission is answered by what goes beyond it (RFC 8985 7.4.2).
    answered_at: u64,
    /// The present round trip of losses: until when, what was in flight in the beginning, what was lost since.
    round: Option<(Instant, u64, u64)>,
    /// Octets that will have been acknowledged when all that was in flight at the last loss is.
    mended_at: u64,
    /// Before that, more than half of the flight was lost in a round trip.
    is_burst: bool,
    /// When the avoidable timeouts were.
    avoidable_at: Vec<Instant>,
}

impl Watch {
    /// A sender and a path of this round trip, as they are now.
    pub(super) fn new(base_round_trip: Duration, sender: Info, path: Path) -> Self {
        Self {
            episodes: Episodes::default(),
            base_round_trip,
            sender,
            path,
            answered_at: 0,
            round: None,
            mended_at: 0,
            is_burst: false,
            avoidable_at: Vec::new(),
        }
    }

    /// What came of it so far.
    pub(super) fn episodes(&self) -> Episodes {
        self.episodes
    }

    /// When the avoidable ones of the timeouts were.
    pub(super) fn avoidable_at(&self) -> &[Instant] {
        &self.avoidable_at
    }

    /// A step of the simulation later.
    pub(super) fn observe(&mut self, now: Instant, sender: &Info, path: Path) {
        let fired = sender.timeouts - self.sender.timeouts;
        if fired > 0 {
            if self.is_burst {
                self.episodes.after_bursts += fired;
            } else if self.was_silent() {
                self.episodes.in_silence += fired;
            } else {
                self.episodes.avoidable += fired;
                self.avoidable_at.push(now);
            }
        }
        if sender.tail_loss_probes > self.sender.tail_loss_probes {
            let is_retransmission = sender.retransmits > self.sender.retransmits;
            let end = sender.bytes_acked + sender.unacked as u64;
            self.answered_at = end + u64::from(is_retransmission);
        }
        if sender.bytes_acked >= self.mended_at {
            self.is_burst = false;
        }
        self.lose(now, sender, path.drops - self.path.drops);
        self.sender = *sender;
        self.path = path;
    }

    /// Whether, before this step, the sender could do nothing but wait for its timer.
    fn was_silent(&self) -> bool {
        let before = &self.sender;
        let has_done_all = match before.congestion_state {
            CongestionState::Open | CongestionState::Disorder => {
                before.bytes_acked < self.answered_at
            }
            CongestionState::Recovery | CongestionState::Loss => {
                before.bytes_in_flight + before.mss > before.cwnd
            }
        };
        self.path.under_way == 0 && has_done_all
    }

    fn lose(&mut self, now: Instant, sender: &Info, lost: u64) {
        if lost == 0 {
            return;
        }
        let until = now + sender.rtt.max(self.base_round_trip);
        let flight = (sender.bytes_in_flight / sender.mss.max(1)) as u64;
        let round = match &mut self.round {
            Some(round) if now <= round.0 => round,
            round => {
                self.episodes.lossy_rounds += 1;
                round.insert((until, flight, 0))
            }
        };
        round.2 += lost;
        self.is_burst |= round.2 * 2 > round.1;
        self.mended_at = sender.bytes_acked + sender.unacked as u64;
    }
}
