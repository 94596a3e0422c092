//! One connection against a scripted peer: segments in and out, the application's copies.

use std::sync::Arc;

use bytes::Bytes;
use criterion::Criterion;
use tidewire::tcp::config::SocketOptions;
use tidewire::tcp::{Config, Connection, OpenParameters, Segment, SeqNum, TransmitLimits};
use tidewire::time::Instant;
use tidewire::wire::Ecn;
use tidewire::wire::tcp::{Flags, Header, Options, Timestamps};
use tidewire_netdev::Payload;

use crate::samples::{Size, in_batches, timed, tuple};

/// Things done between two looks at the clock: a receive batch of the driver, or 1 MiB.
const fn batch(size: Size) -> usize {
    match size {
        Size::Super => 16,
        Size::Mtu => 64,
    }
}

pub(crate) fn measure(criterion: &mut Criterion) {
    for size in Size::ALL {
        receiving(criterion, size);
        sending(criterion, size);
    }
}

/// Segments in order, and what the application reads of them.
fn receiving(criterion: &mut Criterion, size: Size) {
    let (len, _) = size.octets(false);
    let count = batch(size);
    let mut peer = Peer::connected();
    let data = Bytes::from(vec![7; len]);
    criterion.bench_function(
        &format!("tcp_handle_segment/{}/in_order", size.name()),
        |bencher| {
            in_batches(bencher, count, || {
                let segments = peer.segments(size, &data, count);
                let (time, ()) = timed(|| {
                    for segment in segments {
                        let taken = peer.connection.handle_segment(peer.now, segment);
                        taken.expect("in order");
                    }
                });
                while peer.connection.read_chunk(usize::MAX).is_ok() {}
                peer.settle();
                time
            });
        },
    );
    let mut buffer = vec![0; len];
    criterion.bench_function(&format!("read/{}/copy", size.name()), |bencher| {
        in_batches(bencher, count, || {
            for segment in peer.segments(size, &data, count) {
                let taken = peer.connection.handle_segment(peer.now, segment);
                taken.expect("in order");
            }
            let (time, ()) = timed(|| {
                for _ in 0..count {
                    assert_eq!(peer.connection.read(&mut buffer), Ok(len));
                }
            });
            peer.settle();
            time
        });
    });
}

/// Data from the application, out as segments, and the ACK that comes back for each.
fn sending(criterion: &mut Criterion, size: Size) {
    let (len, _) = size.octets(false);
    let count = batch(size);
    let data = vec![7; len];
    let mut peer = Peer::connected();
    peer.limits.max_super_payload = match size {
        Size::Super => 65_415,
        Size::Mtu => 0,
    };
    criterion.bench_function(&format!("write/{}/copy", size.name()), |bencher| {
        in_batches(bencher, count, || {
            let (time, ()) = timed(|| {
                for _ in 0..count {
                    assert_eq!(peer.connection.write(&data), Ok(len));
                }
            });
            let transmits = peer.transmits();
            // An octet short, so that the buffer keeps its memory as it does while data flows.
            peer.acknowledge(transmits, 1);
            time
        });
    });
    criterion.bench_function(
        &format!("tcp_poll_transmit/{}/data", size.name()),
        |bencher| {
            in_batches(bencher, count, || {
                for _ in 0..count {
                    assert_eq!(peer.connection.write(&data), Ok(len));
                }
                let (time, transmits) = timed(|| peer.transmits());
                assert!(transmits.abs_diff(count) <= 1);
                peer.acknowledge(transmits, 1);
                time
            });
        },
    );
    criterion.bench_function(
        &format!("tcp_handle_segment/{}/ack", size.name()),
        |bencher| {
            in_batches(bencher, count, || {
                let mut acks = Vec::with_capacity(count);
                for _ in 0..count {
                    assert_eq!(peer.connection.write(&data), Ok(len));
                    peer.transmits();
                    acks.push(peer.segment(peer.sent, Payload::new(), 0));
                }
                let (time, ()) = timed(|| {
                    for ack in acks {
                        let taken = peer.connection.handle_segment(peer.now, ack);
                        taken.expect("an ACK of what was sent");
                    }
                });
                time
            });
        },
    );
}

