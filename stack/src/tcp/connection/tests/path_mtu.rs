//! Segment sizes: probes of the path's MTU, black holes, and what ICMP says of sizes.

use super::script::{Script, config};
use super::*;
use crate::tcp::config::MtuProbing;
use crate::tcp::info::CongestionState;
use crate::transport::IcmpError;

/// An established connection over a path of 100 ms that probes from the beginning, with segments of 1024 octets.
fn probing(options: &str) -> Script {
    script_with(MtuProbing::Always, options)
}

fn script_with(mtu_probing: MtuProbing, options: &str) -> Script {
    let config = Config {
        mtu_probing,
        initial_window: 20,
        ..config()
    };
    script_of(config, options)
}

fn script_of(config: Config, options: &str) -> Script {
    let mut script = Script::opening(config);
    script.run("> S 0:0(0)\n+100");
    script.run(&format!("< S. 0:0(0) ack 1 win 50000 mss 1460 {options}"));
    script.run("> . 1:1(0) ack 1");
    script
}

/// The sizes of all segments sent, in order; super-packets are cut.
fn sizes(script: &mut Script) -> Vec<usize> {
    let mut sizes = Vec::new();
    while let Some(sent) = script
        .connection
        .poll_transmit(script.now, &script.limits.clone())
    {
        let len: usize = sent.payload.iter().map(bytes::Bytes::len).sum();
        let size = sent.segment_size.map_or(len, usize::from);
        sizes.extend((0..len).step_by(size.max(1)).map(|at| size.min(len - at)));
    }
    sizes
}

#[test]
fn probe_is_one_segment_in_front_of_smaller_ones() {
    // RFC 4821 7.4, 7.5: enough follows for its loss to be noticed at once.
    for super_packets in [false, true] {
        let mut script = probing("sackok");
        script.limits = limits(if super_packets { 60_000 } else { 0 });
        script.write(10_000);
        assert_eq!(script.connection.info().path_mtu_search, Some((1064, 1500)));
        let sent = sizes(&mut script);
        assert_eq!(
            sent[..4],
            [1242, 1024, 1024, 1024],
            "super: {super_packets}"
        );
        assert!(sent[1..].iter().all(|size| *size <= 1024), "{sent:?}");
        assert_eq!(script.connection.info().mtu_probes, 1);
    }
}

#[test]
fn probe_waits_for_enough_data_window_and_peace() {
    // RFC 4821 7.4; Linux: tcp_mtu_probe.
    let mut short = probing("sackok");
    short.write(1242 + 4 * 1024 - 1);
    assert_eq!(sizes(&mut short)[0], 1024, "too little would follow");

    let mut narrow = Script::opening(Config {
        mtu_probing: MtuProbing::Always,
        initial_window: 10,
        ..config()
    });
    narrow.run("> S 0:0(0)\n< S. 0:0(0) ack 1 win 60000 mss 1460 sackok\n> . 1:1(0) ack 1");
    narrow.write(30_000);
    assert!(sizes(&mut narrow).iter().all(|size| *size == 1024));

    let mut closed = probing("sackok");
    closed.run("< . 1:1(0) ack 1 win 5000");
    closed.write(30_000);
    assert!(sizes(&mut closed).iter().all(|size| *size == 1024));

    let mut disturbed = probing("sackok");
    disturbed.write(3 * 1024);
    sizes(&mut disturbed);
    disturbed.run("+100\n< . 1:1(0) ack 1 sack 1025:2049");
    disturbed.write(20_000);
    assert!(!sizes(&mut disturbed).contains(&1242));
}

