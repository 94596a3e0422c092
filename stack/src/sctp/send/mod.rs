//! The send half: what waits, what is out, what is lost, and how much more the peer and the paths permit.
//!
//! ```text
//!   enqueue ─▶ MessageQueue (streams, Scheduler) ─▶ cut ─▶ Outstanding ─▶ DATA
//!                                                    ▲        ▲    │
//!                  PeerWindow, Path (cwnd, burst) ───┘        │    ▼ lost
//!   SACK ─▶ GapRanges ─▶ MissIndications ─────────────────────┘  RetransmitQueue ─▶ DATA
//! ```
//!
//! Each part owns its own state and returns small values; [`Sender`] puts them together: `input` takes SACKs and timeouts,
//! `output` gives DATA chunks. Paths are `path`'s; packets, and when sending is allowed at all, are the association's.
//! RFC 9260 6.1 to 6.4, 6.9, 7.2.

use std::mem;

use bytes::Bytes;

use crate::error::SocketError;
use crate::sctp::message::SendOptions;
use crate::sctp::path::{PathId, Paths};
use crate::sctp::serial::Tsn;
use crate::wire::sctp::DATA_HEADER_LEN;

mod gaps;
mod input;
mod miss;
mod output;
mod outstanding;
mod peer_window;
mod queue;
mod retransmit;
pub mod scheduler;
#[cfg(test)]
mod tests;

pub use input::SackOutcome;
pub use output::Opening;
pub use scheduler::SchedulerKind;

use miss::MissIndications;
use outstanding::{Acked, Chunk, Outstanding};
use peer_window::PeerWindow;
use queue::{Message, MessageQueue};
use retransmit::RetransmitQueue;

/// What can be set about sending. RFC 6458's `SO_SNDBUF`, `SCTP_NODELAY`, `SCTP_MAXSEG`, `SCTP_DISABLE_FRAGMENTS`.
#[derive(Clone, Debug, PartialEq)]
pub struct SendConfig {
    /// Octets of messages, sent or not, that are kept at most until the peer has acknowledged them; each message counts
    /// [`MESSAGE_OVERHEAD`] more. A message that alone is larger is taken when nothing else is kept. Default 4 MiB.
    pub buffer: usize,
    /// The longest message that is taken, in octets. Default 16 MiB.
    pub max_message_size: usize,
    /// Send small messages at once also while others are in flight (Nagle's algorithm off). Default false.
    pub nodelay: bool,
    /// Octets of user data in a chunk at most, whatever the MTU; 0 for no such limit. Default 0.
    pub maxseg: usize,
    /// Refuse messages that do not fit one chunk (RFC 9260 6.9). Default false.
    pub disable_fragments: bool,
    /// The order among streams. Default first come, first served.
    pub scheduler: SchedulerKind,
}

impl Default for SendConfig {
    fn default() -> Self {
        Self {
            buffer: 4 << 20,
            max_message_size: 16 << 20,
            nodelay: false,
            maxseg: 0,
            disable_fragments: false,
            scheduler: SchedulerKind::default(),
        }
    }
}

/// What a message costs in the send buffer beyond its octets: the entries that keep it while it waits and while it is out.
pub const MESSAGE_OVERHEAD: usize = 128;

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SendError {
    /// The send buffer is full: wait for room.
    NoRoom,
    /// Longer than `max_message_size`, or than a chunk while fragmentation is off (EMSGSIZE).
    TooLong,
    /// A message without user data cannot be sent (RFC 9260 6.2; EINVAL).
    Empty,
    /// The association has no such stream (EINVAL).
    InvalidStream,
}

impl From<SendError> for SocketError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::NoRoom => Self::WouldBlock,
            SendError::TooLong => Self::MessageTooLong,
            SendError::Empty | SendError::InvalidStream => Self::InvalidInput,
        }
    }
}

/// A message that the association could not deliver (RFC 9260 11.2.2; RFC 6458 6.1.11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedMessage {
    /// How it was to be sent, with the user's context.
    pub options: SendOptions,
    /// How far it had come.
    pub progress: Progress,
    /// What was not acknowledged: all of it, or the end of a long message whose beginning was.
    pub data: Bytes,
}

/// How far a message had come when its association failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Progress {
    /// None of it was sent.
    Unsent,
    /// Some of it was: the peer may have it.
    Sent,
}

/// Counts of an association's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendStats {
    /// DATA chunks sent for the first time.
    pub chunks_sent: u64,
    /// DATA chunks sent again.
    pub chunks_retransmitted: u64,
    /// DATA chunks marked by miss indications.
    pub fast_retransmits: u64,
    /// Expirations of T3-rtx that were errors.
    pub timeouts: u64,
    /// Chunks sent into a closed window.
    pub window_probes: u64,
    /// TSNs that the peer acknowledged and dropped again.
    pub reneged: u64,
}

