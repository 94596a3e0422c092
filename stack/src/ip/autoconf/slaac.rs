//! Addresses that an interface makes for itself from prefixes that routers advertise (RFC 4862 5.5).
//!
//! Owned here: which addresses there are, their lifetimes, what follows when one turns out to be another host's (RFC 7217 6,
//! RFC 8981 3.4), and temporary addresses beside the lasting ones. Left to others: duplicate detection (`dad`), giving the
//! interface an address, and what is on the link (`prefix_list`): an address says nothing of that (RFC 5942 3).
//!
//! ```text
//!           prefix             preferred lifetime            valid lifetime
//!  (none) ─────────▶ preferred ──────────────────▶ deprecated ──────────────▶ (none)
//!            ▲           │  ▲──── advertised again ─────┘
//!            └─ another ─┘ duplicate: another identifier after up to a second, three times
//! ```

use std::collections::VecDeque;
use std::net::Ipv6Addr;
use std::time::Duration;

use tidewire_netdev::MacAddress;

use crate::ip::autoconf::interface_identifier::{
    IdentifierGenerator, IdentifierKind, address_of, is_reserved,
};
use crate::ip::autoconf::temporary_address::{self, Bounds};
use crate::ip::autoconf::{between, end_of_lifetime, if_ever};
use crate::random::Random;
use crate::time::Instant;
use crate::wire::ndp::option::PrefixInformation;

/// How addresses are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How lasting addresses get their lower half. Default opaque (RFC 7217).
    pub identifiers: IdentifierKind,
    /// Identifiers that are tried anew for a lasting address when somebody else has the first (RFC 7217 7 IDGEN_RETRIES: 3).
    pub idgen_retries: u32,
    /// Most time before each of them, chosen at random (RFC 7217 7 IDGEN_DELAY: 1 s).
    pub idgen_delay: Duration,
    /// Temporary addresses (RFC 8981) beside the lasting ones, preferred for what this host begins. Default `None`: there are
    /// none, as on Linux (`use_tempaddr` 0).
    pub temporary: Option<temporary_address::Config>,
    /// Most addresses of the interface that are made here, temporary ones included. 16, as Linux (`max_addresses`).
    pub max_addresses: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            identifiers: IdentifierKind::default(),
            idgen_retries: 3,
            idgen_delay: Duration::from_secs(1),
            temporary: None,
            max_addresses: 16,
        }
    }
}

/// For how long an address is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permanence {
    /// For as long as the prefix is advertised.
    Lasting,
    /// For a day or two (RFC 8981).
    Temporary,
}

/// An address that was made here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutoconfiguredAddress {
    /// The address; its prefix has 64 bits.
    pub address: Ipv6Addr,
    /// For how long it is meant.
    pub permanence: Permanence,
    /// When it is deprecated, unless its prefix is advertised again; [`Instant::FAR_FUTURE`]: never.
    pub preferred_until: Instant,
    /// When it ends, unless its prefix is advertised again; [`Instant::FAR_FUTURE`]: never.
    pub valid_until: Instant,
}

/// What became of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// There is one more, to be checked for duplicates, and deprecated from the beginning or not.
    Added {
        /// The address; its prefix has 64 bits.
        address: Ipv6Addr,
        /// For how long it is meant.
        permanence: Permanence,
    },
    /// Its valid lifetime is over, or another host has it: it is not to be used any more.
    Removed(Ipv6Addr),
    /// Its preferred lifetime is over: nothing new is to begin with it (RFC 4862 5.5.4).
    Deprecated(Ipv6Addr),
    /// It is preferred once more.
    Preferred(Ipv6Addr),
}

/// The addresses of one interface.
#[derive(Debug)]
pub struct Slaac {
    config: Config,
    generator: IdentifierGenerator,
    random: Random,
    entries: Vec<Entry>,
    events: VecDeque<Event>,
}

