//! Many sockets, many threads: nothing is lost, nothing hangs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidewire::Stack;
use tidewire::net::{TcpListener, TcpStream, UdpSocket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Longer than any of this takes on a busy machine: what is not done by then hangs.
const PATIENCE: Duration = Duration::from_secs(60);

async fn echo(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await.unwrap();
            write.shutdown().await.unwrap();
        });
    }
}

async fn exchange(address: SocketAddr, number: u8) {
    let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    let sent = vec![number; 200_000 + usize::from(number)];
    let expected = sent.clone();
    let writer = tokio::spawn(async move {
        for chunk in sent.chunks(7001) {
            write.write_all(chunk).await.unwrap();
        }
        write.shutdown().await.unwrap();
    });
    let mut received = Vec::new();
    read.read_to_end(&mut received).await.unwrap();
    writer.await.unwrap();
    assert!(
        received == expected,
        "connection {number}: {} of {}",
        received.len(),
        expected.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_connections_echo_on_four_threads() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(echo(listener));
    let mut exchanges: JoinSet<()> = (0..200).map(|number| exchange(address, number)).collect();
    let all = async {
        while let Some(done) = exchanges.join_next().await {
            done.unwrap();
        }
    };
    timeout(PATIENCE, all).await.expect("nothing hangs");
}

#[test]
fn one_stack_serves_several_runtimes_at_once() {
    let home = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    let (stack, address) = home.block_on(async {
        let stack = Stack::builder().build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(echo(listener));
        (stack, address)
    });
    let guests: Vec<_> = (0..4)
        .map(|guest: u8| {
            let stack = stack.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_time()
                    .build()
                    .unwrap();
                stack.attach(runtime.handle());
                runtime.block_on(async {
                    for number in 0..20 {
                        timeout(PATIENCE, exchange(address, guest * 20 + number))
                            .await
                            .expect("nothing hangs");
                    }
                });
            })
        })
        .collect();
    for guest in guests {
        guest.join().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn datagrams_from_many_threads_all_arrive() {
    let receiver = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let address = receiver.local_addr().unwrap();
    // Each sender waits for its answer: never more under way than the queue holds.
    let answering = Arc::clone(&receiver);
    tokio::spawn(async move {
        let mut buffer = [0; 64];
        loop {
            let (len, from) = answering.recv_from(&mut buffer).await.unwrap();
            answering.send_to(&buffer[..len], from).await.unwrap();
        }
    });
    let mut senders: JoinSet<()> = (0..16_u32)
        .map(|sender| async move {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            socket.connect(address).await.unwrap();
            for number in 0..500_u32 {
                let sent = [sender.to_be_bytes(), number.to_be_bytes()].concat();
                socket.send(&sent).await.unwrap();
                let mut received = [0; 64];
                let len = socket.recv(&mut received).await.unwrap();
                assert_eq!(received[..len], sent);
            }
        })
        .collect();
    let all = async {
        while let Some(done) = senders.join_next().await {
            done.unwrap();
        }
    };
    timeout(PATIENCE, all).await.expect("nothing hangs");
}

#[test]
fn plain_threads_talk_over_one_stream() {
    let home = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let (client, server) = home.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        (client, listener.accept().await.unwrap().0)
    });
    const TOTAL: usize = 16 << 20;
    let writer = std::thread::spawn(move || {
        let mut client = client;
        futures::executor::block_on(async {
            let block = vec![9; 50_000];
            let mut left = TOTAL;
            while left > 0 {
                let n = left.min(block.len());
                client.write_all(&block[..n]).await.unwrap();
                left -= n;
            }
        });
    });
    let reader = std::thread::spawn(move || {
        let mut server = server;
        futures::executor::block_on(async {
            let mut buffer = vec![0; 1 << 16];
            let mut total = 0;
            loop {
                match server.read(&mut buffer).await.unwrap() {
                    0 => return total,
                    n => total += n,
                }
            }
        })
    });
    writer.join().unwrap();
    assert_eq!(reader.join().unwrap(), TOTAL);
}
