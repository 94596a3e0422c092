//! A stack of ours and this machine's kernel at the two ends of a TUN interface.
//!
//! Owns the interface, the addresses, both ends' sockets as tests want them, and what must be true at the end of every
//! test: the kernel has counted no bad packet, and neither have we. Call it inside a namespace ([`crate::namespace`]).
//!
//! ```text
//!  tokio::net 10.7.0.1, fd07::1 ── kernel ── TUN ── [impairment] ── tidewire::net 10.7.0.2, fd07::2
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::future::{Future, poll_fn};
use std::io::{self, BufWriter};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use socket2::SockRef;
use tidewire::Stack;
use tidewire::ip::Cidr;
use tidewire_netdev::capture::{self, Capture, CaptureConfig, SharedCapture};
use tidewire_netdev::linux::{Tun, TunConfig, TunCounters};
use tidewire_netdev::memory::{ImpairmentConfig, PairConfig, impaired_pair};
use tidewire_netdev::{Device, DeviceQueue, OffloadSet, Packet, Receiver, Transmitter};
use tokio::net::TcpSocket;

use crate::namespace::{Counters, Flavor, announce, configure, run, socket_list};

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// 10.7.0.0/24, or another subnet.
    V4,
    /// fd07::/64, or another subnet.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The kernel's address, on a link in subnet 7.
    pub const fn kernel(self) -> IpAddr {
        self.kernel_in(7)
    }

    /// The stack's address, on a link in subnet 7.
    pub const fn stack(self) -> IpAddr {
        self.stack_in(7)
    }

    /// The kernel's address on a link in `subnet`.
    pub const fn kernel_in(self, subnet: u8) -> IpAddr {
        self.host(subnet, 1)
    }

    /// The stack's address on a link in `subnet`.
    pub const fn stack_in(self, subnet: u8) -> IpAddr {
        self.host(subnet, 2)
    }

    const fn host(self, subnet: u8, last: u8) -> IpAddr {
        use std::net::{Ipv4Addr, Ipv6Addr};
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::new(10, subnet, 0, last)),
            Self::V6 => IpAddr::V6(Ipv6Addr::new(
                0xfd00 + subnet as u16,
                0,
                0,
                0,
                0,
                0,
                0,
                last as u16,
            )),
        }
    }

    const fn prefix(self) -> u8 {
        match self {
            Self::V4 => 24,
            Self::V6 => 64,
        }
    }

    /// The smallest MTU a link of this version may have here (RFC 791 says 68, hosts must take 576; RFC 8200: 1280).
    pub const fn smallest_mtu(self) -> usize {
        match self {
            Self::V4 => 576,
            Self::V6 => 1280,
        }
    }
}

/// Which end listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The stack listens, the kernel connects.
    StackListens,
    /// The kernel listens, the stack connects.
    KernelListens,
}

impl Role {
    /// Both.
    pub const ALL: [Self; 2] = [Self::StackListens, Self::KernelListens];
}

/// How the interface between stack and kernel is.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// The interface's MTU. Below 1280 the kernel has no IPv6 on it. Default: 1500.
    pub mtu: usize,
    /// The second octet of the addresses; links of one namespace must differ. Default: 7.
    pub subnet: u8,
    /// Super-packets and partial checksums. Default: `true`.
    pub offload: bool,
    /// A virtio-net header before each packet. Without it there are no offloads, as on a plain TUN. Default: `true`.
    pub virtio_header: bool,
    /// A path between the interface and the stack, the same in both directions. Default: none.
    pub impairment: Option<ImpairmentConfig>,
    /// The stack's TCP.
    pub tcp: tidewire::tcp::Config,
    /// Records what passes the interface in this file. Default: none.
    pub capture: Option<PathBuf>,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            mtu: 1500,
            subnet: 7,
            offload: true,
            virtio_header: true,
            impairment: None,
            tcp: tidewire::tcp::Config::default(),
            capture: None,
        }
    }
}

