//! Errors that reach the caller, with the errno and kind that Linux and tokio give.

use std::io;

use tidewire_netdev::errno;

/// Why a socket operation failed. Converts into an [`io::Error`] with Linux's errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SocketError {
    /// Nothing to read, or no room to write, now.
    WouldBlock,
    /// The peer refused: RST to a SYN, or ICMP port unreachable (ECONNREFUSED).
    ConnectionRefused,
    /// The peer reset the connection (ECONNRESET).
    ConnectionReset,
    /// The connection was aborted by this side before it was accepted (ECONNABORTED).
    ConnectionAborted,
    /// Writing after the write side was closed, or after an earlier error was reported (EPIPE).
    BrokenPipe,
    /// No answer from the peer within the limits (ETIMEDOUT).
    TimedOut,
    /// The socket has no peer (ENOTCONN).
    NotConnected,
    /// The socket is connected already (EISCONN).
    AlreadyConnected,
    /// The association with this peer is being set up already (EALREADY).
    AlreadyInProgress,
    /// Sending to an association that is being shut down, on a socket that has others (ESHUTDOWN).
    ShutDown,
    /// A send without an address on an unconnected socket (EDESTADDRREQ).
    DestinationRequired,
    /// The address and port are taken (EADDRINUSE).
    AddressInUse,
    /// The address is not one of the stack's (EADDRNOTAVAIL).
    AddressNotAvailable,
    /// An IPv4 address on an IPv6 socket or the reverse (EAFNOSUPPORT).
    AddressFamily,
    /// No route to the destination (ENETUNREACH).
    NetworkUnreachable,
    /// A router or the neighbour cache could not reach the host (EHOSTUNREACH).
    HostUnreachable,
    /// The host does not speak the protocol: ICMP protocol unreachable (ENOPROTOOPT).
    ProtocolUnreachable,
    /// ICMP said that the path's policy forbids it (EACCES), or broadcast without the option.
    PermissionDenied,
    /// The datagram does not fit (EMSGSIZE).
    MessageTooLong,
    /// An argument is out of range (EINVAL).
    InvalidInput,
    /// A limit of memory or a queue was met (ENOBUFS).
    NoBuffers,
    /// The operation has no meaning for this socket (EOPNOTSUPP).
    NotSupported,
    /// ICMP parameter problem: the peer or a router did not understand a header (EPROTO).
    Protocol,
    /// The interface went away or the stack ended (ENETDOWN).
    NetworkDown,
    /// No interface of that name (ENODEV).
    NoDevice,
}

impl SocketError {
    /// The errno Linux gives; `None` for [`Self::WouldBlock`], which tokio builds from its kind.
    pub const fn errno(self) -> Option<i32> {
        Some(match self {
            Self::WouldBlock => return None,
            Self::ConnectionRefused => errno::ECONNREFUSED,
            Self::ConnectionReset => errno::ECONNRESET,
            Self::ConnectionAborted => errno::ECONNABORTED,
            Self::BrokenPipe => errno::EPIPE,
            Self::TimedOut => errno::ETIMEDOUT,
            Self::NotConnected => errno::ENOTCONN,
            Self::AlreadyConnected => errno::EISCONN,
            Self::AlreadyInProgress => errno::EALREADY,
            Self::ShutDown => errno::ESHUTDOWN,
            Self::DestinationRequired => errno::EDESTADDRREQ,
            Self::AddressInUse => errno::EADDRINUSE,
            Self::AddressNotAvailable => errno::EADDRNOTAVAIL,
            Self::AddressFamily => errno::EAFNOSUPPORT,
            Self::NetworkUnreachable => errno::ENETUNREACH,
            Self::HostUnreachable => errno::EHOSTUNREACH,
            Self::ProtocolUnreachable => errno::ENOPROTOOPT,
            Self::PermissionDenied => errno::EACCES,
            Self::MessageTooLong => errno::EMSGSIZE,
            Self::InvalidInput => errno::EINVAL,
            Self::NoBuffers => errno::ENOBUFS,
            Self::NotSupported => errno::EOPNOTSUPP,
            Self::Protocol => errno::EPROTO,
            Self::NetworkDown => errno::ENETDOWN,
            Self::NoDevice => errno::ENODEV,
        })
    }
}

impl From<SocketError> for io::Error {
    fn from(error: SocketError) -> Self {
        match error.errno() {
            Some(errno) => Self::from_raw_os_error(errno),
            None => Self::from(io::ErrorKind::WouldBlock),
        }
    }
}

impl std::fmt::Display for SocketError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        io::Error::from(*self).fmt(f)
    }
}

impl std::error::Error for SocketError {}

/// Result of a socket operation below the async surface.
pub type SocketResult<T> = Result<T, SocketError>;
