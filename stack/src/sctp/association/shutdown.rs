//! The end of an association: SHUTDOWN in every order, abort, letting go, failure (RFC 9260 9).

use std::time::Duration;

use bytes::Bytes;

use crate::error::SocketError;
use crate::sctp::association::output::Pending;
use crate::sctp::association::timers::Timers;
use crate::sctp::association::{Association, AssociationChange, Notification, State};
use crate::time::Instant;
use crate::transport::Readiness;
use crate::wire::sctp::{Causes, ErrorCause};

/// How an association ends.
#[derive(Debug)]
pub(super) enum End {
    /// In order.
    Complete,
    /// Otherwise.
    Failed {
        /// What operations report; `None` if the user has asked for it.
        error: Option<SocketError>,
        /// What was told or heard with the ABORT, if there was one.
        causes: Causes,
    },
}

impl End {
    /// Without an ABORT.
    pub(super) fn failed(error: SocketError) -> Self {
        Self::Failed {
            error: Some(error),
            causes: Causes::default(),
        }
    }
}

impl Association {
    /// Ends the association once everything queued is delivered (9.2). Nothing can be queued any more; what the peer still
    /// has to send can be read.
    pub fn shutdown(&mut self, now: Instant) {
        match self.state {
            // Nothing is promised to anybody yet.
            State::CookieWait if self.sender.is_empty() => self.end(End::Complete),
            State::CookieWait | State::CookieEchoed => {
                if let Some(handshake) = &mut self.handshake {
                    handshake.shutdown_when_established = true;
                    self.readiness |= Readiness::WRITABLE;
                }
            }
            State::Established => {
                self.state = State::ShutdownPending;
                self.sender.drain();
                self.readiness |= Readiness::WRITABLE;
                self.dirty = true;
                self.continue_shutdown(now);
            }
            // 9.2: SHUTDOWN-RECEIVED ignores the user's wish; it ends anyway.
            State::ShutdownPending
            | State::ShutdownSent
            | State::ShutdownReceived
            | State::ShutdownAckSent
            | State::Closed => {}
        }
    }

    /// Ends the association at once; the peer is told why (9.1).
    pub fn abort(&mut self, reason: Bytes) {
        if self.state != State::Closed {
            self.abort_with(None, ErrorCause::UserInitiatedAbort(reason));
        }
    }

    /// The owner lets go, as Linux's `close` does it. What is queued is delivered in the background, for as long as `linger`
    /// or else T5 permits; unread messages, or a `linger` of zero, abort the association.
    pub fn close(&mut self, now: Instant, linger: Option<Duration>) {
        if self.orphan {
            return;
        }
        let unread = self.receiver.has_messages() || !self.retained.is_empty();
        self.orphan = true;
        self.retained.clear();
        if self.state == State::Closed {
            return;
        }
        if unread || linger == Some(Duration::ZERO) {
            self.abort(Bytes::new());
            return;
        }
        self.shutdown(now);
        if self.state != State::Closed {
            self.timers.t5 = Some(now + linger.unwrap_or(self.config.shutdown_guard));
        }
    }

    /// The interface or the stack has ended: no packet can be sent any more.
    pub fn fail(&mut self, error: SocketError) {
        self.end(End::failed(error));
        self.pending = Pending::default();
        self.dirty = false;
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
                let guard = now + self.config.shutdown_guard;
                self.timers.t5.get_or_insert(guard);
            }
            State::ShutdownReceived => self.acknowledge_shutdown(),
            _ => return,
        }
        self.paths.stop_heartbeats();
        self.timers.t2_path = Some(self.control_path());
        self.start_t2(now);
        self.dirty = true;
    }

    /// SHUTDOWN-ACK-SENT.
    fn acknowledge_shutdown(&mut self) {
        self.state = State::ShutdownAckSent;
        self.pending.shutdown = false;
        self.pending.shutdown_ack = true;
        self.dirty = true;
    }

    /// SHUTDOWN (9.2).
    pub(super) fn handle_shutdown(&mut self, now: Instant, cumulative_tsn_ack: u32) {
        match self.state {
            State::Established | State::ShutdownPending => {
                // The state first: what follows the acknowledgment is that of SHUTDOWN-RECEIVED.
                self.state = State::ShutdownReceived;
                self.sender.drain();
                self.notify(Notification::ShutdownEvent);
                self.readiness |=
                    Readiness::READABLE | Readiness::READ_CLOSED | Readiness::WRITABLE;
                self.dirty = true;
                if self.take_cumulative_ack(now, cumulative_tsn_ack) {
                    self.continue_shutdown(now);
                }
            }
            State::ShutdownReceived => {
                self.take_cumulative_ack(now, cumulative_tsn_ack);
            }
            State::ShutdownSent => {
                // Both ends at once: there is nothing more to read, either.
                self.acknowledge_shutdown();
                self.readiness |= Readiness::READABLE | Readiness::READ_CLOSED;
                self.start_t2(now);
            }
            // The SHUTDOWN ACK was lost.
            State::ShutdownAckSent => {
                self.pending.shutdown_ack = true;
                self.dirty = true;
            }
            State::CookieWait | State::CookieEchoed | State::Closed => {}
        }
    }

    /// SHUTDOWN ACK (9.2). One that answers nothing means nothing.
    pub(super) fn handle_shutdown_ack(&mut self) {
        if matches!(self.state, State::ShutdownSent | State::ShutdownAckSent) {
            self.end(End::Complete);
            self.pending.shutdown_complete = true;
        }
    }

    /// SHUTDOWN COMPLETE (9.2, 8.5.1 C), which has to be `alone` in its packet (6.10): Linux aborts otherwise, and so do we.
    pub(super) fn handle_shutdown_complete(&mut self, alone: bool) {
        if self.state != State::ShutdownAckSent {
            return;
        }
        if alone {
            self.end(End::Complete);
        } else {
            let words = Bytes::from_static(b"SHUTDOWN COMPLETE with other chunks");
            self.violation(ErrorCause::ProtocolViolation(words));
        }
    }

    /// The association is over. An ABORT or SHUTDOWN COMPLETE may still be marked to be sent afterwards.
    pub(super) fn end(&mut self, end: End) {
        if self.state == State::Closed {
            return;
        }
        let was = std::mem::replace(&mut self.state, State::Closed);
        tracing::debug!(?was, ?end, "ended");
        self.timers = Timers::default();
        self.handshake = None;
        // Told only of a peer that is given up, and then it was taken.
        self.soft_error = None;
        self.paths.stop_heartbeats();
        // Answers with tags of their own are still owed.
        self.pending = Pending {
            replies: std::mem::take(&mut self.pending.replies),
            ..Pending::default()
        };
        self.give_back_undelivered();
        if let Some(stream) = self.receiver.partially_delivered() {
            self.notify(Notification::PartialDeliveryAborted { stream });
        }
        self.notify_path_changes();
        let change = match end {
            End::Complete => AssociationChange::ShutdownComplete,
            End::Failed { error, causes } => {
                self.error = error;
                if error.is_some() {
                    self.readiness |= Readiness::ERROR;
                }
                if was.is_opening() {
                    AssociationChange::CannotStart { error, causes }
                } else {
                    AssociationChange::CommunicationLost { error, causes }
                }
            }
        };
        self.notify_change(change);
        self.readiness |= Readiness::READABLE
            | Readiness::WRITABLE
            | Readiness::READ_CLOSED
            | Readiness::WRITE_CLOSED;
        self.dirty = true;
    }
}
