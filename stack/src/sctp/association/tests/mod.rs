use std::collections::BTreeMap;
use std::time::Duration;

use tidewire_netdev::Packet;
use tidewire_netdev::crc32c::sctp_is_intact;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::sctp::config::{AssociationParameters, PeerAddressParameters, RtoInfo};
use crate::sctp::cookie::Secrets;
use crate::sctp::endpoint::{Arrived, Backlog, Endpoint};
use crate::sctp::message::SendOptions;
use crate::sctp::out_of_the_blue::out_of_the_blue;
use crate::sctp::packet::{PacketInfo, Transmit};
use crate::stats::DropReason;
use crate::wire::sctp::{
    Causes, Chunk, CommonHeader, Data, DataFlags, DataHeader, ErrorCause, Init, PacketBuilder,
    PacketReader, UnknownChunk,
};

mod conformance;
mod socket;

const ALICE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const BOB: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
const PORTS: [u16; 2] = [40_000, 5000];
const MTU: usize = 1500;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A side: its address, the port it listens on if it does, and its association once there is one.
struct Host {
    address: IpAddr,
    endpoint: Option<Endpoint>,
    association: Option<Association>,
}

/// Two hosts and the packets between them, on an event heap.
struct World {
    now: Instant,
    hosts: [Host; 2],
    in_flight: BTreeMap<(Instant, u64), (usize, Transmit)>,
    serial: u64,
    random: Random,
    delay: Duration,
    /// Packets in a thousand.
    loss: u32,
    reordering: u32,
    duplication: u32,
    arena: BytesMut,
    sent: u64,
    config: Arc<Config>,
    options: SocketOptions,
}

fn ends(from: usize) -> Ends {
    let addresses = [ALICE, BOB];
    Ends {
        local_port: PORTS[from],
        local_addresses: Vec::new(),
        peer_port: PORTS[1 - from],
        peer_addresses: vec![addresses[1 - from]],
    }
}

impl World {
    fn new(seed: u64) -> Self {
        Self::with(Config::default(), SocketOptions::default(), seed)
    }

    fn with(config: Config, options: SocketOptions, seed: u64) -> Self {
        let now = Instant::from_millis(1000);
        let config = Arc::new(config);
        let mut random = Random::new(Some(seed));
        let hosts = [ALICE, BOB].map(|address| Host {
            address,
            endpoint: Some(Endpoint::new(
                now,
                &config,
                &options,
                random.fork(),
                Vec::new(),
            )),
            association: None,
        });
        Self {
            now,
            hosts,
            in_flight: BTreeMap::new(),
            serial: 0,
            random,
            delay: ms(10),
            loss: 0,
            reordering: 0,
            duplication: 0,
            arena: BytesMut::new(),
            sent: 0,
            config,
            options,
        }
    }

    fn parameters(&mut self, secrets: SharedSecrets) -> Parameters {
        Parameters {
            config: Arc::clone(&self.config),
            options: self.options.clone(),
            secrets,
            random: self.random.fork(),
            path_mtu: MTU,
        }
    }

    /// An association that both sides call established.
    fn established(seed: u64) -> Self {
        let mut world = Self::new(seed);
        world.connect(0);
        world.run(ms(500), |world| {
            let up = |host: &Host| {
                host.association
                    .as_ref()
                    .is_some_and(|a| a.state == State::Established)
            };
            world.hosts.iter().all(up)
        });
        world
    }

    fn connect(&mut self, from: usize) {
        let secrets = match &self.hosts[from].endpoint {
            Some(endpoint) => endpoint.secrets(),
            None => SharedSecrets::new(Secrets::new(self.now, ms(1000), self.random.fork())),
        };
        let parameters = self.parameters(secrets);
        let association = Association::connect(self.now, parameters, ends(from));
        self.hosts[from].association = Some(association);
    }

    fn at(&mut self, host: usize) -> &mut Association {
        self.hosts[host]
            .association
            .as_mut()
            .expect("an association")
    }

    fn state(&self, host: usize) -> Option<State> {
        self.hosts[host]
            .association
            .as_ref()
            .map(Association::state)
    }

    fn flush(&mut self) {
        for from in 0..2 {
            for _ in 0..10_000 {
                let now = self.now;
                let arena = &mut self.arena;
                let host = &mut self.hosts[from];
                let Some(association) = &mut host.association else {
                    break;
                };
                match association.poll_transmit(now, arena) {
                    Some(transmit) => self.carry(from, transmit),
                    None => break,
                }
            }
        }
    }

