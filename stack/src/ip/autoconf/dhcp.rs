//! DHCP client for IPv4 (RFC 2131 4.4): an address of an interface that a server lends.
//!
//! Owned here: whom to ask for what and when, how long an answer holds. Left to others: the interface that gets the
//! address, the packets' headers, and whether the address is somebody else's ([`super::dad`]).
//!
//! ```text
//!            DISCOVER             OFFER ▶ REQUEST          ACK
//!  Init ───────────────▶ Selecting ──────────▶ Requesting ─────▶ Bound ◀──────────┐
//!   ▲  ▲                                         │ NAK, silence   │ T1: REQUEST   │ ACK
//!   │  └─────────────────────────────────────────┘                ▼ to the server │
//!   │                                                          Renewing ──────────┤
//!   │                                                             │ T2: REQUEST   │
//!   │ NAK, end of the lease, conflict (DECLINE, then a pause)     ▼ to all        │
//!   └──────────────────────────────────────────────────────── Rebinding ──────────┘
//! ```

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use smallvec::SmallVec;
use tidewire_netdev::MacAddress;

use crate::ip::Cidr;
use crate::ip::autoconf::{between, class_prefix, is_host};
use crate::random::Random;
use crate::time::Instant;
use crate::wire::dhcpv4::{Addresses, Message, MessageType, Options, option};

/// Times, limits, and what is told of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The name that servers get to know (RFC 2132 3.14); none by default.
    pub host_name: Option<String>,
    /// An address to ask for first; none by default.
    pub requested: Option<Ipv4Addr>,
    /// Time before a DISCOVER goes out again; it doubles each time, a quarter of it, one second at most, more or less: 500 ms.
    /// RFC 2131 4.1 leaves it to what the link is like. The first DISCOVER is often lost, since a link that has just come up
    /// does not carry at once, as at a bridge's port; the address is waited for.
    pub discover_retransmission: Duration,
    /// The same for a REQUEST (RFC 2131 4.1): 4 s.
    pub retransmission: Duration,
    /// The longest time of both: 64 s.
    pub max_retransmission: Duration,
    /// REQUESTs for an offer before another is looked for, after a minute in all (RFC 2131 3.1, 5): 4.
    pub requests: u32,
    /// The shortest time between REQUESTs for a longer lease (RFC 2131 4.4.5): 60 s.
    pub min_renewal: Duration,
    /// Between a DECLINE and the next DISCOVER (RFC 2131 3.1, 5): 10 s.
    pub decline_pause: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host_name: None,
            requested: None,
            discover_retransmission: Duration::from_millis(500),
            retransmission: Duration::from_secs(4),
            max_retransmission: Duration::from_secs(64),
            requests: 4,
            min_renewal: Duration::from_secs(60),
            decline_pause: Duration::from_secs(10),
        }
    }
}

/// What a server lends, and says of its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address, with its network.
    pub address: Cidr,
    /// The server.
    pub server: Ipv4Addr,
    /// Routers in that network, the preferred first.
    pub routers: Addresses,
    /// Name servers, the preferred first.
    pub name_servers: Addresses,
    /// The link's MTU, if the server says so.
    pub mtu: Option<u16>,
    /// When it ends; `None`: never.
    pub until: Option<Instant>,
}

/// Whom a message goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Everybody on the link, from no address.
    Broadcast,
    /// Everybody on the link, from the leased address.
    BroadcastFrom(Ipv4Addr),
    /// The server, from the leased address.
    Server {
        /// The leased address.
        source: Ipv4Addr,
        /// The server.
        server: Ipv4Addr,
    },
}

/// What became of the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// There is one, or the one there is was prolonged. One for another address takes the place of the last.
    Bound(Lease),
    /// There is none any more.
    Lost(Lease),
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
    /// xid.
    transaction: u32,
    /// When the present exchange began, for `secs`.
    began: Instant,
    outbox: VecDeque<(Destination, Message)>,
    events: VecDeque<Event>,
}

#[derive(Clone, Debug)]
enum State {
    /// Nothing is wanted any more.
    Released,
    /// Begins again then.
    Init {
        at: Instant,
    },
    /// Servers are looked for; the next DISCOVER is due then.
    Selecting {
        attempt: u32,
        next: Instant,
    },
    /// An offer was accepted; the next REQUEST is due then.
    Requesting {
        attempt: u32,
        next: Instant,
        address: Ipv4Addr,
        server: Ipv4Addr,
    },
    Bound(Held),
}

/// A lease, with its times.
#[derive(Clone, Debug)]
struct Held {
    lease: Lease,
    /// `None`: it never ends.
    times: Option<Times>,
}

#[derive(Clone, Copy, Debug)]
struct Times {
    renew: Instant,
    rebind: Instant,
    end: Instant,
    /// When the next thing is due.
    next: Instant,
}

impl Client {
    /// A client of the interface with that hardware address, which begins at once: the random pause that RFC 2131 4.4.1
    /// asks of hosts that start together is not made, as no client of today does.
    pub fn new(now: Instant, config: Config, hardware: MacAddress, random: Random) -> Self {
        Self {
            config,
            random,
            hardware,
            state: State::Init { at: now },
            transaction: 0,
            began: now,
            outbox: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The lease, if there is one.
    pub const fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Bound(held) => Some(&held.lease),
            _ => None,
        }
    }

