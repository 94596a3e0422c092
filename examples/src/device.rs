//! Opens the device that the flags name.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tidewire_netdev::Device;
use tidewire_netdev::capture::{self, Capture, CaptureConfig, SharedCapture};
#[cfg(target_os = "linux")]
use tidewire_netdev::linux::{Tun, TunConfig};

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

/// Opens the device, gives the kernel's side its addresses, and registers the device with the current runtime.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] without a device flag, [`io::ErrorKind::Unsupported`] for a kind there is not yet,
/// and what opening gives. The text says what to do.
pub async fn open(flags: &StackFlags) -> io::Result<Device> {
    let unsupported = |flag: &str| {
        let text =
            format!("{flag} is not supported yet: it comes with the link layer; use --tun NAME");
        Err(io::Error::new(io::ErrorKind::Unsupported, text))
    };
    match (&flags.tun, &flags.tap, &flags.packet) {
        (Some(name), _, _) => open_tun(name, flags).await,
        (_, Some(_), _) => unsupported("--tap"),
        (_, _, Some(_)) => unsupported("--packet"),
        (None, None, None) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "no device: use --tun NAME",
        )),
    }
}

#[cfg(target_os = "linux")]
async fn open_tun(name: &str, flags: &StackFlags) -> io::Result<Device> {
    let tun = Tun::open(TunConfig {
        name: Some(name.to_owned()),
        mtu: flags.mtu,
        offload: !flags.no_offload,
        ..TunConfig::default()
    })?;
    if !flags.kernel_addresses.is_empty() {
        crate::kernel::configure(tun.name(), &flags.kernel_addresses, None, true).await?;
    }
    tun.into_device()
}

#[cfg(not(target_os = "linux"))]
async fn open_tun(_name: &str, _flags: &StackFlags) -> io::Result<Device> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "--tun needs Linux",
    ))
}
