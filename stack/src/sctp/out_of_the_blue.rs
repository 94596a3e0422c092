//! Packets of no association (RFC 9260 8.4).

use crate::sctp::association::capabilities::{
    Refusal, abort, is_unicast, reflected_abort, unreadable,
};
use crate::sctp::packet::{PacketInfo, Reply};
use crate::wire::sctp::{Chunk, CommonHeader, ErrorCause, PacketReader, kind};
use tidewire_netdev::Packet;

/// The answer to a packet, its CRC verified, that belongs to no association, at a port that sets none up; `None` for
/// silence.
pub fn out_of_the_blue(info: &PacketInfo, packet: &Packet) -> Option<Reply> {
    let (header, reader) = PacketReader::new(packet).ok()?;
    // 1: nothing to or from what is not one host.
    if !is_unicast(info.source) || !is_unicast(info.destination) {
        return None;
    }
    let summary = reader.summary();
    // 2.
    if summary.contains(kind::ABORT) {
        return None;
    }
    if header.verification_tag == 0 || summary.contains(kind::INIT) {
        return refuse_init(info, &header, reader);
    }
    // 5.
    if summary.contains(kind::SHUTDOWN_ACK) {
        let complete = Chunk::ShutdownComplete {
            tag_reflected: true,
        };
        return Some(Reply::new(info, &header, header.verification_tag, complete));
    }
    // 6, 7.
    if summary.contains(kind::SHUTDOWN_COMPLETE)
        || summary.contains(kind::COOKIE_ACK)
        || (summary.contains(kind::ERROR) && has_stale_cookie(reader))
    {
        return None;
    }
    // 8; 4 comes to it, too: without the secrets of a listening port no cookie is a good one, and a peer that is told so
    // need not time out.
    Some(reflected_abort(info, &header, None))
}

/// 3: the tag of the answer is the one that the INIT asks for.
fn refuse_init(
    info: &PacketInfo,
    header: &CommonHeader,
    mut reader: PacketReader<'_>,
) -> Option<Reply> {
    if header.verification_tag != 0 {
        // 12.3: an INIT with a tag is discarded with everything behind it, which leaves what comes before it (8).
        let is_first = reader.peek_kind() == Some(kind::INIT);
        return (!is_first).then(|| reflected_abort(info, header, None));
    }
    let chunk = reader.next_chunk()?;
    let alone = reader.remaining() == 0;
    match chunk {
        // 8.5.1 A: a packet without a tag has an INIT and nothing else.
        Ok(Chunk::Init(init)) if alone => {
            let cause = match Refusal::of(&init) {
                Some(Refusal::NoTag) => return None,
                refusal => refusal.and_then(Refusal::cause),
            };
            let causes = cause.into_iter().collect();
            let abort = Chunk::Abort {
                tag_reflected: false,
                causes,
            };
            Some(Reply::new(info, header, init.initiate_tag, abort))
        }
        Err(bad) if bad.kind == kind::INIT && alone => {
            let (tag, cause) = unreadable(&bad)?;
            Some(Reply::new(info, header, tag, abort(cause)))
        }
        _ => None,
    }
}

