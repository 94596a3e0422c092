//! A path that is worse than ideal: delay, jitter, loss, reordering, duplication, corruption, a rate with a bounded
//! queue before it, an MTU.
//!
//! Sans-IO: times are nanoseconds since whatever epoch the caller keeps, given with every call. Who runs the timer
//! ([`super::impaired`], a simulation's event heap) asks [`Impairment::poll_timeout`] for the next deadline.
//!
//! ```text
//!  enqueue ─▶ cut into wire packets ─▶ MTU ─▶ queue ─▶ serialisation ─▶ loss ─▶ duplication, ─▶ delay, ─▶ dequeue
//!             checksums completed      (drop) (drop)   (rate)           (drop)  corruption      jitter,
//!                                                                                               reordering
//! ```
//!
//! A lost packet has used its share of the rate, as on a lossy radio link behind its sender. Everything happens per
//! wire packet: a super-packet that lost 1 % of itself would be no packet. For each one the same number of random values
//! is drawn, whatever becomes of it, so that turning one impairment on does not change what another decides.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};

use crate::device::Medium;
use crate::headers::ETHERNET_HEADER;
use crate::packet::Packet;
use crate::segmentation::{CutChecksum, segment};

/// Which packets are lost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Loss {
    /// None.
    #[default]
    None,
    /// Each with this probability (0 to 1), independently.
    Uniform(f64),
    /// In bursts: a chain of two states that takes one step per packet (Gilbert 1960, Elliott 1963). All probabilities
    /// are from 0 to 1; the chain begins in the good state.
    GilbertElliott {
        /// Probability of going from the good state to the bad one.
        good_to_bad: f64,
        /// Probability of going back. Bursts last 1 / `bad_to_good` packets on average.
        bad_to_good: f64,
        /// Probability that a packet is lost in the good state, usually 0.
        loss_in_good: f64,
        /// Probability that a packet is lost in the bad state, usually 1.
        loss_in_bad: f64,
    },
}

impl Loss {
    /// Bursts of `burst` packets on average (at least 1), so that a fraction `rate` (0 to 1, not 1) of all is lost.
    pub fn bursts(rate: f64, burst: f64) -> Self {
        let bad_to_good = 1.0 / burst.max(1.0);
        Self::GilbertElliott {
            good_to_bad: (rate * bad_to_good / (1.0 - rate)).clamp(0.0, 1.0),
            bad_to_good,
            loss_in_good: 0.0,
            loss_in_bad: 1.0,
        }
    }
}

/// Which packets fall behind those sent after them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reorder {
    /// Probability (0 to 1) that a packet is held back.
    pub probability: f64,
    /// How long it is held back beyond its time; all packets that arrive meanwhile overtake it.
    pub extra_delay: Duration,
}

/// How one direction of a path behaves. The default is ideal, but for bounded memory.
#[derive(Clone, Debug, PartialEq)]
pub struct ImpairmentConfig {
    /// Time from the end of serialisation to arrival. Default: none.
    pub delay: Duration,
    /// Up to this much is added to each packet's delay, uniformly. Packets stay in order: one that would overtake
    /// arrives together with its predecessor. Default: none.
    pub jitter: Duration,
    /// Which packets are lost. Default: none.
    pub loss: Loss,
    /// Which packets are overtaken. Default: none.
    pub reorder: Reorder,
    /// Probability (0 to 1) that a packet arrives twice. Default: 0.
    pub duplicate: f64,
    /// Probability (0 to 1) that one bit of a packet is inverted, anywhere in it. Default: 0.
    pub corrupt: f64,
    /// Bits per second (link header included), or unlimited. Default: unlimited.
    pub rate_bits_per_second: Option<u64>,
    /// The queue before the rate, in octets: what would exceed it is dropped. It counts what waits and what is being
    /// sent; an idle link takes any packet. Without a rate nothing waits. Default: 1 MiB.
    pub queue_limit: usize,
    /// The most octets under way at once, bookkeeping included; what would exceed it is dropped. A bound on memory, not a model of anything:
    /// it must exceed rate times delay. Default: 256 MiB.
    pub in_flight_limit: usize,
    /// The largest network-layer packet in octets (link header not counted), or unlimited; a larger one is dropped in
    /// silence, like at a router whose ICMP is filtered. Default: unlimited.
    pub mtu: Option<usize>,
}

