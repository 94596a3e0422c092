//! What a measurement comes to: rates, percentiles and the processor's time, as JSON or as text.

use std::fmt::{self, Display};
use std::io;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::{TimeVal, TimeValLike};
use serde::Serialize;

use super::flags::Test;

/// How fast octets went.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rate {
    /// Octets.
    pub bytes: u64,
    /// Time they took.
    pub seconds: f64,
    /// The one by the other.
    pub bytes_per_second: f64,
}

impl Rate {
    /// The rate of so many octets in a time.
    pub fn new(bytes: u64, elapsed: Duration) -> Self {
        Self {
            bytes,
            seconds: elapsed.as_secs_f64(),
            bytes_per_second: per_second(bytes, elapsed),
        }
    }
}

impl Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            bytes,
            seconds,
            bytes_per_second,
        } = self;
        let rate = bytes_per_second / 1e9;
        write!(f, "{bytes} bytes in {seconds:.3} s, {rate:.3} GB/s")
    }
}

/// Processor time of the whole process.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cpu {
    /// In the program.
    pub user_seconds: f64,
    /// In the kernel, on the program's behalf.
    pub system_seconds: f64,
}

impl Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            user_seconds,
            system_seconds,
        } = self;
        write!(
            f,
            "cpu {user_seconds:.2} s user, {system_seconds:.2} s system"
        )
    }
}

/// Time and processor time since a measurement began.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    begun: Instant,
    user: Duration,
    system: Duration,
}

impl Stopwatch {
    /// Begins.
    ///
    /// # Errors
    /// When the system does not tell processor times.
    pub fn start() -> io::Result<Self> {
        let (user, system) = processor_time()?;
        Ok(Self {
            begun: Instant::now(),
            user,
            system,
        })
    }

    /// What has passed since.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn read(&self) -> io::Result<(Duration, Cpu)> {
        let elapsed = self.begun.elapsed();
        let (user, system) = processor_time()?;
        let cpu = Cpu {
            user_seconds: user.saturating_sub(self.user).as_secs_f64(),
            system_seconds: system.saturating_sub(self.system).as_secs_f64(),
        };
        Ok((elapsed, cpu))
    }
}

/// The process's time in the program and in the kernel so far.
fn processor_time() -> io::Result<(Duration, Duration)> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let duration = |time: TimeVal| Duration::from_micros(time.num_microseconds().unsigned_abs());
    Ok((duration(usage.user_time()), duration(usage.system_time())))
}

/// Result of a client's `up` or `down`.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename = "result")]
pub struct Transfer {
    /// Which direction.
    pub test: Test,
    /// Connections.
    pub streams: usize,
    /// Octets of all connections.
    #[serde(flatten)]
    pub rate: Rate,
    /// The client's processor time.
    #[serde(flatten)]
    pub cpu: Cpu,
}

impl Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = match self.test {
            Test::Up => "sent",
            _ => "received",
        };
        write!(
            f,
            "{direction} {} ({} streams); {}",
            self.rate, self.streams, self.cpu
        )
    }
}

/// Result of a client's `ping`.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename = "result")]
pub struct RoundTrips {
    /// [`Test::Ping`].
    pub test: Test,
    /// Connections.
    pub streams: usize,
    /// Octets of a message.
    pub size: usize,
    /// Round trips.
    pub count: usize,
    /// Time they took together.
    pub seconds: f64,
    /// How long one took.
    #[serde(flatten)]
    pub times: Times,
    /// The client's processor time.
    #[serde(flatten)]
    pub cpu: Cpu,
}

impl Display for RoundTrips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Times {
            mean_us,
            p50_us,
            p99_us,
            max_us,
        } = self.times;
        write!(
            f,
            "{} round trips of {} bytes; mean {mean_us:.1} µs, p50 {p50_us:.1} µs, p99 {p99_us:.1} µs, max {max_us:.1} µs; {}",
            self.count, self.size, self.cpu
        )
    }
}

/// How durations are distributed, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Times {
    /// The average.
    pub mean_us: f64,
    /// Half of them took no longer.
    pub p50_us: f64,
    /// Of a hundred of them 99 took no longer.
    pub p99_us: f64,
    /// The longest.
    pub max_us: f64,
}

impl Times {
    /// Of durations in nanoseconds, in any order. All zero without any.
    pub fn new(mut nanoseconds: Vec<u32>) -> Self {
        nanoseconds.sort_unstable();
        let sum: u64 = nanoseconds.iter().copied().map(u64::from).sum();
        Self {
            mean_us: sum as f64 / 1e3 / nanoseconds.len().max(1) as f64,
            p50_us: percentile(&nanoseconds, 50) / 1e3,
            p99_us: percentile(&nanoseconds, 99) / 1e3,
            max_us: percentile(&nanoseconds, 100) / 1e3,
        }
    }
}

/// The smallest value that so many percent do not exceed (nearest rank).
fn percentile(sorted: &[u32], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or(0)
        .into()
}

/// Result of a client's `crr`.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename = "result")]
pub struct Connections {
    /// [`Test::Crr`].
    pub test: Test,
    /// Connections at a time.
    pub streams: usize,
    /// Connections made, used and closed.
    pub count: u64,
    /// Time they took together.
    pub seconds: f64,
    /// The one by the other.
    pub connections_per_second: f64,
    /// The client's processor time.
    #[serde(flatten)]
    pub cpu: Cpu,
}

impl Display for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} connections in {:.3} s ({} at a time), {:.0} per second; {}",
            self.count, self.seconds, self.streams, self.connections_per_second, self.cpu
        )
    }
}

/// Result of `memory`.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename = "result")]
pub struct InMemory {
    /// Always `memory`.
    pub test: &'static str,
    /// Of the link.
    pub mtu: usize,
    /// What the link does for the stacks.
    pub offloads: Vec<&'static str>,
    /// Connections.
    pub streams: u16,
    /// Octets of a write.
    pub message: usize,
    /// Octets that the receiving application got.
    #[serde(flatten)]
    pub rate: Rate,
    /// Both ends' processor time.
    #[serde(flatten)]
    pub cpu: Cpu,
}

impl Display for InMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offloads = match &self.offloads[..] {
            [] => "none".to_owned(),
            offloads => offloads.join(" "),
        };
        write!(
            f,
            "received {} ({} streams, mtu {}, offloads: {offloads}); {}",
            self.rate, self.streams, self.mtu, self.cpu
        )
    }
}

/// A rate that is 0, not infinite, without time.
pub fn per_second(count: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() {
        0.0
    } else {
        count as f64 / elapsed.as_secs_f64()
    }
}

/// Lets the process have as many descriptors as it may: a kernel's connection is one, the usual limit 1024.
///
/// # Errors
/// What the system gives.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(())
}
