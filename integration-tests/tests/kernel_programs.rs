//! The shipped programs as users run them, each a process of its own, with the kernel as their neighbour.

#![cfg(target_os = "linux")]

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use tidewire_integration_tests::kernel::{Link, LinkConfig, Station};
use tidewire_integration_tests::namespace::{
    Counters, Flavor, Netlink, announce, configure, run_program, run_with, set_sysctl,
};
use tidewire_integration_tests::requirements::{Need, example_program};
use tidewire_integration_tests::servers::{Dnsmasq, Radvd, Rarpd};
use tidewire_netdev::MacAddress;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
/// From the start of a program that has nothing but a TAP to the page that it serves: what an interface's address takes by
/// any of the ways there are.
const REACHABLE: Duration = Duration::from_secs(3);
/// The interface that a program gets.
const TAP: &str = "tap0";

/// What the other end of the TAP is.
#[derive(Clone, Copy, Debug)]
enum Wiring {
    /// The kernel's own interface.
    Cable,
    /// A port of the kernel's bridge, which has no other.
    Bridge,
    /// A port of a bridge that others use already.
    BusyBridge,
}

impl Wiring {
    const ALL: [Self; 3] = [Self::Cable, Self::Bridge, Self::BusyBridge];

    /// The kernel's interface on the program's link.
    const fn interface(self) -> &'static str {
        match self {
            Self::Cable => TAP,
            Self::Bridge | Self::BusyBridge => "br0",
        }
    }

    /// Makes a TAP as an administrator leaves it for a program: what is at its other end is up and has an address of the
    /// kernel's. It has no carrier before somebody opens it.
    async fn lay(self, kernel: &str) {
        ip(&format!("tuntap add dev {TAP} mode tap"));
        if let Self::Bridge | Self::BusyBridge = self {
            ip("link add br0 type bridge mcast_snooping 0");
            set_sysctl(&format!("ipv6/conf/{TAP}/disable_ipv6"), "1");
            ip(&format!("link set {TAP} master br0 up"));
        }
        if let Self::BusyBridge = self {
            ip("link add other type veth peer name others");
            ip("link set others up");
            ip("link set other master br0 up");
        }
        let kernel = kernel.parse().expect("an address");
        let up = configure(self.interface(), &[kernel], None).await;
        up.expect("up");
        if let Self::BusyBridge = self {
            let mut netlink = Netlink::open().expect("a socket");
            let settled = netlink.wait_for_link_local("br0").await;
            settled.expect("it carries");
        }
    }
}

fn ip(arguments: &str) {
    let arguments: Vec<_> = arguments.split_whitespace().collect();
    let ran = run_program("ip", &arguments);
    ran.unwrap_or_else(|error| panic!("ip {arguments:?}: {error}"));
}

/// Runs `body` for a TAP of each kind, each in a namespace of its own.
fn on_each_wiring<F>(test: &str, needs: &[Need], body: F)
where
    F: AsyncFn(Wiring) + Clone + Send + 'static,
{
    for wiring in Wiring::ALL {
        let body = body.clone();
        let case = format!("{test} {wiring:?}");
        let body = async move || body(wiring).await;
        run_with(&case, needs, Flavor::CurrentThread, LIMIT, body);
    }
    announce(&format!("kernel: {} cases ({test})", Wiring::ALL.len()));
}

