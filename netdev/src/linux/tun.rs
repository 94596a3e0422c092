//! TUN: a network interface of the kernel whose wire is this process (`Documentation/networking/tuntap.rst`).
//!
//! With a virtio-net header before each packet the kernel hands over super-packets of up to 64 KiB with the checksum left
//! to do, and takes such ones, so that one system call moves 44 MTU-sized packets.
//!
//! Leaves to others the interface's addresses and routes (rtnetlink's job) and everything inside the packets.

use std::io;

use super::counters::TunCounters;
use super::tuntap::{Kind, Opened, Request};
use crate::device::{Device, OffloadSet};

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
    /// Queues, 1 to 256, each with a driver of its own. The kernel sends a flow through the queue on which it last saw
    /// the flow's packets from us. With more than one an existing interface must have been made with `multi_queue`.
    /// Default: 1.
    pub queues: usize,
}

impl Default for TunConfig {
    fn default() -> Self {
        Self {
            name: None,
            mtu: None,
            offload: true,
            virtio_header: true,
            transmit_queue_len: 10_000,
            queues: 1,
        }
    }
}

/// An open TUN interface that no runtime knows yet.
#[derive(Debug)]
pub struct Tun(Opened);

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
        Opened::open(Request {
            kind: Kind::Tun,
            name: config.name.as_deref(),
            mtu: config.mtu,
            offload: config.offload,
            virtio_header: config.virtio_header,
            transmit_queue_len: config.transmit_queue_len,
            queues: config.queues,
        })
        .map(Self)
    }

    /// The interface's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The interface's MTU in octets, as it was when opened.
    pub fn mtu(&self) -> usize {
        self.0.mtu
    }

    /// What the kernel granted.
    pub fn offloads(&self) -> OffloadSet {
        self.0.offloads
    }

    /// The interface's counters, which go on counting after [`Self::into_device`].
    pub fn counters(&self) -> TunCounters {
        self.0.counters.clone()
    }

    /// Registers the interface with the current runtime and gives its halves.
    ///
    /// # Errors
    /// Outside a tokio runtime, and what `epoll` says.
    ///
    /// # Panics
    /// In a runtime built without `enable_io`. Its halves also need `enable_time`, to wait while the interface is down.
    pub fn into_device(self) -> io::Result<Device> {
        self.0.into_device(None)
    }
}
