//! SCTP associations over several impaired links (RFC 9260 6.4, 8.2, RFC 7829), on an event heap.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewire::config::Config;
use tidewire::engine::sctp_sockets::SctpOptions;
use tidewire::engine::slot::{SctpListenerSlot, SctpSlot};
use tidewire::engine::{Engine, Ports, SlotRef, WakeList};
use tidewire::error::SocketError;
use tidewire::ip::InterfaceId;
use tidewire::sctp::SendOptions;
use tidewire::sctp::association::{PathStatus, State};
use tidewire::sctp::config::{PeerAddressParameters, RtoInfo, SocketOptions};
use tidewire::sctp::path::PathState;
use tidewire::time::Instant;
use tidewire::transport::ports::BindRequest;
use tidewire_integration_tests::world::{LinkConfig, Side, World};
use tidewire_netdev::Packet;
use tidewire_netdev::memory::impairment::{ImpairmentConfig, Loss};

/// Seeds of the test of cuts; `TIDEWIRE_SEEDS` asks for more.
const SEEDS: u64 = 1000;
const STREAMS: u16 = 4;
const PORT: u16 = 5000;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn delayed(delay: Duration) -> LinkConfig {
    LinkConfig {
        impairment: ImpairmentConfig::delay(delay),
        ..LinkConfig::default()
    }
}

/// Two hosts, and an association between them.
struct Pair {
    world: World,
    links: Vec<LinkConfig>,
    ends: [Arc<SctpSlot>; 2],
    /// What has come of messages that are delivered in parts, by receiver and stream (RFC 9260 6.9).
    parts: BTreeMap<(usize, u16), Vec<u8>>,
}

fn addresses(side: Side, links: usize, v6: bool) -> Vec<SocketAddr> {
    (0..links as u8)
        .map(|link| SocketAddr::new(side.address_on(link, v6), PORT))
        .collect()
}

fn listen(engine: &Engine, address: SocketAddr, options: &SctpOptions) -> Arc<SctpListenerSlot> {
    let leases = engine
        .sctp_bind(&[address], &BindRequest::new(address))
        .expect("the port is free");
    engine
        .sctp_listen(Instant::ZERO, leases, 8, false, options)
        .expect("nobody else listens")
}

impl Pair {
    fn new(links: &[LinkConfig], options: &SocketOptions) -> Self {
        Self::over(links, options, false)
    }

    /// A knows all addresses of B; B tells its own and learns A's.
    fn over(links: &[LinkConfig], options: &SocketOptions, v6: bool) -> Self {
        let mut world = World::with_links(links, Config::default());
        let options = SctpOptions {
            socket: options.clone(),
            ..SctpOptions::default()
        };
        let any = if v6 { "[::]:5000" } else { "0.0.0.0:5000" };
        let any = any.parse().expect("an address");
        let listener = listen(world.engine(Side::B), any, &options);
        let peers = addresses(Side::B, links.len(), v6);
        let client = world
            .engine(Side::A)
            .sctp_connect(world.now, None, &peers, &options)
            .expect("B is reachable");
        let mut server = None;
        world.run_until(secs(60), |world| {
            server = server
                .take()
                .or_else(|| world.engine(Side::B).sctp_accept(&listener).ok());
            server.is_some()
        });
        let (server, _) = server.expect("no association came about");
        let mut pair = Self {
            world,
            links: links.to_vec(),
            ends: [client, server],
            parts: BTreeMap::new(),
        };
        let up = |pair: &mut Self| {
            [Side::A, Side::B].iter().all(|side| {
                let paths = pair.paths(*side);
                paths.len() >= links.len()
                    && paths.iter().all(|path| path.state == PathState::Active)
            })
        };
        assert!(pair.run(secs(120), up), "{:?}", pair.paths(Side::B));
        pair
    }

    fn slot(&self, side: Side) -> &Arc<SctpSlot> {
        &self.ends[side as usize]
    }

    fn paths(&self, side: Side) -> Vec<PathStatus> {
        let state = self.slot(side).lock();
        let paths = state.socket.association.path_statuses();
        paths.map(|(_, status)| status).collect()
    }

