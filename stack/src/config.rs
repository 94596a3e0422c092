//! What a whole stack can be told. Protocols have structs of their own.

use crate::{tcp, udp};

/// A stack's configuration.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Seeds everything random in the stack; `None` takes the operating system's randomness. With the same seed,
    /// the same input and the same times, a stack sends the same packets, byte for byte.
    pub seed: Option<u64>,
    /// TCP.
    pub tcp: tcp::Config,
    /// UDP.
    pub udp: udp::Config,
    /// What the stack does by itself.
    pub host: HostConfig,
}

/// What concerns no single socket.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Hop limit and TTL of packets (RFC 1122 3.2.1.7 and IANA's default). Default 64, as Linux.
    pub ttl: u8,
    /// Answer ICMP echo requests (RFC 1122 3.2.2.6, MUST). Default true.
    pub answer_echo: bool,
    /// Stateless replies (RST, ICMP) that wait for a flush; more are dropped and counted. Default 1024.
    pub reply_queue: usize,
    /// Octets of fragments kept for reassembly, all datagrams together. Default 4 MiB, as Linux's `ipfrag_high_thresh`.
    pub reassembly_memory: usize,
    /// Destinations whose path MTU is remembered. Default 4096.
    pub path_mtu_entries: usize,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            ttl: 64,
            answer_echo: true,
            reply_queue: 1024,
            reassembly_memory: 4 << 20,
            path_mtu_entries: 4096,
        }
    }
}
