//! A TCP socket that accepts connections.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::Interest;

use super::options::{HasOptions, Look};
use super::stream::TcpStream;
use crate::driver::Shared;
use crate::engine::ready_cache::Direction;
use crate::engine::slot::ListenerSlot;
use crate::engine::sockets::{ListenerSocket, TcpOptions};
use crate::net::lookup::{self, Target, ToSocketAddrs};
use crate::net::options;
use crate::net::readiness::{self, Io};
use crate::net::registry;
use crate::net::stack::{Stack, no_kernel_socket};
use crate::tcp::config::SocketOptions;
use crate::transport::ports::BindRequest;

/// Connections that wait to be accepted, at most, of a listener made by [`TcpListener::bind`]; tokio's number.
const BACKLOG: u32 = 1024;

/// A TCP socket server, listening for connections, with the methods and the behaviour of
/// `tokio::net::TcpListener`.
///
/// Dropping a listener resets the connections that nobody accepted; accepted ones are independent of it.
///
/// # Examples
///
/// ```
/// use tidewire::net::{TcpListener, TcpStream};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let listener = TcpListener::bind("127.0.0.1:8080").await?;
/// let client = TcpStream::connect("127.0.0.1:8080").await?;
/// let (stream, peer) = listener.accept().await?;
/// assert_eq!(peer, client.local_addr()?);
/// # drop(stream);
/// # Ok(())
/// # }
/// ```
pub struct TcpListener {
    io: Io<ListenerSocket>,
}

impl TcpListener {
    pub(super) fn new(shared: Arc<Shared>, slot: Arc<ListenerSlot>) -> Self {
        Self {
            io: Io::new(shared, slot),
        }
    }

    /// Listens on the first address of `addr` that can be bound. Port 0 asks for a free port, told by
    /// [`local_addr`](Self::local_addr).
    ///
    /// Sets `SO_REUSEADDR`. `[::]` takes IPv4 as well and shows such peers as `::ffff:a.b.c.d`. For options and
    /// another backlog than 1024 use [`TcpSocket`](super::TcpSocket).
    ///
    /// # Errors
    /// The last address's error: `AddrInUse`, `AddrNotAvailable` (not an address of the stack). `InvalidInput` when
    /// `addr` yields nothing, and an error that says so when there is no stack to listen on.
    pub async fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
        let target = lookup::target(&addr);
        Self::bind_on(&registry::current()?, target).await
    }

    pub(crate) async fn bind_on(stack: &Stack, target: io::Result<Target>) -> io::Result<Self> {
        let mut last_error = None;
        for address in lookup::resolve(stack, target).await? {
            match Self::bind_address(stack, address) {
                Ok(listener) => return Ok(listener),
                Err(error) => last_error = Some(error),
            }
        }
        Err(last_error.unwrap_or_else(lookup::no_addresses))
    }

    fn bind_address(stack: &Stack, address: SocketAddr) -> io::Result<Self> {
        let request = BindRequest {
            reuse_address: true,
            ..BindRequest::new(address)
        };
        let lease = stack.shared().tcp_bind(&request)?;
        let slot = stack
            .shared()
            .tcp_listen(lease, BACKLOG, false, &TcpOptions::default())?;
        Ok(Self::new(Arc::clone(stack.shared()), slot))
    }

    /// Waits for a connection and gives it with its peer's address.
    ///
    /// # Errors
    /// When the stack has ended.
    ///
    /// # Cancel safety
    /// Cancel safe: a connection is taken only by the poll that returns it.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let mask = readiness::mask(Interest::READABLE);
        self.io.async_io(mask, || self.accept_now()).await
    }

    /// Polls for a connection. Only the task of the last call is woken.
    ///
    /// # Errors
    /// When the stack has ended.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        self.io.poll_io(cx, Direction::Read, || self.accept_now())
    }

    fn accept_now(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let shared = self.io.shared();
        let (slot, peer) = shared.tcp_accept(self.io.slot())?;
        Ok((TcpStream::new(Arc::clone(shared), slot), peer))
    }

    /// Kernel sockets cannot become sockets of this stack; kept for tokio's signature.
    ///
    /// # Errors
    /// Always [`io::ErrorKind::Unsupported`].
    pub fn from_std(_listener: std::net::TcpListener) -> io::Result<Self> {
        Err(no_kernel_socket())
    }

    /// Sockets of this stack cannot become kernel sockets; kept for tokio's signature. The listener is closed.
    ///
    /// # Errors
    /// Always [`io::ErrorKind::Unsupported`].
    pub fn into_std(self) -> io::Result<std::net::TcpListener> {
        Err(no_kernel_socket())
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// None at present; tokio's signature.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.io.lock().socket.local())
    }

    /// TTL, or hop limit, of the listener's packets and those of the connections it accepts.
    ///
    /// # Errors
    /// None at present; tokio's signature.
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(self.io.lock().socket.ttl.into())
    }

    /// Sets the TTL, or hop limit: 1 to 255.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) for 0 and above 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let ttl = options::ttl(ttl, self.io.shared())?;
        self.io.lock().socket.ttl = ttl;
        Ok(())
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.io.shared().close_listener(self.io.slot());
    }
}

impl TryFrom<std::net::TcpListener> for TcpListener {
    type Error = io::Error;

    /// As [`TcpListener::from_std`]: always an error.
    fn try_from(listener: std::net::TcpListener) -> Result<Self, Self::Error> {
        Self::from_std(listener)
    }
}

/// What is set here is inherited by connections whose SYN comes afterwards.
impl HasOptions for TcpListener {
    fn look<R>(&self, look: impl FnOnce(Look<'_>) -> R) -> R {
        look(Look {
            options: &self.io.lock().socket.options.socket,
            config: &self.io.shared().engine().config().tcp,
            connection: None,
        })
    }

    fn change(&self, change: impl FnOnce(&mut SocketOptions)) {
        let socket = &mut self.io.lock().socket;
        let options = Arc::make_mut(&mut socket.options.socket);
        change(options);
        socket.listener.set_options(options);
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener")
            .field("addr", &self.io.lock().socket.local())
            .finish()
    }
}
