//! Joins MTU-sized packets of one flow into super-packets, for devices that deliver them one by one.
//!
//! A plain TUN, a real network card behind AF_PACKET and an impaired link give packets of the path's size; the stack
//! above is far cheaper per super-packet. [`Coalescer`] joins within one receive batch: it holds nothing back, so it
//! adds no delay and has no timer. [`wrap()`] puts it on a device.
//!
//! ```text
//!  batch:   A1 A2 B1 A3 ack A4        A: a TCP flow in sequence, B: another
//!  becomes: A1+A2+A3 B1 ack A4        what joins moves up to the first of its flow; an A behind `ack` stays there
//!                                     if `ack` is of flow A too
//! ```
//!
//! The rules are those that Linux keeps in its generic receive offload, so that what is joined here can be told apart
//! again by [`segment`](crate::segmentation::segment): octet for octet, except for
//!
//! - IPv4 identifications that are all the same, which a packet with DF may have (RFC 6864 4.1 gives them no meaning):
//!   they come back counting up;
//! - the slices that the packets lay in.
//!
//! Payload is not copied. Checksums are verified when a join is about to happen and never for packets without a
//! neighbour; those stay as they were, wrong ones too, for the stack to judge.

use std::fmt;
use std::io;
use std::task::{Context, Poll};

use crate::checksum::{Sum, sum_packet};
use crate::device::{Device, DeviceQueue, Medium, Receiver};
use crate::headers::{Headers, TCP, UDP, Version, word};
use crate::offload::{Checksum, Segmentation, SegmentationKind};
use crate::packet::Packet;
use crate::segmentation::{on_the_wire, pseudo_header};

/// What is joined, and how far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoalescingConfig {
    /// What packets begin with. Default: an IP header.
    pub medium: Medium,
    /// Whether UDP datagrams of equal size are joined, too. Only for receivers that cut them again, as the stack's
    /// sockets do. Default: no.
    pub udp: bool,
    /// The largest super-packet in octets, network header included; more than 65,535 counts as that. Default: 65,535.
    pub max_super_packet: usize,
    /// The most packets in one super-packet: a bound on the slices that a sender of tiny segments can make us keep.
    /// Default: 64.
    pub max_segments: usize,
}

impl Default for CoalescingConfig {
    fn default() -> Self {
        Self {
            medium: Medium::Ip,
            udp: false,
            max_super_packet: 65_535,
            max_segments: 64,
        }
    }
}

/// What a coalescer has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoalescingStats {
    /// Super-packets made.
    pub super_packets: u64,
    /// Packets that are in them.
    pub joined: u64,
    /// Packets that had a place in a super-packet but a wrong checksum: passed on alone, for the stack to drop.
    pub wrong_checksums: u64,
}

/// Joins what belongs together, batch by batch.
///
/// ```
/// use tidewire_netdev::coalescing::{Coalescer, CoalescingConfig};
///
/// let mut coalescer = Coalescer::new(CoalescingConfig::default());
/// let mut batch = Vec::new(); // as a receiver filled it
/// coalescer.coalesce(&mut batch);
/// assert!(batch.is_empty());
/// ```
#[derive(Debug)]
pub struct Coalescer {
    config: CoalescingConfig,
    /// Super-packets that may still grow, at most [`MAX_OPEN`]; empty between batches.
    open: Vec<Open>,
    stats: CoalescingStats,
}

/// Flows that are joined at the same time. A batch with more of them, well mixed, is not worth a search per packet:
/// the flow that began longest ago gives way.
const MAX_OPEN: usize = 8;

impl Coalescer {
    /// A coalescer with nothing under way.
    pub fn new(config: CoalescingConfig) -> Self {
        Self {
            config,
            open: Vec::with_capacity(MAX_OPEN),
            stats: CoalescingStats::default(),
        }
    }

    /// What it has done so far.
    pub fn stats(&self) -> CoalescingStats {
        self.stats
    }

    /// Joins what can be joined, in place. Packets of one flow keep their order.
    pub fn coalesce(&mut self, batch: &mut Vec<Packet>) {
        self.coalesce_from(batch, 0);
    }

    /// The same for the packets from index `start` on.
    pub(crate) fn coalesce_from(&mut self, batch: &mut Vec<Packet>, start: usize) {
        if batch.len().saturating_sub(start) < 2 {
            return;
        }
        let mut kept = start;
        for index in start..batch.len() {
            if self.joins(batch, kept, index) {
                continue;
            }
            if kept < index {
                batch.swap(kept, index);
            }
            kept += 1;
        }
        self.close_all(batch);
        batch.truncate(kept);
    }

