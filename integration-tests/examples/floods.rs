//! Floods: a stack in the middle of a TCP transfer is sent 100,000 packets a second of everything that fills a table. Says
//! how much of the transfer is left, and what the tables hold.
//!
//! ```text
//! cargo run --release -p tidewire-integration-tests --example floods [SECONDS [KIND]]
//! ```
//!
//! ```text
//!  sender ── switch ── victim      TCP, as fast as it goes
//!              │
//!            flood                 100,000 frames a second to the victim
//! ```
//! All of it runs on one thread: what the flood costs to make is counted against the transfer. Ends with 1 when less than half
//! of the transfer is left, or a table is beyond its limit.

use std::collections::VecDeque;
use std::error::Error;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidewire::Stack;
use tidewire::net::TcpStream;
use tidewire_netdev::checksum::{Sum, pseudo_header_v4, pseudo_header_v6};
use tidewire_netdev::memory::{PortConfig, Switch, SwitchConfig};
use tidewire_netdev::{DeviceQueue, MacAddress, Packet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

const VICTIM: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const VICTIM_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const VICTIM_HARDWARE: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const PORT: u16 = 7000;
/// Frames a millisecond.
const RATE: u64 = 100;
/// What the victim's tables may hold: the limits of the default configuration.
const MAX_NEIGHBORS: usize = 1024;
const MAX_ADDRESSES: usize = 16;

/// The frame of a flood that has that number; an empty one is not sent.
type Make = fn(u64) -> Vec<u8>;

/// What floods the link.
const KINDS: [(&str, Make); 11] = [
    ("nothing", |_| Vec::new()),
    ("ARP questions from everybody", arp),
    ("neighbour solicitations from everybody", solicitation),
    ("IPv4 fragments, never all", fragment_v4),
    ("IPv6 fragments, never all", fragment_v6),
    ("echo requests", echo),
    ("datagrams to ports of nobody's", datagram),
    ("SYNs to a listener", syn),
    ("segments to connections of nobody's", stray),
    ("multicast queries and reports", group),
    ("advertisements of 1,000 prefixes", advertisement),
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let seconds = std::env::args().nth(1).map(|text| text.parse());
    let seconds = match seconds {
        None => 2.0,
        Some(Ok(seconds)) => seconds,
        Some(Err(_)) => {
            eprintln!("usage: floods [SECONDS [KIND]]");
            return ExitCode::from(2);
        }
    };
    let kind = std::env::args().nth(2).unwrap_or_default();
    match run(Duration::from_secs_f64(seconds), &kind).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("floods: {error}");
            ExitCode::from(2)
        }
    }
}

/// Measures each kind whose name has `kind` beside a transfer without a flood, and says whether all was well.
async fn run(time: Duration, kind: &str) -> Result<bool> {
    let mut all_well = true;
    for (name, frame) in KINDS.into_iter().filter(|(name, _)| name.contains(kind)) {
        let link = Link::new()?;
        let mut transfer = JoinSet::new();
        let received = link.begin(&mut transfer).await?;
        sleep(Duration::from_millis(300)).await;
        let quiet_before = rate(&received, time).await;
        let flood = tokio::spawn(flood(link.flood, frame));
        let flooded = rate(&received, time).await;
        flood.abort();
        let sent = flood
            .await
            .err()
            .map_or(0, |_| FRAMES.swap(0, Ordering::Relaxed));
        let quiet_after = rate(&received, time).await;
        let left = flooded / quiet_before.midpoint(quiet_after);
        let neighbors = link.victim.neighbors().len();
        let addresses = link.victim.addresses().len();
        let is_well = left >= 0.5 && neighbors <= MAX_NEIGHBORS && addresses <= 3 + MAX_ADDRESSES;
        all_well &= is_well;
        println!(
            "{name:40} {:6.0} frames/s: {:5.2} GB/s of {:5.2}, {:3.0} %; {neighbors} neighbours, {addresses} addresses{}",
            sent as f64 / time.as_secs_f64(),
            flooded / 1e9,
            quiet_before.midpoint(quiet_after) / 1e9,
            left * 100.0,
            if is_well { "" } else { " — too much" },
        );
    }
    Ok(all_well)
}

/// Octets a second.
async fn rate(received: &AtomicU64, time: Duration) -> f64 {
    let (start, before) = (Instant::now(), received.load(Ordering::Relaxed));
    sleep(time).await;
    let octets = received.load(Ordering::Relaxed) - before;
    octets as f64 / start.elapsed().as_secs_f64()
}

/// A switch with two hosts and a port for the flood.
struct Link {
    victim: Stack,
    sender: Stack,
    flood: DeviceQueue,
    _switch: Switch,
}

