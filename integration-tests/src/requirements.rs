//! What a test needs of the machine, and what happens when it is not there.

/// Whether `TIDEWIRE_REQUIRE_ALL=1` turns every skip into a failure.
pub fn require_all() -> bool {
    std::env::var("TIDEWIRE_REQUIRE_ALL").is_ok_and(|value| value == "1")
}

/// Says why a test does not run here.
///
/// # Panics
/// Under `TIDEWIRE_REQUIRE_ALL=1`, where every test must run.
pub fn skip(test: &str, reason: &str) {
    assert!(
        !require_all(),
        "{test} cannot run here, and TIDEWIRE_REQUIRE_ALL=1 wants it to: {reason}"
    );
    println!("skipped: {test}: {reason}");
}

/// Why tests that need root cannot run; `None` when they can.
pub fn missing_root() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|rest| rest.split_whitespace().nth(1));
    if uid != Some("0") {
        return Some("needs root (namespaces and /dev/net/tun)".to_owned());
    }
    if !std::path::Path::new("/dev/net/tun").exists() {
        return Some("needs /dev/net/tun".to_owned());
    }
    None
}

/// Why a test that runs `program` cannot; `None` when it can.
pub fn missing_program(program: &str) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    (!found).then(|| format!("needs {program}"))
}
