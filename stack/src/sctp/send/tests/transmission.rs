//! RFC 9260 6.1, 6.9, 6.10: what goes into which packet, and when.

use super::*;

fn lens(packets: &[Packet]) -> Vec<Vec<usize>> {
    packets
        .iter()
        .map(|packet| {
            packet
                .chunks
                .iter()
                .map(|data| data.payload.len())
                .collect()
        })
        .collect()
}

#[test]
fn large_message_is_cut_into_full_chunks_marked_at_both_ends() {
    // RFC 9260 6.9 1 to 3.
    let mut rig = Rig::eager();
    rig.open_window(100);
    rig.enqueue(3 * FULL + 50);
    let packets = rig.flush();
    assert_eq!(lens(&packets), [[FULL], [FULL], [FULL], [50]]);
    let ends: Vec<_> = packets
        .iter()
        .map(|packet| {
            let flags = packet.chunks[0].header.flags;
            (
                flags.contains(DataFlags::BEGINNING),
                flags.contains(DataFlags::END),
            )
        })
        .collect();
    assert_eq!(
        ends,
        [(true, false), (false, false), (false, false), (false, true)]
    );
    assert!(
        packets
            .iter()
            .all(|packet| packet.chunks[0].header.ssn == 0)
    );
}

#[test]
fn whole_message_has_both_ends_in_one_chunk() {
    let mut rig = Rig::new();
    let options = SendOptions {
        ppid: 77,
        stream: 5,
        unordered: true,
        ..SendOptions::default()
    };
    rig.enqueue_with(FULL, &options);
    let packet = rig.packet().unwrap();
    let header = packet.chunks[0].header;
    let expected = DataFlags::BEGINNING | DataFlags::END | DataFlags::UNORDERED;
    assert_eq!(header.flags, expected);
    assert_eq!((header.ppid, header.stream, header.tsn), (77, 5, 1));
}

#[test]
fn user_may_limit_the_size_of_chunks() {
    // RFC 6458 8.1.16, SCTP_MAXSEG.
    let config = SendConfig {
        maxseg: 500,
        ..eager()
    };
    let mut rig = Rig::with(config, unlimited_burst(), 1, WIDE);
    rig.open_window(100);
    rig.enqueue(1200);
    assert_eq!(lens(&rig.flush()), [vec![500, 500, 200]]);
}

#[test]
fn messages_are_cut_for_the_smallest_path_of_all() {
    // RFC 9260 6.9, 7.3: AMDCS.
    let mut rig = Rig::with(eager(), unlimited_burst(), 2, WIDE);
    let other = rig.id(1);
    rig.paths.set_mtu(other, 1000);
    rig.enqueue(FULL);
    assert_eq!(lens(&rig.flush()), [[952], [500]]);
}

#[test]
fn small_messages_share_a_packet() {
    // RFC 9260 6.10: up to the PMTU, TSNs ascending.
    let mut rig = Rig::eager();
    rig.open_window(100);
    for _ in 0..30 {
        rig.enqueue(101); // 117 octets, padded to 120
    }
    let packets = rig.flush();
    assert_eq!(lens(&packets), [vec![101; 12], vec![101; 12], vec![101; 6]]);
    assert!(packets.iter().all(|packet| packet.size() <= PMDCS));
    let tsns: Vec<u32> = packets.iter().flat_map(Packet::tsns).collect();
    assert_eq!(tsns, (1..=30).collect::<Vec<_>>());
}

#[test]
fn message_that_fits_a_packet_is_not_cut_to_fill_one_up() {
    let mut rig = Rig::eager();
    rig.open_window(100);
    rig.enqueue(1000);
    rig.enqueue(1000);
    assert_eq!(lens(&rig.flush()), [[1000], [1000]]);
}

