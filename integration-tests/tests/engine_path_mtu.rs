//! Paths that carry less than their ends: black holes, probes, paths that change, forged messages, and packets that wait
//! for a full device meanwhile.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewire::config::Config;
use tidewire::engine::{Ports, TcpSlot, WakeList};
use tidewire::ip::InterfaceId;
use tidewire::tcp::config::{CongestionControl, MtuProbing};
use tidewire::tcp::{self, Info};
use tidewire::transport::ports::BindRequest;
use tidewire_integration_tests::bodies::{body, hash};
use tidewire_integration_tests::world::{LinkConfig, Side, World, read, shutdown, write};
use tidewire_netdev::memory::impairment::{ImpairmentConfig, Loss};
use tidewire_netdev::segmentation::{CutChecksum, segment};
use tidewire_netdev::{Checksum, Medium, OffloadSet, Packet};

/// A device that takes nothing.
struct Full;

impl Ports for Full {
    fn try_transmit(&self, _: InterfaceId, _: usize, _: &mut VecDeque<Packet>) -> io::Result<()> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// Fragmentation needed (RFC 1191 4) about a packet whose first 28 octets are `quoted`.
fn fragmentation_needed(quoted: &[u8], mtu: u16) -> Packet {
    let mut message = vec![3, 4, 0, 0, 0, 0];
    message.extend(mtu.to_be_bytes());
    message.extend(&quoted[..28]);
    let mut packet = Packet::from_bytes(Bytes::from(message));
    let (from, to) = (Side::B.address(false), Side::A.address(false));
    let header =
        tidewire::ip::output::OutputHeader::new(from, to, tidewire::wire::protocol::ICMPV4);
    tidewire::ip::output::prepend(&mut packet, &header).expect("a short packet");
    packet.offload.checksum = Checksum::Verified;
    packet
}

#[test]
fn what_is_staged_is_cut_anew_when_the_path_mtu_shrinks() {
    // RFC 1191 6.4: nothing larger than the new path MTU is sent from then on, what waits for the device included.
    for offloads in [OffloadSet::ALL, OffloadSet::NONE] {
        let link = LinkConfig {
            offloads,
            ..LinkConfig::default()
        };
        let mut world = World::new(&link);
        let (client, server) = world.connected(false, Duration::from_secs(1));
        world.run_until(Duration::from_secs(1), |_| false);
        let data = body(5, 10_000);
        let engine = world.engine(Side::A);
        assert_eq!(write(engine, &client, &data), data.len());
        let interface = engine.network.interface_named("mem0").expect("the link");
        let mut wakes = WakeList::new();
        engine.flush(world.now, &Full, &mut wakes);
        assert!(engine.is_blocked(interface));

        // What A would have sent: its headers are quoted by a router's error.
        let sequence = client.lock().socket.connection.info().bytes_acked as u32;
        assert_eq!(sequence, 0, "nothing has been acknowledged yet");
        let first = peek_first(&world, interface);
        engine.receive(
            world.now,
            interface,
            &mut vec![fragmentation_needed(&first, 1000)],
            &mut wakes,
        );

        let mut batch = Vec::new();
        engine.unblock(interface);
        engine.transmit(world.now, interface, &mut batch, &mut wakes);
        wakes.wake_all();
        let mut largest = 0;
        for packet in batch {
            segment(packet, Medium::Ip, CutChecksum::Complete, |wire| {
                largest = largest.max(wire.len());
            })
            .expect("valid");
        }
        assert!(largest <= 1000, "{largest} octets on a path of 1000");
        assert!(largest > 900, "segments fill the path: {largest}");
        // The batch never reached B: retransmission delivers everything, within the new MTU.
        let mut received = Vec::new();
        let done = world.run_until(Duration::from_secs(30), |world| {
            read(world.engine(Side::B), &server, &mut received);
            received.len() == data.len()
        });
        assert!(done && received == data);
    }
}

/// The first octets of what waits for the interface: an IPv4 header and the beginning of TCP's.
fn peek_first(world: &World, interface: InterfaceId) -> Vec<u8> {
    let staged = world.engine(Side::A).staged(interface);
    staged.first().expect("packets wait").to_bytes()[..28].to_vec()
}

/// A path of 10 Mbit/s and 20 ms with a queue of 40 ms, which drops what is larger than `mtu` and says nothing.
fn silent(mtu: usize) -> ImpairmentConfig {
    ImpairmentConfig {
        mtu: Some(mtu),
        ..ImpairmentConfig::delay(Duration::from_millis(10)).with_rate(10_000_000, 50_000)
    }
}

fn link(impairment: ImpairmentConfig, mtu: usize, seed: u64) -> LinkConfig {
    LinkConfig {
        impairment,
        mtu,
        seed,
        ..LinkConfig::default()
    }
}

fn stacks(mtu_probing: MtuProbing) -> Config {
    Config {
        tcp: tcp::Config {
            mtu_probing,
            ..tcp::Config::default()
        },
        ..Config::default()
    }
}

/// A transfer from A to B in progress.
struct Transfer {
    world: World,
    client: Arc<TcpSlot>,
    server: Arc<TcpSlot>,
    data: Vec<u8>,
    sent: usize,
    closed: bool,
    received: Vec<u8>,
}

impl Transfer {
    fn new(link: &LinkConfig, config: Config, v6: bool, octets: usize) -> Self {
        let mut world = World::with_config(link, config);
        let (client, server) = world.connected(v6, Duration::from_secs(10));
        Self {
            world,
            client,
            server,
            data: body(link.seed, octets),
            sent: 0,
            closed: false,
            received: Vec::with_capacity(octets),
        }
    }

