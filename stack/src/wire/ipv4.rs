//! The IPv4 header and its options (RFC 791 3.1, RFC 1122 3.2.1).
//!
//! Owns the octets of the header, its checksum and the shape of its options; leaves to `ip` whether the packet is as
//! long as it says, who may have sent it, and fragments.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+-------+---------------+-------------------------------+
//! |Version|  IHL  |DSCP       |ECN|         Total length          |
//! +-------+-------+---------------+-----+-------------------------+
//! |        Identification         |Flags|     Fragment offset     |
//! +---------------+---------------+-----+-------------------------+
//! |      TTL      |   Protocol    |        Header checksum        |
//! +---------------+---------------+-------------------------------+
//! |                        Source address                         |
//! +---------------------------------------------------------------+
//! |                     Destination address                       |
//! +---------------------------------------------------------------+
//! |                   Options, 0 to 40 octets                     |
//! +---------------------------------------------------------------+
//! ```

mod source_route;

use std::net::Ipv4Addr;

use smallvec::SmallVec;
use tidewire_netdev::checksum::Sum;

pub(crate) use source_route::final_destination;
pub use source_route::{ReceivedRoute, SourceRoute};

use crate::wire::{Ecn, ParseError};

/// Octets of the header without options.
pub const HEADER_LEN: usize = 20;
/// Most octets a header may have: the IHL counts up to 15 words.
pub const MAX_HEADER_LEN: usize = 60;

/// An IPv4 header as a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// What follows the header ([`crate::wire::protocol`]).
    pub protocol: u8,
    /// Time to live, in hops.
    pub ttl: u8,
    /// DSCP in the high six bits (RFC 2474), ECN in the low two (RFC 3168).
    pub tos: u8,
    /// Octets of header and payload.
    pub total_len: u16,
    /// Identification: joins the fragments of a packet (RFC 6864).
    pub identification: u16,
    /// Routers must not cut it.
    pub dont_fragment: bool,
    /// It is not the last fragment.
    pub more_fragments: bool,
    /// Where this fragment's payload lies in the whole, in octets; a multiple of 8, at most 65,528.
    pub fragment_offset: u16,
    /// Options.
    pub options: Options,
}

impl Header {
    /// Reads a header; gives it with its length in octets, options included, where the payload begins.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] when the octets end before the header does, [`ParseError::Malformed`] for another
    /// version or lengths that contradict each other, [`ParseError::Checksum`] for a wrong header checksum
    /// (RFC 1122 3.2.1.2: discard silently). Options are not looked into.
    #[inline]
    pub fn parse(octets: &[u8]) -> Result<(Self, usize), ParseError> {
        let (fixed, rest) = octets
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(ParseError::Truncated)?;
        let words = words_of(fixed);
        let header_len = (words[0] >> 24 & 0x0f) as usize * 4;
        let total_len = words[0] as u16;
        if words[0] >> 28 != 4 || header_len < HEADER_LEN || usize::from(total_len) < header_len {
            return Err(ParseError::Malformed);
        }
        let options = rest
            .get(..header_len - HEADER_LEN)
            .ok_or(ParseError::Truncated)?;
        if checksum(&words, options) != 0 {
            return Err(ParseError::Checksum);
        }
        let fragment = words[1] as u16;
        let options = if options.is_empty() {
            Options::default()
        } else {
            Options(SmallVec::from_slice(options))
        };
        let header = Self {
            source: Ipv4Addr::from_bits(words[3]),
            destination: Ipv4Addr::from_bits(words[4]),
            protocol: (words[2] >> 16) as u8,
            ttl: (words[2] >> 24) as u8,
            tos: (words[0] >> 16) as u8,
            total_len,
            identification: (words[1] >> 16) as u16,
            dont_fragment: fragment & DONT_FRAGMENT != 0,
            more_fragments: fragment & MORE_FRAGMENTS != 0,
            fragment_offset: (fragment & FRAGMENT_OFFSET) * 8,
            options,
        };
        Ok((header, header_len))
    }

    /// Whether this is one fragment of a larger packet.
    pub const fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset != 0
    }

    /// The ECN field.
    pub const fn ecn(&self) -> Ecn {
        Ecn::from_tos(self.tos)
    }

    /// Octets that [`Self::emit`] writes.
    pub fn encoded_len(&self) -> usize {
        HEADER_LEN + self.options.octets().len()
    }

    /// Writes the header with its checksum into the front of `buffer`.
    ///
    /// # Panics
    /// When `buffer` is shorter than [`Self::encoded_len`].
    #[inline]
    pub fn emit(&self, buffer: &mut [u8]) {
        let header_len = self.encoded_len();
        let flag = |is_set, bit| if is_set { bit } else { 0 };
        let fragment = (self.fragment_offset / 8)
            | flag(self.dont_fragment, DONT_FRAGMENT)
            | flag(self.more_fragments, MORE_FRAGMENTS);
        let pair = |high: u16, low: u16| u32::from(high) << 16 | u32::from(low);
        let mut words = [
            u32::from_be_bytes([0x40 | (header_len / 4) as u8, self.tos, 0, 0])
                | u32::from(self.total_len),
            pair(self.identification, fragment),
            u32::from_be_bytes([self.ttl, self.protocol, 0, 0]),
            self.source.to_bits(),
            self.destination.to_bits(),
        ];
        words[2] |= u32::from(checksum(&words, self.options.octets()));
        let (fixed, options) = buffer[..header_len].split_at_mut(HEADER_LEN);
        for (octets, word) in fixed.as_chunks_mut().0.iter_mut().zip(words) {
            *octets = word.to_be_bytes();
        }
        options.copy_from_slice(self.options.octets());
    }
}

