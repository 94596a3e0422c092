//! The one way out: every packet of an association is built here (RFC 9260 6.1, 6.10).

use std::net::IpAddr;

use bytes::BytesMut;

use super::{Association, State};
use crate::sctp::endpoint::Transmit;
use crate::sctp::path::{PathId, Position};
use crate::time::Instant;
use crate::wire::sctp::{
    AddressTypes, CHUNK_HEADER_LEN, COMMON_HEADER_LEN, Causes, Chunk, CommonHeader, Init,
    InitParameters, PacketBuilder,
};

impl Association {
    pub(super) fn next_packet(&mut self, now: Instant, arena: &mut BytesMut) -> Option<Transmit> {
        if let Some(reply) = self.pending.replies.pop_front() {
            return Some(reply);
        }
        if let Some(causes) = self.pending.abort.take() {
            let abort = Chunk::Abort {
                tag_reflected: false,
                causes,
            };
            return Some(self.lone(&abort, self.control_path(), arena));
        }
        if std::mem::take(&mut self.pending.shutdown_complete) {
            let complete = Chunk::ShutdownComplete {
                tag_reflected: false,
            };
            return Some(self.lone(&complete, self.control_path(), arena));
        }
        if self.state == State::Closed {
            return None;
        }
        if std::mem::take(&mut self.pending.init) {
            if self.timers.t1.is_none() {
                self.arm_t1(now);
            }
            let init = Chunk::Init(Box::new(self.init()));
            return Some(self.lone(&init, self.control_path(), arena));
        }
        if let Some((source, info)) = self.pending.heartbeat_acks.pop_front() {
            let ack = Chunk::HeartbeatAck(info);
            return Some(self.lone_to(&ack, source, arena));
        }
        if self.state.is_synchronized()
            && let Some((path, info)) = self.paths.heartbeat_due(now)
        {
            return Some(self.lone(&Chunk::Heartbeat(info), path, arena));
        }
        self.bundle(now, arena)
    }

    fn header(&self) -> CommonHeader {
        CommonHeader {
            source_port: self.ends.local_port,
            destination_port: self.ends.peer_port,
            verification_tag: if self.state == State::CookieWait {
                0
            } else {
                self.peer_tag
            },
        }
    }

    /// Where control chunks go that belong to no path of their own.
    fn control_path(&self) -> PathId {
        self.paths.data_path().unwrap_or(self.paths.primary())
    }

    /// A packet with one chunk.
    fn lone(&self, chunk: &Chunk, path: PathId, arena: &mut BytesMut) -> Transmit {
        self.lone_to(chunk, self.paths.get(path).remote(), arena)
    }

    fn lone_to(&self, chunk: &Chunk, destination: IpAddr, arena: &mut BytesMut) -> Transmit {
        let path = self.paths.find(destination).unwrap_or(self.paths.primary());
        let path = self.paths.get(path);
        let mut builder =
            PacketBuilder::new(self.header(), COMMON_HEADER_LEN + path.pmdcs(), arena);
        // An empty packet takes any chunk that is one.
        let _ = builder.push(chunk);
        Transmit {
            source: path.local(),
            destination,
            packet: builder.finish(),
        }
    }

    fn init(&self) -> Init {
        Init {
            initiate_tag: self.local.tag,
            a_rwnd: u32::try_from(self.config.receive.buffer).unwrap_or(u32::MAX),
            outbound_streams: self.config.outbound_streams,
            inbound_streams: self.config.max_inbound_streams,
            initial_tsn: self.local.initial_tsn,
            parameters: InitParameters {
                addresses: self.ends.local_addresses.iter().copied().collect(),
                // 5.2.6: what the last cookie lacked, and as much again.
                cookie_preservative: (self.staleness > 0).then(|| self.staleness / 500 + 1),
                supported_address_types: Some(self.address_types()),
                ..InitParameters::default()
            },
        }
    }

    fn address_types(&self) -> AddressTypes {
        let mut all = self
            .ends
            .local_addresses
            .iter()
            .chain(&self.ends.peer_addresses);
        let ipv4 = all.clone().any(IpAddr::is_ipv4);
        let ipv6 = all.any(IpAddr::is_ipv6);
        AddressTypes { ipv4, ipv6 }
    }

