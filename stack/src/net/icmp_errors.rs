//! Every ICMP error about a packet of a stack's: what `IP_RECVERR` and a raw ICMP socket are for.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use super::registry;
use super::stack::Stack;
use crate::driver::Shared;
use crate::engine::icmp_listener::{IcmpListener, IcmpReport};

/// Hears of all ICMP and ICMPv6 errors about packets that this stack has sent, whatever socket they are from (RFC 1122
/// 4.1.3.3: a program can have them all). The sockets hear of theirs as if nobody listened.
///
/// Unlike a socket's error, a report names who sent it, the message's type and code, and the beginning of the packet that
/// it is about: with TTLs that run out on purpose it shows the way that packets take. Anybody can forge one (RFC 5927):
/// what it quotes is to be compared with what was sent.
///
/// # Examples
///
/// ```
/// use std::net::Ipv4Addr;
/// use tidewire::net::{IcmpErrors, UdpSocket};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let errors = IcmpErrors::listen()?;
/// let socket = UdpSocket::bind("127.0.0.1:7000").await?;
/// socket.send_to(b"anybody?", "127.0.0.1:33434").await?;
///
/// let report = errors.recv().await?;
/// assert!(report.is_port_unreachable());
/// assert_eq!(report.reporter, Ipv4Addr::LOCALHOST);
/// assert_eq!(report.about.ports(), (7000, 33434));
/// # Ok(())
/// # }
/// ```
pub struct IcmpErrors {
    shared: Arc<Shared>,
    listener: Arc<IcmpListener>,
}

impl IcmpErrors {
    /// Hears of errors from now on. At most 1024 wait to be received.
    ///
    /// # Errors
    /// An error that says so when there is no stack; ENETDOWN when it has ended.
    pub fn listen() -> io::Result<Self> {
        Self::listen_on(&registry::current()?)
    }

    pub(crate) fn listen_on(stack: &Stack) -> io::Result<Self> {
        let shared = Arc::clone(stack.shared());
        let listener = shared.engine().listen_for_icmp_errors()?;
        Ok(Self { shared, listener })
    }

    /// Waits for the next report.
    ///
    /// # Errors
    /// ENETDOWN when the stack has ended.
    ///
    /// # Cancel safety
    /// Cancel safe: a report is taken only by the poll that returns it.
    pub async fn recv(&self) -> io::Result<IcmpReport> {
        tokio::task::coop::consume_budget().await;
        let report = poll_fn(|cx| self.listener.poll_report(cx.waker())).await;
        Ok(report?)
    }

    /// Reports that were lost, since too many waited.
    pub fn lost(&self) -> u64 {
        self.listener.lost()
    }
}

impl fmt::Debug for IcmpErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IcmpErrors")
            .field("alive", &self.shared.is_alive())
            .field("lost", &self.lost())
            .finish()
    }
}
