//! `axum::serve` on a [`TcpListener`].

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::{TcpListener, TcpStream};

impl axum::serve::Listener for TcpListener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    /// Waits for a connection; tries again when accepting fails, as the trait asks. An ended stack accepts nothing
    /// any more: the pause keeps the loop from spinning until the server is shut down.
    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match Self::accept(self).await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    tracing::error!(%error, "accept");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }
}

/// Pause after a failed accept, as axum's own listener makes it.
const RETRY: Duration = Duration::from_secs(1);
