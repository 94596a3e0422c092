//! The interfaces of a stack, its addresses and routes, and the way to a destination.

mod changes;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU8;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use tidewire_netdev::{Capabilities, MacAddress, Medium, OffloadSet};

use crate::config::HostModel;
use crate::engine::zone::{answer_device, is_link_local};
use crate::error::{SocketError, SocketResult};
use crate::ip::address::{AddressClass, AddressTable, InterfaceAddress};
use crate::ip::autoconf::dad::AddressState;
use crate::ip::autoconf::router_discovery::LinkParameters;
use crate::ip::icmp::{Problem, ReceivedRedirect, Responder};
use crate::ip::path_mtu::PathMtuCache;
use crate::ip::redirect::RedirectRoute;
use crate::ip::redirects::{Redirect, RedirectTable};
use crate::ip::route::{Route, RouteTable};
use crate::ip::source_address::{self, PolicyTable, Target};
use crate::ip::{Cidr, InterfaceId};
use crate::neighbor::Ownership;
use crate::stats::DropReason;
use crate::time::{Instant, earlier};

/// Octets that one packet through the loopback carries: the largest IPv4 packet.
pub(crate) const LOOPBACK_MTU: usize = 65_535;

/// An interface as the engine sees it.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its number.
    pub id: InterfaceId,
    /// Its name.
    pub name: String,
    /// What its device can do.
    pub capabilities: Capabilities,
    /// Its address on the link; `None` when the link has no addresses.
    pub hardware_address: Option<MacAddress>,
    /// Whether its link is up, as far as the device has said: it is found out by sending.
    pub is_up: bool,
    /// Whether its device has ended, for good.
    pub has_ended: bool,
    /// Octets that its link carries of IPv6 as routers say, IP header included; no more than its device can.
    pub advertised_mtu: Option<usize>,
    /// The hop limit of IPv6 packets as routers say.
    pub advertised_hop_limit: Option<u8>,
}

impl Interface {
    /// Octets that it carries to `destination` at once, IP header included.
    fn mtu_towards(&self, destination: IpAddr) -> usize {
        let mtu = self.capabilities.mtu;
        match (destination, self.advertised_mtu) {
            (IpAddr::V6(_), Some(advertised)) => mtu.min(advertised),
            _ => mtu,
        }
    }
}

/// How many hosts a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cast {
    /// One.
    Unicast,
    /// All on the link.
    Broadcast,
    /// A group.
    Multicast,
}

/// The way to one destination at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Out through this interface; [`InterfaceId::LOOPBACK`] for own addresses.
    pub interface: InterfaceId,
    /// Who gets the packet on the link.
    pub next_hop: IpAddr,
    /// Our address.
    pub source: IpAddr,
    /// Octets that the path carries, IP header included.
    pub mtu: usize,
    /// Whether the next hop is one host, a group or everybody.
    pub cast: Cast,
    /// The hop limit to send with where nobody asked for another, if routers have told one.
    pub hop_limit: Option<NonZeroU8>,
    /// What the IPv6 packets of the flow carry that the path was looked up for; 0 until somebody says which flow that is.
    pub(crate) flow_label: u32,
    /// The state of routes and path MTUs this was computed from; outdated when it has moved on.
    pub(crate) generation: u32,
}

impl Path {
    /// A path that does not leave the host.
    const fn inside(next_hop: IpAddr, source: IpAddr, cast: Cast, generation: u32) -> Self {
        Self {
            interface: InterfaceId::LOOPBACK,
            next_hop,
            source,
            mtu: LOOPBACK_MTU,
            cast,
            hop_limit: None,
            flow_label: 0,
            generation,
        }
    }

    /// The same path for a flow whose packets carry that label.
    pub(crate) const fn with_flow_label(self, flow_label: u32) -> Self {
        Self { flow_label, ..self }
    }
}

