//! Flow labels of what an engine sends (RFC 6437).

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::ethernet::{FIRST, Host, SECOND, THEIRS, frame, ip};
use super::*;
use crate::config::FlowLabels;
use crate::engine::sctp_sockets::SctpOptions;
use crate::engine::sockets::TcpOptions;
use crate::ip::autoconf::dad::DuplicateDetection;
use crate::transport::ports::BindRequest;
use crate::wire::ethernet::HEADER_LEN;
use crate::wire::tcp::{Flags, Header as TcpHeader};
use crate::wire::{ipv6, protocol, udp};

const THEM: &str = "fd00::9";

fn host_with(flow_labels: FlowLabels) -> Host {
    let mut config = Config {
        seed: Some(1),
        ..Config::default()
    };
    config.host.duplicate_detection_v6 = DuplicateDetection::Off;
    config.host.flow_labels = flow_labels;
    let mut host = Host::with(config);
    for theirs in [THEM, "10.0.0.9"] {
        let set = host
            .engine
            .set_neighbor(host.now, FIRST, ip(theirs), THEIRS);
        set.expect("an Ethernet interface");
    }
    host.sent_all(FIRST);
    host
}

fn host() -> Host {
    host_with(FlowLabels::Hashed)
}

/// The label of each packet, and what is behind its header.
fn labels(frames: &[Packet]) -> Vec<(u32, Vec<u8>)> {
    let read = |frame: &Packet| {
        let octets = frame.to_bytes();
        let (header, len) = ipv6::Header::parse(&octets[HEADER_LEN..]).expect("an IPv6 header");
        (header.flow_label, octets[HEADER_LEN + len..].to_vec())
    };
    frames.iter().map(read).collect()
}

impl Host {
    fn labels(&mut self) -> Vec<(u32, Vec<u8>)> {
        labels(&self.sent(FIRST))
    }

    /// A segment from the neighbour's port 4000 to port 80.
    fn segment(&mut self, header: TcpHeader) {
        let header = TcpHeader {
            source_port: 4000,
            destination_port: 80,
            window: 1000,
            ..header
        };
        let mut octets = vec![0; header.encoded_len()];
        header.emit(&mut octets);
        let hardware = (THEIRS, self.ours(FIRST));
        let addresses = (ip(THEM), ip("fd00::1"));
        self.receive(FIRST, frame(hardware, addresses, protocol::TCP, &octets));
    }
}

#[test]
fn each_connection_has_a_label_of_its_own_which_it_keeps() {
    // RFC 6437 2, 3: one label for all packets of a flow, another one for another flow, never 0.
    let mut host = host();
    let mut seen = BTreeSet::new();
    for port in 1..=20 {
        let slot = host.connect(&format!("[{THEM}]:{port}"));
        let sent = host.labels();
        assert_eq!(sent.len(), 1, "a SYN");
        assert!(sent[0].0 != 0 && seen.insert(sent[0].0));
        // Sent again, and after routes have changed.
        host.address(SECOND, &format!("10.9.{port}.1/24"));
        let again = labels(&host.advance(Duration::from_millis(1500)));
        assert!(!again.is_empty());
        assert!(again.iter().all(|(label, _)| *label == sent[0].0));
        let mut wakes = WakeList::new();
        host.engine.close_tcp(host.now, &slot, &mut wakes);
        host.sent(FIRST);
    }
}

#[test]
fn an_accepted_connection_has_the_label_of_its_syn_ack_and_of_what_answers_for_it_later() {
    let mut host = host();
    let bound = BindRequest::new("[::]:80".parse().expect("an address"));
    let lease = host.engine.tcp_bind(&bound).expect("free");
    let options = TcpOptions::default();
    let listener = host.engine.tcp_listen(lease, 8, false, &options);
    let listener = listener.expect("nobody else listens");
    host.segment(TcpHeader {
        sequence: 1,
        flags: Flags::SYN,
        ..TcpHeader::default()
    });
    let (label, syn_ack) = host.labels().remove(0);
    assert_ne!(label, 0);
    let (syn_ack, _) = TcpHeader::parse(&syn_ack).expect("a TCP header");
    let acknowledgment = syn_ack.sequence + 1;
    let ack = TcpHeader {
        sequence: 2,
        acknowledgment,
        flags: Flags::ACK,
        ..TcpHeader::default()
    };
    host.segment(ack.clone());
    let (slot, _) = host.engine.tcp_accept(&listener).expect("accepted");
    let written = slot.lock().socket.connection.write(b"data");
    assert_eq!(written, Ok(4));
    host.engine.mark_ready(SlotRef::from(&slot));
    assert_eq!(host.labels()[0].0, label, "data");
    // Gone without a trace; a segment that comes late is told so.
    slot.lock().socket.connection.abort();
    host.engine.mark_ready(SlotRef::from(&slot));
    let mut wakes = WakeList::new();
    host.engine.close_tcp(host.now, &slot, &mut wakes);
    host.engine.close_listener(host.now, &listener, &mut wakes);
    host.sent(FIRST);
    host.segment(ack);
    let (reset_label, reset) = host.labels().remove(0);
    let (reset, _) = TcpHeader::parse(&reset).expect("a TCP header");
    assert!(reset.flags.contains(Flags::RST));
    assert_eq!(reset_label, label);
}