/// The TUN interface with a stack at its other end.
pub struct Link {
    /// The stack.
    pub stack: Stack,
    /// The interface's name.
    pub name: String,
    tun: TunCounters,
    meter: Arc<Meter>,
    before: Counters,
    capture: Option<FileCapture>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Link {
    /// Makes the interface, gives both ends their addresses and starts the stack on the current runtime.
    ///
    /// # Panics
    /// When the machine refuses.
    pub async fn start(config: &LinkConfig) -> Self {
        let opened = open(config).await;
        Self {
            before: Counters::read(),
            stack: start_stack(opened.device, config),
            name: opened.name,
            tun: opened.tun,
            meter: opened.meter,
            capture: opened.capture,
        }
    }

    /// A connected pair: our end, the kernel's end. The listener is gone.
    ///
    /// # Panics
    /// When the connection fails.
    pub async fn connected(
        &self,
        role: Role,
        family: Family,
    ) -> (tidewire::net::TcpStream, tokio::net::TcpStream) {
        match role {
            Role::StackListens => {
                let listener = self
                    .stack
                    .tcp_listener((family.stack(), 0))
                    .await
                    .expect("bound");
                let address = listener.local_addr().expect("bound");
                let (kernel, ours) = tokio::join!(kernel_connect(address), listener.accept());
                (ours.expect("accepted").0, kernel.expect("connected"))
            }
            Role::KernelListens => {
                let listener = kernel_listen(SocketAddr::new(family.kernel(), 0));
                let address = listener.local_addr().expect("bound");
                let (ours, kernel) =
                    tokio::join!(self.stack.tcp_stream(address), listener.accept());
                (ours.expect("connected"), kernel.expect("accepted").0)
            }
        }
    }

    /// Gives the kernel its IPv6 address back, which it loses when the interface goes down.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub async fn restore_address(&self, family: Family) {
        if family == Family::V6 {
            let cidr = Cidr::new(family.kernel(), family.prefix()).expect("a valid prefix");
            configure(&self.name, &[cidr], None)
                .await
                .expect("configured");
        }
    }

    /// Awaits `future` for at most `limit`.
    ///
    /// # Panics
    /// When it takes longer; the message has both ends' view of their sockets.
    pub async fn within<T>(
        &self,
        limit: Duration,
        what: &str,
        future: impl Future<Output = T>,
    ) -> T {
        // Still there when the report is made, and with it the sockets it holds.
        let mut future = pin!(future);
        match tokio::time::timeout(limit, future.as_mut()).await {
            Ok(value) => value,
            Err(_) => panic!("{what} took longer than {limit:?}\n{}", self.report()),
        }
    }

    /// Both ends' view, for messages.
    pub fn report(&self) -> String {
        format!(
            "ours: {:#?}\n{:#?}\nTUN: {:?}\nthe kernel's: {}\n{}",
            self.stack.sockets(),
            self.stack.stats(),
            self.tun.snapshot(),
            Counters::read().changes(&self.before),
            socket_list()
        )
    }

    /// How much a counter of the kernel's has grown since the start.
    pub fn counted(&self, name: &str) -> u64 {
        Counters::read().since(&self.before, name)
    }

    /// The largest packets that passed the interface, in octets.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Asserts that no packet was bad: the kernel found none of ours malformed or with a wrong checksum, its TUN driver
    /// refused none, and gave us none that made no sense.
    ///
    /// # Panics
    /// When one was.
    pub fn assert_clean(&self) {
        /// Counters that stay zero between two correct hosts on an ideal wire. Not there: those that count things
        /// rightly discarded, like `IcmpOutErrors`.
        const BAD: [&str; 13] = [
            "TcpInErrs",
            "TcpInCsumErrors",
            "UdpInErrors",
            "UdpInCsumErrors",
            "Udp6InErrors",
            "Udp6InCsumErrors",
            "IpInHdrErrors",
            "IpReasmFails",
            "IcmpInErrors",
            "IcmpInCsumErrors",
            "Ip6InHdrErrors",
            "Ip6ReasmFails",
            "Icmp6InErrors",
        ];
        let after = Counters::read();
        let since = |name| after.since(&self.before, name);
        // A SYN-ACK sent again, since its ACK was lost, meets an established connection. The kernel counts it as an
        // error, too.
        let challenged = since("TcpExtTCPSYNChallenge");
        let bad: Vec<_> = BAD
            .iter()
            .map(|&name| match name {
                "TcpInErrs" => (name, since(name).saturating_sub(challenged)),
                _ => (name, since(name)),
            })
            .filter(|(_, count)| *count > 0)
            .collect();
        assert!(
            bad.is_empty(),
            "the kernel counted {bad:?}\n{}",
            self.report()
        );
        let tun = self.tun.snapshot();
        assert_eq!(tun.receive_malformed, 0, "{tun:?}");
        assert_eq!(tun.transmit_refused, 0, "{tun:?}");
    }

