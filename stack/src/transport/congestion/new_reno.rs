//! NewReno's window (RFC 5681; RFC 6582 is its recovery, which the sender conducts).

use std::time::Duration;

use crate::time::Instant;
use crate::transport::congestion::{
    AckSample, Controller, MAX_CWND, Timeout, decayed, half_unused, initial_window,
};

/// Slow start, then one segment per round trip; half at a loss.
#[derive(Clone, Debug)]
pub struct NewReno {
    mss: usize,
    initial_segments: u32,
    cwnd: usize,
    ssthresh: usize,
    /// Octets acknowledged in congestion avoidance that have not yet made the window grow (RFC 3465 2.1).
    acked: usize,
    /// `cwnd` and `ssthresh` before the latest reduction.
    prior: Option<(usize, usize)>,
}

impl NewReno {
    /// A controller for segments of `mss` octets that starts with `initial_segments` of them (RFC 6928).
    pub fn new(mss: usize, initial_segments: u32) -> Self {
        let mss = mss.max(1);
        Self {
            mss,
            initial_segments,
            cwnd: initial_window(initial_segments, mss),
            ssthresh: usize::MAX,
            acked: 0,
            prior: None,
        }
    }

    /// What a round trip carries: the window in whole segments. After a loss it may hold half of one more, which is not
    /// sent; to wait for that half to be acknowledged would cost one round trip in each recovery.
    fn round_trip(&self) -> usize {
        (self.cwnd / self.mss * self.mss).max(self.mss)
    }
}

impl Controller for NewReno {
    fn on_ack(&mut self, sample: &AckSample) {
        if !sample.may_grow(self.cwnd, self.in_slow_start()) {
            return;
        }
        let mut bytes = sample.bytes_acked;
        if self.in_slow_start() {
            // RFC 5681 3.1 (2): as much as was acknowledged, up to ssthresh; the rest counts for what follows.
            let step = bytes.min(self.ssthresh - self.cwnd).min(MAX_CWND);
            self.cwnd = (self.cwnd + step).min(MAX_CWND);
            bytes -= step;
            if self.in_slow_start() {
                return;
            }
        }
        // RFC 5681 3.1 (3): one segment for each window's worth of acknowledged octets.
        self.acked = self.acked.saturating_add(bytes).min(MAX_CWND);
        while self.acked >= self.round_trip() && self.cwnd < MAX_CWND {
            self.acked -= self.round_trip();
            self.cwnd += self.mss;
        }
        self.acked = self.acked.min(self.cwnd);
    }

    fn on_congestion_event(&mut self, _now: Instant, flight_size: usize) {
        self.prior = Some((self.cwnd, self.ssthresh));
        // RFC 5681 3.1, equation 4.
        self.ssthresh = (flight_size.min(self.cwnd) / 2).max(2 * self.mss);
        self.cwnd = self.ssthresh;
        self.acked = 0;
    }

    fn on_ecn(&mut self, _now: Instant, flight_size: usize) {
        self.prior = None;
        // RFC 8511 3: beta_ecn is 0.8.
        self.ssthresh = (flight_size.min(self.cwnd) / 5 * 4).max(2 * self.mss);
        self.cwnd = self.ssthresh;
        self.acked = 0;
    }

    fn on_retransmission_timeout(&mut self, _now: Instant, flight_size: usize, timeout: Timeout) {
        if timeout == Timeout::First {
            self.prior = Some((self.cwnd, self.ssthresh));
            self.ssthresh = (flight_size.min(self.cwnd) / 2).max(2 * self.mss);
        }
        self.cwnd = self.mss;
        self.acked = 0;
    }

    fn undo(&mut self) {
        if let Some((cwnd, ssthresh)) = self.prior.take() {
            self.cwnd = self.cwnd.max(cwnd);
            self.ssthresh = self.ssthresh.max(ssthresh);
        }
    }

    fn on_idle(&mut self, _now: Instant, idle: Duration, restart: Option<Duration>) {
        if let Some(rto) = restart.filter(|rto| idle >= *rto) {
            // Three quarters of the old window stay known to have been fine (RFC 2861 3).
            self.ssthresh = self.ssthresh.max(self.cwnd / 4 * 3);
            let restart_window = initial_window(self.initial_segments, self.mss);
            self.cwnd = decayed(self.cwnd, idle, rto, restart_window);
            self.acked = 0;
        }
    }

    fn on_application_limited(&mut self, used: usize) {
        let initial_window = initial_window(self.initial_segments, self.mss);
        let cwnd = half_unused(self.cwnd, used, initial_window);
        if cwnd < self.cwnd {
            self.ssthresh = self.ssthresh.max(self.cwnd / 4 * 3);
            self.cwnd = cwnd;
            self.acked = 0;
        }
    }

    fn cwnd(&self) -> usize {
        self.cwnd
    }

    fn ssthresh(&self) -> usize {
        self.ssthresh
    }

    fn set_cwnd(&mut self, cwnd: usize) {
        self.cwnd = cwnd.clamp(self.mss, MAX_CWND.max(self.mss));
    }

    fn inherit(&mut self, cwnd: usize, ssthresh: usize) {
        self.set_cwnd(cwnd);
        self.ssthresh = ssthresh;
    }

    fn set_mss(&mut self, mss: usize) {
        self.mss = mss.max(1);
        self.cwnd = self.cwnd.max(self.mss);
    }

    fn name(&self) -> &'static str {
        "reno"
    }
}
