//! Counts what passes an interface, and how large it was.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tidewire_netdev::{Device, DeviceQueue, Packet, Receiver, Transmitter};

/// What passed an interface.
#[derive(Debug, Default)]
pub struct Meter {
    reads: AtomicU64,
    largest_read: AtomicU64,
    writes: AtomicU64,
    largest_write: AtomicU64,
}

impl Meter {
    /// The largest packet that the kernel gave us in one read, in octets, IP header included.
    pub fn largest_read(&self) -> u64 {
        self.largest_read.load(Ordering::Relaxed)
    }

    /// The largest packet that the kernel took from us in one write, in octets, IP header included.
    pub fn largest_write(&self) -> u64 {
        self.largest_write.load(Ordering::Relaxed)
    }

    /// Packets read.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Packets written.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }
}

pub(super) fn metered(device: Device, meter: &Arc<Meter>) -> Device {
    device.map_queues(|queue| DeviceQueue {
        receiver: Box::new(MeteredReceiver {
            inner: queue.receiver,
            meter: Arc::clone(meter),
        }),
        transmitter: Box::new(MeteredTransmitter {
            inner: queue.transmitter,
            meter: Arc::clone(meter),
        }),
    })
}

struct MeteredReceiver {
    inner: Box<dyn Receiver>,
    meter: Arc<Meter>,
}

impl Receiver for MeteredReceiver {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Packet>,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let before = batch.len();
        let result = self.inner.poll_receive(cx, batch, limit);
        for packet in batch.iter().skip(before) {
            self.meter.reads.fetch_add(1, Ordering::Relaxed);
            self.meter
                .largest_read
                .fetch_max(packet.len() as u64, Ordering::Relaxed);
        }
        result
    }
}

struct MeteredTransmitter {
    inner: Box<dyn Transmitter>,
    meter: Arc<Meter>,
}

impl Transmitter for MeteredTransmitter {
    fn try_transmit(&self, queue: &mut VecDeque<Packet>) -> io::Result<()> {
        let lens: Vec<u64> = queue.iter().map(|packet| packet.len() as u64).collect();
        let result = self.inner.try_transmit(queue);
        for len in &lens[..lens.len() - queue.len()] {
            self.meter.writes.fetch_add(1, Ordering::Relaxed);
            self.meter.largest_write.fetch_max(*len, Ordering::Relaxed);
        }
        result
    }

    fn poll_transmit_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_transmit_ready(cx)
    }
}
