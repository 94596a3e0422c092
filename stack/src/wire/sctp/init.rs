//! INIT and INIT ACK (RFC 9260 3.3.2, 3.3.3), which have the same layout.
//!
//! ```text
//! +---------------------------------------------------------------+
//! |                         Initiate Tag                          |
//! |          Advertised Receiver Window Credit (a_rwnd)           |
//! +-------------------------------+-------------------------------+
//! |  Number of Outbound Streams   |   Number of Inbound Streams   |
//! +-------------------------------+-------------------------------+
//! |                          Initial TSN                          |
//! +---------------------------------------------------------------+
//! |                        Parameters  …                          |
//! ```
//!
//! Whether the numbers are acceptable is for the association to say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use super::parameter::{self, RawParameter, RawParameters};
use super::{BadChunk, CHUNK_HEADER_LEN, ChunkError, UnknownAction, kind, padded};

/// Octets of the fixed part, chunk header included.
const FIXED_LEN: usize = CHUNK_HEADER_LEN + 16;
/// Addresses that are remembered of one chunk; further ones are ignored. usrsctp and Linux use some tens at most.
const MAX_ADDRESSES: usize = 64;
/// Unknown parameters that are remembered in order to report them.
const MAX_UNRECOGNIZED: usize = 16;
/// Address types of 3.3.2.1.5: the types of the address parameters.
const IPV4_TYPE: u16 = parameter::IPV4_ADDRESS;
const IPV6_TYPE: u16 = parameter::IPV6_ADDRESS;

/// INIT or INIT ACK.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Init {
    /// The tag that every packet to the sender must carry; 0 is not valid.
    pub initiate_tag: u32,
    /// Octets of receive buffer.
    pub a_rwnd: u32,
    /// Streams the sender wants to send on; 0 is not valid.
    pub outbound_streams: u16,
    /// Streams the sender accepts; 0 is not valid.
    pub inbound_streams: u16,
    /// The first TSN the sender will use.
    pub initial_tsn: u32,
    /// The rest.
    pub parameters: InitParameters,
}

/// Which address types a host can use (3.3.2.1.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressTypes {
    /// IPv4.
    pub ipv4: bool,
    /// IPv6.
    pub ipv6: bool,
}

/// The parameters of INIT and INIT ACK.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct InitParameters {
    /// Addresses of the sender besides the one the packet came from.
    pub addresses: SmallVec<[IpAddr; 2]>,
    /// INIT only: milliseconds by which the State Cookie should live longer.
    pub cookie_preservative: Option<u32>,
    /// INIT only: what the sender can be reached by; anything if missing.
    pub supported_address_types: Option<AddressTypes>,
    /// INIT ACK only: the State Cookie.
    pub state_cookie: Option<Bytes>,
    /// The deprecated Host Name Address, header included: what an "Unresolvable Address" quotes (5.1.2). Not emitted.
    pub host_name_address: Option<Bytes>,
    /// INIT ACK only: parameters of our INIT that the peer does not know, header included.
    pub reported: SmallVec<[Bytes; 1]>,
    /// Parameters not known here that the sender wants to hear of, header included. Not emitted.
    pub unrecognized: SmallVec<[Bytes; 1]>,
}

impl Init {
    /// Reads the value of an INIT, or of an INIT ACK, which has a cookie.
    pub(super) fn parse(kind: u8, value: &Bytes) -> Result<Self, BadChunk> {
        let (fixed, rest) = value
            .split_first_chunk::<16>()
            .ok_or(BadChunk::new(kind, ChunkError::Length))?;
        let word = |at: usize| {
            u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]])
        };
        let initiate_tag = word(0);
        let bad = |error| BadChunk {
            initiate_tag: Some(initiate_tag),
            ..BadChunk::new(kind, error)
        };
        let parameters = InitParameters::parse(value, rest).map_err(bad)?;
        if kind == kind::INIT_ACK && parameters.state_cookie.is_none() {
            return Err(bad(ChunkError::MissingCookie));
        }
        Ok(Self {
            initiate_tag,
            a_rwnd: word(4),
            outbound_streams: (word(8) >> 16) as u16,
            inbound_streams: word(8) as u16,
            initial_tsn: word(12),
            parameters,
        })
    }

    /// Octets it takes, chunk header included, without the chunk's padding.
    pub(super) fn emitted_len(&self) -> usize {
        FIXED_LEN + self.parameters.emitted_len()
    }

    /// Appends the chunk's value.
    pub(super) fn emit(&self, buffer: &mut BytesMut) {
        buffer.put_u32(self.initiate_tag);
        buffer.put_u32(self.a_rwnd);
        buffer.put_u16(self.outbound_streams);
        buffer.put_u16(self.inbound_streams);
        buffer.put_u32(self.initial_tsn);
        self.parameters.emit(buffer);
    }
}

