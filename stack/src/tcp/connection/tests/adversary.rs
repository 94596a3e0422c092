//! What a hostile or unlucky peer does at awkward moments.

use super::script::{Script, config};
use super::*;
use crate::error::SocketError;
use crate::tcp::info::State;

#[test]
fn window_update_is_not_swallowed_by_an_ack_queued_before_it() {
    // RFC 9293 3.8.6: the duplicate's ACK was due while the window was closed; reading has opened it since.
    let mut config = config();
    config.receive_buffer = 3000;
    let mut script = Script::established_with(config, "mss 1000");
    script.run("< . 1:3001(3000) ack 1 seg 1000\n> . 1:1(0) ack 3001 win 0");
    script.run_batch("< . 1:1001(1000) ack 1");
    assert_eq!(script.read_all(), 3000);
    script.run("> . 1:1(0) ack 3001 win 0\n> . 1:1(0) ack 3001 win 3000");
}

#[test]
fn nothing_follows_a_received_reset() {
    // RFC 9293 3.10.7.4 second: the connection is gone, an ACK would only earn a reset.
    let mut script = Script::established();
    script.run(
        "< . 1001:2001(1000) ack 1
         < . 1:1001(1000) ack 1
         < R 2001:2001(0)
         -",
    );
    assert!(matches!(script.connection.phase(), Phase::Closed));
}

#[test]
fn abort_sends_a_reset_and_nothing_after_it() {
    let mut script = Script::established();
    script.run_batch("< . 1001:2001(1000) ack 1");
    script.connection.abort();
    script.run("> R. 1:1(0) ack 1\n-");
    assert!(matches!(script.connection.phase(), Phase::Closed));
}

#[test]
fn reset_after_the_peers_end_leaves_the_end_readable() {
    // Linux (SOCK_DONE): a read gives the end of the stream, the write gets EPIPE.
    let mut script = Script::established();
    script.run("< F. 1:1(0) ack 1\n> . 1:1(0) ack 2\n< R 2:2(0)");
    assert_eq!(script.connection.read(&mut [0; 8]), Ok(0));
    assert_eq!(script.connection.write(b"x"), Err(SocketError::BrokenPipe));
    assert_eq!(script.connection.read(&mut [0; 8]), Ok(0));
}

#[test]
fn window_follows_the_newest_acknowledgment_although_its_data_is_older() {
    // A filled hole has a lower sequence number than what set the window last, but news all the same (Linux).
    let mut script = Script::established();
    script.write(2000);
    script.run("> . 1:1001(1000) ack 1\n> P. 1001:2001(1000) ack 1");
    script.run("< . 1001:2001(1000) ack 1\n> . 2001:2001(0) ack 1");
    script.run("< . 1:1001(1000) ack 2001 win 500\n> . 2001:2001(0) ack 2001");
    assert_eq!(script.connection.info().send_window, 500);
}

#[test]
fn peer_cannot_keep_an_orphan_in_fin_wait_2_with_acks() {
    // RFC 9293 leaves FIN-WAIT-2 without limit; Linux's tcp_fin_timeout counts from its beginning.
    let mut script = Script::established();
    script.connection.close(script.now);
    script.run("> F. 1:1(0) ack 1\n< . 1:1(0) ack 2");
    for _ in 0..6 {
        assert_eq!(script.state(), State::FinWait2);
        script.run("+9000\n< . 1:1(0) ack 2");
    }
    script.run("+6001");
    assert_eq!(script.state(), State::Closed);
}

#[test]
fn answers_to_stray_syns_are_limited() {
    // RFC 5961 4.2 and 7: whatever the sequence number.
    let mut script = Script::established();
    for numbers in ["9000001:9000001(0)", "5:5(0)", "0:0(0)"] {
        script.run("+1000");
        let lines = format!("< S {numbers}\n").repeat(100);
        script.run_batch(&lines);
        assert!(script.take_output().0 <= 10, "{numbers}");
    }
}

#[test]
fn fast_retransmission_gets_a_full_timeout() {
    // Linux (tcp_rearm_rto): else the timer of the original would fire while the retransmission is under way.
    let mut config = config();
    config.tail_loss_probe = false;
    let mut script = Script::established_with(config, "mss 1000 sackok");
    script.write(4000);
    script.run(
        "> . 1:1001(1000) ack 1
         > . 1001:2001(1000) ack 1
         > . 2001:3001(1000) ack 1
         > P. 3001:4001(1000) ack 1
         +150
         < . 1:1(0) ack 1 sack 1001:4001
         > . 1:1001(1000) ack 1
         +199
         -
         < . 1:1(0) ack 4001",
    );
    assert_eq!(script.connection.info().timeouts, 0);
}

#[test]
fn silent_peer_is_reset_after_keepalive_probes() {
    // RFC 9293 3.8.4; Linux sends a reset when it gives up. The engine must learn that there is one to send.
    let mut config = config();
    config.keepalive_probes = 1;
    let mut script = Script::established_with(config, "mss 1000");
    script.connection.set_keepalive(script.now, true);
    script.run("+7200000\n> . 0:0(0) ack 1");
    let deadline = script.connection.poll_timeout().unwrap();
    script.connection.handle_timeout(deadline);
    assert!(script.connection.wants_transmit());
    script.run("> R. 1:1(0) ack 1");
    assert!(matches!(script.connection.phase(), Phase::Closed));
    assert_eq!(
        script.connection.read(&mut [0; 8]),
        Err(SocketError::TimedOut)
    );
}

#[test]
fn retransmission_into_a_shrunken_window_is_a_single_segment() {
    // RFC 9293 3.8.6 (SHLD-16, MAY-7): beyond the right edge nothing goes out again, but for the oldest octets.
    let mut script = Script::established_with(config(), "mss 1000 sackok");
    script.limits = limits(60_000);
    script.write(8000);
    script.run(
        "> P. 1:8001(8000) ack 1 seg 1000
         < . 1:1(0) ack 1 win 1000 sack 5001:8001
         > . 1:1001(1000) ack 1
         -
         < . 1:1(0) ack 1001 win 9000 sack 5001:8001
         > . 1001:5001(4000) ack 1 seg 1000
         < . 1:1(0) ack 8001",
    );
}

#[test]
fn coalesced_segment_of_untold_size_is_acknowledged_like_several() {
    // RFC 5681 4.2: taken for one huge full-sized segment, it would make every later ACK wait for the timer.
    let mut script = Script::established();
    script.run("< . 1:20001(20000) ack 1\n> . 1:1(0) ack 20001");
    script.run("< . 20001:22921(2920) ack 1\n> . 1:1(0) ack 22921");
    script.read_all();
}
