//! SCTP's window (RFC 9260 7.2): NewReno counted in octets, with rules of its own.
//!
//! "MSS" is the PMDCS here: the largest DATA chunk, header included, that a packet of the path's MTU can carry. Octets
//! acknowledged and in flight are those of whole DATA chunks with header and padding (7.2).

use std::time::Duration;

use crate::time::Instant;
use crate::transport::congestion::{
    AckSample, Controller, InitialWindow, MAX_CWND, Timeout, decayed,
};

/// Slow start by at most one chunk per SACK, then one chunk per round trip; half at a loss, but four chunks at least.
#[derive(Clone, Debug)]
pub struct SctpReno {
    pmdcs: usize,
    cwnd: usize,
    ssthresh: usize,
    partial_bytes_acked: usize,
}

impl SctpReno {
    /// A controller for a path whose largest DATA chunk is `pmdcs` octets.
    pub fn new(pmdcs: usize, initial_window: InitialWindow) -> Self {
        let pmdcs = pmdcs.max(1);
        Self {
            pmdcs,
            cwnd: initial_window.octets(pmdcs),
            ssthresh: usize::MAX,
            partial_bytes_acked: 0,
        }
    }

    /// `partial_bytes_acked` of RFC 9260 7.2.2.
    pub fn partial_bytes_acked(&self) -> usize {
        self.partial_bytes_acked
    }

    /// The threshold after a loss: half of *cwnd*, not of the flight (7.2.3).
    fn reduced(&self) -> usize {
        (self.cwnd / 2).max(MIN_SSTHRESH_CHUNKS * self.pmdcs)
    }
}

impl Controller for SctpReno {
    fn on_ack(&mut self, sample: &AckSample) {
        let fully_used = !sample.application_limited;
        if self.in_slow_start() {
            // 7.2.1: only a window in full use grows. The bound by PMDCS guards against a receiver that splits its SACKs.
            if fully_used {
                let step = sample.bytes_acked.min(SLOW_START_CHUNKS * self.pmdcs);
                self.cwnd = (self.cwnd + step).min(MAX_CWND);
            }
        } else {
            // 7.2.2. The octets of TSNs reported as duplicates are left out: the peer could name any it likes.
            self.partial_bytes_acked = self
                .partial_bytes_acked
                .saturating_add(sample.bytes_acked)
                .min(MAX_CWND);
            if self.partial_bytes_acked >= self.cwnd {
                if fully_used {
                    self.partial_bytes_acked -= self.cwnd;
                    self.cwnd = (self.cwnd + self.pmdcs).min(MAX_CWND);
                } else {
                    self.partial_bytes_acked = self.cwnd;
                }
            }
        }
        if sample.bytes_acked >= sample.in_flight {
            self.partial_bytes_acked = 0;
        }
    }

    fn on_congestion_event(&mut self, _now: Instant, _flight_size: usize) {
        self.ssthresh = self.reduced();
        self.cwnd = self.ssthresh;
        self.partial_bytes_acked = 0;
    }

    fn on_ecn(&mut self, now: Instant, flight_size: usize) {
        // RFC 9260 appendix A: like a loss. Not called yet: SCTP negotiates no ECN.
        self.on_congestion_event(now, flight_size);
    }

    fn on_retransmission_timeout(&mut self, _now: Instant, _flight: usize, _timeout: Timeout) {
        // 6.3.3 E1 makes no difference between the first timeout and its repetitions.
        self.ssthresh = self.reduced();
        self.cwnd = self.pmdcs;
        self.partial_bytes_acked = 0;
    }

    fn on_idle(&mut self, _now: Instant, idle: Duration, restart: Option<Duration>) {
        if let Some(rto) = restart.filter(|rto| idle >= *rto) {
            // 7.2.1: max(cwnd / 2, 4 * PMDCS) once per RTO. A window below that floor is not raised to it: silence is
            // no reason to send more.
            self.ssthresh = self.cwnd;
            self.cwnd = decayed(self.cwnd, idle, rto, MIN_SSTHRESH_CHUNKS * self.pmdcs);
            self.partial_bytes_acked = 0;
        }
    }

    fn cwnd(&self) -> usize {
        self.cwnd
    }

    fn ssthresh(&self) -> usize {
        self.ssthresh
    }

    fn set_cwnd(&mut self, cwnd: usize) {
        self.cwnd = cwnd.clamp(self.pmdcs, MAX_CWND.max(self.pmdcs));
    }

    fn set_mss(&mut self, mss: usize) {
        self.pmdcs = mss.max(1);
        self.cwnd = self.cwnd.max(self.pmdcs);
    }

