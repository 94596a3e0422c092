//! Congestion control: how much may be in flight (RFC 5681), shared by TCP and SCTP.
//!
//! TCP uses [`NewReno`] or [`Cubic`], SCTP [`SctpReno`] (RFC 9260 7.2) or [`Cubic`]. SCTP's arithmetic differs from
//! NewReno's in every rule (what is halved, the least threshold, how growth is counted, what idle time does), hence a
//! controller of its own and not a NewReno full of switches; CUBIC differs only in its [`InitialWindow`].
//!
//! A [`Controller`] owns `cwnd` and `ssthresh`, in octets. It leaves to its owner the detection of loss, the conduct of
//! a recovery (RFC 6675, RFC 6582: when it begins and ends, what is sent in it) and the count of what is in flight.
//!
//! An ACK may cover one segment or megabytes: growth is computed per octet, as if every segment had been acknowledged
//! by an ACK of its own.

use std::fmt;
use std::time::Duration;

use crate::time::Instant;

pub mod cubic;
pub mod new_reno;
pub mod sctp_reno;

#[cfg(test)]
mod tests;

pub use cubic::Cubic;
pub use new_reno::NewReno;
pub use sctp_reno::SctpReno;

/// Which congestion controller a transport uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CongestionControl {
    /// CUBIC (RFC 9438).
    Cubic,
    /// NewReno: RFC 5681 with RFC 6582 for TCP, RFC 9260 7.2 for SCTP.
    NewReno,
}

/// An acknowledgment of new data, outside of fast recovery: with TCP a cumulative one, with SCTP what a SACK newly
/// acknowledged on the path, also by gap blocks (RFC 9260 7.2.1, 7.2.2).
#[derive(Clone, Copy, Debug)]
pub struct AckSample {
    /// When it arrived.
    pub now: Instant,
    /// Octets newly acknowledged.
    pub bytes_acked: usize,
    /// Octets in flight before this acknowledgment.
    pub in_flight: usize,
    /// The round trip it measured, if it did.
    pub rtt: Option<Duration>,
    /// The smoothed round-trip time.
    pub smoothed_rtt: Duration,
    /// The sender did not fill the window: it lacked data, or the peer's window was smaller. See [`Self::may_grow`].
    pub application_limited: bool,
}

impl AckSample {
    /// Whether the window may grow: only one that was in use has been tested (RFC 5681 and RFC 9438 5.8 by way of
    /// RFC 7661). In slow start half of it in use is enough, as in Linux: it is doubling, so the rest comes next.
    pub fn may_grow(&self, cwnd: usize, slow_start: bool) -> bool {
        !self.application_limited || (slow_start && cwnd < self.in_flight.saturating_mul(2))
    }
}

/// Which of a series of retransmission timeouts this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// The first for the data at SND.UNA.
    First,
    /// The same data timed out again: `ssthresh` stays (RFC 5681 3.1).
    Repeated,
}

/// A congestion controller. All windows are octets.
pub trait Controller: fmt::Debug + Send {
    /// New data was acknowledged, in slow start or congestion avoidance, also after a timeout. Not called during fast
    /// recovery, where the window follows [`Self::set_cwnd`].
    fn on_ack(&mut self, sample: &AckSample);

    /// Loss (or ECN, in time) was detected: `ssthresh` and `cwnd` are reduced. Called once per recovery.
    /// `flight_size` is what was sent and not yet cumulatively acknowledged (FlightSize of RFC 5681).
    fn on_congestion_event(&mut self, now: Instant, flight_size: usize);

    /// The retransmission timer fired: `cwnd` becomes one segment (RFC 5681 3.1).
    fn on_retransmission_timeout(&mut self, now: Instant, flight_size: usize, timeout: Timeout);

    /// The latest [`Self::on_congestion_event`] or first timeout was for nothing: windows and curves from before it come
    /// back, unless they have grown beyond (RFC 4015 3, RFC 9438 4.9). At most once for each.
    fn undo(&mut self) {}

    /// Sending resumes after `idle` with nothing in flight. With `restart`, the present RTO, the window is halved for
    /// each RTO of silence, down to the initial window (RFC 5681 4.1 as RFC 2861 and Linux soften it); without it the
    /// window stays.
    fn on_idle(&mut self, now: Instant, idle: Duration, restart: Option<Duration>);

    /// The congestion window.
    fn cwnd(&self) -> usize;

    /// The slow start threshold; `usize::MAX` before the first loss.
    fn ssthresh(&self) -> usize;

    /// Sets the window: while a recovery paces its reduction (RFC 6937), and to `ssthresh` when it is over. At least one segment is kept.
    fn set_cwnd(&mut self, cwnd: usize);

    /// Goes on with the window of the controller that was there before (`TCP_CONGESTION` under way).
    fn take_over(&mut self, cwnd: usize, ssthresh: usize) {
        let _ = ssthresh;
        self.set_cwnd(cwnd);
    }

    /// The path's segment size changed. The window keeps its octets, but at least one segment.
    fn set_mss(&mut self, mss: usize);

    /// The controller's name, as Linux spells it.
    fn name(&self) -> &'static str;

    /// Whether `cwnd` is below `ssthresh` (RFC 5681 3.1).
    fn in_slow_start(&self) -> bool {
        self.cwnd() < self.ssthresh()
    }
}

/// No window is larger: what the peer can advertise at most (RFC 7323 2.3), twice over.
const MAX_CWND: usize = 2 << 30;

/// The rule for the window a path starts with, and falls back to after idle time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialWindow {
    /// TCP's: so many segments, see [`initial_window`].
    Segments(u32),
    /// SCTP's (RFC 9260 7.2.1): `min(4 * PMDCS, max(2 * PMDCS, octets))` with 4404 `octets` for IPv4 and 4344 for IPv6.
    Sctp {
        /// See above.
        octets: u16,
    },
}

impl InitialWindow {
    /// SCTP's for IPv4: three packets of an Ethernet's 1500 octets.
    pub const SCTP_V4: Self = Self::Sctp { octets: 4404 };
    /// SCTP's for IPv6.
    pub const SCTP_V6: Self = Self::Sctp { octets: 4344 };

    /// The window in octets for segments (SCTP: largest DATA chunks) of `mss` octets.
    pub fn octets(self, mss: usize) -> usize {
        match self {
            Self::Segments(segments) => initial_window(segments, mss),
            Self::Sctp { octets } => (4 * mss).min((2 * mss).max(usize::from(octets))),
        }
    }
}

/// The window a connection starts with: `segments` of `mss` octets, but for large segments no more than
/// 14,600 octets or two of them (RFC 6928 2), scaled with `segments` when the configuration asks for another count.
pub fn initial_window(segments: u32, mss: usize) -> usize {
    let segments = segments.max(1) as usize;
    (segments * mss).min((segments * INITIAL_WINDOW_MSS).max(2 * mss))
}

/// The segment size that RFC 6928 2 takes for granted: its 14,600 octets are ten of these.
const INITIAL_WINDOW_MSS: usize = 1460;

/// The window after `idle` of silence: halved per `rto`, not below `restart_window` (RFC 2861 3, Linux).
fn decayed(cwnd: usize, idle: Duration, rto: Duration, restart_window: usize) -> usize {
    let halvings = idle.as_nanos() / rto.as_nanos().max(1);
    let decayed = cwnd
        .checked_shr(u32::try_from(halvings).unwrap_or(u32::MAX))
        .unwrap_or(0);
    decayed.max(restart_window.min(cwnd))
}
