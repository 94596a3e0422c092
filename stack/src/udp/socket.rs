//! One UDP socket: its queues, its peer, its pending error.
//!
//! Owns what Linux keeps per socket and the order in which an operation looks at it; leaves binding, routes, directed
//! broadcasts and the IP header to the engine, and waiting to `net`.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;

use super::receive_queue::{self, OVERHEAD, ReceiveQueue};
use crate::error::{SocketError, SocketResult};
use crate::stats::DropReason;
use crate::transport::{IcmpError, Readiness};
use crate::udp::{Config, Datagram, Received, SocketOptions, Transmit};
use crate::wire::udp::{MAX_PAYLOAD_V4, MAX_PAYLOAD_V6};

/// Most datagrams of one [`Socket::send_segmented`], as Linux's `UDP_MAX_SEGMENTS`.
pub const MAX_SEGMENTS: usize = 128;

/// Counters of one socket, as `ss` would show them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Datagrams put into the receive queue.
    pub received: u64,
    /// Payload octets of these.
    pub received_octets: u64,
    /// Datagrams dropped because the receive queue was full.
    pub dropped: u64,
    /// Datagrams handed down for sending.
    pub sent: u64,
    /// Payload octets of these.
    pub sent_octets: u64,
    /// ICMP errors that became a pending error.
    pub icmp_errors: u64,
}

/// A UDP socket.
#[derive(Debug)]
pub struct Socket {
    config: Config,
    /// What the owner has set. The engine reads it when it builds headers.
    pub options: SocketOptions,
    remote: Option<SocketAddr>,
    receive: ReceiveQueue,
    transmit: VecDeque<Transmit>,
    /// Memory of `transmit`, in octets.
    transmit_charged: usize,
    /// What `SO_ERROR` would give; reported once, by whichever operation comes first.
    pending_error: Option<SocketError>,
    /// The stack is gone: every later operation fails with this.
    ended: Option<SocketError>,
    /// A send has seen `WouldBlock` and nobody has told of room since.
    send_blocked: bool,
    readiness: Readiness,
    statistics: Statistics,
}

