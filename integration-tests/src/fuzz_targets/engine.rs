//! The whole engine: hostile packets, a correct peer's packets, time and the application's calls, in any order.
//!
//! The harness completes what a fuzzer cannot guess (lengths, checksums, sequence numbers near the right ones), so that
//! connections get beyond their handshake.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tidewire::config::Config;
use tidewire::engine::sockets::TcpOptions;
use tidewire::engine::{Engine, ListenerSlot, SlotRef, TcpSlot, UdpSlot, WakeList};
use tidewire::error::SocketError;
use tidewire::ip::{Cidr, InterfaceId};
use tidewire::tcp::info::State;
use tidewire::time::Instant;
use tidewire::transport::ports::BindRequest;
use tidewire::wire::protocol;
use tidewire::wire::tcp::{Flags, Header, Options, Timestamps};
use tidewire_netdev::{Capabilities, Checksum, Medium, OffloadSet, Packet};

use super::Input;

/// Executions, and those in which a connection was established: what the fuzzing report quotes.
static EXECUTIONS: AtomicU64 = AtomicU64::new(0);
static ESTABLISHED: AtomicU64 = AtomicU64::new(0);

const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const PORT: u16 = 80;
const UDP_PORT: u16 = 53;
/// Octets that the stack may hold for one small input; far beyond what any state of it needs.
const MAX_SENT_PER_STEP: usize = 64 << 20;

/// Where the peer's side of a connection stands, learnt from what the engine sends.
#[derive(Clone, Copy, Default)]
struct Peer {
    port: u16,
    /// The next sequence number of the peer.
    next: u32,
    /// What the engine has sent up to.
    seen: u32,
    /// The engine's latest timestamp.
    timestamp: u32,
}

struct Harness {
    engine: Engine,
    interface: InterfaceId,
    now: Instant,
    wakes: WakeList,
    listener: Arc<ListenerSlot>,
    udp: Arc<UdpSlot>,
    connections: Vec<Arc<TcpSlot>>,
    peers: [Peer; 4],
    /// Port the engine connects from, for its active opens.
    reached: bool,
}

pub(super) fn engine(data: &[u8]) {
    let mut input = Input(data);
    let mut harness = Harness::new(u64::from(input.u8()));
    let mut steps = 0;
    while !input.is_empty() && steps < 200 {
        harness.step(&mut input);
        harness.collect();
        steps += 1;
    }
    harness.drain();
    let established = ESTABLISHED.fetch_add(u64::from(harness.reached), Ordering::Relaxed)
        + u64::from(harness.reached);
    let executions = EXECUTIONS.fetch_add(1, Ordering::Relaxed) + 1;
    if executions.is_power_of_two() && executions >= 1 << 14 {
        eprintln!("engine: {established} of {executions} executions reached ESTABLISHED");
    }
}

