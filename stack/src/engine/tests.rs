//! What only several threads meet, brought about by holding their locks.

use std::collections::VecDeque;
use std::io;

use tidewire_netdev::Packet;

use super::*;
use crate::transport::ports::BindRequest;

mod ethernet;
mod flow_label;
mod forwarding;
mod host_model;
mod icmp;
mod multicast;
mod own_addresses;
mod rarp;
mod router_discovery;

/// No interface takes anything.
pub(super) struct NoDevices;

impl Ports for NoDevices {
    fn try_transmit(&self, _: InterfaceId, _: usize, _: &mut VecDeque<Packet>) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }
}

#[test]
fn datagrams_sent_faster_than_another_thread_delivers_them_stay_in_their_socket() {
    let engine = Engine::new(Config {
        seed: Some(1),
        ..Config::default()
    });
    let bind = |address: &str| {
        let request = BindRequest::new(address.parse().unwrap());
        engine.udp_bind(&request).unwrap()
    };
    let (sender, receiver) = (bind("127.0.0.1:1"), bind("127.0.0.1:2"));
    let mut wakes = WakeList::new();
    let mut sent = 0;
    let deliverer = lock(&engine.shards[0].delivering);
    let refusal = loop {
        let to = "127.0.0.1:2".parse().unwrap();
        match engine.udp_send(Instant::ZERO, &sender, b"datagram", Some(to)) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
        engine.flush(Instant::ZERO, &NoDevices, &mut wakes);
        assert!(sent < 1_000_000, "nothing holds the sender back");
    };
    assert_eq!(refusal, SocketError::WouldBlock);
    let waiting = lock(&engine.shards[0].loopback).len();
    assert!(waiting <= 2048, "{waiting} packets wait");
    drop(deliverer);
    while engine.flush(Instant::ZERO, &NoDevices, &mut wakes) == FlushOutcome::Unfinished {}
    assert!(!engine.has_ready());
    let statistics = receiver.lock().socket.socket.statistics();
    assert_eq!(statistics.received + statistics.dropped, sent);
    wakes.wake_all();
}

#[test]
fn who_delivers_to_own_addresses_does_not_do_so_for_ever() {
    let engine = Engine::new(Config {
        seed: Some(1),
        ..Config::default()
    });
    // Others have queued more than one call delivers.
    for _ in 0..10_000 {
        lock(&engine.shards[0].loopback).push_back(Packet::new());
    }
    let mut wakes = WakeList::new();
    let mut flushes = 1;
    while engine.flush(Instant::ZERO, &NoDevices, &mut wakes) == FlushOutcome::Unfinished {
        flushes += 1;
    }
    assert!((2..=4).contains(&flushes), "{flushes} flushes");
    assert_eq!(engine.stats().packets_received, 10_000);
    wakes.wake_all();
}
