//! The table of paths: which one is taken, which ones work, and when something is due on any of them.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::random::Random;
use crate::sctp::path::{Path, PathConfig, PathId, PathState, heartbeat};
use crate::time::{Instant, earlier};

/// All paths of an association. Never empty once the association has sent anything.
#[derive(Debug)]
pub struct Paths {
    config: PathConfig,
    paths: Vec<Path>,
    primary: PathId,
    /// Errors in a row on whatever path carries data (RFC 9260 8.1).
    errors: u32,
    /// The smallest PMDCS of all paths (AMDCS, 7.3).
    smallest_pmdcs: usize,
    probes: ProbeBudget,
    heartbeats_run: bool,
    /// What the user has not been told yet.
    changes: VecDeque<(PathId, PathChange)>,
    random: Random,
}

/// What became of a path (RFC 6458 6.1.2, `SCTP_PEER_ADDR_CHANGE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathChange {
    /// The address was shown to be the peer's (RFC 9260 5.4).
    Confirmed,
    /// An inactive path answers again (8.2, 8.3).
    Available,
    /// The path is potentially failed: PotentiallyFailed.Max.Retrans was exceeded (RFC 7829 7.1).
    PotentiallyFailed,
    /// A potentially failed path answers again (RFC 7829 7.1).
    Recovered,
    /// The path is inactive: Path.Max.Retrans was exceeded (8.2).
    Unreachable,
}

/// What an error led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct PathVerdict {
    /// The path has just become inactive.
    pub path_failed: bool,
    /// Association.Max.Retrans is exceeded: the peer counts as unreachable (8.1).
    pub association_failed: bool,
}

/// How many addresses may still be probed in the present RTO (HB.Max.Burst, 5.4): a peer may list addresses of others.
#[derive(Clone, Copy, Debug, Default)]
struct ProbeBudget {
    sent: u32,
    until: Instant,
}

impl Paths {
    /// An empty table.
    pub fn new(config: PathConfig, random: Random) -> Self {
        Self {
            config,
            paths: Vec::new(),
            primary: PathId(0),
            errors: 0,
            smallest_pmdcs: usize::MAX,
            probes: ProbeBudget::default(),
            heartbeats_run: false,
            changes: VecDeque::new(),
            random,
        }
    }

    /// Adds a path of `mtu` octets to `remote`. The first one is the primary path. `None` if the table is full; an
    /// address that is known already keeps its path.
    pub fn add(
        &mut self,
        now: Instant,
        remote: IpAddr,
        local: Option<IpAddr>,
        mtu: usize,
        state: PathState,
    ) -> Option<PathId> {
        if let Some(id) = self.find(remote) {
            return Some(id);
        }
        if self.paths.len() >= self.config.max_paths.min(MAX_PATHS) {
            return None;
        }
        let id = PathId(self.paths.len() as u8);
        self.paths
            .push(Path::new(&self.config, remote, local, mtu, state));
        self.note_pmdcs();
        if self.heartbeats_run {
            self.schedule_heartbeat(now, id);
        }
        Some(id)
    }

    /// How many paths there are.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether there is none yet.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// All paths, in the order of their addition.
    pub fn iter(&self) -> impl Iterator<Item = (PathId, &Path)> {
        self.ids().zip(&self.paths)
    }

    /// All names.
    pub fn ids(&self) -> impl Iterator<Item = PathId> + use<> {
        (0..self.paths.len() as u8).map(PathId)
    }

    /// A path.
    pub fn get(&self, id: PathId) -> &Path {
        &self.paths[id.index()]
    }

    /// A path, to change it.
    pub fn get_mut(&mut self, id: PathId) -> &mut Path {
        &mut self.paths[id.index()]
    }

    /// The path to `remote`.
    pub fn find(&self, remote: IpAddr) -> Option<PathId> {
        self.iter()
            .find_map(|(id, path)| (path.remote == remote).then_some(id))
    }

    /// The configuration new paths get.
    pub fn config(&self) -> &PathConfig {
        &self.config
    }

