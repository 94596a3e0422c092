//! Requirements of RFC 9293 on what a whole host does: packets in and out of a stack, as they are on the wire.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tidewire::Stack;
use tidewire::config::HostConfig;
use tidewire::net::TcpStream;
use tidewire::stats::DropReason;
use tidewire::wire::ipv4::{self, SourceRoute};
use tidewire::wire::protocol;
use tidewire::wire::tcp::{self, Flags};
use tidewire_netdev::checksum::{Sum, pseudo_header_v4};
use tidewire_netdev::memory::{PairConfig, pair};
use tidewire_netdev::{DeviceQueue, OffloadSet, Packet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const OURS: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 1);
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 9);
const THEIRS: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 2);
const PORT: u16 = 80;

/// A stack, and the wire of its only interface in the test's hands.
struct Wire {
    stack: Stack,
    end: DeviceQueue,
    received: VecDeque<Packet>,
}

/// A segment that the stack has sent.
#[derive(Debug)]
struct Sent {
    ip: ipv4::Header,
    tcp: tcp::Header,
    /// From the TCP header on.
    octets: Vec<u8>,
}

impl Sent {
    /// Whether the checksum is right if that is the final destination.
    fn is_sound_for(&self, destination: Ipv4Addr) -> bool {
        let len = self.octets.len() as u32;
        let mut sum = pseudo_header_v4(self.ip.source, destination, protocol::TCP, len);
        let mut body = Sum::default();
        body.add_bytes(&self.octets);
        sum.add_u16(body.fold());
        sum.finish() == 0
    }
}

impl Wire {
    fn new() -> Self {
        Self::with(HostConfig::default())
    }

    fn with(host: HostConfig) -> Self {
        let (device, end) = pair(PairConfig {
            offloads: OffloadSet::default(),
            ..PairConfig::default()
        });
        let stack = Stack::builder()
            .seed(1)
            .unregistered()
            .host(host)
            .device(device)
            .address("10.5.0.1/24")
            .address("10.5.0.9/24");
        Self {
            stack: stack.build().expect("a device and two addresses"),
            end: end.into_queues().next().expect("a queue"),
            received: VecDeque::new(),
        }
    }

    /// The next segment of the stack's, of whichever connection; `None` if there is none for longer than the least
    /// retransmission timeout.
    async fn next(&mut self) -> Option<Sent> {
        self.next_within(Duration::from_millis(600)).await
    }

    async fn next_within(&mut self, limit: Duration) -> Option<Sent> {
        loop {
            let packet = match self.received.pop_front() {
                Some(packet) => packet,
                None => {
                    let mut batch = Vec::new();
                    let receive = poll_fn(|cx| self.end.receiver.poll_receive(cx, &mut batch, 64));
                    timeout(limit, receive)
                        .await
                        .ok()?
                        .expect("a device that lives");
                    self.received.extend(batch);
                    continue;
                }
            };
            let octets = packet.to_bytes();
            let (ip, at) = ipv4::Header::parse(&octets).expect("a sound header");
            if ip.protocol == protocol::TCP {
                let (tcp, _) = tcp::Header::parse(&octets[at..]).expect("a sound segment");
                let octets = octets[at..].to_vec();
                return Some(Sent { ip, tcp, octets });
            }
        }
    }

    /// The next segment that goes to that port.
    async fn next_of(&mut self, port: u16) -> Sent {
        loop {
            let sent = self.next().await.expect("a segment");
            if sent.tcp.destination_port == port {
                return sent;
            }
        }
    }

    async fn silence(&mut self) {
        let sent = self.next().await;
        assert!(sent.is_none(), "{sent:?}");
    }

    fn send(&self, packet: Vec<u8>) {
        let mut queue = VecDeque::from([Packet::from_bytes(packet.into())]);
        self.end
            .transmitter
            .try_transmit(&mut queue)
            .expect("room on the wire");
        assert!(queue.is_empty());
    }

