//! The sending half of TUN, TAP and packet sockets: what the kernel does not take stays queued, and waiting for it never
//! spins.
//!
//! | the kernel said | [`Transmitter::poll_transmit_ready`] waits |
//! |---|---|
//! | `EAGAIN` | for `epoll` |
//! | `ENOBUFS`, `ENOMEM` | 1 ms: `epoll` would say "writable" at once |
//! | `EIO`, `ENETDOWN` | 100 ms, until the interface is up again; this is told as `ENETDOWN` |

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{Interest, Ready};
use tokio::time::Sleep;

use super::counters::count;
use super::queue::{Hindrance, Queue};
use crate::device::Transmitter;
use crate::packet::Packet;

/// A wait for a queue further down: tokio's shortest. A veth's backlog of 1,000 packets is empty again by then.
const BUSY_WAIT: Duration = Duration::from_millis(1);

/// A wait for an interface that is down. Whoever sets it up again notices no tenth of a second.
const DOWN_WAIT: Duration = Duration::from_millis(100);

/// How long one packet may meet `ENOBUFS` before it is given up. A queue that drains at all takes one long before;
/// but a filter on the interface (tc, nftables egress) that drops a packet gives `ENOBUFS` too, every time, and the
/// packets behind it must not wait for ever.
const BUSY_LIMIT: Duration = Duration::from_millis(250);

/// How often it has to have met that, too: a process that did not run for so long has not tried for so long.
const BUSY_TRIES: u32 = 50;

/// The sending half.
pub(super) struct KernelTransmitter {
    queue: Arc<Queue>,
    /// Whether `state` has anything to clear after a success: spares the usual case the lock.
    is_hindered: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    hindrance: Option<Hindrance>,
    /// Since when, and how often, the packet in front has met `ENOBUFS`.
    busy: Option<(Instant, u32)>,
    timer: Option<(Hindrance, Pin<Box<Sleep>>)>,
}

impl KernelTransmitter {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Self {
            queue,
            is_hindered: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every state is a valid one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, packets: &mut VecDeque<Packet>) -> io::Result<Option<Hindrance>> {
        let mut outcome = None;
        // Clears the cached readiness when, and only when, the descriptor is full: no other hindrance ends with an edge.
        let _ = self.queue.fd.try_io(Interest::WRITABLE, |_| {
            let result = self.queue.write_packets(packets);
            let is_full = matches!(result, Ok(Some(Hindrance::Full)));
            outcome = Some(result);
            if is_full {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                Ok(())
            }
        });
        // Without an outcome, the cached readiness says "full", or the runtime has not looked yet. The kernel knows
        // better; if it is full indeed, the cache is empty already and `poll_transmit_ready` will wait.
        outcome.unwrap_or_else(|| self.queue.write_packets(packets))
    }

    /// Whether the packet in front has been refused for so long that it is given up.
    fn has_lost_patience(&self, has_progressed: bool) -> bool {
        let mut state = self.state();
        if has_progressed {
            state.busy = None;
        }
        let now = Instant::now();
        let (since, tries) = state.busy.get_or_insert((now, 0));
        *tries += 1;
        let is_over = *tries >= BUSY_TRIES && now.duration_since(*since) >= BUSY_LIMIT;
        if is_over {
            state.busy = None;
        }
        is_over
    }

    fn set_hindrance(&self, hindrance: Option<Hindrance>) {
        if hindrance.is_none() && !self.is_hindered.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.state();
        self.is_hindered
            .store(hindrance.is_some(), Ordering::Relaxed);
        state.hindrance = hindrance;
        if hindrance != Some(Hindrance::Busy) {
            state.busy = None;
        }
    }
}

impl Transmitter for KernelTransmitter {
    fn try_transmit(&self, packets: &mut VecDeque<Packet>) -> io::Result<()> {
        loop {
            let before = packets.len();
            let hindrance = self.write(packets)?;
            if hindrance == Some(Hindrance::Busy) && self.has_lost_patience(packets.len() < before)
            {
                count(&self.queue.counters.counts().transmit_refused);
                packets.pop_front();
                continue;
            }
            self.set_hindrance(hindrance);
            return match hindrance {
                None => Ok(()),
                Some(Hindrance::Full | Hindrance::Busy) => Err(io::ErrorKind::WouldBlock.into()),
                Some(Hindrance::Down) => Err(io::Error::from_raw_os_error(libc::ENETDOWN)),
            };
        }
    }

    fn poll_transmit_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        match state.hindrance {
            None => Poll::Ready(Ok(())),
            Some(Hindrance::Full) => {
                // Readiness stays until `try_transmit` has seen the descriptor full.
                let guard = ready!(self.queue.fd.poll_write_ready(cx))?;
                if (guard.ready() & Ready::WRITABLE).is_empty() {
                    // An interface that went down was reported as an error, which tokio takes for the end of writing
                    // and never forgets: no wait on this descriptor waits any more (99,000 tries in 140 ms).
                    ready!(state.poll_timer(cx, Hindrance::Full, BUSY_WAIT));
                }
                Poll::Ready(Ok(()))
            }
            Some(Hindrance::Busy) => state.poll_timer(cx, Hindrance::Busy, BUSY_WAIT).map(Ok),
            Some(Hindrance::Down) => state.poll_timer(cx, Hindrance::Down, DOWN_WAIT).map(Ok),
        }
    }
}

impl State {
    /// Waits for `period` from the first call on; the next call after that starts anew.
    fn poll_timer(
        &mut self,
        cx: &mut Context<'_>,
        hindrance: Hindrance,
        period: Duration,
    ) -> Poll<()> {
        if self.timer.as_ref().is_none_or(|(of, _)| *of != hindrance) {
            self.timer = Some((hindrance, Box::pin(tokio::time::sleep(period))));
        }
        if let Some((_, sleep)) = &mut self.timer {
            ready!(sleep.as_mut().poll(cx));
        }
        self.timer = None;
        Poll::Ready(())
    }
}
