//! ICMP echo: answering requests, and sockets that ask ("ping sockets").

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use tidewire_netdev::Packet;

use crate::engine::network::Path;
use crate::engine::shard::ShardId;
use crate::engine::slot::{EchoSlot, Slot};
use crate::engine::sockets::{EchoReply, EchoSocket};
use crate::engine::{Engine, WakeList, lock};
use crate::error::{SocketError, SocketResult};
use crate::ip::icmp::Outgoing;
use crate::ip::icmp::{Echo, echo};
use crate::ip::input::IpPacket;
use crate::ip::output::OutputHeader;
use crate::neighbor::Initiator;
use crate::stats::DropReason;
use crate::time::Instant;
use crate::transport::Readiness;
use crate::wire::{icmpv4, protocol};

impl Engine {
    /// Opens an echo socket that sends from `local`; an unspecified address leaves the choice to each request.
    ///
    /// # Errors
    /// `AddressNotAvailable` when `local` is not this host's; `NoBuffers` when all identifiers are taken.
    pub fn echo_open(&self, local: IpAddr) -> SocketResult<Arc<EchoSlot>> {
        self.check_alive()?;
        // A request's source, so no group and no broadcast address.
        if !local.is_unspecified() && !self.network.is_own(local) {
            return Err(SocketError::AddressNotAvailable);
        }
        let is_v6 = local.is_ipv6();
        let mut echoes = lock(&self.echoes);
        let first = lock(&self.random).next_u32() as u16;
        let free = (0..=u16::MAX)
            .map(|step| first.wrapping_add(step))
            .find(|id| !echoes.contains_key(&(is_v6, *id)));
        let identifier = free.ok_or(SocketError::NoBuffers)?;
        let socket = EchoSocket {
            local: Some(local).filter(|local| !local.is_unspecified()),
            is_v6,
            identifier,
            received: VecDeque::new(),
            error: None,
            ttl: self.config.host.ttl,
        };
        let slot = Arc::new(Slot::new(socket, Readiness::WRITABLE));
        echoes.insert((is_v6, identifier), Arc::clone(&slot));
        Ok(slot)
    }

    /// Sends an echo request.
    ///
    /// # Errors
    /// `AddressFamily`, `NetworkUnreachable`, `MessageTooLong` beyond what IP carries, or a pending ICMP error.
    pub fn echo_send(
        &self,
        now: Instant,
        slot: &Arc<EchoSlot>,
        destination: IpAddr,
        sequence: u16,
        payload: &[u8],
    ) -> SocketResult<()> {
        self.check_alive()?;
        let (local, is_v6, identifier, ttl) = {
            let state = slot.lock();
            (
                state.socket.local,
                state.socket.is_v6,
                state.socket.identifier,
                state.socket.ttl,
            )
        };
        if destination.is_ipv6() != is_v6 {
            return Err(SocketError::AddressFamily);
        }
        if payload.len() > 65_535 - 40 - 8 {
            return Err(SocketError::MessageTooLong);
        }
        let path = self.network.path(now, destination, local, None)?;
        let path = self.label_plain(path, protocol::ICMPV6, destination);
        let Outgoing { header, packet } = echo::request(
            path.source,
            destination,
            Echo {
                identifier,
                sequence,
            },
            Bytes::copy_from_slice(payload),
        );
        self.reply_datagram(
            &path,
            Initiator::Host,
            packet,
            OutputHeader {
                hop_limit: self.hop_limit_of(ttl, &path),
                flow_label: path.flow_label,
                ..header
            },
        )
    }

    /// Takes the oldest reply.
    ///
    /// # Errors
    /// `WouldBlock`, which has cleared the cached readiness, or an ICMP error about a request.
    pub fn echo_receive(&self, slot: &Arc<EchoSlot>) -> SocketResult<EchoReply> {
        let mut state = slot.lock();
        let result = state.socket.receive();
        if result == Err(SocketError::WouldBlock) {
            state.ready.clear(Readiness::READABLE);
        }
        result
    }

    /// Closes an echo socket.
    pub fn close_echo(&self, slot: &Arc<EchoSlot>) {
        let key = {
            let state = slot.lock();
            (state.socket.is_v6, state.socket.identifier)
        };
        let removed = lock(&self.echoes).remove(&key);
        drop(removed);
    }

    /// A reply to a request of one of our sockets.
    pub(crate) fn receive_echo_reply(
        &self,
        ip: &IpPacket,
        echo: Echo,
        mut packet: Packet,
        wakes: &mut WakeList,
    ) -> Result<(), DropReason> {
        let slot = lock(&self.echoes)
            .get(&(ip.is_ipv6(), echo.identifier))
            .cloned()
            .ok_or(DropReason::NoSocket)?;
        packet.advance(icmpv4::HEADER_LEN);
        let mut state = slot.lock();
        let reply = EchoReply {
            source: ip.source,
            sequence: echo.sequence,
            payload: packet.to_bytes(),
            ttl: ip.hop_limit,
        };
        let edges = state.socket.handle_reply(reply);
        if edges.is_empty() {
            return Err(DropReason::QueueFull);
        }
        state.ready.set(edges, wakes);
        Ok(())
    }

    /// A request of one of our sockets found no neighbour to take it.
    pub(crate) fn fail_echo(&self, ip: &IpPacket, identifier: u16, wakes: &mut WakeList) {
        let slot = lock(&self.echoes)
            .get(&(ip.is_ipv6(), identifier))
            .map(Arc::clone);
        if let Some(slot) = slot {
            let mut state = slot.lock();
            let edges = state.socket.handle_error(SocketError::HostUnreachable);
            state.ready.set(edges, wakes);
        }
    }

    /// Queues a datagram that belongs to no socket's queue; in fragments when it is larger than the path carries.
    pub(crate) fn reply_datagram(
        &self,
        path: &Path,
        initiator: Initiator,
        packet: Packet,
        header: OutputHeader,
    ) -> SocketResult<()> {
        for packet in self.with_header(path.mtu, packet, header)? {
            self.reply(ShardId::FIRST, path, initiator, packet)?;
        }
        Ok(())
    }
}
