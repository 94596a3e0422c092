//! ERROR and ABORT, both ways, and chunks that are unknown or cannot be read (RFC 9260 3.2, 3.3.7, 3.3.10, 6.2).

use bytes::Bytes;

use crate::error::SocketError;
use crate::sctp::association::capabilities::{abort, unreadable};
use crate::sctp::association::input::{Arrival, Step};
use crate::sctp::association::shutdown::End;
use crate::sctp::association::{Association, Notification, State};
use crate::sctp::packet::Reply;
use crate::time::Instant;
use crate::wire::sctp::{
    BadChunk, CHUNK_HEADER_LEN, Causes, ChunkError, ErrorCause, UnknownChunk, kind,
};

impl Association {
    /// ERROR (3.3.10): nothing but a stale cookie has consequences here.
    pub(super) fn handle_error(&mut self, now: Instant, causes: &Causes) {
        if self.state == State::CookieWait {
            return;
        }
        for cause in causes.iter().flatten().take(MAX_CAUSES) {
            if let ErrorCause::StaleCookie { .. } = cause {
                // 5.2.6: of no meaning but while a cookie is out.
                self.handle_stale_cookie(now);
                if self.state != State::CookieEchoed {
                    return;
                }
                continue;
            }
            self.notify(Notification::RemoteError(cause));
        }
    }

    /// ABORT (9.1): never answered.
    pub(super) fn handle_abort(&mut self, causes: Causes) {
        // As Linux: who is not there refuses, who was there resets.
        let error = if self.state.is_opening() {
            SocketError::ConnectionRefused
        } else {
            SocketError::ConnectionReset
        };
        self.end(End::Failed {
            error: Some(error),
            causes,
        });
    }

    /// The peer has broken the protocol: it is told with an ABORT, and the association is over.
    pub(super) fn violation(&mut self, cause: ErrorCause) {
        if self.state == State::Closed {
            return;
        }
        tracing::debug!(?cause, "the peer breaks the protocol");
        let error = if self.state.is_opening() {
            SocketError::ConnectionRefused
        } else {
            SocketError::ConnectionAborted
        };
        self.abort_with(Some(error), cause);
    }

    /// Ends the association with an ABORT.
    pub(super) fn abort_with(&mut self, error: Option<SocketError>, cause: ErrorCause) {
        let causes = Causes::from_iter([self.shortened(cause)]);
        // 8.5.1 B: without the peer's tag there is nobody to tell.
        let told = (self.peer_tag != 0).then(|| causes.clone());
        self.end(End::Failed { error, causes });
        self.pending.abort = told;
        self.dirty = true;
    }

    /// An ERROR with this cause is to be sent, if the peer can be told.
    pub(super) fn report(&mut self, cause: ErrorCause) {
        if self.pending.errors.len() < MAX_CAUSES && self.peer_tag != 0 {
            let cause = self.shortened(cause);
            self.pending.errors.push_back(cause);
            self.dirty = true;
        }
    }

    /// A cause that fits a packet: what the peer has sent in one that IP had to fragment is quoted in part.
    fn shortened(&self, cause: ErrorCause) -> ErrorCause {
        let path = self.paths.get(self.paths.primary());
        let max = path.pmdcs() - CHUNK_HEADER_LEN - CAUSE_HEADER_LEN;
        let cut = |octets: Bytes| octets.slice(..octets.len().min(max));
        match cause {
            ErrorCause::UnrecognizedChunkType(octets) => {
                ErrorCause::UnrecognizedChunkType(cut(octets))
            }
            ErrorCause::UnrecognizedParameters(octets) => {
                ErrorCause::UnrecognizedParameters(cut(octets))
            }
            ErrorCause::UserInitiatedAbort(octets) => ErrorCause::UserInitiatedAbort(cut(octets)),
            other => other,
        }
    }

    /// A chunk of a type that is not known here (3.2, table 2).
    pub(super) fn handle_unknown(&mut self, chunk: UnknownChunk) -> Step {
        let action = chunk.action();
        if action.report {
            self.report(ErrorCause::UnrecognizedChunkType(chunk.whole));
        }
        if action.stop { Step::Stop } else { Step::Next }
    }

    /// A chunk that is not what its type says.
    pub(super) fn handle_bad_chunk(&mut self, arrival: &Arrival<'_>, bad: BadChunk) -> Step {
        match (bad.kind, bad.error) {
            // 6.2, 3.3.10.9.
            (kind::DATA, ChunkError::NoUserData { tsn }) => {
                if self.state.takes_data() {
                    self.violation(ErrorCause::NoUserData { tsn });
                }
                Step::Stop
            }
            // 5.1: told with the tag that the INIT asks for; it never ends what is there.
            (kind::INIT, _) => {
                if let Some((tag, cause)) = unreadable(&bad) {
                    self.reply(Reply::new(arrival.info, arrival.header, tag, abort(cause)));
                }
                Step::Stop
            }
            // 5.1, 5.2.3: an INIT ACK that cannot be used ends the attempt, at any other time it is of no use.
            (kind::INIT_ACK, _) if self.state == State::CookieWait && arrival.alone => {
                if let Some((tag, cause)) = unreadable(&bad) {
                    self.peer_tag = tag;
                    self.violation(cause);
                }
                Step::Stop
            }
            // 6.10: a chunk that is not all there is dropped, and with it what could only be guessed; 3.3.7: an ABORT with
            // a format error above all.
            (_, ChunkError::Length) => Step::Stop,
            _ => Step::Next,
        }
    }
}

/// Causes that are looked at in one ERROR, and that wait to be reported.
const MAX_CAUSES: usize = 8;

/// Octets of a cause before its information.
const CAUSE_HEADER_LEN: usize = 4;
