//! SCTP packets: any octets, in any pieces, are read the same way; what is read can be built, and is read from that again
//! as the same value.

use bytes::{Bytes, BytesMut};
use tidewire::wire::sctp::{
    BadChunk, CHUNK_HEADER_LEN, COMMON_HEADER_LEN, Causes, Chunk, ChunkError, CommonHeader,
    PacketBuilder, PacketReader,
};
use tidewire_netdev::Packet;
use tidewire_netdev::crc32c::{fill_sctp_checksum, sctp_is_intact};
use tidewire_netdev::packet::HEADER_ROOM;

use super::Input;

/// What the first octets of the input say: how the packet lies in memory, and how long a built one may be.
struct Pieces {
    inline: usize,
    slices: Vec<usize>,
    max_len: usize,
}

/// A packet from the common header on.
pub(super) fn packet(data: &[u8]) {
    let mut input = Input(data);
    let pieces = Pieces::from_input(&mut input);
    let octets = Bytes::copy_from_slice(input.rest());

    let whole = Packet::from_bytes(octets.clone());
    let mut cut = pieces.cut(&octets);
    assert_eq!(cut.to_bytes(), octets);
    check_sum(&whole, &mut cut);

    let (header, chunks) = match (read(&whole), read(&cut)) {
        (None, None) => return,
        (Some(whole), Some(cut)) => {
            assert_eq!(whole, cut, "pieces do not matter");
            whole
        }
        (whole, cut) => panic!("{whole:?} {cut:?}"),
    };
    check_errors(&chunks);
    let mut expected = Vec::new();
    for chunk in chunks.into_iter().flatten() {
        check_limits(&chunk, octets.len());
        let chunk = as_built(chunk);
        let packet = build(header, 0, std::slice::from_ref(&chunk)).0;
        assert!(packet.len() <= COMMON_HEADER_LEN + octets.len().next_multiple_of(4));
        assert_eq!(
            read(&packet),
            Some((header, vec![Ok(chunk.clone())])),
            "alone"
        );
        expected.push(chunk);
    }
    let (packet, count) = build(header, pieces.max_len, &expected);
    expected.truncate(count);
    let expected = expected.into_iter().map(Ok).collect();
    assert_eq!(read(&packet), Some((header, expected)), "together");
}

impl Pieces {
    fn from_input(input: &mut Input<'_>) -> Self {
        let inline = usize::from(input.u8()) % (HEADER_ROOM + 1);
        let max_len = usize::from(input.u16());
        let slices = (0..input.u8() % 6)
            .map(|_| usize::from(input.u8()))
            .collect();
        Self {
            inline,
            slices,
            max_len,
        }
    }

    fn cut(&self, octets: &Bytes) -> Packet {
        let inline = self.inline.min(octets.len());
        let mut packet = Packet::from_header(&octets[..inline]);
        let mut rest = octets.slice(inline..);
        for len in &self.slices {
            packet.push(rest.split_to((*len).min(rest.len())));
        }
        packet.push(rest);
        packet
    }
}

/// Its header and chunks, if there is a header.
fn read(packet: &Packet) -> Option<(CommonHeader, Vec<Result<Chunk, BadChunk>>)> {
    let Ok((header, mut reader)) = PacketReader::new(packet) else {
        return None;
    };
    assert!(header.source_port != 0 && header.destination_port != 0);
    let summary = reader.summary();
    let mut chunks = Vec::new();
    let mut left = reader.remaining();
    loop {
        let kind = reader.peek_kind();
        let mut ahead = reader.clone();
        let data = ahead.next_data();
        let Some(chunk) = reader.next_chunk() else {
            assert_eq!((kind, data), (None, None));
            break;
        };
        if let Some(data) = data {
            assert_eq!(chunk, Ok(Chunk::Data(data)));
            assert_eq!(ahead.remaining(), reader.remaining());
        }
        let read = match &chunk {
            Ok(chunk) => chunk.kind(),
            Err(bad) => bad.kind,
        };
        assert_eq!(kind, Some(read));
        assert!(reader.remaining() + CHUNK_HEADER_LEN <= left, "it gets on");
        left = reader.remaining();
        chunks.push(chunk);
    }
    assert_eq!(reader.remaining(), 0);
    assert_eq!(reader.next_chunk(), None);
    let counted = chunks.iter().take_while(|chunk| !ends(chunk)).count();
    assert!(summary.count() >= counted);
    for chunk in chunks.iter().flatten() {
        assert!(summary.contains(chunk.kind()) || chunk.kind() >= 15);
    }
    Some((header, chunks))
}