impl Default for ImpairmentConfig {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: Loss::None,
            reorder: Reorder::default(),
            duplicate: 0.0,
            corrupt: 0.0,
            rate_bits_per_second: None,
            queue_limit: 1 << 20,
            in_flight_limit: 256 << 20,
            mtu: None,
        }
    }
}

impl ImpairmentConfig {
    /// Ideal but for a delay.
    pub fn delay(delay: Duration) -> Self {
        Self {
            delay,
            ..Self::default()
        }
    }

    /// The same with uniform loss of probability `loss` (0 to 1).
    pub fn with_loss(self, loss: f64) -> Self {
        Self {
            loss: Loss::Uniform(loss),
            ..self
        }
    }

    /// The same with a rate in bits per second and a queue before it in octets.
    pub fn with_rate(self, rate_bits_per_second: u64, queue_limit: usize) -> Self {
        Self {
            rate_bits_per_second: Some(rate_bits_per_second),
            queue_limit,
            ..self
        }
    }

    /// The same with reordering: each packet with `probability` (0 to 1) arrives `extra_delay` late.
    pub fn with_reorder(self, probability: f64, extra_delay: Duration) -> Self {
        Self {
            reorder: Reorder {
                probability,
                extra_delay,
            },
            ..self
        }
    }
}

/// What became of the packets, counted in wire packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImpairmentStats {
    /// Wire packets that entered, super-packets counted by their cuts.
    pub offered: u64,
    /// Packets that came out, copies included.
    pub delivered: u64,
    /// Octets that came out.
    pub delivered_bytes: u64,
    /// Dropped by [`ImpairmentConfig::loss`].
    pub lost: u64,
    /// Dropped by the queue before the rate.
    pub queue_full: u64,
    /// Dropped by [`ImpairmentConfig::in_flight_limit`].
    pub in_flight_full: u64,
    /// Dropped by [`ImpairmentConfig::mtu`].
    pub over_mtu: u64,
    /// Super-packets that could not be cut, dropped whole; not among those offered.
    pub malformed: u64,
    /// Held back so that others overtake.
    pub reordered: u64,
    /// Copies made.
    pub duplicated: u64,
    /// Packets with an inverted bit.
    pub corrupted: u64,
}

/// One direction of an impaired path.
#[derive(Debug)]
pub struct Impairment {
    config: ImpairmentConfig,
    medium: Medium,
    random: ChaCha8Rng,
    /// The loss chain is in its bad state.
    is_bad: bool,
    /// When the last bit accepted so far will have been sent.
    link_free_at: u64,
    /// The latest deadline given to a packet in order.
    last_deadline: u64,
    /// Numbers packets, so that equal deadlines keep their order.
    sequence: u64,
    in_order: VecDeque<Pending>,
    held_back: BTreeMap<(u64, u64), Packet>,
    in_flight_bytes: usize,
    /// Where super-packets are cut into; empty between calls.
    cuts: Vec<Packet>,
    stats: ImpairmentStats,
}

#[derive(Debug)]
struct Pending {
    deadline: u64,
    sequence: u64,
    packet: Packet,
}

impl Impairment {
    /// A path for IP packets. The same seed and the same packets at the same times give the same result, in every
    /// process and version.
    pub fn new(config: ImpairmentConfig, seed: u64) -> Self {
        // Not `seed_from_u64`, whose expansion is the crate's choice; the generator itself is fixed by its name.
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Self {
            config,
            medium: Medium::Ip,
            random: ChaCha8Rng::from_seed(key),
            is_bad: false,
            link_free_at: 0,
            last_deadline: 0,
            sequence: 0,
            in_order: VecDeque::new(),
            held_back: BTreeMap::new(),
            in_flight_bytes: 0,
            cuts: Vec::new(),
            stats: ImpairmentStats::default(),
        }
    }

    /// The same path for packets that begin as `medium` says.
    pub fn with_medium(mut self, medium: Medium) -> Self {
        self.medium = medium;
        self
    }

