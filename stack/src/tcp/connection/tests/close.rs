//! Endings: half-close, close, abort, orphans, TIME-WAIT (RFC 9293 3.6, 3.10.4, 3.10.5).

use super::script::{Script, config};
use super::*;
use crate::error::SocketError;
use crate::stats::DropReason;
use crate::tcp::info::State;

#[test]
fn active_close_goes_through_fin_wait_to_time_wait() {
    // RFC 9293 3.6 figure 12 (MUST-13).
    let mut script = Script::established();
    script.connection.shutdown_write().unwrap();
    script.run("> F. 1:1(0) ack 1");
    assert_eq!(script.state(), State::FinWait1);
    script.run("< . 1:1(0) ack 2");
    assert_eq!(script.state(), State::FinWait2);
    script.run("< P. 1:11(10) ack 2\n+40\n> . 2:2(0) ack 11"); // half-close: the peer still sends
    assert_eq!(script.read_all(), 10);
    script.run("< F. 11:11(0) ack 2");
    assert_eq!(script.state(), State::TimeWait);
    script.run("> . 2:2(0) ack 12");
    let Phase::TimeWait(entry) = script.connection.phase() else {
        panic!("the table takes over");
    };
    assert_eq!(entry.snd_nxt, script.connection.window.snd_nxt);
    assert!(
        matches!(script.connection.phase(), Phase::Closed),
        "said once"
    );
    assert_eq!(script.connection.read(&mut [0; 1]), Ok(0));
    assert_eq!(script.connection.poll_timeout(), None);
}

#[test]
fn passive_close_goes_through_close_wait_and_last_ack() {
    let mut script = Script::established();
    script.run("< F. 1:1(0) ack 1\n> . 1:1(0) ack 2");
    assert_eq!(script.state(), State::CloseWait);
    script.write(100); // half-close the other way: we still send
    script.run("> P. 1:101(100) ack 2\n< . 2:2(0) ack 101");
    script.connection.shutdown_write().unwrap();
    script.run("> F. 101:101(0) ack 2");
    assert_eq!(script.state(), State::LastAck);
    script.run("< . 2:2(0) ack 102\n-");
    assert!(matches!(script.connection.phase(), Phase::Closed));
    assert_eq!(script.connection.take_error(), None);
}

#[test]
fn simultaneous_close_goes_through_closing() {
    // RFC 9293 3.6 figure 13.
    let mut script = Script::established();
    script.connection.shutdown_write().unwrap();
    script.run("> F. 1:1(0) ack 1\n< F. 1:1(0) ack 1\n> . 2:2(0) ack 2");
    assert_eq!(script.state(), State::Closing);
    script.run("< . 2:2(0) ack 2\n-");
    assert_eq!(script.state(), State::TimeWait);
}

#[test]
fn fin_with_the_ack_of_ours_goes_straight_to_time_wait() {
    let mut script = Script::established();
    script.connection.shutdown_write().unwrap();
    script.run("> F. 1:1(0) ack 1\n< F. 1:1(0) ack 2\n> . 2:2(0) ack 2");
    assert_eq!(script.state(), State::TimeWait);
}

#[test]
fn fin_is_retransmitted() {
    let mut script = Script::established();
    script.connection.shutdown_write().unwrap();
    script.run(
        "> F. 1:1(0) ack 1\n+200\n> F. 1:1(0) ack 1\n+400\n> F. 1:1(0) ack 1\n< . 1:1(0) ack 2",
    );
    assert_eq!(script.state(), State::FinWait2);
}

#[test]
fn clean_close_finishes_in_the_background() {
    let mut script = Script::established();
    script.write(1500);
    script.connection.close(script.now);
    script.run("> . 1:1001(1000) ack 1\n> FP. 1001:1501(500) ack 1");
    assert!(script.connection.is_orphan());
    script.run("< . 1:1(0) ack 1502");
    assert_eq!(script.state(), State::FinWait2);
    script.run("< F. 1:1(0) ack 1502\n> . 1502:1502(0) ack 2");
    assert!(matches!(script.connection.phase(), Phase::TimeWait(_)));
}

#[test]
fn orphan_does_not_stay_in_fin_wait_2() {
    // As Linux's tcp_fin_timeout: 60 s.
    let mut script = Script::established();
    script.connection.close(script.now);
    script.run("> F. 1:1(0) ack 1\n< . 1:1(0) ack 2\n+59999\n-");
    assert_eq!(script.state(), State::FinWait2);
    script.run("+1\n-");
    assert!(matches!(script.connection.phase(), Phase::Closed));
}

#[test]
fn held_connection_stays_in_fin_wait_2() {
    // RFC 9293 leaves no way out but the peer's FIN while somebody may still read.
    let mut script = Script::established();
    script.connection.shutdown_write().unwrap();
    script.run("> F. 1:1(0) ack 1\n< . 1:1(0) ack 2\n+10000000\n-");
    assert_eq!(script.state(), State::FinWait2);
}

#[test]
fn close_with_unread_data_resets() {
    // RFC 9293 3.6.1, RFC 1122 4.2.2.13, RFC 2525 2.17.
    let mut script = Script::established();
    script.run("< P. 1:11(10) ack 1");
    script.connection.close(script.now);
    script.run("> R. 1:1(0) ack 11\n-");
    assert!(matches!(script.connection.phase(), Phase::Closed));
    assert_eq!(script.connection.poll_timeout(), None);
}

