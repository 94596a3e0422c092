//! Runs tokio's own socket tests on tidewire (`tokio-tests/`, a workspace of its own).

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tidewire_integration_tests::requirements;

/// The tests of tokio 1.54.1 in its eleven socket test files.
const SOCKET_TESTS: usize = 84;

#[test]
fn tokios_own_socket_tests_pass_with_nothing_changed_but_the_import() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tokio-tests/Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let fetched = Command::new(&cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--offline",
            "--filter-platform",
            &host(&cargo),
            "--manifest-path",
        ])
        .arg(&manifest)
        .output()
        .expect("cargo can be run");
    if !fetched.status.success() {
        let reason = String::from_utf8_lossy(&fetched.stderr);
        let reason = format!("tokio's source is not in cargo's registry: {reason}");
        requirements::skip("tokio's own socket tests", &reason);
        return;
    }
    let output = Command::new(&cargo)
        .args(["test", "--offline", "--test", "tokio", "--manifest-path"])
        .arg(&manifest)
        .arg("--target-dir")
        .arg(target_dir())
        .output()
        .expect("cargo can be run");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "tokio's tests failed:\n{stdout}\n{stderr}"
    );
    let passed = stdout
        .lines()
        .filter(|line| line.starts_with("test ") && line.ends_with("... ok"))
        .filter(|line| !line.contains("unwindsafe::") && !line.contains("async_send_sync::"))
        .count();
    assert_eq!(passed, SOCKET_TESTS, "{stdout}");
}

/// The platform cargo builds for: what others need may never have been downloaded.
fn host(cargo: &OsStr) -> String {
    let output = Command::new(cargo)
        .arg("-vV")
        .output()
        .expect("cargo can be run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("cargo names its host").to_owned()
}

/// Beside what this test was built into, so that the two builds do not wait for each other's lock.
fn target_dir() -> PathBuf {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let target = scratch
        .parent()
        .expect("cargo's scratch directory lies in the target directory");
    target.join("tokio-tests")
}
