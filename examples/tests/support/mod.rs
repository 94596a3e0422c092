//! What the tests share.

use std::io::{self, Write};
use std::thread;

/// Runs a test on a thread of its own, whose network namespace it may change. What it returns is why the machine cannot run
/// it, which is printed, or a failure where everything has to run.
pub(super) fn run_or_skip(test: impl FnOnce() -> Result<(), String> + Send + 'static) {
    let result = thread::spawn(test).join();
    if let Err(reason) = result.expect("no panic") {
        let required = std::env::var("TIDEWIRE_REQUIRE_ALL").is_ok_and(|value| value == "1");
        assert!(
            !required,
            "cannot run, and TIDEWIRE_REQUIRE_ALL=1: {reason}"
        );
        // Not `eprintln!`, which a passing test keeps to itself.
        let _ = writeln!(io::stderr(), "skipped: {reason}");
    }
}
