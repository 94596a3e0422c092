//! ICMP in the engine: messages in, errors about packets we refuse, errors to the socket they concern.

use std::sync::{Arc, Weak};

use tidewire_netdev::Packet;

use crate::engine::ingress::Inbound;
use crate::engine::multicast::starts_listener_discovery;
use crate::engine::network::Origin;
use crate::engine::zone::answer_device;
use crate::engine::{Engine, WakeList, lock, read};
use crate::ip::InterfaceId;
use crate::ip::icmp::{self, Message, echo};
use crate::ip::icmp::{Outgoing, Problem, ReceivedError, errors};
use crate::ip::input::{self, Arrival, IpPacket};
use crate::ip::reassembly::Expired;
use crate::neighbor::Initiator;
use crate::stats::DropReason;
use crate::tcp::SeqNum;
use crate::time::Instant;
use crate::transport::IcmpError;
use crate::transport::demux::Tuple;
use crate::wire::{ndp, protocol};

/// Path MTU changes remembered between two flushes.
const MAX_SHRUNK: usize = 64;

impl Engine {
    /// A packet that starts at an ICMP header.
    pub(crate) fn receive_icmp(
        &self,
        inbound: &mut Inbound<'_>,
        ip: &IpPacket,
        mut packet: Packet,
    ) -> Result<(), DropReason> {
        let now = inbound.now;
        match icmp::parse(ip, &mut packet)? {
            Message::EchoRequest(request) => {
                if !self.config.host.answer_echo {
                    return Err(DropReason::NoSocket);
                }
                let reply = self
                    .network
                    .respond(now, ip.source, inbound.origin(), |responder| {
                        echo::reply(ip, &packet, request, responder)
                    });
                self.send_outgoing(now, inbound.interface, reply.ok_or(DropReason::NoSocket)?)
            }
            Message::EchoReply(reply) => self.receive_echo_reply(ip, reply, packet, inbound.wakes),
            Message::Error(error) => {
                self.tell_listeners(ip, &packet, &error, inbound.wakes);
                self.receive_error(inbound, &error)
            }
            Message::Redirect(redirect) => {
                if !self.config.host.accept_redirects {
                    return Err(DropReason::UnknownProtocol);
                }
                let interface = inbound.interface;
                self.network
                    .redirect(now, interface, ip.source, &redirect)?;
                tracing::info!(interface = interface.0, router = %ip.source, destination = %redirect.destination, gateway = %redirect.gateway, "redirected");
                self.note_housekeeping(self.network.poll_timeout());
                Ok(())
            }
            Message::OtherV6(_) if is_neighbor_discovery(&packet) => {
                self.receive_neighbor_discovery(inbound, ip, &mut packet)
            }
            Message::OtherV6(_) if starts_listener_discovery(&packet) => {
                self.receive_listener_discovery(inbound, ip, &mut packet)
            }
            Message::OtherV4(_) | Message::OtherV6(_) => Err(DropReason::UnknownProtocol),
        }
    }

    /// A packet that a neighbour did not take, from its IP header on: the connected datagram socket or the echo socket that
    /// sent it is told, or the host that it came from. Connections have waited themselves.
    pub(crate) fn report_undelivered(
        &self,
        now: Instant,
        interface: InterfaceId,
        mut packet: Packet,
        wakes: &mut WakeList,
    ) {
        if self.report_unforwarded(now, interface, &packet) {
            return;
        }
        let Ok(ip) = input::parse(&mut packet, Arrival::Loopback) else {
            return;
        };
        if ip.fragment.is_some_and(|fragment| fragment.offset > 0) {
            return;
        }
        if let Ok(Message::EchoRequest(request)) = icmp::parse(&ip, &mut packet) {
            self.fail_echo(&ip, request.identifier, wakes);
            return;
        }
        let Some(ports) = packet.contiguous().get(..4) else {
            return;
        };
        let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
        let local = self.arrived(ip.source, port(0), interface);
        let remote = self.arrived(ip.destination, port(2), interface);
        if ip.protocol == protocol::SCTP {
            self.report_undelivered_sctp(local.port(), remote);
        }
        if ip.protocol != protocol::UDP {
            return;
        }
        let slot = read(&self.datagrams)
            .find(local, remote, 0)
            .and_then(Weak::upgrade);
        if let Some(slot) = slot {
            let mut state = slot.lock();
            state.socket.socket.handle_unreachable(remote);
            let edges = state.socket.socket.take_readiness();
            state.ready.set(edges, wakes);
        }
    }

    /// Tells the sender of a packet what is wrong with it, if the rules and the rate limit permit.
    pub(crate) fn report(
        &self,
        inbound: &Inbound<'_>,
        problem: Problem,
        ip: &IpPacket,
        packet: &Packet,
    ) {
        self.report_from(inbound.now, inbound.origin(), problem, ip, packet);
    }

    pub(super) fn report_from(
        &self,
        now: Instant,
        origin: Origin,
        problem: Problem,
        ip: &IpPacket,
        packet: &Packet,
    ) {
        let error = self.network.respond(now, ip.source, origin, |responder| {
            errors::build(problem, ip, packet, responder)
        });
        let Some(error) = error else { return };
        let own = self.network.is_own(ip.source);
        // The host itself is not limited, as on Linux: nobody outside gains by it.
        if !own && !lock(&self.icmp_limit).permit(now, ip.source) {
            self.counters.dropped(DropReason::RateLimited);
            return;
        }
        if let Err(reason) = self.send_outgoing(now, origin.interface, error) {
            self.counters.dropped(reason);
        }
    }

