//! Weak and strong hosts (RFC 1122 3.3.4.2).

use std::net::Ipv4Addr;

use tidewire_netdev::Packet;

use super::ethernet::{FIRST, Host, SECOND, THEIRS, datagram, frame, ip};
use super::*;
use crate::config::HostModel;
use crate::ip::autoconf::dad::DuplicateDetection;
use crate::neighbor::arp;
use crate::stats::DropReason;
use crate::transport::ports::BindRequest;
use crate::wire::protocol;

/// 10.0.0.1/24 on the first interface, 10.1.0.1/24 on the second.
fn host(model: HostModel) -> Host {
    let mut config = Config {
        seed: Some(1),
        ..Config::default()
    };
    config.host.duplicate_detection_v6 = DuplicateDetection::Off;
    config.host.host_model = model;
    let mut host = Host::with(config);
    host.address(SECOND, "10.1.0.1/24");
    let theirs = ip("10.0.0.9");
    let known = host.engine.set_neighbor(host.now, FIRST, theirs, THEIRS);
    known.expect("an Ethernet interface");
    host.sent_all(FIRST);
    host
}

fn datagram_to(host: &Host, destination: &str) -> Packet {
    let hardware = (THEIRS, host.ours(FIRST));
    let addresses = (ip("10.0.0.9"), ip(destination));
    frame(hardware, addresses, protocol::UDP, &datagram(7))
}

#[test]
fn a_strong_host_takes_packets_for_an_address_on_its_interface_alone() {
    for (model, taken) in [(HostModel::Weak, 2), (HostModel::Strong, 1)] {
        let mut host = host(model);
        let bound = BindRequest::new("0.0.0.0:7".parse().expect("an address"));
        let socket = host.engine.udp_bind(&bound).expect("free");
        for destination in ["10.0.0.1", "10.1.0.1"] {
            host.receive(FIRST, datagram_to(&host, destination));
        }
        let mut buffer = [0; 8];
        let received = std::iter::from_fn(|| socket.lock().socket.socket.recv(&mut buffer).ok());
        assert_eq!(received.count(), taken, "{model:?}");
        assert_eq!(host.dropped(DropReason::NotForUs), 2 - taken as u64);
    }
}

#[test]
fn a_strong_host_answers_arp_for_the_addresses_of_the_link_alone() {
    let theirs = Ipv4Addr::new(10, 0, 0, 9);
    for (model, expected) in [(HostModel::Weak, 1), (HostModel::Strong, 0)] {
        let mut host = host(model);
        for (target, answers) in [([10, 0, 0, 1], 1), ([10, 1, 0, 1], expected)] {
            let request = arp::request(THEIRS, theirs, target.into());
            host.receive(FIRST, arp::frame(&request, THEIRS, MacAddress::BROADCAST));
            assert_eq!(host.sent(FIRST).len(), answers, "{model:?} {target:?}");
        }
    }
}

#[test]
fn a_strong_host_sends_from_an_address_through_its_interface() {
    for model in [HostModel::Weak, HostModel::Strong] {
        let host = host(model);
        let network = &host.engine.network;
        let path = |destination, source: Option<&str>| {
            let found = network.path(host.now, ip(destination), source.map(ip), None);
            found.map(|path| (path.interface, path.source))
        };
        let plain = (FIRST, ip("10.0.0.1"));
        assert_eq!(path("10.0.0.9", None), Ok(plain));
        assert_eq!(path("10.0.0.9", Some("10.0.0.1")), Ok(plain));
        let crossing = path("10.0.0.9", Some("10.1.0.1"));
        // To itself a host is one host.
        let inside = path("10.1.0.1", Some("10.0.0.1"));
        assert_eq!(inside, Ok((InterfaceId::LOOPBACK, ip("10.0.0.1"))));
        match model {
            HostModel::Weak => assert_eq!(crossing, Ok((FIRST, ip("10.1.0.1")))),
            HostModel::Strong => assert_eq!(crossing, Err(SocketError::NetworkUnreachable)),
        }
    }
}
