//! Bodies of a known content, so that a receiver can tell by a hash whether all of it came, in order.

use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// `len` octets that depend on `seed` alone.
pub fn body(seed: u64, len: usize) -> Vec<u8> {
    let mut octets = vec![0; len];
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut octets);
    octets
}

/// The SHA-256 of `octets` in hexadecimal.
pub fn hash(octets: &[u8]) -> String {
    Sha256::digest(octets)
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect()
}
