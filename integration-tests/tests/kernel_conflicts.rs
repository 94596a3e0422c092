//! Kernels on our link that have an address of ours, or take it: RFC 5227 and RFC 4862 5.4. Whose the address is, a third
//! kernel says.
//!
//! ```text
//!  rival ── veth ──┐
//!  watcher ─ veth ── bridge ── TAP ── tidewire::net 10.7.0.2, fd07::2
//! ```

#![cfg(target_os = "linux")]

use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tidewire::Stack;
use tidewire::config::HostConfig;
use tidewire::ip::autoconf::dad::{
    self, AddressDefense, AddressState, DuplicateDetection, LostAddress,
};
use tidewire::ip::autoconf::dhcp;
use tidewire::net::Builder;
use tidewire_integration_tests::kernel::{Bridge, Family};
use tidewire_integration_tests::namespace::{Flavor, Namespace, announce, run_with, set_sysctl};
use tidewire_integration_tests::requirements::Need;
use tidewire_integration_tests::servers::Dnsmasq;
use tidewire_netdev::MacAddress;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
/// What takes longer does not happen any more.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time for what is not to happen.
const WHILE: Duration = Duration::from_millis(500);
const OURS: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
const RIVAL: MacAddress = MacAddress([2, 0, 0, 0, 0, 3]);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 2);

/// The three at the bridge.
struct Link {
    bridge: Bridge,
    rival: Namespace,
    watcher: Namespace,
}

impl Link {
    /// With these addresses of the rival's.
    async fn start(rival: &[&str]) -> Self {
        let bridge = Bridge::start("br0");
        let rival = bridge.host("to-rival", 3, rival).await;
        let addresses = ["10.7.0.4/24", "10.7.0.5/24", "fd07::4/64"];
        let watcher = bridge.host("to-watcher", 4, &addresses).await;
        // It believes whoever spoke last, even within a second.
        let believes = watcher.run(async || set_sysctl("ipv4/neigh/eth0/locktime", "0"));
        believes.await;
        Self {
            bridge,
            rival,
            watcher,
        }
    }

    /// A stack at the bridge that looks for duplicates of its addresses in a fraction of a second.
    async fn builder(&self, defense: AddressDefense) -> Builder {
        let tap = self.bridge.tap("tap0", 2).await;
        let host = HostConfig {
            duplicate_detection_v4: DuplicateDetection::Strict,
            duplicate_detection: dad::Config {
                probe_wait: Duration::from_millis(50),
                probe_min: Duration::from_millis(50),
                probe_max: Duration::from_millis(100),
                announce_wait: Duration::from_millis(100),
                announce_interval: Duration::from_millis(100),
                defense,
                ..dad::Config::default()
            },
            ..HostConfig::default()
        };
        let device = tap.into_device().expect("a device");
        Stack::builder().host(host).device(device)
    }

    async fn stack(&self, address: &str, defense: AddressDefense) -> Stack {
        let builder = self.builder(defense).await.address(address);
        builder.build().expect("a stack")
    }

    /// Where the watcher believes an address to be.
    async fn watched(&self, address: IpAddr) -> String {
        let show = format!("ip neigh show {address}");
        self.watcher.program(&show).await
    }

    /// Waits until the watcher believes an address to be there.
    async fn watched_at(&self, address: IpAddr, place: MacAddress) {
        let wanted = format!("lladdr {place} ");
        let wait = async {
            while !self.watched(address).await.contains(&wanted) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        if timeout(PATIENCE, wait).await.is_err() {
            panic!("not at {place}: {}", self.watched(address).await);
        }
    }

    /// Has the rival say in an ARP request to all that it has [`ADDRESS`]: it asks for a host that it does not know.
    async fn rival_asks_for(&self, host: Ipv4Addr) {
        let asks = self.rival.run(async move || {
            let socket = UdpSocket::bind((ADDRESS, 0)).await?;
            socket.send_to(b"?", (host, 9)).await
        });
        asks.await.expect("sent");
    }
}

/// An ARP packet, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
struct Arp {
    sender: MacAddress,
    sender_address: Ipv4Addr,
    target_address: Ipv4Addr,
}

/// The ARP packets that come to a namespace.
struct ArpLog {
    socket: Socket,
    heard: Vec<Arp>,
}

impl ArpLog {
    async fn open(namespace: &Namespace) -> Self {
        let open = namespace.run(async || {
            let arp = Protocol::from(i32::from((libc::ETH_P_ARP as u16).to_be()));
            Socket::new(Domain::from(libc::AF_PACKET), Type::RAW, Some(arp))
        });
        let socket = open.await.expect("root may");
        socket.set_nonblocking(true).expect("a plain option");
        Self {
            socket,
            heard: Vec::new(),
        }
    }

