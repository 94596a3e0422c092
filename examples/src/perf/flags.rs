//! The command line of `perf`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;
use tidewire::Stack;

use super::network::{Kernel, OwnStack};
use super::traffic::BLOCK;
use crate::StackFlags;

/// Measures throughput, round trips and connection set-up of Tidewire, or of the kernel in its place
#[derive(Parser, Debug)]
pub struct Flags {
    /// What to run.
    #[command(subcommand)]
    pub command: Command,
}

/// What to run.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Serve TCP, or SCTP, 5001 (discard), 5002 (write), 5003 (echo), 5004 (answer one octet), 5005 (hold)
    Serve(Serve),
    /// Measure against such a server
    Client(Client),
    /// Measure both ends on one thread over an in-memory link; no device
    Memory(Memory),
}

/// `perf serve`.
#[derive(Args, Debug)]
pub struct Serve {
    /// The device and the stack.
    #[command(flatten)]
    pub stack: StackFlags,
    /// Which stack.
    #[command(flatten)]
    pub choice: Choice,
    /// With --kernel: address to bind
    #[arg(long, value_name = "IP", requires = "kernel", default_value_t = Ipv4Addr::UNSPECIFIED.into())]
    pub bind: IpAddr,
}

/// Which stack, and by which of its calls.
#[derive(Args, Clone, Debug, Default)]
pub struct Choice {
    /// Run over the kernel's sockets (tokio::net) instead of a stack of ours; no device then
    #[arg(long, conflicts_with = "device")]
    pub kernel: bool,
    /// Congestion control: cubic, reno, bbr [default: cubic; with --kernel the system's, often bbr]
    #[arg(long, value_name = "NAME", conflicts_with = "sctp")]
    pub congestion: Option<String>,
    /// Spare the copy between the application's buffer and the stack's (read_chunk, write_bytes)
    #[arg(long, conflicts_with = "kernel")]
    pub zero_copy: bool,
    /// SCTP instead of TCP: each write is a message
    #[arg(long, conflicts_with_all = ["kernel", "zero_copy"])]
    pub sctp: bool,
}

/// What a client measures.
#[derive(ValueEnum, Serialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Test {
    /// Throughput towards the server
    Up,
    /// Throughput from the server
    Down,
    /// Round trips of one message at a time
    Ping,
    /// Connect, request, response, close
    Crr,
}

/// `perf client`.
#[derive(Args, Debug)]
pub struct Client {
    /// What to measure
    #[arg(value_enum)]
    pub test: Test,
    /// The device and the stack.
    #[command(flatten)]
    pub stack: StackFlags,
    /// Which stack.
    #[command(flatten)]
    pub choice: Choice,
    /// Address of the server; with --sctp several, the primary one first
    #[arg(long, value_name = "IP", value_delimiter = ',', required = true)]
    pub connect: Vec<IpAddr>,
    /// How long to measure [default: 5, or until --count]
    #[arg(long, value_name = "N", value_parser = seconds)]
    pub seconds: Option<Duration>,
    /// Connections at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub streams: u16,
    /// Octets of a write or read (up, down: 65536) or of a message (ping: 64)
    #[arg(long, value_name = "N", value_parser = size)]
    pub size: Option<usize>,
    /// ping, crr: round trips or connections, of all streams together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

impl Choice {
    /// The kernel's network as the flags want it.
    pub fn kernel(&self) -> Kernel {
        Kernel {
            congestion: self.congestion.clone(),
        }
    }

    /// A stack of ours as the flags want it.
    pub fn own(&self, stack: Stack) -> OwnStack {
        OwnStack::new(stack).with_congestion(self.congestion.clone())
    }
}

impl Client {
    /// How much to do.
    pub fn load(&self) -> Load {
        let unlimited = self.count.is_some() && self.seconds.is_none();
        let default_size = match self.test {
            Test::Up | Test::Down => BLOCK,
            Test::Ping | Test::Crr => PING_SIZE,
        };
        Load {
            server: self.connect[0],
            streams: self.streams.into(),
            size: self.size.unwrap_or(default_size),
            duration: match self.seconds {
                Some(seconds) => seconds,
                None if unlimited => FOREVER,
                None => Duration::from_secs(DEFAULT_SECONDS),
            },
            count: self.count.unwrap_or(u64::MAX),
        }
    }
}

/// How much a client does; it ends at whichever of time and count comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Address of the server.
    pub server: IpAddr,
    /// Connections at a time.
    pub streams: usize,
    /// Octets of a write, a read or a message.
    pub size: usize,
    /// How long to measure.
    pub duration: Duration,
    /// Round trips or connections, of all streams together.
    pub count: u64,
}

/// `perf memory`.
#[derive(Args, Clone, Copy, Debug)]
pub struct Memory {
    /// MTU of the link in octets
    #[arg(long, value_name = "N", default_value_t = 1500, value_parser = mtu)]
    pub mtu: usize,
    /// Let the link do no checksums and no segmentation: both are the stack's then
    #[arg(long)]
    pub no_offload: bool,
    /// How long to measure
    #[arg(long, value_name = "N", default_value = "5", value_parser = seconds)]
    pub seconds: Duration,
    /// Connections at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub streams: u16,
    /// Octets that the sending application writes at a time
    #[arg(long, value_name = "N", default_value_t = BLOCK, value_parser = size)]
    pub message: usize,
    /// Spare the copies between the application's buffers and the stack's (read_chunk, write_bytes)
    #[arg(long)]
    pub zero_copy: bool,
    /// SCTP instead of TCP: each write is a message, handed over without a copy
    #[arg(long, conflicts_with = "zero_copy")]
    pub sctp: bool,
    /// One JSON object a line on stdout
    #[arg(long)]
    pub json: bool,
}

/// As netperf and the suites of `bench` have it: a request that fits any MTU.
const PING_SIZE: usize = 64;
const DEFAULT_SECONDS: u64 = 5;
/// A century: no timer of a runtime minds it.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);
/// The largest buffer that one write may come from.
const MAX_SIZE: usize = 64 << 20;
/// The smallest MTU of IPv4 (RFC 791 3.2).
const MIN_MTU: usize = 68;
/// The largest packet of IP.
const MAX_MTU: usize = 65_535;

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() && duration <= FOREVER => Ok(duration),
        _ => Err("a time above 0 is needed".to_owned()),
    }
}

fn size(text: &str) -> Result<usize, String> {
    within(text, 1, MAX_SIZE)
}

fn mtu(text: &str) -> Result<usize, String> {
    within(text, MIN_MTU, MAX_MTU)
}

fn within(text: &str, least: usize, most: usize) -> Result<usize, String> {
    let value: usize = text.parse().map_err(|error| format!("{error}"))?;
    if (least..=most).contains(&value) {
        Ok(value)
    } else {
        Err(format!("{least} to {most} octets are possible"))
    }
}
