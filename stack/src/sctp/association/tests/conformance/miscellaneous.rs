//! M: chunks of unknown types (RFC 9260 3.2).

use super::*;

/// A chunk of a type nobody knows, with DATA behind it: whether the DATA is taken, and whether the chunk is reported.
fn expect_treatment(kind: u8, taken: bool, reported: bool) {
    for role in ROLES {
        let mut tester = Tester::established(role);
        let whole = Bytes::copy_from_slice(&[kind, 0, 0, 7, 1, 2, 3]);
        let unknown = Chunk::Unknown(UnknownChunk {
            kind,
            whole: whole.clone(),
        });
        tester.send(&[unknown, nth_data(1, b"behind")]);
        let mut chunks = Vec::new();
        while let Some(seen) = tester.try_receive() {
            assert_eq!((seen.tag, seen.destination), (PEER_TAG, BOB));
            chunks.extend(seen.chunks);
        }
        let error = error(ErrorCause::UnrecognizedChunkType(whole));
        assert_eq!(chunks.contains(&error), reported, "{chunks:?}");
        let acknowledged = |chunk: &Chunk| matches!(chunk, Chunk::Sack(sack) if sack.cumulative_tsn_ack == PEER_TSN);
        assert_eq!(chunks.iter().any(acknowledged), taken, "{chunks:?}");
        assert_eq!(chunks.len(), usize::from(taken) + usize::from(reported));
        assert_eq!(tester.read().is_ok(), taken);
        assert_eq!(tester.state(), Some(State::Established));
    }
}

#[test]
fn unknown_chunk_of_type_11_is_passed_over_and_reported() {
    expect_treatment(0xfe, true, true);
}

#[test]
fn unknown_chunk_of_type_00_ends_the_packet_in_silence() {
    expect_treatment(0x3e, false, false);
}

#[test]
fn unknown_chunk_of_type_01_ends_the_packet_and_is_reported() {
    expect_treatment(0x7e, false, true);
}

#[test]
fn unknown_chunk_of_type_10_is_passed_over_in_silence() {
    expect_treatment(0xbe, true, false);
}