    fn name(&self) -> &'static str {
        "reno"
    }

    /// SCTP is in slow start also when the two are equal (7.2.1).
    fn in_slow_start(&self) -> bool {
        self.cwnd <= self.ssthresh
    }
}

/// The least threshold after a loss, and the least window after idle time, in chunks of PMDCS (RFC 9260 7.2.3, 7.2.1).
const MIN_SSTHRESH_CHUNKS: usize = 4;

/// L of RFC 9260 7.2.1, which SHOULD be 1: chunks by which one SACK lets the window grow in slow start.
const SLOW_START_CHUNKS: usize = 1;

#[cfg(test)]
mod tests {
    use super::*;

    const PMDCS: usize = 1468;
    const RTO: Duration = Duration::from_secs(1);

    fn reno() -> SctpReno {
        SctpReno::new(PMDCS, InitialWindow::SCTP_V4)
    }

    /// In congestion avoidance with a window of ten chunks.
    fn avoiding() -> SctpReno {
        let mut reno = reno();
        reno.set_cwnd(20 * PMDCS);
        reno.on_congestion_event(Instant::ZERO, 0);
        reno.set_cwnd(10 * PMDCS + 1);
        assert!(!reno.in_slow_start());
        reno
    }

    fn sack(bytes_acked: usize, in_flight: usize, fully_used: bool) -> AckSample {
        AckSample {
            now: Instant::ZERO,
            bytes_acked,
            in_flight,
            acknowledged: 0,
            sent: 0,
            rtt: None,
            smoothed_rtt: RTO,
            application_limited: !fully_used,
        }
    }

    #[test]
    fn initial_window_is_that_of_the_address_family() {
        // RFC 9260 7.2.1: min(4 * PMDCS, max(2 * PMDCS, 4404 or 4344)).
        let cases = [
            (InitialWindow::SCTP_V4, 1468, 4404),
            (InitialWindow::SCTP_V6, 1448, 4344),
            (InitialWindow::SCTP_V4, 1000, 4000),
            (InitialWindow::SCTP_V4, 500, 2000),
            (InitialWindow::SCTP_V4, 8968, 17_936),
        ];
        for (rule, pmdcs, window) in cases {
            assert_eq!(SctpReno::new(pmdcs, rule).cwnd(), window, "{pmdcs}");
        }
        let cubic = super::super::Cubic::with_initial_window(1468, InitialWindow::SCTP_V4);
        assert_eq!(cubic.cwnd(), 4404);
    }

    #[test]
    fn threshold_is_arbitrarily_high_at_first() {
        // RFC 9260 7.2.1.
        assert_eq!(reno().ssthresh(), usize::MAX);
        assert!(reno().in_slow_start());
    }

    #[test]
    fn slow_start_grows_by_what_was_acknowledged_but_one_chunk_per_sack() {
        // RFC 9260 7.2.1: the lesser of the two, and only if the window is in full use.
        let cases = [
            (PMDCS, true, PMDCS),
            (2 * PMDCS, true, PMDCS),
            (1_000_000, true, PMDCS),
            (100, true, 100),
            (0, true, 0),
            (PMDCS, false, 0),
        ];
        for (acked, fully_used, growth) in cases {
            let mut reno = reno();
            let before = reno.cwnd();
            reno.on_ack(&sack(acked, 2_000_000, fully_used));
            assert_eq!(reno.cwnd() - before, growth, "{acked} {fully_used}");
        }
    }

    #[test]
    fn window_equal_to_the_threshold_is_still_slow_start() {
        // RFC 9260 7.2.1: "less than or equal".
        let mut reno = reno();
        reno.set_cwnd(20 * PMDCS);
        reno.on_congestion_event(Instant::ZERO, 0);
        assert_eq!(reno.cwnd(), reno.ssthresh());
        assert!(reno.in_slow_start());
        reno.on_ack(&sack(PMDCS, 10 * PMDCS, true));
        assert_eq!(reno.cwnd(), 11 * PMDCS);
        assert!(!reno.in_slow_start());
    }

    #[test]
    fn congestion_avoidance_grows_one_chunk_per_window_acknowledged() {
        // RFC 9260 7.2.2.
        let mut reno = avoiding();
        let cwnd = reno.cwnd();
        for _ in 0..10 {
            reno.on_ack(&sack(PMDCS, cwnd, true));
            assert_eq!(reno.cwnd(), cwnd);
        }
        reno.on_ack(&sack(PMDCS, cwnd, true));
        assert_eq!(reno.cwnd(), cwnd + PMDCS);
        assert_eq!(reno.partial_bytes_acked(), 11 * PMDCS - cwnd);
    }

