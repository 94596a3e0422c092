//! The kernel's side of a device: addresses, MTU and link state, by rtnetlink.
//!
//! Used by `--kernel-address`, and by tests that need a kernel to talk to. The integration tests include this file as a
//! module: it needs nothing else of this crate, and they need none of what programs are made of.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt};
use netlink_packet_route::address::AddressHeaderFlags;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteType};
use rtnetlink::{Handle, LinkUnspec, MulticastGroup, RouteMessageBuilder};
use tidewire::ip::Cidr;

/// How long an interface's IPv6 address may take until the kernel takes packets to it: a matter of its work queues, so
/// milliseconds, and far more on a machine that swaps.
const SETTLE: Duration = Duration::from_secs(5);

/// Sets up an interface in the network namespace of the calling thread: its MTU in octets if given, its addresses (added
/// to those it has), and with `up` its link state. Returns when packets to the addresses are taken.
///
/// # Errors
/// No such interface, or no `CAP_NET_ADMIN`; the text says which.
pub async fn configure(
    name: &str,
    addresses: &[Cidr],
    mtu: Option<usize>,
    up: bool,
) -> io::Result<()> {
    let (connection, netlink, changes) =
        rtnetlink::new_multicast_connection(&[MulticastGroup::Ipv6Route])?;
    let connection = tokio::spawn(connection);
    let result = configure_by(&netlink, changes, name, addresses, mtu, up).await;
    connection.abort();
    result.map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::PermissionDenied => ": run with CAP_NET_ADMIN (as root)",
            _ => "",
        };
        io::Error::new(
            error.kind(),
            format!("cannot configure the kernel's side of {name}: {error}{advice}"),
        )
    })
}

async fn configure_by(
    netlink: &Handle,
    mut route_changes: impl Stream + Unpin,
    name: &str,
    addresses: &[Cidr],
    mtu: Option<usize>,
    up: bool,
) -> io::Result<()> {
    let mut links = netlink.link().get().match_name(name).execute();
    let link = links.try_next().await.map_err(into_io)?;
    let index = link.ok_or(io::ErrorKind::NotFound)?.header.index;
    let mut settings = LinkUnspec::new_with_index(index);
    if let Some(mtu) = mtu {
        settings = settings.mtu(u32::try_from(mtu).unwrap_or(u32::MAX));
    }
    if up {
        settings = settings.up();
    }
    let request = netlink.link().set(settings.build());
    request.execute().await.map_err(into_io)?;
    for cidr in addresses {
        // `replace`: an address that is there already is no error.
        let request = netlink
            .address()
            .add(index, cidr.address(), cidr.prefix_len());
        let mut request = request.replace();
        // Duplicate detection would keep an IPv6 address from being used for seconds; on a link of our own there is
        // nobody else.
        request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        request.execute().await.map_err(into_io)?;
    }
    if up {
        for cidr in addresses {
            if let IpAddr::V6(address) = cidr.address() {
                wait_until_delivered(netlink, &mut route_changes, address).await?;
            }
        }
    }
    Ok(())
}

/// The kernel inserts the host route of an IPv6 address later than it answers; until then packets to it are dropped.
async fn wait_until_delivered(
    netlink: &Handle,
    route_changes: &mut (impl Stream + Unpin),
    address: Ipv6Addr,
) -> io::Result<()> {
    let wait = async {
        while !is_delivered(netlink, address).await? {
            let change = route_changes.next().await;
            change.ok_or(io::ErrorKind::UnexpectedEof)?;
        }
        Ok(())
    };
    tokio::time::timeout(SETTLE, wait).await?
}

async fn is_delivered(netlink: &Handle, address: Ipv6Addr) -> io::Result<bool> {
    let all = RouteMessageBuilder::<Ipv6Addr>::new().build();
    let mut routes = std::pin::pin!(netlink.route().get(all).execute());
    let host = RouteAttribute::Destination(RouteAddress::Inet6(address));
    let mut found = false;
    // To the end: the next request on this socket comes after the last answer to this one.
    while let Some(route) = routes.try_next().await.map_err(into_io)? {
        found |= route.header.kind == RouteType::Local && route.attributes.contains(&host);
    }
    Ok(found)
}

fn into_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}