    /// Whether the packet at `index` went into an earlier one. If not, the caller moves it to `kept`.
    fn joins(&mut self, batch: &mut [Packet], kept: usize, index: usize) -> bool {
        let (flow, candidate) = match self.glance(&batch[index]) {
            Glance::OfNoFlow => return false,
            Glance::OfAnyFlow => {
                self.close_all(batch);
                return false;
            }
            Glance::Of(flow, candidate) => (flow, candidate),
        };
        let place = self.open.iter().position(|open| open.flow == flow);
        if let Some(place) = place {
            let joined = match &candidate {
                Some(candidate) => self.join(place, batch, index, candidate),
                None => Joined::No,
            };
            if joined != Joined::AndOpen {
                self.close(place, batch);
            }
            match joined {
                Joined::AndOpen | Joined::AndEnded => return true,
                // Nothing may follow a packet that the stack will drop.
                Joined::Damaged => return false,
                Joined::No => {}
            }
        }
        if let Some(candidate) = candidate
            && !candidate.is_last
        {
            self.begin(batch, Open::new(flow, kept, &batch[index], candidate));
        }
        false
    }

    /// What the headers say of a packet.
    fn glance(&self, packet: &Packet) -> Glance {
        let bytes = packet.contiguous();
        let Ok(headers) = Headers::parse(bytes, packet.len(), self.config.medium) else {
            return if is_of_no_flow(bytes, self.config.medium) {
                Glance::OfNoFlow
            } else {
                Glance::OfAnyFlow
            };
        };
        if headers.protocol == UDP && !self.config.udp {
            return Glance::OfNoFlow;
        }
        let flow = flow_key(bytes, &headers);
        Glance::Of(flow, Candidate::new(packet, bytes, headers))
    }

    fn begin(&mut self, batch: &mut [Packet], open: Open) {
        if self.open.len() == MAX_OPEN {
            let oldest = (0..MAX_OPEN).min_by_key(|place| self.open[*place].index);
            self.close(oldest.unwrap_or(0), batch);
        }
        self.open.push(open);
    }

    fn join(
        &mut self,
        place: usize,
        batch: &mut [Packet],
        index: usize,
        candidate: &Candidate,
    ) -> Joined {
        let remaining = batch.len() - index;
        let (front, back) = batch.split_at_mut(index);
        let open = &mut self.open[place];
        let (head, packet) = (&mut front[open.index], &mut back[0]);
        let Some(identifications) = open.accepts(&self.config, head, packet, candidate) else {
            return Joined::No;
        };
        if open.sum.is_none() {
            open.sum = PayloadSum::verify(head, &open.headers);
            if open.sum.is_none() {
                self.stats.wrong_checksums += 1;
                return Joined::No;
            }
            head.reserve_slices(remaining.min(self.config.max_segments));
        }
        let Some(sum) = PayloadSum::verify(packet, &candidate.headers) else {
            self.stats.wrong_checksums += 1;
            return Joined::Damaged;
        };
        if !open.add_sum(sum, candidate.payload) {
            return Joined::No;
        }
        open.identifications = identifications;
        open.payload += candidate.payload;
        open.segments += 1;
        open.has_push = candidate.is_last;
        head.append_from(packet, candidate.headers.payload);
        if candidate.is_last || candidate.payload < open.segment_size {
            Joined::AndEnded
        } else {
            Joined::AndOpen
        }
    }

    fn close_all(&mut self, batch: &mut [Packet]) {
        while !self.open.is_empty() {
            self.close(self.open.len() - 1, batch);
        }
    }

    /// Lets nothing more into a super-packet and gives it its headers.
    fn close(&mut self, place: usize, batch: &mut [Packet]) {
        let open = self.open.swap_remove(place);
        if open.segments > 1 {
            self.stats.super_packets += 1;
            self.stats.joined += open.segments as u64;
            open.finish(&mut batch[open.index]);
        }
    }
}

/// What became of a packet that follows an open super-packet of its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Joined {
    /// It is part of it, and more may follow.
    AndOpen,
    /// It is part of it and the last one.
    AndEnded,
    /// It is not part of it, but may begin another.
    No,
    /// Its checksum is wrong.
    Damaged,
}

/// What can be told from a packet's headers alone.
enum Glance {
    /// Nothing that is ever joined: it does not stand in anybody's way.
    OfNoFlow,
    /// It may belong to any flow (a fragment, headers in pieces): no flow may be joined across it.
    OfAnyFlow,
    /// It belongs to this flow, and may perhaps be joined to others of it.
    Of(u64, Option<Candidate>),
}

