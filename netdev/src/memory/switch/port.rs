//! The two halves of a port's device.
//!
//! The transmitter does the switching, within its call: what it sends lies in the queues of other ports when it returns,
//! stamped with the time at which it will have crossed the impairment towards the switch. The receiver does what is
//! due on the way out, with its own driver's time: waiting, impairment, cutting.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use super::super::alarm::Alarm;
use super::super::impairment::Impairment;
use super::{Aftermath, Fabric, PortConfig, PortMonitors};
use crate::device::{Capabilities, Medium, Receiver, Transmitter};
use crate::headers::{ETHERNET_HEADER, Headers};
use crate::packet::Packet;
use crate::segmentation::prepare;

/// From the device into the switch.
pub(super) struct PortTransmitter {
    fabric: Arc<Fabric>,
    number: usize,
    /// Held while frames are switched, so that they keep their order.
    impairment: Option<Mutex<Impairment>>,
    monitors: PortMonitors,
}

impl PortTransmitter {
    pub(super) fn new(
        fabric: Arc<Fabric>,
        number: usize,
        config: &PortConfig,
        monitors: PortMonitors,
    ) -> Self {
        let impairment = config.to_switch.clone().map(|impairment| {
            Mutex::new(Impairment::new(impairment, config.seed).with_medium(Medium::Ethernet))
        });
        Self {
            fabric,
            number,
            impairment,
            monitors,
        }
    }

    fn transmit(&self, now: u64, frames: impl Iterator<Item = (u64, Packet)>) -> Aftermath {
        let mut aftermath = Aftermath::default();
        let mut state = self.fabric.lock();
        for (time, frame) in frames {
            state.switch(now, self.number, time, frame, &mut aftermath);
        }
        drop(state);
        aftermath
    }
}

impl Transmitter for PortTransmitter {
    fn try_transmit(&self, queue: &mut VecDeque<Packet>) -> io::Result<()> {
        if queue.is_empty() {
            return Ok(());
        }
        let now = self.fabric.clock.now();
        let Some(impairment) = &self.impairment else {
            let frames = queue.drain(..).map(|frame| (now, frame));
            self.transmit(now, frames).run();
            return Ok(());
        };
        // Held until the lock is not, since the owner of a lost frame's octets is foreign code.
        let held: Vec<Packet> = queue.iter().cloned().collect();
        // Its own lock, since cutting takes time; always before the switch's.
        let mut impairment = impairment.lock().unwrap_or_else(PoisonError::into_inner);
        for frame in queue.drain(..) {
            impairment.enqueue(now, frame);
        }
        // What becomes of a frame is decided when it enters, so it need not wait here for its time.
        let crossed: Vec<(u64, Packet)> = std::iter::from_fn(|| {
            let time = impairment.poll_timeout()?;
            Some((time, impairment.dequeue(time)?))
        })
        .collect();
        if let Some(monitor) = &self.monitors.to_switch {
            monitor.set(impairment.stats());
        }
        let aftermath = self.transmit(now, crossed.into_iter());
        drop(impairment);
        aftermath.run();
        drop(held);
        Ok(())
    }

    fn poll_transmit_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for PortTransmitter {
    fn drop(&mut self) {
        let mut state = self.fabric.lock();
        if let Some(port) = state.ports.get_mut(&self.number) {
            port.has_transmitter = false;
            if !port.inbox.is_open {
                state.ports.remove(&self.number);
            }
        }
    }
}

impl fmt::Debug for PortTransmitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortTransmitter")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

/// From the switch to the device.
pub(super) struct PortReceiver {
    fabric: Arc<Fabric>,
    number: usize,
    capabilities: Capabilities,
    impairment: Option<Impairment>,
    /// Taken out of the port's queue and not passed on yet, with the time of arrival.
    arrived: VecDeque<(u64, Packet)>,
    /// Ready for the device.
    ready: VecDeque<Packet>,
    alarm: Alarm,
    monitors: PortMonitors,
}

/// Looks into the queue per poll, so that senders who never pause cannot keep the driver here.
const ROUNDS: usize = 8;

impl PortReceiver {
    pub(super) fn new(
        fabric: Arc<Fabric>,
        number: usize,
        config: &PortConfig,
        capabilities: Capabilities,
        monitors: PortMonitors,
    ) -> Self {
        // Directions must not decide alike.
        let seed = config.seed ^ 0x5bd1_e995_9d1b_54a3;
        let impairment = config
            .from_switch
            .clone()
            .map(|impairment| Impairment::new(impairment, seed).with_medium(Medium::Ethernet));
        Self {
            fabric,
            number,
            capabilities,
            impairment,
            arrived: VecDeque::new(),
            ready: VecDeque::new(),
            alarm: Alarm::default(),
            monitors,
        }
    }

