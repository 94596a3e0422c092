//! Cutting own datagrams that are longer than the path's MTU (RFC 791 3.2, RFC 8200 4.5), and the identifications that
//! join their fragments (RFC 6864, RFC 7739).
//!
//! For UDP and ICMP. TCP and SCTP fit their packets to the path instead.

use std::hash::Hasher;
use std::net::IpAddr;

use smallvec::SmallVec;
use tidewire_netdev::{Packet, segmentation};

use crate::error::{SocketError, SocketResult};
use crate::ip::output::{self, OutputHeader};
use crate::random::{HashKey, Random};
use crate::wire::ipv6::fragment::Fragment;
use crate::wire::{ipv4, ipv6, protocol};

/// Fragments in order; up to four without an allocation.
pub type Fragments = SmallVec<[Packet; 4]>;

/// Puts the IP header in front of `packet`, and cuts it if it is then longer than `mtu` octets. The payload is shared,
/// not copied. A partial checksum is completed first, since no device could complete it in pieces.
///
/// # Errors
/// [`SocketError::MessageTooLong`] if the packet is too long for the MTU and must not be cut
/// ([`OutputHeader::dont_fragment`], which for IPv6 is the caller's matter), or too long for any header;
/// [`SocketError::InvalidInput`] if its checksum lies outside of it.
pub fn fragment(
    mut packet: Packet,
    header: &OutputHeader,
    mtu: usize,
    identification: u32,
) -> SocketResult<Fragments> {
    let mut fragments = Fragments::new();
    if packet.len() + header.encoded_len() <= mtu {
        output::prepend(&mut packet, header)?;
        fragments.push(packet);
        return Ok(fragments);
    }
    let (overhead, max_len) = match header.destination {
        IpAddr::V4(_) if header.dont_fragment => return Err(SocketError::MessageTooLong),
        IpAddr::V4(_) => (ipv4::HEADER_LEN, MAX_LEN - ipv4::HEADER_LEN),
        IpAddr::V6(_) => (ipv6::HEADER_LEN + ipv6::fragment::HEADER_LEN, MAX_LEN),
    };
    // All fragments but the last are of whole units of 8 octets.
    let piece_len = mtu.saturating_sub(overhead) / 8 * 8;
    if piece_len == 0 || packet.len() > max_len {
        return Err(SocketError::MessageTooLong);
    }
    segmentation::complete_checksum(&mut packet).map_err(|_| SocketError::InvalidInput)?;
    packet.offload = tidewire_netdev::offload::Offload::default();
    let mut offset = 0usize;
    while !packet.is_empty() {
        let mut piece = packet.clone();
        piece.truncate(piece_len);
        packet.advance(piece_len);
        let place = Fragment {
            next_header: header.protocol,
            // Below 65,536, as the length is.
            offset: offset as u16,
            more: !packet.is_empty(),
            identification,
        };
        prepend_place(&mut piece, header, &place)?;
        fragments.push(piece);
        offset += piece_len;
    }
    Ok(fragments)
}

pub(super) fn prepend_place(
    piece: &mut Packet,
    header: &OutputHeader,
    place: &Fragment,
) -> SocketResult<()> {
    if let (IpAddr::V4(source), IpAddr::V4(destination)) = (header.source, header.destination) {
        let wire = ipv4::Header {
            identification: place.identification as u16,
            dont_fragment: false,
            more_fragments: place.more,
            fragment_offset: place.offset,
            ..output::v4(header, source, destination)
        };
        return output::prepend_v4(piece, wire);
    }
    place.emit(piece.prepend(ipv6::fragment::HEADER_LEN));
    let header = OutputHeader {
        protocol: protocol::FRAGMENT,
        ..*header
    };
    output::prepend(piece, &header)
}

/// Identifications for fragments, by the hash-based selection of RFC 7739 5.3: not to be guessed from those that other
/// destinations see, and repeated no sooner than 16 or 32 bits allow.
#[derive(Debug)]
pub struct Identifications {
    offsets: HashKey,
    places: HashKey,
    counters: Box<[u32]>,
}

impl Identifications {
    /// Fresh keys and counters.
    pub fn new(random: &mut Random) -> Self {
        Self {
            offsets: HashKey::new(random),
            places: HashKey::new(random),
            counters: (0..COUNTERS).map(|_| random.next_u32()).collect(),
        }
    }

    /// `count` values in a row for packets between two addresses (a super-packet takes one for each segment); gives the
    /// first. IPv4 takes the low 16 bits.
    pub fn reserve(
        &mut self,
        source: IpAddr,
        destination: IpAddr,
        protocol: u8,
        count: u32,
    ) -> u32 {
        // RFC 791 counts per protocol, RFC 8200 4.5 does not; a counter for each is within both.
        let hash = |key: &HashKey| {
            let mut hasher = key.hasher();
            for address in [source, destination] {
                match address {
                    IpAddr::V4(v4) => hasher.write(&v4.octets()),
                    IpAddr::V6(v6) => hasher.write(&v6.octets()),
                }
            }
            hasher.finish()
        };
        let index = (hash(&self.places).wrapping_add(protocol.into()) % COUNTERS as u64) as usize;
        let counter = &mut self.counters[index];
        let first = (hash(&self.offsets) as u32).wrapping_add(*counter);
        *counter = counter.wrapping_add(count);
        first
    }
}

/// The most that the length fields can say, in octets.
const MAX_LEN: usize = 65_535;

/// How many pairs of addresses have counters of their own; others share them, which costs nothing but steps.
const COUNTERS: usize = 1024;

#[cfg(test)]
mod tests;
