//! Serial numbers (RFC 9260 1.6): stand-in.

/// A transmission sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tsn(pub u32);

impl Tsn {
    /// Whether `self` comes before `other`.
    pub fn is_before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }
    /// How far `self` is past `from`.
    pub fn distance(self, from: Self) -> u32 {
        self.0.wrapping_sub(from.0)
    }
    /// The next one.
    pub fn next(self) -> Self {
        self.add(1)
    }
    /// `n` further.
    #[allow(clippy::should_implement_trait)]
    pub fn add(self, n: u32) -> Self {
        Self(self.0.wrapping_add(n))
    }
}

/// A stream sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Ssn(pub u16);

impl Ssn {
    /// The next one.
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}
