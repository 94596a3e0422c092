//! An engine on Ethernet links, frame by frame.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6};
use std::sync::atomic::AtomicUsize;
use std::task::Wake;
use std::time::Duration;

use bytes::Bytes;
use tidewire_netdev::{Checksum, OffloadSet};

use super::*;
use crate::engine::sockets::TcpOptions;
use crate::ip::Cidr;
use crate::ip::autoconf::dad::{AddressState, DuplicateDetection};
use crate::ip::output::{self, OutputHeader};
use crate::link::ethernet::{self, LinkProtocol};
use crate::neighbor::{NeighborState, Ownership, arp};
use crate::stats::DropReason;
use crate::tcp::info::State;
use crate::wire::ethernet::{HEADER_LEN, Header as EthernetHeader, ethertype};
use crate::wire::tcp::{Flags, Header as TcpHeader};
use crate::wire::{protocol, udp as wire_udp};

pub(super) const THEIRS: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);
pub(super) const FIRST: InterfaceId = InterfaceId(2);
pub(super) const SECOND: InterfaceId = InterfaceId(3);

/// An engine with Ethernet interfaces, and time.
pub(super) struct Host {
    pub(super) engine: Engine,
    pub(super) now: Instant,
    pub(super) wakes: WakeList,
}

impl Host {
    pub(super) fn new() -> Self {
        let mut config = Config {
            seed: Some(1),
            ..Config::default()
        };
        config.host.duplicate_detection_v6 = DuplicateDetection::Off;
        Self::with(config)
    }

    pub(super) fn with(config: Config) -> Self {
        let host = Self {
            engine: Engine::new(config),
            now: Instant::ZERO,
            wakes: WakeList::new(),
        };
        for number in [1, 2] {
            let attachment = Attachment {
                name: format!("eth{number}"),
                queues: 1,
                hardware_address: Some(MacAddress([2, 0, 0, 0, 1, number])),
                capabilities: Capabilities {
                    medium: Medium::Ethernet,
                    mtu: 1500,
                    offloads: OffloadSet::ALL,
                    max_super_packet: 65_535,
                },
            };
            host.engine.attach(host.now, attachment);
        }
        host.address(FIRST, "10.0.0.1/24");
        host.address(FIRST, "fd00::1/64");
        host
    }

    pub(super) fn address(&self, interface: InterfaceId, cidr: &str) {
        let cidr = cidr.parse().expect("an address with its prefix");
        self.engine.add_address(self.now, interface, cidr);
    }

    pub(super) fn ours(&self, interface: InterfaceId) -> MacAddress {
        let ours = self.engine.network.hardware_address(interface);
        ours.expect("an Ethernet interface")
    }

    pub(super) fn link_local(&self, interface: InterfaceId) -> Ipv6Addr {
        let ours = addresses::link_local(self.ours(interface)).expect("a prefix of 64 bits");
        match ours.address() {
            IpAddr::V6(v6) => v6,
            IpAddr::V4(_) => unreachable!("link-local addresses are IPv6 here"),
        }
    }

    /// What the interface sends now, but for what it says of groups.
    pub(super) fn sent(&mut self, interface: InterfaceId) -> Vec<Packet> {
        let mut sent = self.sent_all(interface);
        sent.retain(|frame| !super::multicast::is_of_groups(frame));
        sent
    }

    /// What the interface sends now.
    pub(super) fn sent_all(&mut self, interface: InterfaceId) -> Vec<Packet> {
        let mut batch = Vec::new();
        self.engine
            .transmit(self.now, interface, &mut batch, &mut self.wakes);
        batch
    }

    pub(super) fn receive(&mut self, interface: InterfaceId, frame: Packet) {
        self.engine
            .receive(self.now, interface, &mut vec![frame], &mut self.wakes);
    }

