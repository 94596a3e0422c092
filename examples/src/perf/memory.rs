//! Both ends in one process: two stacks over the in-memory pair, nothing between them but our code.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tidewire::Stack;
use tidewire_netdev::memory::{PairConfig, pair};
use tidewire_netdev::{Device, OffloadSet};
use tokio::task::JoinSet;

use super::client::send_all;
use super::flags::Memory;
use super::network::{Network, OwnStack, ZeroCopyStack};
use super::report::{InMemory, Rate, Stopwatch};
use super::sctp::SctpStack;
use super::service::Service;
use super::{DISCARD_PORT, traffic};

const SENDER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const RECEIVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

/// Sends from one stack to the other for a time, and counts what the receiving application gets in it.
///
/// # Errors
/// What building the stacks and connecting give.
pub async fn run(flags: Memory) -> io::Result<InMemory> {
    let offloads = if flags.no_offload {
        OffloadSet::NONE
    } else {
        OffloadSet::ALL
    };
    let (a, b) = pair(PairConfig {
        mtu: flags.mtu,
        offloads,
        ..PairConfig::default()
    });
    let (sender, receiver) = (stack(a, SENDER)?, stack(b, RECEIVER)?);
    if flags.sctp {
        let networks = (SctpStack::new(sender), SctpStack::new(receiver));
        measure(&networks.0, &networks.1, flags, offloads).await
    } else if flags.zero_copy {
        measure(
            &ZeroCopyStack(OwnStack::new(sender)),
            &ZeroCopyStack(OwnStack::new(receiver)),
            flags,
            offloads,
        )
        .await
    } else {
        let (sender, receiver) = (OwnStack::new(sender), OwnStack::new(receiver));
        measure(&sender, &receiver, flags, offloads).await
    }
}

fn stack(device: Device, address: IpAddr) -> io::Result<Stack> {
    let builder = Stack::builder().device(device);
    let address = format!("{address}/24");
    builder.address(address.as_str()).unregistered().build()
}

async fn measure<N: Network>(
    sender: &N,
    receiver: &N,
    flags: Memory,
    offloads: OffloadSet,
) -> io::Result<InMemory> {
    let service = Service::start(receiver, RECEIVER)?;
    let server = SocketAddr::new(RECEIVER, DISCARD_PORT);
    let payload = traffic::payload(flags.message);
    let mut streams = Vec::new();
    for _ in 0..flags.streams {
        streams.push(sender.connect(server).await?);
    }
    let stopwatch = Stopwatch::start()?;
    let mut senders = JoinSet::new();
    for mut stream in streams {
        let payload = payload.clone();
        senders.spawn(async move {
            N::reset_on_drop(&stream)?;
            Err(send_all::<N>(&mut stream, &payload, &mut 0).await)
        });
    }
    tokio::select! {
        () = tokio::time::sleep(flags.seconds) => {}
        Some(failed) = senders.join_next() => failed??,
    }
    let bytes = service.discarded();
    let (elapsed, cpu) = stopwatch.read()?;
    Ok(InMemory {
        test: "memory",
        mtu: flags.mtu,
        offloads: offloads.names(),
        streams: flags.streams,
        message: flags.message,
        rate: Rate::new(bytes, elapsed),
        cpu,
    })
}