    /// Puts a packet on the wire, which may lose it.
    fn carry(&mut self, from: usize, transmit: Transmit) {
        assert!(sctp_is_intact(&transmit.packet, 0));
        self.sent += 1;
        let mut chance = |per_mille: u32| self.random.below(1000) < per_mille;
        if chance(self.loss) {
            return;
        }
        let late = if chance(self.reordering) {
            self.delay * 2
        } else {
            Duration::ZERO
        };
        let copies = if chance(self.duplication) { 2 } else { 1 };
        for _ in 0..copies {
            self.serial += 1;
            let key = (self.now + self.delay + late, self.serial);
            self.in_flight.insert(key, (1 - from, transmit.clone()));
        }
    }

    fn receive(&mut self, to: usize, packet: &Packet) {
        let now = self.now;
        let host = &mut self.hosts[to];
        let info = PacketInfo {
            source: [ALICE, BOB][1 - to],
            destination: host.address,
        };
        if let Some(association) = &mut host.association
            && association.state != State::Closed
        {
            // What it does not want is not wanted by anybody.
            let _ = association.handle_packet(now, &info, packet);
            return;
        }
        let arrived = match &mut host.endpoint {
            Some(endpoint) => endpoint.handle_packet(now, &info, packet, Backlog::HasRoom),
            None => match out_of_the_blue(&info, packet) {
                Some(reply) => Arrived::Reply(Box::new(reply)),
                None => return,
            },
        };
        match arrived {
            Arrived::Accept(cookie) => {
                let endpoint = host.endpoint.as_ref().expect("it has answered");
                let secrets = endpoint.secrets();
                let parameters = self.parameters(secrets);
                let mut association = Association::accept(now, parameters, &cookie, Vec::new());
                association
                    .handle_packet(now, &info, packet)
                    .expect("its own cookie");
                self.hosts[to].association = Some(association);
            }
            Arrived::Reply(reply) => {
                let transmit = reply.into_transmit(&mut BytesMut::new());
                self.carry(to, transmit);
            }
            Arrived::Drop(_) => {}
        }
    }

    /// Runs until `done`; panics when that takes longer than `limit` of virtual time.
    fn run(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.now + limit;
        loop {
            self.flush();
            if done(self) {
                return;
            }
            let associations = || {
                self.hosts
                    .iter()
                    .filter_map(|host| host.association.as_ref())
            };
            let timeout = associations().filter_map(Association::poll_timeout).min();
            let arrival = self.in_flight.keys().next().map(|key| key.0);
            let next = timeout.into_iter().chain(arrival).min();
            let next =
                next.unwrap_or_else(|| panic!("nothing left to happen: {:?}", self.states()));
            assert!(next <= end, "too slow: {:?}", self.states());
            self.now = self.now.max(next);
            while let Some(entry) = self.in_flight.first_entry()
                && entry.key().0 <= self.now
            {
                let (to, transmit) = entry.remove();
                self.receive(to, &transmit.packet);
            }
            for host in &mut self.hosts {
                if let Some(association) = &mut host.association
                    && association.poll_timeout().is_some_and(|at| at <= self.now)
                {
                    association.handle_timeout(self.now);
                }
            }
        }
    }

    fn states(&self) -> [Option<State>; 2] {
        [self.state(0), self.state(1)]
    }

    /// Chunks from the side `from`, as its peer would send them; straight to the other one.
    fn inject(&mut self, from: usize, tag: u32, chunks: &[Chunk]) {
        let header = CommonHeader {
            source_port: PORTS[from],
            destination_port: PORTS[1 - from],
            verification_tag: tag,
        };
        let mut arena = BytesMut::new();
        let mut builder = PacketBuilder::new(header, MTU, &mut arena);
        for chunk in chunks {
            assert!(builder.push(chunk));
        }
        self.receive(1 - from, &builder.finish());
    }

    /// The same with octets that no builder gives.
    fn inject_octets(&mut self, from: usize, tag: u32, chunks: &[u8]) {
        let header = CommonHeader {
            source_port: PORTS[from],
            destination_port: PORTS[1 - from],
            verification_tag: tag,
        };
        let octets = [&header.emit()[..], chunks].concat();
        self.receive(1 - from, &Packet::from_bytes(octets.into()));
    }

    /// What the side has to send now, chunk by chunk.
    fn output(&mut self, from: usize) -> Vec<Chunk> {
        let now = self.now;
        let mut arena = BytesMut::new();
        let mut chunks = Vec::new();
        while let Some(transmit) = self.at(from).poll_transmit(now, &mut arena) {
            let (_, mut reader) = PacketReader::new(&transmit.packet).expect("a packet");
            while let Some(chunk) = reader.next_chunk() {
                chunks.push(chunk.expect("our own chunks are good"));
            }
        }
        chunks
    }

