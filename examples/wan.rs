//! A bad path between two devices, in real time: delay, loss, reordering, a bottleneck with a queue.
//!
//! Whoever is at its ends, this machine's kernel or a stack of ours, meets the same path. With `--left packet:a --right
//! packet:b` it is the cable between the far ends of two veth pairs. Packets arrive up to a millisecond late: that is
//! what tokio's timers resolve.

use std::io;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use serde::Serialize;
use tidewire_examples::json::Output;
use tidewire_netdev::memory::impairment::{ImpairmentStats, Loss, Reorder};
use tidewire_netdev::memory::{
    ImpairmentConfig, ImpairmentMonitor, PairConfig, impaired_pair_with_monitors,
};
use tidewire_netdev::{Device, OffloadSet, carry};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Joins two devices by a path that delays, loses and reorders packets, the same in both directions
#[derive(Parser)]
struct Flags {
    /// One end: tun:NAME, tap:NAME or packet:INTERFACE
    #[arg(long, value_name = "DEVICE")]
    left: Place,
    /// The other end
    #[arg(long, value_name = "DEVICE")]
    right: Place,
    /// Milliseconds from one end to the other
    #[arg(long, value_name = "MS", default_value_t = 0.0)]
    delay: f64,
    /// Up to so many milliseconds more for each packet, which stay in order
    #[arg(long, value_name = "MS", default_value_t = 0.0)]
    jitter: f64,
    /// Percent of the packets that are lost
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    loss: f64,
    /// Losses come in bursts of so many packets on average
    #[arg(long, value_name = "PACKETS")]
    burst: Option<f64>,
    /// Percent of the packets that are overtaken
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    reorder: f64,
    /// How many milliseconds these are late
    #[arg(long, value_name = "MS", default_value_t = 5.0)]
    late: f64,
    /// Percent of the packets that arrive twice
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    duplicate: f64,
    /// Percent of the packets with a bit inverted
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    corrupt: f64,
    /// Megabits per second of the bottleneck
    #[arg(long, value_name = "MBIT")]
    rate: Option<f64>,
    /// Octets of the queue before it
    #[arg(long, value_name = "OCTETS", default_value_t = 1 << 20)]
    queue: usize,
    /// Packets larger than this vanish
    #[arg(long, value_name = "OCTETS")]
    black_hole: Option<usize>,
    /// What is left to chance follows from this number
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// MTU of the devices
    #[arg(long, default_value_t = 1500)]
    mtu: usize,
    /// Join what arrives together to super-packets
    #[arg(long)]
    coalesce: bool,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// One JSON object a line on stdout
    #[arg(long)]
    json: bool,
}

/// A device to be opened.
#[derive(Clone, Debug)]
enum Place {
    Tun(String),
    Tap(String),
    Packet(String),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once(':').unwrap_or((text, ""));
        let name = name.to_owned();
        match kind {
            "tun" if !name.is_empty() => Ok(Self::Tun(name)),
            "tap" if !name.is_empty() => Ok(Self::Tap(name)),
            "packet" if !name.is_empty() => Ok(Self::Packet(name)),
            _ => Err("not tun:NAME, tap:NAME or packet:INTERFACE".to_owned()),
        }
    }
}

