//! SCTP packets (RFC 9260 3): the common header, and the chunks behind it.
//!
//! [`PacketReader`] walks the chunks of a received packet, [`PacketBuilder`] builds one to send. Neither knows of
//! associations: which chunk may come when, and what is answered, is `sctp/`'s matter. The checksum is verified
//! before reading and filled in by the builder (`tidewire_netdev::crc32c`).
//!
//! ```text
//! +-------------------------------+-------------------------------+
//! |          Source Port          |       Destination Port        |
//! +-------------------------------+-------------------------------+
//! |                       Verification Tag                        |
//! +---------------------------------------------------------------+
//! |                           Checksum                            |
//! +---------------+---------------+-------------------------------+
//! |  Chunk Type   |  Chunk Flags  |         Chunk Length          |  length without the padding that follows
//! +---------------+---------------+-------------------------------+
//! |                          Chunk Value  …                       |
//! ```

mod builder;
mod cause;
mod data;
mod init;
mod parameter;
mod reader;
mod sack;

#[cfg(test)]
mod tests;

pub use builder::PacketBuilder;
pub use cause::{Causes, ErrorCause};
pub use data::{DATA_HEADER_LEN, Data, DataFlags, DataHeader};
pub use init::{AddressTypes, Init, InitParameters};
pub use parameter::{Parameter, Parameters};
pub use reader::PacketReader;
pub use sack::{GapBlock, Sack};

use bytes::Bytes;

use crate::wire::ParseError;

/// Octets of the common header.
pub const COMMON_HEADER_LEN: usize = 12;
/// Octets of a chunk's header.
pub const CHUNK_HEADER_LEN: usize = 4;

/// Chunk types (RFC 9260 3.2, table 1).
pub mod kind {
    /// DATA.
    pub const DATA: u8 = 0;
    /// INIT.
    pub const INIT: u8 = 1;
    /// INIT ACK.
    pub const INIT_ACK: u8 = 2;
    /// SACK.
    pub const SACK: u8 = 3;
    /// HEARTBEAT.
    pub const HEARTBEAT: u8 = 4;
    /// HEARTBEAT ACK.
    pub const HEARTBEAT_ACK: u8 = 5;
    /// ABORT.
    pub const ABORT: u8 = 6;
    /// SHUTDOWN.
    pub const SHUTDOWN: u8 = 7;
    /// SHUTDOWN ACK.
    pub const SHUTDOWN_ACK: u8 = 8;
    /// ERROR.
    pub const ERROR: u8 = 9;
    /// COOKIE ECHO.
    pub const COOKIE_ECHO: u8 = 10;
    /// COOKIE ACK.
    pub const COOKIE_ACK: u8 = 11;
    /// SHUTDOWN COMPLETE.
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// The common header, but for the checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CommonHeader {
    /// The sender's port; 0 is not valid (RFC 9260 3.1).
    pub source_port: u16,
    /// The receiver's port; 0 is not valid.
    pub destination_port: u16,
    /// The tag that the receiver chose; 0 in a packet with an INIT.
    pub verification_tag: u32,
}

impl CommonHeader {
    /// Reads it from the front of a packet.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] for fewer than 12 octets, [`ParseError::Malformed`] for a port of 0.
    pub fn parse(octets: &[u8]) -> Result<Self, ParseError> {
        let octets: &[u8; COMMON_HEADER_LEN] = octets.first_chunk().ok_or(ParseError::Truncated)?;
        let header = Self {
            source_port: u16::from_be_bytes([octets[0], octets[1]]),
            destination_port: u16::from_be_bytes([octets[2], octets[3]]),
            verification_tag: u32::from_be_bytes([octets[4], octets[5], octets[6], octets[7]]),
        };
        if header.source_port == 0 || header.destination_port == 0 {
            return Err(ParseError::Malformed);
        }
        Ok(header)
    }

    /// Its octets, with a checksum of 0.
    pub fn emit(&self) -> [u8; COMMON_HEADER_LEN] {
        let mut octets = [0; COMMON_HEADER_LEN];
        octets[..2].copy_from_slice(&self.source_port.to_be_bytes());
        octets[2..4].copy_from_slice(&self.destination_port.to_be_bytes());
        octets[4..8].copy_from_slice(&self.verification_tag.to_be_bytes());
        octets
    }
}

/// What a receiver does with a chunk or parameter it does not know: the two highest bits of its type (RFC 9260 3.2,
/// 3.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UnknownAction {
    /// Nothing behind it is processed.
    pub stop: bool,
    /// The peer is told.
    pub report: bool,
}

impl UnknownAction {
    /// For a chunk of this type.
    pub const fn of_chunk(kind: u8) -> Self {
        Self {
            stop: kind & 0x80 == 0,
            report: kind & 0x40 != 0,
        }
    }

    /// For a parameter of this type.
    pub const fn of_parameter(kind: u16) -> Self {
        Self::of_chunk((kind >> 8) as u8)
    }
}