impl Harness {
    fn new(seed: u64) -> Self {
        let mut config = Config {
            seed: Some(seed),
            ..Config::default()
        };
        config.tcp.receive_buffer = 65_536;
        config.tcp.send_buffer = 65_536;
        let engine = Engine::new(config);
        let capabilities = Capabilities {
            medium: Medium::Ip,
            mtu: 1500,
            offloads: OffloadSet::ALL,
            max_super_packet: 65_535,
        };
        let interface = engine.add_interface("fuzz0".to_owned(), capabilities);
        engine.add_address(
            Instant::ZERO,
            interface,
            Cidr::new(LOCAL.into(), 24).expect("a valid prefix"),
        );
        let request = |port| BindRequest::new(SocketAddr::new(LOCAL.into(), port));
        let lease = engine.tcp_bind(&request(PORT)).expect("the port is free");
        let listener = engine
            .tcp_listen(lease, 4, false, &TcpOptions::default())
            .expect("nobody listens yet");
        let udp = engine
            .udp_bind(&request(UDP_PORT))
            .expect("the port is free");
        let peers = std::array::from_fn(|index| Peer {
            port: 4000 + index as u16,
            ..Peer::default()
        });
        Self {
            engine,
            interface,
            now: Instant::ZERO,
            wakes: WakeList::new(),
            listener,
            udp,
            connections: Vec::new(),
            peers,
            reached: false,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.u8() % 16 {
            0..=5 => self.segment(input),
            6 => self.handshake(input),
            7 => self.raw(input),
            8 => self.advance(input),
            9 => self.write(input),
            10 => self.read(input),
            11 => self.close(input),
            12 => self.connect(input),
            13 => self.datagram(input),
            14 => self.icmp(input),
            _ => self.accept(),
        }
    }

    fn receive(&mut self, mut packet: Packet, protocol: u8) {
        let total = packet.len() + 20;
        if total > 65_535 {
            return;
        }
        let header = tidewire::ip::output::OutputHeader::new(PEER.into(), LOCAL.into(), protocol);
        packet.offload.checksum = Checksum::Verified;
        if tidewire::ip::output::prepend(&mut packet, &header).is_ok() {
            self.engine
                .receive(self.now, self.interface, &mut vec![packet], &mut self.wakes);
        }
    }

    fn send_segment(&mut self, header: &Header, data: &[u8]) {
        let mut packet = Packet::new();
        packet.push(Bytes::copy_from_slice(data));
        header.emit(packet.prepend(header.encoded_len()));
        self.receive(packet, protocol::TCP);
    }

    /// A segment near what the connection expects.
    fn segment(&mut self, input: &mut Input<'_>) {
        let index = usize::from(input.u8()) % self.peers.len();
        let peer = self.peers[index];
        let offset = i32::from(input.u8() as i8);
        let scale = [0, 1, 100, 1 << 20][usize::from(input.u8()) % 4];
        let ack_offset = i32::from(input.u8() as i8) * scale;
        let flags = Flags(input.u8());
        let timestamps = Timestamps {
            value: self.now.as_millis() as u32 + u32::from(input.u8()),
            echo: peer.timestamp,
        };
        let mut header = Header {
            source_port: peer.port,
            destination_port: PORT,
            sequence: peer.next.wrapping_add_signed(offset * scale),
            acknowledgment: peer.seen.wrapping_add_signed(ack_offset),
            flags,
            window: input.u16(),
            urgent: 0,
            options: Options {
                timestamps: (input.u8() & 1 == 0).then_some(timestamps),
                ..Options::default()
            },
        };
        for _ in 0..input.u8() % 4 {
            let left = peer
                .seen
                .wrapping_add_signed(i32::from(input.u8() as i8) * 50);
            header
                .options
                .sack
                .push((left, left.wrapping_add(u32::from(input.u16()))));
        }
        let len = usize::from(input.u8()) * [1, 8, 64, 200][usize::from(input.u8()) % 4];
        let data = vec![input.u8(); len];
        self.send_segment(&header, &data);
        if scale == 0 {
            let control =
                u32::from(flags.contains(Flags::FIN)) + u32::from(flags.contains(Flags::SYN));
            self.peers[index].next = peer.next.wrapping_add(len as u32 + control);
        }
    }

    /// A whole three-way handshake.
    fn handshake(&mut self, input: &mut Input<'_>) {
        let index = usize::from(input.u8()) % self.peers.len();
        let choice = input.u8();
        let iss = u32::from(input.u16()) << 16;
        let mut header = Header {
            source_port: self.peers[index].port,
            destination_port: PORT,
            sequence: iss,
            flags: Flags::SYN,
            window: input.u16(),
            ..Header::default()
        };
        header.options.mss = (choice & 1 != 0).then_some(input.u16());
        header.options.window_scale = (choice & 2 != 0).then_some(input.u8());
        header.options.sack_permitted = choice & 4 != 0;
        header.options.timestamps = (choice & 8 != 0).then_some(Timestamps {
            value: self.now.as_millis() as u32,
            echo: 0,
        });
        self.send_segment(&header, &[]);
        self.collect();
        let peer = &mut self.peers[index];
        peer.next = iss.wrapping_add(1);
        let peer = *peer;
        header.flags = Flags::ACK;
        header.sequence = peer.next;
        header.acknowledgment = peer.seen;
        header.options = Options {
            timestamps: header.options.timestamps.map(|_| Timestamps {
                value: self.now.as_millis() as u32,
                echo: peer.timestamp,
            }),
            ..Options::default()
        };
        self.send_segment(&header, &[]);
        self.accept();
    }

    fn raw(&mut self, input: &mut Input<'_>) {
        let len = usize::from(input.u8());
        let packet = Packet::from_bytes(Bytes::copy_from_slice(input.take(len)));
        self.engine
            .receive(self.now, self.interface, &mut vec![packet], &mut self.wakes);
    }

    fn datagram(&mut self, input: &mut Input<'_>) {
        let len = usize::from(input.u8());
        let data = input.take(len);
        let mut packet = Packet::new();
        packet.push(Bytes::copy_from_slice(data));
        let header = tidewire::wire::udp::Header {
            source_port: 4000,
            destination_port: if input.u8() & 1 == 0 { UDP_PORT } else { 9 },
            length: (data.len() + 8) as u16,
            checksum: 1,
        };
        header.emit(packet.prepend(8));
        self.receive(packet, protocol::UDP);
        let mut buffer = [0; 64];
        let received = self.udp.lock().socket.socket.recv(&mut buffer);
        if let Ok(received) = received {
            assert!(received.len <= 64);
        }
    }

    fn icmp(&mut self, input: &mut Input<'_>) {
        let mut message = vec![input.u8(), input.u8(), 0, 0, 0, 0, input.u8(), input.u8()];
        // Quotes a segment of a connection of ours.
        let peer = self.peers[usize::from(input.u8()) % self.peers.len()];
        let mut quoted = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, protocol::TCP, 0, 0];
        quoted.extend(LOCAL.octets());
        quoted.extend(PEER.octets());
        quoted.extend(PORT.to_be_bytes());
        quoted.extend(peer.port.to_be_bytes());
        quoted.extend(peer.seen.wrapping_sub(u32::from(input.u8())).to_be_bytes());
        message.extend(quoted);
        let packet = Packet::from_bytes(Bytes::from(message));
        self.receive(packet, protocol::ICMPV4);
    }

