//! What a socket sets for itself, and what a change of it does at once.
//!
//! Owns the setters and the cork (`TCP_CORK`). Keepalive's times are used in `keepalive`, buffer sizes in `io`.

use std::sync::Arc;
use std::time::Duration;

use crate::tcp::config::SocketOptions;
use crate::tcp::connection::Connection;
use crate::tcp::connection::state::SendHalf;
use crate::tcp::connection::timers::Timer;
use crate::time::Instant;

/// How long a corked connection holds back less than a segment, as Linux (which does it with its shortest RTO).
const CORK_CEILING: Duration = Duration::from_millis(200);

impl Connection {
    /// Changes options; what follows from a change happens at once.
    pub fn change_options(&mut self, now: Instant, change: impl FnOnce(&mut SocketOptions)) {
        let now = self.advance_clock(now);
        let before = Arc::clone(&self.options);
        change(self.options_mut());
        if before.congestion_control != self.options.congestion_control {
            self.replace_controller();
        }
        let keepalive = |options: &SocketOptions| (options.keepalive, options.keepalive_idle);
        if keepalive(&before) != keepalive(&self.options) {
            self.start_keepalive(now);
        }
        if before.cork && !self.options.cork {
            self.pending.cork_expired = false;
        }
        self.tell_room();
        self.dirty = true;
    }

    /// The congestion controller's name, as Linux spells it.
    pub fn congestion_control(&self) -> &'static str {
        self.congestion.name()
    }

    /// The options, apart from those of others that share them until now.
    pub(super) fn options_mut(&mut self) -> &mut SocketOptions {
        Arc::make_mut(&mut self.options)
    }

    /// What of `available` octets may be sent: under a cork, whole segments until it has held the rest for long enough.
    /// A FIN pulls it (as with Linux).
    pub(super) fn uncorked(&mut self, now: Instant, available: usize, mss: usize) -> usize {
        if !self.options.cork
            || self.lifecycle.send_half() == Some(SendHalf::FinQueued)
            || std::mem::take(&mut self.pending.cork_expired)
        {
            return available;
        }
        let whole = available / mss * mss;
        // While something is in flight its ACK will bring us here again.
        if whole == 0 && self.board.is_empty() && !self.timers.is_set(Timer::Persist) {
            self.timers.set(Timer::Persist, now + CORK_CEILING);
        }
        whole
    }

    /// The persist timer fired: whether that was for the cork, not for the peer's window.
    pub(super) fn cork_timeout(&mut self) -> bool {
        let held = self.unsent();
        let by_cork = self.options.cork
            && held < self.mss as usize
            && self.window.usable() >= held
            && self.board.is_empty();
        if by_cork {
            self.pending.cork_expired = true;
            self.dirty = true;
        }
        by_cork
    }

    /// Sends small segments at once, or not (`TCP_NODELAY`).
    pub fn set_nodelay(&mut self, nodelay: bool) {
        self.options_mut().nodelay = nodelay;
        self.dirty |= nodelay;
    }

    /// Whether small segments are sent at once.
    pub fn nodelay(&self) -> bool {
        self.options.nodelay
    }

    /// What a close does with data not yet delivered (`SO_LINGER`).
    pub fn set_linger(&mut self, linger: Option<Duration>) {
        self.options_mut().linger = linger;
    }

    /// See [`Self::set_linger`].
    pub fn linger(&self) -> Option<Duration> {
        self.options.linger
    }

    /// Acknowledges at once for a while, or expects the application's answers to carry ACKs (`TCP_QUICKACK`).
    pub fn set_quickack(&mut self, quickack: bool) {
        self.receive.acks.set_quickack(quickack);
        self.dirty |= self.ack_is_waiting();
    }

    /// See [`Self::set_quickack`].
    pub fn quickack(&self) -> bool {
        self.receive.acks.quickack()
    }

    /// How long data may stay unacknowledged before the connection fails (`TCP_USER_TIMEOUT`, RFC 5482).
    pub fn set_user_timeout(&mut self, timeout: Option<Duration>) {
        self.options_mut().user_timeout = timeout;
    }

    /// Octets a write may leave unacknowledged (`SO_SNDBUF`).
    pub fn set_send_buffer(&mut self, octets: usize) {
        self.options_mut().send_buffer = Some(octets);
        self.tell_room();
    }

    /// Octets that may wait to be read (`SO_RCVBUF`).
    pub fn set_receive_buffer(&mut self, octets: usize) {
        self.options_mut().receive_buffer = Some(octets);
        self.receive
            .set_capacity(octets.min(self.config.max_receive_buffer));
    }

    /// The socket options in force.
    pub fn options(&self) -> &SocketOptions {
        &self.options
    }
}