    /// Changes the configuration, for all paths there are and for those to come. What was set for one path alone stays, as
    /// long as the same parameter is not changed for all.
    pub fn set_config(&mut self, config: PathConfig) {
        let old = std::mem::replace(&mut self.config, config);
        let config = &self.config;
        for path in &mut self.paths {
            path.set_rto_bounds(config);
            if config.path_max_retrans != old.path_max_retrans {
                path.set_max_retrans(config.path_max_retrans);
            }
            if config.pf_max_retrans != old.pf_max_retrans {
                path.set_pf_max_retrans(config.pf_max_retrans);
            }
            if config.max_burst != old.max_burst {
                path.set_max_burst(config.max_burst);
            }
            if config.heartbeat_interval != old.heartbeat_interval {
                path.heartbeat.set_interval(config.heartbeat_interval);
            }
        }
    }

    /// The primary path (RFC 9260 6.4).
    pub fn primary(&self) -> PathId {
        self.primary
    }

    /// Makes a path the primary one; refused for an address that is not confirmed (5.4), `false` then.
    pub fn set_primary(&mut self, id: PathId) -> bool {
        let confirmed = self.get(id).is_confirmed();
        if confirmed {
            self.primary = id;
        }
        confirmed
    }

    /// The path for new data: the primary one while it is active, else the first active one (8.2), else the potentially
    /// failed one with the fewest errors (RFC 7829 3.2, 4), else the primary one all the same. `None` if no address is
    /// confirmed.
    pub fn data_path(&self) -> Option<PathId> {
        let primary = self.paths.get(self.primary.index())?;
        if primary.state == PathState::Active {
            return Some(self.primary);
        }
        let with = |wanted: fn(&Path) -> bool| {
            self.iter()
                .find_map(|(id, path)| wanted(path).then_some(id))
        };
        with(|path| path.state == PathState::Active)
            .or_else(|| self.least_failed(self.ids()))
            .or_else(|| primary.is_confirmed().then_some(self.primary))
            .or_else(|| with(Path::is_confirmed))
    }

    /// The potentially failed path with the fewest errors, the first of several (RFC 7829 3.2, 4).
    fn least_failed(&self, among: impl Iterator<Item = PathId>) -> Option<PathId> {
        among
            .filter(|id| self.get(*id).state == PathState::PotentiallyFailed)
            .min_by_key(|id| self.get(*id).error_count)
    }

    /// The path for what timed out on `from` (6.4): another active one if there is one, or else a potentially failed one.
    /// When there is none of these any confirmed one is tried in turn, for one of them may work again.
    pub fn alternate_to(&self, from: PathId) -> PathId {
        let others = || {
            let count = self.paths.len();
            (1..count).map(move |step| PathId(((from.index() + step) % count) as u8))
        };
        if let Some(active) = others().find(|id| self.get(*id).state == PathState::Active) {
            return active;
        }
        if self.get(from).state == PathState::Active {
            return from;
        }
        self.least_failed(others().chain([from]))
            .or_else(|| others().find(|id| self.get(*id).is_confirmed()))
            .unwrap_or(from)
    }

    /// The smallest PMDCS of all paths: what messages are cut into, so that a chunk can be sent again on any of them
    /// (AMDCS, 7.3, 6.9).
    pub fn smallest_pmdcs(&self) -> usize {
        self.smallest_pmdcs
    }

    /// The largest one.
    pub fn largest_pmdcs(&self) -> usize {
        self.paths.iter().map(Path::pmdcs).max().unwrap_or(0)
    }

    /// A path carries packets of at most `mtu` octets, IP header included (7.3). Whether that changes anything.
    pub fn set_mtu(&mut self, id: PathId, mtu: usize) -> bool {
        let is_other = self.get_mut(id).set_mtu(mtu);
        self.note_pmdcs();
        is_other
    }

    /// No IP packet on this path is longer, whatever it carries.
    pub fn limit_mtu(&mut self, id: PathId, limit: usize) {
        let path = self.get_mut(id);
        path.mtu_limit = limit;
        let mtu = path.mtu;
        self.set_mtu(id, mtu);
    }

