//! What INIT and INIT ACK offer, and what of the peer's is taken (RFC 9260 3.3.2, 3.3.3, 5.1.1, 5.1.2).
//!
//! Owns which addresses are announced and which are believed, which INITs are refused, and the INIT ACK with its cookie.
//! Extensions of later RFCs are negotiated here, too, once there are any.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::random::Random;
use crate::sctp::config::{Config, MIN_RWND};
use crate::sctp::cookie::{SharedSecrets, Side, StateCookie};
use crate::sctp::packet::{PacketInfo, Reply};
use crate::time::Instant;
use crate::wire::sctp::{
    AddressTypes, BadChunk, Causes, Chunk, ChunkError, CommonHeader, ErrorCause, Init,
    InitParameters,
};

/// A tag, which is any number but 0, and a first TSN (5.3.1).
pub(in crate::sctp) fn new_side(random: &mut Random) -> Side {
    Side {
        tag: nonzero(random),
        initial_tsn: random.next_u32(),
    }
}

/// A random number that is not 0.
pub(in crate::sctp) fn nonzero(random: &mut Random) -> u32 {
    random.next_u32().max(1)
}

/// What is wrong with an INIT or INIT ACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sctp) enum Refusal {
    /// Its tag is 0: it cannot be answered with a tag of the peer's (3.3.2, 3.3.3).
    NoTag,
    /// A window below 1500 octets: the packet is answered with an ABORT, but never changes a state (3.3.2, 3.3.3).
    SmallWindow,
    /// Anything else, with its cause.
    Cause(ErrorCause),
}

impl Refusal {
    /// What there is to object to, if anything.
    pub(in crate::sctp) fn of(init: &Init) -> Option<Self> {
        if init.initiate_tag == 0 {
            return Some(Self::NoTag);
        }
        if let Some(host_name) = &init.parameters.host_name_address {
            // 5.1.2 B.
            let cause = ErrorCause::UnresolvableAddress(host_name.clone());
            return Some(Self::Cause(cause));
        }
        if init.outbound_streams == 0 || init.inbound_streams == 0 {
            return Some(Self::Cause(ErrorCause::InvalidMandatoryParameter));
        }
        (init.a_rwnd < MIN_RWND).then_some(Self::SmallWindow)
    }

    /// The cause to tell; `None` for what cannot be told.
    pub(in crate::sctp) fn cause(self) -> Option<ErrorCause> {
        match self {
            Self::NoTag => None,
            Self::SmallWindow => Some(ErrorCause::InvalidMandatoryParameter),
            Self::Cause(cause) => Some(cause),
        }
    }
}

/// The cause to tell for a chunk of the handshake that could not be read, and the tag to tell it with; `None` if that is
/// not known, or nothing is to be told.
pub(in crate::sctp) fn unreadable(bad: &BadChunk) -> Option<(u32, ErrorCause)> {
    let tag = bad.initiate_tag.filter(|tag| *tag != 0)?;
    let cause = match bad.error {
        ChunkError::MissingCookie => ErrorCause::MissingMandatoryParameter {
            parameters: [STATE_COOKIE].into_iter().collect(),
        },
        ChunkError::Value => ErrorCause::InvalidMandatoryParameter,
        ChunkError::Length => {
            ErrorCause::ProtocolViolation(Bytes::from_static(b"parameter of an impossible length"))
        }
        ChunkError::NoUserData { .. } => return None,
    };
    Some((tag, cause))
}

/// ABORT with one cause and the tag that the peer expects.
pub(in crate::sctp) fn abort(cause: ErrorCause) -> Chunk {
    Chunk::Abort {
        tag_reflected: false,
        causes: Causes::from_iter([cause]),
    }
}

/// ABORT that reflects the tag of a received packet, for want of the one that the peer expects (8.4, 8.5.1 B).
pub(in crate::sctp) fn reflected_abort(
    info: &PacketInfo,
    received: &CommonHeader,
    cause: Option<ErrorCause>,
) -> Reply {
    let abort = Chunk::Abort {
        tag_reflected: true,
        causes: cause.into_iter().collect(),
    };
    Reply::new(info, received, received.verification_tag, abort)
}

