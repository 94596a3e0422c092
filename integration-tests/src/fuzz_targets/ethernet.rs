//! The whole engine on an Ethernet link: neighbours that answer or do not, hostile ARP, neighbor discovery and IP, time
//! and the application's calls, in any order.
//!
//! The harness completes checksums and follows sequence numbers, and its neighbours answer when they are asked for, so
//! that connections get beyond their handshake.

mod neighbor;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tidewire::config::Config;
use tidewire::engine::sockets::TcpOptions;
use tidewire::engine::{
    Attachment, EchoSlot, Engine, ListenerSlot, SlotRef, TcpSlot, UdpSlot, WakeList,
};
use tidewire::ip::InterfaceId;
use tidewire::ip::autoconf::dad::DuplicateDetection;
use tidewire::ip::output::{self, OutputHeader};
use tidewire::link::ethernet::{self, LinkProtocol};
use tidewire::tcp::info::State;
use tidewire::time::Instant;
use tidewire::transport::ports::BindRequest;
use tidewire::wire::tcp::{Flags, Header};
use tidewire::wire::{protocol, udp};
use tidewire_netdev::{Capabilities, Checksum, MacAddress, Medium, OffloadSet, Packet};

use super::Input;

/// Executions, and those in which a connection was established: what the fuzzing report quotes.
static EXECUTIONS: AtomicU64 = AtomicU64::new(0);
static ESTABLISHED: AtomicU64 = AtomicU64::new(0);

const OURS: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const LOCAL_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const LOCAL_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const PORT: u16 = 80;
const UDP_PORT: u16 = 53;
const PEERS: usize = 4;

const MAX_NEIGHBORS: usize = 16;
const MAX_REPLIES: usize = 32;
/// Frames that one step may cause: the replies' limit, the packets that may wait for neighbours, some of each
/// connection; far beyond what any state needs.
const MAX_FRAMES_PER_STEP: usize = 20_000;

/// Another host on the link, and its side of a connection of either IP version, learnt from what the engine sends.
#[derive(Clone, Copy, Default)]
struct Peer {
    /// It answers who asks for it.
    answers: bool,
    flows: [Flow; 2],
}

#[derive(Clone, Copy, Default)]
struct Flow {
    /// The next sequence number of the peer.
    next: u32,
    /// What the engine has sent up to.
    seen: u32,
}

struct Harness {
    engine: Engine,
    interface: InterfaceId,
    now: Instant,
    wakes: WakeList,
    listener: Arc<ListenerSlot>,
    udp: Arc<UdpSlot>,
    echo: Arc<EchoSlot>,
    connections: Vec<Arc<TcpSlot>>,
    peers: [Peer; PEERS],
    reached: bool,
}

pub(super) fn engine(data: &[u8]) {
    let mut input = Input(data);
    let mut harness = Harness::new(input.u8(), input.u8());
    let mut steps = 0;
    while !input.is_empty() && steps < 200 {
        harness.step(&mut input);
        harness.settle();
        steps += 1;
    }
    harness.drain();
    let established = ESTABLISHED.fetch_add(u64::from(harness.reached), Ordering::Relaxed)
        + u64::from(harness.reached);
    let executions = EXECUTIONS.fetch_add(1, Ordering::Relaxed) + 1;
    if executions.is_power_of_two() && executions >= 1 << 12 {
        eprintln!("ethernet_engine: {established} of {executions} executions reached ESTABLISHED");
    }
}

const fn peer_hardware(index: usize) -> MacAddress {
    MacAddress([2, 0, 0, 0, 1, index as u8])
}

fn peer_v4(index: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(LOCAL_V4) + 1 + index as u32)
}

fn peer_v6(index: usize) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(LOCAL_V6) + 1 + index as u128)
}

fn peer_address(index: usize, is_v6: bool) -> IpAddr {
    if is_v6 {
        peer_v6(index).into()
    } else {
        peer_v4(index).into()
    }
}

const fn local_address(is_v6: bool) -> IpAddr {
    if is_v6 {
        IpAddr::V6(LOCAL_V6)
    } else {
        IpAddr::V4(LOCAL_V4)
    }
}

