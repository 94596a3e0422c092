//! Messages as the peers write and check them.
//!
//! ```text
//!  0  the mark "SCTP"        4  stream, u16    6  0
//!  8  number within the stream, u32           12  length in octets, u32
//! 16  eight octets for the sender             24  filling: (7 × number + stream + position) mod 256
//! ```
//!
//! Integers are in network byte order. Below 24 octets there is only the number, over and over.

use bytes::Bytes;
use tidewire::net::sctp::SctpMessage;

const MARK: &[u8; 4] = b"SCTP";
/// Octets before the filling.
pub const HEADER_LEN: usize = 24;

/// The `number`th message of a stream.
pub fn message(stream: u16, number: u32, len: usize) -> Bytes {
    if len < HEADER_LEN {
        return vec![number as u8; len].into();
    }
    let mut message = Vec::with_capacity(len);
    message.extend_from_slice(MARK);
    message.extend_from_slice(&stream.to_be_bytes());
    message.extend_from_slice(&[0; 2]);
    message.extend_from_slice(&number.to_be_bytes());
    message.extend_from_slice(&(len as u32).to_be_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend((HEADER_LEN..len).map(|at| filling(stream, number, at)));
    message.into()
}

/// The number of a message that a peer has sent.
///
/// # Panics
/// When it is not what the peer sends on the stream it came on.
pub fn number(message: &SctpMessage) -> u32 {
    let data = &message.data[..];
    assert!(data.len() >= HEADER_LEN, "{message:?}");
    let integer = |at| u32::from_be_bytes(data[at..at + 4].try_into().expect("four octets"));
    let number = integer(8);
    assert_eq!(&data[..4], MARK);
    assert_eq!(data[4..6], message.stream.to_be_bytes());
    assert_eq!(integer(12) as usize, data.len());
    let wrong =
        (HEADER_LEN..data.len()).find(|&at| data[at] != filling(message.stream, number, at));
    assert_eq!(wrong, None, "message {number} of stream {}", message.stream);
    number
}

const fn filling(stream: u16, number: u32, at: usize) -> u8 {
    (number as u8)
        .wrapping_mul(7)
        .wrapping_add(stream as u8)
        .wrapping_add(at as u8)
}
