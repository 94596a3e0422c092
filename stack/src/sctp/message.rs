//! How a message is to be sent (RFC 6458 5.3.4, `struct sctp_sndinfo`).

/// What goes with a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SendOptions {
    /// The stream (`snd_sid`).
    pub stream: u16,
    /// Payload protocol identifier, for the peer's application (`snd_ppid`). A number here; network order is on the wire.
    pub ppid: u32,
    /// Delivery without regard to the order within the stream (`SCTP_UNORDERED`; RFC 9260 6.6).
    pub unordered: bool,
    /// Comes back with the message if it cannot be delivered (`snd_context`).
    pub context: u32,
    /// Ask the peer to acknowledge the message without delay (`SCTP_SACK_IMMEDIATELY`; RFC 7053).
    pub immediate_ack: bool,
}
