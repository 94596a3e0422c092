//! The `traceroute` program on a TUN, and the kernel as the router between it and a stack of ours.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use tidewire::Stack;
use tidewire_examples::kernel::configure;
use tidewire_netdev::linux::{Tun, TunConfig, unshare_network};
use tokio::time::timeout;

/// The program, which cargo builds with the package's tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a program");
    let target = test.parent().and_then(|deps| deps.parent());
    target
        .expect("a folder of cargo's")
        .join("examples/traceroute")
}

/// A stack behind the kernel, which listens on port 80.
async fn behind_the_kernel() -> Stack {
    for name in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        fs::write(format!("/proc/sys/net/{name}"), "1").expect("root may");
    }
    let tun = Tun::open(TunConfig::default()).expect("a TUN");
    let kernel = ["10.8.0.1/24", "fd08::1/64"].map(|cidr| cidr.parse().expect("an address"));
    let up = configure(tun.name(), &kernel, None, true).await;
    up.expect("the kernel's side");
    let stack = Stack::builder()
        .device(tun.into_device().expect("a device"))
        .address("10.8.0.2/24")
        .address("fd08::2/64")
        .gateway("10.8.0.1")
        .gateway("fd08::1");
    stack.build().expect("a stack")
}

/// Runs the program to its end, while the stack behind the kernel goes on.
async fn traceroute(arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command
        .args([
            "--tun",
            "near",
            "--gateway",
            "10.7.0.1",
            "--gateway",
            "fd07::1",
        ])
        .args(["--address", "10.7.0.2/24", "--address", "fd07::2/64"])
        .args(["--kernel-address", "10.7.0.1/24"])
        .args(["--kernel-address", "fd07::1/64", "--json"])
        .args(arguments);
    // From this thread, which has the namespace: the runtime has no other.
    let child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn();
    let child = child.unwrap_or_else(|error| panic!("{:?}: {error}", program()));
    let ended = tokio::task::spawn_blocking(|| child.wait_with_output());
    let ended = timeout(Duration::from_secs(20), ended).await;
    ended.expect("in time").expect("no panic").expect("a child")
}

async fn trace() {
    let far = behind_the_kernel().await;
    let listener = far.tcp_listener("[::]:80").await.expect("free");
    for (router, host) in [("10.7.0.1", "10.8.0.2"), ("fd07::1", "fd08::2")] {
        for method in [
            &["--method", "udp"][..],
            &["-I"],
            &["-T"],
            &["-T", "-p", "81"],
        ] {
            let common = ["-q", "2", "-w", "5", host];
            let arguments: Vec<&str> = common.iter().chain(method).copied().collect();
            let output = traceroute(&arguments).await;
            let said = String::from_utf8(output.stdout).expect("text");
            let heard = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{arguments:?}: {said}{heard}");
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
    }
    drop(listener);
    // The limit of hops ends it, and the exit code says so.
    let output = traceroute(&["-m", "1", "-q", "1", "10.8.0.2"]).await;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).expect("text");
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.contains(r#""reached":false"#), "{said}");
}

fn over_the_program() -> Result<(), String> {
    unshare_network().map_err(|error| format!("no network namespace without root: {error}"))?;
    if let Err(error) = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
    {
        return Err(format!("no TUN: {error}"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(trace());
    Ok(())
}

#[test]
fn the_router_and_the_host_behind_it_are_named_whatever_is_sent() {
    support::run_or_skip(over_the_program);
}
