//! What a connection tells about itself: each figure after an exchange that is known to the octet.

use super::script::{Script, config};
use super::*;
use crate::tcp::info::CongestionState;

/// An established connection with SACK and an MSS of 1000 over a path of 100 ms.
fn far() -> Script {
    let mut script = Script::opening(config());
    script.run("> S 0:0(0)\n+100\n< S. 0:0(0) ack 1 win 60000 mss 1000 sackok\n> . 1:1(0) ack 1");
    script
}

#[test]
fn flight_is_told_as_unacked_sacked_lost_and_retransmitted() {
    let mut script = far();
    script.write(10_000);
    assert_eq!(script.take_output(), (10, 10_000));
    let info = script.connection.info();
    assert_eq!(info.congestion_state, CongestionState::Open);
    assert_eq!((info.unacked, info.bytes_in_flight), (10_000, 10_000));
    // Two of ten: what is missing may be late only.
    script.run("+100\n< . 1:1(0) ack 1 sack 1001:3001");
    let info = script.connection.info();
    assert_eq!(info.congestion_state, CongestionState::Disorder);
    assert_eq!((info.sacked, info.lost, info.retransmitted), (2000, 0, 0));
    assert!(info.reordering_window > Duration::ZERO);
    script.run("< . 1:1(0) ack 1 sack 1001:4001\n> . 1:1001(1000) ack 1");
    let info = script.connection.info();
    assert_eq!(info.congestion_state, CongestionState::Recovery);
    assert_eq!(
        (info.sacked, info.lost, info.retransmitted),
        (3000, 1000, 1000)
    );
    assert_eq!((info.retransmits, info.bytes_retransmitted), (1, 1000));
    assert_eq!((info.data_segments_sent, info.bytes_sent), (11, 11_000));
    // SYN, ACK of the SYN-ACK, and the data.
    assert_eq!((info.segments_sent, info.segments_received), (13, 3));
    script.run("+100\n< . 1:1(0) ack 10001");
    let info = script.connection.info();
    assert_eq!(info.congestion_state, CongestionState::Open);
    assert_eq!((info.unacked, info.sacked, info.lost), (0, 0, 0));
}

#[test]
fn timeouts_are_told_as_attempts_backoff_and_series() {
    let mut config = config();
    config.tail_loss_probe = false;
    let mut script = Script::opening(config);
    script.run("> S 0:0(0)\n+100\n< S. 0:0(0) ack 1 win 60000 mss 1000 sackok\n> . 1:1(0) ack 1");
    script.write(1000);
    script.run("> P. 1:1001(1000) ack 1\n+300\n> P. 1:1001(1000) ack 1\n+600");
    script.run("> P. 1:1001(1000) ack 1");
    let info = script.connection.info();
    assert_eq!(info.congestion_state, CongestionState::Loss);
    assert_eq!((info.retransmit_attempts, info.backoff), (2, 2));
    assert_eq!((info.timeouts, info.timeout_recoveries), (2, 1));
    script.run("< . 1:1(0) ack 1001");
    let info = script.connection.info();
    assert_eq!((info.retransmit_attempts, info.timeouts), (0, 2));
    script.write(1000);
    script.run("> P. 1001:2001(1000) ack 1");
    // Without a sample the backoff stays (Karn).
    assert_eq!(script.connection.info().backoff, 2);
    script.run("+100\n< . 1:1(0) ack 2001");
    assert_eq!(script.connection.info().backoff, 0);
}

#[test]
fn receive_side_counts_segments_holes_and_sizes() {
    let mut script = far();
    script.run("+50\n< . 1:1201(1200) ack 1 seg 600\n> . 1:1(0) ack 1201\n+40");
    script.run("< . 1801:2401(600) ack 1\n> . 1:1(0) ack 1201 sack 1801:2401");
    let info = script.connection.info();
    assert_eq!((info.data_segments_received, info.out_of_order), (3, 1));
    assert_eq!((info.bytes_received, info.receive_buffered), (1200, 1200));
    assert_eq!((info.receive_mss, info.advertised_mss), (600, 1460));
    assert_eq!((info.mss, info.path_mtu), (1000, 1500));
    let later = script.now + ms(25);
    let info = script.connection.info_at(later);
    assert_eq!(info.last_data_received, Some(ms(65)));
    assert_eq!(info.last_ack_received, ms(25));
    assert_eq!(info.delayed_ack, ms(40));
}

#[test]
fn time_of_sending_is_booked_on_what_it_waits_for() {
    // Linux's tcp_chrono: busy while anything is in flight or unsent, the peer's window and the own buffer apart.
    let mut script = Script::established();
    script.connection.set_send_buffer(2000);
    script.run("+500");
    script.write(500);
    script.run("> P. 1:501(500) ack 1\n+30\n< . 1:1(0) ack 501 win 0");
    script.write(100);
    script.run("+100\n< . 1:1(0) ack 501 win 50000\n> P. 501:601(100) ack 1");
    script.run("+20\n< . 1:1(0) ack 601");
    let times = |script: &Script| {
        let info = script.connection.info_at(script.now);
        (
            info.busy_time,
            info.receive_window_limited,
            info.send_buffer_limited,
        )
    };
    assert_eq!(times(&script), (ms(150), ms(100), ms(0)));
    // Idle time counts nowhere.
    script.run("+1000");
    assert_eq!(times(&script), (ms(150), ms(100), ms(0)));
    let data = vec![0; 3000];
    assert_eq!(script.connection.write(&data), Ok(2000));
    assert_eq!(script.take_output(), (2, 2000));
    assert_eq!(script.connection.info().not_sent, 0);
    script.run("+70");
    assert_eq!(times(&script), (ms(220), ms(100), ms(70)));
    script.run("< . 1:1(0) ack 2601\n+5");
    assert_eq!(times(&script), (ms(220), ms(100), ms(70)));
}
