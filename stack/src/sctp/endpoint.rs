//! A port that associations can be set up with, without keeping state for them (RFC 9260 5.1): INIT is answered with a
//! cookie, a good COOKIE ECHO becomes an association.
//!
//! Packets of an association never come here, INITs and COOKIE ECHOs of its peer included (5.2): whoever sorts packets asks
//! [`listed_addresses`], too, by which an INIT may belong to an association.

use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;
use tidewire_netdev::Packet;

use crate::random::Random;
use crate::sctp::association::capabilities::{
    Offer, Refusal, abort, init_ack, is_unicast, new_side, stale_cookie, unreadable,
};
use crate::sctp::config::{Config, SocketOptions};
use crate::sctp::cookie::{CookieError, Secrets, SharedSecrets, StateCookie};
use crate::sctp::out_of_the_blue::out_of_the_blue;
use crate::sctp::packet::{PacketInfo, Reply};
use crate::stats::DropReason;
use crate::time::Instant;
use crate::wire::sctp::{Chunk, CommonHeader, ErrorCause, Init, PacketReader, kind};

/// Whether another association may wait to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backlog {
    /// There is room for one.
    HasRoom,
    /// There is not: peers are told that resources are out (5.1).
    Full,
}

/// What comes of a packet to a port, when no association claims it.
#[derive(Debug)]
pub enum Arrived {
    /// A good cookie: an association is to be made of it ([`super::Association::accept`]), and given the packet.
    Accept(Box<StateCookie>),
    /// To be answered.
    Reply(Box<Reply>),
    /// Nothing.
    Drop(DropReason),
}

impl Arrived {
    fn reply(reply: Option<Reply>, otherwise: DropReason) -> Self {
        reply.map_or(Self::Drop(otherwise), |reply| Self::Reply(Box::new(reply)))
    }
}

/// Counts of a port's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointStats {
    /// INITs answered with an INIT ACK.
    pub inits: u64,
    /// INITs answered with an ABORT, or not at all.
    pub inits_refused: u64,
    /// Cookies that became associations.
    pub accepted: u64,
    /// Cookies that were not ours, or did not fit their packet.
    pub cookies_refused: u64,
    /// Cookies that came too late.
    pub cookies_stale: u64,
    /// Good cookies refused since too many associations wait to be accepted.
    pub overflows: u64,
}

/// A port that associations can be set up with.
#[derive(Debug)]
pub struct Endpoint {
    config: Arc<Config>,
    secrets: SharedSecrets,
    random: Random,
    addresses: Vec<IpAddr>,
    stats: EndpointStats,
}

impl Endpoint {
    /// An endpoint whose associations will have `options`. `addresses` are all of ours that its associations may use, none
    /// if that is left to routing.
    pub fn new(
        now: Instant,
        config: &Arc<Config>,
        options: &SocketOptions,
        mut random: Random,
        addresses: Vec<IpAddr>,
    ) -> Self {
        let config = options.apply(config);
        let secrets = Secrets::new(now, config.cookie_key_life, random.fork());
        Self {
            secrets: SharedSecrets::new(secrets),
            config,
            random,
            addresses,
            stats: EndpointStats::default(),
        }
    }

    /// The secrets, for associations of this port.
    pub fn secrets(&self) -> SharedSecrets {
        self.secrets.clone()
    }

    /// Other options for associations to come. What was promised in INIT ACKs stays: it is in their cookies.
    pub fn set_options(&mut self, config: &Arc<Config>, options: &SocketOptions) {
        self.config = options.apply(config);
    }

    /// The addresses of this host have changed.
    pub fn set_addresses(&mut self, addresses: Vec<IpAddr>) {
        self.addresses = addresses;
    }

    /// The addresses.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// The counters.
    pub fn stats(&self) -> EndpointStats {
        self.stats
    }