    /// A segment of the peer's to the stack's first address.
    fn segment(&self, header: &tcp::Header) {
        self.send(packet(THEIRS, OURS, header, &[]));
    }

    /// Connects, as the peer answers it. What the stack's socket was and what it has sent.
    async fn connected(&mut self, connect: impl Future<Output = TcpStream>) -> (TcpStream, Sent) {
        let answer = async {
            let syn = self.next().await.expect("a SYN");
            assert_eq!(syn.tcp.flags, Flags::SYN);
            let answer = tcp::Header {
                source_port: syn.tcp.destination_port,
                destination_port: syn.tcp.source_port,
                sequence: 1000,
                acknowledgment: syn.tcp.sequence.wrapping_add(1),
                flags: Flags::SYN | Flags::ACK,
                window: 5000,
                ..tcp::Header::default()
            };
            self.send(packet(THEIRS, syn.ip.source, &answer, &[]));
            syn
        };
        tokio::join!(connect, answer)
    }
}

/// A packet with all its checksums.
fn packet(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    header: &tcp::Header,
    options: &[u8],
) -> Vec<u8> {
    let ip = ipv4::Header {
        source,
        destination,
        protocol: protocol::TCP,
        ttl: 64,
        tos: 0,
        total_len: (20 + options.len().next_multiple_of(4) + header.encoded_len()) as u16,
        identification: 0,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        options: ipv4::Options::new(options).expect("whole words"),
    };
    let at = ip.encoded_len();
    let mut octets = vec![0; usize::from(ip.total_len)];
    ip.emit(&mut octets[..at]);
    header.emit(&mut octets[at..]);
    let len = header.encoded_len() as u32;
    let mut sum = pseudo_header_v4(source, destination, protocol::TCP, len);
    let mut body = Sum::default();
    body.add_bytes(&octets[at..]);
    sum.add_u16(body.fold());
    octets[at + tcp::CHECKSUM_OFFSET..][..2].copy_from_slice(&sum.finish().to_be_bytes());
    octets
}

fn syn(port: u16) -> tcp::Header {
    tcp::Header {
        source_port: port,
        destination_port: PORT,
        sequence: 1,
        flags: Flags::SYN,
        window: 5000,
        ..tcp::Header::default()
    }
}

fn address(ip: Ipv4Addr, port: u16) -> SocketAddr {
    (ip, port).into()
}

#[tokio::test(start_paused = true)]
async fn syn_to_everybody_or_from_nobody_is_ignored() {
    // RFC 9293 3.9.2.3 (MUST-57, MUST-63).
    let mut wire = Wire::new();
    let _listener = wire
        .stack
        .tcp_listener(("0.0.0.0", PORT))
        .await
        .expect("free");
    let broadcast = [Ipv4Addr::new(10, 5, 0, 255), Ipv4Addr::BROADCAST];
    let group = Ipv4Addr::new(224, 0, 0, 1);
    for destination in broadcast.into_iter().chain([group]) {
        wire.send(packet(THEIRS, destination, &syn(4000), &[]));
        wire.silence().await;
    }
    // At the door, not for want of a way back.
    let dropped = wire.stack.stats().dropped(DropReason::Unacceptable);
    assert_eq!(dropped, 3);
    let nobody = [
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::BROADCAST,
        Ipv4Addr::new(10, 5, 0, 255),
        group,
        OURS,
    ];
    for source in nobody {
        wire.send(packet(source, OURS, &syn(4000), &[]));
        wire.silence().await;
    }
    wire.segment(&syn(4000));
    let answer = wire.next().await.expect("a SYN ACK");
    assert_eq!(answer.tcp.flags, Flags::SYN | Flags::ACK);
}

#[tokio::test(start_paused = true)]
async fn unknown_ip_options_are_ignored() {
    // RFC 9293 3.9.2 (MUST-50). Number 94 is for experiments (RFC 4727).
    let mut wire = Wire::new();
    let _listener = wire
        .stack
        .tcp_listener(("0.0.0.0", PORT))
        .await
        .expect("free");
    wire.send(packet(THEIRS, OURS, &syn(4000), &[94, 6, 1, 2, 3, 4, 0, 0]));
    let answer = wire.next().await.expect("a SYN ACK");
    assert_eq!(answer.tcp.flags, Flags::SYN | Flags::ACK);
}

