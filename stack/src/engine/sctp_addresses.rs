//! An association's addresses as the engine sees them: which of ours it may use, the ways to the peer's, and where the
//! demux finds it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::engine::network::Path;
use crate::engine::sctp_sockets::{SctpListenerSocket, SctpSocket};
use crate::engine::slot::SctpSlot;
use crate::engine::sockets::unspecified;
use crate::engine::zone::{is_link_local, with_zone};
use crate::engine::{Engine, read, write};
use crate::error::{SocketError, SocketResult};
use crate::ip::InterfaceId;
use crate::sctp::association::is_in_scope;
use crate::time::Instant;
use crate::transport::demux::Tuple;
use crate::wire::protocol;
use crate::wire::sctp::AddressTypes;

/// The way to one address of a peer, as it was last looked up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) remote: IpAddr,
    /// `None` if there has never been one.
    pub(crate) path: Option<Path>,
    /// Since which unblocking of its device's queue the association waits for the next one.
    pub(crate) waits_since: Option<u64>,
}

impl Way {
    pub(crate) const fn new(remote: IpAddr, path: Option<Path>) -> Self {
        Self {
            remote,
            path,
            waits_since: None,
        }
    }
}

/// By what the demux finds an association: local port, and port and one address of the peer.
pub(crate) fn association_key(local_port: u16, peer: SocketAddr) -> Tuple {
    Tuple {
        local: SocketAddr::new(unspecified(peer.is_ipv6()), local_port),
        remote: peer,
    }
}

/// The addresses that a bind names; none if it takes all.
pub(crate) fn named_addresses(bound: &[SocketAddr]) -> Vec<IpAddr> {
    if wildcard_families(bound, false).is_some() {
        return Vec::new();
    }
    let canonical = bound.iter().map(|address| address.ip().to_canonical());
    canonical.collect()
}

/// The address families of which a bind takes all addresses; `None` if it names the addresses.
pub(crate) fn wildcard_families(bound: &[SocketAddr], only_v6: bool) -> Option<AddressTypes> {
    let mut wildcards = bound
        .iter()
        .filter(|address| address.ip().to_canonical().is_unspecified())
        .peekable();
    wildcards.peek()?;
    let none = AddressTypes {
        ipv4: false,
        ipv6: false,
    };
    let with = |families: AddressTypes, address: &SocketAddr| AddressTypes {
        ipv4: families.ipv4 || address.ip().to_canonical().is_ipv4() || !only_v6,
        ipv6: families.ipv6 || address.ip().is_ipv6(),
    };
    Some(wildcards.fold(none, with))
}

/// The address families of a socket that is not bound: as with Linux's sockets, one for IPv4 knows no other, one for IPv6
/// knows both.
pub(crate) fn families_towards(peers: &[SocketAddr]) -> AddressTypes {
    AddressTypes {
        ipv4: true,
        ipv6: peers.iter().any(SocketAddr::is_ipv6),
    }
}

impl Engine {
    /// All of our addresses of these families that may be used through `device`, if that is given; link-local IPv6 ones
    /// only of `zone`. Loopback addresses come last.
    pub(crate) fn own_addresses(
        &self,
        families: AddressTypes,
        device: Option<InterfaceId>,
        zone: Option<InterfaceId>,
    ) -> Vec<IpAddr> {
        let is_wanted = |interface: InterfaceId, address: IpAddr| {
            let of_family = if address.is_ipv4() {
                families.ipv4
            } else {
                families.ipv6
            };
            of_family
                && device.is_none_or(|device| device == interface)
                && (!is_link_local(address) || zone == Some(interface))
        };
        let known = self.network.addresses();
        let known = known.iter().filter(|known| known.is_usable());
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let all = known
            .map(|known| (known.interface, known.address()))
            .chain(loopback.map(|address| (InterfaceId::LOOPBACK, address)));
        let mut own: Vec<IpAddr> = Vec::new();
        for (interface, address) in all {
            if is_wanted(interface, address) && !own.contains(&address) {
                own.push(address);
            }
        }
        own
    }

    /// The addresses of a listener that is bound to all of them, as they are now.
    pub(crate) fn refresh_endpoint(&self, socket: &mut SctpListenerSocket) {
        let Some(families) = wildcard_families(&socket.bound, socket.only_v6) else {
            return;
        };
        let generation = self.network.generation();
        if socket.addresses_of.replace(generation) != Some(generation) {
            // Those of a link are told by the packets that come from them.
            let own = self.own_addresses(families, socket.device, None);
            socket.endpoint.set_addresses(own);
        }
    }

    /// The way to an address of a peer, from `source`, or else from one of `locals`, if there are any: the one that
    /// routing chooses, or one of the interface that it chooses.
    pub(crate) fn sctp_way(
        &self,
        now: Instant,
        remote: IpAddr,
        source: Option<IpAddr>,
        locals: &[IpAddr],
        device: Option<InterfaceId>,
    ) -> SocketResult<Path> {
        if source.is_some() || locals.is_empty() {
            return self.network.path(now, remote, source, device);
        }
        let mut of_family = locals
            .iter()
            .copied()
            .filter(|local| local.is_ipv4() == remote.is_ipv4());
        let first = of_family.clone().next().ok_or(SocketError::AddressFamily)?;
        let source = match self.network.path(now, remote, None, device) {
            Ok(path) if locals.contains(&path.source) => return Ok(path),
            Ok(path) => {
                let leads_there =
                    |local: &IpAddr| self.network.interface_of(*local) == Some(path.interface);
                of_family.find(leads_there).unwrap_or(first)
            }
            Err(_) => first,
        };
        self.network.path(now, remote, Some(source), device)
    }

