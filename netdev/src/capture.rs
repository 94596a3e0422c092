//! Records what passes a device as pcapng (draft-ietf-opsawg-pcapng), for Wireshark and for comparing simulations.
//!
//! What is recorded is what a wire would carry: partial checksums are completed and super-packets cut, unless the whole
//! super-packet is asked for. Times are given by the caller, in nanoseconds; the same packets at the same times give the
//! same file, octet for octet. Buffering and opening files is the caller's matter.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, PcapError};

use crate::device::{Device, DeviceQueue, Medium, Receiver, Transmitter};
use crate::packet::Packet;
use crate::segmentation::{CutChecksum, complete_checksum, segment};

/// How super-packets appear in a capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SuperPackets {
    /// Cut into the packets that a wire would carry.
    #[default]
    Cut,
    /// Whole, as they pass the device.
    Whole,
}

/// What is recorded, and how much of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureConfig {
    /// How super-packets appear. Default: cut.
    pub super_packets: SuperPackets,
    /// The most octets written, file structure included; packets beyond are counted and left out. Default: no limit.
    pub limit_bytes: Option<u64>,
}

/// Which way a packet passed the device, as seen from its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Received.
    Inbound,
    /// Sent.
    Outbound,
}

/// An interface of one capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceIndex(u32);

/// What a capture has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureStats {
    /// Packets recorded, each cut counted.
    pub packets: u64,
    /// Octets written, file structure included.
    pub bytes: u64,
    /// Packets left out after the limit or a failed write.
    pub left_out: u64,
}

/// A capture being written.
pub struct Capture<W: Write> {
    writer: PcapNgWriter<W>,
    config: CaptureConfig,
    media: Vec<Medium>,
    stats: CaptureStats,
    /// A write failed; what follows would not be readable.
    has_failed: bool,
    /// Packets are put together here.
    scratch: Vec<u8>,
}

/// Octets that a section header block takes without options.
const SECTION_HEADER: u64 = 28;
/// Octets of an enhanced packet block besides the packet and its padding: 32 of its own, 12 of options.
const PACKET_OVERHEAD: u64 = 44;

impl<W: Write> Capture<W> {
    /// Begins a capture.
    ///
    /// # Errors
    /// Those of `writer`.
    pub fn new(writer: W, config: CaptureConfig) -> io::Result<Self> {
        Ok(Self {
            writer: PcapNgWriter::new(writer).map_err(io_error)?,
            config,
            media: Vec::new(),
            stats: CaptureStats {
                bytes: SECTION_HEADER,
                ..CaptureStats::default()
            },
            has_failed: false,
            scratch: Vec::new(),
        })
    }

    /// Adds an interface, under the name that Wireshark shows.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn add_interface(&mut self, name: &str, medium: Medium) -> io::Result<InterfaceIndex> {
        const NANOSECONDS: u8 = 9;
        let block = InterfaceDescriptionBlock {
            linktype: match medium {
                Medium::Ip => DataLink::RAW,
                Medium::Ethernet => DataLink::ETHERNET,
            },
            snaplen: 0, // no limit
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        };
        let written = self.writer.write_pcapng_block(block).map_err(io_error)?;
        self.stats.bytes += written as u64;
        self.media.push(medium);
        Ok(InterfaceIndex(self.media.len() as u32 - 1))
    }

    /// Records `packet`, which passed at `timestamp` since the epoch (that of Unix, or of a simulation).
    ///
    /// # Errors
    /// Those of the writer, once; thereafter packets are left out and counted. An interface of another capture gives
    /// [`io::ErrorKind::InvalidInput`].
    pub fn record(
        &mut self,
        interface: InterfaceIndex,
        direction: Direction,
        timestamp: Duration,
        packet: &Packet,
    ) -> io::Result<()> {
        let Some(medium) = self.media.get(interface.0 as usize).copied() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if packet.offload == Default::default() {
            return self.write(interface, direction, timestamp, packet);
        }
        let is_cut = self.config.super_packets == SuperPackets::Cut;
        if is_cut && packet.offload.segmentation.is_some() {
            let mut cuts = Vec::new();
            let cut = segment(packet.clone(), medium, CutChecksum::Complete, |packet| {
                cuts.push(packet);
            });
            // One that cannot be cut is a finding, so it is recorded as it is.
            if cut.is_ok() {
                return cuts
                    .iter()
                    .try_for_each(|packet| self.write(interface, direction, timestamp, packet));
            }
        }
        let mut packet = packet.clone();
        // A checksum that cannot be completed is a finding, too.
        let _ = complete_checksum(&mut packet);
        self.write(interface, direction, timestamp, &packet)
    }

    /// What this capture has done so far.
    pub fn stats(&self) -> CaptureStats {
        self.stats
    }

    /// Writes out what the writer buffers.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn flush(&mut self) -> io::Result<()> {
        self.writer.get_mut().flush()
    }

    /// Ends the capture.
    pub fn into_inner(self) -> W {
        self.writer.into_inner()
    }

    fn write(
        &mut self,
        interface: InterfaceIndex,
        direction: Direction,
        timestamp: Duration,
        packet: &Packet,
    ) -> io::Result<()> {
        let needed = PACKET_OVERHEAD + packet.len().next_multiple_of(4) as u64;
        let is_full = self
            .config
            .limit_bytes
            .is_some_and(|limit| self.stats.bytes + needed > limit);
        if is_full || self.has_failed {
            self.stats.left_out += 1;
            return Ok(());
        }
        self.scratch.clear();
        for slice in packet.slices() {
            self.scratch.extend_from_slice(slice);
        }
        // The two lowest bits of the flags word (pcapng, 4.3.1).
        let flags = match direction {
            Direction::Inbound => 1,
            Direction::Outbound => 2,
        };
        let block = EnhancedPacketBlock {
            interface_id: interface.0,
            timestamp,
            original_len: self.scratch.len() as u32,
            data: Cow::Borrowed(&self.scratch),
            options: vec![EnhancedPacketOption::Flags(flags)],
        };
        match self.writer.write_pcapng_block(block) {
            Ok(written) => {
                self.stats.packets += 1;
                self.stats.bytes += written as u64;
                Ok(())
            }
            Err(error) => {
                self.has_failed = true;
                self.stats.left_out += 1;
                Err(io_error(error))
            }
        }
    }
}