#[derive(Debug)]
struct Entry {
    /// Of 64 bits.
    prefix: Ipv6Addr,
    /// `None` while there is none: the next is made at `retry`, or there is no other.
    address: Option<Ipv6Addr>,
    kind: Kind,
    preferred_until: Instant,
    valid_until: Instant,
    /// Told to be deprecated.
    is_deprecated: bool,
    /// Addresses that were others' (RFC 7217's DAD_Counter).
    conflicts: u32,
    retry: Option<Instant>,
    /// No free address was found.
    has_failed: bool,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Lasting,
    Temporary {
        bounds: Bounds,
        /// When the next one is to be made.
        regenerate: Option<Instant>,
    },
}

impl Slaac {
    /// The addresses of the interface with that hardware address: none yet.
    pub fn new(config: Config, hardware: MacAddress, mut random: Random) -> Self {
        Self {
            generator: IdentifierGenerator::new(&config.identifiers, hardware, &mut random),
            config,
            random,
            entries: Vec::new(),
            events: VecDeque::new(),
        }
    }

    /// Makes the link-local address as well, if identifiers are opaque, which those of all lasting addresses are then (RFC
    /// 7217 5); whether it does. It never ends, and does not count among the others.
    pub fn add_link_local(&mut self, now: Instant) -> bool {
        if self.config.identifiers == IdentifierKind::Hardware
            || self.lasting(LINK_LOCAL_PREFIX).is_some()
        {
            return false;
        }
        self.add(
            now,
            Entry::lasting(LINK_LOCAL_PREFIX, Instant::FAR_FUTURE, Instant::FAR_FUTURE),
        );
        true
    }

    /// A prefix information option (RFC 4862 5.5.3).
    pub fn handle_prefix(&mut self, now: Instant, information: &PrefixInformation) {
        let (valid, preferred) = (information.valid_lifetime, information.preferred_lifetime);
        let prefix = address_of(information.prefix, 0);
        // Rules a, b, c, and d's last: the identifier has 64 bits (RFC 4291 2.5.1).
        let is_for_us = information.autonomous
            && information.prefix_len == 64
            && is_global(prefix)
            && preferred <= valid;
        if !is_for_us {
            return;
        }
        let preferred_until = end_of_lifetime(now, preferred);
        match self.lasting(prefix) {
            Some(at) => {
                let entry = &mut self.entries[at];
                entry.preferred_until = preferred_until;
                entry.valid_until = valid_until(now, entry.valid_until, valid);
                let valid_until = entry.valid_until;
                self.prolong_temporary(now, prefix, preferred_until, valid_until);
            }
            None if valid == 0 || self.is_full() => return,
            None => {
                let valid_until = end_of_lifetime(now, valid);
                self.add(now, Entry::lasting(prefix, preferred_until, valid_until));
            }
        }
        self.review(now);
        self.add_temporary(now, prefix);
    }

    /// An address turned out to be another host's. Another takes its place, if one is left to try; else it stays, unused, so
    /// that the prefix is not tried again with every advertisement. Whether it was one of these.
    pub fn handle_duplicate(&mut self, now: Instant, address: Ipv6Addr) -> bool {
        let mut entries = self.entries.iter_mut();
        let Some(entry) = entries.find(|entry| entry.address == Some(address)) else {
            return false;
        };
        entry.conflicts += 1;
        let (most, delay) = match (entry.kind, &self.config.temporary) {
            (Kind::Temporary { .. }, Some(temporary)) => (temporary.idgen_retries, Duration::ZERO),
            _ if self.config.identifiers == IdentifierKind::Hardware => (0, Duration::ZERO),
            _ => (self.config.idgen_retries, self.config.idgen_delay),
        };
        if entry.conflicts > most {
            entry.has_failed = true;
            tracing::error!(prefix = %entry.prefix, %address, "no address of the prefix is free");
            return true;
        }
        entry.address = None;
        entry.retry = Some(now + between(&mut self.random, Duration::ZERO, delay));
        self.events.push_back(Event::Removed(address));
        self.handle_timeout(now);
        true
    }

    /// The interface has the address already, by configuration: it is left to that (RFC 4862 5.5.3 d).
    pub fn leave(&mut self, address: Ipv6Addr) {
        for entry in &mut self.entries {
            if entry.address == Some(address) {
                entry.address = None;
            }
        }
    }

