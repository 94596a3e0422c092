//! AF_PACKET: shares an Ethernet interface of the kernel, as a station of its own on the same link (packet(7)).
//!
//! Owns opening the sockets, one for each queue, and agreeing with the kernel on what comes through which. With a
//! virtio-net header before each frame (`PACKET_VNET_HDR`) super-packets of up to 64 KiB pass in both directions, with
//! the checksum left to do; on a veth that is the usual case.
//!
//! The kernel sees the same frames. For an address that it does not own as well it has to be silent, so give the stack
//! addresses that the interface does not have: otherwise the kernel answers our peers' TCP with resets. Frames of a VLAN
//! do not come ([`PacketConfig::interface`]); make an interface of the VLAN and open that.
//!
//! A virtio-net header cannot describe a super-packet of SCTP, which Linux's own SCTP sends through a veth: the kernel
//! drops it on the way to us (counted as malformed). Turn that off at the peer's end:
//! `ethtool -K PEER tx-sctp-segmentation off`.

use std::fs::File;
use std::io;
use std::sync::Arc;

use super::block_reader::BlockReader;
use super::counters::InterfaceCounters;
use super::queue::Queue;
use super::receiver::{KernelReceiver, LinkWatch};
use super::sys::packet_socket::{self, Buffer, Membership, NumberOption};
use super::sys::ring::{Geometry, Ring};
use super::sys::{InterfaceControl, InterfaceName};
use super::transmitter::KernelTransmitter;
use super::{device, explained, filter};
use crate::device::{Capabilities, Device, Medium, OffloadSet};
use crate::mac::MacAddress;

/// How to share an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketConfig {
    /// The interface's name. It has to be of Ethernet; frames that carry the tag of a VLAN are the business of that
    /// VLAN's own interface (`ip link add link eth0 name eth0.5 type vlan id 5`), and do not come.
    pub interface: String,
    /// What the stack takes for the link's MTU, in octets without the Ethernet header: at most the interface's, which
    /// stays as it is. Default: `None`, the interface's.
    pub mtu: Option<usize>,
    /// Lets the kernel complete checksums and cut super-packets on transmission. Without it every packet we send is
    /// complete and MTU-sized; what a peer on a veth leaves to do is up to that peer, and comes as its metadata says.
    /// Default: `true`.
    pub offload: bool,
    /// Queues, 1 to 256, each with a socket and a driver of its own. The kernel shares flows out by the
    /// [flow hash](crate::flow_hash). Default: 1.
    pub queues: usize,
    /// Receives through a mapped ring (`TPACKET_V3`). It takes twice as many MTU-sized packets in a second, but hands
    /// them over by the block: when it is full or after 1 ms, which every answer waits for. Default: `false`.
    pub ring: bool,
    /// The station's address. One other than the interface's own makes the network card receive everything on the link
    /// (promiscuous mode). Default: `None`, the interface's own.
    pub hardware_address: Option<MacAddress>,
    /// Every frame on the link comes, whoever it is for (promiscuous mode): for what forwards frames. A stack is a station
    /// and has no use for them. Default: `false`.
    pub all_frames: bool,
    /// What may wait for the interface to send it, in octets as the kernel accounts for them: a super-packet takes
    /// about 70 KiB, a packet of 1,500 octets 2.3 KiB. Default: 4 MiB.
    pub send_buffer: usize,
    /// What may wait for us to read it, for each queue, in octets as the kernel accounts for them; the size of the ring
    /// if there is one. Beyond it packets are dropped. Default: 16 MiB.
    pub receive_buffer: usize,
}

impl PacketConfig {
    /// The defaults for an interface.
    pub fn new(interface: impl Into<String>) -> Self {
        Self {
            interface: interface.into(),
            mtu: None,
            offload: true,
            queues: 1,
            ring: false,
            hardware_address: None,
            all_frames: false,
            send_buffer: 4 << 20,
            receive_buffer: 16 << 20,
        }
    }
}

/// Packet sockets on an interface that no runtime knows yet.
#[derive(Debug)]
pub struct PacketSocket {
    /// One for each queue, with its ring if there is one.
    sockets: Vec<(Arc<File>, Option<BlockReader>)>,
    name: String,
    index: i32,
    mtu: usize,
    offloads: OffloadSet,
    hardware_address: MacAddress,
    counters: InterfaceCounters,
}

