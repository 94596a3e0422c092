//! Who hears of every ICMP error about a packet of this host: what `IP_RECVERR` and a raw ICMP socket are for.
//!
//! Owned here: listeners' queues and those who wait for them. What an error means for the socket it is about is `icmp`'s.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Poll, Waker};

use tidewire_netdev::Packet;

use crate::engine::{Engine, WakeList, lock};
use crate::error::{SocketError, SocketResult};
use crate::ip::icmp::ReceivedError;
use crate::ip::input::IpPacket;
use crate::wire::{icmpv4, icmpv6};

/// An ICMP error about a packet of this host, and who says so (RFC 792, RFC 4443 3).
///
/// Nobody has checked that the quoted packet was ever sent: anybody can say anything (RFC 5927).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IcmpReport {
    /// Who reports: a router on the way, or the host at its end.
    pub reporter: IpAddr,
    /// TTL, or hop limit, of the report as it arrived.
    pub hop_limit: u8,
    /// The message's type, of ICMP or ICMPv6 as [`Self::reporter`] is of IPv4 or IPv6.
    pub kind: u8,
    /// The message's code.
    pub code: u8,
    /// What it means, and the packet that it is about.
    pub about: ReceivedError,
}

impl IcmpReport {
    /// Whether the packet's TTL, or hop limit, ran out on the way.
    pub const fn is_time_exceeded(&self) -> bool {
        matches!(
            (self.reporter, self.kind, self.code),
            (IpAddr::V4(_), icmpv4::kind::TIME_EXCEEDED, 0)
                | (IpAddr::V6(_), icmpv6::kind::TIME_EXCEEDED, 0)
        )
    }

    /// Whether nobody has the port that the packet was for.
    pub const fn is_port_unreachable(&self) -> bool {
        matches!(
            (self.reporter, self.kind, self.code),
            (
                IpAddr::V4(_),
                icmpv4::kind::DESTINATION_UNREACHABLE,
                icmpv4::unreachable::PORT
            ) | (
                IpAddr::V6(_),
                icmpv6::kind::DESTINATION_UNREACHABLE,
                icmpv6::unreachable::PORT
            )
        )
    }
}

/// A queue of reports.
#[derive(Debug, Default)]
pub struct IcmpListener {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    reports: VecDeque<IcmpReport>,
    waiters: Vec<Waker>,
    /// Reports that found the queue full.
    lost: u64,
    has_ended: bool,
}

/// Reports that wait for a listener; more are lost.
const MAX_REPORTS: usize = 1024;

impl IcmpListener {
    /// The oldest report; if there is none, the waker is woken when there may be.
    ///
    /// # Errors
    /// `NetworkDown` when the stack has ended.
    pub fn poll_report(&self, waker: &Waker) -> Poll<SocketResult<IcmpReport>> {
        // Cloned and, if it is not needed, dropped while no lock is held.
        let mut waker = Some(waker.clone());
        let mut state = lock(&self.state);
        if let Some(report) = state.reports.pop_front() {
            return Poll::Ready(Ok(report));
        }
        if state.has_ended {
            return Poll::Ready(Err(SocketError::NetworkDown));
        }
        if let Some(waker) = waker.take_if(|own| !state.waiters.iter().any(|w| w.will_wake(own))) {
            state.waiters.push(waker);
        }
        Poll::Pending
    }

    /// Reports that were lost since nobody took them.
    pub fn lost(&self) -> u64 {
        lock(&self.state).lost
    }

    fn push(&self, report: IcmpReport, wakes: &mut WakeList) {
        let mut state = lock(&self.state);
        if state.reports.len() >= MAX_REPORTS {
            state.lost += 1;
            return;
        }
        state.reports.push_back(report);
        for waker in state.waiters.drain(..) {
            wakes.push(waker);
        }
    }

    fn end(&self, wakes: &mut WakeList) {
        let mut state = lock(&self.state);
        state.has_ended = true;
        for waker in state.waiters.drain(..) {
            wakes.push(waker);
        }
    }
}

impl Engine {
    /// Hears of ICMP errors from now on, until it is dropped.
    ///
    /// # Errors
    /// `NetworkDown` when the stack has ended.
    pub fn listen_for_icmp_errors(&self) -> SocketResult<Arc<IcmpListener>> {
        self.check_alive()?;
        let listener = Arc::new(IcmpListener::default());
        let mut listeners = lock(&self.icmp_listeners);
        listeners.retain(|known| known.strong_count() > 0);
        listeners.push(Arc::downgrade(&listener));
        drop(listeners);
        // It may have ended since the first look, and told those it knew.
        self.check_alive()?;
        Ok(listener)
    }

    /// An error has come; `packet` begins with its message.
    pub(super) fn tell_listeners(
        &self,
        ip: &IpPacket,
        packet: &Packet,
        error: &ReceivedError,
        wakes: &mut WakeList,
    ) {
        let listeners: Vec<_> = {
            let known = lock(&self.icmp_listeners);
            known.iter().filter_map(Weak::upgrade).collect()
        };
        if listeners.is_empty() || !self.network.is_own(error.source) {
            return;
        }
        let &[kind, code, ..] = packet.contiguous() else {
            return;
        };
        let report = IcmpReport {
            reporter: ip.source,
            hop_limit: ip.hop_limit,
            kind,
            code,
            about: error.clone(),
        };
        for listener in listeners {
            listener.push(report.clone(), wakes);
        }
    }

    /// The stack has ended.
    pub(super) fn end_listeners(&self, wakes: &mut WakeList) {
        let known = std::mem::take(&mut *lock(&self.icmp_listeners));
        for listener in known.iter().filter_map(Weak::upgrade) {
            listener.end(wakes);
        }
    }
}