/// The option octets of a header, padding included: at most 40, a multiple of 4.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Options(SmallVec<[u8; MAX_HEADER_LEN - HEADER_LEN]>);

impl Options {
    /// Option octets to send, padded to a multiple of 4 with the end of the list.
    ///
    /// # Errors
    /// [`ParseError::Malformed`] for more than 40.
    pub fn new(octets: &[u8]) -> Result<Self, ParseError> {
        if octets.len() > MAX_HEADER_LEN - HEADER_LEN {
            return Err(ParseError::Malformed);
        }
        let mut padded = SmallVec::from_slice(octets);
        padded.resize(octets.len().next_multiple_of(4), option_kind::END);
        Ok(Self(padded))
    }

    /// All octets, padding included.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The options that every fragment of a packet has, not the first alone (RFC 791 3.1: the copied flag).
    pub fn copied(&self) -> Self {
        let mut octets = SmallVec::new();
        for option in self.iter().flatten() {
            if option.kind & COPIED != 0 {
                octets.extend_from_slice(&[option.kind, option.value.len() as u8 + 2]);
                octets.extend_from_slice(option.value);
            }
        }
        octets.resize(octets.len().next_multiple_of(4), option_kind::END);
        Self(octets)
    }

    /// The options in order, without padding; a malformed length is the last item.
    pub fn iter(&self) -> OptionIter<'_> {
        OptionIter {
            octets: &self.0,
            position: 0,
        }
    }
}

/// One option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpOption<'a> {
    /// Copied flag, class and number in one octet ([`option_kind`]).
    pub kind: u8,
    /// The octets behind kind and length.
    pub value: &'a [u8],
    /// Where it begins, in octets from the header's first: what a parameter problem points at.
    pub pointer: u8,
}

/// An option whose length cannot be one, which deserves a parameter problem (RFC 1122 3.2.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedOption {
    /// Where it begins, in octets from the header's first.
    pub pointer: u8,
}

/// The options of a header, in order. See [`Options::iter`].
#[derive(Clone, Debug)]
pub struct OptionIter<'a> {
    octets: &'a [u8],
    position: usize,
}

impl<'a> Iterator for OptionIter<'a> {
    type Item = Result<IpOption<'a>, MalformedOption>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = self.octets.get(self.position..)?;
            let pointer = (HEADER_LEN + self.position) as u8;
            match rest {
                [] | [option_kind::END, ..] => return None,
                [option_kind::NOP, ..] => self.position += 1,
                [kind, tail @ ..] => {
                    let value = tail.split_first().and_then(|(length, tail)| {
                        let value_len = usize::from(*length).checked_sub(2)?;
                        tail.get(..value_len)
                    });
                    let Some(value) = value else {
                        self.position = self.octets.len();
                        return Some(Err(MalformedOption { pointer }));
                    };
                    self.position += 2 + value.len();
                    return Some(Ok(IpOption {
                        kind: *kind,
                        value,
                        pointer,
                    }));
                }
            }
        }
    }
}

/// Option kinds (RFC 791 3.1; IANA).
pub mod option_kind {
    /// End of the list.
    pub const END: u8 = 0;
    /// No operation.
    pub const NOP: u8 = 1;
    /// Record route.
    pub const RECORD_ROUTE: u8 = 7;
    /// Internet timestamp.
    pub const TIMESTAMP: u8 = 68;
    /// Loose source and record route.
    pub const LOOSE_SOURCE_ROUTE: u8 = 131;
    /// Strict source and record route.
    pub const STRICT_SOURCE_ROUTE: u8 = 137;
    /// Router alert (RFC 2113).
    pub const ROUTER_ALERT: u8 = 148;
}

/// Where the header checksum lies, in octets.
pub const CHECKSUM_OFFSET: usize = 10;
/// The copied flag of an option's kind.
const COPIED: u8 = 0x80;
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// The rows of the drawing above, without options. Each packet's header is read and written so: field by field, the wide
/// loads that copy and sum it would have to wait for the narrow stores before.
fn words_of(fixed: &[u8; HEADER_LEN]) -> [u32; HEADER_LEN / 4] {
    let mut words = [0; HEADER_LEN / 4];
    for (word, octets) in words.iter_mut().zip(fixed.as_chunks().0) {
        *word = u32::from_be_bytes(*octets);
    }
    words
}

/// The checksum of a header whose field is 0; 0 when the field is filled in and right.
fn checksum(words: &[u32; HEADER_LEN / 4], options: &[u8]) -> u16 {
    let mut sum = Sum::new();
    for word in words {
        sum.add_u32(*word);
    }
    if !options.is_empty() {
        sum.add_bytes(options);
    }
    sum.finish()
}

#[cfg(test)]
mod tests;