    /// Runs what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        for at in 0..self.entries.len() {
            if self.entries[at].retry.is_some_and(|retry| retry <= now) {
                self.entries[at].retry = None;
                self.assign(at);
            }
        }
        self.review(now);
        let is_due = |entry: &Entry| match entry.kind {
            Kind::Temporary {
                regenerate: Some(at),
                ..
            } => at <= now,
            _ => false,
        };
        let due: Vec<_> = self
            .entries
            .iter()
            .filter(|entry| is_due(entry))
            .map(|entry| entry.prefix)
            .collect();
        for entry in self.entries.iter_mut().filter(|entry| is_due(entry)) {
            if let Kind::Temporary { regenerate, .. } = &mut entry.kind {
                *regenerate = None;
            }
        }
        for prefix in due {
            self.add_temporary(now, prefix);
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.entries.iter().flat_map(|entry| {
            let preferred = (!entry.is_deprecated).then_some(entry.preferred_until);
            let regenerate = match entry.kind {
                Kind::Temporary { regenerate, .. } => regenerate,
                Kind::Lasting => None,
            };
            [Some(entry.valid_until), preferred, entry.retry, regenerate]
        });
        due.flatten().min().and_then(if_ever)
    }

    /// What became of addresses.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether an address is still to take the place of one that was another host's.
    pub fn is_looking(&self) -> bool {
        self.entries.iter().any(|entry| entry.retry.is_some())
    }

    /// The addresses that were made of advertised prefixes, in the order they were made.
    pub fn addresses(&self) -> impl Iterator<Item = AutoconfiguredAddress> + '_ {
        let advertised = self.entries.iter().filter(|entry| entry.is_of_router());
        advertised.filter_map(|entry| {
            Some(AutoconfiguredAddress {
                address: entry.address?,
                permanence: entry.permanence(),
                preferred_until: entry.preferred_until,
                valid_until: entry.valid_until,
            })
        })
    }

    fn is_full(&self) -> bool {
        let of_routers = self.entries.iter().filter(|entry| entry.is_of_router());
        of_routers.count() >= self.config.max_addresses
    }

    fn lasting(&self, prefix: Ipv6Addr) -> Option<usize> {
        let is_it = |entry: &Entry| entry.prefix == prefix && matches!(entry.kind, Kind::Lasting);
        self.entries.iter().position(is_it)
    }

    /// RFC 8981 3.4, steps 1 and 2: as the prefix, but no longer than the address may last.
    fn prolong_temporary(
        &mut self,
        now: Instant,
        prefix: Ipv6Addr,
        preferred: Instant,
        valid: Instant,
    ) {
        let advance = self
            .config
            .temporary
            .as_ref()
            .map(|config| config.regen_advance);
        for entry in self
            .entries
            .iter_mut()
            .filter(|entry| entry.prefix == prefix)
        {
            if let Kind::Temporary { bounds, regenerate } = &mut entry.kind {
                entry.preferred_until = preferred.min(bounds.preferred);
                entry.valid_until = valid.min(bounds.valid);
                let due = advance.map(|advance| entry.preferred_until - advance);
                if due.is_some_and(|due| now < due) {
                    *regenerate = due;
                }
            }
        }
    }

    /// Makes a temporary address, if they are wanted and the prefix has none that will still be preferred for a while
    /// (RFC 8981 3.4, steps 3 to 6, and 3.5).
    fn add_temporary(&mut self, now: Instant, prefix: Ipv6Addr) {
        let Some(config) = &self.config.temporary else {
            return;
        };
        let Some(lasting) = self.lasting(prefix) else {
            return;
        };
        let soon = now + config.regen_advance;
        // One that found no free address counts, too: no other is tried (step 7).
        let lasts = |entry: &Entry| {
            let is_temporary = matches!(entry.kind, Kind::Temporary { .. });
            let counts = entry.preferred_until > soon || entry.has_failed;
            entry.prefix == prefix && is_temporary && counts
        };
        if self.entries.iter().any(lasts) || self.is_full() {
            return;
        }
        let bounds = config.bounds(now, &mut self.random);
        let preferred_until = self.entries[lasting].preferred_until.min(bounds.preferred);
        if preferred_until <= soon {
            return;
        }
        let regenerate = Some(preferred_until - config.regen_advance);
        let valid_until = self.entries[lasting].valid_until.min(bounds.valid);
        let entry = Entry {
            kind: Kind::Temporary { bounds, regenerate },
            ..Entry::lasting(prefix, preferred_until, valid_until)
        };
        self.add(now, entry);
    }

    fn add(&mut self, now: Instant, entry: Entry) {
        self.entries.push(entry);
        self.assign(self.entries.len() - 1);
        self.review(now);
    }

    /// Makes an address. Identifiers that are reserved or in use count as others' (RFC 7217 5, RFC 8981 3.3.1).
    fn assign(&mut self, at: usize) {
        let Entry { prefix, kind, .. } = self.entries[at];
        for _ in 0..=self.config.idgen_retries {
            let identifier = match kind {
                Kind::Temporary { .. } => Some(self.random.next_u64()),
                Kind::Lasting => self
                    .generator
                    .identifier(prefix, self.entries[at].conflicts),
            };
            let Some(identifier) = identifier else { break };
            let address = address_of(prefix, identifier);
            let is_taken = self
                .entries
                .iter()
                .any(|entry| entry.address == Some(address));
            if !is_taken && !is_reserved(identifier) {
                let entry = &mut self.entries[at];
                entry.address = Some(address);
                entry.is_deprecated = false;
                let permanence = entry.permanence();
                self.events.push_back(Event::Added {
                    address,
                    permanence,
                });
                return;
            }
            self.entries[at].conflicts += 1;
        }
        self.entries[at].has_failed = true;
        tracing::error!(%prefix, "no address can be made of the prefix");
    }

    /// RFC 4862 5.5.4: what has become deprecated, preferred again, or invalid.
    fn review(&mut self, now: Instant) {
        let events = &mut self.events;
        self.entries.retain_mut(|entry| {
            if entry.valid_until <= now {
                events.extend(entry.address.map(Event::Removed));
                return false;
            }
            let is_deprecated = entry.preferred_until <= now;
            if is_deprecated != std::mem::replace(&mut entry.is_deprecated, is_deprecated) {
                events.extend(entry.address.map(|address| match is_deprecated {
                    true => Event::Deprecated(address),
                    false => Event::Preferred(address),
                }));
            }
            true
        });
    }
}

