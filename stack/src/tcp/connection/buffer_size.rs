//! How large both buffers may be.
//!
//! A connection begins with small ones and lets them grow with what its path carries: the receive buffer with what the
//! application reads in a round trip (`receive/space.rs`), the send buffer with the congestion window. A size that the
//! socket has set ends that. Neither takes back what has been promised.
//!
//! All connections share the stack's memory (`transport/memory.rs`). When it is short, buffers do not grow, and a window
//! whose buffer is half full does not reopen beyond a few segments; when it is used up, what is out of order is dropped,
//! and of the rest only as much is taken as keeps each connection going. That may drop what the window permits, as it may
//! with Linux: the sender sends it again.

use std::sync::Arc;
use std::time::Duration;

use crate::tcp::config::SocketOptions;
use crate::tcp::connection::Connection;
use crate::tcp::connection::output::largest_payload;
use crate::tcp::{Config, Segment};
use crate::time::Instant;
use crate::transport::memory::{MemoryAccount, MemoryBudget, Pressure};

/// Octets that a connection may receive before anything is known of its path, with segments of `mss` octets. On the
/// loopback they are so large that there must be room for many, as there is with Linux: programs write megabytes to a
/// socket of their own before they read.
pub(super) fn initial_receive_buffer(config: &Config, options: &SocketOptions, mss: u16) -> usize {
    if let Some(own) = options.receive_buffer {
        return own;
    }
    let (initial, mss) = (config.receive_buffer, usize::from(mss));
    if mss >= LARGE_SEGMENT && initial >= 2 * mss {
        initial.max(LARGE_SEGMENTS * mss)
    } else {
        initial
    }
}

/// Octets of a segment that no network carries, and how many of them a connection has room for at first: 2.6 MB on the
/// loopback.
const LARGE_SEGMENT: usize = 16 << 10;
const LARGE_SEGMENTS: usize = 40;
/// A round trip that no peer nearby takes, queues included: the smallest one then says nothing of the path any more.
const NEAR: Duration = Duration::from_millis(16);
/// The rate that [`Config::short_send_buffer`](crate::tcp::Config::short_send_buffer) speaks of.
const SHORT_PATH_OCTETS_PER_NANOSECOND: usize = 4;
/// Octets that a connection may hold in each buffer when memory is used up, so that none comes to a stand: half of what the
/// budget counts for each anyhow.
const GUARANTEED: usize = 2048;
/// So many times [`Config::short_send_buffer`](crate::tcp::Config::short_send_buffer) for data that is not copied: it needs
/// no room of its own in the processor's cache, and a peer that has more to read sleeps less often.
const REFERENCED: usize = 4;
/// Below so many super-packets a buffer keeps its size: rounding would cost it more than a quarter.
const FEW_BURSTS: usize = 4;
/// Segments that a window may reopen by when memory is short, as Linux.
const FEW_SEGMENTS: usize = 4;

impl Connection {
    /// Octets that may be written and not yet acknowledged.
    pub(super) fn send_capacity(&self) -> usize {
        let most = self.config.max_send_buffer;
        if let Some(own) = self.options.send_buffer {
            return own.min(most);
        }
        // Twice: what is in flight, and what is written meanwhile.
        let least = self.config.send_buffer.min(most);
        match self.memory.pressure() {
            Pressure::None => {
                let wanted = self.congestion.cwnd().saturating_mul(2);
                let short = if self.gives_references {
                    self.config.short_send_buffer.saturating_mul(REFERENCED)
                } else {
                    self.config.short_send_buffer
                };
                let limit = self.growth_limit(self.whole_bursts(short), most);
                wanted.min(limit).max(least)
            }
            Pressure::Moderate => least,
            Pressure::Exhausted => least.min(GUARANTEED),
        }
    }

    /// `octets` without the part that would leave in a super-packet of its own: a writer that fills its buffer each time
    /// would send such a runt each time, and a small one costs the device and the peer's process as much as a large one.
    fn whole_bursts(&self, octets: usize) -> usize {
        let mss = self.mss.max(1) as usize;
        let burst = largest_payload(usize::from(self.ip_header_len)) / mss * mss;
        if burst == 0 || octets < FEW_BURSTS * burst {
            return octets;
        }
        octets / burst * burst
    }

