//! One neighbour: the states of RFC 4861 7.3.2 and their transitions (7.2.5, 7.3.3, appendix C).
//!
//! An input changes the state and returns what is to be done; limits, timers and events are the cache's.

use std::net::IpAddr;
use std::time::Duration;

use tidewire_netdev::MacAddress;

use crate::neighbor::pending::Pending;
use crate::neighbor::{Config, NeighborState, Resolution, UpperLayerAdvice};
use crate::random::Random;
use crate::time::Instant;

/// A neighbour.
#[derive(Debug)]
pub(super) struct Entry<W> {
    state: State<W>,
    /// Our address that was last used with it, to ask with. None before the first use.
    source: Option<IpAddr>,
    is_router: bool,
    last_used: Instant,
}

#[derive(Debug)]
enum State<W> {
    /// Being asked for.
    Incomplete {
        sent: u32,
        retransmit: Instant,
        pending: Pending<W>,
    },
    /// Its address is known.
    Known(Known),
    /// It did not answer; remembered so long.
    Failed { until: Instant },
}

#[derive(Clone, Copy, Debug)]
struct Known {
    address: MacAddress,
    /// When the address was learnt.
    updated: Instant,
    reachability: Reachability,
}

/// How sure it is that the neighbour is at its address.
#[derive(Clone, Copy, Debug)]
enum Reachability {
    /// Confirmed; holds for `time` after each confirmation.
    Reachable { until: Instant, time: Duration },
    /// Not confirmed, not used.
    Stale,
    /// Not confirmed, used.
    Delay { until: Instant },
    /// Being asked whether it is there.
    Probe { sent: u32, retransmit: Instant },
    /// Configured.
    Permanent,
}

/// What transitions depend on besides their input.
pub(super) struct Context<'a> {
    pub(super) now: Instant,
    pub(super) config: &'a Config,
    pub(super) random: &'a mut Random,
}

/// What somebody said of a neighbour: an advertisement of RFC 4861 4.4, or an ARP packet put in its words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Statement {
    /// Where it is.
    pub(super) address: Option<MacAddress>,
    /// It answers a question of ours.
    pub(super) solicited: bool,
    /// It replaces what is known.
    pub(super) overrides: bool,
    /// Whether the neighbour is a router, where that is said.
    pub(super) router: Option<bool>,
}

/// What using an entry means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) resolution: Resolution,
    /// Its neighbour is to be asked.
    pub(super) solicit: bool,
}

/// What a timer means.
#[derive(Debug)]
pub(super) enum Step<W> {
    /// Nothing, or a change of state alone.
    Nothing,
    /// The neighbour is to be asked.
    Solicit,
    /// The neighbour did not answer; these waited for it.
    Failed(Pending<W>),
    /// The entry goes.
    Remove(Removal),
}

/// Why an entry goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// Nobody used it.
    Unused,
    /// Its neighbour answered once and then no more.
    ProbeFailed,
}

/// How much an entry matters when there is no room: the lowest goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// It tells that nobody answered.
    Failed,
    /// Nobody uses it.
    Stale,
    /// Being asked for by nobody who waits: what strangers can cause is among these.
    Asking,
    /// Somebody uses it.
    Used,
    /// Somebody waits for it.
    Awaited,
}

impl<W> Entry<W> {
    /// A neighbour that somebody wants to send to and that is to be asked for.
    pub(super) fn incomplete(context: &Context<'_>, source: IpAddr) -> Self {
        Self {
            state: asking(context),
            source: Some(source),
            is_router: false,
            last_used: context.now,
        }
    }

    /// A neighbour that is asked once, though nobody sends to it.
    pub(super) fn probing(context: &Context<'_>, source: IpAddr) -> Self {
        let mut entry = Self::incomplete(context, source);
        if let State::Incomplete { sent, .. } = &mut entry.state {
            *sent = context.config.max_multicast_solicit.max(1);
        }
        entry
    }

    /// It has said that it is a router (RFC 4861 6.3.4).
    pub(super) const fn set_router(&mut self) {
        self.is_router = true;
    }

