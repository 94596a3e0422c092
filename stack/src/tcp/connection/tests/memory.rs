//! What a connection does when the stack's memory is short.

use super::script::Script;
use super::*;
use crate::stats::DropReason;
use crate::transport::memory::{MemoryBudget, Pressure};

/// An established connection with SACK, and an account that uses up `used` of a megabyte of memory.
fn beside(used: usize) -> (Script, Arc<MemoryBudget>, MemoryAccount) {
    beside_with(super::script::config(), used)
}

fn beside_with(config: Config, used: usize) -> (Script, Arc<MemoryBudget>, MemoryAccount) {
    let mut script = Script::established_with(config, "mss 1000 sackok");
    let budget = Arc::new(MemoryBudget::new(Some(1 << 20)));
    script.connection.charge_to(Arc::clone(&budget));
    let mut other = MemoryAccount::new(Arc::clone(&budget));
    other.settle(used);
    (script, budget, other)
}

/// More than a megabyte.
const ALL: usize = 1_100_000;
/// More than three quarters of it.
const MOST: usize = 850_000;

#[test]
fn exhausted_memory_prunes_what_is_out_of_order_and_then_refuses() {
    // As Linux's tcp_prune_ofo_queue; a receiver may renege (RFC 2018 8).
    let (mut script, budget, mut other) = beside(0);
    script.run("< . 1001:2001(1000) ack 1\n> . 1:1(0) ack 1 sack 1001:2001");
    script.run("< . 3001:4001(1000) ack 1\n> . 1:1(0) ack 1 sack 3001:4001,1001:2001");
    other.settle(ALL);
    // Out of order: nothing is kept of it.
    script.run("< . 5001:6001(1000) ack 1\n> . 1:1(0) ack 1");
    assert_eq!(script.last, Err(DropReason::MemoryExhausted));
    assert_eq!(budget.stats().pruned, 1000);
    // In order, for an empty buffer: taken, but what waited behind it makes way.
    script.run("< . 1:1001(1000) ack 1\n+40\n> . 1:1(0) ack 1001");
    assert_eq!(script.connection.receive_buffered(), 1000);
    assert_eq!(budget.stats().pruned, 2000);
    // There is something to read now, so no more is taken, whatever the window permits.
    script.run("< . 1001:2001(1000) ack 1\n> . 1:1(0) ack 1001");
    assert_eq!(script.last, Err(DropReason::MemoryExhausted));
    assert_eq!(script.read_all(), 1000);
    // Of more than a little only a little is kept.
    script.run("< . 1001:5001(4000) ack 1 seg 1000\n> . 1:1(0) ack 3049");
    assert_eq!(script.read_all(), 2048);
}

#[test]
fn short_memory_reopens_no_window_and_takes_nothing_back() {
    // RFC 9293 3.8.6 (SHLD-14): the right edge stays where it is, and moves on when there is memory again.
    let mut config = super::script::config();
    config.receive_buffer = 40_000;
    let (mut script, _budget, mut other) = beside_with(config, MOST);
    let edge = |script: &Script| {
        let info = script.connection.info();
        info.bytes_received as usize + info.receive_window
    };
    assert_eq!(edge(&script), 40_000);
    for at in (1..39_000).step_by(1000) {
        script.run_batch(&format!("< . {at}:{}(1000) ack 1", at + 1000));
        assert_eq!(script.last, Ok(()), "what was promised is kept");
    }
    script.take_output();
    assert_eq!(edge(&script), 40_000);
    // There is room in the buffer, but the stack has none to promise.
    assert_eq!(script.connection.read(&mut [0; 10_000]), Ok(10_000));
    script.take_output();
    assert!(edge(&script) <= 39_000 + 4 * 1460, "{}", edge(&script));
    other.settle(0);
    assert_eq!(script.read_all(), 29_000);
    script.take_output();
    assert_eq!(edge(&script), 79_000);
}

#[test]
fn buffers_do_not_grow_while_memory_is_short() {
    let (mut script, budget, other) = beside(MOST);
    assert_eq!(budget.pressure(), Pressure::Moderate);
    script.connection.congestion.set_cwnd(1 << 20);
    assert_eq!(script.connection.info().send_buffer, 128 << 10);
    drop(other);
    // 512 KiB, in whole super-packets.
    assert_eq!(script.connection.info().send_buffer, 8 * 65_000);
}

#[test]
fn writers_always_get_a_little_memory() {
    let (mut script, budget, _other) = beside(ALL);
    let used = budget.stats().used;
    let data = [0; 100_000];
    assert_eq!(script.connection.write(&data), Ok(2048));
    assert_eq!(script.connection.write(&data), Err(SocketError::WouldBlock));
    assert_eq!(budget.stats().used, used, "it was reserved");
    assert_eq!(script.take_output().1, 2048);
    script.connection.take_readiness();
    script.run("< . 1:1(0) ack 2049");
    assert!(
        script
            .connection
            .take_readiness()
            .contains(Readiness::WRITABLE)
    );
    assert_eq!(script.connection.write(&data), Ok(2048));
    script.take_output();
}
