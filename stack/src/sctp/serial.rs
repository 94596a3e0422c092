//! Serial numbers (RFC 9260 1.6, RFC 1982): they wrap, so "before" means by less than half of the way round.

use std::fmt;
use std::ops::{Add, Sub};

/// A transmission sequence number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Tsn(pub u32);

impl Tsn {
    /// Whether `self` comes before `other`. Of two numbers half of the way apart neither has a place (RFC 1982 3.2); each
    /// counts as before the other here, so that such a number is never taken for news.
    pub const fn is_before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// How far `self` is beyond `from`.
    pub const fn distance(self, from: Self) -> u32 {
        self.0.wrapping_sub(from.0)
    }

    /// The one after it.
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// The one before it.
    pub const fn previous(self) -> Self {
        Self(self.0.wrapping_sub(1))
    }
}

impl Add<u32> for Tsn {
    type Output = Self;
    fn add(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }
}

impl Sub<u32> for Tsn {
    type Output = Self;
    fn sub(self, count: u32) -> Self {
        Self(self.0.wrapping_sub(count))
    }
}

impl fmt::Debug for Tsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TSN {}", self.0)
    }
}

/// A stream sequence number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Ssn(pub u16);

impl Ssn {
    /// Whether `self` comes before `other`.
    pub const fn is_before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i16) < 0
    }

    /// The one after it: 0 follows 65535 (RFC 9260 6.5).
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

impl fmt::Debug for Ssn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SSN {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_and_after_go_round() {
        // RFC 1982 3.2.
        let cases = [
            (0, 0, false),
            (0, 1, true),
            (1, 0, false),
            (u32::MAX, 0, true),
            (0, u32::MAX, false),
            (0, 0x7fff_ffff, true),
            (0, 0x8000_0001, false),
        ];
        for (a, b, before) in cases {
            assert_eq!(Tsn(a).is_before(Tsn(b)), before, "{a} {b}");
        }
        assert!(Ssn(u16::MAX).is_before(Ssn(0)));
        assert!(!Ssn(0).is_before(Ssn(u16::MAX)));
        assert!(Ssn(3).is_before(Ssn(4)) && !Ssn(4).is_before(Ssn(4)));
    }

    #[test]
    fn arithmetic_wraps() {
        assert_eq!(Tsn(u32::MAX).next(), Tsn(0));
        assert_eq!(Tsn(0).previous(), Tsn(u32::MAX));
        assert_eq!(Tsn(u32::MAX) + 5, Tsn(4));
        assert_eq!(Tsn(4) - 5, Tsn(u32::MAX));
        assert_eq!(Tsn(4).distance(Tsn(u32::MAX)), 5);
        assert_eq!(Ssn(u16::MAX).next(), Ssn(0));
    }
}
