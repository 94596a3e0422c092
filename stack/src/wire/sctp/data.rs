//! DATA (RFC 9260 3.3.1, RFC 7053).
//!
//! ```text
//! +---------------+-------+-+-+-+-+-------------------------------+
//! |   Type = 0    |  Res  |I|U|B|E|            Length             |
//! +---------------+-------+-+-+-+-+-------------------------------+
//! |                              TSN                              |
//! +-------------------------------+-------------------------------+
//! |       Stream Identifier       |    Stream Sequence Number     |
//! +-------------------------------+-------------------------------+
//! |                  Payload Protocol Identifier                  |
//! +---------------------------------------------------------------+
//! |                          User Data  …                         |
//! ```

use std::ops::BitOr;

use bytes::Bytes;

use super::{CHUNK_HEADER_LEN, ChunkError, kind};

/// Octets before the user data.
pub const DATA_HEADER_LEN: usize = 16;

/// The flags of a DATA chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct DataFlags(u8);

impl DataFlags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// E: the last fragment of a message.
    pub const END: Self = Self(1);
    /// B: the first fragment of a message.
    pub const BEGINNING: Self = Self(2);
    /// U: the message is delivered without regard to order.
    pub const UNORDERED: Self = Self(4);
    /// I: the receiver is asked not to delay its SACK (RFC 7053).
    pub const IMMEDIATE: Self = Self(8);

    /// Whether all flags of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those that have a meaning, from the octet on the wire.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & 0xf)
    }
}

impl BitOr for DataFlags {
    type Output = Self;
    fn bitor(self, rhs: Self) -> Self {
        Self(self.0 | rhs.0)
    }
}

/// Everything of a DATA chunk but the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DataHeader {
    /// Transmission sequence number.
    pub tsn: u32,
    /// Stream identifier.
    pub stream: u16,
    /// Stream sequence number; means nothing in an unordered message.
    pub ssn: u16,
    /// Payload protocol identifier, the application's.
    pub ppid: u32,
    /// The flags.
    pub flags: DataFlags,
}

impl DataHeader {
    /// Reads it from a chunk's first octets.
    pub(super) fn parse(octets: &[u8; DATA_HEADER_LEN]) -> Self {
        let word = |at: usize| {
            u32::from_be_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
        };
        Self {
            tsn: word(4),
            stream: (word(8) >> 16) as u16,
            ssn: word(8) as u16,
            ppid: word(12),
            flags: DataFlags::from_bits(octets[1]),
        }
    }

    /// The octets before `len` octets of data.
    pub fn emit(&self, len: usize) -> [u8; DATA_HEADER_LEN] {
        let mut octets = [0; DATA_HEADER_LEN];
        octets[0] = kind::DATA;
        octets[1] = self.flags.0;
        octets[2..4].copy_from_slice(&((DATA_HEADER_LEN + len) as u16).to_be_bytes());
        octets[4..8].copy_from_slice(&self.tsn.to_be_bytes());
        octets[8..10].copy_from_slice(&self.stream.to_be_bytes());
        octets[10..12].copy_from_slice(&self.ssn.to_be_bytes());
        octets[12..].copy_from_slice(&self.ppid.to_be_bytes());
        octets
    }
}

/// A DATA chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// The header.
    pub header: DataHeader,
    /// At least one octet of user data, without the padding.
    pub payload: Bytes,
}

impl Data {
    /// Checks the length that a chunk's header claims.
    pub(super) fn check_len(len: usize, header: &DataHeader) -> Result<(), ChunkError> {
        match len.checked_sub(DATA_HEADER_LEN) {
            None => Err(ChunkError::Length),
            Some(0) => Err(ChunkError::NoUserData { tsn: header.tsn }),
            Some(_) => Ok(()),
        }
    }
}

const _: () = assert!(DATA_HEADER_LEN == CHUNK_HEADER_LEN + 12);
