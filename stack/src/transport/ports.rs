//! Who owns which local port: conflicts as Linux decides them, ephemeral ports per RFC 6056.
//!
//! One table per transport protocol. A [`PortLease`] is the ownership; dropping it frees the port.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{SocketError, SocketResult};
use crate::random::{HashKey, Random};

/// The ephemeral range, as Linux's `ip_local_port_range`.
pub const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;

const EPHEMERAL_COUNT: u32 = *EPHEMERAL.end() as u32 - *EPHEMERAL.start() as u32 + 1;

/// What a bind asks for.
#[derive(Clone, Debug)]
pub struct BindRequest {
    /// Address and port; an unspecified address means all, port 0 an ephemeral one.
    pub address: SocketAddr,
    /// `SO_REUSEADDR`.
    pub reuse_address: bool,
    /// `SO_REUSEPORT`.
    pub reuse_port: bool,
    /// `IPV6_V6ONLY`: `[::]` does not take IPv4.
    pub only_v6: bool,
    /// `SO_BINDTODEVICE`: the interface's name.
    pub device: Option<String>,
}

impl BindRequest {
    /// A request with every option off.
    pub const fn new(address: SocketAddr) -> Self {
        Self {
            address,
            reuse_address: false,
            reuse_port: false,
            only_v6: false,
            device: None,
        }
    }
}

/// How two bindings of one port may share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// TCP: with `SO_REUSEADDR` on both as long as neither listens; with `SO_REUSEPORT` on both.
    Stream,
    /// UDP: with `SO_REUSEADDR` on both or `SO_REUSEPORT` on both.
    Datagram,
}

#[derive(Debug)]
struct Binding {
    id: u64,
    address: IpAddr,
    /// The link that a link-local address is meant on (RFC 4007); 0 for others.
    zone: u32,
    only_v6: bool,
    reuse_address: bool,
    reuse_port: bool,
    listening: bool,
}

impl Binding {
    /// Whether some packet could be meant for both.
    fn overlaps(&self, other: &Self) -> bool {
        let covers_v4 = |b: &Self| b.address == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !b.only_v6;
        match (self.address, other.address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => a == b || a.is_unspecified() || b.is_unspecified(),
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let is_same_link = self.zone == other.zone || self.zone == 0 || other.zone == 0;
                (a == b && is_same_link) || a.is_unspecified() || b.is_unspecified()
            }
            (IpAddr::V4(_), IpAddr::V6(_)) => covers_v4(other),
            (IpAddr::V6(_), IpAddr::V4(_)) => covers_v4(self),
        }
    }

    fn conflicts(&self, other: &Self, sharing: Sharing) -> bool {
        let reuse_address = self.reuse_address
            && other.reuse_address
            && (sharing == Sharing::Datagram || !(self.listening || other.listening));
        self.overlaps(other) && !reuse_address && !(self.reuse_port && other.reuse_port)
    }
}

#[derive(Debug)]
struct Table {
    sharing: Sharing,
    key: HashKey,
    random: Random,
    next_id: u64,
    /// RFC 6056 3.3.3: the counter that the hash offsets.
    next_ephemeral: u32,
    bindings: HashMap<u16, Vec<Binding>>,
    /// Connections that took an ephemeral port without a bind, by port.
    unbound: HashMap<u16, u32>,
}

/// The ports of one transport protocol.
#[derive(Clone, Debug)]
pub struct PortTable(Arc<Mutex<Table>>);