#[test]
fn message_that_is_cut_anyway_fills_the_packet_it_begins_in() {
    let mut rig = Rig::eager();
    rig.open_window(100);
    rig.enqueue(100);
    rig.enqueue(3000);
    // 1468 - 116 for the first leaves 1352: a chunk of 1336.
    assert_eq!(lens(&rig.flush()), [vec![100, 1336], vec![FULL], vec![212]]);
    // But not with pieces that are mostly header.
    rig.enqueue(1000);
    rig.enqueue(3000);
    assert_eq!(
        lens(&rig.flush()),
        [vec![1000], vec![FULL], vec![FULL], vec![96]]
    );
}

#[test]
fn control_chunks_leave_less_room_for_data() {
    // RFC 9260 6.9: the space of a bundled SACK is taken into account.
    let mut rig = Rig::eager();
    rig.open_window(100);
    rig.enqueue(5000);
    let path = rig.id(0);
    let packet = rig.fill(path, PMDCS - 28, Position::WithControl);
    assert_eq!(lens(&[packet]), [[FULL - 28]]);
    rig.enqueue(FULL);
    rig.flush();
    rig.enqueue(FULL);
    let packet = rig.fill(path, PMDCS - 28, Position::WithControl);
    assert!(packet.chunks.is_empty(), "it fits a packet of its own");
    assert_eq!(lens(&rig.flush()), [[FULL]]);
}

#[test]
fn new_data_waits_while_the_flight_has_reached_the_window() {
    // RFC 9260 6.1 B: with less than cwnd in flight one packet may exceed it; then no more.
    let mut rig = Rig::eager();
    assert_eq!(rig.cwnd(), 4404);
    for _ in 0..10 {
        rig.enqueue(1000); // 1016 octets
    }
    let packets = rig.flush();
    assert_eq!(packets.len(), 5);
    assert_eq!(rig.flight(), 5 * 1016, "4064 was below 4404");
    assert!(rig.flight() < rig.cwnd() + PMDCS);
    rig.sack(1, &[]);
    assert!(rig.flight() < rig.cwnd());
    assert!(!rig.flush().is_empty());
}

#[test]
fn bundled_chunks_exceed_the_window_by_one_packet_only() {
    // RFC 9260 6.1 B: "the breach of cwnd MUST constitute one packet only".
    let mut rig = Rig::eager();
    rig.open_window(2);
    for _ in 0..200 {
        rig.enqueue(100);
    }
    let mut flight = 0;
    for packet in rig.flush() {
        assert!(flight < 2 * PMDCS, "begun with the window full");
        flight += packet.size();
        assert!(flight < 2 * PMDCS + PMDCS);
    }
    assert_eq!(flight, rig.flight());
}

#[test]
fn peers_window_limits_new_data_but_not_retransmissions() {
    // RFC 9260 6.1 A, 6.2.1 B.
    let mut rig = Rig::with(eager(), unlimited_burst(), 1, 3000);
    for _ in 0..5 {
        rig.enqueue(1000);
    }
    assert_eq!(rig.flush().len(), 3);
    assert_eq!(rig.sender.peer_rwnd(), 0);
    // Everything times out and may go again, the first packet at once.
    rig.fire_t3(rig.id(0));
    assert_eq!(rig.flush_tsns(), [[1]]);
    rig.a_rwnd = 2000;
    rig.sack(1, &[]);
    assert_eq!(
        rig.flush_tsns(),
        [[2], [3]],
        "1000 in flight, 2000 too much"
    );
    rig.sack(3, &[]);
    assert_eq!(rig.flush_tsns(), [[4], [5]]);
}

#[test]
fn data_larger_than_the_peers_window_is_not_cut_smaller() {
    // RFC 9260 6.1 A and RFC 1122 4.2.3.4: no silly windows.
    let mut rig = Rig::with(eager(), unlimited_burst(), 1, 2000);
    rig.open_window(100);
    rig.enqueue(5000);
    assert_eq!(lens(&rig.flush()), [[FULL]]);
    assert_eq!(rig.sender.peer_rwnd(), 2000 - FULL);
}

