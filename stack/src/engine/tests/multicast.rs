//! Multicast groups of an engine on Ethernet links: what it says on the link, and who hears what.

use std::net::IpAddr;
use std::time::Duration;

use super::ethernet::{FIRST, Host, SECOND, THEIRS, datagram, frame, ip};
use super::*;
use crate::engine::socket_groups::{GroupInterface, SourceChange};
use crate::ip::autoconf::dad::DuplicateDetection;
use crate::ip::multicast::{FilterMode, SourceFilter};
use crate::stats::DropReason;
use crate::wire::ethernet::{HEADER_LEN, Header as EthernetHeader, ethertype};
use crate::wire::group_record::{QueryTail, RecordKind};
use crate::wire::{igmp, ipv4, mld, protocol};

const GROUP: &str = "239.1.2.3";
const GROUP_V6: &str = "ff05::3";

/// Whether a frame is of IGMP or of Multicast Listener Discovery.
pub(super) fn is_of_groups(frame: &Packet) -> bool {
    let octets = frame.to_bytes();
    let (header, len) = EthernetHeader::parse(&octets).expect("a frame");
    match header.ethertype {
        ethertype::IPV4 => octets[len + 9] == protocol::IGMP,
        ethertype::IPV6 => {
            octets[len + 6] == protocol::HOP_BY_HOP && mld::is_listener_discovery(octets[len + 48])
        }
        _ => false,
    }
}

/// A frame's destination, its source and its records: kind, group, number of sources.
type Said = (String, IpAddr, Vec<(RecordKind, IpAddr, usize)>);

/// What a frame says of groups in the current version.
fn said(frame: &Packet) -> Said {
    let octets = frame.to_bytes();
    let (header, len) = EthernetHeader::parse(&octets).expect("a frame");
    let packet = &octets[len..];
    let to = header.destination.to_string();
    if header.ethertype == ethertype::IPV4 {
        let (header, len) = ipv4::Header::parse(packet).expect("an IPv4 header");
        let Ok(igmp::Message::ReportV3(records)) = igmp::Message::parse(&packet[len..]) else {
            panic!("no report: {packet:?}");
        };
        let records = records.map(|r| (r.kind, IpAddr::from(r.group), r.sources.len()));
        return (to, header.source.into(), records.collect());
    }
    let source: [u8; 16] = packet[8..24].try_into().expect("16 octets");
    let Ok(mld::Message::ReportV2(records)) = mld::Message::parse(&packet[48..]) else {
        panic!("no report: {packet:?}");
    };
    let records = records.map(|r| (r.kind, IpAddr::from(r.group), r.sources.len()));
    (to, IpAddr::from(source), records.collect())
}

impl Host {
    fn all_said(&mut self, interface: InterfaceId) -> Vec<Said> {
        let sent = self.sent_all(interface);
        sent.iter().filter(|f| is_of_groups(f)).map(said).collect()
    }

    /// What the first interface says within a time.
    fn said_within(&mut self, time: Duration) -> Vec<Said> {
        let end = self.now + time;
        let mut all = self.all_said(FIRST);
        while let Some(at) = self.engine.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.engine.handle_timeout(self.now, &mut self.wakes);
            all.extend(self.all_said(FIRST));
            self.sent_all(SECOND);
        }
        self.now = end;
        all
    }

    fn quiet(&mut self) {
        self.said_within(Duration::from_secs(60));
    }

    fn socket(&self, address: &str) -> Arc<UdpSlot> {
        let mut request = BindRequest::new(address.parse().expect("a socket address"));
        request.reuse_address = true;
        self.engine.udp_bind(&request).expect("a free port")
    }

    fn join(&self, socket: &Arc<UdpSlot>, group: &str, named: GroupInterface) {
        self.engine
            .multicast_join(self.now, socket, ip(group), named)
            .expect("joined");
    }

    /// A datagram to port 7 of a group comes in.
    fn hear(&mut self, interface: InterfaceId, source: &str, group: &str) {
        let station = match ip(group) {
            IpAddr::V4(v4) => MacAddress::multicast_v4(v4),
            IpAddr::V6(v6) => MacAddress::multicast_v6(v6),
        };
        let addresses = (ip(source), ip(group));
        let packet = frame((THEIRS, station), addresses, protocol::UDP, &datagram(7));
        self.receive(interface, packet);
    }
}

/// How many datagrams wait in a socket.
fn waiting(socket: &Arc<UdpSlot>) -> usize {
    let mut state = socket.lock();
    std::iter::from_fn(|| state.socket.socket.recv_bytes().ok()).count()
}

