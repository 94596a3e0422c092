//! Timeouts: retransmission, probes, keepalive, giving up.

use super::script::{Script, config};
use super::*;
use crate::error::SocketError;
use crate::tcp::info::State;
use crate::transport::IcmpError;

#[test]
fn timeout_retransmits_one_segment_and_backs_off() {
    // RFC 6298 5.4 to 5.6; RFC 5681 3.1: the window falls to one segment. RFC 9293 MUST-19.
    let mut script = Script::established();
    script.write(5000);
    assert_eq!(script.take_output(), (5, 5000));
    let rto = script.connection.info().rto.as_millis();
    script.run(&format!("+{}\n-\n+1\n> . 1:1001(1000) ack 1", rto - 1));
    script.run(&format!("+{}\n-\n+1\n> . 1:1001(1000) ack 1", 2 * rto - 1));
    assert_eq!(script.connection.info().cwnd, 1000);
    // Slow start through the rest; then the timer is off.
    script.run("< . 1:1(0) ack 1001\n> . 1001:2001(1000) ack 1\n> . 2001:3001(1000) ack 1");
    script.run("< . 1:1(0) ack 3001\n> . 3001:4001(1000) ack 1\n> P. 4001:5001(1000) ack 1");
    script.run("< . 1:1(0) ack 5001\n+100000\n-");
    assert_eq!(script.connection.info().timeouts, 2);
}

#[test]
fn timeout_skips_what_was_sacked() {
    // RFC 8985 6.3, RFC 6675 5.1: SACK information is kept.
    let mut script = Script::established_with(config(), "mss 1000 sackok");
    script.write(4000);
    assert_eq!(script.take_output(), (4, 4000));
    script.run("< . 1:1(0) ack 1 sack 1001:2001\n> . 1:1001(1000) ack 1");
    script.run("+300\n> . 1:1001(1000) ack 1");
    script.run("< . 1:1(0) ack 2001\n> . 2001:3001(1000) ack 1\n> P. 3001:4001(1000) ack 1");
    script.run("< . 1:1(0) ack 4001");
}

#[test]
fn connection_is_given_up_after_the_retries() {
    // RFC 9293 3.8.3 (MUST-20: R2), ETIMEDOUT.
    let mut config = config();
    config.retries = 3;
    let mut script = Script::established_with(config, "mss 1000");
    script.write(10);
    script.run("> P. 1:11(10) ack 1");
    script.run(
        "+200\n> P. 1:11(10) ack 1\n+400\n> P. 1:11(10) ack 1\n+800\n> P. 1:11(10) ack 1\n+1600",
    );
    assert_eq!(script.state(), State::Closed);
    let readiness = script.connection.take_readiness();
    assert!(readiness.contains(Readiness::ERROR | Readiness::READABLE | Readiness::WRITABLE));
    assert_eq!(
        script.connection.read(&mut [0; 1]),
        Err(SocketError::TimedOut)
    );
    assert_eq!(script.connection.read(&mut [0; 1]), Ok(0));
}

#[test]
fn soft_error_is_told_instead_of_the_timeout() {
    // RFC 9293 3.9.2.2 (MUST-56, SHLD-25): it aborts nothing, but it is what the user hears in the end.
    // RFC 9293 MUST-47.
    let mut config = config();
    config.retries = 1;
    let mut script = Script::established_with(config, "mss 1000");
    script.write(10);
    script.run("> P. 1:11(10) ack 1");
    let una = script.connection.window.snd_una;
    let error = IcmpError::Unreachable(SocketError::HostUnreachable);
    assert_eq!(
        script.connection.handle_icmp(script.now, error, una),
        Ok(())
    );
    assert_eq!(script.state(), State::Established);
    script.run("+200\n> P. 1:11(10) ack 1\n+400");
    assert_eq!(
        script.connection.take_error(),
        Some(SocketError::HostUnreachable)
    );
}

#[test]
fn user_timeout_ends_the_wait_early() {
    // RFC 9293 3.9.1 (SEND with a timeout), RFC 5482. RFC 9293 MUST-21.
    let mut script = Script::established();
    script.connection.set_user_timeout(Some(ms(500)));
    script.write(10);
    script.run("> P. 1:11(10) ack 1\n+200\n> P. 1:11(10) ack 1\n+400\n> P. 1:11(10) ack 1\n+200");
    assert_eq!(script.connection.take_error(), Some(SocketError::TimedOut));
}

