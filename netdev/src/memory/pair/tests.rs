use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;

use super::*;
use crate::errno::ENODEV;
use crate::packet::Packet;
use crate::test_packets::Spec;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count {
    fn wakes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn packets(count: usize, len: usize) -> VecDeque<Packet> {
    (0..count)
        .map(|i| Packet::from_bytes(Bytes::from(vec![i as u8; len])))
        .collect()
}

fn receive(device: &mut Device, limit: usize) -> Poll<io::Result<Vec<Packet>>> {
    let mut batch = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    device
        .receiver
        .poll_receive(&mut cx, &mut batch, limit)
        .map_ok(|count| {
            assert_eq!(count, batch.len());
            batch
        })
}

fn received(device: &mut Device, limit: usize) -> Vec<Packet> {
    match receive(device, limit) {
        Poll::Ready(Ok(batch)) => batch,
        other => panic!("packets were waiting: {other:?}"),
    }
}

#[test]
fn super_packets_cross_by_reference() {
    let (a, mut b) = pair(PairConfig::default());
    let packet = Spec::default().build();
    let slice = packet.body()[0].as_ptr();
    let offload = packet.offload;
    a.transmitter
        .try_transmit(&mut VecDeque::from([packet]))
        .expect("room");
    let batch = received(&mut b, 64);
    assert_eq!(batch[0].body()[0].as_ptr(), slice);
    assert_eq!(batch[0].offload, offload);
}

#[test]
fn order_survives_batches_of_any_limit() {
    let (mut a, b) = pair(PairConfig::default());
    let mut queue = packets(100, 10);
    b.transmitter.try_transmit(&mut queue).expect("room");
    let mut seen = Vec::new();
    for limit in [1, 7, 0, 50, 1000] {
        let batch = received(&mut a, limit);
        assert!(batch.len() <= limit.max(1));
        seen.extend(batch.iter().map(|packet| packet.octet(0)));
    }
    assert_eq!(seen, (0..100u8).map(Some).collect::<Vec<_>>());
    assert!(receive(&mut a, 1).is_pending());
}

#[test]
fn a_full_direction_blocks_until_it_is_drained_and_wakes_the_writer_once() {
    for (config, fits) in [
        (
            PairConfig {
                queue_packets: 10,
                ..PairConfig::default()
            },
            10,
        ),
        (
            PairConfig {
                queue_bytes: 7000,
                ..PairConfig::default()
            },
            7,
        ),
        (
            PairConfig {
                queue_bytes: 1,
                ..PairConfig::default()
            },
            1,
        ),
    ] {
        let (a, mut b) = pair(config);
        let mut queue = packets(20, 1000);
        let error = a.transmitter.try_transmit(&mut queue).expect_err("full");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(queue.len(), 20 - fits);

        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        assert!(a.transmitter.poll_transmit_ready(&mut cx).is_pending());
        assert!(a.transmitter.poll_transmit_ready(&mut cx).is_pending());
        assert_eq!(received(&mut b, 1).len(), 1);
        assert_eq!(count.wakes(), 1);
        let ready = a.transmitter.poll_transmit_ready(&mut cx);
        assert!(matches!(ready, Poll::Ready(Ok(()))));
    }
}

#[test]
fn room_for_less_than_the_refused_packet_is_not_readiness() {
    let (a, mut b) = pair(PairConfig {
        queue_bytes: 2500,
        ..PairConfig::default()
    });
    let mut queue = packets(3, 1000);
    a.transmitter.try_transmit(&mut queue).expect_err("full");
    let mut cx = Context::from_waker(Waker::noop());
    assert!(a.transmitter.poll_transmit_ready(&mut cx).is_pending());
    assert_eq!(received(&mut b, 64).len(), 2);
    a.transmitter.try_transmit(&mut queue).expect("room");
    assert!(a.transmitter.poll_transmit_ready(&mut cx).is_ready());
}

#[test]
fn a_batch_wakes_the_reader_once() {
    let (a, mut b) = pair(PairConfig::default());
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut cx = Context::from_waker(&waker);
    let mut batch = Vec::new();
    assert!(
        b.receiver
            .poll_receive(&mut cx, &mut batch, 64)
            .is_pending()
    );
    a.transmitter
        .try_transmit(&mut packets(50, 10))
        .expect("room");
    a.transmitter
        .try_transmit(&mut packets(50, 10))
        .expect("room");
    assert_eq!(count.wakes(), 1);
}

#[test]
fn a_dropped_side_ends_the_other_after_what_was_under_way() {
    let (a, mut b) = pair(PairConfig::default());
    a.transmitter
        .try_transmit(&mut packets(3, 10))
        .expect("room");
    drop(a);
    assert_eq!(received(&mut b, 64).len(), 3);
    assert!(matches!(receive(&mut b, 64), Poll::Ready(Ok(batch)) if batch.is_empty()));
    let mut cx = Context::from_waker(Waker::noop());
    let ready = b.transmitter.poll_transmit_ready(&mut cx);
    assert!(matches!(ready, Poll::Ready(Err(error)) if error.raw_os_error() == Some(ENODEV)));
    let error = b
        .transmitter
        .try_transmit(&mut packets(1, 10))
        .expect_err("gone");
    assert_eq!(error.raw_os_error(), Some(ENODEV));
}

#[tokio::test]
async fn a_waiting_reader_and_a_waiting_writer_learn_of_the_drop() {
    let (a, mut b) = pair(PairConfig {
        queue_packets: 1,
        ..PairConfig::default()
    });
    let reader = tokio::spawn(async move {
        let mut batch = Vec::new();
        poll_fn(|cx| b.receiver.poll_receive(cx, &mut batch, 64)).await
    });
    tokio::task::yield_now().await;
    drop(a);
    assert_eq!(reader.await.expect("no panic").expect("no error"), 0);

    let (a, b) = pair(PairConfig {
        queue_packets: 1,
        ..PairConfig::default()
    });
    let _ = a.transmitter.try_transmit(&mut packets(2, 10));
    let writer =
        tokio::spawn(async move { poll_fn(|cx| a.transmitter.poll_transmit_ready(cx)).await });
    tokio::task::yield_now().await;
    drop(b);
    let error = writer.await.expect("no panic").expect_err("gone");
    assert_eq!(error.raw_os_error(), Some(ENODEV));
}

#[test]
fn threads_pass_a_million_octets_through_a_small_queue_in_order() {
    let (a, mut b) = pair(PairConfig {
        queue_packets: 4,
        ..PairConfig::default()
    });
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime")
    };
    let writer = std::thread::spawn(move || {
        runtime().block_on(async {
            for round in 0..100 {
                let mut queue = packets(100, 100);
                while a.transmitter.try_transmit(&mut queue).is_err() {
                    poll_fn(|cx| a.transmitter.poll_transmit_ready(cx))
                        .await
                        .unwrap_or_else(|error| panic!("round {round}: {error}"));
                }
            }
        });
    });
    let count = runtime().block_on(async {
        let mut count = 0;
        loop {
            let mut batch = Vec::new();
            let received = poll_fn(|cx| b.receiver.poll_receive(cx, &mut batch, 64)).await;
            if received.expect("no error") == 0 {
                return count;
            }
            for packet in batch {
                assert_eq!(packet.octet(99), Some((count % 100) as u8));
                count += 1;
            }
        }
    });
    writer.join().expect("no panic");
    assert_eq!(count, 10_000);
}
