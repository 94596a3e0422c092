//! Packets in, packets out: the devices, in-memory links and captures that Tidewire's stack runs on.
//!
//! This crate knows no protocol above the link. It moves [`Packet`]s between a device and the stack, tells
//! the stack what the device can do for it ([`Capabilities`]), and does in software what a device cannot
//! ([`segmentation`], [`coalescing`], [`checksum`]).
//!
//! ```text
//!  stack ── Packet + Offload ──▶ Transmitter ──▶ TUN | memory pair | impaired link
//!  stack ◀─ Packet + Offload ─── Receiver    ◀── (same)
//! ```

pub mod capture;
mod carry;
pub mod checksum;
pub mod coalescing;
pub mod crc32c;
pub mod device;
pub mod errno;
pub mod flow_hash;
mod headers;
#[cfg(target_os = "linux")]
pub mod linux;
pub mod mac;
pub mod memory;
pub mod offload;
pub mod packet;
pub mod pool;
pub mod segmentation;
#[cfg(test)]
mod test_packets;
pub mod virtio_header;

pub use carry::carry;
pub use device::{Capabilities, Device, DeviceQueue, Medium, OffloadSet, Receiver, Transmitter};
pub use mac::MacAddress;
pub use offload::{Checksum, Segmentation, SegmentationKind};
pub use packet::{Packet, Payload};
