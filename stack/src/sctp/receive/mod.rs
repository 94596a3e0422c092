//! The receiving half of an association: from DATA chunks to messages, and the SACKs they ask for.
//!
//! ```text
//!            TsnTracker        Fragments           Streams           ready
//!   DATA ──▶ seen before? ──▶ complete a  ──────▶ next of its ────▶ recv()
//!               │              message?  unordered  stream? │  ▲
//!               ▼                 └───────────────────────────┘
//!         Acknowledgment ──▶ SACK
//! ```
//!
//! A message is delivered as soon as it is complete and the next of its stream, whatever is missing on other streams.
//! Memory is charged by what is held, bookkeeping included, and the window is what is left of the buffer. One that
//! does not fit is delivered in parts (RFC 6458's partial delivery) once the application has read everything else.

mod acknowledgment;
mod fragments;
mod streams;
mod tsn_tracker;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use acknowledgment::Acknowledgment;
use fragments::{Fragments, Run};
use streams::{Repeated, Streams};
use tsn_tracker::{LongTsn, Place, TsnTracker};

use crate::time::Instant;
use crate::wire::sctp::{Data, DataFlags, DataHeader, ErrorCause, Sack};

/// Octets that are charged for what is held besides its data, for each chunk.
pub(in crate::sctp) const OVERHEAD: usize = 64;
/// Octets up to which data stays in the buffers it came in; beyond, the reader is behind, or waits for what is missing.
const HELD_AS_SLICES: usize = 128 * 1024;
/// The same for small pieces, which hold the most buffers for what they are charged with.
const HELD_AS_SMALL_SLICES: usize = 32 * 1024;
/// Octets of a small piece at most.
const SMALL: usize = 512;
/// A window under this many octets is no window: the peer would send slivers (RFC 1122 4.2.3.3).
const SMALLEST_WINDOW: usize = 1500;

/// How an association receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiveConfig {
    /// Octets that may wait to be read or to be put together; the window offered. Default 1 MiB.
    pub buffer: usize,
    /// Octets held at which a message is delivered in parts when nothing else can be read (RFC 6458 8.1.21). Default half
    /// of the buffer.
    pub partial_delivery_point: usize,
    /// Longest delay of a SACK (RFC 9260 16, SACK.Delay); 500 ms is the most that is allowed. Default 200 ms.
    pub sack_delay: Duration,
    /// Packets with DATA that are acknowledged by one SACK (RFC 9260 6.2). Default 2.
    pub sack_frequency: u32,
}

impl Default for ReceiveConfig {
    fn default() -> Self {
        Self {
            buffer: 1 << 20,
            partial_delivery_point: 512 << 10,
            sack_delay: Duration::from_millis(200),
            sack_frequency: 2,
        }
    }
}

/// A message, or a part of one, as the application reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SctpMessage {
    /// The stream it came on.
    pub stream: u16,
    /// Its number within the stream; means nothing if it is unordered.
    pub ssn: u16,
    /// Payload protocol identifier, the peer application's.
    pub ppid: u32,
    /// It was delivered without regard to order.
    pub unordered: bool,
    /// The TSN of its first fragment, or of the first in this part.
    pub tsn: u32,
    /// The data.
    pub data: Bytes,
    /// The message ends here (RFC 6458, `MSG_EOR`). Otherwise the next message read goes on with it.
    pub end_of_record: bool,
}

/// Gap blocks of a SACK that was due before another: enough to show what is missing; the last one tells all.
const MAX_OVERDUE_BLOCKS: usize = 16;

/// What became of a DATA chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataOutcome {
    /// It is held or can be read.
    Accepted,
    /// It had arrived before.
    Duplicate,
    /// There is no room for it, or it is too far ahead: the peer sends it again.
    Dropped,
    /// Its stream does not exist: acknowledged, but reported (RFC 9260 6.5).
    Refused(ErrorCause),
    /// The peer breaks the protocol; the association is to be aborted with this cause.
    Violation(ErrorCause),
}

/// A message on its way to the application, and what it is charged with.
#[derive(Debug)]
struct Delivery {
    message: SctpMessage,
    charge: usize,
}

