//! The one way out: every packet of an association is built here (RFC 9260 5.1, 6.1, 6.2, 6.10, 9.2).
//!
//! Owns what goes together in a packet and in which order. What may be sent is decided elsewhere: by the send half and the
//! paths for DATA, by the receiving half for SACK; handlers of input and timers leave marks in [`Pending`].

use std::collections::VecDeque;
use std::net::IpAddr;

use bytes::{Bytes, BytesMut};
use tidewire_netdev::Packet;

use crate::sctp::association::{Association, State};
use crate::sctp::packet::{Departure, Reply, Transmit, Workbench};
use crate::sctp::path::{PathId, PathState, Position};
use crate::sctp::send::Opening;
use crate::time::Instant;
use crate::wire::sctp::{
    COMMON_HEADER_LEN, Causes, Chunk, CommonHeader, Data, ErrorCause, PacketBuilder, Sack,
};

/// What is to be sent besides DATA and SACK.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Answers with tags of their own, each a packet.
    pub(super) replies: VecDeque<Reply>,
    /// The last word: the association has been aborted with these causes.
    pub(super) abort: Option<Causes>,
    /// The last word: the association has ended in order.
    pub(super) shutdown_complete: bool,
    /// And where it goes.
    pub(super) cookie_ack: Option<PathId>,
    pub(super) shutdown: bool,
    pub(super) shutdown_ack: bool,
    /// Causes to report, each in an ERROR.
    pub(super) errors: VecDeque<ErrorCause>,
    /// What came in HEARTBEATs, and where from.
    pub(super) heartbeat_acks: VecDeque<(IpAddr, Bytes)>,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.replies.is_empty()
            && self.abort.is_none()
            && !self.shutdown_complete
            && self.has_no_control()
    }

    /// Whether nothing of it can join a packet with others.
    fn has_no_control(&self) -> bool {
        self.cookie_ack.is_none()
            && !self.shutdown
            && !self.shutdown_ack
            && self.errors.is_empty()
            && self.heartbeat_acks.is_empty()
    }
}

/// A packet about to be filled.
struct Bundle {
    /// Where it goes, or a path like it for an address that is not the peer's.
    path: PathId,
    /// That address: from there a HEARTBEAT came, which is answered.
    stranger: Option<IpAddr>,
    heartbeat: Option<Bytes>,
    /// DATA may join: the address is known to be the peer's (5.4).
    takes_data: bool,
    /// The chunk that the send half has for an empty packet, if that is what the packet is for.
    opening: Option<Opening>,
}

impl Association {
    /// The next packet to send. Call until there is none. `arena` is memory for packets, kept by the caller.
    pub fn poll_transmit(&mut self, now: Instant, arena: &mut BytesMut) -> Option<Transmit> {
        let mut packet = Packet::new();
        let mut bench = Workbench {
            arena,
            packet: &mut packet,
        };
        let (source, destination) = match self.poll_packet(now, &mut bench)? {
            Departure::Path(path) => {
                let path = self.paths.get(path);
                (path.local(), path.remote())
            }
            Departure::Answer {
                source,
                destination,
            } => (source, destination),
        };
        Some(Transmit {
            source,
            destination,
            packet,
        })
    }

    /// The same, made where the caller wants it.
    #[inline]
    pub fn poll_packet(&mut self, now: Instant, bench: &mut Workbench<'_>) -> Option<Departure> {
        let departure = self.next_packet(now, bench);
        match &departure {
            Some(_) => self.stats.packets_sent += 1,
            None => self.dirty = false,
        }
        departure
    }

    /// Whether [`Self::poll_transmit`] may have something. Cheap, and never wrongly `false`.
    pub const fn wants_transmit(&self) -> bool {
        self.dirty
    }

    /// Whether it is worth waiting for more before [`Self::poll_transmit`]: little is to be sent, and data is under way,
    /// whose answer the peer owes anyway. An idle association's message leaves at once.
    pub fn may_gather(&self) -> bool {
        self.sender.unsent_octets() < GATHERED && self.sender.has_outstanding()
    }

    fn next_packet(&mut self, now: Instant, bench: &mut Workbench<'_>) -> Option<Departure> {
        if let Some(reply) = self.pending.replies.pop_front() {
            self.stats.control_chunks_sent += 1;
            return Some(reply.build(bench));
        }
        match self.state {
            State::Closed => self.last_word(bench),
            State::CookieWait => self.transmit_init(now, bench),
            State::CookieEchoed => self
                .transmit_cookie_echo(now, bench)
                .or_else(|| self.transmit_heartbeat_ack(bench)),
            _ => {
                let bundle = self.next_bundle(now)?;
                self.transmit_bundle(now, &bundle, bench)
            }
        }
    }

