//! A TCP connection: opening it, its addresses, waiting for it.
//!
//! Reading and writing are in `stream_io`, options in `stream_options`.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{Interest, Ready};

use super::split::{ReadHalf, WriteHalf};
use super::split_owned::{self, OwnedReadHalf, OwnedWriteHalf};
use crate::driver::Shared;
use crate::engine::ready_cache::Direction;
use crate::engine::slot::TcpSlot;
use crate::engine::sockets::{TcpOptions, TcpSocket as Connection};
use crate::error::SocketError;
use crate::net::lookup::{self, Target, ToSocketAddrs};
use crate::net::readiness::{self, Io};
use crate::net::registry;
use crate::net::stack::{Stack, no_kernel_socket};
use crate::tcp::info::{Info, State};
use crate::transport::ports::PortLease;

/// A TCP stream between a local and a remote socket, with the methods and the behaviour of `tokio::net::TcpStream`.
///
/// Made by [`connect`](Self::connect) or [`TcpListener::accept`](super::TcpListener::accept); read and written with
/// [`AsyncReadExt`](https://docs.rs/tokio/1/tokio/io/trait.AsyncReadExt.html) and
/// [`AsyncWriteExt`](https://docs.rs/tokio/1/tokio/io/trait.AsyncWriteExt.html).
///
/// Dropping a stream closes the connection in the background: what was written is still delivered, followed by FIN.
/// If data was received and not read, or [`set_zero_linger`](Self::set_zero_linger) was called, the peer gets a RST
/// instead. Shutting only the write side down is [`AsyncWrite`](tokio::io::AsyncWrite)'s `shutdown`.
///
/// # Examples
///
/// ```
/// use tidewire::net::{TcpListener, TcpStream};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let mut client = TcpStream::connect(listener.local_addr()?).await?;
/// let (mut server, _) = listener.accept().await?;
///
/// client.write_all(b"hello world!").await?;
/// let mut buffer = [0; 12];
/// server.read_exact(&mut buffer).await?;
/// assert_eq!(&buffer, b"hello world!");
/// # Ok(())
/// # }
/// ```
pub struct TcpStream {
    pub(super) io: Io<Connection>,
}

impl TcpStream {
    pub(super) fn new(shared: Arc<Shared>, slot: Arc<TcpSlot>) -> Self {
        Self {
            io: Io::new(shared, slot),
        }
    }

