//! What a packet costs an engine with so many connections: it must not depend on their number.
//!
//! Each packet is a receive batch of its own, so that the flow cache of a batch helps nobody: demultiplexing, the
//! connection, reading, and the ACK on its way out. `hot` packets are all for one connection, `random` ones each for
//! another, so that what they find is in no cache: that difference is memory's, not the stack's. The budget is 10 %
//! between 100 and 100,000 for `hot`; since a busy machine changes more than that from minute to minute, the two are
//! compared in the end by turns.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use tidewire::config::Config;
use tidewire::engine::sockets::TcpOptions;
use tidewire::engine::{Engine, ListenerSlot, TcpSlot, WakeList};
use tidewire::ip::output::{self, OutputHeader};
use tidewire::ip::{Cidr, InterfaceId};
use tidewire::time::Instant;
use tidewire::transport::ports::BindRequest;
use tidewire::wire::protocol;
use tidewire::wire::tcp::{Flags, Header, Options, Timestamps};
use tidewire_integration_tests::cable::read;
use tidewire_integration_tests::world::Side;
use tidewire_netdev::{Capabilities, Checksum, Medium, OffloadSet, Packet};

const PAYLOAD: usize = 1448;
/// Packets between two looks at the clock.
const BATCH: usize = 64;
/// Peers' ports, from 1024 on, at each of their addresses.
const PORTS: usize = 50_000;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let mut server = Server::new();
    for count in [100, 10_000, 100_000] {
        server.open_up_to(count);
        let mut group = criterion.benchmark_group(format!("packet_with_{count}_connections"));
        group.throughput(Throughput::Elements(1));
        group.bench_function("hot", |bencher| {
            bencher.iter_custom(|iterations| server.packets(iterations, |_| count / 2));
        });
        let mut random = ChaCha8Rng::seed_from_u64(1);
        group.bench_function("random", |bencher| {
            bencher.iter_custom(|iterations| {
                server.packets(iterations, |_| random.random_range(0..count))
            });
        });
        group.finish();
    }
    criterion.final_summary();
    let has = |flag| std::env::args().any(|argument| argument == flag);
    if has("--bench") && !has("--test") && !has("--list") {
        compare(server);
    }
}

/// A hot connection among few and among many, by turns: the medians, and how much more the second takes.
fn compare(mut many: Server) {
    const TURNS: usize = 200;
    const PACKETS: u64 = 1024;
    let mut few = Server::new();
    few.open_up_to(100);
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        for (server, times) in [&mut few, &mut many].into_iter().zip(&mut times) {
            let hot = server.lines.len() / 2;
            let time = server.packets(PACKETS, |_| hot);
            times.push(time.as_secs_f64() * 1e9 / PACKETS as f64);
        }
    }
    let [few_time, many_time] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[TURNS / 2]
    });
    println!(
        "hot by turns: {few_time:.0} ns with {} connections, {many_time:.0} ns with {}: {:+.1} %",
        few.lines.len(),
        many.lines.len(),
        100.0 * (many_time / few_time - 1.0)
    );
}

/// One established connection, and the peer's side of it.
struct Line {
    slot: Arc<TcpSlot>,
    peer: SocketAddr,
    sequence: u32,
    acknowledgment: u32,
}

/// An engine whose peers are made of nothing but packets.
struct Server {
    engine: Engine,
    interface: InterfaceId,
    listener: Arc<ListenerSlot>,
    lines: Vec<Line>,
    now: Instant,
    wakes: WakeList,
    data: Bytes,
    sent: Vec<Packet>,
}

impl Server {
    fn new() -> Self {
        let engine = Engine::new(Config {
            seed: Some(1),
            ..Config::default()
        });
        let capabilities = Capabilities {
            medium: Medium::Ip,
            mtu: 1500,
            offloads: OffloadSet::ALL,
            max_super_packet: 65_535,
        };
        let interface = engine.add_interface("mem0".to_owned(), capabilities);
        let own = Side::B.address(false);
        let cidr = Cidr::new(own, 8).expect("a valid prefix");
        engine.add_address(Instant::ZERO, interface, cidr);
        let lease = engine.tcp_bind(&BindRequest::new((own, 80).into()));
        let listener = engine
            .tcp_listen(
                lease.expect("the port is free"),
                128,
                false,
                &TcpOptions::default(),
            )
            .expect("nobody else listens");
        Self {
            engine,
            interface,
            listener,
            lines: Vec::new(),
            now: Instant::from_millis(1),
            wakes: WakeList::new(),
            data: Bytes::from(vec![7; PAYLOAD]),
            sent: Vec::new(),
        }
    }

