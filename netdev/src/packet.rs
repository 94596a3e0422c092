//! A packet: inline room for headers, a body of borrowed slices, and offload metadata.
//!
//! ```text
//!            HEADER_ROOM octets, inline            body: reference-counted slices
//!  ┌───────────────────────┬──────────────────┐  ┌────────────┐ ┌──────────────┐
//!  │        unused         │ headers so far   │  │  Bytes     │ │  Bytes       │ …
//!  └───────────────────────┴──────────────────┘  └────────────┘ └──────────────┘
//!            ◀── prepend() grows this way
//! ```
//!
//! A packet that the stack builds has its headers inline and its payload as slices of the send buffer, so nothing is
//! copied. A packet read from a device has an empty header room and one slice with everything in it.

use std::fmt;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};
use smallvec::SmallVec;

use crate::offload::{Checksum, Offload};

/// Inline header room in octets: Ethernet (14) + IPv4 with all options (60) + TCP with all options (60), rounded up.
pub const HEADER_ROOM: usize = 136;

/// A payload as a short list of slices; two live inline, since a super-packet of 64 KiB rarely spans more.
pub type Payload = SmallVec<[Bytes; 2]>;

/// One packet, possibly a super-packet of up to 64 KiB.
#[derive(Clone)]
pub struct Packet {
    head: [u8; HEADER_ROOM],
    /// Index of the first used octet of `head`.
    head_start: usize,
    body: Payload,
    body_len: usize,
    /// What the device below has to do, or has said.
    pub offload: Offload,
}

impl Packet {
    /// An empty packet.
    #[inline]
    pub fn new() -> Self {
        Self {
            head: [0; HEADER_ROOM],
            head_start: HEADER_ROOM,
            body: Payload::new(),
            body_len: 0,
            offload: Offload::default(),
        }
    }

    /// A packet as a device reads it: everything in one slice.
    pub fn from_bytes(bytes: Bytes) -> Self {
        let mut packet = Self::new();
        packet.push(bytes);
        packet
    }

    /// A packet that has only headers yet: inline if they fit the header room, else in a slice of their own.
    #[inline]
    pub fn from_header(header: &[u8]) -> Self {
        let mut packet = Self::new();
        packet.begin(header);
        packet
    }

    /// Makes it what [`Self::from_header`] gives, where it is: a packet is some hundred octets to move.
    #[inline]
    pub fn begin(&mut self, header: &[u8]) {
        self.head_start = HEADER_ROOM;
        self.body.clear();
        self.body_len = 0;
        self.offload = Offload::default();
        if header.len() <= HEADER_ROOM {
            self.head_start -= header.len();
            self.head[self.head_start..].copy_from_slice(header);
        } else {
            self.push(Bytes::copy_from_slice(header));
        }
    }

    /// A packet that has only payload yet; headers are added with [`Self::prepend`].
    pub fn from_payload(payload: Payload) -> Self {
        let body_len = payload.iter().map(Bytes::len).sum();
        Self {
            head: [0; HEADER_ROOM],
            head_start: HEADER_ROOM,
            body: payload,
            body_len,
            offload: Offload::default(),
        }
    }

    /// The packet's length in octets.
    #[inline]
    pub fn len(&self) -> usize {
        HEADER_ROOM - self.head_start + self.body_len
    }

    /// Whether it has no octet at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts `n` zeroed octets in front and gives them for writing; a partial checksum's start moves along.
    ///
    /// # Panics
    /// When the header room is used up: headers the stack builds itself always fit (a broken invariant otherwise).
    #[inline]
    pub fn prepend(&mut self, n: usize) -> &mut [u8] {
        assert!(
            n <= self.head_start,
            "header room exhausted: the stack's own headers fit in {HEADER_ROOM} octets"
        );
        self.head_start -= n;
        if let Checksum::Partial { start, .. } = &mut self.offload.checksum {
            *start = start.saturating_add(n as u16);
        }
        let area = &mut self.head[self.head_start..self.head_start + n];
        area.fill(0);
        area
    }

    /// The inline headers.
    #[inline]
    pub fn head(&self) -> &[u8] {
        &self.head[self.head_start..]
    }

    /// The inline headers, for writing.
    #[inline]
    pub fn head_mut(&mut self) -> &mut [u8] {
        &mut self.head[self.head_start..]
    }

    /// The longest prefix that lies in one piece: the inline headers, or else the first slice.
    #[inline]
    pub fn contiguous(&self) -> &[u8] {
        if self.head_start < HEADER_ROOM {
            self.head()
        } else {
            self.body.first().map_or(&[], |slice| slice.as_ref())
        }
    }

    /// Makes the first `n` octets lie in one piece, flattening the packet if they do not; `false` if it is shorter.
    #[inline]
    pub fn pull_up(&mut self, n: usize) -> bool {
        if self.contiguous().len() >= n {
            return true;
        }
        if self.len() < n {
            return false;
        }
        self.flatten();
        true
    }