    fn events(&mut self, of: usize) -> Vec<Notification> {
        let association = self.at(of);
        std::iter::from_fn(|| association.poll_event()).collect()
    }
}

fn on(stream: u16) -> SendOptions {
    SendOptions {
        stream,
        ..SendOptions::default()
    }
}

fn ended(state: Option<State>) -> bool {
    state == Some(State::Closed)
}

#[test]
fn four_packets_establish_an_association_and_both_sides_are_told() {
    // RFC 9260 5.1; AS of ETSI TS 102 369.
    let mut world = World::established(1);
    assert_eq!(world.sent, 4);
    for side in 0..2 {
        let up = AssociationChange::CommunicationUp {
            outbound_streams: 10,
            inbound_streams: 10,
        };
        assert_eq!(world.events(side), [Notification::AssociationChange(up)]);
        assert!(
            world
                .at(side)
                .take_readiness()
                .contains(Readiness::WRITABLE)
        );
    }
    let (ours, theirs) = (world.at(0).tags(), world.at(1).tags());
    assert_eq!((ours.0, ours.1), (theirs.1, theirs.0));
}

#[test]
fn data_queued_before_travels_with_the_cookie() {
    // RFC 9260 5.1 C: COOKIE ECHO first, DATA behind it.
    let mut world = World::new(1);
    world.connect(0);
    world
        .at(0)
        .send(Bytes::from_static(b"early"), &on(0))
        .expect("queued");
    world.run(ms(500), |world| {
        let bob = &mut world.hosts[1].association;
        let message = bob
            .as_mut()
            .and_then(|bob| bob.recv(usize::MAX).ok().flatten());
        message.is_some_and(|message| message.data == "early")
    });
    assert_eq!(
        world.sent, 4,
        "INIT, INIT ACK, COOKIE ECHO with DATA, COOKIE ACK"
    );
}

#[test]
fn messages_arrive_once_and_in_order_through_loss_reordering_and_duplication() {
    for (loss, reordering, duplication) in [(0, 0, 0), (50, 0, 0), (0, 200, 0), (100, 100, 100)] {
        for seed in 0..5 {
            let mut world = World::established(seed);
            (world.loss, world.reordering, world.duplication) = (loss, reordering, duplication);
            let messages: Vec<(u16, Bytes)> = (0..200u32)
                .map(|i| {
                    let len = 1 + (i as usize * 37) % 4000;
                    ((i % 5) as u16, Bytes::from(vec![i as u8; len]))
                })
                .collect();
            for (stream, data) in &messages {
                for side in 0..2 {
                    world
                        .at(side)
                        .send(data.clone(), &on(*stream))
                        .expect("room");
                }
            }
            let mut got = [Vec::new(), Vec::new()];
            world.run(Duration::from_secs(600), |world| {
                for (side, got) in got.iter_mut().enumerate() {
                    while let Ok(Some(message)) = world.at(side).recv(usize::MAX) {
                        assert!(message.end_of_record);
                        got.push((message.stream, message.data));
                    }
                }
                got.iter().all(|got| got.len() >= messages.len())
                    && (0..2).all(|side| world.at(side).sender.is_empty())
            });
            for got in &got {
                assert_eq!(got.len(), messages.len());
                for stream in 0..5 {
                    let of = |list: &[(u16, Bytes)]| -> Vec<Bytes> {
                        let matching = list.iter().filter(|message| message.0 == stream);
                        matching.map(|message| message.1.clone()).collect()
                    };
                    assert!(of(got) == of(&messages), "stream {stream}, seed {seed}");
                }
            }
        }
    }
}

#[test]
fn handshake_and_shutdown_survive_losses() {
    for seed in 0..100 {
        let mut world = World::new(seed);
        world.loss = 150;
        world.connect(0);
        world.run(Duration::from_secs(900), |world| {
            matches!(world.state(1), Some(State::Established))
                && matches!(world.state(0), Some(State::Established))
        });
        let now = world.now;
        world
            .at(0)
            .send(Bytes::from_static(b"last words"), &on(1))
            .expect("room");
        world.at(0).shutdown(now);
        let mut got = None;
        world.run(Duration::from_secs(900), |world| {
            if let Ok(Some(message)) = world.at(1).recv(usize::MAX) {
                got = Some(message.data);
            }
            ended(world.state(0)) && (ended(world.state(1)) || world.in_flight.is_empty())
        });
        assert_eq!(got.as_deref(), Some(&b"last words"[..]), "seed {seed}");
    }
}

