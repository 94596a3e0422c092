//! traceroute over Tidewire: who takes packets to a host, hop by hop, by UDP, ICMP or TCP.
//!
//! Each probe has a TTL that runs out on the way, and its place in what it says of itself: UDP's destination port, ICMP's
//! sequence number, TCP's source port. The router where it ends quotes that in an ICMP error.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::future::{pending, ready};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::process::ExitCode;
use std::task::Poll;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde::Serialize;
use tidewire::Stack;
use tidewire::error::SocketError;
use tidewire::net::{IcmpErrors, IcmpReport, IcmpSocket, UdpSocket};
use tidewire::transport::IcmpError;
use tidewire::wire::protocol;
use tidewire_examples::{Running, StackFlags, run};
use tokio::time::{Instant, sleep_until};

/// Shows the routers on the way to a host; ends with 1 when it is not reached
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    stack: StackFlags,
    /// Whom to reach
    destination: IpAddr,
    /// What to send
    #[arg(long, value_enum, default_value_t = Method::Udp)]
    method: Method,
    /// The same as --method icmp
    #[arg(short = 'I', long, conflicts_with = "tcp")]
    icmp: bool,
    /// The same as --method tcp
    #[arg(short = 'T', long)]
    tcp: bool,
    /// Port: the first one for UDP, which counts up [default: 33434, or 80 for TCP]
    #[arg(long, short)]
    port: Option<u16>,
    /// The TTL to begin with
    #[arg(long, short, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    first: u8,
    /// The highest TTL
    #[arg(long, short, default_value_t = 30, value_parser = clap::value_parser!(u8).range(1..))]
    max_hops: u8,
    /// Probes with each TTL
    #[arg(long, short, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=10))]
    queries: u8,
    /// Seconds to wait for the answers of a hop
    #[arg(long, short, default_value_t = 3.0, value_parser = seconds)]
    wait: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(wait) if (0.0..=3600.0).contains(&wait) => Ok(wait),
        _ => Err("0 to 3600 seconds".to_owned()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Method {
    /// Datagrams to ports that nobody is likely to have
    Udp,
    /// Echo requests, as ping's
    Icmp,
    /// Attempts to connect
    Tcp,
}

/// What one probe brought.
#[derive(Clone, Debug, Serialize)]
struct Answer {
    from: IpAddr,
    microseconds: u64,
    /// `!H` and the like, as the usual programs have them.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    /// No router on the way: the host itself, or one that lets nothing through.
    #[serde(skip)]
    is_end: bool,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event {
    Hop {
        ttl: u8,
        /// One of each probe; null for those that nobody answered.
        answers: Vec<Option<Answer>>,
    },
    Summary {
        destination: IpAddr,
        hops: u8,
        reached: bool,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hop { ttl, answers } => {
                write!(f, "{ttl:2} ")?;
                let mut last = None;
                for answer in answers {
                    let Some(answer) = answer else {
                        f.write_str(" *")?;
                        continue;
                    };
                    if last.replace(answer.from) != Some(answer.from) {
                        write!(f, " {}", answer.from)?;
                    }
                    write!(f, "  {:.3} ms", answer.microseconds as f64 / 1e3)?;
                    if let Some(note) = &answer.note {
                        write!(f, " {note}")?;
                    }
                }
                Ok(())
            }
            Self::Summary {
                destination,
                hops,
                reached: true,
            } => write!(f, "{destination} reached: {hops} hops"),
            Self::Summary {
                destination, hops, ..
            } => write!(f, "{destination} not reached within {hops} hops"),
        }
    }
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    run(&flags.stack, async |running| {
        Ok(trace(&flags, &running).await?)
    })
}

async fn trace(flags: &Flags, running: &Running) -> io::Result<()> {
    let method = match (flags.icmp, flags.tcp) {
        (true, _) => Method::Icmp,
        (_, true) => Method::Tcp,
        _ => flags.method,
    };
    let default_port = if method == Method::Udp { 33434 } else { 80 };
    let port = flags.port.unwrap_or(default_port);
    let destination = SocketAddr::new(flags.destination, port);
    let mut tracer = Tracer::new(&running.stack, method, destination).await?;
    let (mut hops, mut reached) = (0, false);
    for ttl in flags.first..=flags.max_hops.max(flags.first) {
        let wait = Duration::from_secs_f64(flags.wait);
        let answers = tracer.probe_hop(ttl, flags.queries, wait).await?;
        hops = ttl;
        let is_end = answers.iter().flatten().any(|answer| answer.is_end);
        reached = answers
            .iter()
            .flatten()
            .any(|answer| answer.is_end && answer.from == flags.destination);
        running.output.event(&Event::Hop { ttl, answers })?;
        if is_end {
            break;
        }
    }
    running.output.event(&Event::Summary {
        destination: flags.destination,
        hops,
        reached,
    })?;
    match reached {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::TimedOut, "not reached")),
    }
}

