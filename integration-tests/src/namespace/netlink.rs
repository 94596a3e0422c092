//! Interfaces and routes, by rtnetlink; addresses are `configure`'s matter.
//!
//! A [`Netlink`] speaks to the kernel about the network namespace of the thread that opened it. What the kernel does
//! later than it answers is waited for, by its own notifications.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt, TryStreamExt};
use netlink_packet_route::address::{AddressHeaderFlags, AddressScope};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage, State};
use rtnetlink::{
    Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, MulticastGroup, RouteMessageBuilder,
};
use tidewire::ip::Cidr;
use tidewire_netdev::MacAddress;
use tokio::task::AbortHandle;

/// How long what the kernel does later than it answers may take: milliseconds, and far more on a busy machine.
const SETTLE: Duration = Duration::from_secs(5);

/// A pair of virtual Ethernet interfaces, as they are made.
#[derive(Clone, Copy, Debug)]
pub struct VethPair<'a> {
    /// The end in the namespace of the one who makes it.
    pub near: VethEnd<'a>,
    /// The other end.
    pub far: VethEnd<'a>,
    /// The namespace that the other end is put in; `None` leaves it in this one.
    pub far_namespace: Option<BorrowedFd<'a>>,
    /// The MTU of both, in octets.
    pub mtu: usize,
}

/// An end of a [`VethPair`].
#[derive(Clone, Copy, Debug)]
pub struct VethEnd<'a> {
    /// The interface's name.
    pub name: &'a str,
    /// Its hardware address: given, since one the kernel makes up differs from run to run.
    pub hardware_address: MacAddress,
}

/// A connection to the kernel about one namespace.
#[derive(Debug)]
pub struct Netlink {
    handle: Handle,
    /// The kernel's notifications about links and IPv6 addresses; their content is read anew.
    changes: UnboundedReceiver<Change>,
    connection: AbortHandle,
}