    /// Lets time pass; gives what the first interface sends meanwhile.
    pub(super) fn advance(&mut self, time: Duration) -> Vec<Packet> {
        let end = self.now + time;
        let mut sent = Vec::new();
        while let Some(at) = self.engine.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.engine.handle_timeout(self.now, &mut self.wakes);
            sent.extend(self.sent(FIRST));
            self.sent(SECOND);
        }
        self.now = end;
        sent
    }

    /// 10.0.0.9 asks for this host, which tells where it is.
    pub(super) fn introduce(&mut self) {
        let (theirs, ours) = (Ipv4Addr::new(10, 0, 0, 9), Ipv4Addr::new(10, 0, 0, 1));
        let request = arp::request(THEIRS, theirs, ours);
        self.receive(FIRST, arp::frame(&request, THEIRS, MacAddress::BROADCAST));
    }

    /// A connection to 10.0.0.9 which has just been accepted.
    pub(super) fn established(&mut self) -> Arc<TcpSlot> {
        self.introduce();
        let slot = self.connect("10.0.0.9:80");
        let sent = self.sent(FIRST);
        let syn = sent.last().expect("a SYN behind the ARP reply").to_bytes();
        let (syn, _) = TcpHeader::parse(&syn[HEADER_LEN + 20..]).expect("a TCP header");
        let accepted = TcpHeader {
            source_port: 80,
            destination_port: syn.source_port,
            sequence: 1,
            acknowledgment: syn.sequence + 1,
            flags: Flags::SYN | Flags::ACK,
            window: 1000,
            ..TcpHeader::default()
        };
        let mut octets = vec![0; accepted.encoded_len()];
        accepted.emit(&mut octets);
        let hardware = (THEIRS, self.ours(FIRST));
        let addresses = (ip("10.0.0.9"), ip("10.0.0.1"));
        self.receive(FIRST, frame(hardware, addresses, protocol::TCP, &octets));
        assert_eq!(ethertypes(&self.sent(FIRST)), [ethertype::IPV4], "an ACK");
        slot
    }

    fn write(&mut self, slot: &Arc<TcpSlot>) {
        let written = slot.lock().socket.connection.write(b"data");
        assert_eq!(written, Ok(4));
        self.engine.mark_ready(SlotRef::from(slot));
    }

    pub(super) fn connect(&mut self, remote: &str) -> Arc<TcpSlot> {
        let remote = remote.parse().expect("a socket address");
        self.engine
            .tcp_connect(self.now, None, remote, &TcpOptions::default())
            .expect("there is a route")
    }

    pub(super) fn dropped(&self, reason: DropReason) -> u64 {
        self.engine.stats().dropped(reason)
    }
}

/// An IP packet of that payload in a frame.
pub(super) fn frame(
    (from, to): (MacAddress, MacAddress),
    (source, destination): (IpAddr, IpAddr),
    protocol: u8,
    payload: &[u8],
) -> Packet {
    let mut packet = Packet::new();
    packet.push(Bytes::copy_from_slice(payload));
    output::prepend(
        &mut packet,
        &OutputHeader::new(source, destination, protocol),
    )
    .expect("addresses of one version");
    ethernet::prepend(&mut packet, from, to, LinkProtocol::of(source));
    packet.offload.checksum = Checksum::Verified;
    packet
}

pub(super) fn datagram(port: u16) -> Vec<u8> {
    let mut octets = vec![0; wire_udp::HEADER_LEN];
    let header = wire_udp::Header {
        source_port: 4000,
        destination_port: port,
        length: wire_udp::HEADER_LEN as u16,
        checksum: 1,
    };
    header.emit(&mut octets);
    octets
}

fn syn(port: u16) -> Vec<u8> {
    let header = TcpHeader {
        source_port: 4000,
        destination_port: port,
        sequence: 1,
        flags: Flags::SYN,
        window: 1000,
        ..TcpHeader::default()
    };
    let mut octets = vec![0; header.encoded_len()];
    header.emit(&mut octets);
    octets
}

pub(super) fn ethertypes(frames: &[Packet]) -> Vec<u16> {
    let parse = |frame: &Packet| {
        let (header, _) = EthernetHeader::parse(&frame.to_bytes()).expect("a frame");
        header.ethertype
    };
    frames.iter().map(parse).collect()
}

pub(super) fn source_v6(frame: &Packet) -> Ipv6Addr {
    let octets = frame.to_bytes();
    let source: [u8; 16] = octets[HEADER_LEN + 8..HEADER_LEN + 24]
        .try_into()
        .expect("16 octets");
    Ipv6Addr::from(source)
}

pub(super) fn ip(address: &str) -> IpAddr {
    address.parse().expect("an address")
}

