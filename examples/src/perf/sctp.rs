//! SCTP in TCP's place: each write is a message on stream 0, each read gives one.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tidewire::Stack;
use tidewire::net::sctp::{SctpAssociation, SctpListener, SendOptions};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::network::{BACKLOG, Network};

/// A stack of ours, by its SCTP sockets.
#[derive(Clone, Debug)]
pub struct SctpStack {
    stack: Stack,
    /// Addresses of the server besides the one that is named.
    more: Vec<IpAddr>,
}

impl SctpStack {
    /// A stack whose servers have one address that is known.
    pub const fn new(stack: Stack) -> Self {
        Self {
            stack,
            more: Vec::new(),
        }
    }

    /// The same, for a server that has these addresses, too.
    #[must_use]
    pub fn with_more_addresses(self, more: &[IpAddr]) -> Self {
        Self {
            more: more.to_vec(),
            ..self
        }
    }
}

/// An association that reads and writes octets: the messages' borders are the writes'.
#[derive(Debug)]
pub struct MessageStream {
    association: SctpAssociation,
    /// What is left of a message that was larger than the buffer it was read into.
    unread: Bytes,
}

impl MessageStream {
    fn new(association: SctpAssociation) -> Self {
        association.set_nodelay(true);
        Self {
            association,
            unread: Bytes::new(),
        }
    }
}

impl AsyncRead for MessageStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            match ready!(self.association.poll_recv(cx))? {
                Some(message) => self.unread = message.data,
                None => return Poll::Ready(Ok(())),
            }
        }
        let len = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread.split_to(len));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MessageStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.association.poll_send_ready(cx))?;
        let message = Bytes::copy_from_slice(data);
        let sent = self
            .association
            .poll_send(cx, &message, SendOptions::default());
        ready!(sent)?;
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.association.start_shutdown();
        Poll::Ready(Ok(()))
    }
}

impl Network for SctpStack {
    type Listener = SctpListener;
    type Stream = MessageStream;

    fn listen(&self, address: SocketAddr) -> io::Result<Self::Listener> {
        let builder = self.stack.sctp_builder().backlog(BACKLOG);
        builder.listen_on(&[address])
    }

    async fn accept(listener: &Self::Listener) -> io::Result<Self::Stream> {
        let (association, _) = listener.accept().await?;
        Ok(MessageStream::new(association))
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Self::Stream> {
        let more = self.more.iter();
        let more = more.map(|ip| SocketAddr::new(*ip, address.port()));
        let addresses: Vec<SocketAddr> = std::iter::once(address).chain(more).collect();
        let association = self.stack.sctp_association(&addresses[..]).await?;
        Ok(MessageStream::new(association))
    }

    fn reset_on_drop(stream: &Self::Stream) -> io::Result<()> {
        stream.association.set_linger(Some(Duration::ZERO));
        Ok(())
    }

    async fn receive(stream: &mut Self::Stream, _size: usize) -> io::Result<usize> {
        let message = stream.association.recv().await?;
        Ok(message.map_or(0, |message| message.data.len()))
    }

    async fn send(stream: &mut Self::Stream, payload: &Bytes, offset: usize) -> io::Result<usize> {
        let message = payload.slice(offset..);
        let len = message.len();
        let options = SendOptions::default();
        stream.association.send(message, options).await?;
        Ok(len)
    }
}
