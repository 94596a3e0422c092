//! The driver task.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tidewire_netdev::coalescing::{Coalescer, CoalescingConfig};
use tidewire_netdev::{Packet, Receiver, Transmitter};

use crate::driver::Shared;
use crate::driver::shared::Core;
use crate::driver::timer_wheel::TimerWheel;
use crate::engine::shard::ShardId;
use crate::engine::{FlushOutcome, SlotRef, WakeList};
use crate::error::SocketError;
use crate::ip::InterfaceId;

/// Packets read from one device before its peers, timers and the flush have their turn.
const RECEIVE_BATCH: usize = 64;
/// Up to so many packets make a short batch: whom they wake answers before they are acknowledged, so that a reply, a
/// window update or a FIN carries the ACK. After longer ones the peer hears of it while they are being read.
const SHORT_BATCH: usize = 8;
/// What so many hold on Ethernet. Up to it any number is a short batch: requests, handshakes and ends of many connections.
const SHORT_BATCH_OCTETS: usize = SHORT_BATCH * 1500;
/// Polls of the driver that those have: one for a reader, another for a task that an acceptor starts.
const HEAD_START: u8 = 2;
/// Turns of the loop before the task yields to the runtime.
const TURNS: usize = 16;
/// Timers handled in one turn.
const TIMER_BATCH: usize = 256;
/// Room for timer updates that is kept after a storm of them.
const KEPT_UPDATES: usize = 1024;

/// The transmitting side of an interface.
pub(crate) struct Port {
    pub(crate) interface: InterfaceId,
    /// One for each queue of the device.
    pub(crate) transmitters: Vec<Box<dyn Transmitter>>,
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Port")
            .field("interface", &self.interface)
            .field("queues", &self.transmitters.len())
            .finish_non_exhaustive()
    }
}

/// The receiving side of one queue of an interface.
pub(crate) struct Input {
    interface: InterfaceId,
    receiver: Box<dyn Receiver>,
    /// Joins what a device delivers packet by packet.
    coalescer: Option<Coalescer>,
    ended: bool,
}

impl Input {
    /// `coalescing` says how packets are joined, for a device that delivers them one by one.
    pub(crate) fn new(
        interface: InterfaceId,
        receiver: Box<dyn Receiver>,
        coalescing: Option<CoalescingConfig>,
    ) -> Self {
        Self {
            interface,
            receiver,
            coalescer: coalescing.map(Coalescer::new),
            ended: false,
        }
    }
}

/// What one look at the devices gave.
#[derive(Debug, Default)]
struct Received {
    /// The end of a device counts as one.
    packets: usize,
    octets: usize,
}

impl Received {
    fn is_short(&self) -> bool {
        self.packets > 0 && (self.packets <= SHORT_BATCH || self.octets <= SHORT_BATCH_OCTETS)
    }
}

/// The task that reads the devices, runs the timers and sends what nobody else has sent: one for each shard.
///
/// When it is dropped, by the runtime's shutdown, a panic or cancellation, what was left to it is sent, every socket of the
/// stack fails and everybody who waits is woken.
pub(crate) struct Driver {
    shared: Arc<Core>,
    shard: ShardId,
    /// Held by a stack that lives as long as its runtime.
    _keep: Option<Arc<Shared>>,
    inputs: Vec<Input>,
    batch: Vec<Packet>,
    updates: Vec<SlotRef>,
    wheel: TimerWheel,
    /// Those whom a short batch has woken go first; what is to be sent is sent when the driver has been polled so often.
    flush_in: u8,
}

impl Driver {
    pub(crate) fn new(
        shared: Arc<Core>,
        shard: ShardId,
        keep: Option<Arc<Shared>>,
        inputs: Vec<Input>,
    ) -> Self {
        Self {
            shared,
            shard,
            _keep: keep,
            inputs,
            batch: Vec::with_capacity(RECEIVE_BATCH),
            updates: Vec::new(),
            wheel: TimerWheel::default(),
            flush_in: 0,
        }
    }

    /// Reads each device once.
    fn receive(&mut self, cx: &mut Context<'_>, wakes: &mut WakeList) -> Received {
        let mut received = Received::default();
        for input in self.inputs.iter_mut().filter(|input| !input.ended) {
            match input
                .receiver
                .poll_receive(cx, &mut self.batch, RECEIVE_BATCH)
            {
                Poll::Ready(Ok(count)) if count > 0 => {
                    received.packets += count;
                    received.octets += self.batch.iter().map(Packet::len).sum::<usize>();
                    if let Some(coalescer) = &mut input.coalescer {
                        coalescer.coalesce(&mut self.batch);
                    }
                    let now = self.shared.clock().now_inside();
                    self.shared
                        .engine()
                        .receive(now, input.interface, &mut self.batch, wakes);
                }
                Poll::Ready(end) => {
                    tracing::debug!(interface = input.interface.0, error = ?end.err(), "device ended");
                    input.ended = true;
                    received.packets += 1;
                    let now = self.shared.clock().now_inside();
                    self.shared.engine().end_interface(
                        now,
                        input.interface,
                        SocketError::NetworkDown,
                        wakes,
                    );
                }
                Poll::Pending => {}
            }
        }
        received
    }