/// A chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// User data (3.3.1).
    Data(Data),
    /// The first chunk of an association (3.3.2).
    Init(Init),
    /// Its answer, with a State Cookie (3.3.3).
    InitAck(Init),
    /// Selective acknowledgement (3.3.4).
    Sack(Sack),
    /// The sender's heartbeat information, which only it understands (3.3.5).
    Heartbeat(Bytes),
    /// The same information, sent back (3.3.6).
    HeartbeatAck(Bytes),
    /// The end of an association (3.3.7).
    Abort {
        /// T bit: the sender has no association and reflects the tag it received (8.5.1).
        tag_reflected: bool,
        /// Why.
        causes: Causes,
    },
    /// The sender has no more data (3.3.8).
    Shutdown {
        /// Everything up to this TSN has arrived.
        cumulative_tsn_ack: u32,
    },
    /// The answer to SHUTDOWN (3.3.9).
    ShutdownAck,
    /// Errors that do not end the association (3.3.10).
    Error(Causes),
    /// The State Cookie, sent back (3.3.11).
    CookieEcho(Bytes),
    /// The association is established (3.3.12).
    CookieAck,
    /// The answer to SHUTDOWN ACK (3.3.13).
    ShutdownComplete {
        /// T bit, as in [`Self::Abort`].
        tag_reflected: bool,
    },
    /// A chunk of another type.
    Unknown(UnknownChunk),
}

/// A chunk of a type that is not known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownChunk {
    /// Its type.
    pub kind: u8,
    /// All of it, header included and padding not: what a report quotes (3.3.10.6).
    pub whole: Bytes,
}

impl UnknownChunk {
    /// What the sender wants done with it.
    pub const fn action(&self) -> UnknownAction {
        UnknownAction::of_chunk(self.kind)
    }
}

/// A chunk whose contents are not what its type says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadChunk {
    /// Its type.
    pub kind: u8,
    /// What is wrong.
    pub error: ChunkError,
}

/// What is wrong with a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkError {
    /// Its length is under 4, beyond the packet, or too small or large for its type: a protocol violation.
    Length,
    /// A DATA chunk without data (3.3.10.9).
    NoUserData {
        /// Its TSN.
        tsn: u32,
    },
    /// A field or parameter has a value that is not allowed: an initiate tag of 0, no streams, a parameter whose length
    /// its type does not have (3.3.10.7).
    Value,
    /// An INIT ACK without a State Cookie (3.3.10.2).
    MissingCookie,
}

impl Chunk {
    /// The T bit of ABORT and SHUTDOWN COMPLETE.
    const TAG_REFLECTED: u8 = 1;

    /// Reads a chunk from its header and value, the padding taken off.
    fn parse(kind: u8, flags: u8, whole: Bytes) -> Result<Self, ChunkError> {
        let value = whole.slice(CHUNK_HEADER_LEN..);
        let tag_reflected = flags & Self::TAG_REFLECTED != 0;
        Ok(match kind {
            kind::INIT => Self::Init(Init::parse(&value, false)?),
            kind::INIT_ACK => Self::InitAck(Init::parse(&value, true)?),
            kind::SACK => Self::Sack(Sack::parse(&value)?),
            kind::HEARTBEAT => Self::Heartbeat(heartbeat_info(&value)?),
            kind::HEARTBEAT_ACK => Self::HeartbeatAck(heartbeat_info(&value)?),
            kind::ABORT => Self::Abort {
                tag_reflected,
                causes: Causes::new(value),
            },
            kind::SHUTDOWN => Self::Shutdown {
                cumulative_tsn_ack: match <[u8; 4]>::try_from(&value[..]) {
                    Ok(octets) => u32::from_be_bytes(octets),
                    Err(_) => return Err(ChunkError::Length),
                },
            },
            kind::SHUTDOWN_ACK => Self::ShutdownAck,
            kind::ERROR => Self::Error(Causes::new(value)),
            kind::COOKIE_ECHO => Self::CookieEcho(value),
            kind::COOKIE_ACK => Self::CookieAck,
            kind::SHUTDOWN_COMPLETE => Self::ShutdownComplete { tag_reflected },
            _ => Self::Unknown(UnknownChunk { kind, whole }),
        })
    }
}

/// The one parameter of a HEARTBEAT: its value.
fn heartbeat_info(value: &Bytes) -> Result<Bytes, ChunkError> {
    let first = Parameters::new(value.clone()).next();
    match first {
        Some(Ok(parameter)) if parameter.kind == parameter::HEARTBEAT_INFO => Ok(parameter.value),
        Some(Ok(_)) => Err(ChunkError::Value),
        _ => Err(ChunkError::Length),
    }
}

/// `len` rounded up to a multiple of 4.
const fn padded(len: usize) -> usize {
    len.next_multiple_of(4)
}
