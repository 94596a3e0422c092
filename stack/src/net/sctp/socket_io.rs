//! Messages and notifications of a one-to-many socket.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;
use futures::stream;
use tokio::io::{Interest, Ready};

use super::association_io::EVENT;
use super::socket::SctpSocket;
use crate::engine::WakeList;
use crate::engine::ready_cache::Direction;
use crate::engine::sctp_one_to_many::AssociationId;
use crate::engine::sctp_sockets::SctpSocket as Association;
use crate::error::{SocketError, SocketResult};
use crate::net::lookup::ToSocketAddrs;
use crate::net::readiness::Io;
use crate::sctp::association::Notification;
use crate::sctp::{SctpMessage, SendOptions};
use crate::transport::Readiness;

/// What is to be done about a message to a peer's address.
enum Outgoing {
    /// It waits for the association that was opened for it.
    Queued(AssociationId),
    /// There is an association.
    To(AssociationId, Io<Association>),
}

impl SctpSocket {
    /// Sends a message to the peer that has this address, the first one that a name yields. Sets an association up if there
    /// is none (RFC 6458 7.5): the message waits for it, and comes back in a [`Notification::SendFailed`] if nothing comes of
    /// it. Waits while the association's send buffer is full.
    ///
    /// # Errors
    /// As [`send`](Self::send), and, when an association has to be set up, as [`connect`](Self::connect), as far as that is
    /// known at once. Nothing is set up for a message that is refused.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is done, nothing was queued, and the message is dropped with it.
    pub async fn send_to<A: ToSocketAddrs>(
        &self,
        message: impl Into<Bytes>,
        peer: A,
        options: SendOptions,
    ) -> io::Result<AssociationId> {
        let message = message.into();
        let peer = self.peers(peer).await?[0];
        match self.outgoing(peer, &message, &options)? {
            Outgoing::Queued(id) => Ok(id),
            Outgoing::To(id, association) => {
                let mask = Direction::Write.mask();
                let sent = association.async_op(mask, |state| {
                    state.socket.send_as_member(message.clone(), &options)
                });
                sent.await.map(|()| id)
            }
        }
    }

    /// The same, if there is room.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; else as [`send_to`](Self::send_to).
    pub fn try_send_to(
        &self,
        message: impl Into<Bytes>,
        peer: SocketAddr,
        options: SendOptions,
    ) -> io::Result<AssociationId> {
        let message = message.into();
        match self.outgoing(peer, &message, &options)? {
            Outgoing::Queued(id) => Ok(id),
            Outgoing::To(id, association) => {
                let mask = Direction::Write.mask();
                let sent = association
                    .try_op(mask, |state| state.socket.send_as_member(message, &options));
                sent.map(|()| id)
            }
        }
    }

