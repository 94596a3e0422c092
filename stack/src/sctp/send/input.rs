//! SACKs and timeouts in: RFC 9260 6.2.1, 6.3.2, 6.3.3, 7.2.

use bytes::Bytes;

use crate::sctp::path::{PathId, PathVerdict, Paths};
use crate::sctp::send::outstanding::{Acked, ChunkState};
use crate::sctp::send::{Sender, UrgentPacket};
use crate::sctp::serial::Tsn;
use crate::time::Instant;
use crate::wire::sctp::{ErrorCause, GapBlock, Sack};

/// What an acknowledgment brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SackOutcome {
    /// Octets of user data acknowledged for the first time, cumulatively or by gap blocks.
    pub newly_acked: usize,
    /// The Cumulative TSN Ack Point has moved.
    pub advanced: bool,
    /// Nothing that was sent is unacknowledged now.
    pub all_acked: bool,
    /// The send buffer has more room than before.
    pub room_gained: bool,
    /// It was older than what is known, and ignored (6.2.1 D i).
    pub stale: bool,
}

/// What a SACK says, and a SHUTDOWN does not.
struct Selective<'a> {
    a_rwnd: u32,
    blocks: &'a [GapBlock],
}

impl Sender {
    /// Takes a SACK (RFC 9260 6.2.1).
    ///
    /// # Errors
    /// It acknowledges what was never sent: the association is to be aborted with this cause.
    pub fn handle_sack(
        &mut self,
        now: Instant,
        sack: &Sack,
        paths: &mut Paths,
    ) -> Result<SackOutcome, ErrorCause> {
        let cumulative = Tsn(sack.cumulative_tsn_ack);
        let selective = Selective {
            a_rwnd: sack.a_rwnd,
            blocks: &sack.gap_blocks,
        };
        self.handle_acknowledgment(now, cumulative, Some(selective), paths)
    }

    /// Takes the Cumulative TSN Ack of a SHUTDOWN (9.2), which says nothing of gaps and of the window.
    ///
    /// # Errors
    /// As [`Self::handle_sack`].
    pub fn handle_cumulative_ack(
        &mut self,
        now: Instant,
        cumulative: Tsn,
        paths: &mut Paths,
    ) -> Result<SackOutcome, ErrorCause> {
        self.handle_acknowledgment(now, cumulative, None, paths)
    }

    fn handle_acknowledgment(
        &mut self,
        now: Instant,
        cumulative: Tsn,
        selective: Option<Selective<'_>>,
        paths: &mut Paths,
    ) -> Result<SackOutcome, ErrorCause> {
        let point = self.cumulative_tsn();
        if cumulative.is_before(point) {
            return Ok(SackOutcome {
                all_acked: self.outstanding.is_empty(),
                stale: true,
                ..SackOutcome::default()
            });
        }
        let blocks = selective.as_ref().map_or(&[][..], |s| s.blocks);
        if !self.was_sent(cumulative.distance(point), blocks) {
            return Err(ErrorCause::ProtocolViolation(Bytes::from_static(
                b"a TSN was acknowledged that was not sent",
            )));
        }

        let mut acked = std::mem::take(&mut self.acked);
        acked.reset(paths);
        self.outstanding
            .acknowledge_up_to(now, cumulative, paths, &mut acked);
        self.misses.advance(self.outstanding.first_tsn());
        if selective.is_some() {
            self.outstanding
                .acknowledge_gaps(now, blocks, paths, &mut acked);
        }
        // 6.2.1 D iv.
        self.fast_recovery
            .take_if(|exit| !cumulative.is_before(*exit));
        self.credit_paths(now, &acked, paths);
        self.release(acked.released_octets, acked.released_messages);
        let advanced = cumulative != point;
        self.count_misses(now, advanced, &acked, paths);
        match selective {
            Some(selective) => {
                self.note_reneged(now, paths);
                self.note_window(selective.a_rwnd, paths);
            }
            None => self.window.on_acked_blindly(acked.octets),
        }

        let outcome = SackOutcome {
            newly_acked: acked.octets,
            advanced,
            all_acked: self.outstanding.is_empty(),
            room_gained: acked.released_octets > 0,
            stale: false,
        };
        self.acked = acked;
        Ok(outcome)
    }

    /// Whether the `count` TSNs after the Cumulative TSN Ack Point, and those in `blocks` beyond them, were sent.
    fn was_sent(&self, count: u32, blocks: &[GapBlock]) -> bool {
        let highest = blocks
            .iter()
            .filter(|block| block.start <= block.end)
            .map(|block| block.end)
            .max()
            .unwrap_or(0);
        count as usize + usize::from(highest) <= self.outstanding.len()
    }

