//! Linux's SCTP as a peer: an emulated machine with a kernel that has it.
//!
//! ```text
//!  in the machine                         in the namespace
//!  ksctp_peer ── kernel 10.7.0.1, fd07::1 ── TAP "machine"
//! ```

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use super::usrsctp::{SOURCES, built_things};
use crate::kernel::Family;

/// Why there is none here; `None` when there is.
pub fn missing_machine() -> Option<String> {
    folder().as_ref().err().cloned()
}

/// Where the machine's kernel and first file system are, or why they are not.
fn folder() -> &'static Result<PathBuf, String> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = built_things()?.join("machine");
        let text = |output: &[u8]| String::from_utf8_lossy(output).into_owned();
        let checked = control(&folder, &["check"]);
        let checked = checked.map_err(|error| format!("needs bash: {error}"))?;
        if !checked.status.success() {
            return Err(format!("needs this first: {}", text(&checked.stdout)));
        }
        let built = control(&folder, &["build"]).map_err(|error| error.to_string())?;
        if !built.status.success() {
            return Err(format!("no machine: {}", text(&built.stderr)));
        }
        Ok(folder)
    })
}

fn control(folder: &Path, arguments: &[&str]) -> std::io::Result<Output> {
    controlled(folder).args(arguments).output()
}

/// The program that controls machines, for the one of this process.
fn controlled(folder: &Path) -> Command {
    let mut command = Command::new(format!("{SOURCES}/sctp-peer-vm"));
    let name = format!("test-{}", std::process::id());
    command.arg("--dir").arg(folder).args(["--name", &name]);
    command
}

/// A running machine, which is stopped when this is dropped.
#[derive(Debug)]
pub(super) struct Machine {
    folder: &'static Path,
}

impl Machine {
    /// The interface in the namespace, whose wire is the machine.
    pub(super) const INTERFACE: &'static str = "machine";

    /// Starts it, with the addresses that a kernel has in these tests. Returns when it takes commands.
    ///
    /// # Panics
    /// When it does not start.
    pub(super) fn start() -> Self {
        let folder = folder().as_ref().expect("asked for before");
        let machine = Self { folder };
        let addresses = Family::ALL
            .map(|family| format!("{}/{}", family.kernel(), family.prefix()))
            .join("+");
        let arguments = [
            "start",
            "--make-tap",
            "--tap",
            Self::INTERFACE,
            "--addr",
            &addresses,
        ];
        machine.control(&arguments);
        // Buffers for the largest messages, as usrsctp's.
        machine.shell("sysctl -qw net.core.wmem_max=8388608 net.core.rmem_max=8388608");
        machine
    }

    /// Runs a line of shell commands in it.
    ///
    /// # Panics
    /// When it fails.
    pub(super) fn shell(&self, line: &str) {
        self.control(&["exec", "-t", "10", line]);
    }

    /// A command that runs a line of shell commands in it.
    pub(super) fn command(&self, line: &str) -> Command {
        let mut command = controlled(self.folder);
        command.args(["exec", line]);
        command
    }

    fn control(&self, arguments: &[&str]) {
        let output = control(self.folder, arguments).expect("bash, which has been there");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // What does not stop has never started.
        let _ = control(self.folder, &["stop"]);
    }
}