    fn path(&self, side: Side, link: u8) -> PathStatus {
        let address = [Side::B, Side::A][side as usize].address_on(link, false);
        let paths = self.paths(side);
        let found = paths.into_iter().find(|path| path.address == address);
        found.expect("a path over that link")
    }

    fn cut(&mut self, side: Side, link: usize) {
        let lost = ImpairmentConfig {
            loss: Loss::Uniform(1.0),
            ..self.links[link].impairment.clone()
        };
        self.world.set_link_of(side, link, lost);
    }

    fn cut_both(&mut self, link: usize) {
        self.cut(Side::A, link);
        self.cut(Side::B, link);
    }

    fn heal(&mut self, link: usize) {
        for side in [Side::A, Side::B] {
            let config = self.links[link].impairment.clone();
            self.world.set_link_of(side, link, config);
        }
    }

    /// Whether it was queued.
    fn send(&self, side: Side, message: Bytes, stream: u16) -> bool {
        let options = SendOptions {
            stream,
            ..SendOptions::default()
        };
        let slot = self.slot(side);
        let sent = slot.lock().socket.association.send(message, &options);
        self.world.engine(side).mark_ready(SlotRef::from(slot));
        match sent {
            Ok(()) => true,
            Err(SocketError::WouldBlock) => false,
            Err(error) => panic!("{side:?} cannot send: {error}"),
        }
    }

    /// Stream and octets of the next message.
    fn receive(&mut self, side: Side) -> Option<(u16, Bytes)> {
        loop {
            let slot = self.slot(side);
            let received = slot.lock().socket.association.recv(usize::MAX);
            let message = match received {
                Ok(message) => message?,
                Err(SocketError::WouldBlock) => return None,
                Err(error) => panic!("{side:?} cannot receive: {error}"),
            };
            self.world.engine(side).mark_ready(SlotRef::from(slot));
            let parts = self.parts.entry((side as usize, message.stream));
            let parts = parts.or_default();
            parts.extend_from_slice(&message.data);
            if message.end_of_record {
                return Some((message.stream, std::mem::take(parts).into()));
            }
        }
    }

    /// Runs until `done`, or for `limit` of virtual time; whether it was done.
    fn run(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let until = self.world.now + limit;
        loop {
            if done(self) {
                return true;
            }
            if !self.world.step(until) {
                self.world.now = until;
                return done(self);
            }
        }
    }
}

/// RFC 9260 alone.
fn without_pf() -> SocketOptions {
    SocketOptions {
        peer_address: PeerAddressParameters {
            pf_max_retrans: Some(u32::MAX),
            ..PeerAddressParameters::default()
        },
        ..SocketOptions::default()
    }
}

/// RTO of 200 to 1000 ms, Path.Max.Retrans 1.
fn quick(base: SocketOptions) -> SocketOptions {
    SocketOptions {
        rto: RtoInfo {
            initial: Some(ms(500)),
            min: Some(ms(200)),
            max: Some(ms(1000)),
        },
        peer_address: PeerAddressParameters {
            path_max_retrans: Some(1),
            ..base.peer_address
        },
        ..base
    }
}

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}

/// Messages of one direction: numbered in each stream, of sizes that follow from their number.
#[derive(Default)]
struct Flow {
    sent: BTreeMap<u16, u64>,
    received: BTreeMap<u16, u64>,
    count: u64,
    total: u64,
}

impl Flow {
    fn new(total: u64) -> Self {
        Self {
            total,
            ..Self::default()
        }
    }

    fn body(stream: u16, number: u64) -> Bytes {
        let len = 8 + (number * 977 + u64::from(stream) * 331) % 4000;
        let mut body = number.to_be_bytes().to_vec();
        body.resize(len as usize, stream as u8 ^ number as u8);
        body.into()
    }

    fn send(&mut self, pair: &Pair, side: Side) {
        while self.count < self.total {
            let stream = (self.count % u64::from(STREAMS)) as u16;
            let number = self.sent.entry(stream).or_default();
            if !pair.send(side, Self::body(stream, *number), stream) {
                return;
            }
            *number += 1;
            self.count += 1;
        }
    }

    fn receive(&mut self, pair: &mut Pair, side: Side) {
        while let Some((stream, data)) = pair.receive(side) {
            let number = self.received.entry(stream).or_default();
            assert!(
                data == Self::body(stream, *number),
                "{side:?}, stream {stream}: not message {number}"
            );
            *number += 1;
        }
    }

