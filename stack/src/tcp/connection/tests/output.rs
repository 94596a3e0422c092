//! Segments out: segmentation, Nagle, windows, loss recovery.

use std::io::IoSlice;

use super::script::{Script, config};
use super::*;
use crate::stats::DropReason;
use crate::transport::IcmpError;

#[test]
fn data_goes_out_in_segments_of_the_mss_with_push_on_the_last() {
    // RFC 9293 3.7.1 (MUST-16), 3.9.1 (MUST-61). RFC 9293 SHLD-27, SHLD-28.
    let mut script = Script::established();
    script.write(2500);
    script.run("> . 1:1001(1000) ack 1\n> . 1001:2001(1000) ack 1\n> P. 2001:2501(500) ack 1");
}

#[test]
fn initial_window_is_ten_segments_and_grows_in_slow_start() {
    // RFC 6928, RFC 5681 3.1.
    let mut script = Script::established();
    script.write(100_000);
    assert_eq!(script.take_output(), (10, 10_000));
    script.run("< . 1:1(0) ack 2001");
    assert_eq!(
        script.take_output(),
        (4, 4000),
        "two acknowledged, two more"
    );
}

#[test]
fn super_packet_is_one_transmit_with_its_segment_size() {
    let mut script = Script::established();
    script.limits = limits(65_000);
    script.write(9500);
    script.run("> P. 1:9501(9500) ack 1 seg 1000");
}

#[test]
fn super_packet_leaves_a_short_rest_to_nagle() {
    let mut script = Script::established();
    script.limits = limits(65_000);
    script.write(500);
    script.run("> P. 1:501(500) ack 1");
    script.write(2100);
    script
        .run("> . 501:2501(2000) ack 1 seg 1000\n-\n< . 1:1(0) ack 501\n> P. 2501:2601(100) ack 1");
}

#[test]
fn a_grown_send_buffer_leaves_no_runt_behind_its_super_packets() {
    // A writer that fills its buffer each time, without Nagle: whatever the segment size, all go out whole.
    for mss in [536, 1000, 1428, 1448, 8948] {
        let mut script = Script::established_with(config(), &format!("mss {mss} wscale 14"));
        script.limits = limits(65_535);
        script.connection.set_nodelay(true);
        script.connection.congestion.set_cwnd(1 << 20);
        script.run("< . 1:1(0) ack 1 win 65535");
        let mut written = 0;
        while let Ok(len) = script.connection.write(&[0; 64 << 10]) {
            written += len;
        }
        let segment = script.connection.info().mss;
        let burst = 65_455 / segment * segment;
        assert_eq!(written, (512 << 10) / burst * burst, "mss {mss}");
        assert_eq!(
            script.take_output(),
            (written / burst, written),
            "mss {mss}"
        );
    }
}

#[test]
fn what_is_not_copied_may_be_four_times_as_much() {
    let mut script = Script::established_with(config(), "mss 1000 wscale 14");
    script.connection.congestion.set_cwnd(16 << 20);
    let fill = |script: &mut Script| {
        let mut written = 0;
        let mut data = bytes::Bytes::from(vec![0; 16 << 20]);
        while let Ok(len) = script.connection.write_bytes(&mut data) {
            written += len;
        }
        written
    };
    assert_eq!(fill(&mut script), (2 << 20) / 65_000 * 65_000);
    // Small copies in between, such as headers, change nothing; large ones do.
    let room = |script: &Script| script.connection.info().send_buffer;
    assert_eq!(
        script.connection.write(&[0; 10]),
        Err(SocketError::WouldBlock)
    );
    assert_eq!(room(&script), (2 << 20) / 65_000 * 65_000);
    assert_eq!(
        script.connection.write(&[0; 4096]),
        Err(SocketError::WouldBlock)
    );
    assert_eq!(room(&script), 8 * 65_000);
    assert_eq!(fill(&mut script), 0);
    assert_eq!(room(&script), (2 << 20) / 65_000 * 65_000);
    let slices = [IoSlice::new(&[0; 600]), IoSlice::new(&[0; 600])];
    assert_eq!(
        script.connection.write_vectored(&slices),
        Err(SocketError::WouldBlock)
    );
    assert_eq!(room(&script), 8 * 65_000);
    script.take_output();
}

#[test]
fn nagle_holds_small_segments_until_the_last_is_acknowledged() {
    // RFC 9293 3.7.4 (MUST-17: it can be turned off). RFC 9293 SHLD-7, MAY-16.
    let mut script = Script::established();
    script.write(10);
    script.run("> P. 1:11(10) ack 1");
    script.write(10);
    script.write(10);
    script.run("-\n< . 1:1(0) ack 11\n> P. 11:31(20) ack 1");
    script.connection.set_nodelay(true);
    script.write(10);
    script.run("> P. 31:41(10) ack 1");
    script.write(10);
    script.run("> P. 41:51(10) ack 1");
}

