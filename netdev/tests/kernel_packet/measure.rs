//! How fast packets pass, for the defaults of [`PacketConfig`] and the comments that name numbers. By hand:
//!
//! ```text
//! cargo test --release -p tidewire-netdev --test kernel_packet -- --ignored --nocapture measure
//! ```

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidewire_netdev::linux::PacketConfig;
use tidewire_netdev::{Device, MacAddress, Packet, Segmentation, SegmentationKind, Transmitter};

use super::open;
use super::support::exchanges::payload;
use super::support::link::{Kernel, Link, OUR_MAC, pairs, receive};
use super::support::namespace::in_namespace;
use super::support::packets::{self, Fill};

const TIME: Duration = Duration::from_secs(1);

fn frame(mac: MacAddress, port: u16, super_packet: bool) -> Packet {
    let (to, from) = pairs()[0];
    let len = if super_packet { 44 * 1_472 } else { 1_472 };
    let mut packet = packets::udp((from, port), (to, 9), payload(len), Fill::Partial);
    packet.offload.segmentation = super_packet.then_some(Segmentation {
        kind: SegmentationKind::Udp,
        segment_size: 1_472,
        ecn: false,
    });
    packets::frame(&mut packet, mac, OUR_MAC);
    packet
}

/// Sends without end, 64 frames at a time; gives their number.
fn blast(transmitter: &dyn Transmitter, frame: &Packet, stop: &AtomicBool) -> u64 {
    let mut sent = 0;
    let mut queue = VecDeque::new();
    while !stop.load(Ordering::Relaxed) {
        queue.extend(std::iter::repeat_n(frame, 64 - queue.len()).cloned());
        let before = queue.len();
        match transmitter.try_transmit(&mut queue) {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
        sent += (before - queue.len()) as u64;
    }
    sent
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Sends from another thread and receives on this one; rates of packets sent and received, in thousands a second.
async fn rates(near: &mut Device, far: Device, frame: Packet) -> (f64, f64) {
    let stop = Arc::new(AtomicBool::new(false));
    let started = Instant::now();
    let sender = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || blast(&*far.transmitter, &frame, &stop)
    });
    let mut received = 0;
    while started.elapsed() < TIME {
        let batch = receive(&mut *near.receiver, 64).await.expect("received");
        received += batch.len() as u64;
    }
    stop.store(true, Ordering::Relaxed);
    let sent = sender.join().expect("no panic");
    let seconds = started.elapsed().as_secs_f64();
    (sent as f64 / seconds / 1e3, received as f64 / seconds / 1e3)
}

#[test]
#[ignore = "a measurement, by hand"]
fn measure_receiving() {
    in_namespace(|| async {
        for super_packet in [false, true] {
            for ring in [false, true] {
                let (mut sent, mut received) = (Vec::new(), Vec::new());
                for _ in 0..3 {
                    let kernel = Kernel::new();
                    kernel.add_veth("near", "far").await;
                    let mut near = open(PacketConfig {
                        ring,
                        ..PacketConfig::new("near")
                    });
                    let far = open(PacketConfig::new("far"));
                    let mac = near.hardware_address.expect("the interface's");
                    let frame = frame(mac, 7, super_packet);
                    let rate = rates(&mut near, far, frame).await;
                    sent.push(rate.0);
                    received.push(rate.1);
                    kernel.remove("near").await;
                }
                let octets = if super_packet {
                    44.0 * 1_472.0
                } else {
                    1_472.0
                };
                let (sent, received) = (median(sent), median(received));
                println!(
                    "super-packets {super_packet}, ring {ring}: sent {sent:.0} k/s, received {received:.0} k/s, \
                     {:.2} GB/s",
                    received * octets / 1e6
                );
            }
        }
    });
}

#[test]
#[ignore = "a measurement, by hand"]
fn measure_sending() {
    in_namespace(|| async {
        for super_packet in [false, true] {
            let mut rates = Vec::new();
            for _ in 0..3 {
                let kernel = Kernel::new();
                kernel.add_veth("near", "far").await;
                let near = open(PacketConfig::new("near"));
                // Nobody's address: the kernel drops the frames at once.
                let frame = frame(MacAddress([2, 0, 0, 0, 0, 1]), 7, super_packet);
                let stop = AtomicBool::new(false);
                let sent = std::thread::scope(|scope| {
                    let sender = scope.spawn(|| blast(&*near.transmitter, &frame, &stop));
                    std::thread::sleep(TIME);
                    stop.store(true, Ordering::Relaxed);
                    sender.join().expect("no panic")
                });
                rates.push(sent as f64 / TIME.as_secs_f64() / 1e3);
                kernel.remove("near").await;
            }
            let octets = if super_packet {
                44.0 * 1_472.0
            } else {
                1_472.0
            };
            let rate = median(rates);
            println!(
                "super-packets {super_packet}: sent {rate:.0} k/s, {:.2} GB/s",
                rate * octets / 1e6
            );
        }
    });
}

#[test]
#[ignore = "a measurement, by hand"]
fn measure_answers() {
    in_namespace(|| async {
        for ring in [false, true] {
            let mut times = Vec::new();
            Kernel::new().add_veth("near", "far").await;
            let mut link = Link::new(
                open(PacketConfig {
                    ring,
                    ..PacketConfig::new("near")
                }),
                "far",
            )
            .await;
            for _ in 0..500 {
                let started = Instant::now();
                super::exchanges::ping(&mut link, pairs()[0], b"tide").await;
                times.push(started.elapsed().as_secs_f64() * 1e6);
            }
            println!("ring {ring}: an echo takes {:.0} us", median(times));
            link.kernel.remove("near").await;
        }
    });
}
