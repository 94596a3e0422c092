//! Stand-in for SCTP's wire types.
use bytes::Bytes;
use smallvec::SmallVec;

/// Flags of a DATA chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DataFlags(pub u8);
impl DataFlags {
    /// E
    pub const END: Self = Self(1);
    /// B
    pub const BEGIN: Self = Self(2);
    /// U
    pub const UNORDERED: Self = Self(4);
    /// I
    pub const IMMEDIATE: Self = Self(8);
    /// has
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}
impl std::ops::BitOr for DataFlags {
    type Output = Self;
    fn bitor(self, o: Self) -> Self {
        Self(self.0 | o.0)
    }
}
impl std::ops::BitOrAssign for DataFlags {
    fn bitor_assign(&mut self, o: Self) {
        self.0 |= o.0;
    }
}
/// h
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHeader {
    /// t
    pub tsn: u32,
    /// s
    pub stream: u16,
    /// s
    pub ssn: u16,
    /// p
    pub ppid: u32,
    /// f
    pub flags: DataFlags,
}
/// d
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// h
    pub header: DataHeader,
    /// p
    pub payload: Bytes,
}
/// g
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GapBlock {
    /// s
    pub start: u16,
    /// e
    pub end: u16,
}
/// s
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sack {
    /// c
    pub cumulative_tsn_ack: u32,
    /// a
    pub a_rwnd: u32,
    /// g
    pub gap_blocks: SmallVec<[GapBlock; 4]>,
    /// d
    pub duplicates: SmallVec<[u32; 4]>,
}
/// e
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorCause {
    /// p
    ProtocolViolation(Bytes),
}
