//! Opening (RFC 9293 3.5, 3.10.7.3).

use super::script::{Script, config};
use super::*;
use crate::error::SocketError;
use crate::stats::DropReason;
use crate::tcp::info::State;

#[test]
fn active_open_sends_syn_with_all_offers_and_an_unscaled_window() {
    // RFC 9293 3.5 figure 6; 3.7.1 (MUST-14, SHLD-5, MAY-3); RFC 7323 2.2: a SYN's window is not scaled.
    let mut script = Script::opening(config());
    script.run("> S 0:0(0) mss 1460 wscale 10 sackok win 65535");
    assert_eq!(script.state(), State::SynSent);
    script.run(
        "< S. 0:0(0) ack 1 win 1000 mss 1400 wscale 7 sackok ts 5 1
         > . 1:1(0) ack 1",
    );
    assert_eq!(script.state(), State::Established);
    assert_eq!(
        script.connection.take_readiness(),
        Readiness::WRITABLE,
        "a connect is complete"
    );
    let info = script.connection.info();
    assert_eq!((info.mss, info.send_window), (1388, 1000));
    assert_eq!(info.window_scale, Some((10, 7)));
}

#[test]
fn syn_is_retransmitted_with_backoff_until_it_times_out() {
    // RFC 9293 3.8.3 (MUST-20, MUST-22, MUST-23 for a SYN): 1, 2, 4 … s; ETIMEDOUT after seven retransmissions, over 3 minutes.
    let mut script = Script::opening(config());
    script.run("> S 0:0(0)");
    for seconds in [1, 2, 4, 8, 16, 32, 64] {
        script.run(&format!("+{}", seconds * 1000 - 1));
        script.run("+1\n> S 0:0(0)");
    }
    // The RTO stays at its bound of 120 s.
    script.run("+120000");
    assert_eq!(script.state(), State::Closed);
    assert_eq!(script.connection.take_error(), Some(SocketError::TimedOut));
}

#[test]
fn rto_is_three_seconds_after_a_lost_syn_without_a_sample() {
    // RFC 6298 5.7.
    let mut script = Script::opening(config());
    script.run(
        "> S 0:0(0)
         +1000
         > S 0:0(0)
         < S. 0:0(0) ack 1 win 5000 mss 1000
         > . 1:1(0) ack 1",
    );
    assert_eq!(script.connection.info().rto, Duration::from_secs(3));
}

#[test]
fn reset_refuses_only_with_an_acceptable_ack() {
    // RFC 9293 3.10.7.3, second check.
    let mut script = Script::opening(config());
    script.run(
        "> S 0:0(0)
         < R 0:0(0)
         -
         < R. 0:0(0) ack 0
         -
         < R. 0:0(0) ack 2
         -",
    );
    assert_eq!(script.state(), State::SynSent);
    script.run("< R. 0:0(0) ack 1");
    assert_eq!(script.state(), State::Closed);
    assert_eq!(
        script.connection.read(&mut [0; 9]),
        Err(SocketError::ConnectionRefused)
    );
    assert_eq!(script.connection.write(b"x"), Err(SocketError::BrokenPipe));
}

#[test]
fn wrong_ack_in_syn_sent_is_answered_with_a_reset() {
    // RFC 9293 3.10.7.3, first check (MUST-10 of 3.5.1: half-open discovery).
    let mut script = Script::opening(config());
    script.run(
        "> S 0:0(0)
         < S. 0:0(0) ack 300
         > R 300:300(0)
         < . 0:0(0) ack 0
         > R 0:0(0)",
    );
    assert_eq!(script.last, Err(DropReason::BadAck));
    assert_eq!(script.state(), State::SynSent);
}

#[test]
fn segment_without_syn_in_syn_sent_is_dropped() {
    // RFC 9293 3.10.7.3, fifth: neither SYN nor RST.
    let mut script = Script::opening(config());
    script.run("> S 0:0(0)\n< . 0:0(0) ack 1\n-");
    assert_eq!(script.last, Err(DropReason::Unacceptable));
}

#[test]
fn simultaneous_open_reaches_established() {
    // RFC 9293 3.5 figure 8 (MUST-10).
    let mut script = Script::opening(config());
    script.run("> S 0:0(0)\n< S 0:0(0) win 3000 mss 1000\n> S. 0:0(0) ack 1");
    assert_eq!(script.state(), State::SynReceived);
    script.run("< S. 0:0(0) ack 1 win 3000 mss 1000\n> . 1:1(0) ack 1");
    assert_eq!(script.state(), State::Established);
    script.write(10);
    script.run("> P. 1:11(10) ack 1\n< . 1:1(0) ack 11");
}

