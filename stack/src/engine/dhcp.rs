//! Addresses by DHCP: the clients' packets in and out, and what an interface gets of a lease.
//!
//! The clients themselves are `ip/autoconf/dhcp`'s. No socket is involved: they hear what comes from servers' port to
//! clients' on their interface, and broadcast before there is an address to send from.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use tidewire_netdev::segmentation::complete_checksum;
use tidewire_netdev::{Checksum, MacAddress, Packet};

use crate::engine::tcp_egress::pseudo_checksum;
use crate::engine::{Engine, WakeList, lock};
use crate::error::{SocketError, SocketResult};
use crate::ip::InterfaceId;
use crate::ip::autoconf::dad::DuplicateDetection;
use crate::ip::autoconf::dhcp::{Client, Config, Destination, Event, Lease};
use crate::ip::output::{self, OutputHeader};
use crate::link::ethernet::{self, LinkProtocol};
use crate::neighbor::Initiator;
use crate::stats::DropReason;
use crate::time::Instant;
use crate::wire::dhcpv4::{CLIENT_PORT, Message, SERVER_PORT};
use crate::wire::{protocol, udp};

impl Engine {
    /// Has an interface's IPv4 address come from a DHCP server, from now on.
    ///
    /// # Errors
    /// [`SocketError::NoDevice`] for an interface that is not Ethernet.
    pub fn configure_by_dhcp(
        &self,
        now: Instant,
        interface: InterfaceId,
        config: Config,
    ) -> SocketResult<()> {
        let hardware = self.network.hardware_address(interface);
        let hardware = hardware.ok_or(SocketError::NoDevice)?;
        let random = lock(&self.random).fork();
        let client = Client::new(now, config, hardware, random);
        lock(&self.dhcp).insert(interface, client);
        self.note_housekeeping(Some(now));
        Ok(())
    }

    /// The leases of all interfaces.
    pub fn leases(&self) -> Vec<(InterfaceId, Lease)> {
        let clients = lock(&self.dhcp);
        let leases = clients.iter().filter_map(|(interface, client)| {
            let lease = client.lease()?;
            Some((*interface, lease.clone()))
        });
        leases.collect()
    }

    /// Gives all leases back to their servers, and the addresses up with them. No others are asked for.
    pub fn release_leases(&self, now: Instant, wakes: &mut WakeList) {
        for client in lock(&self.dhcp).values_mut() {
            client.release(now);
        }
        self.settle_dhcp(now, wakes);
    }

    /// Whether any interface is still without the address that it is to get.
    pub(super) fn is_looking_for_leases(&self) -> bool {
        lock(&self.dhcp).values().any(Client::is_looking)
    }

    /// Whether a datagram is for a DHCP client of the interface instead of a socket.
    pub(super) fn takes_dhcp(&self, interface: InterfaceId, ports: (u16, u16)) -> bool {
        ports == (SERVER_PORT, CLIENT_PORT) && lock(&self.dhcp).contains_key(&interface)
    }

    /// A datagram of a DHCP server.
    pub(super) fn receive_dhcp(
        &self,
        now: Instant,
        interface: InterfaceId,
        payload: &[u8],
        wakes: &mut WakeList,
    ) -> Result<(), DropReason> {
        let message = Message::parse(payload).map_err(|_| DropReason::Malformed)?;
        if let Some(client) = lock(&self.dhcp).get_mut(&interface) {
            client.handle_message(now, &message);
        }
        self.settle_dhcp(now, wakes);
        Ok(())
    }

    /// Runs what is due of the clients.
    pub(super) fn run_dhcp(&self, now: Instant, wakes: &mut WakeList) {
        for client in lock(&self.dhcp).values_mut() {
            client.handle_timeout(now);
        }
        self.settle_dhcp(now, wakes);
    }

    /// The leased address of an interface turned out to be another host's.
    pub(super) fn decline_lease(&self, now: Instant, interface: InterfaceId, address: IpAddr) {
        if let Some(client) = lock(&self.dhcp).get_mut(&interface)
            && client
                .lease()
                .is_some_and(|lease| lease.address.address() == address)
        {
            client.decline(now);
        }
        self.note_housekeeping(Some(now));
    }

