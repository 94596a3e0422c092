//! Socket options that change what is sent and when.

use super::script::{Script, config};
use super::*;
use crate::tcp::info::State;

fn set(script: &mut Script, change: impl FnOnce(&mut SocketOptions)) {
    script.connection.change_options(script.now, change);
}

#[test]
fn cork_holds_less_than_a_segment_for_200_ms() {
    // tcp(7), TCP_CORK: "there is a 200 millisecond ceiling on the time for which output is corked".
    let mut script = Script::established();
    set(&mut script, |options| options.cork = true);
    script.write(300);
    script.run("+199\n-");
    script.write(300);
    script.run("-\n+1\n> P. 1:601(600) ack 1");
    // Full segments go at once; the rest waits from the time when all before it is acknowledged.
    script.write(1400);
    script.run("> . 601:1601(1000) ack 1\n+150\n-\n< . 1:1(0) ack 1601\n+199\n-\n+1");
    script.run("> P. 1601:2001(400) ack 1\n< . 1:1(0) ack 2001\n+1000\n-");
    assert_eq!(script.connection.info().timeouts, 0);
}

#[test]
fn pulling_the_cork_or_closing_sends_the_rest() {
    let mut script = Script::established();
    set(&mut script, |options| options.cork = true);
    script.write(300);
    script.run("-");
    set(&mut script, |options| options.cork = false);
    script.run("> P. 1:301(300) ack 1\n< . 1:1(0) ack 301");
    set(&mut script, |options| options.cork = true);
    script.write(300);
    script.run("-");
    script.connection.shutdown_write().unwrap();
    script.run("> FP. 301:601(300) ack 1");
}

#[test]
fn corked_data_behind_a_closed_window_is_probed_for() {
    // RFC 9293 3.8.6.1 (MUST-36): the cork's timer is the persist timer, which still finds windows open.
    let mut script = Script::established();
    script.write(1000);
    script.run("> P. 1:1001(1000) ack 1\n< . 1:1(0) ack 1001 win 0");
    set(&mut script, |options| options.cork = true);
    script.write(1500);
    script.run("+200\n> . 1000:1000(0) ack 1");
    script.run("< . 1:1(0) ack 1001 win 5000\n> . 1001:2001(1000) ack 1");
}

#[test]
fn unsent_data_is_limited_and_half_of_it_wakes_the_writer() {
    // TCP_NOTSENT_LOWAT: a write takes no more than the limit leaves, a writer hears of it below half, as with Linux.
    let mut script = Script::established();
    set(&mut script, |options| options.notsent_lowat = Some(4000));
    script.connection.take_readiness();
    let data = [0; 60_000];
    // Nothing has been sent yet; then the initial window takes it, and the writer is told without any ACK.
    assert_eq!(script.connection.write(&data), Ok(4000));
    assert_eq!(script.connection.write(&data), Err(SocketError::WouldBlock));
    assert_eq!(script.take_output(), (4, 4000));
    assert_eq!(script.connection.take_readiness(), Readiness::WRITABLE);
    assert_eq!(script.connection.write(&data), Ok(4000));
    assert_eq!(script.connection.write(&data), Err(SocketError::WouldBlock));
    assert_eq!(script.take_output(), (4, 4000));
    assert_eq!(script.connection.take_readiness(), Readiness::WRITABLE);
    // Ten segments are in flight, the window is full: two go, two stay.
    assert_eq!(script.connection.write(&data), Ok(4000));
    assert_eq!(script.take_output(), (2, 2000));
    assert_eq!(script.connection.take_readiness(), Readiness::NONE);
    assert_eq!(script.connection.info().not_sent, 2000);
    script.run("< . 1:1(0) ack 1001");
    assert!(script.take_output().0 > 0);
    assert_eq!(script.connection.take_readiness(), Readiness::WRITABLE);
}

#[test]
fn keepalive_follows_its_own_times_and_count() {
    // TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT.
    let mut script = Script::established();
    set(&mut script, |options| {
        options.keepalive = true;
        options.keepalive_idle = Some(ms(5000));
        options.keepalive_interval = Some(ms(2000));
        options.keepalive_probes = Some(2);
    });
    script.run("+4999\n-\n+1\n> . 0:0(0) ack 1\n+2000\n> . 0:0(0) ack 1\n+1999\n-\n+1");
    script.run("> R. 1:1(0) ack 1");
    assert_eq!(script.connection.take_error(), Some(SocketError::TimedOut));
}

#[test]
fn user_timeout_stands_for_the_number_of_probes() {
    // Linux's tcp_keepalive_timer: with TCP_USER_TIMEOUT, silence for as long ends the connection at the next probe.
    let mut script = Script::established();
    set(&mut script, |options| {
        options.keepalive = true;
        options.keepalive_idle = Some(ms(5000));
        options.keepalive_interval = Some(ms(1000));
        options.keepalive_probes = Some(1);
        options.user_timeout = Some(ms(7000));
    });
    script.run("+5000\n> . 0:0(0) ack 1\n+1000\n> . 0:0(0) ack 1\n+1000\n> R. 1:1(0) ack 1");
    assert_eq!(script.connection.take_error(), Some(SocketError::TimedOut));
}

#[test]
fn controller_changes_under_way_with_the_window_it_has() {
    let mut script = Script::established();
    script.write(10_000);
    assert_eq!(script.take_output(), (10, 10_000));
    script.run("+50\n< . 1:1(0) ack 10001");
    let before = script.connection.info();
    assert_eq!(before.congestion_control, "reno");
    set(&mut script, |options| {
        options.congestion_control = Some(CongestionControl::Cubic);
    });
    let after = script.connection.info();
    assert_eq!(after.congestion_control, "cubic");
    assert_eq!((after.cwnd, after.ssthresh), (before.cwnd, before.ssthresh));
}

#[test]
fn own_maximum_segment_size_is_announced_and_kept() {
    // TCP_MAXSEG; RFC 9293 3.7.1: a peer's larger one does not change what the user wants.
    let config = Arc::new(config());
    let options = SocketOptions {
        max_mss: Some(500),
        ..SocketOptions::default()
    };
    let now = Instant::from_millis(10_000);
    let mut connection = Connection::open(
        now,
        OpenParameters {
            config,
            options: Arc::new(options),
            tuple: tuple(),
            iss: SeqNum(u32::MAX - 500),
            timestamp_offset: 0,
            path_mtu: MTU,
        },
    );
    let syn = connection.poll_transmit(now, &limits(0)).unwrap();
    assert_eq!(syn.header.options.mss, Some(500));
    let (syn_ack, _) = answer_syn(now, &Arc::new(Config::default()), &arrive(syn), 7);
    connection.handle_segment(now, syn_ack).unwrap();
    connection.poll_transmit(now, &limits(0)).unwrap();
    // Timestamps take their octets from the segment.
    assert_eq!(connection.info().mss, 488);
}

#[test]
fn fin_wait_2_of_an_orphan_lasts_as_long_as_it_wants() {
    // TCP_LINGER2.
    let mut script = Script::established();
    set(&mut script, |options| options.fin_wait_2 = Some(ms(3000)));
    script.connection.close(script.now);
    script.run("> F. 1:1(0) ack 1\n< . 1:1(0) ack 2\n+2999");
    assert_eq!(script.state(), State::FinWait2);
    script.run("+1");
    assert_eq!(script.state(), State::Closed);
}