#[test]
fn a_connection_to_a_neighbour_that_did_not_answer_just_now_fails_at_once() {
    let mut host = Host::new();
    let first = host.connect("10.0.0.9:80");
    assert_eq!(ethertypes(&host.sent(FIRST)), [ethertype::ARP]);
    host.advance(Duration::from_millis(3500));
    let error = first.lock().socket.connection.take_error();
    assert_eq!(error, Some(SocketError::HostUnreachable));

    let second = host.connect("10.0.0.9:80");
    // The neighbour is asked for again, but nobody waits for it.
    assert_eq!(ethertypes(&host.sent(FIRST)), [ethertype::ARP]);
    let error = second.lock().socket.connection.take_error();
    assert_eq!(error, Some(SocketError::HostUnreachable));
}

#[test]
fn a_neighbour_is_confirmed_by_its_answer_and_not_by_an_attempt_to_connect() {
    let mut host = Host::new();
    let address = ip("10.0.0.9");
    host.introduce();
    host.sent(FIRST);
    let state = |host: &Host| {
        let neighbors = host.engine.neighbors();
        neighbors
            .iter()
            .find(|info| info.key.address == address)
            .map(|info| info.state)
    };
    assert_eq!(state(&host), Some(NeighborState::Stale));
    for _ in 0..3 {
        let slot = host.connect("10.0.0.9:80");
        assert_eq!(ethertypes(&host.sent(FIRST)), [ethertype::IPV4]);
        // RFC 4861 7.3.1: nothing has come back yet.
        assert_eq!(state(&host), Some(NeighborState::Delay));
        host.engine.close_tcp(host.now, &slot, &mut host.wakes);
    }
}

#[test]
fn an_established_connection_outlives_its_neighbours_absence() {
    let mut host = Host::new();
    let slot = host.established();
    host.write(&slot);
    let sent = host.advance(Duration::from_secs(300));
    assert!(
        ethertypes(&sent).contains(&ethertype::ARP),
        "it is asked for"
    );
    let resent = ethertypes(&sent)
        .iter()
        .rev()
        .take_while(|kind| **kind == ethertype::ARP)
        .count();
    assert!(resent > 3, "nothing goes to where it was any more");
    assert_eq!(slot.lock().socket.connection.state(), State::Established);
    // RFC 6298 2.5: the timeout is 120 s at most.
    host.introduce();
    let sent = host.advance(Duration::from_secs(125));
    assert!(ethertypes(&sent).contains(&ethertype::IPV4), "it goes on");
}

#[test]
fn a_connection_that_gives_up_on_its_neighbour_says_so() {
    let mut host = Host::new();
    let slot = host.established();
    host.write(&slot);
    host.advance(Duration::from_secs(3600));
    let state = slot.lock().socket.connection.state();
    assert_eq!(state, State::Closed);
    let error = slot.lock().socket.connection.take_error();
    assert_eq!(error, Some(SocketError::HostUnreachable));
    assert!(host.engine.neighbors().is_empty(), "nobody waits");
}

#[test]
fn an_address_is_answered_for_if_any_link_has_it() {
    let mut host = Host::new();
    host.address(SECOND, "10.0.0.1/24");
    let network = &host.engine.network;
    network.set_address_state(FIRST, ip("10.0.0.1"), AddressState::Duplicate);
    assert_eq!(
        network.ownership(FIRST, ip("10.0.0.1")),
        Ownership::Assigned
    );
    host.introduce();
    assert_eq!(ethertypes(&host.sent(FIRST)), [ethertype::ARP]);
}

#[test]
fn nobody_is_asked_for_when_a_connection_has_nothing_to_send() {
    let mut host = Host::new();
    let slot = host.connect("10.0.0.9:80");
    slot.lock().socket.connection.fail(SocketError::TimedOut);
    host.engine.mark_ready(SlotRef::Tcp(slot));
    assert_eq!(ethertypes(&host.sent(FIRST)), [0u16; 0]);
}

#[test]
fn a_frame_carries_what_its_type_says() {
    let mut host = Host::new();
    let (v4, v6) = (
        (ip("10.0.0.9"), ip("10.0.0.1")),
        (ip("fd00::9"), ip("fd00::1")),
    );
    for (addresses, wrong) in [(v4, ethertype::IPV6), (v6, ethertype::IPV4)] {
        let hardware = (THEIRS, host.ours(FIRST));
        let right = frame(hardware, addresses, protocol::UDP, &datagram(9));
        let mut octets = right.to_bytes().to_vec();
        octets[12..14].copy_from_slice(&wrong.to_be_bytes());
        let mut packet = Packet::from_bytes(octets.into());
        packet.offload.checksum = Checksum::Verified;
        let before = host.dropped(DropReason::Malformed);
        host.receive(FIRST, packet);
        assert_eq!(host.dropped(DropReason::Malformed), before + 1);
        assert_eq!(ethertypes(&host.sent(FIRST)), [0u16; 0]);
        // The same with the right type is answered: the port is nobody's, and the neighbour is asked for first.
        host.receive(FIRST, right);
        assert_eq!(host.sent(FIRST).len(), 1);
    }
}