    /// A packet of control chunks and DATA, as far as there is anything (6.10: control first).
    fn bundle(&mut self, now: Instant, arena: &mut BytesMut) -> Option<Transmit> {
        let echoing = std::mem::take(&mut self.pending.cookie_echo);
        // Behind a COOKIE ECHO the first DATA may travel along (5.1 C); alone it may not.
        let may_send_data = self.state.may_send_data() || echoing;
        let data_path = may_send_data
            .then(|| self.sender.path_for_next(now, &mut self.paths))
            .flatten();
        let sack_due = self.receiver.sack_due(now) && self.state.is_synchronized();
        let acks = self.pending.cookie_ack || sack_due;
        let control = echoing
            || acks
            || self.pending.shutdown
            || self.pending.shutdown_ack
            || !self.pending.errors.is_empty();
        let path = match data_path {
            _ if acks => self
                .paths
                .find(self.heard_from)
                .unwrap_or(self.control_path()),
            Some(path) if !control => path,
            _ if control => self.control_path(),
            _ => return None,
        };
        let data_path = data_path.filter(|data| *data == path);
        let room = match data_path {
            Some(path) if !control => self.sender.room_for_next(path, &self.paths),
            _ => self.paths.get(path).pmdcs(),
        };
        let mut builder = PacketBuilder::new(self.header(), COMMON_HEADER_LEN + room, arena);
        self.push_control(now, echoing, data_path.is_some(), sack_due, &mut builder);
        if let Some(path) = data_path {
            self.push_data(now, path, &mut builder);
        }
        if builder.is_empty() {
            return None;
        }
        let path = self.paths.get(path);
        Some(Transmit {
            source: path.local(),
            destination: path.remote(),
            packet: builder.finish(),
        })
    }

    fn push_control(
        &mut self,
        now: Instant,
        echoing: bool,
        with_data: bool,
        sack_due: bool,
        builder: &mut PacketBuilder<'_>,
    ) {
        if echoing {
            if self.timers.t1.is_none() {
                self.arm_t1(now);
            }
            let _ = builder.push(&Chunk::CookieEcho(self.cookie.clone()));
        }
        if std::mem::take(&mut self.pending.cookie_ack) {
            let _ = builder.push(&Chunk::CookieAck);
        }
        if !self.pending.errors.is_empty() {
            let causes = Causes::from_iter(self.pending.errors.drain(..));
            // One that does not fit now is not worth a packet of its own.
            let _ = builder.push(&Chunk::Error(causes));
        }
        // 9.2: SHUTDOWN tells the cumulative TSN; gaps take a SACK besides.
        let told = self.pending.shutdown && !self.receiver.has_gaps();
        let piggyback = with_data && self.receiver.has_unacknowledged();
        if (sack_due && !told) || piggyback {
            let sack = self.receiver.take_sack(builder.room());
            let _ = builder.push(&Chunk::Sack(sack));
        }
        if std::mem::take(&mut self.pending.shutdown) {
            if told {
                self.receiver.take_sack(CHUNK_HEADER_LEN);
            }
            let _ = builder.push(&Chunk::Shutdown {
                cumulative_tsn_ack: self.receiver.cumulative_tsn(),
            });
        }
        if std::mem::take(&mut self.pending.shutdown_ack) {
            let _ = builder.push(&Chunk::ShutdownAck);
        }
    }

    fn push_data(&mut self, now: Instant, path: PathId, builder: &mut PacketBuilder<'_>) {
        let mut position = if builder.is_empty() {
            Position::First
        } else {
            Position::WithControl
        };
        loop {
            let room = builder.room();
            let data = self
                .sender
                .next_data(now, path, &mut self.paths, room, position);
            let Some(data) = data else {
                break;
            };
            // It was cut to the room there is.
            let pushed = builder.push_data(&data.header, data.payload);
            debug_assert!(pushed, "no room for what was cut to fit");
            position = Position::AfterData;
        }
    }
}