    /// Takes a packet that belongs to no association, its CRC verified.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        info: &PacketInfo,
        packet: &Packet,
        backlog: Backlog,
    ) -> Arrived {
        let Ok((header, mut reader)) = PacketReader::new(packet) else {
            return Arrived::Drop(DropReason::Malformed);
        };
        if !is_unicast(info.source) || !is_unicast(info.destination) {
            return Arrived::Drop(DropReason::BadSource);
        }
        let summary = reader.summary();
        // 8.4, 2: whatever else is in the packet.
        if summary.contains(kind::ABORT) {
            return Arrived::Drop(DropReason::NoSocket);
        }
        match reader.peek_kind() {
            // 8.5.1 A, 6.10: an INIT is alone in its packet, which has no tag.
            Some(kind::INIT) if header.verification_tag == 0 => {
                let chunk = reader.next_chunk();
                if reader.remaining() > 0 {
                    return Arrived::Drop(DropReason::Unacceptable);
                }
                match chunk {
                    Some(Ok(Chunk::Init(init))) => {
                        self.handle_init(now, info, &header, &init, backlog)
                    }
                    Some(Err(bad)) => {
                        self.stats.inits_refused += 1;
                        let reply = unreadable(&bad)
                            .map(|(tag, cause)| Reply::new(info, &header, tag, abort(cause)));
                        Arrived::reply(reply, DropReason::Malformed)
                    }
                    _ => Arrived::Drop(DropReason::Malformed),
                }
            }
            Some(kind::COOKIE_ECHO) => match reader.next_chunk() {
                Some(Ok(Chunk::CookieEcho(cookie))) => {
                    self.handle_cookie_echo(now, info, &header, &cookie, backlog)
                }
                _ => Arrived::Drop(DropReason::Malformed),
            },
            _ => Arrived::reply(out_of_the_blue(info, packet), DropReason::NoSocket),
        }
    }

    fn handle_init(
        &mut self,
        now: Instant,
        info: &PacketInfo,
        header: &CommonHeader,
        init: &Init,
        backlog: Backlog,
    ) -> Arrived {
        let refusal = match (Refusal::of(init), backlog) {
            (Some(Refusal::NoTag), _) => {
                self.stats.inits_refused += 1;
                return Arrived::Drop(DropReason::Unacceptable);
            }
            (Some(refusal), _) => refusal.cause(),
            (None, Backlog::Full) => Some(ErrorCause::OutOfResource),
            (None, Backlog::HasRoom) => None,
        };
        if let Some(cause) = refusal {
            self.stats.inits_refused += 1;
            let reply = Reply::new(info, header, init.initiate_tag, abort(cause));
            return Arrived::Reply(Box::new(reply));
        }
        let offer = Offer {
            local: new_side(&mut self.random),
            outbound_streams: self.config.outbound_streams,
            addresses: &self.addresses,
            tie_tags: [0; 2],
        };
        self.stats.inits += 1;
        let reply = init_ack(now, &self.config, &self.secrets, info, header, init, &offer);
        Arrived::Reply(Box::new(reply))
    }

    /// 5.1.5, in its order.
    fn handle_cookie_echo(
        &mut self,
        now: Instant,
        info: &PacketInfo,
        header: &CommonHeader,
        cookie: &[u8],
        backlog: Backlog,
    ) -> Arrived {
        let (cookie, late) = match self.secrets.open(now, cookie) {
            Ok(cookie) => (cookie, None),
            Err(CookieError::Stale { late, cookie }) => (*cookie, Some(late)),
            Err(CookieError::Forged) => {
                self.stats.cookies_refused += 1;
                return Arrived::Drop(DropReason::Cookie);
            }
        };
        if !cookie.fits(info, header) {
            self.stats.cookies_refused += 1;
            return Arrived::Drop(DropReason::Cookie);
        }
        if let Some(late) = late {
            self.stats.cookies_stale += 1;
            let reply = Reply::new(info, header, cookie.peer.tag, stale_cookie(late));
            return Arrived::Reply(Box::new(reply));
        }
        if backlog == Backlog::Full {
            self.stats.overflows += 1;
            let refused = abort(ErrorCause::OutOfResource);
            let reply = Reply::new(info, header, cookie.peer.tag, refused);
            return Arrived::Reply(Box::new(reply));
        }
        self.stats.accepted += 1;
        Arrived::Accept(Box::new(cookie))
    }
}

/// The addresses that an INIT or INIT ACK lists: it belongs to the association that has any of them with its ports, if
/// there is one (5.1.2 D). Empty for other packets.
pub fn listed_addresses(packet: &Packet) -> SmallVec<[IpAddr; 2]> {
    let Ok((_, mut reader)) = PacketReader::new(packet) else {
        return SmallVec::new();
    };
    if !matches!(reader.peek_kind(), Some(kind::INIT | kind::INIT_ACK)) {
        return SmallVec::new();
    }
    match reader.next_chunk() {
        Some(Ok(Chunk::Init(init) | Chunk::InitAck(init))) => init.parameters.addresses,
        _ => SmallVec::new(),
    }
}

#[cfg(test)]
mod tests;