    fn info(&self) -> Info {
        self.client.lock().socket.connection.info()
    }

    /// Goes on until `done` says so, or the end; whether it came to that within `limit`.
    fn run(&mut self, limit: Duration, mut done: impl FnMut(usize, &Info) -> bool) -> bool {
        let Self {
            world,
            client,
            server,
            data,
            sent,
            closed,
            received,
        } = self;
        world.run_until(limit, |world| {
            let (a, b) = (world.engine(Side::A), world.engine(Side::B));
            if *sent < data.len() {
                *sent += write(a, client, &data[*sent..]);
            } else if !*closed {
                shutdown(a, client);
                *closed = true;
            }
            let end = read(b, server, received);
            world.flush();
            end || done(received.len(), &client.lock().socket.connection.info())
        })
    }

    /// Goes on to the end.
    fn finish(&mut self, limit: Duration) -> Info {
        let done = self.run(limit, |_, _| false);
        let info = self.info();
        assert!(
            done,
            "{} of {} octets arrived by {:?}: {info:?}",
            self.received.len(),
            self.data.len(),
            self.world.now
        );
        assert_eq!(hash(&self.received), hash(&self.data));
        info
    }
}

/// Octets of a packet that are not data, with timestamps.
const fn headers(v6: bool) -> usize {
    if v6 { 72 } else { 52 }
}

#[test]
fn black_hole_is_overcome_and_the_size_it_passes_is_found() {
    // RFC 4821 7.7, then 7.3: from 1500 octets to the base after four timeouts, from there up to what passes.
    use CongestionControl::{Bbr, Cubic, NewReno};
    for v6 in [false, true] {
        for (seed, congestion_control) in [(1, Cubic), (2, NewReno), (3, Bbr)] {
            let link = link(silent(1300), 1500, seed);
            let mut config = Config::default();
            config.tcp.congestion_control = congestion_control;
            let mut transfer = Transfer::new(&link, config, v6, 20_000_000);
            let started = transfer.run(Duration::from_secs(10), |received, _| received > 0);
            let info = transfer.info();
            assert!(started && info.timeouts <= 4, "v6 {v6}: {info:?}");
            let info = transfer.finish(Duration::from_secs(60));
            println!("v6 {v6}: {:?} {info:?}", transfer.world.now);
            assert!(info.timeouts <= 5, "v6 {v6}: {info:?}");
            assert_eq!(info.black_holes, 1);
            let size = info.mss + headers(v6);
            assert!((1293..=1300).contains(&size), "v6 {v6}: {info:?}");
            assert_eq!(info.path_mtu, size);
        }
    }
}

#[test]
fn probes_find_the_path_without_a_timeout_or_a_reduction() {
    // RFC 4821 7.6.1, 7.6.2: a probe that alone was lost is no sign of congestion.
    for v6 in [false, true] {
        for (narrow, interface) in [(1300, 1500), (1492, 1500), (4000, 9000)] {
            let mut impairment = silent(narrow);
            impairment.queue_limit = 64 << 20;
            let link = link(impairment, interface, 7);
            let config = stacks(MtuProbing::Always);
            let mut transfer = Transfer::new(&link, config, v6, 8_000_000);
            let info = transfer.finish(Duration::from_secs(60));
            println!("v6 {v6} {narrow}: {:?} {info:?}", transfer.world.now);
            let dropped = transfer.world.link_stats(Side::A).over_mtu;
            assert!(dropped > 0 && dropped <= info.mtu_probes, "{info:?}");
            assert_eq!((info.timeouts, info.recoveries), (0, 0), "{info:?}");
            // Only the probes that were lost went out again.
            assert!(info.retransmits < dropped * 9, "{info:?}");
            let (low, high) = info.path_mtu_search.expect("always");
            assert!(low <= narrow && narrow <= high, "{info:?}");
        }
    }
}

#[test]
fn path_that_shrinks_and_grows_is_followed() {
    // RFC 4821 7.7, 7.3: down by a black hole, up again when the search is repeated.
    let mut config = stacks(MtuProbing::AfterBlackHole);
    config.tcp.mtu_probe_interval = Duration::from_secs(20);
    for v6 in [false, true] {
        let link = link(silent(1500), 1500, 3);
        let mut transfer = Transfer::new(&link, config.clone(), v6, 80_000_000);
        let whole = transfer.run(Duration::from_secs(20), |received, _| received > 2_000_000);
        assert!(whole && transfer.info().mss + headers(v6) == 1500);
        transfer.world.set_link(Side::A, silent(1400));
        let limit = Duration::from_secs(40);
        let narrower = transfer.run(limit, |_, info| {
            (1393..=1400).contains(&(info.mss + headers(v6)))
        });
        let info = transfer.info();
        assert!(narrower, "{info:?}");
        assert!(info.timeouts <= 6, "{info:?}");
        transfer.world.set_link(Side::A, silent(1500));
        let wider = transfer.run(limit, |_, info| info.mss + headers(v6) == 1500);
        let info = transfer.info();
        println!("v6 {v6}: {:?} {info:?}", transfer.world.now);
        assert!(wider, "{info:?}");
        assert_eq!(info.path_mtu_search, None, "nothing is left to search for");
    }
}

#[test]
fn no_segment_exceeds_the_interface_and_none_falls_below_what_ipv6_carries() {
    // RFC 4821 7.2 (search_high), 7.7; RFC 8200 5.
    for mtu in [1280, 1300, 1500, 9000] {
        // What is larger than the interface's MTU would be counted.
        let link = link(silent(mtu), mtu, 11);
        let config = stacks(MtuProbing::Always);
        let mut transfer = Transfer::new(&link, config, true, 6_000_000);
        let info = transfer.finish(Duration::from_secs(60));
        assert_eq!(transfer.world.link_stats(Side::A).over_mtu, 0, "{mtu}");
        assert!(info.path_mtu <= mtu, "{info:?}");
        assert!(mtu == 1280 || info.mtu_probes > 0, "{info:?}");
    }
    // Nothing passes for a minute.
    let link = link(silent(1500), 1500, 12);
    let mut transfer = Transfer::new(&link, Config::default(), true, 4_000_000);
    transfer.run(Duration::from_secs(10), |received, _| received > 1_000_000);
    transfer.world.set_link(Side::A, silent(0));
    let until = transfer.world.now + Duration::from_secs(60);
    transfer.run(Duration::from_secs(60), |_, _| false);
    assert!(transfer.world.now <= until);
    let info = transfer.info();
    assert!(info.timeouts >= 5, "{info:?}");
    assert_eq!(info.mss, 1280 - headers(true), "{info:?}");
    transfer.world.set_link(Side::A, silent(1280));
    transfer.finish(Duration::from_secs(120));
}

#[test]
fn transfers_over_lossy_narrow_paths_end() {
    // RFC 4821 7.6.4: what the losses make of probes may be wrong for a while, never fatal.
    for seed in 0..30 {
        let narrow = 600 + (seed * 331 % 900) as usize;
        let v6 = seed % 2 == 1;
        let impairment = ImpairmentConfig {
            loss: Loss::Uniform([0.001, 0.01, 0.03][seed as usize % 3]),
            ..silent(if v6 { narrow.max(1280) } else { narrow })
        };
        let link = link(impairment, 1500, seed + 1);
        let probing = [MtuProbing::AfterBlackHole, MtuProbing::Always][seed as usize / 2 % 2];
        let mut transfer = Transfer::new(&link, stacks(probing), v6, 1_000_000);
        let info = transfer.finish(Duration::from_secs(300));
        assert!(info.timeouts < 30, "seed {seed}: {info:?}");
    }
}

#[test]
fn forged_messages_have_no_effect_or_a_bounded_one() {
    // RFC 5927 4.1, 7.1; Linux's min_pmtu of 552, below which routers may cut (`mtu_locked`).
    let link = link(silent(552), 1500, 5);
    let mut transfer = Transfer::new(&link, Config::default(), false, 300_000);
    let engine = transfer.world.engine(Side::A);
    assert!(write(engine, &transfer.client, &transfer.data[..20_000]) == 20_000);
    transfer.sent = 20_000;
    let interface = transfer.world.interface(Side::A, 0);
    let (mut batch, mut wakes) = (Vec::new(), WakeList::new());
    let now = transfer.world.now;
    engine.transmit(now, interface, &mut batch, &mut wakes);
    let first = batch[0].to_bytes()[..28].to_vec();
    assert_eq!(first[6] & 0x40, 0x40, "DF");

    let mut outside = first.clone();
    outside[27] = outside[27].wrapping_sub(1); // below SND.UNA
    let mut ahead = first.clone();
    ahead[25] = ahead[25].wrapping_add(1); // 65,536 octets ahead
    for (quoted, mtu) in [(&outside, 600), (&ahead, 600), (&outside, 68)] {
        let mut forged = vec![fragmentation_needed(quoted, mtu)];
        engine.receive(now, interface, &mut forged, &mut wakes);
        assert_eq!(transfer.info().path_mtu, 1500, "{quoted:?}");
    }
    engine.receive(
        now,
        interface,
        &mut vec![fragmentation_needed(&first, 68)],
        &mut wakes,
    );
    assert_eq!(transfer.info().path_mtu, 552);
    // A later one for more changes nothing.
    engine.receive(
        now,
        interface,
        &mut vec![fragmentation_needed(&first, 1400)],
        &mut wakes,
    );
    assert_eq!(transfer.info().path_mtu, 552);
    batch.clear();
    let request = BindRequest::new(SocketAddr::new(Side::A.address(false), 1000));
    let datagrams = engine.udp_bind(&request).expect("free");
    let to = SocketAddr::new(Side::B.address(false), 7);
    let sent = engine.udp_send(now, &datagrams, &[0; 100], Some(to));
    assert_eq!(sent, Ok(100));
    engine.transmit(now, interface, &mut batch, &mut wakes);
    assert!(batch.len() >= 2, "segments and a datagram");
    for packet in batch {
        let mut identifications = Vec::new();
        segment(packet, Medium::Ip, CutChecksum::Complete, |wire| {
            let octets = wire.to_bytes();
            assert!(octets.len() <= 552, "{}", octets.len());
            assert_eq!(octets[6] & 0x40, 0, "routers may cut it");
            identifications.push(u16::from_be_bytes([octets[4], octets[5]]));
        })
        .expect("valid");
        // RFC 6864 4.3: what may be cut is told apart by its identification.
        assert!(identifications.is_sorted_by(|a, b| a.wrapping_add(1) == *b));
    }
    wakes.wake_all();
    let info = transfer.finish(Duration::from_secs(60));
    assert_eq!((info.mss, info.path_mtu), (500, 552));
}