    /// Packets whose fragments did not all come in time.
    pub(crate) fn report_expired(&self, now: Instant, expired: Vec<Expired>) {
        for Expired { ip, packet } in expired {
            self.counters.dropped(DropReason::Fragment);
            // Where its first fragment came from is forgotten: one from a link-local address gets no answer.
            let origin = Origin {
                interface: InterfaceId::LOOPBACK,
                is_link_broadcast: false,
            };
            let problem = Problem::ReassemblyTimeExceeded;
            self.report_from(now, origin, problem, &ip, &packet);
        }
    }

    /// Queues a message that was built for a received packet.
    fn send_outgoing(
        &self,
        now: Instant,
        interface: InterfaceId,
        outgoing: Outgoing,
    ) -> Result<(), DropReason> {
        let Outgoing { header, packet } = outgoing;
        let device = answer_device(header.destination, interface)
            .or_else(|| answer_device(header.source, interface));
        let path = self
            .network
            .path(now, header.destination, Some(header.source), device)
            .map_err(|_| DropReason::BadSource)?;
        let path = self.label_plain(path, header.protocol, header.destination);
        let header = crate::ip::output::OutputHeader {
            hop_limit: self.hop_limit(&path),
            flow_label: path.flow_label,
            ..header
        };
        self.reply_datagram(&path, Initiator::Stranger, packet, header)
            .map_err(|_| DropReason::RateLimited)
    }

    /// An ICMP error goes to the socket whose packet it quotes, and to nobody else (RFC 1122 3.2.2, RFC 5927).
    fn receive_error(
        &self,
        inbound: &mut Inbound<'_>,
        error: &ReceivedError,
    ) -> Result<(), DropReason> {
        let (now, wakes) = (inbound.now, &mut *inbound.wakes);
        let (source_port, destination_port) = error.ports();
        let local = self.arrived(error.source, source_port, inbound.interface);
        let remote = self.arrived(error.destination, destination_port, inbound.interface);
        match error.protocol {
            protocol::TCP => {
                let tuple = Tuple { local, remote };
                let slot = read(&self.connections)
                    .find(&tuple)
                    .cloned()
                    .ok_or(DropReason::BadIcmp)?;
                let mut state = slot.lock();
                state.socket.connection.handle_icmp(
                    now,
                    error.error,
                    SeqNum(error.second_word()),
                )?;
                let route = state.socket.route.as_deref();
                if let (Some(route), IcmpError::PacketTooBig { mtu }) = (route, error.error) {
                    // Where it leads is not where its packets are sent first, which paths are known by.
                    let first_hop = route.first_hop().into();
                    self.network.learn_path_mtu(now, first_hop, mtu);
                }
                self.settle_tcp(now, &slot, &mut state, wakes);
            }
            protocol::UDP => {
                let slot = read(&self.datagrams)
                    .find(local, remote, 0)
                    .and_then(Weak::upgrade)
                    .ok_or(DropReason::BadIcmp)?;
                let mut state = slot.lock();
                let heard = state.socket.socket.handle_icmp(error.error, remote);
                let edges = state.socket.socket.take_readiness();
                state.ready.set(edges, wakes);
                if !matches!(error.error, IcmpError::PacketTooBig { .. }) {
                    heard?;
                }
            }
            protocol::SCTP => {
                self.receive_sctp_error(local.port(), remote, error, wakes)?;
            }
            protocol::ICMPV4 | protocol::ICMPV6 => {
                let identifier = (error.second_word() >> 16) as u16;
                let slot = lock(&self.echoes)
                    .get(&(local.is_ipv6(), identifier))
                    .map(Arc::clone)
                    .ok_or(DropReason::BadIcmp)?;
                if let IcmpError::Refused(error) | IcmpError::Unreachable(error) = error.error {
                    let mut state = slot.lock();
                    let edges = state.socket.handle_error(error);
                    state.ready.set(edges, wakes);
                }
            }
            _ => return Err(DropReason::BadIcmp),
        }
        if let IcmpError::PacketTooBig { mtu } = error.error {
            self.network.learn_path_mtu(now, error.destination, mtu);
            for shard in &self.shards {
                let mut shrunk = lock(&shard.shrunk);
                // A flush takes them; between two flushes a batch of errors fits.
                if shrunk.len() < MAX_SHRUNK {
                    shrunk.push((error.destination, mtu));
                }
            }
            self.note_housekeeping(self.network.poll_timeout());
        }
        Ok(())
    }
}

/// Whether an ICMPv6 message that `packet` begins with is one of neighbour discovery.
pub(crate) fn is_neighbor_discovery(packet: &Packet) -> bool {
    use ndp::kind::{REDIRECT, ROUTER_SOLICITATION};
    packet
        .contiguous()
        .first()
        .is_some_and(|kind| (ROUTER_SOLICITATION..=REDIRECT).contains(kind))
}
