//! DHCP messages for IPv4 (RFC 2131 2, RFC 2132), behind their UDP header.
//!
//! Owns the octets of a message and of the options that a client needs; leaves what they mean to
//! [`crate::ip::autoconf::dhcp`]. Options that are not known are skipped. What a message has twice counts once, the first
//! time; an option of the wrong length is as if it were not there.
//!
//! ```text
//!  op | htype | hlen | hops
//!           xid
//!     secs    |   flags
//!          ciaddr            the client's address, if it answers for it
//!          yiaddr            the address it gets
//!          siaddr
//!          giaddr
//!   chaddr (16), sname (64), file (128)
//!   99 130 83 99, options
//! ```

use std::net::Ipv4Addr;

use smallvec::SmallVec;
use tidewire_netdev::MacAddress;

use crate::wire::ParseError;

/// Where clients listen.
pub const CLIENT_PORT: u16 = 68;
/// Where servers listen.
pub const SERVER_PORT: u16 = 67;
/// Octets before the options.
const FIXED_LEN: usize = 236;
/// What the options begin with (RFC 2131 3).
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Octets that every host and relay can take as a message (RFC 1542 2.1): shorter ones are filled up.
const LEAST_LEN: usize = 300;
/// Addresses of one kind that are kept.
const MAX_ADDRESSES: usize = 4;

/// Some addresses of one kind, the preferred first.
pub type Addresses = SmallVec<[Ipv4Addr; MAX_ADDRESSES]>;

/// What a message says (RFC 2132 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MessageType {
    /// A client looks for servers.
    Discover = 1,
    /// A server has an address.
    Offer = 2,
    /// A client wants it, or wants to keep it.
    Request = 3,
    /// A client has found the address in use.
    Decline = 4,
    /// The client has the address.
    Ack = 5,
    /// It has not.
    Nak = 6,
    /// A client needs it no longer.
    Release = 7,
    /// A client with an address of its own asks for the rest.
    Inform = 8,
}

impl MessageType {
    const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Discover,
            2 => Self::Offer,
            3 => Self::Request,
            4 => Self::Decline,
            5 => Self::Ack,
            6 => Self::Nak,
            7 => Self::Release,
            8 => Self::Inform,
            _ => return None,
        })
    }
}

/// A message as a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it says.
    pub kind: MessageType,
    /// It is a server's (BOOTREPLY).
    pub is_reply: bool,
    /// xid: which exchange it belongs to.
    pub transaction: u32,
    /// secs: since the client began.
    pub seconds: u16,
    /// The client cannot take packets for an address that it does not have yet: servers broadcast.
    pub broadcast: bool,
    /// ciaddr.
    pub client: Ipv4Addr,
    /// yiaddr.
    pub your: Ipv4Addr,
    /// chaddr.
    pub hardware: MacAddress,
    /// The options.
    pub options: Options,
}

/// The options that are known. Times are in seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// 1: subnet mask, as a prefix length.
    pub prefix: Option<u8>,
    /// 3: routers.
    pub routers: Addresses,
    /// 6: domain name servers.
    pub name_servers: Addresses,
    /// 12: the client's name.
    pub host_name: Option<String>,
    /// 26: MTU of the link.
    pub mtu: Option<u16>,
    /// 50: the address that the client wants.
    pub requested: Option<Ipv4Addr>,
    /// 51: how long the address is the client's; `u32::MAX` is for ever.
    pub lease_time: Option<u32>,
    /// 54: the server.
    pub server: Option<Ipv4Addr>,
    /// 55: the options that the client wants to know.
    pub parameters: SmallVec<[u8; 8]>,
    /// 57: octets of the largest message that the client takes.
    pub max_message: Option<u16>,
    /// 58: T1.
    pub renewal_time: Option<u32>,
    /// 59: T2.
    pub rebinding_time: Option<u32>,
    /// 61: the client's identifier is its hardware address.
    pub client_identifier: bool,
}

/// Codes of options (RFC 2132).
pub mod option {
    /// Subnet mask.
    pub const SUBNET_MASK: u8 = 1;
    /// Routers.
    pub const ROUTERS: u8 = 3;
    /// Domain name servers.
    pub const NAME_SERVERS: u8 = 6;
    /// Host name.
    pub const HOST_NAME: u8 = 12;
    /// Interface MTU.
    pub const MTU: u8 = 26;
    /// Requested IP address.
    pub const REQUESTED: u8 = 50;
    /// IP address lease time.
    pub const LEASE_TIME: u8 = 51;
    /// Option overload.
    pub const OVERLOAD: u8 = 52;
    /// DHCP message type.
    pub const MESSAGE_TYPE: u8 = 53;
    /// Server identifier.
    pub const SERVER: u8 = 54;
    /// Parameter request list.
    pub const PARAMETERS: u8 = 55;
    /// Maximum DHCP message size.
    pub const MAX_MESSAGE: u8 = 57;
    /// Renewal time, T1.
    pub const RENEWAL_TIME: u8 = 58;
    /// Rebinding time, T2.
    pub const REBINDING_TIME: u8 = 59;
    /// Client identifier.
    pub const CLIENT_IDENTIFIER: u8 = 61;
    /// Nothing follows.
    pub const END: u8 = 255;
}

