//! The ARP packet for IPv4 over Ethernet (RFC 826, RFC 903).
//!
//! Owns the octets; leaves to `neighbor` what a packet means. Other hardware and protocol types are refused: there is
//! no other link here that resolves addresses.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------------------------------+-------------------------------+
//! |     Hardware type (1)         |    Protocol type (0x0800)     |
//! +---------------+---------------+-------------------------------+
//! | Hw. length 6  | Pr. length 4  |           Operation           |
//! +---------------+---------------+-------------------------------+
//! |              Sender hardware address, 6 octets                |
//! |              Sender protocol address, 4 octets                |
//! |              Target hardware address, 6 octets                |
//! |              Target protocol address, 4 octets                |
//! +---------------------------------------------------------------+
//! ```

use std::net::Ipv4Addr;

use tidewire_netdev::MacAddress;
use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::wire::ParseError;
use crate::wire::ethernet::ethertype;

/// Octets of the packet; what a frame has behind them is padding.
pub const PACKET_LEN: usize = 28;

/// What a packet asks or says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Operation {
    /// Who has the target protocol address?
    Request = 1,
    /// The sender has the sender protocol address.
    Reply = 2,
    /// Which protocol address has the target hardware address? (RFC 903)
    ReverseRequest = 3,
    /// The target has the target protocol address. (RFC 903)
    ReverseReply = 4,
}

impl Operation {
    /// Whether it is one of RARP, whose frames have an EtherType of their own (RFC 903).
    pub const fn is_reverse(self) -> bool {
        matches!(self, Self::ReverseRequest | Self::ReverseReply)
    }
}

/// An ARP packet as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// What it asks or says.
    pub operation: Operation,
    /// The sender's address on the link.
    pub sender_hardware: MacAddress,
    /// The sender's IPv4 address; unspecified in a probe (RFC 5227 2.1.1).
    pub sender_protocol: Ipv4Addr,
    /// The target's address on the link; means nothing in a request.
    pub target_hardware: MacAddress,
    /// The target's IPv4 address.
    pub target_protocol: Ipv4Addr,
}

impl Message {
    /// Reads a packet; gives it with its length in octets, always [`PACKET_LEN`].
    ///
    /// # Errors
    /// [`ParseError::Truncated`] for fewer than 28 octets, [`ParseError::Malformed`] for anything but IPv4 over
    /// Ethernet and for operations beyond the four.
    pub fn parse(octets: &[u8]) -> Result<(Self, usize), ParseError> {
        let (layout, _) = Layout::ref_from_prefix(octets).map_err(|_| ParseError::Truncated)?;
        let kind = (
            layout.hardware_type.get(),
            layout.protocol_type.get(),
            layout.hardware_len,
            layout.protocol_len,
        );
        if kind != (ETHERNET, ethertype::IPV4, 6, 4) {
            return Err(ParseError::Malformed);
        }
        let operation = match layout.operation.get() {
            1 => Operation::Request,
            2 => Operation::Reply,
            3 => Operation::ReverseRequest,
            4 => Operation::ReverseReply,
            _ => return Err(ParseError::Malformed),
        };
        let message = Self {
            operation,
            sender_hardware: MacAddress(layout.sender_hardware),
            sender_protocol: layout.sender_protocol.into(),
            target_hardware: MacAddress(layout.target_hardware),
            target_protocol: layout.target_protocol.into(),
        };
        Ok((message, PACKET_LEN))
    }

    /// Octets that [`Self::emit`] writes.
    pub const fn encoded_len(&self) -> usize {
        PACKET_LEN
    }

    /// Writes the packet into the front of `buffer`.
    ///
    /// # Panics
    /// When `buffer` is shorter than [`PACKET_LEN`].
    pub fn emit(&self, buffer: &mut [u8]) {
        let layout = Layout {
            hardware_type: ETHERNET.into(),
            protocol_type: ethertype::IPV4.into(),
            hardware_len: 6,
            protocol_len: 4,
            operation: (self.operation as u16).into(),
            sender_hardware: self.sender_hardware.0,
            sender_protocol: self.sender_protocol.octets(),
            target_hardware: self.target_hardware.0,
            target_protocol: self.target_protocol.octets(),
        };
        buffer[..PACKET_LEN].copy_from_slice(layout.as_bytes());
    }
}

/// The hardware type of Ethernet (IANA, ARP parameters).
const ETHERNET: u16 = 1;

/// The packet as it lies on the wire.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    hardware_type: U16,
    protocol_type: U16,
    hardware_len: u8,
    protocol_len: u8,
    operation: U16,
    sender_hardware: [u8; 6],
    sender_protocol: [u8; 4],
    target_hardware: [u8; 6],
    target_protocol: [u8; 4],
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REQUEST: [u8; PACKET_LEN] = [
        0, 1, 8, 0, 6, 4, 0, 1, // Ethernet, IPv4, request
        2, 0, 0, 0, 0, 9, 10, 0, 0, 1, // sender
        0, 0, 0, 0, 0, 0, 10, 0, 0, 2, // target
    ];

    #[test]
    fn the_packet_lies_as_the_rfc_describes_it() {
        let message = Message {
            operation: Operation::Request,
            sender_hardware: MacAddress([2, 0, 0, 0, 0, 9]),
            sender_protocol: Ipv4Addr::new(10, 0, 0, 1),
            target_hardware: MacAddress([0; 6]),
            target_protocol: Ipv4Addr::new(10, 0, 0, 2),
        };
        let mut octets = [0xff; PACKET_LEN];
        message.emit(&mut octets);
        assert_eq!(octets, REQUEST);
        let mut padded = octets.to_vec();
        padded.resize(46, 0);
        assert_eq!(Message::parse(&padded), Ok((message, PACKET_LEN)));
    }

    #[test]
    fn anything_but_ipv4_over_ethernet_is_refused() {
        // Octet, value: hardware type, protocol type, both lengths, operation.
        for (at, value) in [
            (1, 6),
            (0, 1),
            (3, 1),
            (4, 8),
            (4, 0),
            (5, 16),
            (5, 0),
            (7, 0),
            (7, 5),
            (6, 1),
        ] {
            let mut octets = REQUEST;
            octets[at] = value;
            assert_eq!(
                Message::parse(&octets),
                Err(ParseError::Malformed),
                "octet {at}"
            );
        }
        for len in 0..PACKET_LEN {
            assert_eq!(Message::parse(&REQUEST[..len]), Err(ParseError::Truncated));
        }
        for operation in 1..=4 {
            let mut octets = REQUEST;
            octets[7] = operation;
            let (message, _) = Message::parse(&octets).expect("one of the four");
            assert_eq!(message.operation as u16, u16::from(operation));
            assert_eq!(message.operation.is_reverse(), operation > 2, "RFC 903 3");
        }
    }

    proptest! {
        #[test]
        fn what_is_parsed_survives_a_round_trip(addresses in any::<[u8; 20]>(), operation in 0..6u8) {
            let mut octets = REQUEST;
            octets[7] = operation;
            octets[8..].copy_from_slice(&addresses);
            if let Ok((message, _)) = Message::parse(&octets) {
                let mut emitted = [0xff; PACKET_LEN];
                message.emit(&mut emitted);
                prop_assert_eq!(emitted, octets);
            }
        }

        #[test]
        fn arbitrary_octets_never_panic(octets in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Message::parse(&octets);
        }
    }
}
