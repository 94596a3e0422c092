//! Opening SCTP associations.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};

use smallvec::SmallVec;

use crate::engine::network::{Path, connectable};
use crate::engine::sctp_addresses::{
    Way, association_key, families_towards, named_addresses, wildcard_families,
};
use crate::engine::sctp_sockets::{SctpLease, SctpOptions, SctpSocket};
use crate::engine::slot::{SctpSlot, Slot};
use crate::engine::sockets::canonical;
use crate::engine::zone::zone_of;
use crate::engine::{Engine, WakeList, lock, read, write};
use crate::error::{SocketError, SocketResult};
use crate::ip::InterfaceId;
use crate::ip::address::AddressClass;
use crate::sctp::association::{Association, Ends};
use crate::sctp::cookie::{Secrets, SharedSecrets};
use crate::time::Instant;
use crate::transport::Readiness;
use crate::transport::demux::Tuple;
use crate::transport::ports::PortLease;

impl Engine {
    /// Opens an association; its INIT goes out with the next flush. The slot turns writable when it is established or has
    /// failed. All of `peers` have one port and are one peer's; the first of them that there is a way to is its primary
    /// address, and others without one are left out.
    ///
    /// # Errors
    /// `InvalidInput` for no peer, port 0, ports that differ, or options out of range; `AddressNotAvailable` (there is an
    /// association with that peer from this port); `NetworkUnreachable`, `AddressFamily` if there is no way to any.
    pub fn sctp_connect(
        &self,
        now: Instant,
        leases: Option<Vec<PortLease>>,
        peers: &[SocketAddr],
        options: &SctpOptions,
    ) -> SocketResult<Arc<SctpSlot>> {
        let leases = leases.filter(|leases| !leases.is_empty()).map(Arc::new);
        let (socket, key) = self.opening_sctp(now, leases, None, peers, options)?;
        let slot = self.slot_of(socket, &key, Readiness::NONE);
        self.launch_sctp(&slot, key)?;
        Ok(slot)
    }

    /// An association that is to be opened and that nobody knows yet, and where the demux is to find it. Cookies are signed
    /// with `secrets`, or with what a listener of the port signs them with.
    pub(crate) fn opening_sctp(
        &self,
        now: Instant,
        leases: Option<Arc<Vec<PortLease>>>,
        secrets: Option<SharedSecrets>,
        peers: &[SocketAddr],
        options: &SctpOptions,
    ) -> SocketResult<(SctpSocket, Tuple)> {
        self.check_alive()?;
        options.socket.check(&self.sctp_config)?;
        let first = *peers.first().ok_or(SocketError::InvalidInput)?;
        if first.port() == 0 || peers.iter().any(|peer| peer.port() != first.port()) {
            return Err(SocketError::InvalidInput);
        }
        let mapped = first.is_ipv6() && first.ip().to_canonical().is_ipv4();
        let leased = leases.iter().flat_map(|leases| leases.iter());
        let bound: Vec<SocketAddr> = leased.map(PortLease::local).collect();
        let families = match bound[..] {
            [] => Some(families_towards(peers)),
            _ => wildcard_families(&bound, false),
        };
        let device = self.device(options.device.as_deref())?;
        let device = device.or(bound.first().copied().and_then(zone_of));
        let named = named_addresses(&bound);
        let (peers, device, path) = self.reachable_peers(now, peers, &named, device)?;
        let primary = peers[0];
        let zone = device.unwrap_or(path.interface);
        let (port, lease) = match leases {
            Some(leases) => (bound[0].port(), SctpLease::Bound(leases)),
            None => {
                let taken = |local: SocketAddr| {
                    let mut keys = peers
                        .iter()
                        .map(|peer| association_key(local.port(), *peer));
                    keys.any(|key| self.is_associated(&key))
                };
                let lease = self.sctp_ports.connect(path.source, primary, taken)?;
                (lease.local().port(), SctpLease::Ephemeral(lease))
            }
        };
        let keys: SmallVec<[Tuple; 1]> = peers
            .iter()
            .map(|peer| association_key(port, *peer))
            .collect();
        if keys.iter().any(|key| self.is_associated(key)) {
            return Err(SocketError::AddressNotAvailable);
        }
        let locals = match families {
            Some(families) => {
                let own = self.own_addresses(families, device, Some(zone));
                Self::association_addresses(&own, primary.ip(), path.source)
            }
            None => named,
        };
        let ends = Ends {
            local_port: port,
            local_addresses: locals,
            peer_port: primary.port(),
            peer_addresses: peers.iter().map(SocketAddr::ip).collect(),
        };
        let secrets = secrets
            .unwrap_or_else(|| self.secrets_of(now, SocketAddr::new(path.source, port), primary));
        let parameters = self.sctp_parameters(options, secrets, path.mtu);
        let association = Association::connect(now, parameters, ends);
        let mut socket = self.sctp_socket(association, options, lease, device, zone);
        socket.mapped = mapped;
        socket.ways.push(Way::new(primary.ip(), Some(path)));
        Ok((socket, keys[0]))
    }