#[test]
fn frames_that_the_link_gives_back_are_dropped() {
    let mut host = Host::new();
    let ours = host.ours(FIRST);
    let addresses = (ip("fd00::9"), ip("ff02::1"));
    let group = MacAddress([0x33, 0x33, 0, 0, 0, 1]);
    host.receive(
        FIRST,
        frame((ours, group), addresses, protocol::UDP, &datagram(9)),
    );
    assert_eq!(host.dropped(DropReason::BadSource), 1);
}

#[test]
fn no_error_is_sent_about_a_packet_for_this_host_in_a_frame_for_all() {
    let mut host = Host::new();
    let addresses = (ip("fd00::9"), ip("fd00::1"));
    // Destination options (RFC 8200 4.6) with an unknown one that asks for an error unless many got it.
    let options = [59, 0, 0xc1, 4, 0, 0, 0, 0];
    let send = |host: &mut Host, to| {
        host.receive(FIRST, frame((THEIRS, to), addresses, 60, &options));
        host.sent(FIRST).len()
    };
    for to in [MacAddress::BROADCAST, MacAddress([0x33, 0x33, 0, 0, 0, 1])] {
        assert_eq!(send(&mut host, to), 0, "{to}");
    }
    let ours = host.ours(FIRST);
    assert_eq!(
        send(&mut host, ours),
        1,
        "the neighbour is asked for, for its error"
    );
}

#[test]
fn a_link_local_address_is_own_on_its_link_only() {
    // RFC 4007 5, 6: an address is one host's within its zone, and of that an index tells.
    let mut host = Host::new();
    host.address(SECOND, "fe80::1/64");
    let router = ip("fe80::1");
    // On the first link, fe80::1 is somebody else.
    let path = |device| {
        host.engine
            .network
            .path(host.now, router, None, Some(device))
            .unwrap()
    };
    assert_eq!(path(SECOND).interface, InterfaceId::LOOPBACK);
    assert_eq!(
        (path(FIRST).interface, path(FIRST).next_hop),
        (FIRST, router)
    );
    let slot = host.connect("[fe80::1%2]:80");
    assert!(!slot.lock().socket.tuple().local.ip().is_loopback());
    assert_eq!(
        ethertypes(&host.sent(FIRST)),
        [ethertype::IPV6],
        "it is asked for"
    );

    // It may send to us there, and what is for it is none of ours.
    let own = IpAddr::V6(host.link_local(FIRST));
    let hardware = (THEIRS, host.ours(FIRST));
    host.receive(
        FIRST,
        frame(hardware, (router, own), protocol::UDP, &datagram(9)),
    );
    assert_eq!(host.dropped(DropReason::BadSource), 0);
    assert_eq!(host.dropped(DropReason::NoSocket), 1);
    let neighbour = ip("fe80::7");
    host.receive(
        FIRST,
        frame(hardware, (neighbour, router), protocol::UDP, &datagram(9)),
    );
    assert_eq!(host.dropped(DropReason::NotForUs), 1);
    // On the second link it is the other way round.
    let hardware = (THEIRS, host.ours(SECOND));
    host.receive(
        SECOND,
        frame(hardware, (neighbour, router), protocol::UDP, &datagram(9)),
    );
    assert_eq!(host.dropped(DropReason::NoSocket), 2);
    host.receive(
        SECOND,
        frame(hardware, (router, router), protocol::UDP, &datagram(9)),
    );
    assert_eq!(host.dropped(DropReason::BadSource), 1);
}

