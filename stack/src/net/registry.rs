//! Which stack a socket belongs to when nobody names one.
//!
//! Looked for in this order: the stack of an enclosing [`Stack::scope`] or [`Stack::enter`]; the stack registered for
//! the current tokio runtime; the process default; and last a loopback-only stack made on first use for the runtime.
//! Entries are weak and checked for life at look-up, since runtime ids are reused once their runtime has ended.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use pin_project::pin_project;
use tokio::runtime::{Handle, Id};

use super::stack::{Stack, WeakStack};

/// How a runtime came by its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Built or attached by the program.
    Explicit,
    /// Made because nothing else was there; gives way to an explicit one.
    Lazy,
}

struct Entry {
    stack: WeakStack,
    origin: Origin,
}

#[derive(Default)]
struct Registry {
    runtimes: HashMap<Id, Entry>,
    default: Option<WeakStack>,
}

static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);

thread_local! {
    /// The scopes this thread is in, innermost last, each with its number.
    static SCOPES: RefCell<Vec<(u64, Stack)>> = const { RefCell::new(Vec::new()) };
}

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    fn living(&self, id: Id) -> Option<Stack> {
        self.runtimes
            .get(&id)
            .and_then(|entry| entry.stack.upgrade())
    }

    /// Adds an entry, and takes out what has died, so that the map stays as large as the number of living stacks.
    /// What it gives back holds the program's resolvers: drop it with the lock released.
    #[must_use = "drop the entries after the lock is released"]
    fn insert(&mut self, id: Id, stack: &Stack, origin: Origin) -> Vec<Entry> {
        let dead = self.runtimes.extract_if(|_, entry| !entry.stack.is_alive());
        let mut removed: Vec<Entry> = dead.map(|(_, entry)| entry).collect();
        let entry = Entry {
            stack: stack.downgrade(),
            origin,
        };
        removed.extend(self.runtimes.insert(id, entry));
        removed
    }
}

/// The stack for a socket made here and now.
pub(crate) fn current() -> io::Result<Stack> {
    if let Some(stack) = SCOPES.with_borrow(|scopes| scopes.last().map(|(_, stack)| stack.clone()))
    {
        return Ok(stack);
    }
    let runtime = Handle::try_current().ok();
    let mut registry = registry();
    if let Some(runtime) = &runtime
        && let Some(stack) = registry.living(runtime.id())
    {
        return Ok(stack);
    }
    if let Some(stack) = registry.default.as_ref().and_then(WeakStack::upgrade) {
        return Ok(stack);
    }
    let Some(runtime) = runtime else {
        return Err(io::Error::new(
            io::ErrorKind::NotConnected,
            "no network stack here: not in a tokio runtime, not in Stack::scope or Stack::enter, and no Stack::set_default",
        ));
    };
    let stack = Stack::lazy_loopback(&runtime)?;
    let removed = registry.insert(runtime.id(), &stack, Origin::Lazy);
    drop(registry);
    drop(removed);
    Ok(stack)
}

/// Makes `stack` the one that sockets of `runtime` find, unless it has an explicit one that still lives.
pub(crate) fn register_if_vacant(runtime: &Handle, stack: &Stack) {
    let mut registry = registry();
    let present = registry.runtimes.get(&runtime.id());
    if present.is_some_and(|entry| entry.origin == Origin::Explicit && entry.stack.is_alive()) {
        return;
    }
    let removed = registry.insert(runtime.id(), stack, Origin::Explicit);
    drop(registry);
    drop(removed);
}

/// Makes `stack` the one that sockets of `runtime` find, whatever was there before.
pub(crate) fn register(runtime: &Handle, stack: &Stack) {
    let removed = registry().insert(runtime.id(), stack, Origin::Explicit);
    drop(removed);
}

/// Forgets what was attached to a runtime that has ended, if it is still `stack`.
pub(crate) fn unregister(id: Id, stack: &WeakStack) {
    let mut registry = registry();
    let present = registry.runtimes.get(&id);
    let removed = match present.is_some_and(|entry| entry.stack.is_same(stack)) {
        true => registry.runtimes.remove(&id),
        false => None,
    };
    drop(registry);
    drop(removed);
}

/// Makes `stack` the one for sockets that find no other.
pub(crate) fn set_default(stack: &Stack) {
    let replaced = registry().default.replace(stack.downgrade());
    drop(replaced);
}

/// Whether a lazily made loopback stack other than `refused_by` listens on a loopback port: explains a refusal.
pub(crate) fn lazy_listener_elsewhere(refused_by: &Stack, remote: SocketAddr) -> Option<Id> {
    let candidates: Vec<(Id, Stack)> = {
        let registry = registry();
        let lazy = registry
            .runtimes
            .iter()
            .filter(|(_, entry)| entry.origin == Origin::Lazy);
        lazy.filter_map(|(id, entry)| Some((*id, entry.stack.upgrade()?)))
            .collect()
    };
    let others = candidates
        .into_iter()
        .filter(|(_, stack)| !stack.is_same(refused_by));
    others
        .into_iter()
        .find(|(_, stack)| stack.listens_on(remote))
        .map(|(id, _)| id)
}

/// Whether `stack` is one that was made lazily.
pub(crate) fn is_lazy(stack: &Stack) -> bool {
    let weak = stack.downgrade();
    let registry = registry();
    registry
        .runtimes
        .values()
        .any(|entry| entry.origin == Origin::Lazy && entry.stack.is_same(&weak))
}

/// Leaves the stack's scope when dropped; made by [`Stack::enter`].
#[derive(Debug)]
#[must_use = "the scope ends when the guard is dropped"]
pub struct Entered<'a> {
    number: u64,
    /// Of the thread that entered, and of the stack entered.
    _scope: PhantomData<(*const (), &'a Stack)>,
}

impl<'a> Entered<'a> {
    pub(crate) fn new(stack: &'a Stack) -> Self {
        let number = SCOPES.with_borrow_mut(|scopes| {
            let number = scopes.last().map_or(0, |(number, _)| number + 1);
            scopes.push((number, stack.clone()));
            number
        });
        Self {
            number,
            _scope: PhantomData,
        }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        // Dropped out of order, only its own scope goes. The handle is dropped outside the borrow.
        let left = SCOPES.try_with(|scopes| {
            let mut scopes = scopes.borrow_mut();
            let at = scopes.iter().position(|(number, _)| *number == self.number);
            at.map(|at| scopes.remove(at))
        });
        drop(left);
    }
}

/// A future whose sockets belong to one stack; made by [`Stack::scope`].
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Scoped<F> {
    stack: Stack,
    #[pin]
    future: F,
}

impl<F> Scoped<F> {
    pub(crate) fn new(stack: Stack, future: F) -> Self {
        Self { stack, future }
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = Entered::new(this.stack);
        this.future.poll(cx)
    }
}