#[test]
fn turning_nagle_off_flushes_what_it_held() {
    let mut script = Script::established();
    script.write(10);
    script.run("> P. 1:11(10) ack 1");
    script.write(10);
    script.run("-");
    script.connection.set_nodelay(true);
    script.run("> P. 11:21(10) ack 1");
}

#[test]
fn fin_rides_on_the_last_data() {
    let mut script = Script::established();
    script.write(1000);
    script.connection.shutdown_write().unwrap();
    script.run("> FP. 1:1001(1000) ack 1\n< . 1:1(0) ack 1002");
}

#[test]
fn fin_is_not_held_by_nagle() {
    let mut script = Script::established();
    script.write(10);
    script.run("> P. 1:11(10) ack 1");
    script.write(10);
    script.connection.shutdown_write().unwrap();
    script.run("> FP. 11:21(10) ack 1");
}

#[test]
fn peers_window_is_respected() {
    // RFC 9293 3.8.6.
    let mut script = Script::established();
    script.run("< . 1:1(0) ack 1 win 2500");
    script.write(5000);
    script.run("> . 1:1001(1000) ack 1\n> . 1001:2001(1000) ack 1\n-");
    script.run("< . 1:1(0) ack 2001 win 2500");
    script.run("> . 2001:3001(1000) ack 1\n> . 3001:4001(1000) ack 1\n-");
}

#[test]
fn shrunken_window_is_survived() {
    // RFC 9293 3.8.6 (MUST-34): no new data, nothing is lost, and the old data counts when it is acknowledged.
    // RFC 9293 SHLD-15.
    let mut script = Script::established();
    script.write(3000);
    assert_eq!(script.take_output(), (3, 3000));
    script.run("< . 1:1(0) ack 1001 win 500\n-");
    script.write(1000);
    script.run("-\n< . 1:1(0) ack 3001 win 5000\n> P. 3001:4001(1000) ack 1");
}

#[test]
fn three_duplicate_acks_retransmit_without_a_timeout() {
    // RFC 5681 3.2, RFC 3042: limited transmit on the first two.
    let mut script = Script::established();
    script.write(20_000);
    assert_eq!(script.take_output(), (10, 10_000));
    script.run(
        "< . 1:1(0) ack 1
         > . 10001:11001(1000) ack 1
         < . 1:1(0) ack 1
         > . 11001:12001(1000) ack 1
         < . 1:1(0) ack 1
         > . 1:1001(1000) ack 1",
    );
    let info = script.connection.info();
    assert_eq!(
        (info.recoveries, info.timeouts, info.retransmits),
        (1, 0, 1)
    );
}

#[test]
fn window_update_or_data_is_no_duplicate_ack() {
    // RFC 5681 2: (b) no data, (e) the same window.
    let mut script = Script::established();
    script.write(5000);
    assert_eq!(script.take_output(), (5, 5000));
    script.run(
        "< . 1:1(0) ack 1 win 50001\n< . 1:1(0) ack 1 win 50002\n< . 1:1(0) ack 1 win 50003\n-",
    );
    script.run(
        "< P. 1:2(1) ack 1\n< P. 2:3(1) ack 1\n< P. 3:4(1) ack 1\n+40\n> . 5001:5001(0) ack 4",
    );
    assert_eq!(script.connection.info().recoveries, 0);
}

#[test]
fn partial_ack_retransmits_the_next_hole() {
    // RFC 6582 3.2.
    let mut script = Script::established();
    script.write(10_000);
    assert_eq!(script.take_output(), (10, 10_000));
    script.run(
        "< . 1:1(0) ack 1
         < . 1:1(0) ack 1
         < . 1:1(0) ack 1
         > . 1:1001(1000) ack 1
         < . 1:1(0) ack 3001
         > . 3001:4001(1000) ack 1
         < . 1:1(0) ack 10001
         -",
    );
    assert_eq!(script.connection.info().retransmits, 2);
}

#[test]
fn sacked_holes_are_retransmitted_in_order_and_nothing_else() {
    // RFC 6675 5, NextSeg rule 1.
    let mut script = Script::established_with(config(), "mss 1000 sackok");
    script.write(10_000);
    assert_eq!(script.take_output(), (10, 10_000));
    script.run(
        "< . 1:1(0) ack 1 sack 1001:2001
         < . 1:1(0) ack 1 sack 3001:5001,1001:2001
         < . 1:1(0) ack 1 sack 3001:10001,1001:2001
         > . 1:1001(1000) ack 1
         > . 2001:3001(1000) ack 1
         < . 1:1(0) ack 10001
         -",
    );
    assert_eq!(script.connection.info().retransmits, 2);
    assert!(!script.connection.owns_buffers());
}

#[test]
fn lost_part_of_a_super_packet_goes_out_as_one_retransmission() {
    let mut script = Script::established_with(config(), "mss 1000 sackok");
    script.limits = limits(65_000);
    script.write(10_000);
    script.run("> P. 1:10001(10000) ack 1 seg 1000");
    script.run("< . 1:1(0) ack 1001 sack 4001:10001\n> . 1001:4001(3000) ack 1 seg 1000");
    script.run("< . 1:1(0) ack 10001");
}

