//! A path between the interface and the stack that delays, loses, reorders.

use tidewire_netdev::memory::{ImpairmentConfig, PairConfig, impaired_pair};
use tidewire_netdev::{Device, OffloadSet, carry};

/// The device at the far end of a path; a task carries packets between the path and `device`.
pub(super) fn impaired(device: Device, impairment: &ImpairmentConfig) -> Device {
    let config = PairConfig {
        mtu: device.capabilities.mtu,
        offloads: OffloadSet::ALL,
        ..PairConfig::default()
    };
    let (near, far) = impaired_pair(config, impairment.clone(), impairment.clone(), 7);
    tokio::spawn(carry(device.receiver, near.transmitter));
    tokio::spawn(carry(near.receiver, device.transmitter));
    far
}
