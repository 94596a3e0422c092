//! Setting up: INIT, State Cookies, collisions and restarts (RFC 9260 5).

use std::net::IpAddr;

use bytes::{Bytes, BytesMut};

use super::{Association, AssociationChange, MAX_ANSWERS, Notification, State};
use crate::error::SocketError;
use crate::sctp::cookie::{CookieError, StateCookie};
use crate::sctp::endpoint::{self, Offer, PacketInfo, Request, Transmit, new_side, reversed};
use crate::sctp::path::PathState;
use crate::sctp::receive::Receiver;
use crate::stats::DropReason;
use crate::time::Instant;
use crate::transport::Readiness;
use crate::wire::sctp::{Causes, Chunk, CommonHeader, ErrorCause, Init, Parameter};

/// What a COOKIE ECHO means while there is an association (5.2.4, table 12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CookieAction {
    /// A: the peer has restarted.
    Restart,
    /// B: both have opened at once, and the peer has chosen another tag.
    Collision,
    /// C and everything else: it comes too late.
    Discard,
    /// D: the cookie of this very association.
    Confirm,
}

impl CookieAction {
    /// The table. `local` and `peer`: whether the cookie's tags are the association's; `ties`: its Tie-Tags, and whether
    /// they are the association's.
    pub(super) const fn of(local: bool, peer: bool, ties: Ties) -> Self {
        match (local, peer, ties) {
            (true, true, _) => Self::Confirm,
            (true, false, _) => Self::Collision,
            (false, false, Ties::Match) => Self::Restart,
            (false, _, _) => Self::Discard,
        }
    }
}

/// The Tie-Tags of a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ties {
    /// Zeros: there was no association when it was made.
    None,
    /// Those of this one.
    Match,
    /// Others.
    Differ,
}

impl Association {
    /// INIT while there is an association (5.2.1, 5.2.2, 9.2).
    pub(super) fn handle_init(
        &mut self,
        now: Instant,
        info: &PacketInfo,
        header: &CommonHeader,
        init: &Init,
    ) -> Result<(), DropReason> {
        if self.pending.replies.len() >= MAX_ANSWERS {
            return Err(DropReason::RateLimited);
        }
        let known = self.ends.peer_addresses.contains(&info.source);
        match self.state {
            State::ShutdownAckSent => {
                self.pending.shutdown_ack = true;
                self.dirty = true;
                return Ok(());
            }
            // The answer goes only where the user wanted to connect to.
            State::CookieWait if !known => return Err(DropReason::Unacceptable),
            _ => {}
        }
        if let Some(refusal) = endpoint::refusal(init) {
            self.refuse(info, header, init, refusal?);
            return Ok(());
        }
        let opening = matches!(self.state, State::CookieWait | State::CookieEchoed);
        if self.state != State::CookieWait {
            let added = self.added_addresses(info, init);
            if !added.is_empty() {
                self.refuse(
                    info,
                    header,
                    init,
                    ErrorCause::RestartWithNewAddresses(added),
                );
                return Ok(());
            }
            if self.tie_tags == [0; 2] {
                self.tie_tags = [self.random.next_u32().max(1), self.random.next_u32().max(1)];
            }
        }
        let offer = Offer {
            local: if opening {
                self.local
            } else {
                new_side(&mut self.random)
            },
            outbound_streams: self.config.outbound_streams,
            a_rwnd: u32::try_from(self.config.receive.buffer).unwrap_or(u32::MAX),
            tie_tags: self.tie_tags,
        };
        let addresses = &self.ends.local_addresses;
        let request = Request { info, header, init };
        let reply = endpoint::init_ack(now, &self.config, &self.secrets, request, offer, addresses);
        self.reply(reply);
        Ok(())
    }

    pub(super) fn reply(&mut self, reply: Transmit) {
        if self.pending.replies.len() < MAX_ANSWERS {
            self.pending.replies.push_back(reply);
            self.dirty = true;
        }
    }