impl Harness {
    fn new(seed: u8, choice: u8) -> Self {
        let mode = |bits: u8| match bits & 3 {
            0 => DuplicateDetection::Strict,
            1 => DuplicateDetection::Optimistic,
            _ => DuplicateDetection::Off,
        };
        let mut config = Config {
            seed: Some(u64::from(seed)),
            ..Config::default()
        };
        config.tcp.receive_buffer = 65_536;
        config.tcp.send_buffer = 65_536;
        config.host.reply_queue = MAX_REPLIES;
        config.host.duplicate_detection_v4 = mode(choice);
        config.host.duplicate_detection_v6 = mode(choice >> 2);
        config.neighbor.max_entries = MAX_NEIGHBORS;
        config.neighbor.max_waiters = 8;
        config.neighbor.max_total_queue_bytes = 64 << 10;
        let engine = Engine::new(config);
        let attachment = Attachment {
            name: "fuzz0".to_owned(),
            queues: 1,
            hardware_address: Some(OURS),
            capabilities: Capabilities {
                medium: Medium::Ethernet,
                mtu: 1500,
                offloads: OffloadSet::ALL,
                max_super_packet: 65_535,
            },
        };
        let interface = engine.attach(Instant::ZERO, attachment);
        for cidr in ["10.0.0.1/24", "fd00::1/64"] {
            let cidr = cidr.parse().expect("an address with its prefix");
            engine.add_address(Instant::ZERO, interface, cidr);
        }
        let request = |port| {
            let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
            BindRequest::new(any)
        };
        let lease = engine.tcp_bind(&request(PORT)).expect("the port is free");
        let listener = engine
            .tcp_listen(lease, 4, false, &TcpOptions::default())
            .expect("nobody listens yet");
        let udp = engine
            .udp_bind(&request(UDP_PORT))
            .expect("the port is free");
        let echo = engine
            .echo_open(Ipv4Addr::UNSPECIFIED.into())
            .expect("an identifier is free");
        let peer = |index: usize| Peer {
            answers: choice >> 4 & 1 << index == 0,
            ..Peer::default()
        };
        let mut harness = Self {
            engine,
            interface,
            now: Instant::ZERO,
            wakes: WakeList::new(),
            listener,
            udp,
            echo,
            connections: Vec::new(),
            peers: std::array::from_fn(peer),
            reached: false,
        };
        harness.begin(choice);
        harness
    }

    /// As a rule addresses are settled and a connection is there before anything hostile comes.
    fn begin(&mut self, choice: u8) {
        self.settle();
        if choice == 0 {
            return;
        }
        self.advance(Duration::from_secs(12));
        let answering = self.peers.iter().position(|peer| peer.answers);
        self.handshake(
            answering.unwrap_or(0),
            choice & 0x40 != 0,
            u32::from(choice),
        );
        self.settle();
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.u8() % 20 {
            0..=2 => self.segment(input),
            3 => {
                let (index, choice) = (usize::from(input.u8()) % PEERS, input.u8());
                self.handshake(index, choice & 1 != 0, u32::from(input.u16()) << 16);
            }
            4..=6 => self.arp(input),
            7..=9 => self.neighbor_discovery(input),
            10 => self.raw(input),
            11 | 12 => {
                let time = u64::from(input.u8());
                let unit = [1, 10, 200, 5000][usize::from(input.u8()) % 4];
                self.advance(Duration::from_millis(time * unit));
            }
            13 => self.write_or_read(input),
            14 => self.close(input),
            15 => self.connect(input),
            16 => self.datagram(input),
            17 => self.send(input),
            18 => {
                let index = usize::from(input.u8()) % PEERS;
                self.peers[index].answers ^= true;
            }
            _ => self.accept(),
        }
    }

    fn receive(&mut self, frame: Packet) {
        self.engine
            .receive(self.now, self.interface, &mut vec![frame], &mut self.wakes);
    }

    /// An IP packet in a frame of that peer.
    fn receive_from(
        &mut self,
        index: usize,
        (source, destination): (IpAddr, IpAddr),
        to: MacAddress,
        protocol: u8,
        mut packet: Packet,
    ) {
        packet.offload.checksum = Checksum::Verified;
        let header = OutputHeader::new(source, destination, protocol);
        if output::prepend(&mut packet, &header).is_ok() {
            let protocol = LinkProtocol::of(destination);
            ethernet::prepend(&mut packet, peer_hardware(index), to, protocol);
            self.receive(packet);
        }
    }

    fn send_segment(&mut self, index: usize, is_v6: bool, header: &Header, data: &[u8]) {
        let mut packet = Packet::new();
        packet.push(Bytes::copy_from_slice(data));
        header.emit(packet.prepend(header.encoded_len()));
        let addresses = (peer_address(index, is_v6), local_address(is_v6));
        self.receive_from(index, addresses, OURS, protocol::TCP, packet);
    }

