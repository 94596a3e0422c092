//! A one-to-many socket as a program holds it: its port, and the life of its associations.
//!
//! Messages and notifications are in `socket_io`, options in `socket_options`.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::association::SctpAssociation;
use super::builder::SctpBuilder;
use crate::engine::ready_cache::Direction;
use crate::engine::sctp_one_to_many::{AssociationId, OneToMany, OneToManyStats};
use crate::engine::sctp_sockets::SctpSocket as Association;
use crate::engine::slot::{OneToManySlot, SctpListenerSlot, SctpSlot, SlotState};
use crate::error::{SocketError, SocketResult};
use crate::net::lookup::{self, ToSocketAddrs};
use crate::net::readiness::Io;
use crate::net::stack::Stack;
use crate::sctp::association::{PathStatus, State, Stats, Status};
use crate::sctp::endpoint::EndpointStats;
use crate::transport::Readiness;

/// One port with many associations: SCTP's one-to-many socket (RFC 6458 3, `SOCK_SEQPACKET`).
///
/// [`send_to`](Self::send_to) sets an association up when there is none with that peer; peers can set one up while the socket
/// [listens](Self::listen). Each has an [`AssociationId`], under which it is found in what [`recv`](Self::recv) and
/// [`event`](Self::event) give. What becomes of an association is told by its notifications and fails nothing else; when it
/// has ended and everything of it is read, its identifier means nothing any more, and is never given again.
///
/// Each association has buffers of its own: one whose peer is slow holds up nobody who sends to another. Those that have
/// something to be read are served in turn. All methods take `&self`.
///
/// Dropping the socket shuts its associations down in the background; what was sent is still delivered. An association with
/// unread messages is aborted, and so are all with a [linger](SctpBuilder::linger) of zero.
///
/// # Examples
///
/// ```
/// use tidewire::net::sctp::{SctpSocket, SendOptions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let server = SctpSocket::bind("127.0.0.1:5000").await?;
/// server.listen()?;
/// let client = SctpSocket::bind("127.0.0.1:0").await?;
///
/// let to_server = client.send_to("hello", "127.0.0.1:5000", SendOptions::default()).await?;
/// let (id, peer, message) = server.recv().await?;
/// assert_eq!((peer, &message.data[..]), (client.local_addr()?, &b"hello"[..]));
///
/// server.send(id, "goodbye", SendOptions::default()).await?;
/// let (id, _, message) = client.recv().await?;
/// assert_eq!((id, &message.data[..]), (to_server, &b"goodbye"[..]));
/// client.shutdown(id).await?;
/// assert!(client.associations().is_empty());
/// # Ok(())
/// # }
/// ```
pub struct SctpSocket {
    pub(super) io: Io<OneToMany>,
    pub(super) endpoint: Arc<SctpListenerSlot>,
    pub(super) stack: Stack,
}

impl SctpSocket {
    pub(super) fn new(stack: &Stack, group: Arc<OneToManySlot>) -> Self {
        let endpoint = Arc::clone(group.lock().socket.endpoint());
        Self {
            io: Io::new(Arc::clone(stack.shared()), group),
            endpoint,
            stack: stack.clone(),
        }
    }

    /// Binds to every address that `addresses` yields. Port 0 asks for a free port. Peers are refused until
    /// [`listen`](Self::listen). For options use [`SctpBuilder`].
    ///
    /// # Errors
    /// As [`SctpBuilder::socket`].
    pub async fn bind<A: ToSocketAddrs>(addresses: A) -> io::Result<Self> {
        SctpBuilder::new().socket(addresses).await
    }

