//! Explicit congestion notification (RFC 3168 6.1, RFC 8511).

use super::script::{Script, config};
use super::*;
use crate::tcp::config::EcnMode;

fn asking() -> Config {
    Config {
        ecn: EcnMode::Request,
        ..config()
    }
}

/// An established connection with ECN and SACK, an MSS of 1000 and a round trip of 100 ms.
fn capable() -> Script {
    let mut script = Script::opening(asking());
    script.run("> SEW 0:0(0)\n+100");
    script.run("< SE. 0:0(0) ack 1 win 60000 mss 1000 sackok");
    script.run("> . 1:1(0) ack 1");
    script
}

#[test]
fn syn_asks_only_if_configured_to() {
    // RFC 3168 6.1.1: an ECN-setup SYN has both flags, and is itself not ECN-capable. RFC 9293 SHLD-8.
    for (mode, syn) in [
        (EcnMode::Off, "> S 0:0(0)"),
        (EcnMode::Accept, "> S 0:0(0)"),
        (EcnMode::Request, "> SEW 0:0(0)"),
    ] {
        let mut script = Script::opening(Config {
            ecn: mode,
            ..config()
        });
        script.run(syn);
    }
}

#[test]
fn only_a_proper_answer_to_a_request_turns_it_on() {
    // RFC 3168 6.1.1 and 6.1.1.2: ECE without CWR; both are a peer that reflects what it does not know.
    for (config, syn, answer, ect) in [
        (asking(), "SEW", "SE.", " ect"),
        (asking(), "SEW", "S.", ""),
        (asking(), "SEW", "SEW.", ""),
        (asking(), "SEW", "SW.", ""),
        (config(), "S", "SE.", ""),
    ] {
        let mut script = Script::opening(config);
        script.run(&format!("> {syn} 0:0(0)"));
        script.run(&format!("< {answer} 0:0(0) ack 1 win 60000 mss 1000"));
        script.run("> . 1:1(0) ack 1");
        script.write(1000);
        script.run(&format!("> P. 1:1001(1000) ack 1{ect}"));
        assert_eq!(script.connection.info().ecn, !ect.is_empty());
    }
}

#[test]
fn syn_sent_again_does_not_ask_and_then_there_is_no_ecn() {
    // RFC 3168 6.1.1.1 (fallback), 6.1.1: no ECT after a SYN that did not ask.
    let mut script = Script::opening(asking());
    script.run("> SEW 0:0(0)\n+1000\n> S 0:0(0)");
    script.run("< SE. 0:0(0) ack 1 win 60000 mss 1000\n> . 1:1(0) ack 1");
    script.write(1000);
    script.run("> P. 1:1001(1000) ack 1");
}

#[test]
fn simultaneous_open_of_two_that_ask_has_ecn() {
    let mut script = Script::opening(asking());
    script.run("> SEW 0:0(0)\n< SEW 0:0(0) win 60000 mss 1000\n> SE. 0:0(0) ack 1");
    script.run("< . 1:1(0) ack 1");
    script.write(1000);
    script.run("> P. 1:1001(1000) ack 1 ect");
}

#[test]
fn pure_acks_and_fins_are_not_ecn_capable() {
    // RFC 3168 6.1.4: nobody would reduce for a marked one.
    let mut script = capable();
    script.run("< P. 1:1001(1000) ack 1 ect\n< P. 1001:2001(1000) ack 1 ect\n> . 1:1(0) ack 2001");
    script.connection.shutdown_write().unwrap();
    script.run("> F. 1:1(0) ack 2001");
}

#[test]
fn retransmissions_are_not_ecn_capable() {
    // RFC 3168 6.1.5.
    let mut script = capable();
    script.write(4000);
    assert_eq!(script.take_output(), (4, 4000));
    script.run("+100\n< . 1:1(0) ack 1 sack 1001:4001\n> . 1:1001(1000) ack 1");
}

#[test]
fn window_probes_are_not_ecn_capable() {
    // RFC 3168 6.1.6.
    let mut script = capable();
    script.write(1000);
    script.run("> P. 1:1001(1000) ack 1 ect\n< . 1:1(0) ack 1001 win 0");
    script.write(1000);
    script.run("-\n+400\n> . 1000:1000(0) ack 1\n< . 1:1(0) ack 1001 win 100\n+400");
    script.run(
        "> . 1001:1101(100) ack 1\n< . 1:1(0) ack 1101 win 60000\n> P. 1101:2001(900) ack 1 ect",
    );
}

