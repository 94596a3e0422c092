//! Whole engines: a packet's whole way in, and its whole way out.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use criterion::Criterion;
use tidewire::engine::{FlushOutcome, Ports, TcpSlot, WakeList};
use tidewire::ip::InterfaceId;
use tidewire::tcp;
use tidewire_integration_tests::cable::{Cable, CableConfig, read};
use tidewire_integration_tests::world::{Side, write};
use tidewire_netdev::{Checksum, Medium, OffloadSet, Packet};

use crate::samples::{Size, in_batches, received, timed, version};

pub(crate) fn measure(criterion: &mut Criterion) {
    for (medium, link) in [(Medium::Ip, ""), (Medium::Ethernet, "_ethernet")] {
        for v6 in [false, true] {
            let mut lines = Lines::new(medium, OffloadSet::ALL, v6, 1);
            let variant = format!("offload_{}{link}", version(v6));
            lines.measure_egress(criterion, Size::Super, &variant);
            lines.measure_ingress(criterion, Size::Super, &variant);
            lines.measure_acks(criterion, &variant);
        }
    }
    for v6 in [false, true] {
        let variant = format!("software_{}", version(v6));
        let mut lines = Lines::new(Medium::Ip, OffloadSet::NONE, v6, 1);
        lines.measure_egress(criterion, Size::Super, &variant);
        lines.measure_ingress(criterion, Size::Mtu, &variant);
    }
    for (medium, link) in [(Medium::Ip, ""), (Medium::Ethernet, "_ethernet")] {
        // One packet of each of 64 connections, since one connection would make a super-packet of them.
        let mut lines = Lines::new(medium, OffloadSet::ALL, false, 64);
        lines.measure_egress(criterion, Size::Mtu, &format!("offload_v4{link}"));
        lines.measure_ingress(criterion, Size::Mtu, &format!("64_flows_v4{link}"));
    }
    let mut lines = Lines::new(Medium::Ip, OffloadSet::NONE, false, 64);
    lines.measure_egress(criterion, Size::Mtu, "software_v4");
    let mut lines = Lines::new(Medium::Ip, OffloadSet::NONE, false, 1);
    lines.verified = true;
    lines.measure_ingress(criterion, Size::Mtu, "verified_v4");
}

/// Packets between two looks at the clock.
const MTU_BATCH: usize = 64;
const SUPER_BATCH: usize = 16;

/// A device that takes everything and keeps it.
struct Sink(RefCell<Vec<Packet>>);

impl Ports for Sink {
    fn try_transmit(
        &self,
        _: InterfaceId,
        _: usize,
        queue: &mut VecDeque<Packet>,
    ) -> io::Result<()> {
        self.0.borrow_mut().extend(queue.drain(..));
        Ok(())
    }
}

/// Two engines with connections from A to B.
struct Lines {
    cable: Cable,
    connections: Vec<(Arc<TcpSlot>, Arc<TcpSlot>)>,
    wakes: WakeList,
    buffer: Vec<u8>,
    data: Vec<u8>,
    v6: bool,
    /// B's device verifies checksums, although A's completes none.
    verified: bool,
}

impl Lines {
    fn new(medium: Medium, offloads: OffloadSet, v6: bool, count: usize) -> Self {
        let mut cable = Cable::new(&CableConfig {
            medium,
            offloads,
            tcp: tcp::Config {
                // No congestion window in the way.
                initial_window: 20_000,
                receive_buffer: 16 << 20,
                send_buffer: 16 << 20,
                ..tcp::Config::default()
            },
            ..CableConfig::default()
        });
        let listener = cable.listen(v6, 80);
        let remote = (Side::B.address(v6), 80).into();
        let connections = (0..count)
            .map(|_| cable.connect(&listener, remote))
            .collect();
        let mut lines = Self {
            cable,
            connections,
            wakes: WakeList::new(),
            buffer: vec![0; 1 << 20],
            data: vec![7; 1 << 20],
            v6,
            verified: false,
        };
        // The window of a SYN is never scaled: A learns the real one from an ACK.
        lines.exchange(Size::Mtu, count);
        lines
    }

