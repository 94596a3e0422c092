//! Loss detection and recovery: what is lost, when that shows, and what is done about it.

use super::script::{Script, config};
use super::*;

/// An established connection with SACK and an MSS of 1000 over a path of 100 ms, and a window of `segments`.
fn far(segments: u32) -> Script {
    far_with(segments, "sackok")
}

/// The same with other options in the peer's SYN-ACK.
fn far_with(segments: u32, options: &str) -> Script {
    let mut config = config();
    config.initial_window = segments;
    far_of(config, options)
}

fn far_of(config: Config, options: &str) -> Script {
    let mut script = Script::opening(config);
    script.run("> S 0:0(0)\n+100");
    // Timestamps take 12 octets of each segment.
    let mss = if options.contains("ts ") { 1012 } else { 1000 };
    script.run(&format!("< S. 0:0(0) ack 1 win 60000 mss {mss} {options}"));
    script.run("> . 1:1(0) ack 1");
    assert_eq!(script.connection.info().rtt, ms(100));
    script
}

/// Writes `segments` full ones and takes what was sent: all of them.
fn send(script: &mut Script, segments: usize) {
    script.write(segments * 1000);
    assert_eq!(script.take_output(), (segments, segments * 1000));
}

#[test]
fn retransmits_lost_tail_without_timeout() {
    // RFC 8985 7.3 and 7.4.1: 2 SRTT (and Linux's 2 ms) after the ACK the last segment goes out again, its SACK tells that
    // those before it are lost.
    let mut script = far(10);
    send(&mut script, 10);
    script.run("+100\n< . 1:1(0) ack 7001\n+201\n-\n+1\n> P. 9001:10001(1000) ack 1");
    script.run("+100\n< . 1:1(0) ack 7001 sack 9001:10001");
    // One for the one delivered, then one more for each (RFC 6937 3.1).
    script.run("> . 7001:8001(1000) ack 1\n-\n+100");
    script.run("< . 1:1(0) ack 8001 sack 9001:10001\n> . 8001:9001(1000) ack 1");
    script.run("+100\n< . 1:1(0) ack 10001\n+10000\n-");
    let info = script.connection.info();
    assert_eq!(
        (info.timeouts, info.recoveries, info.tail_loss_probes),
        (0, 1, 1)
    );
}

#[test]
fn probe_sends_new_data_beyond_the_congestion_window() {
    // RFC 8985 7.3: new data is preferred, Nagle and cwnd are not asked.
    let mut script = far(4);
    script.write(4500);
    assert_eq!(script.take_output(), (4, 4000));
    script.run("+202\n> P. 4001:4501(500) ack 1");
    script.run("+100\n< . 1:1(0) ack 1 sack 4001:4501");
    let info = script.connection.info();
    assert_eq!(info.recoveries, 1, "everything before the probe is lost");
    assert!(script.take_output().0 > 0);
    script.run("+100\n< . 1:1(0) ack 4501");
    assert_eq!(script.connection.info().timeouts, 0);
}

#[test]
fn lone_segment_waits_for_the_peers_delayed_ack() {
    // RFC 8985 7.2: 2 SRTT + 200 ms, but the timeout's 300 ms come first; the timeout itself follows an RTO later.
    let mut script = far(10);
    send(&mut script, 1);
    script.run("+299\n-\n+1\n> P. 1:1001(1000) ack 1");
    assert_eq!(script.connection.info().timeouts, 0);
    script.run("+299\n-\n+1\n> P. 1:1001(1000) ack 1");
    assert_eq!(script.connection.info().timeouts, 1);
    script.run("< . 1:1(0) ack 1001");
}

#[test]
fn loss_repaired_by_a_probe_reduces_the_window() {
    // RFC 8985 7.4.2: the ACK of the probe alone looks like any other; one behind it, without a DSACK, tells.
    let mut script = far(10);
    send(&mut script, 2);
    script.run("+100\n< . 1:1(0) ack 1001\n+300\n> P. 1001:2001(1000) ack 1");
    script.run("+100\n< . 1:1(0) ack 2001");
    let before = script.connection.info().cwnd;
    send(&mut script, 1);
    script.run("+100\n< . 1:1(0) ack 3001");
    let info = script.connection.info();
    assert!(info.cwnd < before, "{} {before}", info.cwnd);
    assert_eq!((info.timeouts, info.tail_loss_probes), (0, 1));
}