    /// Makes the first `n` octets inline, so that [`Self::head_mut`] can change them; what follows stays shared.
    ///
    /// `false`, with nothing changed, if the packet is shorter or the header room too small.
    pub fn pull_inline(&mut self, n: usize) -> bool {
        let inline = HEADER_ROOM - self.head_start;
        if inline >= n {
            return true;
        }
        if n > HEADER_ROOM || self.len() < n {
            return false;
        }
        let start = HEADER_ROOM - n;
        self.head.copy_within(self.head_start.., start);
        self.head_start = start;
        let mut at = start + inline;
        self.body_len -= n - inline;
        while at < HEADER_ROOM {
            let first = &mut self.body[0];
            let taken = first.len().min(HEADER_ROOM - at);
            self.head[at..at + taken].copy_from_slice(&first[..taken]);
            at += taken;
            if taken == first.len() {
                self.body.remove(0);
            } else {
                first.advance(taken);
            }
        }
        true
    }

    /// Replaces the octets from `at` on by `octets`, without touching what other packets share.
    ///
    /// Octets within the header room's reach are changed inline; further ones cost a copy of the whole packet.
    /// `false`, with nothing changed, if the packet is too short.
    pub fn overwrite(&mut self, at: usize, octets: &[u8]) -> bool {
        let Some(end) = at
            .checked_add(octets.len())
            .filter(|end| *end <= self.len())
        else {
            return false;
        };
        if self.pull_inline(end) {
            self.head_mut()[at..end].copy_from_slice(octets);
            return true;
        }
        let mut flat = self.copy();
        flat[at..end].copy_from_slice(octets);
        self.set_flat(flat.freeze());
        true
    }

    /// The octet at `index`, wherever it lies.
    pub fn octet(&self, mut index: usize) -> Option<u8> {
        for slice in self.slices() {
            match slice.get(index) {
                Some(octet) => return Some(*octet),
                None => index -= slice.len(),
            }
        }
        None
    }

    /// Copies everything into one fresh slice, which leaves the header room empty.
    pub fn flatten(&mut self) {
        let flat = self.to_bytes();
        self.set_flat(flat);
    }

    fn set_flat(&mut self, flat: Bytes) {
        self.head_start = HEADER_ROOM;
        self.body_len = flat.len();
        self.body.clear();
        self.body.push(flat);
    }

    /// The slices behind the inline headers.
    #[inline]
    pub fn body(&self) -> &[Bytes] {
        &self.body
    }

    /// Appends a slice; an empty one is dropped.
    #[inline]
    pub fn push(&mut self, slice: Bytes) {
        if !slice.is_empty() {
            self.body_len += slice.len();
            self.body.push(slice);
        }
    }

    /// Makes room for `additional` more slices at once.
    pub(crate) fn reserve_slices(&mut self, additional: usize) {
        self.body.reserve(additional);
    }

    /// Moves the octets of `other` from `from` on behind this packet's own, slices by reference; `other` is left empty.
    pub(crate) fn append_from(&mut self, other: &mut Self, from: usize) {
        other.advance(from);
        // Rare: payload lies inline when somebody has changed it.
        if other.head_start < HEADER_ROOM {
            self.push(Bytes::copy_from_slice(other.head()));
            other.head_start = HEADER_ROOM;
        }
        self.body_len += other.body_len;
        other.body_len = 0;
        // The usual packet has one slice, and moving that alone costs less.
        if other.body.len() == 1 {
            self.body.extend(other.body.pop());
        } else {
            self.body.extend(other.body.drain(..));
        }
    }

    /// Takes `n` octets away from the front (all of them if it is shorter); a partial checksum's start moves along.
    #[inline]
    pub fn advance(&mut self, n: usize) {
        if let Checksum::Partial { start, .. } = &mut self.offload.checksum {
            *start = start.saturating_sub(n.min(usize::from(u16::MAX)) as u16);
        }
        let from_head = n.min(HEADER_ROOM - self.head_start);
        self.head_start += from_head;
        let mut rest = (n - from_head).min(self.body_len);
        self.body_len -= rest;
        while rest > 0 {
            let first = &mut self.body[0];
            if first.len() > rest {
                first.advance(rest);
                return;
            }
            rest -= first.len();
            self.body.remove(0);
        }
    }

    /// Cuts the packet to at most `len` octets (link padding behind the network packet).
    pub fn truncate(&mut self, len: usize) {
        let excess = self.len().saturating_sub(len);
        let mut rest = excess.min(self.body_len);
        self.body_len -= rest;
        while rest > 0 {
            let last = self.body.len() - 1;
            let slice = &mut self.body[last];
            if slice.len() > rest {
                slice.truncate(slice.len() - rest);
                break;
            }
            rest -= slice.len();
            self.body.pop();
        }
        if self.len() > len {
            // What is left to cut lies in the headers: move the kept part to the end of the room.
            let keep = len;
            self.head
                .copy_within(self.head_start..self.head_start + keep, HEADER_ROOM - keep);
            self.head_start = HEADER_ROOM - keep;
        }
    }

