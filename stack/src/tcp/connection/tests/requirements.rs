//! Requirements of RFC 9293 that no other test shows.

use super::script::Script;
use super::*;
use crate::tcp::info::State;

fn config() -> Config {
    Config {
        timestamps: false,
        window_scaling: false,
        sack: false,
        ..Config::default()
    }
}

#[test]
fn windows_are_unsigned() {
    // RFC 9293 3.1 (MUST-1): as a signed number, 40,000 would be none.
    let mut script = Script::established();
    script.run("< . 1:1(0) ack 1 win 40000");
    script.write(2000);
    script.run("> . 1:1001(1000) ack 1\n> P. 1001:2001(1000) ack 1\n< . 1:1(0) ack 2001 win 40000");
}

#[test]
fn scaled_windows_are_numbers_of_32_bits() {
    // RFC 9293 3.1 (REC-1), RFC 7323 2.2: 65,535 << 14.
    let mut script = Script::established_with(Config::default(), "mss 1000 wscale 14");
    script.run("< . 1:1(0) ack 1 win 65535");
    assert_eq!(script.connection.window.snd_wnd, 65_535 << 14);
}

#[test]
fn mss_is_in_the_syn_only() {
    // RFC 9293 3.2 (MUST-65).
    let now = Instant::from_millis(1000);
    let config = Arc::new(Config::default());
    let mut connection = open(now, &config, 1);
    let syn = connection.poll_transmit(now, &limits(0)).expect("a SYN");
    assert!(syn.header.options.mss.is_some());
    let (syn_ack, _) = answer_syn(now, &config, &arrive(syn), 500);
    assert!(syn_ack.header.options.mss.is_some());
    connection
        .handle_segment(now, syn_ack)
        .expect("an answer to the SYN");
    assert_eq!(connection.state(), State::Established);
    assert_eq!(connection.write(b"data"), Ok(4));
    assert_eq!(connection.shutdown_write(), Ok(()));
    let mut segments = 0;
    while let Some(transmit) = connection.poll_transmit(now, &limits(0)) {
        assert_eq!(transmit.header.options.mss, None);
        segments += 1;
    }
    assert!(segments > 0);
}

#[test]
fn reset_may_carry_data() {
    // RFC 9293 3.5.3 (SHLD-2): which says why, and is not delivered.
    let mut script = Script::established();
    script.run("< R. 1:12(11) ack 1\n-");
    assert_eq!(script.state(), State::Closed);
    assert_eq!(
        script.connection.read(&mut [0; 20]),
        Err(SocketError::ConnectionReset)
    );
    assert_eq!(script.connection.read(&mut [0; 20]), Ok(0));
}

#[test]
fn data_is_sent_again_for_more_than_a_hundred_seconds() {
    // RFC 9293 3.8.3 (SHLD-11): R2 by default. It is Linux's, over 15 minutes.
    let mut script = Script::established_with(config(), "mss 1000");
    script.write(10);
    script.run("> P. 1:11(10) ack 1");
    let sent_at = script.now;
    let mut interval = 200;
    while script.state() == State::Established {
        script.run(&format!("+{interval}"));
        interval = (interval * 2).min(120_000);
        if script.state() == State::Established {
            script.run("> P. 1:11(10) ack 1");
        }
    }
    assert!(script.now - sent_at > Duration::from_secs(100));
    assert_eq!(script.connection.take_error(), Some(SocketError::TimedOut));
}

#[test]
fn path_is_doubted_after_three_retransmissions() {
    // RFC 9293 3.8.3 (MUST-20, SHLD-10): R1, when the layer below is asked to look for another way.
    let mut script = Script::established_with(config(), "mss 1000");
    script.write(10);
    script.run("> P. 1:11(10) ack 1\n+200\n> P. 1:11(10) ack 1\n+400\n> P. 1:11(10) ack 1");
    assert!(!script.connection.is_delivery_doubtful());
    script.run("+800\n> P. 1:11(10) ack 1");
    assert!(script.connection.is_delivery_doubtful());
    script.run("< . 1:1(0) ack 11");
    assert!(!script.connection.is_delivery_doubtful());
}

#[test]
fn refusal_of_an_opening_connection_depends_on_how_it_was_opened() {
    // RFC 9293 3.5 (MUST-11), 3.10.7.4: a reset in SYN-RECEIVED refuses the one who connects, even if the two have met.
    let mut script = Script::opening(config());
    script.run("> S 0:0(0)\n< S 0:0(0) win 3000 mss 1000\n> S. 0:0(0) ack 1");
    assert_eq!(script.state(), State::SynReceived);
    script.run("< R. 1:1(0) ack 1\n-");
    assert_eq!(
        script.connection.read(&mut [0; 1]),
        Err(SocketError::ConnectionRefused)
    );
}
