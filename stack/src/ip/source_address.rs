//! Which source address goes with a destination, and in which order to try destinations (RFC 6724).
//!
//! Source selection: all rules of section 5 but rule 4: there are no home addresses. RFC 6724 leaves IPv4 source addresses
//! open: there it is the outgoing interface's address in the next hop's subnet, or else its first one, as on Linux.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv6Addr};

use crate::ip::InterfaceId;
use crate::ip::address::{AddressTable, Advertiser, InterfaceAddress};
use crate::ip::autoconf::dad::AddressState;

/// What a source address is chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where the packet is going.
    pub destination: IpAddr,
    /// Where it leaves, as the route says.
    pub interface: InterfaceId,
    /// The gateway, or the destination itself ([`super::route::Route::next_hop`]).
    pub next_hop: IpAddr,
}

/// A chosen source address, with what ordering destinations by it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The address.
    pub address: IpAddr,
    /// Length of its on-link prefix in bits, the limit of CommonPrefixLen (RFC 6724 2.2).
    pub prefix_len: u8,
    /// Its preferred lifetime is over.
    pub deprecated: bool,
}

impl Source {
    /// An own address by itself, such as a loopback one.
    fn host(address: IpAddr) -> Self {
        Self {
            address,
            prefix_len: if address.is_ipv4() { 32 } else { 128 },
            deprecated: false,
        }
    }
}

impl From<&InterfaceAddress> for Source {
    fn from(known: &InterfaceAddress) -> Self {
        Self {
            address: known.address(),
            prefix_len: known.cidr.prefix_len(),
            deprecated: known.deprecated,
        }
    }
}

/// The source address for `target`; `None` if no interface has one that could serve.
pub fn select(target: &Target, addresses: &AddressTable, policy: &PolicyTable) -> Option<Source> {
    let destination = target.destination;
    // Rule 1 for own destinations, whatever the interface: such packets never leave.
    if destination.is_loopback() {
        return Some(Source::host(match destination {
            IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        }));
    }
    let mut usable = addresses.iter().filter(|a| a.is_usable());
    if let Some(own) = usable.find(|a| a.address() == destination) {
        return Some(own.into());
    }
    match destination {
        IpAddr::V4(_) => select_v4(target, addresses),
        IpAddr::V6(destination) => select_v6(destination, target, addresses, policy),
    }
}

fn select_v4(target: &Target, addresses: &AddressTable) -> Option<Source> {
    let usable =
        |a: &&InterfaceAddress| a.address().is_ipv4() && is_candidate(a.address()) && a.is_usable();
    let own = || addresses.of_interface(target.interface).filter(usable);
    let in_subnet = || own().find(|a| a.cidr.contains(target.next_hop));
    // The weak host model allows another interface's address rather than none (RFC 1122 3.3.4.2).
    in_subnet()
        .or_else(|| own().next())
        .or_else(|| addresses.iter().find(usable))
        .map(Source::from)
}

fn select_v6(
    destination: Ipv6Addr,
    target: &Target,
    addresses: &AddressTable,
    policy: &PolicyTable,
) -> Option<Source> {
    let destination_label = policy.lookup(destination).label;
    let candidates = addresses.iter().filter_map(|candidate| {
        let IpAddr::V6(address) = candidate.address() else {
            return None;
        };
        let place = Place::new(destination, target, candidate, address)?;
        let advertiser = addresses.advertiser(candidate, target.interface, target.next_hop);
        Some((place, advertiser, candidate, address))
    });
    // Rule 5.5 compares no address of a prefix that nobody has advertised. As an ordering it would lead round in circles with
    // the rules behind it; so it takes away what it must not choose: if one of the best so far is in a prefix that the next
    // hop has advertised, those in prefixes of other routers only.
    let best = candidates
        .clone()
        .map(|(place, advertiser, ..)| (place, advertiser == Advertiser::ThisRouter))
        .max();
    let is_of_next_hop = best.is_some_and(|(_, is_of_next_hop)| is_of_next_hop);
    let mut chosen: Option<(SourceKey, &InterfaceAddress)> = None;
    for (place, advertiser, candidate, address) in candidates {
        if is_of_next_hop && advertiser == Advertiser::OtherRouters {
            continue;
        }
        let key = SourceKey {
            place,
            label: policy.lookup(address).label == destination_label,
            temporary: candidate.temporary,
            common_prefix: common_prefix_len(
                address.into(),
                candidate.cidr.prefix_len(),
                destination.into(),
            ),
        };
        // Of equals the first one stays.
        if chosen.as_ref().is_none_or(|(chosen, _)| key > *chosen) {
            chosen = Some((key, candidate));
        }
    }
    chosen.map(|(_, candidate)| candidate.into())
}

