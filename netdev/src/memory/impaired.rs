//! Two devices joined by an impaired path, run by tokio's timer.
//!
//! Each direction's [`Impairment`] lives in its receiver, and so does the timer: a transmitter may be called from a
//! thread without a runtime, where a paused clock cannot be seen. The receiver's driver is woken by every batch and
//! stamps it with its own clock. Under a paused clock that is the very instant of sending; otherwise it adds the time
//! that the driver takes to wake.
//!
//! tokio's timers have a resolution of one millisecond, so packets arrive up to that much after their deadline; their
//! order and the rate do not suffer. What arrives together is joined into super-packets again if
//! [`PairConfig::coalesce`] says so, as a network card does it for a fast host. A simulation that needs exact times drives [`Impairment`] itself.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::alarm::Alarm;
use super::channel::{ChannelReceiver, channel};
use super::impairment::{Impairment, ImpairmentConfig, ImpairmentStats};
use super::pair::PairConfig;
use crate::coalescing::{Coalescer, CoalescingConfig};
use crate::device::{Device, Receiver};
use crate::packet::Packet;

/// Two devices joined by a path that behaves as `a_to_b` and `b_to_a` say.
///
/// With the default offloads the stacks hand over super-packets; the path cuts them. The devices must be polled in a
/// runtime that has time enabled.
pub fn impaired_pair(
    config: PairConfig,
    a_to_b: ImpairmentConfig,
    b_to_a: ImpairmentConfig,
    seed: u64,
) -> (Device, Device) {
    let (a, b, _) = impaired_pair_with_monitors(config, a_to_b, b_to_a, seed);
    (a, b)
}

/// [`impaired_pair`] with a monitor of each direction, first that of `a_to_b`.
pub fn impaired_pair_with_monitors(
    config: PairConfig,
    a_to_b: ImpairmentConfig,
    b_to_a: ImpairmentConfig,
    seed: u64,
) -> (Device, Device, [ImpairmentMonitor; 2]) {
    let capabilities = config.capabilities();
    let monitors = [ImpairmentMonitor::default(), ImpairmentMonitor::default()];
    let direction = |impairment: ImpairmentConfig, index: usize| {
        let (transmitter, inner) = channel(config.queue_packets, config.queue_bytes);
        // Directions must not decide alike.
        let seed = seed ^ [0, 0x5bd1_e995_9d1b_54a3][index];
        let receiver = ImpairedReceiver {
            inner,
            is_ended: false,
            impairment: Impairment::new(impairment, seed).with_medium(config.medium),
            arrivals: Vec::new(),
            epoch: None,
            alarm: Alarm::default(),
            coalescer: config.coalesce.then(|| {
                Coalescer::new(CoalescingConfig {
                    medium: config.medium,
                    max_super_packet: capabilities.max_super_packet,
                    ..CoalescingConfig::default()
                })
            }),
            monitor: monitors[index].clone(),
        };
        (transmitter, receiver)
    };
    let (a_out, b_in) = direction(a_to_b, 0);
    let (b_out, a_in) = direction(b_to_a, 1);
    let [a_name, b_name] = config.names;
    let a = Device::new(a_name, a_in, a_out, capabilities.clone());
    let b = Device::new(b_name, b_in, b_out, capabilities);
    (a, b, monitors)
}

/// Watches one direction of an impaired pair from outside, and changes what it does.
#[derive(Clone, Debug, Default)]
pub struct ImpairmentMonitor {
    stats: Arc<Mutex<ImpairmentStats>>,
    change: Arc<Mutex<Option<ImpairmentConfig>>>,
}

