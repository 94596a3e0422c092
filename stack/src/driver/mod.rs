//! The thin async shell around the engine: one task per device queue, the clock, the timer wheel, wakes.
//!
//! The driver task reads devices, runs timers (one entry per socket on tokio's wheel) and flushes. A task that writes
//! flushes by itself while the driver is parked; what it cannot send (a full device) it leaves to the driver.

mod clock;
mod shared;
mod task;
mod timer_wheel;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use tidewire_netdev::coalescing::CoalescingConfig;
use tidewire_netdev::{Capabilities, Device, MacAddress};
use tokio::runtime::Handle;

pub use clock::Clock;
pub use shared::{Core, Shared};

use crate::config::Config;
use crate::engine::{Attachment, Engine};
use crate::error::{SocketError, SocketResult};
use crate::ip::autoconf::{dhcp, rarp, router_discovery};
use crate::ip::route::Route;
use crate::ip::{Cidr, InterfaceId};
use crate::time::Instant;
use task::{Driver, Input, Port};

/// A device and what the stack is on it.
#[derive(Debug)]
pub struct InterfaceConfig {
    /// The device.
    pub device: Device,
    /// The stack's addresses on it, each with its network's prefix length.
    pub addresses: Vec<Cidr>,
    /// An IPv4 address comes from a DHCP server, too.
    pub dhcp: Option<dhcp::Config>,
    /// IPv6 addresses and routes come from routers, too.
    pub slaac: Option<router_discovery::Config>,
    /// An IPv4 address comes from a RARP server, too.
    pub rarp: Option<rarp::Config>,
    /// Others on the link are told their addresses.
    pub rarp_server: Option<rarp::Server>,
    /// Routers for everything else, one per IP version.
    pub gateways: Vec<IpAddr>,
    /// Neighbours that are set for good.
    pub neighbors: Vec<(IpAddr, MacAddress)>,
    /// Octets a packet may have, IP header included; the device's MTU if that is smaller or this is `None`.
    pub mtu: Option<usize>,
}

/// How long a stack lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until its last handle and socket are gone and closed connections have delivered their data.
    Handles,
    /// Until its runtime ends.
    Runtime,
}

/// Starts a stack: the loopback, the interfaces given, and driver tasks on `handle`'s runtime, as many as the widest
/// device has queues.
///
/// # Errors
/// A runtime without time; a gateway that no interface's network contains.
pub fn start(
    config: Config,
    interfaces: Vec<InterfaceConfig>,
    handle: &Handle,
    lifetime: Lifetime,
) -> io::Result<Arc<Shared>> {
    let clock = Clock::new(handle.clone())?;
    let shards = interfaces
        .iter()
        .map(|interface| interface.device.queue_count())
        .max()
        .unwrap_or(1);
    let engine = Engine::with_shards(config, shards);
    let mut ports = Vec::new();
    let mut receivers: Vec<Vec<Input>> = (0..engine.shard_count()).map(|_| Vec::new()).collect();
    for InterfaceConfig {
        device,
        addresses,
        dhcp,
        slaac,
        rarp,
        rarp_server,
        mut gateways,
        neighbors,
        mtu,
    } in interfaces
    {
        let mut capabilities = device.capabilities.clone();
        if let Some(mtu) = mtu {
            capabilities.mtu = capabilities.mtu.min(mtu);
        }
        let coalescing = coalescing(&capabilities, engine.config());
        let id = engine.attach(
            clock.now(),
            Attachment {
                name: device.name.clone(),
                queues: device.queue_count(),
                hardware_address: device.hardware_address,
                capabilities,
            },
        );
        for address in addresses {
            engine.add_address(clock.now(), id, address);
        }
        if let Some(config) = dhcp {
            let begun = engine.configure_by_dhcp(clock.now(), id, config);
            begun.map_err(|_| not_ethernet("DHCP", &device.name))?;
        }
        if let Some(config) = slaac {
            let begun = engine.configure_by_slaac(clock.now(), id, config);
            begun.map_err(|error| no_slaac(error, &device.name))?;
        }
        start_rarp(&engine, clock.now(), id, (rarp, rarp_server), &mut gateways)
            .map_err(|_| not_ethernet("RARP", &device.name))?;
        for gateway in gateways {
            let default = Cidr::new(crate::engine::sockets::unspecified(gateway.is_ipv6()), 0);
            let Some(default) = default.filter(|_| engine.network.is_on_link(id, gateway)) else {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!(
                        "gateway {gateway} is no other host in the networks of its interface; add an address in its network first"
                    ),
                ));
            };
            engine.network.add_route(default, Route::via(id, gateway));
        }
        for (address, station) in neighbors {
            engine
                .set_neighbor(clock.now(), id, address, station)
                .map_err(|error| match error {
                    SocketError::NoDevice => io::Error::new(
                        io::ErrorKind::InvalidInput,
                        format!("neighbour {address} on a device without hardware addresses"),
                    ),
                    error => error.into(),
                })?;
        }
        let mut transmitters = Vec::new();
        for (queue, receivers) in device.into_queues().zip(&mut receivers) {
            transmitters.push(queue.transmitter);
            receivers.push(Input::new(id, queue.receiver, coalescing.clone()));
        }
        ports.push(Port {
            interface: id,
            transmitters,
        });
    }
    let core = Arc::new(Core::new(engine, clock, ports));
    let shared = Arc::new(Shared::new(Arc::clone(&core)));
    let keep = (lifetime == Lifetime::Runtime).then_some(&shared);
    for (shard, receivers) in core.engine().shard_ids().zip(receivers) {
        let driver = Driver::new(Arc::clone(&core), shard, keep.cloned(), receivers);
        drop(handle.spawn(driver));
    }
    Ok(shared)
}

/// Why routers are not listened to on a device.
fn no_slaac(error: SocketError, device: &str) -> io::Error {
    match error {
        SocketError::InvalidInput => io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{device}: a router takes no addresses from routers"),
        ),
        _ => not_ethernet("SLAAC", device),
    }
}

/// Asks for an address by RARP, or answers those who do. An IPv4 gateway waits for the address, without which it is on
/// no known network.
fn start_rarp(
    engine: &Engine,
    now: Instant,
    interface: InterfaceId,
    (client, server): (Option<rarp::Config>, Option<rarp::Server>),
    gateways: &mut Vec<IpAddr>,
) -> SocketResult<()> {
    if let Some(mut config) = client {
        gateways.retain(|gateway| match gateway {
            IpAddr::V4(v4) if !engine.network.is_on_link(interface, *gateway) => {
                config.gateway = Some(*v4);
                false
            }
            _ => true,
        });
        engine.configure_by_rarp(now, interface, config)?;
    }
    match server {
        Some(server) => engine.serve_rarp(interface, server),
        None => Ok(()),
    }
}

fn not_ethernet(what: &str, device: &str) -> io::Error {
    let text = format!("{what} on {device}, which is no Ethernet device");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// How received packets are joined: not at all if the device takes super-packets, since such a one gives them, too.
fn coalescing(capabilities: &Capabilities, config: &Config) -> Option<CoalescingConfig> {
    let offloads = capabilities.offloads;
    let is_wanted = config.host.receive_coalescing && !(offloads.tso4 && offloads.tso6);
    is_wanted.then(|| CoalescingConfig {
        medium: capabilities.medium,
        ..CoalescingConfig::default()
    })
}
