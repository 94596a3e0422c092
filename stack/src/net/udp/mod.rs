//! A UDP socket: opening it, its addresses, waiting for it, sending.
//!
//! Receiving is in `receive`, options in `options`, groups in `multicast`.

mod multicast;
mod options;
mod receive;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{Interest, Ready};

use super::lookup::{self, Target, ToSocketAddrs};
use super::readiness::{self, Io};
use super::registry;
use super::stack::{Stack, no_kernel_socket};
use crate::engine::ready_cache::Direction;
use crate::engine::sockets::UdpSocket as Datagrams;
use crate::error::SocketError;
use crate::transport::ports::BindRequest;

/// A UDP socket, with the methods and the behaviour of `tokio::net::UdpSocket`.
///
/// Share one in an [`Arc`] to send and receive at the same time: every method takes `&self`.
///
/// A datagram that does not fit the buffer is cut and the rest is lost. Errors that the network sends back (a closed
/// port) reach [connected](Self::connect) sockets only, and once: with the next operation of any kind.
///
/// # Examples
///
/// ```
/// use tidewire::net::UdpSocket;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let server = UdpSocket::bind("127.0.0.1:0").await?;
/// let client = UdpSocket::bind("127.0.0.1:0").await?;
/// client.send_to(b"ping", server.local_addr()?).await?;
///
/// let mut buffer = [0; 1500];
/// let (len, peer) = server.recv_from(&mut buffer).await?;
/// assert_eq!((&buffer[..len], peer), (&b"ping"[..], client.local_addr()?));
/// # Ok(())
/// # }
/// ```
pub struct UdpSocket {
    io: Io<Datagrams>,
    stack: Stack,
}

