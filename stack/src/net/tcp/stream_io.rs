//! Reading and writing a TCP stream: `try_*`, peek, `AsyncRead`, `AsyncWrite`, and whole chunks without a copy.
//!
//! Under the slot's lock data is copied into the caller's plain buffers only. Buffers with code of their own
//! ([`BufMut`]) are filled after it is released, from chunks taken under it.

use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes};
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use super::stream::TcpStream;
use crate::engine::ready_cache::Direction;
use crate::engine::slot::SlotState;
use crate::engine::sockets::TcpSocket as Connection;
use crate::error::{SocketError, SocketResult};
use crate::net::readiness;
use crate::transport::Readiness;

/// What one read takes, without a copy.
type Chunks = SmallVec<[Bytes; 4]>;

/// Takes what has arrived, up to `limit` octets, as chunks; none at the end of the stream.
fn read_chunks(state: &mut SlotState<Connection>, limit: usize) -> SocketResult<Chunks> {
    let connection = &mut state.socket.connection;
    let mut left = limit.min(connection.receive_buffered());
    let mut chunks = Chunks::new();
    loop {
        // With nothing buffered this tells the error, the end of the stream, or that there is nothing yet.
        let chunk = connection.read_chunk(left)?;
        left -= chunk.len();
        if !chunk.is_empty() {
            chunks.push(chunk);
        }
        if left == 0 {
            return Ok(chunks);
        }
    }
}