    /// Opens a connection to a remote host, trying each address that `addr` yields until one answers.
    ///
    /// To choose options or the local address before connecting, use [`TcpSocket`](super::TcpSocket).
    ///
    /// # Errors
    /// The last address's error: `ConnectionRefused`, `TimedOut` (no answer to the SYN and its retransmissions),
    /// `NetworkUnreachable` (no route), `HostUnreachable`, and those of the name's look-up. `InvalidInput` when `addr`
    /// yields nothing, and an error that says so when there is no stack to connect from.
    ///
    /// # Cancel safety
    /// Dropping the future gives the attempt up; nothing is left behind.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use tidewire::net::TcpStream;
    ///
    /// let refused = TcpStream::connect("127.0.0.1:81").await.unwrap_err();
    /// assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    /// # }
    /// ```
    pub async fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
        let target = lookup::target(&addr);
        Self::connect_on(&registry::current()?, target).await
    }

    pub(crate) async fn connect_on(stack: &Stack, target: io::Result<Target>) -> io::Result<Self> {
        let mut last_error = None;
        for address in lookup::resolve(stack, target).await? {
            match Self::open(stack, None, address, &TcpOptions::default()).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last_error = Some(error),
            }
        }
        Err(last_error.unwrap_or_else(lookup::no_addresses))
    }

    /// Sends the SYN and waits for what comes of it.
    pub(super) async fn open(
        stack: &Stack,
        lease: Option<PortLease>,
        remote: SocketAddr,
        options: &TcpOptions,
    ) -> io::Result<Self> {
        let slot = stack.shared().tcp_connect(lease, remote, options)?;
        let stream = Self::new(Arc::clone(stack.shared()), slot);
        poll_fn(|cx| stream.io.poll_ready(cx, Direction::Write)).await?;
        match stream.take_error()? {
            None => Ok(stream),
            Some(error) => {
                explain_refusal(stack, remote, &error);
                Err(error)
            }
        }
    }

    /// Kernel sockets cannot become sockets of this stack; kept for tokio's signature.
    ///
    /// # Errors
    /// Always [`io::ErrorKind::Unsupported`].
    pub fn from_std(_stream: std::net::TcpStream) -> io::Result<Self> {
        Err(no_kernel_socket())
    }

    /// Sockets of this stack cannot become kernel sockets; kept for tokio's signature. The connection is closed.
    ///
    /// # Errors
    /// Always [`io::ErrorKind::Unsupported`].
    pub fn into_std(self) -> io::Result<std::net::TcpStream> {
        Err(no_kernel_socket())
    }

    /// The address of this end.
    ///
    /// # Errors
    /// None at present; tokio's signature.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.io.lock().socket.local())
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// `NotConnected` once the connection has ended: reset, timed out, or closed by both sides.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        let state = self.io.lock();
        // As Linux's getpeername: a connection in TIME-WAIT is the stack's, no longer the socket's.
        match state.socket.connection.state() {
            State::Closed | State::SynSent | State::TimeWait => {
                Err(SocketError::NotConnected.into())
            }
            _ => Ok(state.socket.remote()),
        }
    }

    /// Takes the pending error, as `SO_ERROR` does. An error is told once: by this, by a read or by a write.
    ///
    /// # Errors
    /// None at present; tokio's signature.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        let error = self.io.lock().socket.connection.take_error();
        Ok(error.map(io::Error::from))
    }

    /// A snapshot of the connection: its state, round-trip time, windows and counters, as Linux's `tcp_info`
    /// (`TCP_INFO`).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use tidewire::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// let info = stream.info();
    /// assert_eq!(info.retransmits, 0);
    /// assert_eq!(info.not_sent, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn info(&self) -> Info {
        let now = self.io.shared().now();
        self.io.lock().socket.connection.info_at(now)
    }

    /// Waits until the stream is ready for any of an interest.
    ///
    /// Readiness is a hint: an operation may still return `WouldBlock`, and then the wait starts anew.
    ///
    /// # Errors
    /// When the stack has ended.
    ///
    /// # Cancel safety
    /// Cancel safe: a readiness that was there stays until an operation returns `WouldBlock`.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use tidewire::net::{TcpListener, TcpStream};
    /// use tokio::io::Interest;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// let ready = stream.ready(Interest::READABLE | Interest::WRITABLE).await?;
    /// assert!(ready.is_writable());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        self.io.ready(interest).await
    }

    /// Waits until the stream can be read: [`ready`](Self::ready) with [`Interest::READABLE`].
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

    /// Waits until the stream can be written: [`ready`](Self::ready) with [`Interest::WRITABLE`].
    ///
    /// # Errors
    /// When the stack has ended.
    ///
    /// # Cancel safety
    /// Cancel safe, as [`ready`](Self::ready).
    pub async fn writable(&self) -> io::Result<()> {
        self.ready(Interest::WRITABLE).await?;
        Ok(())
    }

    /// Polls for read readiness. Only the task of the last call to this, `poll_read` or
    /// [`poll_peek`](Self::poll_peek) is woken.
    ///
    /// # Errors
    /// When the stack has ended.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_ready(cx, Direction::Read)
    }

    /// Polls for write readiness. Only the task of the last call to this or `poll_write` is woken.
    ///
    /// # Errors
    /// When the stack has ended.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_ready(cx, Direction::Write)
    }

    /// Runs `f` if the stream is ready for `interest`, and clears that readiness if `f` returns `WouldBlock`.
    ///
    /// `f` runs with no lock held and may use the stream's `try_` methods.
    ///
    /// # Errors
    /// `WouldBlock` when the stream is not ready or `f` said so; else `f`'s error.
    pub fn try_io<R>(
        &self,
        interest: Interest,
        f: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<R> {
        self.io.try_io(readiness::mask(interest), f)
    }

    /// Runs `f` whenever the stream is ready for `interest`, until it returns something other than `WouldBlock`.
    ///
    /// # Errors
    /// `f`'s, and one when the stack has ended.
    ///
    /// # Cancel safety
    /// As safe as `f`: it is not running when the future is dropped.
    pub async fn async_io<R>(
        &self,
        interest: Interest,
        f: impl FnMut() -> io::Result<R>,
    ) -> io::Result<R> {
        self.io.async_io(readiness::mask(interest), f).await
    }

    /// Splits the stream into borrowed halves that can be used at the same time in one task.
    #[allow(clippy::needless_lifetimes, reason = "tokio's signature")]
    pub fn split<'a>(&'a mut self) -> (ReadHalf<'a>, WriteHalf<'a>) {
        (ReadHalf(self), WriteHalf(self))
    }

    /// Splits the stream into owned halves that can go to different tasks. Dropping the write half shuts the write
    /// side down.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        split_owned::split(self)
    }
}

/// Tells the one who was refused when the listener it looks for is in another runtime's lazy stack.
#[cold]
fn explain_refusal(stack: &Stack, remote: SocketAddr, error: &io::Error) {
    let concerns = error.kind() == io::ErrorKind::ConnectionRefused
        && remote.ip().to_canonical().is_loopback()
        && registry::is_lazy(stack);
    if !concerns {
        return;
    }
    if let Some(runtime) = registry::lazy_listener_elsewhere(stack, remote) {
        tracing::warn!(
            %remote,
            %runtime,
            "connection refused, but a listener on this port exists in the loopback stack of another tokio runtime; \
             build one stack and attach both runtimes to it (Stack::attach) or make it the default (Stack::set_default)"
        );
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        self.io.shared().close_tcp(self.io.slot());
    }
}

impl TryFrom<std::net::TcpStream> for TcpStream {
    type Error = io::Error;

    /// As [`TcpStream::from_std`]: always an error.
    fn try_from(stream: std::net::TcpStream) -> Result<Self, Self::Error> {
        Self::from_std(stream)
    }
}

impl AsRef<Self> for TcpStream {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("TcpStream");
        if let Ok(local) = self.local_addr() {
            debug.field("addr", &local);
        }
        if let Ok(peer) = self.peer_addr() {
            debug.field("peer", &peer);
        }
        debug.finish()
    }
}