    /// The addresses of ours that an association with `peer` uses, of `own`: those that mean something there, and `source`,
    /// from which it sends.
    pub(crate) fn association_addresses(
        own: &[IpAddr],
        peer: IpAddr,
        source: IpAddr,
    ) -> Vec<IpAddr> {
        let in_scope = own.iter().filter(|address| is_in_scope(**address, peer));
        let mut addresses: Vec<IpAddr> = in_scope.copied().collect();
        if !addresses.contains(&source) {
            addresses.insert(0, source);
        }
        addresses
    }

    /// Looks the ways up anew when routes, addresses or path MTUs have changed, and tells the association what they carry.
    pub(crate) fn refresh_ways(&self, now: Instant, socket: &mut SctpSocket) {
        let generation = self.network.generation();
        if socket.ways_of == Some(generation) {
            return;
        }
        socket.ways_of = Some(generation);
        let targets: SmallVec<[(IpAddr, Option<IpAddr>); 4]> = socket
            .association
            .paths()
            .iter()
            .map(|(_, path)| (path.remote(), path.local()))
            .collect();
        let before = std::mem::take(&mut socket.ways);
        for (remote, local) in targets {
            let known = before.iter().find(|way| way.remote == remote);
            let mut way = known.copied().unwrap_or(Way::new(remote, None));
            // If the route went away, the timers go on, and give the path up if it does not come back.
            if let Ok(path) = self.association_way(now, socket, remote, local) {
                socket.association.handle_path_mtu(remote, path.mtu);
                if way
                    .path
                    .is_some_and(|before| before.interface != path.interface)
                {
                    // It stands on the other device's list, if on any.
                    way.waits_since = None;
                }
                way.path = Some(path);
            }
            socket.ways.push(way);
        }
    }

    pub(crate) fn association_way(
        &self,
        now: Instant,
        socket: &SctpSocket,
        remote: IpAddr,
        source: Option<IpAddr>,
    ) -> SocketResult<Path> {
        let ends = socket.association.ends();
        let locals = &ends.local_addresses;
        let device = socket
            .device
            .or(is_link_local(remote).then_some(socket.zone));
        let path = self.sctp_way(now, remote, source, locals, device)?;
        let remote = SocketAddr::new(remote, ends.peer_port);
        Ok(self.label(path, protocol::SCTP, ends.local_port, remote))
    }

    /// The peer's addresses have changed: the demux finds the association by all of them, and by no others. One that
    /// another association has with the same ports stays there.
    #[cold]
    pub(crate) fn register_peer(&self, slot: &Arc<SctpSlot>, socket: &mut SctpSocket) {
        let ends = socket.association.ends();
        let wanted: SmallVec<[Tuple; 1]> = ends
            .peer_addresses
            .iter()
            .map(|address| with_zone(*address, ends.peer_port, socket.zone))
            .map(|peer| association_key(ends.local_port, peer))
            .collect();
        let keys = std::mem::replace(&mut socket.keys, wanted);
        self.forget_keys(slot, keys.iter().filter(|key| !socket.keys.contains(key)));
        let mut associations = write(&self.associations);
        for key in socket.keys.iter().filter(|key| !keys.contains(key)) {
            let taken = associations.insert_if_vacant(*key, Arc::clone(slot));
            if taken.is_err() {
                tracing::debug!(peer = %key.remote, "address belongs to another association");
            }
        }
        drop(associations);
        socket.ways_of = None;
    }

    /// The demux finds the association by these no more.
    pub(crate) fn forget_keys<'a>(
        &self,
        slot: &Arc<SctpSlot>,
        keys: impl Iterator<Item = &'a Tuple>,
    ) {
        let mut associations = write(&self.associations);
        for key in keys {
            let is_ours = associations
                .find(key)
                .is_some_and(|found| Arc::ptr_eq(found, slot));
            if is_ours {
                associations.remove(key);
            }
        }
    }

    pub(crate) fn is_associated(&self, key: &Tuple) -> bool {
        read(&self.associations).find(key).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(texts: &[&str]) -> Vec<SocketAddr> {
        let parse = |text: &&str| text.parse().expect("an address");
        texts.iter().map(parse).collect()
    }

    #[test]
    fn wildcards_take_the_families_that_linuxs_sockets_take() {
        let families = |texts: &[&str], only_v6| {
            wildcard_families(&all(texts), only_v6).map(|types| (types.ipv4, types.ipv6))
        };
        assert_eq!(families(&["10.0.0.1:1"], false), None);
        assert_eq!(families(&["0.0.0.0:1"], false), Some((true, false)));
        assert_eq!(families(&["0.0.0.0:1"], true), Some((true, false)));
        assert_eq!(families(&["[::]:1"], false), Some((true, true)));
        assert_eq!(families(&["[::]:1"], true), Some((false, true)));
        assert_eq!(families(&["[::]:1", "0.0.0.0:1"], true), Some((true, true)));
        assert_eq!(families(&["[::ffff:0.0.0.0]:1"], false), Some((true, true)));
    }

    #[test]
    fn addresses_out_of_scope_are_left_out_but_the_source_stays() {
        // RFC 9260 3.3.2.1.2.
        let own: Vec<IpAddr> = ["10.0.0.1", "192.0.2.1", "127.0.0.1"]
            .map(|text| text.parse().expect("an address"))
            .to_vec();
        let used = |peer: &str, source: usize| {
            let peer = peer.parse().expect("an address");
            Engine::association_addresses(&own, peer, own[source])
        };
        assert_eq!(used("10.0.0.2", 0), own[..2]);
        assert_eq!(used("198.51.100.1", 1), own[1..2]);
        assert_eq!(used("198.51.100.1", 0), own[..2], "behind a translator");
        assert_eq!(used("127.0.0.1", 2), own);
    }
}
