//! DATA chunks out: RFC 9260 6.1, 6.4, 6.9, 6.10.

use bytes::Bytes;

use crate::sctp::path::{PathId, Paths, Position};
use crate::sctp::send::outstanding::{Chunk, ChunkState, chunk_size};
use crate::sctp::send::queue::Fragment;
use crate::sctp::send::{Sender, UrgentPacket};
use crate::sctp::serial::Tsn;
use crate::time::Instant;
use crate::wire::sctp::{DATA_HEADER_LEN, Data, DataFlags, DataHeader};

/// What a packet begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Where the packet goes.
    pub path: PathId,
    first: FirstChunk,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FirstChunk {
    /// A chunk that was lost.
    Lost(Tsn),
    /// So many octets of the next message.
    New(usize),
}

impl Sender {
    /// What the next packet with DATA begins with, if one may go now. Starts the timer that probes a closed window, if that is
    /// what DATA waits for.
    pub fn opening(&mut self, now: Instant, paths: &mut Paths) -> Option<Opening> {
        if let Some((tsn, path)) = self.next_lost(paths) {
            let may = self.may_resend(tsn, path, Position::First, paths);
            let first = FirstChunk::Lost(tsn);
            return may.then_some(Opening { path, first });
        }
        let path = paths.data_path()?;
        let room = paths.get(path).pmdcs();
        let len = self.next_new(now, path, paths, room, Position::First)?;
        let first = FirstChunk::New(len);
        Some(Opening { path, first })
    }

    /// Octets that a packet with this opening is to have for chunks: the path's PMDCS; or more if a chunk that was cut for a
    /// larger MTU has to go there again. Chunks are never cut twice, so IP has to fragment such a packet (6.9).
    pub fn room_for(&self, opening: Opening, paths: &Paths) -> usize {
        let pmdcs = paths.get(opening.path).pmdcs();
        match opening.first {
            FirstChunk::New(_) => pmdcs,
            FirstChunk::Lost(tsn) => self
                .outstanding
                .get(tsn)
                .map_or(pmdcs, |chunk| chunk.size().max(pmdcs)),
        }
    }

    /// The first chunk of an empty packet with the room of this opening, which must be the latest: as [`Self::next_data`]
    /// gives it, without asking again what may go.
    pub fn open(&mut self, now: Instant, opening: Opening, paths: &mut Paths) -> Option<Data> {
        match opening.first {
            FirstChunk::Lost(tsn) => self.resend(now, tsn, opening.path, paths, Position::First),
            FirstChunk::New(len) => self.send_new(now, opening.path, paths, len, Position::First),
        }
    }

    /// The next chunk for a packet on `path` with `room` octets left for chunks; `None` if nothing may or can join it. The
    /// chunk counts as sent. Retransmissions come before new data (6.1 C), in the order of their TSNs: as long as one
    /// waits for its path's window, nothing new is sent on any path.
    pub fn next_data(
        &mut self,
        now: Instant,
        path: PathId,
        paths: &mut Paths,
        room: usize,
        position: Position,
    ) -> Option<Data> {
        if let Some((tsn, to)) = self.next_lost(paths) {
            let fits = |chunk: &Chunk| chunk.size() <= room;
            let goes = to == path
                && self.outstanding.get(tsn).is_some_and(fits)
                && self.may_resend(tsn, to, position, paths);
            return goes.then(|| self.resend(now, tsn, to, paths, position))?;
        }
        if paths.data_path() != Some(path) {
            return None;
        }
        let len = self.next_new(now, path, paths, room, position)?;
        self.send_new(now, path, paths, len, position)
    }

    /// The lowest TSN that waits to be sent again, and where it goes.
    fn next_lost(&mut self, paths: &Paths) -> Option<(Tsn, PathId)> {
        while let Some(tsn) = self.lost.first() {
            match self.outstanding.get(tsn) {
                Some(chunk) if chunk.is_lost() => {
                    return Some((tsn, Self::destination(chunk, paths)));
                }
                // Acknowledged since it was marked.
                _ => self.lost.pop(),
            }
        }
        self.urgent = UrgentPacket::None;
        None
    }

    /// Whether a lost chunk may join a packet at `position`: the urgent packet goes whatever cwnd says (7.2.4 3).
    fn may_resend(&self, tsn: Tsn, path: PathId, position: Position, paths: &mut Paths) -> bool {
        let size = self.outstanding.get(tsn).map_or(0, Chunk::size);
        let urgent = match position {
            Position::First | Position::WithControl => self.urgent == UrgentPacket::Due,
            Position::AfterData => self.urgent == UrgentPacket::Open,
        };
        let path = paths.get_mut(path);
        let may = urgent || path.window_admits(position, size);
        if !may && position == Position::First {
            path.end_burst(true);
        }
        may
    }

    fn resend(
        &mut self,
        now: Instant,
        tsn: Tsn,
        to: PathId,
        paths: &mut Paths,
        position: Position,
    ) -> Option<Data> {
        self.note_packet(position);
        self.lost.pop();
        let was_idle = paths.get(to).flight() == 0;
        self.outstanding.resend(now, tsn, to, paths);
        // 6.1: the timer starts anew if the earliest outstanding chunk of the path is sent again.
        let earliest = self.outstanding.earliest_on(to) == Some(tsn);
        self.time(now, to, paths, was_idle || earliest);
        let highest = self.outstanding.next_tsn().previous();
        let chunk = self.outstanding.get(tsn)?;
        // What was marked by miss indications is not marked by them again (7.2.4 5).
        if !chunk.fast_retransmitted {
            self.misses.count_anew_above(tsn, highest);
        }
        self.window.on_sent(usize::from(chunk.len));
        self.stats.chunks_retransmitted += 1;
        Some(chunk.data(tsn))
    }

