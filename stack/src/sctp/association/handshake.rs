//! Opening: COOKIE-WAIT and COOKIE-ECHOED (RFC 9260 5.1, 5.2.6).
//!
//! Owns what only an opening association needs, T1 among it, and drops it when the association is established. The side
//! that answers has no such state: all of it is in the cookie.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::error::SocketError;
use crate::sctp::association::capabilities::{
    Refusal, abort, address_types, announced, is_believable, reflected_abort,
};
use crate::sctp::association::input::Step;
use crate::sctp::association::shutdown::End;
use crate::sctp::association::{Association, AssociationChange, State};
use crate::sctp::packet::{PacketInfo, Reply};
use crate::sctp::path::{PathId, PathState};
use crate::sctp::receive::Receiver;
use crate::stats::DropReason;
use crate::time::Instant;
use crate::transport::Readiness;
use crate::wire::sctp::{CommonHeader, ErrorCause, Init, InitParameters};

/// What an opening association knows.
#[derive(Debug)]
pub(super) struct Handshake {
    /// INIT or COOKIE ECHO is to be sent.
    pub(super) due: bool,
    /// T1-init or T1-cookie.
    pub(super) t1: Instant,
    /// Where it is sent: to the peer's addresses in turn.
    pub(super) path: PathId,
    /// When it was sent, while a round trip can be measured by it (Karn).
    pub(super) sent_at: Option<Instant>,
    /// How often it was sent again.
    pub(super) retransmissions: u32,
    /// How often the peer has found our cookie stale.
    stale_cookies: u32,
    /// What the next cookie should live longer by (5.2.6).
    preservative: Option<Duration>,
    /// What the peer's INIT ACK gave us to echo.
    pub(super) cookie: Bytes,
    /// The user wants the end: once what is queued is delivered.
    pub(super) shutdown_when_established: bool,
}

impl Association {
    /// COOKIE-WAIT (5.1 A).
    pub(super) fn begin_handshake(&mut self, now: Instant) {
        self.state = State::CookieWait;
        let path = self.control_path();
        self.handshake = Some(Box::new(Handshake {
            due: true,
            t1: Instant::FAR_FUTURE,
            path,
            sent_at: None,
            retransmissions: 0,
            stale_cookies: 0,
            preservative: None,
            cookie: Bytes::new(),
            shutdown_when_established: false,
        }));
        // Also for an INIT that cannot leave: the attempt must end.
        self.start_t1(now);
        self.dirty = true;
    }

    /// Starts T1 with the RTO of the path it is for (5.1, 6.3).
    pub(super) fn start_t1(&mut self, now: Instant) {
        let limit = self.config.max_init_timeout;
        if let Some(handshake) = &mut self.handshake {
            let rto = self.paths.get(handshake.path).rto();
            handshake.t1 = now + rto.min(limit);
        }
    }

    /// INIT or COOKIE ECHO leaves: T1 runs from now.
    pub(super) fn on_handshake_sent(&mut self, now: Instant) {
        if let Some(handshake) = &mut self.handshake {
            handshake.due = false;
            handshake.sent_at = (handshake.retransmissions == 0).then_some(now);
        }
        self.start_t1(now);
    }

    /// Our INIT, the same each time (5.1.6).
    pub(super) fn init(&self, handshake: &Handshake) -> Init {
        let own = &self.ends.local_addresses;
        let destination = self.paths.get(handshake.path).remote();
        let millis = |increment: Duration| u32::try_from(increment.as_millis()).unwrap_or(u32::MAX);
        Init {
            initiate_tag: self.local.tag,
            a_rwnd: self.config.initial_rwnd(),
            outbound_streams: self.config.outbound_streams,
            inbound_streams: self.config.max_inbound_streams,
            initial_tsn: self.local.initial_tsn,
            parameters: InitParameters {
                addresses: announced(own, destination, None),
                cookie_preservative: handshake.preservative.map(millis),
                supported_address_types: Some(address_types(own, &self.ends.peer_addresses)),
                ..InitParameters::default()
            },
        }
    }

