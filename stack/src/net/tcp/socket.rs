//! A TCP socket that is neither connected nor listening yet.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::listener::TcpListener;
use super::options::{HasOptions, Look};
use super::stream::TcpStream;
use crate::engine::sockets::TcpOptions;
use crate::error::SocketError;
use crate::net::options;
use crate::net::registry;
use crate::net::stack::{Stack, invalid_option, no_kernel_socket};
use crate::tcp::Config;
use crate::tcp::config::SocketOptions;
use crate::transport::ports::{BindRequest, PortLease};
use crate::wire::ipv4::SourceRoute;

/// The IP version a socket was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    /// Linux checks an address by its length first: a `sockaddr_in` is too short for an IPv6 socket.
    fn check(self, address: SocketAddr) -> Result<(), SocketError> {
        match (self, address) {
            (Self::V4, SocketAddr::V6(_)) => Err(SocketError::AddressFamily),
            (Self::V6, SocketAddr::V4(_)) => Err(SocketError::InvalidInput),
            _ => Ok(()),
        }
    }

    fn unspecified(self) -> SocketAddr {
        match self {
            Self::V4 => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            Self::V6 => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
        }
    }
}

/// What was set before the socket had a stack.
#[derive(Debug)]
struct State {
    stack: Option<Stack>,
    lease: Option<PortLease>,
    options: TcpOptions,
    /// What `from_std_stream` left: every use fails.
    unusable: bool,
    reuse_address: bool,
    reuse_port: bool,
    only_v6: bool,
    traffic_class: u8,
}

/// A TCP socket that has not yet been converted to a [`TcpStream`] or [`TcpListener`], with the methods and the
/// behaviour of `tokio::net::TcpSocket`.
///
/// Made and configured anywhere, even outside a runtime; [`bind`](Self::bind), [`connect`](Self::connect) and
/// [`listen`](Self::listen) find its stack.
///
/// # Examples
///
/// ```
/// use tidewire::net::{TcpSocket, TcpStream};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let socket = TcpSocket::new_v4()?;
/// socket.set_reuseaddr(true)?;
/// socket.bind("127.0.0.1:0".parse().unwrap())?;
/// let listener = socket.listen(16)?;
///
/// let socket = TcpSocket::new_v4()?;
/// socket.set_nodelay(true)?;
/// let stream: TcpStream = socket.connect(listener.local_addr()?).await?;
/// assert!(stream.nodelay()?);
/// # Ok(())
/// # }
/// ```
pub struct TcpSocket {
    family: Family,
    state: Mutex<State>,
}

impl TcpSocket {
    /// A socket for IPv4.
    ///
    /// # Errors
    /// None at present; tokio's signature. So too for every option below that names none.
    pub fn new_v4() -> io::Result<Self> {
        Ok(Self::new(Family::V4))
    }

    /// A socket for IPv6. Unless [`set_only_v6`](Self::set_only_v6) says otherwise, `[::]` takes IPv4 as well.
    ///
    /// # Errors
    /// None at present; tokio's signature.
    pub fn new_v6() -> io::Result<Self> {
        Ok(Self::new(Family::V6))
    }

    fn new(family: Family) -> Self {
        Self {
            family,
            state: Mutex::new(State {
                stack: None,
                lease: None,
                options: TcpOptions::default(),
                unusable: false,
                reuse_address: false,
                reuse_port: false,
                only_v6: false,
                traffic_class: 0,
            }),
        }
    }

