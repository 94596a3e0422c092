//! ICMP for IPv6: the first eight octets of a message (RFC 4443).
//!
//! Owns the octets; leaves the checksum, which covers the body and a pseudo-header, and whether a message may be sent
//! or believed (RFC 4443 2.4, RFC 5927) to `ip::icmp`. The body behind the eight octets is echo data, or the packet
//! that an error is about.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+-------------------------------+
//! |     Type      |     Code      |           Checksum            |
//! +---------------+---------------+-------------------------------+
//! |  identifier and sequence | MTU | pointer | unused             |
//! +---------------------------------------------------------------+
//! ```

use crate::wire::ParseError;

/// Octets of every message before its body.
pub const HEADER_LEN: usize = 8;
/// Where the checksum lies in the message, in octets.
pub const CHECKSUM_OFFSET: usize = 2;

/// A message without its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// Destination unreachable (type 1, RFC 4443 3.1); the body is the packet.
    DestinationUnreachable {
        /// One of [`mod@unreachable`], or another.
        code: u8,
    },
    /// Packet too big (type 2, RFC 4443 3.2); the body is the packet. The code means nothing.
    PacketTooBig {
        /// The MTU of the next hop in octets, as it was sent.
        mtu: u32,
    },
    /// Time exceeded (type 3, RFC 4443 3.3); the body is the packet.
    TimeExceeded {
        /// One of [`time_exceeded`], or another.
        code: u8,
    },
    /// Parameter problem (type 4, RFC 4443 3.4); the body is the packet.
    ParameterProblem {
        /// One of [`parameter_problem`], or another.
        code: u8,
        /// Octet of the packet, from the IPv6 header's first on, where the problem lies.
        pointer: u32,
    },
    /// Echo request (type 128, RFC 4443 4.1).
    EchoRequest {
        /// Tells apart those who ask.
        identifier: u16,
        /// Tells apart the requests.
        sequence: u16,
    },
    /// Echo reply (type 129, RFC 4443 4.2).
    EchoReply {
        /// The identifier of the request.
        identifier: u16,
        /// The sequence number of the request.
        sequence: u16,
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
        let rest = [a, b, c, d];
        let identifier = u16::from_be_bytes([a, b]);
        let sequence = u16::from_be_bytes([c, d]);
        let message = match kind {
            kind::DESTINATION_UNREACHABLE => Self::DestinationUnreachable { code },
            kind::PACKET_TOO_BIG => Self::PacketTooBig {
                mtu: u32::from_be_bytes(rest),
            },
            kind::TIME_EXCEEDED => Self::TimeExceeded { code },
            kind::PARAMETER_PROBLEM => Self::ParameterProblem {
                code,
                pointer: u32::from_be_bytes(rest),
            },
            kind::ECHO_REQUEST if code == 0 => Self::EchoRequest {
                identifier,
                sequence,
            },
            kind::ECHO_REPLY if code == 0 => Self::EchoReply {
                identifier,
                sequence,
            },
            kind => Self::Other { kind, code, rest },
        };
        Ok((message, HEADER_LEN))
    }

    /// Whether this is an error message, known or not (types below 128, RFC 4443 2.1), which must never be answered
    /// with another (RFC 4443 2.4 (e.1)).
    pub const fn is_error(&self) -> bool {
        match self {
            Self::DestinationUnreachable { .. }
            | Self::PacketTooBig { .. }
            | Self::TimeExceeded { .. }
            | Self::ParameterProblem { .. } => true,
            Self::EchoRequest { .. } | Self::EchoReply { .. } => false,
            Self::Other { kind, .. } => *kind < 128,
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
            Self::DestinationUnreachable { code } => (kind::DESTINATION_UNREACHABLE, code, [0; 4]),
            Self::PacketTooBig { mtu } => (kind::PACKET_TOO_BIG, 0, mtu.to_be_bytes()),
            Self::TimeExceeded { code } => (kind::TIME_EXCEEDED, code, [0; 4]),
            Self::ParameterProblem { code, pointer } => {
                (kind::PARAMETER_PROBLEM, code, pointer.to_be_bytes())
            }
            Self::EchoRequest {
                identifier,
                sequence,
            } => (kind::ECHO_REQUEST, 0, pair(identifier, sequence)),
            Self::EchoReply {
                identifier,
                sequence,
            } => (kind::ECHO_REPLY, 0, pair(identifier, sequence)),
            Self::Other { kind, code, rest } => (kind, code, rest),
        };
        buffer[..HEADER_LEN].copy_from_slice(&[kind, code, 0, 0, a, b, c, d]);
    }
}