#[test]
fn answers_from_a_link_local_address_stay_on_its_link() {
    let mut host = Host::new();
    host.address(SECOND, "2001:db8::1/64");
    let local = SocketAddrV6::new(host.link_local(FIRST), 80, 0, FIRST.0);
    let request = BindRequest::new(local.into());
    let lease = host.engine.tcp_bind(&request).unwrap();
    let options = TcpOptions::default();
    let listener = host.engine.tcp_listen(lease, 1, false, &options).unwrap();
    // From an address that the second link leads to, and one port that is nobody's.
    let addresses = (ip("2001:db8::9"), IpAddr::V6(*local.ip()));
    let hardware = (THEIRS, host.ours(FIRST));
    for port in [80, 81] {
        host.receive(FIRST, frame(hardware, addresses, protocol::TCP, &syn(port)));
    }
    host.receive(
        FIRST,
        frame(hardware, addresses, protocol::UDP, &datagram(9)),
    );
    assert_eq!(ethertypes(&host.sent(SECOND)), [0u16; 0]);
    drop(listener);
}

#[test]
fn an_echo_request_to_a_group_is_answered_from_an_address_of_its_link() {
    let mut host = Host::new();
    let addresses = (ip("fe80::9"), ip("ff02::1"));
    let group = MacAddress([0x33, 0x33, 0, 0, 0, 1]);
    let request = [128, 0, 0, 0, 0, 1, 0, 1];
    host.receive(
        SECOND,
        frame((THEIRS, group), addresses, protocol::ICMPV6, &request),
    );
    // Who asks is asked for first, in the name of the answer's source.
    let sent = host.sent(SECOND);
    assert_eq!(sent.len(), 1);
    assert_eq!(source_v6(&sent[0]), host.link_local(SECOND));
    let waiting = lock(&host.engine.neighbors);
    assert!(waiting.has_packets());
    drop(waiting);
    let answer = crate::neighbor::ndp::Advertisement {
        interface: SECOND,
        destination: host.link_local(SECOND),
        link_destination: None,
        advertisement: crate::wire::ndp::NeighborAdvertisement {
            router: false,
            solicited: true,
            overrides: true,
            target: "fe80::9".parse().unwrap(),
        },
    };
    let mut answer = answer.to_packet(THEIRS);
    ethernet::prepend(&mut answer, THEIRS, host.ours(SECOND), LinkProtocol::Ipv6);
    host.receive(SECOND, answer);
    let sent = host.sent(SECOND);
    assert_eq!(sent.len(), 1);
    assert_eq!(source_v6(&sent[0]), host.link_local(SECOND));
}

#[test]
fn a_datagram_socket_connected_to_an_own_link_local_address_hears_the_answer() {
    let mut host = Host::new();
    let own = SocketAddrV6::new(host.link_local(FIRST), 7, 0, FIRST.0);
    let server = host.engine.udp_bind(&BindRequest::new(own.into())).unwrap();
    let any = BindRequest::new("[::]:0".parse().unwrap());
    let client = host.engine.udp_bind(&any).unwrap();
    host.engine
        .udp_connect(host.now, &client, own.into())
        .unwrap();
    host.engine.udp_send(host.now, &client, b"?", None).unwrap();
    host.sent(FIRST);
    let mut buffer = [0; 8];
    let received = server.lock().socket.socket.recv(&mut buffer).unwrap();
    host.engine
        .udp_send(host.now, &server, b"!", Some(received.source))
        .unwrap();
    host.sent(FIRST);
    let answer = client
        .lock()
        .socket
        .socket
        .recv(&mut buffer)
        .map(|answer| answer.len);
    assert_eq!(answer, Ok(1));
}

#[test]
fn nothing_is_sent_from_an_address_that_was_given_up() {
    let mut host = Host::new();
    let address = ip("10.0.0.1");
    let bound = BindRequest::new("10.0.0.1:7".parse().unwrap());
    let socket = host.engine.udp_bind(&bound).unwrap();
    let to = Some("10.0.0.9:7".parse().unwrap());
    assert!(host.engine.udp_send(host.now, &socket, b"mine", to).is_ok());
    assert_eq!(host.sent(FIRST).len(), 1, "the neighbour is asked for");
    host.engine
        .network
        .set_address_state(FIRST, address, AddressState::Duplicate);
    let refused = host.engine.udp_send(host.now, &socket, b"yours", to);
    assert_eq!(refused, Err(SocketError::AddressNotAvailable));
    // Nor are neighbours asked in its name any more (RFC 4862 5.4.5).
    host.advance(Duration::from_millis(900));
    host.now += Duration::from_millis(200);
    host.engine.handle_timeout(host.now, &mut host.wakes);
    assert_eq!(ethertypes(&host.sent(FIRST)), [0u16; 0]);
}

