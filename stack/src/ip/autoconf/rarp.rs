//! RARP (RFC 903): an interface's IPv4 address from a server that knows its hardware address.
//!
//! Owned here: when to ask and when to give up, which answers count, and a [`Server`] for others. Left to others: frames,
//! the interface that gets the address, and whether the address is somebody else's ([`super::dad`]).
//!
//! ```text
//!  new ▶ Asking ── answer ▶ Bound          each question waits twice as long as the last, up to a limit
//!          └── so many questions, no answer ▶ Failed
//! ```
//!
//! An answer is an address and nothing else: the network's prefix and a router are configured, or the prefix is that of
//! the address's class (RFC 950 2.1), as in the days of RFC 903. DHCP tells all of it; RARP is for networks that have
//! nothing else.

mod server;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tidewire_netdev::MacAddress;

use crate::ip::Cidr;
use crate::ip::autoconf::{between, class_prefix, is_host};
use crate::random::Random;
use crate::time::Instant;
use crate::wire::arp::{Message, Operation};

pub use server::{Server, ServerConfig, TableFull};

/// Times and limits of a client, and what its server cannot tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bits of the network's prefix. `None`, the default: those of the address's class: 8, 16 or 24 (RFC 950 2.1).
    pub prefix: Option<u8>,
    /// The router to everything else, which must be in that network; none by default.
    pub gateway: Option<Ipv4Addr>,
    /// Time before a question is put again; it doubles each time, and up to half of it, a second at most, is added so that
    /// hosts that start together do not ask together. 500 ms: the first question is often lost, since a link that has just
    /// come up does not carry at once, as at a bridge's port; RFC 903 3 asks for "a reasonable amount of time".
    pub retransmission: Duration,
    /// The longest such time, without what is added: 30 s, as Linux's boot-time client.
    pub max_retransmission: Duration,
    /// Questions without an answer before the client gives up: 9, two minutes in all. `None`: it never does.
    pub attempts: Option<u32>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            prefix: None,
            gateway: None,
            retransmission: Duration::from_millis(500),
            max_retransmission: Duration::from_secs(30),
            attempts: Some(9),
        }
    }
}

/// What a server said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The interface's address, with its network.
    pub address: Cidr,
    /// The server.
    pub server: Ipv4Addr,
    /// Where the server is on the link.
    pub server_hardware: MacAddress,
}

/// What became of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It has an address.
    Bound(Answer),
    /// Nobody answered; it asks no more.
    Failed,
}

/// The client of one interface.
///
/// After every `&mut` call [`Self::poll_transmit`] and [`Self::poll_event`] may have something, and
/// [`Self::poll_timeout`] may have changed.
#[derive(Debug)]
pub struct Client {
    config: Config,
    random: Random,
    hardware: MacAddress,
    state: State,
    /// A question is to be sent.
    due: bool,
    event: Option<Event>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// So many questions were put, and the next is due or hope is lost then.
    Asking {
        sent: u32,
        next: Instant,
    },
    Bound(Answer),
    Failed,
}

impl Client {
    /// A client of the interface with that hardware address, which begins at once.
    pub const fn new(now: Instant, config: Config, hardware: MacAddress, random: Random) -> Self {
        Self {
            config,
            random,
            hardware,
            state: State::Asking { sent: 0, next: now },
            due: false,
            event: None,
        }
    }

    /// What the server said, if one has answered.
    pub const fn answer(&self) -> Option<&Answer> {
        match &self.state {
            State::Bound(answer) => Some(answer),
            State::Asking { .. } | State::Failed => None,
        }
    }

    /// The router that was configured.
    pub const fn gateway(&self) -> Option<Ipv4Addr> {
        self.config.gateway
    }

    /// Whether an answer may still come.
    pub const fn is_asking(&self) -> bool {
        matches!(self.state, State::Asking { .. })
    }

    /// Whether it has given up.
    pub const fn has_failed(&self) -> bool {
        matches!(self.state, State::Failed)
    }

    /// A received RARP packet. The first answer about this client counts (RFC 903 3: several servers may answer); those
    /// that name no host's address, or one that is not a host's in the configured network, do not.
    pub fn handle_message(&mut self, message: &Message) {
        let is_answer = message.operation == Operation::ReverseReply
            && message.target_hardware == self.hardware
            && message.sender_hardware != self.hardware;
        if !is_answer || !matches!(self.state, State::Asking { sent: 1.., .. }) {
            return;
        }
        let Some(address) = self.host_address(message.target_protocol) else {
            return;
        };
        let answer = Answer {
            address,
            server: message.sender_protocol,
            server_hardware: message.sender_hardware,
        };
        self.state = State::Bound(answer);
        self.due = false;
        self.event = Some(Event::Bound(answer));
    }

    /// Runs what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let State::Asking { sent, next } = self.state else {
            return;
        };
        if now < next {
            return;
        }
        if self.config.attempts.is_some_and(|most| sent >= most) {
            self.state = State::Failed;
            self.event = Some(Event::Failed);
            return;
        }
        self.due = true;
        let next = now + self.pause(sent);
        let sent = sent.saturating_add(1);
        self.state = State::Asking { sent, next };
    }

    /// When [`Self::handle_timeout`] is due.
    pub const fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Asking { next, .. } => Some(next),
            State::Bound(_) | State::Failed => None,
        }
    }

    /// The next packet to send, to all on the link.
    pub fn poll_transmit(&mut self) -> Option<Message> {
        let question = Message {
            operation: Operation::ReverseRequest,
            sender_hardware: self.hardware,
            // RFC 903 3: both are undefined.
            sender_protocol: Ipv4Addr::UNSPECIFIED,
            target_hardware: self.hardware,
            target_protocol: Ipv4Addr::UNSPECIFIED,
        };
        std::mem::take(&mut self.due).then_some(question)
    }

    /// What became of it, once.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.event.take()
    }

    /// The address with its prefix, if it can be a host's there: neither the network's own nor its broadcast address
    /// (RFC 1122 3.2.1.3); a prefix of 31 bits has neither (RFC 3021).
    fn host_address(&self, address: Ipv4Addr) -> Option<Cidr> {
        let prefix = self.config.prefix.unwrap_or(class_prefix(address));
        let cidr = Cidr::new(address.into(), prefix)?;
        let is_of_all =
            cidr.network().address() == cidr.address() || cidr.broadcast() == Some(address);
        let has_place = prefix >= 31 || !is_of_all;
        // 0.0.0.0/8 is "this network", and class E nobody's.
        let is_known_class = !matches!(address.octets()[0], 0 | 240..);
        (is_host(address) && is_known_class && has_place).then_some(cidr)
    }

    fn pause(&mut self, sent: u32) -> Duration {
        let doubled = self.config.retransmission * 2_u32.saturating_pow(sent.min(16));
        let base = doubled.min(self.config.max_retransmission);
        let most = (base / 2).min(Duration::from_secs(1));
        base + between(&mut self.random, Duration::ZERO, most)
    }
}

impl Answer {
    /// The address alone.
    pub fn ip(&self) -> IpAddr {
        self.address.address()
    }
}

#[cfg(test)]
mod tests;
