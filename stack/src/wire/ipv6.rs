//! The IPv6 header (RFC 8200 3).
//!
//! Owns the octets of the fixed header; [`extension`] walks the extension headers behind it and [`fragment`] is one of
//! them. Leaves to `ip` whether the packet is as long as it says and who may have sent it.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+---------------+---------------------------------------+
//! |Version| Traffic class |              Flow label               |
//! +-------+---------------+-------+---------------+---------------+
//! |        Payload length         |  Next header  |   Hop limit   |
//! +-------------------------------+---------------+---------------+
//! |                   Source address, 16 octets                   |
//! +---------------------------------------------------------------+
//! |                Destination address, 16 octets                 |
//! +---------------------------------------------------------------+
//! ```

use std::net::Ipv6Addr;

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::wire::{Ecn, ParseError};

pub mod extension;
pub mod fragment;

/// Octets of the header, extension headers not counted.
pub const HEADER_LEN: usize = 40;

/// An IPv6 header as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
    /// DSCP in the high six bits (RFC 2474), ECN in the low two (RFC 3168).
    pub traffic_class: u8,
    /// The flow label (RFC 6437), 20 bits; higher ones are not sent.
    pub flow_label: u32,
    /// Octets behind this header, extension headers included.
    pub payload_len: u16,
    /// What follows: an extension header or a transport ([`crate::wire::protocol`]).
    pub next_header: u8,
    /// Time to live, in hops.
    pub hop_limit: u8,
}

impl Header {
    /// Reads a header; gives it with its length in octets, always [`HEADER_LEN`].
    ///
    /// # Errors
    /// [`ParseError::Truncated`] for fewer than 40 octets, [`ParseError::Malformed`] for another version.
    pub fn parse(octets: &[u8]) -> Result<(Self, usize), ParseError> {
        let (layout, _) = Layout::ref_from_prefix(octets).map_err(|_| ParseError::Truncated)?;
        let first = layout.version_class_flow.get();
        if first >> 28 != 6 {
            return Err(ParseError::Malformed);
        }
        let header = Self {
            source: layout.source.into(),
            destination: layout.destination.into(),
            traffic_class: (first >> 20) as u8,
            flow_label: first & FLOW_LABEL,
            payload_len: layout.payload_len.get(),
            next_header: layout.next_header,
            hop_limit: layout.hop_limit,
        };
        Ok((header, HEADER_LEN))
    }

    /// The ECN field.
    pub const fn ecn(&self) -> Ecn {
        Ecn::from_tos(self.traffic_class)
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
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & FLOW_LABEL;
        let layout = Layout {
            version_class_flow: first.into(),
            payload_len: self.payload_len.into(),
            next_header: self.next_header,
            hop_limit: self.hop_limit,
            source: self.source.octets(),
            destination: self.destination.octets(),
        };
        buffer[..HEADER_LEN].copy_from_slice(layout.as_bytes());
    }
}

/// The bits of a flow label.
pub const FLOW_LABEL: u32 = 0x000f_ffff;

/// The header as it lies on the wire.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    version_class_flow: U32,
    payload_len: U16,
    next_header: u8,
    hop_limit: u8,
    source: [u8; 16],
    destination: [u8; 16],
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed(
            addresses in any::<(u128, u128)>(),
            traffic_class in any::<u8>(),
            flow_label in 0..=FLOW_LABEL,
            payload_len in any::<u16>(),
            rest in any::<(u8, u8)>(),
        ) {
            let header = Header {
                source: addresses.0.into(),
                destination: addresses.1.into(),
                traffic_class,
                flow_label,
                payload_len,
                next_header: rest.0,
                hop_limit: rest.1,
            };
            let mut octets = [0xff; HEADER_LEN];
            header.emit(&mut octets);
            prop_assert_eq!(Header::parse(&octets), Ok((header, HEADER_LEN)));
        }

        #[test]
        fn arbitrary_octets_never_panic(octets in proptest::collection::vec(any::<u8>(), 0..60)) {
            let is_header = octets.len() >= HEADER_LEN && octets[0] >> 4 == 6;
            prop_assert_eq!(Header::parse(&octets).is_ok(), is_header);
        }
    }

    #[test]
    fn the_header_lies_as_the_rfc_draws_it() {
        let header = Header {
            source: Ipv6Addr::LOCALHOST,
            destination: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2),
            traffic_class: 0xab,
            flow_label: 0x000c_def0,
            payload_len: 0x0102,
            next_header: 6,
            hop_limit: 64,
        };
        let mut octets = [0xff; HEADER_LEN];
        header.emit(&mut octets);
        assert_eq!(octets[..8], [0x6a, 0xbc, 0xde, 0xf0, 1, 2, 6, 64]);
        assert_eq!(octets[8..24], Ipv6Addr::LOCALHOST.octets());
        assert_eq!(octets[24..], header.destination.octets());
    }

    #[test]
    fn a_flow_label_never_spills_into_the_traffic_class() {
        let header = Header {
            source: Ipv6Addr::UNSPECIFIED,
            destination: Ipv6Addr::UNSPECIFIED,
            traffic_class: 0,
            flow_label: u32::MAX,
            payload_len: 0,
            next_header: 59,
            hop_limit: 1,
        };
        let mut octets = [0; HEADER_LEN];
        header.emit(&mut octets);
        assert_eq!(octets[..4], [0x60, 0x0f, 0xff, 0xff]);
    }
}