    /// A neighbour that made itself known (RFC 4861 7.2.3).
    pub(super) const fn stale(now: Instant, address: MacAddress) -> Self {
        Self::known(now, address, Reachability::Stale)
    }

    /// A neighbour that was configured.
    pub(super) const fn permanent(now: Instant, address: MacAddress) -> Self {
        Self::known(now, address, Reachability::Permanent)
    }

    const fn known(now: Instant, address: MacAddress, reachability: Reachability) -> Self {
        Self {
            state: State::Known(Known {
                address,
                updated: now,
                reachability,
            }),
            source: None,
            is_router: false,
            last_used: now,
        }
    }

    /// Somebody sends to it (RFC 4861 7.3.3).
    pub(super) fn use_now(
        &mut self,
        context: &mut Context<'_>,
        source: IpAddr,
        advice: UpperLayerAdvice,
    ) -> Use {
        let now = context.now;
        self.last_used = now;
        self.source = Some(source);
        match &mut self.state {
            State::Incomplete { .. } => Use {
                resolution: Resolution::Pending,
                solicit: false,
            },
            State::Failed { until } => {
                let resolution = if now < *until {
                    Resolution::Failed
                } else {
                    Resolution::Pending
                };
                self.state = asking(context);
                Use {
                    resolution,
                    solicit: true,
                }
            }
            State::Known(known) => {
                if advice == UpperLayerAdvice::ForwardProgress {
                    known.confirm(context);
                } else {
                    known.use_unconfirmed(now, context.config);
                }
                Use {
                    resolution: Resolution::Reachable(known.address),
                    solicit: false,
                }
            }
        }
    }

    /// An advertisement, or what amounts to one (RFC 4861 7.2.5). Gives who waited for its address.
    pub(super) fn handle_statement(
        &mut self,
        context: &mut Context<'_>,
        statement: Statement,
    ) -> Option<Pending<W>> {
        match &mut self.state {
            State::Incomplete { .. } => {
                self.is_router = statement.router.unwrap_or(self.is_router);
                let address = statement.address?;
                let reachability = if statement.solicited {
                    reachable(context)
                } else {
                    Reachability::Stale
                };
                self.learn(context.now, address, reachability)
            }
            State::Known(known) => {
                if known.handle_statement(context, statement) {
                    self.is_router = statement.router.unwrap_or(self.is_router);
                }
                None
            }
            // As if there were no entry: nobody is asking.
            State::Failed { .. } => None,
        }
    }

    /// It made itself known by asking for us (RFC 4861 7.2.3). Gives who waited for its address.
    pub(super) fn handle_question(
        &mut self,
        now: Instant,
        address: MacAddress,
    ) -> Option<Pending<W>> {
        match &mut self.state {
            State::Incomplete { .. } | State::Failed { .. } => {
                self.learn(now, address, Reachability::Stale)
            }
            State::Known(known) => {
                if !known.is_permanent() && known.address != address {
                    known.replace(now, address);
                    known.reachability = Reachability::Stale;
                }
                None
            }
        }
    }

    /// Its address is configured from now on. Gives who waited for it.
    pub(super) fn configure(&mut self, now: Instant, address: MacAddress) -> Option<Pending<W>> {
        self.learn(now, address, Reachability::Permanent)
    }

    fn learn(
        &mut self,
        now: Instant,
        address: MacAddress,
        reachability: Reachability,
    ) -> Option<Pending<W>> {
        let known = State::Known(Known {
            address,
            updated: now,
            reachability,
        });
        match std::mem::replace(&mut self.state, known) {
            State::Incomplete { pending, .. } => Some(pending),
            State::Known(_) | State::Failed { .. } => None,
        }
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, context: &Context<'_>) -> Step<W> {
        let (now, config) = (context.now, context.config);
        if self.deadline(config).is_none_or(|deadline| now < deadline) {
            return Step::Nothing;
        }
        match &mut self.state {
            State::Incomplete {
                sent, retransmit, ..
            } if *sent < config.max_multicast_solicit => {
                *sent += 1;
                *retransmit = now + config.retrans_timer;
                Step::Solicit
            }
            State::Incomplete { .. } => {
                let failed = State::Failed {
                    until: now + config.failed_time,
                };
                match std::mem::replace(&mut self.state, failed) {
                    State::Incomplete { pending, .. } => Step::Failed(pending),
                    State::Known(_) | State::Failed { .. } => Step::Nothing,
                }
            }
            State::Failed { .. } => Step::Remove(Removal::Unused),
            State::Known(known) => known.handle_timeout(now, config),
        }
    }

