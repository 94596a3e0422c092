//! Finds tokio's source by `cargo metadata` and writes a module for each of its test files.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The files whose tests concern sockets, and two that check auto traits at compile time.
const FILES: [&str; 13] = [
    "tcp_accept",
    "tcp_connect",
    "tcp_echo",
    "tcp_shutdown",
    "tcp_socket",
    "tcp_stream",
    "udp",
    "net_lookup_host",
    "net_quickack",
    "io_copy_bidirectional",
    "coop_budget",
    "async_send_sync",
    "unwindsafe",
];

/// As in `facade/Cargo.toml`.
const VERSION: &str = "1.54.1";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(tokio_unstable, miri, panic, tokio_wasm)");
    let tests = tokio_source().join("tests");
    let modules: String = FILES
        .iter()
        .map(|file| {
            let path = tests.join(file).with_extension("rs");
            assert!(path.is_file(), "{} is missing", path.display());
            format!("#[path = {path:?}]\nmod {file};\n")
        })
        .collect();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("modules.rs"), modules).expect("OUT_DIR can be written");
}

fn tokio_source() -> PathBuf {
    let cargo = env::var_os("CARGO").expect("cargo sets CARGO");
    // What other platforms need may never have been downloaded.
    let target = env::var("TARGET").expect("cargo sets TARGET");
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--offline",
            "--filter-platform",
            &target,
        ])
        .output()
        .expect("cargo can be run");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"]
        .as_array()
        .expect("cargo metadata lists packages");
    let manifest = packages
        .iter()
        .find(|package| package["name"] == "tokio" && package["version"] == VERSION)
        .and_then(|package| package["manifest_path"].as_str())
        .unwrap_or_else(|| panic!("tokio {VERSION} is among the packages"));
    Path::new(manifest)
        .parent()
        .expect("a manifest lies in a directory")
        .to_owned()
}