#[test]
fn smaller_path_cuts_retransmissions_anew_without_touching_the_window() {
    // RFC 1191 6.4, RFC 8201 5.4; RFC 5927 7 (the number must be in flight).
    let mut script = Script::established();
    script.write(2000);
    assert_eq!(script.take_output(), (2, 2000));
    let cwnd = script.connection.info().cwnd;
    let quoted = script.connection.window.snd_una;
    let error = IcmpError::PacketTooBig { mtu: 540 };
    assert_eq!(
        script
            .connection
            .handle_icmp(script.now, error, quoted + 5000),
        Err(DropReason::BadIcmp)
    );
    script.run("-");
    assert_eq!(
        script.connection.handle_icmp(script.now, error, quoted),
        Ok(())
    );
    script.limits.path_mtu = 540;
    script.run("> . 1:501(500) ack 1\n> . 501:1001(500) ack 1\n> . 1001:1501(500) ack 1\n> P. 1501:2001(500) ack 1");
    assert_eq!(script.connection.info().cwnd, cwnd);
}

#[test]
fn window_is_reduced_after_silence() {
    // RFC 5681 4.1: an idle connection has lost its ACK clock.
    let mut script = Script::established();
    script.write(40_000);
    for ack in [10_001, 20_001, 30_001, 40_001] {
        script.take_output();
        script.run(&format!("< . 1:1(0) ack {ack}"));
    }
    let grown = script.connection.info().cwnd;
    assert!(grown > 20_000, "{grown}");
    script.run("+60000");
    script.write(40_000);
    assert_eq!(script.take_output(), (10, 10_000));
}

#[test]
fn data_segments_carry_the_acknowledgment() {
    // RFC 9293 3.8.6.3: piggybacked, so no pure ACK follows.
    let mut script = Script::established();
    script.run("< P. 1:101(100) ack 1");
    script.write(10);
    script.run("> P. 1:11(10) ack 101\n+100\n-\n< . 101:101(0) ack 11");
    script.read_all();
}

#[test]
fn zero_copy_and_vectored_writes_arrive_in_order() {
    let mut script = Script::established();
    let mut bytes = bytes::Bytes::from(vec![b'y'; 1500]);
    assert_eq!(script.connection.write_bytes(&mut bytes), Ok(1500));
    let slices = [
        std::io::IoSlice::new(&[1; 300]),
        std::io::IoSlice::new(&[2; 200]),
    ];
    assert_eq!(script.connection.write_vectored(&slices), Ok(500));
    script.run("> . 1:1001(1000) ack 1\n> P. 1001:2001(1000) ack 1");
}

#[test]
fn tiny_mss_of_the_peer_is_bounded() {
    let mut script = Script::established_with(config(), "mss 1");
    script.write(48);
    script.run("> P. 1:49(48) ack 1");
}

#[test]
fn timestamps_never_go_back_when_threads_read_the_clock_in_another_order() {
    // RFC 7323 5.3: PAWS drops a segment older than what has been received; the millisecond is over meanwhile.
    let mut script = Script::established_with(config(), "mss 1012 ts 1 10077");
    let limits = limits(0);
    let mut sent = Vec::new();
    for (millis, len) in [(20_000, 1000), (19_999, 1000), (20_001, 1000)] {
        let now = Instant::from_millis(millis);
        script.write(len);
        let transmit = script.connection.poll_transmit(now, &limits).unwrap();
        sent.push(transmit.header.options.timestamps.unwrap().value);
    }
    assert_eq!(sent, [20_077, 20_077, 20_078]);
}

#[test]
fn window_probe_of_a_full_device_is_forgotten_when_data_goes_out() {
    // The persist timer runs while a full device holds data back, so that the connection can be given up; the data
    // itself then asks the peer whatever a probe would.
    let mut script = Script::established();
    script.write(1000);
    script.connection.handle_held_back(script.now);
    let deadline = script.connection.poll_timeout().unwrap();
    script.now = deadline;
    script.connection.handle_timeout(deadline);
    script.write(50_000);
    let (segments, octets) = script.take_output();
    assert_eq!((segments, octets), (10, 10_000), "no probe among them");
}

#[test]
fn loss_probe_waits_for_a_device_that_is_full() {
    // As Linux: what has not left this host cannot be overdue.
    let mut script = Script::established_with(config(), "mss 1000 sackok");
    script.write(3000);
    assert_eq!(script.take_output(), (3, 3000));
    let deadline = script.connection.poll_timeout().unwrap();
    script.now = deadline;
    script.connection.handle_timeout(deadline);
    script.connection.handle_held_back(deadline);
    script.run("-");
    assert_eq!(script.connection.info().tail_loss_probes, 0);
    assert!(script.connection.poll_timeout().is_some());
}
