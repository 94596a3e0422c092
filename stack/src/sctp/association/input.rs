//! A packet in: whether its Verification Tag is good, then chunk by chunk in their order (RFC 9260 3.2, 6, 6.10, 8.5).

use std::net::IpAddr;

use bytes::Bytes;
use tidewire_netdev::Packet;

use crate::sctp::association::{Association, Notification, State};
use crate::sctp::config::Subscriptions;
use crate::sctp::packet::{PacketInfo, Reply};
use crate::sctp::receive::DataOutcome;
use crate::sctp::send::SackOutcome;
use crate::sctp::serial::Tsn;
use crate::stats::DropReason;
use crate::time::Instant;
use crate::transport::Readiness;
use crate::wire::sctp::{Chunk, CommonHeader, Data, PacketReader, Sack, kind};

/// What of a packet counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    /// All of it.
    Whole,
    /// It carries the peer's own tag: only what may reflect it, ABORT and SHUTDOWN COMPLETE with the T bit (8.5.1 B, C).
    Reflected,
}

/// A packet being looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival<'a> {
    pub(super) now: Instant,
    pub(super) info: &'a PacketInfo,
    pub(super) header: &'a CommonHeader,
    admission: Admission,
    /// The chunk is the first of the packet.
    first: bool,
    /// The chunk is the only one of the packet.
    pub(super) alone: bool,
}

/// Whether the rest of a packet is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Next,
    Stop,
}

