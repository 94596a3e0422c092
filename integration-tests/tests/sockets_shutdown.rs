//! What a stack's orderly end waits for, and what leaves at the end of its runtime.

use std::sync::mpsc;
use std::time::Duration;

use tidewire::Stack;
use tidewire_integration_tests::bodies::body;
use tidewire_netdev::memory::{ImpairmentConfig, PairConfig, impaired_pair, pair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;
use tokio::time::{Instant, timeout};

/// The peer reads everything and never closes: what was dropped is delivered, and nothing else is waited for.
#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_data_but_not_for_the_peers_close() {
    let delay = ImpairmentConfig::delay(Duration::from_millis(10));
    let (left, right) = impaired_pair(PairConfig::default(), delay.clone(), delay, 1);
    let near = Stack::builder().device(left).address("10.0.0.1/24").build();
    let far = Stack::builder()
        .device(right)
        .address("10.0.0.2/24")
        .build();
    let (near, far) = (near.expect("a stack"), far.expect("a stack"));
    let listener = far.tcp_listener("10.0.0.2:80").await.expect("bound");
    let (sender, receiver) = tokio::join!(near.tcp_stream("10.0.0.2:80"), listener.accept());
    let (mut sender, mut receiver) = (sender.expect("connected"), receiver.expect("accepted").0);

    let text = body(1, 128 << 10);
    sender.write_all(&text).await.expect("the buffer takes it");
    drop(sender);
    let started = Instant::now();
    let mut got = Vec::new();
    let (read, ()) = tokio::join!(receiver.read_to_end(&mut got), near.shutdown());
    read.expect("a whole body");
    assert!(got == text, "{} octets", got.len());
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
}

/// Datagrams that wait for a full device leave it before the stack ends.
#[tokio::test(start_paused = true)]
async fn shutdown_sends_what_waits_for_a_full_device() {
    let config = PairConfig {
        queue_packets: 1,
        ..PairConfig::default()
    };
    let (left, right) = pair(config);
    let near = Stack::builder().device(left).address("10.0.0.1/24").build();
    let far = Stack::builder()
        .device(right)
        .address("10.0.0.2/24")
        .build();
    let (near, far) = (near.expect("a stack"), far.expect("a stack"));
    let receiver = far.udp_socket("10.0.0.2:53").await.expect("bound");
    let sender = near.udp_socket("10.0.0.1:0").await.expect("bound");
    for number in 0..20u8 {
        sender
            .send_to(&[number], "10.0.0.2:53")
            .await
            .expect("queued");
    }
    drop(sender);
    near.shutdown().await;
    let mut buffer = [0; 8];
    for number in 0..20u8 {
        let received = timeout(Duration::from_secs(1), receiver.recv_from(&mut buffer)).await;
        let (len, _) = received.expect("in time").expect("a datagram");
        assert_eq!(buffer[..len], [number]);
    }
}

/// An answer to what has just come is left to the driver, which is awake: it leaves, its FIN behind it, though the runtime
/// ends before the driver's next turn.
#[test]
fn the_end_of_a_runtime_sends_what_was_left_to_the_driver() {
    // After each task's turn the one that `block_on` was given has its own, if it was woken.
    let runtime = || {
        Builder::new_current_thread()
            .enable_time()
            .event_interval(1)
            .build()
            .expect("a runtime")
    };
    let (left, right) = pair(PairConfig::default());
    let (listening, is_listening) = mpsc::channel();
    let server = std::thread::spawn(move || {
        let runtime = runtime();
        let outlives_it = runtime.block_on(async {
            let near = Stack::builder().device(left).address("10.0.0.1/24").build();
            let near = near.expect("a stack");
            let listener = near.tcp_listener("10.0.0.1:80").await.expect("bound");
            listening.send(()).expect("the client waits");
            let (mut stream, _) = listener.accept().await.expect("accepted");
            stream.read_exact(&mut [0; 7]).await.expect("a request");
            stream.write_all(b"the answer").await.expect("room");
            (near, listener)
        });
        drop(runtime);
        drop(outlives_it);
    });
    is_listening.recv().expect("the server listens");
    let answer = runtime().block_on(async {
        let far = Stack::builder()
            .device(right)
            .address("10.0.0.2/24")
            .build();
        let far = far.expect("a stack");
        let mut stream = far.tcp_stream("10.0.0.1:80").await.expect("connected");
        stream.write_all(b"request").await.expect("room");
        let mut answer = Vec::new();
        timeout(Duration::from_secs(20), stream.read_to_end(&mut answer))
            .await
            .expect("the server's FIN has come")
            .expect("no reset");
        answer
    });
    assert_eq!(answer, b"the answer");
    server.join().expect("the server ends");
}
