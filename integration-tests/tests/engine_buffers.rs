//! Buffers between two whole engines on an event heap: they grow with the path, and no further than memory allows.

use std::time::Duration;

use tidewire_integration_tests::world::{LinkConfig, Side, World, read, write};
use tidewire_netdev::memory::impairment::ImpairmentConfig;

/// Octets that arrive in `measured` after `warm_up`, from a sender with always something to send.
fn throughput(link: &LinkConfig, warm_up: Duration, measured: Duration) -> f64 {
    let mut world = World::new(link);
    let (client, server) = world.connected(false, Duration::from_secs(5));
    let data = vec![7; 1 << 20];
    let mut received = Vec::new();
    let mut total = 0;
    let mut run = |world: &mut World, time: Duration| {
        let (end, before) = (world.now + time, total);
        world.run_until(time * 2, |world| {
            while write(world.engine(Side::A), &client, &data) > 0 {}
            read(world.engine(Side::B), &server, &mut received);
            total += received.len();
            received.clear();
            world.flush();
            world.now >= end
        });
        total - before
    };
    run(&mut world, warm_up);
    run(&mut world, measured) as f64 / measured.as_secs_f64()
}

#[test]
fn default_buffers_fill_a_gigabit_over_100_ms() {
    // RFC 7323 1.1: the window must hold the bandwidth-delay product, 12.5 MB, and more while it grows.
    let path =
        ImpairmentConfig::delay(Duration::from_millis(50)).with_rate(1_000_000_000, 64 << 20);
    let link = LinkConfig {
        impairment: path,
        ..LinkConfig::default()
    };
    let rate = throughput(&link, Duration::from_secs(3), Duration::from_secs(2));
    println!("{:.1} MB/s", rate / 1e6);
    assert!(rate >= 0.9 * 125e6, "{:.1} MB/s", rate / 1e6);
}

#[test]
fn buffers_of_a_slow_path_stay_small() {
    // 10 Mbit/s over 20 ms hold 25 kB: a buffer of megabytes would be delay and memory only.
    let path = ImpairmentConfig::delay(Duration::from_millis(10)).with_rate(10_000_000, 50_000);
    let link = LinkConfig {
        impairment: path,
        ..LinkConfig::default()
    };
    let mut world = World::new(&link);
    let (client, server) = world.connected(false, Duration::from_secs(5));
    let data = vec![7; 1 << 20];
    let mut received = Vec::new();
    let end = world.now + Duration::from_secs(10);
    world.run_until(Duration::from_secs(20), |world| {
        while write(world.engine(Side::A), &client, &data) > 0 {}
        read(world.engine(Side::B), &server, &mut received);
        received.clear();
        world.flush();
        world.now >= end
    });
    let sent = client.lock().socket.connection.info();
    let got = server.lock().socket.connection.info();
    assert!(sent.send_buffer <= 512 << 10, "{}", sent.send_buffer);
    // What a hole held back is read at once, which looks like a faster path.
    assert!(got.receive_buffer <= 4 << 20, "{}", got.receive_buffer);
}