/// Whether a packet whose headers are not understood is certainly neither TCP nor UDP.
fn is_of_no_flow(bytes: &[u8], medium: Medium) -> bool {
    const ICMP: u8 = 1;
    const ESP: u8 = 50;
    const ICMPV6: u8 = 58;
    const SCTP: u8 = 132;
    let ip = match medium {
        Medium::Ip => bytes,
        Medium::Ethernet => match word(bytes, 12) {
            Some(0x0800 | 0x86dd) => &bytes[14..],
            Some(_) => return true,
            None => return false,
        },
    };
    let protocol = match ip.first().map_or(0, |octet| octet >> 4) {
        4 => ip.get(9),
        6 => ip.get(6),
        _ => None,
    };
    matches!(protocol, Some(&(ICMP | ESP | ICMPV6 | SCTP)))
}

/// A number for the flow. Two flows that share one only cut each other short: joining compares all that counts.
fn flow_key(bytes: &[u8], headers: &Headers) -> u64 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let addresses = match headers.version {
        Version::V4 => &bytes[headers.network + 12..headers.network + 20],
        Version::V6 => &bytes[headers.network + 8..headers.network + 40],
    };
    let (words, _) = addresses.as_chunks::<8>();
    let key = words.iter().fold(u64::from(headers.protocol), |key, word| {
        key.rotate_left(17) ^ u64::from_ne_bytes(*word)
    });
    let ports = double_word(bytes, headers.transport);
    key ^ u64::from(ports).wrapping_mul(MULTIPLIER)
}

/// The 32-bit field at `at`, of headers that are known to be whole.
fn double_word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Offset of the flags in a TCP header.
const TCP_FLAGS: usize = 13;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const CWR: u8 = 0x80;

/// A packet that may be joined as far as it is concerned.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    headers: Headers,
    /// Octets of payload, at least one.
    payload: usize,
    /// Nothing may follow it (PSH).
    is_last: bool,
    /// It may only come first (CWR).
    is_first: bool,
}

impl Candidate {
    /// `None` for what is never joined: each condition is a rule of its own.
    fn new(packet: &Packet, bytes: &[u8], headers: Headers) -> Option<Self> {
        // IPv4 options and IPv6 extension headers may speak to every packet, so they are left alone.
        let plain = match headers.version {
            Version::V4 => 20,
            Version::V6 => 40,
        };
        // Pure ACKs have no payload to join; padding behind the packet would have to go.
        let payload = headers.end - headers.payload;
        if headers.transport - headers.network != plain
            || payload == 0
            || headers.end != packet.len()
            || packet.offload.segmentation.is_some()
        {
            return None;
        }
        let transport = &bytes[headers.transport..headers.payload];
        let flags = if headers.protocol == TCP {
            // SYN, FIN, RST, URG, ECE and the reserved bits (AE among them) say something of the very segment.
            let flags = transport[TCP_FLAGS];
            if flags & !(PSH | CWR) != ACK || transport[12] & 0x0f != 0 {
                return None;
            }
            flags
        } else {
            // A length of its own, or no checksum (RFC 768), cannot be given back.
            let length = word(transport, 4).map(usize::from);
            if length != Some(headers.end - headers.transport) || transport[6..8] == [0, 0] {
                return None;
            }
            0
        };
        Some(Self {
            headers,
            payload,
            is_last: flags & PSH != 0,
            is_first: flags & CWR != 0,
        })
    }
}

/// How IPv4 identifications go on within a super-packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Identifications {
    /// One packet so far, or IPv6.
    Undecided,
    /// Each is one more than the last.
    Rising,
    /// All are the same.
    Same,
}

/// A super-packet that may still grow; a lone packet at first.
#[derive(Debug)]
struct Open {
    flow: u64,
    /// Where its first packet lies in the batch.
    index: usize,
    /// Where the first packet's headers lie; lengths are those of that packet.
    headers: Headers,
    segment_size: usize,
    /// Packets joined, the first included.
    segments: usize,
    /// Octets of payload so far.
    payload: usize,
    identifications: Identifications,
    /// What is known of the payload's sum; nothing before the first join.
    sum: Option<PayloadSum>,
    /// The last packet has PSH.
    has_push: bool,
    /// The first packet has CWR.
    has_cwr: bool,
}

impl Open {
    fn new(flow: u64, index: usize, packet: &Packet, candidate: Candidate) -> Self {
        debug_assert_eq!(packet.len(), candidate.headers.end);
        Self {
            flow,
            index,
            headers: candidate.headers,
            segment_size: candidate.payload,
            segments: 1,
            payload: candidate.payload,
            identifications: Identifications::Undecided,
            sum: None,
            has_push: false,
            has_cwr: candidate.is_first,
        }
    }

