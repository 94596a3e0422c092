use std::io::Cursor;
use std::process::{Command, Stdio};
use std::task::Waker;

use bytes::Bytes;
use pcap_file::pcapng::{Block, PcapNgReader};

use super::*;
use crate::memory::{PairConfig, pair};
use crate::offload::SegmentationKind;
use crate::test_packets::{Spec, check_wire};

/// What a reader finds of one packet.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    interface: u32,
    timestamp: Duration,
    flags: u32,
    octets: Vec<u8>,
}

fn read(file: &[u8]) -> Vec<Found> {
    let mut reader = PcapNgReader::new(Cursor::new(file)).expect("a section header");
    let mut found = Vec::new();
    while let Some(block) = reader.next_block() {
        if let Block::EnhancedPacket(packet) = block.expect("a readable block") {
            let flags = match packet.options[..] {
                [EnhancedPacketOption::Flags(flags)] => flags,
                _ => panic!("flags expected"),
            };
            assert_eq!(packet.original_len as usize, packet.data.len());
            found.push(Found {
                interface: packet.interface_id,
                timestamp: packet.timestamp,
                flags,
                octets: packet.data.to_vec(),
            });
        }
    }
    found
}

fn capture(config: CaptureConfig) -> (Capture<Vec<u8>>, InterfaceIndex) {
    let mut capture = Capture::new(Vec::new(), config).expect("memory");
    let interface = capture
        .add_interface("tun0", Medium::Ip)
        .expect("an interface");
    (capture, interface)
}

const NOON: Duration = Duration::new(1_800_000_000, 123_456_789);

#[test]
fn super_packets_are_recorded_as_a_wire_would_carry_them() {
    let (mut capture, interface) = capture(CaptureConfig::default());
    let spec = Spec::default();
    let packet = spec.build();
    capture
        .record(interface, Direction::Outbound, NOON, &packet)
        .expect("memory");
    assert!(packet.offload.segmentation.is_some());
    let stats = capture.stats();
    let file = capture.into_inner();
    assert_eq!(stats.bytes, file.len() as u64);
    assert_eq!(stats.packets, 3);
    let mut payload = Vec::new();
    for found in read(&file) {
        assert_eq!((found.timestamp, found.flags), (NOON, 2));
        let wire = check_wire(Medium::Ip, &found.octets).expect("a correct wire packet");
        payload.extend(wire.payload);
    }
    assert_eq!(payload, spec.payload());
}

#[test]
fn whole_super_packets_have_complete_checksums() {
    let (mut capture, interface) = capture(CaptureConfig {
        super_packets: SuperPackets::Whole,
        ..CaptureConfig::default()
    });
    let spec = Spec::default();
    capture
        .record(interface, Direction::Inbound, NOON, &spec.build())
        .expect("memory");
    let found = read(&capture.into_inner());
    assert_eq!((found.len(), found[0].flags), (1, 1));
    let wire = check_wire(Medium::Ip, &found[0].octets).expect("a correct packet");
    assert_eq!(wire.payload, spec.payload());
}

#[test]
fn malformed_packets_are_recorded_as_they_are() {
    let (mut capture, interface) = capture(CaptureConfig::default());
    let mut packet = Spec::default().build();
    packet.truncate(33);
    capture
        .record(interface, Direction::Inbound, NOON, &packet)
        .expect("memory");
    assert_eq!(read(&capture.into_inner())[0].octets, packet.to_bytes());
}

#[test]
fn the_limit_bounds_the_file() {
    for limit in [100, 1000, 1001, 1002, 1003, 5000] {
        let (mut capture, interface) = capture(CaptureConfig {
            limit_bytes: Some(limit),
            ..CaptureConfig::default()
        });
        for len in 1..100 {
            let packet = Packet::from_bytes(Bytes::from(vec![0x45; len]));
            capture
                .record(interface, Direction::Inbound, NOON, &packet)
                .expect("memory");
        }
        let stats = capture.stats();
        assert_eq!(stats.packets + stats.left_out, 99);
        assert!(stats.left_out > 0);
        let file = capture.into_inner();
        assert!(file.len() as u64 <= limit, "{limit}");
        assert_eq!(read(&file).len() as u64, stats.packets);
    }
}

