//! A server of RARP (RFC 903): answers from a table of hardware addresses.
//!
//! Owned here: the table, whom it answers, and how often. Left to others: frames, and which address the server itself
//! has. Whoever is not in the table gets no answer; RFC 903 3 knows no other "no".

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use tidewire_netdev::MacAddress;

use crate::ip::autoconf::is_host;
use crate::stats::DropReason;
use crate::time::Instant;
use crate::wire::arp::{Message, Operation};

/// Limits of a [`Server`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Most hosts in the table: 4096.
    pub max_hosts: usize,
    /// Answers in a second, all hosts together: 100. More questions are dropped, to be put again.
    pub answers_per_second: u32,
    /// Least time between two answers about the same host: 100 ms.
    pub host_interval: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            max_hosts: 4096,
            answers_per_second: 100,
            host_interval: Duration::from_millis(100),
        }
    }
}

/// The table is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFull;

/// Tells hosts their IPv4 addresses.
#[derive(Clone, Debug, Default)]
pub struct Server {
    config: ServerConfig,
    hosts: BTreeMap<MacAddress, Host>,
    /// Answers given in the second that began then.
    answered: (u32, Instant),
}

#[derive(Clone, Copy, Debug)]
struct Host {
    address: Ipv4Addr,
    /// When it was last told.
    told: Option<Instant>,
}

impl Server {
    /// A server that knows nobody.
    pub const fn new(config: ServerConfig) -> Self {
        Self {
            config,
            hosts: BTreeMap::new(),
            answered: (0, Instant::ZERO),
        }
    }

    /// Has the host with that hardware address told that IPv4 address, from now on.
    ///
    /// # Errors
    /// [`TableFull`].
    pub fn insert(&mut self, hardware: MacAddress, address: Ipv4Addr) -> Result<(), TableFull> {
        let is_new = !self.hosts.contains_key(&hardware);
        if is_new && self.hosts.len() >= self.config.max_hosts {
            return Err(TableFull);
        }
        let host = Host {
            address,
            told: None,
        };
        self.hosts.insert(hardware, host);
        Ok(())
    }

    /// Forgets a host; whether it was known.
    pub fn remove(&mut self, hardware: MacAddress) -> bool {
        self.hosts.remove(&hardware).is_some()
    }

    /// The hosts, in the order of their hardware addresses.
    pub fn hosts(&self) -> impl Iterator<Item = (MacAddress, Ipv4Addr)> + '_ {
        self.hosts
            .iter()
            .map(|(hardware, host)| (*hardware, host.address))
    }

    /// A received RARP packet; gives the answer, which goes to the asker alone, in a frame to
    /// [`Message::sender_hardware`] of `request`. `hardware` and `address` are the server's own.
    ///
    /// A host may ask for another (RFC 903 3: the target need not be the sender).
    ///
    /// # Errors
    /// [`DropReason::NotForUs`] for what is no question, or about nobody known; [`DropReason::BadNeighbor`] for an asker
    /// that is no station; [`DropReason::RateLimited`].
    pub fn handle_message(
        &mut self,
        now: Instant,
        (hardware, address): (MacAddress, Ipv4Addr),
        request: &Message,
    ) -> Result<Message, DropReason> {
        if request.operation != Operation::ReverseRequest {
            return Err(DropReason::NotForUs);
        }
        if !request.sender_hardware.is_unicast() || request.sender_hardware == hardware {
            return Err(DropReason::BadNeighbor);
        }
        let host = self.hosts.get_mut(&request.target_hardware);
        let host = host.filter(|host| is_host(host.address));
        let host = host.ok_or(DropReason::NotForUs)?;
        let interval = self.config.host_interval;
        let is_recent = host.told.is_some_and(|told| now < told + interval);
        let (count, since) = &mut self.answered;
        if now >= *since + Duration::from_secs(1) {
            (*count, *since) = (0, now);
        }
        if is_recent || *count >= self.config.answers_per_second {
            return Err(DropReason::RateLimited);
        }
        *count += 1;
        host.told = Some(now);
        Ok(Message {
            operation: Operation::ReverseReply,
            sender_hardware: hardware,
            sender_protocol: address,
            target_hardware: request.target_hardware,
            target_protocol: host.address,
        })
    }
}
