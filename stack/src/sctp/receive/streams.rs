//! The order of messages within each stream (RFC 9260 6.5, 6.6).

use std::collections::BTreeMap;

use super::Delivery;

/// A stream sequence number that counts its wraps.
type LongSsn = u64;

/// A message has the sequence number of another one of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Repeated;

/// One inbound stream.
#[derive(Debug, Default)]
struct Stream {
    /// The next message to deliver.
    next: LongSsn,
    /// Later ones that are complete.
    held: BTreeMap<LongSsn, Delivery>,
}

impl Stream {
    /// Where an SSN of the wire lies; `None` behind what was delivered.
    fn place(&self, ssn: u16) -> Option<LongSsn> {
        let ahead = ssn.wrapping_sub(self.next as u16);
        (ahead < 0x8000).then(|| self.next + LongSsn::from(ahead))
    }
}

/// The inbound streams. A stream that nothing has arrived on takes no memory.
#[derive(Debug)]
pub(super) struct Streams {
    count: u16,
    streams: BTreeMap<u16, Stream>,
}

impl Streams {
    pub(super) const fn new(count: u16) -> Self {
        Self {
            count,
            streams: BTreeMap::new(),
        }
    }

    pub(super) const fn has(&self, stream: u16) -> bool {
        stream < self.count
    }

    /// Whether the message with this number is the next one of its stream.
    pub(super) fn is_next(&self, stream: u16, ssn: u16) -> bool {
        let next = self.streams.get(&stream).map_or(0, |stream| stream.next);
        next as u16 == ssn
    }

    /// Takes a complete ordered message; gives out what is to be delivered now, in order.
    pub(super) fn insert(
        &mut self,
        delivery: Delivery,
        out: &mut impl Extend<Delivery>,
    ) -> Result<(), Repeated> {
        let id = delivery.message.stream;
        let stream = self.streams.entry(id).or_default();
        let place = stream.place(delivery.message.ssn).ok_or(Repeated)?;
        if place != stream.next {
            let twice = stream.held.insert(place, delivery).is_some();
            return if twice { Err(Repeated) } else { Ok(()) };
        }
        out.extend([delivery]);
        self.advance(id, place, out);
        Ok(())
    }

    /// The next message of the stream was delivered some other way: in parts.
    pub(super) fn on_delivered(&mut self, stream: u16, out: &mut impl Extend<Delivery>) {
        let place = self.streams.entry(stream).or_default().next;
        self.advance(stream, place, out);
    }

    fn advance(&mut self, id: u16, place: LongSsn, out: &mut impl Extend<Delivery>) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.next = place + 1;
        while let Some(delivery) = stream.held.remove(&stream.next) {
            out.extend([delivery]);
            stream.next += 1;
        }
    }
}
