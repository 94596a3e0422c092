//! Stacks on one Ethernet link, an in-memory switch, in virtual time: neighbours, groups, zones, duplicates.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use tidewire::Stack;
use tidewire::config::HostConfig;
use tidewire::ip::autoconf::dad::{AddressState, DuplicateDetection};
use tidewire::neighbor::NeighborState;
use tidewire::net::sctp::SendOptions;
use tidewire::net::{Builder, TcpStream};
use tidewire_netdev::MacAddress;
use tidewire_netdev::errno::{EADDRNOTAVAIL, EHOSTUNREACH, EINVAL, ENODEV};
use tidewire_netdev::memory::{PortConfig, Switch, SwitchConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

fn on(switch: &Switch, name: &str) -> Builder {
    let seed = name.bytes().map(u64::from).sum();
    Stack::builder()
        .device(switch.port(PortConfig::named(name)))
        .seed(seed)
        .unregistered()
}

/// Two stacks, each with one address of either version.
fn pair(switch: &Switch) -> (Stack, Stack) {
    let alice = on(switch, "alice")
        .address("10.0.0.1/24")
        .address("fd00::1/64")
        .build();
    let bob = on(switch, "bob")
        .address("10.0.0.2/24")
        .address("fd00::2/64")
        .build();
    (alice.unwrap(), bob.unwrap())
}

/// The link-local address of a stack's only device, with its zone.
fn link_local(stack: &Stack, port: u16) -> SocketAddrV6 {
    let addresses = stack.addresses();
    let own = addresses.iter().find_map(|own| match own.address() {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some((v6, own.interface)),
        _ => None,
    });
    let (address, interface) = own.expect("a link-local address");
    SocketAddrV6::new(address, port, 0, interface.0)
}

async fn connect(from: &Stack, to: &Stack, address: &str) -> (TcpStream, TcpStream) {
    let listener = to.tcp_listener(address).await.unwrap();
    let (client, server) = tokio::join!(from.tcp_stream(address), listener.accept());
    (client.unwrap(), server.unwrap().0)
}

async fn exchange(client: &mut TcpStream, server: &mut TcpStream, len: usize) {
    let body: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
    let mut received = vec![0; len];
    let (sent, read) = tokio::join!(client.write_all(&body), server.read_exact(&mut received));
    sent.unwrap();
    read.unwrap();
    assert_eq!(received, body);
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().expect("an errno")
}

#[tokio::test(start_paused = true)]
async fn connections_find_their_neighbours_in_both_versions() {
    let switch = Switch::new(SwitchConfig::default());
    let (alice, bob) = pair(&switch);
    for address in ["10.0.0.2:80", "[fd00::2]:80"] {
        let (mut client, mut server) = connect(&alice, &bob, address).await;
        exchange(&mut client, &mut server, 3_000_000).await;
        exchange(&mut server, &mut client, 3_000_000).await;
    }
    let monitor = switch.monitor();
    for (name, stats) in monitor.ports() {
        assert_eq!(
            (stats.malformed, stats.over_mtu, stats.queue_full),
            (0, 0, 0),
            "{name}"
        );
    }
    let neighbor: IpAddr = "10.0.0.2".parse().unwrap();
    let known = alice.neighbors();
    let bob_known = known.iter().find(|info| info.key.address == neighbor);
    let hardware = bob.interfaces()[1].hardware_address;
    assert_eq!(bob_known.expect("known").address, hardware);
}

#[tokio::test(start_paused = true)]
async fn a_neighbour_that_does_not_answer_is_an_unreachable_host_after_three_seconds() {
    let switch = Switch::new(SwitchConfig::default());
    let (alice, _bob) = pair(&switch);
    for address in ["10.0.0.9:80", "[fd00::9]:80"] {
        let start = Instant::now();
        let error = alice
            .tcp_stream(address)
            .await
            .expect_err("nobody is there");
        assert_eq!(errno(&error), EHOSTUNREACH, "{address}");
        assert_eq!(error.kind(), ErrorKind::HostUnreachable);
        // RFC 4861 10: 3 solicitations, 1 s apart.
        let elapsed = start.elapsed();
        assert!(
            (Duration::from_secs(3)..Duration::from_millis(3100)).contains(&elapsed),
            "{elapsed:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_connected_datagram_socket_hears_that_its_neighbour_is_unreachable() {
    let switch = Switch::new(SwitchConfig::default());
    let (alice, _bob) = pair(&switch);
    let socket = alice.udp_socket("10.0.0.1:0").await.unwrap();
    socket.connect("10.0.0.9:9").await.unwrap();
    assert_eq!(socket.send(b"anybody?").await.unwrap(), 8);
    let mut buffer = [0; 16];
    let error = timeout(Duration::from_secs(4), socket.recv(&mut buffer))
        .await
        .expect("within the solicitations' time")
        .expect_err("nobody is there");
    assert_eq!(errno(&error), EHOSTUNREACH);
    // An unconnected one hears nothing, and is not held up on its way to others.
    let other = alice.udp_socket("10.0.0.1:0").await.unwrap();
    let bob = _bob.udp_socket("10.0.0.2:7").await.unwrap();
    other.send_to(b"lost", "10.0.0.8:7").await.unwrap();
    other.send_to(b"found", "10.0.0.2:7").await.unwrap();
    let (len, from) = timeout(Duration::from_millis(10), bob.recv_from(&mut buffer))
        .await
        .expect("at once")
        .unwrap();
    assert_eq!(&buffer[..len], b"found");
    assert_eq!(from, other.local_addr().unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_first_datagrams_wait_for_their_neighbour_and_arrive_in_order() {
    let switch = Switch::new(SwitchConfig::default());
    let (alice, bob) = pair(&switch);
    for (from, to) in [("10.0.0.1:0", "10.0.0.2:7"), ("[fd00::1]:0", "[fd00::2]:7")] {
        let receiver = bob.udp_socket(to).await.unwrap();
        let sender = alice.udp_socket(from).await.unwrap();
        for i in 0..20u8 {
            sender.send_to(&[i], to).await.unwrap();
        }
        let mut buffer = [0; 2];
        for i in 0..20u8 {
            let (len, _) = receiver.recv_from(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..len], [i]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_established_connection_survives_a_neighbour_that_moves_and_one_that_is_away() {
    let switch = Switch::new(SwitchConfig::default());
    let alice = on(&switch, "alice").address("10.0.0.1/24").build().unwrap();
    let bob = on(&switch, "bob").address("10.0.0.2/24").build().unwrap();
    let (mut client, mut server) = connect(&alice, &bob, "10.0.0.2:80").await;
    exchange(&mut client, &mut server, 1000).await;
    // Long enough for both to be stale and forgotten.
    sleep(Duration::from_secs(600)).await;
    exchange(&mut client, &mut server, 1000).await;
    drop(bob);
    sleep(Duration::from_secs(600)).await;
    exchange(&mut server, &mut client, 1000).await;
}

#[tokio::test(start_paused = true)]
async fn link_local_addresses_need_their_zone_and_show_it() {
    let switch = Switch::new(SwitchConfig::default());
    let (alice, bob) = pair(&switch);
    let listener = bob.tcp_listener("[::]:80").await.unwrap();
    let to = link_local(&bob, 80);
    // Linux: EINVAL without a zone.
    let nowhere = SocketAddr::V6(SocketAddrV6::new(*to.ip(), 80, 0, 0));
    let error = alice.tcp_stream(nowhere).await.expect_err("which link?");
    assert_eq!(errno(&error), EINVAL);
    let missing = SocketAddr::V6(SocketAddrV6::new(*to.ip(), 80, 0, 99));
    let error = alice.tcp_stream(missing).await.expect_err("no such link");
    assert_eq!(errno(&error), ENODEV);

    let (client, accepted) = tokio::join!(alice.tcp_stream(SocketAddr::V6(to)), listener.accept());
    let (mut client, (mut server, peer)) = (client.unwrap(), accepted.unwrap());
    assert_eq!(client.peer_addr().unwrap(), SocketAddr::V6(to));
    let SocketAddr::V6(peer) = peer else {
        panic!("an IPv6 peer")
    };
    assert_eq!(*peer.ip(), *link_local(&alice, 0).ip());
    assert_eq!(peer.scope_id(), bob.interfaces()[1].id.0);
    exchange(&mut client, &mut server, 100_000).await;

    let receiver = bob.udp_socket("[::]:7").await.unwrap();
    let sender = alice.udp_socket("[::]:0").await.unwrap();
    let to = SocketAddr::V6(SocketAddrV6::new(*to.ip(), 7, 0, to.scope_id()));
    sender.send_to(b"hello", to).await.unwrap();
    let mut buffer = [0; 16];
    let (len, from) = receiver.recv_from(&mut buffer).await.unwrap();
    receiver.send_to(&buffer[..len], from).await.unwrap();
    let (len, from) = sender.recv_from(&mut buffer).await.unwrap();
    assert_eq!((&buffer[..len], from), (&b"hello"[..], to));
}

#[tokio::test(start_paused = true)]
async fn own_link_local_addresses_are_reached_inside_the_host() {
    let switch = Switch::new(SwitchConfig::default());
    let (alice, _bob) = pair(&switch);
    let listener = alice.tcp_listener("[::]:80").await.unwrap();
    let to = SocketAddr::V6(link_local(&alice, 80));
    let (client, accepted) = tokio::join!(alice.tcp_stream(to), listener.accept());
    let (mut client, mut server) = (client.unwrap(), accepted.unwrap().0);
    assert_eq!(client.peer_addr().unwrap(), server.local_addr().unwrap());
    exchange(&mut client, &mut server, 10_000).await;
}

#[tokio::test(start_paused = true)]
async fn broadcasts_and_groups_need_no_neighbour() {
    let switch = Switch::new(SwitchConfig::default());
    let (alice, bob) = pair(&switch);
    let receiver = bob.udp_socket("0.0.0.0:7").await.unwrap();
    receiver
        .join_multicast_v4([239, 1, 2, 3].into(), [10, 0, 0, 2].into())
        .unwrap();
    let sender = alice.udp_socket("10.0.0.1:0").await.unwrap();
    sender.set_broadcast(true).unwrap();
    let mut buffer = [0; 32];
    for to in ["255.255.255.255:7", "10.0.0.255:7", "239.1.2.3:7"] {
        sender.send_to(to.as_bytes(), to).await.unwrap();
        let (len, _) = timeout(Duration::from_millis(10), receiver.recv_from(&mut buffer))
            .await
            .expect(to)
            .unwrap();
        assert_eq!(&buffer[..len], to.as_bytes());
    }
    assert!(
        alice
            .neighbors()
            .iter()
            .all(|info| info.key.address.is_ipv6())
    );
}

#[tokio::test(start_paused = true)]
async fn a_static_neighbour_is_not_asked_for() {
    let switch = Switch::new(SwitchConfig::default());
    let station: MacAddress = "02:00:00:00:00:42".parse().unwrap();
    let address: IpAddr = "10.0.0.2".parse().unwrap();
    let alice = on(&switch, "alice")
        .address("10.0.0.1/24")
        .neighbor(address, station)
        .build()
        .unwrap();
    let bob = on(&switch, "bob")
        .address("10.0.0.2/24")
        .hardware_address(station)
        .neighbor(
            "10.0.0.1".parse().unwrap(),
            alice.interfaces()[1].hardware_address.unwrap(),
        )
        .build()
        .unwrap();
    let (mut client, mut server) = connect(&alice, &bob, "10.0.0.2:80").await;
    exchange(&mut client, &mut server, 1000).await;
    let info = &alice.neighbors()[0];
    assert_eq!(
        (info.state, info.address),
        (NeighborState::Permanent, Some(station))
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_behind_a_gateway_goes_to_the_gateway() {
    let switch = Switch::new(SwitchConfig::default());
    let alice = on(&switch, "alice")
        .address("10.0.0.1/24")
        .gateway("10.0.0.2")
        .build()
        .unwrap();
    // It takes packets for the other network by having an address there.
    let router = on(&switch, "router")
        .address("10.0.0.2/24")
        .address("192.168.7.1/24")
        .build()
        .unwrap();
    let (mut client, mut server) = connect(&alice, &router, "192.168.7.1:80").await;
    exchange(&mut client, &mut server, 10_000).await;
    let asked: Vec<_> = alice
        .neighbors()
        .iter()
        .map(|info| info.key.address)
        .collect();
    assert_eq!(asked, ["10.0.0.2".parse::<IpAddr>().unwrap()]);
}

fn careful() -> HostConfig {
    HostConfig {
        duplicate_detection_v4: DuplicateDetection::Strict,
        duplicate_detection_v6: DuplicateDetection::Strict,
        ..HostConfig::default()
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_is_not_used_before_it_is_known_to_be_nobody_elses() {
    let switch = Switch::new(SwitchConfig::default());
    let start = Instant::now();
    let alice = on(&switch, "alice")
        .address("10.0.0.1/24")
        .address("fd00::1/64")
        .host(careful())
        .build()
        .unwrap();
    for address in ["10.0.0.1:80", "[fd00::1]:80"] {
        let error = alice.tcp_listener(address).await.expect_err("tentative");
        assert_eq!(errno(&error), EADDRNOTAVAIL);
    }
    alice.addresses_settled().await.unwrap();
    // RFC 5227 1.1: up to 1 s, three probes 1 to 2 s apart, 2 s of waiting.
    let elapsed = start.elapsed();
    assert!(
        (Duration::from_secs(4)..Duration::from_secs(7)).contains(&elapsed),
        "{elapsed:?}"
    );
    for address in ["10.0.0.1:80", "[fd00::1]:80"] {
        alice.tcp_listener(address).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_that_another_host_has_is_refused() {
    let switch = Switch::new(SwitchConfig::default());
    let (_alice, bob) = pair(&switch);
    for address in ["10.0.0.1/24", "fd00::1/64"] {
        let late = on(&switch, "late")
            .address(address)
            .host(careful())
            .build()
            .unwrap();
        let error = late.addresses_settled().await.expect_err("it is taken");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&address[..7]), "{error}");
    }
    // Its rightful owner is undisturbed.
    let listener = _alice.tcp_listener("10.0.0.1:80").await.unwrap();
    let (client, server) = tokio::join!(bob.tcp_stream("10.0.0.1:80"), listener.accept());
    client.unwrap();
    server.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_optimistic_address_is_given_up_when_another_host_has_it() {
    let switch = Switch::new(SwitchConfig::default());
    let (_alice, _bob) = pair(&switch);
    sleep(Duration::from_secs(5)).await;
    let late = on(&switch, "late").address("fd00::1/64").build().unwrap();
    // RFC 4429: of use at once.
    let listener = late.tcp_listener("[fd00::1]:80").await.unwrap();
    sleep(Duration::from_secs(5)).await;
    let state = |address: Ipv6Addr| {
        let addresses = late.addresses();
        let found = addresses.iter().find(|own| own.address() == address);
        found.expect("listed").state
    };
    assert_eq!(state("fd00::1".parse().unwrap()), AddressState::Duplicate);
    assert_eq!(state(*link_local(&late, 0).ip()), AddressState::Assigned);
    drop(listener);
    let error = late
        .tcp_listener("[fd00::1]:80")
        .await
        .expect_err("given up");
    assert_eq!(errno(&error), EADDRNOTAVAIL);
}

#[tokio::test(start_paused = true)]
async fn the_last_datagram_of_a_stack_waits_for_its_neighbour() {
    let switch = Switch::new(SwitchConfig::default());
    let (alice, bob) = pair(&switch);
    let receiver = bob.udp_socket("10.0.0.2:7").await.unwrap();
    let mut buffer = [0; 16];
    let farewell = async |stack: &Stack| {
        let socket = stack.udp_socket("0.0.0.0:0").await.unwrap();
        socket.send_to(b"farewell", "10.0.0.2:7").await.unwrap();
    };
    // Whether it is shut down or just let go.
    farewell(&alice).await;
    alice.shutdown().await;
    let late = on(&switch, "late").address("10.0.0.3/24").build().unwrap();
    farewell(&late).await;
    drop(late);
    for from in ["10.0.0.1", "10.0.0.3"] {
        let (len, peer) = timeout(Duration::from_secs(1), receiver.recv_from(&mut buffer))
            .await
            .expect("it was sent")
            .unwrap();
        assert_eq!(&buffer[..len], b"farewell");
        assert_eq!(peer.ip(), from.parse::<IpAddr>().unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_addresses_hears_that_the_stack_has_ended() {
    let switch = Switch::new(SwitchConfig::default());
    let stack = on(&switch, "alice")
        .address("10.0.0.1/24")
        .host(careful())
        .build()
        .unwrap();
    let waiting = timeout(Duration::from_secs(60), stack.addresses_settled());
    let (result, ()) = tokio::join!(waiting, stack.shutdown());
    let error = result
        .expect("woken")
        .expect_err("ended before it was settled");
    assert_eq!(error.kind(), ErrorKind::NetworkDown);
}

#[tokio::test(start_paused = true)]
async fn many_hosts_talk_at_once() {
    let switch = Switch::new(SwitchConfig::default());
    let stacks: Vec<Stack> = (1..=8)
        .map(|i| {
            let address = format!("10.0.0.{i}/24");
            on(&switch, &format!("host{i}"))
                .address(address.as_str())
                .build()
                .unwrap()
        })
        .collect();
    let mut tasks = tokio::task::JoinSet::new();
    for (i, server) in stacks.iter().enumerate() {
        let address = format!("10.0.0.{}:80", i + 1);
        let listener = server.tcp_listener(address.as_str()).await.unwrap();
        tasks.spawn(async move {
            for _ in 0..7 {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await.unwrap();
                });
            }
        });
        for client in stacks
            .iter()
            .enumerate()
            .filter(|(j, _)| *j != i)
            .map(|(_, client)| client)
        {
            let (client, address) = (client.clone(), address.clone());
            tasks.spawn(async move {
                let mut stream = client.tcp_stream(address.as_str()).await.unwrap();
                stream.write_all(&[7; 10_000]).await.unwrap();
                stream.shutdown().await.unwrap();
                let mut echoed = Vec::new();
                stream.read_to_end(&mut echoed).await.unwrap();
                assert_eq!(echoed, vec![7; 10_000]);
            });
        }
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    // A switch that has learnt floods no more than the questions.
    let flooded: u64 = switch
        .monitor()
        .ports()
        .iter()
        .map(|(_, stats)| stats.flooded)
        .sum();
    assert!(flooded < 8 * 30, "{flooded} frames flooded");
}

#[tokio::test(start_paused = true)]
async fn an_association_whose_first_address_has_no_neighbour_is_set_up_by_the_second() {
    // What is known of the first is no error of the association that the second has brought about.
    let switch = Switch::new(SwitchConfig::default());
    let (alice, bob) = pair(&switch);
    let listener = bob.sctp_listener("10.0.0.2:5000").await.unwrap();
    // That nobody is there is known before.
    let error = alice.tcp_stream("10.0.0.9:80").await.unwrap_err();
    assert_eq!(errno(&error), EHOSTUNREACH);
    let peers: [SocketAddr; 2] =
        ["10.0.0.9:5000", "10.0.0.2:5000"].map(|peer| peer.parse().unwrap());
    let (client, server) = tokio::join!(alice.sctp_association(&peers[..]), listener.accept());
    let (client, (server, _)) = (client.expect("connected"), server.expect("accepted"));
    client
        .send("through", SendOptions::default())
        .await
        .unwrap();
    let message = server.recv().await.unwrap().expect("a message");
    assert_eq!(&message.data[..], b"through");
    let (closed, read) = tokio::join!(client.shutdown(), server.recv());
    closed.expect("in order");
    assert!(read.expect("the end").is_none());
}