    /// The paths on which something was acknowledged: errors, windows and timers.
    fn credit_paths(&mut self, now: Instant, acked: &Acked, paths: &mut Paths) {
        // 7.2.1: the window does not grow in Fast Recovery.
        let may_grow = self.fast_recovery.is_none();
        for (id, of_path) in paths.ids().zip(&acked.paths) {
            if of_path.size == 0 {
                continue;
            }
            paths.clear_association_errors();
            if of_path.unambiguous {
                paths.confirm(id);
            }
            let path = paths.get_mut(id);
            path.on_acked(
                now,
                of_path.size,
                of_path.flight_before,
                of_path.round_trip,
                may_grow,
            );
            if path.flight() == 0 {
                path.stop_t3(); // 6.3.2 R2
            } else if of_path.earliest {
                path.restart_t3(now); // 6.3.2 R3
            }
        }
    }

    /// Miss indications, and the fast retransmit that the third one of a TSN brings (7.2.4).
    fn count_misses(&mut self, now: Instant, advanced: bool, acked: &Acked, paths: &mut Paths) {
        let mut htna = acked.highest;
        if self.fast_recovery.is_some() && advanced {
            // All TSNs reported missing are counted: those below the last block.
            let last = self.outstanding.gap_end().previous();
            if htna.is_none_or(|htna| htna.is_before(last)) {
                htna = Some(last);
            }
        }
        let Some(htna) = htna else {
            return;
        };
        let mut due = std::mem::take(&mut self.scratch);
        due.clear();
        let outstanding = &self.outstanding;
        let is_missing = |tsn| {
            outstanding
                .get(tsn)
                .is_some_and(|chunk| chunk.state == ChunkState::InFlight)
        };
        let (mut tsn, end) = self.misses.on_sack(htna, is_missing, &mut due);
        while tsn != end {
            if outstanding
                .get(tsn)
                .is_some_and(|chunk| chunk.state == ChunkState::InFlight && !chunk.retransmitted)
            {
                due.push(tsn);
            }
            tsn = tsn.next();
        }
        self.fast_retransmit(now, &due, acked, paths);
        self.scratch = due;
    }

    /// These TSNs have had three miss indications (7.2.4).
    fn fast_retransmit(&mut self, now: Instant, due: &[Tsn], acked: &Acked, paths: &mut Paths) {
        let mut hit = 0u64;
        for tsn in due {
            let Some(chunk) = self.outstanding.get(*tsn) else {
                continue;
            };
            let path = chunk.path;
            if chunk.fast_retransmitted {
                continue;
            }
            self.outstanding.lose(*tsn, ChunkState::Missing, paths);
            self.lost.insert(*tsn);
            self.stats.fast_retransmits += 1;
            hit |= 1 << path.index();
        }
        if hit == 0 || self.fast_recovery.is_some() {
            return;
        }
        for (id, of_path) in paths.ids().zip(&acked.paths) {
            if hit & (1 << id.index()) != 0 {
                paths.get_mut(id).on_loss(now, of_path.flight_before);
            }
        }
        self.fast_recovery = Some(self.outstanding.next_tsn().previous());
        self.urgent = UrgentPacket::Due;
    }

    /// What the peer dropped again counts as missing once, and is timed (6.2.1 D iii, 6.3.2 R4).
    fn note_reneged(&mut self, now: Instant, paths: &mut Paths) {
        for (tsn, path) in self.outstanding.reneged() {
            self.stats.reneged += 1;
            self.misses.count_reneged(tsn);
            paths.get_mut(path).start_t3(now, 0);
        }
    }

    fn note_window(&mut self, a_rwnd: u32, paths: &mut Paths) {
        let in_flight = self.outstanding.octets_in_flight();
        if self.window.on_sack(a_rwnd, in_flight) {
            // The peer had to drop the probe and has room for it now: waiting for T3-rtx, whose interval has grown long,
            // would waste the window.
            for id in paths.ids() {
                paths.get_mut(id).on_window_opened();
                self.lose_path(id, ChunkState::Refused, paths);
            }
            self.urgent = UrgentPacket::Due;
        }
    }

    /// T3-rtx of `id` has fired (6.3.3). What the error led to.
    pub fn handle_t3(&mut self, now: Instant, id: PathId, paths: &mut Paths) -> PathVerdict {
        let path = paths.get_mut(id);
        path.stop_t3();
        if path.flight() == 0 {
            // Nothing to retransmit: it timed the peer's closed window (6.1 A).
            if self.outstanding.chunks_in_flight() == 0 && !self.queue.is_empty() {
                self.window.permit_probe();
            }
            return PathVerdict::default();
        }
        let verdict = if self.window.excuses_timeout() {
            path.on_probe_timeout();
            PathVerdict::default()
        } else {
            path.on_t3(now);
            self.stats.timeouts += 1;
            self.fast_recovery = None;
            paths.on_timeout_error(now, id)
        };
        self.lose_path(id, ChunkState::TimedOut, paths);
        self.urgent = UrgentPacket::Due;
        verdict
    }

    /// Everything in flight on a path is lost.
    fn lose_path(&mut self, id: PathId, state: ChunkState, paths: &mut Paths) {
        let mut lost = std::mem::take(&mut self.scratch);
        lost.clear();
        lost.extend(self.outstanding.in_flight_on(id));
        for tsn in &lost {
            self.outstanding.lose(*tsn, state, paths);
        }
        self.lost.merge(&lost);
        self.scratch = lost;
    }
}