#[test]
fn who_joins_says_so_on_the_link_and_who_closes_too() {
    let mut host = Host::new();
    host.quiet();
    let socket = host.socket("0.0.0.0:7");
    host.join(&socket, GROUP, GroupInterface::Any);
    let expected = |kind| {
        let records = vec![(kind, ip(GROUP), 0)];
        ("01:00:5e:00:00:16".to_owned(), ip("10.0.0.1"), records)
    };
    let joined = expected(RecordKind::ToExclude);
    assert_eq!(host.all_said(FIRST), std::slice::from_ref(&joined));
    assert_eq!(host.said_within(Duration::from_secs(1)), [joined]);
    let groups = host.engine.multicast_groups(FIRST);
    assert!(groups.contains(&(ip(GROUP), SourceFilter::everything())));
    assert!(host.engine.close_udp(host.now, &socket));
    let left = expected(RecordKind::ToInclude);
    assert_eq!(host.all_said(FIRST), std::slice::from_ref(&left));
    assert_eq!(host.said_within(Duration::from_secs(1)), [left]);
}

#[test]
fn an_address_is_asked_for_in_a_group_that_was_joined_before() {
    // RFC 4862 5.4.2, RFC 3810 6: reported like any other; from the unspecified address until ours is known to be
    // nobody else's (RFC 3590 4), and again from then on.
    let mut config = Config {
        seed: Some(1),
        ..Config::default()
    };
    config.host.duplicate_detection_v6 = DuplicateDetection::Strict;
    let mut host = Host::with(config);
    let group = |address: IpAddr| match address {
        IpAddr::V6(v6) => IpAddr::V6(crate::wire::ndp::solicited_node(v6)),
        IpAddr::V4(_) => unreachable!("IPv6 addresses have such groups"),
    };
    let link_local = IpAddr::V6(host.link_local(FIRST));
    host.engine.handle_timeout(host.now, &mut host.wakes);
    let first = host.all_said(FIRST);
    let [(to, source, records)] = &first[..] else {
        panic!("{first:?}");
    };
    assert_eq!(to, "33:33:00:00:00:16");
    assert_eq!(*source, ip("::"));
    for address in [link_local, ip("fd00::1")] {
        let expected = (RecordKind::ToExclude, group(address), 0);
        assert!(records.contains(&expected), "{records:?}");
    }
    let later = host.said_within(Duration::from_secs(10));
    let (_, source, records) = later.last().expect("a report once the address is ours");
    assert_eq!((*source, records.len()), (link_local, 2));
}

#[test]
fn queries_of_the_link_are_answered() {
    let mut host = Host::new();
    let socket = host.socket("0.0.0.0:7");
    host.join(&socket, GROUP, GroupInterface::Any);
    host.quiet();
    let mut query = [0; igmp::QUERY_V3_LEN];
    igmp::Message::Query(igmp::Query {
        version: igmp::Version::V3,
        group: std::net::Ipv4Addr::UNSPECIFIED,
        max_response_code: 10,
        tail: QueryTail {
            suppress: false,
            robustness: 2,
            interval_code: 125,
            sources: &[],
        },
    })
    .emit(&mut query);
    // A querier without an address, such as a switch, asks from 0.0.0.0 (RFC 4541 2.1.1).
    let addresses = (ip("0.0.0.0"), ip("224.0.0.1"));
    let station = MacAddress::multicast_v4(igmp::ALL_HOSTS);
    let asked = frame((THEIRS, station), addresses, protocol::IGMP, &query);
    host.receive(FIRST, asked);
    let said = host.said_within(Duration::from_secs(1));
    let records = vec![(RecordKind::IsExclude, ip(GROUP), 0)];
    let expected = ("01:00:5e:00:00:16".to_owned(), ip("10.0.0.1"), records);
    assert_eq!(said, [expected]);
    let damaged = frame((THEIRS, station), addresses, protocol::IGMP, &[0x11; 12]);
    host.receive(FIRST, damaged);
    assert_eq!(host.dropped(DropReason::Checksum), 1);
    assert_eq!(host.said_within(Duration::from_secs(60)), []);
}

