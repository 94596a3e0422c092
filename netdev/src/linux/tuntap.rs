//! What TUN and TAP share (`Documentation/networking/tuntap.rst`): opening the interface with all its queues, agreeing on
//! offloads, and becoming a device.

use std::ffi::c_int;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use super::counters::InterfaceCounters;
use super::queue::Queue;
use super::receiver::{KernelReceiver, LinkWatch};
use super::sys::tun::{attach_tun, set_tun_offload, set_virtio_header_size};
use super::sys::{InterfaceControl, InterfaceName};
use super::transmitter::KernelTransmitter;
use super::{device, explained};
use crate::device::{Capabilities, Device, Medium, OffloadSet};
use crate::mac::MacAddress;
use crate::virtio_header::VIRTIO_HEADER_LEN;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Network packets.
    Tun,
    /// Ethernet frames.
    Tap,
}

impl Kind {
    fn flag(self) -> c_int {
        match self {
            Self::Tun => libc::IFF_TUN,
            Self::Tap => libc::IFF_TAP,
        }
    }

    fn medium(self) -> Medium {
        match self {
            Self::Tun => Medium::Ip,
            Self::Tap => Medium::Ethernet,
        }
    }

    /// Its name in texts.
    fn text(self) -> &'static str {
        match self {
            Self::Tun => "TUN",
            Self::Tap => "TAP",
        }
    }

    /// Its name on the command line of `ip`.
    fn mode(self) -> &'static str {
        match self {
            Self::Tun => "tun",
            Self::Tap => "tap",
        }
    }
}

/// What is to be opened, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) kind: Kind,
    pub(super) name: Option<&'a str>,
    pub(super) mtu: Option<usize>,
    pub(super) offload: bool,
    pub(super) virtio_header: bool,
    pub(super) transmit_queue_len: usize,
    pub(super) queues: usize,
}

/// An open interface that no runtime knows yet.
#[derive(Debug)]
pub(super) struct Opened {
    kind: Kind,
    /// One for each queue.
    files: Vec<File>,
    pub(super) name: String,
    pub(super) mtu: usize,
    pub(super) offloads: OffloadSet,
    virtio_header: bool,
    pub(super) counters: InterfaceCounters,
}