impl PacketSocket {
    /// Opens sockets on an interface of the calling thread's network namespace. Packets come from now on.
    ///
    /// # Errors
    /// Their text says what to do. [`io::ErrorKind::PermissionDenied`]: needs `CAP_NET_RAW`. `ENODEV`: no such
    /// interface. [`io::ErrorKind::InvalidInput`]: not a usable name, number of queues, hardware address or MTU, or an
    /// interface that is not of Ethernet.
    pub fn open(config: PacketConfig) -> io::Result<Self> {
        let interface = Interface::find(&config)?;
        let mut sockets: Vec<(Arc<File>, Option<BlockReader>)> = Vec::with_capacity(config.queues);
        for _ in 0..config.queues {
            let (socket, ring) = interface.open_socket(&config)?;
            if config.queues > 1 {
                let first = sockets.first().map(|(first, _)| &**first);
                interface.join_fanout(&socket, first)?;
            }
            sockets.push((Arc::new(socket), ring));
        }
        let station = (!config.all_frames).then_some(interface.hardware_address);
        for (socket, _) in &sockets {
            packet_socket::attach_filter(socket, &filter::station(station))?;
        }
        let files: Vec<_> = sockets.iter().map(|(file, _)| Arc::clone(file)).collect();
        Ok(Self {
            sockets,
            name: config.interface.clone(),
            index: interface.index,
            mtu: interface.mtu,
            offloads: offloads(config.offload),
            hardware_address: interface.hardware_address,
            counters: InterfaceCounters::of_packet_sockets(&files),
        })
    }

    /// The interface's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The link's MTU in octets, as it was when opened.
    pub fn mtu(&self) -> usize {
        self.mtu
    }

    /// The station's address.
    pub fn hardware_address(&self) -> MacAddress {
        self.hardware_address
    }

    /// What the kernel does on transmission.
    pub fn offloads(&self) -> OffloadSet {
        self.offloads
    }

    /// The sockets' counters, which go on counting after [`Self::into_device`].
    pub fn counters(&self) -> InterfaceCounters {
        self.counters.clone()
    }

    /// Registers the sockets with the current runtime and gives their halves.
    ///
    /// An interface that goes down is no end: nothing comes, and what is to be sent waits. One that is removed is.
    ///
    /// # Errors
    /// Outside a tokio runtime, and what `epoll` says.
    ///
    /// # Panics
    /// In a runtime built without `enable_io`. Its halves also need `enable_time`, to wait while the interface is down.
    pub fn into_device(self) -> io::Result<Device> {
        tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        let mut halves = Vec::with_capacity(self.sockets.len());
        for (file, ring) in self.sockets {
            let queue = Queue::new(file, Medium::Ethernet, true, self.counters.clone())?;
            let link = LinkWatch::packet_socket(&queue, self.index);
            halves.push((
                KernelReceiver::new(Arc::clone(&queue), link, ring),
                KernelTransmitter::new(queue),
            ));
        }
        let capabilities = Capabilities {
            medium: Medium::Ethernet,
            mtu: self.mtu,
            offloads: self.offloads,
            max_super_packet: usize::from(u16::MAX),
        };
        device(self.name, halves, Some(self.hardware_address), capabilities)
    }
}

/// Octets of a ring's block: room for 3 super-packets or 160 packets of 1,500 octets. A super-packet has to fit one.
const RING_BLOCK: u32 = 256 << 10;

/// When a block that is not full is handed over, in milliseconds: at once, as far as the kernel's units go.
const RING_TIMEOUT: u32 = 1;

/// The most sockets of a fanout group, unless it is told otherwise (`PACKET_FANOUT_MAX` in the kernel).
const MAX_QUEUES: usize = 256;

/// An interface, as it is shared.
struct Interface<'a> {
    name: &'a str,
    index: i32,
    mtu: usize,
    hardware_address: MacAddress,
    /// Whether the network card would not receive for that address by itself.
    is_foreign: bool,
}

impl<'a> Interface<'a> {
    fn find(config: &'a PacketConfig) -> io::Result<Self> {
        let invalid = |text| io::Error::new(io::ErrorKind::InvalidInput, text);
        let name = &config.interface;
        if !(1..=MAX_QUEUES).contains(&config.queues) {
            let queues = config.queues;
            return Err(invalid(format!(
                "{queues} queues: a packet socket has 1 to {MAX_QUEUES}"
            )));
        }
        if config
            .hardware_address
            .is_some_and(|address| !address.is_unicast())
        {
            return Err(invalid(
                "a station's hardware address is neither zero nor a group's: use one like 02:00:00:00:00:01"
                    .to_owned(),
            ));
        }
        let wanted = InterfaceName::new(name)?;
        let control = InterfaceControl::open()?;
        let index = control.index(wanted).map_err(|error| {
            let advice = "ip link show lists those there are";
            explained(&error, &format!("cannot share {name}"), advice)
        })?;
        let Some(own) = control.hardware_address(wanted)? else {
            return Err(invalid(format!(
                "{name} is not of Ethernet: share one that is, or make a TUN"
            )));
        };
        let link_mtu = control.mtu(wanted)?;
        let mtu = config.mtu.unwrap_or(link_mtu);
        if mtu > link_mtu {
            return Err(invalid(format!(
                "{name} has an MTU of {link_mtu}, less than {mtu}: ip link set {name} mtu {mtu}"
            )));
        }
        let hardware_address = config.hardware_address.unwrap_or(own);
        Ok(Self {
            name,
            index,
            mtu,
            hardware_address,
            is_foreign: hardware_address != own,
        })
    }