impl Link {
    fn new() -> Result<Self> {
        let switch = Switch::new(SwitchConfig::default());
        let port = |name: &str, hardware| {
            switch.port(PortConfig {
                hardware_address: Some(hardware),
                ..PortConfig::named(name)
            })
        };
        let victim = Stack::builder()
            .device(port("victim", VICTIM_HARDWARE))
            .address("10.0.0.1/8")
            .address("fd00::1/64")
            .address_by_slaac()
            .seed(1)
            .unregistered()
            .build()?;
        let sender = Stack::builder()
            .device(port("sender", MacAddress([2, 0, 0, 0, 0, 2])))
            .address("10.0.0.2/8")
            .seed(2)
            .unregistered()
            .build()?;
        let flood = port("flood", MacAddress([2, 0, 0, 0, 0, 3]));
        let flood = flood
            .into_queues()
            .next()
            .ok_or("a device without a queue")?;
        Ok(Self {
            victim,
            sender,
            flood,
            _switch: switch,
        })
    }

    /// Begins a transfer, which lasts as long as its tasks; the octets that the victim has read so far.
    async fn begin(&self, transfer: &mut JoinSet<()>) -> Result<Arc<AtomicU64>> {
        let listener = self.victim.tcp_listener((VICTIM, PORT)).await?;
        let connect = self.sender.tcp_stream((VICTIM, PORT));
        let (accepted, connected) = tokio::join!(listener.accept(), connect);
        let received = Arc::new(AtomicU64::new(0));
        transfer.spawn(read(accepted?.0, Arc::clone(&received)));
        transfer.spawn(write(connected?));
        // The listener stays, for the SYNs.
        transfer.spawn(async move { while listener.accept().await.is_ok() {} });
        Ok(received)
    }
}

async fn read(mut stream: TcpStream, received: Arc<AtomicU64>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(octets @ 1..) = stream.read(&mut buffer).await {
        received.fetch_add(octets as u64, Ordering::Relaxed);
    }
}

async fn write(mut stream: TcpStream) {
    let data = vec![7; 64 << 10];
    while stream.write_all(&data).await.is_ok() {}
}

/// Frames of the flood that the switch has taken.
static FRAMES: AtomicU64 = AtomicU64::new(0);

/// Sends until it is stopped.
async fn flood(queue: DeviceQueue, frame: Make) {
    let mut ticks = interval(Duration::from_millis(1));
    // What a busy thread has missed is sent later: it is the rate that counts.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut number = 0;
    loop {
        ticks.tick().await;
        let mut batch: VecDeque<_> = (0..RATE)
            .map(|i| frame(number + i))
            .filter(|frame| !frame.is_empty())
            .map(|frame| Packet::from_bytes(frame.into()))
            .collect();
        number += RATE;
        let frames = batch.len();
        let sent = queue.transmitter.try_transmit(&mut batch);
        if sent.is_err() {
            return;
        }
        FRAMES.fetch_add((frames - batch.len()) as u64, Ordering::Relaxed);
    }
}

/// A station of whose kind there are many.
fn station(number: u64) -> [u8; 6] {
    let [.., a, b, c, d] = number.to_be_bytes();
    [6, 0, a, b, c, d]
}

fn host(number: u64) -> Ipv4Addr {
    let [.., b, c, d] = (number as u32).to_be_bytes();
    Ipv4Addr::new(10, b | 1, c, d)
}

fn host_v6(number: u64) -> Ipv6Addr {
    Ipv6Addr::from_bits((0xfd00 << 112) | (1 << 32) | u128::from(number as u32))
}

fn ethernet(number: u64, to: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(14 + payload.len());
    frame.extend_from_slice(&to);
    frame.extend_from_slice(&station(number));
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn sum(octets: &[u8]) -> u16 {
    let mut sum = Sum::new();
    sum.add_bytes(octets);
    sum.finish()
}

/// An IPv4 packet with `fragment` in the field of that name.
fn ipv4(number: u64, protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    packet.extend_from_slice(&(number as u16).to_be_bytes());
    packet.extend_from_slice(&fragment.to_be_bytes());
    packet.extend_from_slice(&[64, protocol, 0, 0]);
    packet.extend_from_slice(&host(number).octets());
    packet.extend_from_slice(&VICTIM.octets());
    let checksum = sum(&packet);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend_from_slice(payload);
    ethernet(number, VICTIM_HARDWARE.0, 0x0800, &packet)
}

fn ipv6(
    number: u64,
    source: Ipv6Addr,
    (destination, to): (Ipv6Addr, [u8; 6]),
    protocol: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[protocol, 255]);
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&destination.octets());
    packet.extend_from_slice(payload);
    ethernet(number, to, 0x86dd, &packet)
}

