//! The stack as a program holds it: [`Stack`], and how sockets find it.
//!
//! Owns the handle, not the machinery: the engine carries packets, the driver runs it, the registry answers
//! "which stack?" for sockets made without one.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::{fmt, future};

use tokio::runtime::{Handle, Id};

use super::builder::Builder;
use super::icmp::IcmpSocket;
use super::icmp_errors::IcmpErrors;
use super::lookup::{self, HostResolver, Resolver, ToSocketAddrs};
use super::registry::{self, Entered, Scoped};
use super::sctp::{SctpAssociation, SctpBuilder, SctpListener, SctpSocket};
use super::tcp::{TcpListener, TcpSocket, TcpStream};
use super::udp::UdpSocket;
use crate::config::Config;
use crate::driver::{self, Lifetime, Shared};
use crate::engine::network::Interface;
use crate::engine::{SocketSummary, StackStats};
use crate::error::SocketError;
use crate::ip::InterfaceId;
use crate::ip::address::InterfaceAddress;
use crate::ip::autoconf::dad::{AddressState, LostAddress};
use crate::ip::autoconf::dhcp::Lease;
use crate::ip::autoconf::rarp::Answer;
use crate::ip::autoconf::router_discovery::Advertised;
use crate::neighbor::NeighborInfo;
use crate::tcp::info::State;

/// A network stack: interfaces, addresses, routes and every socket on them.
///
/// A cheap handle; clones are the same stack. The stack runs on the tokio runtime it was built on and lives until
/// that ends, or until its last handle and socket are gone and connections that were dropped have delivered their
/// data or given it up. Nothing else keeps it alive, so a program that finds its stack by the runtime keeps a handle.
/// [`Stack::shutdown`] waits for the end.
///
/// # How sockets find their stack
///
/// `TcpListener::bind(..)` and the like have tokio's signatures and no stack in them. They take, in this order:
///
/// 1. the stack that is named: [`Stack::tcp_listener`], [`Stack::tcp_stream`], [`Stack::udp_socket`], …;
/// 2. the stack of the enclosing [`Stack::scope`] or [`Stack::enter`];
/// 3. the stack of the current tokio runtime: the first one built on it, or one [attached](Stack::attach) to it;
/// 4. the process's default ([`Stack::set_default`]);
/// 5. a stack of the loopback alone, made for the runtime on first use. Its ports belong to that runtime: other
///    runtimes, kernel sockets and other processes do not see them.
///
/// # Examples
///
/// ```
/// use tidewire::net::{TcpListener, TcpStream};
/// use tidewire_netdev::memory;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (left, right) = memory::pair(memory::PairConfig::default());
/// let server = tidewire::Stack::builder().device(left).address("10.0.0.1/24").build()?;
/// let client = tidewire::Stack::builder().device(right).address("10.0.0.2/24").build()?;
///
/// let listener = server.tcp_listener("10.0.0.1:80").await?;
/// let (accepted, connected) = tokio::join!(listener.accept(), client.tcp_stream("10.0.0.1:80"));
/// let (mut accepted, mut connected) = (accepted?.0, connected?);
///
/// connected.write_all(b"hello").await?;
/// drop(connected);
/// let mut text = String::new();
/// accepted.read_to_string(&mut text).await?;
/// assert_eq!(text, "hello");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Stack {
    shared: Arc<Shared>,
    resolver: Arc<dyn Resolver>,
}

/// A stack that is not kept alive by this.
#[derive(Clone)]
pub(crate) struct WeakStack {
    shared: Weak<Shared>,
    resolver: Arc<dyn Resolver>,
}

impl WeakStack {
    /// The stack, if its driver still runs.
    pub(crate) fn upgrade(&self) -> Option<Stack> {
        let shared = self.shared.upgrade().filter(|shared| shared.is_alive())?;
        Some(Stack {
            shared,
            resolver: Arc::clone(&self.resolver),
        })
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.shared
            .upgrade()
            .is_some_and(|shared| shared.is_alive())
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.shared.ptr_eq(&other.shared)
    }
}

