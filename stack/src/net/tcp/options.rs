//! TCP's options by the names of `socket2` and Linux, for streams, listeners and sockets alike.
//!
//! Owns the kernel's checks of their values and errnos. What an option does is in `tcp/connection/options.rs`.

use std::io;
use std::time::Duration;

use tidewire_netdev::errno;

use crate::error::SocketError;
use crate::net::stack::invalid_option;
use crate::tcp::config::{Config, CongestionControl, SocketOptions};
use crate::tcp::connection::Connection;

/// TCP options that `socket2::SockRef` gives for kernel sockets and tokio has no methods for, on [`TcpStream`],
/// [`TcpSocket`] and [`TcpListener`]. What a listener has set, the connections it accepts inherit, as on Linux.
///
/// A tidewire socket has no descriptor for `SockRef`, so those that mean something here are methods. `TCP_NODELAY`,
/// `TCP_QUICKACK` and `SO_LINGER` are tokio's own methods; `IPV6_V6ONLY` is
/// [`TcpSocket::set_only_v6`](super::TcpSocket::set_only_v6); `TCP_INFO` is [`TcpStream::info`](super::TcpStream::info).
///
/// [`TcpStream`]: super::TcpStream
/// [`TcpSocket`]: super::TcpSocket
/// [`TcpListener`]: super::TcpListener
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// use std::time::Duration;
/// use tidewire::net::{SockOptExt, TcpListener, TcpStream};
///
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// listener.set_congestion_control("reno")?;
/// let stream = TcpStream::connect(listener.local_addr()?).await?;
/// stream.set_keepalive(true)?;
/// stream.set_keepalive_time(Duration::from_secs(30))?;
/// stream.set_user_timeout(Some(Duration::from_secs(20)))?;
/// assert_eq!(stream.keepalive_time()?, Duration::from_secs(30));
/// let (accepted, _) = listener.accept().await?;
/// assert_eq!(accepted.congestion_control()?, "reno");
/// assert_eq!(stream.congestion_control()?, "cubic");
/// # Ok(())
/// # }
/// ```
pub trait SockOptExt: HasOptions {
    /// Whether an idle peer is probed (`SO_KEEPALIVE`).
    ///
    /// # Errors
    /// None at present; the signature of `socket2`. So too for every option below that names none.
    fn keepalive(&self) -> io::Result<bool> {
        Ok(self.look(|look| look.options.keepalive))
    }

    /// Probes an idle peer (`SO_KEEPALIVE`, RFC 9293 3.8.4). Off by default.
    ///
    /// # Errors
    /// None at present.
    fn set_keepalive(&self, keepalive: bool) -> io::Result<()> {
        self.change(|options| options.keepalive = keepalive);
        Ok(())
    }

    /// Idle time before the first probe (`TCP_KEEPIDLE`). Two hours by default.
    ///
    /// # Errors
    /// None at present.
    fn keepalive_time(&self) -> io::Result<Duration> {
        Ok(self.look(|look| {
            let own = look.options.keepalive_idle;
            own.unwrap_or(look.config.keepalive_idle)
        }))
    }

    /// Sets the idle time before the first probe (`TCP_KEEPIDLE`), in whole seconds from 1 to 32,767.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) outside that range.
    fn set_keepalive_time(&self, time: Duration) -> io::Result<()> {
        let time = keepalive_seconds(time)?;
        self.change(|options| options.keepalive_idle = Some(time));
        Ok(())
    }

    /// Time between probes (`TCP_KEEPINTVL`). 75 seconds by default.
    ///
    /// # Errors
    /// None at present.
    fn keepalive_interval(&self) -> io::Result<Duration> {
        Ok(self.look(|look| {
            let own = look.options.keepalive_interval;
            own.unwrap_or(look.config.keepalive_interval)
        }))
    }

    /// Sets the time between probes (`TCP_KEEPINTVL`), in whole seconds from 1 to 32,767.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) outside that range.
    fn set_keepalive_interval(&self, interval: Duration) -> io::Result<()> {
        let interval = keepalive_seconds(interval)?;
        self.change(|options| options.keepalive_interval = Some(interval));
        Ok(())
    }

