//! The receive window: what may arrive, and what is advertised (RFC 9293 3.8.6, 3.10.7.4; RFC 7323 2).
//!
//! ```text
//!              RCV.NXT                       right edge (the furthest ever promised)
//!   ─ received ──┼──────────── window ────────────┼── not allowed ─▶
//! ```
//!
//! Owns RCV.NXT and the promise. How much memory is free, and when an ACK is sent, is told by its owner.

use crate::tcp::SeqNum;

/// Whether a segment may be processed (RFC 9293 3.10.7.4, first check).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptability {
    /// Some of its sequence space lies in the window.
    Acceptable,
    /// It starts at RCV.NXT but the window is closed: its ACK, RST and URG count, and a FIN without data; its data
    /// does not. It must be answered with an ACK (the peer probes, RFC 9293 3.8.6.1).
    ControlOnly,
    /// To be dropped, and answered with an ACK unless it is a RST.
    Unacceptable,
}

/// What is left of a segment after trimming to the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trimmed {
    /// Sequence number of the first octet left.
    pub sequence: SeqNum,
    /// Octets of payload before it, received already.
    pub skip: usize,
    /// Octets of payload to keep.
    pub len: usize,
    /// The FIN is kept: it is new and nothing before it was cut.
    pub fin: bool,
}

/// Where the sequence number of a RST lies (RFC 5961 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetPlacement {
    /// Exactly at RCV.NXT: it resets.
    Exact,
    /// Elsewhere in the window: answered with a challenge ACK.
    InWindow,
    /// Outside: dropped silently.
    Outside,
}

/// The window of one connection. Octets and sequence numbers, never scaled units, but for what goes into headers.
#[derive(Clone, Debug)]
pub struct ReceiveWindow {
    rcv_nxt: SeqNum,
    /// RCV.NXT + RCV.WND of the largest promise so far.
    right_edge: SeqNum,
    /// The octet before which there was room, by what the owner said; promises exceed it by rounding only.
    room_edge: SeqNum,
    /// Rcv.Wind.Shift.
    shift: u8,
    /// Octets the buffer may hold.
    capacity: usize,
    /// The segment size for silly window avoidance.
    mss: usize,
}

impl ReceiveWindow {
    /// The window after a SYN with `irs` has been seen and one with [`syn_window`] has been sent.
    pub fn new(irs: SeqNum, shift: u8, capacity: usize, mss: usize) -> Self {
        let rcv_nxt = irs + 1;
        let right_edge = rcv_nxt + u32::from(syn_window(capacity));
        Self {
            rcv_nxt,
            right_edge,
            room_edge: right_edge,
            shift,
            capacity,
            mss: mss.max(1),
        }
    }

    /// RCV.NXT: the next sequence number expected.
    pub fn rcv_nxt(&self) -> SeqNum {
        self.rcv_nxt
    }

    /// RCV.WND: octets that may arrive now.
    pub fn len(&self) -> usize {
        self.right_edge.saturating_since(self.rcv_nxt) as usize
    }

    /// Whether the window is closed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The right edge of the largest promise.
    pub fn right_edge(&self) -> SeqNum {
        self.right_edge
    }

    /// Octets the buffer may hold, as last told.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The smallest step in octets that the window field can tell (RFC 7323 2.2).
    pub fn unit(&self) -> usize {
        1 << self.shift
    }

