//! Ten thousand idle connections: what they cost in memory and in processor time, and that nothing of them stays.
//!
//! Real time and real memory, so each test runs in a process of its own: memory that another test has given back would
//! hide what ours takes, and another test's work would count as ours. What a connection costs is read from the process's
//! resident memory, the allocator's overhead included; what is left behind from the allocator's count, to the octet.

#![cfg(target_os = "linux")]

use std::alloc::System;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tidewire::Stack;
use tidewire::net::{TcpListener, TcpStream};
use tidewire::tcp::info::State;
use tidewire_netdev::memory::{PairConfig, pair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CONNECTIONS: usize = 10_000;
/// Opened before the first look at memory, so that tables and the allocator have had their first growth.
const WARM_UP: usize = 1_000;
/// Octets that each connection carries in each direction before it idles.
const MESSAGE: usize = 1_000;
const ROUNDS: usize = 3;
const IDLE: Duration = Duration::from_secs(10);
const TIME_WAIT: Duration = Duration::from_secs(1);
/// Longer than the retransmission timer of a SYN, the longest that an open leaves armed.
const SETTLE: Duration = Duration::from_millis(1_500);

const LEFT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1));
const RIGHT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2));

/// What a connection's end may cost at most.
const BYTES_PER_END: f64 = 4096.0;
/// Processor time that ten idle seconds may take; the kernel counts in units of 10 ms. A timer of 1 ms takes more
/// than twice this, whatever it does.
const IDLE_CPU: Duration = Duration::from_millis(20);
/// Times the runtime may wake up in that time: tokio's wheel looks at a sleep of ten seconds a few times. Any timer of
/// less than 200 ms is found out.
const IDLE_WAKES: u64 = 50;
/// What all rounds together may leave allocated: the capacity of tables that once were full, no more than 200 octets for
/// each connection.
const LEFT_BEHIND: usize = 200 * CONNECTIONS;
/// What each later round may add to that: less than the smallest allocation for each connection opened.
const GROWTH: usize = 64 << 10;

#[test]
fn idle_connections_over_a_link_cost_little_memory_and_no_time() {
    in_own_process(
        "idle_connections_over_a_link_cost_little_memory_and_no_time",
        || {
            let (left, right) = pair(PairConfig::default());
            let stack = |device, address: &str| {
                let builder = builder().device(device).address(address);
                builder.build().unwrap()
            };
            Ends {
                client: stack(left, "10.1.0.1/24"),
                server: stack(right, "10.1.0.2/24"),
                addresses: (LEFT, RIGHT),
            }
        },
    );
}

#[test]
fn idle_connections_over_the_loopback_cost_little_memory_and_no_time() {
    in_own_process(
        "idle_connections_over_the_loopback_cost_little_memory_and_no_time",
        || {
            let stack = builder().build().unwrap();
            Ends {
                client: stack.clone(),
                server: stack,
                addresses: (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()),
            }
        },
    );
}

fn builder() -> tidewire::net::Builder {
    let config = tidewire::tcp::Config {
        time_wait: TIME_WAIT,
        ..Default::default()
    };
    Stack::builder().seed(5).tcp(config).unregistered()
}

/// Two stacks, or the same one twice.
struct Ends {
    client: Stack,
    server: Stack,
    /// The client's and the server's.
    addresses: (IpAddr, IpAddr),
}

impl Ends {
    async fn measure(self) {
        let (listener, address) = self.listen().await;
        let before = allocated();
        let mut connections = Vec::with_capacity(CONNECTIONS);
        self.open(&listener, address, WARM_UP, &mut connections)
            .await;
        let few = (resident(), allocated());
        self.open(&listener, address, CONNECTIONS, &mut connections)
            .await;
        let many = (resident(), allocated());
        let per_end = |grown: usize| grown as f64 / (2 * (CONNECTIONS - WARM_UP)) as f64;
        let (in_memory, on_heap) = (per_end(many.0 - few.0), per_end(many.1 - few.1));
        println!("an end takes {in_memory:.0} octets of memory, {on_heap:.0} of them allocated");
        assert!(in_memory < BYTES_PER_END);
        sleep(SETTLE).await;
        let settled = allocated();
        println!(
            "{} KiB resident, {} allocated",
            resident() >> 10,
            settled >> 10
        );
        expect_idleness().await;
        assert!(allocated() <= settled);

        let mut left = vec![self.close(connections).await - before];
        while left.len() < ROUNDS {
            let mut connections = Vec::with_capacity(CONNECTIONS);
            self.open(&listener, address, CONNECTIONS, &mut connections)
                .await;
            left.push(self.close(connections).await - before);
        }
        println!("octets left behind after each round: {left:?}");
        assert!(left.iter().all(|left| *left < LEFT_BEHIND));
        // A leak shows in each round, a table that grows once more in one of them.
        assert!(left.windows(2).any(|pair| pair[1] < pair[0] + GROWTH));
        drop(listener);
        // Ends at once when no connection without an owner is left to wait for.
        for stack in [&self.client, &self.server] {
            timeout(Duration::from_secs(1), stack.shutdown())
                .await
                .expect("no orphans");
        }
    }

