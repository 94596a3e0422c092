//! Linux devices.
//!
//! Owns the way from and to the kernel:
//!
//! | device | what it is |
//! |---|---|
//! | [`Tun`] | an interface whose wire is this process: network packets |
//! | [`Tap`] | the same as Ethernet: this process is the station at the other end of the cable |
//! | [`PacketSocket`] | an Ethernet interface that is there already: this process is one more station on its link |
//!
//! They share the descriptor's two halves, which move packets in batches and turn what the kernel does not take into
//! back-pressure. Leaves to others the meaning of what is in the packets, cutting super-packets the kernel does not take
//! ([`crate::segmentation`]), and the virtio-net header's layout ([`crate::virtio_header`]).

mod block_reader;
mod counters;
mod filter;
mod packet_socket;
mod queue;
mod receiver;
mod sys;
mod tap;
mod transmitter;
mod tun;
mod tuntap;

use std::io;

use crate::device::{Capabilities, Device, DeviceQueue};
use crate::mac::MacAddress;

pub use counters::{InterfaceCounters, InterfaceStatistics, TunCounters, TunStatistics};
pub use packet_socket::{PacketConfig, PacketSocket};
pub use sys::unshare_network;
pub use tap::{Tap, TapConfig};
pub use tun::{Tun, TunConfig};

use receiver::KernelReceiver;
use transmitter::KernelTransmitter;

/// A device of the halves of its queues.
fn device(
    name: String,
    halves: Vec<(KernelReceiver, KernelTransmitter)>,
    hardware_address: Option<MacAddress>,
    capabilities: Capabilities,
) -> io::Result<Device> {
    let mut halves = halves.into_iter();
    let (receiver, transmitter) = halves.next().ok_or(io::ErrorKind::InvalidInput)?;
    let mut device = Device::new(name, receiver, transmitter, capabilities);
    device.hardware_address = hardware_address;
    device.more_queues = halves
        .map(|(receiver, transmitter)| DeviceQueue {
            receiver: Box::new(receiver),
            transmitter: Box::new(transmitter),
        })
        .collect();
    Ok(device)
}

/// An error with what could not be done before it and what to do about it behind.
fn explained(error: &io::Error, what: &str, advice: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}: {advice}"))
}