    fn advance(&mut self, input: &mut Input<'_>) {
        let step = Duration::from_millis(u64::from(input.u8()))
            * [1, 10, 200, 5000][usize::from(input.u8()) % 4];
        self.now += step;
        self.engine.handle_timeout(self.now, &mut self.wakes);
    }

    fn accept(&mut self) {
        if let Ok((slot, _)) = self.engine.tcp_accept(&self.listener) {
            self.connections.push(slot);
        }
    }

    fn connect(&mut self, input: &mut Input<'_>) {
        let remote = SocketAddr::new(
            if input.u8() & 1 == 0 {
                PEER.into()
            } else {
                IpAddr::V4(LOCAL)
            },
            PORT,
        );
        if self.connections.len() < 16
            && let Ok(slot) =
                self.engine
                    .tcp_connect(self.now, None, remote, &TcpOptions::default())
        {
            self.connections.push(slot);
        }
    }

    fn pick(&self, input: &mut Input<'_>) -> Option<Arc<TcpSlot>> {
        let index = usize::from(input.u8());
        (!self.connections.is_empty())
            .then(|| Arc::clone(&self.connections[index % self.connections.len()]))
    }

    fn write(&mut self, input: &mut Input<'_>) {
        let Some(slot) = self.pick(input) else { return };
        let data = vec![input.u8(); usize::from(input.u16())];
        let mut state = slot.lock();
        let result = state.socket.connection.write(&data);
        assert!(result.is_err() || result.is_ok_and(|written| written <= data.len()));
        drop(state);
        self.engine.mark_ready(SlotRef::from(&slot));
    }

