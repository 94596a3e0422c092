//! What is taken, in which order it goes, what is given back.

use super::*;

fn options(stream: u16) -> SendOptions {
    SendOptions {
        stream,
        ..SendOptions::default()
    }
}

fn small_buffer(octets: usize) -> Rig {
    let config = SendConfig {
        buffer: octets,
        ..eager()
    };
    Rig::with(config, unlimited_burst(), 1, WIDE)
}

#[test]
fn what_cannot_be_sent_is_refused_with_linux_errno() {
    let mut rig = Rig::with(
        SendConfig {
            max_message_size: 1000,
            ..SendConfig::default()
        },
        PathConfig::default(),
        1,
        WIDE,
    );
    let cases = [
        (0, 0, Err(SendError::Empty), Some(SocketError::InvalidInput)),
        (
            1,
            10,
            Err(SendError::InvalidStream),
            Some(SocketError::InvalidInput),
        ),
        (
            1001,
            0,
            Err(SendError::TooLong),
            Some(SocketError::MessageTooLong),
        ),
        (1000, 9, Ok(()), None),
    ];
    for (len, stream, expected, errno) in cases {
        let message = Bytes::from(vec![0; len]);
        let taken = rig.sender.enqueue(message, &options(stream), &rig.paths);
        assert_eq!(taken, expected, "{len} on {stream}");
        assert_eq!(taken.err().map(SocketError::from), errno);
    }
    assert_eq!(
        SocketError::from(SendError::NoRoom),
        SocketError::WouldBlock
    );
}

#[test]
fn full_buffer_takes_no_more_until_messages_are_acknowledged() {
    let mut rig = small_buffer(3 * (1000 + MESSAGE_OVERHEAD));
    rig.open_window(100);
    let message = Bytes::from(vec![0; 1000]);
    for _ in 0..3 {
        rig.enqueue(1000);
    }
    let refused = rig.sender.enqueue(message, &options(0), &rig.paths);
    assert_eq!(refused, Err(SendError::NoRoom));
    assert!(!rig.sender.has_room());
    rig.flush();
    assert!(!rig.sender.has_room(), "sent is not delivered");
    let outcome = rig.sack(1, &[(2, 2)]);
    assert!(outcome.room_gained);
    assert!(rig.sender.has_room());
    rig.enqueue(1000);
    assert!(
        !rig.sender.has_room(),
        "what a gap block covers is still kept"
    );
}

#[test]
fn many_tiny_messages_are_bounded_by_their_bookkeeping() {
    let mut rig = small_buffer(100 * MESSAGE_OVERHEAD);
    let mut taken = 0;
    while rig
        .sender
        .enqueue(Bytes::from_static(b"x"), &options(0), &rig.paths)
        .is_ok()
    {
        taken += 1;
    }
    assert_eq!(taken, 99);
}

#[test]
fn message_larger_than_the_buffer_goes_into_an_empty_one() {
    let mut rig = small_buffer(1000);
    rig.open_window(10_000);
    rig.enqueue(1 << 20);
    assert!(!rig.sender.has_room());
    assert_eq!(
        rig.sender.check(1, &options(0), &rig.paths),
        Err(SendError::NoRoom)
    );
    let last = rig.flush().last().unwrap().tsns().last().copied().unwrap();
    rig.sack(last, &[]);
    assert!(rig.sender.is_empty());
    assert_eq!(rig.sender.buffered(), 0);
    rig.enqueue(1 << 20);
}

#[test]
fn fragmentation_turned_off_refuses_what_needs_it() {
    // RFC 9260 6.9.
    let config = SendConfig {
        disable_fragments: true,
        ..eager()
    };
    let mut rig = Rig::with(config, unlimited_burst(), 1, WIDE);
    rig.enqueue(FULL);
    assert_eq!(
        rig.sender.check(FULL + 1, &options(0), &rig.paths),
        Err(SendError::TooLong)
    );
    let id = rig.id(0);
    rig.paths.set_mtu(id, 1000);
    assert_eq!(
        rig.sender.check(FULL, &options(0), &rig.paths),
        Err(SendError::TooLong)
    );
}

#[test]
fn stream_sequence_numbers_count_ordered_messages_of_each_stream() {
    // RFC 9260 6.5: from 0, one for each ordered message; 6.6: unordered ones do not move it.
    let mut rig = Rig::eager();
    rig.open_window(10_000);
    for (stream, unordered) in [(0, false), (1, false), (0, true), (0, false), (1, false)] {
        let options = SendOptions {
            stream,
            unordered,
            ..SendOptions::default()
        };
        rig.enqueue_with(100, &options);
    }
    let sent: Vec<_> = rig
        .flush()
        .into_iter()
        .flat_map(|packet| packet.chunks)
        .map(|data| {
            let unordered = data.header.flags.contains(DataFlags::UNORDERED);
            (data.header.stream, (!unordered).then_some(data.header.ssn))
        })
        .collect();
    assert_eq!(
        sent,
        [
            (0, Some(0)),
            (1, Some(0)),
            (0, None),
            (0, Some(1)),
            (1, Some(1))
        ]
    );
}

