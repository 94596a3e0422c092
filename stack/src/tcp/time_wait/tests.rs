use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::wire::tcp::Timestamps;

const SND_NXT: u32 = 1000;
const RCV_NXT: u32 = 50_000;

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn tuple(port: u16) -> Tuple {
    Tuple {
        local: ([10, 0, 0, 1], 80).into(),
        remote: ([10, 0, 0, 2], port).into(),
    }
}

fn entry(port: u16, timestamps: bool) -> TimeWaitEntry {
    TimeWaitEntry {
        tuple: tuple(port),
        snd_nxt: SeqNum(SND_NXT),
        rcv_nxt: SeqNum(RCV_NXT),
        rcv_wnd: 1 << 20,
        window_shift: 7,
        timestamps: timestamps.then_some(TimestampState {
            recent: 500,
            recent_at: Instant::ZERO,
            offset: 9,
        }),
    }
}

fn table(limit: usize) -> TimeWaitTable {
    TimeWaitTable::new(&Config {
        max_time_wait: limit,
        ..Config::default()
    })
}

fn segment(flags: Flags, sequence: u32, data: usize, timestamp: Option<u32>) -> Segment {
    let mut header = Header {
        sequence,
        acknowledgment: SND_NXT,
        flags,
        ..Header::default()
    };
    header.options.timestamps = timestamp.map(|value| Timestamps { value, echo: 0 });
    Segment {
        header,
        payload: smallvec::smallvec![Bytes::from(vec![0; data])],
        segment_size: data,
        ecn: Ecn::NotEct,
    }
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Unknown,
    Dropped(DropReason),
    Ack,
    Reopened(u32),
}

fn outcome(verdict: TimeWaitVerdict) -> Outcome {
    match verdict {
        TimeWaitVerdict::Unknown => Outcome::Unknown,
        TimeWaitVerdict::Drop(reason) => Outcome::Dropped(reason),
        TimeWaitVerdict::Reopen { iss } => Outcome::Reopened(iss.0),
        TimeWaitVerdict::Ack(transmit) => {
            let header = transmit.header;
            assert_eq!((header.source_port, header.destination_port), (80, 1));
            assert_eq!((header.flags, header.window), (Flags::ACK, 8192));
            assert_eq!((header.sequence, header.acknowledgment), (SND_NXT, RCV_NXT));
            Outcome::Ack
        }
    }
}

#[test]
fn segments_in_time_wait() {
    // RFC 9293 3.10.7.4, 3.6.1 MAY-2; RFC 1337 F1; RFC 6191; RFC 7323 5.3. Flags, sequence number relative to
    // RCV.NXT, octets of data, timestamp (TS.Recent is 500); what happens, and whether the 2 MSL start anew.
    // RFC 9293 SHLD-4.
    use DropReason::{Closed, Unacceptable};
    let (syn, ack, rst, fin) = (Flags::SYN, Flags::ACK, Flags::RST, Flags::FIN);
    let reopened = || Outcome::Reopened(SND_NXT + 65_537);
    let cases = [
        (rst, 0, 0, None, Outcome::Dropped(Unacceptable), false),
        (
            rst | ack,
            0,
            0,
            Some(501),
            Outcome::Dropped(Unacceptable),
            false,
        ),
        (Flags(0), 0, 0, None, Outcome::Dropped(Unacceptable), false),
        (fin, -1, 0, None, Outcome::Dropped(Unacceptable), false),
        // The last ACK, and the peer's FIN again, with data or without.
        (ack, 0, 0, None, Outcome::Dropped(Closed), false),
        (fin | ack, -1, 0, None, Outcome::Ack, true),
        (fin | ack, -11, 10, Some(500), Outcome::Ack, true),
        (fin | ack, -1, 0, Some(499), Outcome::Ack, false),
        // Old data, data that cannot be, an old ACK.
        (ack, -100, 10, None, Outcome::Ack, false),
        (ack, 0, 10, None, Outcome::Ack, false),
        (ack, -1, 0, None, Outcome::Ack, false),
        (fin | ack, 5, 0, None, Outcome::Ack, false),
        // A new connection: by its number without timestamps, by its clock with them.
        (syn, 0, 0, None, reopened(), false),
        (syn, 100_000, 0, None, reopened(), false),
        (syn, 100_000, 20, None, reopened(), false),
        (syn, -1, 0, None, Outcome::Ack, false),
        (syn, -100_000, 0, None, Outcome::Ack, false),
        (syn, -100_000, 0, Some(501), reopened(), false),
        (syn, 100_000, 0, Some(500), reopened(), false),
        (syn, -100_000, 0, Some(500), Outcome::Ack, false),
        (syn, 100_000, 0, Some(499), Outcome::Ack, false),
        (syn | ack, 100_000, 0, None, Outcome::Ack, false),
        (syn | fin, 100_000, 0, None, Outcome::Ack, false),
    ];
    for (flags, offset, data, timestamp, expected, restarted) in cases {
        let mut table = table(8);
        table.insert(at(0), entry(1, timestamp.is_some()));
        let segment = segment(flags, RCV_NXT.wrapping_add_signed(offset), data, timestamp);
        let verdict = table.handle_segment(at(1000), &tuple(1), &segment);
        assert_eq!(
            outcome(verdict),
            expected,
            "{flags:?} {offset} {timestamp:?}"
        );
        let deadline = if restarted { at(61_000) } else { at(60_000) };
        assert_eq!(table.poll_timeout(), Some(deadline), "{flags:?} {offset}");
        assert!(table.contains(&tuple(1)), "nothing ends it but its owner");
    }
    let verdict = table(8).handle_segment(at(0), &tuple(1), &segment(ack, 0, 0, None));
    assert_eq!(outcome(verdict), Outcome::Unknown);
}

