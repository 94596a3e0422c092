//! Lists that routers keep alive: DNS servers and domains to search in (RFC 8106 6.1).

use crate::ip::autoconf::{end_of_lifetime, if_ever};
use crate::time::Instant;

/// What routers have named, in the order of preference, each with its end.
#[derive(Clone, Debug)]
pub struct ExpiringList<T> {
    most: usize,
    entries: Vec<(T, Instant)>,
}

impl<T: PartialEq + Clone> ExpiringList<T> {
    /// An empty list of at most that many.
    pub const fn new(most: usize) -> Self {
        Self {
            most,
            entries: Vec::new(),
        }
    }

    /// An option with these, that may be used for so many seconds (RFC 8106 6.2): 0 takes them away; those that are new
    /// come before all others, in the option's order; if there are too many then, what ends first goes.
    pub fn handle_option(
        &mut self,
        now: Instant,
        items: impl IntoIterator<Item = T>,
        lifetime: u32,
    ) {
        let until = end_of_lifetime(now, lifetime);
        let mut new: Vec<(T, Instant)> = Vec::new();
        for item in items {
            let known = self.entries.iter().position(|(known, _)| *known == item);
            match known {
                Some(at) if lifetime == 0 => {
                    self.entries.remove(at);
                }
                Some(at) => self.entries[at].1 = until,
                None if lifetime == 0 || new.len() >= self.most => {}
                None if new.iter().any(|(other, _)| *other == item) => {}
                None => new.push((item, until)),
            }
        }
        self.entries.splice(0..0, new);
        while self.entries.len() > self.most {
            // Of those that end together the last.
            let first_to_end = (0..self.entries.len())
                .rev()
                .min_by_key(|at| self.entries[*at].1);
            let Some(at) = first_to_end else { break };
            self.entries.remove(at);
        }
    }

    /// Forgets what has ended.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.entries.retain(|(_, until)| now < *until);
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let ends = self.entries.iter().map(|(_, until)| *until);
        ends.min().and_then(if_ever)
    }

    /// All, the one to be tried first first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(item, _)| item)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn items(list: &ExpiringList<u8>) -> Vec<u8> {
        list.iter().copied().collect()
    }

    /// RFC 8106 6.2, steps (b), (c) and (d).
    #[test]
    fn new_ones_come_first_in_the_options_order() {
        let now = Instant::from_millis(1000);
        let mut list = ExpiringList::new(4);
        list.handle_option(now, [1, 2], 100);
        list.handle_option(now, [3, 2, 3], 50);
        assert_eq!(items(&list), [3, 1, 2]);
        list.handle_option(now, [1, 9], 0);
        assert_eq!(items(&list), [3, 2]);
        assert_eq!(list.poll_timeout(), Some(now + Duration::from_secs(50)));
        list.handle_timeout(now + Duration::from_secs(50));
        assert_eq!(items(&list), [0u8; 0]);
        assert_eq!(list.poll_timeout(), None);
    }

    /// RFC 8106 6.2 (d): of too many, what ends first goes.
    #[test]
    fn the_list_is_bounded() {
        let now = Instant::ZERO;
        let mut list = ExpiringList::new(3);
        list.handle_option(now, [1], 10);
        list.handle_option(now, [2], u32::MAX);
        list.handle_option(now, [3], 30);
        list.handle_option(now, [4], 20);
        assert_eq!(items(&list), [4, 3, 2]);
        list.handle_option(now, 10..200, 40);
        assert_eq!(items(&list), [10, 11, 2]);
        list.handle_timeout(Instant::FAR_FUTURE - Duration::from_secs(1));
        assert_eq!(items(&list), [2], "all ones: for ever");
        assert_eq!(list.poll_timeout(), None);
    }
}
