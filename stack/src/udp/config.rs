//! What tests or users vary about UDP.

use crate::error::{SocketError, SocketResult};

/// UDP's configuration. Each field says its meaning, unit, origin and default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Memory of a socket's receive queue, in octets; payload and bookkeeping are charged. One datagram may exceed it.
    /// Default 212,992, as Linux's `rmem_default`: 256 small datagrams.
    pub receive_buffer: usize,
    /// Memory of a socket's send queue, in octets, charged alike. Default 212,992, as Linux's `wmem_default`.
    pub send_buffer: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            receive_buffer: 212_992,
            send_buffer: 212_992,
        }
    }
}

/// What one socket may set for itself. Setters take what the socket calls of `tokio::net` take, and refuse what Linux
/// refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// Sending to broadcast addresses is permitted (`SO_BROADCAST`). Default false.
    pub broadcast: bool,
    /// Other sockets may bind the same address (`SO_REUSEADDR`). Default false.
    pub reuse_address: bool,
    /// Sockets of the same kind share a port and its load (`SO_REUSEPORT`). Default false.
    pub reuse_port: bool,
    /// An IPv6 socket keeps to IPv6 (`IPV6_V6ONLY`). Default false.
    pub v6only: bool,
    /// The interface it is bound to, by name (`SO_BINDTODEVICE`). Default `None`.
    pub device: Option<Vec<u8>>,
    /// Own multicast datagrams over IPv4 come back to this host (`IP_MULTICAST_LOOP`). Default true.
    pub multicast_loop_v4: bool,
    /// The same over IPv6 (`IPV6_MULTICAST_LOOP`). Default true.
    pub multicast_loop_v6: bool,
    /// Datagrams of IPv4 groups arrive that only other sockets have joined (`IP_MULTICAST_ALL`). Default true.
    pub multicast_all_v4: bool,
    /// The same over IPv6 (`IPV6_MULTICAST_ALL`). Default true.
    pub multicast_all_v6: bool,
    ttl: Option<u8>,
    unicast_hops_v6: Option<u8>,
    tos: u8,
    traffic_class: u8,
    multicast_ttl_v4: u8,
    multicast_hops_v6: u8,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            broadcast: false,
            reuse_address: false,
            reuse_port: false,
            v6only: false,
            device: None,
            multicast_loop_v4: true,
            multicast_loop_v6: true,
            multicast_all_v4: true,
            multicast_all_v6: true,
            ttl: None,
            unicast_hops_v6: None,
            tos: 0,
            traffic_class: 0,
            multicast_ttl_v4: 1,
            multicast_hops_v6: 1,
        }
    }
}

impl SocketOptions {
    /// The TTL of unicast datagrams over IPv4 (`IP_TTL`); `None` for the stack's default.
    pub const fn ttl(&self) -> Option<u8> {
        self.ttl
    }

    /// Sets [`Self::ttl`]: 1 to 255. The value that is -1 to the system goes back to the default.
    ///
    /// # Errors
    /// [`SocketError::InvalidInput`] for 0 and more than 255.
    pub fn set_ttl(&mut self, ttl: u32) -> SocketResult<()> {
        self.ttl = match ttl {
            DEFAULT => None,
            0 => return Err(SocketError::InvalidInput),
            ttl => Some(octet(ttl)?),
        };
        Ok(())
    }

    /// Hop limit of unicast datagrams over IPv6 (`IPV6_UNICAST_HOPS`); `None` is the stack's default.
    pub const fn unicast_hops_v6(&self) -> Option<u8> {
        self.unicast_hops_v6
    }

    /// Sets [`Self::unicast_hops_v6`]: 0 to 255. The value that is -1 to the system goes back to the default.
    ///
    /// # Errors
    /// [`SocketError::InvalidInput`] for more than 255.
    pub fn set_unicast_hops_v6(&mut self, hops: u32) -> SocketResult<()> {
        self.unicast_hops_v6 = match hops {
            DEFAULT => None,
            hops => Some(octet(hops)?),
        };
        Ok(())
    }

    /// The TOS octet over IPv4 (`IP_TOS`): DSCP and ECN. Default 0.
    pub const fn tos(&self) -> u8 {
        self.tos
    }

    /// Sets [`Self::tos`]; Linux takes the low octet and ignores the rest.
    pub const fn set_tos(&mut self, tos: u32) {
        self.tos = tos as u8;
    }

    /// The traffic class over IPv6 (`IPV6_TCLASS`): DSCP and ECN. Default 0.
    pub const fn traffic_class(&self) -> u8 {
        self.traffic_class
    }

