use std::net::IpAddr;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use smallvec::{SmallVec, smallvec};
use tidewire_netdev::Packet;
use tidewire_netdev::crc32c::sctp_is_intact;

use super::*;

const HEADER: CommonHeader = CommonHeader {
    source_port: 5000,
    destination_port: 5001,
    verification_tag: 0x0102_0304,
};

/// A packet of these octets behind a common header, in one slice as a device gives it.
fn packet_of(chunks: &[u8]) -> Packet {
    let mut octets = HEADER.emit().to_vec();
    octets.extend(chunks);
    Packet::from_bytes(octets.into())
}

/// Everything a reader gives for these chunks.
fn read(packet: &Packet) -> Vec<Result<Chunk, BadChunk>> {
    let (header, mut reader) = PacketReader::new(packet).expect("a common header");
    assert_eq!(header, HEADER);
    let mut chunks = Vec::new();
    while let Some(chunk) = reader.next_chunk() {
        chunks.push(chunk);
    }
    assert_eq!(reader.remaining(), 0);
    let (_, mut reader) = PacketReader::new(packet).expect("a common header");
    let by_data_first = std::iter::from_fn(|| match reader.next_data() {
        Some(data) => Some(Ok(Chunk::Data(data))),
        None => reader.next_chunk(),
    });
    assert_eq!(by_data_first.collect::<Vec<_>>(), chunks);
    chunks
}

fn only(octets: &[u8]) -> Result<Chunk, ChunkError> {
    let mut chunks = read(&packet_of(octets));
    assert_eq!(chunks.len(), 1, "{chunks:?}");
    chunks.remove(0).map_err(|bad| bad.error)
}

fn init() -> Init {
    Init {
        initiate_tag: 0xdead_beef,
        a_rwnd: 131_072,
        outbound_streams: 10,
        inbound_streams: 2048,
        initial_tsn: u32::MAX,
        parameters: InitParameters::default(),
    }
}

#[test]
fn common_header_needs_twelve_octets_and_ports() {
    // RFC 9260 3.1: "The source/destination port number MUST NOT be 0".
    assert_eq!(CommonHeader::parse(&HEADER.emit()), Ok(HEADER));
    assert_eq!(
        CommonHeader::parse(&HEADER.emit()[..11]),
        Err(ParseError::Truncated)
    );
    for port in [0, 2] {
        let mut octets = HEADER.emit();
        octets[port..port + 2].fill(0);
        assert_eq!(CommonHeader::parse(&octets), Err(ParseError::Malformed));
    }
}

#[test]
fn fields_lie_where_the_figures_show_them() {
    // RFC 9260 3.3.1, 3.3.2, 3.3.4: octet by octet, so that reading and writing cannot be wrong together.
    let data = [
        0, 0b1111, 0, 19, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, b'a', b'b', b'c', 0,
    ];
    let expected = Data {
        header: DataHeader {
            tsn: 0x0102_0304,
            stream: 0x0506,
            ssn: 0x0708,
            ppid: 0x090a_0b0c,
            flags: DataFlags::IMMEDIATE
                | DataFlags::UNORDERED
                | DataFlags::BEGINNING
                | DataFlags::END,
        },
        payload: Bytes::from_static(b"abc"),
    };
    assert_eq!(only(&data), Ok(Chunk::Data(expected)));
    let sack = [
        3, 0, 0, 28, 0, 0, 0, 9, 0, 1, 0, 0, 0, 2, 0, 1, 0, 2, 0, 3, 0, 5, 0, 5, 0, 0, 0, 7,
    ];
    let block = |start, end| GapBlock { start, end };
    assert_eq!(
        only(&sack),
        Ok(Chunk::Sack(Sack {
            cumulative_tsn_ack: 9,
            a_rwnd: 65_536,
            gap_blocks: smallvec![block(2, 3), block(5, 5)],
            duplicates: smallvec![7],
        }))
    );
    let mut octets = vec![1, 0, 0, 38, 0xde, 0xad, 0xbe, 0xef, 0, 2, 0, 0];
    octets.extend([0, 10, 8, 0, 255, 255, 255, 255]);
    octets.extend([0, 5, 0, 8, 10, 0, 0, 1, 0, 12, 0, 6, 0, 5, 0, 0]);
    octets.extend([0x80, 8, 0, 4]);
    octets[3] = octets.len() as u8;
    let Ok(Chunk::Init(found)) = only(&octets) else {
        panic!("not an INIT");
    };
    let found = *found;
    let parameters = InitParameters {
        addresses: smallvec![IpAddr::from([10, 0, 0, 1])],
        supported_address_types: Some(AddressTypes {
            ipv4: true,
            ipv6: false,
        }),
        ..InitParameters::default()
    };
    assert_eq!(
        found,
        Init {
            parameters,
            ..init()
        }
    );
}

