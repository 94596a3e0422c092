//! IP, Ethernet, neighbours, and which connection a packet is for.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use criterion::Criterion;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use tidewire::ip::InterfaceId;
use tidewire::ip::input::{self, Arrival};
use tidewire::ip::output;
use tidewire::link::ethernet;
use tidewire::neighbor::{Config, NeighborCache, NeighborKey, UpperLayerAdvice};
use tidewire::random::{HashKey, Random};
use tidewire::time::Instant;
use tidewire::transport::demux::{ConnectionTable, Tuple};
use tidewire::wire::tcp::Header;
use tidewire_integration_tests::cable::hardware_address;
use tidewire_integration_tests::world::Side;
use tidewire_netdev::Medium;

use crate::samples::{self, INPUTS, Size, received, version};

pub(crate) fn measure(criterion: &mut Criterion) {
    for size in Size::ALL {
        for v6 in [false, true] {
            headers(criterion, size, v6);
        }
    }
    demultiplexing(criterion);
    neighbors(criterion);
}

fn headers(criterion: &mut Criterion, size: Size, v6: bool) {
    let variant = format!("{}/{}", size.name(), version(v6));
    let whole = received(&samples::packet(size, v6, Medium::Ip));
    criterion.bench_function(&format!("ip_input/{variant}"), |bencher| {
        bencher.iter_batched_ref(
            || whole.clone(),
            |packet| input::parse(packet, Arrival::Wire),
            INPUTS,
        );
    });
    let frame = received(&samples::packet(size, v6, Medium::Ethernet));
    criterion.bench_function(&format!("ethernet_input/{variant}"), |bencher| {
        let ours = hardware_address(Side::B);
        bencher.iter_batched_ref(
            || frame.clone(),
            |packet| {
                let frame = ethernet::receive(ours, packet.contiguous());
                packet.advance(14);
                frame
            },
            INPUTS,
        );
    });
    let segment = samples::segment(size, v6);
    let header = samples::ip_header(v6);
    criterion.bench_function(&format!("ip_output/{variant}"), |bencher| {
        bencher.iter_batched_ref(
            || segment.clone(),
            |packet| output::prepend(packet, black_box(&header)),
            INPUTS,
        );
    });
    let whole = samples::packet(size, v6, Medium::Ip);
    criterion.bench_function(&format!("ethernet_output/{variant}"), |bencher| {
        bencher.iter_batched_ref(
            || whole.clone(),
            |packet| samples::frame(packet, v6),
            INPUTS,
        );
    });
    if size == Size::Mtu {
        let header = samples::header(samples::tuple(v6));
        let mut octets = [0; 60];
        criterion.bench_function(&format!("tcp_header_emit/{variant}"), |bencher| {
            bencher.iter(|| black_box(&header).emit(black_box(&mut octets)));
        });
        criterion.bench_function(&format!("tcp_header_parse/{variant}"), |bencher| {
            bencher.iter(|| Header::parse(black_box(&octets)));
        });
    }
}

fn demultiplexing(criterion: &mut Criterion) {
    for count in [100_u32, 100_000] {
        let mut random = Random::new(Some(1));
        let mut table = ConnectionTable::new(HashKey::new(&mut random));
        let tuple = |index: u32| Tuple {
            local: SocketAddr::new(Side::B.address(false), 80),
            remote: SocketAddr::new(
                Ipv4Addr::from_bits(0x0a01_0000 + index / 50_000).into(),
                1024 + (index % 50_000) as u16,
            ),
        };
        for index in 0..count {
            let inserted = table.insert_if_vacant(tuple(index), Arc::new(index));
            inserted.expect("each tuple once");
        }
        let hot = tuple(count / 2);
        criterion.bench_function(&format!("demux/{count}/hot"), |bencher| {
            bencher.iter(|| table.find(black_box(&hot)).cloned());
        });
        let mut seeded = ChaCha8Rng::seed_from_u64(1);
        criterion.bench_function(&format!("demux/{count}/random"), |bencher| {
            bencher.iter_batched(
                || tuple(seeded.random_range(0..count)),
                |tuple| table.find(&tuple).cloned(),
                INPUTS,
            );
        });
    }
}

fn neighbors(criterion: &mut Criterion) {
    for count in [1_u32, 1000] {
        let mut cache = NeighborCache::<()>::new(Config::default(), Random::new(Some(1)));
        let key = |index: u32| NeighborKey {
            interface: InterfaceId(2),
            address: Ipv4Addr::from_bits(0x0a01_0000 + index).into(),
        };
        for index in 0..count {
            cache
                .insert_static(Instant::ZERO, key(index), hardware_address(Side::B))
                .expect("there is room");
        }
        let (hot, source): (_, IpAddr) = (key(count / 2), Side::A.address(false));
        let mut now = Instant::ZERO;
        criterion.bench_function(&format!("neighbor_resolve/{count}/hot"), |bencher| {
            bencher.iter(|| {
                now = Instant::from_nanos(now.as_nanos() + 1000);
                cache.resolve(now, black_box(hot), source, UpperLayerAdvice::None)
            });
        });
    }
}
