//! Hardware addresses of Ethernet (IEEE 802, EUI-48).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Everybody on the link.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether it names a group (broadcast included): the lowest bit of the first octet.
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether one station may have it: no group, and not all zeroes.
    pub const fn is_unicast(self) -> bool {
        !self.is_multicast() && !matches!(self.0, [0, 0, 0, 0, 0, 0])
    }

    /// The group of an IPv4 multicast address: 01:00:5e and its lower 23 bits (RFC 1112 6.4).
    pub const fn multicast_v4(group: Ipv4Addr) -> Self {
        let [_, b, c, d] = group.octets();
        Self([0x01, 0x00, 0x5e, b & 0x7f, c, d])
    }

    /// The group of an IPv6 multicast address: 33:33 and its lower 32 bits (RFC 2464 7).
    pub const fn multicast_v6(group: Ipv6Addr) -> Self {
        let octets = group.octets();
        Self([0x33, 0x33, octets[12], octets[13], octets[14], octets[15]])
    }

    /// A unicast address of local administration (bit 1 of the first octet) made of random octets.
    pub const fn locally_administered(mut octets: [u8; 6]) -> Self {
        octets[0] = (octets[0] & !1) | 2;
        Self(octets)
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Text that is no hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidMacAddress;

impl fmt::Display for InvalidMacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a hardware address is six hexadecimal octets, such as 02:00:00:00:00:01")
    }
}

impl std::error::Error for InvalidMacAddress {}

impl FromStr for MacAddress {
    type Err = InvalidMacAddress;

    fn from_str(text: &str) -> Result<Self, InvalidMacAddress> {
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or(InvalidMacAddress)?;
            if part.len() > 2 || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(InvalidMacAddress);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| InvalidMacAddress)?;
        }
        match parts.next() {
            Some(_) => Err(InvalidMacAddress),
            None => Ok(Self(octets)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_mapped_to_ethernet_groups() {
        // RFC 1112 6.4: the upper bit of the second octet does not count.
        let all_hosts = MacAddress::multicast_v4(Ipv4Addr::new(224, 0, 0, 1));
        assert_eq!(all_hosts.to_string(), "01:00:5e:00:00:01");
        let upper = MacAddress::multicast_v4(Ipv4Addr::new(239, 255, 1, 2));
        assert_eq!(upper.to_string(), "01:00:5e:7f:01:02");
        let solicited = "ff02::1:ff28:9c5a".parse().expect("an address");
        let solicited = MacAddress::multicast_v6(solicited);
        assert_eq!(solicited.to_string(), "33:33:ff:28:9c:5a");
        assert!(all_hosts.is_multicast() && solicited.is_multicast());
        assert!(MacAddress::BROADCAST.is_multicast());
    }

    #[test]
    fn text_is_parsed_or_refused() {
        let address = MacAddress([2, 0, 0, 0xab, 0xcd, 1]);
        assert_eq!("02:00:00:ab:CD:01".parse(), Ok(address));
        assert_eq!(address.to_string().parse(), Ok(address));
        for text in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "02:00:00:00:00:+1",
            "g2:00:00:00:00:01",
            "002:0:0:0:0:1",
        ] {
            assert_eq!(text.parse::<MacAddress>(), Err(InvalidMacAddress), "{text}");
        }
    }

    #[test]
    fn made_up_addresses_are_unicast_and_local() {
        let made = MacAddress::locally_administered([0xff; 6]);
        assert!(made.is_unicast());
        assert_eq!(made.0[0], 0xfe);
        assert!(!MacAddress([0; 6]).is_unicast());
    }
}