/// Codes of destination unreachable (RFC 4443 3.1).
pub mod unreachable {
    /// No route to the destination.
    pub const NO_ROUTE: u8 = 0;
    /// Administratively prohibited.
    pub const ADMINISTRATIVELY_PROHIBITED: u8 = 1;
    /// Beyond the scope of the source address.
    pub const BEYOND_SCOPE: u8 = 2;
    /// The address.
    pub const ADDRESS: u8 = 3;
    /// The port.
    pub const PORT: u8 = 4;
    /// The source address failed an ingress or egress policy.
    pub const SOURCE_POLICY: u8 = 5;
    /// The route is one to reject.
    pub const REJECT_ROUTE: u8 = 6;
}

/// Codes of time exceeded (RFC 4443 3.3).
pub mod time_exceeded {
    /// The hop limit ran out on the way.
    pub const HOP_LIMIT: u8 = 0;
    /// Fragments did not all come in time.
    pub const REASSEMBLY: u8 = 1;
}

/// Codes of parameter problem (RFC 4443 3.4, RFC 7112 5).
pub mod parameter_problem {
    /// A header field has a wrong value.
    pub const ERRONEOUS_FIELD: u8 = 0;
    /// A Next Header value that the destination does not know.
    pub const UNRECOGNIZED_NEXT_HEADER: u8 = 1;
    /// An option that asks for this answer.
    pub const UNRECOGNIZED_OPTION: u8 = 2;
    /// A first fragment that does not hold all headers.
    pub const INCOMPLETE_HEADER_CHAIN: u8 = 3;
}

/// Message types (RFC 4443 2.1; IANA).
pub mod kind {
    /// Destination unreachable.
    pub const DESTINATION_UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Redirect (RFC 4861 4.5): no error by its number, yet never answered with an error (RFC 4443 2.4 (e.2)).
    pub const REDIRECT: u8 = 137;
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
                Message::DestinationUnreachable {
                    code: unreachable::PORT,
                },
                [1, 4, 0, 0, 0, 0, 0, 0],
                true,
            ),
            (
                Message::PacketTooBig { mtu: 1280 },
                [2, 0, 0, 0, 0, 0, 0x05, 0],
                true,
            ),
            (
                Message::TimeExceeded {
                    code: time_exceeded::REASSEMBLY,
                },
                [3, 1, 0, 0, 0, 0, 0, 0],
                true,
            ),
            (
                Message::ParameterProblem {
                    code: parameter_problem::UNRECOGNIZED_OPTION,
                    pointer: 0x0102_0304,
                },
                [4, 2, 0, 0, 1, 2, 3, 4],
                true,
            ),
            (
                Message::EchoRequest {
                    identifier: 0x0102,
                    sequence: 0x0304,
                },
                [128, 0, 0, 0, 1, 2, 3, 4],
                false,
            ),
            (
                Message::EchoReply {
                    identifier: 0x0102,
                    sequence: 0x0304,
                },
                [129, 0, 0, 0, 1, 2, 3, 4],
                false,
            ),
            // RFC 4443 2.1: the high bit of the type tells errors from the rest, known or not.
            (
                Message::Other {
                    kind: 100,
                    code: 9,
                    rest: [1, 2, 3, 4],
                },
                [100, 9, 0, 0, 1, 2, 3, 4],
                true,
            ),
            (
                Message::Other {
                    kind: 135,
                    code: 0,
                    rest: [0; 4],
                },
                [135, 0, 0, 0, 0, 0, 0, 0],
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
        assert_eq!(Message::parse(&[128; 7]), Err(ParseError::Truncated));
    }

    proptest! {
        #[test]
        fn what_is_parsed_survives_a_round_trip(octets in any::<[u8; 8]>()) {
            let (message, _) = Message::parse(&octets).unwrap();
            let mut emitted = [0xff; HEADER_LEN];
            message.emit(&mut emitted);
            prop_assert_eq!(emitted[0], octets[0]);
            prop_assert_eq!(Message::parse(&emitted), Ok((message, HEADER_LEN)));
        }
    }
}
