//! SCTP's one-to-many sockets (RFC 6458 3): an endpoint whose associations stay with it, and those it has opened itself.
//!
//! ```text
//!   SctpListenerSlot  the port: INITs and cookies, options for associations to come
//!         │
//!   OneToManySlot     which associations there are, which of them have something to be read, who waits for that
//!         │                      ▲
//!   SctpSlot …        each with its `Member`, which puts it on the lists of the line above
//! ```
//!
//! [`OneToMany`] has the shape of a slot, for its waiters' sake, but its lock is a leaf: it is taken while an association's
//! slot is locked, and nothing is locked under it. So whatever happens to an association finds the socket's waiters without
//! a second slot, and a reader takes the first of a list, then locks that association alone.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use slab::Slab;

use crate::engine::network::connectable;
use crate::engine::sctp_addresses::association_key;
use crate::engine::sctp_sockets::{SctpOptions, SctpSocket};
use crate::engine::slot::{OneToManySlot, SctpListenerSlot, SctpSlot, Slot, SlotState};
use crate::engine::sockets::canonical;
use crate::engine::{Engine, WakeList, lock, read};
use crate::error::{SocketError, SocketResult};
use crate::sctp::association::{Association, Notification, State};
use crate::sctp::{SctpMessage, SendOptions};
use crate::time::Instant;
use crate::transport::Readiness;
use crate::transport::ports::PortLease;

/// Which association of a one-to-many socket (RFC 6458's `sctp_assoc_t`). Means something to that socket only, which never
/// gives it to another association.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AssociationId {
    /// The how manieth of the socket it is.
    serial: u64,
    /// Where the socket keeps it.
    place: usize,
}

impl fmt::Display for AssociationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serial.fmt(f)
    }
}

impl fmt::Debug for AssociationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AssociationId").field(&self.serial).finish()
    }
}

/// How much a one-to-many socket takes on. Beyond, peers are told that resources are out, and associations of our own fail
/// with ENOBUFS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OneToManyLimits {
    /// Associations at once. One that has ended counts until its messages are read. Default 16,384.
    pub associations: usize,
    /// Octets of messages, to be sent and to be read, that all associations hold and from which on there are no new ones.
    /// Those that there are can still fill their own buffers. Default 1 GiB.
    pub memory: usize,
}

impl Default for OneToManyLimits {
    fn default() -> Self {
        Self {
            associations: 16_384,
            memory: 1 << 30,
        }
    }
}

/// What a one-to-many socket tells about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OneToManyStats {
    /// Associations now, those included that have ended with messages to be read.
    pub associations: usize,
    /// Octets of messages that they hold.
    pub memory: usize,
    /// Associations that were not set up since a limit was met: ours; those of peers are the endpoint's
    /// [`inits_refused`](crate::sctp::endpoint::EndpointStats::inits_refused).
    pub refused: u64,
    /// Associations that have ended and whose notifications nobody has read in time.
    pub forgotten: u64,
}

/// Associations that have ended and have nothing left but notifications: the last ones are kept.
const KEPT_ENDED: usize = 256;

/// Places that a list may have beyond twice the associations before those that have left are taken off it.
const LIST_SLACK: usize = 64;

#[derive(Debug)]
struct Entry {
    serial: u64,
    /// `None` for the moment between the identifier and the slot.
    slot: Option<Arc<SctpSlot>>,
    /// Nothing is left of it but notifications.
    ended: bool,
}

/// What a one-to-many socket knows of its associations.
#[derive(Debug)]
pub struct OneToMany {
    entries: Slab<Entry>,
    /// The serial number of the next association; they begin with 1.
    next_serial: u64,
    /// Associations with messages, each at most once and in the order in which they are to be read from. One that has left
    /// the socket may still stand here.
    readable: VecDeque<AssociationId>,
    /// The same for notifications.
    eventful: VecDeque<AssociationId>,
    /// Entries that are `ended`, the oldest first, and identifiers of such that have left.
    ended: VecDeque<AssociationId>,
    /// How many entries are `ended`.
    ended_count: usize,
    limits: OneToManyLimits,
    /// Octets of messages that the associations hold.
    memory: Arc<AtomicUsize>,
    refused: u64,
    forgotten: u64,
    /// The port.
    endpoint: Arc<SctpListenerSlot>,
    /// Where the engine's list of such sockets has it.
    place: usize,
    error: Option<SocketError>,
    closed: bool,
}

