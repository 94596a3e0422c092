//! ping over Tidewire: ICMP and ICMPv6 echo through a device.

use std::io;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde::Serialize;
use tidewire::net::IcmpSocket;
use tidewire_examples::{Running, StackFlags, run};
use tokio::time::{Instant, sleep_until, timeout};

/// Sends ICMP echo requests and prints the replies
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    stack: StackFlags,
    /// Whom to ask
    destination: IpAddr,
    /// Requests to send
    #[arg(long, short, default_value_t = 4)]
    count: u16,
    /// Octets of data in each request
    #[arg(long, short, default_value_t = 56)]
    size: usize,
    /// Seconds between requests
    #[arg(long, short, default_value_t = 1.0)]
    interval: f64,
    /// Hop limit of the requests
    #[arg(long, short, default_value_t = 64)]
    ttl: u32,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event {
    Reply {
        source: IpAddr,
        sequence: u16,
        bytes: usize,
        ttl: u8,
        microseconds: u64,
    },
    Lost {
        sequence: u16,
        reason: String,
    },
    Summary {
        sent: u16,
        received: u16,
        min_us: u64,
        mean_us: u64,
        max_us: u64,
    },
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reply {
                source,
                sequence,
                bytes,
                ttl,
                microseconds,
            } => {
                write!(
                    f,
                    "{bytes} bytes from {source}: seq={sequence} ttl={ttl} time={:.3} ms",
                    *microseconds as f64 / 1e3
                )
            }
            Self::Lost { sequence, reason } => write!(f, "seq={sequence}: {reason}"),
            Self::Summary {
                sent,
                received,
                min_us,
                mean_us,
                max_us,
            } => {
                let [min, mean, max] = [min_us, mean_us, max_us].map(|us| *us as f64 / 1e3);
                write!(
                    f,
                    "{sent} sent, {received} received; min/mean/max {min:.3}/{mean:.3}/{max:.3} ms"
                )
            }
        }
    }
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    run(&flags.stack, async |running| {
        Ok(ping(&flags, &running).await?)
    })
}

async fn ping(flags: &Flags, running: &Running) -> io::Result<()> {
    let any: IpAddr = if flags.destination.is_ipv6() {
        [0u16; 8].into()
    } else {
        [0u8; 4].into()
    };
    let socket = IcmpSocket::bind(any).await?;
    socket.set_ttl(flags.ttl)?;
    let payload: Vec<u8> = (0..flags.size).map(|octet| octet as u8).collect();
    let mut times = Vec::new();
    let begun = Instant::now();
    for sequence in 0..flags.count {
        let due = begun + Duration::from_secs_f64(flags.interval.max(0.0)) * u32::from(sequence);
        sleep_until(due).await;
        let event = match ask(&socket, flags.destination, sequence, &payload).await {
            Ok((source, ttl, elapsed)) => {
                times.push(elapsed.as_micros() as u64);
                Event::Reply {
                    source,
                    sequence,
                    bytes: payload.len(),
                    ttl,
                    microseconds: elapsed.as_micros() as u64,
                }
            }
            Err(error) => Event::Lost {
                sequence,
                reason: error.to_string(),
            },
        };
        running.output.event(&event)?;
    }
    let received = times.len() as u16;
    running.output.event(&Event::Summary {
        sent: flags.count,
        received,
        min_us: times.iter().min().copied().unwrap_or(0),
        mean_us: times.iter().sum::<u64>() / u64::from(received.max(1)),
        max_us: times.iter().max().copied().unwrap_or(0),
    })?;
    if received == 0 {
        Err(io::Error::new(io::ErrorKind::TimedOut, "no reply"))
    } else {
        Ok(())
    }
}

/// One request and its reply; late replies to earlier requests are passed over.
async fn ask(
    socket: &IcmpSocket,
    destination: IpAddr,
    sequence: u16,
    payload: &[u8],
) -> io::Result<(IpAddr, u8, Duration)> {
    let sent = Instant::now();
    socket.send_to(payload, sequence, destination).await?;
    let mut buffer = vec![0; payload.len()];
    let reply = async {
        loop {
            let reply = socket.recv_from(&mut buffer).await?;
            if reply.sequence == sequence
                && buffer[..reply.len.min(payload.len())] == payload[..reply.len.min(payload.len())]
            {
                return io::Result::Ok((reply.source, reply.ttl));
            }
        }
    };
    let (source, ttl) = timeout(Duration::from_secs(1), reply)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no reply within 1 s"))??;
    Ok((source, ttl, sent.elapsed()))
}
