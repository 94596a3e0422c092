//! Who listens to what on an interface, and when that is told (RFC 3376 5, 7; RFC 3810 6, 8; RFC 2236 3; RFC 2710 4).
//!
//! Owned here: the merged filter of each group, reports of changes and their repetition, answers to queries, the version
//! that a link's routers speak. One machine for both IP versions: they differ in packets and in nothing else. Left to
//! others: packets ([`super::igmp`], [`super::mld`]), who the listeners are.
//!
//! ```text
//!  Current   set() ─▶ change pending ─▶ report, robustness times in all, up to 1 s apart
//!            query ─▶ one answer for all groups, or one for each group asked for
//!  older     set() ─▶ report, robustness times, up to 10 s apart;   leaving ─▶ Leave, if we reported last
//!            query ─▶ a timer for each group;   another's report ─▶ ours is not sent
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use super::{
    Config, FilterMode, GroupRecord, Message, Query, SourceFilter, Transmit, Version,
    is_always_joined, is_reported,
};
use crate::link::InterfaceId;
use crate::random::Random;
use crate::time::{Instant, earlier};
use crate::wire::group_record::RecordKind;

/// Who listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// A socket, by a number of its own.
    Socket(u64),
    /// This host, for an address that it has (RFC 4862 5.4.2).
    Address(IpAddr),
}

/// The groups of all interfaces.
#[derive(Debug)]
pub struct Memberships {
    config: Config,
    random: Random,
    /// By interface and whether it is about IPv6.
    links: BTreeMap<(InterfaceId, bool), Link>,
    output: VecDeque<Transmit>,
}

impl Memberships {
    /// Without any group.
    pub const fn new(config: Config, random: Random) -> Self {
        Self {
            config,
            random,
            links: BTreeMap::new(),
            output: VecDeque::new(),
        }
    }

    /// The limits.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// What `holder` listens to in a group, in place of what it did; [`SourceFilter::nothing`] leaves the group.
    pub fn set(
        &mut self,
        now: Instant,
        interface: InterfaceId,
        group: IpAddr,
        holder: Holder,
        filter: SourceFilter,
    ) {
        let link = self
            .links
            .entry((interface, group.is_ipv6()))
            .or_insert_with(|| Link::new(&self.config));
        let version = link.version(now);
        let robustness = link.robustness;
        let entry = link.groups.entry(group).or_default();
        let before = entry.change_filter(holder, filter);
        if before != entry.filter && interface != InterfaceId::LOOPBACK && is_reported(group) {
            if version == Version::Current {
                entry.change.note(&before, &entry.filter, robustness);
                entry.change.next = Some(now);
                link.deadline = earlier(link.deadline, Some(now));
            } else if before.is_nothing() {
                entry.repeats = robustness;
                entry.report_at = Some(now);
                link.deadline = earlier(link.deadline, Some(now));
            } else if entry.filter.is_nothing() {
                entry.report_at = None;
                // RFC 2236 3, RFC 2710 4: who was not the last to report need not say it.
                if std::mem::take(&mut entry.is_last_reporter) && version == Version::Older {
                    self.output.push_back(Transmit {
                        interface,
                        message: Message::Leave { group },
                    });
                }
            }
        }
        if entry.is_idle() {
            link.groups.remove(&group);
        }
    }

    /// Whether anybody on the interface hears `source` in a group.
    pub fn accepts(&self, interface: InterfaceId, group: IpAddr, source: IpAddr) -> bool {
        let link = self.links.get(&(interface, group.is_ipv6()));
        let joined = link.and_then(|link| link.groups.get(&group));
        joined.is_some_and(|joined| joined.filter.permits(source)) || is_always_joined(group)
    }

    /// The groups that are listened to on an interface, and from whom.
    pub fn groups(&self, interface: InterfaceId) -> impl Iterator<Item = (IpAddr, &SourceFilter)> {
        [false, true].into_iter().flat_map(move |is_v6| {
            let link = self.links.get(&(interface, is_v6)).into_iter();
            let groups = link.flat_map(|link| &link.groups);
            groups
                .filter(|(_, group)| !group.filter.is_nothing())
                .map(|(address, group)| (*address, &group.filter))
        })
    }

    /// Nobody may have heard what was told so far: the link has come up, or there is an address to say it from now.
    pub fn announce(&mut self, now: Instant, interface: InterfaceId, is_v6: bool) {
        let Some(link) = self.links.get_mut(&(interface, is_v6)) else {
            return;
        };
        if interface == InterfaceId::LOOPBACK {
            return;
        }
        let version = link.version(now);
        for (address, group) in &mut link.groups {
            if group.filter.is_nothing() || !is_reported(*address) {
                continue;
            }
            if version == Version::Current {
                let nothing = SourceFilter::nothing();
                group.change.note(&nothing, &group.filter, link.robustness);
                group.change.next = Some(now);
            } else {
                group.repeats = link.robustness;
                group.report_at = Some(now);
            }
            link.deadline = Some(now);
        }
    }

