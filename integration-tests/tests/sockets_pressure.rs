//! Sockets over links that are nearly always full, from several threads, and stacks that end in the middle of it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tidewire::Stack;
use tidewire::net::TcpStream;
use tidewire_netdev::Device;
use tidewire_netdev::memory::{ImpairmentConfig, PairConfig, impaired_pair, pair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

const LEFT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1));
const RIGHT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2));
/// A hang is told from work by this; nothing here takes a tenth of it.
const LIMIT: Duration = Duration::from_secs(60);

fn stacks((left, right): (Device, Device)) -> (Stack, Stack) {
    let build = |device, address: &str, seed| {
        let builder = Stack::builder().device(device).address(address).seed(seed);
        builder.unregistered().build().unwrap()
    };
    (
        build(left, "10.1.0.1/24", 1),
        build(right, "10.1.0.2/24", 2),
    )
}

/// A link that is full after `packets`.
fn narrow(packets: usize) -> (Stack, Stack) {
    stacks(pair(PairConfig {
        queue_packets: packets,
        ..PairConfig::default()
    }))
}

async fn echo(mut stream: TcpStream) {
    let (mut reader, mut writer) = stream.split();
    tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    writer.shutdown().await.unwrap();
}

async fn ask(stack: Stack, port: u16, seed: usize) {
    let body: Vec<u8> = (0..300_000).map(|i| ((i * 7 + seed) >> 3) as u8).collect();
    let mut stream = stack.tcp_stream((RIGHT, port)).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let mut answer = Vec::new();
    let write = async {
        for chunk in body.chunks(10_000) {
            writer.write_all(chunk).await.unwrap();
        }
        writer.shutdown().await.unwrap();
    };
    let (_, read) = tokio::join!(write, reader.read_to_end(&mut answer));
    read.unwrap();
    assert!(answer == body, "connection {seed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_of_several_threads_share_a_link_that_is_always_full() {
    for packets in [1, 3] {
        let (left, right) = narrow(packets);
        let listener = right.tcp_listener((RIGHT, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            loop {
                tokio::spawn(echo(listener.accept().await.unwrap().0));
            }
        });
        // A datagram socket fights for the same device.
        let noise = left.udp_socket((LEFT, 0)).await.unwrap();
        let noise = tokio::spawn(async move {
            loop {
                noise.send_to(&[0; 1000], (RIGHT, 9)).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let clients: Vec<_> = (0..8)
            .map(|seed| tokio::spawn(ask(left.clone(), port, seed)))
            .collect();
        for client in clients {
            timeout(LIMIT, client).await.expect("no hang").unwrap();
        }
        noise.abort();
        server.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_of_several_threads_share_the_loopback() {
    let stack = Stack::builder().unregistered().build().unwrap();
    let listener = stack.tcp_listener("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        loop {
            tokio::spawn(echo(listener.accept().await.unwrap().0));
        }
    });
    let clients: Vec<_> = (0..200)
        .map(|seed: usize| {
            let stack = stack.clone();
            tokio::spawn(async move {
                let body = vec![seed as u8; 1 + seed * 100];
                let mut stream = stack.tcp_stream(address).await.unwrap();
                stream.write_all(&body).await.unwrap();
                stream.shutdown().await.unwrap();
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).await.unwrap();
                assert!(answer == body, "connection {seed}");
            })
        })
        .collect();
    for client in clients {
        timeout(LIMIT, client).await.expect("no hang").unwrap();
    }
    server.abort();
}

#[tokio::test(start_paused = true)]
async fn datagrams_that_wait_for_a_full_device_outlive_the_last_handle() {
    let (left, right) = narrow(1);
    let receiver = right.udp_socket((RIGHT, 9)).await.unwrap();
    let sender = left.udp_socket((LEFT, 0)).await.unwrap();
    for number in 0..20_u8 {
        sender.send_to(&[number], (RIGHT, 9)).await.unwrap();
    }
    drop(sender);
    drop(left);
    let (mut received, mut errors) = (Vec::new(), 0);
    while received.len() < 20 {
        let mut buffer = [0; 2];
        match timeout(LIMIT, receiver.recv(&mut buffer)).await {
            Ok(Ok(len)) => received.extend_from_slice(&buffer[..len]),
            // The left device's end is the right one's, too, and told once before what has arrived.
            Ok(Err(_)) => errors += 1,
            Err(_) => panic!("{} of 20 arrived", received.len()),
        }
        assert!(errors <= 1, "{} of 20 arrived", received.len());
    }
    assert!(received.into_iter().eq(0..20));
}

#[tokio::test(start_paused = true)]
async fn a_linger_time_of_years_does_not_end_the_stack() {
    let delay = ImpairmentConfig::delay(Duration::from_millis(50));
    let (left, right) = stacks(impaired_pair(
        PairConfig::default(),
        delay.clone(),
        delay,
        7,
    ));
    let listener = right.tcp_listener((RIGHT, 80)).await.unwrap();
    let socket = left.tcp_socket_v4().unwrap();
    #[allow(deprecated, reason = "blocks no thread here")]
    socket
        .set_linger(Some(Duration::from_secs(5 * 365 * 86_400)))
        .unwrap();
    let mut stream = socket.connect((RIGHT, 80).into()).await.unwrap();
    stream.write_all(b"the last words").await.unwrap();
    drop(stream);
    let mut words = String::new();
    let (mut server, _) = listener.accept().await.unwrap();
    let read = timeout(LIMIT, server.read_to_string(&mut words)).await;
    read.expect("delivered").unwrap();
    assert_eq!(words, "the last words");
    drop(server);
    sleep(Duration::from_secs(1)).await;
    left.tcp_listener((LEFT, 80))
        .await
        .expect("the stack lives");
}
