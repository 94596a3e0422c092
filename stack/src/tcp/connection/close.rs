//! Ways to end: half-close, close, linger, abort, and what is left behind.
//!
//! Owns the rules of CLOSE and ABORT (RFC 9293 3.10.4, 3.10.5) as sockets have them: a clean drop finishes in the
//! background as an orphan, unread data or a zero linger time resets (RFC 1122 4.2.2.13, RFC 2525 2.17).

use std::collections::VecDeque;
use std::time::Duration;

use crate::error::{SocketError, SocketResult};
use crate::tcp::Transmit;
use crate::tcp::connection::output::Pending;
use crate::tcp::connection::state::{Lifecycle, ReceiveHalf, SendHalf};
use crate::tcp::connection::timers::Timer;
use crate::tcp::connection::{Connection, Phase};
use crate::tcp::info::State;
use crate::tcp::time_wait::TimeWaitEntry;
use crate::time::Instant;
use crate::transport::Readiness;

impl Connection {
    /// Ends the direction to the peer: a FIN follows the data written. Repeating it is harmless.
    ///
    /// # Errors
    /// [`SocketError::NotConnected`] when there is no connection (any more), as Linux.
    pub fn shutdown_write(&mut self) -> SocketResult<()> {
        match &mut self.lifecycle {
            Lifecycle::Synchronized { send, .. } => {
                if *send == SendHalf::Open {
                    *send = SendHalf::FinQueued;
                    self.dirty = true;
                    if self.read_closed() {
                        self.readiness |= Readiness::WRITE_CLOSED;
                    }
                    self.readiness |= Readiness::WRITABLE;
                }
                Ok(())
            }
            Lifecycle::Opening(handshake) => {
                handshake.close_when_established = true;
                Ok(())
            }
            Lifecycle::TimeWait { .. } | Lifecycle::Closed => Err(SocketError::NotConnected),
        }
    }

    /// Ends reading: a read gives what has arrived, then the end of the stream. The peer is not told, as on Linux.
    pub fn shutdown_read(&mut self) {
        self.read_shutdown = true;
        self.readiness |= Readiness::READABLE | Readiness::READ_CLOSED;
        if self.write_closed() {
            self.readiness |= Readiness::WRITE_CLOSED;
        }
    }

    /// The owner lets go. The connection finishes in the background, or is reset: with unread data, since the peer must
    /// learn that it was lost (RFC 9293 3.6.1, SHLD-3), or with a zero linger time.
    pub fn close(&mut self, now: Instant) {
        if self.orphan {
            return;
        }
        self.orphan = true;
        let unread = !self.receive.is_drained();
        let zero_linger = self.options.linger == Some(Duration::ZERO);
        self.receive.discard();
        self.settle_memory();
        self.read_shutdown = true;
        match &mut self.lifecycle {
            Lifecycle::Opening(handshake) => {
                if handshake.syn_received && !zero_linger {
                    handshake.close_when_established = true;
                } else {
                    self.abort();
                }
                return;
            }
            Lifecycle::Synchronized { .. } if unread || zero_linger => {
                self.abort();
                return;
            }
            Lifecycle::Synchronized { send, .. } => {
                if *send == SendHalf::Open {
                    *send = SendHalf::FinQueued;
                    self.dirty = true;
                }
            }
            Lifecycle::TimeWait { .. } | Lifecycle::Closed => return,
        }
        self.timers.clear(Timer::Keepalive);
        if let Some(linger) = self.options.linger {
            self.timers.set(Timer::Linger, now + linger);
        } else if self.state() == State::FinWait2 {
            self.limit_fin_wait_2(now);
        }
    }

    /// Ends the connection at once; the peer gets a RST where RFC 9293 3.10.5 wants one.
    pub fn abort(&mut self) {
        let reset = self.is_to_be_reset();
        if self.lifecycle.is_over() {
            return;
        }
        self.end(None);
        self.pending.reset = reset;
        self.dirty |= reset;
    }

    /// What tells the peer that the connection is given up, if RFC 9293 3.10.5 wants that: for who is about to
    /// [`Self::fail`] it, after which nothing is sent any more.
    pub fn farewell(&mut self, now: Instant) -> Option<Transmit> {
        self.is_to_be_reset().then(|| self.build_reset(now))
    }