impl<W: Write> fmt::Debug for Capture<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture")
            .field("config", &self.config)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

fn io_error(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

/// A capture that several devices write to.
pub type SharedCapture<W> = Arc<Mutex<Capture<W>>>;

/// The same device, with every packet that passes it recorded in `capture` under the device's name, at the time that
/// `clock` gives (read once per batch). A write that fails ends the capture, not the device.
///
/// # Errors
/// Those of the capture's writer.
pub fn wrap<W, C>(device: Device, capture: &SharedCapture<W>, clock: C) -> io::Result<Device>
where
    W: Write + Send + 'static,
    C: Fn() -> Duration + Send + Sync + 'static,
{
    let medium = device.capabilities.medium;
    let interface = lock(capture).add_interface(&device.name, medium)?;
    let tap = Arc::new(Tap {
        capture: Arc::clone(capture),
        interface,
        clock,
    });
    Ok(device.map_queues(|queue| DeviceQueue {
        receiver: Box::new(TappedReceiver {
            inner: queue.receiver,
            tap: Arc::clone(&tap),
        }),
        transmitter: Box::new(TappedTransmitter {
            inner: queue.transmitter,
            tap: Arc::clone(&tap),
        }),
    }))
}

fn lock<W: Write>(capture: &SharedCapture<W>) -> MutexGuard<'_, Capture<W>> {
    capture.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Tap<W: Write, C> {
    capture: SharedCapture<W>,
    interface: InterfaceIndex,
    clock: C,
}

impl<W: Write, C: Fn() -> Duration> Tap<W, C> {
    fn record(&self, direction: Direction, timestamp: Duration, packets: &[Packet]) {
        let mut capture = lock(&self.capture);
        for packet in packets {
            // Counted by the capture; the device goes on.
            let _ = capture.record(self.interface, direction, timestamp, packet);
        }
    }
}

struct TappedReceiver<W: Write, C> {
    inner: Box<dyn Receiver>,
    tap: Arc<Tap<W, C>>,
}

impl<W, C> Receiver for TappedReceiver<W, C>
where
    W: Write + Send + 'static,
    C: Fn() -> Duration + Send + Sync + 'static,
{
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Packet>,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let before = batch.len();
        let result = self.inner.poll_receive(cx, batch, limit);
        if let Some(received) = batch.get(before..).filter(|packets| !packets.is_empty()) {
            self.tap
                .record(Direction::Inbound, (self.tap.clock)(), received);
        }
        result
    }
}

struct TappedTransmitter<W: Write, C> {
    inner: Box<dyn Transmitter>,
    tap: Arc<Tap<W, C>>,
}

impl<W, C> Transmitter for TappedTransmitter<W, C>
where
    W: Write + Send + 'static,
    C: Fn() -> Duration + Send + Sync + 'static,
{
    fn try_transmit(&self, queue: &mut VecDeque<Packet>) -> io::Result<()> {
        if queue.is_empty() {
            return self.inner.try_transmit(queue);
        }
        // The time before, or an answer could be recorded as older than its question.
        let timestamp = (self.tap.clock)();
        let offered: Vec<Packet> = queue.iter().cloned().collect();
        let result = self.inner.try_transmit(queue);
        let taken = offered.len().saturating_sub(queue.len());
        self.tap
            .record(Direction::Outbound, timestamp, &offered[..taken]);
        result
    }

    fn poll_transmit_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_transmit_ready(cx)
    }
}

#[cfg(test)]
mod tests;
