//! The state machine: Startup, Drain, the cycle of bandwidth probes, and the probes of the round trip (draft 4.3).

use std::time::Duration;

use super::bounds::is_too_high;
use super::{Ack, Bbr, STARTUP_PACING_GAIN};
use crate::time::Instant;

/// BBR.state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Startup,
    Drain,
    ProbeBwDown,
    ProbeBwCruise,
    ProbeBwRefill,
    ProbeBwUp,
    ProbeRtt,
}

impl State {
    pub(super) const fn is_probe_bw(self) -> bool {
        matches!(
            self,
            Self::ProbeBwDown | Self::ProbeBwCruise | Self::ProbeBwRefill | Self::ProbeBwUp
        )
    }

    /// BBRIsProbingBW: losses are the price of the probe.
    pub(super) const fn is_accelerating(self) -> bool {
        matches!(self, Self::Startup | Self::ProbeBwRefill | Self::ProbeBwUp)
    }

    /// The table of 4.6.1.
    pub(super) const fn pacing_gain(self) -> f64 {
        match self {
            Self::Startup => STARTUP_PACING_GAIN,
            Self::Drain => 0.35,
            Self::ProbeBwDown => 0.9,
            Self::ProbeBwUp => 1.25,
            Self::ProbeBwCruise | Self::ProbeBwRefill | Self::ProbeRtt => 1.0,
        }
    }

    /// The same.
    pub(super) const fn cwnd_gain(self) -> f64 {
        match self {
            Self::ProbeBwUp => 2.25,
            Self::ProbeRtt => PROBE_RTT_CWND_GAIN,
            _ => 2.0,
        }
    }
}

/// BBR.ack_phase: which part of a probe the arriving ACKs are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum AckPhase {
    #[default]
    Init,
    Refilling,
    ProbeStarting,
    ProbeFeedback,
    ProbeStopping,
}

/// The cycle of bandwidth probes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ProbeBw {
    cycle_stamp: Instant,
    /// BBR.bw_probe_wait.
    wait: Duration,
    /// BBR.bw_probe_up_rounds.
    up_rounds: u32,
    /// BBR.bw_probe_up_acks, in octets.
    up_acks: u64,
    /// BBR.probe_up_cnt: octets acknowledged for each octet that inflight_hi grows by.
    up_count: u64,
}

/// The probe of the round trip under way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ProbeRtt {
    done_stamp: Option<Instant>,
    round_done: bool,
}

impl Bbr {
    /// BBRCheckStartupDone (4.3.1).
    pub(super) fn check_startup_done(&mut self, ack: &Ack) {
        if self.state != State::Startup {
            return;
        }
        self.check_startup_high_loss(ack);
        if self.full_pipe.reached {
            self.state = State::Drain;
        }
    }

    /// BBRCheckStartupHighLoss (4.3.1.3): in recovery for a round, 2 % lost, in six places.
    fn check_startup_high_loss(&mut self, ack: &Ack) {
        let bounds = &self.bounds;
        let long_enough = self.recovering && bounds.recovery_rounds >= 1;
        if bounds.loss_round_start
            && long_enough
            && bounds.loss_events >= STARTUP_FULL_LOSS_COUNT
            && is_too_high(
                bounds.lost_in_round.max(ack.rate.lost),
                ack.rate.in_flight_when_sent,
                self.mss,
            )
        {
            self.full_pipe.reached = true;
            let bdp = self.bdp_multiple(self.model.max_bw(), 1.0);
            self.bounds.inflight_hi = bdp.max(self.bounds.inflight_latest);
        }
    }

    /// BBRCheckDrainDone (4.3.2).
    pub(super) fn check_drain_done(&mut self, ack: &Ack) {
        if self.state == State::Drain && ack.in_flight <= self.inflight(self.bandwidth(), 1.0) {
            self.start_probe_bw_down_at(ack.now);
        }
    }

