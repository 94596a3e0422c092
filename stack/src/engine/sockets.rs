//! What lies in a slot: the protocol's state, and what the engine needs to carry its packets.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;

use crate::engine::network::Path;
use crate::engine::ready_cache::ReadyCache;
use crate::engine::slot::TcpSlot;
use crate::engine::socket_groups::SocketGroups;
use crate::engine::source_routes::ReturnRoutes;
use crate::engine::zone::zone_of;
use crate::error::{SocketError, SocketResult};
use crate::ip::InterfaceId;
use crate::ip::input::ReturnRoute;
use crate::tcp;
use crate::transport::demux::BoundKey;
use crate::transport::ports::{EphemeralLease, PortLease};
use crate::transport::{Readiness, demux::Tuple};
use crate::udp;
use crate::wire::ipv4::SourceRoute;

/// What a TCP socket can be told before it is connected or listens.
#[derive(Clone, Debug)]
pub struct TcpOptions {
    /// The connection's own options; a listener's are shared by the connections it accepts.
    pub socket: Arc<tcp::config::SocketOptions>,
    /// TTL or hop limit instead of the stack's.
    pub ttl: Option<u8>,
    /// TOS octet or traffic class: DSCP in the upper six bits.
    pub tos: u8,
    /// The only interface to use, by name.
    pub device: Option<String>,
    /// The way that packets go (RFC 9293 3.9.2.1).
    pub route: Option<Arc<SourceRoute>>,
}

impl Default for TcpOptions {
    fn default() -> Self {
        static UNSET: LazyLock<Arc<tcp::config::SocketOptions>> = LazyLock::new(Arc::default);
        Self {
            socket: Arc::clone(&UNSET),
            ttl: None,
            tos: 0,
            device: None,
            route: None,
        }
    }
}

/// Who holds a connection's local port.
#[derive(Debug)]
pub(crate) enum Lease {
    /// An explicit bind, shared between a listener and what it accepted.
    Bound(#[allow(dead_code, reason = "held for its Drop")] Arc<PortLease>),
    /// A port chosen at connect.
    Ephemeral(#[allow(dead_code, reason = "held for its Drop")] EphemeralLease),
}

/// A connection in its slot.
#[derive(Debug)]
pub struct TcpSocket {
    /// The protocol's state.
    pub connection: tcp::Connection,
    /// TTL or hop limit of its packets.
    pub ttl: u8,
    /// TOS octet or traffic class of its packets, without the ECN bits.
    pub tos: u8,
    /// The socket was made for IPv6 and its peer speaks IPv4: addresses are shown as `::ffff:a.b.c.d`.
    pub(crate) mapped: bool,
    pub(crate) lease: Option<Lease>,
    pub(crate) path: Option<Path>,
    pub(crate) device: Option<InterfaceId>,
    /// The way its packets go, as its opener wants or as its peer's packets come.
    pub(crate) route: Option<Arc<SourceRoute>>,
    /// Its neighbour did not answer: what it sends next is lost.
    pub(crate) unreachable: bool,
    /// The connection's progress when its neighbour was last looked up.
    pub(crate) confirmed: tcp::connection::Progress,
    /// IPv4 identification of the next packet (RFC 6864: any value will do, DF is set).
    pub(crate) next_id: u16,
    /// Nobody holds the handle any more.
    pub(crate) orphan: bool,
    /// Left the demux for good.
    pub(crate) detached: bool,
    /// What the connection logs stands in this span, with its addresses.
    pub(crate) span: tracing::Span,
}

impl TcpSocket {
    /// The local address as the socket's owner sees it.
    pub fn local(&self) -> SocketAddr {
        shown(self.connection.tuple().local, self.mapped)
    }

    /// The peer's address as the socket's owner sees it.
    pub fn remote(&self) -> SocketAddr {
        shown(self.connection.tuple().remote, self.mapped)
    }

    /// The four-tuple as packets carry it.
    pub fn tuple(&self) -> Tuple {
        self.connection.tuple()
    }

    /// A segment that the connection has taken came by a source route: what the peer has opened is answered on its way back,
    /// the latest if there are several (RFC 9293 3.9.2.1, MUST-53, SHLD-24). Who opens names a route itself, or none (MUST-52).
    pub(crate) fn take_return_route(&mut self, route: Option<&ReturnRoute>) {
        let Some(ReturnRoute(route)) = route.filter(|_| self.connection.is_passive()) else {
            return;
        };
        if self.route.as_deref() != route.as_ref() {
            self.route = route.clone().map(Arc::new);
            self.path = None;
        }
    }
}

/// Takes the oldest off a listener's queue; clears the cached readiness if there is none.
///
/// # Errors
/// `WouldBlock`; `error`, with which the listener has ended.
pub(crate) fn next_accepted<T>(
    queue: &mut VecDeque<Arc<T>>,
    error: Option<SocketError>,
    ready: &mut ReadyCache,
) -> SocketResult<Arc<T>> {
    if let Some(error) = error {
        return Err(error);
    }
    queue.pop_front().ok_or_else(|| {
        ready.clear(Readiness::READABLE);
        SocketError::WouldBlock
    })
}

/// A listener in its slot.
#[derive(Debug)]
pub struct ListenerSocket {
    pub(crate) listener: tcp::Listener,
    /// Where it is bound.
    pub(crate) bound: SocketAddr,
    /// Gone once it is closed: lists may hold the slot for longer.
    pub(crate) lease: Option<Arc<PortLease>>,
    pub(crate) key: BoundKey,
    pub(crate) queue: VecDeque<Arc<TcpSlot>>,
    pub(crate) backlog: usize,
    pub(crate) options: TcpOptions,
    pub(crate) device: Option<InterfaceId>,
    /// TTL or hop limit of its packets and of those of the connections it accepts.
    pub ttl: u8,
    pub(crate) next_id: u16,
    /// The ways back to whoever is about to connect by a source route.
    pub(crate) return_routes: ReturnRoutes,
    pub(crate) error: Option<SocketError>,
    pub(crate) closed: bool,
}

impl ListenerSocket {
    /// The bound address.
    pub const fn local(&self) -> SocketAddr {
        self.bound
    }

    /// Connections that wait to be accepted.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }
}

/// A UDP socket in its slot.
#[derive(Debug)]
pub struct UdpSocket {
    /// The protocol's state and the options.
    pub socket: udp::Socket,
    /// As `bind` was told, with its real port.
    pub(crate) requested: SocketAddr,
    pub(crate) bound: SocketAddr,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) dual_stack: bool,
    /// Gone once it is closed: what it has sent may still wait.
    pub(crate) lease: Option<PortLease>,
    pub(crate) key: BoundKey,
    pub(crate) device: Option<InterfaceId>,
    /// The last destination and the way to it.
    pub(crate) path: Option<(SocketAddr, Path)>,
    pub(crate) groups: SocketGroups,
    /// Where datagrams to groups leave, over IPv4 and over IPv6, if the socket is not tied to an interface.
    pub(crate) group_interfaces: [Option<InterfaceId>; 2],
    pub(crate) next_id: u16,
    pub(crate) closed: bool,
}

impl UdpSocket {
    /// The local address: as bound, or as chosen by `connect`.
    pub fn local(&self) -> SocketAddr {
        shown(self.bound, self.dual_stack && self.bound.is_ipv4())
    }

