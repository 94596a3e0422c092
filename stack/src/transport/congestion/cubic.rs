//! CUBIC (RFC 9438): after a loss the window follows a cubic function of *time*, with a plateau at the window of
//! the loss.
//!
//! ```text
//!   cwnd │                          ╱ convex: probing
//!        │            ____________╱
//!  W_max │- - - - -╱- - - - - - - - - - -     W_cubic(t) = C (t - K)^3 + W_max
//!        │      ╱   concave
//!        │    │ 0.7 W_max
//!        └────┴──────────┬──────────────▶ t
//!          epoch         K
//! ```
//!
//! The first slow start, without a threshold yet, is watched by [`HyStart`] (RFC 9406); later ones are RFC 5681's.

use std::time::Duration;

use crate::time::Instant;
use crate::transport::congestion::hystart::{CSS_GROWTH_DIVISOR, Growth, HyStart};
use crate::transport::congestion::{
    AckSample, Controller, InitialWindow, MAX_CWND, Timeout, decayed, half_unused,
};

/// CUBIC. Windows are kept as fractions of octets, since many ACKs grow them by less than one.
#[derive(Clone, Debug)]
pub struct Cubic {
    mss: f64,
    initial_window: InitialWindow,
    cwnd: f64,
    ssthresh: usize,
    /// The window at the latest congestion event (after fast convergence); `None` before one, and after a timeout,
    /// when the curve starts at the window where congestion avoidance begins (RFC 9438 4.8).
    w_max: Option<f64>,
    /// The window just before `ssthresh` was last set.
    cwnd_prior: f64,
    /// The present congestion avoidance stage; `None` until its first ACK.
    epoch: Option<Epoch>,
    /// When to leave the first slow start; later ones know their threshold (RFC 9406 4.2).
    hystart: HyStart,
    /// What the latest reduction has changed.
    prior: Option<Prior>,
}

/// The state before a reduction that may have to be taken back (RFC 9438 4.9).
#[derive(Clone, Copy, Debug)]
struct Prior {
    cwnd: f64,
    ssthresh: usize,
    w_max: Option<f64>,
    cwnd_prior: f64,
    epoch: Option<Epoch>,
}

/// One stage of congestion avoidance.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    /// t_epoch, moved along by the time in which the window could not grow.
    start: Instant,
    /// The latest ACK of the stage.
    last_ack: Instant,
    /// The plateau of this stage, in octets.
    w_max: f64,
    /// Seconds from the start to the plateau.
    k: f64,
    /// What Reno would have, in octets.
    w_est: f64,
}

impl Cubic {
    /// A controller for segments of `mss` octets that starts with `initial_segments` of them (RFC 6928).
    pub fn new(mss: usize, initial_segments: u32) -> Self {
        Self::with_initial_window(mss, InitialWindow::Segments(initial_segments))
    }

    /// A controller for segments of `mss` octets that starts as `initial_window` says.
    pub fn with_initial_window(mss: usize, initial_window: InitialWindow) -> Self {
        let mss = mss.max(1);
        Self {
            mss: mss as f64,
            initial_window,
            cwnd: initial_window.octets(mss) as f64,
            ssthresh: usize::MAX,
            w_max: None,
            cwnd_prior: 0.0,
            epoch: None,
            hystart: HyStart::new(),
            prior: None,
        }
    }

    /// Slow start: the octets that are left for congestion avoidance.
    fn start(&mut self, sample: &AckSample, growth: Growth) -> usize {
        let bytes = sample.bytes_acked;
        let (permitted, rest) = if growth == Growth::Conservative {
            (bytes / CSS_GROWTH_DIVISOR, 0)
        } else {
            let step = bytes.min(self.ssthresh - self.cwnd());
            (step, bytes - step)
        };
        self.cwnd = (self.cwnd + permitted.min(MAX_CWND) as f64).min(MAX_CWND as f64);
        rest
    }

    fn remember(&mut self) {
        self.prior = Some(Prior {
            cwnd: self.cwnd,
            ssthresh: self.ssthresh,
            w_max: self.w_max,
            cwnd_prior: self.cwnd_prior,
            epoch: self.epoch,
        });
    }