#[test]
fn acknowledged_probe_raises_the_segment_size_and_the_next_is_larger() {
    // RFC 4821 7.6.1.
    let mut script = probing("sackok");
    script.write(1242 + 5 * 1024);
    assert_eq!(sizes(&mut script).len(), 6);
    let cwnd = script.connection.info().cwnd;
    script.run("+100\n< . 1:1(0) ack 1243");
    let info = script.connection.info();
    assert_eq!(info.path_mtu_search, Some((1282, 1500)));
    assert_eq!((info.mss, info.path_mtu), (1242, 1282));
    assert!(info.cwnd >= cwnd);
    script.run("< . 1:1(0) ack 6363");
    script.write(20_000);
    assert_eq!(sizes(&mut script)[..3], [1351, 1242, 1242]);
}

/// Sends a probe and `others` segments of 1024 behind it.
fn send_probe_and(script: &mut Script, others: usize) {
    script.write(1242 + others * 1024);
    assert_eq!(script.take_output(), (1 + others, 1242 + others * 1024));
}

#[test]
fn lost_probe_goes_out_again_in_smaller_segments_and_reduces_nothing() {
    // RFC 4821 7.6.2: SHOULD NOT be interpreted as congestion signal.
    for options in ["sackok", ""] {
        let mut script = probing(options);
        send_probe_and(&mut script, 8);
        let before = script.connection.info();
        script.run("+100");
        if options.is_empty() {
            script.run("< . 1:1(0) ack 1\n< . 1:1(0) ack 1\n< . 1:1(0) ack 1");
        } else {
            script.run("< . 1:1(0) ack 1 sack 1243:4315");
        }
        script.run("> . 1:1025(1024) ack 1\n> . 1025:1243(218) ack 1\n-");
        let lost = script.connection.info();
        assert_eq!((lost.cwnd, lost.ssthresh), (before.cwnd, before.ssthresh));
        assert_eq!((lost.recoveries, lost.timeouts), (0, 0), "{options}");
        assert_ne!(lost.congestion_state, CongestionState::Recovery);
        assert_eq!(lost.path_mtu_search, Some((1064, 1281)));
        if options.is_empty() {
            script.run("< . 1:1(0) ack 1\n-");
        } else {
            script.run("< . 1:1(0) ack 1 sack 1243:9435\n-");
        }
        script.run("+100\n< . 1:1(0) ack 9435");
        let after = script.connection.info();
        assert!(after.cwnd >= before.cwnd, "{after:?}");
        assert_eq!((after.recoveries, after.lost, after.unacked), (0, 0, 0));
        // RFC 4821 7.6.2: not before congestion would have come again, a round trip for each segment of the window.
        script.write(20_000);
        assert!(!sizes(&mut script).contains(&1132), "{options}");
        let wait = ms(100) * (before.cwnd / 1024) as u32;
        script.now += wait;
        script.run("< . 1:1(0) ack 29435");
        script.write(20_000);
        assert_eq!(sizes(&mut script)[0], 1132, "{options}");
    }
}

#[test]
fn probe_lost_with_other_segments_is_congestion_and_says_nothing() {
    // RFC 4821 7.6.4.
    let mut script = probing("sackok");
    send_probe_and(&mut script, 10);
    let before = script.connection.info();
    script.run("+100\n< . 1:1(0) ack 1 sack 2267:6363");
    let info = script.connection.info();
    assert_eq!(info.recoveries, 1);
    assert!(info.ssthresh < before.cwnd);
    assert_eq!(info.path_mtu_search, Some((1064, 1500)));
    script.take_output();
}

#[test]
fn loss_found_after_that_of_a_probe_is_congestion() {
    // RFC 4821 7.6.2: one loss alone goes unpunished.
    let mut script = probing("sackok");
    send_probe_and(&mut script, 12);
    let before = script.connection.info();
    script.run("+100\n< . 1:1(0) ack 1 sack 1243:4315");
    script.take_output();
    assert_eq!(script.connection.info().recoveries, 0);
    // 4315:5339 is missing, too.
    script.run("< . 1:1(0) ack 1 sack 1243:4315,5339:9435");
    let info = script.connection.info();
    assert_eq!(info.recoveries, 1);
    assert!(info.ssthresh < before.cwnd);
    script.take_output();
}

