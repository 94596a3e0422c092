//! Receiving and peeking.
//!
//! Under the slot's lock a datagram is copied into the caller's plain buffers only. Other buffers ([`ReadBuf`], which
//! need not be initialized, and [`BufMut`], which has code of its own) take it after the lock is released.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes};
use tokio::io::{Interest, ReadBuf};

use super::UdpSocket;
use crate::engine::ready_cache::Direction;
use crate::engine::slot::SlotState;
use crate::engine::sockets::UdpSocket as Datagrams;
use crate::error::SocketResult;
use crate::net::readiness::{self, READ_OR_ERROR};
use crate::transport::Readiness;

type State = SlotState<Datagrams>;

fn receive(state: &mut State, buf: &mut [u8]) -> SocketResult<(usize, SocketAddr)> {
    let received = state.socket.socket.recv(buf)?;
    Ok((received.len, state.socket.shown(received.source)))
}

/// A whole datagram, for buffers that are filled outside the lock.
fn receive_bytes(state: &mut State) -> SocketResult<(Bytes, SocketAddr)> {
    let (bytes, received) = state.socket.socket.recv_bytes()?;
    Ok((bytes, state.socket.shown(received.source)))
}

fn peek(state: &mut State, buf: &mut [u8]) -> SocketResult<(usize, SocketAddr)> {
    let received = state.socket.socket.peek(buf)?;
    Ok((received.len, state.socket.shown(received.source)))
}

fn peek_sender(state: &mut State) -> SocketResult<SocketAddr> {
    let sender = state.socket.socket.peek_sender()?;
    Ok(state.socket.shown(sender))
}

/// As much of a datagram as the buffer's next chunk holds; tokio's methods fill no more.
fn put<B: BufMut>(buf: &mut B, datagram: &[u8]) -> usize {
    let len = datagram.len().min(buf.chunk_mut().len());
    buf.put_slice(&datagram[..len]);
    len
}

fn put_read_buf(buf: &mut ReadBuf<'_>, datagram: &[u8]) {
    let len = datagram.len().min(buf.remaining());
    buf.put_slice(&datagram[..len]);
}

fn readable() -> Readiness {
    readiness::mask(Interest::READABLE)
}

