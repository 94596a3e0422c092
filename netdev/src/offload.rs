//! What a packet asks of a device, or what a device says of a packet.
//!
//! The same two fields serve both directions, as in the virtio-net header (virtio 1.2, 5.1.6): a checksum that is
//! not filled in yet, and a super-packet that is to be cut into wire-sized ones.

/// The state of a packet's transport checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Checksum {
    /// Nothing is known on receive: the stack verifies it. On transmit it is complete.
    #[default]
    Unverified,
    /// The checksum field holds only the folded sum of the pseudo-header; somebody below fills in the rest. SCTP has no
    /// pseudo-header, and its field holds nothing of use: who fills it in puts a CRC32c there.
    ///
    /// On receive this means that the packet came from the same machine and was never on a wire: it counts as
    /// correct. Both numbers are in octets.
    Partial {
        /// Where summing starts, counted from the packet's first octet (the transport header). [`crate::Packet`]
        /// keeps it right when headers are added or taken away.
        start: u16,
        /// Where the checksum field lies, counted from `start`: 16 for TCP, 6 for UDP, and for SCTP alone 8
        /// ([`crate::crc32c::SCTP_CHECKSUM`]).
        offset: u16,
    },
    /// Somebody below has verified it; the field is complete and correct.
    Verified,
}

/// The kind of a super-packet: which header fields a cut must rewrite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SegmentationKind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP over IPv4 or IPv6: each cut is a datagram of its own.
    Udp,
}

/// A super-packet: one header, payload to be cut every `segment_size` octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segmentation {
    /// Which cut.
    pub kind: SegmentationKind,
    /// Transport payload octets of each cut but the last; never 0.
    pub segment_size: u16,
    /// The TCP header carries CWR, which belongs on the first cut only (RFC 3168 6.1.2).
    pub ecn: bool,
}

/// The offload metadata of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Offload {
    /// The transport checksum's state.
    pub checksum: Checksum,
    /// Set on a super-packet.
    pub segmentation: Option<Segmentation>,
}
