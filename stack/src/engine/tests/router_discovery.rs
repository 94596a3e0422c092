//! What an engine does with routers' advertisements and redirects, frame by frame, in virtual time.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use bytes::Bytes;
use tidewire_netdev::{Checksum, Packet};

use super::ethernet::{FIRST, Host, SECOND, THEIRS, ip, source_v6};
use super::*;
use crate::error::SocketResult;
use crate::ip::Cidr;
use crate::ip::address::InterfaceAddress;
use crate::ip::autoconf::dad::{AddressState, DuplicateDetection};
use crate::ip::autoconf::interface_identifier::IdentifierKind;
use crate::ip::autoconf::router_discovery::Config as DiscoveryConfig;
use crate::ip::autoconf::temporary_address;
use crate::ip::output::{self, OutputHeader};
use crate::ip::route::Route;
use crate::link::ethernet::{self, LinkProtocol};
use crate::neighbor::NeighborState;
use crate::neighbor::ndp as build;
use crate::stats::DropReason;
use crate::wire::ethernet::HEADER_LEN;
use crate::wire::ndp::{
    ALL_NODES, Message, NeighborAdvertisement, Redirect, RouterAdvertisement, RouterPreference,
};
use crate::wire::protocol;

const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
const OTHER_ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 8);
const THEIR_OTHER: MacAddress = MacAddress([2, 0, 0, 0, 0, 8]);
const PREFIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 0);
const FAR: &str = "2001:db9::1";
const HOUR: u32 = 3600;

/// A packet of Neighbor Discovery to all nodes, in its frame.
fn packet(source: Ipv6Addr, station: MacAddress, message: &Message, options: &[u8]) -> Packet {
    let mut octets = vec![0; message.encoded_len()];
    message.emit(&mut octets);
    octets.extend(options);
    let mut packet = Packet::new();
    packet.push(Bytes::from(octets));
    let header = OutputHeader {
        hop_limit: 255,
        ..OutputHeader::new(source.into(), ALL_NODES.into(), protocol::ICMPV6)
    };
    output::prepend(&mut packet, &header).expect("addresses of one version");
    let group = MacAddress::multicast_v6(ALL_NODES);
    ethernet::prepend(&mut packet, station, group, LinkProtocol::Ipv6);
    packet.offload.checksum = Checksum::Verified;
    packet
}

fn station_of(router: Ipv6Addr) -> MacAddress {
    if router == ROUTER {
        THEIRS
    } else {
        THEIR_OTHER
    }
}

fn link_layer(kind: u8, station: MacAddress) -> Vec<u8> {
    let mut option = vec![kind, 1];
    option.extend(station.0);
    option
}

fn prefix(net: Ipv6Addr, flags: u8, valid: u32, preferred: u32) -> Vec<u8> {
    let mut option = vec![3, 4, 64, flags];
    option.extend(valid.to_be_bytes());
    option.extend(preferred.to_be_bytes());
    option.extend([0; 4]);
    option.extend(net.octets());
    option
}

fn both(net: Ipv6Addr) -> Vec<u8> {
    prefix(net, 0xc0, 4 * HOUR, 4 * HOUR)
}

fn default_router() -> RouterAdvertisement {
    RouterAdvertisement {
        current_hop_limit: 0,
        managed: false,
        other_configuration: false,
        preference: RouterPreference::Medium,
        router_lifetime: 1800,
        reachable_time: 0,
        retrans_timer: 0,
    }
}

impl Host {
    fn listening() -> Self {
        Self::listening_with(DiscoveryConfig::default())
    }

    fn listening_with(config: DiscoveryConfig) -> Self {
        let host = Self::new();
        let begun = host.engine.configure_by_slaac(host.now, FIRST, config);
        assert_eq!(begun, Ok(()));
        host
    }

    fn advertise(&mut self, router: Ipv6Addr, advertisement: RouterAdvertisement, options: &[u8]) {
        let station = station_of(router);
        let mut all = link_layer(1, station);
        all.extend(options);
        let message = Message::RouterAdvertisement(advertisement);
        self.receive(FIRST, packet(router, station, &message, &all));
    }

    /// The router or neighbour answers.
    fn answer(&mut self, target: Ipv6Addr, station: MacAddress, router: bool) {
        let advertisement = NeighborAdvertisement {
            router,
            solicited: false,
            overrides: true,
            target,
        };
        let message = Message::NeighborAdvertisement(advertisement);
        let option = link_layer(2, station);
        self.receive(FIRST, packet(target, station, &message, &option));
    }

    fn own_link_local(&self) -> Ipv6Addr {
        let assigned = self.engine.network.assigned_link_local(FIRST);
        assigned.expect("a link-local address")
    }