/// ERROR with "Stale Cookie", rounded up to microseconds (3.3.10.3).
pub(in crate::sctp) fn stale_cookie(late: Duration) -> Chunk {
    let staleness = u32::try_from(late.as_nanos().div_ceil(1000)).unwrap_or(u32::MAX);
    Chunk::Error(Causes::from_iter([ErrorCause::StaleCookie { staleness }]))
}

/// What is told in an INIT ACK, besides what the INIT says.
#[derive(Clone, Copy, Debug)]
pub(in crate::sctp) struct Offer<'a> {
    pub(in crate::sctp) local: Side,
    pub(in crate::sctp) outbound_streams: u16,
    /// All of our addresses; those that the peer has no use for are left out.
    pub(in crate::sctp) addresses: &'a [IpAddr],
    pub(in crate::sctp) tie_tags: [u32; 2],
}

/// The INIT ACK to an INIT that is acceptable (5.1.3), with everything that an association needs in its cookie.
pub(in crate::sctp) fn init_ack(
    now: Instant,
    config: &Config,
    secrets: &SharedSecrets,
    info: &PacketInfo,
    header: &CommonHeader,
    init: &Init,
    offer: &Offer<'_>,
) -> Reply {
    let asked = init.parameters.cookie_preservative.map_or(0, u64::from);
    let increment = Duration::from_millis(asked).min(config.max_cookie_increment);
    let cookie = StateCookie {
        created: now,
        life: config.cookie_life.saturating_add(increment),
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
        peer_addresses: peer_addresses(info, init, offer.addresses, config.path.max_paths),
        tie_tags: offer.tie_tags,
    };
    let ack = Init {
        initiate_tag: offer.local.tag,
        a_rwnd: config.initial_rwnd(),
        outbound_streams: offer.outbound_streams,
        inbound_streams: config.max_inbound_streams,
        initial_tsn: offer.local.initial_tsn,
        parameters: InitParameters {
            addresses: announced(
                offer.addresses,
                info.source,
                init.parameters.supported_address_types,
            ),
            state_cookie: Some(secrets.seal(now, &cookie)),
            reported: init.parameters.unrecognized.clone(),
            ..InitParameters::default()
        },
    };
    let chunk = Chunk::InitAck(Box::new(ack));
    Reply::new(info, header, init.initiate_tag, chunk)
}

/// The addresses of the peer that sent an INIT, that of the packet first (5.1.2 A, C).
pub(in crate::sctp) fn peer_addresses(
    info: &PacketInfo,
    init: &Init,
    own: &[IpAddr],
    max: usize,
) -> SmallVec<[IpAddr; 4]> {
    let mut addresses: SmallVec<[IpAddr; 4]> = SmallVec::from_slice(&[info.source]);
    for address in &init.parameters.addresses {
        let known = addresses.contains(address);
        if addresses.len() < max && !known && is_believable(*address, info.source, own) {
            addresses.push(*address);
        }
    }
    addresses
}

/// Whether an address that the peer lists can be one of its own and of use here. What is not is passed over without an
/// error (5.1.2).
pub(in crate::sctp) fn is_believable(address: IpAddr, source: IpAddr, own: &[IpAddr]) -> bool {
    let usable = match own {
        [] => address.is_ipv4() == source.is_ipv4(),
        own => own.iter().any(|own| own.is_ipv4() == address.is_ipv4()),
    };
    usable && is_in_scope(address, source)
}

/// The addresses of ours to list for a peer at `destination`, which has said what types it can use, if anything
/// (3.3.2.1.5): none if there is only one, which the packet shows (3.3.2.1.2: that also gets through NAT), and none that
/// means something else to the peer.
pub(in crate::sctp) fn announced(
    own: &[IpAddr],
    destination: IpAddr,
    types: Option<AddressTypes>,
) -> SmallVec<[IpAddr; 2]> {
    // What it sends with, it can use.
    let usable = |address: IpAddr| {
        address.is_ipv4() == destination.is_ipv4()
            || types.is_none_or(|types| {
                if address.is_ipv4() {
                    types.ipv4
                } else {
                    types.ipv6
                }
            })
    };
    let listed: SmallVec<[IpAddr; 2]> = own
        .iter()
        .copied()
        .filter(|address| is_in_scope(*address, destination) && usable(*address))
        .collect();
    match listed[..] {
        [only] if only.is_ipv4() == destination.is_ipv4() => SmallVec::new(),
        _ => listed,
    }
}

