//! The urgent pointer (RFC 9293 3.8.5; RFC 6093 on its use).
//!
//! Owns SND.UP and RCV.UP. Urgent data stays in the stream in both directions, as RFC 6093 5 wants it; what is told is
//! where it ends. The pointer names the octet behind the urgent data (MUST-62).

use crate::error::SocketResult;
use crate::tcp::Segment;
use crate::tcp::SeqNum;
use crate::tcp::connection::Connection;
use crate::tcp::connection::state::ReceiveHalf;
use crate::transport::Readiness;
use crate::wire::tcp::{Flags, Header};

/// The urgent pointers; allocated by the few connections that use them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Urgent {
    /// SND.UP, while it lies ahead of SND.UNA.
    send: Option<SeqNum>,
    /// RCV.UP, while it lies ahead of what was read.
    receive: Option<SeqNum>,
}

impl Connection {
    /// Writes `data` and marks everything up to its end as urgent (`MSG_OOB`; MUST-30, MUST-31).
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_urgent(&mut self, data: &[u8]) -> SocketResult<usize> {
        let written = self.write(data)?;
        if written > 0 {
            let end = self.buffer.end();
            self.urgent.get_or_insert_default().send = Some(end);
        }
        Ok(written)
    }

    /// Octets not read yet up to the end of the peer's urgent data; `None` when there are none (MUST-33).
    pub fn urgent_ahead(&self) -> Option<usize> {
        let end = self.urgent.as_ref()?.receive?;
        let ahead = end.saturating_since(self.next_to_read());
        (ahead > 0).then_some(ahead as usize)
    }

    /// Sixth check of RFC 9293 3.10.7.4: RCV.UP follows, and the application is told once per advance (MUST-32).
    pub(super) fn check_urgent(&mut self, segment: &Segment) {
        if !segment.header.flags.contains(Flags::URG)
            || self.lifecycle.receive_half() != Some(ReceiveHalf::Open)
        {
            return;
        }
        let end = segment.sequence() + u32::from(segment.header.urgent);
        let known = self.urgent.as_ref().and_then(|urgent| urgent.receive);
        // A pointer into the past, or one that would recede, says nothing.
        if end.after(self.next_to_read()) && known.is_none_or(|known| end.after(known)) {
            self.urgent.get_or_insert_default().receive = Some(end);
            self.readiness |= Readiness::PRIORITY;
        }
    }

    /// Marks a segment that is sent while urgent data is ahead of it.
    pub(super) fn mark_urgent(&mut self, header: &mut Header) {
        let Some(urgent) = &mut self.urgent else {
            return;
        };
        if urgent
            .send
            .is_some_and(|end| end.at_or_before(self.window.snd_una))
        {
            urgent.send = None;
        }
        let Some(end) = urgent.send else {
            return;
        };
        let distance = end.saturating_since(SeqNum(header.sequence));
        if distance > 0 {
            header.flags |= Flags::URG;
            header.urgent = distance.min(u32::from(u16::MAX)) as u16;
        }
    }

    /// Whether segments must go out one by one, since a cut super-packet would repeat its urgent pointer.
    pub(super) fn is_sending_urgent(&self) -> bool {
        self.urgent
            .as_ref()
            .is_some_and(|urgent| urgent.send.is_some())
    }

    /// The sequence number of the octet the next read begins with.
    fn next_to_read(&self) -> SeqNum {
        self.receive.rcv_nxt() - self.receive.buffer.len() as u32
    }
}
