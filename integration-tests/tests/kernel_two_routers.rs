//! Two kernels as routers on one link, with radvd: which one a stack takes, and what it does when that one goes and comes
//! back (RFC 4861 6.3.6, RFC 4191 3.2; RFC 6724 5, rule 5.5). Who has carried packets, the routers' own counters say, and
//! who sent them, the server behind.
//!
//! ```text
//!                      ┌── router, high ──┐
//!  tidewire::net ── br0 ── router, low ── br1 ── server
//!                      └──────────────────────────┘ answers
//! ```
//!
//! The server is at the hosts' link, too, and answers there: what the routers forward is what the stack has sent.

#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tidewire::Stack;
use tidewire::ip::autoconf::dad::AddressState;
use tidewire::wire::ndp::RouterPreference;
use tidewire_integration_tests::kernel::{Bridge, Port};
use tidewire_integration_tests::namespace::{
    Counters, Flavor, Namespace, announce, configure, run_beside_others, set_sysctl,
};
use tidewire_integration_tests::requirements::Need;
use tidewire_integration_tests::servers::Radvd;
use tidewire_netdev::MacAddress;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

const LIMIT: Duration = Duration::from_secs(120);
/// Until a router that says nothing is given up: the time for which it counts as reachable, 5 s for a hint from above, and
/// three questions; and with it TCP's retransmissions.
const PATIENCE: Duration = Duration::from_secs(45);
const NEEDS: [Need; 5] = [
    Need::Tun,
    Need::Program("ip"),
    Need::Program("bridge"),
    Need::Program("radvd"),
    Need::Program("rdisc6"),
];
/// The server's addresses: each nearer to the hosts' addresses in the prefix of one router, by its number of bits in common
/// (RFC 6724's rule 8).
const NEAR_HIGH: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0x99, 0, 0, 0, 1);
const NEAR_LOW: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0x99, 0, 0, 0, 1);
/// In a network to which the less preferred router advertises a route.
const BY_LOW: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 1);
/// In a network of which the preferred router knows that the other is nearer.
const NEARER_BY_LOW: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x88, 0, 0, 0, 0, 1);
const PORT: u16 = 7;

/// A router, and its daemon as long as that runs.
struct Router {
    namespace: Namespace,
    configuration: String,
    radvd: Option<Radvd>,
    /// The third group of the prefix that it advertises.
    net: u16,
}

impl Router {
    /// A router with a port at each bridge; `more` goes into what it advertises.
    async fn start(
        [link, beyond]: [&Bridge; 2],
        ports: [&'static str; 2],
        net: u16,
        more: &str,
    ) -> Self {
        let namespace = Namespace::new(ports[0]).await.expect("a namespace");
        let forward = namespace.run(async || set_sysctl("ipv6/conf/all/forwarding", "1"));
        forward.await;
        let place = |port, interface, number| Port {
            port,
            interface,
            hardware_address: MacAddress([2, 0, 0, 0, number, net as u8]),
        };
        let attached = link.attach(&namespace, place(ports[0], "eth0", 0), &[]);
        attached.await.expect("a cable");
        let address = format!("2001:db8:ff::{net:x}/64");
        let addresses = [address.as_str()];
        let attached = beyond.attach(&namespace, place(ports[1], "eth1", 1), &addresses);
        attached.await.expect("a cable");
        for far in ["a:99::/64", "b:99::/64", "77::/48", "88::/48"] {
            let route = format!("ip -6 route add 2001:db8:{far} via 2001:db8:ff::99");
            namespace.program(&route).await;
        }
        // Where the hosts are: redirects go to neighbours only.
        for net in ["a", "b"] {
            let route = format!("ip -6 route add 2001:db8:{net}::/64 dev eth0");
            namespace.program(&route).await;
        }
        // The times are the link's, so the routers agree on them.
        let configuration = format!(
            "interface eth0 {{
                AdvSendAdvert on;
                MinRtrAdvInterval 3;
                MaxRtrAdvInterval 4;
                AdvDefaultLifetime 1800;
                AdvReachableTime 2000;
                AdvRetransTimer 500;
                prefix 2001:db8:{net:x}::/64 {{ AdvOnLink on; AdvAutonomous on; }};
                {more}
            }};\n"
        );
        let mut router = Self {
            namespace,
            configuration,
            radvd: None,
            net,
        };
        router.advertise().await;
        router
    }

    /// Has it advertise itself.
    async fn advertise(&mut self) {
        let configuration = self.configuration.clone();
        let start = self
            .namespace
            .run(async move || Radvd::start(&configuration));
        self.radvd = Some(start.await);
    }

    /// Packets that it has forwarded.
    async fn forwarded(&self) -> u64 {
        self.counted("Ip6OutForwDatagrams").await
    }

    async fn counted(&self, name: &str) -> u64 {
        let read = self.namespace.run(async || Counters::read());
        read.await.value(name)
    }

    /// Its address on the hosts' link.
    async fn link_local(&self) -> String {
        let shown = self
            .namespace
            .program("ip -6 -o address show dev eth0 scope link");
        let shown = shown.await;
        let mut words = shown.split_whitespace();
        let address = words.find_map(|word| word.strip_suffix("/64"));
        address.expect("a link-local address").to_owned()
    }
}

