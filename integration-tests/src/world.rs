//! Two hosts on one or several impaired links, run by an event heap: no runtime, no real time, nanoseconds.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tidewire::config::Config;
use tidewire::engine::sockets::TcpOptions;
use tidewire::engine::{Engine, ListenerSlot, SlotRef, TcpSlot, WakeList};
use tidewire::error::{SocketError, SocketResult};
use tidewire::ip::InterfaceId;
use tidewire::time::Instant;
use tidewire::transport::ports::BindRequest;
use tidewire_netdev::capture::{Capture, CaptureConfig, Direction, InterfaceIndex};
use tidewire_netdev::memory::impairment::{Impairment, ImpairmentConfig, ImpairmentStats};
use tidewire_netdev::{Capabilities, Medium, OffloadSet, Packet};

/// How the link between the hosts is.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Both directions alike.
    pub impairment: ImpairmentConfig,
    /// The link's MTU.
    pub mtu: usize,
    /// What the devices at both ends do for the stacks.
    pub offloads: OffloadSet,
    /// Seeds the impairments and the stacks.
    pub seed: u64,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            impairment: ImpairmentConfig::delay(Duration::from_millis(5)),
            mtu: 1500,
            offloads: OffloadSet::ALL,
            seed: 1,
        }
    }
}

/// One of the two hosts.
pub struct Host {
    /// The stack.
    pub engine: Engine,
    ports: Vec<Port>,
}

/// A host's end of a link.
struct Port {
    interface: InterfaceId,
    /// What it sends.
    link: Impairment,
    capture: InterfaceIndex,
}

/// Which host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// 10.0.0.1 and fd00::1.
    A,
    /// 10.0.0.2 and fd00::2.
    B,
}

impl Side {
    /// The address of that host on the first link.
    pub fn address(self, v6: bool) -> IpAddr {
        self.address_on(0, v6)
    }

    /// The address of that host on a link: 10.0.N.1 and fd00:0:0:N::1, or 2.
    pub fn address_on(self, link: u8, v6: bool) -> IpAddr {
        let last = self as u8 + 1;
        if v6 {
            IpAddr::from([0xfd00, 0, 0, u16::from(link), 0, 0, 0, u16::from(last)])
        } else {
            IpAddr::from([10, 0, link, last])
        }
    }
}

/// A writer that keeps only a hash, so that captures of any length can be compared.
#[derive(Default)]
pub struct Hashing(Sha256);

