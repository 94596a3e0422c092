//! Fragments of messages that are not complete (RFC 9260 6.9).
//!
//! The fragments of a message have consecutive TSNs. What has arrived of them is kept as runs without a hole: a run grows
//! at both ends and joins its neighbours, so that finding out whether a message is complete costs a look-up, however
//! many fragments it has and in whatever order they come.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};

use super::tsn_tracker::LongTsn;
use crate::wire::sctp::{Data, DataFlags, DataHeader};

/// Why a fragment cannot be part of any message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// It begins a message although the one before it has not ended.
    BeginsWithin,
    /// It goes on with a message that has ended, or that nothing began.
    ContinuesNothing,
    /// It belongs to another stream, or another message of it, than the fragment next to it.
    OtherMessage,
}

impl Misfit {
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::BeginsWithin => "message begins within another",
            Self::ContinuesNothing => "fragment continues no message",
            Self::OtherMessage => "consecutive fragments of different messages",
        }
    }
}

/// Fragments of one message with consecutive TSNs.
#[derive(Debug)]
pub(super) struct Run {
    /// The header of one of its fragments: stream, SSN, protocol identifier and whether it is ordered are the same in all.
    pub(super) header: DataHeader,
    pub(super) parts: VecDeque<Bytes>,
    /// The TSN of the last fragment.
    end: LongTsn,
    /// The first fragment begins the message.
    begins: bool,
    /// The last fragment ends it.
    ends: bool,
    /// Octets.
    len: usize,
}

impl Run {
    fn of(tsn: LongTsn, data: Data) -> Self {
        let flags = data.header.flags;
        Self {
            header: data.header,
            end: tsn,
            begins: flags.contains(DataFlags::BEGINNING),
            ends: flags.contains(DataFlags::END),
            len: data.payload.len(),
            parts: VecDeque::from([data.payload]),
        }
    }

    pub(super) const fn is_complete(&self) -> bool {
        self.begins && self.ends
    }

    pub(super) const fn begins(&self) -> bool {
        self.begins
    }

    pub(super) const fn ends(&self) -> bool {
        self.ends
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Whether a fragment next to this run can belong to its message.
    fn fits(&self, header: &DataHeader) -> bool {
        let ours = &self.header;
        let unordered = |header: &DataHeader| header.flags.contains(DataFlags::UNORDERED);
        ours.stream == header.stream
            && unordered(ours) == unordered(header)
            && (unordered(ours) || ours.ssn == header.ssn)
    }

    /// Takes the fragment that follows.
    fn push(&mut self, data: Data) {
        self.end += 1;
        self.ends = data.header.flags.contains(DataFlags::END);
        self.len += data.payload.len();
        self.parts.push_back(data.payload);
    }

    /// Takes over the run that follows. The shorter one moves, so that each fragment moves a logarithmic number of times.
    fn join(&mut self, mut behind: Self) {
        self.end = behind.end;
        self.ends = behind.ends;
        self.len += behind.len;
        if self.parts.len() >= behind.parts.len() {
            self.parts.append(&mut behind.parts);
        } else {
            while let Some(part) = self.parts.pop_back() {
                behind.parts.push_front(part);
            }
            self.parts = behind.parts;
        }
    }

    /// All of it in one piece.
    pub(super) fn into_bytes(mut self) -> Bytes {
        if self.parts.len() == 1
            && let Some(only) = self.parts.pop_front()
        {
            return only;
        }
        let mut whole = BytesMut::with_capacity(self.len);
        for part in &self.parts {
            whole.extend_from_slice(part);
        }
        whole.freeze()
    }
}

/// The runs that have arrived, by the TSN of their first fragment.
#[derive(Debug, Default)]
pub(super) struct Fragments(BTreeMap<LongTsn, Run>);

impl Fragments {
    /// Adds a fragment, or a message in one chunk. `complete_up_to` is the cumulative TSN: nothing at or below it is
    /// still to come. Gives the first TSN of the run it is in.
    pub(super) fn insert(
        &mut self,
        tsn: LongTsn,
        data: Data,
        complete_up_to: LongTsn,
    ) -> Result<LongTsn, Misfit> {
        let before = self.0.range(..tsn).next_back();
        let before = before
            .filter(|(_, run)| run.end + 1 == tsn)
            .map(|(start, _)| *start);
        let flags = data.header.flags;
        let begins = flags.contains(DataFlags::BEGINNING);
        if let Some(run) = before.and_then(|start| self.0.get(&start)) {
            match (run.ends, begins) {
                (true, false) => return Err(Misfit::ContinuesNothing),
                (false, true) => return Err(Misfit::BeginsWithin),
                (false, false) if !run.fits(&data.header) => return Err(Misfit::OtherMessage),
                _ => {}
            }
        } else if !begins && tsn <= complete_up_to + 1 {
            // Whatever came before it was complete and is gone.
            return Err(Misfit::ContinuesNothing);
        }
        if let Some(run) = self.0.get(&(tsn + 1)) {
            match (flags.contains(DataFlags::END), run.begins) {
                (true, false) => return Err(Misfit::ContinuesNothing),
                (false, true) => return Err(Misfit::BeginsWithin),
                (false, false) if !run.fits(&data.header) => return Err(Misfit::OtherMessage),
                _ => {}
            }
        }
        let start = before.filter(|_| !begins).unwrap_or(tsn);
        if start == tsn {
            self.0.insert(tsn, Run::of(tsn, data));
        } else if let Some(open) = self.0.get_mut(&start) {
            open.push(data);
        }
        if !flags.contains(DataFlags::END)
            && let Some(behind) = self.0.remove(&(tsn + 1))
            && let Some(open) = self.0.get_mut(&start)
        {
            open.join(behind);
        }
        Ok(start)
    }

    pub(super) fn get(&self, start: LongTsn) -> Option<&Run> {
        self.0.get(&start)
    }

    pub(super) fn take(&mut self, start: LongTsn) -> Option<Run> {
        self.0.remove(&start)
    }

    /// Takes what a run has so far and leaves it to go on growing behind `end`, its last TSN: partial delivery. The run is
    /// then known by its next TSN.
    pub(super) fn take_front(&mut self, start: LongTsn) -> Option<(Run, LongTsn)> {
        let run = self.0.remove(&start)?;
        let next = run.end + 1;
        Some((run, next))
    }

    /// The run with the lowest TSN.
    pub(super) fn first(&self) -> Option<(LongTsn, &Run)> {
        self.0.first_key_value().map(|(start, run)| (*start, run))
    }

    /// Drops the last run if it lies beyond `cumulative`: its first and last TSN, its octets and its fragments.
    pub(super) fn drop_last(&mut self, cumulative: LongTsn) -> Option<Dropped> {
        let last = self
            .0
            .last_entry()
            .filter(|entry| *entry.key() > cumulative)?;
        let (start, run) = last.remove_entry();
        Some(Dropped {
            start,
            end: run.end,
            octets: run.len,
            fragments: run.parts.len(),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What was dropped to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) start: LongTsn,
    pub(super) end: LongTsn,
    pub(super) octets: usize,
    pub(super) fragments: usize,
}
