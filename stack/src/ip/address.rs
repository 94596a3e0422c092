//! Which addresses are this host's own, and what kind an address is (RFC 1122 3.2.1.3, RFC 4291 2).
//!
//! What an address is to the host: whether it counts on each interface alike is `engine/network.rs`'s (RFC 1122 3.3.4.2).
//! Which multicast groups are joined is left to others.

use std::net::{IpAddr, Ipv4Addr};

use crate::ip::autoconf::dad::AddressState;
use crate::ip::autoconf::prefix_origins::PrefixOrigin;
use crate::ip::{Cidr, InterfaceId};

/// What an address is to this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressClass {
    /// 0.0.0.0 or `::`.
    Unspecified,
    /// 127.0.0.0/8 or ::1: this host's, and never on a wire.
    Loopback,
    /// An address of one of the interfaces.
    Own,
    /// 255.255.255.255, or the directed broadcast address of an interface's subnet.
    Broadcast,
    /// 224.0.0.0/4 or ff00::/8.
    Multicast,
    /// Some other host's.
    Remote,
}

impl AddressClass {
    /// Whether a packet to such an address may be for this host: its own, or a broadcast.
    pub const fn is_local(self) -> bool {
        matches!(self, Self::Loopback | Self::Own | Self::Broadcast)
    }
}

/// An address of an interface, and its place in its life (RFC 4862 5.5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// Whose it is.
    pub interface: InterfaceId,
    /// The address and its on-link prefix.
    pub cidr: Cidr,
    /// Its preferred lifetime is over: not to be chosen for new connections while another one serves.
    pub deprecated: bool,
    /// A temporary address (RFC 8981).
    pub temporary: bool,
    /// Whether it may be used yet, or still.
    pub state: AddressState,
}

impl InterfaceAddress {
    /// A preferred, lasting address.
    pub const fn new(interface: InterfaceId, cidr: Cidr) -> Self {
        Self {
            interface,
            cidr,
            deprecated: false,
            temporary: false,
            state: AddressState::Assigned,
        }
    }

    /// Whether packets may come from it and are taken for it (RFC 4862 5.4).
    pub const fn is_usable(&self) -> bool {
        matches!(
            self.state,
            AddressState::Assigned | AddressState::Optimistic
        )
    }

    /// The address alone.
    pub const fn address(&self) -> IpAddr {
        self.cidr.address()
    }
}

/// Who has advertised the prefix that an address is in, as one of the routers sees it (RFC 6724 5, rule 5.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Advertiser {
    /// Nobody.
    Nobody,
    /// That router, whoever else has, too.
    ThisRouter,
    /// Others, and not that router.
    OtherRouters,
}

/// The addresses of all interfaces. 127.0.0.0/8 and ::1 belong to the host without being listed.
#[derive(Clone, Debug, Default)]
pub struct AddressTable {
    /// In the order of insertion: the first of an interface is its primary one.
    addresses: Vec<InterfaceAddress>,
    /// The same addresses, sorted: [`Self::classify`] runs for every packet.
    own: Vec<IpAddr>,
    /// The subnets' broadcast addresses, sorted.
    broadcasts: Vec<Ipv4Addr>,
    /// Which router of an interface's link advertises which prefix.
    origins: Vec<(InterfaceId, PrefixOrigin)>,
}

impl AddressTable {
    /// A table without interfaces.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an address, or replaces what is known about it on that interface.
    pub fn insert(&mut self, address: InterfaceAddress) {
        let known = self.addresses.iter_mut().find(|known| {
            known.interface == address.interface && known.address() == address.address()
        });
        match known {
            Some(known) => *known = address,
            None => self.addresses.push(address),
        }
        self.index();
    }

    /// Changes whether an address may be used; nothing if it is not there.
    pub fn set_state(&mut self, interface: InterfaceId, address: IpAddr, state: AddressState) {
        let known = self.addresses.iter_mut();
        for known in known.filter(|a| a.interface == interface && a.address() == address) {
            known.state = state;
        }
        self.index();
    }

    /// Changes whether an address is deprecated; nothing if it is not there.
    pub fn set_deprecated(&mut self, interface: InterfaceId, address: IpAddr, deprecated: bool) {
        let known = self.addresses.iter_mut();
        for known in known.filter(|a| a.interface == interface && a.address() == address) {
            known.deprecated = deprecated;
        }
    }

