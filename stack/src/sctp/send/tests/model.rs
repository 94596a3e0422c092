//! A peer and a network that lose, duplicate and reorder packets and SACKs, renege, close windows and cut paths at random.
//! Whatever they do, every octet arrives exactly once, the counts are right, and no window is overrun.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

/// The receiving end as RFC 9260 6.2 has it, as simple as can be.
struct Peer {
    cumulative: u32,
    /// TSNs beyond the cumulative one.
    held: BTreeMap<u32, Data>,
    /// In TSN order, for the user.
    delivered: Vec<Data>,
    capacity: usize,
    /// Octets delivered and not read.
    unread: usize,
    /// Gap blocks per SACK.
    max_blocks: usize,
}

impl Peer {
    fn new(capacity: usize, max_blocks: usize) -> Self {
        Self {
            cumulative: 0,
            held: BTreeMap::new(),
            delivered: Vec::new(),
            capacity,
            unread: 0,
            max_blocks,
        }
    }

    fn room(&self) -> usize {
        let held: usize = self.held.values().map(|data| data.payload.len()).sum();
        self.capacity.saturating_sub(self.unread + held)
    }

    fn receive(&mut self, data: Data) {
        let tsn = data.header.tsn;
        if tsn <= self.cumulative || self.held.contains_key(&tsn) {
            return;
        }
        // 6.2: without room, the highest TSNs make place for a lower one.
        while self.room() < data.payload.len() {
            match self.held.last_key_value() {
                Some((highest, _)) if *highest > tsn => self.held.pop_last(),
                _ => return,
            };
        }
        self.held.insert(tsn, data);
        while let Some(data) = self.held.remove(&(self.cumulative + 1)) {
            self.cumulative += 1;
            self.unread += data.payload.len();
            self.delivered.push(data);
        }
    }

    /// Drops something that was acknowledged in a gap block.
    fn renege(&mut self, choice: usize) {
        if !self.held.is_empty() {
            let tsn = *self.held.keys().nth(choice % self.held.len()).unwrap();
            self.held.remove(&tsn);
        }
    }

    fn sack(&self) -> Sack {
        let mut blocks: Vec<(u16, u16)> = Vec::new();
        for tsn in self.held.keys() {
            let offset = (tsn - self.cumulative) as u16;
            match blocks.last_mut() {
                Some((_, end)) if *end + 1 == offset => *end = offset,
                _ => blocks.push((offset, offset)),
            }
        }
        blocks.truncate(self.max_blocks);
        sack(self.cumulative, self.room() as u32, &blocks)
    }
}

