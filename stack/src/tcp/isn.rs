//! Initial sequence numbers (RFC 6528) and timestamp offsets (RFC 7323 7.1).
//!
//! Both are keyed hashes of the connection's addresses, so that nobody off the path can guess them, and the same seed
//! gives the same numbers.

use crate::random::HashKey;
use crate::tcp::{SeqNum, Tuple};
use crate::time::Instant;

/// Makes initial sequence numbers and timestamp offsets.
#[derive(Clone, Copy, Debug)]
pub struct IsnGenerator {
    key: HashKey,
}

impl IsnGenerator {
    /// A generator with a secret key of its own.
    pub const fn new(key: HashKey) -> Self {
        Self { key }
    }

    /// `ISN = M + F(localip, localport, remoteip, remoteport, secretkey)` (RFC 6528 3): M counts 4 µs, so a later
    /// connection of the same tuple starts above an earlier one, unless that moved more than 250 kB/s.
    pub fn iss(&self, now: Instant, tuple: &Tuple) -> SeqNum {
        let clock = (now.as_nanos() / NANOS_PER_TICK) as u32;
        SeqNum(clock) + self.hash(tuple) as u32
    }

    /// What a connection adds to the timestamp clock: the same for all connections of a tuple, as in Linux, so that
    /// PAWS and TIME-WAIT reuse (RFC 6191) see a clock that only goes forward.
    pub fn timestamp_offset(&self, tuple: &Tuple) -> u32 {
        // The half that the sequence number does not use: one tells nothing of the other.
        (self.hash(tuple) >> 32) as u32
    }

    fn hash(&self, tuple: &Tuple) -> u64 {
        self.key.hash_pair(tuple.local, tuple.remote)
    }
}

/// The ISN clock of RFC 6528 3 (and RFC 9293 3.4.1) ticks every 4 µs.
const NANOS_PER_TICK: u64 = 4000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn generator(seed: u64) -> IsnGenerator {
        IsnGenerator::new(HashKey::new(&mut Random::new(Some(seed))))
    }

    fn tuple(remote_port: u16) -> Tuple {
        Tuple {
            local: "10.0.0.1:80".parse().unwrap(),
            remote: ([10, 0, 0, 2], remote_port).into(),
        }
    }

    #[test]
    fn same_seed_gives_the_same_numbers() {
        // RFC 9293 MUST-9.
        let [a, b] = [7, 7].map(generator);
        let other = generator(8);
        let iss = a.iss(Instant::ZERO, &tuple(1));
        assert_eq!(iss, b.iss(Instant::ZERO, &tuple(1)));
        assert_ne!(iss, other.iss(Instant::ZERO, &tuple(1)));
        assert_eq!(a.timestamp_offset(&tuple(1)), b.timestamp_offset(&tuple(1)));
        assert_ne!(iss.0, a.timestamp_offset(&tuple(1)));
    }

    #[test]
    fn numbers_differ_by_tuple_and_advance_every_four_microseconds() {
        // RFC 6528 3; RFC 9293 3.4.1, MUST-8. RFC 9293 SHLD-1.
        let isn = generator(1);
        assert_ne!(
            isn.iss(Instant::ZERO, &tuple(1)),
            isn.iss(Instant::ZERO, &tuple(2))
        );
        let start = isn.iss(Instant::ZERO, &tuple(1));
        for (nanos, ticks) in [(3999, 0), (4000, 1), (1_000_000_000, 250_000)] {
            assert_eq!(
                isn.iss(Instant::from_nanos(nanos), &tuple(1)),
                start + ticks
            );
        }
    }
}
