//! TUN: a network interface of the kernel whose wire is this process (`Documentation/networking/tuntap.rst`).
//!
//! Owns opening the interface, agreeing on offloads, and moving packets. With a virtio-net header before each packet
//! the kernel hands over super-packets of up to 64 KiB with the checksum left to do, and takes such ones, so that one
//! system call moves 44 MTU-sized packets.
//!
//! Leaves to others the interface's addresses and routes (rtnetlink's job) and everything inside the packets.

use std::collections::VecDeque;
use std::ffi::c_int;
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use smallvec::SmallVec;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::sys::{self, InterfaceControl, InterfaceName};
use crate::device::{Capabilities, Device, Medium, OffloadSet, Receiver, Transmitter};
use crate::offload::Checksum;
use crate::packet::Packet;
use crate::pool::ReceivePool;
use crate::virtio_header::{self, VIRTIO_HEADER_LEN};

/// How to open a TUN interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunConfig {
    /// The interface's name: an existing one is attached to, a missing one is created and lives as long as the
    /// [`Tun`]. `%d` stands for the first free number. `None` lets the kernel choose. Default: `None`.
    pub name: Option<String>,
    /// Sets the interface's MTU in octets; `None` leaves it (1,500 on a new interface). Default: `None`.
    pub mtu: Option<usize>,
    /// Asks for checksum and segmentation offload. Without it every packet is complete and MTU-sized in both
    /// directions. Default: `true`.
    pub offload: bool,
    /// Puts a virtio-net header before each packet, which offloads need. `false` gives the plain TUN that every
    /// kernel has, and no offloads. Default: `true`.
    pub virtio_header: bool,
    /// Packets the kernel queues for us before it drops (`txqueuelen`). A shorter queue is made this long, a longer
    /// one is left; 0 leaves any. Default: 10,000, since Linux's 500 MTU-sized packets are less than one window
    /// of 1 MiB.
    pub transmit_queue_len: usize,
}

impl Default for TunConfig {
    fn default() -> Self {
        Self {
            name: None,
            mtu: None,
            offload: true,
            virtio_header: true,
            transmit_queue_len: 10_000,
        }
    }
}

/// An open TUN interface that no runtime knows yet.
#[derive(Debug)]
pub struct Tun {
    file: File,
    name: String,
    mtu: usize,
    offloads: OffloadSet,
    virtio_header: bool,
    counters: TunCounters,
}

