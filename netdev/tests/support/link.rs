//! A device and the kernel at the two ends of a link.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures::TryStreamExt;
use netlink_packet_route::address::AddressHeaderFlags;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, State};
use rtnetlink::{Handle, LinkUnspec, LinkVeth};
use tidewire_netdev::{
    Capabilities, Device, DeviceQueue, MacAddress, Medium, Packet, Receiver, Transmitter,
};

use super::packets::{self, Parsed};

/// Whether the kernel takes packets to this address of its own: it inserts an IPv6 address's host route later, in
/// a work queue.
fn is_delivered(address: IpAddr) -> bool {
    let IpAddr::V6(address) = address else {
        return true;
    };
    let routes = std::fs::read_to_string("/proc/thread-self/net/ipv6_route").expect("readable");
    routes.contains(&format!("{:032x} 80 ", address.to_bits()))
}

/// A hardware address for our end of an Ethernet link.
pub(crate) const OUR_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 0x77]);

/// The kernel's addresses on a link.
pub(crate) const ADDRESSES: [&str; 2] = ["10.9.0.1/24", "fd09::1/64"];

/// The kernel's address and ours, in both families.
const PAIRS: [(&str, &str); 2] = [("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2")];

/// The kernel's address and ours, in both families.
pub(crate) fn pairs() -> [(IpAddr, IpAddr); 2] {
    PAIRS.map(|(kernel, ours)| {
        (
            kernel.parse().expect("address"),
            ours.parse().expect("address"),
        )
    })
}

/// The kernel's side of links.
pub(crate) struct Kernel {
    pub(crate) netlink: Handle,
}

impl Kernel {
    pub(crate) fn new() -> Self {
        let (connection, netlink, _) = rtnetlink::new_connection().expect("a netlink socket");
        tokio::spawn(connection);
        Self { netlink }
    }

    async fn link(&self, name: &str) -> LinkMessage {
        let mut links = self
            .netlink
            .link()
            .get()
            .match_name(name.to_owned())
            .execute();
        links.try_next().await.expect("answered").expect("exists")
    }

    pub(crate) async fn index(&self, name: &str) -> u32 {
        self.link(name).await.header.index
    }