#[test]
fn needless_probe_leaves_the_window_alone() {
    // RFC 8985 7.4.2, cases 1 (DSACK) and 2 (a duplicate ACK).
    for answer in ["ack 2001 sack 1001:2001", "ack 2001"] {
        let mut script = far(10);
        send(&mut script, 2);
        script.run("+100\n< . 1:1(0) ack 1001\n+300\n> P. 1001:2001(1000) ack 1");
        script.run(&format!(
            "+1\n< . 1:1(0) ack 2001\n+99\n< . 1:1(0) {answer}"
        ));
        let before = script.connection.info().cwnd;
        send(&mut script, 1);
        script.run("+100\n< . 1:1(0) ack 3001");
        assert!(script.connection.info().cwnd >= before, "{answer}");
    }
}

#[test]
fn second_probe_waits_for_the_first_ones_answer() {
    // RFC 8985 7.3: else a retransmission timeout.
    let mut script = far(10);
    send(&mut script, 2);
    script.run("+202\n> P. 1001:2001(1000) ack 1");
    script.run("+299\n-\n+1\n> . 1:1001(1000) ack 1");
    let info = script.connection.info();
    assert_eq!((info.timeouts, info.tail_loss_probes), (1, 1));
    script.run("+100\n< . 1:1(0) ack 2001");
}

#[test]
fn hole_is_lost_a_quarter_of_a_round_trip_after_something_behind_it_came() {
    // RFC 8985 6.2, step 5: one segment SACKed above is enough, after min_RTT / 4.
    let mut script = far(10);
    send(&mut script, 2);
    script.run("+100\n< . 1:1(0) ack 1 sack 1001:2001\n+24\n-\n+1\n> . 1:1001(1000) ack 1");
    script.run("+100\n< . 1:1(0) ack 2001");
    let info = script.connection.info();
    assert_eq!(
        (info.timeouts, info.recoveries, info.retransmits),
        (0, 1, 1)
    );
}

#[test]
fn reordered_segment_that_comes_in_time_is_not_retransmitted() {
    // RFC 8985 6.2, steps 3 and 4: from then on three SACKed are no sign of loss either.
    let mut script = far(20);
    send(&mut script, 10);
    script.run("+100\n< . 1:1(0) ack 1 sack 1001:3001\n+20\n< . 1:1(0) ack 3001\n-");
    assert_eq!(script.connection.info().reord_seen, 1);
    script.run("< . 1:1(0) ack 3001 sack 4001:10001\n+20\n-\n< . 1:1(0) ack 10001\n+10000\n-");
    assert_eq!(script.connection.info().retransmits, 0);
}

#[test]
fn lost_retransmission_goes_out_again_without_a_timeout() {
    // RFC 8985 3.1: something sent after it has arrived.
    let mut script = far(10);
    script.write(60_000);
    script.take_output();
    script.run("+100\n< . 1:1(0) ack 1 sack 1001:10001\n> . 1:1001(1000) ack 1");
    let (segments, _) = script.take_output();
    assert!(segments > 0, "new data follows");
    script.run("+101\n< . 1:1(0) ack 1 sack 1001:12001\n> . 1:1001(1000) ack 1");
    script.take_output();
    let info = script.connection.info();
    assert_eq!(
        (info.timeouts, info.recoveries, info.retransmits),
        (0, 1, 2)
    );
}

#[test]
fn probes_can_be_turned_off() {
    let mut config = config();
    config.tail_loss_probe = false;
    let mut script = Script::established_with(config, "mss 1000 sackok");
    script.write(1000);
    script.run("> P. 1:1001(1000) ack 1\n+200\n> P. 1:1001(1000) ack 1\n< . 1:1(0) ack 1001");
    assert_eq!(script.connection.info().timeouts, 1);
}

#[test]
fn recovery_halves_the_flight_one_segment_for_two() {
    // RFC 6937 3: twenty in flight, NewReno's target is ten; each second segment that arrives lets one go.
    let mut script = far(20);
    script.write(60_000);
    assert_eq!(script.take_output(), (20, 20_000));
    script.run("+100");
    let mut sent = Vec::new();
    for arrived in 2..=20 {
        script.run_batch(&format!("< . 1:1(0) ack 1 sack 1001:{arrived}001"));
        sent.push(script.take_output().0);
    }
    // The first two prove nothing yet (limited transmit); the third begins recovery with the retransmission.
    assert!(sent.iter().all(|count| *count <= 1), "{sent:?}");
    assert_eq!(sent[..3], [1, 1, 1]);
    let rest: usize = sent[3..].iter().sum();
    assert_eq!(rest, 7, "eight for seventeen, the first included: {sent:?}");
    script.run_batch("< . 1:1(0) ack 31001");
    assert_eq!(script.connection.info().cwnd, 10_000, "RFC 9937: no less");
    script.take_output();
}