    /// How identifications go on if the headers let `packet` follow; `None` if they do not.
    fn accepts(
        &self,
        config: &CoalescingConfig,
        head: &Packet,
        packet: &Packet,
        candidate: &Candidate,
    ) -> Option<Identifications> {
        let headers = &self.headers;
        let limit = config.max_super_packet.min(usize::from(u16::MAX));
        let len = headers.payload - headers.network + self.payload + candidate.payload;
        let is_alike = headers.version == candidate.headers.version
            && headers.protocol == candidate.headers.protocol
            && headers.payload == candidate.headers.payload;
        if !is_alike
            || candidate.is_first
            || candidate.payload > self.segment_size
            || self.segments >= config.max_segments
            || len > limit
        {
            return None;
        }
        let (first, next) = (
            &head.contiguous()[..headers.payload],
            &packet.contiguous()[..headers.payload],
        );
        let (network, transport) = (headers.network, headers.transport);
        if first[..network] != next[..network]
            || !is_same_transport(&first[transport..], &next[transport..], headers.protocol)
        {
            return None;
        }
        if headers.protocol == TCP {
            let expected = double_word(first, transport + 4).wrapping_add(self.payload as u32);
            if double_word(next, transport + 4) != expected {
                return None;
            }
        }
        let (first, next) = (&first[network..transport], &next[network..transport]);
        match headers.version {
            Version::V4 if is_same_ipv4(first, next) => self.follow_identification(first, next),
            Version::V6 if is_same_ipv6(first, next) => Some(Identifications::Undecided),
            _ => None,
        }
    }

    /// Identifications count up; with DF they may also all be the same, as they are of no use then (RFC 6864 4.1).
    fn follow_identification(&self, first: &[u8], next: &[u8]) -> Option<Identifications> {
        const DONT_FRAGMENT: u8 = 0x40;
        let (begin, id) = (word(first, 4)?, word(next, 4)?);
        let is_rising = id == begin.wrapping_add(self.segments as u16);
        let is_same = id == begin && next[6] & DONT_FRAGMENT != 0;
        match self.identifications {
            Identifications::Undecided | Identifications::Rising if is_rising => {
                Some(Identifications::Rising)
            }
            Identifications::Undecided | Identifications::Same if is_same => {
                Some(Identifications::Same)
            }
            _ => None,
        }
    }

    /// Adds the sum of what follows; `false` if the two do not go together.
    fn add_sum(&mut self, sum: PayloadSum, len: usize) -> bool {
        match (&mut self.sum, sum) {
            (Some(PayloadSum::Complete(total)), PayloadSum::Complete(sum)) => {
                total.append(sum.fold(), len);
                true
            }
            (Some(PayloadSum::Partial), PayloadSum::Partial) => true,
            _ => false,
        }
    }

    /// Makes the first packet's headers those of the super-packet.
    fn finish(&self, packet: &mut Packet) {
        let Headers {
            network,
            version,
            transport,
            protocol,
            payload,
            ..
        } = self.headers;
        // Plain headers always fit the header room.
        if !packet.pull_inline(payload) {
            return;
        }
        let end = payload + self.payload;
        let head = packet.head_mut();
        let ip = &mut head[network..transport];
        let kind = match (protocol, version) {
            (UDP, _) => SegmentationKind::Udp,
            (_, Version::V4) => SegmentationKind::TcpV4,
            (_, Version::V6) => SegmentationKind::TcpV6,
        };
        match version {
            Version::V4 => {
                set_word(ip, 2, end - network);
                set_word(ip, 10, 0);
                let mut sum = Sum::new();
                sum.add_bytes(ip);
                set_word(ip, 10, usize::from(sum.finish()));
            }
            Version::V6 => set_word(ip, 4, end - transport),
        }
        if protocol == UDP {
            set_word(head, transport + 4, end - transport);
        } else if self.has_push {
            head[transport + TCP_FLAGS] |= PSH;
        }
        let offset = self.headers.checksum_offset();
        let field = transport + usize::from(offset);
        set_word(head, field, 0);
        let mut sum = pseudo_header(head, &self.headers, end - transport);
        let (value, checksum) = match self.sum {
            Some(PayloadSum::Complete(payload_sum)) => {
                sum.add_bytes(&head[transport..payload]);
                sum.add_u16(payload_sum.fold());
                (on_the_wire(sum.finish(), offset), Checksum::Verified)
            }
            _ => (sum.fold(), self.headers.partial()),
        };
        set_word(head, field, usize::from(value));
        packet.offload.checksum = checksum;
        packet.offload.segmentation = Some(Segmentation {
            kind,
            segment_size: self.segment_size as u16,
            ecn: self.has_cwr,
        });
    }
}

