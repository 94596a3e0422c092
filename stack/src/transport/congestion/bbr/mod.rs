//! BBR, version 3 (draft-cardwell-ccwg-bbr): a model of the path instead of its losses decides how fast and how much.
//!
//! ```text
//!   Startup ──▶ Drain ──▶ ProbeBW: DOWN ─▶ CRUISE ─▶ REFILL ─▶ UP ─┐      ProbeRTT: from anywhere, each 5 s
//!                                   ▲───────────────────────────────┘      without a round trip as short as known
//! ```
//!
//! | file | concern |
//! |---|---|
//! | `model` | bandwidth, smallest round trip, aggregation, rounds (4.5) |
//! | `bounds` | what losses say of rate and volume (4.5.10) |
//! | `states` | Startup, Drain, ProbeBW, ProbeRTT (4.3) |
//! | this one | pacing rate and window (4.6), the [`Controller`] |
//!
//! Two things differ from the draft, so that its goal of full throughput at up to 1 % of losses (3.1) holds when losses are
//! random and timers exact: whether more than 2 % were lost is asked with an allowance for chance (`bounds`), and the
//! short-term bounds fall only in rounds in which that was so. By the draft each lost packet lowers them by the 1 %
//! that pacing stays below the estimate, for up to 63 rounds in a row: 0.76 to 0.89 of a link of 100 Mbit/s and 20 ms was left.
//!
//! Volumes are octets, rates octets per second; `u64::MAX` is the draft's infinity. Names are the draft's. A controller
//! that is told of no delivery (SCTP has no rate samples) would never leave its initial window: use CUBIC there.

mod bounds;
mod model;
mod states;

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::time::Instant;
use crate::transport::congestion::{
    AckSample, Controller, DeliverySample, InitialWindow, LossSample, MAX_CWND, RateSample, Timeout,
};

use bounds::Bounds;
use model::{FullPipe, Model};
use states::{ProbeBw, ProbeRtt, State};

/// BBR version 3.
#[derive(Clone, Debug)]
pub struct Bbr {
    mss: u64,
    initial_window: u64,
    cwnd: u64,
    /// BBR.prior_cwnd: the last good window before a recovery or ProbeRTT.
    prior_cwnd: u64,
    pacing_rate: u64,
    state: State,
    model: Model,
    full_pipe: FullPipe,
    bounds: Bounds,
    probe_bw: ProbeBw,
    probe_rtt: ProbeRtt,
    /// The latest ACK.
    clock: Instant,
    /// Losses are being repaired.
    recovering: bool,
    /// BBR.idle_restart: nothing was delivered yet since sending resumed.
    idle_restart: bool,
    /// Picks the times of probes, so that flows do not probe together.
    random: u64,
}

/// What an ACK told, for the steps of the algorithm.
#[derive(Clone, Copy, Debug)]
struct Ack {
    now: Instant,
    delivered: u64,
    newly_acked: u64,
    in_flight: u64,
    cwnd_limited: bool,
    rate: RateSample,
}

impl Bbr {
    /// A controller for segments of `mss` octets that starts with `initial_segments` of them. `seed` decides when it probes
    /// for bandwidth (4.3.3.5): flows of different seeds do so at different times.
    pub fn new(mss: usize, initial_segments: u32, seed: u64) -> Self {
        let mss = mss.max(1);
        let initial_window = InitialWindow::Segments(initial_segments).octets(mss) as u64;
        let mut bbr = Self {
            mss: mss as u64,
            initial_window,
            cwnd: initial_window,
            prior_cwnd: 0,
            pacing_rate: 0,
            state: State::Startup,
            model: Model::new(),
            full_pipe: FullPipe::default(),
            bounds: Bounds::new(),
            probe_bw: ProbeBw::default(),
            probe_rtt: ProbeRtt::default(),
            clock: Instant::ZERO,
            recovering: false,
            idle_restart: false,
            random: seed | 1,
        };
        bbr.init_pacing_rate(Duration::from_millis(1));
        bbr
    }

    /// BBRInitPacingRate (4.6.2).
    fn init_pacing_rate(&mut self, smoothed_rtt: Duration) {
        let nominal = rate(self.initial_window, smoothed_rtt);
        self.pacing_rate = scale(nominal, STARTUP_PACING_GAIN);
    }