    fn is_done(&self) -> bool {
        self.count == self.total && self.sent == self.received
    }
}

/// What a seed makes of the links: two to four, of different round trips, MTUs and losses.
fn links_of(dice: &mut Dice, seed: u64) -> Vec<LinkConfig> {
    let count = 2 + dice.roll(3);
    let link = |_| {
        let delay = ms([1, 5, 20, 100][dice.roll(4) as usize]);
        let loss = [0.0, 0.0, 0.01, 0.05][dice.roll(4) as usize];
        // So slow that the transfer goes on while links are cut.
        let rate = [1_000_000, 3_000_000, 10_000_000][dice.roll(3) as usize];
        LinkConfig {
            impairment: ImpairmentConfig::delay(delay)
                .with_loss(loss)
                .with_rate(rate, 100_000),
            mtu: [1500, 1500, 1280, 9000][dice.roll(4) as usize],
            seed,
            ..LinkConfig::default()
        }
    };
    (0..count).map(link).collect()
}

/// Cuts and heals links in the middle of a transfer both ways; everything arrives once and in order within its stream. How
/// often T3-rtx fired, and over how many links data went.
fn cut_and_heal(seed: u64) -> (u64, usize) {
    let mut dice = Dice(seed);
    let links = links_of(&mut dice, seed);
    let options = match dice.roll(4) {
        0 => without_pf(),
        1 => quick(SocketOptions::default()),
        2 => quick(without_pf()),
        _ => SocketOptions::default(),
    };
    let v6 = dice.roll(4) == 0;
    let mut pair = Pair::over(&links, &options, v6);
    let (mut up, mut down) = (Flow::new(400), Flow::new(300));
    let mut trade = |pair: &mut Pair| {
        up.send(pair, Side::A);
        down.send(pair, Side::B);
        up.receive(pair, Side::B);
        down.receive(pair, Side::A);
        pair.world.flush();
        up.is_done() && down.is_done()
    };
    for _ in 0..6 {
        // The first link is the one that carries data.
        let link = if dice.roll(2) == 0 {
            0
        } else {
            dice.roll(links.len() as u64) as usize
        };
        match dice.roll(4) {
            0 => pair.heal(link),
            1 => pair.cut(Side::A, link),
            2 => pair.cut(Side::B, link),
            _ => pair.cut_both(link),
        }
        let pause = ms(1 + dice.roll(700));
        pair.run(pause, &mut trade);
    }
    for link in 0..links.len() {
        pair.heal(link);
    }
    let done = pair.run(secs(400), &mut trade);
    assert!(
        done,
        "seed {seed}: not done after all links are whole: {:?}",
        pair.paths(Side::A)
    );
    let paths = pair.paths(Side::A);
    let used = paths.iter().filter(|path| path.stats.chunks_sent > 0);
    let timeouts = paths.iter().map(|path| path.stats.timeouts);
    (timeouts.sum(), used.count())
}

#[test]
fn every_message_arrives_once_and_in_order_whatever_is_cut_and_heals() {
    // RFC 9260 6.4, 6.4.1, 8.2; RFC 7829 3.2. Also that nothing of it ends the association.
    let seeds = std::env::var("TIDEWIRE_SEEDS").ok();
    let seeds = seeds.and_then(|text| text.parse().ok()).unwrap_or(SEEDS);
    let (mut timeouts, mut links) = (0, 0);
    for seed in 0..seeds {
        let (fired, used) = cut_and_heal(seed);
        timeouts += fired;
        links += used as u64;
    }
    assert!(
        timeouts > seeds && links > seeds,
        "nothing was cut in the middle of anything: {timeouts} timeouts, {links} links"
    );
}