impl Message {
    /// Reads the payload of a datagram.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] for a message or an option that ends too early, [`ParseError::Malformed`] for one that is
    /// not DHCP over Ethernet: without the cookie, the message type, or a hardware address of six octets.
    pub fn parse(octets: &[u8]) -> Result<Self, ParseError> {
        let (fixed, rest) = octets
            .split_at_checked(FIXED_LEN)
            .ok_or(ParseError::Truncated)?;
        let options = rest.strip_prefix(&COOKIE).ok_or(match rest.len() {
            0..4 => ParseError::Truncated,
            _ => ParseError::Malformed,
        })?;
        if fixed[1..3] != [HARDWARE_ETHERNET, 6] || !matches!(fixed[0], BOOT_REQUEST | BOOT_REPLY) {
            return Err(ParseError::Malformed);
        }
        let mut reader = OptionReader::default();
        reader.read(options)?;
        // RFC 2131 4.1: the option field first, then what it says is used for options, too.
        let overload = reader.overload;
        if overload & 1 != 0 {
            reader.read(&fixed[FILE])?;
        }
        if overload & 2 != 0 {
            reader.read(&fixed[SERVER_NAME])?;
        }
        Ok(Self {
            kind: reader.kind.ok_or(ParseError::Malformed)?,
            is_reply: fixed[0] == BOOT_REPLY,
            transaction: u32::from_be_bytes(four(&fixed[4..])),
            seconds: u16::from_be_bytes([fixed[8], fixed[9]]),
            broadcast: fixed[10] & BROADCAST != 0,
            client: four(&fixed[12..]).into(),
            your: four(&fixed[16..]).into(),
            hardware: MacAddress(six(&fixed[28..])),
            options: reader.options,
        })
    }

    /// Writes the payload of a datagram.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut octets = vec![0; FIXED_LEN];
        octets[0] = if self.is_reply {
            BOOT_REPLY
        } else {
            BOOT_REQUEST
        };
        octets[1] = HARDWARE_ETHERNET;
        octets[2] = 6;
        octets[4..8].copy_from_slice(&self.transaction.to_be_bytes());
        octets[8..10].copy_from_slice(&self.seconds.to_be_bytes());
        octets[10] = if self.broadcast { BROADCAST } else { 0 };
        octets[12..16].copy_from_slice(&self.client.octets());
        octets[16..20].copy_from_slice(&self.your.octets());
        octets[28..34].copy_from_slice(&self.hardware.0);
        octets.extend_from_slice(&COOKIE);
        put(&mut octets, option::MESSAGE_TYPE, &[self.kind as u8]);
        self.options.emit(&mut octets, self.hardware);
        octets.push(option::END);
        if octets.len() < LEAST_LEN {
            octets.resize(LEAST_LEN, 0);
        }
        octets
    }
}

impl Options {
    fn emit(&self, octets: &mut Vec<u8>, hardware: MacAddress) {
        if let Some(prefix) = self.prefix {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32)));
            put(
                octets,
                option::SUBNET_MASK,
                &mask.unwrap_or(0).to_be_bytes(),
            );
        }
        for (code, addresses) in [
            (option::ROUTERS, &self.routers),
            (option::NAME_SERVERS, &self.name_servers),
        ] {
            if !addresses.is_empty() {
                let all: Vec<u8> = addresses.iter().flat_map(|a| a.octets()).collect();
                put(octets, code, &all);
            }
        }
        if let Some(name) = &self.host_name {
            put(octets, option::HOST_NAME, name.as_bytes());
        }
        if let Some(mtu) = self.mtu {
            put(octets, option::MTU, &mtu.to_be_bytes());
        }
        for (code, address) in [
            (option::REQUESTED, self.requested),
            (option::SERVER, self.server),
        ] {
            if let Some(address) = address {
                put(octets, code, &address.octets());
            }
        }
        for (code, seconds) in [
            (option::LEASE_TIME, self.lease_time),
            (option::RENEWAL_TIME, self.renewal_time),
            (option::REBINDING_TIME, self.rebinding_time),
        ] {
            if let Some(seconds) = seconds {
                put(octets, code, &seconds.to_be_bytes());
            }
        }
        if !self.parameters.is_empty() {
            put(octets, option::PARAMETERS, &self.parameters);
        }
        if let Some(size) = self.max_message {
            put(octets, option::MAX_MESSAGE, &size.to_be_bytes());
        }
        if self.client_identifier {
            let [a, b, c, d, e, f] = hardware.0;
            let identifier = [HARDWARE_ETHERNET, a, b, c, d, e, f];
            put(octets, option::CLIENT_IDENTIFIER, &identifier);
        }
    }
}

