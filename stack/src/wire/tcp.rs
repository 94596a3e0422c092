//! The TCP header and its options (RFC 9293 3.1, 3.2; RFC 7323; RFC 2018).
//!
//! Owns the octets of the header and which options a receiver heeds; leaves the checksum, which covers the data too,
//! to the engine, and the meaning of every field to `tcp`.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------------------------------+-------------------------------+
//! |          Source port          |       Destination port        |
//! +-------------------------------+-------------------------------+
//! |                        Sequence number                        |
//! +---------------------------------------------------------------+
//! |                    Acknowledgment number                      |
//! +-------+-------+---------------+-------------------------------+
//! | Offset|  Rsv  |     Flags     |            Window             |
//! +-------+-------+---------------+-------------------------------+
//! |           Checksum            |        Urgent pointer         |
//! +-------------------------------+-------------------------------+
//! |                   Options, 0 to 40 octets                     |
//! +---------------------------------------------------------------+
//! ```

use smallvec::SmallVec;
use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::wire::ParseError;

/// TCP control bits (RFC 9293 3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronize sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgment field is significant.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer is significant.
    pub const URG: Self = Self(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Self = Self(0x80);

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl std::ops::BitOr for Flags {
    type Output = Self;
    fn bitor(self, rhs: Self) -> Self {
        Self(self.0 | rhs.0)
    }
}

impl std::ops::BitOrAssign for Flags {
    fn bitor_assign(&mut self, rhs: Self) {
        self.0 |= rhs.0;
    }
}

impl std::fmt::Debug for Flags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = [
            (Self::SYN, 'S'),
            (Self::FIN, 'F'),
            (Self::RST, 'R'),
            (Self::PSH, 'P'),
            (Self::ACK, '.'),
            (Self::URG, 'U'),
            (Self::ECE, 'E'),
            (Self::CWR, 'W'),
        ];
        let text: String = names
            .iter()
            .filter(|(flag, _)| self.contains(*flag))
            .map(|(_, c)| *c)
            .collect();
        write!(f, "[{text}]")
    }
}

/// The timestamps option (RFC 7323 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Timestamps {
    /// The sender's clock.
    pub value: u32,
    /// The value being echoed; 0 when ACK is not set.
    pub echo: u32,
}

/// The options in use. Unknown ones are skipped.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Options {
    /// Maximum segment size, in a SYN (RFC 9293 3.7.1).
    pub mss: Option<u16>,
    /// Window shift count, in a SYN (RFC 7323 2.2), as it was sent (up to 255; the user caps it at 14).
    pub window_scale: Option<u8>,
    /// SACK permitted, in a SYN (RFC 2018 2).
    pub sack_permitted: bool,
    /// Timestamps (RFC 7323 3).
    pub timestamps: Option<Timestamps>,
    /// SACK blocks as (left edge, right edge), at most four (RFC 2018 3).
    pub sack: SmallVec<[(u32, u32); 4]>,
}

/// A TCP header as a value.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Header {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Sequence number of the first octet, or of the SYN.
    pub sequence: u32,
    /// The next sequence number expected; meaningful with [`Flags::ACK`].
    pub acknowledgment: u32,
    /// Control bits.
    pub flags: Flags,
    /// Window as on the wire, unscaled.
    pub window: u16,
    /// Urgent pointer; meaningful with [`Flags::URG`].
    pub urgent: u16,
    /// Options.
    pub options: Options,
}

/// Octets of the fixed part of the header.
pub const HEADER_LEN: usize = 20;
/// Most octets a header may have, options included: the data offset counts up to 15 words.
pub const MAX_HEADER_LEN: usize = 60;
/// Where the checksum lies in the header, in octets.
pub const CHECKSUM_OFFSET: usize = 16;