impl Tun {
    /// Opens an interface: attaches to the one of that name, or creates it.
    ///
    /// The interface belongs to the network namespace of the calling thread. It gets no address and is not brought up.
    ///
    /// # Errors
    /// Their text says what to do. [`io::ErrorKind::PermissionDenied`]: creating an interface needs `CAP_NET_ADMIN`.
    /// [`io::ErrorKind::ResourceBusy`]: another program is attached. [`io::ErrorKind::InvalidInput`]: not a usable
    /// name, or an interface of another kind.
    pub fn open(config: TunConfig) -> io::Result<Self> {
        let wanted = match &config.name {
            Some(name) => InterfaceName::new(name)?,
            None => InterfaceName::ANY,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(CLONE_DEVICE)
            .map_err(explain_open)?;
        let name = attach(&file, wanted, config.virtio_header)
            .map_err(|error| explain_attach(error, config.name.as_deref()))?;
        let mut offloads = OffloadSet::NONE;
        if config.virtio_header {
            sys::set_virtio_header_size(&file, VIRTIO_HEADER_LEN)?;
            let groups: &[u32] = if config.offload { &OFFLOAD_GROUPS } else { &[] };
            offloads = negotiate(groups, |bits| sys::set_tun_offload(&file, bits))?;
        }
        let control = InterfaceControl::open()?;
        set_queue_len(&control, name, config.transmit_queue_len)?;
        let mtu = set_mtu(&control, name, config.mtu)?;
        Ok(Self {
            file,
            name: name.to_text(),
            mtu,
            offloads,
            virtio_header: config.virtio_header,
            counters: TunCounters::default(),
        })
    }

    /// The interface's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The interface's MTU in octets, as it was when opened.
    pub fn mtu(&self) -> usize {
        self.mtu
    }

    /// What the kernel granted.
    pub fn offloads(&self) -> OffloadSet {
        self.offloads
    }

    /// The interface's counters, which go on counting after [`Self::into_device`].
    pub fn counters(&self) -> TunCounters {
        self.counters.clone()
    }

    /// Registers the interface with the current runtime and gives its two halves.
    ///
    /// # Errors
    /// Outside a tokio runtime, and what `epoll` says.
    ///
    /// # Panics
    /// In a runtime built without `enable_io`.
    pub fn into_device(self) -> io::Result<Device> {
        tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        let queue = Arc::new(Queue {
            fd: sys::register(self.file)?,
            virtio_header: self.virtio_header,
            counters: self.counters,
        });
        Ok(Device::new(
            self.name,
            TunReceiver {
                removed: Some(removal(Arc::clone(&queue))),
                queue: Arc::clone(&queue),
                pool: ReceivePool::new(BUFFER_SIZE),
            },
            TunTransmitter { queue },
            Capabilities {
                medium: Medium::Ip,
                mtu: self.mtu,
                offloads: self.offloads,
                max_super_packet: usize::from(u16::MAX),
            },
        ))
    }
}

/// What became of packets that did not get through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunStatistics {
    /// Packets from the kernel whose offload metadata made no sense.
    pub receive_malformed: u64,
    /// Packets the kernel refused for their own sake (`EINVAL`, `EMSGSIZE`, no memory).
    pub transmit_refused: u64,
    /// Packets sent while the interface was down.
    pub transmit_down: u64,
}

/// The counters of an interface, shared with its halves.
#[derive(Clone, Debug, Default)]
pub struct TunCounters(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    receive_malformed: AtomicU64,
    transmit_refused: AtomicU64,
    transmit_down: AtomicU64,
}

impl TunCounters {
    /// The counts now.
    pub fn snapshot(&self) -> TunStatistics {
        TunStatistics {
            receive_malformed: self.0.receive_malformed.load(Ordering::Relaxed),
            transmit_refused: self.0.transmit_refused.load(Ordering::Relaxed),
            transmit_down: self.0.transmit_down.load(Ordering::Relaxed),
        }
    }
}

/// One descriptor of the interface, as both halves use it.
struct Queue {
    fd: AsyncFd<File>,
    virtio_header: bool,
    counters: TunCounters,
}

impl Queue {
    /// Reads one packet; `None` if it made no sense and was counted.
    fn read_packet(&self, pool: &mut ReceivePool) -> io::Result<Option<Packet>> {
        let mut file = self.fd.get_ref();
        if !self.virtio_header {
            let len = file.read(pool.buffer())?;
            return Ok(Some(Packet::from_bytes(pool.take(len))));
        }
        let mut header = [0; VIRTIO_HEADER_LEN];
        let mut slices = [IoSliceMut::new(&mut header), IoSliceMut::new(pool.buffer())];
        let read = match file.read_vectored(&mut slices) {
            // A super-packet that virtio cannot describe: the kernel has dropped it and says so.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => None,
            result => result?.checked_sub(VIRTIO_HEADER_LEN),
        };
        let decoded = read.and_then(|len| {
            let octets = pool.buffer().get(..len)?;
            Some((
                len,
                virtio_header::decode(&header, octets, Medium::Ip).ok()?,
            ))
        });
        let Some((len, offload)) = decoded else {
            self.counters
                .0
                .receive_malformed
                .fetch_add(1, Ordering::Relaxed);
            return Ok(None);
        };
        let mut packet = Packet::from_bytes(pool.take(len));
        packet.offload = offload;
        Ok(Some(packet))
    }