fn ends(chunk: &Result<Chunk, BadChunk>) -> bool {
    matches!(chunk, Err(bad) if bad.error == ChunkError::Length)
}

/// A wrong length ends the packet; nothing else does.
fn check_errors(chunks: &[Result<Chunk, BadChunk>]) {
    if let Some(end) = chunks.iter().position(ends) {
        assert_eq!(end + 1, chunks.len());
    }
}

/// However a packet lies in memory, its checksum is the same, and any filled in is right.
fn check_sum(whole: &Packet, cut: &mut Packet) {
    assert_eq!(sctp_is_intact(whole, 0), sctp_is_intact(cut, 0));
    let mut filled = whole.clone();
    let is_filled = fill_sctp_checksum(&mut filled, 0);
    assert_eq!(is_filled, whole.len() >= COMMON_HEADER_LEN);
    assert_eq!(sctp_is_intact(&filled, 0), is_filled);
    let mut other = cut.clone();
    fill_sctp_checksum(&mut other, 0);
    assert_eq!(filled.to_bytes(), other.to_bytes());
}

/// What a chunk can make its receiver keep is bounded by its octets or by less.
fn check_limits(chunk: &Chunk, len: usize) {
    match chunk {
        Chunk::Data(data) => assert!(!data.payload.is_empty() && data.payload.len() <= len),
        Chunk::Init(init) | Chunk::InitAck(init) => {
            let parameters = &init.parameters;
            assert!(parameters.addresses.len() <= 64);
            assert!(parameters.unrecognized.len() <= 16 && parameters.reported.len() <= 16);
            let has_cookie = parameters.state_cookie.is_some();
            assert!(has_cookie || matches!(chunk, Chunk::Init(_)));
        }
        Chunk::Sack(sack) => {
            assert!(4 * (sack.gap_blocks.len() + sack.duplicates.len()) <= len);
        }
        Chunk::Abort { causes, .. } | Chunk::Error(causes) => {
            let causes: Vec<_> = causes.iter().collect();
            assert!(4 * causes.len() <= len);
            let good = causes.into_iter().flatten();
            let again: Causes = good.clone().collect();
            assert!(again.iter().eq(good.map(Ok)));
        }
        _ => {}
    }
}

/// A chunk without what is read and never sent.
fn as_built(mut chunk: Chunk) -> Chunk {
    if let Chunk::Init(init) | Chunk::InitAck(init) = &mut chunk {
        init.parameters.host_name_address = None;
        init.parameters.unrecognized.clear();
    }
    chunk
}

/// A packet of as many of the chunks as fit, and how many those are.
fn build(header: CommonHeader, max_len: usize, chunks: &[Chunk]) -> (Packet, usize) {
    let mut arena = BytesMut::new();
    let mut builder = PacketBuilder::new(header, max_len, &mut arena);
    let mut count = 0;
    for chunk in chunks {
        let fits = builder.is_empty() || chunk.emitted_len() <= builder.room();
        assert_eq!(builder.push(chunk), fits);
        if !fits {
            break;
        }
        count += 1;
    }
    let len = builder.len();
    let packet = builder.finish();
    assert_eq!(packet.len(), len);
    assert!(count < 2 || len <= max_len);
    assert!(sctp_is_intact(&packet, 0));
    (packet, count)
}
