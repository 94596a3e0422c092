//! The dimensions that most tests are run in: IP version, and who listens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tidewire::ip::Cidr;

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// 10.7.0.0/24, or another subnet.
    V4,
    /// fd07::/64, or another subnet.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The kernel's address, on a link in subnet 7.
    pub const fn kernel(self) -> IpAddr {
        self.kernel_in(7)
    }

    /// The stack's address, on a link in subnet 7.
    pub const fn stack(self) -> IpAddr {
        self.stack_in(7)
    }

    /// The kernel's address on a link in `subnet`.
    pub const fn kernel_in(self, subnet: u8) -> IpAddr {
        self.host(subnet, 1)
    }

    /// The stack's address on a link in `subnet`.
    pub const fn stack_in(self, subnet: u8) -> IpAddr {
        self.host(subnet, 2)
    }

    const fn host(self, subnet: u8, last: u8) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::new(10, subnet, 0, last)),
            Self::V6 => IpAddr::V6(Ipv6Addr::new(
                0xfd00 + subnet as u16,
                0,
                0,
                0,
                0,
                0,
                0,
                last as u16,
            )),
        }
    }

    /// The address of the subnet itself.
    pub(crate) const fn network_of(self, subnet: u8) -> IpAddr {
        self.host(subnet, 0)
    }

    /// The destination of a default route.
    pub(super) fn everything(self) -> Cidr {
        let unspecified = match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Cidr::new(unspecified, 0).expect("a valid prefix")
    }

    /// The length of its subnets' prefixes.
    pub const fn prefix(self) -> u8 {
        match self {
            Self::V4 => 24,
            Self::V6 => 64,
        }
    }

    /// The smallest MTU a link of this version may have here (RFC 791 says 68, hosts must take 576; RFC 8200: 1280).
    pub const fn smallest_mtu(self) -> usize {
        match self {
            Self::V4 => 576,
            Self::V6 => 1280,
        }
    }
}

/// Which end listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The stack listens, the kernel connects.
    StackListens,
    /// The kernel listens, the stack connects.
    KernelListens,
}

impl Role {
    /// Both.
    pub const ALL: [Self; 2] = [Self::StackListens, Self::KernelListens];
}