/// A connection and what its peer knows.
struct Peer {
    connection: Connection,
    limits: TransmitLimits,
    now: Instant,
    /// The peer's next sequence number.
    sequence: u32,
    /// Behind the last octet of the connection's that it has seen.
    sent: SeqNum,
}

impl Peer {
    fn connected() -> Self {
        let config = Config {
            // No congestion window in the way.
            initial_window: 20_000,
            receive_buffer: 16 << 20,
            send_buffer: 16 << 20,
            ..Config::default()
        };
        let now = Instant::from_millis(1);
        let connection = Connection::open(
            now,
            OpenParameters {
                config: Arc::new(config),
                options: Arc::new(SocketOptions {
                    nodelay: true,
                    ..SocketOptions::default()
                }),
                tuple: tuple(false),
                iss: SeqNum(0),
                timestamp_offset: 0,
                path_mtu: 1500,
            },
        );
        let mut peer = Self {
            connection,
            limits: TransmitLimits {
                path_mtu: 1500,
                ip_header_len: 20,
                max_super_payload: 65_415,
            },
            now,
            sequence: 5000,
            sent: SeqNum(1),
        };
        assert_eq!(peer.transmits(), 1, "the SYN");
        peer.sent = SeqNum(1);
        let mut answer = peer.segment(peer.sent, Payload::new(), 0);
        answer.header.flags = Flags::SYN | Flags::ACK;
        answer.header.options = Options {
            mss: Some(1460),
            window_scale: Some(14),
            sack_permitted: true,
            ..answer.header.options
        };
        peer.connection
            .handle_segment(peer.now, answer)
            .expect("an answer to the SYN");
        peer.sequence += 1;
        peer.settle();
        // The window of a SYN is never scaled: the next one counts.
        let ack = peer.segment(peer.sent, Payload::new(), 0);
        let taken = peer.connection.handle_segment(peer.now, ack);
        taken.expect("an ACK of the SYN");
        peer
    }

    /// A segment with `payload` at the peer's next sequence number.
    fn segment(&self, acknowledgment: SeqNum, payload: Payload, segment_size: usize) -> Segment {
        let tuple = tuple(false);
        Segment {
            header: Header {
                source_port: tuple.remote.port(),
                destination_port: tuple.local.port(),
                sequence: self.sequence,
                acknowledgment: acknowledgment.0,
                flags: Flags::ACK,
                window: 32_000,
                urgent: 0,
                options: Options {
                    timestamps: Some(Timestamps { value: 1, echo: 1 }),
                    ..Options::default()
                },
            },
            payload,
            segment_size,
            ecn: Ecn::NotEct,
        }
    }

    /// The peer's next segments with `data` each.
    fn segments(&mut self, size: Size, data: &Bytes, count: usize) -> Vec<Segment> {
        let (len, segment_size) = size.octets(false);
        let segments = (0..count).map(|_| {
            let payload = Payload::from_iter([data.clone()]);
            let segment = self.segment(self.sent, payload, segment_size);
            self.sequence = self.sequence.wrapping_add(len as u32);
            segment
        });
        segments.collect()
    }

    /// Takes all there is to send; how many segments or super-packets that was.
    fn transmits(&mut self) -> usize {
        let mut count = 0;
        while let Some(transmit) = self.connection.poll_transmit(self.now, &self.limits) {
            let len: usize = transmit.payload.iter().map(Bytes::len).sum();
            self.sent = SeqNum(transmit.header.sequence) + len as u32;
            count += 1;
        }
        count
    }

    /// Acknowledges all that was sent, but for `short` octets, if anything was.
    fn acknowledge(&mut self, transmits: usize, short: u32) {
        if transmits > 0 {
            let ack = self.segment(self.sent - short, Payload::new(), 0);
            let taken = self.connection.handle_segment(self.now, ack);
            taken.expect("an ACK of what was sent");
        }
    }

    /// Sends the ACKs that are due.
    fn settle(&mut self) {
        self.transmits();
    }
}