    fn handshake(&mut self, index: usize, is_v6: bool, iss: u32) {
        let mut header = Header {
            source_port: 4000 + index as u16,
            destination_port: PORT,
            sequence: iss,
            flags: Flags::SYN,
            window: 65_535,
            ..Header::default()
        };
        self.send_segment(index, is_v6, &header, &[]);
        self.settle();
        let flow = &mut self.peers[index].flows[usize::from(is_v6)];
        flow.next = iss.wrapping_add(1);
        header.flags = Flags::ACK;
        header.sequence = flow.next;
        header.acknowledgment = flow.seen;
        self.send_segment(index, is_v6, &header, &[]);
        self.accept();
    }

    /// A segment near what the connection expects.
    fn segment(&mut self, input: &mut Input<'_>) {
        let (index, choice) = (usize::from(input.u8()) % PEERS, input.u8());
        let is_v6 = choice & 1 != 0;
        let flow = self.peers[index].flows[usize::from(is_v6)];
        let offset = i32::from(input.u8() as i8) * [0, 0, 1, 1000][usize::from(choice >> 1) % 4];
        let flags = Flags(input.u8());
        let header = Header {
            source_port: 4000 + index as u16,
            destination_port: PORT,
            sequence: flow.next.wrapping_add_signed(offset),
            acknowledgment: flow.seen.wrapping_sub(u32::from(input.u8()) * 10),
            flags,
            window: input.u16(),
            ..Header::default()
        };
        let len = usize::from(input.u8()) * 4;
        self.send_segment(index, is_v6, &header, &vec![choice; len]);
        if offset == 0 {
            let control =
                u32::from(flags.contains(Flags::FIN)) + u32::from(flags.contains(Flags::SYN));
            self.peers[index].flows[usize::from(is_v6)].next =
                flow.next.wrapping_add(len as u32 + control);
        }
    }

    fn raw(&mut self, input: &mut Input<'_>) {
        let len = usize::from(input.u8());
        let mut octets = input.take(len).to_vec();
        if len & 1 == 0 && octets.len() >= 6 {
            octets[..6].copy_from_slice(&OURS.0);
        }
        self.receive(Packet::from_bytes(octets.into()));
    }

