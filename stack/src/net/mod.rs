//! The sockets, shaped like `tokio::net`'s, and the stack they live in.
//!
//! ```text
//!   TcpStream, TcpListener, UdpSocket, IcmpSocket      signatures and behaviour of tokio::net
//!   SctpAssociation, SctpListener, SctpSocket           the same manners, RFC 6458's words
//!        │ readiness: cached bits, wakers, budget
//!   Arc<Slot> + Arc<Shared> ──────────────────────▶    the engine's sockets, the running stack
//!   Stack, Builder, registry                           which stack a socket belongs to
//! ```
//!
//! Replacing `use tokio::net` by `use tidewire::net` moves a program onto a stack of its own: every method of
//! `TcpStream`, `TcpListener`, `TcpSocket`, `UdpSocket`, the split halves, `lookup_host` and `ToSocketAddrs` is here
//! with tokio's signature, and errors carry the errno that Linux gives. What cannot exist is a file descriptor:
//! `AsRawFd` and its kin are absent, and `from_std` and `into_std` return
//! [`Unsupported`](std::io::ErrorKind::Unsupported). How a socket finds its stack is told at [`Stack`].
//!
//! Everything asynchronous that is not a task of the driver is here; protocols, locks and packets are below.

#[cfg(feature = "axum")]
mod axum;
pub mod builder;
#[cfg(feature = "hyper-util")]
mod hyper_util;
mod icmp;
mod icmp_errors;
mod lookup;
mod options;
mod readiness;
mod registry;
pub mod sctp;
pub mod stack;
pub mod tcp;
mod udp;

pub use crate::engine::icmp_listener::IcmpReport;
pub use builder::Builder;
pub use icmp::{EchoReply, IcmpSocket};
pub use icmp_errors::IcmpErrors;
pub use lookup::{HostResolver, ResolveFuture, Resolver, ToSocketAddrs, lookup_host};
pub use registry::{Entered, Scoped};
pub use sctp::{SctpAssociation, SctpBuilder, SctpListener, SctpSocket, SctpStream};
pub use stack::Stack;
pub use tcp::{SockOptExt, TcpListener, TcpSocket, TcpStream};
pub use udp::UdpSocket;

pub use tokio::io::{Interest, Ready};
#[cfg(windows)]
pub use tokio::net::windows;
#[cfg(unix)]
pub use tokio::net::{UnixDatagram, UnixListener, UnixSocket, UnixStream, unix};