impl Stack {
    /// A builder; without a device it makes a stack of the loopback alone.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// What a builder has started.
    pub(crate) fn from_parts(shared: Arc<Shared>, resolver: Arc<dyn Resolver>) -> Self {
        Self { shared, resolver }
    }

    pub(crate) fn lazy_loopback(runtime: &Handle) -> io::Result<Self> {
        let shared = driver::start(Config::default(), Vec::new(), runtime, Lifetime::Runtime)?;
        Ok(Self {
            shared,
            resolver: Arc::new(HostResolver),
        })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn resolver(&self) -> &dyn Resolver {
        &*self.resolver
    }

    pub(crate) fn downgrade(&self) -> WeakStack {
        WeakStack {
            shared: Arc::downgrade(&self.shared),
            resolver: Arc::clone(&self.resolver),
        }
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Whether a listener of this stack takes connections to `remote`.
    pub(crate) fn listens_on(&self, remote: SocketAddr) -> bool {
        let takes = |local: SocketAddr| {
            local.port() == remote.port()
                && (local.ip().is_unspecified() || local.ip() == remote.ip())
        };
        self.sockets().iter().any(|socket| {
            socket.protocol == "tcp" && socket.state == Some(State::Listen) && takes(socket.local)
        })
    }

    /// Listens on this stack, as [`TcpListener::bind`] does.
    ///
    /// # Errors
    /// As [`TcpListener::bind`].
    pub async fn tcp_listener<A: ToSocketAddrs>(&self, addr: A) -> io::Result<TcpListener> {
        let target = lookup::target(&addr);
        TcpListener::bind_on(self, target).await
    }

    /// Connects from this stack, as [`TcpStream::connect`] does.
    ///
    /// # Errors
    /// As [`TcpStream::connect`].
    ///
    /// # Cancel safety
    /// Dropping the future gives the attempt up.
    pub async fn tcp_stream<A: ToSocketAddrs>(&self, addr: A) -> io::Result<TcpStream> {
        let target = lookup::target(&addr);
        TcpStream::connect_on(self, target).await
    }

    /// An unbound TCP socket of this stack for IPv4, as [`TcpSocket::new_v4`] makes.
    ///
    /// # Errors
    /// None at present; tokio's signature.
    pub fn tcp_socket_v4(&self) -> io::Result<TcpSocket> {
        Ok(TcpSocket::new_v4()?.on(self))
    }

    /// An unbound TCP socket of this stack for IPv6, as [`TcpSocket::new_v6`] makes.
    ///
    /// # Errors
    /// None at present; tokio's signature.
    pub fn tcp_socket_v6(&self) -> io::Result<TcpSocket> {
        Ok(TcpSocket::new_v6()?.on(self))
    }

    /// Binds a UDP socket on this stack, as [`UdpSocket::bind`] does.
    ///
    /// # Errors
    /// As [`UdpSocket::bind`].
    pub async fn udp_socket<A: ToSocketAddrs>(&self, addr: A) -> io::Result<UdpSocket> {
        let target = lookup::target(&addr);
        UdpSocket::bind_on(self, target).await
    }

    /// Listens for SCTP associations on this stack, as [`SctpListener::bind`] does.
    ///
    /// # Errors
    /// As [`SctpListener::bind`].
    pub async fn sctp_listener<A: ToSocketAddrs>(&self, addresses: A) -> io::Result<SctpListener> {
        self.sctp_builder().listen(addresses).await
    }

    /// Opens an SCTP association from this stack, as [`SctpAssociation::connect`] does.
    ///
    /// # Errors
    /// As [`SctpAssociation::connect`].
    ///
    /// # Cancel safety
    /// Dropping the future gives the attempt up.
    pub async fn sctp_association<A: ToSocketAddrs>(
        &self,
        addresses: A,
    ) -> io::Result<SctpAssociation> {
        self.sctp_builder().connect(addresses).await
    }

    /// Binds a one-to-many SCTP socket on this stack, as [`SctpSocket::bind`] does.
    ///
    /// # Errors
    /// As [`SctpSocket::bind`].
    pub async fn sctp_socket<A: ToSocketAddrs>(&self, addresses: A) -> io::Result<SctpSocket> {
        self.sctp_builder().socket(addresses).await
    }

    /// Options and local addresses of an SCTP socket of this stack.
    pub fn sctp_builder(&self) -> SctpBuilder {
        SctpBuilder::new().on(self)
    }

    /// Opens an ICMP echo socket on this stack, as [`IcmpSocket::bind`] does.
    ///
    /// # Errors
    /// As [`IcmpSocket::bind`].
    pub async fn icmp_socket(&self, local: IpAddr) -> io::Result<IcmpSocket> {
        IcmpSocket::bind_on(self, local)
    }

    /// Hears of ICMP errors about packets of this stack, from now on, as [`IcmpErrors::listen`] does.
    ///
    /// # Errors
    /// As [`IcmpErrors::listen`].
    pub fn icmp_errors(&self) -> io::Result<IcmpErrors> {
        IcmpErrors::listen_on(self)
    }

    /// Looks up a host with this stack's resolver.
    ///
    /// # Errors
    /// As [`lookup_host`](super::lookup_host).
    pub async fn lookup_host<T: ToSocketAddrs>(
        &self,
        host: T,
    ) -> io::Result<impl Iterator<Item = SocketAddr>> {
        let target = lookup::target(&host);
        lookup::resolve(self, target).await
    }

    /// Runs `future` with this stack as the one that its sockets find.
    ///
    /// Tasks that the future spawns are outside: they find the stack of their runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let stack = tidewire::Stack::builder().seed(7).build()?;
    /// let listener = stack.scope(tidewire::net::TcpListener::bind("127.0.0.1:80")).await?;
    /// assert!(stack.tcp_stream("127.0.0.1:80").await.is_ok());
    /// # drop(listener);
    /// # Ok(())
    /// # }
    /// ```
    pub fn scope<F: Future>(&self, future: F) -> Scoped<F> {
        Scoped::new(self.clone(), future)
    }

    /// Makes this stack the one that sockets find on this thread until the guard is dropped.
    ///
    /// Do not hold the guard across an `.await`; it could not be sent, and [`Stack::scope`] is for that.
    pub fn enter(&self) -> Entered<'_> {
        Entered::new(self)
    }

    /// Makes this stack the one for sockets that find no other, for as long as it lives: on threads outside any
    /// runtime, and in runtimes that have none of their own.
    pub fn set_default(&self) {
        registry::set_default(self);
    }

    /// Makes this stack the one that sockets of `runtime` find, for as long as that runtime and the stack live.
    ///
    /// Packets and timers stay with the runtime the stack was built on.
    pub fn attach(&self, runtime: &Handle) {
        registry::register(runtime, self);
        if runtime.id() == self.shared.handle().id() {
            return;
        }
        let detach = Detach {
            id: runtime.id(),
            stack: self.downgrade(),
        };
        runtime.spawn(async move {
            let _detach = detach;
            future::pending::<()>().await;
        });
    }

    /// Ends the stack in an orderly way: no new sockets, and what dropped connections still have to deliver is
    /// delivered or given up first. Sockets that are still held are closed with an error at the end.
    pub async fn shutdown(&self) {
        self.shared.shutdown().await;
    }

    /// Packets, drops and connections, counted since the stack was built.
    pub fn stats(&self) -> StackStats {
        self.shared.stats()
    }

    /// The neighbours on Ethernet links, as `ip neighbor` would list them.
    pub fn neighbors(&self) -> Vec<NeighborInfo> {
        self.shared.engine().neighbors()
    }

    /// The interfaces, loopback first: names, hardware addresses, what their devices can do.
    pub fn interfaces(&self) -> Vec<Interface> {
        self.shared.network().interfaces()
    }

    /// The addresses of all interfaces, also those that duplicate detection has not settled yet or has refused.
    pub fn addresses(&self) -> Vec<InterfaceAddress> {
        self.shared.engine().addresses()
    }

    /// Addresses that DHCP servers have lent, by interface.
    pub fn leases(&self) -> Vec<(InterfaceId, Lease)> {
        self.shared.engine().leases()
    }

    /// What routers have told, by interface: default routers, on-link prefixes, addresses with their lifetimes, DNS servers,
    /// and whether more is to be had by DHCPv6.
    pub fn advertised(&self) -> Vec<(InterfaceId, Advertised)> {
        self.shared.engine().advertised()
    }

    /// Gives all leases back to their servers (RFC 2131 4.4.6), and the addresses up with them: connections from them fail.
    /// No others are asked for.
    pub fn release_leases(&self) {
        self.shared.release_leases();
    }

    /// Addresses that RARP servers have told, by interface.
    pub fn rarp_answers(&self) -> Vec<(InterfaceId, Answer)> {
        self.shared.engine().rarp_answers()
    }

    /// Waits until no address is tentative any more (RFC 4862 5.4, RFC 5227), those by DHCP and RARP are there, and where routers
    /// are listened to one has been heard: at once, unless the stack was told to ask before it uses an address
    /// ([`DuplicateDetection::Strict`](crate::ip::autoconf::dad::DuplicateDetection)) or where to get one.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] when another host has one of the addresses; [`io::ErrorKind::TimedOut`] when no RARP
    /// server has answered; ENETDOWN when the stack has ended before.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn addresses_settled(&self) -> io::Result<()> {
        let engine = self.shared.engine();
        future::poll_fn(|cx| match engine.addresses_settled(cx.waker()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
        let addresses = self.addresses();
        let find = |state| addresses.iter().find(|address| address.state == state);
        if let Some(duplicate) = find(AddressState::Duplicate) {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                format!("another host has {}", duplicate.address()),
            ));
        }
        if find(AddressState::Tentative).is_some() {
            return Err(SocketError::NetworkDown.into());
        }
        match engine.rarp_failures().first() {
            None => Ok(()),
            Some(failed) => {
                let interfaces = self.interfaces();
                let named = interfaces.iter().find(|known| known.id == *failed);
                let name = named.map_or("the link", |named| named.name.as_str());
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no RARP server on {name} has answered"),
                ))
            }
        }
    }

    /// Waits until an address is given up, since another host has it (RFC 4862 5.4, RFC 5227 2.1 and 2.4, with
    /// [`AddressDefense`](crate::ip::autoconf::dad::AddressDefense)): sockets connected from it have failed, and new ones
    /// cannot be bound to it. Each loss is told once, the last 64 also to who asks later.
    ///
    /// # Errors
    /// ENETDOWN when the stack has ended.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn watch(stack: tidewire::Stack) -> std::io::Result<()> {
    /// loop {
    ///     let lost = stack.address_lost().await?;
    ///     eprintln!("{} is another host's", lost.address);
    /// }
    /// # }
    /// ```
    pub async fn address_lost(&self) -> io::Result<LostAddress> {
        let engine = self.shared.engine();
        let lost = future::poll_fn(|cx| engine.poll_lost_address(cx.waker())).await;
        Ok(lost?)
    }

    /// Every socket, as `ss` would list them.
    pub fn sockets(&self) -> Vec<SocketSummary> {
        self.shared.sockets()
    }
}

// As sockets, whose tokio counterparts are: no panic leaves a stack half changed for others to see.
impl UnwindSafe for Stack {}
impl RefUnwindSafe for Stack {}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("alive", &self.shared.is_alive())
            .finish_non_exhaustive()
    }
}

/// Dropped with the runtime it was spawned on: its id may be another's tomorrow.
struct Detach {
    id: Id,
    stack: WeakStack,
}

impl Drop for Detach {
    fn drop(&mut self) {
        registry::unregister(self.id, &self.stack);
    }
}

/// What `from_std` and `into_std` give: a socket of this stack is no kernel socket, and none becomes one.
pub(crate) fn no_kernel_socket() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "a tidewire socket has no file descriptor: kernel sockets cannot be converted from or into it",
    )
}

/// A socket option's value out of range (EINVAL).
pub(crate) fn invalid_option() -> io::Error {
    SocketError::InvalidInput.into()
}