#[test]
fn datagrams_reach_those_who_joined_on_the_interface_they_came_in_by() {
    let mut host = Host::new();
    host.address(SECOND, "10.1.0.1/24");
    let [first, second, both] = [(); 3].map(|()| host.socket("0.0.0.0:7"));
    for socket in [&first, &second, &both] {
        socket.lock().socket.socket.options.multicast_all_v4 = false;
    }
    let on = GroupInterface::Number;
    host.join(&first, GROUP, GroupInterface::Address([10, 0, 0, 1].into()));
    host.join(&second, GROUP, on(SECOND));
    host.join(&both, GROUP, on(FIRST));
    host.join(&both, GROUP, on(SECOND));
    let count = || [&first, &second, &both].map(waiting);
    host.hear(FIRST, "10.0.0.9", GROUP);
    assert_eq!(count(), [1, 0, 1]);
    host.hear(SECOND, "10.1.0.9", GROUP);
    assert_eq!(count(), [0, 1, 1]);
    // A group that nobody has joined there.
    let before = host.dropped(DropReason::NotForUs);
    host.hear(FIRST, "10.0.0.9", "239.9.9.9");
    assert_eq!(host.dropped(DropReason::NotForUs), before + 1);
    assert_eq!(count(), [0, 0, 0]);
    host.engine
        .multicast_leave(host.now, &both, ip(GROUP), on(FIRST))
        .expect("left");
    host.hear(FIRST, "10.0.0.9", GROUP);
    assert_eq!(count(), [1, 0, 0]);
}

#[test]
fn a_socket_that_joined_nothing_hears_what_others_joined_unless_it_says_no() {
    // Linux's IP_MULTICAST_ALL and IPV6_MULTICAST_ALL, on by default.
    for (any, source, group) in [
        ("0.0.0.0:7", "10.0.0.9", GROUP),
        ("[::]:7", "fd00::9", GROUP_V6),
    ] {
        let mut host = Host::new();
        let [joined, other] = [(); 2].map(|()| host.socket(any));
        host.hear(FIRST, source, group);
        assert_eq!([&joined, &other].map(waiting), [0, 0]);
        host.join(&joined, group, GroupInterface::Number(FIRST));
        host.hear(FIRST, source, group);
        assert_eq!([&joined, &other].map(waiting), [1, 1], "{group}");
        {
            let options = &mut other.lock().socket.socket.options;
            options.multicast_all_v4 = false;
            options.multicast_all_v6 = false;
        }
        host.hear(FIRST, source, group);
        assert_eq!([&joined, &other].map(waiting), [1, 0], "{group}");
    }
}

#[test]
fn sources_are_filtered_socket_by_socket() {
    let mut host = Host::new();
    let [chosen, blocking] = [(); 2].map(|()| host.socket("0.0.0.0:7"));
    let change = |host: &Host, socket, change, source: &str| {
        let both = (ip(source), ip(GROUP));
        host.engine
            .multicast_source(host.now, socket, change, both, GroupInterface::Any)
    };
    let join = change(&host, &chosen, SourceChange::Join, "10.0.0.8");
    assert_eq!(join, Ok(()));
    let include = SourceFilter {
        mode: FilterMode::Include,
        sources: [ip("10.0.0.8")].into(),
    };
    let groups = host.engine.multicast_groups(FIRST);
    assert!(groups.contains(&(ip(GROUP), include)));
    let count = || [&chosen, &blocking].map(waiting);
    host.hear(FIRST, "10.0.0.8", GROUP);
    host.hear(FIRST, "10.0.0.9", GROUP);
    // The interface hears the one source only.
    assert_eq!(count(), [1, 1]);
    host.join(&blocking, GROUP, GroupInterface::Any);
    let block = change(&host, &blocking, SourceChange::Block, "10.0.0.8");
    assert_eq!(block, Ok(()));
    host.hear(FIRST, "10.0.0.8", GROUP);
    assert_eq!(count(), [1, 0]);
    host.hear(FIRST, "10.0.0.9", GROUP);
    assert_eq!(count(), [0, 1]);
    let not_there = change(&host, &chosen, SourceChange::Leave, "10.0.0.9");
    assert_eq!(not_there, Err(SocketError::AddressNotAvailable));
}