impl PortTable {
    /// An empty table.
    pub fn new(sharing: Sharing, random: &mut Random) -> Self {
        Self(Arc::new(Mutex::new(Table {
            sharing,
            key: HashKey::new(random),
            random: random.fork(),
            next_id: 1,
            next_ephemeral: 0,
            bindings: HashMap::new(),
            unbound: HashMap::new(),
        })))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the port asked for, or an ephemeral one for port 0.
    ///
    /// # Errors
    /// [`SocketError::AddressInUse`] when the port, or every ephemeral port, is taken.
    pub fn bind(&self, request: &BindRequest) -> SocketResult<PortLease> {
        let mut table = self.table();
        let binding = Binding {
            id: table.next_id,
            // `::ffff:a.b.c.d` is IPv4, and clashes with it.
            address: request.address.ip().to_canonical(),
            zone: match request.address {
                SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => v6.scope_id(),
                _ => 0,
            },
            only_v6: request.only_v6,
            reuse_address: request.reuse_address,
            reuse_port: request.reuse_port,
            listening: false,
        };
        let port = match request.address.port() {
            0 => table.free_port(&binding)?,
            port if table.is_free(port, &binding) => port,
            _ => return Err(SocketError::AddressInUse),
        };
        table.next_id += 1;
        let id = binding.id;
        table.bindings.entry(port).or_default().push(binding);
        let mut local = request.address;
        local.set_port(port);
        Ok(PortLease {
            table: self.clone(),
            id,
            local,
        })
    }

    /// Chooses a port for a connection that was not bound (RFC 6056 3.3.3, "simple hash-based port selection").
    ///
    /// `is_taken` says whether the four-tuple with that port exists; ports may serve several destinations.
    ///
    /// # Errors
    /// [`SocketError::AddressNotAvailable`] when every port is taken, as Linux says.
    pub fn connect(
        &self,
        local: IpAddr,
        remote: SocketAddr,
        mut is_taken: impl FnMut(SocketAddr) -> bool,
    ) -> SocketResult<EphemeralLease> {
        let mut table = self.table();
        let offset =
            table.key.hash_pair(SocketAddr::new(local, 0), remote) as u32 % EPHEMERAL_COUNT;
        for _ in 0..EPHEMERAL_COUNT {
            let step = table.next_ephemeral;
            table.next_ephemeral = table.next_ephemeral.wrapping_add(1);
            let port = EPHEMERAL.start()
                + ((u64::from(offset) + u64::from(step)) % u64::from(EPHEMERAL_COUNT)) as u16;
            let address = SocketAddr::new(local, port);
            if !table.bindings.contains_key(&port) && !is_taken(address) {
                *table.unbound.entry(port).or_insert(0) += 1;
                return Ok(EphemeralLease {
                    table: self.clone(),
                    local: address,
                });
            }
        }
        Err(SocketError::AddressNotAvailable)
    }
}

impl Table {
    fn is_free(&self, port: u16, binding: &Binding) -> bool {
        let bound = self
            .bindings
            .get(&port)
            .is_some_and(|list| list.iter().any(|b| b.conflicts(binding, self.sharing)));
        // A connection from an ephemeral port stands in the way of a bind without SO_REUSEADDR, as on Linux.
        !bound && (binding.reuse_address || !self.unbound.contains_key(&port))
    }

    fn free_port(&mut self, binding: &Binding) -> SocketResult<u16> {
        let start = self.random.below(EPHEMERAL_COUNT);
        (0..EPHEMERAL_COUNT)
            .map(|step| EPHEMERAL.start() + ((start + step) % EPHEMERAL_COUNT) as u16)
            // Port 0 asks for a port of one's own, so SO_REUSEADDR does not count here.
            .find(|port| !self.bindings.contains_key(port) && self.is_free(*port, binding))
            .ok_or(SocketError::AddressInUse)
    }
}

/// The right to a bound port. Shared by a listener and the connections it accepted.
#[derive(Debug)]
pub struct PortLease {
    table: PortTable,
    id: u64,
    local: SocketAddr,
}

impl PortLease {
    /// The bound address with its real port.
    pub const fn local(&self) -> SocketAddr {
        self.local
    }

