//! The stack's clock: its runtime's, so that a paused runtime pauses the stack.

#![allow(
    clippy::disallowed_methods,
    reason = "the one place that reads a clock"
)]

use std::io;

use tokio::runtime::Handle;

use crate::time::Instant;

/// Reads time with the stack's runtime entered: a foreign thread's clock would ignore that the runtime's is paused.
#[derive(Debug)]
pub struct Clock {
    handle: Handle,
    epoch: tokio::time::Instant,
}

impl Clock {
    /// A clock that begins now.
    ///
    /// # Errors
    /// When the runtime was built without time.
    pub(crate) fn new(handle: Handle) -> io::Result<Self> {
        let epoch = {
            let _entered = handle.enter();
            // A runtime without a time driver panics when a timer is made; find out here and say so.
            let timer =
                std::panic::catch_unwind(|| drop(tokio::time::sleep(std::time::Duration::ZERO)));
            if timer.is_err() {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "a tidewire stack needs a tokio runtime with time enabled (Builder::enable_time or enable_all)",
                ));
            }
            tokio::time::Instant::now()
        };
        Ok(Self { handle, epoch })
    }

    /// Now.
    pub fn now(&self) -> Instant {
        let _entered = self.handle.enter();
        self.now_inside()
    }

    /// Now, for the driver, which the stack's runtime polls and has entered.
    pub(crate) fn now_inside(&self) -> Instant {
        self.instant(tokio::time::Instant::now())
    }

    /// The same moment as tokio has it.
    pub(crate) fn to_tokio(&self, instant: Instant) -> tokio::time::Instant {
        self.epoch + std::time::Duration::from_nanos(instant.as_nanos())
    }

    /// A moment of tokio's as the stack has it.
    pub(crate) fn instant(&self, tokio: tokio::time::Instant) -> Instant {
        Instant::from_nanos(tokio.saturating_duration_since(self.epoch).as_nanos() as u64)
    }

    /// The stack's runtime.
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }
}