    /// Only the paths to addresses that are to be kept stay, and get new names: before anything was sent on any of them
    /// that these names stand for. The first is the primary path unless that stays.
    pub(in crate::sctp) fn retain(&mut self, keep: impl Fn(IpAddr) -> bool) {
        let primary = self.paths.get(self.primary.index()).map(Path::remote);
        self.paths.retain(|path| keep(path.remote));
        // Whoever holds paths back may do so only while there are several, and says so anew.
        for path in &mut self.paths {
            path.set_held_back(false);
        }
        self.changes.clear();
        let primary = primary.and_then(|remote| self.find(remote));
        self.primary = primary.unwrap_or(PathId(0));
        self.note_pmdcs();
    }

    fn note_pmdcs(&mut self) {
        let smallest = self.paths.iter().map(Path::pmdcs).min();
        self.smallest_pmdcs = smallest.unwrap_or(usize::MAX);
    }

    /// The earliest time at which a T3-rtx or a heartbeat wants attention.
    pub fn next_deadline(&self) -> Option<Instant> {
        let due = self
            .paths
            .iter()
            .filter_map(|path| self.heartbeat_time(path));
        earlier(due.min(), self.next_expiry())
    }

    /// The same for what is not a heartbeat to send: a T3-rtx, or a heartbeat that stays unanswered.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.paths.iter().fold(None, |first, path| {
            earlier(first, earlier(path.t3, path.heartbeat.expires()))
        })
    }

    /// A path whose T3-rtx has fired; `send` deals with it.
    pub fn expired_t3(&self, now: Instant) -> Option<PathId> {
        self.iter()
            .find_map(|(id, path)| path.t3.is_some_and(|at| at <= now).then_some(id))
    }
}

/// Errors and signs of life (RFC 9260 8.1, 8.2).
impl Paths {
    /// Errors in a row for the association as a whole.
    pub fn association_errors(&self) -> u32 {
        self.errors
    }

    /// Changes that happened since the last call, oldest first.
    pub fn take_change(&mut self) -> Option<(PathId, PathChange)> {
        self.changes.pop_front()
    }

    /// A timer of the path fired for something that the peer should have acknowledged: DATA, SHUTDOWN.
    pub fn on_timeout_error(&mut self, now: Instant, id: PathId) -> PathVerdict {
        let path_failed = self.count_path_error(now, id);
        self.count_association_error();
        PathVerdict {
            path_failed,
            association_failed: self.has_failed(),
        }
    }

    /// T1 fired for an INIT or COOKIE ECHO on this path: the next one is to take another. It says nothing of the
    /// association, which has a limit of its own for these.
    pub(in crate::sctp) fn on_handshake_timeout(&mut self, now: Instant, id: PathId) {
        self.get_mut(id).back_off();
        if self.paths.len() > 1 {
            self.count_path_error(now, id);
        }
    }

    /// The peer is there, whichever path has shown it: DATA was acknowledged, for instance, or a SHUTDOWN answered.
    pub fn clear_association_errors(&mut self) {
        self.errors = 0;
    }

    /// The path works, and the address is the peer's: what was sent there and nowhere else has been answered (8.2, 5.4, RFC
    /// 7829 3.2, 9 and 10). Its errors are counted anew, and a path that was given up is back.
    pub fn confirm(&mut self, id: PathId) {
        let path = self.get_mut(id);
        path.error_count = 0;
        let change = match path.state {
            PathState::Active => return,
            PathState::Unconfirmed => PathChange::Confirmed,
            PathState::Inactive => PathChange::Available,
            PathState::PotentiallyFailed => PathChange::Recovered,
        };
        path.state = PathState::Active;
        self.note_change(id, change);
    }

    fn count_path_error(&mut self, now: Instant, id: PathId) -> bool {
        // With one path there is nothing to choose.
        let is_multihomed = self.paths.len() > 1;
        let heartbeats_run = self.heartbeats_run;
        let path = self.get_mut(id);
        // Beyond the limit there is nothing more to count (8.3).
        path.error_count = (path.error_count + 1).min(path.max_retrans.saturating_add(1));
        let in_use = matches!(path.state, PathState::Active | PathState::PotentiallyFailed);
        let failed = in_use && path.error_count > path.max_retrans;
        if failed {
            path.state = PathState::Inactive;
            self.note_change(id, PathChange::Unreachable);
        } else if path.state == PathState::Active
            && is_multihomed
            && path.error_count > path.pf_max_retrans
        {
            path.state = PathState::PotentiallyFailed;
            if heartbeats_run && path.heartbeat.is_enabled() {
                path.heartbeat.request(now);
            }
            self.note_change(id, PathChange::PotentiallyFailed);
        }
        failed
    }

