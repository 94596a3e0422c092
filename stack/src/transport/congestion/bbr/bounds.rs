//! What losses say: the short-term bounds of rate and volume, and the long-term bound of the volume (draft 4.5.10).

use super::states::{AckPhase, State};
use super::{Ack, BETA, Bbr, HEADROOM, LOSS_THRESHOLD, scale};
use crate::transport::congestion::LossSample;

/// The bounds and the signals of the present round.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) bw_lo: u64,
    pub(super) inflight_lo: u64,
    pub(super) inflight_hi: u64,
    pub(super) bw_latest: u64,
    pub(super) inflight_latest: u64,
    /// Something was lost in this round.
    loss_in_round: bool,
    /// More than is tolerated.
    too_high_in_round: bool,
    loss_round_delivered: u64,
    pub(super) loss_round_start: bool,
    /// Loss events in this round (BBRStartupFullLossCnt).
    pub(super) loss_events: u32,
    /// Rounds since the recovery began, if one has.
    pub(super) recovery_rounds: u32,
    /// Octets lost in this round and delivered when it began.
    pub(super) lost_in_round: u64,
    /// BBR.bw_probe_samples: losses and ACKs are of data sent to probe, and have not been reacted to.
    pub(super) probe_samples: bool,
    /// BBR.ack_phase.
    pub(super) ack_phase: AckPhase,
}

impl Bounds {
    pub(super) const fn new() -> Self {
        Self {
            bw_lo: u64::MAX,
            inflight_lo: u64::MAX,
            inflight_hi: u64::MAX,
            bw_latest: 0,
            inflight_latest: 0,
            loss_in_round: false,
            too_high_in_round: false,
            loss_round_delivered: 0,
            loss_round_start: false,
            loss_events: 0,
            recovery_rounds: 0,
            lost_in_round: 0,
            probe_samples: false,
            ack_phase: AckPhase::Init,
        }
    }

    /// BBRNoteLoss.
    pub(super) const fn note_loss(&mut self, delivered: u64) {
        if !self.loss_in_round {
            self.loss_round_delivered = delivered;
        }
        self.loss_in_round = true;
    }

    pub(super) const fn begin_recovery(&mut self) {
        self.recovery_rounds = 0;
    }

    /// BBRResetCongestionSignals.
    pub(super) const fn reset_signals(&mut self) {
        self.loss_in_round = false;
        self.too_high_in_round = false;
        self.bw_latest = 0;
        self.inflight_latest = 0;
    }

    /// BBRResetLowerBounds.
    pub(super) const fn reset_lower(&mut self) {
        self.bw_lo = u64::MAX;
        self.inflight_lo = u64::MAX;
    }
}

impl Bbr {
    /// BBRUpdateLatestDeliverySignals.
    pub(super) fn update_latest_signals(&mut self, ack: &Ack) {
        let bounds = &mut self.bounds;
        bounds.bw_latest = bounds.bw_latest.max(ack.rate.delivery_rate);
        bounds.inflight_latest = bounds.inflight_latest.max(ack.rate.delivered);
        bounds.loss_round_start = ack.rate.prior_delivered >= bounds.loss_round_delivered;
        if bounds.loss_round_start {
            bounds.loss_round_delivered = ack.delivered;
            bounds.recovery_rounds = bounds.recovery_rounds.saturating_add(1);
        }
    }

    /// BBRAdvanceLatestDeliverySignals.
    pub(super) fn advance_latest_signals(&mut self, ack: &Ack) {
        if self.bounds.loss_round_start {
            self.bounds.bw_latest = ack.rate.delivery_rate;
            self.bounds.inflight_latest = ack.rate.delivered;
            self.bounds.loss_events = 0;
            self.bounds.lost_in_round = 0;
        }
    }