    /// The buffer's size changed. A smaller one takes nothing back that has been promised.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
    }

    /// `n` more of the sequence space has arrived in order (data, or 1 for a FIN).
    pub fn advance(&mut self, n: u32) {
        self.rcv_nxt += n;
        // A FIN needs no room, so it may lie just behind the edge.
        self.right_edge = self.right_edge.max(self.rcv_nxt);
    }

    /// The check of RFC 9293 3.10.7.4 for a segment that occupies `sequence_len` (data, SYN, FIN).
    ///
    /// One deviation, as in Linux: a segment without length may lie *at* the right edge, not only before it. A peer
    /// that has filled the window sends its pure ACKs with that number, and while one of its segments is lost, those
    /// ACKs are what keeps the other direction alive.
    pub fn acceptability(&self, sequence: SeqNum, sequence_len: u32) -> Acceptability {
        let window = self.len() as u32;
        let first = sequence - self.rcv_nxt;
        if sequence_len == 0 {
            return if first <= window {
                Acceptability::Acceptable
            } else {
                Acceptability::Unacceptable
            };
        }
        if window == 0 {
            return if first == 0 {
                Acceptability::ControlOnly
            } else {
                Acceptability::Unacceptable
            };
        }
        let last = sequence + (sequence_len - 1) - self.rcv_nxt;
        if first < window || last < window {
            Acceptability::Acceptable
        } else if first > u32::MAX / 2 && last >= window && last <= u32::MAX / 2 {
            // It begins before and ends behind the window: coalesced segments can. Its middle is wanted.
            Acceptability::Acceptable
        } else {
            Acceptability::Unacceptable
        }
    }

    /// Where a RST's sequence number lies (RFC 5961 3.2).
    pub fn place_reset(&self, sequence: SeqNum) -> ResetPlacement {
        let offset = sequence - self.rcv_nxt;
        if offset == 0 {
            ResetPlacement::Exact
        } else if (offset as usize) < self.len() {
            ResetPlacement::InWindow
        } else {
            ResetPlacement::Outside
        }
    }

    /// Cuts the payload of an acceptable segment (or one that is [`Acceptability::ControlOnly`]) to what is new and
    /// fits. `sequence` is that of the first octet of payload; a SYN before it has been counted.
    pub fn trim(&self, sequence: SeqNum, payload_len: usize, fin: bool) -> Trimmed {
        let end = sequence + payload_len as u32;
        let left = sequence.max(self.rcv_nxt);
        let right = end.min(self.right_edge);
        if right.before(left) || end.before(self.rcv_nxt) {
            // All old, or all beyond the edge.
            return Trimmed {
                sequence: left,
                skip: payload_len,
                len: 0,
                fin: false,
            };
        }
        Trimmed {
            sequence: left,
            skip: left.saturating_since(sequence) as usize,
            len: (right - left) as usize,
            fin: fin && right == end,
        }
    }

    /// The window field for a segment that is sent now, while the buffer has room for `free` octets more.
    ///
    /// The right edge advances only by a worthwhile step (RFC 9293 3.8.6.2.2, MUST-39) and never moves left (3.8.6,
    /// SHLD-14).
    pub fn advertise(&mut self, free: usize) -> u16 {
        let unit = 1 << self.shift;
        let promised = self.len();
        let offered = self.offer(free).max(promised);
        // A promise that is no multiple of the unit is rounded up, or the edge would move left (RFC 7323 2.4 permits
        // that, senders do not like it). Rounding up at each small segment adds up, though, when nobody reads: at a
        // quarter of the buffer beyond what there is, it ends, and the *announced* edge moves back by less than a unit.
        if free > 0 {
            let room = free.min(MAX_WINDOW) as u32;
            self.room_edge = self.room_edge.max(self.rcv_nxt + room);
        }
        let slack = (self.capacity / 4).clamp(unit, MAX_WINDOW / 2) as u32;
        let rounded_up = offered.next_multiple_of(unit);
        let rounded_edge = self.rcv_nxt + rounded_up as u32;
        let window = if rounded_edge.at_or_before(self.room_edge + slack) {
            rounded_up
        } else {
            offered
        };
        let field = (window >> self.shift).min(usize::from(u16::MAX)) as u16;
        let announced = self.rcv_nxt + (u32::from(field) << self.shift);
        self.right_edge = self.right_edge.max(announced);
        field
    }

    /// Whether the room made by reading is worth an ACK of its own: the window can at least double, as in Linux. That
    /// is one update per half buffer for a reader that keeps up, and one at once when the window was closed.
    pub fn needs_update(&self, free: usize) -> bool {
        let promised = self.len();
        // The far half of the buffer is still promised: no sender waits.
        if promised > self.capacity / 2 {
            return false;
        }
        let offered = self.offer(free);
        offered > promised && offered >= promised.saturating_mul(2)
    }

    /// The window to offer for `free` octets of room: what is promised, unless the edge can move by a worthwhile
    /// step. Clark's rule (RFC 9293 3.8.6.2.2): half the buffer or a segment, whichever is less.
    fn offer(&self, free: usize) -> usize {
        let promised = self.len();
        let free = free.min(usize::from(u16::MAX) << self.shift);
        let step = (self.capacity / 2).min(self.mss).max(1);
        let whole_units = free >> self.shift << self.shift;
        if free >= promised + step {
            whole_units.max(promised)
        } else {
            promised
        }
    }
}

/// The largest window there is (RFC 7323 2.3).
const MAX_WINDOW: usize = 1 << 30;

/// The window field of a SYN or SYN-ACK, which is never scaled (RFC 7323 2.2).
pub fn syn_window(capacity: usize) -> u16 {
    capacity.min(usize::from(u16::MAX)) as u16
}

#[cfg(test)]
mod tests;