impl OneToMany {
    fn entry(&self, id: AssociationId) -> Option<&Entry> {
        let entry = self.entries.get(id.place)?;
        (entry.serial == id.serial).then_some(entry)
    }

    /// The association of that identifier.
    pub fn find(&self, id: AssociationId) -> Option<&Arc<SctpSlot>> {
        self.entry(id)?.slot.as_ref()
    }

    /// The identifiers, the oldest first.
    pub fn ids(&self) -> Vec<AssociationId> {
        let all = self.entries.iter().filter(|(_, entry)| !entry.ended);
        let mut ids: Vec<_> = all
            .map(|(place, entry)| AssociationId {
                serial: entry.serial,
                place,
            })
            .collect();
        ids.sort_unstable();
        ids
    }

    /// The next association that has what is asked for: [`Readiness::READABLE`] or [`Readiness::PRIORITY`]. It is to be
    /// asked with [`SctpSocket::recv_as_member`] or [`SctpSocket::event_as_member`], which put it at the end of its list if it
    /// has more.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; the stack's end.
    pub fn next(&mut self, what: Readiness) -> SocketResult<(AssociationId, Arc<SctpSlot>)> {
        loop {
            let queue = match what {
                Readiness::PRIORITY => &mut self.eventful,
                _ => &mut self.readable,
            };
            let Some(id) = queue.pop_front() else {
                return Err(self.error.unwrap_or(SocketError::WouldBlock));
            };
            if let Some(slot) = self.find(id) {
                return Ok((id, Arc::clone(slot)));
            }
        }
    }

    /// Whether another association may be set up.
    pub(crate) fn has_room(&self) -> bool {
        !self.closed
            && self.entries.len() - self.ended_count < self.limits.associations
            && self.memory.load(Ordering::Relaxed) < self.limits.memory
    }

    /// The counters.
    pub fn stats(&self) -> OneToManyStats {
        OneToManyStats {
            associations: self.entries.len() - self.ended_count,
            memory: self.memory.load(Ordering::Relaxed),
            refused: self.refused,
            forgotten: self.forgotten,
        }
    }

    /// The port.
    pub const fn endpoint(&self) -> &Arc<SctpListenerSlot> {
        &self.endpoint
    }

    fn list(&mut self, id: AssociationId, what: Readiness) {
        let most = 2 * self.entries.len() + LIST_SLACK;
        for (bit, queue) in [
            (Readiness::READABLE, &mut self.readable),
            (Readiness::PRIORITY, &mut self.eventful),
        ] {
            if !what.intersects(bit) {
                continue;
            }
            queue.push_back(id);
            if queue.len() > most {
                // As many have left as are there: each look at one is paid for by one that left.
                let entries = &self.entries;
                queue.retain(|id| {
                    let entry = entries.get(id.place);
                    entry.is_some_and(|entry| entry.serial == id.serial)
                });
            }
        }
    }

    /// Only notifications are left of an association. Gives back the one that is forgotten for it.
    fn end(&mut self, id: AssociationId) -> Option<Entry> {
        let entry = self.entries.get_mut(id.place)?;
        if entry.serial != id.serial || std::mem::replace(&mut entry.ended, true) {
            return None;
        }
        self.ended_count += 1;
        self.ended.push_back(id);
        if self.ended.len() <= KEPT_ENDED {
            return None;
        }
        let oldest = self.ended.pop_front()?;
        let forgotten = self.remove(oldest);
        self.forgotten += u64::from(forgotten.is_some());
        forgotten
    }

    fn remove(&mut self, id: AssociationId) -> Option<Entry> {
        self.entry(id)?;
        let entry = self.entries.try_remove(id.place)?;
        self.ended_count -= usize::from(entry.ended);
        Some(entry)
    }
}

