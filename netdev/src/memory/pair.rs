//! Two devices joined back to back: what one transmits, the other receives, by reference.
//!
//! With all offloads (the default) a super-packet crosses as one value, without copying a payload octet or touching a
//! checksum. Restricting [`PairConfig::offloads`] makes the stacks above do that work, as over a plain device. The pair
//! carries what it is given: policing sizes, losing and delaying is what [`super::impaired_pair`] is for.
//!
//! With several queues ([`PairConfig::queues`]) every flow arrives on the queue that its
//! [hash](crate::flow_hash) names, in the order in which each queue of the other side sent it.

use super::channel::channel;
use super::mesh::{MeshReceiver, MeshTransmitter, mesh};
use crate::device::{Capabilities, Device, DeviceQueue, Medium, OffloadSet};

/// How two joined devices look.
#[derive(Clone, Debug)]
pub struct PairConfig {
    /// The devices' names. Default: `memory0` and `memory1`.
    pub names: [String; 2],
    /// What packets begin with. Default: an IP header.
    pub medium: Medium,
    /// The largest network-layer packet in octets. Default: 1500.
    pub mtu: usize,
    /// What crosses undone. Default: everything.
    pub offloads: OffloadSet,
    /// The largest super-packet in octets, network header included. Default: 65,535.
    pub max_super_packet: usize,
    /// The most packets that wait per direction; the transmitter then sees `WouldBlock`. With several queues, the
    /// most that wait between one queue and one of the other side. Default: 1024.
    pub queue_packets: usize,
    /// The most octets that wait, likewise. Default: 4 MiB.
    pub queue_bytes: usize,
    /// How many queues each device has; 0 counts as 1. An impaired pair has one in any case, since its packets share
    /// one path. Default: 1.
    pub queues: usize,
    /// Whether an impaired pair joins what arrives together into [super-packets](crate::coalescing) again; another
    /// pair has never cut them. Default: no.
    pub coalesce: bool,
}

impl Default for PairConfig {
    fn default() -> Self {
        Self {
            names: ["memory0".to_owned(), "memory1".to_owned()],
            medium: Medium::Ip,
            mtu: 1500,
            offloads: OffloadSet::ALL,
            max_super_packet: 65_535,
            queue_packets: 1024,
            queue_bytes: 4 << 20,
            queues: 1,
            coalesce: false,
        }
    }
}

impl PairConfig {
    pub(super) fn capabilities(&self) -> Capabilities {
        Capabilities {
            medium: self.medium,
            mtu: self.mtu,
            offloads: self.offloads,
            max_super_packet: self.max_super_packet.min(65_535),
        }
    }
}

/// Two devices joined back to back. They need no runtime.
///
/// When one is dropped, the other receives what is still under way and then the end; its transmissions fail with
/// `ENODEV`.
pub fn pair(config: PairConfig) -> (Device, Device) {
    let capabilities = config.capabilities();
    let [a_name, b_name] = config.names.clone();
    if config.queues > 1 {
        let (a_out, b_in) = mesh(&config);
        let (b_out, a_in) = mesh(&config);
        let device = |name, receivers: Vec<_>, transmitters: Vec<_>| {
            let queues = receivers.into_iter().zip(transmitters);
            device_of_queues(name, queues, capabilities.clone())
        };
        return (device(a_name, a_in, a_out), device(b_name, b_in, b_out));
    }
    let (a_out, b_in) = channel(config.queue_packets, config.queue_bytes);
    let (b_out, a_in) = channel(config.queue_packets, config.queue_bytes);
    let a = Device::new(a_name, a_in, a_out, capabilities.clone());
    let b = Device::new(b_name, b_in, b_out, capabilities);
    (a, b)
}

fn device_of_queues(
    name: String,
    queues: impl IntoIterator<Item = (MeshReceiver, MeshTransmitter)>,
    capabilities: Capabilities,
) -> Device {
    let mut queues = queues.into_iter();
    let (receiver, transmitter) = queues.next().expect("a mesh has at least one queue");
    let mut device = Device::new(name, receiver, transmitter, capabilities);
    device.more_queues = queues
        .map(|(receiver, transmitter)| DeviceQueue {
            receiver: Box::new(receiver),
            transmitter: Box::new(transmitter),
        })
        .collect();
    device
}

#[cfg(test)]
mod tests;