    /// The question just asked for could not be put: it counts for nothing.
    pub(super) const fn postpone(&mut self) {
        match &mut self.state {
            State::Incomplete { sent, .. }
            | State::Known(Known {
                reachability: Reachability::Probe { sent, .. },
                ..
            }) => *sent = sent.saturating_sub(1),
            State::Known(_) | State::Failed { .. } => {}
        }
    }

    /// Questions can be put again; whether its first one, postponed so far, is to be put now.
    pub(super) fn resume(&mut self, now: Instant, config: &Config) -> bool {
        match &mut self.state {
            State::Incomplete {
                sent: sent @ 0,
                retransmit,
                ..
            }
            | State::Known(Known {
                reachability:
                    Reachability::Probe {
                        sent: sent @ 0,
                        retransmit,
                    },
                ..
            }) => {
                *sent = 1;
                *retransmit = now + config.retrans_timer;
                true
            }
            State::Incomplete { .. } | State::Known(_) | State::Failed { .. } => false,
        }
    }

    /// When something is due.
    pub(super) fn deadline(&self, config: &Config) -> Option<Instant> {
        match &self.state {
            State::Incomplete { retransmit, .. } => Some(*retransmit),
            State::Failed { until } => Some(*until),
            State::Known(known) => match known.reachability {
                Reachability::Reachable { until, .. } | Reachability::Delay { until } => {
                    Some(until)
                }
                Reachability::Stale => Some(self.last_used + config.gc_stale_time),
                Reachability::Probe { retransmit, .. } => Some(retransmit),
                Reachability::Permanent => None,
            },
        }
    }

    /// How much it matters; `None`: it stays.
    pub(super) const fn rank(&self) -> Option<Rank> {
        match &self.state {
            State::Incomplete { pending, .. } if pending.has_waiters() => Some(Rank::Awaited),
            State::Incomplete { .. } => Some(Rank::Asking),
            State::Failed { .. } => Some(Rank::Failed),
            State::Known(known) => match known.reachability {
                Reachability::Permanent => None,
                Reachability::Stale => Some(Rank::Stale),
                Reachability::Reachable { .. }
                | Reachability::Delay { .. }
                | Reachability::Probe { .. } => Some(Rank::Used),
            },
        }
    }

    pub(super) const fn state(&self) -> NeighborState {
        match &self.state {
            State::Incomplete { .. } => NeighborState::Incomplete,
            State::Failed { .. } => NeighborState::Failed,
            State::Known(known) => match known.reachability {
                Reachability::Reachable { .. } => NeighborState::Reachable,
                Reachability::Stale => NeighborState::Stale,
                Reachability::Delay { .. } => NeighborState::Delay,
                Reachability::Probe { .. } => NeighborState::Probe,
                Reachability::Permanent => NeighborState::Permanent,
            },
        }
    }

    /// Its address on the link, if known.
    pub(super) const fn address(&self) -> Option<MacAddress> {
        match &self.state {
            State::Known(known) => Some(known.address),
            State::Incomplete { .. } | State::Failed { .. } => None,
        }
    }

    /// Whether its address was learnt so lately that another one is not to replace it.
    pub(super) fn is_locked(&self, context: &Context<'_>) -> bool {
        match &self.state {
            State::Known(known) => context.now < known.updated + context.config.lock_time,
            State::Incomplete { .. } | State::Failed { .. } => false,
        }
    }

    /// Who and what waits for it.
    pub(super) const fn pending_mut(&mut self) -> Option<&mut Pending<W>> {
        match &mut self.state {
            State::Incomplete { pending, .. } => Some(pending),
            State::Known(_) | State::Failed { .. } => None,
        }
    }