#[test]
fn heavy_loss_is_repaired_in_slow_start_not_in_a_burst() {
    // RFC 6937 3.1, RFC 9937: most of the flight is lost, so less than the target is in flight.
    let mut script = far(20);
    script.write(20_000);
    assert_eq!(script.take_output(), (20, 20_000));
    script.run("+100");
    script.run_batch("< . 1:1(0) ack 1 sack 17001:18001");
    script.take_output();
    script.run_batch("< . 1:1(0) ack 1 sack 17001:20001");
    let burst = script.take_output().0;
    assert!(
        (1..=3).contains(&burst),
        "{burst}: what was delivered is replaced"
    );
    script.run("+100");
    script.run_batch("< . 1:1(0) ack 1001 sack 17001:20001");
    let next = script.take_output().0;
    assert_eq!(
        next, 2,
        "a safe ACK: one for the one delivered, and one more"
    );
}

/// Eleven segments of which the first is late: fast recovery begins, the first goes out again at 10,200 ms on the clock
/// that starts at 10,000.
fn needless_fast_recovery(options: &str, ack: &str) -> (Script, usize) {
    let mut script = far_with(20, options);
    send(&mut script, 11);
    let before = script.connection.info().cwnd;
    script.run("+100");
    script.run(&format!("< . 1:1(0) {ack} sack 1001:11001"));
    script.run("> . 1:1001(1000) ack 1");
    assert!(script.connection.info().ssthresh < before);
    (script, before)
}

#[test]
fn timestamp_of_the_original_takes_a_fast_recovery_back() {
    // RFC 3522 3.2, RFC 4015 3.4: the ACK echoes what left before the retransmission.
    let options = "sackok ts 1 10077";
    let (mut script, before) = needless_fast_recovery(options, "ack 1 ts 2 10177");
    script.run("+10\n< . 1:1(0) ack 11001 ts 3 10177");
    let info = script.connection.info();
    assert_eq!((info.undos, info.ssthresh), (1, usize::MAX));
    assert!(info.cwnd >= before, "{}", info.cwnd);
    // An echo of the retransmission takes nothing back.
    let (mut script, before) = needless_fast_recovery(options, "ack 1 ts 2 10177");
    script.run("+100\n< . 1:1(0) ack 11001 ts 3 10277");
    let info = script.connection.info();
    assert_eq!(info.undos, 0);
    assert!(info.cwnd < before);
}

#[test]
fn duplicate_reports_take_a_recovery_back_after_its_end() {
    // RFC 2883 5: the report comes behind the ACK that ends recovery.
    let (mut script, before) = needless_fast_recovery("sackok", "ack 1");
    script.run("+10\n< . 1:1(0) ack 11001\n");
    assert!(script.connection.info().cwnd < before);
    script.run("+90\n< . 1:1(0) ack 11001 sack 1:1001");
    let info = script.connection.info();
    assert_eq!(
        (info.undos, info.dsack_dups, info.ssthresh),
        (1, 1, usize::MAX)
    );
    assert!(info.cwnd >= before);
}

/// `segments` in flight, the peer silent until the timeout has sent the first again; no probes.
fn timed_out(segments: usize, options: &str) -> (Script, usize) {
    let mut config = config();
    config.tail_loss_probe = false;
    let mut script = far_of(config, options);
    send(&mut script, segments);
    let before = script.connection.info().cwnd;
    // Just sent, so the last are not lost yet, and lost they are only when the first has been acknowledged.
    script.run("+300\n> . 1:1001(1000) ack 1");
    assert_eq!(script.connection.info().cwnd, 1000);
    (script, before)
}

#[test]
fn originals_acknowledged_after_a_timeout_take_it_back() {
    // RFC 5682 3.1, step 3.b: what was sent only once has arrived.
    let (mut script, before) = timed_out(5, "sackok");
    script.run("+50\n< . 1:1(0) ack 3001\n-");
    let info = script.connection.info();
    assert_eq!(
        (info.undos, info.ssthresh, info.retransmits),
        (1, usize::MAX, 1)
    );
    assert!(info.cwnd >= before);
    assert!(info.rto > ms(300), "the delay counts for the next timeout");
    script.run("+1\n< . 1:1(0) ack 5001");
}

