//! Segments in: RFC 9293 3.10.7.4, check by check, and the ACKs they call for.

use super::script::{Script, config};
use super::*;
use crate::error::SocketError;
use crate::stats::DropReason;
use crate::tcp::info::State;

#[test]
fn in_order_data_is_acknowledged_once_per_batch() {
    // RFC 9293 3.10.7.4 (MUST-58, MUST-59): process all that is queued, then acknowledge together.
    let mut script = Script::established();
    script.run(
        "< . 1:1001(1000) ack 1
         < . 1001:2001(1000) ack 1
         < P. 2001:3001(1000) ack 1
         > . 1:1(0) ack 3001",
    );
    assert_eq!(script.read_all(), 3000);
    assert_eq!(script.connection.info().bytes_received, 3000);
}

#[test]
fn small_segment_waits_for_the_delayed_ack() {
    // RFC 9293 3.8.6.3 (SHLD-18, MUST-40): less than half a second.
    let mut script = Script::established();
    script.run("< P. 1:101(100) ack 1\n-\n+39\n-\n+1\n> . 1:1(0) ack 101");
    assert_eq!(script.read_all(), 100);
}

#[test]
fn every_second_full_segment_is_acknowledged() {
    // RFC 9293 3.8.6.3 (SHLD-19), RFC 5681 4.2.
    let mut script = Script::established();
    script.run("< . 1:1001(1000) ack 1\n+40\n> . 1:1(0) ack 1001");
    script.run("< . 1001:2001(1000) ack 1\n-");
    script.run("< . 2001:3001(1000) ack 1\n> . 1:1(0) ack 3001");
    script.read_all();
}

#[test]
fn out_of_order_segments_get_an_ack_each() {
    // RFC 5681 4.2 and RFC 9293 3.8.6.3: duplicate ACKs at once, also within one batch.
    let mut script = Script::established();
    script.run(
        "< . 1001:2001(1000) ack 1
         < . 2001:3001(1000) ack 1
         < . 1:1001(1000) ack 1
         > . 1:1(0) ack 1
         > . 1:1(0) ack 1
         > . 1:1(0) ack 3001",
    );
    assert_eq!(script.read_all(), 3000);
}

#[test]
fn out_of_order_super_segment_gives_as_many_duplicate_acks_as_it_stands_for() {
    // Without SACK the peer counts duplicates.
    let mut script = Script::established();
    script.run(
        "< . 1001:4001(3000) ack 1 seg 1000
         > . 1:1(0) ack 1
         > . 1:1(0) ack 1
         > . 1:1(0) ack 1",
    );
}

#[test]
fn out_of_order_ranges_are_reported_newest_first() {
    // RFC 2018 4.
    let mut script = Script::established_with(config(), "mss 1000 sackok");
    script.run(
        "< . 1001:2001(1000) ack 1
         > . 1:1(0) ack 1 sack 1001:2001
         < . 3001:4001(1000) ack 1
         > . 1:1(0) ack 1 sack 3001:4001,1001:2001
         < . 4001:5001(1000) ack 1
         > . 1:1(0) ack 1 sack 3001:5001,1001:2001
         < . 1:1001(1000) ack 1
         > . 1:1(0) ack 2001 sack 3001:5001
         < . 2001:3001(1000) ack 1
         > . 1:1(0) ack 5001",
    );
    assert_eq!(script.read_all(), 5000);
}

#[test]
fn duplicate_data_is_acknowledged_at_once_and_reported() {
    // RFC 9293 3.10.7.4, first check; RFC 2883 4.
    let mut script = Script::established_with(config(), "mss 1000 sackok");
    script.run(
        "< . 1:1001(1000) ack 1
         +40
         > . 1:1(0) ack 1001
         < . 1:1001(1000) ack 1
         > . 1:1(0) ack 1001 sack 1:1001
         < . 501:1501(1000) ack 1
         > . 1:1(0) ack 1501 sack 501:1001",
    );
    assert_eq!(script.last, Ok(()));
    assert_eq!(script.read_all(), 1500);
}

