//! tokio, with tidewire's sockets in the place of its own.

pub use tokio::*;

/// What a program that swaps the import sees.
pub mod net {
    pub use tidewire::net::*;
}
