//! Bodies through connections of any kind, checked by hash.

use std::io;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Sends `up` from `a` and `down` from `b` at the same time; each half-closes when it has written and reads to the end.
///
/// # Errors
/// Those of the connections.
///
/// # Panics
/// When other octets arrive than were sent.
pub async fn exchange<A, B>(a: &mut A, b: &mut B, up: &[u8], down: &[u8]) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut a_read, mut a_write) = tokio::io::split(a);
    let (mut b_read, mut b_write) = tokio::io::split(b);
    let (_, _, at_a, at_b) = tokio::try_join!(
        send(&mut a_write, up),
        send(&mut b_write, down),
        receive(&mut a_read),
        receive(&mut b_read),
    )?;
    assert_eq!(at_b, digest(up), "what b received from a");
    assert_eq!(at_a, digest(down), "what a received from b");
    Ok(())
}

/// Writes `body` and shuts the write side down.
///
/// # Errors
/// Those of the connection.
pub async fn send<W: AsyncWrite + Unpin>(to: &mut W, body: &[u8]) -> io::Result<()> {
    to.write_all(body).await?;
    to.shutdown().await
}

/// Reads to the end of the stream; how much that was, and its hash.
///
/// # Errors
/// Those of the connection.
pub async fn receive<R: AsyncRead + Unpin>(from: &mut R) -> io::Result<Digested> {
    let mut buffer = vec![0; 256 * 1024];
    let (mut len, mut hash) = (0, Sha256::new());
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(Digested {
                len,
                hash: hash.finalize().into(),
            });
        }
        len += count;
        hash.update(&buffer[..count]);
    }
}

/// The length and hash of a body that nobody keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digested {
    /// Octets.
    pub len: usize,
    /// SHA-256.
    pub hash: [u8; 32],
}

/// The length and hash of `body`.
pub fn digest(body: &[u8]) -> Digested {
    Digested {
        len: body.len(),
        hash: Sha256::digest(body).into(),
    }
}
