//! A place on an Ethernet link that an AF_PACKET device takes: the far end of a veth pair.
//!
//! ```text
//!  kernel 10.7.0.1, fd07::1 ── veth "kernel" ── veth "station" ── AF_PACKET ── tidewire::net 10.7.0.2, fd07::2
//! ```
//!
//! The kernel at that end sees what the device sees. It keeps out: it is in a namespace of its own, where it has no
//! address, and no IPv6 at all.

use std::io;
use std::os::fd::AsFd;

use tidewire_netdev::MacAddress;

use super::network::{Routers, addresses, settled};
use super::{Family, LinkConfig};
use crate::namespace::{Namespace, Netlink, VethEnd, VethPair, configure, run_program, set_sysctl};

/// The kernel's end of the pair.
const KERNEL: VethEnd<'static> = VethEnd {
    name: "kernel",
    hardware_address: MacAddress([2, 0, 0, 0, 0, 1]),
};
/// The device's end of the pair.
const STATION: VethEnd<'static> = VethEnd {
    name: "station",
    hardware_address: MacAddress([2, 0, 0, 0, 0, 2]),
};

/// The namespace with the device's end, which lives as long as this.
#[derive(Debug)]
pub struct Station {
    /// Where the device is to be opened.
    pub namespace: Namespace,
}

impl Station {
    /// The interface to open, in [`Self::namespace`].
    pub const INTERFACE: &'static str = STATION.name;
    /// The interface at the kernel's end.
    pub const KERNEL_INTERFACE: &'static str = KERNEL.name;

    /// Makes the pair and gives the kernel's end its addresses. Without `config.offload`, what the kernel sends is
    /// complete and MTU-sized; otherwise neither.
    ///
    /// # Errors
    /// What the kernel says; without offload, `ethtool` is needed.
    pub async fn start(config: &LinkConfig) -> io::Result<Self> {
        Self::beside(config, &Routers::none()).await
    }

    /// [`Self::start`] with the kernel's end where a device's belongs.
    pub(super) async fn beside(config: &LinkConfig, routers: &Routers) -> io::Result<Self> {
        let namespace = Namespace::new("station").await?;
        let far_namespace = namespace.descriptor().try_clone_to_owned()?;
        namespace
            .run(async || set_sysctl("ipv6/conf/default/disable_ipv6", "1"))
            .await;
        let mtu = config.mtu;
        let make = routers.beside_device(async move || {
            let mut netlink = Netlink::open()?;
            let pair = VethPair {
                near: KERNEL,
                far: STATION,
                far_namespace: Some(far_namespace.as_fd()),
                mtu,
            };
            netlink.add_veth(&pair).await
        });
        make.await?;
        let up = namespace.run(async || Netlink::open()?.set_up(STATION.name, true).await);
        up.await?;
        let addresses = addresses(config, config.subnet, Family::kernel_in);
        let (has_offload, has_ipv6) = (config.offload, config.carries(Family::V6));
        let ready = routers.beside_device(async move || {
            if !has_offload {
                without_offloads(KERNEL.name)?;
            }
            configure(KERNEL.name, &addresses, None).await?;
            settled(KERNEL.name, has_ipv6).await
        });
        ready.await?;
        Ok(Self { namespace })
    }
}

/// Makes the kernel complete and cut what it sends through an interface.
fn without_offloads(interface: &str) -> io::Result<()> {
    let off = [
        "-K", interface, "tx", "off", "sg", "off", "tso", "off", "gso", "off",
    ];
    run_program("ethtool", &off).map_err(io::Error::other)?;
    Ok(())
}
