//! The kernel's bridge as an Ethernet switch: kernels in namespaces of their own, and devices of ours, at its ports.
//!
//! ```text
//!  tokio::net in a namespace ── veth ──┐
//!  tokio::net in a namespace ── veth ── bridge ── TAP ── tidewire::net
//! ```
//!
//! The namespace with the bridge is nothing but the switch: nothing in it has an address.

use std::io;
use std::time::Duration;

use tidewire::ip::Cidr;
use tidewire_netdev::MacAddress;
use tidewire_netdev::linux::{Tap, TapConfig};
use tokio::time::sleep;

use super::network::settled;
use crate::namespace::{Namespace, Netlink, VethEnd, VethPair, configure, run_program, set_sysctl};
use crate::requirements::Need;

/// A bridge in the namespace of the thread that made it, which makes its ports, too.
#[derive(Debug)]
pub struct Bridge {
    name: &'static str,
}

/// A place at a bridge.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    /// The bridge's interface.
    pub port: &'static str,
    /// The interface at the other end of the cable.
    pub interface: &'static str,
    /// Its hardware address.
    pub hardware_address: MacAddress,
}

impl Bridge {
    /// What the machine must have for it besides namespaces.
    pub const NEEDS: [Need; 3] = [Need::Tun, Need::Program("ip"), Need::Program("bridge")];

    /// Makes a bridge without ports.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn start(name: &'static str) -> Self {
        // Of every interface here from now on.
        set_sysctl("ipv6/conf/default/disable_ipv6", "1");
        // With snooping, groups that nobody has reported yet are kept from those who have.
        ip(&format!("link add {name} type bridge mcast_snooping 0"));
        ip(&format!("link set {name} up"));
        Self { name }
    }

    /// Lays a cable between a port and a namespace, whose end gets these addresses; returns when it carries packets.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn attach(
        &self,
        namespace: &Namespace,
        port: Port,
        addresses: &[&str],
    ) -> io::Result<()> {
        let pair = VethPair {
            near: VethEnd {
                name: port.port,
                // The bridge takes the lowest of its ports' for its own: none that anybody else has.
                hardware_address: beside(port.hardware_address),
            },
            far: VethEnd {
                name: port.interface,
                hardware_address: port.hardware_address,
            },
            far_namespace: Some(namespace.descriptor()),
            mtu: 1500,
        };
        Netlink::open()?.add_veth(&pair).await?;
        ip(&format!("link set {} master {} up", port.port, self.name));
        let addresses: Vec<Cidr> = addresses
            .iter()
            .map(|address| address.parse().expect("an address"))
            .collect();
        let ready = namespace.run(async move || {
            configure(port.interface, &addresses, None).await?;
            settled(port.interface, true).await
        });
        ready.await?;
        forwards(port.port).await;
        Ok(())
    }

    /// A new namespace at a port: its interface `eth0` has the hardware address 02:00:00:00:00:`number` and these addresses.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub async fn host(&self, port: &'static str, number: u8, addresses: &[&str]) -> Namespace {
        let namespace = Namespace::new(port).await.expect("a namespace");
        let place = Port {
            port,
            interface: "eth0",
            hardware_address: MacAddress([2, 0, 0, 0, 0, number]),
        };
        let attached = self.attach(&namespace, place, addresses).await;
        attached.expect("a cable");
        namespace
    }

    /// A TAP whose interface is a port, for a station with the hardware address 02:00:00:00:00:`number`.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub async fn tap(&self, port: &str, number: u8) -> Tap {
        let tap = Tap::open(TapConfig {
            name: Some(port.to_owned()),
            hardware_address: Some(MacAddress([2, 0, 0, 0, 0, number])),
            ..TapConfig::default()
        });
        let tap = tap.expect("root may");
        ip(&format!("link set {port} master {} up", self.name));
        forwards(port).await;
        tap
    }

    /// Pulls a port's cable, or puts it back.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub async fn plug(&self, port: &str, is_in: bool) {
        let state = if is_in { "up" } else { "down" };
        ip(&format!("link set {port} {state}"));
        if is_in {
            forwards(port).await;
        }
    }
}

/// Returns when a port forwards: somewhat later than its link has come up.
async fn forwards(port: &str) {
    loop {
        let shown = run_program("bridge", &["link", "show", "dev", port]).expect("a port");
        if shown.contains("state forwarding") {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// A hardware address like another, of another maker.
fn beside(MacAddress([_, rest @ ..]): MacAddress) -> MacAddress {
    let [b, c, d, e, f] = rest;
    MacAddress([0x0a, b, c, d, e, f])
}

fn ip(arguments: &str) -> String {
    let arguments: Vec<_> = arguments.split_whitespace().collect();
    run_program("ip", &arguments).unwrap_or_else(|error| panic!("ip {arguments:?}: {error}"))
}