impl Socket {
    /// An unconnected socket with empty queues, which own no memory. It is writable at once.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            options: SocketOptions::default(),
            remote: None,
            receive: ReceiveQueue::default(),
            transmit: VecDeque::new(),
            transmit_charged: 0,
            pending_error: None,
            ended: None,
            send_blocked: false,
            readiness: Readiness::WRITABLE,
            statistics: Statistics::default(),
        }
    }

    /// Takes what the network brought.
    ///
    /// # Errors
    /// [`DropReason::NoSocket`] when the socket is connected to somebody else, [`DropReason::QueueFull`] when the
    /// receive queue holds as much memory as it may: as on Linux, a datagram is taken while less is held, so that one
    /// of any size fits an empty queue.
    pub fn handle_datagram(&mut self, datagram: Datagram) -> Result<(), DropReason> {
        if self.ended.is_some() {
            return Err(DropReason::Closed);
        }
        if !self.accepts_from(datagram.source) {
            return Err(DropReason::NoSocket);
        }
        let count = receive_queue::datagram_count(&datagram) as u64;
        if self.receive.charged() >= self.config.receive_buffer {
            self.statistics.dropped += count;
            return Err(DropReason::QueueFull);
        }
        self.statistics.received += count;
        self.statistics.received_octets += receive_queue::payload_len(&datagram.payload) as u64;
        self.receive.push(datagram);
        self.readiness |= Readiness::READABLE;
        Ok(())
    }

    /// Takes an ICMP error about a datagram that was sent to `destination`.
    ///
    /// Only a connected socket hears of it, and only of hard errors about its peer (RFC 1122 4.1.3.3 asks for all;
    /// Linux holds soft ones back unless `IP_RECVERR` is set). "Too big" is hard here, since path MTU discovery is on.
    ///
    /// # Errors
    /// [`DropReason::BadIcmp`] when the socket does not hear of it.
    pub fn handle_icmp(
        &mut self,
        error: IcmpError,
        destination: SocketAddr,
    ) -> Result<(), DropReason> {
        let error = match error {
            IcmpError::Refused(error) => error,
            IcmpError::PacketTooBig { .. } => SocketError::MessageTooLong,
            IcmpError::Unreachable(_) => return Err(DropReason::BadIcmp),
        };
        if self.remote.is_none() || !self.accepts_from(destination) {
            return Err(DropReason::BadIcmp);
        }
        self.statistics.icmp_errors += 1;
        self.set_pending(error);
        Ok(())
    }

    /// A datagram to `destination` was lost on our own link: the neighbour does not answer. A connected socket is told,
    /// as RFC 1122 4.1.3.3 asks; it is not a router that may be wrong who says so.
    pub fn handle_unreachable(&mut self, destination: SocketAddr) {
        if self.remote.is_some() && self.accepts_from(destination) {
            self.set_pending(SocketError::HostUnreachable);
        }
    }

    /// The interface or the stack has ended: what is queued to send is dropped, everything later fails with `error`.
    /// What has arrived can still be read.
    pub fn fail(&mut self, error: SocketError) {
        self.ended = Some(error);
        self.transmit = VecDeque::new();
        self.transmit_charged = 0;
        self.set_pending(error);
        self.readiness |= Readiness::READABLE | Readiness::READ_CLOSED;
    }

    /// Fixes the peer: datagrams of others are dropped from now on (those that wait already are not, as on Linux),
    /// and [`Self::send`] needs no destination. Port 0 stands for any port. May be repeated.
    ///
    /// # Errors
    /// [`SocketError::PermissionDenied`] for the limited broadcast address without the option.
    pub fn connect(&mut self, remote: SocketAddr) -> SocketResult<()> {
        self.check_broadcast(remote.ip())?;
        self.remote = Some(remote);
        Ok(())
    }

    /// Forgets the peer (`connect` to `AF_UNSPEC`).
    pub fn disconnect(&mut self) {
        self.remote = None;
    }

    /// The peer, if connected.
    pub const fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// Queues a datagram for `destination`, or for the peer.
    ///
    /// # Errors
    /// In this order, as on Linux: [`SocketError::InvalidInput`] for port 0, [`SocketError::DestinationRequired`]
    /// without destination and peer, [`SocketError::PermissionDenied`] for the limited broadcast address without the
    /// option, [`SocketError::MessageTooLong`] for more than fits an IP packet, the pending error, and
    /// [`SocketError::WouldBlock`] when the send queue holds as much memory as it may.
    pub fn send(&mut self, payload: Bytes, destination: Option<SocketAddr>) -> SocketResult<()> {
        self.queue(payload, None, destination)
    }

    /// Queues several datagrams of `segment_size` octets, the last of which may be shorter (`UDP_SEGMENT`).
    ///
    /// # Errors
    /// Those of [`Self::send`], and [`SocketError::InvalidInput`] when `segment_size` is 0 or there would be more than
    /// [`MAX_SEGMENTS`] datagrams.
    pub fn send_segmented(
        &mut self,
        payload: Bytes,
        segment_size: u16,
        destination: Option<SocketAddr>,
    ) -> SocketResult<()> {
        let size = usize::from(segment_size);
        if size == 0 || payload.len().div_ceil(size) > MAX_SEGMENTS {
            return Err(SocketError::InvalidInput);
        }
        let segment_size = (size < payload.len()).then_some(segment_size);
        self.queue(payload, segment_size, destination)
    }

    /// Whether a datagram waits to be sent.
    pub fn has_transmit(&self) -> bool {
        !self.transmit.is_empty()
    }

    /// Where the next one goes.
    pub fn next_destination(&self) -> Option<SocketAddr> {
        self.transmit.front().map(|transmit| transmit.destination)
    }

    /// Takes the next one; call until `None`.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        let transmit = self.transmit.pop_front()?;
        self.transmit_charged -= OVERHEAD + transmit.payload.len();
        let count = transmit.segment_size.map_or(1, |size| {
            transmit.payload.len().div_ceil(usize::from(size)) as u64
        });
        self.statistics.sent += count;
        self.statistics.sent_octets += transmit.payload.len() as u64;
        self.tell_of_room();
        Some(transmit)
    }

    /// The next one cannot go (no route any more, say): it is dropped and the error becomes pending.
    pub fn handle_transmit_error(&mut self, error: SocketError) {
        if let Some(transmit) = self.transmit.pop_front() {
            self.transmit_charged -= OVERHEAD + transmit.payload.len();
            self.tell_of_room();
            self.set_pending(error);
        }
    }

    /// Reads the next datagram into `buffer`; what does not fit is lost.
    ///
    /// # Errors
    /// The pending error comes before any datagram, once, as on Linux; [`SocketError::WouldBlock`] when nothing waits.
    pub fn recv(&mut self, buffer: &mut [u8]) -> SocketResult<Received> {
        let received = self.peek(buffer)?;
        self.receive.pop();
        Ok(received)
    }

    /// Takes the next datagram without copying it where it lies in one piece.
    ///
    /// # Errors
    /// Those of [`Self::recv`].
    pub fn recv_bytes(&mut self) -> SocketResult<(Bytes, Received)> {
        self.check_receive()?;
        let received = self.receive.describe(usize::MAX);
        match (self.receive.pop_bytes(), received) {
            (Some(bytes), Some(received)) => Ok((bytes, received)),
            _ => Err(self.nothing_to_read()),
        }
    }

    /// Copies the next datagram and leaves it in the queue.
    ///
    /// # Errors
    /// Those of [`Self::recv`]; the pending error is consumed here too.
    pub fn peek(&mut self, buffer: &mut [u8]) -> SocketResult<Received> {
        self.check_receive()?;
        self.receive
            .peek(buffer)
            .ok_or_else(|| self.nothing_to_read())
    }

    /// Who sent the next datagram.
    ///
    /// # Errors
    /// Those of [`Self::peek`].
    pub fn peek_sender(&mut self) -> SocketResult<SocketAddr> {
        self.peek(&mut []).map(|received| received.source)
    }

    /// The pending error, which is none any more then (`SO_ERROR`).
    pub fn take_error(&mut self) -> Option<SocketError> {
        self.pending_error.take()
    }

    /// What has become possible since the last call.
    pub fn take_readiness(&mut self) -> Readiness {
        std::mem::take(&mut self.readiness)
    }

    /// Counters.
    pub const fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Datagrams that wait to be read.
    pub fn receive_queue_len(&self) -> usize {
        self.receive.datagrams()
    }

    /// Memory of the receive queue in octets.
    pub const fn receive_queue_memory(&self) -> usize {
        self.receive.charged()
    }

    /// Memory of the send queue in octets.
    pub const fn send_queue_memory(&self) -> usize {
        self.transmit_charged
    }

    /// Limit of the receive queue's memory in octets.
    pub const fn receive_buffer(&self) -> usize {
        self.config.receive_buffer
    }

    /// Sets [`Self::receive_buffer`]; what waits already stays.
    pub fn set_receive_buffer(&mut self, octets: usize) {
        self.config.receive_buffer = octets.max(MIN_RECEIVE_BUFFER);
    }

    /// Limit of the send queue's memory in octets.
    pub const fn send_buffer(&self) -> usize {
        self.config.send_buffer
    }

    /// Sets [`Self::send_buffer`]; what waits already stays.
    pub fn set_send_buffer(&mut self, octets: usize) {
        self.config.send_buffer = octets.max(MIN_SEND_BUFFER);
        self.tell_of_room();
    }

    fn queue(
        &mut self,
        payload: Bytes,
        segment_size: Option<u16>,
        destination: Option<SocketAddr>,
    ) -> SocketResult<()> {
        if destination.is_some_and(|destination| destination.port() == 0) {
            return Err(SocketError::InvalidInput);
        }
        let destination = destination
            .or(self.remote)
            .ok_or(SocketError::DestinationRequired)?;
        self.check_broadcast(destination.ip())?;
        let max_payload = match destination {
            SocketAddr::V4(_) => MAX_PAYLOAD_V4,
            SocketAddr::V6(_) => MAX_PAYLOAD_V6,
        };
        if payload.len() > max_payload {
            return Err(SocketError::MessageTooLong);
        }
        if let Some(error) = self.pending_error.take().or(self.ended) {
            return Err(error);
        }
        if self.transmit_charged >= self.config.send_buffer {
            self.send_blocked = true;
            return Err(SocketError::WouldBlock);
        }
        self.transmit_charged += OVERHEAD + payload.len();
        self.transmit.push_back(Transmit {
            destination,
            payload,
            segment_size,
        });
        Ok(())
    }

    /// The limited broadcast address needs the option; whether another address is a broadcast one is known to the
    /// engine (RFC 1122 4.1.3.4 leaves the wish to the application; Linux's EACCES).
    fn check_broadcast(&self, destination: IpAddr) -> SocketResult<()> {
        if destination == Ipv4Addr::BROADCAST && !self.options.broadcast {
            return Err(SocketError::PermissionDenied);
        }
        Ok(())
    }

    /// Scope identifiers do not count: a socket may have been connected without one.
    fn accepts_from(&self, address: SocketAddr) -> bool {
        self.remote.is_none_or(|remote| {
            remote.ip() == address.ip() && (remote.port() == address.port() || remote.port() == 0)
        })
    }

    fn check_receive(&mut self) -> SocketResult<()> {
        match self.pending_error.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn nothing_to_read(&self) -> SocketError {
        self.ended.unwrap_or(SocketError::WouldBlock)
    }

    /// What `epoll` shows of an error on a datagram socket is EPOLLOUT | EPOLLERR (observed), which tokio reads as
    /// writable, write closed and error; its receiving methods wait for the error bit too.
    fn set_pending(&mut self, error: SocketError) {
        self.pending_error = Some(error);
        self.readiness |= Readiness::ERROR | Readiness::WRITABLE | Readiness::WRITE_CLOSED;
    }

    /// As Linux, a blocked sender is woken when half of the buffer is free.
    fn tell_of_room(&mut self) {
        if self.send_blocked && self.transmit_charged < self.config.send_buffer.div_ceil(2) {
            self.send_blocked = false;
            self.readiness |= Readiness::WRITABLE;
        }
        if self.transmit.is_empty() && self.transmit.capacity() > KEPT_ROOM {
            self.transmit = VecDeque::new();
        }
    }
}

/// Least limit of the receive queue in octets, as Linux's `SOCK_MIN_RCVBUF`.
const MIN_RECEIVE_BUFFER: usize = 2304;
/// Least limit of the send queue in octets, as Linux's `SOCK_MIN_SNDBUF`.
const MIN_SEND_BUFFER: usize = 4608;
/// Entries an empty send queue keeps room for.
const KEPT_ROOM: usize = 64;

#[cfg(test)]
mod tests;