    /// How the path behaves from now on; packets under way keep their deadlines.
    pub fn set_config(&mut self, config: ImpairmentConfig) {
        self.config = config;
    }

    /// How the path behaves.
    pub fn config(&self) -> &ImpairmentConfig {
        &self.config
    }

    /// What became of the packets so far.
    pub fn stats(&self) -> ImpairmentStats {
        self.stats
    }

    /// Wire packets under way.
    pub fn in_flight(&self) -> usize {
        self.in_order.len() + self.held_back.len()
    }

    /// Takes a packet in at `now` (nanoseconds). A super-packet is cut, a checksum completed: what comes out is as
    /// from a wire.
    pub fn enqueue(&mut self, now: u64, packet: Packet) {
        let mut cuts = std::mem::take(&mut self.cuts);
        let cut = segment(packet, self.medium, CutChecksum::Complete, |packet| {
            cuts.push(packet);
        });
        if cut.is_err() {
            self.stats.malformed += 1;
        }
        for packet in cuts.drain(..) {
            self.admit(now, packet);
        }
        self.cuts = cuts;
    }

    /// The next packet that has arrived at `now`.
    pub fn dequeue(&mut self, now: u64) -> Option<Packet> {
        let in_order = self.in_order.front().map(|p| (p.deadline, p.sequence));
        let held_back = self.held_back.first_key_value().map(|(key, _)| *key);
        let is_held_back_next = match (in_order, held_back) {
            (Some(in_order), Some(held_back)) => held_back < in_order,
            (in_order, _) => in_order.is_none(),
        };
        let (deadline, _) = if is_held_back_next {
            held_back
        } else {
            in_order
        }?;
        if deadline > now {
            return None;
        }
        let packet = if is_held_back_next {
            self.held_back.pop_first()?.1
        } else {
            self.in_order.pop_front()?.packet
        };
        self.in_flight_bytes -= charge(&packet);
        self.stats.delivered += 1;
        self.stats.delivered_bytes += packet.len() as u64;
        Some(packet)
    }

    /// When the next packet arrives, in nanoseconds; `None` while nothing is under way.
    pub fn poll_timeout(&self) -> Option<u64> {
        let in_order = self.in_order.front().map(|pending| pending.deadline);
        let held_back = self.held_back.first_key_value().map(|(key, _)| key.0);
        match (in_order, held_back) {
            (Some(in_order), Some(held_back)) => Some(in_order.min(held_back)),
            (in_order, held_back) => in_order.or(held_back),
        }
    }

    /// Decides what becomes of one wire packet.
    fn admit(&mut self, now: u64, mut packet: Packet) {
        let draws = Draws::new(&mut self.random);
        self.stats.offered += 1;
        let link_header = match self.medium {
            Medium::Ip => 0,
            Medium::Ethernet => ETHERNET_HEADER,
        };
        if let Some(mtu) = self.config.mtu
            && packet.len().saturating_sub(link_header) > mtu
        {
            self.stats.over_mtu += 1;
            return;
        }
        let Some(sent) = self.serialize(now, packet.len()) else {
            self.stats.queue_full += 1;
            return;
        };
        if self.loses(&draws) {
            self.stats.lost += 1;
            return;
        }
        // Before the checks below, so that a copy is never the damaged one.
        let copy = happens(self.config.duplicate, draws.duplicate).then(|| packet.clone());
        if happens(self.config.corrupt, draws.corrupt) && !packet.is_empty() {
            let bit = scale(draws.bit, packet.len() as u64 * 8);
            let at = (bit / 8) as usize;
            let octet = packet.octet(at).unwrap_or(0) ^ (1 << (bit % 8));
            packet.overwrite(at, &[octet]);
            self.stats.corrupted += 1;
        }
        let jitter = scale(
            draws.jitter,
            nanoseconds(self.config.jitter).saturating_add(1),
        );
        let arrival = sent
            .saturating_add(nanoseconds(self.config.delay))
            .saturating_add(jitter);
        let is_held_back = happens(self.config.reorder.probability, draws.reorder);
        if let Some(copy) = copy
            && self.push(arrival, is_held_back, copy)
        {
            self.stats.duplicated += 1;
        }
        if self.push(arrival, is_held_back, packet) && is_held_back {
            self.stats.reordered += 1;
        }
    }

