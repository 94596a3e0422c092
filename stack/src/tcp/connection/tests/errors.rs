//! What the application sees: errors, ends of stream, readiness (Linux's behaviour, RFC 5927).

use super::script::{Script, config};
use super::*;
use crate::error::SocketError;
use crate::stats::DropReason;
use crate::tcp::info::State;
use crate::transport::IcmpError;

#[test]
fn reset_is_told_once_and_then_the_stream_has_ended() {
    // RFC 9293 MUST-12.
    let mut script = Script::established();
    script.run("< P. 1:11(10) ack 1\n< R 11:11(0)");
    let readiness = script.connection.take_readiness();
    assert_eq!(
        readiness,
        Readiness::READABLE
            | Readiness::WRITABLE
            | Readiness::READ_CLOSED
            | Readiness::WRITE_CLOSED
            | Readiness::ERROR
    );
    let mut buffer = [0; 100];
    assert_eq!(script.connection.read(&mut buffer), Ok(10));
    assert_eq!(
        script.connection.read(&mut buffer),
        Err(SocketError::ConnectionReset)
    );
    assert_eq!(script.connection.read(&mut buffer), Ok(0));
    assert_eq!(script.connection.write(b"x"), Err(SocketError::BrokenPipe));
    assert_eq!(
        script.connection.shutdown_write(),
        Err(SocketError::NotConnected)
    );
}

#[test]
fn reset_is_told_by_the_first_write_as_well() {
    let mut script = Script::established();
    script.run("< R 1:1(0)");
    assert_eq!(
        script.connection.write(b"x"),
        Err(SocketError::ConnectionReset)
    );
    assert_eq!(script.connection.write(b"x"), Err(SocketError::BrokenPipe));
    assert_eq!(script.connection.read(&mut [0; 1]), Ok(0));
}

#[test]
fn reset_after_the_peers_fin_is_a_broken_pipe() {
    let mut script = Script::established();
    script.run("< F. 1:1(0) ack 1\n> . 1:1(0) ack 2\n< R 2:2(0)");
    assert_eq!(
        script.connection.read(&mut [0; 1]),
        Ok(0),
        "the stream had ended"
    );
    assert_eq!(script.connection.write(b"x"), Err(SocketError::BrokenPipe));
    assert_eq!(script.connection.take_error(), None);
}

#[test]
fn own_shutdown_makes_writes_fail_and_reading_goes_on() {
    // RFC 9293 MUST-12.
    let mut script = Script::established();
    script.connection.shutdown_write().unwrap();
    assert_eq!(script.connection.shutdown_write(), Ok(()));
    assert_eq!(script.connection.write(b"x"), Err(SocketError::BrokenPipe));
    script.run("> F. 1:1(0) ack 1\n< P. 1:11(10) ack 2\n+40\n> . 2:2(0) ack 11");
    assert_eq!(script.read_all(), 10);
    assert_eq!(
        script.connection.read(&mut [0; 1]),
        Err(SocketError::WouldBlock)
    );
}

#[test]
fn shut_read_side_ends_the_stream_after_what_has_arrived() {
    let mut script = Script::established();
    script.run("< P. 1:11(10) ack 1\n+40\n> . 1:1(0) ack 11");
    script.connection.take_readiness();
    script.connection.shutdown_read();
    assert_eq!(
        script.connection.take_readiness(),
        Readiness::READABLE | Readiness::READ_CLOSED
    );
    assert_eq!(script.read_all(), 10);
    assert_eq!(script.connection.read(&mut [0; 1]), Ok(0));
    script.write(1);
    script.run("> P. 1:2(1) ack 11\n< . 11:11(0) ack 2");
}

#[test]
fn writer_is_woken_when_a_third_of_the_buffer_is_free() {
    let mut script = Script::established();
    script.connection.set_send_buffer(9000);
    assert_eq!(script.connection.write(&[0; 10_000]), Ok(9000));
    assert_eq!(script.connection.write(b"x"), Err(SocketError::WouldBlock));
    assert_eq!(script.take_output(), (9, 9000));
    script.connection.take_readiness();
    script.run("< . 1:1(0) ack 2001");
    assert_eq!(script.connection.take_readiness(), Readiness::NONE);
    script.run("< . 1:1(0) ack 3001");
    assert_eq!(script.connection.take_readiness(), Readiness::WRITABLE);
    script.run("< . 1:1(0) ack 9001");
    assert_eq!(
        script.connection.take_readiness(),
        Readiness::NONE,
        "nobody waits"
    );
}

#[test]
fn each_arrival_is_an_edge() {
    let mut script = Script::established();
    for i in 0..3 {
        script.run(&format!("< P. {}:{}(10) ack 1", i * 10 + 1, i * 10 + 11));
        assert_eq!(script.connection.take_readiness(), Readiness::READABLE);
        assert_eq!(script.connection.take_readiness(), Readiness::NONE);
    }
    script.run("+40\n> . 1:1(0) ack 31");
    script.run("< . 41:51(10) ack 1\n> . 1:1(0) ack 31");
    assert_eq!(
        script.connection.take_readiness(),
        Readiness::NONE,
        "a hole is not readable"
    );
}

#[test]
fn hard_icmp_error_refuses_only_an_opening_connection() {
    // RFC 9293 3.9.2.2 (SHLD-26); RFC 5927 5.2.
    let error = IcmpError::Refused(SocketError::ConnectionRefused);
    let mut script = Script::opening(config());
    script.run("> S 0:0(0)");
    let iss = script.connection.window.snd_una;
    assert_eq!(
        script.connection.handle_icmp(script.now, error, iss + 9),
        Err(DropReason::BadIcmp)
    );
    assert_eq!(
        script.state(),
        State::SynSent,
        "the number is not in flight (RFC 5927 4.1)"
    );
    assert_eq!(
        script.connection.handle_icmp(script.now, error, iss),
        Ok(())
    );
    assert_eq!(
        script.connection.take_error(),
        Some(SocketError::ConnectionRefused)
    );

    let mut script = Script::established();
    script.write(10);
    script.run("> P. 1:11(10) ack 1");
    let una = script.connection.window.snd_una;
    assert_eq!(
        script.connection.handle_icmp(script.now, error, una),
        Ok(())
    );
    assert_eq!(script.state(), State::Established);
    script.run("< . 1:1(0) ack 11");
}

#[test]
fn stray_segments_get_resets_with_the_right_numbers() {
    // RFC 9293 3.5.2 group 1, 3.10.7.1.
    let header = |flags, sequence, acknowledgment| Header {
        flags,
        sequence,
        acknowledgment,
        ..Header::default()
    };
    let with_ack = segment(header(Flags::ACK, 5, 900), b"data");
    let reply = reset_reply(tuple(), &with_ack).unwrap().header;
    assert_eq!(
        (reply.flags, reply.sequence, reply.acknowledgment),
        (Flags::RST, 900, 0)
    );
    assert_eq!((reply.source_port, reply.destination_port), (4000, 80));
    let syn = segment(header(Flags::SYN, 5, 0), b"data");
    let reply = reset_reply(tuple(), &syn).unwrap().header;
    assert_eq!(
        (reply.flags, reply.sequence, reply.acknowledgment),
        (Flags::RST | Flags::ACK, 0, 10)
    );
    let reset = segment(header(Flags::RST | Flags::ACK, 5, 900), b"");
    assert!(
        reset_reply(tuple(), &reset).is_none(),
        "a reset is never answered"
    );
}
