//! One direction of an in-memory link between devices of several queues: a channel from each queue to each.
//!
//! ```text
//!  transmitter 0 ─┬─▶ channel 0→0 ──┬─▶ receiver 0
//!                 └─▶ channel 0→1 ─┐│
//!  transmitter 1 ─┬─▶ channel 1→0 ─┼┘
//!                 └─▶ channel 1→1 ─┴──▶ receiver 1
//! ```
//!
//! The flow hash names the receiver, so a flow always arrives on one queue. Queues share no lock, only what two of
//! them have between them. A transmitter whose front packet finds its channel full waits for that receiver with all
//! that stands behind: passing it by could let a flow overtake itself.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll};

use super::channel::{ChannelReceiver, ChannelTransmitter, channel};
use super::pair::PairConfig;
use crate::device::{Medium, Receiver, Transmitter};
use crate::flow_hash::packet_flow_hash;
use crate::packet::Packet;

/// The transmitters of one side and the receivers of the other, as many of each as `config` has queues.
pub(super) fn mesh(config: &PairConfig) -> (Vec<MeshTransmitter>, Vec<MeshReceiver>) {
    let mut receivers: Vec<_> = (0..config.queues)
        .map(|_| MeshReceiver {
            inner: Vec::with_capacity(config.queues),
            next: 0,
        })
        .collect();
    let transmitters = (0..config.queues)
        .map(|_| MeshTransmitter {
            medium: config.medium,
            outer: receivers
                .iter_mut()
                .map(|receiver| {
                    let (transmitter, inner) = channel(config.queue_packets, config.queue_bytes);
                    receiver.inner.push(inner);
                    transmitter
                })
                .collect(),
        })
        .collect();
    (transmitters, receivers)
}

/// The sending end of one queue.
#[derive(Debug)]
pub(super) struct MeshTransmitter {
    medium: Medium,
    /// One per queue of the other side.
    outer: Vec<ChannelTransmitter>,
}

impl MeshTransmitter {
    fn queue_of(&self, packet: &Packet) -> usize {
        packet_flow_hash(packet.contiguous(), self.medium) as usize % self.outer.len()
    }
}

impl Transmitter for MeshTransmitter {
    fn try_transmit(&self, queue: &mut VecDeque<Packet>) -> io::Result<()> {
        while let Some(packet) = queue.front() {
            let chosen = self.queue_of(packet);
            // The first one's hash is known.
            let mut is_first = true;
            self.outer[chosen].try_transmit_while(queue, |packet| {
                std::mem::take(&mut is_first) || self.queue_of(packet) == chosen
            })?;
        }
        Ok(())
    }

