//! Readiness bits, as `epoll` has them.

use std::ops::{BitAnd, BitOr, BitOrAssign};

/// What has become possible on a socket. Edges: a bit is reported each time its cause happens anew.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Readiness(u8);

impl Readiness {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Data, a datagram, a connection, an end of stream or an error can be read.
    pub const READABLE: Self = Self(1);
    /// There is room to write, or an error to be told by a write.
    pub const WRITABLE: Self = Self(2);
    /// The peer will send no more (FIN or reset), or this side has shut its read side.
    pub const READ_CLOSED: Self = Self(4);
    /// Nothing can be written any more.
    pub const WRITE_CLOSED: Self = Self(8);
    /// An error is pending.
    pub const ERROR: Self = Self(16);
    /// The peer has sent an urgent pointer (`EPOLLPRI`).
    pub const PRIORITY: Self = Self(32);

    /// No bit is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether any bit of `other` is set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits of both, for constants.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The bits without those of `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for Readiness {
    type Output = Self;
    fn bitor(self, rhs: Self) -> Self {
        Self(self.0 | rhs.0)
    }
}

impl BitOrAssign for Readiness {
    fn bitor_assign(&mut self, rhs: Self) {
        self.0 |= rhs.0;
    }
}

impl BitAnd for Readiness {
    type Output = Self;
    fn bitand(self, rhs: Self) -> Self {
        Self(self.0 & rhs.0)
    }
}

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = [
            (Self::READABLE, "readable"),
            (Self::WRITABLE, "writable"),
            (Self::READ_CLOSED, "read closed"),
            (Self::WRITE_CLOSED, "write closed"),
            (Self::ERROR, "error"),
            (Self::PRIORITY, "priority"),
        ];
        f.debug_set()
            .entries(
                names
                    .iter()
                    .filter(|(bit, _)| self.intersects(*bit))
                    .map(|(_, name)| name),
            )
            .finish()
    }
}
