//! Congestion control: how much may be in flight (RFC 5681), shared by TCP and SCTP.
//!
//! TCP uses [`NewReno`], [`Cubic`] or [`Bbr`], SCTP [`SctpReno`] (RFC 9260 7.2) or [`Cubic`]. SCTP's arithmetic differs from
//! NewReno's in every rule (what is halved, the least threshold, how growth is counted, what idle time does), hence a
//! controller of its own and not a NewReno full of switches; CUBIC differs only in its [`InitialWindow`].
//!
//! A [`Controller`] owns `cwnd` and `ssthresh`, in octets. It leaves to its owner the detection of loss, the conduct of
//! a recovery (RFC 6675, RFC 6582: when it begins and ends, what is sent in it) and the count of what is in flight.
//!
//! CUBIC leaves its first slow start by HyStart++ ([`hystart`]). SCTP measures one round trip a round (RFC 9260 6.3.1 C4), which
//! is too few samples for it: there slow start ends at the first loss.
//!
//! An ACK may cover one segment or megabytes: growth is computed per octet, as if every segment had been acknowledged
//! by an ACK of its own.

use std::fmt;
use std::time::Duration;

use crate::time::Instant;

pub mod bbr;
pub mod cubic;
pub mod hystart;
pub mod new_reno;
pub mod sctp_reno;

#[cfg(test)]
mod tests;

pub use bbr::Bbr;
pub use cubic::Cubic;
pub use new_reno::NewReno;
pub use sctp_reno::SctpReno;

/// Which congestion controller a transport uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CongestionControl {
    /// BBR, version 3 (draft-cardwell-ccwg-bbr). TCP only, since it paces: SCTP takes CUBIC instead.
    Bbr,
    /// CUBIC (RFC 9438).
    Cubic,
    /// NewReno: RFC 5681 with RFC 6582 for TCP, RFC 9260 7.2 for SCTP.
    NewReno,
}

/// An acknowledgment of new data, outside of fast recovery: what an ACK or SACK is the first to report as arrived, also out
/// of order. With TCP one that advances SND.UNA or, on paths that reorder, any (as Linux's `tcp_may_raise_cwnd`); with SCTP
/// what is newly acknowledged on the path, also by gap blocks (RFC 9260 7.2.1, 7.2.2).
#[derive(Clone, Copy, Debug)]
pub struct AckSample {
    /// When it arrived.
    pub now: Instant,
    /// Octets newly acknowledged.
    pub bytes_acked: usize,
    /// Octets in flight before this acknowledgment, or at most in this round trip.
    pub in_flight: usize,
    /// How far the stream is acknowledged, in octets that wrap: SND.UNA. What was sent when a round began tells by it when
    /// the round is over.
    pub acknowledged: u32,
    /// How far it is sent: SND.NXT.
    pub sent: u32,
    /// The round trip it measured, if it did: of what was sent last, since the rest may have waited for something late.
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

/// What an ACK says of the rate at which the path delivers (draft-cardwell-ccwg-bbr 4.5.2): of the packet sent last among
/// those it is the first to acknowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateSample {
    /// Octets per second; 0 if the time was too short to tell.
    pub delivery_rate: u64,
    /// Octets delivered between the sending of the packet and now.
    pub delivered: u64,
    /// Octets delivered in all when the packet was sent.
    pub prior_delivered: u64,
    /// Octets in flight when the packet was sent, itself included.
    pub in_flight_when_sent: u64,
    /// Octets deemed lost since.
    pub lost: u64,
    /// It was sent while there was not enough to send.
    pub app_limited: bool,
    /// Its round trip, unless it was retransmitted.
    pub rtt: Option<Duration>,
}

/// A packet that is deemed lost; the last sent of those that became so at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossSample {
    /// Its octets.
    pub octets: u64,
    /// Octets in flight when it was sent, itself included.
    pub in_flight_when_sent: u64,
    /// Octets deemed lost since it was sent, itself included.
    pub lost: u64,
    /// It was sent while there was not enough to send.
    pub app_limited: bool,
}