    /// Sends what the clients have to send, and does what their servers say.
    fn settle_dhcp(&self, now: Instant, wakes: &mut WakeList) {
        let (mut outbox, mut events) = (Vec::new(), Vec::new());
        let deadline = {
            let mut clients = lock(&self.dhcp);
            for (interface, client) in clients.iter_mut() {
                let messages = std::iter::from_fn(|| client.poll_transmit());
                outbox.extend(messages.map(|message| (*interface, message)));
                let happened = std::iter::from_fn(|| client.poll_event());
                events.extend(happened.map(|event| (*interface, event)));
            }
            clients.values().filter_map(Client::poll_timeout).min()
        };
        // What is said of an address leaves before the address does.
        for (interface, (destination, message)) in outbox {
            self.send_dhcp(now, interface, destination, &message);
        }
        let changed = !events.is_empty();
        for (interface, event) in events {
            match event {
                Event::Bound(lease) => self.take_lease(now, interface, &lease),
                Event::Lost(lease) => self.drop_lease(now, interface, &lease, wakes),
            }
        }
        if changed {
            self.wake_address_waiters(wakes);
        }
        self.note_housekeeping(deadline);
    }

    fn take_lease(&self, now: Instant, interface: InterfaceId, lease: &Lease) {
        let address = lease.address;
        let known = self.network.addresses();
        let is_there = known
            .iter()
            .any(|known| known.interface == interface && known.cidr == address);
        if !is_there {
            tracing::info!(interface = interface.0, %address, server = %lease.server, "leased");
            // RFC 2131 4.4.1: others are asked whether they have it, whatever is done with addresses that were configured.
            let mode = match self.config.host.duplicate_detection_v4 {
                DuplicateDetection::Off => DuplicateDetection::Optimistic,
                mode => mode,
            };
            self.add_address_checked(now, interface, address, mode);
        }
        let gateway = lease.routers.first().map(|router| IpAddr::V4(*router));
        self.network.replace_default_route(interface, gateway);
    }

    fn drop_lease(
        &self,
        now: Instant,
        interface: InterfaceId,
        lease: &Lease,
        wakes: &mut WakeList,
    ) {
        tracing::info!(interface = interface.0, address = %lease.address, "lease is over");
        self.network.replace_default_route(interface, None);
        self.remove_address(now, interface, lease.address, wakes);
    }

    fn send_dhcp(
        &self,
        now: Instant,
        interface: InterfaceId,
        destination: Destination,
        message: &Message,
    ) {
        let (source, to) = match destination {
            Destination::Broadcast => (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST),
            Destination::BroadcastFrom(source) => (source, Ipv4Addr::BROADCAST),
            Destination::Server { source, server } => (source, server),
        };
        let mut packet = datagram(source, to, message);
        let header = OutputHeader {
            hop_limit: self.config.host.ttl,
            ..OutputHeader::new(source.into(), to.into(), protocol::UDP)
        };
        if let Destination::Server { .. } = destination {
            let path = self
                .network
                .path(now, to.into(), Some(source.into()), Some(interface));
            // A server that cannot be reached is asked again, then all are.
            let _ =
                path.and_then(|path| self.reply_datagram(&path, Initiator::Host, packet, header));
            return;
        }
        let Some(ours) = self.network.hardware_address(interface) else {
            return;
        };
        if output::prepend(&mut packet, &header).is_ok() {
            ethernet::prepend(&mut packet, ours, MacAddress::BROADCAST, LinkProtocol::Ipv4);
            // Too many at once: as if it were lost.
            let _ = self.reply_frame(interface, packet);
        }
    }
}

/// A message behind its UDP header, with its checksum.
fn datagram(source: Ipv4Addr, destination: Ipv4Addr, message: &Message) -> Packet {
    let mut packet = Packet::new();
    packet.push(Bytes::from(message.to_vec()));
    let length = packet.len() + udp::HEADER_LEN;
    let header = udp::Header {
        source_port: CLIENT_PORT,
        destination_port: SERVER_PORT,
        length: length as u16,
        checksum: pseudo_checksum(source.into(), destination.into(), protocol::UDP, length),
    };
    header.emit(packet.prepend(udp::HEADER_LEN));
    packet.offload.checksum = Checksum::Partial {
        start: 0,
        offset: udp::CHECKSUM_OFFSET as u16,
    };
    let completed = complete_checksum(&mut packet);
    debug_assert!(completed.is_ok(), "a datagram of ours");
    packet
}
