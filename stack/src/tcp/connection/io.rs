//! The application's side: writing, reading, errors, options.
//!
//! Owns what reads and writes return in every state, and in which order errors, data and ends of stream are told, as
//! Linux does (`tcp_recvmsg`, `tcp_sendmsg`): data first, then a pending error once, then the end.

use std::io::{IoSlice, IoSliceMut};
use std::time::Duration;

use bytes::Bytes;

use crate::error::{SocketError, SocketResult};
use crate::tcp::connection::Connection;
use crate::tcp::connection::state::{Lifecycle, ReceiveHalf, SendHalf};
use crate::tcp::info::{Info, State};

/// A round trip that no peer nearby takes, queues included: the smallest one then says nothing of the path any more.
const NEAR: Duration = Duration::from_millis(16);
/// The rate that [`Config::min_send_buffer`](crate::tcp::Config::min_send_buffer) speaks of.
const SHORT_PATH_OCTETS_PER_NANOSECOND: usize = 4;

impl Connection {
    /// Copies as much of `data` into the send buffer as it takes.
    ///
    /// # Errors
    /// [`SocketError::WouldBlock`] when it takes nothing now; a pending error, once; [`SocketError::BrokenPipe`] when
    /// this side has closed or the connection is over.
    pub fn write(&mut self, data: &[u8]) -> SocketResult<usize> {
        let room = self.writable_room(data.len())?;
        let len = data.len().min(room);
        self.buffer.push(&data[..len]);
        self.note_written(len, data.len());
        Ok(len)
    }