    /// Writes out what was recorded so far.
    ///
    /// # Panics
    /// When the link does not record, or the file cannot be written.
    pub fn flush_capture(&self) {
        let capture = self.capture.as_ref().expect("a link that records");
        let mut capture = capture.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(capture.stats().left_out, 0, "a capture with holes");
        capture.flush().expect("written");
    }
}

/// A capture in a file.
type FileCapture = SharedCapture<BufWriter<File>>;

/// An opened interface.
struct Opened {
    device: Device,
    name: String,
    tun: TunCounters,
    meter: Arc<Meter>,
    capture: Option<FileCapture>,
}

/// Runs `body` on a new link for each IP version, in namespaces of their own, and asserts that no packet was bad.
///
/// # Panics
/// As [`run`] and [`Link::assert_clean`] do.
pub fn on_each_family<F>(test: &str, limit: Duration, config: &LinkConfig, body: F)
where
    F: AsyncFn(&Link, Family) + Clone + Send + 'static,
{
    for family in Family::ALL {
        let (config, body) = (config.clone(), body.clone());
        let case = format!("{test} {family:?}");
        run(
            &case.clone(),
            Flavor::CurrentThread,
            limit,
            async move || {
                let link = Link::start(&config).await;
                link.within(limit.mul_f64(0.9), &case, body(&link, family))
                    .await;
                link.assert_clean();
            },
        );
    }
    announce(&format!("kernel: {} cases ({test})", Family::ALL.len()));
}

async fn open(config: &LinkConfig) -> Opened {
    let tun = Tun::open(TunConfig {
        mtu: Some(config.mtu),
        offload: config.offload,
        virtio_header: config.virtio_header,
        ..TunConfig::default()
    });
    let tun = tun.expect("a TUN interface");
    let (name, counters) = (tun.name().to_owned(), tun.counters());
    if config.offload {
        let offloads = tun.offloads();
        assert!(
            offloads.tso4 && offloads.tso6,
            "the kernel grants only {:?}",
            offloads.names()
        );
    }
    let families = Family::ALL
        .into_iter()
        .filter(|family| config.mtu >= family.smallest_mtu());
    let addresses: Vec<Cidr> = families
        .map(|family| {
            Cidr::new(family.kernel_in(config.subnet), family.prefix()).expect("a valid prefix")
        })
        .collect();
    configure(&name, &addresses, None)
        .await
        .expect("configured");
    let meter = Arc::new(Meter::default());
    let mut device = metered(tun.into_device().expect("inside a runtime"), &meter);
    let mut recorded = None;
    if let Some(path) = &config.capture {
        let file = BufWriter::new(File::create(path).expect("a file"));
        let capture = Capture::new(file, CaptureConfig::default()).expect("a capture");
        let capture = Arc::new(Mutex::new(capture));
        device = capture::wrap(device, &capture, wall_clock).expect("a capture");
        recorded = Some(capture);
    }
    if let Some(impairment) = &config.impairment {
        device = impaired(device, impairment);
    }
    Opened {
        device,
        name,
        tun: counters,
        meter,
        capture: recorded,
    }
}

fn start_stack(device: Device, config: &LinkConfig) -> Stack {
    let mut builder = Stack::builder().device(device).tcp(config.tcp.clone());
    for family in Family::ALL {
        if config.mtu >= family.smallest_mtu() {
            let cidr = Cidr::new(family.stack_in(config.subnet), family.prefix());
            let cidr = cidr.expect("a valid prefix");
            builder = builder
                .address(cidr)
                .gateway(family.kernel_in(config.subnet));
        }
    }
    builder.build().expect("a stack")
}

fn wall_clock() -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default()
}

/// A socket of the kernel's with CUBIC, whatever the machine's default is: BBR would be another test.
///
/// # Panics
/// When the kernel has no CUBIC.
pub fn kernel_socket(family: Family) -> TcpSocket {
    let socket = match family {
        Family::V4 => TcpSocket::new_v4(),
        Family::V6 => TcpSocket::new_v6(),
    };
    let socket = socket.expect("a socket");
    let cubic = SockRef::from(&socket).set_tcp_congestion(b"cubic");
    cubic.expect("a kernel with CUBIC");
    socket
}