/// A running program that is killed with its value.
fn start(name: &str, arguments: &[&str]) -> Child {
    let program = example_program(name);
    let mut command = Command::new(&program);
    command
        .args(arguments)
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let child = command.spawn();
    child.unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

/// Where a server says that it listens.
async fn listening(child: &mut Child) -> SocketAddr {
    let said = child.stdout.take().expect("piped");
    let line = BufReader::new(said).lines().next_line().await;
    let line = line.expect("a pipe").expect("a line");
    let event: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(event["event"], "listening", "{line}");
    let address = event["address"].as_str().expect("an address");
    address.parse().expect("an address")
}

/// Fetches the server's page by the kernel's TCP.
async fn page(server: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(server).await?;
    let request = format!("GET / HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    Ok(page)
}

/// Starts `http` on the TAP with nothing but the way to its address, and has the kernel fetch its page in time; gives the
/// server's address.
async fn served_in_time(way: &[&str]) -> SocketAddr {
    let begun = Instant::now();
    let mut arguments = vec!["--tap", TAP, "--json"];
    arguments.extend(way);
    let mut http = start("http", &arguments);
    let served = async {
        let address = listening(&mut http).await;
        let listens = begun.elapsed();
        (address, listens, page(address).await)
    };
    let served = timeout(LIMIT / 2, served).await;
    let took = begun.elapsed();
    let (address, listens, page) = served.expect("it is served at all");
    let page = page.expect("a page");
    assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    assert!(
        page.ends_with("Hello from a TCP stack in user space.\n"),
        "{page}"
    );
    println!("{way:?}: {address} listens after {listens:?}, served after {took:?}");
    assert!(took < REACHABLE, "{way:?}: {took:?}");

    let pid = http.id().expect("it runs").to_string();
    run_program("kill", &["-TERM", &pid]).expect("it runs");
    let ended = timeout(LIMIT / 6, http.wait()).await;
    assert!(ended.expect("it ends").expect("a child").success());
    address
}

// RFC 4861 6.3.7, RFC 4862 5.5.
#[test]
fn http_is_reachable_three_seconds_after_it_gets_a_tap_by_slaac() {
    const TEST: &str = "http_is_reachable_three_seconds_after_it_gets_a_tap_by_slaac";
    const NEEDS: &[Need] = &[Need::Tun, Need::Program("ip"), Need::Program("radvd")];
    on_each_wiring(TEST, NEEDS, async |wiring| {
        set_sysctl("ipv6/conf/all/forwarding", "1");
        wiring.lay("2001:db8:9::1/64").await;
        let interface = wiring.interface();
        let _radvd = Radvd::start(&format!(
            "interface {interface} {{
                AdvSendAdvert on;
                prefix 2001:db8:9::/64 {{ AdvOnLink on; AdvAutonomous on; }};
            }};\n"
        ));
        if let Wiring::BusyBridge = wiring {
            // A router that has been there for a while: it says nothing within three seconds of what it has said to all
            // (RFC 4861 10 MIN_DELAY_BETWEEN_RAS).
            while Counters::read().value("Icmp6OutRouterAdvertisements") == 0 {
                sleep(Duration::from_millis(10)).await;
            }
            sleep(Duration::from_millis(3100)).await;
        }
        let address = served_in_time(&["--slaac"]).await;
        let SocketAddr::V6(address) = address else {
            panic!("{address} is none of IPv6");
        };
        assert_eq!(address.ip().segments()[..4], [0x2001, 0xdb8, 9, 0]);
    });
}

// RFC 2131 3.1.
#[test]
fn http_is_reachable_three_seconds_after_it_gets_a_tap_by_dhcp() {
    const TEST: &str = "http_is_reachable_three_seconds_after_it_gets_a_tap_by_dhcp";
    const NEEDS: &[Need] = &[Need::Tun, Need::Program("ip"), Need::Program("dnsmasq")];
    on_each_wiring(TEST, NEEDS, async |wiring| {
        wiring.lay("10.9.0.1/24").await;
        let range = "--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,120";
        let server = Dnsmasq::start(wiring.interface(), &[range]).await;
        let address = served_in_time(&["--dhcp"]).await;
        assert!(
            server.leases().contains(&format!(" {} ", address.ip())),
            "{address}: {}",
            server.leases()
        );
    });
}

// RFC 903.
#[test]
fn http_is_reachable_three_seconds_after_it_gets_a_tap_by_rarp() {
    const TEST: &str = "http_is_reachable_three_seconds_after_it_gets_a_tap_by_rarp";
    const NEEDS: &[Need] = &[
        Need::Tun,
        Need::Program("ip"),
        Need::Program("rarpd"),
        Need::Program("unshare"),
        Need::Program("mount"),
    ];
    const HARDWARE: MacAddress = MacAddress([2, 0, 0, 0, 9, 50]);
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 50);
    on_each_wiring(TEST, NEEDS, async |wiring| {
        wiring.lay("10.9.0.1/24").await;
        let server = Rarpd::start(wiring.interface(), &[(HARDWARE, ADDRESS)]).await;
        let hardware = HARDWARE.to_string();
        let way = [
            "--rarp",
            "--rarp-prefix",
            "24",
            "--hardware-address",
            hardware.as_str(),
        ];
        let address = served_in_time(&way).await;
        assert_eq!(address, SocketAddr::from((ADDRESS, 80)));
        let log = server.log();
        assert!(log.contains("RARP response to"), "{log}");
    });
}