/// Section 5 as an ordering, but for rule 5.5: fields in the order of the rules, the greatest candidate is chosen.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct SourceKey {
    /// Rules before 5.5.
    place: Place,
    /// Rule 6.
    label: bool,
    /// Rule 7.
    temporary: bool,
    /// Rule 8.
    common_prefix: u8,
}

/// The rules before rule 5.5.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// Rule 2, first half: a scope at least as wide as the destination's.
    reaches: bool,
    /// Rule 2, second half: of those that reach the narrowest, of those that do not the widest.
    scope: i16,
    /// Rule 3.
    preferred: bool,
    /// Rule 5.
    outgoing: bool,
}

impl Place {
    /// The place of an address among the candidates; `None` if it is none (section 4).
    fn new(
        destination: Ipv6Addr,
        target: &Target,
        candidate: &InterfaceAddress,
        address: Ipv6Addr,
    ) -> Option<Self> {
        let outgoing = candidate.interface == target.interface;
        let (scope, destination_scope) = (scope_v6(address), scope_v6(destination));
        // For multicast and link-local destinations only the outgoing interface's addresses are candidates; for others,
        // those of all interfaces (rule 5 prefers the outgoing one's). A link-local address means nothing on another link
        // (RFC 4007 9).
        let same_link_only = destination.is_multicast()
            || destination_scope == Scope::LINK_LOCAL
            || scope == Scope::LINK_LOCAL;
        if !candidate.is_usable() || !is_candidate(address.into()) || (same_link_only && !outgoing)
        {
            return None;
        }
        let reaches = scope >= destination_scope;
        let width = i16::from(scope.0);
        Some(Self {
            reaches,
            scope: if reaches { -width } else { width },
            // RFC 4429 3.1: an optimistic address is treated as a deprecated one.
            preferred: !candidate.deprecated && candidate.state == AddressState::Assigned,
            outgoing,
        })
    }
}

/// Sorts `destinations` into the order in which to try them (RFC 6724 6). `source` gives the source address that would
/// be used for a destination, `None` if there is no route or no address.
///
/// Rules 1, 2, 3, 5, 6, 8, 9 and 10; there are no home addresses (rule 4) and no encapsulating transitions (rule 7).
pub fn sort_destinations(
    destinations: &mut [IpAddr],
    policy: &PolicyTable,
    mut source: impl FnMut(IpAddr) -> Option<Source>,
) {
    // Rule 10: the sort is stable.
    destinations.sort_by_cached_key(|&destination| {
        let chosen = source(destination);
        let entry = policy.lookup(as_v6(destination));
        let destination_scope = scope(destination);
        let label = chosen.map(|s| policy.lookup(as_v6(s.address)).label);
        // The smallest key comes first, and `false` is smaller than `true`.
        DestinationKey {
            unusable: chosen.is_none(),
            other_scope: chosen.is_none_or(|s| scope(s.address) != destination_scope),
            deprecated: chosen.is_some_and(|s| s.deprecated),
            other_label: label != Some(entry.label),
            precedence: Reverse(entry.precedence),
            scope: destination_scope,
            // Rule 9 compares within an IP version only. Under the default table rule 6 has told the versions apart
            // before; under a table that does not, one order is as good as another, but it must be one.
            common_prefix: Reverse(chosen.map_or(0, |s| {
                common_prefix_len(s.address, s.prefix_len, destination)
            })),
        }
    });
}

/// Section 6 as an ordering: fields in the order of the rules, the smallest comes first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct DestinationKey {
    /// Rule 1.
    unusable: bool,
    /// Rule 2.
    other_scope: bool,
    /// Rule 3.
    deprecated: bool,
    /// Rule 5.
    other_label: bool,
    /// Rule 6.
    precedence: Reverse<u8>,
    /// Rule 8.
    scope: Scope,
    /// Rule 9.
    common_prefix: Reverse<u8>,
}