    /// A slot for an association that nobody knows yet, which begins with `ready` set.
    pub(crate) fn slot_of(
        &self,
        socket: SctpSocket,
        key: &Tuple,
        ready: Readiness,
    ) -> Arc<SctpSlot> {
        let is_loopback = |way: &Way| {
            let path = way.path.as_ref();
            path.is_some_and(|path| path.interface == InterfaceId::LOOPBACK)
        };
        let is_local = socket.ways.iter().any(is_loopback);
        let slot = Slot::new(socket, ready);
        Arc::new(slot.with_local(is_local).with_home(self.home_of(key)))
    }

    /// Begins to open an association.
    ///
    /// # Errors
    /// `AddressNotAvailable`: there is one with that peer from this port.
    pub(crate) fn launch_sctp(&self, slot: &Arc<SctpSlot>, key: Tuple) -> SocketResult<()> {
        // The peer's other addresses follow when the slot settles.
        write(&self.associations)
            .insert_if_vacant(key, Arc::clone(slot))
            .map_err(|_| SocketError::AddressNotAvailable)?;
        let mut wakes = WakeList::new();
        let mut state = slot.lock();
        state.socket.keys.push(key);
        self.settle_sctp(slot, &mut state, &mut wakes);
        debug_assert!(wakes.is_empty(), "nobody waits for a new slot");
        Ok(())
    }

    /// Those of `peers` that there is a way to from one of `named`, with the device that leads to the first and the way.
    fn reachable_peers(
        &self,
        now: Instant,
        peers: &[SocketAddr],
        named: &[IpAddr],
        device: Option<InterfaceId>,
    ) -> SocketResult<(Vec<SocketAddr>, Option<InterfaceId>, Path)> {
        let mut reachable: Vec<SocketAddr> = Vec::new();
        let mut first = None;
        let mut failure = None;
        for peer in peers {
            let peer = canonical(connectable(*peer));
            let class = self.network.classify(peer.ip());
            if matches!(class, AddressClass::Broadcast | AddressClass::Multicast) {
                return Err(SocketError::NetworkUnreachable);
            }
            let device = self.device_towards(peer, device)?;
            match self.sctp_way(now, peer.ip(), None, named, device) {
                Ok(path) if !reachable.contains(&peer) => {
                    reachable.push(peer);
                    first.get_or_insert((device, path));
                }
                Ok(_) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match first {
            Some((device, path)) => Ok((reachable, device, path)),
            None => Err(failure.unwrap_or(SocketError::NetworkUnreachable)),
        }
    }

    /// What signs an association's cookies: what its port's listener uses, so that either takes the other's.
    fn secrets_of(&self, now: Instant, local: SocketAddr, peer: SocketAddr) -> SharedSecrets {
        let listener = read(&self.sctp_listeners)
            .find(local, peer, 0)
            .and_then(Weak::upgrade);
        match listener {
            Some(listener) => listener.lock().socket.endpoint.secrets(),
            None => {
                let random = lock(&self.random).fork();
                let secrets = Secrets::new(now, self.sctp_config.cookie_key_life, random);
                SharedSecrets::new(secrets)
            }
        }
    }
}