/// What tells one probe from another, as an ICMP error quotes it: UDP's destination port, ICMP's sequence number, TCP's
/// source port.
type Mark = u16;

/// An attempt to connect, with its mark.
type Attempt = Pin<Box<dyn Future<Output = (Mark, io::Result<tidewire::net::TcpStream>)>>>;

/// Sends probes and hears what comes back.
struct Tracer {
    stack: Stack,
    destination: SocketAddr,
    errors: IcmpErrors,
    probes: Probes,
    next: u16,
}

enum Probes {
    Udp(UdpSocket),
    Icmp(IcmpSocket),
    Tcp(FuturesUnordered<Attempt>),
}

impl Tracer {
    async fn new(stack: &Stack, method: Method, destination: SocketAddr) -> io::Result<Self> {
        let any = unspecified(destination.ip());
        let probes = match method {
            Method::Udp => Probes::Udp(stack.udp_socket((any, 0)).await?),
            Method::Icmp => Probes::Icmp(stack.icmp_socket(any).await?),
            Method::Tcp => Probes::Tcp(FuturesUnordered::new()),
        };
        Ok(Self {
            stack: stack.clone(),
            destination,
            errors: stack.icmp_errors()?,
            probes,
            next: 0,
        })
    }

    /// Sends probes of one TTL, and waits until all are answered or the time is over.
    async fn probe_hop(
        &mut self,
        ttl: u8,
        count: u8,
        wait: Duration,
    ) -> io::Result<Vec<Option<Answer>>> {
        let mut answers = vec![None; count.into()];
        let mut sent = HashMap::new();
        if let Probes::Tcp(attempts) = &mut self.probes {
            // Those of the last hop would go on trying.
            attempts.clear();
        }
        for place in 0..usize::from(count) {
            let (mark, at) = self.send(ttl).await?;
            sent.insert(mark, (place, at));
        }
        let deadline = Instant::now() + wait;
        while !sent.is_empty() {
            let heard = tokio::select! {
                report = self.errors.recv() => self.probes.about(self.destination.ip(), &report?),
                mark = self.probes.reply(self.destination.ip()) => Some((mark?, self.destination.ip(), None, true)),
                () = sleep_until(deadline) => break,
            };
            let Some((mark, from, note, is_end)) = heard else {
                continue;
            };
            if let Some((place, at)) = sent.remove(&mark) {
                answers[place] = Some(Answer {
                    from,
                    microseconds: at.elapsed().as_micros() as u64,
                    note,
                    is_end,
                });
            }
        }
        Ok(answers)
    }