impl Association {
    /// Takes a packet of this association, its CRC verified.
    ///
    /// # Errors
    /// Why nothing of it, or nothing further, was looked at.
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
        let admission = self.admit(&header, &reader)?;
        self.stats.packets_received += 1;
        let mut arrival = Arrival {
            now,
            info,
            header: &header,
            admission,
            first: true,
            alone: false,
        };
        let mut had_data = false;
        let duplicates = self.stats.duplicates_received;
        let mut result = Ok(());
        loop {
            if admission == Admission::Whole
                && let Some(data) = reader.next_data()
            {
                had_data |= self.state.takes_data();
                arrival.first = false;
                self.handle_data(data);
                if self.state == State::Closed {
                    break;
                }
                continue;
            }
            let Some(chunk) = reader.next_chunk() else {
                break;
            };
            arrival.alone = arrival.first && reader.remaining() == 0;
            let step = match chunk {
                Ok(Chunk::Data(_)) if admission == Admission::Reflected => {
                    Err(DropReason::VerificationTag)
                }
                Ok(Chunk::Data(data)) => {
                    had_data |= self.state.takes_data();
                    self.handle_data(data);
                    Ok(Step::Next)
                }
                Ok(chunk) => self.handle_control(&arrival, chunk),
                Err(bad) => Ok(self.handle_bad_chunk(&arrival, bad)),
            };
            if let Err(reason) = step {
                result = Err(reason);
                break;
            }
            arrival.first = false;
            if step == Ok(Step::Stop) || self.state == State::Closed {
                break;
            }
        }
        // Whatever is wrong with a chunk, those before it have been taken: 3.2, 6.10.
        if had_data && self.state != State::Closed {
            let had_duplicates = self.stats.duplicates_received > duplicates;
            self.choose_way_back(info.source, had_duplicates);
            self.end_of_data(now);
        }
        if result.is_ok() || !arrival.first {
            self.after_packet(now);
        }
        result
    }

    /// The Verification Tag (8.5, 8.5.1).
    fn admit(
        &self,
        header: &CommonHeader,
        reader: &PacketReader<'_>,
    ) -> Result<Admission, DropReason> {
        let tag = header.verification_tag;
        match reader.peek_kind().ok_or(DropReason::Malformed)? {
            // A, and 6.10: an INIT is alone, and only an INIT has no tag.
            kind::INIT if tag == 0 && reader.summary().count() <= 1 => Ok(Admission::Whole),
            kind::INIT => Err(DropReason::Unacceptable),
            // D: the cookie decides (5.2.4).
            kind::COOKIE_ECHO => Ok(Admission::Whole),
            // E: it may be of an association that the peer has and we have not.
            kind::SHUTDOWN_ACK if self.state.is_opening() => Ok(Admission::Whole),
            _ if tag == self.local.tag => Ok(Admission::Whole),
            _ if self.peer_tag != 0 && tag == self.peer_tag => Ok(Admission::Reflected),
            _ => Err(DropReason::VerificationTag),
        }
    }

    /// A chunk other than DATA.
    ///
    /// # Errors
    /// Why the packet is not to be looked at any further.
    fn handle_control(&mut self, arrival: &Arrival<'_>, chunk: Chunk) -> Result<Step, DropReason> {
        self.stats.control_chunks_received += 1;
        let now = arrival.now;
        match chunk {
            Chunk::Abort {
                tag_reflected,
                causes,
            } => {
                self.check_reflection(arrival, tag_reflected)?;
                self.handle_abort(causes);
                return Ok(Step::Stop);
            }
            Chunk::ShutdownComplete { tag_reflected } => {
                self.check_reflection(arrival, tag_reflected)?;
                self.handle_shutdown_complete(arrival.alone);
            }
            _ if arrival.admission == Admission::Reflected => {
                return Err(DropReason::VerificationTag);
            }
            Chunk::Init(init) if arrival.alone => {
                self.handle_init(now, arrival.info, arrival.header, &init)?;
            }
            Chunk::InitAck(init) if arrival.alone => {
                self.handle_init_ack(now, arrival.info, arrival.header, *init);
            }
            // 12.3: with it, everything behind it.
            Chunk::Init(_) => return Err(DropReason::Unacceptable),
            Chunk::InitAck(init) => return self.handle_bundled_init_ack(&init),
            Chunk::CookieEcho(cookie) => {
                // 3.2.2: always the first chunk of its packet.
                if !arrival.first {
                    return Ok(Step::Next);
                }
                self.handle_cookie_echo(now, arrival.info, arrival.header, &cookie)?;
                // What follows is the association's only if the packet carries its tag.
                if arrival.header.verification_tag != self.local.tag {
                    return Ok(Step::Stop);
                }
            }
            Chunk::CookieAck => self.handle_cookie_ack(now),
            Chunk::Sack(sack) => self.handle_sack(now, &sack),
            Chunk::Heartbeat(heartbeat) => self.answer_heartbeat(arrival.info.source, heartbeat),
            Chunk::HeartbeatAck(heartbeat) => {
                if self.state.is_synchronized() {
                    self.paths.handle_heartbeat_ack(now, &heartbeat);
                    self.dirty = true;
                }
            }
            Chunk::Shutdown { cumulative_tsn_ack } => self.handle_shutdown(now, cumulative_tsn_ack),
            Chunk::ShutdownAck => return Ok(self.receive_shutdown_ack(arrival)),
            Chunk::Error(causes) => self.handle_error(now, &causes),
            Chunk::Unknown(chunk) => return Ok(self.handle_unknown(chunk)),
            // DATA is taken elsewhere. ECNE and CWR are reserved, and never for us, since we never say that we know them.
            Chunk::Data(_) | Chunk::Ecne { .. } | Chunk::Cwr { .. } => {}
        }
        Ok(Step::Next)
    }

    /// 8.5.1 B, C: without the T bit the tag is ours, with it the peer's.
    fn check_reflection(
        &self,
        arrival: &Arrival<'_>,
        tag_reflected: bool,
    ) -> Result<(), DropReason> {
        let expected = if tag_reflected {
            self.peer_tag
        } else {
            self.local.tag
        };
        if expected != 0 && arrival.header.verification_tag == expected {
            Ok(())
        } else {
            Err(DropReason::VerificationTag)
        }
    }

    fn receive_shutdown_ack(&mut self, arrival: &Arrival<'_>) -> Step {
        if self.state.is_opening() {
            // 8.5.1 E: as out of the blue; T1 goes on (9.2).
            let complete = Chunk::ShutdownComplete {
                tag_reflected: true,
            };
            let tag = arrival.header.verification_tag;
            self.reply(Reply::new(arrival.info, arrival.header, tag, complete));
            return Step::Stop;
        }
        self.handle_shutdown_ack();
        Step::Next
    }

    #[inline]
    fn handle_data(&mut self, data: Data) {
        if !self.state.takes_data() {
            return;
        }
        self.stats.chunks_received += 1;
        let octets = data.payload.len();
        match self.receiver.handle_data(data) {
            DataOutcome::Accepted => self.stats.octets_received += octets as u64,
            DataOutcome::Duplicate => self.stats.duplicates_received += 1,
            DataOutcome::Dropped => self.stats.chunks_dropped += 1,
            DataOutcome::Refused(cause) => self.report(cause),
            DataOutcome::Violation(cause) => self.violation(cause),
        }
    }

    /// The last DATA of a packet is handled.
    fn end_of_data(&mut self, now: Instant) {
        self.last_use = now;
        // 5.1: the first DATA is acknowledged without delay; 9.2: and so is all of it once SHUTDOWN is sent.
        let closing = self.state == State::ShutdownSent;
        let urgent = closing || !self.has_data;
        self.has_data = true;
        self.receiver.end_of_packet(now, urgent);
        self.pending.shutdown |= closing;
        self.dirty |= self.sack_due(now);
        if self.orphan {
            self.discard_messages();
        } else if self.receiver.has_messages() {
            self.readiness |= Readiness::READABLE;
        }
    }

    /// Anything has come from the peer.
    fn after_packet(&mut self, now: Instant) {
        if self.state == State::ShutdownSent {
            // 9.2: whatever comes shows that the peer is there, and may still have data to send.
            self.paths.clear_association_errors();
            self.start_t2(now);
        }
        self.notify_path_changes();
    }

    fn answer_heartbeat(&mut self, source: IpAddr, heartbeat: Bytes) {
        // 8.3; in COOKIE-WAIT there is no tag to answer with.
        if self.state != State::CookieWait && self.pending.heartbeat_acks.len() < MAX_ANSWERS {
            self.pending.heartbeat_acks.push_back((source, heartbeat));
            self.dirty = true;
        }
    }

    fn handle_sack(&mut self, now: Instant, sack: &Sack) {
        if !self.state.may_send_data() {
            return;
        }
        self.stats.sacks_received += 1;
        match self.sender.handle_sack(now, sack, &mut self.paths) {
            Ok(outcome) => self.after_ack(now, outcome),
            Err(cause) => self.violation(cause),
        }
    }

    /// The Cumulative TSN Ack of a SHUTDOWN. Whether it was a possible one.
    pub(super) fn take_cumulative_ack(&mut self, now: Instant, tsn: u32) -> bool {
        let outcome = self
            .sender
            .handle_cumulative_ack(now, Tsn(tsn), &mut self.paths);
        match outcome {
            Ok(outcome) => {
                self.after_ack(now, outcome);
                true
            }
            Err(cause) => {
                self.violation(cause);
                false
            }
        }
    }

    fn after_ack(&mut self, now: Instant, outcome: SackOutcome) {
        if outcome.stale {
            return;
        }
        if outcome.newly_acked > 0 {
            self.soft_error = None;
            self.last_use = now;
        }
        if self.write_blocked && outcome.room_gained && self.sender.has_room() {
            self.write_blocked = false;
            self.readiness |= Readiness::WRITABLE;
        }
        if outcome.advanced
            && self.events.wants(Subscriptions::SENDER_DRY)
            && self.sender.is_empty()
        {
            self.notify(Notification::SenderDry);
        }
        self.dirty = true;
        self.continue_shutdown(now);
    }

    /// An answer with a tag of its own is to be sent.
    pub(super) fn reply(&mut self, reply: Reply) {
        if self.pending.replies.len() < MAX_ANSWERS {
            self.pending.replies.push_back(reply);
            self.dirty = true;
        }
    }
}

/// Answers to the peer that wait to be sent; what comes beyond is dropped, as if it were lost.
const MAX_ANSWERS: usize = 16;