/// What happens next.
#[derive(Clone, Debug)]
enum Event {
    Message {
        stream: u16,
        len: usize,
        unordered: bool,
    },
    Flush,
    Packet(usize),
    LosePacket(usize),
    DuplicatePacket(usize),
    PeerSacks,
    Sack(usize),
    LoseSack(usize),
    DuplicateSack(usize),
    Renege(usize),
    Read(usize),
    Wait(u64),
    Timer,
    /// Everything is sent, one packet is lost, each other one gets its SACK.
    Round(usize),
    Mtu(usize, usize),
    Primary(usize),
    CutPath(usize),
    HealPath(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let index = 0usize..64;
    prop_oneof![
        6 => (0u16..10, 1usize..6000, prop::bool::weighted(0.2))
            .prop_map(|(stream, len, unordered)| Event::Message { stream, len, unordered }),
        2 => (0u16..10, 10_000usize..80_000, Just(false))
            .prop_map(|(stream, len, unordered)| Event::Message { stream, len, unordered }),
        3 => (0u16..10, 1usize..100, Just(false))
            .prop_map(|(stream, len, unordered)| Event::Message { stream, len, unordered }),
        10 => Just(Event::Flush),
        20 => index.clone().prop_map(Event::Packet),
        20 => Just(Event::Packet(0)),
        4 => index.clone().prop_map(Event::LosePacket),
        2 => index.clone().prop_map(Event::DuplicatePacket),
        14 => Just(Event::PeerSacks),
        14 => Just(Event::Sack(0)),
        3 => index.clone().prop_map(Event::Sack),
        2 => index.clone().prop_map(Event::LoseSack),
        1 => index.clone().prop_map(Event::DuplicateSack),
        2 => index.prop_map(Event::Renege),
        2 => (1usize..10_000).prop_map(Event::Read),
        3 => (1u64..2000).prop_map(Event::Wait),
        4 => Just(Event::Timer),
        5 => (0usize..20).prop_map(Event::Round),
        1 => (0usize..2, prop::sample::select(vec![600usize, 1000, 1500, 3000]))
            .prop_map(|(path, mtu)| Event::Mtu(path, mtu)),
        1 => (0usize..2).prop_map(Event::Primary),
        1 => (0usize..2).prop_map(Event::CutPath),
        2 => (0usize..2).prop_map(Event::HealPath),
    ]
}

/// How an association is set up.
#[derive(Clone, Debug)]
struct Setup {
    paths: u8,
    capacity: usize,
    max_blocks: usize,
    nodelay: bool,
    max_burst: u32,
    cubic: bool,
    scheduler: SchedulerKind,
    /// The congestion windows to begin with, in chunks.
    window: usize,
}

fn setup() -> impl Strategy<Value = Setup> {
    (
        1u8..3,
        prop::sample::select(vec![4000usize, 20_000, 1 << 20, 1 << 20]),
        prop::sample::select(vec![1usize, 4, 16, 300]),
        any::<bool>(),
        prop::sample::select(vec![0u32, 1, 4]),
        any::<bool>(),
        prop::sample::select(vec![SchedulerKind::FirstCome, SchedulerKind::RoundRobin]),
        1usize..40,
    )
        .prop_map(
            |(paths, capacity, max_blocks, nodelay, max_burst, cubic, scheduler, window)| Setup {
                paths,
                capacity,
                max_blocks,
                nodelay,
                max_burst,
                cubic,
                scheduler,
                window,
            },
        )
}

struct World {
    rig: Rig,
    peer: Peer,
    packets: VecDeque<Packet>,
    sacks: VecDeque<Sack>,
    cut: Vec<bool>,
    messages: Vec<(SendOptions, Vec<u8>)>,
}

impl World {
    fn new(setup: &Setup) -> Self {
        use crate::transport::congestion::CongestionControl;
        let config = SendConfig {
            nodelay: setup.nodelay,
            scheduler: setup.scheduler,
            ..SendConfig::default()
        };
        let path_config = PathConfig {
            max_burst: setup.max_burst,
            congestion_control: if setup.cubic {
                CongestionControl::Cubic
            } else {
                CongestionControl::NewReno
            },
            ..PathConfig::default()
        };
        let mut rig = Rig::with(config, path_config, setup.paths, setup.capacity as u32);
        for id in rig.paths.ids() {
            rig.paths.get_mut(id).set_cwnd(setup.window * PMDCS);
        }
        Self {
            rig,
            peer: Peer::new(setup.capacity, setup.max_blocks),
            packets: VecDeque::new(),
            sacks: VecDeque::new(),
            cut: vec![false; usize::from(setup.paths)],
            messages: Vec::new(),
        }
    }

    fn step(&mut self, event: &Event) {
        match *event {
            Event::Message {
                stream,
                len,
                unordered,
            } => self.message(stream, len, unordered),
            Event::Flush => self.flush(),
            Event::Packet(choice) => self.deliver(choice),
            Event::LosePacket(choice) => {
                take(&mut self.packets, choice);
            }
            Event::DuplicatePacket(choice) => {
                if let Some(packet) = pick(&self.packets, choice) {
                    let copy = Packet {
                        path: packet.path,
                        chunks: packet.chunks.clone(),
                    };
                    self.packets.push_back(copy);
                }
            }
            Event::PeerSacks => self.sacks.push_back(self.peer.sack()),
            Event::Sack(choice) => {
                if let Some(sack) = take(&mut self.sacks, choice) {
                    self.handle_sack(&sack);
                }
            }
            Event::LoseSack(choice) => {
                take(&mut self.sacks, choice);
            }
            Event::DuplicateSack(choice) => {
                if let Some(sack) = pick(&self.sacks, choice).cloned() {
                    self.sacks.push_back(sack);
                }
            }
            Event::Renege(choice) => self.peer.renege(choice),
            Event::Read(octets) => self.peer.unread = self.peer.unread.saturating_sub(octets),
            Event::Wait(millis) => {
                self.rig.wait(millis);
                self.fire_expired();
            }
            Event::Timer => self.fire_next(),
            Event::Round(lost) => self.round(lost),
            Event::Mtu(path, mtu) => {
                if let Some(id) = self.rig.paths.ids().nth(path) {
                    self.rig.paths.set_mtu(id, mtu);
                }
            }
            Event::Primary(path) => {
                if let Some(id) = self.rig.paths.ids().nth(path) {
                    self.rig.paths.set_primary(id);
                }
            }
            Event::CutPath(path) => {
                if let Some(cut) = self.cut.get_mut(path) {
                    *cut = true;
                }
            }
            Event::HealPath(path) => {
                if let Some(cut) = self.cut.get_mut(path) {
                    *cut = false;
                }
            }
        }
        self.rig.sender.check_counts(&self.rig.paths);
    }

