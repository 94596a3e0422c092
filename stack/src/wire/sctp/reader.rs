//! Walks the chunks of a received packet (RFC 9260 3.2, 6.10).

use std::borrow::Cow;

use bytes::Bytes;
use tidewire_netdev::Packet;

use super::{
    BadChunk, CHUNK_HEADER_LEN, COMMON_HEADER_LEN, Chunk, ChunkError, ChunkSummary, CommonHeader,
    DATA_HEADER_LEN, Data, DataHeader, kind, padded,
};
use crate::wire::ParseError;

/// The chunks of a packet, one after the other.
///
/// The packet begins with the common header. Packets of an in-memory link have their headers inline and the data as
/// slices of the sender's messages, those of devices are one slice; in both, the data comes out as slices of the same
/// buffers, without a copy.
///
/// ```
/// use bytes::{Bytes, BytesMut};
/// use tidewire::wire::sctp::{Chunk, CommonHeader, PacketBuilder, PacketReader};
///
/// let header = CommonHeader { source_port: 5000, destination_port: 5001, verification_tag: 7 };
/// let mut arena = BytesMut::new();
/// let mut builder = PacketBuilder::new(header, 1480, &mut arena);
/// assert!(builder.push(&Chunk::Heartbeat(Bytes::from_static(b"nonce"))));
/// let packet = builder.finish();
///
/// let (read, mut chunks) = PacketReader::new(&packet).unwrap();
/// assert_eq!(read, header);
/// assert_eq!(chunks.next_chunk(), Some(Ok(Chunk::Heartbeat(Bytes::from_static(b"nonce")))));
/// assert_eq!(chunks.next_chunk(), None);
/// ```
#[derive(Clone, Debug)]
pub struct PacketReader<'a> {
    cursor: Cursor<'a>,
}

impl<'a> PacketReader<'a> {
    /// Reads the common header.
    ///
    /// # Errors
    /// As [`CommonHeader::parse`].
    #[inline]
    pub fn new(packet: &'a Packet) -> Result<(CommonHeader, Self), ParseError> {
        let mut cursor = Cursor::new(packet);
        let octets: [u8; COMMON_HEADER_LEN] = cursor.peek().ok_or(ParseError::Truncated)?;
        cursor.advance(COMMON_HEADER_LEN);
        Ok((CommonHeader::parse(&octets)?, Self { cursor }))
    }

    /// Octets behind what has been read.
    pub const fn remaining(&self) -> usize {
        self.cursor.remaining
    }

    /// The type of the next chunk.
    #[inline]
    pub fn peek_kind(&self) -> Option<u8> {
        self.cursor.peek().map(|[kind, _, _, _]| kind)
    }

    /// The next chunk; `None` at the end. After a [`ChunkError::Length`] there is no telling where the next one begins,
    /// and the packet ends.
    ///
    /// Up to three octets behind the last chunk, too few for another, are passed over, as Linux does.
    pub fn next_chunk(&mut self) -> Option<Result<Chunk, BadChunk>> {
        let Some([kind, flags, len_high, len_low]) = self.cursor.peek() else {
            self.cursor = Cursor::END;
            return None;
        };
        let len = usize::from(u16::from_be_bytes([len_high, len_low]));
        if len < CHUNK_HEADER_LEN || len > self.cursor.remaining {
            return Some(Err(self.end(kind)));
        }
        if kind != kind::DATA {
            return Some(self.read_control(kind, flags, len));
        }
        self.read_data(len)
    }

    /// The next chunk if it is DATA and nothing is wrong with it; anything else is left for [`Self::next_chunk`]. The same
    /// chunk, but not by way of the type that holds any.
    #[inline]
    pub fn next_data(&mut self) -> Option<Data> {
        let octets: &[u8; DATA_HEADER_LEN] = self.cursor.current.first_chunk()?;
        let len = usize::from(u16::from_be_bytes([octets[2], octets[3]]));
        if octets[0] != kind::DATA || len <= DATA_HEADER_LEN || len > self.cursor.remaining {
            return None;
        }
        Some(self.take_data(octets, len - DATA_HEADER_LEN))
    }

    /// Takes a DATA chunk of that header and so many octets of user data, which are there.
    #[inline]
    fn take_data(&mut self, header: &[u8; DATA_HEADER_LEN], payload_len: usize) -> Data {
        let header = DataHeader::parse(header);
        self.cursor.advance(DATA_HEADER_LEN);
        let payload = self.cursor.bytes(payload_len);
        // The last chunk's padding may be missing: nothing needs it.
        self.cursor.advance(padded(payload_len));
        Data { header, payload }
    }

