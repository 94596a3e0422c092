//! Below the stack: virtio headers, checksums, cutting and joining.

use std::collections::VecDeque;
use std::hint::black_box;

use criterion::{BatchSize, Criterion};
use tidewire_netdev::checksum::sum_packet;
use tidewire_netdev::coalescing::{Coalescer, CoalescingConfig};
use tidewire_netdev::segmentation::{CutChecksum, complete_checksum, prepare, segment};
use tidewire_netdev::virtio_header::{decode, encode};
use tidewire_netdev::{Capabilities, Checksum, Medium, OffloadSet, Packet};

use crate::samples::{self, INPUTS, Size, pseudo_header, received, tuple, version};

pub(crate) fn measure(criterion: &mut Criterion) {
    for size in Size::ALL {
        for v6 in [false, true] {
            virtio_header(criterion, size, v6);
            checksum(criterion, size, v6);
            segmentation(criterion, size, v6);
        }
    }
    coalescing(criterion);
}

fn virtio_header(criterion: &mut Criterion, size: Size, v6: bool) {
    let packet = samples::packet(size, v6, Medium::Ip);
    let variant = format!("{}/{}", size.name(), version(v6));
    criterion.bench_function(&format!("virtio_encode/{variant}"), |bencher| {
        bencher.iter(|| encode(black_box(&packet)));
    });
    let (header, octets) = (encode(&packet), packet.to_bytes());
    criterion.bench_function(&format!("virtio_decode/{variant}"), |bencher| {
        bencher.iter(|| decode(black_box(&header), black_box(&octets), Medium::Ip));
    });
}

/// What `engine::ingress` does with a checksum that nobody has verified, and `engine::tcp_egress` with one to be left
/// partial.
fn checksum(criterion: &mut Criterion, size: Size, v6: bool) {
    let variant = format!("{}/{}", size.name(), version(v6));
    let mut packet = samples::segment(size, v6);
    complete_checksum(&mut packet).expect("the field is there");
    let packet = received(&packet);
    let (source, destination) = (tuple(v6).local.ip(), tuple(v6).remote.ip());
    criterion.bench_function(&format!("checksum_verify/{variant}"), |bencher| {
        bencher.iter(|| {
            let packet = black_box(&packet);
            let mut sum = pseudo_header(source, destination, packet.len());
            sum.add_u16(sum_packet(packet, 0).fold());
            sum.finish()
        });
    });
    criterion.bench_function(&format!("checksum_partial/{variant}"), |bencher| {
        bencher.iter(|| pseudo_header(black_box(source), destination, packet.len()).fold());
    });
}

fn segmentation(criterion: &mut Criterion, size: Size, v6: bool) {
    let packet = samples::packet(size, v6, Medium::Ip);
    for (name, offloads) in [("offload", OffloadSet::ALL), ("software", OffloadSet::NONE)] {
        let capabilities = Capabilities {
            medium: Medium::Ip,
            mtu: 1500,
            offloads,
            max_super_packet: 65_535,
        };
        let id = format!(
            "segmentation_prepare/{}/{name}_{}",
            size.name(),
            version(v6)
        );
        criterion.bench_function(&id, |bencher| {
            bencher.iter_batched(
                || (packet.clone(), VecDeque::with_capacity(64)),
                |(mut packet, mut queue)| {
                    prepare(&mut packet, &capabilities, &mut queue).expect("a packet of ours");
                    queue
                },
                INPUTS,
            );
        });
    }
}

/// Joins a super-packet's segments again; the time is that of all of them.
fn coalescing(criterion: &mut Criterion) {
    for v6 in [false, true] {
        let mut wire = Vec::new();
        let whole = samples::packet(Size::Super, v6, Medium::Ip);
        segment(whole, Medium::Ip, CutChecksum::Complete, |packet| {
            wire.push(received(&packet));
        })
        .expect("a packet of ours");
        for (name, checksum) in [
            ("verified", Checksum::Verified),
            ("software", Checksum::Unverified),
        ] {
            let mut coalescer = Coalescer::new(CoalescingConfig::default());
            let batch: Vec<Packet> = wire
                .iter()
                .cloned()
                .map(|mut packet| {
                    packet.offload.checksum = checksum;
                    packet
                })
                .collect();
            let id = format!("coalesce/super/{name}_{}", version(v6));
            criterion.bench_function(&id, |bencher| {
                bencher.iter_batched(
                    || batch.clone(),
                    |mut batch| {
                        coalescer.coalesce(&mut batch);
                        assert_eq!(batch.len(), 1);
                        batch
                    },
                    BatchSize::NumIterations(8),
                );
            });
        }
    }
}
