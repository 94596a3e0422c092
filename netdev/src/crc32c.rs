//! CRC32c (Castagnoli), the checksum of SCTP (RFC 9260 6.8 and appendix A).
//!
//! The polynomial, the initial value and the final complement are the crate's; what is SCTP's is here: the checksum
//! covers the whole packet from the common header on, with its own field taken as zero, and lies in that field with
//! the octet that holds the polynomial's highest coefficients first, which is the little-endian order of the value.

use std::cell::RefCell;
use std::fmt;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};

use crate::offload::Checksum;
use crate::packet::Packet;

/// Where the checksum lies in an SCTP common header; no other protocol of a partial checksum has it there.
pub const SCTP_CHECKSUM: u16 = 8;

/// Octets of the common header.
const COMMON_HEADER: usize = 12;
/// Octets of the common header and a DATA chunk's.
const USUAL_HEADERS: usize = COMMON_HEADER + 16;

/// The CRC32c of octets that come in pieces.
///
/// ```
/// use tidewire_netdev::crc32c::Crc32c;
///
/// let mut crc = Crc32c::new();
/// crc.add_bytes(b"1234");
/// crc.add_bytes(b"56789");
/// assert_eq!(crc.finish(), 0xe306_9283); // the check value of CRC-32/ISCSI
/// ```
#[derive(Clone)]
pub struct Crc32c(Digest);