/// A row of the policy table (RFC 6724 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyRow {
    /// The prefix; IPv4 ones as IPv4-mapped.
    pub prefix: Ipv6Addr,
    /// Its length in bits, at most 128.
    pub prefix_len: u8,
    /// Destinations of higher precedence come first.
    pub precedence: u8,
    /// Sources are preferred whose label is the destination's.
    pub label: u8,
}

/// The policy table (RFC 6724 2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyTable {
    /// By falling prefix length: the first match is the longest.
    rows: Vec<PolicyRow>,
}

impl PolicyTable {
    /// A table of the given rows. What no row matches has precedence 40 and label 1, as the default table's ::/0.
    pub fn new(rows: impl IntoIterator<Item = PolicyRow>) -> Self {
        let mut rows: Vec<_> = rows.into_iter().collect();
        rows.sort_by_key(|row| Reverse(row.prefix_len));
        Self { rows }
    }

    /// The row for an address; an IPv4 one is looked up as IPv4-mapped (section 3.2).
    fn lookup(&self, address: Ipv6Addr) -> PolicyRow {
        let matches = |row: &&PolicyRow| {
            let difference = row.prefix.to_bits() ^ address.to_bits();
            difference.leading_zeros() >= u32::from(row.prefix_len)
        };
        self.rows
            .iter()
            .find(matches)
            .copied()
            .unwrap_or(DEFAULT_ROWS[1])
    }
}

impl Default for PolicyTable {
    /// The default policy table of RFC 6724 2.1.
    fn default() -> Self {
        Self::new(DEFAULT_ROWS)
    }
}

const fn row(segments: [u16; 8], prefix_len: u8, precedence: u8, label: u8) -> PolicyRow {
    let [a, b, c, d, e, f, g, h] = segments;
    PolicyRow {
        prefix: Ipv6Addr::new(a, b, c, d, e, f, g, h),
        prefix_len,
        precedence,
        label,
    }
}

const DEFAULT_ROWS: [PolicyRow; 9] = [
    row([0, 0, 0, 0, 0, 0, 0, 1], 128, 50, 0),
    row([0; 8], 0, 40, 1),
    row([0, 0, 0, 0, 0, 0xffff, 0, 0], 96, 35, 4),
    row([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, 30, 2),
    row([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, 5, 5),
    row([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, 3, 13),
    row([0; 8], 96, 1, 3),
    row([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, 1, 11),
    row([0x3ffe, 0, 0, 0, 0, 0, 0, 0], 16, 1, 12),
];

/// A scope, by the multicast scope field that unicast ones are mapped to (RFC 6724 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Scope(u8);

impl Scope {
    const LINK_LOCAL: Self = Self(0x2);
    const SITE_LOCAL: Self = Self(0x5);
    const GLOBAL: Self = Self(0xe);
}

fn scope(address: IpAddr) -> Scope {
    match address {
        // Section 3.2: 169.254/16 and 127/8 are link-local, all else, private addresses included, is global.
        IpAddr::V4(v4) if v4.is_link_local() || v4.is_loopback() => Scope::LINK_LOCAL,
        IpAddr::V4(_) => Scope::GLOBAL,
        IpAddr::V6(v6) => scope_v6(v6),
    }
}

fn scope_v6(address: Ipv6Addr) -> Scope {
    if address.is_multicast() {
        return Scope(address.octets()[1] & 0xf);
    }
    // Section 3.4: the loopback address counts as link-local.
    if address.is_unicast_link_local() || address.is_loopback() {
        return Scope::LINK_LOCAL;
    }
    if address.segments()[0] & 0xffc0 == 0xfec0 {
        return Scope::SITE_LOCAL;
    }
    // Section 3.3: an IPv4-mapped address counts as global.
    Scope::GLOBAL
}

/// Section 4: neither multicast nor unspecified addresses are candidates.
fn is_candidate(address: IpAddr) -> bool {
    !address.is_multicast() && !address.is_unspecified()
}

/// CommonPrefixLen (RFC 6724 2.2) of two addresses of one version: the bits in common, up to the source's prefix.
fn common_prefix_len(source: IpAddr, prefix_len: u8, destination: IpAddr) -> u8 {
    let common = match (source, destination) {
        (IpAddr::V4(s), IpAddr::V4(d)) => (s.to_bits() ^ d.to_bits()).leading_zeros(),
        (IpAddr::V6(s), IpAddr::V6(d)) => (s.to_bits() ^ d.to_bits()).leading_zeros(),
        _ => 0,
    };
    common.min(u32::from(prefix_len)) as u8
}

fn as_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests;
