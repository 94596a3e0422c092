//! ICMP echo ("ping") sockets.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::io::{Interest, Ready};

use super::options;
use super::readiness::{self, Io, READ_OR_ERROR};
use super::registry;
use super::stack::Stack;
use crate::engine::sockets::EchoSocket;

/// A reply to an echo request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoReply {
    /// Octets of the reply's payload that were copied into the buffer.
    pub len: usize,
    /// Who replied.
    pub source: IpAddr,
    /// The request's sequence number.
    pub sequence: u16,
    /// TTL, or hop limit, of the reply as it arrived.
    pub ttl: u8,
}

/// A socket that sends ICMP or ICMPv6 echo requests and receives the replies (RFC 792, RFC 4443 4).
///
/// Each socket has an identifier of its own, so that sockets do not see each other's replies.
///
/// # Examples
///
/// ```
/// use std::net::{IpAddr, Ipv4Addr};
/// use tidewire::net::IcmpSocket;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let socket = IcmpSocket::bind(Ipv4Addr::UNSPECIFIED).await?;
/// socket.send_to(b"are you there?", 1, Ipv4Addr::LOCALHOST).await?;
///
/// let mut payload = [0; 64];
/// let reply = socket.recv_from(&mut payload).await?;
/// assert_eq!(reply.source, IpAddr::from(Ipv4Addr::LOCALHOST));
/// assert_eq!(reply.sequence, 1);
/// assert_eq!(&payload[..reply.len], b"are you there?");
/// # Ok(())
/// # }
/// ```
pub struct IcmpSocket {
    io: Io<EchoSocket>,
}

impl IcmpSocket {
    /// Opens a socket for the IP version of `local`. An unspecified address leaves the source to each request.
    ///
    /// # Errors
    /// `AddrNotAvailable` when `local` is not the stack's; an error that says so when there is no stack.
    pub async fn bind(local: impl Into<IpAddr>) -> io::Result<Self> {
        Self::bind_on(&registry::current()?, local.into())
    }

    pub(crate) fn bind_on(stack: &Stack, local: IpAddr) -> io::Result<Self> {
        let slot = stack.shared().echo_open(local)?;
        Ok(Self {
            io: Io::new(Arc::clone(stack.shared()), slot),
        })
    }

    /// Sends an echo request with this payload and sequence number.
    ///
    /// # Errors
    /// `NetworkUnreachable` without a route, EAFNOSUPPORT for the other IP version, EMSGSIZE beyond what IP carries,
    /// or what ICMP said of an earlier request, once.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped before it is done, it has sent nothing.
    pub async fn send_to(
        &self,
        payload: &[u8],
        sequence: u16,
        addr: impl Into<IpAddr>,
    ) -> io::Result<()> {
        let addr = addr.into();
        let send = || {
            Ok(self
                .io
                .shared()
                .echo_send(self.io.slot(), addr, sequence, payload)?)
        };
        self.io
            .async_io(readiness::mask(Interest::WRITABLE), send)
            .await
    }

    /// Waits for a reply and copies its payload; what does not fit is lost.
    ///
    /// # Errors
    /// What ICMP said of an earlier request, once: `HostUnreachable` and the like.
    ///
    /// # Cancel safety
    /// Cancel safe: a reply is taken only by the poll that returns it.
    pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<EchoReply> {
        let receive = || Ok(self.io.shared().echo_receive(self.io.slot())?);
        let reply = self.io.async_io(READ_OR_ERROR, receive).await?;
        let len = reply.payload.len().min(buf.len());
        buf[..len].copy_from_slice(&reply.payload[..len]);
        Ok(EchoReply {
            len,
            source: reply.source,
            sequence: reply.sequence,
            ttl: reply.ttl,
        })
    }

    /// Waits until the socket is ready for any of an interest.
    ///
    /// # Errors
    /// When the stack has ended.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        self.io.ready(interest).await
    }

    /// The identifier of this socket's requests.
    pub fn identifier(&self) -> u16 {
        self.io.lock().socket.identifier()
    }

    /// The address the socket was opened with, unless that was unspecified.
    pub fn local_ip(&self) -> Option<IpAddr> {
        self.io.lock().socket.local()
    }

    /// TTL, or hop limit, of requests.
    pub fn ttl(&self) -> u32 {
        self.io.lock().socket.ttl.into()
    }

    /// Sets the TTL, or hop limit, of requests: 1 to 255.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) for 0 and above 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let ttl = options::ttl(ttl, self.io.shared())?;
        self.io.lock().socket.ttl = ttl;
        Ok(())
    }
}

impl Drop for IcmpSocket {
    fn drop(&mut self) {
        self.io.shared().close_echo(self.io.slot());
    }
}

impl fmt::Debug for IcmpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.io.lock();
        f.debug_struct("IcmpSocket")
            .field("local", &state.socket.local())
            .field("identifier", &state.socket.identifier())
            .finish()
    }
}
