//! An address with a prefix length, as in `10.0.0.2/24` (RFC 4632 3.1, RFC 4291 2.3).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IPv4 or IPv6 address and the length of its prefix. Host bits are kept: it serves for interface addresses and,
/// by its [`network`](Self::network), for destinations of routes.
///
/// ```
/// use tidewire::ip::Cidr;
///
/// let cidr: Cidr = "10.1.2.3/24".parse().unwrap();
/// assert!(cidr.contains("10.1.2.99".parse().unwrap()));
/// assert_eq!(cidr.network().to_string(), "10.1.2.0/24");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix_len: u8,
}

impl Cidr {
    /// An address with the length of its prefix in bits; `None` if that is over 32 or 128.
    pub const fn new(address: IpAddr, prefix_len: u8) -> Option<Self> {
        if prefix_len > max_prefix_len(address) {
            return None;
        }
        Some(Self {
            address,
            prefix_len,
        })
    }

    /// One address alone: a prefix length of 32 or 128.
    pub const fn host(address: IpAddr) -> Self {
        Self {
            address,
            prefix_len: max_prefix_len(address),
        }
    }

    /// Every IPv4 address, 0.0.0.0/0: the destination of a default route.
    pub const ANY_V4: Self = Self {
        address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        prefix_len: 0,
    };

    /// Every IPv6 address, ::/0: the destination of a default route.
    pub const ANY_V6: Self = Self {
        address: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        prefix_len: 0,
    };

    /// The address, host bits included.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// The prefix length in bits.
    pub const fn prefix_len(&self) -> u8 {
        self.prefix_len
    }

    /// Whether the prefix is the whole address.
    pub const fn is_host(&self) -> bool {
        self.prefix_len == max_prefix_len(self.address)
    }

    /// Whether the address lies in this prefix; never, if it is of the other IP version.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()) & self.mask_v4() == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()) & self.mask_v6() == 0
            }
            _ => false,
        }
    }

    /// The prefix with its host bits zero.
    pub fn network(&self) -> Self {
        let address = match self.address {
            IpAddr::V4(own) => Ipv4Addr::from_bits(own.to_bits() & self.mask_v4()).into(),
            IpAddr::V6(own) => Ipv6Addr::from_bits(own.to_bits() & self.mask_v6()).into(),
        };
        Self {
            address,
            prefix_len: self.prefix_len,
        }
    }

    /// The subnet's directed broadcast address (RFC 1122 3.2.1.3 (d)): IPv4 only, and none for a prefix of 31 or 32
    /// bits, whose addresses are all hosts (RFC 3021).
    pub fn broadcast(&self) -> Option<Ipv4Addr> {
        match self.address {
            IpAddr::V4(own) if self.prefix_len <= 30 => {
                Some(Ipv4Addr::from_bits(own.to_bits() | !self.mask_v4()))
            }
            _ => None,
        }
    }

    fn mask_v4(&self) -> u32 {
        u32::MAX
            .checked_shl(32 - u32::from(self.prefix_len))
            .unwrap_or(0)
    }

    fn mask_v6(&self) -> u128 {
        u128::MAX
            .checked_shl(128 - u32::from(self.prefix_len))
            .unwrap_or(0)
    }
}

/// Text that is not `address/length`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidCidr;

impl fmt::Display for InvalidCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected an IP address, a slash and a prefix length, such as 10.0.0.2/24")
    }
}

impl std::error::Error for InvalidCidr {}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    /// `address/length`; an address alone has the full length.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((address, prefix_len)) = text.split_once('/') else {
            return text.parse().map(Self::host).map_err(|_| InvalidCidr);
        };
        // u8::from_str takes a plus sign, which nobody writes here.
        if !prefix_len.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(InvalidCidr);
        }
        let address = address.parse().map_err(|_| InvalidCidr)?;
        let prefix_len = prefix_len.parse().map_err(|_| InvalidCidr)?;
        Self::new(address, prefix_len).ok_or(InvalidCidr)
    }
}

impl TryFrom<&str> for Cidr {
    type Error = InvalidCidr;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<IpAddr> for Cidr {
    fn from(address: IpAddr) -> Self {
        Self::host(address)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

const fn max_prefix_len(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn network_broadcast_and_membership_follow_the_prefix() {
        // text, network, broadcast, inside, outside
        let table = [
            (
                "10.1.2.3/24",
                "10.1.2.0/24",
                Some("10.1.2.255"),
                "10.1.2.255",
                "10.1.3.0",
            ),
            (
                "10.1.2.3/0",
                "0.0.0.0/0",
                Some("255.255.255.255"),
                "8.8.8.8",
                "::",
            ),
            (
                "10.1.2.3/30",
                "10.1.2.0/30",
                Some("10.1.2.3"),
                "10.1.2.1",
                "10.1.2.4",
            ),
            ("10.1.2.3/31", "10.1.2.2/31", None, "10.1.2.2", "10.1.2.4"),
            ("10.1.2.3", "10.1.2.3/32", None, "10.1.2.3", "10.1.2.2"),
            (
                "2001:db8::1/64",
                "2001:db8::/64",
                None,
                "2001:db8::ffff",
                "2001:db8:0:1::",
            ),
            ("2001:db8::1/0", "::/0", None, "ff02::1", "1.2.3.4"),
            ("::1", "::1/128", None, "::1", "::2"),
        ];
        for (text, network, broadcast, inside, outside) in table {
            let cidr = cidr(text);
            assert_eq!(cidr.network().to_string(), network);
            let broadcast = broadcast.map(|b| b.parse().unwrap());
            assert_eq!(cidr.broadcast(), broadcast, "{text}");
            assert!(cidr.contains(inside.parse().unwrap()), "{text}");
            assert!(!cidr.contains(outside.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_an_address_and_a_length() {
        let wrong = [
            "",
            "/",
            "10.0.0.1/",
            "/8",
            "10.0.0.1/33",
            "::1/129",
            "10.0.0/8",
            "1.2.3.4/+8",
            "1.2.3.4/-1",
            "1.2.3.4/8/8",
            " 1.2.3.4/8",
            "::1/256",
        ];
        for text in wrong {
            assert_eq!(text.parse::<Cidr>(), Err(InvalidCidr), "{text}");
        }
    }

    #[test]
    fn text_survives_a_round_trip() {
        for text in [
            "10.1.2.3/24",
            "0.0.0.0/0",
            "2001:db8::1/64",
            "::/0",
            "::1/128",
        ] {
            assert_eq!(cidr(text).to_string(), text);
        }
    }
}
