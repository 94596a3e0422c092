//! One timer, moved about: what the receivers of impaired links wait for.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// A timer of tokio's, made when it is first needed: only then must there be a runtime with time.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Ready when the deadline, in nanoseconds since the epoch, has passed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, epoch: Instant, deadline: u64) -> Poll<()> {
        // A deadline beyond the clock's range never comes; a day is as good.
        const DAY: Duration = Duration::from_secs(86_400);
        let instant = epoch
            .checked_add(Duration::from_nanos(deadline))
            .unwrap_or_else(|| Instant::now() + DAY);
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(instant)));
        if sleep.deadline() != instant {
            sleep.as_mut().reset(instant);
        }
        sleep.as_mut().poll(cx)
    }
}