#[test]
fn zero_linger_resets() {
    let mut script = Script::established();
    script.write(10);
    script.connection.set_linger(Some(Duration::ZERO));
    script.connection.close(script.now);
    assert!(
        matches!(script.connection.phase(), Phase::Open),
        "the reset goes out first"
    );
    script.run("> R. 1:1(0) ack 1");
    assert!(matches!(script.connection.phase(), Phase::Closed));
}

#[test]
fn linger_resets_when_its_time_is_over() {
    let mut script = Script::established();
    script.write(10);
    script.connection.set_linger(Some(ms(100)));
    script.connection.close(script.now);
    script.run("> FP. 1:11(10) ack 1\n+100\n> R. 12:12(0) ack 1");
    assert_eq!(script.state(), State::Closed);
}

#[test]
fn data_after_close_is_answered_with_a_reset() {
    // RFC 9293 3.6.1, RFC 1122 4.2.2.13: the peer must learn that nobody reads.
    let mut script = Script::established();
    script.connection.close(script.now);
    script.run("> F. 1:1(0) ack 1\n< . 1:1(0) ack 2\n< P. 1:11(10) ack 2\n> R. 2:2(0) ack 1");
    assert_eq!(script.last, Err(DropReason::Closed));
    assert!(matches!(script.connection.phase(), Phase::Closed));
}

#[test]
fn abort_resets_and_forgets() {
    // RFC 9293 3.10.5.
    let mut script = Script::established();
    script.write(5000);
    assert_eq!(script.take_output(), (5, 5000));
    script.connection.abort();
    script.run("> R. 5001:5001(0) ack 1\n-");
    assert!(!script.connection.owns_buffers());
    assert_eq!(script.connection.poll_timeout(), None);
}

#[test]
fn abort_in_last_ack_sends_nothing() {
    // RFC 9293 3.10.5: CLOSING, LAST-ACK and TIME-WAIT answer and are deleted.
    let mut script = Script::established();
    script.run("< F. 1:1(0) ack 1\n> . 1:1(0) ack 2");
    script.connection.shutdown_write().unwrap();
    script.run("> F. 1:1(0) ack 2");
    script.connection.abort();
    script.run("-");
    assert!(matches!(script.connection.phase(), Phase::Closed));
}

#[test]
fn orphan_is_given_up_earlier() {
    let mut config = config();
    config.orphan_retries = 1;
    let mut script = Script::established_with(config, "mss 1000");
    script.connection.close(script.now);
    script.run("> F. 1:1(0) ack 1\n+200\n> F. 1:1(0) ack 1\n+400\n-");
    assert!(matches!(script.connection.phase(), Phase::Closed));
}

#[test]
fn retransmitted_fin_before_the_hand_over_is_acknowledged_again() {
    let mut script = Script::established();
    script.connection.shutdown_write().unwrap();
    script.run("> F. 1:1(0) ack 1\n< F. 1:1(0) ack 2\n> . 2:2(0) ack 2");
    script.run("< F. 1:1(0) ack 2\n> . 2:2(0) ack 2");
    assert_eq!(script.last, Ok(()));
}

#[test]
fn failure_of_the_stack_is_told_without_a_packet() {
    let mut script = Script::established();
    script.write(10);
    script.connection.fail(SocketError::NetworkDown);
    script.run("-");
    assert_eq!(script.connection.write(b"x"), Err(SocketError::NetworkDown));
    assert_eq!(script.connection.write(b"x"), Err(SocketError::BrokenPipe));
}

#[test]
fn fin_needs_room_in_the_peers_window_and_asks_for_it() {
    let mut script = Script::established();
    script.run("< . 1:1(0) ack 1 win 0");
    script.connection.shutdown_write().unwrap();
    script.run("-\n+200\n> . 0:0(0) ack 1\n< . 1:1(0) ack 1 win 10\n> F. 1:1(0) ack 1");
}

#[test]
fn probe_that_was_due_is_not_waited_for_when_the_connection_ends() {
    // The timer fires for a loss probe, and before it is sent the peer resets, or acknowledges the last FIN.
    for (lines, passive) in [
        ("< R. 1:1(0) ack 1", false),
        ("< F. 1:1(0) ack 3002", false),
        ("< . 2:2(0) ack 3002", true),
    ] {
        let mut script = Script::established_with(config(), "mss 1000 sackok");
        if passive {
            script.run("< F. 1:1(0) ack 1\n> . 1:1(0) ack 2");
        }
        script.write(3000);
        script.connection.close(script.now);
        assert_eq!(script.take_output(), (3, 3000));
        let deadline = script.connection.poll_timeout().unwrap();
        script.now = deadline;
        script.connection.handle_timeout(deadline);
        assert!(script.connection.wants_transmit(), "a probe");
        script.run_batch(lines);
        script.take_output();
        let phase = script.connection.phase();
        assert!(!matches!(phase, Phase::Open), "{lines}");
        assert_eq!(script.connection.info().tail_loss_probes, 0);
        assert_eq!(script.connection.poll_timeout(), None);
    }
}

#[test]
fn full_device_starts_no_timer_of_a_connection_that_has_ended() {
    let mut script = Script::established();
    script.write(1000);
    script.connection.set_linger(Some(Duration::ZERO));
    script.connection.close(script.now);
    script.connection.handle_held_back(script.now);
    assert_eq!(script.connection.poll_timeout(), None);
    script.run("> R. 1:1(0) ack 1\n-");
    assert!(matches!(script.connection.phase(), Phase::Closed));
}
