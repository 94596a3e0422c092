//! The timers of a connection: a small table with one reported deadline, and what happens when one fires.
//!
//! Owns the deadlines and the count of unanswered retransmissions and probes. The delayed ACK's deadline lives in the
//! receive half's `AckSchedule` and is merged in by [`Connection::poll_timeout`].
//! RFC 6298 5 and RFC 7765 (retransmission), RFC 8985 6.2, 7 and 8 (reordering, loss probes), RFC 9293 3.8.3 (giving up), 3.8.6.1 (zero-window probes), RFC 1122 4.2.3.5.

use std::time::Duration;

use crate::error::SocketError;
use crate::tcp::connection::Connection;
use crate::tcp::connection::state::{Lifecycle, SendHalf};
use crate::tcp::send::recovery::{AckOutcome, RecoveryStep};
use crate::tcp::send::tail_loss_probe::probe_timeout;
use crate::time::{Instant, earlier};
use crate::transport::congestion::Timeout;

/// Which timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// Retransmission of the oldest data in flight, or of the SYN.
    Retransmit,
    /// A probe of a closed window, or of one too small for a segment.
    Persist,
    /// The next keepalive probe.
    Keepalive,
    /// End of a lingering close, or of FIN-WAIT-2 without an owner.
    Linger,
}

/// What the retransmission timer is set for: never more than one of the three (RFC 8985 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetransmitCause {
    /// The retransmission timeout (RFC 6298).
    Timeout,
    /// A loss probe (RFC 8985 7).
    Probe,
    /// The end of RACK's wait for what may have been reordered (RFC 8985 6.2, step 5).
    Reordering,
}

/// The deadlines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timers {
    deadlines: [Instant; 4],
    /// What [`Timer::Retransmit`] is set for.
    cause: RetransmitCause,
    /// Consecutive timeouts of the retransmission or persist timer without progress.
    pub(super) attempts: u32,
    /// When the first of them was armed: the user timeout counts from there.
    pub(super) stalled_since: Option<Instant>,
}

impl Timers {
    pub(super) const fn new() -> Self {
        Self {
            deadlines: [Instant::FAR_FUTURE; 4],
            cause: RetransmitCause::Timeout,
            attempts: 0,
            stalled_since: None,
        }
    }

    pub(super) fn set(&mut self, timer: Timer, deadline: Instant) {
        self.deadlines[timer as usize] = deadline;
    }

    fn set_retransmit(&mut self, cause: RetransmitCause, deadline: Instant) {
        self.cause = cause;
        self.set(Timer::Retransmit, deadline);
    }

    /// Whether [`Timer::Retransmit`] is set for `cause`.
    pub(super) fn waits_for(&self, cause: RetransmitCause) -> bool {
        self.cause == cause && self.is_set(Timer::Retransmit)
    }

    pub(super) fn clear(&mut self, timer: Timer) {
        self.deadlines[timer as usize] = Instant::FAR_FUTURE;
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.deadlines[timer as usize] < Instant::FAR_FUTURE
    }

    /// Whether it is due; it is cleared then.
    fn take_expired(&mut self, timer: Timer, now: Instant) -> bool {
        let expired = self.is_set(timer) && self.deadlines[timer as usize] <= now;
        if expired {
            self.clear(timer);
        }
        expired
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        let earliest = self.deadlines.into_iter().min()?;
        (earliest < Instant::FAR_FUTURE).then_some(earliest)
    }

    /// The peer has acknowledged something new.
    pub(super) fn progress(&mut self) {
        self.attempts = 0;
        self.stalled_since = None;
    }

    pub(super) fn clear_all(&mut self) {
        *self = Self::new();
    }
}