    /// INIT ACK (5.1 C). In other states than COOKIE-WAIT it is of no use (5.2.3).
    pub(super) fn handle_init_ack(
        &mut self,
        now: Instant,
        info: &PacketInfo,
        header: &CommonHeader,
        init: Init,
    ) {
        if self.state != State::CookieWait {
            return;
        }
        match Refusal::of(&init) {
            None => {}
            Some(Refusal::NoTag) => {
                // 3.3.3: only the tag that came can go back.
                let cause = ErrorCause::InvalidMandatoryParameter;
                self.reply(reflected_abort(info, header, Some(cause)));
                self.end(End::failed(SocketError::ConnectionRefused));
                return;
            }
            Some(Refusal::SmallWindow) => {
                // 3.3.3: the packet is discarded, and the state stays.
                let abort = abort(ErrorCause::InvalidMandatoryParameter);
                self.reply(Reply::new(info, header, init.initiate_tag, abort));
                return;
            }
            Some(Refusal::Cause(cause)) => {
                self.peer_tag = init.initiate_tag;
                self.violation(cause);
                return;
            }
        }
        self.peer_tag = init.initiate_tag;
        let outbound = self.config.outbound_streams.min(init.inbound_streams);
        let inbound = self.config.max_inbound_streams.min(init.outbound_streams);
        self.meet(init.initial_tsn, init.a_rwnd, outbound, inbound);
        let parameters = init.parameters;
        self.forget_unlisted(info.source, &parameters.addresses);
        self.learn_addresses(now, info.source, &parameters.addresses);
        if !parameters.unrecognized.is_empty() {
            // 3.2.2: the ERROR travels behind the COOKIE ECHO.
            let quoted: Vec<u8> = padded_parameters(&parameters.unrecognized);
            self.report(ErrorCause::UnrecognizedParameters(quoted.into()));
        }
        self.measure_handshake(now);
        let path = self.path_back_to(info.source);
        if self.paths.get(path).remote() == info.source {
            self.paths.confirm(path);
        }
        if let Some(handshake) = &mut self.handshake {
            handshake.cookie = parameters.state_cookie.unwrap_or_default();
            handshake.retransmissions = 0;
            handshake.sent_at = None;
            handshake.path = path;
            handshake.due = true;
        }
        self.state = State::CookieEchoed;
        self.start_t1(now);
        self.dirty = true;
    }

    /// An INIT ACK with company, which no peer may send (6.10). As Linux does it, that ends the attempt.
    ///
    /// # Errors
    /// It is not waited for, or nobody can be told.
    pub(super) fn handle_bundled_init_ack(&mut self, init: &Init) -> Result<Step, DropReason> {
        if self.state != State::CookieWait || init.initiate_tag == 0 {
            return Err(DropReason::Unacceptable);
        }
        self.peer_tag = init.initiate_tag;
        let words = Bytes::from_static(b"INIT ACK with other chunks");
        self.violation(ErrorCause::ProtocolViolation(words));
        Ok(Step::Stop)
    }

    /// The round trip of INIT and INIT ACK, or of COOKIE ECHO and COOKIE ACK (6.3.1).
    fn measure_handshake(&mut self, now: Instant) {
        if let Some(handshake) = &self.handshake
            && let Some(sent_at) = handshake.sent_at
        {
            let round_trip = now.saturating_since(sent_at);
            self.paths.get_mut(handshake.path).sample_rtt(round_trip);
        }
    }

    /// The peer's numbers are known; what is queued stays.
    pub(super) fn meet(&mut self, initial_tsn: u32, a_rwnd: u32, outbound: u16, inbound: u16) {
        self.receiver = Receiver::new(&self.config.receive, initial_tsn, inbound);
        self.inbound_streams = inbound;
        let refused = self.sender.set_peer(outbound, a_rwnd);
        self.give_back(refused);
    }

    /// The peer does not have all addresses that the user has named: what is sent to the others is somebody else's (as
    /// Linux). Not once data is under way, whose paths have to stay.
    fn forget_unlisted(&mut self, source: IpAddr, listed: &[IpAddr]) {
        if self.sender.has_outstanding() {
            return;
        }
        let is_peers = |address: IpAddr| address == source || listed.contains(&address);
        if !self.paths.iter().any(|(_, path)| is_peers(path.remote())) {
            // It answers from an address that nobody knew: one of those must lead there.
            return;
        }
        let measured = self.handshake.as_ref().map(|handshake| handshake.path);
        let measured = measured.map(|path| self.paths.get(path).remote());
        self.paths.retain(is_peers);
        self.ends
            .peer_addresses
            .retain(|address| is_peers(*address));
        self.addresses_changed = true;
        // The round trip is that of the path that the INIT took.
        let measured = measured.and_then(|remote| self.paths.find(remote));
        if let Some(handshake) = &mut self.handshake {
            handshake.sent_at = handshake.sent_at.filter(|_| measured.is_some());
            handshake.path = measured.unwrap_or(self.paths.primary());
        }
    }