/// What `traceroute` says of the way to a host behind the kernel.
fn assert_way(output: &Output, router: &str, host: &str, arguments: &[&str]) {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{arguments:?}: {said}");
    let lines: Vec<serde_json::Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let from = |hop: usize, probe: usize| lines[hop]["answers"][probe]["from"].as_str();
    for probe in 0..2 {
        assert_eq!(from(0, probe), Some(router), "{arguments:?}: {said}");
        assert_eq!(from(1, probe), Some(host), "{arguments:?}: {said}");
    }
    assert_eq!(lines[2]["reached"], true, "{said}");
    assert_eq!(lines[2]["hops"], 2, "{said}");
}

/// Runs `traceroute` with each kind of probe to a stack behind the kernel, of both IP versions; `run` runs it with the
/// arguments that it gets on the near side.
async fn trace_all(device: &[&'static str], run: impl AsyncFn(Vec<&'static str>) -> Output) {
    for name in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        set_sysctl(name, "1");
    }
    // One message a second to a host, otherwise, once it has got six.
    for name in ["ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"] {
        set_sysctl(name, "0");
    }
    let behind = LinkConfig {
        subnet: 8,
        ..LinkConfig::default()
    };
    let far = Link::start(&behind).await;
    let _listener = far.stack.tcp_listener("[::]:80").await.expect("free");
    let ways: [(&[&'static str], _, _); 2] = [
        (
            &["--address", "10.7.0.2/24", "--gateway", "10.7.0.1"],
            "10.7.0.1",
            "10.8.0.2",
        ),
        (
            &["--address", "fd07::2/64", "--gateway", "fd07::1"],
            "fd07::1",
            "fd08::2",
        ),
    ];
    let probes: [&[&'static str]; 4] =
        [&["--method", "udp"], &["-I"], &["-T"], &["-T", "-p", "81"]];
    for (place, router, host) in ways {
        for probe in probes {
            let common = ["--json", "-q", "2", "-w", "5", host];
            let all = [device, place, probe, &common[..]].concat();
            let output = run(all.clone()).await;
            assert_way(&output, router, host, &all);
        }
    }
}

// RFC 1122 3.2.2.4, RFC 4443 3.3: the router and the host behind it tell where a probe has come to, on Ethernet as well.
#[test]
fn traceroute_over_a_tap_names_the_router_and_the_host_behind_it() {
    const TEST: &str = "traceroute_over_a_tap_names_the_router_and_the_host_behind_it";
    run_with(
        TEST,
        &[Need::Tun],
        Flavor::CurrentThread,
        LIMIT,
        async || {
            let device = [
                "--tap",
                TAP,
                "--kernel-address",
                "10.7.0.1/24",
                "--kernel-address",
                "fd07::1/64",
            ];
            let run = async |arguments: Vec<&'static str>| {
                let child = start("traceroute", &arguments);
                child.wait_with_output().await.expect("a child")
            };
            trace_all(&device, run).await;
        },
    );
    announce(&format!("kernel: 2 cases ({TEST})"));
}

// The same.
#[test]
fn traceroute_over_a_packet_socket_names_the_router_and_the_host_behind_it() {
    const TEST: &str = "traceroute_over_a_packet_socket_names_the_router_and_the_host_behind_it";
    run_with(
        TEST,
        &[Need::Tun],
        Flavor::CurrentThread,
        LIMIT,
        async || {
            let station = Station::start(&LinkConfig::default()).await;
            let station = station.expect("a veth pair");
            let run = async |arguments: Vec<&'static str>| {
                // The child gets the namespace of the thread that starts it.
                let ran = station.namespace.run(async move || {
                    let child = start("traceroute", &arguments);
                    child.wait_with_output().await.expect("a child")
                });
                ran.await
            };
            trace_all(&["--packet", Station::INTERFACE], run).await;
        },
    );
    announce(&format!("kernel: 2 cases ({TEST})"));
}
