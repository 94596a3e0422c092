//! How the sockets wait: tokio's readiness cache over a slot.
//!
//! Owns the translation between the cache's bits and tokio's [`Interest`] and [`Ready`], the futures that wait for a
//! bit, and the three ways to run an operation: at once (`try_*`), with the direction's one kept waker (`poll_*`), or
//! as a waiter among many (`async`). What the bits mean and who sets them is left to the engine's cache and the
//! protocols.
//!
//! A bit is a cache, not a level: it stays until an operation has met `WouldBlock`. Operations on the protocol state
//! run under the slot's lock; whatever the caller brings (closures, wakers, buffers of their own making) is touched
//! only with the lock released.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{Interest, Ready};
use tokio::task::coop::poll_proceed;

use crate::driver::Shared;
use crate::engine::ready_cache::{Direction, WaiterKey};
use crate::engine::sctp_one_to_many::OneToMany;
use crate::engine::sctp_sockets::{SctpListenerSocket, SctpSocket};
use crate::engine::slot::{
    EchoSlot, ListenerSlot, OneToManySlot, SctpListenerSlot, SctpSlot, Slot, SlotRef, SlotState,
    TcpSlot, UdpSlot,
};
use crate::engine::sockets::{EchoSocket, ListenerSocket, TcpSocket, UdpSocket};
use crate::error::{SocketError, SocketResult};
use crate::transport::Readiness;

/// What the stack has to do after a command on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flush {
    Nothing,
    /// Send, once the driver gets to it: more may have come by then.
    Soon,
    /// Send before the command returns.
    Now,
}

/// A protocol's state in a slot, as far as waiting concerns it.
pub(crate) trait Socket: Sized {
    /// Whether a command has left something to send.
    fn wants_flush(&self) -> Flush {
        Flush::Nothing
    }

    /// The slot for the engine's lists.
    fn slot_ref(slot: &Arc<Slot<Self>>) -> SlotRef;
}

impl Socket for TcpSocket {
    fn wants_flush(&self) -> Flush {
        match self.connection.wants_transmit() {
            true => Flush::Now,
            false => Flush::Nothing,
        }
    }

    fn slot_ref(slot: &Arc<TcpSlot>) -> SlotRef {
        SlotRef::from(slot)
    }
}

impl Socket for ListenerSocket {
    fn slot_ref(slot: &Arc<ListenerSlot>) -> SlotRef {
        SlotRef::from(slot)
    }
}

impl Socket for UdpSocket {
    fn slot_ref(slot: &Arc<UdpSlot>) -> SlotRef {
        SlotRef::from(slot)
    }
}

impl Socket for SctpSocket {
    fn wants_flush(&self) -> Flush {
        match self.association.wants_transmit() {
            true if self.association.may_gather() => Flush::Soon,
            true => Flush::Now,
            false => Flush::Nothing,
        }
    }

    fn slot_ref(slot: &Arc<SctpSlot>) -> SlotRef {
        SlotRef::from(slot)
    }
}

impl Socket for SctpListenerSocket {
    fn slot_ref(slot: &Arc<SctpListenerSlot>) -> SlotRef {
        SlotRef::from(slot)
    }
}

impl Socket for OneToMany {
    fn slot_ref(slot: &Arc<OneToManySlot>) -> SlotRef {
        SlotRef::from(slot.lock().socket.endpoint())
    }
}

impl Socket for EchoSocket {
    fn slot_ref(slot: &Arc<EchoSlot>) -> SlotRef {
        SlotRef::from(slot)
    }
}

