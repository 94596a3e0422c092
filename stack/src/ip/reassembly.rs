//! Joins fragments (RFC 791 3.2, RFC 1122 3.3.2, RFC 8200 4.5, RFC 5722).
//!
//! Owned here: the fragments that wait, their limits and their time. Left to [`super::input`]: what a fragment must
//! fulfil by itself, and atomic fragments (RFC 6946), which never come here. Left to the caller: the Time Exceeded
//! message for an [`Expired`] packet.
//!
//! - A fragment that overlaps another kills the packet (RFC 5722 4), in IPv4 too: overlaps are attacks, not accidents.
//!   What is left is a gravestone, so that further fragments do not start the packet anew.
//! - An exact copy of a fragment is ignored, as RFC 8200 4.5 permits: networks duplicate.
//! - At a limit, the packet nearest to its end makes room. Newcomers refused instead would let a trickle of first
//!   fragments lock everybody out for half a minute.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use tidewire_netdev::Packet;

use crate::ip::input::{self, FragmentInfo, IpPacket, PROTOCOL_POINTER_V6};
use crate::stats::DropReason;
use crate::time::Instant;
use crate::wire::ipv6::fragment;
use crate::wire::{Ecn, ipv4, ipv6};

/// Limits of a [`Reassembler`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets that may wait, by the capacity of their buffers and with what keeping them costs. Linux: 4 MiB.
    pub memory: usize,
    /// Packets that may wait, gravestones included.
    pub packets: usize,
    /// Fragments of one packet: 64 KiB in pieces of 256 octets.
    pub fragments: usize,
    /// How long an IPv4 packet waits for its last fragment. RFC 1122 3.3.2 asks for 60 to 120 s; with 16 bits of
    /// identification that mixes packets up (RFC 4963), so Linux has 30 s.
    pub timeout_v4: Duration,
    /// How long an IPv6 packet waits (RFC 8200 4.5: 60 s).
    pub timeout_v6: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 4 << 20,
            packets: 1024,
            fragments: 256,
            timeout_v4: Duration::from_secs(30),
            timeout_v6: Duration::from_secs(60),
        }
    }
}

/// A packet whose time was over before all fragments came. Its first fragment was there, so its sender is to be told
/// ([`super::icmp::errors::Problem::ReassemblyTimeExceeded`]).
#[derive(Clone, Debug)]
pub struct Expired {
    /// The first fragment's headers.
    pub ip: IpPacket,
    /// What the first fragment carried.
    pub packet: Packet,
}

/// The fragments of a stack that wait for others.
#[derive(Debug)]
pub struct Reassembler {
    limits: Limits,
    /// Ordered, so that keys chosen by an attacker cost no more than others.
    packets: BTreeMap<Key, Waiting>,
    by_deadline: BTreeSet<(Instant, Key)>,
    /// Octets charged by all of `packets`.
    memory: usize,
}

/// What the fragments of one packet have in common: RFC 791 3.2 for IPv4; RFC 8200 4.5 without the protocol for IPv6,
/// where it is 0 here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    identification: u32,
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
}

#[derive(Debug)]
struct Waiting {
    deadline: Instant,
    /// `None` is the gravestone of a packet that was killed.
    pieces: Option<Pieces>,
}

#[derive(Debug, Default)]
struct Pieces {
    /// Headers of the fragment at offset 0.
    first: Option<Box<IpPacket>>,
    /// By offset; they neither overlap nor touch wrongly.
    fragments: Vec<Piece>,
    /// Octets of the whole, known once the last fragment came.
    total: Option<usize>,
    /// Octets that are there.
    received: usize,
    /// Octets charged for them.
    charged: usize,
    /// A bit for each ECN codepoint seen.
    ecn: u8,
}

#[derive(Debug)]
struct Piece {
    offset: usize,
    data: Bytes,
}

impl Piece {
    fn end(&self) -> usize {
        self.offset + self.data.len()
    }
}

/// What became of a fragment among its kind.
enum Insertion {
    Kept {
        charge: usize,
    },
    Duplicate,
    /// It contradicts the others.
    Conflict,
}

