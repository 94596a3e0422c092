//! Stacks on devices with several queues: one driver and one shard for each.

use std::net::SocketAddr;
use std::time::Duration;

use tidewire::Stack;
use tidewire_netdev::memory::{PairConfig, pair};
use tidewire_netdev::{Medium, OffloadSet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

fn stacks(queues: [usize; 2], medium: Medium, offloads: OffloadSet) -> (Stack, Stack) {
    let config = |queues| PairConfig {
        queues,
        medium,
        offloads,
        ..PairConfig::default()
    };
    // Both devices of a pair have as many queues; a further single one makes the shards outnumber a device's queues.
    let (a, b) = pair(config(queues[0]));
    let (c, d) = pair(config(queues[1]));
    let build = |first, second, host: u8| {
        Stack::builder()
            .device(first)
            .address(format!("10.0.0.{host}/24").as_str())
            .address(format!("fd00::{host}/64").as_str())
            .device(second)
            .address(format!("10.1.0.{host}/24").as_str())
            .seed(u64::from(host))
            .unregistered()
            .build()
            .unwrap()
    };
    (build(a, c, 1), build(b, d, 2))
}

/// Echoes over `count` connections at once, each `len` octets, with their two ends closed in turn.
async fn echo_many(client: &Stack, server: &Stack, address: &str, count: usize, len: usize) {
    let listener = server.tcp_listener(address).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut echoes = JoinSet::new();
        for _ in 0..count {
            let (mut stream, _) = listener.accept().await.unwrap();
            echoes.spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.unwrap();
                write.shutdown().await.unwrap();
            });
        }
        while let Some(echo) = echoes.join_next().await {
            echo.unwrap();
        }
    });
    for i in 0..count {
        let (client, address) = (client.clone(), address.to_owned());
        tasks.spawn(async move {
            let mut stream = client.tcp_stream(address.as_str()).await.unwrap();
            let body: Vec<u8> = (0..len).map(|at| (at * 31 + i) as u8).collect();
            let (mut read, mut write) = stream.split();
            let mut echoed = Vec::new();
            let write = async {
                write.write_all(&body).await.unwrap();
                write.shutdown().await.unwrap();
            };
            let (_, read) = tokio::join!(write, read.read_to_end(&mut echoed));
            read.unwrap();
            assert_eq!(echoed, body);
        });
    }
    let all = async {
        while let Some(task) = tasks.join_next().await {
            task.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all)
        .await
        .expect("no connection hangs");
}

const ADDRESSES: [&str; 3] = ["10.0.0.2:80", "[fd00::2]:80", "10.1.0.2:80"];

#[tokio::test(start_paused = true)]
async fn connections_spread_over_the_queues_of_a_device() {
    for medium in [Medium::Ip, Medium::Ethernet] {
        for queues in [[1, 1], [2, 1], [4, 3]] {
            let (a, b) = stacks(queues, medium, OffloadSet::ALL);
            for address in ADDRESSES {
                echo_many(&a, &b, address, 40, 50_000).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn drivers_on_several_threads_serve_one_stack() {
    for offloads in [OffloadSet::ALL, OffloadSet::NONE] {
        let (a, b) = stacks([4, 2], Medium::Ip, offloads);
        for address in ADDRESSES {
            echo_many(&a, &b, address, 60, 200_000).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stack_with_several_shards_talks_to_itself() {
    let (a, _b) = stacks([4, 1], Medium::Ip, OffloadSet::ALL);
    for address in ["127.0.0.1:80", "10.0.0.1:81"] {
        echo_many(&a, &a, address, 60, 100_000).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn small_queues_hold_back_every_shard_and_lose_nothing() {
    let (a, b) = pair(PairConfig {
        queues: 3,
        queue_packets: 2,
        offloads: OffloadSet::NONE,
        ..PairConfig::default()
    });
    let build = |device, address| {
        // ACKs wait in full queues for longer than two round trips, and then a loss probe is a duplicate.
        let tcp = tidewire::tcp::Config {
            tail_loss_probe: false,
            ..tidewire::tcp::Config::default()
        };
        let builder = Stack::builder().device(device).address(address).seed(3);
        builder.tcp(tcp).unregistered().build().unwrap()
    };
    let (a, b) = (build(a, "10.0.0.1/24"), build(b, "10.0.0.2/24"));
    echo_many(&a, &b, "10.0.0.2:80", 30, 300_000).await;
    let stats = (a.stats(), b.stats());
    assert_eq!(
        stats.0.dropped_total() + stats.1.dropped_total(),
        0,
        "{stats:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn datagrams_of_several_tasks_arrive_through_all_queues() {
    let (a, b) = stacks([4, 1], Medium::Ip, OffloadSet::ALL);
    let server = b.udp_socket("10.0.0.2:7").await.unwrap();
    let to: SocketAddr = server.local_addr().unwrap();
    let echo = tokio::spawn(async move {
        let mut buffer = [0; 64];
        loop {
            let (len, from) = server.recv_from(&mut buffer).await.unwrap();
            server.send_to(&buffer[..len], from).await.unwrap();
        }
    });
    let mut tasks = JoinSet::new();
    for i in 0..32u8 {
        let a = a.clone();
        tasks.spawn(async move {
            let socket = a.udp_socket("10.0.0.1:0").await.unwrap();
            socket.connect(to).await.unwrap();
            let mut buffer = [0; 64];
            for round in 0..50u8 {
                socket.send(&[i, round]).await.unwrap();
                let len = socket.recv(&mut buffer).await.unwrap();
                assert_eq!(&buffer[..len], [i, round]);
            }
        });
    }
    let all = async {
        while let Some(task) = tasks.join_next().await {
            task.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all)
        .await
        .expect("no datagram is lost in memory");
    echo.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn when_a_device_of_several_queues_ends_everybody_hears() {
    let (device, peer) = pair(PairConfig {
        queues: 3,
        ..PairConfig::default()
    });
    let build = |device, address| {
        let builder = Stack::builder().device(device).address(address);
        builder.unregistered().build().unwrap()
    };
    let (a, b) = (build(device, "10.0.0.1/24"), build(peer, "10.0.0.2/24"));
    let listener = b.tcp_listener("10.0.0.2:80").await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..12 {
        let (client, server) = tokio::join!(a.tcp_stream("10.0.0.2:80"), listener.accept());
        streams.push((client.unwrap(), server.unwrap()));
    }
    let (clients, servers): (Vec<_>, Vec<_>) = streams.into_iter().unzip();
    drop((servers, listener));
    b.shutdown().await;
    drop(b);
    for mut client in clients {
        let mut buffer = [0; 16];
        let ended = tokio::time::timeout(Duration::from_secs(5), client.read(&mut buffer)).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    }
}