/// Whether an address is one that whoever is reached at `peer` can be told, and can tell: one that means the same on the
/// way there (3.3.2.1.2). As Linux: addresses of networks without a way to the Internet only among such.
pub(crate) fn is_in_scope(address: IpAddr, peer: IpAddr) -> bool {
    is_unicast(address) && scope(address) >= scope(peer)
}

/// The families of our addresses (3.3.2.1.5); those of the peer's if ours are left to routing.
pub(in crate::sctp) fn address_types(own: &[IpAddr], peer: &[IpAddr]) -> AddressTypes {
    let known = if own.is_empty() { peer } else { own };
    AddressTypes {
        ipv4: known.iter().any(IpAddr::is_ipv4),
        ipv6: known.iter().any(IpAddr::is_ipv6),
    }
}

/// Whether an address can be one host's.
pub(in crate::sctp) fn is_unicast(address: IpAddr) -> bool {
    let other = match address {
        IpAddr::V4(v4) => v4.is_broadcast() || v4.octets()[0] == 0,
        // 3.3.2.1.2: an IPv4-mapped address is never sent.
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_some(),
    };
    !address.is_multicast() && !address.is_unspecified() && !other
}

/// How far an address is known: a peer that is reached by one of some scope can be told addresses of that and wider ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Host,
    Link,
    /// Of a network of its own (RFC 1918, RFC 3879). Unique local IPv6 addresses are of global scope (RFC 4193 3.3).
    Private,
    Wide,
}

fn scope(address: IpAddr) -> Scope {
    let (link, private) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.is_private()),
        IpAddr::V6(v6) => (
            v6.is_unicast_link_local(),
            v6.segments()[0] & 0xffc0 == 0xfec0,
        ),
    };
    if address.is_loopback() {
        Scope::Host
    } else if link {
        Scope::Link
    } else if private {
        Scope::Private
    } else {
        Scope::Wide
    }
}

