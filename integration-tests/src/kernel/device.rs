//! The device between stack and kernel, of each kind.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tidewire_netdev::Device;
use tidewire_netdev::capture::{self, Capture, CaptureConfig, SharedCapture};
use tidewire_netdev::linux::{Tun, TunConfig, TunCounters};

use super::impairment::impaired;
use super::meter::{Meter, metered};
use super::network::{Routers, addresses};
use super::{Family, LinkConfig};
use crate::namespace::configure;
use crate::requirements::Need;

/// A kind of device that a stack meets a kernel through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceKind {
    /// An interface whose wire is the stack, carrying IP packets.
    #[default]
    Tun,
}

impl DeviceKind {
    /// What the machine must have for it besides namespaces.
    pub const fn needs(self) -> &'static [Need] {
        match self {
            Self::Tun => &[Need::Tun],
        }
    }
}

/// Where the packets that pass a device are recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// The file, which is made anew.
    pub path: PathBuf,
    /// The most octets of it; what comes later is left out. `None`: all.
    pub limit: Option<u64>,
}

/// A capture in a file.
pub(super) type FileCapture = SharedCapture<BufWriter<File>>;

/// An opened device.
pub(super) struct Opened {
    pub(super) device: Device,
    /// The kernel's interface.
    pub(super) name: String,
    pub(super) counters: TunCounters,
    pub(super) meter: Arc<Meter>,
    pub(super) capture: Option<FileCapture>,
}

/// Opens the device that `config` asks for, its kernel's end in the router next to the stack.
pub(super) async fn open(config: &LinkConfig, routers: &Routers) -> io::Result<Opened> {
    let (device, name, counters) = match config.device {
        DeviceKind::Tun => open_tun(config, routers).await?,
    };
    let meter = Arc::new(Meter::default());
    let mut device = metered(device, &meter);
    let mut recorded = None;
    if let Some(recording) = &config.capture {
        let file = BufWriter::new(File::create(&recording.path)?);
        let limited = CaptureConfig {
            limit_bytes: recording.limit,
            ..CaptureConfig::default()
        };
        let capture = Arc::new(Mutex::new(Capture::new(file, limited)?));
        device = capture::wrap(device, &capture, wall_clock)?;
        recorded = Some(capture);
    }
    if let Some(impairment) = &config.impairment {
        device = impaired(device, impairment);
    }
    Ok(Opened {
        device,
        name,
        counters,
        meter,
        capture: recorded,
    })
}

async fn open_tun(
    config: &LinkConfig,
    routers: &Routers,
) -> io::Result<(Device, String, TunCounters)> {
    let tun_config = TunConfig {
        mtu: Some(config.mtu),
        offload: config.offload,
        virtio_header: config.virtio_header,
        ..TunConfig::default()
    };
    let addresses = addresses(config, config.subnet, Family::kernel_in);
    let tun = routers.beside_device(async move || {
        let tun = Tun::open(tun_config)?;
        configure(tun.name(), &addresses, None).await?;
        io::Result::Ok(tun)
    });
    let tun = tun.await?;
    if config.offload {
        let offloads = tun.offloads();
        assert!(
            offloads.tso4 && offloads.tso6,
            "the kernel grants only {:?}",
            offloads.names()
        );
    }
    let (name, counters) = (tun.name().to_owned(), tun.counters());
    // The interface stays where it was opened; its packets come to this runtime.
    Ok((tun.into_device()?, name, counters))
}

fn wall_clock() -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default()
}