    fn poll_transmit_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // At most one has refused a packet, and only that one is waited for.
        for transmitter in &self.outer {
            match transmitter.poll_transmit_ready(cx) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The receiving end of one queue.
#[derive(Debug)]
pub(super) struct MeshReceiver {
    /// One per queue of the other side.
    inner: Vec<ChannelReceiver>,
    /// Who is asked first, so that a busy queue does not starve the others.
    next: usize,
}

impl Receiver for MeshReceiver {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Packet>,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let limit = limit.max(1);
        let mut count = 0;
        let mut is_ended = true;
        let queues = self.inner.len();
        let first = self.next;
        for index in (first..queues).chain(0..first) {
            match self.inner[index].poll_receive(cx, batch, limit - count) {
                Poll::Ready(Ok(0)) => {}
                Poll::Ready(Ok(received)) => {
                    count += received;
                    is_ended = false;
                    self.next = (index + 1) % queues;
                    if count == limit {
                        break;
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => is_ended = false,
            }
        }
        if count > 0 || is_ended {
            Poll::Ready(Ok(count))
        } else {
            Poll::Pending
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::super::pair;
    use super::*;
    use crate::device::{Device, DeviceQueue};
    use crate::errno::ENODEV;
    use crate::test_packets::Spec;

    fn flow(port: u16, sequence: u32) -> Packet {
        let mut packet = Spec {
            slices: vec![100],
            segment_size: 0,
            sequence,
            ..Spec::default()
        }
        .build();
        packet.overwrite(20, &port.to_be_bytes());
        packet
    }

    fn queues(device: Device) -> Vec<DeviceQueue> {
        let first = DeviceQueue {
            receiver: device.receiver,
            transmitter: device.transmitter,
        };
        std::iter::once(first).chain(device.more_queues).collect()
    }

    fn config(queues: usize, queue_packets: usize) -> PairConfig {
        PairConfig {
            queues,
            queue_packets,
            ..PairConfig::default()
        }
    }

    /// The source ports and sequence numbers of what waits.
    fn received(queue: &mut DeviceQueue, limit: usize) -> Option<Vec<(u16, u32)>> {
        let mut batch = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        match queue.receiver.poll_receive(&mut cx, &mut batch, limit) {
            Poll::Pending => return None,
            Poll::Ready(count) => assert_eq!(count.expect("no error"), batch.len()),
        }
        let fields = batch.iter().map(|packet| {
            let octets = packet.to_bytes();
            let word = |at: usize| u16::from_be_bytes([octets[at], octets[at + 1]]);
            (word(20), u32::from(word(24)) << 16 | u32::from(word(26)))
        });
        Some(fields.collect())
    }

    #[test]
    fn a_flow_arrives_on_one_queue_in_the_order_of_its_sender() {
        let (a, b) = pair(config(3, 1024));
        let (a, mut b) = (queues(a), queues(b));
        assert_eq!((a.len(), b.len()), (3, 3));
        for (index, sender) in a.iter().enumerate() {
            // Flows interleaved, each sender with flows of its own.
            let mut queue: VecDeque<Packet> = (0..600)
                .map(|n| flow(1000 * index as u16 + (n % 20) as u16, n))
                .collect();
            sender.transmitter.try_transmit(&mut queue).expect("room");
        }
        let mut total = 0;
        let mut owners = std::collections::BTreeMap::new();
        for (index, receiver) in b.iter_mut().enumerate() {
            let mut last = std::collections::BTreeMap::new();
            let mut count = 0;
            while let Some(batch) = received(receiver, 7) {
                assert!(batch.len() <= 7);
                for (port, sequence) in batch {
                    assert_eq!(*owners.entry(port).or_insert(index), index);
                    assert!(last.insert(port, sequence) < Some(sequence));
                    count += 1;
                }
            }
            assert!(count > 300, "queue {index} got {count}");
            total += count;
        }
        assert_eq!(total, 1800);
    }

    #[test]
    fn a_full_queue_holds_back_its_sender_and_no_other() {
        let (a, b) = pair(config(2, 4));
        let (a, mut b) = (queues(a), queues(b));
        let mut queue: VecDeque<Packet> = (0..10).map(|n| flow(7, n)).collect();
        let error = a[0].transmitter.try_transmit(&mut queue);
        assert_eq!(error.expect_err("full").kind(), io::ErrorKind::WouldBlock);
        assert_eq!(queue.len(), 6);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(a[0].transmitter.poll_transmit_ready(&mut cx).is_pending());
        assert!(a[1].transmitter.poll_transmit_ready(&mut cx).is_ready());
        let mut other: VecDeque<Packet> = (0..4).map(|n| flow(7, n)).collect();
        a[1].transmitter.try_transmit(&mut other).expect("room");

        let receiver = b
            .iter_mut()
            .find_map(|queue| received(queue, 64))
            .expect("one queue has it all");
        assert_eq!(receiver.len(), 8);
        assert!(a[0].transmitter.poll_transmit_ready(&mut cx).is_ready());
        assert!(a[0].transmitter.try_transmit(&mut queue).is_err());
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn a_dropped_device_ends_every_queue_of_the_other() {
        let (a, b) = pair(config(2, 64));
        let mut a = queues(a);
        let mut queue: VecDeque<Packet> = (0..8).map(|n| flow(n as u16, n)).collect();
        b.transmitter.try_transmit(&mut queue).expect("room");
        drop(b);
        let mut count = 0;
        for queue in &mut a {
            loop {
                match received(queue, 64) {
                    Some(batch) if batch.is_empty() => break,
                    Some(batch) => count += batch.len(),
                    None => panic!("the other side is gone"),
                }
            }
            let mut packets = VecDeque::from([flow(1, 1)]);
            let error = queue.transmitter.try_transmit(&mut packets);
            assert_eq!(error.expect_err("gone").raw_os_error(), Some(ENODEV));
        }
        assert_eq!(count, 8);
    }
}
