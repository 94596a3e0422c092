//! What the measurements run over: our stack, or the kernel's in its place.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
#[cfg(target_os = "linux")]
use nix::sys::socket::{setsockopt, sockopt};
use tidewire::Stack;
use tidewire::net::SockOptExt as _;
use tokio::io::{AsyncRead, AsyncWrite};

use super::traffic;

/// Connections that a listener keeps until they are accepted: a burst of idle connections is one such.
pub(super) const BACKLOG: u32 = 4096;

/// A network with connections, TCP's or such as pass for them.
pub trait Network: Clone + Send + Sync + 'static {
    /// Waits for connections.
    type Listener: Send + Sync + 'static;
    /// A connection. It sends small writes at once (no Nagle).
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Listens on an address.
    ///
    /// # Errors
    /// What binding gives.
    fn listen(&self, address: SocketAddr) -> io::Result<Self::Listener>;

    /// Waits for a connection.
    fn accept(listener: &Self::Listener) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Opens a connection.
    fn connect(&self, address: SocketAddr)
    -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Makes dropping the stream reset the connection, so that no data under way outlives a measurement.
    ///
    /// # Errors
    /// What setting the option gives.
    fn reset_on_drop(stream: &Self::Stream) -> io::Result<()>;

    /// Receives up to `size` octets; gives their number, 0 at the end.
    fn receive(
        stream: &mut Self::Stream,
        size: usize,
    ) -> impl Future<Output = io::Result<usize>> + Send {
        traffic::receive(stream, size)
    }

    /// Sends from `payload`, beginning at `offset`; gives how many octets were taken. Dropped before it is done, it has
    /// taken none.
    fn send(
        stream: &mut Self::Stream,
        payload: &Bytes,
        offset: usize,
    ) -> impl Future<Output = io::Result<usize>> + Send {
        traffic::send(stream, &payload[offset..])
    }
}

/// A stack of ours, by the calls that tokio has too.
#[derive(Clone, Debug)]
pub struct OwnStack {
    stack: Stack,
    congestion: Option<String>,
}

impl OwnStack {
    /// The stack, with its default congestion control.
    pub const fn new(stack: Stack) -> Self {
        Self {
            stack,
            congestion: None,
        }
    }

    /// The same with another congestion control.
    #[must_use]
    pub fn with_congestion(self, congestion: Option<String>) -> Self {
        Self { congestion, ..self }
    }

    fn socket(&self, address: SocketAddr) -> io::Result<tidewire::net::TcpSocket> {
        let socket = match address {
            SocketAddr::V4(_) => self.stack.tcp_socket_v4()?,
            SocketAddr::V6(_) => self.stack.tcp_socket_v6()?,
        };
        if let Some(name) = &self.congestion {
            socket.set_congestion_control(name).map_err(|error| {
                let text = format!("there is no congestion control {name:?}: {error}");
                io::Error::new(error.kind(), text)
            })?;
        }
        Ok(socket)
    }
}

impl Network for OwnStack {
    type Listener = tidewire::net::TcpListener;
    type Stream = tidewire::net::TcpStream;

    fn listen(&self, address: SocketAddr) -> io::Result<Self::Listener> {
        let socket = self.socket(address)?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    }

    async fn accept(listener: &Self::Listener) -> io::Result<Self::Stream> {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Self::Stream> {
        let stream = self.socket(address)?.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn reset_on_drop(stream: &Self::Stream) -> io::Result<()> {
        stream.set_zero_linger()
    }
}

/// A stack of ours, by its calls that hand buffers over instead of copying them.
#[derive(Clone, Debug)]
pub struct ZeroCopyStack(
    /// The stack, and how its sockets are to be.
    pub OwnStack,
);

impl Network for ZeroCopyStack {
    type Listener = tidewire::net::TcpListener;
    type Stream = tidewire::net::TcpStream;

    fn listen(&self, address: SocketAddr) -> io::Result<Self::Listener> {
        self.0.listen(address)
    }

    async fn accept(listener: &Self::Listener) -> io::Result<Self::Stream> {
        OwnStack::accept(listener).await
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Self::Stream> {
        self.0.connect(address).await
    }

    fn reset_on_drop(stream: &Self::Stream) -> io::Result<()> {
        stream.set_zero_linger()
    }

    async fn receive(stream: &mut Self::Stream, size: usize) -> io::Result<usize> {
        Ok(stream.read_chunk(size).await?.len())
    }

    async fn send(stream: &mut Self::Stream, payload: &Bytes, offset: usize) -> io::Result<usize> {
        loop {
            // Neither call below waits while the peer is fast enough; other tasks are to have their turn. Before the
            // write, not after it: what is taken is told of, even when the caller gives up waiting.
            tokio::task::coop::consume_budget().await;
            match stream.try_write_bytes(&mut payload.slice(offset..)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    stream.writable().await?;
                }
                result => return result,
            }
        }
    }
}

/// The kernel, by tokio's sockets.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// The congestion control of its connections; the system's default without.
    pub congestion: Option<String>,
}

impl Kernel {
    fn socket(&self, address: SocketAddr) -> io::Result<tokio::net::TcpSocket> {
        let socket = match address {
            SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
            SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
        };
        if let Some(name) = &self.congestion {
            set_congestion(&socket, name).map_err(|error| {
                let text = format!("the kernel refuses congestion control {name:?}: {error}");
                io::Error::new(error.kind(), text)
            })?;
        }
        Ok(socket)
    }
}

#[cfg(target_os = "linux")]
fn set_congestion(socket: &tokio::net::TcpSocket, name: &str) -> io::Result<()> {
    setsockopt(socket, sockopt::TcpCongestion, &name.into())?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn set_congestion(_socket: &tokio::net::TcpSocket, _name: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Network for Kernel {
    type Listener = tokio::net::TcpListener;
    type Stream = tokio::net::TcpStream;

    fn listen(&self, address: SocketAddr) -> io::Result<Self::Listener> {
        // Accepted connections inherit the listener's congestion control.
        let socket = self.socket(address)?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    }

    async fn accept(listener: &Self::Listener) -> io::Result<Self::Stream> {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Self::Stream> {
        let stream = self.socket(address)?.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn reset_on_drop(stream: &Self::Stream) -> io::Result<()> {
        stream.set_zero_linger()
    }
}