/// Two routers, the server behind them, and a stack that has nothing but their advertisements.
struct Network {
    link: Bridge,
    high: Router,
    low: Router,
    server: Namespace,
    stack: Stack,
}

impl Network {
    async fn start() -> Self {
        let (link, beyond) = (Bridge::start("br0"), Bridge::start("br1"));
        let server = server([&link, &beyond]).await;
        let bridges = [&link, &beyond];
        let preferred = "AdvDefaultPreference high;";
        let high = Router::start(bridges, ["to-high", "from-high"], 0xa, preferred).await;
        let other = "AdvDefaultPreference low; route 2001:db8:77::/48 { };";
        let low = Router::start(bridges, ["to-low", "from-low"], 0xb, other).await;
        let tap = link.tap("tap0", 2).await;
        let builder = Stack::builder()
            .device(tap.into_device().expect("a device"))
            .address_by_slaac();
        let stack = builder.build().expect("a stack");
        let network = Self {
            link,
            high,
            low,
            server,
            stack,
        };
        network.settled().await;
        network.assert_as_rdisc6().await;
        network
    }

    /// Another host of the link hears the same routers, with the same preferences and prefixes, as the stack.
    async fn assert_as_rdisc6(&self) {
        let said = self.server.program("rdisc6 -w 5000 eth1").await;
        let told = self.stack.advertised();
        let mut heard = BTreeSet::new();
        // Each ends with who has said it.
        let mut message = String::new();
        for line in said.lines() {
            message += line;
            message.push('\n');
            let Some(router) = line.trim().strip_prefix("from ") else {
                continue;
            };
            let router: Ipv6Addr = router.trim().parse().expect("an address");
            let mut default = told.iter().flat_map(|(_, told)| &told.default_routers);
            let route = default.find(|route| route.router == router);
            let (preference, net) = match route.expect(&said).preference {
                RouterPreference::High => ("high", self.high.net),
                _ => ("low", self.low.net),
            };
            let message = std::mem::take(&mut message);
            let words: Vec<_> = message.split_whitespace().collect();
            assert!(
                words.windows(2).any(|two| two == [":", preference]),
                "{said}"
            );
            assert!(
                message.contains(&format!("2001:db8:{net:x}::/64")),
                "{said}"
            );
            heard.insert(router);
        }
        assert_eq!(heard.len(), 2, "{said}");
    }

    /// Both routers are heard, and each prefix has an address that is known to be nobody else's: others count as deprecated
    /// (RFC 4429 3.1), and rule 3 comes before rule 5.5.
    async fn settled(&self) {
        let is_assigned = |net: u16| {
            let addresses = self.stack.addresses();
            let mut of_net = addresses.iter().filter(|known| match known.address() {
                IpAddr::V6(v6) => v6.segments()[..4] == [0x2001, 0xdb8, net, 0],
                IpAddr::V4(_) => false,
            });
            of_net.any(|known| known.state == AddressState::Assigned)
        };
        let wait = async {
            while self.preferences().len() < 2
                || !is_assigned(self.high.net)
                || !is_assigned(self.low.net)
            {
                sleep(Duration::from_millis(10)).await;
            }
        };
        if timeout(PATIENCE, wait).await.is_err() {
            panic!("{:?} {:?}", self.stack.advertised(), self.stack.addresses());
        }
    }

