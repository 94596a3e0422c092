//! Why packets are dropped, and how often.

/// Why a received packet went no further. Each is counted per stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum DropReason {
    /// A header that cannot be parsed: too short, wrong version, lengths that contradict each other.
    Malformed,
    /// An IP header or transport checksum that is wrong.
    Checksum,
    /// Not addressed to this host.
    NotForUs,
    /// A source address that cannot be one (multicast, broadcast, loopback from a wire).
    BadSource,
    /// A transport protocol that nobody here speaks.
    UnknownProtocol,
    /// No socket for it.
    NoSocket,
    /// A fragment that overlaps, exceeds a limit or timed out.
    Fragment,
    /// The socket's receive queue is full.
    QueueFull,
    /// TCP: outside the window, an old duplicate, or PAWS (RFC 7323 5.3).
    OutOfWindow,
    /// TCP: an ACK for data never sent, or far in the past (RFC 5961 5).
    BadAck,
    /// TCP: a segment without ACK where one is required, or otherwise meaningless in this state.
    Unacceptable,
    /// TCP: the stack's memory is used up.
    MemoryExhausted,
    /// TCP: a full SYN or accept queue.
    Backlog,
    /// A packet of ours for a link that is down.
    LinkDown,
    /// A packet for one host in a frame for several (RFC 1122 3.3.6).
    LinkBroadcast,
    /// A packet of ours to a neighbour that does not answer, or too many for one that has not answered yet.
    NeighborUnreachable,
    /// An ICMP error about nothing we sent (RFC 5927).
    BadIcmp,
    /// The network said so, but a rate limit held the answer back.
    RateLimited,
    /// An Ethernet frame of a type that nobody here speaks: IEEE 802.3 lengths, VLAN tags, other protocols.
    UnknownLinkProtocol,
    /// An ARP or Neighbor Discovery message that breaks a rule of its RFC (RFC 826, RFC 4861 7.1).
    BadNeighbor,
    /// SCTP: a Verification Tag that is not the association's (RFC 9260 8.5).
    VerificationTag,
    /// SCTP: a State Cookie that is not ours, was changed, or does not fit its packet or association (RFC 9260 5.1.5, 5.2.4).
    Cookie,
    /// A packet on its way through whose hops are used up (RFC 1812 5.3.1).
    HopLimit,
    /// A packet on its way through that no route leads on, or none that it may take (RFC 1812 5.2.7.1).
    NoRoute,
    /// A packet on its way through that is too long for the next link and not to be cut (RFC 1191 4, RFC 8201 3).
    TooBig,
    /// The socket is closed or was aborted.
    Closed,
}

impl DropReason {
    /// How many reasons there are.
    pub const COUNT: usize = Self::Closed as usize + 1;
}