/// What an association knows of the one-to-many socket that it belongs to. It belongs there for as long as this lives.
#[derive(Debug)]
pub(crate) struct Member {
    group: Arc<OneToManySlot>,
    id: AssociationId,
    /// On which of the socket's lists it stands.
    listed: Readiness,
    /// What it has added to `memory`, the socket's.
    charge: usize,
    memory: Arc<AtomicUsize>,
}

impl Member {
    /// A new identifier; its slot is told with [`Self::place`].
    ///
    /// # Errors
    /// `NoBuffers` when the socket has all that it may have.
    pub(crate) fn reserve(group: &Arc<OneToManySlot>) -> SocketResult<Box<Self>> {
        let socket = &mut group.lock().socket;
        if !socket.has_room() {
            socket.refused += 1;
            return Err(SocketError::NoBuffers);
        }
        let serial = socket.next_serial;
        socket.next_serial += 1;
        let place = socket.entries.insert(Entry {
            serial,
            slot: None,
            ended: false,
        });
        Ok(Box::new(Self {
            group: Arc::clone(group),
            id: AssociationId { serial, place },
            listed: Readiness::NONE,
            charge: 0,
            memory: Arc::clone(&socket.memory),
        }))
    }

    pub(crate) const fn id(&self) -> AssociationId {
        self.id
    }

    /// The association's slot is there.
    pub(crate) fn place(group: &OneToManySlot, id: AssociationId, slot: &Arc<SctpSlot>) {
        let socket = &mut group.lock().socket;
        if socket.entry(id).is_some() {
            socket.entries[id.place].slot = Some(Arc::clone(slot));
        }
    }

    /// After any change of the association: tells the socket's waiters what it has, and what it holds. `false` when it has
    /// ended and nothing of it is left.
    fn update(&mut self, association: &Association, is_over: bool, wakes: &mut WakeList) -> bool {
        let charge = association.buffered();
        if charge > self.charge {
            let more = charge - self.charge;
            self.memory.fetch_add(more, Ordering::Relaxed);
        } else if charge < self.charge {
            let less = self.charge - charge;
            self.memory.fetch_sub(less, Ordering::Relaxed);
        }
        self.charge = charge;
        let (messages, events) = (association.has_message(), association.has_events());
        let mut found = Readiness::NONE;
        if messages {
            found |= Readiness::READABLE;
        }
        if events {
            found |= Readiness::PRIORITY;
        }
        let news = found.without(self.listed);
        if !news.is_empty() {
            self.listed |= news;
            let mut state = self.group.lock();
            state.socket.list(self.id, news);
            state.ready.set(news, wakes);
        }
        if is_over && !messages {
            if !events {
                return false;
            }
            let forgotten = self.group.lock().socket.end(self.id);
            // With the socket's lock released: it may be the last of an association.
            drop(forgotten);
        }
        true
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.memory.fetch_sub(self.charge, Ordering::Relaxed);
        let entry = self.group.lock().socket.remove(self.id);
        drop(entry);
    }
}

impl SctpSocket {
    /// The identifier of an association that belongs to a one-to-many socket.
    pub fn member_id(&self) -> Option<AssociationId> {
        self.member.as_ref().map(|member| member.id)
    }

    /// The same, unless it belongs to another socket.
    fn id_in(&self, group: &Arc<OneToManySlot>) -> Option<AssociationId> {
        let member = self.member.as_ref()?;
        Arc::ptr_eq(&member.group, group).then_some(member.id)
    }

    /// See [`Member::update`]. Does nothing for an association of its own.
    pub(crate) fn update_member(&mut self, wakes: &mut WakeList) {
        let Some(member) = &mut self.member else {
            return;
        };
        if !member.update(&self.association, self.detached, wakes) {
            self.member = None;
        }
    }

    fn take_as_member<R>(
        &mut self,
        id: AssociationId,
        what: Readiness,
        wakes: &mut WakeList,
        take: impl FnOnce(&mut Self) -> Option<R>,
    ) -> Option<R> {
        // It may have left since it was taken off the list.
        let member = self.member.as_mut().filter(|member| member.id == id)?;
        member.listed = member.listed.without(what);
        let taken = take(self);
        self.update_member(wakes);
        taken
    }