#[test]
fn probe_before_a_timeout_is_not_repeated_soon() {
    // RFC 4821 7.6.3.
    let mut script = probing("");
    send_probe_and(&mut script, 5);
    script.run("+1000");
    assert_eq!(script.connection.info().timeouts, 2);
    assert_eq!(script.connection.info().path_mtu_search, Some((1064, 1500)));
    script.take_output();
    script.run("< . 1:1(0) ack 6363");
    script.write(30_000);
    assert!(sizes(&mut script).iter().all(|size| *size == 1024));
}

#[test]
fn segments_that_never_arrive_become_smaller() {
    // RFC 4821 7.7, at R1 (three retransmissions unanswered): the base, then half of it with each timeout.
    let mut script = script_with(MtuProbing::AfterBlackHole, "");
    script.write(5 * 1460);
    assert_eq!(script.take_output(), (5, 7300));
    script.run("+2200");
    let info = script.connection.info();
    assert_eq!((info.timeouts, info.mss, info.black_holes), (3, 1460, 0));
    assert_eq!(
        script.take_output(),
        (3, 3 * 1460),
        "the first, three times"
    );
    script.run("+2400\n> . 1:1025(1024) ack 1\n-");
    let info = script.connection.info();
    assert_eq!((info.timeouts, info.mss, info.black_holes), (4, 1024, 1));
    assert_eq!(info.path_mtu_search, Some((1064, 1500)));
    script.run("+4800\n> . 1:493(492) ack 1\n-");
    // What goes out again is cut to what passes.
    script.run_batch("< . 1:1(0) ack 493");
    let again = sizes(&mut script);
    assert!(again.iter().all(|size| *size <= 492), "{again:?}");
    assert_eq!(script.connection.info().mss, 492);
}

#[test]
fn black_hole_is_left_behind_when_probes_reach_the_limit() {
    // RFC 4821 7.3, 7.6.1: an outage is not remembered as a narrow path.
    let mut script = script_with(MtuProbing::AfterBlackHole, "");
    script.write(1460);
    script.run("> P. 1:1461(1460) ack 1\n+4800");
    script.take_output();
    assert_eq!(script.connection.info().mss, 1024);
    let mut acknowledged = 1461;
    let mut rounds = 0;
    while script.connection.info().path_mtu_search.is_some() {
        script.now += ms(100);
        script.run_batch(&format!("< . 1:1(0) ack {acknowledged}"));
        script.write(40_000 - script.connection.info().send_buffered);
        acknowledged += sizes(&mut script).iter().sum::<usize>();
        rounds += 1;
        assert!(rounds < 100, "{:?}", script.connection.info());
    }
    let info = script.connection.info();
    assert_eq!((info.mss, info.path_mtu), (1460, 1500));
    assert!((5..=8).contains(&info.mtu_probes), "{}", info.mtu_probes);
}

#[test]
fn delay_that_looked_like_a_black_hole_leaves_no_trace() {
    // RFC 3522: the ACK echoes a time from before the first retransmission, so the large original has arrived.
    let config = Config {
        tail_loss_probe: false,
        ..config()
    };
    let mut script = script_of(config, "sackok ts 100 0");
    script.write(5000);
    assert_eq!(script.take_output().1, 5000);
    let sent_at = script.now.as_millis() as u32 + 77;
    script.run("+4600");
    script.take_output();
    let info = script.connection.info();
    assert_eq!((info.mss, info.black_holes), (1024, 1));
    script.run_batch(&format!("< . 1:1(0) ack 1449 ts 101 {sent_at}"));
    let info = script.connection.info();
    assert_eq!((info.mss, info.path_mtu_search), (1448, None));
    assert_eq!(info.undos, 1);
    script.take_output();
}