#[test]
fn datagrams_have_their_destinations_label_and_so_have_their_fragments() {
    // RFC 6437 3: a flow is of five parts. 2 by way of RFC 8200 4.5: each fragment has the packet's header.
    let mut host = host();
    let bind = |port| {
        let bound = BindRequest::new(SocketAddr::new(ip("::"), port));
        host.engine.udp_bind(&bound).expect("free")
    };
    let (first, second) = (bind(7), bind(8));
    let send = |host: &mut Host, slot: &Arc<UdpSlot>, port: u16, len: usize| {
        let to = SocketAddr::new(ip(THEM), port);
        let sent = host
            .engine
            .udp_send(host.now, slot, &vec![7; len], Some(to));
        assert_eq!(sent, Ok(len));
        let labels = host.labels();
        let expected = labels[0].0;
        assert!(expected != 0 && labels.iter().all(|(label, _)| *label == expected));
        assert_eq!(labels.len(), if len > 1400 { 3 } else { 1 });
        expected
    };
    let label = send(&mut host, &first, 100, 10);
    assert_eq!(send(&mut host, &first, 100, 10), label);
    assert_eq!(send(&mut host, &first, 100, 4000), label);
    let others = [
        send(&mut host, &first, 101, 10),
        send(&mut host, &second, 100, 10),
    ];
    assert!(!others.contains(&label) && others[0] != others[1]);
    // Back to the first, connected now.
    let to = SocketAddr::new(ip(THEM), 100);
    let connected = host.engine.udp_connect(host.now, &first, to);
    assert_eq!(connected, Ok(()));
    assert_eq!(send(&mut host, &first, 100, 10), label);
}

#[test]
fn associations_echo_requests_and_answers_have_labels_too() {
    let mut host = host();
    let peer: SocketAddr = format!("[{THEM}]:5000").parse().expect("an address");
    let slot = host
        .engine
        .sctp_connect(host.now, None, &[peer], &SctpOptions::default());
    let slot = slot.expect("there is a route");
    let first = host.labels();
    assert_eq!(first.len(), 1, "an INIT");
    let again = labels(&host.advance(Duration::from_millis(3500)));
    assert!(first[0].0 != 0 && !again.is_empty());
    assert!(again.iter().all(|(label, _)| *label == first[0].0));
    drop(slot);

    let echo = host.engine.echo_open(ip("::")).expect("free");
    for sequence in [1, 2] {
        let sent = host
            .engine
            .echo_send(host.now, &echo, ip(THEM), sequence, b"ping");
        assert_eq!(sent, Ok(()));
    }
    let requests: Vec<_> = host
        .labels()
        .into_iter()
        .filter(|(_, octets)| octets[0] == 128)
        .map(|(label, _)| label)
        .collect();
    assert!(requests.len() == 2 && requests[0] != 0 && requests[0] == requests[1]);
    // A datagram for nobody.
    let mut octets = vec![0; udp::HEADER_LEN];
    let header = udp::Header {
        source_port: 4000,
        destination_port: 9,
        length: udp::HEADER_LEN as u16,
        checksum: 1,
    };
    header.emit(&mut octets);
    let hardware = (THEIRS, host.ours(FIRST));
    let addresses: (IpAddr, IpAddr) = (ip(THEM), ip("fd00::1"));
    host.receive(FIRST, frame(hardware, addresses, protocol::UDP, &octets));
    let errors = host.labels();
    assert_ne!(errors.last().map(|(label, _)| *label), Some(0));
}

#[test]
fn without_labels_the_field_is_zero() {
    // RFC 6437 3: a source that does not set it otherwise MUST set it to zero.
    let mut host = host_with(FlowLabels::Zero);
    let slot = host.connect(&format!("[{THEM}]:80"));
    assert_eq!(host.labels()[0].0, 0);
    drop(slot);
}

#[test]
fn whatever_label_comes_in_makes_no_difference() {
    // RFC 6437 2: no part of a packet's meaning; a connection's peers may change theirs.
    let mut host = host();
    let bound = BindRequest::new("[::]:7".parse().expect("an address"));
    let socket = host.engine.udp_bind(&bound).expect("free");
    for flow_label in [0, 1, ipv6::FLOW_LABEL] {
        let mut octets = vec![0; udp::HEADER_LEN];
        let header = udp::Header {
            source_port: 4000,
            destination_port: 7,
            length: udp::HEADER_LEN as u16,
            checksum: 1,
        };
        header.emit(&mut octets);
        let header = ipv6::Header {
            source: "fd00::9".parse().expect("an address"),
            destination: "fd00::1".parse().expect("an address"),
            traffic_class: 0,
            flow_label,
            payload_len: udp::HEADER_LEN as u16,
            next_header: protocol::UDP,
            hop_limit: 64,
        };
        let mut packet = Packet::from_header(&octets);
        header.emit(packet.prepend(ipv6::HEADER_LEN));
        packet.offload.checksum = tidewire_netdev::Checksum::Verified;
        let ours = host.ours(FIRST);
        crate::link::ethernet::prepend(
            &mut packet,
            THEIRS,
            ours,
            crate::link::ethernet::LinkProtocol::Ipv6,
        );
        host.receive(FIRST, packet);
        let mut buffer = [0; 8];
        let received = socket.lock().socket.socket.recv(&mut buffer);
        assert!(received.is_ok(), "{flow_label}");
    }
}
