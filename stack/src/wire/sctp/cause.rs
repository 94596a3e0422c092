//! Error causes, in ERROR and ABORT (RFC 9260 3.3.10). They have the layout of parameters.

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use super::ChunkError;
use super::parameter::{Parameter, Parameters};

/// Missing parameters that a cause lists; further ones are ignored.
const MAX_MISSING: usize = 16;

/// Why something went wrong, as one side tells the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorCause {
    /// DATA for a stream that does not exist (3.3.10.1).
    InvalidStreamIdentifier {
        /// The stream.
        stream: u16,
    },
    /// INIT or INIT ACK lacks parameters (3.3.10.2).
    MissingMandatoryParameter {
        /// Their types.
        parameters: SmallVec<[u16; 2]>,
    },
    /// The State Cookie came too late (3.3.10.3).
    StaleCookie {
        /// Microseconds it was too old.
        staleness: u32,
    },
    /// The sender has no resources for the association (3.3.10.4).
    OutOfResource,
    /// An address of a type that is not supported, the parameter quoted (3.3.10.5).
    UnresolvableAddress(Bytes),
    /// The chunk is quoted (3.3.10.6).
    UnrecognizedChunkType(Bytes),
    /// A mandatory parameter of INIT or INIT ACK has an invalid value (3.3.10.7).
    InvalidMandatoryParameter,
    /// The parameters are quoted (3.3.10.8).
    UnrecognizedParameters(Bytes),
    /// DATA without data (3.3.10.9).
    NoUserData {
        /// Its TSN.
        tsn: u32,
    },
    /// The sender is shutting down (3.3.10.10).
    CookieReceivedWhileShuttingDown,
    /// A restart that adds addresses, which are quoted (3.3.10.11).
    RestartWithNewAddresses(Bytes),
    /// The user's reason (3.3.10.12).
    UserInitiatedAbort(Bytes),
    /// What was wrong, in words perhaps (3.3.10.13).
    ProtocolViolation(Bytes),
    /// A cause of another code.
    Unknown {
        /// The code.
        code: u16,
        /// The rest.
        information: Bytes,
    },
}

impl ErrorCause {
    /// The code (3.3.10, table 11).
    pub const fn code(&self) -> u16 {
        match self {
            Self::InvalidStreamIdentifier { .. } => 1,
            Self::MissingMandatoryParameter { .. } => 2,
            Self::StaleCookie { .. } => 3,
            Self::OutOfResource => 4,
            Self::UnresolvableAddress(_) => 5,
            Self::UnrecognizedChunkType(_) => 6,
            Self::InvalidMandatoryParameter => 7,
            Self::UnrecognizedParameters(_) => 8,
            Self::NoUserData { .. } => 9,
            Self::CookieReceivedWhileShuttingDown => 10,
            Self::RestartWithNewAddresses(_) => 11,
            Self::UserInitiatedAbort(_) => 12,
            Self::ProtocolViolation(_) => 13,
            Self::Unknown { code, .. } => *code,
        }
    }

    fn parse(cause: Parameter) -> Result<Self, ChunkError> {
        let Parameter { kind: code, value } = cause;
        let word = || <[u8; 4]>::try_from(&value[..]).map_err(|_| ChunkError::Length);
        Ok(match code {
            1 => Self::InvalidStreamIdentifier {
                stream: (u32::from_be_bytes(word()?) >> 16) as u16,
            },
            2 => Self::MissingMandatoryParameter {
                parameters: missing(&value)?,
            },
            3 => Self::StaleCookie {
                staleness: u32::from_be_bytes(word()?),
            },
            4 => Self::OutOfResource,
            5 => Self::UnresolvableAddress(value),
            6 => Self::UnrecognizedChunkType(value),
            7 => Self::InvalidMandatoryParameter,
            8 => Self::UnrecognizedParameters(value),
            9 => Self::NoUserData {
                tsn: u32::from_be_bytes(word()?),
            },
            10 => Self::CookieReceivedWhileShuttingDown,
            11 => Self::RestartWithNewAddresses(value),
            12 => Self::UserInitiatedAbort(value),
            13 => Self::ProtocolViolation(value),
            _ => Self::Unknown {
                code,
                information: value,
            },
        })
    }

    /// The cause as a parameter: code and information.
    fn to_parameter(&self) -> Parameter {
        let value = match self {
            Self::InvalidStreamIdentifier { stream } => copied(u32::from(*stream) << 16),
            Self::StaleCookie { staleness } => copied(*staleness),
            Self::NoUserData { tsn } => copied(*tsn),
            Self::MissingMandatoryParameter { parameters } => {
                let mut value = BytesMut::with_capacity(4 + 2 * parameters.len());
                value.put_u32(parameters.len() as u32);
                parameters.iter().for_each(|kind| value.put_u16(*kind));
                value.freeze()
            }
            Self::OutOfResource
            | Self::InvalidMandatoryParameter
            | Self::CookieReceivedWhileShuttingDown => Bytes::new(),
            Self::UnresolvableAddress(value)
            | Self::UnrecognizedChunkType(value)
            | Self::UnrecognizedParameters(value)
            | Self::RestartWithNewAddresses(value)
            | Self::UserInitiatedAbort(value)
            | Self::ProtocolViolation(value)
            | Self::Unknown {
                information: value, ..
            } => value.clone(),
        };
        Parameter {
            kind: self.code(),
            value,
        }
    }
}

fn copied(word: u32) -> Bytes {
    Bytes::copy_from_slice(&word.to_be_bytes())
}

/// The types that a "Missing Mandatory Parameter" lists behind their number.
fn missing(value: &[u8]) -> Result<SmallVec<[u16; 2]>, ChunkError> {
    let (count, types) = value.split_first_chunk::<4>().ok_or(ChunkError::Length)?;
    let (types, rest) = types.as_chunks::<2>();
    if types.len() != u32::from_be_bytes(*count) as usize || !rest.is_empty() {
        return Err(ChunkError::Length);
    }
    let types = types.iter().take(MAX_MISSING);
    Ok(types.map(|&octets| u16::from_be_bytes(octets)).collect())
}

/// The causes of an ERROR or ABORT, as octets; read one by one.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Causes(Bytes);

impl Causes {
    /// All of `octets` as causes.
    pub const fn new(octets: Bytes) -> Self {
        Self(octets)
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their octets.
    pub const fn octets(&self) -> &Bytes {
        &self.0
    }

    /// Each in turn, up to the first that is none.
    pub fn iter(&self) -> impl Iterator<Item = Result<ErrorCause, ChunkError>> + use<> {
        Parameters::new(self.0.clone()).map(|cause| cause.and_then(ErrorCause::parse))
    }
}

impl FromIterator<ErrorCause> for Causes {
    /// The causes one after the other, each padded but the last, whose padding is the chunk's.
    fn from_iter<I: IntoIterator<Item = ErrorCause>>(causes: I) -> Self {
        let mut octets = BytesMut::new();
        let mut len = 0;
        for cause in causes {
            let cause = cause.to_parameter();
            len = octets.len() + super::parameter::HEADER_LEN + cause.value.len();
            cause.emit(&mut octets);
        }
        octets.truncate(len);
        Self(octets.freeze())
    }
}
