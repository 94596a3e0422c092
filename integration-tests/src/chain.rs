//! Hosts in a row, with routers between the two ends, run by an event heap: no runtime, no real time.
//!
//! ```text
//!  host 0 ── link 0 ── host 1 ── link 1 ── host 2 …
//!       10.0.0.1  10.0.0.2  10.0.1.1  10.0.1.2         and fd00::1, fd00::2, fd00:0:0:1::1 …
//! ```
//!
//! All but the ends are routers. Each host's default route leads to the right, and the networks to its left are known to it.
//! What crosses a link is checked there: no packet on the wire is longer than the link's MTU.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tidewire::config::Config;
use tidewire::engine::sockets::TcpOptions;
use tidewire::engine::{Attachment, Engine, ListenerSlot, TcpSlot, WakeList};
use tidewire::ip::route::Route;
use tidewire::ip::{Cidr, InterfaceId};
use tidewire::time::Instant;
use tidewire::transport::ports::BindRequest;
use tidewire_netdev::segmentation::{CutChecksum, segment};
use tidewire_netdev::{Capabilities, MacAddress, Medium, OffloadSet, Packet};

use crate::world::{Side, read, shutdown, write};

/// A link between two neighbours of a [`Chain`].
#[derive(Clone, Debug)]
pub struct ChainLink {
    /// What packets begin with.
    pub medium: Medium,
    /// The link's MTU.
    pub mtu: usize,
    /// What the devices at both ends do for the stacks.
    pub offloads: OffloadSet,
    /// From one end to the other. Not zero.
    pub delay: Duration,
}

impl Default for ChainLink {
    fn default() -> Self {
        Self {
            medium: Medium::Ip,
            mtu: 1500,
            offloads: OffloadSet::ALL,
            delay: Duration::from_millis(1),
        }
    }
}

/// One end of a link, and what is under way from it.
struct End {
    interface: InterfaceId,
    sent: VecDeque<(Instant, Packet)>,
}

struct Link {
    config: ChainLink,
    /// The left host's, the right host's.
    ends: [End; 2],
    packets: u64,
}

/// Hosts in a row.
pub struct Chain {
    hosts: Vec<Engine>,
    links: Vec<Link>,
    /// Now.
    pub now: Instant,
    wakes: WakeList,
    batch: Vec<Packet>,
}

impl Chain {
    /// One host more than there are links; `configure` has a look at the configuration of each.
    ///
    /// # Panics
    /// Without a link, or with more than 255.
    pub fn new(links: &[ChainLink], configure: impl Fn(usize, &mut Config)) -> Self {
        assert!(!links.is_empty(), "a row of two hosts at least");
        let hosts: Vec<_> = (0..=links.len())
            .map(|number| {
                let mut config = Config {
                    seed: Some(number as u64 + 1),
                    ..Config::default()
                };
                config.host.forwarding = (1..links.len()).contains(&number);
                configure(number, &mut config);
                Engine::new(config)
            })
            .collect();
        let links: Vec<_> = links
            .iter()
            .zip(0..)
            .map(|(config, number)| {
                let end = |side: Side| {
                    let engine = &hosts[usize::from(number) + side as usize];
                    End::new(engine, side, number, config)
                };
                Link {
                    config: config.clone(),
                    ends: [end(Side::A), end(Side::B)],
                    packets: 0,
                }
            })
            .collect();
        let chain = Self {
            hosts,
            links,
            now: Instant::ZERO,
            wakes: WakeList::new(),
            batch: Vec::new(),
        };
        for host in 0..chain.hosts.len() {
            chain.add_routes(host);
        }
        chain
    }

    fn add_routes(&self, host: usize) {
        for v6 in [false, true] {
            if let Some(link) = self.links.get(host) {
                let gateway = Side::B.address_on(host as u8, v6);
                let everything = Cidr::new(if v6 { [0; 16].into() } else { [0; 4].into() }, 0);
                self.hosts[host].network.add_route(
                    everything.expect("a valid prefix"),
                    Route::via(link.ends[0].interface, gateway),
                );
            }
            for behind in 0..host.saturating_sub(1) {
                let prefix = if v6 { 64 } else { 24 };
                let network = Cidr::new(Side::A.address_on(behind as u8, v6), prefix);
                let last = host - 1;
                self.hosts[host].network.add_route(
                    network.expect("a valid prefix").network(),
                    Route::via(
                        self.links[last].ends[1].interface,
                        Side::A.address_on(last as u8, v6),
                    ),
                );
            }
        }
    }

    /// The stack of a host.
    pub fn engine(&self, host: usize) -> &Engine {
        &self.hosts[host]
    }

    /// The number of the last host.
    pub fn last(&self) -> usize {
        self.hosts.len() - 1
    }

    /// The interface of a link's left or right end.
    pub fn interface(&self, link: usize, side: Side) -> InterfaceId {
        self.links[link].ends[side as usize].interface
    }

    /// The address of the last host.
    pub fn far_address(&self, v6: bool) -> IpAddr {
        Side::B.address_on(self.links.len() as u8 - 1, v6)
    }

    /// Packets that went over a link so far, either way; super-packets counted once.
    pub fn packets(&self, link: usize) -> u64 {
        self.links[link].packets
    }

