//! TSNs marked for retransmission, lowest first.

use std::collections::VecDeque;

use crate::sctp::serial::Tsn;

/// The marked TSNs, ascending. One that was acknowledged after all stays until it comes up: its owner looks.
#[derive(Debug, Default)]
pub(super) struct RetransmitQueue {
    tsns: VecDeque<Tsn>,
}

impl RetransmitQueue {
    /// The lowest marked TSN.
    pub(super) fn first(&self) -> Option<Tsn> {
        self.tsns.front().copied()
    }

    /// Takes the lowest one out.
    pub(super) fn pop(&mut self) {
        self.tsns.pop_front();
    }

    #[cfg(test)]
    pub(super) fn contains(&self, tsn: Tsn) -> bool {
        self.tsns.contains(&tsn)
    }

    /// Marks a TSN. Losses are found in ascending order, so it nearly always goes to the end.
    pub(super) fn insert(&mut self, tsn: Tsn) {
        let at = match self.tsns.back() {
            Some(last) if !last.is_before(tsn) => self.tsns.partition_point(|t| t.is_before(tsn)),
            _ => self.tsns.len(),
        };
        if self.tsns.get(at) != Some(&tsn) {
            self.tsns.insert(at, tsn);
        }
    }

    /// Marks many TSNs, given in ascending order: those of a path whose T3-rtx fired.
    pub(super) fn merge(&mut self, lost: &[Tsn]) {
        let Some(origin) = [self.first(), lost.first().copied()]
            .into_iter()
            .flatten()
            .reduce(|a, b| if a.is_before(b) { a } else { b })
        else {
            return;
        };
        let was_empty = self.tsns.is_empty();
        self.tsns.extend(lost);
        if !was_empty {
            // Both parts are runs, which the stable sort merges in linear time.
            let tsns = self.tsns.make_contiguous();
            tsns.sort_by_key(|tsn| tsn.distance(origin));
            let mut last = None;
            self.tsns
                .retain(|tsn| last.replace(*tsn).is_none_or(|last| last != *tsn));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(queue: &mut RetransmitQueue) -> Vec<u32> {
        std::iter::from_fn(|| {
            let tsn = queue.first()?;
            queue.pop();
            Some(tsn.0)
        })
        .collect()
    }

    #[test]
    fn lowest_comes_first_and_each_once_across_the_wrap() {
        // RFC 9260 6.10: DATA chunks in a packet ascend.
        let mut queue = RetransmitQueue::default();
        for tsn in [u32::MAX, 3, 1, 3, 0, u32::MAX - 1, 1] {
            queue.insert(Tsn(tsn));
        }
        assert_eq!(drain(&mut queue), [u32::MAX - 1, u32::MAX, 0, 1, 3]);
    }

    #[test]
    fn many_are_merged_with_those_that_wait() {
        let mut queue = RetransmitQueue::default();
        queue.merge(&[]);
        queue.merge(&[Tsn(u32::MAX), Tsn(2)]);
        queue.merge(&[Tsn(u32::MAX - 5), Tsn(0), Tsn(2), Tsn(9)]);
        assert_eq!(drain(&mut queue), [u32::MAX - 5, u32::MAX, 0, 2, 9]);
    }
}
