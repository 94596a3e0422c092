//! Addresses by RARP, from engine to engine.

use std::net::Ipv4Addr;
use std::task::Waker;
use std::time::Duration;

use tidewire_netdev::OffloadSet;

use super::ethernet::{FIRST, Host, SECOND, THEIRS, ethertypes, ip};
use super::*;
use crate::ip::autoconf::rarp::{self, Server, ServerConfig};
use crate::neighbor::arp;
use crate::stats::DropReason;
use crate::wire::arp::{Message, Operation};
use crate::wire::ethernet::{HEADER_LEN, ethertype};

const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// A host that has nothing but its hardware address, 02:00:00:00:00:07.
fn nameless() -> Host {
    let mut config = Config {
        seed: Some(2),
        ..Config::default()
    };
    config.host.link_local_addresses = false;
    let host = Host {
        engine: Engine::new(config),
        now: Instant::ZERO,
        wakes: WakeList::new(),
    };
    let attachment = Attachment {
        name: "eth".to_owned(),
        queues: 1,
        hardware_address: Some(MacAddress([2, 0, 0, 0, 0, 7])),
        capabilities: Capabilities {
            medium: Medium::Ethernet,
            mtu: 1500,
            offloads: OffloadSet::ALL,
            max_super_packet: 65_535,
        },
    };
    assert_eq!(host.engine.attach(host.now, attachment), FIRST);
    host
}

fn reverse(frame: &Packet) -> Message {
    let octets = frame.to_bytes();
    assert_eq!(octets[12..14], ethertype::RARP.to_be_bytes());
    let (message, _) = Message::parse(&octets[HEADER_LEN..]).expect("a RARP packet");
    message
}

#[test]
fn a_host_is_told_its_address_and_uses_it() {
    let mut client = nameless();
    let config = rarp::Config {
        prefix: Some(24),
        gateway: Some(Ipv4Addr::new(10, 0, 0, 1)),
        ..rarp::Config::default()
    };
    let asked = client.engine.configure_by_rarp(client.now, FIRST, config);
    asked.expect("an Ethernet interface");
    let waker = Waker::noop();
    assert!(!client.engine.addresses_settled(waker));
    let mut server = Host::new();
    let mut table = Server::new(ServerConfig::default());
    let theirs = MacAddress([2, 0, 0, 0, 0, 7]);
    table.insert(theirs, [10, 0, 0, 7].into()).expect("room");
    server.engine.serve_rarp(FIRST, table).expect("Ethernet");

    let question = client.advance(Duration::ZERO);
    let [question] = &question[..] else {
        panic!("one question: {question:?}");
    };
    // RFC 903 3; to everybody on the link.
    assert_eq!(reverse(question).operation, Operation::ReverseRequest);
    assert_eq!(question.to_bytes()[..6], [0xff; 6]);
    server.receive(FIRST, question.clone());
    let sent = server.sent(FIRST);
    let [answer] = &sent[..] else {
        panic!("one answer: {sent:?}");
    };
    assert_eq!(reverse(answer).sender_protocol, OURS);
    assert_eq!(answer.to_bytes()[..6], theirs.0);
    client.receive(FIRST, answer.clone());
    assert!(client.engine.addresses_settled(waker));
    let [(FIRST, told)] = client.engine.rarp_answers()[..] else {
        panic!("an answer: {:?}", client.engine.rarp_answers());
    };
    assert_eq!(told.address, "10.0.0.7/24".parse().expect("an address"));
    // Others on the link are asked whether they have it (RFC 5227 2.1), and it is used meanwhile.
    let sent = client.advance(Duration::from_secs(2));
    assert_eq!(ethertypes(&sent)[0], ethertype::ARP);
    let path = client
        .engine
        .network
        .path(client.now, ip("192.0.2.1"), None, None);
    let path = path.expect("by the router");
    assert_eq!(
        (path.next_hop, path.source),
        (ip("10.0.0.1"), ip("10.0.0.7"))
    );
}

#[test]
fn a_host_that_nobody_knows_gives_up_and_says_so() {
    let mut client = nameless();
    let asked = client
        .engine
        .configure_by_rarp(client.now, FIRST, rarp::Config::default());
    asked.expect("an Ethernet interface");
    let sent = client.advance(Duration::from_secs(130));
    assert_eq!(ethertypes(&sent), [ethertype::RARP; 9]);
    assert!(client.engine.addresses_settled(Waker::noop()));
    assert_eq!(client.engine.rarp_failures(), [FIRST]);
    assert_eq!(client.engine.rarp_answers(), []);
}

#[test]
fn rarp_packets_are_dropped_where_nobody_uses_them() {
    let mut host = Host::new();
    let question = Message {
        operation: Operation::ReverseRequest,
        ..arp::request(THEIRS, Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED)
    };
    let answer = Message {
        operation: Operation::ReverseReply,
        ..question
    };
    for message in [question, answer] {
        for interface in [FIRST, SECOND] {
            host.receive(
                interface,
                arp::frame(&message, THEIRS, MacAddress::BROADCAST),
            );
        }
    }
    assert_eq!(host.dropped(DropReason::UnknownLinkProtocol), 4);
    // A server without an address of its own has nobody to answer as (ar$spa is its address).
    let mut table = Server::new(ServerConfig::default());
    let known = table.insert(MacAddress([0; 6]), OURS);
    known.expect("room");
    host.engine.serve_rarp(SECOND, table).expect("Ethernet");
    host.receive(SECOND, arp::frame(&question, THEIRS, MacAddress::BROADCAST));
    assert_eq!(host.dropped(DropReason::NotForUs), 1);
    assert_eq!(host.sent(SECOND).len(), 0);
}
