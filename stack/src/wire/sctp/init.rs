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

use super::parameter::{self, Parameter, Parameters};
use super::{CHUNK_HEADER_LEN, ChunkError, padded};

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
    /// The deprecated Host Name Address, header included: what an "Unresolvable Address" quotes (5.1.2).
    pub host_name_address: Option<Bytes>,
    /// INIT ACK only: parameters of our INIT that the peer does not know, header included.
    pub reported: SmallVec<[Bytes; 1]>,
    /// Parameters not known here that the sender wants to hear of, header included. Not emitted.
    pub unrecognized: SmallVec<[Bytes; 1]>,
}

impl Init {
    /// Reads the value of an INIT, or of an INIT ACK, which has a cookie.
    pub(super) fn parse(value: &Bytes, is_ack: bool) -> Result<Self, ChunkError> {
        let fixed: &[u8; 16] = value.first_chunk().ok_or(ChunkError::Length)?;
        let word = |at: usize| {
            u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]])
        };
        let init = Self {
            initiate_tag: word(0),
            a_rwnd: word(4),
            outbound_streams: (word(8) >> 16) as u16,
            inbound_streams: word(8) as u16,
            initial_tsn: word(12),
            parameters: InitParameters::parse(value.slice(16..))?,
        };
        if is_ack && init.parameters.state_cookie.is_none() {
            return Err(ChunkError::MissingCookie);
        }
        Ok(init)
    }

    /// Octets it takes, chunk header included, without the chunk's padding.
    pub(super) fn emitted_len(&self) -> usize {
        FIXED_LEN + self.parameters.emitted_len()
    }

    /// Appends the chunk.
    pub(super) fn emit(&self, kind: u8, buffer: &mut BytesMut) {
        buffer.put_u8(kind);
        buffer.put_u8(0);
        buffer.put_u16(self.emitted_len() as u16);
        buffer.put_u32(self.initiate_tag);
        buffer.put_u32(self.a_rwnd);
        buffer.put_u16(self.outbound_streams);
        buffer.put_u16(self.inbound_streams);
        buffer.put_u32(self.initial_tsn);
        self.parameters.emit(buffer);
    }
}

impl InitParameters {
    fn parse(octets: Bytes) -> Result<Self, ChunkError> {
        let mut parsed = Self::default();
        for parameter in Parameters::new(octets) {
            let parameter = parameter?;
            let value = &parameter.value;
            match parameter.kind {
                parameter::IPV4_ADDRESS => parsed.add(Ipv4Addr::from(exactly(value)?).into()),
                parameter::IPV6_ADDRESS => parsed.add(Ipv6Addr::from(exactly::<16>(value)?).into()),
                parameter::STATE_COOKIE => parsed.state_cookie = Some(parameter.value),
                parameter::COOKIE_PRESERVATIVE => {
                    parsed.cookie_preservative = Some(u32::from_be_bytes(exactly(value)?));
                }
                parameter::SUPPORTED_ADDRESS_TYPES => {
                    parsed.supported_address_types = Some(AddressTypes::parse(value)?);
                }
                parameter::HOST_NAME_ADDRESS => parsed.host_name_address = Some(whole(&parameter)),
                parameter::UNRECOGNIZED_PARAMETER => {
                    if parsed.reported.len() < MAX_UNRECOGNIZED {
                        parsed.reported.push(parameter.value);
                    }
                }
                _ => {
                    let action = parameter.action();
                    if action.report && parsed.unrecognized.len() < MAX_UNRECOGNIZED {
                        parsed.unrecognized.push(whole(&parameter));
                    }
                    if action.stop {
                        break;
                    }
                }
            }
        }
        Ok(parsed)
    }

    fn add(&mut self, address: IpAddr) {
        if self.addresses.len() < MAX_ADDRESSES && !self.addresses.contains(&address) {
            self.addresses.push(address);
        }
    }

    /// Each parameter in the order they are emitted.
    fn each(&self, mut give: impl FnMut(u16, &[u8])) {
        for address in &self.addresses {
            match address {
                IpAddr::V4(v4) => give(parameter::IPV4_ADDRESS, &v4.octets()),
                IpAddr::V6(v6) => give(parameter::IPV6_ADDRESS, &v6.octets()),
            }
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
        if let Some(parameter) = &self.host_name_address {
            give(
                parameter::HOST_NAME_ADDRESS,
                &parameter[parameter::HEADER_LEN..],
            );
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
        if types.is_empty() || !rest.is_empty() {
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

/// A parameter as it was received, for a report that quotes it.
fn whole(parameter: &Parameter) -> Bytes {
    let mut octets = BytesMut::with_capacity(parameter.emitted_len());
    parameter.emit(&mut octets);
    octets.truncate(parameter::HEADER_LEN + parameter.value.len());
    octets.freeze()
}

fn exactly<const N: usize>(value: &Bytes) -> Result<[u8; N], ChunkError> {
    <[u8; N]>::try_from(&value[..]).map_err(|_| ChunkError::Value)
}