impl InitParameters {
    /// Reads `octets`, which are a part of `chunk`.
    fn parse(chunk: &Bytes, octets: &[u8]) -> Result<Self, ChunkError> {
        let mut parsed = Self::default();
        let mut rest = RawParameters(octets);
        while let Some(parameter) = rest.next() {
            let parameter = parameter?;
            if !parsed.read(chunk, parameter)? {
                // Whatever stops the processing, an INIT ACK is answered with a COOKIE ECHO (3.2.1).
                let cookie = rest
                    .map_while(Result::ok)
                    .find(|behind| behind.kind == parameter::STATE_COOKIE)
                    .map(|cookie| chunk.slice_ref(cookie.value()));
                parsed.state_cookie = parsed.state_cookie.or(cookie);
                break;
            }
        }
        Ok(parsed)
    }

    /// Takes a parameter in. `false` if nothing behind it is to be processed.
    fn read(&mut self, chunk: &Bytes, parameter: RawParameter<'_>) -> Result<bool, ChunkError> {
        let RawParameter { kind, whole } = parameter;
        let value = parameter.value();
        match kind {
            parameter::IPV4_ADDRESS => self.add(Ipv4Addr::from(exactly(value)?).into()),
            parameter::IPV6_ADDRESS => self.add(Ipv6Addr::from(exactly::<16>(value)?).into()),
            parameter::STATE_COOKIE => self.state_cookie = Some(chunk.slice_ref(value)),
            parameter::COOKIE_PRESERVATIVE => {
                self.cookie_preservative = Some(u32::from_be_bytes(exactly(value)?));
            }
            parameter::SUPPORTED_ADDRESS_TYPES => {
                self.supported_address_types = Some(AddressTypes::parse(value)?);
            }
            parameter::HOST_NAME_ADDRESS => {
                self.host_name_address = Some(chunk.slice_ref(whole));
            }
            parameter::UNRECOGNIZED_PARAMETER => {
                if self.reported.len() < MAX_UNRECOGNIZED {
                    self.reported.push(chunk.slice_ref(value));
                }
            }
            _ => {
                let action = UnknownAction::of_parameter(kind);
                if action.report && self.unrecognized.len() < MAX_UNRECOGNIZED {
                    self.unrecognized.push(chunk.slice_ref(whole));
                }
                return Ok(!action.stop);
            }
        }
        Ok(true)
    }

    fn add(&mut self, address: IpAddr) {
        if self.addresses.len() < MAX_ADDRESSES && !self.addresses.contains(&address) {
            self.addresses.push(address);
        }
    }

    /// Each parameter in the order they are emitted.
    fn each(&self, mut give: impl FnMut(u16, &[u8])) {
        for address in &self.addresses {
            parameter::give_address(*address, &mut give);
        }
        if let Some(increment) = self.cookie_preservative {
            give(parameter::COOKIE_PRESERVATIVE, &increment.to_be_bytes());
        }
        if let Some(types) = self.supported_address_types {
            give(parameter::SUPPORTED_ADDRESS_TYPES, &types.emit());
        }
        if let Some(cookie) = &self.state_cookie {
            give(parameter::STATE_COOKIE, cookie);
        }
        for parameter in &self.reported {
            give(parameter::UNRECOGNIZED_PARAMETER, parameter);
        }
    }

    /// Octets they take, the padding of the last one not counted (3.2).
    fn emitted_len(&self) -> usize {
        let mut len = 0;
        self.each(|_, value| len = padded(len) + parameter::HEADER_LEN + value.len());
        len
    }

    fn emit(&self, buffer: &mut BytesMut) {
        self.each(|kind, value| parameter::emit(buffer, kind, value));
    }
}

impl AddressTypes {
    fn parse(value: &[u8]) -> Result<Self, ChunkError> {
        let (types, rest) = value.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(ChunkError::Value);
        }
        let has = |kind: u16| types.contains(&kind.to_be_bytes());
        Ok(Self {
            ipv4: has(IPV4_TYPE),
            ipv6: has(IPV6_TYPE),
        })
    }

    fn emit(self) -> SmallVec<[u8; 4]> {
        let types = [(self.ipv4, IPV4_TYPE), (self.ipv6, IPV6_TYPE)];
        let supported = types.into_iter().filter(|(is, _)| *is);
        supported.flat_map(|(_, kind)| kind.to_be_bytes()).collect()
    }
}

fn exactly<const N: usize>(value: &[u8]) -> Result<[u8; N], ChunkError> {
    <[u8; N]>::try_from(value).map_err(|_| ChunkError::Value)
}