    fn message(&mut self, stream: u16, len: usize, unordered: bool) {
        let mark = self.messages.len();
        let octets: Vec<u8> = (0..len).map(|i| (i * 7 + mark * 13) as u8).collect();
        let options = SendOptions {
            stream,
            unordered,
            ppid: mark as u32,
            ..SendOptions::default()
        };
        let message = Bytes::from(octets.clone());
        let taken = self.rig.sender.enqueue(message, &options, &self.rig.paths);
        if taken.is_ok() {
            self.messages.push((options, octets));
        }
    }

    /// Sends what may go, and checks that it may.
    fn flush(&mut self) {
        loop {
            let rig = &mut self.rig;
            let next_tsn = rig.sender.next_tsn();
            let urgent = rig.sender.urgent == UrgentPacket::Due;
            let before: Vec<usize> = rig.paths.iter().map(|(_, path)| path.flight()).collect();
            let in_flight = rig.sender.outstanding.octets_in_flight();
            let Some(opening) = rig.sender.opening(rig.now, &mut rig.paths) else {
                return;
            };
            let id = opening.path;
            let room = rig.sender.room_for(opening, &rig.paths);
            let packet = rig.packet_with(opening);
            assert!(packet.size() <= room);
            assert!(packet.tsns().is_sorted(), "6.10: ascending");
            let path = rig.paths.get(id);
            // The window as it was for this packet: a first packet after idle time sees it decayed.
            let cwnd = path.controller().cwnd();
            let flight = before[id.index()];
            let first_is_new = packet.chunks[0].header.tsn == next_tsn.0;
            assert!(
                flight < cwnd || (urgent && !first_is_new),
                "6.1 B: begun with {flight} in flight of {cwnd}"
            );
            let news: Vec<&Data> = packet
                .chunks
                .iter()
                .filter(|data| !Tsn(data.header.tsn).is_before(next_tsn))
                .collect();
            if !news.is_empty() {
                assert!(
                    path.flight() < cwnd + path.pmdcs(),
                    "6.1 B: one packet beyond cwnd"
                );
                let octets: usize = packet.chunks.iter().map(|data| data.payload.len()).sum();
                let probe = in_flight == 0 && packet.chunks.len() == 1;
                assert!(
                    in_flight + octets <= rig.a_rwnd as usize || probe,
                    "6.1 A: {in_flight} and {octets} for {}",
                    rig.a_rwnd
                );
            }
            if !self.cut[id.index()] {
                self.packets.push_back(packet);
            }
        }
    }

    fn round(&mut self, lost: usize) {
        self.flush();
        for turn in 0..self.packets.len() {
            if turn == lost {
                self.packets.pop_front();
                continue;
            }
            self.deliver(0);
            let sack = self.peer.sack();
            self.handle_sack(&sack);
        }
    }

    fn deliver(&mut self, choice: usize) {
        if let Some(packet) = take(&mut self.packets, choice)
            && !self.cut[packet.path.index()]
        {
            for data in packet.chunks {
                self.peer.receive(data);
            }
        }
    }

    fn handle_sack(&mut self, sack: &Sack) {
        let rig = &mut self.rig;
        let outcome = rig
            .sender
            .handle_sack(rig.now, sack, &mut rig.paths)
            .expect("the peer acknowledges what was sent");
        if !outcome.stale {
            rig.a_rwnd = sack.a_rwnd;
        }
        assert_eq!(outcome.all_acked, !rig.sender.has_outstanding());
    }

    fn fire_expired(&mut self) {
        while let Some(path) = self.rig.paths.expired_t3(self.rig.now) {
            let rig = &mut self.rig;
            let _ = rig.sender.handle_t3(rig.now, path, &mut rig.paths);
        }
    }

    fn fire_next(&mut self) {
        if let Some(at) = self.rig.paths.next_deadline() {
            self.rig.now = self.rig.now.max(at);
            self.fire_expired();
        }
    }

    /// The network works again, and the peer's user reads. Nothing must be left.
    fn finish(&mut self) {
        self.cut.fill(false);
        for _ in 0..2000 {
            self.flush();
            let nothing_out = self.packets.is_empty();
            while !self.packets.is_empty() {
                self.deliver(0);
            }
            self.peer.unread = 0;
            self.sacks.push_back(self.peer.sack());
            while let Some(sack) = self.sacks.pop_front() {
                self.handle_sack(&sack);
            }
            self.rig.sender.check_counts(&self.rig.paths);
            if self.rig.sender.is_empty() {
                return;
            }
            if nothing_out {
                assert!(
                    self.rig
                        .sender
                        .opening(self.rig.now, &mut self.rig.paths)
                        .is_some()
                        || self.rig.paths.next_deadline().is_some(),
                    "stalled without a timer"
                );
                self.fire_next();
            }
            self.rig.wait(20);
        }
        panic!("not delivered: {:?}", self.rig.sender);
    }

