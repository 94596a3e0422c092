//! TCP segments from the network: to their connection, their listener, TIME-WAIT, or nobody.

use std::net::IpAddr;
use std::sync::{Arc, Weak};

use tidewire_netdev::Packet;

use crate::engine::ingress::Inbound;
use crate::engine::slot::{ListenerSlot, Slot, TcpSlot};
use crate::engine::sockets::Lease;
use crate::engine::source_routes::towards;
use crate::engine::zone::zone_of_flow;
use crate::engine::{Engine, lock, read, write};
use crate::ip::InterfaceId;
use crate::ip::input::ReturnRoute;
use crate::stats::DropReason;
use crate::tcp::connection::reset_reply;
use crate::tcp::listener::{AcceptQueue, ListenerVerdict, Surroundings};
use crate::tcp::time_wait::TimeWaitVerdict;
use crate::tcp::{Connection, Segment, SeqNum};
use crate::transport::Readiness;
use crate::transport::demux::Tuple;
use crate::wire::ipv4::SourceRoute;
use crate::wire::tcp::Header;
use crate::wire::{Ecn, ParseError};

/// The connection the last segment of a batch was for; packets of one flow come in runs.
#[derive(Debug, Default)]
pub(crate) struct FlowCache(Option<(Tuple, Arc<TcpSlot>)>);

/// The addresses, the ECN field and the source route of the packet a segment came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentOrigin<'a> {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) ecn: Ecn,
    pub(crate) return_route: Option<&'a ReturnRoute>,
}

impl SegmentOrigin<'_> {
    /// The way that answers go which belong to no connection.
    fn back(&self) -> Option<&SourceRoute> {
        self.return_route?.0.as_ref()
    }
}

impl Engine {
    /// A packet that starts at the TCP header, its checksum verified.
    pub(crate) fn receive_tcp(
        &self,
        inbound: &mut Inbound<'_>,
        origin: SegmentOrigin<'_>,
        packet: Packet,
    ) -> Result<(), DropReason> {
        let (ports, segment) = parse(origin, packet).map_err(|_| DropReason::Malformed)?;
        let at = |ip, port| self.arrived(ip, port, inbound.interface);
        let tuple = Tuple {
            local: at(origin.destination, ports.destination_port),
            remote: at(origin.source, ports.source_port),
        };
        let slot = match &inbound.cache.0 {
            Some((cached, slot)) if *cached == tuple => Some(Arc::clone(slot)),
            _ => read(&self.connections).find(&tuple).cloned(),
        };
        let Some(slot) = slot else {
            return self.receive_unconnected(inbound, origin, tuple, segment);
        };
        let mut state = slot.lock();
        if state.socket.detached {
            drop(state);
            inbound.cache.0 = None;
            return self.receive_unconnected(inbound, origin, tuple, segment);
        }
        let span = state.socket.span.clone();
        let entered = span.enter();
        trace_received(&segment);
        let result = state.socket.connection.handle_segment(inbound.now, segment);
        if result.is_ok() {
            state.socket.take_return_route(origin.return_route);
        }
        self.settle_tcp(inbound.now, &slot, &mut state, inbound.wakes);
        drop(entered);
        let detached = state.socket.detached;
        drop(state);
        inbound.cache.0 = (!detached).then_some((tuple, slot));
        result
    }

    fn receive_unconnected(
        &self,
        inbound: &mut Inbound<'_>,
        origin: SegmentOrigin<'_>,
        tuple: Tuple,
        segment: Segment,
    ) -> Result<(), DropReason> {
        let now = inbound.now;
        let verdict = lock(&self.time_wait)
            .table
            .handle_segment(now, &tuple, &segment);
        let reopened = match verdict {
            TimeWaitVerdict::Unknown => None,
            TimeWaitVerdict::Drop(reason) => return Err(reason),
            TimeWaitVerdict::Ack(transmit) => {
                self.reply_tcp(now, tuple, origin.back(), *transmit);
                let deadline = lock(&self.time_wait).table.poll_timeout();
                self.note_housekeeping(deadline);
                return Ok(());
            }
            TimeWaitVerdict::Reopen { iss } => Some(iss),
        };
        let spread = self.flow_key.hash_pair(tuple.local, tuple.remote);
        let listener = read(&self.listeners)
            .find(tuple.local, tuple.remote, spread)
            .and_then(Weak::upgrade);
        match listener {
            Some(listener) => {
                let iss = reopened.unwrap_or_else(|| self.isn.iss(now, &tuple));
                let asked = (tuple, segment);
                let result = self.receive_for_listener(inbound, origin, &listener, asked, iss);
                if reopened.is_some() && result.is_ok() {
                    let lease = {
                        let mut time_wait = lock(&self.time_wait);
                        time_wait.table.remove(&tuple);
                        time_wait.leases.remove(&tuple)
                    };
                    drop(lease);
                }
                result
            }
            None => self.refuse(inbound, origin, tuple, segment),
        }
    }

    /// RFC 9293 3.10.7.1: a segment for nobody is answered with a reset.
    fn refuse(
        &self,
        inbound: &mut Inbound<'_>,
        origin: SegmentOrigin<'_>,
        tuple: Tuple,
        segment: Segment,
    ) -> Result<(), DropReason> {
        if let Some(slot) = self.connected_meanwhile(&tuple) {
            return self.hand_over(inbound, &slot, segment);
        }
        if let Some(transmit) = reset_reply(tuple, &segment) {
            self.reply_tcp(inbound.now, tuple, origin.back(), transmit);
        }
        Err(DropReason::NoSocket)
    }