    /// Writes packets from the front until the kernel takes no more.
    fn write_packets(&self, queue: &mut VecDeque<Packet>) -> io::Result<()> {
        while let Some(packet) = queue.front() {
            match self.write_packet(packet) {
                Ok(()) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => continue,
                    Some(libc::EIO) => {
                        self.counters
                            .0
                            .transmit_down
                            .fetch_add(1, Ordering::Relaxed);
                    }
                    Some(libc::EINVAL | libc::EMSGSIZE | libc::ENOMEM | libc::ENOBUFS) => {
                        self.counters
                            .0
                            .transmit_refused
                            .fetch_add(1, Ordering::Relaxed);
                    }
                    _ => return Err(error),
                },
            }
            queue.pop_front();
        }
        Ok(())
    }

    fn write_packet(&self, packet: &Packet) -> io::Result<()> {
        let mut file = self.fd.get_ref();
        let flat;
        let packet = if packet.body().len() < MAX_SLICES {
            packet
        } else {
            flat = flattened(packet);
            &flat
        };
        if self.virtio_header {
            let header = virtio_header::encode(packet);
            let mut slices: SmallVec<[IoSlice<'_>; 6]> = SmallVec::new();
            slices.push(IoSlice::new(&header));
            slices.extend(packet.slices().map(IoSlice::new));
            let written = file.write_vectored(&slices)?;
            debug_assert_eq!(
                written,
                VIRTIO_HEADER_LEN + packet.len(),
                "a TUN takes packets whole"
            );
        } else {
            debug_assert!(
                packet.offload.segmentation.is_none()
                    && !matches!(packet.offload.checksum, Checksum::Partial { .. }),
                "a device without offloads gets complete packets"
            );
            let written = file.write_vectored(&packet.io_slices())?;
            debug_assert_eq!(written, packet.len(), "a TUN takes packets whole");
        }
        Ok(())
    }
}

/// The receiving half.
struct TunReceiver {
    queue: Arc<Queue>,
    pool: ReceivePool,
    /// `None` once it is.
    removed: Option<Removal>,
}

/// Ends when the interface is removed.
type Removal = Pin<Box<dyn Future<Output = ()> + Send>>;

/// `epoll` reports a removed interface as an error *without* readability, which does not wake a reader.
fn removal(queue: Arc<Queue>) -> Removal {
    Box::pin(async move {
        // An error means that the runtime ends; so does the device.
        let _ = queue.fd.ready(Interest::ERROR).await;
    })
}

impl Receiver for TunReceiver {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Packet>,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            let Poll::Ready(ready) = self.queue.fd.poll_read_ready(cx) else {
                if let Some(removed) = &mut self.removed {
                    ready!(removed.as_mut().poll(cx));
                    self.removed = None;
                }
                return Poll::Ready(Err(io::Error::from_raw_os_error(libc::ENODEV)));
            };
            let mut ready = ready?;
            let mut received = 0;
            let mut octets = 0;
            for _ in 0..limit.max(1) {
                if octets >= BATCH_OCTETS {
                    break;
                }
                match self.queue.read_packet(&mut self.pool) {
                    Ok(Some(packet)) => {
                        octets += packet.len();
                        batch.push(packet);
                        received += 1;
                    }
                    Ok(None) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        // Only here: after reads that stopped at a limit no new edge would come.
                        ready.clear_ready();
                        break;
                    }
                    Err(error) if received == 0 => return Poll::Ready(Err(error)),
                    // The next call meets it again.
                    Err(_) => break,
                }
            }
            if received > 0 {
                return Poll::Ready(Ok(received));
            }
        }
    }
}

/// The sending half.
struct TunTransmitter {
    queue: Arc<Queue>,
}

impl Transmitter for TunTransmitter {
    fn try_transmit(&self, packets: &mut VecDeque<Packet>) -> io::Result<()> {
        let mut tried = false;
        let result = self.queue.fd.try_io(Interest::WRITABLE, |_| {
            tried = true;
            self.queue.write_packets(packets)
        });
        if tried {
            return result;
        }
        // The cached readiness says "full", or the runtime has not looked yet. The kernel knows better; if it
        // is full indeed, the cache is empty already and `poll_transmit_ready` will wait.
        self.queue.write_packets(packets)
    }