    /// Takes an address away from an interface; whether it was there.
    pub fn remove(&mut self, interface: InterfaceId, address: IpAddr) -> bool {
        let before = self.addresses.len();
        self.addresses
            .retain(|known| known.interface != interface || known.address() != address);
        self.index();
        self.addresses.len() != before
    }

    /// Takes all addresses of an interface away.
    pub fn remove_interface(&mut self, interface: InterfaceId) {
        self.addresses.retain(|known| known.interface != interface);
        self.origins.retain(|(of, _)| *of != interface);
        self.index();
    }

    /// Says who advertises which prefix on an interface's link, in the place of what was known of that.
    pub fn replace_origins(&mut self, interface: InterfaceId, origins: &[PrefixOrigin]) {
        self.origins.retain(|(of, _)| *of != interface);
        let new = origins.iter().map(|origin| (interface, *origin));
        self.origins.extend(new);
    }

    /// Who advertises the prefix that an address is in, seen from the router on the link of `interface`.
    pub fn advertiser(
        &self,
        address: &InterfaceAddress,
        interface: InterfaceId,
        router: IpAddr,
    ) -> Advertiser {
        let is_of = |(of, origin): &&(InterfaceId, PrefixOrigin)| {
            *of == address.interface && origin.prefix.contains(address.address())
        };
        let mut advertiser = Advertiser::Nobody;
        for (of, origin) in self.origins.iter().filter(is_of) {
            if *of == interface && IpAddr::V6(origin.router) == router {
                return Advertiser::ThisRouter;
            }
            advertiser = Advertiser::OtherRouters;
        }
        advertiser
    }

    /// What `address` is to this host.
    pub fn classify(&self, address: IpAddr) -> AddressClass {
        // The interfaces' own addresses first: that is what nearly every received packet is sent to.
        if self.own.binary_search(&address).is_ok() {
            return AddressClass::Own;
        }
        if address.is_loopback() {
            return AddressClass::Loopback;
        }
        if address.is_multicast() {
            return AddressClass::Multicast;
        }
        if address.is_unspecified() {
            return AddressClass::Unspecified;
        }
        match address {
            IpAddr::V4(v4) if v4.is_broadcast() || self.broadcasts.binary_search(&v4).is_ok() => {
                AddressClass::Broadcast
            }
            _ => AddressClass::Remote,
        }
    }

    /// Whether a socket may bind to `address` and packets to it never leave the host: an interface's own address or
    /// a loopback one.
    pub fn is_own(&self, address: IpAddr) -> bool {
        matches!(
            self.classify(address),
            AddressClass::Own | AddressClass::Loopback
        )
    }

    /// Whether a packet from the wire may carry `source`: not a broadcast address (RFC 1122 3.2.1.3), and not one of
    /// this host's own, which only its loopback path uses (Linux drops those too).
    ///
    /// What is wrong whatever the interfaces' addresses, [`crate::ip::input::parse`] has refused already.
    pub fn is_plausible_source(&self, source: IpAddr) -> bool {
        !matches!(
            self.classify(source),
            AddressClass::Own | AddressClass::Broadcast
        )
    }

    /// The interface that has `address`; the loopback interface for a loopback address.
    pub fn interface_of(&self, address: IpAddr) -> Option<InterfaceId> {
        let known = self.addresses.iter().find(|a| a.address() == address);
        match known {
            Some(known) => Some(known.interface),
            None if address.is_loopback() => Some(InterfaceId::LOOPBACK),
            None => None,
        }
    }

    /// The interface whose subnet `address` lies in, by the longest prefix.
    pub fn on_link(&self, address: IpAddr) -> Option<InterfaceId> {
        let subnets = self.addresses.iter().filter(|a| a.cidr.contains(address));
        // The first of equals wins; max_by_key would give the last.
        subnets
            .rev()
            .max_by_key(|a| a.cidr.prefix_len())
            .map(|a| a.interface)
    }

    /// All addresses, in the order of insertion.
    pub fn iter(&self) -> std::slice::Iter<'_, InterfaceAddress> {
        self.addresses.iter()
    }

    /// The addresses of one interface, in the order of insertion.
    pub fn of_interface(
        &self,
        interface: InterfaceId,
    ) -> impl Iterator<Item = &InterfaceAddress> + Clone {
        self.iter().filter(move |a| a.interface == interface)
    }

    fn index(&mut self) {
        self.own = self
            .addresses
            .iter()
            .filter(|address| address.is_usable())
            .map(InterfaceAddress::address)
            .collect();
        self.own.sort_unstable();
        self.broadcasts = self
            .addresses
            .iter()
            .filter_map(|a| a.cidr.broadcast())
            .collect();
        self.broadcasts.sort_unstable();
    }
}