    /// Buffers are charged to `budget` from now on.
    pub fn charge_to(&mut self, budget: Arc<MemoryBudget>) {
        self.memory = MemoryAccount::new(budget);
        self.settle_memory();
    }

    /// What the buffers hold has changed.
    pub(super) fn settle_memory(&mut self) {
        let held = self.buffer.len() + self.receive.memory();
        self.memory.settle(held);
    }

    /// Octets of room that the window is taken from.
    pub(super) fn receive_room(&self) -> usize {
        let free = self.receive.free();
        let few = FEW_SEGMENTS * usize::from(self.negotiated.our_mss);
        match self.memory.pressure() {
            Pressure::None => free,
            Pressure::Moderate if free >= self.receive.capacity() / 2 => free,
            Pressure::Moderate => free.min(few),
            Pressure::Exhausted if self.receive.buffer.is_empty() => free.min(few),
            Pressure::Exhausted => 0,
        }
    }

    /// How much of received data may be kept. If memory is used up, data in order is, once what is out of order has made
    /// way, or a little for an empty buffer: the application has something to read then, and the peer to send.
    pub(super) fn memory_for_text(&mut self, in_order: bool) -> usize {
        if self.memory.pressure() != Pressure::Exhausted {
            return usize::MAX;
        }
        let pruned = self.receive.prune();
        if pruned > 0 {
            self.memory.note_pruned(pruned);
            self.settle_memory();
        }
        match self.memory.pressure() {
            _ if !in_order => 0,
            Pressure::Exhausted if self.receive.buffer.is_empty() => GUARANTEED,
            Pressure::Exhausted => 0,
            Pressure::None | Pressure::Moderate => usize::MAX,
        }
    }

    /// A segment with data has come: what it tells of the round trip.
    pub(super) fn measure_receive_space(&mut self, now: Instant, segment: &Segment) {
        match (
            self.negotiated.timestamps,
            segment.header.options.timestamps,
        ) {
            // Linux looks at full segments only: small ones are those of a sender that had nothing to send before.
            (Some(state), Some(option))
                if segment.segment_size >= self.receive.acks.largest_segment() =>
            {
                if let Some(round_trip) = state.round_trip(option.echo, now) {
                    self.receive.space.on_echo(option.echo, round_trip);
                }
            }
            (Some(_), _) => {}
            (None, _) => {
                let window = self.receive.capacity();
                self.receive
                    .space
                    .on_data(now, segment.payload_len(), window);
            }
        }
    }

    /// The application has read `len` octets: the buffer grows if it was what limited the peer.
    pub(super) fn grow_receive_buffer(&mut self, len: usize) {
        if self.options.receive_buffer.is_some() {
            return;
        }
        let plenty = self.memory.pressure() == Pressure::None;
        let round_trip = self.rtt.smoothed().unwrap_or_default();
        let mss = usize::from(self.negotiated.our_mss);
        let wanted = self.receive.space.on_read(self.clock, len, round_trip, mss);
        let Some(wanted) = wanted else {
            return;
        };
        let most = self.config.max_receive_buffer;
        // A receiver's own round trip may be that of the handshake only, before the path was full.
        let limit = if self.receive.space.rtt() < NEAR {
            self.growth_limit(self.config.short_receive_buffer, most)
        } else {
            most
        };
        let wanted = wanted.min(limit);
        if wanted > self.receive.capacity() && plenty {
            self.receive.set_capacity(wanted);
        }
    }

    /// Where a buffer ends to grow by itself: `most`, or on a short path what that holds, `least` at least.
    fn growth_limit(&self, least: usize, most: usize) -> usize {
        match (self.rtt.minimum(), self.rtt.smoothed()) {
            (Some(minimum), Some(smoothed)) if smoothed < NEAR => {
                let held = minimum.as_nanos() as usize * SHORT_PATH_OCTETS_PER_NANOSECOND;
                held.clamp(least.min(most), most)
            }
            _ => most,
        }
    }
}