#[test]
fn new_data_tells_after_a_timeout_whether_the_rest_is_lost() {
    // RFC 5682 3.1, step 2.b: only the first was acknowledged, so two new segments go out before any retransmission.
    for spurious in [true, false] {
        let (mut script, before) = timed_out(5, "sackok");
        script.write(5000);
        script.run("-\n+50\n< . 1:1(0) ack 1001");
        script.run("> . 5001:6001(1000) ack 1\n> . 6001:7001(1000) ack 1");
        if spurious {
            // Step 3.b: the second original.
            script.run_batch("< . 1:1(0) ack 2001");
            script.take_output();
            let info = script.connection.info();
            assert_eq!((info.undos, info.retransmits), (1, 1));
            assert!(info.cwnd >= before);
        } else {
            // Step 3.a: nothing new is acknowledged.
            script.run("< . 1:1(0) ack 1001 sack 5001:6001");
            script.run("> . 1001:2001(1000) ack 1");
            script.take_output();
            assert_eq!(script.connection.info().undos, 0);
        }
        script.run_batch("< . 1:1(0) ack 7001");
        script.take_output();
    }
}

#[test]
fn timestamps_take_a_timeout_back_without_sack() {
    // RFC 3522: the first original was late; what was deemed lost with it is not sent again.
    let (mut script, _) = timed_out(2, "ts 1 10077");
    script.run("+50\n< . 1:1(0) ack 1001 ts 2 10177\n-");
    let info = script.connection.info();
    assert_eq!(
        (info.undos, info.timeouts, info.ssthresh),
        (1, 1, usize::MAX)
    );
}

#[test]
fn peer_that_reneges_gets_everything_again_after_a_timeout() {
    // RFC 2018 8: the first octet in flight had been SACKed and is not acknowledged.
    let mut script = far(10);
    send(&mut script, 4);
    script.run("+100\n< . 1:1(0) ack 1 sack 1001:4001\n> . 1:1001(1000) ack 1");
    script.run("+100\n< . 1:1(0) ack 1001\n+300\n> . 1001:2001(1000) ack 1");
    script.run("+100\n< . 1:1(0) ack 2001\n> . 2001:3001(1000) ack 1\n> P. 3001:4001(1000) ack 1");
    script.run("+100\n< . 1:1(0) ack 4001");
    assert_eq!(script.connection.info().timeouts, 1);
}

#[test]
fn timer_of_a_few_segments_counts_from_their_sending() {
    // RFC 7765 4: sent at 0, the RTO is 300 ms; an ACK at 100 ms leaves 200 of them with fewer than four segments.
    for (segments, wait) in [(2, 200), (4, 200), (5, 300), (10, 300)] {
        let mut script = far_with(10, "");
        send(&mut script, segments);
        script.run("+100\n< . 1:1(0) ack 1001");
        let rto = script.connection.info().rto.as_millis() as u64;
        assert_eq!(rto, 300);
        script.run(&format!("+{}\n-\n+1", wait - 1));
        assert_eq!(script.take_output().0, 1, "{segments} segments");
        assert_eq!(script.connection.info().timeouts, 1);
    }
}

#[test]
fn timer_of_a_few_segments_still_allows_for_a_delayed_ack() {
    // RFC 9293 3.8.6.3: a peer may hold its ACK back; the ACK at 250 ms is late, 200 ms from then on are waited.
    let mut script = far_with(10, "");
    send(&mut script, 2);
    script.run("+250\n< . 1:1(0) ack 1001\n+199\n-");
    script.run("< . 1:1(0) ack 2001");
    assert_eq!(script.connection.info().timeouts, 0);
}

#[test]
fn duplicates_that_the_path_makes_do_not_widen_the_reordering_window() {
    // RFC 8985 6.2, step 4 means needless retransmissions; there were none. The second report is longer than any window.
    let mut script = far(10);
    send(&mut script, 3);
    script.run("+100\n< . 1:1(0) ack 3001 sack 1:1001\n< . 1:1(0) ack 3001 sack -100000:1");
    assert_eq!(script.connection.info().dsack_dups, 1);
    send(&mut script, 2);
    script.run("+100\n< . 1:1(0) ack 3001 sack 4001:5001\n+24\n-\n+1\n> . 3001:4001(1000) ack 1");
    script.run("+100\n< . 1:1(0) ack 5001");
}

#[test]
fn what_arrives_before_it_was_sent_again_was_not_lost() {
    // As Linux's `tcp_packet_delayed`: all ACKs come in one batch, before the retransmission can leave.
    let mut script = far(10);
    send(&mut script, 5);
    let before = script.connection.info().cwnd;
    script.run("+100");
    script.run_batch("< . 1:1(0) ack 1 sack 1001:5001\n< . 1:1(0) ack 5001");
    script.run("-");
    let info = script.connection.info();
    assert_eq!(
        (info.recoveries, info.undos, info.retransmits),
        (1, 1, 0),
        "{info:?}"
    );
    assert!(info.cwnd >= before && info.ssthresh == usize::MAX);
}