    /// Who and what waited for it, at its end.
    pub(super) fn into_pending(self) -> Option<Pending<W>> {
        match self.state {
            State::Incomplete { pending, .. } => Some(pending),
            State::Known(_) | State::Failed { .. } => None,
        }
    }

    pub(super) const fn source(&self) -> Option<IpAddr> {
        self.source
    }

    pub(super) const fn is_router(&self) -> bool {
        self.is_router
    }

    pub(super) const fn last_used(&self) -> Instant {
        self.last_used
    }
}

impl Known {
    const fn is_permanent(&self) -> bool {
        matches!(self.reachability, Reachability::Permanent)
    }

    const fn replace(&mut self, now: Instant, address: MacAddress) {
        self.address = address;
        self.updated = now;
    }

    /// It is known to be there: by an answer, or from above (RFC 4861 7.3.1).
    fn confirm(&mut self, context: &mut Context<'_>) {
        match &mut self.reachability {
            Reachability::Permanent => {}
            Reachability::Reachable { until, time } => *until = context.now + *time,
            Reachability::Stale | Reachability::Delay { .. } | Reachability::Probe { .. } => {
                self.reachability = reachable(context);
            }
        }
    }

    /// It is sent to, and nobody says that it is there. Its timer may be late: the time decides.
    fn use_unconfirmed(&mut self, now: Instant, config: &Config) {
        let is_stale = match self.reachability {
            Reachability::Stale => true,
            Reachability::Reachable { until, .. } => until <= now,
            Reachability::Delay { .. } | Reachability::Probe { .. } | Reachability::Permanent => {
                false
            }
        };
        if is_stale {
            self.reachability = Reachability::Delay {
                until: now + config.delay_first_probe_time,
            };
        }
    }

    /// RFC 4861 7.2.5 for states other than INCOMPLETE; whether the statement was believed.
    fn handle_statement(&mut self, context: &mut Context<'_>, statement: Statement) -> bool {
        if self.is_permanent() {
            return false;
        }
        let other = statement.address.filter(|address| *address != self.address);
        match other {
            // I: another address, and not to replace ours. If ours was thought good, it is to be verified.
            Some(_) if !statement.overrides => {
                if matches!(self.reachability, Reachability::Reachable { .. }) {
                    self.reachability = Reachability::Stale;
                }
                return false;
            }
            // II
            Some(other) => {
                self.replace(context.now, other);
                if !statement.solicited {
                    self.reachability = Reachability::Stale;
                }
            }
            None => {}
        }
        if statement.solicited {
            self.confirm(context);
        }
        true
    }

    fn handle_timeout<W>(&mut self, now: Instant, config: &Config) -> Step<W> {
        match &mut self.reachability {
            Reachability::Reachable { .. } => {
                self.reachability = Reachability::Stale;
                Step::Nothing
            }
            Reachability::Stale => Step::Remove(Removal::Unused),
            Reachability::Delay { .. } => {
                self.reachability = Reachability::Probe {
                    sent: 1,
                    retransmit: now + config.retrans_timer,
                };
                Step::Solicit
            }
            Reachability::Probe { sent, retransmit } if *sent < config.max_unicast_solicit => {
                *sent += 1;
                *retransmit = now + config.retrans_timer;
                Step::Solicit
            }
            Reachability::Probe { .. } => Step::Remove(Removal::ProbeFailed),
            Reachability::Permanent => Step::Nothing,
        }
    }
}

/// The first question is being sent.
fn asking<W>(context: &Context<'_>) -> State<W> {
    State::Incomplete {
        sent: 1,
        retransmit: context.now + context.config.retrans_timer,
        pending: Pending::new(),
    }
}

/// Confirmed just now, for 0.5 to 1.5 times the base (RFC 4861 6.3.2): neighbours that were confirmed together are not
/// asked together.
fn reachable(context: &mut Context<'_>) -> Reachability {
    let base = context.config.reachable_time;
    let time = base / 2 + base.mul_f64(f64::from(context.random.next_u32()) / f64::from(u32::MAX));
    Reachability::Reachable {
        until: context.now + time,
        time,
    }
}