    #[test]
    fn partial_bytes_acked_waits_at_the_window_while_that_is_not_in_use() {
        // RFC 9260 7.2.2: with less than cwnd in flight it is reset to cwnd; with cwnd or more the window grows.
        let mut reno = avoiding();
        let cwnd = reno.cwnd();
        for _ in 0..100 {
            reno.on_ack(&sack(PMDCS, 5 * PMDCS, false));
        }
        assert_eq!((reno.partial_bytes_acked(), reno.cwnd()), (cwnd, cwnd));
        reno.on_ack(&sack(PMDCS, cwnd, true));
        assert_eq!(reno.cwnd(), cwnd + PMDCS);
        assert_eq!(reno.partial_bytes_acked(), PMDCS);
    }

    #[test]
    fn one_sack_never_grows_the_window_by_more_than_one_chunk() {
        // RFC 9260 7.2.2: MUST NOT increment cwnd by more than PMDCS per RTT.
        let mut reno = avoiding();
        let cwnd = reno.cwnd();
        reno.on_ack(&sack(10 * cwnd, 11 * cwnd, true));
        assert_eq!(reno.cwnd(), cwnd + PMDCS);
    }

    #[test]
    fn partial_bytes_acked_is_cleared_when_everything_is_acknowledged() {
        // RFC 9260 7.2.2, last rule.
        let mut reno = avoiding();
        reno.on_ack(&sack(PMDCS, 2 * PMDCS, false));
        assert_eq!(reno.partial_bytes_acked(), PMDCS);
        reno.on_ack(&sack(PMDCS, PMDCS, false));
        assert_eq!(reno.partial_bytes_acked(), 0);
    }

    #[test]
    fn losses_halve_the_window_and_timeouts_leave_one_chunk() {
        // RFC 9260 7.2.3, 6.3.3 E1: ssthresh = max(cwnd / 2, 4 * PMDCS).
        for (cwnd, ssthresh) in [(20, 10), (8, 4), (5, 4), (1, 4)] {
            let mut reno = reno();
            reno.set_cwnd(cwnd * PMDCS);
            let mut timed_out = reno.clone();
            reno.on_congestion_event(Instant::ZERO, 1);
            assert_eq!(reno.ssthresh(), ssthresh * PMDCS, "{cwnd}");
            assert_eq!(reno.cwnd(), ssthresh * PMDCS);
            timed_out.on_retransmission_timeout(Instant::ZERO, 1, Timeout::First);
            assert_eq!(timed_out.ssthresh(), ssthresh * PMDCS);
            assert_eq!(timed_out.cwnd(), PMDCS);
            timed_out.on_retransmission_timeout(Instant::ZERO, 1, Timeout::Repeated);
            assert_eq!(timed_out.ssthresh(), 4 * PMDCS);
        }
    }

    #[test]
    fn idle_time_halves_the_window_once_per_timeout() {
        // RFC 9260 7.2.1: max(cwnd / 2, 4 * PMDCS) per RTO, ssthresh = the window before.
        let cases = [
            (0.99, 16, 16, usize::MAX),
            (1.0, 16, 8, 16 * PMDCS),
            (2.5, 32, 8, 32 * PMDCS),
            (1000.0, 32, 4, 32 * PMDCS),
            (1.0, 2, 2, 2 * PMDCS),
        ];
        for (seconds, before, after, ssthresh) in cases {
            let mut reno = reno();
            reno.set_cwnd(before * PMDCS);
            reno.on_idle(Instant::ZERO, Duration::from_secs_f64(seconds), Some(RTO));
            assert_eq!(reno.cwnd(), after * PMDCS, "{seconds} s");
            assert_eq!(reno.ssthresh(), ssthresh);
        }
        let mut reno = reno();
        reno.set_cwnd(16 * PMDCS);
        reno.on_idle(Instant::ZERO, Duration::from_secs(9), None);
        assert_eq!(reno.cwnd(), 16 * PMDCS, "without the rule");
    }

    #[test]
    fn numbers_stay_bounded_whatever_is_reported() {
        let mut reno = reno();
        for _ in 0..3000 {
            reno.on_ack(&sack(usize::MAX, usize::MAX, true));
        }
        reno.set_mss(1 << 30);
        for _ in 0..10 {
            reno.on_ack(&sack(usize::MAX, usize::MAX, true));
            assert!(reno.cwnd() <= MAX_CWND);
        }
        reno.on_congestion_event(Instant::ZERO, usize::MAX);
        for _ in 0..10 {
            reno.on_ack(&sack(usize::MAX, usize::MAX, true));
        }
        assert!(reno.partial_bytes_acked() <= MAX_CWND);
        reno.set_cwnd(0);
        assert_eq!(reno.cwnd(), 1 << 30, "one chunk at least");
    }
}