/// The type of the State Cookie parameter.
const STATE_COOKIE: u16 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn good() -> Init {
        Init {
            initiate_tag: 1,
            a_rwnd: 1500,
            outbound_streams: 1,
            inbound_streams: 1,
            initial_tsn: 0,
            parameters: InitParameters::default(),
        }
    }

    #[test]
    fn inits_are_refused_as_sections_3_3_2_and_5_1_2_say() {
        let invalid = || Some(Refusal::Cause(ErrorCause::InvalidMandatoryParameter));
        let host_name = Bytes::from_static(b"\0\x0b\0\x06a\0");
        let mut named = good();
        named.parameters.host_name_address = Some(host_name.clone());
        let cases = [
            (good(), None),
            (
                Init {
                    initiate_tag: 0,
                    ..named.clone()
                },
                Some(Refusal::NoTag),
            ),
            (
                Init {
                    outbound_streams: 0,
                    a_rwnd: 0,
                    ..good()
                },
                invalid(),
            ),
            (
                Init {
                    inbound_streams: 0,
                    ..good()
                },
                invalid(),
            ),
            (
                Init {
                    a_rwnd: 1499,
                    ..good()
                },
                Some(Refusal::SmallWindow),
            ),
            (
                named,
                Some(Refusal::Cause(ErrorCause::UnresolvableAddress(host_name))),
            ),
        ];
        for (init, refusal) in cases {
            assert_eq!(Refusal::of(&init), refusal, "{init:?}");
        }
    }

    #[test]
    fn lone_address_is_not_listed_and_none_that_the_peer_cannot_reach() {
        // RFC 9260 3.3.2.1.2.
        let own = ["127.0.0.1", "10.0.0.1", "fe80::1", "2001:db8::1"].map(ip);
        let listed = |own: &[IpAddr], to| announced(own, ip(to), None).to_vec();
        assert!(listed(&own[1..2], "10.0.0.2").is_empty());
        assert_eq!(
            listed(&own, "10.0.0.2"),
            [ip("10.0.0.1"), ip("2001:db8::1")]
        );
        assert_eq!(listed(&own, "fe80::2"), own[1..]);
        assert_eq!(listed(&own, "127.0.0.1"), own);
        assert!(listed(&own[..2], "10.0.0.2").is_empty(), "one is left");
        // Behind a translator of addresses: the private address is not told, and the packet shows another one.
        assert_eq!(listed(&own, "192.0.2.1"), [ip("2001:db8::1")]);
        assert!(listed(&own[..2], "192.0.2.1").is_empty());
    }

    #[test]
    fn addresses_of_types_that_the_peer_does_not_support_are_not_listed() {
        // RFC 9260 3.3.2.1.5, 5.1.2.
        let own = ["10.0.0.1", "10.0.0.3", "2001:db8::1"].map(ip);
        let types = |ipv4, ipv6| Some(AddressTypes { ipv4, ipv6 });
        let to = ip("10.0.0.2");
        assert_eq!(
            announced(&own, to, types(true, false)).as_slice(),
            &own[..2]
        );
        assert_eq!(announced(&own, to, types(true, true)).as_slice(), own);
        // It speaks IPv4, whatever it says.
        assert_eq!(
            announced(&own, to, types(false, false)).as_slice(),
            &own[..2]
        );
    }

    #[test]
    fn scopes_are_linuxs() {
        // RFC 1918, RFC 3927, RFC 4193 3.3, RFC 4291 2.5.6.
        let cases = [
            ("127.9.9.9", Scope::Host),
            ("::1", Scope::Host),
            ("169.254.3.4", Scope::Link),
            ("fe80::1", Scope::Link),
            ("10.1.2.3", Scope::Private),
            ("172.16.0.1", Scope::Private),
            ("192.168.0.1", Scope::Private),
            ("fec0::1", Scope::Private),
            ("172.32.0.1", Scope::Wide),
            ("192.0.2.1", Scope::Wide),
            ("fd00::1", Scope::Wide),
            ("2001:db8::1", Scope::Wide),
        ];
        for (address, expected) in cases {
            assert_eq!(scope(ip(address)), expected, "{address}");
        }
    }

    #[test]
    fn addresses_that_cannot_be_the_peers_are_passed_over() {
        // RFC 9260 5.1.2, 3.3.2.1.2.
        let own = ["10.0.0.1", "2001:db8::1"].map(ip);
        let cases = [
            ("10.0.0.9", true),
            ("2001:db8::9", true),
            ("127.0.0.1", false),
            ("::1", false),
            ("224.0.0.1", false),
            ("ff02::1", false),
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::ffff:10.0.0.9", false),
            ("fe80::1", false),
        ];
        for (address, believed) in cases {
            let is = is_believable(ip(address), ip("10.0.0.2"), &own);
            assert_eq!(is, believed, "{address}");
        }
        assert!(!is_believable(ip("2001:db8::9"), ip("10.0.0.2"), &own[..1]));
        assert!(!is_believable(ip("2001:db8::9"), ip("10.0.0.2"), &[]));
        assert!(is_believable(ip("10.0.0.9"), ip("10.0.0.2"), &[]));
        assert!(is_believable(ip("fe80::9"), ip("fe80::2"), &own));
    }

    #[test]
    fn peers_addresses_begin_with_the_packets_and_have_a_limit() {
        // RFC 9260 5.1.2 C.
        let info = PacketInfo {
            source: ip("10.0.0.2"),
            destination: ip("10.0.0.1"),
        };
        let mut init = good();
        init.parameters.addresses = ["10.0.0.3", "10.0.0.2", "10.0.0.3", "10.0.0.4"]
            .map(ip)
            .into_iter()
            .collect();
        let all = peer_addresses(&info, &init, &[], 64);
        assert_eq!(all.as_slice(), ["10.0.0.2", "10.0.0.3", "10.0.0.4"].map(ip));
        assert_eq!(peer_addresses(&info, &init, &[], 2).len(), 2);
    }

    #[test]
    fn staleness_is_rounded_up() {
        // RFC 9260 3.3.10.3.
        let Chunk::Error(causes) = stale_cookie(Duration::from_nanos(1001)) else {
            panic!("not an ERROR");
        };
        let causes: Vec<_> = causes.iter().collect();
        assert_eq!(causes, [Ok(ErrorCause::StaleCookie { staleness: 2 })]);
    }
}