fn has_stale_cookie(mut reader: PacketReader<'_>) -> bool {
    let is_stale = |cause| matches!(cause, Ok(ErrorCause::StaleCookie { .. }));
    while let Some(Ok(chunk)) = reader.next_chunk() {
        if let Chunk::Error(causes) = chunk
            && causes.iter().any(is_stale)
        {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use bytes::{Bytes, BytesMut};

    use super::*;
    use crate::wire::sctp::{Causes, Data, DataFlags, DataHeader, Init, PacketBuilder, Sack};

    const TAG: u32 = 77;

    fn info() -> PacketInfo {
        PacketInfo {
            source: IpAddr::from([10, 0, 0, 2]),
            destination: IpAddr::from([10, 0, 0, 1]),
        }
    }

    fn packet(verification_tag: u32, chunks: &[Chunk]) -> Packet {
        let header = CommonHeader {
            source_port: 1,
            destination_port: 2,
            verification_tag,
        };
        let mut arena = BytesMut::new();
        let mut builder = PacketBuilder::new(header, 1480, &mut arena);
        for chunk in chunks {
            assert!(builder.push(chunk));
        }
        builder.finish()
    }

    fn init(initiate_tag: u32, a_rwnd: u32) -> Chunk {
        Chunk::Init(Box::new(Init {
            initiate_tag,
            a_rwnd,
            outbound_streams: 1,
            inbound_streams: 1,
            initial_tsn: 1,
            ..Init::default()
        }))
    }

    fn data() -> Chunk {
        Chunk::Data(Data {
            header: DataHeader {
                tsn: 1,
                stream: 0,
                ssn: 0,
                ppid: 0,
                flags: DataFlags::BEGINNING | DataFlags::END,
            },
            payload: Bytes::from_static(b"x"),
        })
    }

    fn reflected() -> Option<(u32, Chunk)> {
        let chunk = Chunk::Abort {
            tag_reflected: true,
            causes: Causes::default(),
        };
        Some((TAG, chunk))
    }

    fn aborted(tag: u32, causes: &[ErrorCause]) -> Option<(u32, Chunk)> {
        let chunk = Chunk::Abort {
            tag_reflected: false,
            causes: causes.iter().cloned().collect(),
        };
        Some((tag, chunk))
    }

    #[test]
    fn answers_are_those_of_the_eight_rules() {
        let complete = |tag_reflected| Chunk::ShutdownComplete { tag_reflected };
        let error = |cause| Chunk::Error(Causes::from_iter([cause]));
        let stale = || ErrorCause::StaleCookie { staleness: 1 };
        let abort = || Chunk::Abort {
            tag_reflected: false,
            causes: Causes::default(),
        };
        let invalid = ErrorCause::InvalidMandatoryParameter;
        /// The rule, the packet's tag, its chunks, and the tag and the chunk of the answer.
        type Case = (&'static str, u32, Vec<Chunk>, Option<(u32, Chunk)>);
        let cases: Vec<Case> = vec![
            ("2", TAG, vec![abort()], None),
            ("2, wherever it is", TAG, vec![data(), abort()], None),
            ("3", 0, vec![init(5, 1500)], aborted(5, &[])),
            ("3, 3.3.2", 0, vec![init(5, 1)], aborted(5, &[invalid])),
            ("3, 3.3.2: no tag", 0, vec![init(0, 1500)], None),
            ("8.5.1 A", 0, vec![init(5, 1500), Chunk::CookieAck], None),
            ("8.5.1 A, no INIT", 0, vec![data()], None),
            ("12.3: an INIT with a tag", TAG, vec![init(5, 1500)], None),
            (
                "12.3, 8: an INIT behind other chunks",
                TAG,
                vec![data(), init(5, 1500)],
                reflected(),
            ),
            (
                "4",
                TAG,
                vec![Chunk::CookieEcho(Bytes::from_static(b"c"))],
                reflected(),
            ),
            (
                "5",
                TAG,
                vec![Chunk::ShutdownAck],
                Some((TAG, complete(true))),
            ),
            ("6", TAG, vec![complete(false)], None),
            ("7", TAG, vec![Chunk::CookieAck], None),
            ("7", TAG, vec![error(stale())], None),
            (
                "8",
                TAG,
                vec![error(ErrorCause::OutOfResource)],
                reflected(),
            ),
            ("8", TAG, vec![data()], reflected()),
            ("8", TAG, vec![Chunk::Sack(Sack::default())], reflected()),
            (
                "8",
                TAG,
                vec![Chunk::Heartbeat(Bytes::from_static(b"h"))],
                reflected(),
            ),
            (
                "8",
                TAG,
                vec![Chunk::Shutdown {
                    cumulative_tsn_ack: 1,
                }],
                reflected(),
            ),
        ];
        for (rule, tag, chunks, expected) in cases {
            let reply = out_of_the_blue(&info(), &packet(tag, &chunks));
            let told = reply.map(|reply| (reply.verification_tag(), reply.chunk().clone()));
            assert_eq!(told, expected, "rule {rule}: {chunks:?}");
        }
    }

    #[test]
    fn packets_to_or_from_groups_are_never_answered() {
        // RFC 9260 8.4, 1.
        let packet = packet(TAG, &[data()]);
        for other in ["224.0.0.1", "255.255.255.255", "0.0.0.0", "ff02::1", "::"] {
            let other: IpAddr = other.parse().expect("an address");
            let from = PacketInfo {
                source: other,
                ..info()
            };
            let to = PacketInfo {
                destination: other,
                ..info()
            };
            assert_eq!(out_of_the_blue(&from, &packet), None, "from {other}");
            assert_eq!(out_of_the_blue(&to, &packet), None, "to {other}");
        }
    }

    #[test]
    fn answer_goes_back_to_where_the_packet_came_from() {
        let reply = out_of_the_blue(&info(), &packet(TAG, &[data()])).expect("an ABORT");
        let transmit = reply.into_transmit(&mut BytesMut::new());
        assert_eq!(transmit.source, Some(info().destination));
        assert_eq!(transmit.destination, info().source);
        let (header, _) = PacketReader::new(&transmit.packet).expect("a packet");
        assert_eq!((header.source_port, header.destination_port), (2, 1));
    }
}