    fn poll_transmit_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Readiness stays until `try_transmit` has seen the device full.
        self.queue.fd.poll_write_ready(cx).map_ok(drop)
    }
}

/// The file that gives TUN interfaces.
const CLONE_DEVICE: &str = "/dev/net/tun";

/// The largest packet: an IPv6 header does not count in its 16-bit length field.
const BUFFER_SIZE: usize = 40 + 65_535;

/// A batch ends with the packet that reaches this many octets, so that its data is still in the processor's cache when
/// the stack copies it: four super-packets at a time came at 10 GB/s, 64 at a time at 5 (2 cores, 64 KiB reads).
const BATCH_OCTETS: usize = 4 * 60_000;

/// Slices one `writev` takes, header included, are 1,024 (`IOV_MAX`); the standard library cuts off the rest silently.
const MAX_SLICES: usize = 1_000;

/// What is asked for, one group after the other. Linux takes the two USO bits only together, and ECN only with TSO.
const OFFLOAD_GROUPS: [u32; 5] = [
    libc::TUN_F_CSUM,
    libc::TUN_F_TSO4,
    libc::TUN_F_TSO6,
    libc::TUN_F_TSO_ECN,
    libc::TUN_F_USO4 | libc::TUN_F_USO6,
];

fn attach(file: &File, name: InterfaceName, virtio_header: bool) -> io::Result<InterfaceName> {
    let mut flags = libc::IFF_TUN | libc::IFF_NO_PI;
    if virtio_header {
        flags |= libc::IFF_VNET_HDR;
    }
    match sys::attach_tun(file, name, flags) {
        // An interface made with `multi_queue` takes only descriptors that say so; one queue is enough for us.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            sys::attach_tun(file, name, flags | libc::IFF_MULTI_QUEUE as c_int)
        }
        result => result,
    }
}

/// Adds one group of offloads after the other and keeps those that the kernel takes.
///
/// The call is made at least once: an interface that outlives its users still has the last one's offloads.
fn negotiate(groups: &[u32], mut set: impl FnMut(u32) -> io::Result<()>) -> io::Result<OffloadSet> {
    let mut granted = 0;
    set(granted)?;
    for group in groups {
        match set(granted | group) {
            Ok(()) => granted |= group,
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err(error),
        }
    }
    let has = |bits| granted & bits == bits;
    Ok(OffloadSet {
        checksum: has(libc::TUN_F_CSUM),
        tso4: has(libc::TUN_F_TSO4),
        tso6: has(libc::TUN_F_TSO6),
        tso_ecn: has(libc::TUN_F_TSO_ECN),
        uso4: has(libc::TUN_F_USO4),
        uso6: has(libc::TUN_F_USO6),
    })
}

/// Makes a short queue longer. A user who may attach but not configure keeps what the interface has.
fn set_queue_len(control: &InterfaceControl, name: InterfaceName, wanted: usize) -> io::Result<()> {
    if control.transmit_queue_len(name)? >= wanted {
        return Ok(());
    }
    match control.set_transmit_queue_len(name, wanted) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

/// Sets the MTU if it is to change, and gives what it is.
fn set_mtu(
    control: &InterfaceControl,
    name: InterfaceName,
    wanted: Option<usize>,
) -> io::Result<usize> {
    let mtu = control.mtu(name)?;
    let Some(wanted) = wanted.filter(|&wanted| wanted != mtu) else {
        return Ok(mtu);
    };
    control.set_mtu(name, wanted).map_err(|error| {
        let name = name.to_text();
        let advice = match error.raw_os_error() {
            Some(libc::EPERM) => {
                format!("needs CAP_NET_ADMIN; as root: ip link set {name} mtu {wanted}")
            }
            _ => "a TUN takes 68 to 65,535 octets".to_owned(),
        };
        explained(
            &error,
            &format!("cannot set the MTU of {name} to {wanted}"),
            &advice,
        )
    })?;
    Ok(wanted)
}

fn flattened(packet: &Packet) -> Packet {
    let mut flat = Packet::from_bytes(packet.to_bytes());
    flat.offload = packet.offload;
    flat
}

fn explain_open(error: io::Error) -> io::Error {
    let advice = match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
            "load the kernel's TUN driver (modprobe tun), or give the container the device"
        }
        Some(libc::EACCES | libc::EPERM) => {
            "run as root, or let this user open it (chmod 0666 /dev/net/tun)"
        }
        _ => "it has to be readable and writable",
    };
    explained(&error, &format!("cannot open {CLONE_DEVICE}"), advice)
}

