//! Linux devices.
//!
//! Owns the way from and to the kernel: [`Tun`], an interface whose other side is this process. Leaves to others
//! the meaning of what is in the packets, cutting super-packets the kernel does not take
//! ([`crate::segmentation`]), and the virtio-net header's layout ([`crate::virtio_header`]).

mod sys;
mod tun;

pub use sys::unshare_network;
pub use tun::{Tun, TunConfig, TunCounters, TunStatistics};
