//! Two stacks that meet over the `wan` program.

#![cfg(target_os = "linux")]

mod support;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use tidewire::Stack;
use tidewire_examples::kernel::configure;
use tidewire_netdev::linux::{PacketConfig, PacketSocket, unshare_network};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

const ONE_WAY: Duration = Duration::from_millis(20);

/// The program, which cargo builds with the package's tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a program");
    let target = test.parent().and_then(|deps| deps.parent());
    target.expect("a folder of cargo's").join("examples/wan")
}

fn stack(interface: &str, address: &str) -> Stack {
    let socket = PacketSocket::open(PacketConfig::new(interface)).expect("a packet socket");
    let device = socket.into_device().expect("a device");
    let builder = Stack::builder().unregistered().device(device);
    builder.address(address).build().expect("a stack")
}

/// A round trip, and a transfer through loss.
async fn meet() {
    for name in ["wan-left", "wan-right"] {
        let up = configure(name, &[], None, true).await;
        up.expect("the program's device");
    }
    let left = stack("wan-left", "10.6.0.1/24");
    let right = stack("wan-right", "10.6.0.2/24");
    let listener = right.tcp_listener(("10.6.0.2", 80)).await.expect("free");
    let begun = Instant::now();
    let connect = left.tcp_stream(("10.6.0.2", 80));
    let (client, server) = tokio::join!(connect, listener.accept());
    let (mut client, mut server) = (client.expect("connected"), server.expect("accepted").0);
    let took = begun.elapsed();
    // ARP and the handshake.
    assert!(took >= 4 * ONE_WAY, "{took:?}");
    let sent: Vec<u8> = (0..300_000u32).map(|i| i as u8).collect();
    let send = async {
        client.write_all(&sent).await.expect("alive");
        client.shutdown().await.expect("alive");
    };
    let mut received = Vec::new();
    let (_, taken) = tokio::join!(send, server.read_to_end(&mut received));
    taken.expect("in order");
    assert!(received == sent);
}

fn over_the_program() -> Result<(), String> {
    unshare_network().map_err(|error| format!("no network namespace without root: {error}"))?;
    let mut wan = Command::new(program())
        .args(["--left", "tap:wan-left", "--right", "tap:wan-right"])
        .args(["--delay", "20", "--loss", "5", "--rate", "100", "--json"])
        // It ends by itself, whatever happens here.
        .args(["--seconds", "20"])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{:?}: {error}", program()))?;
    let mut said = BufReader::new(wan.stdout.take().expect("piped")).lines();
    let ready = said.next().ok_or("it opens no devices")?;
    assert_eq!(ready.expect("a pipe"), r#"{"event":"ready"}"#);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let met = runtime.block_on(async { timeout(Duration::from_secs(15), meet()).await });
    let id = nix::unistd::Pid::from_raw(wan.id() as i32);
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT).expect("a child of ours");
    assert!(wan.wait().expect("a child").success());
    met.expect("the transfer ends");
    let said: Vec<_> = said.map(|line| line.expect("a pipe")).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains(r#""towards":"right""#) && !said[0].contains(r#""lost":0,"#));
    Ok(())
}

#[test]
fn stacks_meet_over_a_path_that_delays_and_loses() {
    support::run_or_skip(over_the_program);
}
