//! From names to addresses: [`ToSocketAddrs`], [`lookup_host`] and the stack's [`Resolver`].
//!
//! tokio's trait of the same name is sealed and its method unreachable, so this is a trait of our own with the same
//! implementations. Literals are parsed and `localhost` (RFC 6761 6.3) is answered at once; only other names reach the
//! resolver. That matters under a paused clock: a look-up on the blocking pool stops tokio's auto-advance.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::vec;

use super::registry;
use super::stack::Stack;

/// What a [`Resolver`] answers with.
pub type ResolveFuture = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Turns host names into addresses for a stack.
///
/// Literals and `localhost` never get here. A resolver for virtual time must answer without the blocking pool.
///
/// # Examples
///
/// ```
/// use std::io;
/// use std::net::IpAddr;
/// use tidewire::net::{ResolveFuture, Resolver};
///
/// struct Hosts;
///
/// impl Resolver for Hosts {
///     fn resolve(&self, host: &str) -> ResolveFuture {
///         let answer = match host {
///             "server.test" => Ok(vec![IpAddr::from([127, 0, 0, 1])]),
///             _ => Err(io::Error::new(io::ErrorKind::NotFound, "no such host")),
///         };
///         Box::pin(std::future::ready(answer))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> io::Result<()> {
/// let stack = tidewire::Stack::builder().resolver(Hosts).build()?;
/// let listener = stack.tcp_listener("127.0.0.1:80").await?;
/// let (stream, accepted) = tokio::join!(stack.tcp_stream("server.test:80"), listener.accept());
/// assert_eq!(stream?.local_addr()?, accepted?.1);
/// # Ok(())
/// # }
/// ```
pub trait Resolver: Send + Sync + 'static {
    /// The addresses of `host`, best first.
    fn resolve(&self, host: &str) -> ResolveFuture;
}

/// The host's own look-up (`getaddrinfo`) on tokio's blocking pool; what a stack uses unless told otherwise.
///
/// # Errors
/// Whatever the host's look-up gives, and an error when the future is polled outside a tokio runtime.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostResolver;

impl Resolver for HostResolver {
    fn resolve(&self, host: &str) -> ResolveFuture {
        let host = host.to_owned();
        Box::pin(async move {
            let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
            let look_up = move || {
                let found = std::net::ToSocketAddrs::to_socket_addrs(&(host.as_str(), 0))?;
                Ok(found.map(|address| address.ip()).collect())
            };
            runtime
                .spawn_blocking(look_up)
                .await
                .map_err(io::Error::other)?
        })
    }
}

/// What can be turned into socket addresses: the same types as `tokio::net::ToSocketAddrs` takes.
///
/// Sealed: implementations are [`SocketAddr`], [`SocketAddrV4`], [`SocketAddrV6`], pairs of an address
/// ([`IpAddr`], [`Ipv4Addr`], [`Ipv6Addr`], `&str`, [`String`]) and a port, `&[SocketAddr]`, [`str`] and [`String`]
/// of the form `host:port`, and references to them.
pub trait ToSocketAddrs: sealed::Sealed {}

pub(crate) mod sealed {
    use super::Target;
    use std::io;

    /// Keeps the method out of reach.
    #[derive(Debug)]
    #[allow(unreachable_pub, reason = "named by the signature of a sealed trait")]
    pub struct Internal;

    #[allow(unreachable_pub, reason = "the super-trait of a public sealed trait")]
    pub trait Sealed {
        fn target(&self, _: Internal) -> io::Result<Target>;
    }
}

use sealed::{Internal, Sealed};

/// What an argument came to before any name is looked up.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "named by the signature of a sealed trait")]
pub enum Target {
    /// One address.
    One(SocketAddr),
    /// A list.
    Many(Vec<SocketAddr>),
    /// A name to resolve, and the port.
    Name(String, u16),
}

/// Addresses, in the order to try them. No allocation for one.
#[derive(Debug)]
pub(crate) enum Addresses {
    One(Option<SocketAddr>),
    Many(vec::IntoIter<SocketAddr>),
}

