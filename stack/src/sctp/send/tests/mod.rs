//! The send half against a scripted peer; `model` has one that loses, reorders and reneges at random.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::*;
use crate::random::Random;
use crate::sctp::path::{PathConfig, PathState, Position};
use crate::time::Instant;
use crate::wire::sctp::{Data, DataFlags, ErrorCause, GapBlock, Sack};

mod complexity;
mod congestion;
mod model;
mod multihomed;
mod pair;
mod queueing;
mod retransmission;
mod sacks;
mod timers;
mod transmission;
mod zero_window;

/// The largest DATA chunk for an MTU of 1500 over IPv4, and the user data in it.
const PMDCS: usize = 1468;
const FULL: usize = 1452;

/// A peer's window that never matters.
const WIDE: u32 = 1 << 30;

/// A sender, its paths and the time. TSNs start at 1.
struct Rig {
    now: Instant,
    sender: Sender,
    paths: Paths,
    /// The latest a_rwnd, for the SACKs that do not name another.
    a_rwnd: u32,
}

/// A packet of DATA.
struct Packet {
    path: PathId,
    chunks: Vec<Data>,
}

impl Packet {
    fn tsns(&self) -> Vec<u32> {
        self.chunks.iter().map(|data| data.header.tsn).collect()
    }

    fn size(&self) -> usize {
        self.chunks.iter().map(chunk_len).sum()
    }
}

/// Octets of a DATA chunk, padding included.
fn chunk_len(data: &Data) -> usize {
    (16 + data.payload.len()).next_multiple_of(4)
}

impl Rig {
    fn new() -> Self {
        Self::with(SendConfig::default(), PathConfig::default(), 1, WIDE)
    }

    /// Without Nagle's algorithm and without a burst limit: what is permitted goes.
    fn eager() -> Self {
        Self::with(eager(), unlimited_burst(), 1, WIDE)
    }

    fn with(config: SendConfig, path_config: PathConfig, path_count: u8, a_rwnd: u32) -> Self {
        let now = Instant::from_millis(1);
        let mut paths = Paths::new(path_config, Random::new(Some(1)));
        for last in 1..=path_count {
            let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
            paths.add(now, address, None, 1500, PathState::Active);
        }
        Self {
            now,
            sender: Sender::new(&config, Tsn(1), 10, a_rwnd),
            paths,
            a_rwnd,
        }
    }

    fn id(&self, index: usize) -> PathId {
        self.paths.ids().nth(index).unwrap()
    }

    fn path(&self) -> &crate::sctp::path::Path {
        self.paths.get(self.id(0))
    }

    fn cwnd(&self) -> usize {
        self.path().controller().cwnd()
    }

    fn flight(&self) -> usize {
        self.path().flight()
    }

    /// A window in which nothing is held back.
    fn open_window(&mut self, chunks: usize) {
        let id = self.id(0);
        self.paths.get_mut(id).set_cwnd(chunks * PMDCS);
    }