    /// The socket, on this stack and no other.
    pub(crate) fn on(self, stack: &Stack) -> Self {
        self.state().stack = Some(stack.clone());
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Probes an idle peer (`SO_KEEPALIVE`). Off by default; [`SockOptExt`](super::SockOptExt) has the times.
    pub fn set_keepalive(&self, keepalive: bool) -> io::Result<()> {
        self.state().socket_options().keepalive = keepalive;
        Ok(())
    }

    /// Whether an idle peer is probed.
    pub fn keepalive(&self) -> io::Result<bool> {
        Ok(self.state().options.socket.keepalive)
    }

    /// Lets the address be bound while closed connections linger on it (`SO_REUSEADDR`). Off by default.
    pub fn set_reuseaddr(&self, reuseaddr: bool) -> io::Result<()> {
        self.state().reuse_address = reuseaddr;
        Ok(())
    }

    /// Whether `SO_REUSEADDR` is set.
    pub fn reuseaddr(&self) -> io::Result<bool> {
        Ok(self.state().reuse_address)
    }

    /// Lets several sockets that all set it listen on one address (`SO_REUSEPORT`). Off by default.
    #[cfg(all(
        unix,
        not(any(target_os = "solaris", target_os = "illumos", target_os = "cygwin"))
    ))]
    pub fn set_reuseport(&self, reuseport: bool) -> io::Result<()> {
        self.state().reuse_port = reuseport;
        Ok(())
    }

    /// Whether `SO_REUSEPORT` is set.
    #[cfg(all(
        unix,
        not(any(target_os = "solaris", target_os = "illumos", target_os = "cygwin"))
    ))]
    pub fn reuseport(&self) -> io::Result<bool> {
        Ok(self.state().reuse_port)
    }

    /// Sets how many octets may be written and not yet acknowledged (`SO_SNDBUF`).
    pub fn set_send_buffer_size(&self, size: u32) -> io::Result<()> {
        self.state().socket_options().send_buffer = Some((size as usize).max(MIN_BUFFER));
        Ok(())
    }

    /// The send buffer's size. What was set reads back doubled, as Linux counts its bookkeeping.
    pub fn send_buffer_size(&self) -> io::Result<u32> {
        let set = self.state().options.socket.send_buffer;
        Ok(shown_buffer(set, || Config::default().send_buffer))
    }

    /// Sets how many octets may be received and not yet read (`SO_RCVBUF`), and with it the window offered.
    pub fn set_recv_buffer_size(&self, size: u32) -> io::Result<()> {
        self.state().socket_options().receive_buffer = Some((size as usize).max(MIN_BUFFER));
        Ok(())
    }

    /// The receive buffer's size. What was set reads back doubled, as Linux counts its bookkeeping.
    pub fn recv_buffer_size(&self) -> io::Result<u32> {
        let set = self.state().options.socket.receive_buffer;
        Ok(shown_buffer(set, || Config::default().receive_buffer))
    }

    /// Limits how long the dropped stream tries to deliver what is left, as [`TcpStream::set_linger`].
    #[deprecated = "`SO_LINGER` causes the socket to block the thread on drop"]
    pub fn set_linger(&self, dur: Option<Duration>) -> io::Result<()> {
        self.state().socket_options().linger = dur.map(options::whole_seconds);
        Ok(())
    }

    /// Makes dropping the stream reset the connection.
    pub fn set_zero_linger(&self) -> io::Result<()> {
        self.state().socket_options().linger = Some(Duration::ZERO);
        Ok(())
    }

    /// How long the dropped stream tries to deliver what is left (`SO_LINGER`).
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        Ok(self.state().options.socket.linger)
    }

    /// Sends small segments at once (`TCP_NODELAY`). Off by default.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.state().socket_options().nodelay = nodelay;
        Ok(())
    }

    /// Whether small segments are sent at once.
    pub fn nodelay(&self) -> io::Result<bool> {
        Ok(self.state().options.socket.nodelay)
    }

    /// The traffic class of IPv6 packets (`IPV6_TCLASS`).
    ///
    /// # Errors
    /// EOPNOTSUPP for an IPv4 socket.
    #[cfg(not(any(
        target_os = "solaris",
        target_os = "illumos",
        target_os = "redox",
        target_os = "haiku",
        windows
    )))]
    pub fn tclass_v6(&self) -> io::Result<u32> {
        self.can_read_v6()?;
        Ok(self.state().traffic_class.into())
    }

    /// Sets the traffic class of IPv6 packets: DSCP in the upper six bits; ECN's two are TCP's own.
    ///
    /// # Errors
    /// ENOPROTOOPT for an IPv4 socket; `InvalidInput` (EINVAL) above 255.
    #[cfg(not(any(
        target_os = "solaris",
        target_os = "illumos",
        target_os = "redox",
        target_os = "haiku",
        windows
    )))]
    pub fn set_tclass_v6(&self, tclass: u32) -> io::Result<()> {
        self.can_set_v6()?;
        self.state().traffic_class = options::without_ecn(options::traffic_class(tclass)?);
        Ok(())
    }

    /// The TOS octet of IPv4 packets (`IP_TOS`).
    pub fn tos_v4(&self) -> io::Result<u32> {
        Ok(self.state().options.tos.into())
    }

    /// The former name of [`tos_v4`](Self::tos_v4).
    #[deprecated(
        note = "`tos` related methods have been renamed `tos_v4` since they are IPv4-specific."
    )]
    #[doc(hidden)]
    pub fn tos(&self) -> io::Result<u32> {
        self.tos_v4()
    }

    /// Sets the TOS octet of IPv4 packets: DSCP in the upper six bits; ECN's two are TCP's own.
    pub fn set_tos_v4(&self, tos: u32) -> io::Result<()> {
        self.state().options.tos = options::without_ecn(options::tos(tos));
        Ok(())
    }

    /// The former name of [`set_tos_v4`](Self::set_tos_v4).
    #[deprecated(
        note = "`tos` related methods have been renamed `tos_v4` since they are IPv4-specific."
    )]
    #[doc(hidden)]
    pub fn set_tos(&self, tos: u32) -> io::Result<()> {
        self.set_tos_v4(tos)
    }

    /// The routers that the packets of an IPv4 connection pass: loose or strict source routing (`IP_OPTIONS`; RFC 9293 3.9.2.1).
    /// `None`, the default, leaves it to the routes. Most networks drop such packets (RFC 7126 4.3).
    ///
    /// # Errors
    /// ENOPROTOOPT for an IPv6 socket. [`connect`](Self::connect) says EHOSTUNREACH when the first router of a strict route is
    /// on no network of the stack's.
    pub fn set_source_route(&self, route: Option<SourceRoute>) -> io::Result<()> {
        if self.family == Family::V6 {
            return Err(options::no_v6_option_to_set());
        }
        self.state().options.route = route.map(Arc::new);
        Ok(())
    }

    /// The routers that the packets of an IPv4 connection pass, if any were named.
    pub fn source_route(&self) -> io::Result<Option<SourceRoute>> {
        Ok(self.state().options.route.as_deref().cloned())
    }

    /// TTL, or hop limit, of the packets of its connection, the SYN included; `None`: the stack's. tokio has this on
    /// [`TcpStream`] and [`TcpListener`] only.
    pub fn ttl(&self) -> Option<u32> {
        self.state().options.ttl.map(u32::from)
    }

    /// Sets the TTL, or hop limit, of the packets of its connection, the SYN included (`IP_TTL`,
    /// `IPV6_UNICAST_HOPS`): 1 to 255.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) for 0 and above 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let ttl = u8::try_from(ttl).ok().filter(|ttl| *ttl > 0);
        self.state().options.ttl = Some(ttl.ok_or_else(invalid_option)?);
        Ok(())
    }

    /// The interface the socket is tied to, if any.
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    pub fn device(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(self
            .state()
            .options
            .device
            .as_ref()
            .map(|name| name.as_bytes().to_vec()))
    }

    /// Ties the socket to one of its stack's interfaces by name (`SO_BINDTODEVICE`); `None` or an empty name unties it.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) for a name over 15 octets. ENODEV when the stack has no such interface, told here if
    /// the socket has its stack already and else by `bind`, `connect` or `listen`.
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    pub fn bind_device(&self, interface: Option<&[u8]>) -> io::Result<()> {
        let device = interface.map(options::device_name).transpose()?.flatten();
        let mut state = self.state();
        if let (Some(stack), Some(name)) = (&state.stack, &device) {
            stack.shared().network().interface_named(name)?;
        }
        state.options.device = device;
        Ok(())
    }

    /// `IPV6_V6ONLY`: whether `[::]` leaves IPv4 to others. Off by default, as on Linux.
    ///
    /// # Errors
    /// EOPNOTSUPP for an IPv4 socket.
    pub fn only_v6(&self) -> io::Result<bool> {
        self.can_read_v6()?;
        Ok(self.state().only_v6)
    }

    /// Sets `IPV6_V6ONLY`; before [`bind`](Self::bind).
    ///
    /// # Errors
    /// ENOPROTOOPT for an IPv4 socket, `InvalidInput` (EINVAL) for a bound one.
    pub fn set_only_v6(&self, only_v6: bool) -> io::Result<()> {
        self.can_set_v6()?;
        let mut state = self.state();
        if state.lease.is_some() {
            return Err(SocketError::InvalidInput.into());
        }
        state.only_v6 = only_v6;
        Ok(())
    }

    fn can_read_v6(&self) -> io::Result<()> {
        match self.family {
            Family::V4 => Err(options::no_v6_option()),
            Family::V6 => Ok(()),
        }
    }

    fn can_set_v6(&self) -> io::Result<()> {
        match self.family {
            Family::V4 => Err(options::no_v6_option_to_set()),
            Family::V6 => Ok(()),
        }
    }

    /// The bound address; `0.0.0.0:0` or `[::]:0` before [`bind`](Self::bind).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self
            .state()
            .lease
            .as_ref()
            .map_or_else(|| self.family.unspecified(), PortLease::local))
    }

    /// Takes the pending error: an unconnected socket has none.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    /// Binds the socket. Port 0 asks for a free port, told by [`local_addr`](Self::local_addr).
    ///
    /// # Errors
    /// `AddrInUse`, `AddrNotAvailable` (not an address of the stack); `InvalidInput` (EINVAL) for a second bind and
    /// for an IPv4 address on an IPv6 socket, EAFNOSUPPORT the other way round. An error that says so when there is no
    /// stack to bind on.
    pub fn bind(&self, addr: SocketAddr) -> io::Result<()> {
        let mut state = self.state();
        state.usable()?;
        self.family.check(addr)?;
        if state.lease.is_some() {
            return Err(SocketError::InvalidInput.into());
        }
        state.bind(addr)
    }

    /// Connects to a remote address.
    ///
    /// # Errors
    /// As [`TcpStream::connect`]. The wrong IP version is `InvalidInput` (EINVAL) on an IPv6 socket, EAFNOSUPPORT on
    /// an IPv4 one.
    ///
    /// # Cancel safety
    /// Dropping the future gives the attempt up; the socket is gone.
    pub async fn connect(self, addr: SocketAddr) -> io::Result<TcpStream> {
        let (stack, lease, options) = self.into_connecting(addr)?;
        TcpStream::open(&stack, lease, addr, &options).await
    }

    fn into_connecting(
        self,
        addr: SocketAddr,
    ) -> io::Result<(Stack, Option<PortLease>, TcpOptions)> {
        let mut state = self
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        state.usable()?;
        self.family.check(addr)?;
        if !addr.ip().to_canonical().is_ipv4() {
            state.options.tos = state.traffic_class;
        }
        let stack = state.stack()?;
        Ok((stack, state.lease, state.options))
    }

    /// Listens on the bound address, or on an ephemeral port of all addresses if there is none. `backlog + 1`
    /// connections may wait to be accepted; the SYNs of more are dropped.
    ///
    /// # Errors
    /// `AddrInUse` when another socket listens on the address. An error that says so when there is no stack to
    /// listen on.
    pub fn listen(self, backlog: u32) -> io::Result<TcpListener> {
        let mut state = self
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        state.usable()?;
        if self.family == Family::V6 {
            state.options.tos = state.traffic_class;
        }
        if state.lease.is_none() {
            state.bind(self.family.unspecified())?;
        }
        let stack = state.stack()?;
        let lease = state.lease.take().ok_or(SocketError::InvalidInput)?;
        let slot = stack
            .shared()
            .tcp_listen(lease, backlog, state.only_v6, &state.options)?;
        Ok(TcpListener::new(Arc::clone(stack.shared()), slot))
    }

    /// Kernel sockets cannot become sockets of this stack; kept for tokio's signature, which has no room for an error.
    /// The kernel socket is closed; `bind`, `connect` and `listen` of what this returns give
    /// [`io::ErrorKind::Unsupported`].
    pub fn from_std_stream(std_stream: std::net::TcpStream) -> Self {
        let family = match std_stream.local_addr() {
            Ok(SocketAddr::V6(_)) => Family::V6,
            _ => Family::V4,
        };
        let socket = Self::new(family);
        socket.state().unusable = true;
        socket
    }
}

