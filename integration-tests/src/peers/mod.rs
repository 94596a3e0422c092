//! Other implementations of SCTP, and a stack of ours that meets them.
//!
//! Owns building and running the peers of `integration-tests/peers`, the link between, what they say, and what must be
//! true at the end of every test: Wireshark finds no packet malformed and every CRC32c right.
//!
//! ```text
//!  usrsctp ── raw sockets ── kernel ── TUN or TAPs ───┐
//!                                                     ├── [impairment] ── tidewire::net::sctp 10.7.0.2, fd07::2
//!  ksctp_peer ── an emulated machine's kernel ── TAPs ┘
//! ```
//!
//! With two networks, both sides have addresses in 10.8.0.0/24 and fd08::/64 besides.

mod machine;
pub mod payload;
mod process;
pub mod scenarios;
mod usrsctp;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command as Program;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use tidewire::Stack;
use tidewire_netdev::linux::{PacketConfig, PacketSocket};
use tidewire_netdev::memory::ImpairmentConfig;
use tokio::process::Command;
use tokio::time::timeout;

use crate::kernel::wireshark::{UNSOUND, found};
use crate::kernel::{DeviceKind, Family, FileCapture, Link, LinkConfig, Recording, written};
use crate::namespace::{Flavor, announce, run_beside_others, run_program, set_up};
use crate::requirements::{Need, missing_program, skip};

use machine::Machine;

pub use machine::missing_machine;
pub use process::{Ended, Peer};
pub use usrsctp::missing_usrsctp;

/// A peer's implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implementation {
    /// The user-space stack usrsctp, in the test's namespace.
    Usrsctp,
    /// The Linux kernel's, in an emulated machine.
    Linux,
}

impl Implementation {
    fn missing(self) -> Option<String> {
        missing_program("tshark")
            .or_else(|| missing_program("nft"))
            .or_else(|| match self {
                Self::Usrsctp => missing_usrsctp(),
                Self::Linux => missing_machine(),
            })
    }
}

/// Runs a scenario against an implementation, for each IP version, in a namespace of its own; it returns how many cases
/// that were.
///
/// # Panics
/// When the scenario does, or takes longer than `limit`, or a bad packet was seen.
pub fn meet<F>(
    test: &str,
    with: Implementation,
    impairment: Option<ImpairmentConfig>,
    limit: Duration,
    scenario: F,
) where
    F: AsyncFn(&Meeting, Family) -> usize + Send + 'static,
{
    let network = LinkConfig {
        impairment,
        ..LinkConfig::default()
    };
    meet_over(vec![network], test, with, limit, scenario);
}

/// [`meet`] on two Ethernets, with addresses of both sides on each.
///
/// # Panics
/// As there.
pub fn meet_on_two_networks<F>(test: &str, with: Implementation, limit: Duration, scenario: F)
where
    F: AsyncFn(&Meeting, Family) -> usize + Send + 'static,
{
    let network = |index| LinkConfig {
        device: DeviceKind::Tap,
        subnet: subnet(index),
        ..LinkConfig::default()
    };
    meet_over([0, 1].map(network).into(), test, with, limit, scenario);
}

fn meet_over<F>(
    networks: Vec<LinkConfig>,
    test: &str,
    with: Implementation,
    limit: Duration,
    scenario: F,
) where
    F: AsyncFn(&Meeting, Family) -> usize + Send + 'static,
{
    if let Some(reason) = with.missing() {
        return skip(test, &reason);
    }
    let name = test.to_owned();
    run_beside_others(
        test,
        &[Need::Tun],
        Flavor::CurrentThread,
        limit,
        async move || {
            let meeting = Meeting::start(with, networks).await;
            let mut cases = 0;
            for family in Family::ALL {
                let ran = timeout(limit.mul_f64(0.45), scenario(&meeting, family));
                match ran.await {
                    Ok(ran) => cases += ran,
                    Err(_) => meeting.hangs(&format!("{name} {family:?}")),
                }
            }
            meeting.assert_clean();
            announce(&format!("peers: {cases} cases ({name}, {with:?})"));
        },
    );
}

/// A stack and what runs peers, with links between.
pub struct Meeting {
    /// The stack.
    pub stack: Stack,
    host: Host,
    /// What each link is.
    networks: Vec<LinkConfig>,
    folder: TempDir,
}