    fn wait(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    fn enqueue(&mut self, len: usize) {
        self.enqueue_on(0, len);
    }

    fn enqueue_on(&mut self, stream: u16, len: usize) {
        let options = SendOptions {
            stream,
            ..SendOptions::default()
        };
        self.enqueue_with(len, &options);
    }

    fn enqueue_with(&mut self, len: usize, options: &SendOptions) {
        let message = Bytes::from(vec![len as u8; len]);
        self.sender.enqueue(message, options, &self.paths).unwrap();
    }

    /// The next packet, as an association would build it.
    fn packet(&mut self) -> Option<Packet> {
        let opening = self.sender.opening(self.now, &mut self.paths)?;
        Some(self.packet_with(opening))
    }

    fn packet_with(&mut self, opening: Opening) -> Packet {
        let room = self.sender.room_for(opening, &self.paths);
        let first = self.sender.open(self.now, opening, &mut self.paths);
        let first = first.expect("an opening has its chunk");
        let used = chunk_len(&first);
        assert!(used <= room, "{used} octets of {room}");
        let mut packet = self.fill(opening.path, room - used, Position::AfterData);
        packet.chunks.insert(0, first);
        packet
    }

    /// A packet on `path` with `room` octets for chunks; it may come out empty.
    fn fill(&mut self, path: PathId, mut room: usize, mut position: Position) -> Packet {
        let mut packet = Packet {
            path,
            chunks: Vec::new(),
        };
        while let Some(data) =
            self.sender
                .next_data(self.now, path, &mut self.paths, room, position)
        {
            assert!(!data.payload.is_empty(), "6.2: no DATA without user data");
            room -= chunk_len(&data);
            position = Position::AfterData;
            packet.chunks.push(data);
        }
        self.sender.check_counts(&self.paths);
        packet
    }

    /// Everything that may be sent now.
    fn flush(&mut self) -> Vec<Packet> {
        std::iter::from_fn(|| self.packet()).collect()
    }

    /// The TSNs of everything that may be sent now, packet by packet.
    fn flush_tsns(&mut self) -> Vec<Vec<u32>> {
        self.flush().iter().map(Packet::tsns).collect()
    }

    fn sack(&mut self, cumulative: u32, blocks: &[(u16, u16)]) -> SackOutcome {
        self.try_sack(cumulative, blocks)
            .expect("a SACK for what was sent")
    }

    fn try_sack(
        &mut self,
        cumulative: u32,
        blocks: &[(u16, u16)],
    ) -> Result<SackOutcome, ErrorCause> {
        let sack = sack(cumulative, self.a_rwnd, blocks);
        let outcome = self.sender.handle_sack(self.now, &sack, &mut self.paths);
        self.sender.check_counts(&self.paths);
        outcome
    }

    /// Lets time pass until T3-rtx of `path` fires, and handles that. How long it took.
    fn fire_t3(&mut self, path: PathId) -> Duration {
        let at = self.paths.get(path).t3().expect("T3-rtx runs");
        let waited = at - self.now;
        self.now = self.now.max(at);
        assert_eq!(self.paths.expired_t3(self.now), Some(path));
        let _ = self.sender.handle_t3(self.now, path, &mut self.paths);
        self.sender.check_counts(&self.paths);
        waited
    }
}

fn eager() -> SendConfig {
    SendConfig {
        nodelay: true,
        ..SendConfig::default()
    }
}

fn unlimited_burst() -> PathConfig {
    PathConfig {
        max_burst: 0,
        ..PathConfig::default()
    }
}

fn sack(cumulative: u32, a_rwnd: u32, blocks: &[(u16, u16)]) -> Sack {
    Sack {
        cumulative_tsn_ack: cumulative,
        a_rwnd,
        gap_blocks: blocks
            .iter()
            .map(|(start, end)| GapBlock {
                start: *start,
                end: *end,
            })
            .collect(),
        duplicates: SmallVec::new(),
    }
}

impl crate::sctp::path::Path {
    fn set_cwnd(&mut self, cwnd: usize) {
        self.controller_mut().set_cwnd(cwnd);
    }
}

impl Sender {
    /// All counts equal a recount.
    fn check_counts(&self, paths: &Paths) {
        let mut in_flight = 0;
        let mut octets = 0;
        let mut kept = self.queue.octets() + self.queue.len() * MESSAGE_OVERHEAD;
        let mut by_path = vec![0; paths.len()];
        let mut last_is_end = true;
        for (tsn, chunk) in self.outstanding.iter() {
            kept += usize::from(chunk.len);
            last_is_end = chunk.is_end();
            kept += usize::from(last_is_end) * MESSAGE_OVERHEAD;
            if chunk.state == outstanding::ChunkState::InFlight {
                in_flight += 1;
                octets += usize::from(chunk.len);
                by_path[chunk.path.index()] += chunk.size();
            }
            let waits = self.lost.contains(tsn);
            assert!(waits || !chunk.is_lost(), "{tsn:?} is lost and forgotten");
        }
        assert!(last_is_end || !self.queue.is_empty());
        assert_eq!(self.outstanding.chunks_in_flight(), in_flight);
        assert_eq!(self.outstanding.octets_in_flight(), octets);
        assert_eq!(self.buffered, kept);
        for ((_, path), flight) in paths.iter().zip(by_path) {
            assert_eq!(path.flight(), flight);
            assert!(flight == 0 || path.t3().is_some(), "R1: T3-rtx runs");
        }
    }
}