    /// BBRBDPMultiple (4.6.4.2).
    fn bdp_multiple(&self, bandwidth: u64, gain: f64) -> u64 {
        match self.model.min_rtt() {
            None => self.initial_window,
            Some(min_rtt) => scale(volume(bandwidth, min_rtt), gain),
        }
    }

    /// BBRQuantizationBudget.
    fn quantized(&self, inflight: u64) -> u64 {
        let budget = inflight.max(3 * self.send_quantum()).max(self.min_cwnd());
        let probing = self.state == State::ProbeBwUp;
        budget.saturating_add(if probing { 2 * self.mss } else { 0 })
    }

    /// BBRInflight.
    fn inflight(&self, bandwidth: u64, gain: f64) -> u64 {
        self.quantized(self.bdp_multiple(bandwidth, gain))
    }

    /// BBRSetSendQuantum (4.6.3).
    fn send_quantum(&self) -> u64 {
        (self.pacing_rate / 1000).min(65_536).max(2 * self.mss)
    }

    /// BBRMinPipeCwnd.
    const fn min_cwnd(&self) -> u64 {
        4 * self.mss
    }

    /// BBR.bw: what the model and recent losses permit.
    fn bandwidth(&self) -> u64 {
        self.model.max_bw().min(self.bounds.bw_lo)
    }

    /// BBRTargetInflight (4.3.3.5.3).
    fn target_inflight(&self) -> u64 {
        self.bdp_multiple(self.bandwidth(), 1.0).min(self.cwnd)
    }

    /// BBRSetPacingRateWithGain (4.6.2).
    fn set_pacing_rate(&mut self, gain: f64) {
        let rate = scale(self.bandwidth(), gain * PACING_MARGIN);
        if rate > 0 && (self.full_pipe.reached || rate > self.pacing_rate) {
            self.pacing_rate = rate;
        }
    }

    /// BBRSetCwnd (4.6.4.6).
    fn set_window(&mut self, ack: &Ack) {
        let inflight = self.bdp_multiple(self.bandwidth(), self.state.cwnd_gain());
        let most = self.quantized(inflight.saturating_add(self.model.extra_acked()));
        if self.full_pipe.reached {
            self.cwnd = self.cwnd.saturating_add(ack.newly_acked).min(most);
        } else if self.cwnd < most || ack.delivered < self.initial_window {
            self.cwnd = self.cwnd.saturating_add(ack.newly_acked);
        }
        self.cwnd = self.cwnd.clamp(self.min_cwnd(), MAX_CWND as u64);
        if self.state == State::ProbeRtt {
            self.cwnd = self.cwnd.min(self.probe_rtt_cwnd());
        }
        // BBRBoundCwndForModel (4.6.4.7).
        let cap = match self.state {
            State::ProbeRtt | State::ProbeBwCruise => self.inflight_with_headroom(),
            state if state.is_probe_bw() => self.bounds.inflight_hi,
            _ => u64::MAX,
        };
        let cap = cap.min(self.bounds.inflight_lo).max(self.min_cwnd());
        self.cwnd = self.cwnd.min(cap);
    }

    /// BBRSaveCwnd (4.6.4.4).
    fn save_cwnd(&mut self) {
        self.prior_cwnd = if !self.recovering && self.state != State::ProbeRtt {
            self.cwnd
        } else {
            self.prior_cwnd.max(self.cwnd)
        };
    }

    /// BBRRestoreCwnd.
    fn restore_cwnd(&mut self) {
        self.cwnd = self.cwnd.max(self.prior_cwnd);
    }

