//! One cell: a bulk transfer between two engines over its path, and what came of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewire::engine::{Engine, SlotRef, TcpSlot};
use tidewire::error::SocketError;
use tidewire::tcp::Info;
use tidewire::tcp::config::CongestionControl;
use tidewire::time::Instant;
use tidewire_netdev::memory::impairment::ImpairmentStats;

use super::cell::Cell;
use super::episodes::{Episodes, Path, Watch};
use crate::world::{Side, World};

/// Samples of the congestion window in a run.
pub const SAMPLES: u32 = 80;
/// Where of the samples the steady state begins.
const WARM_UP: u32 = SAMPLES / 4;

/// What a cell gave.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Delivered in the last three quarters of the time, in percent of what the link carries; headers take 3.5 of it.
    pub steady: f64,
    /// Delivered in all of it, slow start included, in percent.
    pub whole: f64,
    /// The sender's view when the time was over.
    pub sender: Info,
    /// Timeouts, told apart by what went before.
    pub episodes: Episodes,
    /// When the avoidable timeouts were, from the beginning of the simulation.
    pub avoidable_at: Vec<Duration>,
    /// Wire packets of data sent, retransmissions included, once all has been acknowledged.
    pub packets: u64,
    /// Wire packets of data retransmitted, likewise.
    pub retransmitted: u64,
    /// Of those, packets that the receiver had: as its DSACKs tell, and the way back loses none.
    pub spurious: u64,
    /// Packets that arrived, were thrown away and had to be sent again: what is neither lost nor spurious. PAWS takes what
    /// is overtaken by a retransmission (RFC 7323 5.3), and a receiver keeps so many ranges out of order and no more.
    pub refused: u64,
    /// The congestion window in segments, in equal intervals.
    pub windows: Vec<u32>,
}

impl Outcome {
    /// Needless retransmissions in percent of the packets sent.
    pub fn spurious_percent(&self) -> f64 {
        self.spurious as f64 * 100.0 / self.packets.max(1) as f64
    }

    /// Timeouts while the time ran.
    pub fn timeouts(&self) -> u64 {
        let episodes = self.episodes;
        episodes.after_bursts + episodes.in_silence + episodes.avoidable
    }
}

/// Runs a cell with a controller.
///
/// # Panics
/// When the connection fails, or does not come about or to an end within [`PATIENCE`] of virtual time.
pub fn run(cell: &Cell, control: CongestionControl, seed: u64) -> Outcome {
    let mut world = World::with_config(&cell.link(seed), cell.config(control)).without_capture();
    world.set_link(Side::B, cell.way_back());
    let (client, server) = world.connected(false, PATIENCE);
    let before = path(&world);
    let mut watch = Watch::new(cell.base_round_trip(), info(&client), before);
    let interval = cell.duration() / SAMPLES;
    let start = world.now;
    let (mut received, mut at_warm_up) = (0, 0);
    let mut windows = Vec::with_capacity(SAMPLES as usize);
    for sample in 1..=SAMPLES {
        let until = start + interval * sample;
        loop {
            fill(world.engine(Side::A), &client);
            received += drain(world.engine(Side::B), &server);
            world.flush();
            watch.observe(world.now, &info(&client), path(&world));
            if !world.step(until) {
                break;
            }
        }
        world.now = until;
        let sender = info(&client);
        windows.push((sender.cwnd / sender.mss.max(1)) as u32);
        if sample == WARM_UP {
            at_warm_up = received;
        }
    }
    let sender = info(&client);
    let acknowledged = world.run_until(PATIENCE, |world| {
        drain(world.engine(Side::B), &server);
        world.flush();
        info(&client).send_buffered == 0
    });
    assert!(acknowledged, "{cell}: {:?}", info(&client));
    let end = info(&client);
    let lost = path(&world).drops - before.drops;
    let percent = |octets: u64, intervals: u32| {
        octets as f64 * 800.0 / (interval * intervals).as_secs_f64() / cell.bits_per_second() as f64
    };
    Outcome {
        steady: percent(received - at_warm_up, SAMPLES - WARM_UP),
        whole: percent(received, SAMPLES),
        sender,
        episodes: watch.episodes(),
        avoidable_at: watch
            .avoidable_at()
            .iter()
            .map(|at| *at - Instant::ZERO)
            .collect(),
        packets: end.data_segments_sent,
        retransmitted: end.retransmits,
        spurious: end.dsack_dups,
        refused: end.retransmits.saturating_sub(lost + end.dsack_dups),
        windows,
    }
}

/// How long a connection may take to come about or to an end: several of the longest timeouts.
pub const PATIENCE: Duration = Duration::from_secs(3600);

/// What the path of A's packets has lost, and what is on both.
fn path(world: &World) -> Path {
    let [there, back] = [Side::A, Side::B].map(|side| world.link_stats(side));
    let drops = |stats: &ImpairmentStats| stats.lost + stats.queue_full + stats.in_flight_full;
    let under_way = |stats: &ImpairmentStats| stats.offered - stats.delivered - drops(stats);
    Path {
        drops: drops(&there),
        under_way: under_way(&there) + under_way(&back),
    }
}

/// What a sender thinks.
pub(super) fn info(slot: &Arc<TcpSlot>) -> Info {
    slot.lock().socket.connection.info()
}

/// Writes all that the send buffer takes.
///
/// # Panics
/// When the connection has failed.
pub(super) fn fill(engine: &Engine, slot: &Arc<TcpSlot>) {
    static CHUNK: [u8; 65_536] = [0x5a; 65_536];
    let mut has_written = false;
    {
        let mut state = slot.lock();
        loop {
            match state
                .socket
                .connection
                .write_bytes(&mut Bytes::from_static(&CHUNK))
            {
                Ok(_) => has_written = true,
                Err(SocketError::WouldBlock) => break,
                Err(error) => panic!("write failed: {error}"),
            }
        }
    }
    if has_written {
        engine.mark_ready(SlotRef::from(slot));
    }
}

/// Reads all there is; how much that was.
///
/// # Panics
/// When the connection has failed or ended.
pub(super) fn drain(engine: &Engine, slot: &Arc<TcpSlot>) -> u64 {
    let mut total = 0;
    {
        let mut state = slot.lock();
        loop {
            match state.socket.connection.read_with(usize::MAX, |_| {}) {
                Ok(0) => panic!("nobody has closed"),
                Ok(count) => total += count as u64,
                Err(SocketError::WouldBlock) => break,
                Err(error) => panic!("read failed: {error}"),
            }
        }
    }
    if total > 0 {
        engine.mark_ready(SlotRef::from(slot));
    }
    total
}
