//! Builds a [`Stack`]: devices, addresses, configuration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::{fmt, io};

use tidewire_netdev::{Device, MacAddress, Medium};
use tokio::runtime::Handle;

use super::lookup::{HostResolver, Resolver};
use super::registry;
use super::stack::Stack;
use crate::config::{Config, HostConfig};
use crate::driver::{self, InterfaceConfig, Lifetime};
use crate::ip::Cidr;
use crate::ip::autoconf::{dhcp, rarp, router_discovery};
use crate::{neighbor, sctp, tcp, udp};

/// What [`Builder::gateway`] takes: an address, or text that is one.
pub trait GatewayAddress: sealed::Sealed {}

mod sealed {
    use std::io;
    use std::net::IpAddr;

    #[allow(unreachable_pub, reason = "the super-trait of a public sealed trait")]
    pub trait Sealed {
        fn gateway(self) -> io::Result<IpAddr>;
    }
}

macro_rules! gateway_address {
    ($($address:ty),*) => {$(
        impl GatewayAddress for $address {}
        impl sealed::Sealed for $address {
            fn gateway(self) -> io::Result<IpAddr> {
                Ok(self.into())
            }
        }
    )*};
}
gateway_address!(IpAddr, Ipv4Addr, Ipv6Addr);

impl GatewayAddress for &str {}
impl sealed::Sealed for &str {
    fn gateway(self) -> io::Result<IpAddr> {
        self.parse()
            .map_err(|_| invalid(format!("`{self}` is not an IP address")))
    }
}

impl GatewayAddress for &String {}
impl sealed::Sealed for &String {
    fn gateway(self) -> io::Result<IpAddr> {
        self.as_str().gateway()
    }
}

