//! What is done on a link, whatever its device, its MTU and its offloads: each is one case of a matrix.
//!
//! Everything here panics when what the kernel and the stack tell each other is not what they should.

use std::io::{self, ErrorKind};
use std::time::Duration;

use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Family, Link, Role, kernel_connect, kernel_listen};
use crate::bodies::body;
use crate::exchange::{digest, exchange, receive, send};

/// Sends `size` octets to the kernel and two thirds as many back at the same time, each ended by a half-close: one
/// direction goes on when the other has ended. How many octets that were.
///
/// # Errors
/// Those of the connection.
pub async fn bulk(link: &Link, family: Family, role: Role, size: usize) -> io::Result<usize> {
    let (mut ours, mut kernel) = link.connected(role, family).await;
    let (up, down) = (body(1, size), body(2, size - size / 3));
    exchange(&mut ours, &mut kernel, &up, &down).await?;
    Ok(up.len() + down.len())
}

/// Requests and responses of a few octets, one after the other; then many small writes in both directions at once.
///
/// # Errors
/// Those of the connection.
pub async fn small_messages(link: &Link, family: Family, role: Role) -> io::Result<()> {
    const ROUNDS: usize = 300;
    let (mut ours, mut kernel) = link.connected(role, family).await;
    ours.set_nodelay(true)?;
    kernel.set_nodelay(true)?;
    let bytes = body(5, ROUNDS + 64);
    let mut buffer = [0; 64];
    for round in 0..ROUNDS {
        let message = &bytes[round..round + 1 + round % 64];
        let buffer = &mut buffer[..message.len()];
        ours.write_all(message).await?;
        kernel.read_exact(buffer).await?;
        assert!(buffer == message, "request {round}");
        kernel.write_all(message).await?;
        ours.read_exact(buffer).await?;
        assert!(buffer == message, "response {round}");
    }
    let (mut our_read, mut our_write) = tokio::io::split(ours);
    let (mut kernel_read, mut kernel_write) = tokio::io::split(kernel);
    let (got, heard, (), ()) = tokio::try_join!(
        receive(&mut kernel_read),
        receive(&mut our_read),
        write_bit_by_bit(&mut our_write, &bytes),
        write_bit_by_bit(&mut kernel_write, &bytes),
    )?;
    assert_eq!((got, heard), (digest(&bytes), digest(&bytes)));
    Ok(())
}

/// Writes a few octets at a time, then ends.
async fn write_bit_by_bit<W: AsyncWrite + Unpin>(to: &mut W, bytes: &[u8]) -> io::Result<()> {
    for part in bytes.chunks(7) {
        to.write_all(part).await?;
    }
    to.shutdown().await
}

/// RFC 9293 3.6, case 2: the kernel asks and half-closes; we answer thereafter (MUST-13).
///
/// # Errors
/// Those of the connection.
pub async fn kernel_half_closes(link: &Link, family: Family, role: Role) -> io::Result<()> {
    let (mut ours, mut kernel) = link.connected(role, family).await;
    let answer = body(3, ANSWER);
    let ask = async {
        send(&mut kernel, b"request").await?;
        receive(&mut kernel).await
    };
    let reply = async {
        let mut request = String::new();
        ours.read_to_string(&mut request).await?;
        assert_eq!(ours.read(&mut [0]).await?, 0, "the end stays the end");
        ours.write_all(&answer).await?;
        drop(ours);
        io::Result::Ok(request)
    };
    let (got, request) = tokio::try_join!(ask, reply)?;
    assert_eq!(request, "request");
    assert_eq!(got, digest(&answer));
    Ok(())
}

