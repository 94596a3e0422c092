//! Two hosts on a cable that costs nothing: what is measured over it is the stacks alone.
//!
//! Unlike [`World`](crate::world::World) nothing cuts, copies, sums or records the packets under way: a super-packet
//! arrives as it was sent, after a fixed delay. No runtime, no real time, the same packets for the same seed.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidewire::config::Config;
use tidewire::engine::sockets::TcpOptions;
use tidewire::engine::{Attachment, Engine, ListenerSlot, SlotRef, TcpSlot, WakeList};
use tidewire::error::SocketError;
use tidewire::ip::{Cidr, InterfaceId};
use tidewire::tcp;
use tidewire::time::Instant;
use tidewire::transport::ports::BindRequest;
use tidewire_netdev::{Capabilities, MacAddress, Medium, OffloadSet, Packet};

use crate::world::Side;

/// How the cable and the hosts on it are.
#[derive(Clone, Debug)]
pub struct CableConfig {
    /// What packets begin with.
    pub medium: Medium,
    /// The cable's MTU.
    pub mtu: usize,
    /// What the devices at both ends do for the stacks. Without any, the stacks cut and sum in software.
    pub offloads: OffloadSet,
    /// From one end to the other. Not zero, or a busy exchange would never let time go on.
    pub delay: Duration,
    /// Seeds the stacks.
    pub seed: u64,
    /// TCP of both stacks.
    pub tcp: tcp::Config,
}

impl Default for CableConfig {
    fn default() -> Self {
        Self {
            medium: Medium::Ip,
            mtu: 1500,
            offloads: OffloadSet::ALL,
            delay: Duration::from_micros(10),
            seed: 1,
            tcp: tcp::Config::default(),
        }
    }
}

/// One of the two hosts, and what is under way from it.
struct End {
    engine: Engine,
    interface: InterfaceId,
    sent: VecDeque<(Instant, Packet)>,
}

/// Two hosts and their cable.
pub struct Cable {
    ends: [End; 2],
    delay: Duration,
    now: Instant,
    wakes: WakeList,
    batch: Vec<Packet>,
    packets: u64,
}

impl Cable {
    /// Two hosts with addresses of both IP versions ([`Side::address`]).
    pub fn new(config: &CableConfig) -> Self {
        Self {
            ends: [Side::A, Side::B].map(|side| End::new(side, config)),
            delay: config.delay,
            now: Instant::ZERO,
            wakes: WakeList::new(),
            batch: Vec::new(),
            packets: 0,
        }
    }

    /// The stack of a host.
    pub fn engine(&self, side: Side) -> &Engine {
        &self.ends[side as usize].engine
    }

    /// A host's interface to the cable.
    pub fn interface(&self, side: Side) -> InterfaceId {
        self.ends[side as usize].interface
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Lets time pass, for callers that move packets themselves.
    pub fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Packets that went through the cable so far, super-packets counted once.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Puts what the hosts have to send on the cable.
    pub fn flush(&mut self) {
        for end in &mut self.ends {
            if !end.engine.has_ready() {
                continue; // as a driver does
            }
            end.engine
                .transmit(self.now, end.interface, &mut self.batch, &mut self.wakes);
            self.packets += self.batch.len() as u64;
            let at = self.now + self.delay;
            end.sent
                .extend(self.batch.drain(..).map(|packet| (at, packet)));
        }
        self.wakes.wake_all();
    }

    /// Whether packets are under way.
    pub fn is_busy(&self) -> bool {
        self.ends.iter().any(|end| !end.sent.is_empty())
    }

    /// Goes to the next arrival or deadline and handles it. `false` when there is none.
    pub fn step(&mut self) -> bool {
        self.flush();
        let deadlines = self.ends.iter().flat_map(|end| {
            let arrival = end.sent.front().map(|(at, _)| *at);
            [arrival, end.engine.poll_timeout()]
        });
        let Some(next) = deadlines.flatten().min() else {
            return false;
        };
        self.now = self.now.max(next);
        for from in 0..2 {
            let sent = &mut self.ends[from].sent;
            while let Some((_, packet)) = sent.pop_front_if(|(at, _)| *at <= self.now) {
                self.batch.push(packet);
            }
            let to = &self.ends[1 - from];
            if !self.batch.is_empty() {
                to.engine
                    .receive(self.now, to.interface, &mut self.batch, &mut self.wakes);
            }
            to.engine.handle_timeout(self.now, &mut self.wakes);
        }
        self.wakes.wake_all();
        self.flush();
        true
    }

    /// Steps until `done` says so.
    ///
    /// # Panics
    /// When nothing more can happen before that.
    pub fn run_until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        while !done(self) {
            assert!(self.step(), "nothing is left that could happen");
        }
    }