    /// The router answers a question of ours.
    fn confirm(&mut self, router: Ipv6Addr) {
        let answer = build::Advertisement {
            interface: FIRST,
            destination: self.own_link_local(),
            link_destination: None,
            advertisement: NeighborAdvertisement {
                router: true,
                solicited: true,
                overrides: true,
                target: router,
            },
        };
        let station = station_of(router);
        let mut packet = answer.to_packet(station);
        ethernet::prepend(&mut packet, station, self.ours(FIRST), LinkProtocol::Ipv6);
        self.receive(FIRST, packet);
    }

    fn redirect(&mut self, router: Ipv6Addr, target: Ipv6Addr, destination: Ipv6Addr) {
        let message = Message::Redirect(Redirect {
            target,
            destination,
        });
        let station = station_of(router);
        let option = link_layer(2, THEIR_OTHER);
        self.receive(FIRST, packet(router, station, &message, &option));
    }

    fn path(&self, destination: &str) -> SocketResult<network::Path> {
        let network = &self.engine.network;
        network.path(self.now, ip(destination), None, None)
    }

    fn next_hop(&self, destination: &str) -> Option<IpAddr> {
        self.path(destination).ok().map(|path| path.next_hop)
    }

    /// The interface's addresses of a prefix.
    fn made(&self, net: Ipv6Addr) -> Vec<InterfaceAddress> {
        let net = Cidr::new(net.into(), 64).expect("a prefix");
        let all = self.engine.addresses().into_iter();
        all.filter(|known| net.contains(known.address())).collect()
    }

    fn only(&self) -> InterfaceAddress {
        let made = self.made(PREFIX);
        let [only] = made[..] else {
            panic!("one address: {made:?}");
        };
        only
    }

    /// A datagram a second, as an application that wants something of far away sends them; gives all frames that leave.
    fn send_for(&mut self, socket: &Arc<UdpSlot>, seconds: u32) -> Vec<Packet> {
        let mut frames = Vec::new();
        let to = format!("[{FAR}]:7").parse().expect("a socket address");
        for _ in 0..seconds {
            let _ = self.engine.udp_send(self.now, socket, b"?", Some(to));
            frames.extend(self.sent(FIRST));
            frames.extend(self.advance(Duration::from_secs(1)));
        }
        frames
    }

    fn datagram_socket(&self) -> Arc<UdpSlot> {
        let any = BindRequest::new("[::]:0".parse().expect("a socket address"));
        self.engine.udp_bind(&any).expect("a socket")
    }
}

/// ICMPv6's type, of frames that have one.
fn kind(frame: &Packet) -> Option<u8> {
    let octets = frame.to_bytes();
    let is_icmp = octets[12..14] == [0x86, 0xdd] && octets[HEADER_LEN + 6] == protocol::ICMPV6;
    is_icmp.then(|| octets[HEADER_LEN + 40])
}

fn solicitations(frames: &[Packet]) -> Vec<&Packet> {
    frames
        .iter()
        .filter(|frame| kind(frame) == Some(133))
        .collect()
}

/// RFC 4861 6.3.7, 4.1: to all routers, from our link-local address, with ours on the link.
#[test]
fn routers_are_asked_from_the_link_local_address() {
    let mut host = Host::listening();
    let sent = host.advance(Duration::from_secs(1));
    let [question] = solicitations(&sent)[..] else {
        panic!("one question: {sent:?}");
    };
    assert_eq!(source_v6(question), host.own_link_local());
    let octets = question.to_bytes();
    assert_eq!(octets[..6], [0x33, 0x33, 0, 0, 0, 2]);
    assert_eq!(octets[HEADER_LEN + 7], 255, "hop limit");
    assert_eq!(octets[HEADER_LEN + 48..], link_layer(1, host.ours(FIRST)));
    // RFC 7559 2: again after four seconds, then twice as much, while nobody answers.
    let more = host.advance(Duration::from_secs(30));
    assert_eq!(solicitations(&more).len(), 3);
    host.advertise(ROUTER, default_router(), &[]);
    let more = host.advance(Duration::from_secs(500));
    assert_eq!(solicitations(&more).len(), 0);
}

/// RFC 4429 3.2: a solicitation from an address under detection would have others believe that it is ours.
#[test]
fn routers_are_asked_from_nowhere_while_the_link_local_address_may_be_anothers() {
    let mut host = Host::with(Config {
        seed: Some(1),
        ..Config::default()
    });
    let config = DiscoveryConfig::default();
    let begun = host.engine.configure_by_slaac(host.now, FIRST, config);
    assert_eq!(begun, Ok(()));
    let sent = host.advance(Duration::from_secs(1));
    let [question] = solicitations(&sent)[..] else {
        panic!("one question: {sent:?}");
    };
    assert_eq!(source_v6(question), Ipv6Addr::UNSPECIFIED);
    assert_eq!(question.to_bytes().len(), HEADER_LEN + 48, "no option");
}

