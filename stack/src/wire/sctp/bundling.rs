//! Which chunks a packet holds, without reading them: what the rules on whole packets ask (RFC 9260 6.10, 8.4, 8.5.1).

use super::kind;

/// The types of the chunks of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkSummary {
    first: Option<u8>,
    count: usize,
    /// A bit for each type below 16: all that RFC 9260 defines.
    kinds: u16,
}

impl ChunkSummary {
    /// The type of the first chunk.
    pub const fn first(&self) -> Option<u8> {
        self.first
    }

    /// How many chunks there are.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Whether there is a chunk of that type; `false` for types that RFC 9260 does not define.
    pub const fn contains(&self, kind: u8) -> bool {
        kind < 16 && self.kinds & (1 << kind) != 0
    }

    /// Whether a chunk that must be alone in its packet is not: INIT, INIT ACK or SHUTDOWN COMPLETE (RFC 9260 6.10).
    pub const fn violates_bundling(&self) -> bool {
        self.count > 1
            && (self.contains(kind::INIT)
                || self.contains(kind::INIT_ACK)
                || self.contains(kind::SHUTDOWN_COMPLETE))
    }

    pub(super) fn add(&mut self, kind: u8) {
        self.first.get_or_insert(kind);
        self.count += 1;
        if kind < 16 {
            self.kinds |= 1 << kind;
        }
    }
}
