//! Associations in a whole engine: a peer that is correct up to ESTABLISHED and then does anything, time, ICMP and the
//! application's calls, in any order.
//!
//! `peer` builds what arrives and learns from what is sent; `application` holds the associations; here they are put
//! together, and what must hold after each step is asserted.

mod application;
mod peer;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tidewire::config::Config;
use tidewire::engine::sctp_sockets::SctpOptions;
use tidewire::engine::{Engine, SctpListenerSlot, WakeList};
use tidewire::error::SocketError;
use tidewire::ip::output::{OutputHeader, prepend};
use tidewire::ip::{Cidr, InterfaceId};
use tidewire::sctp;
use tidewire::sctp::association::State;
use tidewire::time::Instant;
use tidewire::transport::ports::BindRequest;
use tidewire::wire::protocol;
use tidewire::wire::sctp::{Chunk, CommonHeader, PacketReader};
use tidewire_netdev::crc32c::sctp_is_intact;
use tidewire_netdev::{Capabilities, Checksum, Medium, OffloadSet, Packet};

use application::Application;
use peer::Peer;

use super::Input;

/// Executions, and those in which an association was established: what the fuzzing report quotes.
static EXECUTIONS: AtomicU64 = AtomicU64::new(0);
static ESTABLISHED: AtomicU64 = AtomicU64::new(0);

const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The peer's addresses; INITs list the second one, or do not.
const PEER: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 3)];
const PORT: u16 = 7;
const MTU: usize = 1500;
const IP_HEADER_LEN: usize = 20;
const BACKLOG: u32 = 2;
const MAX_STEPS: usize = 200;
/// Octets that one step may make the engine send: all that may wait to be sent, twice, and answers.
const MAX_SENT_PER_STEP: usize = 1 << 20;
/// The same in packets: as many messages of one octet as the send buffers take, and answers.
const MAX_PACKETS_PER_STEP: usize = 10_000;
/// Deadlines met one by one while time passes; beyond, time jumps.
const MAX_DEADLINES: usize = 100;
/// How often timers may be due again at one instant.
const MAX_ROUNDS: usize = 64;

struct Harness {
    engine: Engine,
    interface: InterfaceId,
    now: Instant,
    wakes: WakeList,
    listener: Arc<SctpListenerSlot>,
    application: Application,
    peers: [Peer; 4],
    /// Fragments of the engine's packets, put together: IP identification and octets.
    fragments: Option<(u16, Vec<u8>)>,
}

pub(super) fn association(data: &[u8]) {
    let mut input = Input(data);
    let mut harness = Harness::new(u64::from(input.u8()));
    harness.handshake(0, &mut input);
    harness.accept();
    harness.settle();
    let sockets = harness.engine.sockets();
    let reached = sockets
        .iter()
        .any(|socket| socket.association_state == Some(State::Established));
    let mut steps = 0;
    while !input.is_empty() && steps < MAX_STEPS {
        harness.step(&mut input);
        harness.settle();
        steps += 1;
    }
    harness.drain();
    let established =
        ESTABLISHED.fetch_add(u64::from(reached), Ordering::Relaxed) + u64::from(reached);
    let executions = EXECUTIONS.fetch_add(1, Ordering::Relaxed) + 1;
    if executions.is_power_of_two() && executions >= 1 << 12 {
        eprintln!("sctp_association: {established} of {executions} executions reached ESTABLISHED");
    }
}

fn config(seed: u64) -> Config {
    let mut config = Config {
        seed: Some(seed),
        ..Config::default()
    };
    config.sctp = sctp::Config {
        max_notifications: application::MAX_NOTIFICATIONS,
        outbound_streams: 8,
        max_inbound_streams: 8,
        ..sctp::Config::default()
    };
    config.sctp.receive.buffer = application::BUFFER;
    config.sctp.receive.partial_delivery_point = application::BUFFER / 2;
    config.sctp.send.buffer = application::BUFFER;
    config
}