    /// Sends the next probe; gives its mark.
    async fn send(&mut self, ttl: u8) -> io::Result<(Mark, Instant)> {
        let number = self.next;
        self.next = number.wrapping_add(1);
        let at = Instant::now();
        let mark = match &mut self.probes {
            Probes::Udp(socket) => {
                match self.destination {
                    SocketAddr::V4(_) => socket.set_ttl(ttl.into())?,
                    SocketAddr::V6(_) => socket.set_unicast_hops_v6(ttl.into())?,
                }
                let port = self.destination.port().wrapping_add(number).max(1);
                let to = SocketAddr::new(self.destination.ip(), port);
                socket.send_to(&PAYLOAD, to).await?;
                port
            }
            Probes::Icmp(socket) => {
                socket.set_ttl(ttl.into())?;
                let to = self.destination.ip();
                // What was said of an earlier probe is told here, too, and nothing is sent then.
                if socket.send_to(&PAYLOAD, number, to).await.is_err() {
                    socket.send_to(&PAYLOAD, number, to).await?;
                }
                number
            }
            Probes::Tcp(attempts) => {
                let socket = match self.destination.ip() {
                    IpAddr::V4(_) => self.stack.tcp_socket_v4()?,
                    IpAddr::V6(_) => self.stack.tcp_socket_v6()?,
                };
                socket.set_ttl(ttl.into())?;
                socket.bind(SocketAddr::new(unspecified(self.destination.ip()), 0))?;
                let mark = socket.local_addr()?.port();
                let mut connected = Box::pin(socket.connect(self.destination));
                // It begins with the first poll.
                match futures::poll!(&mut connected) {
                    Poll::Ready(result) => attempts.push(Box::pin(ready((mark, result)))),
                    Poll::Pending => {
                        attempts.push(Box::pin(async move { (mark, connected.await) }));
                    }
                }
                mark
            }
        };
        Ok((mark, at))
    }
}

impl Probes {
    /// Waits for an answer of the host itself to a probe.
    async fn reply(&mut self, host: IpAddr) -> io::Result<Mark> {
        match self {
            Self::Udp(socket) => loop {
                // Somebody has the port after all.
                let (_, from) = socket.recv_from(&mut [0; 64]).await?;
                if from.ip() == host {
                    return Ok(from.port());
                }
            },
            Self::Icmp(socket) => loop {
                match socket.recv_from(&mut [0; 64]).await {
                    Ok(reply) if reply.source == host => return Ok(reply.sequence),
                    // A report says more of it.
                    Ok(_) | Err(_) => {}
                }
            },
            Self::Tcp(attempts) => {
                while let Some((mark, connected)) = attempts.next().await {
                    match connected {
                        Ok(_) => return Ok(mark),
                        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                            return Ok(mark);
                        }
                        // Lost on the way, of which a report says more, if there is one.
                        Err(_) => {}
                    }
                }
                pending().await
            }
        }
    }

    /// The probe that a report is about, who reports, what is to be remarked, and whether it went no further for another
    /// reason than its TTL; `None` for what is about other packets.
    fn about(
        &self,
        host: IpAddr,
        report: &IcmpReport,
    ) -> Option<(Mark, IpAddr, Option<String>, bool)> {
        let about = &report.about;
        let (source, destination) = about.ports();
        let mark = match self {
            Self::Udp(socket) => {
                let local = socket.local_addr().ok()?.port();
                let is_ours = about.protocol == protocol::UDP && source == local;
                is_ours.then_some(destination)
            }
            Self::Icmp(socket) => {
                let (identifier, sequence) = (about.second_word() >> 16, about.second_word());
                let is_ours = matches!(about.protocol, protocol::ICMPV4 | protocol::ICMPV6)
                    && identifier == u32::from(socket.identifier());
                is_ours.then_some(sequence as u16)
            }
            Self::Tcp(_) => (about.protocol == protocol::TCP).then_some(source),
        };
        let mark = mark.filter(|_| about.destination == host)?;
        let is_end = !report.is_time_exceeded();
        Some((mark, report.reporter, remark(report), is_end))
    }
}

/// What the usual programs print behind the time of an answer that is no "time exceeded".
fn remark(report: &IcmpReport) -> Option<String> {
    if report.is_time_exceeded() || report.is_port_unreachable() {
        return None;
    }
    let mut text = String::from("!");
    match report.about.error {
        IcmpError::PacketTooBig { mtu } => write!(text, "F-{mtu}"),
        IcmpError::Unreachable(SocketError::HostUnreachable) => write!(text, "H"),
        IcmpError::Unreachable(SocketError::NetworkUnreachable) => write!(text, "N"),
        IcmpError::Refused(SocketError::ProtocolUnreachable) => write!(text, "P"),
        IcmpError::Refused(SocketError::HostUnreachable | SocketError::PermissionDenied) => {
            write!(text, "X")
        }
        _ => write!(text, "<{}-{}>", report.kind, report.code),
    }
    .ok()?;
    Some(text)
}

const fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    }
}

/// What a probe carries, as long as with the usual programs.
const PAYLOAD: [u8; 32] = *b"@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_";
