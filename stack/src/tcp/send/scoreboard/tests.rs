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
    board.apply_sack(blocks, una, &LATE).bytes
}

fn acknowledge(board: &mut Scoreboard, una: u32) -> Delivered {
    board.acknowledge(SeqNum(una), &LATE)
}

/// An ACK that came so late that it tells nothing of copies.
const LATE: AckTiming = AckTiming {
    now: Instant::from_millis(1_000_000),
    min_rtt: Duration::ZERO,
    echoed: None,
};

/// RACK's rule with no reordering window, when what ends at `end` and was sent at `millis` has just arrived.
fn detect(board: &mut Scoreboard, millis: u64, end: u32) -> u32 {
    let newest = Sent {
        at: Instant::from_millis(millis),
        end: SeqNum(end),
    };
    board.detect_losses(LATE.now, newest, Duration::ZERO).lost
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
    assert_eq!(board.waiting, sum(|r| r.lost && !r.retransmitted));
    let segments = |r: &Range| if r.sacked { r.segments() } else { 0 };
    let sacked_segments: u32 = board.ranges.iter().map(segments).sum();
    assert_eq!(board.sacked_segments, sacked_segments);
    let mut at = board.una;
    for range in &board.ranges {
        assert_eq!(range.start, at, "no gaps");
        assert!(range.start.before(range.end) && !(range.sacked && range.lost));
        at = range.end;
    }
}

#[test]
fn segments_are_lost_when_one_sent_later_has_arrived() {
    // RFC 8985 6.2, step 5, with a tie of times.
    let mut board = sent(10);
    assert_eq!(sack(&mut board, &[(3000, 4000)]), 1000);
    assert_eq!(detect(&mut board, 4, 4000), 3000);
    assert_eq!(detect(&mut board, 4, 4000), 0, "once");
    assert_eq!(board.pipe(), 10_000 - 1000 - 3000);
    assert_eq!(board.sacked_segments(), 1);
    assert_eq!(board.next_lost(u32::MAX), Some((SeqNum(0), SeqNum(3000))));
    assert_totals(&board);
    let mut board = Scoreboard::new(SeqNum(0));
    for i in 1..=10 {
        board.on_sent(SeqNum(i * 1000 - 1), Instant::ZERO, MSS);
    }
    sack(&mut board, &[(3999, 5999)]);
    assert_eq!(detect(&mut board, 0, 5999), 3999);
    assert_totals(&board);
}

#[test]
fn what_may_still_arrive_is_waited_for() {
    // RFC 8985 6.2, step 5: sent at 1 to 10 ms; the one sent at 6 ms is the latest to have arrived.
    let mut board = sent(10);
    sack(&mut board, &[(5000, 6000)]);
    let newest = Sent {
        at: Instant::from_millis(6),
        end: SeqNum(6000),
    };
    let allowance = Duration::from_millis(50);
    let detected = board.detect_losses(Instant::from_millis(53), newest, allowance);
    assert_eq!(detected.lost, 3000, "sent at 1, 2 and 3 ms");
    assert_eq!(detected.wait_until, Some(Instant::from_millis(56)));
    let detected = board.detect_losses(Instant::from_millis(56), newest, allowance);
    assert_eq!((detected.lost, detected.wait_until), (2000, None));
    assert_totals(&board);
}

#[test]
fn lost_retransmissions_are_found_in_the_order_of_their_sending() {
    // RFC 8985 6.2, step 5, for retransmissions: the last sent proves the ones before it lost.
    let mut board = sent(6);
    sack(&mut board, &[(4000, 6000)]);
    assert_eq!(detect(&mut board, 6, 6000), 4000);
    for (millis, start) in [(20, 0), (21, 1000), (22, 2000), (23, 3000)] {
        let at = Instant::from_millis(millis);
        board.on_retransmitted(SeqNum(start), SeqNum(start + 1000), at, MSS);
    }
    assert_eq!((board.pipe(), board.waiting()), (4000, 0));
    sack(&mut board, &[(2000, 3000)]);
    assert_eq!(detect(&mut board, 22, 3000), 2000);
    assert_eq!((board.pipe(), board.waiting()), (1000, 2000));
    assert_eq!(board.next_lost(u32::MAX), Some((SeqNum(0), SeqNum(2000))));
    assert_totals(&board);
    acknowledge(&mut board, 6000);
    assert!(!board.owns_memory());
}

