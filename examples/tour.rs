//! Two hosts of ours on an impaired in-memory link: ping, a UDP request and its response, messages on several streams by
//! SCTP, a file by TCP. Then two hosts on two networks of which one is cut for a while, and an SCTP association over both.
//!
//! Needs no root and no device. The runtime's clock is paused, so the link's delays pass as fast as the machine can
//! compute them; `--real-time` lets them pass as they are.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sha2::{Digest, Sha256};
use tidewire::Stack;
use tidewire::net::sctp::{InitMessage, SctpAssociation, SctpListener, SendOptions};
use tidewire::tcp::Info;
use tidewire_examples::two_networks::{self, FailOver};
use tidewire_netdev::memory::impairment::{ImpairmentConfig, Loss, Reorder};
use tidewire_netdev::memory::{ImpairmentMonitor, PairConfig, impaired_pair_with_monitors};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Two hosts on an impaired in-memory link: ping, UDP, messages by SCTP, a file by TCP
#[derive(Parser, Clone)]
struct Flags {
    /// Delay of the link in each direction, in milliseconds
    #[arg(long, default_value_t = 30.0)]
    delay: f64,
    /// Packets lost in each direction, in percent
    #[arg(long, default_value_t = 1.0)]
    loss: f64,
    /// Packets that fall behind later ones, in percent
    #[arg(long, default_value_t = 0.0)]
    reorder: f64,
    /// Rate of the link in Mbit/s
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Size of the file in MiB
    #[arg(long, default_value_t = 8)]
    size: usize,
    /// Seeds the link and both hosts: the same seed gives the same packets
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Use IPv6
    #[arg(long)]
    ipv6: bool,
    /// Let time pass as it does instead of as fast as the machine can
    #[arg(long)]
    real_time: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    tidewire_examples::logging::init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(!flags.real_time)
        .build();
    let result = runtime.and_then(|runtime| runtime.block_on(tour(&flags)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tour: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the tour found out.
struct Report {
    pings: Vec<Duration>,
    udp_round_trip: Duration,
    messages: Messages,
    fail_over: FailOver,
    bytes: usize,
    elapsed: Duration,
    info: Info,
    lost: u64,
}

/// What became of the messages.
struct Messages {
    elapsed: Duration,
    /// Those that arrived before one sent earlier on another stream.
    overtaking: u32,
    retransmits: u64,
}

async fn tour(flags: &Flags) -> io::Result<()> {
    let wall = Instant::now();
    let link = ImpairmentConfig {
        loss: Loss::Uniform(flags.loss / 100.0),
        reorder: Reorder {
            probability: flags.reorder / 100.0,
            extra_delay: Duration::from_millis(5),
        },
        rate_bits_per_second: Some((flags.rate * 1e6) as u64),
        ..ImpairmentConfig::delay(Duration::from_secs_f64(flags.delay / 1e3))
    };
    let (a, b, monitors) =
        impaired_pair_with_monitors(PairConfig::default(), link.clone(), link, flags.seed);
    let host = |device, v4: &str, v6: &str, seed| {
        Stack::builder()
            .device(device)
            .address(v4)
            .address(v6)
            .seed(seed)
            .unregistered()
            .build()
    };
    let alice = host(a, "10.7.0.1/24", "fd00:7::1/64", flags.seed.wrapping_mul(2))?;
    let bob = host(
        b,
        "10.7.0.2/24",
        "fd00:7::2/64",
        flags.seed.wrapping_mul(2) + 1,
    )?;
    let address: IpAddr = if flags.ipv6 {
        [0xfd00, 7, 0, 0, 0, 0, 0, 2].into()
    } else {
        [10, 7, 0, 2].into()
    };

    let server = tokio::spawn(serve(bob, address));
    let pings = ping(&alice, address, 5, flags.json).await?;
    let udp_round_trip = ask(&alice, SocketAddr::new(address, 7)).await?;
    say(
        flags,
        &format!("udp   echoed by {address}:7 in {udp_round_trip:.1?}"),
    );
    let messages = send_messages(&alice, SocketAddr::new(address, 9)).await?;
    say(
        flags,
        &format!(
            "sctp  {MESSAGES} messages on {STREAMS} streams in {:.1?}, {} chunks retransmitted; {} overtook another stream's",
            messages.elapsed, messages.retransmits, messages.overtaking
        ),
    );
    let fail_over = two_networks::cut_one(flags.seed).await?;
    say(flags, &fail_over.to_string());
    let file = file(flags.size << 20);
    let (elapsed, info) = send_file(&alice, SocketAddr::new(address, 80), &file, flags).await?;
    alice.shutdown().await;
    server.await.map_err(io::Error::other)??;

    let lost = monitors
        .iter()
        .map(|monitor: &ImpairmentMonitor| monitor.stats())
        // What its queue had no room for is lost, too.
        .map(|stats| stats.lost + stats.queue_full)
        .sum();
    let report = Report {
        pings,
        udp_round_trip,
        messages,
        fail_over,
        bytes: file.len(),
        elapsed,
        info,
        lost,
    };
    finish(flags, &report, wall.elapsed())
}

/// Bob: echoes one datagram, takes one association's messages, and one file, which he answers with its hash.
async fn serve(stack: Stack, address: IpAddr) -> io::Result<()> {
    let listener = stack.tcp_listener(SocketAddr::new(address, 80)).await?;
    let udp = stack.udp_socket(SocketAddr::new(address, 7)).await?;
    let sctp = stack.sctp_listener(SocketAddr::new(address, 9)).await?;
    let echo = async {
        let mut buffer = [0; 1500];
        while let Ok((len, peer)) = udp.recv_from(&mut buffer).await {
            if udp.send_to(&buffer[..len], peer).await.is_err() {
                break;
            }
        }
    };
    let take = async {
        take_messages(&sctp).await?;
        let (mut stream, _) = listener.accept().await?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match stream.read(&mut buffer).await? {
                0 => break,
                len => hash.update(&buffer[..len]),
            }
        }
        stream.write_all(&hash.finalize()).await?;
        stream.shutdown().await
    };
    tokio::select! {
        biased;
        taken = take => taken?,
        () = echo => return Err(io::Error::other("the UDP echo ended")),
    }
    drop((listener, udp, sctp));
    stack.shutdown().await;
    Ok(())
}

async fn ping(stack: &Stack, address: IpAddr, count: u16, json: bool) -> io::Result<Vec<Duration>> {
    let any: IpAddr = if address.is_ipv6() {
        [0u16; 8].into()
    } else {
        [0u8; 4].into()
    };
    let socket = stack.icmp_socket(any).await?;
    let mut round_trips = Vec::new();
    let mut buffer = [0; 64];
    for sequence in 0..count {
        let sent = tokio::time::Instant::now();
        socket.send_to(b"tidewire", sequence, address).await?;
        let answer = tokio::time::timeout(Duration::from_secs(1), socket.recv_from(&mut buffer))
            .await
            .ok();
        match answer.transpose()? {
            Some(reply) if reply.sequence == sequence => {
                round_trips.push(sent.elapsed());
                if !json {
                    println!("ping  {address} seq {sequence} time {:.1?}", sent.elapsed());
                }
            }
            _ if !json => println!("ping  {address} seq {sequence} lost"),
            _ => {}
        }
    }
    Ok(round_trips)
}

/// A request by UDP, asked again when the network loses it or its answer.
async fn ask(stack: &Stack, server: SocketAddr) -> io::Result<Duration> {
    let any: IpAddr = if server.is_ipv6() {
        [0u16; 8].into()
    } else {
        [0u8; 4].into()
    };
    let socket = stack.udp_socket(SocketAddr::new(any, 0)).await?;
    socket.connect(server).await?;
    let mut buffer = [0; 64];
    for _ in 0..10 {
        let sent = tokio::time::Instant::now();
        socket.send(b"what time is it?").await?;
        let answer =
            tokio::time::timeout(Duration::from_millis(500), socket.recv(&mut buffer)).await;
        if let Ok(answer) = answer {
            return (&buffer[..answer?] == b"what time is it?")
                .then(|| sent.elapsed())
                .ok_or_else(|| io::Error::other("the UDP answer is not what was asked"));
        }
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        "ten UDP requests had no answer",
    ))
}

/// Messages that go by SCTP, the streams they are spread over, and their size in octets.
const MESSAGES: u32 = 300;
const STREAMS: u16 = 5;
const MESSAGE_LEN: usize = 2000;

/// The `number`th message: its number, and filling.
fn message(number: u32) -> Bytes {
    let mut message = BytesMut::with_capacity(MESSAGE_LEN);
    message.extend_from_slice(&number.to_be_bytes());
    message.resize(MESSAGE_LEN, number as u8);
    message.freeze()
}

/// Sends messages in turn on several streams; what the receiver says of them, and what the association does.
async fn send_messages(stack: &Stack, server: SocketAddr) -> io::Result<Messages> {
    let begun = tokio::time::Instant::now();
    let init = InitMessage {
        outbound_streams: Some(STREAMS),
        ..InitMessage::default()
    };
    let association = stack.sctp_builder().init(init).connect(server).await?;
    for number in 0..MESSAGES {
        let options = SendOptions {
            stream: (number % u32::from(STREAMS)) as u16,
            ..SendOptions::default()
        };
        association.send(message(number), options).await?;
    }
    let answer = association.recv().await?;
    let elapsed = begun.elapsed();
    let answer = answer.and_then(|answer| answer.data[..].try_into().ok());
    let overtaking = answer.ok_or_else(|| io::Error::other("no account of the messages"))?;
    let retransmits = association.stats().send.chunks_retransmitted;
    association.shutdown().await?;
    Ok(Messages {
        elapsed,
        overtaking: u32::from_be_bytes(overtaking),
        retransmits,
    })
}

/// Takes the messages, each stream's in order, and says how many came before one sent earlier.
async fn take_messages(listener: &SctpListener) -> io::Result<()> {
    let (association, _) = listener.accept().await?;
    let mut next: Vec<u32> = (0..u32::from(STREAMS)).collect();
    let mut overtaking = 0_u32;
    for _ in 0..MESSAGES {
        let received = association.recv().await?;
        let received = received.ok_or_else(|| io::Error::other("messages are missing"))?;
        let stream = usize::from(received.stream);
        let number = next[stream];
        if received.data != message(number) {
            return Err(io::Error::other(format!(
                "message {number} is damaged or out of order"
            )));
        }
        overtaking += u32::from(next.iter().any(|other| *other < number));
        next[stream] += u32::from(STREAMS);
    }
    answer(&association, overtaking).await?;
    association.closed().await
}

async fn answer(association: &SctpAssociation, overtaking: u32) -> io::Result<()> {
    let account = overtaking.to_be_bytes().to_vec();
    association.send(account, SendOptions::default()).await
}

/// Sends the file and compares hashes; the time until Bob's answer, and what the connection says of itself.
async fn send_file(
    stack: &Stack,
    server: SocketAddr,
    file: &[u8],
    flags: &Flags,
) -> io::Result<(Duration, Info)> {
    let bar = ProgressBar::with_draw_target(Some(file.len() as u64), ProgressDrawTarget::stderr());
    if flags.json {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar.set_style(
        ProgressStyle::with_template("tcp   {bar:40} {bytes}/{total_bytes} {msg}")
            .map_err(io::Error::other)?,
    );
    let begun = tokio::time::Instant::now();
    let mut stream = stack.tcp_stream(server).await?;
    for chunk in file.chunks(1 << 16) {
        stream.write_all(chunk).await?;
        bar.inc(chunk.len() as u64);
        let info = stream.info();
        bar.set_message(format!(
            "rtt {:.1?}, cwnd {} KiB",
            info.rtt,
            info.cwnd >> 10
        ));
    }
    stream.shutdown().await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    bar.finish();
    let elapsed = begun.elapsed();
    if answer != Sha256::digest(file).as_slice() {
        return Err(io::Error::other("the file arrived damaged: hashes differ"));
    }
    Ok((elapsed, stream.info()))
}

/// Octets that do not repeat.
fn file(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes()
    });
    words.flatten().take(len).collect()
}