    /// Says that the port's owner listens now, or no longer.
    ///
    /// # Errors
    /// [`SocketError::AddressInUse`] when somebody else listens on an overlapping address already.
    pub fn set_listening(&self, listening: bool) -> SocketResult<()> {
        let mut table = self.table.table();
        let sharing = table.sharing;
        let Some(list) = table.bindings.get_mut(&self.local.port()) else {
            return Ok(());
        };
        let Some(own) = list.iter().position(|binding| binding.id == self.id) else {
            return Ok(());
        };
        let was = std::mem::replace(&mut list[own].listening, listening);
        let clash = listening
            && list.iter().any(|other| {
                other.id != self.id && other.listening && other.conflicts(&list[own], sharing)
            });
        if clash {
            list[own].listening = was;
            return Err(SocketError::AddressInUse);
        }
        Ok(())
    }
}

impl Drop for PortLease {
    fn drop(&mut self) {
        let mut table = self.table.table();
        if let Some(list) = table.bindings.get_mut(&self.local.port()) {
            list.retain(|binding| binding.id != self.id);
            if list.is_empty() {
                table.bindings.remove(&self.local.port());
            }
        }
    }
}

/// The ephemeral port of a connection that was not bound.
#[derive(Debug)]
pub struct EphemeralLease {
    table: PortTable,
    local: SocketAddr,
}

impl EphemeralLease {
    /// The address and port chosen.
    pub const fn local(&self) -> SocketAddr {
        self.local
    }
}

impl Drop for EphemeralLease {
    fn drop(&mut self) {
        let mut table = self.table.table();
        if let Some(count) = table.unbound.get_mut(&self.local.port()) {
            *count -= 1;
            if *count == 0 {
                table.unbound.remove(&self.local.port());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(sharing: Sharing) -> PortTable {
        PortTable::new(sharing, &mut Random::new(Some(1)))
    }

    fn request(address: &str) -> BindRequest {
        BindRequest::new(address.parse().unwrap())
    }

    #[test]
    fn overlapping_binds_conflict() {
        let cases = [
            ("0.0.0.0:80", "127.0.0.1:80", false, true),
            ("127.0.0.1:80", "127.0.0.2:80", false, false),
            ("[::]:80", "0.0.0.0:80", false, true),
            ("[::]:80", "0.0.0.0:80", true, false),
            ("[::1]:80", "127.0.0.1:80", false, false),
            ("10.0.0.1:80", "10.0.0.1:81", false, false),
            ("[fe80::1%2]:80", "[fe80::1%2]:80", false, true),
            ("[fe80::1%2]:80", "[fe80::1%3]:80", false, false),
            ("[fe80::1%2]:80", "[::]:80", false, true),
        ];
        for (first, second, only_v6, conflict) in cases {
            let table = table(Sharing::Stream);
            let _first = table
                .bind(&BindRequest {
                    only_v6,
                    ..request(first)
                })
                .unwrap();
            let second = table
                .bind(&request(second))
                .map(|lease| lease.local().port());
            assert_eq!(second.is_err(), conflict, "{first} then {second:?}");
        }
    }

    #[test]
    fn two_listeners_need_reuse_port_even_with_reuse_address() {
        let table = table(Sharing::Stream);
        let reuse = BindRequest {
            reuse_address: true,
            ..request("127.0.0.1:80")
        };
        let first = table.bind(&reuse).unwrap();
        let second = table.bind(&reuse).unwrap();
        first.set_listening(true).unwrap();
        assert_eq!(second.set_listening(true), Err(SocketError::AddressInUse));
        assert_eq!(
            table.bind(&reuse).map(|_| ()),
            Err(SocketError::AddressInUse)
        );
        first.set_listening(false).unwrap();
        second.set_listening(true).unwrap();
    }

    #[test]
    fn a_dropped_lease_frees_the_port() {
        let table = table(Sharing::Datagram);
        let lease = table.bind(&request("127.0.0.1:0")).unwrap();
        let again = BindRequest::new(lease.local());
        assert!(EPHEMERAL.contains(&lease.local().port()));
        assert!(table.bind(&again).is_err());
        drop(lease);
        assert!(table.bind(&again).is_ok());
    }

    #[test]
    fn ephemeral_ports_serve_several_destinations() {
        // RFC 6056 3.3.3: the same counter step gives different ports for different destinations.
        let table = table(Sharing::Stream);
        let local = "10.0.0.1".parse().unwrap();
        let mut taken = Vec::new();
        for host in 1..=200u8 {
            let remote = SocketAddr::new(IpAddr::from([10, 0, 1, host]), 80);
            taken.push(table.connect(local, remote, |_| false).unwrap());
        }
        assert!(
            taken
                .iter()
                .all(|lease| EPHEMERAL.contains(&lease.local().port()))
        );
        let only = taken[0].local();
        let other = table
            .connect(local, "10.0.1.1:80".parse().unwrap(), |address| {
                address != only
            })
            .unwrap();
        assert_eq!(other.local(), only);
    }
}
