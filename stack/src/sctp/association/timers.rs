//! The association's own timers, and everything that times out (RFC 9260 4, 6.3.3, 8, 9.2).
//!
//! T1 is the handshake's, T3-rtx and heartbeats are the paths', the delay of a SACK is the receiving half's: they are put
//! together here to one deadline.

use bytes::Bytes;

use crate::error::SocketError;
use crate::sctp::association::shutdown::End;
use crate::sctp::association::{Association, State};
use crate::sctp::path::PathId;
use crate::time::{Instant, earlier};
use crate::wire::sctp::ErrorCause;

/// Deadlines that are nobody else's.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// T2-shutdown.
    pub(super) t2: Option<Instant>,
    /// Where SHUTDOWN or SHUTDOWN ACK goes: to the peer's addresses in turn.
    pub(super) t2_path: Option<PathId>,
    /// T5-shutdown-guard.
    pub(super) t5: Option<Instant>,
}

impl Association {
    /// When [`Self::handle_timeout`] is to be called, if ever. What is due and only waits for [`Self::poll_transmit`] does not
    /// count: a timer could do nothing more for it, and would fire over and over while a device takes no packets.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.state == State::Closed {
            return None;
        }
        let shutdown = earlier(self.timers.t2, self.timers.t5);
        let own = earlier(shutdown, self.autoclose_deadline());
        let other = match &self.handshake {
            // T3-rtx of DATA that travels with a cookie is T1's matter: nothing may be sent without the cookie (5.1 C).
            Some(handshake) => Some(handshake.t1),
            None if self.dirty => self.paths.next_expiry(),
            None => {
                let sack = self.receiver.sack_deadline();
                let sack = sack.filter(|_| self.state.takes_data());
                earlier(self.paths.next_deadline(), sack)
            }
        };
        earlier(own, other)
    }

    /// Lets the timers that are due fire. Calling early or often is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.state == State::Closed {
            return;
        }
        let due = |timer: &mut Option<Instant>| timer.take_if(|at| *at <= now).is_some();
        if due(&mut self.timers.t5) {
            // 9.2: the peer goes on sending, or takes nothing.
            let cause =
                ErrorCause::ProtocolViolation(Bytes::from_static(b"shutdown takes too long"));
            self.abort_with(Some(SocketError::TimedOut), cause);
            return;
        }
        if self.autoclose_deadline().is_some_and(|at| at <= now) {
            self.shutdown(now);
        }
        if self.handshake.is_some() {
            self.handshake_timeout(now);
            return;
        }
        if due(&mut self.timers.t2) {
            self.shutdown_timeout(now);
        }
        let mut failed = false;
        while let Some(path) = self.paths.expired_t3(now) {
            let verdict = self.sender.handle_t3(now, path, &mut self.paths);
            failed |= verdict.association_failed;
        }
        failed |= self.paths.expire_heartbeats(now).association_failed;
        if failed {
            self.give_up();
        }
        self.notify_path_changes();
        // Heartbeats and SACKs that are due, and what T3 has marked.
        self.dirty = true;
    }

    /// T1 has fired: INIT or COOKIE ECHO again, up to Max.Init.Retransmits (4, notes 2 and 3).
    fn handshake_timeout(&mut self, now: Instant) {
        let limit = self.config.max_init_retransmits;
        let Some(handshake) = self.handshake.as_mut().filter(|h| h.t1 <= now) else {
            return;
        };
        handshake.retransmissions += 1;
        if handshake.retransmissions > limit {
            self.give_up();
            return;
        }
        handshake.due = true;
        handshake.sent_at = None;
        let failed = handshake.path;
        self.paths.on_handshake_timeout(now, failed);
        // 5.1: all addresses of the peer are tried, as with DATA.
        let next = self.paths.alternate_to(failed);
        if let Some(handshake) = &mut self.handshake {
            handshake.path = next;
        }
        if self.state == State::CookieEchoed {
            self.lose_bundled_data(now);
        }
        self.start_t1(now);
        self.dirty = true;
    }

    /// T2 has fired: SHUTDOWN or SHUTDOWN ACK again, up to Association.Max.Retrans (9.2).
    fn shutdown_timeout(&mut self, now: Instant) {
        let path = self.t2_path();
        self.paths.get_mut(path).back_off();
        if self.paths.on_timeout_error(now, path).association_failed {
            self.give_up();
            return;
        }
        self.timers.t2_path = Some(self.paths.alternate_to(path));
        match self.state {
            State::ShutdownSent => self.pending.shutdown = true,
            State::ShutdownAckSent => self.pending.shutdown_ack = true,
            _ => return,
        }
        self.start_t2(now);
    }

    /// Where SHUTDOWN and SHUTDOWN ACK go.
    pub(super) fn t2_path(&self) -> PathId {
        self.timers.t2_path.unwrap_or(self.control_path())
    }

    pub(super) fn start_t2(&mut self, now: Instant) {
        let rto = self.paths.get(self.t2_path()).rto();
        self.timers.t2 = Some(now + rto);
    }

    /// The peer does not answer any more (8.1): what ICMP said tells more than ETIMEDOUT, if it said anything.
    ///
    /// As Linux does it, a peer that there was an association with gets an ABORT: it may be our way back that is broken, and
    /// it would otherwise keep its side until it gives up, too.
    pub(super) fn give_up(&mut self) {
        let error = self.soft_error.take().unwrap_or(SocketError::TimedOut);
        if self.state.is_opening() {
            self.end(End::failed(error));
            return;
        }
        let cause = ErrorCause::ProtocolViolation(Bytes::from_static(b"too many retransmissions"));
        self.abort_with(Some(error), cause);
    }

    /// When an idle association is shut down (RFC 6458 8.1.8).
    fn autoclose_deadline(&self) -> Option<Instant> {
        let idle = self.options.autoclose?;
        (self.state == State::Established).then(|| self.last_use + idle)
    }
}
