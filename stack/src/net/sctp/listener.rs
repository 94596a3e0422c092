//! An SCTP socket that accepts associations.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::Interest;

use super::association::SctpAssociation;
use super::builder::SctpBuilder;
use crate::driver::Shared;
use crate::engine::ready_cache::Direction;
use crate::engine::sctp_sockets::SctpListenerSocket;
use crate::engine::slot::SctpListenerSlot;
use crate::net::lookup::ToSocketAddrs;
use crate::net::readiness::{self, Io};
use crate::sctp::config::SocketOptions;
use crate::sctp::endpoint::EndpointStats;

/// An SCTP server's port: answers INITs without keeping state, and gives associations whose cookie has come back.
///
/// Dropping a listener aborts the associations that nobody accepted; accepted ones are independent of it.
///
/// # Examples
///
/// ```
/// use tidewire::net::sctp::{SctpAssociation, SctpListener, SendOptions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let listener = SctpListener::bind("127.0.0.1:0").await?;
/// let client = SctpAssociation::connect(listener.local_addr()?).await?;
/// let (server, peer) = listener.accept().await?;
/// assert_eq!(peer, client.local_addr()?);
///
/// server.send("hello", SendOptions::default()).await?;
/// let message = client.recv().await?.expect("nobody has shut down");
/// assert_eq!(&message.data[..], b"hello");
/// # Ok(())
/// # }
/// ```
pub struct SctpListener {
    io: Io<SctpListenerSocket>,
}

impl SctpListener {
    pub(super) fn new(shared: Arc<Shared>, slot: Arc<SctpListenerSlot>) -> Self {
        Self {
            io: Io::new(shared, slot),
        }
    }

    /// Listens on every address that `addresses` yields. Port 0 asks for a free port, told by
    /// [`local_addr`](Self::local_addr). For options use [`SctpBuilder`].
    ///
    /// # Errors
    /// As [`SctpBuilder::listen`].
    pub async fn bind<A: ToSocketAddrs>(addresses: A) -> io::Result<Self> {
        SctpBuilder::new().listen(addresses).await
    }

    /// Waits for an association and gives it with its peer's primary address.
    ///
    /// # Errors
    /// When the stack has ended.
    ///
    /// # Cancel safety
    /// Cancel safe: an association is taken only by the poll that returns it.
    pub async fn accept(&self) -> io::Result<(SctpAssociation, SocketAddr)> {
        let mask = readiness::mask(Interest::READABLE);
        self.io.async_io(mask, || self.accept_now()).await
    }

    /// Takes an association, if one waits.
    ///
    /// # Errors
    /// `WouldBlock` if none does; when the stack has ended.
    pub fn try_accept(&self) -> io::Result<(SctpAssociation, SocketAddr)> {
        self.accept_now()
    }

    /// Polls for an association. Only the task of the last call is woken.
    ///
    /// # Errors
    /// When the stack has ended.
    pub fn poll_accept(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(SctpAssociation, SocketAddr)>> {
        self.io.poll_io(cx, Direction::Read, || self.accept_now())
    }

    fn accept_now(&self) -> io::Result<(SctpAssociation, SocketAddr)> {
        let shared = self.io.shared();
        let (slot, peer) = shared.sctp_accept(self.io.slot())?;
        Ok((SctpAssociation::new(Arc::clone(shared), slot), peer))
    }

    /// The first address it listens on.
    ///
    /// # Errors
    /// None at present; for the sake of `TcpListener`'s signature.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let addresses = self.local_addrs();
        addresses
            .first()
            .copied()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// All addresses it listens on (`sctp_getladdrs`).
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.io.lock().socket.locals().to_vec()
    }

    /// Counts of the port's life: INITs, cookies, refusals.
    pub fn stats(&self) -> EndpointStats {
        self.io.lock().socket.stats()
    }

    /// What associations that it will accept begin with. What INIT ACKs have promised already stays.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) for values out of range.
    pub fn set_options(&self, options: SocketOptions) -> io::Result<()> {
        let config = self.io.shared().engine().sctp_config();
        options.check(config)?;
        let socket = &mut self.io.lock().socket;
        socket.set_options(config, options);
        Ok(())
    }

    /// What associations that it will accept begin with.
    pub fn options(&self) -> SocketOptions {
        self.io.lock().socket.options.socket.clone()
    }
}

impl Drop for SctpListener {
    fn drop(&mut self) {
        self.io.shared().close_sctp_listener(self.io.slot());
    }
}

impl fmt::Debug for SctpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SctpListener")
            .field("addrs", &self.local_addrs())
            .finish()
    }
}
