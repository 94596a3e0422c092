//! Sequence numbers: modulo 2^32 (RFC 9293 3.4).

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// A sequence number. Comparison is by signed distance, so it holds for numbers less than 2^31 apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SeqNum(pub u32);

impl SeqNum {
    /// `self` lies before `other`.
    pub const fn before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// `self` lies after `other`.
    pub const fn after(self, other: Self) -> bool {
        other.before(self)
    }

    /// `self` lies before `other` or is the same.
    pub const fn at_or_before(self, other: Self) -> bool {
        !other.before(self)
    }

    /// `self` lies after `other` or is the same.
    pub const fn at_or_after(self, other: Self) -> bool {
        !self.before(other)
    }

    /// The later of the two.
    pub const fn max(self, other: Self) -> Self {
        if self.before(other) { other } else { self }
    }

    /// The earlier of the two.
    pub const fn min(self, other: Self) -> Self {
        if self.before(other) { self } else { other }
    }

    /// Octets from `earlier` to `self`; 0 when `self` lies before it.
    pub const fn saturating_since(self, earlier: Self) -> u32 {
        if self.before(earlier) {
            0
        } else {
            self.0.wrapping_sub(earlier.0)
        }
    }
}

impl Add<u32> for SeqNum {
    type Output = Self;
    fn add(self, rhs: u32) -> Self {
        Self(self.0.wrapping_add(rhs))
    }
}

impl AddAssign<u32> for SeqNum {
    fn add_assign(&mut self, rhs: u32) {
        self.0 = self.0.wrapping_add(rhs);
    }
}

impl Sub<u32> for SeqNum {
    type Output = Self;
    fn sub(self, rhs: u32) -> Self {
        Self(self.0.wrapping_sub(rhs))
    }
}

impl Sub for SeqNum {
    type Output = u32;
    /// Octets from `rhs` to `self`, modulo 2^32.
    fn sub(self, rhs: Self) -> u32 {
        self.0.wrapping_sub(rhs.0)
    }
}

impl fmt::Debug for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::SeqNum;

    #[test]
    fn comparison_wraps_around() {
        // RFC 9293 3.4: all arithmetic on sequence numbers is modulo 2^32.
        let cases = [
            (0, 1, true),
            (u32::MAX, 0, true),
            (1, 0, false),
            (5, 5, false),
            (0xffff_fff0, 0x10, true),
        ];
        for (a, b, before) in cases {
            assert_eq!(SeqNum(a).before(SeqNum(b)), before, "{a} before {b}");
        }
    }
}
