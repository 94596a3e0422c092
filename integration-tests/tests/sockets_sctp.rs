//! SCTP sockets of two stacks that are joined by a link, in virtual time.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tidewire::Stack;
use tidewire::engine::StackStats;
use tidewire::net::sctp::{
    AssociationChange, InitMessage, Notification, SctpAssociation, SctpListener, SendOptions, State,
};
use tidewire::stats::DropReason;
use tidewire_netdev::memory::impairment::{ImpairmentConfig, Loss, Reorder};
use tidewire_netdev::memory::{PairConfig, impaired_pair, pair};
use tokio::time::{Instant, timeout};

const RIGHT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2));
const DELAY: Duration = Duration::from_millis(20);

struct Link {
    left: Stack,
    right: Stack,
}

impl Link {
    fn over((left, right): (tidewire_netdev::Device, tidewire_netdev::Device)) -> Self {
        let build = |device, last, seed| {
            let builder = Stack::builder().device(device).seed(seed).unregistered();
            let v4 = format!("10.1.0.{last}/24");
            let v6 = format!("fd00:1::{last}/64");
            builder
                .address(v4.as_str())
                .address(v6.as_str())
                .build()
                .expect("two addresses and a device")
        };
        Self {
            left: build(left, 1, 1),
            right: build(right, 2, 2),
        }
    }

    fn ideal() -> Self {
        Self::over(pair(PairConfig::default()))
    }

    fn delayed() -> Self {
        Self::impaired(ImpairmentConfig::delay(DELAY))
    }

    fn impaired(impairment: ImpairmentConfig) -> Self {
        let devices = impaired_pair(PairConfig::default(), impairment.clone(), impairment, 7);
        Self::over(devices)
    }

    async fn listener(&self) -> SctpListener {
        let listener = self.right.sctp_listener((RIGHT, 0)).await;
        listener.expect("a free port")
    }

    /// An association from left to right.
    async fn associated(&self) -> (SctpAssociation, SctpAssociation) {
        let listener = self.listener().await;
        let address = listener.local_addr().expect("bound");
        let (client, server) = tokio::join!(
            self.left
                .sctp_builder()
                .init(InitMessage {
                    outbound_streams: Some(100),
                    ..InitMessage::default()
                })
                .nodelay(true)
                .connect(address),
            listener.accept()
        );
        (client.expect("connected"), server.expect("accepted").0)
    }

    /// Whether nothing of any association is left on either side.
    fn is_clean(&self) -> bool {
        let left = self.left.sockets();
        let right = self.right.sockets();
        left.iter()
            .chain(&right)
            .all(|socket| socket.protocol != "sctp")
    }
}

fn body(seed: usize, len: usize) -> Bytes {
    (0..len).map(|i| (i ^ (i >> 8) ^ seed) as u8).collect()
}

fn on(stream: u16) -> SendOptions {
    SendOptions {
        stream,
        ..SendOptions::default()
    }
}

fn dropped(stats: StackStats) -> u64 {
    stats.dropped(DropReason::Malformed) + stats.dropped(DropReason::Checksum)
}

#[tokio::test(start_paused = true)]
async fn connecting_takes_two_round_trips() {
    // RFC 9260 5.1: INIT, INIT ACK, COOKIE ECHO, COOKIE ACK.
    let link = Link::delayed();
    let started = Instant::now();
    let (client, server) = link.associated().await;
    assert_eq!(started.elapsed().as_millis(), 4 * DELAY.as_millis());
    assert_eq!(client.peer_addr().unwrap(), server.local_addr().unwrap());
    assert_eq!(client.local_addr().unwrap(), server.peer_addr().unwrap());
    assert_eq!(client.state(), State::Established);
    assert_eq!(server.status().inbound_streams, 100);
}

#[tokio::test(start_paused = true)]
async fn messages_of_every_size_arrive_in_order_over_a_bad_link() {
    for seed in 0..3 {
        let bad = ImpairmentConfig {
            loss: Loss::Uniform(0.02),
            reorder: Reorder {
                probability: 0.02,
                extra_delay: Duration::from_millis(3),
            },
            duplicate: 0.01,
            ..ImpairmentConfig::delay(Duration::from_millis(5))
        };
        let devices = impaired_pair(PairConfig::default(), bad.clone(), bad, seed);
        let link = Link::over(devices);
        let (client, server) = link.associated().await;
        let sizes = [1, 2, 100, 1000, 1452, 1453, 9000, 65_536, 300_000, 1 << 20];
        let sent: Vec<Bytes> = sizes.iter().map(|len| body(*len, *len)).collect();
        let send = async {
            for message in &sent {
                client.send(message.clone(), on(7)).await.expect("sent");
            }
            client.shutdown().await
        };
        let receive = async {
            let mut got = Vec::new();
            let mut parts = Vec::new();
            while let Some(message) = server.recv().await.expect("received") {
                parts.extend_from_slice(&message.data);
                if message.end_of_record {
                    got.push(Bytes::from(std::mem::take(&mut parts)));
                }
            }
            got
        };
        let (done, got) = tokio::join!(send, receive);
        done.expect("an orderly end");
        assert!(got == sent, "seed {seed}: not what was sent");
        assert_eq!(dropped(link.left.stats()) + dropped(link.right.stats()), 0);
        drop((client, server));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(link.is_clean(), "{:?}", link.left.sockets());
    }
}

