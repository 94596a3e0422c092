//! Notifications (RFC 9260 11.2, RFC 6458 6.1).

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::error::SocketError;
use crate::sctp::path::PathChange;
use crate::sctp::send::FailedMessage;
use crate::wire::sctp::ErrorCause;

/// What became of the association (`SCTP_ASSOC_CHANGE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AssociationChange {
    /// It is established.
    CommunicationUp {
        /// Streams we may send on.
        outbound_streams: u16,
        /// Streams the peer may send on.
        inbound_streams: u16,
    },
    /// It failed.
    CommunicationLost(SocketError),
    /// The peer has started anew under the same ports.
    Restart,
    /// It ended in order.
    ShutdownComplete,
    /// It could not be set up.
    CannotStart(SocketError),
}

/// Something the user may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notification {
    /// The association as a whole.
    AssociationChange(AssociationChange),
    /// One of the peer's addresses (`SCTP_PEER_ADDR_CHANGE`).
    PeerAddressChange {
        /// The address.
        address: IpAddr,
        /// What became of it.
        change: PathChange,
    },
    /// The peer has reported an error (`SCTP_REMOTE_ERROR`).
    RemoteError(ErrorCause),
    /// A message could not be delivered (`SCTP_SEND_FAILED_EVENT`).
    SendFailed(FailedMessage),
    /// The peer has no more to send (`SCTP_SHUTDOWN_EVENT`).
    ShutdownEvent,
    /// A message that was being delivered in parts will not end (`SCTP_PARTIAL_DELIVERY_EVENT`).
    PartialDeliveryAborted {
        /// Its stream.
        stream: u16,
    },
    /// Everything sent has been acknowledged (`SCTP_SENDER_DRY_EVENT`).
    SenderDry,
}

/// What waits to be told.
#[derive(Debug)]
pub(super) struct Events {
    waiting: VecDeque<Notification>,
    max: usize,
}

impl Events {
    pub(super) const fn new(max: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            max,
        }
    }

    pub(super) fn push(&mut self, event: Notification) {
        if self.waiting.len() >= self.max {
            self.waiting.pop_front();
        }
        self.waiting.push_back(event);
    }

    pub(super) fn pop(&mut self) -> Option<Notification> {
        self.waiting.pop_front()
    }
}
