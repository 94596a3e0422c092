//! Namespaces without root: a test runs again in a process of its own, which is root of a user namespace.
//!
//! A process makes a user namespace only while it has one thread, and the test harness has started some by the time a
//! test runs. So the test's program is run anew for exactly this test by `unshare` (util-linux), which makes the
//! namespace before the program starts.

use std::env;
use std::fmt::Write;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::requirements::{Need, missing_namespaces, missing_program, skip};

/// Set in the environment of a test that runs in a user namespace.
const GUARD: &str = "TIDEWIRE_USER_NAMESPACE";
/// What comes before the test's name on the standard output of one that does.
const HAS_BEGUN: &str = "in a user namespace: ";
/// What makes the caller root of a new user namespace, in a new network namespace.
const UNSHARE: [&str; 4] = ["--user", "--map-root-user", "--net", "--"];

/// Runs the body of the test `test` where it may make network namespaces: here as root, otherwise in another process
/// that has a user namespace of its own. Says so and returns where neither can be, or where another of its `needs` is
/// missing.
///
/// `test` is the test's path as the test harness has it (`module::name`). The whole body of the test must be in `body`:
/// in the other process the test begins anew, and what it does elsewhere is done twice.
///
/// # Panics
/// When `body` does, in whichever process; under `TIDEWIRE_REQUIRE_ALL=1` instead of skipping.
pub fn isolated(test: &str, needs: &[Need], body: impl FnOnce()) {
    let has_begun = env::var_os(GUARD).is_some();
    if has_begun {
        println!("{HAS_BEGUN}{test}");
    }
    if let Some(reason) = needs.iter().find_map(|need| need.missing()) {
        return skip(test, &reason);
    }
    let Some(no_root) = missing_namespaces() else {
        return body();
    };
    if has_begun {
        return skip(test, &no_root);
    }
    match missing_user_namespaces() {
        Some(reason) => skip(test, &format!("{no_root}, or user namespaces: {reason}")),
        None => run_again(test),
    }
}

/// Why the machine lets this process have no user namespace; `None` when it does.
fn missing_user_namespaces() -> Option<String> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    let missing = || {
        if let Some(reason) = missing_program("unshare") {
            return Some(reason);
        }
        let probe = Command::new("unshare").args(UNSHARE).arg("true").output();
        match probe {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Some(error.to_string()),
        }
    };
    MISSING.get_or_init(missing).clone()
}

/// Runs the calling program for `test` alone in a user namespace.
fn run_again(test: &str) {
    let program = env::current_exe().expect("a program knows its file");
    // `unshare` becomes the program, so that what ends the one ends the other. Its standard error is ours: progress
    // shows as it happens.
    let output = Command::new("unshare")
        .args(UNSHARE)
        .arg(program)
        .args(["--exact", test, "--include-ignored", "--nocapture"])
        .env(GUARD, "1")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    let output = output.expect("unshare has just been run");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut indented = String::new();
    for line in text.lines() {
        let _ = writeln!(indented, "    {line}");
    }
    println!("{indented}");
    assert!(
        output.status.success(),
        "{test} failed in a user namespace: {}",
        output.status
    );
    // The test harness is content when no test has the name.
    assert!(
        text.contains(&format!("{HAS_BEGUN}{test}")),
        "{test} is not the name of the test that asked for it"
    );
}