/// RFC 4861 6.3.4, RFC 4862 5.5.3: all that one advertisement gives.
#[test]
fn an_interface_gets_address_routes_and_parameters() {
    let mut host = Host::listening();
    let advertisement = RouterAdvertisement {
        current_hop_limit: 30,
        ..default_router()
    };
    let mut options = both(PREFIX);
    options.extend([5, 1, 0, 0, 0, 0, 5, 0x14]);
    host.advertise(ROUTER, advertisement, &options);
    let made = host.only();
    assert_eq!(
        (made.state, made.deprecated),
        (AddressState::Assigned, false)
    );
    assert_eq!(made.cidr.prefix_len(), 64);
    let path = host.path(FAR).expect("a default route");
    assert_eq!(path.next_hop, IpAddr::V6(ROUTER));
    assert_eq!((path.interface, path.source), (FIRST, made.address()));
    assert_eq!((path.mtu, path.hop_limit), (1300, NonZeroU8::new(30)));
    let near = host.path("2001:db8:0:1::77").expect("on the link");
    assert_eq!(near.next_hop, ip("2001:db8:0:1::77"));
    // Of IPv4 nothing was said, and of other links.
    let v4 = host.path("10.0.0.9").expect("on the link");
    assert_eq!((v4.mtu, v4.hop_limit), (1500, None));
    let other = host
        .engine
        .network
        .path(host.now, ip("fe80::77"), None, Some(SECOND));
    assert_eq!(
        other.map(|path| (path.mtu, path.hop_limit)),
        Ok((1500, None))
    );
    // The router's place on the link is known.
    let neighbors = host.engine.neighbors();
    let router = neighbors
        .iter()
        .find(|info| info.key.address == IpAddr::V6(ROUTER));
    let router = router.expect("in the cache");
    assert_eq!(
        (router.state, router.is_router),
        (NeighborState::Stale, true)
    );
    assert_eq!(router.address, Some(THEIRS));
}

/// RFC 4861 6.3.4: CurHopLimit is what packets are sent with.
#[test]
fn packets_have_the_hop_limit_that_routers_tell() {
    let mut host = Host::listening();
    let advertisement = RouterAdvertisement {
        current_hop_limit: 30,
        ..default_router()
    };
    host.advertise(ROUTER, advertisement, &both(PREFIX));
    let hop_limit = |frames: &[Packet], next_header: u8| {
        let frame = frames.iter().map(Packet::to_bytes);
        let mut found = frame.filter(|octets| octets[HEADER_LEN + 6] == next_header);
        found.next().map(|octets| octets[HEADER_LEN + 7])
    };
    host.connect(&format!("[{FAR}]:80"));
    assert_eq!(hop_limit(&host.sent(FIRST), protocol::TCP), Some(30));
    let socket = host.datagram_socket();
    let sent = host.send_for(&socket, 1);
    assert_eq!(hop_limit(&sent, protocol::UDP), Some(30));
    let echo = host.engine.echo_open(ip("::")).expect("a socket");
    let sent = host.engine.echo_send(host.now, &echo, ip(FAR), 1, b"?");
    assert_eq!(sent, Ok(()));
    assert_eq!(hop_limit(&host.sent(FIRST), protocol::ICMPV6), Some(30));
}

/// RFC 4861 6.3.4, 6.3.5: a router that stops gives its last word; addresses outlive it.
#[test]
fn a_last_advertisement_takes_the_default_route_away() {
    let mut host = Host::listening();
    host.advertise(ROUTER, default_router(), &both(PREFIX));
    let goodbye = RouterAdvertisement {
        router_lifetime: 0,
        ..default_router()
    };
    host.advertise(ROUTER, goodbye, &[]);
    assert_eq!(
        host.path(FAR).map(|_| ()),
        Err(SocketError::NetworkUnreachable)
    );
    assert!(host.only().is_usable());
    host.advertise(ROUTER, default_router(), &[]);
    assert_eq!(host.next_hop(FAR), Some(IpAddr::V6(ROUTER)));
    host.advance(Duration::from_secs(1799));
    assert!(host.path(FAR).is_ok());
    host.advance(Duration::from_secs(1));
    assert!(host.path(FAR).is_err());
}