impl Reassembler {
    /// An empty reassembler.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            packets: BTreeMap::new(),
            by_deadline: BTreeSet::new(),
            memory: 0,
        }
    }

    /// Takes a fragment as [`super::input::parse`] left it. Gives the whole packet when this was the last one that it
    /// lacked; that is then for [`super::input::resume`]. A packet that is no fragment comes back as it is.
    ///
    /// # Errors
    /// [`DropReason::Fragment`]: it overlaps others, contradicts them or is beyond a limit.
    pub fn handle_fragment(
        &mut self,
        now: Instant,
        ip: IpPacket,
        packet: Packet,
    ) -> Result<Option<(IpPacket, Packet)>, DropReason> {
        let Some(info) = ip.fragment else {
            return Ok(Some((ip, packet)));
        };
        if packet.is_empty() {
            return Err(DropReason::Fragment);
        }
        let key = Key {
            identification: info.identification,
            source: ip.source,
            destination: ip.destination,
            protocol: if ip.is_ipv6() { 0 } else { ip.protocol },
        };
        self.open(now, key);
        let Some(waiting) = self.packets.get_mut(&key) else {
            return Err(DropReason::Fragment);
        };
        let Some(pieces) = &mut waiting.pieces else {
            return Err(DropReason::Fragment);
        };
        match pieces.insert(ip, packet, info, self.limits.fragments) {
            Insertion::Duplicate => return Ok(None),
            Insertion::Conflict => {
                self.memory -= pieces.charged;
                waiting.pieces = None;
                return Err(DropReason::Fragment);
            }
            Insertion::Kept { charge } => self.memory += charge,
        }
        if !pieces.is_complete() {
            return self.enforce_memory(key).map(|()| None);
        }
        let pieces = self.remove(key).and_then(|waiting| waiting.pieces);
        let whole = pieces.and_then(Pieces::join);
        whole.map(Some).ok_or(DropReason::Fragment)
    }

    /// When the next packet's time is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.by_deadline.first().map(|&(deadline, _)| deadline)
    }

    /// Gives up packets whose time is over; the result are those whose sender is to be told.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Expired> {
        let mut expired = Vec::new();
        while let Some(&(deadline, key)) = self.by_deadline.first() {
            if deadline > now {
                break;
            }
            let pieces = self.remove(key).and_then(|waiting| waiting.pieces);
            expired.extend(pieces.and_then(Pieces::expire));
        }
        expired
    }

    /// Octets charged for what waits.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// How many packets wait, gravestones included.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Sees to an entry for `key`.
    fn open(&mut self, now: Instant, key: Key) {
        if self.packets.contains_key(&key) {
            return;
        }
        while self.packets.len() >= self.limits.packets.max(1) {
            self.remove_oldest();
        }
        let deadline = match key.source {
            IpAddr::V4(_) => now + self.limits.timeout_v4,
            IpAddr::V6(_) => now + self.limits.timeout_v6,
        };
        self.by_deadline.insert((deadline, key));
        let pieces = Some(Pieces::default());
        self.packets.insert(key, Waiting { deadline, pieces });
    }

    /// Makes room until the memory limit is kept; the packet just added to may be the one to go.
    fn enforce_memory(&mut self, added: Key) -> Result<(), DropReason> {
        let mut result = Ok(());
        while self.memory > self.limits.memory {
            match self.remove_oldest() {
                Some(key) if key == added => result = Err(DropReason::Fragment),
                Some(_) => {}
                None => break,
            }
        }
        result
    }

    fn remove_oldest(&mut self) -> Option<Key> {
        let &(_, key) = self.by_deadline.first()?;
        self.remove(key);
        Some(key)
    }

    fn remove(&mut self, key: Key) -> Option<Waiting> {
        let waiting = self.packets.remove(&key)?;
        self.by_deadline.remove(&(waiting.deadline, key));
        self.memory -= waiting.pieces.as_ref().map_or(0, |pieces| pieces.charged);
        Some(waiting)
    }
}

impl Pieces {
    fn insert(
        &mut self,
        ip: IpPacket,
        packet: Packet,
        info: FragmentInfo,
        max_fragments: usize,
    ) -> Insertion {
        let offset = usize::from(info.offset);
        let end = offset + packet.len();
        let index = self
            .fragments
            .partition_point(|piece| piece.offset < offset);
        let next = self.fragments.get(index);
        if let Some(known) = next
            && (known.offset, known.end()) == (offset, end)
            && info.more == (self.total != Some(end))
            && is_same(&packet, &known.data)
        {
            return Insertion::Duplicate;
        }
        let previous_end = index.checked_sub(1).map_or(0, |i| self.fragments[i].end());
        let overlaps = previous_end > offset || next.is_some_and(|next| next.offset < end);
        let contradicts = match (self.total, info.more) {
            (Some(total), true) => end > total,
            (Some(total), false) => end != total,
            (None, true) => false,
            (None, false) => self.fragments.last().is_some_and(|last| last.end() > end),
        };
        if overlaps || contradicts || self.fragments.len() >= max_fragments {
            return Insertion::Conflict;
        }
        if !info.more {
            self.total = Some(end);
        }
        self.ecn |= 1 << ip.ecn() as u8;
        if offset == 0 {
            self.first = Some(Box::new(ip));
        }
        self.received += packet.len();
        let (data, capacity) = own(packet);
        let charge = capacity + PIECE_OVERHEAD;
        self.charged += charge;
        self.fragments.insert(index, Piece { offset, data });
        Insertion::Kept { charge }
    }