#[test]
fn loss_probe_that_is_lost_makes_its_original_lost() {
    // RFC 8985 7.3: a probe follows the rules of a retransmission.
    let mut board = sent(3);
    let probe = board.last_segment(1000, SeqNum(3000)).unwrap();
    assert_eq!(probe, (SeqNum(2000), SeqNum(3000)));
    board.on_retransmitted(probe.0, probe.1, Instant::from_millis(20), MSS);
    assert_eq!((board.lost(), board.pipe()), (0, 4000));
    board.on_sent(SeqNum(4000), Instant::from_millis(30), MSS);
    sack(&mut board, &[(3000, 4000)]);
    assert_eq!(detect(&mut board, 30, 4000), 3000);
    assert_eq!(
        (board.lost(), board.waiting(), board.pipe()),
        (3000, 3000, 0)
    );
    assert_totals(&board);
}

#[test]
fn deliveries_tell_time_order_and_copies_apart() {
    // RFC 8985 6.2, steps 2 and 3.
    let mut board = sent(6);
    board.apply_sack(&[(2000, 3000)], SeqNum(0), &LATE);
    let late = board.apply_sack(&[(1000, 3000)], SeqNum(0), &LATE);
    assert!(late.reordered && late.lowest_original == Some(SeqNum(2000)));
    let ahead = board.apply_sack(&[(3000, 4000), (1000, 3000)], SeqNum(0), &LATE);
    assert!(!ahead.reordered);
    assert_eq!(
        ahead.newest.map(|sent| sent.at),
        Some(Instant::from_millis(4))
    );
    board.mark_head_lost(1000);
    board.on_retransmitted(SeqNum(0), SeqNum(1000), Instant::from_millis(20), MSS);
    let early = AckTiming {
        now: Instant::from_millis(25),
        min_rtt: Duration::from_millis(6),
        echoed: None,
    };
    let echo_of_the_first = AckTiming {
        echoed: Some(Instant::from_millis(19)),
        ..LATE
    };
    for (timing, counts) in [(early, false), (echo_of_the_first, false), (LATE, true)] {
        let delivered = board.clone().acknowledge(SeqNum(1000), &timing);
        assert_eq!(delivered.newest.is_some(), counts, "{timing:?}");
        assert!(delivered.retransmitted && !delivered.reordered);
    }
}

#[test]
fn super_packet_is_split_at_a_sack_edge_and_counts_its_segments() {
    // One range of ten segments; the peer has the last four.
    let mut board = Scoreboard::new(SeqNum(0));
    board.on_sent(SeqNum(10_000), Instant::ZERO, MSS);
    assert_eq!(sack(&mut board, &[(6000, 10_000)]), 4000);
    assert_eq!(board.sacked_segments(), 4);
    assert_eq!(detect(&mut board, 0, 10_000), 6000);
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
    detect(&mut board, 8, 8000);
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
    let first = acknowledge(&mut board, 1000);
    assert_eq!(
        (first.bytes, first.sent_at, first.retransmitted),
        (1000, None, true)
    );
    let rest = acknowledge(&mut board, 3000);
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
    assert_eq!(acknowledge(&mut board, 500).bytes, 5500);
    assert_eq!(board.pipe(), 4500);
    assert_totals(&board);
}

#[test]
fn blocks_outside_the_flight_change_nothing() {
    // RFC 2018 and RFC 5961's spirit: what was never sent cannot be acknowledged.
    let mut board = sent(5);
    acknowledge(&mut board, 1000);
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
            board.apply_sack(blocks, una, &LATE).duplicate.is_some(),
            duplicate,
            "{blocks:?}"
        );
    }
    acknowledge(&mut board, 4000);
    assert_eq!(
        board
            .apply_sack(&[(0, 1000)], SeqNum(4000), &LATE)
            .duplicate,
        Some((SeqNum(0), SeqNum(1000)))
    );
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
    acknowledge(&mut board, 2000);
    board.mark_all_lost();
    assert_eq!(
        (board.sacked(), board.lost()),
        (0, 3000),
        "the first octet in flight was SACKed: reneged"
    );
    assert_totals(&board);
}

