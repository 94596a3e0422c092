//! An association as a program holds it: opening it, its addresses and state, waiting for it, its end.
//!
//! Messages and notifications are in `association_io`, options in `association_options`.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{Interest, Ready};

use super::builder::SctpBuilder;
use super::split::{self, SctpReceiveHalf, SctpSendHalf};
use super::stream::SctpStream;
use crate::driver::Shared;
use crate::engine::ready_cache::Direction;
use crate::engine::sctp_sockets::SctpSocket;
use crate::engine::slot::SctpSlot;
use crate::net::lookup::ToSocketAddrs;
use crate::net::readiness::Io;
use crate::sctp::association::{PathStatus, State, Stats, Status};
use crate::transport::Readiness;

/// An SCTP association: messages, in order within each of many streams, between two ports.
///
/// Made by [`connect`](Self::connect) or [`SctpListener::accept`](super::SctpListener::accept). All methods take `&self`:
/// tasks share an association by reference, by [`Arc`] or by its [halves](Self::split).
///
/// Dropping it shuts the association down in the background: what was sent is still delivered. If messages were received
/// and not read, or [`set_linger`](Self::set_linger) says zero, the peer gets an ABORT instead.
///
/// # Examples
///
/// ```
/// use tidewire::net::sctp::{SctpAssociation, SctpListener, SendOptions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let listener = SctpListener::bind("127.0.0.1:5000").await?;
/// let client = SctpAssociation::connect("127.0.0.1:5000").await?;
/// let (server, _) = listener.accept().await?;
///
/// let options = SendOptions { stream: 3, ppid: 46, ..SendOptions::default() };
/// client.send("first", options).await?;
/// client.send("second", options).await?;
/// let message = server.recv().await?.expect("nobody has shut down");
/// assert_eq!((message.stream, message.ppid, &message.data[..]), (3, 46, &b"first"[..]));
///
/// let (done, rest) = tokio::join!(client.shutdown(), async {
///     let second = server.recv().await?.expect("it was sent before the shutdown");
///     assert_eq!(&second.data[..], b"second");
///     server.recv().await
/// });
/// done?;
/// assert_eq!(rest?, None);
/// # Ok(())
/// # }
/// ```
pub struct SctpAssociation {
    pub(super) io: Io<SctpSocket>,
}

impl SctpAssociation {
    pub(super) fn new(shared: Arc<Shared>, slot: Arc<SctpSlot>) -> Self {
        Self {
            io: Io::new(shared, slot),
        }
    }

    /// Opens an association with the peer that has every address `addresses` yields. For options and local addresses use
    /// [`SctpBuilder`].
    ///
    /// # Errors
    /// As [`SctpBuilder::connect`].
    ///
    /// # Cancel safety
    /// Dropping the future gives the attempt up; nothing is left behind.
    pub async fn connect<A: ToSocketAddrs>(addresses: A) -> io::Result<Self> {
        SctpBuilder::new().connect(addresses).await
    }

    /// The address of this end, on the primary path.
    ///
    /// # Errors
    /// None at present; for the sake of `TcpStream`'s signature.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.io.lock().socket.local())
    }

    /// All addresses of this end (`sctp_getladdrs`).
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.io.lock().socket.locals()
    }

    /// The peer's primary address.
    ///
    /// # Errors
    /// None at present; for the sake of `TcpStream`'s signature.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.io.lock().socket.remote())
    }

    /// All addresses of the peer (`sctp_getpaddrs`).
    pub fn peer_addrs(&self) -> Vec<SocketAddr> {
        self.io.lock().socket.remotes()
    }

    /// A snapshot: state, windows, streams, the primary path (`SCTP_STATUS`).
    pub fn status(&self) -> Status {
        self.io.lock().socket.association.status()
    }

    /// The state.
    pub fn state(&self) -> State {
        self.io.lock().socket.association.state()
    }

    /// A snapshot of the path to each address of the peer (`SCTP_GET_PEER_ADDR_INFO`).
    pub fn paths(&self) -> Vec<PathStatus> {
        let state = self.io.lock();
        let paths = state.socket.association.path_statuses();
        paths.map(|(_, status)| status).collect()
    }

    /// Counts of the association's life.
    pub fn stats(&self) -> Stats {
        self.io.lock().socket.association.stats()
    }

    /// Takes the pending error, as `SO_ERROR` does. An error is told once: by this, by a receive or by a send.
    ///
    /// # Errors
    /// None at present; for the sake of `TcpStream`'s signature.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        let error = self.io.lock().socket.association.take_error();
        Ok(error.map(io::Error::from))
    }

    /// One stream, as a [`Sink`](futures::Sink) of messages to send and a [`Stream`](futures::Stream) of those received.
    ///
    /// Its messages are not held up by unread ones of other streams. What it takes is no longer seen by
    /// [`recv`](Self::recv), and the reverse. Streams that were not negotiated fail when they are used.
    pub const fn stream(&self, id: u16) -> SctpStream<'_> {
        SctpStream::new(self, id)
    }

    /// Two halves for two tasks; the association is closed when both are gone.
    pub fn split(self) -> (SctpSendHalf, SctpReceiveHalf) {
        split::split(self)
    }

    /// Ends the association in order (RFC 9260 9.2): nothing can be sent any more, what was sent is delivered, what the peer
    /// has sent can still be read. Waits until the association is over, which may take a reader: a peer that cannot get rid
    /// of its messages cannot agree.
    ///
    /// # Errors
    /// Why it ended otherwise: as [`recv`](Self::recv).
    ///
    /// # Cancel safety
    /// Once polled, the shutdown goes on when the future is dropped.
    pub async fn shutdown(&self) -> io::Result<()> {
        self.start_shutdown();
        self.closed().await
    }

    /// Begins what [`shutdown`](Self::shutdown) waits for.
    pub fn start_shutdown(&self) {
        let now = self.io.shared().now();
        self.io
            .command(|state| state.socket.association.shutdown(now));
        // Timers, and readiness.
        self.io.kick();
    }

    /// Waits until the association is over, whoever ends it.
    ///
    /// # Errors
    /// Why it has failed, unless somebody was told already.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn closed(&self) -> io::Result<()> {
        self.io.wait_for(Readiness::WRITE_CLOSED).await?;
        match self.take_error()? {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Ends the association at once (RFC 9260 9.1). `reason` goes to the peer, which sees it in its notification; what was
    /// not delivered is lost.
    pub fn abort(&self, reason: impl Into<Bytes>) {
        let reason = reason.into();
        self.io
            .command(|state| state.socket.association.abort(reason));
        self.io.kick();
    }

    /// Waits until the association is ready for any of an interest. Notifications make it ready for
    /// [`event`](Self::event) only.
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

    /// Waits until something can be received.
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

    /// Waits until something can be sent.
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

    /// Polls for something to receive. Only the task of the last call to this or [`poll_recv`](Self::poll_recv) is woken.
    ///
    /// # Errors
    /// When the stack has ended.
    pub fn poll_recv_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_ready(cx, Direction::Read)
    }

    /// Polls for room to send. Only the task of the last call to this or [`poll_send`](Self::poll_send) is woken.
    ///
    /// # Errors
    /// When the stack has ended.
    pub fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_ready(cx, Direction::Write)
    }
}

impl Drop for SctpAssociation {
    fn drop(&mut self) {
        self.io.shared().close_sctp(self.io.slot());
    }
}

impl fmt::Debug for SctpAssociation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.io.lock();
        f.debug_struct("SctpAssociation")
            .field("addr", &state.socket.local())
            .field("peer", &state.socket.remote())
            .field("state", &state.socket.association.state())
            .finish()
    }
}