    /// ABORT to an INIT, with the tag it asks for; the association stays as it is.
    fn refuse(&mut self, info: &PacketInfo, header: &CommonHeader, init: &Init, cause: ErrorCause) {
        let abort = Chunk::Abort {
            tag_reflected: false,
            causes: Causes::from_iter([cause]),
        };
        self.reply(Transmit::answer(
            info,
            reversed(header, init.initiate_tag),
            &abort,
        ));
    }

    /// The addresses of an INIT that the association does not have, as parameters (5.2.2).
    fn added_addresses(&self, info: &PacketInfo, init: &Init) -> Bytes {
        let mut added = BytesMut::new();
        for address in init.parameters.addresses.iter().chain([&info.source]) {
            if !self.ends.peer_addresses.contains(address) {
                Parameter::address(*address).emit(&mut added);
            }
        }
        added.freeze()
    }

    /// INIT ACK: the answer to our INIT (5.1 C). In other states it is of no use (5.2.3).
    pub(super) fn handle_init_ack(&mut self, now: Instant, init: Init) -> Result<(), ErrorCause> {
        if self.state != State::CookieWait {
            return Ok(());
        }
        if init.initiate_tag == 0 {
            // 3.3.3: nobody could be told.
            self.fail(SocketError::ConnectionAborted);
            return Ok(());
        }
        self.peer_tag = init.initiate_tag;
        if let Some(refusal) = endpoint::refusal(&init) {
            return Err(refusal.unwrap_or(ErrorCause::InvalidMandatoryParameter));
        }
        self.meet(
            init.initial_tsn,
            init.a_rwnd,
            self.config.outbound_streams.min(init.inbound_streams),
            self.config.max_inbound_streams.min(init.outbound_streams),
        );
        let parameters = init.parameters;
        for address in parameters.addresses {
            self.learn_address(now, address);
        }
        if !parameters.unrecognized.is_empty() {
            let quoted: Vec<u8> = parameters.unrecognized.iter().flatten().copied().collect();
            self.report(ErrorCause::UnrecognizedParameters(quoted.into()));
        }
        self.cookie = parameters.state_cookie.unwrap_or_default();
        self.state = State::CookieEchoed;
        self.timers.init_retransmits = 0;
        self.timers.t1_length = None;
        self.pending.init = false;
        self.pending.cookie_echo = true;
        self.arm_t1(now);
        self.dirty = true;
        Ok(())
    }

    /// The peer's numbers are known; what is queued stays.
    fn meet(&mut self, initial_tsn: u32, a_rwnd: u32, outbound: u16, inbound: u16) {
        self.receiver = Receiver::new(&self.config.receive, initial_tsn, inbound);
        self.inbound_streams = inbound;
        for message in self.sender.set_peer(outbound, a_rwnd) {
            self.events.push(Notification::SendFailed(message));
        }
    }

    fn learn_address(&mut self, now: Instant, address: IpAddr) {
        if self.ends.peer_addresses.contains(&address) {
            return;
        }
        let mtu = self.paths.get(self.paths.primary()).mtu();
        if self
            .paths
            .add(now, address, None, mtu, PathState::Unconfirmed)
            .is_some()
        {
            self.ends.peer_addresses.push(address);
        }
    }