type Change = (
    rtnetlink::packet_core::NetlinkMessage<rtnetlink::packet_route::RouteNetlinkMessage>,
    rtnetlink::sys::SocketAddr,
);

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Netlink {
    /// Speaks about the namespace of the calling thread, from a task of the current runtime.
    ///
    /// # Errors
    /// What the kernel says to the socket.
    pub fn open() -> io::Result<Self> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv6Ifaddr];
        let (connection, handle, changes) = rtnetlink::new_multicast_connection(&groups)?;
        Ok(Self {
            handle,
            changes,
            connection: tokio::spawn(connection).abort_handle(),
        })
    }

    /// Takes an interface down, or brings it up again.
    ///
    /// # Errors
    /// No such interface, or no `CAP_NET_ADMIN`.
    pub async fn set_up(&mut self, name: &str, up: bool) -> io::Result<()> {
        let link = LinkUnspec::new_with_index(self.index_of(name).await?);
        let link = if up { link.up() } else { link.down() };
        self.set_link(link.build()).await
    }

    /// Deletes an interface.
    ///
    /// # Errors
    /// As [`Self::set_up`].
    pub async fn delete_link(&mut self, name: &str) -> io::Result<()> {
        let index = self.index_of(name).await?;
        let request = self.handle.link().del(index);
        request.execute().await.map_err(into_io)
    }

    /// Makes a pair of virtual Ethernet interfaces; both are down.
    ///
    /// # Errors
    /// An interface of that name, a kernel without veth, no `CAP_NET_ADMIN` in either namespace.
    pub async fn add_veth(&mut self, pair: &VethPair<'_>) -> io::Result<()> {
        let mtu = octets(pair.mtu);
        let mut far = LinkMessageBuilder::<LinkUnspec>::default()
            .name(pair.far.name)
            .address(pair.far.hardware_address.0.to_vec())
            .mtu(mtu);
        if let Some(namespace) = pair.far_namespace {
            far = far.setns_by_fd(namespace.as_raw_fd());
        }
        let near = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(pair.near.name)
            .address(pair.near.hardware_address.0.to_vec())
            .mtu(mtu)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(far.build())));
        let request = self.handle.link().add(near.build());
        request.execute().await.map_err(into_io)
    }

    /// Returns when an interface that was brought up carries packets, for which its peer must be up, too.
    ///
    /// # Errors
    /// No such interface, and [`io::ErrorKind::TimedOut`].
    pub async fn wait_for_carrier(&mut self, name: &str) -> io::Result<()> {
        self.settle(name, async |handle| {
            let link = link_of(handle, name).await?;
            Ok(link
                .attributes
                .contains(&LinkAttribute::OperState(State::Up)))
        })
        .await
    }

    /// Returns when an interface that carries packets has its IPv6 link-local address, without which a router does not
    /// look for neighbours there.
    ///
    /// # Errors
    /// No such interface, and [`io::ErrorKind::TimedOut`].
    pub async fn wait_for_link_local(&mut self, name: &str) -> io::Result<()> {
        let index = self.index_of(name).await?;
        self.settle(name, async |handle| has_link_local(handle, index).await)
            .await
    }

    /// Sends what goes to `destination` through `gateway`.
    ///
    /// # Errors
    /// No way to the gateway, a route that is there already.
    pub async fn add_route(&mut self, destination: Cidr, gateway: IpAddr) -> io::Result<()> {
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(destination.address(), destination.prefix_len())
            .and_then(|route| route.gateway(gateway));
        let route = route.map_err(|_| io::ErrorKind::InvalidInput)?;
        let request = self.handle.route().add(route.build());
        request.execute().await.map_err(into_io)
    }

    async fn index_of(&self, name: &str) -> io::Result<u32> {
        Ok(link_of(&self.handle, name).await?.header.index)
    }

    async fn set_link(&self, link: LinkMessage) -> io::Result<()> {
        let request = self.handle.link().set(link);
        request.execute().await.map_err(into_io)
    }

    /// Returns when `is_ready`, which is asked again whenever something changed.
    async fn settle(
        &mut self,
        name: &str,
        is_ready: impl AsyncFn(&Handle) -> io::Result<bool>,
    ) -> io::Result<()> {
        let wait = async {
            while !is_ready(&self.handle).await? {
                let change = self.changes.next().await;
                change.ok_or(io::ErrorKind::UnexpectedEof)?;
            }
            Ok(())
        };
        let waited = tokio::time::timeout(SETTLE, wait).await;
        waited.unwrap_or_else(|_| {
            let text = format!("{name} is not ready after {SETTLE:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        })
    }
}

/// [`Netlink::set_up`], in the namespace of the calling thread.
///
/// # Errors
/// As there.
pub async fn set_up(name: &str, up: bool) -> io::Result<()> {
    Netlink::open()?.set_up(name, up).await
}

/// [`Netlink::delete_link`], in the namespace of the calling thread.
///
/// # Errors
/// As there.
pub async fn delete_link(name: &str) -> io::Result<()> {
    Netlink::open()?.delete_link(name).await
}

fn octets(mtu: usize) -> u32 {
    u32::try_from(mtu).unwrap_or(u32::MAX)
}

async fn link_of(netlink: &Handle, name: &str) -> io::Result<LinkMessage> {
    let mut links = netlink.link().get().match_name(name).execute();
    let link = links.try_next().await.map_err(into_io)?;
    Ok(link.ok_or(io::ErrorKind::NotFound)?)
}

async fn has_link_local(netlink: &Handle, index: u32) -> io::Result<bool> {
    let addresses = netlink.address().get().set_link_index_filter(index);
    let mut addresses = std::pin::pin!(addresses.execute());
    let mut found = false;
    while let Some(address) = addresses.try_next().await.map_err(into_io)? {
        let is_checked = !address.header.flags.contains(AddressHeaderFlags::Tentative);
        found |= is_checked && address.header.scope == AddressScope::Link;
    }
    Ok(found)
}

fn into_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}