/// RFC 4862 5.5.4: deprecated, then invalid; connections from an invalid address fail.
#[test]
fn an_address_is_deprecated_and_ends() {
    let mut host = Host::listening();
    host.advertise(ROUTER, default_router(), &prefix(PREFIX, 0xc0, 100, 50));
    let address = host.only().address();
    let connection = host.connect(&format!("[{FAR}]:80"));
    host.advance(Duration::from_secs(50));
    assert!(host.only().deprecated && host.only().is_usable());
    // Another one is preferred for what begins now (RFC 6724 5 rule 3).
    let other = Ipv6Addr::new(0x2001, 0xdb8, 0, 2, 0, 0, 0, 0);
    host.advertise(ROUTER, default_router(), &both(other));
    let chosen = host.path(FAR).expect("a way").source;
    assert_eq!(chosen, host.made(other)[0].address());
    assert!(host.engine.network.is_own(address));
    host.advance(Duration::from_secs(50));
    assert!(host.made(PREFIX).is_empty());
    assert!(!host.engine.network.is_own(address));
    let error = connection.lock().socket.connection.take_error();
    assert!(error.is_some(), "the connection ends with its address");
}

/// RFC 4861 6.3.5; and RFC 5942 3: an address says nothing of what is on the link, nor does its end.
#[test]
fn what_is_on_the_link_is_told_apart_from_addresses() {
    let mut host = Host::listening();
    host.advertise(
        ROUTER,
        default_router(),
        &prefix(PREFIX, 0x40, 4 * HOUR, HOUR),
    );
    assert_eq!(host.made(PREFIX).len(), 1);
    assert_eq!(host.next_hop("2001:db8:0:1::77"), Some(IpAddr::V6(ROUTER)));
    host.advertise(ROUTER, default_router(), &prefix(PREFIX, 0x80, 10, 0));
    assert_eq!(
        host.next_hop("2001:db8:0:1::77"),
        Some(ip("2001:db8:0:1::77"))
    );
    host.advance(Duration::from_secs(10));
    assert_eq!(host.next_hop("2001:db8:0:1::77"), Some(IpAddr::V6(ROUTER)));
    assert_eq!(host.made(PREFIX).len(), 1);
    // What is configured stays, whatever is advertised of the same network.
    let own = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0);
    host.advertise(ROUTER, default_router(), &prefix(own, 0x80, 10, 0));
    host.advance(Duration::from_secs(10));
    assert_eq!(host.next_hop("fd00::9"), Some(ip("fd00::9")));
}

/// A gateway that is configured comes before those that advertise themselves, as a metric of 0 does on Linux.
#[test]
fn a_configured_gateway_stays_in_use() {
    let mut host = Host::listening();
    let route = Route::via(FIRST, ip("fd00::99"));
    host.engine.network.add_route(Cidr::ANY_V6, route);
    host.advertise(ROUTER, default_router(), &both(PREFIX));
    assert_eq!(host.next_hop(FAR), Some(ip("fd00::99")));
}

/// RFC 4861 6.3.6, 7.3.3: packets go by another router within seconds; RFC 4191 3.5: and back when the first answers.
#[test]
fn another_router_takes_over_when_one_does_not_answer() {
    let mut host = Host::listening();
    let preferred = RouterAdvertisement {
        preference: RouterPreference::High,
        ..default_router()
    };
    host.advertise(OTHER_ROUTER, default_router(), &both(PREFIX));
    host.advertise(ROUTER, preferred, &[]);
    assert_eq!(host.next_hop(FAR), Some(IpAddr::V6(ROUTER)));
    let socket = host.datagram_socket();
    // DELAY_FIRST_PROBE_TIME and three probes (RFC 4861 10).
    host.send_for(&socket, 7);
    assert_eq!(host.next_hop(FAR), Some(IpAddr::V6(ROUTER)));
    host.send_for(&socket, 2);
    assert_eq!(host.next_hop(FAR), Some(IpAddr::V6(OTHER_ROUTER)));
    let to = |frames: &[Packet], station: MacAddress| {
        let frames = frames.iter().map(Packet::to_bytes);
        let datagrams = frames.filter(|octets| octets[HEADER_LEN + 6] == protocol::UDP);
        datagrams.filter(|octets| octets[..6] == station.0).count()
    };
    let sent = host.send_for(&socket, 3);
    assert_eq!((to(&sent, THEIRS), to(&sent, THEIR_OTHER)), (0, 3));

    // The other one answers; the first is asked once a minute.
    let mut asked = 0;
    for _ in 0..30 {
        host.confirm(OTHER_ROUTER);
        let sent = host.send_for(&socket, 4);
        let group = MacAddress([0x33, 0x33, 0xff, 0, 0, 9]);
        let questions = sent.iter().filter(|frame| frame.to_bytes()[..6] == group.0);
        asked += questions.count();
        assert_eq!(host.next_hop(FAR), Some(IpAddr::V6(OTHER_ROUTER)));
    }
    assert_eq!(asked, 2, "in two minutes");
    while host.next_hop(FAR) == Some(IpAddr::V6(OTHER_ROUTER)) {
        host.send_for(&socket, 1);
        host.confirm(OTHER_ROUTER);
        host.confirm(ROUTER);
        assert!(host.now < Instant::from_millis(300_000), "it has answered");
    }
    assert_eq!(host.next_hop(FAR), Some(IpAddr::V6(ROUTER)));
}