#[test]
fn both_sides_know_all_addresses_of_each_other_and_confirm_them() {
    // RFC 9260 5.1.2, 5.4: Pair::over waits until all are confirmed. Dual stack, too, and each from the address of its link.
    let links = [delayed(ms(5)), delayed(ms(10)), delayed(ms(15))];
    for v6 in [false, true] {
        let mut pair = Pair::over(&links, &SocketOptions::default(), v6);
        for (side, other) in [(Side::A, Side::B), (Side::B, Side::A)] {
            let known: Vec<IpAddr> = pair.paths(side).iter().map(|path| path.address).collect();
            for link in 0..3 {
                assert!(known.contains(&other.address_on(link, v6)), "{known:?}");
                // A private IPv4 address means nothing to a peer of global scope, as unique local ones are.
                assert!(v6 || !known.contains(&other.address_on(link, true)));
            }
            assert!(!known.iter().any(IpAddr::is_loopback));
        }
        pair.run(secs(60), |_| false);
        for side in [Side::A, Side::B] {
            for link in 0..3 {
                let stats = pair.world.link_stats_of(side, link);
                assert!(stats.offered > 0, "nothing went by link {link}");
            }
        }
    }
}

/// Sends a message every `interval` from A and gives how long each took to arrive, with `event` after `before`.
fn latencies(
    pair: &mut Pair,
    interval: Duration,
    before: Duration,
    after: Duration,
    event: impl FnOnce(&mut Pair),
) -> Vec<Duration> {
    let mut sent = Vec::new();
    let mut taken = Vec::new();
    let mut event = Some(event);
    let start = pair.world.now;
    while pair.world.now < start + before + after {
        if pair.world.now >= start + before
            && let Some(event) = event.take()
        {
            event(pair);
        }
        let number = sent.len() as u64;
        sent.push(pair.world.now);
        assert!(pair.send(Side::A, Flow::body(0, number), 0));
        pair.world.flush();
        let next = pair.world.now + interval;
        pair.run(interval, |pair| {
            while let Some((_, data)) = pair.receive(Side::B) {
                let number = taken.len();
                assert!(data == Flow::body(0, number as u64));
                taken.push(pair.world.now - sent[number]);
            }
            pair.world.now >= next
        });
    }
    assert!(
        taken.len() + 20 > sent.len(),
        "{} of {}",
        taken.len(),
        sent.len()
    );
    taken
}

#[test]
fn first_retransmission_goes_to_the_alternate_path_within_one_rto_of_the_loss() {
    // RFC 9260 6.4, 6.3.3 E4, with default parameters.
    for options in [SocketOptions::default(), without_pf()] {
        let mut pair = Pair::new(&[delayed(ms(20)), delayed(ms(30))], &options);
        pair.cut_both(0);
        let lost_at = pair.world.now;
        let before = pair.path(Side::A, 1).stats.chunks_sent;
        assert!(pair.send(Side::A, Bytes::from_static(b"lost"), 0));
        let again = |pair: &mut Pair| pair.path(Side::A, 1).stats.chunks_sent > before;
        assert!(pair.run(secs(10), again));
        let waited = pair.world.now - lost_at;
        assert_eq!(waited, secs(1), "RTO.Min");
        let arrived = |pair: &mut Pair| pair.receive(Side::B).is_some();
        assert!(pair.run(secs(1), arrived));
        assert_eq!(pair.world.now - lost_at, secs(1) + ms(30));
    }
}

#[test]
fn path_is_declared_inactive_after_63_seconds_with_default_parameters() {
    // RFC 9260 8.2, 16: 1 + 2 + 4 + 8 + 16 + 32 s. RFC 7829 changes where data goes meanwhile, not the time.
    for options in [SocketOptions::default(), without_pf()] {
        let mut pair = Pair::new(&[delayed(ms(20)), delayed(ms(30))], &options);
        pair.cut_both(0);
        let lost_at = pair.world.now;
        let mut next = lost_at;
        let mut number = 0;
        let failed = pair.run(secs(100), |pair| {
            while pair.receive(Side::B).is_some() {}
            if pair.world.now >= next {
                pair.send(Side::A, Flow::body(0, number), 0);
                pair.world.flush();
                number += 1;
                next = pair.world.now + ms(100);
            }
            pair.path(Side::A, 0).state == PathState::Inactive
        });
        assert!(failed);
        let took = (pair.world.now - lost_at).as_secs_f64();
        assert!((63.0..64.5).contains(&took), "{took}");
        assert_eq!(
            pair.slot(Side::A).lock().socket.association.state(),
            State::Established
        );
        // It heals, and data returns with the next heartbeat that is answered.
        pair.heal(0);
        let back = |pair: &mut Pair| pair.path(Side::A, 0).state == PathState::Active;
        assert!(pair.run(secs(180), back));
        let before = pair.path(Side::A, 0).stats.chunks_sent;
        pair.send(Side::A, Bytes::from_static(b"back"), 0);
        pair.run(secs(1), |_| false);
        assert_eq!(pair.path(Side::A, 0).stats.chunks_sent, before + 1);
    }
}

