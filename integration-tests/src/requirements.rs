//! What a test needs of the machine, and what happens when it is not there.

use std::path::PathBuf;

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

/// Something that not every machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// `/dev/net/tun`, and the right to open it.
    Tun,
    /// A program ([`find_program`]).
    Program(&'static str),
}

impl Need {
    /// Why it is not there; `None` when it is.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Tun => missing_tun(),
            Self::Program(name) => missing_program(name),
        }
    }
}

/// Why tests that need root cannot run; `None` when they can.
pub fn missing_root() -> Option<String> {
    missing_tun().or_else(missing_namespaces)
}

fn missing_tun() -> Option<String> {
    const TUN: &str = "/dev/net/tun";
    // Opened alone, it makes no interface.
    let opened = std::fs::File::options().read(true).write(true).open(TUN);
    let error = opened.err()?;
    Some(format!("needs root and {TUN}: {error}"))
}

/// Why this process can make no network namespaces; `None` when it can.
#[cfg(target_os = "linux")]
pub fn missing_namespaces() -> Option<String> {
    use std::sync::OnceLock;
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    let missing = || {
        // A thread of its own, which takes the namespace with it.
        let made = std::thread::spawn(tidewire_netdev::linux::unshare_network).join();
        let error = made.expect("no panic").err()?;
        Some(format!("needs root to make network namespaces: {error}"))
    };
    MISSING.get_or_init(missing).clone()
}

/// Other systems have none.
#[cfg(not(target_os = "linux"))]
pub fn missing_namespaces() -> Option<String> {
    Some("needs Linux".to_owned())
}

/// Why a test that runs `program` cannot; `None` when it can.
pub fn missing_program(program: &str) -> Option<String> {
    find_program(program)
        .is_none()
        .then(|| format!("needs {program}"))
}

/// A program of this project, which cargo builds with the workspace's tests.
///
/// # Panics
/// When it has not been built.
pub fn example_program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a program knows its file");
    let target = test.parent().and_then(|deps| deps.parent());
    let program = target
        .expect("a folder of cargo's")
        .join("examples")
        .join(name);
    assert!(
        program.is_file(),
        "{} is missing: cargo build -p tidewire-examples --examples",
        program.display()
    );
    program
}

/// Where a program is: in a folder of `PATH`, or in one of root's, which others' `PATH` often lacks.
pub fn find_program(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let roots = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut places = std::env::split_paths(&path)
        .chain(roots)
        .map(|folder| folder.join(program));
    places.find(|place| place.is_file())
}