impl Header {
    /// Reads a header; gives it with its length in octets, options included, where the data begins.
    ///
    /// The checksum is not looked at. Options are read as Linux reads them: unknown ones, and known ones whose length
    /// is wrong, are skipped; a length that cannot be one ends the reading, and the header is still good. MSS, window
    /// scale and SACK permitted count in a SYN only (RFC 9293 3.2, RFC 7323 2.2, RFC 2018 2).
    ///
    /// # Errors
    /// [`ParseError::Truncated`] when there are fewer octets than the data offset says, [`ParseError::Malformed`]
    /// when it says less than the fixed part.
    pub fn parse(octets: &[u8]) -> Result<(Self, usize), ParseError> {
        let (layout, rest) = Layout::ref_from_prefix(octets).map_err(|_| ParseError::Truncated)?;
        let header_len = usize::from(layout.data_offset >> 4) * 4;
        let options_len = header_len
            .checked_sub(HEADER_LEN)
            .ok_or(ParseError::Malformed)?;
        let options = rest.get(..options_len).ok_or(ParseError::Truncated)?;
        let flags = Flags(layout.flags);
        let header = Self {
            source_port: layout.source_port.get(),
            destination_port: layout.destination_port.get(),
            sequence: layout.sequence.get(),
            acknowledgment: layout.acknowledgment.get(),
            flags,
            window: layout.window.get(),
            urgent: layout.urgent.get(),
            options: Options::parse(options, flags),
        };
        Ok((header, header_len))
    }

    /// Octets that [`Self::emit`] writes, a multiple of 4.
    pub fn encoded_len(&self) -> usize {
        HEADER_LEN + self.options.encoded_len()
    }

    /// Writes the header into the front of `buffer`, the checksum as 0.
    ///
    /// Options go out in Linux's order. SACK blocks beyond [`Options::sack_capacity`] are left out.
    ///
    /// # Panics
    /// When `buffer` is shorter than [`Self::encoded_len`].
    pub fn emit(&self, buffer: &mut [u8]) {
        let header_len = self.encoded_len();
        let layout = Layout {
            source_port: self.source_port.into(),
            destination_port: self.destination_port.into(),
            sequence: self.sequence.into(),
            acknowledgment: self.acknowledgment.into(),
            data_offset: ((header_len / 4) as u8) << 4,
            flags: self.flags.0,
            window: self.window.into(),
            checksum: U16::ZERO,
            urgent: self.urgent.into(),
        };
        let (fixed, options) = buffer[..header_len].split_at_mut(HEADER_LEN);
        fixed.copy_from_slice(layout.as_bytes());
        self.options.emit(options);
    }
}

impl Options {
    /// How many SACK blocks fit beside the other options: 4 alone, 3 with timestamps (RFC 2018 3).
    pub fn sack_capacity(&self) -> usize {
        (MAX_HEADER_LEN - HEADER_LEN - self.fixed_len()).saturating_sub(4) / 8
    }

    /// Octets that the options take in a header, padding included.
    pub fn encoded_len(&self) -> usize {
        let blocks = self.sack.len().min(self.sack_capacity());
        self.fixed_len() + if blocks > 0 { 4 + 8 * blocks } else { 0 }
    }

    /// Octets of all but the SACK blocks. SACK permitted takes the place of the padding before the timestamps.
    fn fixed_len(&self) -> usize {
        let mss = if self.mss.is_some() { 4 } else { 0 };
        let timestamps = if self.timestamps.is_some() { 12 } else { 0 };
        let sack_permitted = if self.sack_permitted && timestamps == 0 {
            4
        } else {
            0
        };
        let window_scale = if self.window_scale.is_some() { 4 } else { 0 };
        mss + timestamps + sack_permitted + window_scale
    }

    fn parse(octets: &[u8], flags: Flags) -> Self {
        if let [kind::NOP, kind::NOP, kind::TIMESTAMPS, 10, value @ ..] = octets
            && let Ok(value) = <&[u8; 8]>::try_from(value)
        {
            // Nearly every segment of an established connection; worth its own way (RFC 7323, appendix A).
            return Self {
                timestamps: Some(Timestamps::parse(value)),
                ..Self::default()
            };
        }
        let mut options = Self::default();
        let mut rest = octets;
        loop {
            match rest {
                [kind::END, ..] | [] => return options,
                [kind::NOP, tail @ ..] => rest = tail,
                [kind, length, tail @ ..] => {
                    let Some(value) = usize::from(*length)
                        .checked_sub(2)
                        .and_then(|len| tail.get(..len))
                    else {
                        return options;
                    };
                    options.read_option(*kind, value, flags.contains(Flags::SYN));
                    rest = &tail[value.len()..];
                }
                [_] => return options,
            }
        }
    }