#[test]
fn chunk_is_never_larger_than_the_peer_ever_had_room_for() {
    // Or with a large MTU and a small window nothing would ever arrive.
    let mut rig = Rig::with(eager(), unlimited_burst(), 1, 3000);
    let path = rig.id(0);
    rig.paths.set_mtu(path, 65_535);
    rig.enqueue(10_000);
    assert_eq!(lens(&rig.flush()), [[3000]]);
    rig.a_rwnd = 20_000;
    rig.sack(1, &[]);
    assert_eq!(lens(&rig.flush()), [[7000]]);
}

#[test]
fn retransmissions_go_before_new_data_and_may_share_its_packet() {
    // RFC 9260 6.1 C, 6.10.
    let mut rig = Rig::eager();
    rig.open_window(100);
    for _ in 0..4 {
        rig.enqueue(500);
    }
    assert_eq!(rig.flush_tsns(), [vec![1, 2], vec![3, 4]]);
    rig.fire_t3(rig.id(0));
    rig.enqueue(300);
    assert_eq!(
        rig.flush_tsns(),
        [[1, 2]],
        "7.2.3: one packet after a timeout"
    );
    rig.sack(2, &[]);
    assert_eq!(rig.flush_tsns(), [[3, 4, 5]]);
}

#[test]
fn burst_of_new_packets_is_limited() {
    // RFC 9260 6.1 D, Max.Burst 4.
    let mut rig = Rig::with(eager(), PathConfig::default(), 1, WIDE);
    rig.open_window(100);
    for _ in 0..50 {
        rig.enqueue(FULL);
    }
    assert_eq!(rig.flush().len(), 4);
    assert_eq!(rig.flush().len(), 0, "until the peer says something");
    rig.sack(1, &[]);
    assert_eq!(rig.flush().len(), 4);
    // Several SACKs before sending give each its share.
    for cumulative in 2..5 {
        rig.sack(cumulative, &[]);
    }
    assert_eq!(rig.flush().len(), 12);
}

#[test]
fn burst_ends_where_the_data_ends() {
    let mut rig = Rig::with(eager(), PathConfig::default(), 1, WIDE);
    rig.open_window(100);
    for _ in 0..5 {
        rig.enqueue(FULL);
        rig.enqueue(FULL);
        assert_eq!(rig.flush().len(), 2, "a new occasion each time");
    }
}

#[test]
fn burst_does_not_limit_retransmissions() {
    let mut rig = Rig::with(eager(), PathConfig::default(), 1, WIDE);
    rig.open_window(100);
    for _ in 0..3 {
        for _ in 0..4 {
            rig.enqueue(FULL);
        }
        rig.flush();
    }
    rig.fire_t3(rig.id(0));
    rig.flush();
    rig.open_window(100);
    rig.sack(1, &[]);
    assert_eq!(rig.flush().len(), 11);
}

#[test]
fn small_message_waits_for_company_while_something_is_in_flight() {
    // RFC 9260 6.1, RFC 1122 4.2.3.4 (Nagle).
    let mut rig = Rig::new();
    rig.enqueue(100);
    assert_eq!(rig.flush().len(), 1, "nothing in flight");
    rig.enqueue(100);
    rig.enqueue(100);
    assert_eq!(rig.flush().len(), 0);
    rig.sack(1, &[]);
    assert_eq!(lens(&rig.flush()), [[100, 100]]);
    rig.enqueue(716);
    assert_eq!(rig.flush().len(), 0);
    rig.enqueue(720);
    assert_eq!(lens(&rig.flush()), [[716, 720]], "a full packet");
}

#[test]
fn small_message_goes_at_once_where_waiting_gains_nothing() {
    let path = |rig: &Rig| rig.id(0);
    // NODELAY (RFC 6458 8.1.5).
    let mut rig = Rig::eager();
    rig.enqueue(100);
    rig.flush();
    rig.enqueue(100);
    assert_eq!(rig.flush().len(), 1);
    // A packet goes anyway.
    let mut rig = Rig::new();
    rig.enqueue(100);
    rig.flush();
    rig.enqueue(100);
    assert_eq!(rig.flush().len(), 0);
    let with_sack = rig.fill(path(&rig), PMDCS - 16, Position::WithControl);
    assert_eq!(with_sack.chunks.len(), 1);
    // The tail of a message that is out already.
    rig.sack(2, &[]);
    rig.enqueue(FULL + 100);
    assert_eq!(lens(&rig.flush()), [[FULL], [100]]);
    // No more company will come.
    rig.enqueue(100);
    assert_eq!(rig.flush().len(), 0);
    rig.sender.drain();
    assert_eq!(rig.flush().len(), 1);
}

