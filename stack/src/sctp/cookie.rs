//! The State Cookie (RFC 9260 5.1.3, 5.1.5): all that an association needs, kept by the peer until it comes back.
//!
//! ```text
//! +--------------------------+----------------------------------+
//! |  HMAC-SHA256, 32 octets  |  what it signs: version, times,  |
//! |                          |  ports, tags, TSNs, addresses    |
//! +--------------------------+----------------------------------+
//! ```
//!
//! The layout is our own business: nobody else reads it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use smallvec::SmallVec;

use crate::random::Random;
use crate::sctp::packet::PacketInfo;
use crate::time::Instant;
use crate::wire::sctp::CommonHeader;

/// Octets of the signature.
const MAC_LEN: usize = 32;
/// The layout's version: a cookie of another build of this code is no cookie.
const VERSION: u8 = 1;
/// Octets of a cookie at most: what the addresses of a full INIT take, and the rest.
const MAX_LEN: usize = 1500;

/// One side of an association as the handshake negotiated it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// Verification Tag: what packets to this side carry.
    pub tag: u32,
    /// Its first TSN.
    pub initial_tsn: u32,
}

/// What a State Cookie holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateCookie {
    /// When it was made.
    pub created: Instant,
    /// How long it is valid.
    pub life: Duration,
    /// Our port.
    pub local_port: u16,
    /// The peer's port.
    pub peer_port: u16,
    /// Us.
    pub local: Side,
    /// The peer.
    pub peer: Side,
    /// The peer's receive buffer.
    pub peer_rwnd: u32,
    /// Streams we may send on.
    pub outbound_streams: u16,
    /// Streams we accept.
    pub inbound_streams: u16,
    /// The address that the INIT was sent to.
    pub local_address: IpAddr,
    /// Where the INIT came from, then the addresses it listed.
    pub peer_addresses: SmallVec<[IpAddr; 4]>,
    /// Tie-Tags, local and peer's, if there was an association when the INIT came (5.2.2); zeros otherwise.
    pub tie_tags: [u32; 2],
}

/// Why a cookie is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CookieError {
    /// Not one of ours, or changed.
    Forged,
    /// Ours, but too old.
    Stale {
        /// By how much.
        late: Duration,
        /// What it holds all the same.
        cookie: Box<StateCookie>,
    },
}

/// The secrets that sign cookies. One is used for a while; the one before it is still accepted.
#[derive(Debug)]
pub struct Secrets {
    current: Secret,
    previous: Option<Secret>,
    /// When the current one was made.
    since: Instant,
    life: Duration,
    random: Random,
}

