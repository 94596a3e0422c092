//! Servers of other projects, for tests of what a host gets from them: radvd, dnsmasq, rarpd.
//!
//! Each runs in the network namespace of the thread that starts it and ends with its value; that the program is there is
//! asked for before ([`crate::requirements::Need`]).

use std::fmt::Write;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tidewire_netdev::MacAddress;
use tokio::time::sleep;

use crate::namespace::run_program;
use crate::requirements::find_program;

/// How often is looked whether a server has come as far as is waited for.
const LOOK: Duration = Duration::from_millis(10);

/// A router's daemon, which advertises what its configuration says.
#[derive(Debug)]
pub struct Radvd {
    server: Server,
}

impl Radvd {
    /// Starts it with the text of a configuration file.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn start(configuration: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("radvd.conf");
        fs::write(&path, configuration).expect("written");
        let mut command = program("radvd");
        command
            .args(["--nodaemon", "--logmethod=stderr", "--config"])
            .arg(&path)
            .arg("--pidfile")
            .arg(folder.path().join("pid"));
        Self {
            server: Server::start(command, folder),
        }
    }

    /// Has it say that it is a router no more, and end.
    ///
    /// # Panics
    /// When it cannot be told to.
    pub fn stop(&mut self) {
        let pid = self.server.child.id().to_string();
        run_program("kill", &["-TERM", &pid]).expect("it runs");
        self.server.child.wait().expect("it ends");
    }
}

/// A DHCP server.
#[derive(Debug)]
pub struct Dnsmasq {
    server: Server,
}

impl Dnsmasq {
    /// Starts it for the hosts of an interface's link; more arguments say which addresses it has for them. It lends them
    /// without asking whether somebody has one.
    ///
    /// # Panics
    /// When it cannot be run.
    pub async fn start(interface: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut command = program("dnsmasq");
        command
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0"])
            .args(["--no-ping", "--log-dhcp", "--user=root"])
            .arg("--bind-interfaces")
            .arg(format!("--interface={interface}"))
            .args(arguments)
            .arg(format!("--dhcp-leasefile={}", path("leases")))
            .arg(format!("--log-facility={}", path("log")))
            .arg(format!("--pid-file={}", path("pid")));
        let server = Server::start(command, folder);
        // Written when it listens.
        while !server.folder.path().join("pid").exists() {
            sleep(LOOK).await;
        }
        Self { server }
    }

    /// Its file of leases.
    pub fn leases(&self) -> String {
        self.server.read("leases")
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.server.read("log")
    }

    /// How often the log has this.
    pub fn logged(&self, what: &str) -> usize {
        self.log().matches(what).count()
    }

    /// Waits until the log has this so often.
    pub async fn wait_for(&self, what: &str, count: usize) {
        while self.logged(what) < count {
            sleep(LOOK).await;
        }
    }
}

/// A RARP server.
#[derive(Debug)]
pub struct Rarpd {
    server: Server,
}

impl Rarpd {
    /// Starts it for the hosts of an interface's link, of which it knows these. Its database is `/etc/ethers` and nowhere
    /// else: it gets an `/etc` of its own, in a mount namespace (`unshare`, `mount`).
    ///
    /// # Panics
    /// When it cannot be run.
    pub async fn start(interface: &str, hosts: &[(MacAddress, Ipv4Addr)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut ethers, mut names) = (String::new(), String::new());
        for (number, (hardware, address)) in hosts.iter().enumerate() {
            let _ = writeln!(ethers, "{hardware} host{number}");
            let _ = writeln!(names, "{address} host{number}");
        }
        for (name, text) in [
            ("ethers", &*ethers),
            ("hosts", &*names),
            ("nsswitch.conf", "ethers: files\nhosts: files\n"),
        ] {
            fs::write(folder.path().join(name), text).expect("written");
        }
        let log = File::create(folder.path().join("log")).expect("a file");
        let rarpd = find_program("rarpd").expect("it was looked for");
        // -d: in the foreground, and verbose; -e: without looking for what the host is to boot.
        let mut command = program("unshare");
        command
            .args(["--mount", "--", "sh", "-c"])
            .arg("mount --bind \"$1\" /etc && exec \"$2\" -d -e \"$3\"")
            .arg("sh")
            .args([folder.path(), rarpd.as_path()])
            .arg(interface)
            .stdout(Stdio::null())
            .stderr(log);
        let server = Server::start(command, folder);
        while !listens_to_rarp() {
            sleep(LOOK).await;
        }
        Self { server }
    }

    /// What it has said.
    pub fn log(&self) -> String {
        self.server.read("log")
    }
}

/// Whether somebody in the calling thread's namespace has a packet socket for RARP.
fn listens_to_rarp() -> bool {
    // sk RefCnt Type Proto Iface …
    let sockets = fs::read_to_string("/proc/thread-self/net/packet").expect("/proc");
    let mut protocols = sockets
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3));
    protocols.any(|protocol| protocol == "8035")
}

/// A running program and its files.
#[derive(Debug)]
struct Server {
    child: Child,
    folder: TempDir,
}

impl Server {
    fn start(mut command: Command, folder: TempDir) -> Self {
        let child = command.stdin(Stdio::null()).spawn();
        Self {
            child: child.unwrap_or_else(|error| panic!("{command:?}: {error}")),
            folder,
        }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program(name: &str) -> Command {
    Command::new(find_program(name).expect("it was looked for"))
}
