//! The socket's side: options, status, ICMP, and letting go.

use super::*;
use crate::sctp::config::{AssociationParameters, DelayedSack, PeerAddressParameters, RtoInfo};
use crate::sctp::path::HeartbeatSwitch;
use crate::transport::IcmpError;

/// The front of a packet of Alice's to Bob, as a router quotes it.
fn quoted(tag: u32, initiate_tag: Option<u32>) -> QuotedPacket {
    QuotedPacket {
        header: CommonHeader {
            source_port: PORTS[0],
            destination_port: PORTS[1],
            verification_tag: tag,
        },
        initiate_tag,
    }
}

#[test]
fn options_change_a_living_association_or_are_refused() {
    // RFC 6458 8.1.
    let mut world = World::established(50);
    let now = world.now;
    let alice = world.at(0);
    let rto = |initial, min, max| RtoInfo {
        initial: Some(ms(initial)),
        min: Some(ms(min)),
        max: Some(ms(max)),
    };
    assert_eq!(alice.set_rto_info(rto(300, 200, 1000)), Ok(()));
    assert_eq!(alice.rto_info(), rto(300, 200, 1000));
    assert_eq!(
        alice.set_rto_info(rto(100, 200, 1000)),
        Err(SocketError::InvalidInput)
    );
    assert_eq!(alice.rto_info(), rto(300, 200, 1000), "refused as a whole");
    let delayed = |delay, frequency| DelayedSack {
        delay: Some(ms(delay)),
        frequency: Some(frequency),
    };
    assert_eq!(alice.set_delayed_sack(delayed(50, 3)), Ok(()));
    assert_eq!(alice.delayed_sack(), delayed(50, 3));
    for wrong in [delayed(501, 2), delayed(200, 0)] {
        assert_eq!(
            alice.set_delayed_sack(wrong),
            Err(SocketError::InvalidInput)
        );
    }
    let parameters = AssociationParameters {
        max_retrans: Some(3),
        cookie_life: Some(ms(5000)),
    };
    assert_eq!(alice.set_association_parameters(parameters), Ok(()));
    assert_eq!(alice.association_parameters(), parameters);
    let parameters = PeerAddressParameters {
        heartbeat: Some(HeartbeatSwitch::Off),
        heartbeat_interval: Some(ms(700)),
        path_max_retrans: Some(2),
        pf_max_retrans: Some(1),
        path_mtu: Some(1280),
    };
    let set = alice.set_peer_address_parameters(now, Some(BOB), parameters);
    assert_eq!(set, Ok(()));
    assert_eq!(alice.peer_address_parameters(BOB), Ok(parameters));
    for call in [
        alice.set_peer_address_parameters(now, Some(ALICE), parameters),
        alice.peer_address_parameters(ALICE).map(|_| ()),
        alice.set_primary_path(ALICE),
        alice.request_heartbeat(now, ALICE),
    ] {
        assert_eq!(call, Err(SocketError::InvalidInput), "not the peer's");
    }
    assert_eq!(alice.set_primary_path(BOB), Ok(()));
}

#[test]
fn messages_are_cut_and_refused_as_the_options_say() {
    // RFC 6458 8.1.11 SCTP_DISABLE_FRAGMENTS, 8.1.16 SCTP_MAXSEG.
    let mut world = World::established(51);
    let alice = world.at(0);
    alice.set_maxseg(100);
    assert_eq!(
        (alice.maxseg(), alice.status().fragmentation_point),
        (100, 100)
    );
    alice.send(Bytes::from(vec![1; 250]), &on(0)).expect("room");
    let lens = |chunks: Vec<Chunk>| -> Vec<usize> {
        let data = chunks.into_iter().filter_map(|chunk| match chunk {
            Chunk::Data(data) => Some(data.payload.len()),
            _ => None,
        });
        data.collect()
    };
    assert_eq!(lens(world.output(0)), [100, 100, 50]);
    let alice = world.at(0);
    alice.set_disable_fragments(true);
    let long = alice.send(Bytes::from(vec![1; 101]), &on(0));
    assert_eq!(long, Err(SocketError::MessageTooLong));
    for (message, stream) in [(&b""[..], 0), (b"x", 10)] {
        let refused = alice.send(Bytes::from_static(message), &on(stream));
        assert_eq!(refused, Err(SocketError::InvalidInput));
    }
}

#[test]
fn status_tells_what_is_under_way() {
    // RFC 6458 8.2.1.
    let mut world = World::established(52);
    // Otherwise the last one waits for the acknowledgment of the first two.
    world.at(0).set_nodelay(true);
    for _ in 0..3 {
        let message = Bytes::from(vec![7; 1000]);
        world.at(0).send(message, &on(0)).expect("room");
    }
    let before = world.at(0).status();
    assert_eq!((before.unsent, before.unacked), (3, 0));
    world.run(ms(15), |world| world.at(1).is_readable());
    let alice = world.at(0).status();
    assert_eq!(alice.state, State::Established);
    assert_eq!((alice.unsent, alice.paths), (0, 1));
    assert_eq!((alice.outbound_streams, alice.inbound_streams), (10, 10));
    assert_eq!(alice.primary.address, BOB);
    assert_eq!(alice.primary.mtu, MTU);
    assert_eq!(alice.primary.srtt, ms(20), "two ways of 10 ms");
    let bob = world.at(1).status();
    assert_eq!(
        (bob.local_tag, bob.peer_tag),
        (alice.peer_tag, alice.local_tag)
    );
    assert!(bob.pending >= 3000, "{}", bob.pending);
    let stats = world.at(1).stats();
    assert_eq!((stats.chunks_received, stats.octets_received), (3, 3000));
    assert_eq!(world.at(0).stats().send.chunks_sent, 3);
}

