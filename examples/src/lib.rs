//! What every Tidewire program shares: flags, opening the device, JSON output.

pub mod device;
pub mod flags;
pub mod json;
#[cfg(target_os = "linux")]
pub mod kernel;
pub mod logging;

pub use flags::StackFlags;
pub use json::Output;

/// A program's errors are for people to read.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// What a program comes to.
pub type Result<T = ()> = std::result::Result<T, Error>;
