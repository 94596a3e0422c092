//! Miss indications (RFC 9260 7.2.4): which TSNs three SACKs have passed by.
//!
//! Every SACK gives a miss indication to all missing TSNs below the highest one it newly acknowledges (HTNA). Counting
//! them TSN by TSN would cost a window per SACK. TSNs are sent in order, so a SACK whose HTNA is above a TSN came after that
//! was sent: a TSN has three indications exactly if the *third largest* HTNA of all SACKs is above it. That mark only
//! rises, and each TSN is looked at once, when it passes by.
//!
//! This holds for TSNs sent once and never reported. The others, sent again after a timeout or reneged on by the peer, are
//! counted one by one in a short list; those beyond it wait for T3-rtx.

use crate::sctp::serial::Tsn;

/// The marks.
#[derive(Debug)]
pub(super) struct MissIndications {
    /// The three largest HTNAs so far, ascending. Those below the cumulative TSN are as good as it.
    largest: [Tsn; THRESHOLD as usize],
    /// All TSNs below it have been given out.
    passed: Tsn,
    singly: Vec<Counted>,
}

/// A TSN whose indications are counted by themselves.
#[derive(Clone, Copy, Debug)]
struct Counted {
    tsn: Tsn,
    /// Only SACKs with an HTNA above it count.
    above: Tsn,
    misses: u8,
}

impl MissIndications {
    pub(super) fn new(initial: Tsn) -> Self {
        Self {
            largest: [initial; THRESHOLD as usize],
            passed: initial,
            singly: Vec::new(),
        }
    }

    /// Everything before `first` is acknowledged.
    pub(super) fn advance(&mut self, first: Tsn) {
        for mark in self.largest.iter_mut().chain([&mut self.passed]) {
            if mark.is_before(first) {
                *mark = first;
            }
        }
    }

    /// `tsn` was retransmitted after a timeout when `highest` was the highest TSN sent: SACKs for what was sent before
    /// say nothing about it.
    pub(super) fn count_anew_above(&mut self, tsn: Tsn, highest: Tsn) {
        self.count(Counted {
            tsn,
            above: highest,
            misses: 0,
        });
    }

    /// The peer reneged on `tsn`: that is one miss indication (6.2.1 D iii).
    pub(super) fn count_reneged(&mut self, tsn: Tsn) {
        self.count(Counted {
            tsn,
            above: tsn,
            misses: 1,
        });
    }

    fn count(&mut self, counted: Counted) {
        if let Some(known) = self.singly.iter_mut().find(|c| c.tsn == counted.tsn) {
            *known = counted;
        } else if self.singly.len() < MAX_SINGLY {
            self.singly.push(counted);
        }
    }

    /// A SACK's indications go to all missing TSNs below `htna`. Gives the TSNs, sent once, that have three by now and
    /// were not given before, from the first to before the second; and appends to `due` those counted singly.
    /// `is_missing` says whether a TSN still waits for its acknowledgment.
    pub(super) fn on_sack(
        &mut self,
        htna: Tsn,
        is_missing: impl Fn(Tsn) -> bool,
        due: &mut Vec<Tsn>,
    ) -> (Tsn, Tsn) {
        self.singly.retain_mut(|counted| {
            if !is_missing(counted.tsn) {
                return false;
            }
            counted.misses += u8::from(counted.above.is_before(htna));
            let is_due = counted.misses >= THRESHOLD;
            if is_due {
                due.push(counted.tsn);
            }
            !is_due
        });
        if self.largest[0].is_before(htna) {
            self.largest[0] = htna;
            // Three marks: sorting is two exchanges.
            for i in 1..self.largest.len() {
                if self.largest[i].is_before(self.largest[i - 1]) {
                    self.largest.swap(i, i - 1);
                }
            }
        }
        let from = self.passed;
        if self.passed.is_before(self.largest[0]) {
            self.passed = self.largest[0];
        }
        (from, self.passed)
    }
}

/// Miss indications that make a TSN lost (7.2.4).
const THRESHOLD: u8 = 3;

/// TSNs counted singly at most: each costs every SACK a look.
const MAX_SINGLY: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn sack(misses: &mut MissIndications, htna: u32) -> (u32, u32) {
        let mut due = Vec::new();
        let (from, to) = misses.on_sack(Tsn(htna), |_| true, &mut due);
        assert_eq!(due, []);
        (from.0, to.0)
    }

    #[test]
    fn third_indication_makes_a_tsn_lost() {
        // RFC 9260 7.2.4: TSN 1 is missing; 2, 3 and 4 are acknowledged one by one.
        let mut misses = MissIndications::new(Tsn(1));
        assert_eq!(sack(&mut misses, 2), (1, 1));
        assert_eq!(sack(&mut misses, 3), (1, 1));
        assert_eq!(sack(&mut misses, 4), (1, 2), "only TSNs below all three");
        assert_eq!(sack(&mut misses, 5), (2, 3), "each once");
    }

    #[test]
    fn htna_below_a_tsn_gives_it_no_indication() {
        // HTNA: SACKs that newly acknowledge lower TSNs say nothing about higher ones.
        let mut misses = MissIndications::new(Tsn(1));
        for htna in [10, 10, 3, 2, 5, 4] {
            let (_, passed) = sack(&mut misses, htna);
            assert!(passed <= 5, "{htna}");
        }
        assert_eq!(sack(&mut misses, 10), (5, 10));
    }

    #[test]
    fn marks_survive_the_wrap_and_long_pauses() {
        let mut misses = MissIndications::new(Tsn(u32::MAX - 1));
        for htna in [u32::MAX, 0, 1] {
            sack(&mut misses, htna);
        }
        assert_eq!(sack(&mut misses, 2), (u32::MAX, 0));
        misses.advance(Tsn(3_000_000_000));
        misses.advance(Tsn(10));
        assert_eq!(sack(&mut misses, 12), (10, 10));
    }

    #[test]
    fn retransmission_is_judged_by_what_was_sent_after_it() {
        let mut misses = MissIndications::new(Tsn(1));
        misses.count_anew_above(Tsn(1), Tsn(20));
        let mut due = Vec::new();
        for htna in [5, 19, 20, 21, 22] {
            misses.on_sack(Tsn(htna), |_| true, &mut due);
            assert_eq!(due, [], "{htna}");
        }
        misses.on_sack(Tsn(23), |_| true, &mut due);
        assert_eq!(due, [Tsn(1)]);
        due.clear();
        misses.on_sack(Tsn(24), |_| true, &mut due);
        assert_eq!(due, [], "once");
    }

    #[test]
    fn reneged_tsn_starts_with_one_indication() {
        // RFC 9260 6.2.1 D iii.
        let mut misses = MissIndications::new(Tsn(1));
        let mut due = Vec::new();
        for htna in [9, 10, 11] {
            misses.on_sack(Tsn(htna), |_| true, &mut due);
        }
        misses.count_reneged(Tsn(5));
        misses.on_sack(Tsn(12), |_| true, &mut due);
        assert_eq!(due, []);
        misses.on_sack(Tsn(13), |_| true, &mut due);
        assert_eq!(due, [Tsn(5)]);
    }

    #[test]
    fn list_of_single_counts_is_bounded_and_forgets_what_arrived() {
        let mut misses = MissIndications::new(Tsn(1));
        for tsn in 0..100_000 {
            misses.count_reneged(Tsn(tsn));
        }
        assert_eq!(misses.singly.len(), MAX_SINGLY);
        misses.on_sack(Tsn(1), |_| false, &mut Vec::new());
        assert_eq!(misses.singly.len(), 0);
    }
}