    /// Whether an address is still being looked for.
    pub const fn is_looking(&self) -> bool {
        !matches!(self.state, State::Bound(_) | State::Released)
    }

    /// A message from a server's port. Those that answer nothing of this client's are ignored.
    pub fn handle_message(&mut self, now: Instant, message: &Message) {
        let is_ours = message.is_reply
            && message.transaction == self.transaction
            && message.hardware == self.hardware;
        if !is_ours {
            return;
        }
        match (self.state.clone(), message.kind) {
            (State::Selecting { .. }, MessageType::Offer) => self.accept(now, message),
            // Another server's answer is to somebody else's question.
            (State::Requesting { server, .. }, MessageType::Ack | MessageType::Nak)
                if message.options.server.is_some_and(|from| from != server) => {}
            (
                State::Requesting {
                    address, server, ..
                },
                MessageType::Ack,
            ) if message.your == address => self.bind(now, message, server),
            (State::Requesting { .. }, MessageType::Nak) => self.begin(now),
            (State::Bound(held), MessageType::Ack)
                if held.is_asking(now) && message.your == held.address() =>
            {
                let server = message.options.server.unwrap_or(held.lease.server);
                self.bind(now, message, server);
            }
            (State::Bound(held), MessageType::Nak) if held.is_asking(now) => {
                self.events.push_back(Event::Lost(held.lease));
                self.begin(now);
            }
            _ => {}
        }
    }

    /// Runs what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        match self.state.clone() {
            State::Released => {}
            State::Init { .. } => self.begin(now),
            State::Selecting { attempt, .. } => self.discover(now, attempt + 1),
            State::Requesting { attempt, .. } if attempt + 1 >= self.config.requests => {
                self.begin(now);
            }
            State::Requesting {
                attempt,
                address,
                server,
                ..
            } => self.request(now, attempt + 1, address, server),
            State::Bound(held) => self.prolong(now, held),
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Released => None,
            State::Init { at } => Some(*at),
            State::Selecting { next, .. } | State::Requesting { next, .. } => Some(*next),
            State::Bound(held) => held.times.map(|times| times.next),
        }
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<(Destination, Message)> {
        self.outbox.pop_front()
    }

    /// What became of the lease.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The leased address is somebody else's (RFC 2131 3.1, 5): it is declined, and after a pause another looked for.
    pub fn decline(&mut self, now: Instant) {
        let at = now + self.config.decline_pause;
        let State::Bound(held) = std::mem::replace(&mut self.state, State::Init { at }) else {
            return;
        };
        let options = Options {
            requested: Some(held.address()),
            server: Some(held.lease.server),
            client_identifier: true,
            ..Options::default()
        };
        let message = self.message(now, MessageType::Decline, options);
        self.outbox.push_back((Destination::Broadcast, message));
        self.events.push_back(Event::Lost(held.lease));
    }

    /// The address is not needed any more (RFC 2131 4.4.6). Nothing follows.
    pub fn release(&mut self, now: Instant) {
        let State::Bound(held) = std::mem::replace(&mut self.state, State::Released) else {
            return;
        };
        let options = Options {
            server: Some(held.lease.server),
            client_identifier: true,
            ..Options::default()
        };
        self.renew_transaction(now);
        let message = Message {
            client: held.address(),
            ..self.message(now, MessageType::Release, options)
        };
        self.outbox.push_back((held.server(), message));
        self.events.push_back(Event::Lost(held.lease));
    }

    /// Looks for servers, from the beginning.
    fn begin(&mut self, now: Instant) {
        self.renew_transaction(now);
        self.discover(now, 0);
    }

    fn renew_transaction(&mut self, now: Instant) {
        self.transaction = self.random.next_u32();
        self.began = now;
    }

    fn discover(&mut self, now: Instant, attempt: u32) {
        let options = Options {
            requested: self.config.requested,
            ..self.question()
        };
        let message = self.message(now, MessageType::Discover, options);
        self.outbox.push_back((Destination::Broadcast, message));
        let next = now + self.pause(self.config.discover_retransmission, attempt);
        self.state = State::Selecting { attempt, next };
    }

    /// Takes an offer: the first, as most clients do.
    fn accept(&mut self, now: Instant, offer: &Message) {
        let Some(server) = offer.options.server.filter(|_| is_host(offer.your)) else {
            return;
        };
        self.request(now, 0, offer.your, server);
    }

    fn request(&mut self, now: Instant, attempt: u32, address: Ipv4Addr, server: Ipv4Addr) {
        let options = Options {
            requested: Some(address),
            server: Some(server),
            ..self.question()
        };
        let message = self.message(now, MessageType::Request, options);
        self.outbox.push_back((Destination::Broadcast, message));
        let next = now + self.pause(self.config.retransmission, attempt);
        self.state = State::Requesting {
            attempt,
            next,
            address,
            server,
        };
    }

    fn bind(&mut self, now: Instant, ack: &Message, server: Ipv4Addr) {
        let options = &ack.options;
        let (Some(lease_time), true) = (options.lease_time, is_host(ack.your)) else {
            return;
        };
        let prefix = options.prefix.unwrap_or(class_prefix(ack.your));
        let Some(address) = Cidr::new(ack.your.into(), prefix) else {
            return;
        };
        let times = Times::new(now, lease_time, options);
        let lease = Lease {
            address,
            server,
            routers: options.routers.clone(),
            name_servers: options.name_servers.clone(),
            mtu: options.mtu,
            until: times.map(|times| times.end),
        };
        if let State::Bound(old) = &self.state
            && old.lease.address != lease.address
        {
            self.events.push_back(Event::Lost(old.lease.clone()));
        }
        self.events.push_back(Event::Bound(lease.clone()));
        self.state = State::Bound(Held { lease, times });
    }

    /// T1, T2 or the end has come, or a REQUEST was not answered (RFC 2131 4.4.5).
    fn prolong(&mut self, now: Instant, mut held: Held) {
        let Some(times) = &mut held.times else {
            return;
        };
        if now >= times.end {
            self.events.push_back(Event::Lost(held.lease));
            self.begin(now);
            return;
        }
        let rebinding = now >= times.rebind;
        let end_of_phase = if rebinding { times.end } else { times.rebind };
        // Half of what is left, but no less than a minute, goes by between two.
        let half = (end_of_phase - now) / 2;
        times.next = (now + half.max(self.config.min_renewal)).min(end_of_phase);
        let destination = if rebinding {
            Destination::BroadcastFrom(held.address())
        } else {
            held.server()
        };
        self.renew_transaction(now);
        let message = Message {
            client: held.address(),
            broadcast: false,
            ..self.message(now, MessageType::Request, self.question())
        };
        self.state = State::Bound(held);
        self.outbox.push_back((destination, message));
    }

    /// What DISCOVER and REQUEST say of the client.
    fn question(&self) -> Options {
        Options {
            host_name: self.config.host_name.clone(),
            parameters: SmallVec::from_slice(&[
                option::SUBNET_MASK,
                option::ROUTERS,
                option::NAME_SERVERS,
                option::MTU,
                option::RENEWAL_TIME,
                option::REBINDING_TIME,
            ]),
            max_message: Some(MAX_MESSAGE),
            client_identifier: true,
            ..Options::default()
        }
    }

    fn message(&self, now: Instant, kind: MessageType, options: Options) -> Message {
        let seconds = now.saturating_since(self.began).as_secs();
        Message {
            kind,
            is_reply: false,
            transaction: self.transaction,
            seconds: u16::try_from(seconds).unwrap_or(u16::MAX),
            // Until it has the address the interface takes no packets for it.
            broadcast: true,
            client: Ipv4Addr::UNSPECIFIED,
            your: Ipv4Addr::UNSPECIFIED,
            hardware: self.hardware,
            options,
        }
    }

    /// RFC 2131 4.1: exponential, with one second more or less of four and more, and as much of less.
    fn pause(&mut self, first: Duration, attempt: u32) -> Duration {
        let doubled = first * 2_u32.saturating_pow(attempt.min(16));
        let base = doubled.min(self.config.max_retransmission);
        let jitter = (base / 4).min(Duration::from_secs(1));
        between(&mut self.random, base - jitter, base + jitter)
    }
}

