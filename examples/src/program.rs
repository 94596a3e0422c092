//! The frame around a program: runtime, device, stack, signals, exit codes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::PoisonError;
use std::time::Duration;

use tidewire::Stack;
use tidewire::ip::autoconf::rarp;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::device::{self, FileCapture};
use crate::flags::StackFlags;
use crate::json::{Listening, Output};
use crate::{Result, logging};

/// How long closed connections may take to get their last data acknowledged when the program ends.
const DRAIN: Duration = Duration::from_secs(3);

/// A program's surroundings: its stack is the process's default, so that `tidewire::net` needs nothing of this.
#[derive(Clone, Debug)]
pub struct Running {
    /// The stack.
    pub stack: Stack,
    /// Where to report.
    pub output: Output,
    /// What the device does for the stack.
    pub offloads: Vec<&'static str>,
    /// The stack's addresses on the device, in the order of the flags.
    pub addresses: Vec<IpAddr>,
}

impl Running {
    /// Where a server binds to be reached at every address: `0.0.0.0`, or `::` (which takes IPv4 too) if the stack
    /// has an IPv6 address.
    pub fn listen_address(&self, port: u16) -> SocketAddr {
        let any = if self.addresses.iter().any(IpAddr::is_ipv6) {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        } else {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        };
        SocketAddr::new(any, port)
    }

    /// Says that a server is ready on a port.
    ///
    /// # Errors
    /// What writing gives.
    pub fn listening(&self, port: u16) -> io::Result<()> {
        let address = self.addresses.first().copied();
        self.output.event(&Listening {
            address: address
                .map_or_else(|| self.listen_address(port), |ip| SocketAddr::new(ip, port)),
            offloads: self.offloads.clone(),
        })
    }
}

/// Runs a program on a stack over the device that the flags name.
///
/// Ends with exit code 0 when the program does or at SIGTERM or SIGINT, 1 with an error, 2 without a device.
pub fn run<P>(flags: &StackFlags, program: P) -> ExitCode
where
    P: AsyncFnOnce(Running) -> Result,
{
    logging::init();
    if flags.tun.is_none() && flags.tap.is_none() && flags.packet.is_none() {
        eprintln!("error: {} (see --help)", device::NO_DEVICE);
        return ExitCode::from(2);
    }
    block_on(flags.workers, run_until_signal(flags, program))
}

/// Runs a program that opens no device, on a runtime with so many workers (see [`StackFlags::workers`]).
///
/// Ends with exit code 0 when the program does or at SIGTERM or SIGINT, 1 with an error.
pub fn run_without_device<P>(workers: usize, program: P) -> ExitCode
where
    P: AsyncFnOnce() -> Result,
{
    logging::init();
    block_on(workers, async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            result = program() => result,
            () = either(&mut terminate, &mut interrupt) => Ok(()),
        }
    })
}

fn block_on(workers: usize, program: impl Future<Output = Result>) -> ExitCode {
    let runtime = match runtime(workers) {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let result = runtime.block_on(program);
    // Not a plain drop, which would wait for a thread that reads stdin.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&*error),
    }
}

async fn run_until_signal<P>(flags: &StackFlags, program: P) -> Result
where
    P: AsyncFnOnce(Running) -> Result,
{
    // Before "listening" is said: from then on a signal may come.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (running, capture) = start(flags).await?;
    let stack = running.stack.clone();
    let result = tokio::select! {
        result = program(running) => result,
        () = either(&mut terminate, &mut interrupt) => Ok(()),
    };
    tokio::select! {
        _ = tokio::time::timeout(DRAIN, stack.shutdown()) => {}
        // The second signal does not wait.
        () = either(&mut terminate, &mut interrupt) => {}
    }
    if let Some(capture) = capture {
        let mut capture = capture.lock().unwrap_or_else(PoisonError::into_inner);
        capture.flush()?;
    }
    result
}

async fn start(flags: &StackFlags) -> Result<(Running, Option<FileCapture>)> {
    let mut device = device::open(flags).await?;
    let mut capture = None;
    if let Some(path) = &flags.pcap {
        let (recorded, file) = device::record(device, path)?;
        (device, capture) = (recorded, Some(file));
    }
    let offloads = device.capabilities.offloads.names();
    let mut builder = Stack::builder().device(device);
    if let Some(address) = flags.hardware_address {
        builder = builder.hardware_address(address);
    }
    for &address in &flags.addresses {
        builder = builder.address(address);
    }
    for &gateway in &flags.gateways {
        builder = builder.gateway(gateway);
    }
    if flags.dhcp {
        builder = builder.address_by_dhcp();
    }
    if flags.slaac {
        builder = builder.address_by_slaac();
    }
    if flags.rarp {
        builder = builder.address_by_rarp_with(rarp::Config {
            prefix: flags.rarp_prefix,
            ..rarp::Config::default()
        });
    }
    let stack = builder.build()?;
    stack.set_default();
    let mut addresses: Vec<IpAddr> = flags.addresses.iter().map(|cidr| cidr.address()).collect();
    if flags.dhcp || flags.rarp || flags.slaac {
        stack.addresses_settled().await?;
        let leased = stack.leases().into_iter();
        addresses.extend(leased.map(|(_, lease)| lease.address.address()));
        let told = stack.rarp_answers().into_iter();
        addresses.extend(told.map(|(_, answer)| answer.ip()));
        let advertised = stack.advertised().into_iter();
        let made = advertised.flat_map(|(_, advertised)| advertised.addresses);
        addresses.extend(made.map(|made| IpAddr::V6(made.address)));
    }
    let running = Running {
        stack,
        output: Output::new(flags.json),
        offloads,
        addresses,
    };
    Ok((running, capture))
}

/// The runtime that `--workers` asks for.
fn runtime(workers: usize) -> io::Result<Runtime> {
    let mut builder = if workers == 0 {
        Builder::new_current_thread()
    } else {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(workers);
        builder
    };
    builder.enable_all().build()
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}