impl Harness {
    fn new(seed: u64) -> Self {
        let engine = Engine::new(config(seed));
        let capabilities = Capabilities {
            medium: Medium::Ip,
            mtu: MTU,
            offloads: OffloadSet::ALL,
            max_super_packet: 65_535,
        };
        let interface = engine.add_interface("fuzz0".to_owned(), capabilities);
        let prefix = Cidr::new(LOCAL.into(), 24).expect("a valid prefix");
        engine.add_address(Instant::ZERO, interface, prefix);
        let local = SocketAddr::new(LOCAL.into(), PORT);
        let leases = engine
            .sctp_bind(&[local], &BindRequest::new(local))
            .expect("the port is free");
        let options = SctpOptions::default();
        let listener = engine
            .sctp_listen(Instant::ZERO, leases, BACKLOG, false, &options)
            .expect("nobody listens yet");
        Self {
            engine,
            interface,
            now: Instant::ZERO,
            wakes: WakeList::new(),
            listener,
            application: Application::default(),
            peers: std::array::from_fn(|index| Peer::new(4000 + index as u16, PORT)),
            fragments: None,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let what = input.u8() % 32;
        let index = usize::from(what / 8) % self.peers.len();
        match input.u8() % 24 {
            0..=8 => self.chunks(index, input),
            9 => self.octets(index, input),
            10 => self.acknowledge(index, input),
            11 => self.advance(input),
            12 | 13 => self.application.send(&self.engine, input),
            14 => self.application.receive(&self.engine, input),
            15 => self.application.receive_on(&self.engine, input),
            16 => {
                let (engine, now) = (&self.engine, self.now);
                self.application.end(engine, now, input, &mut self.wakes);
            }
            17 => {
                let (engine, now) = (&self.engine, self.now);
                self.application.set_option(engine, now, input);
            }
            18 => self.accept(),
            19 => self.icmp(index, input),
            20 => self.restart(index, input),
            21 => self.handshake(index, input),
            22 => self.burst(index, input),
            _ if what & 1 == 0 => self.connect(index),
            _ => self.application.read_events(&self.engine, input),
        }
    }

    fn accept(&mut self) {
        if let Ok((slot, _)) = self.engine.sctp_accept(&self.listener) {
            self.application.hold(slot);
        }
    }

    /// The engine connects to a peer, which then is one that has not answered.
    fn connect(&mut self, index: usize) {
        let remote = SocketAddr::new(PEER[0].into(), self.peers[index].port());
        let options = SctpOptions::default();
        if self.application.has_room()
            && let Ok(slot) = self
                .engine
                .sctp_connect(self.now, None, &[remote], &options)
        {
            self.application.hold(slot);
        }
    }

    /// A packet of a peer arrives, from one of its addresses.
    fn receive(&mut self, source: Ipv4Addr, mut packet: Packet, protocol: u8) {
        packet.offload.checksum = Checksum::Verified;
        let header = OutputHeader::new(source.into(), LOCAL.into(), protocol);
        if prepend(&mut packet, &header).is_ok() {
            self.engine
                .receive(self.now, self.interface, &mut vec![packet], &mut self.wakes);
        }
    }

    /// An association from the first packet on, as a correct peer sets it up.
    fn handshake(&mut self, index: usize, input: &mut Input<'_>) {
        self.peers[index] = Peer::new(self.peers[index].port(), PORT);
        self.restart(index, input);
    }

    /// INIT, and the COOKIE ECHO that belongs to its answer: a restart if there is an association.
    fn restart(&mut self, index: usize, input: &mut Input<'_>) {
        let init = self.peers[index].init(input);
        self.receive(PEER[0], init, protocol::SCTP);
        self.collect();
        let echo = self.peers[index].cookie_echo();
        self.receive(PEER[0], echo, protocol::SCTP);
        self.collect();
    }

    /// Chunks near what is expected.
    fn chunks(&mut self, index: usize, input: &mut Input<'_>) {
        let choice = input.u8();
        let source = PEER[usize::from(choice >= 0xc0)];
        let packet = self.peers[index].chunks(choice, input);
        self.receive(source, packet, protocol::SCTP);
    }

    /// Any octets where chunks are.
    fn octets(&mut self, index: usize, input: &mut Input<'_>) {
        let len = usize::from(input.u8());
        let packet = self.peers[index].packet_of(input.take(len));
        self.receive(PEER[0], packet, protocol::SCTP);
    }

    /// The peer takes everything that it was sent.
    fn acknowledge(&mut self, index: usize, input: &mut Input<'_>) {
        let packet = self.peers[index].acknowledge(input);
        self.receive(PEER[0], packet, protocol::SCTP);
    }

    /// Many packets of DATA at once, in order or with gaps.
    fn burst(&mut self, index: usize, input: &mut Input<'_>) {
        let (count, shape, len) = (input.u8(), input.u8(), input.u8());
        for _ in 0..count {
            let packet = self.peers[index].data_packet(shape, usize::from(len) * 5 + 1);
            self.receive(PEER[0], packet, protocol::SCTP);
        }
    }

    /// An ICMP error about the last packet to a peer, or about one that never was.
    fn icmp(&mut self, index: usize, input: &mut Input<'_>) {
        let (kind, code) = match input.u8() % 8 {
            0 => (input.u8(), input.u8()),
            // Protocol unreachable, port unreachable, host unreachable, time exceeded.
            1 => (3, 2),
            2 => (3, 3),
            3 => (3, 1),
            4 => (11, 0),
            // Fragmentation needed.
            _ => (3, 4),
        };
        let mut message = vec![kind, code, 0, 0, 0, 0];
        message.extend(input.u16().to_be_bytes());
        let quoted = self.peers[index].last_packet();
        let len = quoted.len().min(28 + usize::from(input.u8() % 64));
        message.extend(&quoted[..len]);
        if let Some(octet) = message.get_mut(8 + usize::from(input.u8())) {
            *octet ^= 1;
        }
        let packet = Packet::from_bytes(Bytes::from(message));
        self.receive(PEER[0], packet, protocol::ICMPV4);
    }

    /// Time passes; what is due on the way is done then, up to some number of deadlines.
    fn advance(&mut self, input: &mut Input<'_>) {
        let unit = [1, 20, 1000, 10_000][usize::from(input.u8()) % 4];
        let until = self.now + Duration::from_millis(u64::from(input.u8()) * unit);
        for _ in 0..MAX_DEADLINES {
            match self.engine.poll_timeout() {
                Some(at) if at < until => self.now = self.now.max(at),
                _ => break,
            }
            self.settle();
        }
        self.now = until;
    }

    /// Whatever is due now is done, and then everything holds.
    fn settle(&mut self) {
        self.collect();
        let mut rounds = 0;
        while self.engine.poll_timeout().is_some_and(|at| at <= self.now) {
            self.engine.handle_timeout(self.now, &mut self.wakes);
            self.collect();
            rounds += 1;
            assert!(
                rounds < MAX_ROUNDS,
                "time stands still: {:?}",
                self.engine.sockets()
            );
        }
        self.application.check();
        self.check_count();
    }

    /// Every association is held by the application, waits to be accepted, or finishes in the background.
    fn check_count(&self) {
        let queued = self.listener.lock().socket.queued();
        assert!(queued <= BACKLOG as usize + 1, "{queued} wait");
        let held = self.application.len() + queued + self.engine.orphan_count();
        let all = self.associations();
        assert!(all <= held, "{all} associations, {held} of them anybody's");
    }

    fn associations(&self) -> usize {
        let sockets = self.engine.sockets();
        let associations = sockets
            .iter()
            .filter(|socket| socket.association_state.is_some());
        associations.count()
    }

    /// Takes what the engine sends.
    fn collect(&mut self) {
        let mut batch = Vec::new();
        self.engine
            .transmit(self.now, self.interface, &mut batch, &mut self.wakes);
        self.wakes.wake_all();
        let octets: usize = batch.iter().map(Packet::len).sum();
        assert!(octets <= MAX_SENT_PER_STEP, "a step sent {octets} octets");
        let packets = batch.len();
        assert!(
            packets <= MAX_PACKETS_PER_STEP,
            "a step sent {packets} packets"
        );
        for packet in batch {
            self.inspect(&packet);
        }
    }

    /// A packet of the engine: within its path's MTU, and if it is SCTP's, one that can be read.
    fn inspect(&mut self, packet: &Packet) {
        let octets = packet.to_bytes();
        assert_eq!(octets[0], 0x45, "IPv4 without options");
        assert_eq!(
            usize::from(u16::from_be_bytes([octets[2], octets[3]])),
            octets.len()
        );
        let destination: [u8; 4] = octets[16..20].try_into().expect("four octets");
        let destination = IpAddr::from(destination);
        let path = self.engine.network.path(self.now, destination, None, None);
        let mtu = path.map_or(MTU, |path| path.mtu);
        assert!(
            octets.len() <= mtu,
            "{} octets, the path carries {mtu}",
            octets.len()
        );
        if octets[9] != protocol::SCTP {
            return;
        }
        let id = u16::from_be_bytes([octets[4], octets[5]]);
        let place = u16::from_be_bytes([octets[6], octets[7]]);
        let (more, offset) = (place & 0x2000 != 0, usize::from(place & 0x1fff) * 8);
        let payload = octets.slice(IP_HEADER_LEN..);
        if !more && offset == 0 {
            let is_filled = !matches!(packet.offload.checksum, Checksum::Partial { .. });
            let good = sctp_is_intact(&Packet::from_bytes(payload.clone()), 0);
            assert!(good || !is_filled, "a wrong checksum");
            self.learn(&octets, payload);
            return;
        }
        // Fragments of a packet come one after the other.
        let (known, mut whole) = self.fragments.take().unwrap_or((id, Vec::new()));
        assert_eq!((known, whole.len()), (id, offset), "fragments in order");
        whole.extend_from_slice(&payload);
        if more {
            self.fragments = Some((id, whole));
        } else {
            self.learn(&octets, Bytes::from(whole));
        }
    }

    /// An SCTP packet of the engine's.
    fn learn(&mut self, octets: &[u8], payload: Bytes) {
        let packet = Packet::from_bytes(payload);
        let (header, mut reader) = PacketReader::new(&packet).expect("a common header");
        let summary = reader.summary();
        assert!(summary.count() > 0, "a packet without chunks");
        assert!(!summary.violates_bundling(), "INIT or such with others");
        let mut chunks = Vec::new();
        while let Some(chunk) = reader.next_chunk() {
            let chunk = chunk.expect("a chunk that can be read");
            check_chunk(&header, &chunk);
            chunks.push(chunk);
        }
        let port = header.destination_port;
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.port() == port) {
            peer.learn(octets, &header, chunks);
        }
    }

