//! What changes a stack's interfaces, addresses and routes: configuration, DHCP, routers, redirects, links that go down.

use std::net::IpAddr;

use super::*;
use crate::ip::autoconf::prefix_origins::PrefixOrigin;

impl Network {
    /// Adds an interface.
    pub(crate) fn add_interface(
        &self,
        name: String,
        capabilities: Capabilities,
        hardware_address: Option<MacAddress>,
    ) -> InterfaceId {
        self.change(|tables| {
            let id = InterfaceId(InterfaceId::LOOPBACK.0 + tables.interfaces.len() as u32);
            tables.interfaces.push(Interface {
                id,
                name,
                capabilities,
                hardware_address,
                is_up: true,
                has_ended: false,
                advertised_mtu: None,
                advertised_hop_limit: None,
            });
            id
        })
    }

    /// Gives an interface an address and the route to its network.
    pub(crate) fn add_address(&self, interface: InterfaceId, cidr: Cidr, state: AddressState) {
        self.change(|tables| {
            tables.addresses.insert(InterfaceAddress {
                state,
                ..InterfaceAddress::new(interface, cidr)
            });
            tables.routes.insert_connected(interface, cidr);
        });
    }

    /// Takes an address and the route to its network away.
    pub(crate) fn remove_address(&self, interface: InterfaceId, cidr: Cidr) {
        self.change(|tables| {
            tables.addresses.remove(interface, cidr.address());
            tables.routes.remove(cidr.network(), interface, None);
        });
    }

    /// Gives an interface an address that was made from an advertised prefix. What is on the link does not follow from it
    /// (RFC 5942 3).
    pub(crate) fn add_autoconfigured(&self, address: InterfaceAddress) {
        self.change(|tables| tables.addresses.insert(address));
    }

    /// Takes such an address away.
    pub(crate) fn remove_autoconfigured(&self, interface: InterfaceId, address: IpAddr) {
        self.change(|tables| tables.addresses.remove(interface, address));
    }

    /// Whether something new may begin with an address (RFC 4862 5.5.4).
    pub(crate) fn set_deprecated(&self, interface: InterfaceId, address: IpAddr, deprecated: bool) {
        self.change(|tables| {
            tables
                .addresses
                .set_deprecated(interface, address, deprecated);
        });
    }

    /// Whether the interface has the address, usable or not.
    pub(crate) fn has_address(&self, interface: InterfaceId, address: IpAddr) -> bool {
        let tables = self.read();
        let mut known = tables.addresses.of_interface(interface);
        known.any(|known| known.address() == address)
    }

    /// The routes that routers have advertised on an interface, and who has advertised which prefix, in the place of what
    /// they had before.
    pub(crate) fn replace_advertised(
        &self,
        interface: InterfaceId,
        routes: Vec<(Cidr, Route)>,
        origins: &[PrefixOrigin],
    ) {
        self.change(|tables| {
            tables.routes.replace_advertised(interface, routes);
            tables.addresses.replace_origins(interface, origins);
        });
    }

    /// What routers say of an interface's link.
    pub(crate) fn set_link_parameters(&self, id: InterfaceId, parameters: &LinkParameters) {
        self.change(|tables| {
            let mut interfaces = tables.interfaces.iter_mut();
            if let Some(interface) = interfaces.find(|interface| interface.id == id) {
                interface.advertised_mtu = parameters.mtu;
                interface.advertised_hop_limit = parameters.hop_limit;
            }
        });
    }

    /// Routes by redirects: some end, one may begin.
    pub(crate) fn change_redirects(&self, ended: &[RedirectRoute], begun: Option<RedirectRoute>) {
        if ended.is_empty() && begun.is_none() {
            return;
        }
        self.change(|tables| {
            for RedirectRoute { destination, route } in ended {
                tables.routes.remove_route(*destination, route);
            }
            if let Some(RedirectRoute { destination, route }) = begun {
                tables.routes.insert(destination, route);
            }
        });
    }

    /// The router of an interface's link that packets for a destination go to, if they go to one.
    pub(crate) fn gateway_towards(
        &self,
        interface: InterfaceId,
        destination: IpAddr,
    ) -> Option<IpAddr> {
        let tables = self.read();
        let route = tables.routes.lookup(destination);
        route.filter(|route| route.interface == interface)?.gateway
    }

    /// Has everything else go through this gateway of an IPv4 interface's, or not over that interface any more; other
    /// gateways of it, configured or not, give way.
    pub(crate) fn replace_default_route(&self, interface: InterfaceId, gateway: Option<IpAddr>) {
        let Some(default) = Cidr::new(Ipv4Addr::UNSPECIFIED.into(), 0) else {
            return;
        };
        let gateway = gateway.filter(|gateway| self.is_on_link(interface, *gateway));
        let old: Vec<_> = {
            let tables = self.read();
            let routes = tables.routes.iter();
            routes
                .filter(|(cidr, route)| *cidr == default && route.interface == interface)
                .map(|(_, route)| route.gateway)
                .collect()
        };
        let new: Vec<_> = gateway.map(Some).into_iter().collect();
        if old == new {
            return; // as with every renewal: no path is looked up anew
        }
        self.change(|tables| {
            for gateway in old {
                tables.routes.remove(default, interface, gateway);
            }
            if let Some(gateway) = gateway {
                let route = Route::via(interface, gateway);
                tables.routes.insert(default, route);
            }
        });
    }

    /// The device has said whether its link is up.
    pub(crate) fn set_link_up(&self, id: InterfaceId, is_up: bool) {
        self.change(|tables| {
            let mut interfaces = tables.interfaces.iter_mut();
            if let Some(interface) = interfaces.find(|interface| interface.id == id) {
                interface.is_up = is_up;
            }
        });
    }

    /// The device has ended.
    pub(crate) fn end_interface(&self, id: InterfaceId) {
        self.change(|tables| {
            let mut interfaces = tables.interfaces.iter_mut();
            if let Some(interface) = interfaces.find(|interface| interface.id == id) {
                interface.has_ended = true;
            }
        });
    }

    /// Whether the device of the interface has ended.
    pub(crate) fn has_ended(&self, id: InterfaceId) -> bool {
        self.read().interface(id).is_some_and(|i| i.has_ended)
    }

    /// What duplicate detection has found out about an address.
    pub(crate) fn set_address_state(
        &self,
        interface: InterfaceId,
        address: IpAddr,
        state: AddressState,
    ) {
        self.change(|tables| tables.addresses.set_state(interface, address, state));
    }
}