#[test]
fn overlap_is_trimmed_on_both_sides() {
    // RFC 9293 3.10.7.4: segments are tailored to the window.
    let mut config = config();
    config.receive_buffer = 3000;
    let mut script = Script::established_with(config, "mss 1000");
    script.run("< . 1:2001(2000) ack 1 seg 1000\n> . 1:1(0) ack 2001 win 1000");
    script.run("< . 1501:4001(2500) ack 1\n> . 1:1(0) ack 3001 win 0");
    assert_eq!(script.read_all(), 3000);
    script.run("> . 1:1(0) ack 3001 win 3000");
}

#[test]
fn segment_outside_the_window_is_answered_and_dropped() {
    // RFC 9293 3.10.7.4, first check.
    let mut script = Script::established();
    for numbers in ["-5000:-4000(1000)", "9000001:9001001(1000)"] {
        script.run(&format!("< . {numbers} ack 1\n> . 1:1(0) ack 1"));
        assert_eq!(script.last, Err(DropReason::OutOfWindow));
    }
}

#[test]
fn zero_window_still_takes_acks_and_resets() {
    // RFC 9293 3.10.7.4 (MUST-66).
    let mut config = config();
    config.receive_buffer = 1000;
    let mut script = Script::established_with(config, "mss 1000");
    script.write(10);
    script.run("> P. 1:11(10) ack 1");
    script.run("< . 1:1001(1000) ack 1 seg 500\n> . 11:11(0) ack 1001 win 0");
    script.run("< . 1001:1101(100) ack 11\n> . 11:11(0) ack 1001 win 0");
    assert_eq!(script.connection.info().bytes_acked, 10);
    script.run("< R 1001:1001(0)");
    assert_eq!(script.state(), State::Closed);
    // What came before the reset is still readable.
    assert_eq!(script.connection.read(&mut [0; 2000]), Ok(1000));
    assert_eq!(
        script.connection.take_error(),
        Some(SocketError::ConnectionReset)
    );
}

#[test]
fn reset_counts_only_at_the_exact_number() {
    // RFC 9293 3.10.7.4, second check; RFC 5961 3.2.
    let mut script = Script::established();
    script.run("< R 2:2(0)\n> . 1:1(0) ack 1");
    script.run("< R. 100:100(0) ack 1\n> . 1:1(0) ack 1");
    script.run("< R 9000001:9000001(0)\n-\n< R 0:0(0)\n-");
    assert_eq!(script.state(), State::Established);
    script.run("< R 1:1(0)\n-");
    assert_eq!(script.state(), State::Closed);
}

#[test]
fn syn_gets_a_challenge_ack_and_changes_nothing() {
    // RFC 9293 3.10.7.4, fourth check; RFC 5961 4.2.
    let mut script = Script::established();
    for line in [
        "< S 1:1(0)",
        "< S. 5:5(0) ack 1",
        "< S 0:0(0)",
        "< S 9000000:9000000(0)",
    ] {
        script.run(&format!("{line}\n> . 1:1(0) ack 1"));
    }
    assert_eq!(script.state(), State::Established);
}

#[test]
fn challenge_acks_are_limited() {
    // RFC 5961 7: ten a second here.
    let mut script = Script::established();
    for _ in 0..10 {
        script.run("< R 2:2(0)\n> . 1:1(0) ack 1");
    }
    script.run("< R 2:2(0)\n-\n+1000\n< R 2:2(0)\n> . 1:1(0) ack 1");
}

#[test]
fn segment_without_ack_is_dropped() {
    // RFC 9293 3.10.7.4, fifth check: if the ACK bit is off, drop.
    let mut script = Script::established();
    script.run("< P 1:11(10)\n-");
    assert_eq!(script.last, Err(DropReason::Unacceptable));
}