fn set_word(bytes: &mut [u8], at: usize, word: usize) {
    bytes[at..at + 2].copy_from_slice(&(word as u16).to_be_bytes());
}

/// All but total length, identification and checksum: TOS with its ECN bits (RFC 3168 5.3: a mark must not spread
/// to others or vanish), flags, TTL and addresses.
fn is_same_ipv4(first: &[u8], next: &[u8]) -> bool {
    first[..2] == next[..2] && first[6..10] == next[6..10] && first[12..] == next[12..]
}

/// All but the payload length: traffic class with its ECN bits, flow label, hop limit and addresses.
fn is_same_ipv6(first: &[u8], next: &[u8]) -> bool {
    first[..4] == next[..4] && first[6..] == next[6..]
}

/// All that does not change from one segment of a burst to the next: for TCP ports, acknowledgment number, window,
/// urgent pointer and options; the flags are looked at elsewhere.
fn is_same_transport(first: &[u8], next: &[u8], protocol: u8) -> bool {
    if protocol == UDP {
        return first[..4] == next[..4];
    }
    first[..4] == next[..4]
        && first[8..13] == next[8..13]
        && first[14..16] == next[14..16]
        && first[18..] == next[18..]
}

/// What is known of the sum of a payload whose packet has correct checksums.
#[derive(Clone, Copy, Debug)]
enum PayloadSum {
    /// The sum; the checksum field is complete.
    Complete(Sum),
    /// Nothing, and nobody needs to know: the packet was never on a wire.
    Partial,
}

impl PayloadSum {
    /// `None` when a checksum is wrong, or right but not the one that [`segment`](crate::segmentation::segment) would
    /// compute: 0xffff says the same as 0 where both may stand (RFC 1071).
    fn verify(packet: &Packet, headers: &Headers) -> Option<Self> {
        let bytes = packet.contiguous();
        if headers.version == Version::V4 {
            let ip = &bytes[headers.network..headers.transport];
            let mut sum = Sum::new();
            sum.add_bytes(ip);
            if sum.finish() != 0 || ip[10..12] == [0xff, 0xff] {
                return None;
            }
        }
        if let Checksum::Partial { .. } = packet.offload.checksum {
            return (packet.offload.checksum == headers.partial()).then_some(Self::Partial);
        }
        let transport = &bytes[headers.transport..headers.payload];
        if headers.protocol == TCP && transport[16..18] == [0xff, 0xff] {
            return None;
        }
        let length = headers.end - headers.transport;
        let mut others = pseudo_header(bytes, headers, length);
        others.add_bytes(transport);
        let mut payload = Sum::new();
        if packet.offload.checksum == Checksum::Verified {
            // The whole sums to zero, so the payload's part follows from the rest.
            payload.append(others.finish(), headers.end - headers.payload);
            return Some(Self::Complete(payload));
        }
        payload = sum_packet(packet, headers.payload);
        others.add_u16(payload.fold());
        (others.finish() == 0).then_some(Self::Complete(payload))
    }
}

/// The same device, every receive batch coalesced; TCP only.
pub fn wrap(device: Device) -> Device {
    let config = CoalescingConfig {
        medium: device.capabilities.medium,
        ..CoalescingConfig::default()
    };
    wrap_with(device, config)
}

/// [`wrap()`] as `config` says, whose medium must be the device's.
pub fn wrap_with(device: Device, config: CoalescingConfig) -> Device {
    device.map_queues(|queue| DeviceQueue {
        receiver: Box::new(CoalescingReceiver {
            inner: queue.receiver,
            coalescer: Coalescer::new(config.clone()),
        }),
        transmitter: queue.transmitter,
    })
}

struct CoalescingReceiver {
    inner: Box<dyn Receiver>,
    coalescer: Coalescer,
}

impl Receiver for CoalescingReceiver {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Packet>,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let before = batch.len();
        let polled = self.inner.poll_receive(cx, batch, limit);
        if let Poll::Ready(Ok(_)) = polled {
            self.coalescer.coalesce_from(batch, before);
            return Poll::Ready(Ok(batch.len() - before));
        }
        polled
    }
}

impl fmt::Debug for CoalescingReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoalescingReceiver")
            .field("coalescer", &self.coalescer)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