/// The send half of an association.
#[derive(Debug)]
pub struct Sender {
    config: SendConfig,
    /// Outbound streams.
    streams: u16,
    queue: MessageQueue,
    outstanding: Outstanding,
    lost: RetransmitQueue,
    misses: MissIndications,
    window: PeerWindow,
    /// What the buffer is charged for.
    buffered: usize,
    /// The Fast Recovery exit point, while in Fast Recovery (7.2.4, 6).
    fast_recovery: Option<Tsn>,
    urgent: UrgentPacket,
    /// No more messages will come: nothing is held back for company.
    draining: bool,
    stats: SendStats,
    /// Kept between SACKs so that none allocates.
    acked: Acked,
    scratch: Vec<Tsn>,
}

/// The one packet of retransmissions that goes out at once, whatever cwnd says (6.3.3 E3, 7.2.4 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UrgentPacket {
    None,
    Due,
    /// It is being filled.
    Open,
}

impl Sender {
    /// A sender whose first chunk gets `initial_tsn`. What the peer permits may follow with [`Self::set_peer`].
    pub fn new(
        config: &SendConfig,
        initial_tsn: Tsn,
        outbound_streams: u16,
        peer_rwnd: u32,
    ) -> Self {
        Self {
            config: config.clone(),
            streams: outbound_streams,
            queue: MessageQueue::new(config.scheduler),
            outstanding: Outstanding::new(initial_tsn),
            lost: RetransmitQueue::default(),
            misses: MissIndications::new(initial_tsn),
            window: PeerWindow::new(peer_rwnd),
            buffered: 0,
            fast_recovery: None,
            urgent: UrgentPacket::None,
            draining: false,
            stats: SendStats::default(),
            acked: Acked::default(),
            scratch: Vec::new(),
        }
    }

    /// The handshake has told how many streams the peer takes and how much room it has (RFC 9260 5.1.1, 6.2.1 A). Gives
    /// back the messages on streams beyond those.
    pub fn set_peer(&mut self, outbound_streams: u16, peer_rwnd: u32) -> Vec<FailedMessage> {
        self.streams = outbound_streams;
        self.window = PeerWindow::new(peer_rwnd);
        let refused = self.queue.clear_streams_from(outbound_streams);
        refused
            .into_iter()
            .map(|message| self.fail(message))
            .collect()
    }

    /// Takes a message for sending.
    ///
    /// # Errors
    /// Why it was not taken; see [`SendError`].
    pub fn enqueue(
        &mut self,
        mut message: Bytes,
        options: &SendOptions,
        paths: &Paths,
    ) -> Result<(), SendError> {
        self.enqueue_from(&mut message, options, paths)
    }

    /// The same for a message that stays where it is when it was not taken.
    ///
    /// # Errors
    /// As [`Self::enqueue`].
    pub fn enqueue_from(
        &mut self,
        message: &mut Bytes,
        options: &SendOptions,
        paths: &Paths,
    ) -> Result<(), SendError> {
        self.check(message.len(), options, paths)?;
        self.buffered += message.len() + MESSAGE_OVERHEAD;
        self.queue.push(Message {
            data: mem::take(message),
            options: *options,
        });
        Ok(())
    }

