//! Options of a UDP socket. Ranges are checked, and defaults kept, by `udp::SocketOptions`.

use std::io;

use super::UdpSocket;
use crate::error::SocketResult;
use crate::net::options;
use crate::udp::SocketOptions;

impl UdpSocket {
    pub(super) fn option<R>(&self, read: impl FnOnce(&SocketOptions) -> R) -> io::Result<R> {
        Ok(read(&self.io.lock().socket.socket.options))
    }

    pub(super) fn set_option(
        &self,
        set: impl FnOnce(&mut SocketOptions) -> SocketResult<()>,
    ) -> io::Result<()> {
        Ok(set(&mut self.io.lock().socket.socket.options)?)
    }

    fn is_v6(&self) -> bool {
        self.io.lock().socket.local().is_ipv6()
    }

    pub(super) fn can_read_v6(&self) -> io::Result<()> {
        if self.is_v6() {
            Ok(())
        } else {
            Err(options::no_v6_option())
        }
    }

    pub(super) fn can_set_v6(&self) -> io::Result<()> {
        if self.is_v6() {
            Ok(())
        } else {
            Err(options::no_v6_option_to_set())
        }
    }

    /// Whether datagrams may be sent to broadcast addresses (`SO_BROADCAST`).
    ///
    /// # Errors
    /// None at present; tokio's signature. So too for every option below that names none.
    pub fn broadcast(&self) -> io::Result<bool> {
        self.option(|options| options.broadcast)
    }

    /// Permits sending to broadcast addresses. Off by default.
    pub fn set_broadcast(&self, on: bool) -> io::Result<()> {
        self.set_option(|options| {
            options.broadcast = on;
            Ok(())
        })
    }

    /// Whether own multicast datagrams over IPv4 come back to this host (`IP_MULTICAST_LOOP`).
    pub fn multicast_loop_v4(&self) -> io::Result<bool> {
        self.option(|options| options.multicast_loop_v4)
    }

    /// Says whether own multicast datagrams over IPv4 come back to this host. On by default.
    pub fn set_multicast_loop_v4(&self, on: bool) -> io::Result<()> {
        self.set_option(|options| {
            options.multicast_loop_v4 = on;
            Ok(())
        })
    }

    /// TTL of multicast datagrams over IPv4 (`IP_MULTICAST_TTL`).
    pub fn multicast_ttl_v4(&self) -> io::Result<u32> {
        self.option(|options| options.multicast_ttl_v4().into())
    }

    /// Sets the TTL of multicast datagrams over IPv4. 1 by default: they stay on the link.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) above 255.
    pub fn set_multicast_ttl_v4(&self, ttl: u32) -> io::Result<()> {
        self.set_option(|options| options.set_multicast_ttl_v4(ttl))
    }

    /// Whether own multicast datagrams over IPv6 come back to this host (`IPV6_MULTICAST_LOOP`).
    ///
    /// # Errors
    /// EOPNOTSUPP for an IPv4 socket.
    pub fn multicast_loop_v6(&self) -> io::Result<bool> {
        self.can_read_v6()?;
        self.option(|options| options.multicast_loop_v6)
    }

    /// Says whether own multicast datagrams over IPv6 come back to this host. On by default.
    ///
    /// # Errors
    /// ENOPROTOOPT for an IPv4 socket.
    pub fn set_multicast_loop_v6(&self, on: bool) -> io::Result<()> {
        self.can_set_v6()?;
        self.set_option(|options| {
            options.multicast_loop_v6 = on;
            Ok(())
        })
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
        self.option(|options| options.traffic_class().into())
    }

    /// Sets the traffic class of IPv6 packets: DSCP in the upper six bits, ECN in the lower two.
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
        self.set_option(|options| options.set_traffic_class(tclass))
    }

    /// TTL of unicast datagrams over IPv4 (`IP_TTL`); [`unicast_hops_v6`](Self::unicast_hops_v6) is IPv6's.
    pub fn ttl(&self) -> io::Result<u32> {
        let ttl = self.option(SocketOptions::ttl)?;
        Ok(ttl
            .unwrap_or(self.io.shared().engine().config().host.ttl)
            .into())
    }

    /// Sets the TTL of unicast datagrams over IPv4: 1 to 255.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) for 0 and above 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.set_option(|options| options.set_ttl(ttl))
    }

    /// Hop limit of unicast datagrams over IPv6 (`IPV6_UNICAST_HOPS`). tokio leaves it to socket2.
    ///
    /// # Errors
    /// EOPNOTSUPP for an IPv4 socket.
    pub fn unicast_hops_v6(&self) -> io::Result<u32> {
        self.can_read_v6()?;
        let hops = self.option(SocketOptions::unicast_hops_v6)?;
        Ok(hops
            .unwrap_or(self.io.shared().engine().config().host.ttl)
            .into())
    }

    /// Sets the hop limit of unicast datagrams over IPv6: 0 to 255, as Linux.
    ///
    /// # Errors
    /// ENOPROTOOPT for an IPv4 socket; `InvalidInput` (EINVAL) above 255.
    pub fn set_unicast_hops_v6(&self, hops: u32) -> io::Result<()> {
        self.can_set_v6()?;
        self.set_option(|options| options.set_unicast_hops_v6(hops))
    }

    /// The TOS octet of IPv4 packets (`IP_TOS`).
    pub fn tos_v4(&self) -> io::Result<u32> {
        self.option(|options| options.tos().into())
    }

    /// The former name of [`tos_v4`](Self::tos_v4).
    #[deprecated(
        note = "`tos` related methods have been renamed `tos_v4` since they are IPv4-specific."
    )]
    #[doc(hidden)]
    pub fn tos(&self) -> io::Result<u32> {
        self.tos_v4()
    }

    /// Sets the TOS octet of IPv4 packets: DSCP in the upper six bits, ECN in the lower two.
    pub fn set_tos_v4(&self, tos: u32) -> io::Result<()> {
        self.set_option(|options| {
            options.set_tos(tos);
            Ok(())
        })
    }

    /// The former name of [`set_tos_v4`](Self::set_tos_v4).
    #[deprecated(
        note = "`tos` related methods have been renamed `tos_v4` since they are IPv4-specific."
    )]
    #[doc(hidden)]
    pub fn set_tos(&self, tos: u32) -> io::Result<()> {
        self.set_tos_v4(tos)
    }

    /// The interface the socket is tied to, if any.
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    pub fn device(&self) -> io::Result<Option<Vec<u8>>> {
        self.option(|options| options.device.clone())
    }

    /// Ties the socket to one of its stack's interfaces by name (`SO_BINDTODEVICE`); `None` or an empty name unties it.
    ///
    /// # Errors
    /// ENODEV when the stack has no such interface; `InvalidInput` (EINVAL) for a name over 15 octets.
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    pub fn bind_device(&self, interface: Option<&[u8]>) -> io::Result<()> {
        let name = interface.map(options::device_name).transpose()?.flatten();
        let device = name
            .as_deref()
            .map(|name| self.io.shared().network().interface_named(name))
            .transpose()?;
        let mut state = self.io.lock();
        state.socket.set_device(device);
        state.socket.socket.options.device = name.map(String::into_bytes);
        Ok(())
    }
}
