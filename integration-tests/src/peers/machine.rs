//! Linux's SCTP as a peer: an emulated machine with a kernel that has it.
//!
//! ```text
//!  in the machine                                 in the namespace
//!  ksctp_peer ── kernel ┬── eth0 10.7.0.1, fd07::1 ── TAP "machine0"
//!                       └── eth1 10.8.0.1, fd08::1 ── TAP "machine1"
//! ```

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::usrsctp::{SOURCES, built_things};
use crate::kernel::{Family, LinkConfig};

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
        let checked = control(&folder).arg("check").output();
        let checked = checked.map_err(|error| format!("needs bash: {error}"))?;
        if !checked.status.success() {
            return Err(format!("needs this first: {}", text(&checked.stdout)));
        }
        let built = control(&folder)
            .arg("build")
            .output()
            .map_err(|error| error.to_string())?;
        if !built.status.success() {
            return Err(format!("no machine: {}", text(&built.stderr)));
        }
        Ok(folder)
    })
}

/// The program that controls machines.
fn control(folder: &Path) -> Command {
    let mut command = Command::new(format!("{SOURCES}/sctp-peer-vm"));
    command.arg("--dir").arg(folder);
    command
}

/// A running machine, which is stopped when this is dropped.
#[derive(Debug)]
pub(super) struct Machine {
    folder: &'static Path,
    /// No other machine's.
    name: String,
}

impl Machine {
    /// Starts it on networks, with the addresses that a kernel has there in these tests. Returns when it takes commands.
    ///
    /// # Panics
    /// When it does not start.
    pub(super) fn start(networks: &[LinkConfig]) -> Self {
        let folder = folder().as_ref().expect("asked for before");
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-{}-{number}", std::process::id());
        let machine = Self { folder, name };
        let indices = 0..networks.len();
        let interfaces: Vec<_> = indices.map(Self::interface).collect();
        let addresses: Vec<_> = networks
            .iter()
            .map(|network| Family::ALL.map(|family| Self::address(network, family)))
            .map(|both| both.join("+"))
            .collect();
        let arguments = [
            "start",
            "--make-tap",
            "--tap",
            &interfaces.join(","),
            "--addr",
            &addresses.join(","),
        ];
        machine.order(&arguments);
        // Buffers for the largest messages, as usrsctp's.
        machine.shell("sysctl -qw net.core.wmem_max=8388608 net.core.rmem_max=8388608");
        machine
    }

    /// The interface in the namespace whose wire leads to a network of the machine's.
    pub(super) fn interface(network: usize) -> String {
        format!("machine{network}")
    }

    fn address(network: &LinkConfig, family: Family) -> String {
        let address = family.kernel_in(network.subnet);
        format!("{address}/{}", family.prefix())
    }

    /// Sets its interface of a network down.
    ///
    /// # Panics
    /// When it refuses.
    pub(super) fn set_down(&self, index: usize) {
        self.shell(&format!("ip link set eth{index} down"));
    }

    /// Sets its interface of a network up again, with the IPv6 address that it lost.
    ///
    /// # Panics
    /// When it refuses.
    pub(super) fn set_up(&self, index: usize, network: &LinkConfig) {
        let lost = Self::address(network, Family::V6);
        self.shell(&format!(
            "ip link set eth{index} up && ip addr add {lost} dev eth{index} nodad"
        ));
    }

    /// Runs a line of shell commands in it.
    ///
    /// # Panics
    /// When it fails.
    pub(super) fn shell(&self, line: &str) {
        self.order(&["exec", "-t", "10", line]);
    }

    /// A command that runs a line of shell commands in it.
    pub(super) fn command(&self, line: &str) -> Command {
        let mut command = self.control();
        command.args(["exec", line]);
        command
    }

    /// The program that controls this one.
    fn control(&self) -> Command {
        let mut command = control(self.folder);
        command.args(["--name", &self.name]);
        command
    }

    fn order(&self, arguments: &[&str]) {
        let output = self.control().args(arguments).output();
        let output = output.expect("bash, which has been there");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // What does not stop has never started.
        let _ = self.control().arg("stop").output();
    }
}
