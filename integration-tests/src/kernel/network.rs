//! What lies between the device and the kernel's sockets: nothing, or a chain of routers.
//!
//! ```text
//!  tokio::net ── kernel ── veth ── router ── veth ── router ── device ── tidewire::net
//!            10.27.0.1       .2          10.17.0.1 .2         10.7.0.1    10.7.0.2
//! ```
//!
//! Each router is the kernel in a namespace of its own. On every link the end towards the kernel's sockets has the
//! address that ends in 1, the end towards the stack the one in 2.

use std::future::Future;
use std::io;
use std::os::fd::AsFd;

use tidewire::ip::Cidr;
use tidewire_netdev::MacAddress;

use super::{Family, LinkConfig};
use crate::namespace::{Namespace, Netlink, VethEnd, VethPair, configure, run_program, set_sysctl};

/// How far the subnets of a chain's links lie apart, so that chains beside each other need not care.
const SUBNET_STEP: u8 = 10;
/// The interface of a router, or of the last kernel, that leads to the stack.
const TO_STACK: VethEnd<'static> = VethEnd {
    name: "to-stack",
    hardware_address: MacAddress([2, 0, 0, 0, 1, 1]),
};
/// The interface of a router that leads to the kernel's sockets.
const TO_KERNEL: VethEnd<'static> = VethEnd {
    name: "to-kernel",
    hardware_address: MacAddress([2, 0, 0, 0, 1, 2]),
};

/// Keeps a router from telling that packets are too large.
const NO_PACKET_TOO_BIG: &str = "add table inet t; \
    add chain inet t o { type filter hook output priority 0; }; \
    add rule inet t o icmp type destination-unreachable drop; \
    add rule inet t o icmpv6 type packet-too-big drop";

/// The routers, which live as long as this.
#[derive(Debug)]
pub(super) struct Routers {
    /// The nearest to the stack first.
    chain: Vec<Namespace>,
}

impl Routers {
    /// No routers: the device's kernel is the one here.
    pub(super) const fn none() -> Self {
        Self { chain: Vec::new() }
    }

    /// Makes `config.hops` with all routes, but for the device's own addresses.
    pub(super) async fn start(config: &LinkConfig) -> io::Result<Self> {
        let count = config.hops.len();
        let mut chain: Vec<Namespace> = Vec::new();
        // From the kernel's sockets towards the stack; each link is made from its kernel's side.
        for (index, &mtu) in config.hops.iter().enumerate().rev() {
            let subnet = subnet_behind(config, index + 1);
            let router = Namespace::new(&format!("router {index}")).await?;
            let far_namespace = router.descriptor().try_clone_to_owned()?;
            let near = addresses(config, subnet, Family::kernel_in);
            at(chain.last(), async move || {
                let mut netlink = Netlink::open()?;
                netlink
                    .add_veth(&VethPair {
                        near: TO_STACK,
                        far: TO_KERNEL,
                        far_namespace: Some(far_namespace.as_fd()),
                        mtu,
                    })
                    .await?;
                configure(TO_STACK.name, &near, None).await
            })
            .await?;
            let far = addresses(config, subnet, Family::stack_in);
            let up = router.run(async move || {
                set_sysctl("ipv4/ip_forward", "1");
                set_sysctl("ipv6/conf/all/forwarding", "1");
                configure(TO_KERNEL.name, &far, None).await
            });
            up.await?;
            if config.silent_routers {
                let filter = router.run(async || run_program("nft", &[NO_PACKET_TOO_BIG]));
                filter.await.map_err(io::Error::other)?;
            }
            let has_ipv6 = config.carries(Family::V6);
            at(chain.last(), move || settled(TO_STACK.name, has_ipv6)).await?;
            router
                .run(move || settled(TO_KERNEL.name, has_ipv6))
                .await?;
            chain.push(router);
        }
        chain.reverse();
        let routers = Self { chain };
        for place in 0..=count {
            let routes = routes(config, place);
            let add = async move || {
                let mut netlink = Netlink::open()?;
                for (destination, gateway) in routes {
                    netlink.add_route(destination, gateway).await?;
                }
                io::Result::Ok(())
            };
            at(routers.chain.get(place), add).await?;
        }
        Ok(routers)
    }

    /// Runs `work` where the kernel's end of the device belongs: in the router next to the stack, if there is one.
    pub(super) async fn beside_device<T, F>(&self, work: impl FnOnce() -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        at(self.chain.first(), work).await
    }
}

/// Returns when an interface is ready for use.
pub(super) async fn settled(name: &str, has_ipv6: bool) -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    netlink.wait_for_carrier(name).await?;
    if has_ipv6 {
        netlink.wait_for_link_local(name).await?;
    }
    Ok(())
}

/// Runs `work` in a router, or here.
async fn at<T, F>(router: Option<&Namespace>, work: impl FnOnce() -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    match router {
        Some(router) => router.run(work).await,
        None => work().await,
    }
}

/// The subnet of the device is that of place 0; each place is a kernel, and leads to the next one's subnet.
fn subnet_behind(config: &LinkConfig, place: usize) -> u8 {
    let step = u8::try_from(place).expect("a short chain");
    config.subnet + SUBNET_STEP * step
}

/// The subnet that the kernel's sockets are in.
pub(super) fn kernel_subnet(config: &LinkConfig) -> u8 {
    subnet_behind(config, config.hops.len())
}

/// One end's addresses in a subnet, of the versions that the narrowest link allows.
pub(super) fn addresses(
    config: &LinkConfig,
    subnet: u8,
    end: fn(Family, u8) -> std::net::IpAddr,
) -> Vec<Cidr> {
    let families = Family::ALL.into_iter();
    families
        .filter(|family| config.carries(*family))
        .map(|family| Cidr::new(end(family, subnet), family.prefix()).expect("a valid prefix"))
        .collect()
}

/// What the kernel at `place` must know beyond its own links: everything else is towards the kernel's sockets, the
/// subnets it has behind it are towards the stack.
fn routes(config: &LinkConfig, place: usize) -> Vec<(Cidr, std::net::IpAddr)> {
    let mut routes = Vec::new();
    for family in Family::ALL {
        if !config.carries(family) {
            continue;
        }
        if place < config.hops.len() {
            let next = subnet_behind(config, place + 1);
            routes.push((family.everything(), family.kernel_in(next)));
        }
        for behind in 0..place {
            let subnet = subnet_behind(config, behind);
            let destination = Cidr::new(family.network_of(subnet), family.prefix());
            let gateway = family.stack_in(subnet_behind(config, place));
            routes.push((destination.expect("a valid prefix"), gateway));
        }
    }
    routes
}
