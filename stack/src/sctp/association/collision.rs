//! INIT and COOKIE ECHO while there is an association (RFC 9260 5.2): duplicates, both sides opening at once, a peer that
//! has restarted.
//!
//! INIT changes nothing: it is answered with a cookie, in which the Tie-Tags say that there was an association. The cookie
//! that comes back decides.

use std::net::IpAddr;

use smallvec::SmallVec;

use crate::sctp::association::capabilities::{
    Offer, Refusal, abort, init_ack, new_side, nonzero, peer_addresses, stale_cookie,
};
use crate::sctp::association::{Association, AssociationChange, Notification, State};
use crate::sctp::cookie::{CookieError, StateCookie};
use crate::sctp::packet::{PacketInfo, Reply};
use crate::sctp::path::Paths;
use crate::sctp::receive::{OVERHEAD, Receiver};
use crate::sctp::send::Sender;
use crate::sctp::serial::Tsn;
use crate::stats::DropReason;
use crate::time::Instant;
use crate::transport::Readiness;
use crate::wire::sctp::{CommonHeader, ErrorCause, Init};

/// What a COOKIE ECHO means while there is an association (5.2.4, table 12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CookieAction {
    /// A: the peer has restarted.
    Restart,
    /// B: both have opened at once, and the peer has chosen another tag.
    Collision,
    /// C, and everything that the table does not have: it comes too late.
    Discard,
    /// D: the cookie of this very association.
    Confirm,
}

/// How a tag of a cookie stands to the association's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    /// X.
    Differs,
    /// M.
    Matches,
    /// 0: the association does not know the tag yet, or the cookie has none.
    Unknown,
}

impl Tag {
    const fn of(cookie: u32, association: u32) -> Self {
        if cookie == 0 || association == 0 {
            Self::Unknown
        } else if cookie == association {
            Self::Matches
        } else {
            Self::Differs
        }
    }
}

/// A row's left side: both tags, and both Tie-Tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tags {
    pub(super) local: Tag,
    pub(super) peer: Tag,
    pub(super) local_tie: Tag,
    pub(super) peer_tie: Tag,
}

impl CookieAction {
    pub(super) const fn of(tags: Tags) -> Self {
        match (tags.local, tags.peer, tags.local_tie, tags.peer_tie) {
            (Tag::Differs, Tag::Differs, Tag::Matches, Tag::Matches) => Self::Restart,
            (Tag::Matches, Tag::Differs | Tag::Unknown, _, _) => Self::Collision,
            (Tag::Matches, Tag::Matches, _, _) => Self::Confirm,
            _ => Self::Discard,
        }
    }
}

impl Association {
    /// INIT while there is an association (5.2.1, 5.2.2, 9.2).
    ///
    /// # Errors
    /// Why it is not answered.
    pub(super) fn handle_init(
        &mut self,
        now: Instant,
        info: &PacketInfo,
        header: &CommonHeader,
        init: &Init,
    ) -> Result<(), DropReason> {
        if self.state == State::ShutdownAckSent {
            // 9.2: the SHUTDOWN COMPLETE was lost, perhaps.
            self.pending.shutdown_ack = true;
            self.dirty = true;
            return Ok(());
        }
        match Refusal::of(init) {
            None => {}
            Some(Refusal::NoTag) => return Err(DropReason::Unacceptable),
            Some(refusal) => {
                if let Some(cause) = refusal.cause() {
                    self.reply(Reply::new(info, header, init.initiate_tag, abort(cause)));
                }
                return Ok(());
            }
        }
        let mut destination = info.source;
        if self.state == State::CookieWait {
            // 5.2.1: the answer goes only where the user wanted to connect to.
            destination = self
                .wanted_address(info, init)
                .ok_or(DropReason::Unacceptable)?;
        } else {
            let added = self.added_addresses(info, init);
            if !added.is_empty() {
                let cause = ErrorCause::restart_with_new_addresses(&added);
                self.reply(Reply::new(info, header, init.initiate_tag, abort(cause)));
                return Ok(());
            }
            if self.tie_tags == [0; 2] {
                self.tie_tags = [nonzero(&mut self.random), nonzero(&mut self.random)];
            }
        }
        let offer = Offer {
            // 5.2.1: an opening association keeps the tag that its INIT has told; 5.2.2: an open one takes a new tag.
            local: if self.state.is_opening() {
                self.local
            } else {
                new_side(&mut self.random)
            },
            outbound_streams: self.config.outbound_streams,
            addresses: &self.ends.local_addresses,
            tie_tags: self.tie_tags,
        };
        let reply = init_ack(now, &self.config, &self.secrets, info, header, init, &offer);
        self.reply(reply.to(destination));
        Ok(())
    }

