//! What an SCTP socket is told before it connects or listens.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::association::SctpAssociation;
use super::listener::SctpListener;
use super::socket::SctpSocket;
use crate::engine::ready_cache::Direction;
use crate::engine::sctp_one_to_many::OneToManyLimits;
use crate::engine::sctp_sockets::SctpOptions;
use crate::net::lookup::{self, Target, ToSocketAddrs};
use crate::net::registry;
use crate::net::stack::Stack;
use crate::sctp::association::State;
use crate::sctp::config::{InitMessage, SocketOptions};
use crate::transport::ports::BindRequest;

/// Associations that wait to be accepted, at most, unless [`SctpBuilder::backlog`] says otherwise.
const BACKLOG: u32 = 1024;

/// Options and local addresses of an SCTP socket that is to connect or to listen.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tidewire::net::sctp::{InitMessage, SctpBuilder, SendOptions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let listener = SctpBuilder::new().backlog(16).listen("127.0.0.1:5000").await?;
/// let client = SctpBuilder::new()
///     .init(InitMessage { outbound_streams: Some(100), ..InitMessage::default() })
///     .nodelay(true)
///     .linger(Some(Duration::from_secs(5)))
///     .connect("127.0.0.1:5000")
///     .await?;
/// let (server, _) = listener.accept().await?;
///
/// client.send("hello", SendOptions { stream: 99, ..SendOptions::default() }).await?;
/// let message = server.recv().await?.expect("nobody has shut down");
/// assert_eq!((message.stream, &message.data[..]), (99, &b"hello"[..]));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it connects or listens"]
pub struct SctpBuilder {
    stack: Option<Stack>,
    options: SctpOptions,
    bind: Vec<SocketAddr>,
    backlog: u32,
    limits: OneToManyLimits,
    only_v6: bool,
    reuse_address: bool,
    reuse_port: bool,
}

impl Default for SctpBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl SctpBuilder {
    /// A builder with the stack's own values.
    pub fn new() -> Self {
        Self {
            stack: None,
            options: SctpOptions::default(),
            bind: Vec::new(),
            backlog: BACKLOG,
            limits: OneToManyLimits::default(),
            only_v6: false,
            reuse_address: true,
            reuse_port: false,
        }
    }

    /// The stack to use, instead of the one that is found ([`Stack`] tells how).
    pub fn on(mut self, stack: &Stack) -> Self {
        self.stack = Some(stack.clone());
        self
    }

    /// All options at once, RFC 6458's.
    pub fn options(mut self, options: SocketOptions) -> Self {
        self.options.socket = options;
        self
    }

    /// `SCTP_INITMSG`: streams and attempts.
    pub fn init(mut self, init: InitMessage) -> Self {
        self.options.socket.init = init;
        self
    }

    /// `SCTP_NODELAY`: small messages are sent at once.
    pub fn nodelay(mut self, nodelay: bool) -> Self {
        self.options.socket.nodelay = Some(nodelay);
        self
    }

    /// The local addresses of a socket that is to connect (`sctp_bindx`); all have one port, 0 for a free one. Without any,
    /// a free port is taken, and all addresses of the stack are used: those of IPv4, and if a peer's address is one of
    /// IPv6, also those of IPv6. The peer is told which there are, as far as they mean something to it: loopback addresses
    /// only to a peer on the loopback, private and link-local ones only to peers with such. Each packet leaves from the
    /// address that the route to its destination suggests.
    pub fn bind(mut self, addresses: &[SocketAddr]) -> Self {
        self.bind = addresses.to_vec();
        self
    }

    /// Associations that wait to be accepted, less one; 4096 at most. Peers are told that resources are out beyond.
    pub fn backlog(mut self, backlog: u32) -> Self {
        self.backlog = backlog;
        self
    }

    /// How much a one-to-many socket takes on.
    pub fn limits(mut self, limits: OneToManyLimits) -> Self {
        self.limits = limits;
        self
    }

    /// `IPV6_V6ONLY`: `[::]` does not take IPv4.
    pub fn only_v6(mut self, only_v6: bool) -> Self {
        self.only_v6 = only_v6;
        self
    }

    /// `SO_REUSEADDR`; on by default.
    pub fn reuse_address(mut self, reuse: bool) -> Self {
        self.reuse_address = reuse;
        self
    }

    /// `SO_REUSEPORT`.
    pub fn reuse_port(mut self, reuse: bool) -> Self {
        self.reuse_port = reuse;
        self
    }

