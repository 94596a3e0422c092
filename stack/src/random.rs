//! The stack's randomness: one seed, a generator for each purpose.
//!
//! Everything random in a stack comes from here, so that the same seed gives the same packets, byte for byte.

use std::hash::Hasher;
use std::net::SocketAddr;

use rand::rngs::ChaCha12Rng;
use rand::{Rng, RngExt, SeedableRng};
use siphasher::sip::SipHasher13;

/// A seeded generator. Not shared: each owner forks its own.
#[derive(Debug)]
pub struct Random(ChaCha12Rng);

impl Random {
    /// The generator for `seed`, or one seeded by the operating system.
    pub fn new(seed: Option<u64>) -> Self {
        Self(match seed {
            Some(seed) => ChaCha12Rng::seed_from_u64(seed),
            None => rand::make_rng(),
        })
    }

    /// A generator of its own for another owner.
    pub fn fork(&mut self) -> Self {
        Self(ChaCha12Rng::from_rng(&mut self.0))
    }

    /// 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        self.0.random_range(0..bound)
    }
}

/// A secret key for keyed hashes (SipHash): ports (RFC 6056), sequence numbers (RFC 6528), tables.
#[derive(Clone, Copy)]
pub struct HashKey(u64, u64);

impl HashKey {
    /// A fresh key.
    pub fn new(random: &mut Random) -> Self {
        Self(random.next_u64(), random.next_u64())
    }

    /// A keyed hash of a pair of addresses.
    pub fn hash_pair(&self, local: SocketAddr, remote: SocketAddr) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.0, self.1);
        for address in [local, remote] {
            match address {
                SocketAddr::V4(v4) => hasher.write(&v4.ip().octets()),
                SocketAddr::V6(v6) => hasher.write(&v6.ip().octets()),
            }
            hasher.write_u16(address.port());
        }
        hasher.finish()
    }

    /// A hasher for anything else.
    pub fn hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}

impl std::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey(..)")
    }
}
