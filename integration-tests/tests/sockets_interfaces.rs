//! One stack on two links: each destination has its own way out, and one link's end is not the other's.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Duration;

use tidewire::Stack;
use tidewire_netdev::Device;
use tidewire_netdev::memory::{PairConfig, pair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// A link whose near device has this name.
fn link(name: &str) -> (Device, Device) {
    let names = [name.to_owned(), format!("{name}-far")];
    pair(PairConfig {
        names,
        ..PairConfig::default()
    })
}

fn single(device: Device, addresses: [&str; 2]) -> Stack {
    let builder = Stack::builder()
        .device(device)
        .address(addresses[0])
        .address(addresses[1]);
    builder.unregistered().build().expect("a stack")
}

/// The middle host, and one neighbour on each of its links.
struct Network {
    middle: Stack,
    left: Stack,
    right: Stack,
}

fn network() -> Network {
    let (near_left, far_left) = link("left");
    let (near_right, far_right) = link("right");
    let middle = Stack::builder()
        .device(near_left)
        .address("10.0.1.1/24")
        .address("fd01::1/64")
        .device(near_right)
        .address("10.0.2.1/24")
        .address("fd02::1/64")
        .gateway("10.0.2.2")
        .unregistered()
        .build();
    Network {
        middle: middle.expect("a stack"),
        left: single(far_left, ["10.0.1.2/24", "fd01::2/64"]),
        right: single(far_right, ["10.0.2.2/24", "fd02::2/64"]),
    }
}

#[tokio::test(start_paused = true)]
async fn each_destination_is_reached_from_the_address_of_its_link() {
    // RFC 1122 3.3.1.1 and 3.3.4.3; RFC 6724 5 rule 5. RFC 9293 MUST-44.
    let network = network();
    let cases = [
        (&network.left, "10.0.1.2:80", "10.0.1.1"),
        (&network.right, "10.0.2.2:80", "10.0.2.1"),
        (&network.left, "[fd01::2]:80", "fd01::1"),
        (&network.right, "[fd02::2]:80", "fd02::1"),
    ];
    for (neighbour, address, source) in cases {
        let listener = neighbour.tcp_listener(address).await.expect("bound");
        let (client, server) = tokio::join!(network.middle.tcp_stream(address), listener.accept());
        let (client, (_, peer)) = (client.expect("connected"), server.expect("accepted"));
        assert_eq!(
            peer.ip(),
            source.parse::<IpAddr>().expect("an address"),
            "to {address}"
        );
        assert_eq!(client.local_addr().expect("connected"), peer);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wildcard_listener_serves_both_links() {
    let network = network();
    let listener = network
        .middle
        .tcp_listener("0.0.0.0:80")
        .await
        .expect("bound");
    for (neighbour, address) in [
        (&network.left, "10.0.1.1:80"),
        (&network.right, "10.0.2.1:80"),
    ] {
        let (client, server) = tokio::join!(neighbour.tcp_stream(address), listener.accept());
        let (mut client, mut server) = (client.expect("connected"), server.expect("accepted").0);
        server.write_all(b"here").await.expect("written");
        let mut word = [0; 4];
        client.read_exact(&mut word).await.expect("read");
        assert_eq!(&word, b"here");
        assert_eq!(server.local_addr().expect("connected").to_string(), address);
    }
}

#[tokio::test(start_paused = true)]
async fn a_datagram_is_answered_from_the_address_it_came_to() {
    let network = network();
    let server = network
        .middle
        .udp_socket("0.0.0.0:53")
        .await
        .expect("bound");
    for (neighbour, address) in [
        (&network.left, "10.0.1.1:53"),
        (&network.right, "10.0.2.1:53"),
    ] {
        let client = neighbour.udp_socket("0.0.0.0:0").await.expect("bound");
        client.connect(address).await.expect("a route");
        client.send(b"?").await.expect("sent");
        let mut buffer = [0; 8];
        let (len, peer) = server.recv_from(&mut buffer).await.expect("a request");
        server.send_to(&buffer[..len], peer).await.expect("sent");
        // A connected socket takes its peer's datagrams only.
        let answer = timeout(Duration::from_secs(1), client.recv(&mut buffer)).await;
        assert_eq!(answer.expect("in time").expect("an answer"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_longest_prefix_wins_and_the_gateway_takes_the_rest() {
    let network = network();
    // Nobody answers at 192.0.2.1, but the neighbour on the gateway's link counts what reaches it.
    let before = network.right.stats().packets_received;
    let socket = network.middle.udp_socket("0.0.0.0:0").await.expect("bound");
    socket
        .send_to(b"far", "192.0.2.1:9")
        .await
        .expect("a default route");
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(network.right.stats().packets_received, before + 1);
    assert_eq!(network.left.stats().packets_received, 0);
    // IPv6 has no gateway.
    let socket = network.middle.udp_socket("[::]:0").await.expect("bound");
    let error = socket
        .send_to(b"far", "[2001:db8::1]:9")
        .await
        .expect_err("no route");
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
}

#[tokio::test(start_paused = true)]
async fn a_bound_device_is_the_only_way_out() {
    let network = network();
    let socket = network.middle.udp_socket("0.0.0.0:0").await.expect("bound");
    socket.bind_device(Some(b"left")).expect("it exists");
    let error = socket
        .send_to(b"?", "10.0.2.2:9")
        .await
        .expect_err("not on that link");
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
    socket
        .send_to(b"?", "10.0.1.2:9")
        .await
        .expect("on that link");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_one_link_leaves_the_other_alone() {
    let Network {
        middle,
        left,
        right,
    } = network();
    let listener = right.tcp_listener("10.0.2.2:80").await.expect("bound");
    let (client, server) = tokio::join!(middle.tcp_stream("10.0.2.2:80"), listener.accept());
    let (mut client, mut server) = (client.expect("connected"), server.expect("accepted").0);
    let doomed = left.tcp_listener("10.0.1.2:80").await.expect("bound");
    let (lost, held) = tokio::join!(middle.tcp_stream("10.0.1.2:80"), doomed.accept());
    let (mut lost, held) = (lost.expect("connected"), held.expect("accepted"));
    drop((doomed, held));
    left.shutdown().await;
    drop(left);
    let mut buffer = [0; 8];
    // Reset by the neighbour's end, or failed by the link's: an error or an end, in any case soon.
    let end = timeout(Duration::from_secs(5), lost.read(&mut buffer)).await;
    assert!(matches!(end.expect("soon"), Ok(0) | Err(_)));

    client.write_all(b"still here").await.expect("written");
    let mut words = [0; 10];
    server.read_exact(&mut words).await.expect("read");
    assert_eq!(&words, b"still here");
}
