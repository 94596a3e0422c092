//! Sockets of two stacks that are joined by a link, in virtual time.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tidewire::Stack;
use tidewire::net::{Interest, SockOptExt, TcpStream};
use tidewire::tcp::info::State;
use tidewire_netdev::memory::{ImpairmentConfig, PairConfig, impaired_pair, pair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

const LEFT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1));
const RIGHT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2));
const DELAY: Duration = Duration::from_millis(50);

/// Two stacks, unregistered: every socket names its own.
struct Link {
    left: Stack,
    right: Stack,
}

impl Link {
    fn over(
        (left, right): (tidewire_netdev::Device, tidewire_netdev::Device),
        tcp: &tidewire::tcp::Config,
    ) -> Self {
        let build = |device, address: &str, seed| {
            let builder = Stack::builder()
                .device(device)
                .address(address)
                .seed(seed)
                .tcp(tcp.clone());
            builder.unregistered().build().unwrap()
        };
        Self {
            left: build(left, "10.1.0.1/24", 1),
            right: build(right, "10.1.0.2/24", 2),
        }
    }

    fn ideal() -> Self {
        Self::over(
            pair(PairConfig::default()),
            &tidewire::tcp::Config::default(),
        )
    }

    fn impaired(impairment: ImpairmentConfig) -> Self {
        let devices = impaired_pair(PairConfig::default(), impairment.clone(), impairment, 7);
        Self::over(devices, &tidewire::tcp::Config::default())
    }

    fn delayed() -> Self {
        Self::impaired(ImpairmentConfig::delay(DELAY))
    }

