//! Keepalive: finding out that an idle peer is gone (RFC 9293 3.8.4).
//!
//! Owns when probes go out and when their silence ends the connection. Off unless the socket asks for it (MUST-25),
//! first after two hours (MUST-28), and never on one lost probe alone (MUST-29): an ACK without data is not delivered
//! reliably.

use std::time::Duration;

use crate::tcp::connection::Connection;
use crate::tcp::connection::state::Lifecycle;
use crate::tcp::connection::timers::Timer;
use crate::time::Instant;

impl Connection {
    /// Turns keepalive on or off (`SO_KEEPALIVE`).
    pub fn set_keepalive(&mut self, now: Instant, on: bool) {
        self.options_mut().keepalive = on;
        self.start_keepalive(now);
    }

    /// Sets the idle time before the first probe (`TCP_KEEPIDLE`); `None` is the stack's configuration.
    pub fn set_keepalive_idle(&mut self, now: Instant, idle: Option<Duration>) {
        self.options_mut().keepalive_idle = idle;
        self.start_keepalive(now);
    }

    /// Whether keepalive is on.
    pub fn keepalive(&self) -> bool {
        self.options.keepalive
    }

    /// Arms the timer when keepalive is on, and stops it otherwise.
    pub(super) fn start_keepalive(&mut self, now: Instant) {
        if self.options.keepalive && matches!(self.lifecycle, Lifecycle::Synchronized { .. }) {
            let idle_since = self.last_received;
            let deadline = (idle_since + self.keepalive_idle()).max(now);
            self.timers.set(Timer::Keepalive, deadline);
        } else {
            self.timers.clear(Timer::Keepalive);
        }
    }

    /// Idle time before the first probe.
    pub fn keepalive_idle(&self) -> Duration {
        self.options
            .keepalive_idle
            .unwrap_or(self.config.keepalive_idle)
    }

    /// Time between probes.
    pub fn keepalive_interval(&self) -> Duration {
        self.options
            .keepalive_interval
            .unwrap_or(self.config.keepalive_interval)
    }

    /// Probes that may go unanswered.
    pub fn keepalive_probes(&self) -> u32 {
        self.options
            .keepalive_probes
            .unwrap_or(self.config.keepalive_probes)
    }

    /// The timer fired: probe, wait on, or give the peer up.
    pub(super) fn keepalive_timeout(&mut self, now: Instant) {
        if !matches!(self.lifecycle, Lifecycle::Synchronized { .. }) {
            return;
        }
        // Data in flight or a closed window have timers of their own, which find out sooner.
        let idle_end = self.last_received + self.keepalive_idle();
        if !self.board.is_empty() || self.unsent() > 0 {
            self.timers
                .set(Timer::Keepalive, now + self.keepalive_idle());
            return;
        }
        // Received segments do not touch the timer: that the peer was heard shows here.
        if idle_end > now {
            self.timers.set(Timer::Keepalive, idle_end);
            return;
        }
        let unheard = now - self.last_received;
        let given_up = match self.options.user_timeout {
            // As Linux: the user timeout stands for the number of probes.
            Some(limit) => self.keepalives_unanswered > 0 && unheard >= limit,
            None => self.keepalives_unanswered >= self.keepalive_probes(),
        };
        if given_up {
            self.pending.reset = true;
            self.give_up();
            self.dirty = true;
            return;
        }
        self.keepalives_unanswered += 1;
        self.pending.keepalive_probe = true;
        self.timers
            .set(Timer::Keepalive, now + self.keepalive_interval());
        self.dirty = true;
    }
}
