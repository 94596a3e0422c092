use super::*;

const MSS: u16 = 1000;

/// `n` segments of 1,000 octets from sequence number 0, one range each, sent a millisecond apart.
fn sent(n: u32) -> Scoreboard {
    let mut board = Scoreboard::new(SeqNum(0));
    for i in 1..=n {
        board.on_sent(SeqNum(i * 1000), Instant::from_millis(u64::from(i)), MSS);
    }
    board
}

fn sack(board: &mut Scoreboard, blocks: &[(u32, u32)]) -> u32 {
    let una = board.una;
    board.apply_sack(blocks, una).bytes
}

/// What the running totals must equal, counted from scratch.
fn assert_totals(board: &Scoreboard) {
    let sum = |keep: fn(&Range) -> bool| -> u32 {
        board
            .ranges
            .iter()
            .filter(|r| keep(r))
            .map(Range::len)
            .sum()
    };
    assert_eq!(board.sacked, sum(|r| r.sacked));
    assert_eq!(board.lost, sum(|r| r.lost));
    assert_eq!(board.retransmitted, sum(|r| r.retransmitted));
    let mut at = board.una;
    for range in &board.ranges {
        assert_eq!(range.start, at, "no gaps");
        assert!(range.start.before(range.end) && !(range.sacked && range.lost));
        at = range.end;
    }
}

#[test]
fn segments_are_lost_when_three_above_were_sacked() {
    // RFC 6675 4, IsLost.
    let mut board = sent(10);
    assert_eq!(sack(&mut board, &[(1000, 2000)]), 1000);
    assert_eq!(board.detect_losses(3), 0);
    assert_eq!(sack(&mut board, &[(3000, 4000), (1000, 2000)]), 1000);
    assert_eq!(board.detect_losses(3), 0);
    assert_eq!(
        sack(&mut board, &[(5000, 6000), (3000, 4000), (1000, 2000)]),
        1000
    );
    assert_eq!(
        board.detect_losses(3),
        1000,
        "only the first has three above it"
    );
    assert_eq!(board.pipe(), 10_000 - 3000 - 1000);
    assert_eq!(board.next_lost(u32::MAX), Some((SeqNum(0), SeqNum(1000))));
    assert_totals(&board);
}

#[test]
fn super_packet_is_split_at_a_sack_edge_and_counts_its_segments() {
    // One range of ten segments; the peer has the last four.
    let mut board = Scoreboard::new(SeqNum(0));
    board.on_sent(SeqNum(10_000), Instant::ZERO, MSS);
    assert_eq!(sack(&mut board, &[(6000, 10_000)]), 4000);
    assert_eq!(board.detect_losses(3), 6000);
    assert_eq!(board.next_lost(2000), Some((SeqNum(0), SeqNum(2000))));
    board.on_retransmitted(SeqNum(0), SeqNum(2000), Instant::from_millis(1), MSS);
    assert_eq!(
        board.next_lost(u32::MAX),
        Some((SeqNum(2000), SeqNum(6000)))
    );
    assert_eq!(board.pipe(), 2000);
    assert_totals(&board);
}

#[test]
fn retransmissions_come_in_order_and_once() {
    // RFC 6675 4, NextSeg rule 1.c: only above HighRxt.
    let mut board = sent(8);
    sack(&mut board, &[(1000, 2000), (3000, 4000), (5000, 8000)]);
    board.detect_losses(3);
    let mut order = Vec::new();
    while let Some((start, end)) = board.next_lost(1000) {
        board.on_retransmitted(start, end, Instant::from_millis(20), MSS);
        order.push(start.0);
    }
    assert_eq!(order, [0, 2000, 4000]);
    assert_eq!(board.pipe(), 3000);
    assert_totals(&board);
}

#[test]
fn karn_excludes_retransmitted_ranges_from_samples() {
    // RFC 6298 3.
    let mut board = sent(3);
    board.mark_head_lost(1000);
    board.on_retransmitted(SeqNum(0), SeqNum(1000), Instant::from_millis(9), MSS);
    let first = board.acknowledge(SeqNum(1000));
    assert_eq!(
        (first.bytes, first.sent_at, first.retransmitted),
        (1000, None, true)
    );
    let rest = board.acknowledge(SeqNum(3000));
    assert_eq!(
        (rest.bytes, rest.sent_at),
        (2000, Some(Instant::from_millis(2)))
    );
    assert!(!board.owns_memory(), "nothing in flight owns nothing");
}

#[test]
fn partly_acknowledged_range_keeps_its_rest() {
    let mut board = Scoreboard::new(SeqNum(u32::MAX - 4999));
    board.on_sent(SeqNum(5000), Instant::ZERO, MSS);
    assert_eq!(board.outstanding(), 10_000);
    assert_eq!(board.acknowledge(SeqNum(500)).bytes, 5500);
    assert_eq!(board.pipe(), 4500);
    assert_totals(&board);
}