#[test]
fn stream_sequence_number_after_65535_is_0() {
    // RFC 9260 6.5.
    let mut rig = Rig::eager();
    let mut ssns = Vec::new();
    for _ in 0..65_538 {
        rig.enqueue(1);
        for packet in rig.flush() {
            ssns.extend(packet.chunks.iter().map(|data| data.header.ssn));
            let last = *packet.tsns().last().unwrap();
            rig.sack(last, &[]);
        }
    }
    assert_eq!(ssns[65_534..], [65_534, 65_535, 0, 1]);
}

#[test]
fn fragments_of_a_message_are_never_interleaved_with_another() {
    // RFC 9260 6.9 2: their TSNs are consecutive, whatever the scheduler would like next.
    let config = SendConfig {
        scheduler: SchedulerKind::RoundRobin,
        ..eager()
    };
    let mut rig = Rig::with(config, unlimited_burst(), 1, WIDE);
    rig.open_window(10_000);
    for stream in [1, 1, 2, 3, 2] {
        rig.enqueue_on(stream, 3 * FULL + 10);
    }
    let mut order = Vec::new();
    let mut inside = None;
    for data in rig.flush().into_iter().flat_map(|packet| packet.chunks) {
        let flags = data.header.flags;
        assert_eq!(flags.contains(DataFlags::BEGINNING), inside.is_none());
        if inside.is_none() {
            order.push(data.header.stream);
            inside = Some(data.header);
        }
        let begun = inside.unwrap();
        assert_eq!(
            (data.header.stream, data.header.ssn),
            (begun.stream, begun.ssn)
        );
        if flags.contains(DataFlags::END) {
            inside = None;
        }
    }
    assert_eq!(order, [1, 2, 3, 1, 2]);
}

#[test]
fn messages_on_streams_the_peer_does_not_have_come_back() {
    // RFC 9260 5.1.1: the peer may take fewer streams than were asked for.
    for scheduler in [SchedulerKind::FirstCome, SchedulerKind::RoundRobin] {
        let config = SendConfig {
            scheduler,
            ..eager()
        };
        let mut rig = Rig::with(config, unlimited_burst(), 1, WIDE);
        for (context, stream) in [7, 0, 3, 7, 2, 8].into_iter().enumerate() {
            let options = SendOptions {
                stream,
                context: context as u32,
                ..SendOptions::default()
            };
            rig.enqueue_with(10, &options);
        }
        let refused = rig.sender.set_peer(3, 5000);
        let mut contexts: Vec<u32> = refused.iter().map(|f| f.options.context).collect();
        contexts.sort_unstable();
        assert_eq!(contexts, [0, 2, 3, 5], "{scheduler:?}");
        assert!(refused.iter().all(|f| f.progress == Progress::Unsent));
        let streams: Vec<u16> = rig
            .flush()
            .iter()
            .flat_map(|packet| packet.chunks.iter().map(|data| data.header.stream))
            .collect();
        assert_eq!(streams, [0, 2]);
        assert_eq!(rig.sender.peer_rwnd(), 5000 - 20);
        assert_eq!(
            rig.sender.check(1, &options(3), &rig.paths),
            Err(SendError::InvalidStream)
        );
    }
}

#[test]
fn failed_association_gives_every_message_back_once() {
    // RFC 9260 11.2.2, RFC 6458 6.1.11: with context, and whether it was sent.
    let mut rig = Rig::eager();
    let lens = [100, 5 * FULL, 200, 300];
    for (context, len) in lens.into_iter().enumerate() {
        let options = SendOptions {
            stream: context as u16,
            ppid: 9,
            context: context as u32,
            unordered: context == 2,
            ..SendOptions::default()
        };
        rig.enqueue_with(len, &options);
    }
    // The first message and one fragment of the second are acknowledged; of the second not all has been sent.
    rig.flush();
    rig.sack(2, &[]);
    let mut failed = Vec::new();
    while let Some(message) = rig.sender.pop_failed(&mut rig.paths) {
        rig.sender.check_counts(&rig.paths);
        failed.push((
            message.options.context,
            message.progress,
            message.data.len(),
            message.options.unordered,
        ));
        assert_eq!(message.options.ppid, 9);
    }
    let left_of_second = 5 * FULL - (PMDCS - 116 - 16);
    assert_eq!(
        failed,
        [
            (1, Progress::Sent, left_of_second, false),
            (2, Progress::Unsent, 200, true),
            (3, Progress::Unsent, 300, false)
        ]
    );
    assert!(rig.sender.is_empty());
    assert_eq!(rig.sender.buffered(), 0);
    assert_eq!(rig.flight(), 0);
}
