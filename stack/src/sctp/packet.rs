//! What enters and leaves: where a packet came from, a packet to send, and answers with tags of their own.

use std::net::IpAddr;

use bytes::BytesMut;
use tidewire_netdev::Packet;

use crate::sctp::path::PathId;
use crate::wire::sctp::{Chunk, CommonHeader, PacketBuilder};

/// The addresses of a received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketInfo {
    /// Where it came from.
    pub source: IpAddr,
    /// Which of our addresses it was sent to.
    pub destination: IpAddr,
}

/// A packet to send, from the common header on, its CRC32c filled in.
#[derive(Clone, Debug)]
pub struct Transmit {
    /// Our address; `None` leaves it to routing.
    pub source: Option<IpAddr>,
    /// The peer's address.
    pub destination: IpAddr,
    /// The packet: no longer than its path's MTU permits, as [`super::Association::handle_path_mtu`] was told it, unless one chunk alone is, which IP then has to fragment.
    pub packet: Packet,
}

/// Where packets are made: both are the caller's, to be used for one packet after the other.
#[derive(Debug)]
pub struct Workbench<'a> {
    /// Memory for chunks.
    pub arena: &'a mut BytesMut,
    /// The packet, once there is one. What was in it is given up.
    pub packet: &'a mut Packet,
}

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// On this path of the association.
    Path(PathId),
    /// An answer to what came from an address that may be none of the peer's.
    Answer {
        /// Our address; `None` leaves it to routing.
        source: Option<IpAddr>,
        /// Where the packet came from that is answered.
        destination: IpAddr,
    },
}

/// One chunk that answers a received packet, with a tag that is not the association's, or without any association.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    source: IpAddr,
    destination: IpAddr,
    header: CommonHeader,
    chunk: Chunk,
}

impl Reply {
    /// `chunk` goes back to where the packet with `received` came from.
    pub fn new(
        info: &PacketInfo,
        received: &CommonHeader,
        verification_tag: u32,
        chunk: Chunk,
    ) -> Self {
        Self {
            source: info.destination,
            destination: info.source,
            header: CommonHeader {
                source_port: received.destination_port,
                destination_port: received.source_port,
                verification_tag,
            },
            chunk,
        }
    }

    /// The same to another address of the peer.
    pub(super) fn to(self, destination: IpAddr) -> Self {
        Self {
            destination,
            ..self
        }
    }

    /// The chunk.
    pub fn chunk(&self) -> &Chunk {
        &self.chunk
    }

    /// The tag that the answer carries.
    pub fn verification_tag(&self) -> u32 {
        self.header.verification_tag
    }

    /// Builds the packet.
    pub(super) fn build(self, bench: &mut Workbench<'_>) -> Departure {
        let mut builder = PacketBuilder::new(self.header, ANSWER_LEN, bench.arena);
        let pushed = builder.push(&self.chunk);
        debug_assert!(pushed, "an empty packet takes any chunk that is one");
        builder.finish_into(bench.packet);
        Departure::Answer {
            source: Some(self.source),
            destination: self.destination,
        }
    }

    /// Builds the packet. `arena` is memory for packets, kept by the caller.
    pub fn into_transmit(self, arena: &mut BytesMut) -> Transmit {
        let mut packet = Packet::new();
        let (source, destination) = (Some(self.source), self.destination);
        self.build(&mut Workbench {
            arena,
            packet: &mut packet,
        });
        Transmit {
            source,
            destination,
            packet,
        }
    }
}

/// Octets of an answer at most, if its chunk is not longer: any path carries them.
const ANSWER_LEN: usize = 1200;
