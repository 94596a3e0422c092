//! Stacks that receive what they are sent in segments joined by software.

use std::io;
use std::time::Duration;

use tidewire::Stack;
use tidewire_netdev::memory::{ImpairmentConfig, PairConfig, impaired_pair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

/// How long a transfer there and back takes over a path that does everything to packets that a path can.
async fn transfer(coalesce: bool, server: &str, seed: u64) -> io::Result<Duration> {
    let config = PairConfig {
        coalesce,
        ..PairConfig::default()
    };
    let path = ImpairmentConfig {
        corrupt: 0.01,
        duplicate: 0.01,
        ..ImpairmentConfig::delay(Duration::from_millis(10))
            .with_loss(0.01)
            .with_reorder(0.02, Duration::from_millis(3))
    };
    let (a, b) = impaired_pair(config, path.clone(), path, seed);
    let host = |device, number: u64| {
        Stack::builder()
            .device(device)
            .address(format!("10.6.0.{number}/24").as_str())
            .address(format!("fd00:6::{number}/64").as_str())
            .seed(number)
            .unregistered()
            .build()
    };
    let (alice, bob) = (host(a, 1)?, host(b, 2)?);
    let listener = bob.tcp_listener(server).await?;
    let echo = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        let (mut reader, mut writer) = stream.split();
        tokio::io::copy(&mut reader, &mut writer).await?;
        writer.shutdown().await
    });
    let begun = Instant::now();
    let (mut reader, mut writer) = alice.tcp_stream(server).await?.into_split();
    let data: Vec<u8> = (0..1_000_000)
        .map(|n: usize| (n * 31 + n / 251) as u8)
        .collect();
    let mut answer = Vec::new();
    let write = async {
        writer.write_all(&data).await?;
        writer.shutdown().await
    };
    tokio::try_join!(write, reader.read_to_end(&mut answer))?;
    assert!(answer == data, "the echo of {server} differs");
    echo.await.expect("no panic")?;
    Ok(begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_transfer_through_loss_and_corruption_does_not_suffer_from_coalescing() {
    for server in ["10.6.0.2:80", "[fd00:6::2]:80"] {
        // The two draw different lots once their timing differs, and one lot is a matter of luck: many count.
        let (mut plain, mut joined) = (Duration::ZERO, Duration::ZERO);
        for seed in 1..=12 {
            plain += transfer(false, server, seed).await.expect("a transfer");
            joined += transfer(true, server, seed).await.expect("a transfer");
        }
        println!("{server}: {plain:?}, joined {joined:?}");
        assert!(joined < plain * 3 / 2, "{plain:?}, joined {joined:?}");
        let once = transfer(true, server, 3).await.expect("a transfer");
        assert_eq!(once, transfer(true, server, 3).await.expect("a transfer"));
    }
}