#[test]
fn blocks_of_an_overtaken_ack_count() {
    // The second of two SACKs was held back by the path: nobody else says that the last segments have arrived.
    let mut script = far(10);
    send(&mut script, 8);
    script.run("+100\n< . 1:1(0) ack 3001\n< . 1:1(0) ack 2001 win 1 sack 5001:7001");
    let info = script.connection.info();
    assert_eq!((info.sacked, info.send_window), (2000, 50_000));
    assert_eq!(info.rtt, ms(100), "its delay is its own");
    // RACK waits for a quarter of the round trip with only two of them.
    script.run("-\n+25\n> . 3001:4001(1000) ack 1");
    script.run("+100\n< . 1:1(0) ack 8001");
}

#[test]
fn window_grows_by_what_arrives_out_of_order_on_a_path_that_reorders() {
    // Linux's `tcp_may_raise_cwnd`. Slow start: by as much as arrives, when it arrives.
    let mut script = far(10);
    send(&mut script, 10);
    script.run("+100\n< . 1:1(0) ack 1 sack 1001:2001\n< . 1:1(0) ack 2001");
    assert_eq!(script.connection.info().reord_seen, 1);
    let before = script.connection.info().cwnd;
    script.run("< . 1:1(0) ack 2001 sack 3001:5001");
    assert_eq!(script.connection.info().cwnd, before + 2000);
    script.run("< . 1:1(0) ack 5001");
    assert_eq!(script.connection.info().cwnd, before + 3000);

    // Where nothing was ever reordered, what comes after a hole waits until it is filled or lost.
    let mut script = far(10);
    send(&mut script, 10);
    script.run("+100\n< . 1:1(0) ack 1 sack 1001:2001");
    assert_eq!(script.connection.info().cwnd, 10_000);
}

#[test]
fn blocks_of_what_left_before_the_head_restart_the_timeout() {
    // As Linux (RFC 6298 5.3 speaks of ACKs of new data). The head went out again 100 ms after the rest: a SACK of that
    // tells that the path works.
    let mut script = far(10);
    send(&mut script, 8);
    script.run("+100\n< . 1:1(0) ack 1 sack 1001:4001\n> . 1:1001(1000) ack 1");
    assert_eq!(script.connection.info().rto, ms(300));
    script.run("+200\n< . 1:1(0) ack 1 sack 1001:8001");
    script.take_output();
    let rto = script.connection.info().rto.as_millis() as u64;
    script.run(&format!("+{}\n-", rto - 1));
    assert_eq!(script.connection.info().timeouts, 0);
    script.run("+2");
    assert!(script.take_output().0 > 0);
    assert_eq!(script.connection.info().timeouts, 1);
}

#[test]
fn acks_that_come_together_reduce_the_window_no_more_than_acks_one_by_one() {
    // RFC 5681 3.1: half of the flight, which the first ACKs of a batch have emptied by the time that the last tells
    // of the loss. RFC 6937 3.1: what they delivered and nothing replaced may be sent in recovery.
    const ACKS: [&str; 4] = [
        "ack 8001",
        "ack 8001 sack 9001:10001",
        "ack 8001 sack 9001:11001",
        "ack 8001 sack 9001:12001",
    ];
    let recovering = |together: bool| {
        let mut script = far(16);
        script.write(50_000);
        assert_eq!(script.take_output(), (16, 16_000));
        script.run("+100");
        let mut sent = 0;
        let acks = ACKS.map(|ack| format!("< . 1:1(0) {ack}"));
        if together {
            script.run_batch(&acks.join("\n"));
        } else {
            for ack in acks {
                script.run(&ack);
                sent += script.take_output().1;
            }
        }
        sent += script.take_output().1;
        let info = script.connection.info();
        assert_eq!(info.recoveries, 1);
        (info.ssthresh, sent)
    };
    // In slow start, the first ACK has widened the window to 24; one by one, that much is in flight by the third.
    let (ssthresh, sent) = recovering(false);
    assert_eq!((ssthresh, sent), (12_000, 19_000));
    // Together, what the first ten segments that arrived have made room for counts as well, and goes out up to the threshold.
    let (ssthresh, sent) = recovering(true);
    assert_eq!((ssthresh, sent), (9000, 5000));
}
