use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::wire::sctp::{Causes, PacketBuilder};

const OURS: [u8; 4] = [10, 0, 0, 1];
const PEER: [u8; 4] = [10, 0, 0, 2];

fn at(seconds: u64) -> Instant {
    Instant::from_millis(seconds * 1000)
}

fn info() -> PacketInfo {
    PacketInfo {
        source: IpAddr::from(PEER),
        destination: IpAddr::from(OURS),
    }
}

fn endpoint() -> Endpoint {
    let config = Arc::new(Config::default());
    let random = Random::new(Some(1));
    Endpoint::new(
        at(1),
        &config,
        &SocketOptions::default(),
        random,
        Vec::new(),
    )
}

fn packet(tag: u32, chunks: &[Chunk]) -> Packet {
    let header = CommonHeader {
        source_port: 40_000,
        destination_port: 5000,
        verification_tag: tag,
    };
    let mut arena = BytesMut::new();
    let mut builder = PacketBuilder::new(header, 1480, &mut arena);
    for chunk in chunks {
        assert!(builder.push(chunk));
    }
    builder.finish()
}

fn init() -> Init {
    Init {
        initiate_tag: 77,
        a_rwnd: 65_536,
        outbound_streams: 3,
        inbound_streams: 4,
        initial_tsn: 5,
        ..Init::default()
    }
}

fn boxed(init: Init) -> Chunk {
    Chunk::Init(Box::new(init))
}

/// The tag and the chunk of an answer.
fn answer(arrived: Arrived) -> (u32, Chunk) {
    match arrived {
        Arrived::Reply(reply) => (reply.verification_tag(), reply.chunk().clone()),
        other => panic!("{other:?}"),
    }
}

/// The INIT ACK to an INIT.
fn acknowledged(endpoint: &mut Endpoint, backlog: Backlog) -> Init {
    let arrived = endpoint.handle_packet(at(1), &info(), &packet(0, &[boxed(init())]), backlog);
    match answer(arrived) {
        (77, Chunk::InitAck(ack)) => *ack,
        other => panic!("{other:?}"),
    }
}

fn echo(ack: &Init) -> Packet {
    let cookie = ack.parameters.state_cookie.clone().expect("a cookie");
    packet(ack.initiate_tag, &[Chunk::CookieEcho(cookie)])
}

#[test]
fn init_is_answered_and_its_cookie_holds_what_both_sides_said() {
    // RFC 9260 5.1.1, 5.1.3.
    let mut endpoint = endpoint();
    let ack = acknowledged(&mut endpoint, Backlog::HasRoom);
    assert_eq!((ack.outbound_streams, ack.inbound_streams), (10, 2048));
    let arrived = endpoint.handle_packet(at(2), &info(), &echo(&ack), Backlog::HasRoom);
    let Arrived::Accept(cookie) = arrived else {
        panic!("{arrived:?}");
    };
    assert_eq!((cookie.outbound_streams, cookie.inbound_streams), (4, 3));
    assert_eq!((cookie.local.tag, cookie.peer.tag), (ack.initiate_tag, 77));
    assert_eq!((cookie.peer.initial_tsn, cookie.peer_rwnd), (5, 65_536));
    assert_eq!(cookie.peer_addresses[..], [IpAddr::from(PEER)]);
    assert_eq!(cookie.tie_tags, [0, 0], "there is no association (5.2.2)");
    assert_eq!((endpoint.stats().inits, endpoint.stats().accepted), (1, 1));
}

#[test]
fn inits_that_cannot_be_are_aborted_or_passed_over() {
    // RFC 9260 3.3.2, 5.1, 6.10, 8.5.1 A.
    let invalid = |init: Init| {
        let packet = packet(0, &[boxed(init)]);
        endpoint().handle_packet(at(1), &info(), &packet, Backlog::HasRoom)
    };
    let cause = ErrorCause::InvalidMandatoryParameter;
    for wrong in [
        Init {
            outbound_streams: 0,
            ..init()
        },
        Init {
            inbound_streams: 0,
            ..init()
        },
        Init {
            a_rwnd: 1499,
            ..init()
        },
    ] {
        assert_eq!(answer(invalid(wrong)), (77, abort(cause.clone())));
    }
    let untagged = Init {
        initiate_tag: 0,
        ..init()
    };
    assert!(matches!(invalid(untagged), Arrived::Drop(_)));
    let bundled = packet(0, &[boxed(init()), Chunk::CookieAck]);
    let arrived = endpoint().handle_packet(at(1), &info(), &bundled, Backlog::HasRoom);
    assert!(matches!(arrived, Arrived::Drop(_)), "{arrived:?}");
    let full = packet(0, &[boxed(init())]);
    let arrived = endpoint().handle_packet(at(1), &info(), &full, Backlog::Full);
    assert_eq!(answer(arrived), (77, abort(ErrorCause::OutOfResource)));
}

#[test]
fn cookies_are_taken_from_their_sender_in_time_and_only_then() {
    // RFC 9260 5.1.5.
    let mut endpoint = endpoint();
    let ack = acknowledged(&mut endpoint, Backlog::HasRoom);
    let elsewhere = PacketInfo {
        source: IpAddr::from([10, 0, 0, 3]),
        ..info()
    };
    let arrived = endpoint.handle_packet(at(2), &elsewhere, &echo(&ack), Backlog::HasRoom);
    assert!(matches!(arrived, Arrived::Drop(DropReason::Cookie)));
    let cookie = ack.parameters.state_cookie.clone().expect("a cookie");
    let other_tag = packet(ack.initiate_tag ^ 1, &[Chunk::CookieEcho(cookie)]);
    let arrived = endpoint.handle_packet(at(2), &info(), &other_tag, Backlog::HasRoom);
    assert!(matches!(arrived, Arrived::Drop(DropReason::Cookie)));
    let forged = packet(
        ack.initiate_tag,
        &[Chunk::CookieEcho(Bytes::from_static(&[1; 90]))],
    );
    let arrived = endpoint.handle_packet(at(2), &info(), &forged, Backlog::HasRoom);
    assert!(matches!(arrived, Arrived::Drop(DropReason::Cookie)));
    let arrived = endpoint.handle_packet(at(64), &info(), &echo(&ack), Backlog::HasRoom);
    let late = stale_cookie(Duration::from_secs(3));
    assert_eq!(answer(arrived), (77, late));
    let arrived = endpoint.handle_packet(at(2), &info(), &echo(&ack), Backlog::Full);
    assert_eq!(answer(arrived), (77, abort(ErrorCause::OutOfResource)));
    let stats = endpoint.stats();
    let counts = (stats.cookies_refused, stats.cookies_stale, stats.overflows);
    assert_eq!(counts, (3, 1, 1));
}

#[test]
fn nothing_is_answered_to_an_abort_or_a_group() {
    // RFC 9260 8.4, 1 and 2.
    let dead = packet(
        9,
        &[Chunk::Abort {
            tag_reflected: false,
            causes: Causes::default(),
        }],
    );
    let arrived = endpoint().handle_packet(at(1), &info(), &dead, Backlog::HasRoom);
    assert!(matches!(arrived, Arrived::Drop(_)));
    let group = PacketInfo {
        destination: IpAddr::from([224, 0, 0, 1]),
        ..info()
    };
    let packet = packet(0, &[boxed(init())]);
    let arrived = endpoint().handle_packet(at(1), &group, &packet, Backlog::HasRoom);
    assert!(matches!(arrived, Arrived::Drop(DropReason::BadSource)));
}
