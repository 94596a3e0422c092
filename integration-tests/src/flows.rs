//! Bulk flows that share a path between two engines on an event heap: what each of them gets.

use std::sync::Arc;
use std::time::Duration;

use tidewire::config::Config;
use tidewire::engine::TcpSlot;

use crate::world::{LinkConfig, Side, World, read, write};

/// Runs `count` flows from A to B over `link` at once and gives what each delivered in `measured` of virtual time after
/// `warm_up`, in bits per second.
///
/// # Panics
/// When a flow fails or does not come about.
pub fn goodputs(
    link: &LinkConfig,
    config: Config,
    count: usize,
    warm_up: Duration,
    measured: Duration,
) -> Vec<f64> {
    let mut world = World::with_config(link, config);
    let listener = world.listen(Side::B, false, 80).expect("the port is free");
    let connect = |_| world.connect(false, 80).expect("B is reachable");
    let clients: Vec<Arc<TcpSlot>> = (0..count).map(connect).collect();
    let mut servers = Vec::new();
    let connected = world.run_until(Duration::from_secs(60), |world| {
        while let Ok((server, _)) = world.engine(Side::B).tcp_accept(&listener) {
            servers.push(server);
        }
        servers.len() == count
    });
    assert!(connected, "{} of {count} flows came about", servers.len());
    let chunk = vec![0x5a; CHUNK];
    let mut received = vec![0u64; count];
    let mut scratch = Vec::new();
    let mut run = |world: &mut World, time: Duration, received: &mut [u64]| {
        let end = world.now + time;
        world.run_until(time, |world| {
            for client in &clients {
                while write(world.engine(Side::A), client, &chunk) == CHUNK {}
            }
            for (server, received) in servers.iter().zip(received.iter_mut()) {
                assert!(!read(world.engine(Side::B), server, &mut scratch));
                *received += scratch.len() as u64;
                scratch.clear();
            }
            world.flush();
            world.now >= end
        });
    };
    run(&mut world, warm_up, &mut received);
    received.fill(0);
    run(&mut world, measured, &mut received);
    let rate = |octets: &u64| *octets as f64 * 8.0 / measured.as_secs_f64();
    received.iter().map(rate).collect()
}

/// Jain's index of fairness: 1 when all have the same, 1 / n when one has everything.
pub fn fairness(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (shares.len() as f64 * squares)
}

/// Octets of a write.
const CHUNK: usize = 65_536;