    /// Opens a socket to which nothing comes yet, for its filter.
    fn open_socket(&self, config: &PacketConfig) -> io::Result<(File, Option<BlockReader>)> {
        let socket = packet_socket::open().map_err(|error| {
            let advice = match error.raw_os_error() {
                Some(libc::EPERM | libc::EACCES) => {
                    "run with CAP_NET_RAW (as root, or: setcap cap_net_raw+ep PROGRAM)"
                }
                _ => "the kernel needs CONFIG_PACKET (modprobe af_packet)",
            };
            explained(&error, "cannot open a packet socket", advice)
        })?;
        packet_socket::attach_filter(&socket, &filter::nothing())?;
        packet_socket::set_number(&socket, NumberOption::VirtioHeader, 1)?;
        // Spares the kernel the copies; where it does not know the option, the filter refuses what we sent.
        let _ = packet_socket::set_number(&socket, NumberOption::IgnoreOutgoing, 1);
        packet_socket::set_buffer(&socket, Buffer::Send, config.send_buffer)?;
        let mut ring = None;
        if config.ring {
            let blocks = (config.receive_buffer / RING_BLOCK as usize).max(2);
            let geometry = Geometry {
                block_size: RING_BLOCK,
                blocks: u32::try_from(blocks).unwrap_or(u32::MAX),
                retire_milliseconds: RING_TIMEOUT,
            };
            let mapped = Ring::new(&socket, geometry).map_err(|error| {
                let advice = "ask for a smaller receive buffer, or for no ring";
                explained(&error, "cannot map a receive ring", advice)
            })?;
            ring = Some(BlockReader::new(mapped));
        } else {
            packet_socket::set_buffer(&socket, Buffer::Receive, config.receive_buffer)?;
        }
        packet_socket::bind(&socket, self.index)?;
        // The groups of IPv6's neighbour solicitations are many and come and go: all of them, then.
        packet_socket::add_membership(&socket, self.index, Membership::AllMulticast)?;
        if self.is_foreign || config.all_frames {
            packet_socket::add_membership(&socket, self.index, Membership::Promiscuous)?;
        }
        Ok((socket, ring))
    }

    /// Joins the group of the first socket, or makes it.
    fn join_fanout(&self, socket: &File, first: Option<&File>) -> io::Result<()> {
        let group = first.map(packet_socket::fanout_group).transpose()?;
        packet_socket::join_fanout(socket, group).map_err(|error| {
            let name = self.name;
            let advice = match error.raw_os_error() {
                // Kernels before 6.13 let only a socket that runs join.
                Some(libc::EINVAL) => {
                    format!("bring it up first (ip link set {name} up), or use one queue")
                }
                _ => "use one queue".to_owned(),
            };
            explained(&error, &format!("cannot share {name} by flows"), &advice)
        })?;
        if group.is_none() {
            packet_socket::set_fanout_program(socket, &filter::flow_hash())?;
        }
        Ok(())
    }
}

/// What the kernel does on transmission: all of it in software if the network card cannot.
fn offloads(wanted: bool) -> OffloadSet {
    if !wanted {
        return OffloadSet::NONE;
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cuts_udp = knows_udp_segmentation(&release);
    OffloadSet {
        uso4: cuts_udp,
        uso6: cuts_udp,
        ..OffloadSet::ALL
    }
}

/// Whether a kernel of that release takes `VIRTIO_NET_HDR_GSO_UDP_L4`: from Linux 6.2 on. There is nothing to ask but
/// the release; a kernel that does not know it would refuse each such packet.
fn knows_udp_segmentation(release: &str) -> bool {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn udp_is_cut_by_kernels_from_6_2_on() {
        for (release, knows) in [
            ("6.2.0", true),
            ("6.18.5-generic\n", true),
            ("7.0", true),
            ("6.1.159-rt", false),
            ("5.15.0-1", false),
            ("", false),
        ] {
            assert_eq!(knows_udp_segmentation(release), knows, "{release}");
        }
    }

    #[test]
    fn an_unusable_configuration_is_explained() {
        let named = |name: &str| PacketConfig::new(name);
        let group = MacAddress::BROADCAST;
        for (config, advice) in [
            (named("no-such-link"), "ip link show"),
            (named("much-too-long-a-name"), "use 1 to 15 octets"),
            (named("lo"), "not of Ethernet"),
            (
                PacketConfig {
                    queues: 0,
                    ..named("lo")
                },
                "1 to 256",
            ),
            (
                PacketConfig {
                    hardware_address: Some(group),
                    ..named("lo")
                },
                "02:00:00:00:00:01",
            ),
        ] {
            let error = PacketSocket::open(config).expect_err(advice);
            assert!(error.to_string().contains(advice), "{error}");
        }
    }
}