    /// A stack whose devices have all ended ends with them. Only the first driver reads every device.
    fn is_cut_off(&self) -> bool {
        self.shard == ShardId::FIRST
            && !self.inputs.is_empty()
            && self.inputs.iter().all(|input| input.ended)
    }

    /// Arms what has changed and fires what is due; whether anything fired.
    fn run_timers(&mut self, cx: &mut Context<'_>, wakes: &mut WakeList) -> bool {
        let engine = self.shared.engine();
        let mut fired = 0;
        loop {
            engine.shard(self.shard).updates.take(&mut self.updates);
            for slot in self.updates.drain(..) {
                self.wheel.update(slot, self.shared.clock());
            }
            self.updates.shrink_to(KEPT_UPDATES);
            match self.wheel.poll_expired(cx) {
                Poll::Ready(slot) => {
                    fired += 1;
                    engine.fire(self.shared.clock().now_inside(), &slot, wakes);
                    if fired == TIMER_BATCH {
                        return true;
                    }
                }
                Poll::Pending => return fired > 0,
            }
        }
    }

    /// Waits for full devices; whether one takes packets again. The queue of the shard's own number is waited for, on
    /// behalf of all shards that share it.
    fn unblock(&self, cx: &mut Context<'_>) -> bool {
        let engine = self.shared.engine();
        engine.shard(self.shard).take_new_block();
        let index = self.shard.index();
        let mut any = false;
        for port in self.shared.ports() {
            let Some(transmitter) = port.transmitters.get(index) else {
                continue;
            };
            if engine.is_queue_blocked(port.interface, index)
                && transmitter.poll_transmit_ready(cx).is_ready()
            {
                any |= self.shared.unblock(self.shard, port.interface, index);
            }
        }
        any
    }

    /// One look at everything; whether another is worthwhile.
    fn turn(&mut self, cx: &mut Context<'_>, wakes: &mut WakeList) -> bool {
        let received = self.receive(cx, wakes);
        let fired = self.run_timers(cx, wakes);
        let unblocked = self.unblock(cx);
        if received.is_short() && !wakes.is_empty() {
            self.flush_in = HEAD_START;
            return true;
        }
        let outcome = self.shared.flush_as(self.shard, wakes);
        received.packets > 0 || fired || unblocked || outcome == FlushOutcome::Unfinished
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.shared.unpark(this.shard, cx.waker());
        let mut wakes = WakeList::new();
        match &mut this.flush_in {
            0 => {}
            1 => {
                this.flush_in = 0;
                this.shared.flush_as(this.shard, &mut wakes);
            }
            polls => {
                *polls -= 1;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        for _ in 0..TURNS {
            let progress = this.turn(cx, &mut wakes);
            if this.shared.should_end() || this.is_cut_off() {
                wakes.wake_all();
                return Poll::Ready(());
            }
            let woke = !wakes.is_empty();
            wakes.wake_all();
            if progress && woke {
                // Those who were woken have something to do with what came; more of it would only push it out of cache.
                break;
            }
            if !progress
                && this
                    .shared
                    .park(this.shard, this.wheel.next_deadline(this.shared.clock()))
            {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        tracing::debug!(timers = self.wheel.len(), "driver ends");
        // What was written while it was awake was left to it, and a runtime may end before its next turn.
        if !std::thread::panicking() {
            self.shared.flush_last();
        }
        self.shared.finish(SocketError::NetworkDown);
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver")
            .field("inputs", &self.inputs.len())
            .field("wheel", &self.wheel)
            .finish_non_exhaustive()
    }
}

/// Sends through a queue of an interface's port.
pub(crate) fn transmit(
    ports: &[Port],
    interface: InterfaceId,
    queue: usize,
    packets: &mut VecDeque<Packet>,
) -> io::Result<()> {
    let port = ports.iter().find(|port| port.interface == interface);
    match port.and_then(|port| port.transmitters.get(queue)) {
        Some(transmitter) => transmitter.try_transmit(packets),
        None => Err(io::ErrorKind::NotFound.into()),
    }
}
