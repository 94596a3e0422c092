//! The device between stack and kernel, of each kind.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tidewire_netdev::capture::{self, Capture, CaptureConfig, SharedCapture};
use tidewire_netdev::linux::{
    InterfaceCounters, PacketConfig, PacketSocket, Tap, TapConfig, Tun, TunConfig,
};
use tidewire_netdev::{Device, MacAddress, OffloadSet};

use super::impairment::impaired;
use super::meter::{Meter, metered};
use super::network::{Routers, addresses};
use super::station::Station;
use super::{Family, LinkConfig};
use crate::namespace::configure;
use crate::requirements::Need;

/// A kind of device that a stack meets a kernel through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceKind {
    /// An interface whose wire is the stack, carrying IP packets.
    #[default]
    Tun,
    /// An interface with a cable to the stack, carrying Ethernet frames.
    Tap,
    /// Packet sockets on the far end of a veth pair.
    Packet,
}

impl DeviceKind {
    /// What the machine must have for it besides namespaces.
    pub const fn needs(self) -> &'static [Need] {
        match self {
            Self::Tun | Self::Tap => &[Need::Tun],
            // Which takes the offloads from the kernel's end; those of a TUN or TAP are the device's own.
            Self::Packet => &[Need::Program("ethtool")],
        }
    }

    /// Octets before the IP header of each packet that passes the device.
    pub const fn link_header(self) -> usize {
        match self {
            Self::Tun => 0,
            Self::Tap | Self::Packet => 14,
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
pub(crate) type FileCapture = SharedCapture<BufWriter<File>>;

/// An opened device.
pub(super) struct Opened {
    pub(super) device: Device,
    pub(super) kernel_side: KernelSide,
}

/// What is not the stack's of a device.
pub(super) struct KernelSide {
    /// The kernel's interface.
    pub(super) name: String,
    pub(super) counters: InterfaceCounters,
    pub(super) meter: Arc<Meter>,
    pub(super) capture: Option<FileCapture>,
    /// Where packet sockets are.
    pub(super) station: Option<Station>,
}

/// Opens the device that `config` asks for, its kernel's end in the router next to the stack.
pub(super) async fn open(config: &LinkConfig, routers: &Routers) -> io::Result<Opened> {
    let station = match config.device {
        DeviceKind::Tun | DeviceKind::Tap => None,
        DeviceKind::Packet => Some(Station::beside(config, routers).await?),
    };
    let (device, name, counters) = match (config.device, &station) {
        (DeviceKind::Tap, _) => open_tap(config, routers).await?,
        (_, Some(station)) => open_packet_socket(config, station).await?,
        _ => open_tun(config, routers).await?,
    };
    if config.offload {
        let OffloadSet { tso4, tso6, .. } = device.capabilities.offloads;
        assert!(tso4 && tso6, "the kernel grants only {device:?}");
    }
    assert_eq!(device.queue_count(), config.queues, "{device:?}");
    let meter = Arc::new(Meter::default());
    let (device, capture) = instrumented(metered(device, &meter), config)?;
    let kernel_side = KernelSide {
        name,
        counters,
        meter,
        capture,
        station,
    };
    Ok(Opened {
        device,
        kernel_side,
    })
}

/// A device that records what passes it, with a path before the stack, as `config` asks for.
pub(super) fn instrumented(
    mut device: Device,
    config: &LinkConfig,
) -> io::Result<(Device, Option<FileCapture>)> {
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
    Ok((device, recorded))
}

/// A device, the kernel's interface, and what the device counts.
type Parts = (Device, String, InterfaceCounters);

async fn open_tun(config: &LinkConfig, routers: &Routers) -> io::Result<Parts> {
    let tun_config = TunConfig {
        mtu: Some(config.mtu),
        offload: config.offload,
        virtio_header: config.virtio_header,
        queues: config.queues,
        ..TunConfig::default()
    };
    let addresses = addresses(config, config.subnet, Family::kernel_in);
    let tun = routers.beside_device(async move || {
        let tun = Tun::open(tun_config)?;
        configure(tun.name(), &addresses, None).await?;
        io::Result::Ok(tun)
    });
    let tun = tun.await?;
    let (name, counters) = (tun.name().to_owned(), tun.counters());
    // The interface stays where it was opened; its packets come to this runtime.
    Ok((tun.into_device()?, name, counters))
}

async fn open_tap(config: &LinkConfig, routers: &Routers) -> io::Result<Parts> {
    let tap_config = TapConfig {
        mtu: Some(config.mtu),
        offload: config.offload,
        virtio_header: config.virtio_header,
        hardware_address: Some(MacAddress([2, 0, 0, 0, 0, 2])),
        queues: config.queues,
        ..TapConfig::default()
    };
    let addresses = addresses(config, config.subnet, Family::kernel_in);
    let tap = routers.beside_device(async move || {
        let tap = Tap::open(tap_config)?;
        configure(tap.name(), &addresses, None).await?;
        io::Result::Ok(tap)
    });
    let tap = tap.await?;
    let (name, counters) = (tap.name().to_owned(), tap.counters());
    Ok((tap.into_device()?, name, counters))
}

async fn open_packet_socket(config: &LinkConfig, station: &Station) -> io::Result<Parts> {
    let packet_config = PacketConfig {
        offload: config.offload,
        queues: config.queues,
        ring: config.ring,
        ..PacketConfig::new(Station::INTERFACE)
    };
    let open = async || PacketSocket::open(packet_config);
    let socket = station.namespace.run(open).await?;
    let (name, counters) = (Station::KERNEL_INTERFACE.to_owned(), socket.counters());
    Ok((socket.into_device()?, name, counters))
}

fn wall_clock() -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default()
}