    /// A router's query.
    pub fn handle_query(
        &mut self,
        now: Instant,
        interface: InterfaceId,
        is_v6: bool,
        query: &Query,
    ) {
        // Its version counts for groups that are joined later.
        let link = self
            .links
            .entry((interface, is_v6))
            .or_insert_with(|| Link::new(&self.config));
        let version = link.learn(now, query);
        let mut delay = || random_delay(&mut self.random, query.max_response);
        if version == Version::Current {
            let at = now + delay();
            link.answer(at, query, self.config.max_query_sources);
            return;
        }
        for (address, group) in &mut link.groups {
            let is_asked = query.group.is_none_or(|asked| asked == *address);
            if !is_asked || group.filter.is_nothing() || !is_reported(*address) {
                continue;
            }
            // RFC 2236 3, RFC 2710 4: a timer that runs is set anew only if it would run longer than asked for.
            let latest = now + query.max_response;
            if group.report_at.is_none_or(|at| at > latest) {
                let at = now + delay();
                group.report_at = Some(at);
                group.repeats = 1;
                link.deadline = earlier(link.deadline, Some(at));
            }
        }
    }

    /// Another host has reported a group, in an older version: one report is enough (RFC 2236 3, RFC 2710 4).
    pub fn handle_report(&mut self, now: Instant, interface: InterfaceId, group: IpAddr) {
        let Some(link) = self.links.get_mut(&(interface, group.is_ipv6())) else {
            return;
        };
        // RFC 3376 7.2.2: who speaks the current version is not silenced by others.
        if link.version(now) == Version::Current {
            return;
        }
        if let Some(group) = link.groups.get_mut(&group)
            && group.report_at.take().is_some()
        {
            group.is_last_reporter = false;
        }
    }

    /// An interface is gone.
    pub fn remove_interface(&mut self, interface: InterfaceId) {
        self.links.retain(|(of, _), _| *of != interface);
        self.output
            .retain(|transmit| transmit.interface != interface);
    }

    /// Time has passed: what is due can be had from [`Self::poll_transmit`].
    pub fn handle_timeout(&mut self, now: Instant) {
        for (&(interface, is_v6), link) in &mut self.links {
            if link.deadline.is_none_or(|at| at > now) {
                continue;
            }
            let mut say = |message| self.output.push_back(Transmit { interface, message });
            match link.version(now) {
                Version::Current => {
                    let answers = link.answers(now);
                    let interval = self.config.unsolicited_report_interval;
                    let again = random_delay(&mut self.random, interval);
                    let changes = link.changes(now, again);
                    for records in [answers, changes] {
                        if !records.is_empty() {
                            say(Message::State { is_v6, records });
                        }
                    }
                }
                version => {
                    let interval = self.config.older_unsolicited_report_interval;
                    let delay = || random_delay(&mut self.random, interval);
                    for group in link.reports(now, delay) {
                        say(Message::Report { version, group });
                    }
                }
            }
            link.groups.retain(|_, group| !group.is_idle());
            link.find_deadline();
        }
    }

    /// When [`Self::handle_timeout`] is due; now, or earlier, if something was changed.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let links = self.links.values().filter_map(|link| link.deadline);
        links.min()
    }

    /// What is to be sent.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.output.pop_front()
    }
}

/// A random time up to `most` (RFC 3376 5.2: from the range (0, Max Resp Time]).
fn random_delay(random: &mut Random, most: Duration) -> Duration {
    let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(random.next_u64() % nanos.saturating_add(1))
}

/// One IP version on one interface.
#[derive(Debug)]
struct Link {
    groups: BTreeMap<IpAddr, Group>,
    /// Until when routers of IGMPv1, and of IGMPv2 or MLDv1, count as present.
    older: [Option<Instant>; 2],
    /// The version that was spoken when this was last looked at.
    spoken: Version,
    /// The querier's.
    robustness: u8,
    /// The querier's.
    query_interval: Duration,
    /// When a general query is answered.
    general: Option<Instant>,
    /// When there is something to do; it may turn out to be nothing.
    deadline: Option<Instant>,
    defaults: (u8, Duration),
}

impl Link {
    fn new(config: &Config) -> Self {
        let robustness = config.robustness.max(1);
        Self {
            groups: BTreeMap::new(),
            older: [None; 2],
            spoken: Version::Current,
            robustness,
            query_interval: config.query_interval,
            general: None,
            deadline: None,
            defaults: (robustness, config.query_interval),
        }
    }