impl Crc32c {
    /// The CRC of nothing.
    pub fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    /// Adds octets.
    pub fn add_bytes(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The CRC of everything added.
    pub fn finish(&self) -> u32 {
        // 32 bits of the crate's 64.
        self.0.finalize() as u32
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Crc32c {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Crc32c").field(&self.finish()).finish()
    }
}

thread_local! {
    /// For packets: the crate's state takes some hundred octets of tables along, which take longer to copy than the
    /// packet's headers to sum.
    static CRC: RefCell<Crc32c> = RefCell::new(Crc32c::new());
}

/// Gives `sum` a CRC of nothing.
#[inline]
fn with_crc<R>(sum: impl FnOnce(&mut Crc32c) -> R) -> R {
    CRC.with_borrow_mut(|crc| {
        crc.0.reset();
        sum(crc)
    })
}

/// The checksum that the SCTP packet at offset `start` should have, whatever its field holds; `None` if there is no
/// whole common header.
pub fn sctp_checksum(packet: &Packet, start: usize) -> Option<u32> {
    sum(packet, start).map(|sum| sum.expected)
}

/// Whether the SCTP packet at offset `start` is intact. One whose checksum is [partial](Checksum::Partial) or has been
/// verified below is.
pub fn sctp_is_intact(packet: &Packet, start: usize) -> bool {
    packet.offload.checksum != Checksum::Unverified
        || sum(packet, start).is_some_and(|sum| sum.found == sum.expected)
}

/// Fills in the checksum of the SCTP packet at offset `start`. `false`, with nothing changed, if there is no whole common
/// header.
pub fn fill_sctp_checksum(packet: &mut Packet, start: usize) -> bool {
    let field = start + usize::from(SCTP_CHECKSUM);
    sctp_checksum(packet, start)
        .is_some_and(|checksum| packet.overwrite(field, &checksum.to_le_bytes()))
}

/// What the checksum field of a packet holds, and what it should hold.
struct FieldSum {
    found: u32,
    expected: u32,
}

/// Sums each slice in one go: a call costs as much as 100 octets. Only the headers are copied, to have a field of
/// zero in it.
fn sum(packet: &Packet, start: usize) -> Option<FieldSum> {
    with_crc(|crc| match packet.head().try_into() {
        Ok(headers) if start == 0 => Some(sum_usual(crc, headers, packet.body())),
        _ => sum_any(crc, packet, start),
    })
}

fn sum_any(crc: &mut Crc32c, packet: &Packet, start: usize) -> Option<FieldSum> {
    let mut header = [0; COMMON_HEADER];
    let mut gathered = 0;
    let mut found = [0; 4];
    let mut skip = start;
    for slice in packet.slices() {
        let Some(mut rest) = slice.get(skip..) else {
            skip -= slice.len();
            continue;
        };
        skip = 0;
        if gathered < COMMON_HEADER {
            let (front, behind) = rest.split_at(rest.len().min(COMMON_HEADER - gathered));
            header[gathered..gathered + front.len()].copy_from_slice(front);
            gathered += front.len();
            if gathered < COMMON_HEADER {
                continue;
            }
            let field = &mut header[usize::from(SCTP_CHECKSUM)..];
            found.copy_from_slice(field);
            field.fill(0);
            crc.add_bytes(&header);
            rest = behind;
        }
        if !rest.is_empty() {
            crc.add_bytes(rest);
        }
    }
    (gathered == COMMON_HEADER).then(|| FieldSum {
        found: u32::from_le_bytes(found),
        expected: crc.finish(),
    })
}

/// [`sum`] for a packet of one chunk, as the stack makes them: headers inline, the data in slices.
fn sum_usual(crc: &mut Crc32c, headers: &[u8; USUAL_HEADERS], data: &[Bytes]) -> FieldSum {
    // The headers are summed in one go, and copied in words, as which they are read: a wide load would have to wait for
    // narrow stores.
    let (octets, last) = headers.as_chunks();
    let mut words = [0; USUAL_HEADERS.div_ceil(8)];
    for (word, octets) in words.iter_mut().zip(octets) {
        *word = u64::from_le_bytes(*octets);
    }
    if let Some(last) = last.first_chunk() {
        words[octets.len()] = u64::from(u32::from_le_bytes(*last));
    }
    let word = &mut words[usize::from(SCTP_CHECKSUM) / 8];
    let found = *word as u32;
    *word &= !u64::from(u32::MAX);
    crc.add_bytes(&words.map(u64::to_le_bytes).as_flattened()[..USUAL_HEADERS]);
    for slice in data {
        crc.add_bytes(slice);
    }
    FieldSum {
        found,
        expected: crc.finish(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::segmentation::complete_checksum;

    /// One bit at a time, as the polynomial says.
    fn naive(bytes: &[u8]) -> u32 {
        let mut crc = u32::MAX;
        for byte in bytes {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
            }
        }
        !crc
    }

    /// A packet of these octets, cut into an inline head and slices at these places.
    fn cut(octets: &[u8], head: usize, places: &[usize]) -> Packet {
        let (inline, rest) = octets.split_at(head.min(octets.len()).min(100));
        let mut packet = Packet::from_header(inline);
        let mut at = 0;
        for place in places {
            let to = (at + place).min(rest.len());
            packet.push(Bytes::copy_from_slice(&rest[at..to]));
            at = to;
        }
        packet.push(Bytes::copy_from_slice(&rest[at..]));
        packet
    }

    #[test]
    fn packet_is_intact_until_a_bit_changes() {
        // A COOKIE ACK.
        let mut octets = vec![0x13, 0x88, 0x9c, 0x40, 0x12, 0x34, 0x56, 0x78];
        octets.extend([0, 0, 0, 0, 0x0b, 0, 0, 4]);
        let crc = naive(&octets);
        octets[8..12].copy_from_slice(&crc.to_le_bytes());
        assert!(sctp_is_intact(&cut(&octets, 0, &[]), 0));
        for bit in 0..octets.len() * 8 {
            let mut changed = octets.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!sctp_is_intact(&cut(&changed, 0, &[]), 0), "bit {bit}");
        }
    }

    #[test]
    fn checksum_of_a_packet_too_short_for_a_common_header_does_not_exist() {
        for len in 0..COMMON_HEADER {
            let mut packet = cut(&vec![0; len], 4, &[]);
            assert_eq!(sctp_checksum(&packet, 0), None);
            assert!(!sctp_is_intact(&packet, 0));
            assert!(!fill_sctp_checksum(&mut packet, 0));
        }
        assert_eq!(sctp_checksum(&cut(&[0; 30], 0, &[]), 19), None);
    }

    #[test]
    fn partial_checksum_at_sctps_place_is_completed_with_a_crc() {
        // A kernel's veth hands over SCTP packets with their CRC still to come, and nothing in the field.
        let mut octets: Vec<u8> = (0..80).collect();
        octets[28..32].fill(0);
        let mut packet = cut(&octets, 20, &[]);
        packet.offload.checksum = Checksum::Partial {
            start: 20,
            offset: SCTP_CHECKSUM,
        };
        assert!(sctp_is_intact(&packet, 20), "it never was on a wire");
        complete_checksum(&mut packet).expect("a field to fill");
        assert_eq!(packet.offload.checksum, Checksum::Unverified);
        let completed = packet.to_bytes();
        assert_eq!(completed[28..32], naive(&octets[20..]).to_le_bytes());
        assert!(sctp_is_intact(&packet, 20));
    }

    proptest! {
        #[test]
        fn packets_of_one_chunk_have_the_crc_of_the_whole(
            octets in proptest::collection::vec(any::<u8>(), 28..3000),
            places in proptest::collection::vec(0usize..900, 0..3),
        ) {
            let mut packet = cut(&octets, USUAL_HEADERS, &places);
            let mut zeroed = octets.clone();
            zeroed[8..12].fill(0);
            let expected = naive(&zeroed);
            prop_assert_eq!(sctp_checksum(&packet, 0), Some(expected));
            let carried = u32::from_le_bytes([octets[8], octets[9], octets[10], octets[11]]);
            prop_assert_eq!(sctp_is_intact(&packet, 0), carried == expected);
            prop_assert!(fill_sctp_checksum(&mut packet, 0));
            prop_assert!(sctp_is_intact(&packet, 0));
        }

        #[test]
        fn any_cut_into_slices_gives_the_crc_of_the_whole(
            octets in proptest::collection::vec(any::<u8>(), 12..3000),
            before in 0usize..64,
            head in 0usize..100,
            places in proptest::collection::vec(0usize..900, 0..6),
        ) {
            let mut whole = vec![0xee; before];
            whole.extend(&octets);
            let mut packet = cut(&whole, head, &places);
            let mut zeroed = octets.clone();
            zeroed[8..12].fill(0);
            let expected = naive(&zeroed);
            prop_assert_eq!(sctp_checksum(&packet, before), Some(expected));
            prop_assert!(fill_sctp_checksum(&mut packet, before));
            prop_assert!(sctp_is_intact(&packet, before));
            let filled = packet.to_bytes();
            prop_assert_eq!(&filled[before + 8..before + 12], &expected.to_le_bytes());
            prop_assert_eq!(&filled[..before], &whole[..before]);
            prop_assert_eq!(&filled[before + 12..], &octets[12..]);
        }
    }
}