impl Place {
    #[cfg(target_os = "linux")]
    fn open(&self, mtu: usize) -> io::Result<Device> {
        use tidewire_netdev::linux::{PacketConfig, PacketSocket, Tap, TapConfig, Tun, TunConfig};
        match self {
            Self::Tun(name) => Tun::open(TunConfig {
                name: Some(name.clone()),
                mtu: Some(mtu),
                ..TunConfig::default()
            })?
            .into_device(),
            Self::Tap(name) => Tap::open(TapConfig {
                name: Some(name.clone()),
                mtu: Some(mtu),
                ..TapConfig::default()
            })?
            .into_device(),
            Self::Packet(name) => PacketSocket::open(PacketConfig {
                mtu: Some(mtu),
                all_frames: true,
                ..PacketConfig::new(name.as_str())
            })?
            .into_device(),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn open(&self, _mtu: usize) -> io::Result<Device> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Flags {
    fn path(&self) -> ImpairmentConfig {
        let ms = |millis: f64| Duration::from_secs_f64(millis.max(0.0) / 1e3);
        let share = |percent: f64| (percent / 100.0).clamp(0.0, 1.0);
        ImpairmentConfig {
            delay: ms(self.delay),
            jitter: ms(self.jitter),
            loss: match (self.loss > 0.0, self.burst) {
                (false, _) => Loss::None,
                (true, None) => Loss::Uniform(share(self.loss)),
                (true, Some(burst)) => Loss::bursts(share(self.loss), burst.max(1.0)),
            },
            reorder: Reorder {
                probability: share(self.reorder),
                extra_delay: ms(self.late),
            },
            duplicate: share(self.duplicate),
            corrupt: share(self.corrupt),
            rate_bits_per_second: self.rate.map(|mbit| (mbit.max(0.001) * 1e6) as u64),
            queue_limit: self.queue,
            mtu: self.black_hole,
            ..ImpairmentConfig::default()
        }
    }
}

/// What became of the packets of one direction.
#[derive(Serialize)]
struct Direction {
    event: &'static str,
    towards: &'static str,
    offered: u64,
    delivered: u64,
    octets: u64,
    lost: u64,
    queue_full: u64,
    over_mtu: u64,
    reordered: u64,
    duplicated: u64,
    corrupted: u64,
}

impl Direction {
    fn of(towards: &'static str, stats: &ImpairmentStats) -> Self {
        Self {
            event: "direction",
            towards,
            offered: stats.offered,
            delivered: stats.delivered,
            octets: stats.delivered_bytes,
            lost: stats.lost,
            queue_full: stats.queue_full + stats.in_flight_full,
            over_mtu: stats.over_mtu,
            reordered: stats.reordered,
            duplicated: stats.duplicated,
            corrupted: stats.corrupted,
        }
    }
}

impl std::fmt::Display for Direction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "to the {}: {} of {} packets, {} octets; {} lost, {} beyond the queue, {} too large, {} late, {} twice, {} damaged",
            self.towards,
            self.delivered,
            self.offered,
            self.octets,
            self.lost,
            self.queue_full,
            self.over_mtu,
            self.reordered,
            self.duplicated,
            self.corrupted
        )
    }
}

#[derive(Serialize)]
struct Ready {
    event: &'static str,
}

impl std::fmt::Display for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the path is open")
    }
}

/// Runs the path until it is to end, or a device does.
async fn run(flags: &Flags) -> io::Result<[ImpairmentMonitor; 2]> {
    let left = flags.left.open(flags.mtu)?;
    let right = flags.right.open(flags.mtu)?;
    let medium = left.capabilities.medium;
    if medium != right.capabilities.medium {
        let text = "one end carries Ethernet frames, the other IP packets";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let config = PairConfig {
        mtu: flags.mtu,
        medium,
        offloads: OffloadSet::ALL,
        coalesce: flags.coalesce,
        ..PairConfig::default()
    };
    let (near, far, monitors) =
        impaired_pair_with_monitors(config, flags.path(), flags.path(), flags.seed);
    let mut ways = JoinSet::new();
    ways.spawn(carry(left.receiver, near.transmitter));
    ways.spawn(carry(far.receiver, right.transmitter));
    ways.spawn(carry(right.receiver, far.transmitter));
    ways.spawn(carry(near.receiver, left.transmitter));
    Output::new(flags.json).event(&Ready { event: "ready" })?;
    let limit = async {
        match flags.seconds {
            Some(seconds) => sleep(Duration::from_secs_f64(seconds.max(0.0))).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = ways.join_next() => {
            ended.expect("four ways").map_err(io::Error::other)??;
        }
        () = limit => {}
        asked = tokio::signal::ctrl_c() => asked?,
    }
    Ok(monitors)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    let report = |[to_right, to_left]: [ImpairmentMonitor; 2]| {
        let output = Output::new(flags.json);
        output.event(&Direction::of("right", &to_right.stats()))?;
        output.event(&Direction::of("left", &to_left.stats()))
    };
    match run(&flags).await.and_then(report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