/// The bits that satisfy an interest. A closed direction satisfies it, as in tokio.
pub(crate) fn mask(interest: Interest) -> Readiness {
    let mut mask = Readiness::NONE;
    if interest.is_readable() {
        mask |= Readiness::READABLE | Readiness::READ_CLOSED;
    }
    if interest.is_writable() {
        mask |= Readiness::WRITABLE | Readiness::WRITE_CLOSED;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if interest.is_priority() {
        mask |= Readiness::READ_CLOSED;
    }
    if interest.is_error() {
        mask |= Readiness::ERROR;
    }
    mask
}

/// What tokio's receiving methods of a datagram socket wait for: an ICMP error wakes a parked `recv`.
pub(crate) const READ_OR_ERROR: Readiness = Readiness::READABLE
    .union(Readiness::READ_CLOSED)
    .union(Readiness::ERROR);

fn to_ready(bits: Readiness) -> Ready {
    [
        (Readiness::READABLE, Ready::READABLE),
        (Readiness::WRITABLE, Ready::WRITABLE),
        (Readiness::READ_CLOSED, Ready::READ_CLOSED),
        (Readiness::WRITE_CLOSED, Ready::WRITE_CLOSED),
        (Readiness::ERROR, Ready::ERROR),
    ]
    .into_iter()
    .filter(|(bit, _)| bits.intersects(*bit))
    .fold(Ready::EMPTY, |ready, (_, flag)| ready | flag)
}

fn would_block() -> io::Error {
    io::ErrorKind::WouldBlock.into()
}

/// What a wait ends with when the driver is gone and nothing will ever set a bit again.
fn stack_ended() -> io::Error {
    SocketError::NetworkDown.into()
}

/// The bits of an interest that were set at one moment.
#[derive(Clone, Copy)]
struct Event {
    bits: Readiness,
    tick: u32,
    /// A bit has turned up since the last look, and nobody had to wait for it.
    fresh: bool,
}

/// What became of an operation that was tried.
enum Attempt<R> {
    Done(SocketResult<R>),
    /// It was not run: a bit has turned up since the last look.
    Fresh,
    /// It would block, or no bit was set.
    Blocked,
}

/// A handle's share of its socket: the stack it lives in and its slot.
pub(crate) struct Io<T> {
    shared: Arc<Shared>,
    slot: Arc<Slot<T>>,
}

impl<T: Socket> Io<T> {
    pub(crate) fn new(shared: Arc<Shared>, slot: Arc<Slot<T>>) -> Self {
        Self { shared, slot }
    }

    /// The stack.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The slot.
    pub(crate) fn slot(&self) -> &Arc<Slot<T>> {
        &self.slot
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, SlotState<T>> {
        self.slot.lock()
    }

    /// Runs a command that waits for nothing, and sends what it left to send.
    pub(crate) fn command<R>(&self, command: impl FnOnce(&mut SlotState<T>) -> R) -> R {
        let mut state = self.slot.lock();
        let result = command(&mut state);
        let flush = self.wants_flush(&state);
        drop(state);
        self.flush(flush);
        result
    }

    /// Lets the stack look at the socket: it sends what is due, tells of edges and arms the timer.
    pub(crate) fn kick(&self) {
        self.shared.kick(T::slot_ref(&self.slot));
    }

    /// What is to be done once the lock is released. A slot that has its turn before it needs no other.
    fn wants_flush(&self, state: &SlotState<T>) -> Flush {
        match state.socket.wants_flush() {
            Flush::Soon if self.slot.is_queued() => Flush::Nothing,
            wanted => wanted,
        }
    }

    fn flush(&self, wanted: Flush) {
        match wanted {
            Flush::Nothing => {}
            Flush::Soon => self.shared.kick_driver(T::slot_ref(&self.slot)),
            Flush::Now => self.kick(),
        }
    }

    /// Runs `op` on the socket if a bit of `mask` is set; clears the bits if it would block.
    pub(crate) fn try_op<R>(
        &self,
        mask: Readiness,
        op: impl FnOnce(&mut SlotState<T>) -> SocketResult<R>,
    ) -> io::Result<R> {
        let mut state = self.slot.lock();
        if !state.ready.bits().intersects(mask) {
            return Err(would_block());
        }
        let result = op(&mut state);
        if matches!(result, Err(SocketError::WouldBlock)) {
            state.ready.clear(mask);
        }
        let flush = self.wants_flush(&state);
        drop(state);
        self.flush(flush);
        result.map_err(io::Error::from)
    }

    /// Runs `op` as soon as the direction is ready. One unit of the task's budget.
    pub(crate) fn poll_op<R>(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        mut op: impl FnMut(&mut SlotState<T>) -> SocketResult<R>,
    ) -> Poll<io::Result<R>> {
        let coop = ready!(poll_proceed(cx));
        let mut spare = None;
        let mut state = self.slot.lock();
        loop {
            if !state.ready.bits().intersects(direction.mask()) {
                if !self.shared.is_alive() {
                    return Poll::Ready(Err(stack_ended()));
                }
                if spare.is_none() && !state.ready.has_waker(direction, cx.waker()) {
                    state = self.clone_waker(state, cx, &mut spare);
                    continue;
                }
                let replaced = spare
                    .take()
                    .and_then(|waker| state.ready.set_waker(direction, waker));
                let flush = self.wants_flush(&state);
                drop(state);
                drop(replaced);
                self.flush(flush);
                return Poll::Pending;
            }
            let result = op(&mut state);
            if matches!(result, Err(SocketError::WouldBlock)) {
                state.ready.clear(direction.mask());
                continue;
            }
            let flush = self.wants_flush(&state);
            drop(state);
            self.flush(flush);
            coop.made_progress();
            return Poll::Ready(result.map_err(io::Error::from));
        }
    }

    /// Runs `op` as soon as a bit of `mask` is set, as one waiter among many.
    pub(crate) async fn async_op<R>(
        &self,
        mask: Readiness,
        mut op: impl FnMut(&mut SlotState<T>) -> SocketResult<R>,
    ) -> io::Result<R> {
        loop {
            let coop = poll_fn(poll_proceed).await;
            match self.attempt(mask, &mut op) {
                Attempt::Done(result) => {
                    coop.made_progress();
                    return result.map_err(io::Error::from);
                }
                // See `charged_wait`.
                Attempt::Fresh => coop.made_progress(),
                Attempt::Blocked => {
                    drop(coop);
                    self.charged_wait(mask).await?;
                }
            }
        }
    }

    /// Runs `op` if a bit of `mask` is set and is no news; clears the bits if it would block.
    fn attempt<R>(
        &self,
        mask: Readiness,
        op: impl FnOnce(&mut SlotState<T>) -> SocketResult<R>,
    ) -> Attempt<R> {
        let mut state = self.slot.lock();
        if !state.ready.bits().intersects(mask) {
            return Attempt::Blocked;
        }
        if state.ready.take_fresh(mask) {
            return Attempt::Fresh;
        }
        let result = op(&mut state);
        let is_blocked = matches!(result, Err(SocketError::WouldBlock));
        if is_blocked {
            state.ready.clear(mask);
        }
        let flush = self.wants_flush(&state);
        drop(state);
        self.flush(flush);
        match is_blocked {
            true => Attempt::Blocked,
            false => Attempt::Done(result),
        }
    }

    /// As [`Self::try_op`], for an operation that takes its own locks or is the caller's.
    pub(crate) fn try_io<R>(
        &self,
        mask: Readiness,
        op: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<R> {
        let event = self.event(mask);
        if event.bits.is_empty() {
            return Err(would_block());
        }
        match op() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.clear(event);
                Err(would_block())
            }
            result => result,
        }
    }

    /// As [`Self::poll_op`], for an operation that takes its own locks.
    pub(crate) fn poll_io<R>(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        mut op: impl FnMut() -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        loop {
            let event = ready!(self.poll_event(cx, direction))?;
            match op() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.clear(event),
                result => return Poll::Ready(result),
            }
        }
    }

    /// As [`Self::async_op`], for an operation that takes its own locks or is the caller's.
    pub(crate) async fn async_io<R>(
        &self,
        mask: Readiness,
        mut op: impl FnMut() -> io::Result<R>,
    ) -> io::Result<R> {
        loop {
            let event = self.charged_wait(mask).await?;
            let coop = poll_fn(poll_proceed).await;
            match op() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.clear(event),
                result => {
                    coop.made_progress();
                    return result;
                }
            }
        }
    }

    /// Runs `op`, whatever the bits say, and waits as one among many for a bit of `mask` to be set anew if it would block.
    /// For operations on a part of the socket, which must not clear bits that concern the other parts.
    pub(crate) fn poll_part<R>(
        &self,
        cx: &mut Context<'_>,
        key: &mut Option<WaiterKey>,
        mask: Readiness,
        mut op: impl FnMut(&mut SlotState<T>) -> SocketResult<R>,
    ) -> Poll<io::Result<R>> {
        let coop = ready!(poll_proceed(cx));
        let mut spare = None;
        let mut state = self.slot.lock();
        loop {
            let result = op(&mut state);
            if matches!(result, Err(SocketError::WouldBlock)) && self.shared.is_alive() {
                let Some(waker) = spare.take() else {
                    state = self.clone_waker(state, cx, &mut spare);
                    continue;
                };
                let replaced = state.ready.wait(key, mask, waker);
                let flush = self.wants_flush(&state);
                drop(state);
                drop(replaced);
                self.flush(flush);
                return Poll::Pending;
            }
            let waker = key.take().and_then(|key| state.ready.forget(key));
            let flush = self.wants_flush(&state);
            drop(state);
            drop(waker);
            self.flush(flush);
            coop.made_progress();
            return Poll::Ready(match result {
                Err(SocketError::WouldBlock) => Err(stack_ended()),
                result => result.map_err(io::Error::from),
            });
        }
    }

    /// [`Self::poll_part`] as a future.
    pub(crate) async fn part_op<R>(
        &self,
        mask: Readiness,
        mut op: impl FnMut(&mut SlotState<T>) -> SocketResult<R>,
    ) -> io::Result<R> {
        let mut part = Part {
            io: self,
            key: None,
        };
        poll_fn(|cx| self.poll_part(cx, &mut part.key, mask, &mut op)).await
    }

    /// Gives up a wait of [`Self::poll_part`].
    pub(crate) fn forget(&self, key: &mut Option<WaiterKey>) {
        if let Some(key) = key.take() {
            let waker = self.slot.lock().ready.forget(key);
            drop(waker);
        }
    }

    /// Waits for a bit of `mask`.
    pub(crate) async fn wait_for(&self, mask: Readiness) -> io::Result<()> {
        self.wait(mask).await.map(|_| ())
    }

    /// Waits for an interest. Costs no budget, as in tokio.
    pub(crate) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        let event = self.wait(mask(interest)).await?;
        Ok(to_ready(event.bits))
    }

    /// Waits for a direction, keeping the last waker. One unit of the task's budget.
    pub(crate) fn poll_ready(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
    ) -> Poll<io::Result<()>> {
        self.poll_event(cx, direction).map_ok(|_| ())
    }

    fn poll_event(&self, cx: &mut Context<'_>, direction: Direction) -> Poll<io::Result<Event>> {
        let coop = ready!(poll_proceed(cx));
        let mut spare = None;
        let mut state = self.slot.lock();
        loop {
            let bits = state.ready.bits() & direction.mask();
            if !bits.is_empty() {
                coop.made_progress();
                let tick = state.ready.tick();
                return Poll::Ready(Ok(Event {
                    bits,
                    tick,
                    fresh: false,
                }));
            }
            if !self.shared.is_alive() {
                return Poll::Ready(Err(stack_ended()));
            }
            if spare.is_none() && !state.ready.has_waker(direction, cx.waker()) {
                state = self.clone_waker(state, cx, &mut spare);
                continue;
            }
            let replaced = spare
                .take()
                .and_then(|waker| state.ready.set_waker(direction, waker));
            drop(state);
            drop(replaced);
            return Poll::Pending;
        }
    }

    /// Clones the task's waker with the lock released: a waker's clone may be anybody's code. The caller looks at the
    /// socket again.
    fn clone_waker<'a>(
        &'a self,
        state: MutexGuard<'a, SlotState<T>>,
        cx: &Context<'_>,
        spare: &mut Option<Waker>,
    ) -> MutexGuard<'a, SlotState<T>> {
        drop(state);
        *spare = Some(cx.waker().clone());
        self.slot.lock()
    }

    fn event(&self, mask: Readiness) -> Event {
        let state = self.slot.lock();
        Event {
            bits: state.ready.bits() & mask,
            tick: state.ready.tick(),
            fresh: false,
        }
    }

    fn clear(&self, event: Event) {
        self.slot
            .lock()
            .ready
            .clear_if_unchanged(event.bits, event.tick);
    }

    /// Waits for an operation's sake. A bit that has turned up since the last look, without a wait, costs a unit of
    /// the budget: on a kernel's socket it would have cost a turn of tokio's driver. Otherwise two tasks that talk
    /// inside one stack would learn of each other for nothing and yield less often than they do on a kernel.
    async fn charged_wait(&self, mask: Readiness) -> io::Result<Event> {
        let event = self.wait(mask).await?;
        if event.fresh {
            poll_fn(poll_proceed).await.made_progress();
        }
        Ok(event)
    }

    fn wait(&self, mask: Readiness) -> Wait<'_, T> {
        Wait {
            io: self,
            mask,
            key: None,
        }
    }
}

