//! A path whose MTU shrinks while packets wait for a full device.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use tidewire::engine::{Ports, WakeList};
use tidewire::ip::InterfaceId;
use tidewire_integration_tests::bodies::body;
use tidewire_integration_tests::world::{LinkConfig, Side, World, read, write};
use tidewire_netdev::segmentation::{CutChecksum, segment};
use tidewire_netdev::{Checksum, Medium, OffloadSet, Packet};

/// A device that takes nothing.
struct Full;

impl Ports for Full {
    fn try_transmit(&self, _: InterfaceId, _: usize, _: &mut VecDeque<Packet>) -> io::Result<()> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// Fragmentation needed (RFC 1191 4) about a packet whose first 28 octets are `quoted`.
fn fragmentation_needed(quoted: &[u8], mtu: u16) -> Packet {
    let mut message = vec![3, 4, 0, 0, 0, 0];
    message.extend(mtu.to_be_bytes());
    message.extend(&quoted[..28]);
    let mut packet = Packet::from_bytes(Bytes::from(message));
    let (from, to) = (Side::B.address(false), Side::A.address(false));
    let header =
        tidewire::ip::output::OutputHeader::new(from, to, tidewire::wire::protocol::ICMPV4);
    tidewire::ip::output::prepend(&mut packet, &header).expect("a short packet");
    packet.offload.checksum = Checksum::Verified;
    packet
}

#[test]
fn what_is_staged_is_cut_anew_when_the_path_mtu_shrinks() {
    // RFC 1191 6.3: nothing larger than the new path MTU is sent from then on, what waits for the device included.
    for offloads in [OffloadSet::ALL, OffloadSet::NONE] {
        let link = LinkConfig {
            offloads,
            ..LinkConfig::default()
        };
        let mut world = World::new(&link);
        let (client, server) = world.connected(false, Duration::from_secs(1));
        world.run_until(Duration::from_secs(1), |_| false);
        let data = body(5, 10_000);
        let engine = world.engine(Side::A);
        assert_eq!(write(engine, &client, &data), data.len());
        let interface = engine.network.interface_named("mem0").expect("the link");
        let mut wakes = WakeList::new();
        engine.flush(world.now, &Full, &mut wakes);
        assert!(engine.is_blocked(interface));

        // What A would have sent: its headers are quoted by a router's error.
        let sequence = client.lock().socket.connection.info().bytes_acked as u32;
        assert_eq!(sequence, 0, "nothing has been acknowledged yet");
        let first = peek_first(&world, interface);
        engine.receive(
            world.now,
            interface,
            &mut vec![fragmentation_needed(&first, 1000)],
            &mut wakes,
        );

        let mut batch = Vec::new();
        engine.unblock(interface);
        engine.transmit(world.now, interface, &mut batch, &mut wakes);
        wakes.wake_all();
        let mut largest = 0;
        for packet in batch {
            segment(packet, Medium::Ip, CutChecksum::Complete, |wire| {
                largest = largest.max(wire.len());
            })
            .expect("valid");
        }
        assert!(largest <= 1000, "{largest} octets on a path of 1000");
        assert!(largest > 900, "segments fill the path: {largest}");
        // The batch never reached B: retransmission delivers everything, within the new MTU.
        let mut received = Vec::new();
        let done = world.run_until(Duration::from_secs(30), |world| {
            read(world.engine(Side::B), &server, &mut received);
            received.len() == data.len()
        });
        assert!(done && received == data);
    }
}

/// The first octets of what waits for the interface: an IPv4 header and the beginning of TCP's.
fn peek_first(world: &World, interface: InterfaceId) -> Vec<u8> {
    let staged = world.engine(Side::A).staged(interface);
    staged.first().expect("packets wait").to_bytes()[..28].to_vec()
}