    /// The connected peer.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.remote.map(|remote| shown(remote, self.dual_stack))
    }

    /// Ties the socket to an interface, or unties it.
    pub(crate) fn set_device(&mut self, device: Option<InterfaceId>) {
        self.device = device;
        self.path = None;
    }

    /// The only interface that leads to `remote`, as far as the socket has been told.
    pub(crate) fn device_for(&self, remote: IpAddr) -> Option<InterfaceId> {
        let for_groups = || {
            let [v4, v6] = self.group_interfaces;
            let chosen = if remote.is_ipv6() { v6 } else { v4 };
            chosen.filter(|_| remote.is_multicast())
        };
        self.device.or_else(for_groups)
    }

    /// A peer's address as the socket's owner sees it: an IPv6 socket shows IPv4 peers as `::ffff:a.b.c.d`.
    pub fn shown(&self, address: SocketAddr) -> SocketAddr {
        shown(address, self.dual_stack)
    }
}

/// A reply to an echo request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EchoReply {
    /// Who replied.
    pub source: IpAddr,
    /// The request's sequence number.
    pub sequence: u16,
    /// The request's data.
    pub payload: Bytes,
    /// TTL or hop limit of the reply as it arrived.
    pub ttl: u8,
}

/// An ICMP echo ("ping") socket in its slot: owns one identifier.
#[derive(Debug)]
pub struct EchoSocket {
    pub(crate) local: Option<IpAddr>,
    pub(crate) is_v6: bool,
    pub(crate) identifier: u16,
    pub(crate) received: VecDeque<EchoReply>,
    pub(crate) error: Option<SocketError>,
    /// TTL or hop limit of requests.
    pub ttl: u8,
}

/// Replies that wait for an echo socket's reader; more are dropped.
const ECHO_QUEUE: usize = 256;

impl EchoSocket {
    /// The identifier in this socket's requests.
    pub fn identifier(&self) -> u16 {
        self.identifier
    }

    /// The address it was opened with, if one was given.
    pub fn local(&self) -> Option<IpAddr> {
        self.local
    }

    pub(crate) fn handle_reply(&mut self, reply: EchoReply) -> Readiness {
        if self.received.len() >= ECHO_QUEUE {
            return Readiness::NONE;
        }
        self.received.push_back(reply);
        Readiness::READABLE
    }

    pub(crate) fn handle_error(&mut self, error: SocketError) -> Readiness {
        self.error = Some(error);
        Readiness::READABLE | Readiness::ERROR
    }

    pub(crate) fn receive(&mut self) -> SocketResult<EchoReply> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        self.received.pop_front().ok_or(SocketError::WouldBlock)
    }
}

/// `address` as an IPv6 socket shows it, if `mapped`.
pub(crate) fn shown(address: SocketAddr, mapped: bool) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if mapped => {
            SocketAddr::new(IpAddr::V6(v4.ip().to_ipv6_mapped()), v4.port())
        }
        other => other,
    }
}

/// An address as packets carry it: `::ffff:a.b.c.d` is IPv4. Only link-local addresses and groups keep their zone.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match (zone_of(address), address) {
        (Some(zone), SocketAddr::V6(v6)) => {
            SocketAddr::V6(SocketAddrV6::new(*v6.ip(), v6.port(), 0, zone.0))
        }
        _ => SocketAddr::new(address.ip().to_canonical(), address.port()),
    }
}

/// "All addresses" of a family.
pub(crate) const fn unspecified(is_v6: bool) -> IpAddr {
    if is_v6 {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    }
}