    /// The hardware address of an Ethernet interface.
    pub(crate) async fn hardware_address(&self, name: &str) -> MacAddress {
        let attributes = self.link(name).await.attributes;
        let address = attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Address(octets) => octets.as_slice().try_into().ok(),
            _ => None,
        });
        MacAddress(address.expect("an address of six octets"))
    }

    /// The interface's MTU and queue length.
    pub(crate) async fn settings(&self, name: &str) -> (u32, u32) {
        let (mut mtu, mut queue_len) = (0, 0);
        for attribute in self.link(name).await.attributes {
            match attribute {
                LinkAttribute::Mtu(octets) => mtu = octets,
                LinkAttribute::TxQueueLen(packets) => queue_len = packets,
                _ => {}
            }
        }
        (mtu, queue_len)
    }

    /// A pair of Ethernet interfaces at the two ends of a cable, both up.
    pub(crate) async fn add_veth(&self, near: &str, far: &str) {
        let request = self.netlink.link().add(LinkVeth::new(near, far).build());
        request.execute().await.expect("a veth pair");
        for name in [near, far] {
            self.set_up(name, true).await;
        }
        for name in [near, far] {
            self.wait_for_carrier(name).await;
        }
    }

    /// Waits until an interface sends: until the kernel's work queue has noticed that the other end is there, it drops.
    pub(crate) async fn wait_for_carrier(&self, name: &str) {
        loop {
            let attributes = self.link(name).await.attributes;
            // A TUN does not know its state.
            if attributes.iter().any(|attribute| {
                matches!(
                    attribute,
                    LinkAttribute::OperState(State::Up | State::Unknown)
                )
            }) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) async fn set_up(&self, name: &str, up: bool) {
        let message = LinkUnspec::new_with_index(self.index(name).await);
        let message = if up { message.up() } else { message.down() };
        let request = self.netlink.link().set(message.build());
        request.execute().await.expect("link set");
    }

    pub(crate) async fn remove(&self, name: &str) {
        let index = self.index(name).await;
        let request = self.netlink.link().del(index);
        request.execute().await.expect("removed");
    }

    /// Gives an interface addresses and waits until packets to them are taken.
    pub(crate) async fn add_addresses(&self, name: &str, addresses: &[&str]) {
        let index = self.index(name).await;
        for address in addresses {
            let (address, prefix) = address.split_once('/').expect("a CIDR");
            let address: IpAddr = address.parse().expect("an address");
            let prefix = prefix.parse().expect("a prefix length");
            let mut request = self.netlink.address().add(index, address, prefix);
            // Duplicate detection would leave an IPv6 address unusable for a moment.
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
            request.execute().await.expect("address added");
            while !is_delivered(address) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// Tells the kernel where our addresses are, so that it need not ask.
    pub(crate) async fn add_neighbours(&self, name: &str, address: MacAddress) {
        let index = self.index(name).await;
        for (_, ours) in pairs() {
            let request = self.netlink.neighbours().add(index, ours);
            let request = request.link_layer_address(&address.0).replace();
            request.execute().await.expect("neighbour added");
        }
    }
}

/// Stations at the two ends of an Ethernet link.
#[derive(Clone, Copy)]
struct Ethernet {
    ours: MacAddress,
    kernels: MacAddress,
}

/// A device that is up, with the kernel's addresses at the other end.
pub(crate) struct Link {
    pub(crate) receiver: Box<dyn Receiver>,
    pub(crate) transmitter: Box<dyn Transmitter>,
    pub(crate) more_queues: Vec<DeviceQueue>,
    pub(crate) capabilities: Capabilities,
    pub(crate) kernel: Kernel,
    /// The device's own interface.
    pub(crate) name: String,
    /// The interface with the kernel's addresses.
    kernels_interface: String,
    ethernet: Option<Ethernet>,
}

impl Link {
    /// A device of `interface`, at whose other end the kernel has its addresses: on the same interface, or on a veth's
    /// other one.
    pub(crate) async fn new(device: Device, kernels_interface: &str) -> Self {
        let kernel = Kernel::new();
        kernel.set_up(&device.name, true).await;
        kernel.wait_for_carrier(&device.name).await;
        kernel.wait_for_carrier(kernels_interface).await;
        kernel.add_addresses(kernels_interface, &ADDRESSES).await;
        let mut ethernet = None;
        if device.capabilities.medium == Medium::Ethernet {
            let ours = device.hardware_address.unwrap_or(OUR_MAC);
            kernel.add_neighbours(kernels_interface, ours).await;
            ethernet = Some(Ethernet {
                ours,
                kernels: kernel.hardware_address(kernels_interface).await,
            });
        }
        Self {
            receiver: device.receiver,
            transmitter: device.transmitter,
            more_queues: device.more_queues,
            capabilities: device.capabilities,
            kernel,
            name: device.name,
            kernels_interface: kernels_interface.to_owned(),
            ethernet,
        }
    }

    /// Octets before the network packet.
    pub(crate) fn header_len(&self) -> u16 {
        if self.ethernet.is_some() { 14 } else { 0 }
    }

    pub(crate) async fn set_up(&self, up: bool) {
        self.kernel.set_up(&self.name, up).await;
        if up {
            self.kernel.wait_for_carrier(&self.name).await;
            self.kernel.wait_for_carrier(&self.kernels_interface).await;
        }
        if let Some(Ethernet { ours, .. }) = self.ethernet.filter(|_| up) {
            // An interface that goes down forgets its neighbours.
            let name = &self.kernels_interface;
            self.kernel.add_neighbours(name, ours).await;
        }
    }

    /// The packet as the device takes it.
    pub(crate) fn framed(&self, mut packet: Packet) -> Packet {
        if let Some(Ethernet { ours, kernels }) = self.ethernet {
            packets::frame(&mut packet, kernels, ours);
        }
        packet
    }

    pub(crate) async fn transmit(&self, packet: Packet) -> io::Result<()> {
        let mut queue = VecDeque::from([self.framed(packet)]);
        loop {
            match self.transmitter.try_transmit(&mut queue) {
                Err(error) if is_hindered(&error) => {
                    poll_fn(|cx| self.transmitter.poll_transmit_ready(cx)).await?;
                }
                result => {
                    assert!(result.is_err() || queue.is_empty());
                    return result;
                }
            }
        }
    }

    /// Some packets as the device gives them.
    pub(crate) async fn receive(&mut self, limit: usize) -> io::Result<Vec<Packet>> {
        receive(&mut *self.receiver, limit).await
    }

    /// The network packet of what a device gave; `None` if it is none.
    pub(crate) fn unframed(&self, packet: Packet) -> Option<Packet> {
        packets::unframed(packet, self.capabilities.medium)
    }

    /// The next packet of a protocol; the kernel's own noise (router solicitations, MLD) is passed over.
    pub(crate) async fn receive_protocol(&mut self, protocol: u8) -> (Packet, Parsed) {
        loop {
            let mut batch = self.receive(1).await.expect("the device lives");
            let packet = self.unframed(batch.pop().expect("one packet"));
            let Some(packet) = packet else { continue };
            let parsed = Parsed::new(&packet);
            if parsed.protocol == protocol {
                return (packet, parsed);
            }
        }
    }
}

/// Some packets of a receiver.
pub(crate) async fn receive(receiver: &mut dyn Receiver, limit: usize) -> io::Result<Vec<Packet>> {
    let mut batch = Vec::new();
    let count = poll_fn(|cx| receiver.poll_receive(cx, &mut batch, limit)).await?;
    assert_eq!(count, batch.len());
    assert!(batch.len() <= limit);
    Ok(batch)
}

/// Whether the device is full, or its link down: it takes packets again later.
pub(crate) fn is_hindered(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::NetworkDown
    )
}