#[test]
fn immediate_sack_is_asked_for_by_the_last_chunk_of_the_message() {
    // RFC 9260 6.1, 11.1.5; RFC 7053.
    let mut rig = Rig::eager();
    rig.open_window(100);
    let options = SendOptions {
        immediate_ack: true,
        ..SendOptions::default()
    };
    rig.enqueue_with(2 * FULL, &options);
    rig.enqueue(10);
    let asked: Vec<bool> = rig
        .flush()
        .iter()
        .flat_map(|packet| &packet.chunks)
        .map(|data| data.header.flags.contains(DataFlags::IMMEDIATE))
        .collect();
    assert_eq!(asked, [false, true, false]);
}

#[test]
fn immediate_sack_is_asked_for_by_the_last_chunk_before_a_shutdown() {
    // RFC 9260 6.1; elsewhere only by the user: not by a full window, nor by a retransmission, as Linux.
    let immediate = |packet: &Packet| {
        let data = packet.chunks.last().unwrap();
        data.header.flags.contains(DataFlags::IMMEDIATE)
    };
    let mut rig = Rig::eager();
    rig.enqueue(100);
    rig.enqueue(2000);
    rig.sender.drain();
    let asked: Vec<bool> = rig.flush().iter().map(immediate).collect();
    assert_eq!(asked, [false, true]);
    let mut rig = Rig::eager();
    rig.open_window(1);
    rig.enqueue(FULL);
    rig.enqueue(FULL);
    let packets = rig.flush();
    assert_eq!(packets.len(), 1);
    assert!(!immediate(&packets[0]));
    rig.fire_t3(rig.id(0));
    assert!(!immediate(&rig.packet().unwrap()));
}

#[test]
fn chunk_cut_for_a_larger_mtu_is_not_cut_again() {
    // RFC 9260 6.9: IP has to fragment it.
    let mut rig = Rig::eager();
    rig.enqueue(2 * FULL);
    rig.flush();
    let path = rig.id(0);
    rig.paths.set_mtu(path, 1000);
    rig.fire_t3(path);
    assert_eq!(rig.paths.get(path).pmdcs(), 968);
    let opening = rig.sender.opening(rig.now, &mut rig.paths).unwrap();
    assert_eq!(rig.sender.room_for(opening, &rig.paths), PMDCS);
    let packet = rig.packet().unwrap();
    assert_eq!(lens(&[packet]), [[FULL]]);
    rig.sack(1, &[]);
    rig.flush();
    rig.sack(2, &[]);
    rig.open_window(10);
    rig.enqueue(2000);
    assert_eq!(lens(&rig.flush()), [[952], [952], [96]]);
}

#[test]
fn tsns_outstanding_never_exceed_what_a_gap_block_can_name() {
    // RFC 9260 3.3.4, 6.1.
    let config = SendConfig {
        buffer: usize::MAX,
        ..eager()
    };
    let mut rig = Rig::with(config, unlimited_burst(), 1, WIDE);
    rig.open_window(100_000);
    for _ in 0..70_000 {
        rig.enqueue(1);
    }
    while rig.sender.outstanding() < 65_535 {
        let opening = rig.sender.opening(rig.now, &mut rig.paths).unwrap();
        assert_eq!(opening.path, rig.id(0));
        rig.sender.open(rig.now, opening, &mut rig.paths).unwrap();
    }
    assert_eq!(rig.sender.opening(rig.now, &mut rig.paths), None);
    rig.sack(1, &[(2, 65_534)]);
    assert_eq!(rig.sender.outstanding(), 65_534);
    assert!(rig.packet().is_some());
}