    /// TTL, or hop limit, of packets; at least 1.
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.options.ttl = Some(ttl.max(1));
        self
    }

    /// TOS octet or traffic class of packets. The ECN bits are not the application's.
    pub fn tos(mut self, tos: u8) -> Self {
        self.options.tos = tos;
        self
    }

    /// `SO_BINDTODEVICE`: the only interface to use.
    pub fn device(mut self, name: &str) -> Self {
        self.options.device = Some(name.to_owned());
        self
    }

    /// `SO_LINGER`: how long a dropped association may go on delivering; zero aborts it.
    pub fn linger(mut self, linger: Option<Duration>) -> Self {
        self.options.linger = linger;
        self
    }

    fn stack(&self) -> io::Result<Stack> {
        match &self.stack {
            Some(stack) => Ok(stack.clone()),
            None => registry::current(),
        }
    }

    fn request(&self, address: SocketAddr) -> BindRequest {
        BindRequest {
            reuse_address: self.reuse_address,
            reuse_port: self.reuse_port,
            only_v6: self.only_v6,
            device: self.options.device.clone(),
            ..BindRequest::new(address)
        }
    }

    /// Listens on every address that `addresses` yields (`sctp_bindx`); they have one port, and port 0 asks for a free one.
    /// `0.0.0.0` stands for all IPv4 addresses of the stack, `[::]` for all there are. A name that yields addresses of which some are not this stack's listens on the others.
    ///
    /// # Errors
    /// `AddrInUse`, `AddrNotAvailable` (none is an address of the stack), `InvalidInput` for options out of range, for ports
    /// that differ, or when `addresses` yields nothing.
    pub async fn listen<A: ToSocketAddrs>(self, addresses: A) -> io::Result<SctpListener> {
        let target = lookup::target(&addresses);
        let stack = self.stack()?;
        let addresses = bindable(&stack, target).await?;
        self.on(&stack).listen_on(&addresses)
    }

    /// Listens on every one of `addresses`, which have one port; port 0 asks for a free one.
    ///
    /// # Errors
    /// As [`listen`](Self::listen); `AddrNotAvailable` if any is not an address of the stack.
    pub fn listen_on(self, addresses: &[SocketAddr]) -> io::Result<SctpListener> {
        let stack = self.stack()?;
        let first = *addresses.first().ok_or_else(lookup::no_addresses)?;
        let shared = stack.shared();
        let leases = shared.sctp_bind(addresses, &self.request(first))?;
        let slot = shared.sctp_listen(leases, self.backlog, self.only_v6, &self.options)?;
        Ok(SctpListener::new(Arc::clone(shared), slot))
    }

    /// Binds a one-to-many socket to every address that `addresses` yields, as [`listen`](Self::listen) does.
    ///
    /// # Errors
    /// As there.
    pub async fn socket<A: ToSocketAddrs>(self, addresses: A) -> io::Result<SctpSocket> {
        let target = lookup::target(&addresses);
        let stack = self.stack()?;
        let addresses = bindable(&stack, target).await?;
        self.on(&stack).socket_on(&addresses)
    }

    /// Binds a one-to-many socket to every one of `addresses`, which have one port; port 0 asks for a free one.
    ///
    /// # Errors
    /// As [`listen_on`](Self::listen_on).
    pub fn socket_on(self, addresses: &[SocketAddr]) -> io::Result<SctpSocket> {
        let stack = self.stack()?;
        let first = *addresses.first().ok_or_else(lookup::no_addresses)?;
        let shared = stack.shared();
        let leases = shared.sctp_bind(addresses, &self.request(first))?;
        let group = shared.sctp_one_to_many(leases, self.only_v6, &self.options, self.limits)?;
        Ok(SctpSocket::new(&stack, group))
    }

    /// Opens one association with the peer that has every address `addresses` yields (`sctp_connectx`). The first one that
    /// there is a way to is its primary address; while nothing answers, the others are tried in turn. Those that the peer
    /// does not list as its own are forgotten. A name may stand for several hosts: if one refuses, those behind it are
    /// tried as a peer of their own.
    ///
    /// # Errors
    /// `ConnectionRefused`, `TimedOut`, `NetworkUnreachable`, `HostUnreachable`, `AddrNotAvailable`, `AddrInUse`;
    /// `InvalidInput` for options out of range or when `addresses` yields nothing.
    ///
    /// # Cancel safety
    /// Dropping the future gives the attempt up; nothing is left behind.
    pub async fn connect<A: ToSocketAddrs>(self, addresses: A) -> io::Result<SctpAssociation> {
        let target = lookup::target(&addresses);
        let stack = self.stack()?;
        let peers: Vec<SocketAddr> = lookup::resolve(&stack, target).await?.collect();
        let mut last_error = lookup::no_addresses();
        for at in 0..peers.len() {
            match self.open(&stack, &peers[at..]).await {
                Ok(association) => return Ok(association),
                Err(error) => last_error = error,
            }
            if last_error.kind() != io::ErrorKind::ConnectionRefused {
                break;
            }
        }
        Err(last_error)
    }

    /// Sends the INIT and waits for what comes of it.
    async fn open(&self, stack: &Stack, peers: &[SocketAddr]) -> io::Result<SctpAssociation> {
        let shared = stack.shared();
        let leases = match self.bind.first() {
            Some(first) => Some(shared.sctp_bind(&self.bind, &self.request(*first))?),
            None => None,
        };
        let slot = shared.sctp_connect(leases, peers, &self.options)?;
        let association = SctpAssociation::new(Arc::clone(shared), slot);
        poll_fn(|cx| association.io.poll_ready(cx, Direction::Write)).await?;
        // What ICMP has said of addresses that were tried does not matter once one has answered.
        if association.io.lock().socket.association.state() != State::Closed {
            return Ok(association);
        }
        match association.take_error()? {
            None => Ok(association),
            Some(error) => Err(error),
        }
    }
}

/// The addresses to bind to: of a name that yields several, those that are the stack's.
async fn bindable(stack: &Stack, target: io::Result<Target>) -> io::Result<Vec<SocketAddr>> {
    let mut addresses: Vec<SocketAddr> = lookup::resolve(stack, target).await?.collect();
    let network = stack.shared().network();
    let can_bind = |address: &SocketAddr| network.can_bind(address.ip().to_canonical());
    if addresses.len() > 1 && addresses.iter().any(can_bind) {
        addresses.retain(can_bind);
    }
    Ok(addresses)
}
