//! ICMP for IPv4: the first eight octets of a message (RFC 792).
//!
//! Owns the octets; leaves the checksum, which covers the body too, and whether a message may be sent or believed
//! (RFC 1122 3.2.2, RFC 5927) to `ip::icmp`. The body behind the eight octets is echo data, or the packet that an
//! error is about.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+-------------------------------+
//! |     Type      |     Code      |           Checksum            |
//! +---------------+---------------+-------------------------------+
//! |  identifier and sequence | next-hop MTU | pointer | unused    |
//! +---------------------------------------------------------------+
//! ```

use crate::wire::ParseError;

/// Octets of every message before its body.
pub const HEADER_LEN: usize = 8;
/// Where the checksum lies in the message, in octets.
pub const CHECKSUM_OFFSET: usize = 2;
/// The code of a redirect for one host.
pub const REDIRECT_HOST: u8 = 1;
/// Codes of redirect reach from 0 to this: for a network or a host, for its type of service or not (RFC 792).
pub const REDIRECT_MAX_CODE: u8 = 3;

/// A message without its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// Echo reply (type 0).
    EchoReply {
        /// The identifier of the request.
        identifier: u16,
        /// The sequence number of the request.
        sequence: u16,
    },
    /// Destination unreachable (type 3); the body is the packet.
    DestinationUnreachable {
        /// One of [`mod@unreachable`], or another.
        code: u8,
        /// With [`unreachable::FRAGMENTATION_NEEDED`] the MTU of the next hop in octets (RFC 1191 4), 0 when the
        /// router names none. Unused with other codes.
        next_hop_mtu: u16,
    },
    /// Echo request (type 8).
    EchoRequest {
        /// Tells apart those who ask.
        identifier: u16,
        /// Tells apart the requests.
        sequence: u16,
    },
    /// Time exceeded (type 11); the body is the packet.
    TimeExceeded {
        /// One of [`time_exceeded`], or another.
        code: u8,
    },
    /// Parameter problem (type 12); the body is the packet.
    ParameterProblem {
        /// 0: the pointer says where; 1: a required option is missing (RFC 1122 3.2.2.5).
        code: u8,
        /// Octet of the packet's header where the problem lies.
        pointer: u8,
    },
    /// Any other type.
    Other {
        /// The type.
        kind: u8,
        /// The code.
        code: u8,
        /// The second four octets.
        rest: [u8; 4],
    },
}

impl Message {
    /// Reads the front of a message; gives it with its length in octets, always [`HEADER_LEN`], where the body begins.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] for fewer than 8 octets.
    pub fn parse(octets: &[u8]) -> Result<(Self, usize), ParseError> {
        let Some(&[kind, code, _, _, a, b, c, d]) = octets.first_chunk::<HEADER_LEN>() else {
            return Err(ParseError::Truncated);
        };
        let first = u16::from_be_bytes([a, b]);
        let second = u16::from_be_bytes([c, d]);
        let message = match (kind, code) {
            (kind::ECHO_REPLY, 0) => Self::EchoReply {
                identifier: first,
                sequence: second,
            },
            (kind::ECHO_REQUEST, 0) => Self::EchoRequest {
                identifier: first,
                sequence: second,
            },
            (kind::DESTINATION_UNREACHABLE, code) => Self::DestinationUnreachable {
                code,
                next_hop_mtu: second,
            },
            (kind::TIME_EXCEEDED, code) => Self::TimeExceeded { code },
            (kind::PARAMETER_PROBLEM, code) => Self::ParameterProblem { code, pointer: a },
            (kind, code) => Self::Other {
                kind,
                code,
                rest: [a, b, c, d],
            },
        };
        Ok((message, HEADER_LEN))
    }

    /// Whether this is an error message, which must never be answered with another (RFC 1122 3.2.2).
    pub const fn is_error(&self) -> bool {
        match self {
            Self::DestinationUnreachable { .. }
            | Self::TimeExceeded { .. }
            | Self::ParameterProblem { .. } => true,
            Self::Other { kind, .. } => matches!(*kind, kind::SOURCE_QUENCH | kind::REDIRECT),
            Self::EchoReply { .. } | Self::EchoRequest { .. } => false,
        }
    }

    /// Octets that [`Self::emit`] writes.
    pub const fn encoded_len(&self) -> usize {
        HEADER_LEN
    }

    /// Writes the front of the message into the front of `buffer`, the checksum as 0.
    ///
    /// # Panics
    /// When `buffer` is shorter than [`HEADER_LEN`].
    pub fn emit(&self, buffer: &mut [u8]) {
        let (kind, code, [a, b, c, d]) = match *self {
            Self::EchoReply {
                identifier,
                sequence,
            } => (kind::ECHO_REPLY, 0, pair(identifier, sequence)),
            Self::EchoRequest {
                identifier,
                sequence,
            } => (kind::ECHO_REQUEST, 0, pair(identifier, sequence)),
            Self::DestinationUnreachable { code, next_hop_mtu } => {
                (kind::DESTINATION_UNREACHABLE, code, pair(0, next_hop_mtu))
            }
            Self::TimeExceeded { code } => (kind::TIME_EXCEEDED, code, [0; 4]),
            Self::ParameterProblem { code, pointer } => {
                (kind::PARAMETER_PROBLEM, code, [pointer, 0, 0, 0])
            }
            Self::Other { kind, code, rest } => (kind, code, rest),
        };
        buffer[..HEADER_LEN].copy_from_slice(&[kind, code, 0, 0, a, b, c, d]);
    }
}