impl UdpSocket {
    /// Receives a datagram, of the peer if [connected](Self::connect); gives its length. What does not fit is lost.
    ///
    /// # Errors
    /// What the network said of a datagram sent to the peer, once (`ConnectionRefused`).
    ///
    /// # Cancel safety
    /// Cancel safe: a datagram is taken only by the poll that returns it.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        let (len, _) = self.recv_from(buf).await?;
        Ok(len)
    }

    /// Polls to receive a datagram. Only the task of the last call to a receiving `poll_` method is woken.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_recv_from(cx, buf).map_ok(|_| ())
    }

    /// Tries to receive a datagram without waiting.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and `WouldBlock` when nothing waits.
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.try_recv_from(buf).map(|(len, _)| len)
    }

    /// Tries to receive a datagram into a growing buffer, at most as much as its next chunk holds.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv).
    pub fn try_recv_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        self.try_recv_buf_from(buf).map(|(len, _)| len)
    }

    /// Receives a datagram into a growing buffer, at most as much as its next chunk holds.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    /// Cancel safe, as [`recv`](Self::recv).
    pub async fn recv_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        let (len, _) = self.recv_buf_from(buf).await?;
        Ok(len)
    }

    /// Tries to receive a datagram and its sender into a growing buffer, at most as much as its next chunk holds.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv).
    pub fn try_recv_buf_from<B: BufMut>(&self, buf: &mut B) -> io::Result<(usize, SocketAddr)> {
        let (datagram, sender) = self.io.try_op(readable(), receive_bytes)?;
        Ok((put(buf, &datagram), sender))
    }

    /// Receives a datagram and its sender into a growing buffer, at most as much as its next chunk holds.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    /// Cancel safe, as [`recv`](Self::recv).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use tidewire::net::UdpSocket;
    ///
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// socket.send_to(b"hello", socket.local_addr()?).await?;
    /// let mut buffer = Vec::with_capacity(2048);
    /// let (len, sender) = socket.recv_buf_from(&mut buffer).await?;
    /// assert_eq!((len, sender), (5, socket.local_addr()?));
    /// assert_eq!(buffer, b"hello");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn recv_buf_from<B: BufMut>(&self, buf: &mut B) -> io::Result<(usize, SocketAddr)> {
        let (datagram, sender) = self.io.async_op(READ_OR_ERROR, receive_bytes).await?;
        Ok((put(buf, &datagram), sender))
    }

    /// Receives a datagram; gives its length and its sender. What does not fit is lost.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    /// Cancel safe: a datagram is taken only by the poll that returns it.
    pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io
            .async_op(READ_OR_ERROR, |state| receive(state, buf))
            .await
    }

    /// Polls to receive a datagram; gives its sender. Only the task of the last call to a receiving `poll_` method is
    /// woken.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<SocketAddr>> {
        let (datagram, sender) = ready!(self.io.poll_op(cx, Direction::Read, receive_bytes))?;
        put_read_buf(buf, &datagram);
        Poll::Ready(Ok(sender))
    }

    /// Tries to receive a datagram and its sender without waiting.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv).
    pub fn try_recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.try_op(readable(), |state| receive(state, buf))
    }

    /// Looks at the next datagram without taking it; gives its length, at most `buf`'s.
    ///
    /// # Errors
    /// As [`recv`](Self::recv); a pending error is taken.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is taken.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        let (len, _) = self.peek_from(buf).await?;
        Ok(len)
    }

    /// Polls to look at the next datagram. Only the task of the last call to a receiving `poll_` method is woken.
    ///
    /// # Errors
    /// As [`peek`](Self::peek).
    pub fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_peek_from(cx, buf).map_ok(|_| ())
    }

    /// Tries to look at the next datagram without waiting.
    ///
    /// # Errors
    /// As [`peek`](Self::peek), and `WouldBlock` when nothing waits.
    pub fn try_peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.try_peek_from(buf).map(|(len, _)| len)
    }

    /// Looks at the next datagram and its sender without taking it.
    ///
    /// # Errors
    /// As [`peek`](Self::peek).
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is taken.
    pub async fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io
            .async_op(READ_OR_ERROR, |state| peek(state, buf))
            .await
    }

    /// Polls to look at the next datagram; gives its sender. Only the task of the last call to a receiving `poll_`
    /// method is woken.
    ///
    /// # Errors
    /// As [`peek`](Self::peek).
    pub fn poll_peek_from(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<SocketAddr>> {
        let (len, sender) = ready!(self.io.poll_op(cx, Direction::Read, |state| peek(
            state,
            buf.initialize_unfilled()
        )))?;
        buf.advance(len);
        Poll::Ready(Ok(sender))
    }

    /// Tries to look at the next datagram and its sender without waiting.
    ///
    /// # Errors
    /// As [`try_peek`](Self::try_peek).
    pub fn try_peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.try_op(readable(), |state| peek(state, buf))
    }

    /// The sender of the next datagram, which stays.
    ///
    /// # Errors
    /// As [`peek`](Self::peek).
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is taken.
    pub async fn peek_sender(&self) -> io::Result<SocketAddr> {
        self.io.async_op(READ_OR_ERROR, peek_sender).await
    }

    /// Polls for the sender of the next datagram. Only the task of the last call to a receiving `poll_` method is
    /// woken.
    ///
    /// # Errors
    /// As [`peek`](Self::peek).
    pub fn poll_peek_sender(&self, cx: &mut Context<'_>) -> Poll<io::Result<SocketAddr>> {
        self.io.poll_op(cx, Direction::Read, peek_sender)
    }

    /// Tries to give the sender of the next datagram without waiting.
    ///
    /// # Errors
    /// As [`try_peek`](Self::try_peek).
    pub fn try_peek_sender(&self) -> io::Result<SocketAddr> {
        self.io.try_op(readable(), peek_sender)
    }
}