    /// Like [`Self::write`] for several slices, one after the other.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> SocketResult<usize> {
        let total = slices.iter().map(|slice| slice.len()).sum();
        let room = self.writable_room(total)?;
        let mut written = 0;
        for slice in slices {
            let len = slice.len().min(room - written);
            self.buffer.push(&slice[..len]);
            written += len;
            if len < slice.len() {
                break;
            }
        }
        self.note_written(written, total);
        Ok(written)
    }

    /// Takes `data` into the send buffer without copying, as much of the front as there is room for; `data` keeps the
    /// rest.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_bytes(&mut self, data: &mut Bytes) -> SocketResult<usize> {
        let total = data.len();
        let room = self.writable_room(total)?;
        let len = total.min(room);
        self.buffer.push_bytes(data.split_to(len));
        self.note_written(len, total);
        Ok(len)
    }

    /// Moves received data into `buffer`; 0 is the end of the stream (or an empty `buffer`).
    ///
    /// # Errors
    /// [`SocketError::WouldBlock`] when nothing is there yet; a pending error, once.
    pub fn read(&mut self, buffer: &mut [u8]) -> SocketResult<usize> {
        if self.receive.buffer.is_empty() {
            return self.read_nothing().map(|()| 0);
        }
        let len = self.receive.buffer.read(buffer);
        self.note_read();
        Ok(len)
    }

    /// Gives received data to `sink`, slice by slice and at most `max` octets, without a buffer that would have to be
    /// initialized first; how much it was, 0 is the end of the stream.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_with(&mut self, max: usize, sink: impl FnMut(&[u8])) -> SocketResult<usize> {
        if self.receive.buffer.is_empty() {
            return self.read_nothing().map(|()| 0);
        }
        let len = self.receive.buffer.read_with(max, sink);
        self.note_read();
        Ok(len)
    }

    /// Octets that can be read at once.
    pub fn receive_buffered(&self) -> usize {
        self.receive.buffer.len()
    }

    /// Like [`Self::read`] into several buffers, one after the other.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> SocketResult<usize> {
        if self.receive.buffer.is_empty() {
            return self.read_nothing().map(|()| 0);
        }
        let len = self.receive.buffer.read_vectored(buffers);
        self.note_read();
        Ok(len)
    }

    /// Takes the next chunk of received data without copying, at most `max` octets; an empty one is the end of the
    /// stream.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_chunk(&mut self, max: usize) -> SocketResult<Bytes> {
        if self.receive.buffer.is_empty() {
            return self.read_nothing().map(|()| Bytes::new());
        }
        let chunk = self.receive.buffer.read_chunk(max).unwrap_or_default();
        self.note_read();
        Ok(chunk)
    }

    /// Copies received data into `buffer` and leaves it in place; 0 is the end of the stream.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn peek(&mut self, buffer: &mut [u8]) -> SocketResult<usize> {
        if self.receive.buffer.is_empty() {
            return self.read_nothing().map(|()| 0);
        }
        Ok(self.receive.buffer.peek(buffer))
    }

    /// Takes the pending error (`SO_ERROR`).
    pub fn take_error(&mut self) -> Option<SocketError> {
        self.error.take().or_else(|| self.soft_error.take())
    }

    /// Octets the send buffer takes now.
    pub(super) fn send_room(&self) -> usize {
        self.send_capacity().saturating_sub(self.buffer.len())
    }

    pub(super) fn send_capacity(&self) -> usize {
        let octets = self.options.send_buffer.unwrap_or_else(|| {
            let limit = self.config.send_buffer;
            match (self.rtt.minimum(), self.rtt.smoothed()) {
                (Some(minimum), Some(smoothed)) if smoothed < NEAR => {
                    let held = minimum.as_nanos() as usize * SHORT_PATH_OCTETS_PER_NANOSECOND;
                    held.clamp(self.config.min_send_buffer.min(limit), limit)
                }
                _ => limit,
            }
        });
        octets.min(self.config.max_send_buffer)
    }

    /// Room for a write of `wanted` octets, or why there can be none.
    fn writable_room(&mut self, wanted: usize) -> SocketResult<usize> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        match self.lifecycle {
            Lifecycle::Opening(_) => {
                self.write_blocked = true;
                return Err(SocketError::WouldBlock);
            }
            Lifecycle::Synchronized {
                send: SendHalf::Open,
                ..
            } => {}
            _ => return Err(SocketError::BrokenPipe),
        }
        let room = self.send_room();
        if room == 0 && wanted > 0 {
            self.write_blocked = true;
            return Err(SocketError::WouldBlock);
        }
        Ok(room)
    }

    fn note_written(&mut self, written: usize, wanted: usize) {
        // A short write clears the caller's readiness too, so it waits for the next edge as well.
        self.write_blocked |= written < wanted;
        self.dirty |= written > 0;
    }

    /// What a read of an empty buffer gives: an end of stream, a pending error, or "not yet".
    fn read_nothing(&mut self) -> SocketResult<()> {
        if self.receive.has_ended() {
            return Ok(());
        }
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if self.read_shutdown || self.lifecycle.is_over() {
            return Ok(());
        }
        Err(SocketError::WouldBlock)
    }

    /// The reader has made room: the peer is told when that is worth an ACK of its own.
    fn note_read(&mut self) {
        if self.lifecycle.receive_half() != Some(ReceiveHalf::Open) {
            return;
        }
        if self.receive.buffer.is_empty() {
            self.receive.acks.on_drained();
        }
        if self.receive.window.needs_update(self.receive.free()) {
            self.receive.acks.on_event();
        }
        self.dirty |= self.ack_is_waiting();
    }

    /// Sends small segments at once, or not (`TCP_NODELAY`).
    pub fn set_nodelay(&mut self, nodelay: bool) {
        self.options.nodelay = nodelay;
        self.dirty |= nodelay;
    }

    /// Whether small segments are sent at once.
    pub fn nodelay(&self) -> bool {
        self.options.nodelay
    }

    /// What a close does with data not yet delivered (`SO_LINGER`).
    pub fn set_linger(&mut self, linger: Option<Duration>) {
        self.options.linger = linger;
    }

    /// See [`Self::set_linger`].
    pub fn linger(&self) -> Option<Duration> {
        self.options.linger
    }

    /// Acknowledges at once for a while, or expects the application's answers to carry ACKs (`TCP_QUICKACK`).
    pub fn set_quickack(&mut self, quickack: bool) {
        self.receive.acks.set_quickack(quickack);
        self.dirty |= self.ack_is_waiting();
    }

    /// See [`Self::set_quickack`].
    pub fn quickack(&self) -> bool {
        self.receive.acks.quickack()
    }

    /// How long data may stay unacknowledged before the connection fails (`TCP_USER_TIMEOUT`, RFC 5482).
    pub fn set_user_timeout(&mut self, timeout: Option<Duration>) {
        self.options.user_timeout = timeout;
    }

    /// Octets a write may leave unacknowledged (`SO_SNDBUF`).
    pub fn set_send_buffer(&mut self, octets: usize) {
        self.options.send_buffer = Some(octets);
        self.tell_room();
    }

    /// Octets that may wait to be read (`SO_RCVBUF`).
    pub fn set_receive_buffer(&mut self, octets: usize) {
        self.options.receive_buffer = Some(octets);
        self.receive
            .set_capacity(octets.min(self.config.max_receive_buffer));
    }

    /// The socket options in force.
    pub fn options(&self) -> &crate::tcp::config::SocketOptions {
        &self.options
    }

    /// The state's RFC name.
    pub fn state(&self) -> State {
        self.lifecycle.name()
    }

    /// Nothing more can be read than what has arrived.
    pub(super) fn read_closed(&self) -> bool {
        self.read_shutdown || self.receive.has_ended() || self.lifecycle.is_over()
    }

    /// Nothing more can be written.
    pub(super) fn write_closed(&self) -> bool {
        match self.lifecycle {
            Lifecycle::Opening(_) => false,
            Lifecycle::Synchronized { send, .. } => send != SendHalf::Open,
            Lifecycle::TimeWait { .. } | Lifecycle::Closed => true,
        }
    }

    /// A snapshot for diagnosis.
    pub fn info(&self) -> Info {
        Info {
            state: self.state(),
            rtt: self.rtt.smoothed().unwrap_or_default(),
            rtt_variation: self.rtt.variation(),
            min_rtt: self.rtt.minimum().unwrap_or_default(),
            rto: self.rtt.rto(),
            cwnd: self.congestion.cwnd(),
            ssthresh: self.congestion.ssthresh(),
            bytes_in_flight: self.recovery.pipe(&self.board, self.mss) as usize,
            send_window: self.window.snd_wnd as usize,
            receive_window: self.receive.window.len(),
            mss: self.mss as usize,
            send_buffered: self.buffer.len(),
            receive_buffered: self.receive.buffer.len(),
            bytes_acked: self.stats.bytes_acked,
            bytes_sent: self.stats.bytes_sent,
            bytes_retransmitted: self.stats.bytes_retransmitted,
            bytes_received: self.stats.bytes_received,
            segments_sent: self.stats.segments_sent,
            segments_received: self.stats.segments_received,
            retransmits: self.stats.retransmits,
            timeouts: self.stats.timeouts.into(),
            recoveries: self.stats.recoveries.into(),
            undos: self.stats.undos.into(),
            tail_loss_probes: self.stats.loss_probes.into(),
            dsack_dups: self.stats.duplicates_reported.into(),
            reord_seen: self.stats.reorderings.into(),
            sack: self.negotiated.sack,
            timestamps: self.negotiated.timestamps.is_some(),
            window_scale: self
                .negotiated
                .window_scale
                .map(|scale| (scale.receive, scale.send)),
            congestion_control: self.congestion.name(),
        }
    }
}
