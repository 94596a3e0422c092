//! The receiving half of TUN, TAP and packet sockets: a batch at a time, and the device's end.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{Interest, Ready};
use tokio::time::Sleep;

use super::block_reader::BlockReader;
use super::queue::{BUFFER_SIZE, Queue};
use super::sys::packet_socket;
use crate::device::Receiver;
use crate::packet::Packet;
use crate::pool::ReceivePool;

/// A batch ends with the packet that reaches this many octets, so that its data is still in the processor's cache when
/// the stack copies it: four super-packets at a time came at 10 GB/s, 64 at a time at 5 (2 cores, 64 KiB reads).
const BATCH_OCTETS: usize = 4 * 60_000;

/// The receiving half.
pub(super) struct KernelReceiver {
    queue: Arc<Queue>,
    pool: ReceivePool,
    /// Where packets come through instead of the descriptor.
    ring: Option<BlockReader>,
    link: LinkWatch,
}

impl KernelReceiver {
    pub(super) fn new(queue: Arc<Queue>, link: LinkWatch, ring: Option<BlockReader>) -> Self {
        Self {
            queue,
            pool: ReceivePool::new(BUFFER_SIZE),
            ring,
            link,
        }
    }
}

/// The next packet; `Ok(None)` for one that made no sense and was counted.
fn next_packet(
    queue: &Queue,
    ring: &mut Option<BlockReader>,
    pool: &mut ReceivePool,
) -> io::Result<Option<Packet>> {
    match ring {
        None => queue.read_packet(pool),
        Some(ring) => match ring.next_frame() {
            Some(frame) => Ok(queue.decode(frame, pool)),
            None => Err(io::ErrorKind::WouldBlock.into()),
        },
    }
}

impl Receiver for KernelReceiver {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Packet>,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let Self {
            queue,
            pool,
            ring,
            link,
        } = self;
        loop {
            let Poll::Ready(ready) = queue.fd.poll_read_ready(cx) else {
                return link.poll_end(cx, queue).map(Err);
            };
            let mut ready = ready?;
            let mut received = 0;
            let mut octets = 0;
            for _ in 0..limit.max(1) {
                if octets >= BATCH_OCTETS {
                    break;
                }
                match next_packet(queue, ring, pool) {
                    Ok(Some(packet)) => {
                        octets += packet.len();
                        batch.push(packet);
                        received += 1;
                    }
                    Ok(None) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        // Only here: after reads that stopped at a limit no new edge would come.
                        ready.clear_ready();
                        break;
                    }
                    // Said once, when the interface goes down; what came before can still be read.
                    Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {
                        link.note_loss();
                    }
                    Err(error) if received == 0 => return Poll::Ready(Err(error)),
                    // The next call meets it again.
                    Err(_) => break,
                }
            }
            if received > 0 {
                link.note_packet();
                return Poll::Ready(Ok(received));
            }
        }
    }
}

/// How often a packet socket whose interface went down looks whether that is gone altogether: the kernel says so only
/// of an interface that was up.
const REMOVAL_CHECK: Duration = Duration::from_millis(100);

/// Finds out that an interface was removed. `epoll` reports that as an error *without* readability, which does not wake a
/// reader.
pub(super) struct LinkWatch {
    /// The next error of the descriptor.
    error: DescriptorError,
    kind: WatchKind,
}

enum WatchKind {
    /// A TUN's or TAP's descriptor: an error is the end.
    Tun,
    /// A packet socket: an error is any change of the interface.
    PacketSocket {
        interface: i32,
        /// When to look next; `None` while the interface works.
        check: Option<Pin<Box<Sleep>>>,
        /// Whether to look at once.
        is_lost: bool,
    },
}

/// Ends when the descriptor has an error; with one of its own when the runtime ends, and so does the device.
type DescriptorError = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

fn descriptor_error(queue: Arc<Queue>) -> DescriptorError {
    Box::pin(async move {
        let mut guard = queue.fd.ready(Interest::ERROR).await?;
        guard.clear_ready_matching(Ready::ERROR);
        Ok(())
    })
}

impl LinkWatch {
    /// Watches the descriptor of a TUN or TAP.
    pub(super) fn tun(queue: &Arc<Queue>) -> Self {
        Self {
            error: descriptor_error(Arc::clone(queue)),
            kind: WatchKind::Tun,
        }
    }

    /// Watches a packet socket that is bound to the interface of that index.
    pub(super) fn packet_socket(queue: &Arc<Queue>, interface: i32) -> Self {
        Self {
            error: descriptor_error(Arc::clone(queue)),
            kind: WatchKind::PacketSocket {
                interface,
                check: None,
                is_lost: false,
            },
        }
    }

    /// Notes that the interface went down.
    fn note_loss(&mut self) {
        if let WatchKind::PacketSocket { is_lost, .. } = &mut self.kind {
            *is_lost = true;
        }
    }

    /// Notes that a packet came.
    fn note_packet(&mut self) {
        if let WatchKind::PacketSocket { check, .. } = &mut self.kind {
            *check = None;
        }
    }

    /// Waits for the interface's removal and gives it as the error that ends the device.
    fn poll_end(&mut self, cx: &mut Context<'_>, queue: &Arc<Queue>) -> Poll<io::Error> {
        let removed = || io::Error::from_raw_os_error(libc::ENODEV);
        match &mut self.kind {
            WatchKind::Tun => {
                // Whichever it is, it is the end.
                let _ = ready!(self.error.as_mut().poll(cx));
                // Whoever asks again is told again.
                self.error = Box::pin(std::future::poll_fn(|_| Poll::Ready(Ok(()))));
                Poll::Ready(removed())
            }
            WatchKind::PacketSocket {
                interface,
                check,
                is_lost,
            } => loop {
                let socket = queue.fd.get_ref();
                if let Poll::Ready(result) = self.error.as_mut().poll(cx) {
                    self.error = descriptor_error(Arc::clone(queue));
                    if let Err(error) = result {
                        return Poll::Ready(error);
                    }
                    // The error itself says less than what is looked at below; taking it away makes room for the next.
                    let _ = packet_socket::take_error(socket);
                    *is_lost = true;
                    continue;
                }
                if !*is_lost {
                    let Some(timer) = check else {
                        return Poll::Pending;
                    };
                    ready!(timer.as_mut().poll(cx));
                }
                *is_lost = false;
                if packet_socket::bound_interface(socket).ok() != Some(*interface) {
                    // Whoever asks again is told again.
                    *is_lost = true;
                    return Poll::Ready(removed());
                }
                *check = Some(Box::pin(tokio::time::sleep(REMOVAL_CHECK)));
            },
        }
    }
}
