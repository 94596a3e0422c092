//! Builds a packet to send.

use bytes::{BufMut, Bytes, BytesMut};
use tidewire_netdev::Packet;
use tidewire_netdev::crc32c::fill_sctp_checksum;
use tidewire_netdev::packet::HEADER_ROOM;

use super::{
    CHUNK_HEADER_LEN, COMMON_HEADER_LEN, Chunk, CommonHeader, DATA_HEADER_LEN, DataHeader, padded,
    parameter,
};

/// Octets of the arena from which packets are cut.
const ARENA: usize = 64 << 10;
/// Headers up to this length go inline: Ethernet (14) and IPv6 (40) must still fit before them.
const INLINE: usize = HEADER_ROOM - 54;
/// Data shorter than this is copied: a slice of its own would cost more.
const COPY_BELOW: usize = 256;
const ZEROS: [u8; 3] = [0; 3];

/// A packet under construction.
///
/// Chunks are appended while they fit; an empty packet takes a chunk of any length, since one that is larger than the
/// path's MTU has to be fragmented by IP. The data of the last DATA chunk stays where it is and is borrowed by the
/// packet; everything else is copied into an arena that many packets share.
#[derive(Debug)]
pub struct PacketBuilder<'a> {
    /// Headers and copied chunks, from the common header on.
    octets: &'a mut BytesMut,
    max_len: usize,
    /// The data of the last chunk, not copied yet.
    borrowed: Option<Bytes>,
}

impl<'a> PacketBuilder<'a> {
    /// An empty packet of at most `max_len` octets, common header included. `arena` is the caller's, to be used for one
    /// packet after the other; what it holds is given up.
    pub fn new(header: CommonHeader, max_len: usize, arena: &'a mut BytesMut) -> Self {
        arena.clear();
        if arena.capacity() < max_len && !arena.try_reclaim(ARENA) {
            *arena = BytesMut::with_capacity(ARENA.max(max_len));
        }
        arena.put_slice(&header.emit());
        Self {
            octets: arena,
            max_len,
            borrowed: None,
        }
    }

    /// Octets so far.
    pub fn len(&self) -> usize {
        self.octets.len() + self.borrowed.as_ref().map_or(0, |data| padded(data.len()))
    }

    /// Whether it has no chunk yet.
    pub fn is_empty(&self) -> bool {
        self.len() == COMMON_HEADER_LEN
    }

    /// The longest chunk that still fits, in octets: a multiple of 4, so that its padding fits, too.
    pub fn room(&self) -> usize {
        self.max_len.saturating_sub(self.len()) / 4 * 4
    }

    /// Appends a chunk. `false`, with nothing changed, if it does not fit or is longer than a chunk can be.
    ///
    /// Which chunks may be together, and in what order, is the caller's to heed (RFC 9260 6.10).
    #[must_use]
    pub fn push(&mut self, chunk: &Chunk) -> bool {
        if let Chunk::Data(data) = chunk {
            return self.push_data(&data.header, data.payload.clone());
        }
        let len = chunk.emitted_len();
        if !self.takes(len) {
            return false;
        }
        self.settle();
        chunk.emit(self.octets);
        self.pad();
        true
    }

    /// Appends a DATA chunk, as [`Self::push`].
    #[must_use]
    pub fn push_data(&mut self, header: &DataHeader, payload: Bytes) -> bool {
        if !self.takes(DATA_HEADER_LEN + payload.len()) {
            return false;
        }
        self.settle();
        self.octets.put_slice(&header.emit(payload.len()));
        self.borrowed = Some(payload);
        true
    }

    /// The packet, its checksum filled in.
    pub fn finish(self) -> Packet {
        let mut packet = Packet::new();
        self.finish_into(&mut packet);
        packet
    }

    /// The same in the place of another packet.
    pub fn finish_into(mut self, packet: &mut Packet) {
        let borrowed = self.borrowed.take_if(|data| data.len() >= COPY_BELOW);
        self.settle();
        if self.octets.len() <= INLINE {
            packet.begin(self.octets);
            self.octets.clear();
        } else {
            packet.begin(&[]);
            packet.push(self.octets.split().freeze());
        }
        if let Some(data) = borrowed {
            let padding = padded(data.len()) - data.len();
            packet.push(data);
            if padding > 0 {
                packet.push(Bytes::from_static(&ZEROS[..padding]));
            }
        }
        // There is a common header, so this cannot fail.
        fill_sctp_checksum(packet, 0);
    }

    fn takes(&self, len: usize) -> bool {
        len <= usize::from(u16::MAX) && (padded(len) <= self.room() || self.is_empty())
    }

    /// Copies the data that was borrowed: something comes behind it.
    fn settle(&mut self) {
        if let Some(data) = self.borrowed.take() {
            self.octets.put_slice(&data);
            self.pad();
        }
    }

    fn pad(&mut self) {
        let len = self.octets.len();
        self.octets.put_bytes(0, padded(len) - len);
    }
}

impl Chunk {
    /// Octets it takes, without padding.
    pub fn emitted_len(&self) -> usize {
        CHUNK_HEADER_LEN
            + match self {
                Self::Data(data) => return DATA_HEADER_LEN + data.payload.len(),
                Self::Init(init) | Self::InitAck(init) => return init.emitted_len(),
                Self::Sack(sack) => return sack.emitted_len(),
                Self::Unknown(unknown) => return unknown.whole.len(),
                Self::Heartbeat(info) | Self::HeartbeatAck(info) => {
                    parameter::HEADER_LEN + info.len()
                }
                Self::Abort { causes, .. } | Self::Error(causes) => causes.octets().len(),
                Self::CookieEcho(cookie) => cookie.len(),
                Self::Shutdown { .. } | Self::Ecne { .. } | Self::Cwr { .. } => 4,
                Self::ShutdownAck | Self::CookieAck | Self::ShutdownComplete { .. } => 0,
            }
    }

    /// Appends it, without padding at its end.
    fn emit(&self, buffer: &mut BytesMut) {
        let flags = match self {
            Self::Data(data) => {
                buffer.put_slice(&data.header.emit(data.payload.len()));
                buffer.put_slice(&data.payload);
                return;
            }
            Self::Unknown(unknown) => {
                buffer.put_slice(&unknown.whole);
                return;
            }
            Self::Abort { tag_reflected, .. } | Self::ShutdownComplete { tag_reflected } => {
                u8::from(*tag_reflected) * Self::TAG_REFLECTED
            }
            _ => 0,
        };
        buffer.put_u8(self.kind());
        buffer.put_u8(flags);
        buffer.put_u16(self.emitted_len() as u16);
        match self {
            Self::Init(init) | Self::InitAck(init) => init.emit(buffer),
            Self::Sack(sack) => sack.emit(buffer),
            Self::Heartbeat(info) | Self::HeartbeatAck(info) => {
                buffer.put_u16(parameter::HEARTBEAT_INFO);
                buffer.put_u16((parameter::HEADER_LEN + info.len()) as u16);
                buffer.put_slice(info);
            }
            Self::Abort { causes, .. } | Self::Error(causes) => buffer.put_slice(causes.octets()),
            Self::Shutdown {
                cumulative_tsn_ack: tsn,
            }
            | Self::Ecne { lowest_tsn: tsn }
            | Self::Cwr { lowest_tsn: tsn } => buffer.put_u32(*tsn),
            Self::CookieEcho(cookie) => buffer.put_slice(cookie),
            Self::Data(_)
            | Self::Unknown(_)
            | Self::ShutdownAck
            | Self::CookieAck
            | Self::ShutdownComplete { .. } => {}
        }
    }
}