    /// Unanswered probes before the connection is given up (`TCP_KEEPCNT`). Nine by default.
    ///
    /// # Errors
    /// None at present.
    fn keepalive_retries(&self) -> io::Result<u32> {
        Ok(self.look(|look| {
            let own = look.options.keepalive_probes;
            own.unwrap_or(look.config.keepalive_probes)
        }))
    }

    /// Sets how many probes may go unanswered (`TCP_KEEPCNT`): 1 to 127.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) outside that range.
    fn set_keepalive_retries(&self, retries: u32) -> io::Result<()> {
        if !(1..=127).contains(&retries) {
            return Err(invalid_option());
        }
        self.change(|options| options.keepalive_probes = Some(retries));
        Ok(())
    }

    /// How long data may stay unacknowledged before the connection fails; `None` when that is left to the number of
    /// retransmissions.
    ///
    /// # Errors
    /// None at present.
    fn user_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.look(|look| look.options.user_timeout))
    }

    /// Sets how long data may stay unacknowledged, a window closed or keepalive probes unanswered before the connection
    /// fails with `TimedOut` (`TCP_USER_TIMEOUT`, RFC 5482 without its option). Milliseconds; zero is `None`.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) for more milliseconds than 31 bits hold.
    fn set_user_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        let millis = timeout.map_or(0, |timeout| timeout.as_millis());
        let millis = i32::try_from(millis).map_err(|_| invalid_option())?;
        let timeout = (millis > 0).then(|| Duration::from_millis(millis as u64));
        self.change(|options| options.user_timeout = timeout);
        Ok(())
    }

    /// The congestion controller's name (`TCP_CONGESTION`).
    ///
    /// # Errors
    /// None at present.
    fn congestion_control(&self) -> io::Result<&'static str> {
        Ok(self.look(|look| {
            let own = look.options.congestion_control;
            match look.connection {
                Some(connection) => connection.congestion_control(),
                None => controller_name(own.unwrap_or(look.config.congestion_control)),
            }
        }))
    }

    /// Chooses the congestion controller by its name on Linux: `cubic`, `reno` or `bbr` (`TCP_CONGESTION`). On a connection, the
    /// new one goes on with the window of the old one.
    ///
    /// # Errors
    /// `NotFound` (ENOENT) for another name.
    fn set_congestion_control(&self, name: &str) -> io::Result<()> {
        let chosen = CONTROLLERS
            .into_iter()
            .find(|control| controller_name(*control) == name)
            .ok_or_else(|| io::Error::from_raw_os_error(errno::ENOENT))?;
        self.change(|options| options.congestion_control = Some(chosen));
        Ok(())
    }

    /// The maximum segment size (`TCP_MAXSEG`): of a connection what it sends at present, else what was set, or 536.
    ///
    /// # Errors
    /// None at present.
    fn mss(&self) -> io::Result<u32> {
        Ok(self.look(|look| match look.connection {
            Some(connection) => connection.info().mss as u32,
            None => look.options.max_mss.map_or(DEFAULT_MSS, u32::from),
        }))
    }

    /// Caps the segment size announced and used (`TCP_MAXSEG`): 88 to 32,767, or 0 to leave it to the path. As on Linux,
    /// of no effect once connected.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) outside that range.
    fn set_mss(&self, mss: u32) -> io::Result<()> {
        let max_mss = match mss {
            0 => None,
            88..=32_767 => Some(mss as u16),
            _ => return Err(invalid_option()),
        };
        self.change(|options| options.max_mss = max_mss);
        Ok(())
    }

    /// Whether the connection is corked (`TCP_CORK`).
    ///
    /// # Errors
    /// None at present.
    fn cork(&self) -> io::Result<bool> {
        Ok(self.look(|look| look.options.cork))
    }

    /// Holds back what does not fill a segment, until it does, the cork is pulled or 200 ms have passed (`TCP_CORK`).
    ///
    /// # Errors
    /// None at present.
    fn set_cork(&self, cork: bool) -> io::Result<()> {
        self.change(|options| options.cork = cork);
        Ok(())
    }

    /// The limit of unsent data in octets; `u32::MAX` when there is none (`TCP_NOTSENT_LOWAT`).
    ///
    /// # Errors
    /// None at present.
    fn notsent_lowat(&self) -> io::Result<u32> {
        Ok(self.look(|look| {
            let limit = look.options.notsent_lowat;
            limit.map_or(u32::MAX, |limit| limit as u32)
        }))
    }

    /// Lets writes wait while as many octets are written and not sent, whatever room the send buffer has; a waiting
    /// writer is told when less than half of it is left (`TCP_NOTSENT_LOWAT`). What is written late can still be decided
    /// late. 0 and `u32::MAX` are no limit.
    ///
    /// # Errors
    /// None at present.
    fn set_notsent_lowat(&self, octets: u32) -> io::Result<()> {
        let limit = (octets != 0 && octets != u32::MAX).then_some(octets as usize);
        self.change(|options| options.notsent_lowat = limit);
        Ok(())
    }

    /// How long a closed connection waits in FIN-WAIT-2 for the peer's close (`TCP_LINGER2`). 60 seconds by default.
    ///
    /// # Errors
    /// None at present.
    fn linger2(&self) -> io::Result<Duration> {
        Ok(self.look(|look| {
            let own = look.options.fin_wait_2;
            own.unwrap_or(look.config.fin_wait_2)
        }))
    }

    /// Sets how long a closed connection waits in FIN-WAIT-2 (`TCP_LINGER2`): whole seconds, at most 120; zero is what
    /// a negative number is to Linux, no waiting at all. `None` is the stack's default.
    ///
    /// # Errors
    /// None at present.
    fn set_linger2(&self, limit: Option<Duration>) -> io::Result<()> {
        let limit = limit.map(|limit| Duration::from_secs(limit.as_secs().min(120)));
        self.change(|options| options.fin_wait_2 = limit);
        Ok(())
    }
}