/// RFC 4861 7.3.3: a connection's segments go by another router, from the same address; 6.3.5: so they do when the router's
/// lifetime ends.
#[test]
fn connections_go_on_by_another_router() {
    let stations = |frames: &[Packet]| -> Vec<[u8; 6]> {
        let frames = frames.iter().map(Packet::to_bytes);
        let segments = frames.filter(|octets| octets[HEADER_LEN + 6] == protocol::TCP);
        segments
            .map(|octets| octets[..6].try_into().expect("six octets"))
            .collect()
    };
    for has_ended in [false, true] {
        let mut host = Host::listening();
        let short = RouterAdvertisement {
            router_lifetime: if has_ended { 2 } else { 1800 },
            ..default_router()
        };
        host.advertise(ROUTER, short, &both(PREFIX));
        host.advertise(OTHER_ROUTER, default_router(), &[]);
        let connection = host.connect(&format!("[{FAR}]:80"));
        let first = host.sent(FIRST);
        assert_eq!(stations(&first), [THEIRS.0]);
        let local = connection.lock().socket.connection.tuple().local;
        let later = host.advance(Duration::from_secs(20));
        let later = stations(&later);
        assert_eq!(later.last(), Some(&THEIR_OTHER.0), "{has_ended}: {later:?}");
        let after = connection.lock().socket.connection.tuple().local;
        assert_eq!(after, local);
    }
}

/// RFC 4191 3.5: "MUST NOT probe a router's reachability in the absence of useful traffic".
#[test]
fn nobody_asks_for_a_router_without_traffic() {
    let mut host = Host::listening();
    host.advertise(ROUTER, default_router(), &both(PREFIX));
    host.advertise(OTHER_ROUTER, default_router(), &[]);
    let socket = host.datagram_socket();
    host.send_for(&socket, 10);
    assert_eq!(host.next_hop(FAR), Some(IpAddr::V6(OTHER_ROUTER)));
    let sent = host.advance(Duration::from_secs(90));
    let later = host.advance(Duration::from_secs(600));
    let asks = |frames: &[Packet]| {
        frames
            .iter()
            .filter(|frame| kind(frame) == Some(135))
            .count()
    };
    assert!(asks(&sent) <= 7, "{}", asks(&sent));
    assert_eq!(asks(&later), 0);
}

/// RFC 4861 7.2.5: a router that says that it is a host is none of the default routers any more.
#[test]
fn a_router_that_becomes_a_host_is_not_used() {
    let mut host = Host::listening();
    host.advertise(ROUTER, default_router(), &both(PREFIX));
    host.answer(ROUTER, THEIRS, false);
    assert_eq!(
        host.path(FAR).map(|_| ()),
        Err(SocketError::NetworkUnreachable)
    );
}

/// RFC 4861 8.1, 8.3.
#[test]
fn a_redirect_of_the_first_hop_is_followed() {
    let far = FAR.parse().expect("an address");
    let mut host = Host::listening();
    host.advertise(ROUTER, default_router(), &both(PREFIX));
    // Not from another, nor about what is on the link.
    host.redirect(OTHER_ROUTER, OTHER_ROUTER, far);
    host.redirect(
        ROUTER,
        OTHER_ROUTER,
        "2001:db8:0:1::77".parse().expect("an address"),
    );
    assert_eq!(host.dropped(DropReason::BadNeighbor), 2);
    assert_eq!(host.next_hop(FAR), Some(IpAddr::V6(ROUTER)));

    host.redirect(ROUTER, OTHER_ROUTER, far);
    assert_eq!(host.next_hop(FAR), Some(IpAddr::V6(OTHER_ROUTER)));
    assert_eq!(
        host.next_hop("2001:db9::2"),
        Some(IpAddr::V6(ROUTER)),
        "for it alone"
    );
    let neighbors = host.engine.neighbors();
    let target = neighbors
        .iter()
        .find(|info| info.key.address == IpAddr::V6(OTHER_ROUTER));
    let target = target.map(|info| (info.state, info.address, info.is_router));
    assert_eq!(
        target,
        Some((NeighborState::Stale, Some(THEIR_OTHER), true))
    );
    // From now on the target is the first hop that may redirect.
    host.redirect(ROUTER, far, far);
    assert_eq!(host.next_hop(FAR), Some(IpAddr::V6(OTHER_ROUTER)));
    host.redirect(OTHER_ROUTER, far, far);
    assert_eq!(host.next_hop(FAR), Some(IpAddr::V6(far)), "on the link");
    host.advance(Duration::from_secs(600));
    assert_eq!(host.next_hop(FAR), Some(IpAddr::V6(ROUTER)), "forgotten");
}