#[test]
fn lengths_that_cannot_be_end_the_packet() {
    // RFC 9260 3.2: the length counts the header, and nothing beyond the packet.
    for octets in [
        &[0u8, 3, 0, 3][..],                             // under 4
        &[11, 0, 0, 0, 11, 0, 0, 4],                     // 0 would never get on
        &[11, 0, 0, 8, 0, 0, 0],                         // beyond the packet
        &[0, 3, 0, 15, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], // DATA shorter than its header
        &[3, 0, 0, 15, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        &[7, 0, 0, 4],                                      // SHUTDOWN without its TSN
        &[7, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 2],             // and with another
        &[3, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0], // a block that is not there
        &[3, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4], // octets nobody announced
        &[12, 0, 0, 4],                                     // ECNE without its TSN
        &[13, 0, 0, 6, 0, 1],                               // CWR with half of it
        &[4, 0, 0, 4],                                      // HEARTBEAT without information
        &[5, 0, 0, 8, 0, 1, 0, 5],                          // and with more than there is
        &[6, 0, 0, 8, 0, 13, 0, 3], // ABORT with a cause shorter than its header
        &[9, 0, 0, 9, 0, 13, 0, 6, 1], // ERROR with a cause longer than the chunk
        &[1, 0, 0, 19, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0, 1, 0, 0, 0],
    ] {
        assert_eq!(only(octets), Err(ChunkError::Length), "{octets:?}");
    }
}

#[test]
fn data_without_data_is_told_apart() {
    // RFC 9260 3.3.10.9, 6.2: the TSN belongs into the error cause, and the next chunk is read.
    let mut octets = vec![0, 3, 0, 16, 0, 0, 0, 77, 0, 1, 0, 0, 0, 0, 0, 0];
    octets.extend([11, 0, 0, 4]);
    let chunks = read(&packet_of(&octets));
    let bad = BadChunk::new(kind::DATA, ChunkError::NoUserData { tsn: 77 });
    assert_eq!(chunks, [Err(bad), Ok(Chunk::CookieAck)]);
}

#[test]
fn last_padding_may_be_missing_and_no_padding_is_looked_at() {
    // RFC 9260 3.2: "The receiver MUST ignore the padding bytes".
    let mut octets = vec![10, 0, 0, 5, 42];
    let cookie = Chunk::CookieEcho(Bytes::from_static(&[42]));
    assert_eq!(only(&octets), Ok(cookie.clone()));
    octets.extend([9, 9, 9, 11, 0, 0, 4]);
    assert_eq!(
        read(&packet_of(&octets)),
        [Ok(cookie), Ok(Chunk::CookieAck)]
    );
}

#[test]
fn high_bits_of_an_unknown_type_say_what_is_done() {
    // RFC 9260 3.2, table 2, and 3.2.1, table 3.
    for (kind, stop, report) in [
        (0x3e, true, false),
        (0x7e, true, true),
        (0xbe, false, false),
        (0xfe, false, true),
    ] {
        let octets = [kind, 7, 0, 6, 1, 2, 0, 0];
        let Ok(Chunk::Unknown(chunk)) = only(&octets) else {
            panic!("{kind} is known");
        };
        assert_eq!(chunk.whole[..], octets[..6]);
        assert_eq!(chunk.action(), UnknownAction { stop, report });
        let parameter = UnknownAction::of_parameter(u16::from(kind) << 8);
        assert_eq!(parameter, UnknownAction { stop, report });
    }
}

/// An INIT whose parameters are these octets.
fn init_with(parameters: &[u8]) -> Result<Init, ChunkError> {
    let mut octets = vec![1, 0];
    octets.put_u16(20 + parameters.len() as u16);
    octets.extend([0, 0, 0, 1, 0, 0, 16, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
    octets.extend(parameters);
    only(&octets).map(|chunk| match chunk {
        Chunk::Init(init) => *init,
        other => panic!("{other:?}"),
    })
}

#[test]
fn unknown_parameters_are_skipped_reported_or_end_the_list() {
    // RFC 9260 3.2.1: what was processed before stays in force.
    let address = [0, 5, 0, 8, 10, 0, 0, 1];
    let unknown = |kind: u8| [kind, 1, 0, 6, 1, 2, 0, 0];
    for (kind, stop, report) in [
        (0x00, true, false),
        (0x40, true, true),
        (0x80, false, false),
        (0xc0, false, true),
    ] {
        let parameters = [&unknown(kind)[..], &address].concat();
        let found = init_with(&parameters).expect("an INIT").parameters;
        assert_eq!(found.addresses.is_empty(), stop);
        let reported: SmallVec<[Bytes; 1]> = report
            .then(|| Bytes::copy_from_slice(&unknown(kind)[..6]))
            .into_iter()
            .collect();
        assert_eq!(found.unrecognized, reported);
        let parameters = [&address[..], &unknown(kind)].concat();
        let found = init_with(&parameters).expect("an INIT").parameters;
        assert_eq!(found.addresses.len(), 1);
    }
}

#[test]
fn parameters_of_wrong_lengths_are_refused() {
    for parameters in [
        &[0u8, 5, 0, 7, 10, 0, 0, 0][..],
        &[0, 5, 0, 4],
        &[0, 6, 0, 8, 1, 2, 3, 4],
        &[0, 9, 0, 6, 0, 0, 0, 0],
        &[0, 12, 0, 7, 0, 5, 0, 0],
    ] {
        assert_eq!(
            init_with(parameters),
            Err(ChunkError::Value),
            "{parameters:?}"
        );
    }
    for parameters in [&[0u8, 5, 0, 3][..], &[0, 5, 0, 9, 1, 2, 3, 4], &[0, 5, 0]] {
        assert_eq!(
            init_with(parameters),
            Err(ChunkError::Length),
            "{parameters:?}"
        );
    }
}

#[test]
fn what_a_peer_can_make_us_remember_is_bounded() {
    let mut parameters = Vec::new();
    for i in 0..1000u16 {
        parameters.extend([0, 5, 0, 8, 10, 0]);
        parameters.put_u16(i);
        parameters.extend([0xc0, 1, 0, 4]);
    }
    let found = init_with(&parameters).expect("an INIT").parameters;
    assert_eq!((found.addresses.len(), found.unrecognized.len()), (64, 16));
    // The same address twice is one.
    let twice = init_with(&parameters[..8].repeat(2)).expect("an INIT");
    assert_eq!(twice.parameters.addresses.len(), 1);
}

/// An INIT ACK whose parameters are these octets.
fn init_ack_with(parameters: &[u8]) -> Result<Init, ChunkError> {
    let mut octets = vec![2, 0];
    octets.put_u16(20 + parameters.len() as u16);
    octets.extend([0, 0, 0, 1, 0, 0, 16, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
    octets.extend(parameters);
    only(&octets).map(|chunk| match chunk {
        Chunk::InitAck(ack) => *ack,
        other => panic!("{other:?}"),
    })
}

const COOKIE: [u8; 8] = [0, 7, 0, 6, 1, 2, 0, 0];

#[test]
fn init_ack_needs_a_cookie() {
    // RFC 9260 3.3.3.1, 5.1: the State Cookie is mandatory.
    assert_eq!(init_ack_with(&[]), Err(ChunkError::MissingCookie));
    let address = [0, 5, 0, 8, 10, 0, 0, 1];
    assert_eq!(init_ack_with(&address), Err(ChunkError::MissingCookie));
    // The last parameter's padding counts or not, as its sender likes (3.2).
    for parameters in [&COOKIE[..6], &COOKIE] {
        let ack = init_ack_with(parameters).expect("an INIT ACK");
        let cookie = ack.parameters.state_cookie;
        assert_eq!(cookie, Some(Bytes::from_static(&[1, 2])));
    }
}

#[test]
fn an_init_ack_is_answered_whatever_stops_its_processing() {
    // RFC 9260 3.2.1: "in all four cases, an INIT ACK or COOKIE ECHO chunk is sent in response", so the cookie counts
    // even behind an unknown parameter that cancels the processing of the rest.
    let address = [0, 5, 0, 8, 10, 0, 0, 1];
    for (kind, report) in [(0x3f, false), (0x7f, true)] {
        let unknown = [kind, 0, 0, 4];
        let parameters = [&unknown[..], &address, &COOKIE].concat();
        let ack = init_ack_with(&parameters).expect("an INIT ACK").parameters;
        assert_eq!(ack.state_cookie, Some(Bytes::from_static(&[1, 2])));
        assert!(ack.addresses.is_empty());
        assert_eq!(ack.unrecognized.len(), usize::from(report));
    }
    // One that was there before is not replaced, and what follows has to be well-formed only as far as it is looked at.
    let other = [0, 7, 0, 5, 9, 0, 0, 0];
    let parameters = [&COOKIE[..], &[0x3f, 0, 0, 4], &other, &[0, 5, 0, 99]].concat();
    let ack = init_ack_with(&parameters).expect("an INIT ACK").parameters;
    assert_eq!(ack.state_cookie, Some(Bytes::from_static(&[1, 2])));
}

#[test]
fn what_is_wrong_with_an_init_comes_with_its_tag() {
    // RFC 9260 3.3.2, 8.4: the ABORT that answers it carries the Initiate Tag.
    let fixed = [0, 0, 0, 9, 0, 0, 16, 0, 0, 1, 0, 1, 0, 0, 0, 1];
    for (kind, parameter, error, tag) in [
        (kind::INIT, &[0, 5, 0, 4][..], ChunkError::Value, Some(9)),
        (kind::INIT, &[0, 5, 0, 3], ChunkError::Length, Some(9)),
        (kind::INIT_ACK, &[], ChunkError::MissingCookie, Some(9)),
        (kind::HEARTBEAT, &[], ChunkError::Value, None),
    ] {
        let len = 20 + parameter.len() as u8;
        let octets = [&[kind, 0, 0, len][..], &fixed, parameter].concat();
        let bad = BadChunk {
            initiate_tag: tag,
            ..BadChunk::new(kind, error)
        };
        assert_eq!(read(&packet_of(&octets)), [Err(bad)]);
    }
    let short = read(&packet_of(&[&[1, 0, 0, 19][..], &fixed].concat()));
    let bad = BadChunk::new(kind::INIT, ChunkError::Length);
    assert_eq!(short, [Err(bad)], "the tag is not whole");
}

#[test]
fn a_host_name_is_quoted_and_never_sent() {
    // RFC 9260 3.3.2.1.4: the sender of an INIT or INIT ACK MUST NOT include it.
    let name = [0, 11, 0, 6, b'a', 0, 0, 0];
    let init = init_with(&name).expect("an INIT");
    let host_name = init.parameters.host_name_address.clone();
    assert_eq!(host_name, Some(Bytes::copy_from_slice(&name[..6])));
    let mut arena = BytesMut::new();
    let mut builder = PacketBuilder::new(HEADER, 1480, &mut arena);
    assert!(builder.push(&Chunk::Init(Box::new(init))));
    assert_eq!(builder.finish().len(), COMMON_HEADER_LEN + 20);
}

#[test]
fn reserved_chunks_are_known_and_stop_nothing() {
    // RFC 9260 3.2, table 1: ECNE and CWR. As unknown types their high bits would end the packet.
    let octets = [
        12, 0, 0, 8, 0, 0, 0, 5, 13, 0, 0, 8, 0, 0, 0, 6, 11, 0, 0, 4,
    ];
    let expected = [
        Ok(Chunk::Ecne { lowest_tsn: 5 }),
        Ok(Chunk::Cwr { lowest_tsn: 6 }),
        Ok(Chunk::CookieAck),
    ];
    assert_eq!(read(&packet_of(&octets)), expected);
}

#[test]
fn octets_too_few_for_a_chunk_are_none() {
    for tail in [&[][..], &[0], &[0, 0], &[0xff, 0xff, 0xff]] {
        let octets = [&[11, 0, 0, 4], tail].concat();
        assert_eq!(read(&packet_of(&octets)), [Ok(Chunk::CookieAck)]);
        assert!(read(&packet_of(tail)).is_empty());
    }
}

#[test]
fn a_summary_says_what_may_not_be_together() {
    // RFC 9260 6.10: "INIT, INIT ACK, or SHUTDOWN COMPLETE ... MUST NOT" be bundled with any other chunk.
    let chunk = |kind: u8| [kind, 0, 0, 4];
    for (kinds, violates) in [
        (&[][..], false),
        (&[1], false),
        (&[2], false),
        (&[14], false),
        (&[1, 1], true),
        (&[1, 0], true),
        (&[3, 2], true),
        (&[2, 0xfe], true),
        (&[8, 14], true),
        (&[10, 9, 0], false),
        (&[11, 3, 0, 0], false),
        (&[3, 6], false),
        (&[0xc1, 0x01 | 0x40], false),
    ] {
        let octets: Vec<u8> = kinds.iter().flat_map(|kind| chunk(*kind)).collect();
        let packet = packet_of(&octets);
        let (_, reader) = PacketReader::new(&packet).expect("a common header");
        let summary = reader.summary();
        assert_eq!(summary.violates_bundling(), violates, "{kinds:?}");
        assert_eq!(summary.count(), kinds.len());
        assert_eq!(summary.first(), kinds.first().copied());
        assert_eq!(reader.peek_kind(), kinds.first().copied());
        for kind in 0..=255 {
            let is_there = kind < 16 && kinds.contains(&kind);
            assert_eq!(summary.contains(kind), is_there, "{kind} in {kinds:?}");
        }
    }
    // It ends where reading would.
    for end in [&[6, 0, 0, 3][..], &[6, 0, 0, 5], &[6, 0, 0]] {
        let packet = packet_of(&[&chunk(11), end].concat());
        let (_, reader) = PacketReader::new(&packet).expect("a common header");
        assert_eq!(reader.summary().count(), 1);
        assert!(!reader.summary().contains(kind::ABORT));
    }
}

#[test]
fn what_fits_the_room_fits_with_its_padding() {
    // Links have MTUs of any kind; a sender that cuts messages by the room must not lose what it has cut.
    for max_len in 1400..1420 {
        let mut arena = BytesMut::new();
        let mut builder = PacketBuilder::new(HEADER, max_len, &mut arena);
        assert!(builder.push(&Chunk::CookieAck));
        let room = builder.room();
        let payload = |len: usize| Bytes::from(vec![7; len]);
        let header = DataHeader {
            tsn: 1,
            stream: 0,
            ssn: 0,
            ppid: 0,
            flags: DataFlags::NONE,
        };
        assert!(!builder.push_data(&header, payload(room - DATA_HEADER_LEN + 1)));
        assert!(builder.push_data(&header, payload(room - DATA_HEADER_LEN)));
        assert!(builder.room() < CHUNK_HEADER_LEN);
        assert!(builder.finish().len() <= max_len);
    }
}

#[test]
fn causes_come_back_and_end_at_the_first_that_is_none() {
    let causes = [
        ErrorCause::InvalidStreamIdentifier { stream: 9 },
        ErrorCause::MissingMandatoryParameter {
            parameters: smallvec![7, 5],
        },
        ErrorCause::StaleCookie {
            staleness: 1_000_000,
        },
        ErrorCause::OutOfResource,
        ErrorCause::UnresolvableAddress(Bytes::from_static(b"\0\x0b\0\x05a")),
        ErrorCause::UnrecognizedChunkType(Bytes::from_static(b"\xfe\0\0\x04")),
        ErrorCause::InvalidMandatoryParameter,
        ErrorCause::UnrecognizedParameters(Bytes::from_static(b"\xc0\0\0\x04")),
        ErrorCause::NoUserData { tsn: 5 },
        ErrorCause::CookieReceivedWhileShuttingDown,
        ErrorCause::RestartWithNewAddresses(Bytes::from_static(b"\0\x05\0\x08abcd")),
        ErrorCause::ProtocolViolation(Bytes::from_static(b"why")),
        ErrorCause::Unknown {
            code: 99,
            information: Bytes::from_static(b"12345"),
        },
        ErrorCause::UserInitiatedAbort(Bytes::from_static(b"enough")),
    ];
    let packed: Causes = causes.iter().cloned().collect();
    // The last cause's padding is the chunk's.
    assert!(packed.octets().ends_with(b"enough"));
    let read: Vec<_> = packed.iter().collect();
    assert_eq!(read, causes.map(Ok));
    let broken = Causes::new(Bytes::from_static(&[
        0, 9, 0, 6, 1, 2, 0, 0, 0, 4, 0, 4, 0, 4, 0, 2,
    ]));
    let read: Vec<_> = broken.iter().collect();
    assert_eq!(
        read,
        [
            Err(ChunkError::Length),
            Ok(ErrorCause::OutOfResource),
            Err(ChunkError::Length)
        ]
    );
}

#[test]
fn address_types_that_mean_nothing_here_are_passed_over() {
    // RFC 9260 3.3.2.1.5: the host name's type "MUST be ignored when receiving".
    for (types, ipv4, ipv6) in [
        (&[][..], false, false),
        (&[0, 11], false, false),
        (&[0, 11, 0, 6], false, true),
        (&[0, 5, 0, 7, 0, 6, 0, 5], true, true),
    ] {
        let parameter = [&[0, 12, 0, 4 + types.len() as u8], types].concat();
        let init = init_with(&parameter).expect("an INIT");
        let expected = Some(AddressTypes { ipv4, ipv6 });
        assert_eq!(init.parameters.supported_address_types, expected);
    }
}

#[test]
fn new_addresses_of_a_restart_are_quoted_as_parameters() {
    // RFC 9260 3.3.10.11, 5.2.2.
    let v6: IpAddr = "2001:db8::1".parse().expect("an address");
    let cause = ErrorCause::restart_with_new_addresses(&[IpAddr::from([10, 0, 0, 1]), v6]);
    let mut expected = vec![0, 5, 0, 8, 10, 0, 0, 1, 0, 6, 0, 20, 0x20, 1, 0x0d, 0xb8];
    expected.resize(27, 0);
    expected.push(1);
    assert_eq!(cause, ErrorCause::RestartWithNewAddresses(expected.into()));
    assert_eq!(cause.code(), 11);
}

#[test]
fn data_is_borrowed_both_ways_and_headers_stay_inline() {
    // One DATA chunk behind a SACK: nothing is copied on the way out, nor on the way in.
    let message = Bytes::from(vec![7; 1401]);
    let header = DataHeader {
        tsn: 1,
        stream: 2,
        ssn: 3,
        ppid: 4,
        flags: DataFlags::BEGINNING,
    };
    let mut arena = BytesMut::new();
    let mut builder = PacketBuilder::new(HEADER, 1480, &mut arena);
    assert!(builder.push(&Chunk::Sack(Sack::default())));
    assert!(builder.push_data(&header, message.clone()));
    assert_eq!(builder.room(), 1480 - builder.len());
    let mut packet = builder.finish();
    assert_eq!(packet.len(), 12 + 16 + 16 + 1404);
    assert_eq!(packet.body()[0].as_ptr(), message.as_ptr());
    assert!(sctp_is_intact(&packet, 0));
    packet.prepend(40 + 14);
    packet.advance(40 + 14);
    let chunks = read(&packet);
    let [Ok(Chunk::Sack(_)), Ok(Chunk::Data(data))] = &chunks[..] else {
        panic!("{chunks:?}");
    };
    assert_eq!(data.payload.as_ptr(), message.as_ptr());
    assert_eq!((data.header, data.payload.len()), (header, 1401));
}

#[test]
fn chunks_are_taken_while_they_fit() {
    let mut arena = BytesMut::new();
    let mut builder = PacketBuilder::new(HEADER, 40, &mut arena);
    assert!(builder.is_empty());
    assert!(builder.push(&Chunk::CookieEcho(Bytes::from_static(&[1; 13]))));
    assert_eq!(builder.room(), 8);
    assert!(!builder.push(&Chunk::CookieEcho(Bytes::from_static(&[1; 5]))));
    assert!(builder.push(&Chunk::CookieEcho(Bytes::from_static(&[1; 4]))));
    assert!(!builder.push(&Chunk::CookieAck));
    assert_eq!(builder.finish().len(), 40);
    // A lone chunk goes, whatever its length: IP fragments it. One that no length field holds does not.
    let mut builder = PacketBuilder::new(HEADER, 40, &mut arena);
    assert!(!builder.push(&Chunk::CookieEcho(Bytes::from(vec![1; 65_532]))));
    assert!(builder.push(&Chunk::CookieEcho(Bytes::from(vec![1; 65_531]))));
    assert!(!builder.push(&Chunk::CookieAck));
    assert_eq!(read(&builder.finish()).len(), 1);
}

fn any_bytes(len: std::ops::Range<usize>) -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), len).prop_map(Bytes::from)
}

fn any_init(ack: bool) -> impl Strategy<Value = Init> {
    let numbers = any::<(u32, u32, u16, u16, u32)>();
    let addresses = proptest::collection::btree_set(any::<IpAddr>(), 0..5);
    let rest = (
        any::<Option<u32>>(),
        any::<Option<(bool, bool)>>(),
        any_bytes(0..300),
        proptest::collection::vec(any_bytes(4..30), 0..3),
    );
    (numbers, addresses, rest).prop_map(move |(numbers, addresses, rest)| Init {
        initiate_tag: numbers.0,
        a_rwnd: numbers.1,
        outbound_streams: numbers.2,
        inbound_streams: numbers.3,
        initial_tsn: numbers.4,
        parameters: InitParameters {
            addresses: addresses.into_iter().collect(),
            cookie_preservative: rest.0,
            supported_address_types: rest.1.map(|(ipv4, ipv6)| AddressTypes { ipv4, ipv6 }),
            state_cookie: ack.then_some(rest.2),
            reported: rest.3.into(),
            ..InitParameters::default()
        },
    })
}

fn any_causes() -> impl Strategy<Value = Causes> {
    let cause = (any::<u16>(), any_bytes(0..20))
        .prop_map(|(code, information)| ErrorCause::Unknown { code, information });
    proptest::collection::vec(cause, 0..4).prop_map(Causes::from_iter)
}

fn any_chunk() -> impl Strategy<Value = Chunk> {
    let sack = (
        any::<(u32, u32)>(),
        proptest::collection::vec(any::<(u16, u16)>(), 0..20),
        proptest::collection::vec(any::<u32>(), 0..9),
    );
    prop_oneof![
        (any::<(u32, u16, u16, u32, u8)>(), any_bytes(1..700)).prop_map(|(fields, payload)| {
            let (tsn, stream, ssn, ppid, bits) = fields;
            let flags = DataFlags::from_bits(bits);
            let header = DataHeader {
                tsn,
                stream,
                ssn,
                ppid,
                flags,
            };
            Chunk::Data(Data { header, payload })
        }),
        any_init(false).prop_map(|init| Chunk::Init(Box::new(init))),
        any_init(true).prop_map(|init| Chunk::InitAck(Box::new(init))),
        sack.prop_map(|((cumulative_tsn_ack, a_rwnd), blocks, duplicates)| {
            let blocks = blocks
                .into_iter()
                .map(|(start, end)| GapBlock { start, end });
            Chunk::Sack(Sack {
                cumulative_tsn_ack,
                a_rwnd,
                gap_blocks: blocks.collect(),
                duplicates: duplicates.into(),
            })
        }),
        any_bytes(0..60).prop_map(Chunk::Heartbeat),
        any_bytes(0..60).prop_map(Chunk::HeartbeatAck),
        (any::<bool>(), any_causes()).prop_map(|(tag_reflected, causes)| Chunk::Abort {
            tag_reflected,
            causes,
        }),
        any_causes().prop_map(Chunk::Error),
        any::<u32>().prop_map(|cumulative_tsn_ack| Chunk::Shutdown { cumulative_tsn_ack }),
        any::<u32>().prop_map(|lowest_tsn| Chunk::Ecne { lowest_tsn }),
        any::<u32>().prop_map(|lowest_tsn| Chunk::Cwr { lowest_tsn }),
        (15u8.., any_bytes(0..60)).prop_map(|(kind, value)| {
            let mut whole = vec![kind, 0xff, 0, 4 + value.len() as u8];
            whole.extend(value);
            Chunk::Unknown(UnknownChunk {
                kind,
                whole: whole.into(),
            })
        }),
        any_bytes(0..400).prop_map(Chunk::CookieEcho),
        any::<bool>().prop_map(|tag_reflected| Chunk::ShutdownComplete { tag_reflected }),
        Just(Chunk::ShutdownAck),
        Just(Chunk::CookieAck),
    ]
}

/// The packet's octets in other pieces: a head inline, then slices.
fn in_pieces(packet: &Packet, head: usize, places: &[usize]) -> Packet {
    let octets = packet.to_bytes();
    let head = head.min(octets.len());
    let mut cut = Packet::from_header(&octets[..head]);
    let mut rest = octets.slice(head..);
    for place in places {
        cut.push(rest.split_to((*place).min(rest.len())));
    }
    cut.push(rest);
    cut
}

proptest! {
    #[test]
    fn chunks_come_back_from_a_packet_in_any_pieces(
        chunks in proptest::collection::vec(any_chunk(), 1..6),
        head in 0usize..120,
        places in proptest::collection::vec(0usize..500, 0..6),
    ) {
        let mut arena = BytesMut::new();
        let mut builder = PacketBuilder::new(HEADER, 60_000, &mut arena);
        for chunk in &chunks {
            prop_assert!(builder.push(chunk));
        }
        let len = builder.len();
        let packet = builder.finish();
        prop_assert_eq!(packet.len(), len);
        prop_assert!(sctp_is_intact(&packet, 0));
        let expected: Vec<_> = chunks.into_iter().map(Ok).collect();
        prop_assert_eq!(&read(&packet), &expected);
        let packet = in_pieces(&packet, head, &places);
        prop_assert!(sctp_is_intact(&packet, 0));
        prop_assert_eq!(&read(&packet), &expected);
    }

    #[test]
    fn octets_of_any_kind_neither_panic_nor_read_differently_in_pieces(
        octets in proptest::collection::vec(prop_oneof![3 => 0u8..16, 1 => any::<u8>()], 0..200),
        head in 0usize..100,
        places in proptest::collection::vec(0usize..50, 0..6),
    ) {
        let packet = packet_of(&octets);
        let whole = read(&packet);
        prop_assert_eq!(&read(&in_pieces(&packet, head, &places)), &whole);
        for chunk in whole.into_iter().flatten() {
            if let Chunk::Abort { causes, .. } | Chunk::Error(causes) = &chunk {
                prop_assert!(causes.iter().count() <= octets.len() / 4 + 1);
            }
        }
    }
}