    /// The first address it is bound to.
    ///
    /// # Errors
    /// None at present; for the sake of `UdpSocket`'s signature.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let first = self.endpoint.lock().socket.locals().first().copied();
        first.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// All addresses it is bound to (`sctp_getladdrs`).
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.endpoint.lock().socket.locals().to_vec()
    }

    /// Lets peers set associations up.
    ///
    /// # Errors
    /// `AddrInUse` when another socket listens there already.
    pub fn listen(&self) -> io::Result<()> {
        let engine = self.io.shared().engine();
        Ok(engine.set_sctp_listening(&self.endpoint, true)?)
    }

    /// Refuses peers from now on. The associations that there are stay.
    ///
    /// # Errors
    /// None at present.
    pub fn stop_listening(&self) -> io::Result<()> {
        let engine = self.io.shared().engine();
        Ok(engine.set_sctp_listening(&self.endpoint, false)?)
    }

    /// Whether peers can set associations up.
    pub fn is_listening(&self) -> bool {
        self.endpoint.lock().socket.is_listening()
    }

    /// The addresses a name yields, as far as this socket speaks to such.
    pub(super) async fn peers<A: ToSocketAddrs>(&self, peer: A) -> io::Result<Vec<SocketAddr>> {
        let target = lookup::target(&peer);
        let mut peers: Vec<SocketAddr> = lookup::resolve(&self.stack, target).await?.collect();
        if peers.is_empty() {
            return Err(lookup::no_addresses());
        }
        let socket = &self.endpoint.lock().socket;
        peers.retain(|peer| socket.speaks_to(peer.ip()));
        if peers.is_empty() {
            return Err(SocketError::InvalidInput.into());
        }
        Ok(peers)
    }

    fn open(&self, peers: &[SocketAddr]) -> SocketResult<(AssociationId, Arc<SctpSlot>)> {
        let shared = self.io.shared();
        for peer in peers {
            if let Some((_, slot)) = shared.engine().sctp_member(self.io.slot(), *peer)? {
                let state = slot.lock().socket.association.state();
                return Err(match state.is_opening() {
                    true => SocketError::AlreadyInProgress,
                    false => SocketError::AlreadyConnected,
                });
            }
        }
        shared.sctp_open_member(self.io.slot(), peers, None)
    }

    /// Sets an association up with the peer that has every address `addresses` yields, the first one its primary address, and
    /// waits for it (RFC 6458 3.1.6). Nothing is tried one by one, as [`SctpBuilder::connect`] does.
    ///
    /// # Errors
    /// EISCONN or EALREADY if there is one with that peer; `AddrNotAvailable` if there is one that was peeled off; ENOBUFS at
    /// the socket's [limits](SctpBuilder::limits); `InvalidInput` if the socket cannot have such a peer; and as
    /// [`SctpBuilder::connect`].
    ///
    /// # Cancel safety
    /// The attempt goes on when the future is dropped; notifications tell what comes of it.
    pub async fn connect<A: ToSocketAddrs>(&self, addresses: A) -> io::Result<AssociationId> {
        let peers = self.peers(addresses).await?;
        let (id, slot) = self.open(&peers)?;
        let opening = Io::new(Arc::clone(self.io.shared()), slot);
        let outcome = opening.part_op(Direction::Write.mask(), |state| {
            let association = &mut state.socket.association;
            match association.state() {
                State::CookieWait | State::CookieEchoed => Err(SocketError::WouldBlock),
                State::Closed => Err(association
                    .take_error()
                    .unwrap_or(SocketError::ConnectionAborted)),
                _ => Ok(id),
            }
        });
        outcome.await
    }

    /// Begins to set an association up: its first packet is sent, and notifications tell what comes of it.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), as far as it is known at once.
    pub fn start_connect(&self, addresses: &[SocketAddr]) -> io::Result<AssociationId> {
        let (id, _) = self.open(addresses)?;
        Ok(id)
    }

    /// The association of that identifier; `None` if it has left the socket.
    fn find(&self, id: AssociationId) -> Option<Io<Association>> {
        let slot = self.io.lock().socket.find(id).cloned()?;
        Some(Io::new(Arc::clone(self.io.shared()), slot))
    }

    /// Looks at a living association.
    fn look<R>(
        &self,
        id: AssociationId,
        look: impl FnOnce(&mut SlotState<Association>) -> R,
    ) -> io::Result<R> {
        let association = self.member(id, SocketError::InvalidInput)?;
        let state = &mut *association.lock();
        Ok(look(state))
    }

    /// A living association of this socket.
    pub(super) fn member(
        &self,
        id: AssociationId,
        missing: SocketError,
    ) -> io::Result<Io<Association>> {
        let found = self.find(id).filter(is_member);
        found.ok_or_else(|| missing.into())
    }

    /// The living associations, the oldest first.
    pub fn associations(&self) -> Vec<AssociationId> {
        let mut ids = self.io.lock().socket.ids();
        ids.retain(|id| self.find(*id).as_ref().is_some_and(is_member));
        ids
    }

    /// A snapshot of an association (`SCTP_STATUS`).
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) if the socket has no such association, or it has ended.
    pub fn status(&self, id: AssociationId) -> io::Result<Status> {
        self.look(id, |state| state.socket.association.status())
    }

    /// Counts of an association's life.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub fn association_stats(&self, id: AssociationId) -> io::Result<Stats> {
        self.look(id, |state| state.socket.association.stats())
    }

    /// A snapshot of the path to each address of a peer (`SCTP_GET_PEER_ADDR_INFO`).
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub fn paths(&self, id: AssociationId) -> io::Result<Vec<PathStatus>> {
        self.look(id, |state| {
            let paths = state.socket.association.path_statuses();
            paths.map(|(_, status)| status).collect()
        })
    }

    /// The primary address of a peer.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub fn peer_addr(&self, id: AssociationId) -> io::Result<SocketAddr> {
        self.look(id, |state| state.socket.remote())
    }

    /// All addresses of a peer (`sctp_getpaddrs`).
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub fn peer_addrs(&self, id: AssociationId) -> io::Result<Vec<SocketAddr>> {
        self.look(id, |state| state.socket.remotes())
    }

    /// All of our addresses that an association uses (`sctp_getladdrs`).
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub fn association_local_addrs(&self, id: AssociationId) -> io::Result<Vec<SocketAddr>> {
        self.look(id, |state| state.socket.locals())
    }

    /// How many associations there are, what they hold, what the limits have refused.
    pub fn stats(&self) -> OneToManyStats {
        self.io.lock().socket.stats()
    }

    /// Counts of the port's life: INITs, cookies, refusals.
    pub fn endpoint_stats(&self) -> EndpointStats {
        self.endpoint.lock().socket.stats()
    }

    /// Makes an association one of its own (`sctp_peeloff`, RFC 6458 9.2). Its unread messages and notifications go along,
    /// and nothing of it is lost or told here afterwards. Whoever waits to send to it by its identifier gets EPIPE.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) if the socket has no such association, or it has ended.
    pub fn peel_off(&self, id: AssociationId) -> io::Result<SctpAssociation> {
        let shared = self.io.shared();
        let slot = shared.sctp_peel_off(self.io.slot(), id)?;
        Ok(SctpAssociation::new(Arc::clone(shared), slot))
    }

    /// Ends an association in order (`SCTP_EOF`; RFC 9260 9.2): nothing can be sent to it any more, what was sent is
    /// delivered, what its peer has sent can still be read. Waits until it is over, which may take a reader.
    ///
    /// # Errors
    /// `BrokenPipe` (EPIPE) if the socket has no such association; why it ended otherwise, unless somebody was told already.
    ///
    /// # Cancel safety
    /// Once polled, the shutdown goes on when the future is dropped.
    pub async fn shutdown(&self, id: AssociationId) -> io::Result<()> {
        let association = self.begin_shutdown(id)?;
        association.wait_for(Readiness::WRITE_CLOSED).await?;
        let error = association.lock().socket.association.take_error();
        error.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Begins what [`shutdown`](Self::shutdown) waits for.
    ///
    /// # Errors
    /// `BrokenPipe` (EPIPE) if the socket has no such association.
    pub fn start_shutdown(&self, id: AssociationId) -> io::Result<()> {
        self.begin_shutdown(id).map(drop)
    }

    fn begin_shutdown(&self, id: AssociationId) -> io::Result<Io<Association>> {
        let association = self.member(id, SocketError::BrokenPipe)?;
        let now = self.io.shared().now();
        association.command(|state| {
            if state.socket.member_id().is_some() {
                state.socket.association.shutdown(now);
            }
        });
        association.kick();
        Ok(association)
    }

    /// Ends an association at once (`SCTP_ABORT`; RFC 9260 9.1). `reason` goes to the peer, which sees it in its
    /// notification; what was not delivered is lost.
    ///
    /// # Errors
    /// `BrokenPipe` (EPIPE) if the socket has no such association.
    pub fn abort(&self, id: AssociationId, reason: impl Into<Bytes>) -> io::Result<()> {
        let reason = reason.into();
        let association = self.member(id, SocketError::BrokenPipe)?;
        association.command(|state| {
            if state.socket.member_id().is_some() {
                state.socket.association.abort(reason);
            }
        });
        association.kick();
        Ok(())
    }
}

/// Whether it has not left its socket, and has not ended.
fn is_member(association: &Io<Association>) -> bool {
    let socket = &association.lock().socket;
    socket.member_id().is_some() && socket.association.state() != State::Closed
}

impl Drop for SctpSocket {
    fn drop(&mut self) {
        self.io.shared().close_one_to_many(self.io.slot());
    }
}

impl fmt::Debug for SctpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SctpSocket")
            .field("addrs", &self.local_addrs())
            .field("associations", &self.stats().associations)
            .finish()
    }
}