#[test]
fn answers_are_limited_but_for_the_peers_fin() {
    let mut table = table(8);
    table.insert(at(0), entry(1, false));
    let stray = segment(Flags::ACK, RCV_NXT - 5, 0, None);
    let limited = Outcome::Dropped(DropReason::RateLimited);
    for (time, expected) in [(10, Outcome::Ack), (500, limited), (510, Outcome::Ack)] {
        let verdict = table.handle_segment(at(time), &tuple(1), &stray);
        assert_eq!(outcome(verdict), expected, "{time}");
    }
    for time in 511..520 {
        let fin = segment(Flags::FIN | Flags::ACK, RCV_NXT - 1, 0, None);
        let verdict = table.handle_segment(at(time), &tuple(1), &fin);
        assert_eq!(outcome(verdict), Outcome::Ack);
    }
}

#[test]
fn acknowledgment_carries_timestamps() {
    // RFC 7323 3.2: in every segment once negotiated.
    let mut table = table(8);
    table.insert(at(0), entry(1, true));
    let fin = segment(Flags::FIN | Flags::ACK, RCV_NXT - 1, 0, Some(700));
    let verdict = table.handle_segment(at(30), &tuple(1), &fin);
    let TimeWaitVerdict::Ack(transmit) = verdict else {
        panic!("{verdict:?}");
    };
    let expected = Timestamps {
        value: 39,
        echo: 700,
    };
    assert_eq!(transmit.header.options.timestamps, Some(expected));
}

#[test]
fn entries_expire_in_order_and_a_restarted_one_last() {
    let mut table = table(8);
    for port in 1..=3 {
        table.insert(at(u64::from(port)), entry(port, false));
    }
    let fin = segment(Flags::FIN | Flags::ACK, RCV_NXT - 1, 0, None);
    table.handle_segment(at(100), &tuple(1), &fin);
    assert_eq!(table.poll_timeout(), Some(at(60_002)));
    assert_eq!(table.expire(at(60_001)), None);
    let expired: Vec<_> = std::iter::from_fn(|| table.expire(at(60_100))).collect();
    assert_eq!(expired, [tuple(2), tuple(3), tuple(1)]);
    assert!(table.is_empty() && table.poll_timeout().is_none());
}

#[test]
fn oldest_entry_goes_at_the_limit() {
    let mut full = table(2);
    assert_eq!(full.insert(at(0), entry(1, false)), None);
    assert_eq!(full.insert(at(0), entry(2, false)), None);
    assert_eq!(full.insert(at(0), entry(2, false)), None, "the same tuple");
    assert_eq!(full.insert(at(0), entry(3, false)), Some(tuple(1)));
    assert_eq!(full.len(), 2);
    assert_eq!(table(0).insert(at(0), entry(1, false)), Some(tuple(1)));
}

#[test]
fn entries_are_small() {
    // The table may hold tens of thousands.
    let node = size_of::<Node>() + size_of::<(Tuple, usize)>();
    assert!(node <= 272, "{node} octets");
}

proptest! {
    #[test]
    fn queue_matches_a_list(steps in prop::collection::vec((0u8..4, 0u16..12, 0u64..30_000), 1..200)) {
        let mut table = table(6);
        // Ports in order of expiry, with deadlines.
        let mut model: Vec<(u16, u64)> = Vec::new();
        let mut now = 0;
        for (step, port, wait) in steps {
            now += wait / 4;
            match step {
                0 => {
                    model.retain(|(held, _)| *held != port);
                    let evicted = (model.len() == 6).then(|| model.remove(0).0);
                    model.push((port, now + 60_000));
                    prop_assert_eq!(table.insert(at(now), entry(port, false)), evicted.map(tuple));
                }
                1 => {
                    let held = model.iter().position(|(held, _)| *held == port);
                    let removed = held.map(|index| model.remove(index));
                    prop_assert_eq!(table.remove(&tuple(port)).is_some(), removed.is_some());
                }
                2 => {
                    let fin = segment(Flags::FIN | Flags::ACK, RCV_NXT - 1, 0, None);
                    table.handle_segment(at(now), &tuple(port), &fin);
                    if let Some(index) = model.iter().position(|(held, _)| *held == port) {
                        model.remove(index);
                        model.push((port, now + 60_000));
                    }
                }
                _ => {
                    while let Some(expired) = table.expire(at(now)) {
                        let (port, deadline) = model.remove(0);
                        prop_assert_eq!(expired, tuple(port));
                        prop_assert!(deadline <= now);
                    }
                    prop_assert!(model.first().is_none_or(|(_, deadline)| *deadline > now));
                }
            }
            prop_assert_eq!(table.len(), model.len());
            prop_assert_eq!(table.poll_timeout(), model.first().map(|(_, deadline)| at(*deadline)));
        }
    }
}
