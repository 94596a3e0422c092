//! Which of several queues the kernel gives a packet to.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use tidewire_netdev::flow_hash::packet_flow_hash;
use tidewire_netdev::linux::PacketConfig;
use tidewire_netdev::{
    Device, MacAddress, Medium, Packet, Receiver, Segmentation, SegmentationKind,
};

use super::open;
use super::support::exchanges::payload;
use super::support::link::{Kernel, OUR_MAC, receive};
use super::support::namespace::in_namespace;
use super::support::packets::{self, Fill, ICMP, TCP};

const SCTP: u8 = 132;

fn address(text: &str, last: u8) -> IpAddr {
    match text.parse().expect("an address") {
        IpAddr::V4(v4) => IpAddr::from([v4.octets()[0], v4.octets()[1], last ^ 7, last]),
        IpAddr::V6(v6) => {
            let mut octets = v6.octets();
            (octets[5], octets[15]) = (last ^ 9, last);
            IpAddr::from(octets)
        }
    }
}

/// Packets of many flows and kinds, in both versions.
fn flows() -> Vec<Packet> {
    let mut flows = Vec::new();
    for i in 0..64u8 {
        let port = 40_000 + u16::from(i) * 3;
        for (here, there) in [("10.1.0.0", "192.168.0.0"), ("fd01::", "2001:db8::")] {
            let ends = (address(here, i), address(there, i / 3));
            flows.push(packets::udp(
                (ends.0, port),
                (ends.1, 53),
                payload(usize::from(i)),
                Fill::Partial,
            ));
            let mut super_packet =
                packets::udp((ends.0, port), (ends.1, 54), payload(9_000), Fill::Partial);
            super_packet.offload.segmentation = Some(Segmentation {
                kind: SegmentationKind::Udp,
                segment_size: 1_000,
                ecn: false,
            });
            flows.push(super_packet);
            for protocol in [TCP, SCTP, ICMP] {
                let mut header = vec![0; 20];
                header[..2].copy_from_slice(&port.to_be_bytes());
                header[2..4].copy_from_slice(&443u16.to_be_bytes());
                flows.push(packets::ip(ends.0, ends.1, protocol, &header, payload(9)));
                // Cut off in the middle of its ports.
                flows.push(packets::ip(
                    ends.0,
                    ends.1,
                    protocol,
                    &header[..3],
                    Bytes::new(),
                ));
            }
        }
    }
    flows
}

/// Changes a copy of each packet into things that have no ports, or have them elsewhere.
fn variants(frame: &[u8], i: usize) -> Vec<Vec<u8>> {
    let mut variants = vec![frame.to_vec()];
    if frame[12..14] == [0x08, 0x00] && frame.len() < 1_400 {
        for fragment in [[0x20, 0], [0x20, 3], [0, 9]] {
            let mut other = frame.to_vec();
            other[20..22].copy_from_slice(&fragment);
            variants.push(other);
        }
        let mut options = frame.to_vec();
        options[14] = 0x46;
        options.splice(34..34, [1, 1, 1, i as u8]);
        variants.push(options);
        let mut short_header = frame.to_vec();
        short_header[14] = 0x42;
        variants.push(short_header);
        let mut version = frame.to_vec();
        version[14] = 0x55;
        variants.push(version);
    } else if frame.len() < 1_400 {
        // An extension header hides the ports.
        let mut extension = frame.to_vec();
        extension[20] = 60;
        variants.push(extension);
    }
    let mut arp = frame.to_vec();
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    variants.push(arp);
    variants
}

fn frames(mac: MacAddress) -> Vec<Packet> {
    let mut frames = Vec::new();
    for (i, mut packet) in flows().into_iter().enumerate() {
        packets::frame(&mut packet, mac, OUR_MAC);
        if packet.offload.segmentation.is_some() {
            frames.push(packet);
            continue;
        }
        for octets in variants(&packet.to_bytes(), i) {
            frames.push(Packet::from_bytes(octets.into()));
        }
    }
    frames
}

/// Sends each frame and finds it on the queue that its hash names.
async fn assert_shared_out_by_hash(device: &mut Device, far: &Device) {
    let queues = device.queue_count();
    let mut counts = vec![0; queues];
    for frame in frames(device.hardware_address.expect("the interface's")) {
        let octets = frame.to_bytes();
        let queue = packet_flow_hash(&octets, Medium::Ethernet) as usize % queues;
        let mut packets = VecDeque::from([frame]);
        far.transmitter.try_transmit(&mut packets).expect("sent");
        let receiver: &mut dyn Receiver = match queue {
            0 => &mut *device.receiver,
            _ => &mut *device.more_queues[queue - 1].receiver,
        };
        let found = async {
            loop {
                let came = receive(receiver, 1).await.expect("received");
                if came[0].to_bytes() == octets {
                    break;
                }
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(2), found).await;
        assert!(found.is_ok(), "not on queue {queue}: {octets:02x?}");
        counts[queue] += 1;
    }
    let total: usize = counts.iter().sum();
    assert!(total > 1_000);
    assert!(
        counts.iter().all(|count| *count > total / queues / 3),
        "{counts:?}"
    );
}

#[test]
fn the_kernel_shares_packets_out_by_the_flow_hash() {
    in_namespace(|| async {
        for (queues, ring) in [(2, false), (3, false), (5, false), (3, true)] {
            let kernel = Kernel::new();
            kernel.add_veth("near", "far").await;
            let mut device = open(PacketConfig {
                queues,
                ring,
                receive_buffer: 4 << 20,
                ..PacketConfig::new("near")
            });
            let far = open(PacketConfig::new("far"));
            assert_shared_out_by_hash(&mut device, &far).await;
            if !ring {
                // The sockets leave the group with the link and come back in their order.
                kernel.set_up("near", false).await;
                kernel.set_up("near", true).await;
                kernel.wait_for_carrier("near").await;
                kernel.wait_for_carrier("far").await;
                assert_shared_out_by_hash(&mut device, &far).await;
            }
            kernel.remove("near").await;
        }
    });
}

#[test]
fn two_devices_on_one_interface_have_a_group_each() {
    in_namespace(|| async {
        let kernel = Kernel::new();
        kernel.add_veth("near", "far").await;
        let config = PacketConfig {
            queues: 2,
            ..PacketConfig::new("near")
        };
        let mut one = open(config.clone());
        let mut two = open(config);
        let far = open(PacketConfig::new("far"));
        assert_shared_out_by_hash(&mut one, &far).await;
        // The other one has got the same packets, on the same queues.
        let mut came = super::drain(&mut two).len();
        let second = two.more_queues.remove(0);
        two.receiver = second.receiver;
        came += super::drain(&mut two).len();
        assert!(came > 1_000, "{came}");
    });
}