    /// The connection of a segment for which there was none a moment ago, before it is refused. The device may deliver
    /// a client's first data on one queue and the end of its handshake on another, as TUN does until it knows the flow:
    /// then one driver sets the connection up while another asks its listener about the data.
    fn connected_meanwhile(&self, tuple: &Tuple) -> Option<Arc<TcpSlot>> {
        read(&self.connections).find(tuple).cloned()
    }

    fn hand_over(
        &self,
        inbound: &mut Inbound<'_>,
        slot: &Arc<TcpSlot>,
        segment: Segment,
    ) -> Result<(), DropReason> {
        let mut state = slot.lock();
        let result = state.socket.connection.handle_segment(inbound.now, segment);
        self.settle_tcp(inbound.now, slot, &mut state, inbound.wakes);
        result
    }

    fn receive_for_listener(
        &self,
        inbound: &mut Inbound<'_>,
        origin: SegmentOrigin<'_>,
        listener: &Arc<ListenerSlot>,
        (tuple, segment): (Tuple, Segment),
        iss: SeqNum,
    ) -> Result<(), DropReason> {
        let now = inbound.now;
        let mut state = listener.lock();
        if state.socket.closed {
            drop(state);
            return self.refuse(inbound, origin, tuple, segment);
        }
        let device = state.socket.device.or(zone_of_flow(&tuple));
        let towards = towards(origin.back(), &tuple);
        let path = self
            .network
            .path(now, towards, Some(tuple.local.ip()), device)
            .map_err(|_| DropReason::BadSource)?;
        let surroundings = Surroundings {
            accept_queue: AcceptQueue {
                len: state.socket.queue.len(),
                limit: state.socket.backlog + 1,
            },
            path_mtu: path.mtu,
            iss,
            timestamp_offset: self.isn.timestamp_offset(&tuple),
        };
        let verdict = state
            .socket
            .listener
            .handle_segment(now, tuple, &segment, &surroundings);
        self.settle_listener(listener, &state.socket);
        if verdict.is_refusal()
            && let Some(slot) = self.connected_meanwhile(&tuple)
        {
            drop(state);
            return self.hand_over(inbound, &slot, segment);
        }
        let request = match verdict {
            ListenerVerdict::Nothing => {
                state.socket.return_routes.note(tuple, origin.back());
                return Ok(());
            }
            ListenerVerdict::Drop(reason) => return Err(reason),
            ListenerVerdict::Reset(transmit) => {
                drop(state);
                self.reply_tcp(now, tuple, origin.back(), *transmit);
                return Err(DropReason::BadAck);
            }
            ListenerVerdict::Ack(transmit) => {
                drop(state);
                self.reply_tcp(now, tuple, origin.back(), *transmit);
                return Err(DropReason::OutOfWindow);
            }
            ListenerVerdict::Accept(request) => request,
        };
        let connection =
            Connection::from_request(now, *request, Arc::clone(&state.socket.options.socket));
        let mapped = Self::is_mapped(&state.socket, &tuple);
        // A listener that is not closed has its lease.
        let lease = state.socket.lease.clone().ok_or(DropReason::Closed)?;
        let lease = Lease::Bound(lease);
        let mut socket = self.tcp_socket(
            connection,
            &state.socket.options,
            mapped,
            lease,
            path,
            device,
        );
        socket.ttl = state.socket.ttl;
        socket.take_return_route(origin.return_route);
        // tokio's accepted sockets begin readable and writable, and find out.
        let local = path.interface == InterfaceId::LOOPBACK;
        let child = Arc::new(
            Slot::new(socket, Readiness::READABLE | Readiness::WRITABLE)
                .with_local(local)
                .with_home(self.home_of(&tuple)),
        );
        let inserted = write(&self.connections).insert_if_vacant(tuple, Arc::clone(&child));
        if inserted.is_ok() {
            state.socket.queue.push_back(Arc::clone(&child));
            state.ready.set(Readiness::READABLE, inbound.wakes);
        }
        drop(state);
        // The loser of a race hands its segment to the winner.
        let slot = match inserted {
            Ok(()) => child,
            Err(_) => read(&self.connections)
                .find(&tuple)
                .cloned()
                .ok_or(DropReason::Closed)?,
        };
        self.hand_over(inbound, &slot, segment)
    }
}

fn trace_received(segment: &Segment) {
    let header = &segment.header;
    tracing::trace!(
        flags = ?header.flags,
        sequence = header.sequence,
        acknowledgment = header.acknowledgment,
        window = header.window,
        len = segment.payload_len(),
        "received"
    );
}

/// A segment's ports.
struct Ports {
    source_port: u16,
    destination_port: u16,
}

fn parse(origin: SegmentOrigin<'_>, mut packet: Packet) -> Result<(Ports, Segment), ParseError> {
    let segmentation = packet.offload.segmentation;
    if packet.contiguous().len() < 20 {
        packet.pull_up(20);
    }
    let parsed = match Header::parse(packet.contiguous()) {
        // The options lie in the next slice: nobody we know sends that, but a device may.
        Err(ParseError::Truncated) if packet.contiguous().len() < packet.len() => {
            packet.flatten();
            Header::parse(packet.contiguous())
        }
        other => other,
    };
    let (header, header_len) = parsed?;
    packet.advance(header_len);
    let payload_len = packet.len();
    let ports = Ports {
        source_port: header.source_port,
        destination_port: header.destination_port,
    };
    let segment = Segment {
        header,
        segment_size: segmentation.map_or(payload_len, |segmentation| {
            usize::from(segmentation.segment_size)
        }),
        payload: packet.into_payload(),
        ecn: origin.ecn,
    };
    Ok((ports, segment))
}

#[cfg(test)]
mod tests;