    fn count_association_error(&mut self) {
        self.errors = self.errors.saturating_add(1);
    }

    fn has_failed(&self) -> bool {
        self.errors > self.config.association_max_retrans
    }

    fn note_change(&mut self, id: PathId, change: PathChange) {
        // Nobody may be asking: the newest changes are worth the most.
        if self.changes.len() >= MAX_CHANGES {
            self.changes.pop_front();
        }
        self.changes.push_back((id, change));
    }
}

/// Heartbeats (RFC 9260 8.3, 5.4).
impl Paths {
    /// Heartbeats begin: the association is established. Unconfirmed addresses are probed at once.
    pub fn start_heartbeats(&mut self, now: Instant) {
        self.heartbeats_run = true;
        for id in self.ids() {
            self.schedule_heartbeat(now, id);
        }
    }

    /// Heartbeats end: a SHUTDOWN or SHUTDOWN ACK is sent (8.3).
    pub fn stop_heartbeats(&mut self) {
        self.heartbeats_run = false;
        for path in &mut self.paths {
            path.heartbeat.stop();
        }
    }

    /// Turns the regular heartbeats of a path on or off (8.3 A, C).
    pub fn set_heartbeat(&mut self, now: Instant, id: PathId, enabled: HeartbeatSwitch) {
        let heartbeat = &mut self.get_mut(id).heartbeat;
        heartbeat.set_enabled(enabled == HeartbeatSwitch::On);
        if self.heartbeats_run {
            self.schedule_heartbeat(now, id);
        }
    }

    /// Whether a path's regular heartbeats are on.
    pub fn heartbeat(&self, id: PathId) -> HeartbeatSwitch {
        if self.get(id).heartbeat.is_enabled() {
            HeartbeatSwitch::On
        } else {
            HeartbeatSwitch::Off
        }
    }

    /// Sets HB.interval of a path (8.3 B).
    pub fn set_heartbeat_interval(&mut self, now: Instant, id: PathId, interval: Duration) {
        self.get_mut(id).heartbeat.set_interval(interval);
        if self.heartbeats_run {
            self.schedule_heartbeat(now, id);
        }
    }

    /// HB.interval of a path.
    pub fn heartbeat_interval(&self, id: PathId) -> Duration {
        self.get(id).heartbeat.interval()
    }

    /// The user wants a heartbeat on this path now (8.3 D).
    pub fn request_heartbeat(&mut self, now: Instant, id: PathId) {
        self.get_mut(id).heartbeat.request(now);
    }

    /// A path that is due for a heartbeat, and the Heartbeat Info to send there. One for each call; to addresses that are
    /// not confirmed no more than HB.Max.Burst in an RTO (5.4).
    pub fn heartbeat_due(&mut self, now: Instant) -> Option<(PathId, Bytes)> {
        // The one that has waited longest, so that none starves behind the limit.
        let (_, id) = self
            .iter()
            .filter(|(_, path)| self.heartbeat_time(path).is_some_and(|at| at <= now))
            .filter_map(|(id, path)| Some((path.heartbeat.due()?, id)))
            .min()?;
        // What is probed is not measured yet: the RTO is that of the path that carries data.
        let pace = self.get(self.data_path().unwrap_or(id)).rto();
        let path = &mut self.paths[id.index()];
        let rto = path.rtt.rto();
        let info = path.heartbeat.send(now, path.remote, rto, &mut self.random);
        path.stats.heartbeats_sent += 1;
        if path.state == PathState::Unconfirmed {
            self.probes.spend(now, pace);
        }
        Some((id, info))
    }

    /// When a heartbeat may be sent on a path, and is due.
    fn heartbeat_time(&self, path: &Path) -> Option<Instant> {
        let due = path.heartbeat.due()?;
        Some(match path.state {
            PathState::Unconfirmed => due.max(self.probes.held_back(&self.config)),
            _ => due,
        })
    }