#[test]
fn shutdown_delivers_what_is_queued_and_both_ends_are_told() {
    // RFC 9260 9.2; AT of ETSI TS 102 369.
    let mut world = World::established(3);
    let now = world.now;
    for i in 0..50u8 {
        world
            .at(0)
            .send(Bytes::from(vec![i; 3000]), &on(0))
            .expect("room");
    }
    world.at(0).shutdown(now);
    let refused = world.at(0).send(Bytes::from_static(b"late"), &on(0));
    assert_eq!(refused, Err(SocketError::BrokenPipe));
    let mut got = 0;
    world.run(Duration::from_secs(30), |world| {
        while let Ok(Some(message)) = world.at(1).recv(usize::MAX) {
            assert_eq!(message.data, vec![got as u8; 3000]);
            got += 1;
        }
        ended(world.state(0)) && ended(world.state(1))
    });
    assert_eq!(got, 50);
    assert_eq!(world.at(1).recv(1), Ok(None), "the end, not an error");
    assert!(world.events(1).contains(&Notification::ShutdownEvent));
    let complete = Notification::AssociationChange(AssociationChange::ShutdownComplete);
    assert_eq!(world.events(0).last(), Some(&complete));
}

#[test]
fn both_ends_may_shut_down_at_once() {
    // RFC 9260 9.2: SHUTDOWN in SHUTDOWN-SENT is answered with SHUTDOWN ACK.
    let mut world = World::established(4);
    let now = world.now;
    world.at(0).shutdown(now);
    world.at(1).shutdown(now);
    world.run(Duration::from_secs(5), |world| {
        ended(world.state(0)) && ended(world.state(1))
    });
    for side in 0..2 {
        assert_eq!(world.at(side).take_error(), None);
    }
}

#[test]
fn abort_tells_the_reason_and_gives_back_what_was_not_delivered() {
    // RFC 9260 9.1, 11.2.
    let mut world = World::established(5);
    world
        .at(1)
        .send(Bytes::from_static(b"never"), &on(2))
        .expect("room");
    world.at(0).abort(Bytes::from_static(b"enough"));
    world.at(1).dirty = false; // its message waits
    let abort = world.output(0);
    let [
        Chunk::Abort {
            causes,
            tag_reflected: false,
        },
    ] = &abort[..]
    else {
        panic!("{abort:?}");
    };
    let reason = ErrorCause::UserInitiatedAbort(Bytes::from_static(b"enough"));
    assert_eq!(causes.iter().collect::<Vec<_>>(), [Ok(reason)]);
    let tag = world.at(1).tags().0;
    world.inject(0, tag, &abort);
    let events = world.events(1);
    let lost = |error| {
        Notification::AssociationChange(AssociationChange::CommunicationLost {
            error,
            causes: causes.clone(),
        })
    };
    assert!(events.contains(&lost(Some(SocketError::ConnectionReset))));
    assert_eq!(
        world.events(0).last(),
        Some(&lost(None)),
        "nobody is at fault"
    );
    let failed = |event: &Notification| matches!(event, Notification::SendFailed(message) if message.data == "never");
    assert!(events.iter().any(failed), "{events:?}");
    assert_eq!(world.at(1).recv(1), Err(SocketError::ConnectionReset));
    assert_eq!(world.at(1).recv(1), Ok(None));
}

#[test]
fn init_is_given_up_after_eight_retransmissions() {
    // RFC 9260 5.1, 16: 1 + 2 + 4 + 8 + 16 + 32 + 60 + 60 + 60 s.
    let mut world = World::new(6);
    world.loss = 1000;
    world.connect(0);
    let start = world.now;
    world.run(Duration::from_secs(300), |world| ended(world.state(0)));
    assert_eq!(world.sent, 9);
    assert_eq!(world.now.saturating_since(start), Duration::from_secs(243));
    assert_eq!(world.at(0).take_error(), Some(SocketError::TimedOut));
}

#[test]
fn nobody_listening_refuses_at_once() {
    // RFC 9260 8.4, 3: ABORT with the tag that the INIT asks for.
    let mut world = World::new(7);
    world.hosts[1].endpoint = None;
    world.connect(0);
    world.run(ms(100), |world| ended(world.state(0)));
    assert_eq!(
        world.at(0).take_error(),
        Some(SocketError::ConnectionRefused)
    );
}