    /// BBRUpdateCongestionSignals, after the bandwidth: once a round, what was lost lowers the bounds.
    pub(super) fn update_congestion_signals(&mut self) {
        if !self.bounds.loss_round_start {
            return;
        }
        if self.bounds.too_high_in_round && !self.state.is_accelerating() {
            let (max_bw, cwnd) = (self.model.max_bw(), self.cwnd);
            let bounds = &mut self.bounds;
            if bounds.bw_lo == u64::MAX {
                bounds.bw_lo = max_bw;
            }
            if bounds.inflight_lo == u64::MAX {
                bounds.inflight_lo = cwnd;
            }
            bounds.bw_lo = bounds.bw_latest.max(scale(bounds.bw_lo, BETA));
            let lowered = scale(bounds.inflight_lo, BETA);
            bounds.inflight_lo = bounds.inflight_latest.max(lowered);
        }
        self.bounds.loss_in_round = false;
        self.bounds.too_high_in_round = false;
    }

    /// BBRHandleLostPacket.
    pub(super) fn handle_lost_packet(&mut self, sample: &LossSample) {
        self.bounds.note_loss(self.model.delivered());
        let too_high = is_too_high(sample.lost, sample.in_flight_when_sent, self.mss);
        self.bounds.too_high_in_round |= too_high;
        self.bounds.loss_events += 1;
        self.bounds.lost_in_round = self.bounds.lost_in_round.max(sample.lost);
        if !self.bounds.probe_samples {
            return;
        }
        if too_high {
            let in_flight = inflight_at_threshold(sample);
            self.handle_inflight_too_high(in_flight, sample.app_limited);
        }
    }

    /// IsInflightTooHigh, and what follows.
    pub(super) fn check_inflight_too_high(&mut self, ack: &Ack) -> bool {
        let too_high = is_too_high(ack.rate.lost, ack.rate.in_flight_when_sent, self.mss);
        if too_high && self.bounds.probe_samples {
            self.handle_inflight_too_high(ack.rate.in_flight_when_sent, ack.rate.app_limited);
        }
        too_high
    }

    /// BBRHandleInflightTooHigh: once a probe.
    fn handle_inflight_too_high(&mut self, in_flight_when_sent: u64, app_limited: bool) {
        self.bounds.probe_samples = false;
        if !app_limited {
            let least = scale(self.target_inflight(), BETA);
            self.bounds.inflight_hi = in_flight_when_sent.max(least);
        }
        if self.state == State::ProbeBwUp {
            self.start_probe_bw_down();
        }
    }

    /// BBRInflightWithHeadroom (4.3.3.6).
    pub(super) fn inflight_with_headroom(&self) -> u64 {
        let hi = self.bounds.inflight_hi;
        if hi == u64::MAX {
            return hi;
        }
        let headroom = scale(hi, HEADROOM).max(self.mss);
        hi.saturating_sub(headroom).max(self.min_cwnd())
    }
}

/// IsInflightTooHigh of a sample: over 2 % were lost, and more than chance explains. Of 170 packets that a path loses at random
/// at 1 %, over 2 % are lost in each tenth round trip; two standard deviations let that pass, so that goodput is kept at
/// loss rates of up to 1 % (3.1), and mean little when much is in flight.
pub(super) fn is_too_high(lost: u64, in_flight: u64, mss: u64) -> bool {
    let expected = in_flight as f64 / mss as f64 * LOSS_THRESHOLD;
    lost as f64 / mss as f64 > expected + 2.0 * expected.sqrt()
}

/// BBRInflightHiFromLostPacket: how much was in flight when the losses passed the threshold, which may have been in the
/// middle of the packet.
fn inflight_at_threshold(sample: &LossSample) -> u64 {
    let before = sample.in_flight_when_sent.saturating_sub(sample.octets);
    let lost_before = sample.lost.saturating_sub(sample.octets) as f64;
    let prefix = (LOSS_THRESHOLD * before as f64 - lost_before) / (1.0 - LOSS_THRESHOLD);
    before + prefix.clamp(0.0, sample.octets as f64) as u64
}