/// Appends an option; more than 255 octets of it are left out.
fn put(octets: &mut Vec<u8>, code: u8, value: &[u8]) {
    let value = &value[..value.len().min(255)];
    octets.extend_from_slice(&[code, value.len() as u8]);
    octets.extend_from_slice(value);
}

/// What was read of the options so far.
#[derive(Debug, Default)]
struct OptionReader {
    kind: Option<MessageType>,
    overload: u8,
    options: Options,
}

impl OptionReader {
    /// Reads one field of options. One that is not ended by the end option ends with the field.
    fn read(&mut self, mut octets: &[u8]) -> Result<(), ParseError> {
        while let [code, rest @ ..] = octets {
            octets = rest;
            match *code {
                PAD => continue,
                option::END => break,
                _ => {}
            }
            let [len, rest @ ..] = rest else {
                return Err(ParseError::Truncated);
            };
            let (value, rest) = rest
                .split_at_checked(usize::from(*len))
                .ok_or(ParseError::Truncated)?;
            octets = rest;
            self.take(*code, value);
        }
        Ok(())
    }

    fn take(&mut self, code: u8, value: &[u8]) {
        let options = &mut self.options;
        match (code, value) {
            (option::MESSAGE_TYPE, &[kind]) => {
                self.kind = self.kind.or(MessageType::from_code(kind));
            }
            (option::OVERLOAD, &[overload @ 1..=3]) => self.overload = overload,
            (option::SUBNET_MASK, &[a, b, c, d]) => {
                let mask = u32::from_be_bytes([a, b, c, d]);
                // One with holes is none.
                let is_prefix = mask.leading_ones() + mask.trailing_zeros() >= 32;
                let prefix = is_prefix.then_some(mask.leading_ones() as u8);
                options.prefix = options.prefix.or(prefix);
            }
            (option::ROUTERS, _) => take_addresses(&mut options.routers, value),
            (option::NAME_SERVERS, _) => take_addresses(&mut options.name_servers, value),
            (option::HOST_NAME, [_, ..]) => {
                let name = std::str::from_utf8(value).ok().map(str::to_owned);
                options.host_name = options.host_name.take().or(name);
            }
            (option::MTU, &[a, b]) => {
                options.mtu = options.mtu.or(Some(u16::from_be_bytes([a, b])));
            }
            (option::REQUESTED, &[a, b, c, d]) => {
                let address = Ipv4Addr::new(a, b, c, d);
                options.requested = options.requested.or(Some(address));
            }
            (option::SERVER, &[a, b, c, d]) => {
                let address = Ipv4Addr::new(a, b, c, d);
                options.server = options.server.or(Some(address));
            }
            (option::LEASE_TIME, &[a, b, c, d]) => {
                let seconds = u32::from_be_bytes([a, b, c, d]);
                options.lease_time = options.lease_time.or(Some(seconds));
            }
            (option::RENEWAL_TIME, &[a, b, c, d]) => {
                let seconds = u32::from_be_bytes([a, b, c, d]);
                options.renewal_time = options.renewal_time.or(Some(seconds));
            }
            (option::REBINDING_TIME, &[a, b, c, d]) => {
                let seconds = u32::from_be_bytes([a, b, c, d]);
                options.rebinding_time = options.rebinding_time.or(Some(seconds));
            }
            (option::PARAMETERS, _) if options.parameters.is_empty() => {
                options.parameters = value.iter().copied().take(16).collect();
            }
            (option::MAX_MESSAGE, &[a, b]) => {
                options.max_message = options.max_message.or(Some(u16::from_be_bytes([a, b])));
            }
            (option::CLIENT_IDENTIFIER, [HARDWARE_ETHERNET, _, _, _, _, _, _]) => {
                options.client_identifier = true;
            }
            _ => {}
        }
    }
}

fn take_addresses(addresses: &mut Addresses, value: &[u8]) {
    if addresses.is_empty() && value.len().is_multiple_of(4) {
        let all = value.chunks_exact(4).map(|a| Ipv4Addr::from(four(a)));
        *addresses = all.take(MAX_ADDRESSES).collect();
    }
}

fn four(octets: &[u8]) -> [u8; 4] {
    [octets[0], octets[1], octets[2], octets[3]]
}

fn six(octets: &[u8]) -> [u8; 6] {
    let [a, b, c, d] = four(octets);
    [a, b, c, d, octets[4], octets[5]]
}

const BOOT_REQUEST: u8 = 1;
const BOOT_REPLY: u8 = 2;
const HARDWARE_ETHERNET: u8 = 1;
/// In the first octet of the flags.
const BROADCAST: u8 = 0x80;
const PAD: u8 = 0;
const SERVER_NAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;

#[cfg(test)]
mod tests;