    /// Reads a DATA chunk of `len` octets, which are there, but maybe not all of its header.
    #[inline(never)]
    fn read_data(&mut self, len: usize) -> Option<Result<Chunk, BadChunk>> {
        let (Some(payload_len), Some(octets)) =
            (len.checked_sub(DATA_HEADER_LEN), self.cursor.peek())
        else {
            return Some(Err(self.end(kind::DATA)));
        };
        if payload_len == 0 {
            let tsn = DataHeader::parse(&octets).tsn;
            self.cursor.advance(DATA_HEADER_LEN);
            let error = ChunkError::NoUserData { tsn };
            return Some(Err(BadChunk::new(kind::DATA, error)));
        }
        Some(Ok(Chunk::Data(self.take_data(&octets, payload_len))))
    }

    /// The types of the chunks from here on, up to the first whose length is wrong; none of them is read.
    pub fn summary(&self) -> ChunkSummary {
        let mut summary = ChunkSummary::default();
        let mut cursor = self.cursor.clone();
        while let Some([kind, _, len_high, len_low]) = cursor.peek() {
            let len = usize::from(u16::from_be_bytes([len_high, len_low]));
            if len < CHUNK_HEADER_LEN || len > cursor.remaining {
                break;
            }
            summary.add(kind);
            cursor.advance(padded(len));
        }
        summary
    }

    /// Reads a chunk other than DATA of `len` octets, which are there. Not inlined: the frame that it needs would be set
    /// up for DATA, too.
    #[inline(never)]
    fn read_control(&mut self, kind: u8, flags: u8, len: usize) -> Result<Chunk, BadChunk> {
        let value = &self.cursor.octets(len)[CHUNK_HEADER_LEN..];
        let result = Chunk::parse_fixed(kind, flags, value)
            .unwrap_or_else(|| Chunk::parse_opaque(kind, flags, self.cursor.bytes(len)));
        if matches!(&result, Err(bad) if bad.error == ChunkError::Length) {
            self.cursor = Cursor::END;
        } else {
            self.cursor.advance(padded(len));
        }
        result
    }

    /// Gives the rest of the packet up.
    #[cold]
    fn end(&mut self, kind: u8) -> BadChunk {
        self.cursor = Cursor::END;
        BadChunk::new(kind, ChunkError::Length)
    }
}

/// A place in a packet.
#[derive(Clone, Debug)]
struct Cursor<'a> {
    /// What is left of the slice at hand; not empty unless the packet has ended.
    current: &'a [u8],
    /// The slice of which `current` is a part; `None` while that is inline.
    owner: Option<&'a Bytes>,
    /// The slices behind.
    behind: &'a [Bytes],
    /// Octets from here to the packet's end.
    remaining: usize,
}

impl<'a> Cursor<'a> {
    const END: Self = Self {
        current: &[],
        owner: None,
        behind: &[],
        remaining: 0,
    };

    #[inline]
    fn new(packet: &'a Packet) -> Self {
        let mut cursor = Self {
            current: packet.head(),
            owner: None,
            behind: packet.body(),
            remaining: packet.len(),
        };
        cursor.advance(0);
        cursor
    }

    /// The next `N` octets.
    fn peek<const N: usize>(&self) -> Option<[u8; N]> {
        if let Some(octets) = self.current.first_chunk() {
            return Some(*octets);
        }
        if self.remaining < N {
            return None;
        }
        let mut octets = [0; N];
        self.copy_to(&mut octets);
        Some(octets)
    }

    /// Goes `n` octets further, at most to the end.
    #[inline]
    fn advance(&mut self, n: usize) {
        let mut rest = n.min(self.remaining);
        self.remaining -= rest;
        while rest >= self.current.len() {
            rest -= self.current.len();
            let Some((next, behind)) = self.behind.split_first() else {
                self.current = &[];
                return;
            };
            self.current = next;
            self.owner = Some(next);
            self.behind = behind;
        }
        self.current = &self.current[rest..];
    }

    /// The next `len` octets, which are there.
    fn octets(&self, len: usize) -> Cow<'a, [u8]> {
        match self.current.get(..len) {
            Some(octets) => Cow::Borrowed(octets),
            None => Cow::Owned(self.gather(len)),
        }
    }

    /// The next `len` octets, which are there, as a slice of the packet's own if they lie in one.
    #[inline]
    fn bytes(&self, len: usize) -> Bytes {
        match (self.current.get(..len), self.owner) {
            (Some(octets), Some(owner)) => owner.slice_ref(octets),
            (Some(octets), None) => Bytes::copy_from_slice(octets),
            (None, _) => self.gather(len).into(),
        }
    }

    fn gather(&self, len: usize) -> Vec<u8> {
        let mut octets = vec![0; len];
        self.copy_to(&mut octets);
        octets
    }

    /// Copies the next octets, as many as `buffer` takes and all of them there.
    fn copy_to(&self, buffer: &mut [u8]) {
        let behind = self.behind.iter().map(|slice| slice.as_ref());
        let mut at = 0;
        for slice in std::iter::once(self.current).chain(behind) {
            let len = slice.len().min(buffer.len() - at);
            buffer[at..at + len].copy_from_slice(&slice[..len]);
            at += len;
        }
    }
}