    fn read(&mut self, input: &mut Input<'_>) {
        let Some(slot) = self.pick(input) else { return };
        let mut buffer = vec![0; usize::from(input.u16())];
        let result = slot.lock().socket.connection.read(&mut buffer);
        assert!(result.is_err() || result.is_ok_and(|read| read <= buffer.len()));
        self.engine.mark_ready(SlotRef::from(&slot));
    }

    fn close(&mut self, input: &mut Input<'_>) {
        let how = input.u8();
        let Some(slot) = self.pick(input) else { return };
        match how % 4 {
            0 => {
                let _ = slot.lock().socket.connection.shutdown_write();
            }
            1 => slot.lock().socket.connection.abort(),
            _ => {
                self.engine.close_tcp(self.now, &slot, &mut self.wakes);
                self.connections.retain(|other| !Arc::ptr_eq(other, &slot));
            }
        }
        self.engine.mark_ready(SlotRef::from(&slot));
    }

    /// Takes what the engine sends, and learns sequence numbers from it.
    fn collect(&mut self) {
        let mut batch = Vec::new();
        self.engine
            .transmit(self.now, self.interface, &mut batch, &mut self.wakes);
        self.wakes.wake_all();
        let octets: usize = batch.iter().map(Packet::len).sum();
        assert!(octets <= MAX_SENT_PER_STEP, "a step sent {octets} octets");
        for packet in &batch {
            self.learn(&packet.to_bytes());
        }
        self.reached |= self
            .connections
            .iter()
            .any(|slot| slot.lock().socket.connection.info().state == State::Established);
    }

    fn learn(&mut self, octets: &[u8]) {
        if octets.first().is_none_or(|first| first >> 4 != 4) || octets[9] != protocol::TCP {
            return;
        }
        let (header, header_len) =
            Header::parse(&octets[20..]).expect("the engine sends valid headers");
        let Some(peer) = self
            .peers
            .iter_mut()
            .find(|peer| peer.port == header.destination_port)
        else {
            return;
        };
        let control = u32::from(header.flags.contains(Flags::SYN))
            + u32::from(header.flags.contains(Flags::FIN));
        let len = (octets.len() - 20 - header_len) as u32;
        peer.seen = header.sequence.wrapping_add(len + control);
        peer.timestamp = header
            .options
            .timestamps
            .map_or(0, |timestamps| timestamps.value);
    }

    /// The application lets everything go; a day later nothing may be left.
    fn drain(&mut self) {
        for slot in std::mem::take(&mut self.connections) {
            self.engine.close_tcp(self.now, &slot, &mut self.wakes);
        }
        self.engine
            .close_listener(self.now, &self.listener, &mut self.wakes);
        let mut events = 0;
        loop {
            let mut batch = Vec::new();
            self.engine
                .transmit(self.now, self.interface, &mut batch, &mut self.wakes);
            self.wakes.wake_all();
            let Some(at) = self.engine.poll_timeout() else {
                break;
            };
            self.now = self.now.max(at);
            self.engine.handle_timeout(self.now, &mut self.wakes);
            events += 1;
            assert!(
                events < 10_000,
                "timers go on forever: {:?}",
                self.engine.sockets()
            );
        }
        assert_eq!(
            self.engine.orphan_count(),
            0,
            "orphans are left: {:?}",
            self.engine.sockets()
        );
        let tcp = self
            .engine
            .sockets()
            .into_iter()
            .filter(|socket| socket.protocol == "tcp")
            .count();
        assert_eq!(tcp, 0, "{:?}", self.engine.sockets());
        let gone = self.engine.tcp_accept(&self.listener).map(|_| ());
        assert_eq!(gone, Err(SocketError::WouldBlock));
    }
}
