//! The server: five listeners, a task for each connection, and no buffer for those that idle.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::network::Network;
use super::traffic::{self, BLOCK};
use super::{DISCARD_PORT, ECHO_PORT, HOLD_PORT, RESPOND_PORT, SOURCE_PORT};

/// How long a listener rests when a connection cannot be accepted, for want of descriptors most often.
const REST: Duration = Duration::from_millis(10);

/// The server's five services, running until this is dropped. Connections end with their peers.
#[derive(Debug)]
pub struct Service {
    acceptors: JoinSet<io::Result<()>>,
    discarded: Arc<AtomicU64>,
}

impl Service {
    /// Listens on the five ports of an address and serves whoever comes. To be called on a runtime.
    ///
    /// # Errors
    /// What binding gives; the text names the address.
    pub fn start<N: Network>(network: &N, address: IpAddr) -> io::Result<Self> {
        let listen = |port| {
            let address = SocketAddr::new(address, port);
            network.listen(address).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
            })
        };
        let discarded = Arc::new(AtomicU64::new(0));
        let mut acceptors = JoinSet::new();
        let counter = discarded.clone();
        acceptors.spawn(accept::<N, _>(listen(DISCARD_PORT)?, move |stream| {
            tokio::spawn(discard::<N>(stream, counter.clone()));
        }));
        acceptors.spawn(accept::<N, _>(listen(SOURCE_PORT)?, |stream| {
            tokio::spawn(source::<N>(stream));
        }));
        acceptors.spawn(accept::<N, _>(listen(ECHO_PORT)?, |stream| {
            tokio::spawn(traffic::echo(stream));
        }));
        acceptors.spawn(accept::<N, _>(listen(RESPOND_PORT)?, |stream| {
            tokio::spawn(traffic::respond(stream));
        }));
        acceptors.spawn(accept::<N, _>(listen(HOLD_PORT)?, |stream| {
            tokio::spawn(traffic::hold(stream));
        }));
        Ok(Self {
            acceptors,
            discarded,
        })
    }

    /// Octets that the discarding service has received so far.
    pub fn discarded(&self) -> u64 {
        self.discarded.load(Ordering::Relaxed)
    }

    /// Serves until the network is gone.
    ///
    /// # Errors
    /// What accepting gives then.
    pub async fn run(mut self) -> io::Result<()> {
        match self.acceptors.join_next().await {
            Some(ended) => ended.unwrap_or_else(|panic| Err(io::Error::other(panic))),
            None => Ok(()),
        }
    }
}

/// Hands each connection to `serve`, which starts a task for it, until there is no network any more.
async fn accept<N, F>(listener: N::Listener, serve: F) -> io::Result<()>
where
    N: Network,
    F: Fn(N::Stream) + Send + 'static,
{
    loop {
        match N::accept(&listener).await {
            Ok(stream) => serve(stream),
            Err(error) if error.kind() == io::ErrorKind::NetworkDown => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "not accepted");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// Reads until the end; how a connection ends is the peer's business.
async fn discard<N: Network>(mut stream: N::Stream, received: Arc<AtomicU64>) {
    let mut uncounted = 0;
    while let Ok(n @ 1..) = N::receive(&mut stream, BLOCK).await {
        uncounted += n as u64;
        // Small messages are not to be measured by what it costs to count them.
        if uncounted >= BLOCK as u64 {
            received.fetch_add(std::mem::take(&mut uncounted), Ordering::Relaxed);
        }
    }
    received.fetch_add(uncounted, Ordering::Relaxed);
}

/// Writes until the peer has closed or reset the connection, which writing finds out.
async fn source<N: Network>(mut stream: N::Stream) {
    let payload = traffic::payload(BLOCK);
    let mut offset = 0;
    while let Ok(n) = N::send(&mut stream, &payload, offset).await {
        offset = (offset + n) % payload.len();
    }
}