impl<'a> IntoIterator for &'a AddressTable {
    type Item = &'a InterfaceAddress;
    type IntoIter = std::slice::Iter<'a, InterfaceAddress>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETH: InterfaceId = InterfaceId(2);
    const TUN: InterfaceId = InterfaceId(3);

    fn table() -> AddressTable {
        let mut table = AddressTable::new();
        for (interface, cidr) in [
            (ETH, "10.0.0.2/24"),
            (ETH, "10.0.0.3/24"),
            (TUN, "192.168.7.1/31"),
            (TUN, "10.0.0.129/25"),
            (ETH, "2001:db8::2/64"),
        ] {
            table.insert(InterfaceAddress::new(interface, cidr.parse().unwrap()));
        }
        table
    }

    #[test]
    fn classifies_addresses() {
        let expected = [
            ("10.0.0.2", AddressClass::Own),
            ("10.0.0.129", AddressClass::Own),
            ("2001:db8::2", AddressClass::Own),
            // RFC 1122 3.2.1.3 (g): the whole of 127/8 is this host.
            ("127.0.0.1", AddressClass::Loopback),
            ("127.200.3.4", AddressClass::Loopback),
            ("127.255.255.255", AddressClass::Loopback),
            ("::1", AddressClass::Loopback),
            // RFC 1122 3.2.1.3 (c), (d)
            ("255.255.255.255", AddressClass::Broadcast),
            ("10.0.0.255", AddressClass::Broadcast),
            // RFC 3021: no broadcast on a 31-bit prefix
            ("192.168.7.0", AddressClass::Remote),
            ("192.168.7.1", AddressClass::Own),
            ("224.0.0.1", AddressClass::Multicast),
            ("239.255.255.255", AddressClass::Multicast),
            ("ff02::1", AddressClass::Multicast),
            ("0.0.0.0", AddressClass::Unspecified),
            ("::", AddressClass::Unspecified),
            ("10.0.0.4", AddressClass::Remote),
            ("2001:db8::3", AddressClass::Remote),
            ("::ffff:10.0.0.2", AddressClass::Remote),
        ];
        for (address, class) in expected {
            assert_eq!(
                table().classify(address.parse().unwrap()),
                class,
                "{address}"
            );
        }
    }

    #[test]
    fn finds_the_interface_of_an_address_and_of_a_subnet() {
        let table = table();
        let own = |text: &str| table.interface_of(text.parse().unwrap());
        let on_link = |text: &str| table.on_link(text.parse().unwrap());
        assert_eq!(own("10.0.0.3"), Some(ETH));
        assert_eq!(own("127.1.2.3"), Some(InterfaceId::LOOPBACK));
        assert_eq!(own("10.0.0.4"), None);
        assert_eq!(on_link("10.0.0.4"), Some(ETH));
        assert_eq!(on_link("10.0.0.200"), Some(TUN));
        assert_eq!(on_link("10.0.1.1"), None);
        assert_eq!(on_link("2001:db8::99"), Some(ETH));
    }

    #[test]
    fn own_and_broadcast_addresses_are_no_source_from_a_wire() {
        let table = table();
        let plausible = |text: &str| table.is_plausible_source(text.parse().unwrap());
        assert!(!plausible("10.0.0.255"));
        assert!(!plausible("10.0.0.2"));
        assert!(plausible("10.0.0.4"));
        assert!(plausible("10.0.1.255"));
    }

    #[test]
    fn removal_and_replacement_keep_the_index() {
        let mut table = table();
        let address = "10.0.0.2".parse().unwrap();
        table.insert(InterfaceAddress {
            deprecated: true,
            ..InterfaceAddress::new(ETH, "10.0.0.2/24".parse().unwrap())
        });
        assert_eq!(table.iter().count(), 5);
        assert!(table.remove(ETH, address));
        assert!(!table.remove(ETH, address));
        assert_eq!(table.classify(address), AddressClass::Remote);
        table.remove_interface(ETH);
        assert_eq!(table.of_interface(ETH).count(), 0);
        assert!(table.is_own("10.0.0.129".parse().unwrap()));
        assert!(!table.is_own("2001:db8::2".parse().unwrap()));
    }
}