    async fn listen(&self) -> (TcpListener, SocketAddr) {
        let listener = self
            .server
            .tcp_listener((self.addresses.1, 0))
            .await
            .unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// Opens connections until there are `count`, and uses each of them.
    async fn open(
        &self,
        listener: &TcpListener,
        address: SocketAddr,
        count: usize,
        connections: &mut Vec<(TcpStream, TcpStream)>,
    ) {
        let (mut message, started) = ([7; MESSAGE], Instant::now());
        while connections.len() < count {
            let (client, server) = tokio::join!(self.client.tcp_stream(address), listener.accept());
            let (mut client, mut server) = (client.unwrap(), server.unwrap().0);
            client.write_all(&message).await.unwrap();
            server.read_exact(&mut message).await.unwrap();
            server.write_all(&message).await.unwrap();
            client.read_exact(&mut message).await.unwrap();
            connections.push((client, server));
        }
        println!("opened up to {count} in {:?}", started.elapsed());
    }

    /// Closes all, the client first, and sees that all traces vanish. Gives the octets allocated in the end.
    async fn close(&self, connections: Vec<(TcpStream, TcpStream)>) -> usize {
        let started = Instant::now();
        for (client, mut server) in connections {
            drop(client);
            // The end of the stream, so that the client's side is the one to wait.
            assert_eq!(server.read(&mut [0; 1]).await.unwrap(), 0);
        }
        let waiting = |stack: &Stack| {
            let sockets = stack.sockets().into_iter();
            sockets.filter(|socket| socket.state != Some(State::Listen))
        };
        let closed = || {
            [&self.client, &self.server]
                .into_iter()
                .flat_map(waiting)
                .all(|socket| socket.state == Some(State::TimeWait))
        };
        while !closed() {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "all is delivered"
            );
            sleep(Duration::from_millis(5)).await;
        }
        sleep(TIME_WAIT + Duration::from_millis(200)).await;
        let left = waiting(&self.client).chain(waiting(&self.server)).count();
        assert_eq!(left, 0, "after TIME-WAIT nothing is left");
        println!(
            "closed in {:?}, {} KiB resident",
            started.elapsed(),
            resident() >> 10
        );
        allocated()
    }
}

/// Sleeps, and nothing else happens: no timer of an idle connection is armed, and the drivers are not polled.
async fn expect_idleness() {
    let metrics = Handle::current().metrics();
    let (cpu, wakes) = (processor_time(), metrics.worker_park_count(0));
    sleep(IDLE).await;
    let cpu = processor_time() - cpu;
    let wakes = metrics.worker_park_count(0) - wakes;
    println!("idle for {IDLE:?}: {cpu:?} of processor time, the runtime woke {wakes} times");
    assert!(cpu <= IDLE_CPU);
    assert!(wakes <= IDLE_WAKES);
}

/// Octets on the heap.
fn allocated() -> usize {
    let stats = HEAP.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Octets of memory that the process has in RAM.
fn resident() -> usize {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next());
    kib.unwrap().parse::<usize>().unwrap() << 10
}

/// What the process has spent, in user mode and in the kernel.
fn processor_time() -> Duration {
    /// `USER_HZ`, the same on all of Linux's machines but Alpha.
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The program's name, in parentheses, may contain anything; utime and stime are the 12th and 13th behind it.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let times = fields.split_whitespace().skip(11).take(2);
    TICK * times.map(|ticks| ticks.parse::<u32>().unwrap()).sum()
}

/// Runs the measurements of `test` in a new process, for whose test of the same name this is called again.
fn in_own_process(test: &str, ends: impl FnOnce() -> Ends) {
    const CHILD: &str = "TIDEWIRE_IDLE_CONNECTIONS";
    if std::env::var_os(CHILD).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { ends().measure().await });
        return;
    }
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let (stdout, stderr) = (&output.stdout, &output.stderr);
    println!("{}", String::from_utf8_lossy(stdout));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(stderr)
    );
}
