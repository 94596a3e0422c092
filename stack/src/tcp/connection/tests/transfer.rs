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

#[test]
fn send_buffer_grows_with_the_round_trip_of_the_path() {
    // Too short a buffer would starve a long path; too long a one only keeps data out of the cache.
    let us = Duration::from_micros;
    for (delay, room) in [
        (us(10), 512 << 10),
        (us(250), 2_000_000),
        (us(600), 4 << 20),
        (ms(7), 4 << 20),
        (ms(100), 4 << 20),
    ] {
        let mut wire = Wire::connected(plain(), Impairment::none(delay), 65_000, 1);
        let sender = &mut wire.ends[0];
        assert_eq!(sender.write(&vec![0; 8 << 20]), Ok(room), "{delay:?}");
        sender.set_send_buffer(5 << 20);
        assert_eq!(sender.write(&vec![0; 8 << 20]), Ok((5 << 20) - room));
    }
}

#[test]
fn round_trips_longer_than_any_near_path_make_room_for_a_full_send_buffer() {
    // The path has become another one: its smallest round trip says nothing any more.
    let near = Impairment::none(Duration::from_micros(20));
    let mut wire = Wire::connected(plain(), near, 65_000, 1);
    wire.transfer(40_000_000, 0);
    wire.run_until(ms(1), |wire| wire.ends[0].info().bytes_acked > 2_000_000);
    assert!(wire.ends[0].info().send_buffered <= 512 << 10);
    wire.impairment.delay = ms(30);
    wire.run_until(Duration::from_secs(10), |wire| {
        wire.ends[0].info().send_buffered > 3 << 20
    });
}