    /// The peer lists addresses: they are tried once the association stands (5.4).
    pub(super) fn learn_addresses(&mut self, now: Instant, source: IpAddr, listed: &[IpAddr]) {
        let path_mtu = self.paths.get(self.paths.primary()).mtu();
        for address in std::iter::once(&source).chain(listed) {
            if *address == source || is_believable(*address, source, &self.ends.local_addresses) {
                self.add_path(now, *address, None, path_mtu, PathState::Unconfirmed);
            }
        }
    }

    /// COOKIE ACK (5.1 E). In other states it is of no use (5.2.5).
    pub(super) fn handle_cookie_ack(&mut self, now: Instant) {
        if self.state == State::CookieEchoed {
            self.measure_handshake(now);
            self.establish(now);
        }
    }

    /// The association is established.
    pub(super) fn establish(&mut self, now: Instant) {
        let handshake = self.handshake.take();
        self.state = State::Established;
        self.paths.clear_association_errors();
        self.paths.start_heartbeats(now);
        self.last_use = now;
        let (outbound_streams, inbound_streams) = self.streams();
        self.notify_change(AssociationChange::CommunicationUp {
            outbound_streams,
            inbound_streams,
        });
        self.notify_path_changes();
        self.readiness |= Readiness::WRITABLE;
        self.dirty = true;
        tracing::debug!(local = self.local.tag, peer = self.peer_tag, "established");
        if handshake.is_some_and(|handshake| handshake.shutdown_when_established) {
            self.shutdown(now);
        }
    }

    /// The peer says that our cookie came too late (5.2.6, 3): a new INIT asks for one that lives longer, by the round trip
    /// of the echo and a second at most. A peer that never finds one fresh is given up.
    pub(super) fn handle_stale_cookie(&mut self, now: Instant) {
        if self.state != State::CookieEchoed {
            return;
        }
        let limit = self.config.max_init_retransmits;
        let Some(handshake) = &mut self.handshake else {
            return;
        };
        handshake.stale_cookies += 1;
        if handshake.stale_cookies > limit {
            self.end(End::failed(SocketError::TimedOut));
            return;
        }
        let round_trip = handshake
            .sent_at
            .map(|sent_at| now.saturating_since(sent_at));
        handshake.preservative = Some(round_trip.unwrap_or_default() + PRESERVATIVE);
        handshake.cookie = Bytes::new();
        handshake.retransmissions = 0;
        handshake.sent_at = None;
        handshake.due = true;
        self.peer_tag = 0;
        self.state = State::CookieWait;
        // The peer has discarded what travelled with the cookie.
        self.lose_bundled_data(now);
        self.start_t1(now);
        self.dirty = true;
    }

    /// DATA that travelled behind the COOKIE ECHO is to travel again.
    pub(super) fn lose_bundled_data(&mut self, now: Instant) {
        if !self.sender.has_outstanding() {
            return;
        }
        let timed: Vec<PathId> = self
            .paths
            .iter()
            .filter_map(|(id, path)| path.t3().is_some().then_some(id))
            .collect();
        for id in timed {
            // Its errors count for nothing: T1 has a limit of its own.
            let _ = self.sender.handle_t3(now, id, &mut self.paths);
        }
    }
}

/// Parameters in a row, each padded but the last (3.2.1).
fn padded_parameters(parameters: &[Bytes]) -> Vec<u8> {
    let mut octets = Vec::new();
    for parameter in parameters {
        octets.resize(octets.len().next_multiple_of(4), 0);
        octets.extend_from_slice(parameter);
    }
    octets
}

/// What a cookie should live longer by than the round trip that it did not survive (5.2.6).
const PRESERVATIVE: Duration = Duration::from_secs(1);
