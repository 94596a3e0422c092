//! The IPv6 fragment header (RFC 8200 4.5).
//!
//! ```text
//! +---------------+---------------+-------------------------+---+-+
//! |  Next header  |   Reserved    |     Fragment offset     |Res|M|
//! +---------------+---------------+-------------------------+---+-+
//! |                        Identification                         |
//! +---------------------------------------------------------------+
//! ```

use crate::wire::ParseError;

/// Octets of the header.
pub const HEADER_LEN: usize = 8;

/// A fragment header as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// What the fragmentable part of the whole packet begins with.
    pub next_header: u8,
    /// Where this fragment lies in the fragmentable part, in octets; a multiple of 8, at most 65,528.
    pub offset: u16,
    /// It is not the last fragment.
    pub more: bool,
    /// Joins the fragments of a packet.
    pub identification: u32,
}

impl Fragment {
    /// Reads a header; gives it with its length in octets, always [`HEADER_LEN`]. Reserved bits are ignored.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] for fewer than 8 octets.
    pub fn parse(octets: &[u8]) -> Result<(Self, usize), ParseError> {
        let Some(&[next_header, _, high, low, a, b, c, d]) = octets.first_chunk::<HEADER_LEN>()
        else {
            return Err(ParseError::Truncated);
        };
        let header = Self {
            next_header,
            offset: u16::from_be_bytes([high, low & !7]),
            more: low & 1 != 0,
            identification: u32::from_be_bytes([a, b, c, d]),
        };
        Ok((header, HEADER_LEN))
    }

    /// Whether this "fragment" is the whole packet, which has nothing to wait for (RFC 6946 4).
    pub const fn is_atomic(&self) -> bool {
        self.offset == 0 && !self.more
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
        let [high, low] = (self.offset & !7 | u16::from(self.more)).to_be_bytes();
        let [a, b, c, d] = self.identification.to_be_bytes();
        buffer[..HEADER_LEN].copy_from_slice(&[self.next_header, 0, high, low, a, b, c, d]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_parsed_survives_a_round_trip(octets in any::<[u8; 8]>()) {
            let (header, _) = Fragment::parse(&octets).unwrap();
            prop_assert_eq!(header.offset % 8, 0);
            let mut emitted = [0xff; HEADER_LEN];
            header.emit(&mut emitted);
            prop_assert_eq!(emitted[4..].to_vec(), octets[4..].to_vec());
            prop_assert_eq!(Fragment::parse(&emitted), Ok((header, HEADER_LEN)));
        }
    }

    #[test]
    fn the_header_lies_as_the_rfc_draws_it() {
        let header = Fragment {
            next_header: 17,
            offset: 0x0108,
            more: true,
            identification: 0x0102_0304,
        };
        let mut octets = [0xff; HEADER_LEN];
        header.emit(&mut octets);
        assert_eq!(octets, [17, 0, 1, 9, 1, 2, 3, 4]);
    }

    #[test]
    fn atomic_fragments_are_told_from_others() {
        // RFC 6946: offset 0 and no more to come.
        for (offset, more, is_atomic) in [(0, false, true), (0, true, false), (8, false, false)] {
            let header = Fragment {
                next_header: 17,
                offset,
                more,
                identification: 1,
            };
            assert_eq!(header.is_atomic(), is_atomic);
        }
    }
}
