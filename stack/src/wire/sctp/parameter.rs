//! Parameters, and everything else that has a 16-bit type and a 16-bit length (RFC 9260 3.2.1).
//!
//! ```text
//! +-------------------------------+-------------------------------+
//! |        Parameter Type         |       Parameter Length        |  length with this header, without the padding
//! +-------------------------------+-------------------------------+
//! |                     Parameter Value  …                        |
//! ```

use bytes::{BufMut, Bytes, BytesMut};

use super::{ChunkError, UnknownAction, padded};

/// Heartbeat Info (3.3.5).
pub(super) const HEARTBEAT_INFO: u16 = 1;
/// IPv4 Address (3.3.2.1.1).
pub(super) const IPV4_ADDRESS: u16 = 5;
/// IPv6 Address (3.3.2.1.2).
pub(super) const IPV6_ADDRESS: u16 = 6;
/// State Cookie (3.3.3.1.1).
pub(super) const STATE_COOKIE: u16 = 7;
/// Unrecognized Parameter (3.3.3.1.2).
pub(super) const UNRECOGNIZED_PARAMETER: u16 = 8;
/// Cookie Preservative (3.3.2.1.3).
pub(super) const COOKIE_PRESERVATIVE: u16 = 9;
/// Host Name Address (3.3.2.1.4).
pub(super) const HOST_NAME_ADDRESS: u16 = 11;
/// Supported Address Types (3.3.2.1.5).
pub(super) const SUPPORTED_ADDRESS_TYPES: u16 = 12;

/// Octets before the value.
pub(super) const HEADER_LEN: usize = 4;

/// One parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its type.
    pub kind: u16,
    /// Its value, without the padding.
    pub value: Bytes,
}

impl Parameter {
    /// What the sender wants done with it by a receiver that does not know it.
    pub const fn action(&self) -> UnknownAction {
        UnknownAction::of_parameter(self.kind)
    }

    /// Octets it takes, header and padding included.
    pub fn emitted_len(&self) -> usize {
        padded(HEADER_LEN + self.value.len())
    }

    /// Appends it, padded.
    pub fn emit(&self, buffer: &mut BytesMut) {
        emit(buffer, self.kind, &self.value);
    }
}

/// Appends a parameter, padded. The value is at most 65,531 octets long.
pub(super) fn emit(buffer: &mut BytesMut, kind: u16, value: &[u8]) {
    buffer.put_u16(kind);
    buffer.put_u16((HEADER_LEN + value.len()) as u16);
    buffer.put_slice(value);
    buffer.put_bytes(0, padded(value.len()) - value.len());
}

/// Walks parameters. Ends at the end or behind the first error.
///
/// The last parameter's padding may be missing: the chunk's length does not count it (3.2).
#[derive(Clone, Debug)]
pub struct Parameters(Bytes);

impl Parameters {
    /// All of `octets` as parameters.
    pub const fn new(octets: Bytes) -> Self {
        Self(octets)
    }
}

impl Iterator for Parameters {
    type Item = Result<Parameter, ChunkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let header: Option<[u8; HEADER_LEN]> = self.0.first_chunk().copied();
        let Some([kind_high, kind_low, len_high, len_low]) = header else {
            self.0 = Bytes::new();
            return Some(Err(ChunkError::Length));
        };
        let len = usize::from(u16::from_be_bytes([len_high, len_low]));
        if len < HEADER_LEN || len > self.0.len() {
            self.0 = Bytes::new();
            return Some(Err(ChunkError::Length));
        }
        let mut whole = self.0.split_to(padded(len).min(self.0.len()));
        whole.truncate(len);
        Some(Ok(Parameter {
            kind: u16::from_be_bytes([kind_high, kind_low]),
            value: whole.split_off(HEADER_LEN),
        }))
    }
}