/// Codes of destination unreachable (RFC 792, RFC 1122 3.2.2.1, RFC 1812 5.2.7.1).
pub mod unreachable {
    /// The network.
    pub const NETWORK: u8 = 0;
    /// The host.
    pub const HOST: u8 = 1;
    /// The transport protocol.
    pub const PROTOCOL: u8 = 2;
    /// The port.
    pub const PORT: u8 = 3;
    /// The packet is too big for a link and must not be fragmented.
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// The source route.
    pub const SOURCE_ROUTE_FAILED: u8 = 5;
    /// The network is unknown.
    pub const NETWORK_UNKNOWN: u8 = 6;
    /// The host is unknown.
    pub const HOST_UNKNOWN: u8 = 7;
    /// The source host is isolated.
    pub const SOURCE_ISOLATED: u8 = 8;
    /// The network is administratively prohibited.
    pub const NETWORK_PROHIBITED: u8 = 9;
    /// The host is administratively prohibited.
    pub const HOST_PROHIBITED: u8 = 10;
    /// The network, for this type of service.
    pub const NETWORK_TOS: u8 = 11;
    /// The host, for this type of service.
    pub const HOST_TOS: u8 = 12;
    /// A filter forbids it.
    pub const ADMINISTRATIVELY_PROHIBITED: u8 = 13;
    /// Host precedence violation.
    pub const HOST_PRECEDENCE_VIOLATION: u8 = 14;
    /// Precedence cut-off in effect.
    pub const PRECEDENCE_CUTOFF: u8 = 15;
}

/// Codes of time exceeded (RFC 792).
pub mod time_exceeded {
    /// The TTL ran out on the way.
    pub const TTL: u8 = 0;
    /// Fragments did not all come in time.
    pub const REASSEMBLY: u8 = 1;
}

/// Message types (RFC 792; IANA).
pub mod kind {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const DESTINATION_UNREACHABLE: u8 = 3;
    /// Source quench, deprecated (RFC 6633).
    pub const SOURCE_QUENCH: u8 = 4;
    /// Redirect.
    pub const REDIRECT: u8 = 5;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
}

const fn pair(first: u16, second: u16) -> [u8; 4] {
    let [a, b] = first.to_be_bytes();
    let [c, d] = second.to_be_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_lie_as_the_rfc_draws_them() {
        let cases = [
            (
                Message::EchoReply {
                    identifier: 0x0102,
                    sequence: 0x0304,
                },
                [0, 0, 0, 0, 1, 2, 3, 4],
                false,
            ),
            (
                Message::EchoRequest {
                    identifier: 0x0102,
                    sequence: 0x0304,
                },
                [8, 0, 0, 0, 1, 2, 3, 4],
                false,
            ),
            (
                // RFC 1191 4: the MTU is in the low 16 bits of the second word.
                Message::DestinationUnreachable {
                    code: unreachable::FRAGMENTATION_NEEDED,
                    next_hop_mtu: 1400,
                },
                [3, 4, 0, 0, 0, 0, 0x05, 0x78],
                true,
            ),
            (
                Message::DestinationUnreachable {
                    code: unreachable::PORT,
                    next_hop_mtu: 0,
                },
                [3, 3, 0, 0, 0, 0, 0, 0],
                true,
            ),
            (
                Message::TimeExceeded {
                    code: time_exceeded::REASSEMBLY,
                },
                [11, 1, 0, 0, 0, 0, 0, 0],
                true,
            ),
            (
                Message::ParameterProblem {
                    code: 0,
                    pointer: 20,
                },
                [12, 0, 0, 0, 20, 0, 0, 0],
                true,
            ),
            (
                Message::Other {
                    kind: kind::REDIRECT,
                    code: 1,
                    rest: [10, 0, 0, 1],
                },
                [5, 1, 0, 0, 10, 0, 0, 1],
                true,
            ),
            (
                Message::Other {
                    kind: 13,
                    code: 0,
                    rest: [1, 2, 3, 4],
                },
                [13, 0, 0, 0, 1, 2, 3, 4],
                false,
            ),
        ];
        for (message, expected, is_error) in cases {
            let mut octets = [0xff; HEADER_LEN];
            message.emit(&mut octets);
            assert_eq!(octets, expected, "{message:?}");
            assert_eq!(Message::parse(&octets), Ok((message, HEADER_LEN)));
            assert_eq!(message.is_error(), is_error, "{message:?}");
        }
    }

    #[test]
    fn a_short_message_is_refused() {
        assert_eq!(Message::parse(&[8; 7]), Err(ParseError::Truncated));
    }

    proptest! {
        #[test]
        fn what_is_parsed_survives_a_round_trip(octets in any::<[u8; 8]>()) {
            let (message, _) = Message::parse(&octets).unwrap();
            let mut emitted = [0xff; HEADER_LEN];
            message.emit(&mut emitted);
            prop_assert_eq!(emitted[..2].to_vec(), octets[..2].to_vec());
            prop_assert_eq!(Message::parse(&emitted), Ok((message, HEADER_LEN)));
        }
    }
}