    /// BBRStartProbeBW_DOWN at the time of the latest event.
    pub(super) fn start_probe_bw_down(&mut self) {
        self.bounds.reset_signals();
        self.probe_bw.up_count = u64::MAX;
        // BBRPickProbeWait (4.3.3.5.3).
        self.model.rounds_since_probe = u64::from(self.random() >= 0.5);
        self.probe_bw.wait = Duration::from_secs(2) + Duration::from_secs(1).mul_f64(self.random());
        self.probe_bw.cycle_stamp = self.clock;
        self.bounds.ack_phase = AckPhase::ProbeStopping;
        self.model.start_round();
        self.state = State::ProbeBwDown;
    }

    fn start_probe_bw_down_at(&mut self, now: Instant) {
        self.clock = now;
        self.start_probe_bw_down();
    }

    fn start_probe_bw_refill(&mut self) {
        self.bounds.reset_lower();
        self.probe_bw.up_rounds = 0;
        self.probe_bw.up_acks = 0;
        self.bounds.ack_phase = AckPhase::Refilling;
        self.model.start_round();
        self.state = State::ProbeBwRefill;
    }

    fn start_probe_bw_up(&mut self, ack: &Ack) {
        self.bounds.probe_samples = true;
        self.bounds.ack_phase = AckPhase::ProbeStarting;
        self.model.start_round();
        self.full_pipe.restart(ack.rate.delivery_rate);
        self.state = State::ProbeBwUp;
        self.raise_inflight_hi_slope();
    }

    /// BBRUpdateProbeBWCyclePhase (4.3.3.6).
    pub(super) fn update_probe_bw(&mut self, ack: &Ack) {
        self.clock = ack.now;
        if !self.full_pipe.reached {
            return;
        }
        self.adapt_upper_bounds(ack);
        let go_down = self.state == State::ProbeBwUp && self.is_time_to_go_down(ack);
        match self.state {
            State::ProbeBwDown | State::ProbeBwCruise if self.is_time_to_probe(ack.now) => {
                self.start_probe_bw_refill();
            }
            State::ProbeBwDown if self.is_time_to_cruise(ack) => {
                self.state = State::ProbeBwCruise;
            }
            State::ProbeBwRefill if self.model.is_round_start() => self.start_probe_bw_up(ack),
            State::ProbeBwUp if go_down => self.start_probe_bw_down(),
            _ => {}
        }
    }

    /// BBRIsTimeToProbeBW (4.3.3.5.3).
    fn is_time_to_probe(&self, now: Instant) -> bool {
        let reno_rounds = (self.target_inflight() / self.mss).min(MAX_RENO_ROUNDS);
        now > self.probe_bw.cycle_stamp + self.probe_bw.wait
            || self.model.rounds_since_probe >= reno_rounds
    }

    /// BBRIsTimeToCruise.
    fn is_time_to_cruise(&self, ack: &Ack) -> bool {
        ack.in_flight <= self.inflight_with_headroom()
            && ack.in_flight <= self.inflight(self.model.max_bw(), 1.0)
    }

    /// BBRIsTimeToGoDown.
    fn is_time_to_go_down(&mut self, ack: &Ack) -> bool {
        if ack.cwnd_limited && self.cwnd >= self.bounds.inflight_hi {
            self.full_pipe.restart(ack.rate.delivery_rate);
            return false;
        }
        self.full_pipe.now
    }

    /// BBRRaiseInflightHiSlope: an octet for as many acknowledged, so that the growth doubles each round.
    fn raise_inflight_hi_slope(&mut self) {
        let growth = self.mss << self.probe_bw.up_rounds;
        self.probe_bw.up_rounds = (self.probe_bw.up_rounds + 1).min(MAX_UP_ROUNDS);
        self.probe_bw.up_count = (self.cwnd / growth).max(1);
    }

    /// BBRProbeInflightHiUpward.
    fn probe_inflight_hi_upward(&mut self, ack: &Ack) {
        if !ack.cwnd_limited || self.cwnd < self.bounds.inflight_hi {
            return;
        }
        let probe = &mut self.probe_bw;
        probe.up_acks = probe.up_acks.saturating_add(ack.newly_acked);
        let delta = probe.up_acks / probe.up_count;
        probe.up_acks -= delta * probe.up_count;
        self.bounds.inflight_hi = self.bounds.inflight_hi.saturating_add(delta);
        if self.model.is_round_start() {
            self.raise_inflight_hi_slope();
        }
    }