#[tokio::test(start_paused = true)]
async fn segments_carry_the_ttl_and_the_ds_field_that_were_set() {
    // RFC 9293 3.9.2 (MUST-49), 3.9.1.9 (MUST-48, SHLD-22).
    let mut wire = Wire::new();
    let socket = wire.stack.tcp_socket_v4().expect("a socket");
    socket.set_tos_v4(0xb8).expect("a DSCP");
    let connect = async {
        socket
            .connect(address(THEIRS, PORT))
            .await
            .expect("connected")
    };
    let (mut stream, first) = wire.connected(connect).await;
    assert_eq!((first.ip.tos, first.ip.ttl), (0xb8, 64));
    let ack = wire.next().await.expect("the third segment");
    assert_eq!((ack.ip.tos, ack.ip.ttl), (0xb8, 64));
    stream.set_ttl(7).expect("a TTL");
    stream.write_all(b"data").await.expect("room");
    let data = wire.next().await.expect("a segment");
    assert_eq!((data.ip.tos, data.ip.ttl), (0xb8, 7));
}

#[tokio::test(start_paused = true)]
async fn connection_keeps_the_address_that_it_began_with() {
    // RFC 9293 3.9.1.1 (MUST-43, MUST-45): not the one that IP would choose.
    let mut wire = Wire::new();
    let socket = wire.stack.tcp_socket_v4().expect("a socket");
    socket.bind(address(SECOND, 0)).expect("an own address");
    let connect = async {
        socket
            .connect(address(THEIRS, PORT))
            .await
            .expect("connected")
    };
    let (mut stream, first) = wire.connected(connect).await;
    assert_eq!(first.ip.source, SECOND);
    stream.write_all(b"data").await.expect("room");
    for _ in 0..3 {
        let sent = wire.next().await.expect("an ACK, data and the data again");
        assert_eq!(sent.ip.source, SECOND);
    }
    let local = stream.local_addr().expect("connected");
    assert_eq!(local.ip(), IpAddr::V4(SECOND));

    // And a passive one the address that the SYN came to.
    let _listener = wire
        .stack
        .tcp_listener(("0.0.0.0", PORT))
        .await
        .expect("free");
    wire.send(packet(THEIRS, SECOND, &syn(4001), &[]));
    loop {
        let sent = wire.next().await.expect("a SYN ACK");
        assert_eq!(sent.ip.source, SECOND);
        if sent.tcp.flags == Flags::SYN | Flags::ACK {
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn listening_leaves_connections_of_the_port_alone() {
    // RFC 9293 3.9.1.1 (MUST-41, MUST-42): those that are there, and those that are being opened.
    let mut wire = Wire::new();
    let socket = wire.stack.tcp_socket_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("not bound yet");
    socket.bind(address(OURS, PORT)).expect("free");
    let connect = async {
        socket
            .connect(address(THEIRS, PORT))
            .await
            .expect("connected")
    };
    let connect = tokio::spawn(connect);
    let first = wire.next().await.expect("a SYN");
    assert_eq!(first.tcp.source_port, PORT);

    // While the connection is in SYN-SENT, one can listen, and a second attempt is refused.
    let listen = |wire: &Wire| {
        let socket = wire.stack.tcp_socket_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("not bound yet");
        socket.bind(address(OURS, PORT)).map(|()| socket)
    };
    let listener = listen(&wire).expect("the port is of a connection");
    let listener = listener.listen(8).expect("nobody listens yet");
    let second = listen(&wire).and_then(|socket| socket.listen(8));
    assert_eq!(second.expect_err("taken").kind(), ErrorKind::AddrInUse);

    let answer = tcp::Header {
        source_port: PORT,
        destination_port: PORT,
        sequence: 1000,
        acknowledgment: first.tcp.sequence.wrapping_add(1),
        flags: Flags::SYN | Flags::ACK,
        window: 5000,
        ..tcp::Header::default()
    };
    wire.segment(&answer);
    let mut stream = connect.await.expect("no panic");
    stream.write_all(b"data").await.expect("room");
    wire.segment(&syn(4000));
    let mut seen = Vec::new();
    while let Some(sent) = wire.next().await {
        seen.push((sent.tcp.destination_port, sent.tcp.flags));
        if seen.len() > 4 {
            break;
        }
    }
    assert!(seen.contains(&(4000, Flags::SYN | Flags::ACK)), "{seen:?}");
    assert!(seen.contains(&(PORT, Flags::PSH | Flags::ACK)), "{seen:?}");
    drop(listener);
}

/// An ICMP error about a segment that the stack has sent.
fn icmp_about(sent: &Sent, kind: u8, code: u8) -> Vec<u8> {
    let mut quoted = vec![0; sent.ip.encoded_len() + 20];
    sent.ip.emit(&mut quoted);
    let at = sent.ip.encoded_len();
    let mut tcp = sent.tcp.clone();
    tcp.options = tcp::Options::default();
    tcp.emit(&mut quoted[at..]);
    let message_len = 8 + at + 8;
    let ip = ipv4::Header {
        source: THEIRS,
        destination: sent.ip.source,
        protocol: protocol::ICMPV4,
        ttl: 64,
        tos: 0,
        total_len: (20 + message_len) as u16,
        identification: 0,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        options: ipv4::Options::default(),
    };
    let mut octets = vec![0; 20 + message_len];
    ip.emit(&mut octets[..20]);
    octets[20] = kind;
    octets[21] = code;
    octets[28..].copy_from_slice(&quoted[..at + 8]);
    let mut sum = Sum::default();
    sum.add_bytes(&octets[20..]);
    octets[22..24].copy_from_slice(&sum.finish().to_be_bytes());
    octets
}

#[tokio::test(start_paused = true)]
async fn icmp_errors_reach_the_connection_that_they_are_about() {
    // RFC 9293 3.9.2.2 (MUST-54, SHLD-26): port unreachable ends the attempt it quotes, and no other.
    let mut wire = Wire::new();
    let stack = wire.stack.clone();
    let [first, second] = [PORT, PORT + 1].map(|port| {
        let stack = stack.clone();
        tokio::spawn(async move { stack.tcp_stream(address(THEIRS, port)).await })
    });
    let mut syns = [
        wire.next().await.expect("a SYN"),
        wire.next().await.expect("a SYN"),
    ];
    syns.sort_by_key(|syn| syn.tcp.destination_port);
    wire.send(icmp_about(&syns[0], 3, 3));
    let error = first.await.expect("no panic").expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(!second.is_finished());
    second.abort();
}

#[tokio::test(start_paused = true)]
async fn source_quench_is_ignored() {
    // RFC 9293 3.9.2.2 (MUST-55), RFC 6633.
    let mut wire = Wire::new();
    let stack = wire.stack.clone();
    let connect = async move {
        stack
            .tcp_stream(address(THEIRS, PORT))
            .await
            .expect("alive")
    };
    let (mut stream, _) = wire.connected(connect).await;
    stream.write_all(&[1; 500]).await.expect("room");
    let ack = wire.next().await.expect("an ACK");
    let data = wire.next().await.expect("data");
    assert_eq!(ack.tcp.acknowledgment, 1001);
    let before = stream.info();
    wire.send(icmp_about(&data, 4, 0));
    let sent = wire.next_within(Duration::from_millis(100)).await;
    assert!(sent.is_none(), "{sent:?}");
    let after = stream.info();
    assert_eq!((after.cwnd, after.ssthresh), (before.cwnd, before.ssthresh));
    let peer = tcp::Header {
        source_port: PORT,
        destination_port: data.tcp.source_port,
        sequence: 1001,
        acknowledgment: data.tcp.sequence.wrapping_add(500),
        flags: Flags::FIN | Flags::ACK,
        window: 5000,
        ..tcp::Header::default()
    };
    wire.segment(&peer);
    let mut end = [0; 1];
    assert_eq!(stream.read(&mut end).await.expect("in order"), 0);
}

/// Who is reached only by way of [`THEIRS`] and another.
const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
/// A router behind [`THEIRS`].
const FURTHER: Ipv4Addr = Ipv4Addr::new(10, 6, 0, 1);

/// A stack that takes segments which came by source routes.
fn routed_wire() -> Wire {
    Wire::with(HostConfig {
        accept_source_routes: true,
        ..HostConfig::default()
    })
}

/// A segment from far away that has come by a loose source route: the routers' addresses in the order that it passed them.
fn from_afar(by: &[Ipv4Addr], header: &tcp::Header) -> Vec<u8> {
    let len = 3 + by.len() * 4;
    let mut options = vec![131, len as u8, len as u8 + 1];
    options.extend(by.iter().flat_map(|router| router.octets()));
    packet(FAR, OURS, header, &options)
}

/// Asserts that a packet to the far host goes by these routers.
fn goes_by(sent: &Sent, routers: &[Ipv4Addr]) {
    assert_eq!(sent.ip.destination, routers[0], "{sent:?}");
    let route = SourceRoute::loose(routers).expect("routers");
    assert_eq!(sent.ip.options, route.options(FAR), "{sent:?}");
}

/// What the far host answers to a SYN of the stack's, or sends next.
fn far_peer(syn: &Sent, flags: Flags, sequence: u32) -> tcp::Header {
    tcp::Header {
        source_port: syn.tcp.destination_port,
        destination_port: syn.tcp.source_port,
        sequence,
        acknowledgment: syn.tcp.sequence.wrapping_add(1),
        flags,
        window: 5000,
        ..tcp::Header::default()
    }
}

#[tokio::test(start_paused = true)]
async fn source_route_of_the_application_counts_before_one_that_comes() {
    // RFC 9293 3.9.2.1 (MUST-51, MUST-52); 3.7.1 (MUST-16): it leaves less room for data. RFC 9293 3.1: the checksum counts the
    // final destination, which the wire's end verifies.
    let mut wire = routed_wire();
    let socket = wire.stack.tcp_socket_v4().expect("a socket");
    let route = SourceRoute::loose(&[THEIRS, FURTHER]).expect("two routers");
    socket
        .set_source_route(Some(route.clone()))
        .expect("an IPv4 socket");
    assert_eq!(socket.source_route().expect("set"), Some(route));
    let connect = tokio::spawn(socket.connect(address(FAR, PORT)));
    let syn = wire.next().await.expect("a SYN");
    assert_eq!(syn.tcp.flags, Flags::SYN);
    goes_by(&syn, &[THEIRS, FURTHER]);
    assert!(syn.is_sound_for(FAR));

    let answer = far_peer(&syn, Flags::SYN | Flags::ACK, 1000);
    wire.send(from_afar(&[SECOND_ROUTER, THEIRS], &answer));
    let ack = wire.next().await.expect("the third segment");
    assert_eq!(ack.tcp.flags, Flags::ACK);
    goes_by(&ack, &[THEIRS, FURTHER]);

    let mut stream = connect.await.expect("no panic").expect("connected");
    stream.write_all(&[1; 4000]).await.expect("room");
    let data = wire.next().await.expect("data");
    goes_by(&data, &[THEIRS, FURTHER]);
    assert!(data.is_sound_for(FAR));
    // 536 octets are assumed of a peer that names no MSS, of which the route takes 12.
    assert_eq!(data.ip.total_len, 20 + 12 + 20 + 536 - 12);
}

/// A router that packets may have come by.
const SECOND_ROUTER: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);

#[tokio::test(start_paused = true)]
async fn connection_that_comes_by_a_source_route_is_answered_on_the_way_back() {
    // RFC 9293 3.9.2.1 (MUST-53), and the latest route counts (SHLD-24).
    let mut wire = routed_wire();
    let listener = wire
        .stack
        .tcp_listener(("0.0.0.0", PORT))
        .await
        .expect("free");
    wire.send(from_afar(&[FURTHER, THEIRS], &syn(4000)));
    for _ in 0..2 {
        let answer = wire.next_within(Duration::from_secs(2)).await;
        let answer = answer.expect("a SYN ACK, and once more");
        assert_eq!(answer.tcp.flags, Flags::SYN | Flags::ACK);
        goes_by(&answer, &[THEIRS, FURTHER]);
    }
    wire.send(from_afar(&[FURTHER, THEIRS], &syn(4001)));
    let answer = wire.next().await.expect("a SYN ACK");
    goes_by(&answer, &[THEIRS, FURTHER]);
    let ack = far_peer(&answer, Flags::ACK, 2);
    wire.send(from_afar(&[FURTHER, THEIRS], &ack));
    let (mut stream, peer) = listener.accept().await.expect("connected");
    assert_eq!(peer, address(FAR, 4001));
    stream.write_all(b"data").await.expect("room");
    let data = wire.next_of(4001).await;
    goes_by(&data, &[THEIRS, FURTHER]);
    assert!(data.is_sound_for(FAR));

    // Nobody can send the answers elsewhere with a segment that the connection does not take.
    let stale = tcp::Header {
        sequence: 900_000,
        ..ack.clone()
    };
    wire.send(from_afar(&[FURTHER, SECOND], &stale));
    wire.send(from_afar(&[FURTHER, SECOND_ROUTER], &stale));
    let again = wire.next_of(4001).await;
    goes_by(&again, &[THEIRS, FURTHER]);

    // A segment that came straight changes nothing, one that came another way does.
    let acknowledged = tcp::Header {
        acknowledgment: ack.acknowledgment.wrapping_add(4),
        ..ack
    };
    wire.send(packet(FAR, OURS, &acknowledged, &[]));
    tokio::task::yield_now().await;
    stream.write_all(b"more").await.expect("room");
    let more = wire.next_of(4001).await;
    goes_by(&more, &[THEIRS, FURTHER]);
    wire.send(from_afar(&[FURTHER, OTHERS], &acknowledged));
    let more = wire.next_of(4001).await;
    goes_by(&more, &[OTHERS, FURTHER]);
}

/// Another neighbour, which routes too.
const OTHERS: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 3);

#[tokio::test(start_paused = true)]
async fn source_routes_are_refused_unless_asked_for_and_where_they_lead_on() {
    // RFC 7126 4.3; RFC 1122 3.3.5: a host that is no router passes nothing on.
    let mut wire = Wire::new();
    let _listener = wire
        .stack
        .tcp_listener(("0.0.0.0", PORT))
        .await
        .expect("free");
    wire.send(from_afar(&[FURTHER, THEIRS], &syn(4000)));
    wire.silence().await;

    let mut wire = routed_wire();
    let _listener = wire
        .stack
        .tcp_listener(("0.0.0.0", PORT))
        .await
        .expect("free");
    let [a, b, c, d] = FURTHER.octets();
    wire.send(packet(FAR, OURS, &syn(4000), &[131, 7, 4, a, b, c, d]));
    wire.silence().await;
    // And back it may lead neither to this host nor to everybody.
    let last_routers = [OURS, Ipv4Addr::new(10, 5, 0, 255), Ipv4Addr::BROADCAST];
    for last in last_routers {
        wire.send(from_afar(&[FURTHER, last], &syn(4000)));
        wire.silence().await;
    }

    let socket = wire.stack.tcp_socket_v4().expect("a socket");
    let strict = SourceRoute::strict(&[FURTHER]).expect("a router");
    socket
        .set_source_route(Some(strict))
        .expect("an IPv4 socket");
    let error = socket
        .connect(address(FAR, PORT))
        .await
        .expect_err("no way");
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
}