#[test]
fn neighbours_are_asked_in_the_name_of_an_address_of_their_link() {
    let mut host = Host::new();
    host.address(SECOND, "2001:db8::1/64");
    // A packet from the first link's address leaves through the second (RFC 1122 3.3.4.2: weak hosts).
    let slot = host
        .engine
        .udp_bind(&BindRequest::new("[fd00::1]:7".parse().unwrap()))
        .unwrap();
    let to = "[2001:db8::9]:7".parse().unwrap();
    host.engine
        .udp_send(host.now, &slot, b"?", Some(to))
        .unwrap();
    let sent = host.sent(SECOND);
    assert_eq!(sent.len(), 1);
    // RFC 4861 7.2.2: one of the outgoing interface's.
    let source = source_v6(&sent[0]);
    let of_link = host.engine.network.ownership_on(SECOND, source.into());
    assert_ne!(of_link, Ownership::None, "{source}");
}

#[test]
fn a_gateway_is_another_host_on_the_link() {
    let host = Host::new();
    let is_on_link = |gateway| host.engine.network.is_on_link(FIRST, ip(gateway));
    for gateway in ["10.0.0.9", "fd00::9", "fe80::9"] {
        assert!(is_on_link(gateway), "{gateway}");
    }
    for gateway in ["10.0.1.9", "10.0.0.1", "10.0.0.255", "fd00::1", "fd01::9"] {
        assert!(!is_on_link(gateway), "{gateway}");
    }
}

#[test]
fn a_ping_hears_that_its_neighbour_is_unreachable() {
    let mut host = Host::new();
    for (local, remote) in [("10.0.0.1", "10.0.0.9"), ("fd00::1", "fd00::9")] {
        let slot = host.engine.echo_open(ip(local)).unwrap();
        let ping = |host: &mut Host, sequence| {
            host.engine
                .echo_send(host.now, &slot, ip(remote), sequence, b"anybody?")
                .unwrap();
            host.sent(FIRST);
        };
        ping(&mut host, 1);
        assert_eq!(
            host.engine.echo_receive(&slot),
            Err(SocketError::WouldBlock)
        );
        host.advance(Duration::from_millis(3500));
        assert_eq!(
            host.engine.echo_receive(&slot),
            Err(SocketError::HostUnreachable)
        );
        // The failure is remembered for a second.
        ping(&mut host, 2);
        assert_eq!(
            host.engine.echo_receive(&slot),
            Err(SocketError::HostUnreachable)
        );
        host.engine.close_echo(&slot);
    }
}

/// RFC 4429 3.2: an optimistic address is used, but neighbours are not asked for in its name: packets wait until
/// detection is through, however late the questions began.
#[test]
fn nobody_is_asked_for_in_the_name_of_an_optimistic_address() {
    let config = Config {
        seed: Some(1),
        ..Config::default()
    };
    assert_eq!(
        config.host.duplicate_detection_v6,
        DuplicateDetection::Optimistic
    );
    let mut host = Host::with(config);
    let slot = host.connect("[fd00::9]:80");
    let mut sent = host.sent(FIRST);
    sent.extend(host.advance(Duration::from_millis(999)));
    assert!(!sent.is_empty(), "duplicates are looked for");
    for frame in sent {
        assert_eq!(source_v6(&frame), Ipv6Addr::UNSPECIFIED);
    }
    let asked = host.advance(Duration::from_millis(1));
    let [question] = &asked[..] else {
        panic!("one question: {asked:?}");
    };
    assert_eq!(IpAddr::V6(source_v6(question)), ip("fd00::1"));
    // All three are asked before it is given up (RFC 4861 7.2.2).
    assert_eq!(host.advance(Duration::from_millis(2900)).len(), 2);
    assert_eq!(slot.lock().socket.connection.take_error(), None);
    host.advance(Duration::from_millis(200));
    let error = slot.lock().socket.connection.take_error();
    assert_eq!(error, Some(SocketError::HostUnreachable));
}