    /// Pieces do not overlap, so as many octets as the whole has are all of it.
    fn is_complete(&self) -> bool {
        self.total == Some(self.received)
    }

    /// The whole packet; `None` if congestion marks make it impossible, or its length.
    fn join(self) -> Option<(IpPacket, Packet)> {
        let seen = |ecn: Ecn| self.ecn & (1 << ecn as u8) != 0;
        // RFC 3168 5.3: a CE mark must not get lost, and must not be put on a packet whose sender does not know it.
        if seen(Ecn::Ce) && seen(Ecn::NotEct) {
            return None;
        }
        let ip = into_whole(*self.first?, self.received, seen(Ecn::Ce))?;
        let mut packet = Packet::new();
        for piece in self.fragments {
            packet.push(piece.data);
        }
        Some((ip, packet))
    }

    /// What a Time Exceeded message takes, if the first fragment is there (RFC 792, RFC 8200 4.5).
    fn expire(mut self) -> Option<Expired> {
        let ip = *self.first?;
        let data = self.fragments.swap_remove(0).data;
        Some(Expired {
            ip,
            packet: Packet::from_bytes(data),
        })
    }
}

/// A fragment's octets, with what they cost. They keep their buffer only where they are a good part of it: one small
/// slice must not hold 64 KiB that nobody counts.
fn own(packet: Packet) -> (Bytes, usize) {
    let len = packet.len();
    if len >= COPY_BELOW && packet.head().is_empty() && packet.body().len() == 1 {
        return (packet.to_bytes(), BUFFER);
    }
    let mut copy = Vec::with_capacity(len);
    for slice in packet.slices() {
        copy.extend_from_slice(slice);
    }
    (copy.into(), len)
}

fn is_same(packet: &Packet, data: &[u8]) -> bool {
    let mut rest = data;
    packet
        .slices()
        .all(|slice| match rest.split_at_checked(slice.len()) {
            Some((front, back)) => {
                rest = back;
                front == slice
            }
            None => false,
        })
}

/// The first fragment's headers as those of the whole packet, which carries `payload_len` octets; `None` if the length
/// fields cannot say so many.
fn into_whole(mut ip: IpPacket, payload_len: usize, is_marked: bool) -> Option<IpPacket> {
    if is_marked {
        ip.traffic_class |= Ecn::Ce as u8;
    }
    ip.fragment = None;
    ip.was_fragmented = true;
    if ip.is_ipv6() {
        whole_v6(&mut ip, payload_len)?;
    } else {
        whole_v4(&mut ip, payload_len)?;
    }
    Some(ip)
}

fn whole_v4(ip: &mut IpPacket, payload_len: usize) -> Option<()> {
    let (mut header, header_len) = ipv4::Header::parse(&ip.header).ok()?;
    header.total_len = u16::try_from(header_len + payload_len).ok()?;
    header.tos = ip.traffic_class;
    header.more_fragments = false;
    header.fragment_offset = 0;
    header.emit(&mut ip.header);
    Some(())
}

/// RFC 8200 4.5: the fragment header goes, and the header before it names what follows it.
fn whole_v6(ip: &mut IpPacket, payload_len: usize) -> Option<()> {
    let (mut header, _) = ipv6::Header::parse(&ip.header).ok()?;
    let fragment_at = ip.header.len().checked_sub(fragment::HEADER_LEN)?;
    let before = input::skip_headers(
        header.next_header,
        &ip.header[ipv6::HEADER_LEN..fragment_at],
    );
    let pointer = match before.last() {
        Some((_, position)) => ipv6::HEADER_LEN + position,
        None => PROTOCOL_POINTER_V6,
    };
    ip.header.truncate(fragment_at);
    header.payload_len = u16::try_from(fragment_at - ipv6::HEADER_LEN + payload_len).ok()?;
    header.traffic_class = ip.traffic_class;
    header.emit(&mut ip.header);
    ip.header[pointer] = ip.protocol;
    ip.protocol_pointer = pointer;
    Some(())
}

/// Fragments of fewer octets are copied: a quarter of a receive buffer.
const COPY_BELOW: usize = BUFFER / 4;
/// The largest buffer that a device reads into, in octets, and so the charge for a fragment that keeps its own.
const BUFFER: usize = 64 * 1024;
/// What keeping a fragment costs besides its octets, roughly: table entries and a copy of the header.
const PIECE_OVERHEAD: usize = 128;

#[cfg(test)]
mod tests;