    fn is_to_be_reset(&self) -> bool {
        matches!(
            self.state(),
            State::SynReceived
                | State::Established
                | State::FinWait1
                | State::FinWait2
                | State::CloseWait
        )
    }

    /// The interface or the stack has ended: no packet can be sent any more.
    pub fn fail(&mut self, error: SocketError) {
        if !self.lifecycle.is_over() {
            self.end(Some(error));
        }
        self.pending = Pending::default();
        self.receive.acks.on_ack_sent();
        self.dirty = false;
    }

    /// What the engine has to do with the connection. [`Phase::TimeWait`] is given once; until then and until the last
    /// segment is out, the phase is [`Phase::Open`]. Data not read stays readable in every phase.
    pub fn phase(&mut self) -> Phase {
        if !self.nothing_pending() || self.ack_is_waiting() {
            return Phase::Open;
        }
        match &mut self.lifecycle {
            Lifecycle::Opening(_) | Lifecycle::Synchronized { .. } => Phase::Open,
            Lifecycle::TimeWait { handed_over: true } | Lifecycle::Closed => Phase::Closed,
            Lifecycle::TimeWait { handed_over } => {
                *handed_over = true;
                Phase::TimeWait(Box::new(self.time_wait_entry()))
            }
        }
    }

    /// Nobody holds the connection any more.
    pub fn is_orphan(&self) -> bool {
        self.orphan
    }

    /// What the TIME-WAIT table needs to know.
    fn time_wait_entry(&self) -> TimeWaitEntry {
        TimeWaitEntry {
            tuple: self.tuple,
            snd_nxt: self.window.snd_nxt,
            rcv_nxt: self.receive.rcv_nxt(),
            rcv_wnd: self.receive.window.len(),
            window_shift: self.negotiated.receive_shift(),
            timestamps: self.negotiated.timestamps,
        }
    }

    /// Acts on a change of the halves: closed, TIME-WAIT, or FIN-WAIT-2 to be limited.
    pub(super) fn settle_halves(&mut self, now: Instant) {
        match self.lifecycle {
            Lifecycle::Synchronized {
                send: SendHalf::FinAcked,
                receive: ReceiveHalf::FinReceived { passive },
            } => {
                self.release();
                self.lifecycle = if passive {
                    Lifecycle::Closed
                } else {
                    Lifecycle::TimeWait { handed_over: false }
                };
                tracing::debug!(state = ?self.state(), "closed");
            }
            Lifecycle::Synchronized {
                send: SendHalf::FinAcked,
                receive: ReceiveHalf::Open,
            } if self.orphan => self.limit_fin_wait_2(now),
            _ => {}
        }
    }

    /// FIN-WAIT-2 of an orphan ends in time, since only the peer could end it otherwise (as Linux, RFC 9293 leaves it).
    fn limit_fin_wait_2(&mut self, now: Instant) {
        // Counted from the beginning: segments of the peer do not prolong it.
        if !self.timers.is_set(Timer::Linger) {
            let limit = self.options.fin_wait_2.unwrap_or(self.config.fin_wait_2);
            self.timers.set(Timer::Linger, now + limit);
        }
    }

    /// The connection is over: `error` is what the next operation reports.
    pub(super) fn end(&mut self, error: Option<SocketError>) {
        if let Some(error) = error {
            self.error = Some(error);
            self.readiness |= Readiness::ERROR;
        }
        self.lifecycle = Lifecycle::Closed;
        self.release();
        // ACKs owed would reach a peer that has no connection any more, and earn a reset.
        self.pending.acks = VecDeque::new();
        self.receive.acks.on_ack_sent();
        self.buffer.clear();
        self.receive.forget_out_of_order();
        self.settle_memory();
        self.readiness |= Readiness::READABLE
            | Readiness::WRITABLE
            | Readiness::READ_CLOSED
            | Readiness::WRITE_CLOSED;
        tracing::debug!(tuple = ?self.tuple, ?error, "ended");
    }

    /// Stops all timers and forgets what was to be sent, but for a reset or an ACK.
    fn release(&mut self) {
        self.timers.clear_all();
        self.board.clear();
        self.pending.forget_probes();
    }
}
