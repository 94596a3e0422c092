//! What BBR knows of the path: bandwidth, smallest round trip, how ACKs come in lumps, and rounds (draft 4.5).

use std::time::Duration;

use super::{Ack, volume};
use crate::time::Instant;

/// The model of the path.
#[derive(Clone, Debug)]
pub(super) struct Model {
    /// BBR.MaxBwFilter: the cycle before, and the present one.
    max_bw: [u64; 2],
    min_rtt: Option<Duration>,
    min_rtt_stamp: Instant,
    /// BBR.probe_rtt_min_delay and its stamp.
    probe_rtt_min_delay: Option<Duration>,
    probe_rtt_min_stamp: Instant,
    /// C.delivered at the latest ACK.
    delivered: u64,
    next_round_delivered: u64,
    round_start: bool,
    round_count: u64,
    pub(super) rounds_since_probe: u64,
    extra_acked_start: Instant,
    extra_acked_delivered: u64,
    /// The most of each half of the filter's window, and the round in which the second half began.
    extra_acked: [u64; 2],
    extra_acked_round: u64,
}

impl Model {
    pub(super) const fn new() -> Self {
        Self {
            max_bw: [0; 2],
            min_rtt: None,
            min_rtt_stamp: Instant::ZERO,
            probe_rtt_min_delay: None,
            probe_rtt_min_stamp: Instant::ZERO,
            delivered: 0,
            next_round_delivered: 0,
            round_start: false,
            round_count: 0,
            rounds_since_probe: 0,
            extra_acked_start: Instant::ZERO,
            extra_acked_delivered: 0,
            extra_acked: [0; 2],
            extra_acked_round: 0,
        }
    }

    pub(super) fn max_bw(&self) -> u64 {
        self.max_bw[0].max(self.max_bw[1])
    }

    pub(super) const fn min_rtt(&self) -> Option<Duration> {
        self.min_rtt
    }

    pub(super) const fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(super) const fn is_round_start(&self) -> bool {
        self.round_start
    }

    pub(super) fn extra_acked(&self) -> u64 {
        self.extra_acked[0].max(self.extra_acked[1])
    }

    /// BBRUpdateRound (4.5.1).
    pub(super) fn update_round(&mut self, ack: &Ack) {
        self.delivered = ack.delivered;
        self.round_start = ack.rate.prior_delivered >= self.next_round_delivered;
        if self.round_start {
            self.start_round();
            self.round_count += 1;
            self.rounds_since_probe += 1;
        }
    }

    /// BBRStartRound.
    pub(super) const fn start_round(&mut self) {
        self.next_round_delivered = self.delivered;
    }

    /// BBRUpdateMaxBw (4.5.5): a sample of the application's rate counts only if it is higher than what is known.
    pub(super) fn update_bandwidth(&mut self, ack: &Ack) {
        let rate = ack.rate.delivery_rate;
        if rate >= self.max_bw() || !ack.rate.app_limited {
            self.max_bw[1] = self.max_bw[1].max(rate);
        }
    }

    /// BBRAdvanceMaxBwFilter (4.5.6). A cycle without a sample forgets nothing.
    pub(super) const fn advance_bandwidth(&mut self) {
        if self.max_bw[1] > 0 {
            self.max_bw = [self.max_bw[1], 0];
        }
    }

    /// BBRUpdateACKAggregation (4.5.9).
    pub(super) fn update_aggregation(
        &mut self,
        ack: &Ack,
        bandwidth: u64,
        cwnd: u64,
        full_bw_reached: bool,
    ) {
        let mut expected = volume(bandwidth, ack.now - self.extra_acked_start);
        if self.extra_acked_delivered <= expected {
            self.restart_aggregation(ack.now);
            expected = 0;
        }
        self.extra_acked_delivered = self.extra_acked_delivered.saturating_add(ack.newly_acked);
        let extra = self
            .extra_acked_delivered
            .saturating_sub(expected)
            .min(cwnd);
        let half = if full_bw_reached {
            EXTRA_ACKED_ROUNDS / 2
        } else {
            1
        };
        if self.round_count >= self.extra_acked_round + half {
            self.extra_acked = [self.extra_acked[1], 0];
            self.extra_acked_round = self.round_count;
        }
        self.extra_acked[1] = self.extra_acked[1].max(extra);
    }

    pub(super) const fn restart_aggregation(&mut self, now: Instant) {
        self.extra_acked_delivered = 0;
        self.extra_acked_start = now;
    }

    /// BBRUpdateMinRTT (4.3.4.4): whether it is time to look for the smallest round trip.
    pub(super) fn update_min_rtt(&mut self, ack: &Ack) -> bool {
        if self.min_rtt.is_none() {
            self.probe_rtt_min_stamp = ack.now;
        }
        let expired = ack.now > self.probe_rtt_min_stamp + PROBE_RTT_INTERVAL;
        if let Some(rtt) = ack.rate.rtt
            && (expired || self.probe_rtt_min_delay.is_none_or(|known| rtt < known))
        {
            self.probe_rtt_min_delay = Some(rtt);
            self.probe_rtt_min_stamp = ack.now;
        }
        if let Some(delay) = self.probe_rtt_min_delay {
            let too_old = ack.now > self.min_rtt_stamp + MIN_RTT_FILTER_LEN;
            if too_old || self.min_rtt.is_none_or(|known| delay < known) {
                self.min_rtt = Some(delay);
                self.min_rtt_stamp = self.probe_rtt_min_stamp;
            }
        }
        expired
    }

    /// The next ProbeRTT is an interval from now.
    pub(super) const fn schedule_probe_rtt(&mut self, now: Instant) {
        self.probe_rtt_min_stamp = now;
    }
}

/// Whether the bandwidth has stopped to grow (4.3.1.2).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FullPipe {
    /// BBR.full_bw_reached: ever.
    pub(super) reached: bool,
    /// BBR.full_bw_now: since it was looked at last.
    pub(super) now: bool,
    baseline: u64,
    count: u32,
}

impl FullPipe {
    /// BBRResetFullBW, with what is to be exceeded.
    pub(super) const fn restart(&mut self, baseline: u64) {
        self.baseline = baseline;
        self.count = 0;
        self.now = false;
    }

    /// BBRCheckFullBWReached.
    pub(super) fn update(&mut self, ack: &Ack, round_start: bool) {
        let rate = ack.rate.delivery_rate;
        if self.now || ack.rate.app_limited || rate == 0 {
            return;
        }
        if rate as f64 >= self.baseline as f64 * FULL_BW_GROWTH {
            self.restart(rate);
        } else if round_start {
            self.count += 1;
            self.now = self.count >= FULL_BW_ROUNDS;
            self.reached |= self.now;
        }
    }
}

/// BBRExtraAckedFilterLen, in rounds.
const EXTRA_ACKED_ROUNDS: u64 = 10;
/// ProbeRTTInterval.
const PROBE_RTT_INTERVAL: Duration = Duration::from_secs(5);
/// MinRTTFilterLen.
const MIN_RTT_FILTER_LEN: Duration = Duration::from_secs(10);
/// Less growth than this in a round is none.
const FULL_BW_GROWTH: f64 = 1.25;
/// So many rounds without growth: a window that the peer opens step by step must not look like a full pipe.
const FULL_BW_ROUNDS: u32 = 3;