impl Iterator for Addresses {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        match self {
            Self::One(address) => address.take(),
            Self::Many(addresses) => addresses.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::One(address) => {
                let left = usize::from(address.is_some());
                (left, Some(left))
            }
            Self::Many(addresses) => addresses.size_hint(),
        }
    }
}

/// A resolver's future, made `Sync` by its lock: sockets' futures are, as tokio's are.
struct Resolving(Mutex<ResolveFuture>);

impl Future for Resolving {
    type Output = io::Result<Vec<IpAddr>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.0.get_mut();
        let future = future.unwrap_or_else(std::sync::PoisonError::into_inner);
        future.as_mut().poll(cx)
    }
}

/// What an argument names, parsed; nothing is looked up yet.
pub(crate) fn target<A: ToSocketAddrs>(addresses: &A) -> io::Result<Target> {
    addresses.target(Internal)
}

/// The addresses of `target`; names through the stack's resolver.
pub(crate) async fn resolve(stack: &Stack, target: io::Result<Target>) -> io::Result<Addresses> {
    let (host, port) = match target? {
        Target::One(address) => return Ok(Addresses::One(Some(address))),
        Target::Many(addresses) => return Ok(Addresses::Many(addresses.into_iter())),
        Target::Name(host, port) => (host, port),
    };
    if is_localhost(&host) {
        let found = LOCALHOST
            .iter()
            .map(|address| SocketAddr::new(*address, port))
            .collect::<Vec<_>>();
        return Ok(Addresses::Many(found.into_iter()));
    }
    let found = Resolving(Mutex::new(stack.resolver().resolve(&host))).await?;
    let found: Vec<_> = found
        .into_iter()
        .map(|address| SocketAddr::new(address, port))
        .collect();
    Ok(Addresses::Many(found.into_iter()))
}

/// IPv4 first: whether the other side says `localhost` or `127.0.0.1`, it is reached.
const LOCALHOST: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// RFC 6761 6.3: `localhost` and what ends in `.localhost` are always this host, and are not asked of anybody.
fn is_localhost(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let Some(at) = host.len().checked_sub("localhost".len()) else {
        return false;
    };
    let is_suffix = host
        .get(at..)
        .is_some_and(|end| end.eq_ignore_ascii_case("localhost"));
    is_suffix && (at == 0 || host.as_bytes()[at - 1] == b'.')
}

/// tokio's answer when a list of addresses was empty.
pub(crate) fn no_addresses() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "could not resolve to any address",
    )
}

fn host_and_port(host: &str, port: u16) -> Target {
    match host.parse::<IpAddr>() {
        Ok(address) => Target::One(SocketAddr::new(address, port)),
        Err(_) => Target::Name(host.to_owned(), port),
    }
}

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {}
impl<T: Sealed + ?Sized> Sealed for &T {
    fn target(&self, internal: Internal) -> io::Result<Target> {
        (**self).target(internal)
    }
}

impl ToSocketAddrs for SocketAddr {}
impl Sealed for SocketAddr {
    fn target(&self, _: Internal) -> io::Result<Target> {
        Ok(Target::One(*self))
    }
}

impl ToSocketAddrs for SocketAddrV4 {}
impl Sealed for SocketAddrV4 {
    fn target(&self, _: Internal) -> io::Result<Target> {
        Ok(Target::One((*self).into()))
    }
}

impl ToSocketAddrs for SocketAddrV6 {}
impl Sealed for SocketAddrV6 {
    fn target(&self, _: Internal) -> io::Result<Target> {
        Ok(Target::One((*self).into()))
    }
}

impl ToSocketAddrs for (IpAddr, u16) {}
impl Sealed for (IpAddr, u16) {
    fn target(&self, _: Internal) -> io::Result<Target> {
        Ok(Target::One((*self).into()))
    }
}