/// RFC 9293 3.6, case 1: our close comes first, and we go on receiving in FIN-WAIT-2.
///
/// # Errors
/// Those of the connection.
pub async fn stack_half_closes(link: &Link, family: Family, role: Role) -> io::Result<()> {
    let (mut ours, mut kernel) = link.connected(role, family).await;
    let answer = body(4, ANSWER);
    let ask = async {
        send(&mut ours, b"request").await?;
        assert_eq!(kind(ours.write(b"more").await), ErrorKind::BrokenPipe);
        ours.shutdown().await?;
        receive(&mut ours).await
    };
    let reply = async {
        let mut request = String::new();
        kernel.read_to_string(&mut request).await?;
        kernel.write_all(&answer).await?;
        drop(kernel);
        io::Result::Ok(request)
    };
    let (got, request) = tokio::try_join!(ask, reply)?;
    assert_eq!(request, "request");
    assert_eq!(got, digest(&answer));
    Ok(())
}

/// The kernel resets the connection: what we received before can be read, then the error comes once, then the end (as
/// Linux).
///
/// # Errors
/// Those of the connection before that.
pub async fn kernel_resets(link: &Link, family: Family, role: Role) -> io::Result<()> {
    let (mut ours, mut kernel) = link.connected(role, family).await;
    kernel.write_all(b"last words").await?;
    ours.peek(&mut [0]).await?;
    kernel.set_zero_linger()?;
    drop(kernel);
    let mut text = [0; 10];
    ours.read_exact(&mut text).await?;
    assert_eq!(&text, b"last words");
    assert_eq!(kind(ours.read(&mut text).await), ErrorKind::ConnectionReset);
    assert_eq!(ours.read(&mut text).await?, 0, "told already");
    assert_eq!(kind(ours.write(b"x").await), ErrorKind::BrokenPipe);
    Ok(())
}

/// We reset the connection, and the kernel understands.
///
/// # Errors
/// Those of the connection before that.
pub async fn stack_resets(link: &Link, family: Family, role: Role) -> io::Result<()> {
    let (ours, mut kernel) = link.connected(role, family).await;
    ours.set_zero_linger()?;
    drop(ours);
    let read = kernel.read(&mut [0; 8]).await;
    assert_eq!(kind(read), ErrorKind::ConnectionReset);
    assert_eq!(kind(kernel.write(b"x").await), ErrorKind::BrokenPipe);
    Ok(())
}

/// Opens `count` connections, keeps them all, then sends different bodies there and back on all of them at the same
/// time.
///
/// # Errors
/// Those of the connections.
pub async fn at_once(link: &Link, family: Family, role: Role, count: usize) -> io::Result<()> {
    match role {
        Role::StackListens => {
            let listener = link
                .stack
                .tcp_listener((link.stack_address(family), 0))
                .await?;
            let address = listener.local_addr()?;
            let accept = || async { Ok(listener.accept().await?.0) };
            all_at_once(count, || kernel_connect(address), accept).await
        }
        Role::KernelListens => {
            let listener = kernel_listen((link.kernel_address(family), 0).into());
            let address = listener.local_addr()?;
            let accept = || async { Ok(listener.accept().await?.0) };
            all_at_once(count, || link.stack.tcp_stream(address), accept).await
        }
    }
}

async fn all_at_once<C, S>(
    count: usize,
    connect: impl AsyncFn() -> io::Result<C>,
    accept: impl AsyncFn() -> io::Result<S>,
) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Connections being opened at a time.
    const OPENING: usize = 200;
    let connect = stream::iter((0..count).map(|_| connect()));
    let connect = connect.buffer_unordered(OPENING).try_collect::<Vec<_>>();
    let accept = async {
        let mut accepted = Vec::new();
        for _ in 0..count {
            accepted.push(accept().await?);
        }
        Ok(accepted)
    };
    let (clients, servers) = tokio::try_join!(connect, accept)?;
    let asks = clients
        .into_iter()
        .enumerate()
        .map(|(index, stream)| ask(stream, index));
    tokio::try_join!(
        try_join_all(asks),
        try_join_all(servers.into_iter().map(echo))
    )?;
    Ok(())
}

/// Answers with what it is sent, until the end.
///
/// # Errors
/// Those of the connection.
pub async fn echo<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> io::Result<()> {
    let (mut read, mut write) = tokio::io::split(stream);
    tokio::io::copy(&mut read, &mut write).await?;
    write.shutdown().await
}

