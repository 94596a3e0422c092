//! One descriptor of a device: packets are read from it and written to it one by one, whatever kind it is of.
//!
//! TUN, TAP and packet sockets all take a packet, or a super-packet, per `readv` and `writev`, with a virtio-net header
//! before it. `recvmmsg` and `sendmmsg` gain nothing that could be measured on a packet socket (out 530–760 kpps
//! either way, in 270–330 kpps either way; 2 cores, veth, MTU-sized): the cost is the kernel's work, not the call.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::sync::Arc;

use smallvec::SmallVec;
use tokio::io::unix::AsyncFd;

use super::counters::{InterfaceCounters, count};
use super::sys;
use crate::device::Medium;
use crate::offload::Checksum;
use crate::packet::Packet;
use crate::pool::ReceivePool;
use crate::virtio_header::{self, VIRTIO_HEADER_LEN};

/// The largest packet: a tagged Ethernet header before an IPv6 packet, whose own header does not count in its 16-bit
/// length field.
pub(super) const BUFFER_SIZE: usize = 18 + 40 + 65_535;

/// Slices one `writev` takes, header included, are 1,024 (`IOV_MAX`); the standard library cuts off the rest silently.
const MAX_SLICES: usize = 1_000;

/// Why the kernel takes no packet now. None of these is the packet's fault: it stays where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hindrance {
    /// The descriptor's own buffer is full (`EAGAIN`): `epoll` says when it has room.
    Full,
    /// A queue further down is full (`ENOBUFS`) or memory is short: nobody says when there is room.
    Busy,
    /// The interface is down (`EIO` of a TUN or TAP, `ENETDOWN` of a packet socket).
    Down,
}

/// A descriptor of the interface, as both halves of a queue use it.
pub(super) struct Queue {
    pub(super) fd: AsyncFd<Arc<File>>,
    medium: Medium,
    virtio_header: bool,
    pub(super) counters: InterfaceCounters,
}

impl Queue {
    /// Registers a descriptor with the current runtime.
    pub(super) fn new(
        file: Arc<File>,
        medium: Medium,
        virtio_header: bool,
        counters: InterfaceCounters,
    ) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            fd: sys::register(file)?,
            medium,
            virtio_header,
            counters,
        }))
    }

    /// Reads one packet; `None` if it made no sense and was counted.
    pub(super) fn read_packet(&self, pool: &mut ReceivePool) -> io::Result<Option<Packet>> {
        let mut file: &File = self.fd.get_ref();
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
                virtio_header::decode(&header, octets, self.medium).ok()?,
            ))
        });
        let Some((len, offload)) = decoded else {
            count(&self.counters.counts().receive_malformed);
            return Ok(None);
        };
        let mut packet = Packet::from_bytes(pool.take(len));
        packet.offload = offload;
        Ok(Some(packet))
    }

    /// A packet from elsewhere than the descriptor, behind its virtio-net header; `None` if it made no sense and was
    /// counted.
    pub(super) fn decode(&self, octets: Option<&[u8]>, pool: &mut ReceivePool) -> Option<Packet> {
        let packet = octets.and_then(|octets| {
            let (header, octets) = octets.split_first_chunk()?;
            let offload = virtio_header::decode(header, octets, self.medium).ok()?;
            let mut packet = Packet::from_bytes(pool.copy(octets));
            packet.offload = offload;
            Some(packet)
        });
        if packet.is_none() {
            count(&self.counters.counts().receive_malformed);
        }
        packet
    }

    /// Writes packets from the front until there is none or the kernel takes no more, and says why it does not.
    pub(super) fn write_packets(
        &self,
        packets: &mut VecDeque<Packet>,
    ) -> io::Result<Option<Hindrance>> {
        let counts = self.counters.counts();
        while let Some(packet) = packets.front() {
            if let Err(error) = self.write_packet(packet) {
                match error.raw_os_error() {
                    Some(libc::EINTR) => continue,
                    Some(libc::EINVAL | libc::EMSGSIZE) => count(&counts.transmit_refused),
                    Some(libc::EAGAIN) => {
                        count(&counts.transmit_full);
                        return Ok(Some(Hindrance::Full));
                    }
                    Some(libc::ENOBUFS | libc::ENOMEM) => {
                        count(&counts.transmit_busy);
                        return Ok(Some(Hindrance::Busy));
                    }
                    Some(libc::EIO | libc::ENETDOWN) => {
                        count(&counts.transmit_down);
                        return Ok(Some(Hindrance::Down));
                    }
                    _ => return Err(error),
                }
            }
            packets.pop_front();
        }
        Ok(None)
    }

    fn write_packet(&self, packet: &Packet) -> io::Result<()> {
        let mut file: &File = self.fd.get_ref();
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
                "the kernel takes packets whole"
            );
        } else {
            debug_assert!(
                packet.offload.segmentation.is_none()
                    && !matches!(packet.offload.checksum, Checksum::Partial { .. }),
                "a device without offloads gets complete packets"
            );
            let written = file.write_vectored(&packet.io_slices())?;
            debug_assert_eq!(written, packet.len(), "the kernel takes packets whole");
        }
        Ok(())
    }
}

fn flattened(packet: &Packet) -> Packet {
    let mut flat = Packet::from_bytes(packet.to_bytes());
    flat.offload = packet.offload;
    flat
}