#[test]
fn delivery_resumes_within_800_ms_with_quick_timers() {
    // RTO 200 to 1000 ms, Path.Max.Retrans 1: two timeouts at most, 200 and 400 ms, with RFC 9260; one with RFC 7829.
    for (options, limit) in [(without_pf(), ms(800)), (SocketOptions::default(), ms(500))] {
        for phase in 0..20 {
            let mut pair = Pair::new(&[delayed(ms(20)), delayed(ms(30))], &quick(options.clone()));
            let before = secs(2) + ms(phase * 7);
            let cut = |pair: &mut Pair| pair.cut_both(0);
            let taken = latencies(&mut pair, ms(10), before, secs(5), cut);
            let longest = taken.iter().max().expect("messages have arrived");
            assert!(*longest <= limit, "phase {phase}: {longest:?}");
            assert!(*longest > ms(200), "the cut was felt");
        }
    }
}

/// Octets that arrive within ten seconds of a bulk transfer, once `settle` is over.
fn octets_in_ten_seconds(pair: &mut Pair, settle: Duration) -> usize {
    let mut octets = 0;
    let mut trade = |pair: &mut Pair| {
        while pair.send(Side::A, Bytes::from_static(&[7; 4000]), 0) {}
        while let Some((_, data)) = pair.receive(Side::B) {
            octets += data.len();
        }
        pair.world.flush();
        false
    };
    pair.run(settle, &mut trade);
    let start = std::mem::take(&mut octets);
    assert!(start > 0);
    let mut trade = |pair: &mut Pair| {
        while pair.send(Side::A, Bytes::from_static(&[7; 4000]), 0) {}
        while let Some((_, data)) = pair.receive(Side::B) {
            octets += data.len();
        }
        pair.world.flush();
        false
    };
    pair.run(secs(10), &mut trade);
    octets
}

fn ten_megabit() -> LinkConfig {
    LinkConfig {
        impairment: ImpairmentConfig::delay(ms(10)).with_rate(10_000_000, 100_000),
        ..LinkConfig::default()
    }
}

#[test]
fn surviving_path_is_as_fast_as_if_it_were_the_only_one() {
    let mut single = Pair::new(&[ten_megabit()], &SocketOptions::default());
    let alone = octets_in_ten_seconds(&mut single, secs(15));
    for options in [SocketOptions::default(), quick(without_pf())] {
        let mut pair = Pair::new(&[ten_megabit(), ten_megabit()], &options);
        octets_in_ten_seconds(&mut pair, secs(1));
        pair.cut_both(0);
        let survived = octets_in_ten_seconds(&mut pair, secs(15));
        assert!(survived * 10 >= alone * 9, "{survived} of {alone}");
        let path = pair.path(Side::A, 1);
        assert!(path.stats.chunks_sent > 1000, "{path:?}");
    }
}

#[test]
fn idle_second_path_costs_its_heartbeats_and_nothing_else() {
    let mut single = Pair::new(&[ten_megabit()], &SocketOptions::default());
    let alone = octets_in_ten_seconds(&mut single, secs(60));
    let mut pair = Pair::new(&[ten_megabit(), ten_megabit()], &SocketOptions::default());
    let both = octets_in_ten_seconds(&mut pair, secs(60));
    assert!(both * 100 >= alone * 99, "{both} of {alone}");
    for (side, other) in [(Side::A, Side::B), (Side::B, Side::A)] {
        let own = pair.path(side, 1).stats;
        assert_eq!(own.packets_sent, pair.world.link_stats_of(side, 1).offered);
        assert_eq!(own.chunks_sent, 0);
        let answers = pair.path(other, 1).stats.heartbeats_answered;
        assert_eq!(own.packets_sent, own.heartbeats_sent + answers);
        assert!((2..=4).contains(&own.heartbeats_sent), "{own:?}");
    }
}

