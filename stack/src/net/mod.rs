//! Sockets shaped like `tokio::net`.