impl Opened {
    pub(super) fn open(request: Request<'_>) -> io::Result<Self> {
        if !(1..=MAX_QUEUES).contains(&request.queues) {
            let text = format!(
                "{} queues: a {} has 1 to {MAX_QUEUES}",
                request.queues,
                request.kind.text()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let mut name = match request.name {
            Some(name) => InterfaceName::new(name)?,
            None => InterfaceName::ANY,
        };
        let mut offloads = OffloadSet::NONE;
        let mut files = Vec::with_capacity(request.queues);
        for _ in 0..request.queues {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(CLONE_DEVICE)
                .map_err(explain_open)?;
            // The first queue may make the interface and so give it its name; the others join it.
            name = attach(&file, name, &request).map_err(|error| explain_attach(error, request))?;
            if request.virtio_header {
                set_virtio_header_size(&file, VIRTIO_HEADER_LEN)?;
                let groups: &[u32] = if request.offload {
                    &OFFLOAD_GROUPS
                } else {
                    &[]
                };
                // The kernel keeps offloads for the interface, not for the queue, so that every queue gets the same.
                offloads = negotiate(groups, |bits| set_tun_offload(&file, bits))?;
            }
            files.push(file);
        }
        let control = InterfaceControl::open()?;
        set_queue_len(&control, name, request.transmit_queue_len)?;
        let mtu = set_mtu(&control, name, request)?;
        Ok(Self {
            kind: request.kind,
            files,
            name: name.to_text(),
            mtu,
            offloads,
            virtio_header: request.virtio_header,
            counters: InterfaceCounters::default(),
        })
    }

    /// Registers every queue with the current runtime.
    pub(super) fn into_device(self, hardware_address: Option<MacAddress>) -> io::Result<Device> {
        tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        let mut halves = Vec::with_capacity(self.files.len());
        for file in self.files {
            let queue = Queue::new(
                Arc::new(file),
                self.kind.medium(),
                self.virtio_header,
                self.counters.clone(),
            )?;
            let link = LinkWatch::tun(&queue);
            halves.push((
                KernelReceiver::new(Arc::clone(&queue), link, None),
                KernelTransmitter::new(queue),
            ));
        }
        let capabilities = Capabilities {
            medium: self.kind.medium(),
            mtu: self.mtu,
            offloads: self.offloads,
            max_super_packet: usize::from(u16::MAX),
        };
        device(self.name, halves, hardware_address, capabilities)
    }
}

/// The file that gives TUN and TAP interfaces.
const CLONE_DEVICE: &str = "/dev/net/tun";

/// The most queues an interface has (`MAX_TAP_QUEUES` in the kernel).
const MAX_QUEUES: usize = 256;

/// What is asked for, one group after the other. Linux takes the two USO bits only together, and ECN only with TSO.
const OFFLOAD_GROUPS: [u32; 5] = [
    libc::TUN_F_CSUM,
    libc::TUN_F_TSO4,
    libc::TUN_F_TSO6,
    libc::TUN_F_TSO_ECN,
    libc::TUN_F_USO4 | libc::TUN_F_USO6,
];

fn attach(file: &File, name: InterfaceName, request: &Request<'_>) -> io::Result<InterfaceName> {
    let mut flags = request.kind.flag() | libc::IFF_NO_PI;
    if request.virtio_header {
        flags |= libc::IFF_VNET_HDR;
    }
    let several = flags | libc::IFF_MULTI_QUEUE as c_int;
    if request.queues > 1 {
        return attach_tun(file, name, several);
    }
    match attach_tun(file, name, flags) {
        // An interface made with `multi_queue` takes only descriptors that say so; one queue is enough for us.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => attach_tun(file, name, several),
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
    request: Request<'_>,
) -> io::Result<usize> {
    let mtu = control.mtu(name)?;
    let Some(wanted) = request.mtu.filter(|&wanted| wanted != mtu) else {
        return Ok(mtu);
    };
    control.set_mtu(name, wanted).map_err(|error| {
        let name = name.to_text();
        let advice = match error.raw_os_error() {
            Some(libc::EPERM) => {
                format!("needs CAP_NET_ADMIN; as root: ip link set {name} mtu {wanted}")
            }
            _ => match request.kind {
                Kind::Tun => "a TUN takes 68 to 65,535 octets".to_owned(),
                Kind::Tap => "a TAP takes 68 to 65,521 octets".to_owned(),
            },
        };
        explained(
            &error,
            &format!("cannot set the MTU of {name} to {wanted}"),
            &advice,
        )
    })?;
    Ok(wanted)
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

fn explain_attach(error: io::Error, request: Request<'_>) -> io::Error {
    let (kind, mode) = (request.kind.text(), request.kind.mode());
    let default = format!("{mode}%d");
    let name = request.name.unwrap_or(&default);
    let several = if request.queues > 1 {
        " multi_queue"
    } else {
        ""
    };
    let advice = match error.raw_os_error() {
        Some(libc::EPERM) => format!(
            "run with CAP_NET_ADMIN (as root), or make it for this user beforehand: \
             ip tuntap add dev {name} mode {mode}{several} user NAME"
        ),
        Some(libc::EBUSY) => {
            "another program is attached to it; end that one or use another name".to_owned()
        }
        Some(libc::E2BIG) => {
            "other programs hold its queues; end them or ask for fewer queues".to_owned()
        }
        Some(libc::EINVAL) => {
            let or_one_queue = if request.queues > 1 {
                ", or one that was made for a single queue"
            } else {
                ""
            };
            format!(
                "an interface of this name exists and is no {kind}{or_one_queue} (ip -d link show {name}); \
                 use another name"
            )
        }
        _ => "see dmesg".to_owned(),
    };
    explained(
        &error,
        &format!("cannot attach to {kind} interface {name}"),
        &advice,
    )
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
        let request = |kind, name, queues| Request {
            kind,
            name: Some(name),
            mtu: None,
            offload: true,
            virtio_header: true,
            transmit_queue_len: 0,
            queues,
        };
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
                explain_attach(error(libc::EPERM), request(Kind::Tun, "tw0", 1)),
                io::ErrorKind::PermissionDenied,
                "CAP_NET_ADMIN",
            ),
            (
                explain_attach(error(libc::EBUSY), request(Kind::Tun, "tw0", 1)),
                io::ErrorKind::ResourceBusy,
                "another program",
            ),
            (
                explain_attach(error(libc::EINVAL), request(Kind::Tun, "eth0", 1)),
                io::ErrorKind::InvalidInput,
                "is no TUN (",
            ),
            (
                explain_attach(error(libc::EINVAL), request(Kind::Tap, "tw0", 2)),
                io::ErrorKind::InvalidInput,
                "is no TAP, or one that was made for a single queue",
            ),
            (
                explain_attach(error(libc::EPERM), request(Kind::Tap, "tw0", 2)),
                io::ErrorKind::PermissionDenied,
                "mode tap multi_queue",
            ),
        ];
        for (error, kind, advice) in table {
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains(advice), "{error}");
        }
    }
}
