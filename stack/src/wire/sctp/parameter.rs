//! Parameters, and everything else that has a 16-bit type and a 16-bit length (RFC 9260 3.2.1).
//!
//! ```text
//! +-------------------------------+-------------------------------+
//! |        Parameter Type         |       Parameter Length        |  length with this header, without the padding
//! +-------------------------------+-------------------------------+
//! |                     Parameter Value  …                        |
//! ```

use std::net::IpAddr;

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
    /// An address.
    pub fn address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self {
                kind: IPV4_ADDRESS,
                value: Bytes::copy_from_slice(&v4.octets()),
            },
            IpAddr::V6(v6) => Self {
                kind: IPV6_ADDRESS,
                value: Bytes::copy_from_slice(&v6.octets()),
            },
        }
    }

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

/// Gives the type and value of an address's parameter.
pub(super) fn give_address(address: IpAddr, give: impl FnOnce(u16, &[u8])) {
    match address {
        IpAddr::V4(v4) => give(IPV4_ADDRESS, &v4.octets()),
        IpAddr::V6(v6) => give(IPV6_ADDRESS, &v6.octets()),
    }
}

/// Walks parameters. Ends at the end or behind the first error.
///
/// The last parameter's padding may be missing: the chunk's length does not count it (3.2).
#[derive(Clone, Debug)]
pub struct Parameters {
    octets: Bytes,
    /// Octets that have been walked.
    at: usize,
}

impl Parameters {
    /// All of `octets` as parameters.
    pub const fn new(octets: Bytes) -> Self {
        Self { octets, at: 0 }
    }
}

impl Iterator for Parameters {
    type Item = Result<Parameter, ChunkError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = RawParameters(&self.octets[self.at..]);
        let parameter = rest.next()?;
        self.at = self.octets.len() - rest.0.len();
        Some(parameter.map(|RawParameter { kind, whole }| Parameter {
            kind,
            value: self.octets.slice_ref(&whole[HEADER_LEN..]),
        }))
    }
}

/// One parameter where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RawParameter<'a> {
    /// Its type.
    pub(super) kind: u16,
    /// All of it, header included and padding not.
    pub(super) whole: &'a [u8],
}

impl<'a> RawParameter<'a> {
    /// Its value.
    pub(super) fn value(&self) -> &'a [u8] {
        &self.whole[HEADER_LEN..]
    }
}

/// As [`Parameters`], but counts no references: a hostile chunk may hold 16,000.
#[derive(Clone, Debug)]
pub(super) struct RawParameters<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for RawParameters<'a> {
    type Item = Result<RawParameter<'a>, ChunkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let octets = std::mem::take(&mut self.0);
        let Some(&[kind_high, kind_low, len_high, len_low]) = octets.first_chunk() else {
            return Some(Err(ChunkError::Length));
        };
        let len = usize::from(u16::from_be_bytes([len_high, len_low]));
        let Some(whole) = octets.get(..len).filter(|whole| whole.len() >= HEADER_LEN) else {
            return Some(Err(ChunkError::Length));
        };
        self.0 = octets.get(padded(len)..).unwrap_or_default();
        Some(Ok(RawParameter {
            kind: u16::from_be_bytes([kind_high, kind_low]),
            whole,
        }))
    }
}
