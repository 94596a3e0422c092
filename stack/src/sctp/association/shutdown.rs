//! The end of an association: SHUTDOWN in every order, ABORT, and failure (RFC 9260 9).

use bytes::Bytes;

use super::{Association, AssociationChange, Notification, State};
use crate::error::SocketError;
use crate::time::Instant;
use crate::transport::Readiness;
use crate::wire::sctp::{Causes, ErrorCause};

impl Association {
    /// Ends the association once everything queued is delivered (9.2). Nothing can be queued any more.
    pub fn shutdown(&mut self, now: Instant) {
        match self.state {
            // Nothing was promised to anybody yet.
            State::CookieWait => self.end(None),
            State::CookieEchoed => {
                self.abort_with(ErrorCause::UserInitiatedAbort(Bytes::new()));
                self.end(None);
            }
            State::Established => {
                self.state = State::ShutdownPending;
                self.timers.autoclose = None;
                self.sender.drain();
                self.dirty = true;
                self.continue_shutdown(now);
            }
            _ => {}
        }
    }

    /// Ends the association at once; the peer is told why (9.1).
    pub fn abort(&mut self, reason: Bytes) {
        if self.state == State::Closed {
            return;
        }
        if self.state != State::CookieWait {
            self.abort_with(ErrorCause::UserInitiatedAbort(reason));
        }
        self.end(None);
    }

    /// Goes on with a shutdown when everything is acknowledged.
    pub(super) fn continue_shutdown(&mut self, now: Instant) {
        if !self.sender.is_empty() {
            return;
        }
        match self.state {
            State::ShutdownPending => {
                self.state = State::ShutdownSent;
                self.pending.shutdown = true;
                self.timers.t5 = Some(now + self.config.shutdown_guard);
            }
            State::ShutdownReceived => {
                self.state = State::ShutdownAckSent;
                self.pending.shutdown_ack = true;
            }
            _ => return,
        }
        self.paths.stop_heartbeats();
        self.arm_t2(now);
        self.dirty = true;
    }

    /// SHUTDOWN (9.2).
    pub(super) fn handle_shutdown(
        &mut self,
        now: Instant,
        cumulative_tsn_ack: u32,
    ) -> Result<(), ErrorCause> {
        match self.state {
            State::Established | State::ShutdownPending | State::ShutdownReceived => {
                self.handle_cumulative_ack(now, cumulative_tsn_ack)?;
                if self.state != State::ShutdownReceived {
                    self.state = State::ShutdownReceived;
                    self.timers.autoclose = None;
                    self.sender.drain();
                    self.events.push(Notification::ShutdownEvent);
                    self.readiness |= Readiness::READABLE | Readiness::READ_CLOSED;
                }
                self.dirty = true;
                self.continue_shutdown(now);
            }
            State::ShutdownSent => {
                // Both ends at once.
                self.state = State::ShutdownAckSent;
                self.pending.shutdown = false;
                self.pending.shutdown_ack = true;
                self.arm_t2(now);
                self.dirty = true;
            }
            State::ShutdownAckSent => {
                self.pending.shutdown_ack = true;
                self.dirty = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// SHUTDOWN ACK (9.2).
    pub(super) fn handle_shutdown_ack(&mut self) {
        if matches!(self.state, State::ShutdownSent | State::ShutdownAckSent) {
            self.pending.shutdown_complete = true;
            self.end(None);
        }
    }

    /// SHUTDOWN COMPLETE (9.2).
    pub(super) fn handle_shutdown_complete(&mut self) {
        if self.state == State::ShutdownAckSent {
            self.end(None);
        }
    }

    /// ABORT (9.1).
    pub(super) fn handle_abort(&mut self, causes: &Causes) {
        for cause in causes.iter().flatten() {
            self.events.push(Notification::RemoteError(cause));
        }
        let opening = matches!(self.state, State::CookieWait | State::CookieEchoed);
        self.fail(if opening {
            SocketError::ConnectionRefused
        } else {
            SocketError::ConnectionReset
        });
    }

    /// The peer has broken the protocol: it is told with an ABORT, and the association is over.
    pub(super) fn violation(&mut self, cause: ErrorCause) {
        if self.state == State::Closed {
            return;
        }
        tracing::debug!(?cause, "aborted");
        if self.peer_tag != 0 {
            self.abort_with(cause);
        }
        self.fail(SocketError::ConnectionAborted);
    }

    /// The association is over: in order, or by an error.
    pub(super) fn end(&mut self, error: Option<SocketError>) {
        if self.state == State::Closed {
            return;
        }
        let was = std::mem::replace(&mut self.state, State::Closed);
        tracing::debug!(?was, ?error, "ended");
        self.timers = super::Timers::default();
        self.paths.stop_heartbeats();
        while let Some(message) = self.sender.pop_failed(&mut self.paths) {
            self.events.push(Notification::SendFailed(message));
        }
        if let Some(stream) = self.receiver.partially_delivered() {
            self.events
                .push(Notification::PartialDeliveryAborted { stream });
        }
        let opening = matches!(was, State::CookieWait | State::CookieEchoed);
        let change = match error {
            None => AssociationChange::ShutdownComplete,
            Some(error) if opening => AssociationChange::CannotStart(error),
            Some(error) => AssociationChange::CommunicationLost(error),
        };
        self.events.push(Notification::AssociationChange(change));
        self.error = error;
        self.readiness |= Readiness::READABLE
            | Readiness::WRITABLE
            | Readiness::READ_CLOSED
            | Readiness::WRITE_CLOSED;
        if error.is_some() {
            self.readiness |= Readiness::ERROR;
        }
        self.dirty = true;
    }
}