    /// Opens connections until there are `count`.
    fn open_up_to(&mut self, count: usize) {
        for index in self.lines.len()..count {
            let address = Ipv4Addr::from_bits(0x0a01_0000 + (index / PORTS) as u32);
            let peer = SocketAddr::new(address.into(), 1024 + (index % PORTS) as u16);
            let mut header = Header {
                source_port: peer.port(),
                destination_port: 80,
                sequence: 1000,
                flags: Flags::SYN,
                window: 65_535,
                options: Options {
                    mss: Some(1460),
                    window_scale: Some(7),
                    sack_permitted: true,
                    timestamps: Some(Timestamps { value: 1, echo: 0 }),
                    ..Options::default()
                },
                ..Header::default()
            };
            self.exchange(packet(peer, &header, Bytes::new()));
            let answer = self.sent.pop().expect("a SYN-ACK");
            let (answer, _) = Header::parse(&answer.contiguous()[20..]).expect("a whole header");
            header.sequence += 1;
            header.acknowledgment = answer.sequence.wrapping_add(1);
            header.flags = Flags::ACK;
            header.options = established();
            self.exchange(packet(peer, &header, Bytes::new()));
            let (slot, _) = self.engine.tcp_accept(&self.listener).expect("established");
            self.lines.push(Line {
                slot,
                peer,
                sequence: header.sequence,
                acknowledgment: header.acknowledgment,
            });
        }
    }

    /// One packet in, and what there is to send out.
    fn exchange(&mut self, packet: Packet) {
        let mut batch = vec![packet];
        self.engine
            .receive(self.now, self.interface, &mut batch, &mut self.wakes);
        self.engine
            .transmit(self.now, self.interface, &mut self.sent, &mut self.wakes);
    }

    /// So many packets for the connections that `choose` says: received, read and acknowledged. How long that took.
    fn packets(&mut self, count: u64, mut choose: impl FnMut(&mut Self) -> usize) -> Duration {
        let (mut total, mut done) = (Duration::ZERO, 0);
        let mut buffer = vec![0; PAYLOAD];
        let mut batch = Vec::with_capacity(1);
        while done < count {
            let packets: Vec<_> = (0..BATCH.min((count - done) as usize))
                .map(|_| {
                    let line = choose(self);
                    self.next_packet(line)
                })
                .collect();
            done += packets.len() as u64;
            self.now += Duration::from_micros(100);
            let start = Clock::now();
            for (slot, packet) in packets {
                batch.push(packet);
                self.engine
                    .receive(self.now, self.interface, &mut batch, &mut self.wakes);
                let count = read(&self.engine, &slot, &mut buffer);
                assert_eq!(count, Some(PAYLOAD));
                self.engine
                    .transmit(self.now, self.interface, &mut self.sent, &mut self.wakes);
            }
            total += start.elapsed();
            self.sent.clear();
            // ACKs that are delayed: their deadlines do not pile up.
            self.engine.handle_timeout(self.now, &mut self.wakes);
        }
        total
    }

    fn next_packet(&mut self, line: usize) -> (Arc<TcpSlot>, Packet) {
        let line = &mut self.lines[line];
        let header = Header {
            source_port: line.peer.port(),
            destination_port: 80,
            sequence: line.sequence,
            acknowledgment: line.acknowledgment,
            flags: Flags::ACK,
            window: 512,
            urgent: 0,
            options: established(),
        };
        line.sequence = line.sequence.wrapping_add(PAYLOAD as u32);
        let packet = packet(line.peer, &header, self.data.clone());
        (Arc::clone(&line.slot), packet)
    }
}

fn established() -> Options {
    Options {
        timestamps: Some(Timestamps { value: 1, echo: 1 }),
        ..Options::default()
    }
}

/// A packet from `peer`, its checksum verified by the device.
fn packet(peer: SocketAddr, header: &Header, data: Bytes) -> Packet {
    let mut packet = Packet::new();
    if !data.is_empty() {
        packet.push(data);
    }
    header.emit(packet.prepend(header.encoded_len()));
    let ip = OutputHeader::new(peer.ip(), Side::B.address(false), protocol::TCP);
    output::prepend(&mut packet, &ip).expect("both ends are of one version");
    packet.offload.checksum = Checksum::Verified;
    packet
}