impl TcpStream {
    /// Tries to read without waiting. `Ok(0)` is the end of the stream, or an empty `buf` with data waiting.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing to read; `ConnectionReset`, `TimedOut` and the like once, when the
    /// connection has failed.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use std::io::ErrorKind;
    /// use tidewire::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let client = TcpStream::connect(listener.local_addr()?).await?;
    /// let (server, _) = listener.accept().await?;
    /// server.try_write(b"hi")?;
    /// loop {
    ///     client.readable().await?;
    ///     let mut buffer = [0; 16];
    ///     match client.try_read(&mut buffer) {
    ///         Ok(n) => {
    ///             assert_eq!(&buffer[..n], b"hi");
    ///             break;
    ///         }
    ///         Err(error) if error.kind() == ErrorKind::WouldBlock => {}
    ///         Err(error) => return Err(error),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io
            .try_op(readiness::mask(Interest::READABLE), |state| {
                state.socket.connection.read(buf)
            })
    }

    /// Tries to read into several buffers, filling one after the other. Else as [`try_read`](Self::try_read).
    ///
    /// # Errors
    /// As [`try_read`](Self::try_read).
    pub fn try_read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.io
            .try_op(readiness::mask(Interest::READABLE), |state| {
                state.socket.connection.read_vectored(bufs)
            })
    }

    /// Tries to read into a growing buffer, at most as much as its next chunk holds. Else as
    /// [`try_read`](Self::try_read).
    ///
    /// # Errors
    /// As [`try_read`](Self::try_read).
    pub fn try_read_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        let room = buf.chunk_mut().len();
        let chunks = self
            .io
            .try_op(readiness::mask(Interest::READABLE), |state| {
                read_chunks(state, room)
            })?;
        let mut read = 0;
        for chunk in chunks {
            read += chunk.len();
            buf.put_slice(&chunk);
        }
        Ok(read)
    }

    /// Reads up to `max` octets as they lie in the receive buffer, without a copy. Empty at the end of the stream.
    ///
    /// # Errors
    /// As [`try_read`](Self::try_read), but for `WouldBlock`.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped before it is done, it has read nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use bytes::Bytes;
    /// use tidewire::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let client = TcpStream::connect(listener.local_addr()?).await?;
    /// let (server, _) = listener.accept().await?;
    /// server.write_bytes(Bytes::from_static(b"no copies")).await?;
    /// drop(server);
    ///
    /// let mut text = Vec::new();
    /// loop {
    ///     let chunk = client.read_chunk(65_536).await?;
    ///     if chunk.is_empty() {
    ///         break;
    ///     }
    ///     text.extend_from_slice(&chunk);
    /// }
    /// assert_eq!(text, b"no copies");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn read_chunk(&self, max: usize) -> io::Result<Bytes> {
        let mask = readiness::mask(Interest::READABLE);
        self.io
            .async_op(mask, |state| state.socket.connection.read_chunk(max))
            .await
    }

    /// Tries to write without waiting; gives how much was taken.
    ///
    /// # Errors
    /// `WouldBlock` when the send buffer is full; `BrokenPipe` after the write side was shut down or an error was
    /// told; `ConnectionReset` and the like once, when the connection has failed.
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        self.io
            .try_op(readiness::mask(Interest::WRITABLE), |state| {
                state.socket.connection.write(buf)
            })
    }

    /// Tries to write from several buffers, one after the other. Else as [`try_write`](Self::try_write).
    ///
    /// # Errors
    /// As [`try_write`](Self::try_write).
    pub fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.io
            .try_op(readiness::mask(Interest::WRITABLE), |state| {
                state.socket.connection.write_vectored(bufs)
            })
    }

    /// Tries to queue a buffer without a copy. What was taken is gone from `data`; gives its length.
    ///
    /// # Errors
    /// As [`try_write`](Self::try_write).
    pub fn try_write_bytes(&self, data: &mut Bytes) -> io::Result<usize> {
        self.io
            .try_op(readiness::mask(Interest::WRITABLE), |state| {
                state.socket.connection.write_bytes(data)
            })
    }

    /// Writes a buffer without a copy: packets refer to it until the peer has acknowledged them. Returns when all of
    /// it is in the send buffer.
    ///
    /// # Errors
    /// As [`try_write`](Self::try_write), but for `WouldBlock`.
    ///
    /// # Cancel safety
    /// Not cancel safe: dropped before it is done, it may have written a part. [`try_write_bytes`](Self::try_write_bytes)
    /// with [`writable`](Self::writable) is.
    pub async fn write_bytes(&self, mut data: Bytes) -> io::Result<()> {
        while !data.is_empty() {
            let mask = readiness::mask(Interest::WRITABLE);
            self.io
                .async_op(mask, |state| state.socket.connection.write_bytes(&mut data))
                .await?;
        }
        Ok(())
    }

    /// Looks at received data without consuming it.
    ///
    /// # Errors
    /// As [`try_read`](Self::try_read), but for `WouldBlock`.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is consumed.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mask = readiness::mask(Interest::READABLE);
        self.io
            .async_op(mask, |state| state.socket.connection.peek(buf))
            .await
    }

    /// Polls for data to look at without consuming it. Only the task of the last call to this, `poll_read` or
    /// [`poll_read_ready`](Self::poll_read_ready) is woken.
    ///
    /// # Errors
    /// As [`try_read`](Self::try_read), but for `WouldBlock`.
    pub fn poll_peek(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        self.io.poll_op(cx, Direction::Read, |state| {
            let connection = &mut state.socket.connection;
            let wanted = buf.remaining().min(connection.receive_buffered());
            let n = connection.peek(buf.initialize_unfilled_to(wanted))?;
            buf.advance(n);
            Ok(n)
        })
    }

    /// Shuts the write side down: FIN after what was written. Repeating it is no error, and neither is a connection
    /// that has ended.
    pub(super) fn shutdown_write(&self) -> io::Result<()> {
        match self
            .io
            .command(|state| state.socket.connection.shutdown_write())
        {
            Ok(()) | Err(SocketError::NotConnected) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn poll_read_priv(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wanted = buf.remaining();
        self.io.poll_op(cx, Direction::Read, |state| {
            let n = state
                .socket
                .connection
                .read_with(wanted, |slice| buf.put_slice(slice))?;
            // tokio's rule for edge-triggered sockets: a short read has emptied the buffer.
            if 0 < n && n < wanted {
                state.ready.clear(Readiness::READABLE);
            }
            Ok(())
        })
    }

    pub(super) fn poll_write_priv(
        &self,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.io.poll_op(cx, Direction::Write, |state| {
            let n = state.socket.connection.write(buf)?;
            // As for reads: a short write has filled the buffer.
            if 0 < n && n < buf.len() {
                state.ready.clear(Readiness::WRITABLE);
            }
            Ok(n)
        })
    }

    pub(super) fn poll_write_vectored_priv(
        &self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io.poll_op(cx, Direction::Write, |state| {
            state.socket.connection.write_vectored(bufs)
        })
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_read_priv(cx, buf)
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_priv(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored_priv(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing to do: what is written is on its way.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown_write())
    }
}