/// Sends a body that depends on `index` to an [`echo`], and reads it back.
///
/// # Errors
/// Those of the connection.
pub async fn ask<S: AsyncRead + AsyncWrite + Unpin>(stream: S, index: usize) -> io::Result<()> {
    let request = body(index as u64, 1 + index * 37 % 20_000);
    let (mut read, mut write) = tokio::io::split(stream);
    let (got, ()) = tokio::try_join!(receive(&mut read), send(&mut write, &request))?;
    assert_eq!(got, digest(&request), "connection {index}");
    Ok(())
}

/// Sends datagrams of many sizes to and fro: empty, small, the largest that need no fragmenting at an MTU of 1500 and
/// their neighbours, the largest of all; with [`Role::StackListens`] the kernel sends first.
///
/// # Errors
/// Those of the sockets.
pub async fn datagrams(link: &Link, family: Family, role: Role) -> io::Result<()> {
    /// For each; on a link of one hop nothing may be lost.
    const LIMIT: Duration = Duration::from_secs(5);
    let ours = link
        .stack
        .udp_socket((link.stack_address(family), 0))
        .await?;
    let kernel = tokio::net::UdpSocket::bind((link.kernel_address(family), 0)).await?;
    let (our_address, kernel_address) = (ours.local_addr()?, kernel.local_addr()?);
    let mut buffer = vec![0; 65_536];
    let sizes = match family {
        Family::V4 => [0, 1, 100, 1471, 1472, 1473, 2952, 8000, 65_507],
        Family::V6 => [0, 1, 100, 1451, 1452, 1453, 2896, 8000, 65_000],
    };
    for size in sizes {
        let payload = body(size as u64, size);
        for to_us in [role == Role::StackListens, role != Role::StackListens] {
            let (sent, source, what) = if to_us {
                let sent = kernel.send_to(&payload, our_address).await;
                (sent, kernel_address, format!("{size} octets to us"))
            } else {
                let sent = ours.send_to(&payload, kernel_address).await;
                (sent, our_address, format!("{size} octets to the kernel"))
            };
            assert_eq!(sent.unwrap_or_else(|error| panic!("{what}: {error}")), size);
            let received = async {
                if to_us {
                    ours.recv_from(&mut buffer).await
                } else {
                    kernel.recv_from(&mut buffer).await
                }
            };
            let received = link.within(LIMIT, &what, received).await?;
            assert_eq!(received, (size, source), "{what}");
            assert!(buffer[..size] == payload, "{what} arrive unharmed");
        }
    }
    Ok(())
}

/// What `narrowest` octets on the way do to connections over links of more: the first finds out, the next knows.
///
/// # Errors
/// Those of the connections.
pub async fn narrow_path(
    link: &Link,
    family: Family,
    role: Role,
    narrowest: usize,
) -> io::Result<()> {
    const SIZE: usize = 2 << 20;
    let headers = match family {
        Family::V4 => 40,
        Family::V6 => 60,
    };
    let (up, down) = (body(6, SIZE), body(7, SIZE));
    for connection in 0..2 {
        let (mut ours, mut kernel) = link.connected(role, family).await;
        let at_first = ours.info().mss;
        exchange(&mut ours, &mut kernel, &up, &down).await?;
        let info = ours.info();
        assert!(info.mss <= narrowest - headers, "{info:?}");
        if connection == 0 {
            assert!(at_first > info.mss, "narrow from the start: {at_first}");
        } else {
            assert!(
                at_first <= narrowest - headers,
                "known from the start: {at_first}"
            );
            // A probe of the tail follows any pause of the peer's (RFC 8985 7.2); nothing was lost.
            assert!(info.retransmits <= info.tail_loss_probes, "{info:?}");
        }
    }
    Ok(())
}

/// What of an error matters; an [`Ok`] is none.
fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> ErrorKind {
    result.expect_err("an error").kind()
}

/// The octets of an answer to a half-closed connection: many segments.
const ANSWER: usize = 1 << 20;