#[test]
fn send_buffer_holds_writers_back_and_tells_when_there_is_room() {
    let options = SocketOptions {
        send_buffer: Some(10_000),
        ..SocketOptions::default()
    };
    let mut world = World::with(Config::default(), options, 53);
    world.connect(0);
    world.run(ms(500), |world| {
        world.states() == [Some(State::Established); 2]
    });
    world.at(0).take_readiness();
    let mut sent = 0;
    let full = loop {
        match world.at(0).send(Bytes::from(vec![3; 1000]), &on(0)) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(full, SocketError::WouldBlock);
    assert!((5..10).contains(&sent), "{sent}");
    assert!(!world.at(0).take_readiness().contains(Readiness::WRITABLE));
    world.run(Duration::from_secs(5), |world| {
        world.at(0).take_readiness().contains(Readiness::WRITABLE)
    });
    assert_eq!(world.at(0).send(Bytes::from_static(b"on"), &on(0)), Ok(()));
}

#[test]
fn icmp_is_believed_with_the_right_tag_and_has_the_effects_of_section_10() {
    let mut world = World::established(54);
    let (local, peer) = world.at(0).tags();
    let mtu = |world: &mut World| world.at(0).status().primary.mtu;
    let big = IcmpError::PacketTooBig { mtu: 1300 };
    for wrong in [
        quoted(peer ^ 1, None),
        quoted(local, None),
        quoted(0, Some(peer)),
    ] {
        let result = world.at(0).handle_icmp(BOB, big, &wrong);
        assert_eq!(result, Err(DropReason::BadIcmp));
    }
    assert_eq!(mtu(&mut world), MTU);
    let ours = quoted(peer, None);
    assert_eq!(world.at(0).handle_icmp(BOB, big, &ours), Ok(()));
    assert_eq!(mtu(&mut world), 1300);
    let larger = IcmpError::PacketTooBig { mtu: 1400 };
    assert_eq!(world.at(0).handle_icmp(BOB, larger, &ours), Ok(()));
    assert_eq!(mtu(&mut world), 1300, "ICMP never raises it");
    // ICMP9: remembered for when the peer is given up.
    let lost = IcmpError::Unreachable(SocketError::HostUnreachable);
    assert_eq!(world.at(0).handle_icmp(BOB, lost, &ours), Ok(()));
    assert_eq!(world.state(0), Some(State::Established));
    world.loss = 1000;
    world.run(Duration::from_secs(3000), |world| ended(world.state(0)));
    assert_eq!(world.at(0).take_error(), Some(SocketError::HostUnreachable));
    // ICMP8: nobody there speaks SCTP.
    let mut world = World::new(55);
    world.connect(0);
    let (local, _) = world.at(0).tags();
    let unknown = IcmpError::Refused(SocketError::ProtocolUnreachable);
    let result = world
        .at(0)
        .handle_icmp(BOB, unknown, &quoted(0, Some(local)));
    assert_eq!(result, Ok(()));
    assert_eq!(
        world.at(0).take_error(),
        Some(SocketError::ProtocolUnreachable)
    );
}

#[test]
fn letting_go_delivers_what_is_queued_unless_something_is_unread() {
    // As Linux's sctp_close: unread messages, or a linger of zero, abort.
    let mut world = World::established(56);
    let now = world.now;
    let alice = world.at(0);
    alice
        .send(Bytes::from_static(b"goodbye"), &on(0))
        .expect("room");
    alice.close(now, None);
    let mut got = None;
    world.run(Duration::from_secs(10), |world| {
        if let Ok(Some(message)) = world.at(1).recv(100) {
            got = Some(message.data);
        }
        ended(world.state(0)) && ended(world.state(1))
    });
    assert_eq!(got.as_deref(), Some(&b"goodbye"[..]));
    assert!(world.at(0).is_finished() && world.at(0).is_orphan());

    for (unread, linger) in [(true, None), (false, Some(Duration::ZERO))] {
        let mut world = World::established(57);
        if unread {
            world
                .at(1)
                .send(Bytes::from_static(b"read me"), &on(0))
                .expect("room");
            world.run(ms(100), |world| world.at(0).is_readable());
        }
        let now = world.now;
        world.at(0).close(now, linger);
        world.run(ms(100), |world| ended(world.state(1)));
        assert_eq!(world.at(1).take_error(), Some(SocketError::ConnectionReset));
    }
}