/// Listens on the kernel's side with room for 1,024 waiting connections.
///
/// # Panics
/// When the port is taken.
pub fn kernel_listen(address: SocketAddr) -> tokio::net::TcpListener {
    let socket = kernel_socket(family_of(address));
    socket.set_reuseaddr(true).expect("a plain option");
    socket.bind(address).expect("a free port");
    socket.listen(1024).expect("bound")
}

/// Connects from the kernel's side.
///
/// # Errors
/// As the kernel says.
pub async fn kernel_connect(address: SocketAddr) -> io::Result<tokio::net::TcpStream> {
    kernel_socket(family_of(address)).connect(address).await
}

const fn family_of(address: SocketAddr) -> Family {
    match address {
        SocketAddr::V4(_) => Family::V4,
        SocketAddr::V6(_) => Family::V6,
    }
}

/// What passed an interface.
#[derive(Debug, Default)]
pub struct Meter {
    reads: AtomicU64,
    largest_read: AtomicU64,
    writes: AtomicU64,
    largest_write: AtomicU64,
}

impl Meter {
    /// The largest packet that the kernel gave us in one read, in octets, IP header included.
    pub fn largest_read(&self) -> u64 {
        self.largest_read.load(Ordering::Relaxed)
    }

    /// The largest packet that the kernel took from us in one write, in octets, IP header included.
    pub fn largest_write(&self) -> u64 {
        self.largest_write.load(Ordering::Relaxed)
    }

    /// Packets read.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Packets written.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }
}

fn metered(device: Device, meter: &Arc<Meter>) -> Device {
    device.map_queues(|queue| DeviceQueue {
        receiver: Box::new(MeteredReceiver {
            inner: queue.receiver,
            meter: Arc::clone(meter),
        }),
        transmitter: Box::new(MeteredTransmitter {
            inner: queue.transmitter,
            meter: Arc::clone(meter),
        }),
    })
}

struct MeteredReceiver {
    inner: Box<dyn Receiver>,
    meter: Arc<Meter>,
}

impl Receiver for MeteredReceiver {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Packet>,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let before = batch.len();
        let result = self.inner.poll_receive(cx, batch, limit);
        for packet in batch.iter().skip(before) {
            self.meter.reads.fetch_add(1, Ordering::Relaxed);
            self.meter
                .largest_read
                .fetch_max(packet.len() as u64, Ordering::Relaxed);
        }
        result
    }
}

struct MeteredTransmitter {
    inner: Box<dyn Transmitter>,
    meter: Arc<Meter>,
}

impl Transmitter for MeteredTransmitter {
    fn try_transmit(&self, queue: &mut VecDeque<Packet>) -> io::Result<()> {
        let lens: Vec<u64> = queue.iter().map(|packet| packet.len() as u64).collect();
        let result = self.inner.try_transmit(queue);
        for len in &lens[..lens.len() - queue.len()] {
            self.meter.writes.fetch_add(1, Ordering::Relaxed);
            self.meter.largest_write.fetch_max(*len, Ordering::Relaxed);
        }
        result
    }

    fn poll_transmit_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_transmit_ready(cx)
    }
}

/// The device at the far end of a path; a task carries packets between the path and `device`.
fn impaired(device: Device, impairment: &ImpairmentConfig) -> Device {
    let config = PairConfig {
        mtu: device.capabilities.mtu,
        offloads: OffloadSet::ALL,
        ..PairConfig::default()
    };
    let (near, far) = impaired_pair(config, impairment.clone(), impairment.clone(), 7);
    tokio::spawn(carry(device.receiver, near.transmitter));
    tokio::spawn(carry(near.receiver, device.transmitter));
    far
}

/// Ends when either side does.
async fn carry(mut from: Box<dyn Receiver>, to: Box<dyn Transmitter>) -> io::Result<()> {
    let (mut batch, mut queue) = (Vec::new(), VecDeque::new());
    while poll_fn(|cx| from.poll_receive(cx, &mut batch, 64)).await? > 0 {
        queue.extend(batch.drain(..));
        while !queue.is_empty() {
            match to.try_transmit(&mut queue) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll_fn(|cx| to.poll_transmit_ready(cx)).await?;
                }
                result => result?,
            }
        }
    }
    Ok(())
}
