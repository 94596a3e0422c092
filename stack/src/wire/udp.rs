//! The UDP header (RFC 768).
//!
//! Owns the octets of the header and what its length field may say; leaves the checksum, which covers the data too, to
//! the engine.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------------------------------+-------------------------------+
//! |          Source port          |       Destination port        |
//! +-------------------------------+-------------------------------+
//! |            Length             |           Checksum            |
//! +-------------------------------+-------------------------------+
//! ```

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::wire::ParseError;

/// Octets of the header.
pub const HEADER_LEN: usize = 8;
/// Where the checksum lies in the header, in octets.
pub const CHECKSUM_OFFSET: usize = 6;
/// Most payload octets of one datagram over IPv4 without options: 65,535 less both headers. IPv6 carries as many as
/// its own payload length permits, 65,527.
pub const MAX_PAYLOAD_V4: usize = 65_535 - 20 - HEADER_LEN;
/// See [`MAX_PAYLOAD_V4`].
pub const MAX_PAYLOAD_V6: usize = 65_535 - HEADER_LEN;

/// A UDP header as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Header {
    /// Source port; 0 when the sender wants no answer.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Octets of header and payload, at least 8.
    pub length: u16,
    /// The checksum as it stands in the packet; 0 when the sender made none, which IPv6 forbids (RFC 8200 8.1).
    pub checksum: u16,
}

impl Header {
    /// Reads a header; gives it with its length in octets, always [`HEADER_LEN`].
    ///
    /// # Errors
    /// [`ParseError::Truncated`] for fewer than 8 octets, [`ParseError::Malformed`] when the length field says less
    /// than the header itself has. A length of 0 (RFC 2675, jumbograms) is refused: no jumbograms here.
    pub fn parse(octets: &[u8]) -> Result<(Self, usize), ParseError> {
        let (layout, _) = Layout::ref_from_prefix(octets).map_err(|_| ParseError::Truncated)?;
        let header = Self {
            source_port: layout.source_port.get(),
            destination_port: layout.destination_port.get(),
            length: layout.length.get(),
            checksum: layout.checksum.get(),
        };
        if usize::from(header.length) < HEADER_LEN {
            return Err(ParseError::Malformed);
        }
        Ok((header, HEADER_LEN))
    }

    /// Payload octets, where the IP packet brings `available` octets from this header on; what it brings beyond the
    /// length field is no part of the datagram (RFC 768; Linux trims it too).
    ///
    /// # Errors
    /// [`ParseError::Truncated`] when the packet ends before the datagram does.
    pub fn payload_len(&self, available: usize) -> Result<usize, ParseError> {
        let length = usize::from(self.length);
        if length > available {
            return Err(ParseError::Truncated);
        }
        length.checked_sub(HEADER_LEN).ok_or(ParseError::Malformed)
    }

    /// Octets that [`Self::emit`] writes.
    pub const fn encoded_len(&self) -> usize {
        HEADER_LEN
    }

    /// Writes the header into the front of `buffer`, the checksum as it is.
    ///
    /// # Panics
    /// When `buffer` is shorter than [`HEADER_LEN`].
    pub fn emit(&self, buffer: &mut [u8]) {
        let layout = Layout {
            source_port: self.source_port.into(),
            destination_port: self.destination_port.into(),
            length: self.length.into(),
            checksum: self.checksum.into(),
        };
        buffer[..HEADER_LEN].copy_from_slice(layout.as_bytes());
    }
}

/// The header as it lies on the wire.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    source_port: U16,
    destination_port: U16,
    length: U16,
    checksum: U16,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed(ports in any::<(u16, u16)>(), length in 8..=u16::MAX, checksum in any::<u16>()) {
            let header = Header { source_port: ports.0, destination_port: ports.1, length, checksum };
            let mut octets = [0xff; HEADER_LEN];
            header.emit(&mut octets);
            prop_assert_eq!(Header::parse(&octets), Ok((header, HEADER_LEN)));
        }

        #[test]
        fn arbitrary_octets_never_panic(octets in proptest::collection::vec(any::<u8>(), 0..16), available in any::<u16>()) {
            if let Ok((header, _)) = Header::parse(&octets) {
                let payload = header.payload_len(usize::from(available));
                prop_assert_eq!(payload.is_ok(), header.length <= available);
            }
        }
    }

    #[test]
    fn the_header_lies_as_the_rfc_draws_it() {
        let header = Header {
            source_port: 0x0102,
            destination_port: 0x0304,
            length: 0x0506,
            checksum: 0x0708,
        };
        let mut octets = [0; HEADER_LEN];
        header.emit(&mut octets);
        assert_eq!(octets, [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn the_length_field_is_between_the_header_and_the_packet() {
        // RFC 768: Length counts header and data, so the least value is 8.
        let cases = [
            (0, 100, Err(ParseError::Malformed)),
            (7, 100, Err(ParseError::Malformed)),
            (8, 8, Ok(0)),
            (8, 100, Ok(0)),
            (12, 12, Ok(4)),
            (13, 12, Err(ParseError::Truncated)),
        ];
        for (length, available, expected) in cases {
            let mut octets = [0; HEADER_LEN];
            Header {
                length,
                ..Header::default()
            }
            .emit(&mut octets);
            let payload =
                Header::parse(&octets).and_then(|(header, _)| header.payload_len(available));
            assert_eq!(payload, expected, "length {length}, available {available}");
        }
    }
}