    /// A datagram, to one or to all, in the wrong frame at times.
    fn datagram(&mut self, input: &mut Input<'_>) {
        let (index, choice) = (usize::from(input.u8()) % PEERS, input.u8());
        let is_v6 = choice & 1 != 0;
        let len = usize::from(input.u8());
        let mut packet = Packet::new();
        packet.push(Bytes::copy_from_slice(input.take(len)));
        let header = udp::Header {
            source_port: 4000,
            destination_port: if choice & 2 == 0 { UDP_PORT } else { 9 },
            length: (packet.len() + udp::HEADER_LEN) as u16,
            checksum: 1,
        };
        header.emit(packet.prepend(udp::HEADER_LEN));
        let source = match choice >> 2 & 3 {
            // A stranger on the link.
            0 if is_v6 => IpAddr::V6(Ipv6Addr::from(
                u128::from(LOCAL_V6) + 256 + u128::from(input.u8()),
            )),
            0 => IpAddr::V4(Ipv4Addr::from(
                u32::from(LOCAL_V4) + 100 + u32::from(input.u8() % 100),
            )),
            1 => local_address(is_v6),
            _ => peer_address(index, is_v6),
        };
        let destination = match (choice >> 4 & 3, is_v6) {
            (0, false) => IpAddr::V4(Ipv4Addr::new(10, 0, 0, 255)),
            (0, true) => IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)),
            _ => local_address(is_v6),
        };
        let to = [OURS, MacAddress::BROADCAST][usize::from(choice >> 6 & 1)];
        self.receive_from(index, (source, destination), to, protocol::UDP, packet);
        let mut buffer = [0; 64];
        let received = self.udp.lock().socket.socket.recv(&mut buffer);
        assert!(received.is_err() || received.is_ok_and(|received| received.len <= 64));
    }

    /// Datagrams and echo requests of ours, to who is there and who is not.
    fn send(&mut self, input: &mut Input<'_>) {
        let (index, choice) = (usize::from(input.u8()) % (2 * PEERS), input.u8());
        if choice & 2 == 0 {
            let to = SocketAddr::new(peer_address(index, choice & 1 != 0), 7);
            let data = vec![choice; usize::from(input.u8()) * 32];
            let sent = self.engine.udp_send(self.now, &self.udp, &data, Some(to));
            assert!(sent.is_err() || sent == Ok(data.len()));
        } else {
            let to = peer_v4(index).into();
            let _ = self
                .engine
                .echo_send(self.now, &self.echo, to, 1, &[choice; 8]);
            let _ = self.engine.echo_receive(&self.echo);
        }
    }

    fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        let mut events = 0;
        while let Some(at) = self.engine.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.engine.handle_timeout(self.now, &mut self.wakes);
            self.settle();
            events += 1;
            assert!(events < 20_000, "timers go on for ever");
        }
        self.now = end;
    }

    fn accept(&mut self) {
        if let Ok((slot, _)) = self.engine.tcp_accept(&self.listener) {
            self.connections.push(slot);
        }
    }

    fn connect(&mut self, input: &mut Input<'_>) {
        let (index, choice) = (usize::from(input.u8()) % (2 * PEERS), input.u8());
        let remote = SocketAddr::new(peer_address(index, choice & 1 != 0), PORT);
        let options = TcpOptions::default();
        if self.connections.len() < 32
            && let Ok(slot) = self.engine.tcp_connect(self.now, None, remote, &options)
        {
            self.connections.push(slot);
        }
    }

    fn pick(&self, input: &mut Input<'_>) -> Option<Arc<TcpSlot>> {
        let index = usize::from(input.u8());
        (!self.connections.is_empty())
            .then(|| Arc::clone(&self.connections[index % self.connections.len()]))
    }

    fn write_or_read(&mut self, input: &mut Input<'_>) {
        let Some(slot) = self.pick(input) else { return };
        let mut data = vec![input.u8(); usize::from(input.u16())];
        let mut state = slot.lock();
        let connection = &mut state.socket.connection;
        let result = if data.len().is_multiple_of(2) {
            connection.write(&data)
        } else {
            connection.read(&mut data)
        };
        assert!(result.is_err() || result.is_ok_and(|count| count <= data.len()));
        drop(state);
        self.engine.mark_ready(SlotRef::from(&slot));
    }

    fn close(&mut self, input: &mut Input<'_>) {
        let how = input.u8();
        let Some(slot) = self.pick(input) else { return };
        match how % 3 {
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

    /// Takes what the engine sends, until its neighbours have nothing more to answer.
    fn settle(&mut self) {
        for _ in 0..8 {
            let mut batch = Vec::new();
            self.engine
                .transmit(self.now, self.interface, &mut batch, &mut self.wakes);
            self.wakes.wake_all();
            assert!(batch.len() <= MAX_FRAMES_PER_STEP, "{} frames", batch.len());
            self.check_tables();
            let mut answered = false;
            for frame in &batch {
                answered |= self.learn(&frame.to_bytes());
            }
            if !answered {
                break;
            }
        }
        self.reached |= self
            .connections
            .iter()
            .any(|slot| slot.lock().socket.connection.info().state == State::Established);
    }

    fn check_tables(&self) {
        let neighbors = self.engine.neighbors();
        assert!(neighbors.len() <= MAX_NEIGHBORS, "{neighbors:?}");
        for neighbor in neighbors {
            let address = neighbor.key.address;
            assert!(
                !address.is_multicast() && !address.is_unspecified(),
                "{address}"
            );
            let hardware = neighbor.address;
            assert!(
                hardware.is_none_or(|hardware| hardware.is_unicast() && hardware != OURS),
                "{address} is at {hardware:?}"
            );
        }
    }

    /// The application lets everything go; a while later nothing may be left, of neighbours neither.
    fn drain(&mut self) {
        for slot in std::mem::take(&mut self.connections) {
            self.engine.close_tcp(self.now, &slot, &mut self.wakes);
        }
        self.engine
            .close_listener(self.now, &self.listener, &mut self.wakes);
        self.engine.close_udp(self.now, &self.udp);
        self.settle();
        let mut events = 0;
        while let Some(at) = self.engine.poll_timeout() {
            self.now = self.now.max(at);
            self.engine.handle_timeout(self.now, &mut self.wakes);
            self.settle();
            events += 1;
            assert!(
                events < 20_000,
                "timers go on for ever: {:?}",
                self.engine.sockets()
            );
        }
        assert_eq!(self.engine.orphan_count(), 0, "{:?}", self.engine.sockets());
        let sockets = self.engine.sockets();
        assert!(
            sockets.iter().all(|socket| socket.protocol == "icmp"),
            "{sockets:?}"
        );
        let neighbors = self.engine.neighbors();
        assert!(neighbors.is_empty(), "{neighbors:?}");
        assert!(!self.engine.has_ready());
    }
}