    /// The application lets everything go. With a peer that is silent nothing is left when T5 has run out (RFC 9260 9.2).
    fn drain(&mut self) {
        self.application
            .drop_all(&self.engine, self.now, &mut self.wakes);
        self.engine
            .close_sctp_listener(self.now, &self.listener, &mut self.wakes);
        let end = self.now + sctp::Config::default().shutdown_guard;
        self.settle();
        let mut deadlines = 0;
        while let Some(at) = self.engine.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.settle();
            deadlines += 1;
            assert!(
                deadlines < 10_000,
                "timers go on: {:?}",
                self.engine.sockets()
            );
        }
        assert_eq!(self.associations(), 0, "{:?}", self.engine.sockets());
        assert_eq!(self.engine.orphan_count(), 0);
        let gone = self.engine.sctp_accept(&self.listener).map(|_| ());
        assert_eq!(gone, Err(SocketError::WouldBlock));
    }
}

/// What every chunk of the engine's keeps to.
fn check_chunk(header: &CommonHeader, chunk: &Chunk) {
    // RFC 9260 8.5.1 A, 8.4: an INIT has no tag, and nothing else is without one unless that was reflected.
    match chunk {
        Chunk::Init(init) | Chunk::InitAck(init) => {
            assert_ne!(init.initiate_tag, 0);
            assert!(init.a_rwnd >= 1500 && init.outbound_streams > 0 && init.inbound_streams > 0);
            let is_init = matches!(chunk, Chunk::Init(_));
            assert_eq!(header.verification_tag == 0, is_init);
        }
        Chunk::Abort { causes, .. } | Chunk::Error(causes) => {
            assert!(causes.iter().all(|cause| cause.is_ok()), "{causes:?}");
        }
        Chunk::Sack(sack) => {
            let mut end = 0;
            for block in &sack.gap_blocks {
                // 3.3.4: in order, and with a gap before each.
                assert!(
                    block.start > end + 1 && block.end >= block.start,
                    "{sack:?}"
                );
                end = block.end;
            }
        }
        Chunk::Unknown(_) | Chunk::Ecne { .. } | Chunk::Cwr { .. } => {
            panic!("never sent: {chunk:?}")
        }
        Chunk::Data(_) | Chunk::Shutdown { .. } | Chunk::CookieEcho(_) => {
            assert_ne!(header.verification_tag, 0);
        }
        _ => {}
    }
}
