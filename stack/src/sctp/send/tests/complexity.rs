//! What it costs, in chunks and ranges looked at: not in time.

use super::*;

fn roomy() -> SendConfig {
    SendConfig {
        buffer: usize::MAX,
        ..eager()
    }
}

#[test]
fn million_small_messages_on_a_thousand_streams() {
    for scheduler in [SchedulerKind::FirstCome, SchedulerKind::RoundRobin] {
        let config = SendConfig {
            scheduler,
            ..roomy()
        };
        let mut rig = Rig::with(config.clone(), unlimited_burst(), 1, WIDE);
        rig.sender = Sender::new(&config, Tsn(1), 1000, WIDE);
        rig.open_window(1000);
        let octet = Bytes::from_static(b"x");
        for i in 0..1_000_000u32 {
            let options = SendOptions {
                stream: (i % 1000) as u16,
                ..SendOptions::default()
            };
            rig.sender
                .enqueue(octet.clone(), &options, &rig.paths)
                .unwrap();
        }
        let mut sent = 0u32;
        let mut looked_at = 0;
        while !rig.sender.is_empty() {
            let path = rig.id(0);
            let (mut room, mut position) = (PMDCS, Position::First);
            while let Some(data) =
                rig.sender
                    .next_data(rig.now, path, &mut rig.paths, room, position)
            {
                sent += 1;
                assert_eq!(data.header.tsn, sent);
                assert_eq!(u32::from(data.header.stream), (sent - 1) % 1000);
                room -= 20;
                position = Position::AfterData;
            }
            let sack = sack(sent, WIDE, &[]);
            rig.sender
                .handle_sack(rig.now, &sack, &mut rig.paths)
                .unwrap();
            looked_at += rig.sender.outstanding.take_visits();
        }
        assert_eq!(sent, 1_000_000);
        assert!(looked_at <= 1_010_000, "{looked_at}");
        assert_eq!(rig.sender.buffered(), 0);
    }
}

#[test]
fn message_of_sixteen_mebibytes() {
    let mut rig = Rig::with(SendConfig::default(), unlimited_burst(), 1, WIDE);
    rig.open_window(64);
    let message = Bytes::from(vec![7; 16 << 20]);
    let start = message.as_ptr() as usize;
    rig.sender
        .enqueue(message, &SendOptions::default(), &rig.paths)
        .unwrap();
    let mut octets = 0;
    let mut looked_at = 0;
    let mut chunks = 0;
    while !rig.sender.is_empty() {
        for data in rig.flush().into_iter().flat_map(|packet| packet.chunks) {
            assert_eq!(data.payload.as_ptr() as usize - start, octets);
            octets += data.payload.len();
            chunks += 1;
        }
        rig.sender.outstanding.take_visits();
        rig.sack(chunks, &[]);
        looked_at += rig.sender.outstanding.take_visits();
    }
    assert_eq!(octets, 16 << 20);
    assert!(looked_at as u32 <= chunks + chunks / 10, "{looked_at}");
}

/// Sends `count` chunks and has every second one acknowledged, one SACK for each, as a receiver with many gaps would.
fn every_second(count: u16, blocks_per_sack: usize) -> (usize, usize) {
    let mut rig = Rig::with(roomy(), unlimited_burst(), 1, WIDE);
    rig.open_window(usize::from(count));
    for _ in 0..count {
        rig.enqueue(FULL);
    }
    rig.flush();
    rig.sender.outstanding.take_visits();
    let mut blocks = Vec::new();
    let mut looked_at = 0;
    let mut named = 0;
    for received in (2..count).step_by(2) {
        if blocks.len() == blocks_per_sack {
            // As a receiver that names the newest: the sender must take it as well.
            blocks.remove(0);
        }
        blocks.push((received, received));
        named += blocks.len();
        let sack = sack(0, WIDE, &blocks);
        rig.sender
            .handle_sack(rig.now, &sack, &mut rig.paths)
            .unwrap();
        looked_at += rig.sender.outstanding.take_visits();
    }
    rig.sender.check_counts(&rig.paths);
    (looked_at, named)
}

#[test]
fn sack_costs_what_it_names_and_not_what_is_out() {
    for count in [1000, 4000, 16_000] {
        let (looked_at, named) = every_second(count, 100);
        assert!(
            looked_at <= 6 * named,
            "{count}: {looked_at} for {named} blocks"
        );
    }
}

#[test]
fn repeated_sacks_cost_their_blocks() {
    let mut rig = Rig::with(roomy(), unlimited_burst(), 1, WIDE);
    rig.open_window(60_000);
    for _ in 0..60_000 {
        rig.enqueue(1);
    }
    rig.flush();
    rig.sack(0, &[(2, 30_000), (30_002, 60_000)]);
    rig.sender.outstanding.take_visits();
    for _ in 0..1000 {
        let sack = sack(0, WIDE, &[(2, 30_000), (30_002, 60_000)]);
        rig.sender
            .handle_sack(rig.now, &sack, &mut rig.paths)
            .unwrap();
    }
    let looked_at = rig.sender.outstanding.take_visits();
    assert!(looked_at <= 10_000, "{looked_at}");
}

#[test]
fn each_tsn_is_examined_for_misses_once() {
    // 20,000 TSNs, every third lost: fast retransmit marks each, and the whole transfer looks at few chunks more than it has.
    let mut rig = Rig::with(roomy(), unlimited_burst(), 1, WIDE);
    let count = 20_000u16;
    rig.open_window(usize::from(count));
    for _ in 0..count {
        rig.enqueue(FULL);
    }
    rig.flush();
    rig.sender.outstanding.take_visits();
    let mut named = 0;
    let mut blocks = Vec::new();
    for end in (2..count - 1).step_by(3) {
        blocks.push((end, end + 1));
        let first = blocks.len().saturating_sub(300);
        named += blocks.len() - first;
        let sack = sack(0, WIDE, &blocks[first..]);
        rig.sender
            .handle_sack(rig.now, &sack, &mut rig.paths)
            .unwrap();
    }
    let looked_at = rig.sender.outstanding.take_visits();
    assert!(looked_at <= 6 * named, "{looked_at} for {named}");
    assert!(rig.sender.stats().fast_retransmits >= 6000);
    rig.sender.check_counts(&rig.paths);
}

#[test]
fn earliest_tsn_of_each_path_is_found_without_walking_the_ring() {
    // Two paths, the lower half of the window on one that is silent.
    let mut rig = Rig::with(roomy(), unlimited_burst(), 2, WIDE);
    let (a, b) = (rig.id(0), rig.id(1));
    for path in [a, b] {
        rig.paths.get_mut(path).set_cwnd(10_000 * PMDCS);
    }
    for _ in 0..20_000 {
        rig.enqueue(FULL);
    }
    rig.flush();
    rig.paths.set_primary(b);
    rig.flush();
    rig.sender.outstanding.take_visits();
    let mut looked_at = 0;
    for end in 10_001..20_000u16 {
        let sack = sack(0, WIDE, &[(10_001, end)]);
        rig.sender
            .handle_sack(rig.now, &sack, &mut rig.paths)
            .unwrap();
        looked_at += rig.sender.outstanding.take_visits();
    }
    assert!(looked_at <= 150_000, "{looked_at}");
}

#[test]
fn chunk_entry_stays_small() {
    // The ring is what a large window costs.
    assert!(size_of::<Chunk>() <= 64, "{}", size_of::<Chunk>());
    let sender = size_of::<Sender>();
    assert!(sender <= 900, "{sender}");
    let path = size_of::<crate::sctp::path::Path>();
    assert!(path <= 480, "{path}");
}