impl io::Write for Hashing {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.update(octets);
        Ok(octets.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Two hosts and their link.
pub struct World {
    /// A and B.
    pub hosts: [Host; 2],
    /// Now.
    pub now: Instant,
    /// `None` where nobody compares: hashing costs more than the stacks do.
    capture: Option<Capture<Hashing>>,
    wakes: WakeList,
    batch: Vec<Packet>,
}

impl World {
    /// Two hosts with default stacks.
    pub fn new(link: &LinkConfig) -> Self {
        Self::with_config(link, Config::default())
    }

    /// Two hosts with stacks of `config`; their seeds come from the link's.
    ///
    /// # Panics
    /// Never, but for a capture that cannot hash.
    pub fn with_config(link: &LinkConfig, config: Config) -> Self {
        Self::with_links(std::slice::from_ref(link), config)
    }

    /// Two hosts with stacks of `config`, joined by several links; all seeds come from the first one's.
    ///
    /// # Panics
    /// Without a link, or with more than 255.
    pub fn with_links(links: &[LinkConfig], config: Config) -> Self {
        let mut capture =
            Capture::new(Hashing::default(), CaptureConfig::default()).expect("hashing writes");
        let mut host = |side: Side| {
            let seed = links[0].seed.wrapping_mul(2).wrapping_add(side as u64);
            let engine = Engine::new(Config {
                seed: Some(seed),
                ..config.clone()
            });
            let port = |(link, n): (&LinkConfig, u8)| {
                let capabilities = Capabilities {
                    medium: Medium::Ip,
                    mtu: link.mtu,
                    offloads: link.offloads,
                    max_super_packet: 65_535,
                };
                let interface = engine.add_interface(format!("mem{n}"), capabilities);
                for (v6, prefix) in [(false, 24), (true, 64)] {
                    let address = side.address_on(n, v6);
                    let cidr = tidewire::ip::Cidr::new(address, prefix).expect("a valid prefix");
                    engine.add_address(Instant::ZERO, interface, cidr);
                }
                let name = if side == Side::A { "a" } else { "b" };
                let seed = seed ^ 0x5eed ^ (u64::from(n) << 32);
                Port {
                    interface,
                    link: Impairment::new(link.impairment.clone(), seed),
                    capture: capture
                        .add_interface(name, Medium::Ip)
                        .expect("hashing writes"),
                }
            };
            let ports = links.iter().zip(0..).map(port).collect();
            Host { engine, ports }
        };
        let hosts = [host(Side::A), host(Side::B)];
        Self {
            hosts,
            now: Instant::ZERO,
            capture: Some(capture),
            wakes: WakeList::new(),
            batch: Vec::new(),
        }
    }

    /// The same without a record of what was sent, which takes most of the time of a long run.
    pub fn without_capture(mut self) -> Self {
        self.capture = None;
        self
    }

    /// The stack of a host.
    pub fn engine(&self, side: Side) -> &Engine {
        &self.hosts[side as usize].engine
    }

    /// What the first link from `side` did so far.
    pub fn link_stats(&self, side: Side) -> ImpairmentStats {
        self.link_stats_of(side, 0)
    }

    /// What a link from `side` did so far.
    pub fn link_stats_of(&self, side: Side, link: usize) -> ImpairmentStats {
        self.hosts[side as usize].ports[link].link.stats()
    }

    /// Changes the first link from `side`.
    pub fn set_link(&mut self, side: Side, config: ImpairmentConfig) {
        self.set_link_of(side, 0, config);
    }

    /// Changes a link from `side`.
    pub fn set_link_of(&mut self, side: Side, link: usize, config: ImpairmentConfig) {
        self.hosts[side as usize].ports[link]
            .link
            .set_config(config);
    }

    /// The interface of `side` on a link.
    pub fn interface(&self, side: Side, link: usize) -> InterfaceId {
        self.hosts[side as usize].ports[link].interface
    }

    /// The hash of everything both hosts sent, with times.
    ///
    /// # Panics
    /// After [`Self::without_capture`].
    pub fn capture_hash(self) -> String {
        let capture = self.capture.expect("captured");
        let hash = capture.into_inner().0.finalize();
        hash.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    /// Sends what the hosts have to send, at this moment.
    pub fn flush(&mut self) {
        for host in &mut self.hosts {
            // As a driver does: what was ready, and what a full device has left.
            let is_left = |port: &Port| host.engine.is_blocked(port.interface);
            if !host.engine.has_ready() && !host.ports.iter().any(is_left) {
                continue;
            }
            for port in &mut host.ports {
                host.engine
                    .transmit(self.now, port.interface, &mut self.batch, &mut self.wakes);
                for packet in self.batch.drain(..) {
                    if let Some(capture) = &mut self.capture {
                        let at = Duration::from_nanos(self.now.as_nanos());
                        capture
                            .record(port.capture, Direction::Outbound, at, &packet)
                            .expect("hashing writes");
                    }
                    port.link.enqueue(self.now.as_nanos(), packet);
                }
            }
        }
        self.wakes.wake_all();
    }

    /// Goes to the next event and handles it. `false` when there is none before `until`.
    pub fn step(&mut self, until: Instant) -> bool {
        self.flush();
        let deadlines = self.hosts.iter().flat_map(|host| {
            let links = host.ports.iter().map(|port| port.link.poll_timeout());
            let links = links.map(|at| at.map(Instant::from_nanos));
            links.chain([host.engine.poll_timeout()])
        });
        let Some(next) = deadlines.flatten().min().filter(|next| *next <= until) else {
            return false;
        };
        self.now = self.now.max(next);
        for from in 0..2 {
            for link in 0..self.hosts[from].ports.len() {
                let port = &mut self.hosts[from].ports[link];
                while let Some(packet) = port.link.dequeue(self.now.as_nanos()) {
                    self.batch.push(packet);
                }
                let to = &self.hosts[1 - from];
                let interface = to.ports[link].interface;
                to.engine
                    .receive(self.now, interface, &mut self.batch, &mut self.wakes);
            }
        }
        for host in &self.hosts {
            host.engine.handle_timeout(self.now, &mut self.wakes);
        }
        self.wakes.wake_all();
        self.flush();
        true
    }

    /// Runs until `done` says so, or `limit` of virtual time has passed; whether it did.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let until = self.now + limit;
        loop {
            if done(self) {
                return true;
            }
            if !self.step(until) {
                return done(self);
            }
        }
    }

    /// Listens on B's port.
    ///
    /// # Errors
    /// As binding and listening do.
    pub fn listen(&self, side: Side, v6: bool, port: u16) -> SocketResult<Arc<ListenerSlot>> {
        let request = BindRequest::new(SocketAddr::new(side.address(v6), port));
        let engine = self.engine(side);
        engine.tcp_listen(
            engine.tcp_bind(&request)?,
            128,
            false,
            &TcpOptions::default(),
        )
    }

    /// Begins a connection from A to B.
    ///
    /// # Errors
    /// As connecting does.
    pub fn connect(&self, v6: bool, port: u16) -> SocketResult<Arc<TcpSlot>> {
        let remote = SocketAddr::new(Side::B.address(v6), port);
        self.engine(Side::A)
            .tcp_connect(self.now, None, remote, &TcpOptions::default())
    }

    /// A connected pair: A's end and B's.
    ///
    /// # Panics
    /// When the connection does not come about within `limit` of virtual time.
    pub fn connected(&mut self, v6: bool, limit: Duration) -> (Arc<TcpSlot>, Arc<TcpSlot>) {
        let listener = self.listen(Side::B, v6, 80).expect("the port is free");
        let client = self.connect(v6, 80).expect("B is reachable");
        let mut server = None;
        let connected = self.run_until(limit, |world| {
            server = server
                .take()
                .or_else(|| world.engine(Side::B).tcp_accept(&listener).ok());
            server.is_some()
        });
        assert!(connected, "no connection within {limit:?} of virtual time");
        (client, server.expect("accepted").0)
    }
}

/// Writes what the send buffer takes; how much that was.
///
/// # Panics
/// When the connection has failed.
pub fn write(engine: &Engine, slot: &Arc<TcpSlot>, data: &[u8]) -> usize {
    let result = slot.lock().socket.connection.write(data);
    engine.mark_ready(SlotRef::from(slot));
    match result {
        Ok(written) => written,
        Err(SocketError::WouldBlock) => 0,
        Err(error) => panic!("write failed: {error}"),
    }
}

/// Reads all there is into `into`; whether the end of the stream was met.
///
/// # Panics
/// When the connection has failed.
pub fn read(engine: &Engine, slot: &Arc<TcpSlot>, into: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 65_536];
    loop {
        let result = slot.lock().socket.connection.read(&mut buffer);
        engine.mark_ready(SlotRef::from(slot));
        match result {
            Ok(0) => return true,
            Ok(count) => into.extend_from_slice(&buffer[..count]),
            Err(SocketError::WouldBlock) => return false,
            Err(error) => panic!("read failed: {error}"),
        }
    }
}

/// Ends the write side.
///
/// # Panics
/// When the connection has failed.
pub fn shutdown(engine: &Engine, slot: &Arc<TcpSlot>) {
    slot.lock()
        .socket
        .connection
        .shutdown_write()
        .expect("connected");
    engine.mark_ready(SlotRef::from(slot));
}

/// Sends `up` from A and `down` from B at once over one connection, both ends half-closing when done, within `limit` of
/// virtual time. What each side received.
///
/// # Panics
/// When it takes longer, or the connection fails.
pub fn exchange(
    world: &mut World,
    v6: bool,
    up: &[u8],
    down: &[u8],
    limit: Duration,
) -> (Vec<u8>, Vec<u8>) {
    let (client, server) = world.connected(v6, limit);
    let (mut sent_up, mut sent_down) = (0, 0);
    let (mut at_a, mut at_b) = (Vec::new(), Vec::new());
    let (mut shut_a, mut shut_b) = (false, false);
    let (mut end_a, mut end_b) = (false, false);
    let done = world.run_until(limit, |world| {
        let (a, b) = (world.engine(Side::A), world.engine(Side::B));
        sent_up += if shut_a {
            0
        } else {
            write(a, &client, &up[sent_up..])
        };
        sent_down += if shut_b {
            0
        } else {
            write(b, &server, &down[sent_down..])
        };
        if sent_up == up.len() && !shut_a {
            shutdown(a, &client);
            shut_a = true;
        }
        if sent_down == down.len() && !shut_b {
            shutdown(b, &server);
            shut_b = true;
        }
        end_a = end_a || read(a, &client, &mut at_a);
        end_b = end_b || read(b, &server, &mut at_b);
        world.flush();
        end_a && end_b && shut_a && shut_b
    });
    assert!(
        done,
        "not done at {:?}: A sent {sent_up} got {}, B sent {sent_down} got {}",
        world.now,
        at_a.len(),
        at_b.len()
    );
    let now = world.now;
    let mut wakes = WakeList::new();
    world.engine(Side::A).close_tcp(now, &client, &mut wakes);
    world.engine(Side::B).close_tcp(now, &server, &mut wakes);
    wakes.wake_all();
    (at_a, at_b)
}
