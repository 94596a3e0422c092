//! Explicit congestion notification (RFC 3168 6.1), with the smaller reduction of RFC 8511 (ABE).
//!
//! ```text
//!   sender                      path                      receiver
//!   new data, ECT(0) ─────────▶ marks: CE ──────────────▶ echo
//!   reduce, once a window ◀──────────────────────── ECE ── every ACK
//!   new data, CWR ──────────────────────────────────────▶ no more echo
//! ```
//! Owns both roles on a synchronized connection; what the SYNs settle is in `negotiated`, the reduction is the congestion
//! controller's.

use crate::tcp::connection::Connection;
use crate::tcp::{Segment, SeqNum};
use crate::time::Instant;
use crate::wire::Ecn;
use crate::wire::tcp::Flags;

/// The state of both roles.
#[derive(Clone, Copy, Debug)]
pub(super) struct EcnState {
    /// Receiver: CE has come, and no CWR since.
    echo: bool,
    /// Sender: the window was reduced, and the peer does not know it yet.
    send_cwr: bool,
    /// SND.NXT at the latest reduction: until something sent later is acknowledged there is no other (RFC 3168 6.1.2).
    reduced_at: SeqNum,
}

impl EcnState {
    pub(super) const fn new(iss: SeqNum) -> Self {
        Self {
            echo: false,
            send_cwr: false,
            reduced_at: iss,
        }
    }

    /// What every segment says to the peer.
    #[inline]
    pub(super) const fn flags(self) -> Flags {
        if self.echo { Flags::ECE } else { Flags(0) }
    }

    /// What new data says to the peer besides, once.
    #[inline]
    pub(super) fn take_cwr(&mut self) -> Flags {
        if std::mem::take(&mut self.send_cwr) {
            Flags::CWR
        } else {
            Flags(0)
        }
    }
}

impl Connection {
    /// Takes the marks of an acceptable segment.
    #[inline]
    pub(super) fn take_marks(&mut self, segment: &Segment) {
        if !self.negotiated.ecn || segment.payload_len() == 0 {
            return;
        }
        // First the answer to older marks, then what the segment itself has met.
        if segment.header.flags.contains(Flags::CWR) {
            self.ecn.echo = false;
        }
        if segment.ecn == Ecn::Ce && !self.ecn.echo {
            self.ecn.echo = true;
            // As Linux: the sender shall hear of it at once.
            self.receive.acks.on_event();
            self.dirty = true;
        }
    }

    /// Whether an ACK says that packets were marked.
    #[inline]
    pub(super) fn is_congestion_echo(&self, segment: &Segment) -> bool {
        self.negotiated.ecn && segment.header.flags.contains(Flags::ECE)
    }

    /// The peer echoes marks: one reduction for what was in flight (RFC 3168 6.1.2). A recovery has reduced already.
    pub(super) fn reduce_for_echo(&mut self, now: Instant) {
        let covered = !self.window.snd_una.after(self.ecn.reduced_at);
        if covered || self.recovery.is_active() {
            return;
        }
        let flight = self.flight_before_acks();
        self.congestion.on_ecn(now, flight);
        self.note_reduction();
        tracing::debug!(cwnd = self.congestion.cwnd(), "the path marks packets");
    }

    /// The window was reduced, for whatever reason: the next new data tells the peer (RFC 3168 6.1.2).
    pub(super) fn note_reduction(&mut self) {
        self.ecn.reduced_at = self.window.snd_nxt;
        self.ecn.send_cwr = self.negotiated.ecn;
    }
}
