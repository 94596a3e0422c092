//! Two connections over a virtual wire: whatever the wire does, every octet arrives once and in order, and both ends
//! come to rest.

use super::wire::{Impairment, Wire};
use super::*;
use crate::tcp::config::CongestionControl;

fn plain() -> [Config; 2] {
    [Config::default(), Config::default()]
}

#[test]
fn opens_transfers_and_closes() {
    let mut wire = Wire::connected(plain(), Impairment::none(ms(10)), 0, 1);
    wire.transfer(100_000, 50_000);
    wire.run_to_completion(Duration::from_secs(5));
    assert_eq!(wire.ends[0].info().retransmits, 0);
    assert_eq!(wire.ends[0].info().bytes_acked, 100_000);
}

#[test]
fn super_packets_carry_the_same_bytes() {
    let mut wire = Wire::connected(plain(), Impairment::none(ms(10)), 65_000, 1);
    wire.transfer(5_000_000, 3_000_000);
    wire.run_to_completion(Duration::from_secs(10));
    assert_eq!(wire.ends[0].info().retransmits, 0);
}

#[test]
fn all_octets_arrive_through_loss_reordering_and_duplication() {
    for (loss, duplication, reordering) in [
        (10, 0, 0),
        (50, 0, 0),
        (100, 20, 50),
        (200, 0, 0),
        (0, 100, 300),
    ] {
        for (super_payload, sack, timestamps) in [
            (65_000, true, true),
            (0, true, false),
            (65_000, false, false),
            (0, false, true),
        ] {
            for seed in 0..3 {
                let config = Config {
                    sack,
                    timestamps,
                    congestion_control: if seed == 0 {
                        CongestionControl::NewReno
                    } else {
                        CongestionControl::Cubic
                    },
                    ..Config::default()
                };
                let impairment = Impairment {
                    delay: ms(20),
                    loss,
                    duplication,
                    reordering,
                };
                let configs = [config, Config::default()];
                let mut wire = Wire::connected(configs, impairment, super_payload, seed);
                wire.transfer(300_000, 200_000);
                wire.run_to_completion(Duration::from_secs(3600));
            }
        }
    }
}

#[test]
fn idle_connection_owns_no_buffers_after_a_transfer() {
    // DESIGN of memory: 10,000 idle connections must cost next to nothing.
    let impairment = Impairment {
        loss: 20,
        ..Impairment::none(ms(10))
    };
    let mut wire = Wire::connected(plain(), impairment, 65_000, 3);
    wire.transfer(1_000_000, 1_000_000);
    for app in &mut wire.apps {
        app.shut = false;
    }
    wire.run_until(Duration::from_secs(600), |wire| {
        wire.apps.iter().all(|app| app.read == 1_000_000)
            && wire.ends.iter().all(|end| end.poll_timeout().is_none())
    });
    for end in &wire.ends {
        assert!(!end.owns_buffers(), "{end:?}");
    }
}

/// Between two ends `delay` apart, A has `octets` to send; how much A holds and B offers at most meanwhile.
fn largest_buffers(delay: Duration, config: [Config; 2], octets: usize) -> (usize, usize) {
    let mut wire = Wire::connected(config, Impairment::none(delay), 65_000, 1);
    wire.transfer(octets, 0);
    let (mut sent, mut offered) = (0, 0);
    wire.run_until(Duration::from_secs(600), |wire| {
        sent = sent.max(wire.ends[0].info().send_buffered);
        offered = offered.max(wire.ends[1].info().receive_window);
        wire.apps[1].read == octets
    });
    (sent, offered)
}

#[test]
fn buffers_grow_with_what_the_path_carries() {
    // A window must hold what is sent in a round trip, or it limits the sender (RFC 7323 1.1); more keeps data out of the
    // cache on short paths. These have no rate, so the limits are what ends growth.
    for (delay, octets, send, receive) in [
        (Duration::from_micros(10), 30 << 20, 512 << 10, 6 << 20),
        (Duration::from_micros(600), 30 << 20, 5 << 20, 6 << 20),
        (ms(50), 120 << 20, 32 << 20, 32 << 20),
    ] {
        let (sent, offered) = largest_buffers(delay, plain(), octets);
        println!("{delay:?}: {sent} sent, {offered} offered");
        assert!(sent <= send, "{delay:?}: {sent} octets to be sent");
        assert!(offered <= receive, "{delay:?}: a window of {offered}");
        assert!(sent >= send / 4, "{delay:?}: {sent} octets to be sent");
        if delay > ms(1) {
            assert!(offered >= receive / 2, "{delay:?}: a window of {offered}");
        }
    }
}

#[test]
fn sizes_that_a_socket_has_set_do_not_grow() {
    // As Linux: SO_SNDBUF and SO_RCVBUF turn autotuning off.
    let mut wire = Wire::connected(plain(), Impairment::none(ms(20)), 65_000, 1);
    wire.ends[0].set_send_buffer(300_000);
    wire.ends[1].set_receive_buffer(200_000);
    wire.transfer(20_000_000, 0);
    let (mut sent, mut offered) = (0, 0);
    wire.run_until(Duration::from_secs(600), |wire| {
        sent = sent.max(wire.ends[0].info().send_buffered);
        offered = offered.max(wire.ends[1].info().receive_window);
        wire.apps[1].read == 20_000_000
    });
    assert_eq!(sent, 300_000);
    assert!((150_000..=201_024).contains(&offered), "{offered}");
}

#[test]
fn a_reader_that_does_not_read_gets_no_larger_buffer() {
    let mut wire = Wire::connected(plain(), Impairment::none(ms(20)), 65_000, 1);
    wire.transfer(20_000_000, 0);
    wire.apps[1].read_size = 0;
    let end = wire.now + Duration::from_secs(10);
    wire.run_until(Duration::from_secs(600), |wire| wire.now >= end);
    let info = wire.ends[1].info();
    assert_eq!(info.receive_buffer, 128 << 10);
    assert!(
        info.receive_buffered <= 160 << 10,
        "{}",
        info.receive_buffered
    );
}

#[test]
fn round_trips_longer_than_any_near_path_make_room_for_a_large_send_buffer() {
    // The path has become another one: its smallest round trip says nothing any more.
    let near = Impairment::none(Duration::from_micros(20));
    let mut wire = Wire::connected(plain(), near, 65_000, 1);
    wire.transfer(400_000_000, 0);
    wire.run_until(ms(1), |wire| wire.ends[0].info().bytes_acked > 2_000_000);
    assert!(wire.ends[0].info().send_buffered <= 512 << 10);
    wire.impairment.delay = ms(30);
    wire.run_until(Duration::from_secs(10), |wire| {
        wire.ends[0].info().send_buffered > 1 << 20
    });
}
