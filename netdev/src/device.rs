//! The two halves of a device, and what it can do.
//!
//! A driver task owns the [`Receiver`]; the [`Transmitter`] is shared, since a writing task sends its packets
//! itself when nobody else is sending. Only the driver waits for a full transmitter to drain.
//!
//! # A device of one's own
//!
//! Whatever carries packets can be a device. This one is a loopback for IP packets; `examples/tunnel.rs` joins two
//! stacks by channels in the same way, with back-pressure.
//!
//! ```
//! use std::collections::VecDeque;
//! use std::io;
//! use std::sync::{Arc, Mutex};
//! use std::task::{Context, Poll, Waker};
//! use tidewire_netdev::{Capabilities, Device, Medium, OffloadSet, Packet, Receiver, Transmitter};
//!
//! #[derive(Default)]
//! struct Loop {
//!     packets: VecDeque<Packet>,
//!     reader: Option<Waker>,
//! }
//!
//! struct LoopReceiver(Arc<Mutex<Loop>>);
//!
//! impl Receiver for LoopReceiver {
//!     fn poll_receive(
//!         &mut self,
//!         cx: &mut Context<'_>,
//!         batch: &mut Vec<Packet>,
//!         limit: usize,
//!     ) -> Poll<io::Result<usize>> {
//!         let mut queue = self.0.lock().unwrap();
//!         if queue.packets.is_empty() {
//!             queue.reader = Some(cx.waker().clone());
//!             return Poll::Pending;
//!         }
//!         let count = queue.packets.len().min(limit.max(1));
//!         batch.extend(queue.packets.drain(..count));
//!         Poll::Ready(Ok(count))
//!     }
//! }
//!
//! struct LoopTransmitter(Arc<Mutex<Loop>>);
//!
//! impl Transmitter for LoopTransmitter {
//!     fn try_transmit(&self, packets: &mut VecDeque<Packet>) -> io::Result<()> {
//!         let mut queue = self.0.lock().unwrap();
//!         queue.packets.append(packets); // a real one has a bound, and gives `WouldBlock` there
//!         let reader = queue.reader.take();
//!         drop(queue);
//!         reader.into_iter().for_each(Waker::wake); // with no lock held
//!         Ok(())
//!     }
//!
//!     fn poll_transmit_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
//!         Poll::Ready(Ok(()))
//!     }
//! }
//!
//! let queue = Arc::new(Mutex::new(Loop::default()));
//! let capabilities = Capabilities {
//!     medium: Medium::Ip,
//!     mtu: 1500,
//!     offloads: OffloadSet::NONE, // it wants complete checksums and packets of at most `mtu` octets
//!     max_super_packet: 65_535,
//! };
//! let receiver = LoopReceiver(Arc::clone(&queue));
//! let device = Device::new("loop0", receiver, LoopTransmitter(queue), capabilities);
//! assert_eq!(device.queue_count(), 1);
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::task::{Context, Poll};

use crate::mac::MacAddress;
use crate::packet::Packet;

/// What a device's packets begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Medium {
    /// An IPv4 or IPv6 header.
    #[default]
    Ip,
    /// An Ethernet header of 14 octets.
    Ethernet,
}

/// What a transmitter does itself, so that the stack need not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct OffloadSet {
    /// Completes partial transport checksums (and accepts packets received with partial ones).
    pub checksum: bool,
    /// Cuts TCP over IPv4.
    pub tso4: bool,
    /// Cuts TCP over IPv6.
    pub tso6: bool,
    /// Cuts TCP with CWR set.
    pub tso_ecn: bool,
    /// Cuts UDP over IPv4.
    pub uso4: bool,
    /// Cuts UDP over IPv6.
    pub uso6: bool,
}

impl OffloadSet {
    /// Nothing: every packet is complete and wire-sized.
    pub const NONE: Self = Self {
        checksum: false,
        tso4: false,
        tso6: false,
        tso_ecn: false,
        uso4: false,
        uso6: false,
    };
    /// Everything, as in-memory links have it.
    pub const ALL: Self = Self {
        checksum: true,
        tso4: true,
        tso6: true,
        tso_ecn: true,
        uso4: true,
        uso6: true,
    };

    /// The names of what is granted: `csum`, `tso4`, `tso6`, `tso_ecn`, `uso4`, `uso6`.
    pub fn names(&self) -> Vec<&'static str> {
        let all = [
            (self.checksum, "csum"),
            (self.tso4, "tso4"),
            (self.tso6, "tso6"),
            (self.tso_ecn, "tso_ecn"),
            (self.uso4, "uso4"),
            (self.uso6, "uso6"),
        ];
        all.iter()
            .filter(|(granted, _)| *granted)
            .map(|(_, name)| *name)
            .collect()
    }
}