#[test]
fn simultaneous_opens_make_one_association() {
    // RFC 9260 5.2.1, 5.2.4 B and D.
    for seed in 0..50 {
        let mut world = World::new(seed);
        world.loss = if seed % 2 == 0 { 0 } else { 200 };
        world.connect(0);
        world.connect(1);
        world.run(Duration::from_secs(500), |world| {
            world.states() == [Some(State::Established); 2]
                && world.at(0).tags().0 == world.at(1).tags().1
                && world.at(1).tags().0 == world.at(0).tags().1
        });
        world
            .at(0)
            .send(Bytes::from_static(b"hello"), &on(0))
            .expect("room");
        world.run(
            Duration::from_secs(500),
            |world| matches!(world.at(1).recv(100), Ok(Some(message)) if message.data == "hello"),
        );
    }
}

#[test]
fn restarted_peer_gets_a_new_association_in_place_of_the_old_one() {
    // RFC 9260 5.2.2, 5.2.4 A.
    let mut world = World::established(8);
    world.events(1);
    let before = world.at(1).tags();
    world.connect(0); // under the same ports, knowing nothing
    world.run(Duration::from_secs(5), |world| {
        world.state(0) == Some(State::Established)
    });
    let restart = Notification::AssociationChange(AssociationChange::Restart {
        outbound_streams: 10,
        inbound_streams: 10,
    });
    assert!(world.events(1).contains(&restart));
    assert_ne!(world.at(1).tags(), before);
    world
        .at(1)
        .send(Bytes::from_static(b"welcome back"), &on(0))
        .expect("room");
    world.run(Duration::from_secs(5), |world| {
        matches!(world.at(0).recv(100), Ok(Some(message)) if message.data == "welcome back")
    });
}

#[test]
fn restarts_again_and_again_keep_no_more_than_a_receive_buffer_unread() {
    // RFC 9260 5.2.4 A lets a peer restart as often as it likes.
    let mut config = Config::default();
    config.receive.buffer = 4096;
    let mut world = World::with(config, SocketOptions::default(), 8);
    for _ in 0..10 {
        world.connect(0);
        world.run(Duration::from_secs(5), |world| {
            world.states() == [Some(State::Established); 2]
                && world.at(0).tags().0 == world.at(1).tags().1
        });
        for _ in 0..40 {
            let message = Bytes::from_static(b"m");
            world.at(0).send(message, &on(0)).expect("room");
        }
        world.run(Duration::from_secs(5), |world| {
            world.at(0).sender.is_empty()
        });
    }
    let kept = world.at(1).retained.len();
    assert!((1..=64).contains(&kept), "{kept} messages of one octet");
    let pending = world.at(1).status().pending;
    assert!(pending <= 2 * 4096, "{pending} octets");
}

#[test]
fn what_only_waits_to_be_sent_sets_no_timer() {
    // RFC 9260 8.3, 6.2: a heartbeat, or a SACK, is due; the device may take no packet for long.
    let mut world = World::established(8);
    let data = |tsn| {
        let header = DataHeader {
            tsn,
            stream: 0,
            ssn: tsn as u16,
            ppid: 0,
            flags: DataFlags::BEGINNING | DataFlags::END | DataFlags::UNORDERED,
        };
        let payload = Bytes::from_static(b"data");
        Chunk::Data(Data { header, payload })
    };
    let (tag, first) = (world.at(1).tags().0, world.at(0).local.initial_tsn);
    world.inject(0, tag, &[data(first)]);
    world.output(1);
    world.inject(0, tag, &[data(first.wrapping_add(1))]);
    for expected in ["SACK", "HEARTBEAT"] {
        assert!(world.output(1).is_empty(), "not due yet");
        let due = world.at(1).poll_timeout().expect("a timer");
        world.now = due;
        world.at(1).handle_timeout(due);
        assert!(world.at(1).wants_transmit());
        let next = world.at(1).poll_timeout();
        assert!(next.is_none_or(|next| next > due), "{expected}: {next:?}");
        let sent = world.output(1);
        assert!(
            matches!(
                (&sent[..], expected),
                ([Chunk::Sack(_)], "SACK") | ([Chunk::Heartbeat(_)], "HEARTBEAT")
            ),
            "{sent:?}"
        );
    }
}

