//! Opens the device that the flags name.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tidewire_netdev::Device;
use tidewire_netdev::capture::{self, Capture, CaptureConfig, SharedCapture};
#[cfg(target_os = "linux")]
use tidewire_netdev::linux::{PacketConfig, PacketSocket, Tap, TapConfig, Tun, TunConfig};

use crate::flags::StackFlags;

/// The capture that `--pcap` asks for. Buffered: flush it when the program ends.
pub type FileCapture = SharedCapture<BufWriter<File>>;

/// Records what passes a device in a new file.
///
/// # Errors
/// What creating and writing the file gives; the text names it.
pub fn record(device: Device, path: &Path) -> io::Result<(Device, FileCapture)> {
    let explain = |error: io::Error| {
        let text = format!("cannot record in {}: {error}", path.display());
        io::Error::new(error.kind(), text)
    };
    let file = BufWriter::new(File::create(path).map_err(explain)?);
    let capture = Capture::new(file, CaptureConfig::default()).map_err(explain)?;
    let capture = Arc::new(Mutex::new(capture));
    let device = capture::wrap(device, &capture, wall_clock).map_err(explain)?;
    Ok((device, capture))
}

/// Time since Unix's epoch, as captures have it.
fn wall_clock() -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // A clock before 1970 is a clock that was never set.
    now.unwrap_or_default()
}

/// What is wrong without a device flag.
pub(crate) const NO_DEVICE: &str = "no device: use --tun NAME, --tap NAME or --packet IFACE";

/// Opens the device, gives the kernel's side its addresses, and registers the device with the current runtime.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] without a device flag, and what opening gives. The text says what to do.
pub async fn open(flags: &StackFlags) -> io::Result<Device> {
    match (&flags.tun, &flags.tap, &flags.packet) {
        (Some(name), _, _) => open_tun(name, flags).await,
        (_, Some(name), _) => open_tap(name, flags).await,
        (_, _, Some(interface)) => open_packet_socket(interface, flags).await,
        (None, None, None) => Err(io::Error::new(io::ErrorKind::InvalidInput, NO_DEVICE)),
    }
}

#[cfg(target_os = "linux")]
async fn open_tun(name: &str, flags: &StackFlags) -> io::Result<Device> {
    let tun = Tun::open(TunConfig {
        name: Some(name.to_owned()),
        mtu: flags.mtu,
        offload: !flags.no_offload,
        queues: flags.queues,
        ..TunConfig::default()
    })?;
    configure_kernel(tun.name(), flags).await?;
    tun.into_device()
}

#[cfg(target_os = "linux")]
async fn open_tap(name: &str, flags: &StackFlags) -> io::Result<Device> {
    let tap = Tap::open(TapConfig {
        name: Some(name.to_owned()),
        mtu: flags.mtu,
        offload: !flags.no_offload,
        queues: flags.queues,
        ..TapConfig::default()
    })?;
    configure_kernel(tap.name(), flags).await?;
    tap.into_device()
}

#[cfg(target_os = "linux")]
async fn open_packet_socket(interface: &str, flags: &StackFlags) -> io::Result<Device> {
    let socket = PacketSocket::open(PacketConfig {
        mtu: flags.mtu,
        offload: !flags.no_offload,
        queues: flags.queues,
        hardware_address: flags.hardware_address,
        ..PacketConfig::new(interface)
    })?;
    configure_kernel(interface, flags).await?;
    socket.into_device()
}

/// Gives the kernel its addresses on the interface and brings that up, if there are any.
#[cfg(target_os = "linux")]
async fn configure_kernel(interface: &str, flags: &StackFlags) -> io::Result<()> {
    if flags.kernel_addresses.is_empty() {
        return Ok(());
    }
    crate::kernel::configure(interface, &flags.kernel_addresses, None, true).await
}

#[cfg(not(target_os = "linux"))]
async fn unsupported(_name: &str, _flags: &StackFlags) -> io::Result<Device> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "--tun, --tap and --packet need Linux",
    ))
}

#[cfg(not(target_os = "linux"))]
use unsupported as open_packet_socket;
#[cfg(not(target_os = "linux"))]
use unsupported as open_tap;
#[cfg(not(target_os = "linux"))]
use unsupported as open_tun;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser, Debug)]
    struct Flags {
        #[command(flatten)]
        stack: StackFlags,
    }

    #[tokio::test]
    async fn what_cannot_be_opened_is_explained_before_anything_is_made() {
        for (line, advice) in [
            ("http", "use --tun NAME, --tap NAME or --packet IFACE"),
            ("http --packet no-such-link", "ip link show"),
            ("http --packet lo", "not of Ethernet"),
            ("http --packet lo --queues 0", "1 to 256"),
            ("http --tap a/b", "no interface name"),
            ("http --tun tw0 --queues 300", "1 to 256"),
            ("http --tap tw0 --queues 0", "1 to 256"),
        ] {
            let flags = Flags::try_parse_from(line.split_whitespace()).expect(line);
            let error = open(&flags.stack).await.expect_err(line);
            assert!(error.to_string().contains(advice), "{line}: {error}");
        }
    }
}
