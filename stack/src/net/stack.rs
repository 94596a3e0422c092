//! The stack as a program holds it: [`Stack`], its [`Builder`], and how sockets find it.
//!
//! Owns the handle, not the machinery: the engine carries packets, the driver runs it, the registry answers
//! "which stack?" for sockets made without one.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, Weak};
use std::{fmt, future};

use tidewire_netdev::Device;
use tokio::runtime::{Handle, Id};

use super::icmp::IcmpSocket;
use super::lookup::{self, HostResolver, Resolver, ToSocketAddrs};
use super::registry::{self, Entered, Scoped};
use super::tcp::{TcpListener, TcpSocket, TcpStream};
use super::udp::UdpSocket;
use crate::config::{Config, HostConfig};
use crate::driver::{self, InterfaceConfig, Lifetime, Shared};
use crate::engine::{SocketSummary, StackStats};
use crate::error::SocketError;
use crate::ip::Cidr;
use crate::tcp::info::State;
use crate::{tcp, udp};

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
        self.sockets()
            .iter()
            .any(|socket| socket.state == Some(State::Listen) && takes(socket.local))
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

    /// Opens an ICMP echo socket on this stack, as [`IcmpSocket::bind`] does.
    ///
    /// # Errors
    /// As [`IcmpSocket::bind`].
    pub async fn icmp_socket(&self, local: IpAddr) -> io::Result<IcmpSocket> {
        IcmpSocket::bind_on(self, local)
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

/// What [`Builder::gateway`] takes: an address, or text that is one.
pub trait GatewayAddress: sealed::Sealed {}

mod sealed {
    use std::io;
    use std::net::IpAddr;

    #[allow(unreachable_pub, reason = "the super-trait of a public sealed trait")]
    pub trait Sealed {
        fn gateway(self) -> io::Result<IpAddr>;
    }
}

macro_rules! gateway_address {
    ($($address:ty),*) => {$(
        impl GatewayAddress for $address {}
        impl sealed::Sealed for $address {
            fn gateway(self) -> io::Result<IpAddr> {
                Ok(self.into())
            }
        }
    )*};
}
gateway_address!(IpAddr, Ipv4Addr, Ipv6Addr);

impl GatewayAddress for &str {}
impl sealed::Sealed for &str {
    fn gateway(self) -> io::Result<IpAddr> {
        self.parse()
            .map_err(|_| invalid(format!("`{self}` is not an IP address")))
    }
}

impl GatewayAddress for &String {}
impl sealed::Sealed for &String {
    fn gateway(self) -> io::Result<IpAddr> {
        self.as_str().gateway()
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// Builds a [`Stack`].
///
/// [`address`](Self::address), [`gateway`](Self::gateway) and [`mtu`](Self::mtu) concern the device named last.
/// Mistakes are kept and told by [`build`](Self::build).
///
/// # Examples
///
/// ```no_run
/// # fn device() -> tidewire_netdev::Device { unimplemented!() }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let stack = tidewire::Stack::builder()
///     .device(device())
///     .address("10.0.0.2/24")
///     .address("fd00::2/64")
///     .gateway("10.0.0.1")
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder {
    config: Config,
    interfaces: Vec<InterfaceConfig>,
    resolver: Arc<dyn Resolver>,
    runtime: Option<Handle>,
    registered: bool,
    mistake: Option<io::Error>,
}

impl Builder {
    fn new() -> Self {
        Self {
            config: Config::default(),
            interfaces: Vec::new(),
            resolver: Arc::new(HostResolver),
            runtime: None,
            registered: true,
            mistake: None,
        }
    }

    /// Adds an interface on `device`, named as the device is.
    pub fn device(mut self, device: Device) -> Self {
        self.interfaces.push(InterfaceConfig {
            device,
            addresses: Vec::new(),
            gateways: Vec::new(),
            mtu: None,
        });
        self
    }

    fn on_device(
        mut self,
        what: &str,
        change: impl FnOnce(&mut InterfaceConfig) -> io::Result<()>,
    ) -> Self {
        let changed = match self.interfaces.last_mut() {
            Some(interface) => change(interface),
            None => Err(invalid(format!("{what} given before any device"))),
        };
        self.mistake = self.mistake.or(changed.err());
        self
    }

    /// Gives the last device an address with its prefix, `"10.0.0.2/24"` or a [`Cidr`]. Repeatable.
    pub fn address<C>(self, address: C) -> Self
    where
        C: TryInto<Cidr>,
        C::Error: fmt::Display,
    {
        self.on_device("an address", |interface| {
            let cidr = address
                .try_into()
                .map_err(|error| invalid(error.to_string()))?;
            interface.addresses.push(cidr);
            Ok(())
        })
    }

    /// Gives the last device a default route, for the gateway's IP version. Repeatable.
    pub fn gateway<G: GatewayAddress>(self, gateway: G) -> Self {
        self.on_device("a gateway", |interface| {
            interface.gateways.push(gateway.gateway()?);
            Ok(())
        })
    }

    /// Uses packets of at most `mtu` octets on the last device, IP header included, instead of the device's own MTU.
    pub fn mtu(self, mtu: usize) -> Self {
        self.on_device("an MTU", |interface| {
            interface.mtu = Some(mtu);
            Ok(())
        })
    }

    /// Seeds everything random: with the same seed, input and times the stack sends the same packets, byte for byte.
    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = Some(seed);
        self
    }

    /// TCP's configuration.
    pub fn tcp(mut self, config: tcp::Config) -> Self {
        self.config.tcp = config;
        self
    }

    /// UDP's configuration.
    pub fn udp(mut self, config: udp::Config) -> Self {
        self.config.udp = config;
        self
    }

    /// What the stack does by itself: echo replies, queues, limits.
    pub fn host(mut self, config: HostConfig) -> Self {
        self.config.host = config;
        self
    }

    /// Who looks up names; [`HostResolver`] if not given.
    pub fn resolver<R: Resolver>(mut self, resolver: R) -> Self {
        self.resolver = Arc::new(resolver);
        self
    }

    /// The runtime to run on; the current one if not given. It must have its time driver enabled.
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Does not register the stack with its runtime: only sockets that are made on it, in its scope or by
    /// [`Stack::attach`] and [`Stack::set_default`] find it.
    pub fn unregistered(mut self) -> Self {
        self.registered = false;
        self
    }

    /// Builds the stack and starts its driver on the runtime. The first stack built on a runtime becomes the one that
    /// sockets made there find.
    ///
    /// # Errors
    /// A mistake in what was given ([`io::ErrorKind::InvalidInput`]); no runtime, or one without a time driver; the
    /// device's error.
    pub fn build(self) -> io::Result<Stack> {
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        let runtime = match self.runtime {
            Some(runtime) => runtime,
            None => Handle::try_current().map_err(io::Error::other)?,
        };
        let shared = driver::start(self.config, self.interfaces, &runtime, Lifetime::Handles)?;
        let stack = Stack {
            shared,
            resolver: self.resolver,
        };
        if self.registered {
            registry::register_if_vacant(&runtime, &stack);
        }
        Ok(stack)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let devices: Vec<_> = self
            .interfaces
            .iter()
            .map(|interface| &interface.device.name)
            .collect();
        f.debug_struct("Builder")
            .field("devices", &devices)
            .field("config", &self.config)
            .finish_non_exhaustive()
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
