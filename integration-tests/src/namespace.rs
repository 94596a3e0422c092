//! Network namespaces for tests against a kernel.
//!
//! Owns running a test's body on a thread in a namespace of its own, one test at a time on the machine, with a deadline
//! in real time; and what a test asks the kernel there: its counters, its settings, its socket list. What is in the
//! namespace besides `lo` is the body's affair ([`crate::kernel`]).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::future::Future;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv6Addr};
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use futures::TryStreamExt;
use netlink_packet_route::address::AddressHeaderFlags;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteType};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use tidewire::ip::Cidr;
use tidewire_netdev::linux::unshare_network;
use tokio::runtime::{Builder, Runtime};

use crate::requirements::{missing_root, skip};

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

/// Runs `body` in a new network namespace with only `lo`, which is up, once every other such test has ended.
///
/// Sockets and processes that the body makes belong to the namespace. Says so and returns where the machine cannot:
/// without root or `/dev/net/tun`.
///
/// # Panics
/// When the body panics, or takes longer than `limit` of real time; under `TIDEWIRE_REQUIRE_ALL=1` instead of skipping.
pub fn run<F, T>(test: &str, flavor: Flavor, limit: Duration, body: F)
where
    F: FnOnce() -> T + Send + 'static,
    T: Future<Output = ()>,
{
    /// What a body that never yields is left beyond the deadline, before the test ends without it.
    const GRACE: Duration = Duration::from_secs(5);
    if let Some(reason) = missing_root() {
        skip(test, &reason);
        return;
    }
    let _alone = Alone::wait();
    let (done, finished) = mpsc::channel();
    let name = test.to_owned();
    let thread = thread::Builder::new().name(name.clone());
    let thread = thread.spawn(move || {
        // Dropped on a panic, too.
        let _done = done;
        unshare_network().expect("root may make namespaces");
        let runtime = flavor.runtime().expect("a runtime");
        let result = runtime.block_on(async {
            configure("lo", &[], None).await.expect("lo comes up");
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

/// Writes a line to standard error even where the test harness keeps a passing test's output to itself.
pub fn announce(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The machine's only kernel test while this lives: timing is real, so they must not disturb each other.
struct Alone {
    _threads: MutexGuard<'static, ()>,
    /// Unlocked when it is closed.
    _processes: Option<File>,
}

impl Alone {
    fn wait() -> Self {
        static LOCK: Mutex<()> = Mutex::new(());
        // A test that failed has poisoned it; the next one starts afresh anyway.
        let threads = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        let file = lock_path().and_then(|path| File::create(path).ok());
        let processes = file.filter(|file| file.lock().is_ok());
        Self {
            _threads: threads,
            _processes: processes,
        }
    }
}

/// A file next to the test binaries, the same for all of them.
fn lock_path() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    Some(program.parent()?.join("kernel-tests.lock"))
}

/// The kernel's counters in the calling thread's namespace, as `nstat` shows them: `TcpInErrs`, `Icmp6OutMsgs`, ….
#[derive(Clone, Debug, Default)]
pub struct Counters(BTreeMap<String, u64>);

impl Counters {
    /// The counters now.
    ///
    /// # Panics
    /// Without `/proc`.
    pub fn read() -> Self {
        let mut counters = BTreeMap::new();
        for file in ["snmp", "netstat"] {
            let text = read_proc(file);
            let lines: Vec<&str> = text.lines().collect();
            // Pairs of lines: names, then values, each after the protocol's name.
            for pair in lines.chunks_exact(2) {
                let (Some((protocol, names)), Some((_, values))) =
                    (pair[0].split_once(':'), pair[1].split_once(':'))
                else {
                    continue;
                };
                for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
                    // `TcpMaxConn` is -1.
                    let value = value.parse().unwrap_or(0);
                    counters.insert(format!("{protocol}{name}"), value);
                }
            }
        }
        for line in read_proc("snmp6").lines() {
            let mut words = line.split_whitespace();
            if let (Some(name), Some(Ok(value))) = (words.next(), words.next().map(str::parse)) {
                counters.insert(name.to_owned(), value);
            }
        }
        Self(counters)
    }

    /// One counter.
    ///
    /// # Panics
    /// When the kernel has no counter of that name: a test would assert nothing.
    pub fn value(&self, name: &str) -> u64 {
        let value = self.0.get(name);
        *value.unwrap_or_else(|| panic!("this kernel has no counter {name}"))
    }

    /// How much `name` grew from `earlier` to this.
    pub fn since(&self, earlier: &Self, name: &str) -> u64 {
        self.value(name).saturating_sub(earlier.value(name))
    }

    /// Everything that changed from `earlier` to this, for messages.
    pub fn changes(&self, earlier: &Self) -> String {
        let changed = self.0.iter().filter_map(|(name, &value)| {
            let grown = value.saturating_sub(earlier.0.get(name).copied().unwrap_or(0));
            (grown > 0).then(|| format!("{name} +{grown}"))
        });
        changed.collect::<Vec<_>>().join(", ")
    }
}

/// `self` would be the process's first thread, which is in another namespace.
fn read_proc(file: &str) -> String {
    let path = format!("/proc/thread-self/net/{file}");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
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
    let (connection, netlink, _) = rtnetlink::new_connection()?;
    let connection = tokio::spawn(connection);
    let result = configure_by(&netlink, name, addresses, mtu).await;
    connection.abort();
    result
}

/// Takes an interface down, or brings it up again.
///
/// # Errors
/// As [`configure`].
pub async fn set_up(name: &str, up: bool) -> io::Result<()> {
    let (connection, netlink, _) = rtnetlink::new_connection()?;
    let connection = tokio::spawn(connection);
    let result = async {
        let link = LinkUnspec::new_with_index(index_of(&netlink, name).await?);
        let link = if up { link.up() } else { link.down() };
        let request = netlink.link().set(link.build());
        request.execute().await.map_err(into_io)
    };
    let result = result.await;
    connection.abort();
    result
}

/// Deletes an interface.
///
/// # Errors
/// As [`configure`].
pub async fn delete_link(name: &str) -> io::Result<()> {
    let (connection, netlink, _) = rtnetlink::new_connection()?;
    let connection = tokio::spawn(connection);
    let result = async {
        let index = index_of(&netlink, name).await?;
        let request = netlink.link().del(index);
        request.execute().await.map_err(into_io)
    };
    let result = result.await;
    connection.abort();
    result
}

/// Runs a program in the calling thread's namespace to its end.
///
/// # Errors
/// What it printed on standard error, when it fails or cannot be run.
pub fn run_program(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn index_of(netlink: &Handle, name: &str) -> io::Result<u32> {
    let mut links = netlink.link().get().match_name(name).execute();
    let link = links.try_next().await.map_err(into_io)?;
    Ok(link.ok_or(io::ErrorKind::NotFound)?.header.index)
}

async fn configure_by(
    netlink: &Handle,
    name: &str,
    addresses: &[Cidr],
    mtu: Option<usize>,
) -> io::Result<()> {
    let index = index_of(netlink, name).await?;
    let mut settings = LinkUnspec::new_with_index(index).up();
    if let Some(mtu) = mtu {
        settings = settings.mtu(u32::try_from(mtu).unwrap_or(u32::MAX));
    }
    let request = netlink.link().set(settings.build());
    request.execute().await.map_err(into_io)?;
    for cidr in addresses {
        let addresses = netlink.address();
        let mut request = addresses.add(index, cidr.address(), cidr.prefix_len());
        // Duplicate detection would keep an IPv6 address from being used for seconds.
        request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        request.execute().await.map_err(into_io)?;
    }
    for cidr in addresses {
        if let IpAddr::V6(address) = cidr.address() {
            // The kernel inserts the host route later than it answers; until then it drops packets to the address.
            while !is_delivered(netlink, address).await? {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    Ok(())
}

async fn is_delivered(netlink: &Handle, address: Ipv6Addr) -> io::Result<bool> {
    let all = RouteMessageBuilder::<Ipv6Addr>::new().build();
    let mut routes = std::pin::pin!(netlink.route().get(all).execute());
    let host = RouteAttribute::Destination(RouteAddress::Inet6(address));
    let mut found = false;
    while let Some(route) = routes.try_next().await.map_err(into_io)? {
        found |= route.header.kind == RouteType::Local && route.attributes.contains(&host);
    }
    Ok(found)
}

fn into_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}
