//! Queues that are full: below us, at the socket, and our own.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::time::{Duration, Instant};

use tidewire_netdev::Packet;
use tidewire_netdev::linux::{InterfaceCounters, PacketConfig, PacketSocket};
use tokio::net::UdpSocket;

use super::support::exchanges::payload;
use super::support::link::{Kernel, Link, OUR_MAC, is_hindered, pairs};
use super::support::namespace::{in_namespace, in_namespace_with};
use super::support::packets::{self, Fill};
use super::{drain, open};

/// A link whose near end sends no faster than a token bucket of `tc` lets it.
async fn slow_link(config: PacketConfig, bucket: &str) -> (Link, InterfaceCounters) {
    Kernel::new().add_veth("near", "far").await;
    let arguments = format!("qdisc add dev near root tbf {bucket}");
    let output = std::process::Command::new("tc")
        .args(arguments.split(' '))
        .output()
        .expect("tc runs");
    assert!(output.status.success(), "tc {arguments}: {output:?}");
    let socket = PacketSocket::open(config).expect("opened");
    let counters = socket.counters();
    let device = socket.into_device().expect("registered");
    (Link::new(device, "far").await, counters)
}

fn numbered(number: u32, len: usize) -> Packet {
    let (kernel, ours) = pairs()[0];
    let mut octets = payload(len).to_vec();
    octets[..4].copy_from_slice(&number.to_be_bytes());
    packets::udp((ours, 7), (kernel, 9), octets.into(), Fill::Complete)
}

/// Sends as a driver does; gives the number of tries.
async fn transmit_all(link: &Link, queue: &mut VecDeque<Packet>) -> u32 {
    let mut tries = 0;
    loop {
        tries += 1;
        match link.transmitter.try_transmit(queue) {
            Ok(()) => return tries,
            Err(error) => assert!(is_hindered(&error), "{error}"),
        }
        poll_fn(|cx| link.transmitter.poll_transmit_ready(cx))
            .await
            .expect("no end");
    }
}

/// Five hundred datagrams through a link of 40 Mbit/s: 140 ms. None is lost, and nobody spins.
async fn assert_all_arrive(link: &Link) {
    const COUNT: u32 = 500;
    let socket = UdpSocket::bind((pairs()[0].0, 9)).await.expect("bound");
    let mut queue: VecDeque<_> = (0..COUNT)
        .map(|number| link.framed(numbered(number, 1_400)))
        .collect();
    let reader = async {
        let mut buffer = [0; 2_000];
        for number in 0..COUNT {
            let len = socket.recv(&mut buffer).await.expect("received");
            assert_eq!((len, &buffer[..4]), (1_400, &number.to_be_bytes()[..]));
        }
    };
    let (tries, ()) = tokio::join!(transmit_all(link, &mut queue), reader);
    assert!(tries < 600, "{tries} tries in 140 ms");
}

#[test]
fn a_full_socket_buffer_is_back_pressure() {
    in_namespace_with("tc", || async {
        for is_down_before in [false, true] {
            let config = PacketConfig {
                send_buffer: 32 << 10,
                ..PacketConfig::new("near")
            };
            let (link, counters) = slow_link(config, "rate 40mbit burst 20kb limit 10mb").await;
            if is_down_before {
                // tokio takes the error for the end of writing and says "writable" from then on.
                link.set_up(false).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
                link.set_up(true).await;
            }
            assert_all_arrive(&link).await;
            let counts = counters.snapshot();
            assert!(counts.transmit_full > 1, "{counts:?}");
            assert_eq!((counts.transmit_busy, counts.transmit_refused), (0, 0));
            link.kernel.remove("near").await;
        }
    });
}

#[test]
fn a_full_queue_of_the_interface_is_back_pressure() {
    in_namespace_with("tc", || async {
        let config = PacketConfig::new("near");
        let (link, counters) = slow_link(config, "rate 40mbit burst 20kb limit 30kb").await;
        assert_all_arrive(&link).await;
        let counts = counters.snapshot();
        assert!(counts.transmit_busy > 1, "{counts:?}");
        assert_eq!((counts.transmit_full, counts.transmit_refused), (0, 0));
    });
}

#[test]
fn a_packet_that_no_queue_ever_takes_is_given_up() {
    in_namespace_with("tc", || async {
        let config = PacketConfig::new("near");
        // A bucket of 500 octets never has room for more.
        let (link, counters) = slow_link(config, "rate 40mbit burst 20kb limit 500").await;
        let socket = UdpSocket::bind((pairs()[0].0, 9)).await.expect("bound");
        let mut queue = [(1, 1_400), (2, 100), (3, 1_400), (4, 100)]
            .map(|(number, len)| link.framed(numbered(number, len)))
            .into();
        let started = Instant::now();
        let tries = transmit_all(&link, &mut queue).await;
        let took = started.elapsed();
        assert!(took > Duration::from_millis(450), "{took:?}");
        assert!(tries < 1_000, "{tries} tries in half a second");
        for number in [2u32, 4] {
            let mut buffer = [0; 2_000];
            let len = socket.recv(&mut buffer).await.expect("received");
            assert_eq!((len, &buffer[..4]), (100, &number.to_be_bytes()[..]));
        }
        assert_eq!(counters.snapshot().transmit_refused, 2);
    });
}

#[test]
fn what_is_not_read_in_time_is_dropped_and_counted() {
    in_namespace(|| async {
        for ring in [false, true] {
            let kernel = Kernel::new();
            kernel.add_veth("near", "far").await;
            let config = PacketConfig {
                ring,
                receive_buffer: 2 << 20,
                ..PacketConfig::new("near")
            };
            let socket = PacketSocket::open(config).expect("opened");
            let counters = socket.counters();
            let mut near = socket.into_device().expect("registered");
            let far = open(PacketConfig::new("far"));
            let mac = near.hardware_address.expect("the interface's");
            let flood = |count| {
                let frames = (0..count).map(|number| {
                    let mut frame = numbered(number, 1_400);
                    packets::frame(&mut frame, mac, OUR_MAC);
                    frame
                });
                let mut queue = frames.collect();
                far.transmitter.try_transmit(&mut queue).expect("sent");
            };
            flood(5_000);
            tokio::time::sleep(Duration::from_millis(5)).await;
            let came = drain(&mut near).len() as u64;
            let dropped = counters.snapshot().receive_dropped;
            assert!(came > 50 && dropped > 500, "{came} and {dropped}");
            // Some are the kernel's own noise.
            assert!(
                (5_000..5_020).contains(&(came + dropped)),
                "{came}, {dropped}"
            );
            // And it goes on.
            flood(10);
            tokio::time::sleep(Duration::from_millis(5)).await;
            assert!(drain(&mut near).len() >= 10);
            assert_eq!(counters.snapshot().receive_dropped, dropped);
            kernel.remove("near").await;
        }
    });
}

#[test]
fn what_a_device_sent_before_it_was_dropped_arrives() {
    in_namespace_with("tc", || async {
        let config = PacketConfig::new("near");
        let (link, _) = slow_link(config, "rate 40mbit burst 20kb limit 10mb").await;
        let socket = UdpSocket::bind((pairs()[0].0, 9)).await.expect("bound");
        let mut queue = (0..50)
            .map(|number| link.framed(numbered(number, 1_400)))
            .collect();
        transmit_all(&link, &mut queue).await;
        drop(link);
        let mut buffer = [0; 2_000];
        for number in 0..50u32 {
            socket.recv(&mut buffer).await.expect("received");
            assert_eq!(&buffer[..4], &number.to_be_bytes());
        }
    });
}