/// An ACK as a controller sees it that works by rates.
#[derive(Clone, Copy, Debug)]
pub struct DeliverySample {
    /// When it arrived.
    pub now: Instant,
    /// Octets delivered in all.
    pub delivered: u64,
    /// Octets that it is the first to acknowledge, selectively or not.
    pub newly_acked: u64,
    /// Octets in flight after it.
    pub in_flight: u64,
    /// Sending stopped in this round trip for want of congestion window.
    pub cwnd_limited: bool,
    /// Losses are being repaired, after a fast retransmit or a timeout.
    pub recovering: bool,
    /// The rate it tells, if any.
    pub rate: Option<RateSample>,
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

    /// Loss was detected: `ssthresh` and `cwnd` are reduced. Called once per recovery.
    /// `flight_size` is what was sent and not yet cumulatively acknowledged (FlightSize of RFC 5681).
    fn on_congestion_event(&mut self, now: Instant, flight_size: usize);

    /// The path has marked packets instead of dropping them (RFC 3168): a queue that marks is a short one, so the reduction
    /// is smaller (RFC 8511). Called once per round trip. It is not taken back by [`Self::undo`].
    fn on_ecn(&mut self, now: Instant, flight_size: usize);

    /// The retransmission timer fired: `cwnd` becomes one segment (RFC 5681 3.1).
    fn on_retransmission_timeout(&mut self, now: Instant, flight_size: usize, timeout: Timeout);

    /// An ACK came, in whatever state of recovery; only for controllers with a [`Self::pacing_rate`].
    fn on_delivery(&mut self, sample: &DeliverySample) {
        let _ = sample;
    }

    /// Packets are deemed lost; only for controllers with a [`Self::pacing_rate`].
    fn on_loss(&mut self, sample: &LossSample) {
        let _ = sample;
    }

    /// The latest [`Self::on_congestion_event`] or first timeout was for nothing: windows and curves from before it come
    /// back, unless they have grown beyond (RFC 4015 3, RFC 9438 4.9). At most once for each.
    fn undo(&mut self) {}

    /// Sending resumes after `idle` with nothing in flight. With `restart`, the present RTO, the window is halved for
    /// each RTO of silence, down to the initial window (RFC 5681 4.1 as RFC 2861 and Linux soften it); without it the
    /// window stays.
    fn on_idle(&mut self, now: Instant, idle: Duration, restart: Option<Duration>);

    /// For an RTO no more than `used` octets of the window were in flight, since there was no more to send: what has not
    /// been tested for so long is given up by half (RFC 7661, RFC 2861 3.2). By default the window stays.
    fn on_application_limited(&mut self, used: usize) {
        let _ = used;
    }

    /// The congestion window.
    fn cwnd(&self) -> usize;

    /// The slow start threshold; `usize::MAX` before the first loss.
    fn ssthresh(&self) -> usize;

    /// Sets the window: while a recovery paces its reduction (RFC 6937), and to `ssthresh` when it is over. At least one segment is kept.
    fn set_cwnd(&mut self, cwnd: usize);

    /// Fast recovery is over: the window is what the reduction aimed at (RFC 6937 3).
    fn on_recovered(&mut self) {
        self.set_cwnd(self.ssthresh());
    }

    /// Takes over from another controller: its window, and its threshold where there is one.
    fn inherit(&mut self, cwnd: usize, ssthresh: usize) {
        let _ = ssthresh;
        self.set_cwnd(cwnd);
    }

    /// Octets per second at which data shall leave; `None` leaves it to the ACKs.
    fn pacing_rate(&self) -> Option<u64> {
        None
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

/// The window after an RTO in which `used` of it was in use: half way down to that, or to the initial window, if it was more
/// (RFC 2861 3.2, Linux).
const fn half_unused(cwnd: usize, used: usize, initial_window: usize) -> usize {
    let used = if used > initial_window {
        used
    } else {
        initial_window
    };
    if used < cwnd {
        cwnd - (cwnd - used) / 2
    } else {
        cwnd
    }
}

/// The window after `idle` of silence: halved per `rto`, not below `restart_window` (RFC 2861 3, Linux).
fn decayed(cwnd: usize, idle: Duration, rto: Duration, restart_window: usize) -> usize {
    let halvings = idle.as_nanos() / rto.as_nanos().max(1);
    let decayed = cwnd
        .checked_shr(u32::try_from(halvings).unwrap_or(u32::MAX))
        .unwrap_or(0);
    decayed.max(restart_window.min(cwnd))
}