#[test]
fn ack_of_data_never_sent_or_long_gone_is_challenged() {
    // RFC 9293 3.10.7.4; RFC 5961 5.2: SND.UNA - MAX.SND.WND =< SEG.ACK =< SND.NXT.
    let mut script = Script::established();
    script.run("< P. 1:11(10) ack 2\n> . 1:1(0) ack 1");
    assert_eq!(script.last, Err(DropReason::BadAck));
    script.run("< P. 1:11(10) ack -50000\n> . 1:1(0) ack 1");
    assert_eq!(script.last, Err(DropReason::BadAck));
    // A merely old ACK is ignored, its data is not.
    script.run("< P. 1:11(10) ack -49999\n+40\n> . 1:1(0) ack 11");
    assert_eq!(script.read_all(), 10);
}

#[test]
fn old_timestamp_is_refused_and_answered() {
    // RFC 7323 5.3 (PAWS).
    let mut script = Script::established_with(config(), "mss 1000 ts 500 1");
    script.run("< P. 1:11(10) ack 1 ts 499 10077\n> . 1:1(0) ack 1");
    assert_eq!(script.last, Err(DropReason::OutOfWindow));
    script.run("< R 1:1(0) ts 400 0");
    assert_eq!(
        script.state(),
        State::Closed,
        "a reset is exempt (RFC 7323 5.2)"
    );
}

#[test]
fn segment_without_timestamps_is_dropped_once_they_are_in_use() {
    // RFC 7323 3.2.
    let mut script = Script::established_with(config(), "mss 1000 ts 500 1");
    script.run("< P. 1:11(10) ack 1\n-");
    assert_eq!(script.last, Err(DropReason::Unacceptable));
}

#[test]
fn recent_timestamp_follows_the_left_edge_only() {
    // RFC 7323 4.3: SEG.SEQ =< Last.ACK.sent.
    let mut script = Script::established_with(config(), "mss 1000 ts 500 1");
    script.run("< P. 1001:1011(10) ack 1 ts 520 10077\n> . 1:1(0) ack 1 ts 10077 500");
    script.run("< P. 1:1001(1000) ack 1 ts 510 10077\n> . 1:1(0) ack 1011 ts 10077 510");
    script.read_all();
}

#[test]
fn urgent_pointer_is_told_and_the_data_stays_in_the_stream() {
    // RFC 9293 3.8.5 (MUST-30, MUST-31, MUST-32, MUST-33), RFC 6093.
    let mut script = Script::established();
    script.run("< PU. 1:11(10) ack 1 urg 15\n+40\n> . 1:1(0) ack 11");
    let told = Readiness::PRIORITY;
    assert!(script.connection.take_readiness().contains(told));
    assert_eq!(script.connection.urgent_ahead(), Some(15));
    assert_eq!(script.read_all(), 10);
    assert_eq!(script.connection.urgent_ahead(), Some(5));
    script.run("< PU. 11:21(10) ack 1 urg 5\n+40\n> . 1:1(0) ack 21");
    assert!(
        !script.connection.take_readiness().contains(told),
        "said already"
    );
    assert_eq!(script.read_all(), 10);
    assert_eq!(script.connection.urgent_ahead(), None);
    script.run("< PU. 21:31(10) ack 1 urg 65000\n+40\n> . 1:1(0) ack 31");
    assert!(script.connection.take_readiness().contains(told));
    script.read_all();
}

#[test]
fn urgent_data_is_marked_until_it_is_acknowledged() {
    // RFC 9293 3.8.5 (MUST-62): the pointer names the octet behind the urgent data.
    let mut script = Script::established();
    script.limits = limits(65_000);
    script.connection.set_nodelay(true);
    assert_eq!(script.connection.write_urgent(&[b'u'; 1500]), Ok(1500));
    script.write(100);
    script.run("> U. 1:1001(1000) ack 1 urg 1500\n> PU. 1001:1601(600) ack 1 urg 500");
    script.run("< . 1:1(0) ack 1601");
    script.write(10);
    script.run("> P. 1601:1611(10) ack 1");
}

#[test]
fn no_acknowledgment_follows_a_reset() {
    // RFC 9293 3.10.7.4, second check: all queues are flushed.
    let mut script = Script::established();
    script.run("< . 11:21(10) ack 1\n< . 1:11(10) ack 1\n< R 21:21(0)\n-");
    assert!(matches!(script.connection.phase(), Phase::Closed));
    script.read_all();
}