fn message(tsn: LongTsn, header: DataHeader, data: Bytes, end_of_record: bool) -> SctpMessage {
    SctpMessage {
        stream: header.stream,
        ssn: header.ssn,
        ppid: header.ppid,
        unordered: header.flags.contains(DataFlags::UNORDERED),
        tsn: tsn as u32,
        data,
        end_of_record,
    }
}

/// Takes the message at a place of a queue, or the first `max_len` octets of it.
fn take(
    queue: &mut VecDeque<Delivery>,
    at: usize,
    max_len: usize,
    charged: &mut usize,
) -> Option<SctpMessage> {
    let found = queue.get_mut(at)?;
    if found.message.data.len() > max_len {
        let data = found.message.data.split_to(max_len);
        found.charge -= max_len;
        *charged -= max_len;
        return Some(SctpMessage {
            data,
            end_of_record: false,
            ..found.message.clone()
        });
    }
    let Delivery { message, charge } = queue.remove(at)?;
    *charged -= charge;
    Some(message)
}

/// A message that is being delivered in parts.
#[derive(Debug)]
struct Partial {
    header: DataHeader,
    /// The TSN that goes on with it.
    next: LongTsn,
}

/// The receiving half.
#[derive(Debug)]
pub struct Receiver {
    config: ReceiveConfig,
    tracker: TsnTracker,
    acknowledgment: Acknowledgment,
    fragments: Fragments,
    streams: Streams,
    ready: VecDeque<Delivery>,
    partial: Option<Partial>,
    /// What became complete since a message is delivered in parts: its parts come first.
    behind: VecDeque<Delivery>,
    charged: usize,
    /// A read has made part of the next message readable.
    uncovered: bool,
    /// Octets that the peer believes it may send.
    granted: usize,
}

impl Receiver {
    /// Nothing has arrived. `initial_tsn` is the peer's, `inbound_streams` what was negotiated.
    pub fn new(config: &ReceiveConfig, initial_tsn: u32, inbound_streams: u16) -> Self {
        Self {
            tracker: TsnTracker::new(initial_tsn),
            acknowledgment: Acknowledgment::new(config.sack_delay, config.sack_frequency),
            fragments: Fragments::default(),
            streams: Streams::new(inbound_streams),
            ready: VecDeque::new(),
            partial: None,
            behind: VecDeque::new(),
            charged: 0,
            uncovered: false,
            granted: config.buffer,
            config: config.clone(),
        }
    }

    /// Changes how it receives. What has arrived stays, also in a buffer that has become too small for it.
    pub fn set_config(&mut self, config: &ReceiveConfig) {
        self.config = config.clone();
        self.acknowledgment
            .set_policy(config.sack_delay, config.sack_frequency);
    }

    /// Takes a DATA chunk. After the last of a packet comes [`Self::end_of_packet`].
    #[inline]
    pub fn handle_data(&mut self, data: Data) -> DataOutcome {
        let wire_tsn = data.header.tsn;
        let tsn = match self.tracker.place(wire_tsn) {
            Place::New(tsn) => tsn,
            Place::Old => {
                self.acknowledgment.on_duplicate(wire_tsn);
                return DataOutcome::Duplicate;
            }
            Place::Beyond => {
                self.acknowledgment.on_data(true);
                return DataOutcome::Dropped;
            }
        };
        if !self.streams.has(data.header.stream) {
            let stream = data.header.stream;
            self.note_arrival(tsn, data.header.flags);
            return DataOutcome::Refused(ErrorCause::InvalidStreamIdentifier { stream });
        }
        if !self.make_room(tsn) {
            // Told at once, with what the window is now (6.2).
            self.acknowledgment.on_data(true);
            return DataOutcome::Dropped;
        }
        let flags = data.header.flags;
        let octets = data.payload.len();
        match self.insert(tsn, data) {
            Ok(()) => {
                self.granted = self.granted.saturating_sub(octets);
                self.note_arrival(tsn, flags);
                self.start_partial_delivery();
                DataOutcome::Accepted
            }
            Err(reason) => DataOutcome::Violation(ErrorCause::ProtocolViolation(
                Bytes::from_static(reason.as_bytes()),
            )),
        }
    }

