//! Notifications (RFC 9260 11.2, RFC 6458 6.1), and the bounded queue in which they wait.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::error::SocketError;
use crate::sctp::association::Association;
use crate::sctp::config::Subscriptions;
use crate::sctp::path::{PathChange, Paths};
use crate::sctp::send::{FailedMessage, Sender};
use crate::transport::Readiness;
use crate::wire::sctp::{Causes, ErrorCause};

/// What became of the association (`SCTP_ASSOC_CHANGE`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssociationChange {
    /// It is established.
    CommunicationUp {
        /// Streams we may send on: what we asked for, or less (5.1.1).
        outbound_streams: u16,
        /// Streams the peer may send on.
        inbound_streams: u16,
    },
    /// It has failed, or was aborted.
    CommunicationLost {
        /// What operations report; `None` if this side has aborted it.
        error: Option<SocketError>,
        /// What the peer's ABORT said, or ours: the user's reason, for one.
        causes: Causes,
    },
    /// The peer has started anew under the same ports: what was under way is lost, and data may flow again.
    Restart {
        /// Streams we may send on.
        outbound_streams: u16,
        /// Streams the peer may send on.
        inbound_streams: u16,
    },
    /// It has ended in order.
    ShutdownComplete,
    /// It could not be set up.
    CannotStart {
        /// What operations report; `None` if this side has given it up.
        error: Option<SocketError>,
        /// What the peer's ABORT said, or ours.
        causes: Causes,
    },
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

impl Notification {
    const fn kind(&self) -> Subscriptions {
        match self {
            Self::AssociationChange(_) => Subscriptions::ASSOCIATION,
            Self::PeerAddressChange {
                change: PathChange::PotentiallyFailed | PathChange::Recovered,
                ..
            } => Subscriptions::POTENTIALLY_FAILED,
            Self::PeerAddressChange { .. } => Subscriptions::PEER_ADDRESS,
            Self::RemoteError(_) => Subscriptions::REMOTE_ERROR,
            Self::SendFailed(_) => Subscriptions::SEND_FAILED,
            Self::ShutdownEvent => Subscriptions::SHUTDOWN,
            Self::PartialDeliveryAborted { .. } => Subscriptions::PARTIAL_DELIVERY,
            Self::SenderDry => Subscriptions::SENDER_DRY,
        }
    }
}

/// A place in the queue. Messages that could not be delivered stay where they are until they are asked for: there may be
/// tens of thousands.
#[derive(Debug)]
enum Entry {
    One(Notification),
    /// Everything in the association's own send half: it has ended.
    Undelivered,
    /// Everything in the send half that a restart has replaced.
    BeforeRestart(Box<(Sender, Paths)>),
    /// Messages given back by the send half.
    GivenBack(std::vec::IntoIter<FailedMessage>),
}

/// What waits to be told.
#[derive(Debug)]
pub(super) struct Events {
    waiting: VecDeque<Entry>,
    max: usize,
    subscriptions: Subscriptions,
    dropped: u64,
}

impl Events {
    pub(super) const fn new(max: usize, subscriptions: Subscriptions) -> Self {
        Self {
            waiting: VecDeque::new(),
            max,
            subscriptions,
            dropped: 0,
        }
    }

    pub(super) fn subscribe(&mut self, subscriptions: Subscriptions) {
        self.subscriptions = subscriptions;
    }

    pub(super) const fn wants(&self, kind: Subscriptions) -> bool {
        self.subscriptions.contains(kind)
    }

    /// Notifications that nobody read in time.
    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn push(&mut self, entry: Entry) {
        // The newest ones are worth the most: they tell what there is now.
        if self.waiting.len() >= self.max.max(1) {
            self.waiting.pop_front();
            self.dropped += 1;
        }
        self.waiting.push_back(entry);
    }
}

impl Association {
    /// The next notification that the user has not been told. [`Readiness::PRIORITY`] says that there is one.
    pub fn poll_event(&mut self) -> Option<Notification> {
        loop {
            let message = match self.events.waiting.front_mut()? {
                Entry::One(_) => match self.events.waiting.pop_front()? {
                    Entry::One(notification) => return Some(notification),
                    _ => None,
                },
                Entry::Undelivered => self.sender.pop_failed(&mut self.paths),
                Entry::BeforeRestart(half) => half.0.pop_failed(&mut half.1),
                Entry::GivenBack(messages) => messages.next(),
            };
            match message {
                Some(message) => return Some(Notification::SendFailed(message)),
                None => {
                    self.events.waiting.pop_front();
                }
            }
        }
    }

    /// Tells the user, if that kind of notification is wanted.
    pub(super) fn notify(&mut self, notification: Notification) {
        if self.events.wants(notification.kind()) {
            self.events.push(Entry::One(notification));
            self.readiness |= Readiness::PRIORITY;
        }
    }

    /// The same for the association as a whole.
    pub(super) fn notify_change(&mut self, change: AssociationChange) {
        self.notify(Notification::AssociationChange(change));
    }

    /// What became of the paths.
    pub(super) fn notify_path_changes(&mut self) {
        while let Some((id, change)) = self.paths.take_change() {
            let address = self.paths.get(id).remote();
            self.notify(Notification::PeerAddressChange { address, change });
        }
    }

    /// The association has ended: what it has not delivered is given back, or forgotten if nobody wants it.
    pub(super) fn give_back_undelivered(&mut self) {
        if self.sender.is_empty() {
            return;
        }
        if self.events.wants(Subscriptions::SEND_FAILED) && !self.orphan {
            self.events.push(Entry::Undelivered);
            self.readiness |= Readiness::PRIORITY;
        } else {
            while self.sender.pop_failed(&mut self.paths).is_some() {}
        }
    }

    /// The same for the half that a restart has replaced.
    pub(super) fn give_back_before_restart(&mut self, sender: Sender, paths: Paths) {
        if !sender.is_empty() && self.events.wants(Subscriptions::SEND_FAILED) {
            self.events
                .push(Entry::BeforeRestart(Box::new((sender, paths))));
            self.readiness |= Readiness::PRIORITY;
        }
    }

    /// Messages on streams that the peer does not have.
    pub(super) fn give_back(&mut self, messages: Vec<FailedMessage>) {
        if !messages.is_empty() && self.events.wants(Subscriptions::SEND_FAILED) {
            self.events.push(Entry::GivenBack(messages.into_iter()));
            self.readiness |= Readiness::PRIORITY;
        }
    }
}