    /// The version that is spoken now (RFC 3376 7.2.1, RFC 3810 8.2.1): with a change, all that is pending is dropped.
    fn version(&mut self, now: Instant) -> Version {
        let is_present = |until: Option<Instant>| until.is_some_and(|until| until > now);
        let version = match self.older {
            [v1, _] if is_present(v1) => Version::Igmpv1,
            [_, v2] if is_present(v2) => Version::Older,
            _ => Version::Current,
        };
        if version != self.spoken {
            // In the current version everybody reports, so for all that is known nobody else has the group.
            let has_reported = self.spoken == Version::Current;
            self.spoken = version;
            self.general = None;
            for group in self.groups.values_mut() {
                group.response = None;
                group.change = Change::default();
                group.report_at = None;
                group.is_last_reporter |= has_reported && !group.filter.is_nothing();
            }
            self.groups.retain(|_, group| !group.is_idle());
            self.deadline = None;
        }
        version
    }

    /// What a query says of the router that sent it; the version that is spoken from now on.
    fn learn(&mut self, now: Instant, query: &Query) -> Version {
        // RFC 3376 8.12, RFC 3810 9.12: older version querier present timeout.
        let timeout = self.query_interval * u32::from(self.robustness) + query.max_response;
        match query.version {
            Version::Igmpv1 => self.older[0] = Some(now + timeout),
            Version::Older => self.older[1] = Some(now + timeout),
            Version::Current => {
                let (robustness, interval) = self.defaults;
                self.robustness = match query.robustness {
                    0 => robustness,
                    said => said,
                };
                self.query_interval = if query.interval.is_zero() {
                    interval
                } else {
                    query.interval
                };
            }
        }
        self.version(now)
    }

    /// Schedules the answer to a query of the current version for `at` (RFC 3376 5.2, RFC 3810 6.2).
    fn answer(&mut self, at: Instant, query: &Query, max_sources: usize) {
        // Rule 1: all is said sooner anyway.
        if self.general.is_some_and(|general| general <= at) {
            return;
        }
        let Some(address) = query.group else {
            // Rule 2.
            self.general = Some(at);
            self.deadline = earlier(self.deadline, Some(at));
            return;
        };
        let Some(group) = self.groups.get_mut(&address) else {
            return;
        };
        if group.filter.is_nothing() || !is_reported(address) {
            return;
        }
        let asked = query.sources.iter().copied();
        let response = match group.response.take() {
            // Rule 3.
            None => Response {
                at,
                sources: asked.collect(),
            },
            // Rule 4: the whole group is asked for now, or was before.
            Some(pending) if query.sources.is_empty() || pending.sources.is_empty() => Response {
                at: pending.at.min(at),
                sources: BTreeSet::new(),
            },
            // Rule 5.
            Some(mut pending) => {
                pending.sources.extend(asked);
                pending.at = pending.at.min(at);
                pending
            }
        };
        self.deadline = earlier(self.deadline, Some(response.at));
        let is_much = response.sources.len() > max_sources;
        group.response = Some(Response {
            sources: if is_much {
                BTreeSet::new()
            } else {
                response.sources
            },
            ..response
        });
    }

    /// The answers that are due.
    fn answers(&mut self, now: Instant) -> Vec<GroupRecord> {
        let is_due = |at: Instant| at <= now;
        let is_general = self.general.take_if(|at| is_due(*at)).is_some();
        let mut records = Vec::new();
        for (address, group) in &mut self.groups {
            let response = group.response.take_if(|response| is_due(response.at));
            if group.filter.is_nothing() || !is_reported(*address) {
                continue;
            }
            if is_general {
                records.push(group.state_record(*address));
            } else if let Some(response) = response {
                records.extend(group.response_record(*address, response));
            }
        }
        records
    }

    /// The changes that are due to be told; what is told once more is told `again` later, all together.
    fn changes(&mut self, now: Instant, again: Duration) -> Vec<GroupRecord> {
        let mut records = Vec::new();
        for (address, group) in &mut self.groups {
            if group.change.next.is_some_and(|at| at <= now) {
                group.change.tell(*address, &group.filter, &mut records);
                group.change.next = group.change.is_pending().then(|| now + again);
            }
        }
        records
    }

    /// The groups that are due to be reported in an older version.
    fn reports(&mut self, now: Instant, mut delay: impl FnMut() -> Duration) -> Vec<IpAddr> {
        let mut due = Vec::new();
        for (address, group) in &mut self.groups {
            if group.report_at.is_some_and(|at| at <= now) {
                due.push(*address);
                group.is_last_reporter = true;
                group.repeats = group.repeats.saturating_sub(1);
                group.report_at = (group.repeats > 0).then(|| now + delay());
            }
        }
        due
    }