    fn check_delivery(&self) {
        let mut whole: Vec<(SendOptions, Vec<u8>)> = Vec::new();
        let mut ssns = BTreeMap::new();
        let mut inside = false;
        for data in &self.peer.delivered {
            let header = data.header;
            assert_eq!(header.flags.contains(DataFlags::BEGINNING), !inside);
            if !inside {
                let unordered = header.flags.contains(DataFlags::UNORDERED);
                if !unordered {
                    let next = ssns.entry(header.stream).or_insert(0u16);
                    assert_eq!(header.ssn, *next);
                    *next = next.wrapping_add(1);
                }
                let options = SendOptions {
                    stream: header.stream,
                    ppid: header.ppid,
                    unordered,
                    ..SendOptions::default()
                };
                whole.push((options, Vec::new()));
            }
            whole.last_mut().unwrap().1.extend_from_slice(&data.payload);
            inside = !header.flags.contains(DataFlags::END);
        }
        assert!(!inside);
        // Among streams the order is the scheduler's; within one it is the user's.
        for stream in 0..10 {
            let of_stream = |messages: &[(SendOptions, Vec<u8>)]| {
                let wanted = messages.iter().filter(|(o, _)| o.stream == stream);
                wanted
                    .map(|(o, octets)| (o.ppid, o.unordered, octets.clone()))
                    .collect::<Vec<_>>()
            };
            assert_eq!(of_stream(&whole), of_stream(&self.messages));
        }
    }
}

fn pick<T>(queue: &VecDeque<T>, choice: usize) -> Option<&T> {
    queue.get(choice.checked_rem(queue.len())?)
}

fn take<T>(queue: &mut VecDeque<T>, choice: usize) -> Option<T> {
    queue.remove(choice.checked_rem(queue.len())?)
}

proptest! {
    #[test]
    fn every_octet_arrives_once_whatever_the_network_and_the_peer_do(
        setup in setup(),
        events in prop::collection::vec(event(), 1..400),
    ) {
        let mut world = World::new(&setup);
        for event in &events {
            world.step(event);
        }
        world.finish();
        world.check_delivery();
    }

    #[test]
    fn any_sack_is_taken_or_refused(
        sacks in prop::collection::vec(
            (
                prop_oneof![3 => 0u32..80, 1 => any::<u32>()],
                any::<u32>(),
                prop::collection::vec(
                    prop_oneof![
                        3 => (0u16..80, 0u16..80),
                        1 => (any::<u16>(), any::<u16>()),
                    ],
                    0..30,
                ),
            ),
            1..60,
        ),
    ) {
        let mut rig = Rig::eager();
        rig.open_window(30);
        for _ in 0..70 {
            rig.enqueue(FULL);
        }
        for (cumulative, a_rwnd, blocks) in sacks {
            rig.flush();
            let point = rig.sender.cumulative_tsn().0;
            let highest = rig.sender.next_tsn().0 - 1;
            let sack = sack(cumulative, a_rwnd, &blocks);
            let named = blocks.iter().filter(|(start, end)| start <= end).map(|(_, end)| end);
            let top = u64::from(cumulative) + u64::from(*named.max().unwrap_or(&0));
            let stale = (cumulative.wrapping_sub(point) as i32) < 0;
            let result = rig.sender.handle_sack(rig.now, &sack, &mut rig.paths);
            rig.sender.check_counts(&rig.paths);
            match result {
                Ok(outcome) => prop_assert!(outcome.stale == stale && (stale || top <= u64::from(highest))),
                Err(_) => prop_assert!(!stale && top > u64::from(highest)),
            }
            rig.wait(100);
            if let Some(path) = rig.paths.expired_t3(rig.now) {
                let _ = rig.sender.handle_t3(rig.now, path, &mut rig.paths);
            }
        }
    }
}

/// The model is worth something only if it gets everywhere.
#[test]
fn model_meets_losses_timeouts_reneging_and_closed_windows() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let strategy = (setup(), prop::collection::vec(event(), 100..400));
    let mut total = SendStats::default();
    let mut delivered = 0;
    for _ in 0..100 {
        let (setup, events) = strategy.new_tree(&mut runner).unwrap().current();
        let mut world = World::new(&setup);
        for event in &events {
            world.step(event);
        }
        world.finish();
        delivered += world.messages.len();
        let stats = world.rig.sender.stats();
        total.chunks_sent += stats.chunks_sent;
        total.chunks_retransmitted += stats.chunks_retransmitted;
        total.fast_retransmits += stats.fast_retransmits;
        total.timeouts += stats.timeouts;
        total.window_probes += stats.window_probes;
        total.reneged += stats.reneged;
    }
    println!("{delivered} messages, {total:?}");
    assert!(delivered > 1000);
    assert!(total.chunks_retransmitted > 500);
    assert!(total.fast_retransmits > 50);
    assert!(total.timeouts > 100);
    assert!(total.window_probes > 10);
    assert!(total.reneged > 20);
}