/// Where peers run.
enum Host {
    /// In the namespace, on the other side of its links.
    Namespace(Vec<Link>),
    Machine(Machine, Vec<FileCapture>),
}

/// How a network fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Packets vanish, unseen by both ends.
    Silent,
    /// The peer's interface is down, which it sees, and loses its IPv6 address; nobody answers ARP and NDP there.
    Down,
}

impl Failure {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Silent, Self::Down];
}

impl fmt::Debug for Meeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meeting").finish_non_exhaustive()
    }
}

impl Drop for Meeting {
    /// Keeps what was recorded of a test that fails.
    fn drop(&mut self) {
        if thread::panicking() {
            self.flush_captures();
            self.folder.disable_cleanup(true);
            announce(&format!("recorded in {:?}", self.folder.path()));
        }
    }
}

/// The second octet of the addresses on a network.
const fn subnet(network: usize) -> u8 {
    7 + network as u8
}

/// The table of the firewall between the peers and what is on `interface`, while there is one.
fn firewall(interface: &str) -> String {
    format!(
        "add table inet cut; \
         add chain inet cut in {{ type filter hook input priority 0; }}; \
         add chain inet cut out {{ type filter hook output priority 0; }}; \
         add rule inet cut in iifname {interface} meta l4proto sctp drop; \
         add rule inet cut out oifname {interface} meta l4proto sctp drop;"
    )
}

/// usrsctp sends all packets from one address, whatever their way; each leaves with that of its link.
fn own_source(links: &[Link]) -> String {
    let mut rules = "add table inet source; \
         add chain inet source out { type filter hook postrouting priority 0; };"
        .to_owned();
    for link in links {
        let name = &link.name;
        for (family, protocol) in [(Family::V4, "ip saddr set"), (Family::V6, "ip6 saddr set")] {
            let version = match family {
                Family::V4 => "ipv4",
                Family::V6 => "ipv6",
            };
            let address = link.kernel_address(family);
            rules += &format!(
                "add rule inet source out oifname {name} meta nfproto {version} \
                 meta l4proto sctp {protocol} {address};"
            );
        }
    }
    rules
}

/// usrsctp leaves a message queued when it is sent while another thread is done with sending but not with receiving
/// (`SCTP_TCB_TRYLOCK` in `sctp_lower_sosend`); only a timer brings it on its way. These come soon.
const LEST_IT_STALLS: &str = "--hb 100 --rto-initial 500 --rto-min 100 --sack-delay 20";

/// A raw socket whose buffer is full refuses packets, and the kernel then tells the sender that nobody here speaks the
/// protocol. That would be the association's end (RFC 9260 10, ICMP8), so it stays here; the packet is merely lost.
const NO_REFUSALS: &str = "add table inet refusals; \
     add chain inet refusals out { type filter hook output priority 0; }; \
     add rule inet refusals out icmp type destination-unreachable icmp code prot-unreachable drop; \
     add rule inet refusals out icmpv6 type parameter-problem icmpv6 code 1 drop;";

impl Meeting {
    async fn start(with: Implementation, mut networks: Vec<LinkConfig>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (index, network) in networks.iter_mut().enumerate() {
            network.capture = Some(Recording {
                path: folder.path().join(format!("capture{index}.pcapng")),
                limit: None,
            });
        }
        let (stack, host) = match with {
            Implementation::Usrsctp => {
                let links = Link::start_together(&networks).await;
                let nft = |rules: &str| run_program("nft", &[rules]).expect("nft takes the rules");
                nft(NO_REFUSALS);
                if links.len() > 1 {
                    nft(&own_source(&links));
                }
                (links[0].stack.clone(), Host::Namespace(links))
            }
            Implementation::Linux => {
                let machine = Machine::start(&networks);
                let wire = |index| {
                    let socket = PacketConfig {
                        // Its frames are as on a wire.
                        offload: false,
                        ..PacketConfig::new(Machine::interface(index))
                    };
                    let socket = PacketSocket::open(socket).expect("the machine's wire");
                    socket.into_device().expect("a packet socket")
                };
                let devices = (0..networks.len()).map(wire).collect();
                let (stack, captures) = crate::kernel::attach(devices, &networks);
                (stack, Host::Machine(machine, captures))
            }
        };
        Self {
            stack,
            host,
            networks,
            folder,
        }
    }