/// How a packet came that is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    /// Through which interface.
    pub(crate) interface: InterfaceId,
    /// In a frame for several hosts.
    pub(crate) is_link_broadcast: bool,
}

#[derive(Debug)]
struct Tables {
    interfaces: Vec<Interface>,
    addresses: AddressTable,
    routes: RouteTable,
    policy: PolicyTable,
    model: HostModel,
}

/// Interfaces, addresses, routes and path MTUs. Leaf locks only.
#[derive(Debug)]
pub struct Network {
    tables: RwLock<Tables>,
    path_mtu: Mutex<PathMtuCache>,
    redirects: Mutex<RedirectTable>,
    /// Most stacks believe none: those do without the lock.
    has_redirects: AtomicBool,
    generation: AtomicU32,
}

impl Network {
    /// A network of the loopback alone.
    pub(crate) fn new(path_mtu: PathMtuCache, model: HostModel) -> Self {
        let loopback = Interface {
            id: InterfaceId::LOOPBACK,
            name: "lo".to_owned(),
            capabilities: Capabilities {
                medium: Medium::Ip,
                mtu: LOOPBACK_MTU,
                offloads: OffloadSet::ALL,
                max_super_packet: LOOPBACK_MTU,
            },
            hardware_address: None,
            is_up: true,
            has_ended: false,
            advertised_mtu: None,
            advertised_hop_limit: None,
        };
        Self {
            tables: RwLock::new(Tables {
                interfaces: vec![loopback],
                addresses: AddressTable::new(),
                routes: RouteTable::new(),
                policy: PolicyTable::default(),
                model,
            }),
            path_mtu: Mutex::new(path_mtu),
            redirects: Mutex::default(),
            has_redirects: AtomicBool::new(false),
            generation: AtomicU32::new(1),
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<R>(&self, with: impl FnOnce(&mut Tables) -> R) -> R {
        let result = with(&mut self.tables.write().unwrap_or_else(PoisonError::into_inner));
        self.generation.fetch_add(1, Ordering::Release);
        result
    }

    /// The addresses of all interfaces, in the order they came.
    pub(crate) fn addresses(&self) -> Vec<InterfaceAddress> {
        self.read().addresses.iter().copied().collect()
    }

    /// An interface's address on its link; `None` when the link has no addresses.
    pub(crate) fn hardware_address(&self, id: InterfaceId) -> Option<MacAddress> {
        self.read().interface(id)?.hardware_address
    }

    /// Whether ARP is answered for the address on the interface: in the weak host model, whichever has it, as Linux has
    /// it (`arp_ignore` 0).
    pub(crate) fn ownership(&self, interface: InterfaceId, address: IpAddr) -> Ownership {
        let tables = self.read();
        if tables.model == HostModel::Strong {
            drop(tables);
            return self.ownership_on(interface, address);
        }
        let known = tables.addresses.iter();
        known
            .filter(|known| known.address() == address)
            .map(|known| known.state.ownership())
            .find(|ownership| *ownership != Ownership::None)
            .unwrap_or(Ownership::None)
    }

    /// Whether neighbour solicitations for the address are answered on the interface (RFC 4861 7.2.3: it must be one of
    /// that interface's).
    pub(crate) fn ownership_on(&self, interface: InterfaceId, address: IpAddr) -> Ownership {
        let tables = self.read();
        let mut known = tables.addresses.of_interface(interface);
        known
            .find(|known| known.address() == address)
            .map_or(Ownership::None, |known| known.state.ownership())
    }

    /// Adds a route.
    pub fn add_route(&self, destination: Cidr, route: Route) {
        self.change(|tables| tables.routes.insert(destination, route));
    }

    /// Whether a gateway is in one of the interface's networks, and another host: neither this one nor all.
    pub fn is_on_link(&self, interface: InterfaceId, gateway: IpAddr) -> bool {
        let tables = self.read();
        let mut all = tables.addresses.iter();
        let is_own = all.any(|known| known.address() == gateway);
        let is_host = !is_own && tables.addresses.classify(gateway) == AddressClass::Remote;
        let mut addresses = tables.addresses.of_interface(interface);
        is_host && addresses.any(|address| address.cidr.contains(gateway))
    }

    /// The interface that packets to a group leave through, as far as routes and addresses say.
    pub(crate) fn interface_towards(&self, group: IpAddr) -> Option<InterfaceId> {
        let tables = self.read();
        if tables.keeps_groups_inside(None, None) {
            return Some(InterfaceId::LOOPBACK);
        }
        let route = tables.routes.lookup(group);
        let route = route.or_else(|| tables.multicast_route(group, None, None));
        route.map(|route| route.interface)
    }

    /// Octets that an interface carries to `destination` at once, IP header included.
    pub(crate) fn mtu(&self, id: InterfaceId, destination: IpAddr) -> Option<usize> {
        Some(self.read().interface(id)?.mtu_towards(destination))
    }

    /// Octets that an interface's device carries at once, IP header included.
    pub(crate) fn device_mtu(&self, id: InterfaceId) -> Option<usize> {
        Some(self.read().interface(id)?.capabilities.mtu)
    }

    /// The first IPv4 address of an interface that may be used.
    pub(crate) fn first_address_v4(&self, interface: InterfaceId) -> Option<Ipv4Addr> {
        let tables = self.read();
        let mut usable = tables.addresses.of_interface(interface);
        usable.find_map(|known| match known.address() {
            IpAddr::V4(v4) if known.is_usable() => Some(v4),
            _ => None,
        })
    }

    /// A link-local IPv6 address of an interface that is known to be nobody else's.
    pub(crate) fn assigned_link_local(&self, interface: InterfaceId) -> Option<Ipv6Addr> {
        let tables = self.read();
        let mut assigned = tables.addresses.of_interface(interface);
        assigned.find_map(|known| match known.address() {
            IpAddr::V6(v6)
                if is_link_local(known.address()) && known.state == AddressState::Assigned =>
            {
                Some(v6)
            }
            _ => None,
        })
    }

    /// Whether there is an interface of that number.
    pub(crate) fn has_interface(&self, id: InterfaceId) -> bool {
        self.read().interface(id).is_some()
    }

    /// The interface whose address this is.
    pub(crate) fn interface_of(&self, address: IpAddr) -> Option<InterfaceId> {
        self.read().addresses.interface_of(address)
    }

    /// The interfaces, loopback first.
    pub fn interfaces(&self) -> Vec<Interface> {
        self.read().interfaces.clone()
    }

    /// The interface of that name.
    ///
    /// # Errors
    /// [`SocketError::NoDevice`], as `SO_BINDTODEVICE` gives it.
    pub fn interface_named(&self, name: &str) -> SocketResult<InterfaceId> {
        let tables = self.read();
        let found = tables
            .interfaces
            .iter()
            .find(|interface| interface.name == name);
        found
            .map(|interface| interface.id)
            .ok_or(SocketError::NoDevice)
    }

    /// What a destination address is to this host.
    pub(crate) fn classify(&self, address: IpAddr) -> AddressClass {
        self.read().addresses.classify(address)
    }

    /// What the destination address of a packet that came in through `interface` is to this host. The weak host model
    /// ends at link-local addresses: on another link they are somebody else's (RFC 4007 9).
    pub(crate) fn classify_on(&self, interface: InterfaceId, address: IpAddr) -> AddressClass {
        let tables = self.read();
        match tables.addresses.classify(address) {
            AddressClass::Own
                if !tables.is_own_on(Some(interface), address)
                    || tables.is_elsewhere(interface, address) =>
            {
                AddressClass::Remote
            }
            class => class,
        }
    }

    /// Whether a packet may come from `source` through the wire of `interface`.
    pub(crate) fn is_plausible_source(&self, interface: InterfaceId, source: IpAddr) -> bool {
        let tables = self.read();
        let is_others = is_link_local(source) && !tables.is_own_on(Some(interface), source);
        is_others || tables.addresses.is_plausible_source(source)
    }

    /// Whether the destination of a packet from the wire is another host, that a router may pass it on to: none of this
    /// host's addresses, whatever their state and interface.
    pub(crate) fn is_in_transit(&self, destination: IpAddr) -> bool {
        let tables = self.read();
        let mut all = tables.addresses.iter();
        tables.addresses.classify(destination) == AddressClass::Remote
            && !all.any(|own| own.address() == destination)
    }

    /// The way on of a packet from another host, which has come in through `arrival`. Redirects and path MTUs that this host
    /// has learnt for itself do not count (RFC 1812 5.2.7.2; Linux's `ip_forward_use_pmtu` 0).
    ///
    /// # Errors
    /// What the packet's sender is to be told.
    pub(crate) fn path_through(
        &self,
        source: IpAddr,
        destination: IpAddr,
        arrival: InterfaceId,
    ) -> Result<Path, Problem> {
        let generation = self.generation();
        let tables = self.read();
        let route = tables.routes.lookup(destination);
        let route = route.ok_or(Problem::NetworkUnreachable)?;
        let interface = tables
            .interface(route.interface)
            .filter(|interface| interface.is_up && !interface.has_ended)
            .filter(|interface| interface.id != InterfaceId::LOOPBACK)
            .ok_or(Problem::NetworkUnreachable)?;
        // RFC 4443 3.1: nothing goes back over a point-to-point link that should have taken it at the other end.
        let has_stations = interface.hardware_address.is_some();
        if route.interface == arrival && !has_stations && route.gateway.is_none() {
            return Err(Problem::HostUnreachable);
        }
        let link = interface.mtu_towards(destination);
        Ok(Path {
            interface: route.interface,
            next_hop: route.next_hop(destination),
            source,
            mtu: route.mtu.map_or(link, |mtu| mtu.min(link)),
            cast: Cast::Unicast,
            hop_limit: None,
            flow_label: 0,
            generation,
        })
    }

    /// Whether the two addresses are in one of the interface's networks.
    pub(crate) fn share_a_network(
        &self,
        interface: InterfaceId,
        one: IpAddr,
        other: IpAddr,
    ) -> bool {
        let tables = self.read();
        let mut addresses = tables.addresses.of_interface(interface);
        addresses.any(|address| address.cidr.contains(one) && address.cidr.contains(other))
    }

    /// Whether the address is one of this host's.
    pub fn is_own(&self, address: IpAddr) -> bool {
        self.read().addresses.is_own(address)
    }

    /// Whether a socket may be bound to the address.
    pub(crate) fn can_bind(&self, address: IpAddr) -> bool {
        address.is_unspecified() || address.is_multicast() || self.classify(address).is_local()
    }

    /// The state of addresses, routes and path MTUs: another number when anything has changed.
    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether a path computed earlier still holds.
    pub(crate) fn is_current(&self, path: &Path) -> bool {
        path.generation == self.generation()
    }

    /// A path MTU learnt from an ICMP error.
    pub(crate) fn learn_path_mtu(&self, now: Instant, destination: IpAddr, mtu: usize) {
        let mut cache = self.path_mtu.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.update(now, destination, mtu).is_some() {
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// A router names another first hop (RFC 1122 3.2.2.2): it must be the first hop for the destination itself, and the
    /// other must be on the same link.
    ///
    /// # Errors
    /// [`DropReason::BadIcmp`].
    pub(crate) fn redirect(
        &self,
        now: Instant,
        interface: InterfaceId,
        router: IpAddr,
        redirect: &ReceivedRedirect,
    ) -> Result<(), DropReason> {
        let (source, destination) = (redirect.source, redirect.destination);
        let gateway = IpAddr::V4(redirect.gateway);
        let path = self
            .path(now, destination, Some(source), None)
            .map_err(|_| DropReason::BadIcmp)?;
        let is_from_first_hop = path.interface == interface
            && path.cast == Cast::Unicast
            && path.next_hop == router
            && router != destination;
        if !is_from_first_hop || gateway == router || !self.is_on_link(interface, gateway) {
            return Err(DropReason::BadIcmp);
        }
        let redirect = Redirect { interface, gateway };
        self.redirects().insert(now, destination, redirect);
        self.has_redirects.store(true, Ordering::Release);
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// A neighbour does not answer: nobody is redirected to it any more.
    pub(crate) fn forget_gateway(&self, interface: InterfaceId, gateway: IpAddr) {
        let gone = Redirect { interface, gateway };
        if self.has_redirects.load(Ordering::Acquire) && self.redirects().forget_gateway(gone) {
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    fn redirects(&self) -> MutexGuard<'_, RedirectTable> {
        self.redirects
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets path MTUs and redirects that are too old.
    pub(crate) fn expire(&self, now: Instant) {
        let mut cache = self.path_mtu.lock().unwrap_or_else(PoisonError::into_inner);
        let mut has_changed = self.redirects().handle_timeout(now);
        if cache.poll_timeout().is_some_and(|at| at <= now) {
            cache.handle_timeout(now);
            has_changed = true;
        }
        if has_changed {
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// When something here is outdated.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let cache = self.path_mtu.lock().unwrap_or_else(PoisonError::into_inner);
        let path_mtu = cache.poll_timeout();
        drop(cache);
        let redirects = self.redirects().poll_timeout();
        earlier(path_mtu, redirects)
    }

    /// The way to `destination`, from `source` if that is given and not unspecified, through `device` if given.
    ///
    /// # Errors
    /// [`SocketError::NetworkUnreachable`] without a route or a source address, [`SocketError::InvalidInput`] from a
    /// loopback address to another host, [`SocketError::AddressNotAvailable`] from an address that is not this host's,
    /// or no more.
    pub fn path(
        &self,
        now: Instant,
        destination: IpAddr,
        source: Option<IpAddr>,
        device: Option<InterfaceId>,
    ) -> SocketResult<Path> {
        let generation = self.generation();
        let source = source.filter(|source| !source.is_unspecified());
        let tables = self.read();
        let is_own = |address| tables.addresses.is_own(address);
        // RFC 4862 5.4.5, RFC 5227 2.4: who was told that an address is another's ceases to use it.
        if source.is_some_and(|source| !is_own(source)) {
            return Err(SocketError::AddressNotAvailable);
        }
        if is_own(destination) && tables.is_own_on(device, destination) {
            let source = source.unwrap_or(destination);
            return Ok(Path::inside(destination, source, Cast::Unicast, generation));
        }
        if destination.is_multicast() && tables.keeps_groups_inside(source, device) {
            let source = source.unwrap_or(loopback_of(destination));
            return Ok(Path::inside(
                destination,
                source,
                Cast::Multicast,
                generation,
            ));
        }
        // RFC 1122 3.2.1.3 (g), RFC 4291 2.5.3: loopback addresses stay inside the host. Linux says EINVAL.
        if source.is_some_and(|source| source.is_loopback()) {
            return Err(SocketError::InvalidInput);
        }
        // RFC 1122 3.3.4.2: strong hosts send from an address through its interface.
        let of_source = || tables.addresses.interface_of(source?);
        let device = match tables.model {
            HostModel::Weak => device,
            HostModel::Strong => device.or_else(of_source),
        };
        let route = match device {
            Some(device) => tables.routes.lookup_on(device, destination),
            None => tables.routes.lookup(destination),
        };
        let route = route
            .or_else(|| tables.multicast_route(destination, source, device))
            .ok_or(SocketError::NetworkUnreachable)?;
        let interface = tables
            .interface(route.interface)
            // Linux takes the routes of an interface away while it is down.
            .filter(|interface| interface.is_up && !interface.has_ended)
            .ok_or(SocketError::NetworkUnreachable)?;
        let cast = match tables.addresses.classify(destination) {
            AddressClass::Broadcast => Cast::Broadcast,
            AddressClass::Multicast => Cast::Multicast,
            _ => Cast::Unicast,
        };
        let next_hop = self.next_hop(now, &route, destination, cast);
        let may_leave =
            |source: &IpAddr| is_own(*source) && !tables.is_elsewhere(route.interface, *source);
        let preferred = route.preferred_source.filter(may_leave);
        let source = match source.or(preferred) {
            Some(source) if tables.is_elsewhere(route.interface, source) => {
                return Err(SocketError::NetworkUnreachable);
            }
            Some(source) => source,
            None => {
                let target = Target {
                    destination,
                    interface: route.interface,
                    next_hop,
                };
                source_address::select(&target, &tables.addresses, &tables.policy)
                    .map(|chosen| chosen.address)
                    .filter(|chosen| !tables.is_elsewhere(route.interface, *chosen))
                    .ok_or(SocketError::NetworkUnreachable)?
            }
        };
        let mtu = self.mtu_towards(now, &route, interface, destination);
        Ok(Path {
            interface: route.interface,
            next_hop,
            source,
            mtu,
            cast,
            hop_limit: interface
                .advertised_hop_limit
                .filter(|_| destination.is_ipv6())
                .and_then(NonZeroU8::new),
            flow_label: 0,
            generation,
        })
    }

    /// Who takes a packet on its link.
    fn next_hop(&self, now: Instant, route: &Route, destination: IpAddr, cast: Cast) -> IpAddr {
        match cast {
            Cast::Unicast if self.has_redirects.load(Ordering::Acquire) => {
                let redirect = self.redirects().lookup(now, route.interface, destination);
                redirect.map_or_else(|| route.next_hop(destination), |other| other.gateway)
            }
            Cast::Unicast => route.next_hop(destination),
            // A group's members are on the link, whatever router there is.
            Cast::Broadcast | Cast::Multicast => destination,
        }
    }

    /// Octets that the path to a destination carries, as far as it is known.
    fn mtu_towards(
        &self,
        now: Instant,
        route: &Route,
        interface: &Interface,
        destination: IpAddr,
    ) -> usize {
        let link = interface.mtu_towards(destination);
        let cache = self.path_mtu.lock().unwrap_or_else(PoisonError::into_inner);
        let learnt = cache.lookup(now, destination);
        let limits = route.mtu.into_iter().chain(learnt);
        limits.fold(link, usize::min)
    }

    /// In whose name neighbours are asked on the interface: `source`, if it may be used there, or else an address of
    /// the interface (RFC 4861 7.2.2).
    pub(crate) fn asker(&self, interface: InterfaceId, source: IpAddr) -> Asker {
        let tables = self.read();
        // RFC 4429 3.2: an IPv6 address that may be another's is not the source of a solicitation.
        let may_ask = |known: &InterfaceAddress| {
            known.is_usable() && (source.is_ipv4() || known.state == AddressState::Assigned)
        };
        let usable = |known: &&InterfaceAddress| {
            known.address().is_ipv4() == source.is_ipv4() && may_ask(known)
        };
        let mut of_link = tables.addresses.of_interface(interface).filter(usable);
        let own = of_link.clone().find(|known| known.address() == source);
        // ARP is asked in the name of any own address, as on Linux (`arp_announce` 0).
        let elsewhere = || {
            let mut all = tables.addresses.iter().filter(usable);
            all.find(|known| source.is_ipv4() && known.address() == source)
        };
        if let Some(known) = own.or_else(elsewhere).or_else(|| of_link.next()) {
            return Asker::Address(known.address());
        }
        let mut of_link = tables.addresses.of_interface(interface);
        let comes = of_link.any(|known| {
            known.address().is_ipv4() == source.is_ipv4()
                && matches!(
                    known.state,
                    AddressState::Optimistic | AddressState::Tentative
                )
        });
        if comes { Asker::Later } else { Asker::Nobody }
    }

    /// Runs `build` with what answering a packet from `towards` needs.
    pub(crate) fn respond<R>(
        &self,
        now: Instant,
        towards: IpAddr,
        origin: Origin,
        build: impl FnOnce(&Responder<'_>) -> R,
    ) -> R {
        let fallback_source = self
            .path(now, towards, None, answer_device(towards, origin.interface))
            .ok()
            .map(|path| path.source);
        build(&Responder {
            addresses: &self.read().addresses,
            fallback_source,
            is_link_broadcast: origin.is_link_broadcast,
        })
    }
}

/// In whose name a neighbour can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// This address of ours.
    Address(IpAddr),
    /// An address whose duplicate detection is under way.
    Later,
    /// The interface has no such address.
    Nobody,
}

impl Tables {
    fn interface(&self, id: InterfaceId) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.id == id)
    }

    /// Whether an address of this host, if it is link-local, is one of that interface's. Packets that never leave the
    /// host have it wherever it is.
    fn is_own_on(&self, interface: Option<InterfaceId>, address: IpAddr) -> bool {
        match interface.filter(|interface| *interface != InterfaceId::LOOPBACK) {
            Some(interface) if is_link_local(address) => {
                let mut own = self.addresses.of_interface(interface);
                own.any(|own| own.address() == address && own.is_usable())
            }
            _ => true,
        }
    }

    /// Whether an own address is none of this interface's, in the strong host model. Packets that never leave the host have
    /// it wherever it is.
    fn is_elsewhere(&self, interface: InterfaceId, address: IpAddr) -> bool {
        if self.model == HostModel::Weak || interface == InterfaceId::LOOPBACK {
            return false;
        }
        let mut own = self.addresses.of_interface(interface);
        !own.any(|own| own.address() == address)
    }

    /// Whether datagrams to groups go no further than the loopback: from its addresses they may not, and a stack of the
    /// loopback alone has nowhere else.
    fn keeps_groups_inside(&self, source: Option<IpAddr>, device: Option<InterfaceId>) -> bool {
        match device {
            Some(device) => device == InterfaceId::LOOPBACK,
            None => source.is_some_and(|source| source.is_loopback()) || self.interfaces.len() == 1,
        }
    }

    /// Multicast and limited broadcast need no route: they go out through the interface of the source address, or the
    /// first that has an address of the family.
    fn multicast_route(
        &self,
        destination: IpAddr,
        source: Option<IpAddr>,
        device: Option<InterfaceId>,
    ) -> Option<Route> {
        let limited = destination == IpAddr::V4(Ipv4Addr::BROADCAST);
        if !destination.is_multicast() && !limited {
            return None;
        }
        let by_source = source.and_then(|source| self.addresses.interface_of(source));
        let family =
            |address: &&InterfaceAddress| address.address().is_ipv4() == destination.is_ipv4();
        let first = || {
            self.addresses
                .iter()
                .find(family)
                .map(|address| address.interface)
        };
        device.or(by_source).or_else(first).map(Route::on_link)
    }
}

const fn loopback_of(destination: IpAddr) -> IpAddr {
    match destination {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}

/// The peer of a connect to "all addresses": this host (Linux).
pub(crate) fn connectable(remote: SocketAddr) -> SocketAddr {
    if !remote.ip().to_canonical().is_unspecified() {
        return remote;
    }
    let loopback: IpAddr = match (remote.is_ipv6(), remote.ip().is_unspecified()) {
        (false, _) => Ipv4Addr::LOCALHOST.into(),
        (true, true) => Ipv6Addr::LOCALHOST.into(),
        // `::ffff:0.0.0.0`
        (true, false) => Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(),
    };
    SocketAddr::new(loopback, remote.port())
}