    /// Takes what has arrived by `now`. `Pending` when that is nothing: then the waker will be woken by the next frame,
    /// and the time is when the next one under way arrives.
    fn poll_arrivals(&mut self, cx: &Context<'_>, now: u64) -> (Poll<()>, Option<u64>) {
        let mut fresh = None;
        loop {
            let mut state = self.fabric.lock();
            let Some(port) = state.ports.get_mut(&self.number) else {
                return (Poll::Pending, None);
            };
            let inbox = &mut port.inbox;
            inbox.collect(now, &mut self.arrived);
            let next = inbox.next_arrival();
            if !self.arrived.is_empty() {
                return (Poll::Ready(()), next);
            }
            let is_registered = inbox
                .reader
                .as_ref()
                .is_some_and(|waker| waker.will_wake(cx.waker()));
            if is_registered {
                return (Poll::Pending, next);
            }
            if let Some(waker) = fresh.take() {
                let stale = inbox.reader.replace(waker);
                drop(state);
                drop(stale);
                return (Poll::Pending, next);
            }
            drop(state);
            fresh = Some(cx.waker().clone());
        }
    }

    /// Passes what has arrived through the impairment, or cuts it as the device needs it, until `limit` is ready.
    fn pass(&mut self, now: u64, limit: usize) {
        let egress = &self.monitors.egress;
        while self.ready.len() < limit
            && let Some((time, mut frame)) = self.arrived.pop_front()
        {
            if network_len(&frame) > self.capabilities.mtu {
                egress.over_mtu.fetch_add(1, Ordering::Relaxed);
            } else if let Some(impairment) = &mut self.impairment {
                impairment.enqueue(time, frame);
            } else if prepare(&mut frame, &self.capabilities, &mut self.ready).is_err() {
                egress.not_cut.fetch_add(1, Ordering::Relaxed);
            }
        }
        if let Some(impairment) = &mut self.impairment {
            while self.ready.len() < limit
                && let Some(packet) = impairment.dequeue(now)
            {
                self.ready.push_back(packet);
            }
            if let Some(monitor) = &self.monitors.from_switch {
                monitor.set(impairment.stats());
            }
        }
    }
}

/// The length of the network-layer packet, or of the largest one that a super-packet is cut into.
fn network_len(frame: &Packet) -> usize {
    let len = frame.len().saturating_sub(ETHERNET_HEADER);
    let Some(segmentation) = frame.offload.segmentation else {
        return len;
    };
    Headers::parse(frame.contiguous(), frame.len(), Medium::Ethernet).map_or(len, |headers| {
        let headers = headers.payload - headers.network;
        len.min(headers + usize::from(segmentation.segment_size))
    })
}

impl Receiver for PortReceiver {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Packet>,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let limit = limit.max(1);
        for _ in 0..ROUNDS {
            let now = self.fabric.clock.now();
            let (arrivals, next) = if self.arrived.is_empty() && self.ready.is_empty() {
                self.poll_arrivals(cx, now)
            } else {
                (Poll::Ready(()), None)
            };
            self.pass(now, limit);
            if !self.ready.is_empty() {
                let count = limit.min(self.ready.len());
                batch.extend(self.ready.drain(..count));
                let delivered = &self.monitors.egress.delivered;
                delivered.fetch_add(count as u64, Ordering::Relaxed);
                return Poll::Ready(Ok(count));
            }
            if arrivals.is_ready() {
                continue;
            }
            let due = self.impairment.as_ref().and_then(Impairment::poll_timeout);
            let Some(deadline) = due.into_iter().chain(next).min() else {
                return Poll::Pending;
            };
            let epoch = self.fabric.clock.epoch();
            if self.alarm.poll(cx, epoch, deadline).is_pending() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for PortReceiver {
    fn drop(&mut self) {
        let mut state = self.fabric.lock();
        state.table.forget_port(self.number);
        let Some(port) = state.ports.get_mut(&self.number) else {
            return;
        };
        let inbox = &mut port.inbox;
        inbox.is_open = false;
        let waiting = (
            std::mem::take(&mut inbox.queue),
            std::mem::take(&mut inbox.scheduled),
            inbox.reader.take(),
        );
        if !port.has_transmitter {
            state.ports.remove(&self.number);
        }
        drop(state);
        drop(waiting);
    }
}

impl fmt::Debug for PortReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortReceiver")
            .field("number", &self.number)
            .field("impairment", &self.impairment)
            .finish_non_exhaustive()
    }
}