    /// An address that both the user has named and the INIT shows: where it came from, if possible (5.2.1).
    fn wanted_address(&self, info: &PacketInfo, init: &Init) -> Option<IpAddr> {
        let known = &self.ends.peer_addresses;
        std::iter::once(&info.source)
            .chain(&init.parameters.addresses)
            .find(|address| known.contains(address))
            .copied()
    }

    /// The addresses of an INIT that the association does not have (5.2.2).
    fn added_addresses(&self, info: &PacketInfo, init: &Init) -> SmallVec<[IpAddr; 4]> {
        let known = &self.ends.peer_addresses;
        let mut shown = peer_addresses(info, init, &self.ends.local_addresses, usize::MAX);
        shown.retain(|address| !known.contains(address));
        shown
    }

    /// COOKIE ECHO while there is an association (5.2.4).
    ///
    /// # Errors
    /// Why nothing of its packet is to be looked at.
    pub(super) fn handle_cookie_echo(
        &mut self,
        now: Instant,
        info: &PacketInfo,
        header: &CommonHeader,
        octets: &[u8],
    ) -> Result<(), DropReason> {
        let (cookie, late) = match self.secrets.open(now, octets) {
            Ok(cookie) => (cookie, None),
            Err(CookieError::Forged) => return Err(DropReason::Cookie),
            Err(CookieError::Stale { late, cookie }) => (*cookie, Some(late)),
        };
        if !cookie.fits(info, header) {
            return Err(DropReason::Cookie);
        }
        let tags = Tags {
            local: Tag::of(cookie.local.tag, self.local.tag),
            peer: Tag::of(cookie.peer.tag, self.peer_tag),
            local_tie: Tag::of(cookie.tie_tags[0], self.tie_tags[0]),
            peer_tie: Tag::of(cookie.tie_tags[1], self.tie_tags[1]),
        };
        let action = CookieAction::of(tags);
        // 3: age does not matter while both tags are the association's.
        if let Some(late) = late
            && action != CookieAction::Confirm
        {
            self.reply(Reply::new(
                info,
                header,
                cookie.peer.tag,
                stale_cookie(late),
            ));
            return Err(DropReason::Cookie);
        }
        match action {
            CookieAction::Discard => return Err(DropReason::Cookie),
            CookieAction::Restart => {
                if self.state == State::ShutdownAckSent {
                    // No new association while the old one ends.
                    self.pending.shutdown_ack = true;
                    self.report(ErrorCause::CookieReceivedWhileShuttingDown);
                    return Err(DropReason::Unacceptable);
                }
                let known = &self.ends.peer_addresses;
                if !cookie.peer_addresses.iter().all(|a| known.contains(a)) {
                    return Err(DropReason::Cookie);
                }
                self.restart(now, &cookie);
            }
            CookieAction::Collision => self.collide(now, &cookie),
            CookieAction::Confirm if self.state == State::CookieEchoed => self.establish(now),
            CookieAction::Confirm => {}
        }
        self.acknowledge_cookie(info);
        Ok(())
    }

    /// A COOKIE ACK is to be sent, to where the cookie came from if that is known to be the peer (5.4).
    fn acknowledge_cookie(&mut self, info: &PacketInfo) {
        self.pending.cookie_ack = Some(self.path_back_to(info.source));
        self.dirty = true;
    }