    /// How much of the next message may join a packet as new DATA.
    fn next_new(
        &mut self,
        now: Instant,
        id: PathId,
        paths: &mut Paths,
        room: usize,
        position: Position,
    ) -> Option<usize> {
        let max = self.cut_len(paths);
        let path = paths.get_mut(id);
        let first = position == Position::First;
        let Some(head) = self.queue.head() else {
            if first {
                path.end_burst(false);
            }
            return None;
        };
        let len = fragment_len(head.len, max, room)?;
        let begun = head.begun;
        if !path.window_admits(position, chunk_size(len)) {
            if first {
                path.end_burst(true);
            }
            return None;
        }
        if self.outstanding.len() >= MAX_OUTSTANDING || !path.burst_admits(position) {
            path.note_unfilled();
            return None;
        }
        let in_flight = self.outstanding.octets_in_flight();
        if !self.window.admits(len, in_flight) {
            let nothing_out = self.outstanding.chunks_in_flight() == 0;
            if !(nothing_out && self.window.permits_probe()) {
                if nothing_out {
                    path.start_t3(now, self.window.doublings());
                }
                if first {
                    path.end_burst(false);
                }
                return None;
            }
        }
        if first && !begun && self.waits_for_company(path.pmdcs()) {
            path.end_burst(false);
            return None;
        }
        Some(len)
    }

    /// Nagle's algorithm (6.1, RFC 1122 4.2.3.4): less than a packet waits while something is in flight.
    fn waits_for_company(&self, pmdcs: usize) -> bool {
        !self.config.nodelay
            && !self.draining
            && self.outstanding.chunks_in_flight() > 0
            && self.queue.octets() + self.queue.len() * DATA_HEADER_LEN < pmdcs
    }

    fn send_new(
        &mut self,
        now: Instant,
        id: PathId,
        paths: &mut Paths,
        len: usize,
        position: Position,
    ) -> Option<Data> {
        self.note_packet(position);
        if position != Position::AfterData {
            paths.get_mut(id).begin_packet(now);
        }
        let was_idle = paths.get(id).flight() == 0;
        let fragment = self.queue.cut(len)?;
        if !self.window.admits(len, self.outstanding.octets_in_flight()) {
            self.stats.window_probes += 1;
        }
        self.window.on_sent(fragment.len);
        self.stats.chunks_sent += 1;
        // 6.1 lets the sender ask for a SACK without delay whenever it gains by one: as Linux, at the user's wish and at the
        // end only, so that a chunk that is sent again is the one that was sent before.
        let last = self.draining && self.queue.is_empty();
        let chunk = Chunk::new(fragment, id);
        let mut data = chunk.data(self.outstanding.next_tsn());
        self.outstanding.push(now, chunk, paths);
        self.time(now, id, paths, was_idle);
        if last {
            data.header.flags = data.header.flags | DataFlags::IMMEDIATE;
        }
        Some(data)
    }

    /// T3-rtx runs while anything is in flight on a path (6.3.2 R1); `anew` starts it once more.
    fn time(&self, now: Instant, id: PathId, paths: &mut Paths, anew: bool) {
        let path = paths.get_mut(id);
        if anew {
            path.stop_t3();
        }
        path.start_t3(now, self.window.doublings());
    }

    /// A chunk joins a packet at `position`: the urgent packet is filled as long as it is the same one.
    fn note_packet(&mut self, position: Position) {
        if position != Position::AfterData {
            self.urgent = match self.urgent {
                UrgentPacket::Due => UrgentPacket::Open,
                UrgentPacket::Open | UrgentPacket::None => UrgentPacket::None,
            };
        }
    }
}

impl Chunk {
    fn new(fragment: Fragment, path: PathId) -> Self {
        let options = fragment.options;
        let mut flags = DataFlags::NONE;
        for (set, flag) in [
            (fragment.begin, DataFlags::BEGINNING),
            (fragment.end, DataFlags::END),
            (options.unordered, DataFlags::UNORDERED),
            (fragment.end && options.immediate_ack, DataFlags::IMMEDIATE),
        ] {
            if set {
                flags = flags | flag;
            }
        }
        Self {
            len: fragment.len as u16,
            rest: fragment.rest,
            ppid: options.ppid,
            context: options.context,
            stream: options.stream,
            ssn: fragment.ssn.0,
            flags,
            path,
            state: ChunkState::InFlight,
            retransmitted: false,
            moved: false,
            fast_retransmitted: false,
        }
    }

    fn data(&self, tsn: Tsn) -> Data {
        Data {
            header: DataHeader {
                tsn: tsn.0,
                stream: self.stream,
                ssn: self.ssn,
                ppid: self.ppid,
                flags: self.flags,
            },
            payload: self.payload(),
        }
    }

    fn payload(&self) -> Bytes {
        if usize::from(self.len) == self.rest.len() {
            self.rest.clone()
        } else {
            self.rest.slice(..usize::from(self.len))
        }
    }
}

/// How much of a message of which `rest` octets are left goes into a chunk of at most `max` octets of user data, with
/// `room` octets left in the packet. What can go whole is not cut to fill a packet up; what must be cut anyway fills the
/// packet, unless the piece would be so small that its header counts.
fn fragment_len(rest: usize, max: usize, room: usize) -> Option<usize> {
    let room = (room & !3).checked_sub(DATA_HEADER_LEN)?;
    if rest <= max {
        return (rest <= room).then_some(rest);
    }
    let len = max.min(room);
    (len >= max.div_ceil(2)).then_some(len)
}

/// TSNs outstanding at most: a gap block can name no more (3.3.4). Also keeps the SSNs of a stream in the window below 2^16
/// (6.1).
const MAX_OUTSTANDING: usize = u16::MAX as usize;