    /// The default routers' preferences, that of the one in use first.
    fn preferences(&self) -> Vec<RouterPreference> {
        let advertised = self.stack.advertised();
        let routers = advertised
            .iter()
            .flat_map(|(_, told)| &told.default_routers);
        routers.map(|route| route.preference).collect()
    }

    /// Waits until the default router in use is the one with that preference.
    async fn uses(&self, preference: RouterPreference) {
        let wait = async {
            while self.preferences().first() != Some(&preference) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        if timeout(PATIENCE, wait).await.is_err() {
            panic!(
                "{:?} is not used: {:?}",
                preference,
                self.stack.advertised()
            );
        }
    }

    /// Asserts that what goes over a connection now goes by that router alone.
    async fn goes_by(&self, preference: RouterPreference, connection: &mut Connection) {
        let counters = async || [self.high.forwarded().await, self.low.forwarded().await];
        connection.round_trip().await;
        // What is still to come of other connections: a delayed ACK takes less.
        let mut before = counters().await;
        loop {
            sleep(Duration::from_millis(250)).await;
            let now = counters().await;
            if std::mem::replace(&mut before, now) == now {
                break;
            }
        }
        for _ in 0..10 {
            connection.round_trip().await;
        }
        let after = counters().await;
        let [high, low] = [after[0] - before[0], after[1] - before[1]];
        let is_so = match preference {
            RouterPreference::High => high >= 10 && low == 0,
            _ => low >= 10 && high == 0,
        };
        assert!(
            is_so,
            "high {high}, low {low}: {:?}",
            self.stack.advertised()
        );
    }

    async fn connect(&self, address: Ipv6Addr) -> Connection {
        let connect = self.stack.tcp_stream((address, PORT));
        let stream = timeout(PATIENCE, connect).await.expect("there is a way");
        let mut stream = stream.expect("it listens");
        let mut source = [0; 16];
        let told = timeout(PATIENCE, stream.read_exact(&mut source)).await;
        told.expect("there is a way").expect("it lives");
        Connection {
            stream,
            net: Ipv6Addr::from(source).segments()[2],
        }
    }
}

/// A connection of the stack's to the server.
struct Connection {
    stream: tidewire::net::TcpStream,
    /// The third group of the stack's address, as the server sees it: which router's prefix that is in.
    net: u16,
}

impl Connection {
    async fn round_trip(&mut self) {
        let both = async {
            self.stream.write_all(b"?").await?;
            self.stream.read_exact(&mut [0]).await
        };
        let carried = timeout(PATIENCE, both).await;
        carried.expect("there is a way").expect("it lives");
    }
}

/// A server that tells who connects the address that it sees, and then sends back what it gets.
async fn server([link, beyond]: [&Bridge; 2]) -> Namespace {
    let namespace = Namespace::new("server").await.expect("a namespace");
    // Its routes are the test's to set.
    let set = namespace.run(async || set_sysctl("ipv6/conf/default/accept_ra", "0"));
    set.await;
    let place = |port, interface, number| Port {
        port,
        interface,
        hardware_address: MacAddress([2, 0, 0, 0, number, 0x99]),
    };
    let at_routers = place("to-server", "eth0", 0);
    let attached = beyond.attach(&namespace, at_routers, &["2001:db8:ff::99/64"]);
    attached.await.expect("a cable");
    let at_hosts = place("from-server", "eth1", 1);
    let attached = link.attach(&namespace, at_hosts, &[]);
    attached.await.expect("a cable");
    for net in ["a", "b"] {
        let route = format!("ip -6 route add 2001:db8:{net}::/64 dev eth1");
        namespace.program(&route).await;
    }
    let serve = namespace.run(async || {
        let addresses = [NEAR_HIGH, NEAR_LOW, BY_LOW, NEARER_BY_LOW]
            .map(|address| format!("{address}/128").parse().expect("an address"));
        configure("lo", &addresses, None).await?;
        let listener = TcpListener::bind(("::", PORT)).await?;
        spawn_local(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                spawn_local(echo(stream, peer));
            }
        });
        io::Result::Ok(())
    });
    serve.await.expect("it listens");
    namespace
}

