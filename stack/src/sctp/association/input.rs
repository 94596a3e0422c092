//! A packet in: the rules of tags and bundling, then chunk by chunk (RFC 9260 8.5, 6.10, 3.2).

use bytes::Bytes;
use tidewire_netdev::Packet;

use super::{Association, MAX_ANSWERS, Notification, State};
use crate::sctp::endpoint::{PacketInfo, Transmit, reversed};
use crate::sctp::receive::DataOutcome;
use crate::sctp::send::SackOutcome;
use crate::sctp::serial::Tsn;
use crate::stats::DropReason;
use crate::time::Instant;
use crate::transport::Readiness;
use crate::wire::sctp::{
    BadChunk, Chunk, ChunkError, CommonHeader, Data, ErrorCause, PacketReader, Sack, UnknownChunk,
    kind,
};

/// Causes that wait to be reported in an ERROR.
const MAX_ERRORS: usize = 8;

impl Association {
    /// Takes a packet of this association, its CRC verified.
    ///
    /// # Errors
    /// Why nothing of it was looked at.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        info: &PacketInfo,
        packet: &Packet,
    ) -> Result<(), DropReason> {
        if self.state == State::Closed {
            return Err(DropReason::Closed);
        }
        let (header, mut reader) = PacketReader::new(packet).map_err(|_| DropReason::Malformed)?;
        let first = reader.peek_kind().ok_or(DropReason::Malformed)?;
        self.check_tag(&header, first)?;
        let mut had_data = false;
        while let Some(chunk) = reader.next_chunk() {
            let rest = reader.remaining();
            let alone = rest == 0 && !had_data;
            let result = match chunk {
                Ok(Chunk::Data(data)) => {
                    had_data = true;
                    self.heard_from = info.source;
                    self.handle_data(data)
                }
                Ok(Chunk::Init(init)) if first == kind::INIT && alone => {
                    self.handle_init(now, info, &header, &init)?;
                    Ok(())
                }
                // 6.10: INIT, INIT ACK and SHUTDOWN COMPLETE are never bundled.
                Ok(Chunk::InitAck(init)) if first == kind::INIT_ACK && alone => {
                    self.handle_init_ack(now, *init)
                }
                Ok(Chunk::Init(_) | Chunk::InitAck(_)) => return Err(DropReason::Unacceptable),
                Ok(Chunk::CookieEcho(cookie)) => {
                    if first != kind::COOKIE_ECHO {
                        return Err(DropReason::Unacceptable);
                    }
                    self.handle_cookie_echo(now, info, &header, &cookie)?;
                    Ok(())
                }
                Ok(chunk) => match self.handle_control(now, info, &header, chunk) {
                    Step::Next(result) => result,
                    Step::Stop => break,
                },
                Err(bad) => self.handle_bad_chunk(bad),
            };
            if let Err(cause) = result {
                self.violation(cause);
            }
            if self.state == State::Closed {
                return Ok(());
            }
        }
        if had_data {
            // 9.2: while it waits for the SHUTDOWN to be answered, every packet with DATA is answered.
            let urgent = self.state == State::ShutdownSent;
            self.receiver.end_of_packet(now, urgent);
            self.pending.shutdown |= urgent;
            self.dirty |= urgent || self.receiver.sack_due(now);
            if self.receiver.is_readable() {
                self.readiness |= Readiness::READABLE;
            }
        }
        Ok(())
    }

    /// The Verification Tag (8.5, 8.5.1).
    fn check_tag(&self, header: &CommonHeader, first: u8) -> Result<(), DropReason> {
        let tag = header.verification_tag;
        let good = match first {
            kind::INIT => tag == 0,
            // The T bit decides, in `handle_control`.
            kind::ABORT | kind::SHUTDOWN_COMPLETE => {
                tag == self.local.tag || (tag == self.peer_tag && self.peer_tag != 0)
            }
            // The cookie decides (5.2.4).
            kind::COOKIE_ECHO => true,
            // It may be of an association that the peer still has and we have not (8.5.1 E).
            kind::SHUTDOWN_ACK => tag == self.local.tag || !self.state.is_synchronized(),
            _ => tag == self.local.tag,
        };
        if good {
            Ok(())
        } else {
            Err(DropReason::Unacceptable)
        }
    }

    /// Chunks that are neither DATA nor part of the handshake's two special packets.
    fn handle_control(
        &mut self,
        now: Instant,
        info: &PacketInfo,
        header: &CommonHeader,
        chunk: Chunk,
    ) -> Step {
        // 8.5.1 B, C: with the T bit the tag is the peer's own.
        let expected = |reflected: bool| {
            if reflected {
                self.peer_tag
            } else {
                self.local.tag
            }
        };
        let mut result = Ok(());
        match chunk {
            Chunk::Sack(sack) => result = self.handle_sack(now, &sack),
            Chunk::Heartbeat(data) => {
                // 8.3; in COOKIE-WAIT there is no tag to answer with.
                if self.peer_tag != 0 && self.pending.heartbeat_acks.len() < MAX_ANSWERS {
                    self.pending.heartbeat_acks.push_back((info.source, data));
                    self.dirty = true;
                }
            }
            Chunk::HeartbeatAck(data) => {
                self.paths.handle_heartbeat_ack(now, &data);
                self.dirty = true;
            }
            Chunk::Abort {
                tag_reflected,
                causes,
            } => {
                if header.verification_tag != expected(tag_reflected) {
                    return Step::Stop;
                }
                self.handle_abort(&causes);
            }
            Chunk::Shutdown { cumulative_tsn_ack } => {
                result = self.handle_shutdown(now, cumulative_tsn_ack);
            }
            Chunk::ShutdownAck if !self.state.is_synchronized() => {
                // 8.5.1 E: as out of the blue.
                let complete = Chunk::ShutdownComplete {
                    tag_reflected: true,
                };
                let to = reversed(header, header.verification_tag);
                self.reply(Transmit::answer(info, to, &complete));
                return Step::Stop;
            }
            Chunk::ShutdownAck => self.handle_shutdown_ack(),
            Chunk::ShutdownComplete { tag_reflected } => {
                if header.verification_tag != expected(tag_reflected) {
                    return Step::Stop;
                }
                self.handle_shutdown_complete();
            }
            Chunk::Error(causes) => {
                for cause in causes.iter().flatten() {
                    if let ErrorCause::StaleCookie { staleness } = cause {
                        self.handle_stale_cookie(now, staleness);
                    }
                    self.events.push(Notification::RemoteError(cause));
                }
            }
            Chunk::CookieAck => self.handle_cookie_ack(now),
            Chunk::Unknown(chunk) => return self.handle_unknown(&chunk),
            // Taken before; and what is reserved (appendix A), since we never say that we understand it.
            Chunk::Data(_)
            | Chunk::Init(_)
            | Chunk::InitAck(_)
            | Chunk::CookieEcho(_)
            | Chunk::Ecne { .. }
            | Chunk::Cwr { .. } => {}
        }
        Step::Next(result)
    }

    /// A chunk of a type that is not known here (3.2).
    fn handle_unknown(&mut self, chunk: &UnknownChunk) -> Step {
        let action = chunk.action();
        if action.report {
            self.report(ErrorCause::UnrecognizedChunkType(chunk.whole.clone()));
        }
        if action.stop {
            Step::Stop
        } else {
            Step::Next(Ok(()))
        }
    }

    /// A chunk that is not what its type says.
    fn handle_bad_chunk(&mut self, bad: BadChunk) -> Result<(), ErrorCause> {
        Err(match bad.error {
            ChunkError::NoUserData { tsn } => ErrorCause::NoUserData { tsn },
            // 3.3.2: an INIT that cannot be read is no reason to end an association.
            _ if bad.kind == kind::INIT => return Ok(()),
            ChunkError::MissingCookie => ErrorCause::MissingMandatoryParameter {
                parameters: [7].into_iter().collect(),
            },
            ChunkError::Value => ErrorCause::InvalidMandatoryParameter,
            ChunkError::Length => {
                ErrorCause::ProtocolViolation(Bytes::from_static(b"chunk of an impossible length"))
            }
        })
    }

    /// An ERROR is to be sent, if the peer can be told.
    pub(super) fn report(&mut self, cause: ErrorCause) {
        if self.pending.errors.len() < MAX_ERRORS && self.peer_tag != 0 {
            self.pending.errors.push(cause);
            self.dirty = true;
        }
    }

    fn handle_data(&mut self, data: Data) -> Result<(), ErrorCause> {
        if !self.state.takes_data() {
            return Ok(());
        }
        match self.receiver.handle_data(data) {
            DataOutcome::Accepted | DataOutcome::Duplicate | DataOutcome::Dropped => Ok(()),
            DataOutcome::Refused(cause) => {
                self.report(cause);
                Ok(())
            }
            DataOutcome::Violation(cause) => Err(cause),
        }
    }

    fn handle_sack(&mut self, now: Instant, sack: &Sack) -> Result<(), ErrorCause> {
        if !self.state.may_send_data() {
            return Ok(());
        }
        let outcome = self.sender.handle_sack(now, sack, &mut self.paths)?;
        self.after_ack(now, outcome);
        Ok(())
    }

    pub(super) fn handle_cumulative_ack(
        &mut self,
        now: Instant,
        tsn: u32,
    ) -> Result<(), ErrorCause> {
        let outcome = self
            .sender
            .handle_cumulative_ack(now, Tsn(tsn), &mut self.paths)?;
        self.after_ack(now, outcome);
        Ok(())
    }

    fn after_ack(&mut self, now: Instant, outcome: SackOutcome) {
        if outcome.stale {
            return;
        }
        if outcome.newly_acked > 0 {
            self.note_use(now);
        }
        if self.write_blocked && outcome.room_gained && self.sender.has_room() {
            self.write_blocked = false;
            self.readiness |= Readiness::WRITABLE;
        }
        if outcome.advanced && self.sender.is_empty() {
            self.events.push(Notification::SenderDry);
        }
        self.dirty = true;
        self.continue_shutdown(now);
    }
}

/// Whether the rest of a packet is looked at.
enum Step {
    Next(Result<(), ErrorCause>),
    Stop,
}
