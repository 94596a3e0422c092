//! What answers for a port without keeping state (RFC 9260 5.1, 8.4): INIT with a cookie, COOKIE ECHO with an association,
//! and packets that belong to none.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use tidewire_netdev::Packet;

use crate::random::Random;
use crate::sctp::Config;
use crate::sctp::cookie::{CookieError, Secrets, Side, StateCookie};
use crate::stats::DropReason;
use crate::time::Instant;
use crate::wire::sctp::{
    Causes, Chunk, CommonHeader, ErrorCause, Init, InitParameters, PacketBuilder, PacketReader,
    kind,
};

/// The smallest receive buffer a peer may have (3.3.2).
const MIN_RWND: u32 = 1500;
/// Octets of an answer at most; what is longer is fragmented by IP.
const ANSWER_LEN: usize = 1200;

/// The addresses of a received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketInfo {
    /// Where it came from.
    pub source: IpAddr,
    /// Which of our addresses it was sent to.
    pub destination: IpAddr,
}

/// A packet to send, from the common header on, its CRC32c filled in.
#[derive(Clone, Debug)]
pub struct Transmit {
    /// Our address, if it matters.
    pub source: Option<IpAddr>,
    /// The peer's address.
    pub destination: IpAddr,
    /// The packet: at most the path's MTU, unless one chunk alone is longer.
    pub packet: Packet,
}

impl Transmit {
    /// One chunk as an answer to where a packet came from.
    pub(super) fn answer(info: &PacketInfo, header: CommonHeader, chunk: &Chunk) -> Self {
        let mut arena = BytesMut::new();
        let mut builder = PacketBuilder::new(header, ANSWER_LEN, &mut arena);
        // An empty packet takes any chunk that is one.
        let _ = builder.push(chunk);
        Self {
            source: Some(info.destination),
            destination: info.source,
            packet: builder.finish(),
        }
    }
}

/// The header of an answer.
pub(super) fn reversed(header: &CommonHeader, verification_tag: u32) -> CommonHeader {
    CommonHeader {
        source_port: header.destination_port,
        destination_port: header.source_port,
        verification_tag,
    }
}

/// The secrets of an endpoint, which its associations sign cookies with, too (5.2).
#[derive(Clone, Debug)]
pub struct SharedSecrets(Arc<Mutex<Secrets>>);

impl SharedSecrets {
    /// Secrets of one's own.
    pub fn new(secrets: Secrets) -> Self {
        Self(Arc::new(Mutex::new(secrets)))
    }

    pub(super) fn seal(&self, now: Instant, cookie: &StateCookie) -> Bytes {
        let mut secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.seal(now, cookie)
    }

    pub(super) fn open(&self, now: Instant, octets: &[u8]) -> Result<StateCookie, CookieError> {
        let mut secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.open(now, octets)
    }
}

/// What an INIT leads to, if not to an INIT ACK.
pub(super) fn refusal(init: &Init) -> Option<Result<ErrorCause, DropReason>> {
    if init.initiate_tag == 0 {
        // 3.3.2: nobody could be answered.
        return Some(Err(DropReason::Unacceptable));
    }
    if init.outbound_streams == 0 || init.inbound_streams == 0 || init.a_rwnd < MIN_RWND {
        return Some(Ok(ErrorCause::InvalidMandatoryParameter));
    }
    let host_name = init.parameters.host_name_address.clone()?;
    Some(Ok(ErrorCause::UnresolvableAddress(host_name)))
}

/// An INIT, and the packet it came in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) info: &'a PacketInfo,
    pub(super) header: &'a CommonHeader,
    pub(super) init: &'a Init,
}

/// What is told in an INIT ACK, besides what the INIT says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    pub(super) local: Side,
    pub(super) outbound_streams: u16,
    pub(super) a_rwnd: u32,
    pub(super) tie_tags: [u32; 2],
}