    /// Where control chunks go that belong to no path of their own.
    pub(super) fn control_path(&self) -> PathId {
        self.paths.data_path().unwrap_or(self.paths.primary())
    }

    fn header(&self) -> CommonHeader {
        CommonHeader {
            source_port: self.ends.local_port,
            destination_port: self.ends.peer_port,
            // 8.5.1 A: an INIT has none, and in COOKIE-WAIT it is not known.
            verification_tag: self.peer_tag,
        }
    }

    /// A builder for a packet on `path` with `room` octets for chunks.
    fn builder<'a>(&self, room: usize, arena: &'a mut BytesMut) -> PacketBuilder<'a> {
        PacketBuilder::new(self.header(), COMMON_HEADER_LEN + room, arena)
    }

    #[inline]
    fn finish(
        &mut self,
        path: PathId,
        stranger: Option<IpAddr>,
        builder: PacketBuilder<'_>,
        packet: &mut Packet,
    ) -> Departure {
        builder.finish_into(packet);
        let used = self.paths.get_mut(path);
        used.on_packet_sent();
        match stranger {
            None => Departure::Path(path),
            Some(destination) => Departure::Answer {
                source: used.local(),
                destination,
            },
        }
    }

    /// Appends a control chunk. `false` if it does not fit; an empty packet takes any.
    fn push(&mut self, chunk: &Chunk, builder: &mut PacketBuilder<'_>) -> bool {
        let pushed = builder.push(chunk);
        self.stats.control_chunks_sent += u64::from(pushed);
        pushed
    }

    /// A packet with one chunk.
    fn lone(&mut self, chunk: &Chunk, path: PathId, bench: &mut Workbench<'_>) -> Departure {
        let mut builder = self.builder(self.paths.get(path).pmdcs(), bench.arena);
        self.push(chunk, &mut builder);
        self.finish(path, None, builder, bench.packet)
    }

    /// ABORT or SHUTDOWN COMPLETE, after which there is nothing.
    fn last_word(&mut self, bench: &mut Workbench<'_>) -> Option<Departure> {
        let chunk = if let Some(causes) = self.pending.abort.take() {
            Chunk::Abort {
                tag_reflected: false,
                causes,
            }
        } else if std::mem::take(&mut self.pending.shutdown_complete) {
            Chunk::ShutdownComplete {
                tag_reflected: false,
            }
        } else {
            return None;
        };
        let path = self.control_path();
        Some(self.lone(&chunk, path, bench))
    }

    fn transmit_init(&mut self, now: Instant, bench: &mut Workbench<'_>) -> Option<Departure> {
        let handshake = self.handshake.as_ref().filter(|handshake| handshake.due)?;
        let path = handshake.path;
        let init = Chunk::Init(Box::new(self.init(handshake)));
        self.on_handshake_sent(now);
        Some(self.lone(&init, path, bench))
    }

    /// COOKIE ECHO, an ERROR about the INIT ACK, and the first DATA (5.1 C): until the COOKIE ACK nothing else is sent.
    fn transmit_cookie_echo(
        &mut self,
        now: Instant,
        bench: &mut Workbench<'_>,
    ) -> Option<Departure> {
        let handshake = self.handshake.as_ref().filter(|handshake| handshake.due)?;
        let path = handshake.path;
        let echo = Chunk::CookieEcho(handshake.cookie.clone());
        let bundle = Bundle {
            path,
            stranger: None,
            heartbeat: None,
            takes_data: self.paths.get(path).state() == PathState::Active,
            opening: None,
        };
        self.on_handshake_sent(now);
        let mut builder = self.builder(self.paths.get(path).pmdcs(), bench.arena);
        self.push(&echo, &mut builder);
        self.push_errors(&mut builder);
        self.push_data(now, &bundle, &mut builder);
        Some(self.finish(path, None, builder, bench.packet))
    }

    /// 8.3: HEARTBEAT is answered from COOKIE-ECHOED on.
    fn transmit_heartbeat_ack(&mut self, bench: &mut Workbench<'_>) -> Option<Departure> {
        let (source, _) = self.pending.heartbeat_acks.front()?;
        let bundle = self.bundle_to(*source);
        let mut builder = self.builder(self.paths.get(bundle.path).pmdcs(), bench.arena);
        self.push_heartbeat_acks(&bundle, &mut builder);
        Some(self.finish(bundle.path, bundle.stranger, builder, bench.packet))
    }

    fn bundle_to(&self, destination: IpAddr) -> Bundle {
        let found = self.paths.find(destination);
        match found {
            Some(path) => self.bundle_on(path),
            None => Bundle {
                path: self.control_path(),
                stranger: Some(destination),
                heartbeat: None,
                takes_data: false,
                opening: None,
            },
        }
    }

    #[inline]
    fn bundle_on(&self, path: PathId) -> Bundle {
        Bundle {
            path,
            stranger: None,
            heartbeat: None,
            takes_data: self.paths.get(path).is_confirmed(),
            opening: None,
        }
    }

    /// Where the next packet goes, by what has waited for it: COOKIE ACK before anything else (5.1 D).
    fn next_bundle(&mut self, now: Instant) -> Option<Bundle> {
        if !self.pending.has_no_control() {
            if let Some(path) = self.pending.cookie_ack {
                return Some(self.bundle_on(path));
            }
            if let Some((source, _)) = self.pending.heartbeat_acks.front() {
                return Some(self.bundle_to(*source));
            }
            let path = if self.pending.shutdown || self.pending.shutdown_ack {
                self.t2_path()
            } else {
                self.control_path()
            };
            return Some(self.bundle_on(path));
        }
        if let Some((path, heartbeat)) = self.paths.heartbeat_due(now) {
            let mut bundle = self.bundle_on(path);
            bundle.heartbeat = Some(heartbeat);
            return Some(bundle);
        }
        if self.sack_due(now) {
            return Some(self.bundle_on(self.sack_path()));
        }
        if !self.state.may_send_data() {
            return None;
        }
        let opening = self.sender.opening(now, &mut self.paths)?;
        Some(Bundle {
            opening: Some(opening),
            ..self.bundle_on(opening.path)
        })
    }

    /// Whether a SACK is to be sent now. A peer that has said it is done waits for none.
    pub(super) fn sack_due(&self, now: Instant) -> bool {
        self.state.takes_data() && self.receiver.sack_due(now)
    }

    /// 6.4: SACKs go to where the DATA came from, if that is known to be the peer.
    fn sack_path(&self) -> PathId {
        self.path_back_to(self.sack_to)
    }

    /// Whether a SACK may be in a packet with others.
    #[inline]
    fn leads_sacks(&self, bundle: &Bundle) -> bool {
        bundle.stranger.is_none() && bundle.path == self.sack_path()
    }

    /// A packet with DATA has come from `source`. If some of it came again, and from where it had come before, the peer may
    /// have missed the SACKs: they take the next way (6.4). A peer that has gone over to another of its addresses is
    /// answered there.
    pub(super) fn choose_way_back(&mut self, source: IpAddr, had_duplicates: bool) {
        self.sack_to = if had_duplicates && source == self.heard_from {
            let broken = self.path_back_to(self.sack_to);
            self.paths.get(self.paths.alternate_to(broken)).remote()
        } else {
            source
        };
        self.heard_from = source;
    }

    /// Where an answer to what has come from `source` goes: there, if that is known to be the peer (5.4).
    pub(super) fn path_back_to(&self, source: IpAddr) -> PathId {
        let found = self.paths.find(source);
        let confirmed = found.filter(|id| self.paths.get(*id).is_confirmed());
        confirmed.unwrap_or(self.control_path())
    }

    /// 6.10: control chunks come first, COOKIE ACK before all of them.
    fn transmit_bundle(
        &mut self,
        now: Instant,
        bundle: &Bundle,
        bench: &mut Workbench<'_>,
    ) -> Option<Departure> {
        let room = match bundle.opening {
            Some(opening) => self.sender.room_for(opening, &self.paths),
            None => self.paths.get(bundle.path).pmdcs(),
        };
        let mut builder = self.builder(room, bench.arena);
        if self.pending.cookie_ack.is_some_and(|to| to == bundle.path)
            && self.push(&Chunk::CookieAck, &mut builder)
        {
            self.pending.cookie_ack = None;
        }
        // Before SACKs, which may fill the packet: it counts as sent.
        if let Some(heartbeat) = &bundle.heartbeat {
            self.push(&Chunk::Heartbeat(heartbeat.clone()), &mut builder);
        }
        let path = bundle.path;
        // One that others wait behind has no DATA with it: what may follow comes with the last.
        if self.sack_due(now) && self.leads_sacks(bundle) {
            if let Some(sack) = self.receiver.take_overdue_sack() {
                self.stats.sacks_sent += 1;
                self.push(&Chunk::Sack(sack), &mut builder);
                return Some(self.finish(path, None, builder, bench.packet));
            }
            // As Linux: the SACK tells what the SHUTDOWN before it cannot (9.2).
            if self.state == State::ShutdownSent && bundle.takes_data {
                self.push_shutdown(&mut builder);
            }
            self.push_sack(&mut builder);
        }
        if !self.pending.has_no_control() {
            self.push_heartbeat_acks(bundle, &mut builder);
        }
        if bundle.takes_data {
            if !self.pending.has_no_control() {
                self.push_errors(&mut builder);
                self.push_shutdown(&mut builder);
            }
            if self.state.may_send_data() {
                self.push_data(now, bundle, &mut builder);
            }
        }
        if builder.is_empty() {
            return None;
        }
        Some(self.finish(path, bundle.stranger, builder, bench.packet))
    }

    fn push_sack(&mut self, builder: &mut PacketBuilder<'_>) {
        // Without room for one it stays due, and goes in the next packet.
        if builder.room() >= SACK_LEN {
            let sack = self.receiver.take_sack(builder.room());
            self.stats.sacks_sent += 1;
            self.push(&Chunk::Sack(sack), builder);
        }
    }

    fn push_heartbeat_acks(&mut self, bundle: &Bundle, builder: &mut PacketBuilder<'_>) {
        let remote = self.paths.get(bundle.path).remote();
        let destination = bundle.stranger.unwrap_or(remote);
        while let Some((source, heartbeat)) = self.pending.heartbeat_acks.front() {
            let ack = Chunk::HeartbeatAck(heartbeat.clone());
            if *source != destination || !self.push(&ack, builder) {
                return;
            }
            self.pending.heartbeat_acks.pop_front();
        }
    }

    fn push_errors(&mut self, builder: &mut PacketBuilder<'_>) {
        while let Some(cause) = self.pending.errors.front() {
            let error = Chunk::Error(Causes::from_iter([cause.clone()]));
            if !self.push(&error, builder) {
                return;
            }
            self.pending.errors.pop_front();
        }
    }

    /// SHUTDOWN or SHUTDOWN ACK: nothing is left to send then, so no DATA follows (6.10).
    fn push_shutdown(&mut self, builder: &mut PacketBuilder<'_>) {
        if self.pending.shutdown {
            let shutdown = Chunk::Shutdown {
                cumulative_tsn_ack: self.receiver.cumulative_tsn(),
            };
            self.pending.shutdown = !self.push(&shutdown, builder);
        }
        if self.pending.shutdown_ack {
            self.pending.shutdown_ack = !self.push(&Chunk::ShutdownAck, builder);
        }
    }

    /// DATA, as much as fits and may go; a SACK that may wait rides before it, if the first chunk leaves room for it.
    fn push_data(&mut self, now: Instant, bundle: &Bundle, builder: &mut PacketBuilder<'_>) {
        let path = bundle.path;
        let mut position = if builder.is_empty() {
            Position::First
        } else {
            Position::WithControl
        };
        let rides = position == Position::First
            && self.state.takes_data()
            && self.receiver.has_unacknowledged()
            && self.leads_sacks(bundle);
        if rides {
            let room = builder.room().saturating_sub(SACK_LEN);
            if let Some(data) = self.next_data(now, path, room, Position::WithControl) {
                let sack = self.receiver.take_sack(SACK_LEN);
                self.stats.sacks_sent += 1;
                self.push(&Chunk::Sack(sack), builder);
                self.place(now, data, builder);
                position = Position::AfterData;
            }
        }
        if let Some(opening) = bundle.opening
            && position == Position::First
        {
            let data = self.sender.open(now, opening, &mut self.paths);
            let Some(data) = data else { return };
            self.place(now, data, builder);
            position = Position::AfterData;
        }
        while let Some(data) = self.next_data(now, path, builder.room(), position) {
            self.place(now, data, builder);
            position = Position::AfterData;
        }
    }

    #[inline]
    fn next_data(
        &mut self,
        now: Instant,
        path: PathId,
        room: usize,
        position: Position,
    ) -> Option<Data> {
        self.sender
            .next_data(now, path, &mut self.paths, room, position)
    }

    #[inline]
    fn place(&mut self, now: Instant, data: Data, builder: &mut PacketBuilder<'_>) {
        self.last_use = now;
        let pushed = builder.push_data(&data.header, data.payload);
        debug_assert!(pushed, "the send half was told how much room there is");
    }
}

/// Octets that are sent without waiting for more: some packets, so that their cost is shared.
pub(super) const GATHERED: usize = 16 << 10;

/// Octets of a SACK without gaps and duplicates, which is all that one that may wait has to say.
const SACK_LEN: usize = 16;

const _: () = assert!(Sack::entries_in(SACK_LEN) == 0 && Sack::entries_in(SACK_LEN + 4) == 1);
