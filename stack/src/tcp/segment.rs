//! What enters and leaves a connection.

use tidewire_netdev::Payload;

use crate::tcp::SeqNum;
use crate::wire::Ecn;
use crate::wire::tcp::{Flags, Header};

pub use crate::transport::demux::Tuple;

/// A received segment, possibly a coalesced one of up to 64 KiB.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The parsed header.
    pub header: Header,
    /// The data, as slices of receive buffers.
    pub payload: Payload,
    /// Data octets of each wire segment this was coalesced from, and the whole payload's length for a plain one.
    /// A coalesced segment counts as `len / segment_size`, rounded up, wherever segments are counted.
    pub segment_size: usize,
    /// The IP header's ECN field.
    pub ecn: Ecn,
}

impl Segment {
    /// Data octets.
    pub fn payload_len(&self) -> usize {
        self.payload.iter().map(bytes::Bytes::len).sum()
    }

    /// Sequence number of the first octet (or of the SYN).
    pub fn sequence(&self) -> SeqNum {
        SeqNum(self.header.sequence)
    }

    /// The acknowledgment, if the ACK bit is set.
    pub fn acknowledgment(&self) -> Option<SeqNum> {
        self.header
            .flags
            .contains(Flags::ACK)
            .then_some(SeqNum(self.header.acknowledgment))
    }

    /// Octets of sequence space: data, SYN and FIN (RFC 9293 3.4, SEG.LEN).
    pub fn sequence_len(&self) -> u32 {
        let flags = self.header.flags;
        self.payload_len() as u32
            + u32::from(flags.contains(Flags::SYN))
            + u32::from(flags.contains(Flags::FIN))
    }

    /// How many wire segments this one stands for, at least 1.
    pub fn segment_count(&self) -> u32 {
        (self.payload_len().div_ceil(self.segment_size.max(1)) as u32).max(1)
    }
}

/// A segment to send: one header and up to 64 KiB of data.
#[derive(Clone, Debug)]
pub struct Transmit {
    /// The header; the checksum is filled in below.
    pub header: Header,
    /// The data, as slices of the send buffer.
    pub payload: Payload,
    /// Set when the payload is to be cut every so many octets (it is longer than one segment).
    pub segment_size: Option<u16>,
    /// The IP header's ECN field.
    pub ecn: Ecn,
}

/// What the way out permits at this moment.
#[derive(Clone, Copy, Debug)]
pub struct TransmitLimits {
    /// The path MTU in octets, IP header included; a connection derives its segment size from it.
    pub path_mtu: usize,
    /// Octets of IP header in front of the segment: 20 or 40, more with options.
    pub ip_header_len: usize,
    /// Largest data length of one [`Transmit`]: up to 65,535 less the headers where super-packets are of use,
    /// or 0 when every transmit must be a single segment.
    pub max_super_payload: usize,
}
