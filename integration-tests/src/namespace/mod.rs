//! Network namespaces for tests against a kernel.
//!
//! Owns running a test's body on a thread in a namespace of its own, one test at a time on the machine (or several that
//! mostly wait, [`run_beside_others`]), with a deadline in real time; further namespaces beside it, and interfaces between them; and what a test asks the kernel there: its
//! counters, its settings, its socket list. What is in the namespace besides `lo` is the body's affair
//! ([`crate::kernel`]).
//!
//! Without root, a test runs again in a user namespace ([`isolated`]), where all but TUN and TAP works.

mod counters;
// One implementation for programs and tests: depending on the programs would bring along all that they are made of.
#[path = "../../../examples/src/kernel.rs"]
pub mod kernel_side;
mod netlink;
mod rootless;
mod threads;

use std::fs::{self, File};
use std::future::Future;
use std::io::{self, Write};
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use tidewire::ip::Cidr;
use tidewire_netdev::linux::unshare_network;
use tokio::runtime::{Builder, Runtime};

use crate::requirements::{Need, find_program, missing_namespaces, skip};

pub use counters::Counters;
pub use netlink::{Netlink, VethEnd, VethPair, delete_link, set_up};
pub use rootless::isolated;
pub use threads::Namespace;

/// The runtime a test's body, its kernel sockets and its stack run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    /// One thread for everything.
    CurrentThread,
    /// Several workers, so that the driver, writers and readers race.
    Workers(usize),
}

impl Flavor {
    fn runtime(self) -> io::Result<Runtime> {
        match self {
            Self::CurrentThread => Builder::new_current_thread().enable_all().build(),
            // The workers are started by the calling thread, hence in its namespace.
            Self::Workers(count) => Builder::new_multi_thread()
                .worker_threads(count)
                .enable_all()
                .build(),
        }
    }
}

/// [`run_with`] what a TUN needs. Without root, the test is skipped.
///
/// # Panics
/// As there.
pub fn run<F, T>(test: &str, flavor: Flavor, limit: Duration, body: F)
where
    F: FnOnce() -> T + Send + 'static,
    T: Future<Output = ()>,
{
    run_with(test, &[Need::Tun], flavor, limit, body);
}

/// [`run_with`] for a body that mostly waits, for timers and another implementation's answers, and asserts no speed: at the
/// same time as other such tests.
///
/// # Panics
/// As [`run_with`].
pub fn run_beside_others<F, T>(test: &str, needs: &[Need], flavor: Flavor, limit: Duration, body: F)
where
    F: FnOnce() -> T + Send + 'static,
    T: Future<Output = ()>,
{
    run_under(Turn::shared, test, needs, flavor, limit, body);
}

/// Runs `body` in a new network namespace with only `lo`, which is up, once every other such test has ended.
///
/// Sockets and processes that the body makes belong to the namespace. Says so and returns where the machine cannot:
/// without the right to make namespaces ([`isolated`] finds a way), or what else it `needs`.
///
/// # Panics
/// When the body panics, or takes longer than `limit` of real time; under `TIDEWIRE_REQUIRE_ALL=1` instead of skipping.
pub fn run_with<F, T>(test: &str, needs: &[Need], flavor: Flavor, limit: Duration, body: F)
where
    F: FnOnce() -> T + Send + 'static,
    T: Future<Output = ()>,
{
    run_under(Turn::alone, test, needs, flavor, limit, body);
}

