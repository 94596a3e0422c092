//! Messages and notifications of an association.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use futures::stream;

use super::association::SctpAssociation;
use crate::engine::ready_cache::Direction;
use crate::engine::sctp_sockets::SctpSocket;
use crate::engine::slot::SlotState;
use crate::error::{SocketError, SocketResult};
use crate::sctp::association::{Notification, State};
use crate::sctp::{SctpMessage, SendOptions};
use crate::transport::Readiness;

/// What can be waited for to tell notifications: one of them, or the end, after which there are none.
pub(super) const EVENT: Readiness = Readiness::PRIORITY.union(Readiness::WRITE_CLOSED);

fn next_event(state: &mut SlotState<SctpSocket>) -> SocketResult<Option<Notification>> {
    let association = &mut state.socket.association;
    match association.poll_event() {
        Some(event) => Ok(Some(event)),
        None if association.state() == State::Closed => Ok(None),
        None => {
            state.ready.clear(Readiness::PRIORITY);
            Err(SocketError::WouldBlock)
        }
    }
}

impl SctpAssociation {
    /// Sends a message. Waits while the send buffer is full; when it returns, the message is queued, and will be delivered
    /// or given back in a [`Notification::SendFailed`].
    ///
    /// # Errors
    /// `BrokenPipe` (EPIPE) once this side or the peer has shut down; EMSGSIZE for a message longer than
    /// [`max_message_size`](crate::sctp::send::SendConfig::max_message_size) or, with [`set_disable_fragments`](Self::set_disable_fragments),
    /// than a packet; `InvalidInput` (EINVAL) for a stream that does not exist and for a message without data; or why the
    /// association has failed, once.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is done, nothing was queued, and the message is dropped with it.
    pub async fn send(&self, message: impl Into<Bytes>, options: SendOptions) -> io::Result<()> {
        let mut message = message.into();
        self.io
            .async_op(Direction::Write.mask(), |state| {
                let association = &mut state.socket.association;
                association.send_from(&mut message, &options)
            })
            .await
    }

    /// Sends a message with what [`set_default_send`](Self::set_default_send) says (`SCTP_DEFAULT_SNDINFO`).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    /// As [`send`](Self::send).
    pub async fn send_default(&self, message: impl Into<Bytes>) -> io::Result<()> {
        let options = self.default_send();
        self.send(message, options).await
    }

    /// Sends a message if there is room.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; else as [`send`](Self::send).
    pub fn try_send(&self, message: impl Into<Bytes>, options: SendOptions) -> io::Result<()> {
        let message = message.into();
        self.io.try_op(Direction::Write.mask(), |state| {
            state.socket.association.send(message, &options)
        })
    }

    /// Polls to send a message, which is taken by the call that returns `Ready`. Only the task of the last call to this or
    /// [`poll_send_ready`](Self::poll_send_ready) is woken.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn poll_send(
        &self,
        cx: &mut Context<'_>,
        message: &Bytes,
        options: SendOptions,
    ) -> Poll<io::Result<()>> {
        self.io.poll_op(cx, Direction::Write, |state| {
            let association = &mut state.socket.association;
            association.send(message.clone(), &options)
        })
    }

    /// Receives the next message of any stream; `None` once the peer has shut down and everything is read.
    ///
    /// A message that is too large for the receive buffer comes in parts: all but the last are without
    /// [`end_of_record`](SctpMessage::end_of_record).
    ///
    /// # Errors
    /// Why the association has failed, once: `ConnectionReset` after the peer's ABORT, `TimedOut`, `HostUnreachable` …
    ///
    /// # Cancel safety
    /// Cancel safe: a message is taken only by the poll that returns it.
    pub async fn recv(&self) -> io::Result<Option<SctpMessage>> {
        self.io
            .async_op(Direction::Read.mask(), |state| {
                state.socket.association.recv(usize::MAX)
            })
            .await
    }

    /// The same, with at most `max_len` octets: what is left of the message is received next.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    /// As [`recv`](Self::recv).
    pub async fn recv_at_most(&self, max_len: usize) -> io::Result<Option<SctpMessage>> {
        self.io
            .async_op(Direction::Read.mask(), |state| {
                state.socket.association.recv(max_len)
            })
            .await
    }

    /// Receives a message if there is one.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; else as [`recv`](Self::recv).
    pub fn try_recv(&self) -> io::Result<Option<SctpMessage>> {
        self.io.try_op(Direction::Read.mask(), |state| {
            state.socket.association.recv(usize::MAX)
        })
    }

    /// Polls for a message. Only the task of the last call to this or [`poll_recv_ready`](Self::poll_recv_ready) is woken.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<SctpMessage>>> {
        self.io.poll_op(cx, Direction::Read, |state| {
            state.socket.association.recv(usize::MAX)
        })
    }

    /// Waits for the next notification; `None` once the association is over and all are told. Which ones there are is told
    /// by [`subscribe`](Self::subscribe); the oldest are dropped when nobody reads them.
    ///
    /// # Errors
    /// When the stack has ended.
    ///
    /// # Cancel safety
    /// Cancel safe: a notification is taken only by the poll that returns it.
    pub async fn event(&self) -> io::Result<Option<Notification>> {
        self.io.async_op(EVENT, next_event).await
    }

    /// Takes a notification, if there is one; `None` once the association is over and all are told.
    ///
    /// # Errors
    /// `WouldBlock` if there is none yet.
    pub fn try_event(&self) -> io::Result<Option<Notification>> {
        self.io.try_op(EVENT, next_event)
    }

    /// The notifications as a stream, which ends with the association.
    pub fn events(&self) -> impl Stream<Item = Notification> + '_ {
        stream::unfold(self, |association| async move {
            let event = association.event().await.ok().flatten()?;
            Some((event, association))
        })
    }
}
