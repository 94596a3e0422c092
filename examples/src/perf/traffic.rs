//! Reading, writing and echoing with buffers that belong to the thread, not to the connection.
//!
//! A task that waits holds no buffer: the thread's one is borrowed within a poll only, when there is something to read.
//! Ten thousand idle connections so cost their tasks alone.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Octets that an application reads or writes at a time unless told otherwise: what one super-packet carries, and
/// little enough for the octets to stay in the processor's second-level cache on their way.
pub const BLOCK: usize = 64 << 10;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends the thread's buffer of at least `size` octets. Not to be called from within itself.
fn with_buffer<R>(size: usize, use_buffer: impl FnOnce(&mut [u8]) -> R) -> R {
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.len() < size {
            buffer.resize(size, 0);
        }
        use_buffer(&mut buffer[..size])
    })
}

/// What the writing services and clients send.
pub fn payload(size: usize) -> Bytes {
    (0..size).map(|i| (i % 251) as u8).collect()
}

/// Receives up to `size` octets into the thread's buffer; gives their number, 0 at the end.
///
/// # Errors
/// What reading gives.
pub async fn receive<S>(stream: &mut S, size: usize) -> io::Result<usize>
where
    S: AsyncRead + Unpin,
{
    poll_fn(|cx| poll_receive(stream, cx, size)).await
}

fn poll_receive<S>(stream: &mut S, cx: &mut Context<'_>, size: usize) -> Poll<io::Result<usize>>
where
    S: AsyncRead + Unpin,
{
    with_buffer(size, |buffer| {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    })
}

/// Sends from the front of `data`; gives how many octets were taken.
///
/// # Errors
/// What writing gives.
pub async fn send<S>(stream: &mut S, data: &[u8]) -> io::Result<usize>
where
    S: AsyncWrite + Unpin,
{
    poll_fn(|cx| Pin::new(&mut *stream).poll_write(cx, data)).await
}

/// Sends back what arrives until the peer ends its half; gives the number of octets.
///
/// # Errors
/// What reading and writing give.
pub async fn echo<S>(mut stream: S) -> io::Result<u64>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut octets = 0;
    loop {
        let mut unsent = Vec::new();
        let n = poll_fn(|cx| poll_relay(&mut stream, cx, &mut unsent)).await?;
        if n == 0 {
            return Ok(octets);
        }
        octets += n as u64;
        if !unsent.is_empty() {
            stream.write_all(&unsent).await?;
        }
    }
}

/// Reads and writes it back in one poll. What the stream does not take goes to `unsent`, the thread's buffer being needed
/// by others while this connection waits.
fn poll_relay<S>(
    stream: &mut S,
    cx: &mut Context<'_>,
    unsent: &mut Vec<u8>,
) -> Poll<io::Result<usize>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    with_buffer(BLOCK, |buffer| {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
        let filled = buffer.filled();
        if filled.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let sent = match Pin::new(stream).poll_write(cx, filled) {
            Poll::Ready(sent) => sent?,
            Poll::Pending => 0,
        };
        unsent.extend_from_slice(&filled[sent..]);
        Poll::Ready(Ok(filled.len()))
    })
}

/// Answers the first octet with one, then waits for the peer's end.
///
/// # Errors
/// What reading and writing give.
pub async fn respond<S>(mut stream: S) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if receive(&mut stream, 1).await? == 1 {
        send(&mut stream, b"!").await?;
        hold(stream).await?;
    }
    Ok(())
}

/// Waits for the peer's end. A plain future, not an `async fn`: idle connections are many, and it is no larger than the
/// stream.
pub fn hold<S>(mut stream: S) -> impl Future<Output = io::Result<()>>
where
    S: AsyncRead + Unpin,
{
    poll_fn(move |cx| {
        loop {
            if ready!(poll_receive(&mut stream, cx, BLOCK))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    })
}