/// An ICMPv6 message with its checksum.
fn icmpv6(source: Ipv6Addr, destination: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    let mut sum = pseudo_header_v6(source, destination, 58, message.len() as u32);
    sum.add_bytes(&message);
    let checksum = sum.finish();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

fn arp(number: u64) -> Vec<u8> {
    let mut message = vec![0, 1, 8, 0, 6, 4, 0, 1];
    message.extend_from_slice(&station(number));
    message.extend_from_slice(&host(number).octets());
    message.extend_from_slice(&[0; 6]);
    message.extend_from_slice(&VICTIM.octets());
    ethernet(number, VICTIM_HARDWARE.0, 0x0806, &message)
}

fn solicitation(number: u64) -> Vec<u8> {
    let source = host_v6(number);
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&VICTIM_V6.octets());
    message.extend_from_slice(&[1, 1]);
    message.extend_from_slice(&station(number));
    let message = icmpv6(source, VICTIM_V6, message);
    ipv6(number, source, (VICTIM_V6, VICTIM_HARDWARE.0), 58, &message)
}

fn fragment_v4(number: u64) -> Vec<u8> {
    const MORE: u16 = 0x2000;
    ipv4(number, 17, MORE, &[0; 1400])
}

fn fragment_v6(number: u64) -> Vec<u8> {
    let mut payload = vec![17, 0, 0, 1];
    payload.extend_from_slice(&(number as u32).to_be_bytes());
    payload.resize(8 + 1400, 0);
    let source = host_v6(number);
    ipv6(number, source, (VICTIM_V6, VICTIM_HARDWARE.0), 44, &payload)
}

fn echo(number: u64) -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0];
    message.extend_from_slice(&(number as u32).to_be_bytes());
    message.resize(64, 0);
    let checksum = sum(&message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    ipv4(number, 1, 0, &message)
}

fn datagram(number: u64) -> Vec<u8> {
    let mut message = (number as u16).to_be_bytes().to_vec();
    message.extend_from_slice(&9_u16.to_be_bytes());
    message.extend_from_slice(&[0, 72, 0, 0]);
    message.resize(72, 0);
    ipv4(number, 17, 0, &message)
}

fn segment(number: u64, port: u16, flags: u8) -> Vec<u8> {
    let mut message = (number as u16).to_be_bytes().to_vec();
    message.extend_from_slice(&port.to_be_bytes());
    message.extend_from_slice(&(number as u32).to_be_bytes());
    message.extend_from_slice(&[0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    let mut sum = pseudo_header_v4(host(number), VICTIM, 6, message.len() as u32);
    sum.add_bytes(&message);
    let checksum = sum.finish();
    message[16..18].copy_from_slice(&checksum.to_be_bytes());
    ipv4(number, 6, 0, &message)
}

fn syn(number: u64) -> Vec<u8> {
    segment(number, PORT, 0x02)
}

fn stray(number: u64) -> Vec<u8> {
    segment(number, PORT, 0x10)
}

/// MLD queries and, every other time, reports of groups.
fn group(number: u64) -> Vec<u8> {
    let source = Ipv6Addr::from_bits((0xfe80 << 112) | (1 << 40) | u128::from(number as u32));
    let group = Ipv6Addr::from_bits((0xff02 << 112) | (1 << 33) | u128::from(number as u32));
    let kind = if number.is_multiple_of(2) { 130 } else { 131 };
    let mut message = vec![kind, 0, 0, 0, 0, 1, 0, 0];
    message.extend_from_slice(&group.octets());
    let message = icmpv6(source, group, message);
    let mut payload = vec![58, 0, 5, 2, 0, 0, 1, 0];
    payload.extend_from_slice(&message);
    let [.., a, b, c, d] = group.octets();
    let mut frame = ipv6(
        number,
        source,
        (group, [0x33, 0x33, a, b, c, d]),
        0,
        &payload,
    );
    // Such messages go to neighbours only.
    frame[14 + 7] = 1;
    frame
}

/// One of many advertisements, with ten of a thousand prefixes each.
fn advertisement(number: u64) -> Vec<u8> {
    let router = Ipv6Addr::from_bits((0xfe80 << 112) | (1 + u128::from(number as u32 % 4096)));
    let everybody = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut message = vec![134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    for i in 0..10 {
        let prefix = (number * 10 + i) % 1000;
        message.extend_from_slice(&[3, 4, 64, 0xc0, 0, 0, 14, 16, 0, 0, 14, 16, 0, 0, 0, 0]);
        let prefix = (0x2001_0db8_u128 << 96) | (u128::from(prefix) << 64);
        message.extend_from_slice(&prefix.to_be_bytes());
    }
    let message = icmpv6(router, everybody, message);
    ipv6(
        number,
        router,
        (everybody, [0x33, 0x33, 0, 0, 0, 1]),
        58,
        &message,
    )
}
