//! What IGMPv3 and MLDv2 have in common: group records, of which reports are lists (RFC 3376 4.2.4, RFC 3810 5.2.4), and
//! the end of a query (RFC 3376 4.1.5 to 4.1.9, RFC 3810 5.1.7 to 5.1.11). The layout is the same but for the size of an
//! address, `N` octets. A record:
//!
//! ```text
//! +---------------+---------------+-------------------------------+
//! |  Record type  | Aux data, × 4 |       Number of sources       |
//! +---------------+---------------+-------------------------------+
//! |  Group, N octets                                              |
//! |  Sources, N octets each                                       |
//! |  Auxiliary data, which means nothing                          |
//! +---------------------------------------------------------------+
//! ```

use crate::wire::ParseError;

/// What a query of the newest version has behind its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct QueryTail<'a, const N: usize> {
    /// Routers are not to take it into account (S).
    pub suppress: bool,
    /// The querier's robustness variable (QRV), 0 to 7, 0 if unknown.
    pub robustness: u8,
    /// The time between general queries as it is sent (QQIC).
    pub interval_code: u8,
    /// The sources that are asked for, none for all; at most 65,535.
    pub sources: &'a [[u8; N]],
}

impl<'a, const N: usize> QueryTail<'a, N> {
    /// Reads it; `octets` are behind the group. What is behind the sources means nothing (RFC 3376 4.1.10).
    ///
    /// # Errors
    /// [`ParseError::Malformed`] for fewer octets than any version has, [`ParseError::Truncated`] when sources are
    /// missing.
    pub fn parse(octets: &'a [u8]) -> Result<Self, ParseError> {
        let (&[flags, interval_code, high, low], rest) = octets
            .split_first_chunk::<FIXED_LEN>()
            .ok_or(ParseError::Malformed)?;
        let count = usize::from(u16::from_be_bytes([high, low]));
        let sources = rest.get(..count * N).ok_or(ParseError::Truncated)?;
        Ok(Self {
            suppress: flags & 8 != 0,
            robustness: flags & 7,
            interval_code,
            sources: sources.as_chunks().0,
        })
    }

    /// Octets that [`Self::emit`] writes.
    pub const fn encoded_len(&self) -> usize {
        FIXED_LEN + N * self.sources.len()
    }

    /// Writes it into `buffer`, which has [`Self::encoded_len`] octets.
    ///
    /// # Panics
    /// When it has not.
    pub fn emit(&self, buffer: &mut [u8]) {
        let (fixed, sources) = buffer.split_at_mut(FIXED_LEN);
        fixed[0] = u8::from(self.suppress) << 3 | self.robustness & 7;
        fixed[1] = self.interval_code;
        fixed[2..].copy_from_slice(&(self.sources.len() as u16).to_be_bytes());
        sources.copy_from_slice(self.sources.as_flattened());
    }
}

/// Octets of a record before its group, and of a query before its sources.
const FIXED_LEN: usize = 4;

/// What a record says of a group (RFC 3376 4.2.12, RFC 3810 5.2.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// The sources that are listened to.
    IsInclude = 1,
    /// The sources that are not listened to.
    IsExclude = 2,
    /// From now on these sources alone are listened to.
    ToInclude = 3,
    /// From now on all but these sources are listened to.
    ToExclude = 4,
    /// These sources too are listened to.
    AllowNew = 5,
    /// These sources are listened to no more.
    BlockOld = 6,
}

impl RecordKind {
    const fn from_octet(octet: u8) -> Option<Self> {
        Some(match octet {
            1 => Self::IsInclude,
            2 => Self::IsExclude,
            3 => Self::ToInclude,
            4 => Self::ToExclude,
            5 => Self::AllowNew,
            6 => Self::BlockOld,
            _ => return None,
        })
    }
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Record<'a, const N: usize> {
    /// What it says.
    pub kind: RecordKind,
    /// Of which group.
    pub group: [u8; N],
    /// The sources it says it of; at most 65,535.
    pub sources: &'a [[u8; N]],
}

impl<const N: usize> Record<'_, N> {
    /// Octets that [`Self::emit`] writes.
    pub const fn encoded_len(&self) -> usize {
        encoded_len(N, self.sources.len())
    }

    /// Writes the record into the front of `buffer`.
    ///
    /// # Panics
    /// When `buffer` is shorter than [`Self::encoded_len`].
    pub fn emit(&self, buffer: &mut [u8]) {
        let (fixed, rest) = buffer[..self.encoded_len()].split_at_mut(FIXED_LEN);
        fixed[0] = self.kind as u8;
        fixed[1] = 0;
        fixed[2..].copy_from_slice(&(self.sources.len() as u16).to_be_bytes());
        let (group, sources) = rest.split_at_mut(N);
        group.copy_from_slice(&self.group);
        sources.copy_from_slice(self.sources.as_flattened());
    }
}