struct Secret([u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    fn new(random: &mut Random) -> Self {
        let mut key = [0; 32];
        for chunk in key.as_chunks_mut::<8>().0 {
            *chunk = random.next_u64().to_ne_bytes();
        }
        Self(key)
    }

    fn mac(&self, octets: &[u8]) -> Hmac<Sha256> {
        // A key of any length is taken.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).unwrap_or_else(|_| unreachable!());
        mac.update(octets);
        mac
    }
}

impl Secrets {
    /// Fresh secrets, renewed every `life`.
    pub fn new(now: Instant, life: Duration, mut random: Random) -> Self {
        Self {
            current: Secret::new(&mut random),
            previous: None,
            since: now,
            life,
            random,
        }
    }

    fn rotate(&mut self, now: Instant) {
        let age = now.saturating_since(self.since);
        if age < self.life {
            return;
        }
        let fresh = Secret::new(&mut self.random);
        let old = std::mem::replace(&mut self.current, fresh);
        // After a long silence the old one is older than any cookie.
        self.previous = (age < self.life.saturating_mul(2)).then_some(old);
        self.since = now;
    }

    /// Signs a cookie.
    pub fn seal(&mut self, now: Instant, cookie: &StateCookie) -> Bytes {
        self.rotate(now);
        let mut octets = BytesMut::with_capacity(256);
        octets.put_bytes(0, MAC_LEN);
        cookie.emit(&mut octets);
        let mac = self.current.mac(&octets[MAC_LEN..]).finalize().into_bytes();
        octets[..MAC_LEN].copy_from_slice(&mac);
        octets.freeze()
    }

    /// Opens a cookie that came back.
    ///
    /// # Errors
    /// [`CookieError`]. Nothing of a forged cookie has been looked at.
    pub fn open(&mut self, now: Instant, octets: &[u8]) -> Result<StateCookie, CookieError> {
        self.rotate(now);
        let (mac, signed) = octets
            .split_at_checked(MAC_LEN)
            .filter(|_| octets.len() <= MAX_LEN)
            .ok_or(CookieError::Forged)?;
        let secrets = [Some(&self.current), self.previous.as_ref()];
        let good = secrets
            .into_iter()
            .flatten()
            .any(|secret| secret.mac(signed).verify_slice(mac).is_ok());
        let cookie = good.then(|| StateCookie::parse(signed)).flatten();
        let cookie = cookie.ok_or(CookieError::Forged)?;
        let late = now
            .saturating_since(cookie.created)
            .saturating_sub(cookie.life);
        if late > Duration::ZERO {
            let cookie = Box::new(cookie);
            return Err(CookieError::Stale { late, cookie });
        }
        Ok(cookie)
    }
}

/// The secrets of an endpoint, with which its associations sign and open cookies, too (5.2).
#[derive(Clone, Debug)]
pub struct SharedSecrets(Arc<Mutex<Secrets>>);

impl SharedSecrets {
    /// Secrets of one's own.
    pub fn new(secrets: Secrets) -> Self {
        Self(Arc::new(Mutex::new(secrets)))
    }

    /// As [`Secrets::seal`].
    pub fn seal(&self, now: Instant, cookie: &StateCookie) -> Bytes {
        let mut secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.seal(now, cookie)
    }

    /// As [`Secrets::open`].
    ///
    /// # Errors
    /// [`CookieError`].
    pub fn open(&self, now: Instant, octets: &[u8]) -> Result<StateCookie, CookieError> {
        let mut secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.open(now, octets)
    }
}

impl StateCookie {
    /// Whether the packet it came in is one that its owner may send (5.1.5, 3): ports, tag, and an address of the peer.
    pub(super) fn fits(&self, info: &PacketInfo, header: &CommonHeader) -> bool {
        self.local.tag == header.verification_tag
            && self.local_port == header.destination_port
            && self.peer_port == header.source_port
            && self.peer_addresses.contains(&info.source)
    }

    fn emit(&self, out: &mut BytesMut) {
        out.put_u8(VERSION);
        out.put_u64(self.created.as_nanos());
        out.put_u64(self.life.as_nanos() as u64);
        out.put_u16(self.local_port);
        out.put_u16(self.peer_port);
        for side in [self.local, self.peer] {
            out.put_u32(side.tag);
            out.put_u32(side.initial_tsn);
        }
        out.put_u32(self.peer_rwnd);
        out.put_u16(self.outbound_streams);
        out.put_u16(self.inbound_streams);
        self.tie_tags.iter().for_each(|tag| out.put_u32(*tag));
        put_address(out, self.local_address);
        // As many as fit: the others are learned by nobody.
        for address in &self.peer_addresses {
            if out.len() + 17 <= MAX_LEN {
                put_address(out, *address);
            }
        }
    }

    /// Reads what [`Self::emit`] wrote.
    fn parse(mut octets: &[u8]) -> Option<Self> {
        let from = &mut octets;
        if from.try_get_u8().ok()? != VERSION {
            return None;
        }
        let side = |from: &mut &[u8]| {
            Some(Side {
                tag: from.try_get_u32().ok()?,
                initial_tsn: from.try_get_u32().ok()?,
            })
        };
        Some(Self {
            created: Instant::from_nanos(from.try_get_u64().ok()?),
            life: Duration::from_nanos(from.try_get_u64().ok()?),
            local_port: from.try_get_u16().ok()?,
            peer_port: from.try_get_u16().ok()?,
            local: side(from)?,
            peer: side(from)?,
            peer_rwnd: from.try_get_u32().ok()?,
            outbound_streams: from.try_get_u16().ok()?,
            inbound_streams: from.try_get_u16().ok()?,
            tie_tags: [from.try_get_u32().ok()?, from.try_get_u32().ok()?],
            local_address: get_address(from)?,
            peer_addresses: std::iter::from_fn(|| get_address(from)).collect(),
        })
    }
}

fn put_address(out: &mut BytesMut, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            out.put_u8(4);
            out.put_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            out.put_u8(6);
            out.put_slice(&v6.octets());
        }
    }
}