#[test]
fn a_failed_write_is_reported_once_and_ends_the_capture() {
    /// Takes a number of octets and no more.
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            if self.0 < octets.len() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0 -= octets.len();
            Ok(octets.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut capture = Capture::new(Full(300), CaptureConfig::default()).expect("room");
    let interface = capture.add_interface("tun0", Medium::Ip).expect("room");
    let packet = Packet::from_bytes(Bytes::from_static(&[0x45; 100]));
    let errors: Vec<bool> = (0..4)
        .map(|_| {
            capture
                .record(interface, Direction::Inbound, NOON, &packet)
                .is_err()
        })
        .collect();
    assert_eq!(errors, [false, true, false, false]);
    assert_eq!((capture.stats().packets, capture.stats().left_out), (1, 3));
}

#[test]
fn a_wrapped_device_records_both_directions_and_only_what_was_taken() {
    let (a, b) = pair(PairConfig {
        queue_packets: 2,
        ..PairConfig::default()
    });
    let shared = Arc::new(Mutex::new(
        Capture::new(Vec::new(), CaptureConfig::default()).expect("memory"),
    ));
    let a = wrap(a, &shared, || Duration::from_nanos(1)).expect("memory");
    let mut b = wrap(b, &shared, || Duration::from_nanos(2)).expect("memory");
    let packets = (0..3u8).map(|i| Packet::from_bytes(Bytes::from(vec![0x45, i])));
    let mut queue: VecDeque<Packet> = packets.collect();
    let error = a.transmitter.try_transmit(&mut queue).expect_err("full");
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    let mut batch = vec![Packet::new()];
    let mut cx = Context::from_waker(Waker::noop());
    let received = b.receiver.poll_receive(&mut cx, &mut batch, 64);
    assert!(matches!(received, Poll::Ready(Ok(2))));

    let file = std::mem::take(lock(&shared).writer.get_mut());
    let found: Vec<_> = read(&file)
        .iter()
        .map(|found| {
            (
                found.interface,
                found.timestamp.as_nanos(),
                found.flags,
                found.octets[1],
            )
        })
        .collect();
    assert_eq!(
        found,
        [(0, 1, 2, 0), (0, 1, 2, 1), (1, 2, 1, 0), (1, 2, 1, 1)]
    );
}

/// One of each kind, on a raw and on an Ethernet interface.
fn sample_file() -> Vec<u8> {
    let mut capture = Capture::new(Vec::new(), CaptureConfig::default()).expect("memory");
    for medium in [Medium::Ip, Medium::Ethernet] {
        let name = format!("{medium:?}0").to_lowercase();
        let interface = capture.add_interface(&name, medium).expect("memory");
        for (kind, udp_v6) in [
            (SegmentationKind::TcpV4, false),
            (SegmentationKind::TcpV6, true),
            (SegmentationKind::Udp, false),
            (SegmentationKind::Udp, true),
        ] {
            let spec = Spec {
                medium,
                kind,
                udp_v6,
                slices: vec![2000],
                ..Spec::default()
            };
            capture
                .record(interface, Direction::Outbound, NOON, &spec.build())
                .expect("memory");
        }
        for kind in [SegmentationKind::TcpV4, SegmentationKind::TcpV6] {
            let spec = Spec {
                medium,
                kind,
                slices: vec![1401],
                ..Spec::default()
            };
            capture
                .record(interface, Direction::Outbound, NOON, &spec.build_sctp())
                .expect("memory");
        }
    }
    capture.into_inner()
}

#[test]
fn wireshark_reads_it_and_finds_correct_checksums() {
    if Command::new("tshark").arg("--version").output().is_err() {
        let required = std::env::var("TIDEWIRE_REQUIRE_ALL").is_ok_and(|value| value == "1");
        assert!(!required, "tshark is required by TIDEWIRE_REQUIRE_ALL");
        eprintln!("skipped: tshark is not installed");
        return;
    }
    let mut tshark = Command::new("tshark");
    tshark.args(["-n", "-r", "-", "-T", "fields"]);
    for protocol in ["ip", "tcp", "udp"] {
        tshark.args(["-o", &format!("{protocol}.check_checksum:TRUE")]);
    }
    tshark.args(["-o", "sctp.checksum:crc-32c"]);
    for field in [
        "frame.interface_name",
        "frame.time_epoch",
        "frame.packet_flags_direction",
        "ip.checksum.status",
        "tcp.checksum.status",
        "udp.checksum.status",
        "sctp.checksum.status",
    ] {
        tshark.args(["-e", field]);
    }
    let mut child = tshark
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tshark runs");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(&sample_file()).expect("tshark reads");
    drop(stdin);
    let output = child.wait_with_output().expect("tshark ends");
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).expect("text");
    let mut expected = Vec::new();
    for interface in ["ip0", "ethernet0"] {
        // Good is 1; each of the four super-packets was cut in two.
        for (ip, tcp, udp) in [("1", "1", ""), ("", "1", ""), ("1", "", "1"), ("", "", "1")] {
            let line = format!("{interface}\t1800000000.123456789\t2\t{ip}\t{tcp}\t{udp}\t");
            expected.extend([line.clone(), line]);
        }
        for ip in ["1", ""] {
            let line = format!("{interface}\t1800000000.123456789\t2\t{ip}\t\t\t1");
            expected.push(line);
        }
    }
    let direction = |line: &str| line.replace("0x00000002", "2");
    let found: Vec<String> = lines.lines().map(direction).collect();
    assert_eq!(found, expected);
}
