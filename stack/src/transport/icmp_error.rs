//! An ICMP error as a transport sees it: the version and the code are gone, the meaning is left.

use crate::error::SocketError;

/// What a router or the peer's host said about a packet of ours (RFC 1122 4.2.3.9, RFC 4443 3, RFC 5927).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IcmpError {
    /// Network or host unreachable, time exceeded, source route failed: soft for TCP.
    Unreachable(SocketError),
    /// Port or protocol unreachable, administratively prohibited: hard during set-up, soft for an established TCP connection (RFC 5927 5.2).
    Refused(SocketError),
    /// Too big: the path carries packets of at most `mtu` octets, IP header included.
    PacketTooBig {
        /// The next hop's MTU, already checked against the minimum of the IP version.
        mtu: usize,
    },
}
