//! Which stream's message is sent next.
//!
//! RFC 9260 leaves the order among streams to the sender; RFC 8260 3 names some. A scheduler picks whole messages: the
//! fragments of one have consecutive TSNs (RFC 9260 6.9), so another message waits until the last of them is out.

use std::fmt;

mod first_come;
mod round_robin;

pub use first_come::FirstCome;
pub use round_robin::RoundRobin;

/// An order among streams. The messages themselves are the queue's; a scheduler only names streams.
pub trait Scheduler: fmt::Debug + Send {
    /// A message joined `stream`, behind `waiting` others of the same stream.
    fn on_enqueued(&mut self, stream: u16, waiting: usize);

    /// Picks the stream whose first message goes next; it is taken from the stream at once. `None` if nothing waits.
    fn pick(&mut self) -> Option<u16>;

    /// The picked message was taken from `stream`, and `waiting` others are left there.
    fn on_taken(&mut self, stream: u16, waiting: usize);

    /// Nothing waits on the streams from `first` on any more: their messages were thrown away.
    fn on_cleared_from(&mut self, first: u16);

    /// Frees what is kept for nothing while no message waits.
    fn shrink(&mut self);
}

/// Which scheduler an association uses (RFC 8260 4.3.2's names).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum SchedulerKind {
    /// In the order in which the user sent them (`SCTP_SS_FCFS`), whatever their streams.
    #[default]
    FirstCome,
    /// One message of each stream in turn (`SCTP_SS_RR`).
    RoundRobin,
}

impl SchedulerKind {
    pub(super) fn build(self) -> Box<dyn Scheduler> {
        match self {
            Self::FirstCome => Box::new(FirstCome::default()),
            Self::RoundRobin => Box::new(RoundRobin::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Streams in the order of their messages' arrival, and in the order they are picked in.
    fn order(kind: SchedulerKind, arrivals: &[u16]) -> Vec<u16> {
        let mut scheduler = kind.build();
        let mut waiting = [0; 10];
        for stream in arrivals {
            let count = &mut waiting[usize::from(*stream)];
            scheduler.on_enqueued(*stream, *count);
            *count += 1;
        }
        std::iter::from_fn(|| {
            let stream = scheduler.pick()?;
            let count = &mut waiting[usize::from(stream)];
            *count -= 1;
            scheduler.on_taken(stream, *count);
            Some(stream)
        })
        .collect()
    }

    #[test]
    fn first_come_keeps_the_order_of_arrival() {
        let arrivals = [3, 1, 1, 2, 3, 1];
        assert_eq!(order(SchedulerKind::FirstCome, &arrivals), arrivals);
    }

    #[test]
    fn round_robin_takes_one_message_of_each_stream_in_turn() {
        assert_eq!(
            order(SchedulerKind::RoundRobin, &[1, 1, 1, 1, 2, 3, 3]),
            [1, 2, 3, 1, 3, 1, 1]
        );
    }

    #[test]
    fn stream_that_empties_and_fills_again_goes_to_the_end_of_the_round() {
        let mut scheduler = RoundRobin::default();
        scheduler.on_enqueued(1, 0);
        scheduler.on_enqueued(2, 0);
        assert_eq!(scheduler.pick(), Some(1));
        scheduler.on_taken(1, 0);
        scheduler.on_enqueued(1, 0);
        assert_eq!(scheduler.pick(), Some(2));
    }

    #[test]
    fn cleared_streams_are_not_picked() {
        for kind in [SchedulerKind::FirstCome, SchedulerKind::RoundRobin] {
            let mut scheduler = kind.build();
            for (stream, waiting) in [(4, 0), (2, 0), (4, 1), (5, 0)] {
                scheduler.on_enqueued(stream, waiting);
            }
            scheduler.on_cleared_from(3);
            assert_eq!(scheduler.pick(), Some(2), "{kind:?}");
            scheduler.on_taken(2, 0);
            assert_eq!(scheduler.pick(), None);
        }
    }
}
