//! What is counted.

/// Counters of a neighbour cache, since its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NeighborStats {
    /// Questions sent to all.
    pub multicast_solicitations: u64,
    /// Questions sent to one neighbour.
    pub unicast_solicitations: u64,
    /// Neighbours that did not answer the first questions.
    pub resolutions_failed: u64,
    /// Neighbours that once answered and then no more.
    pub probes_failed: u64,
    /// Entries that went because the cache was full.
    pub evicted: u64,
    /// Entries that were not made because the cache was full of what matters more.
    pub refused: u64,
    /// Packets that went because too many waited, or because their entry did.
    pub packets_dropped: u64,
    /// Waiters that were refused because too many waited.
    pub waiters_refused: u64,
}