    /// COOKIE ECHO while there is an association (5.2.4).
    pub(super) fn handle_cookie_echo(
        &mut self,
        now: Instant,
        info: &PacketInfo,
        header: &CommonHeader,
        octets: &[u8],
    ) -> Result<(), DropReason> {
        let (cookie, late) = match self.secrets.open(now, octets) {
            Ok(cookie) => (cookie, None),
            Err(CookieError::Forged) => return Err(DropReason::Unacceptable),
            Err(CookieError::Stale { late, cookie }) => (*cookie, Some(late)),
        };
        let local = cookie.local.tag == self.local.tag;
        let peer = cookie.peer.tag == self.peer_tag;
        let said = cookie.local.tag == header.verification_tag
            && cookie.local_port == header.destination_port
            && cookie.peer_port == header.source_port;
        if !said {
            return Err(DropReason::Unacceptable);
        }
        // 5.2.4, 4: age does not matter while both tags are the association's.
        if let Some(late) = late.filter(|_| !(local && peer)) {
            let to = reversed(header, cookie.peer.tag);
            self.reply(Transmit::answer(info, to, &endpoint::stale(late)));
            return Ok(());
        }
        let ties = match cookie.tie_tags {
            [0, 0] => Ties::None,
            ties if ties == self.tie_tags => Ties::Match,
            _ => Ties::Differ,
        };
        match CookieAction::of(local, peer, ties) {
            CookieAction::Discard => return Err(DropReason::Unacceptable),
            CookieAction::Restart if self.state == State::ShutdownAckSent => {
                self.pending.shutdown_ack = true;
                self.report(ErrorCause::CookieReceivedWhileShuttingDown);
                self.dirty = true;
                return Ok(());
            }
            CookieAction::Restart => self.restart(now, &cookie),
            CookieAction::Collision => self.collide(now, &cookie),
            CookieAction::Confirm if self.state == State::CookieEchoed => self.establish(now),
            CookieAction::Confirm => {}
        }
        if self.state != State::ShutdownAckSent {
            self.pending.cookie_ack = true;
        }
        self.dirty = true;
        Ok(())
    }

    /// B: the peer's numbers are those of the cookie.
    fn collide(&mut self, now: Instant, cookie: &StateCookie) {
        self.peer_tag = cookie.peer.tag;
        if matches!(self.state, State::CookieWait | State::CookieEchoed) {
            self.meet(
                cookie.peer.initial_tsn,
                cookie.peer_rwnd,
                cookie.outbound_streams,
                cookie.inbound_streams,
            );
            for address in &cookie.peer_addresses {
                self.learn_address(now, *address);
            }
            self.establish(now);
        }
    }

    /// A: the peer has started anew. What was under way is lost, as with an ABORT.
    fn restart(&mut self, now: Instant, cookie: &StateCookie) {
        while let Some(message) = self.sender.pop_failed(&mut self.paths) {
            self.events.push(Notification::SendFailed(message));
        }
        if let Some(stream) = self.receiver.partially_delivered() {
            self.events
                .push(Notification::PartialDeliveryAborted { stream });
        }
        let mtu = self.paths.get(self.paths.primary()).mtu();
        self.pending = super::Pending::default();
        self.timers = super::Timers::default();
        self.tie_tags = [0; 2];
        self.adopt(now, cookie, mtu);
        self.paths.start_heartbeats(now);
        self.state = State::Established;
        self.note_use(now);
        self.events
            .push(Notification::AssociationChange(AssociationChange::Restart));
        self.readiness |= Readiness::READABLE | Readiness::WRITABLE;
    }

    /// COOKIE ACK (5.1 E, 5.2.5).
    pub(super) fn handle_cookie_ack(&mut self, now: Instant) {
        if self.state == State::CookieEchoed {
            self.establish(now);
        }
    }

    /// The association is established.
    pub(super) fn establish(&mut self, now: Instant) {
        self.state = State::Established;
        self.timers.t1 = None;
        self.timers.init_retransmits = 0;
        self.pending.init = false;
        self.pending.cookie_echo = false;
        self.cookie = Bytes::new();
        self.paths.clear_association_errors();
        self.paths.start_heartbeats(now);
        self.note_use(now);
        let (outbound_streams, inbound_streams) = self.streams();
        self.events.push(Notification::AssociationChange(
            AssociationChange::CommunicationUp {
                outbound_streams,
                inbound_streams,
            },
        ));
        self.readiness |= Readiness::WRITABLE;
        self.dirty = true;
    }

    /// The peer says that our cookie came too late (5.2.6): a new INIT asks for a longer life.
    pub(super) fn handle_stale_cookie(&mut self, now: Instant, staleness: u32) {
        if self.state != State::CookieEchoed {
            return;
        }
        self.timers.init_retransmits += 1;
        if self.timers.init_retransmits > self.config.max_init_retransmits {
            self.fail(SocketError::TimedOut);
            return;
        }
        self.staleness = staleness;
        self.peer_tag = 0;
        self.state = State::CookieWait;
        self.pending.cookie_echo = false;
        self.pending.init = true;
        self.arm_t1(now);
        self.dirty = true;
    }
}
