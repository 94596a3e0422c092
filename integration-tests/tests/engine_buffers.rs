//! Buffers between two whole engines on an event heap: they grow with the path, and no further than memory allows.

use std::sync::Arc;
use std::time::Duration;

use tidewire::config::Config;
use tidewire::engine::{TcpSlot, WakeList};
use tidewire_integration_tests::bodies::body;
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

/// What a stack may use in the tests of scarce memory.
const MEMORY: usize = 32 << 20;
/// What may go beyond it: the segment or the write that was let in last, rounded up.
const OVERSHOOT: usize = 256 << 10;

fn scarce() -> Config {
    let mut config = Config::default();
    config.host.tcp_memory = Some(MEMORY);
    config
}

/// Lets that much time pass, whatever happens in it.
fn advance(world: &mut World, time: Duration) {
    let end = world.now + time;
    world.run_until(time, |_| false);
    world.now = end;
}

/// What the stack holds of a side's connections, as far as a connection tells it.
fn held(slots: &[Arc<TcpSlot>]) -> usize {
    let of = |slot: &Arc<TcpSlot>| {
        let info = slot.lock().socket.connection.info();
        info.receive_buffered + info.send_buffered
    };
    slots.iter().map(of).sum()
}

fn check_memory(world: &World, ends: &[Vec<Arc<TcpSlot>>; 2]) {
    for side in [Side::A, Side::B] {
        let used = world.engine(side).stats().tcp_memory.used;
        let held = held(&ends[side as usize]);
        assert!(
            used <= MEMORY + OVERSHOOT,
            "{side:?}: {used} octets charged"
        );
        assert!(held <= used, "{side:?}: {held} octets held, {used} charged");
    }
}

#[test]
fn a_thousand_connections_that_nobody_reads_stay_within_the_memory_there_is() {
    // Linux's tcp_mem: nobody reads, so each peer would fill its window; later everything arrives all the same.
    const CONNECTIONS: usize = 1000;
    const OCTETS: usize = 200_000;
    let mut world = World::with_config(&LinkConfig::default(), scarce());
    let mut ends = [Vec::new(), Vec::new()];
    for port in 0..CONNECTIONS as u16 {
        let listener = world.listen(Side::B, false, 1000 + port).expect("free");
        ends[0].push(world.connect(false, 1000 + port).expect("reachable"));
        let mut server = None;
        world.run_until(Duration::from_secs(5), |world| {
            server = world.engine(Side::B).tcp_accept(&listener).ok();
            server.is_some()
        });
        ends[1].push(server.expect("accepted").0);
        let mut wakes = WakeList::new();
        let now = world.now;
        world
            .engine(Side::B)
            .close_listener(now, &listener, &mut wakes);
    }
    let data = body(1, OCTETS);
    let mut sent = vec![0; CONNECTIONS];
    let write_all = |world: &World, ends: &[Vec<Arc<TcpSlot>>; 2], sent: &mut [usize]| {
        for (slot, sent) in ends[0].iter().zip(sent) {
            if *sent < OCTETS {
                *sent += write(world.engine(Side::A), slot, &data[*sent..]);
            }
        }
    };
    for _ in 0..20 {
        write_all(&world, &ends, &mut sent);
        advance(&mut world, Duration::from_millis(250));
        check_memory(&world, &ends);
    }
    let stats = world.engine(Side::B).stats();
    println!("{:?}", stats.tcp_memory);
    assert!(stats.tcp_memory.used > MEMORY / 2, "memory is put to use");
    assert!(stats.tcp_memory.pressures > 0);
    let arrived = held(&ends[1]);
    assert!(arrived > MEMORY / 3, "{arrived}");
    // Somebody reads at last: what was refused comes again.
    let mut received = vec![Vec::new(); CONNECTIONS];
    for _ in 0..2000 {
        write_all(&world, &ends, &mut sent);
        for (slot, into) in ends[1].iter().zip(&mut received) {
            read(world.engine(Side::B), slot, into);
        }
        advance(&mut world, Duration::from_millis(250));
        check_memory(&world, &ends);
        if received.iter().all(|received| received.len() == OCTETS) {
            break;
        }
    }
    let late: Vec<_> = received.iter().filter(|got| got.len() < OCTETS).collect();
    assert!(late.is_empty(), "{} connections wait", late.len());
    assert!(received.iter().all(|received| *received == data));
    // What is closed gives all back.
    let now = world.now;
    let mut wakes = WakeList::new();
    for side in [Side::A, Side::B] {
        for slot in ends[side as usize].drain(..) {
            world.engine(side).close_tcp(now, &slot, &mut wakes);
        }
    }
    world.run_until(Duration::from_secs(200), |_| false);
    for side in [Side::A, Side::B] {
        assert_eq!(world.engine(side).stats().tcp_memory.used, 0, "{side:?}");
    }
}