#[test]
fn fin_is_acknowledged_at_once_and_ends_the_stream_behind_the_data() {
    // RFC 9293 3.10.7.4, eighth.
    let mut script = Script::established();
    script.run("< FP. 1:11(10) ack 1\n> . 1:1(0) ack 12");
    assert_eq!(script.state(), State::CloseWait);
    let readiness = script.connection.take_readiness();
    assert!(readiness.contains(Readiness::READABLE | Readiness::READ_CLOSED));
    assert_eq!(script.read_all(), 10);
    assert_eq!(script.connection.read(&mut [0; 4]), Ok(0));
    script.run("< F. 11:11(0) ack 1\n> . 1:1(0) ack 12"); // its ACK was lost
    script.write(5);
    script.run("> P. 1:6(5) ack 12\n< . 12:12(0) ack 6");
}

#[test]
fn fin_before_a_hole_waits_for_the_data() {
    let mut script = Script::established();
    script.run("< F. 11:21(10) ack 1\n> . 1:1(0) ack 1");
    assert_eq!(script.state(), State::Established);
    script.run("< . 1:11(10) ack 1\n> . 1:1(0) ack 22");
    assert_eq!(script.state(), State::CloseWait);
    assert_eq!(script.read_all(), 20);
}

#[test]
fn reader_that_drains_opens_the_window_with_an_ack_of_its_own() {
    // RFC 9293 3.8.6.2.2 (MUST-39): in steps of at least a segment or half the buffer.
    let mut config = config();
    config.receive_buffer = 4000;
    let mut script = Script::established_with(config, "mss 1000");
    script.run("< . 1:4001(4000) ack 1 seg 1000\n> . 1:1(0) ack 4001 win 0");
    assert_eq!(script.connection.read(&mut [0; 100]), Ok(100));
    script.run("-"); // a hundred octets are not worth an ACK
    assert_eq!(script.connection.read(&mut [0; 1900]), Ok(1900));
    script.run("> . 1:1(0) ack 4001 win 2000");
    script.read_all();
    script.run("> . 1:1(0) ack 4001 win 4000");
}

#[test]
fn buffer_smaller_than_a_unit_of_the_window_opens_again() {
    // RFC 7323 2.2: the shift is settled by the SYNs, by the largest buffer there may ever be.
    let mut config = config();
    config.receive_buffer = 1;
    let mut script = Script::established_with(config, "mss 1000 wscale 0");
    assert_eq!(script.connection.info().window_scale, Some((10, 0)));
    script.connection.set_receive_buffer(1);
    script.run("< . 1:1001(1000) ack 1\n< . 1001:1025(24) ack 1\n> . 1:1(0) ack 1025 win 0");
    assert_eq!(script.read_all(), 1024);
    script.run("> . 1:1(0) ack 1025 win 1");
}

#[test]
fn peek_leaves_data_and_read_chunk_takes_it() {
    let mut script = Script::established();
    script.run("< P. 1:11(10) ack 1\n+40\n> . 1:1(0) ack 11");
    let mut buffer = [0; 4];
    assert_eq!(script.connection.peek(&mut buffer), Ok(4));
    assert_eq!(script.connection.read_chunk(100).unwrap().len(), 10);
    assert_eq!(
        script.connection.peek(&mut buffer),
        Err(SocketError::WouldBlock)
    );
}

#[test]
fn fin_behind_a_hole_is_reported_by_sack() {
    // RFC 2018 3: blocks are of sequence space, in which a FIN takes one number (RFC 9293 3.4).
    let mut script = Script::established_with(config(), "mss 1000 sackok");
    script.run(
        "< F. 2001:2001(0) ack 1
         > . 1:1(0) ack 1 sack 2001:2002
         < . 1001:2001(1000) ack 1
         > . 1:1(0) ack 1 sack 1001:2002
         < . 1:1001(1000) ack 1
         > . 1:1(0) ack 2002",
    );
    assert_eq!(script.read_all(), 2000);
    script.connection.shutdown_write().unwrap();
    script.run("> F. 1:1(0) ack 2002\n< . 2002:2002(0) ack 2");
}