/// The INIT ACK to an INIT that is acceptable (5.1.3), with everything in its cookie.
pub(super) fn init_ack(
    now: Instant,
    config: &Config,
    secrets: &SharedSecrets,
    request: Request<'_>,
    offer: Offer,
    addresses: &[IpAddr],
) -> Transmit {
    let Request { info, header, init } = request;
    let asked = init.parameters.cookie_preservative.map_or(0, u64::from);
    let increment = Duration::from_millis(asked).min(config.max_cookie_increment);
    let mut peer_addresses: SmallVec<[IpAddr; 4]> = SmallVec::from_slice(&[info.source]);
    for address in &init.parameters.addresses {
        if !peer_addresses.contains(address) {
            peer_addresses.push(*address);
        }
    }
    let cookie = StateCookie {
        created: now,
        life: config.cookie_life + increment,
        local_port: header.destination_port,
        peer_port: header.source_port,
        local: offer.local,
        peer: Side {
            tag: init.initiate_tag,
            initial_tsn: init.initial_tsn,
        },
        peer_rwnd: init.a_rwnd,
        outbound_streams: offer.outbound_streams.min(init.inbound_streams),
        inbound_streams: config.max_inbound_streams.min(init.outbound_streams),
        local_address: info.destination,
        peer_addresses,
        tie_tags: offer.tie_tags,
    };
    let ack = Init {
        initiate_tag: offer.local.tag,
        a_rwnd: offer.a_rwnd,
        outbound_streams: offer.outbound_streams,
        inbound_streams: config.max_inbound_streams,
        initial_tsn: offer.local.initial_tsn,
        parameters: InitParameters {
            addresses: addresses.iter().copied().collect(),
            state_cookie: Some(secrets.seal(now, &cookie)),
            reported: init.parameters.unrecognized.clone(),
            ..InitParameters::default()
        },
    };
    Transmit::answer(
        info,
        reversed(header, init.initiate_tag),
        &Chunk::InitAck(Box::new(ack)),
    )
}

/// A tag: any number but 0 (5.3.1).
pub(super) fn new_side(random: &mut Random) -> Side {
    Side {
        tag: random.next_u32().max(1),
        initial_tsn: random.next_u32(),
    }
}

/// A port that associations can be set up with.
#[derive(Debug)]
pub struct Endpoint {
    config: Arc<Config>,
    secrets: SharedSecrets,
    random: Random,
    /// Listed in INIT ACK beside the address the INIT came to; empty if that is the only one.
    addresses: Vec<IpAddr>,
}

/// What comes of a packet to a port, when no association claims it.
#[derive(Debug)]
pub enum Arrived {
    /// A good cookie: an association is to be made of it, and given the packet.
    Accept(Box<StateCookie>),
    /// To be answered.
    Reply(Box<Transmit>),
    /// Nothing.
    Drop(DropReason),
}

impl Endpoint {
    /// An endpoint that offers `addresses`.
    pub fn new(
        now: Instant,
        config: Arc<Config>,
        mut random: Random,
        addresses: Vec<IpAddr>,
    ) -> Self {
        let secrets = Secrets::new(now, config.cookie_key_life, random.fork());
        Self {
            secrets: SharedSecrets::new(secrets),
            config,
            random,
            addresses,
        }
    }

    /// The secrets, for associations of this port.
    pub fn secrets(&self) -> SharedSecrets {
        self.secrets.clone()
    }

    /// Takes a packet that belongs to no association, its CRC verified.
    pub fn handle_packet(&mut self, now: Instant, info: &PacketInfo, packet: &Packet) -> Arrived {
        let Ok((header, mut reader)) = PacketReader::new(packet) else {
            return Arrived::Drop(DropReason::Malformed);
        };
        match reader.next_chunk() {
            Some(Ok(Chunk::Init(init))) => {
                // 8.5.1 A, 6.10: alone, with a tag of 0.
                if header.verification_tag != 0 || reader.remaining() > 0 {
                    return Arrived::Drop(DropReason::Unacceptable);
                }
                match self.handle_init(now, info, &header, &init) {
                    Ok(reply) => Arrived::Reply(Box::new(reply)),
                    Err(reason) => Arrived::Drop(reason),
                }
            }
            Some(Ok(Chunk::CookieEcho(cookie))) => {
                self.handle_cookie_echo(now, info, &header, &cookie)
            }
            _ => match out_of_the_blue(info, packet) {
                Some(reply) => Arrived::Reply(Box::new(reply)),
                None => Arrived::Drop(DropReason::NoSocket),
            },
        }
    }

