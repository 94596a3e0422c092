//! The receive side put together: segment text and FIN, ACKs and what they carry.
//!
//! Owns the flow between the parts of `tcp/receive` and the queue of ACKs that stand for one received segment each.
//! In-order data is acknowledged once per round of `poll_transmit`; whatever is out of order, duplicate or fills a hole
//! gets an ACK of its own (RFC 9293 3.8.6.3, RFC 5681 4.2), as a snapshot taken when it arrived.
//! RFC 9293 3.10.7.4 (seventh and eighth), RFC 2018, RFC 2883.

use smallvec::SmallVec;
use tidewire_netdev::Payload;

use crate::stats::DropReason;
use crate::tcp::connection::Connection;
use crate::tcp::connection::output::AckSnapshot;
use crate::tcp::connection::state::{Lifecycle, ReceiveHalf, SendHalf};
use crate::tcp::receive::window::syn_window;
use crate::tcp::receive::{
    AckSchedule, AckUrgency, Arrival, Reassembly, ReceiveBuffer, ReceiveSpace, ReceiveWindow,
    SackBlocks, Trimmed,
};
use crate::tcp::{Config, Segment, SeqNum};
use crate::time::Instant;
use crate::transport::Readiness;
use crate::wire::tcp::Flags;

/// What is left of a segment's text after trimming, at RCV.NXT.
struct Text {
    payload: Payload,
    len: usize,
    fin: bool,
    /// Nothing was cut off: neither old nor beyond the window.
    regular: bool,
    segment_size: usize,
}

/// The parts of the receive side.
#[derive(Debug)]
pub(super) struct ReceiveSide {
    pub(super) buffer: ReceiveBuffer,
    pub(super) window: ReceiveWindow,
    pub(super) acks: AckSchedule,
    reassembly: Reassembly,
    sack: SackBlocks,
    pub(super) space: ReceiveSpace,
    /// Octets the application may leave unread.
    capacity: usize,
    /// The peer's FIN has come: reads end there, even if a reset follows (as Linux).
    ended: bool,
}

impl ReceiveSide {
    /// Before the peer's SYN has come.
    pub(super) fn new(config: &Config, capacity: usize) -> Self {
        let capacity = capacity.min(config.max_receive_buffer);
        Self {
            buffer: ReceiveBuffer::new(),
            window: ReceiveWindow::new(SeqNum(0), 0, capacity, 1),
            acks: AckSchedule::new(config),
            reassembly: Reassembly::new(config.max_reassembly_ranges),
            sack: SackBlocks::new(),
            space: ReceiveSpace::new(Instant::ZERO, capacity.min(INITIAL_SPACE)),
            capacity,
            ended: false,
        }
    }

    /// The peer's SYN had sequence number `irs`; windows are shifted by `shift` from now on.
    pub(super) fn synchronize(&mut self, irs: SeqNum, shift: u8, mss: usize) {
        // Less than a unit cannot be told (RFC 7323 2.2): a smaller buffer would keep the window shut for ever.
        self.capacity = self.capacity.max(1 << shift);
        self.window = ReceiveWindow::new(irs, shift, self.capacity, mss);
    }

    /// RCV.NXT.
    pub(super) fn rcv_nxt(&self) -> SeqNum {
        self.window.rcv_nxt()
    }

    /// Octets the window may still promise.
    pub(super) fn free(&self) -> usize {
        self.capacity.saturating_sub(self.buffer.len())
    }

    /// Octets of memory held.
    pub(super) fn memory(&self) -> usize {
        self.buffer.charged() + self.reassembly.charged()
    }

    /// Drops some of what is out of order; how many octets. What was SACKed is so no longer (RFC 2018 8).
    pub(super) fn prune(&mut self) -> usize {
        if self.reassembly.is_empty() {
            return 0;
        }
        self.sack = SackBlocks::new();
        self.reassembly.prune()
    }

    /// Octets the application may leave unread.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Changes [`Self::capacity`] (`SO_RCVBUF`).
    pub(super) fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity.max(self.window.unit());
        self.window.set_capacity(self.capacity);
    }

    /// The peer has sent all it will.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Nothing waits to be read.
    pub(super) fn is_drained(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Nothing waits behind a hole.
    pub(super) fn is_in_order(&self) -> bool {
        self.reassembly.is_empty()
    }

    /// Drops what waits behind a hole: the hole will not be filled any more.
    pub(super) fn forget_out_of_order(&mut self) {
        self.reassembly.clear();
        self.sack = SackBlocks::new();
    }

    /// `first..end` came although it had been received: the next ACK says so (RFC 2883).
    pub(super) fn note_duplicate(&mut self, first: SeqNum, end: SeqNum) {
        self.sack.record_duplicate((first, end));
    }

    /// Drops everything received: nobody will read it.
    pub(super) fn discard(&mut self) {
        self.buffer = ReceiveBuffer::new();
    }
}

