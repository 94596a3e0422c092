//! One direction of an in-memory link: a bounded queue between a transmitter and a receiver.
//!
//! The transmitter moves a whole batch in under one lock, the receiver swaps the whole queue out under one lock; each
//! wakes the other at most once per batch, after unlocking. Wakers are cloned, woken and dropped with no lock held,
//! since all three may run foreign code.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::device::{Receiver, Transmitter};
use crate::errno::ENODEV;
use crate::packet::Packet;

/// A direction whose queue holds up to `packets` packets and up to `bytes` octets, whichever is reached first; a
/// packet larger than that is taken when the queue is empty.
///
/// The receiver holds up to as much again of what it has swapped out and not handed on.
pub(super) fn channel(packets: usize, bytes: usize) -> (ChannelTransmitter, ChannelReceiver) {
    let channel = Arc::new(Channel {
        max_packets: packets.max(1),
        max_bytes: bytes,
        state: Mutex::new(State {
            queue: VecDeque::new(),
            bytes: 0,
            is_full: false,
            reader: None,
            writer: None,
            is_reader_gone: false,
            is_writer_gone: false,
        }),
    });
    let transmitter = ChannelTransmitter {
        channel: Arc::clone(&channel),
    };
    let receiver = ChannelReceiver {
        channel,
        ready: VecDeque::new(),
    };
    (transmitter, receiver)
}

#[derive(Debug)]
struct Channel {
    max_packets: usize,
    max_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    queue: VecDeque<Packet>,
    /// Octets in `queue`.
    bytes: usize,
    /// A packet was refused since the queue was last emptied.
    is_full: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    is_reader_gone: bool,
    is_writer_gone: bool,
}

impl Channel {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics halfway through a change of the state, so a poisoned one is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another packet fits behind those in the queue and `more`, whose octets are counted already.
    fn has_room(&self, state: &State, more: usize, len: usize) -> bool {
        let packets = state.queue.len() + more;
        packets == 0 || (packets < self.max_packets && state.bytes + len <= self.max_bytes)
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn is_same(registered: Option<&Waker>, cx: &Context<'_>) -> bool {
    registered.is_some_and(|waker| waker.will_wake(cx.waker()))
}

/// The sending end.
#[derive(Debug)]
pub(super) struct ChannelTransmitter {
    channel: Arc<Channel>,
}

impl ChannelTransmitter {
    /// Sends packets from the front of `queue` up to the first that does not belong here.
    ///
    /// # Errors
    /// `WouldBlock` when one that belongs here was refused; `ENODEV` when the receiver is gone.
    pub(super) fn try_transmit_while(
        &self,
        queue: &mut VecDeque<Packet>,
        mut belongs: impl FnMut(&Packet) -> bool,
    ) -> io::Result<()> {
        if queue.is_empty() {
            return Ok(());
        }
        let mut state = self.channel.lock();
        if state.is_reader_gone {
            return Err(io::Error::from_raw_os_error(ENODEV));
        }
        let mut result = Ok(());
        let mut count = 0;
        for packet in queue.iter().take_while(|packet| belongs(packet)) {
            let len = packet.len();
            if !self.channel.has_room(&state, count, len) {
                state.is_full = true;
                result = Err(io::ErrorKind::WouldBlock.into());
                break;
            }
            state.bytes += len;
            count += 1;
        }
        if state.queue.is_empty() && count == queue.len() {
            // All of them, without a copy.
            std::mem::swap(&mut state.queue, queue);
        } else {
            state.queue.extend(queue.drain(..count));
        }
        let moved = count > 0;
        let reader = if moved { state.reader.take() } else { None };
        drop(state);
        wake(reader);
        result
    }
}

impl Transmitter for ChannelTransmitter {
    fn try_transmit(&self, queue: &mut VecDeque<Packet>) -> io::Result<()> {
        self.try_transmit_while(queue, |_| true)
    }

    fn poll_transmit_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut fresh = None;
        loop {
            let mut state = self.channel.lock();
            if state.is_reader_gone {
                return Poll::Ready(Err(io::Error::from_raw_os_error(ENODEV)));
            }
            // Not "is there room": there may be some, but not for the packet that was refused.
            if !state.is_full {
                return Poll::Ready(Ok(()));
            }
            if is_same(state.writer.as_ref(), cx) {
                return Poll::Pending;
            }
            if let Some(waker) = fresh.take() {
                let stale = state.writer.replace(waker);
                drop(state);
                drop(stale);
                return Poll::Pending;
            }
            drop(state);
            fresh = Some(cx.waker().clone());
        }
    }
}

impl Drop for ChannelTransmitter {
    fn drop(&mut self) {
        let mut state = self.channel.lock();
        state.is_writer_gone = true;
        let wakers = (state.reader.take(), state.writer.take());
        drop(state);
        wake(wakers.0);
    }
}

/// The receiving end.
#[derive(Debug)]
pub(super) struct ChannelReceiver {
    channel: Arc<Channel>,
    /// Swapped out of the queue and not handed on yet.
    ready: VecDeque<Packet>,
}

impl Receiver for ChannelReceiver {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Packet>,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let mut fresh = None;
        while self.ready.is_empty() {
            let mut state = self.channel.lock();
            if !state.queue.is_empty() {
                std::mem::swap(&mut state.queue, &mut self.ready);
                state.bytes = 0;
                state.is_full = false;
                let writer = state.writer.take();
                drop(state);
                wake(writer);
                break;
            }
            if state.is_writer_gone {
                return Poll::Ready(Ok(0));
            }
            if is_same(state.reader.as_ref(), cx) {
                return Poll::Pending;
            }
            if let Some(waker) = fresh.take() {
                let stale = state.reader.replace(waker);
                drop(state);
                drop(stale);
                return Poll::Pending;
            }
            drop(state);
            fresh = Some(cx.waker().clone());
        }
        let count = limit.max(1).min(self.ready.len());
        if batch.is_empty() && count == self.ready.len() {
            // All of them change hands, and the memory that they lay in.
            let spare = VecDeque::from(std::mem::take(batch));
            *batch = Vec::from(std::mem::replace(&mut self.ready, spare));
        } else {
            batch.extend(self.ready.drain(..count));
        }
        Poll::Ready(Ok(count))
    }
}

impl Drop for ChannelReceiver {
    fn drop(&mut self) {
        let mut state = self.channel.lock();
        state.is_reader_gone = true;
        state.bytes = 0;
        let queue = std::mem::take(&mut state.queue);
        let wakers = (state.writer.take(), state.reader.take());
        drop(state);
        wake(wakers.0);
        drop(queue);
    }
}