#[test]
fn closed_window_is_probed_with_backoff_for_as_long_as_the_peer_answers() {
    // RFC 9293 3.8.6.1 (MUST-36, MUST-37). RFC 9293 MUST-35, SHLD-29, SHLD-30.
    let mut config = config();
    config.retries = 4;
    let mut script = Script::established_with(config, "mss 1000");
    script.run("< . 1:1(0) ack 1 win 0");
    script.write(100);
    script.run("-");
    let mut interval = script.connection.info().rto.as_millis() as u64;
    for _ in 0..15 {
        script.run(&format!("+{}\n-\n+1\n> . 0:0(0) ack 1", interval - 1));
        script.run("< . 1:1(0) ack 1 win 0\n-");
        interval = (interval * 2).min(120_000);
    }
    script.run("< . 1:1(0) ack 1 win 5000\n> P. 1:101(100) ack 1\n< . 1:1(0) ack 101");
}

#[test]
fn closed_window_of_a_silent_peer_is_given_up() {
    let mut config = config();
    config.retries = 3;
    let mut script = Script::established_with(config, "mss 1000");
    script.run("< . 1:1(0) ack 1 win 0");
    script.write(100);
    script.run("+200\n> . 0:0(0) ack 1\n+400\n> . 0:0(0) ack 1\n+800\n> . 0:0(0) ack 1\n+1600");
    assert_eq!(script.connection.take_error(), Some(SocketError::TimedOut));
}

#[test]
fn small_window_is_used_after_the_override_timeout() {
    // RFC 9293 3.8.6.2.1 (MUST-38): the silly-window rule does not wait forever. RFC 9293 MUST-60.
    let mut script = Script::established();
    script.run("< . 1:1(0) ack 1 win 300");
    script.write(2000);
    script.run("-\n+200\n> . 1:301(300) ack 1\n< . 1:1(0) ack 301 win 5000");
    script.run("> . 301:1301(1000) ack 1\n> P. 1301:2001(700) ack 1");
}

#[test]
fn window_closed_by_shrinking_does_not_end_the_connection() {
    // RFC 9293 3.8.6 (MUST-34) with 3.8.6.1 (MUST-37). RFC 9293 SHLD-17.
    let mut config = config();
    config.retries = 2;
    let mut script = Script::established_with(config, "mss 1000");
    script.write(1000);
    script.run("> P. 1:1001(1000) ack 1\n< . 1:1(0) ack 1 win 0");
    for _ in 0..8 {
        while script.take_output() == (0, 0) {
            script.run("+100");
        }
        script.run("< . 1:1(0) ack 1 win 0");
    }
    assert_eq!(script.state(), State::Established);
}

#[test]
fn keepalive_is_off_unless_asked_for() {
    // RFC 9293 3.8.4 (MUST-25). RFC 9293 MUST-24.
    let mut script = Script::established();
    script.run("+100000000\n-");
    assert_eq!(script.state(), State::Established);
    assert_eq!(script.connection.poll_timeout(), None);
}

#[test]
fn keepalive_probes_an_idle_peer_and_gives_up_after_nine() {
    // RFC 9293 3.8.4 (MUST-26, MUST-27, MUST-28, MUST-29): two hours, then 75 s apart; one silence is not enough.
    // RFC 9293 MAY-5, SHLD-12.
    let mut script = Script::established();
    script.connection.set_keepalive(script.now, true);
    script.run("+7199999\n-\n+1\n> . 0:0(0) ack 1\n< . 1:1(0) ack 1");
    script.run("+7199999\n-\n+1\n> . 0:0(0) ack 1");
    for _ in 1..9 {
        script.run("+75000\n> . 0:0(0) ack 1");
    }
    script.run("+75000\n> R. 1:1(0) ack 1");
    assert_eq!(script.connection.take_error(), Some(SocketError::TimedOut));
}

#[test]
fn keepalive_leaves_waiting_data_to_its_own_timers() {
    let mut script = Script::established();
    script
        .connection
        .set_keepalive_idle(script.now, Some(ms(100)));
    script.connection.set_keepalive(script.now, true);
    script.write(10);
    script.run("> P. 1:11(10) ack 1\n+150\n-\n< . 1:1(0) ack 11\n+100\n> . 10:10(0) ack 1");
}

#[test]
fn timestamps_measure_the_round_trip_of_retransmissions() {
    // RFC 7323 4.1: Karn's rule is lifted.
    let mut script = Script::established_with(config(), "mss 1000 ts 500 10077");
    script.write(100);
    script.run("> P. 1:101(100) ack 1\n+200\n> P. 1:101(100) ack 1 ts 10277 500");
    script.run("+50\n< . 1:1(0) ack 101 ts 501 10277");
    assert_eq!(script.connection.info().rtt, ms(50) / 8);
}

#[test]
fn karn_ignores_retransmissions_without_timestamps() {
    // RFC 6298 3, and the backed-off RTO stays. RFC 9293 MUST-18.
    let mut script = Script::established();
    script.write(100);
    script.run("> P. 1:101(100) ack 1\n+200\n> P. 1:101(100) ack 1\n+50\n< . 1:1(0) ack 101");
    let info = script.connection.info();
    assert_eq!((info.rtt, info.rto), (Duration::ZERO, ms(400)));
}
