//! What can be varied.

use std::time::Duration;

/// Limits and times of the neighbour cache. RFC defaults throughout, Linux's where no RFC names one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Questions to all before a neighbour counts as unreachable (RFC 4861 10 MAX_MULTICAST_SOLICIT: 3).
    pub max_multicast_solicit: u32,
    /// Questions to the neighbour alone before its entry goes (RFC 4861 10 MAX_UNICAST_SOLICIT: 3).
    pub max_unicast_solicit: u32,
    /// Time between questions (RFC 4861 10 RETRANS_TIMER: 1 s).
    pub retrans_timer: Duration,
    /// Time a confirmation holds on the average; each lasts 0.5 to 1.5 times as long (RFC 4861 10 REACHABLE_TIME: 30 s).
    pub reachable_time: Duration,
    /// Time an entry is used unconfirmed before the neighbour is asked (RFC 4861 10 DELAY_FIRST_PROBE_TIME: 5 s).
    pub delay_first_probe_time: Duration,
    /// Time after which an unconfirmed entry that nobody uses goes (Linux's `gc_stale_time`: 60 s).
    pub gc_stale_time: Duration,
    /// Time a failure is remembered: the first to try again within it is refused at once, while the neighbour is asked
    /// for again. 1 s; 0 for Linux's ways, where every attempt waits.
    pub failed_time: Duration,
    /// IPv4 only: time within which a second, different answer does not replace the first (Linux's `locktime`: 1 s).
    pub lock_time: Duration,
    /// Most entries (Linux's `gc_thresh3`: 1024). At the limit the least recently used one that matters least goes.
    pub max_entries: usize,
    /// Most packets that wait for one neighbour (Linux's `unres_qlen`: 101). Of more, the oldest goes.
    pub max_queue_packets: usize,
    /// Most octets that wait for one neighbour, packets' own memory included (Linux's `unres_qlen_bytes`: 212,992).
    pub max_queue_bytes: usize,
    /// Most octets that wait for all neighbours together: 4 MiB.
    pub max_total_queue_bytes: usize,
    /// Most waiters of one neighbour: 65,536.
    pub max_waiters: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_multicast_solicit: 3,
            max_unicast_solicit: 3,
            retrans_timer: Duration::from_secs(1),
            reachable_time: Duration::from_secs(30),
            delay_first_probe_time: Duration::from_secs(5),
            gc_stale_time: Duration::from_secs(60),
            failed_time: Duration::from_secs(1),
            lock_time: Duration::from_secs(1),
            max_entries: 1024,
            max_queue_packets: 101,
            max_queue_bytes: 212_992,
            max_total_queue_bytes: 4 << 20,
            max_waiters: 65_536,
        }
    }
}
