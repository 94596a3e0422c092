//! The application's side: writing, reading, errors.
//!
//! Owns what reads and writes return in every state, and in which order errors, data and ends of stream are told, as
//! Linux does (`tcp_recvmsg`, `tcp_sendmsg`): data first, then a pending error once, then the end.

use std::io::{IoSlice, IoSliceMut};

use bytes::Bytes;

use crate::error::{SocketError, SocketResult};
use crate::tcp::connection::Connection;
use crate::tcp::connection::state::{Lifecycle, ReceiveHalf, SendHalf};
use crate::tcp::info::State;
use crate::tcp::send::SendBuffer;

impl Connection {
    /// Copies as much of `data` into the send buffer as it takes.
    ///
    /// # Errors
    /// [`SocketError::WouldBlock`] when it takes nothing now; a pending error, once; [`SocketError::BrokenPipe`] when
    /// this side has closed or the connection is over.
    pub fn write(&mut self, data: &[u8]) -> SocketResult<usize> {
        self.gives_references &= data.len() < SendBuffer::COPY_BELOW;
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
        self.gives_references &= total < SendBuffer::COPY_BELOW;
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
        self.gives_references |= total >= SendBuffer::COPY_BELOW;
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
        self.note_read(len);
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
        self.note_read(len);
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
        self.note_read(len);
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
        self.note_read(chunk.len());
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
        let room = self.send_capacity().saturating_sub(self.buffer.len());
        match self.options.notsent_lowat {
            Some(limit) => room.min(limit.saturating_sub(self.not_sent())),
            None => room,
        }
    }

    /// Octets written and not sent.
    pub(super) fn not_sent(&self) -> usize {
        self.buffer.end().saturating_since(self.window.snd_nxt) as usize
    }

    /// Whether a writer that has seen [`SocketError::WouldBlock`] is to try again: a third of the buffer is free, and
    /// less than half of [`SocketOptions::notsent_lowat`](crate::tcp::config::SocketOptions::notsent_lowat) waits unsent, as with Linux.
    pub(super) fn is_writable(&self) -> bool {
        let limit = self.options.notsent_lowat;
        let capacity = self.send_capacity();
        capacity.saturating_sub(self.buffer.len()) >= capacity / 3
            && limit.is_none_or(|limit| self.not_sent() * 2 < limit)
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
        self.settle_memory();
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
    fn note_read(&mut self, len: usize) {
        self.settle_memory();
        if self.lifecycle.receive_half() != Some(ReceiveHalf::Open) {
            return;
        }
        self.grow_receive_buffer(len);
        if self.receive.buffer.is_empty() {
            self.receive.acks.on_drained();
        }
        if self.receive.window.needs_update(self.receive_room()) {
            self.receive.acks.on_event();
        }
        self.dirty |= self.ack_is_waiting();
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
}