#[test]
fn only_what_was_larger_than_a_segment_now_is_lost() {
    // RFC 8201 5.4: a router has dropped it, retransmissions included; not what is smaller, nor what has arrived.
    let mut board = sent(4);
    board.on_sent(SeqNum(4500), Instant::from_millis(5), MSS);
    sack(&mut board, &[(2000, 3000)]);
    board.mark_head_lost(1000);
    board.on_retransmitted(SeqNum(0), SeqNum(1000), Instant::from_millis(9), MSS);
    assert!(!board.mark_oversized_lost(1000));
    assert_eq!(board.waiting(), 0);
    assert!(board.mark_oversized_lost(999));
    assert_totals(&board);
    assert_eq!(
        (board.lost(), board.waiting(), board.retransmitted()),
        (3000, 3000, 0)
    );
    assert_eq!(board.next_lost(9000), Some((SeqNum(0), SeqNum(2000))));
    board.on_retransmitted(SeqNum(0), SeqNum(2000), Instant::from_millis(10), 600);
    assert!(
        board.mark_oversized_lost(600),
        "the last is still too large"
    );
    assert_eq!(board.waiting(), 1000);
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
            match random.below(10) {
                0 | 1 => {
                    end += 1 + random.below(5000);
                    board.on_sent(end, at, MSS);
                }
                2 => {
                    acknowledge(&mut board, any.0);
                }
                3 | 4 => {
                    let other = any + random.below(3000);
                    let una = board.una;
                    let delivered = board.apply_sack(&[(any.0, other.0)], una, &LATE);
                    if let Some(newest) = delivered.newest {
                        let allowance = Duration::from_millis(u64::from(random.below(20)));
                        board.detect_losses(at, newest, allowance);
                    }
                }
                5 => {
                    if let Some((a, b)) = board.next_lost(1 + random.below(3000)) {
                        board.on_retransmitted(a, b, at, MSS);
                    }
                }
                6 => {
                    if let Some((a, b)) = board.last_segment(1000, end) {
                        board.on_retransmitted(a, b, at, MSS);
                    }
                }
                7 => {
                    let past =
                        Instant::from_millis(now - u64::from(random.below(30).min(now as u32)));
                    match random.below(20) {
                        0 => board.mark_lost_on_timeout(|sent_at| sent_at < past),
                        1 => board.unmark_lost(),
                        _ => {}
                    }
                }
                8 if random.below(4) == 0 => {
                    board.mark_oversized_lost(random.below(1100));
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
        detect(&mut board, u64::from(i), i * 1000);
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
    acknowledge(&mut board, 400_000);
    assert!(board.is_empty());
}

#[test]
fn last_segment_takes_its_fin_along() {
    // RFC 8985 7.3: the segment as it was sent; data ends at 2,500, or with the last full segment.
    for (end, data_end, segment) in [
        (2501, 2500, (2000, 2501)),
        (2001, 2000, (1000, 2001)),
        (2000, 2000, (1000, 2000)),
        (1, 0, (0, 1)),
    ] {
        let mut board = Scoreboard::new(SeqNum(0));
        board.on_sent(SeqNum(end), Instant::ZERO, MSS);
        let last = board.last_segment(1000, SeqNum(data_end));
        assert_eq!(last, Some((SeqNum(segment.0), SeqNum(segment.1))));
    }
}

#[test]
fn sacked_retransmission_counts_whatever_timestamp_comes_with_it() {
    // RFC 7323 4.3: the echo is of the last segment in order; RFC 8985 6.2, step 2 goes by the time then.
    let mut board = sent(3);
    let at = Instant::from_millis(20);
    board.on_retransmitted(SeqNum(2000), SeqNum(3000), at, MSS);
    let timing = AckTiming {
        now: Instant::from_millis(40),
        min_rtt: Duration::from_millis(20),
        echoed: Some(Instant::from_millis(1)),
    };
    let delivered = board.apply_sack(&[(2000, 3000)], SeqNum(0), &timing);
    assert_eq!(delivered.newest.map(|sent| sent.at), Some(at));
    // A cumulative one tells, and then a round trip a little shorter than all before is none too short.
    for (echoed, counts) in [(19, false), (20, true)] {
        let mut board = sent(1);
        board.on_retransmitted(SeqNum(0), SeqNum(1000), at, MSS);
        let timing = AckTiming {
            min_rtt: Duration::from_millis(21),
            echoed: Some(Instant::from_millis(echoed)),
            ..timing
        };
        let delivered = board.acknowledge(SeqNum(1000), &timing);
        assert_eq!(delivered.newest.is_some(), counts, "{echoed}");
    }
}