async fn echo(mut stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    let IpAddr::V6(source) = peer.ip() else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    stream.write_all(&source.octets()).await?;
    let mut octets = [0; 64];
    loop {
        match stream.read(&mut octets).await? {
            0 => return Ok(()),
            len => stream.write_all(&octets[..len]).await?,
        }
    }
}

/// How a router goes, and comes back.
#[derive(Clone, Copy, Debug)]
enum Leave {
    /// It says that it is no router any more (RFC 4861 6.2.5).
    Told,
    /// Its cable is pulled: it says nothing, and does not answer (RFC 4861 7.3.3).
    Silent,
}

// RFC 4861 6.3.6, RFC 4191 3.2, RFC 6724 5.
async fn body(leave: Leave) {
    use RouterPreference::{High, Low};
    let mut network = Network::start().await;
    let (of_high, of_low) = (network.high.net, network.low.net);
    network.uses(High).await;
    let mut lasting = network.connect(NEAR_HIGH).await;
    network.goes_by(High, &mut lasting).await;
    // By rule 8 it would be the other router's.
    let connection = network.connect(NEAR_LOW).await;
    assert_eq!((lasting.net, connection.net), (of_high, of_high));
    // A longer prefix comes before any preference.
    let mut by_low = network.connect(BY_LOW).await;
    assert_eq!(by_low.net, of_low);
    network.goes_by(Low, &mut by_low).await;

    match leave {
        Leave::Told => network.high.radvd.take().expect("it runs").stop(),
        Leave::Silent => network.link.plug("to-high", false).await,
    }
    // What is on its way meanwhile is what finds out that there is no answer.
    lasting.round_trip().await;
    network.uses(Low).await;
    network.goes_by(Low, &mut lasting).await;
    let mut connection = network.connect(NEAR_HIGH).await;
    assert_eq!(connection.net, of_low, "both by the next hop");
    network.goes_by(Low, &mut by_low).await;

    match leave {
        Leave::Told => network.high.advertise().await,
        Leave::Silent => network.link.plug("to-high", true).await,
    }
    network.uses(High).await;
    network.goes_by(High, &mut lasting).await;
    network.goes_by(High, &mut connection).await;
    network.goes_by(Low, &mut by_low).await;
    assert_eq!(network.connect(NEAR_LOW).await.net, of_high);
}

#[test]
fn the_preferred_router_is_used_until_it_says_that_it_is_none() {
    const TEST: &str = "the_preferred_router_is_used_until_it_says_that_it_is_none";
    run_beside_others(TEST, &NEEDS, Flavor::CurrentThread, LIMIT, async || {
        body(Leave::Told).await;
    });
    announce(&format!("kernel: 1 cases ({TEST})"));
}

#[test]
fn the_preferred_router_is_used_as_long_as_it_answers() {
    const TEST: &str = "the_preferred_router_is_used_as_long_as_it_answers";
    run_beside_others(TEST, &NEEDS, Flavor::CurrentThread, LIMIT, async || {
        body(Leave::Silent).await;
    });
    announce(&format!("kernel: 1 cases ({TEST})"));
}

// RFC 4861 8.2, 8.3.
#[test]
fn a_router_is_left_for_the_one_that_it_names() {
    const TEST: &str = "a_router_is_left_for_the_one_that_it_names";
    run_beside_others(TEST, &NEEDS, Flavor::CurrentThread, LIMIT, async || {
        use RouterPreference::{High, Low};
        let network = Network::start().await;
        network.uses(High).await;
        let low = network.low.link_local().await;
        let nearer = format!("ip -6 route replace 2001:db8:88::/48 via {low} dev eth0");
        network.high.namespace.program(&nearer).await;
        let mut redirected = network.connect(NEARER_BY_LOW).await;
        let told = async {
            while network.high.counted("Icmp6OutRedirects").await == 0 {
                redirected.round_trip().await;
            }
        };
        timeout(PATIENCE, told).await.expect("the kernel tells");
        network.goes_by(Low, &mut redirected).await;
        // Only for that destination.
        let mut other = network.connect(NEAR_HIGH).await;
        network.goes_by(High, &mut other).await;
    });
    announce(&format!("kernel: 1 cases ({TEST})"));
}