/// What a device is and can do. Fixed for a device's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// What packets begin with.
    pub medium: Medium,
    /// The largest network-layer packet the link carries, in octets (Ethernet header not counted).
    pub mtu: usize,
    /// What [`Transmitter::try_transmit`] does itself.
    pub offloads: OffloadSet,
    /// The largest super-packet the device takes, in octets, network header included. At most 65,535.
    pub max_super_packet: usize,
}

/// The receiving half, owned by one driver task.
pub trait Receiver: Send + 'static {
    /// Appends up to `limit` packets to `batch` and gives their number, at least one.
    ///
    /// `Pending` has registered the waker of `cx`. An error is the device's end: the driver closes every socket
    /// of the interface with it. `Ready(Ok(0))` likewise means that no packet will ever come again.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Packet>,
        limit: usize,
    ) -> Poll<io::Result<usize>>;
}

/// The sending half, callable from any task or thread.
pub trait Transmitter: Send + Sync + 'static {
    /// Sends packets from the front of `queue`, removing each one that the device took.
    ///
    /// [`io::ErrorKind::WouldBlock`] leaves the rest in the queue: the device is full. [`io::ErrorKind::NetworkDown`]
    /// leaves it, too: the link is down, and what is sent meanwhile is lost; the device goes on. A packet that the
    /// device refuses for its own sake (`EMSGSIZE`, `EINVAL`) is removed and counted by the device, not an error. Any
    /// other error is the device's end.
    fn try_transmit(&self, queue: &mut VecDeque<Packet>) -> io::Result<()>;

    /// Waits until [`Self::try_transmit`] may take packets again, after it said that the device is full or its link down.
    /// Only the driver calls this.
    fn poll_transmit_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// One queue of a device: packets in, packets out.
pub struct DeviceQueue {
    /// Packets in.
    pub receiver: Box<dyn Receiver>,
    /// Packets out.
    pub transmitter: Box<dyn Transmitter>,
}

/// A device, ready to be given to a stack.
///
/// One with several queues gets a driver task for each, so that they run on several threads. Which packets come
/// through which queue is the device's choice; packets of one flow should come through one
/// ([`flow_hash`](crate::flow_hash)), or they may overtake each other.
pub struct Device {
    /// A name for logs and for `bind_device`, as an interface has it.
    pub name: String,
    /// Packets in, on the first queue.
    pub receiver: Box<dyn Receiver>,
    /// Packets out, on the first queue.
    pub transmitter: Box<dyn Transmitter>,
    /// The other queues of a device that has several.
    pub more_queues: Vec<DeviceQueue>,
    /// The address of an Ethernet device that has one; with `None` the stack makes one up.
    pub hardware_address: Option<MacAddress>,
    /// What the device can do.
    pub capabilities: Capabilities,
}

impl Device {
    /// A device of one queue and without a hardware address.
    pub fn new(
        name: impl Into<String>,
        receiver: impl Receiver,
        transmitter: impl Transmitter,
        capabilities: Capabilities,
    ) -> Self {
        Self {
            name: name.into(),
            receiver: Box::new(receiver),
            transmitter: Box::new(transmitter),
            more_queues: Vec::new(),
            hardware_address: None,
            capabilities,
        }
    }

    /// The same device with every queue passed through `change`, first queue first: to watch or to impair it.
    #[must_use]
    pub fn map_queues(mut self, mut change: impl FnMut(DeviceQueue) -> DeviceQueue) -> Self {
        let first = change(DeviceQueue {
            receiver: self.receiver,
            transmitter: self.transmitter,
        });
        self.receiver = first.receiver;
        self.transmitter = first.transmitter;
        self.more_queues = self.more_queues.into_iter().map(change).collect();
        self
    }

    /// Its queues, the first one first.
    pub fn into_queues(self) -> impl Iterator<Item = DeviceQueue> {
        let first = DeviceQueue {
            receiver: self.receiver,
            transmitter: self.transmitter,
        };
        std::iter::once(first).chain(self.more_queues)
    }

    /// How many queues it has.
    pub fn queue_count(&self) -> usize {
        1 + self.more_queues.len()
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("name", &self.name)
            .field("queues", &self.queue_count())
            .field("hardware_address", &self.hardware_address)
            .field("capabilities", &self.capabilities)
            .finish_non_exhaustive()
    }
}
