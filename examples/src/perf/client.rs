//! The client: throughput both ways, round trips, and whole connections one after the other.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{timeout, timeout_at};

use super::flags::{Load, Test};
use super::network::Network;
use super::report::{Connections, Cpu, Rate, RoundTrips, Stopwatch, Times, Transfer, per_second};
use super::{DISCARD_PORT, ECHO_PORT, RESPOND_PORT, SOURCE_PORT, traffic};

/// How long a server may take to read what was sent until then; longer means that it does not.
const DRAIN: Duration = Duration::from_secs(10);

/// Writes for a time, then ends the stream and waits for the server, which has read everything, to end its half.
///
/// # Errors
/// What the connections give, and `TimedOut` when the server does not end its half.
pub async fn up<N: Network>(network: &N, load: Load) -> io::Result<Transfer> {
    let payload = traffic::payload(load.size);
    let (streams, stopwatch) = begin(network, load, DISCARD_PORT).await?;
    let deadline = deadline(load);
    let (sent, elapsed, cpu) = together(streams, stopwatch, move |mut stream| {
        let payload = payload.clone();
        async move {
            let mut sent = 0;
            match timeout_at(deadline, send_all::<N>(&mut stream, &payload, &mut sent)).await {
                Ok(error) => return Err(error),
                Err(_) => stream.shutdown().await?,
            }
            match timeout(DRAIN, stream.read(&mut [0])).await? {
                Ok(0) => Ok(sent),
                Ok(_) => Err(io::Error::other("the discarding service has answered")),
                Err(error) => Err(error),
            }
        }
    })
    .await?;
    Ok(Transfer {
        test: Test::Up,
        streams: load.streams,
        rate: Rate::new(sent.iter().sum(), elapsed),
        cpu,
    })
}

/// Writes `payload` over and over, counting in `sent`; gives the error that ends it.
pub(super) async fn send_all<N: Network>(
    stream: &mut N::Stream,
    payload: &Bytes,
    sent: &mut u64,
) -> io::Error {
    let mut offset = 0;
    loop {
        match N::send(stream, payload, offset).await {
            Ok(n) => {
                *sent += n as u64;
                offset += n;
                if offset == payload.len() {
                    offset = 0;
                }
            }
            Err(error) => return error,
        }
    }
}

/// Reads for a time, then resets the connections.
///
/// # Errors
/// What the connections give, and `UnexpectedEof` when the server ends one.
pub async fn down<N: Network>(network: &N, load: Load) -> io::Result<Transfer> {
    let (streams, stopwatch) = begin(network, load, SOURCE_PORT).await?;
    let deadline = deadline(load);
    let (received, elapsed, cpu) = together(streams, stopwatch, move |mut stream| async move {
        let mut received = 0;
        let receive = async {
            loop {
                match N::receive(&mut stream, load.size).await {
                    Ok(0) => return io::Error::from(io::ErrorKind::UnexpectedEof),
                    Ok(n) => received += n as u64,
                    Err(error) => return error,
                }
            }
        };
        if let Ok(error) = timeout_at(deadline, receive).await {
            return Err(error);
        }
        N::reset_on_drop(&stream)?;
        Ok(received)
    })
    .await?;
    Ok(Transfer {
        test: Test::Down,
        streams: load.streams,
        rate: Rate::new(received.iter().sum(), elapsed),
        cpu,
    })
}

/// Sends a message and waits for its echo, again and again.
///
/// # Errors
/// What the connections give.
pub async fn ping<N: Network>(network: &N, load: Load) -> io::Result<RoundTrips> {
    let payload = traffic::payload(load.size);
    let left = Arc::new(AtomicU64::new(load.count));
    let (streams, stopwatch) = begin(network, load, ECHO_PORT).await?;
    let deadline = deadline(load);
    let (times, elapsed, cpu) = together(streams, stopwatch, move |mut stream| {
        let (payload, left) = (payload.clone(), left.clone());
        async move {
            let mut times: Vec<u32> = Vec::new();
            let mut reply = vec![0; payload.len()];
            let exchange = async {
                while take_one(&left) {
                    let sent = Instant::now();
                    stream.write_all(&payload).await?;
                    stream.read_exact(&mut reply).await?;
                    let elapsed = sent.elapsed().as_nanos();
                    times.push(u32::try_from(elapsed).unwrap_or(u32::MAX));
                }
                io::Result::Ok(())
            };
            if let Ok(result) = timeout_at(deadline, exchange).await {
                result?;
            }
            Ok(times)
        }
    })
    .await?;
    let times = times.concat();
    Ok(RoundTrips {
        test: Test::Ping,
        streams: load.streams,
        size: load.size,
        count: times.len(),
        seconds: elapsed.as_secs_f64(),
        times: Times::new(times),
        cpu,
    })
}

/// Connects, sends an octet, waits for one, closes; again and again.
///
/// # Errors
/// What the connections give.
pub async fn crr<N: Network>(network: &N, load: Load) -> io::Result<Connections> {
    let left = Arc::new(AtomicU64::new(load.count));
    let server = SocketAddr::new(load.server, RESPOND_PORT);
    let stopwatch = Stopwatch::start()?;
    let deadline = deadline(load);
    let workers = vec![network.clone(); load.streams];
    let (counts, elapsed, cpu) = together(workers, stopwatch, move |network| {
        let left = left.clone();
        async move {
            let mut count = 0;
            let connections = async {
                while take_one(&left) {
                    let mut stream = network.connect(server).await?;
                    stream.write_all(b"?").await?;
                    stream.read_exact(&mut [0]).await?;
                    count += 1;
                }
                io::Result::Ok(())
            };
            if let Ok(result) = timeout_at(deadline, connections).await {
                result?;
            }
            Ok(count)
        }
    })
    .await?;
    let count = counts.iter().sum();
    Ok(Connections {
        test: Test::Crr,
        streams: load.streams,
        count,
        seconds: elapsed.as_secs_f64(),
        connections_per_second: per_second(count, elapsed),
        cpu,
    })
}

fn deadline(load: Load) -> tokio::time::Instant {
    tokio::time::Instant::now() + load.duration
}

/// Takes one of what is left to do, if any.
fn take_one(left: &AtomicU64) -> bool {
    let take = |left: u64| left.checked_sub(1);
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
        .is_ok()
}

/// Opens the connections, and only then begins to measure.
async fn begin<N: Network>(
    network: &N,
    load: Load,
    port: u16,
) -> io::Result<(Vec<N::Stream>, Stopwatch)> {
    let server = SocketAddr::new(load.server, port);
    let mut streams = Vec::with_capacity(load.streams);
    for _ in 0..load.streams {
        let stream = network.connect(server).await.map_err(|error| {
            let text =
                format!("cannot connect to {server}: {error}; is `perf serve` running there?");
            io::Error::new(error.kind(), text)
        })?;
        streams.push(stream);
    }
    Ok((streams, Stopwatch::start()?))
}

/// Runs `work` on each subject at the same time, a task each; the first error ends all.
async fn together<S, T, F, W>(
    subjects: Vec<S>,
    stopwatch: Stopwatch,
    work: F,
) -> io::Result<(Vec<T>, Duration, Cpu)>
where
    F: Fn(S) -> W,
    W: Future<Output = io::Result<T>> + Send + 'static,
    T: Send + 'static,
{
    let mut tasks: JoinSet<_> = subjects.into_iter().map(work).collect();
    let mut results = Vec::with_capacity(tasks.len());
    while let Some(result) = tasks.join_next().await {
        results.push(result??);
    }
    let (elapsed, cpu) = stopwatch.read()?;
    Ok((results, elapsed, cpu))
}