    /// The stage that `now` belongs to, begun if there is none.
    fn epoch(&mut self, now: Instant) -> &mut Epoch {
        let (cwnd, mss) = (self.cwnd, self.mss);
        // Without a loss to aim at, or above it, the curve starts at its plateau (RFC 9438 4.8, 4.10).
        let w_max = self.w_max.unwrap_or(cwnd).max(cwnd);
        self.epoch.get_or_insert_with(|| Epoch {
            start: now,
            last_ack: now,
            w_max,
            // K in segments and seconds (equation 2).
            k: ((w_max - cwnd) / mss / C).cbrt(),
            w_est: cwnd,
        })
    }

    /// Congestion avoidance (RFC 9438 4.2 to 4.5).
    fn avoid(&mut self, now: Instant, bytes: usize, smoothed_rtt: Duration) {
        let (mss, cwnd_prior) = (self.mss, self.cwnd_prior);
        let mut cwnd = self.cwnd;
        let epoch = self.epoch(now);
        epoch.last_ack = now;
        let elapsed = now.saturating_since(epoch.start).as_secs_f64();
        let w_cubic = epoch.window_at(elapsed, mss);
        let ahead = epoch.window_at(elapsed + smoothed_rtt.as_secs_f64(), mss);
        // Equations 1 and 4 speak of one ACK per segment. Sub-steps follow that curve closely when one ACK covers
        // much of the window, and their count bounds the work.
        let steps = (bytes as f64 / mss).ceil().clamp(1.0, MAX_STEPS);
        let step = bytes as f64 / steps;
        for _ in 0..steps as u32 {
            let alpha = if epoch.w_est < cwnd_prior { ALPHA } else { 1.0 };
            epoch.w_est += alpha * mss * (step / cwnd).min(1.0);
            if w_cubic < epoch.w_est {
                // 4.3: the Reno-friendly region.
                cwnd = cwnd.max(epoch.w_est);
            } else {
                // 4.4, 4.5: never backwards, and never faster than half the window per round trip.
                let target = ahead.clamp(cwnd, 1.5 * cwnd);
                cwnd += (target - cwnd) * (step / cwnd).min(1.0);
            }
        }
        self.cwnd = cwnd.min(MAX_CWND as f64);
    }

    /// A congestion event that leaves `beta` of the window (RFC 9438 4.6, 4.7).
    fn reduce(&mut self, flight_size: usize, beta: f64) {
        // Fast convergence: a plateau lower than the last one means that somebody else needs room.
        self.w_max = Some(match self.w_max {
            Some(w_max) if self.cwnd < w_max => self.cwnd * (1.0 + beta) / 2.0,
            _ => self.cwnd,
        });
        self.ssthresh = self.reduced(flight_size, beta);
        self.cwnd_prior = self.cwnd;
        self.cwnd = self.ssthresh as f64;
        self.epoch = None;
    }

    fn reduced(&self, flight_size: usize, beta: f64) -> usize {
        let flight = (flight_size as f64).min(self.cwnd);
        (flight * beta).round().max(2.0 * self.mss) as usize
    }
}

impl Epoch {
    /// W_cubic at `seconds` after the start of the stage, in octets (equation 1).
    fn window_at(&self, seconds: f64, mss: f64) -> f64 {
        let t = seconds - self.k;
        C * t * t * t * mss + self.w_max
    }

    /// Takes `pause` out of the stage's time.
    fn shift(&mut self, pause: Duration) {
        self.start += pause;
        self.last_ack += pause;
    }
}

