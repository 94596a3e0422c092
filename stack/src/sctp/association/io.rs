//! The application's side: messages in and out, and errors, in the order in which Linux tells them: data first, then a
//! pending error once, then the end.

use bytes::Bytes;

use crate::error::{SocketError, SocketResult};
use crate::sctp::association::output::GATHERED;
use crate::sctp::association::{Association, State};
use crate::sctp::message::SendOptions;
use crate::sctp::receive::SctpMessage;
use crate::transport::Readiness;

impl Association {
    /// Queues a message. Before the association is established it waits, and may travel with the COOKIE ECHO; the streams
    /// that can be used then are those that were asked for, and messages on others come back if the peer has fewer.
    ///
    /// # Errors
    /// `WouldBlock` while the send buffer is full; a pending error, once; `BrokenPipe` (EPIPE) once this side or the peer
    /// shuts down or the association has ended; `MessageTooLong` (EMSGSIZE); `InvalidInput` (EINVAL) for a stream that does
    /// not exist or a message without data.
    pub fn send(&mut self, mut message: Bytes, options: &SendOptions) -> SocketResult<()> {
        self.send_from(&mut message, options)
    }

    /// The same for a message that stays where it is when it was not taken, so that it can be tried again.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_from(&mut self, message: &mut Bytes, options: &SendOptions) -> SocketResult<()> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if self.write_closed() {
            return Err(SocketError::BrokenPipe);
        }
        // All that may go has gone, and packets' worth of data is left: one more message changes nothing.
        let unsent = self.sender.unsent_octets();
        let held_back = !self.dirty && unsent >= GATHERED && unsent >= self.paths.largest_pmdcs();
        match self.sender.enqueue_from(message, options, &self.paths) {
            Ok(()) => {
                self.stats.messages_sent += 1;
                self.dirty |= !held_back;
                Ok(())
            }
            Err(error) => {
                let error = SocketError::from(error);
                self.write_blocked |= error == SocketError::WouldBlock;
                Err(error)
            }
        }
    }

    /// Reads a message, at most `max_len` octets of it: what is left is then the next one, without a beginning. `None` once
    /// the peer has said that it sends no more, and everything is read.
    ///
    /// # Errors
    /// `WouldBlock` while there is none; why the association has ended, once.
    #[inline]
    pub fn recv(&mut self, max_len: usize) -> SocketResult<Option<SctpMessage>> {
        let message = self.next_message(max_len);
        self.received(message)
    }

    /// The same for one stream: its messages are not held up by unread ones of others. Takes time by how many of those there
    /// are.
    ///
    /// # Errors
    /// As [`Self::recv`].
    pub fn recv_on(&mut self, stream: u16, max_len: usize) -> SocketResult<Option<SctpMessage>> {
        let mut retained = self.retained.iter();
        let message = match retained.position(|message| message.stream == stream) {
            Some(at) => self.retained.remove(at),
            None => self.receiver.recv_on(stream, max_len.max(1)),
        };
        self.received(message)
    }

    #[inline]
    fn received(&mut self, message: Option<SctpMessage>) -> SocketResult<Option<SctpMessage>> {
        if let Some(message) = message {
            if self.receiver.take_uncovered() {
                self.readiness |= Readiness::READABLE;
                self.dirty = true;
            }
            self.stats.messages_received += u64::from(message.end_of_record);
            self.dirty |= self.state.takes_data() && self.receiver.owes_sack();
            return Ok(Some(message));
        }
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if self.state.peer_is_done() {
            return Ok(None);
        }
        Err(SocketError::WouldBlock)
    }

    #[inline]
    fn next_message(&mut self, max_len: usize) -> Option<SctpMessage> {
        // An empty piece would be taken for nothing, and never get on.
        let max_len = max_len.max(1);
        let Some(first) = self.retained.front_mut() else {
            return self.receiver.recv(max_len);
        };
        if first.data.len() <= max_len {
            return self.retained.pop_front();
        }
        Some(SctpMessage {
            data: first.data.split_to(max_len),
            end_of_record: false,
            ..first.clone()
        })
    }

    /// Whether [`Self::recv`] would give a message, an error or the end.
    pub fn is_readable(&self) -> bool {
        self.has_message() || self.error.is_some() || self.state.peer_is_done()
    }

    /// Whether [`Self::recv`] would give a message.
    pub fn has_message(&self) -> bool {
        !self.retained.is_empty() || self.receiver.is_readable()
    }

    /// Octets that messages are charged with, those to be delivered and those received.
    pub fn buffered(&self) -> usize {
        self.sender.buffered() + self.receiver.charged() + self.retained_charge()
    }

    /// Whether a message of one octet would be taken, or refused for good.
    pub fn is_writable(&self) -> bool {
        self.error.is_some() || self.write_closed() || self.sender.has_room()
    }

    /// Whether a notification waits.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Takes the pending error (`SO_ERROR`).
    pub fn take_error(&mut self) -> Option<SocketError> {
        self.error.take().or_else(|| self.soft_error.take())
    }

    /// Nothing can be queued any more.
    fn write_closed(&self) -> bool {
        match self.state {
            State::CookieWait | State::CookieEchoed => self
                .handshake
                .as_ref()
                .is_none_or(|handshake| handshake.shutdown_when_established),
            state => state != State::Established,
        }
    }

    /// Nobody is there to read them.
    pub(super) fn discard_messages(&mut self) {
        while self.receiver.recv(usize::MAX).is_some() {}
    }

    /// The send buffer has become larger.
    pub(super) fn tell_room(&mut self) {
        if self.write_blocked && self.sender.has_room() {
            self.write_blocked = false;
            self.readiness |= Readiness::WRITABLE;
        }
    }
}
