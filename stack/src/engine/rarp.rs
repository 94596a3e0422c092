//! Addresses by RARP: the clients' and servers' packets in and out, and what an interface gets of an answer.
//!
//! The clients and servers themselves are `ip/autoconf/rarp`'s.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tidewire_netdev::MacAddress;

use crate::engine::ingress::Inbound;
use crate::engine::{Engine, WakeList, lock};
use crate::error::{SocketError, SocketResult};
use crate::ip::InterfaceId;
use crate::ip::autoconf::dad::DuplicateDetection;
use crate::ip::autoconf::rarp::{Answer, Client, Config, Event, Server};
use crate::neighbor::arp;
use crate::stats::DropReason;
use crate::time::Instant;
use crate::wire::arp::{Message, Operation};

/// The interfaces that get an address, and those where others get theirs.
#[derive(Debug, Default)]
pub(super) struct Rarp {
    clients: BTreeMap<InterfaceId, Client>,
    servers: BTreeMap<InterfaceId, Server>,
}

impl Engine {
    /// Has an interface's IPv4 address come from a RARP server, from now on.
    ///
    /// # Errors
    /// [`SocketError::NoDevice`] for an interface that is not Ethernet.
    pub fn configure_by_rarp(
        &self,
        now: Instant,
        interface: InterfaceId,
        config: Config,
    ) -> SocketResult<()> {
        let hardware = self.network.hardware_address(interface);
        let hardware = hardware.ok_or(SocketError::NoDevice)?;
        let random = lock(&self.random).fork();
        let client = Client::new(now, config, hardware, random);
        lock(&self.rarp).clients.insert(interface, client);
        self.note_housekeeping(Some(now));
        Ok(())
    }

    /// Answers the RARP questions of an interface's link, from now on, in the name of its first IPv4 address; as long as
    /// it has none, nobody is answered.
    ///
    /// # Errors
    /// [`SocketError::NoDevice`] for an interface that is not Ethernet.
    pub fn serve_rarp(&self, interface: InterfaceId, server: Server) -> SocketResult<()> {
        if self.network.hardware_address(interface).is_none() {
            return Err(SocketError::NoDevice);
        }
        lock(&self.rarp).servers.insert(interface, server);
        Ok(())
    }

    /// What RARP servers have told, by interface.
    pub fn rarp_answers(&self) -> Vec<(InterfaceId, Answer)> {
        let rarp = lock(&self.rarp);
        let answers = rarp.clients.iter();
        answers
            .filter_map(|(interface, client)| Some((*interface, *client.answer()?)))
            .collect()
    }

    /// Interfaces that asked for an address and got no answer.
    pub fn rarp_failures(&self) -> Vec<InterfaceId> {
        let rarp = lock(&self.rarp);
        let failed = rarp
            .clients
            .iter()
            .filter(|(_, client)| client.has_failed());
        failed.map(|(interface, _)| *interface).collect()
    }

    /// Whether any interface still asks for its address.
    pub(super) fn is_asking_by_rarp(&self) -> bool {
        lock(&self.rarp).clients.values().any(Client::is_asking)
    }

    /// A RARP packet from the link.
    pub(super) fn receive_rarp(
        &self,
        inbound: &mut Inbound<'_>,
        ours: MacAddress,
        message: &Message,
    ) -> Result<(), DropReason> {
        let (now, interface) = (inbound.now, inbound.interface);
        // What looks like ARP is handed on by some hosts (RFC 903 3); whom to believe is not its sender's to choose.
        if !message.operation.is_reverse() {
            return Err(DropReason::UnknownLinkProtocol);
        }
        if message.operation == Operation::ReverseReply {
            let mut rarp = lock(&self.rarp);
            let client = rarp.clients.get_mut(&interface);
            let client = client.ok_or(DropReason::UnknownLinkProtocol)?;
            client.handle_message(message);
            drop(rarp);
            self.settle_rarp(now, inbound.wakes);
            return Ok(());
        }
        let address = self.network.first_address_v4(interface);
        let reply = {
            let mut rarp = lock(&self.rarp);
            let server = rarp.servers.get_mut(&interface);
            let server = server.ok_or(DropReason::UnknownLinkProtocol)?;
            let address = address.ok_or(DropReason::NotForUs)?;
            server.handle_message(now, (ours, address), message)?
        };
        let frame = arp::frame(&reply, ours, message.sender_hardware);
        self.reply_frame(interface, frame)
    }

    /// Runs what is due of the clients.
    pub(super) fn run_rarp(&self, now: Instant, wakes: &mut WakeList) {
        for client in lock(&self.rarp).clients.values_mut() {
            client.handle_timeout(now);
        }
        self.settle_rarp(now, wakes);
    }

    /// Sends what the clients have to send, and does what their servers say.
    fn settle_rarp(&self, now: Instant, wakes: &mut WakeList) {
        let (mut outbox, mut events) = (Vec::new(), Vec::new());
        let deadline = {
            let mut rarp = lock(&self.rarp);
            for (interface, client) in &mut rarp.clients {
                outbox.extend(client.poll_transmit().map(|message| (*interface, message)));
                let event = client.poll_event();
                events.extend(event.map(|event| (*interface, event, client.gateway())));
            }
            let clients = rarp.clients.values();
            clients.filter_map(Client::poll_timeout).min()
        };
        for (interface, message) in outbox {
            let frame = arp::frame(&message, message.sender_hardware, MacAddress::BROADCAST);
            // Too many at once: it is asked again.
            let _ = self.reply_frame(interface, frame);
        }
        let changed = !events.is_empty();
        for (interface, event, gateway) in events {
            match event {
                Event::Bound(answer) => {
                    self.take_answer(now, interface, &answer);
                    if gateway.is_some() {
                        let gateway = gateway.map(IpAddr::V4);
                        self.network.replace_default_route(interface, gateway);
                    }
                }
                Event::Failed => {
                    tracing::error!(interface = interface.0, "no RARP server has answered");
                }
            }
        }
        if changed {
            self.wake_address_waiters(wakes);
        }
        self.note_housekeeping(deadline);
    }

    fn take_answer(&self, now: Instant, interface: InterfaceId, answer: &Answer) {
        let address = answer.address;
        tracing::info!(interface = interface.0, %address, server = %answer.server, "told by RARP");
        // RFC 5227 2.1: a server's table may be as wrong as a lease is (see DHCP).
        let mode = match self.config.host.duplicate_detection_v4 {
            DuplicateDetection::Off => DuplicateDetection::Optimistic,
            mode => mode,
        };
        self.add_address_checked(now, interface, address, mode);
    }
}