impl Controller for Cubic {
    fn on_ack(&mut self, sample: &AckSample) {
        if !sample.may_grow(self.cwnd(), self.in_slow_start()) {
            // 4.2: time in which the window could not grow MUST NOT count, or it would jump afterwards.
            if let Some(epoch) = &mut self.epoch {
                epoch.shift(sample.now.saturating_since(epoch.last_ack));
            }
            return;
        }
        let growth = if self.ssthresh == usize::MAX {
            self.hystart.on_ack(sample)
        } else {
            Growth::Full
        };
        if growth == Growth::Over {
            self.ssthresh = self.cwnd();
        }
        let mut bytes = sample.bytes_acked;
        if self.in_slow_start() {
            bytes = self.start(sample, growth);
        }
        if bytes > 0 && !self.in_slow_start() {
            self.avoid(sample.now, bytes, sample.smoothed_rtt);
        }
    }

    fn on_congestion_event(&mut self, _now: Instant, flight_size: usize) {
        self.remember();
        self.reduce(flight_size, BETA);
    }

    fn on_ecn(&mut self, _now: Instant, flight_size: usize) {
        self.prior = None;
        self.reduce(flight_size, BETA_ECN);
    }

    fn on_retransmission_timeout(&mut self, _now: Instant, flight_size: usize, timeout: Timeout) {
        if timeout == Timeout::First {
            self.remember();
            self.ssthresh = self.reduced(flight_size, BETA);
            self.cwnd_prior = self.cwnd;
        }
        // 4.8: the stage after a timeout starts at its own plateau.
        self.w_max = None;
        self.epoch = None;
        self.cwnd = self.mss;
    }

    fn undo(&mut self) {
        if let Some(prior) = self.prior.take() {
            self.cwnd = self.cwnd.max(prior.cwnd);
            self.ssthresh = self.ssthresh.max(prior.ssthresh);
            self.w_max = prior.w_max;
            self.cwnd_prior = prior.cwnd_prior;
            self.epoch = prior.epoch;
        }
    }

    fn on_idle(&mut self, _now: Instant, idle: Duration, restart: Option<Duration>) {
        if let Some(rto) = restart.filter(|rto| idle >= *rto) {
            // Three quarters of the old window stay known to have been fine (RFC 2861 3).
            self.ssthresh = self.ssthresh.max(self.cwnd() / 4 * 3);
            let restart_window = self.initial_window.octets(self.mss as usize);
            self.cwnd = decayed(self.cwnd(), idle, rto, restart_window) as f64;
            self.epoch = None;
        } else if let Some(epoch) = &mut self.epoch {
            epoch.shift(idle);
        }
    }

    fn on_application_limited(&mut self, used: usize) {
        let initial_window = self.initial_window.octets(self.mss as usize);
        let cwnd = half_unused(self.cwnd(), used, initial_window);
        if cwnd < self.cwnd() {
            self.ssthresh = self.ssthresh.max(self.cwnd() / 4 * 3);
            self.cwnd = cwnd as f64;
            self.epoch = None;
        }
    }

    fn cwnd(&self) -> usize {
        self.cwnd as usize
    }

    fn ssthresh(&self) -> usize {
        self.ssthresh
    }

    fn set_cwnd(&mut self, cwnd: usize) {
        self.cwnd = (cwnd.min(MAX_CWND) as f64).max(self.mss);
    }

    fn inherit(&mut self, cwnd: usize, ssthresh: usize) {
        self.set_cwnd(cwnd);
        self.ssthresh = ssthresh;
    }

    fn set_mss(&mut self, mss: usize) {
        self.mss = mss.max(1) as f64;
        self.cwnd = self.cwnd.max(self.mss);
        // K is in segments: the stage starts anew with the new size.
        self.epoch = None;
    }

    fn name(&self) -> &'static str {
        "cubic"
    }
}

/// C: how steep the cubic is, in segments per second cubed (RFC 9438 5).
const C: f64 = 0.4;
/// beta_cubic: what is left of the window after a loss (RFC 9438 4.6).
const BETA: f64 = 0.7;
/// The same when packets were marked (RFC 8511 3.2).
const BETA_ECN: f64 = 0.85;
/// alpha_cubic: segments per round trip with which AIMD(alpha, 0.7) gets as much as Reno (RFC 9438 4.3).
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);
/// Sub-steps per ACK. With eight the error against ACKs of single segments stays under one percent of the growth.
const MAX_STEPS: f64 = 8.0;