    /// A number from 0 to 1 (xorshift64).
    fn random(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl Controller for Bbr {
    fn on_ack(&mut self, _sample: &AckSample) {
        // Everything is in `on_delivery`, which sees the ACKs of recoveries as well.
    }

    /// BBRUpdateOnACK (4.2.3).
    fn on_delivery(&mut self, sample: &DeliverySample) {
        if self.recovering && !sample.recovering {
            self.on_recovered();
        }
        let Some(rate) = sample.rate else {
            return;
        };
        let ack = Ack {
            now: sample.now,
            delivered: sample.delivered,
            newly_acked: sample.newly_acked,
            in_flight: sample.in_flight,
            cwnd_limited: sample.cwnd_limited,
            rate,
        };
        if self.model.min_rtt().is_none()
            && let Some(rtt) = rate.rtt
        {
            self.init_pacing_rate(rtt);
        }
        self.update_latest_signals(&ack);
        self.model.update_round(&ack);
        self.model.update_bandwidth(&ack);
        self.update_congestion_signals();
        let bandwidth = self.bandwidth();
        let reached = self.full_pipe.reached;
        self.model
            .update_aggregation(&ack, bandwidth, self.cwnd, reached);
        let round_start = self.model.is_round_start();
        self.full_pipe.update(&ack, round_start);
        self.check_startup_done(&ack);
        self.check_drain_done(&ack);
        self.update_probe_bw(&ack);
        let expired = self.model.update_min_rtt(&ack);
        self.check_probe_rtt(&ack, expired);
        self.advance_latest_signals(&ack);
        self.set_pacing_rate(self.state.pacing_gain());
        self.set_window(&ack);
    }

    fn on_loss(&mut self, sample: &LossSample) {
        self.handle_lost_packet(sample);
    }

    fn on_congestion_event(&mut self, _now: Instant, _flight_size: usize) {
        self.save_cwnd();
        self.recovering = true;
        self.bounds.begin_recovery();
    }

    fn on_ecn(&mut self, _now: Instant, _flight_size: usize) {
        // The draft knows no ECN: a round with marks is one with a loss.
        self.bounds.note_loss(self.model.delivered());
    }

    fn on_retransmission_timeout(&mut self, _now: Instant, _flight_size: usize, _timeout: Timeout) {
        self.save_cwnd();
        self.recovering = true;
        self.cwnd = self.mss;
    }

    fn undo(&mut self) {
        self.on_recovered();
    }

    /// BBRHandleRestartFromIdle (4.4.1).
    fn on_idle(&mut self, now: Instant, _idle: Duration, _restart: Option<Duration>) {
        self.idle_restart = true;
        self.model.restart_aggregation(now);
        if self.state.is_probe_bw() {
            self.set_pacing_rate(1.0);
        } else if self.state == State::ProbeRtt {
            self.check_probe_rtt_done(now);
        }
    }

    fn cwnd(&self) -> usize {
        self.cwnd as usize
    }

    fn ssthresh(&self) -> usize {
        usize::MAX
    }

    fn set_cwnd(&mut self, _cwnd: usize) {
        // The window follows the model in recoveries, too (4.5.10.3).
    }

    fn on_recovered(&mut self) {
        self.recovering = false;
        self.restore_cwnd();
    }

    fn inherit(&mut self, cwnd: usize, _ssthresh: usize) {
        self.cwnd = (cwnd.min(MAX_CWND) as u64).max(self.min_cwnd());
    }

    fn pacing_rate(&self) -> Option<u64> {
        Some(self.pacing_rate.max(1))
    }

    fn set_mss(&mut self, mss: usize) {
        self.mss = mss.max(1) as u64;
        self.cwnd = self.cwnd.max(self.mss);
    }

    fn name(&self) -> &'static str {
        "bbr"
    }
}

/// `octets` in `time` as a rate.
fn rate(octets: u64, time: Duration) -> u64 {
    let nanos = time.as_nanos().max(1);
    u64::try_from(u128::from(octets) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

/// What a rate delivers in `time`.
fn volume(rate: u64, time: Duration) -> u64 {
    let octets = u128::from(rate) * time.as_nanos() / 1_000_000_000;
    u64::try_from(octets).unwrap_or(u64::MAX)
}

/// A part or a multiple, which saturates.
fn scale(value: u64, gain: f64) -> u64 {
    (value as f64 * gain) as u64
}

/// BBRStartupPacingGain: 4 ln 2, the least that doubles the rate each round.
const STARTUP_PACING_GAIN: f64 = 2.77;
/// BBRPacingMarginPercent: 1 % below the estimate, so that queues drain.
const PACING_MARGIN: f64 = 0.99;
/// BBRLossThresh: the loss rate of a round that is tolerated while probing.
const LOSS_THRESHOLD: f64 = 0.02;
/// BBRBeta: what is left at least after a round with losses.
const BETA: f64 = 0.7;
/// BBRHeadroom: the part of inflight_hi left to others.
const HEADROOM: f64 = 0.15;