#[test]
fn times_that_never_come_are_no_trouble() {
    // RFC 9260 8.3: RTO and HB.interval are added; 5.1.3: so are the cookie's life and what the peer asks for.
    let mut world = World::established(8);
    let association = world.at(1);
    let never = Some(Duration::MAX);
    let rto = RtoInfo {
        initial: never,
        min: never,
        max: never,
    };
    association.set_rto_info(rto).expect("in order");
    let address = PeerAddressParameters {
        heartbeat_interval: never,
        ..PeerAddressParameters::default()
    };
    let now = Instant::from_millis(2000);
    association
        .set_peer_address_parameters(now, None, address)
        .expect("all addresses");
    let life = AssociationParameters {
        cookie_life: never,
        ..AssociationParameters::default()
    };
    association.set_association_parameters(life).expect("any");
    association.set_autoclose(never);
    let mut init = stray_init();
    init.parameters.cookie_preservative = Some(u32::MAX);
    world.inject(0, 0, &[Chunk::Init(Box::new(init))]);
    assert!(matches!(&world.output(1)[..], [Chunk::InitAck(_)]));
    assert_eq!(world.state(1), Some(State::Established));
}

#[test]
fn data_before_a_chunk_that_is_refused_is_told_and_acknowledged() {
    // RFC 9260 6.10: chunks are taken in their order; 8.5.1 C: the T bit goes with another tag.
    let mut world = World::established(8);
    let (tag, tsn) = (world.at(1).tags().0, world.at(0).local.initial_tsn);
    world.at(1).take_readiness();
    let header = DataHeader {
        tsn,
        stream: 0,
        ssn: 0,
        ppid: 0,
        flags: DataFlags::BEGINNING | DataFlags::END,
    };
    let payload = Bytes::from_static(b"data");
    let refused = Chunk::ShutdownComplete {
        tag_reflected: true,
    };
    world.inject(0, tag, &[Chunk::Data(Data { header, payload }), refused]);
    let edges = world.at(1).take_readiness();
    assert!(edges.contains(Readiness::READABLE));
    let [Chunk::Sack(sack)] = &world.output(1)[..] else {
        panic!("no SACK");
    };
    assert_eq!(sack.cumulative_tsn_ack, tsn);
}

#[test]
fn readers_hear_of_a_shutdown_that_crosses_ours() {
    // RFC 9260 9.2: SHUTDOWN in SHUTDOWN-SENT is answered with SHUTDOWN ACK; the peer sends no more data.
    let mut world = World::established(8);
    let now = world.now;
    world.at(1).shutdown(now);
    assert!(matches!(&world.output(1)[..], [Chunk::Shutdown { .. }]));
    assert_eq!(world.at(1).recv(100), Err(SocketError::WouldBlock));
    world.at(1).take_readiness();
    let (tag, cumulative_tsn_ack) = (world.at(1).tags().0, world.at(1).sender.cumulative_tsn().0);
    world.inject(0, tag, &[Chunk::Shutdown { cumulative_tsn_ack }]);
    assert_eq!(world.state(1), Some(State::ShutdownAckSent));
    let edges = world.at(1).take_readiness();
    assert!(edges.contains(Readiness::READABLE | Readiness::READ_CLOSED));
    assert_eq!(world.at(1).recv(100), Ok(None));
}

/// An INIT of nobody the association knows.
fn stray_init() -> Init {
    Init {
        initiate_tag: 77,
        a_rwnd: 65_536,
        outbound_streams: 1,
        inbound_streams: 1,
        initial_tsn: 1,
        ..Init::default()
    }
}

#[test]
fn restart_with_new_addresses_is_refused_and_changes_nothing() {
    // RFC 9260 5.2.2.
    let mut world = World::established(9);
    let before = (world.at(1).state(), world.at(1).tags());
    let mut init = stray_init();
    init.parameters.addresses.push(IpAddr::from([192, 0, 2, 9]));
    world.inject(0, 0, &[Chunk::Init(Box::new(init))]);
    let answer = world.output(1);
    let [
        Chunk::Abort {
            causes,
            tag_reflected: false,
        },
    ] = &answer[..]
    else {
        panic!("{answer:?}");
    };
    let added = Bytes::from_static(&[0, 5, 0, 8, 192, 0, 2, 9]);
    let cause = ErrorCause::RestartWithNewAddresses(added);
    assert_eq!(causes.iter().collect::<Vec<_>>(), [Ok(cause)]);
    assert_eq!((world.at(1).state(), world.at(1).tags()), before);
}

#[test]
fn packets_with_a_wrong_tag_change_nothing() {
    // RFC 9260 8.5, 8.5.1.
    let mut world = World::established(10);
    let (tag, peer) = world.at(1).tags();
    world.events(1);
    let abort = |tag_reflected| Chunk::Abort {
        tag_reflected,
        causes: Causes::default(),
    };
    for (tag, chunk) in [
        (
            tag ^ 1,
            Chunk::Shutdown {
                cumulative_tsn_ack: 0,
            },
        ),
        (tag ^ 1, abort(false)),
        (tag ^ 1, abort(true)),
        (tag, abort(true)),
        (peer, abort(false)),
        (0, Chunk::CookieAck),
    ] {
        world.inject(0, tag, &[chunk]);
        assert_eq!(world.state(1), Some(State::Established));
        assert!(world.events(1).is_empty());
    }
    world.inject(0, peer, &[abort(true)]);
    assert_eq!(world.state(1), Some(State::Closed));
}

