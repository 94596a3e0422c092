//! Options of a TCP stream.

use std::io;
use std::time::Duration;

use super::options::{HasOptions, Look};
use super::stream::TcpStream;
use crate::net::options;
use crate::tcp::config::SocketOptions;

impl TcpStream {
    /// Whether small segments are sent at once (`TCP_NODELAY`).
    ///
    /// # Errors
    /// None at present; tokio's signature. So too for every option below that names none.
    pub fn nodelay(&self) -> io::Result<bool> {
        Ok(self.io.lock().socket.connection.nodelay())
    }

    /// Sends small segments at once instead of waiting for what is on its way to be acknowledged (Nagle's algorithm,
    /// RFC 9293 3.7.4). Off by default.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use tidewire::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// assert!(!stream.nodelay()?);
    /// stream.set_nodelay(true)?;
    /// assert!(stream.nodelay()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.io
            .command(|state| state.socket.connection.set_nodelay(nodelay));
        Ok(())
    }

    /// Whether received data is acknowledged at once (`TCP_QUICKACK`).
    #[cfg(any(
        target_os = "linux",
        target_os = "android",
        target_os = "fuchsia",
        target_os = "cygwin"
    ))]
    pub fn quickack(&self) -> io::Result<bool> {
        Ok(self.io.lock().socket.connection.quickack())
    }

    /// Acknowledges received data at once instead of delaying the ACK. Not permanent: the connection goes back to
    /// delaying as its traffic suggests.
    #[cfg(any(
        target_os = "linux",
        target_os = "android",
        target_os = "fuchsia",
        target_os = "cygwin"
    ))]
    pub fn set_quickack(&self, quickack: bool) -> io::Result<()> {
        self.io
            .command(|state| state.socket.connection.set_quickack(quickack));
        Ok(())
    }

    /// How long a dropped stream tries to deliver what is left (`SO_LINGER`); `None` is as long as it takes.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        Ok(self.io.lock().socket.connection.linger())
    }

    /// Limits how long a dropped stream tries to deliver what is left; after that the peer gets a RST. Nothing
    /// blocks: the time passes in the background. Whole seconds, as the kernel counts them.
    #[deprecated = "`SO_LINGER` causes the socket to block the thread on drop"]
    pub fn set_linger(&self, dur: Option<Duration>) -> io::Result<()> {
        let linger = dur.map(options::whole_seconds);
        self.io
            .command(|state| state.socket.connection.set_linger(linger));
        Ok(())
    }

    /// Makes dropping the stream reset the connection: what is not delivered yet is thrown away.
    pub fn set_zero_linger(&self) -> io::Result<()> {
        self.io
            .command(|state| state.socket.connection.set_linger(Some(Duration::ZERO)));
        Ok(())
    }

    /// TTL, or hop limit, of the stream's packets.
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(self.io.lock().socket.ttl.into())
    }

    /// Sets the TTL, or hop limit, of the stream's packets: 1 to 255.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) for 0 and above 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let ttl = options::ttl(ttl, self.io.shared())?;
        self.io.lock().socket.ttl = ttl;
        Ok(())
    }
}

impl HasOptions for TcpStream {
    fn look<R>(&self, look: impl FnOnce(Look<'_>) -> R) -> R {
        let state = self.io.lock();
        let connection = &state.socket.connection;
        look(Look {
            options: connection.options(),
            config: &self.io.shared().engine().config().tcp,
            connection: Some(connection),
        })
    }

    fn change(&self, change: impl FnOnce(&mut SocketOptions)) {
        let now = self.io.shared().now();
        self.io.lock().socket.connection.change_options(now, change);
        self.io.kick();
    }
}
