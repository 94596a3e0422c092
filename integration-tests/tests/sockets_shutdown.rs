//! What a stack's orderly end waits for.

use std::time::Duration;

use tidewire::Stack;
use tidewire_integration_tests::bodies::body;
use tidewire_netdev::memory::{ImpairmentConfig, PairConfig, impaired_pair, pair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