fn explain_attach(error: io::Error, name: Option<&str>) -> io::Error {
    let name = name.unwrap_or("tun%d");
    let advice = match error.raw_os_error() {
        Some(libc::EPERM) => format!(
            "run with CAP_NET_ADMIN (as root), or make it for this user beforehand: \
             ip tuntap add dev {name} mode tun user NAME"
        ),
        Some(libc::EBUSY) => {
            "another program is attached to it; end that one or use another name".to_owned()
        }
        Some(libc::EINVAL) => format!(
            "an interface of this name exists and is no TUN (ip -d link show {name}); use another name"
        ),
        _ => "see dmesg".to_owned(),
    };
    explained(
        &error,
        &format!("cannot attach to TUN interface {name}"),
        &advice,
    )
}

fn explained(error: &io::Error, what: &str, advice: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}: {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel that knows some offloads; like Linux it refuses a request with a bit it does not know.
    fn granted_by(known: u32) -> (Vec<&'static str>, u32) {
        let mut set = u32::MAX;
        let offloads = negotiate(&OFFLOAD_GROUPS, |bits| {
            if bits & !known != 0 {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
            set = bits;
            Ok(())
        })
        .expect("refusals are no errors");
        (offloads.names(), set)
    }

    #[test]
    fn offloads_degrade_one_by_one() {
        let [csum, tso4, tso6, ecn, uso] = OFFLOAD_GROUPS;
        let table: &[(u32, &[&str])] = &[
            (
                csum | tso4 | tso6 | ecn | uso,
                &["csum", "tso4", "tso6", "tso_ecn", "uso4", "uso6"],
            ),
            (
                csum | tso4 | tso6 | ecn,
                &["csum", "tso4", "tso6", "tso_ecn"],
            ),
            (
                csum | tso4 | tso6 | libc::TUN_F_USO4,
                &["csum", "tso4", "tso6"],
            ),
            (csum | tso6, &["csum", "tso6"]),
            (csum, &["csum"]),
            (0, &[]),
        ];
        for &(known, names) in table {
            let (granted, set) = granted_by(known);
            assert_eq!(granted, names, "a kernel that knows {known:#x}");
            assert_eq!(granted.is_empty(), set == 0);
        }
    }

    #[test]
    fn offloads_of_an_earlier_user_are_switched_off() {
        let mut set = Vec::new();
        let offloads = negotiate(&[], |bits| {
            set.push(bits);
            Ok(())
        });
        assert_eq!(offloads.expect("granted"), OffloadSet::NONE);
        assert_eq!(set, [0]);
    }

    #[test]
    fn errors_say_what_to_do() {
        let error = |number| io::Error::from_raw_os_error(number);
        let table = [
            (
                explain_open(error(libc::ENOENT)),
                io::ErrorKind::NotFound,
                "modprobe tun",
            ),
            (
                explain_open(error(libc::EACCES)),
                io::ErrorKind::PermissionDenied,
                "run as root",
            ),
            (
                explain_attach(error(libc::EPERM), Some("tw0")),
                io::ErrorKind::PermissionDenied,
                "CAP_NET_ADMIN",
            ),
            (
                explain_attach(error(libc::EBUSY), Some("tw0")),
                io::ErrorKind::ResourceBusy,
                "another program",
            ),
            (
                explain_attach(error(libc::EINVAL), Some("eth0")),
                io::ErrorKind::InvalidInput,
                "is no TUN",
            ),
        ];
        for (error, kind, advice) in table {
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains(advice), "{error}");
        }
    }
}
