//! Packets for other hosts: from one interface's way in to another's way out (RFC 1812 5.2, RFC 8200 4).
//!
//! Owns what becomes of such a packet: the way it takes, or what its sender is told. What a router may pass on and what it
//! changes is `ip/forwarding.rs`'s. Where it has to wait, for its neighbour or a full device, it does so among the stack's
//! own replies and within their bounds; nobody is held back by it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tidewire_netdev::segmentation::{self, CutChecksum};
use tidewire_netdev::{Checksum, Medium, Packet};

use crate::engine::Engine;
use crate::engine::ingress::{Inbound, verify};
use crate::engine::network::{Origin, Path};
use crate::engine::transmit_queue::{Reply, ReplyWay};
use crate::ip::InterfaceId;
use crate::ip::forwarding::{self, SourceRoutes, Transit};
use crate::ip::icmp::Problem;
use crate::ip::input::{self, Arrival, Refusal};
use crate::stats::DropReason;
use crate::time::Instant;
use crate::transport::demux::Tuple;

/// What every IPv6 link carries (RFC 8200 5): a smaller MTU is never told.
const MIN_MTU_V6: usize = 1280;

impl Engine {
    /// Whether a packet that has come in is to be passed on: this host is a router, and the packet came to it alone (RFC 1812
    /// 5.3.4) for another host.
    #[inline]
    pub(crate) fn is_in_transit(&self, inbound: &Inbound<'_>, packet: &mut Packet) -> bool {
        self.config.host.forwarding
            && inbound.interface != InterfaceId::LOOPBACK
            && !inbound.origin().is_link_broadcast
            && forwarding::destination(packet)
                .is_some_and(|destination| self.network.is_in_transit(destination))
    }

    /// Passes a packet on.
    pub(crate) fn forward(
        &self,
        inbound: &Inbound<'_>,
        mut packet: Packet,
    ) -> Result<(), DropReason> {
        let source_routes = if self.config.host.accept_source_routes {
            SourceRoutes::Pass
        } else {
            SourceRoutes::Refuse
        };
        let transit = match forwarding::parse(&mut packet, source_routes) {
            Ok(transit) => transit,
            Err(Refusal::Drop(reason)) => return Err(reason),
            Err(Refusal::Answer(answer)) => {
                if self.may_come_from(inbound, answer.ip.source) {
                    self.report(inbound, answer.problem, &answer.ip, &packet);
                }
                return Err(answer.reason);
            }
        };
        if !self.may_come_from(inbound, transit.source) {
            return Err(DropReason::BadSource);
        }
        let path =
            self.network
                .path_through(transit.source, transit.destination, inbound.interface);
        let path = match path {
            Ok(path) => path,
            Err(problem) => {
                self.report_transit(inbound, problem, packet);
                return Err(DropReason::NoRoute);
            }
        };
        // After the route, as on Linux: a trace ends where the way does.
        if transit.hop_limit <= 1 {
            self.report_transit(inbound, Problem::HopLimitExceeded, packet);
            return Err(DropReason::HopLimit);
        }
        check_super_packet(&packet)?;
        // Everything beyond this has headers and offload metadata that agree.
        let len = segmentation::wire_len(&mut packet).map_err(|_| DropReason::Malformed)?;
        let mtu = match transit.destination.is_ipv6() {
            true => path.mtu.max(MIN_MTU_V6),
            false => path.mtu,
        };
        if path.interface == inbound.interface {
            self.redirect_sender(inbound, &transit, &path, &packet);
        }
        if len <= mtu {
            self.pass(&transit, &path, packet)?;
        } else if transit.dont_fragment {
            let mtu = mtu as u32;
            self.report_transit(inbound, Problem::PacketTooBig { mtu }, packet);
            return Err(DropReason::TooBig);
        } else {
            self.pass_in_fragments(&transit, &path, packet)?;
        }
        self.counters.forwarded();
        Ok(())
    }