    /// Marks a TSN as arrived.
    fn note_arrival(&mut self, tsn: LongTsn, flags: DataFlags) {
        let had_gaps = self.tracker.has_gaps();
        self.tracker.insert(tsn);
        // While there are gaps, and when one closes, the sender waits for news (6.7).
        let urgent = had_gaps || self.tracker.has_gaps() || flags.contains(DataFlags::IMMEDIATE);
        self.acknowledgment.on_data(urgent);
    }

    /// Whether a new TSN can be held. With the window closed only one that fills a gap can, in place of what lies
    /// furthest beyond it (6.2).
    fn make_room(&mut self, tsn: LongTsn) -> bool {
        if self.free() > 0 {
            return true;
        }
        if tsn > self.tracker.highest() {
            return false;
        }
        while self.free() == 0 {
            match self.fragments.drop_last(tsn) {
                Some(dropped) => {
                    self.tracker.remove(dropped.start, dropped.end);
                    self.charged -= dropped.octets + dropped.fragments * OVERHEAD;
                }
                // Complete messages that wait for this one are worth more than the limit.
                None => return self.charged < 2 * self.config.buffer,
            }
        }
        true
    }

    fn insert(&mut self, tsn: LongTsn, mut data: Data) -> Result<(), &'static str> {
        let charge = data.payload.len() + OVERHEAD;
        self.detach(&mut data);
        if self
            .partial
            .as_ref()
            .is_some_and(|partial| partial.next == tsn)
        {
            self.charged += charge;
            return self.continue_partial_delivery(tsn, data);
        }
        let whole = DataFlags::BEGINNING | DataFlags::END;
        if data.header.flags.contains(whole) && self.fragments.is_empty() {
            self.charged += charge;
            return self.deliver(message(tsn, data.header, data.payload, true), charge);
        }
        let complete_up_to = self.tracker.cumulative();
        let start = self.fragments.insert(tsn, data, complete_up_to);
        let start = start.map_err(|misfit| misfit.reason())?;
        self.charged += charge;
        if !self.fragments.get(start).is_some_and(Run::is_complete) {
            return Ok(());
        }
        match self.fragments.take(start) {
            Some(run) => self.complete(start, run),
            None => Ok(()),
        }
    }

    /// Copies a payload that may stay a while and may be little of the packet, or the device's buffer, that it is a slice
    /// of: what is held must not be many times what it is charged with.
    fn detach(&self, data: &mut Data) {
        let is_whole = data
            .header
            .flags
            .contains(DataFlags::BEGINNING | DataFlags::END);
        let held = match data.payload.len() {
            ..=SMALL => HELD_AS_SMALL_SLICES,
            // Fragments of a large message are as long as packets, and copied when it is complete.
            ..=2048 if is_whole => HELD_AS_SLICES,
            _ => return,
        };
        if self.charged >= held {
            data.payload = Bytes::copy_from_slice(&data.payload);
        }
    }

    /// A run is complete.
    fn complete(&mut self, start: LongTsn, run: Run) -> Result<(), &'static str> {
        let Delivery { message, charge } = self.deliverable(start, run, true);
        self.deliver(message, charge)
    }

    /// A message is complete: to the application, or to wait for those before it.
    fn deliver(&mut self, message: SctpMessage, charge: usize) -> Result<(), &'static str> {
        let out = match &self.partial {
            Some(_) => &mut self.behind,
            None => &mut self.ready,
        };
        let delivery = Delivery { message, charge };
        if delivery.message.unordered {
            out.push_back(delivery);
            return Ok(());
        }
        let result = self.streams.insert(delivery, out);
        result.map_err(|Repeated| "stream sequence number used twice")
    }

    /// A run as a message, charged as one piece from now on.
    fn deliverable(&mut self, start: LongTsn, run: Run, end_of_record: bool) -> Delivery {
        let before = run.len() + run.parts.len() * OVERHEAD;
        let charge = run.len() + OVERHEAD;
        self.charged = self.charged - before + charge;
        let header = run.header;
        Delivery {
            message: message(start, header, run.into_bytes(), end_of_record),
            charge,
        }
    }

    /// Begins to deliver a message in parts, if nothing else can be read and it takes up too much of the buffer.
    /// Whether it did.
    fn start_partial_delivery(&mut self) -> bool {
        let point = self.config.partial_delivery_point.min(self.config.buffer);
        if self.partial.is_some() || !self.ready.is_empty() || self.charged < point {
            return false;
        }
        let Some((start, run)) = self.fragments.first() else {
            return false;
        };
        let header = run.header;
        let unordered = header.flags.contains(DataFlags::UNORDERED);
        if !run.begins() || !(unordered || self.streams.is_next(header.stream, header.ssn)) {
            return false;
        }
        let Some((run, next)) = self.fragments.take_front(start) else {
            return false;
        };
        let delivery = self.deliverable(start, run, false);
        self.ready.push_back(delivery);
        self.partial = Some(Partial { header, next });
        true
    }

    /// Goes on with the message that is being delivered in parts: a fragment, and what lay ready behind it.
    fn continue_partial_delivery(&mut self, tsn: LongTsn, data: Data) -> Result<(), &'static str> {
        let Some(partial) = &self.partial else {
            return Ok(());
        };
        // A run of its own, which its neighbours are held against as usual.
        let mut open = Fragments::default();
        let opened = DataHeader {
            flags: partial.header.flags | DataFlags::BEGINNING,
            ..partial.header
        };
        let opening = Data {
            header: opened,
            payload: Bytes::new(),
        };
        let placed = open.insert(tsn - 1, opening, tsn);
        let placed = placed.and_then(|_| open.insert(tsn, data, tsn));
        placed.map_err(|misfit| misfit.reason())?;
        let (mut run, mut next) = match open.take_front(tsn - 1) {
            Some(taken) => taken,
            None => return Ok(()),
        };
        run.parts.pop_front();
        let mut ended = run.is_complete();
        let mut parts = vec![(tsn, run)];
        if !ended && let Some(behind) = self.fragments.take_front(next) {
            if behind.0.begins() {
                return Err("message begins within another");
            }
            ended = behind.0.ends();
            parts.push((next, behind.0));
            next = behind.1;
        }
        let last = parts.len() - 1;
        for (i, (start, run)) in parts.into_iter().enumerate() {
            let delivery = self.deliverable(start, run, ended && i == last);
            self.ready.push_back(delivery);
        }
        match &mut self.partial {
            Some(partial) if !ended => partial.next = next,
            _ => self.end_partial_delivery(),
        }
        Ok(())
    }

    /// The last part is ready: what has waited for it follows.
    fn end_partial_delivery(&mut self) {
        if let Some(Partial { header, .. }) = self.partial.take() {
            if !header.flags.contains(DataFlags::UNORDERED) {
                self.streams.on_delivered(header.stream, &mut self.ready);
            }
            self.ready.append(&mut self.behind);
        }
    }

    /// The packet whose DATA chunks were handled ends here. `urgent`: the association wants them acknowledged at once, as
    /// it does while it shuts down (9.2).
    pub fn end_of_packet(&mut self, now: Instant, urgent: bool) {
        if self.acknowledgment.end_of_packet(now, urgent) {
            let sack = Sack {
                cumulative_tsn_ack: self.cumulative_tsn(),
                a_rwnd: u32::try_from(self.window()).unwrap_or(u32::MAX),
                gap_blocks: self.tracker.gap_blocks(MAX_OVERDUE_BLOCKS),
                duplicates: Default::default(),
            };
            self.acknowledgment.on_due(sack);
        }
    }

    /// Whether a SACK is to be sent whatever the time is.
    pub const fn owes_sack(&self) -> bool {
        self.acknowledgment.is_owed()
    }

    /// Whether a SACK is to be sent now.
    pub fn sack_due(&self, now: Instant) -> bool {
        self.acknowledgment.is_due(now)
    }

    /// When one will be, if nothing else happens.
    pub const fn sack_deadline(&self) -> Option<Instant> {
        self.acknowledgment.deadline()
    }

    /// Whether a SACK would tell something new: it then rides on a packet that is sent anyway.
    pub const fn has_unacknowledged(&self) -> bool {
        self.acknowledgment.is_waiting()
    }

    /// A SACK that was due before the one that [`Self::take_sack`] gives, if packets came faster than it could be sent.
    pub fn take_overdue_sack(&mut self) -> Option<Sack> {
        self.acknowledgment.take_overdue()
    }

    /// The SACK to send, in at most `max_len` octets; as many gap blocks as fit (6.2), duplicates if there is room left.
    pub fn take_sack(&mut self, max_len: usize) -> Sack {
        let entries = Sack::entries_in(max_len);
        let gap_blocks = self.tracker.gap_blocks(entries);
        let mut duplicates = self.acknowledgment.on_sack();
        duplicates.truncate(entries - gap_blocks.len());
        self.granted = self.window();
        Sack {
            cumulative_tsn_ack: self.cumulative_tsn(),
            a_rwnd: u32::try_from(self.granted).unwrap_or(u32::MAX),
            gap_blocks,
            duplicates,
        }
    }

    /// Whether a message, or a part of one, can be read.
    pub fn is_readable(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether somebody can read something: whoever reads all streams, or one of them.
    pub fn has_messages(&self) -> bool {
        !self.ready.is_empty() || !self.behind.is_empty()
    }

    /// Reads a message, at most `max_len` octets of it: what is left is then the next one.
    #[inline]
    pub fn recv(&mut self, max_len: usize) -> Option<SctpMessage> {
        let message = take(&mut self.ready, 0, max_len, &mut self.charged)?;
        self.on_read();
        Some(message)
    }

    /// The same for the next message of one stream, whatever lies before it on others. Takes time by how much does.
    pub fn recv_on(&mut self, stream: u16, max_len: usize) -> Option<SctpMessage> {
        let of_stream = |delivery: &Delivery| delivery.message.stream == stream;
        let message = match self.ready.iter().position(of_stream) {
            Some(at) => take(&mut self.ready, at, max_len, &mut self.charged),
            // A message that another stream delivers in parts holds up whoever reads all streams, but not this one.
            None if self.partially_delivered() == Some(stream) => None,
            None => {
                let at = self.behind.iter().position(of_stream)?;
                take(&mut self.behind, at, max_len, &mut self.charged)
            }
        }?;
        self.on_read();
        Some(message)
    }

    /// Whether a read since the last call has made part of another message readable, for which no DATA comes.
    pub fn take_uncovered(&mut self) -> bool {
        std::mem::take(&mut self.uncovered)
    }

    #[inline]
    fn on_read(&mut self) {
        self.uncovered |= self.start_partial_delivery();
        let opened = self.window().saturating_sub(self.granted);
        if opened >= self.config.buffer / 4 || (self.granted == 0 && opened > 0) {
            self.acknowledgment.on_window_update();
        }
    }

    /// Octets of the buffer that are not charged.
    const fn free(&self) -> usize {
        self.config.buffer.saturating_sub(self.charged)
    }

    /// The window to offer: a sliver is none.
    pub fn window(&self) -> usize {
        let free = self.free();
        if free < SMALLEST_WINDOW.min(self.config.buffer / 2) {
            return 0;
        }
        free
    }

    /// Octets charged.
    pub const fn charged(&self) -> usize {
        self.charged
    }

    /// Everything up to this TSN has arrived.
    pub const fn cumulative_tsn(&self) -> u32 {
        self.tracker.cumulative() as u32
    }

    /// Whether something has arrived beyond a gap.
    pub fn has_gaps(&self) -> bool {
        self.tracker.has_gaps()
    }

    /// The stream of a message that is being delivered in parts and has not ended.
    pub fn partially_delivered(&self) -> Option<u16> {
        self.partial.as_ref().map(|partial| partial.header.stream)
    }

    /// Whether fragments wait for others.
    pub fn has_fragments(&self) -> bool {
        !self.fragments.is_empty()
    }
}
