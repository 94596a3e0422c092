//! usrsctp as a peer: a process that speaks SCTP over raw sockets of its namespace.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::requirements::{find_program, missing_program};

/// The folder of the peers' sources.
pub(super) const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");

/// Why there is none here; `None` when there is.
pub fn missing_usrsctp() -> Option<String> {
    program().as_ref().err().cloned()
}

/// The program, or why there is none. Compiled once in each process, since compiling takes less than a test.
pub(super) fn program() -> &'static Result<PathBuf, String> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(reason) = missing_program("cc") {
            return Err(reason);
        }
        let built = built_things()?.join(format!("usrsctp_peer-{}", std::process::id()));
        compile(&built)?;
        Ok(built)
    })
}

/// A folder next to the test binaries, for what tests build.
pub(super) fn built_things() -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = program.with_file_name("peers");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    Ok(folder)
}

fn compile(to: &Path) -> Result<(), String> {
    let mut compiler = Command::new(find_program("cc").expect("looked for above"));
    compiler
        .arg("-O2")
        .arg("-o")
        .arg(to)
        .arg(format!("{SOURCES}/usrsctp_peer.c"))
        .args(["-lusrsctp", "-lpthread"]);
    let output = compiler.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("needs libusrsctp-dev: {said}"))
}