    /// Tells a host on the same link that the next hop is nearer to it than this router, by the conditions of RFC 1812 5.2.7.2.
    fn redirect_sender(
        &self,
        inbound: &Inbound<'_>,
        transit: &Transit,
        path: &Path,
        packet: &Packet,
    ) {
        let IpAddr::V4(gateway) = path.next_hop else {
            return;
        };
        let (interface, source) = (inbound.interface, transit.source);
        let has_stations = inbound.frame.is_some();
        if has_stations
            && !transit.has_source_route
            && source != path.next_hop
            && self
                .network
                .share_a_network(interface, source, path.next_hop)
        {
            self.report_transit(inbound, Problem::Redirect { gateway }, packet.clone());
        }
    }

    fn may_come_from(&self, inbound: &Inbound<'_>, source: IpAddr) -> bool {
        self.network.is_plausible_source(inbound.interface, source)
    }

    /// Queues a packet for its way out.
    fn pass(&self, transit: &Transit, path: &Path, mut packet: Packet) -> Result<(), DropReason> {
        transit.pass(&mut packet, self.recorded(transit, path));
        self.queue_forwarded(transit, path, packet)
    }

    /// Queues an IPv4 packet that is too long for its way out, in pieces.
    fn pass_in_fragments(
        &self,
        transit: &Transit,
        path: &Path,
        mut packet: Packet,
    ) -> Result<(), DropReason> {
        transit.pass(&mut packet, self.recorded(transit, path));
        let mut wires = Vec::new();
        segmentation::segment(packet, Medium::Ip, CutChecksum::Complete, |wire| {
            wires.push(wire);
        })
        .map_err(|_| DropReason::Malformed)?;
        for wire in wires {
            if wire.len() <= path.mtu {
                self.queue_forwarded(transit, path, wire)?;
                continue;
            }
            for fragment in forwarding::cut(wire, path.mtu)? {
                self.queue_forwarded(transit, path, fragment)?;
            }
        }
        Ok(())
    }

    /// The address that a record route option gets: that of the interface that the packet leaves through (RFC 1812 5.3.13.5).
    fn recorded(&self, transit: &Transit, path: &Path) -> Option<Ipv4Addr> {
        transit
            .records_route()
            .then(|| self.network.first_address_v4(path.interface))
            .flatten()
    }

    fn queue_forwarded(
        &self,
        transit: &Transit,
        path: &Path,
        packet: Packet,
    ) -> Result<(), DropReason> {
        // Packets between two hosts stay in order, on whichever shard.
        let between = Tuple {
            local: SocketAddr::new(transit.source, 0),
            remote: SocketAddr::new(transit.destination, 0),
        };
        let reply = Reply {
            interface: path.interface,
            packet,
            way: ReplyWay::Onward(*path),
        };
        self.try_queue_reply(self.home_of(&between), reply)
            .map_err(|_| DropReason::QueueFull)
    }

    /// Tells the sender of a packet for another host what is wrong with it.
    fn report_transit(&self, inbound: &Inbound<'_>, problem: Problem, mut packet: Packet) {
        if let Some(ip) = forwarding::take_header(&mut packet) {
            self.report(inbound, problem, &ip, &packet);
        }
    }

    /// A packet that a neighbour did not take, from its IP header on: if it is another host's, that host is told (RFC 1812
    /// 5.2.7.1, RFC 4443 3.1). Whether it is.
    pub(crate) fn report_unforwarded(
        &self,
        now: Instant,
        interface: InterfaceId,
        packet: &Packet,
    ) -> bool {
        if !self.config.host.forwarding {
            return false;
        }
        let mut packet = packet.clone();
        let Some(ip) = forwarding::take_header(&mut packet) else {
            return false;
        };
        if self.network.is_own(ip.source) || ip.source.is_unspecified() {
            return false;
        }
        let origin = Origin {
            interface,
            is_link_broadcast: false,
        };
        self.report_from(now, origin, Problem::HostUnreachable, &ip, &packet);
        true
    }
}

/// A super-packet gets new checksums when it is cut: one that nobody has verified must not get right by that.
fn check_super_packet(packet: &Packet) -> Result<(), DropReason> {
    let is_super_packet = packet.offload.segmentation.is_some();
    if !is_super_packet || packet.offload.checksum != Checksum::Unverified {
        return Ok(());
    }
    let mut packet = packet.clone();
    let ip = input::parse(&mut packet, Arrival::Wire).map_err(|refusal| refusal.reason())?;
    verify(&ip, &packet)
}