#[test]
fn blocks_outside_the_flight_change_nothing() {
    // RFC 2018 and RFC 5961's spirit: what was never sent cannot be acknowledged.
    let mut board = sent(5);
    board.acknowledge(SeqNum(1000));
    for block in [
        (0, 900),
        (1000, 2000),
        (4000, 6000),
        (3000, 3000),
        (3000, 2000),
        (0x8000_0000, 0x9000_0000),
    ] {
        assert_eq!(sack(&mut board, &[block]), 0, "{block:?}");
    }
    assert!(!board.has_sacked());
    assert_totals(&board);
}

#[test]
fn duplicate_reports_are_recognized() {
    // RFC 2883 4.
    let mut board = sent(5);
    for (blocks, duplicate) in [
        (&[(1000u32, 2000u32)][..], false),
        (&[(1000, 2000), (1000, 3000)][..], true),
        (&[(1000, 2000), (3000, 4000)][..], false),
    ] {
        let una = board.una;
        assert_eq!(
            board.apply_sack(blocks, una).duplicate_sack,
            duplicate,
            "{blocks:?}"
        );
    }
    board.acknowledge(SeqNum(4000));
    assert!(board.apply_sack(&[(0, 1000)], SeqNum(4000)).duplicate_sack);
}

#[test]
fn timeout_keeps_sacks_unless_the_peer_reneged() {
    // RFC 6675 5.1, RFC 2018 8.
    let mut board = sent(5);
    sack(&mut board, &[(2000, 3000)]);
    board.mark_all_lost();
    assert_eq!(
        (board.sacked(), board.lost(), board.pipe()),
        (1000, 4000, 0)
    );
    board.acknowledge(SeqNum(2000));
    board.mark_all_lost();
    assert_eq!(
        (board.sacked(), board.lost()),
        (0, 3000),
        "the first octet in flight was SACKed: reneged"
    );
    assert_totals(&board);
}

#[test]
fn totals_hold_under_random_operations() {
    // Every operation in any order: the running totals equal a recount.
    let mut random = crate::random::Random::new(Some(7));
    for _ in 0..50 {
        let mut board = Scoreboard::new(SeqNum(random.next_u32()));
        let mut now = 0;
        let mut end = board.una;
        for _ in 0..300 {
            now += 1;
            let at = Instant::from_millis(now);
            let flight = board.outstanding();
            let any = board.una + random.below(flight + 1);
            match random.below(7) {
                0 | 1 => {
                    end += 1 + random.below(5000);
                    board.on_sent(end, at, MSS);
                }
                2 => {
                    board.acknowledge(any);
                }
                3 | 4 => {
                    let other = any + random.below(3000);
                    let una = board.una;
                    board.apply_sack(&[(any.0, other.0)], una);
                    board.detect_losses(3);
                }
                5 => {
                    if let Some((a, b)) = board.next_lost(1 + random.below(3000)) {
                        board.on_retransmitted(a, b, at, MSS);
                    }
                }
                _ => {
                    if random.below(10) == 0 {
                        board.mark_all_lost();
                    } else {
                        board.mark_head_lost(1000);
                    }
                }
            }
            assert_totals(&board);
        }
    }
}

#[test]
fn repeated_blocks_cost_no_scan() {
    // A peer repeats its blocks in each ACK: 20,000 ranges and 20,000 growing blocks must not take 10^8 steps. The
    // assertion is on the result; a quadratic walk would show as minutes here.
    let mut board = sent(20_000);
    for i in 2..=20_000u32 {
        assert_eq!(sack(&mut board, &[(1000, i * 1000)]), 1000);
        board.detect_losses(3);
    }
    assert_eq!(board.lost(), 1000);
    assert_eq!(board.sacked(), 19_999_000);
}

#[test]
fn single_octets_sacked_do_not_grow_the_board_without_bound() {
    // A range each for the megabytes a hostile peer can keep in flight would cost far more than the data.
    let mut board = Scoreboard::new(SeqNum(0));
    board.on_sent(SeqNum(400_000), Instant::ZERO, MSS);
    for i in 1..50_000 {
        let left = i * 4;
        sack(&mut board, &[(left, left + 1), (left + 2, left + 3)]);
    }
    assert!(
        board.ranges.len() <= MAX_RANGES + 2,
        "{}",
        board.ranges.len()
    );
    assert_totals(&board);
    board.mark_all_lost();
    board.acknowledge(SeqNum(400_000));
    assert!(board.is_empty());
}
