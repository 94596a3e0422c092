//! Packets to measure with.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BatchSize, Bencher};
use tidewire::ip::output::{self, OutputHeader};
use tidewire::link::ethernet::{self, LinkProtocol};
use tidewire::transport::demux::Tuple;
use tidewire::wire::protocol;
use tidewire::wire::tcp::{CHECKSUM_OFFSET, Flags, Header, Options, Timestamps};
use tidewire_integration_tests::cable::hardware_address;
use tidewire_integration_tests::world::Side;
use tidewire_netdev::checksum::{Sum, pseudo_header_v4, pseudo_header_v6};
use tidewire_netdev::{Checksum, Medium, Packet, Segmentation, SegmentationKind};

/// Inputs made at once: few enough to stay in the cache, enough for the clock not to matter.
pub(crate) const INPUTS: BatchSize = BatchSize::NumIterations(64);

/// How large a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// As many segments as fit 64 KiB.
    Super,
    /// One full segment.
    Mtu,
}

impl Size {
    pub(crate) const ALL: [Self; 2] = [Self::Super, Self::Mtu];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Super => "super",
            Self::Mtu => "mtu",
        }
    }

    /// Octets of data, and of the data of one segment.
    pub(crate) const fn octets(self, v6: bool) -> (usize, usize) {
        let segment = if v6 { 1428 } else { 1448 };
        match self {
            Self::Super => (45 * segment, segment),
            Self::Mtu => (segment, segment),
        }
    }
}

pub(crate) const fn version(v6: bool) -> &'static str {
    if v6 { "v6" } else { "v4" }
}

/// From A to B.
pub(crate) fn tuple(v6: bool) -> Tuple {
    Tuple {
        local: SocketAddr::new(Side::A.address(v6), 40_000),
        remote: SocketAddr::new(Side::B.address(v6), 80),
    }
}

/// The header of a segment with data.
pub(crate) fn header(tuple: Tuple) -> Header {
    Header {
        source_port: tuple.local.port(),
        destination_port: tuple.remote.port(),
        sequence: 1_000_000,
        acknowledgment: 2_000_000,
        flags: Flags::ACK,
        window: 1000,
        urgent: 0,
        options: Options {
            timestamps: Some(Timestamps { value: 1, echo: 1 }),
            ..Options::default()
        },
    }
}

pub(crate) fn pseudo_header(source: IpAddr, destination: IpAddr, length: usize) -> Sum {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            pseudo_header_v4(source, destination, protocol::TCP, length as u32)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            pseudo_header_v6(source, destination, protocol::TCP, length as u32)
        }
        _ => unreachable!("both ends are of one version"),
    }
}

/// A segment from A to B from its TCP header on, as the stack builds it: headers inline, checksum partial.
pub(crate) fn segment(size: Size, v6: bool) -> Packet {
    let (len, segment_size) = size.octets(v6);
    let data: Bytes = (0..len).map(|index| (index % 251) as u8).collect();
    let tuple = tuple(v6);
    let mut packet = Packet::from_bytes(data);
    let header = header(tuple);
    let sum = pseudo_header(
        tuple.local.ip(),
        tuple.remote.ip(),
        len + header.encoded_len(),
    );
    let area = packet.prepend(header.encoded_len());
    header.emit(area);
    area[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].copy_from_slice(&sum.fold().to_be_bytes());
    packet.offload.checksum = Checksum::Partial {
        start: 0,
        offset: CHECKSUM_OFFSET as u16,
    };
    if size == Size::Super {
        packet.offload.segmentation = Some(Segmentation {
            kind: if v6 {
                SegmentationKind::TcpV6
            } else {
                SegmentationKind::TcpV4
            },
            segment_size: segment_size as u16,
            ecn: false,
        });
    }
    packet
}

pub(crate) fn ip_header(v6: bool) -> OutputHeader {
    let tuple = tuple(v6);
    OutputHeader::new(tuple.local.ip(), tuple.remote.ip(), protocol::TCP)
}

pub(crate) fn frame(packet: &mut Packet, v6: bool) {
    let protocol = LinkProtocol::of(Side::B.address(v6));
    ethernet::prepend(
        packet,
        hardware_address(Side::A),
        hardware_address(Side::B),
        protocol,
    );
}

/// The same segment as a whole packet.
pub(crate) fn packet(size: Size, v6: bool, medium: Medium) -> Packet {
    let mut packet = segment(size, v6);
    output::prepend(&mut packet, &ip_header(v6)).expect("both ends are of one version");
    if medium == Medium::Ethernet {
        frame(&mut packet, v6);
    }
    packet
}

/// A packet as a device reads it: in one piece.
pub(crate) fn received(packet: &Packet) -> Packet {
    let mut read = Packet::from_bytes(packet.to_bytes());
    read.offload = packet.offload;
    read
}

/// Measures `run`, which does `count` things and says how long they took: the time of one of them.
pub(crate) fn in_batches(
    bencher: &mut Bencher<'_>,
    count: usize,
    mut run: impl FnMut() -> Duration,
) {
    bencher.iter_custom(|iterations| {
        let batches = iterations.div_ceil(count as u64);
        let total: Duration = (0..batches).map(|_| run()).sum();
        total.mul_f64(iterations as f64 / (batches * count as u64) as f64)
    });
}

/// How long it takes.
pub(crate) fn timed<R>(work: impl FnOnce() -> R) -> (Duration, R) {
    let start = Instant::now();
    let result = work();
    (start.elapsed(), result)
}