fn get_address(from: &mut &[u8]) -> Option<IpAddr> {
    match from.try_get_u8().ok()? {
        4 => Some(IpAddr::from(from.try_get_u32().ok()?.to_be_bytes())),
        6 => Some(IpAddr::from(from.try_get_u128().ok()?.to_be_bytes())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1000)
    }

    fn secrets() -> Secrets {
        Secrets::new(at(0), Duration::from_secs(600), Random::new(Some(1)))
    }

    fn cookie(created: u64) -> StateCookie {
        StateCookie {
            created: at(created),
            life: Duration::from_secs(60),
            local_port: 5000,
            peer_port: 40_000,
            local: Side {
                tag: 1,
                initial_tsn: 2,
            },
            peer: Side {
                tag: 3,
                initial_tsn: u32::MAX,
            },
            peer_rwnd: 65_536,
            outbound_streams: 10,
            inbound_streams: 20,
            local_address: IpAddr::from([10, 0, 0, 1]),
            peer_addresses: [IpAddr::from([10, 0, 0, 2]), IpAddr::from([0xfd; 16])]
                .into_iter()
                .collect(),
            tie_tags: [7, 8],
        }
    }

    #[test]
    fn cookie_comes_back_as_it_was_and_no_bit_of_it_may_change() {
        // RFC 9260 5.1.5, 1 and 2.
        let mut secrets = secrets();
        let sealed = secrets.seal(at(1), &cookie(1));
        assert_eq!(secrets.open(at(2), &sealed), Ok(cookie(1)));
        for bit in 0..sealed.len() * 8 {
            let mut forged = sealed.to_vec();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(secrets.open(at(2), &forged), Err(CookieError::Forged));
        }
        for len in 0..sealed.len() {
            assert_eq!(
                secrets.open(at(2), &sealed[..len]),
                Err(CookieError::Forged)
            );
        }
        let mut other = Secrets::new(at(0), Duration::from_secs(600), Random::new(Some(2)));
        assert_eq!(other.open(at(2), &sealed), Err(CookieError::Forged));
    }

    #[test]
    fn cookie_is_stale_after_its_life() {
        // RFC 9260 5.1.5, 3: the staleness is what lies beyond the life.
        let mut secrets = secrets();
        let sealed = secrets.seal(at(1), &cookie(1));
        assert!(secrets.open(at(61), &sealed).is_ok());
        let stale = CookieError::Stale {
            late: Duration::from_secs(4),
            cookie: Box::new(cookie(1)),
        };
        assert_eq!(secrets.open(at(65), &sealed), Err(stale));
    }

    #[test]
    fn secrets_change_and_the_last_one_stays_valid_for_a_while() {
        // RFC 9260 5.1.3: the key should be changed reasonably often.
        let mut secrets = secrets();
        let sealed = secrets.seal(at(590), &cookie(590));
        let fresh = secrets.seal(at(610), &cookie(590));
        assert_ne!(sealed, fresh, "another secret");
        assert!(secrets.open(at(611), &sealed).is_ok());
        // Two changes later it is unknown, and so after a silence of two lives.
        secrets.seal(at(1250), &cookie(1250));
        assert_eq!(secrets.open(at(1250), &sealed), Err(CookieError::Forged));
        assert_eq!(secrets.open(at(9000), &fresh), Err(CookieError::Forged));
    }

    #[test]
    fn cookies_of_peers_with_many_addresses_stay_short() {
        let mut secrets = secrets();
        let mut many = cookie(1);
        many.peer_addresses = (0..500u16)
            .map(|i| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, i]))
            .collect();
        let sealed = secrets.seal(at(1), &many);
        assert!(sealed.len() <= MAX_LEN);
        let opened = secrets.open(at(1), &sealed).expect("ours");
        assert_eq!(opened.peer_addresses[..50], many.peer_addresses[..50]);
    }
}