impl Entry {
    /// One of a lasting address that is still to be made.
    const fn lasting(prefix: Ipv6Addr, preferred_until: Instant, valid_until: Instant) -> Self {
        Self {
            prefix,
            address: None,
            kind: Kind::Lasting,
            preferred_until,
            valid_until,
            is_deprecated: false,
            conflicts: 0,
            retry: None,
            has_failed: false,
        }
    }

    fn is_of_router(&self) -> bool {
        self.prefix != LINK_LOCAL_PREFIX
    }

    const fn permanence(&self) -> Permanence {
        match self.kind {
            Kind::Lasting => Permanence::Lasting,
            Kind::Temporary { .. } => Permanence::Temporary,
        }
    }
}

/// RFC 4862 5.5.3 e: nobody ends an address sooner than in two hours by one advertisement.
fn valid_until(now: Instant, old: Instant, received: u32) -> Instant {
    let new = end_of_lifetime(now, received);
    if Duration::from_secs(received.into()) > TWO_HOURS || new > old {
        return new;
    }
    old.min(now + TWO_HOURS)
}

/// Whether hosts may have addresses of the prefix: no link-local one (rule b), no group, and not what holds the loopback
/// address and IPv4's.
fn is_global(prefix: Ipv6Addr) -> bool {
    !(prefix.is_unicast_link_local() || prefix.is_multicast() || prefix.is_unspecified())
}

/// RFC 4291 2.5.6.
const LINK_LOCAL_PREFIX: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
const TWO_HOURS: Duration = Duration::from_secs(2 * 3600);

#[cfg(test)]
mod tests;
