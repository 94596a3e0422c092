//! The link layer: what a frame is and whom it is for. A device of IP packets ([`tidewire_netdev::Medium::Ip`]) needs
//! nothing of it.

pub mod ethernet;

/// An interface of a stack. The number is also its IPv6 zone index (`SocketAddrV6::scope_id`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceId(pub u32);

impl InterfaceId {
    /// The interface that every stack has, number 1 as on Linux; devices count from 2.
    pub const LOOPBACK: Self = Self(1);
}