    /// Whether [`Self::enqueue`] would take a message of `len` octets.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, len: usize, options: &SendOptions, paths: &Paths) -> Result<(), SendError> {
        if len == 0 {
            return Err(SendError::Empty);
        }
        if options.stream >= self.streams {
            return Err(SendError::InvalidStream);
        }
        let whole = self.config.disable_fragments && len > self.max_data(paths);
        if len > self.config.max_message_size || whole {
            return Err(SendError::TooLong);
        }
        // Into an empty buffer any message goes: it could never be sent otherwise.
        let fits = self.buffered + len + MESSAGE_OVERHEAD <= self.config.buffer;
        if self.buffered > 0 && !fits {
            return Err(SendError::NoRoom);
        }
        Ok(())
    }

    /// No more messages will come (SHUTDOWN-PENDING, SHUTDOWN-RECEIVED): what is left goes out without waiting for company,
    /// and the last chunk asks for its SACK at once (6.1).
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether all messages are delivered.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.outstanding.is_empty()
    }

    /// Whether anything was sent and is not acknowledged.
    pub fn has_outstanding(&self) -> bool {
        !self.outstanding.is_empty()
    }

    /// TSNs sent and not cumulatively acknowledged (RFC 6458 8.2.1, `sstat_unackdata`).
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Messages of which something was not sent yet.
    pub fn unsent(&self) -> usize {
        self.queue.len()
    }

    /// Octets not sent yet.
    pub fn unsent_octets(&self) -> usize {
        self.queue.octets()
    }

    /// What the send buffer is charged for, in octets.
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    /// Whether a message of one octet would find room.
    pub fn has_room(&self) -> bool {
        self.buffered == 0 || self.buffered + MESSAGE_OVERHEAD < self.config.buffer
    }

    /// Octets of user data the peer can still take (RFC 6458 8.2.1, `sstat_rwnd`).
    pub fn peer_rwnd(&self) -> usize {
        self.window.rwnd(self.outstanding.octets_in_flight())
    }

    /// The TSN the next new chunk gets.
    pub fn next_tsn(&self) -> Tsn {
        self.outstanding.next_tsn()
    }

    /// The Cumulative TSN Ack Point: the highest TSN the peer has acknowledged with all before it.
    pub fn cumulative_tsn(&self) -> Tsn {
        self.outstanding.first_tsn().previous()
    }

    /// Outbound streams.
    pub fn outbound_streams(&self) -> u16 {
        self.streams
    }

    /// Counts of the association's life.
    pub fn stats(&self) -> SendStats {
        self.stats
    }

    /// The options as they are.
    pub fn config(&self) -> &SendConfig {
        &self.config
    }

    /// Changes the options. Messages taken already keep their place; the scheduler stays.
    pub fn set_config(&mut self, config: SendConfig) {
        self.config = config;
    }

    /// The association has failed: takes out one message after the other, those sent first, then those that waited.
    pub fn pop_failed(&mut self, paths: &mut Paths) -> Option<FailedMessage> {
        if let Some(chunk) = self.outstanding.pop(paths) {
            return Some(self.fail_sent(chunk, paths));
        }
        let message = self.queue.pop()?;
        Some(self.fail(message))
    }

    /// The rest of the message that `chunk` belongs to goes with it.
    fn fail_sent(&mut self, chunk: Chunk, paths: &mut Paths) -> FailedMessage {
        let mut ended = chunk.is_end();
        while !ended {
            match self.outstanding.pop(paths) {
                Some(next) => ended = next.is_end(),
                None => {
                    // Its end was not sent yet: it is the one whose turn it is.
                    self.queue.pop();
                    ended = true;
                }
            }
        }
        self.release(chunk.rest.len(), 1);
        FailedMessage {
            options: chunk.options(),
            progress: Progress::Sent,
            data: chunk.rest,
        }
    }

    fn fail(&mut self, message: Message) -> FailedMessage {
        self.release(message.data.len(), 1);
        FailedMessage {
            options: message.options,
            progress: Progress::Unsent,
            data: message.data,
        }
    }

    fn release(&mut self, octets: usize, messages: usize) {
        let charge = octets + messages * MESSAGE_OVERHEAD;
        debug_assert!(self.buffered >= charge, "released what was not charged");
        self.buffered = self.buffered.saturating_sub(charge);
    }

    /// Octets of user data in a chunk at most (6.9): what the smallest PMTU and the user permit.
    fn max_data(&self, paths: &Paths) -> usize {
        let max = paths.smallest_pmdcs().min(MAX_CHUNK) - DATA_HEADER_LEN;
        match self.config.maxseg {
            0 => max,
            maxseg => max.min(maxseg),
        }
    }

    /// Octets of user data that a message is cut into: also no more than the peer ever had room for, or with a large MTU
    /// and a small window nothing would ever arrive.
    fn cut_len(&self, paths: &Paths) -> usize {
        let max = self.max_data(paths);
        if self.config.disable_fragments {
            max
        } else {
            max.min(self.window.largest().max(MIN_CUT))
        }
    }

    /// Where a lost chunk goes (6.4): what timed out elsewhere, if there is an elsewhere; what was found missing the same
    /// way as before.
    fn destination(chunk: &Chunk, paths: &Paths) -> PathId {
        use crate::sctp::path::PathState;
        let usable = paths.get(chunk.path).state() == PathState::Active;
        if usable && chunk.state != outstanding::ChunkState::TimedOut {
            chunk.path
        } else {
            paths.alternate_to(chunk.path)
        }
    }
}

/// The smallest piece into which a small window makes messages be cut: RFC 9260 3.3.2 knows no window below 1500 octets.
const MIN_CUT: usize = 512;

/// The largest chunk with its padding: a chunk's length has 16 bits.
const MAX_CHUNK: usize = 65_532;