#[test]
fn unknown_chunks_are_skipped_reported_or_end_the_packet() {
    // RFC 9260 3.2.
    let beat = Chunk::Heartbeat(Bytes::from_static(b"are you there"));
    for (kind, stop, report) in [
        (0x3f, true, false),
        (0x7f, true, true),
        (0xbf, false, false),
        (0xff, false, true),
    ] {
        let mut world = World::established(11);
        let tag = world.at(1).tags().0;
        let whole = Bytes::copy_from_slice(&[kind, 0, 0, 5, 9]);
        let unknown = Chunk::Unknown(UnknownChunk {
            kind,
            whole: whole.clone(),
        });
        world.inject(0, tag, &[unknown, beat.clone()]);
        let answer = world.output(1);
        let cause = ErrorCause::UnrecognizedChunkType(whole);
        let error = Chunk::Error(Causes::from_iter([cause]));
        assert_eq!(answer.contains(&error), report, "{kind:#x}: {answer:?}");
        let answered = answer
            .iter()
            .any(|chunk| matches!(chunk, Chunk::HeartbeatAck(_)));
        assert_eq!(answered, !stop, "{kind:#x}");
    }
}

#[test]
fn data_for_a_stream_that_does_not_exist_is_reported_and_without_data_aborted() {
    // RFC 9260 6.5, 6.2.
    let mut world = World::established(12);
    let tag = world.at(1).tags().0;
    let tsn = world.at(0).local.initial_tsn;
    let data = Chunk::Data(Data {
        header: DataHeader {
            tsn,
            stream: 500,
            ssn: 0,
            ppid: 0,
            flags: DataFlags::BEGINNING | DataFlags::END,
        },
        payload: Bytes::from_static(b"x"),
    });
    world.inject(0, tag, &[data]);
    let cause = ErrorCause::InvalidStreamIdentifier { stream: 500 };
    let error = Chunk::Error(Causes::from_iter([cause]));
    assert!(world.output(1).contains(&error));
    assert_eq!(world.at(1).receiver.cumulative_tsn(), tsn);

    world.inject_octets(0, tag, &[0, 3, 0, 16, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0]);
    let cause = ErrorCause::NoUserData { tsn: 9 };
    let abort = Chunk::Abort {
        tag_reflected: false,
        causes: Causes::from_iter([cause]),
    };
    assert_eq!(world.output(1), [abort]);
    assert_eq!(
        world.at(1).take_error(),
        Some(SocketError::ConnectionAborted)
    );
}

#[test]
fn silent_peer_is_given_up_after_ten_errors() {
    // RFC 9260 8.1: Association.Max.Retrans, by data and by heartbeats.
    for with_data in [true, false] {
        let mut world = World::established(13);
        world.loss = 1000;
        if with_data {
            world
                .at(0)
                .send(Bytes::from_static(b"lost"), &on(0))
                .expect("room");
        }
        world.run(Duration::from_secs(3000), |world| ended(world.state(0)));
        assert_eq!(world.at(0).take_error(), Some(SocketError::TimedOut));
        let failed = |event: &Notification| matches!(event, Notification::SendFailed(_));
        assert_eq!(world.events(0).iter().any(failed), with_data);
    }
}

#[test]
fn idle_associations_end_by_themselves_if_asked_to() {
    // RFC 6458 8.1.8, SCTP_AUTOCLOSE.
    let options = SocketOptions {
        autoclose: Some(Duration::from_secs(7)),
        ..SocketOptions::default()
    };
    let mut world = World::with(Config::default(), options, 14);
    world.connect(0);
    let start = world.now;
    world.run(Duration::from_secs(20), |world| {
        ended(world.state(0)) && ended(world.state(1))
    });
    assert!(world.now.saturating_since(start) >= Duration::from_secs(7));
    assert_eq!(world.at(0).take_error(), None);
}

#[test]
fn stale_cookies_are_answered_and_asked_for_again_with_a_longer_life() {
    // RFC 9260 5.2.6.
    let config = Config {
        cookie_life: ms(5),
        ..Config::default()
    };
    let mut world = World::with(config, SocketOptions::default(), 15);
    world.connect(0);
    world.run(Duration::from_secs(10), |world| {
        world.states() == [Some(State::Established); 2]
    });
    assert!(world.sent > 6, "a second round: {}", world.sent);
}