impl Connection {
    /// When [`Self::handle_timeout`] wants to be called, if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let delayed_ack = self.ack_deadline();
        let departure = self.paced.as_ref().and_then(|paced| paced.pacer.deadline());
        earlier(earlier(self.timers.next(), delayed_ack), departure)
    }

    /// Lets the timers that are due fire. Calling early or often is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.advance_clock(now);
        if self.ack_deadline().is_some_and(|deadline| deadline <= now) {
            self.ack_timeout(now);
        }
        if let Some(paced) = &mut self.paced {
            self.dirty |= paced.pacer.take_expired(now);
        }
        if self.timers.take_expired(Timer::Retransmit, now) {
            match (&self.lifecycle, self.timers.cause) {
                (Lifecycle::Opening(_), _) => self.handshake_timeout(now),
                (_, RetransmitCause::Timeout) => self.retransmission_timeout(now),
                (_, RetransmitCause::Probe) => self.probe_timeout(now),
                (_, RetransmitCause::Reordering) => self.reordering_timeout(now),
            }
        }
        if self.timers.take_expired(Timer::Persist, now) {
            self.persist_timeout(now);
        }
        if self.timers.take_expired(Timer::Keepalive, now) {
            self.keepalive_timeout(now);
        }
        if self.timers.take_expired(Timer::Linger, now) {
            self.linger_timeout();
        }
    }

    /// (Re)starts the retransmission timer while something is in flight, stops it otherwise (RFC 6298 5.1 to 5.3).
    pub(super) fn restart_retransmission_timer(&mut self, now: Instant) {
        self.set_retransmission_timer(now, now);
    }

    /// Sets the retransmission timer an RTO after `since`.
    fn set_retransmission_timer(&mut self, now: Instant, since: Instant) {
        if self.board.is_empty() {
            self.timers.clear(Timer::Retransmit);
            return;
        }
        let wait = ((since + self.rtt.rto()) - now).max(MIN_INTERVAL);
        let deadline = now + self.timeout_within_user_limit(now, wait);
        self.timers
            .set_retransmit(RetransmitCause::Timeout, deadline);
    }

    /// Restarts the retransmission timer when SND.UNA has advanced. With so little in flight and to be sent that no fast
    /// retransmit could come of it, the time since the oldest segment was sent counts (RFC 7765 4): else a round trip
    /// would be waited for twice. But from now on the peer may delay its next ACK, which `min_rto` allows for: RFC 7765
    /// takes an RTO of a second at least for granted. (Its text was not at hand: followed from general knowledge of it.)
    fn restart_retransmission_timer_after_ack(&mut self, now: Instant) {
        let unsent = self.unsent().div_ceil(self.mss as usize);
        let rest = RESTART_THRESHOLD.checked_sub(1 + unsent);
        let few = rest.is_some_and(|rest| self.board.is_flight_within(rest as u32));
        let head = self.board.head_sent_at().filter(|_| few);
        let since = head.map_or(now, |sent_at| {
            // No later than the plain restart, no sooner than the peer may answer.
            let patience = self.config.min_rto.min(self.rtt.rto());
            sent_at.max((now + patience) - self.rtt.rto()).min(now)
        });
        self.set_retransmission_timer(now, since);
    }

    /// Sets the retransmission timer an RTO after the oldest octet in flight was sent. While pacing holds back what is
    /// deemed lost, its age says nothing: it starts the timer anew when it leaves.
    fn set_retransmission_timer_of_head(&mut self, now: Instant) {
        let is_held_back = self.paced.is_some() && self.board.waiting() > 0;
        let head = self.board.head_sent_at().filter(|_| !is_held_back);
        self.set_retransmission_timer(now, head.unwrap_or(now));
    }

    /// Sets the one timer of the data in flight after an ACK that may have advanced SND.UNA: for RACK's wait, a probe, or
    /// a timeout (RFC 8985 7.2, 8; RFC 6298 5.3).
    pub(super) fn set_timer_after_ack(
        &mut self,
        now: Instant,
        outcome: &AckOutcome,
        advanced: bool,
    ) {
        let has_begun = outcome.step == RecoveryStep::Entered;
        if let Some(at) = outcome.wait_until {
            // A round trip that some ACK told may be of any length; a timeout would be due by then.
            let at = at.min(now + self.rtt.rto()).max(now);
            self.timers.set_retransmit(RetransmitCause::Reordering, at);
        } else if has_begun && self.paced.is_some() {
            // The first retransmission starts the timer anew (RFC 6675 5), and pacing may hold it back until then.
            self.restart_retransmission_timer(now);
        } else if advanced {
            if !self.schedule_probe(now, now) {
                self.restart_retransmission_timer_after_ack(now);
            }
        } else if self.timers.waits_for(RetransmitCause::Reordering)
            || (self.timers.waits_for(RetransmitCause::Probe)
                && !self.recovery.may_probe(&self.board))
        {
            self.set_retransmission_timer_of_head(now);
        }
    }

    /// Sets the one timer of the data in flight after new data was sent.
    pub(super) fn set_timer_after_sending(&mut self, now: Instant) {
        if self.timers.waits_for(RetransmitCause::Reordering) {
            return;
        }
        let since = self.board.head_sent_at().unwrap_or(now);
        if !self.schedule_probe(now, since) && !self.timers.is_set(Timer::Retransmit) {
            self.restart_retransmission_timer(now);
        }
    }

    /// Sets the timer for a loss probe, if one is in order: no later than the timeout that is an RTO after `since`
    /// (RFC 8985 7.2).
    fn schedule_probe(&mut self, now: Instant, since: Instant) -> bool {
        let enabled = self.negotiated.sack && self.config.tail_loss_probe;
        if !enabled || !self.recovery.may_probe(&self.board) {
            return false;
        }
        let alone = self.board.is_flight_within(1);
        // Linux allows the peer's delayed ACK as much time as its smallest RTO does.
        let wait = probe_timeout(self.rtt.smoothed(), alone, self.config.min_rto);
        let timeout = (since + self.rtt.rto()).max(now);
        let deadline = now + self.timeout_within_user_limit(now, wait.min(timeout - now));
        self.timers.set_retransmit(RetransmitCause::Probe, deadline);
        true
    }

    /// An ACK is overdue: a probe makes the peer send one, or else the timeout takes over (RFC 8985 7.3).
    fn probe_timeout(&mut self, now: Instant) {
        if self.recovery.probe.is_permitted() && self.recovery.may_probe(&self.board) {
            self.pending.loss_probe = true;
            self.dirty = true;
        }
        // Sending the probe starts it anew.
        self.set_retransmission_timer_of_head(now);
    }

    /// What RACK waited for has not come (RFC 8985 6.2, step 5).
    fn reordering_timeout(&mut self, now: Instant) {
        let context = self.recovery_context(now);
        let outcome = self
            .recovery
            .on_reordering_timeout(&context, &mut self.board);
        self.note_recovery(now, outcome, false);
        match outcome.wait_until {
            Some(at) => self
                .timers
                .set_retransmit(RetransmitCause::Reordering, at.max(now + MIN_INTERVAL)),
            None => self.set_retransmission_timer_of_head(now),
        }
        self.dirty = true;
    }

    /// The retransmission timer fired for data or a FIN (RFC 6298 5.4 to 5.6).
    fn retransmission_timeout(&mut self, now: Instant) {
        if self.board.is_empty() {
            return;
        }
        // A peer that has shrunk its window to nothing but still answers is alive: the connection stays open however
        // long that takes (RFC 9293 3.8.6.1, MUST-37).
        let closed_window = self.window.snd_wnd == 0 && !self.is_orphan();
        let limit = self.retry_limit();
        if self.user_timeout_expired(now)
            || (!closed_window && self.timers.attempts >= limit)
            || (closed_window && now - self.last_received > self.config.max_rto * 2)
        {
            self.give_up();
            return;
        }
        self.note_timeout_of_path(now, self.timers.attempts >= R1);
        self.timers.stalled_since.get_or_insert(now);
        self.stats.timeout_recoveries += u32::from(self.timers.attempts == 0);
        self.timers.attempts += 1;
        self.stats.timeouts += 1;
        let flight = self.board.outstanding() as usize;
        let context = self.recovery_context(now);
        let lost_before = self.board.lost();
        let repeated = self.recovery.on_timeout(&context, &mut self.board);
        if let Some(paced) = &mut self.paced {
            let lost = self.board.lost().saturating_sub(lost_before);
            paced.delivery.on_lost(lost, None);
        }
        self.pending.loss_probe = false;
        let timeout = if repeated {
            Timeout::Repeated
        } else {
            Timeout::First
        };
        self.congestion
            .on_retransmission_timeout(now, flight, timeout);
        self.note_reduction();
        self.rtt.back_off();
        self.restart_retransmission_timer(now);
        self.dirty = true;
        tracing::debug!(rto = ?self.rtt.rto(), attempts = self.timers.attempts, "retransmission timeout");
    }

    /// The device is full, or its link down, so what is to be sent stays here. Time runs all the same: a connection whose
    /// packets do not even leave the host is given up as one whose packets are lost (RFC 9293 3.8.3, R2).
    pub fn handle_held_back(&mut self, now: Instant) {
        let now = self.advance_clock(now);
        if std::mem::take(&mut self.pending.sent_new) {
            self.set_timer_after_sending(now);
        }
        // What an ACK is overdue for may not have left either: no reason to send it twice, as with Linux.
        self.pending.loss_probe = false;
        let opening = matches!(self.lifecycle, Lifecycle::Opening(_));
        if opening && !self.timers.is_set(Timer::Retransmit) {
            self.timers.stalled_since.get_or_insert(now);
            self.timers.set(Timer::Retransmit, now + self.rtt.rto());
        } else if matches!(self.lifecycle, Lifecycle::Synchronized { .. }) && self.unsent() > 0 {
            self.arm_persist_timer(now);
        }
    }

    /// Arms the persist timer, unless it runs or something in flight will bring an answer anyway.
    pub(super) fn arm_persist_timer(&mut self, now: Instant) {
        if self.board.is_empty() && !self.timers.is_set(Timer::Persist) {
            let backoff = self.timers.attempts.min(16);
            let interval = self
                .rtt
                .rto()
                .saturating_mul(1 << backoff)
                .min(self.config.max_rto);
            // A window that is merely small is overridden soon (RFC 9293 3.8.6.2.1: 0.1 to 1 s).
            let interval = if self.window.usable() > 0 {
                interval.clamp(SHORTEST_OVERRIDE, LONGEST_OVERRIDE)
            } else {
                interval
            };
            let interval = self.timeout_within_user_limit(now, interval);
            self.timers.stalled_since.get_or_insert(now);
            self.timers.set(Timer::Persist, now + interval);
        }
    }

    /// The persist timer fired: ask again, forever while the peer answers (RFC 9293 3.8.6.1, MUST-36, MUST-37).
    fn persist_timeout(&mut self, now: Instant) {
        if !self.board.is_empty() || self.unsent() == 0 {
            return;
        }
        if self.cork_timeout() {
            return;
        }
        let limit = self.retry_limit();
        if self.user_timeout_expired(now)
            || self.probes_unanswered >= limit
            || (self.is_orphan() && self.timers.attempts >= limit)
        {
            self.give_up();
            return;
        }
        self.timers.attempts += 1;
        self.probes_unanswered += 1;
        self.pending.window_probe = true;
        self.arm_persist_timer(now);
        self.dirty = true;
    }

    /// Retransmissions permitted: fewer when nobody holds the connection any more.
    fn retry_limit(&self) -> u32 {
        if self.is_orphan() {
            self.config.orphan_retries
        } else {
            self.config.retries
        }
    }

    /// Several retransmissions in a row went unanswered (R1 of RFC 9293 3.8.3, MUST-20, MUST-22): the layer below should
    /// look for another way, by asking the neighbour anew.
    pub fn is_delivery_doubtful(&self) -> bool {
        self.timers.attempts >= R1
    }

    /// Whether nothing was acknowledged for as long as the user permits (RFC 9293 3.9.1, RFC 5482).
    pub(super) fn user_timeout_expired(&self, now: Instant) -> bool {
        self.options
            .user_timeout
            .zip(self.timers.stalled_since)
            .is_some_and(|(limit, since)| now - since >= limit)
    }

    /// Cuts a timeout so that it does not pass the user timeout.
    pub(super) fn timeout_within_user_limit(&self, now: Instant, timeout: Duration) -> Duration {
        match self.options.user_timeout.zip(self.timers.stalled_since) {
            Some((limit, since)) => timeout.min((since + limit) - now).max(MIN_INTERVAL),
            None => timeout,
        }
    }

    /// The peer does not answer any more (RFC 9293 3.8.3, R2): a soft ICMP error tells more than ETIMEDOUT, if one came.
    pub(super) fn give_up(&mut self) {
        let error = self.soft_error.take().unwrap_or(SocketError::TimedOut);
        tracing::debug!(?error, "giving up");
        self.end(Some(error));
    }

    /// FIN-WAIT-2 of an orphan, or a lingering close, has taken too long.
    fn linger_timeout(&mut self) {
        if self.lifecycle.send_half() == Some(SendHalf::FinAcked) {
            // Linux drops the state without a word; whatever the peer still sends is answered with RST.
            self.end(None);
        } else {
            self.abort();
        }
    }
}

/// rrthresh: as many segments in flight and unsent, and fast retransmit can be left to find a loss (RFC 7765 5).
const RESTART_THRESHOLD: usize = 4;
/// Retransmissions after which the path is in doubt (RFC 9293 3.8.3, SHLD-10: at least 3).
const R1: u32 = 3;
/// Bounds of the wait before a small window is used as it is.
const SHORTEST_OVERRIDE: Duration = Duration::from_millis(100);
const LONGEST_OVERRIDE: Duration = Duration::from_secs(1);
/// No timer is armed closer than this, so that a limit already passed cannot spin.
const MIN_INTERVAL: Duration = Duration::from_millis(1);