    /// Reads a message, with the peer's primary address, after [`OneToMany::next`] has told this association. `None`: it has
    /// none any more.
    pub fn recv_as_member(
        &mut self,
        id: AssociationId,
        wakes: &mut WakeList,
    ) -> Option<(SocketAddr, SctpMessage)> {
        self.take_as_member(id, Readiness::READABLE, wakes, |socket| {
            // The end, and why, are told by notifications (Linux).
            if !socket.association.has_message() {
                return None;
            }
            let message = socket.association.recv(usize::MAX).ok().flatten()?;
            Some((socket.remote(), message))
        })
    }

    /// The same for a notification.
    pub fn event_as_member(
        &mut self,
        id: AssociationId,
        wakes: &mut WakeList,
    ) -> Option<Notification> {
        self.take_as_member(id, Readiness::PRIORITY, wakes, |socket| {
            socket.association.poll_event()
        })
    }

    /// Queues a message.
    ///
    /// # Errors
    /// As [`Association::send`], but that one that is shutting down gives `ShutDown` (ESHUTDOWN), and that why one has
    /// failed is told by its notifications: it gives `BrokenPipe` (EPIPE), as an identifier that nobody has.
    pub fn send_as_member(&mut self, message: Bytes, options: &SendOptions) -> SocketResult<()> {
        if self.member.is_none() || self.association.state() == State::Closed {
            return Err(SocketError::BrokenPipe);
        }
        match self.association.send(message, options) {
            Err(SocketError::BrokenPipe) => Err(SocketError::ShutDown),
            result => result,
        }
    }
}

impl Engine {
    /// A one-to-many socket on bound ports. It takes no associations of peers before it listens.
    ///
    /// # Errors
    /// `InvalidInput` for options out of range or no lease.
    pub fn sctp_one_to_many(
        &self,
        now: Instant,
        leases: Vec<PortLease>,
        only_v6: bool,
        options: &SctpOptions,
        limits: OneToManyLimits,
    ) -> SocketResult<Arc<OneToManySlot>> {
        let endpoint = self.sctp_endpoint(now, leases, 0, only_v6, options)?;
        let mut sockets = lock(&self.one_to_many);
        let place = sockets.vacant_entry();
        let socket = OneToMany {
            entries: Slab::new(),
            next_serial: 1,
            readable: VecDeque::new(),
            eventful: VecDeque::new(),
            ended: VecDeque::new(),
            ended_count: 0,
            limits,
            memory: Arc::default(),
            refused: 0,
            forgotten: 0,
            endpoint: Arc::clone(&endpoint),
            place: place.key(),
            error: None,
            closed: false,
        };
        // Each association has a buffer of its own, and there can be another one.
        let group = Arc::new(Slot::new(socket, Readiness::WRITABLE));
        place.insert(Arc::downgrade(&group));
        drop(sockets);
        endpoint.lock().socket.group = Some(Arc::downgrade(&group));
        Ok(group)
    }

    /// The association of a one-to-many socket with the peer that has this address.
    ///
    /// # Errors
    /// `AddressNotAvailable` if that peer's association from this port belongs to somebody else: it was peeled off.
    pub fn sctp_member(
        &self,
        group: &Arc<OneToManySlot>,
        peer: SocketAddr,
    ) -> SocketResult<Option<(AssociationId, Arc<SctpSlot>)>> {
        let endpoint = Arc::clone(&group.lock().socket.endpoint);
        let port = endpoint.lock().socket.port();
        let key = association_key(port, canonical(connectable(peer)));
        let Some(slot) = read(&self.associations).find(&key).cloned() else {
            return Ok(None);
        };
        let id = slot.lock().socket.id_in(group);
        let id = id.ok_or(SocketError::AddressNotAvailable)?;
        Ok(Some((id, slot)))
    }

