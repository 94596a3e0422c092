//! The state of a connection: send half × receive half. The RFC's names are derived.
//!
//! Owns which half is open and what the combination is called (RFC 9293 3.3.2). It holds no sequence numbers.
//!
//! ```text
//!                      ReceiveHalf::Open     FinReceived, we closed later   FinReceived, we had closed
//!   SendHalf::Open     ESTABLISHED           CLOSE-WAIT                     –
//!   FinQueued          FIN-WAIT-1            LAST-ACK                       CLOSING
//!   FinSent            FIN-WAIT-1            LAST-ACK                       CLOSING
//!   FinAcked           FIN-WAIT-2            (closed)                       (TIME-WAIT)
//! ```

use crate::tcp::connection::handshake::Handshake;
use crate::tcp::info::State;

/// What has become of the direction from here to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendHalf {
    /// The application may write.
    Open,
    /// The application is done; the FIN waits behind the data.
    FinQueued,
    /// The FIN is out.
    FinSent,
    /// The peer has acknowledged the FIN.
    FinAcked,
}

/// What has become of the direction from the peer to here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveHalf {
    /// The peer may send.
    Open,
    /// The peer's FIN has arrived in order, before this side closed (passive close) or after.
    FinReceived {
        /// The peer closed first: no TIME-WAIT for us.
        passive: bool,
    },
}

/// Where a connection stands in its life.
#[derive(Debug)]
pub(super) enum Lifecycle {
    /// SYN-SENT, or SYN-RECEIVED of a simultaneous open.
    Opening(Box<Handshake>),
    /// From ESTABLISHED on.
    Synchronized {
        /// Our direction.
        send: SendHalf,
        /// The peer's direction.
        receive: ReceiveHalf,
    },
    /// Both FINs are acknowledged and this side closed first: the TIME-WAIT table takes over.
    TimeWait {
        /// The engine has been told.
        handed_over: bool,
    },
    /// Gone: reset, given up, or closed in both directions.
    Closed,
}

impl Lifecycle {
    /// The RFC's name.
    pub(super) fn name(&self) -> State {
        match self {
            Self::Opening(handshake) if handshake.syn_received => State::SynReceived,
            Self::Opening(_) => State::SynSent,
            Self::Synchronized { send, receive } => synchronized_name(*send, *receive),
            Self::TimeWait { .. } => State::TimeWait,
            Self::Closed => State::Closed,
        }
    }

    /// The send half, if there is one.
    pub(super) fn send_half(&self) -> Option<SendHalf> {
        match self {
            Self::Synchronized { send, .. } => Some(*send),
            _ => None,
        }
    }

    /// The receive half, if there is one.
    pub(super) fn receive_half(&self) -> Option<ReceiveHalf> {
        match self {
            Self::Synchronized { receive, .. } => Some(*receive),
            _ => None,
        }
    }

    /// Sets the send half of a synchronized connection.
    pub(super) fn set_send_half(&mut self, half: SendHalf) {
        if let Self::Synchronized { send, .. } = self {
            *send = half;
        }
    }

    /// The connection is over for the protocol.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::TimeWait { .. } | Self::Closed)
    }
}

const fn synchronized_name(send: SendHalf, receive: ReceiveHalf) -> State {
    match (send, receive) {
        (SendHalf::Open, ReceiveHalf::Open) => State::Established,
        (SendHalf::Open, ReceiveHalf::FinReceived { .. }) => State::CloseWait,
        (SendHalf::FinQueued | SendHalf::FinSent, ReceiveHalf::Open) => State::FinWait1,
        (SendHalf::FinAcked, ReceiveHalf::Open) => State::FinWait2,
        (SendHalf::FinQueued | SendHalf::FinSent, ReceiveHalf::FinReceived { passive: true }) => {
            State::LastAck
        }
        (SendHalf::FinQueued | SendHalf::FinSent, ReceiveHalf::FinReceived { passive: false }) => {
            State::Closing
        }
        // Never stays: the connection leaves the synchronized shape at once.
        (SendHalf::FinAcked, ReceiveHalf::FinReceived { .. }) => State::TimeWait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_give_the_rfcs_names() {
        // RFC 9293 3.3.2.
        let passive = ReceiveHalf::FinReceived { passive: true };
        let active = ReceiveHalf::FinReceived { passive: false };
        let cases = [
            (SendHalf::Open, ReceiveHalf::Open, State::Established),
            (SendHalf::Open, passive, State::CloseWait),
            (SendHalf::FinQueued, ReceiveHalf::Open, State::FinWait1),
            (SendHalf::FinSent, ReceiveHalf::Open, State::FinWait1),
            (SendHalf::FinAcked, ReceiveHalf::Open, State::FinWait2),
            (SendHalf::FinQueued, passive, State::LastAck),
            (SendHalf::FinSent, passive, State::LastAck),
            (SendHalf::FinSent, active, State::Closing),
        ];
        for (send, receive, name) in cases {
            assert_eq!(Lifecycle::Synchronized { send, receive }.name(), name);
        }
    }
}
