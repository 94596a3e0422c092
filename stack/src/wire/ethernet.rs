//! The Ethernet II header (RFC 894, RFC 2464 3).
//!
//! Owns the octets; leaves to `link` which frames are for this host and what their types mean here.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------------------------------------------------------+
//! |                      Destination, 6 octets                    |
//! |                               +-------------------------------+
//! |                               |        Source, 6 octets       |
//! +-------------------------------+                               |
//! |                                                               |
//! +-------------------------------+-------------------------------+
//! |           EtherType           |
//! +-------------------------------+
//! ```

use tidewire_netdev::MacAddress;

use crate::wire::ParseError;

/// Octets of the header; preamble and frame check sequence never reach software.
pub const HEADER_LEN: usize = 14;

/// Types of what follows the header (IANA, IEEE 802 numbers).
pub mod ethertype {
    /// An IPv4 packet (RFC 894).
    pub const IPV4: u16 = 0x0800;
    /// An ARP packet (RFC 826).
    pub const ARP: u16 = 0x0806;
    /// A reverse ARP packet (RFC 903).
    pub const RARP: u16 = 0x8035;
    /// A VLAN tag (IEEE 802.1Q).
    pub const VLAN: u16 = 0x8100;
    /// An IPv6 packet (RFC 2464).
    pub const IPV6: u16 = 0x86dd;
    /// An outer VLAN tag (IEEE 802.1ad).
    pub const SERVICE_VLAN: u16 = 0x88a8;
    /// From here on the field is a type, below it an IEEE 802.3 length.
    pub const MIN: u16 = 0x0600;
}

/// An Ethernet header as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// Whom the frame is for: one station, or a group.
    pub destination: MacAddress,
    /// Who sent it.
    pub source: MacAddress,
    /// What follows ([`mod@ethertype`]), or a length if it is below [`ethertype::MIN`].
    pub ethertype: u16,
}

impl Header {
    /// Reads a header; gives it with its length in octets, always [`HEADER_LEN`].
    ///
    /// # Errors
    /// [`ParseError::Truncated`] for fewer than 14 octets.
    pub fn parse(octets: &[u8]) -> Result<(Self, usize), ParseError> {
        let Some(&[a, b, c, d, e, f, g, h, i, j, k, l, high, low]) =
            octets.first_chunk::<HEADER_LEN>()
        else {
            return Err(ParseError::Truncated);
        };
        let header = Self {
            destination: MacAddress([a, b, c, d, e, f]),
            source: MacAddress([g, h, i, j, k, l]),
            ethertype: u16::from_be_bytes([high, low]),
        };
        Ok((header, HEADER_LEN))
    }

    /// Octets that [`Self::emit`] writes.
    pub const fn encoded_len(&self) -> usize {
        HEADER_LEN
    }

    /// Writes the header into the front of `buffer`.
    ///
    /// # Panics
    /// When `buffer` is shorter than [`HEADER_LEN`].
    pub fn emit(&self, buffer: &mut [u8]) {
        buffer[..6].copy_from_slice(&self.destination.0);
        buffer[6..12].copy_from_slice(&self.source.0);
        buffer[12..HEADER_LEN].copy_from_slice(&self.ethertype.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_header_lies_as_the_standard_draws_it() {
        let header = Header {
            destination: MacAddress([1, 2, 3, 4, 5, 6]),
            source: MacAddress([7, 8, 9, 10, 11, 12]),
            ethertype: ethertype::IPV6,
        };
        let mut octets = [0xff; HEADER_LEN];
        header.emit(&mut octets);
        assert_eq!(octets, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x86, 0xdd]);
    }

    proptest! {
        #[test]
        fn what_is_parsed_survives_a_round_trip(octets in proptest::collection::vec(any::<u8>(), 0..30)) {
            match Header::parse(&octets) {
                Ok((header, len)) => {
                    let mut emitted = [0xff; HEADER_LEN];
                    header.emit(&mut emitted);
                    prop_assert_eq!(&emitted[..], &octets[..len]);
                }
                Err(error) => {
                    prop_assert_eq!(error, ParseError::Truncated);
                    prop_assert!(octets.len() < HEADER_LEN);
                }
            }
        }
    }
}