fn require_ethernet(interface: &InterfaceConfig, what: &str) -> io::Result<()> {
    match interface.device.capabilities.medium {
        Medium::Ethernet => Ok(()),
        Medium::Ip => Err(invalid(format!(
            "{} is no Ethernet device: {what} needs one",
            interface.device.name
        ))),
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// Builds a [`Stack`].
///
/// [`address`](Self::address), [`gateway`](Self::gateway) and [`mtu`](Self::mtu) concern the device named last.
/// Mistakes are kept and told by [`build`](Self::build).
///
/// # Examples
///
/// ```no_run
/// # fn device() -> tidewire_netdev::Device { unimplemented!() }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let stack = tidewire::Stack::builder()
///     .device(device())
///     .address("10.0.0.2/24")
///     .address("fd00::2/64")
///     .gateway("10.0.0.1")
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder {
    config: Config,
    interfaces: Vec<InterfaceConfig>,
    resolver: Arc<dyn Resolver>,
    runtime: Option<Handle>,
    registered: bool,
    mistake: Option<io::Error>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            config: Config::default(),
            interfaces: Vec::new(),
            resolver: Arc::new(HostResolver),
            runtime: None,
            registered: true,
            mistake: None,
        }
    }

    /// Adds an interface on `device`, named as the device is.
    pub fn device(mut self, device: Device) -> Self {
        self.interfaces.push(InterfaceConfig {
            device,
            addresses: Vec::new(),
            dhcp: None,
            slaac: None,
            rarp: None,
            rarp_server: None,
            gateways: Vec::new(),
            neighbors: Vec::new(),
            mtu: None,
        });
        self
    }

    fn on_device(
        mut self,
        what: &str,
        change: impl FnOnce(&mut InterfaceConfig) -> io::Result<()>,
    ) -> Self {
        let changed = match self.interfaces.last_mut() {
            Some(interface) => change(interface),
            None => Err(invalid(format!("{what} given before any device"))),
        };
        self.mistake = self.mistake.or(changed.err());
        self
    }

    /// Gives the last device an address with its prefix, `"10.0.0.2/24"` or a [`Cidr`]. Repeatable.
    pub fn address<C>(self, address: C) -> Self
    where
        C: TryInto<Cidr>,
        C::Error: fmt::Display,
    {
        self.on_device("an address", |interface| {
            let cidr = address
                .try_into()
                .map_err(|error| invalid(error.to_string()))?;
            interface.addresses.push(cidr);
            Ok(())
        })
    }

    /// Has the last device's IPv4 address, its network and its default route come from a DHCP server (RFC 2131), beside
    /// addresses that are configured, and in place of a configured IPv4 gateway. Ethernet only. [`Stack::addresses_settled`] waits for it, [`Stack::leases`] tells
    /// it, [`Stack::release_leases`] gives it back.
    pub fn address_by_dhcp(self) -> Self {
        self.address_by_dhcp_with(dhcp::Config::default())
    }

    /// The same, with other times, a host name, or an address to ask for.
    pub fn address_by_dhcp_with(self, config: dhcp::Config) -> Self {
        self.on_device("DHCP", |interface| {
            require_ethernet(interface, "DHCP")?;
            interface.dhcp = Some(config);
            Ok(())
        })
    }

    /// Has the last device's IPv6 addresses, its default routers and what is on its link come from routers' advertisements
    /// (RFC 4861 6.3, RFC 4862 5.5), beside what is configured; a configured gateway comes before advertised ones. Ethernet
    /// only. [`Stack::addresses_settled`] waits for the first address, [`Stack::advertised`] tells what routers say.
    ///
    /// The addresses' lower halves are opaque (RFC 7217), and stay the same over restarts only with a
    /// [secret](crate::ip::autoconf::interface_identifier::IdentifierKind) or a [seed](Self::seed) of the program's.
    pub fn address_by_slaac(self) -> Self {
        self.address_by_slaac_with(router_discovery::Config::default())
    }

    /// The same, with other limits, other identifiers, or temporary addresses.
    pub fn address_by_slaac_with(self, config: router_discovery::Config) -> Self {
        self.on_device("SLAAC", |interface| {
            require_ethernet(interface, "SLAAC")?;
            interface.slaac = Some(config);
            Ok(())
        })
    }

    /// Has the last device's IPv4 address come from a RARP server (RFC 903), beside addresses that are configured. Ethernet
    /// only. RARP tells an address and nothing else: its network is that of its class (RFC 950 2.1), and
    /// [`gateway`](Self::gateway) names the router. [`Stack::addresses_settled`] waits for it and says when no server has
    /// answered.
    pub fn address_by_rarp(self) -> Self {
        self.address_by_rarp_with(rarp::Config::default())
    }

    /// The same, with a prefix, other times or more questions.
    pub fn address_by_rarp_with(self, config: rarp::Config) -> Self {
        self.on_device("RARP", |interface| {
            require_ethernet(interface, "RARP")?;
            if config.prefix.is_some_and(|prefix| prefix > 32) {
                return Err(invalid("a prefix of IPv4 has at most 32 bits".to_owned()));
            }
            interface.rarp = Some(config);
            Ok(())
        })
    }

    /// Tells hosts on the last device's link their IPv4 addresses when they ask by RARP (RFC 903), in the name of its first
    /// IPv4 address. Ethernet only.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::net::Ipv4Addr;
    /// use tidewire::ip::autoconf::rarp::{Server, ServerConfig};
    /// use tidewire_netdev::memory;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let config = memory::PairConfig { medium: tidewire_netdev::Medium::Ethernet, ..Default::default() };
    /// let (left, right) = memory::pair(config);
    /// let client = "02:00:00:00:00:07".parse()?;
    /// let mut table = Server::new(ServerConfig::default());
    /// table.insert(client, Ipv4Addr::new(10, 0, 0, 7)).expect("an empty table");
    /// let server = tidewire::Stack::builder()
    ///     .device(left)
    ///     .address("10.0.0.1/8")
    ///     .rarp_server(table)
    ///     .build()?;
    /// let client = tidewire::Stack::builder()
    ///     .device(right)
    ///     .hardware_address(client)
    ///     .address_by_rarp()
    ///     .unregistered()
    ///     .build()?;
    /// client.addresses_settled().await?;
    /// assert_eq!(client.rarp_answers()[0].1.address, "10.0.0.7/8".parse()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn rarp_server(self, server: rarp::Server) -> Self {
        self.on_device("a RARP server", |interface| {
            require_ethernet(interface, "RARP")?;
            interface.rarp_server = Some(server);
            Ok(())
        })
    }

    /// Gives the last device a default route, for the gateway's IP version. Repeatable.
    pub fn gateway<G: GatewayAddress>(self, gateway: G) -> Self {
        self.on_device("a gateway", |interface| {
            interface.gateways.push(gateway.gateway()?);
            Ok(())
        })
    }

    /// Uses that hardware address on the last device, instead of the device's own or a made-up one. Ethernet only.
    pub fn hardware_address(self, address: MacAddress) -> Self {
        self.on_device("a hardware address", |interface| {
            if interface.device.capabilities.medium != Medium::Ethernet {
                return Err(invalid(format!(
                    "{} has no hardware addresses",
                    interface.device.name
                )));
            }
            if !address.is_unicast() {
                return Err(invalid(format!("{address} is not one station's address")));
            }
            interface.device.hardware_address = Some(address);
            Ok(())
        })
    }

    /// Sets a neighbour on the last device for good: it is not asked for (`ip neigh add ... nud permanent`). Ethernet only.
    pub fn neighbor(self, address: IpAddr, hardware_address: MacAddress) -> Self {
        self.on_device("a neighbour", |interface| {
            interface.neighbors.push((address, hardware_address));
            Ok(())
        })
    }

    /// The neighbour cache's configuration: times and limits of ARP and neighbour discovery.
    pub fn neighbors(mut self, config: neighbor::Config) -> Self {
        self.config.neighbor = config;
        self
    }

    /// Uses packets of at most `mtu` octets on the last device, IP header included, instead of the device's own MTU.
    pub fn mtu(self, mtu: usize) -> Self {
        self.on_device("an MTU", |interface| {
            interface.mtu = Some(mtu);
            Ok(())
        })
    }

    /// Seeds everything random: with the same seed, input and times the stack sends the same packets, byte for byte.
    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = Some(seed);
        self
    }

    /// TCP's configuration.
    pub fn tcp(mut self, config: tcp::Config) -> Self {
        self.config.tcp = config;
        self
    }

    /// UDP's configuration.
    pub fn udp(mut self, config: udp::Config) -> Self {
        self.config.udp = config;
        self
    }

    /// SCTP's configuration.
    pub fn sctp(mut self, config: sctp::Config) -> Self {
        self.config.sctp = config;
        self
    }

    /// What the stack does by itself: echo replies, queues, limits.
    pub fn host(mut self, config: HostConfig) -> Self {
        self.config.host = config;
        self
    }

    /// Makes the stack a router, which passes packets for other hosts on between its devices
    /// ([`HostConfig::forwarding`]); to be given behind [`host`](Self::host).
    pub fn forwarding(mut self) -> Self {
        self.config.host.forwarding = true;
        self
    }

    /// Who looks up names; [`HostResolver`] if not given.
    pub fn resolver<R: Resolver>(mut self, resolver: R) -> Self {
        self.resolver = Arc::new(resolver);
        self
    }

    /// The runtime to run on; the current one if not given. It must have its time driver enabled.
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Does not register the stack with its runtime: only sockets that are made on it, in its scope or by
    /// [`Stack::attach`] and [`Stack::set_default`] find it.
    pub fn unregistered(mut self) -> Self {
        self.registered = false;
        self
    }

    /// Builds the stack and starts its driver on the runtime. The first stack built on a runtime becomes the one that
    /// sockets made there find.
    ///
    /// # Errors
    /// A mistake in what was given ([`io::ErrorKind::InvalidInput`]); no runtime, or one without a time driver; the
    /// device's error.
    pub fn build(self) -> io::Result<Stack> {
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        let runtime = match self.runtime {
            Some(runtime) => runtime,
            None => Handle::try_current().map_err(io::Error::other)?,
        };
        let shared = driver::start(self.config, self.interfaces, &runtime, Lifetime::Handles)?;
        let stack = Stack::from_parts(shared, self.resolver);
        if self.registered {
            registry::register_if_vacant(&runtime, &stack);
        }
        Ok(stack)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let devices: Vec<_> = self
            .interfaces
            .iter()
            .map(|interface| &interface.device.name)
            .collect();
        f.debug_struct("Builder")
            .field("devices", &devices)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