/// Octets of a record of `sources` sources without auxiliary data, where an address has `address_len` octets.
pub const fn encoded_len(address_len: usize, sources: usize) -> usize {
    FIXED_LEN + address_len + address_len * sources
}

/// The records of a report, in order. Those of a kind that is not known are left out (RFC 3376 4.2.12: ignored).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Records<'a, const N: usize> {
    /// Whole records, as many as the report has.
    octets: &'a [u8],
}

impl<'a, const N: usize> Records<'a, N> {
    /// `count` records at the front of `octets`; what is behind them means nothing (RFC 3376 4.2.11).
    ///
    /// # Errors
    /// [`ParseError::Truncated`] when they are not all there.
    pub fn parse(octets: &'a [u8], count: u16) -> Result<Self, ParseError> {
        let mut rest = octets;
        for _ in 0..count {
            let (len, ..) = split::<N>(rest).ok_or(ParseError::Truncated)?;
            rest = &rest[len..];
        }
        Ok(Self {
            octets: &octets[..octets.len() - rest.len()],
        })
    }
}

impl<'a, const N: usize> Iterator for Records<'a, N> {
    type Item = Record<'a, N>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (len, kind, group, sources) = split::<N>(self.octets)?;
            self.octets = &self.octets[len..];
            if let Some(kind) = RecordKind::from_octet(kind) {
                return Some(Record {
                    kind,
                    group,
                    sources,
                });
            }
        }
    }
}

type Split<'a, const N: usize> = (usize, u8, [u8; N], &'a [[u8; N]]);

/// The length of the record at the front, its kind, its group and its sources.
fn split<const N: usize>(octets: &[u8]) -> Option<Split<'_, N>> {
    let (&[kind, aux, high, low], rest) = octets.split_first_chunk::<FIXED_LEN>()?;
    let (group, rest) = rest.split_first_chunk::<N>()?;
    let count = usize::from(u16::from_be_bytes([high, low]));
    let (sources, _) = rest.get(..count * N)?.as_chunks::<N>();
    let len = encoded_len(N, count) + usize::from(aux) * 4;
    (octets.len() >= len).then_some((len, kind, *group, sources))
}

/// Writes `records` one behind the other into the front of `buffer`.
///
/// # Panics
/// When `buffer` is shorter than all of them.
pub fn emit_all<const N: usize>(records: &[Record<'_, N>], buffer: &mut [u8]) {
    let mut at = 0;
    for record in records {
        record.emit(&mut buffer[at..]);
        at += record.encoded_len();
    }
}

/// A time as a query has it in 8 bits (RFC 3376 4.1.1, 4.1.7): above 127 a mantissa of 4 bits and an exponent of 3.
pub const fn decode_8_bits(code: u8) -> u32 {
    if code < 0x80 {
        return code as u32;
    }
    (code as u32 & 0x0f | 0x10) << ((code >> 4 & 7) + 3)
}

/// A time as MLDv2 has it in 16 bits (RFC 3810 5.1.3): above 32,767 a mantissa of 12 bits and an exponent of 3.
pub const fn decode_16_bits(code: u16) -> u32 {
    if code < 0x8000 {
        return code as u32;
    }
    (code as u32 & 0x0fff | 0x1000) << ((code >> 12 & 7) + 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_mantissa_and_an_exponent() {
        // RFC 3376 4.1.1, 4.1.7; RFC 3810 5.1.3.
        let cases = [
            (0, 0),
            (0x7f, 127),
            (0x80, 128),
            (0x8f, 248),
            (0xff, 31_744),
        ];
        for (code, expected) in cases {
            assert_eq!(decode_8_bits(code), expected, "{code:#x}");
        }
        let cases = [
            (0, 0),
            (0x7fff, 32_767),
            (0x8000, 32_768),
            (0xffff, 8_387_584),
        ];
        for (code, expected) in cases {
            assert_eq!(decode_16_bits(code), expected, "{code:#x}");
        }
    }

    #[test]
    fn auxiliary_data_and_unknown_kinds_are_passed_over() {
        // Kind 9 with one word of auxiliary data, then BLOCK_OLD_SOURCES of one source, then what no count covers.
        let octets = [
            9, 1, 0, 0, 239, 0, 0, 1, 0xaa, 0xbb, 0xcc, 0xdd, //
            6, 0, 0, 1, 239, 0, 0, 2, 10, 0, 0, 9, //
            1, 0,
        ];
        let records: Vec<_> = Records::<4>::parse(&octets, 2).unwrap().collect();
        let expected = Record {
            kind: RecordKind::BlockOld,
            group: [239, 0, 0, 2],
            sources: &[[10, 0, 0, 9]],
        };
        assert_eq!(records, [expected]);
        for (len, count) in [(26, 3), (23, 2), (11, 1), (3, 1)] {
            let result = Records::<4>::parse(&octets[..len], count);
            assert_eq!(result, Err(ParseError::Truncated), "{len} {count}");
        }
    }
}
