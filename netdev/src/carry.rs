//! Packets from one device to another.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;

use crate::device::{Receiver, Transmitter};

/// Packets that are taken from a device at once.
const BATCH: usize = 64;

/// Carries what `from` receives to `to`, until `from` ends. While `to` takes nothing, nothing is received: a queue that
/// drops is the devices' matter.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// use std::collections::VecDeque;
/// use std::future::poll_fn;
///
/// use tidewire_netdev::memory::{PairConfig, pair};
/// use tidewire_netdev::{Packet, carry};
///
/// let (a, mut b) = pair(PairConfig::default());
/// let (mut c, d) = pair(PairConfig::default());
/// tokio::spawn(carry(d.receiver, a.transmitter));
/// c.transmitter.try_transmit(&mut VecDeque::from([Packet::from_header(b"a packet")]))?;
/// let mut batch = Vec::new();
/// poll_fn(|cx| b.receiver.poll_receive(cx, &mut batch, 8)).await?;
/// assert_eq!(batch[0].to_bytes(), &b"a packet"[..]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// Those of the devices, but for a device that is full and a link that is down, which are waited for.
pub async fn carry(mut from: Box<dyn Receiver>, to: Box<dyn Transmitter>) -> io::Result<()> {
    let (mut batch, mut queue) = (Vec::new(), VecDeque::new());
    while poll_fn(|cx| from.poll_receive(cx, &mut batch, BATCH)).await? > 0 {
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