    /// Steps until no packet is under way; deadlines beyond that stay.
    pub fn settle(&mut self) {
        self.flush();
        while self.is_busy() {
            self.step();
        }
    }

    /// Listens on a port of B.
    ///
    /// # Panics
    /// When the port is taken.
    pub fn listen(&self, v6: bool, port: u16) -> Arc<ListenerSlot> {
        let engine = self.engine(Side::B);
        let address = SocketAddr::new(Side::B.address(v6), port);
        let lease = engine.tcp_bind(&BindRequest::new(address));
        let lease = lease.expect("the port is free");
        let listener = engine.tcp_listen(lease, 128, false, &nodelay());
        listener.expect("nobody else listens")
    }

    /// Connects A to that listener; A's end and B's.
    ///
    /// # Panics
    /// When B does not answer.
    pub fn connect(
        &mut self,
        listener: &Arc<ListenerSlot>,
        remote: SocketAddr,
    ) -> (Arc<TcpSlot>, Arc<TcpSlot>) {
        let client = self
            .engine(Side::A)
            .tcp_connect(self.now, None, remote, &nodelay());
        let client = client.expect("B is reachable");
        let mut server = None;
        self.run_until(|cable| {
            server = cable.engine(Side::B).tcp_accept(listener).ok();
            server.is_some()
        });
        (client, server.expect("accepted").0)
    }

    /// A connected pair: A's end and B's.
    pub fn connected(&mut self, v6: bool) -> (Arc<TcpSlot>, Arc<TcpSlot>) {
        let listener = self.listen(v6, 80);
        self.connect(&listener, SocketAddr::new(Side::B.address(v6), 80))
    }

    /// Lets go of an end of a connection.
    pub fn close(&mut self, side: Side, slot: &Arc<TcpSlot>) {
        let engine = &self.ends[side as usize].engine;
        engine.close_tcp(self.now, slot, &mut self.wakes);
        self.wakes.wake_all();
    }
}

impl End {
    fn new(side: Side, config: &CableConfig) -> Self {
        let engine = Engine::new(Config {
            seed: Some(config.seed.wrapping_mul(2).wrapping_add(side as u64)),
            tcp: config.tcp.clone(),
            ..Config::default()
        });
        let attachment = Attachment {
            name: "mem0".to_owned(),
            queues: 1,
            hardware_address: Some(hardware_address(side)),
            capabilities: Capabilities {
                medium: config.medium,
                mtu: config.mtu,
                offloads: config.offloads,
                max_super_packet: 65_535,
            },
        };
        let interface = engine.attach(Instant::ZERO, attachment);
        for (v6, prefix) in [(false, 24), (true, 64)] {
            let cidr = Cidr::new(side.address(v6), prefix).expect("a valid prefix");
            engine.add_address(Instant::ZERO, interface, cidr);
        }
        Self {
            engine,
            interface,
            sent: VecDeque::new(),
        }
    }
}

/// A host's address on a cable of Ethernet.
pub fn hardware_address(side: Side) -> MacAddress {
    MacAddress::locally_administered([0, 0, 0, 0, 0, side as u8 + 1])
}

/// Reads into `buffer`; `None` when nothing is there yet, 0 at the end of the stream.
///
/// # Panics
/// When the connection has failed.
pub fn read(engine: &Engine, slot: &Arc<TcpSlot>, buffer: &mut [u8]) -> Option<usize> {
    let (result, wants_transmit) = {
        let mut state = slot.lock();
        let connection = &mut state.socket.connection;
        (connection.read(buffer), connection.wants_transmit())
    };
    if wants_transmit {
        engine.mark_ready(SlotRef::from(slot));
    }
    match result {
        Ok(count) => Some(count),
        Err(SocketError::WouldBlock) => None,
        Err(error) => panic!("read failed: {error}"),
    }
}

fn nodelay() -> TcpOptions {
    let mut options = TcpOptions::default();
    Arc::make_mut(&mut options.socket).nodelay = true;
    options
}
