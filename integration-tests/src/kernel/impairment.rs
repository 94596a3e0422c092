//! A path between the interface and the stack that delays, loses, reorders.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;

use tidewire_netdev::memory::{ImpairmentConfig, PairConfig, impaired_pair};
use tidewire_netdev::{Device, OffloadSet, Receiver, Transmitter};

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

/// Ends when either side does.
async fn carry(mut from: Box<dyn Receiver>, to: Box<dyn Transmitter>) -> io::Result<()> {
    let (mut batch, mut queue) = (Vec::new(), VecDeque::new());
    while poll_fn(|cx| from.poll_receive(cx, &mut batch, 64)).await? > 0 {
        queue.extend(batch.drain(..));
        while !queue.is_empty() {
            match to.try_transmit(&mut queue) {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::NetworkDown
                    ) =>
                {
                    poll_fn(|cx| to.poll_transmit_ready(cx)).await?;
                }
                result => result?,
            }
        }
    }
    Ok(())
}