impl<T: HasOptions> SockOptExt for T {}

/// A socket with TCP options: not for use outside of this crate.
#[doc(hidden)]
pub trait HasOptions {
    /// Shows what holds.
    fn look<R>(&self, look: impl FnOnce(Look<'_>) -> R) -> R;

    /// Changes the options.
    fn change(&self, change: impl FnOnce(&mut SocketOptions));
}

/// What holds for a socket.
#[doc(hidden)]
#[derive(Debug)]
pub struct Look<'a> {
    pub(super) options: &'a SocketOptions,
    pub(super) config: &'a Config,
    /// The connection, where there is one.
    pub(super) connection: Option<&'a Connection>,
}

/// `TCP_KEEPIDLE` and `TCP_KEEPINTVL`: 1 to 32,767 whole seconds (EINVAL).
fn keepalive_seconds(time: Duration) -> io::Result<Duration> {
    let seconds = time.as_secs();
    if (1..=32_767).contains(&seconds) {
        Ok(Duration::from_secs(seconds))
    } else {
        Err(SocketError::InvalidInput.into())
    }
}

/// What `TCP_CONGESTION` can choose.
const CONTROLLERS: [CongestionControl; 3] = [
    CongestionControl::Cubic,
    CongestionControl::NewReno,
    CongestionControl::Bbr,
];

/// A controller's name on Linux.
const fn controller_name(control: CongestionControl) -> &'static str {
    match control {
        CongestionControl::Cubic => "cubic",
        CongestionControl::NewReno => "reno",
        CongestionControl::Bbr => "bbr",
    }
}

/// What Linux shows before there is a connection.
const DEFAULT_MSS: u32 = 536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keepalive_times_are_whole_seconds_in_the_kernels_range() {
        assert!(keepalive_seconds(Duration::from_millis(999)).is_err());
        assert!(keepalive_seconds(Duration::from_secs(32_768)).is_err());
        assert_eq!(
            keepalive_seconds(Duration::from_millis(1500)).unwrap(),
            Duration::from_secs(1)
        );
    }
}
