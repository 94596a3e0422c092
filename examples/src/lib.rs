//! What every Tidewire program shares: flags, opening the device, the stack around a program, JSON output.
//!
//! A program is a [`clap::Parser`] with a [`StackFlags`] in it, and an async function handed to [`run`]:
//!
//! ```no_run
//! use clap::Parser;
//! use tidewire_examples::{Result, StackFlags, run};
//!
//! #[derive(Parser)]
//! struct Flags {
//!     #[command(flatten)]
//!     stack: StackFlags,
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     let flags = Flags::parse();
//!     run(&flags.stack, async |running| -> Result {
//!         let listener = tidewire::net::TcpListener::bind(running.listen_address(80)).await?;
//!         running.listening(80)?;
//!         loop {
//!             let (_stream, peer) = listener.accept().await?;
//!             eprintln!("{peer}");
//!         }
//!     })
//! }
//! ```

pub mod device;
pub mod flags;
pub mod json;
#[cfg(target_os = "linux")]
pub mod kernel;
pub mod logging;
pub mod perf;
pub mod program;
pub mod two_networks;

pub use flags::StackFlags;
pub use json::Output;
pub use program::{Running, run, run_without_device};

/// A program's errors are for people to read.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// What a program comes to.
pub type Result<T = ()> = std::result::Result<T, Error>;
