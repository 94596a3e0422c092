//! Many connections with the kernel: a thousand at once, thousands one after the other.

#![cfg(target_os = "linux")]

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use tidewire::tcp::info::State;
use tidewire_integration_tests::kernel::scenarios::{ask, at_once, echo};
use tidewire_integration_tests::kernel::{
    Family, Link, LinkConfig, Role, kernel_connect, kernel_listen, kernel_socket, on_each_family,
};
use tidewire_integration_tests::namespace::{announce, set_sysctl};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const LIMIT: Duration = Duration::from_secs(40);

#[test]
fn a_thousand_connections_at_once() {
    let config = LinkConfig::default();
    on_each_family(
        "a_thousand_connections_at_once",
        LIMIT,
        &config,
        async |link, family| {
            for role in Role::ALL {
                let started = Instant::now();
                let done = at_once(link, family, role, 1000).await;
                done.unwrap_or_else(|error| panic!("{role:?}: {error}\n{}", link.report()));
                announce(&format!(
                    "1,000 at once, {family:?} {role:?}: {:?}",
                    started.elapsed()
                ));
            }
            // A few RSTs may answer our ACKs of FINs that came twice, once the kernel's end is gone. No end saw one.
            assert_eq!(link.counted("TcpEstabResets"), 0, "{}", link.report());
        },
    );
}

/// A request and a response of a few octets; who closes first alternates.
async fn short<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, index: usize) -> io::Result<()> {
    stream.write_all(&(index as u32).to_be_bytes()).await?;
    if index.is_multiple_of(2) {
        stream.shutdown().await?;
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    assert_eq!(answer, (index as u32).to_be_bytes());
    Ok(())
}

async fn answer_short<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    let index = stream.read_u32().await?;
    stream.write_all(&index.to_be_bytes()).await?;
    stream.shutdown().await?;
    // The client may not have closed yet; what is dropped now must not reset the connection.
    drop(stream);
    Ok(())
}

fn unfinished(link: &Link) -> usize {
    let sockets = link.stack.sockets();
    let unfinished = sockets
        .iter()
        .filter(|socket| socket.state != Some(State::TimeWait));
    unfinished.count()
}

#[test]
fn thousands_of_short_connections() {
    const COUNT: usize = 3000;
    const PARALLEL: usize = 32;
    let config = LinkConfig::default();
    on_each_family(
        "thousands_of_short_connections",
        LIMIT,
        &config,
        async |link, family| {
            let started = Instant::now();
            let listener = link
                .stack
                .tcp_listener((family.stack(), 80))
                .await
                .expect("bound");
            let address = listener.local_addr().expect("bound");
            let clients = stream::iter(0..COUNT)
                .map(async |index| short(kernel_connect(address).await?, index).await);
            let clients = clients.buffer_unordered(PARALLEL).try_collect::<Vec<_>>();
            let servers = async {
                for _ in 0..COUNT {
                    let (stream, _) = listener.accept().await?;
                    tokio::spawn(answer_short(stream));
                }
                Ok(())
            };
            let done = tokio::try_join!(clients, servers);
            done.unwrap_or_else(|error| panic!("the kernel's clients: {error}\n{}", link.report()));
            drop(listener);
            let rate = COUNT as f64 / started.elapsed().as_secs_f64();
            announce(&format!(
                "{family:?}, the kernel's clients: {rate:.0} connections/s"
            ));

            let started = Instant::now();
            let listener = kernel_listen(SocketAddr::new(family.kernel(), 80));
            let address = listener.local_addr().expect("bound");
            let clients = stream::iter(0..COUNT)
                .map(async |index| short(link.stack.tcp_stream(address).await?, index).await);
            let clients = clients.buffer_unordered(PARALLEL).try_collect::<Vec<_>>();
            let servers = async {
                for _ in 0..COUNT {
                    let (stream, _) = listener.accept().await?;
                    tokio::spawn(answer_short(stream));
                }
                Ok(())
            };
            let done = tokio::try_join!(clients, servers);
            done.unwrap_or_else(|error| panic!("our clients: {error}\n{}", link.report()));
            let rate = COUNT as f64 / started.elapsed().as_secs_f64();
            announce(&format!(
                "{family:?}, our clients: {rate:.0} connections/s; the kernel retransmitted {} segments, {} by timeout",
                link.counted("TcpRetransSegs"),
                link.counted("TcpExtTCPTimeouts"),
            ));
            drop(listener);
            assert_eq!(link.counted("TcpEstabResets"), 0, "{}", link.report());
            // Nothing stays but TIME-WAIT.
            for _ in 0..200 {
                if unfinished(link) == 0 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(unfinished(link), 0, "{}", link.report());
        },
    );
}

// A full accept queue refuses nobody: SYNs, or final ACKs, are dropped and come again (as Linux).
#[test]
fn full_backlogs_only_delay() {
    const CLIENTS: usize = 8;
    let config = LinkConfig::default();
    on_each_family(
        "full_backlogs_only_delay",
        LIMIT,
        &config,
        async |link, family| {
            // Cookies of so small a queue fail when more of them come back than were sent of late, with a RST.
            set_sysctl("ipv4/tcp_syncookies", "0");
            let socket = match family {
                Family::V4 => link.stack.tcp_socket_v4(),
                Family::V6 => link.stack.tcp_socket_v6(),
            };
            let socket = socket.expect("a socket");
            socket
                .bind(SocketAddr::new(family.stack(), 80))
                .expect("a free port");
            let listener = socket.listen(2).expect("bound");
            let address = listener.local_addr().expect("bound");
            let clients = try_join_all(
                (0..CLIENTS).map(async |index| ask(kernel_connect(address).await?, index).await),
            );
            let servers = async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let mut served = Vec::new();
                for _ in 0..CLIENTS {
                    served.push(tokio::spawn(echo(listener.accept().await?.0)));
                }
                try_join_all(served).await.map_err(io::Error::other)
            };
            let both = async { tokio::try_join!(clients, servers) };
            let both = link.within(LIMIT / 3, "the kernel's clients", both).await;
            both.expect("none is refused");

            let socket = kernel_socket(family);
            socket
                .bind(SocketAddr::new(family.kernel(), 80))
                .expect("a free port");
            let listener = socket.listen(1).expect("bound");
            let address = listener.local_addr().expect("bound");
            let clients = try_join_all(
                (0..CLIENTS)
                    .map(async |index| ask(link.stack.tcp_stream(address).await?, index).await),
            );
            let servers = async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let mut served = Vec::new();
                for _ in 0..CLIENTS {
                    served.push(tokio::spawn(echo(listener.accept().await?.0)));
                }
                try_join_all(served).await.map_err(io::Error::other)
            };
            let both = async { tokio::try_join!(clients, servers) };
            let both = link.within(LIMIT / 3, "our clients", both).await;
            both.expect("none is refused");
            assert!(link.counted("TcpExtListenDrops") > 0, "{}", link.report());
        },
    );
}
