//! A router over Tidewire: passes IPv4 and IPv6 packets on between devices.
//!
//! ```text
//!  router --link packet:w0=10.7.0.2/24,fd07::2/64 --link packet:w1=10.8.0.2/24,fd08::2/64
//! ```
//!
//! Hosts behind the one device name the router's address there as their way to the networks behind the others.

use std::io;
use std::net::IpAddr;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use serde::Serialize;
use tidewire::Stack;
use tidewire::ip::Cidr;
use tidewire_examples::{Output, run_without_device};
use tidewire_netdev::Device;
#[cfg(target_os = "linux")]
use tidewire_netdev::linux::{PacketConfig, PacketSocket, Tap, TapConfig, Tun, TunConfig};

/// Passes IPv4 and IPv6 packets on between devices
#[derive(Parser)]
struct Flags {
    /// A device and the router's addresses on it: tun:NAME, tap:NAME or packet:IFACE, then =CIDR, and more with commas;
    /// to be repeated
    #[arg(long = "link", value_name = "DEVICE=CIDR,…", required = true)]
    links: Vec<Link>,
    /// Router to everything that is on none of the links, on the last one; one for each IP version
    #[arg(long = "gateway", value_name = "IP")]
    gateways: Vec<IpAddr>,
    /// Seconds between reports of what was forwarded [default: no reports]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    report: Option<u64>,
    /// Worker threads of the runtime; 0 runs everything on one thread
    #[arg(long, value_name = "N", default_value_t = 0)]
    workers: usize,
    /// One JSON object a line on stdout
    #[arg(long)]
    json: bool,
}

/// A device and the router's place on it.
#[derive(Clone, Debug)]
struct Link {
    kind: Kind,
    name: String,
    addresses: Vec<Cidr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tun,
    Tap,
    Packet,
}

impl FromStr for Link {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (device, addresses) = text
            .split_once('=')
            .ok_or("what comes behind the device is =CIDR")?;
        let (kind, name) = match device.split_once(':') {
            Some(("tun", name)) => (Kind::Tun, name),
            Some(("tap", name)) => (Kind::Tap, name),
            Some(("packet", name)) => (Kind::Packet, name),
            _ => return Err("a device is tun:NAME, tap:NAME or packet:IFACE".to_owned()),
        };
        let parse = |text: &str| text.parse().map_err(|error| format!("{text}: {error}"));
        Ok(Self {
            kind,
            name: name.to_owned(),
            addresses: addresses.split(',').map(parse).collect::<Result<_, _>>()?,
        })
    }
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event {
    Routing { links: Vec<String> },
    Forwarded { packets: u64, dropped: u64 },
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Routing { links } => write!(f, "routing between {}", links.join(", ")),
            Self::Forwarded { packets, dropped } => {
                write!(f, "{packets} packets forwarded, {dropped} dropped")
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn open(link: &Link) -> io::Result<Device> {
    let name = Some(link.name.clone());
    match link.kind {
        Kind::Tun => Tun::open(TunConfig {
            name,
            ..TunConfig::default()
        })?
        .into_device(),
        Kind::Tap => Tap::open(TapConfig {
            name,
            ..TapConfig::default()
        })?
        .into_device(),
        Kind::Packet => PacketSocket::open(PacketConfig::new(&link.name))?.into_device(),
    }
}

#[cfg(not(target_os = "linux"))]
fn open(_: &Link) -> io::Result<Device> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "TUN, TAP and packet sockets need Linux",
    ))
}

fn report(stack: &Stack, output: Output) -> io::Result<()> {
    let stats = stack.stats();
    output.event(&Event::Forwarded {
        packets: stats.packets_forwarded,
        dropped: stats.dropped_total(),
    })
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    run_without_device(flags.workers, async || {
        let output = Output::new(flags.json);
        let mut builder = Stack::builder().forwarding();
        for link in &flags.links {
            let device = open(link)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", link.name)))?;
            builder = builder.device(device);
            for &address in &link.addresses {
                builder = builder.address(address);
            }
        }
        for &gateway in &flags.gateways {
            builder = builder.gateway(gateway);
        }
        let stack = builder.build()?;
        let links = flags.links.iter().map(|link| link.name.clone()).collect();
        output.event(&Event::Routing { links })?;
        // The signal that ends the program ends this.
        let Some(seconds) = flags.report else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            report(&stack, output)?;
        }
    })
}