/// [`run_with`], once `turn` is there.
fn run_under<F, T>(
    turn: fn() -> Turn,
    test: &str,
    needs: &[Need],
    flavor: Flavor,
    limit: Duration,
    body: F,
) where
    F: FnOnce() -> T + Send + 'static,
    T: Future<Output = ()>,
{
    /// What a body that never yields is left beyond the deadline, before the test ends without it.
    const GRACE: Duration = Duration::from_secs(5);
    let missing = needs.iter().find_map(|need| need.missing());
    if let Some(reason) = missing.or_else(missing_namespaces) {
        return skip(test, &reason);
    }
    let _turn = turn();
    let (done, finished) = mpsc::channel();
    let name = test.to_owned();
    let thread = thread::Builder::new().name(name.clone());
    let thread = thread.spawn(move || {
        // Dropped on a panic, too.
        let _done = done;
        unshare_network().expect("root may make namespaces");
        let runtime = flavor.runtime().expect("a runtime");
        let result = runtime.block_on(async {
            prepare().await.expect("lo comes up");
            tokio::time::timeout(limit, body()).await
        });
        if result.is_err() {
            // The kernel's view, where the body had none to give.
            announce(&socket_list());
        }
        runtime.shutdown_timeout(Duration::from_secs(1));
        assert!(result.is_ok(), "{name} took longer than {limit:?}");
    });
    let thread = thread.expect("a thread");
    match finished.recv_timeout(limit + GRACE) {
        Err(RecvTimeoutError::Timeout) => {
            panic!("{test} blocked its thread for longer than {limit:?}")
        }
        Ok(()) | Err(RecvTimeoutError::Disconnected) => {}
    }
    if let Err(panic) = thread.join() {
        resume_unwind(panic);
    }
}

/// Makes a new namespace, the calling thread's, ready for use: `lo` is up, and addresses are used at once.
async fn prepare() -> io::Result<()> {
    // For as long as an interface's own link-local address is being checked (RFC 4862 5.4), a second or two, a router
    // does not look for its neighbours on it. A kernel without IPv6 has none.
    for interfaces in ["all", "default"] {
        let path = format!("/proc/sys/net/ipv6/conf/{interfaces}/accept_dad");
        match fs::write(path, "0") {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    configure("lo", &[], None).await
}

/// Writes a line to standard error even where the test harness keeps a passing test's output to itself.
pub fn announce(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A kernel test's turn on the machine: timing is real, so one must not disturb another. Threads of this process and
/// other processes each lock the file anew, so they all wait for one another.
struct Turn {
    /// Unlocked when it is closed.
    _file: Option<File>,
}

impl Turn {
    /// While no other kernel test runs.
    fn alone() -> Self {
        Self::wait(File::lock)
    }

    /// While no test runs that wants to be alone.
    fn shared() -> Self {
        Self::wait(File::lock_shared)
    }

    fn wait(lock: fn(&File) -> io::Result<()>) -> Self {
        // Made by whoever ran first; another user's can be locked, too.
        let file =
            lock_path().and_then(|path| File::create(&path).or_else(|_| File::open(&path)).ok());
        Self {
            _file: file.filter(|file| lock(file).is_ok()),
        }
    }
}

/// A file next to the test binaries, the same for all of them.
fn lock_path() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    Some(program.parent()?.join("kernel-tests.lock"))
}

/// Sets `/proc/sys/net/NAME` of the calling thread's namespace.
///
/// # Panics
/// When the kernel refuses.
pub fn set_sysctl(name: &str, value: &str) {
    let path = format!("/proc/sys/net/{name}");
    fs::write(&path, value).unwrap_or_else(|error| panic!("{path} = {value}: {error}"));
}

/// The kernel's TCP sockets with all it knows of them, for messages; empty without `ss`.
pub fn socket_list() -> String {
    let output = Command::new("ss").arg("-tanmoi").output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

/// Gives an interface its MTU and its addresses and brings it up; returns when packets to the addresses are taken.
///
/// # Errors
/// No such interface, or no `CAP_NET_ADMIN`.
pub async fn configure(name: &str, addresses: &[Cidr], mtu: Option<usize>) -> io::Result<()> {
    kernel_side::configure(name, addresses, mtu, true).await
}

/// Runs a program in the calling thread's namespace to its end.
///
/// # Errors
/// What it printed on standard error, when it fails or cannot be run.
pub fn run_program(program: &str, arguments: &[&str]) -> Result<String, String> {
    let place = find_program(program).ok_or_else(|| format!("{program} is missing"))?;
    let output = Command::new(place).args(arguments).output();
    let output = output.map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