impl Connection {
    /// Takes the data and the FIN of an acceptable segment; `first` is the sequence number of the first data octet.
    pub(super) fn handle_text(
        &mut self,
        now: Instant,
        first: SeqNum,
        segment: Segment,
    ) -> Result<(), DropReason> {
        let len = segment.payload_len();
        let fin = segment.header.flags.contains(Flags::FIN);
        if len == 0 && !fin {
            return Ok(());
        }
        if len > 0 {
            self.stats.data_segments_received += u64::from(segment.segment_count());
            self.measure_receive_space(now, &segment);
        }
        let Some(ReceiveHalf::Open) = self.lifecycle.receive_half() else {
            // After the peer's FIN nothing new can come: a retransmission, whose ACK was lost.
            self.ack_irregular(1);
            return Ok(());
        };
        let trimmed = self.receive.window.trim(first, len, fin);
        let new_data = trimmed.len > 0;
        if new_data && self.read_shutdown && self.lifecycle.send_half() != Some(SendHalf::Open) {
            // Both directions are closed here and the peer still sends: it must learn that nobody reads it
            // (RFC 9293 3.6.1 and RFC 1122 4.2.2.13; Linux does so too).
            self.abort();
            return Err(DropReason::Closed);
        }
        if trimmed.skip > 0 {
            self.receive
                .sack
                .record_duplicate((first, first + trimmed.skip as u32));
        }
        if !new_data && !trimmed.fin {
            self.ack_irregular(segment.segment_count());
            return Err(DropReason::OutOfWindow);
        }
        let count = segment.segment_count();
        let in_order = trimmed.sequence == self.receive.rcv_nxt();
        let room = if new_data {
            self.memory_for_text(in_order)
        } else {
            usize::MAX
        };
        if room == 0 {
            self.ack_irregular(count);
            return Err(DropReason::MemoryExhausted);
        }
        let trimmed = Trimmed {
            len: trimmed.len.min(room),
            fin: trimmed.fin && trimmed.len <= room,
            ..trimmed
        };
        let segment_size = segment.segment_size;
        let payload = cut(segment.payload, trimmed.skip, trimmed.len);
        if in_order {
            let text = Text {
                payload,
                len: trimmed.len,
                fin: trimmed.fin,
                regular: trimmed.skip == 0 && trimmed.len == len,
                segment_size,
            };
            self.take_in_order(now, text);
        } else {
            self.take_out_of_order(trimmed.sequence, &payload, trimmed.fin, count);
        }
        Ok(())
    }

    /// Data at RCV.NXT, and whatever it makes contiguous.
    fn take_in_order(&mut self, now: Instant, text: Text) {
        let (len, mut fin) = (text.len, text.fin);
        let receive = &mut self.receive;
        receive.buffer.push(text.payload);
        receive.window.advance(len as u32);
        self.stats.bytes_received += len as u64;
        let fills_hole = !receive.reassembly.is_empty();
        if fills_hole {
            if let Some(ready) = receive.reassembly.take_ready(receive.window.rcv_nxt()) {
                receive.window.advance(ready.data.len() as u32);
                self.stats.bytes_received += ready.data.len() as u64;
                receive.buffer.append(ready.data);
                fin |= ready.fin;
            }
            receive.sack.advance(receive.window.rcv_nxt());
        }
        if fin {
            self.take_fin();
        }
        if fills_hole || !text.regular {
            self.ack_irregular(1);
        } else if len > 0 {
            let arrival = Arrival {
                len,
                // A device that coalesces may not tell the size; none on the wire is larger than what we announced.
                segment_size: text.segment_size.min(usize::from(self.negotiated.our_mss)),
                rto: self.rtt.rto(),
            };
            self.receive.acks.on_data(now, arrival);
        }
        self.readiness |= Readiness::READABLE;
        self.dirty = true;
    }

    /// Data behind a hole.
    fn take_out_of_order(
        &mut self,
        sequence: SeqNum,
        payload: &Payload,
        fin_arrived: bool,
        count: u32,
    ) {
        self.stats.out_of_order += count;
        let reassembly = &mut self.receive.reassembly;
        let inserted = reassembly.insert(sequence, payload, fin_arrived);
        // A FIN takes a sequence number, so SACK reports it too, as with Linux: a sender that probes with its FIN learns
        // what is missing before it.
        let fin = self.receive.reassembly.fin_block();
        let covers = |(_, fin_end): &(SeqNum, SeqNum)| match inserted.range {
            Some((_, right)) => right + 1 == *fin_end,
            None => fin_arrived,
        };
        if let Some(range) = fin.filter(covers).or(inserted.range) {
            self.receive.sack.record(range);
        }
        if let Some(duplicate) = inserted.duplicate {
            self.receive.sack.record_duplicate(duplicate);
        }
        self.ack_irregular(count);
    }