    /// When the last bit of a packet of `len` octets will have been sent; `None` if the queue has no room for it.
    fn serialize(&mut self, now: u64, len: usize) -> Option<u64> {
        let Some(rate) = self.config.rate_bits_per_second else {
            return Some(now);
        };
        let rate = u128::from(rate.max(1));
        // What the queue holds follows from how long it takes to send it.
        let backlog = u128::from(self.link_free_at.saturating_sub(now));
        let queued = (backlog * rate).div_ceil(8 * NANOSECONDS);
        if backlog > 0 && queued + len as u128 > self.config.queue_limit as u128 {
            return None;
        }
        let duration = (len as u128 * 8 * NANOSECONDS).div_ceil(rate);
        let duration = u64::try_from(duration).unwrap_or(u64::MAX);
        self.link_free_at = self.link_free_at.max(now).saturating_add(duration);
        Some(self.link_free_at)
    }

    fn loses(&mut self, draws: &Draws) -> bool {
        match self.config.loss {
            Loss::None => false,
            Loss::Uniform(probability) => happens(probability, draws.loss),
            Loss::GilbertElliott {
                good_to_bad,
                bad_to_good,
                loss_in_good,
                loss_in_bad,
            } => {
                let leaves = if self.is_bad {
                    bad_to_good
                } else {
                    good_to_bad
                };
                self.is_bad ^= happens(leaves, draws.chain);
                let probability = if self.is_bad {
                    loss_in_bad
                } else {
                    loss_in_good
                };
                happens(probability, draws.loss)
            }
        }
    }

    /// Puts a packet under way, unless that would exceed the bound on memory.
    fn push(&mut self, arrival: u64, is_held_back: bool, packet: Packet) -> bool {
        let in_flight_bytes = self.in_flight_bytes + charge(&packet);
        if in_flight_bytes > self.config.in_flight_limit {
            self.stats.in_flight_full += 1;
            return false;
        }
        self.in_flight_bytes = in_flight_bytes;
        self.sequence += 1;
        let sequence = self.sequence;
        if is_held_back {
            let extra = nanoseconds(self.config.reorder.extra_delay);
            let deadline = arrival.max(self.last_deadline).saturating_add(extra);
            self.held_back.insert((deadline, sequence), packet);
        } else {
            let deadline = arrival.max(self.last_deadline);
            self.last_deadline = deadline;
            self.in_order.push_back(Pending {
                deadline,
                sequence,
                packet,
            });
        }
        true
    }
}

const NANOSECONDS: u128 = 1_000_000_000;

/// What a packet under way costs in memory, roughly: small ones are mostly bookkeeping.
fn charge(packet: &Packet) -> usize {
    packet.len() + size_of::<Packet>()
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The random values of one packet, one per decision.
struct Draws {
    loss: u64,
    chain: u64,
    duplicate: u64,
    corrupt: u64,
    bit: u64,
    jitter: u64,
    reorder: u64,
}

impl Draws {
    fn new(random: &mut ChaCha8Rng) -> Self {
        let draws = Self {
            loss: random.next_u64(),
            chain: random.next_u64(),
            duplicate: random.next_u64(),
            corrupt: random.next_u64(),
            bit: random.next_u64(),
            jitter: random.next_u64(),
            reorder: random.next_u64(),
        };
        // One to spare, so that a further impairment will not change what older seeds give.
        random.next_u64();
        draws
    }
}

/// Whether something of this probability happens.
fn happens(probability: f64, draw: u64) -> bool {
    // The upper 53 bits as a fraction from 0 to below 1, exactly.
    let fraction = (draw >> 11) as f64 / (1u64 << 53) as f64;
    fraction < probability
}

/// A draw mapped onto 0 to below `range`.
fn scale(draw: u64, range: u64) -> u64 {
    ((u128::from(draw) * u128::from(range)) >> 64) as u64
}

#[cfg(test)]
mod tests;
