//! One budget of buffer memory for all connections of a stack, as Linux's `tcp_mem`.
//!
//! Owns the sum, and what it says of how short memory is. What a connection does about it is in
//! `tcp/connection/buffer_size.rs`. Charges are rounded up to steps, so that a connection with a few packets in its
//! buffers, the usual case, leaves the shared counter alone.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How short memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Buffers may grow.
    None,
    /// Three quarters are in use: no buffer grows, windows do not reopen beyond a few segments.
    Moderate,
    /// All is in use: only what keeps each connection going is taken.
    Exhausted,
}

/// The budget of a stack.
#[derive(Debug)]
pub struct MemoryBudget {
    limit: usize,
    used: AtomicUsize,
    pressures: AtomicU64,
    pruned: AtomicU64,
}

/// What a budget tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryStats {
    /// Octets there are.
    pub limit: usize,
    /// Octets charged: buffers rounded up, and 4 KiB at least for each connection.
    pub used: usize,
    /// How often three quarters of it came to be in use.
    pub pressures: u64,
    /// Octets received out of order and dropped again since memory was short.
    pub pruned: u64,
}

impl MemoryBudget {
    /// A budget of `limit` octets; `None` is a quarter of the machine's memory, or 1 GiB where that is not known.
    pub fn new(limit: Option<usize>) -> Self {
        Self {
            limit: limit.unwrap_or_else(quarter_of_memory),
            used: AtomicUsize::new(0),
            pressures: AtomicU64::new(0),
            pruned: AtomicU64::new(0),
        }
    }

    /// How short memory is.
    pub fn pressure(&self) -> Pressure {
        let used = self.used.load(Ordering::Relaxed);
        if used < self.threshold() {
            Pressure::None
        } else if used < self.limit {
            Pressure::Moderate
        } else {
            Pressure::Exhausted
        }
    }

    /// Counters.
    pub fn stats(&self) -> MemoryStats {
        MemoryStats {
            limit: self.limit,
            used: self.used.load(Ordering::Relaxed),
            pressures: self.pressures.load(Ordering::Relaxed),
            pruned: self.pruned.load(Ordering::Relaxed),
        }
    }

    const fn threshold(&self) -> usize {
        self.limit / 4 * 3
    }

    fn charge(&self, octets: usize) {
        let before = self.used.fetch_add(octets, Ordering::Relaxed);
        if before < self.threshold() && before + octets >= self.threshold() {
            self.pressures.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn release(&self, octets: usize) {
        self.used.fetch_sub(octets, Ordering::Relaxed);
    }
}

/// A connection's part of a budget, given back when it is dropped.
#[derive(Debug, Default)]
pub struct MemoryAccount {
    /// `None` is not limited.
    budget: Option<Arc<MemoryBudget>>,
    charged: usize,
}

impl MemoryAccount {
    /// An account that holds nothing yet.
    pub fn new(budget: Arc<MemoryBudget>) -> Self {
        budget.charge(CONNECTION);
        Self {
            budget: Some(budget),
            charged: CONNECTION,
        }
    }

    /// The connection holds `octets` in its buffers now.
    pub fn settle(&mut self, octets: usize) {
        let Some(budget) = &self.budget else {
            return;
        };
        let enough = octets <= self.charged;
        let much = self.charged - octets.min(self.charged) >= 2 * STEP;
        let idle = octets <= CONNECTION && self.charged > CONNECTION;
        if enough && !much && !idle {
            return;
        }
        let wanted = octets.saturating_sub(CONNECTION).next_multiple_of(STEP) + CONNECTION;
        if wanted > self.charged {
            budget.charge(wanted - self.charged);
        } else {
            budget.release(self.charged - wanted);
        }
        self.charged = wanted;
    }

    /// How short memory is.
    pub fn pressure(&self) -> Pressure {
        match &self.budget {
            Some(budget) => budget.pressure(),
            None => Pressure::None,
        }
    }

    /// `octets` were received out of order and have been dropped again.
    pub fn note_pruned(&self, octets: usize) {
        if let Some(budget) = &self.budget {
            budget.pruned.fetch_add(octets as u64, Ordering::Relaxed);
        }
    }
}

impl Drop for MemoryAccount {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.release(self.charged);
        }
    }
}

/// A quarter of the machine's memory.
fn quarter_of_memory() -> usize {
    static QUARTER: OnceLock<usize> = OnceLock::new();
    *QUARTER.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        kibibytes_in_all(&text).map_or(UNKNOWN_QUARTER, |total| total.saturating_mul(1024) / 4)
    })
}

/// `MemTotal` of Linux's `/proc/meminfo`.
fn kibibytes_in_all(text: &str) -> Option<usize> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What each connection is charged whether it holds as much or not, so that it may always hold it.
const CONNECTION: usize = 4096;
/// Charges beyond that are multiples of this many octets.
const STEP: usize = 16 << 10;
/// The budget where the machine's memory is not known.
const UNKNOWN_QUARTER: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_cover_what_is_held_and_come_back() {
        let budget = Arc::new(MemoryBudget::new(Some(1 << 20)));
        let mut account = MemoryAccount::new(Arc::clone(&budget));
        for held in [0, 100, 4096, 4097, 50_000, 49_000, 20_000, 300_000, 4000, 1] {
            account.settle(held);
            let used = budget.stats().used;
            assert!(used >= held, "{held}: {used}");
            assert!(used <= held + 3 * STEP + CONNECTION, "{held}: {used}");
        }
        assert_eq!(budget.stats().used, CONNECTION);
        drop(account);
        assert_eq!(budget.stats().used, 0);
    }

    #[test]
    fn pressure_rises_at_three_quarters_and_at_the_limit() {
        let budget = Arc::new(MemoryBudget::new(Some(1 << 20)));
        let mut account = MemoryAccount::new(Arc::clone(&budget));
        for (held, pressure) in [
            (700_000, Pressure::None),
            (790_000, Pressure::Moderate),
            (1_050_000, Pressure::Exhausted),
            (800_000, Pressure::Moderate),
            (0, Pressure::None),
            (1_050_000, Pressure::Exhausted),
        ] {
            account.settle(held);
            assert_eq!(account.pressure(), pressure, "{held}");
        }
        assert_eq!(budget.stats().pressures, 2);
    }

    #[test]
    fn the_machines_memory_is_read_as_the_kernel_writes_it() {
        let text = "MemTotal:       24600012 kB\nMemFree:  1 kB\n";
        assert_eq!(kibibytes_in_all(text), Some(24_600_012));
        assert_eq!(kibibytes_in_all("MemTotal: much"), None);
        assert!(MemoryBudget::new(None).stats().limit > 1 << 20);
    }
}
