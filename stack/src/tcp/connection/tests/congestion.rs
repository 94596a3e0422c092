//! How the connection feeds its congestion controller: windows in use, not in use, and forgotten.

use super::script::{Script, config};
use super::*;

/// An established connection whose window is 40 segments, nothing being in flight; the path's round trip is 10 ms.
fn grown(config: Config) -> Script {
    let mut script = Script::opening(config);
    script.run("> S 0:0(0)\n+10\n< S. 0:0(0) ack 1 win 60000 mss 1000\n> . 1:1(0) ack 1");
    script.write(40_000);
    for ack in [10_001, 30_001, 40_001] {
        script.take_output();
        script.now += ms(10);
        script.run_batch(&format!("< . 1:1(0) ack {ack}"));
    }
    script.take_output();
    assert_eq!(script.connection.info().cwnd, 40_000);
    script
}

/// Sends a segment every 10 ms, acknowledged after another 10, for so long.
fn trickle(script: &mut Script, millis: u64) {
    for _ in 0..millis / 10 {
        script.write(1000);
        assert_eq!(script.take_output(), (1, 1000));
        script.now += ms(10);
        let ack = 1 + script.connection.info().bytes_acked + 1000;
        script.run_batch(&format!("< . 1:1(0) ack {ack}"));
        script.take_output();
    }
}

#[test]
fn window_that_an_application_does_not_fill_is_given_up_by_half_each_timeout() {
    // RFC 2861 3.2 by way of RFC 7661, as Linux: half way to what was used, or to the initial window.
    let mut script = grown(config());
    let rto = script.connection.info().rto.as_millis() as u64;
    trickle(&mut script, rto - 20);
    assert_eq!(script.connection.info().cwnd, 40_000);
    trickle(&mut script, 50);
    assert_eq!(script.connection.info().cwnd, 25_000);
    trickle(&mut script, 5000);
    let info = script.connection.info();
    assert!(info.cwnd < 11_000, "{}", info.cwnd);
    assert_eq!(info.ssthresh, usize::MAX, "no congestion was seen");
}

#[test]
fn window_is_kept_if_the_configuration_says_so() {
    // RFC 7661 is experimental, and `net.ipv4.tcp_slow_start_after_idle = 0` turns Linux's off, too.
    let mut config = config();
    config.idle_restart = false;
    let mut script = grown(config);
    trickle(&mut script, 3000);
    assert_eq!(script.connection.info().cwnd, 40_000);
    script.now += ms(60_000);
    script.write(50_000);
    assert_eq!(script.take_output(), (40, 40_000));
}

#[test]
fn window_grows_only_while_half_of_it_is_used() {
    // RFC 5681 3.1 as Linux reads it: slow start goes on while more than half was out in the round.
    let mut script = Script::established();
    script.write(5000);
    script.take_output();
    script.run("< . 1:1(0) ack 5001");
    assert_eq!(script.connection.info().cwnd, 10_000, "half");
    script.write(6000);
    script.take_output();
    for ack in [6001, 7001, 8001] {
        script.run(&format!("< . 1:1(0) ack {ack}"));
    }
    // 11,000 is less than twice 6000, 12,000 is not.
    assert_eq!(script.connection.info().cwnd, 12_000);
}

#[test]
fn window_filled_exactly_counts_as_full() {
    let mut script = Script::established();
    script.write(10_000);
    assert_eq!(script.take_output(), (10, 10_000));
    script.run("< . 1:1(0) ack 10001");
    assert_eq!(script.connection.info().cwnd, 20_000);
}

#[test]
fn paced_data_leaves_in_pieces_at_its_rate() {
    // As Linux's SO_MAX_PACING_RATE: 1,024,000 octets per second are two segments each 1.95 ms.
    let mut script = Script::established();
    script.limits = limits(65_000);
    script.connection.set_max_pacing_rate(Some(1_024_000));
    assert_eq!(script.connection.pacing_rate(), Some(1_024_000));
    script.write(9000);
    script.run("> . 1:2001(2000) ack 1 seg 1000\n-\n+1\n-\n+1");
    script.run("> . 2001:4001(2000) ack 1 seg 1000\n-\n+1\n-\n+1");
    script.run("> . 4001:6001(2000) ack 1 seg 1000\n-");
    // Retransmissions wait for their turn as well, pure ACKs for nothing.
    script.run("< . 1:101(100) ack 1\n+40\n> . 6001:8001(2000) ack 101 seg 1000");
    script.connection.set_max_pacing_rate(None);
    assert_eq!(script.connection.pacing_rate(), None);
    script.run("> P. 8001:9001(1000) ack 101");
}