fn say(flags: &Flags, line: &str) {
    if !flags.json {
        println!("{line}");
    }
}

fn finish(flags: &Flags, report: &Report, wall: Duration) -> io::Result<()> {
    let Report {
        pings,
        udp_round_trip,
        messages,
        fail_over,
        bytes,
        elapsed,
        info,
        lost,
    } = report;
    let goodput = *bytes as f64 / elapsed.as_secs_f64();
    if flags.json {
        let object = serde_json::json!({
            "bytes": bytes, "seconds": elapsed.as_secs_f64(), "bytes_per_second": goodput,
            "pings_answered": pings.len(), "udp_round_trip_us": udp_round_trip.as_micros(),
            "sctp_messages": MESSAGES, "sctp_us": messages.elapsed.as_micros(),
            "sctp_retransmits": messages.retransmits, "sctp_overtaking": messages.overtaking,
            "failover_us": fail_over.pause.as_micros(), "failover_retransmits": fail_over.retransmits,
            "packets_lost": lost, "retransmits": info.retransmits, "timeouts": info.timeouts,
            "recoveries": info.recoveries, "rtt_us": info.rtt.as_micros(), "cwnd": info.cwnd,
            "wall_seconds": wall.as_secs_f64(),
        });
        println!("{object}");
    } else {
        let clock = if flags.real_time { "real" } else { "virtual" };
        println!(
            "tcp   goodput {:.2} MB/s, rtt {:.1?} (±{:.1?}), cwnd {} KiB, {} recoveries, {} timeouts; {:.2} s of {clock} time in {:.2} s",
            goodput / 1e6,
            info.rtt,
            info.rtt_variation,
            info.cwnd >> 10,
            info.recoveries,
            info.timeouts,
            elapsed.as_secs_f64(),
            wall.as_secs_f64(),
        );
        println!(
            "transferred {bytes} bytes intact; the link lost {lost} packets; TCP retransmitted {} segments and recovered all",
            info.retransmits,
        );
    }
    io::stdout().flush()?;
    // A ping may be lost on such a link, but not all of them, and a lossy link must have made TCP work.
    if pings.is_empty() {
        return Err(io::Error::other("no ping was answered"));
    }
    if *lost == 0 && flags.reorder == 0.0 && info.timeouts > 0 {
        return Err(io::Error::other("timeouts on a link that loses nothing"));
    }
    Ok(())
}