    /// Where a socket of the stack is, or will be.
    pub const fn ours(family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(family.stack(), port)
    }

    /// Where a peer is.
    pub const fn theirs(family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(family.kernel(), port)
    }

    /// Where a socket of the stack is on each network, in this order of IP versions.
    pub fn all_ours(families: [Family; 2], port: u16) -> [SocketAddr; 2] {
        [0, 1].map(|index| SocketAddr::new(families[index].stack_in(subnet(index)), port))
    }

    /// Where a peer is on each network.
    pub fn all_theirs(families: [Family; 2], port: u16) -> [SocketAddr; 2] {
        [0, 1].map(|index| SocketAddr::new(families[index].kernel_in(subnet(index)), port))
    }

    /// The peer's implementation.
    pub const fn implementation(&self) -> Implementation {
        match self.host {
            Host::Namespace(_) => Implementation::Usrsctp,
            Host::Machine(..) => Implementation::Linux,
        }
    }

    /// Starts a peer at addresses in a mode, with further flags. Its buffers hold the largest messages.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn peer(&self, local: &[IpAddr], mode: &str, flags: &str) -> Peer {
        // usrsctp sends from the last one, and the first network is to be as good as the others.
        let local: Vec<_> = local.iter().rev().map(IpAddr::to_string).collect();
        let local = local.join(",");
        let own = match self.implementation() {
            Implementation::Usrsctp => LEST_IT_STALLS,
            Implementation::Linux => "",
        };
        let line = format!(
            "{mode} --local {local} --sndbuf 4194304 --rcvbuf 4194304 --stats 1000 {own} {flags}"
        );
        let program = match &self.host {
            Host::Namespace(_) => {
                let place: &PathBuf = usrsctp::program().as_ref().expect("asked for before");
                let mut program = Program::new(place);
                program.args(line.split_whitespace());
                program
            }
            Host::Machine(machine, _) => machine.command(&format!("exec ksctp_peer {line}")),
        };
        Peer::start(Command::from(program))
    }

    /// A peer that connects to us.
    ///
    /// # Panics
    /// As [`Self::peer`].
    pub fn client(&self, mode: &str, to: SocketAddr, flags: &str) -> Peer {
        let family = match to {
            SocketAddr::V4(_) => Family::V4,
            SocketAddr::V6(_) => Family::V6,
        };
        let remote = format!("--remote {} --rport {} {flags}", to.ip(), to.port());
        self.peer(&[family.kernel()], mode, &remote)
    }

    /// A peer that listens, once it does.
    ///
    /// # Panics
    /// As [`Self::peer`], or when it cannot listen.
    pub async fn server(&self, mode: &str, at: SocketAddr, flags: &str) -> Peer {
        self.server_on(mode, &[at], flags).await
    }

    /// One that listens at all of these, which have one port.
    ///
    /// # Panics
    /// As [`Self::server`].
    pub async fn server_on(&self, mode: &str, at: &[SocketAddr], flags: &str) -> Peer {
        let local: Vec<_> = at.iter().map(SocketAddr::ip).collect();
        let mut peer = self.peer(&local, mode, &format!("--port {} {flags}", at[0].port()));
        peer.event("listening").await;
        peer
    }

    /// Cuts the first link, unseen by both ends, while `meanwhile` runs.
    ///
    /// # Panics
    /// When the firewall cannot be set up.
    pub async fn cut<T>(&self, meanwhile: impl Future<Output = T>) -> T {
        self.fail(0, Failure::Silent).await;
        let result = meanwhile.await;
        self.heal(0, Failure::Silent).await;
        result
    }

    /// Has a network fail, until [`Self::heal`].
    ///
    /// # Panics
    /// When that cannot be done.
    pub async fn fail(&self, network: usize, how: Failure) {
        match (how, &self.host) {
            (Failure::Silent, Host::Namespace(links)) => {
                self.filter(&firewall(&links[network].name));
            }
            (Failure::Silent, Host::Machine(..)) => {
                self.filter(&firewall(&format!("eth{network}")));
            }
            (Failure::Down, Host::Namespace(links)) => {
                let down = set_up(&links[network].name, false).await;
                down.expect("an interface");
            }
            (Failure::Down, Host::Machine(machine, _)) => machine.set_down(network),
        }
    }

    /// Ends what [`Self::fail`] has begun.
    ///
    /// # Panics
    /// When that cannot be done.
    pub async fn heal(&self, network: usize, how: Failure) {
        match (how, &self.host) {
            (Failure::Silent, _) => self.filter("delete table inet cut;"),
            (Failure::Down, Host::Namespace(links)) => {
                let link = &links[network];
                let up = set_up(&link.name, true).await;
                up.expect("an interface");
                link.restore_address(Family::V6).await;
            }
            (Failure::Down, Host::Machine(machine, _)) => {
                machine.set_up(network, &self.networks[network]);
            }
        }
    }

    fn filter(&self, rules: &str) {
        match &self.host {
            Host::Namespace(_) => {
                run_program("nft", &[rules]).expect("nft takes the rules");
            }
            Host::Machine(machine, _) => machine.shell(&format!("nft '{rules}'")),
        }
    }

    /// Impairs what the machine sends and receives by netem, as its manual describes `settings`.
    ///
    /// # Panics
    /// When there is no machine, or it refuses.
    pub fn netem(&self, settings: &str) {
        let Host::Machine(machine, _) = &self.host else {
            panic!("only the machine has netem");
        };
        machine.shell(&format!(
            "ip link add incoming type ifb && ip link set incoming up && \
             tc qdisc add dev eth0 handle ffff: ingress && \
             tc filter add dev eth0 parent ffff: matchall action mirred egress redirect dev incoming && \
             tc qdisc replace dev eth0 root netem {settings} limit 10000 && \
             tc qdisc replace dev incoming root netem {settings} limit 10000"
        ));
    }

    /// Fails with all that is known.
    fn hangs(&self, what: &str) -> ! {
        let sockets = self.stack.sockets();
        panic!("{what} does not end: {sockets:#?}");
    }

    /// Writes out what was recorded so far; how many packets that is on each network.
    fn flush_captures(&self) -> Vec<u64> {
        match &self.host {
            Host::Namespace(links) => links.iter().map(Link::flush_capture).collect(),
            Host::Machine(_, captures) => captures.iter().map(written).collect(),
        }
    }

    /// Asserts that what was recorded is sound, with CRC32c, and that no packet was on a network that its addresses do
    /// not belong to.
    fn assert_clean(&self) {
        // What we send may be damaged before it is recorded.
        let damages = |network: &LinkConfig| {
            let path = network.impairment.as_ref();
            path.is_some_and(|path| path.corrupt > 0.0)
        };
        if let Host::Namespace(links) = &self.host {
            let whole = links.iter().zip(&self.networks);
            for (link, _) in whole.filter(|(_, network)| !damages(network)) {
                link.assert_clean();
            }
        }
        let recorded = self.flush_captures();
        for (network, packets) in self.networks.iter().zip(recorded) {
            assert!(packets > 3, "only {packets} packets recorded");
            let capture = network.capture.as_ref().expect("all record");
            let judged = match damages(network) {
                true => format!("!(ip.src == 10.7.0.2 || ipv6.src == fd07::2) && ({UNSOUND})"),
                false => UNSOUND.to_owned(),
            };
            let unsound = found(&capture.path, &judged);
            assert!(unsound.is_empty(), "{}", unsound.join("\n"));
            if damages(network) {
                continue;
            }
            let [v4, v6] = Family::ALL
                .map(|family| format!("{}/{}", family.network_of(network.subnet), family.prefix()));
            let astray = format!(
                "sctp && !icmp && !icmpv6 && !(ip.src == {v4} && ip.dst == {v4}) && \
                 !(ipv6.src == {v6} && ipv6.dst == {v6})"
            );
            let astray = found(&capture.path, &astray);
            assert!(astray.is_empty(), "{}", astray.join("\n"));
        }
    }

    /// How many packets recorded so far on each network a display filter of Wireshark's finds.
    ///
    /// # Panics
    /// When it does not understand.
    pub fn recorded(&self, filter: &str) -> Vec<usize> {
        self.flush_captures();
        let captures = self.networks.iter().flat_map(|network| &network.capture);
        let counts = captures.map(|capture| found(&capture.path, filter).len());
        counts.collect()
    }
}