    /// What is left as payload slices; octets still in the header room are copied into a slice of their own.
    pub fn into_payload(mut self) -> Payload {
        if self.head_start < HEADER_ROOM {
            let head = Bytes::copy_from_slice(self.head());
            self.body.insert(0, head);
        }
        self.body
    }

    /// Everything in one new allocation.
    pub fn to_bytes(&self) -> Bytes {
        if self.head_start == HEADER_ROOM && self.body.len() == 1 {
            return self.body[0].clone();
        }
        self.copy().freeze()
    }

    /// Everything in a new allocation, always.
    fn copy(&self) -> BytesMut {
        let mut flat = BytesMut::with_capacity(self.len());
        for slice in self.slices() {
            flat.extend_from_slice(slice);
        }
        flat
    }

    /// All octets in order: the inline headers if there are any, then each slice.
    #[inline]
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let head = self.head();
        std::iter::once(head)
            .filter(|head| !head.is_empty())
            .chain(self.body.iter().map(|slice| slice.as_ref()))
    }

    /// All octets in order, for a vectored write.
    pub fn io_slices(&self) -> SmallVec<[IoSlice<'_>; 4]> {
        self.slices().map(IoSlice::new).collect()
    }
}

impl Default for Packet {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packet")
            .field("len", &self.len())
            .field("head", &self.head().len())
            .field("slices", &self.body.len())
            .field("offload", &self.offload)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Packet {
        let mut packet = Packet::new();
        packet.push(Bytes::from_static(b"payload "));
        packet.push(Bytes::from_static(b"in two slices"));
        packet.prepend(4).copy_from_slice(b"tcp:");
        packet.prepend(3).copy_from_slice(b"ip:");
        packet
    }

    #[test]
    fn headers_come_before_the_payload() {
        assert_eq!(&sample().to_bytes()[..], b"ip:tcp:payload in two slices");
    }

    #[test]
    fn advance_crosses_headers_and_slices() {
        for n in 0..=28 {
            let mut packet = sample();
            packet.advance(n);
            assert_eq!(
                &packet.to_bytes()[..],
                &b"ip:tcp:payload in two slices"[n..]
            );
            assert_eq!(packet.len(), 28 - n);
        }
    }

    #[test]
    fn truncate_crosses_slices_and_headers() {
        for n in 0..=30 {
            let mut packet = sample();
            packet.truncate(n);
            assert_eq!(
                &packet.to_bytes()[..],
                &b"ip:tcp:payload in two slices"[..n.min(28)]
            );
        }
    }

    #[test]
    fn partial_checksum_start_follows_the_headers() {
        let mut packet = Packet::new();
        packet.prepend(20);
        packet.offload.checksum = Checksum::Partial {
            start: 0,
            offset: 16,
        };
        packet.prepend(40);
        assert_eq!(
            packet.offload.checksum,
            Checksum::Partial {
                start: 40,
                offset: 16
            }
        );
        packet.advance(40);
        assert_eq!(
            packet.offload.checksum,
            Checksum::Partial {
                start: 0,
                offset: 16
            }
        );
    }

    #[test]
    fn pull_inline_crosses_slices_and_keeps_the_octets() {
        for n in 0..=30 {
            let mut packet = sample();
            packet.offload.checksum = Checksum::Partial {
                start: 3,
                offset: 16,
            };
            let offload = packet.offload;
            assert_eq!(packet.pull_inline(n), n <= 28, "{n}");
            assert_eq!(&packet.to_bytes()[..], b"ip:tcp:payload in two slices");
            assert_eq!(packet.len(), 28);
            assert!(packet.head().len() >= n.min(28) || n > 28);
            assert_eq!(packet.offload, offload);
        }
        let mut long = Packet::from_bytes(Bytes::from(vec![7; 200]));
        assert!(long.pull_inline(HEADER_ROOM));
        assert!(!long.pull_inline(HEADER_ROOM + 1));
        assert_eq!(long.len(), 200);
    }

    #[test]
    fn overwrite_leaves_shared_slices_alone() {
        let shared = Bytes::from(vec![7; 300]);
        for at in [0, 5, 126, 127, 128, 250, 298] {
            let mut packet = Packet::from_bytes(shared.slice(..200));
            packet.push(shared.slice(200..));
            assert!(packet.overwrite(at, &[1, 2]), "{at}");
            let octets = packet.to_bytes();
            assert_eq!(&octets[at..at + 2], &[1, 2]);
            assert_eq!(packet.octet(at), Some(1));
            assert_eq!(octets.iter().filter(|octet| **octet == 7).count(), 298);
            assert!(shared.iter().all(|octet| *octet == 7));
        }
        let mut packet = Packet::from_bytes(shared);
        assert!(!packet.overwrite(299, &[1, 2]));
        assert!(!packet.overwrite(usize::MAX, &[1]));
        assert_eq!(packet.octet(300), None);
    }

    #[test]
    fn pull_up_makes_a_prefix_contiguous() {
        let mut packet = sample();
        assert!(packet.pull_up(20));
        assert_eq!(&packet.contiguous()[..20], b"ip:tcp:payload in tw");
        assert!(!packet.pull_up(29));
    }
}