    /// BBRAdaptUpperBounds.
    fn adapt_upper_bounds(&mut self, ack: &Ack) {
        if self.model.is_round_start() {
            match self.bounds.ack_phase {
                AckPhase::ProbeStarting => self.bounds.ack_phase = AckPhase::ProbeFeedback,
                AckPhase::ProbeStopping => {
                    // One round after the probe its samples are complete; only once, or each round would age the filter.
                    self.bounds.probe_samples = false;
                    self.bounds.ack_phase = AckPhase::Init;
                    if self.state.is_probe_bw() && !ack.rate.app_limited {
                        self.model.advance_bandwidth();
                    }
                }
                _ => {}
            }
        }
        if self.check_inflight_too_high(ack) || self.bounds.inflight_hi == u64::MAX {
            return;
        }
        let sent = ack.rate.in_flight_when_sent;
        self.bounds.inflight_hi = self.bounds.inflight_hi.max(sent);
        if self.state == State::ProbeBwUp {
            self.probe_inflight_hi_upward(ack);
        }
    }

    /// BBRProbeRTTCwnd (4.6.4.5).
    pub(super) fn probe_rtt_cwnd(&self) -> u64 {
        let cwnd = self.bdp_multiple(self.bandwidth(), PROBE_RTT_CWND_GAIN);
        cwnd.max(self.min_cwnd())
    }

    /// BBRCheckProbeRTT (4.3.4.4); `expired` tells that no short round trip has been seen for long.
    pub(super) fn check_probe_rtt(&mut self, ack: &Ack, expired: bool) {
        if self.state != State::ProbeRtt && expired && !self.idle_restart {
            self.save_cwnd();
            self.state = State::ProbeRtt;
            self.probe_rtt = ProbeRtt::default();
            self.bounds.ack_phase = AckPhase::ProbeStopping;
            self.model.start_round();
        }
        if self.state == State::ProbeRtt {
            self.handle_probe_rtt(ack);
        }
        if ack.rate.delivered > 0 {
            self.idle_restart = false;
        }
    }

    /// BBRHandleProbeRTT. Its low rates need no mark: the bandwidth is a maximum, and the cycle does not advance here.
    fn handle_probe_rtt(&mut self, ack: &Ack) {
        if self.probe_rtt.done_stamp.is_none() {
            if ack.in_flight <= self.probe_rtt_cwnd() {
                self.probe_rtt.done_stamp = Some(ack.now + PROBE_RTT_DURATION);
                self.probe_rtt.round_done = false;
                self.model.start_round();
            }
            return;
        }
        self.probe_rtt.round_done |= self.model.is_round_start();
        if self.probe_rtt.round_done {
            self.check_probe_rtt_done(ack.now);
        }
    }

    /// BBRCheckProbeRTTDone and BBRExitProbeRTT.
    pub(super) fn check_probe_rtt_done(&mut self, now: Instant) {
        if self.probe_rtt.done_stamp.is_none_or(|done| now <= done) {
            return;
        }
        self.model.schedule_probe_rtt(now);
        self.restore_cwnd();
        self.bounds.reset_lower();
        if self.full_pipe.reached {
            self.start_probe_bw_down_at(now);
            self.state = State::ProbeBwCruise;
        } else {
            self.state = State::Startup;
        }
    }
}

/// BBRProbeRTTCwndGain.
const PROBE_RTT_CWND_GAIN: f64 = 0.5;
/// ProbeRTTDuration.
const PROBE_RTT_DURATION: Duration = Duration::from_millis(200);
/// BBRStartupFullLossCnt.
const STARTUP_FULL_LOSS_COUNT: u32 = 6;
/// Rounds between probes at most, so that Reno flows get their share (4.3.3.5.3).
const MAX_RENO_ROUNDS: u64 = 63;
/// The slope of inflight_hi is bounded.
const MAX_UP_ROUNDS: u32 = 30;
