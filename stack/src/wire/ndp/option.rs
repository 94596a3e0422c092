//! Options of Neighbor Discovery messages (RFC 4861 4.6).
//!
//! Owns the octets and the walk over them. An option that nobody here knows, or whose length its kind does not have
//! (RFC 2464 6: link-layer addresses of Ethernet take 8 octets), is skipped: RFC 4861 7.1 has receivers ignore the
//! contents of what they do not use.
//!
//! ```text
//! +---------------+---------------+----
//! |     Type      |    Length     | …    Length counts type and length too, in units of 8 octets
//! +---------------+---------------+----
//! ```

use std::net::Ipv6Addr;

use tidewire_netdev::MacAddress;

use crate::wire::ParseError;
use crate::wire::ndp::dns::{DnsSearchList, DnsServers};

/// Octets of a link-layer address option for Ethernet.
pub const LINK_LAYER_LEN: usize = 8;

/// An on-link prefix, or one for address configuration (RFC 4861 4.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PrefixInformation {
    /// Leading bits of the prefix that count; at most 128.
    pub prefix_len: u8,
    /// Addresses in the prefix are on the link.
    pub on_link: bool,
    /// Hosts may make addresses from the prefix.
    pub autonomous: bool,
    /// Seconds the prefix is valid; all ones: for ever.
    pub valid_lifetime: u32,
    /// Seconds addresses made from it are preferred; all ones: for ever.
    pub preferred_lifetime: u32,
    /// The prefix; bits behind its length mean nothing.
    pub prefix: Ipv6Addr,
}

/// How much a router is preferred to others (RFC 4191 2.1). The order is the preference's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum RouterPreference {
    /// 11
    Low,
    /// 00
    #[default]
    Medium,
    /// 01
    High,
}

impl RouterPreference {
    /// From the two bits of an octet that carry it; `None` for the reserved value.
    pub(super) const fn from_octet(octet: u8) -> Option<Self> {
        match octet >> 3 & 0b11 {
            0b01 => Some(Self::High),
            0b00 => Some(Self::Medium),
            0b11 => Some(Self::Low),
            _ => None,
        }
    }

    /// The octet whose two bits carry it; the others are 0.
    pub(super) const fn octet(self) -> u8 {
        let bits: u8 = match self {
            Self::High => 0b01,
            Self::Medium => 0b00,
            Self::Low => 0b11,
        };
        bits << 3
    }
}

/// A network that is behind the sender (RFC 4191 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteInformation {
    /// Leading bits of the prefix that count; at most 128.
    pub prefix_len: u8,
    /// How much the sender is preferred to others that lead there.
    pub preference: RouterPreference,
    /// Seconds the route is valid; all ones: for ever, 0: no more.
    pub lifetime: u32,
    /// The prefix; bits behind its length mean nothing.
    pub prefix: Ipv6Addr,
}

/// An option that means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NdpOption<'a> {
    /// Type 1: the link-layer address of the sender.
    SourceLinkLayerAddress(MacAddress),
    /// Type 2: the link-layer address of the target.
    TargetLinkLayerAddress(MacAddress),
    /// Type 3.
    PrefixInformation(PrefixInformation),
    /// Type 4: the front of the packet that is redirected.
    RedirectedHeader(&'a [u8]),
    /// Type 5: the link's MTU in octets.
    Mtu(u32),
    /// Type 24.
    RouteInformation(RouteInformation),
    /// Type 25.
    DnsServers(DnsServers<'a>),
    /// Type 31.
    DnsSearchList(DnsSearchList<'a>),
}

impl NdpOption<'_> {
    /// Writes a link-layer address option into the front of `buffer`: the source's or the target's.
    ///
    /// # Panics
    /// When `buffer` is shorter than [`LINK_LAYER_LEN`].
    pub fn emit_link_layer(kind: LinkLayerKind, address: MacAddress, buffer: &mut [u8]) {
        buffer[0] = kind as u8;
        buffer[1] = (LINK_LAYER_LEN / 8) as u8;
        buffer[2..LINK_LAYER_LEN].copy_from_slice(&address.0);
    }
}

/// Whose address a link-layer address option carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LinkLayerKind {
    /// The sender's.
    Source = 1,
    /// The target's.
    Target = 2,
}

/// The options of a message: an iterator that cannot fail, since [`Options::parse`] has walked them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options<'a>(&'a [u8]);

impl<'a> Options<'a> {
    /// No options.
    pub const NONE: Self = Options(&[]);

