//! Other implementations of SCTP, and a stack of ours that meets them.
//!
//! Owns building and running the peers of `integration-tests/peers`, the link between, what they say, and what must be
//! true at the end of every test: Wireshark finds no packet malformed and every CRC32c right.
//!
//! ```text
//!  usrsctp ── raw sockets ── kernel ────── TUN ──────┐
//!                                                    ├── [impairment] ── tidewire::net::sctp 10.7.0.2, fd07::2
//!  ksctp_peer ── an emulated machine's kernel ── TAP ┘
//! ```

mod machine;
pub mod payload;
mod process;
pub mod scenarios;
mod usrsctp;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command as Program;
use std::time::Duration;

use tempfile::TempDir;
use tidewire::Stack;
use tidewire_netdev::linux::{PacketConfig, PacketSocket};
use tidewire_netdev::memory::ImpairmentConfig;
use tokio::process::Command;
use tokio::time::timeout;

use crate::kernel::wireshark::{UNSOUND, found};
use crate::kernel::{Family, FileCapture, Link, LinkConfig, Recording, written};
use crate::namespace::{Flavor, announce, run, run_program};
use crate::requirements::{missing_program, skip};

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
    if let Some(reason) = with.missing() {
        return skip(test, &reason);
    }
    let name = test.to_owned();
    run(test, Flavor::CurrentThread, limit, async move || {
        let meeting = Meeting::start(with, impairment).await;
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
    });
}

/// A stack and what runs peers, with a link between.
pub struct Meeting {
    /// The stack.
    pub stack: Stack,
    host: Host,
    folder: TempDir,
    /// What we send is damaged before it is recorded.
    damages: bool,
}

/// Where peers run.
enum Host {
    /// In the namespace, on the other side of its link.
    Namespace(Link),
    Machine(Machine, FileCapture),
}

impl fmt::Debug for Meeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meeting").finish_non_exhaustive()
    }
}

/// The table of the firewall between the peers and the link, while there is one.
const FIREWALL: &str = "add table inet cut; \
     add chain inet cut in { type filter hook input priority 0; }; \
     add chain inet cut out { type filter hook output priority 0; }; \
     add rule inet cut in meta l4proto sctp drop; \
     add rule inet cut out meta l4proto sctp drop;";

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
    async fn start(with: Implementation, impairment: Option<ImpairmentConfig>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let damages = impairment.as_ref().is_some_and(|path| path.corrupt > 0.0);
        let config = LinkConfig {
            impairment,
            capture: Some(Recording {
                path: folder.path().join("capture.pcapng"),
                limit: None,
            }),
            ..LinkConfig::default()
        };
        let (stack, host) = match with {
            Implementation::Usrsctp => {
                let link = Link::start(&config).await;
                run_program("nft", &[NO_REFUSALS]).expect("nft takes the rules");
                (link.stack.clone(), Host::Namespace(link))
            }
            Implementation::Linux => {
                let machine = Machine::start();
                let socket = PacketConfig {
                    // Its frames are as on a wire.
                    offload: false,
                    ..PacketConfig::new(Machine::INTERFACE)
                };
                let socket = PacketSocket::open(socket).expect("the machine's wire");
                let device = socket.into_device().expect("a packet socket");
                let (stack, capture) = crate::kernel::attach(device, &config);
                (stack, Host::Machine(machine, capture))
            }
        };
        Self {
            stack,
            host,
            folder,
            damages,
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

    /// The peer's implementation.
    pub const fn implementation(&self) -> Implementation {
        match self.host {
            Host::Namespace(_) => Implementation::Usrsctp,
            Host::Machine(..) => Implementation::Linux,
        }
    }

    /// Starts a peer in a mode, with further flags. Its buffers hold the largest messages.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn peer(&self, family: Family, mode: &str, flags: &str) -> Peer {
        let local: IpAddr = family.kernel();
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
        self.peer(family, mode, &remote)
    }

    /// A peer that listens, once it does.
    ///
    /// # Panics
    /// As [`Self::peer`], or when it cannot listen.
    pub async fn server(&self, mode: &str, at: SocketAddr, flags: &str) -> Peer {
        let family = match at {
            SocketAddr::V4(_) => Family::V4,
            SocketAddr::V6(_) => Family::V6,
        };
        let mut peer = self.peer(family, mode, &format!("--port {} {flags}", at.port()));
        peer.event("listening").await;
        peer
    }

    /// Cuts the link, unseen by both ends, while `meanwhile` runs.
    ///
    /// # Panics
    /// When the firewall cannot be set up.
    pub async fn cut<T>(&self, meanwhile: impl Future<Output = T>) -> T {
        self.firewall(FIREWALL);
        let result = meanwhile.await;
        self.firewall("delete table inet cut;");
        result
    }

    fn firewall(&self, rules: &str) {
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

    /// Fails with all that is known, and keeps what was recorded.
    fn hangs(self, what: &str) -> ! {
        self.flush_capture();
        let sockets = self.stack.sockets();
        let folder = self.folder.keep();
        panic!("{what} does not end: {sockets:#?}\nrecorded in {folder:?}");
    }

    /// Writes out what was recorded so far; how many packets that is.
    fn flush_capture(&self) -> u64 {
        match &self.host {
            Host::Namespace(link) => link.flush_capture(),
            Host::Machine(_, capture) => written(capture),
        }
    }

    /// Asserts that what was recorded is sound, with CRC32c.
    fn assert_clean(&self) {
        if let Host::Namespace(link) = &self.host
            && !self.damages
        {
            link.assert_clean();
        }
        let packets = self.flush_capture();
        assert!(packets > 3, "only {packets} packets recorded");
        let path = self.folder.path().join("capture.pcapng");
        let judged = match self.damages {
            true => format!("!(ip.src == 10.7.0.2 || ipv6.src == fd07::2) && ({UNSOUND})"),
            false => UNSOUND.to_owned(),
        };
        let unsound = found(&path, &judged);
        assert!(unsound.is_empty(), "{}", unsound.join("\n"));
    }
}
