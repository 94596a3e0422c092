//! One path's heartbeats (RFC 9260 8.3, 5.4): when the next is due, and whether the last was answered.
//!
//! ```text
//!    due ──▶ sent, awaiting an answer until one RTO later ──▶ unanswered: an error
//!     ▲            │ HEARTBEAT ACK                                │
//!     └── RTO + HB.interval, RTO * (0.5..1.5) jitter included ◀───┘   (an unconfirmed path: at once)
//! ```

use std::net::IpAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::random::Random;
use crate::time::{Instant, earlier};

/// The state of one path's heartbeats.
#[derive(Debug)]
pub(super) struct Heartbeat {
    /// The user may turn them off for a path.
    enabled: bool,
    interval: Duration,
    /// When the next one is due if the path stays idle; `None` while they are stopped.
    schedule: Option<Schedule>,
    /// One is due then, idle or not: asked for by the user, or to verify the address.
    wanted: Option<Instant>,
    /// The latest one, as long as an answer counts.
    sent: Option<Sent>,
    /// When the latest one counts as unanswered.
    expires: Option<Instant>,
    /// When the path was last used for what measures its round trip.
    last_used: Instant,
}

/// A heartbeat is due `period` after `since`, or after the last use of the path if that is later.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    since: Instant,
    period: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    nonce: u64,
    at: Instant,
}

impl Heartbeat {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            enabled: true,
            interval,
            schedule: None,
            wanted: None,
            sent: None,
            expires: None,
            last_used: Instant::ZERO,
        }
    }

    /// Whether the user wants them.
    pub(super) fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// HB.interval.
    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    pub(super) fn set_enabled(&mut self, enabled: bool) {
        self.enabled = enabled;
        if !enabled {
            self.schedule = None;
        }
    }

    pub(super) fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// The next one is due at `now`, whether or not the path is idle or heartbeats are enabled on it.
    pub(super) fn request(&mut self, now: Instant) {
        self.wanted = Some(now);
    }

    /// The next one is due a heartbeat period after `since`, the path's RTO being `rto`: RTO + HB.interval with jitter of
    /// half the RTO either way (8.3).
    pub(super) fn arm(&mut self, since: Instant, rto: Duration, random: &mut Random) {
        if !self.enabled {
            return;
        }
        // Users may have set either so that it never comes.
        let jitter = rto.as_secs_f64() * f64::from(random.next_u32()) / f64::from(u32::MAX);
        let jitter = Duration::try_from_secs_f64(jitter).unwrap_or(rto);
        let period = self.interval.saturating_add(rto / 2).saturating_add(jitter);
        self.schedule = Some(Schedule {
            since,
            period: period.max(MIN_PERIOD),
        });
    }

    /// No more are sent, and the one that is out counts no longer.
    pub(super) fn stop(&mut self) {
        self.schedule = None;
        self.wanted = None;
        self.sent = None;
        self.expires = None;
    }

    /// The path carries something that can measure its round trip: it is not idle (8.3).
    pub(super) fn on_used(&mut self, now: Instant) {
        // Written once for all packets of a flush: each of them has `due` read it, which a store just before would delay.
        if self.last_used != now {
            self.last_used = now;
        }
    }

    /// When the next one is due. It moves on as the path is used.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.expires.is_some() {
            return None; // one at a time
        }
        let scheduled = self
            .schedule
            .map(|schedule| schedule.since.max(self.last_used) + schedule.period);
        earlier(self.wanted, scheduled)
    }

    /// When the latest one counts as unanswered.
    pub(super) fn expires(&self) -> Option<Instant> {
        self.expires
    }

    /// One goes out at `now`: its Heartbeat Info. It counts as unanswered after `rto`.
    pub(super) fn send(
        &mut self,
        now: Instant,
        remote: IpAddr,
        rto: Duration,
        random: &mut Random,
    ) -> Bytes {
        let nonce = random.next_u64();
        self.sent = Some(Sent { nonce, at: now });
        self.expires = Some(now + rto);
        self.schedule = None;
        self.wanted = None;
        info(nonce, now, remote)
    }

    /// An answer came with `nonce`: when what it answers was sent, if that was the latest one. Counts once.
    pub(super) fn take_answer(&mut self, nonce: u64) -> Option<Instant> {
        let sent = self.sent.filter(|sent| sent.nonce == nonce)?;
        self.sent = None;
        self.expires = None;
        Some(sent.at)
    }

    /// The answer is overdue. A late one still counts until the next heartbeat. When the unanswered one was sent.
    pub(super) fn take_expired(&mut self, now: Instant) -> Option<Instant> {
        self.expires.take_if(|at| *at <= now)?;
        self.sent.map(|sent| sent.at)
    }
}

/// The Sender-Specific Heartbeat Info (3.3.5): nonce, time and destination. Only the nonce is believed when it comes
/// back; time and destination stand there because the RFC wants them, and for those who read captures.
fn info(nonce: u64, now: Instant, remote: IpAddr) -> Bytes {
    let mut info = BytesMut::with_capacity(INFO_LEN);
    info.put_u64(nonce);
    info.put_u64(now.as_nanos());
    let address = match remote {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    info.put_slice(&address.octets());
    info.freeze()
}

/// Nonce and destination of a Heartbeat Info that has the form of ours.
pub(super) fn parse_info(info: &[u8]) -> Option<(u64, IpAddr)> {
    let info: &[u8; INFO_LEN] = info.try_into().ok()?;
    let (nonce, rest) = info.split_first_chunk::<8>()?;
    let (_, address) = rest.split_last_chunk::<16>()?;
    Some((
        u64::from_be_bytes(*nonce),
        IpAddr::from(*address).to_canonical(),
    ))
}

const INFO_LEN: usize = 32;

/// The shortest time between heartbeats, however small RTO and HB.interval are set.
const MIN_PERIOD: Duration = Duration::from_millis(10);