    fn read_option(&mut self, kind: u8, value: &[u8], is_syn: bool) {
        match (kind, value) {
            (kind::MSS, &[high, low]) if is_syn => {
                // An MSS of 0 says nothing; the default of RFC 9293 3.7.1 serves, as in Linux.
                self.mss = Some(u16::from_be_bytes([high, low])).filter(|mss| *mss != 0);
            }
            (kind::WINDOW_SCALE, &[shift]) if is_syn => self.window_scale = Some(shift),
            (kind::SACK_PERMITTED, []) if is_syn => self.sack_permitted = true,
            (kind::TIMESTAMPS, value) => {
                if let Ok(value) = <&[u8; 8]>::try_from(value) {
                    self.timestamps = Some(Timestamps::parse(value));
                }
            }
            (kind::SACK, value) => {
                let (blocks, remainder) = value.as_chunks::<8>();
                if !blocks.is_empty() && remainder.is_empty() {
                    self.sack = blocks.iter().map(read_u32_pair).collect();
                }
            }
            _ => {}
        }
    }

    /// Writes the options over the whole of `buffer`, whose length is [`Self::encoded_len`].
    fn emit(&self, buffer: &mut [u8]) {
        let mut rest = buffer;
        if let Some(mss) = self.mss {
            let [high, low] = mss.to_be_bytes();
            rest = put(rest, [kind::MSS, 4, high, low]);
        }
        if let Some(timestamps) = self.timestamps {
            let before = if self.sack_permitted {
                [kind::SACK_PERMITTED, 2]
            } else {
                [kind::NOP; 2]
            };
            rest = put(rest, [before[0], before[1], kind::TIMESTAMPS, 10]);
            rest = put(rest, timestamps.value.to_be_bytes());
            rest = put(rest, timestamps.echo.to_be_bytes());
        } else if self.sack_permitted {
            rest = put(rest, [kind::NOP, kind::NOP, kind::SACK_PERMITTED, 2]);
        }
        if let Some(shift) = self.window_scale {
            rest = put(rest, [kind::NOP, kind::WINDOW_SCALE, 3, shift]);
        }
        let blocks = self.sack.len().min(self.sack_capacity());
        if blocks > 0 {
            let length = 2 + 8 * blocks as u8;
            rest = put(rest, [kind::NOP, kind::NOP, kind::SACK, length]);
            for (left, right) in &self.sack[..blocks] {
                rest = put(rest, left.to_be_bytes());
                rest = put(rest, right.to_be_bytes());
            }
        }
        debug_assert!(rest.is_empty(), "encoded_len and emit agree");
    }
}

impl Timestamps {
    fn parse(octets: &[u8; 8]) -> Self {
        let (value, echo) = read_u32_pair(octets);
        Self { value, echo }
    }
}

/// The fixed part as it lies on the wire (RFC 9293 3.1).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    source_port: U16,
    destination_port: U16,
    sequence: U32,
    acknowledgment: U32,
    /// The high four bits count words; the low four are reserved, sent as 0 and ignored.
    data_offset: u8,
    flags: u8,
    window: U16,
    checksum: U16,
    urgent: U16,
}

/// Option kinds (IANA, TCP parameters).
mod kind {
    pub(super) const END: u8 = 0;
    pub(super) const NOP: u8 = 1;
    pub(super) const MSS: u8 = 2;
    pub(super) const WINDOW_SCALE: u8 = 3;
    pub(super) const SACK_PERMITTED: u8 = 4;
    pub(super) const SACK: u8 = 5;
    pub(super) const TIMESTAMPS: u8 = 8;
}

fn read_u32_pair(octets: &[u8; 8]) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = *octets;
    (
        u32::from_be_bytes([a, b, c, d]),
        u32::from_be_bytes([e, f, g, h]),
    )
}

/// Writes `octets` at the front of `buffer` and gives what lies behind.
fn put(buffer: &mut [u8], octets: [u8; 4]) -> &mut [u8] {
    let (front, rest) = buffer.split_at_mut(octets.len());
    front.copy_from_slice(&octets);
    rest
}

#[cfg(test)]
mod tests;