    /// Takes all of `octets` as options.
    ///
    /// # Errors
    /// [`ParseError::Malformed`] for a length of 0, which makes the whole message invalid (RFC 4861 4.6),
    /// [`ParseError::Truncated`] for an option longer than what is there.
    pub fn parse(octets: &'a [u8]) -> Result<Self, ParseError> {
        let mut rest = octets;
        while !rest.is_empty() {
            let len = usize::from(*rest.get(1).ok_or(ParseError::Truncated)?) * 8;
            if len == 0 {
                return Err(ParseError::Malformed);
            }
            rest = rest.get(len..).ok_or(ParseError::Truncated)?;
        }
        Ok(Self(octets))
    }

    /// The sender's link-layer address; the first of several, as on Linux.
    pub fn source_link_layer(self) -> Option<MacAddress> {
        self.into_iter().find_map(|option| match option {
            NdpOption::SourceLinkLayerAddress(address) => Some(address),
            _ => None,
        })
    }

    /// The target's link-layer address; the first of several, as on Linux.
    pub fn target_link_layer(self) -> Option<MacAddress> {
        self.into_iter().find_map(|option| match option {
            NdpOption::TargetLinkLayerAddress(address) => Some(address),
            _ => None,
        })
    }
}

impl<'a> IntoIterator for Options<'a> {
    type Item = NdpOption<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        Iter(self.0)
    }
}

/// Walks [`Options`], skipping what is unknown.
#[derive(Clone, Debug)]
pub struct Iter<'a>(&'a [u8]);

impl<'a> Iterator for Iter<'a> {
    type Item = NdpOption<'a>;

    fn next(&mut self) -> Option<NdpOption<'a>> {
        loop {
            let len = usize::from(*self.0.get(1)?) * 8;
            let (option, rest) = self.0.split_at_checked(len)?;
            self.0 = rest;
            if let Some(option) = known(option) {
                return Some(option);
            }
        }
    }
}

fn known(option: &[u8]) -> Option<NdpOption<'_>> {
    let (&[kind, _], value) = option.split_first_chunk()?;
    match kind {
        1 => link_layer(value).map(NdpOption::SourceLinkLayerAddress),
        2 => link_layer(value).map(NdpOption::TargetLinkLayerAddress),
        3 => prefix_information(value).map(NdpOption::PrefixInformation),
        // Six reserved octets, then the packet (RFC 4861 4.6.3).
        4 => value.get(6..).map(NdpOption::RedirectedHeader),
        5 => <[u8; 6]>::try_from(value)
            .ok()
            .map(|[_, _, a, b, c, d]| NdpOption::Mtu(u32::from_be_bytes([a, b, c, d]))),
        24 => route_information(value).map(NdpOption::RouteInformation),
        25 => DnsServers::parse(value).map(NdpOption::DnsServers),
        31 => DnsSearchList::parse(value).map(NdpOption::DnsSearchList),
        _ => None,
    }
}

fn link_layer(value: &[u8]) -> Option<MacAddress> {
    value.try_into().ok().map(MacAddress)
}

fn prefix_information(value: &[u8]) -> Option<PrefixInformation> {
    let value: &[u8; 30] = value.try_into().ok()?;
    let word = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|i| value[at + i]));
    let prefix: [u8; 16] = value[14..].try_into().ok()?;
    Some(PrefixInformation {
        prefix_len: value[0],
        on_link: value[1] & 0x80 != 0,
        autonomous: value[1] & 0x40 != 0,
        valid_lifetime: word(2),
        preferred_lifetime: word(6),
        prefix: prefix.into(),
    })
    .filter(|information| information.prefix_len <= 128)
}

/// RFC 4191 2.3: the prefix has 0, 8 or 16 octets, and no fewer than its length needs; the reserved preference makes the
/// option one to ignore.
fn route_information(value: &[u8]) -> Option<RouteInformation> {
    let (&[prefix_len, flags, a, b, c, d], rest) = value.split_first_chunk()?;
    let needed = match prefix_len {
        0 => 0,
        1..=64 => 8,
        65..=128 => 16,
        _ => return None,
    };
    if rest.len() < needed || rest.len() > 16 {
        return None;
    }
    let mut prefix = [0; 16];
    prefix[..rest.len()].copy_from_slice(rest);
    Some(RouteInformation {
        prefix_len,
        preference: RouterPreference::from_octet(flags)?,
        lifetime: u32::from_be_bytes([a, b, c, d]),
        prefix: prefix.into(),
    })
}