#[test]
fn joining_fails_as_on_linux() {
    let host = Host::new();
    let socket = host.socket("0.0.0.0:7");
    let join = |group: &str, named| {
        host.engine
            .multicast_join(host.now, &socket, ip(group), named)
    };
    let address = |last| GroupInterface::Address([10, 0, 0, last].into());
    let number = |number| GroupInterface::Number(InterfaceId(number));
    let cases = [
        ("10.0.0.7", address(1), Err(SocketError::InvalidInput)),
        (GROUP, address(77), Err(SocketError::NoDevice)),
        (GROUP, number(99), Err(SocketError::NoDevice)),
        (GROUP, address(1), Ok(())),
        (GROUP, GroupInterface::Any, Err(SocketError::AddressInUse)),
        (GROUP, number(3), Ok(())),
    ];
    for (group, named, expected) in cases {
        assert_eq!(join(group, named), expected, "{group} {named:?}");
    }
    let leave = |named| {
        host.engine
            .multicast_leave(host.now, &socket, ip(GROUP), named)
    };
    let unknown = Err(SocketError::AddressNotAvailable);
    assert_eq!(leave(address(77)), unknown);
    assert_eq!(leave(number(3)), Ok(()));
    assert_eq!(leave(number(3)), Err(SocketError::AddressNotAvailable));
    // Without addresses no interface leads to a group.
    let engine = Engine::new(Config::default());
    let capabilities = Capabilities {
        medium: Medium::Ip,
        mtu: 1500,
        offloads: tidewire_netdev::OffloadSet::ALL,
        max_super_packet: 65_535,
    };
    engine.add_interface("tun0".to_owned(), capabilities);
    let socket = engine
        .udp_bind(&BindRequest::new("0.0.0.0:7".parse().unwrap()))
        .unwrap();
    let join = engine.multicast_join(Instant::ZERO, &socket, ip(GROUP), GroupInterface::Any);
    assert_eq!(join, Err(SocketError::NoDevice));
}

#[test]
fn own_datagrams_come_back_to_those_who_joined_where_they_went_out() {
    // IP_MULTICAST_LOOP.
    let mut host = Host::new();
    host.address(SECOND, "10.1.0.1/24");
    let [here, there] = [(); 2].map(|()| host.socket("0.0.0.0:7"));
    for socket in [&here, &there] {
        socket.lock().socket.socket.options.multicast_all_v4 = false;
    }
    host.join(&here, GROUP, GroupInterface::Number(FIRST));
    host.join(&there, GROUP, GroupInterface::Number(SECOND));
    let sender = host.socket("10.0.0.1:0");
    let to = format!("{GROUP}:7").parse().expect("a socket address");
    for (looped, expected) in [(true, [1, 0]), (false, [0, 0])] {
        sender.lock().socket.socket.options.multicast_loop_v4 = looped;
        host.engine
            .udp_send(host.now, &sender, b"all", Some(to))
            .expect("a way out");
        let sent = host.sent_all(FIRST);
        let is_datagram = |frame: &&Packet| {
            let octets = frame.to_bytes();
            octets[HEADER_LEN + 9] == protocol::UDP && octets[HEADER_LEN + 8] == 1
        };
        assert_eq!(sent.iter().filter(is_datagram).count(), 1, "TTL 1");
        assert_eq!([&here, &there].map(waiting), expected);
    }
}

#[test]
fn a_socket_chooses_the_interface_of_its_groups() {
    // IP_MULTICAST_IF, IPV6_MULTICAST_IF.
    let mut host = Host::new();
    host.address(SECOND, "10.1.0.1/24");
    host.address(SECOND, "fd01::1/64");
    let v4 = host.socket("0.0.0.0:0");
    let v6 = host.socket("[::]:0");
    let (to_v4, to_v6) = ("239.1.2.3:7", "[ff05::3]:7");
    let chosen =
        |host: &Host, address: [u8; 4]| host.engine.set_group_interface_v4(&v4, address.into());
    let left_by = |host: &mut Host, socket: &Arc<UdpSlot>, to: &str| {
        let to = to.parse().expect("a socket address");
        host.engine
            .udp_send(host.now, socket, b"all", Some(to))
            .expect("a way out");
        [FIRST, SECOND].map(|interface| {
            let sent = host.sent_all(interface);
            sent.iter().filter(|frame| !is_of_groups(frame)).count()
        })
    };
    host.quiet();
    assert_eq!(left_by(&mut host, &v4, to_v4), [1, 0]);
    assert_eq!(chosen(&host, [10, 1, 0, 1]), Ok(()));
    assert_eq!(left_by(&mut host, &v4, to_v4), [0, 1]);
    let unknown = chosen(&host, [10, 9, 9, 9]);
    assert_eq!(unknown, Err(SocketError::AddressNotAvailable));
    assert_eq!(chosen(&host, [0, 0, 0, 0]), Ok(()));
    assert_eq!(left_by(&mut host, &v4, to_v4), [1, 0]);

    assert_eq!(left_by(&mut host, &v6, to_v6), [1, 0]);
    assert_eq!(host.engine.set_group_interface_v6(&v6, SECOND.0), Ok(()));
    assert_eq!(left_by(&mut host, &v6, to_v6), [0, 1]);
    let unknown = host.engine.set_group_interface_v6(&v6, 99);
    assert_eq!(unknown, Err(SocketError::NoDevice));
    v6.lock().socket.set_device(Some(FIRST));
    let other = host.engine.set_group_interface_v6(&v6, SECOND.0);
    assert_eq!(other, Err(SocketError::InvalidInput));
}