    /// Sets [`Self::traffic_class`]. The value that is -1 to the system goes back to the default.
    ///
    /// # Errors
    /// [`SocketError::InvalidInput`] for more than 255.
    pub fn set_traffic_class(&mut self, traffic_class: u32) -> SocketResult<()> {
        self.traffic_class = match traffic_class {
            DEFAULT => 0,
            traffic_class => octet(traffic_class)?,
        };
        Ok(())
    }

    /// The TTL of multicast datagrams over IPv4 (`IP_MULTICAST_TTL`). Default 1 (RFC 1112 6.1).
    pub const fn multicast_ttl_v4(&self) -> u8 {
        self.multicast_ttl_v4
    }

    /// Sets [`Self::multicast_ttl_v4`]: 0 keeps them on this host. The value that is -1 to the system goes back to the
    /// default.
    ///
    /// # Errors
    /// [`SocketError::InvalidInput`] for more than 255.
    pub fn set_multicast_ttl_v4(&mut self, ttl: u32) -> SocketResult<()> {
        self.multicast_ttl_v4 = match ttl {
            DEFAULT => 1,
            ttl => octet(ttl)?,
        };
        Ok(())
    }

    /// The hop limit of multicast datagrams over IPv6 (`IPV6_MULTICAST_HOPS`). Default 1 (RFC 3493 5.2).
    pub const fn multicast_hops_v6(&self) -> u8 {
        self.multicast_hops_v6
    }

    /// Sets [`Self::multicast_hops_v6`] as [`Self::set_multicast_ttl_v4`] does its own.
    ///
    /// # Errors
    /// [`SocketError::InvalidInput`] for more than 255.
    pub fn set_multicast_hops_v6(&mut self, hops: u32) -> SocketResult<()> {
        self.multicast_hops_v6 = match hops {
            DEFAULT => 1,
            hops => octet(hops)?,
        };
        Ok(())
    }
}

/// What -1 becomes on its way through an unsigned argument.
const DEFAULT: u32 = u32::MAX;

fn octet(value: u32) -> SocketResult<u8> {
    u8::try_from(value).map_err(|_| SocketError::InvalidInput)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_take_what_linux_takes() {
        // Observed on Linux 6.18 with setsockopt and getsockopt.
        type Set = fn(&mut SocketOptions, u32) -> SocketResult<()>;
        type Value = fn(&SocketOptions) -> Option<u8>;
        let invalid = Err(SocketError::InvalidInput);
        let ttl: (Set, Value) = (SocketOptions::set_ttl, SocketOptions::ttl);
        let hops: (Set, Value) = (
            SocketOptions::set_unicast_hops_v6,
            SocketOptions::unicast_hops_v6,
        );
        let tos: (Set, Value) = (
            |options, value| {
                options.set_tos(value);
                Ok(())
            },
            |options| Some(options.tos()),
        );
        let class: (Set, Value) = (SocketOptions::set_traffic_class, |options| {
            Some(options.traffic_class())
        });
        let multicast_v4: (Set, Value) = (SocketOptions::set_multicast_ttl_v4, |options| {
            Some(options.multicast_ttl_v4())
        });
        let multicast_v6: (Set, Value) = (SocketOptions::set_multicast_hops_v6, |options| {
            Some(options.multicast_hops_v6())
        });
        let cases = [
            ("ttl", ttl, 0, invalid),
            ("ttl", ttl, 1, Ok(Some(1))),
            ("ttl", ttl, 255, Ok(Some(255))),
            ("ttl", ttl, 256, invalid),
            ("ttl", ttl, u32::MAX, Ok(None)),
            ("hops", hops, 0, Ok(Some(0))),
            ("hops", hops, 255, Ok(Some(255))),
            ("hops", hops, 256, invalid),
            ("hops", hops, u32::MAX, Ok(None)),
            ("tos", tos, 255, Ok(Some(255))),
            ("tos", tos, 300, Ok(Some(44))),
            ("class", class, 255, Ok(Some(255))),
            ("class", class, 256, invalid),
            ("class", class, u32::MAX, Ok(Some(0))),
            ("multicast v4", multicast_v4, 0, Ok(Some(0))),
            ("multicast v4", multicast_v4, 256, invalid),
            ("multicast v4", multicast_v4, u32::MAX, Ok(Some(1))),
            ("multicast v6", multicast_v6, 0, Ok(Some(0))),
            ("multicast v6", multicast_v6, 256, invalid),
            ("multicast v6", multicast_v6, u32::MAX, Ok(Some(1))),
        ];
        for (name, (set, read), value, expected) in cases {
            let mut options = SocketOptions::default();
            let result = set(&mut options, value).map(|()| read(&options));
            assert_eq!(result, expected, "{name} {value}");
        }
    }
}