#[tokio::test(start_paused = true)]
async fn packets_with_a_bad_checksum_are_dropped() {
    // RFC 9260 6.8: the handshake's and those with DATA; nothing of them is believed or answered.
    let bad = ImpairmentConfig {
        corrupt: 0.1,
        ..ImpairmentConfig::delay(Duration::from_millis(5))
    };
    let devices = impaired_pair(PairConfig::default(), bad.clone(), bad, 5);
    let link = Link::over(devices);
    let (client, server) = link.associated().await;
    let sent: Vec<Bytes> = (0..50).map(|i| body(i, 2000)).collect();
    let send = async {
        for message in &sent {
            client.send(message.clone(), on(0)).await.expect("sent");
        }
        client.shutdown().await
    };
    let receive = async {
        let mut got = Vec::new();
        while let Some(message) = server.recv().await.expect("received") {
            got.push(message.data);
        }
        got
    };
    let (done, got) = tokio::join!(send, receive);
    done.expect("an orderly end");
    assert!(got == sent, "not what was sent");
    let bad = |stack: &Stack| stack.stats().dropped(DropReason::Checksum);
    assert!(bad(&link.left) > 0 && bad(&link.right) > 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_buffer_makes_senders_wait_and_a_reader_lets_them_go_on() {
    let link = Link::delayed();
    let (client, server) = link.associated().await;
    let message = body(1, 64 << 10);
    let mut queued = 0;
    // Until the peer's window is full, too. What gives up waiting was never queued.
    loop {
        let sending = client.send(message.clone(), on(0));
        match timeout(Duration::from_secs(30), sending).await {
            Ok(sent) => sent.expect("the association lives"),
            Err(_) => break,
        }
        queued += 1;
        assert!(queued < 1000, "buffers have no bound");
    }
    let full = client.try_send(message.clone(), on(0));
    assert_eq!(full.expect_err("full").kind(), ErrorKind::WouldBlock);
    let send = async {
        client
            .send(message.clone(), on(0))
            .await
            .expect("room again");
        client.start_shutdown();
    };
    let receive = async {
        let mut octets = 0;
        while let Some(message) = server.recv().await.expect("received") {
            octets += message.data.len();
        }
        octets
    };
    let ((), octets) = tokio::join!(send, receive);
    assert_eq!(octets, (queued + 1) * message.len());
}

#[tokio::test(start_paused = true)]
async fn an_unread_stream_does_not_hold_up_another() {
    // RFC 9260 6.6: order is kept within a stream only.
    let link = Link::delayed();
    let (client, server) = link.associated().await;
    for i in 0..10 {
        client.send(body(i, 100), on(1)).await.expect("sent");
    }
    let mut two = client.stream(2);
    two.send(body(99, 50)).await.expect("sent");
    let got = server.stream(2).next().await.expect("not the end");
    assert_eq!(got.expect("received").data, body(99, 50));
    let mut one = server.stream(1);
    for i in 0..10 {
        let got = one.next().await.expect("not the end").expect("received");
        assert_eq!(got.data, body(i, 100));
    }
    client.start_shutdown();
    assert!(one.next().await.is_none(), "the peer has no more");
}

#[tokio::test(start_paused = true)]
async fn an_abort_tells_the_peer_why() {
    // RFC 9260 9.1, 3.3.10.12.
    let link = Link::delayed();
    let (client, server) = link.associated().await;
    client.abort("enough");
    let error = server.recv().await.expect_err("aborted");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(server.recv().await.expect("told once"), None);
    let error = server.send("x", on(0)).await.expect_err("over");
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    let events: Vec<Notification> = server.events().collect().await;
    let lost = events.iter().any(|event| {
        matches!(
            event,
            Notification::AssociationChange(AssociationChange::CommunicationLost { causes, .. })
                if format!("{causes:?}").contains("enough")
        )
    });
    assert!(lost, "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn dropping_delivers_what_was_sent_and_unread_messages_abort() {
    let link = Link::delayed();
    let (client, server) = link.associated().await;
    client.send(body(5, 200_000), on(3)).await.expect("sent");
    drop(client);
    let mut octets = 0;
    while let Some(message) = server.recv().await.expect("an orderly end") {
        octets += message.data.len();
    }
    assert_eq!(octets, 200_000);

    let (client, server) = link.associated().await;
    client.send("never read", on(0)).await.expect("sent");
    server.readable().await.expect("it has come");
    tokio::time::sleep(DELAY * 3).await;
    drop(server);
    let error = client.recv().await.expect_err("what was sent is lost");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn errors_are_linuxs() {
    let link = Link::delayed();
    let refused = link.left.sctp_association((RIGHT, 9)).await;
    let error = refused.expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let far: SocketAddr = "192.0.2.1:9".parse().expect("an address");
    let error = link.left.sctp_association(far).await.expect_err("no route");
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
    let listener = link.listener().await;
    let address = listener.local_addr().expect("bound");
    let error = link.right.sctp_listener(address).await.expect_err("taken");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    let error = link
        .left
        .sctp_listener(address)
        .await
        .expect_err("not ours");
    assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
    let (client, _server) = link.associated().await;
    for (message, options) in [(Bytes::new(), on(0)), (Bytes::from("x"), on(100))] {
        let error = client.send(message, options).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    let error = client.try_recv().expect_err("nothing has come");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_answers_is_given_up() {
    // RFC 9260 4, Max.Init.Retransmits: 8 times after the first INIT.
    let link = Link::impaired(ImpairmentConfig {
        loss: Loss::Uniform(1.0),
        ..ImpairmentConfig::delay(DELAY)
    });
    let started = Instant::now();
    let error = link
        .left
        .sctp_association((RIGHT, 9))
        .await
        .expect_err("lost");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    // 1 + 2 + 4 + 8 + 16 + 32 + 60 + 60 + 60 seconds.
    assert_eq!(started.elapsed().as_secs(), 243);
    assert!(link.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_connect_leaves_nothing_behind() {
    let link = Link::delayed();
    let listener = link.listener().await;
    let address = listener.local_addr().expect("bound");
    let connecting = link.left.sctp_association(address);
    assert!(timeout(DELAY, connecting).await.is_err());
    drop(listener);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(link.is_clean(), "{:?}", link.left.sockets());
}

#[tokio::test(start_paused = true)]
async fn both_ends_may_shut_down_at_once_and_ipv6_is_no_different() {
    let link = Link::delayed();
    let listener = link
        .right
        .sctp_listener("[fd00:1::2]:0")
        .await
        .expect("bound");
    let address = listener.local_addr().expect("bound");
    let (client, server) = tokio::join!(link.left.sctp_association(address), listener.accept());
    let (client, server) = (client.expect("connected"), server.expect("accepted").0);
    assert!(client.peer_addr().expect("connected").is_ipv6());
    let (a, b) = tokio::join!(client.shutdown(), server.shutdown());
    a.expect("an orderly end");
    b.expect("an orderly end");
    drop((client, server, listener));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(link.is_clean());
}

#[tokio::test]
async fn what_nobody_accepts_is_bounded_and_aborted_with_the_listener() {
    let link = Link::ideal();
    let builder = link.right.sctp_builder().backlog(1);
    let listener = builder.listen((RIGHT, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(link.left.sctp_association(address).await.expect("room"));
    }
    let error = link.left.sctp_association(address).await.expect_err("full");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    drop(listener);
    for client in &clients {
        let error = client.recv().await.expect_err("aborted");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

#[tokio::test(start_paused = true)]
async fn messages_sent_in_a_row_share_packets_while_others_are_under_way() {
    // RFC 9260 6.10: bundling; without Nagle's algorithm, a lone message waits for nothing.
    let link = Link::delayed();
    let (client, server) = link.associated().await;
    let started = Instant::now();
    client.send(body(0, 100), on(0)).await.expect("alive");
    server.recv().await.expect("alive").expect("a message");
    assert_eq!(started.elapsed().as_millis(), DELAY.as_millis());

    let before = client.stats();
    for seed in 0..200 {
        client.send(body(seed, 100), on(1)).await.expect("alive");
    }
    for seed in 0..200 {
        let message = server.recv().await.expect("alive").expect("a message");
        assert_eq!(message.data, body(seed, 100));
    }
    let packets = client.stats().packets_sent - before.packets_sent;
    // Twelve in a packet, but for those that went before there was anything to wait for.
    assert!((17..25).contains(&packets), "{packets}");
}