impl UdpSocket {
    /// Binds to the first address of `addr` that can be bound. Port 0 asks for a free port, told by
    /// [`local_addr`](Self::local_addr). `[::]` takes IPv4 as well and shows such peers as `::ffff:a.b.c.d`.
    ///
    /// # Errors
    /// The last address's error: `AddrInUse`, `AddrNotAvailable` (not an address of the stack). `InvalidInput` when
    /// `addr` yields nothing, and an error that says so when there is no stack to bind on.
    pub async fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
        let target = lookup::target(&addr);
        Self::bind_on(&registry::current()?, target).await
    }

    pub(crate) async fn bind_on(stack: &Stack, target: io::Result<Target>) -> io::Result<Self> {
        let mut last_error = None;
        for address in lookup::resolve(stack, target).await? {
            match stack.shared().udp_bind(&BindRequest::new(address)) {
                Ok(slot) => {
                    let io = Io::new(Arc::clone(stack.shared()), slot);
                    return Ok(Self {
                        io,
                        stack: stack.clone(),
                    });
                }
                Err(error) => last_error = Some(error.into()),
            }
        }
        Err(last_error.unwrap_or_else(lookup::no_addresses))
    }

    /// Kernel sockets cannot become sockets of this stack; kept for tokio's signature.
    ///
    /// # Errors
    /// Always [`io::ErrorKind::Unsupported`].
    pub fn from_std(_socket: std::net::UdpSocket) -> io::Result<Self> {
        Err(no_kernel_socket())
    }

    /// Sockets of this stack cannot become kernel sockets; kept for tokio's signature. The socket is closed.
    ///
    /// # Errors
    /// Always [`io::ErrorKind::Unsupported`].
    pub fn into_std(self) -> io::Result<std::net::UdpSocket> {
        Err(no_kernel_socket())
    }

    /// The local address: as bound, or as [`connect`](Self::connect) has chosen it.
    ///
    /// # Errors
    /// None at present; tokio's signature.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.io.lock().socket.local())
    }

    /// The peer the socket is connected to.
    ///
    /// # Errors
    /// `NotConnected` without one.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        let peer = self.io.lock().socket.peer();
        peer.ok_or_else(|| SocketError::NotConnected.into())
    }

    /// Fixes the peer to the first address of `addr` that has a route: [`send`](Self::send) sends to it, datagrams of
    /// others are dropped, and errors that the network sends back are told. Fixes a wildcard local address as well.
    /// May be repeated.
    ///
    /// # Errors
    /// The last address's error: `NetworkUnreachable`, EAFNOSUPPORT for an IPv6 address on an IPv4 socket,
    /// `PermissionDenied` for a broadcast address without [`set_broadcast`](Self::set_broadcast). `InvalidInput` when
    /// `addr` yields nothing.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped during a name's look-up, it has changed nothing.
    pub async fn connect<A: ToSocketAddrs>(&self, addr: A) -> io::Result<()> {
        let target = lookup::target(&addr);
        let mut last_error = None;
        for address in lookup::resolve(&self.stack, target).await? {
            match self.io.shared().udp_connect(self.io.slot(), address) {
                Ok(()) => return Ok(()),
                Err(error) => last_error = Some(error.into()),
            }
        }
        Err(last_error.unwrap_or_else(lookup::no_addresses))
    }

    /// Waits until the socket is ready for any of an interest.
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
    /// use tidewire::net::UdpSocket;
    /// use tokio::io::Interest;
    ///
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// socket.connect(socket.local_addr()?).await?;
    /// let ready = socket.ready(Interest::READABLE | Interest::WRITABLE).await?;
    /// assert!(ready.is_writable() && !ready.is_readable());
    /// socket.try_send(b"to myself")?;
    /// assert!(socket.ready(Interest::READABLE).await?.is_readable());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        self.io.ready(interest).await
    }

    /// Waits until the socket can send: [`ready`](Self::ready) with [`Interest::WRITABLE`].
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

    /// Waits until something can be received: [`ready`](Self::ready) with [`Interest::READABLE`].
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

    /// Polls until the socket can send. Only the task of the last call to a sending `poll_` method is woken.
    ///
    /// # Errors
    /// When the stack has ended.
    pub fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_ready(cx, Direction::Write)
    }

    /// Polls until something can be received. Only the task of the last call to a receiving `poll_` method is woken.
    ///
    /// # Errors
    /// When the stack has ended.
    pub fn poll_recv_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_ready(cx, Direction::Read)
    }

    fn send_now(&self, buf: &[u8], target: Option<SocketAddr>) -> io::Result<usize> {
        let sent = self.io.shared().udp_send(self.io.slot(), buf, target);
        if sent == Err(SocketError::WouldBlock) {
            self.io.lock().ready.reopen_writing();
        }
        Ok(sent?)
    }

    /// Sends a datagram to the connected peer; gives its length.
    ///
    /// # Errors
    /// EDESTADDRREQ without a peer; EMSGSIZE for more than 65,507 octets (65,527 over IPv6); what the network said of
    /// an earlier datagram, once (`ConnectionRefused`).
    ///
    /// # Cancel safety
    /// Cancel safe: dropped before it is done, it has sent nothing.
    pub async fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.io
            .async_io(readiness::mask(Interest::WRITABLE), || {
                self.send_now(buf, None)
            })
            .await
    }

    /// Polls to send a datagram to the connected peer. Only the task of the last call to a sending `poll_` method is
    /// woken.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn poll_send(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.io
            .poll_io(cx, Direction::Write, || self.send_now(buf, None))
    }

    /// Tries to send a datagram to the connected peer without waiting.
    ///
    /// # Errors
    /// As [`send`](Self::send), and `WouldBlock` when the send queue is full.
    pub fn try_send(&self, buf: &[u8]) -> io::Result<usize> {
        self.io.try_io(readiness::mask(Interest::WRITABLE), || {
            self.send_now(buf, None)
        })
    }

    /// Sends a datagram to the first address of `addr`; gives its length.
    ///
    /// # Errors
    /// `NetworkUnreachable` without a route; `InvalidInput` (EINVAL) for port 0; EAFNOSUPPORT for an IPv6 address on
    /// an IPv4 socket; EMSGSIZE for more than 65,507 octets (65,527 over IPv6); `PermissionDenied` for a broadcast
    /// address without [`set_broadcast`](Self::set_broadcast). `InvalidInput` when `addr` yields nothing.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped before it is done, it has sent nothing.
    pub async fn send_to<A: ToSocketAddrs>(&self, buf: &[u8], addr: A) -> io::Result<usize> {
        let target = lookup::target(&addr);
        let Some(target) = lookup::resolve(&self.stack, target).await?.next() else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "no addresses to send data to",
            ));
        };
        self.io
            .async_io(readiness::mask(Interest::WRITABLE), || {
                self.send_now(buf, Some(target))
            })
            .await
    }

    /// Polls to send a datagram. Only the task of the last call to a sending `poll_` method is woken.
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to).
    pub fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        buf: &[u8],
        target: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        self.io
            .poll_io(cx, Direction::Write, || self.send_now(buf, Some(target)))
    }

    /// Tries to send a datagram without waiting.
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to), and `WouldBlock` when the send queue is full.
    pub fn try_send_to(&self, buf: &[u8], target: SocketAddr) -> io::Result<usize> {
        self.io.try_io(readiness::mask(Interest::WRITABLE), || {
            self.send_now(buf, Some(target))
        })
    }

    /// Runs `f` if the socket is ready for `interest`, and clears that readiness if `f` returns `WouldBlock`.
    ///
    /// `f` runs with no lock held and may use the socket's `try_` methods.
    ///
    /// # Errors
    /// `WouldBlock` when the socket is not ready or `f` said so; else `f`'s error.
    pub fn try_io<R>(
        &self,
        interest: Interest,
        f: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<R> {
        self.io.try_io(readiness::mask(interest), f)
    }

    /// Runs `f` whenever the socket is ready for `interest`, until it returns something other than `WouldBlock`.
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

    /// Takes the pending error, as `SO_ERROR` does.
    ///
    /// # Errors
    /// None at present; tokio's signature.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        let error = self.io.lock().socket.socket.take_error();
        Ok(error.map(io::Error::from))
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        self.io.shared().close_udp(self.io.slot());
    }
}

impl TryFrom<std::net::UdpSocket> for UdpSocket {
    type Error = io::Error;

    /// As [`UdpSocket::from_std`]: always an error.
    fn try_from(socket: std::net::UdpSocket) -> Result<Self, Self::Error> {
        Self::from_std(socket)
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.io.lock();
        let mut debug = f.debug_struct("UdpSocket");
        debug.field("addr", &state.socket.local());
        if let Some(peer) = state.socket.peer() {
            debug.field("peer", &peer);
        }
        debug.finish()
    }
}