#[test]
fn malformed_abort_is_never_answered_with_an_abort() {
    // RFC 9260 3.3.7, 9.1.
    let mut world = World::established(31);
    let tag = world.at(1).tags().0;
    world.inject_octets(0, tag, &[6, 0, 0, 8, 0, 13, 0, 3]);
    assert_eq!(world.output(1), []);
}

#[test]
fn partial_chunk_is_dropped_and_ends_nothing() {
    // RFC 9260 6.10.
    let mut world = World::established(32);
    let tag = world.at(1).tags().0;
    world.inject_octets(0, tag, &[11, 0, 0, 40, 0, 0, 0, 0]);
    assert_eq!(world.state(1), Some(State::Established));
}

#[test]
fn peer_that_finds_every_cookie_stale_is_given_up() {
    // RFC 9260 5.2.6, Max.Init.Retransmits.
    let config = Config {
        cookie_life: Duration::ZERO,
        max_cookie_increment: Duration::ZERO,
        ..Config::default()
    };
    let mut world = World::with(config, SocketOptions::default(), 33);
    world.connect(0);
    world.run(Duration::from_secs(600), |world| ended(world.state(0)));
}

#[test]
fn user_abort_is_no_orderly_end() {
    // RFC 6458 6.1.1.
    let mut world = World::established(34);
    world.at(0).abort(Bytes::from_static(b"x"));
    let events = world.events(0);
    assert!(
        !events.contains(&Notification::AssociationChange(
            AssociationChange::ShutdownComplete
        )),
        "{events:?}"
    );
}

#[test]
fn first_data_is_acknowledged_at_once() {
    // RFC 9260 5.1.
    let mut world = World::established(35);
    world
        .at(0)
        .send(Bytes::from_static(b"one"), &on(0))
        .expect("there");
    let data = world.output(0);
    let tag = world.at(1).tags().0;
    world.inject(0, tag, &data);
    assert!(world.output(1).iter().any(|c| matches!(c, Chunk::Sack(_))));
}

#[test]
fn shutdown_sent_tells_the_window_with_the_shutdown() {
    // RFC 9260 9.2, 6.2: a SHUTDOWN alone acknowledges without a window.
    let mut world = World::established(36);
    let now = world.now;
    world.at(1).shutdown(now);
    world.output(1);
    world
        .at(0)
        .send(Bytes::from_static(b"one"), &on(0))
        .expect("there");
    let data = world.output(0);
    let tag = world.at(1).tags().0;
    world.inject(0, tag, &data);
    let out = world.output(1);
    assert!(out.iter().any(|c| matches!(c, Chunk::Sack(_))), "{out:?}");
}

#[test]
fn accepted_association_sends_from_the_address_that_was_asked() {
    let mut world = World::established(37);
    let path = world.at(1).paths().primary();
    assert_eq!(world.at(1).paths().get(path).local(), Some(BOB));
}

#[test]
fn old_init_ack_without_cookie_ends_nothing() {
    // RFC 9260 5.2.3.
    let mut world = World::established(38);
    let tag = world.at(1).tags().0;
    world.inject_octets(
        0,
        tag,
        &[2, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1],
    );
    assert_eq!(world.state(1), Some(State::Established));
}

#[test]
fn data_behind_a_stale_cookie_is_discarded() {
    // RFC 9260 5.2.4, 3.
    let mut world = World::established(39);
    // A second INIT of the peer (a restart), whose cookie then grows stale.
    let init = Chunk::Init(Box::new(Init {
        initiate_tag: 99,
        a_rwnd: 65536,
        outbound_streams: 1,
        inbound_streams: 1,
        initial_tsn: 7,
        ..Init::default()
    }));
    world.inject(0, 0, &[init]);
    let Some(Chunk::InitAck(ack)) = world.output(1).pop() else {
        panic!("no INIT ACK")
    };
    world
        .at(0)
        .send(Bytes::from_static(b"one"), &on(0))
        .expect("there");
    let data = world.output(0);
    world.now += Duration::from_secs(70);
    let mut chunks = vec![Chunk::CookieEcho(
        ack.parameters.state_cookie.clone().expect("there"),
    )];
    chunks.extend(data);
    world.inject(0, ack.initiate_tag, &chunks);
    assert_eq!(world.at(1).recv(100), Err(SocketError::WouldBlock));
}