impl<T> fmt::Debug for Io<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").finish_non_exhaustive()
    }
}

// A panic elsewhere leaves a slot between two assignments at worst, and the socket goes on: tokio's promise too.
impl<T> UnwindSafe for Io<T> {}
impl<T> RefUnwindSafe for Io<T> {}

/// A wait of [`Io::poll_part`], given up when it is dropped.
struct Part<'a, T: Socket> {
    io: &'a Io<T>,
    key: Option<WaiterKey>,
}

impl<T: Socket> Drop for Part<'_, T> {
    fn drop(&mut self) {
        self.io.forget(&mut self.key);
    }
}

/// Resolves when a bit of the mask is set, or was set since the last poll and another waiter has used it up.
struct Wait<'a, T: Socket> {
    io: &'a Io<T>,
    mask: Readiness,
    key: Option<WaiterKey>,
}

impl<T: Socket> Future for Wait<'_, T> {
    type Output = io::Result<Event>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut spare = None;
        let mut state = this.io.slot.lock();
        loop {
            let event = Event {
                bits: state.ready.bits() & this.mask,
                tick: state.ready.tick(),
                fresh: state.ready.take_fresh(this.mask) && this.key.is_none(),
            };
            let woken = this.key.is_some_and(|key| state.ready.is_woken(key));
            if !event.bits.is_empty() || woken {
                let waker = this.key.take().and_then(|key| state.ready.forget(key));
                drop(state);
                drop(waker);
                return Poll::Ready(Ok(event));
            }
            if !this.io.shared.is_alive() {
                return Poll::Ready(Err(stack_ended()));
            }
            let Some(waker) = spare.take() else {
                state = this.io.clone_waker(state, cx, &mut spare);
                continue;
            };
            let replaced = state.ready.wait(&mut this.key, this.mask, waker);
            drop(state);
            drop(replaced);
            return Poll::Pending;
        }
    }
}

impl<T: Socket> Drop for Wait<'_, T> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            let waker = self.io.slot.lock().ready.forget(key);
            drop(waker);
        }
    }
}
