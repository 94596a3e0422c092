//! One stream of an association, for code that speaks `futures`' traits.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::{Sink, Stream};

use super::association::SctpAssociation;
use crate::engine::ready_cache::{Direction, WaiterKey};
use crate::sctp::{SctpMessage, SendOptions};

/// One stream of an [`SctpAssociation`]: a [`Sink`] of messages to send and a [`Stream`] of those received, made by
/// [`SctpAssociation::stream`].
///
/// The `Stream` ends when the peer has shut down and this stream's messages are read. Closing the `Sink`
/// flushes it and no more: an SCTP stream has no end of its own.
///
/// # Examples
///
/// ```
/// use futures::{SinkExt, StreamExt};
/// use tidewire::net::sctp::{SctpAssociation, SctpListener};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let listener = SctpListener::bind("127.0.0.1:5000").await?;
/// let client = SctpAssociation::connect("127.0.0.1:5000").await?;
/// let (server, _) = listener.accept().await?;
///
/// client.stream(1).send("one".into()).await?;
/// client.stream(2).send("two".into()).await?;
/// // Stream 2 does not wait for whoever is to read stream 1.
/// let message = server.stream(2).next().await.expect("nobody has shut down")?;
/// assert_eq!(&message.data[..], b"two");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SctpStream<'a> {
    association: &'a SctpAssociation,
    options: SendOptions,
    /// Given to the sink, not taken by the association yet.
    outgoing: Option<Bytes>,
    reader: Option<WaiterKey>,
    writer: Option<WaiterKey>,
}

impl<'a> SctpStream<'a> {
    pub(super) const fn new(association: &'a SctpAssociation, stream: u16) -> Self {
        Self {
            association,
            options: SendOptions {
                stream,
                ppid: 0,
                unordered: false,
                context: 0,
                immediate_ack: false,
            },
            outgoing: None,
            reader: None,
            writer: None,
        }
    }

    /// The stream's number.
    pub const fn id(&self) -> u16 {
        self.options.stream
    }

    /// The same stream, with everything but its number taken from `options` for what is sent.
    #[must_use]
    pub const fn with_options(mut self, options: SendOptions) -> Self {
        let stream = self.options.stream;
        self.options = SendOptions { stream, ..options };
        self
    }

    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(message) = &mut self.outgoing else {
            return Poll::Ready(Ok(()));
        };
        let io = &self.association.io;
        let options = self.options;
        let sent = io.poll_part(cx, &mut self.writer, Direction::Write.mask(), |state| {
            let association = &mut state.socket.association;
            association.send_from(message, &options)
        });
        let result = ready!(sent);
        self.outgoing = None;
        Poll::Ready(result)
    }
}

impl Stream for SctpStream<'_> {
    type Item = io::Result<SctpMessage>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let io = &this.association.io;
        let stream = this.options.stream;
        let mask = Direction::Read.mask();
        let received = io.poll_part(cx, &mut this.reader, mask, |state| {
            state.socket.association.recv_on(stream, usize::MAX)
        });
        Poll::Ready(ready!(received).transpose())
    }
}

impl Sink<Bytes> for SctpStream<'_> {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_take(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Bytes) -> io::Result<()> {
        if self.outgoing.is_some() {
            // `poll_ready` was not asked.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.outgoing = Some(message);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_take(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_take(cx)
    }
}

impl Drop for SctpStream<'_> {
    fn drop(&mut self) {
        self.association.io.forget(&mut self.reader);
        self.association.io.forget(&mut self.writer);
    }
}
