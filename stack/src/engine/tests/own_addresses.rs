//! Own addresses that other hosts use, too.

use std::net::{IpAddr, Ipv4Addr};
use std::task::{Poll, Waker};
use std::time::Duration;

use super::ethernet::{Count, FIRST, Host, THEIRS, ethertypes};
use super::*;
use crate::ip::autoconf::dad::{AddressDefense, AddressState, DuplicateDetection, LostAddress};
use crate::neighbor::arp;
use crate::tcp::info::State;
use crate::wire::arp::Message;
use crate::wire::ethernet::{HEADER_LEN, ethertype};

const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// A host whose 10.0.0.1 was probed for, and is defended in that way.
fn defending(defense: AddressDefense) -> Host {
    let mut config = Config {
        seed: Some(1),
        ..Config::default()
    };
    config.host.duplicate_detection_v4 = DuplicateDetection::Strict;
    config.host.duplicate_detection_v6 = DuplicateDetection::Off;
    config.host.duplicate_detection.defense = defense;
    let mut host = Host::with(config);
    let sent = host.advance(Duration::from_secs(20));
    // RFC 5227 2.1.1, 2.3: three probes, two announcements.
    assert_eq!(ethertypes(&sent), [ethertype::ARP; 5]);
    host
}

fn state(host: &Host) -> Option<AddressState> {
    let known = host.engine.addresses();
    let own = known
        .iter()
        .find(|known| known.address() == IpAddr::V4(OURS));
    own.map(|own| own.state)
}

fn claim(host: &mut Host) {
    let claim = arp::announcement(THEIRS, OURS);
    host.receive(FIRST, arp::frame(&claim, THEIRS, MacAddress::BROADCAST));
}

#[test]
fn an_address_that_another_host_insists_on_is_lost_with_its_connections() {
    let mut host = defending(AddressDefense::Once);
    let slot = host.established();
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    assert!(host.engine.poll_lost_address(&waker).is_pending());

    claim(&mut host);
    // RFC 5227 2.4 (b): defended once.
    let sent = host.sent(FIRST);
    assert_eq!(ethertypes(&sent), [ethertype::ARP]);
    let (defence, _) = Message::parse(&sent[0].to_bytes()[HEADER_LEN..]).expect("ARP");
    assert_eq!(defence, arp::announcement(host.ours(FIRST), OURS));
    assert_eq!(state(&host), Some(AddressState::Assigned));

    host.now += Duration::from_secs(9);
    claim(&mut host);
    assert_eq!(state(&host), Some(AddressState::Duplicate));
    assert_eq!(slot.lock().socket.connection.state(), State::Closed);
    host.wakes.wake_all();
    assert!(count.0.load(Ordering::SeqCst) > 0);
    let lost = LostAddress {
        interface: FIRST,
        address: OURS.into(),
        owner: Some(THEIRS),
    };
    let polled = host.engine.poll_lost_address(&waker);
    assert_eq!(polled, Poll::Ready(Ok(lost)));
    assert!(host.engine.poll_lost_address(&waker).is_pending());
    // 2.4: the peer hears of the end, RST.
    let sent = host.sent(FIRST);
    assert_eq!(ethertypes(&sent), [ethertype::IPV4]);
    assert_eq!(sent[0].to_bytes()[HEADER_LEN + 20 + 13] & 4, 4, "RST");
    // It is not answered for any more (2.1.1: it is the other's).
    let request = arp::request(THEIRS, Ipv4Addr::new(10, 0, 0, 9), OURS);
    host.receive(FIRST, arp::frame(&request, THEIRS, MacAddress::BROADCAST));
    assert_eq!(host.sent(FIRST).len(), 0);

    host.engine
        .end(host.now, SocketError::NetworkDown, &mut host.wakes);
    let polled = host.engine.poll_lost_address(&waker);
    assert_eq!(polled, Poll::Ready(Err(SocketError::NetworkDown)));
}

#[test]
fn an_address_is_kept_against_all_claims_unless_told_otherwise() {
    let mut host = defending(AddressDefense::default());
    let slot = host.established();
    let mut defences = 0;
    for _ in 0..100 {
        claim(&mut host);
        let sent = host.sent(FIRST);
        defences += ethertypes(&sent)
            .iter()
            .filter(|kind| **kind == ethertype::ARP)
            .count();
        host.advance(Duration::from_secs(1));
    }
    // RFC 5227 2.4 (c): DEFEND_INTERVAL.
    assert_eq!(defences, 10);
    assert_eq!(state(&host), Some(AddressState::Assigned));
    assert_eq!(slot.lock().socket.connection.state(), State::Established);
}