    /// RFC 826 for Ethernet and IPv4, behind an Ethernet header.
    fn hear(&mut self) {
        let mut frame = [0; 64];
        loop {
            match (&self.socket).read(&mut frame) {
                Ok(len) => assert!(len >= 42, "{len}"),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
            let address =
                |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).unwrap());
            self.heard.push(Arp {
                sender: MacAddress(frame[22..28].try_into().unwrap()),
                sender_address: address(28),
                target_address: address(38),
            });
        }
    }

    /// How often the stack has announced its address (RFC 5227 2.3: both addresses are the one).
    fn announcements(&mut self) -> usize {
        self.hear();
        let announcement = Arp {
            sender: OURS,
            sender_address: ADDRESS,
            target_address: ADDRESS,
        };
        let heard = self.heard.iter();
        heard.filter(|arp| **arp == announcement).count()
    }

    async fn wait_for(&mut self, announcements: usize) {
        let wait = async {
            while self.announcements() < announcements {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = timeout(PATIENCE, wait).await;
        waited.unwrap_or_else(|_| panic!("announced {} times", self.announcements()));
    }
}

async fn lost(stack: &Stack) -> LostAddress {
    let lost = timeout(PATIENCE, stack.address_lost()).await;
    lost.expect("it is told").expect("the stack lives")
}

fn state_of(stack: &Stack, address: IpAddr) -> AddressState {
    let known = stack.addresses().into_iter();
    let mut known = known.filter(|known| known.address() == address);
    known.next().expect("it was configured").state
}

/// The watcher connects to a kernel that listens at an address of its.
async fn is_reached(link: &Link, listens: &Namespace, address: SocketAddr) {
    let listener = listens.run(async move || TcpListener::bind(address).await);
    let listener = listener.await.expect("its own address");
    let accept = listens.run(async move || listener.accept().await.map(drop));
    let connect = link
        .watcher
        .run(async move || TcpStream::connect(address).await.map(drop));
    let both = async { tokio::join!(accept, connect) };
    let (accepted, connected) = timeout(PATIENCE, both).await.expect("there is a way");
    accepted.expect("accepted");
    connected.expect("connected");
}

// RFC 5227 2.1.1, RFC 4862 5.4.3 and 5.4.4.
#[test]
fn an_address_that_a_kernel_has_is_left_to_it() {
    const TEST: &str = "an_address_that_a_kernel_has_is_left_to_it";
    for family in Family::ALL {
        let case = format!("{TEST} {family:?}");
        let body = async move || {
            let (address, prefix) = (family.stack(), family.prefix());
            let cidr = format!("{address}/{prefix}");
            let link = Link::start(&[&cidr]).await;
            let stack = link.stack(&cidr, AddressDefense::Always).await;
            let told = lost(&stack).await;
            assert_eq!(told.address, address);
            assert_eq!(told.owner, Some(RIVAL));
            assert_eq!(state_of(&stack, address), AddressState::Duplicate);
            let settled = stack.addresses_settled().await;
            let error = settled.expect_err("it is another's");
            assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
            let bound = stack.tcp_listener((address, 80)).await;
            let error = bound.expect_err("it is another's");
            assert_eq!(error.kind(), ErrorKind::AddrNotAvailable, "{error}");

            // The link goes on as if we were not there.
            is_reached(&link, &link.rival, (address, 80).into()).await;
            link.watched_at(address, RIVAL).await;
        };
        run_with(&case, &Bridge::NEEDS, Flavor::CurrentThread, LIMIT, body);
    }
    announce(&format!("kernel: 2 cases ({TEST})"));
}

/// A connection of the watcher's to the stack, whose address is the watcher's knowledge by now.
struct Connection {
    ours: tidewire::net::TcpStream,
    watchers: TcpStream,
}

impl Connection {
    async fn open(link: &Link, stack: &Stack, address: IpAddr) -> Self {
        let listener = stack.tcp_listener((address, 80)).await.expect("our own");
        let connect = link
            .watcher
            .run(async move || TcpStream::connect((address, 80)).await?.into_std());
        let both = async { tokio::join!(listener.accept(), connect) };
        let (ours, watchers) = timeout(PATIENCE, both).await.expect("there is a way");
        let watchers = TcpStream::from_std(watchers.expect("connected"));
        let connection = Self {
            ours: ours.expect("accepted").0,
            watchers: watchers.expect("a runtime"),
        };
        link.watched_at(address, OURS).await;
        connection
    }

    /// An octet in each direction.
    async fn carries(&mut self) {
        let both = async {
            self.watchers.write_all(b"?").await?;
            self.ours.read_exact(&mut [0]).await?;
            self.ours.write_all(b"!").await?;
            self.watchers.read_exact(&mut [0]).await?;
            io::Result::Ok(())
        };
        let carried = timeout(PATIENCE, both).await;
        carried.expect("it carries").expect("it lives");
    }
}

// RFC 5227 2.4: what each rule has the host do at the first conflict, and at another soon after.
#[test]
fn an_address_that_a_kernel_takes_is_defended_as_asked_for() {
    const TEST: &str = "an_address_that_a_kernel_takes_is_defended_as_asked_for";
    // Announcements at the first conflict; whether it is given up then, or at the second.
    let cases = [
        (AddressDefense::Never, 0, Some(1)),
        (AddressDefense::Once, 1, Some(2)),
        (AddressDefense::Always, 1, None),
    ];
    for (defense, defences, given_up) in cases {
        let case = format!("{TEST} {defense:?}");
        let body = async move || {
            let link = Link::start(&["10.7.0.3/24"]).await;
            let mut log = ArpLog::open(&link.watcher).await;
            let stack = link.stack("10.7.0.2/24", defense).await;
            stack.addresses_settled().await.expect("nobody has it");
            // ANNOUNCE_NUM.
            log.wait_for(2).await;
            let address = IpAddr::V4(ADDRESS);
            let mut connection = Connection::open(&link, &stack, address).await;
            connection.carries().await;

            // A kernel asks nobody before it takes an IPv4 address.
            let take = link.rival.program("ip address add 10.7.0.2/24 dev eth0");
            take.await;
            link.rival_asks_for(Ipv4Addr::new(10, 7, 0, 4)).await;
            if given_up != Some(1) {
                log.wait_for(2 + defences).await;
                // The watcher has heard the announcement after the request.
                link.watched_at(address, OURS).await;
                connection.carries().await;
                assert_eq!(state_of(&stack, address), AddressState::Assigned);
                link.rival_asks_for(Ipv4Addr::new(10, 7, 0, 5)).await;
            }
            match given_up {
                Some(_) => {
                    let told = lost(&stack).await;
                    assert_eq!((told.address, told.owner), (address, Some(RIVAL)));
                    // "SHOULD actively attempt to reset any existing connections".
                    let read = timeout(PATIENCE, connection.watchers.read(&mut [0])).await;
                    let error = read.expect("it is told").expect_err("there is no more");
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
                    let error = connection
                        .ours
                        .read(&mut [0])
                        .await
                        .expect_err("no address");
                    assert_eq!(error.kind(), ErrorKind::AddrNotAvailable, "{error}");
                    // Whom a host finds that asks anew.
                    let forget = link.watcher.program("ip neigh flush dev eth0");
                    forget.await;
                    is_reached(&link, &link.rival, (ADDRESS, 80).into()).await;
                    link.watched_at(address, RIVAL).await;
                }
                None => {
                    sleep(WHILE).await;
                    assert_eq!(state_of(&stack, address), AddressState::Assigned);
                    let told = timeout(Duration::ZERO, stack.address_lost()).await;
                    assert!(told.is_err(), "{told:?}");
                }
            }
            // Within DEFEND_INTERVAL there is no other announcement, whatever the rule.
            assert_eq!(log.announcements(), 2 + defences, "{:?}", log.heard);
        };
        run_with(&case, &Bridge::NEEDS, Flavor::CurrentThread, LIMIT, body);
    }
    announce(&format!("kernel: 3 cases ({TEST})"));
}

// RFC 4862 5.4.3, RFC 4861 7.2.4: who asks for our address is told that it is ours.
#[test]
fn a_kernel_that_looks_for_duplicates_leaves_our_address_to_us() {
    const TEST: &str = "a_kernel_that_looks_for_duplicates_leaves_our_address_to_us";
    run_with(
        TEST,
        &Bridge::NEEDS,
        Flavor::CurrentThread,
        LIMIT,
        async || {
            let link = Link::start(&["fd07::3/64"]).await;
            let stack = link.stack("fd07::2/64", AddressDefense::Always).await;
            let address = Family::V6.stack();
            let wait = async {
                while state_of(&stack, address) != AddressState::Assigned {
                    sleep(Duration::from_millis(10)).await;
                }
            };
            timeout(PATIENCE, wait).await.expect("nobody has it");
            let mut connection = Connection::open(&link, &stack, address).await;
            connection.carries().await;

            let careful = link
                .rival
                .run(async || set_sysctl("ipv6/conf/eth0/accept_dad", "1"));
            careful.await;
            let take = link.rival.program("ip -6 address add fd07::2/64 dev eth0");
            take.await;
            let failed = async {
                loop {
                    let shown = link.rival.program("ip -6 -o address show dev eth0");
                    let shown = shown.await;
                    let ours = shown.lines().find(|line| line.contains("fd07::2/64"));
                    let ours = ours.expect("it was added").to_owned();
                    assert!(
                        ours.contains("tentative"),
                        "the kernel has taken it: {ours}"
                    );
                    if ours.contains("dadfailed") {
                        return;
                    }
                    sleep(Duration::from_millis(10)).await;
                }
            };
            timeout(PATIENCE, failed).await.expect("it is told");
            assert_eq!(state_of(&stack, address), AddressState::Assigned);
            link.watched_at(address, OURS).await;
            connection.carries().await;
        },
    );
    announce(&format!("kernel: 1 cases ({TEST})"));
}

// RFC 2131 3.1 (5), 4.4.1: the server is told that somebody has what it lends, and has another.
#[test]
fn a_lease_of_an_address_that_a_kernel_has_is_declined() {
    const TEST: &str = "a_lease_of_an_address_that_a_kernel_has_is_declined";
    const NEEDS: [Need; 4] = [
        Need::Tun,
        Need::Program("ip"),
        Need::Program("bridge"),
        Need::Program("dnsmasq"),
    ];
    run_with(TEST, &NEEDS, Flavor::CurrentThread, LIMIT, async || {
        let link = Link::start(&["10.7.0.50/24"]).await;
        let server = link.watcher.run(async || {
            let range = "--dhcp-range=10.7.0.50,10.7.0.51,255.255.255.0,120";
            Dnsmasq::start("eth0", &["--dhcp-sequential-ip", range]).await
        });
        let server = server.await;
        let config = dhcp::Config {
            decline_pause: Duration::from_secs(1),
            ..dhcp::Config::default()
        };
        let builder = link.builder(AddressDefense::Once).await;
        let stack = builder.address_by_dhcp_with(config).build();
        let stack = stack.expect("a stack");
        let told = lost(&stack).await;
        let first = IpAddr::from([10, 7, 0, 50]);
        assert_eq!((told.address, told.owner), (first, Some(RIVAL)));
        let declined = timeout(PATIENCE, server.wait_for("DHCPDECLINE", 1)).await;
        declined.unwrap_or_else(|_| panic!("{}", server.log()));
        let other = IpAddr::from([10, 7, 0, 51]);
        let leased = async {
            let has_other = || {
                let addresses = stack.addresses().into_iter();
                let mut other = addresses.filter(|known| known.address() == other);
                other.any(|known| known.state == AddressState::Assigned)
            };
            while !has_other() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let leased = timeout(PATIENCE, leased).await;
        leased.unwrap_or_else(|_| panic!("{:?}: {}", stack.addresses(), server.log()));
        assert!(
            server.leases().contains(" 10.7.0.51 "),
            "{}",
            server.leases()
        );
        Connection::open(&link, &stack, other).await.carries().await;
    });
    announce(&format!("kernel: 1 cases ({TEST})"));
}