impl Held {
    fn address(&self) -> Ipv4Addr {
        match self.lease.address.address() {
            std::net::IpAddr::V4(address) => address,
            std::net::IpAddr::V6(_) => unreachable!("a lease of DHCPv4"),
        }
    }

    fn server(&self) -> Destination {
        Destination::Server {
            source: self.address(),
            server: self.lease.server,
        }
    }

    /// T1 is over: an answer may come.
    fn is_asking(&self, now: Instant) -> bool {
        self.times.is_some_and(|times| now >= times.renew)
    }
}

impl Times {
    /// `None` for a lease that never ends (RFC 2131 3.3). T1 and T2 are half and seven eighths of the lease, unless the
    /// server says something sensible (4.4.5).
    fn new(now: Instant, lease_time: u32, options: &Options) -> Option<Self> {
        if lease_time == u32::MAX {
            return None;
        }
        // A lease of nothing would have the client ask without end.
        let lease = lease_time.max(MIN_LEASE);
        let rebind = options.rebinding_time.filter(|t2| *t2 <= lease);
        let rebind = rebind.unwrap_or((u64::from(lease) * 7 / 8) as u32);
        let renew = options.renewal_time.filter(|t1| *t1 <= rebind);
        let renew = renew.unwrap_or(lease / 2).min(rebind);
        let at = |seconds: u32| now + Duration::from_secs(seconds.max(1).into());
        Some(Self {
            renew: at(renew),
            rebind: at(rebind),
            end: at(lease),
            next: at(renew),
        })
    }
}

/// Octets of DHCP messages that are taken: what fits an Ethernet frame.
const MAX_MESSAGE: u16 = 1472;
/// Seconds that a lease lasts at least.
const MIN_LEASE: u32 = 10;

#[cfg(test)]
mod tests;