/// RFC 4861 8.1: the first hop is that of the packets' own way: a router on one link has no say about what goes over another.
#[test]
fn a_redirect_of_another_links_router_is_refused() {
    let mut host = Host::listening();
    host.advertise(ROUTER, default_router(), &both(PREFIX));
    let other_way = Route::via(SECOND, ip("fe80::77"));
    let net = "2001:db9::/32".parse().expect("a prefix");
    host.engine.network.add_route(net, other_way);
    host.redirect(ROUTER, OTHER_ROUTER, FAR.parse().expect("an address"));
    assert_eq!(host.dropped(DropReason::BadNeighbor), 1);
    assert_eq!(host.next_hop(FAR), Some(ip("fe80::77")));
}

/// RFC 4861 7.3.3: next-hop determination is done anew when the target of a redirect does not answer.
#[test]
fn a_redirect_to_nobody_is_forgotten() {
    let mut host = Host::listening();
    host.advertise(ROUTER, default_router(), &both(PREFIX));
    host.redirect(ROUTER, OTHER_ROUTER, FAR.parse().expect("an address"));
    let socket = host.datagram_socket();
    host.send_for(&socket, 9);
    assert_eq!(host.next_hop(FAR), Some(IpAddr::V6(ROUTER)));
}

#[test]
fn redirects_can_be_refused_and_are_bounded() {
    let mut config = Config {
        seed: Some(1),
        ..Config::default()
    };
    config.host.redirects.accept = false;
    let mut host = Host::with(config);
    let begun = host
        .engine
        .configure_by_slaac(host.now, FIRST, DiscoveryConfig::default());
    assert_eq!(begun, Ok(()));
    host.advertise(ROUTER, default_router(), &both(PREFIX));
    host.redirect(ROUTER, OTHER_ROUTER, FAR.parse().expect("an address"));
    assert_eq!(host.next_hop(FAR), Some(IpAddr::V6(ROUTER)));

    let mut host = Host::listening();
    host.advertise(ROUTER, default_router(), &both(PREFIX));
    for number in 0..2000 {
        let far = Ipv6Addr::new(0x2001, 0xdb9, 0, 0, 0, 0, 1, number);
        host.redirect(ROUTER, OTHER_ROUTER, far);
        host.now += Duration::from_millis(1);
    }
    let redirected = (0..2000).filter(|number| {
        host.next_hop(&format!("2001:db9::1:{number:x}")) == Some(IpAddr::V6(OTHER_ROUTER))
    });
    assert_eq!(
        redirected.count(),
        host.engine.config().host.redirects.max_entries
    );
}

/// RFC 4862 5.4, RFC 7217 6: an address of another host is given up, and another one made.
#[test]
fn another_address_takes_the_place_of_a_duplicate() {
    for mode in [DuplicateDetection::Optimistic, DuplicateDetection::Strict] {
        let mut config = Config {
            seed: Some(1),
            ..Config::default()
        };
        config.host.duplicate_detection_v6 = mode;
        let mut host = Host::with(config);
        let begun = host
            .engine
            .configure_by_slaac(host.now, FIRST, DiscoveryConfig::default());
        assert_eq!(begun, Ok(()));
        host.advance(Duration::from_secs(10));
        host.advertise(ROUTER, default_router(), &both(PREFIX));
        let first = host.only();
        assert_eq!(first.is_usable(), mode == DuplicateDetection::Optimistic);
        let IpAddr::V6(address) = first.address() else {
            panic!("an IPv6 address");
        };
        host.answer(address, THEIR_OTHER, false);
        assert!(host.made(PREFIX).is_empty(), "given up");
        assert!(!host.engine.network.is_own(address.into()));
        assert!(!host.engine.addresses_settled(std::task::Waker::noop()));
        // IDGEN_DELAY, the delay of detection, and RetransTimer.
        host.advance(Duration::from_secs(3));
        let second = host.only();
        assert_ne!(second.address(), first.address());
        assert_eq!(second.state, AddressState::Assigned);
        assert!(host.engine.addresses_settled(std::task::Waker::noop()));
    }
}