    fn handle_init(
        &mut self,
        now: Instant,
        info: &PacketInfo,
        header: &CommonHeader,
        init: &Init,
    ) -> Result<Transmit, DropReason> {
        if let Some(refusal) = refusal(init) {
            let abort = Chunk::Abort {
                tag_reflected: false,
                causes: Causes::from_iter([refusal?]),
            };
            return Ok(Transmit::answer(
                info,
                reversed(header, init.initiate_tag),
                &abort,
            ));
        }
        let offer = Offer {
            local: new_side(&mut self.random),
            outbound_streams: self.config.outbound_streams,
            a_rwnd: u32::try_from(self.config.receive.buffer).unwrap_or(u32::MAX),
            tie_tags: [0; 2],
        };
        let request = Request { info, header, init };
        Ok(init_ack(
            now,
            &self.config,
            &self.secrets,
            request,
            offer,
            &self.addresses,
        ))
    }

    fn handle_cookie_echo(
        &mut self,
        now: Instant,
        info: &PacketInfo,
        header: &CommonHeader,
        cookie: &[u8],
    ) -> Arrived {
        match self.secrets.open(now, cookie) {
            Ok(cookie) => {
                // 5.1.5, 3: what the packet says must be what the cookie says.
                let matches = cookie.local.tag == header.verification_tag
                    && cookie.local_port == header.destination_port
                    && cookie.peer_port == header.source_port
                    && cookie.peer_addresses.contains(&info.source);
                if matches {
                    Arrived::Accept(Box::new(cookie))
                } else {
                    Arrived::Drop(DropReason::Unacceptable)
                }
            }
            Err(CookieError::Forged) => Arrived::Drop(DropReason::Unacceptable),
            Err(CookieError::Stale { late, cookie }) => {
                let to = reversed(header, cookie.peer.tag);
                Arrived::Reply(Box::new(Transmit::answer(info, to, &stale(late))))
            }
        }
    }
}

/// ERROR with "Stale Cookie" (3.3.10.3).
pub(super) fn stale(late: Duration) -> Chunk {
    let staleness = u32::try_from(late.as_micros()).unwrap_or(u32::MAX);
    Chunk::Error(Causes::from_iter([ErrorCause::StaleCookie { staleness }]))
}

/// The answer to a packet of no association, at a port that nobody listens on or that does not know it (8.4).
pub fn out_of_the_blue(info: &PacketInfo, packet: &Packet) -> Option<Transmit> {
    let (header, mut reader) = PacketReader::new(packet).ok()?;
    // 8.4, 1: nothing from or to an address that is not one host's.
    if !is_unicast(info.source) || !is_unicast(info.destination) {
        return None;
    }
    let first = reader.peek_kind()?;
    let mut init_tag = None;
    while let Some(chunk) = reader.next_chunk() {
        match chunk {
            // 8.4, 2, 7; and 6, with the T bit reflected or not: never an answer to what ends associations.
            Ok(Chunk::Abort { .. } | Chunk::ShutdownComplete { .. } | Chunk::CookieAck) => {
                return None;
            }
            Ok(Chunk::Error(causes)) => {
                let stale = |cause| matches!(cause, Ok(ErrorCause::StaleCookie { .. }));
                if causes.iter().any(stale) {
                    return None;
                }
            }
            Ok(Chunk::Init(init)) => init_tag = Some(init.initiate_tag),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    if first == kind::SHUTDOWN_ACK {
        // 8.4, 5.
        let complete = Chunk::ShutdownComplete {
            tag_reflected: true,
        };
        return Some(Transmit::answer(
            info,
            reversed(&header, header.verification_tag),
            &complete,
        ));
    }
    let (tag, tag_reflected) = match init_tag {
        Some(0) => return None,
        // 8.4, 3: the tag that the INIT asks for.
        Some(tag) => (tag, false),
        None => (header.verification_tag, true),
    };
    let abort = Chunk::Abort {
        tag_reflected,
        causes: Causes::default(),
    };
    Some(Transmit::answer(info, reversed(&header, tag), &abort))
}

fn is_unicast(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !address.is_multicast() && !address.is_unspecified() && !broadcast
}
