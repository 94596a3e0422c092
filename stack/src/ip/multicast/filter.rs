//! Which sources of a group are listened to (RFC 3376 2, 3; RFC 3810 3, 4).

use std::collections::BTreeSet;
use std::net::IpAddr;

/// Whether a filter names those who are heard or those who are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FilterMode {
    /// The named sources alone are heard.
    Include,
    /// All but the named sources are heard.
    Exclude,
}

/// A filter of a group's sources.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SourceFilter {
    /// What the sources are named for.
    pub mode: FilterMode,
    /// The named ones.
    pub sources: BTreeSet<IpAddr>,
}

impl SourceFilter {
    /// Nobody is heard: as good as not to listen.
    pub const fn nothing() -> Self {
        Self {
            mode: FilterMode::Include,
            sources: BTreeSet::new(),
        }
    }

    /// Everybody is heard.
    pub const fn everything() -> Self {
        Self {
            mode: FilterMode::Exclude,
            sources: BTreeSet::new(),
        }
    }

    /// Whether nobody is heard.
    pub fn is_nothing(&self) -> bool {
        self.mode == FilterMode::Include && self.sources.is_empty()
    }

    /// Whether everybody is heard.
    pub fn is_everything(&self) -> bool {
        self.mode == FilterMode::Exclude && self.sources.is_empty()
    }

    /// Whether the source is heard.
    pub fn permits(&self, source: IpAddr) -> bool {
        self.sources.contains(&source) == (self.mode == FilterMode::Include)
    }

    /// What an interface must hear so that each of its listeners hears what it wants (RFC 3376 3.2, RFC 3810 4.2):
    /// with any EXCLUDE among them all but what all of those exclude and nobody includes, else what any includes.
    pub fn merge<'a>(filters: impl Iterator<Item = &'a Self>) -> Self {
        let mut included = BTreeSet::new();
        let mut excluded: Option<BTreeSet<IpAddr>> = None;
        for filter in filters {
            match (filter.mode, &mut excluded) {
                (FilterMode::Include, _) => included.extend(&filter.sources),
                (FilterMode::Exclude, None) => excluded = Some(filter.sources.clone()),
                (FilterMode::Exclude, Some(all)) => {
                    all.retain(|source| filter.sources.contains(source));
                }
            }
        }
        match excluded {
            None => Self {
                mode: FilterMode::Include,
                sources: included,
            },
            Some(mut sources) => {
                sources.retain(|source| !included.contains(source));
                Self {
                    mode: FilterMode::Exclude,
                    sources,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(mode: FilterMode, sources: &[u8]) -> SourceFilter {
        let sources = sources.iter().map(|n| IpAddr::from([10, 0, 0, *n]));
        SourceFilter {
            mode,
            sources: sources.collect(),
        }
    }

    #[test]
    fn filters_of_several_sockets_are_merged() {
        use FilterMode::{Exclude, Include};
        let (a, b, c, d, e, f, g) = (1, 2, 3, 4, 5, 6, 7);
        let cases = [
            (vec![], filter(Include, &[])),
            // RFC 3376 3.2, the first example.
            (
                vec![
                    filter(Exclude, &[a, b, c, d]),
                    filter(Exclude, &[b, c, d, e]),
                    filter(Include, &[d, e, f]),
                ],
                filter(Exclude, &[b, c]),
            ),
            // And the second.
            (
                vec![
                    filter(Include, &[a, b, c]),
                    filter(Include, &[b, c, d]),
                    filter(Include, &[e, f]),
                ],
                filter(Include, &[a, b, c, d, e, f]),
            ),
            (
                vec![filter(Include, &[g]), filter(Exclude, &[])],
                filter(Exclude, &[]),
            ),
            (
                vec![filter(Include, &[g]), filter(Exclude, &[g])],
                filter(Exclude, &[]),
            ),
        ];
        for (filters, expected) in cases {
            assert_eq!(SourceFilter::merge(filters.iter()), expected, "{filters:?}");
        }
    }

    #[test]
    fn a_filter_says_who_is_heard() {
        use FilterMode::{Exclude, Include};
        let named = IpAddr::from([10, 0, 0, 1]);
        let other = IpAddr::from([10, 0, 0, 2]);
        for (mode, expected) in [(Include, true), (Exclude, false)] {
            let filter = filter(mode, &[1]);
            assert_eq!(filter.permits(named), expected);
            assert_eq!(filter.permits(other), !expected);
        }
        assert!(SourceFilter::nothing().is_nothing() && !SourceFilter::nothing().permits(named));
        assert!(SourceFilter::everything().is_everything());
        assert!(SourceFilter::everything().permits(named));
    }
}