#[test]
fn marks_are_echoed_at_once_and_until_the_peer_has_reduced() {
    // RFC 3168 6.1.3: in every ACK, data included, until a segment with CWR.
    let mut script = capable();
    script.run("< . 1:1001(1000) ack 1 ce\n> E. 1:1(0) ack 1001");
    script
        .run("< . 1001:2001(1000) ack 1 ect\n< . 2001:3001(1000) ack 1 ect\n> E. 1:1(0) ack 3001");
    script.write(500);
    script.run("> PE. 1:501(500) ack 3001 ect");
    script.run("< W. 3001:4001(1000) ack 501 ect\n< . 4001:5001(1000) ack 501 ect\n> . 501:501(0) ack 5001");
    // A mark on the very segment that ends the echo is a new one.
    script.run("< W. 5001:6001(1000) ack 501 ce\n> E. 501:501(0) ack 6001");
}

#[test]
fn marks_outside_the_window_are_ignored() {
    // RFC 3168 6.1.5: anybody could have sent them.
    let mut script = capable();
    script.run("< . 9000001:9001001(1000) ack 1 ce\n> . 1:1(0) ack 1");
    script.run("< . 1:1001(1000) ack 1 ect\n< . 1001:2001(1000) ack 1 ect\n> . 1:1(0) ack 2001");
}

#[test]
fn without_negotiation_marks_and_echoes_mean_nothing() {
    let mut script = Script::established();
    script.write(2000);
    assert_eq!(script.take_output(), (2, 2000));
    let cwnd = script.connection.info().cwnd;
    script.run("< E. 1:1(0) ack 1001");
    assert!(script.connection.info().cwnd >= cwnd);
    script.run("< . 1:1001(1000) ack 1001 ce\n+40\n> . 2001:2001(0) ack 1001");
}

#[test]
fn echo_reduces_the_window_once_per_round_trip() {
    // RFC 3168 6.1.2, RFC 8511 3.1: to 0.8 with NewReno. CWR goes with the next new data, once.
    let mut script = capable();
    script.write(20_000);
    assert_eq!(script.take_output(), (10, 10_000));
    script.run_batch("< E. 1:1(0) ack 2001");
    let info = script.connection.info();
    assert_eq!(
        (info.cwnd, info.ssthresh),
        (6400, 6400),
        "of 8000 in flight"
    );
    for ack in [3001, 4001] {
        script.run_batch(&format!("< E. 1:1(0) ack {ack}"));
    }
    assert_eq!(script.connection.info().cwnd, 6400, "the same window");
    script.run("< E. 1:1(0) ack 5001");
    script.run("> W. 10001:11001(1000) ack 1 ect");
    script.run_batch("< E. 1:1(0) ack 10001");
    assert_eq!(
        script.connection.info().cwnd,
        6400,
        "still what was sent before"
    );
    script.run("> . 11001:12001(1000) ack 1 ect\n> . 12001:13001(1000) ack 1 ect");
    script.run("> . 13001:14001(1000) ack 1 ect\n> . 14001:15001(1000) ack 1 ect");
    script.run("> . 15001:16001(1000) ack 1 ect");
    script.run_batch("< E. 1:1(0) ack 11001");
    assert_eq!(
        script.connection.info().cwnd,
        4000,
        "sent after the reduction"
    );
    script.take_output();
    let info = script.connection.info();
    assert_eq!((info.retransmits, info.recoveries), (0, 0));
}

#[test]
fn loss_and_marks_of_one_window_are_one_reduction() {
    // RFC 3168 6.1.2: and the reduction for the loss is told by CWR as well.
    let mut script = capable();
    script.write(20_000);
    assert_eq!(script.take_output(), (10, 10_000));
    script.run("+100\n< E. 1:1(0) ack 1 sack 1001:6001\n> . 1:1001(1000) ack 1");
    let ssthresh = script.connection.info().ssthresh;
    assert_eq!(ssthresh, 5000);
    script.run("+100\n< E. 1:1(0) ack 10001");
    assert_eq!(script.connection.info().ssthresh, ssthresh);
    script.run("> W. 10001:11001(1000) ack 1 ect");
    script.take_output();
}