    /// Puts what the hosts have to send on their links.
    ///
    /// # Panics
    /// When a packet is longer than its link's MTU, or cannot be cut as its metadata says.
    pub fn flush(&mut self) {
        for number in 0..self.links.len() {
            for side in 0..2 {
                let link = &mut self.links[number];
                let end = &mut link.ends[side];
                self.hosts[number + side].transmit(
                    self.now,
                    end.interface,
                    &mut self.batch,
                    &mut self.wakes,
                );
                for packet in self.batch.drain(..) {
                    let medium = link.config.medium;
                    let frame = if medium == Medium::Ethernet { 14 } else { 0 };
                    let limit = link.config.mtu + frame;
                    let cut = segment(packet.clone(), medium, CutChecksum::Complete, |wire| {
                        assert!(
                            wire.len() <= limit,
                            "{} octets on link {number}",
                            wire.len()
                        );
                    });
                    cut.expect("headers that agree with the metadata");
                    link.packets += 1;
                    end.sent.push_back((self.now + link.config.delay, packet));
                }
            }
        }
        self.wakes.wake_all();
    }

    /// Goes to the next event and handles it. `false` when there is none before `until`.
    pub fn step(&mut self, until: Instant) -> bool {
        self.flush();
        let ends = self.links.iter().flat_map(|link| &link.ends);
        let arrivals = ends.filter_map(|end| end.sent.front().map(|(at, _)| *at));
        let timers = self.hosts.iter().filter_map(Engine::poll_timeout);
        let next = arrivals.chain(timers).min().filter(|next| *next <= until);
        let Some(next) = next else {
            return false;
        };
        self.now = self.now.max(next);
        for number in 0..self.links.len() {
            for side in 0..2 {
                let sent = &mut self.links[number].ends[side].sent;
                while let Some((_, packet)) = sent.pop_front_if(|(at, _)| *at <= self.now) {
                    self.batch.push(packet);
                }
                let to = self.links[number].ends[1 - side].interface;
                self.hosts[number + 1 - side].receive(
                    self.now,
                    to,
                    &mut self.batch,
                    &mut self.wakes,
                );
            }
        }
        for host in &self.hosts {
            host.handle_timeout(self.now, &mut self.wakes);
        }
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

    /// Listens at the last host's port.
    ///
    /// # Panics
    /// When the port is taken.
    pub fn listen(&self, v6: bool, port: u16) -> Arc<ListenerSlot> {
        let engine = self.engine(self.last());
        let address = SocketAddr::new(self.far_address(v6), port);
        let lease = engine.tcp_bind(&BindRequest::new(address));
        let listener = engine.tcp_listen(
            lease.expect("the port is free"),
            128,
            false,
            &TcpOptions::default(),
        );
        listener.expect("nobody else listens")
    }

    /// A connection from the first host to the last.
    ///
    /// # Panics
    /// When it does not come about within `limit` of virtual time.
    pub fn connected(&mut self, v6: bool, limit: Duration) -> (Arc<TcpSlot>, Arc<TcpSlot>) {
        let listener = self.listen(v6, 80);
        let remote = SocketAddr::new(self.far_address(v6), 80);
        let options = TcpOptions::default();
        let client = self
            .engine(0)
            .tcp_connect(self.now, None, remote, &options)
            .expect("there is a route");
        let mut server = None;
        let connected = self.run_until(limit, |chain| {
            server = chain.engine(chain.last()).tcp_accept(&listener).ok();
            server.is_some()
        });
        assert!(connected, "no connection within {limit:?} of virtual time");
        (client, server.expect("accepted").0)
    }

    /// Sends `up` to the last host and `down` to the first over one connection, both ends half-closing when done. What each
    /// has received, and the two ends.
    ///
    /// # Panics
    /// When it takes longer than `limit` of virtual time, or the connection fails.
    pub fn exchange(&mut self, v6: bool, up: &[u8], down: &[u8], limit: Duration) -> Exchange {
        let (client, server) = self.connected(v6, limit);
        let ends = [client, server];
        let bodies = [up, down];
        let mut sent = [0, 0];
        let mut shut = [false, false];
        let mut ended = [false, false];
        let mut received = [Vec::new(), Vec::new()];
        let done = self.run_until(limit, |chain| {
            for (side, host) in [0, chain.last()].into_iter().enumerate() {
                let engine = chain.engine(host);
                if !shut[side] {
                    sent[side] += write(engine, &ends[side], &bodies[side][sent[side]..]);
                    if sent[side] == bodies[side].len() {
                        shutdown(engine, &ends[side]);
                        shut[side] = true;
                    }
                }
                ended[side] = ended[side] || read(engine, &ends[side], &mut received[side]);
            }
            chain.flush();
            ended == [true, true] && shut == [true, true]
        });
        assert!(done, "not done at {:?}: sent {sent:?}", self.now);
        let [near, far] = received;
        Exchange { near, far, ends }
    }
}

/// What came of [`Chain::exchange`].
pub struct Exchange {
    /// What the first host has received.
    pub near: Vec<u8>,
    /// What the last host has received.
    pub far: Vec<u8>,
    /// The first host's end of the connection, and the last one's.
    pub ends: [Arc<TcpSlot>; 2],
}

impl End {
    fn new(engine: &Engine, side: Side, link: u8, config: &ChainLink) -> Self {
        let attachment = Attachment {
            name: format!("link{link}"),
            queues: 1,
            hardware_address: Some(MacAddress::locally_administered([
                0,
                0,
                0,
                0,
                link,
                side as u8 + 1,
            ])),
            capabilities: Capabilities {
                medium: config.medium,
                mtu: config.mtu,
                offloads: config.offloads,
                max_super_packet: 65_535,
            },
        };
        let interface = engine.attach(Instant::ZERO, attachment);
        for (v6, prefix) in [(false, 24), (true, 64)] {
            let cidr = Cidr::new(side.address_on(link, v6), prefix).expect("a valid prefix");
            engine.add_address(Instant::ZERO, interface, cidr);
        }
        Self {
            interface,
            sent: VecDeque::new(),
        }
    }
}
