//! Walks the chunks of a received packet.

use bytes::{Bytes, BytesMut};
use tidewire_netdev::Packet;

use super::{
    BadChunk, CHUNK_HEADER_LEN, COMMON_HEADER_LEN, Chunk, ChunkError, CommonHeader,
    DATA_HEADER_LEN, Data, DataHeader, Sack, kind, padded,
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
    packet: &'a Packet,
    /// Which part is read: 0 the inline headers, then the slices of the body.
    part: usize,
    /// Octets of that part that have been read.
    at: usize,
    /// Octets of the packet that have not been read.
    left: usize,
}

impl<'a> PacketReader<'a> {
    /// Reads the common header.
    ///
    /// # Errors
    /// As [`CommonHeader::parse`].
    pub fn new(packet: &'a Packet) -> Result<(CommonHeader, Self), ParseError> {
        let mut reader = Self {
            packet,
            part: 0,
            at: 0,
            left: packet.len(),
        };
        let octets: [u8; COMMON_HEADER_LEN] = reader.read_array().ok_or(ParseError::Truncated)?;
        Ok((CommonHeader::parse(&octets)?, reader))
    }

    /// Octets behind what has been read.
    pub const fn remaining(&self) -> usize {
        self.left
    }

    /// The type of the next chunk.
    pub fn peek_kind(&self) -> Option<u8> {
        self.clone().read_array::<1>().map(|[kind]| kind)
    }

    /// The next chunk; `None` at the end. After a [`ChunkError::Length`] there is no telling where the next one begins,
    /// and the packet ends.
    pub fn next_chunk(&mut self) -> Option<Result<Chunk, BadChunk>> {
        if self.left == 0 {
            return None;
        }
        let start = self.clone();
        let Some([kind, flags, len_high, len_low]) = self.read_array() else {
            return Some(Err(self.end(kind::DATA)));
        };
        let len = usize::from(u16::from_be_bytes([len_high, len_low]));
        if len < CHUNK_HEADER_LEN || len > start.left {
            return Some(Err(self.end(kind)));
        }
        *self = start;
        let result = self.read_chunk(kind, flags, len);
        // The last chunk's padding may be missing: nothing needs it.
        self.skip((padded(len) - len).min(self.left));
        Some(result.map_err(|error| match error {
            ChunkError::Length => self.end(kind),
            error => BadChunk { kind, error },
        }))
    }

    /// Reads a chunk of `len` octets, which are there.
    fn read_chunk(&mut self, kind: u8, flags: u8, len: usize) -> Result<Chunk, ChunkError> {
        match kind {
            kind::DATA => {
                let octets = self.read_array().ok_or(ChunkError::Length)?;
                let header = DataHeader::parse(&octets);
                Data::check_len(len, &header).inspect_err(|_| {
                    self.skip(len.saturating_sub(DATA_HEADER_LEN));
                })?;
                let payload = self.take(len - DATA_HEADER_LEN);
                Ok(Chunk::Data(Data { header, payload }))
            }
            kind::SACK => match self.contiguous(len) {
                Some(octets) => {
                    let sack = Sack::parse(&octets[CHUNK_HEADER_LEN..]);
                    self.skip(len);
                    Ok(Chunk::Sack(sack?))
                }
                None => Chunk::parse(kind, flags, self.take(len)),
            },
            _ => Chunk::parse(kind, flags, self.take(len)),
        }
    }

    /// Gives the rest of the packet up.
    fn end(&mut self, kind: u8) -> BadChunk {
        self.left = 0;
        BadChunk {
            kind,
            error: ChunkError::Length,
        }
    }

    /// What is left of the part that is read.
    fn rest(&self) -> &'a [u8] {
        let part = match self.part {
            0 => self.packet.head(),
            part => self
                .packet
                .body()
                .get(part - 1)
                .map_or(&[][..], |slice| &slice[..]),
        };
        &part[self.at..]
    }

    /// Moves on to a part that has octets left. Only while some are.
    fn settle(&mut self) {
        while self.left > 0 && self.rest().is_empty() {
            self.part += 1;
            self.at = 0;
        }
    }

    /// The next `len` octets, if they lie in one piece.
    fn contiguous(&mut self, len: usize) -> Option<&'a [u8]> {
        self.settle();
        self.rest().get(..len)
    }

    /// Passes over `len` octets, which are there.
    fn skip(&mut self, mut len: usize) {
        while len > 0 {
            self.settle();
            let step = self.rest().len().min(len);
            self.at += step;
            self.left -= step;
            len -= step;
        }
    }

    fn read_array<const N: usize>(&mut self) -> Option<[u8; N]> {
        if self.left < N {
            return None;
        }
        let mut octets = [0; N];
        let mut filled = 0;
        while filled < N {
            self.settle();
            let rest = self.rest();
            let step = rest.len().min(N - filled);
            octets[filled..filled + step].copy_from_slice(&rest[..step]);
            filled += step;
            self.at += step;
            self.left -= step;
        }
        Some(octets)
    }

    /// The next `len` octets, which are there: a slice of the packet's, or a copy if they do not lie in one.
    fn take(&mut self, len: usize) -> Bytes {
        self.settle();
        let slice = self
            .part
            .checked_sub(1)
            .and_then(|part| self.packet.body().get(part));
        if let Some(slice) = slice.filter(|_| self.rest().len() >= len) {
            let taken = slice.slice(self.at..self.at + len);
            self.skip(len);
            return taken;
        }
        let mut copy = BytesMut::with_capacity(len);
        while copy.len() < len {
            self.settle();
            let rest = self.rest();
            let step = rest.len().min(len - copy.len());
            copy.extend_from_slice(&rest[..step]);
            self.skip(step);
        }
        copy.freeze()
    }
}