impl ToSocketAddrs for (Ipv4Addr, u16) {}
impl Sealed for (Ipv4Addr, u16) {
    fn target(&self, _: Internal) -> io::Result<Target> {
        Ok(Target::One((*self).into()))
    }
}

impl ToSocketAddrs for (Ipv6Addr, u16) {}
impl Sealed for (Ipv6Addr, u16) {
    fn target(&self, _: Internal) -> io::Result<Target> {
        Ok(Target::One((*self).into()))
    }
}

impl ToSocketAddrs for &[SocketAddr] {}
impl Sealed for &[SocketAddr] {
    fn target(&self, _: Internal) -> io::Result<Target> {
        Ok(Target::Many(self.to_vec()))
    }
}

impl ToSocketAddrs for str {}
impl Sealed for str {
    fn target(&self, _: Internal) -> io::Result<Target> {
        if let Ok(address) = self.parse() {
            return Ok(Target::One(address));
        }
        // The standard library's words for the same mistakes.
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
        let (host, port) = self
            .rsplit_once(':')
            .ok_or_else(|| invalid("invalid socket address"))?;
        let port = port.parse().map_err(|_| invalid("invalid port value"))?;
        Ok(host_and_port(host, port))
    }
}

impl ToSocketAddrs for (&str, u16) {}
impl Sealed for (&str, u16) {
    fn target(&self, _: Internal) -> io::Result<Target> {
        Ok(host_and_port(self.0, self.1))
    }
}

impl ToSocketAddrs for (String, u16) {}
impl Sealed for (String, u16) {
    fn target(&self, _: Internal) -> io::Result<Target> {
        Ok(host_and_port(&self.0, self.1))
    }
}

impl ToSocketAddrs for String {}
impl Sealed for String {
    fn target(&self, internal: Internal) -> io::Result<Target> {
        self.as_str().target(internal)
    }
}

/// Looks up the addresses of a host, as `tokio::net::lookup_host` does, with the resolver of the stack that a socket
/// made here would use.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] for text that is not `host:port`; else the resolver's error. An error also when no
/// stack can be found: outside a tokio runtime, without a scope and without a default stack.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// for address in tidewire::net::lookup_host("localhost:3000").await? {
///     println!("socket address is {address}");
/// }
/// # Ok(())
/// # }
/// ```
pub async fn lookup_host<T>(host: T) -> io::Result<impl Iterator<Item = SocketAddr>>
where
    T: ToSocketAddrs,
{
    resolve(&registry::current()?, target(&host)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_parse_as_the_standard_library_reads_them() {
        let one = |text: &str| match text.target(Internal) {
            Ok(Target::One(address)) => address.to_string(),
            Ok(Target::Name(host, port)) => format!("name {host} {port}"),
            Ok(Target::Many(_)) => "many".to_owned(),
            Err(error) => format!("{:?}: {error}", error.kind()),
        };
        let table = [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
            ("example.com:80", "name example.com 80"),
            ("example.com", "InvalidInput: invalid socket address"),
            ("example.com:", "InvalidInput: invalid port value"),
            ("example.com:65536", "InvalidInput: invalid port value"),
            // Without brackets the host is `::1`: so the standard library's look-up takes it.
            ("::1:80", "[::1]:80"),
            ("", "InvalidInput: invalid socket address"),
        ];
        for (text, expected) in table {
            assert_eq!(one(text), expected, "{text}");
        }
        assert!(
            matches!(("::1", 7).target(Internal), Ok(Target::One(a)) if a.to_string() == "[::1]:7")
        );
        assert!(
            matches!((String::from("host"), 7).target(Internal), Ok(Target::Name(h, 7)) if h == "host")
        );
    }

    #[test]
    fn localhost_and_its_children_stay_here() {
        for (host, expected) in [
            ("localhost", true),
            ("LocalHost.", true),
            ("db.localhost", true),
            ("notlocalhost", false),
            ("localhost.example.com", false),
            ("", false),
        ] {
            assert_eq!(is_localhost(host), expected, "{host}");
        }
    }
}
