//! The association's own timers (RFC 9260 5.1, 9.2, 16), and everything that times out.

use std::time::Duration;

use super::{Association, State};
use crate::error::SocketError;
use crate::sctp::path::PathVerdict;
use crate::time::Instant;
use crate::wire::sctp::{Causes, ErrorCause};

/// Deadlines besides those of the paths and of the receiving half.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// T1-init, T1-cookie: one at a time.
    pub(super) t1: Option<Instant>,
    /// T2-shutdown.
    pub(super) t2: Option<Instant>,
    /// T5-shutdown-guard.
    pub(super) t5: Option<Instant>,
    pub(super) autoclose: Option<Instant>,
    /// How often INIT or COOKIE ECHO was sent again.
    pub(super) init_retransmits: u32,
    /// T1's present length: doubled each time.
    pub(super) t1_length: Option<Duration>,
}

impl Timers {
    fn next(&self) -> Option<Instant> {
        [self.t1, self.t2, self.t5, self.autoclose]
            .into_iter()
            .flatten()
            .min()
    }
}

impl Association {
    /// When [`Self::handle_timeout`] is to be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.state == State::Closed {
            return None;
        }
        let own = [
            self.timers.next(),
            self.paths.next_deadline(),
            self.receiver.sack_deadline(),
        ];
        own.into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.state == State::Closed {
            return;
        }
        let due = |timer: &mut Option<Instant>| timer.take_if(|at| *at <= now).is_some();
        if due(&mut self.timers.t5) {
            // 9.2: the peer goes on sending, or nothing gets through.
            self.abort_with(ErrorCause::ProtocolViolation(bytes::Bytes::from_static(
                b"shutdown takes too long",
            )));
            self.fail(SocketError::TimedOut);
            return;
        }
        if due(&mut self.timers.autoclose) {
            self.shutdown(now);
        }
        if due(&mut self.timers.t1) {
            self.retry_handshake(now);
        }
        if due(&mut self.timers.t2) {
            self.retry_shutdown(now);
        }
        let mut verdict = PathVerdict::default();
        while let Some(path) = self.paths.expired_t3(now) {
            let next = self.sender.handle_t3(now, path, &mut self.paths);
            verdict.association_failed |= next.association_failed;
            if self.paths.expired_t3(now) == Some(path) {
                break;
            }
        }
        let heartbeats = self.paths.expire_heartbeats(now);
        if verdict.association_failed || heartbeats.association_failed {
            self.fail(SocketError::TimedOut);
            return;
        }
        // Heartbeats and SACKs that are due, and what T3 has marked.
        self.dirty = true;
    }

    /// T1 has fired: INIT or COOKIE ECHO again, up to Max.Init.Retransmits (4, 5.1).
    fn retry_handshake(&mut self, now: Instant) {
        self.timers.init_retransmits += 1;
        if self.timers.init_retransmits > self.config.max_init_retransmits {
            self.fail(SocketError::TimedOut);
            return;
        }
        match self.state {
            State::CookieWait => self.pending.init = true,
            State::CookieEchoed => self.pending.cookie_echo = true,
            _ => return,
        }
        let doubled = self.t1_length() * 2;
        self.timers.t1_length = Some(doubled.min(self.config.path.rto_max));
        self.arm_t1(now);
        self.dirty = true;
    }

    fn t1_length(&self) -> Duration {
        self.timers
            .t1_length
            .unwrap_or(self.config.path.rto_initial)
    }

    pub(super) fn arm_t1(&mut self, now: Instant) {
        self.timers.t1 = Some(now + self.t1_length());
    }

    /// T2 has fired: SHUTDOWN or SHUTDOWN ACK again (9.2).
    fn retry_shutdown(&mut self, now: Instant) {
        match self.state {
            State::ShutdownSent => self.pending.shutdown = true,
            State::ShutdownAckSent => self.pending.shutdown_ack = true,
            _ => return,
        }
        let path = self.paths.data_path().unwrap_or(self.paths.primary());
        self.paths.get_mut(path).back_off();
        if self.paths.on_timeout_error(path).association_failed {
            self.fail(SocketError::TimedOut);
            return;
        }
        self.arm_t2(now);
        self.dirty = true;
    }

    pub(super) fn arm_t2(&mut self, now: Instant) {
        let path = self.paths.data_path().unwrap_or(self.paths.primary());
        self.timers.t2 = Some(now + self.paths.get(path).rto());
    }

    /// Data has moved: the association is not idle.
    pub(super) fn note_use(&mut self, now: Instant) {
        if let Some(after) = self.config.autoclose
            && self.state == State::Established
        {
            self.timers.autoclose = Some(now + after);
        }
    }

    /// The association could not be kept up.
    pub(super) fn fail(&mut self, error: SocketError) {
        self.end(Some(error));
    }

    /// An ABORT is to be sent with this cause.
    pub(super) fn abort_with(&mut self, cause: ErrorCause) {
        self.pending.abort = Some(Causes::from_iter([cause]));
        self.dirty = true;
    }
}