    /// Opens an association of a one-to-many socket, with a first message if there is one (RFC 6458 7.5).
    ///
    /// # Errors
    /// As [`Self::sctp_connect`]; `NoBuffers` at the socket's limits; what the message is refused for. Nothing is left behind
    /// then.
    pub fn sctp_open_member(
        &self,
        now: Instant,
        group: &Arc<OneToManySlot>,
        peers: &[SocketAddr],
        first: Option<(Bytes, &SendOptions)>,
    ) -> SocketResult<(AssociationId, Arc<SctpSlot>)> {
        let endpoint = Arc::clone(&group.lock().socket.endpoint);
        let (leases, secrets, options) = {
            let socket = &endpoint.lock().socket;
            if !peers.iter().all(|peer| socket.speaks_to(peer.ip())) {
                return Err(SocketError::InvalidInput);
            }
            let secrets = socket.endpoint.secrets();
            (socket.lease.clone(), secrets, socket.options.clone())
        };
        let leases = leases.ok_or(SocketError::InvalidInput)?;
        let member = Member::reserve(group)?;
        let id = member.id();
        let (mut socket, key) =
            self.opening_sctp(now, Some(leases), Some(secrets), peers, &options)?;
        if let Some((message, options)) = first {
            socket.association.send(message, options)?;
        }
        socket.member = Some(member);
        let slot = self.slot_of(socket, &key, Readiness::WRITABLE);
        Member::place(group, id, &slot);
        if let Err(error) = self.launch_sctp(&slot, key) {
            let member = slot.lock().socket.member.take();
            drop(member);
            return Err(error);
        }
        Ok((id, slot))
    }

    /// Makes an association of a one-to-many socket one of its own (RFC 6458 9.2): what it has to be read goes along.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) if there is none of that identifier, or it has ended.
    pub fn sctp_peel_off(
        &self,
        group: &OneToManySlot,
        id: AssociationId,
        wakes: &mut WakeList,
    ) -> SocketResult<Arc<SctpSlot>> {
        let slot = group.lock().socket.find(id).cloned();
        let slot = slot.ok_or(SocketError::InvalidInput)?;
        let mut state = slot.lock();
        if state.socket.association.state() == State::Closed {
            return Err(SocketError::InvalidInput);
        }
        let member = state.socket.member.take();
        // As an accepted one. It also wakes those who wait to send on it by its identifier.
        let all = Readiness::READABLE | Readiness::WRITABLE | Readiness::PRIORITY;
        state.ready.set(all, wakes);
        drop(state);
        // Somebody else was faster.
        let member = member.ok_or(SocketError::InvalidInput)?;
        drop(member);
        Ok(slot)
    }

    /// The handle of a one-to-many socket was dropped: its associations finish in the background, or are aborted, each as if
    /// its own handle was.
    pub fn close_one_to_many(
        &self,
        now: Instant,
        group: &Arc<OneToManySlot>,
        wakes: &mut WakeList,
    ) {
        let endpoint = Arc::clone(&group.lock().socket.endpoint);
        self.close_sctp_listener(now, &endpoint, wakes);
        let (members, place, idle) = {
            let state = &mut *group.lock();
            let socket = &mut state.socket;
            socket.closed = true;
            let members: Vec<_> = socket
                .ids()
                .into_iter()
                .filter_map(|id| socket.find(id).cloned())
                .collect();
            (members, socket.place, state.ready.take_wakers())
        };
        drop(idle);
        lock(&self.one_to_many).try_remove(place);
        for slot in members {
            let member = slot.lock().socket.member.take();
            // `None`: it was peeled off in this very moment.
            if let Some(member) = member {
                drop(member);
                self.close_sctp(now, &slot, wakes);
            }
        }
        let ended = std::mem::take(&mut group.lock().socket.entries);
        for (_, entry) in ended {
            let member = entry.slot.and_then(|slot| slot.lock().socket.member.take());
            drop(member);
        }
    }

    /// The stack ends: whoever waits for any association is woken.
    pub(crate) fn end_one_to_many(&self, error: SocketError, wakes: &mut WakeList) {
        let all: Vec<Arc<OneToManySlot>> = lock(&self.one_to_many)
            .iter()
            .filter_map(|(_, socket)| socket.upgrade())
            .collect();
        for group in all {
            let SlotState { socket, ready } = &mut *group.lock();
            socket.error = Some(error);
            let bits = Readiness::READABLE
                | Readiness::READ_CLOSED
                | Readiness::PRIORITY
                | Readiness::WRITE_CLOSED
                | Readiness::ERROR;
            ready.set(bits, wakes);
        }
    }
}

#[cfg(test)]
mod tests;