#[test]
fn rates_are_told_of_connections_that_pace() {
    // As tcpi_pacing_rate, tcpi_delivery_rate and tcpi_delivery_rate_app_limited.
    let mut script = Script::established();
    script.limits = limits(65_000);
    let rates = |script: &Script| {
        let info = script.connection.info();
        (
            info.pacing_rate,
            info.delivery_rate,
            info.delivery_rate_app_limited,
        )
    };
    assert_eq!(rates(&script), (None, None, false));
    script.connection.set_max_pacing_rate(Some(1_000_000));
    assert_eq!(rates(&script), (Some(1_000_000), None, false));
    // 6000 octets leave within 4 ms, 2000 of them at once, and 4000 arrive within 50 ms.
    script.write(6000);
    script.run("> . 1:2001(2000) ack 1 seg 1000\n+2\n> . 2001:4001(2000) ack 1 seg 1000\n+2");
    script.run("> P. 4001:6001(2000) ack 1 seg 1000\n+46\n< . 1:1(0) ack 4001");
    assert_eq!(rates(&script), (Some(1_000_000), Some(80_000), false));
    // The rest comes at the pace at which it is written, which is no measure of the path.
    script.write(1000);
    script.run("> P. 6001:7001(1000) ack 1\n+100\n< . 1:1(0) ack 7001");
    let (_, rate, app_limited) = rates(&script);
    assert_eq!((rate, app_limited), (Some(80_000), false));
}

#[test]
fn retransmissions_keep_to_the_rate() {
    let mut script = Script::established_with(config(), "mss 1000 sackok");
    script.write(10_000);
    assert_eq!(script.take_output(), (10, 10_000));
    script.connection.set_max_pacing_rate(Some(100_000));
    script.run("< . 1:1(0) ack 1 sack 4001:10001\n> . 1:1001(1000) ack 1\n-\n+9\n-\n+1");
    script.run("> . 1001:2001(1000) ack 1\n-\n+10\n> . 2001:3001(1000) ack 1\n-");
    script.run("< . 1:1(0) ack 10001");
}

#[test]
fn timer_waits_for_a_retransmission_that_pacing_holds_back() {
    // RFC 6675 5: the first retransmission of a recovery restarts the timer. Found lost shortly before that would have fired,
    // it leaves when pacing lets it, and there is no timeout.
    let quiet = Config {
        tail_loss_probe: false,
        ..config()
    };
    let mut script = Script::established_with(quiet, "mss 1000 sackok");
    script.write(8000);
    assert_eq!(script.take_output(), (8, 8000));
    let rto = script.connection.info().rto.as_millis();
    script.connection.set_max_pacing_rate(Some(10_000));
    script.run(&format!("+{}", rto - 5));
    script.write(1000);
    script.run("> P. 8001:9001(1000) ack 1\n+1");
    script.run("< . 1:1(0) ack 1 sack 4001:8001\n-\n+50\n-\n+49\n> . 1:1001(1000) ack 1");
    let info = script.connection.info();
    assert_eq!((info.recoveries, info.timeouts), (1, 0));
    // Nothing more comes: then it fires.
    script.run(&format!("+{}", 2 * rto));
    script.take_output();
    assert_eq!(script.connection.info().timeouts, 1);
}

#[test]
fn controller_is_changed_in_the_middle_of_a_connection() {
    // Linux's TCP_CONGESTION: the window and the threshold stay.
    let mut script = grown(config());
    assert_eq!(script.connection.info().congestion_control, "reno");
    let kind = CongestionControl::Cubic;
    script.connection.set_congestion_control(kind);
    let info = script.connection.info();
    assert_eq!((info.congestion_control, info.cwnd), ("cubic", 40_000));
    script.write(40_000);
    assert_eq!(script.take_output(), (40, 40_000));
}