#[test]
fn end_of_a_device_ends_no_association_that_has_another() {
    let mut pair = Pair::new(&[delayed(ms(5)), delayed(ms(5))], &SocketOptions::default());
    let end = |pair: &mut Pair, link| {
        let interface = pair.world.interface(Side::A, link);
        let mut wakes = WakeList::new();
        let engine = pair.world.engine(Side::A);
        engine.end_interface(
            pair.world.now,
            interface,
            SocketError::NetworkDown,
            &mut wakes,
        );
        wakes.wake_all();
        pair.cut_both(link);
    };
    let taken = latencies(&mut pair, ms(50), secs(1), secs(5), |pair| end(pair, 0));
    assert!(
        *taken.iter().max().expect("messages") < secs(2),
        "{taken:?}"
    );
    let state = |pair: &Pair| pair.slot(Side::A).lock().socket.association.state();
    assert_eq!(state(&pair), State::Established);
    end(&mut pair, 1);
    assert_eq!(state(&pair), State::Closed, "there is none left");
}

#[test]
fn data_whose_way_back_is_broken_moves_to_where_it_is_acknowledged() {
    // RFC 9260 6.4, 8.2: the first link loses all of B's packets and none of A's; SACKs go to where DATA comes from.
    let mut pair = Pair::new(&[delayed(ms(5)), delayed(ms(5))], &SocketOptions::default());
    let cut = |pair: &mut Pair| pair.cut(Side::B, 0);
    let taken = latencies(&mut pair, ms(50), secs(1), secs(20), cut);
    assert!(
        *taken.iter().max().expect("messages") < secs(2),
        "{taken:?}"
    );
    let status = pair.slot(Side::A).lock().socket.association.status();
    assert!(status.unacked <= 2, "{status:?}");
}

/// A device that takes nothing.
struct Full(InterfaceId);

impl Ports for Full {
    fn try_transmit(
        &self,
        interface: InterfaceId,
        _: usize,
        packets: &mut VecDeque<Packet>,
    ) -> io::Result<()> {
        if interface == self.0 && !packets.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    }
}

#[test]
fn device_that_takes_nothing_holds_up_its_own_path_only() {
    let options = SocketOptions {
        nodelay: Some(true),
        ..SocketOptions::default()
    };
    let mut pair = Pair::new(&[delayed(ms(5)), delayed(ms(5))], &options);
    let first = pair.world.interface(Side::A, 0);
    pair.send(Side::A, Bytes::from_static(b"one"), 0);
    let mut wakes = WakeList::new();
    let now = pair.world.now;
    pair.world
        .engine(Side::A)
        .flush(now, &Full(first), &mut wakes);
    assert!(pair.world.engine(Side::A).is_blocked(first));
    assert!(pair.run(secs(1), |pair| pair.receive(Side::B).is_some()));
    let sent = |pair: &Pair, link| pair.path(Side::A, link).stats.chunks_sent;
    let before = [sent(&pair, 0), sent(&pair, 1)];
    // New data waits for the device of the primary path, and goes at once when there is another one.
    pair.send(Side::A, Bytes::from_static(b"two"), 0);
    assert!(!pair.run(ms(500), |pair| pair.receive(Side::B).is_some()));
    let choose = |pair: &Pair, link| {
        let slot = pair.slot(Side::A);
        let address = Side::B.address_on(link, false);
        let chosen = slot.lock().socket.association.set_primary_path(address);
        chosen.expect("it is confirmed");
        pair.world.engine(Side::A).mark_ready(SlotRef::from(slot));
    };
    choose(&pair, 1);
    assert!(pair.run(ms(6), |pair| pair.receive(Side::B).is_some()));
    assert_eq!([sent(&pair, 0), sent(&pair, 1)], [before[0], before[1] + 1]);
    // What waits goes when the device takes packets again.
    choose(&pair, 0);
    pair.send(Side::A, Bytes::from_static(b"three"), 0);
    assert!(!pair.run(ms(100), |pair| pair.receive(Side::B).is_some()));
    pair.world.engine(Side::A).unblock(first);
    assert!(pair.run(ms(6), |pair| pair.receive(Side::B).is_some()));
    assert_eq!(sent(&pair, 0), before[0] + 1);
}
