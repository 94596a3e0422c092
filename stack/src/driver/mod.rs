//! The thin async shell around the engine: one task per stack, the clock, the timer wheel, wakes.
//!
//! The driver task reads devices, runs timers (one entry per socket on tokio's wheel) and flushes. A task that writes
//! flushes by itself while the driver is parked; what it cannot send (a full device) it leaves to the driver.

mod clock;
mod shared;
mod task;
mod timer_wheel;

use std::io;
use std::sync::Arc;

use tidewire_netdev::Device;
use tokio::runtime::Handle;

pub use clock::Clock;
pub use shared::{Core, Shared};

use crate::config::Config;
use crate::engine::Engine;
use crate::ip::Cidr;
use crate::ip::route::Route;
use task::{Driver, Port};

/// A device and what the stack is on it.
#[derive(Debug)]
pub struct InterfaceConfig {
    /// The device.
    pub device: Device,
    /// The stack's addresses on it, each with its network's prefix length.
    pub addresses: Vec<Cidr>,
    /// Routers for everything else, one per IP version.
    pub gateways: Vec<std::net::IpAddr>,
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

/// Starts a stack: the loopback, the interfaces given, and a driver task on `handle`'s runtime.
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
    let engine = Engine::new(config);
    let mut ports = Vec::new();
    let mut receivers = Vec::new();
    for InterfaceConfig {
        device,
        addresses,
        gateways,
        mtu,
    } in interfaces
    {
        let mut capabilities = device.capabilities.clone();
        if let Some(mtu) = mtu {
            capabilities.mtu = capabilities.mtu.min(mtu);
        }
        let id = engine.add_interface(device.name, capabilities);
        for address in addresses {
            engine.network.add_address(id, address);
        }
        for gateway in gateways {
            let default = Cidr::new(crate::engine::sockets::unspecified(gateway.is_ipv6()), 0);
            let Some(default) =
                default.filter(|_| engine.network.interface_towards(gateway) == Some(id))
            else {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!(
                        "gateway {gateway} is in none of the networks of its interface; add an address in its network first"
                    ),
                ));
            };
            engine.network.add_route(default, Route::via(id, gateway));
        }
        ports.push(Port {
            interface: id,
            transmitter: device.transmitter,
        });
        receivers.push((id, device.receiver));
    }
    let core = Arc::new(Core::new(engine, clock, ports));
    let shared = Arc::new(Shared::new(Arc::clone(&core)));
    let keep = (lifetime == Lifetime::Runtime).then(|| Arc::clone(&shared));
    let driver = Driver::new(core, keep, receivers);
    drop(handle.spawn(driver));
    Ok(shared)
}