impl State {
    fn socket_options(&mut self) -> &mut SocketOptions {
        Arc::make_mut(&mut self.options.socket)
    }

    fn usable(&self) -> io::Result<()> {
        if self.unusable {
            Err(no_kernel_socket())
        } else {
            Ok(())
        }
    }

    fn stack(&mut self) -> io::Result<Stack> {
        match &self.stack {
            Some(stack) => Ok(stack.clone()),
            None => Ok(self.stack.insert(registry::current()?).clone()),
        }
    }

    fn bind(&mut self, address: SocketAddr) -> io::Result<()> {
        let request = BindRequest {
            address,
            reuse_address: self.reuse_address,
            reuse_port: self.reuse_port,
            only_v6: self.only_v6,
            device: self.options.device.clone(),
        };
        self.lease = Some(self.stack()?.shared().tcp_bind(&request)?);
        Ok(())
    }
}

/// The smallest buffer in octets: half of Linux's floor (`SOCK_MIN_SNDBUF`, about 4.5 KiB with its bookkeeping). With less
/// than a segment, each octet would be one of its own.
const MIN_BUFFER: usize = 2304;

/// Linux doubles what was set.
fn shown_buffer(set: Option<usize>, default: impl FnOnce() -> usize) -> u32 {
    let shown = set.map_or_else(default, |size| size.saturating_mul(2));
    u32::try_from(shown).unwrap_or(u32::MAX)
}

impl HasOptions for TcpSocket {
    fn look<R>(&self, look: impl FnOnce(Look<'_>) -> R) -> R {
        let state = self.state();
        let unset;
        let config = match &state.stack {
            Some(stack) => &stack.shared().engine().config().tcp,
            None => {
                unset = Config::default();
                &unset
            }
        };
        look(Look {
            options: &state.options.socket,
            config,
            connection: None,
        })
    }

    fn change(&self, change: impl FnOnce(&mut SocketOptions)) {
        change(self.state().socket_options());
    }
}

impl fmt::Debug for TcpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        let local = state.lease.as_ref().map(PortLease::local);
        f.debug_struct("TcpSocket")
            .field("family", &self.family)
            .field("addr", &local)
            .finish_non_exhaustive()
    }
}