/// RFC 7217 6, RFC 4862 5.4.5: with none left to try the address stays, unused, and that is told.
#[test]
fn a_duplicate_without_another_to_try_stays_unused() {
    let mut config = Config {
        seed: Some(1),
        ..Config::default()
    };
    config.host.duplicate_detection_v6 = DuplicateDetection::Strict;
    let mut host = Host::with(config);
    let mut discovery = DiscoveryConfig::default();
    discovery.addresses.identifiers = IdentifierKind::Hardware;
    let begun = host.engine.configure_by_slaac(host.now, FIRST, discovery);
    assert_eq!(begun, Ok(()));
    host.advertise(ROUTER, default_router(), &both(PREFIX));
    let IpAddr::V6(address) = host.only().address() else {
        panic!("an IPv6 address");
    };
    assert_eq!(
        address.segments()[5..7],
        [0x00ff, 0xfe00],
        "from the hardware's"
    );
    host.answer(address, THEIR_OTHER, false);
    assert_eq!(host.only().state, AddressState::Duplicate);
    host.advertise(ROUTER, default_router(), &both(PREFIX));
    host.advance(Duration::from_secs(10));
    assert_eq!(host.only().state, AddressState::Duplicate);
}

/// RFC 7217 5: link-local addresses are opaque where others are; 6: and have others in their place when they are duplicates.
#[test]
fn the_link_local_address_is_opaque_and_replaced_when_it_is_anothers() {
    let link = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
    let mut host = Host::with(Config {
        seed: Some(1),
        ..Config::default()
    });
    let begun = host
        .engine
        .configure_by_slaac(host.now, FIRST, DiscoveryConfig::default());
    assert_eq!(begun, Ok(()));
    let of_first = |host: &Host| {
        let mut made = host.made(link);
        made.retain(|known| known.interface == FIRST);
        let [only] = made[..] else {
            panic!("one address: {made:?}");
        };
        only
    };
    let first = of_first(&host);
    assert_ne!(first.address(), IpAddr::V6(host.link_local(FIRST)));
    let IpAddr::V6(address) = first.address() else {
        panic!("an IPv6 address");
    };
    host.answer(address, THEIR_OTHER, false);
    host.advance(Duration::from_secs(3));
    let second = of_first(&host);
    assert_ne!(second.address(), first.address());
    assert_eq!(second.state, AddressState::Assigned);
    // The link's network is still reached over it.
    let path = host
        .engine
        .network
        .path(host.now, ROUTER.into(), None, Some(FIRST));
    assert_eq!(path.map(|path| path.source), Ok(second.address()));
    // It is none of those that routers gave.
    assert!(host.engine.advertised()[0].1.addresses.is_empty());

    let mut discovery = DiscoveryConfig::default();
    discovery.addresses.identifiers = IdentifierKind::Hardware;
    let host = Host::listening_with(discovery);
    assert_eq!(
        of_first(&host).address(),
        IpAddr::V6(host.link_local(FIRST))
    );
}

/// RFC 8981 3.4, RFC 6724 5 rule 7: what this host begins comes from the temporary address.
#[test]
fn a_temporary_address_is_the_source_of_new_connections() {
    let mut config = DiscoveryConfig::default();
    config.addresses.temporary = Some(temporary_address::Config::default());
    let mut host = Host::listening_with(config);
    let week = 7 * 24 * HOUR;
    host.advertise(ROUTER, default_router(), &prefix(PREFIX, 0xc0, week, week));
    let made = host.made(PREFIX);
    assert_eq!(made.len(), 2);
    let temporary = made.iter().find(|known| known.temporary).expect("one");
    assert_eq!(host.path(FAR).expect("a way").source, temporary.address());
    // A day later it is another one; the first is still there for what began with it.
    for _ in 0..30 {
        host.advance(Duration::from_secs(3600));
        host.advertise(ROUTER, default_router(), &prefix(PREFIX, 0xc0, week, week));
    }
    let later = host.path(FAR).expect("a way").source;
    assert_ne!(later, temporary.address());
    assert!(host.engine.network.is_own(temporary.address()));
    let lasting = made.iter().find(|known| !known.temporary).expect("one");
    assert!(
        host.made(PREFIX)
            .iter()
            .any(|known| known.address() == lasting.address())
    );
}

/// A thousand prefixes leave no more than the limits say: RFC 4861 6.3.4, 10; Linux's `max_addresses`.
#[test]
fn what_a_flood_of_advertisements_leaves_is_bounded() {
    let mut host = Host::listening();
    let before = host.engine.addresses().len();
    let config = DiscoveryConfig::default();
    for number in 0..1000u16 {
        let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, number);
        let net = Ipv6Addr::new(0x2001, 0xdb8, number, 0, 0, 0, 0, 0);
        host.advertise(router, default_router(), &both(net));
        if number % 100 == 0 {
            host.sent(FIRST);
        }
    }
    let added = host.engine.addresses().len() - before;
    assert_eq!(added, config.addresses.max_addresses);
    let told = host.engine.advertised();
    let [(FIRST, told)] = &told[..] else {
        panic!("one interface: {told:?}");
    };
    assert_eq!(told.prefixes.len(), config.max_prefixes);
    assert_eq!(told.default_routers.len(), config.max_routers);
    assert!(host.engine.neighbors().len() <= host.engine.config().neighbor.max_entries);
    assert!(lock(&host.engine.shards[0].replies).len() <= host.engine.config().host.reply_queue);
}