    /// A connection from left to right.
    async fn connected(&self) -> (TcpStream, TcpStream) {
        let listener = self.right.tcp_listener((RIGHT, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (client, server) = tokio::join!(self.left.tcp_stream((RIGHT, port)), listener.accept());
        (client.unwrap(), server.unwrap().0)
    }
}

/// Octets that tell where they belong.
fn body(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

fn about(duration: Duration, expected: Duration) -> bool {
    duration >= expected && duration < expected + Duration::from_millis(20)
}

#[tokio::test(start_paused = true)]
async fn connecting_takes_a_round_trip() {
    let link = Link::delayed();
    let started = Instant::now();
    let (client, server) = link.connected().await;
    let took = started.elapsed();
    // A SYN there, a SYN-ACK back, an ACK there.
    assert!(
        took >= 2 * DELAY && took < 3 * DELAY + Duration::from_millis(20),
        "{took:?}"
    );
    assert_eq!(client.local_addr().unwrap().ip(), LEFT);
    assert_eq!(client.peer_addr().unwrap(), server.local_addr().unwrap());
    assert!(about(client.info().rtt, 2 * DELAY), "{:?}", client.info());
}

#[tokio::test(start_paused = true)]
async fn everything_arrives_over_a_lossy_link_both_ways() {
    let link = Link::impaired(ImpairmentConfig::delay(Duration::from_millis(15)).with_loss(0.01));
    let (client, server) = link.connected().await;
    let sent = body(2 << 20);
    let expected = Sha256::digest(&sent);
    let run = |stream: TcpStream, sent: Vec<u8>| async move {
        let (mut read, mut write) = stream.into_split();
        let writer = tokio::spawn(async move {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
            write
        });
        let mut received = Vec::new();
        read.read_to_end(&mut received).await.unwrap();
        let write = writer.await.unwrap();
        (Sha256::digest(&received), read.reunite(write).unwrap())
    };
    let ((at_client, client), (at_server, _server)) =
        tokio::join!(run(client, sent.clone()), run(server, sent.clone()));
    assert_eq!((at_client, at_server), (expected, expected));
    assert!(client.info().retransmits > 0, "{:?}", client.info());
}

#[tokio::test(start_paused = true)]
async fn silence_times_out() {
    let link = Link::impaired(ImpairmentConfig::default().with_loss(1.0));
    let started = Instant::now();
    let error = link.left.tcp_stream((RIGHT, 80)).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT));
    // Seven retransmissions, one second doubled each time up to 120 s (RFC 6298 5.5); over 3 minutes (RFC 9293 MUST-23).
    let took = started.elapsed();
    assert!(
        took > Duration::from_secs(180) && took < Duration::from_secs(255),
        "{took:?}"
    );
    assert!(link.left.sockets().is_empty());
}

#[tokio::test(start_paused = true)]
async fn dropping_a_connect_gives_the_attempt_up() {
    let link = Link::impaired(ImpairmentConfig::default().with_loss(1.0));
    assert!(
        timeout(Duration::from_secs(5), link.left.tcp_stream((RIGHT, 80)))
            .await
            .is_err()
    );
    assert!(link.left.sockets().is_empty(), "{:?}", link.left.sockets());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_and_a_missing_route_are_told() {
    let link = Link::delayed();
    let started = Instant::now();
    let error = link.left.tcp_stream((RIGHT, 81)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(about(started.elapsed(), 2 * DELAY));
    let error = link.left.tcp_stream("192.0.2.1:80").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
    let socket = link.left.udp_socket((LEFT, 0)).await.unwrap();
    let error = socket.send_to(b"x", "192.0.2.1:80").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_stream_delivers_what_was_written() {
    let link = Link::impaired(ImpairmentConfig::delay(DELAY).with_loss(0.02));
    let (mut client, mut server) = link.connected().await;
    let sent = body(128 << 10);
    client.write_all(&sent).await.unwrap();
    drop(client);
    let mut received = Vec::new();
    server.read_to_end(&mut received).await.unwrap();
    assert_eq!(Sha256::digest(&received), Sha256::digest(&sent));
}

#[tokio::test(start_paused = true)]
async fn a_stack_shuts_down_when_its_dropped_connections_have_delivered() {
    let link = Link::delayed();
    let (mut client, mut server) = link.connected().await;
    let sent = body(300_000);
    client.write_all(&sent).await.unwrap();
    drop(client);
    let reader = tokio::spawn(async move {
        let mut received = Vec::new();
        server.read_to_end(&mut received).await.unwrap();
        received
    });
    link.left.shutdown().await;
    assert_eq!(reader.await.unwrap(), sent);
    let error = link.left.tcp_listener((LEFT, 0)).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENETDOWN));
}

#[tokio::test(start_paused = true)]
async fn linger_resets_when_its_time_is_over() {
    let config = tidewire::tcp::Config {
        receive_buffer: 64 << 10,
        ..Default::default()
    };
    let link = Link::over(pair(PairConfig::default()), &config);
    let (mut client, mut server) = link.connected().await;
    #[allow(deprecated, reason = "nothing blocks here")]
    client.set_linger(Some(Duration::from_secs(2))).unwrap();
    // More than the reader's window: what is left cannot be delivered until it reads.
    client.write_all(&body(160 << 10)).await.unwrap();
    drop(client);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(
        !server
            .ready(Interest::READABLE)
            .await
            .unwrap()
            .is_read_closed()
    );
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut received = Vec::new();
    let error = server.read_to_end(&mut received).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(!received.is_empty() && received.len() < 160 << 10);
}

#[tokio::test(start_paused = true)]
async fn half_closed_connections_answer() {
    let link = Link::delayed();
    let (mut client, mut server) = link.connected().await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut question = String::new();
    server.read_to_string(&mut question).await.unwrap();
    tokio::time::sleep(2 * DELAY).await;
    assert_eq!(client.info().state, State::FinWait2);
    server
        .write_all(question.to_uppercase().as_bytes())
        .await
        .unwrap();
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "QUESTION");
}

#[tokio::test(start_paused = true)]
async fn a_full_backlog_drops_syns_until_there_is_room() {
    let link = Link::ideal();
    let socket = link.right.tcp_socket_v4().unwrap();
    socket.bind(SocketAddr::new(RIGHT, 80)).unwrap();
    let listener = socket.listen(0).unwrap();
    let first = link.left.tcp_stream((RIGHT, 80)).await.unwrap();
    let second = link.left.tcp_stream((RIGHT, 80));
    tokio::pin!(second);
    assert!(
        timeout(Duration::from_millis(900), &mut second)
            .await
            .is_err(),
        "the SYN was dropped"
    );
    assert_eq!(
        listener.accept().await.unwrap().1,
        first.local_addr().unwrap()
    );
    let second = timeout(Duration::from_secs(3), second)
        .await
        .expect("the SYN comes again")
        .unwrap();
    assert_eq!(
        listener.accept().await.unwrap().1,
        second.local_addr().unwrap()
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_peer_that_is_gone_is_found_out_by_keepalive() {
    let config = tidewire::tcp::Config {
        keepalive_interval: Duration::from_secs(5),
        keepalive_probes: 3,
        ..Default::default()
    };
    let link = Link::over(pair(PairConfig::default()), &config);
    let (mut client, server) = link.connected().await;
    client.set_keepalive(true).unwrap();
    client.set_keepalive_time(Duration::from_secs(60)).unwrap();
    assert!(client.keepalive().unwrap());
    // A peer that answers keeps the connection.
    assert!(
        timeout(Duration::from_secs(1000), client.read(&mut [0; 1]))
            .await
            .is_err()
    );
    drop(server);
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_remote_port_that_is_closed_refuses_datagrams() {
    let link = Link::delayed();
    let socket = link.left.udp_socket("0.0.0.0:0").await.unwrap();
    socket.connect((RIGHT, 9)).await.unwrap();
    assert_eq!(socket.local_addr().unwrap().ip(), LEFT);
    let started = Instant::now();
    socket.send(b"anybody?").await.unwrap();
    let error = socket.recv(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(about(started.elapsed(), 2 * DELAY));
}

#[tokio::test(start_paused = true)]
async fn datagrams_larger_than_the_link_arrive_in_one_piece() {
    let link = Link::delayed();
    let sender = link.left.udp_socket((LEFT, 0)).await.unwrap();
    let receiver = link.right.udp_socket((RIGHT, 7)).await.unwrap();
    let sent = body(20_000);
    sender.send_to(&sent, (RIGHT, 7)).await.unwrap();
    let mut received = vec![0; 65_536];
    let (len, from) = receiver.recv_from(&mut received).await.unwrap();
    assert_eq!(from, sender.local_addr().unwrap());
    assert_eq!(received[..len], sent);
}

#[tokio::test(start_paused = true)]
async fn ping_measures_the_link() {
    let link = Link::delayed();
    let socket = link.left.icmp_socket(LEFT).await.unwrap();
    for sequence in 1..=3 {
        let started = Instant::now();
        socket.send_to(b"payload", sequence, RIGHT).await.unwrap();
        let mut payload = [0; 16];
        let reply = socket.recv_from(&mut payload).await.unwrap();
        assert_eq!(
            (reply.source, reply.sequence, reply.ttl),
            (RIGHT, sequence, 64)
        );
        assert_eq!(&payload[..reply.len], b"payload");
        assert!(about(started.elapsed(), 2 * DELAY));
    }
}

#[tokio::test(start_paused = true)]
async fn sockets_fail_when_their_only_device_ends() {
    let Link { left, right } = Link::ideal();
    let listener = right.tcp_listener((RIGHT, 80)).await.unwrap();
    let (client, server) = tokio::join!(left.tcp_stream((RIGHT, 80)), listener.accept());
    let (mut client, (server, _)) = (client.unwrap(), server.unwrap());
    let reader = tokio::spawn(async move {
        let first = client.read(&mut [0; 1]).await.unwrap_err();
        (
            first.raw_os_error(),
            client
                .read(&mut [0; 1])
                .await
                .map_err(|error| error.raw_os_error()),
        )
    });
    tokio::task::yield_now().await;
    // The right stack ends at once, without a word to its peer: its device is dropped, and the left one's ends.
    let ended = right.clone();
    drop((listener, right));
    server.set_zero_linger().unwrap();
    drop(server);
    ended.shutdown().await;
    drop(ended);
    let (first, _) = timeout(Duration::from_secs(60), reader)
        .await
        .expect("nothing hangs")
        .unwrap();
    assert!(
        [Some(libc::ENETDOWN), Some(libc::ECONNRESET)].contains(&first),
        "{first:?}"
    );
    let error = timeout(Duration::from_secs(60), left.tcp_stream((RIGHT, 80)))
        .await
        .expect("nothing hangs")
        .unwrap_err();
    assert_ne!(error.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test(start_paused = true)]
async fn chunks_cross_without_a_copy() -> io::Result<()> {
    let link = Link::ideal();
    let (client, server) = link.connected().await;
    let sent = bytes::Bytes::from(body(1 << 20));
    let writer = tokio::spawn({
        let sent = sent.clone();
        async move {
            client.write_bytes(sent).await.unwrap();
            client
        }
    });
    let mut received = Vec::new();
    let mut aliased = 0;
    while received.len() < sent.len() {
        let chunk = server.read_chunk(usize::MAX).await?;
        let range = sent.as_ptr() as usize..sent.as_ptr() as usize + sent.len();
        aliased += usize::from(range.contains(&(chunk.as_ptr() as usize))) * chunk.len();
        received.extend_from_slice(&chunk);
    }
    assert_eq!(received, sent);
    // An in-memory link passes super-packets by reference: almost all that is read is what was written.
    assert!(aliased > sent.len() / 2, "{aliased} of {}", sent.len());
    drop(writer.await.unwrap());
    assert!(server.read_chunk(1).await?.is_empty());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_sender_waits_for_a_full_device_even_after_a_refusal() {
    // A link so slow that its queue fills, and then the socket's.
    let config = PairConfig {
        queue_packets: 4,
        ..PairConfig::default()
    };
    let slow = ImpairmentConfig::default().with_rate(1_000_000, 64 << 10);
    let link = Link::over(
        impaired_pair(config, slow.clone(), slow, 3),
        &tidewire::tcp::Config::default(),
    );
    let socket = link.left.udp_socket((LEFT, 0)).await.unwrap();
    socket.connect((RIGHT, 9)).await.unwrap();
    socket.send(b"refused").await.unwrap();
    assert_eq!(
        socket.recv(&mut [0; 8]).await.unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    // Without a receiver each is refused; what counts is that every send returns.
    for _ in 0..2000 {
        let _ = timeout(Duration::from_secs(60), socket.send(&[0; 1400]))
            .await
            .expect("no send waits for ever");
    }
}

/// Many small requests that come in together, behind the ends of other connections: each answer carries the ACK of its
/// request (RFC 9293, 3.8.6.3), and closing the others does not send it before.
#[tokio::test(start_paused = true)]
async fn answers_to_many_requests_at_once_carry_their_acks() -> io::Result<()> {
    const ENDING: usize = 8;
    const ASKING: usize = 24;
    let link = Link::ideal();
    let listener = link.right.tcp_listener((RIGHT, 80)).await?;
    let mut clients = Vec::new();
    let mut servers = Vec::new();
    for number in 0..ENDING + ASKING {
        let (client, accepted) = tokio::join!(link.left.tcp_stream((RIGHT, 80)), listener.accept());
        let mut server = accepted?.0;
        servers.push(tokio::spawn(async move {
            let mut request = [0; 64];
            let got = server.read(&mut request).await?;
            if number < ENDING {
                assert_eq!(got, 0);
                return Ok(None);
            }
            assert_eq!(got, request.len());
            server.write_all(b"!").await?;
            Ok::<_, io::Error>(Some(server))
        }));
        clients.push(client?);
    }
    // Delayed ACKs of the handshakes, if there were any.
    tokio::time::sleep(Duration::from_secs(1)).await;

    let asking = clients.split_off(ENDING);
    drop(clients);
    for client in &asking {
        assert_eq!(client.try_write(&[7; 64])?, 64);
    }
    for client in &asking {
        let mut answer = [0; 2];
        client.readable().await?;
        assert_eq!(client.try_read(&mut answer)?, 1);
    }
    for server in servers {
        if let Some(server) = server.await?? {
            assert_eq!(server.info().segments_sent, 1);
        }
    }
    Ok(())
}