#[derive(Default)]
pub(super) struct Count(pub(super) AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn who_waits_for_addresses_is_remembered_once_and_woken_when_the_stack_ends() {
    let mut config = Config {
        seed: Some(1),
        ..Config::default()
    };
    config.host.duplicate_detection_v6 = DuplicateDetection::Strict;
    let mut host = Host::with(config);
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    for _ in 0..1000 {
        assert!(!host.engine.addresses_settled(&waker));
    }
    assert_eq!(lock(&host.engine.address_waiters).len(), 1);
    host.engine
        .end(host.now, SocketError::NetworkDown, &mut host.wakes);
    host.wakes.wake_all();
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert!(
        host.engine.addresses_settled(&waker),
        "nobody is asking any more"
    );
}

#[test]
fn a_duplicate_link_local_address_ends_connections_of_its_link_only() {
    let mut host = Host::new();
    let same = Cidr::new(ip("fe80::5"), 64).unwrap();
    for interface in [FIRST, SECOND] {
        host.engine.add_address(host.now, interface, same);
    }
    let open = |host: &mut Host, zone: InterfaceId| {
        let local = SocketAddrV6::new("fe80::5".parse().unwrap(), 0, 0, zone.0);
        let lease = host
            .engine
            .tcp_bind(&BindRequest::new(local.into()))
            .unwrap();
        let remote = SocketAddrV6::new("fe80::9".parse().unwrap(), 80, 0, zone.0);
        let options = TcpOptions::default();
        host.engine
            .tcp_connect(host.now, Some(lease), remote.into(), &options)
            .unwrap()
    };
    let (first, second) = (open(&mut host, FIRST), open(&mut host, SECOND));
    let event = crate::ip::autoconf::dad::DadEvent::Duplicate {
        interface: FIRST,
        address: same.address(),
        owner: None,
    };
    host.engine
        .handle_duplicate_event(host.now, event, &mut host.wakes);
    let error = |slot: &Arc<TcpSlot>| slot.lock().socket.connection.take_error();
    assert_eq!(error(&first), Some(SocketError::AddressNotAvailable));
    assert_eq!(error(&second), None);
}

#[test]
fn datagrams_of_a_closed_socket_that_wait_for_their_neighbour_count_as_unsent() {
    let mut host = Host::new();
    let socket = host
        .engine
        .udp_bind(&BindRequest::new("10.0.0.1:7".parse().unwrap()))
        .unwrap();
    let to = Some("10.0.0.9:7".parse().unwrap());
    host.engine
        .udp_send(host.now, &socket, b"farewell", to)
        .unwrap();
    host.sent(FIRST);
    host.engine.close_udp(host.now, &socket);
    assert!(host.engine.has_staged(host.now));
    // Strangers' packets do not keep a stack alive whose own have gone.
    host.advance(Duration::from_secs(4));
    let addresses = (ip("10.0.0.77"), ip("10.0.0.1"));
    let hardware = (THEIRS, host.ours(FIRST));
    host.receive(
        FIRST,
        frame(hardware, addresses, protocol::UDP, &datagram(9)),
    );
    assert_eq!(
        ethertypes(&host.sent(FIRST)),
        [ethertype::ARP],
        "for its error"
    );
    assert!(!host.engine.has_staged(host.now));
}

#[test]
fn what_a_flood_of_strangers_leaves_is_bounded() {
    let mut host = Host::new();
    host.address(FIRST, "10.0.0.1/8");
    let limits = host.engine.config().clone();
    let ours = host.ours(FIRST);
    for stranger in 0..20_000u32 {
        let address = Ipv4Addr::from(0x0a01_0000 + stranger);
        let request = arp::request(THEIRS, address, Ipv4Addr::new(10, 0, 0, 1));
        host.receive(FIRST, arp::frame(&request, THEIRS, MacAddress::BROADCAST));
        let addresses = (
            IpAddr::from(Ipv4Addr::from(0x0a02_0000 + stranger)),
            ip("10.0.0.1"),
        );
        host.receive(
            FIRST,
            frame((THEIRS, ours), addresses, protocol::TCP, &syn(9)),
        );
        if stranger % 512 == 0 {
            host.sent(FIRST);
        }
    }
    assert!(lock(&host.engine.shards[0].replies).len() <= limits.host.reply_queue);
    assert!(host.engine.neighbors().len() <= limits.neighbor.max_entries);
    assert!(lock(&host.engine.neighbor_events).len() <= 1);
    host.sent(FIRST);
    host.advance(Duration::from_secs(120));
    assert_eq!(host.engine.neighbors().len(), 0, "all are forgotten");
}
