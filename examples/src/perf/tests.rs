//! The command line, what is printed, and every service against its client, over the kernel and over our stack.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;
use serde::Serialize;
use serde_json::{Value, json};
use tidewire::Stack;
use tidewire::net::SockOptExt as _;
use tidewire_netdev::memory::{PairConfig, pair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::flags::{Client, Command, Load, Memory, Test};
use super::report::{Connections, Cpu, InMemory, Rate, RoundTrips, Times, Transfer, per_second};
use super::service::Service;
use super::*;

fn parse(line: &str) -> Result<Command, clap::Error> {
    Flags::try_parse_from(line.split_whitespace()).map(|flags| flags.command)
}

fn parse_client(line: &str) -> Client {
    match parse(line) {
        Ok(Command::Client(client)) => client,
        other => panic!("{line}: {other:?}"),
    }
}

fn parse_memory(line: &str) -> Memory {
    match parse(line) {
        Ok(Command::Memory(memory)) => memory,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_contracts_command_lines_are_understood() {
    let client = parse_client(
        "perf client up --tun tw0 --address 10.7.0.2/24 --connect 10.7.0.1 --seconds 3 --streams 8",
    );
    assert_eq!(client.stack.tun.as_deref(), Some("tw0"));
    let load = Load {
        server: "10.7.0.1".parse().expect("an address"),
        streams: 8,
        size: traffic::BLOCK,
        duration: Duration::from_secs(3),
        count: u64::MAX,
    };
    assert_eq!((client.test, client.load()), (Test::Up, load));

    let memory = parse_memory("perf memory --mtu 9000 --no-offload --message 1024 --streams 2");
    assert_eq!(
        (memory.mtu, memory.message, memory.streams),
        (9000, 1024, 2)
    );
    assert!(memory.no_offload && !memory.zero_copy && !memory.json);
    assert_eq!(memory.seconds, Duration::from_secs(5));

    for line in [
        "perf serve --tun tw0 --address 10.7.0.2/24 --json --workers 2",
        "perf serve --kernel --bind 127.0.0.1 --congestion cubic",
        "perf client crr --kernel --connect ::1 --count 100 --streams 16",
        "perf client down --zero-copy --tun tw0 --connect 10.7.0.1 --seconds 0.5",
    ] {
        parse(line).expect(line);
    }
}

#[test]
fn a_client_ends_by_time_by_count_or_by_the_first_of_both() {
    const FIVE: Duration = Duration::from_secs(5);
    for (flags, limited, count) in [
        ("", true, u64::MAX),
        ("--count 7", false, 7),
        ("--seconds 5", true, u64::MAX),
        ("--seconds 5 --count 7", true, 7),
    ] {
        let client = parse_client(&format!("perf client ping --connect 10.7.0.1 {flags}"));
        let load = client.load();
        assert_eq!(
            (load.duration == FIVE, load.count),
            (limited, count),
            "{flags}"
        );
        assert_eq!(load.size, 64);
    }
}

#[test]
fn usage_errors_are_found_before_anything_is_opened() {
    for (line, kind) in [
        ("perf", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
        ("perf serve --kernel --tun tw0", ErrorKind::ArgumentConflict),
        (
            "perf serve --kernel --zero-copy",
            ErrorKind::ArgumentConflict,
        ),
        (
            "perf serve --sctp --congestion cubic",
            ErrorKind::ArgumentConflict,
        ),
        (
            "perf serve --bind 127.0.0.1",
            ErrorKind::MissingRequiredArgument,
        ),
        (
            "perf client up --kernel",
            ErrorKind::MissingRequiredArgument,
        ),
        (
            "perf client sideways --connect 10.7.0.1",
            ErrorKind::InvalidValue,
        ),
        (
            "perf client up --connect 10.7.0.1 --seconds 0",
            ErrorKind::ValueValidation,
        ),
        (
            "perf client up --connect 10.7.0.1 --seconds nan",
            ErrorKind::ValueValidation,
        ),
        (
            "perf client up --connect 10.7.0.1 --streams 0",
            ErrorKind::ValueValidation,
        ),
        (
            "perf client up --connect 10.7.0.1 --size 0",
            ErrorKind::ValueValidation,
        ),
        (
            "perf client crr --connect 10.7.0.1 --count 0",
            ErrorKind::ValueValidation,
        ),
        ("perf memory --mtu 67", ErrorKind::ValueValidation),
        (
            "perf memory --message 100000000",
            ErrorKind::ValueValidation,
        ),
        (
            "perf memory --sctp --zero-copy",
            ErrorKind::ArgumentConflict,
        ),
        ("perf memory --tun tw0", ErrorKind::UnknownArgument),
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!((error.kind(), error.exit_code()), (kind, 2), "{line}");
    }
}

#[test]
fn percentiles_are_of_nearest_rank() {
    let nanoseconds: Vec<u32> = (1..=200).rev().map(|i| i * 1000).collect();
    let expected = Times {
        mean_us: 100.5,
        p50_us: 100.0,
        p99_us: 198.0,
        max_us: 200.0,
    };
    assert_eq!(Times::new(nanoseconds), expected);
    let one = Times::new(vec![1500]);
    assert_eq!(
        (one.mean_us, one.p50_us, one.p99_us, one.max_us),
        (1.5, 1.5, 1.5, 1.5)
    );
    assert_eq!(Times::new(Vec::new()), Times::default());
}

#[test]
fn a_rate_without_time_is_no_infinity() {
    assert_eq!(per_second(3, Duration::ZERO), 0.0);
    assert_eq!(
        Rate::new(3, Duration::from_millis(500)).bytes_per_second,
        6.0
    );
}

fn object(result: &impl Serialize) -> Value {
    serde_json::to_value(result).expect("an object")
}

#[test]
fn results_are_flat_objects_with_the_names_that_scripts_know() {
    let rate = Rate::new(1000, Duration::from_secs(2));
    let cpu = Cpu {
        user_seconds: 0.5,
        system_seconds: 0.25,
    };
    let transfer = Transfer {
        test: Test::Down,
        streams: 8,
        rate,
        cpu,
    };
    let ping = RoundTrips {
        test: Test::Ping,
        streams: 1,
        size: 64,
        count: 4,
        seconds: 2.0,
        times: Times::new(vec![1000, 2000, 3000, 4000]),
        cpu,
    };
    let crr = Connections {
        test: Test::Crr,
        streams: 16,
        count: 1000,
        seconds: 2.0,
        connections_per_second: 500.0,
        cpu,
    };
    let memory = InMemory {
        test: "memory",
        mtu: 1500,
        offloads: vec!["csum"],
        streams: 1,
        message: 65_536,
        rate,
        cpu,
    };
    assert_eq!(
        object(&transfer),
        json!({"event": "result", "test": "down", "streams": 8, "bytes": 1000, "seconds": 2.0,
            "bytes_per_second": 500.0, "user_seconds": 0.5, "system_seconds": 0.25})
    );
    assert_eq!(
        object(&ping),
        json!({"event": "result", "test": "ping", "streams": 1, "size": 64, "count": 4, "seconds": 2.0,
            "mean_us": 2.5, "p50_us": 2.0, "p99_us": 4.0, "max_us": 4.0, "user_seconds": 0.5, "system_seconds": 0.25})
    );
    assert_eq!(
        object(&crr),
        json!({"event": "result", "test": "crr", "streams": 16, "count": 1000, "seconds": 2.0,
            "connections_per_second": 500.0, "user_seconds": 0.5, "system_seconds": 0.25})
    );
    assert_eq!(
        object(&memory),
        json!({"event": "result", "test": "memory", "mtu": 1500, "offloads": ["csum"], "streams": 1,
            "message": 65_536, "bytes": 1000, "seconds": 2.0, "bytes_per_second": 500.0,
            "user_seconds": 0.5, "system_seconds": 0.25})
    );
    for text in [
        transfer.to_string(),
        ping.to_string(),
        crr.to_string(),
        memory.to_string(),
    ] {
        assert!(text.contains("cpu 0.50 s user, 0.25 s system"), "{text}");
    }
}

/// An address of this process alone, so that the fixed ports are free whatever else runs on the machine. All of
/// 127.0.0.0/8 is the kernel's own.
fn own_loopback() -> IpAddr {
    let [_, b, c, d] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | (b & 63), c, d).into()
}

fn load(server: IpAddr, streams: usize, size: usize, count: u64) -> Load {
    Load {
        server,
        streams,
        size,
        count,
        duration: Duration::from_millis(30),
    }
}

/// Every service against its client.
async fn exercise<N: Network>(server: &N, client: &N, address: IpAddr) {
    const LONG: Duration = Duration::from_secs(60);
    let service = Service::start(server, address).expect("listening");

    let up = client::up(client, load(address, 2, 10_000, u64::MAX)).await;
    let up = up.expect("up").rate.bytes;
    assert!(up > 0);
    assert_eq!(
        service.discarded(),
        up,
        "all that was sent has been received"
    );

    let down = client::down(client, load(address, 2, 10_000, u64::MAX)).await;
    assert!(down.expect("down").rate.bytes > 0);

    // Larger than what one poll echoes: a part waits in the connection's own buffer.
    for size in [1, 64, 300_000] {
        let mut load = load(address, 2, size, 5);
        load.duration = LONG;
        let ping = client::ping(client, load).await.expect("ping");
        assert_eq!((ping.count, ping.size), (5, size));
        assert!(ping.times.p50_us <= ping.times.p99_us && ping.times.p99_us <= ping.times.max_us);
    }

    let mut load = load(address, 4, 1, 20);
    load.duration = LONG;
    let crr = client::crr(client, load).await.expect("crr");
    assert_eq!(crr.count, 20);

    holds(client, address).await;
}

/// A held connection says nothing, takes what it is sent, and ends with its peer.
async fn holds<N: Network>(client: &N, address: IpAddr) {
    let connected = client.connect(SocketAddr::new(address, HOLD_PORT)).await;
    let mut stream = connected.expect("connected");
    stream.write_all(&[7; 100]).await.expect("written");
    stream.shutdown().await.expect("shut down");
    assert_eq!(stream.read(&mut [0]).await.expect("the end"), 0);
}

fn stacks() -> (Stack, Stack, IpAddr) {
    let (a, b) = pair(PairConfig::default());
    let stack = |device, address: &str, seed| {
        let builder = Stack::builder().device(device).address(address).seed(seed);
        builder.unregistered().build().expect("a stack")
    };
    let address = Ipv4Addr::new(10, 0, 0, 2).into();
    (
        stack(a, "10.0.0.1/24", 1),
        stack(b, "10.0.0.2/24", 2),
        address,
    )
}

#[tokio::test]
async fn every_service_answers_its_client_over_the_kernel() {
    exercise(&Kernel::default(), &Kernel::default(), own_loopback()).await;
}

#[tokio::test]
async fn the_congestion_control_of_a_stack_of_ours_is_what_was_asked_for() {
    let (client, server, address) = stacks();
    let named = |stack, name: &str| OwnStack::new(stack).with_congestion(Some(name.to_owned()));
    let at = SocketAddr::new(address, 7000);
    let text = named(server.clone(), "none-such").listen(at);
    let text = text.expect_err("refused").to_string();
    assert!(text.contains("none-such"), "{text}");
    let (client, server) = (named(client, "bbr"), named(server, "reno"));
    let listener = server.listen(at).expect("free");
    let (accepted, connected) = tokio::join!(OwnStack::accept(&listener), client.connect(at));
    let name = accepted.expect("a client").congestion_control();
    assert_eq!(name.expect("alive"), "reno");
    let name = connected.expect("a server").congestion_control();
    assert_eq!(name.expect("alive"), "bbr");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_congestion_control_that_the_kernel_does_not_have_is_named() {
    let network = Kernel {
        congestion: Some("none-such".to_owned()),
    };
    let listening = network.listen(SocketAddr::new(own_loopback(), 0));
    let text = listening.expect_err("refused").to_string();
    assert!(text.contains("none-such"), "{text}");
}

#[tokio::test]
async fn every_service_answers_its_client_over_two_stacks() {
    let (client, server, address) = stacks();
    exercise(&OwnStack::new(server), &OwnStack::new(client), address).await;
}

#[tokio::test]
async fn every_service_answers_its_client_over_two_stacks_without_copies() {
    let (client, server, address) = stacks();
    exercise(
        &ZeroCopyStack(OwnStack::new(server)),
        &ZeroCopyStack(OwnStack::new(client)),
        address,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_service_answers_its_client_on_several_threads() {
    let (client, server, address) = stacks();
    exercise(&OwnStack::new(server), &OwnStack::new(client), address).await;
}

#[tokio::test]
async fn a_client_says_that_nobody_serves() {
    let (client, _server, address) = stacks();
    let error = client::up(&OwnStack::new(client), load(address, 1, 1, 1)).await;
    let text = error.expect_err("nobody listens").to_string();
    assert!(
        text.contains("10.0.0.2:5001") && text.contains("perf serve"),
        "{text}"
    );
}

#[tokio::test]
async fn memory_moves_octets_with_offloads_and_without() {
    for (line, offloads) in [
        ("perf memory --seconds 0.03", 6),
        ("perf memory --seconds 0.03 --zero-copy --streams 3", 6),
        (
            "perf memory --seconds 0.03 --no-offload --mtu 1400 --message 999",
            0,
        ),
    ] {
        let flags = parse_memory(line);
        let result = memory::run(flags).await.expect(line);
        assert!(result.rate.bytes > 0, "{line}");
        assert_eq!(
            (result.offloads.len(), result.mtu),
            (offloads, flags.mtu),
            "{line}"
        );
    }
}

/// Ten thousand of them are a measurement: none may carry a buffer.
#[tokio::test]
async fn an_idle_connections_task_is_hardly_more_than_its_stream() {
    let (client, server, address) = stacks();
    let network = OwnStack::new(server);
    let listener = network
        .listen(SocketAddr::new(address, HOLD_PORT))
        .expect("listening");
    let client = OwnStack::new(client);
    let connect = client.connect(SocketAddr::new(address, HOLD_PORT));
    let (_peer, stream) = tokio::join!(connect, OwnStack::accept(&listener));
    let stream = stream.expect("accepted");
    let (size, task) = (size_of_val(&stream), size_of_val(&traffic::hold(stream)));
    assert!(task <= size + 16, "{task} octets for a stream of {size}");
}