    /// Heartbeats that stayed unanswered for an RTO are errors (8.2, 8.3).
    pub fn expire_heartbeats(&mut self, now: Instant) -> PathVerdict {
        let mut verdict = PathVerdict::default();
        for id in self.ids() {
            let path = self.get_mut(id);
            let Some(sent_at) = path.heartbeat.take_expired(now) else {
                continue;
            };
            // RFC 7829 3.2, 6: data that is under way there tells the same, and T3-rtx counts it.
            if path.state != PathState::PotentiallyFailed || path.flight == 0 {
                path.rtt.back_off();
                verdict.path_failed |= self.count_path_error(now, id);
            }
            // 8.1, 5.4: only those on the path that carries data speak of the association.
            if self.get(id).is_confirmed() && self.data_path() == Some(id) {
                self.count_association_error();
                verdict.association_failed |= self.has_failed();
            }
            if !self.heartbeats_run {
                continue;
            }
            let path = &mut self.paths[id.index()];
            if path.is_being_probed() {
                path.heartbeat.request(now);
            } else {
                path.heartbeat
                    .arm(sent_at, path.rtt.rto(), &mut self.random);
            }
        }
        verdict
    }

    /// A HEARTBEAT ACK with this Heartbeat Info arrived (8.3, 5.4). The path it is of; `None` if it answers nothing that
    /// was asked.
    pub fn handle_heartbeat_ack(&mut self, now: Instant, info: &[u8]) -> Option<PathId> {
        let (nonce, remote) = heartbeat::parse_info(info)?;
        let id = self.find(remote)?;
        let path = &mut self.paths[id.index()];
        let sent_at = path.heartbeat.take_answer(nonce)?;
        path.rtt.sample(now.saturating_since(sent_at));
        if self.heartbeats_run {
            path.heartbeat
                .arm(sent_at, path.rtt.rto(), &mut self.random);
        }
        path.stats.heartbeats_answered += 1;
        self.confirm(id);
        // 8.1: with data outstanding only its acknowledgment counts, or a peer that answers heartbeats and nothing else
        // would keep an association alive that carries nothing.
        if self.paths.iter().all(|path| path.flight == 0) {
            self.errors = 0;
        }
        Some(id)
    }

    fn schedule_heartbeat(&mut self, now: Instant, id: PathId) {
        let path = &mut self.paths[id.index()];
        if path.is_being_probed() {
            path.heartbeat.request(now);
        } else {
            path.heartbeat.arm(now, path.rtt.rto(), &mut self.random);
        }
    }
}

impl Path {
    /// Unconfirmed addresses are probed once per RTO until they look dead, then as rarely as any (5.4); potentially failed
    /// ones as long as they are, if heartbeats are on (RFC 7829 3.2, 5).
    fn is_being_probed(&self) -> bool {
        match self.state {
            PathState::Unconfirmed => self.error_count <= self.max_retrans,
            PathState::PotentiallyFailed => self.heartbeat.is_enabled(),
            PathState::Active | PathState::Inactive => false,
        }
    }
}

/// Whether a path's regular heartbeats are sent (RFC 6458 8.1.12, `SPP_HB_ENABLE`, `SPP_HB_DISABLE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeartbeatSwitch {
    /// They are.
    On,
    /// They are not; those asked for are.
    Off,
}

impl ProbeBudget {
    /// Before this time no address may be probed; the epoch if there is no such bound.
    fn held_back(&self, config: &PathConfig) -> Instant {
        if self.sent >= config.heartbeat_max_burst.max(1) {
            self.until
        } else {
            Instant::ZERO
        }
    }

    fn spend(&mut self, now: Instant, rto: Duration) {
        if now >= self.until {
            *self = Self {
                sent: 0,
                until: now + rto,
            };
        }
        self.sent += 1;
    }
}

/// Limit of a table whatever is configured: names have 8 bits, and scans are to stay short.
const MAX_PATHS: usize = 64;

/// Changes kept for a user who does not ask.
const MAX_CHANGES: usize = 4 * MAX_PATHS;