/// Where addresses are configured, routers are not listened to.
#[test]
fn advertisements_change_nothing_where_they_are_not_wanted() {
    let mut host = Host::new();
    let before = host.engine.addresses();
    host.advertise(ROUTER, default_router(), &both(PREFIX));
    assert_eq!(host.engine.addresses(), before);
    assert!(host.path(FAR).is_err());
    assert_eq!(host.dropped(DropReason::UnknownProtocol), 1);
    assert!(host.engine.neighbors().is_empty());
}

/// RFC 4862 5.5.3 d: an address that is configured already is that of the configuration.
#[test]
fn a_configured_address_is_not_that_of_the_prefix() {
    let mut discovery = DiscoveryConfig::default();
    discovery.addresses.identifiers = IdentifierKind::Hardware;
    let mut host = Host::listening_with(discovery);
    host.address(FIRST, "2001:db8:0:1:0:ff:fe00:101/64");
    host.advertise(ROUTER, default_router(), &prefix(PREFIX, 0x40, 100, 50));
    host.only();
    host.advance(Duration::from_secs(100));
    assert!(!host.only().deprecated);
}

#[test]
fn who_waits_for_addresses_is_woken_by_the_first_advertisement() {
    let mut host = Host::listening();
    assert!(!host.engine.addresses_settled(std::task::Waker::noop()));
    assert_eq!(lock(&host.engine.address_waiters).len(), 1);
    host.advertise(ROUTER, default_router(), &both(PREFIX));
    assert!(lock(&host.engine.address_waiters).is_empty());
    assert!(host.engine.addresses_settled(std::task::Waker::noop()));
}

/// RFC 4861 6.3.4, RFC 4862 5.1: RetransTimer is duplicate detection's, too.
#[test]
fn duplicate_detection_waits_as_long_as_routers_say() {
    let mut config = Config {
        seed: Some(1),
        ..Config::default()
    };
    config.host.duplicate_detection_v6 = DuplicateDetection::Optimistic;
    let mut host = Host::with(config);
    let begun = host
        .engine
        .configure_by_slaac(host.now, FIRST, DiscoveryConfig::default());
    assert_eq!(begun, Ok(()));
    let advertisement = RouterAdvertisement {
        retrans_timer: 200,
        ..default_router()
    };
    host.advertise(ROUTER, advertisement, &[]);
    host.advertise(ROUTER, advertisement, &both(PREFIX));
    assert_eq!(host.only().state, AddressState::Optimistic);
    host.advance(Duration::from_millis(201));
    assert_eq!(host.only().state, AddressState::Assigned);
}

/// RFC 4861 6.3.7: a link that comes up may be another.
#[test]
fn routers_are_asked_anew_when_the_link_comes_up() {
    let mut host = Host::listening();
    host.advertise(ROUTER, default_router(), &both(PREFIX));
    let sent = host.advance(Duration::from_secs(100));
    assert_eq!(solicitations(&sent).len(), 1);
    lock(&host.engine.came_up).insert(FIRST);
    host.engine.note_housekeeping(Some(host.now));
    let sent = host.advance(Duration::from_secs(2));
    assert_eq!(solicitations(&sent).len(), 1);
}

/// RFC 6980 5: in fragments, even in one, no message of Neighbor Discovery counts.
#[test]
fn fragmented_advertisements_are_ignored() {
    let mut host = Host::listening();
    let message = Message::RouterAdvertisement(default_router());
    let mut octets = vec![58, 0, 0, 0, 0, 0, 0, 1];
    let at = octets.len();
    octets.resize(at + message.encoded_len(), 0);
    message.emit(&mut octets[at..]);
    octets.extend(both(PREFIX));
    let mut packet = Packet::new();
    packet.push(Bytes::from(octets));
    let header = OutputHeader {
        hop_limit: 255,
        ..OutputHeader::new(ROUTER.into(), ALL_NODES.into(), 44)
    };
    output::prepend(&mut packet, &header).expect("addresses of one version");
    let group = MacAddress::multicast_v6(ALL_NODES);
    ethernet::prepend(&mut packet, THEIRS, group, LinkProtocol::Ipv6);
    packet.offload.checksum = Checksum::Verified;
    host.receive(FIRST, packet);
    assert_eq!(host.dropped(DropReason::BadNeighbor), 1);
    assert!(host.made(PREFIX).is_empty() && host.path(FAR).is_err());
    // The same in one piece.
    host.advertise(ROUTER, default_router(), &both(PREFIX));
    assert!(host.path(FAR).is_ok());
}