#[test]
fn simultaneous_open_completes_with_a_plain_ack_and_resends_its_syn_ack() {
    let mut script = Script::opening(config());
    script.run(
        "> S 0:0(0)
         < S 0:0(0) mss 1000
         > S. 0:0(0) ack 1
         +1000
         > S. 0:0(0) ack 1
         < . 1:1(0) ack 1
         -",
    );
    assert_eq!(script.state(), State::Established);
}

#[test]
fn wrong_ack_in_syn_received_is_answered_with_a_reset() {
    // RFC 9293 3.10.7.4, fifth check, SYN-RECEIVED.
    let mut script = Script::opening(config());
    script.run("> S 0:0(0)\n< S 0:0(0) mss 1000\n> S. 0:0(0) ack 1");
    script.run("< . 1:1(0) ack 7\n> R 7:7(0)");
    assert_eq!(script.state(), State::SynReceived);
    script.run("< R 1:1(0)");
    assert_eq!(
        script.connection.take_error(),
        Some(SocketError::ConnectionRefused)
    );
}

#[test]
fn self_connect_talks_to_itself() {
    // RFC 9293 3.5, simultaneous open with oneself: one tuple, one connection.
    let now = Instant::from_millis(1);
    let mut connection = open(now, &Arc::new(config()), 9);
    let limits = limits(0);
    let pump = |connection: &mut Connection| {
        while let Some(transmit) = connection.poll_transmit(now, &limits) {
            let _dropped = connection.handle_segment(now, arrive(transmit));
        }
    };
    pump(&mut connection);
    assert_eq!(connection.state(), State::Established);
    assert_eq!(connection.write(b"echo"), Ok(4));
    pump(&mut connection);
    let mut buffer = [0; 9];
    assert_eq!(connection.read(&mut buffer), Ok(4));
    assert_eq!(&buffer[..4], b"echo");
    connection.shutdown_write().unwrap();
    pump(&mut connection);
    assert_eq!(connection.read(&mut buffer), Ok(0));
}

#[test]
fn data_and_fin_on_a_syn_ack_are_taken() {
    // RFC 9293 3.10.7.3: other controls or text are processed after ESTABLISHED.
    let mut script = Script::opening(config());
    script.run("> S 0:0(0)\n< SF. 0:10(10) ack 1 mss 1000\n> . 1:1(0) ack 12");
    assert_eq!(script.read_all(), 10);
    assert_eq!(script.state(), State::CloseWait);
}

#[test]
fn peer_without_options_gets_none() {
    // RFC 7323 2.2, 3.2; RFC 2018 2; MUST-15: 536 octets.
    let mut script = Script::established_with(config(), "");
    let info = script.connection.info();
    assert_eq!(
        (info.mss, info.sack, info.timestamps, info.window_scale),
        (536, false, false, None)
    );
    script.write(600);
    script.run("> . 1:537(536) ack 1\n> P. 537:601(64) ack 1");
}

#[test]
fn timestamps_are_echoed_and_leave_room() {
    // RFC 7323 3.2; RFC 9293 3.7.1 (MUST-16): options reduce the data.
    let mut script = Script::established_with(config(), "mss 1000 ts 500 1");
    script.write(1000);
    script.run("> . 1:989(988) ack 1 ts 10077 500\n> P. 989:1001(12) ack 1 ts 10077 500");
    script.run("< . 1:1(0) ack 1001 ts 501 10077");
}

#[test]
fn write_before_the_connection_stands_waits() {
    let mut script = Script::opening(config());
    assert_eq!(script.connection.write(b"x"), Err(SocketError::WouldBlock));
    assert_eq!(
        script.connection.read(&mut [0; 1]),
        Err(SocketError::WouldBlock)
    );
    script.run("> S 0:0(0)");
}

#[test]
fn close_in_syn_sent_forgets_the_connection_silently() {
    // RFC 9293 3.10.4: delete the TCB.
    let mut script = Script::opening(config());
    script.run("> S 0:0(0)");
    script.connection.close(script.now);
    script.run("-");
    assert!(matches!(script.connection.phase(), Phase::Closed));
}

#[test]
fn close_in_syn_received_sends_a_fin_once_established() {
    // RFC 9293 3.10.4, SYN-RECEIVED.
    let mut script = Script::opening(config());
    script.run("> S 0:0(0)\n< S 0:0(0) mss 1000\n> S. 0:0(0) ack 1");
    script.connection.close(script.now);
    script.run("-\n< . 1:1(0) ack 1\n> F. 1:1(0) ack 1");
    assert_eq!(script.state(), State::FinWait1);
}