    /// A has data for `count` packets, spread over its connections.
    fn write(&self, size: Size, count: usize) {
        let (len, _) = size.octets(self.v6);
        let each = len * count / self.connections.len();
        for (client, _) in &self.connections {
            let written = write(self.cable.engine(Side::A), client, &self.data[..each]);
            assert_eq!(written, each, "there is room");
        }
    }

    /// All that a side has to send now, and how long that took.
    fn flush(&mut self, side: Side) -> (Duration, Vec<Packet>) {
        let sink = Sink(RefCell::new(Vec::with_capacity(1024)));
        let (engine, now) = (self.cable.engine(side), self.cable.now());
        let (time, ()) =
            timed(
                || {
                    while engine.flush(now, &sink, &mut self.wakes) == FlushOutcome::Unfinished {}
                },
            );
        (time, sink.0.into_inner())
    }

    /// Gives packets to a side; how long that took.
    fn receive(&mut self, side: Side, packets: Vec<Packet>) -> Duration {
        let mut batch: Vec<_> = packets.iter().map(received).collect();
        drop(packets);
        if self.verified {
            for packet in &mut batch {
                packet.offload.checksum = Checksum::Verified;
            }
        }
        self.cable.pass(Duration::from_micros(10));
        let (engine, now) = (self.cable.engine(side), self.cable.now());
        let interface = self.cable.interface(side);
        let (time, ()) = timed(|| engine.receive(now, interface, &mut batch, &mut self.wakes));
        time
    }

    /// B's applications read all.
    fn read(&mut self) {
        for (_, server) in &self.connections {
            while read(self.cable.engine(Side::B), server, &mut self.buffer).is_some() {}
        }
    }

    /// A sends, B receives, B acknowledges: how long each took, and how many packets A and B sent.
    fn exchange(&mut self, size: Size, count: usize) -> Exchange {
        self.write(size, count);
        let (egress, packets) = self.flush(Side::A);
        let sent = packets.len();
        let ingress = self.receive(Side::B, packets);
        self.read();
        let (_, acks) = self.flush(Side::B);
        let acknowledged = acks.len();
        let acks = self.receive(Side::A, acks);
        Exchange {
            egress,
            ingress,
            acks,
            sent,
            acknowledged,
        }
    }

    fn measure_egress(&mut self, criterion: &mut Criterion, size: Size, variant: &str) {
        let count = batch(size);
        let id = format!("engine_flush/{}/{variant}", size.name());
        criterion.bench_function(&id, |bencher| {
            in_batches(bencher, count, || self.exchange(size, count).egress);
        });
    }

    fn measure_ingress(&mut self, criterion: &mut Criterion, size: Size, variant: &str) {
        let count = batch(size);
        let id = format!("engine_receive/{}/{variant}", size.name());
        criterion.bench_function(&id, |bencher| {
            in_batches(bencher, count, || {
                let exchange = self.exchange(size, count);
                assert_eq!(exchange.sent, count, "as many packets as it says");
                exchange.ingress
            });
        });
    }

    /// One ACK for one super-packet.
    fn measure_acks(&mut self, criterion: &mut Criterion, variant: &str) {
        let id = format!("engine_receive/ack/{variant}");
        criterion.bench_function(&id, |bencher| {
            in_batches(bencher, 1, || {
                let exchange = self.exchange(Size::Super, 1);
                assert_eq!(exchange.acknowledged, 1);
                exchange.acks
            });
        });
    }
}

struct Exchange {
    egress: Duration,
    ingress: Duration,
    acks: Duration,
    sent: usize,
    acknowledged: usize,
}

const fn batch(size: Size) -> usize {
    match size {
        Size::Super => SUPER_BATCH,
        Size::Mtu => MTU_BATCH,
    }
}