    fn find_deadline(&mut self) {
        let groups = self.groups.values().map(|group| {
            let response = group.response.as_ref().map(|response| response.at);
            earlier(earlier(group.report_at, group.change.next), response)
        });
        self.deadline = groups.fold(self.general, earlier);
    }
}

/// A group on an interface.
#[derive(Debug)]
struct Group {
    holders: BTreeMap<Holder, SourceFilter>,
    /// Holders that hear everybody: with one of them there is nothing to merge.
    open: usize,
    /// What all of them together hear.
    filter: SourceFilter,
    /// When a query for this group is answered.
    response: Option<Response>,
    change: Change,
    /// In an older version: when it is reported, and how often from then on.
    report_at: Option<Instant>,
    repeats: u8,
    is_last_reporter: bool,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            holders: BTreeMap::new(),
            open: 0,
            filter: SourceFilter::nothing(),
            response: None,
            change: Change::default(),
            report_at: None,
            repeats: 0,
            is_last_reporter: false,
        }
    }
}

impl Group {
    /// Gives what was heard before.
    fn change_filter(&mut self, holder: Holder, filter: SourceFilter) -> SourceFilter {
        self.open += usize::from(filter.is_everything());
        let previous = if filter.is_nothing() {
            self.holders.remove(&holder)
        } else {
            self.holders.insert(holder, filter)
        };
        self.open -= usize::from(previous.is_some_and(|previous| previous.is_everything()));
        let merged = if self.open > 0 {
            SourceFilter::everything()
        } else {
            SourceFilter::merge(self.holders.values())
        };
        std::mem::replace(&mut self.filter, merged)
    }

    /// Whether nobody listens and nothing is left to be told.
    fn is_idle(&self) -> bool {
        self.holders.is_empty() && !self.change.is_pending()
    }

    fn state_record(&self, group: IpAddr) -> GroupRecord {
        GroupRecord {
            kind: match self.filter.mode {
                FilterMode::Include => RecordKind::IsInclude,
                FilterMode::Exclude => RecordKind::IsExclude,
            },
            group,
            sources: self.filter.sources.iter().copied().collect(),
        }
    }

    /// The answer to a query for this group: of the sources asked for, those that are heard, if any (RFC 3376 5.2).
    fn response_record(&self, group: IpAddr, response: Response) -> Option<GroupRecord> {
        if response.sources.is_empty() {
            return Some(self.state_record(group));
        }
        let mut sources: Vec<_> = response.sources.into_iter().collect();
        sources.retain(|source| self.filter.permits(*source));
        (!sources.is_empty()).then_some(GroupRecord {
            kind: RecordKind::IsInclude,
            group,
            sources,
        })
    }
}

/// A pending answer.
#[derive(Debug)]
struct Response {
    at: Instant,
    /// The sources asked for; none for the whole group.
    sources: BTreeSet<IpAddr>,
}

/// What is still to be told of a change (RFC 3376 5.1, RFC 3810 6.1).
#[derive(Debug, Default)]
struct Change {
    next: Option<Instant>,
    /// Reports that still say the mode.
    mode: u8,
    /// Reports that still say whether the source is heard.
    sources: BTreeMap<IpAddr, u8>,
}

impl Change {
    fn is_pending(&self) -> bool {
        self.mode > 0 || !self.sources.is_empty()
    }

    fn note(&mut self, before: &SourceFilter, after: &SourceFilter, robustness: u8) {
        if before.mode == after.mode {
            let changed = before.sources.symmetric_difference(&after.sources);
            self.sources
                .extend(changed.map(|source| (*source, robustness)));
        } else {
            // What names the mode names all sources, too.
            self.mode = robustness;
            self.sources.clear();
        }
    }

    /// One report more has been made.
    fn tell(&mut self, group: IpAddr, filter: &SourceFilter, records: &mut Vec<GroupRecord>) {
        if self.mode > 0 {
            self.mode -= 1;
            records.push(GroupRecord {
                kind: match filter.mode {
                    FilterMode::Include => RecordKind::ToInclude,
                    FilterMode::Exclude => RecordKind::ToExclude,
                },
                group,
                sources: filter.sources.iter().copied().collect(),
            });
        } else {
            let (allowed, blocked): (Vec<_>, Vec<_>) = self
                .sources
                .keys()
                .copied()
                .partition(|source| filter.permits(*source));
            for (kind, sources) in [
                (RecordKind::AllowNew, allowed),
                (RecordKind::BlockOld, blocked),
            ] {
                if !sources.is_empty() {
                    records.push(GroupRecord {
                        kind,
                        group,
                        sources,
                    });
                }
            }
        }
        for left in self.sources.values_mut() {
            *left -= 1;
        }
        self.sources.retain(|_, left| *left > 0);
    }
}

#[cfg(test)]
mod tests;