#[test]
fn small_segments_are_not_lost_for_their_size() {
    let timeouts = |script: &mut Script| {
        script.take_output();
        script.run("+10000");
        script.take_output();
        assert!(script.connection.info().timeouts >= 4);
        script.connection.info().black_holes
    };
    let mut small = script_with(MtuProbing::AfterBlackHole, "");
    small.write(1024);
    assert_eq!(timeouts(&mut small), 0);

    let mut off = script_with(MtuProbing::Off, "");
    off.write(5000);
    assert_eq!(timeouts(&mut off), 0);

    // RFC 4821 7.7: ICMP has given another reason.
    let mut unreachable = script_with(MtuProbing::AfterBlackHole, "");
    unreachable.write(5000);
    unreachable.take_output();
    let error = IcmpError::Unreachable(SocketError::HostUnreachable);
    let quoted = unreachable.connection.window.snd_una;
    let now = unreachable.now;
    assert_eq!(
        unreachable.connection.handle_icmp(now, error, quoted),
        Ok(())
    );
    assert_eq!(timeouts(&mut unreachable), 0);
}

#[test]
fn segments_stop_shrinking_at_the_floor() {
    // RFC 4821 7.7; Linux: tcp_mtu_probe_floor.
    let mut script = script_with(MtuProbing::AfterBlackHole, "");
    script.write(5000);
    script.take_output();
    script.run("+600000");
    script.take_output();
    assert_eq!(script.connection.info().mss, 48);
}

#[test]
fn only_segments_too_large_for_a_smaller_path_go_out_again() {
    // RFC 8201 5.4, RFC 1191 6.4; Linux: tcp_simple_retransmit.
    for options in ["sackok", ""] {
        let mut script = script_with(MtuProbing::Off, options);
        script.write(500);
        script.run("> P. 1:501(500) ack 1");
        script.write(1460);
        script.run("> P. 501:1961(1460) ack 1");
        let before = script.connection.info();
        let quoted = script.connection.window.snd_una + 500;
        let error = IcmpError::PacketTooBig { mtu: 1240 };
        let now = script.now;
        assert_eq!(script.connection.handle_icmp(now, error, quoted), Ok(()));
        script.limits.path_mtu = 1240;
        script.run("> . 501:1701(1200) ack 1\n> P. 1701:1961(260) ack 1\n-");
        let info = script.connection.info();
        assert_eq!((info.mss, info.path_mtu), (1200, 1240));
        assert_eq!((info.cwnd, info.timeouts), (before.cwnd, 0));
        script.run("< . 1:1(0) ack 1961");
    }
}

#[test]
fn router_that_speaks_up_about_a_probe_ends_it() {
    // RFC 4821 7.6.2: search_high MAY be set from the message; only the probe was too large.
    let mut script = probing("sackok");
    send_probe_and(&mut script, 5);
    let before = script.connection.info();
    let error = IcmpError::PacketTooBig { mtu: 1200 };
    let (now, quoted) = (script.now, script.connection.window.snd_una);
    assert_eq!(script.connection.handle_icmp(now, error, quoted), Ok(()));
    script.limits.path_mtu = 1200;
    script.run("> . 1:1025(1024) ack 1\n> . 1025:1243(218) ack 1\n-");
    let info = script.connection.info();
    assert_eq!(info.path_mtu_search, Some((1064, 1200)));
    assert_eq!((info.mss, info.cwnd), (1024, before.cwnd));
    script.run("+100\n< . 1:1(0) ack 6363");
    assert_eq!(script.connection.info().path_mtu_search, Some((1064, 1200)));
}

#[test]
fn larger_path_is_not_used_before_a_probe_has_passed() {
    let mut script = probing("sackok");
    script.limits.path_mtu = 1064;
    script.run("-");
    assert_eq!(script.connection.info().path_mtu_search, Some((1064, 1064)));
    script.limits.path_mtu = 1500;
    script.write(20_000);
    let sent = sizes(&mut script);
    assert_eq!(sent[..2], [1242, 1024]);
}