    /// B: the peer's numbers are those of the cookie.
    fn collide(&mut self, now: Instant, cookie: &StateCookie) {
        self.peer_tag = cookie.peer.tag;
        if self.state.is_opening() {
            self.meet(
                cookie.peer.initial_tsn,
                cookie.peer_rwnd,
                cookie.outbound_streams,
                cookie.inbound_streams,
            );
            if let Some((source, listed)) = cookie.peer_addresses.split_first() {
                self.learn_addresses(now, *source, listed);
            }
            self.establish(now);
        } else if !self.has_data {
            // The peer's first TSN is new with its tag.
            let initial_tsn = cookie.peer.initial_tsn;
            self.receiver = Receiver::new(&self.config.receive, initial_tsn, self.inbound_streams);
        }
    }

    /// A: the peer has started anew. What was under way is lost, as with an ABORT; what had arrived can still be read.
    fn restart(&mut self, now: Instant, cookie: &StateCookie) {
        let path_mtu = self.paths.get(self.paths.primary()).mtu();
        self.retain_messages();
        if let Some(stream) = self.receiver.partially_delivered() {
            self.notify(Notification::PartialDeliveryAborted { stream });
        }
        self.stats.absorb(&self.sender.stats());
        let paths = Paths::new(self.config.path.clone(), self.random.fork());
        let paths = std::mem::replace(&mut self.paths, paths);
        let sender = Sender::new(&self.config.send, Tsn(0), 0, 0);
        let sender = std::mem::replace(&mut self.sender, sender);
        self.give_back_before_restart(sender, paths);
        self.pending = super::Pending::default();
        self.timers = super::Timers::default();
        self.handshake = None;
        self.adopt(now, cookie, path_mtu);
        self.state = State::Established;
        self.paths.start_heartbeats(now);
        self.last_use = now;
        self.stats.restarts += 1;
        let (outbound_streams, inbound_streams) = self.streams();
        self.notify_change(AssociationChange::Restart {
            outbound_streams,
            inbound_streams,
        });
        self.write_blocked = false;
        self.readiness |= Readiness::WRITABLE;
        self.dirty = true;
        tracing::debug!(local = self.local.tag, peer = self.peer_tag, "restarted");
        if self.orphan {
            // Nobody is there to use the new one.
            self.shutdown(now);
        }
    }

    /// Keeps what could be read before a restart, up to a receive buffer of it, charged as there: a peer may restart as
    /// often as it likes.
    fn retain_messages(&mut self) {
        let mut charge = self.retained_charge();
        while let Some(message) = self.receiver.recv(usize::MAX) {
            charge += message.data.len() + OVERHEAD;
            if charge > self.config.receive.buffer {
                return;
            }
            self.retained.push_back(message);
        }
    }

    /// What the messages kept over restarts are charged with.
    pub(super) fn retained_charge(&self) -> usize {
        let charges = self.retained.iter();
        charges.map(|message| message.data.len() + OVERHEAD).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookie_echo_table() {
        // RFC 9260 5.2.4, table 12, and every case that it does not show: those are discarded.
        use Tag::{Differs as X, Matches as M, Unknown as O};
        let rows = [
            (X, X, Some((M, M)), CookieAction::Restart),
            (M, X, None, CookieAction::Collision),
            (M, O, None, CookieAction::Collision),
            (X, M, Some((O, O)), CookieAction::Discard),
            (M, M, None, CookieAction::Confirm),
        ];
        let all = [X, M, O];
        for local in all {
            for peer in all {
                for local_tie in all {
                    for peer_tie in all {
                        let row = rows.iter().find(|row| {
                            let ties = row.2.is_none_or(|ties| ties == (local_tie, peer_tie));
                            (row.0, row.1) == (local, peer) && ties
                        });
                        let expected = row.map_or(CookieAction::Discard, |row| row.3);
                        let tags = Tags {
                            local,
                            peer,
                            local_tie,
                            peer_tie,
                        };
                        assert_eq!(CookieAction::of(tags), expected, "{tags:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn tags_that_are_not_known_never_match() {
        assert_eq!(Tag::of(0, 0), Tag::Unknown);
        assert_eq!(Tag::of(5, 0), Tag::Unknown);
        assert_eq!(Tag::of(0, 5), Tag::Unknown);
        assert_eq!(Tag::of(5, 5), Tag::Matches);
        assert_eq!(Tag::of(5, 6), Tag::Differs);
    }
}