    /// The peer's FIN is in order (RFC 9293 3.10.7.4, eighth).
    fn take_fin(&mut self) {
        self.receive.window.advance(1);
        self.receive.ended = true;
        self.receive.forget_out_of_order();
        if let Lifecycle::Synchronized { send, receive } = &mut self.lifecycle {
            *receive = ReceiveHalf::FinReceived {
                passive: *send == SendHalf::Open,
            };
        }
        self.receive.acks.on_event();
        self.readiness |= Readiness::READABLE | Readiness::READ_CLOSED;
        if self.write_closed() {
            self.readiness |= Readiness::WRITE_CLOSED;
        }
        tracing::debug!(state = ?self.state(), "peer has closed");
    }

    /// Queues an ACK that answers one segment (`count` wire segments), as things stand now.
    ///
    /// Without SACK the peer counts duplicate ACKs, so a coalesced segment gets as many as the segments it stands for
    /// would have got; with SACK one ACK tells all.
    pub(super) fn ack_irregular(&mut self, count: u32) {
        self.receive.acks.on_irregular();
        let count = if self.negotiated.sack { 1 } else { count };
        for _ in 0..count {
            if self.pending.acks.len() >= MAX_PENDING_ACKS {
                // What the oldest says is contained in the newer ones.
                self.pending.acks.pop_front();
            }
            let snapshot = AckSnapshot {
                acknowledgment: self.receive.rcv_nxt(),
                window: self.advertise(),
                sack: self.sack_blocks(),
            };
            self.pending.acks.push_back(snapshot);
        }
        self.on_ack_sent();
        self.dirty = true;
    }

    /// An ACK of the present state is due in this round.
    pub(super) fn ack_now(&mut self) {
        self.receive.acks.on_event();
        self.dirty = true;
    }

    /// Whether a pure ACK must go out now.
    pub(super) fn ack_due(&self, now: Instant) -> bool {
        match self.receive.acks.urgency() {
            AckUrgency::None => false,
            AckUrgency::Delayed(deadline) => deadline <= now,
            AckUrgency::EndOfBatch | AckUrgency::Now => true,
        }
    }

    /// Whether an ACK waits for this round to end.
    pub(super) fn ack_is_waiting(&self) -> bool {
        self.receive.acks.urgency() >= AckUrgency::EndOfBatch
    }

    /// When the delayed ACK is due.
    pub(super) fn ack_deadline(&self) -> Option<Instant> {
        if self.lifecycle.is_over() {
            return None;
        }
        self.receive.acks.deadline()
    }

    /// The delayed ACK is due.
    pub(super) fn ack_timeout(&mut self, now: Instant) {
        self.receive.acks.handle_timeout(now);
        self.dirty = true;
    }

    /// A segment with an acknowledgment of everything so far is on its way.
    pub(super) fn on_ack_sent(&mut self) {
        self.last_ack_sent = self.receive.rcv_nxt();
        self.receive.acks.on_ack_sent();
    }

    /// The window field for a segment sent now.
    pub(super) fn advertise(&mut self) -> u16 {
        let free = self.receive_room();
        self.receive.window.advertise(free)
    }

    /// The window field of a SYN, which is never scaled.
    pub(super) fn syn_window(&self) -> u16 {
        syn_window(self.receive.capacity())
    }

    /// The SACK blocks of a segment sent now.
    pub(super) fn sack_blocks(&mut self) -> SmallVec<[(u32, u32); 4]> {
        if !self.negotiated.sack || self.receive.sack.is_empty() {
            return SmallVec::new();
        }
        let limit = self.sack_block_limit();
        self.receive
            .sack
            .blocks(limit)
            .into_iter()
            .map(|(left, right)| (left.0, right.0))
            .collect()
    }

    /// Octets the SACK option of a segment with data may take.
    pub(super) fn sack_option_len(&self) -> usize {
        if !self.negotiated.sack || self.receive.sack.is_empty() {
            0
        } else {
            4 + 8 * self.sack_block_limit()
        }
    }

    /// Blocks that fit beside the other options (RFC 2018 3: four, or three with timestamps).
    fn sack_block_limit(&self) -> usize {
        if self.negotiated.timestamps.is_some() {
            3
        } else {
            4
        }
    }
}

/// The `len` octets of `payload` after the first `skip`.
fn cut(mut payload: Payload, mut skip: usize, len: usize) -> Payload {
    let total: usize = payload.iter().map(bytes::Bytes::len).sum();
    if skip == 0 && len == total {
        return payload;
    }
    let mut left = len;
    payload.retain(|slice| {
        let from = skip.min(slice.len());
        skip -= from;
        let until = (from + left).min(slice.len());
        left -= until - from;
        // A small rest does not hold on to a large buffer.
        *slice = if until - from < slice.len() / 4 {
            bytes::Bytes::copy_from_slice(&slice[from..until])
        } else {
            slice.slice(from..until)
        };
        !slice.is_empty()
    });
    payload
}

/// Octets that a peer may send in its first round trip (RFC 6928).
const INITIAL_SPACE: usize = 14_600;
/// ACKs queued at most: more segments than one batch holds.
const MAX_PENDING_ACKS: usize = 256;