    /// Polls to send a message to the peer that has this address; it is taken by the call that returns `Ready`. Only the task
    /// of the last call to this, [`poll_send`](Self::poll_send) or [`poll_send_ready`](Self::poll_send_ready) for the
    /// same association is woken.
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to).
    pub fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        message: &Bytes,
        peer: SocketAddr,
        options: SendOptions,
    ) -> Poll<io::Result<AssociationId>> {
        match self.outgoing(peer, message, &options)? {
            Outgoing::Queued(id) => Poll::Ready(Ok(id)),
            Outgoing::To(id, association) => {
                let sent = association.poll_op(cx, Direction::Write, |state| {
                    state.socket.send_as_member(message.clone(), &options)
                });
                Poll::Ready(ready!(sent).map(|()| id))
            }
        }
    }

    /// The association with a peer; if there is none, one is opened with the message.
    fn outgoing(
        &self,
        peer: SocketAddr,
        message: &Bytes,
        options: &SendOptions,
    ) -> SocketResult<Outgoing> {
        if let Some(known) = self.known(peer)? {
            return Ok(known);
        }
        let first = Some((message.clone(), options));
        let shared = self.io.shared();
        match shared.sctp_open_member(self.io.slot(), &[peer], first) {
            Ok((id, _)) => Ok(Outgoing::Queued(id)),
            // Perhaps since somebody else has opened one in this moment.
            Err(SocketError::AddressNotAvailable) => {
                self.known(peer)?.ok_or(SocketError::AddressNotAvailable)
            }
            Err(error) => Err(error),
        }
    }

    fn known(&self, peer: SocketAddr) -> SocketResult<Option<Outgoing>> {
        let shared = self.io.shared();
        let found = shared.engine().sctp_member(self.io.slot(), peer)?;
        Ok(found.map(|(id, slot)| Outgoing::To(id, Io::new(Arc::clone(shared), slot))))
    }

    /// Sends a message to an association. Waits while its send buffer is full, however much room others have; when it
    /// returns, the message is queued, and will be delivered or given back in a [`Notification::SendFailed`].
    ///
    /// # Errors
    /// `BrokenPipe` (EPIPE) if the socket has no such association, ESHUTDOWN once this side or the peer has shut it down;
    /// EMSGSIZE for a message longer than [`max_message_size`](crate::sctp::send::SendConfig::max_message_size) or, with
    /// `SCTP_DISABLE_FRAGMENTS`, than a packet; `InvalidInput` (EINVAL) for a stream that does not exist and for a message
    /// without data.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is done, nothing was queued, and the message is dropped with it.
    pub async fn send(
        &self,
        id: AssociationId,
        message: impl Into<Bytes>,
        options: SendOptions,
    ) -> io::Result<()> {
        let message = message.into();
        let association = self.member(id, SocketError::BrokenPipe)?;
        let sent = association.async_op(Direction::Write.mask(), |state| {
            state.socket.send_as_member(message.clone(), &options)
        });
        sent.await
    }

    /// Sends a message to an association, if there is room.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; else as [`send`](Self::send).
    pub fn try_send(
        &self,
        id: AssociationId,
        message: impl Into<Bytes>,
        options: SendOptions,
    ) -> io::Result<()> {
        let message = message.into();
        let association = self.member(id, SocketError::BrokenPipe)?;
        association.try_op(Direction::Write.mask(), |state| {
            state.socket.send_as_member(message, &options)
        })
    }

    /// Polls to send a message to an association, which is taken by the call that returns `Ready`. Only the task of the last
    /// call to this, [`poll_send_to`](Self::poll_send_to) or [`poll_send_ready`](Self::poll_send_ready) for the same
    /// association is woken.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn poll_send(
        &self,
        cx: &mut Context<'_>,
        id: AssociationId,
        message: &Bytes,
        options: SendOptions,
    ) -> Poll<io::Result<()>> {
        let association = self.member(id, SocketError::BrokenPipe)?;
        association.poll_op(cx, Direction::Write, |state| {
            state.socket.send_as_member(message.clone(), &options)
        })
    }

    /// Receives a message, with its association and that one's primary peer address. Associations that have messages are
    /// served in turn, one message each.
    ///
    /// A message that is too large for the receive buffer comes in parts: all but the last are without
    /// [`end_of_record`](SctpMessage::end_of_record). Messages of other associations may come between them (level 1 of RFC
    /// 6458 8.1.20).
    ///
    /// # Errors
    /// When the stack has ended. The end of an association is told by its notifications alone.
    ///
    /// # Cancel safety
    /// Cancel safe: a message is taken only by the poll that returns it.
    pub async fn recv(&self) -> io::Result<(AssociationId, SocketAddr, SctpMessage)> {
        let mask = Direction::Read.mask();
        self.io.async_io(mask, || self.recv_now()).await
    }

    /// Receives a message, if there is one.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; else as [`recv`](Self::recv).
    pub fn try_recv(&self) -> io::Result<(AssociationId, SocketAddr, SctpMessage)> {
        self.io.try_io(Direction::Read.mask(), || self.recv_now())
    }

    /// Polls for a message. Only the task of the last call to this or [`poll_recv_ready`](Self::poll_recv_ready) is woken.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn poll_recv(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(AssociationId, SocketAddr, SctpMessage)>> {
        self.io.poll_io(cx, Direction::Read, || self.recv_now())
    }

    fn recv_now(&self) -> io::Result<(AssociationId, SocketAddr, SctpMessage)> {
        let (id, (peer, message)) = self.take(Readiness::READABLE, Association::recv_as_member)?;
        Ok((id, peer, message))
    }

    /// Waits for the next notification of any association. Which ones there are is told by `SCTP_EVENT`
    /// ([`set_option`](Self::set_option)); an association's oldest are dropped when nobody reads them, and so are all of one
    /// that has ended when 256 others have ended since.
    ///
    /// # Errors
    /// When the stack has ended.
    ///
    /// # Cancel safety
    /// Cancel safe: a notification is taken only by the poll that returns it.
    pub async fn event(&self) -> io::Result<(AssociationId, Notification)> {
        self.io.async_io(EVENT, || self.event_now()).await
    }

    /// Takes a notification, if there is one.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; else as [`event`](Self::event).
    pub fn try_event(&self) -> io::Result<(AssociationId, Notification)> {
        self.io.try_io(EVENT, || self.event_now())
    }

    /// The notifications as a stream, which ends with the stack.
    pub fn events(&self) -> impl Stream<Item = (AssociationId, Notification)> + '_ {
        stream::unfold(self, |socket| async move {
            let event = socket.event().await.ok()?;
            Some((event, socket))
        })
    }

    fn event_now(&self) -> io::Result<(AssociationId, Notification)> {
        self.take(Readiness::PRIORITY, Association::event_as_member)
    }

    /// Takes one thing of the next association that has such.
    fn take<R>(
        &self,
        what: Readiness,
        take: impl Fn(&mut Association, AssociationId, &mut WakeList) -> Option<R>,
    ) -> io::Result<(AssociationId, R)> {
        loop {
            let (id, slot) = self.io.lock().socket.next(what)?;
            let association = Io::new(Arc::clone(self.io.shared()), slot);
            let mut wakes = WakeList::new();
            let taken = association.command(|state| take(&mut state.socket, id, &mut wakes));
            wakes.wake_all();
            if let Some(taken) = taken {
                return Ok((id, taken));
            }
        }
    }

    /// Waits until the socket is ready for any of an interest. It is always ready for writing: whether an association has
    /// room is told by [`writable`](Self::writable).
    ///
    /// Readiness is a hint: an operation may still return `WouldBlock`, and then the wait starts anew.
    ///
    /// # Errors
    /// When the stack has ended.
    ///
    /// # Cancel safety
    /// Cancel safe: a readiness that was there stays until an operation returns `WouldBlock`.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        self.io.ready(interest).await
    }

    /// Waits until a message of any association can be received.
    ///
    /// # Errors
    /// When the stack has ended.
    ///
    /// # Cancel safety
    /// Cancel safe, as [`ready`](Self::ready).
    pub async fn readable(&self) -> io::Result<()> {
        self.ready(Interest::READABLE).await?;
        Ok(())
    }

    /// Waits until something can be sent to an association.
    ///
    /// # Errors
    /// `BrokenPipe` (EPIPE) if the socket has no such association; when the stack has ended.
    ///
    /// # Cancel safety
    /// Cancel safe, as [`ready`](Self::ready).
    pub async fn writable(&self, id: AssociationId) -> io::Result<()> {
        let association = self.member(id, SocketError::BrokenPipe)?;
        association.ready(Interest::WRITABLE).await?;
        Ok(())
    }

    /// Polls for a message to receive. Only the task of the last call to this or [`poll_recv`](Self::poll_recv) is woken.
    ///
    /// # Errors
    /// When the stack has ended.
    pub fn poll_recv_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_ready(cx, Direction::Read)
    }

    /// Polls for room to send to an association. Only the task of the last call to this, [`poll_send`](Self::poll_send) or
    /// [`poll_send_to`](Self::poll_send_to) for the same association is woken.
    ///
    /// # Errors
    /// As [`writable`](Self::writable).
    pub fn poll_send_ready(&self, cx: &mut Context<'_>, id: AssociationId) -> Poll<io::Result<()>> {
        let association = self.member(id, SocketError::BrokenPipe)?;
        association.poll_ready(cx, Direction::Write)
    }
}