impl ImpairmentMonitor {
    /// What became of the packets, as of the last time the receiving driver looked.
    pub fn stats(&self) -> ImpairmentStats {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What becomes of packets that are sent from now on.
    pub fn set_config(&self, config: ImpairmentConfig) {
        let mut change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        *change = Some(config);
    }

    fn take_change(&self) -> Option<ImpairmentConfig> {
        let mut change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        change.take()
    }

    pub(super) fn set(&self, stats: ImpairmentStats) {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = stats;
    }
}

struct ImpairedReceiver {
    inner: ChannelReceiver,
    /// The other side is gone; what is under way still arrives.
    is_ended: bool,
    impairment: Impairment,
    /// Packets on their way from the channel into the impairment; empty between calls.
    arrivals: Vec<Packet>,
    /// Time 0 of the impairment: the first poll.
    epoch: Option<Instant>,
    alarm: Alarm,
    /// Joins what arrives at the same time.
    coalescer: Option<Coalescer>,
    monitor: ImpairmentMonitor,
}

/// Looks into the channel per poll, so that a transmitter that never pauses cannot keep the driver here.
const ROUNDS: usize = 8;

impl ImpairedReceiver {
    /// Moves what was sent into the impairment; `Pending` when the channel has our waker.
    fn poll_arrivals(&mut self, cx: &mut Context<'_>, now: u64) -> Poll<io::Result<()>> {
        if self.is_ended {
            return Poll::Pending;
        }
        match self.inner.poll_receive(cx, &mut self.arrivals, usize::MAX) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(count)) => {
                self.is_ended = count == 0;
                for packet in self.arrivals.drain(..) {
                    self.impairment.enqueue(now, packet);
                }
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl Receiver for ImpairedReceiver {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Packet>,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let epoch = *self.epoch.get_or_insert_with(Instant::now);
        if let Some(config) = self.monitor.take_change() {
            self.impairment.set_config(config);
        }
        for _ in 0..ROUNDS {
            let now = u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
            let is_waiting = match self.poll_arrivals(cx, now) {
                Poll::Pending => true,
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            };
            let before = batch.len();
            while batch.len() - before < limit.max(1)
                && let Some(packet) = self.impairment.dequeue(now)
            {
                batch.push(packet);
            }
            self.monitor.set(self.impairment.stats());
            if let Some(coalescer) = &mut self.coalescer {
                coalescer.coalesce_from(batch, before);
            }
            if batch.len() > before {
                return Poll::Ready(Ok(batch.len() - before));
            }
            if !is_waiting {
                continue;
            }
            match self.impairment.poll_timeout() {
                None if self.is_ended => return Poll::Ready(Ok(0)),
                None => return Poll::Pending,
                Some(deadline) => {
                    if self.alarm.poll(cx, epoch, deadline).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl fmt::Debug for ImpairedReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImpairedReceiver")
            .field("impairment", &self.impairment)
            .field("is_ended", &self.is_ended)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;
    use crate::offload::Offload;
    use crate::test_packets::{Spec, check_wire};

    fn transmit(device: &Device, packets: impl IntoIterator<Item = Packet>) {
        let mut queue: VecDeque<Packet> = packets.into_iter().collect();
        device.transmitter.try_transmit(&mut queue).expect("room");
    }

    async fn receive(device: &mut Device) -> Vec<Packet> {
        let mut batch = Vec::new();
        let count = poll_fn(|cx| device.receiver.poll_receive(cx, &mut batch, 64))
            .await
            .expect("no error");
        assert_eq!(count, batch.len());
        batch
    }

    fn small(sequence: u32) -> Packet {
        Spec {
            slices: vec![100],
            segment_size: 0,
            sequence,
            ..Spec::default()
        }
        .build()
    }

    #[tokio::test(start_paused = true)]
    async fn packets_arrive_cut_and_after_the_delay_in_paused_time() {
        let delay = Duration::from_millis(30);
        let (a, mut b) = impaired_pair(
            PairConfig::default(),
            ImpairmentConfig::delay(delay),
            ImpairmentConfig::default(),
            1,
        );
        let receiver = tokio::spawn(async move {
            let batch = receive(&mut b).await;
            (Instant::now(), batch)
        });
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_millis(5)).await;
        let sent = Instant::now();
        transmit(&a, [Spec::default().build()]);
        let (arrived, batch) = receiver.await.expect("no panic");
        assert_eq!(arrived - sent, delay);
        assert_eq!(batch.len(), 3);
        for packet in &batch {
            assert_eq!(packet.offload, Offload::default());
            check_wire(a.capabilities.medium, &packet.to_bytes()).expect("complete");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_arrives_together_is_joined_again_if_asked_for() {
        let config = PairConfig {
            coalesce: true,
            ..PairConfig::default()
        };
        let lossy = ImpairmentConfig::delay(Duration::from_millis(1));
        let (a, mut b) = impaired_pair(config, lossy.clone(), lossy, 1);
        let spec = Spec {
            slices: vec![14_480],
            flags: 0x10,
            ..Spec::default()
        };
        transmit(&a, [spec.build()]);
        let batch = receive(&mut b).await;
        assert_eq!(batch.len(), 1);
        assert_eq!(
            batch[0].offload.segmentation,
            spec.build().offload.segmentation
        );
        check_wire(a.capabilities.medium, &batch[0].to_bytes()).expect("complete");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_spreads_packets_over_time() {
        // 152-octet packets at 1.216 Mbit/s: one per millisecond.
        let config = ImpairmentConfig::default().with_rate(152 * 8 * 1000, 1 << 20);
        let (a, mut b, [monitor, _]) = impaired_pair_with_monitors(
            PairConfig::default(),
            config,
            ImpairmentConfig::default(),
            1,
        );
        let start = Instant::now();
        transmit(&a, (0..50).map(small));
        let mut count = 0;
        while count < 50 {
            count += receive(&mut b).await.len();
            let elapsed = (Instant::now() - start).as_millis();
            assert_eq!(elapsed, count as u128);
        }
        assert_eq!(monitor.stats().delivered, 50);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_arrives_after_the_sender_is_gone() {
        let (a, mut b) = impaired_pair(
            PairConfig::default(),
            ImpairmentConfig::delay(Duration::from_secs(1)),
            ImpairmentConfig::default(),
            1,
        );
        transmit(&a, (0..3).map(small));
        drop(a);
        assert_eq!(receive(&mut b).await.len(), 3);
        assert!(receive(&mut b).await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn directions_decide_differently_and_seeds_repeat() {
        async fn survivors(seed: u64) -> [Vec<Option<u8>>; 2] {
            let lossy = ImpairmentConfig::delay(Duration::from_millis(1)).with_loss(0.5);
            let (mut a, mut b) = impaired_pair(PairConfig::default(), lossy.clone(), lossy, seed);
            transmit(&a, (0..200).map(small));
            transmit(&b, (0..200).map(small));
            let mut directions = [Vec::new(), Vec::new()];
            for (device, seen) in [&mut b, &mut a].into_iter().zip(&mut directions) {
                while let Ok(batch) =
                    tokio::time::timeout(Duration::from_secs(1), receive(device)).await
                {
                    seen.extend(batch.iter().map(|packet| packet.octet(27)));
                }
            }
            directions
        }
        let first = survivors(7).await;
        assert!((60..140).contains(&first[0].len()));
        assert_ne!(first[0], first[1]);
        assert_eq!(first, survivors(7).await);
        assert_ne!(first, survivors(8).await);
    }
}
